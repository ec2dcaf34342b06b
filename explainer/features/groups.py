"""Which columns of a table belong together: correlated ones by clustering, one-hot ones by their names and values."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

THRESHOLD = 0.7
_MOST_ROWS = 2000  # enough to tell an association of 0.7 from 0.65
_SHOWN = 4  # names in a group's name
_SEPARATOR = re.compile(r"[_=:.\- ]+")


def correlated(background: pd.DataFrame, threshold: float = THRESHOLD, seed: int = 0) -> dict[str, list[str]]:
    """Groups in which every two columns have at least the association ``threshold``: complete-linkage clustering."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    columns = [str(c) for c in background.columns]
    if len(columns) < 2:
        return {}
    if len(background) > _MOST_ROWS:
        background = background.iloc[np.sort(np.random.default_rng(seed).choice(len(background), _MOST_ROWS, replace=False))]
    distance = 1 - associations(background)
    np.fill_diagonal(distance, 0)
    labels = fcluster(linkage(squareform(distance, checks=False), "complete"), 1 - threshold + 1e-12, "distance")
    together = [[c for c, own in zip(columns, labels, strict=True) if own == label] for label in dict.fromkeys(labels)]
    return {_name(members): members for members in together if len(members) > 1}


def associations(frame: pd.DataFrame) -> np.ndarray:
    r"""How strongly each two columns go together ``(columns, columns)``, from 0 to 1, for any types.

    Two numeric columns: \|Spearman's rank correlation\|; two others: Cramer's V, corrected for bias (Bergsma 2013); one of
    each: the correlation ratio of the ranks, :math:`\eta = \sqrt{SS_{between} / SS_{total}}`. Rows where one is missing are
    left out of that pair; a constant column goes with none.
    """
    import pandas as pd

    numeric = [pd.api.types.is_numeric_dtype(t) and not pd.api.types.is_bool_dtype(t) for t in frame.dtypes]
    coded = [
        frame.iloc[:, j].to_numpy(dtype=float, na_value=np.nan) if numeric[j] else _codes(frame.iloc[:, j]) for j in range(frame.shape[1])
    ]
    found = np.eye(len(coded))
    whole = [j for j, values in enumerate(coded) if numeric[j] and len(values) and not np.isnan(values).any()]
    if whole:  # all at once; pair by pair only where something is missing or not a number
        ranks = np.stack([_ranks(coded[j]) for j in whole])
        size = np.sqrt((ranks**2).sum(axis=1))
        spread = np.outer(size, size)
        found[np.ix_(whole, whole)] = np.divide(np.abs(ranks @ ranks.T), spread, out=np.zeros_like(spread), where=spread > 0)
    done = set(whole)
    for a in range(len(coded)):
        for b in range(a):
            if a in done and b in done:
                continue
            both = ~(np.isnan(coded[a]) | np.isnan(coded[b]))
            x, y = coded[a][both], coded[b][both]
            if numeric[a] != numeric[b]:
                value = _ratio(y, x) if numeric[a] else _ratio(x, y)
            else:
                value = _spearman(x, y) if numeric[a] else _cramer(x, y)
            found[a, b] = found[b, a] = value
    return np.minimum(found, 1.0)


def one_hot(frame: pd.DataFrame, background: pd.DataFrame) -> dict[str, list[str]]:
    """Columns that share the beginning of their name, hold 0 and 1, and of which exactly one is on in every row given."""
    columns = {str(name): position for position, name in enumerate(frame.columns)}
    beginnings: dict[str, list[str]] = {}
    for name in columns:
        for found in _SEPARATOR.finditer(name):
            if found.start() > 0 and found.end() < len(name):
                beginnings.setdefault(name[: found.start()], []).append(name)
    groups: dict[str, list[str]] = {}
    taken: set[str] = set()
    for beginning in sorted(beginnings, key=len, reverse=True):  # "town_new_york" is of "town_new" before it is of "town"
        members = [m for m in beginnings[beginning] if m not in taken]
        if len(members) > 1 and all(_one_on(table, [columns[m] for m in members]) for table in (background, frame)):
            groups[beginning if beginning not in columns else f"{beginning} (one-hot)"] = members
            taken |= set(members)
    return groups


def _one_on(table: pd.DataFrame, positions: list[int]) -> bool:
    part = table.iloc[:, positions]
    if not all(isinstance(t, np.dtype) and t.kind in "fiub" for t in part.dtypes):
        return False
    values = part.to_numpy(dtype=float)
    return bool(((values == 0) | (values == 1)).all() and (values.sum(axis=1) == 1).all())


def _name(members: list[str]) -> str:
    more = len(members) - _SHOWN
    return " + ".join(members) if more <= 1 else " + ".join([*members[:_SHOWN], f"{more} more"])


def _codes(column: Any) -> np.ndarray:
    import pandas as pd

    codes = pd.factorize(column)[0].astype(float)
    return np.where(codes < 0, np.nan, codes)


def _spearman(x: np.ndarray, y: np.ndarray) -> float:
    a, b = _ranks(x), _ranks(y)
    spread = np.sqrt((a @ a) * (b @ b)) if len(a) else 0.0
    return abs(float(a @ b / spread)) if spread > 0 else 0.0


def _ranks(x: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    ranks = rankdata(x)
    return ranks - ranks.mean() if len(x) else ranks


def _ratio(kinds: np.ndarray, numbers: np.ndarray) -> float:
    ranks = _ranks(numbers)
    total = float(ranks @ ranks)
    if total == 0:
        return 0.0
    codes = kinds.astype(np.int64)
    sums, counts = np.bincount(codes, ranks), np.maximum(np.bincount(codes), 1)
    return float(np.sqrt((sums**2 / counts).sum() / total))


def _cramer(x: np.ndarray, y: np.ndarray) -> float:
    n = len(x)
    if n < 2:
        return 0.0
    a, b = np.unique(x, return_inverse=True)[1], np.unique(y, return_inverse=True)[1]
    rows, columns = int(a.max()) + 1, int(b.max()) + 1
    table = np.bincount(a * columns + b, minlength=rows * columns).reshape(rows, columns)
    expected = table.sum(1, keepdims=True) * table.sum(0) / n
    phi = float(((table - expected) ** 2 / expected).sum()) / n
    by_chance = (rows - 1) * (columns - 1) / (n - 1)
    size = min(rows - (rows - 1) ** 2 / (n - 1), columns - (columns - 1) ** 2 / (n - 1)) - 1
    return float(np.sqrt(max(0.0, phi - by_chance) / size)) if size > 0 else 0.0
