"""What the layers of a network do over a data set: means, dead and saturated units, effective rank, the inputs each unit likes."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explainer.errors import InvalidInput, unknown
from explainer.explanation import Provenance
from explainer.inputs import take
from explainer.inspection import saving
from explainer.inspection.network import layers_of, network
from explainer.inspection.tables import stamp
from explainer.progress import reporter

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn

    from explainer.adapters.layers import Call, View

WIDTH = 512  # of the covariance: wider layers are projected to it at random
NEAR = 0.01  # of the range between its bounds: so near a bound a value is saturated
_ALWAYS = 0.95  # of its values near a bound: a saturated unit
_NOTHING = 1e-6  # of the layer's largest value: a unit that never passes it is dead
_BOUNDS: Mapping[str, tuple[float | None, float]] = {
    "Sigmoid": (0, 1), "Tanh": (-1, 1), "Hardtanh": (-1, 1), "Hardsigmoid": (0, 1), "Softsign": (-1, 1), "ReLU6": (None, 6),
    "LSTM": (-1, 1), "GRU": (-1, 1), "RNN": (-1, 1), "Softmax": (0, 1),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class LayerActivations:
    """One layer; per unit (channel, feature) over all inputs and, in sequences and images, all positions that are no padding.

    Attributes
    ----------
    mean, std, zeros, peak : ``(units,)``: mean, standard deviation, share of exact zeros, largest absolute value.
    saturated : ``(units,)`` share of values within 1 % of the range from a bound; None where the layer has no bounds.
    effective_rank : between 1 and the number of units; ``projected`` where it was found on 512 random directions.
    top, top_values : ``(units, k)``: the inputs with the highest activation of the unit anywhere, and that activation; -1
        and NaN where there are fewer inputs than k.
    """

    name: str
    kind: str
    units: int
    positions: tuple[int, ...]
    values: int
    mean: np.ndarray
    std: np.ndarray
    zeros: np.ndarray
    peak: np.ndarray
    saturated: np.ndarray | None
    effective_rank: float
    projected: bool
    top: np.ndarray
    top_values: np.ndarray

    def __post_init__(self) -> None:
        for array in (self.mean, self.std, self.zeros, self.peak, self.saturated, self.top, self.top_values):
            if array is not None:
                array.setflags(write=False)

    @property
    def dead(self) -> np.ndarray:
        """Numbers of the units that were never active."""
        return np.flatnonzero(self.peak <= _NOTHING * float(self.peak.max()))

    @property
    def stuck(self) -> np.ndarray:
        """Numbers of the units with at least 95 % of their values near a bound."""
        return np.flatnonzero(self.saturated >= _ALWAYS) if self.saturated is not None else np.empty(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Activations:
    """Statistics of every layer asked for, in the order in which they run; ``found["name"]`` is one of them."""

    layers: tuple[LayerActivations, ...]
    rows: int
    provenance: Provenance

    def __getitem__(self, name: str) -> LayerActivations:
        found = {layer.name: layer for layer in self.layers}
        if name not in found:
            raise unknown("layer", name, found)
        return found[name]

    def to_frame(self) -> pd.DataFrame:
        """One row per layer: ``dead`` and ``saturated`` count units, ``sparsity`` is the share of exact zeros."""
        import pandas as pd

        return pd.DataFrame([
            {
                "layer": one.name, "kind": one.kind, "units": one.units, "mean": float(one.mean.mean()),
                "std": float(np.sqrt((one.std**2).mean() + one.mean.var())), "sparsity": float(one.zeros.mean()), "dead": len(one.dead),
                "saturated": len(one.stuck) if one.saturated is not None else None, "effective_rank": one.effective_rank,
            }
            for one in self.layers
        ])  # fmt: skip

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it as one JSON file."""
        return saving.save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Activations:
        """Read what :meth:`save` wrote. Raises InvalidInput, CorruptFile."""
        found = saving.load(path, cls.__name__)
        return cls(tuple(_layer(one) for one in found["layers"]), found["rows"], saving.provenance(found["provenance"]))


def activations(
    model: Any, data: Any, layers: Any = None, *, top: int = 8, rows: int | None = None, seed: int = 0, progress: Any = False
) -> Activations:
    r"""Statistics of the layers of a torch model over a data set, streamed: one batch of activations is in memory at a time.

    Dead units never pass 1e-6 of the layer's largest value. The effective rank is
    :math:`\exp(-\sum_k p_k \ln p_k)` with :math:`p_k = \lambda_k / \sum_j \lambda_j` the spectrum of the covariance of the units
    (the effective rank of Roy & Vetterli 2007, of the covariance matrix); beyond 512 units, of their projection on 512 random
    Gaussian directions drawn with ``seed``, which is at most 512.

    Parameters
    ----------
    layers : names as in ``module.named_modules()``, one or several; by default every layer that holds no other.
    top : how many inputs are kept per unit.
    rows : inputs of a batch; by default as many as the model takes at once.

    Functions that are no modules (``F.relu``) are not layers. Raises UnknownName, Unsupported, InvalidInput.
    """
    started = time.perf_counter()
    net = network(model, "activations")
    if isinstance(top, bool) or not isinstance(top, (int, np.integer)) or top < 1:
        raise InvalidInput(f"top={top!r} is how many inputs are kept per unit; a whole number from 1 on is needed.")
    given = net.canonical(data)
    found = layers_of(net, given)
    names = found.named(layers)
    streams = {name: _Stream(found.calls[name], found.module(name), int(top), seed) for name in names}
    done = 0
    with reporter(progress, "Activations") as report, net.scoring():
        for chosen in net.batches(given, rows):
            found.run(net.encode(take(given, chosen)), {name: _fed(streams[name], chosen) for name in names})
            done += len(chosen)
            report(done, len(given))
    parameters = {"layers": names, "top": int(top), "width": WIDTH}
    frozen = tuple(stream.freeze() for stream in streams.values())
    return Activations(frozen, len(given), stamp(net, "activations", given, seed, len(given), started, parameters))


def _fed(stream: _Stream, chosen: np.ndarray) -> Any:
    return lambda view: stream.add(view, chosen)


class _Stream:
    """Running statistics of one layer, merged batch by batch in float64 (Chan, Golub & LeVeque 1983)."""

    def __init__(self, call: Call, module: nn.Module, top: int, seed: int) -> None:
        self.call, self.top = call, top
        units = call.units
        self.bounds = _bounds(call.kind, module)
        self.count, self.mean, self.squares = 0, np.zeros(units), np.zeros(units)
        self.zeros, self.near, self.peak = np.zeros(units), np.zeros(units), np.zeros(units)
        draw = np.random.default_rng([seed, units])
        self.projection = draw.normal(size=(units, WIDTH)) / math.sqrt(units) if units > WIDTH else None
        width = min(units, WIDTH)
        self.centre, self.scatter = np.zeros(width), np.zeros((width, width))
        self.best = np.full((units, top), -np.inf)
        self.which = np.full((units, top), -1, dtype=np.int64)

    def add(self, view: View, chosen: np.ndarray) -> None:
        rows = view.rows.detach().double()
        if not len(rows):
            return
        n, total = len(rows), self.count + len(rows)
        mean, share = rows.mean(0), self.count * len(rows) / total
        shift = _numpy(mean) - self.mean
        self.squares += _numpy(((rows - mean) ** 2).sum(0)) + shift**2 * share
        self.mean += shift * n / total
        self.zeros += _numpy((rows == 0).sum(0))
        self.peak = np.maximum(self.peak, _numpy(rows.abs().amax(0)))
        if self.bounds is not None:
            low, high = self.bounds
            reach = NEAR * (high - (low or 0.0))
            near = rows >= high - reach
            self.near += _numpy((near if low is None else near | (rows <= low + reach)).sum(0))
        self._spread(rows, n, total, share)
        self._best(view, chosen)
        self.count = total

    def _spread(self, rows: Tensor, n: int, total: int, share: float) -> None:
        if self.projection is not None:
            rows = rows @ rows.new_tensor(self.projection)
        centre = rows.mean(0)
        apart = rows - centre
        shift = _numpy(centre) - self.centre
        self.scatter += _numpy(apart.T @ apart) + np.outer(shift, shift) * share
        self.centre += shift * n / total

    def _best(self, view: View, chosen: np.ndarray) -> None:
        highest = _numpy(view.pooled("max").detach().double()).T
        values = np.concatenate([self.best, highest], axis=1)
        which = np.concatenate([self.which, np.broadcast_to(chosen, highest.shape)], axis=1)
        order = np.lexsort((which, -values))[:, : self.top]  # of equals the first input, whatever the batches
        self.best, self.which = np.take_along_axis(values, order, 1), np.take_along_axis(which, order, 1)

    def freeze(self) -> LayerActivations:
        call = self.call
        spectrum = np.clip(np.linalg.eigvalsh(self.scatter), 0, None)
        if spectrum.sum() <= 1e-24 * self.count * float(self.peak.max()) ** 2:
            spectrum[:] = 0  # nothing varies but the last digits
        none = ~np.isfinite(self.best)
        return LayerActivations(
            name=call.name, kind=call.kind, units=call.units, positions=call.positions, values=self.count, mean=self.mean,
            std=np.sqrt(self.squares / max(self.count, 1)), zeros=self.zeros / max(self.count, 1), peak=self.peak,
            saturated=None if self.bounds is None else self.near / max(self.count, 1), effective_rank=effective_rank(spectrum),
            projected=self.projection is not None, top=np.where(none, -1, self.which), top_values=np.where(none, np.nan, self.best),
        )  # fmt: skip


def effective_rank(spectrum: np.ndarray) -> float:
    """The exponential of the entropy of a spectrum brought to sum 1; 0 where nothing varies."""
    total = float(spectrum.sum())
    if total <= 0 or not math.isfinite(total):
        return 0.0
    # Below that share of the largest eigenvalue there is only rounding.
    p = spectrum[spectrum > 1e-12 * spectrum.max()] / total
    return float(np.exp(-(p * np.log(p)).sum()))


def _bounds(kind: str, module: nn.Module) -> tuple[float | None, float] | None:
    if kind == "Hardtanh":
        return float(module.min_val), float(module.max_val)  # type: ignore[arg-type]
    if kind == "RNN" and getattr(module, "nonlinearity", "tanh") != "tanh":
        return None
    return _BOUNDS.get(kind)


def _numpy(tensor: Tensor) -> np.ndarray:
    return np.asarray(tensor.cpu().numpy(), dtype=np.float64)


def _layer(entry: Mapping[str, Any]) -> LayerActivations:
    arrays = {key: np.array(entry[key], dtype=float) for key in ("mean", "std", "zeros", "peak", "top_values")}
    saturated = None if entry["saturated"] is None else np.array(entry["saturated"], dtype=float)
    rest = {"saturated": saturated, "top": np.array(entry["top"], dtype=np.int64), "positions": tuple(entry["positions"])}
    return LayerActivations(**{**entry, **arrays, **rest})
