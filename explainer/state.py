"""Context managers over a torch module: whatever is changed for a computation is put back, after an error too.

Hooks and modes set here act on the thread that set them only, so that a second thread scoring the same module is not
disturbed by an explanation in the making.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn


class Evaluation:
    """Every submodule in eval mode while anyone is inside; the caller's own flags are back when the last one leaves.

    The flags are set directly and not through ``module.eval()``, which some modules override with lasting effects (an
    adapter that merges its weights, a backbone that refuses the mode).
    """

    _all: ClassVar[weakref.WeakKeyDictionary[nn.Module, Evaluation]] = weakref.WeakKeyDictionary()

    def __init__(self, module: nn.Module) -> None:
        self._module = weakref.ref(module)
        self._lock = threading.Lock()
        self._inside = 0
        self._training: list[nn.Module] = []

    @classmethod
    def of(cls, module: nn.Module) -> Evaluation:
        """The one guard of ``module``, however often it is wrapped: two would restore over each other's heads."""
        with _LOCK:
            return cls._all.setdefault(module, cls(module))

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                whole = self._module()
                self._training = [] if whole is None else [m for m in whole.modules() if m.training]
                for module in self._training:
                    module.training = False

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                for module in self._training:
                    module.training = True
                self._training = []


class _CudnnOff:
    """cuDNN off for the process while anyone is inside. The switch has no thread of its own, so those inside are counted."""

    def __init__(self) -> None:
        self._inside = 0
        self._was = True

    def __enter__(self) -> None:
        with _LOCK:
            self._inside += 1
            if self._inside == 1:
                self._was, torch.backends.cudnn.enabled = torch.backends.cudnn.enabled, False

    def __exit__(self, *_: object) -> None:
        with _LOCK:
            self._inside -= 1
            if self._inside == 0:
                torch.backends.cudnn.enabled = self._was


_LOCK = threading.Lock()
_CUDNN_OFF = _CudnnOff()


@contextmanager
def rng_kept(device: torch.device) -> Iterator[None]:
    """The random state of the CPU, and of ``device`` where it is a GPU, is afterwards what it was."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield


@contextmanager
def scoring(evaluation: Evaluation, device: torch.device) -> Iterator[None]:
    """Eval mode, no gradients, random state kept.

    ``no_grad`` and not ``inference_mode``: a module that caches a tensor (rotary angles, masks) under inference mode could
    never be trained or differentiated again.
    """
    with evaluation, rng_kept(device), torch.no_grad():
        yield


@contextmanager
def differentiating(evaluation: Evaluation, device: torch.device, recurrent: bool, overwrites: bool = False) -> Iterator[None]:
    """Eval mode with gradients on, whatever surrounds it; cuDNN off where its recurrent layers would refuse a backward pass.

    ``overwrites``: keep copies of what a module that works in place writes over before its backward pass needs it.
    """
    with ExitStack() as stack:
        stack.enter_context(evaluation)
        stack.enter_context(rng_kept(device))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if recurrent and device.type == "cuda":
            # cuDNN has no backward for a recurrent layer in eval mode; PyTorch's own kernels do.
            stack.enter_context(_CUDNN_OFF)
        if overwrites:
            stack.enter_context(torch.autograd.graph.allow_mutation_on_saved_tensors())
        yield


@contextmanager
def hooked(module: nn.Module, hook: Callable[[nn.Module, tuple[Any, ...], Any], Any]) -> Iterator[None]:
    """``hook(module, inputs, output)`` after each forward of ``module`` in this thread; removed at the end."""
    owner = threading.get_ident()

    def mine(layer: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        return hook(layer, args, output) if threading.get_ident() == owner else None

    handle = module.register_forward_hook(mine)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def hooked_before(module: nn.Module, hook: Callable[[nn.Module, tuple[Any, ...]], Any]) -> Iterator[None]:
    """``hook(module, inputs)`` before each forward of ``module`` in this thread; removed at the end."""
    owner = threading.get_ident()

    def mine(layer: nn.Module, args: tuple[Any, ...]) -> Any:
        return hook(layer, args) if threading.get_ident() == owner else None

    handle = module.register_forward_pre_hook(mine)
    try:
        yield
    finally:
        handle.remove()


def saved_bytes(module: nn.Module, function: Callable[[], Any]) -> int:
    """Bytes that autograd keeps for the backward pass of ``function()``, each storage counted once, weights left out."""
    seen: dict[int, int] = {}
    weights = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept = function()
    del kept
    return sum(seen.values())
