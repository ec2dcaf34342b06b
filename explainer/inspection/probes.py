"""Linear probes: what can be read off each layer by a linear model, beside a control task that only memory could solve."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explainer.errors import InvalidInput
from explainer.explanation import Provenance
from explainer.inspection import saving
from explainer.inspection.network import layers_of, network
from explainer.inspection.tables import stamp
from explainer.metrics import wilson
from explainer.progress import Report, reporter

if TYPE_CHECKING:
    import pandas as pd

    from explainer.adapters.layers import Layers

FOLDS = 5
CONTROLS = 10
_RESAMPLED = 400
_CLASSES = 20  # different whole numbers up to which labels are names


@dataclass(frozen=True, eq=False)
class Probing:
    """How well labels can be read off each layer.

    Attributes
    ----------
    values : ``(layers,)`` accuracy (or R2) on held-out rows; ``low``, ``high`` its 95 % interval (Wilson; bootstrap for R2).
    control : ``(layers, controls)`` the same for labels dealt out at random; ``chance`` the share of the commonest label (R2: 0).
    metric : "accuracy" or "r2".
    """

    layers: tuple[str, ...]
    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    control: np.ndarray
    chance: float
    metric: str
    labels: tuple[str, ...]
    rows: int
    provenance: Provenance

    def __post_init__(self) -> None:
        for array in (self.values, self.low, self.high, self.control):
            array.setflags(write=False)

    @property
    def selectivity(self) -> np.ndarray:
        """``(layers,)``: the value less the mean of the control task."""
        return self.values - self.control.mean(axis=1)

    @property
    def found(self) -> np.ndarray:
        """``(layers,)`` bool: the interval lies above every control and above always saying the commonest label."""
        return self.low > np.maximum(self.control.max(axis=1), self.chance)

    def to_frame(self) -> pd.DataFrame:
        """One row per layer, in the order in which they run."""
        import pandas as pd

        columns = {
            "layer": list(self.layers), self.metric: self.values, "low": self.low, "high": self.high, "control": self.control.mean(axis=1),
            "selectivity": self.selectivity, "found": self.found,
        }  # fmt: skip
        return pd.DataFrame(columns)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it as one JSON file."""
        return saving.save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Probing:
        """Read what :meth:`save` wrote. Raises InvalidInput, CorruptFile."""
        found = saving.load(path, cls.__name__)
        arrays = {key: np.array(found[key], dtype=float) for key in ("values", "low", "high", "control")}
        tuples = {key: tuple(found[key]) for key in ("layers", "labels")}
        return cls(**{**found, **arrays, **tuples, "provenance": saving.provenance(found["provenance"])})


def probe(
    model: Any,
    data: Any,
    labels: Any,
    layers: Any = None,
    *,
    types: Sequence[Any] | None = None,
    controls: int = CONTROLS,
    pool: str = "mean",
    seed: int = 0,
    progress: Any = False,
) -> Probing:
    """How well a linear model reads ``labels`` off each layer, on rows it was not fitted to, and how well it reads noise.

    Logistic regression (ridge regression for numbers) on standardised activations pooled over positions, 5-fold
    cross-validated (Alain & Bengio 2017). The control task deals the labels out at random, one per type (Hewitt & Liang 2019): a
    probe that does well there learns by heart, and its accuracy says little of the layer. That something can be read does not
    say that the model uses it: see ``ablate`` and ``concepts``.

    Parameters
    ----------
    labels : one per row, of any property of the inputs; text or up to 20 different whole numbers are classes.
    layers : names; by default every layer that holds no other.
    types : one per row: rows of one type share their label in the control task (such as one word in many sentences). By
        default every row is a type of its own, and the control measures chance.
    pool : "mean", "max", "first" or "last" position.

    Raises InvalidInput, UnknownName, Unsupported.
    """
    started = time.perf_counter()
    net = network(model, "probe")
    given = net.canonical(data)
    y, names = _labels(labels, len(given))
    if pool not in ("mean", "max", "first", "last"):
        raise InvalidInput(f"pool={pool!r} is how positions are brought together: 'mean', 'max', 'first' or 'last'.")
    found = layers_of(net, given)
    chosen = found.named(layers)
    groups = np.arange(len(y)) if types is None else _numbered(types, len(y))
    dealt = _dealt(y, groups, controls, seed)
    values, low, high, control = (np.empty(len(chosen)) for _ in range(4))
    control = np.empty((len(chosen), len(dealt)))
    with reporter(progress, "Probing") as report:
        for k, (_, x) in enumerate(pooled(found, given, chosen, pool).items()):
            values[k], low[k], high[k] = _judged(y, _held_out(x, y, bool(names), seed), bool(names), seed)
            for c, other in enumerate(dealt):
                control[k, c] = _judged(other, _held_out(x, other, bool(names), seed), bool(names), None)[0]
            report(k + 1, len(chosen))
    chance = float(np.bincount(y).max() / len(y)) if names else 0.0
    parameters = {"layers": chosen, "folds": FOLDS, "controls": len(dealt), "pool": pool, "types": types is not None}
    return Probing(
        layers=tuple(chosen), values=values, low=low, high=high, control=control, chance=chance, metric="accuracy" if names else "r2",
        labels=names, rows=len(y), provenance=stamp(net, "linear probes", given, seed, len(given), started, parameters),
    )  # fmt: skip


def pooled(found: Layers, given: Any, names: list[str], how: str, report: Report | None = None) -> dict[str, np.ndarray]:
    """Per layer ``(n, units)``: activations brought together over positions, or all of them side by side with "flat"."""
    made: dict[str, np.ndarray] = {}
    done = 0
    for rows, views in found.read(given, names):
        for name, view in views.items():
            values = (view.values.flatten(1) if how == "flat" else view.pooled(how)).double().cpu().numpy()
            made.setdefault(name, np.empty((len(given), values.shape[1])))[rows] = values
        done += len(rows)
        if report is not None:
            report(done, len(given))
    return {name: made[name] for name in names}


def _labels(labels: Any, rows: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Class numbers and their names, or numbers and no names."""
    given = np.asarray(labels)
    if given.shape != (rows,):
        raise InvalidInput(f"{rows} rows came with labels of shape {given.shape}; one label per row is needed.")
    whole = given.dtype.kind in "iub" or (given.dtype.kind == "f" and bool((given == np.rint(given)).all()))
    if given.dtype.kind in "f" and not np.isfinite(given).all():
        raise InvalidInput("The labels hold NaN or infinite values; leave those rows out.")
    if given.dtype.kind == "f" and not (whole and len(np.unique(given)) <= _CLASSES):
        return given.astype(float), ()
    if given.dtype.kind in "iu" and len(np.unique(given)) > _CLASSES:
        return given.astype(float), ()
    names, y = np.unique(given.astype(str), return_inverse=True)
    if len(names) < 2 or np.bincount(y).min() < FOLDS:
        counts = ", ".join(f"{name}: {n}" for name, n in zip(names[:8], np.bincount(y), strict=False))
        raise InvalidInput(f"A probe needs at least 2 classes with {FOLDS} rows each; {counts} came.")
    return y, tuple(str(name) for name in names)


def _numbered(types: Sequence[Any], rows: int) -> np.ndarray:
    given = np.asarray(types)
    if given.shape != (rows,):
        raise InvalidInput(f"types= has shape {given.shape} for {rows} rows; one type per row is needed.")
    return np.unique(given.astype(str), return_inverse=True)[1]


def _dealt(y: np.ndarray, groups: np.ndarray, controls: int, seed: int) -> list[np.ndarray]:
    """Labels at random, the same for all rows of a type, drawn from those that came."""
    if isinstance(controls, bool) or not isinstance(controls, (int, np.integer)) or controls < 1:
        raise InvalidInput(f"controls={controls!r} is how often labels are dealt out at random; a whole number from 1 on is needed.")
    rng = np.random.default_rng(seed)
    alone = len(np.unique(groups)) == len(y)
    return [rng.permutation(y) if alone else rng.choice(y, groups.max() + 1)[groups] for _ in range(controls)]


def _held_out(x: np.ndarray, y: np.ndarray, classes: bool, seed: int) -> np.ndarray:
    """Predictions for every row by a model fitted without it."""
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.model_selection import KFold, StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    split = (StratifiedKFold if classes and np.bincount(y).min() >= FOLDS else KFold)(FOLDS, shuffle=True, random_state=seed)
    line = LogisticRegression(max_iter=500) if classes else RidgeCV(np.logspace(-2, 4, 7))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence: held-out accuracy is what is reported
        return np.asarray(cross_val_predict(make_pipeline(StandardScaler(), line), x, y, cv=split))


def _judged(y: np.ndarray, said: np.ndarray, classes: bool, seed: int | None) -> tuple[float, float, float]:
    """Accuracy or R2, and the ends of its 95 % interval."""
    if classes:
        right = int((y == said).sum())
        return right / len(y), *wilson(right, len(y))

    def r2(rows: Any) -> float:
        return float(1 - ((y[rows] - said[rows]) ** 2).sum() / max(((y[rows] - y[rows].mean()) ** 2).sum(), 1e-300))

    value = r2(slice(None))
    if seed is None:
        return value, value, value
    rng = np.random.default_rng(seed)
    low, high = np.quantile([r2(rng.integers(0, len(y), len(y))) for _ in range(_RESAMPLED)], [0.025, 0.975])
    return value, float(low), float(high)
