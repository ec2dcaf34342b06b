"""Sparse games: three to eight of many players matter, the others do nothing, or next to nothing; exact values by closed form or by
enumerating the players that matter alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Scores = Callable[[np.ndarray], np.ndarray]
KINDS = ("sparse sum", "sparse product", "sparse threshold", "sparse tree")
FAINT = "sparse, faint rest"
LIVE = (3, 8)
_FAINT = 0.02  # of the spread of the scores: what each of the other players adds in the kind with a faint rest


def enumerate_values(v: Scores, d: int) -> np.ndarray:
    """Shapley values ``(d, k)`` from all ``2^d`` coalitions."""
    index = np.arange(2**d)
    masks = (index[:, None] >> np.arange(d)) & 1 == 1
    scores, sizes = v(masks), masks.sum(axis=1)
    weight = np.array([1 / (d * math.comb(d - 1, s)) for s in range(d)])
    without = [index[~masks[:, j]] for j in range(d)]
    return np.stack([weight[sizes[rest]] @ (scores[rest | (1 << j)] - scores[rest]) for j, rest in enumerate(without)])


def core(kind: str, live: int, rng: np.random.Generator) -> Scores:
    """Scores ``(m, 1)`` of coalitions ``(m, live)`` of the players that matter."""
    if kind == "sparse sum":  # of unanimity games of one to all players
        terms = [rng.choice(live, size, replace=False) for size in rng.integers(1, live + 1, 2 * live)]
        factors = rng.normal(size=len(terms))
        return lambda masks: sum(c * masks[:, t].all(axis=1) for c, t in zip(factors, terms, strict=True))[:, None]
    if kind == "sparse product":
        factors = rng.normal(size=live)
        return lambda masks: np.prod(1 + masks * factors, axis=1)[:, None]
    if kind == "sparse threshold":
        weights = rng.uniform(0.2, 1, live) * rng.choice([-1, 1], live, p=[0.2, 0.8])
        quota = rng.uniform(0.2, 0.8) * weights.sum()
        return lambda masks: (masks @ weights > quota).astype(float)[:, None]
    depth = min(live, 4)
    players, leaves = rng.integers(0, live, 2**depth), rng.normal(size=2**depth)

    def tree(masks: np.ndarray) -> np.ndarray:
        place = np.ones(len(masks), dtype=np.int64)
        for _ in range(depth):
            place = 2 * place + masks[np.arange(len(masks)), players[place]]
        return leaves[place - 2**depth][:, None]

    return tree


def scores_and_values(d: int, kind: str, rng: np.random.Generator) -> tuple[Scores, np.ndarray]:
    """A game of ``d`` players as its scores and its Shapley values ``(d, 1)``."""
    live = int(rng.integers(LIVE[0], LIVE[1] + 1))
    members = rng.choice(d, live, replace=False)
    inner = core(str(rng.choice(KINDS)) if kind == FAINT else kind, live, rng)
    exact = np.zeros((d, 1))
    exact[members] = enumerate_values(inner, live)
    rest = np.zeros((d, 1))
    pairs = np.zeros((d, d))
    if kind == FAINT:
        size = _FAINT * float(np.std(inner(rng.random((64, live)) < 0.5)))
        rest[:, 0] = size * rng.normal(size=d)
        pairs[np.arange(d), rng.permutation(d)] = size * rng.normal(size=d)
        np.fill_diagonal(pairs, 0)
        exact += rest + (pairs.sum(axis=0) + pairs.sum(axis=1))[:, None] / 2

    def v(masks: np.ndarray) -> np.ndarray:
        found = inner(masks[:, members])
        if kind != FAINT:
            return found
        present = masks.astype(float)
        return found + present @ rest + np.einsum("mi,ij,mj->m", present, pairs, present, optimize=True)[:, None]

    return v, exact
