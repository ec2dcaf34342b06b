"""Shapley values: exact by enumeration or on trees, otherwise from antithetic permutations with a standard error."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from explainer.coalitions import Clock, Coalitions
from explainer.errors import unknown
from explainer.methods.attribution import Attribution

ALGORITHMS = ("auto", "exact", "permutation", "tree")
_MOST_EXACT = 20  # players; beyond, enumeration is out of reach
_FEWEST_PAIRS = 3  # below this a standard error means nothing


def shap(
    model: Any, inputs: Any, target: Any, *, coalitions: Coalitions, output: str, background: Any, seed: int, algorithm: str = "auto"
) -> Attribution:
    r"""Shapley values of the game v(S) = expected score with the parts in S present.

    .. math:: \phi_i = \sum_{S \not\ni i} \frac{|S|!\,(d-|S|-1)!}{d!}\,[v(S \cup i) - v(S)]

    Shapley (1953); Lundberg & Lee (2017). ``algorithm="auto"`` takes the tree algorithm where it reproduces the model's
    scores, enumerates the ``2^d`` coalitions where the budget covers them, and else averages marginal contributions over
    pairs of a random permutation and its reverse (Mitchell et al. 2022), whose spread gives the standard error.
    Values sum to score minus base exactly in each case. Raises UnknownName for another algorithm.
    """
    if algorithm not in ALGORITHMS:
        raise unknown("shap algorithm", algorithm, ALGORITHMS)
    notes: tuple[str, ...] = ()
    if algorithm in ("auto", "tree"):
        from explainer.methods.trees import tree_values

        found = tree_values(model, inputs, target, output, background, coalitions.features)
        if isinstance(found, Attribution):
            return found
        if algorithm == "tree":
            from explainer.errors import Unsupported

            raise Unsupported(f"algorithm='tree' does not fit here: {found} Use algorithm='auto'.")
        notes = (found,) if found and coalitions.model.framework == "sklearn" else ()
    features, budget = coalitions.features, coalitions.budget
    n = len(inputs)
    exact = [_enumerate(features.players(i), algorithm, budget) for i in range(n)]
    coalitions.plan(sum(2 ** features.players(i) if exact[i] else budget.evaluations for i in range(n)))
    values, errors, base, used = [], [], [], set()
    for i in range(n):
        phi, error, empty, how = _exact(coalitions, i) if exact[i] else _permutations(coalitions, i, seed)
        coalitions.forget(i)
        shape = (*features.shape(i), -1)
        values.append(phi.reshape(shape))
        errors.append(error.reshape(shape))
        base.append(empty)
        used.add(how)
    sampled = not all(exact)
    return Attribution(
        values, features.axes, [features.names(i) for i in range(n)], base=np.stack(base), stderr=errors if sampled else None,
        evaluations=coalitions.evaluations, parameters={"algorithm": " and ".join(sorted(used)), "absence": features.absence}, notes=notes,
    )  # fmt: skip


def _enumerate(players: int, algorithm: str, budget: Any) -> bool:
    if algorithm == "exact" and players > _MOST_EXACT:
        from explainer.errors import Unsupported

        raise Unsupported(f"algorithm='exact' needs 2^{players} evaluations; up to {_MOST_EXACT} parts are possible. Use 'permutation'.")
    return algorithm == "exact" or (algorithm == "auto" and players <= _MOST_EXACT and 2**players <= budget.evaluations)


def _exact(coalitions: Coalitions, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    d = coalitions.features.players(i)
    index = np.arange(2**d)
    masks = (index[:, None] >> np.arange(d)) & 1 == 1
    v = coalitions(i, masks)
    sizes = masks.sum(axis=1)
    weight = np.array([1 / (d * math.comb(d - 1, s)) for s in range(d)])
    phi = np.empty((d, v.shape[1]))
    for player in range(d):
        without = index[~masks[:, player]]
        phi[player] = weight[sizes[without]] @ (v[without | (1 << player)] - v[without])
    return phi, np.zeros_like(phi), v[0], "exact enumeration"


def _permutations(coalitions: Coalitions, i: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """Antithetic pairs until the budget is spent; each pair's average is one independent, unbiased draw."""
    d, budget, clock = coalitions.features.players(i), coalitions.budget, Clock(coalitions.budget)
    # The draws depend on the seed and the number of parts only, so an instance is explained alike in any batch.
    rng = np.random.default_rng([seed, d])
    ends = coalitions(i, np.array([[False] * d, [True] * d]))
    per_pair = max(1, 2 * (d - 1))
    most = max(_FEWEST_PAIRS, (budget.evaluations - 2) // per_pair)
    adaptive = budget.seconds is not None or budget.error is not None
    step = _FEWEST_PAIRS if adaptive else max(1, 4096 // per_pair)
    draws: list[np.ndarray] = []
    while len(draws) < most:
        orders = [order for _ in range(min(step, most - len(draws))) for order in _pair(rng, d)]
        marginal = _marginals(coalitions, i, orders, ends)
        draws.extend((marginal[0::2] + marginal[1::2]) / 2)
        if adaptive and (clock.over or (budget.error is not None and _settled(draws, budget.error))):
            break
    sample = np.stack(draws)
    return sample.mean(axis=0), sample.std(axis=0, ddof=1) / math.sqrt(len(draws)), ends[0], "antithetic permutations"


def _pair(rng: np.random.Generator, d: int) -> tuple[np.ndarray, np.ndarray]:
    order = rng.permutation(d)
    return order, order[::-1]


def _marginals(coalitions: Coalitions, i: int, orders: list[np.ndarray], ends: np.ndarray) -> np.ndarray:
    """Marginal contributions ``(orders, players, k)`` of adding the players one by one in each order."""
    d = len(orders[0])
    rank = np.argsort(np.stack(orders), axis=1)
    masks = rank[:, None, :] < np.arange(1, d)[None, :, None]  # (orders, d - 1, players)
    inner = coalitions(i, masks.reshape(-1, d)).reshape(len(orders), d - 1, -1) if d > 1 else np.empty((len(orders), 0, ends.shape[1]))
    first, last = (np.broadcast_to(end, (len(orders), 1, ends.shape[1])) for end in ends)
    steps = np.diff(np.concatenate([first, inner, last], axis=1), axis=1)
    return np.take_along_axis(steps, rank[..., None], axis=1)


def _settled(draws: list[np.ndarray], error: float) -> bool:
    """Whether the 95 % interval of every value is within ``error`` of the largest value."""
    if len(draws) < 2 * _FEWEST_PAIRS:
        return False
    sample = np.stack(draws)
    half = 1.96 * sample.std(axis=0, ddof=1) / math.sqrt(len(draws))
    return bool((half <= error * np.abs(sample.mean(axis=0)).max(axis=0)).all())
