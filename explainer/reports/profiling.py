"""What the data are, in aggregates only: no single row of theirs can be read from a profile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from explainer.reports.wording import clean

RARE = 10
COLUMNS_SHOWN = 60


def profile_data(data: Any, modality: str, labels: np.ndarray | None, class_names: Sequence[str], task: str) -> dict[str, Any]:
    """Counts, columns or sizes, and how the labels are spread."""
    describe: Any = {"tabular": _table, "image": _images, "text": _texts, "series": _series}[modality]
    found: dict[str, Any] = {"rows": len(data), "modality": modality, **describe(data)}
    if labels is not None and task == "classification":
        counts = np.bincount(labels, minlength=len(class_names))
        found["classes"] = [
            {"class": clean(name), "n": int(n), "share": float(n / len(labels))} for name, n in zip(class_names, counts, strict=True)
        ]
    elif labels is not None:
        found["labels"] = {"mean": float(labels.mean()), **_quantiles(labels)}
    return found


def _table(frame: Any) -> dict[str, Any]:
    columns = [_column(str(name), frame[name]) for name in list(frame.columns)[:COLUMNS_SHOWN]]
    return {"columns": columns, "column_count": len(frame.columns), "missing_cells": int(frame.isna().to_numpy().sum())}


def _column(name: str, column: Any) -> dict[str, Any]:
    import pandas as pd

    present = column.dropna()
    row: dict[str, Any] = {"name": clean(name), "missing": int(column.isna().sum()), "distinct": int(present.nunique())}
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        numbers = present.to_numpy(dtype=float)
        return {**row, "kind": "number", "mean": float(numbers.mean()) if len(numbers) else None, **_quantiles(numbers)}
    counts = present.astype(str).value_counts()
    # Equal counts are ordered by name: pandas leaves their order to the version.
    common = sorted(((clean(value), int(n)) for value, n in counts.items() if n >= RARE), key=lambda pair: (-pair[1], pair[0]))[:3]
    return {**row, "kind": "category", "common": [{"value": value[:40], "n": n} for value, n in common]}


def _quantiles(numbers: np.ndarray) -> dict[str, float | None]:
    if len(numbers) < RARE:
        return {"p5": None, "p50": None, "p95": None}
    return {f"p{q}": float(np.quantile(numbers, q / 100)) for q in (5, 50, 95)}


def _images(images: np.ndarray) -> dict[str, Any]:
    facts = {
        "shape of one image": " × ".join(str(s) for s in images.shape[1:]),
        "mean value": float(images.mean(dtype=np.float64)),
        "standard deviation": float(images.std(dtype=np.float64)),
        "smallest value": float(images.min()),
        "largest value": float(images.max()),
    }
    return {"facts": facts}


def _texts(texts: list[str]) -> dict[str, Any]:
    words = np.array([len(text.split()) for text in texts], dtype=float)
    facts = {f"words in a text, {name}": v for name, v in _named(words).items()}
    return {"facts": {**facts, "distinct words": len({w.lower() for t in texts for w in t.split()})}}


def _series(series: list[np.ndarray]) -> dict[str, Any]:
    lengths = np.array([len(s) for s in series], dtype=float)
    facts: dict[str, Any] = {"channels": int(series[0].shape[1])}
    facts |= {f"time steps, {name}": v for name, v in _named(lengths).items()}
    total = sum(float(s.sum(dtype=np.float64)) for s in series)
    return {"facts": {**facts, "mean value": total / max(1, sum(s.size for s in series))}}


def _named(numbers: np.ndarray) -> dict[str, float | None]:
    q = _quantiles(numbers)
    return {"5th percentile": q["p5"], "median": q["p50"], "95th percentile": q["p95"]}
