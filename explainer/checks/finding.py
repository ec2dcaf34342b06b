"""One data check's outcome, and the collection of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

State = Literal["pass", "fail", "not run", "error"]
STOPPED = "Not run: stopped before it."
STATES: tuple[State, ...] = ("fail", "error", "not run", "pass")


@dataclass(frozen=True)
class Finding:
    """What was checked, how it ended, how bad it is, where, why it matters and what to do.

    ``rows`` are positions in the data as given, capped; ``count`` is how many there are in all. ``evidence`` holds
    small JSON-able details (per column figures, group names). ``value`` is held against ``threshold``; ``interval`` is its
    95 % confidence interval and ``p`` the p-value, where the check has them. ``files`` name the rows, where items are files.
    ``code`` is Python that would do what ``advice`` says.
    """

    check: str
    state: State
    message: str
    value: float | None = None
    threshold: float | None = None
    p: float | None = None
    interval: tuple[float, float] | None = None
    count: int = 0
    rows: tuple[int, ...] = ()
    columns: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""
    advice: str = ""
    code: str = ""


@dataclass(frozen=True)
class Findings(Sequence[Finding]):
    """All findings of one run, worst first: fail, error, not run, pass."""

    items: tuple[Finding, ...]
    modality: str
    rows: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "items", tuple(sorted(self.items, key=lambda f: STATES.index(f.state))))

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.items)

    def of(self, state: State) -> tuple[Finding, ...]:
        """The findings that ended in ``state``."""
        return tuple(f for f in self.items if f.state == state)

    @property
    def counts(self) -> dict[State, int]:
        return {state: len(self.of(state)) for state in STATES}

    @property
    def ok(self) -> bool:
        """True when nothing failed and nothing broke (checks that could not run are listed, not counted)."""
        return not self.of("fail") and not self.of("error")

    @property
    def stopped(self) -> bool:
        """True when the run was stopped before it had come to every check."""
        return any(f.message == STOPPED for f in self.items)

    def to_json(self) -> str:
        """The findings as one JSON document."""
        import json
        from dataclasses import asdict

        document = {"modality": self.modality, "rows": self.rows, "counts": self.counts, "findings": [asdict(f) for f in self.items]}
        return json.dumps(document, ensure_ascii=False, indent=2, default=str)

    def to_frame(self) -> pd.DataFrame:
        """One row per finding."""
        import pandas as pd

        columns = ("check", "state", "message", "value", "threshold", "count", "advice")
        return pd.DataFrame([{c: getattr(f, c) for c in columns} for f in self.items], columns=list(columns))
