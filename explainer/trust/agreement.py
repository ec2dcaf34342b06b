"""Agreement: where explanations of the same predictions say the same, and where they part."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from explainer.errors import InvalidInput
from explainer.explanation import Explanation
from explainer.trust.rounding import explains_nothing
from explainer.trust.sanity import rank_correlation
from explainer.trust.stability import TOP, jaccard, top


def compare(explanations: Sequence[Explanation]) -> Any:
    """Pairwise agreement of explanations of the same inputs, one row per pair and instance, as a DataFrame.

    ``rank_correlation``: Spearman's rho of |values|; ``top_overlap``: Jaccard index of the five parts named first;
    ``sign_agreement``: share of those parts on which both have the same sign (NaN when a method has no sign). Values on
    pixels or time steps are summed over the superpixels or segments of the other. All are NaN where one of the two explains nothing:
    its baseline scores the same, and its values are rounding. Raises InvalidInput.
    """
    import pandas as pd

    if len(explanations) < 2:
        raise InvalidInput(f"compare() takes two or more explanations of the same inputs; {len(explanations)} came.")
    first = explanations[0]
    for other in explanations[1:]:
        if len(other) != len(first) or other.provenance.inputs_sha256 != first.provenance.inputs_sha256:
            raise InvalidInput("The explanations are not of the same inputs; explain the same batch with each method, then compare.")
        every = first.axes[-1] == "output" and other.axes[-1] == "output"
        if other.target != first.target or other.output != first.output or (every and other.class_names != first.class_names):
            raise InvalidInput(
                f"The explanations are of different targets or scales ({first.target[0]} on {first.output}, {other.target[0]} on "
                f"{other.output}); pass the same target= and output= to each."
            )
    rows = []
    for a, b in combinations(range(len(explanations)), 2):
        for i in range(len(first)):
            one, other = explanations[a][i], explanations[b][i]
            figures = _agreement(*_aligned(one, other))
            if explains_nothing(one) or explains_nothing(other):
                figures = dict.fromkeys(figures, float("nan"))
            rows.append({"a": explanations[a].method, "b": explanations[b].method, "instance": i, **figures})
    return pd.DataFrame(rows)


def _agreement(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    both = sorted(top(x) | top(y))
    signed = bool((x < 0).any() and (y < 0).any())
    return {
        "rank_correlation": rank_correlation(np.abs(x), np.abs(y)),
        "top_overlap": jaccard(top(x, min(TOP, len(x))), top(y, min(TOP, len(y)))),
        "sign_agreement": float(np.mean(np.sign(x[both]) == np.sign(y[both]))) if signed else float("nan"),
    }


def _aligned(a: Explanation, b: Explanation) -> tuple[np.ndarray, np.ndarray]:
    """Both as one number per part, on the coarser parts of the two."""
    if a.axes == b.axes and a.values.shape == b.values.shape and not _different_segments(a, b):
        return a.values.reshape(-1), b.values.reshape(-1)
    if _fine(a) and not _fine(b):
        return _pooled(a, b), b.values.reshape(-1)
    if _fine(b) and not _fine(a):
        return a.values.reshape(-1), _pooled(b, a)
    raise InvalidInput(f"Values on {', '.join(a.axes[1:])} cannot be laid over values on {', '.join(b.axes[1:])}.")


def _different_segments(a: Explanation, b: Explanation) -> bool:
    one, other = a.extras.get("segments"), b.extras.get("segments")
    return one is not None and other is not None and not np.array_equal(one[0], other[0])


def _fine(ex: Explanation) -> bool:
    return ex.axes[1:] in {("row", "column"), ("time", "channel")}


def _pooled(fine: Explanation, coarse: Explanation) -> np.ndarray:
    labels = coarse.extras["segments"][0]
    if labels.ndim == 2:
        return np.bincount(labels.ravel(), weights=fine.values[0].ravel(), minlength=coarse.values.shape[1])
    pooled = np.zeros(coarse.values.shape[1:])
    np.add.at(pooled, labels, fine.values[0])
    return pooled.reshape(-1)
