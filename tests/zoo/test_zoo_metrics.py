"""Differences and intervals as records hold them."""

from __future__ import annotations

import numpy as np
import pytest

from zoo import metrics


def sample(n=300, classes=4, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, n)
    logits = generator.normal(size=(n, classes)).round(1)  # rounded: ties among the scores
    logits[np.arange(n), labels] += 1.0
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return labels, probabilities


def test_accuracy_interval_is_the_binomial_one():
    labels, probabilities = sample(1000)
    found = metrics.intervals(labels, probabilities)["accuracy"]
    half = 1.96 * np.sqrt(found["value"] * (1 - found["value"]) / 1000)
    assert found["high"] - found["low"] == pytest.approx(2 * half, rel=0.1)
    assert found["low"] < found["value"] < found["high"]


def test_difference_to_itself_is_nothing_and_a_better_model_beats():
    labels, probabilities = sample(500)
    same = metrics.difference(labels, probabilities, probabilities, "accuracy")
    assert (same["value"], same["low"], same["high"]) == (0, 0, 0)
    assert metrics.standing(same) == "ties with"
    perfect = np.eye(4)[labels]
    assert metrics.standing(metrics.difference(labels, perfect, probabilities, "accuracy")) == "beats"
    assert metrics.standing(metrics.difference(labels, probabilities, perfect, "accuracy")) == "falls short of"


def test_confusion_has_the_true_class_in_rows():
    assert metrics.confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 3) == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
