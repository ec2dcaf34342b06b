"""Ablation, occlusion and RISE: against captum, against slow loops, against every mask there is, and where the truth is planted."""

from __future__ import annotations

import itertools

import games
import numpy as np
import pytest
import torch
import torch_gallery as gallery
from captum.attr import FeatureAblation, Occlusion

import explainer
from explainer.errors import InvalidInput, Unsupported
from explainer.features.image import patches
from explainer.methods import occlusion, rise

NAMES = list("abcd")


def mlp(columns: int = 30) -> tuple[explainer.Model, torch.nn.Module]:
    module = gallery.mlp(columns=columns)
    return explainer.wrap(module, modality="tabular", background=gallery.table(20, columns, seed=1), class_names=NAMES[:3]), module


def one_square(images: np.ndarray) -> np.ndarray:
    """A model that looks at rows 2 to 4 and columns 5 to 7, and nowhere else."""
    seen = images.reshape(len(images), *images.shape[1:3], -1)[:, 2:5, 5:8].mean((1, 2, 3))
    return np.stack([seen, 1 - seen], axis=1)


def looking(**options) -> explainer.Model:
    return explainer.wrap(one_square, modality="image", class_names=["yes", "no"], **options)


# -- ablation ----------------------------------------------------------------------------------------------------------


def test_ablation_is_captums_feature_ablation():
    model, module = mlp()
    rows, baseline = gallery.table(7, 30), gallery.table(1, 30, seed=5)
    ours = explainer.explain(model, rows, "ablation", 1, baseline=baseline, output="raw", verify=False)
    theirs = FeatureAblation(module).attribute(torch.tensor(rows.to_numpy()), torch.tensor(baseline.to_numpy()), target=1)
    np.testing.assert_allclose(ours.values, theirs.detach().numpy(), atol=1e-5)
    assert np.abs(ours.values).max() > 0.05 and ours.stderr is None


def test_ablation_averages_over_the_background_one_column_at_a_time():
    model, rows = games.regression(games.wavy), games.frame(3, seed=2)
    ex = explainer.explain(model, rows, "ablation", verify=False)
    background = model.background.to_numpy()
    for i, x in enumerate(rows.to_numpy()):
        for j in range(5):
            without = np.tile(x, (len(background), 1))
            without[:, j] = background[:, j]
            assert ex.values[i, j] == pytest.approx(games.wavy(x[None])[0] - games.wavy(without).mean(), abs=1e-12)


def test_ablation_of_words_and_of_groups_of_columns():
    model = explainer.wrap(
        lambda texts: np.array([["not" in t.split(), t.count("good") / 4] for t in texts], dtype=float), modality="text",
        class_names=["negated", "praise"], returns="probability",
    )  # fmt: skip
    ex = explainer.explain(model, ["not good good day"], "ablation", "all", verify=False)
    np.testing.assert_allclose(ex.values[0], [[1, 0], [0, 0.25], [0, 0.25], [0, 0]])
    table = games.regression(lambda x: x[:, 0] * x[:, 1] + x[:, 2], three := ["a", "b", "c"])
    row, zero = games.frame(1, three), games.frame(1, three) * 0
    ex = explainer.explain(table, row, "ablation", features={"pair": ["a", "b"]}, baseline=zero, verify=False)
    a, b, c = row.to_numpy()[0]
    np.testing.assert_allclose(ex.values[0], [a * b, c])


def test_columns_that_equal_the_baseline_cost_nothing_and_get_nothing():
    model, _ = mlp(5)
    row = gallery.table(1)
    baseline = row.copy()
    baseline.iloc[0, 2] = 9.0
    ex = explainer.explain(model, row, "ablation", baseline=baseline, verify=False)
    assert (ex.values[0, [0, 1, 3, 4]] == 0).all() and ex.values[0, 2] != 0
    assert ex.provenance.evaluations == 2


# -- occlusion ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("window", "stride"), [(3, 1), (3, 2), ((2, 4), (2, 3)), (8, 8), (5, 4)])
def test_occlusion_is_captums_on_images(window, stride):
    module = gallery.convnet()
    model = explainer.wrap(module, modality="image", class_names=NAMES)
    images = gallery.images(2)
    ours = explainer.explain(model, images, "occlusion", 2, window=window, stride=stride, output="raw", verify=False)
    pair = lambda size: size if isinstance(size, tuple) else (size, size)  # noqa: E731
    theirs = Occlusion(module).attribute(
        torch.tensor(images[:, None]), (1, *pair(window)), strides=(1, *pair(stride)), baselines=0.0, target=2
    )
    np.testing.assert_allclose(ours.values, theirs[:, 0].detach().numpy(), atol=1e-5)
    assert ours.axes == ("instance", "row", "column")


def test_occlusion_of_colours_is_a_slow_loop():
    rng = np.random.default_rng(0)
    weights, images = rng.normal(size=(6, 7, 3)), rng.random((2, 6, 7, 3)).astype(np.float32)
    model = explainer.wrap(
        lambda x: np.tanh((x * weights).sum((1, 2, 3)))[:, None], modality="image", task="regression", class_names=["value"]
    )
    baseline = np.full((6, 7, 3), 0.5, np.float32)
    ex = explainer.explain(model, images, "occlusion", baseline=baseline, window=(3, 2), stride=(2, 1), verify=False)
    for image, values in zip(images, ex.values, strict=True):
        total, count = np.zeros((6, 7)), np.zeros((6, 7))
        for top in (0, 2, 4):
            for left in range(6):
                hidden = image.copy()
                hidden[top : top + 3, left : left + 2] = 0.5
                total[top : top + 3, left : left + 2] += model.raw(image[None])[0, 0] - model.raw(hidden[None])[0, 0]
                count[top : top + 3, left : left + 2] += 1
        np.testing.assert_allclose(values, total / count, atol=1e-6)


def test_occlusion_of_series_hides_a_stretch_of_one_channel():
    series = gallery.series((9, 6))
    model = explainer.wrap(
        lambda many: np.array([[(one[:, 0] ** 2).sum() + one[2, 1]] for one in many]), modality="series", task="regression",
        class_names=["value"], feature_names=["x", "y", "z"],
    )  # fmt: skip
    ex = explainer.explain(model, series, "occlusion", window=2, stride=2, baseline=np.array([1.0, 0.0, 0.0]), verify=False)
    assert ex.axes[1:] == ("time", "channel") and ex[1].values.shape == (1, 6, 3)
    for i, one in enumerate(series):
        lost = one[:, 0].astype(float) ** 2 - 1
        wanted = [lost[t - t % 2 : t - t % 2 + 2].sum() for t in range(len(one))]
        np.testing.assert_allclose(ex[i].values[0, :, 0], wanted, atol=1e-5)
        np.testing.assert_allclose(ex[i].values[0, :, 1], np.where(np.arange(len(one)) // 2 == 1, one[2, 1], 0), atol=1e-5)
        assert (ex[i].values[0, :, 2] == 0).all()
    assert ex.feature_names[1][4] == "y at step 1"


def test_occlusion_of_words_finds_the_pair_that_ablation_cannot():
    model = explainer.wrap(
        lambda texts: np.array([["nice" in t.split() or "lovely" in t.split()] for t in texts], dtype=float), modality="text",
        task="regression", class_names=["praise"],
    )  # fmt: skip
    text = ["a nice lovely day"]
    assert (explainer.explain(model, text, "ablation", verify=False).values == 0).all()
    np.testing.assert_allclose(explainer.explain(model, text, "occlusion", window=2, verify=False).values[0], [0, 0.5, 0.5, 0])
    assert (explainer.explain(model, text, "occlusion", window=9, verify=False).values == 1).all()


def test_windows_left_to_the_method_fit_the_budget():
    pictures = gallery.images(1, 40)
    free = explainer.explain(looking(), pictures, "occlusion", verify=False).provenance
    tight = explainer.explain(looking(), pictures, "occlusion", budget=60, verify=False).provenance
    assert tight.evaluations <= 60 < free.evaluations <= 2048


@pytest.mark.parametrize("bad", [{"window": 0}, {"window": (2, 2, 2)}, {"window": 2.5}, {"window": 3, "stride": 4}, {"stride": True}])
def test_windows_that_cannot_be_are_refused(bad):
    with pytest.raises(InvalidInput, match="window|stride"):
        explainer.explain(looking(), gallery.images(1), "occlusion", **bad)


def test_occlusion_of_a_table_points_to_ablation():
    with pytest.raises(Unsupported, match=r"tabular.*ablation"):
        explainer.explain(mlp()[0], gallery.table(1, 30), "occlusion")


# -- RISE --------------------------------------------------------------------------------------------------------------


def test_rise_finds_the_square_the_model_looks_at():
    ex = explainer.explain(looking(), np.ones((1, 16, 16), np.float32), "rise", "yes", verify=False)
    values = ex.values[0]
    inside = np.zeros((16, 16), dtype=bool)
    inside[2:5, 5:8] = True
    assert np.unravel_index(values.argmax(), values.shape) in set(zip(*np.nonzero(inside), strict=True))
    assert values[inside].min() > values[9:].max() + 5 * ex.stderr[0].max()
    np.testing.assert_allclose(values[9:] / ex.stderr[0][9:], 0, atol=5)


def test_masks_are_those_of_the_paper():
    """The enlargement against scikit-image's, which the authors use: a grid made one cell larger, and cut out at a shift."""
    from skimage.transform import resize

    grids, shifts = rise._grids((12, 10), 20, 0.5, 4, 0)
    masks = rise._enlarged((12, 10), grids, shifts)
    for grid, (down, right), mask in zip(grids, shifts, masks, strict=True):
        large = resize(grid, (5 * 3, 5 * 3), order=1, mode="edge", anti_aliasing=False)
        np.testing.assert_allclose(mask, large[down : down + 12, right : right + 10], atol=1e-6)
    assert len(np.unique(shifts, axis=0)) > 4 and masks.min() >= 0 and masks.max() <= 1


@pytest.mark.parametrize("centred", [True, False])
def test_rise_meets_the_mean_over_every_grid_and_every_shift(centred):
    def score(x):
        return np.stack([np.sin(3 * x[:, 0, 0]) + x[:, 1, 2] * x[:, 3, 3], x[:, 2, 2] ** 2], axis=1)

    model = explainer.wrap(score, modality="image", task="regression", class_names=["one", "two"])
    picture = np.random.default_rng(3).random((1, 4, 4)).astype(np.float32)
    grids = np.array(list(itertools.product([0.0, 1.0], repeat=4)), dtype=np.float32).reshape(-1, 2, 2)
    pairs = [(g, s) for g in grids for s in itertools.product(range(2), repeat=2)]
    masks = rise._enlarged((4, 4), np.stack([g for g, _ in pairs]), np.array([s for _, s in pairs]))
    f = score(masks * picture)
    weight = 0.3 ** np.array([g.sum() for g, _ in pairs]) * 0.7 ** np.array([4 - g.sum() for g, _ in pairs])
    mean = (weight[:, None] * f).sum(0) / weight.sum()
    shown = np.einsum("m,mhw,mk->hwk", weight, masks, f) / np.einsum("m,mhw->hw", weight, masks)[..., None]
    wanted = shown - mean if centred else shown
    hits = []
    for seed in range(12):
        ex = explainer.explain(model, picture, "rise", "all", cells=2, shown=0.3, centred=centred, budget=1500, seed=seed, verify=False)
        hits.append(np.abs(ex.values[0] - wanted) <= 1.96 * ex.stderr[0] + 1e-12)
    assert 0.85 <= np.mean(hits) <= 0.995


def test_rise_over_parts_meets_the_mean_over_every_subset():
    model, row = games.regression(games.wavy), games.frame(1, seed=4)
    background = model.background.to_numpy()
    masks = np.array(list(itertools.product([False, True], repeat=5)))
    v = np.array([games.wavy(np.where(mask, row.to_numpy(), background)).mean() for mask in masks])
    wanted = np.array([v[masks[:, j]].mean() for j in range(5)]) - v.mean()
    runs = [explainer.explain(model, row, "rise", budget=300, seed=seed, verify=False) for seed in range(40)]
    z = np.array([(ex.values[0] - wanted) / ex.stderr[0] for ex in runs])
    assert np.abs(z.mean(axis=0)).max() < 4 / np.sqrt(40) and 0.7 < z.std() < 1.3


def test_rise_errors_are_those_of_a_bootstrap_over_masks():
    rng = np.random.default_rng(0)
    masks, scores = rng.random((400, 3, 2)), rng.normal(size=(400, 1))
    scores[:, 0] += masks[:, 0, 0] * 2 + 50
    for centred in (True, False):

        def run(rows, centred=centred):
            sums = rise._Sums((3, 2), 1)
            sums.add(masks[rows[:150]], scores[rows[:150]])
            sums.add(masks[rows[150:]], scores[rows[150:]])
            return sums.values(centred)

        draws = np.array([run(rng.integers(0, 400, 400))[0] for _ in range(600)])
        np.testing.assert_allclose(run(np.arange(400))[1], draws.std(axis=0), rtol=0.12)


def test_rise_stops_at_the_error_asked_for_and_says_how_many_masks_it_took():
    ex = explainer.explain(looking(), np.ones((1, 16, 16), np.float32), "rise", "yes", budget="20% error", verify=False)
    assert 1.96 * ex.stderr.max() <= 0.2 * np.abs(ex.values).max()
    assert ex.provenance.parameters["masks"] == ex.provenance.evaluations < 20_000


def test_without_scores_there_are_no_values():
    sums = rise._Sums((2,), 1)
    sums.add(np.ones((3, 2)), np.full((3, 1), np.nan))
    assert np.isnan(sums.values(True)[0]).all() and sums.values(True)[0].shape == (2, 1)
    lost = occlusion._averaged((3,), [(slice(0, 2),), (slice(1, 3),)], np.array([[1.0], [np.nan]]))
    np.testing.assert_array_equal(lost[:, 0], [1, 1, np.nan])


@pytest.mark.parametrize("bad", [{"shown": 0}, {"shown": 1.0}, {"cells": 1}, {"cells": 2.5}])
def test_masks_that_cannot_be_are_refused(bad):
    with pytest.raises(InvalidInput, match="probability|cells"):
        explainer.explain(looking(), gallery.images(1), "rise", **bad)


def test_an_explanation_of_patches_and_one_of_pixels_agree_where_the_window_is_the_patch():
    picture = gallery.images(1, 8)
    labels = patches(picture[0], 4)
    parts = explainer.explain(looking(), picture, "ablation", 0, features=labels[None], verify=False)
    pixels = explainer.explain(looking(), picture, "occlusion", 0, window=4, stride=4, verify=False)
    np.testing.assert_allclose(pixels.values[0], parts.values[0][labels], atol=1e-7)
