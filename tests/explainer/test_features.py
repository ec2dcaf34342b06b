import numpy as np
import pandas as pd
import pytest
import torch_gallery as gallery
from games import frame, regression
from scipy.ndimage import gaussian_filter

import explainer
from explainer.errors import InvalidInput, UnknownName
from explainer.features import BASELINES, build
from explainer.features.image import Superpixels, patches, superpixels
from explainer.features.inpainting import inpaint
from explainer.features.series import Segments
from explainer.features.tabular import Columns, typical_row
from explainer.features.text import Words, sentences, words
from explainer.inputs import sha256, take


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
    with pytest.raises(InvalidInput, match="is for text, not for images"):
        explainer.explain(image, picture, "shap", features="words")
    with pytest.raises(InvalidInput, match="65 parts of a picture of 64 pixels|asks for 65"):
        explainer.explain(image, picture, "shap", features=("patches", 65))
    with pytest.raises(UnknownName, match="Did you mean 'sentences'"):
        explainer.explain(text, ["some words"], "shap", features="sentence")
    with pytest.raises(InvalidInput, match="list came"):
        explainer.explain(text, ["some words"], "shap", features=["some", "words"])
    steps = explainer.wrap(lambda s: np.array([one.mean() for one in s]), modality="series", task="regression", class_names=["v"])
    for options, words_ in (
        ({"baseline": "background"}, "needs background series"),
        ({"features": ("auto", 3)}, "takes no number"),
        ({"features": [1, 0, 0, 0]}, "never falls"),
        ({"features": [0, 1]}, "a series of 4 steps"),
    ):
        with pytest.raises(InvalidInput, match=words_):
            explainer.explain(steps, [np.ones((4, 1))], "shap", **options)


# -- the contract: every absence and every way to cut, through a whole explanation -----------------------------------------

LONG_TEXT = " ".join(f"This is sentence {j} about the grant of rights." for j in range(30))


def brightness(images):
    return (images * np.linspace(0, 1, images[0].size).reshape(images.shape[1:])).mean(axis=(1, 2, 3)) ** 2


def letters(texts):
    return np.array([t.count("e") + 0.1 * len(t.split()) ** 0.5 for t in texts])


def waves(series):
    return np.array([np.abs(np.diff(one, axis=0)).mean() + one[len(one) // 2, 0] for one in series])


def subject(modality):
    """A model that every part of the input matters to, three inputs, and a background."""
    rng = np.random.default_rng(0)
    single = {"task": "regression", "class_names": ["v"]}
    if modality == "tabular":
        table = frame(80, seed=4).assign(a2=lambda t: t["a"] + 0.1 * t["b"], k_x=np.tile([0, 1], 40), k_y=np.tile([1, 0], 40))
        model = regression(lambda x: np.sin(x).sum(axis=1) + x[:, 0] * x[:, 5], list(table.columns), table)
        return model, table.iloc[:3]
    if modality == "image":
        return explainer.wrap(brightness, modality="image", **single), rng.random((3, 12, 10, 3)).astype(np.float32)
    if modality == "text":
        return explainer.wrap(letters, modality="text", **single), ["Every one of these. Words here count!", "ten green bottles", LONG_TEXT]
    series = [rng.normal(size=(n, 2)).astype(np.float32).cumsum(axis=0) for n in (12, 7, 2)]
    background = [rng.normal(size=(n, 2)).astype(np.float32) for n in (9, 14)]
    return explainer.wrap(waves, modality="series", feature_names=["x", "y"], background=background, **single), series


CUTS = {
    "tabular": ["auto", "correlated", ("correlated", 0.99), "one-hot", {"pair": ["b", "c"]}],
    "image": ["auto", "superpixels", ("superpixels", 9), ("patches", 6), np.arange(120).reshape(12, 10) // 30],
    "text": ["auto", "words", "sentences"],
    "series": ["auto", ("segments", 3)],
}
ABSENCES = {
    "tabular": [*BASELINES["tabular"], ("copula", 10), ("neighbours", 4), frame(1).assign(a2=0.0, k_x=0, k_y=1)],
    "image": [*BASELINES["image"], np.full((12, 10, 3), 0.5)],
    "text": [*BASELINES["text"], "thing"],
    "series": [*BASELINES["series"], np.array([0.5, -1.0])],
}
CASES = [(m, a, "auto") for m in ABSENCES for a in ABSENCES[m]] + [(m, "auto", c) for m in CUTS for c in CUTS[m]]


@pytest.mark.parametrize(("modality", "baseline", "cut"), CASES, ids=str)
def test_every_absence_and_cut_gives_values_that_add_up(modality, baseline, cut):
    model, inputs = subject(modality)
    ex = explainer.explain(model, inputs, "shap", baseline=baseline, features=cut, budget=64, verify=False)
    assert ex.provenance.parameters["absence"]
    for one in ex:
        assert np.isfinite(one.values).all() and (one.stderr is None or np.isfinite(one.stderr).all())
        assert one.base_values[0] + one.values.sum() == pytest.approx(one.scores[0], abs=1e-6)
        assert len(one.feature_names[0]) == one.values[0].size
    alone = explainer.explain(model, take(inputs, slice(1, 2)), "shap", baseline=baseline, features=cut, budget=64, verify=False)
    np.testing.assert_allclose(ex[1].values.ravel(), alone.values.ravel(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("modality", "baseline", "cut"), CASES, ids=str)
def test_idle_parts_change_nothing_and_sizes_are_told(modality, baseline, cut):
    model, inputs = subject(modality)
    features = build(model, inputs, baseline=baseline, features=cut)
    rng = np.random.default_rng(0)
    for i in range(len(inputs)):
        idle = features.idle(i)
        assert idle.shape == (features.players(i),) and len(features.names(i)) == features.players(i)
        masks = rng.random((6, features.players(i))) > 0.5
        one, other = features.rows(i, masks | idle), features.rows(i, masks & ~idle)
        assert len(one) == 6 * features.repeats and sha256(one) == sha256(other)
        whole = features.rows(i, np.ones((1, features.players(i)), dtype=bool))
        for one in range(features.repeats):
            np.testing.assert_array_equal(take(whole, slice(one, one + 1)), take(inputs, slice(i, i + 1)))
        assert features.row_bytes(i) > 0


# -- images ----------------------------------------------------------------------------------------------------------------


def test_the_number_of_parts_of_a_picture_can_be_chosen():
    rng = np.random.default_rng(0)
    picture = gaussian_filter(rng.random((60, 80, 3)), [4, 4, 0]).astype(np.float32)
    counts = [Superpixels(picture[None], ("superpixels", n)).players(0) for n in (10, 60, 150)]
    assert counts == sorted(counts) and all(0.6 * n < c < 1.5 * n for c, n in zip(counts, (10, 60, 150), strict=True))
    assert Superpixels(picture[None], ("patches", 12)).players(0) == 12


def test_a_large_picture_is_segmented_on_a_smaller_copy():
    height, width = 700, 530
    picture = np.zeros((height, width, 3), dtype=np.float32)
    picture[:, 203:] = [1.0, 0.2, 0.1]
    labels = superpixels(picture, 40)
    assert labels.shape == (height, width) and set(np.unique(labels)) == set(range(labels.max() + 1)) and 20 < labels.max() < 60
    across = sum(len(np.unique(picture[labels == s][:, 0])) > 1 for s in range(labels.max() + 1))
    assert across <= labels.max() // 3  # the edge is found, up to a pixel of the smaller copy
    off = [min((labels == s)[:, :203].sum(), (labels == s)[:, 203:].sum()) for s in range(labels.max() + 1)]
    assert sum(off) < 0.01 * height * width


def holes(shape, cell, seed=0, share=0.5):
    coarse = np.random.default_rng(seed).random((5, -(-shape[0] // cell), -(-shape[1] // cell))) > share
    return np.kron(coarse, np.ones((1, cell, cell)))[:, : shape[0], : shape[1]].astype(bool)


@pytest.mark.parametrize("shape", [(28, 28), (37, 50), (1, 9), (130, 200)])
def test_inpainting_keeps_what_is_shown_and_restores_a_constant(shape):
    shown = holes(shape, max(1, min(shape) // 7))
    for image in (
        np.random.default_rng(0).random((*shape, 3)).astype(np.float32),
        np.random.default_rng(0).random(shape).astype(np.float32),
    ):
        filled = inpaint(image, shown)
        assert filled.shape == (5, *image.shape) and filled.dtype == np.float32
        for one, mask in zip(filled, shown, strict=True):
            np.testing.assert_array_equal(one[mask], image[mask])
            assert one.min() >= image.min() - 1e-6 and one.max() <= image.max() + 1e-6
    flat = np.full(shape, 0.3, dtype=np.float32)
    np.testing.assert_array_equal(inpaint(flat, shown), np.broadcast_to(flat, (5, *shape)))
    nothing = inpaint(image, np.zeros((1, *shape), dtype=bool))
    np.testing.assert_allclose(nothing, image.mean(), rtol=1e-5)


@pytest.mark.parametrize(("size", "hole"), [(28, 6), (64, 14), (224, 60)])
def test_inpainting_restores_a_ramp(size, hole):
    y, x = np.mgrid[:size, :size] / size
    ramp = (0.7 * x - 0.4 * y + 0.4).astype(np.float32)
    shown = np.ones((1, size, size), dtype=bool)
    start = size // 2 - hole // 2
    shown[:, start : start + hole, start - 3 : start - 3 + hole] = False
    error = np.abs(inpaint(ramp, shown)[0] - ramp)
    across = np.ptp(ramp[~shown[0]])
    assert error.max() < 0.2 * across and error[~shown[0]].mean() < 0.05 * across
    assert np.abs(ramp.mean() - ramp)[~shown[0]].mean() > 0.05 * across  # what the mean colour would give


def test_inpainting_is_the_same_whatever_is_filled_beside_it():
    image, shown = np.random.default_rng(0).random((40, 40, 3)).astype(np.float32), holes((40, 40), 7)
    np.testing.assert_array_equal(inpaint(image, shown)[2], inpaint(image, shown[2:3])[0])


def test_what_is_absent_does_not_show_in_the_filling():
    image, shown = np.random.default_rng(0).random((200, 150)).astype(np.float32), holes((200, 150), 40)
    other = np.where(shown[0], image, 1 - image)
    np.testing.assert_allclose(inpaint(image, shown[:1]), inpaint(other, shown[:1]), atol=1e-6)


# -- text ------------------------------------------------------------------------------------------------------------------


def test_sentences_end_where_a_reader_ends_them():
    text = 'First, e.g. this one. "Is it?" Dr. No said so in Sec. 4.\n\nA heading\n\nThe end! and on'
    assert [text[a:b] for a, b in sentences(text)] == [
        "First, e.g. this one.",
        '"Is it?"',
        "Dr. No said so in Sec. 4.",
        "A heading",
        "The end! and on",
    ]
    assert sentences("no end") == [(0, 6)] and sentences("  \n") == []


def test_removed_sentences_leave_readable_text():
    parts = Words(["One here. Two there.  Three."], features="sentences")
    masks = np.array([[1, 1, 1], [1, 0, 1], [0, 0, 0], [0, 1, 0]], dtype=bool)
    assert parts.axes == ("sentence",)
    assert parts.rows(0, masks) == ["One here. Two there.  Three.", "One here.  Three.", "", " Two there."]


def test_long_texts_are_cut_into_sentences_and_the_result_says_so():
    model, (_, short, long) = subject("text")
    ex = explainer.explain(model, [short, long], "shap", budget=64)
    assert ex.axes == ("instance", "part") and len(ex.feature_names[0]) == 3 and len(ex.feature_names[1]) == 30
    assert any("more than 200 words" in note and "features='words'" in note for note in ex.provenance.notes)
    assert explainer.explain(model, [long], "shap", budget=64, verify=False).axes == ("instance", "sentence")
    words_ = explainer.explain(model, [long], "shap", budget=64, features="words", verify=False)
    assert words_.axes == ("instance", "word") and not any("200 words" in note for note in words_.provenance.notes)
    assert np.isfinite(explainer.evaluate(ex, model, "deletion")["deletion"]).all()
    explainer.plot(ex, instance=1)


def test_values_of_words_add_up_to_sentences():
    parts = Words([LONG_TEXT, "Short one. Here."])
    for i in range(2):
        own = np.arange(float(len(words(parts.texts[i]))))
        pooled = parts.pool(i, own, ("word",))
        assert len(pooled) == parts.players(i) and pooled.sum() == own.sum()
    assert Words(["好。不好。"], features="sentences").pool(0, np.arange(4.0), ("word",)).tolist() == [1, 5]
    assert parts.pool(0, np.ones(300), ("word",))[0] == 10  # nine words and the full stop


# -- series ----------------------------------------------------------------------------------------------------------------


def test_interpolation_is_the_line_between_present_neighbours():
    rng = np.random.default_rng(0)
    one = rng.normal(size=(20, 3)).astype(np.float32)
    parts = Segments([one], (), "interpolate", [one + 1], ("segments", 6))
    masks = rng.random((30, parts.players(0))) > 0.5
    masks[0], masks[1] = False, True
    for row, mask in zip(parts.rows(0, masks), masks, strict=True):
        shown = mask.reshape(6, 3)[parts.segments[0]]
        for c in range(3):
            at = np.flatnonzero(shown[:, c])
            wanted = np.interp(np.arange(20), at, one[at, c]) if len(at) else np.full(20, (one + 1)[:, c].mean())
            np.testing.assert_allclose(row[:, c], wanted, atol=1e-5)
    assert parts.conditional and not parts.idle(0).any()
    flat = np.array([0, 0, 0, 5, 5, 5], dtype=np.float32)[:, None]  # its first segment is at the reference, and yet a line would change it
    rising = Segments([flat], (), "interpolate", features=("segments", 2))
    assert rising.rows(0, np.array([[False, True]]))[0][:, 0].tolist() == [5] * 6 and not rising.idle(0).any()


def test_background_series_stand_in_step_by_step():
    one, twice = np.zeros((5, 1), dtype=np.float32), np.arange(9, dtype=np.float32)[:, None]
    parts = Segments([one], ("x",), "background", [one + 7, twice], ("segments", 5))
    rows = parts.rows(0, np.array([[True, False, False, True, False]]))
    assert parts.repeats == 2 and [row[:, 0].tolist() for row in rows] == [[0, 7, 7, 0, 7], [0, 2, 4, 0, 8]]


def test_segments_can_be_given_by_label():
    parts = Segments([np.ones((6, 2))], ("x", "y"), features=[4, 4, 4, 7, 9, 9])
    assert parts.shape(0) == (3, 2) and parts.names(0)[::2] == ("x t0-2", "x t3", "x t4-5")


# -- gradients take one reference point ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("modality", "baseline"), [("tabular", "copula"), ("tabular", ("neighbours", 5)), ("image", "inpaint"), ("series", "interpolate")]
)
def test_gradients_refuse_a_baseline_that_depends_on_what_is_present(modality, baseline):
    model, inputs = {
        "tabular": lambda: (gallery.tabular(gallery.mlp(), background=gallery.table(20)), gallery.table(2)),
        "image": lambda: (explainer.wrap(gallery.convnet(), modality="image"), gallery.images(2)),
        "series": lambda: (explainer.wrap(gallery.lstm(), modality="series", feature_names=list("xyz")), gallery.series()),
    }[modality]()
    with pytest.raises(InvalidInput, match="needs one reference point"):
        explainer.explain(model, inputs, "integrated_gradients", baseline=baseline)


def test_a_baseline_only_gradients_know_leaves_the_check_of_faithfulness_out():
    model = gallery.tabular(gallery.mlp(), background=gallery.table(20))
    ex = explainer.explain(model, gallery.table(2), "integrated_gradients", baseline="zeros")
    check = ex.verdicts[0].checks["faithfulness"]
    assert check.status == "not run" and "not for tables" in check.reason


def test_subwords_are_summed_to_their_words_in_long_texts_too():
    model = gallery.text(gallery.seeded(gallery.Encoder))
    ex = explainer.explain(model, [LONG_TEXT], "integrated_gradients")
    assert ex.axes == ("instance", "word") and len(ex.feature_names[0]) == len(words(LONG_TEXT))
    assert ex.verdicts[0].checks["faithfulness"].status != "not run"


def test_superpixels_hold_on_noise_and_hard_edges_and_a_shortfall_is_told():
    rng = np.random.default_rng(0)
    noise, blocks = rng.random((96, 96, 3)), np.kron(rng.random((8, 8, 3)), np.ones((32, 32, 1)))
    for picture, count in ((noise, 49), (blocks, 49), (np.zeros((64, 64, 3)), 49), (rng.random((28, 28)), 49)):
        assert superpixels(picture.astype(np.float32), count).max() + 1 >= 0.6 * count
    few = Superpixels(rng.random((1, 6, 6)).astype(np.float32), ("superpixels", 30))
    assert (few.shape(0)[0] < 21) == bool(few.notes)
