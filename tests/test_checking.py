"""``explainer check``: its options, what it prints at 80 columns, what it writes, and its exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from explainer import cli
from explainer.checks.catalogue import CHECKS
from explainer.checks.finding import Findings

Run = Callable[..., Any]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "80")
    return lambda *words: CliRunner().invoke(cli.app, ["check", *words])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(200, 4)).round(4), columns=list("abcd"))
    frame["outcome"] = np.where(frame["a"] + rng.normal(size=200) > 0, "yes", "no")
    frame["part"] = np.where(np.arange(200) < 150, "train", "test")
    frame["day"] = pd.date_range("2026-01-01", periods=200).strftime("%Y-%m-%d")
    frame["sex"] = ["f"] * 4 + ["m"] * 196
    frame.to_csv(tmp_path / "rows.csv", index=False)
    bad = pd.concat([frame, frame.head(20)], ignore_index=True).assign(country="DE")
    bad.loc[3, "b"] = np.inf
    bad.to_csv(tmp_path / "bad.csv", index=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_table_reads_at_80_columns(place: Path, run: Run) -> None:
    result = run("bad.csv", "--labels", "outcome")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(result.stdout.split())
    assert "✗ fail" in text and "rows 200, 201" in text and "threshold 0" in text and "Leave it out" in text
    assert text.index("✗ fail") < text.index("○ not run") < text.index("✓ pass ")


def test_only_what_is_named_runs(place: Path, run: Run) -> None:
    result = run("bad.csv", "--only", "exact duplicates", "--only", "infinite values", "--json")
    assert {f["check"] for f in json.loads(result.stdout)["findings"]} == {"exact duplicates", "infinite values"}
    refused = run("bad.csv", "--only", "exact duplicate")
    assert refused.exit_code == 2 and "Did you mean 'exact duplicates'" in " ".join(refused.stderr.split())


def test_the_catalogue_is_listed_with_its_reasons(run: Run) -> None:
    listed = run("--list")
    assert listed.exit_code == 0 and all(c.name in " ".join(listed.stdout.split()) for c in CHECKS if len(c.name) < 20)
    entries = json.loads(run("--list", "--modality", "image", "--json").stdout)
    assert {e["check"] for e in entries} == {c.name for c in CHECKS if "image" in c.modalities}
    assert all(e["why"] and e["advice"] for e in entries) and any(e["fix"] for e in entries)
    assert run("--list", "--modality", "pictures").exit_code == 2


def test_without_data_it_says_what_to_name(run: Run) -> None:
    result = run()
    assert result.exit_code == 2 and "Name the data to check" in result.stderr


def test_columns_are_named_for_split_time_and_group(place: Path, run: Run) -> None:
    words = ("--labels", "outcome", "--split", "part", "--time", "day", "--group", "sex", "--json")
    facts = json.loads(run("rows.csv", *words).stdout)
    groups = next(f for f in facts["findings"] if f["check"] == "group sizes")
    assert groups["state"] == "fail" and groups["evidence"] == {"sex": {"f": 4, "m": 196}}
    for option in ("--split", "--time", "--group"):
        refused = run("rows.csv", option, "prat")
        assert refused.exit_code == 2 and "Unknown" in refused.stderr


def test_json_is_read_back_and_compared(place: Path, run: Run) -> None:
    first = run("rows.csv", "--labels", "outcome", "--json")
    Path("before.json").write_text(first.stdout)
    assert Findings.from_json(first.stdout).rows == 200
    same = run("rows.csv", "--labels", "outcome", "--compare", "before.json")
    assert same.exit_code == 0 and "as before" in same.stdout  # what failed before and fails no worse ends no build
    worse = run("bad.csv", "--labels", "outcome", "--compare", "before.json")
    assert worse.exit_code == 1 and "new exact duplicates" in " ".join(worse.stdout.split())
    since = json.loads(run("bad.csv", "--labels", "outcome", "--compare", "before.json", "--json").stdout)["since"]
    assert not since["ok"] and {"new"} <= {t["turn"] for t in since["turned"]}
    Path("before.json").write_text("[]")
    assert run("rows.csv", "--compare", "before.json").exit_code == 2


def test_a_page_is_written(place: Path, run: Run) -> None:
    assert "Page: out/page.html" in run("bad.csv", "--html", "out/page.html").stdout
    assert "Data checks of bad.csv" in Path("out/page.html").read_text()


def test_a_cleaned_copy_is_written_with_its_log(place: Path, run: Run) -> None:
    before = Path("bad.csv").read_bytes()
    result = run("bad.csv", "--labels", "outcome", "--fix", "clean.csv")
    assert result.exit_code == 1 and "cleaned copy: clean.csv" in result.stdout and Path("bad.csv").read_bytes() == before
    log = pd.read_csv("clean.csv.changes.csv")
    assert set(log["check"]) >= {"exact duplicates", "infinite values", "constant columns"}
    after = json.loads(run("clean.csv", "--labels", "outcome", "--json").stdout)
    failed = {f["check"] for f in after["findings"] if f["state"] == "fail"}
    assert not failed & {"exact duplicates", "infinite values", "constant columns"}
    again = run("bad.csv", "--fix", "clean.csv")
    assert again.exit_code == 2 and "nothing is overwritten" in " ".join(again.stderr.split())
    original = run("bad.csv", "--fix", "bad.csv")
    assert original.exit_code == 2 and "never touched" in " ".join(original.stderr.split()) and Path("bad.csv").read_bytes() == before


def test_only_what_is_named_is_fixed(place: Path, run: Run) -> None:
    facts = json.loads(run("bad.csv", "--labels", "outcome", "--fix", "c.csv", "--only", "constant columns", "--json").stdout)
    assert {c["check"] for c in facts["fixed"]["changes"]} == {"constant columns"}
    assert len(pd.read_csv("c.csv")) == 220 and "country" not in pd.read_csv("c.csv")


def test_what_stands_in_the_reference_is_dropped(place: Path, run: Run) -> None:
    pd.read_csv("rows.csv").head(30).to_csv("train.csv", index=False)
    words = ("rows.csv", "--labels", "outcome", "--reference", "train.csv", "--only", "overlap, exact")
    run(*words, "--fix", "c.csv")
    assert len(pd.read_csv("c.csv")) == 170


def test_rules_are_written_from_good_data_and_held_against_others(place: Path, run: Run) -> None:
    assert run("rows.csv", "--labels", "outcome", "--write-rules", "rules.json").exit_code == 0
    assert "outcome" not in Path("rules.json").read_text() and run("rows.csv", "--write-rules", "rules.json").exit_code == 2
    good = json.loads(run("rows.csv", "--labels", "outcome", "--rules", "rules.json", "--only", "rules", "--json").stdout)
    assert good["findings"][0]["state"] == "pass"
    frame = pd.read_csv("rows.csv")
    frame.loc[7, "a"] = 1e6
    frame.to_csv("other.csv", index=False)
    bad = run("other.csv", "--labels", "outcome", "--rules", "rules.json", "--only", "rules", "--json")
    assert bad.exit_code == 1 and json.loads(bad.stdout)["findings"][0]["rows"] == [7]


def test_a_list_of_words_is_looked_for(place: Path, run: Run) -> None:
    Path("texts.jsonl").write_text("".join(json.dumps({"text": f"a plain line about number {i}"}) + "\n" for i in range(40)))
    Path("words.txt").write_text("plain\n")
    found = json.loads(run("texts.jsonl", "--only", "toxic words", "--words", "words.txt", "--json").stdout)["findings"][0]
    assert found["state"] == "fail" and found["count"] == 40


def test_zoo_data_are_no_file_to_copy(place: Path, run: Run) -> None:
    result = run("zoo:loan-mlp", "--fix", "c.csv")
    assert result.exit_code == 2 and "Only a file or a folder" in " ".join(result.stderr.split())


def test_help_names_every_option(run: Run) -> None:
    text = run("--help").stdout
    for word in ("--split", "--time", "--group", "--only", "--list", "--html", "--compare", "--fix", "--json", "Exit code"):
        assert word in text


def test_a_stopped_check_exits_130_and_writes_no_copy(place: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from explainer.checks import run as runner

    real, count = runner._run_one, iter(range(100))

    def stopping(*args: Any) -> Any:
        if next(count) == 5:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(runner, "_run_one", stopping)
    result = run("bad.csv", "--labels", "outcome", "--fix", "clean.csv")
    assert result.exit_code == 130 and not Path("clean.csv").exists()
    assert "stopped before it" in result.stdout and "no cleaned copy was written" in " ".join(result.stderr.split())
    assert "130 stopped" in " ".join(run("--help").stdout.split())


def test_half_a_surrogate_pair_is_printed_as_json(place: Path, run: Run) -> None:
    lines = [json.dumps({"text": f"a plain line about number {i}", "label": "ab"[i % 2]}) for i in range(40)]
    Path("texts.jsonl").write_text("\n".join([*lines, '{"text": "\\ud800 a lone half", "label": "a\\ud800"}']))
    assert json.loads(run("texts.jsonl", "--labels", "label", "--json").stdout)["rows"] == 41
