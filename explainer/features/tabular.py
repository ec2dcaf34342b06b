"""Columns, or groups of columns: the parts of a table's row; an absent one takes values of background rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from explainer.errors import InvalidInput
from explainer.features.base import Cells, Features, thinned
from explainer.features.conditional import Donors
from explainer.inputs import categorised

if TYPE_CHECKING:
    import pandas as pd


def typical_row(frame: pd.DataFrame) -> pd.DataFrame:
    """One row: the median of each numeric column (a value that occurs), the most frequent value of any other."""
    return _one_row(frame, lambda column: column.sort_values().iloc[[(len(column) - 1) // 2]])


def mean_row(frame: pd.DataFrame) -> pd.DataFrame:
    """One row: the mean of each numeric column, the most frequent value of any other."""
    import pandas as pd

    return _one_row(frame, lambda column: pd.Series([column.mean()]))


def _one_row(frame: pd.DataFrame, of_numbers: Any) -> pd.DataFrame:
    import pandas as pd

    row = {}
    for name in frame.columns:
        column = frame[name].dropna()
        if len(column) == 0:
            row[name] = frame[name].iloc[:1].reset_index(drop=True)
        elif pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
            row[name] = of_numbers(column).reset_index(drop=True)
        else:
            row[name] = column.mode().iloc[:1].reset_index(drop=True)
    return pd.DataFrame(row)[list(frame.columns)]


class Columns(Features):
    """One player per column, or per named group of columns (one-hot columns belong together).

    An absent player takes its columns' values from each background row in turn, and the scores are averaged (marginal
    expectation); with one background row this is a plain baseline. ``donors`` choose the background rows by what is present
    instead (conditional expectation). ``whole``: the rows that ``background`` was drawn from.
    """

    axes = ("column",)

    def __init__(
        self,
        frame: pd.DataFrame,
        background: pd.DataFrame,
        groups: Mapping[str, Sequence[str]] | None = None,
        donors: Donors | None = None,
        absence: str = "",
        whole: pd.DataFrame | None = None,
    ) -> None:
        import pandas as pd

        columns = [str(c) for c in frame.columns]
        self.groups = _complete(groups, columns)
        self._player = np.empty(len(columns), dtype=np.int64)
        for player, members in enumerate(self.groups.values()):
            for member in members:
                self._player[columns.index(member)] = player
        self._alone = np.array_equal(self._player, np.arange(len(self.groups)))
        self._donors = donors
        self.conditional = donors is not None
        self.repeats = len(background) if donors is None else donors.repeats
        self._instances = len(frame)
        # Instances and background in one frame, so that each column has one dtype that holds the values of both.
        frame = categorised(frame, background)
        self._pool = pd.concat([frame, categorised(background, frame)], ignore_index=True)
        self._blocks, self._others = _blocks(self._pool, len(frame))
        self.whole = background if whole is None else whole
        self.thinned = thinned(len(background), len(self.whole))
        self.absence = absence or (averaged(len(background), len(self.whole)) if donors is None else donors.absence)

    def names(self, i: int) -> tuple[str, ...]:
        return tuple(self.groups)

    def shape(self, i: int) -> tuple[int, ...]:
        return (len(self.groups),)

    def row_bytes(self, i: int) -> int:
        cells = sum(block.row_bytes for block in self._blocks) + 32 * len(self._others)
        return cells + (0 if self._donors is None else self._donors.row_bytes)

    def rows(self, i: int, masks: np.ndarray) -> pd.DataFrame:
        return self.rows_of([(i, masks)])

    def rows_of(self, asks: Sequence[tuple[int, np.ndarray]]) -> pd.DataFrame:
        import pandas as pd

        shown = [(i, masks if self._alone else masks[:, self._player]) for i, masks in asks]
        picks = [None if self._donors is None else self._donors.pick(i, present) for i, present in shown]
        built = [block.rows(shown, picks, self.repeats) for block in self._blocks]
        names = self._pool.columns
        if len(built) == 1 and not self._others:
            return pd.DataFrame(built[0], columns=names, copy=False)
        columns: dict[int, Any] = {}
        for block, values in zip(self._blocks, built, strict=True):
            columns.update(zip(block.positions, np.ascontiguousarray(values.T), strict=True))
        for position in self._others:
            index = [self._index(i, present, pick, position) for (i, present), pick in zip(shown, picks, strict=True)]
            columns[position] = self._pool[names[position]].array.take(np.concatenate(index))
        return pd.DataFrame({name: columns[position] for position, name in enumerate(names)}, copy=False)

    def cells(self) -> Cells | None:
        if self._donors is not None:
            return None
        return Cells(self._pool.iloc[: self._instances], self._pool.iloc[self._instances :], True, [self._player])

    def _index(self, i: int, present: np.ndarray, pick: np.ndarray | None, position: int) -> np.ndarray:
        """Which rows of the pool a column's values come from."""
        if pick is None:
            pick = np.arange(self.repeats)[None]
        elif pick.ndim == 3:
            pick = pick[:, :, position]
        return np.where(present[:, position, None], i, self._instances + pick).reshape(-1)

    def idle(self, i: int) -> np.ndarray:
        return self._idle[i]

    @cached_property
    def _idle(self) -> np.ndarray:
        """Per instance and player, whether every background row has the instance's values (missing equals missing).

        Such a column tells nothing about the others either, so it is idle under a conditional absence too.
        """
        import pandas as pd

        same = np.empty((self._instances, len(self._pool.columns)), dtype=bool)
        for block in self._blocks:
            same[:, block.positions] = block.constant
        for position in self._others:
            codes = pd.factorize(self._pool.iloc[:, position], use_na_sentinel=False)[0]
            own, background = codes[: self._instances], codes[self._instances :]
            same[:, position] = (own == background[0]) & (background == background[0]).all()
        idle = np.ones((self._instances, len(self.groups)), dtype=bool)
        np.logical_and.at(idle.T, self._player, same.T)
        return idle

    def pool(self, i: int, values: np.ndarray, axes: tuple[str, ...]) -> np.ndarray:
        if len(values) == len(self.groups):
            return values
        return np.bincount(self._player, weights=values, minlength=len(self.groups))

    def extras(self, i: int) -> dict[str, Any]:
        return {} if self._alone else {"groups": self._player}


def averaged(used: int, of: int) -> str:
    """What an absent column takes, in words: from ``used`` of the background rows."""
    if used == of == 1:
        return "value of the baseline row"
    return f"mean over {used} background rows" if used == of else f"mean over {used} of {of} background rows"


class _Block:
    """Columns of one numpy dtype as one array: rows are built for all of them at once.

    Values are handled as their bits, b ^ (present * (x ^ b)): exact for every dtype, and without a branch per cell.
    """

    def __init__(self, positions: np.ndarray, values: np.ndarray, instances: int, whole: bool) -> None:
        self.positions = positions
        self._dtype = values.dtype
        self._at: Any = slice(None) if whole else positions
        bits = values.view(f"u{values.itemsize}")
        self._own, self._background = bits[:instances], bits[instances:]

    @property
    def row_bytes(self) -> int:
        return self._own.itemsize * len(self.positions)

    def rows(self, shown: Sequence[tuple[int, np.ndarray]], picks: Sequence[np.ndarray | None], repeats: int) -> np.ndarray:
        """Values ``(rows, columns of this block)``; ``shown``: instance and present columns (m, columns) per ask."""
        built = np.empty((sum(len(present) for _, present in shown) * repeats, len(self.positions)), self._own.dtype)
        start = 0
        for (i, present), pick in zip(shown, picks, strict=True):
            stop = start + len(present) * repeats
            part = built[start:stop].reshape(len(present), repeats, -1)
            background = self._values(pick)
            np.multiply(present[:, None, self._at].astype(built.dtype), background ^ self._own[i], out=part)
            np.bitwise_xor(part, background, out=part)
            start = stop
        return built.view(self._dtype)

    @property
    def constant(self) -> np.ndarray:
        """Where ``(instances, columns)`` the instance has the one value, missing or not, that all background rows have."""
        first = self._background[0]
        return (self._background == first).all(axis=0) & (self._own == first)

    def _values(self, pick: np.ndarray | None) -> np.ndarray:
        if pick is None:
            return self._background
        if pick.ndim == 2:
            return self._background[pick]
        return self._background[pick[:, :, self._at], np.arange(len(self.positions))]


def _blocks(pool: pd.DataFrame, instances: int) -> tuple[list[_Block], list[int]]:
    """The columns by numpy dtype, and the positions of those that pandas keeps in other ways (text, categories, dates)."""
    found: dict[np.dtype, list[int]] = {}
    others = []
    for position, dtype in enumerate(pool.dtypes):
        if isinstance(dtype, np.dtype) and dtype.kind in "fiub" and dtype.itemsize <= 8:
            found.setdefault(dtype, []).append(position)
        else:
            others.append(position)
    blocks = []
    for dtype, positions in found.items():
        values = np.ascontiguousarray(pool.iloc[:, positions].to_numpy(dtype))
        blocks.append(_Block(np.array(positions), values, instances, len(positions) == len(pool.columns)))
    return blocks, others


def _complete(groups: Mapping[str, Sequence[str]] | None, columns: list[str]) -> dict[str, list[str]]:
    """The groups as given, with each column that is in none as a group of its own."""
    given = {str(name): [members] if isinstance(members, str) else list(members) for name, members in (groups or {}).items()}
    named = [member for members in given.values() for member in members]
    strange = [m for m in named if m not in columns]
    twice = sorted({m for m in named if named.count(m) > 1})
    empty = [name for name, members in given.items() if not members]
    if strange or twice or empty:
        problem = f"names columns that do not exist: {strange}" if strange else f"puts columns in two groups: {twice}"
        problem = problem if strange or twice else f"has groups without columns: {empty}"
        raise InvalidInput(f"features= {problem}; the columns are {', '.join(columns)}.")
    owner = {member: name for name, members in given.items() for member in members}
    alone = [name for name in given if name in columns and owner.get(name) != name]
    if alone:
        raise InvalidInput(f"features= calls a group {alone[0]!r}, which is a column outside it; choose another name.")
    ordered: dict[str, list[str]] = {}
    for column in columns:
        name = owner.get(column, column)
        ordered.setdefault(name, given.get(name, [column]))
    return ordered
