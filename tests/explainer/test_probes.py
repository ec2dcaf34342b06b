"""Probes and concepts: planted features and concepts are found, random ones are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch_gallery as gallery
from scipy.stats import false_discovery_control, ttest_ind
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

import explainer
from explainer.errors import InvalidInput, UnknownName, Unsupported
from explainer.inspection.concepts import Concepts, concepts, corrected
from explainer.inspection.probes import Probing, probe


class Forgets(nn.Module):
    """Five columns come in, the first two go on; the rest is lost behind the first layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.all, self.two, self.head = nn.Linear(5, 12), nn.Linear(12, 2, bias=False), nn.Linear(2, 3)
        with torch.no_grad():
            inverse = torch.linalg.pinv(self.all.weight)
            self.two.weight.copy_(inverse[:2])

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.two(self.all(x)))


def test_a_planted_feature_is_read_where_it_is_and_not_where_it_is_lost():
    model = gallery.tabular(Forgets().eval())
    rows = gallery.table(150, seed=2)
    kept = probe(model, rows, np.where(rows["f0"] > 0, "high", "low"), controls=4)
    lost = probe(model, rows, np.where(rows["f4"] > 0, "high", "low"), controls=4)
    noise = probe(model, rows, np.random.default_rng(0).integers(0, 2, 150), controls=4)
    assert kept.layers == ("all", "two", "head") and kept.found[:2].all() and (kept.values[:2] > 0.9).all()
    assert lost.found[0] and not lost.found[1] and lost.values[1] < 0.65
    assert not noise.found.any() and np.abs(noise.selectivity).max() < 0.2
    assert (np.abs(kept.control.mean(1) - 0.5) < 0.1).all() and kept.labels == ("high", "low")


def test_accuracy_is_scikit_learns_on_the_same_activations():
    net = gallery.mlp()
    rows, model = gallery.table(80, seed=4), gallery.tabular(net)
    y = (rows["f1"] * rows["f2"] > 0).to_numpy().astype(int)
    with torch.no_grad():
        hidden = net[:2](torch.tensor(rows.to_numpy())).double().numpy()
    line = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    theirs = cross_val_score(line, hidden, y, cv=StratifiedKFold(5, shuffle=True, random_state=3))
    ours = probe(model, rows, y, "1", controls=2, seed=3)
    assert ours.values[0] == pytest.approx(np.average(theirs, weights=[16] * 5), abs=1e-9)
    assert ours.low[0] < ours.values[0] < ours.high[0]


def test_a_probe_that_learns_types_by_heart_shows_in_its_control():
    """Ten kinds of row, far apart: any labels of kinds can be read, so reading these says nothing."""
    kinds = np.random.default_rng(0).integers(0, 10, 200)
    rows = 3 * np.random.default_rng(1).normal(size=(10, 5))[kinds] + 0.01 * np.random.default_rng(2).normal(size=(200, 5))
    model = gallery.tabular(gallery.mlp())
    y = np.isin(kinds, [0, 3, 4, 8]).astype(int)
    by_heart = probe(model, rows.astype(np.float32), y, "1", types=kinds)
    by_row = probe(model, rows.astype(np.float32), y, "1")
    assert by_heart.control.mean() > 0.85 and by_row.control.mean() < 0.6
    assert not by_heart.found[0] and by_row.found[0]


def test_numbers_are_read_by_ridge_regression():
    rows = gallery.table(120, seed=2)
    model = gallery.tabular(Forgets().eval())
    found = probe(model, rows, 2 * rows["f0"] - rows["f1"], controls=3)
    assert found.metric == "r2" and found.values[1] > 0.99 and found.control.max() < 0.2 and found.found[1]
    assert probe(model, rows, rows["f3"], "two", controls=3).values[0] < 0.2


def test_probing_padded_text_and_its_misuse(tmp_path):
    texts = [f"{'granted' if i % 2 else 'sold'} {'free ' * (i % 7)}of charge" for i in range(40)]
    model = gallery.text(gallery.seeded(gallery.Encoder), class_names=list("abc"))
    done: list[Any] = []
    found = probe(model, texts, [i % 2 for i in range(40)], ["token", "head"], controls=2, progress=lambda *now: done.append(now))
    assert found.values[0] > 0.9 and done[-1] == (2, 2)
    back = Probing.load(found.save(tmp_path / "probe.json"))
    np.testing.assert_array_equal(back.values, found.values)
    assert back.provenance == found.provenance and back.to_frame().equals(found.to_frame())
    for words, labels, more in (
        ("one label per row", [0, 1], {}), ("at least 2 classes", [0] * 40, {}), ("NaN", [np.nan] * 40, {}),
        ("pool", [0, 1] * 20, {"pool": "middle"}), ("controls", [0, 1] * 20, {"controls": 0}), ("types", [0, 1] * 20, {"types": [1]}),
    ):  # fmt: skip
        with pytest.raises(InvalidInput, match=words):
            probe(model, texts, labels, **more)
    with pytest.raises(UnknownName, match="Did you mean 'token'"):
        probe(model, texts, [0, 1] * 20, "tokne")


class Stripes(nn.Module):
    """Class "striped" follows horizontal stripes, class "light" the mean; the score of each bends, so that gradients differ."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv = nn.Conv2d(1, 3, (2, 1), bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([[1.0, -1.0], [0.5, 0.5], [0.3, 0.2]]).view(3, 1, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        a = self.conv(x)
        return torch.stack([(a[:, 0] ** 2).mean((1, 2)), torch.sin(a[:, 1]).mean((1, 2)), 0.1 * a[:, 2].mean((1, 2))], 1)


def pictures(n: int, seed: int, striped: bool = False) -> np.ndarray:
    made = np.random.default_rng(seed).random((n, 6, 6)).astype(np.float32)
    if striped:
        made[:, ::2] = 0.3 * made[:, ::2] + 0.7
        made[:, 1::2] *= 0.3
    return made


@pytest.fixture(scope="module")
def striped() -> Any:
    return explainer.wrap(Stripes().eval(), modality="image", class_names=["striped", "light", "other"])


def test_a_planted_concept_is_significant_and_a_random_one_is_not(striped):
    shown = {"stripes": pictures(24, 1, True), "nothing": pictures(24, 2)}
    inputs = pictures(20, 3, True)
    found = concepts(striped, inputs, shown, pictures(120, 4), layers="conv", target="striped")
    assert found.significant.tolist() == [[True, False]] and found.values[0, 0] > 0.95 and found.known.tolist() == [[True, False]]
    assert "speaks for striped" in found.said(0, 0) and found.said(0, 1).startswith("not significant: 'nothing' cannot be told")
    frame = found.to_frame().set_index("concept")
    assert frame.loc["stripes", "significant"] and frame.loc["stripes", "accuracy"] > 0.9 and frame.loc["nothing", "p"] <= 1


def test_random_concepts_are_hardly_ever_significant(striped):
    """Six concepts that are no concept: the t-test alone would let one of them pass."""
    shown = {f"set {seed}": pictures(20, 50 + seed) for seed in range(6)}
    found = concepts(striped, pictures(16, 3, True), shown, pictures(100, 4), layers="conv", target="light", runs=20)
    assert not found.significant.any() and (found.p < 0.05).any()


def test_a_concept_against_a_class_is_said_to_be_so(striped):
    dark, light = pictures(24, 5) * 0.4, pictures(24, 5) * 0.4 + 0.6
    found = concepts(striped, pictures(20, 6), {"dark": dark, "light": light}, pictures(80, 7), layers="conv", target="light", runs=8)
    assert "speaks against light" in found.said(0, 0) and "speaks for light" in found.said(0, 1)


def test_slopes_are_the_gradients_and_tests_are_scipys(striped):
    from explainer.adapters.layers import Layers
    from explainer.inspection.concepts import _direction, _slopes, _welch
    from explainer.target import resolve

    inputs = pictures(5, 8)
    goal = resolve(0, np.zeros((1, 3)), striped.class_names)
    slopes = _slopes(Layers(striped, inputs), inputs, "conv", goal, "logit", "flat")
    with torch.no_grad():
        a = striped.core.conv(torch.tensor(inputs[:, None]))
    expected = np.zeros((5, *a.shape[2:], 3))
    expected[..., 0] = 2 * a[:, 0].numpy() / (a.shape[2] * a.shape[3])
    np.testing.assert_allclose(slopes, expected.reshape(5, -1), atol=1e-6)
    one, other = np.random.default_rng(0).random(9), np.random.default_rng(1).random(9) + 0.2
    assert _welch(one, other) == pytest.approx(ttest_ind(one, other, equal_var=False).pvalue)
    assert _welch(np.ones(4), np.ones(5)) == 1 and _welch(np.ones(4), np.zeros(5)) == 0
    of, others = pictures(7, 1, True).reshape(7, -1), pictures(7, 2).reshape(7, -1)  # 14 rows of 36 columns
    x = np.concatenate([of, others]).astype(float)
    plain = LogisticRegression(max_iter=200).fit((x - x.mean(0)) / x.std(0).max(), [1] * 7 + [0] * 7).coef_[0]
    np.testing.assert_allclose(_direction(of.astype(float), others.astype(float))[0], plain, atol=2e-3)
    p = np.array([[0.01, 0.04, 0.03], [0.2, 0.5, 0.001]])
    np.testing.assert_allclose(corrected(p, "bh").ravel(), false_discovery_control(p.ravel()))
    np.testing.assert_allclose(corrected(p, "bonferroni"), np.minimum(6 * p, 1))


def test_text_concepts_are_pooled_and_misuse_is_answered(striped, tmp_path):
    texts = [f"{'granted' if i % 2 else 'sold'} {'free ' * (i % 5)}of charge {i}" for i in range(24)]
    model = gallery.text(gallery.seeded(gallery.Encoder), class_names=list("abc"))
    done: list[Any] = []
    found = concepts(model, texts[:6], {"granted": texts[1::2]}, texts, target="b", runs=3, progress=lambda *now: done.append(now))
    assert found.layers == ("encoder",) and done[-1] == (2, 2)
    assert concepts(model, texts[:6], {"granted": texts[1::2]}, texts, target="b", runs=3).p.tolist() == found.p.tolist()
    back = Concepts.load(found.save(tmp_path / "concepts.json"))
    np.testing.assert_array_equal(back.p, found.p)
    assert back.significant.tolist() == found.significant.tolist() and back.provenance == found.provenance
    given = {"inputs": pictures(4, 0), "examples": {"a": pictures(8, 1)}, "random": pictures(20, 2), "target": 0, "layers": "conv"}
    for error, words, wrong in (
        (InvalidInput, "too few", {"examples": {"a": pictures(2, 1)}}), (InvalidInput, "too few", {"random": pictures(6, 1)}),
        (InvalidInput, "examples", {"examples": {}}), (InvalidInput, "target", {"target": None}),
        (UnknownName, "target", {"target": "stripd"}), (InvalidInput, "one score", {"target": "all"}),
        (InvalidInput, "runs", {"runs": 1}), (UnknownName, "bonferroni", {"correction": "bonferoni"}),
        (UnknownName, "Did you mean 'conv'", {"layers": "cov"}),
    ):  # fmt: skip
        with pytest.raises(error, match=words):
            concepts(striped, **{**given, **wrong})
    cut = explainer.wrap(_Cut().eval(), modality="image", class_names=["p", "q"])
    with pytest.raises(Unsupported, match="gradient"):
        concepts(cut, **{**given, "layers": "conv"})


class _Cut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).detach().mean((2, 3))
