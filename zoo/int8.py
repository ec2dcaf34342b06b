"""Layers whose weights are whole numbers of 8 bits."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


def rounded(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Each row as whole numbers in [-127, 127] and its scale s = max |row| / 127 (symmetric; Jacob et al. 2018)."""
    scale = rows.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
    return (rows / scale).round().to(torch.int8), scale


class Rounded(nn.Module):
    """A parametrisation: float -> int8 and scales when the weight is set, int8 -> float when it is read."""

    def forward(self, whole: Tensor, scale: Tensor) -> Tensor:
        return whole.to(scale.dtype) * scale

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return rounded(weight)


class Products(nn.Module):
    """A linear layer that multiplies whole numbers: inputs are rounded row by row as they come, sums are of 32 bits.

    ``(..., columns)`` -> ``(..., outputs)``. It has no gradient.
    """

    whole: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        whole, scale = rounded(layer.weight.detach())
        self.register_buffer("whole", whole.t().contiguous())
        self.register_buffer("scale", scale[:, 0])
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach().clone())

    def forward(self, inputs: Tensor) -> Tensor:
        rows, scale = rounded(inputs.detach().reshape(-1, inputs.shape[-1]))
        made = torch._int_mm(rows, self.whole).to(inputs.dtype) * scale * self.scale
        made = made if self.bias is None else made + self.bias
        return made.reshape(*inputs.shape[:-1], -1)


def replaced(layer: Any, products: bool) -> nn.Module | None:
    """The layer in 8 bits, or None where it is neither linear nor an embedding."""
    if type(layer) is nn.Linear and products:
        return Products(layer)
    if type(layer) not in (nn.Linear, nn.Embedding):
        return None
    made = copy.deepcopy(layer).requires_grad_(False)
    parametrize.register_parametrization(made, "weight", Rounded(), unsafe=True)
    return made
