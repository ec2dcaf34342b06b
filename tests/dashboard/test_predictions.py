from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from dashboard.components import grid, matrix
from dashboard.predictions import FLAGS, Predictions
from dashboard.view import View

SCORES = np.array([[0.9, 0.1], [0.4, 0.6], [0.05, 0.95], [0.7, 0.3], [0.52, 0.48]])
LABELS = np.array([0, 0, 0, 0, 0])


@pytest.fixture
def predictions() -> Predictions:
    return Predictions(SCORES, LABELS, ("no", "yes"))


def test_errors_come_first_and_the_least_sure_of_them(predictions: Predictions) -> None:
    assert predictions.ordered(View()).tolist() == [1, 2, 4, 3, 0]
    assert predictions.ordered(View(order="unsure")).tolist() == [4, 1, 3, 0, 2]
    assert predictions.ordered(View(order="sure")).tolist() == [2, 0, 3, 1, 4]
    assert predictions.ordered(View(order="row")).tolist() == [0, 1, 2, 3, 4]


def test_a_cell_of_the_confusion_matrix_filters(predictions: Predictions) -> None:
    assert predictions.confusion.tolist() == [[3, 2], [0, 0]]
    assert predictions.ordered(View(cell="0,1")).tolist() == [1, 2]
    assert predictions.ordered(View(cell="1,1")).tolist() == []
    assert predictions.ordered(View(cell="77,99")).tolist() == []


def test_flags_name_the_confident_errors_and_the_guesses(predictions: Predictions) -> None:
    assert [FLAGS[k] for k in predictions.flags] == ["", "", "label?", "", "unsure"]


def test_the_table_says_of_every_row_what_its_scores_say(predictions: Predictions) -> None:
    exhibit = SimpleNamespace(inputs=pd.DataFrame({"n": range(5), "word": list("abcde")}), face=SimpleNamespace(modality="tabular"))
    held = grid.columns(exhibit, predictions)
    assert held["p"] == [0.9, 0.6, 0.95, 0.7, 0.52] and held["margin"] == pytest.approx([0.8, 0.2, 0.9, 0.4, 0.04])
    assert (held["true"], held["predicted"], held["text"]) == ([0] * 5, [0, 1, 1, 0, 0], list("abcde"))
    assert grid.columns(exhibit, Predictions(np.array([[1 - 1e-7, 1e-7]]), None, ("no", "yes")))["p"] == [
        0.9999
    ]  # never a 1 that is not one
    assert grid.order(predictions, View(order="row"), {4, 1}) == [1, 4]
    assert held["features"] == [list(range(5)), list("abcde")] and grid.features(exhibit) == [("n", True), ("word", False)]
    large = SimpleNamespace(inputs=pd.DataFrame(np.zeros((grid.MOST_CELLS, 2))))
    assert grid.features(large) == [] == grid.features(SimpleNamespace(inputs=["a text"]))


def test_no_row_is_left_out_and_each_is_looked_at_once() -> None:
    draw = np.random.default_rng(0)
    scores, labels = draw.dirichlet([1, 1, 1], 30_000), draw.integers(0, 3, 30_000)
    found = Predictions(scores, labels, ("a", "b", "c"))
    assert sorted(grid.order(found, View())) == list(range(30_000))
    assert found.margin is found.margin and found.wrong is found.wrong  # computed once, not once a row
    for k in (0, 17, 29_999):
        first, second = sorted(scores[k])[::-1][:2]
        flag = "label?" if scores[k].argmax() != labels[k] and first >= 0.9 else "unsure" if first - second < 0.1 else ""
        assert FLAGS[found.flags[k]] == flag


def test_a_cell_opens_the_row_that_comes_first_in_it(predictions: Predictions) -> None:
    assert matrix.firsts(predictions, View()) == {(0, 0): 4, (0, 1): 1}
    assert matrix.firsts(predictions, View(order="sure", cell="0,0")) == {(0, 0): 0, (0, 1): 2}


def test_margins_and_accuracy(predictions: Predictions) -> None:
    assert predictions.margin == pytest.approx([0.8, 0.2, 0.9, 0.4, 0.04])
    value, low, high = predictions.accuracy
    assert value == 0.6 and 0 < low < 0.6 < high < 1


def test_without_labels_nothing_is_wrong_and_nothing_is_claimed() -> None:
    bare = Predictions(SCORES, None, ("no", "yes"))
    assert bare.accuracy is None and bare.confusion is None
    assert not bare.wrong.any()
    assert bare.ordered(View()).tolist() == [4, 1, 3, 0, 2]


def test_a_regression_orders_by_error() -> None:
    found = Predictions(np.array([[1.0], [2.0], [3.0]]), np.array([1.5, 2.0, 9.0]), ("value",), regression=True)
    assert found.ordered(View()).tolist() == [2, 0, 1]
    assert found.confidence == pytest.approx([0.5, 0.0, 6.0])
    assert found.accuracy is None and found.confusion is None


def test_of_a_thousand_classes_the_matrix_shows_those_most_often_wrong_or_met() -> None:
    counts = np.zeros((1000, 1000), dtype=int)
    counts[np.arange(100), np.arange(100)] = 5
    counts[700, 3] = 2
    counts[900, 901] = 1
    classes = matrix.shown(counts)
    assert len(classes) == matrix.MOST
    assert {700, 3, 900, 901} <= set(classes)
    assert classes == sorted(classes)
    names = tuple(f"class {k}" for k in range(1000))
    drawn = str(matrix.matrix(counts, names, View(), {}))
    assert "24 of 1,000 classes" in drawn
    assert "true class 700, predicted class 3" in drawn
    assert matrix.shown(counts[:24, :24]) == list(range(24))
