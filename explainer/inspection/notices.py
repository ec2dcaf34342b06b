"""Principal reasons of adverse decisions, as a frozen result: per case the reasons, how stable they are, and the words of a notice."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explainer.explanation import Check, Provenance, Verdict
from explainer.inspection import saving

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Reason:
    """One principal reason: ``value`` is how far ``parts`` (columns or groups) lowered the score, with its 95 % interval."""

    text: str
    parts: tuple[str, ...]
    value: float
    low: float
    high: float
    mapped: bool
    facts: tuple[str, ...] = ()

    @property
    def distinguishable(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.high < 0


@dataclass(frozen=True)
class Change:
    """The share of ``runs`` whose set of reasons, or whose first reason, was another; NaN without runs."""

    runs: int
    reasons: float
    first: float


@dataclass(frozen=True)
class Case:
    """The reasons of one row; ``why_none`` says why there are none that could be told, empty where there are."""

    row: int
    score: float
    approved: bool
    reasons: tuple[Reason, ...]
    why_none: str
    changes: Mapping[str, Change]
    verdict: Verdict


@dataclass(frozen=True)
class Reasons:
    """Principal reasons of several decisions.

    Attributes
    ----------
    population, described, population_rows : the named baseline, what it is in words, and how many rows it has.
    base : mean score of the baseline rows used; the contributions of a row lead from it to the row's score.
    cutoff, target, output : what is favourable, from which score on, on which scale.
    """

    cases: tuple[Case, ...]
    population: str
    described: str
    population_rows: int
    base: float
    cutoff: float
    target: str
    output: str
    top: int
    provenance: Provenance

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> Case:
        if not -len(self) <= index < len(self):
            raise IndexError(f"There are reasons for {len(self)} rows; {index} is outside 0 to {len(self) - 1}.")
        return self.cases[index]

    def __iter__(self) -> Iterator[Case]:
        return iter(self.cases)

    @property
    def denied(self) -> tuple[Case, ...]:
        """The rows that need a notice."""
        return tuple(case for case in self.cases if not case.approved)

    @property
    def verdict(self) -> Verdict:
        """The worst per check over the rows that need a notice (over all, where none does)."""
        return Verdict.worst([case.verdict for case in self.denied or self.cases])

    @property
    def changes(self) -> dict[str, Change]:
        """How often the reasons change, over the rows that need a notice (over all, where none does)."""
        cases = self.denied or self.cases
        return {kind: _mean([case.changes[kind] for case in cases]) for kind in cases[0].changes}

    def text(self, index: int) -> str:
        """The principal reasons of one row as they may stand in a notice, or why there can be none."""
        case = self[index]
        score = f"The score {case.score:.3g} for {self.target}"
        if case.approved:
            return f"No notice is needed: {score[0].lower()}{score[1:]} reaches the cutoff {self.cutoff:.3g}."
        if case.why_none:
            return f"No specific reason can be told. {case.why_none} A person has to look at this case before a notice is sent."
        lines = [f"{n}. {reason.text}" for n, reason in enumerate((r for r in case.reasons if r.distinguishable), 1)]
        told = ["Principal reasons for the decision:", *lines]
        wrong = [c.reason for c in case.verdict.checks.values() if c.status == "fail" or (c.name == "wording" and c.status == "warn")]
        told += [f"[Not to be sent as it is: {reason}]" for reason in wrong]
        return "\n".join(told)

    def to_frame(self) -> pd.DataFrame:
        """One row per case and reason, in order; a case without reasons has one row that says so."""
        import pandas as pd

        rows = []
        for case in self.cases:
            head = {"row": case.row, "score": case.score, "approved": case.approved, "verdict": case.verdict.status}
            for rank, reason in enumerate(case.reasons, 1):
                rows.append(
                    {
                        **head, "rank": rank, "reason": reason.text, "columns": ", ".join(reason.parts), "contribution": reason.value,
                        "low": reason.low, "high": reason.high, "distinguishable": reason.distinguishable, "mapped": reason.mapped,
                        "facts": "; ".join(reason.facts),
                    }
                )  # fmt: skip
            if not case.reasons:
                rows.append({**head, "rank": 0, "reason": case.why_none})
        return pd.DataFrame(rows)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it as one JSON file."""
        return saving.save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Reasons:
        """Read what :meth:`save` wrote. Raises InvalidInput, CorruptFile."""
        found = saving.load(path, cls.__name__)
        cases = tuple(_case(entry) for entry in found["cases"])
        return cls(**{**found, "cases": cases, "provenance": saving.provenance(found["provenance"])})


def _mean(changes: Sequence[Change]) -> Change:
    """Over cases; those without reruns do not count, unless none has any."""
    ran = [change for change in changes if change.runs] or list(changes)
    return Change(max(c.runs for c in ran), float(np.mean([c.reasons for c in ran])), float(np.mean([c.first for c in ran])))


def _case(entry: Mapping[str, Any]) -> Case:
    """A case as it was saved."""
    number = lambda value: math.nan if value is None else float(value)  # noqa: E731 - JSON has no NaN
    reasons = tuple(Reason(**{**r, "parts": tuple(r["parts"]), "facts": tuple(r["facts"])}) for r in entry["reasons"])
    changes = {kind: Change(c["runs"], number(c["reasons"]), number(c["first"])) for kind, c in entry["changes"].items()}
    verdict = Verdict({name: Check(**check) for name, check in entry["verdict"]["checks"].items()})
    return Case(**{**entry, "score": number(entry["score"]), "reasons": reasons, "changes": changes, "verdict": verdict})
