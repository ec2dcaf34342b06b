"""What ``explain`` is asked for, read and held against what is valid, before anything runs."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from explainer import preflight
from explainer.errors import InvalidInput, Unsupported, unknown
from explainer.methods import METHODS, Method
from explainer.model import Model

ELSEWHERE = {
    "additional_forward_args": "here a module is wrapped with further arguments fixed in it, as in wrap(Fixed(module, arguments)).",
    "internal_batch_size": "here the number of rows that fit is found by itself; leave it out.",
}
# captum's names for the same things.
SYNONYMS = {"baselines": "baseline", "n_steps": "steps", "n_samples": "budget"}


def renamed(baseline: Any, budget: Any, own: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    """Baseline, budget and the method's own parameters, with captum's names for them read as ours."""
    given = {SYNONYMS.get(name, name): value for name, value in own.items()}
    return given.pop("baseline", baseline), given.pop("budget", budget), given


def whole(seed: Any) -> None:
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise InvalidInput(f"seed={seed!r} is not valid; pass a whole number of at least 0, such as seed=0.")


def verifying(verify: Any) -> bool | str:
    """``verify`` as True, False or "full"; "off" is the command line's word."""
    if not isinstance(verify, (bool, np.bool_)) and verify not in ("full", "off"):
        raise unknown("verify", verify, (True, False, "full", "off"))
    return verify != "off" and verify


def everywhere(model: Model, given: Any, baseline: Any) -> Any:
    """A number as a baseline, captum's form: an input that holds it everywhere."""
    if isinstance(baseline, bool) or not isinstance(baseline, (int, float, np.number)) or model.modality == "text":
        return baseline
    if model.modality == "tabular":
        return np.full((1, len(model.feature_names)), float(baseline))
    shape = np.shape(given[0])
    return np.full((1, *shape) if model.modality == "image" else shape[1:], float(baseline))  # of a series one value per channel


def one_of_several(model: Model, target: Any) -> None:
    """Refuse the predicted one of several numbers: the largest of them is no prediction, and may be another quantity for each input."""
    names = model.class_names
    if model.task == "regression" and len(names) > 1 and isinstance(target, str) and target == "predicted":
        raise InvalidInput(
            f"{model.name} predicts {len(names)} numbers ({', '.join(names[:8])}{', ...' if len(names) > 8 else ''}), none of which is the "
            "predicted one; pass target= one of them, by name or index, or target='all'."
        )


def scale_of(model: Model, output: str) -> str:
    if output == "auto":
        return "raw" if model.task == "regression" else "probability"
    if output not in ("probability", "logit", "raw"):
        raise unknown("output", output, ("auto", "probability", "logit", "raw"))
    return "raw" if model.task == "regression" else output


def layer_name(model: Model, layer: Any, method: str) -> str:
    """The name of a layer given as a module: a copy of the model, as checks make, has another module of that name."""
    from explainer.adapters.layers import name_of
    from explainer.adapters.torch import require_torch

    return str(name_of(require_torch(model, method).core, layer))


def known_words(model: Model, given: Any) -> None:
    share = getattr(getattr(model, "preprocess", None), "unknown_share", None)
    if model.modality != "text" or share is None:
        return
    lost = np.flatnonzero(np.asarray(share(given)) >= 1)
    if len(lost):
        raise InvalidInput(
            f"Text {lost[0]} ({given[int(lost[0])][:60]!r}) holds no word that {model.name} knows; its score says nothing about the text. "
            "Check the language, or leave it out."
        )


def method_of(model: Model, method: Any, background: Any) -> Method:
    if isinstance(method, Method):
        chosen = method
    elif isinstance(method, str):
        name = method.lower().replace(" ", "_").replace("-", "_")
        if name == "auto":
            name = preflight.choose(model)
        if name not in METHODS:
            raise unknown("method", method, ("auto", *METHODS))
        chosen = METHODS[name]
    elif callable(method) and not inspect.isclass(method):
        name = getattr(method, "__name__", type(method).__name__)
        caveat = "A method of your own; nothing is known of it before it runs."
        chosen = Method(name, name, "own", "A method of the caller's own.", caveat=caveat, own=method)
    else:
        raise InvalidInput(
            "method= takes a name, a function (model, inputs, target, ...) -> values, or an object of captum.attr or shap; "
            f"{type(method).__name__} came."
        )
    able = preflight.capability(model, chosen)
    if able.level == "unsupported" and not (background is not None and "background" in able.reason):
        raise Unsupported(f"{chosen.title} is not valid on {model.name}: {able.reason}")
    return chosen


def targets_of(target: Any, kept: list[int], n: int) -> Any:
    """One target per input, for those inputs that are left."""
    return [target[i] for i in kept] if isinstance(target, (list, np.ndarray)) and len(target) == n else target
