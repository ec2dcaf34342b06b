"""A model's scores on its whole test set, and what the table and the confusion matrix read from them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dashboard.view import View
from explainer.metrics import wilson

CHUNK = 256
CERTAIN, UNSURE = 0.9, 0.1
FLAGS = ("", "label?", "unsure")


@dataclass(frozen=True)
class Predictions:
    """Scores ``(n, outputs)`` beside the true labels ``(n,)`` (None when the data has none).

    For a regression, ``scores`` holds the predicted value and ``labels`` the true one.
    """

    scores: np.ndarray
    labels: np.ndarray | None
    class_names: tuple[str, ...]
    regression: bool = False

    def __len__(self) -> int:
        return len(self.scores)

    @cached_property
    def predicted(self) -> np.ndarray:
        return self.scores[:, 0] if self.regression else self.scores.argmax(1)

    @cached_property
    def confidence(self) -> np.ndarray:
        """The score of the predicted class; for a regression the distance to the truth (NaN without labels)."""
        if not self.regression:
            return self.scores.max(1)
        return np.full(len(self), np.nan) if self.labels is None else np.abs(self.scores[:, 0] - self.labels)

    @cached_property
    def margin(self) -> np.ndarray:
        """By how much the predicted class leads the next one."""
        if self.scores.shape[1] < 2:
            return np.zeros(len(self))
        top = np.partition(self.scores, -2, axis=1)
        return top[:, -1] - top[:, -2]

    @cached_property
    def wrong(self) -> np.ndarray:
        if self.labels is None or self.regression:
            return np.zeros(len(self), dtype=bool)
        return self.predicted != self.labels

    @cached_property
    def flags(self) -> np.ndarray:
        """Which of ``FLAGS`` a row bears: a confident error may be a wrong label; a narrow lead is a guess."""
        if self.regression:
            return np.zeros(len(self), dtype=int)
        return np.select([self.wrong & (self.confidence >= CERTAIN), self.margin < UNSURE], [1, 2], 0)

    @property
    def accuracy(self) -> tuple[float, float, float] | None:
        """Accuracy with its 95 % Wilson interval, or None where there is nothing to compare with."""
        if self.labels is None or self.regression:
            return None
        right = int((~self.wrong).sum())
        return right / len(self), *wilson(right, len(self))

    @cached_property
    def confusion(self) -> np.ndarray | None:
        """Counts ``(classes, classes)``: true class by predicted class."""
        if self.labels is None or self.regression:
            return None
        k = len(self.class_names)
        return np.bincount(self.labels.astype(int) * k + self.predicted, minlength=k * k).reshape(k, k)

    def ordered(self, view: View) -> np.ndarray:
        """Row numbers in the order and of the confusion cell that ``view`` asks for. Errors first, least sure first, by default."""
        by = self.confidence if not self.regression else -np.nan_to_num(self.confidence)
        order = {
            "unsure": np.argsort(by, kind="stable"),
            "sure": np.argsort(-by, kind="stable"),
            "row": np.arange(len(self)),
        }.get(view.order, np.lexsort((by, ~self.wrong)))
        if view.pair is not None and self.labels is not None and not self.regression:
            true, predicted = view.pair
            order = order[(self.labels[order] == true) & (self.predicted[order] == predicted)]
        return order
