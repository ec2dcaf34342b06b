"""Shapley interactions of pairs: exact by enumeration or on trees, otherwise estimated with standard errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from explainer.coalitions import Budget, Clock, Coalitions
from explainer.errors import Unsupported, unknown
from explainer.methods.attribution import Attribution
from explainer.methods.ensemble import from_table
from explainer.methods.game import Answer, Game, Play, ends, known_exactly, play, told
from explainer.methods.pairwise import PairProcess, couples, pair_process, pairs_on
from explainer.methods.quadrature import MOST_PAIRS, design, in_turn, process_on
from explainer.methods.sampling import FEWEST_PAIRS, enumeration, in_pairs, settled
from explainer.methods.shapley import worthwhile
from explainer.methods.trees import is_tree, tree_interactions
from explainer.progress import Report

INDICES = ("shapley", "shapley_taylor")
ALGORITHMS = ("auto", "exact", "gaussian", "tree")
MOST_EXACT = 16
MOST_SAMPLED = 64  # players; d (d - 1) / 2 pairs are estimated from at most 1024 pairs of coalitions
_FIRST = 64


def shap_interactions(
    model: Any,
    inputs: Any,
    target: Any,
    *,
    coalitions: Coalitions,
    output: str,
    background: Any,
    seed: int,
    progress: Report = lambda done, total: None,
    index: str = "shapley",
    algorithm: str = "auto",
    relevance: bool | str = "auto",
) -> Attribution:
    r"""How the score is made up of single parts and of pairs of parts: a matrix whose entries sum to score minus base.

    .. math:: I_{ij} = \sum_{S \not\ni i,j} w_{|S|}\,[v(S \cup ij) - v(S \cup i) - v(S \cup j) + v(S)]

    ``index="shapley"``: :math:`w_s = s!\,(d-s-2)!\,/\,(d-1)!`, the Shapley interaction index (Grabisch & Roubens 1999); the diagonal holds
    what is left of each Shapley value, :math:`\phi_i - \tfrac12 \sum_j I_{ij}`. This is shap's matrix and shapiq's k-SII of order 2 (Bordt
    & von Luxburg 2023); rows sum to Shapley values. ``index="shapley_taylor"``: :math:`w_s = \tfrac2d \binom{d-1}{s}^{-1}`, the
    Shapley-Taylor index (Sundararajan et al. 2020); the diagonal holds :math:`v(i) - v(\emptyset)`. In both, ``values[i, j]`` and
    ``values[j, i]`` hold half of :math:`I_{ij}` each, values ``(d, d, k)``.

    Parameters
    ----------
    index : "shapley" or "shapley_taylor".
    algorithm : ``"tree"`` reads the Shapley index from a tree ensemble; ``"exact"`` enumerates up to 16 parts; ``"gaussian"`` integrates
        a Gaussian process (:mod:`explainer.methods.pairwise`), useful up to about 20 parts, with standard errors that say so.
    relevance : for the Shapley values in the sampled Shapley index, as in ``shap``.

    Raises UnknownName for another index or algorithm, Unsupported when the algorithm does not fit.
    """
    if index not in INDICES:
        raise unknown("index", index, INDICES)
    if algorithm not in ALGORITHMS:
        raise unknown("shap_interactions algorithm", algorithm, ALGORITHMS)
    features, budget, n = coalitions.features, coalitions.budget, len(inputs)
    part = features.axes[0] if len(features.axes) == 1 else "part"
    axes, names = (part, f"other {part}"), [_named(features.names(i)) for i in range(n)]
    notes: tuple[str, ...] = ()
    if algorithm == "tree" and index != "shapley":
        raise Unsupported("algorithm='tree' gives the Shapley index only; use index='shapley', or algorithm='auto'.")
    if algorithm in ("auto", "tree") and index == "shapley":
        found = tree_interactions(model, inputs, target, output, features, progress)
        if not isinstance(found, str):
            return Attribution(
                list(found[0]), axes, names, base=found[1], evaluations=n * features.repeats,
                parameters={"algorithm": "tree", "index": index, "absence": features.absence},
            )  # fmt: skip
        if algorithm == "tree":
            raise Unsupported(f"algorithm='tree' does not fit here: {found} Use algorithm='auto'.")
        notes = (found,) if is_tree(model) else ()
    taylor, refine, used = index == "shapley_taylor", worthwhile(relevance, model, features), {}

    def start(game: Game, clock: Clock) -> Play:
        used[game.i] = how = _algorithm(game.d, algorithm, budget)
        return _exact(game.d, taylor) if how == "exact" else _gaussian(game.d, budget, clock, seed, taylor, refine)

    def cost(game: Game) -> int:
        return 2**game.d if _algorithm(game.d, algorithm, budget) == "exact" else min(budget.evaluations, 2 * MOST_PAIRS + 2)

    answers = play(coalitions, n, start, cost)
    games = [Game(coalitions, i) for i in range(n)]
    most = max((2 * min(MOST_PAIRS, 2 ** (g.d - 1) - 1) + 2 + g.d * taylor for g in games if used[g.i] == "gaussian"), default=None)
    if most is not None and most < budget.evaluations and not budget.adaptive:
        notes = (*notes, f"Of the {budget.evaluations:,} evaluations allowed, sampled interactions can make use of {most:,}.")
    exact = known_exactly(answers)
    return Attribution(
        [_spread(game, answer.values, features.players(game.i)) for game, answer in zip(games, answers, strict=True)],
        axes,
        names,
        base=np.stack([answer.empty for answer in answers]),
        stderr=None if exact else [_spread(g, a.stderr, features.players(g.i)) for g, a in zip(games, answers, strict=True)],
        evaluations=coalitions.evaluations,
        parameters={"algorithm": " and ".join(sorted(set(used.values()))), "index": index, "absence": features.absence},
        notes=notes,
    )


def _named(parts: tuple[str, ...]) -> tuple[str, ...]:
    """One name per entry of the matrix, row by row: the part alone, or the two that act together."""
    return tuple(a if i == j else f"{a} × {b}" for i, a in enumerate(parts) for j, b in enumerate(parts))


def _algorithm(d: int, wanted: str, budget: Budget) -> str:
    if wanted == "exact" and d > MOST_EXACT:
        raise Unsupported(f"algorithm='exact' needs 2^{d} evaluations; up to {MOST_EXACT} parts are possible. Use 'auto'.")
    if wanted == "exact" or d < 3 or (wanted == "auto" and d <= MOST_EXACT and 2**d <= budget.evaluations and not budget.adaptive):
        return "exact"
    if d > MOST_SAMPLED:
        raise Unsupported(f"Pairs of {d} parts are too many to estimate; up to {MOST_SAMPLED} are possible. Group them with features=.")
    return "gaussian"


def _spread(game: Game, values: np.ndarray, players: int) -> np.ndarray:
    every = np.zeros((players, players, values.shape[-1]))
    every[np.ix_(game.live, game.live)] = values
    return every


def _exact(d: int, taylor: bool) -> Play:
    order = enumeration(d)
    asked = (order[:, None] >> np.arange(d)) & 1 == 1
    found = yield asked
    k = found.shape[1]
    if not told(found).all():
        return _cut_short(d, asked, found, taylor)
    scores = np.empty_like(found)
    scores[order] = found
    if d < 2:
        matrix = np.broadcast_to(scores[-1] - scores[0], (d, d, k)).copy()
    elif taylor:
        matrix = _assemble(scores[2 ** np.arange(d)] - scores[0], _taylor(scores, d))
    else:
        values, pairs = from_table(scores)
        matrix = pairs / 2
        matrix[np.arange(d), np.arange(d)] = values - matrix.sum(axis=1)
    return Answer(matrix, np.zeros_like(matrix), scores[0])


def _cut_short(d: int, asked: np.ndarray, scores: np.ndarray, taylor: bool) -> Answer:
    """An enumeration that was stopped: the process on the pairs that are known."""
    known = np.flatnonzero(told(scores[2::2]) & told(scores[3::2]))[:MOST_PAIRS] * 2 + 2
    alone = [int(np.flatnonzero((asked == one).all(axis=1))[0]) for one in np.eye(d, dtype=bool)] if taylor else []
    pairs = np.concatenate([scores[known], scores[known + 1]])
    answer = None if d < 3 else _estimate(asked[known], scores[[0, 1, *alone]], pairs, None, refine=False)
    return answer or _unknown(d, scores.shape[1])


def _unknown(d: int, k: int) -> Answer:
    return Answer(np.full((d, d, k), np.nan), np.full((d, d, k), np.nan), np.full(k, np.nan))


def _taylor(v: np.ndarray, d: int) -> np.ndarray:
    """Shapley-Taylor interactions ``(pairs, k)`` of a game given for all coalitions."""
    index = np.arange(2**d)
    sizes = ((index[:, None] >> np.arange(d)) & 1).sum(axis=1)
    weight = np.array([2 / (d * math.comb(d - 1, s)) for s in range(d)])
    found = []
    for i, j in zip(*couples(d), strict=True):
        rest = index[((index >> i) & 1 == 0) & ((index >> j) & 1 == 0)]
        found.append(weight[sizes[rest]] @ (v[rest | 1 << i | 1 << j] - v[rest | 1 << i] - v[rest | 1 << j] + v[rest]))
    return np.stack(found)


def _assemble(diagonal: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """The symmetric matrix ``(d, d, k)`` with halves of the pairs ``(pairs, k)`` off its diagonal."""
    d, k = diagonal.shape
    matrix = np.zeros((d, d, k))
    i, j = couples(d)
    matrix[i, j] = matrix[j, i] = pairs / 2
    matrix[np.arange(d), np.arange(d)] = diagonal
    return matrix


def _gaussian(d: int, budget: Budget, clock: Clock, seed: int, taylor: bool, refine: bool) -> Play:
    """Pairs of coalitions, for the Shapley-Taylor index with each player alone; doubling while the error or the clock decides."""
    most = min(MOST_PAIRS, max(FEWEST_PAIRS, (budget.evaluations - 2 - d * taylor) // 2), 2 ** (d - 1) - 1)
    pairs = min(_FIRST, most) if budget.adaptive else most
    answer = None
    while True:
        # The single players are the first class of the design, as soon as it is whole.
        masks = design(d, pairs, seed)
        alone = np.eye(d, dtype=bool)
        first, scores = yield from in_pairs(np.concatenate([ends(d), alone]) if taylor else ends(d), masks, in_turn(masks))
        whole = bool(told(first).all() and told(scores).all())
        process = pair_process(d, pairs, seed) if told(scores).all() else None
        found = _estimate(masks, first, scores, process, refine)
        if found is None:
            return answer or _unknown(d, scores.shape[1])
        answer = found
        done = settled(answer.values.reshape(d * d, -1), answer.stderr.reshape(d * d, -1), budget)
        if not budget.adaptive or not whole or clock.over or done or pairs == most:
            return answer
        pairs = min(2 * pairs, most)


def _estimate(masks: np.ndarray, first: np.ndarray, scores: np.ndarray, process: PairProcess | None, refine: bool) -> Answer | None:
    """The matrix and its errors from what was scored, or None where that is too little.

    ``first``: scores of no part and of all, for the Shapley-Taylor index then of each part alone. ``process``: that of all pairs.
    """
    (half, d), k, taylor = masks.shape, scores.shape[1], len(first) > 2
    (empty, full), alone = first[:2], first[2:]
    known = told(scores[:half]) & told(scores[half:])
    if not told(first).all() or known.sum() < min(half, FEWEST_PAIRS):
        return None
    rest = scores[np.concatenate([known, known])]
    found, error, of_sums = (process or pairs_on(masks[known])).values(empty, full, rest, taylor)
    if taylor:
        # Singles are known; what the pairs miss of the whole difference is shared by them in proportion to their variances.
        diagonal, spare = alone - empty, np.zeros((d, k))
        miss = full - empty - diagonal.sum(axis=0) - found.sum(axis=0)
        share = error**2
        found = found + miss * share / np.maximum(share.sum(axis=0), 1e-300)
    else:
        phi, own = process_on(masks[known]).fitted(refine=refine).values(empty, full, rest)
        i, j = couples(d)
        sums = np.zeros((d, k))
        np.add.at(sums, i, found)
        np.add.at(sums, j, found)
        diagonal, spare = phi - sums / 2, np.sqrt(own**2 + of_sums**2 / 4)
    return Answer(_assemble(diagonal, found), _assemble(spare, error), empty)
