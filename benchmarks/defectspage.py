"""The page of the data checks: what each finds, how often it is wrong, and the whole catalogue."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from commondefects import listed
from defect import Defect
from results import circumstances
from trials import Calm, Outcome, Trial, known
from twins import MADE, SIZES

RECALL, FALSE = 0.95, 0.05
ABSENT = "check not there yet"
HEAD = """# Data checks

`explainer.check(data, labels)` and `explainer check PATH` look at a table, images, texts or series, and end each check in one of four
states: pass, fail, not run (and why) or error. None is left out in silence. This page is written by `python benchmarks/defects.py`:
it plants each defect into clean data, asks the check that must find it, and asks all checks about the clean data.
"""
BEFORE, AFTER = "<!-- catalogue -->", "<!-- end of catalogue -->"


@dataclass(frozen=True)
class Row:
    """What was found of one defect."""

    defect: Defect
    trials: list[Trial]
    calm: list[Calm]

    @property
    def at(self) -> list[Trial]:
        return [t for t in self.trials if t.strength == self.defect.at]

    @property
    def recall(self) -> float:
        return float(np.mean([t.state == "fail" for t in self.at]))

    @property
    def alarms(self) -> float:
        """The share of clean samples on which the check fails, of those on which it runs."""
        judged = [c for c in self.calm if c.state != "not run"]
        return float(np.mean([c.state != "pass" for c in judged])) if judged else 0.0

    @property
    def verdict(self) -> str:
        if not self.trials:
            return ABSENT
        missed = ["recall"] if self.recall < RECALL else []
        missed += ["false positives"] if self.alarms > FALSE else []
        return f"missed: {', '.join(missed)}" if missed else "met"

    def cells(self) -> tuple[str, ...]:
        one = self.defect
        if not self.trials:
            return one.check, one.modality, one.words(one.at), "", "", "", "", "", ABSENT
        others = [s for s in one.strengths if s != one.at]
        shown = "; ".join(f"{brief(one, s)}: {_hits([t for t in self.trials if t.strength == s])}" for s in others)
        rows = [mean([getattr(t, name) for t in self.at]) for name in ("rows_right", "rows_found", "columns_found")]
        named = "" if not rows[0] else f"{rows[0]} / {rows[1]}"
        judged = [c for c in self.calm if c.state != "not run"]
        alarms = f"{sum(c.state != 'pass' for c in judged)}/{len(judged)}" if judged else "not run"
        return one.check, one.modality, one.words(one.at), _hits(self.at), shown, named, rows[2], alarms, self.verdict


def brief(one: Defect, strength: float) -> str:
    """Only the strength, as the defect's words write it."""
    form = re.search(r"\{[^}]*\}", one.what)
    return form[0].format(strength) if form else f"{strength:g}"


def mean(shares: Sequence[float | None]) -> str:
    given = [share for share in shares if share is not None]
    return f"{np.mean(given):.2f}" if given else ""


def _hits(trials: list[Trial]) -> str:
    return f"{sum(t.state == 'fail' for t in trials)}/{len(trials)}"


def rows_of(found: Sequence[Outcome], only: Sequence[str] = ()) -> list[Row]:
    """One row per defect, in the order of kinds of data and checks."""
    rows = []
    for index, one in enumerate(listed()):
        if only and one.check not in only:
            continue
        trials = [f for f in found if isinstance(f, Trial) and f.defect == index]
        calm = [
            f for f in found if isinstance(f, Calm) and (f.check, f.modality) == (one.check, one.modality) and f.defect in (None, index)
        ]
        if one.setting is not None:
            calm = [c for c in calm if c.defect == index]
        rows.append(Row(one, trials, calm))
    return sorted(rows, key=lambda row: (list(SIZES).index(row.defect.modality), _place(row.defect)))


def _place(one: Defect) -> int:
    names = list(known(one.modality))
    return names.index(one.check) if one.check in names else len(names)


def recalls(found: Sequence[Outcome], only: Sequence[str] = ()) -> list[tuple[str, ...]]:
    return [row.cells() for row in rows_of(found, only)]


def wrong(found: Sequence[Outcome]) -> list[str]:
    """What misses a bar, in words, the check that broke included."""
    lines = [
        f"{row.defect.check} ({row.defect.modality}), {row.defect.words(row.defect.at)}: {row.verdict}"
        f" (recall {row.recall:.2f}, false positives {row.alarms:.2f})"
        for row in rows_of(found)
        if row.verdict.startswith("missed")
    ]
    asked = {(d.check, d.modality) for d in listed()}
    for (check, modality), calm in alarms(found).items():
        share = np.mean([c.state in ("fail", "error") for c in calm])
        if share > FALSE and (check, modality) not in asked:
            lines.append(f"{check} ({modality}): fails on {share:.0%} of clean twins")
    broken = [f for f in found if f.state == "error"]
    lines += [f"{len(broken)} times a check broke, first: {broken[0].message}"] if broken else []
    return lines


def alarms(found: Sequence[Outcome]) -> dict[tuple[str, str], list[Calm]]:
    """The runs on clean twins by check and kind of data."""
    held: dict[tuple[str, str], list[Calm]] = {}
    for f in found:
        if isinstance(f, Calm) and f.defect is None:
            held.setdefault((f.check, f.modality), []).append(f)
    return held


def page(found: Sequence[Outcome], seeds: int) -> str:
    """The whole page in Markdown."""
    rows = rows_of(found)
    met = sum(row.verdict == "met" for row in rows)
    kinds = len({row.defect.plant.__name__ for row in rows if row.trials})
    heads = ("check", "data", "defect", "found", "at other strengths", "rows right / found", "columns found", "false positives", "bars")
    parts = [
        HEAD, circumstances(), "", "## What is found, and what is found where nothing is\n",
        f"{kinds} kinds of defect, {len(rows)} with their kinds of data, each in {seeds} clean twins; {met} meet both bars: found in at "
        f"least {RECALL:.0%} of the twins at the strength in the third column, and a failure in at most {FALSE:.0%} of the clean twins on "
        "which the check runs. Other strengths are tried on half of the twins. Rows right is the share of the rows named that were "
        "planted, rows found the share of the planted that were named (100 are named at most).\n",
        table(heads, [row.cells() for row in rows]), "",
        "### What misses a bar\n", *([f"- {line}." for line in wrong(found)] or ["Nothing."]), "",
        "## The clean twins\n", *[f"- **{m}** ({SIZES[m][0]} items, {SIZES[m][1]} to refer to): {text}." for m, text in MADE.items()], "",
        "Each comes with classes, a reference set from the same source, sites drawn by chance as groups, splits cut by time, and a "
        "plain model of other items. How every check ended on them:\n", _calm_table(found), "",
        catalogue(), "",
    ]  # fmt: skip
    return "\n".join(parts)


def _calm_table(found: Sequence[Outcome]) -> str:
    held = alarms(found)
    rows = []
    for name in dict.fromkeys(check for check, _ in held):
        cells = []
        for modality in SIZES:
            calm = held.get((name, modality), [])
            counts = {state: sum(c.state == state for c in calm) for state in ("fail", "error", "not run", "pass")}
            cells.append(", ".join(f"{n} {state}" for state, n in counts.items() if n))
        rows.append((name, *cells))
    return table(("check", *SIZES), rows)


def catalogue() -> str:
    """Every check: its kinds of data, why it matters and what to do."""
    from explainer.checks.catalogue import CHECKS

    rows = []
    for check in CHECKS:
        kinds = "all" if set(SIZES) <= set(check.modalities) else ", ".join(check.modalities)
        rows.append((check.name + (" (only when asked for)" if check.asked else ""), kinds, check.why, check.advice))
    names = len({check.name for check in CHECKS})
    return "\n".join([BEFORE, f"## The catalogue\n\n{names} checks.\n", table(("check", "data", "why", "what to do"), rows), AFTER])


def relisted(text: str) -> str:
    """The page with its catalogue written anew."""
    return re.sub(f"{BEFORE}.*{AFTER}", lambda _: catalogue(), text, flags=re.DOTALL)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *([cell.replace("|", "/") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)
