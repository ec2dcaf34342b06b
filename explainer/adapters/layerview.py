"""A layer of a torch module in the place of its input: where to differentiate, and the units its values stand on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import BaseTorchFunctionMode

from explainer.adapters.gradients import GradientView
from explainer.adapters.layers import Layers
from explainer.adapters.layouts import SeriesLayout, TextLayout
from explainer.errors import Unsupported
from explainer.inputs import take
from explainer.state import hooked, hooked_before

if TYPE_CHECKING:
    from explainer.adapters.torch import TorchModel

_ENTERING = "input of "
_HEADS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRIES = 24  # layers asked whether all of the score goes through them
_LAST_AXIS = (nn.Linear, nn.LayerNorm, nn.Embedding)
_CHANNELS_FIRST = (nn.Conv1d, nn.BatchNorm1d, nn.MaxPool1d, nn.AvgPool1d)


@dataclass(frozen=True)
class Layer:
    """What a module gives, or with ``entering`` the first tensor it is given; in its ``turn``-th run of a pass, or in each."""

    name: str
    module: nn.Module
    entering: bool = False
    turn: int | None = None

    @contextmanager
    def tapped(self, tap: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
        """``tap(value)`` in one forward pass; what it gives, if anything, goes on in the value's place."""
        turns = itertools.count()

        def passed(value: Any) -> Any:
            return _instead(value, tap(_first(value))) if self.turn in (None, next(turns)) else None

        def after(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            return passed(output)

        def before(_: nn.Module, args: tuple[Any, ...]) -> Any:
            return passed(args)

        with hooked_before(self.module, before) if self.entering else hooked(self.module, after):
            yield


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, (tuple, list)) and value else value


def _instead(value: Any, other: Tensor | None) -> Any:
    if other is None:
        return None
    return (other, *value[1:]) if isinstance(value, (tuple, list)) else other


@dataclass
class LayerView:
    """A :class:`GradientView` moved to a layer: ``x`` is what the layer gives for these inputs, in float32.

    ``others`` begins with the tensor that the inputs' own view is differentiated at, so that whatever goes past the layer stays
    as the inputs have it.
    """

    inner: GradientView
    layer: Layer
    x: Tensor = field(init=False)
    layout: UnitLayout = field(init=False)

    def __post_init__(self) -> None:
        self.x = self.read(self.inner.x, *self.inner.others)
        self.layout = UnitLayout(self.inner, self.layer, self.x)

    @property
    def others(self) -> tuple[Tensor, ...]:
        return (self.inner.x, *self.inner.others)

    @property
    def inputs(self) -> Any:
        return self.inner.inputs

    @property
    def position(self) -> int:
        return self.inner.position

    @property
    def axes(self) -> tuple[str, ...]:
        return self.layout.axes

    @property
    def notes(self) -> tuple[str, ...]:
        return self.inner.notes

    def names(self, i: int) -> tuple[str, ...]:
        return self.layout.names(i)

    def collapse(self, attribution: Tensor, i: int) -> np.ndarray:
        """Attributions of instance ``i``, shaped like one row of ``x``, on the layer's units in float64."""
        return self.layout.collapse(attribution.detach().double().cpu().numpy(), i)

    def collapse_all(self, attributions: Tensor) -> Sequence[np.ndarray]:
        values = attributions.detach().double().cpu().numpy()
        return [self.layout.collapse(one, i) for i, one in enumerate(values)]

    def extras(self, i: int) -> Mapping[str, Any]:
        return {}

    def read(self, x: Tensor, *others: Tensor) -> Tensor:
        """What the layer gives where the module's input is ``x``."""
        found: list[Tensor] = []
        with torch.no_grad(), _slow_path(), self.layer.tapped(lambda value: found.append(value.detach().clone())):
            self.inner.forward(x, *others)
        return found[0].float() if found[0].dtype in (torch.float16, torch.bfloat16) else found[0]

    def forward(self, value: Tensor, x: Tensor, *others: Tensor) -> Tensor:
        """The module's scores with ``value`` in the place of what the layer gives; differentiable."""

        def replace(given: Tensor) -> Tensor:
            if given.shape != value.shape:
                raise Unsupported(
                    f"{self.layer.name} gives {tuple(given.shape)} here and {tuple(value.shape)} elsewhere; take another layer."
                )
            return value.to(given.dtype, copy=True)  # a copy: what follows may work in place

        with _slow_path(), self.layer.tapped(replace):
            return self.inner.forward(x, *others)

    def taken(self, x: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
        """What the layer gives where the input is ``x``, ready to be differentiated at, and the module's scores from there on."""
        found: list[Tensor] = []

        def cut(given: Tensor) -> Tensor:
            found.append(given.detach().requires_grad_())
            return found[0].clone()

        with self.layer.tapped(cut):
            raw = self.inner.forward(x, *others)
        return found[0], raw

    def baseline(self, spec: Any = "auto", background: Any = None) -> Tensor:
        """What the layer gives at the baseline; see :meth:`GradientView.baseline`."""
        return self.read(self.inner.baseline(spec, background), *self.inner.others)


def _slow_path() -> AbstractContextManager[Any]:
    """Without gradients, an open mode keeps nn.TransformerEncoder off its fast path, which would leave layers out or pack tokens."""
    return nullcontext() if torch.is_grad_enabled() else BaseTorchFunctionMode()


class UnitLayout:
    """The axes of what a layer gives: units, positions or tokens x units, channels x rows x columns."""

    def __init__(self, view: GradientView, layer: Layer, x: Tensor) -> None:
        self._view, self._order = view, tuple(range(x.ndim - 1))
        self._lengths: list[Any] | None = None
        if x.ndim == 2:
            self.axes: tuple[str, ...] = ("unit",)
        elif x.ndim == 3:
            self._sequence(view, layer, x)
        elif x.ndim == 4:
            self.axes = ("channel", "row", "column")
            rows, columns, last = x.shape[1:]
            if isinstance(layer.module, _LAST_AXIS) or rows == columns != last:
                self._order = (2, 0, 1)
        else:
            raise Unsupported(
                f"{layer.name} gives a tensor of shape {tuple(x.shape)}; its units can be named in (n, units), (n, positions, units) "
                "and (n, channels, rows, columns). Take another layer."
            )
        self._first = x.shape[1:][self._order[0]]

    def _sequence(self, view: GradientView, layer: Layer, x: Tensor) -> None:
        text = view.layout if isinstance(view.layout, TextLayout) else None
        series = view.layout if isinstance(view.layout, SeriesLayout) else None
        steps = view.x.shape[1] if text is not None else max(map(len, view.inputs)) if series is not None else None
        self.axes = ("token", "unit") if text is not None else ("time", "unit") if series is not None else ("position", "unit")
        if steps is not None and steps not in x.shape[1:]:
            if len({len(one) for one in view.inputs}) > 1:
                raise Unsupported(
                    f"{layer.name} gives {tuple(x.shape[1:])} for inputs of {steps} steps: it cannot be told which belong to which input. "
                    "Explain inputs of equal length, or take another layer."
                )
            self.axes = ("position", "unit")
        elif steps is not None:
            self._lengths = list(text.tokens) if text is not None else [np.arange(len(one)) for one in view.inputs]
        if (steps is not None and x.shape[1] != steps) or isinstance(layer.module, _CHANNELS_FIRST):
            self._order = (1, 0)

    def collapse(self, values: np.ndarray, i: int) -> np.ndarray:
        turned = values.transpose(self._order)
        return turned if self._lengths is None else turned[self._lengths[i]]

    def names(self, i: int) -> tuple[str, ...]:
        kept = range(self._first) if self._lengths is None else self._lengths[i]
        told = getattr(self._view.model.preprocess, "tokens", None) if self.axes[0] == "token" else None
        if told is not None:
            named = list(told([self._view.inputs[i]])[0])
            if len(named) >= len(kept):
                return tuple(str(named[p] if len(named) > len(kept) else named[k]) for k, p in enumerate(kept))
        return tuple(f"{self.axes[0]} {k}" for k in kept)


# -- which layer ---------------------------------------------------------------------------------------------------------------


def layer_named(model: TorchModel, spec: str, inputs: Any) -> Layer:
    """The layer called ``spec``: a name as :class:`~explainer.adapters.layers.Layers` has it, "input of " one, or "auto".

    "auto" is the last before the head: a layer that all of the score goes through before one that part of it goes past, and on
    images one that still has more than one position. Raises UnknownName, or Unsupported where the score does not depend on one
    tensor of that layer's with one row per input.
    """
    found = Layers(model, inputs)
    view = model.gradient_view(take(inputs, np.zeros(3, dtype=int)))
    if spec == "auto":
        return _last_before_the_head(found, view)
    entering = isinstance(spec, str) and spec.startswith(_ENTERING)
    name = found.named(spec.removeprefix(_ENTERING) if entering else spec)[0]
    layer = _layer(found, name, entering)
    if not _probe(view, [layer])[0]:
        raise Unsupported(
            f"The layer {spec!r} gives no float tensor with one row per input that the score depends on; name another layer, or one inside "
            "or around it."
        )
    return layer


def usable_layers(model: TorchModel, inputs: Any) -> list[str]:
    """The names that :func:`layer_named` takes as they stand, in the order in which the layers are done."""
    found = Layers(model, inputs)
    layers = [_layer(found, name) for name in found.calls]
    shapes = _probe(model.gradient_view(take(inputs, np.zeros(3, dtype=int))), layers)
    return [layer.name for layer, shape in zip(layers, shapes, strict=True) if shape]


def _layer(found: Layers, name: str, entering: bool = False) -> Layer:
    return Layer(f"{_ENTERING}{name}" if entering else name, found.module(name), entering, found.calls[name].turn)


def _last_before_the_head(found: Layers, view: GradientView) -> Layer:
    layers = [_layer(found, name) for name in found.calls]
    shapes = _probe(view, layers)
    heads = [i for i, layer in enumerate(layers) if isinstance(layer.module, _HEADS) and shapes[i]]
    head = heads[-1] if heads else len(layers) - 1
    if head >= 0:
        inside = f"{layers[head].name}."
        before = [i for i in range(head) if shapes[i] and not layers[i].name.startswith(inside)][::-1]
        if view.model.modality == "image":  # the sort is stable: the last of each kind comes first
            before.sort(key=lambda i: _one_position(shapes[i]))
        for i in before[:_TRIES]:
            if _all_through(view, layers[i]):
                return layers[i]
        if before:
            return layers[before[0]]
        entering = _layer(found, layers[head].name, entering=True)
        if _probe(view, [entering])[0]:
            return entering
    raise Unsupported(
        f"{view.model.name} has no layer before its head that gives one tensor with one row per input. Use integrated_gradients, or name "
        "a layer: layer=."
    )


def _one_position(shape: tuple[int, ...]) -> bool:
    """Whether a layer's output has no places left, only units."""
    return len(shape) < 3 or max(shape[1 if len(shape) == 3 else 2 :][: len(shape) - 2]) == 1


def _all_through(view: GradientView, layer: Layer) -> bool:
    """Whether the score does not depend on the input once the layer's value is given."""
    with view.model.differentiating():
        x = view.x.clone().requires_grad_()
        with layer.tapped(lambda value: value.detach().clone()):
            raw = view.forward(x, *view.others)
        if not raw.requires_grad:
            return True
        (gradient,) = torch.autograd.grad(raw.sum(), x, allow_unused=True)
    return gradient is None or not bool(gradient.any())


def _probe(view: GradientView, layers: list[Layer]) -> list[tuple[int, ...]]:
    """Per layer the shape of the tensor by rows that it gives and the score depends on, else (); three copies of one input go in."""
    seen: dict[int, Any] = {}
    with view.model.differentiating():
        with ExitStack() as stack:
            for i, layer in enumerate(layers):
                stack.enter_context(layer.tapped(partial(seen.__setitem__, i)))
            raw = view.forward(view.x.clone().requires_grad_(), *view.others)
        whole = [i for i, value in seen.items() if _by_row(value, len(view.x))]
        found = torch.autograd.grad(raw.sum(), [seen[i] for i in whole], allow_unused=True) if whole and raw.requires_grad else []
    reached = {i for i, gradient in zip(whole, found, strict=False) if gradient is not None}
    return [tuple(seen[i].shape) if i in reached else () for i in range(len(layers))]


def _by_row(value: Any, rows: int) -> bool:
    """Whether a tensor has one row for each of some equal inputs."""
    if not (isinstance(value, Tensor) and value.is_floating_point() and value.requires_grad and value.ndim > 1 and len(value) == rows):
        return False
    return torch.allclose(value[0].float(), value[1].float(), atol=1e-4, rtol=1e-3)
