"""Two runs of the checks side by side: what is new, gone, worse, better, and what can no longer be judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from explainer.checks.finding import Finding, Findings
from explainer.errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd

Turn = Literal["new", "worse", "not judged", "better", "gone"]
TURNS: tuple[Turn, ...] = ("new", "worse", "not judged", "better", "gone")
SAID: dict[Turn, str] = {"new": "new", "worse": "worse", "not judged": "no longer judged", "better": "better", "gone": "gone"}


@dataclass(frozen=True)
class Turned:
    """One check that ended otherwise than before; None where it was not run at all."""

    turn: Turn
    check: str
    before: Finding | None
    after: Finding | None

    def __str__(self) -> str:
        figures = [_figure(f) for f in (self.before, self.after) if f is not None and f.value is not None]
        moved = f" ({' to '.join(figures)})" if self.turn in ("worse", "better") and len(figures) == 2 else ""
        said = self.after or self.before
        message = said.message if said is not None else ""
        if self.turn == "not judged" and self.after is None:
            message = "not among the checks of this run"
        return f"{SAID[self.turn]}{moved}: {self.check}: {message}"


@dataclass(frozen=True)
class Comparison:
    """What changed between two runs, worst first; ``same`` counts the checks that ended as before."""

    items: tuple[Turned, ...]
    same: int

    def of(self, turn: Turn) -> tuple[Turned, ...]:
        return tuple(t for t in self.items if t.turn == turn)

    @property
    def new(self) -> tuple[Turned, ...]:
        """Checks that fail or break and did not before."""
        return self.of("new")

    @property
    def worse(self) -> tuple[Turned, ...]:
        """Checks that failed before and fail by more."""
        return self.of("worse")

    @property
    def not_judged(self) -> tuple[Turned, ...]:
        """Checks that ended pass or fail before and could not run, or were left out, now."""
        return self.of("not judged")

    @property
    def better(self) -> tuple[Turned, ...]:
        """Checks that failed before and fail by less."""
        return self.of("better")

    @property
    def gone(self) -> tuple[Turned, ...]:
        """Checks that failed before and pass now."""
        return self.of("gone")

    @property
    def ok(self) -> bool:
        """True when nothing is new or worse, and nothing that was judged went unjudged."""
        return not (self.new or self.worse or self.not_judged)

    def __str__(self) -> str:
        return "\n".join([*map(str, self.items), f"{self.same:,} check{'' if self.same == 1 else 's'} as before"])

    def to_frame(self) -> pd.DataFrame:
        """One row per change."""
        import pandas as pd

        rows = [
            {
                "turn": t.turn,
                "check": t.check,
                "before": t.before.state if t.before else None,
                "after": t.after.state if t.after else None,
                "value before": t.before.value if t.before else None,
                "value after": t.after.value if t.after else None,
                "message": (t.after or t.before).message,  # type: ignore[union-attr]
            }
            for t in self.items
        ]
        return pd.DataFrame(rows, columns=["turn", "check", "before", "after", "value before", "value after", "message"])


def compare(earlier: Findings, later: Findings) -> Comparison:
    """Hold ``later`` against ``earlier``, check by check. Raises InvalidInput for findings of two modalities."""
    if earlier.modality != later.modality:
        raise InvalidInput(
            f"The earlier findings are of {earlier.modality} data, these of {later.modality} data; compare runs over the same kind."
        )
    before, after = ({f.check: f for f in one} for one in (earlier, later))
    turned = [(name, _turn(before.get(name), after.get(name))) for name in dict.fromkeys([*after, *before])]
    items = [Turned(turn, name, before.get(name), after.get(name)) for name, turn in turned if turn is not None]
    items.sort(key=lambda t: TURNS.index(t.turn))
    return Comparison(tuple(items), len(turned) - len(items))


def _turn(before: Finding | None, after: Finding | None) -> Turn | None:
    bad = [f is not None and f.state in ("fail", "error") for f in (before, after)]
    judged = [f is not None and f.state in ("pass", "fail") for f in (before, after)]
    if judged[0] and (after is None or after.state == "not run"):
        return "not judged"
    if bad[1] and not bad[0]:
        return "new"
    if bad[0] and not bad[1]:
        return "gone" if after is not None and after.state == "pass" else None
    if before is None or after is None or not all(bad):
        return None
    if before.state != after.state:  # a check that broke says nothing about the data
        return "new" if after.state == "fail" else "not judged"
    change = _badness(after) - _badness(before)
    return None if change == 0 else "worse" if change > 0 else "better"


def _badness(finding: Finding) -> float:
    """How far the value lies on the wrong side of its threshold, or how many items were named where it has none."""
    if finding.value is None or finding.threshold is None:
        return float(finding.count)
    return abs(finding.value - finding.threshold)


def _figure(finding: Finding) -> str:
    return f"{finding.value:.3g}"
