r"""The odd Gaussian process with a strength of its own for every player, learnt from the scores of one game.

Most games lean on a few players, and their interactions are among those. The kernel

    k(x, y) = c sum_{|T| odd} prod_{j in T} rho_j x_j y_j + sum_j lambda_j x_j y_j,    c = 1 / sum_{|T| odd} prod_{j in T} rho_j,

says so (automatic relevance determination; MacKay 1994, Neal 1996). With s_j = artanh(rho_j) its first part is
sinh(sum_j s_j x_j y_j) / sinh(sum_j s_j), and its covariance with a Shapley value is again an integral over t in (0, 1), of
prod (1 + t rho_j y_j). The strengths follow the importance u of each player in a first fit, rho_j ~ rho u_j^a and
lambda_j ~ u_j^a; how well held-out rows are predicted picks rho, a and the additive share. How far the values still move as the
strengths follow them counts as an error of its own. It takes factorisations per game and output, some hundredths of a second, so it
is for models slower than that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.linalg import solve_triangular
from scipy.linalg.lapack import dpotrf, dtrtrs  # scipy's own calls without their checks, which cost as much as so few rows do
from scipy.special import ndtri, stdtrit

NUGGET = 1e-7  # what many rows alike lose to it, they lose together, and no row left out tells: it must stay far below the errors told
SUM_NOISE = 1e-9  # the whole difference v(N) - v(0) is known, not estimated
FEWEST = 12  # rows; fewer cannot be halved and still say anything
LEARN = 192  # rows the strengths are learnt on: a spread of the design, cheap to factorise many times
_OPTIONS = {"rho": (0.02, 0.05, 0.12, 0.25, 0.45, 0.7), "power": (0.0, 0.5, 1.0, 1.5), "additive": (1.0, 10.0, 100.0)}
_FLOOR = 0.02  # of the mean importance: a player that looks idle may still be found to matter
_ROUNDS = 2
_FOLLOWED = 2  # times the strengths follow the values at the end
_LEARNT = 3  # numbers: strengths follow a first fit by a law of three
_NODES = 24
_UNDERFLOW = 340.0  # sum of strengths whose doubled exponential is no double any more


@dataclass(frozen=True)
class Strengths:
    """What the evidence chooses: the mean interaction strength, how far players differ, the weight of the additive part."""

    rho: float
    power: float
    additive: float

    def of(self, importance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``rho_j`` and ``lambda_j``, each ``(d,)``."""
        weight = importance**self.power
        weight = weight / weight.mean()
        return np.clip(self.rho * weight, 1e-6, 0.97), self.additive * weight / len(weight)


def refined(x: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and variance ``(d,)`` of the Shapley values, from odd parts ``g`` (n,) at ``x`` (n, d).

    The first row of ``x`` is the full coalition. Importances come from one half of the rows and are judged by how well they
    predict the other half: judged on the rows they come from, they would confirm themselves.
    """
    rows = halves(len(x), LEARN)
    few, few_g, half = x[rows], g[rows], (len(rows) + 1) // 2
    chosen, importance = Strengths(0.12, 0.0, 10.0), np.ones(x.shape[1])
    for _ in range(_ROUNDS):
        chosen = _search(few, few_g, importance, chosen, half)
        importance = _importance(*_posterior(few[:half], few_g[:half], importance, chosen))
        if chosen.power == 0:
            chosen = replace(chosen, power=1.0)
    chosen = _search(few, few_g, importance, chosen, half, again=("rho",))
    before = np.zeros(x.shape[1])
    for _ in range(_FOLLOWED):
        before, variance = _posterior(few, few_g, importance, chosen)
        importance = _importance(before, variance)
    phi, variance = _posterior(x, g, importance, chosen, whole=True)
    moved = phi - before if len(few) == len(x) else 0.0  # between values from more and from fewer rows it is no movement
    return phi, variance + moved**2


def optimism(n: int, learnt: float) -> float:
    """By how much a variance scaled on ``n`` rows is too small, when that many numbers were learnt from them."""
    return n / max(n - learnt, n / 2)


def _importance(phi: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Root of the expected square of each value: players that are not told apart yet count alike."""
    size = np.sqrt(phi**2 + variance)
    return size / max(float(size.mean()), 1e-300) + _FLOOR


def spread(n: int, most: int) -> np.ndarray:
    """At most ``most`` of ``n`` row numbers, evenly spread, the first among them."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(np.int64))


def halves(n: int, most: int) -> np.ndarray:
    """The rows of :func:`spread`, every other one first: each half is spread over all."""
    rows = spread(n, most)
    return np.concatenate([rows[0::2], rows[1::2]])


def _search(x: np.ndarray, g: np.ndarray, importance: np.ndarray, start: Strengths, half: int, again: tuple[str, ...] = ()) -> Strengths:
    """One coordinate after the other, each to the best prediction of the rows from ``half`` on by those before."""
    known: dict[Strengths, float] = {}

    def evidence(one: Strengths) -> float:
        if one not in known:
            known[one] = _Solved(x, g, *one.of(importance)).predicts(half)
        return known[one]

    best = start
    for field in (*_OPTIONS, *again):
        best = max((replace(best, **{field: value}) for value in _OPTIONS[field]), key=evidence)
    return best


def _posterior(
    x: np.ndarray, g: np.ndarray, importance: np.ndarray, chosen: Strengths, whole: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """At the scale of what the later half of the rows adds to the earlier; of ``whole`` designs, at that of rows left out."""
    order = np.concatenate([[0], 1 + np.random.default_rng(len(x)).permutation(len(x) - 1)])
    x, g = x[order], g[order]
    rho, additive = chosen.of(importance)
    solved = _Solved(x, g, rho, additive)
    cross = _cross(x, rho) + 2 * additive[:, None] * x.T
    half = solve_triangular(solved.factor, cross.T, lower=True, check_finite=False)
    variance = np.maximum(_prior_variance(rho) + 4 * additive - (half**2).sum(axis=0), 0)
    if whole:
        many = min(LEARN, len(x) - 1)
        last, size = left_out(solved.factor, many)
        scale = scales(last.T @ solved.white[-many:] / size, taken((last.T @ half[-many:]).T, size), len(x), _LEARNT)
    else:
        late = solved.white[len(x) // 2 :]
        scale = np.full(x.shape[1], float(late @ late) / len(late))
    return half.T @ solved.white, variance * scale


class _Solved:
    """The factorised covariance of the rows, with its scale and log evidence (the scale maximised out)."""

    def __init__(self, x: np.ndarray, g: np.ndarray, rho: np.ndarray, additive: np.ndarray) -> None:
        n, s = len(x), np.arctanh(rho)
        total = float(s.sum())
        gram = (x * s) @ x.T
        if total < _UNDERFLOW:  # one exponential gives both
            gram -= total
            np.exp(gram, out=gram)
            gram -= math.exp(-2 * total) / gram
        else:
            gram = np.exp(gram - total) - np.exp(-gram - total)
        gram /= -math.expm1(-2 * total)
        gram += (x * additive) @ x.T
        diagonal = gram.reshape(-1)[:: n + 1]
        diagonal += NUGGET
        diagonal[0] += SUM_NOISE - NUGGET
        # The transpose of a symmetric matrix is itself, in the order LAPACK works in.
        self.factor, failed = dpotrf(gram.T, lower=1, overwrite_a=1)
        if failed:
            raise np.linalg.LinAlgError("The covariance of the coalitions is not positive definite.")
        self.white, _ = dtrtrs(self.factor, g, lower=1)

    def predicts(self, half: int) -> float:
        """Log density of the rows from ``half`` on, given those before, at its best scale."""
        left = self.white[half:]
        scale = float(left @ left) / len(left)
        return -0.5 * len(left) * math.log(scale + 1e-300) - float(np.log(np.diag(self.factor)[half:]).sum())


def taken(weights: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Shares ``(d, rows)`` of rows left out in what they take off each value's variance, from their ``weights`` (d, rows) in the values:
    without row j the variance of value i would be w_ij^2 / P_jj larger; ``size`` (rows,) is sqrt(P_jj).
    """
    less = (weights / size) ** 2 + 1e-300
    return less / less.sum(axis=1, keepdims=True)


def scales(errors: np.ndarray, share: np.ndarray, n: int, learnt: float) -> np.ndarray:
    r"""The scale ``(d,)`` of each value's variance, from standardised errors ``(rows,)`` of rows left out and their shares a ``(d, rows)``.

    .. math:: s_i = \frac{m_i \sum_j a_{ij} e_j^2 + \overline{e^2}}{m_i + 1}, \quad m_i = 1 / \sum_j a_{ij}^2

    Where a few players matter, most rows repeat what others say of them, and are predicted well; those that the values hang on are not.
    The mean over all rows counts as one row more. A scale of so few rows is made wider by Student's factor, its degrees of freedom the
    rows that count (m_i; Kish 1965), fewer where the errors have heavy tails (their kurtosis in a normal law's place; Satterthwaite 1946).
    """
    square = errors**2
    mean = float(square.mean()) + 1e-300
    count = 1 / (share**2).sum(axis=1)
    freedom = 1 + count * 2 / (max(float(((square / mean) ** 2).mean()), 2.0) - 1)
    scale = (count * (share @ square) + mean) / (count + 1)
    return optimism(n, learnt) * (stdtrit(freedom, 0.975) / ndtri(0.975)) ** 2 * scale


def left_out(factor: np.ndarray, many: int) -> tuple[np.ndarray, np.ndarray]:
    """What the ``many`` last rows of a Cholesky factor L say of each of them predicted from all the others.

    With the inverse covariance P = L^-T L^-1, a row's error in units of its standard deviation is (P g)_i / sqrt(P_ii) (Rasmussen &
    Williams 2006, 5.4.2); for the last rows both need the last block of L alone. Returns its inverse and sqrt(P_ii).
    """
    last = solve_triangular(factor[-many:, -many:], np.eye(many), lower=True, check_finite=False)
    return last, np.sqrt((last**2).sum(axis=0))


@lru_cache(maxsize=64)
def legendre(nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of Gauss and Legendre's rule, which take longer to find than to use."""
    return np.polynomial.legendre.leggauss(nodes)


def _log_norm(rho: np.ndarray) -> float:
    """Log of sum_{|T| odd} prod rho_j = (prod (1 + rho_j) - prod (1 - rho_j)) / 2."""
    up, down = float(np.log1p(rho).sum()), float(np.log1p(-rho).sum())
    return up + math.log(-math.expm1(down - up) / 2)


def _cross(x: np.ndarray, rho: np.ndarray) -> np.ndarray:
    """Covariance ``(d, n)`` of each Shapley value with g at each row."""
    nodes, weights = legendre(min(_NODES, x.shape[1] // 2 + 1))
    t, w = (nodes + 1) / 2, weights / 2
    with_, without = np.log1p(np.outer(rho, t)), np.log1p(-np.outer(rho, t))
    middle, slope = (with_ + without).sum(axis=0) / 2 - _log_norm(rho), x @ ((with_ - without) / 2)
    ahead, behind = w * np.exp(middle + slope), w * np.exp(middle - slope)  # (n, nodes): prod (1 +- t rho_j y_j)
    # Player i's own factor is divided out; it is one of two numbers, by whether i is on.
    own, other = 1 / (1 + np.outer(t, rho)), 1 / (1 - np.outer(t, rho))
    return np.where(x > 0, ahead @ own + behind @ other, -(ahead @ other + behind @ own)).T * rho[:, None]


def _prior_variance(rho: np.ndarray) -> np.ndarray:
    """4 c sum over odd T with i in T of prod rho_j / |T|^2; 1 / m^2 is the integral of -log(t) t^(m - 1), here with t = u^2."""
    nodes, weights = legendre(2 * _NODES)
    u = (nodes + 1) / 2
    t, w = u**2, weights / 2 * (-4 * u * np.log(u))
    norm = _log_norm(rho)
    up = np.exp(np.log1p(np.outer(t, rho)).sum(axis=1) - norm)
    down = np.exp(np.log1p(-np.outer(t, rho)).sum(axis=1) - norm)
    return 2 * rho * ((w * up) @ (1 / (1 + np.outer(t, rho))) + (w * down) @ (1 / (1 - np.outer(t, rho))))
