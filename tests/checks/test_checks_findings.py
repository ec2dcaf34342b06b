"""What can be done with findings: filter, compare, export, draw, and end a build."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from explainer.checks.charts import Bars, Grid, chart
from explainer.checks.finding import Finding, Findings
from explainer.checks.run import check
from explainer.errors import CorruptFile, InvalidInput, UnknownName

spec = importlib.util.spec_from_file_location("checks_clean_data", Path(__file__).parent / "conftest.py")
clean = importlib.util.module_from_spec(spec)
spec.loader.exec_module(clean)


@pytest.fixture(scope="module")
def broken():
    """A table with a defect of each kind that has a picture of its own, against a reference."""
    frame, labels = clean.table(), clean.table_labels()
    frame.loc[:39, "n1"] = np.nan
    frame.loc[[3, 9, 27], "age"] = 9999
    frame.loc[7, "city"] = "roma "
    frame["country"] = "DE"
    frame["n3"] = frame["n3"] + 3
    frame.loc[50, "n4"] = 500.0
    labels = np.where(np.arange(400) < 12, "rare", labels)
    bad = pd.concat([frame, frame.iloc[[60, 60, 61]]], ignore_index=True)
    return check(
        bad, [*labels, labels[60], labels[60], labels[61]], reference=clean.table(seed=3), groups={"g": ["few"] * 5 + ["many"] * 398}
    )


@pytest.fixture(scope="module")
def sound():
    return check(clean.table(), clean.table_labels(), reference=clean.table(seed=3))


def test_filter_keeps_what_meets_every_condition(broken):
    failed = broken.filter("fail")
    assert {f.state for f in failed} == {"fail"} and failed.rows == broken.rows and len(failed) == broken.counts["fail"]
    assert [f.check for f in broken.filter(check="drift")] == ["drift"]
    assert {f.check for f in broken.filter(state="fail", column="n1")} >= {"missing values"}
    assert len(broken.filter(["pass", "fail"])) == broken.counts["pass"] + broken.counts["fail"]
    assert all(7 in f.rows for f in broken.filter(row=7)) and "spelling of categories" in {f.check for f in broken.filter(row=7)}
    assert len(broken.filter("fail", row=10**9)) == 0


@pytest.mark.parametrize(
    ("asked", "nearest"), [({"state": "failed"}, "fail"), ({"check": "drifts"}, "drift"), ({"column": "countri"}, "country")]
)
def test_a_mistyped_condition_is_answered_with_the_nearest(broken, asked, nearest):
    with pytest.raises(UnknownName, match=f"Did you mean '{nearest}'"):
        broken.filter(**asked)


def test_compare_tells_new_gone_worse_better_and_unjudged(sound, broken):
    turned = broken.compare(sound)
    assert {t.check for t in turned.new} >= {"missing values", "constant columns", "exact duplicates"} and not turned.ok
    assert not turned.gone and "new: constant columns" in str(turned)
    before = {f.check: f.state for f in sound}
    back = sound.compare(broken)
    assert {t.check for t in back.gone} == {t.check for t in turned.new if before.get(t.check) == "pass"}
    assert "group sizes" in {t.check for t in back.not_judged}  # no groups were given: that is no pass
    assert not back.ok
    assert len(turned.to_frame()) == len(turned.items)


@pytest.mark.parametrize(
    ("before", "after", "turn"),
    [
        ((0.1, 0.05), (0.3, 0.05), "worse"),
        ((0.3, 0.05), (0.1, 0.05), "better"),
        ((0.1, 0.2), (0.05, 0.2), "worse"),  # of a figure that must not be low
        ((0.05, 0.2), (0.1, 0.2), "better"),
        ((0.1, 0.05), (0.1, 0.05), None),
    ],
)
def test_worse_is_further_on_the_wrong_side(before, after, turn):
    runs = [Findings((Finding("c", "fail", "m", value=v, threshold=t),), "tabular", 9) for v, t in (before, after)]
    assert [t.turn for t in runs[1].compare(runs[0]).items] == ([turn] if turn else [])


@pytest.mark.parametrize(
    ("before", "after", "turn"),
    [
        ("pass", "fail", "new"), ("not run", "fail", "new"), (None, "fail", "new"), ("pass", "error", "new"), ("error", "fail", "new"),
        ("fail", "pass", "gone"), ("error", "pass", "gone"), ("fail", "not run", "not judged"), ("pass", "not run", "not judged"),
        ("pass", None, "not judged"), ("fail", "error", "not judged"), ("not run", "pass", None), ("not run", "not run", None),
        ("error", "not run", None), ("error", "error", None),
    ],
)  # fmt: skip
def test_every_pair_of_states_has_its_turn(before, after, turn):
    runs = [Findings(() if state is None else (Finding("c", state, "m"),), "text", 9) for state in (before, after)]
    assert [t.turn for t in runs[1].compare(runs[0]).items] == ([turn] if turn else [])


def test_findings_of_two_modalities_are_not_compared(sound):
    with pytest.raises(InvalidInput, match="tabular data, these of text data"):
        Findings((), "text", 0).compare(sound)


def test_json_goes_there_and_back(broken):
    assert Findings.from_json(broken.to_json()) == broken


def test_json_holds_what_no_file_could_and_no_number_that_is_none():
    odd = Findings((Finding("c", "fail", "half a pair \ud83d", value=float("nan"), interval=(0.1, float("inf")), rows=(1,)),), "text", 3)
    text = odd.to_json()
    text.encode()
    assert "NaN" not in text and "Infinity" not in text
    read = Findings.from_json(text)
    assert read[0].message == odd[0].message and read[0].value is None and read[0].interval == (0.1, None)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"schema": 1, "findings": [{"check": "a"}], "modality": "text", "rows": 1}'])
def test_what_is_no_document_of_findings_is_refused(text):
    with pytest.raises(CorruptFile, match="no document of findings"):
        Findings.from_json(text)


def test_a_document_of_another_version_is_refused(sound):
    document = json.loads(sound.to_json()) | {"schema": 99}
    with pytest.raises(CorruptFile, match="schema 99"):
        Findings.from_json(json.dumps(document))


def test_the_exit_code_is_for_a_build(broken):
    assert broken.exit_code == 1 and broken.filter("pass").exit_code == 0 and broken.filter("not run").exit_code == 0
    assert Findings((Finding("c", "error", "m"),), "text", 1).exit_code == 1


def test_the_page_is_whole_and_asks_nothing_of_the_network(broken):
    page = broken.to_html("Loans <of> May")
    assert "Loans &lt;of&gt; May" in page and "<of>" not in page
    assert not re.search(r"https?://|<script|<link|src=|@import|url\(", page)
    assert "prefers-color-scheme: dark" in page and "@media print" in page
    for finding in broken:
        assert finding.check in page
    assert page.index(">Fail<") < page.index(">Not run<") < page.index(">Pass<")


def test_nothing_from_the_data_becomes_markup():
    evil = "<script>alert('x')</script>&\"\x00\ud800"
    named = Finding(
        evil,
        "fail",
        evil,
        value=1.0,
        columns=(evil,),
        files=(evil,),
        rows=(1,),
        evidence={evil: {"count": 3}},
        why=evil,
        advice=evil,
        code=evil,
    )
    findings = Findings((named, Finding("b", "fail", "m", evidence={"matrix": [[1, 0]], "names": [evil, evil]})), "text", 1)
    for text in (findings.to_html(evil), findings._repr_html_()):
        assert "<script" not in text
        text.encode()


def test_the_frame_has_a_row_per_finding(broken):
    frame = broken.to_frame()
    assert frame["check"].tolist() == [f.check for f in broken]
    assert frame.set_index("check").loc["missing values", "columns"] == "n1"


def test_printing_findings_is_short_and_says_each(broken):
    assert len(str(broken).splitlines()) == len(broken) + 1


SHAPES = {
    "missing values": ("n1", "share", 0.05),
    "class balance": (None, "items", None),
    "drift": ("n3", "distance", 0.10),
    "outlying values": ("n4", "times as far from the median as the limit", 1.0),
    "exact duplicates": ("item 60", "equal items", None),
    "group sizes": ("g = few", "rows", 30.0),
    "placeholder values": ("age = 9999", "rows", None),
    "spelling of categories": (None, "ways of writing it", None),
    "label given away": (None, "AUC", 0.99),
}


@pytest.mark.parametrize("name", SHAPES)
def test_each_kind_is_drawn_from_its_evidence(broken, name):
    finding = broken.filter(check=name)[0]
    drawn = chart(finding)
    first, what, threshold = SHAPES[name]
    assert isinstance(drawn, Bars) and drawn.what == what
    assert first is None or first in drawn.names
    assert threshold is None or drawn.threshold == threshold


def test_a_class_below_its_line_is_the_one_coloured():
    labels = ["a"] * 200 + ["b"] * 190 + ["c"] * 10
    findings = check(clean.table(), labels, only=["class balance"])
    bars = findings.plot("class balance").data[0]
    colours = dict(zip(bars.customdata, bars.marker.color, strict=True))
    assert colours["c"] != colours["a"] == colours["b"]
    assert chart(findings[0]).threshold == pytest.approx(400 / 3 * 0.2)


def test_a_matrix_is_drawn_as_a_grid_with_its_names():
    finding = Finding(
        "c", "fail", "m", evidence={"matrix": [[1.0, 0.2, None], [0.2, 1.0, 0.5]], "rows": ["a", "b"], "columns": ["x", "y", "z"]}
    )
    drawn = chart(finding)
    assert isinstance(drawn, Grid) and drawn.rows == ("a", "b") and drawn.columns == ("x", "y", "z")
    assert Findings((finding,), "tabular", 1).plot("c").data[0].type == "heatmap"


EVIDENCE = {
    "places are no figures": ({"series": [{"row": 7, "channel": 2, "steps": 30.0}]}, ("row 7, channel 2",), "steps"),
    "a pair of columns": ({"pairs": [{"column": "a", "other": "b", "effect": 0.6, "p": 0.01}]}, ("a ~ b",), "effect"),
    "a list against its limit": ({"farthest": [9.5, 7.25], "limit": 4.5}, ("1", "2"), "farthest"),
    "kinds within columns": ({"mail": {"kinds": {"e-mail": 4}, "whole": True}}, ("mail = e-mail",), "rows"),
    "counts beside shares": ({"share of each": {"a": 0.5}, "texts": {"word": 3}}, ("texts = word",), "rows"),
    "figures of several units": ({"k": 1, "seconds": 2.5}, ("c",), "value"),
    "windows": ({"pairs": [{"row": 0, "other row": 1, "steps in common": 20}]}, ("0 ~ 1",), "steps in common"),
    "lengths": ({"words": {"median": 50.0, "plausible from": 4.0, "to": 200.0, "shortest": 9, "longest": 500}}, ("words",), "times as far"),
}


@pytest.mark.parametrize("case", EVIDENCE)
def test_evidence_of_every_form_is_read_as_what_it_is(case):
    evidence, names, what = EVIDENCE[case]
    drawn = chart(Finding("c", "fail", "m", value=0.2, threshold=0.1, evidence=evidence))
    assert drawn.names == names and drawn.what.startswith(what)


def test_intervals_are_drawn_where_they_are_known():
    entries = [{"segment": "age <= 30", "accuracy": 0.6, "interval": [0.5, 0.7]}, {"segment": "city = Roma", "accuracy": 0.8}]
    figure = Findings((Finding("weak", "fail", "m", evidence={"segments": entries}),), "tabular", 1).plot("weak")
    assert list(figure.data[0].customdata) == ["city = Roma", "age &lt;= 30"]
    assert figure.data[0].error_x.array[1] == pytest.approx(0.1)


@pytest.mark.parametrize("dark", [False, True])
def test_every_finding_draws_something(broken, sound, dark):
    for findings in (broken, sound):
        for finding in findings:
            figure = findings.plot(finding.check, dark=dark)
            assert figure.data or figure.layout.annotations
            if finding.state == "not run":
                assert finding.message[:20] in figure.layout.annotations[0].text.replace("<br>", " ")


def test_a_figure_of_an_unknown_check_is_refused(broken):
    with pytest.raises(UnknownName, match="Did you mean 'drift'"):
        broken.plot("drif")
