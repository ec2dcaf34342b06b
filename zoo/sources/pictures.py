"""Seven pictures that come with scikit-image and show something that ImageNet has a class for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from zoo.data import Data, Split

SIDE = 224  # pixels, after the shorter side is brought to SIDE + BORDER and the middle cut out
BORDER = 32
SOURCE = "pictures of scikit-image {version}"
RULE = "all seven are for testing: the weights were trained on ImageNet by others, and nothing is trained here"
# What each shows, in ImageNet's words, as a person sees it: written down before any model had scored them.
SHOWN = {
    "coffee": "espresso",
    "cat": "tabby",
    "rocket": "missile",
    "stereo_motorcycle": "moped",  # ImageNet has no motorcycle
    "camera": "tripod",
    "astronaut": "space shuttle",  # a model of one stands behind her; ImageNet has no astronaut
    "horse": "sorrel",  # a silhouette; the one class of horses
}


def classes() -> tuple[str, ...]:
    """The names of ImageNet's 1,000 classes, in its order: the first word WordNet has for each, more where two share it."""
    return tuple((Path(__file__).parent / "imagenet.txt").read_text(encoding="utf-8").splitlines())


def load() -> Data:
    """Pictures ``(7, 224, 224, 3)`` in [0, 1] and the class each shows; train and validation are empty."""
    from importlib import metadata

    from skimage import data

    names = classes()
    made = [getattr(data, name)() for name in SHOWN]
    images = np.stack([framed(one[0] if isinstance(one, tuple) else one) for one in made])
    labels = np.array([names.index(shown) for shown in SHOWN.values()], dtype=np.int64)
    none = Split(images[:0], labels[:0])
    return Data(none, none, Split(images, labels), names, SOURCE.format(version=metadata.version("scikit-image")), RULE)


def background(data: Data) -> None:
    """None: a superpixel is taken out by blur or a mean colour."""


def framed(picture: Any) -> np.ndarray:
    """The middle of a picture as ``(224, 224, 3)`` in [0, 1], as ImageNet's are prepared for testing."""
    from PIL import Image

    array = np.asarray(picture)
    image = Image.fromarray(array.astype(np.uint8) * 255 if array.dtype == bool else array).convert("RGB")
    scale = (SIDE + BORDER) / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - SIDE) // 2, (image.height - SIDE) // 2
    return np.asarray(image.crop((left, top, left + SIDE, top + SIDE)), dtype=np.float32) / 255
