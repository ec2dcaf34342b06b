"""Marks burnt into pictures: cut from some of them, and looked for in others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

SHAPES = (1 / 9, 1 / 5, 2 / 7)  # sides of square patches, in the shorter side of the picture
STRIP = 2 / 7  # length of strips one pixel wide, for frames and rulers
SOURCES, CUTS = 8, 100  # images from which marks that move are cut, and cuts of the highest contrast from each
AT_ONCE = 8  # images whose windows are held at a time
CANDIDATES = 12  # of a class and of a way of looking
LIKE = 0.2  # two patches are the same where they differ by so much of the patch's own contrast (root mean square) ...
LEAST_LIKE, MOST_LIKE = 0.012, 0.05  # ... but by no less and no more than this share of white
MAYBE = 0.15  # of a class's searched images show a candidate, ...
SELDOM = 0.04  # ... and at most so many of the others
LEVELS = 25  # of brightness by which one pixel's most frequent value is told
PEAK = 0.15  # of a class beyond its neighbouring levels, and beyond the others' own peak: values of sound pictures spread smoothly
BACKGROUND = 0.10  # a value that so many of all pixels have is no ink but the paper
NEAR = 0.04  # a pixel has the value of the ink within this share of white
AGREE = 0.85  # of the ink's pixels must have it
INK_LEAST = 4  # pixels


class Mark(Protocol):
    """Something that may stand in a picture."""

    @property
    def place(self) -> tuple[int, int] | None:
        """Its upper left corner, None where it moves."""
        ...

    @property
    def pixels(self) -> np.ndarray:
        """``(h, w)``, NaN where it lets the picture through."""
        ...

    def found(self, images: np.ndarray, anywhere: bool) -> np.ndarray:
        """Which of ``(n, H, W)`` images show it: at its place, or anywhere."""
        ...


@dataclass(frozen=True)
class Patch:
    """A patch of which all pixels count."""

    pixels: np.ndarray
    place: tuple[int, int] | None

    @property
    def limit(self) -> float:
        """The squared distance within which a patch is the same."""
        near = np.clip(LIKE * self.pixels.std(), LEAST_LIKE, MOST_LIKE)
        return float(near**2 * self.pixels.size)

    def found(self, images: np.ndarray, anywhere: bool) -> np.ndarray:
        images = _at(self.place, self.pixels.shape, images, anywhere)
        hits = [(_distances(part, self.pixels) <= self.limit).any(axis=(1, 2)) for part in np.array_split(images, len(images) // 64 + 1)]
        return np.concatenate(hits)


@dataclass(frozen=True)
class Ink:
    """A mark that lets the picture through between its pixels: letters, ticks, thin frames."""

    pixels: np.ndarray
    place: tuple[int, int] | None

    def found(self, images: np.ndarray, anywhere: bool) -> np.ndarray:
        images = _at(self.place, self.pixels.shape, images, anywhere)
        rows, columns = images.shape[1] - self.pixels.shape[0] + 1, images.shape[2] - self.pixels.shape[1] + 1
        agree = np.zeros((len(images), rows, columns), dtype=np.int32)
        places = np.argwhere(np.isfinite(self.pixels))
        for i, j in places:
            agree += np.abs(images[:, i : i + rows, j : j + columns] - self.pixels[i, j]) <= NEAR
        return np.asarray((agree >= AGREE * len(places)).any(axis=(1, 2)))


def _at(place: tuple[int, int] | None, shape: tuple[int, ...], images: np.ndarray, anywhere: bool) -> np.ndarray:
    if anywhere or place is None:
        return images
    return images[:, place[0] : place[0] + shape[0], place[1] : place[1] + shape[1]]


def candidates(search: np.ndarray, rest: np.ndarray) -> Iterator[Mark]:
    """The marks worth a test, the most frequent ones first in each shape."""
    short = min(search.shape[1:])
    squares = sorted({max(2, round(part * short)) for part in SHAPES})
    strip = max(4, round(STRIP * short))
    for height, width in [*((s, s) for s in squares), (1, strip), (strip, 1)]:
        if height > search.shape[1] or width > search.shape[2]:
            continue
        found = sorted(_fixed(search, rest, height, width), key=lambda pair: -pair[0])
        yield from (mark for _, mark in found[:CANDIDATES])
        if height == width and height > 4:
            moving = sorted(_moving(search, rest, height), key=lambda pair: -pair[0])
            yield from (mark for _, mark in moving[:CANDIDATES])
    inks = sorted(_inks(search, rest), key=lambda pair: -pair[0])
    yield from (mark for _, mark in inks[:CANDIDATES])


def _fixed(search: np.ndarray, rest: np.ndarray, height: int, width: int) -> Iterator[tuple[float, Mark]]:
    """Per place the patch that most of the class share there beyond the others, and its share."""
    for row in _starts(search.shape[1], height):
        for column in _starts(search.shape[2], width):
            place = np.s_[:, row : row + height, column : column + width]
            own = search[place].reshape(len(search), -1)
            other = rest[place].reshape(len(rest), -1)
            limit = np.clip(LIKE * own.std(axis=1), LEAST_LIKE, MOST_LIKE)[:, None] ** 2 * own.shape[1]
            inside = (_squares(own, own) <= limit).mean(axis=1)
            outside = (_squares(own, other) <= limit).mean(axis=1)
            best = int((inside - outside).argmax())
            if inside[best] >= MAYBE and outside[best] <= SELDOM:
                yield float(inside[best]), Patch(own[best].reshape(height, width), (row, column))


def _inks(search: np.ndarray, rest: np.ndarray) -> Iterator[tuple[float, Mark]]:
    """Neighbouring pixels that have one and the same value, each its own, in many images of the class and not in the others."""
    from scipy.ndimage import binary_dilation, find_objects, label

    own, value = _peaks(search)
    other, _ = _peaks(rest, value)
    levels = _levels(rest)
    usual = np.bincount(levels.ravel(), minlength=LEVELS + 1) / levels.size
    beyond = np.where(usual[_levels(value)] <= BACKGROUND, own - np.maximum(other, 0), 0)
    for least in (PEAK, 2 * PEAK, 4 * PEAK):
        inked = beyond >= least
        parts, _number = label(binary_dilation(inked, np.ones((3, 3))), np.ones((3, 3)))
        for k, box in enumerate(find_objects(np.where(inked, parts, 0)), start=1):
            if box is None:
                continue
            member = inked[box] & (parts[box] == k)
            if member.sum() >= INK_LEAST:
                pixels = np.where(member, value[box], np.nan)
                yield float((beyond[box] * member).sum()), Ink(pixels, (box[0].start, box[1].start))


def _levels(values: np.ndarray) -> np.ndarray:
    return np.clip((values * LEVELS).round().astype(int), 0, LEVELS)


def _peaks(images: np.ndarray, value: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Per pixel the share of images at its most frequent level (or at ``value``), less that at the levels beside it; and the level."""
    levels = _levels(images)
    shares = np.stack([(levels == k).mean(axis=0) for k in range(LEVELS + 1)])
    beside = np.pad(shares, ((2, 2), (0, 0), (0, 0)))
    peaks = shares - np.maximum(beside[:-4], beside[4:])
    best = peaks.argmax(axis=0) if value is None else _levels(value)
    at = np.take_along_axis(peaks, best[None], axis=0)[0]
    middle = np.nanmedian(np.where(levels == best, images, np.nan), axis=0) if value is None else value
    return at, middle


def _starts(length: int, size: int) -> list[int]:
    """Where patches begin along one side: half overlapping, the last flush with the end."""
    return sorted({*range(0, length - size, max(1, size // 2)), length - size})


def _moving(search: np.ndarray, rest: np.ndarray, size: int) -> Iterator[tuple[float, Mark]]:
    """Cuts of high contrast from a few images that turn up anywhere in the others of the class, and not in the rest."""
    from numpy.lib.stride_tricks import sliding_window_view

    cuts = []
    for image in search[:SOURCES]:
        windows = sliding_window_view(image, (size, size)).reshape(-1, size, size)
        cuts.append(windows[np.argsort(-windows.std(axis=(1, 2)), kind="stable")[:CUTS]])
    marks = np.concatenate(cuts)
    limits = np.clip(LIKE * marks.std(axis=(1, 2)), LEAST_LIKE, MOST_LIKE) ** 2 * size * size
    inside = _share(search, marks, limits)
    often = np.flatnonzero(inside >= MAYBE)
    if len(often):
        outside = _share(rest, marks[often], limits[often])
        for i, share in zip(often, outside, strict=True):
            if share <= SELDOM:
                yield float(inside[i]), Patch(marks[i], None)


def _share(images: np.ndarray, marks: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Per mark the share of the images in which it stands somewhere."""
    from numpy.lib.stride_tricks import sliding_window_view

    flat, hits = marks.reshape(len(marks), -1), np.zeros(len(marks))
    for part in np.array_split(images, -(-len(images) // AT_ONCE)):
        windows = sliding_window_view(part, marks.shape[1:], axis=(1, 2))  # type: ignore[call-overload]
        windows = windows.reshape(-1, flat.shape[1])
        same = _squares(flat, windows) <= limits[:, None]
        hits += same.reshape(len(marks), len(part), -1).any(axis=2).sum(axis=1)
    return hits / len(images)


def _squares(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """``(n, m)`` squared distances."""
    return (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1) - 2 * left @ right.T


def _distances(images: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """``(n, rows, columns)`` squared distances of one patch ``(h, w)`` to every place of the images."""
    height, width = pixels.shape
    rows, columns = images.shape[1] - height + 1, images.shape[2] - width + 1
    result = np.zeros((len(images), rows, columns), dtype=np.float32)
    for i in range(height):
        for j in range(width):
            result += (images[:, i : i + rows, j : j + columns] - pixels[i, j]) ** 2
    return result
