"""Small models whose right answers are known, shared by the tests."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd

import explainer

COLUMNS = ["a", "b", "c", "d", "e"]


def frame(rows: int = 40, columns: list[str] = COLUMNS, seed: int = 0) -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(seed).normal(size=(rows, len(columns))), columns=columns)


def regression(function, columns: list[str] = COLUMNS, background: pd.DataFrame | None = None) -> explainer.Model:
    """A function of the columns' array, wrapped with background rows."""
    return explainer.wrap(
        lambda table: function(table.to_numpy()),
        modality="tabular", task="regression", class_names=["value"], name="game",
        background=frame(20, columns, seed=1) if background is None else background,
    )  # fmt: skip


def brute_force(function, x: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Shapley values straight from the definition: a slow sum over all orders' subsets, one coalition at a time."""
    d = len(x)

    def v(members: tuple[int, ...]) -> float:
        rows = background.copy()
        rows[:, list(members)] = x[list(members)]
        return float(np.mean(function(rows)))

    phi = np.zeros(d)
    for i in range(d):
        rest = [j for j in range(d) if j != i]
        for size in range(d):
            weight = math.factorial(size) * math.factorial(d - size - 1) / math.factorial(d)
            for subset in itertools.combinations(rest, size):
                phi[i] += weight * (v((*subset, i)) - v(subset))
    return phi


def wavy(x: np.ndarray) -> np.ndarray:
    """Interactions of two and three columns, and a threshold."""
    return np.sin(x[:, 0] * x[:, 1]) + x[:, 2] * x[:, 3] * x[:, -1] + (x[:, 0] > 0.3) * x[:, 3] + 0.5 * x[:, 1]
