"""What a module computes outside its layers, where a hook on a layer does not see it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from explainer.state import hooked, hooked_before

_RELU = (F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)
_OTHERS = (
    F.leaky_relu, F.elu, F.gelu, F.silu, F.softplus, F.hardtanh, F.relu6, torch.tanh, Tensor.tanh, F.tanh, torch.sigmoid,
    Tensor.sigmoid, F.sigmoid, F.softmax, torch.softmax, Tensor.softmax, F.max_pool1d, F.max_pool2d, F.avg_pool2d, F.layer_norm,
    F.adaptive_avg_pool2d, F.linear, F.conv1d, F.conv2d, F.scaled_dot_product_attention, torch.matmul, Tensor.matmul, torch.bmm,
    Tensor.add, torch.add, Tensor.__add__, Tensor.__iadd__, Tensor.mul, torch.mul, Tensor.__mul__,
)  # fmt: skip
_NAMES: dict[Callable[..., Any], str] = {**dict.fromkeys(_RELU, "relu"), **{f: f.__name__.strip("_") for f in _OTHERS}}


class FunctionalTap(TorchFunctionMode):
    """Sees one forward pass: ``functions`` called outside every layer without children, and ``calls`` per such layer."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.functions: Counter[str] = Counter()
        self.calls: Counter[nn.Module] = Counter()
        self._inside = 0
        self._stack = ExitStack()
        self._leaves = [m for m in module.modules() if not list(m.children())]

    def __enter__(self) -> FunctionalTap:
        for leaf in self._leaves:
            self._stack.enter_context(hooked_before(leaf, self._into))
            self._stack.enter_context(hooked(leaf, self._out_of))
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._stack.close()

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        if not self._inside and func in _NAMES:
            self.functions[_NAMES[func]] += 1
        return func(*args, **(kwargs or {}))

    def _into(self, layer: nn.Module, args: tuple[Any, ...]) -> None:
        self._inside += 1
        self.calls[layer] += 1

    def _out_of(self, layer: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._inside -= 1
