"""What the model says of the items, scored once for all checks and on no more items than that takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from explainer.checks.context import NotRun, count, plural
from explainer.checks.labels import Labels
from explainer.checks.view import View

SCORED_MOST = 10_000  # items scored: a share is then known to 1 point, and a slow network takes minutes, not hours
AT_ONCE = 2_048  # items handed to the model in one call; those that it refuses are looked for within that call
REFUSALS_MOST = 60  # calls that may fail before the model is taken not to fit the data


@dataclass(frozen=True)
class Predictions:
    """Scores ``(m, outputs)`` of the items ``rows`` of a view: probabilities of classes, or estimates."""

    rows: np.ndarray
    scores: np.ndarray
    n: int  # items of the view
    refused: int  # items that the model could not score
    noun: str
    class_names: tuple[str, ...]
    view: View
    model: Any

    @property
    def aside(self) -> str:
        """Which items were scored, in words, where it was not all."""
        notes = [f"on {len(self.rows):,} of {self.n:,} {plural(self.noun)}, drawn at random"] if self.sampled else []
        notes += [f"{count(self.refused, self.noun)} could not be scored"] if self.refused else []
        return f" ({'; '.join(notes)})" if notes else ""

    @property
    def sampled(self) -> bool:
        return len(self.rows) + self.refused < self.n

    def truth(self, labels: Labels) -> np.ndarray:
        """``(m,)`` the labels of the scored items as the model's class numbers, -1 where there is none of its classes."""
        known = {name: i for i, name in enumerate(self.class_names)}
        numbered = {str(i): i for i in range(len(self.class_names))}
        table = np.array([known.get(name, numbered.get(name, -1)) for name in labels.names] + [-1])
        return np.asarray(table[labels.codes[self.rows]])

    @cached_property
    def embedding(self) -> np.ndarray | None:
        """``(m, units)`` what enters the model's last layer, or None where the model does not show it."""
        shown = getattr(self.model, "embedding", None)
        if shown is None:
            return None
        parts = []
        for start in range(0, len(self.rows), AT_ONCE):
            part = shown(self.model.canonical(self.view.take(self.rows[start : start + AT_ONCE])))
            if part is None:
                return None
            parts.append(np.asarray(part, dtype=np.float32))
        values = np.concatenate(parts)
        return values if np.isfinite(values).all() else None


def predictions_of(model: Any, view: View) -> Predictions | NotRun:
    """Score up to ``SCORED_MOST`` items, drawn with a fixed seed; those the model refuses are left out. The reason, where it cannot."""
    if model is None:
        return NotRun("No model was given.")
    if view.modality != model.modality:
        return NotRun(f"The model takes {model.modality}, not {view.modality}, data.")
    drawn = np.sort(np.random.default_rng(0).permutation(view.n)[:SCORED_MOST])
    try:
        found, scores = _scored(lambda rows: model.scores(view.take(rows)), drawn, view.whole(model.feature_names))
    except Exception as reason:
        return NotRun(f"The model cannot score these data: {str(reason)[:300]}")
    if not len(found):
        return NotRun("The model could score none of the items.")
    return Predictions(found, scores, view.n, len(drawn) - len(found), view.noun, model.class_names, view, model)


def _scored(score: Callable[[np.ndarray], Any], drawn: np.ndarray, whole: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The items that can be scored, and their scores: all at once, then those with nothing missing, then by halves."""
    refusals = 0
    rows: list[np.ndarray] = []
    scores: list[np.ndarray] = []
    parts = [drawn[start : start + AT_ONCE] for start in range(0, len(drawn), AT_ONCE)][::-1]
    while parts:
        part = parts.pop()
        try:
            values = np.asarray(score(part), dtype=float)
        except Exception:
            refusals += 1
            if refusals > REFUSALS_MOST:
                raise
            good = part[whole[part]]
            if len(good) < len(part):
                parts += [good] if len(good) else []
            elif len(part) > 1:
                parts += [part[len(part) // 2 :], part[: len(part) // 2]]
            continue
        rows.append(part)
        scores.append(values)
    return (np.concatenate(rows), np.concatenate(scores)) if rows else (np.zeros(0, dtype=int), np.zeros((0, 0)))
