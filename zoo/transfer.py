"""What pretraining is worth: MiniLM fine-tuned in four ways on few and on all licence notices, beside a network from scratch.

``python -m zoo.transfer`` trains every cell of the table that ``runs/transfer`` does not hold yet, and writes the table into the
record and the card of licence-minilm. All contestants get the same texts and are tested on the whole test split. A share of the
labels is a share of train and of validation alike, as who has labels for 40 texts has no 578 to validate with; so the epochs are set
beforehand, and the last weights are kept.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo import metrics
from zoo.data import Data, Split
from zoo.recipes import recipe, resolve
from zoo.train import fit

NAME, SCRATCH = "licence-minilm", "licence-transformer"
SHARES = (0.01, 0.1, 1.0)
AT_ONCE = 64  # texts that go through the frozen layers together


@dataclass(frozen=True)
class Way:
    """One way of fine-tuning: what is trained, how fast, and for how many epochs of each share.

    All were set before any was tested, but for the adapters' 15 epochs of a tenth of the labels: these replaced 5, which ended too
    early, and were compared with them on the specimen's whole validation split.
    """

    title: str
    rate: float
    epochs: Mapping[float, int]


WAYS = {
    "head": Way("frozen, a new head", 1e-2, {0.01: 100, 0.1: 30, 1.0: 10}),
    "last": Way("the last two layers", 5e-4, {0.01: 20, 0.1: 5, 1.0: 2}),
    "full": Way("all layers", 1e-4, {0.01: 20, 0.1: 5, 1.0: 2}),
    "adapters": Way("low-rank adapters", 1e-3, {0.01: 20, 0.1: 15}),  # of all labels: the specimen itself
}
FROM_SCRATCH = Way("the same task from scratch", 1e-3, {0.01: 60, 0.1: 30})  # of all labels: licence-transformer
TITLES = {
    "words": "TF-IDF + logistic regression", "scratch": "transformer from scratch",
    **{way: f"MiniLM, {one.title}" for way, one in WAYS.items()},
}  # fmt: skip


class Remembered:
    """A preprocess that gives the states which enter the trained layers; each text goes through the frozen ones once."""

    def __init__(self, preprocess: Any, module: Any) -> None:
        self.preprocess, self.module = preprocess, module.eval()
        self.states: dict[str, Tensor] = {}

    def __call__(self, texts: list[str]) -> dict[str, Tensor]:
        fresh = sorted({text for text in texts if text not in self.states}, key=len)
        for i in range(0, len(fresh), AT_ONCE):
            batch = self.preprocess(fresh[i : i + AT_ONCE])
            with torch.no_grad():
                states = self.module.lower(**batch)
            for text, row, mask in zip(fresh[i : i + AT_ONCE], states, batch["attention_mask"], strict=True):
                self.states[text] = row[: int(mask.sum())].clone()
        rows = [self.states[text] for text in texts]
        lengths = torch.tensor([len(row) for row in rows])
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return {"states": padded, "attention_mask": (torch.arange(padded.shape[1]) < lengths[:, None]).long()}


def part(data: Data, share: float, seed: int = 0) -> Data:
    """The same data with ``share`` of the labelled rows of train and validation, at least one row of each class; test is whole."""
    return replace(data, train=fewer(data.train, share, seed), validation=fewer(data.validation, share, seed))


def fewer(split: Split, share: float, seed: int = 0) -> Split:
    """``share`` of the rows of each class, at least one; a smaller share is a part of a larger one."""
    generator = np.random.default_rng(seed)
    kept = []
    for label in np.unique(split.labels):
        rows = generator.permutation(np.flatnonzero(split.labels == label))
        kept.append(rows[: max(1, round(share * len(rows)))])
    return split.take(np.sort(np.concatenate(kept)))


def cell(contestant: str, share: float, data: Data) -> tuple[np.ndarray, float]:
    """Probabilities on test of one contestant trained with one share of the labels, and the seconds that training took."""
    own = {"scratch": SCRATCH, "adapters": NAME}
    if share == 1 and contestant in own:
        from zoo.registry import load

        specimen = load(own[contestant])
        return specimen.model.scores(data.test.inputs), specimen.record["seconds"]
    started = time.perf_counter()
    found = fitted(contestant, share, part(data, share))
    return found, time.perf_counter() - started


def fitted(contestant: str, share: float, few: Data) -> np.ndarray:
    """The same for a contestant that is trained here and now, after its last epoch."""
    if contestant == "words":
        return resolve(recipe(NAME).baseline)(few)[1](few.test.inputs)
    way = FROM_SCRATCH if contestant == "scratch" else WAYS[contestant]
    epochs = way.epochs[share]
    # Few labels make small batches: steps are what few labels lack.
    name, arguments = (SCRATCH, {}) if contestant == "scratch" else (NAME, {"way": contestant})
    chosen = replace(recipe(name), rate=way.rate, epochs=epochs, patience=epochs, batch=16, network_arguments=arguments)
    encode = resolve(chosen.preprocess).fit(few.train.inputs, **chosen.preprocess_arguments)
    if contestant in ("head", "last"):
        encode = remembered(contestant, encode)
    run, state = fit(chosen, few, encode, progress=True)
    return run.predict(state.module, state.weights(), few.test)


_STATES: dict[str, Remembered] = {}


def remembered(way: str, encode: Any) -> Remembered:
    """The frozen layers' states, shared by all shares; those of another way are let go."""
    from zoo.minilm import classifier

    if way not in _STATES:
        _STATES.clear()
        _STATES[way] = Remembered(encode, classifier(classes=2, way=way))
    return _STATES[way]


def table(found: Mapping[str, Mapping[str, Any]], labels: np.ndarray, sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Accuracy and macro F1 of each cell with intervals, and the paired difference in accuracy from the network from scratch."""
    cells: dict[str, Any] = {}
    for share, outputs in found.items():
        row: dict[str, Any] = {}
        for contestant, one in outputs.items():
            figures = metrics.intervals(labels, one["probabilities"])
            row[contestant] = {key: figures[key] for key in ("accuracy", "macro_f1")} | {"seconds": round(float(one["seconds"]), 1)}
            if contestant != "scratch" and "scratch" in outputs:
                gap = metrics.difference(labels, one["probabilities"], outputs["scratch"]["probabilities"], "accuracy")
                row[contestant]["against_scratch"] = gap
        cells[share] = row
    return {"titles": TITLES, "sizes": sizes, "cells": cells}


def compare(shares: Sequence[float], folder: str | Path = "runs/transfer", progress: Callable[[str], None] = print) -> dict[str, Any]:
    """Every cell that ``folder`` does not hold, one after the other, and the table of all; cut off, it goes on where it stopped."""
    folder, data = Path(folder), recipe(NAME).data()
    found: dict[str, dict[str, Any]] = {}
    for share, contestant in ((s, c) for s in shares for c in TITLES):
        settings = (data.sha256, WAYS.get(contestant), FROM_SCRATCH)
        path = folder / f"{contestant}-{share:g}-{hashlib.sha256(repr(settings).encode()).hexdigest()[:8]}.npz"
        if not path.exists():
            probabilities, seconds = cell(contestant, share, data)
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, probabilities=probabilities, seconds=seconds)
        with np.load(path) as held:
            found.setdefault(f"{share:g}", {})[contestant] = dict(held)
        accuracy = (found[f"{share:g}"][contestant]["probabilities"].argmax(1) == data.test.labels).mean()
        progress(f"{contestant:<9} {share:>5.0%} of the labels: accuracy {accuracy:.3f}")
    sizes = {f"{share:g}": {p: len(getattr(part(data, share), p)) for p in ("train", "validation")} for share in shares}
    return table(found, data.test.labels, sizes)


if __name__ == "__main__":
    from zoo.record import enter

    for k in range(len(SHARES)):
        enter(NAME, "transfer", compare(SHARES[: k + 1]))
