"""What drives a model over many rows, as a page shows it: an importance per named part, or for images a picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from explainer.explanation import Explanation
from explainer.inspection.importance import Importance, summarise

FEWEST = 3  # rows a word must stand in to be shown


@dataclass(frozen=True)
class Picture:
    """Mean size of each pixel's contribution ``(H, W)`` to the ``output`` over ``rows`` images."""

    values: np.ndarray
    rows: int
    output: str


def summarised(ex: Explanation) -> Importance | Picture:
    """Sum up a batch of explanations over its rows; words that stand in few of them are left out, where others are left."""
    if ex.modality == "image":
        drawn = [_painted(one) for one in ex if one.values.size]
        return Picture(np.mean(drawn, axis=0), len(drawn), ex.output)
    found = summarise(ex)
    frequent = np.flatnonzero(found.counts >= FEWEST)
    return found.of(frequent) if ex.modality == "text" and len(frequent) else found


def _painted(one: Explanation) -> np.ndarray:
    values = np.abs(one.values[0])
    if one.axes[1:] == ("superpixel",):
        labels = np.asarray(one.extras["segments"][0])
        # A superpixel's value belongs to it as a whole: spread over its pixels, so that large ones do not look strong.
        return (values / np.bincount(labels.ravel(), minlength=len(values)))[labels]
    return values if values.ndim == 2 else values.sum(-1)
