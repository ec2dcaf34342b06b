"""Estimates from pairs of coalitions other than the odd process: the weighted regression of KernelSHAP, and strata by size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from explainer.methods.quadrature import evenly, in_turn, of_size, shares
from explainer.methods.sampling import widened

_RIDGE = 1e-10
_LEAST_LEFT = 0.05  # of a residual, however much its pair alone decides
FEWEST_DRAWS = 2  # of each player, inside and outside, in every stratum


@dataclass(frozen=True)
class Regression:
    r"""Paired KernelSHAP: the additive game closest to the pairs scored, under the Shapley kernel (Covert & Lee 2021).

    .. math:: \min_\phi \sum_S w(S) \Big(g(S) - \tfrac12 \sum_j \phi_j x_j\Big)^2, \quad \sum_j \phi_j = v(N) - v(\emptyset)

    with g(S) = (v(S) - v(complement)) / 2 and x_j = 1 in S, else -1. Size classes that the budget covers come whole with their
    kernel weight; the others share what is left of the weight over independent draws. Standard errors come from the residuals
    of the draws alone.
    """

    masks: np.ndarray
    weight: np.ndarray
    drawn: np.ndarray

    @cached_property
    def order(self) -> np.ndarray:
        # Not in turn: among the draws, sizes must keep the shares that their equal weights suppose.
        return evenly(self.masks)

    def values(self, empty: np.ndarray, full: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        half, d = self.masks.shape
        x = 2.0 * self.masks - 1
        g = (scores[:half] - scores[half:]) / 2
        even = (full - empty) / d
        within = x - x.mean(axis=1, keepdims=True)  # the sum of the values is known, so only differences are left to find
        gram = (within * self.weight[:, None]).T @ within
        size = np.trace(gram) / d or 1.0
        project = 2 * np.linalg.solve(gram + size / d + _RIDGE * size * np.eye(d), (within * self.weight[:, None]).T)
        left = g - x.sum(axis=1, keepdims=True) * even / 2
        phi = project @ left
        residual = left - within @ phi / 2
        # Each residual as if its own pair had been left out (HC3): a regression on few pairs runs through them.
        leverage = np.einsum("dm,md->m", project, within) / 2
        residual /= np.maximum(1 - leverage, _LEAST_LEFT)[:, None]
        spent = int(self.drawn.sum())
        error = widened((project[:, self.drawn] ** 2) @ residual[self.drawn] ** 2, max(spent - d + 1, 1))
        return phi + even, error

    def on(self, known: np.ndarray) -> Regression:
        """A class of which a part is known counts as drawn, with its weight on what is left of it."""
        sizes = self.masks.sum(axis=1)
        whole = np.bincount(sizes[~self.drawn], self.weight[~self.drawn], len(sizes) + 1)
        some = np.bincount(sizes[~self.drawn & known], self.weight[~self.drawn & known], len(sizes) + 1)
        scale = np.where(self.drawn, 1.0, (whole / np.where(some > 0, some, np.inf))[sizes])
        partly = ~self.drawn & (scale > 1 + 1e-9)
        drawn = self.drawn & known
        scale[self.drawn] = self.weight[self.drawn].sum() / max(self.weight[drawn].sum(), 1e-300)
        return Regression(self.masks[known], (self.weight * scale)[known], (self.drawn | partly)[known])


@lru_cache(maxsize=8)
def regression(d: int, pairs: int, seed: int) -> Regression:
    """The design for ``d >= 2`` players and ``pairs`` pairs."""
    rng = np.random.default_rng([seed, d, pairs])
    kernel = {s: (d - 1) / (s * (d - s)) * (0.5 if 2 * s == d else 1.0) for s in range(1, d // 2 + 1)}
    room = {s: math.comb(d, s) // (2 if 2 * s == d else 1) for s in kernel}
    left, open_ = pairs, dict(kernel)
    masks, weight, drawn = [], [], []
    for s in kernel:  # whole classes, as long as their share of the draws covers them
        if room[s] > left * open_[s] / sum(open_.values()):
            break
        masks.append(of_size(d, s, room[s], room[s], rng))
        weight.append(np.full(room[s], open_.pop(s) / room[s]))
        drawn.append(np.zeros(room[s], dtype=bool))
        left -= room[s]
    if open_ and left:
        mass = np.array(list(open_.values()))
        sizes = np.repeat(list(open_), rng.multinomial(left, mass / mass.sum()))
        masks.append(rng.random((left, d)).argsort(axis=1).argsort(axis=1) < sizes[:, None])
        weight.append(np.full(left, mass.sum() / left))
        drawn.append(np.ones(left, dtype=bool))
    return Regression(np.concatenate(masks), np.concatenate(weight), np.concatenate(drawn))


@dataclass(frozen=True)
class Strata:
    r"""Stratified sampling: every coalition counts in one stratum of each player, by its size and whether the player is in it.

    .. math:: \phi_i = \frac1d \Big[v(N) - v(\emptyset) + \sum_{s \le d/2} \big(\bar h_s(i \in S) - \bar h_s(i \notin S)\big)\Big]

    where h(S) = v(S) - v(complement of S), averaged over coalitions of s players (Castro et al. 2017; Kolpaczki et al. 2024, with
    complements). Strata that are whole are exact; the standard errors are those of the others' means.
    """

    masks: np.ndarray
    whole: tuple[int, ...]

    @cached_property
    def order(self) -> np.ndarray:
        return in_turn(self.masks)

    def values(self, empty: np.ndarray, full: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        half, d = self.masks.shape
        h = scores[:half] - scores[half:]
        sizes = self.masks.sum(axis=1)
        phi = np.broadcast_to(full - empty, (d, h.shape[1])).copy()
        variance = np.zeros_like(phi)
        for s in range(1, d // 2 + 1):
            own = sizes == s
            inside, there, spread_in = _means(h[own], self.masks[own])
            outside, absent, spread_out = _means(h[own], ~self.masks[own])
            if 2 * s == d:  # a complement is of the same size: what a player is not in, counted from the other side
                both = there + absent
                phi += (inside * there - outside * absent) / np.maximum(both, 1)
                step = (spread_in * there + spread_out * absent) / np.maximum(both, 1) ** 2
            else:
                phi += inside - outside
                step = spread_in / np.maximum(there, 1) + spread_out / np.maximum(absent, 1)
            variance += 0.0 if s in self.whole else step
        phi, error = phi / d, np.sqrt(variance) / d
        return phi + (full - empty - phi.sum(axis=0)) / d, error

    def on(self, known: np.ndarray) -> Strata:
        sizes = self.masks.sum(axis=1)
        return Strata(self.masks[known], tuple(s for s in self.whole if known[sizes == s].all()))


def _means(h: np.ndarray, member: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per player and output over the coalitions it belongs to: mean ``(d, k)``, count ``(d, 1)`` and variance ``(d, k)``."""
    weight = member.T.astype(float)
    count = weight.sum(axis=1, keepdims=True)
    mean = weight @ h / np.maximum(count, 1)
    centred = h[None] - mean[:, None]
    spread = np.einsum("dm,dmk->dk", weight, centred**2) / np.maximum(count - 1, 1)
    # Too few to have a spread of their own: that of all.
    return mean, count, np.where(count < FEWEST_DRAWS, h.var(axis=0) if len(h) else 0.0, spread)


def least_strata(d: int) -> int:
    """Pairs needed so that every player is inside and outside at every size often enough."""
    sizes = range(1, d // 2 + 1)
    return sum(min(math.comb(d, s) // (2 if 2 * s == d else 1), -(-FEWEST_DRAWS * d // s)) for s in sizes)


@lru_cache(maxsize=8)
def strata(d: int, pairs: int, seed: int) -> Strata:
    """The design for ``d >= 2`` players and about ``pairs`` pairs, never fewer than :func:`least_strata`."""
    sizes = range(1, d // 2 + 1)
    room = {s: math.comb(d, s) // (2 if 2 * s == d else 1) for s in sizes}
    least = {s: min(room[s], -(-FEWEST_DRAWS * d // s)) for s in sizes}
    more = shares({s: room[s] - least[s] for s in sizes}, dict.fromkeys(sizes, 1.0), max(0, pairs - sum(least.values())))
    masks = [_balanced(d, s, least[s] + more[s], room[s], np.random.default_rng([seed, d, s])) for s in sizes]
    return Strata(np.concatenate(masks), tuple(s for s in sizes if least[s] + more[s] == room[s]))


def _balanced(d: int, size: int, count: int, room: int, rng: np.random.Generator) -> np.ndarray:
    """Coalitions of ``size`` players cut from random orders, so that all players are drawn equally often."""
    if 2 * count > room:
        return of_size(d, size, count, room, rng)
    rows = -(-count // (d // size))
    orders = rng.random((rows, d)).argsort(axis=1)[:, : size * (d // size)].reshape(-1, size)[:count]
    masks = np.zeros((count, d), dtype=bool)
    np.put_along_axis(masks, orders, True, axis=1)
    return masks
