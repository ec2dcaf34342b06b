"""Nothing in the data makes a check raise, and no check vanishes: pass, fail, not run (why) or error."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import string

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from explainer.checks import catalogue
from explainer.checks.catalogue import Check, checks
from explainer.checks.columns import column_of
from explainer.checks.context import passed, percent
from explainer.checks.finding import STATES
from explainer.checks.run import check
from explainer.errors import Cancelled

RNG = np.random.default_rng(0)
QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def complete(findings, modality):
    """All checks are there, each with a state and a sentence, none of them broken, and all of it is JSON."""
    assert sorted(f.check for f in findings) == sorted(c.name for c in checks(modality) if not c.asked)
    assert not findings.of("error"), [f.message for f in findings.of("error")]
    assert all(f.state in STATES and f.message.strip() for f in findings)
    assert all(row >= 0 for f in findings for row in f.rows)
    assert all(len(f.rows) <= 100 for f in findings)
    document = json.loads(findings.to_json())
    assert len(document["findings"]) == len(findings.to_frame()) == len(findings)


SCALARS = (st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=8), st.binary(max_size=3))
RARER = (st.datetimes(), st.dates(), st.decimals(), st.lists(st.integers(), max_size=2), st.complex_numbers())
CELL = st.one_of(*SCALARS, *RARER, st.sampled_from([pd.NA, pd.NaT, object()]))


@QUICK
@given(st.integers(0, 4).flatmap(lambda c: st.lists(st.lists(CELL, min_size=c, max_size=c), max_size=40)), st.booleans())
def test_arbitrary_tables(rows, labelled):
    frame = pd.DataFrame(rows)
    labels = [row[0] if row else None for row in rows] if labelled else None
    complete(check(frame, labels, modality="tabular", reference=frame), "tabular")


@QUICK
@given(st.lists(st.one_of(st.text(max_size=30), st.none(), st.floats(), st.integers(), st.binary(max_size=4)), max_size=40))
def test_arbitrary_texts(texts):
    complete(check(texts, [0] * len(texts), modality="text", reference=texts), "text")


SMALL = st.tuples(st.integers(0, 4), st.integers(0, 3)).map(lambda shape: RNG.normal(size=shape))
ODD = st.one_of(
    SMALL, st.none(), st.text(max_size=3), st.lists(st.floats(), max_size=5), SMALL.map(lambda a: a * np.nan), SMALL.map(lambda a: a * 0)
)


@QUICK
@given(st.lists(ODD, max_size=30))
def test_arbitrary_series(series):
    complete(check(series, list(range(len(series))), modality="series", reference=series), "series")


@QUICK
@given(st.lists(ODD, max_size=30))
def test_arbitrary_images(images):
    complete(check(images, [i % 2 for i in range(len(images))], modality="image", reference=images), "image")


@QUICK
@given(st.binary(max_size=300), st.sampled_from(["csv", "jsonl", "npz", "parquet", "png", "jpg", "tsv"]))
def test_arbitrary_bytes_in_a_file(tmp_path_factory, content, suffix):
    path = tmp_path_factory.mktemp("file") / f"data.{suffix}"
    path.write_bytes(content)
    findings = check(path)
    complete(findings, findings.modality)


N = 60
COLUMNS = {
    "all missing": [np.nan] * N,
    "nearly all missing": [*[np.nan] * (N - 1), 1.0],
    "mixed": [1, "two", 3.0, None, True, dt.date(2020, 1, 1)] * 10,
    "bool": pd.Series([True, False] * 30),
    "nullable bool": pd.Series([True, None, False] * 20, dtype="boolean"),
    "nullable int": pd.Series([1, None, 3] * 20, dtype="Int64"),
    "nullable float": pd.Series([1.5, None, 3] * 20, dtype="Float64"),
    "nullable string": pd.Series(["a", None, "b"] * 20, dtype="string"),
    "categorical": pd.Categorical(["x", "y", None] * 20),
    "ordered": pd.Categorical(["low", "high"] * 30, categories=["low", "high"], ordered=True),
    "date": pd.date_range("2020-01-01", periods=N),
    "zoned date": pd.date_range("2020-01-01", periods=N, tz="Europe/Rome"),
    "missing date": pd.Series([pd.NaT, pd.Timestamp("2020-01-01")] * 30),
    "duration": pd.to_timedelta(np.arange(N), unit="h"),
    "period": pd.period_range("2020-01", periods=N, freq="M"),
    "interval": pd.interval_range(0, N),
    "decimal": [decimal.Decimal("1.5"), decimal.Decimal("NaN"), None] * 20,
    "list": [[1, 2], [3], None] * 20,
    "complex": np.arange(N) * 1j,
    "huge": pd.Series([10**400, 2, 3] * 20, dtype=object),
    "big ids": [2**63 - 1 - i for i in range(N)],
    "unicode": pd.Series(["Zoë", "zoe", "\u200bZoë", "日本", "🙂", "\ud800"] * 10, dtype=object),
    "infinite": [np.inf, -np.inf, 0.0] * 20,
    "sparse": pd.arrays.SparseArray([0.0, 0.0, 1.0] * 20),
    "empty text": ["", " ", "x"] * 20,
    "arrow": pd.Series(["a", None, "b"] * 20, dtype=pd.ArrowDtype(__import__("pyarrow").string())),
    "arrow int": pd.Series([1, None, 2] * 20, dtype=pd.ArrowDtype(__import__("pyarrow").int64())),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_column_of_any_type_alone_and_beside_others(kind):
    for frame in (pd.DataFrame({kind: COLUMNS[kind]}), pd.DataFrame({"a": RNG.normal(size=N), kind: COLUMNS[kind], "b": range(N)})):
        before = frame.copy(deep=True)
        complete(check(frame, [0, 1] * 30, reference=frame.iloc[:40], reference_labels=[0, 1] * 20), "tabular")
        pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize("kind", COLUMNS)
def test_labels_of_any_type(kind):
    complete(check(RNG.normal(size=(N, 2)), COLUMNS[kind]), "tabular")


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame(),
        pd.DataFrame({"a": []}),
        pd.DataFrame(index=range(5)),
        pd.DataFrame({"a": [1.0]}),
        pd.DataFrame({"a": [np.nan]}),
        pd.DataFrame([[1, 2], [3, 4]], columns=["same", "same"]),
        pd.DataFrame([[1, 2], [3, 4]], columns=pd.MultiIndex.from_tuples([("a", 1), ("a", 2)])),
        pd.DataFrame({0: [1, 2], None: [3, 4]}),
        pd.DataFrame(np.nan, index=range(200), columns=list("abc")),
    ],
    ids=["nothing", "no rows", "no columns", "one cell", "one missing cell", "equal names", "two-level names", "odd names", "all missing"],
)
def test_tables_of_odd_shape(frame):
    complete(check(frame), "tabular")


@pytest.mark.parametrize("modality", ["image", "text", "series"])
def test_no_items_at_all(modality):
    findings = check([], modality=modality)
    complete(findings, modality)
    assert [f.check for f in findings.of("fail")] == ["number of items"]


def test_missingness_of_every_kind_is_counted():
    for kind in ("nullable int", "nullable string", "categorical", "arrow", "decimal"):
        column = column_of("c", pd.Series(COLUMNS[kind]))
        assert column.missing.sum() >= 20, kind
    assert column_of("c", pd.Series(COLUMNS["empty text"])).missing.sum() == 40
    assert column_of("c", pd.Series(COLUMNS["bool"])).missing.sum() == 0


def test_equal_values_of_other_types_are_equal_rows():
    whole, real = pd.DataFrame({"a": [1, 2] * 20, "b": range(40)}), pd.DataFrame({"a": [1.0, 2.0] * 20, "b": [float(i) for i in range(40)]})
    finding = check(whole, reference=real, only=["overlap, exact"])[0]
    assert finding.state == "fail" or "coincidence" in finding.message
    assert finding.count == 40


def test_a_check_that_breaks_is_an_error_by_name_and_the_others_still_run(monkeypatch):
    def breaks(context):
        raise ZeroDivisionError("the divisor was nought")

    broken = Check("broken check", ("tabular",), breaks, "why", "advice")
    monkeypatch.setattr(catalogue, "CHECKS", (broken, *catalogue.CHECKS))
    findings = check(np.arange(120.0).reshape(40, 3))
    assert [f.check for f in findings.of("error")] == ["broken check"]
    assert "ZeroDivisionError: the divisor was nought" in findings.of("error")[0].message
    assert not findings.ok
    assert findings.of("pass")


def test_what_is_missing_for_a_check_is_said():
    findings = {f.check: f for f in check(RNG.normal(size=(50, 3)))}
    assert findings["class balance"].message == "Not run: No labels were given."
    assert "reference" in findings["drift"].message
    assert "model" in findings["fits the model"].message
    assert all(findings[n].state == "not run" for n in ("class balance", "drift", "fits the model", "label drift", "group sizes"))


def test_findings_come_worst_first_and_are_counted():
    frame = pd.DataFrame({"a": [1.0] * 50, "b": RNG.normal(size=50)})
    findings = check(frame)
    order = [STATES.index(f.state) for f in findings]
    assert order == sorted(order)
    assert sum(findings.counts.values()) == len(findings)
    assert findings[0].check == "constant columns"


def test_rows_are_capped_and_counted():
    finding = check(pd.DataFrame({"a": [np.nan] * 300 + [1.0] * 300, "b": RNG.normal(size=600)}), only=["missing values"])[0]
    assert (len(finding.rows), finding.count) == (100, 300)


def test_progress_is_told_and_may_stop_the_work():
    seen = []
    check(RNG.normal(size=(40, 2)), progress=lambda done, total: seen.append((done, total)))
    assert seen[0][0] == 0
    every = sum(not c.asked for c in checks("tabular"))
    assert seen[-1] == (every, every)

    def stop(done, total):
        if done == 3:
            raise Cancelled("stopped")

    findings = check(RNG.normal(size=(40, 2)), progress=stop)
    reached = [f for f in findings if "stopped before it" not in f.message]
    assert len(reached) == 3
    assert {f.check for f in findings} == {c.name for c in checks("tabular") if not c.asked}
    assert findings.stopped
    assert not check(RNG.normal(size=(40, 2))).stopped


def test_the_same_data_give_the_same_findings():
    frame = pd.DataFrame(RNG.normal(size=(300, 5))).assign(c=list(string.ascii_letters[:50]) * 6)
    y = RNG.integers(0, 2, 300)
    assert check(frame, y, reference=frame).to_json() == check(frame, y, reference=frame).to_json()


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 %"), (1, "100 %"), (0.0002, "under 0.1 %"), (0.99996, "over 99.9 %"), (0.057, "5.7 %"), (0.5, "50 %")]
)
def test_shares_are_written_so_that_some_is_never_none_nor_most_all(value, text):
    assert percent(value) == text


def test_a_finding_is_made_of_plain_values():
    finding = passed("x", value=np.float32(0.5), rows=np.array([1, 2]), evidence={"a": np.array([np.nan, 1.0]), 2: {np.int64(3)}})
    assert finding.evidence == {"a": [None, 1.0], "2": [3]}
    assert finding.rows == (1, 2)


class Loan:
    modality, task, feature_names, class_names = "tabular", "classification", ("age", "income"), ("no", "yes")


def test_data_that_do_not_fit_the_model_are_told_before_scoring():
    frame = pd.DataFrame({"age": [1, 2] * 20, "incme": [3, 4] * 20})
    finding = check(frame, ["yes", "maybe"] * 20, model=Loan(), only=["fits the model"])[0]
    assert finding.state == "fail"
    assert "income" in finding.columns
    assert "maybe" in finding.message
    assert check(frame.rename(columns={"incme": "income"}), [0, 1] * 20, model=Loan(), only=["fits the model"])[0].state == "pass"
