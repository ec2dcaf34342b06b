import numpy as np
import pandas as pd
import pytest
from games import frame, regression, wavy

import explainer
from explainer.errors import InvalidInput, UnknownName
from explainer.features import build
from explainer.features.image import patches, superpixels
from explainer.features.series import Segments
from explainer.features.tabular import Columns, typical_row
from explainer.features.text import Words, words


def test_words_keep_what_belongs_together():
    text = "Don't use GPL-2.0, please: it's a licence."
    assert [text[a:b] for a, b in words(text)] == ["Don't", "use", "GPL-2.0", ",", "please", ":", "it's", "a", "licence", "."]


def test_removed_words_leave_readable_text():
    parts = Words(["one  two three!"])
    masks = np.array([[1, 1, 1, 1], [1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0]], dtype=bool)
    assert parts.rows(0, masks) == ["one  two three!", "one three!", "", "  two"]
    masked = Words(["one two"], "[MASK]")
    assert masked.rows(0, np.array([[False, True]])) == ["[MASK] two"]


def test_columns_take_background_values_whatever_their_type():
    dates = pd.to_datetime(["2020-01-01", "2021-01-01"])
    kinds = {"n": [1.5, np.nan], "i": [3, 4], "s": ["a", None], "b": [True, False], "c": pd.Categorical(["x", "y"]), "d": dates}
    table = pd.DataFrame(kinds)
    background = table.iloc[[1, 0]].reset_index(drop=True)
    parts = Columns(table, background)
    rows = parts.rows(0, np.array([[True] * 6, [False] * 6]))
    assert len(rows) == 4
    pd.testing.assert_frame_equal(rows.iloc[[0]].reset_index(drop=True), table.iloc[[0]], check_dtype=False)
    pd.testing.assert_frame_equal(rows.iloc[2:].reset_index(drop=True), background, check_dtype=False)
    assert parts.idle(0).tolist() == [False] * 6


def test_typical_row_is_made_of_values_that_occur():
    table = pd.DataFrame({"n": [1.0, 2.0, 10.0, np.nan], "s": ["a", "b", "b", None], "empty": [None] * 4})
    row = typical_row(table).iloc[0]
    assert row["n"] == 2.0 and row["s"] == "b" and pd.isna(row["empty"])


def test_segment_labels_cover_the_picture_without_gaps():
    image = np.random.default_rng(0).random((28, 28))
    for labels in (superpixels(image), patches(image)):
        assert labels.shape == (28, 28) and set(np.unique(labels)) == set(range(labels.max() + 1))
    assert patches(image).max() + 1 == 49


@pytest.mark.parametrize("baseline", ["zeros", "mean", "blur", np.full((8, 8), 0.25)])
def test_absent_superpixels_show_the_baseline(baseline):
    model = explainer.wrap(lambda x: x.mean((1, 2)), modality="image", task="regression", class_names=["v"])
    image = np.random.default_rng(0).random((1, 8, 8)).astype(np.float32)
    parts = build(model, image, features="patches", baseline=baseline)
    none, every = parts.rows(0, np.array([[False] * parts.players(0), [True] * parts.players(0)]))
    np.testing.assert_array_equal(every, image[0])
    np.testing.assert_array_equal(none, parts.baseline[0])
    assert not np.array_equal(none, image[0])


def test_pixels_pool_to_superpixels_and_steps_to_segments():
    model = explainer.wrap(lambda x: x.mean((1, 2)), modality="image", task="regression", class_names=["v"])
    parts = build(model, np.random.default_rng(0).random((1, 8, 8)), features="patches")
    values = np.random.default_rng(1).random((8, 8))
    pooled = parts.pool(0, values, ("row", "column"))
    assert pooled.sum() == pytest.approx(values.sum())
    assert pooled[0] == pytest.approx(values[parts.segments[0] == 0].sum())
    steps = Segments([np.zeros((7, 2))], ("x", "y"))
    per_step = np.arange(14.0).reshape(7, 2)
    assert steps.pool(0, per_step, ("time", "channel")).sum() == per_step.sum()


def test_series_segments_are_even_and_named():
    parts = Segments([np.ones((20, 12)), np.ones((3, 12))], tuple(f"c{j}" for j in range(12)))
    assert parts.shape(0) == (5, 12) and parts.shape(1) == (3, 12)
    assert parts.names(0)[:2] == ("c0 t0-3", "c1 t0-3")
    rows = parts.rows(0, np.zeros((1, 60), dtype=bool))
    assert (rows[0] == 0).all()
    assert Segments([np.zeros((4, 1))], ("x",)).idle(0).all()


def test_a_planted_region_is_found_by_every_kind_of_part():
    model = explainer.wrap(lambda x: x[:, :4, :4].mean((1, 2)), modality="image", task="regression", class_names=["v"])
    image = np.random.default_rng(0).random((1, 16, 16)).astype(np.float32)
    labels = np.arange(16)[:, None] // 4 * 4 + np.arange(16) // 4
    ex = explainer.explain(model, image, "shap", features=labels)
    assert np.argmax(ex.values[0]) == 0
    assert ex.values[0][0] == pytest.approx(ex.scores[0], rel=1e-4)
    assert ex.extras["segments"][0].shape == (16, 16)


@pytest.mark.parametrize(
    ("options", "error", "words_"),
    [
        ({"baseline": "zeros"}, InvalidInput, "not for tables"),
        ({"features": "superpixels"}, InvalidInput, "not for tables"),
    ],
)
def test_choices_that_do_not_fit_a_table(options, error, words_):
    with pytest.raises(error, match=words_):
        explainer.explain(regression(wavy), frame(1), "shap", **options)


def test_choices_that_do_not_fit_other_inputs():
    image = explainer.wrap(lambda x: x.mean((1, 2)), modality="image", task="regression", class_names=["v"])
    picture = np.ones((1, 8, 8))
    with pytest.raises(UnknownName, match="Did you mean 'zeros'"):
        explainer.explain(image, picture, "shap", baseline="zeroes")
    with pytest.raises(UnknownName, match="Did you mean 'patches'"):
        explainer.explain(image, picture, "shap", features="patch")
    with pytest.raises(InvalidInput, match="label maps have shape"):
        explainer.explain(image, picture, "shap", features=np.zeros((4, 4), dtype=int))
    text = explainer.wrap(lambda t: np.ones(len(t)), modality="text", task="regression", class_names=["v"])
    with pytest.raises(InvalidInput, match="'mask'"):
        explainer.explain(text, ["some words"], "shap", baseline="blur")
