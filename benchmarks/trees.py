"""Wall time of exact tree Shapley values against shap.TreeExplainer, both games, values and interactions.

Run ``python benchmarks/trees.py`` (``--help`` for sizes). 100 trees, 1000 rows, 20 columns, 100 background rows. Both sides start
from a model that was read beforehand; how long reading takes (ours checks what it read against the model's scores) stands in the
detail. shap does XGBoost's and LightGBM's path-dependent values by these libraries' own code. Parity is checked in the same run.
"""

from __future__ import annotations

import warnings
from typing import Annotated, Any

import lightgbm
import numpy as np
import pandas as pd
import typer
import xgboost
from results import Figure, Results
from rich.progress import track
from sklearn.datasets import make_classification
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from timing import in_turn, one_thread

import explainer
from explainer.methods.ensemble import Ensemble

COLUMNS, BACKGROUND, TREES = 20, 100, 100


def models() -> dict[str, tuple[Any, str, float]]:
    """Name -> estimator, the scale on which its trees add up, the bar: 3 at depth 3, 6 at depth 6 and more."""
    return {
        "boosting, depth 3": (GradientBoostingClassifier(n_estimators=TREES, random_state=0), "logit", 3),
        "boosting, depth 6": (GradientBoostingClassifier(n_estimators=TREES, max_depth=6, random_state=0), "logit", 6),
        "random forest, depth 10": (RandomForestClassifier(TREES, max_depth=10, random_state=0), "probability", 6),
        "random forest, full depth": (RandomForestClassifier(TREES, random_state=0), "probability", 6),
        "histogram boosting, 31 leaves": (HistGradientBoostingClassifier(max_iter=TREES, random_state=0), "logit", 6),
        "XGBoost, depth 6": (xgboost.XGBClassifier(n_estimators=TREES, max_depth=6, n_jobs=1), "logit", 6),
        "LightGBM, 31 leaves": (lightgbm.LGBMClassifier(n_estimators=TREES, n_jobs=1, verbose=-1), "logit", 6),
    }


def compare(
    name: str, estimator: Any, output: str, bar: float, data: pd.DataFrame, labels: np.ndarray, rows: int, rounds: int
) -> list[Figure]:
    import shap

    estimator.fit(data[:2000], labels[:2000])
    model, x, background = explainer.wrap(estimator), data[2000 : 2000 + rows], data[:BACKGROUND]
    ensemble = Ensemble(model, [x], output, np.arange(COLUMNS))
    found = []
    for game, others in (("path-dependent", None), ("interventional", background)):
        few = x if others is None else x[: max(1, len(x) // 5)]

        def read(others: Any = others) -> Any:
            if others is None:
                return shap.TreeExplainer(estimator)
            return shap.TreeExplainer(estimator, others, feature_perturbation="interventional")

        def ours_read(few: Any = few) -> Any:
            return Ensemble(model, [few], output, np.arange(COLUMNS))

        peer = read()
        calls = {
            "ours": lambda few=few, others=others: ensemble.values(few, others, lambda done, total: None),
            "shap": lambda few=few, peer=peer: peer.shap_values(few, check_additivity=False),
        }
        theirs, own = np.asarray(calls["shap"]()).reshape(len(few), COLUMNS, -1)[..., -1], calls["ours"]()[..., -1]
        apart = np.abs(own - theirs).max()
        # Values must sum to the score less a base that is one number for all rows: what is left over is error.
        score = ensemble.margins(few)[:, 0]
        left = [float(np.ptp(score - values.sum(axis=1))) for values in (own, theirs)]
        times, reading = in_turn(calls, rounds), in_turn({"ours": ours_read, "shap": read}, 1)
        found.append(
            Figure(
                f"{name}, {game}", "shap TreeExplainer", times.ratio("shap", "ours"), bar if others is None else None,
                detail=f"{1e3 * times.of('shap'):.3g} against {1e3 * times.of('ours'):.3g} ms for {len(few)} rows; reading "
                f"{1e3 * reading.of('shap'):.3g} against {1e3 * reading.of('ours'):.3g} ms; values {apart:.0e} apart; "
                f"sums off by {left[0]:.0e}, shap's by {left[1]:.0e}",
                why="leaves are worked through a block at a time, which gains little where trees are few or shallow.",
            )
        )  # fmt: skip
    return found


def interactions(data: pd.DataFrame, labels: np.ndarray, rows: int, rounds: int) -> Figure:
    import shap

    estimator = GradientBoostingClassifier(n_estimators=TREES, max_depth=4, random_state=0).fit(data[:2000], labels[:2000])
    x, model, peer = data[2000 : 2000 + rows], explainer.wrap(estimator), shap.TreeExplainer(estimator)
    ensemble = Ensemble(model, [x], "logit", np.arange(COLUMNS))
    calls = {"ours": lambda: ensemble.interactions(x, None, lambda done, total: None), "shap": lambda: peer.shap_interaction_values(x)}
    apart = np.abs(calls["ours"]()[..., 0] - calls["shap"]()).max()
    times = in_turn(calls, rounds)
    detail = f"{1e3 * times.of('shap'):.3g} against {1e3 * times.of('ours'):.3g} ms for {rows} rows; values {apart:.0e} apart"
    return Figure("boosting, depth 4, interactions", "shap TreeExplainer", times.ratio("shap", "ours"), detail=detail)


def measure(quick: bool = False) -> Results:
    warnings.filterwarnings("ignore")
    x, labels = make_classification(3000, COLUMNS, n_informative=12, random_state=0)
    data = pd.DataFrame(x, columns=[f"x{j}" for j in range(COLUMNS)])
    rows, rounds, results = (100, 2, Results()) if quick else (1000, 5, Results())
    for name, (estimator, output, bar) in track(models().items(), "trees", transient=True):
        results.figures += compare(name, estimator, output, bar, data, labels, rows, rounds)
    results.figures.append(interactions(data, labels, rows // 10, rounds))
    return results


def main(quick: Annotated[bool, typer.Option(help="Fewer rows and rounds: to see that it works.")] = False) -> None:
    """Print the table of ratios."""
    one_thread()
    measure(quick).show()


if __name__ == "__main__":
    typer.run(main)
