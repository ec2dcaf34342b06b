"""What a network gives for inputs as they come: encoded, in batches, on its device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from explainer.inputs import take

ROWS = 256  # at once


def predict(module: nn.Module, preprocess: Any, inputs: Any, task: str = "classification") -> np.ndarray:
    """Probabilities ``(n, classes)``, or numbers ``(n, 1)``, in eval mode, in batches of about one length."""
    where = next(iter(module.state_dict().values())).device
    order = np.argsort([len(one) for one in inputs], kind="stable") if isinstance(inputs, list) else np.arange(len(inputs))
    found: list[Tensor] = []
    was_training = module.training
    module.eval()
    with torch.no_grad():
        for i in range(0, len(order), ROWS):
            batch = move(preprocess(take(inputs, order[i : i + ROWS])), where)
            output = call(module, batch).double()
            found.append((output.softmax(1) if task == "classification" else output).cpu())
    module.train(was_training)
    result = np.empty((len(order), found[0].shape[1]))
    result[order] = torch.cat(found).numpy()
    return result


def call(module: Any, batch: Any) -> Tensor:
    """Call a module with a tensor, a tuple or a dict of tensors; a model of transformers gives its logits in a container."""
    if isinstance(batch, dict):
        output = module(**batch)
        return getattr(output, "logits", output)
    return module(*batch) if isinstance(batch, tuple) else module(batch)


def move(batch: Any, device: torch.device) -> Any:
    """The batch on ``device``."""
    if isinstance(batch, dict):
        return {name: tensor.to(device) for name, tensor in batch.items()}
    return tuple(tensor.to(device) for tensor in batch) if isinstance(batch, tuple) else batch.to(device)
