"""Columns, or groups of columns: the parts of a table's row; an absent one takes the values of background rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from explainer.errors import InvalidInput
from explainer.features.base import Features

if TYPE_CHECKING:
    import pandas as pd


def typical_row(frame: pd.DataFrame) -> pd.DataFrame:
    """One row: the median of each numeric column (a value that occurs), the most frequent value of any other."""
    import pandas as pd

    row = {}
    for name in frame.columns:
        column = frame[name].dropna()
        if len(column) == 0:
            row[name] = frame[name].iloc[:1].reset_index(drop=True)
        elif pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
            row[name] = column.sort_values().iloc[[(len(column) - 1) // 2]].reset_index(drop=True)
        else:
            row[name] = column.mode().iloc[:1].reset_index(drop=True)
    return pd.DataFrame(row)[list(frame.columns)]


class Columns(Features):
    """One player per column, or per named group of columns (one-hot columns belong together).

    An absent player takes its columns' values from each background row in turn, and the scores are averaged (marginal
    expectation); with one background row this is a plain baseline.
    """

    axes = ("column",)

    def __init__(self, frame: pd.DataFrame, background: pd.DataFrame, groups: Mapping[str, Sequence[str]] | None = None) -> None:
        import pandas as pd

        columns = [str(c) for c in frame.columns]
        self.groups = _complete(groups, columns)
        self._player = np.empty(len(columns), dtype=np.int64)
        for player, members in enumerate(self.groups.values()):
            for member in members:
                self._player[columns.index(member)] = player
        self.frame = frame
        self.repeats = len(background)
        # Pooled so that index 0..n-1 is an instance and n.. a background row: one take() per column, whatever its dtype.
        self._pool = pd.concat([frame, background], ignore_index=True)
        self.absence = f"mean over {len(background)} background rows" if len(background) > 1 else "value of the baseline row"

    def names(self, i: int) -> tuple[str, ...]:
        return tuple(self.groups)

    def shape(self, i: int) -> tuple[int, ...]:
        return (len(self.groups),)

    def rows(self, i: int, masks: np.ndarray) -> pd.DataFrame:
        import pandas as pd

        reference = len(self.frame) + np.arange(self.repeats)
        taken = {}
        for position, name in enumerate(self._pool.columns):
            index = np.where(masks[:, self._player[position], None], i, reference).reshape(-1)
            taken[name] = self._pool[name].array.take(index)
        return pd.DataFrame(taken, copy=False)

    def idle(self, i: int) -> np.ndarray:
        idle = np.ones(len(self.groups), dtype=bool)
        for position, codes in enumerate(self._codes):
            if (codes[len(self.frame) :] != codes[i]).any():
                idle[self._player[position]] = False
        return idle

    @cached_property
    def _codes(self) -> list[np.ndarray]:
        """Each column as integers, equal where the values are (missing equals missing)."""
        import pandas as pd

        return [pd.factorize(self._pool[name], use_na_sentinel=False)[0] for name in self._pool.columns]

    def pool(self, i: int, values: np.ndarray, axes: tuple[str, ...]) -> np.ndarray:
        if len(values) == len(self.groups):
            return values
        return np.bincount(self._player, weights=values, minlength=len(self.groups))


def _complete(groups: Mapping[str, Sequence[str]] | None, columns: list[str]) -> dict[str, list[str]]:
    """The groups as given, with each column that is in none as a group of its own."""
    given = {name: list(members) for name, members in (groups or {}).items()}
    named = [member for members in given.values() for member in members]
    strange = [m for m in named if m not in columns]
    twice = sorted({m for m in named if named.count(m) > 1})
    if strange or twice:
        problem = f"names columns that do not exist: {strange}" if strange else f"puts columns in two groups: {twice}"
        raise InvalidInput(f"features= {problem}; the columns are {', '.join(columns)}.")
    owner = {member: name for name, members in given.items() for member in members}
    ordered: dict[str, list[str]] = {}
    for column in columns:
        name = owner.get(column, column)
        ordered.setdefault(name, given.get(name, [column]))
    return ordered
