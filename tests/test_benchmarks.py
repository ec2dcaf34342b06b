"""The benchmarks run and print their tables; their arithmetic is right. No figure of theirs is asserted here."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "benchmarks"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if "typer.run" in path.read_text(encoding="utf-8"))
# In one fresh process for all, which imports torch and the peers: the scripts look for their own modules beside themselves.
RUN = """
import importlib, json, sys, tempfile
from pathlib import Path
import typer
from typer.testing import CliRunner

sys.path.insert(0, sys.argv[1])
found = {"help": {}}
for name in json.loads(sys.argv[2]):
    app = typer.Typer()
    app.command()(importlib.import_module(name).main)
    result = CliRunner().invoke(app, ["--help"])
    found["help"][name] = [result.exit_code, "Usage" in result.output]
import all, data, deeplift, games, gradients, intervals, memory, results, shapley
from timing import one_thread
one_thread()
results = results.Results(errors=[shapley.compare("threshold 14", games.GAMES["threshold 14"](1), 512, 1)])
results.add(deeplift.measure(True))
results.add(intervals.measure(True))
results.add(gradients.measure(True))
found["drift"] = data.CASES["ours_drift"](True)
found["memory"] = memory.CASES["picture"](True)
results.show()
found["page"] = all.page(results, ["memory"])
found["figures"], found["errors"] = len(results.figures), len(results.errors)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def ran() -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(FOLDER), json.dumps(SCRIPTS)],
        capture_output=True, text=True, timeout=240, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    table, last = done.stdout.rsplit("\n", 2)[0], done.stdout.splitlines()[-1]
    return {**json.loads(last), "table": table}


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in ("timing", "results"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def games() -> ModuleType:
    """Under a name of its own, for the tests have a module of that name too."""
    spec = importlib.util.spec_from_file_location("benchmark_games", FOLDER / "games.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["benchmark_games"] = module
    spec.loader.exec_module(module)
    return module


def test_every_script_says_how_it_is_used(ran: dict[str, object]) -> None:
    assert ran["help"] == {name: [0, True] for name in SCRIPTS} and "all" in SCRIPTS


def test_every_part_of_the_whole_is_there() -> None:
    parts = next(line for line in (FOLDER / "all.py").read_text(encoding="utf-8").splitlines() if line.startswith("PARTS"))
    assert all(f'"{name}"' in parts for name in ("speed", "trees", "surrogates", "deeplift", "gradients", "memory", "shapley"))
    assert all((FOLDER / f"{name}.py").exists() for name in ("speed", "trees", "surrogates", "deeplift", "gradients", "memory", "shapley"))


def test_parts_give_tables_and_a_page(ran: dict[str, object]) -> None:
    page = str(ran["page"])
    assert ran["figures"] == 3 and ran["errors"] == 1
    assert all(
        word in page
        for word in (
            "## Ratios",
            "## Errors",
            "captum DeepLiftShap",
            "captum IntegratedGradients, batches of",
            "threshold 14 @ 512",
            "Not run yet: memory",
            "torch 2",
        )
    )
    assert "Ratios" in str(ran["table"]) and "Errors" in str(ran["table"])
    assert ran["memory"]["gigabytes"] > 0  # type: ignore[index]
    assert ran["drift"]["seconds"] > 0 and ran["drift"]["checks"] == 2  # type: ignore[index]


@pytest.mark.usefixtures("beside")
def test_a_figure_is_held_against_its_bar() -> None:
    from results import Errors, Figure  # type: ignore[import-not-found]
    from timing import Spread  # type: ignore[import-not-found]

    three = Spread(3.0, 2.0, 4.0)
    held = ((3, False), (3.1, False), (3, True), (2.9, True), (None, True))
    assert [Figure("", "", three, bar, most, why="?").met for bar, most in held] == [True, False, True, False, None]
    errors = Errors("game", 512, {"default": 0.2, "other": 0.1}, {"a": 0.4, "b": 0.25}, bar=0.7, why="quadratic")
    assert errors.ratio == 0.8 and errors.met is False  # the default counts, against the best peer


@pytest.mark.usefixtures("beside")
def test_a_bar_that_is_missed_says_why() -> None:
    from results import Errors, Figure  # type: ignore[import-not-found]
    from timing import Spread  # type: ignore[import-not-found]

    three = Spread(3.0, 2.0, 4.0)
    assert Figure("case", "peer", three, 4, detail="1 s", why="it is small").cells()[-2:] == ("not met", "1 s. Why: it is small")
    assert Figure("case", "peer", three, 2, detail="1 s", why="it is small").cells()[-2:] == ("met", "1 s")
    errors = Errors("game", 512, {"default": 0.2}, {"a": 0.25}, bar=0.7, why="it is quadratic")
    assert "not met: it is quadratic" in errors.cells(["default", "a"])
    for silent in (lambda: Figure("case", "peer", three, 4), lambda: Errors("game", 512, {"default": 0.2}, {"a": 0.4}, bar=0.7)):
        with pytest.raises(ValueError, match="why="):
            silent()


@pytest.mark.usefixtures("beside")
def test_times_are_taken_in_turn_and_compared_round_by_round() -> None:
    from timing import Times, in_turn  # type: ignore[import-not-found]

    asked: list[str] = []
    times = in_turn({name: lambda name=name: asked.append(name) for name in "ab"}, rounds=3, shortest=0.0)  # type: ignore[misc]
    assert [name for name, _ in itertools.groupby(asked)] == ["a", "b", "a", "b", "a", "b"] and asked.count("a") == asked.count("b")
    assert asked[4:] == ["a", "b", "b", "a", "a", "b"]  # after two calls of each to warm up, the order turns every round
    assert len(times.seconds["a"]) == 3
    spread = Times({"a": [1.0, 10.0, 3.0], "b": [1.0, 2.0, 1.0]}).ratio("a", "b")
    assert (spread.median, spread.low, spread.high) == (3.0, 1.0, 5.0) and spread.noisy


def test_exact_values_are_those_of_all_orders() -> None:
    module = games()
    scores, d = np.random.default_rng(0).random(2**4), 4
    expected = np.zeros(d)
    for order in itertools.permutations(range(d)):
        seen = 0
        for player in order:
            expected[player] += (scores[seen | 1 << player] - scores[seen]) / 24
            seen |= 1 << player
    assert np.allclose(module.shapley_values(scores), expected, atol=1e-12)
    masks = module.every_coalition(d)
    assert np.array_equal(module.enumerated(lambda m: m @ [1.0, 2, 4, 8], d).v(masks), np.arange(16))


@pytest.mark.parametrize("name", ["product 14", "threshold 14", "boosting 30"])
def test_the_values_of_a_reference_game_add_up(name: str) -> None:
    for game in games().GAMES[name](2):
        empty, full = game.v(np.stack([np.zeros(game.d, dtype=bool), np.ones(game.d, dtype=bool)]))
        assert np.isclose(game.exact.sum(), full - empty, atol=1e-6) and game.error(game.exact) == 0
