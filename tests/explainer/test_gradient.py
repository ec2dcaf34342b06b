"""Saliency and integrated gradients against captum, closed forms and the axioms, on every kind of module."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch_gallery as gallery
from captum.attr import IntegratedGradients
from test_torch_adapter import assert_unchanged, snapshot
from torch import nn

import explainer
from explainer.errors import Cancelled, InvalidInput, Unsupported
from explainer.methods.attribution import Attribution
from explainer.methods.gradient import integrated_gradients, saliency
from explainer.methods.way import kronrod
from explainer.target import Target, resolve


def goal(model: explainer.Model, inputs: Any, target: Any = "predicted", output: str = "probability") -> Target:
    return resolve(target, model.scores(inputs, output), model.class_names)


def run(method: Callable[..., Attribution], model: explainer.Model, inputs: Any, target: Any = "predicted", **options: Any) -> Attribution:
    given = model.canonical(inputs)
    return method(model, given, goal(model, given, target, options.get("output", "probability")), **options)


CASES: dict[str, Callable[[], tuple[explainer.Model, Any]]] = {
    "mlp": lambda: (gallery.tabular(gallery.mlp()), gallery.table()),
    "cnn": lambda: (explainer.wrap(gallery.convnet(), modality="image"), gallery.images()),
    "lstm": lambda: (explainer.wrap(gallery.lstm(), modality="series"), gallery.series()),
    "encoder": lambda: (gallery.text(gallery.seeded(gallery.Encoder)), gallery.TEXTS),
    "fused": lambda: (gallery.text(gallery.seeded(gallery.Fused, causal=True, readout="mean")), gallery.TEXTS),
    "bfloat16": lambda: (gallery.tabular(gallery.mlp().bfloat16()), gallery.table()),
    "frozen": lambda: (gallery.text(gallery.seeded(gallery.Fused).requires_grad_(False)), gallery.TEXTS),
    "dict": lambda: (gallery.tabular(gallery.Container(gallery.mlp(), "dict")), gallery.table()),
    "softmax inside": lambda: (gallery.tabular(gallery.mlp(final=nn.Softmax(1))), gallery.table()),
    "in place": lambda: (gallery.tabular(nn.Sequential(nn.ELU(inplace=True), gallery.mlp())), gallery.table()),
    "compiled": lambda: (gallery.tabular(torch.compile(gallery.mlp(), backend="eager")), gallery.table()),
}


# -- closed forms ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def linear() -> tuple[explainer.Model, np.ndarray, pd.DataFrame]:
    torch.manual_seed(3)
    layer = nn.Linear(5, 1)
    return gallery.tabular(layer, background=gallery.table(40, seed=5)), layer.weight.detach().numpy()[0].astype(float), gallery.table()


def test_saliency_of_a_linear_model_is_its_weights(linear: tuple[explainer.Model, np.ndarray, pd.DataFrame]) -> None:
    model, weights, frame = linear
    for values in run(saliency, model, frame, output="raw").values:
        np.testing.assert_array_equal(values[:, 0], np.abs(weights))
    for values in run(saliency, model, frame, output="raw", absolute=False).values:
        np.testing.assert_array_equal(values[:, 0], weights)


@pytest.mark.parametrize("baseline", ["zeros", "mean", "auto", "row", "rows"])
def test_integrated_gradients_of_a_linear_model_is_weight_times_difference(
    linear: tuple[explainer.Model, np.ndarray, pd.DataFrame], baseline: str
) -> None:
    model, weights, frame = linear
    background = model.background
    middle = np.sort(background.to_numpy(), axis=0)[(len(background) - 1) // 2]
    rows = gallery.table(6, seed=9)
    points = {"zeros": 0.0, "mean": background.to_numpy().mean(0), "auto": middle, "row": rows.to_numpy()[:1], "rows": rows.to_numpy()}
    spec = {"row": rows.iloc[:1], "rows": rows}.get(baseline, baseline)
    found = run(integrated_gradients, model, frame, output="raw", baseline=spec)
    wanted = weights * (frame.to_numpy() - points[baseline])
    np.testing.assert_allclose(np.stack(found.values)[..., 0], wanted, atol=1e-6)
    np.testing.assert_allclose(found.base[:, 0] + wanted.sum(1), model.scores(frame)[:, 0], atol=1e-6)


# -- oracles -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [7, 50])
def test_integrated_gradients_equals_captum_on_tables_images_and_packed_series(steps: int) -> None:
    frame, pictures, series = gallery.table(), gallery.images(), gallery.series()
    padded = torch.nn.utils.rnn.pad_sequence([torch.tensor(one) for one in series], batch_first=True)
    lengths = torch.tensor([len(one) for one in series])
    cases = [
        (gallery.tabular(gallery.mlp()), frame, gallery.mlp(), (torch.tensor(frame.to_numpy()),)),
        (explainer.wrap(gallery.convnet(), modality="image"), pictures, gallery.convnet(), (torch.tensor(pictures)[:, None],)),
        (explainer.wrap(gallery.lstm(), modality="series"), series, gallery.lstm(), (padded, lengths)),
    ]
    for model, inputs, module, (x, *rest) in cases:
        found = run(integrated_gradients, model, inputs, target=1, steps=steps, baseline="zeros")
        peer = IntegratedGradients(lambda *a, module=module: module(*a).softmax(1))
        theirs = peer.attribute(x, torch.zeros_like(x), target=1, additional_forward_args=tuple(rest) or None, n_steps=steps).numpy()
        for i, values in enumerate(found.values):
            expected = theirs[i].sum(0) if model.modality == "image" else theirs[i][: len(values)]
            np.testing.assert_allclose(values[..., 0], expected, atol=1e-6)


def test_integrated_gradients_on_tokens_equals_captum_on_embeddings() -> None:
    module = gallery.seeded(gallery.Fused, readout="mean")
    model = gallery.text(module)
    found = run(integrated_gradients, model, gallery.TEXTS, target=2, steps=20)
    for i, words in enumerate(gallery.TEXTS):
        encoded = gallery.Pieces()([words])
        ids, mask = encoded["ids"], encoded["mask"]
        baseline = torch.where((ids == 1) | (ids == 2), ids, 0)

        def scores(embedded: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            handle = module.token.register_forward_hook(lambda *_: embedded)
            try:
                return module(ids, mask).softmax(1)
            finally:
                handle.remove()

        theirs = IntegratedGradients(scores).attribute(
            module.token(ids).detach(), module.token(baseline).detach(), target=2, additional_forward_args=(ids, mask), n_steps=20
        )
        tokens = theirs.sum(-1)[0].detach().numpy()
        offsets = gallery.Pieces().offsets([words])[0]
        for j, (a, b) in enumerate(found.extras["spans"][i]):
            inside = [k for k, (s, e) in enumerate(offsets) if e > s and a <= s < b]
            assert found.values[i][j, 0] == pytest.approx(tokens[inside].sum(), abs=1e-6)


def test_saliency_equals_a_finite_difference() -> None:
    model, frame = gallery.tabular(gallery.mlp().double()), gallery.table()
    found = run(saliency, model, frame, target=1, absolute=False, output="logit")
    step = 1e-6
    for c in range(5):
        up, down = frame.astype(np.float64), frame.astype(np.float64)
        up.iloc[:, c] += step
        down.iloc[:, c] -= step
        wide = explainer.wrap(
            gallery.mlp().double(), modality="tabular", feature_names=list(frame), preprocess=lambda f: torch.tensor(f.to_numpy())
        )
        slope = (wide.scores(up, "logit")[:, 1] - wide.scores(down, "logit")[:, 1]) / (2 * step)
        np.testing.assert_allclose([v[c, 0] for v in found.values], slope, atol=1e-6)


# -- axioms, for every module and form of target -------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("target", ["predicted", 0, ("margin", 0, 1), "all"])
def test_completeness(case: str, target: Any) -> None:
    model, inputs = CASES[case]()
    given = model.canonical(inputs)
    aim = goal(model, given, target)
    found = integrated_gradients(model, given, aim)
    wanted = np.stack([aim(model.scores(given)[i : i + 1], i)[0] for i in range(len(given))])
    sums = np.stack([v.reshape(-1, aim.k).sum(0) for v in found.values])
    gap = np.abs(found.base + sums - wanted)
    allowed = 0.0101 * np.maximum(np.abs(wanted - found.base), 0.01)
    # Eight bits of mantissa: the scores themselves are good to about 1e-3.
    assert (gap <= (5e-3 if case == "bfloat16" else allowed)).all()
    assert np.abs(sums).max() > 1e-4  # there was something to share


@pytest.mark.parametrize("case", ["mlp", "cnn", "lstm", "encoder"])
@pytest.mark.parametrize("method", [saliency, integrated_gradients])
def test_one_by_one_equals_all_at_once(case: str, method: Callable[..., Attribution]) -> None:
    model, inputs = CASES[case]()
    together = run(method, model, inputs, target=1)
    for i in range(len(inputs)):
        alone = run(method, model, inputs[i : i + 1], target=1)
        np.testing.assert_allclose(alone.values[0], together.values[i], atol=2e-6)


def test_saturated_softmax_still_has_a_gradient() -> None:
    for size, final in ((2000, None), (300, nn.Softmax(1))):
        sure = gallery.mlp()
        with torch.no_grad():
            sure[-1].weight *= size
            scores = torch.softmax(sure(torch.tensor(gallery.table().to_numpy())), 1)
        assert (scores.max(1).values == 1).any()  # float32 has nothing left
        found = run(saliency, gallery.tabular(nn.Sequential(sure, final).eval() if final else sure), gallery.table())
        assert all((v > 0).any() for v in found.values)
        assert not any("exactly 0" in note for note in found.notes)


@pytest.mark.parametrize("functional", [True, False])
def test_a_saturated_sigmoid_inside_the_module_is_differentiated_exactly(functional: bool) -> None:
    class Sure(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.sigmoid = nn.Linear(5, 1), nn.Sigmoid()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(self.layer(x)) if functional else self.sigmoid(self.layer(x))

    torch.manual_seed(0)
    module = Sure()
    with torch.no_grad():
        module.layer.bias.fill_(25.0)
    model = gallery.tabular(module, class_names=["no", "yes"])
    assert (model.raw(gallery.table()) == 1).all()  # float32 has nothing left
    weights = module.layer.weight.detach().numpy()[0].astype(float)
    logits = gallery.table().to_numpy().astype(float) @ weights + 25
    expected = weights * (np.exp(-logits) / (1 + np.exp(-logits)) ** 2)[:, None]
    found = run(saliency, model, gallery.table(), target="yes", absolute=False)
    np.testing.assert_allclose(np.stack(found.values)[..., 0], expected, rtol=1e-4)


def test_a_dead_gradient_is_said_aloud() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        module[0].bias.fill_(-100.0)
    found = run(saliency, gallery.tabular(module), gallery.table())
    assert "exactly 0 everywhere for 6 of 6 inputs" in found.notes[0]


def test_more_steps_go_only_to_the_inputs_that_need_them() -> None:
    class Kinked(nn.Module):
        """Linear for inputs with f1 > 0; otherwise with a kink two thirds along the way from zero."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.where(x[:, 1] > 0, x[:, 0], torch.relu(x[:, 0] - 2) * 10)[:, None]

    frame = pd.DataFrame(np.zeros((2, 5), dtype=np.float32), columns=[f"f{i}" for i in range(5)])
    frame["f0"], frame["f1"] = np.float32(3), np.array([1, -1], dtype=np.float32)
    model = gallery.tabular(Kinked(), background=frame)
    first = run(integrated_gradients, model, frame.iloc[:1], baseline="zeros", tolerance=2e-3)
    both = run(integrated_gradients, model, frame, baseline="zeros", tolerance=2e-3)
    assert first.parameters["steps"] == 15
    assert first.evaluations == 2 + 15
    assert both.parameters["steps"] > 15
    # A look at where the way begins, and the inner nodes of 32, 64, ... steps, of one input only and none of them twice.
    assert both.evaluations - 2 * first.evaluations - 1 == both.parameters["steps"] - 1 in (31, 63, 127, 255, 511)
    np.testing.assert_allclose(both.values[0], first.values[0], atol=1e-6)


@pytest.mark.parametrize("eps", [1e-4, 1e-6, 1e-8])
def test_a_score_that_jumps_where_the_way_begins_is_integrated_there(eps: float) -> None:
    """From a constant baseline layer norms, one after the other, make their whole change within a small part of the way."""
    torch.manual_seed(0)
    first, second = nn.Linear(5, 8, bias=False), nn.Linear(8, 8)
    module = nn.Sequential(nn.LayerNorm(5, eps=eps), first, nn.LayerNorm(8, eps=eps), second, nn.Tanh(), nn.Linear(8, 3))
    frame = gallery.table(3)
    found = run(integrated_gradients, gallery.tabular(module, background=frame), frame, baseline="zeros", output="logit", target=0)
    log = torch.linspace(-50, 0, 50001).double()  # a = exp(u), by the trapezoid rule in u
    wide, x = copy.deepcopy(module).double(), torch.tensor(frame.to_numpy()).double()
    points = (log.exp()[:, None, None] * x).requires_grad_()
    (gradients,) = torch.autograd.grad(wide(points)[..., 0].sum(), points)
    wanted = (torch.trapezoid(gradients * log.exp()[:, None, None], log, dim=0) * x).numpy()
    np.testing.assert_allclose(np.stack(found.values)[..., 0], wanted, atol=0.02 * np.abs(wanted).max())
    assert found.parameters["steps"] <= 512 and found.evaluations <= 3 * 530


def test_the_rule_of_15_nodes_is_of_degree_22_and_its_coarser_one_of_13() -> None:
    rule = kronrod()
    assert rule.coarse is not None and len(rule.nodes) == 15 and (rule.weights > 0).all()
    for weights, degree in ((rule.weights, 22), (rule.coarse, 13)):
        # The mean of a Legendre polynomial is 0, but for the first.
        moments = np.abs(weights @ np.polynomial.legendre.legvander(2 * rule.nodes - 1, degree + 2) - np.eye(degree + 3)[0])
        assert moments[: degree + 1].max() < 1e-12 and moments[degree + 1 :].max() > 1e-4


def relu_networks() -> list[tuple[explainer.Model, pd.DataFrame, np.ndarray]]:
    """Networks full of kinks, inputs, and their values of class 0 from zero on, by 4000 midpoints in float64."""
    found = []
    for seed in range(12):
        torch.manual_seed(seed)
        module = nn.Sequential(nn.Linear(5, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3))
        frame = pd.DataFrame(np.random.default_rng(seed).normal(0, 3, (6, 5)).astype(np.float32), columns=[f"f{j}" for j in range(5)])
        x, wide = torch.tensor(frame.to_numpy()).double(), copy.deepcopy(module).double()
        points = (((torch.arange(4000) + 0.5) / 4000)[:, None, None] * x).requires_grad_()
        (gradients,) = torch.autograd.grad(wide(points).softmax(-1)[..., 0].sum(), points)
        found.append((gallery.tabular(module, background=frame), frame, (gradients.mean(0) * x).detach().numpy()))
    return found


def test_values_that_pass_are_right_one_by_one_and_not_only_in_their_sum() -> None:
    wrong, passed = [], 0
    for model, frame, wanted in relu_networks():
        ex = explainer.explain(model, frame, "integrated_gradients", 0, baseline="zeros")
        error = np.abs(ex.values - wanted).max(1) / np.abs(wanted).max(1)
        checks = [verdict.checks["integration"] for verdict in ex.verdicts]
        right = np.array([check.status == "pass" for check in checks])
        passed += int(right.sum())
        wrong.extend(error[right])
        # The measured change tells the size of the error.
        assert (error <= 5 * np.array([check.value for check in checks]) + 1e-6).all()
    assert passed > 60 and max(wrong) < 0.02


def test_a_smooth_model_needs_no_more_than_15_gradients() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 3))
    ex = explainer.explain(gallery.tabular(module), gallery.table(), "integrated_gradients", 0, baseline="zeros")
    assert ex.provenance.parameters["steps"] == 15 and ex.provenance.parameters["quadrature"] == "Gauss-Kronrod"
    assert all(verdict.checks["integration"].status == "pass" for verdict in ex.verdicts)
    fixed = explainer.explain(gallery.tabular(module), gallery.table(), "integrated_gradients", 0, baseline="zeros", steps=15)
    assert "integration" not in fixed.verdicts[0].checks  # there is nothing that it could be compared with


# -- grouping, baselines, honesty ------------------------------------------------------------------------------------------


def test_one_hot_columns_are_summed_to_the_raw_column_and_the_typical_row_is_the_baseline() -> None:
    colours = ("red", "green", "blue")

    def encode(frame: pd.DataFrame) -> torch.Tensor:
        hot = np.stack([frame["colour"] == c for c in colours], 1)
        return torch.tensor(np.column_stack([frame["size"], hot]).astype(np.float32))

    encode.groups = [0, 1, 1, 1]  # type: ignore[attr-defined]
    torch.manual_seed(0)
    layer = nn.Linear(4, 1)
    background = pd.DataFrame({"size": [1.0, 2.0, 9.0], "colour": ["red", "green", "green"]})
    model = explainer.wrap(layer, modality="tabular", preprocess=encode, background=background, task="regression", class_names=["price"])
    found = run(integrated_gradients, model, pd.DataFrame({"size": [5.0], "colour": ["blue"]}), output="raw")
    weights = layer.weight.detach().numpy()[0]
    np.testing.assert_allclose(found.values[0][:, 0], [weights[0] * 3, weights[3] - weights[2]], atol=1e-6)
    assert found.names[0] == ("size", "colour")


def test_padding_and_special_tokens_get_nothing_and_lose_nothing() -> None:
    model = gallery.text(gallery.seeded(gallery.Encoder, readout="mean"))
    long, short = gallery.TEXTS[2], gallery.TEXTS[3]
    alone = run(integrated_gradients, model, [short], target=0)
    padded = run(integrated_gradients, model, [long, short], target=0)
    np.testing.assert_allclose(padded.values[1], alone.values[0], atol=1e-6)
    assert padded.base[1, 0] + padded.values[1].sum() == pytest.approx(model.scores([short])[0, 0], abs=1e-6)


def test_baselines_of_images_and_series_are_encoded_like_inputs() -> None:
    def standardise(images: np.ndarray) -> torch.Tensor:
        return torch.tensor((images[:, None] - 0.5) / 0.2)

    model = explainer.wrap(gallery.convnet(), modality="image", preprocess=standardise)
    view = model.gradient_view(gallery.images())  # type: ignore[attr-defined]
    assert view.baseline("auto").unique().tolist() == pytest.approx([-2.5])  # black, not grey
    series = gallery.series()
    recurrent = explainer.wrap(gallery.lstm(), modality="series", background=series)
    view = recurrent.gradient_view(series)  # type: ignore[attr-defined]
    mean = np.concatenate(series).mean(0)
    baseline = view.baseline("auto").numpy()
    np.testing.assert_allclose(baseline[0, :5], np.tile(mean, (5, 1)), atol=1e-6)
    assert (baseline[0, 5:] == 0).all()  # padding stays padding
    np.testing.assert_allclose(view.baseline(np.array([1.0, 2.0, 3.0])).numpy()[1, 8], [1, 2, 3])


@pytest.mark.parametrize(
    ("spec", "words"),
    [("grey", "'grey' is not known"), (np.zeros((3, 8, 8)), "3 rows for 4 inputs"), (np.zeros((1, 9, 9)), r"\(1, 9, 9\) once encoded")],
)
def test_a_baseline_that_does_not_fit_is_refused(spec: Any, words: str) -> None:
    model = explainer.wrap(gallery.convnet(), modality="image")
    with pytest.raises(InvalidInput, match=words):
        run(integrated_gradients, model, gallery.images(), baseline=spec)


def test_wrong_steps_are_refused() -> None:
    with pytest.raises(InvalidInput, match="steps=0"):
        run(integrated_gradients, gallery.tabular(gallery.mlp()), gallery.table(), steps=0)


class Cut(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.inner, self.kind = gallery.mlp(), kind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.inner(x.detach() if self.kind == "detach" else x)
        return nn.functional.one_hot(scores.argmax(1), 3).float() if self.kind == "argmax" else scores


@pytest.mark.parametrize("kind", ["detach", "argmax"])
@pytest.mark.parametrize("method", [saliency, integrated_gradients])
def test_a_score_cut_off_from_the_input_is_refused(kind: str, method: Callable[..., Attribution]) -> None:
    with pytest.raises(Unsupported, match=r"cut off|does not depend"):
        run(method, gallery.tabular(Cut(kind)), gallery.table())


def test_models_without_gradients_and_tables_that_enter_by_two_ways_are_refused() -> None:
    blind = explainer.wrap(
        lambda frame: np.ones((len(frame), 2)) / 2, modality="tabular", class_names=["a", "b"], background=gallery.table()
    )
    with pytest.raises(Unsupported, match="torch module"):
        run(saliency, blind, gallery.table())

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kinds, self.head = nn.Embedding(3, 2), nn.Linear(6, 2)

        def forward(self, numbers: torch.Tensor, kind: torch.Tensor) -> torch.Tensor:
            return self.head(torch.cat([numbers, self.kinds(kind)], 1))

    def encode(frame: pd.DataFrame) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.tensor(frame.iloc[:, :4].to_numpy()), torch.zeros(len(frame), dtype=torch.long)

    with pytest.raises(Unsupported, match="several ways"):
        run(saliency, gallery.tabular(Two(), preprocess=encode), gallery.table())


# -- the caller's module -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["mlp", "cnn", "lstm", "encoder"])
@pytest.mark.parametrize("method", [saliency, integrated_gradients])
def test_state_is_restored_and_train_mode_explained_as_eval(case: str, method: Callable[..., Attribution]) -> None:
    model, inputs = CASES[case]()
    expected = run(method, model, inputs, target=0)
    module = model.module.train()  # type: ignore[attr-defined]
    first = next(module.parameters())
    first.grad = torch.full_like(first, 7.0)
    before = snapshot(module)
    copied = copy.deepcopy(inputs)
    found = run(method, model, inputs, target=0)
    assert_unchanged(module, before)
    for mine, wanted in zip(found.values, expected.values, strict=True):
        np.testing.assert_allclose(mine, wanted, atol=1e-6)
    for old, new in zip(copied, inputs, strict=True):
        assert np.array_equal(np.asarray(old), np.asarray(new))

    def stop(_done: int, _total: int) -> None:
        raise Cancelled("enough")

    with pytest.raises(Cancelled):
        run(method, model, inputs, target=0, progress=stop)
    assert_unchanged(module, before)


def test_progress_reaches_its_total_and_the_same_call_gives_the_same_bits() -> None:
    model, inputs = CASES["encoder"]()
    seen: list[tuple[int, int]] = []
    first = run(integrated_gradients, model, inputs, target="all", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (12, 12)
    again = run(integrated_gradients, model, inputs, target="all")
    for a, b in zip(first.values, again.values, strict=True):
        assert np.array_equal(a, b)


def test_memory_running_out_during_the_gradients_changes_nothing_but_the_batch() -> None:
    module = gallery.mlp()
    model, frame = gallery.tabular(module), gallery.table()
    whole = run(integrated_gradients, model, frame, target=0, steps=32)

    def limited(_: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        if len(args[0]) > 20:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    handle = module.register_forward_pre_hook(limited)
    small = run(integrated_gradients, model, frame, target=0, steps=32)
    handle.remove()
    for a, b in zip(small.values, whole.values, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
