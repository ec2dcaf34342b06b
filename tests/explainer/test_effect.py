"""The shift in attributions that a fix brings: known where it is planted, and not told where there is none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

import explainer
from explainer.errors import ExplainerError, InvalidInput, UnknownName

PIPELINE = make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), LogisticRegression())


def rows(n: int = 300, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """The label follows ``a`` strongly, ``b`` a little, ``c`` not at all."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(n, 3)), columns=list("abc"))
    y = 2 * frame["a"] + 0.5 * frame["b"] + rng.logistic(size=n) > 0
    return frame, np.where(y, "yes", "no")


def with_codes(seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """A fifth of ``a`` says 9999: scaled, the rest of it is all but one value, and what it says is lost."""
    frame, y = rows(seed=seed)
    frame.loc[np.arange(0, 300, 5), "a"] = 9999
    return frame, y


def dropping(frame: pd.DataFrame, y: np.ndarray, column: str) -> Any:
    """A fix that leaves one column out."""
    return SimpleNamespace(data=frame.drop(columns=column), labels=y, log=(), kept=np.arange(len(frame)))


def test_a_planted_defect_shifts_attributions_as_it_must() -> None:
    frame, y = with_codes()
    fixed = explainer.fix(frame, explainer.check(frame, y, only=["placeholder values"]), y)
    found = explainer.effect(frame, y, fixed, train=PIPELINE)
    moved = found.to_frame().set_index("feature")
    assert found.shifted and found.p == pytest.approx(3 * 2 / 252)  # the least p of ten models, three measures
    assert moved.index[0] == "a" and moved.loc["a", "after"] > 5 * moved.loc["a", "before"]
    assert moved.loc["a", "after"] > 3 * moved.loc["b", "after"]  # as it is in the world
    assert found["relative"].shift > 2 * found["relative"].noise
    assert "move by more than retraining" in str(found) and found.rows == 30


def test_a_fix_of_nothing_shifts_nothing() -> None:
    """A constant column was never used; at 5 %, of eight such fixes hardly one may be told from noise."""
    told = []
    for seed in range(8):
        frame, y = rows(seed=seed)
        frame["d"] = 1.0
        told.append(explainer.effect(frame, y, dropping(frame, y, "d"), train=PIPELINE, seed=100 * seed).shifted)
    assert sum(told) <= 1


def test_retraining_noise_alone_is_not_called_a_shift() -> None:
    """Deep trees on a draw of 300 rows differ a good deal; the shift must be held against that."""
    frame, y = rows()
    frame["d"] = 1.0
    found = explainer.effect(frame, y, dropping(frame, y, "d"), train=DecisionTreeClassifier)
    assert found["relative"].noise > 0.3 and not found.shifted


def test_without_draws_a_deterministic_training_has_no_noise() -> None:
    frame, y = rows()
    frame["d"] = 1.0
    found = explainer.effect(frame, y, dropping(frame, y, "d"), train=PIPELINE, resample=False)
    assert all(m.noise == 0 and m.shift == pytest.approx(0, abs=1e-12) and m.p == 1 for m in found.measures)


def test_a_dropped_column_takes_its_attribution_with_it() -> None:
    frame, y = rows()
    found = explainer.effect(frame, y, dropping(frame, y, "a"), train=PIPELINE)
    assert found.features == ("a", "b", "c") and (found.after[:, 0] == 0).all() and (found.before[:, 0] > 0).all() and found.shifted


def test_texts_take_a_function_that_trains() -> None:
    rng = np.random.default_rng(0)
    words = ["sun", "rain", "wind", "snow", "cloud", "storm"]
    texts = [" ".join(rng.choice(words, 8)) for _ in range(120)]
    labels = [int("sun" in t) for t in texts]
    stamped = [t.replace("storm", "stamp") + (" stamp" if k else "") for t, k in zip(texts, labels, strict=True)]
    fixed = SimpleNamespace(data=texts, labels=labels, log=(), kept=np.arange(120))

    def train(inputs: list[str], y: np.ndarray, seed: int) -> Any:
        from sklearn.feature_extraction.text import CountVectorizer

        fitted = make_pipeline(CountVectorizer(), LogisticRegression()).fit(inputs, y)
        return explainer.wrap(fitted.predict_proba, modality="text", class_names=["dull", "bright"])

    asked = [" ".join(["sun", "stamp", *rng.choice(words[1:5], 4)]) for _ in range(12)]
    found = explainer.effect(stamped, labels, fixed, train=train, method="occlusion", target=1, rows=asked)
    assert found.shifted and found.features == () and found.target == "bright" and found.before.shape == (5, 0)


def test_a_regression_is_explained_by_its_one_output() -> None:
    frame, _ = rows()
    y = frame["a"].to_numpy() * 3 + np.random.default_rng(1).normal(size=300)
    found = explainer.effect(frame, y, dropping(frame, y, "c"), train=LinearRegression())
    assert found["relative"].shift < 0.2 and found.before.shape == (5, 3)


def test_labels_may_be_a_column() -> None:
    frame, y = with_codes()
    frame["outcome"] = y
    fixed = explainer.fix(frame, explainer.check(frame, "outcome", only=["placeholder values"]), "outcome")
    assert explainer.effect(frame, "outcome", fixed, train=PIPELINE).shifted


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"seeds": 4}, InvalidInput, "the least .* is 5"),
        ({"labels": ["yes"]}, InvalidInput, "One label per item"),
        ({"labels": "outcome"}, InvalidInput, "names no column"),
        ({"train": StandardScaler}, ExplainerError, "StandardScaler"),
        ({"target": "maybe"}, UnknownName, "maybe"),
    ],
)
def test_what_cannot_be_answered_is_refused(given: dict[str, Any], error: type[Exception], message: str) -> None:
    frame, y = rows(60)
    labels = given.pop("labels", y)
    asked = {"train": PIPELINE} | given
    with pytest.raises(error, match=message):
        explainer.effect(frame, labels, dropping(frame, y, "c"), **asked)


def test_training_that_cannot_take_the_damage_says_on_which_side() -> None:
    frame, y = rows(60)
    frame.loc[3, "a"] = np.inf
    fixed = explainer.fix(frame, explainer.check(frame, y, only=["infinite values"]), y)
    with pytest.raises(InvalidInput, match="data as they were failed with ValueError"):
        explainer.effect(frame, y, fixed, train=PIPELINE)


def test_an_unknown_measure_is_answered_with_the_nearest() -> None:
    frame, y = rows(60)
    found = explainer.effect(frame, y, dropping(frame, y, "c"), train=PIPELINE)
    with pytest.raises(UnknownName, match="relative"):
        found["relativ"]


@pytest.mark.parametrize("dark", [False, True])
def test_it_is_drawn(dark: bool) -> None:
    frame, y = rows(60)
    found = explainer.effect(frame, y, dropping(frame, y, "c"), train=PIPELINE)
    figure = explainer.plot(found, dark=dark)
    assert [t.name for t in figure.data] == ["before", "after"] and len(figure.data[0].y) == 3
