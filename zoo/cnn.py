"""A convolutional network for small grey images."""

from __future__ import annotations

import torch
from torch import nn


class Digits(nn.Module):
    """Two convolutions (32, 64), pooling and a dense layer of 128, with batch normalisation and dropout.

    ``(n, 1, 28, 28)`` -> logits ``(n, classes)``.
    """

    def __init__(self, classes: int, dropout: float = 0.3) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.head = nn.Sequential(
            nn.Flatten(), nn.Dropout(dropout), nn.Linear(64 * 7 * 7, 128), nn.BatchNorm1d(128), nn.ReLU(),
            nn.Dropout(dropout), nn.Linear(128, classes),
        )  # fmt: skip

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images))


class Residual(nn.Module):
    """Two 3 x 3 convolutions with batch normalisation, added to their input (He et al. 2016); ``stride`` 2 halves the image."""

    def __init__(self, channels: int, made: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, made, 3, stride, 1, bias=False), nn.BatchNorm2d(made), nn.ReLU(),
            nn.Conv2d(made, made, 3, 1, 1, bias=False), nn.BatchNorm2d(made),
        )  # fmt: skip
        same = stride == 1 and channels == made
        self.skip = nn.Identity() if same else nn.Sequential(nn.Conv2d(channels, made, 1, stride, bias=False), nn.BatchNorm2d(made))
        self.relu = nn.ReLU()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.relu(self.body(images) + self.skip(images))


class XRays(nn.Module):
    """Four residual blocks of 16 to 64 channels, the mean over the image, dropout and a linear layer.

    ``(n, 1, 28, 28)`` -> logits ``(n, classes)``.
    """

    def __init__(self, classes: int, width: int = 16, dropout: float = 0.3) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            Residual(width, width), Residual(width, 2 * width, 2), Residual(2 * width, 2 * width), Residual(2 * width, 4 * width, 2),
        )  # fmt: skip
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(4 * width, classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images))
