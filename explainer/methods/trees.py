"""Exact Shapley values of tree models, by shap's interventional tree algorithm (Lundberg et al. 2020)."""

from __future__ import annotations

from typing import Any

import numpy as np

from explainer.features.base import Features
from explainer.methods.attribution import Attribution

_FORESTS = ("DecisionTree", "ExtraTree", "RandomForest", "ExtraTrees")
_BOOSTED = ("GradientBoosting", "HistGradientBoosting", "XGB", "LGBM")
# Additivity is checked against the model's own scores; beyond this the sampled values are more trustworthy.
_TOLERANCE = 1e-4


def is_tree(model: Any) -> bool:
    """Whether the model is a tree or an ensemble of trees, seen directly rather than through a pipeline."""
    return type(getattr(model, "estimator", None)).__name__.startswith((*_FORESTS, *_BOOSTED))


def tree_values(model: Any, inputs: Any, target: Any, output: str, background: Any, features: Features) -> Attribution | str:
    """The attribution, or the reason in words why the tree algorithm would not be right here.

    The game is the same as for sampled values: absent columns take the background rows' values, scores are averaged.
    """
    reason = _unfit(model, inputs, target, output, features)
    if reason:
        return reason
    import shap

    kind = type(model.estimator).__name__
    rows = model.native(features.rows(0, np.zeros((1, features.players(0)), dtype=bool)))
    try:
        tree = shap.TreeExplainer(model.estimator, data=rows, feature_perturbation="interventional", model_output="raw")
        values = np.asarray(tree.shap_values(model.native(inputs), check_additivity=False), dtype=np.float64)
        base = np.atleast_1d(np.asarray(tree.expected_value, dtype=np.float64))
    except Exception as error:
        return f"TreeExplainer could not read this {kind} ({type(error).__name__}: {str(error)[:120]}), so values are sampled."
    values = values.reshape(len(inputs), values.shape[1], -1)
    if values.shape[2] == 1 and len(model.class_names) == 2 and model.task == "classification":
        # One number for two classes: what raises one class lowers the other by as much.
        values = np.concatenate([-values, values], axis=2)
        base = np.array([-base[-1], base[-1]])
    scores = model.scores(inputs, output)
    if values.shape[2] != scores.shape[1] or np.abs(base + values.sum(axis=1) - scores).max() > _TOLERANCE * max(1.0, np.abs(scores).max()):
        return f"TreeExplainer does not reproduce this {kind}'s {output} scores, so values are sampled."
    weights = target.weights
    return Attribution(
        list(np.einsum("ndc,nkc->ndk", values, weights)), ("column",), [features.names(i) for i in range(len(inputs))],
        base=np.einsum("c,nkc->nk", base, weights), evaluations=len(inputs) * features.repeats,
        parameters={"algorithm": "tree (interventional TreeExplainer)", "absence": features.absence},
    )  # fmt: skip


def _unfit(model: Any, inputs: Any, target: Any, output: str, features: Features) -> str:
    kind = type(getattr(model, "estimator", None)).__name__
    if not is_tree(model):
        return "The model is not a tree ensemble."
    if model.task == "classification" and output == "probability" and kind.startswith(_BOOSTED):
        # shap rescales the margin's values to sum to the probability; they are not the Shapley values of the probability.
        return "Trees of a boosted model add up on the logit scale only (output='logit' is exact there); probabilities are sampled."
    if model.preprocess is not None:
        return "The trees see preprocessed columns; values on the raw columns are sampled."
    if target.weights is None:
        return "A target given as a function is not linear in the scores, so values are sampled."
    if features.players(0) != inputs.shape[1]:
        return "Columns are grouped, so values are sampled."
    if not all(dtype.kind in "fiub" for dtype in inputs.dtypes):
        return "Some columns are not numbers, so values are sampled."
    return ""
