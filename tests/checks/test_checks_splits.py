"""Groups, times and copies on both sides of a split, and rows in an order."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import datasets

from explainer.checks.order import runs, serial

spec = importlib.util.spec_from_file_location("checks_clean_splits", Path(__file__).parent / "conftest.py")
clean = importlib.util.module_from_spec(spec)
spec.loader.exec_module(clean)

SEEDS = range(20)
MAKE = {"tabular": clean.table, "image": clean.images, "text": clean.texts, "series": clean.series}


def split(n, seed=0):
    return np.random.default_rng(seed).choice(["train", "validation", "test"], n, p=[0.6, 0.2, 0.2])


def patients(n=400, seed=0):
    """A patient's rows all on one side."""
    rng = np.random.default_rng(seed)
    patient = rng.integers(0, 80, n)
    return patient, np.array(["train", "train", "test"])[rng.integers(0, 3, 80)][patient]


def test_a_patient_on_both_sides_is_found(found):
    for seed in SEEDS:
        frame = clean.table(seed=seed)
        patient, sides = patients(seed=seed)
        groups = {"patient": patient, "sex": np.where(patient % 2, "f", "m")}
        assert found("leakage by group", frame, groups=groups, splits=sides).state == "pass", seed
        row = int(np.flatnonzero(sides == "test")[seed])
        moved = patient.copy()
        moved[row] = patient[np.flatnonzero(sides == "train")[0]]
        finding = found("leakage by group", frame, groups={"patient": moved}, splits=sides)
        assert (finding.state, finding.rows, finding.columns) == ("fail", (row,), ("patient",))
        assert finding.evidence["patient"]["values"] == [str(moved[row])]


def test_a_column_named_as_a_persons_number_is_taken_where_no_group_is_given(found):
    patient, sides = patients()
    frame = clean.table().assign(patient_id=patient)
    assert found("leakage by group", frame, splits=sides).state == "pass"
    finding = found("leakage by group", frame, splits=split(400))
    assert finding.state == "fail"
    assert finding.columns == ("patient_id",)
    assert found("leakage by group", clean.table(), splits=sides).state == "not run"


def test_a_group_in_data_and_reference(found):
    patient, sides = patients()
    frame = clean.table().assign(patient=[f"p{v}" for v in patient])
    train, test = frame[sides == "train"], frame[sides == "test"]
    assert found("leakage by group", test, groups="patient", reference=train).state == "pass"
    both = pd.concat([test, train.iloc[:2]], ignore_index=True)
    finding = found("leakage by group", both, groups="patient", reference=train)
    assert finding.rows == (len(test), len(test) + 1)


def test_kinds_such_as_sex_are_no_leak_and_are_said_not_to_be_judged(found):
    finding = found("leakage by group", clean.table(), groups={"sex": clean.halves(400)}, splits=split(400))
    assert finding.state == "not run"
    assert "sex" in finding.message
    assert found("leakage by group", clean.table(), groups={"sex": clean.halves(400)}).state == "not run"


@pytest.mark.parametrize("dates", [False, True])
def test_a_test_item_from_before_the_end_of_training_is_found(dates, found):
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        day = rng.permutation(400)
        sides = np.where(day < 300, "train", "test")
        time = pd.to_datetime("2020-01-01") + pd.to_timedelta(day, unit="D") if dates else day
        frame = clean.table(seed=seed)
        assert found("leakage by time", frame, time=time, splits=sides).state == "pass"
        row = int(np.flatnonzero(day == 299 - seed)[0])
        sides[row] = "test"
        if seed:  # the very last item of training, moved, leaves the order whole
            finding = found("leakage by time", frame, time=time, splits=sides)
            assert (finding.state, finding.rows) == ("fail", (row,))
    assert found("leakage by time", frame, splits=sides).state == "not run"
    assert found("leakage by time", frame, time=time).state == "not run"


def test_time_against_a_reference_set_by_the_column_both_have(found):
    frame = clean.table().assign(day=pd.date_range("2020-01-01", periods=400).strftime("%Y-%m-%d"))
    train, test = frame.iloc[:300], frame.iloc[300:]
    assert found("leakage by time", test, reference=train, time="day").state == "pass"
    assert found("leakage by time", train.iloc[290:], reference=train, time="day").count == 9
    assert found("leakage by time", test, reference=train.drop(columns="day"), time="day").state == "not run"


@pytest.mark.parametrize("modality", MAKE)
def test_copies_and_near_copies_across_splits(modality, found):
    for seed in range(5):
        data = MAKE[modality](150, seed=seed)
        sides = split(150, seed)
        assert found("overlap between splits", data, splits=sides).state == "pass", seed
        near = clean_near(data, 7)
        both = joined(joined(data, taken(data, [3])), near)
        sides = np.append(sides, [other(sides[3]), other(sides[7])])
        finding = found("overlap between splits", both, splits=sides)
        assert finding.state == "fail", finding.message
        expected = {(150 if sides[150] != "train" else 3), (151 if sides[151] != "train" else 7)}
        assert expected <= set(finding.rows) <= {3, 7, 150, 151}
        assert (finding.evidence["equal"], finding.evidence["nearly"]) >= (1, 1)


def other(side):
    return "test" if side == "train" else "train"


def taken(data, rows):
    return data.iloc[rows] if isinstance(data, pd.DataFrame) else data[rows] if isinstance(data, np.ndarray) else [data[i] for i in rows]


def joined(a, b):
    if isinstance(a, pd.DataFrame):
        return pd.concat([a, b], ignore_index=True)
    return np.concatenate([a, b]) if isinstance(a, np.ndarray) else [*a, *b]


def clean_near(data, row):
    if isinstance(data, pd.DataFrame):
        numbers = [c for c in data.columns if data[c].dtype.kind == "f"]
        return data.iloc[[row]].assign(**{c: data[c].iloc[row] * (1 + 1e-6) for c in numbers})
    one = data[row]
    return [one.upper()] if isinstance(one, str) else one[None] * 0.9 if isinstance(data, np.ndarray) else [one + 0.001]


def test_copies_within_one_split_or_without_splits_are_no_overlap(found):
    frame = clean.table()
    both = pd.concat([frame, frame.iloc[:3]], ignore_index=True)
    sides = np.array(["train"] * 300 + ["test"] * 100 + ["train"] * 3)
    assert found("overlap between splits", both, splits=sides).state == "pass"
    assert found("overlap between splits", both).state == "not run"
    assert found("overlap between splits", both, splits=["train"] * 403).state == "not run"


def test_coarse_rows_repeat_by_chance_across_splits(found):
    coarse = pd.DataFrame(np.random.default_rng(0).integers(0, 3, size=(300, 3)))
    assert found("overlap between splits", coarse, splits=split(300)).state == "pass"


def test_copies_across_splits_are_found_where_near_ones_cannot_be_looked_for(found):
    rng = np.random.default_rng(0)
    line = pd.DataFrame({"amount": rng.normal(size=300), "fee": rng.choice([0.0, 5.0], 300, p=[0.98, 0.02])})
    both = pd.concat([line, line.iloc[:3]], ignore_index=True)
    finding = found("overlap between splits", both, splits=["train"] * 300 + ["test"] * 3)
    assert finding.state == "fail"
    assert finding.count == 3
    assert "Near-copies were not looked for" in finding.message
    none = found("overlap between splits", line, splits=split(300))
    assert none.state == "pass"
    assert "or is nearly" not in none.message
    assert "Near-copies were not looked for" in none.message


def test_shuffled_rows_show_no_order(found):
    wrong = []
    for seed in SEEDS:
        for modality, make in MAKE.items():
            if modality == "image" and seed >= 5:
                continue
            finding = found("order of rows", make(150, seed=seed), clean.halves(150, seed))
            wrong += [(seed, modality, finding.message)] if finding.state == "fail" else []
    assert not wrong


ORDERS = {
    "sorted by label": lambda f, y, rng: (f.iloc[np.argsort(y, kind="stable")], np.sort(y), "the label"),
    "blocks of labels": lambda f, y, rng: (f, np.repeat(rng.integers(0, 2, 20), 20), "the label"),
    "sorted by a number": lambda f, y, rng: (f.sort_values("income"), y, "'income'"),
    "a trend in a number": lambda f, y, rng: (f.assign(n0=f["n0"] + f["n0"].std() * np.linspace(0, 2, len(f))), y, "'n0'"),
    "blocks of a kind": lambda f, y, rng: (f.assign(city=np.repeat(rng.choice(["Roma", "Paris", "Oslo"], 40), 10)), y, "'city'"),
    "waves": lambda f, y, rng: (f.assign(n1=f["n1"] + f["n1"].std() * np.sin(np.arange(len(f)) / 8)), y, "'n1'"),
}


@pytest.mark.parametrize("how", ORDERS)
def test_rows_in_an_order(how, found):
    hits = 0
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        frame, labels, what = ORDERS[how](clean.table(seed=seed), clean.halves(400, seed), rng)
        finding = found("order of rows", frame, labels)
        hits += finding.state == "fail" and any(t["what"] == what for t in finding.evidence["tests"])
    assert hits >= 19, hits


def test_real_sets_sorted_by_class_are_said_to_be_and_shuffled_ones_are_not(found):
    for load in (datasets.load_iris, datasets.load_wine):
        bunch = load(as_frame=True)
        assert "the label comes in runs" in found("order of rows", bunch.data, bunch.target).message
        mixed = np.random.default_rng(0).permutation(len(bunch.data))
        assert found("order of rows", bunch.data.iloc[mixed], bunch.target.iloc[mixed]).state == "pass"


def test_a_table_of_dates_and_numbers_of_rows_alone_is_in_no_order_that_matters(found):
    frame = clean.table().assign(id=np.arange(400), day=pd.date_range("2020-01-01", periods=400))
    assert found("order of rows", frame).state == "pass"
    assert found("order of rows", frame.iloc[:20]).state == "not run"
    assert found("order of rows", frame[["id", "day"]]).state == "not run"


def test_the_order_tests_keep_their_level():
    """p-values of shuffled rows, tied or not, are below 0.05 about one time in twenty; runs have the mean and variance of shuffling."""
    rng = np.random.default_rng(0)
    p = {"serial": [serial(x)[0]["p"] for _ in range(600) for x in (rng.normal(size=200), rng.integers(0, 4, 200).astype(float))]}
    p["runs"] = [runs(rng.choice(3, 200, p=[0.6, 0.3, 0.1]))[0]["p"] for _ in range(1200)]
    for name, values in p.items():
        assert (np.array(values) < 0.05).mean() < 0.07, name
    codes = rng.choice(3, 200, p=[0.6, 0.3, 0.1])
    counts = np.array([1 + (np.diff(rng.permutation(codes)) != 0).sum() for _ in range(4000)])
    expected = stats.norm.cdf((counts[0] - counts.mean()) / counts.std())
    order = next(c for c in (rng.permutation(codes) for _ in range(10_000)) if 1 + (np.diff(c) != 0).sum() == counts[0])
    assert runs(order)[0]["p"] == pytest.approx(expected, abs=0.03)


def test_of_very_many_rows_stretches_are_looked_at(monkeypatch, found):
    from explainer.checks import order

    monkeypatch.setattr(order, "ROWS_MOST", 1000)
    monkeypatch.setattr(order, "STRETCH", 100)
    rows = order._stretches(5000)
    assert len(rows) == 1000 and rows[0] == 0 and rows[-1] == 4999 and rows[99] == 99
    frame = clean.table(5000)
    assert found("order of rows", frame).state == "pass"
    finding = found("order of rows", frame.assign(n0=frame["n0"] + frame["n0"].std() * np.sin(np.arange(5000) / 8)))
    assert finding.columns == ("n0",)
    assert "1,000 of 5,000 were looked at" in finding.message
