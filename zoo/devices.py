"""Where and in how many processes a run computes: device, precision, and each process's share of a batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

from explainer.errors import InvalidInput, unknown
from zoo.data import need

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "no", "bf16", "fp16"]
DEVICES, PRECISIONS = ("auto", "cpu", "cuda"), ("auto", "no", "bf16", "fp16")


@contextmanager
def accelerator(device: Device, precision: Precision = "auto") -> Iterator[Any]:
    """Accelerate on the device asked for; its process-wide state is cleared on leaving, so that runs do not meet.

    ``precision``: "bf16" or "fp16" (CUDA only) computes the matrix products in 16 bits while the weights stay in 32 (Micikevicius
    et al. 2018); "auto" takes bf16 on a GPU that has it, else 32 bits.
    """
    accelerate = need("accelerate", "Training")
    from accelerate.state import AcceleratorState

    checked(device, precision)
    if device == "cuda" and not torch.cuda.is_available():
        raise InvalidInput("device='cuda' was asked for, but PyTorch sees no CUDA device; use device='auto' or 'cpu'.")
    cpu = device == "cpu" or not torch.cuda.is_available()
    if cpu and precision == "fp16":
        raise InvalidInput("precision='fp16' needs a CUDA device; on a CPU use 'bf16' or 'no'.")
    if precision == "auto":
        precision = "no" if cpu or not torch.cuda.is_bf16_supported() else "bf16"
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        yield accelerate.Accelerator(cpu=cpu, mixed_precision=precision)
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        AcceleratorState._reset_state(reset_partial_state=True)


def checked(device: str, precision: str) -> None:
    """Raises UnknownName for a device or a precision that is none."""
    if device not in DEVICES:
        raise unknown("device", device, DEVICES)
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)


def portion(accelerate: Any, batch: Any, labels: Any) -> tuple[Any, Any, float]:
    """The rows of a batch that are for this process, and the weight that makes the mean over processes the mean over rows.

    Every process holds the whole batch, drawn and augmented alike; of n rows each of k processes takes every k-th. One without
    a row (the last batch may be that small) takes the first with weight 0, since all must meet to add up their gradients.
    """
    index, processes = accelerate.process_index, accelerate.num_processes
    if processes == 1:
        return batch, labels, 1.0
    n = len(next(iter(batch.values())) if isinstance(batch, dict) else batch[0] if isinstance(batch, tuple) else batch)
    rows = slice(index, None, processes) if index < n else slice(0, 1)
    weight = len(range(index, n, processes)) * processes / n
    labels = None if labels is None else labels[rows]
    if isinstance(batch, dict):
        return {name: tensor[rows] for name, tensor in batch.items()}, labels, weight
    return (tuple(tensor[rows] for tensor in batch) if isinstance(batch, tuple) else batch[rows]), labels, weight
