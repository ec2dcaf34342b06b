"""What the units of a layer do for a score: conductance, and internal influence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from explainer.adapters.layerview import LayerView, layer_named
from explainer.adapters.torch import TorchModel, require_torch
from explainer.errors import ExplainerError, InvalidInput
from explainer.inputs import take
from explainer.methods.attribution import Attribution
from explainer.methods.passes import Batch, Functional, Progress, Run
from explainer.methods.references import per_input, said
from explainer.methods.way import Rung, Way, gauss, nested, settled
from explainer.model import Capability, Model
from explainer.target import Target

_LADDER = (32, 128, 512)
_NESTED = (nested(16, new=True), *map(nested, (32, 64, 128, 256, 512)))
_FLOOR = 0.01  # a difference from the baseline below 1 % of the scale is held to the error allowed at 1 %


def layer_conductance(
    model: Model,
    inputs: Any,
    target: Target,
    *,
    layer: str = "auto",
    output: str = "probability",
    baseline: Any = "auto",
    background: Any = None,
    steps: int | Literal["auto"] = "auto",
    tolerance: float = 0.01,
    progress: Progress | None = None,
) -> Attribution:
    """What flows through each unit of a layer on the way from a baseline x' to the input x: shares of ``f(x) - f(x')``.

    ``integral over a in [0, 1] of df/dy_j * dy_j/da``, y the layer's units along ``x' + a (x - x')``. Dhamdhere, Sundararajan & Yan
    2018, arXiv:1805.12233 (captum's ``LayerConductance``). As a Stieltjes integral over y_j by the trapezoid rule. The values add up
    to ``f(x) - f(x')`` where all of the score goes through the layer, which the verdict measures.

    Parameters
    ----------
    layer : a dotted name of the module's, "input of " and a name, or "auto": the last layer before the head that all of the score
        goes through, on images the last of those with more than one position.
    baseline, background : see :meth:`~explainer.adapters.gradients.GradientView.baseline`.
    steps : an int, or "auto": 32, for inputs that miss the difference by more than ``tolerance`` of it 128, then 512.
    tolerance : the completeness error aimed at.

    Raises Unsupported on models without gradients or such a layer, UnknownName for a layer that does not exist, InvalidInput for a
    baseline that does not fit.
    """
    ladder = _LADDER if steps == "auto" else (_whole(steps),)

    def conductance(path: _UnitPath) -> Tensor:
        return path.conductance(ladder, tolerance)

    found, outcomes = _attribute("layer_conductance", model, inputs, target, layer, output, baseline, background, progress, conductance)
    most, missed = max(steps for steps, _ in outcomes), sum(count for _, count in outcomes)
    if missed:
        found.notes = (
            *found.notes,
            f"{missed} values of {len(found.values)} inputs miss the difference by more than {tolerance:.1%} at {ladder[-1]} steps: part "
            "of the score goes past this layer, or more steps= are needed.",
        )
    found.parameters = {**found.parameters, "steps": most, "tolerance": tolerance, "quadrature": "trapezoid over the units"}
    return found


def internal_influence(
    model: Model,
    inputs: Any,
    target: Target,
    *,
    layer: str = "auto",
    output: str = "probability",
    baseline: Any = "auto",
    background: Any = None,
    steps: int | Literal["auto"] = "auto",
    tolerance: float = 0.01,
    progress: Progress | None = None,
) -> Attribution:
    """How the score reacts to each unit of a layer, averaged over the way from a baseline x' to the input x.

    ``integral over a in [0, 1] of df/dy_j at x' + a (x - x')``, y the layer's units. Leino, Sen, Datta, Fredrikson & Li 2018,
    arXiv:1802.03788, with the straight way as distribution of interest (captum's ``InternalInfluence``). In units of
    the score per unit of the layer.

    Parameters
    ----------
    layer, baseline, background : see :func:`layer_conductance`.
    steps : points of a Gauss-Legendre quadrature, or "auto": 16 steps of a nested rule (:func:`~explainer.methods.way.nested`), doubled
        to at most 512 for the inputs whose values still change by more than ``tolerance`` of the largest.
    tolerance : the change aimed at.

    Raises as :func:`layer_conductance` does.
    """
    ladder = _NESTED if steps == "auto" else (gauss(_whole(steps)),)
    changes: dict[int, float] = {}

    def influence(path: _UnitPath) -> Tensor:
        values, change = path.influence(ladder, tolerance)
        changes.update(
            {int(row): max(float(found), changes.get(int(row), 0.0)) for row, found in zip(path.batch.rows, change, strict=True)}
        )
        return values

    found, outcomes = _attribute("internal_influence", model, inputs, target, layer, output, baseline, background, progress, influence)
    rule = "Gauss-Legendre" if steps != "auto" else "nested"
    found.parameters = {**found.parameters, "steps": max(most for most, _ in outcomes), "tolerance": tolerance, "quadrature": rule}
    found.base = None
    if steps == "auto":
        found.checks = [{"integration": settled(changes[i], tolerance)} for i in range(len(found.values))]
    return found


def fits(model: Model) -> Capability | None:
    """Unsupported where no layer before the head can stand in the input's place."""
    if not isinstance(model, TorchModel):
        return None
    sample = model.sample()
    if sample is None:
        return None
    try:
        layer_named(model, "auto", sample)
    except ExplainerError as error:
        return Capability("unsupported", str(error))
    return None


def _whole(steps: Any) -> int:
    if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or steps < 1:
        raise InvalidInput(f"steps={steps!r} is not valid; pass a whole number of at least 1.")
    return int(steps)


def _attribute(
    name: str, model: Model, inputs: Any, target: Target, layer: str, output: str, baseline: Any, background: Any,
    progress: Progress | None, values: Callable[[_UnitPath], Tensor],
) -> tuple[Attribution, list[tuple[int, int]]]:  # fmt: skip
    """Values, and per batch and functional the steps taken and how many inputs they did not suffice for."""
    torch_model = require_torch(model, name)
    reference = per_input(torch_model, baseline, len(inputs))
    run = Run(torch_model, inputs, target, output, progress, layer)
    base, outcomes = np.empty((len(inputs), target.k)), []
    with torch_model.differentiating():
        for batch in run.batches(_LADDER[0]):
            assert isinstance(batch.view, LayerView)
            start = batch.view.inner.baseline(take(reference, batch.rows) if reference is not None else baseline, background)
            for j in range(target.k):
                path = _UnitPath(run, batch, start, target.only(j))
                run.keep(batch, j, values(path))
                base[batch.rows, j] = path.first
                outcomes.append((int(path.steps.max()), int(path.missed.sum())))
    found = run.attribution(said(torch_model, baseline, background))
    found.base = base
    return found, outcomes


class _UnitPath:
    """A layer's units and the gradients there, for one functional, along the way of the inputs of one batch."""

    def __init__(self, run: Run, batch: Batch, start: Tensor, goal: Target) -> None:
        assert isinstance(batch.view, LayerView)
        self.run, self.batch, self.function = run, batch, Functional(batch, goal)
        inner = batch.view.inner
        self._way = Way(run, inner, batch.numbers, start)
        with torch.no_grad():
            self.first, self.last = (
                self.function.head(inner.forward(x, *inner.others).double(), batch.numbers).cpu().numpy() for x in (start, inner.x)
            )
        run.evaluations += 2 * len(self.first)
        scale = 1.0 if batch.output == "probability" else np.maximum(np.abs(self.first), np.abs(self.last))
        self._unit = np.maximum(np.abs(self.last - self.first), np.maximum(_FLOOR * scale, 1e-12))
        self.steps, self.missed = np.zeros(len(self.first), dtype=int), np.zeros(len(self.first), dtype=bool)

    def conductance(self, ladder: tuple[int, ...], tolerance: float) -> Tensor:
        values = torch.zeros_like(self.batch.view.x, dtype=torch.float64)
        error, left = np.full(len(self.first), np.inf), np.arange(len(self.first))
        for steps in ladder:
            found = self._stieltjes(steps, left)
            total = found.flatten(1).sum(1).cpu().numpy()
            missing = np.abs(total - (self.last - self.first)[left]) / self._unit[left]
            better = missing < error[left]
            chosen = left[better]
            values[torch.from_numpy(chosen)] = found[torch.from_numpy(better)]
            error[chosen], self.steps[chosen] = missing[better], steps
            left = left[missing > tolerance]
            if len(left) == 0:
                break
        self.missed = error > tolerance
        return values

    def _stieltjes(self, steps: int, left: np.ndarray) -> Tensor:
        """The gradients integrated over the units: the mean of two neighbours times the change between them."""
        total, before = self._nothing(left), None
        for _, (units, gradients) in self._way.walk(np.linspace(0, 1, steps + 1), left, self.function.at_layer):
            if before is not None:
                units, gradients = (torch.cat([old, new]) for old, new in zip(before, (units, gradients), strict=True))
            total += ((gradients[1:] + gradients[:-1]) / 2 * units.diff(dim=0)).sum(0)
            before = units[-1:], gradients[-1:]
            self.run.tick()
        return total

    def influence(self, ladder: tuple[Rung, ...], tolerance: float) -> tuple[Tensor, np.ndarray]:
        """Mean gradients, and by how much of the largest the last doubling of the steps changed them ``(n,)``."""
        left = np.arange(len(self.first))
        values, change = self._nothing(left), np.full(len(left), np.inf)
        for rung in ladder:
            index = torch.from_numpy(left).to(values.device)
            before, found = values[index], self._mean(rung, left) + rung.carried * values[index]
            values[index], self.steps[left] = found, rung.steps
            if rung.carried:
                moved, largest = ((part.flatten(1).abs().amax(1)).cpu().numpy() for part in (found - before, found))
                change[left] = moved / np.maximum(largest, 1e-300)
            left = left[change[left] > tolerance]
            if len(left) == 0:
                break
        return values, change

    def _mean(self, rung: Rung, left: np.ndarray) -> Tensor:
        total = self._nothing(left)
        weights = torch.from_numpy(rung.weights).to(total)
        for chunk, (_, gradients) in self._way.walk(rung.nodes, left, self.function.at_layer):
            total += torch.tensordot(weights[chunk], gradients, 1)
            self.run.tick()
        return total

    def _nothing(self, left: np.ndarray) -> Tensor:
        x = self.batch.view.x
        return torch.zeros((len(left), *x.shape[1:]), dtype=torch.float64, device=x.device)
