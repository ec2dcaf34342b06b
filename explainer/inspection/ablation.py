"""Ablation of units, channels or attention heads: how every score changes without them."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explainer.errors import InvalidInput, unknown
from explainer.explanation import Provenance
from explainer.inputs import take
from explainer.inspection import saving
from explainer.inspection.network import followed, layers_of
from explainer.inspection.tables import scale_of, stamp
from explainer.progress import reporter

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from explainer.adapters.layers import Layers, View
    from explainer.adapters.torch import TorchModel

KINDS = ("zero", "mean")


@dataclass(frozen=True, eq=False)
class Ablation:
    """How the scores change when a part of a layer is held at zero or at its mean: the score without less the score as it is.

    Attributes
    ----------
    changes : ``(parts, rows, outputs)``; ``values`` ``(parts, outputs)`` their mean over rows, ``stderr`` its standard error.
    flipped : ``(parts,)`` share of rows whose predicted class changes; NaN for a regression.
    """

    names: tuple[str, ...]
    changes: np.ndarray
    flipped: np.ndarray
    labels: tuple[str, ...]
    layer: str
    kind: str
    output: str
    provenance: Provenance

    def __post_init__(self) -> None:
        self.changes.setflags(write=False)
        self.flipped.setflags(write=False)

    @property
    def values(self) -> np.ndarray:
        return self.changes.mean(axis=1)

    @property
    def stderr(self) -> np.ndarray:
        n = self.changes.shape[1]
        return self.changes.std(axis=1, ddof=1) / np.sqrt(n) if n > 1 else np.full_like(self.values, np.nan)

    @property
    def size(self) -> np.ndarray:
        """``(parts,)`` mean size of a change, over rows and outputs: what a part does even where its effects cancel."""
        return np.abs(self.changes).mean(axis=(1, 2))

    @property
    def order(self) -> np.ndarray:
        """Positions of the parts, the one that changes most first."""
        return np.argsort(-self.size, kind="stable")

    def to_frame(self) -> pd.DataFrame:
        """One row per part, the one that changes most first; a column per output with its mean change."""
        import pandas as pd

        columns = {"part": list(self.names), "size": self.size, "flipped": self.flipped}
        columns.update({f"change of {label}": self.values[:, o] for o, label in enumerate(self.labels)})
        return pd.DataFrame(columns).iloc[self.order].reset_index(drop=True)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it as one JSON file."""
        return saving.save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Ablation:
        """Read what :meth:`save` wrote. Raises InvalidInput, CorruptFile."""
        found = saving.load(path, cls.__name__)
        arrays = {key: np.array(found[key], dtype=float) for key in ("changes", "flipped")}
        tuples = {key: tuple(found[key]) for key in ("names", "labels")}
        return cls(**{**found, **tuples, **arrays, "provenance": saving.provenance(found["provenance"])})


def ablate(
    model: Any,
    data: Any,
    layer: str,
    units: Sequence[Any] | None = None,
    *,
    heads: int | None = None,
    kind: str = "zero",
    background: Any = None,
    output: str = "probability",
    progress: Any = False,
) -> Ablation:
    """How every score changes when a unit, a channel, a group of them, or an attention head is taken out (Michel et al. 2019).

    Parameters
    ----------
    layer : a name of ``module.named_modules()``.
    units : numbers of the units; a list within the list is taken out together; None takes each unit alone.
    heads : cut what the layer is given (an attention's output projection, such as ``h.0.attn.c_proj``) into so many equal heads, and
        take out each, instead of units.
    kind : "zero", or "mean": the unit's mean over ``background`` (by default the model's background, else ``data``) and over
        positions that are no padding. Zero can be a value the unit never has; the mean keeps what is always there.

    Raises UnknownName, InvalidInput, Unsupported.
    """
    started = time.perf_counter()
    net = followed(model, "Ablation of units", data)
    if kind not in KINDS:
        raise unknown("kind of ablation", kind, KINDS)
    given = net.canonical(data)
    found = layers_of(net, given)
    name = found.named(layer)[0]
    entering = heads is not None
    width = _width(found, name, given) if entering else found.calls[name].units
    parts = _heads(width, heads, units, name) if heads is not None else _parts(units, width, name)
    scale = scale_of(net, output)
    reference = (
        given if background is None and net.background is None else net.background if background is None else net.canonical(background)
    )
    fill = _mean(found, name, reference, entering) if kind == "mean" else np.zeros(width)
    before = net.scores(given, scale)
    after = np.empty((len(parts), *before.shape))
    with reporter(progress, "Ablation") as report, net.scoring():
        for done, places in enumerate(parts.values()):
            after[done] = _without(found, name, given, places, fill, entering, scale)
            report(done + 1, len(parts))
    flipped = (after.argmax(2) != before.argmax(1)).mean(1) if net.task == "classification" else np.full(len(parts), np.nan)
    parameters = {"layer": name, "kind": kind, "heads": heads, "parts": len(parts)}
    return Ablation(
        names=tuple(parts), changes=after - before, flipped=flipped, labels=net.class_names, layer=name, kind=kind, output=scale,
        provenance=stamp(net, "ablation", given, 0, len(given) * (1 + len(parts)), started, parameters),
    )  # fmt: skip


def _without(found: Layers, name: str, given: Any, places: list[int], fill: np.ndarray, entering: bool, scale: str) -> np.ndarray:
    """Scores ``(n, outputs)`` with the units at ``places`` held at ``fill``."""

    def hold(seen: View) -> Tensor:
        new = seen.values.clone()
        new[..., places] = new.new_tensor(fill[places])
        return new

    model: TorchModel = found.model
    scores = np.empty((len(given), len(model.class_names)))
    for rows in model.batches(given):
        raw = found.run(model.encode(take(given, rows)), {name: hold}, entering).double().cpu().numpy()
        scores[rows] = model.rescale(raw, scale)
    return scores


def _mean(found: Layers, name: str, data: Any, entering: bool) -> np.ndarray:
    sums: list[tuple[int, np.ndarray]] = []

    def add(seen: View) -> None:
        rows = seen.rows.double()
        sums.append((len(rows), rows.sum(0).cpu().numpy()))

    with found.model.scoring():
        for rows in found.model.batches(data):
            found.run(found.model.encode(take(data, rows)), {name: add}, entering)
    return np.sum([total for _, total in sums], axis=0) / sum(n for n, _ in sums)


def _width(found: Layers, name: str, given: Any) -> int:
    """How many units the layer is given."""
    seen: list[int] = []
    with found.model.scoring():
        one = take(given, [0])
        found.run(found.model.encode(one), {name: lambda view: seen.append(view.values.shape[-1])}, entering=True)
    return seen[0]


def _heads(width: int, heads: int, units: Any, name: str) -> dict[str, list[int]]:
    if units is not None:
        raise InvalidInput("ablate() takes units= or heads=, not both.")
    if isinstance(heads, bool) or not isinstance(heads, (int, np.integer)) or heads < 1 or width % heads:
        raise InvalidInput(f"heads={heads!r}: the {width} units that {name!r} is given cannot be cut in so many equal heads.")
    each = width // int(heads)
    return {f"head {h}": list(range(h * each, (h + 1) * each)) for h in range(heads)}


def _parts(units: Any, width: int, name: str) -> dict[str, list[int]]:
    parts: dict[str, list[int]] = {}
    for part in range(width) if units is None else units:
        places: list[Any] = list(np.atleast_1d(np.asarray(part, dtype=object)))
        for place in places:
            if isinstance(place, bool) or not isinstance(place, (int, np.integer)) or not 0 <= place < width:
                raise InvalidInput(f"The layer {name!r} has the units 0 to {width - 1}; {place!r} came.")
        parts[f"unit {places[0]}" if len(places) == 1 else f"units {', '.join(map(str, places))}"] = [int(p) for p in places]
    if not parts or any(not places for places in parts.values()):
        raise InvalidInput("Name at least one unit to take out: units=[0], or leave units out for each alone.")
    return parts
