"""Reads a model before a method runs: exact, approximate or unsupported on it, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from explainer.methods import METHODS, Method
from explainer.model import Capability, Model

_NO_GRADIENT = "{name} is seen from outside only ({framework}): it has no gradients. Use shap or lime."
_NO_BACKGROUND = "A table needs background rows for the values of absent columns; pass background=training_rows."
_EXACT_PLAYERS = 11  # 2 ** 11 coalitions are the default budget


def capabilities(model: Model) -> Mapping[str, Capability]:
    """Per method of the table, what it can be on ``model``."""
    return {name: capability(model, method) for name, method in METHODS.items()}


def capability(model: Model, method: Method) -> Capability:
    """What one method can be on ``model``; a caller's own function is taken at its word."""
    rules = {"saliency": _saliency, "integrated_gradients": _integrated, "attention": _attention, "shap": _shap, "lime": _lime}
    if method.name not in rules:
        return Capability("approximate", "A method of your own; nothing is known of it before it runs.")
    return rules[method.name](model)


def choose(model: Model) -> str:
    """The method ``"auto"`` stands for: additive, with an error that is measured, and cheap on this model."""
    if model.differentiable and model.modality != "tabular" and capability(model, METHODS["integrated_gradients"]).level != "unsupported":
        return "integrated_gradients"
    return "shap"


def _gradients(model: Model) -> Capability | None:
    """The reason gradients cannot be had, or None."""
    if not model.differentiable:
        return Capability("unsupported", _NO_GRADIENT.format(name=model.name, framework=model.framework))
    obstacle = _anatomy(model, "gradient_obstacle")
    return Capability("unsupported", f"Gradients cannot be had: {obstacle}. Use shap or lime.") if obstacle else None


def _saliency(model: Model) -> Capability:
    return _gradients(model) or Capability("exact", "The gradient itself; it says how the score reacts nearby, not what it is made of.")


def _integrated(model: Model) -> Capability:
    return _gradients(model) or Capability("approximate", "Exact up to the integration error, which is measured on every input.")


def _attention(model: Model) -> Capability:
    if not model.differentiable or not _anatomy(model, "has_attention"):
        why = _anatomy(model, "attention_obstacle") or "no attention layer was found"
        return Capability(
            "unsupported", f"{model.name} has no attention layers that can be read ({why}). Use integrated_gradients or shap."
        )
    return Capability("approximate", "The weights are exact; that they explain the score is not given, so their faithfulness is measured.")


def _shap(model: Model) -> Capability:
    if model.modality == "tabular" and model.background is None:
        return Capability("unsupported", _NO_BACKGROUND)
    if model.modality == "tabular" and len(model.feature_names) <= _EXACT_PLAYERS:
        return Capability("exact", f"All coalitions of {len(model.feature_names)} columns are enumerated.")
    return Capability(
        "approximate", "Sampled; each value comes with its standard error. Tree ensembles are exact where the trees can be read."
    )


def _lime(model: Model) -> Capability:
    if model.modality == "tabular" and model.background is None:
        return Capability("unsupported", _NO_BACKGROUND)
    return Capability("approximate", "A linear stand-in; how well it follows the model is measured on every input.")


def _anatomy(model: Any, fact: str) -> Any:
    anatomy = model.anatomy() if hasattr(model, "anatomy") else None
    return getattr(anatomy, fact, None)
