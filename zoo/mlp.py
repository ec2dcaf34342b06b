"""Multilayer perceptrons for encoded tables."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn


def layers(columns: int, outputs: int, width: int, dropout: float, norm: bool) -> nn.Sequential:
    """Two hidden layers, the second half as wide, with dropout and, where asked for, batch normalisation before it."""
    parts: list[nn.Module] = []
    for size, made in ((columns, width), (width, width // 2)):
        parts += [nn.Linear(size, made), *([nn.BatchNorm1d(made)] if norm else []), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*parts, nn.Linear(width // 2, outputs))


class Classifier(nn.Module):
    """``(n, columns)`` -> logits ``(n, classes)``."""

    def __init__(self, columns: int, classes: int, width: int = 32, dropout: float = 0.5, norm: bool = False) -> None:
        super().__init__()
        self.layers = layers(columns, classes, width, dropout, norm)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.layers(rows)


class Estimator(nn.Module):
    """``(n, columns)`` -> estimates ``(n, 1)`` in the units of the labels, whose mean and spread are kept as buffers."""

    centre: torch.Tensor
    spread: torch.Tensor

    def __init__(self, columns: int, classes: int = 1, width: int = 32, dropout: float = 0.2, norm: bool = False) -> None:
        super().__init__()
        self.layers = layers(columns, classes, width, dropout, norm)
        self.register_buffer("centre", torch.zeros(()))
        self.register_buffer("spread", torch.ones(()))

    def scaled(self, labels: np.ndarray) -> None:
        """Take mean and spread from the training labels."""
        self.centre.fill_(float(labels.mean()))
        self.spread.fill_(float(labels.std()))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.centre + self.spread * self.layers(rows)
