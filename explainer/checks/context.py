"""What a check is given, and the short-hands with which it says how it ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from explainer.checks.finding import Finding

if TYPE_CHECKING:
    from explainer.checks.labels import Labels
    from explainer.checks.predictions import Predictions
    from explainer.checks.rules import Rules
    from explainer.checks.view import View

ROWS_SHOWN = 100  # a person looks at a screenful; the count says how many there are in all
EVIDENCE_SHOWN = 20
FIX_CODE = "fixed = explainer.fix(data, findings, labels, only=[{check!r}])\ndata, labels = fixed.data, fixed.labels"
_cap: ContextVar[int | None] = ContextVar("rows a finding names", default=ROWS_SHOWN)


@contextmanager
def uncapped() -> Iterator[None]:
    """Within this, findings name every row and column: for those who act on them rather than read them."""
    token = _cap.set(None)
    try:
        yield
    finally:
        _cap.reset(token)


@dataclass(frozen=True)
class Check:
    """One check: what it looks at, on which kinds of data, why it matters and what to do when it fails.

    ``code`` is the code that would do what the advice says, with ``{columns}`` and ``{rows}`` for those found and
    ``{check}`` for the name.
    """

    name: str
    modalities: tuple[str, ...]
    function: Callable[[Context], Finding]
    why: str
    advice: str
    code: str = ""
    alone: bool = False  # runs even where there is not a single item
    asked: bool = False  # runs only where it is named
    most: int = 0  # items it judges: of more, a sample, and the finding says so; 0 for all
    streams: bool = False  # looks at one column at a time, so that it judges all of a table kept on disk; others see a sample of it


class NotRun(Exception):
    """Raised by a check that cannot judge these data; the reason becomes its finding."""


@dataclass(frozen=True)
class Context:
    """The data under check and everything it may be held against."""

    view: View
    labels: Labels | None = None
    reference: View | None = None
    reference_labels: Labels | None = None
    groups: Mapping[str, np.ndarray] | None = None
    splits: np.ndarray | None = None  # (n,) the name of each item's split, None where it has none
    time: np.ndarray | None = None  # (n,) float: seconds, or whatever numbers were given; NaN where not known
    model: Any = None
    unreadable: tuple[tuple[str, str], ...] = ()
    attempted: int = 0  # items met on reading, readable or not
    lost: tuple[int, ...] = ()  # the places of those that could not be read
    words: tuple[str, ...] = ()  # a person's own list, for the check that looks for words
    reference_groups: Mapping[str, np.ndarray] | None = None  # where the reference set has the columns named
    reference_time: np.ndarray | None = None
    rules: Rules | None = None
    parts: str = ""  # why the data were read in parts and kept on disk, where they were
    order: str = ""  # why the order of the items says nothing, where it does not

    def sample(self, most: int) -> Context:
        """The same on ``most`` items drawn at random (always the same ones), in their order; itself where there are no more."""
        if not 0 < most < self.view.n:
            return self
        view, rows = self.view.sampled(most)
        beside: dict[str, Any] = {name: None if (v := getattr(self, name)) is None else v[rows] for name in ("splits", "time")}
        groups = None if self.groups is None else {name: values[rows] for name, values in self.groups.items()}
        labels = None if self.labels is None else self.labels.take(rows)
        return replace(self, view=view, labels=labels, groups=groups, **beside)

    def need_labels(self) -> Labels:
        if self.labels is None:
            raise NotRun("No labels were given.")
        return self.labels

    def need_reference(self) -> View:
        if self.reference is None:
            raise NotRun("No reference set was given to hold the data against.")
        if self.reference.n == 0:
            raise NotRun(f"The reference set holds no {plural(self.reference.noun)}.")
        return self.reference

    def need_predictions(self) -> Predictions:
        return _had(self._predicted)

    def need_reference_predictions(self) -> Predictions:
        self.need_reference()
        return _had(self._reference_predicted)

    @cached_property
    def _predicted(self) -> Predictions | NotRun:
        return self._scores_of(self.view)

    @cached_property
    def _reference_predicted(self) -> Predictions | NotRun:
        return self._scores_of(self.need_reference())

    def _scores_of(self, view: View) -> Predictions | NotRun:
        from explainer.checks.predictions import predictions_of

        return predictions_of(self.model, view)

    def need_rows(self, least: int) -> None:
        if self.view.n < least:
            raise NotRun(f"{count(self.view.n, self.view.noun)} came; this check needs at least {least}.")


def _had(predicted: Predictions | NotRun) -> Predictions:
    if isinstance(predicted, NotRun):
        raise predicted
    return predicted


def passed(message: str, **details: Any) -> Finding:
    return _ended("pass", message, **details)


def failed(message: str, **details: Any) -> Finding:
    return _ended("fail", message, **details)


def _ended(state: Any, message: str, *, rows: Sequence[int] | np.ndarray = (), columns: Iterable[Any] = (), **details: Any) -> Finding:
    """A finding with its rows capped and counted and its values made plain Python; the runner adds name, why and advice."""
    rows = [int(r) for r in rows]
    details.setdefault("count", len(rows))
    for name in ("value", "threshold"):
        if details.get(name) is not None:
            details[name] = float(details[name])
    details["evidence"] = plain(details.get("evidence", {}))
    columns = tuple(str(c) for c in columns)
    message = message.encode("utf-8", "backslashreplace").decode()  # half a surrogate pair, from data, fits on no screen
    return Finding("", state, message, rows=tuple(rows[: _cap.get()]), columns=columns[: _cap.get()], **details)


def plain(value: Any, digits: int = 6) -> Any:
    """``value`` made of JSON's own types; figures cut to ``digits`` digits, numbers that are not finite to None."""
    if isinstance(value, Mapping):
        return {str(k): plain(v, digits) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist(), digits)
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v, digits) for v in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, np.generic):
        return plain(value.item(), digits)
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if np.isfinite(value) else None
    return str(value)


def count(number: int, noun: str) -> str:
    """``1 row``, ``2,000 rows``, ``3 series``."""
    return f"{number:,} {noun if number == 1 else plural(noun)}"


def plural(noun: str) -> str:
    if noun.endswith("ss"):
        return noun + "es"
    return noun if noun.endswith("s") else noun + "s"


def share(part: int, whole: int) -> str:
    """``12 of 200 (6 %)``."""
    return f"{part:,} of {whole:,} ({percent(part / whole if whole else 0)})"


def percent(value: float) -> str:
    """A share as a person writes it; never rounds something to nothing, nor nearly all to all."""
    number = 100 * value
    if 0 < number < 0.1:
        return "under 0.1 %"
    if 99.9 < number < 100:
        return "over 99.9 %"
    return f"{number:.1f} %" if (number < 10 or number > 99) and number != round(number) else f"{number:.0f} %"


def chance(p: float) -> str:
    """A p-value as a person writes it; never nothing."""
    return f"p = {p:.2g}" if p >= 0.001 else "p < 0.001"


def listed(names: Iterable[Any], most: int = 5) -> str:
    """``a, b, c and 4 more``."""
    names = [str(n) for n in names]
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")
