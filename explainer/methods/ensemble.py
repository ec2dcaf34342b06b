"""A model's scores in terms of its trees, and the Shapley values of their sum."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from explainer.errors import Unsupported
from explainer.methods import forest as forests
from explainer.methods.links import affine, link_of, probes
from explainer.progress import Report

_CELLS = 2**22  # numbers held at once
_MOST_ROWS = 4096
_PROBES = 512  # points at which a function is held to be linear
_MOST_ON_PATH = 62  # players on one path: the bits of an integer


class Ensemble:
    """The trees of ``model``, and how its scores on the scale ``output`` follow from their sums, the margins.

    ``player`` maps each column to its player. Where scores are affine in the margins, ``slope`` (margins, outputs) and
    ``intercept`` (outputs,) say how; else they are None. Raises Unsupported, with the reason, where the trees cannot be read
    or their sums do not reproduce what the model gives for the rows of ``tables``.
    """

    def __init__(self, model: Any, tables: Sequence[Any], output: str, player: np.ndarray) -> None:
        self._model, self._player = model, player
        self.forest = forests.read(model.estimator)
        self.players = int(player.max()) + 1
        link = link_of(model, tables, self.margins, self.forest.exact)
        if link is None:
            raise Unsupported("The sums of the trees, as they were read, do not reproduce the model's output.")
        self.scores: Callable[[np.ndarray], np.ndarray] = lambda margins: model.rescale(link(margins), output)
        self.slope, self.intercept = affine(self.scores, probes(len(self.forest.base)))

    def columns(self, table: Any) -> np.ndarray:
        """The table as the kernels take it, ``(columns, rows)``."""
        try:
            return np.ascontiguousarray(self.forest.columns(self._model.native(table)).T)
        except (ValueError, TypeError) as error:
            raise Unsupported(f"Some columns are not numbers ({str(error)[:80]}).") from error

    @cached_property
    def walk(self) -> Any:
        from explainer.methods.treeshap import walk

        made = walk(self.forest, self._player)
        if made.width.max() > _MOST_ON_PATH:
            raise Unsupported(f"A path of these trees asks {made.width.max()} different parts; up to {_MOST_ON_PATH} are possible.")
        return made

    @cached_property
    def asked(self) -> np.ndarray:
        """Players that some split asks."""
        return np.unique(self._player[self.walk.feature])

    @property
    def covered(self) -> bool:
        """Whether training rows reached every node; where none did, the path-dependent game is 0 / 0."""
        return bool((self.walk.reach > 0).all())

    def margins(self, table: Any) -> np.ndarray:
        """The sums of the trees ``(rows, margins)``."""
        from explainer.methods.treeshap import margins

        columns = self.columns(table)
        out = np.repeat(np.asarray(self.forest.base, dtype=np.float64)[:, None], columns.shape[1], axis=1)
        margins(self.walk, columns, out)
        return out.T

    def expected(self) -> np.ndarray:
        """The margins ``(margins,)`` without any column in the path-dependent game: leaves weighted by their training rows."""
        walk, base = self.walk, np.array(self.forest.base, dtype=np.float64)
        for tree, output in enumerate(walk.output):
            nodes = slice(walk.nodes[tree], walk.nodes[tree + 1])
            base[output : output + walk.value.shape[1]] += (walk.reach[nodes] * walk.leaf[nodes]) @ walk.value[nodes]
        return base

    def linear(self, target: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Slope and intercept of a function of the scores where it is affine over the range the trees can reach, else None twice."""
        low, high = np.array(self.forest.base, dtype=np.float64), np.array(self.forest.base, dtype=np.float64)
        for tree in self.forest.trees:
            at, leaves = slice(tree.output, tree.output + tree.value.shape[1]), tree.value[tree.left < 0]
            low[at] += leaves.min(axis=0)
            high[at] += leaves.max(axis=0)
        share = np.random.default_rng(0).random((_PROBES, len(low)))
        return affine(lambda margins: target(self.scores(margins)), low + share * (high - low))

    def values(self, table: Any, background: Any, report: Report) -> np.ndarray:
        """Shapley values of the margins ``(rows, players, margins)``: interventional against ``background``, path-dependent without."""
        from explainer.methods.treeleaves import leaf_values
        from explainer.methods.treeshap import path_values

        columns, (nodes, weights) = self.columns(table), self._rules
        others = columns[:, :0] if background is None else self.columns(background)
        n, outputs = columns.shape[1], len(self.forest.base)
        values, none = np.empty((n, self.players, outputs)), np.empty((0, 0, 0, 0))
        for rows in _blocks(n, outputs * self.players):
            report(rows.start, n)
            phi, part = np.zeros((outputs, self.players, rows.stop - rows.start)), np.ascontiguousarray(columns[:, rows])
            if background is None:
                path_values(self.walk, part, nodes, weights, phi)
            else:
                leaf_values(self.walk, part, others, _beta(), nodes, weights, False, phi, none)
            values[rows] = phi.transpose(2, 1, 0)
        report(n, n)
        return values

    def interactions(self, table: Any, background: Any, report: Report) -> np.ndarray:
        """Shapley interaction matrices of the margins ``(rows, players, players, margins)``, as :func:`matrices` lays them out."""
        from explainer.methods.treeleaves import leaf_values

        columns, (nodes, weights) = self.columns(table), self._rules
        others = columns[:, :0] if background is None else self.columns(background)
        n, outputs, d = columns.shape[1], len(self.forest.base), self.players
        values, pairs = np.empty((n, d, outputs)), np.empty((n, d, d, outputs))
        for rows in _blocks(n, outputs * d * d):
            report(rows.start, n)
            size = rows.stop - rows.start
            phi, both = np.zeros((outputs, d, size)), np.zeros((outputs, d, d, size))
            leaf_values(self.walk, np.ascontiguousarray(columns[:, rows]), others, _beta(), nodes, weights, True, phi, both)
            values[rows], pairs[rows] = phi.transpose(2, 1, 0), both.transpose(3, 1, 2, 0)
        report(n, n)
        return matrices(values, pairs)

    def table(self, row: np.ndarray, background: np.ndarray, live: np.ndarray, target: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """The game ``(2**live, k)`` of one instance: the mean over background rows of ``target(scores)``, for all coalitions.

        ``row`` (columns,), ``background`` (columns, rows), ``live`` the players that differ from some background row; coalition s
        holds the players ``live[j]`` whose bit j is set in s.
        """
        from explainer.methods.treeleaves import coalition_margins

        bit = np.full(self.players, -1)
        bit[live] = np.arange(len(live))
        total: Any = 0.0
        for other in background.T:
            out = np.repeat(np.asarray(self.forest.base, dtype=np.float64)[:, None], 2 ** len(live), axis=1)
            coalition_margins(self.walk, row, np.ascontiguousarray(other), bit, len(live), out)
            total = total + np.asarray(target(self.scores(out.T)))
        return total / background.shape[1]

    @cached_property
    def _rules(self) -> tuple[np.ndarray, np.ndarray]:
        return _gauss(max(1, (int(self.walk.width.max()) + 1) // 2))


def matrices(values: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Matrices ``(n, d, d, k)`` whose rows add up to the values: half of each pair's interaction off the diagonal."""
    both = pairs / 2
    both[:, np.arange(both.shape[1]), np.arange(both.shape[1])] = values - both.sum(axis=2)
    return both


def from_table(game: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shapley values ``(d, k)`` and interactions ``(d, d, k)`` of a game given for all coalitions, ``(2**d, k)``."""
    d = int(math.log2(len(game)))
    size = np.array([s.bit_count() for s in range(len(game))])
    single = np.array([1 / (d * math.comb(d - 1, s)) for s in range(d)])
    double = np.array([1 / ((d - 1) * math.comb(d - 2, s)) for s in range(d - 1)])
    values, pairs = np.zeros((d, game.shape[1])), np.zeros((d, d, game.shape[1]))
    for i in range(d):
        without = np.flatnonzero(~np.arange(len(game)) >> i & 1)
        gain = game[without | 1 << i] - game[without]
        values[i] = single[size[without]] @ gain
        for j in range(i):
            # The gains are those of a game without i, whose players above i have moved down by one bit.
            rest = np.flatnonzero(~without >> j & 1)
            with_j = np.searchsorted(without, without[rest] | 1 << j)
            pairs[i, j] = pairs[j, i] = double[size[without[rest]]] @ (gain[with_j] - gain[rest])
    return values, pairs


def _blocks(n: int, cells: int) -> Iterator[slice]:
    """Slices of rows of which each takes ``cells`` numbers."""
    step = min(_MOST_ROWS, max(32, _CELLS // max(1, cells)))
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


@lru_cache(maxsize=8)
def _gauss(most: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes and weights on [0, 1]; row q holds the rule of q points."""
    nodes, weights = np.zeros((most + 1, most)), np.zeros((most + 1, most))
    for q in range(1, most + 1):
        x, w = np.polynomial.legendre.leggauss(q)
        nodes[q, :q], weights[q, :q] = (x + 1) / 2, w / 2
    return nodes, weights


@lru_cache(maxsize=1)
def _beta() -> np.ndarray:
    """B(a, b) for whole a, b >= 1."""
    table = np.zeros((_MOST_ON_PATH + 2, _MOST_ON_PATH + 2))
    for a in range(1, len(table)):
        for b in range(1, len(table)):
            table[a, b] = 1 / (a * math.comb(a + b - 1, a))
    return table
