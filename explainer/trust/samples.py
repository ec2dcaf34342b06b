"""Whether a map names what matters to a model, measured on rows of its background before it runs on anybody's inputs."""

from __future__ import annotations

import inspect

import numpy as np

from explainer.adapters.torch import TorchModel
from explainer.coalitions import Coalitions
from explainer.errors import ExplainerError
from explainer.features import build
from explainer.inputs import take
from explainer.methods import Method
from explainer.methods.trial import too_large
from explainer.target import resolve
from explainer.trust import faithfulness

_ROWS = 4  # of the background


def faithfulness_of(model: TorchModel, method: Method) -> str:
    """How faithful the method is on a few rows of the background, in a sentence, or why that was not tried.

    The mean over the rows of what :func:`explainer.trust.faithfulness.checks` measures on each.
    """
    if model.background is None or not len(model.background):
        return "How faithful it is here was not tried, as no real input is at hand; pass background= to wrap()."
    try:
        if too_large(model):
            return "How faithful it is here was not tried, as a pass takes long; the verdict of each result says it."
        rows = take(model.background, slice(0, _ROWS))
        scale = "raw" if model.task == "regression" else "probability"
        goal = resolve("predicted", model.scores(rows, scale), model.class_names)
        engine = Coalitions(model, rows, build(model, rows), goal, scale)
        wanted = inspect.signature(method.function).parameters
        found = method.function(model, rows, goal, **{k: v for k, v in {"output": scale, "coalitions": engine}.items() if k in wanted})
        measured = [check for check in faithfulness.checks(found, engine, "", 0) if check.value is not None]
    except ExplainerError:  # the rows do not fit, which says nothing about the method
        return ""
    if not measured:
        return ""
    share = float(np.mean([check.value for check in measured]))
    where = "a row" if len(measured) == 1 else f"{len(measured)} rows"
    return f"On {where} of the background, taking away what it names first moves the score more than {share:.0%} of random choices do."
