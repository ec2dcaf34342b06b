"""One forward pass of a torch module, watched: which functions it calls, in which layer, and which of them see the input.

The watch is a ``TorchFunctionMode`` with hooks on the layers, and not a trace of the graph: it sees as much, and works on
modules whose way depends on Python.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from explainer import state
from explainer.adapters.containers import tensors
from explainer.adapters.repair import LAYERS, activation_layer

_FUSED = ("scaled_dot_product_attention", "multi_head_attention_forward")
_CURVED = ("layer_norm", "rms_norm", "group_norm", "instance_norm", "gelu", "silu", "softmax", "softplus", "elu", "mish")
_DROPOUTS = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")
_DRAWS = (
    "rand",
    "randn",
    "rand_like",
    "randn_like",
    "randint",
    "randperm",
    "bernoulli",
    "bernoulli_",
    "multinomial",
    "normal",
    "normal_",
    "uniform_",
)
_BRANCHES = ("__bool__", "__int__", "__float__", "__index__", "item", "tolist")
_EXITS = ("detach", "numpy", "__array__")


class Watch(TorchFunctionMode):
    """What a pass calls: function name -> the layers it is called in. Open it around ``forward``; ``start`` is the input.

    ``functional``: activations that are no layers; ``calls``: activation layers and how often they run; ``in_place``;
    ``branches`` and ``exits``: where Python, or code outside autograd, gets values that depend on the input.
    """

    def __init__(self, module: nn.Module, start: Tensor | None = None) -> None:
        super().__init__()
        self._module = module
        self._names = {layer: name for name, layer in module.named_modules()}
        self._stack: list[nn.Module] = []
        self._seen: dict[int, Tensor] = {} if start is None else {id(start): start}  # tensors made of the input, kept alive
        self.calls: Counter[nn.Module] = Counter()
        self.functional: dict[str, list[str]] = {}
        self.in_place: dict[str, list[str]] = {}
        self.fused: dict[str, list[str]] = {}
        self.curved: dict[str, list[str]] = {}
        self.draws: dict[str, list[str]] = {}
        self.branches: dict[str, list[str]] = {}
        self.exits: dict[str, list[str]] = {}

    @contextlib.contextmanager
    def watching(self) -> Iterator[Watch]:
        """The mode open, and hooks that tell in which layer a call is made; all gone afterwards."""
        with contextlib.ExitStack() as stack:
            for layer in self._names:
                if isinstance(layer, torch.jit.ScriptModule):  # takes no hooks, and calls nothing that a mode sees
                    continue
                stack.enter_context(state.hooked_before(layer, self._enter))
                stack.enter_context(state.hooked(layer, self._leave))
            stack.enter_context(self)
            yield self

    def _enter(self, layer: nn.Module, args: Any) -> None:
        self._stack.append(layer)
        self.calls[layer] += isinstance(layer, LAYERS)

    def _leave(self, layer: nn.Module, args: Any, output: Any) -> None:
        if self._stack:
            self._stack.pop()

    def name(self, layer: nn.Module) -> str:
        return self._names.get(layer) or type(layer).__name__

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        given, name = dict(kwargs or {}), getattr(func, "__name__", "")
        result = func(*args, **given)
        own = any(id(t) in self._seen for t in tensors((args, given)))
        statement = (name.endswith("_") and not name.endswith("__")) or name in ("__setitem__", *_ASSIGNMENTS)
        if own:
            made = [t for t in tensors(result) if name != "_pack_padded_sequence" or t.is_floating_point()]  # sizes are none of the values
            self._seen |= {id(t): t for t in (*made, *tensors(args[:1] if statement else ()))}
        plain = name.rstrip("_") if statement and not name.startswith("__") else name
        layer = self._stack[-1] if self._stack else self._module
        self._note(name, plain, args, given, own, statement, layer)
        return result

    def _note(
        self, name: str, plain: str, args: tuple[Any, ...], given: Mapping[str, Any], own: bool, statement: bool, layer: nn.Module
    ) -> None:
        where = self.name(layer)
        random = (plain in _DROPOUTS and _drops(args, given)) or name in _DRAWS
        tables: tuple[tuple[bool, dict[str, list[str]]], ...] = (
            (not isinstance(layer, LAYERS) and activation_layer(plain, args, given) is not None, self.functional),
            (own and (statement or bool(given.get("inplace"))), self.in_place),
            (plain in _FUSED, self.fused),
            (own and plain in _CURVED, self.curved),
            (random, self.draws),
            (own and name in _BRANCHES, self.branches),
            (own and name in _EXITS, self.exits),
        )
        for applies, table in tables:
            if applies and where not in table.setdefault(plain, []):
                table[plain].append(where)


_ASSIGNMENTS = ("__iadd__", "__isub__", "__imul__", "__itruediv__", "__ipow__")


def _drops(args: tuple[Any, ...], given: Mapping[str, Any]) -> bool:
    """Whether a call of dropout really drops: ``dropout(input, p=0.5, training=True)``."""
    rate = given.get("p", args[1] if len(args) > 1 else 0.5)
    training = given.get("training", given.get("train", args[2] if len(args) > 2 else True))
    return bool(training) and rate > 0


def spread(run: Callable[[], Tensor]) -> tuple[float, float]:
    """How far the results of ``run`` lie apart under three seeds, and their size; to be called where the RNG is kept."""
    found = []
    for seed in range(3):
        torch.manual_seed(seed)
        found.append(run().detach().double())
    apart = torch.stack(found)
    return float((apart - apart[0]).abs().max()), float(apart.abs().max())
