"""What explanations say, put in numbers for a report: which cases to show, one case's reasons, the importance over many rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from explainer.reports import figures
from explainer.reports.wording import clean

if TYPE_CHECKING:
    from explainer.explanation import Explanation

SHOWN = 10
WORDS_SHOWN = 160
TOLD = 0.1  # a word is marked from this share of the largest attribution on
FEWEST_TEXTS = 3
ADVERSE = "most confident adverse decision"
BUDGET = 500  # evaluations per row for the overall importance: an average over rows forgives more noise than one case does
SAMPLE: Mapping[str, int] = {"tabular": 60, "image": 24, "text": 24, "series": 24}


def choose(
    scores: np.ndarray, labels: np.ndarray | None, task: str, cases: int, favourable: int | str | None = None
) -> tuple[list[tuple[int, str]], list[str]]:
    """Rows to explain, ``[(row, rule)]``, by rules that leave no choice to the author; and which rule found no row.

    Classification, in turn: the wrong prediction of highest probability, the smallest gap between the two most probable classes,
    the right prediction of highest probability; and, where a favourable class is named and all of these are predicted to be of it,
    the surest of the others. Regression: the largest, the median and the smallest absolute error. Ties go to the earlier row.
    """
    ranked = _rankings(scores, labels, task)
    taken: set[int] = set()
    found: list[tuple[int, str]] = []
    missing: list[str] = []
    for k in range(cases):
        rule, order = ranked[k % len(ranked)]
        row = next((int(r) for r in order if int(r) not in taken), None)
        if row is None:
            missing.append(rule)
            continue
        taken.add(row)
        found.append((row, rule))
    against = adverse(scores, task, favourable)
    if cases and against is not None and not against[list(taken)].any():
        rows = np.flatnonzero(against)
        found += [(int(rows[scores[rows].max(1).argmax()]), ADVERSE)] if len(rows) else []
        missing += [] if len(rows) else [ADVERSE]
    return found, sorted(set(missing))


def adverse(scores: np.ndarray, task: str, favourable: int | str | None) -> np.ndarray | None:
    """Which rows are decided against the person ``(n,)``; None where that is not known."""
    return None if task == "regression" or favourable is None else scores.argmax(1) != favourable


def _rankings(scores: np.ndarray, labels: np.ndarray | None, task: str) -> list[tuple[str, np.ndarray]]:
    if task == "regression":
        if labels is None:
            order = np.argsort(-scores[:, 0], kind="stable")
            return [("largest prediction", order), ("smallest prediction", order[::-1])]
        error = np.abs(scores[:, 0] - labels)
        from_median = np.abs(error - np.median(error))
        return [(name, np.argsort(key, kind="stable")) for name, key in
                (("largest error", -error), ("median error", from_median), ("smallest error", error))]  # fmt: skip
    confidence = scores.max(1)
    ordered = np.sort(scores, axis=1)
    gap = ordered[:, -1] - ordered[:, -2] if scores.shape[1] > 1 else confidence
    surest, doubtful = np.argsort(-confidence, kind="stable"), np.argsort(gap, kind="stable")
    if labels is None:
        return [("least sure", doubtful), ("most confident", surest)]
    right = scores.argmax(1) == labels
    return [("most confident error", surest[~right[surest]]), ("least sure", doubtful), ("most confident right", surest[right[surest]])]


def case(ex: Explanation, channels: tuple[str, ...] = ()) -> dict[str, Any]:
    """One explained instance in numbers: score, base value, verdict with every check, the largest attributions."""
    values = ex.values[0]
    total = float(np.nansum(values))
    provenance = ex.provenance
    return {
        "target": ex.target[0],
        "output": ex.output,
        "method": ex.method,
        "score": _scalar(ex.scores[0]),
        "base": _scalar(ex.base_values[0]),
        "sum": total,
        "additive": bool(np.isfinite(ex.base_values[0]).all()),
        "verdict": {
            "status": ex.verdict.status,
            "reason": ex.verdict.reason,
            "checks": [
                {"name": c.name, "status": c.status, "reason": c.reason, "value": c.value, "threshold": c.threshold}
                for c in ex.verdict.checks.values()
            ],
        },
        "parameters": dict(provenance.parameters),
        "seed": provenance.seed,
        "evaluations": provenance.evaluations,
        "device": provenance.device,
        "inputs_sha256": provenance.inputs_sha256,
        "notes": list(provenance.notes),
        "parts": int(np.isfinite(values).sum()),
        "top": _top(ex, channels),
    }


def _scalar(value: Any) -> float:
    return float(np.asarray(value, dtype=float).reshape(-1)[0])


def _top(ex: Explanation, channels: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """The largest attributions by size; a series is summed to channels first, pixels are left to the picture."""
    if ex.modality == "image":
        return []
    values, stderr, names = ex.values[0], ex.stderr, list(ex.feature_names[0])
    errors = None if stderr is None else stderr[0]
    if ex.modality == "series" and values.ndim == 2:
        # Standard errors of a sum need the covariances, which no method gives; better none than a wrong one.
        values, errors, names = np.nansum(values, axis=0), None, list(channels) or channel_names(ex)
    flat = np.where(np.isnan(values), 0, values).ravel()
    if len(names) != len(flat):
        names = ex.cells(values.shape)
    rows = []
    for j in np.argsort(-np.abs(flat), kind="stable")[:SHOWN]:
        row: dict[str, Any] = {
            "feature": clean(names[j]),
            "value": float(flat[j]),
            "stderr": None if errors is None else float(errors.ravel()[j]),
        }
        if ex.modality == "tabular" and hasattr(ex.inputs, "columns") and names[j] in ex.inputs.columns:
            row["input"] = _shown(ex.inputs.iloc[0][names[j]])
        rows.append(row)
    return rows


def _shown(value: Any) -> str:
    import pandas as pd

    if pd.isna(value):
        return "missing"
    return (
        f"{float(value):.6g}"
        if isinstance(value, (int, float, np.number)) and not isinstance(value, (bool, np.bool_))
        else clean(value)[:60]
    )


def channel_names(ex: Explanation) -> list[str]:
    """Names of a series' channels, whether the names were given per channel or per cell."""
    channels = ex.values.shape[2]
    names = ex.feature_names[0]
    return [str(n) for n in names] if len(names) == channels else [f"channel {k}" for k in range(channels)]


def painted(ex: Explanation) -> np.ndarray:
    """Attribution per pixel ``(H, W)`` or per time step and channel ``(T, C)``; a segment's value is shared over its cells."""
    values = ex.values[0]
    if "segments" not in ex.extras:
        return np.asarray(values, dtype=float)
    labels = np.asarray(ex.extras["segments"][0])
    sizes = np.maximum(np.bincount(labels.ravel(), minlength=len(values)), 1)
    share = values / sizes.reshape((-1,) + (1,) * (values.ndim - 1))
    return np.where(labels[..., None] >= 0, share[labels], 0.0) if values.ndim == 2 else np.where(labels >= 0, share[labels], 0.0)


def case_figure(ex: Explanation, picture: Any, channels: tuple[str, ...]) -> str | None:
    """The picture of one case: panels for an image or a series, signed bars for a table; None for text, which has its words."""
    if ex.modality == "image":
        return figures.picture_panels(figures.as_rgb(picture), painted(ex))
    if ex.modality == "series":
        names = list(channels) or channel_names(ex)
        return figures.series_panels(np.asarray(picture, dtype=float), painted(ex), names)
    if ex.modality == "tabular":
        return figures.bars([_bar(row) for row in _top(ex)], unit(ex, repr(ex.target[0])))
    return None


def unit(ex: Explanation, of: str) -> str:
    """What the attributions to the output ``of`` are counted in, in words."""
    what = "the prediction" if len(ex.class_names) == 1 else f"the {'score' if ex.output == 'raw' else ex.output} of {of}"
    return f"{'change of' if ex.additive else 'effect on'} {what}"


def _bar(row: Mapping[str, Any]) -> dict[str, Any]:
    label = f"{row['feature']} = {row['input']}" if "input" in row else row["feature"]
    bar: dict[str, Any] = {"label": label, "value": row["value"]}
    if row["stderr"] is not None:
        bar.update(low=row["value"] - 1.96 * row["stderr"], high=row["value"] + 1.96 * row["stderr"])
    return bar


def words(ex: Explanation, text: str) -> dict[str, Any]:
    """The text in pieces, each with its attribution as a share of the largest; long texts are cut to where most is said."""
    values = np.nan_to_num(ex.values[0].ravel())
    names = ex.feature_names[0]
    spans = np.asarray(ex.extras["spans"][0]) if "spans" in ex.extras else _spans(text, names)
    scale = float(np.abs(values).max()) if len(values) else 0.0
    n = min(len(values), len(spans))
    first = 0
    if n > WORDS_SHOWN:
        mass = np.convolve(np.abs(values[:n]), np.ones(WORDS_SHOWN), "valid")
        first = int(mass.argmax())
    last = min(n, first + WORDS_SHOWN)
    pieces: list[dict[str, Any]] = []
    for j in range(first, last):
        start, end = (int(v) for v in spans[j])
        before = text[int(spans[j - 1][1]) : start] if j > first else ""
        # What stands between two words is kept as it is, so that the text reads as it was written.
        gap = " ".join(clean(before).split())
        lead = (" " if before[:1].isspace() else "") + gap + (" " if gap and before[-1:].isspace() else "")
        pieces.append({"lead": lead, "text": clean(text[start:end]), "share": float(values[j] / scale) if scale else 0.0})
    return {"pieces": pieces, "first": first, "shown": last - first, "total": n}


def _spans(text: str, names: tuple[str, ...]) -> np.ndarray:
    spans, at = [], 0
    for name in names:
        found = text.find(name, at)
        start = found if found >= 0 else at
        at = start + len(name)
        spans.append((start, at))
    return np.array(spans).reshape(-1, 2)


def importance(ex: Explanation, channels: tuple[str, ...], seed: int) -> tuple[dict[str, Any], np.ndarray | None]:
    """Mean absolute attribution per part over the rows of ``ex``, with a bootstrap interval over rows; a mean map for images."""
    if ex.modality == "image":
        maps = [np.abs(painted(one)) for one in ex]
        mean = np.mean(maps, axis=0) if len({m.shape for m in maps}) == 1 else None
        tenth = float(np.mean([_tenth(m) for m in maps]))
        return {"of": "pixels", "rows": len(ex), "parts": int(np.prod(maps[0].shape)), "top_tenth_share": tenth, "top": []}, mean
    matrix, names, of = _magnitudes(ex, channels)
    mean = matrix.mean(0)
    rng = np.random.default_rng(seed + 2)
    counts = np.stack([np.bincount(rng.integers(0, len(matrix), len(matrix)), minlength=len(matrix)) for _ in range(1000)])
    low, high = np.quantile(counts @ matrix / len(matrix), [0.025, 0.975], axis=0)
    order = np.argsort(-mean, kind="stable")
    if ex.modality == "text":
        # A word of one person's text is that person's; only words that several texts share are told.
        order = order[(matrix[:, order] != 0).sum(0) >= min(FEWEST_TEXTS, len(ex))]
    top = [
        {
            "feature": clean(names[j]),
            "value": float(mean[j]),
            "low": float(low[j]),
            "high": float(high[j]),
            "rows": int((matrix[:, j] != 0).sum()),
        }
        for j in order[:40]
    ]
    return {"of": of, "rows": len(ex), "parts": len(names), "top": top}, None


def _magnitudes(ex: Explanation, channels: tuple[str, ...]) -> tuple[np.ndarray, list[str], str]:
    """Absolute attributions ``(rows, parts)`` with the parts shared by all rows: columns, channels, or words as spelled."""
    if ex.modality == "series" and ex.values.ndim == 3:
        return np.nansum(np.abs(ex.values), axis=1), list(channels) or channel_names(ex), "channels, summed over time"
    if ex.modality == "tabular":
        return np.nan_to_num(np.abs(ex.values)), list(ex.feature_names[0]), "columns"
    vocabulary: dict[str, int] = {}
    rows: list[dict[int, float]] = []
    for one in ex:
        row: dict[int, float] = {}
        for name, value in zip(one.feature_names[0], np.nan_to_num(one.values[0].ravel()), strict=False):
            j = vocabulary.setdefault(name.lower(), len(vocabulary))
            row[j] = row.get(j, 0.0) + abs(float(value))
        rows.append(row)
    matrix = np.zeros((len(rows), len(vocabulary)))
    for i, row in enumerate(rows):
        matrix[i, list(row)] = list(row.values())
    return matrix, list(vocabulary), "words, summed over their occurrences in a text"


def _tenth(values: np.ndarray) -> float:
    """Share of the total in the tenth of the cells that have most."""
    ordered = np.sort(values.ravel())[::-1]
    total = ordered.sum()
    return float(ordered[: max(1, len(ordered) // 10)].sum() / total) if total > 0 else 0.0
