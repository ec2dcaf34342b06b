"""What layers give and take: a tensor, or several in a tuple, a mapping or a dataclass."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence


def main(output: Any) -> tuple[Any, Any]:
    """The key and the tensor (or packed sequence) that a layer's output is about: the first of floats, with more than one axis."""
    if isinstance(output, PackedSequence) or (isinstance(output, Tensor) and output.is_floating_point()):
        return None, output
    if isinstance(output, Mapping):
        entries: Any = output.items()
    elif isinstance(output, (tuple, list)):
        entries = enumerate(output)
    elif dataclasses.is_dataclass(output):
        entries = vars(output).items()
    else:
        return None, None
    fit = ((k, v) for k, v in entries if isinstance(v, PackedSequence) or (isinstance(v, Tensor) and v.is_floating_point() and v.ndim > 1))
    return next(fit, (None, None))


def replaced(output: Any, key: Any, tensor: Any) -> Any:
    """``output`` with another tensor under the key that :func:`main` gave; what was given is left as it is."""
    if key is None:
        return tensor
    if isinstance(output, Mapping):
        changed = copy.copy(output)
        changed[key] = tensor  # type: ignore[index]
        return changed
    if isinstance(output, (tuple, list)):
        parts = [tensor if i == key else one for i, one in enumerate(output)]
        return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)
    return dataclasses.replace(output, **{key: tensor})


def tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor in a value, however deep."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from tensors(one)
    elif isinstance(value, (tuple, list)):
        for one in value:
            yield from tensors(one)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from tensors(vars(value))
