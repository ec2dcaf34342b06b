"""Every fix makes its check pass, changes only what it says it changes, and leaves the original as it was."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import explainer
from explainer.checks.catalogue import CHECKS
from explainer.checks.finding import Finding, Findings
from explainer.checks.fixes import FIXES
from explainer.checks.restoration import repaired, without_location
from explainer.checks.run import check
from explainer.errors import InvalidInput, UnknownName

spec = importlib.util.spec_from_file_location("checks_clean_data", Path(__file__).parent / "conftest.py")
clean = importlib.util.module_from_spec(spec)
spec.loader.exec_module(clean)


def cell(frame, rows, column, value):
    frame = frame.copy()
    frame[column] = frame[column].astype(object) if isinstance(value, str) else frame[column]
    frame.loc[rows, column] = value
    return frame


def table():
    return clean.table(), list(clean.table_labels())


def images():
    return list(clean.images()), list(clean.halves(150))


def texts():
    return clean.texts(), list(clean.halves(300))


def series():
    return clean.series(), list(clean.halves(150))


MAKERS = {"tabular": table, "image": images, "text": texts, "series": series}


def put(items, place, value):
    return [*items[:place], value, *items[place + 1 :]]


def mails(n):
    return [f"{a}{i}@mail.org" for i, a in enumerate(np.random.default_rng(0).choice(["jane", "ali", "bo"], n))]


def days(n):
    made = pd.date_range("2019-01-01", periods=n).strftime("%Y-%m-%d").tolist()
    return put(put(made, 3, "2019-02-30"), 8, "2019-13-01")


def picture(array, located=False):
    made = Image.fromarray((np.asarray(array) * 255).astype(np.uint8))
    if located:
        exif = Image.Exif()
        exif[0x010F] = "Maker"
        exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 18.0)})
        made.info["exif"] = exif.tobytes()
    return made


def codes(frame):
    return cell(cell(frame, [3, 9], "age", 9999), [12], "city", "N/A")


def flat(one):
    return np.full_like(one, 1.0)


def again(data, labels, place):
    if isinstance(data, pd.DataFrame):
        return pd.concat([data, data.iloc[[place]]], ignore_index=True), [*labels, labels[place]]
    return [*data, data[place]], [*labels, labels[place]]


# (check, modality) -> plant(data, labels) -> damaged data, labels, rows and columns the log must name, more arguments of check and fix
PLANTS = {
    ("unreadable items", "tabular"): None,  # only a file can hold a row that is none: see the tests of files
    ("unreadable items", "image"): lambda x, y: (put(x, 4, "no picture"), y, {4}, set(), {}),
    ("unreadable items", "text"): lambda x, y: (put(x, 4, 3.5), y, {4}, set(), {}),
    ("unreadable items", "series"): lambda x, y: (put(x, 4, "no series"), y, {4}, set(), {}),
    ("damaged characters", "text"): lambda x, y: (put(x, 3, x[3] + " cafÃ© donâ€™t \x07na\ufffdve"), y, {3}, set(), {}),
    ("missing values", "text"): lambda x, y: (put(x, 5, None), y, {5}, set(), {}),
    ("empty texts", "text"): lambda x, y: (put(put(x, 5, "  \n"), 6, "?!"), y, {5, 6}, set(), {}),
    ("blank images", "image"): lambda x, y: (put(x, 9, flat(x[9]) / 2), y, {9}, set(), {}),
    ("flat series", "series"): lambda x, y: (put(x, 2, flat(x[2])), y, {2}, set(), {}),
    ("placeholder values", "tabular"): lambda f, y: (codes(f), y, {3, 9, 12}, {"age", "city"}, {}),
    ("infinite values", "tabular"): lambda f, y: (cell(f, [5, 7], "n2", np.inf), y, {5, 7}, {"n2"}, {}),
    ("personal data", "tabular"): lambda f, y: (f.assign(contact=mails(len(f))), y, set(range(len(f))), {"contact"}, {}),
    ("personal data", "text"): lambda x, y: (put(x, 5, x[5] + " write to jane.roe@mail.org"), y, {5}, set(), {}),
    ("location in metadata", "image"): lambda x, y: (put([picture(i) for i in x], 5, picture(x[5], True)), y, {5}, set(), {}),
    ("impossible dates", "tabular"): lambda f, y: (f.assign(visited=days(len(f))), y, {3, 8}, {"visited"}, {}),
    ("mixed types", "tabular"): lambda f, y: (cell(f.assign(age=f["age"].astype(str)), [0, 8], "age", "old"), y, {0, 8}, {"age"}, {}),
    ("spelling of categories", "tabular"): lambda f, y: (cell(f, [7], "city", "roma "), y, {7}, {"city"}, {}),
    ("missing values", "tabular"): lambda f, y: (f.assign(nothing=np.nan), y, set(), {"nothing"}, {}),
    ("constant columns", "tabular"): lambda f, y: (f.assign(country="DE"), y, set(), {"country"}, {}),
    ("identifier columns", "tabular"): lambda f, y: (f.assign(nr=np.arange(7, 407)), y, set(), {"nr"}, {}),
}  # fmt: skip
OTHERS = {
    "tabular": lambda: clean.table(seed=9),
    "image": lambda: list(clean.images(seed=9)),
    "text": lambda: clean.texts(seed=9),
    "series": lambda: clean.series(seed=9),
}


def overlapping(modality):
    def plant(x, y):
        theirs = OTHERS[modality]()
        theirs = pd.concat([theirs, x.iloc[[3, 8]]]) if isinstance(x, pd.DataFrame) else [*theirs, x[3], x[8]]
        return x, y, {3, 8}, set(), {"reference": theirs}

    return plant


for modality in MAKERS:
    PLANTS["missing labels", modality] = lambda x, y: (x, put(y, 6, None), {6}, set(), {})
    PLANTS["class names", modality] = lambda x, y: (x, put(["yes" if v in (1, "yes") else "no" for v in y], 6, "Yes "), {6}, set(), {})
    PLANTS["exact duplicates", modality] = lambda x, y: (*again(x, y, 3), {len(x)}, set(), {})
    PLANTS["overlap, exact", modality] = overlapping(modality)

EVERY = [(f.check, m) for f in FIXES for m in f.modalities if PLANTS.get((f.check, m))]


def same(a, b):
    if isinstance(a, pd.DataFrame):
        pd.testing.assert_frame_equal(a, b)
        return True
    pairs = zip(a, b, strict=True)
    return all(np.array_equal(x, y) if isinstance(x, np.ndarray) else x is y or x == y for x, y in pairs)


def test_each_fix_has_a_check_and_a_planted_defect():
    assert {(f.check, m) for f in FIXES for m in f.modalities} == set(PLANTS)
    known = {(c.name, m) for c in CHECKS for m in c.modalities}
    assert set(PLANTS) <= known


@pytest.mark.parametrize(("name", "modality"), EVERY)
def test_after_the_fix_the_check_passes_and_all_else_is_as_it_was(name, modality):
    data, labels = MAKERS[modality]()
    bad, wrong, rows, columns, more = PLANTS[name, modality](data, labels)
    before = (bad.copy() if isinstance(bad, pd.DataFrame) else list(bad)), list(wrong)
    findings = check(bad, wrong, modality=modality, only=[name], **more)
    assert findings[0].state == "fail", findings[0].message
    fixed = explainer.fix(bad, findings, wrong, **more)
    after = check(fixed.data, fixed.labels, modality=modality, only=[name], **more)
    assert after[0].state != "fail", after[0].message
    assert not fixed.left and fixed.log
    assert {c.row for c in fixed.log if c.row is not None} == rows
    assert {c.column for c in fixed.log if c.column} == columns
    assert all(c.why and c.check == name for c in fixed.log)
    assert len(fixed.to_frame()) == len(fixed.log)
    assert same(bad, before[0]) and list(wrong) == before[1]  # the original
    untouched = [k for k, place in enumerate(fixed.kept) if place not in rows]
    assert len(fixed.kept) == len(fixed.labels) == len(fixed.data)
    if modality == "tabular":
        kept = [c for c in fixed.data.columns if c in bad.columns and c not in columns]
        pd.testing.assert_frame_equal(fixed.data[kept].iloc[untouched], bad[kept].iloc[fixed.kept[untouched]])
    else:
        assert all(fixed.data[k] is bad[fixed.kept[k]] for k in untouched)
    assert [fixed.labels[k] for k in untouched] == [wrong[fixed.kept[k]] for k in untouched]
    again_ = explainer.fix(fixed.data, after, fixed.labels, **more)
    assert not again_.log and same(again_.data, fixed.data)


def test_what_no_program_should_decide_is_left_and_said():
    frame, labels = table()
    frame["monthly"] = frame["income"] / 12
    frame.loc[:59, "n1"] = np.nan
    fixed = explainer.fix(frame, check(frame, labels), labels)
    assert not fixed.log and fixed.data.equals(frame)
    assert "No program should decide" in fixed.left["redundant columns"] and "n1" in fixed.left["missing values"]
    assert "not fixed: redundant columns" in str(fixed)


def test_only_some_are_fixed_when_some_are_asked_for():
    frame, labels = table()
    frame = cell(frame.assign(country="DE"), [5], "n2", np.inf)
    findings = check(frame, labels)
    fixed = explainer.fix(frame, findings, labels, only=["infinite values"])
    assert "country" in fixed.data and np.isnan(fixed.data.loc[5, "n2"])
    assert fixed.left["constant columns"].startswith("It was not among those")
    with pytest.raises(UnknownName, match="Did you mean 'infinite values'"):
        explainer.fix(frame, findings, labels, only=["infinite value"])


def test_findings_of_other_data_are_refused():
    frame, labels = table()
    findings = check(frame, labels)
    with pytest.raises(InvalidInput, match="findings are of 400 items, the data hold 399"):
        explainer.fix(frame[1:], findings, labels[1:])


def test_many_more_rows_are_fixed_than_a_finding_names():
    frame = pd.concat([clean.table(2000, seed=4)] * 2, ignore_index=True)
    findings = check(frame, only=["exact duplicates"])
    assert findings[0].count == 2000 and len(findings[0].rows) == 100
    fixed = explainer.fix(frame, findings)
    assert len(fixed.data) == 2000 and len(fixed.log) == 2000


def test_every_item_that_a_check_means_is_dropped_not_only_those_it_names():
    texts_ = [*clean.texts(60), *["?!"] * 700]
    findings = check(texts_, only=["empty texts"])
    assert findings[0].count == 700 and len(findings[0].rows) == 100
    assert len(explainer.fix(texts_, findings).data) == 60


def test_the_label_column_goes_back_to_its_place():
    frame, labels = table()
    frame.insert(2, "outcome", put(labels, 6, None))
    fixed = explainer.fix(frame, check(frame, "outcome"), "outcome")
    assert list(fixed.data.columns) == list(frame.columns) and len(fixed.data) == 399
    assert fixed.data["outcome"].tolist() == fixed.labels.tolist() == [v for v in frame["outcome"] if isinstance(v, str)]


def test_arrays_come_back_as_arrays():
    x = np.concatenate([clean.images(), clean.images()[:2]])
    y = np.array([0, 1] * 76)
    fixed = explainer.fix(x, check(x, y, only=["exact duplicates"]), y)
    assert fixed.data.shape == (150, 28, 28) and fixed.data.dtype == x.dtype and fixed.labels.dtype == y.dtype
    numbers = np.random.default_rng(0).normal(size=(60, 4))
    numbers[3, 2] = np.inf
    fixed = explainer.fix(numbers, check(numbers, only=["infinite values"]))
    assert isinstance(fixed.data, np.ndarray) and fixed.data.shape == (60, 4) and np.isnan(fixed.data[3, 2])


def test_polars_frames_come_back_as_polars_frames():
    polars = pytest.importorskip("polars")
    frame = polars.from_pandas(clean.table()).with_columns(polars.lit("DE").alias("country"))
    fixed = explainer.fix(frame, check(frame, only=["constant columns"]))
    assert isinstance(fixed.data, polars.DataFrame) and "country" not in fixed.data.columns


def test_equal_items_with_different_labels_keep_the_commonest_or_none():
    t = clean.texts(60)
    data = [*t, t[0], t[0], t[1]]
    labels = ["a"] + ["b"] * 59 + ["b", "b", "c"]
    fixed = explainer.fix(data, check(data, labels, only=["exact duplicates"]), labels)
    assert fixed.data.count(t[0]) == 1 and fixed.labels[fixed.data.index(t[0])] == "b"  # twice b, once a
    assert t[1] not in fixed.data  # once b, once c: nobody knows
    whys = {c.row: c.why for c in fixed.log}
    assert set(whys) == {0, 61, 1, 62} and "not known" in whys[1] and "row 60" in whys[0]


def test_a_code_for_missing_behind_another_is_found_too():
    frame, labels = table()
    frame = cell(cell(frame, [1, 2], "age", 99999), [3, 4], "age", 9999)
    fixed = explainer.fix(frame, check(frame, labels, only=["placeholder values"]), labels)
    assert set(np.flatnonzero(fixed.data["age"].isna())) == {1, 2, 3, 4}


def test_numbers_as_people_write_them_are_read():
    values = [f"{i}" for i in range(100)]
    values[:4] = ["1,234", "12 %", "old", None]
    frame = pd.DataFrame({"size": pd.Series(values, dtype=object), "x": np.arange(100) * 0.37})
    fixed = explainer.fix(frame, check(frame, only=["mixed types"]))
    assert fixed.data["size"].tolist()[:2] == [1234.0, 0.12] and fixed.data["size"].isna().sum() == 2
    told = {c.row: (c.before, c.after) for c in fixed.log if c.action == "cell"}
    assert told == {0: ("1,234", 1234.0), 1: ("12 %", 0.12), 2: ("old", None)}


def test_two_columns_of_one_name_are_left_alone():
    frame = clean.table()
    frame["country"] = "DE"
    frame = frame.set_axis([*frame.columns[:-1], "age"], axis=1)
    findings = check(frame, only=["constant columns"])
    assert findings[0].state == "fail"
    fixed = explainer.fix(frame, findings)
    assert not fixed.log and "constant columns" in fixed.left and fixed.data.equals(frame)


def test_overlap_needs_the_reference_it_was_found_in():
    frame = clean.table()
    findings = check(frame, reference=frame[:40], only=["overlap, exact"])
    assert "pass reference=" in explainer.fix(frame, findings).left["overlap, exact"]
    assert len(explainer.fix(frame, findings, reference=frame[:40]).data) == 360


@pytest.mark.parametrize("text", ["café", "naïve – “quoted” …", "Łódź", "日本語", "emoji 😀 and ñ", "plain"])
@pytest.mark.parametrize("times", [1, 2])
def test_a_misread_text_is_read_back(text, times):
    wrong = text
    for _ in range(times):
        raw = wrong.encode("utf-8")
        wrong = "".join(bytes([b]).decode("cp1252") if b not in (0x81, 0x8D, 0x8F, 0x90, 0x9D) else chr(b) for b in raw)
    assert repaired(wrong) == text


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("na\ufffdve", "nave"), ("caf\\u00e9", "café"), ("caf=C3=A9 noir", "café noir"), ("you &amp; me", "you & me"), ("a\x07b", "ab"),
     ("zero\u200bwidth", "zerowidth"), ("&amp;lt;b&amp;gt;", "<b>")],
)  # fmt: skip
def test_other_damage_is_undone_or_taken_out(wrong, right):
    assert repaired(wrong) == right


def test_a_text_without_damage_is_left_as_it_is():
    for text in ["Ünïcode Â at the end Â", "São Paulo", "a\tb\nc", "ÂNGELA"]:
        assert repaired(text) == text


def test_personal_data_are_in_no_log_and_pseudonyms_keep_who_is_who():
    frame, labels = table()
    frame["contact"] = mails(200) * 2
    frame["phone"] = [4930123400000 + i for i in range(400)]
    findings = check(frame, labels, only=["personal data"])
    fixed = explainer.fix(frame, findings, labels, key=b"k" * 32)
    told = fixed.to_frame().to_csv()
    assert "@mail.org" not in told and "personal data" in told
    assert fixed.data["contact"].nunique() == 200 and (fixed.data["contact"][:200].tolist() == fixed.data["contact"][200:].tolist())
    assert explainer.fix(frame, findings, labels).data["contact"].nunique() == 1
    assert check(fixed.data, fixed.labels, only=["personal data"])[0].state == "pass"


def test_of_two_dates_in_the_wrong_order_neither_is_taken_away():
    frame, labels = table()
    start = pd.date_range("2019-01-01", periods=400)
    frame["start date"], frame["end date"] = start, start + pd.Timedelta(days=5)
    frame.loc[3, "end date"] = pd.Timestamp("2018-06-01")
    findings = check(frame, labels, only=["impossible dates"])
    assert findings[0].state == "fail"
    fixed = explainer.fix(frame, findings, labels)
    assert not fixed.log and "impossible dates" in fixed.left


def test_a_picture_keeps_what_else_its_metadata_say():
    made = without_location(picture(clean.images(1)[0], True))
    assert 0x8825 not in made.getexif() and made.getexif()[0x010F] == "Maker"


def test_a_finding_that_is_no_longer_true_changes_nothing():
    frame, labels = table()
    stale = Findings((Finding("constant columns", "fail", "old", columns=("n1",)),), "tabular", 400)
    assert not explainer.fix(frame, stale, labels).log


def test_progress_is_told_to_the_end():
    frame = pd.DataFrame({"a": [np.inf, *range(59)], "k": 1, "b": list("uvw") * 20})
    told = []
    findings = check(frame)
    explainer.fix(frame, findings, progress=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == list(range(len(told))) and told[-1][0] == told[-1][1] > 2


def test_every_check_with_a_fix_says_so_in_code():
    named = {c.name: c.code for c in CHECKS if set(c.modalities) & {"tabular", "text"}}
    own = {"personal data", "impossible dates"}  # these write their own
    assert all("explainer.fix" in named[f.check] for f in FIXES if f.check in named and f.check not in own)
    frame = pd.DataFrame({"a": [np.inf, *range(59)], "b": list("uvw") * 20})
    findings = check(frame)
    space = {"explainer": explainer, "data": frame, "labels": None, "findings": findings}
    exec(findings.filter(check="infinite values")[0].code, space)
    assert np.isinf(frame["a"]).sum() == 1 and not np.isinf(space["data"]["a"]).any()


def test_fields_beyond_the_header_are_in_the_log(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" + "".join(f"{i % 7},{'uvw'[i % 3]},9\n" for i in range(60)))
    from explainer.checks.copies import write_copy
    from explainer.checks.read import read

    found = read(path)
    fixed = explainer.fix(found, check(found), only=["exact duplicates"])
    write_copy(fixed, found, path, tmp_path / "b.csv")
    assert [c.action for c in fixed.log] == ["line read in part"] and "its header 2" in fixed.log[0].why
    assert pd.read_csv(tmp_path / "b.csv").shape == (60, 2)
