"""Tables as the checks see them: columns of any type brought to numbers or codes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from explainer.checks.columns import Column, column_of, run_lengths
from explainer.checks.context import NotRun, listed
from explainer.checks.neighbours import close_ranks
from explainer.checks.view import View
from explainer.checks.workers import each

VARIOUS = 0.5  # a text in every other row is no category
IDENTIFIER_SHARE = 0.99  # distinct in this share of rows
CHANCE_ROWS = 200_000  # rows among which coincidences are counted: 20,000 million pairs
IDENTIFIER_LEAST = 30  # rows: with fewer, all values may differ by chance


class TableView(View):
    """A table as columns of numbers and codes."""

    modality = "tabular"
    noun = "row"

    def __init__(self, frame: Any, positions: np.ndarray | None = None) -> None:
        if not isinstance(frame, pd.DataFrame):
            array = np.asarray(frame)
            if array.ndim > 2:
                array = array.reshape(len(array), -1)
            array = array.reshape(-1, 1) if array.ndim < 2 else array
            frame = pd.DataFrame(array, columns=[f"x{i}" for i in range(array.shape[1])])
        self.frame = frame
        self.n = len(frame)
        self.positions = np.arange(self.n) if positions is None else positions
        self.columns = each(lambda i: column_of(str(frame.columns[i]), frame.iloc[:, i]), range(frame.shape[1]), self.n)
        self._reasons: dict[Column, str] = {}

    @cached_property
    def keys(self) -> np.ndarray:
        return self._digests(self._content)

    @cached_property
    def _content(self) -> list[Column]:
        """The columns that say something of a row; a copy under a new number is a copy."""
        return [c for c in self.columns if not self.identifier(c)] or self.columns

    @property
    def aside(self) -> str:
        names = [c.name for c in self.columns if self.identifier(c)]
        return f" (leaving out {listed(map(repr, names))})" if names and len(names) < len(self.columns) else ""

    def keys_against(self, other: View) -> tuple[np.ndarray, np.ndarray]:
        """Digests of the columns both tables have, identifiers of either left out, and those of numbers here and of words there."""
        assert isinstance(other, TableView)
        mine, theirs = ({(c.name, c.numbers is None) for c in table._content} for table in (self, other))
        if not mine & theirs:
            raise NotRun("The two tables have no column in common.")
        order = sorted(name for name, _ in mine & theirs)
        sides = [{c.name: c for c in reversed(table._content)} for table in (self, other)]
        return self._digests([sides[0][name] for name in order]), other._digests([sides[1][name] for name in order])

    def _digests(self, columns: list[Column]) -> np.ndarray:
        keys = np.zeros(self.n, dtype=np.uint64)
        for column in columns:
            keys = (keys ^ column.hashes) * np.uint64(0x9E3779B97F4A7C15)
            keys ^= keys >> np.uint64(29)
        return keys

    @cached_property
    def blank(self) -> np.ndarray:
        return np.logical_and.reduce([c.missing for c in self.columns]) if self.columns else np.ones(self.n, dtype=bool)

    def take(self, index: np.ndarray) -> pd.DataFrame:
        return self.frame.iloc[index]

    def whole(self, names: Sequence[str] = ()) -> np.ndarray:
        needed = [c for c in self.columns if not names or c.name in names]
        missing = [c.missing if c.numbers is None else ~np.isfinite(c.numbers) for c in needed]
        return ~np.logical_or.reduce(missing) if missing else ~self.blank

    @cached_property
    def summary(self) -> pd.DataFrame:
        """The table's own columns, each a float column or one of categories; strings that hardly ever recur are left out."""
        return frame_of([c for c in self.columns if c.kind not in ("text", "empty") and not self._various(c)], self.n)

    def _various(self, column: Column) -> bool:
        return column.kind == "category" and column.distinct > VARIOUS * self.n

    @property
    def signals(self) -> pd.DataFrame:
        return frame_of([c for c in self.columns if c.kind != "empty"], self.n)

    def identifier(self, column: Column) -> str:
        """Why ``column`` merely names the rows, or "" if it does not."""
        if column not in self._reasons:
            self._reasons[column] = self._identifier(column)
        return self._reasons[column]

    def _identifier(self, column: Column) -> str:
        known = self.n - int(column.missing.sum())
        if self.n < IDENTIFIER_LEAST or known < self.n * IDENTIFIER_SHARE or column.distinct < known * IDENTIFIER_SHARE:
            return ""
        if column.kind == "category":
            return "a different text in every row"
        if column.kind == "number" and column.numbers is not None:
            present = column.numbers[~column.missing]
            if not np.isfinite(present).all() or not (present == np.round(present)).all():
                return ""
            steps = np.diff(np.sort(present))
            if len(steps) and (steps == 1).mean() >= IDENTIFIER_SHARE:
                return "a running number"
            if re.search(r"(^|[\W_])(id|key|uuid|guid|nr|number|index)$", column.name, re.I) or column.name.endswith(("Id", "ID")):
                return "a different whole number in every row, under the name of an identifier"
        return ""

    def part(self, rows: np.ndarray) -> TableView:
        return TableView(self.frame.iloc[rows], self.positions[rows])

    def chance(self) -> float:
        """N (n - 1) / 2 times the product over columns of the chance that two distinct rows agree in it.

        That chance is measured among all distinct rows, or among ``CHANCE_ROWS`` of them.
        """
        if any(c.kind == "text" for c in self._content):  # prose is not repeated by chance
            return 0.0
        kept = self.firsts
        if len(kept) > CHANCE_ROWS:
            kept = np.sort(np.random.default_rng(0).choice(kept, CHANCE_ROWS, replace=False))
        agree = 1.0
        for column in self._content:
            values = column.codes[kept] if column.numbers is None else column.numbers[kept]
            sizes = run_lengths(np.sort(np.where(column.missing[kept], np.inf, values))).astype(float)
            agree *= float((sizes * (sizes - 1)).sum() / max(1.0, len(kept) * (len(kept) - 1.0)))
            if not agree:
                return 0.0
        return agree * self.n * (self.n - 1) / 2

    def near(self, other: View | None = None) -> tuple[list[tuple[int, int, float]], float]:
        return close_ranks(self, other if isinstance(other, TableView) else None)


def frame_of(columns: list[Column], n: int) -> pd.DataFrame:
    """The columns as a frame that shares their memory: floats and categories."""
    data: dict[str, Any] = {}
    for column in columns:
        name, i = column.name, 2
        while name in data:
            name, i = f"{column.name} ({i})", i + 1
        if column.numbers is not None:
            data[name] = column.numbers
        else:
            data[name] = pd.Categorical.from_codes(column.codes, categories=column.levels.as_index, validate=False)
    return pd.DataFrame(data, index=range(n), copy=False)
