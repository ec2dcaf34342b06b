"""The coalition engine: the one place that scores on/off designs.

``engine(i, masks)`` gives the target's value for each coalition of instance ``i``. Batching, the cache of coalitions already
seen, retry after out-of-memory, the count of evaluations, budget and progress live here and nowhere else.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from explainer.errors import InvalidInput
from explainer.features.base import Features
from explainer.progress import Report
from explainer.target import Target

EVALUATIONS = 2048
# Model rows built at once: large enough for full batches, small enough that a table of 200 columns stays under 20 MB.
ROWS_AT_ONCE = 8192
_MOST_EVALUATIONS = 50_000


@dataclass(frozen=True)
class Budget:
    """How long to sample, per instance: a number of evaluations, seconds, or until the 95 % error is small enough."""

    evaluations: int
    seconds: float | None = None
    error: float | None = None

    @property
    def adaptive(self) -> bool:
        """Whether sampling stops by the clock or the error rather than by a count."""
        return self.seconds is not None or self.error is not None

    @staticmethod
    def parse(budget: Any) -> Budget:
        """Read None, an int, ``"500 evals"``, ``"10s"`` or ``"1% error"``. Raises InvalidInput."""
        if budget is None:
            return Budget(EVALUATIONS)
        if isinstance(budget, Budget):
            return budget
        if isinstance(budget, (int, np.integer)) and not isinstance(budget, bool) and budget > 0:
            return Budget(int(budget))
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(evals?|evaluations|s|sec|seconds|%\s*error)\s*", str(budget))
        if match is None or float(match[1]) <= 0:
            raise InvalidInput(f"budget={budget!r} is not understood; use an int, '500 evals', '10s' or '1% error'.")
        number, unit = float(match[1]), match[2]
        if unit.startswith("e"):
            return Budget(max(1, int(number)))
        if unit.startswith("s"):
            return Budget(_MOST_EVALUATIONS, seconds=number)
        return Budget(_MOST_EVALUATIONS, error=number / 100)


class Coalitions:
    """Scores of coalitions of one batch of inputs, on one target and output scale."""

    def __init__(
        self,
        model: Any,
        inputs: Any,
        features: Features,
        target: Target,
        output: str,
        *,
        budget: Budget | None = None,
        report: Report | None = None,
    ) -> None:
        self.model = model
        self.inputs = inputs
        self.features = features
        self.target = target
        self.output = output
        self.budget = budget or Budget(EVALUATIONS)
        self.evaluations = 0
        self._report = report or (lambda done, total: None)
        self._total = 0
        self._known: dict[int, dict[bytes, np.ndarray]] = {}
        self._rows = ROWS_AT_ONCE

    def plan(self, evaluations: int) -> None:
        """Tell the progress bar how many coalitions will be asked for in all."""
        self._total = evaluations

    def __call__(self, i: int, masks: np.ndarray) -> np.ndarray:
        """Target values ``(m, k)`` of coalitions ``masks`` (m, players) bool; each different coalition is scored once."""
        known = self._known.setdefault(i, {})
        packed = np.packbits(masks, axis=1)
        keys = [row.tobytes() for row in packed]
        fresh = {key: position for position, key in enumerate(keys) if key not in known}
        if fresh:
            values = self._score(i, masks[list(fresh.values())])
            known.update(zip(fresh, values, strict=True))
        return np.stack([known[key] for key in keys])

    def gather(self, asks: Sequence[tuple[int, np.ndarray]]) -> list[np.ndarray]:
        """The values of several instances' coalitions ``(i, masks)``, scored in one stream: full batches across instances."""
        return [self(i, masks) for i, masks in asks]

    def forget(self, i: int) -> None:
        """Drop what is known of instance ``i``, when its explanation is done."""
        self._known.pop(i, None)

    def score_rows(self, i: int, rows: Any, repeats: int = 1) -> np.ndarray:
        """Target values ``(m, k)`` of model inputs made by the caller; ``repeats`` of them count as one evaluation."""
        scores = self.model.rescale(np.asarray(self.model.raw(rows), dtype=np.float64), self.output)
        bad = int((~np.isfinite(scores)).any(axis=1).sum())
        if bad:
            raise InvalidInput(
                f"The model gave no finite score for {bad} of {len(scores)} perturbed copies of instance {i} ({self.features.absence}). "
                "Choose another baseline= or background= that the model can score."
            )
        self.evaluations += len(scores) // repeats
        self._report(self.evaluations, max(self._total, self.evaluations))
        return np.asarray(self.target(scores, i))

    def _score(self, i: int, masks: np.ndarray) -> np.ndarray:
        repeats, parts, start = self.features.repeats, [], 0
        while start < len(masks):
            chunk = masks[start : start + max(1, self._rows // repeats)]
            try:
                values = self.score_rows(i, self.features.rows(i, chunk), repeats)
            except (MemoryError, RuntimeError) as error:
                if len(chunk) == 1 or not _out_of_memory(error):
                    raise
                self._rows = max(repeats, len(chunk) * repeats // 2)
                continue
            parts.append(values.reshape(len(chunk), repeats, -1).mean(axis=1))
            start += len(chunk)
        return np.concatenate(parts)


class Clock:
    """Whether a budget in seconds is used up."""

    def __init__(self, budget: Budget) -> None:
        self._end = None if budget.seconds is None else time.perf_counter() + budget.seconds

    @property
    def over(self) -> bool:
        return self._end is not None and time.perf_counter() >= self._end


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or "out of memory" in str(error).lower() or "can't allocate" in str(error).lower()
