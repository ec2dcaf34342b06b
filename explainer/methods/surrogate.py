"""Linear stand-ins: weighted ridge regressions of scores on kept parts, worked out from Gram matrices alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from explainer.errors import unknown

SELECTIONS = ("auto", "forward_selection", "highest_weights", "lasso_path", "none")
RIDGE, SELECTION_RIDGE = 1.0, 0.01  # lime's penalties
TOP, NAMED = 5, 0.05  # parts named first: at most so many, and none below this share of the largest
_BLOCKS, _RESAMPLES = 32, 20
_FORWARD_UP_TO = 6  # lime's "auto" goes forward up to so many features
_COLLINEAR = 1e-10


@dataclass(frozen=True)
class Fit:
    """``k`` stand-ins on ``d`` parts: coefficients and standard errors ``(d, k)``, the rest ``(k,)``.

    ``r2``: weighted share of the variation explained. ``overlap`` and ``first``: over pairs of resamples, the mean overlap
    (Jaccard) of the parts named first, and the share in which the very first is the same.
    """

    coefficients: np.ndarray
    stderr: np.ndarray
    r2: np.ndarray
    overlap: np.ndarray
    first: np.ndarray


class Surrogate:
    r""":math:`\min_\beta \sum_z \pi(z)\,(f(z) - \beta_0 - \beta^T z)^2 + \|\beta\|^2` on one design, for any number of scores.

    ``kept`` (m, d) bool says which parts each sample keeps, ``weights`` (m,) are the kernel's. The samples stand in blocks,
    each with its own Gram matrix: their sum gives the fit, sums of blocks drawn with replacement give resamples of it for next
    to nothing. Everything that depends on the design alone is worked out once.
    """

    def __init__(self, kept: np.ndarray, weights: np.ndarray) -> None:
        self._m, self._d = kept.shape
        self._blocks = min(_BLOCKS, self._m)
        self._root = np.sqrt(weights)[:, None]
        # Rows (1, z) times the root of their weight; the last block is filled up with zeros, which weigh nothing.
        self._x = np.zeros((-(-self._m // self._blocks) * self._blocks, self._d + 1))
        self._x[: self._m, :1] = self._root
        np.multiply(kept, self._root, out=self._x[: self._m, 1:])
        blocks = self._x.reshape(self._blocks, -1, self._d + 1)
        self._turned = np.swapaxes(blocks, 1, 2)
        self._grams = self._turned @ blocks
        whole = self._grams.sum(axis=0)
        self._means = whole[0, 1:] / whole[0, 0]
        self._gram = whole[1:, 1:] - np.outer(whole[1:, 0], self._means)
        self._bread = np.linalg.inv(self._gram + RIDGE * np.eye(self._d))

    def fit(self, scores: np.ndarray, num_features: int | None = None, selection: str = "auto") -> Fit:
        """The stand-ins of ``scores`` (m, k); with ``num_features``, only so many parts of each have a coefficient."""
        k = scores.shape[1]
        y = np.zeros((len(self._x), k))
        # Centred first: the moments of scores far from 0 would lose the digits that matter.
        y[: self._m] = (scores - (self._root**2 * scores).sum(axis=0) / (self._root**2).sum()) * self._root
        moments = self._turned @ y.reshape(self._blocks, -1, k)
        whole = moments.sum(axis=0)[1:]
        wanted = None if selection == "none" or (num_features or self._d) >= self._d else num_features
        coefficients, errors = self._bread @ whole, np.zeros((self._d, k))
        if wanted:
            chosen = [_sparse(self._gram, whole[:, j], wanted, selection) for j in range(k)]
            coefficients = np.stack([one[1] for one in chosen], axis=1)
        residual = y - self._x @ np.concatenate([-(self._means @ coefficients)[None], coefficients])
        if wanted:
            for j, (parts, _) in enumerate(chosen):
                bread = np.linalg.inv(self._gram[np.ix_(parts, parts)] + RIDGE * np.eye(len(parts)))
                errors[parts, j] = self._errors(parts, bread, residual[:, [j]])[:, 0]
        else:
            errors = self._errors(np.arange(self._d), self._bread, residual)
        variance, lost = (y**2).sum(axis=0), (residual**2).sum(axis=0)
        least = 1e-18 * float((self._root**2).sum())
        r2 = np.where(variance > least, 1 - lost / np.where(variance > least, variance, 1), 1.0)
        return Fit(coefficients, errors, r2, *_agreement(self._resampled(moments, wanted, selection)))

    def _errors(self, parts: np.ndarray, bread: np.ndarray, residual: np.ndarray) -> np.ndarray:
        """Heteroscedastic (sandwich) standard errors ``(parts, k)``."""
        # Single precision is plenty for an error, and takes half the time.
        x = self._single if len(parts) == self._d else self._single[:, [0, *(1 + parts)]]
        pull = x @ np.concatenate([-(self._means[parts] @ bread)[None], bread]).astype(np.float32)
        size = np.sqrt((residual**2).sum(axis=0))
        spread = np.square(pull, out=pull).T @ np.square(residual / np.where(size > 0, size, 1)).astype(np.float32)
        return np.sqrt(spread) * size

    @cached_property
    def _single(self) -> np.ndarray:
        return self._x.astype(np.float32)

    def _resampled(self, moments: np.ndarray, wanted: int | None, selection: str) -> np.ndarray:
        """Coefficients ``(resamples, d, k)`` fitted to blocks drawn with replacement."""
        drawn = _drawn(self._blocks)
        gram, moment = np.tensordot(drawn, self._grams, 1), np.tensordot(drawn, moments, 1)
        total, means = gram[:, :1, :1], gram[:, 1:, :1]
        total = np.where(total > 0, total, 1)
        gram = gram[:, 1:, 1:] - means * gram[:, :1, 1:] / total
        moment = moment[:, 1:] - means * moment[:, :1] / total
        if wanted is None:
            return np.linalg.solve(gram + RIDGE * np.eye(self._d), moment)
        return np.array(
            [[_sparse(g, m[:, j], wanted, selection)[1] for j in range(m.shape[1])] for g, m in zip(gram, moment, strict=True)]
        ).swapaxes(1, 2)


@cache
def _drawn(blocks: int) -> np.ndarray:
    """How often each block is in each resample: the same for every instance and seed."""
    rng = np.random.default_rng(blocks)
    return rng.multinomial(blocks, np.full(blocks, 1 / blocks), _RESAMPLES).astype(float)


def _sparse(gram: np.ndarray, moments: np.ndarray, num_features: int, selection: str) -> tuple[np.ndarray, np.ndarray]:
    """The parts chosen, and the coefficients ``(d,)`` of the ridge on them alone."""
    chosen = select(gram, moments, num_features, selection)
    coefficients = np.zeros(len(moments))
    coefficients[chosen] = np.linalg.solve(gram[np.ix_(chosen, chosen)] + RIDGE * np.eye(len(chosen)), moments[chosen])
    return chosen, coefficients


def select(gram: np.ndarray, moments: np.ndarray, num_features: int, selection: str = "auto") -> np.ndarray:
    """Indices of the parts lime would choose, from the centred Gram matrix ``(d, d)`` and the moments ``X'Wy`` ``(d,)``.

    ``"forward_selection"`` adds what lifts R2 most, one at a time; ``"highest_weights"`` takes the largest coefficients of a
    ridge; ``"lasso_path"`` the first on the lasso's path; ``"auto"`` goes forward up to 6 parts; ``"none"`` takes all.
    """
    if selection not in SELECTIONS:
        raise unknown("feature selection", selection, SELECTIONS)
    if selection == "none":
        return np.arange(len(moments))
    if selection == "lasso_path":
        return _on_lasso_path(gram, moments, num_features)
    if selection == "forward_selection" or (selection == "auto" and num_features <= _FORWARD_UP_TO):
        return _forward(gram, moments, num_features)
    strength = np.linalg.solve(gram + SELECTION_RIDGE * np.eye(len(gram)), moments)
    return np.argsort(-np.abs(strength), kind="stable")[:num_features]


def _forward(gram: np.ndarray, moments: np.ndarray, num_features: int) -> np.ndarray:
    """Each step sweeps the part that enters out of the Gram matrix, so a step costs d^2 instead of d regressions."""
    left, chosen = gram, list[int]()
    least = _COLLINEAR * np.maximum(np.diag(gram), 1e-300)
    for _ in range(min(num_features, len(moments))):
        pivots = np.diag(left)
        free = pivots > least
        gains = np.where(free, moments**2 / np.where(free, pivots, 1), 0.0)
        gains[chosen] = -1
        best = int(np.argmax(gains))
        chosen.append(best)
        if free[best]:
            share = left[:, best] / pivots[best]
            moments, left = moments - share * moments[best], left - np.outer(share, left[best])
    return np.array(chosen)


def _on_lasso_path(gram: np.ndarray, moments: np.ndarray, num_features: int) -> np.ndarray:
    from sklearn.linear_model import lars_path_gram

    path = lars_path_gram(moments, gram, n_samples=1, method="lasso")[2]
    chosen = np.arange(len(moments))
    for step in path.T[:0:-1]:
        chosen = step.nonzero()[0]
        if len(chosen) <= num_features:
            break
    return chosen


def _agreement(resampled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How often two resamples name the same parts: two differ as two seeds do, a resample and the fit itself by less."""
    size = np.abs(resampled)
    order = np.argsort(-size, axis=1, kind="stable")[:, :TOP]
    named = np.zeros(size.shape, dtype=bool)
    np.put_along_axis(named, order, True, axis=1)
    named &= size >= NAMED * size.max(axis=1, keepdims=True)
    other = np.roll(named, 1, axis=0)
    union = np.maximum((named | other).sum(axis=1), 1)
    return ((named & other).sum(axis=1) / union).mean(axis=0), (order[:, 0] == np.roll(order[:, 0], 1, axis=0)).mean(axis=0)
