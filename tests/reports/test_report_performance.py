from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics as sk

from explainer.reports import judgements, performance


def made(n: int, k: int, seed: int, sharpness: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and labels drawn from them: a perfectly calibrated model."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, k)) * sharpness
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (rng.random((n, 1)) > np.cumsum(p, axis=1)).sum(1).clip(0, k - 1)
    return labels, p


@pytest.mark.parametrize("k", [2, 4])
def test_metrics_equal_those_of_scikit_learn(k: int) -> None:
    labels, p = made(400, k, seed=1)
    p = np.round(p, 2)  # ties, so that they count half
    p /= p.sum(1, keepdims=True)
    found = {m["name"]: m["value"] for m in performance.classification(labels, p, [str(i) for i in range(k)], 0)["metrics"]}
    predicted = p.argmax(1)
    area = sk.roc_auc_score(labels, p[:, 1]) if k == 2 else sk.roc_auc_score(labels, p, multi_class="ovr", average="macro")
    expected = {
        "accuracy": sk.accuracy_score(labels, predicted), "balanced_accuracy": sk.balanced_accuracy_score(labels, predicted),
        "macro_f1": sk.f1_score(labels, predicted, average="macro"), "roc_auc": area, "log_loss": sk.log_loss(labels, p.clip(1e-15, 1)),
        "brier": ((p - np.eye(k)[labels]) ** 2).sum(1).mean(),
    }  # fmt: skip
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-6), name


@pytest.mark.parametrize("k", [2, 4])
def test_each_class_against_the_rest_equals_scikit_learn(k: int) -> None:
    labels, p = made(400, k, seed=2)
    names, predicted = [f"c{i}" for i in range(k)], p.argmax(1)
    found = performance.classification(labels, p, names, 0)
    recall = sk.recall_score(labels, predicted, average=None)
    precision = sk.precision_score(labels, predicted, average=None)
    for i, row in enumerate(found["by_class"]):
        (tn, fp), (fn, tp) = sk.confusion_matrix(labels == i, predicted == i)
        assert row["class"] == names[i]
        assert (row["sensitivity"], row["ppv"]) == (pytest.approx(recall[i]), pytest.approx(precision[i]))
        assert (row["specificity"], row["npv"]) == (pytest.approx(tn / (tn + fp)), pytest.approx(tn / (tn + fn)))
        assert [row[f"{kind}_n"] for kind in ("sensitivity", "specificity", "ppv", "npv")] == [tp + fn, tn + fp, tp + fp, tn + fn]
        bounds = binomtest(int(tp), int(tp + fn)).proportion_ci(method="wilson")
        assert (row["sensitivity_low"], row["sensitivity_high"]) == pytest.approx((bounds.low, bounds.high))
    assert ("threshold of 0.5 on the probability of 'c1'" in found["decision"]) == (k == 2)
    area = next(m["title"] for m in found["metrics"] if m["name"] == "roc_auc")
    assert ("unweighted one-vs-rest mean" in area) == (k > 2)


def test_a_class_that_is_never_predicted_has_no_predictive_value() -> None:
    row = performance.by_class(np.repeat([0, 1], [5, 3]), np.zeros(8, dtype=int), ["a", "b"])[1]
    assert row["ppv"] is None and row["ppv_n"] == 0 and row["sensitivity"] == 0 and row["npv"] == 5 / 8


def test_a_baseline_that_is_better_on_a_metric_is_an_outcome() -> None:
    record = {
        "metrics": {"accuracy": {"value": 0.924, "low": 0.9}, "roc_auc": 0.911, "log_loss": 0.21, "parameters": 7},
        "baseline": {"name": "boosting", "metrics": {"accuracy": {"value": 0.94}, "roc_auc": 0.908, "log_loss": 0.19}},
        "against_baseline": {"metric": "roc_auc", "standing": "ties with"},
    }
    found = judgements.baseline(record)
    assert (
        found["status"] == "warn"
        and "(boosting) is better than the model on 2 of 3 metrics: Accuracy (0.94 against 0.924), Log loss" in found["text"]
    )
    assert "ROC AUC (" not in found["text"] and "On ROC AUC the model ties with it" in found["text"]
    record["baseline"]["metrics"] = {"accuracy": 0.9, "log_loss": 0.5}
    assert judgements.baseline(record)["status"] == "pass"
    for none in (None, {}, {"metrics": {"accuracy": 0.9}}, {"baseline": {"metrics": {"accuracy": 0.9}}}):
        assert judgements.baseline(none) is None


def test_regression_metrics_equal_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels = rng.normal(size=200)
    predictions = labels + rng.normal(scale=0.5, size=200)
    found = {m["name"]: m["value"] for m in performance.regression(labels, predictions, 0)["metrics"]}
    assert found["r2"] == pytest.approx(sk.r2_score(labels, predictions))
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(labels, predictions))
    assert found["rmse"] == pytest.approx(sk.root_mean_squared_error(labels, predictions))


def test_ece_by_hand() -> None:
    p = np.array([[0.75, 0.25]] * 4 + [[0.05, 0.95]] * 6)
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 0])
    # Of the second class: stated .25, share 0, weight .4; stated .95, share 5/6, weight .6.
    found = performance.calibration(labels, p, ["n", "y"], 0)
    assert found["ece"] == pytest.approx(0.4 * 0.25 + 0.6 * (0.95 - 5 / 6))
    assert (found["mean_stated"], found["mean_observed"]) == (pytest.approx(0.67), 0.5)
    assert found["z"] == pytest.approx((5 - 6.7) / np.sqrt(4 * 0.1875 + 6 * 0.0475))
    assert [(b["stated"], b["observed"], b["n"]) for b in found["bins"]] == [(0.25, 0.0, 4), (pytest.approx(0.95), pytest.approx(5 / 6), 6)]


def test_a_class_that_is_named_too_often_is_no_pass_though_the_predicted_one_looks_right() -> None:
    """Both sides of one half are pushed up by .1: errors of the predicted class cancel over its bins, those of the class do not."""
    rng = np.random.default_rng(0)
    truth = rng.random(4000)
    labels = (rng.random(4000) < truth).astype(int)
    stated = np.clip(truth + 0.1, 0, 1)
    probabilities = np.stack([1 - stated, stated], axis=1)
    found = performance.classification(labels, probabilities, ["no", "yes"], 0)
    of_predicted = next(m["value"] for m in found["metrics"] if m["name"] == "ece")
    assert found["calibration"]["ece"] == pytest.approx(0.095, abs=0.015) and of_predicted < found["calibration"]["ece"]
    (outcome,) = judgements.calibrated(found)
    assert outcome["status"] == "warn" and "'yes'" in outcome["text"]


def test_a_calibrated_model_stays_under_the_chance_level_and_an_overconfident_one_does_not() -> None:
    under = 0
    for seed in range(40):
        labels, p = made(300, 3, seed)
        found = performance.calibration(labels, p, ["a", "b", "c"], 0)
        under += found["ece"] <= found["chance"]
    assert under >= 34  # 38 expected
    labels, p = made(300, 3, 0)
    sharp = p**4 / (p**4).sum(1, keepdims=True)
    found = performance.calibration(labels, sharp, ["a", "b", "c"], 0)
    assert found["ece"] > 2 * found["chance"]


def test_one_class_only_gives_no_area_and_no_crash() -> None:
    p = np.full((20, 2), 0.5)
    p[:, 0] += 0.1
    p[:, 1] -= 0.1
    found = performance.classification(np.zeros(20, dtype=int), p, ["a", "b"], 0)
    assert "roc_auc" not in {m["name"] for m in found["metrics"]}
    assert found["confusion"] == [[20, 0], [0, 0]]


def test_same_seed_same_intervals_and_another_seed_others() -> None:
    labels, p = made(120, 2, 5)
    names = ["a", "b"]
    assert performance.classification(labels, p, names, 1)["metrics"] == performance.classification(labels, p, names, 1)["metrics"]
    assert performance.classification(labels, p, names, 1)["metrics"] != performance.classification(labels, p, names, 2)["metrics"]
