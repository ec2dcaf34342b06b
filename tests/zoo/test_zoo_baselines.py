"""A baseline is picked by what it is held against the network with, and by validation alone."""

from __future__ import annotations

import numpy as np
import pytest

from zoo import baselines
from zoo.data import Data, Split


class Stub:
    """A model that gives the scores it was made with, and remembers how it was fitted."""

    def __init__(self, scores):
        self.scores = np.asarray(scores, dtype=float)

    def fit(self, x, y, sample_weight=None):
        self.weights = sample_weight
        return self

    def predict(self, x):
        return (self.scores > 0.5).astype(int)

    def predict_proba(self, x):
        return np.stack([1 - self.scores, self.scores], axis=1)

    def score(self, x, y):
        return float((self.predict(x) == y).mean())


@pytest.fixture
def data():
    labels = np.array([0] * 9 + [1] * 3)
    split = Split(np.zeros((12, 1)), labels)
    return Data(split, split, split, ("no", "yes"), "made", "none")


def test_the_option_is_picked_by_the_metric_that_is_asked_for(data):
    ranks = Stub([0.1] * 9 + [0.4] * 3)  # every yes above every no, and none told: ROC AUC 1, macro F1 .43
    tells = Stub([0.2] * 7 + [0.6, 0.9] + [0.9, 0.9, 0.1])  # two of three yes told: worse ranked, macro F1 .66
    always = Stub([0.6] * 12)  # balanced accuracy .5, accuracy .25
    options = [always, ranks, tells]
    assert baselines.best(data, options, lambda x: x) is ranks
    assert baselines.best(data, options, lambda x: x, "macro_f1") is tells
    assert baselines.best(data, [always, tells], lambda x: x, "accuracy") is tells
    assert ranks.weights is None
    assert baselines.best(data, options, lambda x: x, "balanced_accuracy") is tells
    assert tells.weights[:9].sum() == pytest.approx(tells.weights[9:].sum())


def test_texts_may_have_their_classes_weighted_where_macro_f1_is_what_counts():
    rng = np.random.default_rng(0)

    def split(n):
        labels = (rng.random(n) < 0.1).astype(int)
        odds = [np.where(label, [0.3, 0.45, 0.25], [0.4, 0.45, 0.15]) for label in labels]
        return Split([" ".join(rng.choice(["plain", "word", "odd"], size=6, p=p)) for p in odds], labels)

    made = Data(split(600), split(600), split(600), ("no", "yes"), "made", "none")
    name, scores = baselines.words_by_f1(made)
    assert "weighted classes" in name  # unweighted, hardly one rare text is told
    plain = baselines.words(made)[1]
    told = [(f(made.validation.inputs).argmax(1) == 1).sum() for f in (scores, plain)]
    assert told[0] > told[1]


def test_a_teacher_tells_of_each_row_what_it_was_fitted_without():
    labels = np.array([0] * 30 + [1] * 12)
    inputs = [f"row {k}" for k in range(42)]

    def remembering(data):
        known = dict(zip(data.train.inputs, data.train.labels, strict=True))
        assert 30 < len(known) < 36  # four parts of five
        assert min(np.bincount(data.train.labels)) >= 9  # of either class
        return "memory", lambda rows: np.array([np.eye(2)[known[row]] if row in known else [0.25, 0.75] for row in rows])

    split = Split(inputs, labels)
    told = baselines.unseen(remembering, Data(split, split, split, ("no", "yes"), "made", "none"))
    assert (told == [0.25, 0.75]).all()
