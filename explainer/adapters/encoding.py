"""From canonical inputs to the tensors a torch module takes, where the caller gave no ``preprocess`` of their own."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from explainer.errors import InvalidInput


@dataclass(frozen=True)
class Arguments:
    """One batch as the module takes it: tensors with their keyword names, or positional where ``names`` is None.

    A module with one argument of another name takes a mapping of them.
    """

    tensors: tuple[Tensor, ...]
    names: tuple[str, ...] | None = None

    @staticmethod
    def of(encoded: Any, device: torch.device, dtype: torch.dtype, channels_last: bool = False) -> Arguments:
        """Read what ``preprocess`` gave: a tensor, a tuple, or a mapping of tensors; floats take the module's dtype.

        ``channels_last``: pictures are laid out so in memory, in the one copy that is made anyway.
        """
        inner = list(encoded.values()) if isinstance(encoded, Mapping) else encoded
        if isinstance(inner, (tuple, list)) and len(inner) == 1 and isinstance(inner[0], Mapping):
            encoded = inner[0]  # the one argument, a mapping, as it would be passed by position or by name
        names = tuple(str(k) for k in encoded) if isinstance(encoded, Mapping) else None
        parts: Sequence[Any]
        if isinstance(encoded, Mapping):
            parts = list(encoded.values())
        else:
            parts = list(encoded) if isinstance(encoded, (tuple, list)) else [encoded]
        tensors = []
        for part in parts:
            tensor = torch.tensor(part) if isinstance(part, np.ndarray) else part
            if not isinstance(tensor, Tensor):
                raise InvalidInput(
                    f"preprocess gave {type(part).__name__}; it must give a tensor, a tuple of tensors or a dict of tensors, "
                    "each with one row per input."
                )
            if device.type == "cuda" and tensor.device.type == "cpu":
                tensor = tensor.pin_memory()  # so that the copy need not wait for the passes before it
            moved = tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype, non_blocking=True)
            # A module that works in place must not reach the caller's own memory through a shared tensor.
            turned = channels_last and moved.ndim == 4 and moved.is_floating_point()
            layout = torch.channels_last if turned else torch.contiguous_format
            tensors.append(moved.clone(memory_format=layout) if moved is tensor else moved.contiguous(memory_format=layout))
        return Arguments(tuple(tensors), names)

    def __len__(self) -> int:
        return len(self.tensors[0]) if self.tensors and self.tensors[0].ndim else 0

    def replace(self, index: int, tensor: Tensor) -> Arguments:
        return Arguments((*self.tensors[:index], tensor, *self.tensors[index + 1 :]), self.names)

    def call(self, module: nn.Module) -> Any:
        if self.names is None:
            return module(*self.tensors)
        named = dict(zip(self.names, self.tensors, strict=True))
        return module(named) if _takes_one_mapping(module, self.names) else module(**named)

    def index(self, *names: str) -> int | None:
        """Position of the first of ``names`` among the keyword names."""
        return next((self.names.index(name) for name in names if self.names and name in self.names), None)

    def describe(self) -> str:
        labels = self.names or ("",) * len(self.tensors)
        return ", ".join(f"{n + ' ' if n else ''}{tuple(t.shape)} {str(t.dtype)[6:]}" for n, t in zip(labels, self.tensors, strict=True))


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside ``torch.compile`` and ``DataParallel`` wrappers, where hooks and gradients are at hand."""
    while True:
        inner = getattr(module, "_orig_mod", None)
        if inner is None and isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            inner = module.module
        if inner is None:
            return module
        module = inner


def _takes_one_mapping(module: nn.Module, names: Sequence[str]) -> bool:
    """Whether the module has one argument, which is none of ``names``: they are then the entries of a mapping."""
    takes = list(inspect.signature(unwrapped(module).forward).parameters.values())
    return len(takes) == 1 and takes[0].kind not in (takes[0].VAR_POSITIONAL, takes[0].VAR_KEYWORD) and takes[0].name not in names


class Columns:
    """A table of numbers as one float tensor ``(n, columns)``, column by column."""

    def __init__(self, columns: int = 0) -> None:
        self.groups = list(range(columns))

    def __call__(self, frame: Any) -> Tensor:
        try:
            return torch.tensor(frame.to_numpy(dtype=np.float32, na_value=np.nan))
        except (TypeError, ValueError):
            words = [str(c) for c in frame.columns if not np.issubdtype(np.asarray(frame[c].iloc[:1]).dtype, np.number)]
            raise InvalidInput(
                f"The columns {', '.join(words[:6])} hold no numbers, and the module takes numbers only. Pass preprocess=, a "
                "function from the DataFrame to a float tensor (with .groups, the raw column of each encoded one)."
            ) from None


class Pixels:
    """Images ``(n, H, W[, C])`` as ``(n, C, H, W)``, values unchanged."""

    def __call__(self, images: np.ndarray) -> Tensor:
        channelled = images[..., None] if images.ndim == 3 else images
        return torch.tensor(np.moveaxis(channelled, -1, 1))


class Steps:
    """Series padded with zeros to ``(n, T, channels)``, or ``(n, channels, T)``, with their lengths where they are taken.

    ``equal_only``: the module takes no lengths, so that padding would change what it says; batches hold one length each.
    """

    def __init__(self, lengths: bool, channels_first: bool) -> None:
        self.lengths = lengths
        self.channels_first = channels_first
        self.equal_only = not lengths

    def __call__(self, series: Sequence[np.ndarray]) -> Tensor | tuple[Tensor, Tensor]:
        lengths = torch.tensor([len(one) for one in series])
        padded = torch.zeros(len(series), int(lengths.max()), series[0].shape[1])
        for i, one in enumerate(series):
            padded[i, : len(one)] = torch.tensor(one)
        padded = padded.transpose(1, 2).contiguous() if self.channels_first else padded
        return (padded, lengths) if self.lengths else padded


OWN = (Columns, Pixels, Steps)  # they write into nothing they get


def default_preprocess(module: nn.Module, modality: str, columns: int) -> Any:
    """The encoder used where none was given. Raises InvalidInput for text, which has no tokeniser of its own."""
    if modality == "text":
        raise InvalidInput(
            "A torch text model needs preprocess=: a callable from a list of texts to a dict of tensors, such as "
            '{"ids": ..., "mask": ...}, with .offsets(texts), .tokens(texts), .pad_id and .special_ids for explanations by word.'
        )
    if modality == "tabular":
        return Columns(columns)
    return Pixels() if modality == "image" else Steps(_takes_lengths(module), isinstance(first_layer(module), nn.Conv1d))


def _takes_lengths(module: nn.Module) -> bool:
    """Whether forward has a second argument that is required or named for lengths."""
    places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [p for p in inspect.signature(module.forward).parameters.values() if p.kind in places]
    return len(parameters) > 1 and (parameters[1].default is inspect.Parameter.empty or "len" in parameters[1].name)


def made_up(module: nn.Module, modality: str, names: Sequence[str], preprocess: Any) -> Iterator[Any]:
    """Canonical inputs that the module may take, to see what it gives; made-up ones only for the encoders of this file, and text."""
    if modality == "text":
        yield ["probe"]
    elif isinstance(preprocess, Columns) and names:
        import pandas as pd

        yield pd.DataFrame(np.zeros((1, len(names)), dtype=np.float32), columns=list(names))
    elif isinstance(preprocess, Steps) and names:
        yield [np.zeros((16, len(names)), dtype=np.float32)]
    elif isinstance(preprocess, Pixels):
        width = wanted_width(module) or 3
        if isinstance(first_layer(module), nn.Linear):  # flattened pictures, most likely square
            shapes = [(side, side, c) for c in (1, 3) for side in [math.isqrt(width // c)] if side * side * c == width]
        else:
            shapes = [(side, side, width) for side in (32, 28, 224, 64, 8)]
        yield from (np.zeros((1, *shape), dtype=np.float32) for shape in shapes)


_WANTED = {
    nn.Linear: "in_features", nn.Conv1d: "in_channels", nn.Conv2d: "in_channels", nn.RNN: "input_size", nn.LSTM: "input_size",
    nn.GRU: "input_size", nn.Embedding: "num_embeddings", nn.BatchNorm1d: "num_features", nn.BatchNorm2d: "num_features",
}  # fmt: skip


def first_layer(module: nn.Module) -> nn.Module | None:
    """The first registered layer that says what it takes; layers are nearly always registered in the order they run."""
    return next((m for m in module.modules() if isinstance(m, tuple(_WANTED))), None)


def wanted_width(module: nn.Module) -> int | None:
    """How many columns or channels the first layer takes, or None where it does not say."""
    first = first_layer(module)
    found = next((getattr(first, size) for kind, size in _WANTED.items() if isinstance(first, kind)), None)
    return None if found is None or isinstance(first, nn.Embedding) else int(found)
