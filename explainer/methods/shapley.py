"""Shapley values: exact by enumeration or on trees, otherwise estimated with a standard error."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from explainer.coalitions import Budget, Clock, Coalitions
from explainer.errors import Unsupported, unknown
from explainer.methods.attribution import Attribution
from explainer.methods.quadrature import MOST_PAIRS, odd_process
from explainer.methods.trees import is_tree, tree_values

ALGORITHMS = ("auto", "exact", "gaussian", "permutation", "tree")
_MOST_EXACT = 20  # players; beyond, enumeration is out of reach
_FEWEST_PAIRS = 3  # below this a standard error means nothing
_STEP = 256  # pairs per look at the clock or at the error


def shap(
    model: Any, inputs: Any, target: Any, *, coalitions: Coalitions, output: str, background: Any, seed: int, algorithm: str = "auto"
) -> Attribution:
    r"""Shapley values of the game v(S) = expected score with the parts in S present.

    .. math:: \phi_i = \sum_{S \not\ni i} \frac{|S|!\,(d-|S|-1)!}{d!}\,[v(S \cup i) - v(S)]

    Shapley (1953); Lundberg & Lee (2017). ``algorithm``: ``"tree"`` where shap's tree algorithm reproduces the model's
    scores; ``"exact"`` enumerates the ``2^d`` coalitions; ``"gaussian"`` fits an odd Gaussian process to paired coalitions
    and integrates it (:mod:`explainer.methods.quadrature`); ``"permutation"`` averages antithetic pairs of orders (Mitchell
    et al. 2022). ``"auto"`` takes the first that the model and the budget allow. Parts whose absence changes nothing in the
    input get exactly 0 and cost nothing. Values sum to score minus base; sampled ones have standard errors.

    Raises UnknownName for another algorithm, Unsupported when the one asked for does not fit.
    """
    if algorithm not in ALGORITHMS:
        raise unknown("shap algorithm", algorithm, ALGORITHMS)
    notes: tuple[str, ...] = ()
    if algorithm in ("auto", "tree"):
        found = tree_values(model, inputs, target, output, background, coalitions.features)
        if isinstance(found, Attribution):
            return found
        if algorithm == "tree":
            raise Unsupported(f"algorithm='tree' does not fit here: {found} Use algorithm='auto'.")
        notes = (found,) if is_tree(model) else ()
    features, n = coalitions.features, len(inputs)
    games = [_Game(coalitions, i) for i in range(n)]
    how = [_algorithm(game.d, algorithm, coalitions.budget) for game in games]
    evaluations = coalitions.budget.evaluations
    coalitions.plan(sum(2**game.d if h == "exact" else evaluations for game, h in zip(games, how, strict=True)))
    values, errors, base = [], [], []
    for i, game in enumerate(games):
        phi, error, empty = _SOLVERS[how[i]](game, coalitions.budget, seed)
        coalitions.forget(i)
        values.append(game.spread(phi))
        errors.append(game.spread(error))
        base.append(empty)
    return Attribution(
        values,
        features.axes,
        [features.names(i) for i in range(n)],
        base=np.stack(base),
        stderr=None if set(how) == {"exact"} else errors,
        evaluations=coalitions.evaluations,
        parameters={"algorithm": " and ".join(sorted(set(how))), "absence": features.absence},
        notes=notes,
    )


class _Game:
    """The game of one instance among the ``d`` players that can change its score; ``v(masks)`` gives ``(m, k)``."""

    def __init__(self, coalitions: Coalitions, i: int) -> None:
        self._coalitions, self._i = coalitions, i
        self._live = np.flatnonzero(~coalitions.features.idle(i))
        self.d = len(self._live)

    def __call__(self, masks: np.ndarray) -> np.ndarray:
        full = np.ones((len(masks), self._coalitions.features.players(self._i)), dtype=bool)
        full[:, self._live] = masks
        return self._coalitions(self._i, full)

    def ends(self) -> np.ndarray:
        """Scores ``(2, k)`` of the empty and the full coalition."""
        return self(np.array([[False] * self.d, [True] * self.d]))

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Values ``(d, k)`` of the live players as ``(*feature axes, k)``, 0 for the others."""
        features = self._coalitions.features
        every = np.zeros((features.players(self._i), values.shape[1]))
        every[self._live] = values
        return every.reshape(*features.shape(self._i), -1)


def _algorithm(d: int, wanted: str, budget: Budget) -> str:
    if wanted == "exact" and d > _MOST_EXACT:
        raise Unsupported(f"algorithm='exact' needs 2^{d} evaluations; up to {_MOST_EXACT} parts are possible. Use 'auto'.")
    if wanted == "exact" or d < 2 or (wanted == "auto" and d <= _MOST_EXACT and 2**d <= budget.evaluations):
        return "exact"
    return "gaussian" if wanted == "auto" else wanted


def _exact(game: _Game, budget: Budget, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    d = game.d
    index = np.arange(2**d)
    masks = (index[:, None] >> np.arange(d)) & 1 == 1
    v = game(masks)
    sizes = masks.sum(axis=1)
    weight = np.array([1 / (d * math.comb(d - 1, s)) for s in range(d)])
    phi = np.empty((d, v.shape[1]))
    for player in range(d):
        without = index[~masks[:, player]]
        phi[player] = weight[sizes[without]] @ (v[without | (1 << player)] - v[without])
    return phi, np.zeros_like(phi), v[0]


def _gaussian(game: _Game, budget: Budget, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Blocks of paired coalitions, each with its own process; the blocks' values are averaged."""
    clock, ends = Clock(budget), game.ends()
    pairs = max(1, (budget.evaluations - 2) // 2)
    blocks = -(-pairs // (_STEP if budget.adaptive else MOST_PAIRS))
    phis, variances = [], []
    for block in range(blocks):
        process = odd_process(game.d, pairs // blocks, seed, block)
        phi, error = process.values(ends[0], ends[1], game(process.coalitions))
        phis.append(phi)
        variances.append(error**2)
        mean, error = np.mean(phis, axis=0), np.sqrt(np.mean(variances, axis=0) / len(phis))
        if clock.over or _settled(mean, error, budget):
            break
    return mean, error, ends[0]


def _permutation(game: _Game, budget: Budget, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Antithetic pairs until the budget is spent; each pair's average is one independent, unbiased draw."""
    d, clock, ends = game.d, Clock(budget), game.ends()
    # The draws depend on the seed and the number of parts only, so an instance is explained alike in any batch.
    rng = np.random.default_rng([seed, d])
    most = max(_FEWEST_PAIRS, (budget.evaluations - 2) // (2 * (d - 1)))
    step = max(_FEWEST_PAIRS, _STEP // d) if budget.adaptive else most
    draws: list[np.ndarray] = []
    while len(draws) < most:
        orders = [order for _ in range(min(step, most - len(draws))) for order in _pair(rng, d)]
        marginal = _marginals(game, orders, ends)
        draws.extend((marginal[0::2] + marginal[1::2]) / 2)
        mean, error = np.mean(draws, axis=0), np.std(draws, axis=0, ddof=1) / math.sqrt(len(draws))
        if clock.over or _settled(mean, error, budget):
            break
    return mean, error, ends[0]


_SOLVERS = {"exact": _exact, "gaussian": _gaussian, "permutation": _permutation}


def _pair(rng: np.random.Generator, d: int) -> tuple[np.ndarray, np.ndarray]:
    order = rng.permutation(d)
    return order, order[::-1]


def _marginals(game: _Game, orders: list[np.ndarray], ends: np.ndarray) -> np.ndarray:
    """Marginal contributions ``(orders, players, k)`` of adding the players one by one in each order."""
    d = game.d
    rank = np.argsort(np.stack(orders), axis=1)
    masks = rank[:, None, :] < np.arange(1, d)[None, :, None]  # (orders, d - 1, players)
    inner = game(masks.reshape(-1, d)).reshape(len(orders), d - 1, -1)
    first, last = (np.broadcast_to(end, (len(orders), 1, ends.shape[1])) for end in ends)
    steps = np.diff(np.concatenate([first, inner, last], axis=1), axis=1)
    return np.take_along_axis(steps, rank[..., None], axis=1)


def _settled(mean: np.ndarray, error: np.ndarray, budget: Budget) -> bool:
    """Whether the 95 % interval of every value is within the error asked for, as a share of the largest value."""
    return budget.error is not None and bool((1.96 * error <= budget.error * np.abs(mean).max(axis=0)).all())
