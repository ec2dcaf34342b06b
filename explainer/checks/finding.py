"""One data check's outcome, and the collection of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from explainer.errors import CorruptFile, unknown

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from explainer.checks.comparison import Comparison

SCHEMA = 1  # of the JSON document; a reader that meets another says so
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

    @property
    def exit_code(self) -> int:
        """0 when ``ok``, else 1: what a build should end with."""
        return 0 if self.ok else 1

    def filter(
        self,
        state: State | Sequence[State] | None = None,
        check: str | Sequence[str] | None = None,
        column: str | Sequence[str] | None = None,
        row: int | None = None,
    ) -> Findings:
        """The findings that meet every condition given; one name or several of each.

        ``column`` keeps findings that name one of these columns, ``row`` those that name this row (rows are capped: see
        ``count``). Raises UnknownName for a state that does not exist, a check that is not among these findings, a column that
        none of them names.
        """
        states = _wanted("state", state, STATES)
        names = _wanted("check among these findings", check, [f.check for f in self.items])
        columns = _wanted("column among these findings", column, dict.fromkeys(c for f in self.items for c in f.columns))
        kept = (
            f
            for f in self.items
            if (states is None or f.state in states)
            and (names is None or f.check in names)
            and (columns is None or columns & set(f.columns))
            and (row is None or row in f.rows)
        )
        return replace(self, items=tuple(kept))

    def compare(self, earlier: Findings) -> Comparison:
        """What is new, gone, worse and better since an earlier run, and what could be judged then and cannot now.

        Raises InvalidInput where the two are not of one modality.
        """
        from explainer.checks.comparison import compare

        return compare(earlier, self)

    def plot(self, check: str, *, dark: bool = False) -> go.Figure:
        """A plotly figure of what the check ``check`` found. Raises UnknownName for a check that is not among these findings."""
        from explainer.plots import plot

        return plot(self.filter(check=check)[0], dark=dark)

    def to_json(self) -> str:
        """The findings as one JSON document, which :meth:`from_json` reads back."""
        import json
        from dataclasses import asdict

        from explainer.checks.context import plain

        findings = [asdict(f) for f in self.items]
        document = {"schema": SCHEMA, "modality": self.modality, "rows": self.rows, "counts": self.counts, "findings": findings}
        text = json.dumps(plain(document, digits=17), ensure_ascii=False, indent=2, allow_nan=False)
        try:
            text.encode()
        except UnicodeEncodeError:  # half a surrogate pair, from data: no file could hold it as it is
            text = json.dumps(json.loads(text), ensure_ascii=True, indent=2)
        return text

    @classmethod
    def from_json(cls, text: str | bytes) -> Findings:
        """The findings that :meth:`to_json` wrote. Raises CorruptFile for anything else."""
        import json

        try:
            document = json.loads(text)
            if document["schema"] != SCHEMA:
                raise CorruptFile(
                    f"These findings are of schema {document['schema']!r}; this version reads schema {SCHEMA}. Run the check again."
                )
            return cls(tuple(_finding(f) for f in document["findings"]), str(document["modality"]), int(document["rows"]))
        except CorruptFile:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptFile(
                f"This is no document of findings ({type(error).__name__}: {str(error)[:120]}); pass what to_json() or "
                "explainer check --json wrote."
            ) from error

    def to_html(self, title: str = "Data checks") -> str:
        """One page that asks nothing of the network, for light, dark and paper."""
        from explainer.checks.page import page

        return page(self, title)

    def _repr_html_(self) -> str:
        from explainer.checks.page import fragment

        return fragment(self)

    def __str__(self) -> str:
        told = ", ".join(f"{n:,} {state}" for state, n in self.counts.items() if n)
        lines = [f"{self.rows:,} items of {self.modality} data: {told or 'no check'}"]
        return "\n".join([*lines, *(f"{f.state:>8}  {f.check}: {f.message}" for f in self.items)])

    def to_frame(self) -> pd.DataFrame:
        """One row per finding, worst first; the rows found are in the findings themselves."""
        import pandas as pd

        rows = [
            {
                "check": f.check,
                "state": f.state,
                "message": f.message,
                "value": f.value,
                "threshold": f.threshold,
                "p": f.p,
                "low": f.interval[0] if f.interval else None,
                "high": f.interval[1] if f.interval else None,
                "count": f.count,
                "columns": ", ".join(f.columns).encode("utf-8", "backslashreplace").decode(),
                "advice": f.advice,
            }
            for f in self.items
        ]
        columns = ["check", "state", "message", "value", "threshold", "p", "low", "high", "count", "columns", "advice"]
        return pd.DataFrame(rows, columns=columns)


def _wanted(kind: str, given: Any, valid: Any) -> set[Any] | None:
    """What was asked for as a set, None for no condition. Raises UnknownName."""
    if given is None:
        return None
    wanted = {given} if isinstance(given, str) else set(given)
    for one in wanted:
        if one not in valid:
            raise unknown(kind, one, valid or ("none",))
    return wanted


def _finding(given: Mapping[str, Any]) -> Finding:
    """A finding from its JSON; a field this version does not know is left out. Raises KeyError, TypeError, ValueError."""
    known = {f.name: given[f.name] for f in fields(Finding) if f.name in given}
    if known["state"] not in STATES:
        raise ValueError(f"state {known['state']!r}")
    for name in ("rows", "columns", "files", "interval"):
        if known.get(name) is not None:
            known[name] = tuple(known[name])
    return Finding(**known)
