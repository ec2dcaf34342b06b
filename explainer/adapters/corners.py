"""Noise pictures with one corner changed, and what the change moves: how an output's positions are told apart from its channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

_COPIES = 5  # the picture itself, and with each corner changed
PARTS = (32, 8)  # of the picture's side: a corner within one patch; and where that is skipped, a wide one
_FOLLOWS, _AGAINST = 0.05, 0.2  # of the map's side


@dataclass(frozen=True)
class Plane:
    """How far the change in an output moves when it moves in the picture, in shares of the map's side; NaN where nothing moves.

    ``down``: along the rows, from the upper corners to the lower ones; ``right``: along the columns; ``across``: the larger
    of the two movements along the wrong axis.
    """

    rows: int
    columns: int
    down: float
    right: float
    across: float

    @property
    def along(self) -> float:
        return min(self.down, self.right)

    @property
    def follows(self) -> bool:
        return self.along > max(_FOLLOWS, self.across)

    @property
    def contradicts(self) -> bool:
        return self.along < -_AGAINST or self.across > max(_AGAINST, self.along)

    def shaped_like(self, shape: tuple[int, ...]) -> bool:
        """Whether its sides are in proportion as the picture's are, to a factor of 2."""
        return 0.5 < (self.rows * shape[1]) / (self.columns * shape[0]) < 2


@dataclass(frozen=True)
class Sight:
    """What was seen of one output: its shape without the batch, and where each changed corner moved it.

    ``planes`` of an output with three axes, by where its channels lie; ``moved`` ``(4, tokens)`` of a sequence, else ``(4, 1)``.
    """

    shape: tuple[int, ...]
    batch_axis: int
    planes: Mapping[str, Plane]
    moved: np.ndarray

    @property
    def sharp(self) -> bool:
        """Whether every changed corner moved one position more than all others together."""
        return bool((self.moved.max(1) > 0.5 * self.moved.sum(1)).all())

    @property
    def moves(self) -> bool:
        """Whether every changed corner moved something."""
        return bool((self.moved.sum(1) > 0).all())

    def plane(self, before: int, rows: int, columns: int) -> Plane:
        """The tokens after the first ``before`` as a plane."""
        return _plane(self.moved[:, before : before + rows * columns].reshape(-1, rows, columns))


def noise(shape: tuple[int, ...], value_range: tuple[float, float]) -> np.ndarray:
    """One picture of noise, the same every time."""
    low, high = value_range
    return np.random.default_rng(0).uniform(low, high, (1, *shape)).astype(np.float32)


def changed(picture: np.ndarray, part: int) -> np.ndarray:
    """``(5, ...)``: the picture, then with each corner inverted in a block of ``1 / part`` of its sides: upper, then lower."""
    inverted = picture.min() + picture.max() - picture
    copies = [picture]
    high, wide = (max(1, min(side // 4, max(2, side // part))) for side in picture.shape[1:3])
    for rows in (slice(0, high), slice(-high, None)):
        for columns in (slice(0, wide), slice(-wide, None)):
            copy = picture.copy()
            copy[:, rows, columns] = inverted[:, rows, columns]
            copies.append(copy)
    return np.concatenate(copies)


def sight_of(output: Tensor) -> Sight | None:
    """Read the output for :func:`changed` copies; None where it is not one row per copy with two or three axes."""
    axis = next((a for a in (0, 1) if output.ndim in (3, 4) and output.shape[a] == _COPIES), None)
    if axis is None:
        return None
    copies = output.movedim(axis, 0).float()
    square = (copies[1:] - copies[:1]).square()  # (4, *shape)
    shape = tuple(copies.shape[1:])
    if square.ndim == 3:
        return Sight(shape, axis, {}, _numbers(square.sum(2)))
    planes = {"channels first": _plane(_numbers(square.sum(1))), "channels last": _plane(_numbers(square.sum(3)))}
    return Sight(shape, axis, planes, _numbers(square.flatten(1).sum(1, keepdim=True)))


def grid_of_tokens(sight: Sight, fronts: Sequence[int], shape: tuple[int, ...]) -> tuple[int, int, int] | str:
    """Tokens before the grid, rows and columns of a sequence made of pictures of ``shape``; or why they cannot be told.

    Where a changed corner moves one token most, the four tokens give the grid. Where tokens are mixed already, the one
    factorisation on which the change moves with the corner is taken, behind as many tokens as an earlier layer had (``fronts``).
    """
    count = sight.shape[0]
    read = _corner_tokens(sight.moved)
    if read is not None and _sound(sight.plane(*read), shape):
        return read
    options = [
        (before, rows, (count - before) // rows)
        for before in sorted({0, *fronts})
        for rows in range(2, (count - before) // 2 + 1)
        if (count - before) % rows == 0
    ]
    planes = [(sight.plane(*one), one) for one in options]
    ranked = sorted(((_clearness(plane), one) for plane, one in planes if _sound(plane, shape)), reverse=True)
    if ranked and ranked[0][0] > _AGAINST:
        if len(ranked) == 1 or ranked[1][0] < 0.5 * ranked[0][0]:
            return ranked[0][1]
        return f"its {count} tokens fit more than one grid ({' and '.join(f'{r} x {c}' for _, (_, r, c) in ranked[:2])})"
    return f"its {count} positions do not follow the picture's corners in rows and columns"


def _sound(plane: Plane, shape: tuple[int, ...]) -> bool:
    return min(plane.rows, plane.columns) > 1 and plane.follows and plane.shaped_like(shape)


def _corner_tokens(moved: np.ndarray) -> tuple[int, int, int] | None:
    """The grid whose corners are the tokens that the four changed corners moved most."""
    if not (moved.sum(1) > 0).all():
        return None
    a, b, c, d = (int(k) for k in moved.argmax(1))
    columns = b - a + 1
    if columns < 1 or c < a or (c - a) % columns:
        return None
    rows = (c - a) // columns + 1
    return (a, rows, columns) if d == a + rows * columns - 1 else None


def _clearness(plane: Plane) -> float:
    return max(0.0, plane.along - plane.across)


def _plane(moved: np.ndarray) -> Plane:
    """From what each corner moved, ``(4, rows, columns)``."""
    rows, columns = moved.shape[1:]
    if not (moved.sum((1, 2)) > 0).all():
        return Plane(rows, columns, np.nan, np.nan, np.nan)
    share = moved / moved.sum((1, 2), keepdims=True)
    top_left, top_right, low_left, low_right = (np.array([one.sum(1) @ _places(rows), one.sum(0) @ _places(columns)]) for one in share)
    vertical = (low_left + low_right - top_left - top_right) / 2
    horizontal = (top_right + low_right - top_left - low_left) / 2
    across = max(abs(vertical[1]), abs(horizontal[0]))
    return Plane(rows, columns, float(vertical[0]), float(horizontal[1]), float(across))


def _places(side: int) -> np.ndarray:
    return np.linspace(0, 1, side) if side > 1 else np.zeros(1)


def _numbers(tensor: Tensor) -> Any:
    return tensor.double().cpu().numpy()
