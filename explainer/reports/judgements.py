"""What the measured performance amounts to: each judgement names what it is held against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from explainer.metrics import LOWER
from explainer.reports.performance import CALIBRATION_TOLERANCE, TITLES
from explainer.reports.wording import clean, count, interval, number, percent


def _metric(found: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    return next((row for row in found["metrics"] if row["name"] == name), None)


def regression(found: Mapping[str, Any]) -> dict[str, str]:
    """Held against always giving the mean: R² above zero."""
    r2 = _metric(found, "r2") or {}
    said = f"R² is {number(r2['value'])} ({interval(r2['low'], r2['high'])})"
    if np.isfinite(r2["low"]) and r2["low"] > 0:
        return {"status": "pass", "topic": "Better than guessing", "text": f"{said}: better than always giving the mean."}
    return {"status": "fail", "topic": "Better than guessing", "text": f"{said}: not clearly better than always giving the mean."}


def skill(found: Mapping[str, Any]) -> dict[str, str]:
    """Held against guessing: ROC AUC above one half for two classes, accuracy above the commonest class for more."""
    accuracy, auc, majority = _metric(found, "accuracy") or {}, _metric(found, "roc_auc"), found["majority"]
    topic = "Better than guessing"
    said = f"Accuracy is {percent(accuracy['value'])} ({interval(accuracy['low'], accuracy['high'], True)}); "
    said += f"always answering {clean(majority['class'])!r} would give {percent(majority['share'])}"
    if len(found["class_names"]) == 2 and auc is not None:
        ranked = f"ROC AUC is {number(auc['value'])} ({interval(auc['low'], auc['high'])})"
        if auc["low"] <= 0.5:
            return {"status": "fail", "topic": topic, "text": f"{ranked}: the model does not clearly rank better than chance. {said}."}
        if accuracy["low"] <= majority["share"]:
            return {
                "status": "warn",
                "topic": topic,
                "text": f"{ranked}, above chance, but as a decision it is not clearly better. {said}.",
            }
        return {"status": "pass", "topic": topic, "text": f"{ranked}. {said}."}
    better = accuracy["low"] > majority["share"]
    return {"status": "pass" if better else "fail", "topic": topic, "text": said + ("." if better else ", which is not clearly less.")}


def calibrated(found: Mapping[str, Any]) -> list[dict[str, str]]:
    """Held against what chance gives a calibrated model, and against a tolerance; nothing where units are too few to tell."""
    bins = found["calibration"]
    if not bins["told"]:
        return []
    said = (
        f"Expected calibration error of the {bins['of']} is {number(bins['ece'])}; chance alone would give up to {number(bins['chance'])}"
    )
    said += f". On average it states {percent(bins['mean_stated'])}, and {percent(bins['mean_observed'])} came true"
    if bins["ece"] <= bins["chance"]:
        return [{"status": "pass", "topic": "Calibration", "text": f"{said}."}]
    if bins["ece"] <= CALIBRATION_TOLERANCE:
        text = f"{said}. The deviation is more than chance gives, but under the tolerance of {CALIBRATION_TOLERANCE}."
        return [{"status": "pass", "topic": "Calibration", "text": text}]
    return [{"status": "warn", "topic": "Calibration", "text": f"{said}. Stated probabilities should not be read at face value."}]


def baseline(record: Mapping[str, Any] | None) -> dict[str, str] | None:
    """Held against the simpler model that the training record measured beside it; None where there is none."""
    known = (record or {}).get("baseline")
    known = known if isinstance(known, Mapping) else {}
    ours, theirs = _values((record or {}).get("metrics")), _values(known.get("metrics"))
    shared = [name for name in TITLES if name in ours and name in theirs]
    if not shared:
        return None
    better = [name for name in shared if (theirs[name] < ours[name] if name in LOWER else theirs[name] > ours[name])]
    topic, named = "Better than a simpler model", f"the recorded baseline ({clean(known.get('name', 'unnamed'))})"
    if not better:
        return {
            "status": "pass",
            "topic": topic,
            "text": f"By its training record, the model is no worse than {named} on any metric.",
        }
    told = [f"{TITLES[name].partition(' (')[0]} ({number(theirs[name])} against {number(ours[name])})" for name in better]
    said = (
        f"By its training record, {named} is better than the model on {len(better)} of {count(len(shared), 'metric')}: {', '.join(told)}."
    )
    against = (record or {}).get("against_baseline")
    if isinstance(against, Mapping) and against.get("metric") in TITLES and against.get("standing"):
        said += f" On {TITLES[against['metric']].partition(' (')[0]} the model {clean(against['standing'])} it."
    return {"status": "warn", "topic": topic, "text": said}


def _values(metrics: Any) -> dict[str, float]:
    """The figures of a training record by name, with or without their intervals."""
    found = {name: m.get("value") if isinstance(m, Mapping) else m for name, m in metrics.items()} if isinstance(metrics, Mapping) else {}
    return {name: float(v) for name, v in found.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
