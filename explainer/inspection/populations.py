"""Populations a decision is held against: all applicants, the approved, those near the cutoff, or rows of the caller's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from explainer.errors import InvalidInput, Unsupported, unknown
from explainer.features import BACKGROUND_ROWS
from explainer.model import Model
from explainer.target import resolve

if TYPE_CHECKING:
    import pandas as pd

POPULATIONS = ("all", "approved", "near the cutoff")
NEAR = 0.1  # share of the approved that counts as near the cutoff, and at least so many of them:
FEWEST_NEAR = 20


def favourable(model: Model, target: Any) -> tuple[Callable[[Any, str], np.ndarray], Any]:
    """The favourable score of a table, and the target that ``explain`` takes."""
    if target is None and model.task == "regression" and len(model.class_names) == 1:
        target = 0
    if target is None or (isinstance(target, str) and target in ("predicted", "all") and target not in model.class_names):
        raise InvalidInput(
            f"Say which outcome is favourable, as in target={model.class_names[-1]!r}. Valid: {', '.join(model.class_names)}."
        )

    def score(table: Any, output: str) -> np.ndarray:
        scores = model.scores(table, output)
        return np.asarray(resolve(target, scores, model.class_names)(scores, np.arange(len(scores))))[:, 0]

    return score, target


def cutoff_of(model: Model, target: Any, output: str, cutoff: float | None) -> float:
    if cutoff is not None:
        if isinstance(cutoff, bool) or not isinstance(cutoff, (int, float, np.number)) or not math.isfinite(cutoff):
            raise InvalidInput(f"cutoff={cutoff!r} is not a score; pass a number.")
        return float(cutoff)
    if model.task == "regression" or callable(target) or output == "raw":
        raise InvalidInput("Say from which score on a case is approved: cutoff=. Only probabilities and logits have a usual one.")
    return 0.0 if isinstance(target, tuple) or output == "logit" else 0.5


def baselines(
    known: Any, population: Any, model: Model, score: Callable[[Any], np.ndarray], cutoff: float
) -> dict[str, tuple[str, pd.DataFrame]]:
    """The population asked for first, then the other named ones that can be had: name -> (words, rows)."""
    named: dict[str, tuple[str, pd.DataFrame]] = {}
    if known is not None:
        scores = score(known)
        approved = np.flatnonzero(scores >= cutoff)
        near = approved[np.argsort(scores[approved], kind="stable")][: max(FEWEST_NEAR, math.ceil(NEAR * len(approved)))]
        named["all"] = (f"all {len(known)} applicants", known)
        if len(approved):
            named["approved"] = (f"the {len(approved)} approved of {len(known)} applicants", known.iloc[approved])
            span = f"scores {scores[near].min():.3g} to {scores[near].max():.3g}"
            named["near the cutoff"] = (f"the {len(near)} approved applicants nearest the cutoff {cutoff:.3g} ({span})", known.iloc[near])
    if isinstance(population, str):
        word = population.lower().replace("-", " ").replace("near cutoff", "near the cutoff")
        if word not in POPULATIONS:
            raise unknown("population", population, POPULATIONS)
        if known is None:
            raise Unsupported(f"{model.name} has no background rows to take the population from; pass applicants=, or population=a table.")
        if word not in named:
            raise InvalidInput(f"None of the {len(known)} applicants reaches the cutoff {cutoff:.3g}, so there is no population {word!r}.")
        return {word: named.pop(word), **named}
    title, table = population if isinstance(population, tuple) and len(population) == 2 else ("rows given by the caller", population)
    rows = model.canonical(table)
    return {str(title): (f"{title} ({len(rows)} row{'s' * (len(rows) > 1)})", rows), **named}


def drawn(table: Any, seed: int, draw: int) -> Any:
    """Draw 0: the population, or 100 of its rows; later draws with replacement, so that a small population varies too."""
    size = min(BACKGROUND_ROWS, len(table))
    if draw == 0 and size == len(table):
        return table.reset_index(drop=True)
    chosen = np.sort(np.random.default_rng([seed, draw]).choice(len(table), size, replace=draw > 0))
    return table.iloc[chosen].reset_index(drop=True)
