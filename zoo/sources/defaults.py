"""Credit card holders in Taiwan, 2005: 30,000 of them, and whether they failed to pay in the next month."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from zoo.data import Data, Split, stratified
from zoo.sources.official import locate

if TYPE_CHECKING:
    import pandas as pd

SOURCE = "Default of Credit Card Clients (Yeh and Lien 2009), UCI"
RULE = "stratified by default with seed 0: 60 % train, 15 % validation, 25 % test"
TARGET = "default.payment.next.month"
# Protected under the Equal Credit Opportunity Act: kept for the audit, never shown to the model.
PROTECTED = ("SEX", "MARRIAGE", "AGE")
COLUMNS = {
    "LIMIT_BAL": "credit given, NT$",
    "EDUCATION": "education (1 graduate school, 2 university, 3 high school, others)",
    **{f"PAY_{k}": f"payments behind, months, {when} 2005 (-2 not used, -1 paid in full, 0 revolving)"
       for k, when in zip((0, 2, 3, 4, 5, 6), ("September", "August", "July", "June", "May", "April"), strict=True)},
    **{f"BILL_AMT{k}": f"bill, NT$, {when} 2005"
       for k, when in enumerate(("September", "August", "July", "June", "May", "April"), 1)},
    **{f"PAY_AMT{k}": f"paid, NT$, {when} 2005"
       for k, when in enumerate(("September", "August", "July", "June", "May", "April"), 1)},
    "SEX": "sex (audit only)", "MARRIAGE": "marital status (audit only)", "AGE": "age (audit only)",
}  # fmt: skip


def load() -> Data:
    """A table of 20 columns; classes "paid" and "default"; sex, marriage and age band as groups."""
    import pandas as pd

    frame = pd.read_csv(locate("default")).drop(columns="ID")
    labels = frame[TARGET].to_numpy(dtype=np.int64)
    groups = pd.DataFrame(
        {
            "sex": frame["SEX"].map({1: "male", 2: "female"}),
            "marriage": frame["MARRIAGE"].map({1: "married", 2: "single"}).fillna("other"),
            "age": pd.cut(frame["AGE"], [0, 29, 39, 49, 200], labels=["under 30", "30 to 39", "40 to 49", "50 and over"]).astype(str),
        }
    )
    features = frame.drop(columns=[TARGET, *PROTECTED]).astype(float)
    train, validation, test = (
        Split(features.iloc[rows].reset_index(drop=True), labels[rows], groups.iloc[rows].reset_index(drop=True))
        for rows in stratified(labels, (0.6, 0.15, 0.25))
    )
    return Data(train, validation, test, ("paid", "default"), SOURCE, RULE, feature_names=tuple(features.columns), columns=COLUMNS)


def background(data: Data) -> pd.DataFrame:
    """A hundred training rows, drawn with seed 0."""
    return data.train.inputs.sample(100, random_state=0).sort_index().reset_index(drop=True)
