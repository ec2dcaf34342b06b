"""Values that are no more than rounding of the score: where the baseline scores the same there is nothing to explain."""

from __future__ import annotations

from typing import Any

import numpy as np

from explainer.explanation import Check, Explanation

NAME = "difference explained"
_STEPS = 8  # of the number type's relative spacing, that sums of scores may be off


def check(values: np.ndarray, base: np.ndarray, scores: np.ndarray, dtype: Any = np.float32) -> Check | None:
    """The failed check where no value is larger than rounding of ``scores`` and ``base`` in ``dtype``, else None."""
    largest, size = float(np.abs(values).max(initial=0.0)), float(max(np.abs(base).max(), np.abs(scores).max()))
    bound = _STEPS * float(np.finfo(dtype).eps) * size
    if not largest <= bound:
        return None
    reason = (
        f"The baseline scores the same ({float(np.ravel(scores)[0]):.3g}), and values of up to {largest:.1g} are no more than rounding: "
        "from there, there is nothing to explain. Choose another baseline= or background=."
    )
    return Check(NAME, "fail", reason, largest, bound)


def number_type(model: Any) -> Any:
    """The type of number that a model gives, asked of a background row; single precision where there is none."""
    if model.background is None:
        return np.float32
    dtype = np.asarray(model.raw(model.background[:1])).dtype
    return dtype if dtype.kind == "f" else np.float64


def explains_nothing(ex: Explanation) -> bool:
    """Whether an explanation of one input is of no difference, by its verdict, or without one by its values."""
    if ex.verdict.checks:
        return NAME in ex.verdict.checks
    return bool(np.isfinite(ex.base_values).all()) and check(ex.values, ex.base_values, ex.scores) is not None
