"""Gradient methods on torch models: saliency, and integrated gradients with as many steps as the error asks for."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from explainer.adapters.torch import out_of_memory, require_torch
from explainer.errors import InvalidInput
from explainer.inputs import take
from explainer.methods.attribution import Attribution
from explainer.methods.passes import Batch, Functional, Progress, Run
from explainer.methods.references import in_words, per_input
from explainer.model import Model
from explainer.target import Target

_SCHEDULE = (16, 32, 64, 128, 256, 512)
_FLOOR = 0.01  # a difference from the baseline below 1 % of the scale is held to the error allowed at 1 %


def saliency(
    model: Model, inputs: Any, target: Target, *, output: str = "probability", absolute: bool = True, progress: Progress | None = None
) -> Attribution:
    """The gradient of the target at the input: how strongly it reacts to a tiny change of each part.

    ``|d f / d x|`` per entry the module sees, summed over a feature's entries (channels of a pixel, one-hot columns,
    embedding dimensions of a word), per unit of what the module sees (after preprocess). Simonyan, Vedaldi & Zisserman
    2014, arXiv:1312.6034, who take the maximum over channels where the sum stands here.

    Parameters
    ----------
    absolute : False keeps the sign (and lets entries of one feature cancel).

    Raises Unsupported on models without gradients.
    """
    torch_model = require_torch(model, "saliency")
    run = Run(torch_model, inputs, target, output, progress)
    with torch_model.differentiating():
        for batch in run.batches(1):
            for j in range(target.k):
                gradient = Functional(batch, target.only(j)).gradient(batch.view.x, batch.rest)
                run.evaluations += len(batch.rows)
                run.keep(batch, j, gradient.abs() if absolute else gradient)
    return run.attribution({"absolute": absolute})


def integrated_gradients(
    model: Model,
    inputs: Any,
    target: Target,
    *,
    output: str = "probability",
    baseline: Any = "auto",
    background: Any = None,
    steps: int | Literal["auto"] = "auto",
    tolerance: float = 0.01,
    progress: Progress | None = None,
) -> Attribution:
    """Each part's share of ``f(x) - f(x')``, from the gradients along the straight way from a baseline x' to the input x.

    ``(x - x') * integral over a in [0, 1] of the gradient at x' + a (x - x')``, by Gauss-Legendre quadrature (captum's
    ``IntegratedGradients``). Sundararajan, Taly & Yan 2017, arXiv:1703.01365.

    Parameters
    ----------
    baseline, background : see :meth:`~explainer.adapters.gradients.GradientView.baseline`.
    steps : an int, or "auto": 16, doubled to at most 512 for the inputs whose values miss ``f(x) - f(x')`` by more than
        ``tolerance`` of it.
    tolerance : the completeness error aimed at, as a share of the difference to be explained.

    Raises Unsupported on models without gradients, InvalidInput for a baseline that does not fit.
    """
    torch_model = require_torch(model, "integrated_gradients")
    if steps != "auto" and (isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or steps < 1):
        raise InvalidInput(f"steps={steps!r} is not valid; pass 'auto' or a whole number of at least 1.")
    schedule = _SCHEDULE if steps == "auto" else (int(steps),)
    reference = per_input(torch_model, baseline, len(inputs))
    run = Run(torch_model, inputs, target, output, progress)
    base = np.empty((len(inputs), target.k))
    taken, missed = np.zeros(len(inputs), dtype=int), np.zeros(len(inputs), dtype=bool)
    with torch_model.differentiating():
        for batch in run.batches(schedule[0]):
            start = batch.view.baseline(take(reference, batch.rows) if reference is not None else baseline, background)
            for j in range(target.k):
                path = _Path(batch, start, target.only(j), output, run.rows)
                values = path.integrate(schedule, tolerance)
                run.evaluations += path.evaluations
                base[batch.rows, j] = path.first
                taken[batch.rows] = np.maximum(taken[batch.rows], path.steps)
                missed[batch.rows] |= path.missed
                run.keep(batch, j, values)
    if missed.any() and steps == "auto":
        count = int(missed.sum())
        run.notes.append(f"{count} of {len(inputs)} inputs keep a completeness error above {tolerance:.1%} at {schedule[-1]} steps.")
    shown = (
        {"baseline": baseline, "reference": in_words(torch_model, baseline, background)}
        if isinstance(baseline, str)
        else {"baseline": "given"}
    )
    found = run.attribution({**shown, "steps": int(taken.max()), "tolerance": tolerance, "quadrature": "Gauss-Legendre"})
    found.base = base
    return found


class _Path:
    """The straight way from the baseline to the inputs of one batch, integrated for one functional."""

    def __init__(self, batch: Batch, start: Tensor, goal: Target, output: str, rows: int) -> None:
        from captum.attr import IntegratedGradients

        self.view, self.start, self.rows = batch.view, start, rows
        self.rest = batch.rest
        self.function = Functional(batch, goal)
        self.captum = IntegratedGradients(self.function)
        # captum's own takes the gradient of every row apart; rows do not depend on each other, and their sum is 2 to 4 times faster.
        self.captum.gradient_func = lambda forward_fn, inputs, target_ind=None, additional_forward_args=None: (
            forward_fn.gradient(inputs[0], additional_forward_args),
        )
        with torch.no_grad():
            self.first = self._values_at(start)
            self.last = self._values_at(batch.view.x)
        scale = 1.0 if output == "probability" else np.maximum(np.abs(self.first), np.abs(self.last))
        self._unit = np.maximum(np.abs(self.last - self.first), np.maximum(_FLOOR * scale, 1e-12))
        self.evaluations = 2 * len(self.first)
        self.steps = np.zeros(len(self.first), dtype=int)
        self.missed = np.zeros(len(self.first), dtype=bool)

    def _values_at(self, x: Tensor) -> np.ndarray:
        return self.function(x, *self.rest).cpu().numpy()

    def integrate(self, schedule: tuple[int, ...], tolerance: float) -> Tensor:
        """Values shaped like ``x``; only inputs still above the tolerance are given more steps, and the best is kept."""
        values = torch.zeros_like(self.view.x, dtype=torch.float64)
        error = np.full(len(self.first), np.inf)
        left = np.arange(len(self.first))
        for steps in schedule:
            found = self._attribute(left, steps)
            total = found.double().flatten(1).sum(1).cpu().numpy()
            missing = np.abs(total - (self.last - self.first)[left]) / self._unit[left]
            better = missing < error[left]
            chosen = left[better]
            values[chosen], error[chosen], self.steps[chosen] = found[torch.from_numpy(better)], missing[better], steps
            left = left[missing > tolerance]
            if len(left) == 0:
                break
        self.missed = error > tolerance
        return values

    def _attribute(self, left: np.ndarray, steps: int) -> Tensor:
        index = torch.from_numpy(left).to(self.view.x.device)
        inputs, baselines = self.view.x[index], self.start[index]
        rest = tuple(t[index.to(t.device)] for t in self.rest)
        self.evaluations += len(left) * steps
        while True:
            try:
                found = self.captum.attribute(
                    inputs,
                    baselines,
                    additional_forward_args=rest,
                    n_steps=steps,
                    method="gausslegendre",
                    internal_batch_size=max(self.rows, len(left)),
                )
                return found.detach()
            except RuntimeError as error:
                if not out_of_memory(error) or max(self.rows, len(left)) <= 1:
                    raise
            if self.rows <= len(left):  # one step of every input does not fit: halve the inputs
                half = (len(left) + 1) // 2
                self.evaluations -= len(left) * steps
                return torch.cat([self._attribute(left[:half], steps), self._attribute(left[half:], steps)])
            self.rows //= 2
