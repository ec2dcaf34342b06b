"""Superpixels or patches: the parts of a picture; an absent one is painted with a baseline colour or a blurred copy."""

from __future__ import annotations

from typing import Any

import numpy as np

from explainer.errors import InvalidInput, unknown
from explainer.features.base import Features

SEGMENTS = 49  # about a 7 x 7 grid: coarse enough for a tight sampling error, fine enough to point at a stroke
BASELINES = ("auto", "zeros", "mean", "blur")


def baseline_of(images: np.ndarray, baseline: Any = "auto") -> np.ndarray:
    """The picture ``(n, H, W[, C])`` that shows through where a part is absent; "auto" is black."""
    if isinstance(baseline, str):
        if baseline in ("auto", "zeros"):
            return np.zeros_like(images)
        if baseline == "mean":
            return np.broadcast_to(images.mean(axis=(1, 2), keepdims=True), images.shape).astype(images.dtype)
        if baseline == "blur":
            from scipy.ndimage import gaussian_filter

            sigma = [0, images.shape[1] / 8, images.shape[2] / 8] + [0] * (images.ndim - 3)
            return gaussian_filter(images, sigma)
        raise unknown("image baseline", baseline, BASELINES)
    array = np.asarray(baseline, dtype=images.dtype)
    try:
        return np.broadcast_to(array, images.shape).copy()
    except ValueError:
        raise InvalidInput(f"The baseline has shape {array.shape}; it must fit {images.shape}, or be one of {BASELINES}.") from None


def superpixels(image: np.ndarray, count: int = SEGMENTS) -> np.ndarray:
    """Label map ``(H, W)`` of SLIC superpixels (Achanta et al. 2012), numbered from 0 without gaps."""
    from skimage.segmentation import slic

    grey = image.ndim == 2 or image.shape[-1] == 1
    plane = image[..., 0] if image.ndim == 3 and grey else image
    labels = slic(plane, n_segments=count, compactness=0.1 if grey else 10, channel_axis=None if grey else -1, start_label=0)
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.int64)


def patches(image: np.ndarray, count: int = SEGMENTS) -> np.ndarray:
    """Label map ``(H, W)`` of a regular grid of about ``count`` patches."""
    height, width = image.shape[:2]
    side = max(1, round((height * width / count) ** 0.5))
    across = -(-width // side)
    return (np.arange(height)[:, None] // side * across + np.arange(width)[None] // side).astype(np.int64)


class Superpixels(Features):
    """One player per segment of the picture. ``features``: "superpixels", "patches", or label maps ``([n,] H, W)``."""

    axes = ("superpixel",)

    def __init__(self, images: np.ndarray, features: Any = "auto", baseline: Any = "auto") -> None:
        self.images = images
        self.baseline = baseline_of(images, baseline)
        self.segments = _label_maps(images, features)
        shown = baseline if isinstance(baseline, str) else "the given picture"
        self.absence = f"superpixel painted with {'black' if shown in ('auto', 'zeros') else shown}"

    def names(self, i: int) -> tuple[str, ...]:
        return tuple(f"segment {j}" for j in range(self.players(i)))

    def shape(self, i: int) -> tuple[int, ...]:
        return (int(self.segments[i].max()) + 1,)

    def rows(self, i: int, masks: np.ndarray) -> np.ndarray:
        shown = masks[:, self.segments[i]]  # (m, H, W)
        if self.images.ndim == 4:
            shown = shown[..., None]
        return np.where(shown, self.images[i], self.baseline[i])

    def idle(self, i: int) -> np.ndarray:
        differs = (self.images[i] != self.baseline[i]).reshape(*self.segments[i].shape, -1).any(axis=-1)
        return np.bincount(self.segments[i].ravel(), weights=differs.ravel(), minlength=self.players(i)) == 0

    def pool(self, i: int, values: np.ndarray, axes: tuple[str, ...]) -> np.ndarray:
        if axes == self.axes:
            return values
        return np.bincount(self.segments[i].ravel(), weights=values.ravel(), minlength=self.players(i))

    def extras(self, i: int) -> dict[str, np.ndarray]:
        return {"segments": self.segments[i]}


def _label_maps(images: np.ndarray, features: Any) -> list[np.ndarray]:
    if isinstance(features, str):
        if features not in ("auto", "superpixels", "patches"):
            raise unknown("image features", features, ("auto", "superpixels", "patches"))
        return [patches(one) if features == "patches" else superpixels(one) for one in images]
    maps = np.asarray(features)
    if maps.ndim == 2:
        maps = np.broadcast_to(maps, (len(images), *maps.shape))
    if maps.shape != images.shape[:3]:
        raise InvalidInput(f"features= label maps have shape {maps.shape}; {images.shape[:3]} or {images.shape[1:3]} is needed.")
    return [np.unique(one, return_inverse=True)[1].reshape(one.shape).astype(np.int64) for one in maps]
