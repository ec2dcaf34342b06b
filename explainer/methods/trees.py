"""Exact Shapley values and interactions of tree ensembles, read from the trees themselves."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from explainer.errors import Unsupported
from explainer.features.base import Features, drawn, thinned
from explainer.features.tabular import Columns, averaged
from explainer.methods import forest as forests
from explainer.methods.attribution import Attribution
from explainer.methods.ensemble import Ensemble, from_table, matrices
from explainer.progress import Report

# Players asked by the trees, up to which a score that is no sum over trees is worked out for all their coalitions.
MOST_ENUMERATED = 16
_MOST_ROWS = 1000  # of a background: a tree's cost grows with them, though far less than that of asking the model
_HELD = 256  # rows of a game on which what was read of the trees is held against the model
_NOTE = (
    "TreeSHAP's path-dependent game: at a split on an absent column a row goes both ways, in the shares of the training rows. "
    "No background rows are used; the values of method 'shap', which averages over background rows, differ from these."
)


def is_tree(model: Any) -> bool:
    """Whether the model is a tree or an ensemble of trees, seen directly rather than through a pipeline."""
    return type(getattr(model, "estimator", None)).__name__.startswith(tuple(forests.kinds()))


def tree_shap(model: Any, inputs: Any, target: Any, *, output: str, progress: Report = lambda done, total: None) -> Attribution:
    r"""Path-dependent Shapley values of a tree ensemble: TreeSHAP (Lundberg et al. 2020), exact.

    The game sums leaves, :math:`v(S) = \sum_\ell c_\ell \prod_{j \in S} o_{\ell j} \prod_{j \notin S} r_{\ell j}`, where :math:`o_{\ell j}`
    is 1 if the row passes the splits on column j above leaf l and else 0, and :math:`r_{\ell j}` is the share of training rows that
    pass. Values ``(n, columns, k)``, on a scale that is a sum over trees: shares of a forest, logits of a boosted classifier.

    Raises Unsupported, with the reason, where the trees cannot be read or the scale is not such a sum.
    """
    reason = _unfit(model, inputs)
    if reason:
        raise Unsupported(reason)
    algorithm = "tree (path-dependent)"
    try:
        ensemble = Ensemble(model, [inputs], output, np.arange(inputs.shape[1]))
        if ensemble.slope is None:
            raise Unsupported(f"{_no_sum(model, output)} Method 'shap' has a game that is defined on every scale.")
        if not ensemble.covered:
            raise Unsupported("Some nodes were reached by no training rows, so their shares are 0 / 0. Use method 'shap'.")
        slope, intercept = _slope(ensemble, target)
        if slope is None:
            raise Unsupported("The path-dependent game is for targets linear in the scores; this function is not. Use method 'shap'.")
        values, base = ensemble.values(inputs, None, progress) @ slope, ensemble.expected() @ slope + intercept
    except Unsupported as error:
        known = inputs if model.background is None else model.background[:_HELD]
        found = str(error) if isinstance(error, forests.Unread) else _by_shap(model, inputs, None, known, output)
        if isinstance(found, str) or target.weights is None:
            raise
        values, base, algorithm = *found, "shap.TreeExplainer (path-dependent)"
    return Attribution(
        list(functionals(values, target)), ("column",), [tuple(str(c) for c in inputs.columns)] * len(inputs),
        base=np.broadcast_to(functionals(base, target), (len(inputs), target.k)), evaluations=len(inputs),
        parameters={"algorithm": algorithm, "absence": "both ways at a split, by the training rows"}, notes=(_NOTE,),
    )  # fmt: skip


def tree_values(
    model: Any, inputs: Any, target: Any, output: str, features: Features, seed: int, progress: Report = lambda done, total: None
) -> Attribution | str:
    """The interventional Shapley values, or the reason in words why they cannot be had from the trees.

    The game is that of the sampled values: absent columns take the background rows' values, and scores are averaged. Where
    scores are sums over trees, each leaf has its values in closed form (:mod:`explainer.methods.treeshap`). Where they are
    not, as the probabilities of a boosted model, the trees give the scores of all coalitions of up to 16 players at little cost.
    """
    reason = _unfit(model, inputs) or unfit_game(features)
    if reason:
        return reason
    assert isinstance(features, Columns)  # trees are models of tables
    rows, held, algorithm = drawn(features.whole, _MOST_ROWS, seed), _composed(features, len(inputs)), "tree (interventional)"
    try:
        ensemble = Ensemble(model, [rows, inputs, held], output, players_of(features, inputs))
        if ensemble.slope is not None and target.weights is not None:
            values = list(functionals(ensemble.values(inputs, rows, progress) @ ensemble.slope, target))
            base = functionals(ensemble.margins(rows).mean(axis=0) @ ensemble.slope + ensemble.intercept, target)
        else:
            rows = stand_ins(features)  # each costs a pass over all coalitions
            games = _enumerated(model, ensemble, inputs, rows, target, output, features, progress)
            values, base, algorithm = [phi for phi, _, _ in games], np.stack([empty for _, _, empty in games]), "tree (all coalitions)"
    except Unsupported as error:
        alone = isinstance(error, forests.Unread) or _grouped(features, inputs) or target.weights is None
        found = str(error) if alone else _by_shap(model, inputs, rows, held, output)
        if isinstance(found, str):
            return f"{error} So the values are not read from the trees."
        values, base = list(functionals(found[0], target)), functionals(found[1], target)
        algorithm = "shap.TreeExplainer (interventional)"
    return Attribution(
        values, ("column",), [features.names(i) for i in range(len(inputs))],
        base=base, evaluations=len(inputs) * len(rows), notes=tuple(filter(None, (thinned(len(rows), len(features.whole)),))),
        parameters={"algorithm": algorithm, "absence": averaged(len(rows), len(features.whole)) if features.thinned else features.absence},
    )  # fmt: skip


def tree_interactions(
    model: Any, inputs: Any, target: Any, output: str, features: Features, progress: Report = lambda done, total: None
) -> tuple[np.ndarray, np.ndarray] | str:
    r"""Exact Shapley interactions of the interventional game, or the reason in words why they cannot be had from the trees.

    .. math:: \phi_{ij} = \sum_{S \not\ni i,j} \frac{|S|!\,(d-|S|-2)!}{(d-1)!}\,[v(S \cup ij) - v(S \cup i) - v(S \cup j) + v(S)]

    Grabisch & Roubens (1999). Gives ``(matrices, base)``: matrices ``(n, players, players, k)`` hold :math:`\phi_{ij} / 2` off the
    diagonal and on it what is left of the Shapley value, so that rows sum to the Shapley values, as shap lays them out (Lundberg
    et al. 2020); base ``(n, k)`` is the game of no players. Scales and limits are those of :func:`tree_values`.
    """
    reason = _unfit(model, inputs) or unfit_game(features)
    if reason:
        return reason
    rows = stand_ins(features)
    try:
        ensemble = Ensemble(model, [rows, inputs, _composed(features, len(inputs))], output, players_of(features, inputs))
        if ensemble.slope is not None and target.weights is not None:
            both = functionals(ensemble.interactions(inputs, rows, progress) @ ensemble.slope, target)
            return both, functionals(ensemble.margins(rows).mean(axis=0) @ ensemble.slope + ensemble.intercept, target)
        games = _enumerated(model, ensemble, inputs, rows, target, output, features, progress)
    except Unsupported as error:
        return f"{error} So interactions cannot be read from the trees."
    values, pairs, base = (np.stack(part) for part in zip(*games, strict=True))
    return matrices(values, pairs), base


def _enumerated(
    model: Any, ensemble: Ensemble, inputs: Any, rows: Any, target: Any, output: str, features: Features, progress: Report
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Per instance: values ``(players, k)``, interactions ``(players, players, k)`` and the game of no players ``(k,)``."""
    asked = ensemble.asked
    # The number of players asked is the same for all inputs, so that no instance's values depend on the others.
    if len(asked) > MOST_ENUMERATED:
        why = _no_sum(model, output) if ensemble.slope is None else "A function of the scores is not a sum over trees."
        raise Unsupported(f"{why} All its coalitions could be scored for up to {MOST_ENUMERATED} parts, and the trees ask {len(asked)}.")
    columns, others, found, d = ensemble.columns(inputs), ensemble.columns(rows), [], features.players(0)
    for i in range(len(inputs)):
        progress(i, len(inputs))
        live = asked[~features.idle(i)[asked]]
        game = ensemble.table(np.ascontiguousarray(columns[:, i]), others, live, partial(target, rows=i))
        phi, pairs = from_table(game)
        values, both = np.zeros((d, game.shape[1])), np.zeros((d, d, game.shape[1]))
        values[live], both[np.ix_(live, live)] = phi, pairs
        found.append((values, both, game[0]))
    progress(len(inputs), len(inputs))
    return found


def _slope(ensemble: Ensemble, target: Any) -> tuple[np.ndarray | None, np.ndarray | None]:
    """How the margins make the scores, or the value of a function of them."""
    if target.weights is None:
        return ensemble.linear(lambda scores: np.asarray(target(scores, 0)))
    return ensemble.slope, ensemble.intercept


def functionals(scores: np.ndarray, target: Any) -> np.ndarray:
    """What the target makes of scores, per instance: of ``(n, ..., outputs)``, or of ``(outputs,)`` for all alike."""
    if target.weights is None:  # already the function's value
        return scores
    if scores.ndim == 1:
        return np.einsum("c,nkc->nk", scores, target.weights)
    return np.einsum("n...c,nkc->n...k", scores, target.weights)


def _kind(model: Any) -> str:
    return type(getattr(model, "estimator", None)).__name__


def _unfit(model: Any, inputs: Any) -> str:
    if not is_tree(model):
        return f"{_kind(model) if hasattr(model, 'estimator') else model.name} is not a tree ensemble."
    if model.preprocess is not None:
        return "The trees see preprocessed columns, so values on the raw columns cannot be read from them."
    return ""


def unfit_game(features: Features) -> str:
    if features.conditional:
        return "What absent columns take depends on the present ones, which the trees' closed forms do not know."
    return ""


def _no_sum(model: Any, output: str) -> str:
    if model.task == "regression":
        return f"What this {_kind(model)} predicts is not a sum over its trees but a function of it, such as its exponential."
    return f"The {output} of this {_kind(model)} is not a sum over its trees; output='logit' often is."


def stand_ins(features: Features) -> Any:
    """The background rows that coalitions are scored on."""
    return features.rows(0, np.zeros((1, features.players(0)), dtype=bool))


def _grouped(features: Features, inputs: Any) -> bool:
    return features.players(0) != inputs.shape[1]


def players_of(features: Any, inputs: Any) -> np.ndarray:
    """The player of each column."""
    owner = {member: player for player, members in enumerate(features.groups.values()) for member in members}
    return np.array([owner[str(column)] for column in inputs.columns])


def _composed(features: Features, n: int) -> Any:
    """Some hundreds of rows of the games: rows of few instances with random columns from the background rows, whose scores the values
    are made of.
    """
    rng, chosen = np.random.default_rng(0), range(min(n, 8, max(1, 16 * _HELD // features.repeats)))
    each = max(1, _HELD // (len(chosen) * features.repeats))
    return features.rows_of([(i, rng.random((each, features.players(i))) < 0.5) for i in chosen])


def _by_shap(model: Any, inputs: Any, rows: Any, held: Any, output: str) -> tuple[np.ndarray, np.ndarray] | str:
    """Values ``(n, columns, outputs)`` and base ``(outputs,)`` of trees that only shap reads: path-dependent where ``rows`` is None.

    What shap makes of the trees is held against the model's scores of the inputs, of the rows ``held`` and, on average, of the
    background ``rows``.
    """
    try:
        values, base = _read_by_shap(model, inputs, rows)
        others, start = _read_by_shap(model, held, None if rows is None else rows[:1])  # the sums are the same for any background
    except Exception as error:
        return f"shap.TreeExplainer could not read this {_kind(model)} ({type(error).__name__}: {str(error)[:120]})."
    pairs = [(base + values.sum(axis=1), model.scores(inputs, output)), (start + others.sum(axis=1), model.scores(held, output))]
    if rows is not None:
        pairs.append((base[None], model.scores(rows, output).mean(axis=0, keepdims=True)))
    size = 1e-4 * max(1.0, *(float(np.abs(scores).max()) for _, scores in pairs))
    if any(read.shape != scores.shape or np.abs(read - scores).max() > size for read, scores in pairs):
        return f"shap.TreeExplainer does not reproduce this {_kind(model)}'s {output}."
    return values, base


def _read_by_shap(model: Any, inputs: Any, rows: Any) -> tuple[np.ndarray, np.ndarray]:
    import shap

    if rows is None:
        tree = shap.TreeExplainer(model.estimator, feature_perturbation="tree_path_dependent")
    else:
        # As numbers: shap's C code prints to the terminal where they are not. As a masker: shap would keep 100 of the rows.
        background = shap.maskers.Independent(np.asarray(model.native(rows), dtype=np.float64), len(rows))
        tree = shap.TreeExplainer(model.estimator, background, feature_perturbation="interventional")
    values = np.asarray(tree.shap_values(model.native(inputs), check_additivity=False), dtype=np.float64)
    values = values.reshape(len(inputs), inputs.shape[1], -1)
    base = np.atleast_1d(np.asarray(tree.expected_value, dtype=np.float64))
    if values.shape[2] == 1 and len(model.class_names) == 2 and model.task == "classification":
        # One number for two classes: what raises one class lowers the other by as much.
        values, base = np.concatenate([-values, values], axis=2), np.array([-base[-1], base[-1]])
    return values, base
