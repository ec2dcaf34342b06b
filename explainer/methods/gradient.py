"""Gradient methods on torch models: saliency, input x gradient, and integrated gradients with as many steps as the error asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from explainer.adapters.backward import Rules
from explainer.adapters.torch import require_torch
from explainer.errors import InvalidInput
from explainer.inputs import take
from explainer.methods.attribution import Attribution
from explainer.methods.passes import Batch, Functional, Progress, Run
from explainer.methods.references import per_input, said
from explainer.methods.way import Rung, Way, gauss, kronrod, nested, settled
from explainer.model import Model
from explainer.target import Target

_LADDER = (kronrod(), nested(32, new=True), *map(nested, (64, 128, 256, 512)))
# From a constant baseline a layer norm makes most of the score's difference at once: nodes down to a millionth of the way see it.
_CROWDED = (nested(64, new=True, power=6), *(nested(steps, power=6) for steps in (128, 256, 512)))
_BEGINNING, _AT_ONCE = 0.01, 0.5  # a way is steep where the first hundredth of it makes half of the difference
_NONE = 1e-6  # of the scale: the largest value, where a change of the values is not looked at below that
_FLOOR = 0.01  # a difference from the baseline below 1 % of the scale is held to the error allowed at 1 %


def saliency(
    model: Model, inputs: Any, target: Target, *, output: str = "probability", absolute: bool = True, layer: str | None = None,
    progress: Progress | None = None,
) -> Attribution:  # fmt: skip
    """The gradient of the target at the input: how strongly it reacts to a tiny change of each part.

    ``|d f / d x|`` per entry the module sees, summed over a feature's entries (channels of a pixel, one-hot columns,
    embedding dimensions of a word), per unit of what the module sees (after preprocess). Simonyan, Vedaldi & Zisserman
    2014, arXiv:1312.6034, who take the maximum over channels where the sum stands here.

    Parameters
    ----------
    absolute : False keeps the sign (and lets entries of one feature cancel).
    layer : the gradient is taken at what this layer gives, unit by unit: a dotted name, the layer, or "auto" for the last before the head.

    Raises Unsupported on models without gradients, UnknownName for a layer that does not exist.
    """
    return at_the_input(
        "saliency", model, inputs, target, output, layer, progress, lambda x, g: g.abs() if absolute else g, {"absolute": absolute}
    )


def input_x_gradient(
    model: Model, inputs: Any, target: Target, *, output: str = "probability", layer: str | None = None, progress: Progress | None = None
) -> Attribution:
    """The gradient of the target at the input times the input: what each part would add if the model were linear from zero on.

    ``x * d f / d x``, summed over a feature's entries, in units of the score; x is what the module sees, after preprocess, or
    the embedding of a token. Shrikumar, Greenside, Shcherbina & Kundaje 2016, arXiv:1605.01713 (captum's ``InputXGradient``,
    and with ``layer`` its ``LayerGradientXActivation``).

    Parameters
    ----------
    layer : see :func:`saliency`; the values are then the layer's activations times the gradient there.

    Raises Unsupported on models without gradients, UnknownName for a layer that does not exist.
    """
    return at_the_input("input_x_gradient", model, inputs, target, output, layer, progress, lambda x, g: x * g, {})


def at_the_input(
    name: str, model: Model, inputs: Any, target: Target, output: str, layer: str | None, progress: Progress | None,
    formula: Callable[[Tensor, Tensor], Tensor], parameters: dict[str, Any], rules: Callable[[], Rules] | None = None,
) -> Attribution:  # fmt: skip
    """A method that takes one gradient, at the input, and makes its values of the two."""
    torch_model = require_torch(model, name)
    run = Run(torch_model, inputs, target, output, progress, layer)
    with torch_model.differentiating():
        for batch in run.batches(1):
            for j in range(target.k):
                gradient = Functional(batch, target.only(j), rules).gradient(batch.view.x, batch.rest)
                run.evaluations += len(batch.rows)
                run.keep(batch, j, formula(batch.view.x, gradient))
    return run.attribution(parameters)


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
    layer: str | None = None,
    progress: Progress | None = None,
) -> Attribution:
    """Each part's share of ``f(x) - f(x')``, from the gradients along the straight way from a baseline x' to the input x.

    ``(x - x') * integral over a in [0, 1] of the gradient at x' + a (x - x')``, by quadrature (captum's
    ``IntegratedGradients``, and with ``layer`` its ``LayerIntegratedGradients``). Sundararajan, Taly & Yan 2017, arXiv:1703.01365.

    Parameters
    ----------
    baseline, background : see :meth:`~explainer.adapters.gradients.GradientView.baseline`.
    steps : an int for that many of Gauss-Legendre, or "auto": 15 (:func:`~explainer.methods.way.kronrod`), and for the inputs whose
        values then miss ``tolerance`` a nested rule of 32, doubled to at most 512 (:func:`~explainer.methods.way.nested`), which takes
        no gradient twice; of 64 to 512 with its nodes crowded at the baseline where the score changes most there, as one more
        evaluation tells.
    tolerance : both the completeness error aimed at, as a share of the difference to be explained, and how much a finer rule may
        still change a value, as a share of the largest; the latter is the check "integration" of the verdict.
    layer : see :func:`saliency`; x and x' are then what the layer gives for input and baseline, and what goes past the layer
        stays as the input has it: the values add up to the score minus that with the layer at x'.

    Raises Unsupported on models without gradients, InvalidInput for a baseline that does not fit, UnknownName for a layer.
    """
    torch_model = require_torch(model, "integrated_gradients")
    if steps != "auto" and (isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or steps < 1):
        raise InvalidInput(f"steps={steps!r} is not valid; pass 'auto' or a whole number of at least 1.")
    ladder = _LADDER if steps == "auto" else (gauss(int(steps)),)
    reference = per_input(torch_model, baseline, len(inputs))
    run = Run(torch_model, inputs, target, output, progress, layer)
    base = np.empty((len(inputs), target.k))
    taken, missed = np.zeros(len(inputs), dtype=int), np.zeros(len(inputs), dtype=bool)
    change = np.zeros(len(inputs))
    with torch_model.differentiating():
        for batch in run.batches(len(ladder[0].nodes)):
            start = batch.view.baseline(take(reference, batch.rows) if reference is not None else baseline, background)
            for j in range(target.k):
                path = _Path(run, batch, start, target.only(j))
                values = path.integrate(ladder, tolerance)
                base[batch.rows, j] = path.first
                taken[batch.rows] = np.maximum(taken[batch.rows], path.steps)
                missed[batch.rows] |= path.missed
                change[batch.rows] = np.maximum(change[batch.rows], path.change)
                run.keep(batch, j, values)
    if missed.any() and steps == "auto":
        count = int(missed.sum())
        run.notes.append(f"{count} of {len(inputs)} inputs keep a completeness error above {tolerance:.1%} at {ladder[-1].steps} steps.")
    most = int(taken.max())
    rule = "Gauss-Legendre" if steps != "auto" else "Gauss-Kronrod" if most == ladder[0].steps else "Gauss-Kronrod, then nested"
    found = run.attribution({**said(torch_model, baseline, background), "steps": most, "tolerance": tolerance, "quadrature": rule})
    if steps == "auto":
        found.checks = [{"integration": settled(float(one), tolerance)} for one in change]
    found.base = base
    return found


class _Path:
    """The gradients of one functional along the way from the baseline to the inputs of one batch, integrated."""

    def __init__(self, run: Run, batch: Batch, start: Tensor, goal: Target) -> None:
        self.view, self.start, self.run = batch.view, start, run
        self.function = Functional(batch, goal)
        self._way = Way(run, batch.view, batch.numbers, start)
        with torch.no_grad():
            self.first, self.last = (self.function(x, *batch.rest).cpu().numpy() for x in (start, batch.view.x))
        scale = 1.0 if batch.output == "probability" else np.maximum(np.abs(self.first), np.abs(self.last))
        self._unit = np.maximum(np.abs(self.last - self.first), np.maximum(_FLOOR * scale, 1e-12))
        run.evaluations += 2 * len(self.first)
        self.steps = np.zeros(len(self.first), dtype=int)
        self.missed = np.zeros(len(self.first), dtype=bool)
        self.change = np.zeros(len(self.first))
        self._least = _NONE * np.broadcast_to(scale, self.first.shape)

    def integrate(self, ladder: tuple[Rung, ...], tolerance: float) -> Tensor:
        """Values shaped like ``x``; only inputs above the tolerance, in their sum or in what the last rung changed, go on to the next."""
        self._values = torch.zeros_like(self.view.x, dtype=torch.float64)
        self._means, self._error = self._values.clone(), np.full(len(self.first), np.inf)
        left = self._climb(ladder[:1], np.arange(len(self.first)), tolerance)
        if len(ladder) > 1 and len(left):
            steep = self._steep(left)
            self._climb(ladder[1:], left[~steep], tolerance)
            self._climb(_CROWDED, left[steep], tolerance)
        self.missed = self._error > tolerance
        return self._values

    def _climb(self, rungs: tuple[Rung, ...], left: np.ndarray, tolerance: float) -> np.ndarray:
        """Integrate the rows ``left`` by one rule after the other; those that miss the tolerance even after the last."""
        for rung in rungs:
            if len(left) == 0:
                break
            index = torch.from_numpy(left).to(self._values.device)
            mean, coarse = self._mean(rung, left)
            self._means[index] = rung.carried * self._means[index] + mean
            way = self.view.x[index] - self.start[index]
            found, before = self._means[index] * way, self._values if coarse is None else coarse * way
            self._error[left] = np.abs(found.flatten(1).sum(1).cpu().numpy() - (self.last - self.first)[left]) / self._unit[left]
            after = self._values.clone()
            after[index] = found
            if coarse is not None or self.steps[left].all():
                self.change[left] = self._changed(before, after, left)
            self._values, self.steps[left] = after, rung.steps
            left = left[np.maximum(self._error, self.change)[left] > tolerance]
        return left

    def _steep(self, left: np.ndarray) -> np.ndarray:
        """Which of the rows ``left`` change the score most where the way begins."""
        with torch.no_grad():
            walked = self._way.walk(np.array([_BEGINNING]), left, lambda points, rest: (self.function(points, *rest),))
            early = np.concatenate([scores.cpu().numpy()[0] for _, (scores,) in walked])
        steep: np.ndarray = np.abs(early - self.first[left]) > _AT_ONCE * self._unit[left]
        return steep

    def _changed(self, before: Tensor, after: Tensor, left: np.ndarray) -> np.ndarray:
        """The largest change of a named part's value, as a share of the largest value, of the rows ``left``."""
        earlier, later = self.view.collapse_all(before), self.view.collapse_all(after)
        moved, largest = (np.array([np.abs(part).max(initial=0.0) for part in parts]) for parts in (
            [later[i] - earlier[i] for i in left], [later[i] for i in left],
        ))  # fmt: skip
        return moved / np.maximum(largest, np.maximum(self._least[left], 1e-300))

    def _mean(self, rung: Rung, left: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """The mean gradient, and by the rung's coarser rule."""
        rules = [rung.weights] if rung.coarse is None else [rung.weights, rung.coarse]
        total = torch.zeros((len(rules), len(left), *self.view.x.shape[1:]), dtype=torch.float64, device=self.view.x.device)
        weights = torch.from_numpy(np.stack(rules)).to(total)
        for chunk, (gradients,) in self._way.walk(rung.nodes, left, lambda points, rest: (self.function.gradient(points, rest),)):
            total += torch.tensordot(weights[:, chunk], gradients, 1)
            del gradients  # before the next ones are made
            self.run.tick()
        return total[0], total[1] if len(rules) > 1 else None
