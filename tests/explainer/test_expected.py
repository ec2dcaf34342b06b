"""Expected gradients against closed forms, slow quadrature, shap and captum; intervals, budgets, references."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch_gallery as gallery
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import explainer
from explainer import features
from explainer.coalitions import Budget, Coalitions
from explainer.errors import Cancelled, InvalidInput, Unsupported
from explainer.methods.expected import control, points
from explainer.methods.shapley import shap as shapley_values
from explainer.target import resolve


class Formula(nn.Module):
    """A function of the columns, with one parameter so that it has a device."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function, self.unit = function, nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return (self.function(x) * self.unit)[:, None]


def regression(module: nn.Module, background: pd.DataFrame | None = None, columns: int = 5, **names: Any) -> explainer.Model:
    return explainer.wrap(
        module, modality="tabular", task="regression", class_names=["value"], feature_names=[f"f{i}" for i in range(columns)],
        background=gallery.table(20, columns, seed=1) if background is None else background, **names,
    )  # fmt: skip


def slow(function: Any, x: np.ndarray, background: np.ndarray, steps: int = 4000) -> np.ndarray:
    """The definition, by the midpoint rule in float64, one background row at a time."""
    alphas = torch.from_numpy((np.arange(steps) + 0.5) / steps)[:, None]
    total = np.zeros(len(x))
    for b in background.astype(np.float64):
        way = torch.from_numpy(x.astype(np.float64) - b)
        point = (torch.from_numpy(b) + alphas * way).requires_grad_()
        (gradient,) = torch.autograd.grad(function(point).sum(), point)
        total += (way * gradient.mean(0)).numpy()
    return total / len(background)


# -- closed forms --------------------------------------------------------------------------------------------------------


def test_a_linear_function_is_exact_with_error_zero() -> None:
    torch.manual_seed(1)
    layer, background, rows = nn.Linear(5, 1), gallery.table(20, seed=1), gallery.table()
    ex = explainer.explain(regression(layer, background), rows, "expected_gradients", verify=False)
    wanted = layer.weight.detach().numpy()[0] * (rows.to_numpy() - background.to_numpy().mean(0))
    np.testing.assert_allclose(ex.values, wanted, atol=1e-6)
    assert ex.stderr is not None and ex.stderr.max() < 1e-6


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 30))
def test_a_quadratic_function_is_exact_whatever_is_drawn(seed: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(4, 4))
    matrix = (matrix + matrix.T) / 2
    background = pd.DataFrame(rng.normal(size=(rows, 4)), columns=[f"f{i}" for i in range(4)])
    x = pd.DataFrame(rng.normal(size=(1, 4)), columns=background.columns)
    weights = torch.from_numpy(matrix)
    model = regression(
        Formula(lambda z: (z @ weights.to(z) * z).sum(1)).double(), background, 4, preprocess=lambda f: torch.tensor(f.to_numpy())
    )
    ex = explainer.explain(model, x, "expected_gradients", seed=seed % 7, verify=False)
    # f(x) - f(b) = (x - b)' M (x + b): the share of column i is (x - b)_i (M (x + b))_i.
    b, point = background.to_numpy(), x.to_numpy()
    wanted = ((point - b) * ((point + b) @ matrix)).mean(0)
    np.testing.assert_allclose(ex.values[0], wanted, atol=1e-9 * max(1, np.abs(wanted).max()))
    assert ex.stderr is not None and ex.stderr.max() < 1e-6


def test_planted_additive_parts_are_found() -> None:
    parts = (torch.sin, torch.exp, torch.square, torch.relu)
    function = lambda x: sum(part(x[:, j]) for j, part in enumerate(parts))  # noqa: E731
    background, rows = gallery.table(20, seed=1), gallery.table()
    ex = explainer.explain(regression(Formula(function), background), rows, "expected_gradients", budget="0.5% error")
    b, x = torch.tensor(background.to_numpy()), torch.tensor(rows.to_numpy())
    for j, part in enumerate(parts):
        wanted = (part(x[:, j]) - part(b[:, j]).mean()).numpy()
        assert (np.abs(ex.values[:, j] - wanted) <= 4 * ex.stderr[:, j] + 1e-5).all()
        np.testing.assert_allclose(ex.values[:, j], wanted, atol=2e-2)
    assert (ex.values[:, 4] == 0).all()


# -- oracles -------------------------------------------------------------------------------------------------------------


def test_intervals_hold_the_slow_definition() -> None:
    module, background, rows = gallery.mlp(outputs=1), gallery.table(12, seed=1), gallery.table(8)
    model = regression(module, background)
    wide = gallery.mlp(outputs=1).double()
    wanted = np.stack([slow(wide, x, background.to_numpy()) for x in rows.to_numpy()])
    inside = []
    for seed in range(12):
        ex = explainer.explain(model, rows, "expected_gradients", seed=seed, budget=8 * 2 * 12, verify=False)
        inside.append(np.abs(ex.values - wanted) <= 1.96 * ex.stderr + 1e-7)
        np.testing.assert_allclose(ex.values, wanted, atol=0.02)
    assert 0.88 < np.mean(inside) <= 1  # 480 values; they share 12 draws, so the share itself varies


def test_agrees_with_shap_and_captum_within_their_sampling_error() -> None:
    import shap
    from captum.attr import GradientShap

    module, background, rows = gallery.mlp(), gallery.table(20, seed=1), gallery.table(4)
    model = gallery.tabular(module, background=background)
    ours = explainer.explain(model, rows, "expected_gradients", target=1, output="logit", verify=False).values
    x, b = torch.tensor(rows.to_numpy()), torch.tensor(background.to_numpy())
    torch.manual_seed(0)
    theirs = GradientShap(module).attribute(x, b, n_samples=4000, stdevs=0.0, target=1).numpy()
    np.testing.assert_allclose(ours, theirs, atol=0.02)
    peer = shap.GradientExplainer(module, b).shap_values(x, nsamples=4000, rseed=0)[..., 1]
    np.testing.assert_allclose(ours, peer, atol=0.02)


def test_texts_equal_integrated_gradients_from_the_same_baseline() -> None:
    model = gallery.text(gallery.seeded(gallery.Encoder, readout="mean"))
    ex = explainer.explain(model, gallery.TEXTS, "expected_gradients", target=1, budget=4000, verify=False)
    other = explainer.explain(model, gallery.TEXTS, "integrated_gradients", target=1, steps=200, verify=False)
    np.testing.assert_allclose(ex.values, other.values, atol=2e-3)
    np.testing.assert_allclose(ex.base_values, other.base_values, atol=1e-6)
    assert ex.provenance.parameters["references"] == "the padding token at every word"


def test_background_pictures_and_series_are_compared_with_one_by_one() -> None:
    pictures = gallery.images(9, seed=4)
    model = explainer.wrap(gallery.convnet(), modality="image", background=pictures)
    ex = explainer.explain(model, gallery.images(2), "expected_gradients", target=0, verify=False)
    assert ex.base_values == pytest.approx(np.full(2, model.scores(pictures)[:, 0].mean()), abs=1e-6)
    series = gallery.series((6, 8, 12), seed=3)
    model = explainer.wrap(gallery.lstm(), modality="series", background=series)
    ex = explainer.explain(model, gallery.series(), "expected_gradients", target=0, verify=False)
    cut = [np.concatenate([one, np.tile(one.mean(0), (9, 1))])[:9] if len(one) < 9 else one[:9] for one in series]
    assert ex.base_values[1] == pytest.approx(model.scores(cut)[:, 0].mean(), abs=1e-6)
    np.testing.assert_allclose(ex.base_values + np.nansum(ex.values, (1, 2)), ex.scores, atol=5e-3)


# -- honesty -------------------------------------------------------------------------------------------------------------


def test_each_replicate_takes_every_reference_once_and_covers_the_way_evenly() -> None:
    for references, pairs in ((5, 10), (7, 7), (1, 8), (9, 4)):
        rows, alphas = points(references, pairs, np.random.default_rng(0))
        counts = np.bincount(rows, minlength=references)
        assert counts.max() - counts.min() <= (2 if pairs % references else 0)
        assert sorted(np.floor(alphas * 2 * pairs)) == list(range(2 * pairs))
        np.testing.assert_allclose(alphas[:pairs] + alphas[pairs:], 1)


def test_the_budget_is_kept_and_a_larger_one_helps() -> None:
    model, rows = gallery.tabular(gallery.mlp(), background=gallery.table(20, seed=1)), gallery.table(3)
    few, many = (explainer.explain(model, rows, "expected_gradients", budget=b, verify=False) for b in (64, "0.2% error"))
    assert few.provenance.evaluations <= 3 * 64 + 20 + 3 and many.provenance.evaluations > 3 * 1000
    assert many.stderr.max() < few.stderr.max() / 3
    assert "used up for 3 of 3" in few.provenance.notes[0]
    timed = explainer.explain(model, rows, "expected_gradients", budget="0.001s", verify=False)
    assert np.isfinite(timed.values).all() and timed.provenance.evaluations < few.provenance.evaluations * 40
    sharp = explainer.explain(model, rows, "expected_gradients", budget="1% error", verify=False)
    assert (1.96 * sharp.stderr.max(1) <= 0.01 * np.abs(sharp.values).max(1)).all()


def test_the_verdict_checks_completeness_and_the_error() -> None:
    model, rows = gallery.tabular(gallery.mlp(), background=gallery.table(20, seed=1)), gallery.table(3)
    good = explainer.explain(model, rows, "expected_gradients").verdicts[0].checks
    assert good["completeness"].status == good["sampling error"].status == "pass"
    poor = explainer.explain(model, rows, "expected_gradients", budget=4)
    assert any(v.checks["sampling error"].status != "pass" for v in poor.verdicts)


def test_a_score_that_moves_where_its_gradient_is_zero_is_not_smeared_over_the_parts() -> None:
    def steps(x: Tensor) -> Tensor:
        return x[:, 0] + 3 * torch.floor(x[:, 1])

    ex = explainer.explain(regression(Formula(steps)), gallery.table(), "expected_gradients")
    assert (ex.values[:, 1] == 0).all()
    assert "more than chance" in ex.provenance.notes[0]
    assert any(v.checks["completeness"].status == "fail" for v in ex.verdicts)


def test_a_cancelled_run_leaves_the_module_as_it_was() -> None:
    module = gallery.mlp().train()

    def stop(done: int, total: int) -> None:
        raise Cancelled("enough")

    with pytest.raises(Cancelled):
        explainer.explain(
            gallery.tabular(module, background=gallery.table(20, seed=1)), gallery.table(), "expected_gradients", progress=stop
        )
    assert all(m.training for m in module.modules()) and all(p.grad is None for p in module.parameters())


def test_what_does_not_fit_is_refused() -> None:
    model = explainer.wrap(gallery.convnet(), modality="image", background=gallery.images(3, size=9))
    with pytest.raises(InvalidInput, match=r"background has shape \(1, 9, 9\)"):
        explainer.explain(model, gallery.images(2), "expected_gradients")
    blind = explainer.wrap(
        lambda f: f.to_numpy()[:, :2], modality="tabular", returns="logit", class_names=["a", "b"], background=gallery.table()
    )
    with pytest.raises(Unsupported, match="no gradients"):
        explainer.explain(blind, gallery.table(), "expected_gradients")


# -- as a control for sampled Shapley values -----------------------------------------------------------------------------


def controlled(model: explainer.Model, inputs: Any, **cut: Any) -> tuple[Any, features.Features, Any, list[np.ndarray] | None]:
    rows = model.canonical(inputs)
    goal = resolve("all", model.scores(rows, "logit"), model.class_names)
    parts = features.build(model, rows, **cut)
    return rows, parts, goal, control(model, rows, goal, output="logit", features=parts)


def test_controls_are_on_the_parts_of_the_game_and_explain_its_difference() -> None:
    table = gallery.tabular(gallery.mlp(), background=gallery.table(20, seed=1))
    image = explainer.wrap(gallery.convnet(), modality="image")
    series = explainer.wrap(gallery.lstm(), modality="series")
    halves = np.repeat([[0, 1]], 8, 0).repeat(4, 1)
    cases = ((table, gallery.table(3), {"features": {"g": ["f0", "f3"]}}), (image, gallery.images(2), {"features": halves}))
    for model, inputs, cut in (*cases, (series, gallery.series(), {})):
        rows, parts, goal, found = controlled(model, inputs, **cut)
        assert found is not None
        engine = Coalitions(model, rows, parts, goal, "logit")
        for i, values in enumerate(found):
            assert values.shape == (parts.players(i), goal.k)
            ends = engine(i, np.array([[False] * parts.players(i), [True] * parts.players(i)]))
            np.testing.assert_allclose(values.sum(0), ends[1] - ends[0], atol=0.05)


def test_there_is_no_control_without_gradients_or_for_words_that_are_taken_out() -> None:
    assert controlled(gallery.text(gallery.seeded(gallery.Encoder)), gallery.TEXTS)[3] is None
    blind = explainer.wrap(
        lambda f: f.to_numpy()[:, :2], modality="tabular", returns="logit", class_names=["a", "b"], background=gallery.table()
    )
    assert controlled(blind, gallery.table())[3] is None


def test_a_control_helps_where_the_budget_is_small_for_the_number_of_parts() -> None:
    module, background, rows = gallery.mlp(columns=40, outputs=1), gallery.table(6, 40, seed=1), gallery.table(3, 40)
    model = regression(module, background, 40)
    given, parts, goal, known = controlled(model, rows)

    def error(budget: int, **options: Any) -> float:
        engine = Coalitions(model, given, parts, goal, "raw", budget=Budget(budget))
        options = {"seed": 0, "algorithm": "gaussian", "relevance": False, **options}
        found = shapley_values(model, given, goal, coalitions=engine, output="raw", **options)
        return float(np.median(np.linalg.norm(np.stack(found.values) - truth, axis=1) / np.linalg.norm(truth, axis=1)))

    truth = np.zeros((3, 40, 1))
    engine = Coalitions(model, given, parts, goal, "raw", budget=Budget(8000))
    exact = shapley_values(model, given, goal, coalitions=engine, output="raw", seed=9, algorithm="gaussian")
    truth = np.stack(exact.values)
    assert error(64, control=known) < 0.6 * error(64, control=None)
    assert error(64) < 0.7 * error(64, control=None)  # which is taken by itself where the budget is small
    assert error(120) == error(120, control=None)
