"""How coalitions are asked for and turned into Shapley values: all of them, growing sets of pairs, or orders."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Protocol

import numpy as np
from scipy.stats import norm, t

from explainer.coalitions import Budget, Clock, rounds
from explainer.methods.game import Answer, Play, ends, told
from explainer.methods.quadrature import MOST_PAIRS, in_turn, process_on

FEWEST_PAIRS = 3  # below this a standard error means nothing
_FIRST = 32  # pairs before the error or the clock is looked at; then twice as many each time
_PRIOR_DRAWS = 4
_STEP = 256  # evaluations per look, for orders


class Pairs(Protocol):
    """A set of coalitions, each scored with its complement, and the estimate that goes with it."""

    @property
    def masks(self) -> np.ndarray: ...

    @property
    def order(self) -> np.ndarray:
        """In which order the pairs are scored, so that what is known after a stop is a design too."""

    def values(self, empty: np.ndarray, full: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shapley values and standard errors ``(d, k)`` from scores ``(2 pairs, k)`` of the masks, then of their complements."""

    def on(self, known: np.ndarray) -> Pairs:
        """The same on those pairs alone that are known."""


def exact(d: int) -> Play:
    """All ``2^d`` coalitions, in an order that leaves a design after a stop."""
    order = enumeration(d)
    masks = (order[:, None] >> np.arange(d)) & 1 == 1
    scores = yield masks
    if not told(scores).all():
        return _from_pairs(masks, scores) if d >= 2 else Answer.unknown(d, scores.shape[1])
    v = np.empty_like(scores)
    v[order] = scores
    phi = enumerated(v, d)
    return Answer(phi, np.zeros_like(phi), v[0])


@lru_cache(maxsize=4)
def enumeration(d: int) -> np.ndarray:
    """All coalitions as numbers whose bits are the players: complements side by side, first the empty and the full one, then one of
    every size, at random, then the second of each, ...
    """
    half = np.random.default_rng(d).permutation(2 ** max(d - 1, 0))
    half = half[np.argsort(half != 0, kind="stable")]
    half[1:] = half[1:][in_turn((half[1:, None] >> np.arange(d)) & 1 == 1)] if d else half[1:]
    return np.stack([half, 2**d - 1 - half], axis=1).reshape(-1)[: 2**d]


def enumerated(v: np.ndarray, d: int) -> np.ndarray:
    """Shapley values ``(d, k)`` from the scores of all coalitions; bit j of a row's number says whether player j is there."""
    index = np.arange(2**d)
    weight = np.array([1 / (d * math.comb(d - 1, s)) for s in range(d)])
    sizes = _sizes(index, d)
    phi = np.empty((d, v.shape[1]))
    for player in range(d):
        without = index[(index >> player) & 1 == 0]
        phi[player] = weight[sizes[without]] @ (v[without | (1 << player)] - v[without])
    return phi


def _sizes(index: np.ndarray, d: int) -> np.ndarray:
    return ((index[:, None] >> np.arange(max(d, 1))) & 1).sum(axis=1)


def _from_pairs(masks: np.ndarray, scores: np.ndarray) -> Answer:
    """An enumeration that was cut short: the odd process on the pairs that are known."""
    d, known = masks.shape[1], told(scores)
    pairs = np.flatnonzero(known[2::2] & known[3::2]) * 2 + 2
    if not known[:2].all() or len(pairs) < FEWEST_PAIRS:
        return Answer.unknown(d, scores.shape[1])
    pairs = pairs[:MOST_PAIRS]
    process = process_on(masks[pairs])
    phi, error = process.values(scores[0], scores[1], np.concatenate([scores[pairs], scores[pairs + 1]]))
    return Answer(phi, error, scores[0])


def paired(make: Callable[[int, int], Pairs], d: int, budget: Budget, clock: Clock, most: int) -> Play:
    """Pairs of coalitions ``make(pairs, block)``: blocks of at most ``most``, whose values are averaged, or while the error or the clock
    decides, first one block that doubles.
    """
    empty = full = None
    found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    k = 0
    for pairs, block in _stages(max(1, (budget.evaluations - 2) // 2), budget.adaptive, most):
        design = make(pairs, block)
        first, scores = yield from in_pairs(ends(d), design.masks, design.order)
        k, (empty, full), half = scores.shape[1], first, len(design.masks)
        if not (np.isfinite(empty).all() and np.isfinite(full).all()):
            break
        known = told(scores[:half]) & told(scores[half:])
        if known.sum() < min(half, FEWEST_PAIRS) or (found and not known.all()):
            break
        whole = bool(known.all())
        if not whole:
            design, scores = design.on(known), scores[np.concatenate([known, known])]
        phi, error = design.values(empty, full, scores)
        found[block] = phi, error**2
        mean = np.mean([phi for phi, _ in found.values()], axis=0)
        error = np.sqrt(np.mean([variance for _, variance in found.values()], axis=0) / len(found))
        if not whole or clock.over or settled(mean, error, budget):
            break
    return Answer(mean, error, empty) if found and empty is not None else Answer.unknown(d, k)


def in_pairs(first: np.ndarray, masks: np.ndarray, order: np.ndarray) -> Generator[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Scores of the coalitions ``first``, and of ``masks`` and then their complements; asked in ``order``, each beside its complement."""
    n, half = len(first), len(masks)
    asked = np.stack([masks[order], ~masks[order]], axis=1).reshape(2 * half, -1)
    found = yield np.concatenate([first, asked])
    scores = np.empty_like(found[n:])
    scores[order], scores[half + order] = found[n::2], found[n + 1 :: 2]
    return found[:n], scores


def growing(make: Callable[[int, int], Pairs], d: int, budget: Budget, clock: Clock, most: int) -> Play:
    """:func:`paired` while the error or the clock decides, but all coalitions before it would ask for about as many."""
    if not budget.adaptive or 2**d > budget.evaluations:
        return (yield from paired(make, d, budget, clock, most))
    answer = yield from paired(make, d, replace(budget, evaluations=2 ** (d - 1) + 2), clock, most)
    if clock.over or not np.isfinite(answer.values).all() or settled(answer.values, answer.stderr, budget):
        return answer
    return (yield from exact(d))


def _stages(pairs: int, adaptive: bool, most: int) -> Iterator[tuple[int, int]]:
    """Numbers of pairs and of the block they are for."""
    blocks = -(-pairs // most)
    if not adaptive:
        yield from ((pairs // blocks, block) for block in range(blocks))
        return
    now, first = _FIRST, min(pairs, most)
    while now < first:
        yield now, 0
        now *= 2
    yield from ((first, block) for block in range(max(1, pairs // most)))


def permutation(d: int, budget: Budget, clock: Clock, seed: int, draw: Callable[[np.random.Generator], np.ndarray] | None = None) -> Play:
    """Antithetic pairs of orders (Mitchell et al. 2022); each pair's average is one independent, unbiased draw.

    ``draw(rng)`` gives an order, any of the ``d`` players unless told otherwise.
    """
    draw = draw or (lambda rng: rng.permutation(d))
    # The draws depend on the seed and the number of parts only, so an instance is explained alike in any batch.
    rng = np.random.default_rng([seed, d])
    most = max(FEWEST_PAIRS, (budget.evaluations - 2) // (2 * (d - 1)))
    # In parts, so that a stop leaves whole orders: equal ones between two looks at the error, or else ones that double.
    step = max(FEWEST_PAIRS, _STEP // d)
    doubling = (part.stop - part.start for part in rounds(most, max(FEWEST_PAIRS, most // 16)))
    parts = [step] * -(-most // step) if budget.adaptive else list(doubling)
    first = yield ends(d)
    draws: list[np.ndarray] = []
    mean = error = np.zeros((d, first.shape[1]))
    for part in parts:
        one_way = [draw(rng) for _ in range(min(part, most - len(draws)))]
        orders = [order for one in one_way for order in (one, one[::-1])]
        rank = np.argsort(np.stack(orders), axis=1)
        masks = rank[:, None, :] < np.arange(1, d)[None, :, None]  # (orders, d - 1, players)
        inner = (yield masks.reshape(-1, d)).reshape(len(orders), d - 1, -1)
        marginal = _marginals(first, inner, rank)
        pairs = (marginal[0::2] + marginal[1::2]) / 2
        finished = np.isfinite(pairs).all(axis=(1, 2))
        draws.extend(pairs[finished])
        if len(draws) < 2:
            return Answer.unknown(d, first.shape[1])
        mean, error = np.mean(draws, axis=0), widened(np.var(draws, axis=0, ddof=1) / len(draws), len(draws) - 1)
        if not finished.all() or clock.over or settled(mean, error, budget):
            break
    return Answer(mean, error, first[0])


def _marginals(first: np.ndarray, inner: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Contributions ``(orders, players, k)`` of adding the players one by one in each order."""
    empty, full = (np.broadcast_to(end, (len(inner), 1, first.shape[1])) for end in first)
    steps = np.diff(np.concatenate([empty, inner, full], axis=1), axis=1)
    return np.take_along_axis(steps, rank[..., None], axis=1)


def widened(variance: np.ndarray, freedom: float) -> np.ndarray:
    """Standard errors ``(d, k)`` from few draws: variances drawn towards the mean over players, as if by four more draws (a player seen
    to change nothing three times may still matter), and Student's factor, so that 1.96 of them hold 95 %.
    """
    pooled = (freedom * variance + _PRIOR_DRAWS * variance.mean(axis=0)) / (freedom + _PRIOR_DRAWS)
    return np.sqrt(pooled) * t.ppf(0.975, freedom + _PRIOR_DRAWS) / norm.ppf(0.975)


def settled(mean: np.ndarray, error: np.ndarray, budget: Budget) -> bool:
    """Whether all values together are, in 95 % of cases, within the error asked for: a share of the largest value."""
    if budget.error is None:
        return False
    reach = norm.ppf(1 - 0.025 / len(mean)) * error.max(axis=0)
    return bool((reach <= budget.error * np.abs(mean).max(axis=0)).all())
