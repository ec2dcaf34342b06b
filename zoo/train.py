"""One training loop for every specimen: seeded, resumable after a kill, and nothing half-written is ever left."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from explainer.errors import Cancelled, ExplainerError, InvalidInput, Unsupported
from explainer.explanation import write_atomic
from explainer.inputs import take
from explainer.metrics import LOWER, measure
from explainer.progress import reporter
from zoo import baselines, checkpoint
from zoo.data import Data, Split, need
from zoo.descent import batches, blend, parameters, schedule, shrink
from zoo.devices import Device, Precision, accelerator, checked, portion
from zoo.prediction import call, move, predict
from zoo.recipes import Recipe, recipe, resolve

VALIDATED = {  # metric -> its name in the history
    "log_loss": "validation_loss",
    "accuracy": "validation_accuracy",
    "macro_f1": "validation_macro_f1",
    "roc_auc": "validation_roc_auc",
    "r2": "validation_r2",
    "rmse": "validation_rmse",
    "mean": "validation_mean",
}


@dataclass
class State:
    """Where a run stands; together with the seed it decides everything that follows."""

    module: nn.Module
    optimizer: torch.optim.Optimizer
    average: dict[str, Tensor] | None
    best: dict[str, Tensor] = field(default_factory=dict)
    best_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def epoch(self) -> int:
        return len(self.history)

    def weights(self) -> dict[str, Tensor]:
        """What would be saved now: the running average where one is kept, else the weights themselves."""
        return checkpoint.trained(self.module) if self.average is None else self.average


def train(
    name: str,
    *,
    out: str | Path | None = None,
    seed: int = 0,
    device: Device = "auto",
    epochs: int | None = None,
    resume: bool = True,
    progress: Any = True,
    data: Data | None = None,
    log: str | Path | bool = True,
    precision: Precision = "auto",
    compiled: bool = False,
) -> dict[str, Any]:
    """Train the specimen ``name`` and write weights, preprocessing, card and training record into ``out``; gives the record.

    Started in several processes (``torchrun --nproc_per_node 2``), each computes its share of every batch and the first one writes;
    the others get an empty record. The result is that of one process but for rounding, unless the network draws (dropout), takes
    statistics of a batch (batch norm), or classes are weighted.

    Parameters
    ----------
    out : default ``runs/NAME`` below the working directory; the packaged weights are replaced only by naming their folder.
    seed : decides initial weights, batches, dropout and augmentation; the splits are fixed.
    device : "auto" takes CUDA (with bfloat16 where the GPU has it) when there is one.
    epochs : the most epochs; default is the recipe's. Training stops sooner when validation no longer improves.
    resume : go on from ``out/checkpoint.safetensors`` when a run like this one was cut off there.
    progress : True for a bar with the time left, or a callable ``(done, total)``.
    data : other splits than the specimen's own, for trying things out.
    log : folder for TensorBoard; True is the user's cache folder, False none.
    precision : "auto" is bfloat16 where a GPU has it, else "no" (32 bits); "bf16", "fp16".
    compiled : whether torch.compile fuses the network's operations for the run; pays off on a GPU and a long run.

    Raises Cancelled on Ctrl-C (saying what was kept), UnknownName, InvalidInput, Unsupported for an option that says nothing to this
    specimen, MissingDependency.
    """
    chosen = recipe(name)
    checked(device, precision)
    epochs = None if epochs is None else counted("epochs", epochs, 1, 10**6)
    seed = counted("seed", seed, 0, 2**32 - 1)  # what numpy and scikit-learn take, too
    if not chosen.epochs:
        undirected(chosen, epochs=epochs, device=device, precision=precision, compiled=compiled, log=log)
    folder = Path(out) if out is not None else Path("runs") / name
    data = chosen.data() if data is None else data
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if chosen.estimator:
            return fitted(chosen, data, folder, seed)
        preprocess = resolve(chosen.preprocess).fit(data.train.inputs, **chosen.preprocess_arguments)
        run = Run(chosen, data, preprocess, folder, seed, epochs or chosen.epochs, precision, compiled)
        return run.whole(device, resume, log, progress)
    except OSError as error:
        if isinstance(error, ExplainerError):
            raise
        raise ExplainerError(f"Could not write to {folder}: {error}. Make room, or name another folder.") from error


def counted(name: str, value: Any, least: int, most: int) -> int:
    """The whole number from ``least`` to ``most`` that came. Raises InvalidInput for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not least <= value <= most:
        raise InvalidInput(f"{name} must be a whole number from {least:,} to {most:,}; {value!r} came.")
    return int(value)


def undirected(chosen: Recipe, **options: Any) -> None:
    """Raises Unsupported for an option that would be ignored, where nothing descends a gradient."""
    unused = {"epochs": (None,), "device": ("auto", "cpu"), "precision": ("auto", "no"), "compiled": (False,), "log": (True, False)}
    given = [name for name, value in options.items() if value not in unused[name]]
    if given:
        how = "fitted by scikit-learn" if chosen.estimator else "built as it stands"
        raise Unsupported(
            f"{chosen.name} is {how}, not trained in epochs on a device, so {' and '.join(given)} would do nothing. "
            "Leave that out; out and seed are what it takes."
        )


def fitted(chosen: Recipe, data: Data, folder: Path, seed: int) -> dict[str, Any]:
    """Fit the recipe's estimator and write it with its record and card."""
    from zoo import record

    started = time.perf_counter()
    estimator = resolve(chosen.estimator)(data, seed)
    return record.write_estimator(chosen, data, estimator, folder, seed, time.perf_counter() - started)


@dataclass
class Run:
    """One training run: what is trained on what, where to."""

    recipe: Recipe
    data: Data
    preprocess: Any
    folder: Path
    seed: int
    epochs: int
    precision: Precision = "auto"
    compiled: bool = False
    processes: int = 1

    @property
    def checkpoint(self) -> Path:
        return self.folder / checkpoint.NAME

    @property
    def identity(self) -> dict[str, Any]:
        """What a checkpoint must share with this run for the one to go on where the other stopped."""
        own = {name: getattr(self, name) for name in ("seed", "epochs", "precision", "compiled", "processes")}
        return {"recipe": json.loads(json.dumps(asdict(self.recipe))), "data": self.data.sha256, **own}

    def whole(self, device: Device, resume: bool, log: str | Path | bool, progress: Any) -> dict[str, Any]:
        """From a fresh state or the checkpoint to the written record."""
        try:
            with torch.random.fork_rng(), accelerator(device, self.precision) as accelerate:
                self.precision, self.processes = accelerate.mixed_precision, accelerate.num_processes
                state = self.start(accelerate.device, resume)
                first = accelerate.is_main_process
                with writer(log if first else False, self.recipe.name) as board:
                    self.fit(state, accelerate, board, progress if first else False)
                return self.finish(state, accelerate) if first else {}
        except KeyboardInterrupt:
            raise Cancelled(self.kept("Stopped.")) from None
        except OSError as error:
            if isinstance(error, ExplainerError):
                raise
            why = f"Could not write to {self.folder}: {error}. Finished weights there are untouched. Make room, or name another folder."
            raise ExplainerError(self.kept(why)) from error

    def kept(self, why: str) -> str:
        """What is on disk and how to go on, for a person whose run ended early."""
        done = checkpoint.epoch(self.checkpoint)
        if not done:
            return f"{why} No epoch was finished, so nothing was kept; run it again."
        return f"{why} Kept: {self.checkpoint} (epoch {done} of {self.epochs}). The same command goes on from there."

    @cached_property
    def encoder(self) -> Callable[[np.ndarray], Any]:
        """Row numbers of train -> their tensors; encoded once where no padding depends on the batch."""
        inputs = self.data.train.inputs
        if isinstance(inputs, list):
            return lambda rows: self.preprocess(take(inputs, rows))
        encoded = self.preprocess(inputs)
        return lambda rows: encoded[torch.from_numpy(rows)]

    @cached_property
    def labels(self) -> np.ndarray | None:
        """Of train, as they are learnt: with a teacher, distributions in which a share of each label is the teacher's (Hinton, Vinyals
        and Dean 2015). It has not seen the row it tells of, so it softens labels that the others speak against.
        """
        labels, recipe = self.data.train.labels, self.recipe
        if not recipe.teacher:
            return labels
        told = baselines.unseen(resolve(recipe.teacher), self.data)
        return ((1 - recipe.taught) * np.eye(told.shape[1])[labels] + recipe.taught * told).astype(np.float32)

    def module(self) -> nn.Module:
        module = network(self.recipe, self.preprocess, len(self.data.class_names))
        if self.recipe.task == "regression":
            module.scaled(self.data.train.labels)
        return module

    def criterion(self, device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
        """Cross-entropy against classes or distributions over them, with smoothed labels and weighted classes where the recipe says
        so; for numbers the squared error in units of the labels' variance; for a density the mean of what the network gives.
        """
        labels = self.data.train.labels
        if labels is None:
            return lambda output, truth: output.mean()
        if self.recipe.task == "regression":
            variance = float(labels.var())
            return lambda output, truth: (output[:, 0] - truth).square().mean() / variance
        weight = None
        if self.recipe.weighted:
            sizes = np.maximum(np.bincount(labels, minlength=len(self.data.class_names)), 1)
            weight = torch.tensor(np.sqrt(len(labels) / len(sizes) / sizes), dtype=torch.float32, device=device)
        return nn.CrossEntropyLoss(weight=weight, label_smoothing=self.recipe.smoothing)

    def start(self, device: torch.device, resume: bool) -> State:
        """A fresh state, or the one in the checkpoint."""
        torch.manual_seed(self.seed)
        module = self.module().to(device)
        groups = parameters(module, self.recipe.decay, self.recipe.l1)
        optimizer = torch.optim.AdamW(groups, lr=self.recipe.rate, betas=(self.recipe.momentum, 0.999))
        average = {k: v.clone() for k, v in checkpoint.trained(module).items()} if self.recipe.average else None
        state = State(module, optimizer, average)
        if not resume:
            self.checkpoint.unlink(missing_ok=True)
        elif self.checkpoint.exists():
            checkpoint.restore(self.checkpoint, state, self.identity)
        return state

    def fit(self, state: State, accelerate: Any, board: Any, progress: Any) -> None:
        """Epochs until the last one, or until validation has not improved for ``patience`` of them."""
        steps = -(-len(self.data.train) // self.recipe.batch)
        network = torch.compile(state.module) if self.compiled else state.module
        forward, optimizer = accelerate.prepare(network, state.optimizer)
        with reporter(progress, f"Training {self.recipe.name}") as report:
            report(state.epoch * steps, self.epochs * steps)
            while state.epoch < self.epochs and state.epoch - state.best_epoch < self.recipe.patience:
                started = time.perf_counter()
                first = state.epoch * steps
                loss = self.one_epoch(state, forward, optimizer, accelerate, first, lambda done: report(done, self.epochs * steps))
                self.close_epoch(state, loss, time.perf_counter() - started, board)
                if accelerate.is_main_process:
                    checkpoint.save(self.checkpoint, state, self.identity)

    def one_epoch(self, state: State, forward: Any, optimizer: Any, accelerate: Any, first: int, report: Callable[[int], None]) -> float:
        """One pass over train; the mean loss. All chance in it follows from the seed and the number of the epoch."""
        generator = torch.Generator().manual_seed(self.seed * 100_003 + state.epoch)
        torch.manual_seed(self.seed * 100_003 + state.epoch)
        criterion = self.criterion(accelerate.device)
        augment, encode = self.recipe.augment() if self.recipe.augmented else None, self.encoder
        state.module.train()
        total, all_steps = 0.0, self.epochs * -(-len(self.data.train) // self.recipe.batch)
        for step, rows in enumerate(batches(self.data.train, self.recipe.batch, generator), start=first):
            for group in optimizer.param_groups:
                group["lr"] = self.recipe.rate * schedule(step / all_steps, self.recipe.warmup)
            batch = move(encode(rows), accelerate.device)
            batch = augment(batch, generator) if augment else batch
            batch, labels, weight = portion(accelerate, batch, self.truth(rows, accelerate.device))
            loss = weight * criterion(call(forward, batch), labels)
            accelerate.backward(loss)
            if self.recipe.clip:
                accelerate.clip_grad_norm_(state.module.parameters(), self.recipe.clip)
            optimizer.step()
            optimizer.zero_grad()
            shrink(optimizer)
            blend(state.average, state.module, min(self.recipe.average, (1 + step) / (10 + step)))
            total += loss.item() * len(rows)
            report(step + 1)
        total = float(accelerate.reduce(torch.tensor(total, device=accelerate.device, dtype=torch.float64), "mean"))
        return total / len(self.data.train)

    def truth(self, rows: np.ndarray, device: torch.device) -> Any:
        """Labels of training rows, or None."""
        if self.labels is None:
            return None
        labels = torch.from_numpy(self.labels[rows]).to(device)
        return labels.float() if self.recipe.task == "regression" else labels

    def close_epoch(self, state: State, loss: float, seconds: float, board: Any) -> None:
        """Validate, remember the best weights, write history and TensorBoard."""
        probabilities = self.predict(state.module, state.weights(), self.data.validation)
        found = {name: float(value[0]) for name, value in measure(self.data.validation.labels, probabilities).items()}
        row = {
            "epoch": state.epoch + 1,
            "train_loss": loss,
            **{name: found[metric] for metric, name in VALIDATED.items() if metric in found},
            "rate": state.optimizer.param_groups[0]["lr"],
        }
        state.history.append({key: round(float(value), 6) for key, value in row.items()})
        state.seconds += seconds
        if not state.best or self.better(state):
            state.best = {name: tensor.detach().clone() for name, tensor in state.weights().items()}
            state.best_epoch = state.epoch
        for name, value in state.history[-1].items():
            if board is not None and name != "epoch":
                board.add_scalar(name, value, state.epoch)

    def better(self, state: State) -> bool:
        """Whether the epoch just closed is better than the best before it."""
        if not self.recipe.select:
            return True
        sign, key = -1 if self.recipe.select in LOWER else 1, VALIDATED[self.recipe.select]
        return sign * state.history[-1][key] > sign * state.history[state.best_epoch - 1][key]

    def predict(self, module: nn.Module, weights: dict[str, Tensor], split: Split) -> np.ndarray:
        """Probabilities ``(n, classes)`` (estimates ``(n, 1)``) of ``split`` with ``weights``; the module's own are put back."""
        own = {name: tensor.detach().clone() for name, tensor in checkpoint.trained(module).items()}
        checkpoint.put(module, weights)
        try:
            return predict(module, self.preprocess, split.inputs, self.recipe.task)
        finally:
            checkpoint.put(module, own)

    def finish(self, state: State, accelerate: Any) -> dict[str, Any]:
        """Measure the best weights on test, fit the baseline, and write everything at once."""
        from zoo import record

        state.best = state.best or checkpoint.trained(state.module)  # built as it stands
        checkpoint.put(state.module, state.best)
        state.module.cpu()  # as it will be loaded: a GPU rounds otherwise, and its figures would not be those people get
        written = record.write(self, state, str(accelerate.device))
        self.checkpoint.unlink(missing_ok=True)
        return written


def fit(
    chosen: Recipe,
    data: Data,
    preprocess: Any = None,
    *,
    seed: int = 0,
    precision: Precision = "auto",
    compiled: bool = False,
    progress: Any = False,
    kind: type[Run] = Run,
) -> tuple[Run, State]:
    """The recipe trained on ``data`` to the end, leaving nothing on disk; its preprocess is fitted on them too, where none is given."""
    if preprocess is None:
        preprocess = resolve(chosen.preprocess).fit(data.train.inputs, **chosen.preprocess_arguments)
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(), accelerator("auto", precision) as accelerate:
        run = kind(chosen, data, preprocess, Path(folder), seed, chosen.epochs, precision, compiled)
        state = run.start(accelerate.device, resume=False)
        run.fit(state, accelerate, board=None, progress=progress)
    return run, state


def network(recipe: Recipe, preprocess: Any, classes: int) -> nn.Module:
    """The recipe's module, sized for what the preprocess gives."""
    return resolve(recipe.network)(classes=classes, **getattr(preprocess, "arguments", {}), **recipe.network_arguments)


@contextmanager
def writer(log: str | Path | bool, name: str) -> Iterator[Any]:
    """A TensorBoard writer, or None where no log is wanted."""
    if log is False:
        yield None
        return
    need("tensorboard", "The training log")
    from torch.utils.tensorboard import SummaryWriter

    root = need("platformdirs", "The training log").user_cache_path("explainer-toolkit") / "tensorboard" if log is True else Path(log)
    board = SummaryWriter(str(root / name / time.strftime("%Y%m%d-%H%M%S")))
    try:
        yield board
    finally:
        board.close()


def write_together(files: dict[Path, bytes]) -> None:
    """Write several files so that all are new or all are old: first every content to disk, then only renames."""
    staged: list[tuple[Path, Path]] = []
    try:
        for path, content in files.items():
            temporary = path.with_name(f".{path.name}.new")
            staged.append((temporary, path))
            write_atomic(temporary, lambda handle, content=content: handle.write(content))
    except BaseException:
        for temporary, _ in staged:
            temporary.unlink(missing_ok=True)
        raise
    for temporary, path in staged:
        temporary.replace(path)
