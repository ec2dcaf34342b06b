"""Figures against scikit-learn, and intervals against the truth they should hold."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics as judged

from explainer import metrics
from explainer.metrics import wilson


def sample(n: int = 300, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, n)
    logits = generator.normal(size=(n, classes)).round(1)  # rounded: ties among the scores
    logits[np.arange(n), labels] += 1.0
    return labels, np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 4])
def test_classes_as_scikit_learn_judges_them(classes: int) -> None:
    labels, probabilities = sample(classes=classes)
    found = {name: float(value[0]) for name, value in metrics.measure(labels, probabilities).items()}
    predicted, truth = probabilities.argmax(1), np.eye(classes)[labels]
    area = judged.roc_auc_score(labels, *([probabilities[:, 1]] if classes == 2 else [probabilities]), multi_class="ovr")
    assert found.pop("ece") > 0  # by hand below
    assert found == pytest.approx(
        {
            "accuracy": judged.accuracy_score(labels, predicted),
            "balanced_accuracy": judged.balanced_accuracy_score(labels, predicted),
            "macro_f1": judged.f1_score(labels, predicted, average="macro"),
            "roc_auc": area,
            "log_loss": judged.log_loss(labels, probabilities),
            "brier": ((probabilities - truth) ** 2).sum(1).mean(),
        }
    )


def test_numbers_as_scikit_learn_judges_them_also_far_from_nought() -> None:
    rng = np.random.default_rng(0)
    labels = 1e7 + rng.normal(size=200)
    estimates = labels + rng.normal(scale=0.5, size=200)
    found = {name: float(value[0]) for name, value in metrics.measure(labels, estimates[:, None]).items()}
    assert found == pytest.approx(
        {
            "r2": judged.r2_score(labels, estimates),
            "mae": judged.mean_absolute_error(labels, estimates),
            "rmse": judged.root_mean_squared_error(labels, estimates),
        },
        rel=1e-6,
    )


def test_weights_count_rows_as_repeating_them_would() -> None:
    counts = np.random.default_rng(1).integers(0, 4, 60)
    for labels, predictions in (sample(60), sample(60, classes=2), (np.arange(60.0), np.arange(60.0)[:, None] ** 0.9)):
        weighted = metrics.measure(labels, predictions, counts[None].astype(float))
        repeated = metrics.measure(np.repeat(labels, counts), np.repeat(predictions, counts, axis=0))
        for name, value in weighted.items():
            assert value[0] == pytest.approx(repeated[name][0]), name


def test_calibration_error_of_a_known_case() -> None:
    probabilities = np.array([[0.2, 0.8]] * 10)
    labels = np.array([1] * 6 + [0] * 4)
    assert metrics.measure(labels, probabilities)["ece"][0] == pytest.approx(0.2)


def test_what_a_resample_does_not_hold_is_left_out_of_the_mean() -> None:
    """Of three classes the third is in no row: its recall and its area are of nothing."""
    labels, probabilities = np.array([0, 0, 1, 1]), np.eye(3)[[0, 1, 1, 1]] * 0.7 + 0.1
    found = metrics.measure(labels, probabilities)
    assert found["balanced_accuracy"][0] == pytest.approx((0.5 + 1) / 2)
    assert found["roc_auc"][0] == pytest.approx((0.75 + 0.75) / 2)
    alone = metrics.measure(np.zeros(4, dtype=int), probabilities[:, :2])
    assert np.isnan(alone["roc_auc"][0])


def test_wilson_against_published_values_and_scipy() -> None:
    """Newcombe 1998, Statistics in Medicine 17, table I: 81 of 263, and 0 of 20; Brown, Cai and DasGupta 2001: 50 of 100."""
    low, high = wilson(np.array([81, 0, 50]), np.array([263, 20, 100]))
    np.testing.assert_allclose(low, [0.2553, 0.0, 0.4038], atol=5e-5)
    np.testing.assert_allclose(high, [0.3662, 0.1611, 0.5962], atol=5e-5)
    for hits, n in ((8, 10), (0, 1), (1, 1), (999_999, 1_000_000)):
        theirs = binomtest(hits, n).proportion_ci(method="wilson")
        assert wilson(hits, n) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert wilson(0, 0) == (0.0, 1.0)


def test_bootstrap_and_wilson_intervals_hold_the_truth_about_19_times_in_20() -> None:
    truth, n, trials = 0.8, 150, 200
    rng = np.random.default_rng(3)
    inside = {"bootstrap": 0, "wilson": 0}
    for trial in range(trials):
        hits = rng.random(n) < truth
        probabilities = np.where(hits[:, None], [0.9, 0.1], [0.1, 0.9])
        _, *ends = metrics.intervals(np.zeros(n, dtype=int), probabilities, trial, 200)["accuracy"]
        for name, (low, high) in (("bootstrap", ends), ("wilson", wilson(hits.sum(), n))):
            inside[name] += low <= truth <= high
    assert 0.89 <= inside["bootstrap"] / trials <= 0.99
    assert 0.91 <= inside["wilson"] / trials <= 0.99


def test_a_share_without_an_error_is_not_sure_to_have_none() -> None:
    """A model that is right 99 times in 100 is often without an error on 60 rows; its interval must hold .99 all the same."""
    n, trials, inside = 60, 200, 0
    rng = np.random.default_rng(0)
    for trial in range(trials):
        wrong = rng.random(n) < 0.01
        labels = rng.integers(0, 2, n)
        probabilities = np.eye(2)[np.where(wrong, 1 - labels, labels)]
        _, low, high = metrics.intervals(labels, probabilities, trial, 200)["accuracy"]
        inside += low <= 0.99 <= high
    assert inside / trials >= 0.93  # 0.45 where a resample of right rows is taken at its word

    labels = np.repeat([0, 1], [90, 10])
    found = metrics.intervals(labels, np.eye(2)[labels])
    z2 = 1.959964**2
    assert found["accuracy"] == pytest.approx((1, 100 / (100 + z2), 1))
    assert found["balanced_accuracy"] == pytest.approx((1, 20 / (20 + z2), 1))  # ten rows for each of two classes
    assert found["roc_auc"] == pytest.approx((1, 10 / (10 + z2), 1))  # ten rows are all that is known of the second class
    assert found["brier"] == (0, 0, 0)


def test_large_sets_are_drawn_in_parts_to_the_same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, probabilities = sample(80)
    whole = metrics.intervals(labels, probabilities, 1, 50)
    monkeypatch.setattr(metrics, "_CELLS", 80 * 7)
    parted = metrics.intervals(labels, probabilities, 1, 50)
    assert {name: pytest.approx(parted[name]) for name in parted} == whole
    assert metrics.intervals(labels, probabilities, 2, 50) != whole
