"""Which hidden states a tensor was projected from: what tells attention of a sequence to itself from attention to another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explainer.adapters.containers import tensors

Origins = frozenset[int]
_PROJECTIONS = {F.linear, F.embedding, F.conv1d, F.conv2d}
_PRODUCTS = {torch.matmul, torch.bmm, torch.baddbmm, torch.einsum, Tensor.matmul, Tensor.__matmul__, Tensor.bmm, Tensor.baddbmm}


class Streams:
    """Follows every call of a forward pass. A tensor is known by its storage, so that views and splits need no record.

    A call with a weight matrix is a projection: its result comes from the storage it was given. Every other result comes from
    what its arguments came from. Queries and keys with one origin in common are of one sequence; those of an encoder's output
    and a decoder's own states have none.
    """

    def __init__(self) -> None:
        self._origins: dict[int, Origins] = {}
        self._met: dict[int, bool] = {}
        self._alive: list[Tensor] = []  # so that no later tensor can come to lie at the same address

    def follow(self, func: Callable[..., Any], args: tuple[Any, ...], given: Mapping[str, Any], result: Any) -> None:
        """Note where ``result`` comes from."""
        if not isinstance(result, Tensor):
            return
        taken = list(tensors([*args, *given.values()]))
        place = _place(result)
        if not taken or any(_place(t) == place for t in taken):
            return
        projecting = func in _PROJECTIONS or any(isinstance(t, nn.Parameter) and t.ndim > 1 for t in taken)
        if projecting:
            source = next((t for t in taken if not isinstance(t, nn.Parameter)), None)
            found = frozenset() if source is None else frozenset({_place(source)})
            self._alive.extend(t for t in (source,) if t is not None)
        else:
            found = frozenset().union(*(self._known(t, result) for t in taken))
            if func in _PRODUCTS and len(taken) > 1:
                self._met[place] = bool(self.of(taken[-2]) & self.of(taken[-1]))
            else:
                met = [self._met[_place(t)] for t in taken if _place(t) in self._met]
                if met:
                    self._met[place] = any(met)
        self._origins[place] = found
        self._alive.append(result)

    def of(self, tensor: Tensor) -> Origins:
        """Storages that ``tensor`` was projected from; its own where nothing is known."""
        return self._origins.get(_place(tensor)) or frozenset({_place(tensor)})

    def apart(self, query: Tensor, key: Tensor) -> bool:
        """Whether queries and keys are of different sequences."""
        return not self.of(query) & self.of(key)

    def crossed(self, weights: Tensor) -> bool:
        """Whether attention weights were made by products of different sequences alone."""
        return self._met.get(_place(weights)) is False

    def compared(self, weights: Tensor) -> bool:
        """Whether attention weights were made by a product of two activations at all, as those of queries and keys are."""
        return _place(weights) in self._met

    def _known(self, tensor: Tensor, result: Tensor) -> Origins:
        """An argument as large as the result is part of the stream; a smaller one (angles, biases, masks) only colours it."""
        found = self._origins.get(_place(tensor))
        if found is not None:
            return found
        whole = tensor.is_floating_point() and tensor.numel() == result.numel() and not isinstance(tensor, nn.Parameter)
        if whole:
            self._alive.append(tensor)
        return frozenset({_place(tensor)}) if whole else frozenset()


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
