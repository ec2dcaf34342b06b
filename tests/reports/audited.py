"""A small model with its data, and reports on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

import explainer
import explainer.reports.audit

DATE = "2026-05-31"
NAMES = ["no", "yes"]


def score(frame: pd.DataFrame) -> np.ndarray:
    z = 1.5 * frame["income"].to_numpy(dtype=float) - frame["debt"].to_numpy(dtype=float) + 0.2 * frame["age"].to_numpy(dtype=float)
    p = 1 / (1 + np.exp(-z))
    return np.stack([1 - p, p], axis=1)


def make(n: int, seed: int) -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(n, 3)), columns=["income", "debt", "age"])
    labels = (rng.random(n) < score(frame)[:, 1]).astype(int)
    return frame, labels, pd.DataFrame({"sex": rng.choice(["f", "m"], n)})


def small(model: explainer.Model, out: Path, **options: object) -> explainer.reports.audit.Report:
    frame, labels, _ = make(60, 1)
    return explainer.audit(model, frame, labels, **{"out": out, "date": DATE, "cases": 1, "sample": 5, **options})  # type: ignore[arg-type]


def drawn_in_units(rng: np.random.Generator, units: int, each: int, p: float = 0.7, alike: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """0/1 rows whose correlation within a unit is ``alike`` (beta-binomial), and their units."""
    spread = (1 - alike) / alike
    chances = rng.beta(p * spread, (1 - p) * spread, units)
    return (rng.random((units, each)) < chances[:, None]).ravel(), np.repeat(np.arange(units), each)
