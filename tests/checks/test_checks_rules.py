"""Rules are inferred with room, survive a file and an editor, and say what pandera says."""

from __future__ import annotations

import importlib.util
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from explainer.checks.frame import TableView
from explainer.checks.rules import Rule, Rules, infer_rules, rules_of, violations
from explainer.checks.run import check
from explainer.errors import InvalidInput, UnknownName

spec = importlib.util.spec_from_file_location("checks_table_new", Path(__file__).parent / "test_checks_table_new.py")
tables = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tables)
table = tables.table


def test_more_rows_of_the_same_kind_keep_to_the_rules(found):
    wrong = []
    for seed in range(20):
        finding = found("rules", table(seed), reference=table(seed + 1000))
        wrong += [(seed, finding.message)] if finding.state != "pass" else []
    assert len(wrong) <= 1, wrong


BREAK = {
    "below": lambda f: f.assign(age=f["age"].mask(f.index == 7, -3)),
    "above": lambda f: f.assign(age=f["age"].mask(f.index == 7, 999)),
    "not a whole number": lambda f: f.assign(age=f["age"].mask(f.index == 7, 41.5)),
    "of none of the values listed": lambda f: f.assign(city=f["city"].mask(f.index == 7, "Oslo")),
    "missing": lambda f: f.assign(height=f["height"].mask(f.index == 7)),
    "is no number": lambda f: f.assign(height=f["height"].astype(str) + " cm"),
    "is not there": lambda f: f.drop(columns="height"),
    "not unique": lambda f: f.assign(id=[f"r{min(i, 398)}" for i in range(400)]),
}


@pytest.mark.parametrize("rule", BREAK)
def test_each_kind_of_rule_is_found_broken(rule, found):
    for seed in range(20):
        reference = table(seed + 1000, 1200).assign(id=[f"r{i}" for i in range(1200)])
        frame = BREAK[rule](table(seed).assign(id=[f"r{i}" for i in range(400)]))
        finding = found("rules", frame, reference=reference)
        assert finding.state == "fail"
        assert any(rule in name for name in finding.evidence), (seed, finding.message)
        if rule not in ("is not there", "is no number", "not unique"):
            assert finding.rows == (7,), finding.message


def test_without_rules_or_reference_the_check_does_not_run(found):
    assert found("rules", table()).state == "not run"


@pytest.mark.parametrize("ending", ["json", "yaml"])
def test_rules_are_saved_edited_and_passed_again(ending, tmp_path, found):
    path = tmp_path / f"rules.{ending}"
    rules = infer_rules(table())
    rules.save(path)
    assert rules_of(path) == rules
    assert found("rules", table(), rules=str(path)).state == "pass"
    text = path.read_text()
    assert '"high"' in text or "high:" in text
    edited = rules_of(path).to_dict()
    edited["columns"]["height"]["high"] = 180
    edited["rows"] = ["start <= end", "age >= 20"]
    finding = found("rules", table(), rules=edited)
    frame = table()
    expected = (frame["height"] > 180) | (frame["age"] < 20)
    assert finding.count == expected.sum()
    assert finding.rows == tuple(np.flatnonzero(expected)[:100])
    assert "'' age >= 20" not in finding.message


def test_the_same_rows_as_pandera_itself_on_the_same_table():
    import pandera.pandas as pa

    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=300), "b": rng.integers(0, 9, 300).astype(float), "c": rng.choice(list("xyz"), 300)})
    frame["c"] = frame["c"].astype(object)
    frame.loc[[5, 9], "a"] = np.nan
    frame.loc[[7], "c"] = None
    rules = Rules(
        {
            "a": Rule("number", -1.5, 1.5, missing=False),
            "b": Rule("number", 1, None, values=None, whole=True),
            "c": Rule("category", values=("x", "y"), missing=False),
        },
        ("a <= b",),
    )
    schema = pa.DataFrameSchema(
        {
            "a": pa.Column(float, [pa.Check.in_range(-1.5, 1.5)], nullable=False),
            "b": pa.Column(float, pa.Check(lambda s: (s >= 1) & (s % 1 == 0)), nullable=True),
            "c": pa.Column(object, pa.Check.isin(["x", "y"]), nullable=False),
        },
        checks=pa.Check(lambda f: (f["a"] <= f["b"]) | f["a"].isna() | f["b"].isna()),
    )
    with pytest.raises(pa.errors.SchemaErrors) as caught:
        schema.validate(frame, lazy=True)
    cases = caught.value.failure_cases
    ours = violations(TableView(frame), rules)
    for column in ("a", "b", "c"):
        theirs = set(cases["index"][(cases["column"] == column) & (cases["schema_context"] == "Column")].astype(int))
        assert {int(r) for (name, _), rows in ours.items() if name == column for r in rows} == theirs, column
    assert set(ours["", "a <= b"]) == set(cases["index"][cases["schema_context"] == "DataFrameSchema"].astype(int))


def test_rules_that_cannot_be_read_say_so(tmp_path):
    with pytest.raises(UnknownName, match="height"):
        rules_of({"columns": {"height": {"type": "number", "hihg": 3}}})
    with pytest.raises(UnknownName, match="number"):
        rules_of({"columns": {"height": {"type": "nummer"}}})
    with pytest.raises(UnknownName, match="start"):
        rules_of({"columns": {"start": {"type": "number"}}, "rows": ["strat <= 3"]})
    with pytest.raises(InvalidInput, match="no comparison"):
        rules_of({"columns": {"start": {"type": "number"}}, "rows": ["start and end"]})
    with pytest.raises(InvalidInput, match="cannot be read"):
        rules_of(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(InvalidInput, match="no valid"):
        rules_of(tmp_path / "bad.json")
    with pytest.raises(InvalidInput, match="saved as"):
        infer_rules(table()).save(tmp_path / "rules.txt")
    with pytest.raises(InvalidInput, match="infer_rules"):
        check(table(), rules=3)


def test_dates_texts_and_empty_columns_have_rules_too(found):
    frame = table().assign(nothing=None, note=[f"the {i} th note that was written down here" for i in range(400)])
    rules = infer_rules(frame)
    assert rules.columns["start"].type == "date"
    assert rules.columns["note"].type == "text"
    assert "nothing" not in rules.columns
    late = frame.assign(start=frame["start"].mask(frame.index == 4, pd.Timestamp("2199-01-01")))
    assert found("rules", late, rules=rules).rows == (4,)
    rules = Rules({**rules.columns, "city": Rule("category", pattern="[A-Z][a-z]+")})
    assert found("rules", frame.assign(city=frame["city"].mask(frame.index == 4, "roma 2")), rules=rules).rows == (4,)


def test_dates_at_the_edge_of_what_pandas_keeps_have_rules_too():
    days = pd.Series(pd.to_datetime(["1970-01-01"] * 39 + ["2200-02-20"])).astype("datetime64[ns]")
    frame = pd.DataFrame({"day": days, "x": np.arange(40.0)})
    rules = infer_rules(frame)
    first, last = date(1970, 1, 1), date(2200, 2, 20)
    expected = (first - (last - first)).isoformat(), (last + (last - first)).isoformat()
    assert (rules.columns["day"].low, rules.columns["day"].high) == expected
    findings = check(frame, reference=frame, only=["rules"])
    assert findings[0].state == "pass", findings[0].message
