"""The command line: what it prints, what it saves, its exit codes, and one clean message for each misuse."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

import explainer
from explainer import cli, commands, errors, sources

MODELS = """
import numpy as np
import explainer
from neighbour import WEIGHTS

def linear():
    def score(x):
        p = 1 / (1 + np.exp(-np.asarray(x, dtype=float) @ WEIGHTS))
        return np.c_[1 - p, p]
    return explainer.wrap(score, modality="tabular", feature_names=["a", "b", "c"], class_names=["no", "yes"],
                          background=np.zeros((5, 3)) + np.arange(5)[:, None] / 5, name="linear")

def parity():
    def score(x):
        p = (np.round(np.abs(np.asarray(x, dtype=float)) * 5).astype(int).sum(1) % 2) * 0.9 + 0.05
        return np.c_[1 - p, p]
    return explainer.wrap(score, modality="tabular", feature_names=["a", "b", "c"], class_names=["no", "yes"],
                          background=np.random.default_rng(0).random((40, 3)))

def shouting():
    def score(texts):
        p = np.array([sum(w.isupper() for w in t.split()) / max(len(t.split()), 1) for t in texts])
        return np.c_[1 - p, p]
    return explainer.wrap(score, modality="text", class_names=["calm", "shouting"])

def nothing():
    return None

def boom():
    return 1 / 0

VALUE = 3
"""
BOOM = MODELS.splitlines().index("    return 1 / 0") + 1


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file of models and a table, and us in it."""
    (tmp_path / "models.py").write_text(MODELS)
    (tmp_path / "neighbour.py").write_text("WEIGHTS = [1.0, -2.0, 0.5]\n")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.random((80, 3)).round(6), columns=list("abc"))
    frame["outcome"] = np.where(frame["a"] - 2 * frame["b"] + 0.5 * frame["c"] > 0, "yes", "no")
    frame["sex"] = np.where(rng.random(80) > 0.5, "f", "m")
    frame.to_csv(tmp_path / "rows.csv", index=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    return tmp_path


Run = Callable[..., Any]


@pytest.fixture
def run() -> Run:
    """Run one command line in this process; stdout and stderr apart."""

    def invoke(*words: str) -> Any:
        return CliRunner().invoke(cli.app, list(words))

    return invoke


def facts_of(result: Any) -> Any:
    """What a command printed with --json; its exit code says that it ran."""
    assert result.exit_code in (0, 1), result.output
    return json.loads(result.stdout)


def misuse(result: Any) -> str:
    """The one message of a refused command: no traceback, nothing on stdout, exit code 2."""
    assert result.exit_code == 2, result.output
    assert result.stdout == "" and "Traceback" not in result.stderr
    assert result.stderr.startswith("explainer: ")
    return " ".join(result.stderr.split())


def test_explain_prints_what_explain_gives(place: Path, run: Run) -> None:
    result = run("explain", "models.py:linear", "rows.csv#3,7", "--method", "shap", "--json")
    assert result.exit_code == 0, result.output
    facts = facts_of(result)
    model = sources.resolve_model("models.py:linear")
    rows = pd.read_csv("rows.csv")
    ex = explainer.explain(model, rows.iloc[[3, 7]], "shap")
    assert [i["row"] for i in facts["instances"]] == [3, 7]
    for i, instance in enumerate(facts["instances"]):
        values = {f["feature"]: f["value"] for f in instance["features"]}
        assert values == pytest.approx(dict(zip("abc", ex.values[i], strict=True)))
        assert instance["score"] == pytest.approx(ex.scores[i])
        assert instance["base"] + sum(values.values()) == pytest.approx(instance["score"])
        assert instance["verdict"]["status"] == ex.verdicts[i].status
        sizes = [abs(f["value"]) for f in instance["features"]]
        assert sizes == sorted(sizes, reverse=True)


def test_explain_shows_a_person_features_with_their_values_and_the_verdict(place: Path, run: Run) -> None:
    result = run("explain", "models.py:linear", "rows.csv#3", "--method", "shap")
    own = pd.read_csv("rows.csv")["b"][3]
    assert f"b = {own:.3g}" in result.stdout and "verdict: ✓ pass" in result.stdout


def test_what_stands_in_and_how_inputs_are_cut_can_be_said(place: Path, run: Run) -> None:
    words = ("explain", "models.py:linear", "rows.csv#3", "--method", "shap", "--json", "--baseline", "neighbours:5", "--features")
    facts = json.loads(run(*words, "correlated:0.99").stdout)
    assert facts["absence"].startswith("mean over the 5 of") and any("at least 0.99" in note for note in facts["notes"])
    wrong = run(*words, "onehot")
    assert wrong.exit_code == 2 and "Did you mean 'one-hot'" in wrong.stderr
    assert "An absent part: " in run("explain", "models.py:linear", "rows.csv#3", "--method", "shap").stdout


def test_explain_saves_what_can_be_loaded_and_a_page_that_needs_no_network(place: Path, run: Run) -> None:
    assert run("explain", "models.py:linear", "rows.csv#0-2", "--method", "shap", "--out", "ex").exit_code == 0
    ex = explainer.load("ex")
    assert len(ex) == 3 and ex.method == "shap"
    page = Path("ex/plot.html").read_text()
    assert page.count("SHAP for") == 3 and "<script src=" not in page


def test_parameters_of_the_method_are_set_by_name(place: Path, run: Run) -> None:
    words = ("explain", "models.py:linear", "rows.csv#3", "--method", "shap", "--json")
    assert facts_of(run(*words))["parameters"]["algorithm"] == "exact"
    assert facts_of(run(*words, "--set", "algorithm=permutation"))["parameters"]["algorithm"] == "permutation"
    assert "Did you mean 'algorithm'" in misuse(run(*words, "--set", "algoritm=exact"))
    assert "NAME=VALUE" in misuse(run(*words, "--set", "exact"))
    assert cli._parameters(["a=1.5", "b=True", "c=none", "d=words"]) == {"a": 1.5, "b": True, "c": None, "d": "words"}


def test_a_row_that_cannot_be_scored_is_named_and_the_others_explained(place: Path, run: Run) -> None:
    (place / "models.py").write_text(
        MODELS
        + """
def brittle():
    def score(x):
        p = np.asarray(x, dtype=float)[:, 0]
        if (p > 5).any():
            raise RuntimeError("the sensor is unplugged")
        return np.c_[1 - p, p]
    return explainer.wrap(score, modality="tabular", feature_names=["a"], class_names=["no", "yes"], background=np.zeros((3, 1)))
"""
    )
    pd.DataFrame({"a": [0.5, 9.0, 0.25]}).to_csv("some.csv", index=False)
    words = ("explain", "models.py:brittle", "some.csv", "--method", "shap")
    facts = facts_of(run(*words, "--json", "--out", "ex"))
    assert [len(i["features"]) for i in facts["instances"]] == [1, 0, 1]
    assert "sensor is unplugged" in facts["instances"][1]["verdict"]["reason"]
    result = run(*words)
    assert result.exit_code == 1 and "sensor is unplugged" in " ".join(result.stdout.split())
    assert "unplugged" in Path("ex/plot.html").read_text()


def test_a_stopped_run_is_resumed(place: Path, run: Run) -> None:
    words = ("explain", "models.py:linear", "rows.csv#3", "--method", "shap", "--json", "--resume", "kept")
    first = facts_of(run(*words))
    assert facts_of(run(*words))["instances"] == first["instances"]
    assert "another run" in misuse(run("explain", "models.py:linear", "rows.csv#4", "--method", "shap", "--resume", "kept"))


def test_a_first_interrupt_keeps_what_is_known() -> None:
    import signal

    from explainer import terminal

    told = []
    with terminal.stoppable(lambda done, total: told.append(done)) as report:
        report(1, 3)
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(errors.Cancelled, match="Ctrl-C"):
            report(2, 3)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert told == [1, 2]


def test_top_limits_the_features_and_says_how_many_there_are(place: Path, run: Run) -> None:
    instance = facts_of(run("explain", "models.py:linear", "rows.csv#3", "--top", "1", "--json"))["instances"][0]
    assert len(instance["features"]) == 1 and instance["features_in_all"] == 3


def test_a_failed_verdict_is_a_finding(place: Path, run: Run) -> None:
    result = run("explain", "models.py:parity", "rows.csv#3", "--method", "lime", "--json")
    assert facts_of(result)["instances"][0]["verdict"]["status"] == "fail"
    assert result.exit_code == 1


@pytest.mark.parametrize(
    ("word", "label"), [("predicted", None), ("no", "no"), ("1", "yes"), ("yes over no", "yes over no"), ("all", "all")]
)
def test_targets(place: Path, run: Run, word: str, label: str | None) -> None:
    result = run("explain", "models.py:linear", "rows.csv#3", "--method", "shap", "--target", word, "--json")
    instance = facts_of(result)["instances"][0]
    assert label is None or instance["target"] == label
    if word == "all":
        assert set(instance["score"]) == {"no", "yes"} and {f["target"] for f in instance["features"]} == {"no", "yes"}


def test_a_text_model_takes_the_text_itself_or_a_file(place: Path, run: Run) -> None:
    (place / "note.txt").write_text("calm words and LOUD ones")
    for word in ("calm words and LOUD ones", "note.txt"):
        instance = facts_of(run("explain", "models.py:shouting", word, "--target", "shouting", "--json"))["instances"][0]
        assert instance["features"][0]["feature"] == "LOUD"
        assert instance["score"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("models.py:linear", "rows.csv"), "has 80 rows; say which to explain, as in rows.csv#0"),
        (("models.py:linear", "rows.csv#80"), "numbered 0 to 79; row 80 was asked for"),
        (("models.py:linear", "rows.csv#5-2"), "the empty range 5-2"),
        (("models.py:linear", "none.csv"), "No file or folder 'none.csv'"),
        (("models.py:lienar", "rows.csv#0"), "Did you mean 'linear'?"),
        (("models.py:VALUE", "rows.csv#0"), "Unknown factory in models.py 'VALUE'"),
        (("models.py:nothing", "rows.csv#0"), "wrap() takes"),
        (("models.py:boom", "rows.csv#0"), f"models.py, line {BOOM}, raised ZeroDivisionError: division by zero"),
        (("other.py:linear", "rows.csv#0"), "There is no Python file other.py"),
        (("linear", "rows.csv#0"), "'linear' is no model. Pass zoo:NAME"),
        (("zo:linear", "rows.csv#0"), "Unknown model prefix 'zo'. Did you mean 'zoo'?"),
        (("zoo:digit-cnn", "rows.csv#0"), "Did you mean 'digits-cnn'?"),
        (("models.py:linear", "rows.csv#0", "--method", "shapp"), "Did you mean 'shap'?"),
        (("models.py:linear", "rows.csv#0", "--method", "saliency"), "gradients"),
        (("models.py:linear", "rows.csv#0", "--target", "yess"), "Did you mean 'yes'?"),
        (("models.py:linear", "rows.csv#0", "--verify", "never"), "Valid: on, full, off"),
    ],
)
def test_misuse_is_answered_in_one_message(place: Path, run: Run, words: tuple[str, ...], message: str) -> None:
    assert message in misuse(run("explain", *words))


def test_a_mistyped_command_is_answered_with_the_nearest(run: Run) -> None:
    assert "Did you mean 'explain'?" in misuse(run("explian"))


def test_debug_shows_where_an_error_came_from(place: Path, run: Run) -> None:
    result = run("--debug", "explain", "models.py:lienar", "rows.csv#0")
    assert isinstance(result.exception, errors.UnknownName)


def test_check_reports_findings_and_exits_accordingly(place: Path, run: Run) -> None:
    frame = pd.read_csv("rows.csv")
    result = run("check", "rows.csv", "--labels", "outcome", "--json")
    facts = facts_of(result)
    assert facts["rows"] == 80 and facts["ok"] is (result.exit_code == 0)
    pd.concat([frame, frame.head(20)]).assign(same=1).to_csv("bad.csv", index=False)
    result = run("check", "bad.csv", "--labels", "outcome", "--json")
    failed = {f["check"] for f in facts_of(result)["findings"] if f["state"] == "fail"}
    assert result.exit_code == 1 and any("constant" in name for name in failed) and any("duplicate" in name for name in failed)


def test_check_for_a_person_says_what_to_do(place: Path, run: Run) -> None:
    pd.read_csv("rows.csv").assign(same=1).to_csv("bad.csv", index=False)
    result = run("check", "bad.csv", "--labels", "outcome")
    assert result.exit_code == 1 and "✗ fail" in result.stdout and "same" in result.stdout


def test_check_against_a_reference_finds_the_overlap(place: Path, run: Run) -> None:
    pd.read_csv("rows.csv").head(30).to_csv("test.csv", index=False)
    facts = facts_of(run("check", "test.csv", "--labels", "outcome", "--reference", "rows.csv", "--json"))
    overlap = [f for f in facts["findings"] if "overlap" in f["check"]]
    assert overlap and overlap[0]["state"] == "fail" and overlap[0]["count"] == 30


def test_check_refuses_a_label_column_that_is_not_there(place: Path, run: Run) -> None:
    assert "Did you mean 'outcome'?" in misuse(run("check", "rows.csv", "--labels", "outcme"))


def test_audit_writes_a_report_and_verify_finds_every_change(place: Path, run: Run) -> None:
    words = ("models.py:linear", "rows.csv", "--labels", "outcome", "--group", "sex", "--favourable", "yes")
    result = run("audit", *words, "--profile", "finance", "--date", "2026-05-31", "--out", "report", "--json")
    assert result.exit_code in (0, 1), result.output
    facts = facts_of(result)
    assert facts["ok"] is (result.exit_code == 0) and {"report.html", "report.pdf", "report.json"} <= set(facts["files"])
    assert any("sex" in o["topic"] for o in (*facts["outcomes"], *facts["not_assessed"]))
    told = json.loads(Path("report/report.json").read_bytes())
    assert told["inputs"]["data file"] == hashlib.sha256(Path("rows.csv").read_bytes()).hexdigest()
    assert "sex" in told["sections"]["data"]["unused"] and "outcome" not in told["sections"]["data"]["unused"]
    assert run("verify", "report").exit_code == 0
    for kept in ("evidence_sha256", "manifest_sha256"):
        assert facts_of(run("verify", "report", "--expect", facts[kept], "--json"))["ok"] is True
    beside = ("--model", "models.py:linear", "--data", "rows.csv", "--labels", "outcome")
    assert run("verify", "report", *beside).exit_code == 0
    pd.read_csv("rows.csv").iloc[::-1].to_csv("turned.csv", index=False)
    turned = run("verify", "report", *beside[:2], "--data", "turned.csv", "--labels", "outcome", "--json")
    assert {p.split(":")[0] for p in json.loads(turned.stdout)["problems"]} == {"data", "labels"}
    assert "name it too" in misuse(run("verify", "report", "--data", "rows.csv"))
    with open("report/report.html", "ab") as handle:
        handle.write(b" ")
    changed = run("verify", "report", "--json")
    assert changed.exit_code == 1 and json.loads(changed.stdout)["changed"] == ["report.html"]
    assert "report.html" in run("verify", "report").stdout


def test_audit_without_data_says_how_to_name_them(place: Path, run: Run) -> None:
    assert "explainer audit models.py:linear DATA --labels COL" in misuse(run("audit", "models.py:linear"))


def test_audit_refuses_a_group_that_is_not_there(place: Path, run: Run) -> None:
    assert "Did you mean 'sex'?" in misuse(run("audit", "models.py:linear", "rows.csv", "--labels", "outcome", "--group", "sx"))


def test_verify_of_what_is_no_report_is_misuse(place: Path, run: Run) -> None:
    (place / "empty").mkdir()
    assert "holds no report" in misuse(run("verify", "empty"))


def test_methods_tell_what_each_is_on_a_model(place: Path, run: Run) -> None:
    from explainer.inspection.views import VIEWS, views
    from explainer.methods import METHODS

    assert [m["name"] for m in facts_of(run("methods", "--json"))] == [*METHODS, *VIEWS]
    told = {m["name"]: (m["level"], m["reason"]) for m in facts_of(run("methods", "models.py:linear", "--json"))}
    model = sources.resolve_model("models.py:linear")
    expected = {**model.capabilities(), **views(model)}
    assert told == {name: (c.level, c.reason) for name, c in expected.items()}
    assert "○ unsupported" in run("methods", "models.py:linear").stdout


def _join(monkeypatch: pytest.MonkeyPatch, folder: Path, source: str) -> None:
    (folder / "guest.py").write_text(source)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "guest", raising=False)
    monkeypatch.setattr(commands, "joined", lambda: {"visit": EntryPoint("visit", "guest:visit", commands.GROUP)})


def test_another_package_joins_and_is_not_imported_to_be_listed(place: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    _join(monkeypatch, place, 'raise RuntimeError("imported")\ndef visit() -> None:\n    """Say hello from next door.\n\n    More."""\n')
    result = run("--help")
    assert result.exit_code == 0 and "Say hello from next door." in result.stdout and "More." not in result.stdout


def test_a_joined_command_runs_with_its_own_options(place: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    _join(monkeypatch, place, "def visit(name: str, loud: bool = False) -> None:\n    print(name.upper() if loud else name)\n")
    assert run("visit", "ada", "--loud").stdout == "ADA\n"
    assert run("visit").exit_code == 2


def test_a_joined_command_whose_package_is_missing_says_what_to_install(place: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    _join(monkeypatch, place, "import a_package_nobody_has\n")
    assert "needs the package 'a_package_nobody_has'" in misuse(run("visit"))


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        ("KeyboardInterrupt()", 130, "Stopped."),
        ("errors.Cancelled('enough')", 130, "Stopped."),
        (f"OSError({errno.ENOSPC}, 'No space left on device', 'report.pdf')", 2, "The disk is full (report.pdf)"),
        (f"PermissionError({errno.EACCES}, 'Permission denied', 'ex')", 2, "No permission to use a file (ex)"),
    ],
)
def test_what_goes_wrong_on_the_way_is_told(
    place: Path, run: Run, monkeypatch: pytest.MonkeyPatch, raised: str, code: int, message: str
) -> None:
    _join(monkeypatch, place, f"from explainer import errors\ndef visit() -> None:\n    raise {raised}\n")
    result = run("visit")
    assert result.exit_code == code and message in result.stderr and "Traceback" not in result.stderr


def test_a_defect_of_ours_shows_its_traceback_and_has_a_code_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    def broken() -> None:
        raise ZeroDivisionError("ours")

    sys_argv, sys.argv = sys.argv, ["broken"]
    try:
        with pytest.raises(SystemExit) as stop:
            commands.run(app)
    finally:
        sys.argv = sys_argv
    told = capsys.readouterr().err
    assert stop.value.code == commands.DEFECT and "ZeroDivisionError" in told and "report it" in told


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send to one process.")
def test_ctrl_c_stops_cleanly_and_leaves_nothing(place: Path) -> None:
    slow = (
        "import time, numpy as np, explainer, pathlib\n"
        "def slow():\n"
        "    def score(x):\n"
        "        pathlib.Path('started').touch(); time.sleep(0.05); return np.c_[np.ones(len(x)), np.zeros(len(x))]\n"
        "    return explainer.wrap(score, modality='tabular', feature_names=[f'f{i}' for i in range(40)], background=np.zeros((500, 40)))\n"
    )
    (place / "slow.py").write_text(slow)
    pd.DataFrame(np.ones((1, 40)), columns=[f"f{i}" for i in range(40)]).to_csv(place / "one.csv", index=False)
    words = ["explain", "slow.py:slow", "one.csv#0", "--method", "shap", "--out", "ex"]
    code = "import sys, time; sys.argv = ['explainer', *sys.argv[1:]]; from explainer.cli import main; main()"
    process = subprocess.Popen([sys.executable, "-c", code, *words], cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (place / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "Stopped." in told and "Traceback" not in told and not (place / "ex").exists()


def test_a_model_file_may_import_its_neighbours_and_leaves_the_path_as_it_was(place: Path) -> None:
    before = list(sys.path)
    assert sources.resolve_model("models.py:linear").name == "linear"
    assert sys.path == before


def test_version(run: Run) -> None:
    from importlib.metadata import version

    assert run("--version").stdout == f"explainer-toolkit {version('explainer-toolkit')}\n"


def test_the_commands_of_zoo_and_dashboard_have_joined(run: Run) -> None:
    """Declared in pyproject.toml, so there wherever the package is installed; each has a help of its own."""
    assert set(commands.joined()) == {"dashboard", "fetch", "models", "train"}
    listed = run("--help").stdout
    for name, point in commands.joined().items():
        assert commands.sentence(point) and commands.sentence(point)[:30] in listed
        assert run(name, "--help").exit_code == 0


def test_a_zoo_row_is_the_row_of_its_test_split(run: Run) -> None:
    import zoo

    specimen = zoo.load("loan-mlp")
    facts = facts_of(run("explain", "zoo:loan-mlp", "zoo:loan-mlp#7", "--verify", "off", "--json"))
    row = specimen.data.test.inputs.iloc[[7]]
    score = specimen.model.scores(row)[0]
    instance = facts["instances"][0]
    assert instance["row"] == 7 and instance["score"] == pytest.approx(score.max()) and instance["verdict"]["status"] == "not run"


def test_check_of_zoo_data_holds_the_test_rows_against_the_training_rows(run: Run) -> None:
    facts = facts_of(run("check", "zoo:vowels-rnn", "--json"))
    ran = {f["check"]: f["state"] for f in facts["findings"]}
    assert facts["modality"] == "series" and facts["rows"] == 370
    assert ran["overlap, exact"] in ("pass", "fail") and ran["fits the model"] == "pass"


def test_a_value_that_was_not_computed_is_said_to_be() -> None:
    from explainer.listing import _feature

    name, value, spread = _feature({"feature": "a", "input": None, "value": float("nan"), "stderr": float("nan")}, many=False)
    assert (name, value, spread) == ("a", "not computed", "")
