"""Planted defects: every check has one, a check or a plant that is broken shows at once, and the page lists the whole catalogue."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from explainer.checks import catalogue
from explainer.checks.context import failed, passed

ROOT = Path(__file__).resolve().parents[1]
MINE = (
    "twins", "defect", "commondefects", "tabledefects", "mediadefects", "seriesdefects", "trials", "defectspage", "defects", "results",
    "timing",
)  # fmt: skip
pytestmark = pytest.mark.usefixtures("beside")


@pytest.fixture(scope="module")
def beside() -> Iterator[None]:
    """The scripts look for their own modules beside themselves."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    before = {name: sys.modules.pop(name) for name in MINE if name in sys.modules}
    yield
    sys.path.remove(str(ROOT / "benchmarks"))
    for name in MINE:
        sys.modules.pop(name, None)
    sys.modules.update(before)


def measured(check: str, modality: str, seeds: int = 2) -> Any:
    """The rows of one check of one kind of data."""
    from commondefects import listed
    from defectspage import rows_of
    from trials import calm, trial

    chosen = [(i, d) for i, d in enumerate(listed()) if (d.check, d.modality) == (check, modality)]
    found = [trial(i, d.at, seed) for i, d in chosen for seed in range(seeds)]
    found += [one for seed in range(seeds) for one in calm(modality, seed, [check])]
    return [row for row in rows_of(found, [check]) if row.defect.modality == modality]


def broken(monkeypatch: pytest.MonkeyPatch, name: str, function: Callable[..., Any]) -> None:
    """Put another function in the place of a check."""
    monkeypatch.setattr(catalogue, "CHECKS", tuple(replace(c, function=function) if c.name == name else c for c in catalogue.CHECKS))


SOME = [("exact duplicates", "tabular"), ("blank images", "image"), ("empty texts", "text"), ("flat series", "series")]


@pytest.mark.parametrize(("check", "modality"), SOME)
def test_a_check_that_finds_nothing_misses_and_one_that_fails_always_is_a_false_alarm(
    check: str, modality: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (row,) = measured(check, modality)
    assert (row.recall, row.alarms, row.verdict) == (1.0, 0.0, "met")
    assert row.cells()[5] == "1.00 / 1.00"
    broken(monkeypatch, check, lambda context: passed("Nothing."))
    (row,) = measured(check, modality)
    assert (row.recall, row.verdict) == (0.0, "missed: recall")
    broken(monkeypatch, check, lambda context: failed("All of it.", rows=range(context.view.n)))
    (row,) = measured(check, modality)
    assert (row.recall, row.alarms, row.verdict) == (1.0, 1.0, "missed: false positives")
    assert float(row.cells()[5].split(" / ")[0]) < 0.2
    broken(monkeypatch, check, lambda context: 1 / 0)
    (row,) = measured(check, modality)
    assert (row.recall, row.alarms) == (0.0, 1.0)


def test_a_plant_that_changes_nothing_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import defect
    from commondefects import listed

    idle = [replace(d, plant=lambda s, rng, strength: defect.Planted(s)) for d in listed()]
    monkeypatch.setattr(defect, "DEFECTS", idle)
    (row,) = measured("infinite values", "tabular")
    assert row.recall == 0.0


def test_every_check_has_a_planted_defect_in_each_kind_of_data() -> None:
    from commondefects import listed

    planted = {(d.check, d.modality) for d in listed()}
    wanted = {(check.name, modality) for check in catalogue.CHECKS for modality in check.modalities}
    assert not wanted - planted
    assert len({d.plant.__name__ for d in listed()}) >= 30
    assert all(len(d.strengths) >= 2 for d in listed())


@pytest.mark.parametrize("modality", ["tabular", "image", "text", "series"])
def test_a_twin_is_the_same_for_one_seed_and_another_for_another(modality: str) -> None:
    import twins

    one, other = twins.twin(modality, 0), twins.twin(modality, 1)
    again = twins.twin.__wrapped__(modality, 0)
    same, unlike = _alike(one.inputs, again.inputs), _alike(one.inputs, other.inputs)
    assert same and not unlike
    assert len(one.labels) == one.n == twins.SIZES[modality][0]


def _alike(a: Any, b: Any) -> bool:
    if isinstance(a, pd.DataFrame):
        return a.equals(b)
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_planting_leaves_the_twin_as_it_is() -> None:
    """All seeds and strengths share one twin in memory."""
    import copy

    import twins
    from commondefects import listed
    from trials import forget, generator

    for modality in twins.SIZES:
        clean = twins.twin(modality, 0)
        before = copy.deepcopy((clean.inputs, clean.labels, clean.groups, clean.splits))
        for i, d in enumerate(listed()):
            if d.modality == modality:
                sample = d.plant(
                    d.setting(clean, generator(0, i, 0)) if d.setting and not d.writes else clean, generator(0, i, d.at), d.at
                ).sample
                forget(sample)
        assert _alike(before[0], clean.inputs)
        assert np.array_equal(before[1], clean.labels) and np.array_equal(before[3], clean.splits)
        assert all(np.array_equal(before[2][name], clean.groups[name]) for name in clean.groups)


def test_the_page_lists_every_check_and_what_it_finds() -> None:
    from defectspage import AFTER, BEFORE

    page = (ROOT / "docs" / "checks.md").read_text(encoding="utf-8")
    measured, listed = page[: page.index(BEFORE)], page[page.index(BEFORE) : page.index(AFTER)]
    for check in catalogue.CHECKS:
        assert f"| {check.name}" in listed, f"{check.name} is not in docs/checks.md: python benchmarks/defects.py --catalogue"
        for modality in check.modalities:
            assert f"| {check.name} | {modality} |" in measured, f"{check.name} ({modality}) is not measured: python benchmarks/defects.py"


def test_the_command_prints_and_says_by_its_exit_code_whether_a_bar_is_missed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import defects

    app = typer.Typer()
    app.command()(defects.main)

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(app, [*arguments, "--seeds", "1", "--workers", "1"], env={"COLUMNS": "200"})

    result = run("--only", "infinite values", "--out", str(tmp_path / "page.md"))
    assert result.exit_code == 0, result.output
    assert "infinite values" in result.output
    assert "| infinite values | tabular | 1 cells infinite | 1/1 |" in (tmp_path / "page.md").read_text(encoding="utf-8")
    broken(monkeypatch, "infinite values", lambda context: passed("Nothing."))
    result = run("--only", "infinite values")
    assert result.exit_code == 1
    assert "missed: recall" in result.output
    assert run("--only", "infinite").exit_code == 2
