"""Stability: does the explanation name the same parts again when only the random seed differs?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from explainer.explanation import Check, grade
from explainer.methods.attribution import Attribution

SEEDS = 3
TOP = 5
NAMED = 0.05
PASS, WARN = 0.8, 0.5


def top(values: np.ndarray, k: int = TOP) -> frozenset[int]:
    """Indices of the up to ``k`` largest values by size; none below a twentieth of the largest, which is not named at all."""
    flat = np.abs(np.nan_to_num(values)).reshape(-1)
    first = np.argsort(-flat, kind="stable")[:k]
    return frozenset(first[flat[first] >= NAMED * flat.max()].tolist())


def jaccard(a: frozenset[int], b: frozenset[int]) -> float:
    """Size of the intersection over size of the union; two empty sets agree."""
    return len(a & b) / len(a | b) if a | b else 1.0


def rerun_checks(found: Attribution, rerun: Callable[..., Attribution], seed: int) -> list[Check]:
    """Per instance: mean overlap (Jaccard) of the parts named first, at most five, over reruns with other seeds.

    A method that draws nothing is not rerun: that it repeats itself says nothing for its values. One that draws has standard errors,
    or a check of its own in their place.
    """
    if found.stderr is None and not any("sampling error" in own for own in found.checks):
        same = Check("stability", "not run", "The method draws nothing at random: another seed would change nothing.")
        return [same] * len(found.values)
    others = [rerun(seed=seed + 1 + s) for s in range(SEEDS)]
    checks = []
    for i, values in enumerate(found.values):
        overlap = float(np.mean([jaccard(top(values[..., 0]), top(other.values[i][..., 0])) for other in others]))
        status = grade(overlap, PASS, WARN)
        checks.append(
            Check("stability", status, f"The parts named first overlap by {overlap:.0%} over {SEEDS} other seeds.", overlap, PASS)
        )
    return checks
