"""Tree ensembles of scikit-learn: their strength picked on validation, as for the baselines."""

from __future__ import annotations

from typing import Any

from zoo.data import Data


def boosting(data: Data, seed: int) -> Any:
    """Gradient boosting on the columns as they are, missing values included."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    from zoo.baselines import best

    options = [
        HistGradientBoostingClassifier(learning_rate=rate, max_iter=trees, max_leaf_nodes=leaves, random_state=seed)
        for rate, trees in ((0.1, 100), (0.05, 100), (0.03, 150))
        for leaves in (4, 8, 31)
    ]
    return best(data, options, lambda frame: frame)


def forest(data: Data, seed: int) -> Any:
    """A random forest of 100 trees; how many rows a leaf needs is picked on validation."""
    from sklearn.ensemble import RandomForestClassifier

    from zoo.baselines import best

    options = [RandomForestClassifier(100, min_samples_leaf=least, random_state=seed) for least in (1, 2, 4, 8)]
    return best(data, options, lambda frame: frame)
