"""Compression and calibration: what they promise, and what they cost."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import explainer
import zoo
from explainer.errors import InvalidInput, Unsupported
from zoo import calibration, compression


@pytest.fixture(scope="module")
def loans():
    return zoo.load("loan-mlp")


def drawn(probabilities, draw):
    return (draw.random((len(probabilities), 1)) < probabilities.cumsum(1)).argmax(1)


def price(one, share):
    pruned = compression.pruned(one.model, share)
    return compression.cost(one.model, pruned, one.data.test, method="integrated_gradients", rows=20)


def matrices(model):
    return [one.weight.detach() for one in model.module.modules() if isinstance(one, torch.nn.Linear)]


def test_pruning_takes_the_smallest_weights_of_all_layers_and_leaves_the_model_given(loans):
    before = [one.clone() for one in matrices(loans.model)]
    made = compression.pruned(loans.model, 0.6)
    assert all(torch.equal(a, b) for a, b in zip(before, matrices(loans.model), strict=True))
    flat, left = torch.cat([one.ravel() for one in before]), torch.cat([one.ravel() for one in matrices(made)])
    assert (left == 0).float().mean() == pytest.approx(0.6, abs=0.001)
    assert flat[left == 0].abs().max() <= flat[left != 0].abs().min()
    assert torch.equal(left[left != 0], flat[left != 0])


def test_structured_pruning_takes_whole_rows_and_spares_the_last_layer(loans):
    made = matrices(compression.pruned(loans.model, 0.25, structured=True))
    own = matrices(loans.model)
    for before, after in zip(own[:-1], made[:-1], strict=True):
        gone = (after == 0).all(1)
        assert int(gone.sum()) == round(0.25 * len(after))
        assert before.norm(dim=1)[gone].max() <= before.norm(dim=1)[~gone].min()
    assert torch.equal(own[-1][:, ~gone], made[-1][:, ~gone])


@pytest.mark.parametrize("name", ["loan-mlp", "breast-mlp"])
def test_units_pruned_by_rows_are_gone_as_if_the_layers_were_built_without_them(name):
    """With and without batch norm: the same outputs from layers cut to the units that are left."""
    one = zoo.load(name)
    made = compression.pruned(one.model, 0.5, structured=True)
    parts, kept = [], None
    for layer in one.model.module.layers:
        layer = copy.deepcopy(layer)
        if isinstance(layer, torch.nn.Linear):
            weight, bias = (layer.weight if kept is None else layer.weight[:, kept]), layer.bias
            if layer.out_features > 2:  # as a rule of its own: the larger half of the rows by their norm in the model given
                kept = layer.weight.norm(dim=1).argsort(descending=True)[: layer.out_features // 2].sort().values
                weight, bias = weight[kept], bias[kept]
            layer.weight, layer.bias = torch.nn.Parameter(weight), torch.nn.Parameter(bias)
        elif isinstance(layer, torch.nn.BatchNorm1d):
            for attribute in ("weight", "bias"):
                setattr(layer, attribute, torch.nn.Parameter(getattr(layer, attribute)[kept]))
            layer.running_mean, layer.running_var = layer.running_mean[kept], layer.running_var[kept]
        parts.append(layer)
    rows = one.data.test.inputs.iloc[:50]
    small = torch.nn.Sequential(*parts).eval()(made.preprocess(rows)).detach().softmax(1).numpy()
    assert np.allclose(made.scores(rows), small, atol=1e-6)
    first, second, _ = matrices(made)
    assert torch.equal((second == 0).all(0), (first == 0).all(1))


def test_a_size_is_what_the_cheapest_file_holds():
    """Beside scipy's compressed sparse rows with their numbers of 4 bytes, and a block cut out by numpy."""
    from scipy.sparse import csr_matrix

    draw = np.random.default_rng(0)
    for share in (0.0, 0.4, 0.6, 0.95):
        matrix = draw.normal(size=(40, 30)).astype(np.float32) * (draw.random((40, 30)) >= share)
        kept = csr_matrix(matrix)
        assert kept.indices.itemsize == kept.indptr.itemsize == 4
        sparse = kept.data.nbytes + kept.indices.nbytes + kept.indptr.nbytes
        assert compression._stored(torch.from_numpy(matrix)) == min(matrix.nbytes, sparse)
    halved = draw.normal(size=(40, 30)).astype(np.float32)
    halved[10:30] = 0
    halved[:, :5] = 0
    assert compression._stored(torch.from_numpy(halved)) == np.delete(halved[:, 5:], np.s_[10:30], axis=0).nbytes + 4 * (20 + 25)
    assert compression._stored(torch.ones(40, 30, dtype=torch.int8)) == 1200
    assert compression._stored(torch.ones(())) == 4


def test_the_share_pruned_is_of_the_linear_layers_and_the_share_of_all_is_said():
    one = zoo.load("licence-transformer")
    found = compression.zeros(compression.pruned(one.model, 0.9))
    parameters = dict(one.model.module.named_parameters())
    linear = sum(p.numel() for n, p in parameters.items() if p.ndim > 1 and n not in ("tokens.weight", "positions.weight"))
    everything = sum(p.numel() for p in parameters.values())
    assert found == pytest.approx(0.9 * linear / everything, abs=0.002)
    assert found < 0.25


def test_eight_bits_are_within_half_a_step_and_a_quarter_of_the_size(loans):
    made = compression.quantised(loans.model)
    for before, after in zip(matrices(loans.model), matrices(made), strict=True):
        step = before.abs().amax(1, keepdim=True) / 127
        assert ((before - after).abs() <= step / 2 + 1e-7).all()
    kinds = {one.dtype for name, one in made.module.state_dict().items() if "original0" in name}
    assert kinds == {torch.int8}
    assert compression.size(made) < 0.35 * compression.size(loans.model)
    inputs = loans.data.test.inputs.iloc[:3]
    assert np.isfinite(explainer.explain(made, inputs, method="integrated_gradients", progress=False)[0].values).all()


def test_whole_products_are_near_the_float_ones_and_have_no_gradient(loans):
    from zoo.int8 import Products

    torch.manual_seed(0)
    layer = torch.nn.Linear(64, 20)
    rows = torch.randn(7, 3, 64)
    exact, made = layer(rows).detach(), Products(layer)(rows)
    assert made.shape == exact.shape
    assert float((made - exact).abs().max()) < 0.02 * float(exact.abs().max())
    assert not torch.equal(made, exact)
    assert Products(layer)(rows[0, :1]).shape == (1, 20)
    quick = compression.quantised(loans.model, products=True)
    test = loans.data.test
    assert np.abs(quick.scores(test.inputs) - loans.model.scores(test.inputs)).max() < 0.05
    assert compression.size(quick) < 0.35 * compression.size(loans.model)
    assert quick.capabilities()["integrated_gradients"].level == "unsupported"
    found = compression.cost(loans.model, quick, test, method="ablation", rows=10)
    assert found.agreement["value"] > 0.8


def test_more_pruning_costs_more_of_the_explanation(loans):
    """The point of it: the figure stays, the reasons do not."""
    mild, harsh = (price(loans, share) for share in (0.3, 0.95))
    same = price(loans, 0.0)
    assert same.agreement["value"] == pytest.approx(1)
    assert same.first == same.same == 1
    assert same.size_after == same.size_before
    assert harsh.agreement["high"] < mild.agreement["low"]
    assert harsh.size_after < mild.size_after == mild.size_before  # three in ten gone: numbers of columns would cost more
    assert harsh.zeros > mild.zeros > same.zeros
    assert "explanations agree by rank" in str(harsh)


def test_what_cannot_be_compressed_is_said(loans):
    with pytest.raises(InvalidInput, match=r"below 1; 1\.2 came"):
        compression.pruned(loans.model, 1.2)
    with pytest.raises(Unsupported, match="breast-forest is no PyTorch model"):
        compression.pruned(zoo.load("breast-forest").model, 0.5)
    with pytest.raises(Unsupported, match="no linear layer"):
        compression.quantised(zoo.load("planted-linear").model)


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_the_temperature_a_model_is_off_by_is_found(true):
    draw = np.random.default_rng(0)
    logits = draw.normal(0, 2, size=(20_000, 4))
    probabilities = calibration.scaled(logits, 1.0)
    labels = drawn(probabilities, draw)
    assert calibration.temperature(true * logits, labels) == pytest.approx(true, rel=0.05)


def test_rows_that_are_all_right_do_not_make_a_model_certain():
    """Labels that the largest logit always tells: the likelihood alone would ask for T = 0, and one wrong new row would cost it all."""
    logits = np.random.default_rng(0).normal(0, 2, size=(50, 4))
    t = calibration.temperature(logits, logits.argmax(1))
    assert t > 0.1
    assert calibration.scaled(logits, t).max(1).mean() < 0.995


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.05, 0.1, 0.3]))
def test_sets_hold_the_right_class_as_often_as_promised(seed, miss):
    """Mean over many draws of held-out and new rows: at least 1 - miss, and not far above it (Vovk et al. 2005)."""
    draw = np.random.default_rng(seed)
    covered = []  # each with a standard deviation of at most .047, so their mean with .003: the bounds are five of these away
    for _ in range(240):
        logits = draw.normal(size=(400, 5))
        probabilities = calibration.scaled(logits, 0.7)  # not calibrated, which does not matter
        labels = drawn(calibration.scaled(logits, 1.0), draw)
        threshold = calibration.conformal_threshold(probabilities[:200], labels[:200], miss)
        sets = calibration.conformal_sets(probabilities[200:], threshold)
        covered.append(sets[np.arange(200), labels[200:]].mean())
    assert 1 - miss - 0.015 < np.mean(covered) < 1 - miss + 0.03


@pytest.mark.parametrize("miss", [0.1, 0.2, 0.34])
def test_ties_keep_the_promise_in_every_order_of_the_rows(miss):
    """Of ten exchangeable rows each is as likely to be the new one: over all ten, at least 1 - miss of sets hold the label."""
    for values in itertools.combinations_with_replacement((0.1, 0.3, 0.7), 10):
        own = np.array(values)
        probabilities = np.stack([own, 1 - own], axis=1)
        held = []
        for new in range(10):
            rest = np.arange(10) != new
            threshold = calibration.conformal_threshold(probabilities[rest], np.zeros(9), miss)
            assert threshold in own
            held.append(calibration.conformal_sets(probabilities[[new]], threshold)[0, 0])
        assert np.mean(held) >= 1 - miss, values


def test_a_model_that_says_the_same_of_every_row_still_keeps_its_promise():
    probabilities = np.tile([0.3, 0.3, 0.4], (300, 1))
    labels = np.arange(300) % 3
    threshold = calibration.conformal_threshold(probabilities, labels, 0.1)
    assert calibration.conformal_sets(probabilities, threshold)[np.arange(300), labels].mean() >= 0.9


@pytest.mark.parametrize("miss", [0.01, 0.025, 0.05, 0.07, 0.1, 1 / 3, 0.5, 0.9])
def test_as_few_rows_as_are_asked_for_are_enough(miss):
    least = int(np.ceil(1 / miss)) - 1
    scores = np.full((max(least, 1), 2), 0.5)
    assert calibration.conformal_threshold(scores, np.zeros(len(scores)), miss) == 0.5
    if least > 1:
        with pytest.raises(InvalidInput, match=f"at least {least} are needed"):
            calibration.conformal_threshold(scores[1:], np.zeros(least - 1), miss)


@pytest.mark.parametrize("strange", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_are_refused(strange):
    scores = np.full((20, 2), 0.5)
    scores[3, 1] = strange
    calls = (
        lambda: calibration.temperature(scores, np.zeros(20)),
        lambda: calibration.scaled(scores, 1.0),
        lambda: calibration.conformal_threshold(scores, np.zeros(20)),
        lambda: calibration.conformal_sets(scores, 0.5),
    )
    for call in calls:
        with pytest.raises(InvalidInput, match="must be finite; NaN or infinity came in 1 of 20 rows"):
            call()


def test_a_promise_that_so_few_rows_cannot_keep_is_refused():
    with pytest.raises(InvalidInput, match="5 rows cannot promise to miss no more than 0.1; at least 9 are needed"):
        calibration.conformal_threshold(np.full((5, 2), 0.5), np.zeros(5), 0.1)
    with pytest.raises(InvalidInput, match="0 to 1; 0 to 3 came"):
        calibration.temperature(np.zeros((4, 2)), np.arange(4))
