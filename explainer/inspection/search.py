"""The search for counterfactuals of one row: few changes first, then the nearest unlike rows of the data, each made smaller."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from explainer.coalitions import Clock
from explainer.inspection.space import Space, same

WIDTH = 8  # partial changes followed at each step
DONORS = 300  # rows of the data tried as they are
STARTS = 24  # of those that are valid, how many are made smaller
POINTS = 12  # values tried at once between the own and another value
MOST_STEPS = 6  # changes followed where max_changes does not say
Margin = Callable[[np.ndarray], np.ndarray]


class Search:
    """Rows tried for one original ``own`` (columns,): what is valid, and how near the others came.

    ``score(rows)`` gives the margin ``(m,)`` by which rows meet the goal: above 0 they do.
    """

    def __init__(self, space: Space, own: np.ndarray, score: Margin, most: int, clock: Clock, max_changes: int | None) -> None:
        self.space, self.own = space, own
        self.max_changes = len(own) if max_changes is None else max_changes
        self.complete = 0  # up to so many changes, every combination of the values tried was scored
        self.tried = 0
        self.beyond = 0  # fewest changes of a valid row that has too many
        self._score, self._most, self._clock = score, most, clock
        self._known: dict[bytes, float] = {}
        self._rows: list[np.ndarray] = []
        self._candidates = [column.candidates(own[j]) for j, column in enumerate(space.columns)]
        self.free = [j for j, values in enumerate(self._candidates) if len(values)]

    def run(self) -> None:
        """Fill the memory of rows tried."""
        if not self.free:
            return
        self._few_changes()
        self._more_changes()
        self._from_data()
        self._smaller(self.valid())

    # -- what was found ------------------------------------------------------------------------------------------------

    def valid(self) -> np.ndarray:
        """Rows ``(m, columns)`` that meet the goal with no more changes than allowed, each once."""
        rows, margins = self._everything()
        kept = rows[(margins > 0) & (self._count(rows) <= self.max_changes)]
        return kept[np.argsort(self.space.distance(kept, self.own).sum(axis=1), kind="stable")]

    def nearest_miss(self) -> np.ndarray | None:
        """The row within the limits that came nearest to the goal."""
        rows, margins = self._everything()
        inside = (self._count(rows) <= self.max_changes) & np.isfinite(margins)
        return rows[inside][np.argmax(margins[inside])] if inside.any() else None

    def _everything(self) -> tuple[np.ndarray, np.ndarray]:
        if not self._rows:
            return np.empty((0, len(self.own))), np.empty(0)
        return np.stack(self._rows), np.array(list(self._known.values()))

    def _count(self, rows: np.ndarray) -> np.ndarray:
        return (~same(rows, self.own)).sum(axis=-1)

    # -- scoring -------------------------------------------------------------------------------------------------------

    @property
    def left(self) -> int:
        """How many more rows may be scored."""
        return 0 if self._clock.over else max(0, self._most - self.tried)

    def _margins(self, rows: np.ndarray) -> np.ndarray:
        """Margins ``(m,)``; each different row is scored once, and what the budget does not cover is -inf."""
        rows = rows + 0.0  # -0.0 and 0.0 are one value
        keys = [row.tobytes() for row in rows]
        fresh: dict[bytes, int] = {}
        for position, key in enumerate(keys):
            if key not in self._known and key not in fresh:
                fresh[key] = position
        chosen = list(fresh.items())[: self.left]
        if chosen:
            margins = self._score(rows[[position for _, position in chosen]])
            self.tried += len(chosen)
            for (key, position), margin in zip(chosen, margins, strict=True):
                self._known[key] = float(margin)
                self._rows.append(rows[position])
                if margin > 0:
                    changes = int(self._count(rows[position]))
                    if changes > self.max_changes:
                        self.beyond = min(self.beyond or changes, changes)
        return np.array([self._known.get(key, -np.inf) for key in keys])

    # -- few changes ---------------------------------------------------------------------------------------------------

    def _few_changes(self) -> None:
        """Every combination of the values tried, one change, then two, ... as long as they are few enough."""
        allowed = self._most * 0.4
        for size in range(1, min(self.max_changes, len(self.free)) + 1):
            count = sum(int(np.prod([len(self._candidates[j]) for j in set_])) for set_ in self._sets(size, allowed))
            if count > allowed - self.tried:
                return
            for columns in itertools.combinations(self.free, size):
                self._margins(self._changed(columns))
            if self.left:
                self.complete = size
            if len(self.valid()) >= 200:
                return

    def _sets(self, size: int, allowed: float) -> Iterator[tuple[int, ...]]:
        for number, columns in enumerate(itertools.combinations(self.free, size)):
            if number > allowed:
                return
            yield columns

    def _changed(self, columns: tuple[int, ...]) -> np.ndarray:
        values = np.stack(np.meshgrid(*(self._candidates[j] for j in columns), indexing="ij"), axis=-1).reshape(-1, len(columns))
        rows = np.tile(self.own, (len(values), 1))
        rows[:, list(columns)] = values
        return rows

    def _more_changes(self) -> None:
        """Follow the most promising partial changes, of different columns, one change further at a time."""
        spent = self.tried + self.left * 0.5
        frontier = self._promising(*self._level([self.own]))
        for _ in range(1, min(self.max_changes, len(self.free), MOST_STEPS)):
            if self.tried >= spent or not len(frontier):
                return
            frontier = self._promising(*self._level(frontier))

    def _level(self, starts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        made = []
        for start in starts:
            for j in self.free:
                if same(start[j], self.own[j]):
                    rows = np.tile(start, (len(self._candidates[j]), 1))
                    rows[:, j] = self._candidates[j]
                    made.append(rows)
        rows = np.concatenate(made) if made else np.empty((0, len(self.own)))
        return rows, self._margins(rows) if made else np.empty(0)

    def _promising(self, rows: np.ndarray, margins: np.ndarray) -> list[np.ndarray]:
        """The best rows that are not valid yet, at most two with the same columns changed."""
        chosen: list[np.ndarray] = []
        seen: dict[bytes, int] = {}
        for position in np.argsort(-margins, kind="stable"):
            if margins[position] > 0 or not np.isfinite(margins[position]):
                continue
            key = (~same(rows[position], self.own)).tobytes()
            if seen.get(key, 0) < 2:
                seen[key] = seen.get(key, 0) + 1
                chosen.append(rows[position])
            if len(chosen) == WIDTH:
                break
        return chosen

    # -- from the data -------------------------------------------------------------------------------------------------

    def _from_data(self) -> None:
        """Rows of the data, brought within the limits: the nearest that meet the goal are made smaller."""
        rows = np.unique(self._within(self.space.data), axis=0)
        rows = rows[np.argsort(self.space.distance(rows, self.own).sum(axis=1), kind="stable")]
        met: list[np.ndarray] = []
        for start in range(0, len(rows), DONORS):
            block = rows[start : start + DONORS]
            met += list(block[self._margins(block) > 0])
            if len(met) >= STARTS // 2 or self.left < self._most * 0.2:
                break
        if met:
            self._smaller(np.stack(met[: STARTS // 2]))

    def _within(self, rows: np.ndarray) -> np.ndarray:
        """Rows whose values are allowed; each that is not, and each that is missing, is the original's own."""
        rows = rows.copy()
        for j, column in enumerate(self.space.columns):
            kept = column.permits(rows[:, j], self.own[j]) & (not column.fixed)
            rows[~kept | np.isnan(rows[:, j]), j] = self.own[j]
        return rows

    # -- making it smaller ---------------------------------------------------------------------------------------------

    def _smaller(self, rows: np.ndarray) -> None:
        """Take back each change that is not needed, then bring every number as near to the original's as it will go."""
        rows = self._spread_out(rows)
        for _ in range(2):
            if not len(rows) or not self.left:
                return
            rows = self._taken_back(rows)
            rows = self._brought_near(rows)

    def _spread_out(self, rows: np.ndarray) -> np.ndarray:
        """The nearest rows, at most two with the same columns changed."""
        seen: dict[bytes, int] = {}
        chosen = []
        for row in rows:
            key = (~same(row, self.own)).tobytes()
            seen[key] = seen.get(key, 0) + 1
            if seen[key] <= 2:
                chosen.append(row)
        return np.array(chosen[:STARTS]).reshape(-1, len(self.own))

    def _taken_back(self, rows: np.ndarray) -> np.ndarray:
        """Undo one change at a time, the largest that can be undone, until none can."""
        rows = rows.copy()
        active = np.arange(len(rows))
        while len(active):
            tries, owner, column = [], [], []
            for position in active:
                for j in np.flatnonzero(~same(rows[position], self.own)):
                    row = rows[position].copy()
                    row[j] = self.own[j]
                    tries.append(row)
                    owner.append(position)
                    column.append(j)
            if not tries:
                return rows
            margins = self._margins(np.stack(tries))
            gain = self.space.distance(np.stack(tries), self.own).sum(axis=1)
            still = []
            for position in active:
                mine = [t for t, o in enumerate(owner) if o == position and margins[t] > 0]
                if mine:
                    rows[position] = tries[min(mine, key=lambda t: (gain[t], column[t]))]
                    still.append(position)
            active = np.array(still, dtype=int)
        return rows

    def _brought_near(self, rows: np.ndarray) -> np.ndarray:
        """Column by column, the value nearest to the original's that still meets the goal."""
        rows = rows.copy()
        moved = [
            [j for j in np.argsort(-self.space.distance(row[None], self.own)[0], kind="stable") if self._numeric(row, j)] for row in rows
        ]
        for turn in range(max(map(len, moved), default=0)):
            lines = [(position, columns[turn]) for position, columns in enumerate(moved) if turn < len(columns)]
            self._along(rows, lines)
        return rows

    def _numeric(self, row: np.ndarray, j: int) -> bool:
        return not self.space.columns[j].category and not same(row[j], self.own[j]) and not np.isnan(self.own[j])

    def _along(self, rows: np.ndarray, lines: list[tuple[int, int]]) -> None:
        """Search between the own and the present value of one column in each row, all rows at once, in ever finer steps."""
        inner = {line: self.own[line[1]] for line in lines}  # does not meet the goal, or is the original's own
        while lines and self.left:
            tries, owner = [], []
            for number, (position, j) in enumerate(lines):
                column = self.space.columns[j]
                between = np.linspace(inner[lines[number]], rows[position, j], POINTS + 2)[1:-1]
                values = np.unique(column.snapped(between, *column.ends(self.own[j])))
                for value in values[(values != rows[position, j]) & (values != inner[lines[number]])]:
                    row = rows[position].copy()
                    row[j] = value
                    tries.append(row)
                    owner.append(number)
            if not tries:
                return
            margins, owners, stack = self._margins(np.stack(tries)), np.array(owner), np.stack(tries)
            again = []
            for number, (position, j) in enumerate(lines):
                mine = np.flatnonzero(owners == number)
                if not len(mine):
                    continue
                mine = mine[np.argsort(np.abs(stack[mine, j] - self.own[j]), kind="stable")]
                met = np.flatnonzero(margins[mine] > 0)
                if len(met):
                    rows[position] = stack[mine[met[0]]]
                before = mine[: met[0]] if len(met) else mine
                if len(before):
                    inner[lines[number]] = stack[before[-1], j]
                again.append((position, j))
            lines = again
