"""The training record: what was trained on what, how, and how good it is beside its baseline."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import save as to_bytes

from explainer.errors import CorruptFile, InvalidInput
from explainer.explanation import versions
from explainer.metrics import MANY
from zoo import background, card, metrics, preprocess, pretrained
from zoo.data import PARTS, Data, Split, need
from zoo.recipes import Recipe, recipe, resolve

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.train import Run, State

SCHEMA = 2
GROUP_LEAST = 30  # rows: on fewer, an interval says nothing
SETTINGS = ("batch", "rate", "momentum", "decay", "l1", "warmup", "clip", "smoothing", "average", "patience", "select")
APART = ("transfer", "unheard_speakers")  # measured on the same data with weights of their own, by commands of their own
PACKAGES = ("torch", "accelerate", "safetensors", "scikit-learn", "tokenizers", "pandas", "transformers", "peft")


def write(run: Run, state: State, device: str) -> dict[str, Any]:
    """Measure, and write weights, preprocessing, background, record and card together; gives the record."""
    contents = {
        "model.safetensors": to_bytes({name: t.detach().cpu().contiguous() for name, t in state.best.items()}),
        "preprocess.json": preprocess.dump(run.preprocess),
    }
    reference = run.recipe.background(run.data)
    if reference is not None:
        contents["background.json"] = background.dump(reference)
    record = describe(run, state, device)
    return _together(run.recipe, record, contents, run.folder)


def write_estimator(recipe: Recipe, data: Data, estimator: Any, folder: Path, seed: int, seconds: float) -> dict[str, Any]:
    """The same for a fitted scikit-learn model, kept with skops."""
    skops = need("skops.io", "Saving a scikit-learn model")
    contents = {"model.skops": skops.dumps(estimator)}
    reference = recipe.background(data)
    if reference is not None:
        contents["background.json"] = background.dump(reference)

    def outputs(split: Split) -> np.ndarray:
        return estimator.predict(split.inputs)[:, None] if recipe.task == "regression" else estimator.predict_proba(split.inputs)

    record = {
        **_identity(recipe, data, seed),
        "device": "cpu",
        "versions": versions(*PACKAGES, "skops"),
        "settings": {k: v for k, v in estimator.get_params().items() if v is None or isinstance(v, (int, float, str, bool))},
        "seconds": round(seconds, 1),
        **_figures(recipe, data, outputs),
    }
    return _together(recipe, record, contents, folder)


def _together(recipe: Recipe, record: dict[str, Any], contents: dict[str, bytes], folder: Path) -> dict[str, Any]:
    from zoo.train import write_together

    record["files"] = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    record["weights_sha256"] = next(value for name, value in record["files"].items() if name.startswith("model."))
    record |= _kept(folder, record)
    contents |= _told(recipe, record)
    write_together({folder / name: content for name, content in contents.items()})
    return record


def _kept(folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    """What an earlier record in ``folder`` holds that new weights do not change."""
    from zoo.registry import read_record

    try:
        old = read_record(folder, record["name"])
    except (InvalidInput, CorruptFile):
        return {}
    return {key: old[key] for key in APART if key in old and old["data_sha256"] == record["data_sha256"]}


def enter(name: str, key: str, value: Any) -> None:
    """Add what was measured on a packaged specimen later to its record, and write its card anew."""
    from zoo.registry import WEIGHTS, read_record
    from zoo.train import write_together

    folder = WEIGHTS / name
    record = {**read_record(folder, name), key: value}
    write_together({folder / file: content for file, content in _told(recipe(name), record).items()})


def _told(chosen: Recipe, record: dict[str, Any]) -> dict[str, bytes]:
    """Record and card as files."""
    return {
        "record.json": json.dumps(record, indent=1, ensure_ascii=False).encode(),
        "card.md": card.markdown(chosen, record).encode(),
    }


def describe(run: Run, state: State, device: str) -> dict[str, Any]:
    """Every figure of the run but the hashes of its files."""
    recipe = run.recipe
    if recipe.measure:
        found = _of_rows(run, state)
    else:
        found = _figures(recipe, run.data, lambda split: run.predict(state.module, state.best, split))
    return {
        **_identity(recipe, run.data, run.seed),
        "parameters": sum(p.numel() for p in state.module.parameters()),
        "trained": sum(p.numel() for p in state.module.parameters() if p.requires_grad),
        "device": f"{device} ({torch.cuda.get_device_name() if device.startswith('cuda') else f'{torch.get_num_threads()} threads'})",
        "versions": versions(*PACKAGES),
        "settings": {key: getattr(recipe, key) for key in SETTINGS},
        "precision": run.precision,
        "compiled": run.compiled,
        "processes": run.processes,
        "epochs": state.epoch,
        "best_epoch": state.best_epoch,
        "seconds": round(state.seconds, 1),
        **found,
        "history": state.history,
    }


def _identity(recipe: Recipe, data: Data, seed: int) -> dict[str, Any]:
    """What was made from what."""
    found = {
        "schema": SCHEMA,
        "name": recipe.name,
        "modality": recipe.modality,
        "task": recipe.task,
        "class_names": list(data.class_names),
        "feature_names": list(data.feature_names),
        "source": data.source,
        "data_sha256": data.sha256,
        "split": {"rule": data.rule, **{part: len(getattr(data, part)) for part in PARTS}},
        "seed": seed,
    }
    if recipe.base:
        base = pretrained.base(recipe.base)
        found["base"] = {"package": base.package, "version": base.version, "licence": base.licence, "sha256": dict(base.files)}
    if recipe.task == "classification" and len(data.class_names) <= MANY:
        sizes = {part: np.bincount(getattr(data, part).labels, minlength=len(data.class_names)).tolist() for part in PARTS}
        found["class_counts"] = sizes
    return found


def _figures(recipe: Recipe, data: Data, outputs: Callable[[Split], np.ndarray]) -> dict[str, Any]:
    """The test split's figures beside the baseline's, per group where there are groups, and with the names masked in texts."""
    test = data.test
    own = outputs(test)
    baseline_name, scores = resolve(recipe.baseline)(data)
    baseline = scores(test.inputs)
    gap = metrics.difference(test.labels, own, baseline, recipe.metric)
    found: dict[str, Any] = {
        "metric": recipe.metric,
        "bar": recipe.bar,
        "within": recipe.within,
        "metrics": metrics.intervals(test.labels, own),
        "baseline": {"name": baseline_name, "metrics": metrics.intervals(test.labels, baseline)},
        "against_baseline": {"metric": recipe.metric, "difference": gap, "standing": metrics.standing(gap)},
    }
    if recipe.task == "classification" and len(data.class_names) <= MANY:
        found["confusion"] = metrics.confusion(test.labels, own.argmax(1), len(data.class_names))
    if test.groups is not None:
        found["groups"] = by_group(test, own)
    masked = getattr(importlib.import_module(recipe.source), "masked", None)
    if masked is not None:
        hidden = type(test)(masked(test.inputs), test.labels)
        found["names_masked"] = {
            "metrics": metrics.intervals(test.labels, outputs(hidden)),
            "baseline": metrics.intervals(test.labels, scores(hidden.inputs)),
        }
    return found


def _of_rows(run: Run, state: State) -> dict[str, Any]:
    """A density's figures beside the baseline's, each the mean of its rows, and the further ones."""
    recipe, module = run.recipe, state.module.eval()
    own = resolve(recipe.measure)(module, run.preprocess, run.data)
    name, baseline = resolve(recipe.baseline)(run.data)
    gap = metrics.mean(own[recipe.metric] - baseline[recipe.metric])
    found = {
        "metric": recipe.metric,
        "bar": recipe.bar,
        "within": recipe.within,
        "metrics": {metric: metrics.mean(rows) for metric, rows in own.items()},
        "baseline": {"name": name, "metrics": {metric: metrics.mean(rows) for metric, rows in baseline.items()}},
        "against_baseline": {"metric": recipe.metric, "difference": gap, "standing": metrics.standing(gap)},
    }
    if recipe.further:
        found["further"] = resolve(recipe.further)(module, run.preprocess, run.data, run.seed)
    return found


def by_group(split: Split, outputs: np.ndarray) -> dict[str, dict[str, Any]]:
    """Per group with enough rows, how many they are and each metric with its interval: ``{"sex": {"female": {...}}}``."""
    assert split.groups is not None
    found: dict[str, dict[str, Any]] = {}
    for name in split.groups:
        column = split.groups[name]
        for value in sorted(column.dropna().unique(), key=str):
            rows = np.flatnonzero(column == value)
            if len(rows) >= GROUP_LEAST and len(np.unique(split.labels[rows])) > 1:
                figures = {"rows": len(rows), "metrics": metrics.intervals(split.labels[rows], outputs[rows])}
                found.setdefault(str(name), {})[f"{value:g}" if isinstance(value, float) else str(value)] = figures
    return found
