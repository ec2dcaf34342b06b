"""Images as the checks see them: arrays of any size, read leniently."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from explainer.checks import crops, optics
from explainer.checks.neighbours import close_vectors
from explainer.checks.origin import Origin, origin_of
from explainer.checks.view import View, digest

SIDE = 32  # near copies are told on a grey thumbnail of this side: enough to tell two scenes, small enough to hold
COARSE = 8  # and looked for on one of this side
HASH_BITS = 6  # perceptual hashes of re-encoded or resized copies differ in so many bits of 64; other pictures hardly ever in so few
PATCHES = 4  # a shortcut such as a stamp or a ruler lies in a patch; 4 x 4 of them are compared between sets
BLANK_CONTRAST = 1 / 255  # below one grey level there is no picture
LARGEST = 512  # pixels of the longer side that figures are taken from; larger pictures are averaged down
CANVAS = 64  # pixels of the longer side on which marks are looked for
BATCH_PIXELS = 4_000_000
SIGNAL_PIXELS = 1024  # single pixels tried one by one up to this many; larger images are averaged down to it


class ImageView(View):
    """Images, each an ``(H, W)`` or ``(H, W, C)`` array."""

    modality = "image"
    noun = "image"

    def __init__(self, images: list[np.ndarray], positions: np.ndarray, origins: Sequence[Origin] = ()) -> None:
        self.images = images
        self.origins = tuple(origins)  # one per image, or none where the images came as arrays
        self.n = len(images)
        self.positions = positions

    @cached_property
    def keys(self) -> np.ndarray:
        return np.array([digest(f"{i.shape}".encode() + _same_bytes(i)) for i in self.images], dtype=np.uint64)

    @cached_property
    def blank(self) -> np.ndarray:
        """Images of one grey level (or with no finite pixel)."""
        ranges = np.array([value_range(i) for i in self.images]).reshape(-1, 2)
        top = max(1.0, float(ranges[:, 1].max(initial=1.0))) if self.n else 1.0
        return ranges[:, 1] - ranges[:, 0] < BLANK_CONTRAST * min(top, 255)

    def batches(self, largest: int = LARGEST) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The images as grey ``(m, H, W)`` float32, those of one shape together, and which they are."""
        shapes: dict[tuple[int, ...], list[int]] = {}
        for i, image in enumerate(self.images):
            shapes.setdefault(image.shape, []).append(i)
        for shape, members in shapes.items():
            step = max(1, BATCH_PIXELS // int(np.prod(shape)))
            for start in range(0, len(members), step):
                rows = np.array(members[start : start + step])
                grey = _grey(np.stack([self.images[i] for i in rows]))
                yield rows, _averaged(grey, -(-max(shape[:2]) // largest))

    def canvas(self, rows: np.ndarray) -> np.ndarray:
        """``(m, H, W)`` greys as shares of white, all of one size: as they are, averaged down to ``CANVAS`` pixels, or thumbnails."""
        shape = self.images[rows[0]].shape
        if not self._alike:
            return self.greys[rows] / self.white
        factor = -(-max(shape[:2]) // CANVAS)
        return _averaged(_grey(np.stack([self.images[i] for i in rows])), factor) / self.white

    @cached_property
    def _alike(self) -> bool:
        return len({i.shape for i in self.images}) == 1

    @cached_property
    def optics(self) -> pd.DataFrame:
        """Levels of brightness, as shares of white, and sharpness of each image."""
        values = np.full((self.n, len(optics.LEVELS) + 2), np.nan)
        for rows, grey in self.batches():
            values[rows] = optics.figures(grey)
        values[:, : len(optics.LEVELS)] /= self.white
        return pd.DataFrame(values, columns=[*(f"{level} %" for level in optics.LEVELS), "laplacian", "edges"])

    @cached_property
    def white(self) -> float:
        """The value of white: 255 of 8-bit images, else 1 or what the highest values of nearly all images stay below."""
        if all(i.dtype == np.uint8 for i in self.images):
            return 255.0
        tops = np.array([value_range(i)[1] for i in self.images])
        return max(1.0, float(np.quantile(tops, 0.99))) if len(tops) else 1.0

    def take(self, index: np.ndarray) -> list[np.ndarray]:
        return [self.images[i] for i in index]

    def whole(self, names: Sequence[str] = ()) -> np.ndarray:
        shapes = [i.shape for i in self.images]
        usual = max(set(shapes), key=shapes.count) if shapes else ()
        return np.array([i.shape == usual and bool(np.isfinite(i).all()) for i in self.images], dtype=bool)

    @cached_property
    def greys(self) -> np.ndarray:
        """``(n, 32, 32)`` grey thumbnails; NaN counts as black."""
        if not self.n:
            return np.zeros((0, SIDE, SIDE), dtype=np.float32)
        if len({i.shape for i in self.images}) == 1:
            return np.concatenate([shrink(_grey(np.stack(self.images[s : s + 512])), SIDE) for s in range(0, self.n, 512)])
        return np.concatenate([shrink(_grey(i[None]), SIDE) for i in self.images])

    @cached_property
    def vectors(self) -> np.ndarray:
        """Thumbnails as unit vectors about their mean, so that brightness and contrast do not matter; blank ones are zero."""
        flat = self.greys.reshape(self.n, -1)
        flat = flat - flat.mean(axis=1, keepdims=True)
        length = np.linalg.norm(flat, axis=1, keepdims=True)
        return np.where(self.blank[:, None], 0, flat / np.maximum(length, 1e-12)).astype(np.float32)

    @cached_property
    def summary(self) -> pd.DataFrame:
        g = self.greys
        edges = (np.abs(np.diff(g, axis=1)).mean(axis=(1, 2)) + np.abs(np.diff(g, axis=2)).mean(axis=(1, 2))) / 2
        spread = g.std(axis=(1, 2))
        figures = {"brightness": g.mean(axis=(1, 2)), "contrast": spread, "sharpness": edges / np.maximum(spread, 1e-9)}
        shapes = np.array([i.shape[:2] for i in self.images]).reshape(-1, 2)
        if self.n and len(np.unique(shapes, axis=0)) > 1:
            figures |= {"height": shapes[:, 0], "width": shapes[:, 1]}
        figures |= self._colours()
        patches = shrink(g, PATCHES).reshape(self.n, -1)
        figures |= {f"brightness of patch {k // PATCHES},{k % PATCHES}": patches[:, k] for k in range(patches.shape[1])}
        return pd.DataFrame(figures, index=range(self.n), dtype=float)

    def _colours(self) -> dict[str, np.ndarray]:
        if not any(i.ndim == 3 and i.shape[2] >= 3 for i in self.images):
            return {}
        means = np.array(
            [np.nanmean(i[..., :3].reshape(-1, 3), axis=0) if i.ndim == 3 and i.shape[2] >= 3 else [np.nan] * 3 for i in self.images]
        )
        total = np.maximum(means.sum(axis=1), 1e-9)
        return {f"share of {name}": means[:, k] / total for k, name in enumerate(("red", "green", "blue"))}

    @cached_property
    def signals(self) -> pd.DataFrame:
        """The summary, and every pixel (of a 32 x 32 thumbnail where there are more)."""
        first = self.images[0].shape if self.n else (0, 0)
        if {i.shape for i in self.images} == {first} and first[0] * first[1] <= SIGNAL_PIXELS:
            pixels = _grey(np.stack(self.images))
        else:
            pixels = self.greys
        flat = pixels.reshape(self.n, -1)
        named = pd.DataFrame(flat, columns=[f"pixel {k // pixels.shape[2]},{k % pixels.shape[2]}" for k in range(flat.shape[1])])
        sizes = {"file height": [i.shape[0] for i in self.images], "file width": [i.shape[1] for i in self.images]}
        sizes["channels"] = [i.shape[2] if i.ndim == 3 else 1 for i in self.images]
        return pd.concat([self.summary, pd.DataFrame(sizes, dtype=float), named], axis=1)

    def near(self, other: View | None = None) -> tuple[list[tuple[int, int, float]], float]:
        views = [self] if other is None else [self, other]
        unit = np.concatenate([v.vectors for v in views if isinstance(v, ImageView)])
        coarse = shrink(unit.reshape(-1, SIDE, SIDE), COARSE).reshape(len(unit), -1)
        coarse = np.where(np.abs(unit).max(axis=1, initial=0, keepdims=True) > 0, coarse - coarse.mean(axis=1, keepdims=True), 0)
        keys = np.concatenate([v.keys for v in views])
        greys = np.concatenate([v.greys for v in views if isinstance(v, ImageView)])
        more = crops.close_hashes(crops.hashes(greys), HASH_BITS)
        return close_vectors(coarse, keys, crops.distances(greys), None if other is None else self.n, more), 0.0

    def part(self, rows: np.ndarray) -> ImageView:
        return ImageView([self.images[r] for r in rows], self.positions[rows], [self.origins[r] for r in rows] if self.origins else ())

    def chance(self) -> float:
        return 0.0


def _same_bytes(image: np.ndarray) -> bytes:
    """Bytes equal for equal pictures: whole numbers as they are, whatever their type, others as float32."""
    values = np.asarray(image)
    if values.dtype.kind == "f":
        values = values.astype(np.float32) + np.float32(0)
    elif values.dtype != np.uint8:
        values = values.astype(np.float32)
    return (values if values.dtype == np.float32 else values.astype(np.float32)).tobytes()


def value_range(image: np.ndarray) -> tuple[float, float]:
    finite = image[np.isfinite(image)] if image.dtype.kind == "f" else image
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def _grey(images: np.ndarray) -> np.ndarray:
    """``(n, H, W[, C])`` to ``(n, H, W)`` float32: the mean of up to three channels."""
    grey = np.nan_to_num(images.astype(np.float32), posinf=0, neginf=0)
    if grey.ndim == 4:
        grey = grey[..., : 3 if grey.shape[3] >= 3 else 1].mean(axis=3)
    return grey


def _averaged(images: np.ndarray, factor: int) -> np.ndarray:
    """Blocks of ``factor`` x ``factor`` pixels as their mean."""
    if factor <= 1:
        return images
    n, height, width = images.shape
    rows, columns = height // factor, width // factor
    if not rows or not columns:
        return images
    return images[:, : rows * factor, : columns * factor].reshape(n, rows, factor, columns, factor).mean(axis=(2, 4))


def shrink(images: np.ndarray, side: int) -> np.ndarray:
    """``(n, H, W)`` to ``(n, side, side)``: the mean over each target pixel's area (smaller images are spread out)."""
    rows, columns = _weights(images.shape[1], side), _weights(images.shape[2], side)
    return np.einsum("sh,nhw,tw->nst", rows, images, columns, optimize=True).astype(np.float32)


def _weights(size: int, side: int) -> np.ndarray:
    """``(side, size)`` overlap of each of ``side`` equal stretches with each of ``size`` pixels, rows summing to 1."""
    edges = np.linspace(0, size, side + 1)
    low, high = edges[:-1, None], edges[1:, None]
    pixel = np.arange(size)[None]
    overlap = np.clip(np.minimum(high, pixel + 1) - np.maximum(low, pixel), 0, None)
    return (overlap / np.maximum(overlap.sum(axis=1, keepdims=True), 1e-12)).astype(np.float32)


def pictures(items: Any) -> tuple[list[np.ndarray], list[tuple[int, str]]]:
    """Arrays of the images that can be read, and the place and the reason of each that cannot; never raises."""
    if isinstance(items, np.ndarray) and items.dtype != object and items.ndim == 2:
        items = items[None]
    read, bad = [], []
    for i, item in enumerate(items):
        array, reason = _picture(item)
        if array is None:
            bad.append((i, reason))
        else:
            read.append(array)
    return read, bad


def origins_of(items: Any) -> list[Origin]:
    """Where pictures of Pillow come from; of arrays nothing is known."""
    if isinstance(items, np.ndarray) or not all(item is None or hasattr(item, "getbands") for item in items):
        return []
    return [origin_of(item) if item is not None else Origin() for item in items]


def _picture(item: Any) -> tuple[np.ndarray | None, str]:
    try:
        if item is None:
            return None, "nothing there (None)"
        if hasattr(item, "convert") and hasattr(item, "getbands"):
            from explainer.checks.read import _grey_or_colour

            item.load()
            return np.asarray(_grey_or_colour(item), dtype=np.uint8), ""
        array = np.asarray(item.detach().cpu() if hasattr(item, "detach") else item)
        if array.dtype == bool:
            array = array.astype(np.uint8)
        if array.dtype.kind not in "fiu":
            return None, f"not made of numbers ({array.dtype})"
        if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4):
            array = np.moveaxis(array, 0, -1)
        if array.ndim not in (2, 3) or 0 in array.shape:
            return None, f"shape {array.shape} is no picture"
        if array.ndim == 3 and array.shape[2] == 1:
            array = array[..., 0]
        return array, ""
    except Exception as error:
        return None, f"{type(error).__name__}: {str(error)[:120]}"
