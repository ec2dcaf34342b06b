"""What an audit was given, and what it may compute once for all sections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from explainer import inputs as inputs_
from explainer.model import Model


@dataclass
class Material:
    """All that was given to an audit, checked and in canonical form."""

    model: Model
    data: Any
    labels: np.ndarray | None
    groups: Any
    reference: Any
    reference_labels: np.ndarray | None
    method: str
    seed: int
    cases: int
    sample: int
    favourable: int | str | None
    card: str | None
    record: Mapping[str, Any] | None
    name: str
    date: str
    profile: Mapping[str, Any]
    formats: tuple[str, ...]
    scores: np.ndarray | None = None
    pictures: dict[str, str] = field(default_factory=dict)

    def all_scores(self) -> np.ndarray:
        """Scores of all rows, computed once per audit, in batches."""
        if self.scores is None:
            parts = [self.model.scores(inputs_.take(self.data, slice(i, i + 512))) for i in range(0, len(self.data), 512)]
            self.scores = np.concatenate(parts)
        return self.scores

    def named(self, labels: np.ndarray | None) -> np.ndarray | None:
        """Labels by name, so that findings speak of classes as people do."""
        return labels if labels is None or self.model.task == "regression" else np.array(self.model.class_names, dtype=object)[labels]


Progress = Callable[[int, int], None]
