"""What an audit was given, and what it may compute once for all sections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from explainer import inputs as inputs_
from explainer.features import BACKGROUND_ROWS
from explainer.metrics import FEW
from explainer.model import Model


@dataclass
class Material:
    """All that was given to an audit, checked and in canonical form."""

    model: Model
    data: Any
    whole: Any  # the table with the columns that the model does not read; None where there are none
    labels: np.ndarray | None
    groups: Any
    units: np.ndarray | None  # the number of whom or what each row is of
    unit: str  # what they are called
    reference: Any
    reference_labels: np.ndarray | None
    whole_reference: Any
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
    source: Path | None
    scores: np.ndarray | None = None
    pictures: dict[str, str] = field(default_factory=dict)

    @property
    def unread(self) -> list[str]:
        """Names of the columns that came with the data and that the model does not read."""
        return [] if self.whole is None else [str(name) for name in self.whole.columns[len(self.model.feature_names) :]]

    @property
    def background(self) -> Any:
        """Rows whose values absent columns take, where the model has none of its own: some of the reference; else None."""
        if self.model.modality != "tabular" or self.model.background is not None or self.reference is None:
            return None
        count = min(BACKGROUND_ROWS, len(self.reference))
        rows = np.sort(np.random.default_rng(self.seed).choice(len(self.reference), count, replace=False))
        return inputs_.take(self.reference, rows)

    def all_scores(self) -> np.ndarray:
        """Scores of all rows, computed once per audit, in batches."""
        if self.scores is None:
            parts = [self.model.scores(inputs_.take(self.data, slice(i, i + 512))) for i in range(0, len(self.data), 512)]
            self.scores = np.concatenate(parts)
        return self.scores

    @property
    def clustered(self) -> dict[str, Any] | None:
        """What the rows are of and how many there are of them; None where each row is one of its own."""
        if self.units is None:
            return None
        count = int(self.units.max()) + 1
        return {"name": self.unit, "count": count, "few": count < FEW}

    def named(self, labels: np.ndarray | None) -> np.ndarray | None:
        """Labels by name, so that findings speak of classes as people do."""
        return labels if labels is None or self.model.task == "regression" else np.array(self.model.class_names, dtype=object)[labels]


Progress = Callable[[int, int], None]
