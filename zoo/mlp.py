"""A multilayer perceptron for encoded tables."""

from __future__ import annotations

import torch
from torch import nn


class Loans(nn.Module):
    """Two hidden layers with dropout; ``(n, columns)`` -> logits ``(n, classes)``."""

    def __init__(self, columns: int, classes: int, width: int = 32, dropout: float = 0.5) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(columns, width), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(width, width // 2), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width // 2, classes),
        )  # fmt: skip

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.layers(rows)
