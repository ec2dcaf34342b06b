"""Breast cancer, Wisconsin: 569 tumours, 30 measures of the cell nuclei, that come with scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from zoo.data import Data, Split, stratified

if TYPE_CHECKING:
    import pandas as pd

SOURCE = "Breast Cancer Wisconsin, diagnostic (Street, Wolberg and Mangasarian 1993), as it comes with scikit-learn"
RULE = "stratified by diagnosis with seed 0: 60 % train, 15 % validation, 25 % test"


def load() -> Data:
    """A table of 30 measures (mean, standard error and worst of ten); classes "malignant" and "benign"."""
    from sklearn.datasets import load_breast_cancer

    frame, labels = load_breast_cancer(return_X_y=True, as_frame=True)
    frame = frame.astype(float)
    labels = labels.to_numpy(dtype=np.int64)
    train, validation, test = (
        Split(frame.iloc[rows].reset_index(drop=True), labels[rows]) for rows in stratified(labels, (0.6, 0.15, 0.25))
    )
    return Data(train, validation, test, ("malignant", "benign"), SOURCE, RULE, feature_names=tuple(frame.columns))


def background(data: Data) -> pd.DataFrame:
    """A hundred training rows, drawn with seed 0."""
    return data.train.inputs.sample(100, random_state=0).sort_index().reset_index(drop=True)
