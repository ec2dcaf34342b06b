"""Superpixels or patches: the parts of a picture; an absent one is painted over, or filled from what is around it."""

from __future__ import annotations

from typing import Any

import numpy as np

from explainer.errors import InvalidInput, unknown
from explainer.features.base import Cells, Features, word_and_number
from explainer.features.inpainting import inpaint

SEGMENTS = 49  # about a 7 x 7 grid: coarse enough for a tight sampling error, fine enough to point at a stroke
BASELINES = ("auto", "zeros", "mean", "blur", "inpaint")
KINDS = ("auto", "superpixels", "patches")
_PIXELS = 256**2  # superpixels of larger pictures are found on a smaller copy
_COMPACTNESS = (1, 3, 10, 100, 1000)  # times the usual weight of nearness against likeness, until enough parts are found
_SHARE_FOUND = 0.6  # of the superpixels asked for
_SHARE_TOLD = 0.7  # below which the person is told how many there are
_PIXELS_EACH = 64  # that a superpixel keeps on it at least
_PAINTED = {"auto": "black", "zeros": "black", "mean": "the picture's mean colour", "blur": "a blurred copy"}


def baseline_of(images: np.ndarray, baseline: Any = "auto") -> np.ndarray:
    """The picture ``(n, H, W[, C])`` that shows through where a part is absent; "auto" is black.

    Raises UnknownName, and InvalidInput for "inpaint", which is no one picture but depends on what is present.
    """
    if isinstance(baseline, str):
        if baseline in ("auto", "zeros"):
            return np.zeros_like(images)
        if baseline == "mean":
            return np.broadcast_to(images.mean(axis=(1, 2), keepdims=True), images.shape).astype(images.dtype)
        if baseline == "blur":
            from scipy.ndimage import gaussian_filter

            sigma = [0, images.shape[1] / 8, images.shape[2] / 8] + [0] * (images.ndim - 3)
            return gaussian_filter(images, sigma)
        if baseline == "inpaint":
            raise InvalidInput(
                "baseline='inpaint' fills an absent part from the parts present, so there is no one baseline picture, which this "
                "method needs; use 'zeros', 'mean', 'blur' or a picture here, or 'inpaint' with 'shap'."
            )
        raise unknown("image baseline", baseline, BASELINES)
    array = np.asarray(baseline, dtype=images.dtype)
    try:
        return np.broadcast_to(array, images.shape).copy()
    except ValueError:
        raise InvalidInput(f"The baseline has shape {array.shape}; it must fit {images.shape}, or be one of {BASELINES}.") from None


def superpixels(image: np.ndarray, count: int = SEGMENTS) -> np.ndarray:
    """Label map ``(H, W)`` of about ``count`` SLIC superpixels (Achanta et al. 2012), numbered from 0 without gaps.

    A picture larger than 256 x 256 is segmented on a smaller copy, whose labels are enlarged.
    """
    from skimage.segmentation import slic

    height, width = image.shape[:2]
    factor = max(1, int((height * width / max(_PIXELS, _PIXELS_EACH * count)) ** 0.5))
    small = _shrunk(image, factor) if factor > 1 else image
    grey = small.ndim == 2 or small.shape[-1] == 1
    plane = small[..., 0] if small.ndim == 3 and grey else small
    for weight in _COMPACTNESS:  # noise and hard edges make crumbs, which SLIC joins to one; nearness holds the parts together
        compactness = weight * (0.1 if grey else 10)
        labels = slic(plane, n_segments=count, compactness=compactness, channel_axis=None if grey else -1, start_label=0)
        if labels.max() + 1 >= _SHARE_FOUND * count:
            break
    if factor > 1:
        labels = labels.repeat(factor, axis=0).repeat(factor, axis=1)[:height, :width]
    return _numbered(labels)


def patches(image: np.ndarray, count: int = SEGMENTS) -> np.ndarray:
    """Label map ``(H, W)`` of a regular grid of about ``count`` patches."""
    height, width = image.shape[:2]
    side = max(1, round((height * width / count) ** 0.5))
    across = -(-width // side)
    return (np.arange(height)[:, None] // side * across + np.arange(width)[None] // side).astype(np.int32)


class Superpixels(Features):
    """One player per segment of the picture.

    ``features``: "superpixels" or "patches", with a number of parts as in ``("superpixels", 200)``, or label maps ``([n,] H, W)``.
    ``baseline``: "zeros", "mean", "blur", a picture, or "inpaint": an absent part is filled from the parts present, so that what
    stands in for it depends on them.
    """

    axes = ("superpixel",)

    def __init__(self, images: np.ndarray, features: Any = "auto", baseline: Any = "auto") -> None:
        self.images = images
        self.conditional = isinstance(baseline, str) and baseline == "inpaint"
        self.baseline = None if self.conditional else baseline_of(images, baseline)
        self.segments, count = _label_maps(images, features)
        fewest = min(int(labels.max()) + 1 for labels in self.segments)
        if fewest < _SHARE_TOLD * count:
            self.notes = (
                f"{fewest} superpixels were found where {count} were asked for; features=('patches', {count}) gives as many as are asked.",
            )
        if self.conditional:
            self.absence = "superpixel filled from the parts present around it (with none present: the picture's mean colour)"
        else:
            self.absence = f"superpixel painted with {_PAINTED[baseline] if isinstance(baseline, str) else 'the given picture'}"

    def names(self, i: int) -> tuple[str, ...]:
        return tuple(f"segment {j}" for j in range(self.players(i)))

    def shape(self, i: int) -> tuple[int, ...]:
        return (int(self.segments[i].max()) + 1,)

    def row_bytes(self, i: int) -> int:
        return (5 if self.conditional else 1) * self.images[i].nbytes + 4 * self.segments[i].size

    def rows(self, i: int, masks: np.ndarray) -> np.ndarray:
        return self.rows_of([(i, masks)])

    def rows_of(self, asks: Any) -> np.ndarray:
        built = np.empty((sum(len(masks) for _, masks in asks), *self.images.shape[1:]), self.images.dtype)
        start = 0
        for i, masks in asks:
            self._build(i, masks, built[start : start + len(masks)])
            start += len(masks)
        return built

    def cells(self) -> Cells | None:
        return None if self.baseline is None else Cells(self.images, self.baseline, False, self.segments)

    def _build(self, i: int, masks: np.ndarray, built: np.ndarray) -> None:
        if self.baseline is None:
            built[...] = inpaint(self.images[i], np.take(masks, self.segments[i], axis=1))
            return
        # By bits, b ^ (present * (x ^ b)): exact, and without a branch per pixel.
        image, baseline, bits = (array.view(f"u{array.itemsize}") for array in (self.images[i], self.baseline[i], built))
        shown = np.take(masks.astype(bits.dtype), self.segments[i], axis=1)  # (m, H, W)
        np.multiply(shown[..., None] if self.images.ndim == 4 else shown, image ^ baseline, out=bits)
        np.bitwise_xor(bits, baseline, out=bits)

    def idle(self, i: int) -> np.ndarray:
        if self.baseline is None:
            return super().idle(i)
        differs = (self.images[i] != self.baseline[i]).reshape(*self.segments[i].shape, -1).any(axis=-1)
        return np.bincount(self.segments[i].ravel(), weights=differs.ravel(), minlength=self.players(i)) == 0

    def pool(self, i: int, values: np.ndarray, axes: tuple[str, ...]) -> np.ndarray:
        if axes == self.axes:
            return values
        return np.bincount(self.segments[i].ravel(), weights=values.ravel(), minlength=self.players(i))

    def extras(self, i: int) -> dict[str, np.ndarray]:
        return {"segments": self.segments[i].astype(np.int64)}


def _label_maps(images: np.ndarray, features: Any) -> tuple[list[np.ndarray], int]:
    """One label map per picture, and how many parts were asked for (0 where the maps were given)."""
    if isinstance(features, str) or (isinstance(features, tuple) and features and isinstance(features[0], str)):
        kind, number = word_and_number("image features", features, KINDS, KINDS[1:])
        pixels = int(np.prod(images.shape[1:3]))
        count = min(SEGMENTS, pixels) if number is None else max(1, round(number))
        if count > pixels:
            raise InvalidInput(f"features={features!r} asks for {count} parts of a picture of {pixels} pixels.")
        return [patches(one, count) if kind == "patches" else superpixels(one, count) for one in images], 0 if kind == "patches" else count
    try:
        maps = np.asarray(features)
    except ValueError:
        maps = np.empty(0)
    if maps.ndim == 2:
        maps = np.broadcast_to(maps, (len(images), *maps.shape))
    if maps.shape != images.shape[:3] or maps.dtype.kind not in "iub":
        raise InvalidInput(
            f"features= label maps have shape {maps.shape} of {maps.dtype}; whole numbers of shape {images.shape[:3]} or "
            f"{images.shape[1:3]} are needed, or one of {', '.join(map(repr, KINDS))}."
        )
    return [_numbered(one) for one in maps], 0


def _numbered(labels: np.ndarray) -> np.ndarray:
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.int32)


def _shrunk(image: np.ndarray, factor: int) -> np.ndarray:
    """Means over ``factor`` x ``factor`` pixels; the last row and column are repeated where they do not come out even."""
    height, width = image.shape[:2]
    sides = [(0, -height % factor), (0, -width % factor)] + [(0, 0)] * (image.ndim - 2)
    padded = np.pad(image, sides, mode="edge")
    return padded.reshape(padded.shape[0] // factor, factor, padded.shape[1] // factor, factor, *image.shape[2:]).mean(axis=(1, 3))
