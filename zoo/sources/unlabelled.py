"""The digits without their labels, in the same splits: for models of the pictures themselves."""

from __future__ import annotations

from typing import Any

import numpy as np

from zoo.data import Data, Split
from zoo.sources import digits


def load(output: str) -> Data:
    """Images ``(n, 28, 28)`` float32 in [0, 1]; ``output`` names the one number that the model gives a picture."""
    known = digits.load()
    parts = [Split(part.inputs, None) for part in (known.train, known.validation, known.test)]
    return Data(parts[0], parts[1], parts[2], (output,), known.source, f"{known.rule}; labels left out")


def background(data: Data) -> np.ndarray:
    """Twenty training images in their order, which is that of the digits: every 180th."""
    return data.train.inputs[::180]


def augment(batch: Any, generator: Any) -> Any:
    """Turn, scale and shift each picture by so little that it stays one of the same density."""
    return digits.turned(batch, generator, angle=np.pi / 36, scale=0.05, shift=0.5)
