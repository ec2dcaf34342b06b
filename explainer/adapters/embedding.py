"""What enters a network's last linear layer: where its own view of likeness can be read."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from explainer.adapters.layerview import Layer
from explainer.inputs import take

if TYPE_CHECKING:
    from explainer.adapters.torch import TorchModel

_HEADS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def embedding(model: TorchModel, inputs: Any) -> np.ndarray | None:
    """``(n, units)`` of canonical inputs, positions averaged; None where no such layer has one row per input and runs once."""
    found: np.ndarray | None = None
    with model.scoring():
        for rows in model.batches(inputs):
            part = _of_batch(model, take(inputs, rows))
            if part is None or (found is not None and part.shape[1] != found.shape[1]):
                return None
            found = np.empty((len(inputs), part.shape[1]), dtype=np.float32) if found is None else found
            found[rows] = part
    return found


def _of_batch(model: TorchModel, batch: Any) -> np.ndarray | None:
    entered: list[tuple[nn.Module, Tensor]] = []
    heads = [module for module in model.core.modules() if isinstance(module, _HEADS)]
    with torch.no_grad(), ExitStack() as stack:
        for head in heads:
            stack.enter_context(Layer("", head, entering=True).tapped(lambda value, head=head: entered.append((head, value.detach()))))  # type: ignore[misc]
        model.forward(model.encode(batch))
    if not entered or sum(head is entered[-1][0] for head, _ in entered) > 1:
        return None
    head, value = entered[-1]
    if len(value) != len(batch) or (value.ndim != 2 and isinstance(head, nn.Linear)):
        return None
    return np.asarray(value.float().flatten(2).mean(2).cpu().numpy() if value.ndim > 2 else value.float().cpu().numpy())
