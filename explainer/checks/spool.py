"""A table kept on disk, column by column, in the form in which the checks see it: larger than memory, and still one table."""

from __future__ import annotations

import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from explainer.checks.columns import Column, coded_column, column_of, mixture, run_lengths
from explainer.checks.context import listed
from explainer.checks.frame import TableView, frame_of
from explainer.checks.levels import Levels
from explainer.checks.view import View

LEVELS_MOST, LEVELS_LEAST = 1_000_000, 10_000  # different texts of one column held in memory; of a column of more, only hashes are
LEVEL_BYTES = 150  # of one such text, its place in the table included
SAMPLE_MOST, SAMPLE_LEAST = 200_000, 1_000  # rows of the sample
ROOM = 10  # times the sample's own size, for what the checks make of it
BLOCK = 1_000_000  # rows turned at a time


class Spool:
    """Parts of a table written to a folder of their own, which goes with the object; beside them a sample drawn on the way."""

    def __init__(self, memory: float) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="explainer-")
        self.memory, self.n, self.size = memory, 0, SAMPLE_LEAST
        self.columns: dict[str, _Stored] = {}
        self.sample = pd.DataFrame()  # its index is the place of each row
        self.drawn = np.zeros(0)  # the lot of each of its rows: those with the lowest are kept
        self.rng = np.random.default_rng(0)

    def add(self, frame: pd.DataFrame) -> None:
        """Append the rows of ``frame``; a column it lacks is missing there, one it brings was missing before."""
        frame = frame.set_axis(_distinct(frame.columns), axis=1)
        frame.index = pd.RangeIndex(self.n, self.n + len(frame))
        share = self.memory / (LEVEL_BYTES * max(1, frame.shape[1]))
        for name in frame.columns:
            if name not in self.columns:
                most = int(min(max(share, LEVELS_LEAST), LEVELS_MOST))
                self.columns[name] = _Stored(name, Path(self.folder.name) / str(len(self.columns)), most)
                self.columns[name].n = self.n
            self.columns[name].add(frame[name])
        for name in self.columns.keys() - set(frame.columns):
            self.columns[name].n += len(frame)
        self._draw(frame)
        self.n += len(frame)

    def _draw(self, frame: pd.DataFrame) -> None:
        """Keep the rows with the lowest lots: a uniform sample of all rows so far."""
        if not self.n:
            width = frame.memory_usage(deep=True).sum() / max(1, len(frame))
            self.size = int(np.clip(self.memory / (ROOM * max(width, 1.0)), SAMPLE_LEAST, SAMPLE_MOST))
        lots = self.rng.random(len(frame))
        limit = np.partition(self.drawn, self.size - 1)[self.size - 1] if len(self.drawn) >= self.size else 1.0
        low = lots < limit
        self.sample = pd.concat([self.sample, frame[low]]) if len(self.sample) else frame[low]
        self.drawn = np.concatenate([self.drawn, lots[low]])
        if len(self.drawn) > 2 * self.size:
            self._cut()

    def _cut(self) -> None:
        kept = np.sort(np.argsort(self.drawn, kind="stable")[: self.size])
        self.sample, self.drawn = self.sample.iloc[kept], self.drawn[kept]

    def take_out(self, name: str) -> Column:
        """One column, left out from then on."""
        if len(self.columns):
            self.sample = self.sample.drop(columns=name)
        return self.columns.pop(name).column()

    def view(self) -> StoredTable:
        self._cut()
        return StoredTable(self)


def _distinct(names: Any) -> list[str]:
    made: dict[str, None] = {}
    for one in map(str, names):
        name, i = one, 2
        while name in made:
            name, i = f"{one} ({i})", i + 1
        made[name] = None
    return list(made)


class _Stored:
    """One column on disk: numbers (NaN where it has none), codes (-1 where it has none), hashes once its texts are too many."""

    def __init__(self, name: str, path: Path, most: int) -> None:
        self.name, self.path, self.most, self.n = name, path, most, 0
        self.kinds: set[str] = set()
        self.places: dict[str, int] = {}  # codes of the texts
        self.types: dict[str, int] = {}  # codes of the types of a column of objects
        self.full = False

    def add(self, values: pd.Series) -> None:
        column = column_of(self.name, values.reset_index(drop=True))
        if column.kind != "empty":
            self.kinds.add("text" if column.numbers is None else column.kind)
            if column.types is not None:
                typed, names = column.types
                self._write("types", np.array([*(self.types.setdefault(t, len(self.types)) for t in names), -1])[typed])
            if column.numbers is not None:
                self._write("numbers", column.numbers)
            elif not self.full:
                moved = [self.places.setdefault(level, len(self.places)) for level in column.levels]
                self._write("codes", np.array([*moved, -1], dtype=np.int32)[column.codes])
                self.full = len(self.places) > self.most
            if self.full:
                self._write("hashes", column.hashes)
        self.n += len(values)

    def _write(self, what: str, values: np.ndarray) -> None:
        with self._file(what) as file:
            np.asarray(values, dtype=_KINDS[what][0]).tofile(file)

    def _file(self, what: str) -> Any:
        """The file of one kind of value, filled up to here with what stands for none."""
        dtype, absent = _KINDS[what]
        file = self.path.with_suffix(f".{what}").open("ab")
        for start in range(file.tell() // np.dtype(dtype).itemsize, self.n, BLOCK):
            np.full(min(BLOCK, self.n - start), absent, dtype=dtype).tofile(file)
        return file

    def _read(self, what: str) -> np.ndarray:
        with self._file(what) as file:
            pass
        return np.memmap(file.name, dtype=_KINDS[what][0], mode="r+", shape=(self.n,)) if self.n else np.zeros(0, dtype=_KINDS[what][0])

    def column(self) -> Column:
        """The whole column."""
        if self.full:
            return self._hashed()
        if "text" not in self.kinds:
            if len(self.kinds) != 1:
                return Column(self.name, "empty", np.ones(self.n, dtype=bool), None, self._read("codes"))
            numbers = self._read("numbers")
            return Column(self.name, next(iter(self.kinds)), np.isnan(numbers), numbers)
        codes = self._read("codes")
        several = len(self.kinds) > 1
        numbers = self._read("numbers") if several else np.zeros(0)
        mixed = self._mixture(codes, numbers)
        for start in range(0, len(numbers), BLOCK):  # numbers in one part, texts in another: all are texts, as in one piece
            block = slice(start, start + BLOCK)
            known = np.flatnonzero(~np.isnan(numbers[block]))
            values, place = np.unique(numbers[block][known], return_inverse=True)
            moved = np.array([self.places.setdefault(_text(v), len(self.places)) for v in values.tolist()], dtype=np.int32)
            codes[block][known] = moved[place]
        levels = Levels(list(self.places))
        if self.types:
            return Column(self.name, "category", codes < 0, None, codes, levels, *mixed)
        return coded_column(self.name, codes, levels)

    def _mixture(self, codes: np.ndarray, numbers: np.ndarray) -> tuple[str, tuple[int, ...]]:
        """What types are mixed in a column of objects, its parts of one type included."""
        if not self.types:
            return "", ()
        types = np.array(self._read("types"))
        if len(numbers):
            types[~np.isnan(numbers)] = self.types.setdefault("number", len(self.types))
        types[(types < 0) & (codes >= 0)] = self.types.setdefault("text", len(self.types))
        return mixture(types, list(self.types))

    def _hashed(self) -> Column:
        """A column with too many texts to hold them: what they are is not known, only which are equal."""
        hashes, codes = self._read("hashes"), self._read("codes")
        table = Levels(list(self.places))
        known = np.append(table.hashes, np.uint64(0))
        for start in range(0, self.n, BLOCK):
            block = slice(start, start + BLOCK)
            hashes[block] = np.where(codes[block] >= 0, known[codes[block]], hashes[block])
        return HashedColumn(self.name, coded_column("", codes[:0], table).kind, hashes == 0, None, hashes)


def _text(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)


class HashedColumn(Column):
    """A column known by the hashes of its texts alone."""

    @property
    def hashes(self) -> np.ndarray:
        assert self.coded is not None
        return self.coded

    @property
    def codes(self) -> np.ndarray:  # type: ignore[override]
        codes = np.asarray(pd.factorize(np.asarray(self.coded))[0], dtype=np.int32)
        return np.where(self.missing, -1, codes)

    @cached_property
    def distinct(self) -> int:
        return len(self.sizes)

    @property
    def sizes(self) -> np.ndarray:
        return run_lengths(np.sort(self.hashes[~self.missing]))


_KINDS: dict[str, tuple[Any, Any]] = {  # on disk, and what stands there for none
    "numbers": (np.float64, np.nan),
    "codes": (np.int32, -1),
    "hashes": (np.uint64, 0),
    "types": (np.int8, -1),
}


class StoredTable(TableView):
    """A table on disk, its columns mapped into memory: what looks at one column at a time sees all rows, the rest a sample."""

    def __init__(self, spool: Spool) -> None:
        self.spool, self.n = spool, spool.n
        self.positions, self.held = np.arange(self.n), len(spool.sample)
        self.columns = [one.column() for one in spool.columns.values()]
        self._reasons = {}

    @property
    def unread(self) -> str:  # type: ignore[override]
        names = [repr(c.name) for c in self.columns if isinstance(c, HashedColumn)]
        return f"Of {listed(names)}, of too many different texts to be held, only which are equal was judged." if names else ""

    @cached_property
    def frame(self) -> pd.DataFrame:  # type: ignore[override]
        return frame_of([c for c in self.columns if not isinstance(c, HashedColumn)], self.n)

    def sampled(self, most: int) -> tuple[View, np.ndarray]:
        """Of the rows drawn while reading."""
        sample = self.spool.sample
        if len(sample) > most:
            sample = sample.iloc[np.sort(np.random.default_rng(0).choice(len(sample), most, replace=False))]
        rows = sample.index.to_numpy()
        return TableView(sample.reset_index(drop=True), rows), rows
