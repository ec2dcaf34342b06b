"""Holes in a picture filled from what is around them: push-pull pyramids with a few steps of relaxation, for many masks at once."""

from __future__ import annotations

import numpy as np

_RELAXATIONS = 4  # per level of the pyramid; from the coarser level's answer this is near the harmonic filling
_SIDE = 64  # of the copy that larger pictures are filled on: a filling has no detail


def inpaint(image: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Pictures ``(m, H, W[, C])``: ``image`` where ``shown`` (m, H, W), elsewhere a smooth filling from what is shown.

    Push-pull (Gortler et al. 1996) from coarse to fine, each level relaxed towards the solution of Laplace's equation, which
    keeps constants and, between shown pixels, linear ramps. With nothing shown it is the picture's mean colour.
    """
    m, (height, width) = len(shown), image.shape[:2]
    colours = image.reshape(height, width, -1).astype(np.float32)
    factor = max(1, -(-max(height, width) // _SIDE))
    # Of a larger picture every so many pixels are taken: means over squares would let absent pixels through at the borders.
    rows, columns = (np.minimum(np.arange(factor // 2, side + factor // 2, factor), side - 1) for side in (height, width))
    weight = shown[:, rows[:, None], columns, None].astype(np.float32)
    mean = colours.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)
    filled = _fill(colours[rows[:, None], columns] * weight, weight, mean)
    if factor > 1:
        filled = _stretched(filled, factor)[:, :height, :width]
    np.copyto(filled, colours, where=shown[..., None])
    return filled.reshape(m, *image.shape).astype(image.dtype, copy=False)


def _fill(value: np.ndarray, weight: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """``value`` (m, h, w, C) where ``weight`` (m, h, w, 1) is 1, and a filling where it is less."""
    height, width = value.shape[1:3]
    if height == width == 1:
        return value * weight + mean * (1 - weight) if weight.min() < 1 else value
    below, amount = _blocks(value * weight, 2), _blocks(weight, 2)
    below = np.divide(below, amount, out=np.zeros_like(below), where=amount > 0)
    coarse = _fill(below, np.minimum(amount, 1), mean)
    filled = value * weight + _stretched(coarse, 2)[:, :height, :width] * (1 - weight)
    hole = weight == 0
    for _ in range(_RELAXATIONS):
        around = np.pad(filled, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
        mean_of_four = (around[:, :-2, 1:-1] + around[:, 2:, 1:-1] + around[:, 1:-1, :-2] + around[:, 1:-1, 2:]) * np.float32(0.25)
        np.copyto(filled, mean_of_four, where=hole)
    return filled


def _blocks(array: np.ndarray, factor: int) -> np.ndarray:
    """Sums ``(m, h, w, C)`` over squares of ``factor`` pixels; beyond the edge there is nothing."""
    m, height, width, channels = array.shape
    padded = np.pad(array, ((0, 0), (0, -height % factor), (0, -width % factor), (0, 0)))
    squares = padded.reshape(m, padded.shape[1] // factor, factor, padded.shape[2] // factor, factor, channels)
    return squares.sum(axis=4).sum(axis=2)


def _stretched(array: np.ndarray, factor: int) -> np.ndarray:
    """``array`` (m, h, w, C) enlarged ``factor`` times by linear interpolation between the centres of its cells."""
    for axis in (1, 2):
        size = array.shape[axis]
        place = np.clip((np.arange(size * factor) + 0.5) / factor - 0.5, 0, size - 1)
        low = np.floor(place).astype(np.int64)
        share = (place - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(4)])
        near, far = np.take(array, low, axis), np.take(array, np.minimum(low + 1, size - 1), axis)
        array = near + (far - near) * share
    return array
