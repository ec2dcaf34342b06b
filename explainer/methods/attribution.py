"""What a method hands back to the pipeline, before it is stamped and frozen as an Explanation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from explainer.explanation import Check


@dataclass
class Attribution:
    """Values per instance, each of shape ``(*feature axes, k)`` with ``k`` the number of target functionals; one array where all are alike.

    ``axes`` names the feature axes. ``names`` gives one name per cell of the first feature axis, or per cell of all of
    them flattened. ``base`` is ``(n, k)`` or None when the method has no reference; ``stderr`` has the shape of
    ``values``. ``checks`` holds, per instance, what the method itself measured (LIME's fit). ``extras``: per key, one
    entry per instance, for plots. ``parameters``: what was really used, after defaults. ``about``: what the values are
    about, in words, where that is not the target's score (a neuron); they are not held against the score then. ``faults``:
    per instance without values, why, where the method knows more than the engine.
    """

    values: Sequence[np.ndarray] | np.ndarray
    axes: tuple[str, ...]
    names: Sequence[tuple[str, ...]]
    base: np.ndarray | None = None
    stderr: Sequence[np.ndarray] | None = None
    evaluations: int = 0
    checks: Sequence[Mapping[str, Check]] = ()
    extras: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    about: str = ""
    faults: Mapping[int, str] = field(default_factory=dict)
