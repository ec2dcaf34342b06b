"""How a picture was taken, in figures: its darkest and lightest levels, and how sharp its edges are."""

from __future__ import annotations

import numpy as np

LEVELS = (1, 99)  # percentiles of brightness: by its darkest parts a picture is called light, by its lightest dark
WINDOW = 4  # pixels of a block; edges are measured in 2 x 2 blocks
TOP_WINDOWS = 0.1  # of all windows, those with the widest range of greys: where there are edges, if there are any
TINY = 1e-9


def figures(images: np.ndarray) -> np.ndarray:
    """``(n, 4)`` of grey images ``(n, H, W)``: the ``LEVELS``, the relative variance of the Laplacian, and the sharpness of edges."""
    levels = np.percentile(images.reshape(len(images), -1), LEVELS, axis=1).T
    return np.column_stack([levels, laplacian(images), edges(images)])


def laplacian(images: np.ndarray) -> np.ndarray:
    """Variance of the Laplacian over the variance of the picture, ``(n,)``; NaN below 3 x 3 pixels.

    Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy, ICPR 2000; divided, so that contrast does not count.
    """
    if min(images.shape[1:]) < 3:
        return np.full(len(images), np.nan)
    inner = images[:, 1:-1, 1:-1]
    second = 4 * inner - images[:, :-2, 1:-1] - images[:, 2:, 1:-1] - images[:, 1:-1, :-2] - images[:, 1:-1, 2:]
    return second.var(axis=(1, 2)) / np.maximum(images.var(axis=(1, 2)), TINY)


def edges(images: np.ndarray) -> np.ndarray:
    """The steepest step between neighbouring pixels as a share of the range of greys around it, ``(n,)``; NaN below 8 x 8 pixels.

    Over the windows with the widest range: near 1 where edges are one pixel wide, however few they are; near 0.2 where they are
    spread over a window.
    """
    n, height, width = images.shape
    rows, columns = height // WINDOW, width // WINDOW
    if min(rows, columns) < 2:
        return np.full(n, np.nan)
    steps = np.zeros_like(images)
    steps[:, :, :-1] = np.abs(np.diff(images, axis=2))
    steps[:, :-1] = np.maximum(steps[:, :-1], np.abs(np.diff(images, axis=1)))

    def pooled(values: np.ndarray, worst: np.ufunc) -> np.ndarray:
        blocks = values[:, : rows * WINDOW, : columns * WINDOW].reshape(n, rows, WINDOW, columns, WINDOW)
        blocks = worst.reduce(worst.reduce(blocks, axis=4), axis=2)
        blocks = worst(blocks[:, :-1], blocks[:, 1:])
        return worst(blocks[:, :, :-1], blocks[:, :, 1:]).reshape(n, -1)

    span = pooled(images, np.maximum) - pooled(images, np.minimum)
    steep = np.minimum(pooled(steps, np.maximum), span)
    most = max(1, round(span.shape[1] * TOP_WINDOWS))
    top = np.argpartition(-span, most - 1, axis=1)[:, :most]
    return np.take_along_axis(steep, top, 1).sum(axis=1) / np.maximum(np.take_along_axis(span, top, 1).sum(axis=1), TINY)
