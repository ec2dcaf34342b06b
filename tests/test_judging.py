"""The commands importance and reasons: what they print and save, their exit codes, and one clean message for each misuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import explainer
from explainer import cli, sources
from explainer.inspection.importance import Importance
from explainer.inspection.notices import Reasons

MODELS = """
import signal
import numpy as np
import explainer

COLUMNS = ["a", "b", "c"]

def card(called=lambda: None):
    def score(x):
        called()
        p = 1 / (1 + np.exp(-np.asarray(x, dtype=float) @ [1.0, -2.0, 0.5]))
        return np.c_[1 - p, p]
    background = np.random.default_rng(0).normal(size=(30, 3))
    return explainer.wrap(score, modality="tabular", feature_names=COLUMNS, class_names=["no", "yes"], background=background, name="card")

def stopping():
    calls = []
    def press():
        calls.append(1)
        if len(calls) == 12:
            signal.raise_signal(signal.SIGINT)
    return card(press)

def words():
    def score(texts):
        p = np.array([min(1.0, t.lower().count("now") / 2) for t in texts])
        return np.c_[1 - p, p]
    return explainer.wrap(score, modality="text", class_names=["calm", "loud"])
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file of models, a table with labels, and a table of reasons; and us in it."""
    (tmp_path / "models.py").write_text(MODELS)
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(rng.normal(size=(60, 3)).round(6), columns=list("abc"))
    frame["outcome"] = np.where(frame["a"] - 2 * frame["b"] > 0, "yes", "no")
    frame.loc[0] = [-2.0, 2.0, -1.0, "no"]
    frame.loc[1] = [2.0, -2.0, 1.0, "yes"]
    frame.to_csv(tmp_path / "rows.csv", index=False)
    (tmp_path / "reasons.csv").write_text("column,reason,low\na,,Income too low\nb,Too many obligations,\nc,Too few references,\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    return tmp_path


Run = Callable[..., Any]


@pytest.fixture
def run() -> Run:
    def invoke(*words: str) -> Any:
        return CliRunner().invoke(cli.app, list(words))

    return invoke


def test_importance_prints_what_importance_gives(place: Path, run: Run) -> None:
    result = run("importance", "models.py:card", "rows.csv", "--json", "--out", "saved")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    expected = explainer.importance(sources.resolve_model("models.py:card"), pd.read_csv("rows.csv"))
    assert {f["feature"]: f["importance"] for f in facts["features"]} == pytest.approx(
        dict(zip(expected.names, expected.values, strict=True))
    )
    assert facts["rows"] == 60 and facts["target"] == "yes" and facts["features"][0]["feature"] == "b"
    assert Importance.load("saved/importance.json").names == expected.names
    page = Path("saved/plot.html").read_text()
    assert "SHAP over 60 rows" in page and "<script src=" not in page


def test_importance_by_loss_needs_labels_and_takes_them(place: Path, run: Run) -> None:
    result = run("importance", "models.py:card", "rows.csv", "--kind", "sage", "--labels", "outcome")
    assert result.exit_code == 0, result.output
    assert "SAGE over 60 rows, cross-entropy" in result.stdout and "with no column known" in result.stdout
    chosen = run("importance", "models.py:card", "rows.csv#0-19", "--kind", "sage", "--labels", "outcome", "--json")
    assert json.loads(chosen.stdout)["rows"] == 20
    missing = run("importance", "models.py:card", "rows.csv", "--kind", "sage")
    assert missing.exit_code == 2 and "needs labels" in " ".join(missing.stderr.split())


def test_importance_of_words(place: Path, run: Run) -> None:
    Path("texts.jsonl").write_text('{"text": "now or never"}\n{"text": "not now"}\n')
    result = run("importance", "models.py:words", "texts.jsonl", "--top", "1", "--json")
    assert result.exit_code == 0, result.output
    assert [f["feature"] for f in json.loads(result.stdout)["features"]] == ["now"]


def test_reasons_for_a_person(place: Path, run: Run) -> None:
    words = ("reasons", "models.py:card", "rows.csv#0,1", "--target", "yes", "--reasons", "reasons.csv")
    result = run(*words, "--population", "near the cutoff", "--out", "notices")
    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.split())
    assert "Too many obligations" in text and "Income too low" in text and "row 1 · probability" in text and "No notice is needed" in text
    assert "approved applicants nearest the cutoff 0.5" in text
    found = Reasons.load("notices/reasons.json")
    assert [case.row for case in found] == [0, 1]
    notices = Path("notices/notices.txt").read_text()
    assert notices.startswith("row 0\nPrincipal reasons for the decision:\n1. Too many obligations")
    assert Path("notices/plot.html").read_text().count("cutoff 0.5") >= 2
    facts = json.loads(run(*words, "--json").stdout)
    model = sources.resolve_model("models.py:card")
    expected = explainer.reason_codes(model, pd.read_csv("rows.csv").iloc[[0, 1]], target="yes", reasons="reasons.csv")
    assert facts["cases"][0]["reasons"][0]["value"] == pytest.approx(expected[0].reasons[0].value)
    assert facts["notices"] == [expected.text(0), expected.text(1)] and facts["changes"]["all"]["runs"] == 7


def test_reasons_that_cannot_be_told_are_a_finding(place: Path, run: Run) -> None:
    result = run("reasons", "models.py:card", "rows.csv#1", "--target", "yes", "--cutoff", "0.9999999")
    assert result.exit_code == 1, result.output
    assert "No specific reason can be told" in " ".join(result.stdout.split())


def test_reasons_against_a_file(place: Path, run: Run) -> None:
    result = run(
        "reasons", "models.py:card", "rows.csv#0", "--target", "yes", "--population", "rows.csv", "--applicants", "rows.csv", "--json"
    )
    facts = json.loads(result.stdout)
    assert facts["population"] == "rows.csv" and facts["population_rows"] == 60


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("importance", "models.py:card", "none.csv"), "none.csv"),
        (("importance", "models.py:card", "rows.csv", "--kind", "sages"), "Did you mean 'sage'"),
        (("importance", "models.py:card", "rows.csv", "--kind", "sage", "--labels", "outcom"), "Did you mean 'outcome'"),
        (("importance", "models.py:card", "rows.csv", "--budget", "soon"), "budget='soon'"),
        (("reasons", "models.py:card", "rows.csv#0"), "which outcome is favourable"),
        (("reasons", "models.py:card", "rows.csv#0", "--target", "yess"), "Did you mean 'yes'"),
        (("reasons", "models.py:card", "rows.csv#0", "--target", "yes", "--population", "aproved"), "Did you mean 'approved'"),
        (("reasons", "models.py:card", "rows.csv#0", "--target", "yes", "--reasons", "no.csv"), "no table of reasons"),
        (("reasons", "models.py:words", "now", "--target", "loud"), "columns of a table"),
    ],
)
def test_misuse_is_answered_in_one_message(place: Path, run: Run, words: tuple[str, ...], message: str) -> None:
    result = run(*words)
    assert result.exit_code == 2, result.output
    assert result.stdout == "" and message in " ".join(result.stderr.split())


def test_ctrl_c_prints_what_is_known(place: Path, run: Run) -> None:
    """The model presses Ctrl-C itself, at its twelfth call."""
    result = run("importance", "models.py:stopping", "rows.csv", "--batch", "4", "--json")
    assert result.exit_code == 130, result.output
    facts = json.loads(result.stdout)
    assert 4 <= facts["rows"] < 60 and not facts["complete"]
