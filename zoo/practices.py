"""What each practice of training does, measured on the zoo: ``python -m zoo.practices [NAME ...]`` writes practices.json anew.

A name is a key of ``MEASURES``; without one all are measured. The notebook ``practices.ipynb`` shows the figures.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from explainer.errors import unknown
from explainer.explanation import versions, write_atomic
from explainer.metrics import measure as measured
from zoo import calibration, compression, metrics, mlp, privacy, record, registry
from zoo.data import Data, Split
from zoo.devices import Precision
from zoo.prediction import predict
from zoo.recipes import Recipe, recipe, resolve
from zoo.sources import speech
from zoo.train import Run, State, fit

FILE = Path(__file__).with_name("practices.json")
PACKAGES = ("torch", "accelerate", "opacus", "scikit-learn")
SEEDS = (0, 1, 2, 3, 4)
EPSILONS = (1.0, 2.0, 4.0, 8.0)
# Chosen on validation rows, which the promise is not about: fewer columns, larger batches and a smaller clip than without noise.
PRIVATE: dict[str, Any] = {"epochs": 40, "batch": 512, "rate": 2e-2, "clip": 0.3}
PRIVATE_BINS, PRIVATE_WIDTH = 3, 16
CALIBRATION_ROWS = 3000  # of a large test split
MISS = 0.1  # share of conformal sets that may lack the right class


@dataclass(frozen=True)
class Ablation:
    """A specimen's recipe with one setting on and off; ``rows``: on so many training rows only."""

    specimen: str
    what: str
    metric: str
    seeds: int = 5
    on: dict[str, Any] = field(default_factory=dict)
    off: dict[str, Any] = field(default_factory=dict)
    epochs: int | None = None
    rows: int | None = None


ABLATIONS = {
    "L1": Ablation("breast-mlp", "l1 0.01 against 0", "log_loss", off={"l1": 0.0}),
    "L1, thirty times as strong": Ablation("breast-mlp", "l1 0.3 against 0.01", "log_loss", on={"l1": 0.3}),
    "L1, thirty times as strong: weights at 0": Ablation("breast-mlp", "l1 0.3 against 0.01", "zeros", on={"l1": 0.3}),
    "L2": Ablation("loan-mlp", "decay 0.05 against 0", "roc_auc", off={"decay": 0.0}),
    "dropout": Ablation("loan-mlp", "dropout 0.5 against 0", "roc_auc", off={"network_arguments": {"dropout": 0.0}}),
    "label smoothing": Ablation("loan-mlp", "smoothing 0.05 against 0", "log_loss", off={"smoothing": 0.0}),
    "averaged weights": Ablation("loan-mlp", "average 0.99 against none", "log_loss", off={"average": 0.0}),
    "warm-up": Ablation("loan-mlp", "rate rises over 5 % of the steps against at once", "log_loss", off={"warmup": 0.0}),
    "class weights": Ablation("loan-mlp", "classes weigh by the root of their rarity", "balanced_accuracy", on={"weighted": True}),
    "batch norm": Ablation("breast-mlp", "batch norm against none", "log_loss", off={"network_arguments": {"dropout": 0.3}}),
    "a teacher that has not seen the row": Ablation(
        "tos-transformer",
        "60 % of each label is TF-IDF's against weighted classes and smoothing 0.05",
        "macro_f1",
        seeds=4,
        off={"teacher": "", "weighted": True, "smoothing": 0.05},
    ),
    "gradient clipping": Ablation("vowels-rnn", "largest norm 1 against any", "accuracy", off={"clip": 0.0}, epochs=30, seeds=3),
    "augmentation": Ablation("digits-cnn", "on 500 digits", "accuracy", off={"augmented": False}, epochs=20, rows=500, seeds=3),
}


SPEEDS: dict[str, tuple[str, dict[str, Any]]] = {
    "digits-cnn as it is trained": ("digits-cnn", {}),
    "pneumonia-cnn, eight times as wide, batches of 256": ("pneumonia-cnn", {"batch": 256, "network_arguments": {"width": 128}}),
}


def read() -> dict[str, Any]:
    """The figures as they were measured last: per name of a measure its ``figures``, the seconds, device and versions."""
    return json.loads(FILE.read_text(encoding="utf-8"))


def settings() -> dict[str, Any]:
    """Each setting of ``ABLATIONS`` on and off, a few seeds each, on the test split: both means and the mean difference.

    The interval of the difference is Student's over the seeds: it says what the draw of weights and batches leaves open, not the
    draw of the test rows.
    """
    found: dict[str, Any] = {}
    cache: dict[str, list[dict[str, float]]] = {}
    for name, one in ABLATIONS.items():
        chosen = recipe(one.specimen)
        data = chosen.data()
        if one.rows:
            data = replace(data, train=data.train.take(np.arange(one.rows) * len(data.train) // one.rows))
        variants = {"on": replace(chosen, **one.on), "off": replace(chosen, **one.off)}
        runs = {}
        for key, variant in variants.items():
            if repr((variant, one.rows)) not in cache:
                cache[repr((variant, one.rows))] = [_figures(variant, data, seed, one.epochs) for seed in range(one.seeds)]
            runs[key] = [figures[one.metric] for figures in cache[repr((variant, one.rows))]]
        found[name] = {
            "specimen": one.specimen,
            "what": one.what,
            "metric": one.metric,
            **{key: round(float(np.mean(values)), 5) for key, values in runs.items()},
            "difference": metrics.student(np.subtract(runs["on"], runs["off"])),
        }
    return found


def _figures(chosen: Recipe, data: Data, seed: int, epochs: int | None) -> dict[str, float]:
    run, state = fit(replace(chosen, epochs=epochs or chosen.epochs), data, seed=seed)
    figures = measured(data.test.labels, run.predict(state.module, state.best, data.test))
    matrices = [tensor.ravel() for name, tensor in state.best.items() if name.endswith("weight") and tensor.ndim > 1]
    return {name: float(value[0]) for name, value in figures.items()} | {"zeros": float((torch.cat(matrices).abs() < 1e-4).float().mean())}


def speed() -> dict[str, Any]:
    """Seconds of an epoch in 32 and 16 bits and compiled, the first (it compiles) apart from the mean of the later; on CUDA only."""
    if not torch.cuda.is_available():
        return {"not run": "There is no CUDA device here; on one, python -m zoo.practices speed measures it."}
    found: dict[str, Any] = {}
    for name, (specimen, changes) in SPEEDS.items():
        chosen = replace(recipe(specimen), epochs=4, **changes)
        data, found[name] = chosen.data(), {}
        modes: tuple[tuple[Precision, bool], ...] = (("no", False), ("bf16", False), ("bf16", True))
        for precision, compiled in modes:
            run, _ = fit(chosen, data, precision=precision, compiled=compiled, kind=_Clocked)
            assert isinstance(run, _Clocked)
            first, *later = run.laps
            key = f"{'32' if precision == 'no' else '16'} bits{', compiled' if compiled else ''}"
            found[name][key] = {"first": round(first, 3), "later": round(float(np.mean(later)), 3)}
    return found


@dataclass
class _Clocked(Run):
    """A run that remembers the seconds of every epoch."""

    laps: list[float] = field(default_factory=list)

    def close_epoch(self, state: State, loss: float, seconds: float, board: Any) -> None:
        self.laps.append(seconds)
        super().close_epoch(state, loss, seconds, board)


def compress() -> dict[str, Any]:
    """loan-mlp and licence-transformer pruned and in 8 bits: size, time, accuracy, and how far the explanations are the same."""
    found: dict[str, Any] = {}
    for name, rows, explained in (("loan-mlp", 497, 100), ("licence-transformer", 300, 16)):
        specimen = registry.load(name)
        test = specimen.data.test
        test = test.take(np.sort(np.random.default_rng(0).permutation(len(test))[:rows]))
        made = {f"{share:.0%} of the linear weights": compression.pruned(specimen.model, share) for share in (0.3, 0.5, 0.7, 0.9)}
        made |= {f"{share:.0%} of the linear rows": compression.pruned(specimen.model, share, structured=True) for share in (0.25, 0.5)}
        made["8 bits"] = compression.quantised(specimen.model)
        options: dict[str, Any] = {"method": "integrated_gradients", "metric": specimen.record["metric"], "rows": explained}
        found[name] = {key: asdict(compression.cost(specimen.model, model, test, **options)) for key, model in made.items()}
        quick = compression.quantised(specimen.model, products=True)
        options["method"] = "ablation" if specimen.model.modality == "tabular" else "occlusion"  # it has no gradient
        found[name]["8 bits, whole products"] = asdict(compression.cost(specimen.model, quick, test, **options))
    return found


def give_away() -> dict[str, Any]:
    """loan-mlp as it is, without any regularisation, and by DP-SGD: test ROC AUC and membership advantage over five seeds."""
    chosen = recipe("loan-mlp")
    data = chosen.data()
    bare = replace(chosen, network_arguments={"dropout": 0.0}, decay=0.0, smoothing=0.0, average=0.0, patience=chosen.epochs)

    def best(run: Run, state: State) -> Callable[[Split], np.ndarray]:
        return lambda split: run.predict(state.module, state.best, split)

    def last(run: Run, state: State) -> Callable[[Split], np.ndarray]:
        return lambda split: predict(state.module, run.preprocess, split.inputs)

    found = {
        "as the specimen is trained": _over_seeds(data, [best(*fit(chosen, data, seed=seed)) for seed in SEEDS]),
        "no regularisation, last epoch": _over_seeds(data, [last(*fit(bare, data, seed=seed)) for seed in SEEDS]),
    }
    # Fitted on rows that the promise is not about: edges and medians of the training rows would give some of them away.
    encode = resolve(chosen.preprocess).fit(data.validation.inputs, bins=PRIVATE_BINS)
    for epsilon in EPSILONS:
        made = [_private(encode, data, epsilon, seed) for seed in SEEDS]
        spent = made[0][1]
        found[f"epsilon {epsilon:g}"] = {**_over_seeds(data, [outputs for outputs, _ in made]), "spent": asdict(spent)}
    return found


def _private(encode: Any, data: Data, epsilon: float, seed: int) -> tuple[Callable[[Split], np.ndarray], privacy.Spent]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = mlp.Classifier(**encode.arguments, classes=len(data.class_names), width=PRIVATE_WIDTH, dropout=0.0)
    spent = privacy.train_privately(module, encode(data.train.inputs), data.train.labels, epsilon=epsilon, seed=seed, **PRIVATE)
    return (lambda split: predict(module, encode, split.inputs)), spent


def _over_seeds(data: Data, models: Sequence[Callable[[Split], np.ndarray]]) -> dict[str, dict[str, float]]:
    """Mean, lowest and highest over the models."""
    areas, gaps = [], []
    for outputs in models:
        inside, outside = (outputs(split) for split in (data.train, data.test))
        areas.append(float(measured(data.test.labels, outside)["roc_auc"][0]))
        pair = privacy.losses(inside, data.train.labels), privacy.losses(outside, data.test.labels)
        gaps.append(privacy.membership_advantage(*pair)["value"])
    return {name: _range(values) for name, values in (("roc_auc", areas), ("advantage", gaps))}


def _range(values: Sequence[float]) -> dict[str, float]:
    return {name: round(float(f(values)), 5) for name, f in (("value", np.mean), ("low", np.min), ("high", np.max))}


def calibrate() -> dict[str, Any]:
    """Temperature and conformal threshold from the validation split of every trained classifier, and what they do on test."""
    return {name: _calibrated(name) for name in registry.names() if recipe(name).task == "classification" and not recipe(name).truth}


def _calibrated(name: str) -> dict[str, Any]:
    if registry.missing(name):
        return {"not run": registry.missing(name)}
    specimen = registry.load(name)
    if not len(specimen.data.validation):
        return {"not run": "There is a test split only, and nothing is fitted on that."}
    rows = np.random.default_rng(0).permutation(len(specimen.data.test))[:CALIBRATION_ROWS]
    held, test = specimen.data.validation, specimen.data.test.take(np.sort(rows))
    logits = [np.log(np.clip(specimen.model.scores(split.inputs), 1e-12, 1)) for split in (held, test)]
    t = calibration.temperature(logits[0], held.labels)
    before, after = (measured(test.labels, calibration.scaled(logits[1], k)) for k in (1.0, t))
    threshold = calibration.conformal_threshold(calibration.scaled(logits[0], t), held.labels, MISS)
    sets = calibration.conformal_sets(calibration.scaled(logits[1], t), threshold)
    covered = sets[np.arange(len(test)), test.labels]
    return {
        "temperature": round(t, 3),
        **{key: [round(float(one[key][0]), 4) for one in (before, after)] for key in ("ece", "log_loss")},
        "promised": 1 - MISS,
        "covered": metrics.interval(float(covered.mean()), metrics.resampled(covered.astype(float), units=test.units)),
        "classes in a set": round(float(sets.sum(1).mean()), 3),
    }


def speakers() -> dict[str, Any]:
    """speech-rnn trained without one speaker and tested on that one: accuracy, over 20 epochs each."""
    chosen, found = replace(recipe("speech-rnn"), epochs=20), {}
    for name in sorted(set(speech.read()[2])):
        data = speech.load(name)
        run, state = fit(chosen, data)
        figures = metrics.intervals(data.test.labels, run.predict(state.module, state.best, data.test))
        found[str(name)] = {"rows": len(data.test), "accuracy": figures["accuracy"]}
    return found


MEASURES: dict[str, Callable[[], dict[str, Any]]] = {
    "settings": settings,
    "speed": speed,
    "compression": compress,
    "privacy": give_away,
    "calibration": calibrate,
    "speakers": speakers,
}
# What a measure says of one specimen goes into that specimen's record, and so onto its card: measure -> specimen, key.
RECORDED = {"speakers": ("speech-rnn", "unheard_speakers")}


def weights(name: str) -> str:
    """The sha256 of the packaged weights, with which figures of them go out of date."""
    return str(registry.read_record(registry.WEIGHTS / name, name)["weights_sha256"])


def measure(names: Sequence[str]) -> None:
    """Measure, one after the other, and write after each."""
    for name in names:
        if name not in MEASURES:
            raise unknown("measure", name, MEASURES)
    for name in names:
        started = time.perf_counter()
        figures = MEASURES[name]()
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu ({torch.get_num_threads()} threads)"
        one = {
            "figures": figures, "seconds": round(time.perf_counter() - started), "device": device, "versions": versions(*PACKAGES),
            "weights": {key: weights(key) for key in figures if key in registry.names()},
        }  # fmt: skip
        kept = read() if FILE.exists() else {}
        text = json.dumps({**kept, name: one}, indent=1, ensure_ascii=False)
        write_atomic(FILE, lambda handle, text=text: handle.write(text.encode()))
        if name in RECORDED:
            record.enter(*RECORDED[name], figures)
        print(f"{name}: {one['seconds']} s")


if __name__ == "__main__":
    measure(sys.argv[1:] or list(MEASURES))
