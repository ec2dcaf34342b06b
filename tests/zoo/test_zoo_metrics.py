"""Metrics against scikit-learn, and intervals that hold what they should."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss, roc_auc_score

from zoo import metrics


def sample(n=300, classes=4, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, n)
    logits = generator.normal(size=(n, classes)).round(1)  # rounded: ties among the scores
    logits[np.arange(n), labels] += 1.0
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return labels, probabilities


@pytest.mark.parametrize("classes", [2, 4])
def test_point_values_equal_scikit_learn(classes):
    labels, probabilities = sample(classes=classes)
    found = {name: float(value[0]) for name, value in metrics.measure(labels, probabilities).items()}
    predicted = probabilities.argmax(1)
    area = roc_auc_score(labels, probabilities[:, 1]) if classes == 2 else roc_auc_score(labels, probabilities, multi_class="ovr")
    expected = {
        "accuracy": (predicted == labels).mean(),
        "balanced_accuracy": balanced_accuracy_score(labels, predicted),
        "macro_f1": f1_score(labels, predicted, average="macro"),
        "roc_auc": area,
        "log_loss": log_loss(labels, probabilities),
    }
    assert {k: found[k] for k in expected} == pytest.approx(expected)


def test_weights_count_rows_as_repeating_them_would():
    labels, probabilities = sample(60)
    counts = np.random.default_rng(1).integers(0, 4, 60)
    weighted = metrics.measure(labels, probabilities, counts[None].astype(float))
    repeated = metrics.measure(np.repeat(labels, counts), np.repeat(probabilities, counts, axis=0))
    for name in metrics.CLASSES:
        assert weighted[name][0] == pytest.approx(repeated[name][0]), name


def test_calibration_error_of_a_known_case():
    probabilities = np.array([[0.2, 0.8]] * 10)
    labels = np.array([1] * 6 + [0] * 4)
    assert metrics.measure(labels, probabilities)["ece"][0] == pytest.approx(0.2)


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
