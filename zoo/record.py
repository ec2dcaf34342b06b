"""The training record: what was trained on what, how, and how good it is beside its baseline."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import save as to_bytes

from explainer.explanation import versions
from zoo import background, card, metrics, preprocess
from zoo.data import PARTS
from zoo.recipes import resolve

if TYPE_CHECKING:
    from zoo.train import Run, State

SCHEMA = 1
PACKAGES = ("torch", "accelerate", "safetensors", "scikit-learn", "tokenizers", "pandas")


def write(run: Run, state: State, device: str) -> dict[str, Any]:
    """Measure, and write weights, preprocessing, background, record and card together; gives the record."""
    from zoo.train import write_together

    contents = {
        "model.safetensors": to_bytes({name: t.detach().cpu().contiguous() for name, t in state.best.items()}),
        "preprocess.json": preprocess.dump(run.preprocess),
    }
    reference = run.recipe.background(run.data)
    if reference is not None:
        contents["background.json"] = background.dump(reference)
    record = describe(run, state, device)
    record["files"] = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    record["weights_sha256"] = record["files"]["model.safetensors"]
    contents["record.json"] = json.dumps(record, indent=1, ensure_ascii=False).encode()
    contents["card.md"] = card.markdown(run.recipe, record).encode()
    write_together({run.folder / name: content for name, content in contents.items()})
    return record


def describe(run: Run, state: State, device: str) -> dict[str, Any]:
    """Every figure of the run but the hashes of its files."""
    recipe, data = run.recipe, run.data
    test = data.test
    probabilities = run.predict(state.module, state.best, test)
    baseline_name, scores = resolve(recipe.baseline)(data)
    baseline = scores(test.inputs)
    gap = metrics.difference(test.labels, probabilities, baseline, recipe.metric)
    extra = resolve(f"{recipe.source}:masked") if recipe.modality == "text" else None
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "name": recipe.name,
        "modality": recipe.modality,
        "class_names": list(data.class_names),
        "feature_names": list(data.feature_names),
        "parameters": sum(p.numel() for p in state.module.parameters()),
        "source": data.source,
        "data_sha256": data.sha256,
        "split": {"rule": data.rule, **{part: len(getattr(data, part)) for part in PARTS}},
        "class_counts": {part: np.bincount(getattr(data, part).labels, minlength=len(data.class_names)).tolist() for part in PARTS},
        "seed": run.seed,
        "device": f"{device} ({torch.cuda.get_device_name() if device.startswith('cuda') else f'{torch.get_num_threads()} threads'})",
        "versions": versions(*PACKAGES),
        "settings": {key: getattr(recipe, key) for key in ("batch", "rate", "decay", "smoothing", "average", "patience", "select")},
        "epochs": state.epoch,
        "best_epoch": state.best_epoch,
        "seconds": round(state.seconds, 1),
        "metric": recipe.metric,
        "bar": recipe.bar,
        "metrics": metrics.intervals(test.labels, probabilities),
        "baseline": {"name": baseline_name, "metrics": metrics.intervals(test.labels, baseline)},
        "against_baseline": {"metric": recipe.metric, "difference": gap, "standing": metrics.standing(gap)},
        "confusion": metrics.confusion(test.labels, probabilities.argmax(1), len(data.class_names)),
        "history": state.history,
    }
    if extra is not None:
        hidden = type(test)(extra(test.inputs), test.labels)
        record["names_masked"] = {
            "metrics": metrics.intervals(test.labels, run.predict(state.module, state.best, hidden)),
            "baseline": metrics.intervals(test.labels, scores(hidden.inputs)),
        }
    return record
