"""One unit of a layer, or a direction in it, as a model of its own: every method then explains what makes it fire."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from explainer.adapters.encoding import Arguments
from explainer.adapters.layers import Layers, View
from explainer.adapters.torch import TorchModel
from explainer.errors import InvalidInput, unknown
from explainer.inspection.network import network
from explainer.model import Model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from explainer.adapters.anatomy import Anatomy
    from explainer.adapters.gradients import GradientView

AT = ("mean", "max", "first", "last")


def neuron(model: Any, layer: str, unit: int | Sequence[float] | np.ndarray, *, at: str | int | tuple[int, ...] = "mean") -> Model:
    r"""One unit's activation as a regression model, so that :func:`explainer.explain` says which input parts make it fire.

    The score is :math:`a_u(x)`, the unit's activation, or for a direction :math:`a(x) \cdot v / \lVert v \rVert`. The module is
    the caller's own, run as it is and read at the layer; it is neither changed nor copied.

    Parameters
    ----------
    layer : a name of ``module.named_modules()``; ``name#1`` is the second run of a module that is used several times.
    unit : the number of a channel or feature, or a vector with one entry per unit: a direction, of which the length is ignored.
    at : where a layer has positions (pixels, tokens, steps): "mean" or "max" over those that are no padding, the "first" or
        "last" of them, or one position: a number, or (row, column).

    Raises UnknownName, InvalidInput, and Unsupported where the layer cannot be read or the model is no torch module.
    """
    source = network(model, "neuron")
    sample = source.sample()
    if sample is None:
        raise InvalidInput(f"{source.name} was wrapped without an input to look at its layers with; pass background= to wrap().")
    found = Layers(source, sample)
    name = found.named(layer)[0]
    vector, label = _vector(unit, found.calls[name].units, name)
    if not (at in AT or isinstance(at, (int, np.integer, tuple))) or isinstance(at, bool):
        raise unknown("position", at, (*AT, "a number", "(row, column)"))
    place = (int(at),) if isinstance(at, (int, np.integer)) else at
    where = place if isinstance(place, str) else ", ".join(map(str, place))
    return _Neuron(source, found, name, vector, place, label if not found.calls[name].positions else f"{label} ({where})")


class _Read(nn.Module):
    """The caller's module, giving one number per row read at one of its layers."""

    def __init__(self, found: Layers, layer: str, vector: Tensor, at: str | tuple[int, ...]) -> None:
        super().__init__()
        self.core = found.model.core
        self.layer, self.at = layer, at
        self.register_buffer("vector", vector)
        self.training = False  # its own flag only: those of the caller's module are the caller's
        self._found = found

    def extra_repr(self) -> str:
        return f"layer={self.layer}, at={self.at}"

    def forward(self, *tensors: Tensor, **named: Tensor) -> Tensor:
        return self.read(Arguments((*tensors, *named.values()), tuple(named) if named else None), Arguments.call)

    def read(self, arguments: Arguments, call: Callable[[Arguments, nn.Module], Any]) -> Tensor:
        """The unit's activation ``(n, 1)`` while ``call`` runs the module."""
        read: list[Tensor] = []

        def keep(seen: View) -> None:
            read.append(self._score(seen))

        with self._found.doing(arguments, {self.layer: keep}, self.core):
            call(arguments, self.core)
        if not read:
            raise InvalidInput(f"The layer {self.layer!r} did not run on these inputs.")
        return read[0][:, None]

    def _score(self, seen: View) -> Tensor:
        values = seen.values @ self.vector.to(seen.values)
        if values.ndim == 1:
            return values
        if isinstance(self.at, str):
            return View(values[..., None], seen.real, seen.put).pooled(self.at)[:, 0]
        shape = tuple(values.shape[1:])
        if len(self.at) != len(shape) or any(not -size <= place < size for place, size in zip(self.at, shape, strict=True)):
            raise InvalidInput(f"at={self.at} is no position of the layer {self.layer!r}, which has {shape} on these inputs.")
        return values[(slice(None), *self.at)]


class _Neuron(TorchModel):
    """The model of one unit; how inputs are read, modes and devices are those of the model it is read from."""

    def __init__(self, source: TorchModel, found: Layers, layer: str, vector: np.ndarray, at: str | tuple[int, ...], label: str) -> None:
        self._source = source
        module = _Read(found, layer, torch.tensor(vector, dtype=torch.float32, device=source.device), at)
        super().__init__(
            module, source.preprocess, modality=source.modality, class_names=(label,), feature_names=source.feature_names,
            task="regression", returns="value", background=source.background, name=f"{label} of {source.name}",
        )  # fmt: skip
        self.dtype = source.dtype
        self.padding_counts = source.padding_counts
        self._sample = source.sample()

    def canonical(self, inputs: Any) -> Any:
        return self._source.canonical(inputs)

    def answer(self, arguments: Arguments, module: nn.Module) -> Tensor:
        # An encoder that knows where scores stand in the module's output (.read) would look for them in the activation.
        return module.read(arguments, super().answer)  # type: ignore[operator]

    def gradient_view(self, inputs: Any) -> GradientView:
        if type(self._source).gradient_view is not TorchModel.gradient_view:
            self._source.gradient_view(inputs)  # what it refuses is refused of its units
        return super().gradient_view(inputs)

    def anatomy(self) -> Anatomy:
        why = "attention is traced to where the score is read, and a unit is read inside the network"
        return dataclasses.replace(super().anatomy(), has_attention=False, attention_obstacle=why)

    def notes(self, given: Any) -> tuple[str, ...]:
        """What the source says of how these inputs are read (such as that they are cut)."""
        return getattr(self._source, "notes", lambda _: ())(given)

    def fingerprint(self) -> str:
        read = self.core
        words = f"{self._source.fingerprint()}{read.layer}{read.at}"
        return hashlib.sha256(words.encode() + read.vector.cpu().numpy().tobytes()).hexdigest()

    def on(self, module: nn.Module) -> Self:
        twin = super().on(module)
        twin._source = self._source.on(module.core)  # type: ignore[arg-type]
        return twin

    def scoring(self) -> AbstractContextManager[None]:
        return self._source.scoring()

    def differentiating(self) -> AbstractContextManager[None]:
        return self._source.differentiating()


def _vector(unit: Any, units: int, layer: str) -> tuple[np.ndarray, str]:
    """One entry per unit, of length 1, and its name."""
    if isinstance(unit, (int, np.integer)) and not isinstance(unit, bool):
        if not 0 <= unit < units:
            raise InvalidInput(f"The layer {layer!r} has the units 0 to {units - 1}; unit={unit} came.")
        return np.eye(1, units, int(unit))[0], f"{layer}[{unit}]"
    try:
        vector = np.asarray(unit, dtype=np.float64)
    except (TypeError, ValueError):
        vector = np.empty(0)
    if vector.shape != (units,) or not np.isfinite(vector).all() or not vector.any():
        raise InvalidInput(
            f"unit= is a number from 0 to {units - 1}, or {units} finite numbers, not all 0: the layer {layer!r} has so many units."
        )
    return vector / np.linalg.norm(vector), f"direction in {layer}"
