"""Reads a model before a method runs: exact, approximate or unsupported on it, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from explainer.methods import METHODS, Method
from explainer.methods.trees import is_tree
from explainer.model import Capability, Model

_NO_GRADIENT = "{name} is seen from outside only ({framework}): it has no gradients. Use shap or lime."
_NO_BACKGROUND = "A table needs background rows for the values of absent columns; pass background=training_rows."
_EXACT_PLAYERS = 11  # 2 ** 11 coalitions are the default budget


def capabilities(model: Model) -> Mapping[str, Capability]:
    """Per method of the table, what it can be on ``model``."""
    return {name: capability(model, method) for name, method in METHODS.items()}


def capability(model: Model, method: Method) -> Capability:
    """What one method can be on ``model``; a caller's own function is taken at its word."""
    if method.own is not None:
        return Capability("approximate", "A method of your own; nothing is known of it before it runs.")
    if model.modality not in method.modalities:
        others = [m.name for m in METHODS.values() if m.family == method.family and model.modality in m.modalities]
        instead = f" Use {' or '.join(others)}." if others else ""
        kinds = " and ".join(method.modalities)
        return Capability("unsupported", f"{method.title} is for {kinds} inputs; these are {model.modality}.{instead}")
    obstacles = {
        "gradient": _no_gradients, "cam": _no_layers, "attention": _no_attention, "coalition": _no_background, "tree": _no_trees,
    }  # fmt: skip
    obstacle = obstacles[method.family](model)
    if obstacle:
        return Capability("unsupported", obstacle)
    judged = method.judged(model)
    if judged is not None:
        return judged
    if method.name == "shap" and model.modality == "tabular" and len(model.feature_names) <= _EXACT_PLAYERS:
        return Capability("exact", f"All coalitions of {len(model.feature_names)} columns are enumerated.")
    return Capability(method.level, method.caveat)


def choose(model: Model) -> str:
    """The method ``"auto"`` stands for: additive, with an error that is measured, and cheap on this model."""
    if model.differentiable and model.modality != "tabular" and capability(model, METHODS["integrated_gradients"]).level != "unsupported":
        return "integrated_gradients"
    return "shap"


def _no_gradients(model: Model) -> str:
    """The reason gradients cannot be had, or nothing."""
    if not model.differentiable:
        return _NO_GRADIENT.format(name=model.name, framework=model.framework)
    obstacle = _anatomy(model, "gradient_obstacle")
    return f"Gradients cannot be had: {obstacle}. Use shap or lime." if obstacle else ""


def _no_layers(model: Model) -> str:
    if model.differentiable:
        return ""
    return f"{model.name} is seen from outside only ({model.framework}): it has no layers to map. Use rise, shap or lime."


def _no_attention(model: Model) -> str:
    if model.differentiable and _anatomy(model, "has_attention"):
        return ""
    why = _anatomy(model, "attention_obstacle") or "no attention layer was found"
    return f"{model.name} has no attention layers that can be read ({why}). Use integrated_gradients or shap."


def _no_trees(model: Model) -> str:
    return "" if is_tree(model) else f"{model.name} is not a tree or an ensemble of trees seen directly. Use shap."


def _no_background(model: Model) -> str:
    return _NO_BACKGROUND if model.modality == "tabular" and model.background is None else ""


def _anatomy(model: Any, fact: str) -> Any:
    anatomy = model.anatomy() if hasattr(model, "anatomy") else None
    return getattr(anatomy, fact, None)
