"""Error against exact Shapley values at equal evaluations, ours beside shap's, and the coverage of our 95 % intervals.

Run ``python benchmarks/shapley.py`` (``--help`` for sizes). Games of 14 players with known exact values: an MLP, a boosted
ensemble, a threshold and a product, each instance against one background row. Error: median over instances and seeds of
||phi - exact|| / ||exact||. Coverage: share of values within 1.96 standard errors of the exact one; 0.95 is right.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

import explainer

PLAYERS = 14
COLUMNS = [f"x{j}" for j in range(PLAYERS)]
Function = Callable[[np.ndarray], np.ndarray]


def games(rows: np.ndarray) -> dict[str, Function]:
    """Name -> a function of ``(n, 14)`` arrays."""
    from sklearn.ensemble import GradientBoostingRegressor
    from sklearn.neural_network import MLPRegressor

    x = rows
    y = np.sin(x[:, 0] * x[:, 1]) + x[:, 2] * x[:, 3] * x[:, 4] + np.maximum(x[:, 5], 0) * x[:, 6] + 0.3 * x.sum(axis=1)
    mlp = MLPRegressor(hidden_layer_sizes=(48, 48), max_iter=300, random_state=1).fit(x, y)
    boosted = GradientBoostingRegressor(max_depth=4, random_state=1).fit(x, y)
    return {
        "MLP": mlp.predict,
        "boosting": boosted.predict,
        "threshold": lambda a: (a.sum(axis=1) > 0.5).astype(float),
        "product": lambda a: np.prod(1 + 0.4 * np.tanh(a), axis=1),
    }


def ours(function: Function, x: np.ndarray, reference: np.ndarray, budget: int, seed: int, algorithm: str) -> explainer.Explanation:
    model = explainer.wrap(
        lambda table: function(table.to_numpy()), modality="tabular", task="regression", class_names=["value"],
        background=pd.DataFrame([reference], columns=COLUMNS),
    )  # fmt: skip
    row = pd.DataFrame([x], columns=COLUMNS)
    return explainer.explain(model, row, "shap", algorithm=algorithm, budget=budget, seed=seed, verify=False)


def peers(function: Function, x: np.ndarray, reference: np.ndarray, budget: int, seed: int) -> dict[str, np.ndarray]:
    import shap

    np.random.seed(seed)
    kernel = shap.KernelExplainer(function, reference[None])
    rounds = max(1, budget // (2 * PLAYERS + 1))
    permutation = shap.PermutationExplainer(function, reference[None], seed=seed)
    return {
        "shap Kernel, l1 off": kernel.shap_values(x, nsamples=budget, l1_reg=False, silent=True),
        "shap Kernel, default": kernel.shap_values(x, nsamples=budget, silent=True),
        "shap Permutation": permutation(x[None], max_evals=rounds * (2 * PLAYERS + 1)).values[0],
    }


def main(instances: int = 6, seeds: int = 3) -> None:
    """Print one table per budget."""
    warnings.filterwarnings("ignore")
    logging.getLogger("shap").setLevel(logging.ERROR)
    rows = np.random.default_rng(0).normal(size=(800, PLAYERS))
    errors: dict[tuple[int, str, str], list[float]] = {}
    covered: dict[tuple[int, str], list[float]] = {}
    for name, function in games(rows).items():
        for i in track(range(instances), name, transient=True):
            x, reference = rows[200 + i], rows[300 + i]
            exact = ours(function, x, reference, 2, 0, "exact").values[0]
            for budget in (128, 512, 2048):
                for seed in range(seeds):
                    found = peers(function, x, reference, budget, seed)
                    ex = ours(function, x, reference, budget, seed, "gaussian")
                    found["explainer"] = ex.values[0]
                    found["explainer, permutation"] = ours(function, x, reference, budget, seed, "permutation").values[0]
                    for method, phi in found.items():
                        errors.setdefault((budget, method, name), []).append(np.linalg.norm(phi - exact) / np.linalg.norm(exact))
                    covered.setdefault((budget, name), []).append(float(np.mean(np.abs(ex.values[0] - exact) <= 1.96 * ex.stderr[0])))
    show(errors, covered)


def show(errors: dict[tuple[int, str, str], list[float]], covered: dict[tuple[int, str], list[float]]) -> None:
    names = sorted({name for _, _, name in errors})
    for budget in sorted({b for b, _, _ in errors}):
        table = Table("median relative error", *names, title=f"{PLAYERS} players, {budget} evaluations")
        for method in dict.fromkeys(m for b, m, _ in errors if b == budget):
            table.add_row(method, *(f"{np.median(errors[budget, method, name]):.3f}" for name in names))
        table.add_row("coverage of our 95 % intervals", *(f"{np.mean(covered[budget, name]):.2f}" for name in names), end_section=True)
        Console().print(table)


if __name__ == "__main__":
    typer.run(main)
