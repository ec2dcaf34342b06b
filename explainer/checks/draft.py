"""A working copy of the data that is being fixed, and the log of every change made to it; the original is never touched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from explainer.checks.context import Context
from explainer.checks.frame import TableView
from explainer.checks.labels import labels_of
from explainer.checks.read import Data
from explainer.checks.run import view_of
from explainer.checks.view import Reading

if TYPE_CHECKING:
    import pandas as pd

Action = Literal["cell", "label", "row dropped", "column dropped", "column converted", "file stripped", "line read in part"]
LENGTH = 200  # letters of a value that the log repeats


@dataclass(frozen=True)
class Change:
    """One change: which check asked for it, what was done, where (``row`` as in the data as given), from what, to what, why."""

    check: str
    action: Action
    row: int | None
    column: str
    before: Any
    after: Any
    why: str


@dataclass(frozen=True)
class Fixed:
    """The cleaned copy, in the form the data came in, with the log of each change.

    ``kept`` are the places, in the data as given, of the items that are left: ``groups[fixed.kept]`` goes with ``fixed.data``.
    ``left`` says of each check that still fails why it does.
    """

    data: Any
    labels: Any
    log: tuple[Change, ...]
    kept: np.ndarray = field(repr=False)
    left: Mapping[str, str] = field(default_factory=dict)

    def to_frame(self) -> pd.DataFrame:
        """The log, one row per change."""
        import pandas as pd

        return pd.DataFrame([asdict(c) for c in self.log], columns=list(Change.__dataclass_fields__), dtype=object)

    def __str__(self) -> str:
        counts = Counter((c.check, c.action) for c in self.log)
        lines = [f"{check}: {_counted(n, action)}" for (check, action), n in counts.items()] or ["Nothing was changed."]
        return "\n".join([*lines, *(f"not fixed: {check}: {why}" for check, why in self.left.items())])


def _counted(number: int, action: str) -> str:
    noun, _, done = action.partition(" ")
    return f"{number:,} {noun}{'' if number == 1 else 's'} {done or 'changed'}"


class Draft:
    """Data, labels and the places they came from, changed step by step; every change is written down."""

    def __init__(self, found: Data, reading: Reading) -> None:
        self.modality = found.modality
        # an array of numbers is a table too, with the column names the findings call them by
        table = found.inputs if hasattr(found.inputs, "iloc") or found.modality != "tabular" else TableView(found.inputs).frame
        self.frame: pd.DataFrame | None = table.copy() if found.modality == "tabular" else None
        self.items: list[Any] = [] if self.frame is not None else list(found.inputs)
        n = len(self.items) if self.frame is None else len(self.frame)
        self.origin = np.arange(n) if found.positions is None else np.asarray(found.positions)
        self.labels = _labels(found, reading, n)
        self.notes = {k: list(v) for k, v in found.notes.items() if isinstance(v, list) and len(v) == n}
        self.log: list[Change] = []
        self.check = ""
        self._context: Context | None = None
        for name, reason in found.unreadable:  # never came into the inputs
            self.log.append(Change("unreadable items", "row dropped", None, "", name, None, reason))
        for name, reason in found.damaged:
            self.log.append(Change("unreadable items", "line read in part", None, "", name, None, reason))

    def context(self, reference: Context | None = None) -> Context:
        """What the checks are given: the draft as it stands now."""
        if self._context is None:
            inputs = self.frame if self.frame is not None else self.items
            reading = view_of(Data(inputs, None, self.modality, notes=self.notes))
            labels = labels_of(self.labels, reading)
            self._context = Context(
                reading.view, labels, unreadable=reading.unreadable, attempted=reading.attempted, lost=reading.lost
            )  # fmt: skip
        if reference is None:
            return self._context
        return replace(self._context, reference=reference.reference, reference_labels=reference.reference_labels)

    def _note(self, action: Action, place: int | None, column: str, before: Any, after: Any, why: str) -> None:
        row = None if place is None else int(self.origin[place])
        self.log.append(Change(self.check, action, row, column, _short(before), _short(after), why))
        self._context = None

    def log_of(self, check: str) -> list[Change]:
        return [c for c in self.log if c.check == check]

    def drop(self, places: Iterable[int], why: str | Mapping[int, str]) -> None:
        """Leave items out, with their labels."""
        gone = sorted(set(map(int, places)))
        for place in gone:
            self._note("row dropped", place, "", None, None, why if isinstance(why, str) else why[place])
        keep = np.ones(len(self.origin), dtype=bool)
        keep[gone] = False
        rest = np.flatnonzero(keep)
        self.origin = self.origin[rest]
        if self.frame is not None:
            self.frame = self.frame.iloc[rest]
        self.items = [self.items[i] for i in rest] if self.items else self.items
        self.labels = None if self.labels is None else self.labels[rest]
        self.notes = {k: [v[i] for i in rest] for k, v in self.notes.items()}

    def drop_columns(self, places: Iterable[int], why: str) -> None:
        """Leave columns out."""
        assert self.frame is not None
        gone = set(places)
        for j in sorted(gone):
            self._note("column dropped", None, str(self.frame.columns[j]), None, None, why)
        self.frame = self.frame.iloc[:, [j for j in range(self.frame.shape[1]) if j not in gone]]

    def blank(self, places: Sequence[int] | np.ndarray, j: int, why: str) -> None:
        """Set cells of column ``j`` to missing."""
        assert self.frame is not None
        where = np.zeros(len(self.frame), dtype=bool)
        where[places] = True
        column = self.frame.iloc[:, j]
        for place in np.flatnonzero(where):
            self._note("cell", int(place), str(self.frame.columns[j]), column.iloc[place], None, why)
        self.frame.isetitem(j, column.mask(where).array)

    def strip(self, place: int, why: str) -> None:
        """Note that something beside the data of an item is to go."""
        self._note("file stripped", place, "", None, None, why)

    def set(self, places: Sequence[int] | np.ndarray, j: int, values: Sequence[Any], why: str, told: Any = None) -> None:
        """Set cells of column ``j`` of a table, or whole items of other data, to ``values``; the log says ``told`` for what was there."""
        name = "" if self.frame is None else str(self.frame.columns[j])
        column: Any = self.items if self.frame is None else self.frame.iloc[:, j].astype(object).to_numpy(copy=True)
        for place, value in zip(places, values, strict=True):
            self._note("cell", int(place), name, column[place] if told is None else told, value, why)
            column[place] = value
        if self.frame is not None:
            import pandas as pd

            made = pd.Series(column, dtype=object)
            with suppress(TypeError, ValueError):  # a column of numbers holds no text
                made = made.astype(self.frame.iloc[:, j].dtype)
            self.frame.isetitem(j, made.array)

    def convert(self, j: int, column: pd.Series, changed: Mapping[int, Any], why: str) -> None:
        """Put ``column`` in the place of column ``j``; ``changed`` are the cells whose value is not merely written otherwise."""
        assert self.frame is not None
        name, old = str(self.frame.columns[j]), self.frame.iloc[:, j]
        self._note("column converted", None, name, str(old.dtype), str(column.dtype), why)
        for place, value in changed.items():
            self._note("cell", place, name, old.iloc[place], value, why)
        self.frame.isetitem(j, column.array)

    def relabel(self, places: Sequence[int] | np.ndarray, value: Any, why: str) -> None:
        """Set labels."""
        assert self.labels is not None
        for place in places:
            self._note("label", int(place), "", self.labels[place], value, why)
            self.labels[place] = value

    def columns(self, names: Iterable[str]) -> list[int]:
        """Where the columns of these names stand; a name that two columns share stands for neither."""
        assert self.frame is not None
        places: dict[str, list[int]] = {}
        for j, name in enumerate(self.frame.columns):
            places.setdefault(str(name), []).append(j)
        return [places[n][0] for n in dict.fromkeys(names) if len(places.get(n, ())) == 1]


def _labels(found: Data, reading: Reading, n: int) -> np.ndarray | None:
    """One label per input, as objects; None where an input has none."""
    if found.labels is None:
        return None
    values = found.labels.detach().cpu().numpy() if hasattr(found.labels, "detach") else found.labels
    values = values.to_pandas() if hasattr(values, "to_pandas") else values
    values = np.ravel(values.to_numpy()) if hasattr(values, "to_numpy") else values
    given = np.empty(len(values), dtype=object)
    given[:] = list(np.ravel(values)) if isinstance(values, np.ndarray) else list(values)
    if len(given) == n:
        return given
    labels = np.full(n, None, dtype=object)
    labels[reading.kept] = given[reading.align(len(given), "labels")]
    return labels


def _short(value: Any) -> Any:
    """A value as the log repeats it: missing as None, arrays by their shape, long texts cut."""
    if value is None or (isinstance(value, (float, np.floating)) and np.isnan(value)):
        return None
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (bool, int, float)):
        return value
    text = value if isinstance(value, str) else f"{type(value).__name__} {np.shape(value)}" if hasattr(value, "shape") else str(value)
    return text if len(text) <= LENGTH else text[: LENGTH - 1] + "…"
