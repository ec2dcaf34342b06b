"""Accumulated local effects, of one column or of two (Apley & Zhu 2020, JRSS B 82)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from explainer.inspection.tables import Score, cells, is_category

if TYPE_CHECKING:
    import pandas as pd


def accumulated(frame: pd.DataFrame, j: int, axis: np.ndarray, score: Score) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places, effects ``(k, g)`` and standard errors of one column; rows where it is missing take no part."""
    frame = frame[frame.iloc[:, j].notna().to_numpy()].reset_index(drop=True)
    if is_category(frame.iloc[:, j]):
        axis, steps, rows = _between_categories(frame, j, axis)
        weight = np.bincount(_codes(frame, j, axis), minlength=len(axis)).astype(float)
    else:
        rows = np.arange(len(frame))
        steps = np.clip(np.searchsorted(axis, frame.iloc[:, j].to_numpy(dtype=float), side="left"), 1, len(axis) - 1) - 1
        # An interval's middle stands for its rows: each of its ends weighs half.
        counts = np.bincount(steps, minlength=len(axis) - 1)
        weight = (np.append(counts, 0) + np.append(0, counts)) / 2
    difference = _difference(frame.iloc[rows], j, axis[steps], axis[steps + 1], score)
    values, error = _sum_up(difference, steps, rows, len(axis), weight)
    return axis, values, error


def _sum_up(difference: np.ndarray, steps: np.ndarray, rows: np.ndarray, places: int, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean difference per step, accumulated and centred; the error from each row's own influence on the curve."""
    told = np.isfinite(difference).all(axis=1)
    difference, steps, rows = difference[told], steps[told], rows[told]
    counts = np.bincount(steps, minlength=places - 1)
    mean = np.zeros((places - 1, difference.shape[1]))
    np.add.at(mean, steps, difference)
    mean /= np.maximum(counts, 1)[:, None]
    total = np.tri(places, places - 1, -1)
    total -= (weight / weight.sum()) @ total  # (places, steps): accumulates and centres at once
    values = total @ mean
    own = (difference - mean[steps]) / np.sqrt(counts * np.maximum(counts - 1, 1))[steps, None]
    alone = np.zeros_like(mean)
    np.add.at(alone, steps, own**2)
    variance = total**2 @ alone
    # A row between two categories takes part in two neighbouring steps, with one error.
    order = np.lexsort((steps, rows))
    first, second = order[:-1], order[1:]
    both = rows[first] == rows[second]
    shared = np.zeros_like(mean)
    np.add.at(shared, steps[first[both]], own[first[both]] * own[second[both]])
    variance += 2 * (total[:, :-1] * total[:, 1:]) @ shared[:-1]
    return values.T, np.sqrt(np.clip(variance, 0, None)).T


def _difference(frame: pd.DataFrame, j: int, low: np.ndarray, high: np.ndarray, score: Score) -> np.ndarray:
    """Change of the score ``(rows, k)`` when the column goes from ``low`` to ``high``, the rest of each row as it is."""
    import pandas as pd

    both = pd.concat([frame, frame], ignore_index=True)
    both[frame.columns[j]] = cells(np.concatenate([low, high]), frame.iloc[:, j])
    scores = score(both)
    return scores[len(frame) :] - scores[: len(frame)]


def _codes(frame: pd.DataFrame, j: int, axis: np.ndarray) -> np.ndarray:
    place = {value: k for k, value in enumerate(axis)}
    return np.array([place[value] for value in frame.iloc[:, j]], dtype=np.int64)


def _between_categories(frame: pd.DataFrame, j: int, axis: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Categories in an order, and per step between two neighbours the rows of both: each moves up, down, or both."""
    import pandas as pd

    column = frame.iloc[:, j]
    seen = np.array([bool((column == value).any()) for value in axis])
    axis = axis[seen]
    frame_codes = _codes(frame[column.isin(list(axis))], j, axis)
    ordered = isinstance(column.dtype, pd.CategoricalDtype) and bool(column.cat.ordered)
    if not ordered and len(axis) > 2:
        order = _by_likeness(frame[column.isin(list(axis))], j, frame_codes, len(axis))
        axis = axis[order]
        frame_codes = np.argsort(order)[frame_codes]
    kept = np.flatnonzero(column.isin(list(axis)).to_numpy())
    up, down = frame_codes < len(axis) - 1, frame_codes > 0
    return axis, np.concatenate([frame_codes[up], frame_codes[down] - 1]), np.concatenate([kept[up], kept[down]])


def _by_likeness(frame: pd.DataFrame, j: int, codes: np.ndarray, count: int) -> np.ndarray:
    """Order categories along the first axis of a scaling of how far apart the other columns of their rows lie.

    The distance is Kolmogorov-Smirnov's for numbers, half the sum of differences of shares for categories, summed over
    columns, as in the authors' code; the end with the category that comes first by name is put first.
    """
    distance = np.zeros((count, count))
    for other in range(frame.shape[1]):
        if other == j:
            continue
        column = frame.iloc[:, other]
        if is_category(column):
            values = column.astype(str).to_numpy()
            shares = np.array([[np.mean(values[codes == c] == v) for v in np.unique(values)] for c in range(count)])
            distance += np.abs(shares[:, None] - shares[None]).sum(-1) / 2
        else:
            numbers = column.to_numpy(dtype=float, na_value=np.nan)
            at = np.unique(np.quantile(numbers[np.isfinite(numbers)], np.linspace(0, 1, 51))) if np.isfinite(numbers).any() else np.zeros(1)
            below = np.array([[np.mean(numbers[codes == c] <= v) for v in at] for c in range(count)])
            distance += np.abs(below[:, None] - below[None]).max(-1)
    centring = np.eye(count) - 1 / count
    vectors: Any = np.linalg.eigh(-centring @ distance**2 @ centring / 2)[1]
    axis = vectors[:, -1]
    return np.argsort(axis if axis[0] <= axis[-1] else -axis, kind="stable")


def accumulated_pair(
    frame: pd.DataFrame, places: tuple[int, ...], grids: tuple[np.ndarray, ...], score: Score
) -> tuple[np.ndarray, np.ndarray]:
    """Second-order effects ``(k, g, h)``: what two columns do together beyond what each does alone, and their errors."""
    import pandas as pd

    a, b = places
    kept = frame.iloc[:, [a, b]].notna().all(axis=1).to_numpy()
    frame = frame[kept].reset_index(drop=True)
    cell = [
        np.clip(np.searchsorted(z, frame.iloc[:, j].to_numpy(dtype=float), side="left"), 1, len(z) - 1) - 1
        for j, z in zip(places, grids, strict=True)
    ]
    corners = []
    for up_a in (0, 1):
        for up_b in (0, 1):
            corner = frame.copy()
            corner[frame.columns[a]] = cells(grids[0][cell[0] + up_a], frame.iloc[:, a])
            corner[frame.columns[b]] = cells(grids[1][cell[1] + up_b], frame.iloc[:, b])
            corners.append(corner)
    low_low, low_high, high_low, high_high = score(pd.concat(corners, ignore_index=True)).reshape(4, len(frame), -1)
    second = (high_high - high_low) - (low_high - low_low)
    told = np.isfinite(second).all(axis=1)
    second, cell = second[told], [c[told] for c in cell]
    shape = (len(grids[0]) - 1, len(grids[1]) - 1)
    flat = np.ravel_multi_index(tuple(cell), shape)
    counts = np.bincount(flat, minlength=shape[0] * shape[1])
    mean = np.zeros((counts.size, second.shape[1]))
    np.add.at(mean, flat, second)
    mean /= np.maximum(counts, 1)[:, None]
    variance = np.zeros_like(mean)
    np.add.at(variance, flat, (second - mean[flat]) ** 2)
    variance /= (np.maximum(counts, 1) * np.maximum(counts - 1, 1))[:, None]
    mean = _filled(mean, counts, shape)
    linear = _second_order(counts.reshape(shape).astype(float))
    values = linear @ mean
    error = np.sqrt(linear**2 @ variance)
    full = (second.shape[1], len(grids[0]), len(grids[1]))
    return values.T.reshape(full), error.T.reshape(full)


def _filled(mean: np.ndarray, counts: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Empty cells take the difference of the nearest cell that has rows, distances counted in cells' widths."""
    from scipy.ndimage import distance_transform_edt

    empty = (counts == 0).reshape(shape)
    if not empty.any():
        return mean
    spacing = (1 / shape[0], 1 / shape[1])
    nearest = distance_transform_edt(empty, sampling=spacing, return_distances=False, return_indices=True)
    return mean[np.ravel_multi_index(tuple(nearest), shape).ravel()]


def _second_order(counts: np.ndarray) -> np.ndarray:
    """The linear map from cells' mean second differences to accumulated effects without both main effects, centred.

    ``(places of both, cells)``: accumulating, taking off each column's own ALE of what was accumulated, and centring are
    all linear, so errors pass through the same map.
    """
    rows, columns = counts.shape
    total = np.kron(np.tri(rows + 1, rows, -1), np.tri(columns + 1, columns, -1)).reshape(rows + 1, columns + 1, rows * columns)
    result = total.copy()
    result -= _own_effect(total, counts)[:, None]
    result -= _own_effect(total.transpose(1, 0, 2), counts.T)[None]
    corners = (result[:-1, :-1] + result[1:, :-1] + result[:-1, 1:] + result[1:, 1:]) / 4
    result -= np.einsum("ij,ijc->c", counts, corners) / counts.sum()
    return result.reshape(-1, rows * columns)


def _own_effect(total: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The first axis' own accumulated effect of ``total`` (g, h, cells), rows weighing as they lie along the other axis."""
    steps = np.diff(total, axis=0)
    middle = (steps[:, :-1] + steps[:, 1:]) / 2
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return np.concatenate([np.zeros((1, total.shape[2])), np.cumsum(np.einsum("ij,ijc->ic", share, middle), axis=0)])
