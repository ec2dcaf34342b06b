"""Activation patching: which layers and positions carry what makes two inputs score differently."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explainer.errors import InvalidInput
from explainer.explanation import Provenance
from explainer.inputs import join
from explainer.inspection import saving
from explainer.inspection.network import followed, layers_of, network
from explainer.inspection.tables import scale_of, stamp
from explainer.progress import reporter
from explainer.target import Target, resolve

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from explainer.adapters.encoding import Arguments
    from explainer.adapters.layers import Layers, View
    from explainer.adapters.torch import TorchModel

MOST = 1024  # positions of a layer: beyond, only the whole layer is patched
MOST_ROWS = 64  # of one pass


@dataclass(frozen=True, eq=False)
class Patching:
    """What share of the score difference comes back when activations of the clean input stand in the corrupt one's pass.

    Attributes
    ----------
    whole : ``(layers,)``, the whole layer patched. 1: the clean score; 0: nothing came back; outside, it overshoots or turns.
    values : per layer the same for each position alone, shaped as its positions; None where it has none, or more than 1024.
    clean, corrupt : the two scores. ``positions``: names of tokens or steps where a layer has one position for each.
    """

    layers: tuple[str, ...]
    whole: np.ndarray
    values: tuple[np.ndarray | None, ...]
    clean: float
    corrupt: float
    target: str
    output: str
    positions: tuple[str, ...]
    provenance: Provenance

    def __post_init__(self) -> None:
        for array in (self.whole, *self.values):
            if array is not None:
                array.setflags(write=False)

    def to_frame(self) -> pd.DataFrame:
        """Long table: per layer one row for the whole (position "all") and one for each position."""
        import pandas as pd

        rows = []
        for layer, whole, values in zip(self.layers, self.whole, self.values, strict=True):
            rows.append({"layer": layer, "position": "all", "restored": whole})
            if values is None:
                continue
            for where in np.ndindex(*values.shape):
                rows.append({"layer": layer, "position": self._named(where, values), "restored": values[where]})
        return pd.DataFrame(rows)

    def _named(self, where: tuple[int, ...], values: Any) -> str:
        return self.positions[where[0]] if values.shape == (len(self.positions),) else ", ".join(map(str, where))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it as one JSON file."""
        return saving.save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Patching:
        """Read what :meth:`save` wrote. Raises InvalidInput, CorruptFile."""
        found = saving.load(path, cls.__name__)
        values = tuple(None if one is None else np.array(one, dtype=float) for one in found["values"])
        tuples = {key: tuple(found[key]) for key in ("layers", "positions")}
        arrays = {"whole": np.array(found["whole"], dtype=float), "values": values}
        return cls(**{**found, **tuples, **arrays, "provenance": saving.provenance(found["provenance"])})


def patch(
    model: Any, clean: Any, corrupt: Any, *, layers: Any = None, target: Any = "predicted", output: str = "logit", progress: Any = False
) -> Patching:
    r"""Where in the network the difference between two inputs is decided: layer by layer and position by position.

    .. math:: \frac{s(x_{corrupt} \mid a_{l,p} := a_{l,p}(x_{clean})) - s(x_{corrupt})}{s(x_{clean}) - s(x_{corrupt})}

    Vig et al. 2020; Meng et al. 2022; Heimersheim & Nanda 2024 on how to read it (the shares of positions need not add up).

    Parameters
    ----------
    clean, corrupt : one input each, of equal length once encoded: positions are matched by their number.
    layers : names; by default the blocks of a transformer or residual stack, else every layer that holds no other.
    target : as in :func:`explainer.explain`; "predicted" is the class predicted for ``clean``.
    output : "logit" (in which contributions add up better), "probability" or "raw".

    Raises InvalidInput where lengths differ or the scores do not; UnknownName, Unsupported.
    """
    started = time.perf_counter()
    net = followed(model, "Activation patching", clean)
    pair = [net.canonical(one) for one in (clean, corrupt)]
    if [len(one) for one in pair] != [1, 1]:
        raise InvalidInput(f"patch() takes one clean and one corrupt input; {len(pair[0])} and {len(pair[1])} came.")
    from_, into = (net.encode(one) for one in pair)
    _aligned(from_, into, getattr(net.preprocess, "pad_id", None))
    found = layers_of(net, pair[0])
    names = found.named(layers) if layers is not None else found.blocks() or found.leaves
    scale = scale_of(net, output)
    ends = np.concatenate([net.scores(one, scale) for one in pair])
    goal = resolve(target, ends[:1], net.class_names, net.told(pair[0]))
    if goal.k != 1:
        raise InvalidInput("patch() follows one score: name a class or a margin as target, not 'all'.")
    high, low = (float(v) for v in goal(ends, 0)[:, 0])
    if abs(high - low) <= 1e-6 * max(1.0, abs(high), abs(low)):
        raise InvalidInput(
            f"The two inputs score the same ({high:.6g} and {low:.6g} for {goal.labels[0]}): there is no difference to restore."
        )
    run = _Runs(found, into, goal, scale, max(1, min(net.rows_at_once(pair[1]), MOST_ROWS)))
    whole, values = [], []
    with reporter(progress, "Activation patching") as report, net.scoring():
        for name, kept in _read(found, from_, names).items():
            restored = (run(name, kept) - low) / (high - low)
            whole.append(restored[-1])
            values.append(restored[:-1].reshape(tuple(kept.shape[1:-1])) if len(restored) > 1 else None)
            report(len(whole), len(names))
    parameters = {"layers": names, "target": goal.labels[0]}
    return Patching(
        layers=tuple(names), whole=np.array(whole), values=tuple(values), clean=high, corrupt=low, target=goal.labels[0], output=scale,
        positions=position_names(net, pair[0]),
        provenance=stamp(net, "activation patching", join(pair), 0, run.evaluations + 3, started, parameters),
    )  # fmt: skip


class _Runs:
    """Target values of the corrupt input with one position of one layer replaced per row; the last row has all of them replaced."""

    def __init__(self, found: Layers, into: Arguments, goal: Target, scale: str, most: int) -> None:
        self.found, self.into, self.goal, self.scale, self.most = found, into, goal, scale, most
        self.evaluations = 0

    def __call__(self, name: str, kept: Tensor) -> np.ndarray:
        flat = kept[0].reshape(-1, kept.shape[-1])
        alone = len(flat) if kept.ndim > 2 and len(flat) <= MOST else 0
        places: list[int | slice] = [*range(alone), slice(None)]
        return np.concatenate([self._scores(name, flat, places[at : at + self.most]) for at in range(0, len(places), self.most)])

    def _scores(self, name: str, flat: Tensor, places: list[int | slice]) -> np.ndarray:
        def exchange(seen: View) -> Tensor:
            new = seen.values.clone()
            rows = new.view(len(places), -1, new.shape[-1]) if new.is_contiguous() else new.reshape(len(places), -1, new.shape[-1])
            for row, place in zip(rows, places, strict=True):
                row[place] = flat[place]
            return rows.reshape(new.shape)

        self.evaluations += len(places)
        many = replace(self.into, tensors=tuple(t.repeat_interleave(len(places), 0) for t in self.into.tensors))
        raw = self.found.run(many, {name: exchange}).double().cpu().numpy()
        return self.goal(self.found.model.rescale(raw, self.scale), 0)[:, 0]


def _read(found: Layers, arguments: Arguments, names: list[str]) -> dict[str, Tensor]:
    kept: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[View], None]:
        return lambda seen: kept.update({name: seen.values.detach().clone()})

    found.run(arguments, {name: keep(name) for name in names})
    return {name: kept[name] for name in names}


def _aligned(clean: Arguments, corrupt: Arguments, pad_id: int | None) -> None:
    from explainer.adapters.layers import real_positions

    for one, other in zip(clean.tensors, corrupt.tensors, strict=True):
        steps = one.shape[1] if one.ndim > 1 and one.shape == other.shape else 0
        real = [real_positions(arguments, pad_id, steps) for arguments in (clean, corrupt)] if steps else [None, None]
        counts = [None if mask is None else int(mask.sum()) for mask in real]
        if one.shape != other.shape or counts[0] != counts[1]:
            raise InvalidInput(
                f"The clean input is {clean.describe()} once encoded, the corrupt one {corrupt.describe()}"
                + (f", with {counts[0]} and {counts[1]} real positions" if steps else "")
                + ": positions are matched by their number, so both need the same length. Change words for others of as many tokens, or "
                "cut the longer one."
            )


def alike(model: Any, one: Any, other: Any) -> bool:
    """Whether two inputs are of equal length once encoded, so that one can be patched into the other."""
    net = network(model, "patch")
    clean, corrupt = (net.encode(net.canonical(given)) for given in (one, other))
    try:
        _aligned(clean, corrupt, getattr(net.preprocess, "pad_id", None))
    except InvalidInput:
        return False
    return True


def position_names(model: TorchModel, inputs: Any) -> tuple[str, ...]:
    """Names of the positions of one input: its tokens or its time steps; none for images and tables."""
    if model.modality == "series":
        return tuple(f"step {t}" for t in range(len(inputs[0])))
    if model.modality == "text" and hasattr(model.preprocess, "tokens"):
        return tuple(f"{i} {token}" for i, token in enumerate(model.preprocess.tokens(inputs)[0]))
    return ()
