"""RISE: how much higher the score is on random masks that show a part than on all of them (Petsiuk, Das & Saenko 2018)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from explainer.coalitions import Coalitions, rounds
from explainer.errors import InvalidInput
from explainer.features import image
from explainer.methods.attribution import Attribution

_BYTES_AT_ONCE = 2**25  # of masks and masked copies built at once
_MASKS_AT_ONCE = 512
_FIRST = 8  # masks of each input before any has more, then twice as many each time
_FEWEST = 2  # scored masks below which a standard error means nothing


def rise(
    model: Any, inputs: Any, target: Any, *, coalitions: Coalitions, baseline: Any, seed: int,
    shown: float = 0.5, cells: int = 7, centred: bool = True,
) -> Attribution:  # fmt: skip
    r"""Mean score over random masks weighted by how far each shows the part, less the mean over all masks.

    .. math:: \phi_p = \frac{\sum_m M_m(p)\, f(x \odot M_m)}{\sum_m M_m(p)} - \frac{1}{N} \sum_m f(x \odot M_m)

    Petsiuk, Das & Saenko (2018), BMVC. Images: ``cells`` x ``cells`` grids, each cell on with probability ``shown``, enlarged
    bilinearly and shifted at random; where the mask is 0 the baseline shows; values ``(row, column, k)``. Other inputs: each
    part is kept with probability ``shown``. ``centred=False`` leaves the second term out, as the paper does: then the values
    are scores, and most of each is the same for all parts. The weights' sum stands where the paper has its expectation: a
    ratio estimator, with a far smaller error for the same masks. Standard errors by the delta method. Raises InvalidInput.
    """
    if not 0 < shown < 1:
        raise InvalidInput(f"shown={shown!r} is the probability that a cell is shown; it lies between 0 and 1.")
    if not isinstance(cells, (int, np.integer)) or cells < 2:
        raise InvalidInput(f"cells={cells!r} is the number of cells along each side; a whole number from 2 on is needed.")
    size, n = coalitions.budget.evaluations, len(inputs)
    coalitions.plan(n * size)
    axes: tuple[str, ...] = ("row", "column")
    names: list[tuple[str, ...]] = [()] * n  # pixels have no names, only positions
    if model.modality == "image":
        shapes = [inputs.shape[1:3]] * n
        blocks = _pictures(coalitions, inputs, image.baseline_of(inputs, baseline), size, shown, int(cells), seed)
    else:
        features = coalitions.features
        shapes, axes, names = [features.shape(i) for i in range(n)], features.axes, [features.names(i) for i in range(n)]
        blocks = _parts(coalitions, n, size, shown, seed)
    sums = [_Sums(shape, coalitions.target.k) for shape in shapes]
    for block in blocks:
        for one, (masks, scores) in zip(sums, block, strict=True):
            one.add(masks, scores)
        left = [one for i, one in enumerate(sums) if i not in coalitions.failed]
        seen = all(one.count >= _MASKS_AT_ONCE for one in left)  # fewer say too little of their own error
        if coalitions.stopped or not left or (seen and all(one.settled(coalitions.budget.error, centred) for one in left)):
            break
    found = [one.values(centred) for one in sums]
    return Attribution(
        [value for value, _ in found], axes, names, stderr=[error for _, error in found], evaluations=coalitions.evaluations,
        parameters={"masks": max(one.count for one in sums), "shown": shown, "centred": centred}
        | ({"cells": cells, "absence": "a soft mask lets the baseline through"} if axes[0] == "row" else {"absence": features.absence}),
    )  # fmt: skip


class _Sums:
    """Sums over masks from which the values and their errors follow, so that no mask need be kept."""

    def __init__(self, shape: tuple[int, ...], k: int) -> None:
        self._shape = shape
        self.count = 0
        self._pivot: np.ndarray | None = None  # near the mean score: differences from it lose no digits
        cells = int(np.prod(shape))
        self._m, self._mm = np.zeros((cells, 1)), np.zeros((cells, 1))
        self._mf, self._mff, self._mmf, self._mmff = (np.zeros((cells, k)) for _ in range(4))
        self._f, self._ff = np.zeros(k), np.zeros(k)

    def add(self, masks: np.ndarray, scores: np.ndarray) -> None:
        """Masks ``(m, *shape)`` and scores ``(m, k)``; those that are NaN do not count."""
        told = np.isfinite(scores).all(axis=1)
        if not told.any():
            return
        shown, f = masks[told].reshape(int(told.sum()), -1).astype(np.float64), scores[told]
        if self._pivot is None:
            self._pivot = f.mean(axis=0)
        f = f - self._pivot
        square = shown**2
        self.count += len(f)
        self._m += shown.sum(axis=0)[:, None]
        self._mm += square.sum(axis=0)[:, None]
        self._mf += shown.T @ f
        self._mff += shown.T @ f**2
        self._mmf += square.T @ f
        self._mmff += square.T @ f**2
        self._f += f.sum(axis=0)
        self._ff += (f**2).sum(axis=0)

    def values(self, centred: bool) -> tuple[np.ndarray, np.ndarray]:
        """Values and standard errors ``(*shape, k)``; NaN where no mask was scored, or none showed the part."""
        n = self.count
        if n < _FEWEST or self._pivot is None:
            return np.full((*self._shape, len(self._f)), np.nan), np.full((*self._shape, len(self._f)), np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio, mean, weight = self._mf / self._m, self._f / n, self._m / n
            # The influence of one mask on the value is M (f - ratio) / weight, less (f - mean) where the mean is taken off.
            spread = (self._mmff - 2 * ratio * self._mmf + ratio**2 * self._mm) / weight**2
            if centred:
                spread += (self._ff - n * mean**2) - 2 * (self._mff - (ratio + mean) * self._mf + ratio * mean * self._m) / weight
        value = ratio - mean if centred else ratio + self._pivot
        error = np.sqrt(np.clip(spread, 0, None) / (n * (n - 1)))
        return value.reshape(*self._shape, -1), error.reshape(*self._shape, -1)

    def settled(self, share: float | None, centred: bool) -> bool:
        """Whether the 95 % interval of every value is within ``share`` of the largest value; never without a share."""
        if share is None:
            return False
        value, error = self.values(centred)
        return bool((1.96 * error <= share * np.abs(value).reshape(-1, value.shape[-1]).max(axis=0)).all())


Block = list[tuple[np.ndarray, np.ndarray]]  # masks and scores per instance


def _parts(coalitions: Coalitions, n: int, size: int, shown: float, seed: int) -> Iterator[Block]:
    players = [coalitions.features.players(i) for i in range(n)]
    at_once = min(_MASKS_AT_ONCE, max(1, _BYTES_AT_ONCE // sum(players)))
    # The draws depend on the seed and the number of parts only, so an instance is explained alike in any batch.
    draws = [np.random.default_rng([seed, d]) for d in players]
    for block in _blocks(size, at_once):
        masks = [rng.random((block.stop - block.start, d)) < shown for rng, d in zip(draws, players, strict=True)]
        yield list(zip(masks, coalitions.gather(list(enumerate(masks))), strict=True))
        for i in range(n):
            coalitions.forget(i)


def _pictures(
    coalitions: Coalitions, images: np.ndarray, hidden: np.ndarray, size: int, shown: float, cells: int, seed: int
) -> Iterator[Block]:
    """The same masks for all pictures: each block of them is enlarged once."""
    shape = images.shape[1:3]
    grids, shifts = _grids(shape, size, shown, cells, seed)
    at_once = min(_MASKS_AT_ONCE, max(1, _BYTES_AT_ONCE // max(1, 2 * images[0].nbytes)))
    for block in _blocks(size, at_once):
        masks = _enlarged(shape, grids[block], shifts[block])
        over = masks[..., None] if images.ndim == 4 else masks
        rows = ((hidden[i] + over * (picture - hidden[i])).astype(np.float32) for i, picture in enumerate(images))
        yield [(masks, coalitions.score_rows(i, one)) for i, one in enumerate(rows)]


def _blocks(size: int, at_once: int) -> Iterator[slice]:
    """Masks asked for together: few at first, so that every input has some before the seconds end."""
    for turn in rounds(size, _FIRST):
        for start in range(turn.start, turn.stop, at_once):
            yield slice(start, min(start + at_once, turn.stop))


def _grids(shape: tuple[int, ...], size: int, shown: float, cells: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random grids ``(size, rows, columns)`` of 0 and 1, and the shift ``(size, 2)`` of each, less than a cell."""
    rng = np.random.default_rng([seed, *shape])
    across = [min(cells, side) for side in shape]
    grids = (rng.random((size, *across)) < shown).astype(np.float32)
    widths = [-(-side // c) for side, c in zip(shape, across, strict=True)]
    return grids, np.stack([rng.integers(0, width, size) for width in widths], axis=1)


def _enlarged(shape: tuple[int, ...], grids: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Masks ``(m, H, W)``: each grid enlarged to one cell more than the picture, and cut out at its shift."""
    down, right = (_slopes(side, cells) for side, cells in zip(shape, grids.shape[1:], strict=True))
    rows = shifts[:, :1] + np.arange(shape[0])
    columns = shifts[:, 1:] + np.arange(shape[1])
    return down[rows] @ grids @ right[columns].transpose(0, 2, 1)


def _slopes(side: int, cells: int) -> np.ndarray:
    """Bilinear weights ``((cells + 1) * width, cells)`` of a grid's cells at each pixel of its enlargement; each row sums to 1."""
    length = (cells + 1) * -(-side // cells)
    place = np.clip((np.arange(length) + 0.5) * cells / length - 0.5, 0, cells - 1)
    return np.clip(1 - np.abs(place[:, None] - np.arange(cells)), 0, None).astype(np.float32)
