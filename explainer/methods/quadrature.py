r"""The odd Gaussian process: Shapley values of a game as the integral of a process fitted to paired coalitions.

A Shapley value depends on the odd part of a game only, g(S) = (v(S) - v(complement of S)) / 2. Written on x in {-1, 1}^d,
g is a sum of products over odd sets T, and the product over T gives 2/|T| to each of its players. A Gaussian process with

    k(x, y) = c sum_{|T| odd} rho^|T| prod_{j in T} x_j y_j + (lin / d) x.y,    c = 1 / sum_{m odd} C(d, m) rho^m,

has its covariance with each Shapley value, and the prior variance of each Shapley value, in closed form (rho^m / m is the
integral of t^(m-1)), so the posterior mean and variance are too: Bayesian quadrature (O'Hagan 1991) over coalitions. The scale of a
value's variance is how far rows that it hangs on lie from what all others say of them, in their own standard deviations.
Everything but the values of g depends on (d, pairs, seed) only and is shared by all instances and outputs; where the model is
slow enough, :mod:`explainer.methods.relevance` goes on from there with a strength of its own for every player.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import combinations

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.linalg.lapack import dtrtrs  # solve_triangular without its checks, which cost more than the few rows do
from scipy.special import gammaln

from explainer.methods.relevance import FEWEST, LEARN, NUGGET, SUM_NOISE, halves, left_out, legendre, refined, scales, spread, taken

# (Interaction strength rho, prior weight lin of the additive part) tried; the evidence picks one per instance and output.
STRENGTHS = ((0.02, 10.0), (0.08, 10.0), (0.2, 10.0), (0.4, 10.0), (0.65, 10.0), (0.05, 300.0), (0.2, 300.0))
MOST_PAIRS = 1024  # per block; a Cholesky factor of 1025 x 1025 takes a few hundredths of a second
_LEFT_OUT = 128  # rows that are predicted from all the others: the intervals are as wide as that goes wrong
_LEARNT = 1  # number: which pair of strengths
_ENUMERATED = 20_000  # size classes up to this large are listed whole and shuffled


def design(d: int, pairs: int, seed: int = 0, block: int = 0) -> np.ndarray:
    """``(pairs, d)`` coalitions, no two equal or complementary: size classes share the draws evenly, small ones come whole.

    A smaller design is, but for rounding, part of a larger one, so what was scored is not scored again when it grows.
    """
    sizes, room, count = range(1, d // 2 + 1), {}, 1
    for s in sizes:
        count = count * (d - s + 1) // s  # C(d, s): one after the other, as thousands of players have numbers of thousands of digits
        room[s] = count // (2 if 2 * s == d else 1)
    # The middle class of an even d holds its own complements, hence half the weight.
    share = shares(room, {s: 0.5 if 2 * s == d else 1.0 for s in sizes}, min(pairs, sum(room.values())))
    return np.concatenate([of_size(d, s, share[s], room[s], np.random.default_rng([seed, d, block, s])) for s in sizes if share[s]])


def shares(room: dict[int, int], weight: dict[int, float], pairs: int) -> dict[int, int]:
    """How many coalitions each size class gives, in proportion to the weights and within its room."""
    share, open_ = dict.fromkeys(room, 0), list(room)
    left = pairs
    while open_:
        total = sum(weight[s] for s in open_)
        full = [s for s in open_ if room[s] <= left * weight[s] / total]
        if not full:
            break
        for s in full:
            share[s] = room[s]
            left -= room[s]
            open_.remove(s)
    if open_:
        total = sum(weight[s] for s in open_)
        for s in open_:
            share[s] = int(left * weight[s] / total)
        for s in sorted(open_, key=lambda s: room[s] - share[s], reverse=True)[: left - sum(share[s] for s in open_)]:
            share[s] += 1
    return share


def of_size(d: int, size: int, count: int, room: int, rng: np.random.Generator) -> np.ndarray:
    """The first ``count`` coalitions of a random sequence of different ones of ``size`` players, none the complement of another."""
    if room <= _ENUMERATED:
        every = np.array([c for c in combinations(range(d), size) if 2 * size != d or c[0] == 0], dtype=np.int64)
        chosen = every[rng.permutation(room)[:count]]
    else:
        found: dict[bytes, np.ndarray] = {}
        while len(found) < count:
            for members in np.sort(rng.random((64, d)).argsort(axis=1)[:, :size], axis=1):
                if 2 * size == d and members[0] != 0:
                    members = np.setdiff1d(np.arange(d), members)
                found.setdefault(members.tobytes(), members)
        chosen = np.stack(list(found.values())[:count])
    masks = np.zeros((count, d), dtype=bool)
    np.put_along_axis(masks, chosen, True, axis=1)
    return masks


def in_turn(masks: np.ndarray) -> np.ndarray:
    """An order of coalitions in which every beginning is a design: one of each size, then the second of each, ..."""
    return np.argsort(_ranks(masks)[0], kind="stable")


def evenly(masks: np.ndarray) -> np.ndarray:
    """An order of coalitions in which every beginning has about the same share of each size."""
    rank, count = _ranks(masks)
    return np.argsort((rank + 0.5) / count, kind="stable")


def _ranks(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each coalition, how many of its size (or of its complement's) stand before it, and how many there are."""
    sizes = masks.sum(axis=1)
    _, group, count = np.unique(np.minimum(sizes, masks.shape[1] - sizes), return_inverse=True, return_counts=True)
    by_size = np.argsort(group, kind="stable")
    rank = np.empty(len(masks), dtype=np.int64)
    rank[by_size] = np.arange(len(masks)) - np.repeat(np.cumsum(count) - count, count)
    return rank, count[group]


@dataclass(frozen=True)
class _Fit:
    """What one pair of strengths contributes: the Cholesky factor of a few rows, weights ``(d, n)`` of g in each value, its variance
    ``(d,)`` at scale one, weights ``(rows, n)`` of g in the standardised errors of rows left out, the shares ``(d, rows)`` of those rows
    in each scale, and the rows ``x`` (n, d) themselves. The factor of all rows is not kept: it would be most of the memory.
    """

    few: np.ndarray
    weights: np.ndarray
    variance: np.ndarray
    left_out: np.ndarray
    share: np.ndarray
    x: np.ndarray

    @cached_property
    def half_log_det(self) -> float:
        """Half the log determinant of the few rows' covariance."""
        return float(np.log(np.diag(self.few)).sum())

    def values(self, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Posterior mean and variance ``(d,)`` from odd parts ``(n,)``; no error is below what is lost of the additive game found."""
        phi = self.weights @ g
        lost = self.weights @ (self.x @ phi) / 2 - phi
        return phi, np.maximum(self.variance * scales(self.left_out @ g, self.share, len(g), _LEARNT), lost**2)

    def whitened(self, g: np.ndarray) -> np.ndarray:
        """Odd parts ``(few, k)`` made independent and of size one, were the strengths right."""
        return dtrtrs(self.few, g, lower=1)[0]


@dataclass(frozen=True)
class OddProcess:
    """The process for games of ``d`` players on ``masks``; ``values`` turns scores into Shapley values.

    ``refine``: learn a strength for every player. ``control``: Shapley values ``(d, k)`` of an additive game thought to be close; per
    output, the process is fitted to what is left of the scores where the evidence for that is higher.
    """

    masks: np.ndarray
    fits: tuple[_Fit, ...]
    refine: bool = False
    control: np.ndarray | None = None

    def fitted(self, *, refine: bool = False, control: np.ndarray | None = None) -> OddProcess:
        """The same process, used in this way."""
        used = replace(self, refine=refine, control=control)
        used.__dict__["order"] = self.order  # worked out once for all games on these masks
        return used

    @cached_property
    def order(self) -> np.ndarray:
        return in_turn(self.masks)

    @property
    def coalitions(self) -> np.ndarray:
        """Each mask, then each complement: what must be scored besides the empty and the full coalition."""
        return np.concatenate([self.masks, ~self.masks])

    def values(self, empty: np.ndarray, full: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shapley values and standard errors ``(d, k)`` from scores ``(2 pairs, k)`` of :attr:`coalitions`."""
        half = len(self.masks)
        g = np.concatenate([(full - empty)[None], scores[:half] - scores[half:]]) / 2
        known = np.zeros((self.masks.shape[1], g.shape[1]))
        if self.control is not None:
            closer = self._evidence(g - self._x @ self.control / 2).max(axis=0) > self._evidence(g).max(axis=0)
            known = np.where(closer, self.control, 0.0)
            g = g - self._x @ known / 2
        if self.refine and len(g) >= FEWEST:
            phi, variance = (np.stack(part, axis=1) for part in zip(*(refined(self._x, one) for one in g.T), strict=True))
        else:
            phi, variance = self._posterior(g)
        phi = phi + known
        # The sum is known exactly; the nugget leaves a last rounding to share out.
        return phi + (full - empty - phi.sum(axis=0)) / len(phi), np.sqrt(variance)

    def on(self, known: np.ndarray) -> OddProcess:
        """The process on those pairs alone that are known, where some could not be scored."""
        return process_on(self.masks[known]).fitted(refine=self.refine, control=self.control)

    @cached_property
    def _x(self) -> np.ndarray:
        return np.concatenate([np.ones((1, self.masks.shape[1])), 2.0 * self.masks - 1])

    def _evidence(self, g: np.ndarray) -> np.ndarray:
        """Log evidence ``(fits, k)`` of the odd parts at the few rows, the scale maximised out."""
        few = g[halves(len(g), LEARN)]
        scale = (np.stack([fit.whitened(few) for fit in self.fits]) ** 2).mean(axis=1) + 1e-300
        return -0.5 * len(few) * np.log(scale) - np.array([[fit.half_log_det] for fit in self.fits])

    def _posterior(self, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        best = self._evidence(g).argmax(axis=0)
        phi, variance = zip(*(self.fits[b].values(one) for b, one in zip(best, g.T, strict=True)), strict=True)
        return np.stack(phi, axis=1), np.stack(variance, axis=1)


@lru_cache(maxsize=8)  # of at most 20 MB each, at 200 players
def odd_process(d: int, pairs: int, seed: int, block: int = 0) -> OddProcess:
    """The process for ``d >= 2`` players, with up to ``pairs`` paired coalitions drawn by ``seed`` for one block."""
    return process_on(design(d, pairs, seed, block))


def process_on(masks: np.ndarray) -> OddProcess:
    """The process for the pairs that ``masks`` and their complements make."""
    x = np.concatenate([np.ones((1, masks.shape[1])), 2.0 * masks - 1])
    return OddProcess(masks, tuple(_fit(x, rho, lin) for rho, lin in STRENGTHS))


def _fit(x: np.ndarray, rho: float, lin: float) -> _Fit:
    n, d = x.shape
    # Those to be left out stand last in the factor, where leaving out is cheap; the full coalition stays first.
    out = 1 + spread(n - 1, _LEFT_OUT)
    order = np.concatenate([np.setdiff1d(np.arange(n), out), out])
    place, given = np.argsort(order), x
    x = x[order]
    inner = x @ x.T
    log_norm = _log_odd_half(d, rho)
    agree = (d + inner) / 2
    gram = _odd_half(agree, d - agree, rho, log_norm) + lin / d * inner
    cross = _cross(x, rho, log_norm) + 2 * lin / d * x.T
    noise = np.full(n, NUGGET)
    noise[0] = SUM_NOISE
    gram[np.diag_indices(n)] += noise
    factor = cholesky(gram, lower=True, check_finite=False)
    rows = place[halves(n, LEARN)]
    few = cholesky(gram[np.ix_(rows, rows)], lower=True, check_finite=False)
    half = solve_triangular(factor, cross.T, lower=True, check_finite=False)
    last, size = left_out(factor, len(out))
    ends = np.concatenate([half, np.concatenate([np.zeros((n - len(out), len(out))), last])], axis=1)
    weights = solve_triangular(factor, ends, lower=True, trans="T", check_finite=False).T[:, place]
    prior = _prior_variance(d, rho, log_norm) + 4 * lin / d
    variance = np.maximum(prior - (half**2).sum(axis=0), 0)
    return _Fit(few, weights[:d].copy(), variance, weights[d:] / size[:, None], taken(weights[:d, out], size), given)


def _log_odd_half(d: int, rho: float) -> float:
    """Log of sum_{m odd} C(d, m) rho^m = ((1 + rho)^d - (1 - rho)^d) / 2."""
    up, down = d * math.log1p(rho), d * math.log1p(-rho)
    return up + math.log1p(-math.exp(down - up)) - math.log(2)


def _odd_half(agree: np.ndarray, differ: np.ndarray, rho: float, log_norm: float) -> np.ndarray:
    up, down = math.log1p(rho), math.log1p(-rho)
    return (np.exp(agree * up + differ * down - log_norm) - np.exp(agree * down + differ * up - log_norm)) / 2


def _cross(x: np.ndarray, rho: float, log_norm: float) -> np.ndarray:
    """Covariance ``(d, n)`` of each Shapley value with g at each row: x_i times an integral that knows only how many others are on."""
    d = x.shape[1]
    nodes, node_weights = legendre(min(64, d // 2 + 1))
    t, w = (nodes + 1) / 2 * rho, node_weights / 2 * rho
    others_on = np.arange(d)[:, None]
    up, down = np.log1p(t), np.log1p(-t)
    table = (
        np.exp(others_on * up + (d - 1 - others_on) * down - log_norm) + np.exp(others_on * down + (d - 1 - others_on) * up - log_norm)
    ) @ w
    on = (x > 0).astype(np.int64)
    return (x * table[on.sum(axis=1)[:, None] - on]).T


def _prior_variance(d: int, rho: float, log_norm: float) -> float:
    m = np.arange(1, d + 1, 2)
    log_choose = gammaln(d) - gammaln(m) - gammaln(d - m + 1)
    return float(np.exp(log_choose + m * math.log(rho) - log_norm + 2 * np.log(2 / m)).sum())
