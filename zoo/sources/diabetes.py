"""Diabetes: 442 patients, ten measures, and the progression of the disease a year later, that come with scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from zoo.data import Data, Split

if TYPE_CHECKING:
    import pandas as pd

SOURCE = "Diabetes (Efron, Hastie, Johnstone and Tibshirani 2004), unscaled, as it comes with scikit-learn"
RULE = "drawn with seed 0: 60 % train, 15 % validation, 25 % test"
COLUMNS = {
    "age": "age, years",
    "sex": "sex (coded 1, 2)",
    "bmi": "body mass index",
    "bp": "mean blood pressure",
    "s1": "total serum cholesterol",
    "s2": "low-density lipoproteins",
    "s3": "high-density lipoproteins",
    "s4": "total cholesterol / HDL",
    "s5": "log of serum triglycerides",
    "s6": "blood sugar",
}


def load() -> Data:
    """A table of ten columns; the label is a measure of progression, 25 to 346; sex as groups."""
    from sklearn.datasets import load_diabetes

    frame, target = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
    frame, labels = frame.astype(float), target.to_numpy(dtype=float)
    order = np.random.default_rng(0).permutation(len(labels))
    cuts = np.round(np.array([0.6, 0.75]) * len(labels)).astype(int)
    train, validation, test = (
        Split(frame.iloc[rows].reset_index(drop=True), labels[rows], frame[["sex"]].iloc[rows].reset_index(drop=True))
        for rows in map(np.sort, np.split(order, cuts))
    )
    return Data(train, validation, test, ("progression",), SOURCE, RULE, feature_names=tuple(frame.columns), columns=COLUMNS)


def background(data: Data) -> pd.DataFrame:
    """A hundred training rows, drawn with seed 0."""
    return data.train.inputs.sample(100, random_state=0).sort_index().reset_index(drop=True)
