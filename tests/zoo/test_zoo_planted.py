"""The planted specimens: their truth is what their rule says, and the explainers find it."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch

import explainer
import zoo
from explainer.errors import Unsupported
from zoo import planted

TABLES = ("linear", "additive", "interaction", "xor", "leak")


def specimen(kind):
    return zoo.load(f"planted-{kind}")


def explained(one, inputs, method):
    return explainer.explain(one.model, inputs, method=method, target="yes", output="logit", seed=0, verify="off", progress=False)


def spread(explanation):
    """|values| at every pixel or step: a part's value is shared by its pixels, a window's by its steps."""
    values = np.abs(np.asarray(explanation.values, dtype=float)[0])
    if "segments" not in explanation.extras:
        return values
    segments = np.asarray(explanation.extras["segments"][0])
    if segments.ndim == 1:  # one window number per step
        return values[segments] / np.bincount(segments)[segments][:, None]
    return values[segments] / np.bincount(segments.ravel())[segments]


@pytest.mark.parametrize("kind", TABLES)
def test_the_closed_form_is_the_shapley_value_by_enumeration(kind):
    """Over all 64 coalitions of six columns, absent columns from the background rows; written out here from Shapley (1953)."""
    one = specimen(kind)
    rows = one.data.test.inputs.iloc[:3]
    x, b = rows.to_numpy(), one.model.background.to_numpy()
    players = range(6)
    worth = {}
    for size in range(7):
        for coalition in itertools.combinations(players, size):
            mixed = np.repeat(x[:, None], len(b), axis=1)
            mixed[:, :, [p for p in players if p not in coalition]] = b[None][:, :, [p for p in players if p not in coalition]]
            frame = pd.DataFrame(mixed.reshape(-1, 6), columns=rows.columns)
            worth[coalition] = one.model.scores(frame, output="logit")[:, 1].reshape(len(x), -1).mean(1)
    expected = np.zeros((3, 6))
    for order in itertools.permutations(players):
        for place, player in enumerate(order):
            before = tuple(sorted(order[:place]))
            expected[:, player] += worth[tuple(sorted((*before, player)))] - worth[before]
    assert np.allclose(one.truth(rows), expected / 720, atol=1e-4)


@pytest.mark.parametrize("kind", TABLES)
def test_shap_finds_the_truth_of_a_table(kind):
    one = specimen(kind)
    rows = one.data.test.inputs.iloc[:8]
    found = np.stack([e.values[0] for e in explained(one, rows, "shap")])
    assert np.allclose(found, one.truth(rows), atol=1e-3)


def test_a_table_explainer_that_looks_one_column_at_a_time_misses_xor():
    """The specimens tell methods apart: the gradient of xor says little of what each column did."""
    one = specimen("xor")
    rows = one.data.test.inputs.iloc[:40]
    truth = one.truth(rows).ravel()
    shap = np.stack([e.values[0] for e in explained(one, rows, "shap")]).ravel()
    saliency = np.stack([e.values[0] for e in explained(one, rows, "saliency")]).ravel()
    assert np.corrcoef(shap, truth)[0, 1] > 0.999
    assert np.corrcoef(saliency, truth)[0, 1] < 0.6


def test_integrated_gradients_of_a_sum_is_the_weight_times_the_way():
    one = specimen("linear")
    rows = one.data.test.inputs.iloc[:5]
    found = explained(one, rows, "integrated_gradients")
    weights = np.array(planted.WEIGHTS)
    values = np.stack([e.values[0] for e in found])
    idle = weights == 0
    assert np.allclose(values[:, idle], 0, atol=1e-6)
    differences = np.diff(rows.to_numpy(), axis=0) * weights
    assert np.allclose(np.diff(values, axis=0), differences, atol=1e-4)


@pytest.mark.parametrize("method", ["shap", "lime", "saliency", "integrated_gradients", "occlusion"])
@pytest.mark.parametrize("kind", ["watermark", "segment"])
def test_what_is_named_lies_where_it_was_planted(kind, method):
    """A part of the picture or the series has far more of the credit than its share of the whole (chance: 6 %)."""
    one = specimen(kind)
    rows = np.flatnonzero(one.data.test.labels == 1)[:3]
    inputs = one.data.test.take(rows).inputs
    for explanation, mask in zip(explained(one, inputs, method), one.truth(inputs), strict=True):
        credit = spread(explanation)
        assert credit.shape == mask.shape
        assert mask.mean() < 0.07
        assert credit[mask].sum() / credit.sum() > 0.4


@pytest.mark.parametrize("method", ["shap", "lime", "integrated_gradients", "occlusion"])
def test_the_trigger_word_is_named_first(method):
    one = specimen("trigger")
    rows = np.flatnonzero(one.data.test.labels == 1)[:5]
    texts = one.data.test.take(rows).inputs
    for explanation, mask, text in zip(explained(one, texts, method), one.truth(texts), texts, strict=True):
        values = np.abs(np.asarray(explanation.values, dtype=float)[0])
        names = [str(name).lower() for name in explanation.feature_names[0]]
        assert names[int(values.argmax())] == planted.TRIGGER == text.split()[int(mask.argmax())]


def test_all_of_a_texts_score_is_the_trigger_words_by_enumeration():
    """Over all coalitions of seven words, absent ones masked (Shapley 1953): the trigger has everything, the others nothing."""
    one = specimen("trigger")
    index = int(np.flatnonzero(one.data.test.labels == 1)[0])
    tokens = one.data.test.inputs[index].split()
    place = tokens.index(planted.TRIGGER)
    tokens = tokens[max(0, place - 5) : max(0, place - 5) + 7]
    players, worth = range(len(tokens)), {}
    for kept in itertools.product([False, True], repeat=len(tokens)):
        text = " ".join(word if on else "[MASK]" for word, on in zip(tokens, kept, strict=True))
        worth[kept] = one.model.scores([text], output="logit")[0, 1]
    values = np.zeros(len(tokens))
    for order in itertools.permutations(players):
        on = [False] * len(tokens)
        for player in order:
            before = worth[tuple(on)]
            on[player] = True
            values[player] += worth[tuple(on)] - before
    values /= math.factorial(len(tokens))
    mask = one.truth([" ".join(tokens)])[0]
    assert values[mask] == pytest.approx(worth[(True,) * len(tokens)] - worth[(False,) * len(tokens)])
    assert values[mask] > 2
    assert (np.abs(values[~mask]) < 1e-6).all()


def test_no_token_but_the_trigger_has_a_weight():
    one = specimen("trigger")
    weights = one.model.module.read.weight.abs().amax(0)
    names = one.model.preprocess.tokens([planted.TRIGGER])[0]
    assert names[1:] == [planted.TRIGGER]
    assert torch.nonzero(weights)[:, 0].tolist() == one.model.preprocess([planted.TRIGGER])["ids"][0, 1:].tolist()


def test_without_its_mark_the_model_has_nothing_to_go_by():
    image, series, text = specimen("watermark"), specimen("segment"), specimen("trigger")
    plain = image.data.test.inputs.copy()
    plain[:, 1:5, 1:5] = 0.3
    assert (image.model.scores(plain).argmax(1) == 0).all()
    flat = [np.zeros_like(one) for one in series.data.test.inputs]
    assert (series.model.scores(flat).argmax(1) == 0).all()
    bare = [one.replace(planted.TRIGGER, "river") for one in text.data.test.inputs]
    assert (text.model.scores(bare).argmax(1) == 0).mean() > 0.99


def test_the_truth_of_a_trained_specimen_is_not_known():
    with pytest.raises(Unsupported, match=r"loan-mlp is not known; it is for planted-linear"):
        zoo.load("loan-mlp").truth(None)
