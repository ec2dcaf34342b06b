"""The steps of a descent: which rows each takes, how long it is, and what is done to the weights beside the gradient."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zoo import checkpoint
from zoo.data import Split

POOL = 50  # batches whose rows are sorted by length together


def parameters(module: nn.Module, decay: float, l1: float = 0.0) -> list[dict[str, Any]]:
    """Two groups: matrices decay and shrink, biases, norms and embeddings do not (Loshchilov and Hutter 2019). Frozen ones are in
    neither.
    """
    embeddings = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    free = [p for p in module.parameters() if p.requires_grad]
    flat = [p for p in free if p.ndim < 2 or id(p) in embeddings]
    kept = {id(p) for p in flat}
    return [
        {"params": [p for p in free if id(p) not in kept], "weight_decay": decay, "l1": l1},
        {"params": flat, "weight_decay": 0.0, "l1": 0.0},
    ]


def shrink(optimizer: Any) -> None:
    """W = sign(w) max(0, |w| - rate * l1): the proximal step of an L1 penalty, apart from the gradient (Parikh and Boyd 2014)."""
    with torch.no_grad():
        for group in optimizer.param_groups:
            for p in group["params"] if group["l1"] else ():
                p.copy_(nn.functional.softshrink(p, group["lr"] * group["l1"]))


def schedule(share: float, warmup: float) -> float:
    """Factor on the learning rate after ``share`` of the steps: a linear rise over ``warmup`` of them, then half a cosine to 1 %."""
    if share < warmup:
        return (share + 1e-3) / (warmup + 1e-3)
    return 0.01 + 0.99 * 0.5 * (1 + float(np.cos(np.pi * (share - warmup) / (1 - warmup))))


def batches(split: Split, size: int, generator: torch.Generator) -> Iterator[np.ndarray]:
    """Every row once, in chance order; rows of unequal length go with others of about their length, to save padding."""
    order = torch.randperm(len(split), generator=generator).numpy()
    if isinstance(split.inputs, list):
        pools = [order[i : i + POOL * size] for i in range(0, len(order), POOL * size)]
        order = np.concatenate([pool[np.argsort([len(split.inputs[i]) for i in pool], kind="stable")] for pool in pools])
    cuts = [order[i : i + size] for i in range(0, len(order), size)]
    for i in torch.randperm(len(cuts), generator=generator).tolist():
        yield cuts[i]


def blend(average: dict[str, Tensor] | None, module: nn.Module, share: float) -> None:
    """Blend in place: average = share * average + (1 - share) * weights, in place; counters are copied."""
    if average is None:
        return
    with torch.no_grad():
        for name, tensor in checkpoint.trained(module).items():
            if tensor.is_floating_point():
                average[name].mul_(share).add_(tensor, alpha=1 - share)
            else:
                average[name].copy_(tensor)
