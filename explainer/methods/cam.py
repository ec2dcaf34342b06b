"""Class activation maps: which cells of a layer's map speak for a class, on convolutions and on transformers' token grids alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explainer.adapters.gradients import last_activation
from explainer.adapters.grids import Choice, at_layer, choose, spatial
from explainer.adapters.taps import ActivationTap
from explainer.adapters.torch import TorchModel, require_torch
from explainer.errors import ExplainerError, Unsupported
from explainer.inputs import take
from explainer.methods.attribution import Attribution
from explainer.methods.passes import Progress, differentiable, pulled_back, rows_that_fit, target_value
from explainer.model import Capability, Model
from explainer.state import saved_bytes
from explainer.target import Target

Combine = Callable[[Tensor, Tensor], Tensor]
_UNSURE = 0.2  # of the map's size: a sum nearer to 0 does not tell its sign


def grad_cam(
    model: Model, inputs: Any, target: Target, *, output: str = "probability", layer: str | nn.Module = "auto", relu: bool = True,
    progress: Progress | None = None,
) -> Attribution:  # fmt: skip
    r"""A layer's channels, each weighted with the mean gradient of the score over its cells.

    .. math:: L = \mathrm{ReLU}\Big(\sum_k w_k A^k\Big), \quad w_k = \frac{1}{hw} \sum_{ij} \frac{\partial f}{\partial A^k_{ij}}

    Selvaraju et al. 2017, arXiv:1610.02391 (captum's ``LayerGradCam``), who differentiate the logit: ``output="logit"``.
    Values ``(row, column, k)``: the map of the layer's ``rows x columns`` cells, enlarged bilinearly to the picture; the cells
    themselves are in ``extras["map"]``. In units of the score, but it does not add up to it.

    Parameters
    ----------
    layer : a layer's name, the layer, or "auto"; see :func:`explainer.adapters.grids.choose`.
    relu : True keeps what speaks for the class, as the paper does; False keeps the sign.

    Raises Unsupported where no layer gives a map over the picture, UnknownName for a layer that is not there.
    """
    return _weighted("grad_cam", _mean_weights, model, inputs, target, output, layer, relu, progress)


def grad_cam_plus_plus(
    model: Model, inputs: Any, target: Target, *, output: str = "probability", layer: str | nn.Module = "auto", relu: bool = True,
    progress: Progress | None = None,
) -> Attribution:  # fmt: skip
    r"""A layer's channels, each weighted with its positive gradients, so that several places of one class all count.

    .. math:: w_k = \sum_{ij} \alpha^k_{ij}\, \mathrm{ReLU}(g^k_{ij}), \quad
              \alpha^k_{ij} = \frac{(g^k_{ij})^2}{2 (g^k_{ij})^2 + \sum_{ab} A^k_{ab} (g^k_{ij})^3}, \quad g = \partial f / \partial A

    Chattopadhay et al. 2018, arXiv:1710.11063, whose f is a logit (``output="logit"``) under an exponential; its factor exp(f),
    the same for all cells of an input, is left out. :math:`\alpha` is 0 where its denominator is. Parameters, values and
    errors as for :func:`grad_cam`.
    """
    return _weighted("grad_cam_plus_plus", _higher_weights, model, inputs, target, output, layer, relu, progress)


def layer_cam(
    model: Model, inputs: Any, target: Target, *, output: str = "probability", layer: str | nn.Module = "auto", relu: bool = True,
    progress: Progress | None = None,
) -> Attribution:  # fmt: skip
    r"""A layer's activations, each weighted with its own gradient where that is positive; fine enough for early layers.

    .. math:: L_{ij} = \mathrm{ReLU}\Big(\sum_k \mathrm{ReLU}(g^k_{ij})\, A^k_{ij}\Big), \quad g = \partial f / \partial A

    Jiang et al. 2021, IEEE TIP 30:5875 (LayerCAM). Parameters, values and errors as for :func:`grad_cam`.
    """
    return _weighted("layer_cam", _own_weights, model, inputs, target, output, layer, relu, progress)


def eigen_cam(
    model: Model, inputs: Any, target: Target, *, layer: str | nn.Module = "auto", progress: Progress | None = None
) -> Attribution:  # fmt: skip
    r"""A layer's activations along their first principal direction: what it holds most of, whatever the class.

    .. math:: L = A v_1, \quad A = U \Sigma V^T \text{ of shape } (hw, \text{channels})

    Muhammad & Yeasin 2020, arXiv:2008.00299; not centred, as in the paper. A singular vector has no sign: the one is taken
    with which the map's sum is positive. The same map for every target. Values as for :func:`grad_cam`, in units of the layer.
    """
    torch_model = require_torch(model, "eigen_cam")
    choice = choose(torch_model, inputs, layer, gradient=False)
    found = Maps(torch_model, inputs, target, choice, progress)
    found.notes.append("Eigen-CAM does not depend on the target: it shows what the layer holds most of, not what speaks for a class.")
    unsure = 0
    for rows in torch_model.batches(inputs):
        cells = activations(torch_model, choice, take(inputs, rows)).flatten(2).transpose(1, 2)  # (n, cells, channels)
        left, strength, _ = torch.linalg.svd(cells, full_matrices=False)
        first = left[..., 0] * strength[:, :1]
        total, size = first.sum(1, keepdim=True), first.abs().sum(1, keepdim=True)
        unsure += int((total.abs() < _UNSURE * size).sum())
        drawn = (torch.where(total < 0, -first, first)).reshape(len(rows), choice.grid.rows, choice.grid.columns)
        for j in range(target.k):
            found.keep(rows, j, drawn)
        found.evaluations += len(rows)
    if unsure:
        found.notes.append(f"For {unsure} inputs the map has as much of one sign as of the other: which is which is arbitrary there.")
    return found.attribution({})


def fits(model: Model) -> Capability | None:
    """What a class activation map is on ``model``: the layer it would take, or why there is none."""
    return _fits(model, gradient=True, more="it does not add up to the score")


def fits_without_gradient(model: Model) -> Capability | None:
    """The same for maps that need no gradient."""
    return _fits(model, gradient=False, more="it does not add up to the score")


def fits_any_class(model: Model) -> Capability | None:
    """The same for a map that knows no class."""
    return _fits(model, gradient=False, more="it is the same for every class")


def _fits(model: Model, gradient: bool, more: str) -> Capability | None:
    sample = model.sample() if isinstance(model, TorchModel) else None
    if not isinstance(model, TorchModel) or sample is None:
        return None
    if gradient and model.anatomy().slope_obstacle:
        return Capability("unsupported", f"Gradients cannot be had: {model.anatomy().slope_obstacle}. Use score_cam.")
    try:
        grid = choose(model, sample, gradient=gradient).grid
    except Unsupported as error:
        return Capability("unsupported", str(error))
    except ExplainerError:  # the module takes no picture of noise, which says nothing about those it takes
        return None
    return Capability("approximate", f"A coarse map, {grid.rows} x {grid.columns} cells of layer {grid.layer!r}; {more}.")


# -- the maps of a batch -----------------------------------------------------------------------------------------------------


class Maps:
    """The maps of all inputs: collected batch by batch, enlarged to the picture, and said where they come from."""

    def __init__(self, model: TorchModel, inputs: np.ndarray, target: Target, choice: Choice, progress: Progress | None) -> None:
        self._model, self._target, self._grid, self._progress = model, target, choice.grid, progress
        self._size = inputs.shape[1:3]
        grid = choice.grid
        self._cells = np.zeros((len(inputs), grid.rows, grid.columns, target.k))
        self._values = np.zeros((len(inputs), *self._size, target.k))
        self.evaluations = 0
        self.notes = [f"The map of layer {grid}: {choice.why}."]
        self._done = 0

    def keep(self, rows: np.ndarray, j: int, cells: Tensor) -> None:
        """Store the maps ``(rows, h, w)`` of functional ``j``."""
        self._cells[rows, ..., j] = cells.cpu().numpy()
        self._values[rows, ..., j] = enlarged(cells, self._size).cpu().numpy()
        self._done += len(rows)
        if self._progress is not None:
            self._progress(self._done, len(self._cells) * self._target.k)

    def attribution(self, parameters: dict[str, Any]) -> Attribution:
        empty = np.flatnonzero(~self._cells.any(axis=(1, 2)).all(axis=-1))
        if len(empty):
            self.notes.append(
                f"The map of {len(empty)} of {len(self._cells)} inputs (first: {empty[0]}) is 0 everywhere: in this layer nothing speaks "
                "for what is explained there. relu=False, where the method has it, shows what speaks against it."
            )
        grid = self._grid
        shown = {"layer": grid.layer, "cells": f"{grid.rows} x {grid.columns}"} | ({"call": grid.call} if grid.calls > 1 else {})
        return Attribution(
            values=list(self._values), axes=("row", "column"), names=[()] * len(self._values), evaluations=self.evaluations,
            extras={"map": list(self._cells)}, parameters={**parameters, **shown}, notes=tuple(self.notes),
        )  # fmt: skip


def enlarged(cells: Tensor, size: tuple[int, ...]) -> Tensor:
    """``(n, h, w)`` to ``(n, H, W)``, bilinearly, each cell's value at its middle."""
    return F.interpolate(cells[:, None], size=tuple(size), mode="bilinear", align_corners=False)[:, 0]


def activations(model: TorchModel, choice: Choice, inputs: np.ndarray) -> Tensor:
    """The layer's maps ``(n, channels, h, w)`` in float64."""
    seen: list[Tensor] = []
    with model.scoring(), at_layer(model, choice.grid, lambda tensor: seen.append(choice.grid.maps(tensor).double().clone())):
        model.forward(model.encode(inputs), core=True)
    return seen[0]


def _weighted(
    name: str, combine: Combine, model: Model, inputs: Any, target: Target, output: str, layer: str | nn.Module, relu: bool,
    progress: Progress | None,
) -> Attribution:  # fmt: skip
    torch_model = require_torch(model, name)
    choice = choose(torch_model, inputs, layer)
    found = Maps(torch_model, inputs, target, choice, progress)
    upcast = last_activation(torch_model, torch_model.encode(inputs[:1]))
    with torch_model.differentiating():
        for rows in _batches(torch_model, choice, inputs, upcast):
            raw, point = _from_layer(torch_model, choice, take(inputs, rows), upcast)
            numbers = torch.from_numpy(np.asarray(rows))
            maps = choice.grid.maps(point.detach()).double()
            for j in range(target.k):
                goal = target.only(j)

                def head(outputs: Tensor, goal: Target = goal, numbers: Tensor = numbers) -> Tensor:
                    return target_value(torch_model, goal, output, outputs, numbers)

                with differentiable():
                    gradient = pulled_back(raw, point, head, goal, keep=j < target.k - 1, batch_axis=choice.grid.batch_axis)
                drawn = combine(maps, choice.grid.maps(gradient))
                found.keep(rows, j, drawn.clamp(min=0) if relu else drawn)
            found.evaluations += len(rows)
    return found.attribution({"relu": relu})


def _batches(model: TorchModel, choice: Choice, inputs: np.ndarray, upcast: int | None) -> Iterator[np.ndarray]:
    """Batches whose way back from the scores to the layer fits into memory."""
    kept, which = spatial(model, inputs).kept, (choice.grid.layer, choice.grid.call)
    if which not in kept:
        kept[which] = saved_bytes(model.core, lambda: _from_layer(model, choice, inputs[:1], upcast))
    yield from model.batches(inputs, rows_that_fit(kept[which], model.device.startswith("cuda")))


def _from_layer(model: TorchModel, choice: Choice, inputs: np.ndarray, upcast: int | None) -> tuple[Tensor, Tensor]:
    """The module's outputs, and the layer's output as the point they are differentiated at; nothing before it is kept."""
    points: list[Tensor] = []

    def start(tensor: Tensor) -> Tensor:
        torch.set_grad_enabled(True)
        points.append(tensor.detach().clone().requires_grad_())
        return points[0].clone()  # a layer that works in place may not touch a leaf

    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(at_layer(model, choice.grid, start))
        if upcast is not None:
            stack.enter_context(ActivationTap(upcast))
        raw = model.forward(model.encode(inputs), core=True)
    return raw, points[0]


def _mean_weights(maps: Tensor, gradient: Tensor) -> Tensor:
    return (gradient.mean((2, 3), keepdim=True) * maps).sum(1)


def _higher_weights(maps: Tensor, gradient: Tensor) -> Tensor:
    square = gradient**2
    below = 2 * square + maps.sum((2, 3), keepdim=True) * gradient**3
    alpha = torch.where(below != 0, square / torch.where(below != 0, below, 1), 0)
    return ((alpha * gradient.clamp(min=0)).sum((2, 3), keepdim=True) * maps).sum(1)


def _own_weights(maps: Tensor, gradient: Tensor) -> Tensor:
    return (gradient.clamp(min=0) * maps).sum(1)
