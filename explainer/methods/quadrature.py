r"""The odd Gaussian process: Shapley values of a game as the integral of a process fitted to paired coalitions.

A Shapley value depends on the odd part of a game only, g(S) = (v(S) - v(complement of S)) / 2. Written on x in {-1, 1}^d,
g is a sum of products over odd sets T, and the product over T gives 2/|T| to each of its players. A Gaussian process with

    k(x, y) = c sum_{|T| odd} rho^|T| prod_{j in T} x_j y_j + (lin / d) x.y,    c = 1 / sum_{m odd} C(d, m) rho^m,

has its covariance with each Shapley value, and the prior variance of each Shapley value, in closed form (rho^m / m is the
integral of t^(m-1)), so the posterior mean and variance are too: Bayesian quadrature (O'Hagan 1991) over coalitions.
Everything but the values of g depends on (d, pairs, seed) only and is shared by all instances and outputs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.special import gammaln

# Interaction strengths tried; the evidence picks one per instance and output.
RHOS = (0.02, 0.08, 0.2, 0.4, 0.65)
LINEAR = 10.0  # prior weight of the additive part: most models are nearly additive, and it costs nothing where they are not
NUGGET = 1e-4
MOST_PAIRS = 1024  # per block; a Cholesky factor of 1025 x 1025 takes a few hundredths of a second


def design(d: int, pairs: int, rng: np.random.Generator) -> np.ndarray:
    """``(pairs, d)`` coalitions, no two equal or complementary: size classes share the draws evenly, small ones come whole."""
    sizes = list(range(1, d // 2 + 1))
    room = {s: math.comb(d, s) // (2 if 2 * s == d else 1) for s in sizes}
    # The middle class of an even d holds its own complements, hence half the weight.
    share = _shares(room, {s: 0.5 if 2 * s == d else 1.0 for s in sizes}, min(pairs, sum(room.values())))
    return np.concatenate([_of_size(d, s, share[s], room[s], rng) for s in sizes if share[s]])


def _shares(room: dict[int, int], weight: dict[int, float], pairs: int) -> dict[int, int]:
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


def _of_size(d: int, size: int, count: int, room: int, rng: np.random.Generator) -> np.ndarray:
    """``count`` different coalitions of ``size`` players."""
    if 2 * count > room:
        every = np.array([c for c in combinations(range(d), size) if 2 * size != d or c[0] == 0], dtype=np.int64)
        chosen = every[np.sort(rng.choice(len(every), count, replace=False))] if count < room else every
    else:
        found: dict[bytes, np.ndarray] = {}
        while len(found) < count:
            drawn = np.sort(rng.random((2 * (count - len(found)) + 8, d)).argsort(axis=1)[:, :size], axis=1)
            for members in drawn:
                if 2 * size == d and members[0] != 0:
                    members = np.setdiff1d(np.arange(d), members)
                found.setdefault(members.tobytes(), members)
        chosen = np.stack(list(found.values())[:count])
    masks = np.zeros((count, d), dtype=bool)
    np.put_along_axis(masks, chosen, True, axis=1)
    return masks


@dataclass(frozen=True)
class _Fit:
    """What one rho contributes: Cholesky factor, weights ``(d, n)`` of g in each value, prior-minus-explained variance ``(d,)``."""

    factor: np.ndarray
    weights: np.ndarray
    variance: np.ndarray
    log_determinant: float


@dataclass(frozen=True)
class OddProcess:
    """The process for games of ``d`` players on ``masks``; ``values`` turns scores into Shapley values."""

    masks: np.ndarray
    fits: tuple[_Fit, ...]

    @property
    def coalitions(self) -> np.ndarray:
        """Each mask, then each complement: what must be scored besides the empty and the full coalition."""
        return np.concatenate([self.masks, ~self.masks])

    def values(self, empty: np.ndarray, full: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shapley values and standard errors ``(d, k)`` from scores ``(2 pairs, k)`` of :attr:`coalitions`."""
        half = len(self.masks)
        g = np.concatenate([(full - empty)[None], scores[:half] - scores[half:]]) / 2
        n, k = g.shape
        best = np.full(k, -np.inf)
        phi, error = np.zeros((self.masks.shape[1], k)), np.zeros((self.masks.shape[1], k))
        for fit in self.fits:
            white = solve_triangular(fit.factor, g, lower=True, check_finite=False)
            scale = (white**2).sum(axis=0) / n
            evidence = -0.5 * n * np.log(scale + 1e-300) - fit.log_determinant
            better = evidence > best
            best[better] = evidence[better]
            phi[:, better] = (fit.weights @ g)[:, better]
            error[:, better] = np.sqrt(fit.variance[:, None] * scale)[:, better]
        # The sum is known exactly; the nugget leaves a last rounding to share out.
        return phi + (full - empty - phi.sum(axis=0)) / len(phi), error


@lru_cache(maxsize=4)
def odd_process(d: int, pairs: int, seed: int, block: int = 0) -> OddProcess:
    """The process for ``d >= 2`` players, with up to ``pairs`` paired coalitions drawn by ``seed`` for one block."""
    masks = design(d, pairs, np.random.default_rng([seed, d, block]))
    x = np.concatenate([np.ones((1, d)), 2.0 * masks - 1])
    return OddProcess(masks, tuple(_fit(x, rho) for rho in RHOS))


def _fit(x: np.ndarray, rho: float) -> _Fit:
    n, d = x.shape
    inner = x @ x.T
    log_norm = _log_odd_half(d, rho)
    agree = (d + inner) / 2
    gram = _odd_half(agree, d - agree, rho, log_norm) + LINEAR / d * inner
    cross = _cross(x, rho, log_norm) + 2 * LINEAR / d * x.T
    noise = np.full(n, NUGGET * (1 + LINEAR))
    noise[0] = 1e-9  # the whole difference v(N) - v(0) is known, not estimated
    factor = cholesky(gram + np.diag(noise), lower=True, check_finite=False)
    half = solve_triangular(factor, cross.T, lower=True, check_finite=False)
    weights = solve_triangular(factor, half, lower=True, trans="T", check_finite=False).T
    prior = _prior_variance(d, rho, log_norm) + 4 * LINEAR / d
    return _Fit(factor, weights, np.maximum(prior - (half**2).sum(axis=0), 0), float(np.log(np.diag(factor)).sum()))


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
    nodes, node_weights = np.polynomial.legendre.leggauss(min(64, d // 2 + 1))
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
