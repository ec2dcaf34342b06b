"""Pictures that are cuts, resized or re-encoded copies of one another: found by a perceptual hash, told by laying them over each other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

BITS = 8  # a hash is 8 x 8 signs of low frequencies
BANDS = 4  # of 16 bits: hashes that differ in up to 7 bits agree in one band but for a bit
CLOSEST = 2  # pairs of each picture that are kept, by bits
CHUNK = 512
COARSE = 16  # on thumbnails of this side pairs are laid over each other first, ...
WORTH = 0.2  # ... and on full ones only where they come as near as this: a cut copy is at most 0.18 apart on the coarse
CROWD = 16  # hashes of one band compared each with each
ROUNDS = 6
LARGEST_CUT = 0.25  # of a side that scale and shift may take
OVERLAP = 0.6  # of the picture that must be seen in both
MARGIN = 1  # pixels left out at the border, where a resized copy has seen other neighbours


def hashes(greys: np.ndarray) -> np.ndarray:
    """``(n,)`` uint64 perceptual hashes of thumbnails ``(n, S, S)``: which low frequencies of the cosine transform exceed their median.

    Zauner, Implementation and benchmarking of perceptual image hash functions, 2010.
    """
    from scipy.fft import dctn

    low = dctn(greys, axes=(1, 2), norm="ortho")[:, :BITS, :BITS].reshape(len(greys), -1)
    return np.packbits(low > np.median(low[:, 1:], axis=1, keepdims=True), axis=1).view(np.uint64)[:, 0]


def apart(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """In how many bits two hashes differ."""
    return np.bitwise_count(left ^ right)


def close_hashes(codes: np.ndarray, radius: int) -> np.ndarray:
    """``(m, 2)`` pairs of hashes at most ``radius`` bits apart, complete up to 7 bits (but for crowds), by multi-index hashing.

    Norouzi, Punjani and Fleet, Fast search in Hamming space with multi-index hashing, CVPR 2012: of two such hashes one of the four
    bands differs in a bit at most. Of more than ``CROWD`` equal bands each is held against the next ones only.
    """
    parts = codes.view(np.uint16).reshape(len(codes), BANDS)
    found = [np.zeros(0, dtype=np.int64)]
    rows = np.arange(len(codes))
    for band in parts.T:
        for flip in (0, *(1 << bit for bit in range(16))):
            keys = np.concatenate([band, band ^ np.uint16(flip)]) if flip else band
            owner = np.concatenate([rows, rows]) if flip else rows
            order = np.argsort(keys, kind="stable")
            keys, owner = keys[order], owner[order]
            for step in range(1, CROWD + 1):
                same = keys[step:] == keys[:-step]
                if not same.any():
                    break
                a, b = owner[:-step][same], owner[step:][same]
                a, b = np.minimum(a, b), np.maximum(a, b)
                near = (a != b) & (apart(codes[a], codes[b]) <= radius)
                found.append(np.unique(a[near] * len(codes) + b[near]))
    pairs = np.unique(np.concatenate(found))
    return _closest(np.column_stack([pairs // max(1, len(codes)), pairs % max(1, len(codes))]), codes)


def _closest(pairs: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Of many pairs those that are among the ``CLOSEST`` of one of their two pictures."""
    order = np.argsort(apart(codes[pairs[:, 0]], codes[pairs[:, 1]]), kind="stable")
    kept = np.zeros(len(pairs), dtype=bool)
    for side in (0, 1):
        owner = pairs[order, side]
        by_owner = np.argsort(owner, kind="stable")
        begins = np.searchsorted(owner[by_owner], owner[by_owner])
        kept[order[by_owner[np.arange(len(pairs)) - begins < CLOSEST]]] = True
    return pairs[kept]


def distances(greys: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Distances of thumbnails pair by pair, each laid over the other, slightly smoothed: resizing makes and takes single pixels."""
    from scipy.ndimage import convolve1d

    from explainer.checks.pictures import shrink

    kernel = np.array([0.25, 0.5, 0.25], dtype=np.float32)
    smooth = convolve1d(convolve1d(greys, kernel, axis=1, mode="nearest"), kernel, axis=2, mode="nearest")
    coarse = shrink(smooth, COARSE)

    def between(i: np.ndarray, j: np.ndarray) -> np.ndarray:
        found = np.zeros(len(i), dtype=np.float32)
        for start in range(0, len(i), CHUNK):
            a, b = i[start : start + CHUNK], j[start : start + CHUNK]
            near = laid_over(coarse[a], coarse[b])
            worth = near <= WORTH
            if worth.any():
                a, b = a[worth], b[worth]
                near[worth] = np.minimum(laid_over(smooth[a], smooth[b]), laid_over(smooth[b], smooth[a]))
            found[start : start + CHUNK] = near
        return found

    return between


def laid_over(fixed: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Distances ``(m,)`` of unit pictures once ``moved`` is stretched and shifted over ``fixed``, ``(m, S, S)`` each.

    Gauss-Newton on scale and shift of both axes (Lucas and Kanade, IJCAI 1981), with brightness and contrast left free: the
    least ``sqrt(2 (1 - correlation))`` over the part that both show.
    """
    m, side, _ = fixed.shape
    place = (np.arange(side) - (side - 1) / 2).astype(np.float32)
    grid = np.arange(side, dtype=np.float32)
    slopes = np.gradient(moved, axis=(1, 2))
    settings = np.zeros((m, 4), dtype=np.float32)  # scale of rows and columns less 1, shift of rows and columns in sides
    best = np.full(m, 2.0, dtype=np.float32)
    inner = (grid >= MARGIN) & (grid < side - MARGIN)
    for step in range(ROUNDS + 1):
        weights, seen = [], []
        for axis in (0, 1):
            at = (side - 1) / 2 + place * (1 + settings[:, axis, None]) + settings[:, axis + 2, None] * side
            weights.append(np.maximum(0, 1 - np.abs(at[:, :, None] - grid)))
            seen.append(inner & (at >= 0) & (at <= side - 1))
        mask = (seen[0][:, :, None] & seen[1][:, None, :]).reshape(m, -1).astype(np.float32)
        amount = np.maximum(mask.sum(axis=1, keepdims=True), 1)

        def warped(pictures: np.ndarray, weights: list[np.ndarray] = weights) -> np.ndarray:
            return (weights[0] @ pictures @ weights[1].transpose(0, 2, 1)).reshape(m, -1)

        def centred(values: np.ndarray, mask: np.ndarray = mask, amount: np.ndarray = amount) -> np.ndarray:
            values = values * mask
            return values - mask * (values.sum(axis=1, keepdims=True) / amount)

        ours, theirs = centred(fixed.reshape(m, -1)), centred(warped(moved))
        length = np.maximum(np.linalg.norm(theirs, axis=1, keepdims=True), 1e-9)
        ours, theirs = ours / np.maximum(np.linalg.norm(ours, axis=1, keepdims=True), 1e-9), theirs / length
        distance = np.linalg.norm(ours - theirs, axis=1)
        best = np.where(mask.mean(axis=1) >= OVERLAP, np.minimum(best, distance), best)
        if step == ROUNDS:
            break
        down, across = (warped(slope) / length * side for slope in slopes)
        relative = place / side
        moves = [down * np.repeat(relative, side), across * np.tile(relative, side), down, across]
        columns = np.stack([centred(move) for move in moves], axis=2)
        columns = columns - theirs[:, :, None] * (theirs[:, :, None] * columns).sum(axis=1, keepdims=True)
        square = columns.transpose(0, 2, 1) @ columns + 1e-4 * np.eye(4, dtype=np.float32)
        step_ = np.linalg.solve(square, columns.transpose(0, 2, 1) @ (ours - theirs)[:, :, None])[:, :, 0]
        settings = np.clip(settings + step_, -LARGEST_CUT, LARGEST_CUT)
    return best
