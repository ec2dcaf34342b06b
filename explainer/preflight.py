"""Reads a model before a method runs: exact, approximate or unsupported on it, and why."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

from explainer.errors import ExplainerError, Unsupported
from explainer.explanation import Check
from explainer.methods import METHODS, Method
from explainer.methods.trees import is_tree
from explainer.model import Capability, Model
from explainer.target import resolve

_NO_GRADIENT = "{name} is seen from outside only ({framework}): it has no gradients. Use shap or lime."
_NO_BACKGROUND = "A table needs background rows for the values of absent columns; pass background=training_rows."
_SLOPE_DOUBTED = 0.1  # gradients farther than this from the slope of the score at a sample input are doubted
_EXACT_PLAYERS = 11  # 2 ** 11 coalitions are the default budget
# What methods said of a model after looking at it, which may take a pass or two; kept as long as the model lives.
_SAID: weakref.WeakKeyDictionary[Model, dict[str, Capability | None]] = weakref.WeakKeyDictionary()
_ERRORS: weakref.WeakKeyDictionary[Model, dict[str, str]] = weakref.WeakKeyDictionary()


def capabilities(model: Model) -> Mapping[str, Capability]:
    """Per method of the table, what it can be on ``model``, and how far off it is on a sample input where a short run tells."""
    return {name: _with_error(model, method, capability(model, method)) for name, method in METHODS.items()}


def _with_error(model: Any, method: Method, able: Capability) -> Capability:
    """The capability with the error measured on a sample input, once per model."""
    ask = _MEASURES.get(method.family)
    if able.level == "unsupported" or ask is None or not _anatomy(model, "probed"):
        return able
    measured = _ERRORS.setdefault(model, {})
    if method.name not in measured:
        measured[method.name] = ask(model, method)
    return Capability(able.level, f"{able.reason} {measured[method.name]}".rstrip())


def _error(model: Any, method: Method) -> str:
    from explainer.methods.trial import error_of

    return error_of(model, method.name)


def _faithfulness(model: Any, method: Method) -> str:
    from explainer.trust.samples import faithfulness_of

    return faithfulness_of(model, method)


# What can be measured before a method runs: how far off it is, or for maps that promise no sum whether they name what matters.
_MEASURES: dict[str, Callable[[Any, Method], str]] = {"gradient": _error, "cam": _faithfulness, "attention": _faithfulness}


def capability(model: Model, method: Method) -> Capability:
    """What one method can be on ``model``; of a caller's own function, whether any can be right."""
    if model.modality not in method.modalities:
        others = [m.name for m in METHODS.values() if m.family == method.family and model.modality in m.modalities]
        instead = f" Use {' or '.join(others)}." if others else ""
        kinds = " and ".join(method.modalities)
        return Capability("unsupported", f"{method.title} is for {kinds} inputs; these are {model.modality}.{instead}")
    unsteady = _anatomy(model, "obstacle")
    if unsteady:
        return Capability("unsupported", f"No explanation of {model.name} would be right: {unsteady}.")
    obstacles = {
        "gradient": _no_gradients, "cam": _no_layers, "attention": _no_attention, "coalition": _no_background, "tree": _no_trees,
    }  # fmt: skip
    obstacle = obstacles[method.family](model) if method.family in obstacles else ""
    if obstacle:
        return Capability("unsupported", obstacle)
    found = _judged(model, method) or _usual(model, method)
    doubts = _doubts(model, method)
    if not doubts or found.level == "unsupported":
        return found
    return Capability("approximate", f"{found.reason} {doubts}")


def check(model: Model, method: Method) -> Check | None:
    """What makes the method doubtful on ``model``, to stand in its verdicts; of a caller's function, what would if it took gradients."""
    doubts = _doubts(model, method)
    if doubts:
        return Check("preflight", "warn", doubts)
    blind = (_no_gradients(model) or _doubt(model)) if method.family == "own" and model.differentiable else ""
    return Check("preflight", "not run", f"Whether {method.name} takes gradients is not known. If it does: {blind}") if blind else None


def _doubts(model: Model, method: Method) -> str:
    """Why values would be off a little whatever the method, and whatever is differentiated."""
    return " ".join(filter(None, (_anatomy(model, "noise"), _doubt(model) if method.family == "gradient" else "")))


def _usual(model: Model, method: Method) -> Capability:
    """What the method is where nothing speaks against it."""
    if method.name == "shap" and model.modality == "tabular" and len(model.feature_names) <= _EXACT_PLAYERS:
        return Capability("exact", f"All coalitions of {len(model.feature_names)} columns are enumerated.")
    return Capability(method.level, method.caveat)


def _judged(model: Model, method: Method) -> Capability | None:
    """What the method itself says, asked once per model, or anew as long as the model could not be probed."""
    if not method.fits and method.family != "attention":
        return None
    ask = _tried if not method.fits else lambda model, method: method.judged(model)
    if _anatomy(model, "probed") is False:
        return ask(model, method)
    said, key = _SAID.setdefault(model, {}), method.fits or method.name
    if key not in said:
        said[key] = ask(model, method)
    return said[key]


def _tried(model: Any, method: Method) -> Capability | None:
    """A refusal that shows only when the method runs, from running it on the sample."""
    sample = model.sample()
    if sample is None:
        return None
    try:
        method.function(model, sample, resolve(0, model.scores(sample), model.class_names))
    except Unsupported as error:
        return Capability("unsupported", str(error))
    except ExplainerError:  # the sample does not fit, which says nothing about the model
        return None
    return None


def choose(model: Model) -> str:
    """The method ``"auto"`` stands for: additive, with an error that is measured, and cheap on this model."""
    if model.differentiable and model.modality != "tabular" and capability(model, METHODS["integrated_gradients"]).level != "unsupported":
        return "integrated_gradients"
    return "shap"


def _no_gradients(model: Model) -> str:
    """The reason gradients cannot be had, or nothing."""
    if not model.differentiable:
        return _NO_GRADIENT.format(name=model.name, framework=model.framework)
    obstacle = _anatomy(model, "gradient_obstacle") or _anatomy(model, "slope_obstacle")
    return _with_a_way_out(f"Gradients cannot be had: {obstacle}", "shap or lime") if obstacle else ""


def _doubt(model: Model) -> str:
    """Why gradients do not tell the whole of the score, where that is known."""
    exits, error = _anatomy(model, "exits"), _anatomy(model, "slope_error") or 0.0
    if exits:
        return f"Values made of the input leave automatic differentiation ({exits}): what depends on them has no gradient."
    if error > _SLOPE_DOUBTED:
        return f"At a sample input the gradients differ from the slope of the score by {error:.0%}."
    return ""


def _no_layers(model: Model) -> str:
    if model.differentiable:
        return ""
    return f"{model.name} is seen from outside only ({model.framework}): it has no layers to map. Use rise, shap or lime."


def _no_attention(model: Model) -> str:
    if model.differentiable and _anatomy(model, "has_attention"):
        return ""
    why = _anatomy(model, "attention_obstacle") or "no attention layer was found"
    return _with_a_way_out(f"{model.name} has no attention layers that can be read: {why}", "integrated_gradients or shap")


def _with_a_way_out(obstacle: str, instead: str) -> str:
    """What to use instead, unless the obstacle says it."""
    return obstacle if "Use " in obstacle else f"{obstacle.rstrip('.')}. Use {instead}."


def _no_trees(model: Model) -> str:
    return "" if is_tree(model) else f"{model.name} is not a tree or an ensemble of trees seen directly. Use shap."


def _no_background(model: Model) -> str:
    return _NO_BACKGROUND if model.modality == "tabular" and model.background is None else ""


def _anatomy(model: Any, fact: str) -> Any:
    anatomy = model.anatomy() if hasattr(model, "anatomy") else None
    return getattr(anatomy, fact, None)
