from __future__ import annotations

import datetime
import errno
import hashlib
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pypdf
import pytest
import rfc8785
from audited import DATE, NAMES, make, score, small

import explainer
import explainer.reports.audit
from explainer.errors import Cancelled, InvalidInput, UnknownName
from explainer.reports import document, evidence, pdf, profiles


def test_every_section_is_assessed_and_the_files_are_there(report: explainer.reports.audit.Report) -> None:
    assert {name: s["reason"] for name, s in report.evidence["sections"].items() if not s["assessed"]} == {}
    assert (
        sorted(p.name for p in report.path.iterdir())
        == ["manifest.json", "report.html", "report.json", "report.pdf"]
        == sorted(report.files)
    )
    assert report.html.is_file() and report.pdf.is_file() and report.json.is_file()


def test_same_inputs_same_bytes(model: explainer.Model, tmp_path: Path) -> None:
    first, second = small(model, tmp_path / "a"), small(model, tmp_path / "b")
    for name in first.files:
        assert (first.path / name).read_bytes() == (second.path / name).read_bytes(), name
    other = small(model, tmp_path / "c", date="2026-06-01")
    assert other.evidence_sha256 != first.evidence_sha256


PROGRAM = """
import sys, numpy as np, pandas as pd, explainer
rng = np.random.default_rng(0)
frame = pd.DataFrame(rng.normal(size=(60, 3)), columns=["a", "b", "c"])
frame["kind"] = rng.choice(["x", "y", "z"], 60)

def score(f):
    return 1 / (1 + np.exp(-f["a"].to_numpy(dtype=float) - (f["kind"] == "x").to_numpy()))

model = explainer.wrap(lambda f: np.stack([1 - score(f), score(f)], 1), modality="tabular", class_names=["no", "yes"], background=frame[:9])
groups = pd.DataFrame({"g": rng.choice(["p", "q"], 60)})
report = explainer.audit(model, frame, (score(frame) > 0.6).astype(int), groups=groups, out=sys.argv[1], date="2026-05-31", sample=5)
print(report.manifest_sha256)
"""


def test_a_fresh_process_with_another_hash_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    running = []
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / hash_seed)]
        running.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    first, second = (process.communicate(timeout=300)[0] for process in running)
    assert first == second and len(first.strip()) == 64


def test_json_is_canonical_and_its_hash_stands_in_every_form(report: explainer.reports.audit.Report) -> None:
    raw = report.json.read_bytes()
    assert rfc8785.dumps(json.loads(raw)) == raw
    digest = hashlib.sha256(raw).hexdigest()
    assert digest == report.evidence_sha256
    assert digest in report.html.read_text("utf-8")
    text = "".join(page.extract_text() for page in pypdf.PdfReader(report.pdf).pages)
    assert digest in re.sub(r"\s", "", text)


def test_no_clock_but_the_date_enters_the_evidence(report: explainer.reports.audit.Report) -> None:
    assert "seconds" not in report.json.read_text("utf-8")


def test_html_is_one_file_without_any_address_outside(report: explainer.reports.audit.Report) -> None:
    page = report.html.read_text("utf-8")
    assert not re.search(r"https?://|//[a-z]|url\(|@import|<script|<link|<iframe", page)
    found: list[tuple[str, dict[str, str | None]]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append((tag, dict(attrs)))

    Reader().feed(page)
    for tag, attributes in found:
        for name in ("src", "href", "xlink:href", "data", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/png;base64,")), (tag, value)
    assert all(a.get("role") == "img" and len(a.get("aria-label") or "") > 20 for tag, a in found if tag == "svg")
    assert all(a.get("scope") in ("col", "row") for tag, a in found if tag == "th")
    ids = [a["id"] for _, a in found if a.get("id")]
    assert len(ids) == len(set(ids))
    anchors = [a["href"][1:] for tag, a in found if tag == "a" and a.get("href")]
    assert set(anchors) <= set(ids)


def test_a_card_is_text_never_markup(report: explainer.reports.audit.Report) -> None:
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in report.html.read_text("utf-8")
    text = " ".join(page.extract_text() for page in pypdf.PdfReader(report.pdf).pages)
    assert '#panic("x")' in text


def test_pdf_is_tagged_dated_and_says_what_the_evidence_says(report: explainer.reports.audit.Report) -> None:
    reader = pypdf.PdfReader(report.pdf)
    root = reader.trailer["/Root"]
    assert root["/MarkInfo"]["/Marked"] and "/StructTreeRoot" in root and root["/Lang"] == "en"
    xmp = root["/Metadata"].get_data().decode()
    assert "pdfaid:part>3" in xmp and "pdfuaid:part>1" in xmp and DATE in xmp
    assert 4 <= len(reader.pages) <= 20
    text = re.sub(r"\s+", " ", " ".join(page.extract_text() for page in reader.pages))
    for wanted in (*(title for name, title in evidence.TITLES.items() if name != "card"), "What was not assessed", "How to verify"):
        assert wanted in text, wanted
    first = re.sub(r"\s+", " ", reader.pages[0].extract_text())
    assert "Not assessed" in first and "Failed or in doubt" in first and "legal advice" in first
    assert "[U+1F642]" in text and "[U+501F]" in text  # a character the fonts lack is written out, never dropped


def test_what_was_not_assessed_is_listed_and_nothing_else_is_claimed(model: explainer.Model, tmp_path: Path) -> None:
    frame, _, _ = make(40, 1)
    found = explainer.audit(model, frame, None, out=tmp_path / "r", date=DATE, cases=0, sample=5, formats=("html", "json"))
    topics = set(found.not_assessed)
    for name in ("performance", "groups", "cases", "card"):
        assert evidence.TITLES[name] in topics
        assert not found.evidence["sections"][name]["assessed"]
    page = found.html.read_text("utf-8")
    assert "No labels were given" in page and "No protected attributes were named" in page
    assert found.pdf is None and "report.pdf" not in found.files
    by_paragraph = {r["paragraph"]: r["status"] for r in found.evidence["requirements"]}
    assert by_paragraph["MEASURE 2.11"] == "not assessed"
    assert by_paragraph["MEASURE 2.7"] == "not assessed"


def test_what_the_hash_of_the_model_does_not_cover_is_told(model: explainer.Model, tmp_path: Path) -> None:
    import torch
    from sklearn.linear_model import LogisticRegression

    frame, labels, _ = make(60, 1)
    topic = "Identity of all that decides a prediction"

    def reasons(one: explainer.Model) -> list[str]:
        made = explainer.audit(one, frame, labels, out=tmp_path / "r", date=DATE, cases=0, sample=5, formats="json")
        return [entry["reason"] for entry in made.evidence["not_assessed"] if entry["topic"] == topic]

    fitted = LogisticRegression().fit(frame, labels)
    net = torch.nn.Linear(3, 2).eval()

    def tripled(rows: pd.DataFrame) -> torch.Tensor:
        return torch.tensor(rows.to_numpy(dtype="float32") * 3)

    assert "objects that the code uses" in reasons(model)[0]
    assert reasons(explainer.wrap(fitted, background=frame)) == []
    assert "preprocess" in reasons(explainer.wrap(fitted, preprocess=lambda rows: rows * 3, background=frame))[0]
    assert "preprocess" in reasons(explainer.wrap(net, modality="tabular", preprocess=tripled, class_names=NAMES, background=frame))[0]
    assert reasons(explainer.wrap(net, modality="tabular", class_names=NAMES, background=frame)) == []


def test_a_part_that_breaks_is_listed_with_its_reason_and_the_rest_goes_on(
    model: explainer.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: object, **_kwargs: object) -> None:
        raise ZeroDivisionError("one over nothing")

    monkeypatch.setattr(explainer, "explain", broken, raising=False)
    found = small(model, tmp_path / "r", formats=("html", "json"))
    sections = found.evidence["sections"]
    assert not sections["importance"]["assessed"] and "one over nothing" in sections["importance"]["reason"]
    assert not sections["cases"]["assessed"] and sections["performance"]["assessed"]
    assert "one over nothing" in found.html.read_text("utf-8")


def test_findings_stand_worst_first_with_all_their_figures_and_what_could_not_run_before_what_passed(
    model: explainer.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from explainer.checks.finding import Finding, Findings

    made = (
        Finding("sound", "pass", "Nothing here."),
        Finding("blind", "not run", "Not run: No groups were given.", why="Small groups hide."),
        Finding(
            "drift", "fail", "It moved.", 0.25, 0.1, 0.003, (0.2, 0.31), 40, tuple(range(20)), ("a",),
            tuple(f"f{k}.png" for k in range(20)), why="It matters.", advice="Retrain.",
        ),
    )  # fmt: skip
    monkeypatch.setattr(explainer, "check", lambda *given, **named: Findings(made, "tabular", 160))
    frame, labels, _ = make(160, 1)
    report = explainer.audit(model, frame, labels, out=tmp_path / "r", date=DATE)
    told = report.evidence["sections"]["checks"]["findings"]
    assert [f["check"] for f in told] == ["drift", "blind", "sound"]
    assert told[0]["p"] == 0.003 and told[0]["interval"] == [0.2, 0.31] and told[0]["files"] == [f"f{k}.png" for k in range(10)]
    page = re.sub(r"<[^>]+>", " ", report.html.read_text("utf-8"))
    assert page.index("Checks that failed") < page.index("Checks that could not run") < page.index("Checks that passed")
    assert "0.25 (0.2 to 0.31), limit 0.1, p = 0.003" in page and "f9.png and others" in page and "To do: Retrain." in page
    assert "Small groups hide." in page


def test_without_a_favourable_outcome_nothing_is_judged_and_the_rates_are_shown(model: explainer.Model, tmp_path: Path) -> None:
    frame, labels, sex = make(160, 1)
    found = explainer.audit(model, frame, labels, groups=sex, out=tmp_path / "r", date=DATE, cases=1, sample=5, formats=("html", "json"))
    topics = [o["topic"] for o in found.evidence["outcomes"] if o["section"] == "groups"]
    assert topics == ["Error rates by sex"] and "Fairness of selection between groups" in found.not_assessed
    page = re.sub(r"<[^>]+>", " ", found.html.read_text("utf-8"))
    assert (
        "not named: fairness of selection is not judged" in page
        and "is not guessed" in page
        and "one of: no, yes" in page
        and "What is predicted by sex" in page
        and "Four-fifths" not in page
    )
    yes = score(frame).argmax(1)[sex["sex"] == "f"].mean()
    assert f"{100 * yes:.1f}\u00a0%" in page


def test_a_full_disk_leaves_nothing_and_keeps_the_old_report(model: explainer.Model, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {p.name: p.read_bytes() for p in copy.iterdir()}

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for out in (copy, copy.parent / "new"):
        with pytest.raises(OSError, match="No space left"):
            small(model, out, formats=("json",))
    assert {p.name: p.read_bytes() for p in copy.iterdir()} == before
    assert [p.name for p in copy.parent.iterdir()] == ["copy"]


def test_an_earlier_report_is_replaced_and_other_files_never(model: explainer.Model, copy: Path, tmp_path: Path) -> None:
    small(model, copy, formats=("json",))
    assert sorted(p.name for p in copy.iterdir()) == ["manifest.json", "report.json"]
    assert explainer.verify(copy).ok
    assert [p.name for p in tmp_path.iterdir()] == ["copy"]
    (copy / "my notes.txt").write_text("keep")
    with pytest.raises(InvalidInput, match=r"my notes\.txt"):
        small(model, copy)
    (copy / "manifest.json").unlink()
    with pytest.raises(InvalidInput, match="not a report"):
        small(model, copy)
    assert (copy / "my notes.txt").read_text() == "keep"


def test_cancelling_stops_and_writes_nothing(model: explainer.Model, tmp_path: Path) -> None:
    seen: list[int] = []

    def progress(done: int, total: int) -> None:
        seen.append(done)
        if done >= 20:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        small(model, tmp_path / "r", progress=progress)
    assert list(tmp_path.iterdir()) == [] and seen == sorted(seen)


def test_wrong_arguments_say_what_is_valid(model: explainer.Model, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'finance'"):
        small(model, tmp_path / "r", profile="finanze")
    with pytest.raises(UnknownName, match="html"):
        small(model, tmp_path / "r", formats=("htm",))
    with pytest.raises(InvalidInput, match="2026-05-31"):
        small(model, tmp_path / "r", date="31.5.2026")
    with pytest.raises(InvalidInput, match="2026-05-31garbage"):
        small(model, tmp_path / "r", date="2026-05-31garbage")
    with pytest.raises(InvalidInput, match="is no file"):
        small(model, tmp_path / "r", source=tmp_path)
    frame, labels, sex = make(30, 1)
    with pytest.raises(InvalidInput, match="one label per row"):
        explainer.audit(model, frame, labels[:-1], out=tmp_path / "r")
    with pytest.raises(InvalidInput, match="0 to 1 or class names"):
        explainer.audit(model, frame, labels + 1, out=tmp_path / "r")
    with pytest.raises(InvalidInput, match="one row of attributes"):
        explainer.audit(model, frame, labels, groups=sex.iloc[1:], out=tmp_path / "r")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["yes", None, "no"], "labels row 1 is missing"),
        (["yes", float("nan"), "no"], "labels row 1 is missing"),
        (["yes", "no", "nope"], "labels row 2 is 'nope'; labels are class indices 0 to 1 or class names"),
        (["granted", "no", "yes"], "labels row 0 is 'granted'"),
        (["granted", "refused", "granted"], "labels row 0 is 'granted'"),
        ([0.0, float("nan"), 1.0], "labels row 1 is missing"),
        ([0, 1, 2], "labels row 2 is"),
    ],
)
def test_a_label_that_is_missing_or_unknown_is_named_by_its_row(model: explainer.Model, labels: list, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        explainer.reports.audit.read_labels(pd.Series(labels, dtype=object), model, 3, "labels")


def test_a_date_with_a_time_is_that_day() -> None:
    assert explainer.reports.audit._date(datetime.datetime(2026, 5, 31, 12, tzinfo=datetime.UTC)) == "2026-05-31"


def test_columns_that_the_model_does_not_read_are_named_and_checked(model: explainer.Model, tmp_path: Path) -> None:
    frame, labels, _ = make(60, 1)
    wide = frame.assign(contact=[f"person{i}@example.com" for i in range(60)], outcome=np.array(NAMES)[labels])
    wide.to_csv(tmp_path / "rows.csv", index=False)
    found = explainer.audit(
        model, wide, labels, source=tmp_path / "rows.csv", out=tmp_path / "r", date=DATE, cases=0, sample=5, formats=("html", "json")
    )
    data, checks = found.evidence["sections"]["data"], found.evidence["sections"]["checks"]
    assert data["unused"] == ["contact"] and "Columns that the model does not use" in found.not_assessed
    assert next(f for f in checks["findings"] if f["check"] == "personal data")["state"] == "fail"
    assert found.evidence["inputs"]["data file"] == hashlib.sha256((tmp_path / "rows.csv").read_bytes()).hexdigest()
    page = found.html.read_text("utf-8")
    assert "Read from rows.csv." in page and "looked at by the data checks: contact." in page
    assert explainer.verify(found.path, model=model, data=wide, labels=labels).ok
    other = explainer.verify(found.path, model=model, data=wide.assign(contact="x"), labels=labels)
    assert other.problems == ("data: the columns that the model does not read are not those this report was written on",)
    plain = small(model, tmp_path / "plain", formats="json", cases=0)
    assert "unused" not in plain.evidence["sections"]["data"] and plain.evidence["inputs"]["data"] == found.evidence["inputs"]["data"]


def test_a_model_without_background_is_explained_by_the_reference(tmp_path: Path) -> None:
    frame, labels, _ = make(60, 1)
    bare = explainer.wrap(score, modality="tabular", class_names=NAMES, feature_names=list(frame.columns))
    alone = explainer.audit(bare, frame, labels, out=tmp_path / "a", date=DATE, cases=1, sample=5, formats="json").evidence["sections"]
    assert not alone["importance"]["assessed"] and "reference" in alone["importance"]["reason"]
    known = make(200, 2)[0]
    found = explainer.audit(bare, frame, labels, reference=known, out=tmp_path / "b", date=DATE, cases=1, sample=5, formats="json")
    sections = found.evidence["sections"]
    assert sections["importance"]["assessed"] and "100 reference rows" in sections["importance"]["notes"][-1]
    drawn = np.sort(np.random.default_rng(0).choice(200, 100, replace=False))
    (case,) = sections["cases"]["cases"]
    assert case["base"] == pytest.approx(score(known.iloc[drawn])[:, NAMES.index(case["predicted"])].mean(), abs=1e-3)


def test_labels_by_name_and_by_index_give_the_same_report(model: explainer.Model, tmp_path: Path) -> None:
    frame, labels, _ = make(60, 1)
    by_name = explainer.audit(model, frame, np.array(NAMES)[labels], out=tmp_path / "n", date=DATE, cases=1, sample=5, formats="json")
    assert by_name.evidence_sha256 == small(model, tmp_path / "i", formats="json").evidence_sha256


def test_a_regression_is_reported_with_residuals(tmp_path: Path) -> None:
    frame, _, sex = make(80, 4)
    rng = np.random.default_rng(0)

    def predict(f: pd.DataFrame) -> np.ndarray:
        return (2 * f["income"] - f["debt"]).to_numpy(dtype=float)

    model = explainer.wrap(predict, modality="tabular", task="regression", class_names=["price"], background=frame.iloc[:10])
    given = {"groups": sex, "date": DATE, "sample": 5}
    labels = predict(frame) + rng.normal(scale=0.3, size=80)
    found = explainer.audit(model, frame, labels, out=tmp_path / "r", **given)
    groups = found.evidence["sections"]["groups"]
    women = predict(frame)[sex["sex"] == "f"]
    assert groups["selection"] is None and groups["tables"][0]["groups"][0]["estimate"] == pytest.approx(women.mean(), rel=1e-4)
    low = explainer.audit(model, frame, labels, out=tmp_path / "low", favourable="low", formats="json", **given)
    rate = (women < np.median(predict(frame))).mean()
    assert low.evidence["sections"]["groups"]["tables"][0]["groups"][0]["selection"] == pytest.approx(rate, rel=1e-4)
    section = found.evidence["sections"]["performance"]
    assert section["assessed"] and section["metrics"][0]["name"] == "r2" and section["metrics"][0]["value"] > 0.9
    assert [c["rule"] for c in found.evidence["sections"]["cases"]["cases"]] == ["largest error", "median error", "smallest error"]
    page = found.html.read_text("utf-8")
    assert "over the prediction, with 95 %" in page and "one of: high, low" in page and "Mean prediction" in page


def images(n: int) -> tuple[np.ndarray, np.ndarray, object]:
    labels = np.arange(n) % 2
    pictures = np.random.default_rng(0).random((n, 16, 16)).astype(np.float32) * 0.3
    pictures[labels == 1, 4:12, 4:12] += 0.6
    return pictures, labels, lambda x: 1 / (1 + np.exp(-20 * (x[:, 4:12, 4:12].mean((1, 2)) - 0.45)))


def texts(n: int) -> tuple[list[str], np.ndarray, object]:
    labels = np.arange(n) % 2
    said = [f"the contract number {i} is {'void and null' if one else 'valid and signed'} — §{i} 中文" for i, one in enumerate(labels)]
    return said, labels, lambda x: np.array([0.9 if "void" in t else 0.3 if "valid" in t else 0.5 for t in x])


def series(n: int) -> tuple[list[np.ndarray], np.ndarray, object]:
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 2
    waves = [rng.normal(size=(8 + i % 5, 3)).astype(np.float32) + [0, 2 * one, 0] for i, one in enumerate(labels)]
    return waves, labels, lambda x: np.array([1 / (1 + np.exp(-3 * (w[:, 1].mean() - 1))) for w in x])


@pytest.mark.parametrize(("modality", "make_data"), [("image", images), ("text", texts), ("series", series)])
def test_every_kind_of_data_is_reported_whole(modality: str, make_data: object, tmp_path: Path) -> None:
    data, labels, predict = make_data(24)  # type: ignore[operator]

    def two(x: object) -> np.ndarray:
        p = predict(x)
        return np.stack([1 - p, p], axis=1)

    names = ["left", "middle", "right"] if modality == "series" else None
    model = explainer.wrap(two, modality=modality, class_names=NAMES, feature_names=names, background=data[:6], name=modality)
    found = explainer.audit(model, data, labels, out=tmp_path / "r", date=DATE, sample=6, profile="eu-ai-act")
    sections = found.evidence["sections"]
    assert {name: s["reason"] for name, s in sections.items() if not s["assessed"]}.keys() == {"groups", "card"}
    page = found.html.read_text("utf-8")
    assert page.count("<svg") >= (3 if modality == "text" else 5) and ("<mark" in page) == (modality == "text")
    assert len(pypdf.PdfReader(found.pdf).pages) >= 4
    if modality == "series":
        assert sections["importance"]["top"][0]["feature"] == "middle"
    if modality == "text":
        assert sections["importance"]["top"][0]["feature"] in {"void", "valid"}


def test_status_is_the_worst_outcome() -> None:
    def of(*statuses: str) -> str:
        return document.status_of({"outcomes": [{"status": s} for s in statuses]})

    assert (of(), of("pass"), of("pass", "warn"), of("warn", "fail"), of("error", "pass")) == ("pass", "pass", "warn", "fail", "fail")


def test_every_profile_answers_each_of_its_requirements() -> None:
    every = {name: True for name in (*evidence.TITLES, *profiles.KINDS)}
    known = {profiles.KINDS.get(name, name) for name in every}
    for name in profiles.names():
        found = profiles.profile(name)
        assert found["verified"] is False
        rows = profiles.answers(found, every)
        assert rows and {s for row in rows for s in row["evidence"]} <= known
        assert all(row["gap"] or row["status"] == "evidence given" for row in rows) and not any(row["lacking"] for row in rows)
        assert {row["status"] for row in profiles.answers(found, {})} == {"not assessed"}


def test_text_no_font_draws_is_written_as_code_points() -> None:
    assert pdf._safe(["a✓", "中", "e\u0301\u200b"])[:2] == ["a✓", "[U+4E2D]"]
    assert evidence.clean("a\x00b\x1b[31m\ud800c") == "a�b�[31m�c"
