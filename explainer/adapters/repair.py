"""A torch module made fit for methods that hook its layers: every activation call a layer of its own, nothing in place.

Hooks see layers only: a functional activation escapes them, one layer called twice is seen as one, and a layer that works in
place spoils what they kept. The repaired module is a copy of the tree of layers that shares every parameter and buffer with
the caller's; its activations are given out call by call while it runs, functional ones by a ``TorchFunctionMode``. Unlike a
trace of the graph, that works on modules whose way depends on Python.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from explainer import state
from explainer.adapters.containers import tensors
from explainer.adapters.encoding import Arguments
from explainer.errors import Unsupported

# Name of the function -> its layer, and the function's further arguments in order.
ACTIVATIONS: dict[str, tuple[type[nn.Module], tuple[str, ...]]] = {
    "relu": (nn.ReLU, ()), "relu6": (nn.ReLU6, ()), "leaky_relu": (nn.LeakyReLU, ("negative_slope",)), "elu": (nn.ELU, ("alpha",)),
    "celu": (nn.CELU, ("alpha",)), "selu": (nn.SELU, ()), "gelu": (nn.GELU, ("approximate",)), "silu": (nn.SiLU, ()),
    "mish": (nn.Mish, ()), "sigmoid": (nn.Sigmoid, ()), "tanh": (nn.Tanh, ()), "softplus": (nn.Softplus, ("beta", "threshold")),
    "hardtanh": (nn.Hardtanh, ("min_val", "max_val")), "hardswish": (nn.Hardswish, ()), "hardsigmoid": (nn.Hardsigmoid, ()),
    "logsigmoid": (nn.LogSigmoid, ()), "softsign": (nn.Softsign, ()), "tanhshrink": (nn.Tanhshrink, ()),
    "softmax": (nn.Softmax, ("dim",)), "log_softmax": (nn.LogSoftmax, ("dim",)),
    "max_pool1d": (nn.MaxPool1d, ("kernel_size", "stride", "padding", "dilation", "ceil_mode")),
    "max_pool2d": (nn.MaxPool2d, ("kernel_size", "stride", "padding", "dilation", "ceil_mode")),
    "max_pool3d": (nn.MaxPool3d, ("kernel_size", "stride", "padding", "dilation", "ceil_mode")),
}  # fmt: skip
LAYERS = tuple(kind for kind, _ in ACTIVATIONS.values())
_HALVES = {torch.float16: 2e-2, torch.bfloat16: 5e-2}
_TABLES = tuple(name for name, value in vars(nn.Module()).items() if isinstance(value, (dict, set)))


@dataclass(frozen=True)
class Repaired:
    """``module`` in eval mode, sharing the caller's weights, with its own hooks; ``changes`` says what was repaired, in words."""

    module: nn.Module
    changes: tuple[str, ...]

    def layer(self, name: str) -> nn.Module:
        """The copy of the layer that the caller's module calls ``name``."""
        return self.module.get_submodule(f"inner.{name}" if name else "inner")


def repaired(module: nn.Module, sample: Arguments) -> Repaired:
    """``module`` with reused activations split, functional ones as layers and nothing in place; the caller's is left alone.

    ``sample`` (one or more encoded rows) is run to see which activations are called, and the scores at it must come out the
    same but for :func:`rounding`. Raises Unsupported where they do not, where the module cannot be copied, and, when the result
    is run, where another input calls other activations.
    """
    device = sample.tensors[0].device if sample.tensors else torch.device("cpu")
    difference = 0.0
    with state.scoring(state.Evaluation.of(module), device):
        calls, wanted = _calls(module, sample)
        allowed = rounding(_dtype(module), device)
        for in_place in (False, True):  # what is done in place may be meant to be seen by others
            layered = _Layered(module, calls, in_place).eval()
            found = layered.learn(sample)
            difference = float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1))
            if difference <= allowed:
                return Repaired(layered, layered.changes())
    raise Unsupported(
        f"With its activations as layers of their own, {type(module).__name__} gives scores that differ by {difference:.2g}, so that "
        "methods that hook layers would explain another function. Use integrated_gradients or shap."
    )


def rounding(dtype: torch.dtype, device: torch.device) -> float:
    """How far the scores of two ways to compute the same may lie apart, as a share of their size (at least 1).

    GPUs multiply 32-bit numbers with 10 bits of their fractions (TF32), by default in convolutions and recurrent layers.
    """
    return _HALVES.get(dtype, 1e-5 if device.type == "cpu" else 1e-3)


def _calls(module: nn.Module, sample: Arguments) -> tuple[dict[nn.Module, int], Tensor]:
    """How often each activation layer is called in one pass, and the scores: all that it gives per row."""
    counts: dict[nn.Module, int] = {}

    def count(layer: nn.Module, args: Any, output: Any) -> None:
        counts[layer] = counts.get(layer, 0) + 1

    with contextlib.ExitStack() as stack:
        for layer in module.modules():
            if isinstance(layer, LAYERS):
                stack.enter_context(state.hooked(layer, count))
        return counts, _scores(module, sample)


def _scores(module: nn.Module, sample: Arguments) -> Tensor:
    fresh = Arguments(tuple(t.clone() for t in sample.tensors), sample.names)  # a module may work in place on its input
    found = [t for t in tensors(fresh.call(module)) if t.is_floating_point() and t.ndim and len(t) == len(sample)]
    return torch.cat([t.reshape(len(sample), -1).double() for t in found], 1)


def _dtype(module: nn.Module) -> torch.dtype:
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)


def _twin(module: nn.Module) -> nn.Module:
    """A module with the same parameters, buffers and attributes, and tables (of layers, of hooks) of its own."""
    if isinstance(module, torch.jit.ScriptModule):
        raise Unsupported(f"{type(module).__name__} is compiled TorchScript, whose layers cannot be hooked one by one. Use shap or lime.")
    twin: nn.Module = object.__new__(type(module))
    twin.__dict__.update(vars(module))
    twin.__dict__.update({name: copy.copy(vars(module)[name]) for name in _TABLES if name in vars(module)})
    return twin


class _Turns(nn.Module):
    """A layer that is called several times in one pass: each call has its own copy."""

    def __init__(self, copies: Sequence[nn.Module]) -> None:
        super().__init__()
        self.calls = nn.ModuleList(copies)
        self.turn = 0

    def forward(self, x: Tensor) -> Tensor:
        if self.turn == len(self.calls):
            raise _astray(type(self.calls[0]).__name__)
        self.turn += 1
        return self.calls[self.turn - 1](x)


class _Layered(nn.Module):
    """The copied tree of layers ``inner``, and in ``functional`` those that stand for functional activations, where there are any."""

    def __init__(self, module: nn.Module, calls: Mapping[nn.Module, int], in_place: bool) -> None:
        super().__init__()
        self.blind, self.learning, self.in_place = 0, False, in_place
        self._calls, self._changes = calls, dict.fromkeys(("reused", "in place", "functional"), 0)
        self.inner = self._copied(module, {})
        self._turns = [layer for layer in self.inner.modules() if isinstance(layer, _Turns)]
        self.made: dict[str, nn.Module] = {}

    def _copied(self, module: nn.Module, memo: dict[nn.Module, nn.Module]) -> nn.Module:
        if module not in memo:
            if isinstance(module, LAYERS):
                count = self._calls.get(module, 0)
                self._changes["reused"] += count > 1
                self._changes["in place"] += bool(getattr(module, "inplace", False)) and not self.in_place
                memo[module] = self._layer(module) if count < 2 else _Turns([self._layer(module) for _ in range(count)])
            else:
                memo[module] = twin = _twin(module)
                for name, child in module._modules.items():
                    twin._modules[name] = child if child is None else self._copied(child, memo)
        return memo[module]

    def _layer(self, module: nn.Module) -> nn.Module:
        """A copy of an activation layer; the function it calls itself is not given to another layer."""
        twin = _twin(module)
        if hasattr(twin, "inplace"):
            twin.inplace = bool(twin.inplace) and self.in_place
        forward = twin.forward

        def alone(*args: Any, **options: Any) -> Any:
            self.blind += 1
            try:
                return forward(*args, **options)
            finally:
                self.blind -= 1

        twin.forward = alone
        return twin

    def learn(self, sample: Arguments) -> Tensor:
        """One pass that makes a layer of each functional activation, and the scores of another that uses them."""
        self.learning = True
        try:
            _scores(self, sample)
        finally:
            self.learning = False
        if self.made:  # an empty table would pass for a layer of an unknown kind
            self.functional = nn.ModuleDict(self.made)
        return _scores(self, sample)

    def changes(self) -> tuple[str, ...]:
        words = {
            "reused": "activation layers called several times: split into one per call",
            "in place": "activation layers that worked in place: no longer",
            "functional": "functional activations: made layers",
        }
        counts = {**self._changes, "functional": len(self.made)}
        return tuple(f"{text} ({counts[key]})" for key, text in words.items() if counts[key])

    def forward(self, *args: Any, **options: Any) -> Any:
        for layer in self._turns:
            layer.turn = 0
        with _Dispatch(self):
            return self.inner(*args, **options)


class _Dispatch(TorchFunctionMode):
    """Sends the functional activations of one pass to their layers, in order of calling."""

    def __init__(self, layered: _Layered) -> None:
        super().__init__()
        self._layered, self._turn = layered, 0

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        given, name = dict(kwargs or {}), getattr(func, "__name__", "")
        made = None if self._layered.blind else activation_layer(name.rstrip("_"), args, given)
        if made is None:
            return func(*args, **given)
        layers, label = self._layered.made, f"{name.rstrip('_')}_{self._turn}"
        if self._layered.learning:
            layers[label] = made
        elif label not in layers:
            raise _astray(name)
        self._turn += 1
        x = args[0] if args else given["input"]
        statement = name.endswith("_")  # x.relu_() may stand alone, its result taken from x
        in_place = statement or (bool(given.get("inplace")) and self._layered.in_place)
        result = layers[label](x.clone() if in_place else x)
        return x.copy_(result) if in_place else result


def activation_layer(name: str, args: tuple[Any, ...], given: Mapping[str, Any]) -> nn.Module | None:
    """The layer that computes the functional call, or None for other functions and for forms no layer has."""
    if name not in ACTIVATIONS:
        name, args, given = _clamped(name, args, given)
    if name not in ACTIVATIONS:
        return None
    kind, fields = ACTIVATIONS[name]
    further = {key: value for key, value in given.items() if key not in ("input", "inplace", "_stacklevel")}
    further |= dict(zip(fields, args[1:], strict=False))
    if any(key not in fields and value not in (None, False) for key, value in further.items()):
        return None
    return kind(**{key: value for key, value in further.items() if key in fields})


def _clamped(name: str, args: tuple[Any, ...], given: Mapping[str, Any]) -> tuple[str, tuple[Any, ...], Mapping[str, Any]]:
    """``x.clamp(min=0)`` is a ReLU."""
    low = given.get("min", args[1] if len(args) > 1 else None)
    high = given.get("max", args[2] if len(args) > 2 else None)
    is_relu = name in ("clamp", "clip", "clamp_min") and isinstance(low, (int, float)) and low == 0 and high is None
    return ("relu", args[:1], {}) if is_relu else (name, args, given)


def _astray(name: str) -> Unsupported:
    return Unsupported(
        f"The module takes another way for this input than for the one it was read with (an unexpected call of {name}), so its "
        "activations cannot be told apart as layers. Use integrated_gradients or shap."
    )
