"""Gradient x input, which attention is held against."""

from __future__ import annotations

from typing import Any

from explainer.adapters.torch import require_torch
from explainer.methods.attribution import Attribution
from explainer.methods.passes import Functional, Run
from explainer.model import Model
from explainer.target import Target


def input_x_gradient(model: Model, inputs: Any, target: Target, *, output: str = "probability") -> Attribution:
    """``x * d f / d x`` per entry, summed over each part's entries: the score's change to first order, were the part 0.

    Shrikumar, Greenside, Shcherbina & Kundaje 2016, arXiv:1605.01713. Raises Unsupported on models without gradients.
    """
    torch_model = require_torch(model, "input_x_gradient")
    run = Run(torch_model, inputs, target, output, None)
    with torch_model.differentiating():
        for batch in run.batches(1):
            for j in range(target.k):
                gradient = Functional(batch, target.only(j)).gradient(batch.view.x, batch.rest)
                run.keep(batch, j, gradient * batch.view.x)
    return run.attribution({})
