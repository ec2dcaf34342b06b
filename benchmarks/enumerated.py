"""What is right of games, from the scores of all coalitions: sums over sets by their definitions, one term at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

Game = Callable[[np.ndarray], np.ndarray]


def shapley(game: Game, d: int) -> np.ndarray:
    """Shapley values by the sum over all coalitions."""
    return owen(game, d, [])


def left_out(game: Game, d: int) -> np.ndarray:
    """The score minus the score without each player."""
    scores = game(np.concatenate([np.ones((1, d), dtype=bool), ~np.eye(d, dtype=bool)]))
    return scores[0] - scores[1:]


def owen(game: Game, d: int, groups: Sequence[Sequence[int]]) -> np.ndarray:
    """Owen 1977: within a group over all sets of its other players, beside every set of other groups; players in none stand alone."""
    scores = game(_every(d))
    alone = [[j] for j in range(d) if not any(j in group for group in groups)]
    blocks, values = [*map(list, groups), *alone], np.zeros(d)
    for block in blocks:
        others = [other for other in blocks if other is not block]
        for j in block:
            for chosen, outer in _sets(len(others)):
                context = sum(1 << k for number in chosen for k in others[number])
                mates = [k for k in block if k != j]
                for inside, inner in _sets(len(mates)):
                    code = context + sum(1 << mates[number] for number in inside)
                    values[j] += outer * inner * (scores[code | 1 << j] - scores[code])
    return values


def interactions(game: Game, d: int) -> np.ndarray:
    """Grabisch & Roubens 1999 in halves on both sides of the diagonal, which holds what is left of each Shapley value."""
    scores, values = game(_every(d)), np.zeros((d, d))
    for i in range(d):
        for j in range(i):
            rest = [k for k in range(d) if k not in (i, j)]
            for chosen, weight in _sets(len(rest)):
                code = sum(1 << rest[number] for number in chosen)
                both, one, other, none = (scores[code | extra] for extra in (1 << i | 1 << j, 1 << i, 1 << j, 0))
                values[i, j] += weight * (both - one - other + none) / 2
            values[j, i] = values[i, j]
    np.fill_diagonal(values, shapley(game, d) - values.sum(1))
    return values


def shown(game: Game, d: int) -> np.ndarray:
    """Petsiuk et al. 2018 for parts kept by the toss of a coin: the mean score with each part there, less the mean score."""
    masks = _every(d)
    scores = game(masks)
    return np.array([scores[masks[:, j]].mean() for j in range(d)]) - scores.mean()


def _every(d: int) -> np.ndarray:
    """All coalitions; player ``j`` is in the one numbered ``code`` where its bit ``j`` is set."""
    return (np.arange(2**d)[:, None] >> np.arange(d)) & 1 == 1


def _sets(size: int) -> Iterator[tuple[list[int], float]]:
    """The subsets of ``size`` others, with the share of orders in which just they come before."""
    for code in range(2**size):
        chosen = [k for k in range(size) if code >> k & 1]
        yield chosen, math.factorial(len(chosen)) * math.factorial(size - len(chosen)) / math.factorial(size + 1)
