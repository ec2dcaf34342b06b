"""Permutation importance: scikit-learn's numbers, metrics by scikit-learn, intervals that hold, groups that belong together."""

from __future__ import annotations

import games
import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as judged
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.inspection import permutation_importance as sklearn_importance
from sklearn.linear_model import LogisticRegression

import explainer
from explainer.errors import InvalidInput, UnknownName, Unsupported
from explainer.inspection.metrics import METRICS
from explainer.inspection.permutation import PermutationImportance, permutation_importance

SCORERS = {
    "accuracy": "accuracy", "balanced_accuracy": "balanced_accuracy", "log_loss": "neg_log_loss", "roc_auc": "roc_auc_ovr",
    "r2": "r2", "squared_error": "neg_mean_squared_error", "absolute_error": "neg_mean_absolute_error",
}  # fmt: skip


def table(n: int = 120, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    data = games.frame(n, seed=seed)
    data["f"] = np.random.default_rng(seed).integers(0, 4, n)
    return data, np.digitize(data["a"] + data["f"] * data["b"], [-0.5, 1.0])


@pytest.mark.parametrize("metric", SCORERS)
def test_drops_are_scikit_learns_for_the_same_seed(metric):
    data, labels = table()
    forest = RandomForestClassifier if METRICS[metric].task == "classification" else RandomForestRegressor
    estimator = forest(8, random_state=0).fit(data[:60], labels[:60])
    theirs = sklearn_importance(estimator, data, labels, scoring=SCORERS[metric], n_repeats=4, random_state=7)
    ours = permutation_importance(explainer.wrap(estimator), data, labels, metric=metric, repeats=4, seed=7)
    np.testing.assert_allclose(ours.drops, theirs.importances, atol=1e-10)
    np.testing.assert_allclose(ours.values, theirs.importances_mean, atol=1e-10)
    scorer = judged.get_scorer(SCORERS[metric])
    assert ours.score == pytest.approx(abs(scorer(estimator, data, labels))) and ours.names == tuple(data.columns)
    assert ours.values.max() > 0.02


def test_the_metric_left_to_us_is_the_estimators_own():
    data, labels = table()
    for estimator in (RandomForestClassifier(5, random_state=0), RandomForestRegressor(5, random_state=0)):
        model = explainer.wrap(estimator.fit(data[:60], labels[:60]))
        found = permutation_importance(model, data, labels, repeats=1)
        assert found.score == pytest.approx(estimator.score(data, labels))


@pytest.mark.parametrize("metric", ["accuracy", "brier", "log_loss", "roc_auc", "balanced_accuracy"])
def test_two_classes_are_judged_as_scikit_learn_does(metric):
    rng = np.random.default_rng(0)
    p, y = rng.random(60).round(1), rng.integers(0, 2, 60)
    both = np.clip(np.c_[1 - p, p], 0.01, 0.99)
    theirs = {
        "accuracy": judged.accuracy_score(y, both.argmax(1)), "brier": judged.brier_score_loss(y, both[:, 1]),
        "log_loss": judged.log_loss(y, both), "roc_auc": judged.roc_auc_score(y, both[:, 1]),
        "balanced_accuracy": judged.balanced_accuracy_score(y, both.argmax(1)),
    }  # fmt: skip
    assert METRICS[metric].sign * METRICS[metric].score(y, both) == pytest.approx(theirs[metric])


def test_the_intervals_hold_the_drop_of_a_large_table():
    def score(t):
        p = 1 / (1 + np.exp(-2 * t["a"] - t["b"]))
        return np.c_[1 - p, p]

    model = explainer.wrap(score, modality="tabular", feature_names=list("abc"), class_names=["no", "yes"])

    def draw(n, seed):
        rng = np.random.default_rng([9, seed])
        data = pd.DataFrame(rng.normal(size=(n, 3)), columns=list("abc"))
        return data, (rng.random(n) < score(data)[:, 1]).astype(int)

    for metric in ("log_loss", "roc_auc"):
        truth = permutation_importance(model, *draw(30_000, 0), metric=metric, repeats=2, rows=None).values
        found = [permutation_importance(model, *draw(150, seed), metric=metric, repeats=5) for seed in range(1, 41)]
        held = np.mean([(one.low <= truth) & (truth <= one.high) for one in found], axis=0)
        assert (held[:2] >= 0.85).all()
        assert np.std([one.values[0] for one in found]) == pytest.approx(np.mean([one.stderr[0] for one in found]), rel=0.35)
        assert all(one.values[2] == 0 == one.stderr[2] for one in found)


def test_columns_that_say_the_same_show_only_together():
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"a": rng.normal(size=300), "noise": rng.normal(size=300)})
    data["twin"] = data["a"]
    y = data["a"].to_numpy()
    # Either copy is enough for this model: the larger of both agrees with either.
    model = explainer.wrap(
        lambda t: np.where(np.abs(t["a"]) < 0.5, t["twin"], t["a"]).reshape(-1, 1), modality="tabular", task="regression",
        class_names=["y"], feature_names=["a", "noise", "twin"],
    )  # fmt: skip
    apart = permutation_importance(model, data, y)
    together = permutation_importance(model, data, y, groups={"both": ["a", "twin"]})
    assert together.names == ("both", "noise") and together.values[0] > 1.5
    assert apart.names == ("a", "noise", "twin") and apart.values[1] == together.values[1] == 0
    assert together.to_frame()["feature"].tolist() == ["both", "noise"]


def test_a_group_is_permuted_as_one():
    data = games.frame(80)
    model = games.regression(lambda x: x[:, 0] - x[:, 2])
    same = data.assign(c=data["a"])
    found = permutation_importance(model, same, np.zeros(80), metric="squared_error", groups={"pair": ["a", "c"]})
    assert found.names[0] == "pair" and (found.drops == 0).all()


def test_types_stay_and_progress_counts():
    data, _ = table(40)
    data["town"] = pd.Categorical(np.where(data["a"] > 0, "north", "south"))
    seen, done = [], []

    def score(t):
        seen.append(t.dtypes.to_dict())
        return np.c_[t["town"] == "north", t["town"] != "north"].astype(float)

    model = explainer.wrap(score, modality="tabular", feature_names=list(data.columns), class_names=["n", "s"])
    names = np.where(data["town"] == "north", "n", "s")
    found = explainer.permutation_importance(model, data, names, repeats=3, progress=lambda *now: done.append(now))
    assert all(types == data.dtypes.to_dict() for types in seen) and found.score == 1
    assert found.order[0] == 6 and found.values[6] > 0.3 and done[-1] == (40 * 22, 40 * 22) == (found.provenance.evaluations,) * 2


def test_rows_that_cannot_be_scored_are_left_out_and_said():
    data, _ = table(60)

    def score(t):
        return np.where(t["a"] > 2, np.nan, t["a"] + t["b"]).reshape(-1, 1)

    model = explainer.wrap(score, modality="tabular", feature_names=list(data.columns), task="regression", class_names=["y"])
    data.loc[3, "a"] = 2.5
    found = permutation_importance(model, data, data["a"] + data["b"])
    assert np.isfinite(found.values).all() and "could not be scored" in found.provenance.notes[0] and found.score == 1


def test_results_survive_disk(tmp_path):
    data, labels = table(40)
    model = explainer.wrap(LogisticRegression().fit(data, labels == 1))
    found = permutation_importance(model, data, labels == 1, repeats=2)
    back = PermutationImportance.load(found.save(tmp_path / "importance.json"))
    for name in ("names", "score", "metric", "rows", "provenance"):
        assert getattr(back, name) == getattr(found, name)
    for name in ("values", "stderr", "low", "high", "drops"):
        np.testing.assert_array_equal(getattr(back, name), getattr(found, name))


def test_a_metric_of_ones_own_and_rows_drawn():
    data, labels = table(200)
    model = explainer.wrap(RandomForestClassifier(5, random_state=0).fit(data, labels))
    own = permutation_importance(model, data, labels, metric=lambda y, p: np.mean(p.argmax(1) == y), rows=50, repeats=2)
    named = permutation_importance(model, data, labels, rows=50, repeats=2)
    np.testing.assert_array_equal(own.drops, named.drops)
    assert own.rows == 50 and own.metric == "<lambda>"


def test_misuse_is_answered():
    data, labels = table(30)
    model = explainer.wrap(LogisticRegression().fit(data, labels > 0), class_names=["low", "high"])
    for error, words, arguments in (
        (InvalidInput, "30 rows came with 3 labels", {"labels": [0, 1, 1]}),
        (InvalidInput, "must be known", {"labels": None}),
        (UnknownName, "label", {"labels": ["low"] * 29 + ["hihg"]}),
        (UnknownName, "label", {"labels": np.arange(30)}),
        (UnknownName, "metric", {"metric": "acuracy"}),
        (Unsupported, "is for regression", {"metric": "r2"}),
        (UnknownName, "column", {"groups": {"g": ["z"]}}),
        (InvalidInput, "two groups", {"groups": {"g": ["a"], "h": ["a"]}}),
        (InvalidInput, "repeats", {"repeats": 0}),
        (InvalidInput, "needs rows", {"data": None}),
    ):
        with pytest.raises(error, match=words):
            permutation_importance(model, **{"data": data, "labels": labels > 0, **arguments})
    with pytest.raises(InvalidInput, match="predicts numbers"):
        permutation_importance(games.regression(games.wavy), games.frame(3), ["x", "y", "z"])
