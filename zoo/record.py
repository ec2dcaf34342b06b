"""The training record: what was trained on what, how, and how good it is beside its baseline.

``python -m zoo.record [NAME ...]`` measures packaged specimens anew, their weights as they are, and writes their records and cards; all
where none is named.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
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

SCHEMA = 3
GROUP_LEAST = 30  # rows: on fewer, an interval says nothing
SETTINGS = ("batch", "rate", "momentum", "decay", "l1", "warmup", "clip", "smoothing", "average", "patience", "select", "teacher", "taught")
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
    contents |= card.files(recipe, record)
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
    write_together({folder / file: content for file, content in card.files(recipe(name), record).items()})


def describe(run: Run, state: State, device: str) -> dict[str, Any]:
    """Every figure of the run but the hashes of its files."""
    recipe = run.recipe
    if recipe.measure:
        found = _of_rows(recipe, run.data, state.module.eval(), run.preprocess, run.seed)
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
        "licence": recipe.licence,
        "data_sha256": data.sha256,
        "parts_sha256": data.parts_sha256,
        "split": {"rule": data.rule, **{part: len(getattr(data, part)) for part in PARTS}},
        "repeated": data.repeated(),
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
    gap = metrics.difference(test.labels, own, baseline, recipe.metric, units=test.units)
    found: dict[str, Any] = {
        "metric": recipe.metric,
        "resampled": {"by": "row", "units": len(test)} if test.units is None else {"by": test.units.name, "units": test.units.nunique()},
        "metrics": metrics.intervals(test.labels, own, units=test.units),
        "baseline": {"name": baseline_name, "metrics": metrics.intervals(test.labels, baseline, units=test.units)},
        "against_baseline": {"metric": recipe.metric, "difference": gap, "standing": metrics.standing(gap)},
    }
    if recipe.task == "classification" and len(data.class_names) <= MANY:
        found["confusion"] = metrics.confusion(test.labels, own.argmax(1), len(data.class_names))
    if test.groups is not None:
        found["groups"] = by_group(test, own)
    source = importlib.import_module(recipe.source)
    if merged := getattr(source, "MERGED", None):
        found["merged"] = _merged(merged, test, own, baseline, recipe.metric)
    if masked := getattr(source, "masked", None):
        hidden = replace(test, inputs=masked(test.inputs))
        found["names_masked"] = {
            "metrics": metrics.intervals(test.labels, outputs(hidden), units=test.units),
            "baseline": metrics.intervals(test.labels, scores(hidden.inputs), units=test.units),
        }
    return found


def _merged(merged: Mapping[str, Sequence[int]], test: Split, own: np.ndarray, baseline: np.ndarray, metric: str) -> dict[str, Any]:
    """The figures where several classes count as one, whose probability is the sum of theirs; not trained for, but asked of the same."""
    labels = np.argmax([np.isin(test.labels, classes) for classes in merged.values()], axis=0)
    ours, theirs = (np.stack([one[:, list(classes)].sum(1) for classes in merged.values()], axis=1) for one in (own, baseline))
    gap = metrics.difference(labels, ours, theirs, metric, units=test.units)
    return {
        "classes": list(merged),
        "metrics": metrics.intervals(labels, ours, units=test.units),
        "baseline": metrics.intervals(labels, theirs, units=test.units),
        "against_baseline": {"metric": metric, "difference": gap, "standing": metrics.standing(gap)},
    }


def _of_rows(recipe: Recipe, data: Data, module: Any, preprocess: Any, seed: int) -> dict[str, Any]:
    """A density's figures beside the baseline's, each the mean of its rows, and the further ones."""
    own = resolve(recipe.measure)(module, preprocess, data)
    name, baseline = resolve(recipe.baseline)(data)
    gap = metrics.mean(own[recipe.metric] - baseline[recipe.metric])
    found = {
        "metric": recipe.metric,
        "metrics": {metric: metrics.mean(rows) for metric, rows in own.items()},
        "baseline": {"name": name, "metrics": {metric: metrics.mean(rows) for metric, rows in baseline.items()}},
        "against_baseline": {"metric": recipe.metric, "difference": gap, "standing": metrics.standing(gap)},
    }
    if recipe.further:
        found["further"] = resolve(recipe.further)(module, preprocess, data, seed)
    return found


def by_group(split: Split, outputs: np.ndarray) -> dict[str, dict[str, Any]]:
    """Per group how many rows it has, and each metric with its interval or why there is none: ``{"sex": {"female": {...}}}``."""
    assert split.groups is not None
    found: dict[str, dict[str, Any]] = {}
    for name in split.groups:
        known = split.groups[name].notna()
        column = split.groups[name].map(lambda value: f"{value:g}" if isinstance(value, float) else str(value)).where(known, "not known")
        rows = {value: np.flatnonzero(column == value) for value in sorted(column.unique())}
        found[str(name)] = {value: _of_group(split.take(one), outputs[one]) for value, one in rows.items()}
    return found


def _of_group(split: Split, outputs: np.ndarray) -> dict[str, Any]:
    if len(split) < GROUP_LEAST:
        return {"rows": len(split), "without": "too few for an interval"}
    if len(np.unique(split.labels)) == 1:
        return {"rows": len(split), "without": "all of one class"}
    return {"rows": len(split), "metrics": metrics.intervals(split.labels, outputs, units=split.units)}


def again(name: str) -> dict[str, Any]:
    """Measure a packaged specimen anew, its weights as they are, and write its record and card; what training wrote stays.

    Raises InvalidInput where the train or the validation split is not what the weights were trained on.
    """
    from zoo.registry import WEIGHTS, load
    from zoo.train import write_together

    specimen, chosen = load(name), recipe(name)
    old, data = specimen.record, chosen.data()
    model: Any = specimen.model
    if changed := _changed(old, data):
        message = f"The {changed} of {name} is not what its weights were trained on, so its test rows may be known to them. "
        raise InvalidInput(f"{message}Bring the data back to what they were, or train it: explainer train {name} --out {WEIGHTS / name}")
    if chosen.measure:
        found = _of_rows(chosen, data, model.module, model.preprocess, old["seed"])
    else:
        found = _figures(chosen, data, lambda split: model.scores(split.inputs))
    measured = {"date": date.today().isoformat(), "versions": versions(*PACKAGES)}
    record = {**old, **_identity(chosen, data, old["seed"]), **found, "measured": measured}
    write_together({WEIGHTS / name / file: content for file, content in card.files(chosen, record).items()})
    return record


def _changed(record: dict[str, Any], data: Data) -> str:
    """Which part of the data is not what the record says was trained on; empty where all is well.

    A record from before each part had a digest of its own says it of all three together only.
    """
    if "parts_sha256" not in record:
        return "data" if data.sha256 != record["data_sha256"] else ""
    return " and ".join(f"{part} split" for part in ("train", "validation") if data.parts_sha256[part] != record["parts_sha256"][part])


if __name__ == "__main__":
    from zoo.specimens import RECIPES

    for name in sys.argv[1:] or RECIPES:
        made = again(name)
        print(f"{name}: {made['metric']} {card.interval(made['metrics'][made['metric']])}", flush=True)
