"""Shapley values: exact by enumeration or on trees, otherwise estimated with a standard error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from explainer.coalitions import Budget, Clock, Coalitions
from explainer.errors import InvalidInput, Unsupported, unknown
from explainer.explanation import Explanation
from explainer.features.base import Features
from explainer.methods.attribution import Attribution
from explainer.methods.game import Game, Play, known_exactly, play
from explainer.methods.linear import linear_values
from explainer.methods.paired import least_strata, regression, strata
from explainer.methods.quadrature import MOST_PAIRS, odd_process
from explainer.methods.sampling import exact, growing, paired, permutation
from explainer.methods.trees import is_tree, tree_values
from explainer.progress import Report

ALGORITHMS = ("auto", "exact", "gaussian", "permutation", "kernel", "stratified", "tree", "linear")
_CONTROLLED = 3  # evaluations per part from which a control no longer lowers the error
MOST_EXACT = 20  # players; beyond, enumeration is out of reach
_SLOW = 16  # rows per coalition from which scoring a table takes a torch module longer than learning strengths


def shap(
    model: Any,
    inputs: Any,
    target: Any,
    *,
    coalitions: Coalitions,
    output: str,
    seed: int,
    progress: Report = lambda done, total: None,
    algorithm: str = "auto",
    relevance: bool | str = "auto",
    control: Any = "auto",
) -> Attribution:
    r"""Shapley values of the game v(S) = expected score with the parts in S present.

    .. math:: \phi_i = \sum_{S \not\ni i} \frac{|S|!\,(d-|S|-1)!}{d!}\,[v(S \cup i) - v(S)]

    Shapley (1953); Lundberg & Lee (2017). Values sum to score minus base; sampled ones have standard errors. Parts whose absence
    changes nothing in the input get exactly 0 and cost nothing. An instance of which too few coalitions could be scored has NaN.

    Parameters
    ----------
    algorithm : ``"tree"`` and ``"linear"``, the exact values read from a tree ensemble or a linear model; ``"exact"``, all ``2^d``
        coalitions; ``"gaussian"``, an odd Gaussian process integrated (:mod:`explainer.methods.quadrature`); ``"permutation"``,
        antithetic pairs of orders (Mitchell et al. 2022); ``"kernel"``, the paired regression of KernelSHAP (Covert & Lee 2021);
        ``"stratified"``, strata by size of the coalition (Castro et al. 2017). ``"auto"`` takes tree, linear, exact or gaussian, the
        first that the model and the budget allow.
    relevance : whether the Gaussian process learns a strength for every part (:mod:`explainer.methods.relevance`): fewer evaluations
        for the same error, at some hundredths of a second per instance and output. "auto": where scoring takes longer than that,
        which is assumed but for torch modules on tables with fewer than 16 background rows.
    control : values ``(n, parts[, k])`` of an additive game thought to be close, or an explanation that has them; the Gaussian process
        is fitted to what they leave of the scores, per instance and output where the evidence for that is higher. "auto":
        expected gradients, where the model has gradients and the budget is below three evaluations per part, beyond which they do
        not lower the error; "expected_gradients": always; None: never.

    Raises UnknownName for another algorithm, Unsupported when the one asked for does not fit.
    """
    if algorithm not in ALGORITHMS:
        raise unknown("shap algorithm", algorithm, ALGORITHMS)
    if relevance not in (True, False, "auto"):
        raise InvalidInput(f"relevance={relevance!r} is not understood; use True, False or 'auto'.")
    notes: tuple[str, ...] = ()
    readers: dict[str, Callable[..., Attribution | str]] = {"tree": partial(tree_values, progress=progress), "linear": linear_values}
    for name, read in readers.items():
        if algorithm not in ("auto", name):
            continue
        found = read(model, inputs, target, output, coalitions.features, seed)
        if isinstance(found, Attribution):
            return found
        if algorithm == name:
            raise Unsupported(f"algorithm={name!r} does not fit here: {found} Use algorithm='auto'.")
        notes = (found,) if name == "tree" and is_tree(model) else notes
    features, budget, n = coalitions.features, coalitions.budget, len(inputs)
    if isinstance(control, str):
        control = _expected(control, model, inputs, target, output, features, budget, seed)
        if control is not None:
            notes = (*notes, "Expected gradients of each input served as a control, where the evidence was for it.")
    controls = _controls(control, n, features, target.k)
    refine = worthwhile(relevance, model, features)
    used: dict[int, str] = {}

    def start(game: Game, clock: Clock) -> Play:
        used[game.i] = how = chosen(game.d, algorithm, budget)
        known = None if controls is None else controls[game.i][game.live]
        return solver(how, game.d, budget, clock, seed, refine, known)

    answers = play(coalitions, n, start, lambda game: cost(game.d, chosen(game.d, algorithm, budget), budget))
    return Attribution(
        [Game(coalitions, i).spread(answer.values) for i, answer in enumerate(answers)],
        features.axes,
        [features.names(i) for i in range(n)],
        base=np.stack([answer.empty for answer in answers]),
        stderr=None if known_exactly(answers) else [Game(coalitions, i).spread(a.stderr) for i, a in enumerate(answers)],
        evaluations=coalitions.evaluations,
        parameters={"algorithm": " and ".join(sorted(set(used.values()))), "absence": features.absence},
        notes=notes,
    )


def chosen(d: int, wanted: str, budget: Budget) -> str:
    """The algorithm for a game of ``d`` players. Raises Unsupported."""
    if wanted == "exact" and d > MOST_EXACT:
        raise Unsupported(f"algorithm='exact' needs 2^{d} evaluations; up to {MOST_EXACT} parts are possible. Use 'auto'.")
    affordable = d <= MOST_EXACT and 2**d <= budget.evaluations and not budget.adaptive
    # A small game is whole before an adaptive budget would have looked at its error for the second time.
    if wanted == "exact" or d < 2 or (wanted == "auto" and (affordable or (budget.adaptive and 2**d <= 128))):
        return "exact"
    return "gaussian" if wanted == "auto" else wanted


def cost(d: int, how: str, budget: Budget) -> int:
    """Coalitions that will be asked for, at most."""
    return 2**d if how == "exact" else budget.evaluations


def solver(how: str, d: int, budget: Budget, clock: Clock, seed: int, refine: bool = False, control: np.ndarray | None = None) -> Play:
    """The play that estimates one game's Shapley values."""
    if how == "exact":
        return exact(d)
    if how == "permutation":
        return permutation(d, budget, clock, seed)
    if how == "kernel":
        return paired(lambda pairs, block: regression(d, max(pairs, 2 * d), seed), d, budget, clock, budget.evaluations)
    if how == "stratified":
        return paired(lambda pairs, block: strata(d, max(pairs, least_strata(d)), seed), d, budget, clock, budget.evaluations)
    return growing(
        lambda pairs, block: odd_process(d, pairs, seed, block).fitted(refine=refine, control=control), d, budget, clock, MOST_PAIRS
    )


def worthwhile(relevance: bool | str, model: Any, features: Features) -> bool:
    """Whether to learn strengths; decided by what is known beforehand, never by the clock, so that it is the same in every run."""
    if relevance != "auto":
        return bool(relevance)
    return model.framework != "torch" or model.modality != "tabular" or features.repeats >= _SLOW


def _expected(
    word: str, model: Any, inputs: Any, target: Any, output: str, features: Features, budget: Budget, seed: int
) -> list[np.ndarray] | None:
    """Expected gradients as a control, where they are asked for or lower the error."""
    if word not in ("auto", "expected_gradients"):
        raise unknown("control", word, ("auto", "expected_gradients", "values", "None"))
    fewest = min(features.players(i) for i in range(len(inputs)))
    if not model.differentiable or (word == "auto" and budget.evaluations >= _CONTROLLED * fewest):
        return None
    from explainer.methods.expected import control

    return control(model, inputs, target, output=output, features=features, seed=seed)


def _controls(control: Any, n: int, features: Features, k: int) -> Sequence[np.ndarray] | None:
    """Per instance, values ``(players, k)`` of an additive game near the one explained."""
    if control is None:
        return None
    control = control.values if isinstance(control, Explanation) else control
    if len(control) != n:
        raise InvalidInput(f"control= holds values for {len(control)} instances; {n} are explained.")
    values = [np.asarray(one, dtype=np.float64) for one in control]
    for i, one in enumerate(values):
        if one.size != features.players(i) * k or not np.isfinite(one).all():
            raise InvalidInput(f"control= takes finite values of shape ({features.players(i)}, {k}) for instance {i}; {one.shape} came.")
    return [one.reshape(-1, k) for one in values]
