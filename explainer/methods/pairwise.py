r"""Pairwise interactions as the integral of an even Gaussian process, on the pairs of coalitions that Shapley values are fitted to.

The Shapley interaction of two players (Grabisch & Roubens 1999) depends on the even part of a game only, e(S) = (v(S) + v(complement)) / 2,
as Shapley values do on the odd part (:mod:`explainer.methods.quadrature`): the product of x over an even set T gives 4 / (|T| - 1) to
each pair in T. Under the kernel c sum_{|T| even} rho^|T| prod x_j y_j, with a constant and a pairwise part of their own, all covariances
are closed, since 1 / (m - 1) is the integral of t^(m - 2). The Shapley-Taylor interaction (Sundararajan et al. 2020) weighs contexts
towards small ones; it is the same plus a part of the odd process, where the product over an odd set T gives -4 / |T| to each pair in T.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.special import gammaln

from explainer.methods.quadrature import design
from explainer.methods.relevance import LEARN, SUM_NOISE, legendre, optimism, spread

_RHOS = (0.03, 0.1, 0.25, 0.5)
_LEVEL = 100.0  # prior weight of the constant: the mean of a game says nothing about its interactions
_NOISE = 1e-4
_LEARNT = 4  # numbers: the scale is that of the rows a fit was chosen by
_LOW = 10.0  # prior weight of the lowest terms: pairs in the even part, single players in the odd part


@dataclass(frozen=True)
class _Fit:
    """Cholesky factor of a few rows, weights ``(m, n)`` of the scores' part in each functional, its posterior variance ``(m,)``."""

    few: np.ndarray
    weights: np.ndarray
    variance: np.ndarray

    def evidence(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        white = solve_triangular(self.few, y, lower=True, check_finite=False)
        scale = (white**2).mean(axis=0)
        return -0.5 * len(y) * np.log(scale + 1e-300) - np.log(np.diag(self.few)).sum(), scale


@dataclass(frozen=True)
class PairProcess:
    """The even and the odd process of games of ``d`` players on ``masks``."""

    masks: np.ndarray
    even: tuple[_Fit, ...]
    odd: tuple[_Fit, ...]

    def values(self, empty: np.ndarray, full: np.ndarray, scores: np.ndarray, taylor: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Interactions and standard errors ``(pairs, k)``, and the errors ``(d, k)`` of the sums over each player's pairs."""
        half, d = self.masks.shape
        first, second = scores[:half], scores[half:]
        found, variance = _best(self.even, np.concatenate([(full + empty)[None], first + second]) / 2)
        if taylor:
            more, added = _best(self.odd, np.concatenate([(full - empty)[None], first - second]) / 2)
            found, variance = found + more, variance + added
        pairs = math.comb(d, 2)
        return found[:pairs], np.sqrt(variance[:pairs]), np.sqrt(variance[pairs:])


def _best(fits: tuple[_Fit, ...], y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and variance ``(m, k)`` under the fit of the highest evidence, for each output."""
    few = y[spread(len(y), LEARN)]
    evidence, scale = (np.stack(part) for part in zip(*(fit.evidence(few) for fit in fits), strict=True))
    best = evidence.argmax(axis=0)
    widen = optimism(len(y), _LEARNT)
    found = np.stack([fits[b].weights @ one for b, one in zip(best, y.T, strict=True)], axis=1)
    return found, np.stack([fits[b].variance * scale[b, j] * widen for j, b in enumerate(best)], axis=1)


@lru_cache(maxsize=2)
def pair_process(d: int, pairs: int, seed: int) -> PairProcess:
    """The processes for ``d >= 2`` players on the design of :func:`~explainer.methods.quadrature.design`."""
    return pairs_on(design(d, pairs, seed))


def pairs_on(masks: np.ndarray) -> PairProcess:
    """The processes on the pairs that ``masks`` and their complements make."""
    x = np.concatenate([np.ones((1, masks.shape[1])), 2.0 * masks - 1])
    return PairProcess(masks, tuple(_fit(x, rho, 0) for rho in _RHOS), tuple(_fit(x, rho, 1) for rho in _RHOS))


def couples(d: int) -> tuple[np.ndarray, np.ndarray]:
    """First and second player of each pair."""
    return np.triu_indices(d, 1)


def _fit(x: np.ndarray, rho: float, odd: int) -> _Fit:
    """Of the even part (0) or of the odd part (1)."""
    n, d = x.shape
    inner = x @ x.T
    log_norm = _log_sum(d, rho, odd)
    agree = (d + inner) / 2
    up, down = math.log1p(rho), math.log1p(-rho)
    first, second = (np.exp(a * up + (d - a) * down - log_norm) / 2 for a in (agree, d - agree))
    gram = first - second if odd else first + second
    gram += _LOW / d * inner if odd else _LEVEL + _LOW * (inner**2 - d) / (d * max(d - 1, 1))
    cross = _cross(x, rho, log_norm, odd)
    prior = _prior(d, rho, log_norm, odd)
    if not odd:
        i, j = couples(d)
        low = 4 * _LOW / math.comb(d, 2)
        alone = low * (x[:, i] * x[:, j]).T
        cross += np.concatenate([alone, _row_sums(alone, d)])
        prior += np.concatenate([np.full(len(i), 4 * low), np.full(d, 4 * low * (d - 1))])
    noise = np.full(n, _NOISE)
    noise[0] = SUM_NOISE
    gram[np.diag_indices(n)] += noise
    factor = cholesky(gram, lower=True, check_finite=False)
    rows = spread(n, LEARN)
    few = factor if len(rows) == n else cholesky(gram[np.ix_(rows, rows)], lower=True, check_finite=False)
    half = solve_triangular(factor, cross.T, lower=True, check_finite=False)
    weights = solve_triangular(factor, half, lower=True, trans="T", check_finite=False).T
    return _Fit(few, weights, np.maximum(prior - (half**2).sum(axis=0), 0))


def _row_sums(pairs: np.ndarray, d: int) -> np.ndarray:
    """Sums over the pairs that each player is in, ``(d, ...)`` from ``(pairs, ...)``."""
    i, j = couples(d)
    total = np.zeros((d, *pairs.shape[1:]))
    np.add.at(total, i, pairs)
    np.add.at(total, j, pairs)
    return total


def _log_sum(d: int, rho: float, odd: int) -> float:
    """Log of the sum of C(d, m) rho^m over even or odd m."""
    up, down = d * math.log1p(rho), d * math.log1p(-rho)
    return up + math.log1p((-1 if odd else 1) * math.exp(down - up)) - math.log(2)


def _cross(x: np.ndarray, rho: float, log_norm: float, odd: int) -> np.ndarray:
    """Covariances ``(pairs + d, n)`` of each interaction, and of each player's sum of them, with the scores' part at each row.

    x_i x_j times an integral that knows only how many of the other players are on.
    """
    d = x.shape[1]
    nodes, node_weights = legendre(min(64, d // 2 + 2))
    t = (nodes + 1) / 2
    w = node_weights / 2 * rho**2 * (-t if odd else 1.0)
    on = np.arange(d - 1)[:, None]
    up, down = np.log1p(t * rho), np.log1p(-t * rho)
    first = np.exp(on * up + (d - 2 - on) * down - log_norm)
    second = np.exp(on * down + (d - 2 - on) * up - log_norm)
    table = 2 * ((first - second if odd else first + second) @ w)
    i, j = couples(d)
    present = (x > 0).astype(np.int64)
    others = present.sum(axis=1)[:, None] - present[:, i] - present[:, j]
    found = (x[:, i] * x[:, j] * table[others]).T
    return np.concatenate([found, _row_sums(found, d)])


def _prior(d: int, rho: float, log_norm: float, odd: int) -> np.ndarray:
    """Variances ``(pairs + d,)`` before anything is scored."""
    m = np.arange(3 if odd else 2, d + 1, 2)
    share = 16.0 / (m if odd else m - 1) ** 2

    def total(fixed: int) -> float:
        """Over the sets that hold ``fixed`` given players."""
        own = m >= fixed
        size = m[own]
        log_choose = gammaln(d - fixed + 1) - gammaln(size - fixed + 1) - gammaln(d - size + 1)
        return float((share[own] * np.exp(log_choose + size * math.log(rho) - log_norm)).sum())

    together = (d - 1) * total(2) + ((d - 1) * (d - 2) * total(3) if d > 2 else 0.0)
    return np.concatenate([np.full(math.comb(d, 2), total(2)), np.full(d, together)])
