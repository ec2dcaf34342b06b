"""Chest X-rays of children, 28 x 28: pneumonia or not (PneumoniaMNIST)."""

from __future__ import annotations

from typing import Any

import numpy as np

from zoo.data import Data, Split
from zoo.sources.official import locate

SOURCE = "PneumoniaMNIST of MedMNIST v2 (Yang et al. 2023; Kermany et al. 2018)"
RULE = "the authors' own 4,708 train, 524 validation and 624 test images"


def load() -> Data:
    """Images ``(n, 28, 28)`` float32 in [0, 1]; classes "normal" and "pneumonia"."""
    with np.load(locate("pneumonia"), allow_pickle=False) as archive:
        parts = [
            Split(archive[f"{part}_images"].astype(np.float32) / 255, archive[f"{part}_labels"].ravel().astype(np.int64))
            for part in ("train", "val", "test")
        ]
    return Data(parts[0], parts[1], parts[2], ("normal", "pneumonia"), SOURCE, RULE)


def background(data: Data) -> np.ndarray:
    """Ten training images of each class."""
    labels = data.train.labels
    return data.train.inputs[np.concatenate([np.flatnonzero(labels == k)[:10] for k in range(2)])]


def augment(batch: Any, generator: Any) -> Any:
    """Mirror half of the images, turn by up to 10 degrees, shift by up to 2 pixels, and change contrast and light by up to 20 %."""
    import torch

    from zoo.sources.digits import turned

    moved = turned(batch, generator, angle=np.pi / 18, scale=0.1, shift=2)
    random = torch.rand((len(batch), 3), generator=generator).to(batch.device)
    flipped = torch.where(random[:, 0, None, None, None] < 0.5, moved.flip(-1), moved)
    return flipped * (0.8 + 0.4 * random[:, 1, None, None, None]) + 0.4 * random[:, 2, None, None, None] - 0.2
