"""The logit lens: what a stack of blocks would say if it stopped after each block."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explainer.errors import Unsupported
from explainer.explanation import Provenance
from explainer.inputs import take
from explainer.inspection import saving
from explainer.inspection.network import followed, layers_of
from explainer.inspection.patching import position_names
from explainer.inspection.tables import scale_of, stamp
from explainer.progress import reporter

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from explainer.adapters.layers import Layers, View
    from explainer.adapters.torch import TorchModel

INPUT = "input"


@dataclass(frozen=True, eq=False)
class LogitLens:
    """The scores read off after each block.

    Attributes
    ----------
    layers : "input" (the state that enters the first block, where it has the same shape), then every block.
    scores : ``(n, layers, outputs)``; the last layer's are the model's own.
    tokens, chances : where the head scores every position (a language model), per input ``(layers, positions)``: the output
        with the highest probability there, and that probability; else empty.
    positions : per input the names of its tokens.
    """

    layers: tuple[str, ...]
    scores: np.ndarray
    labels: tuple[str, ...]
    output: str
    tokens: tuple[np.ndarray, ...]
    chances: tuple[np.ndarray, ...]
    positions: tuple[tuple[str, ...], ...]
    provenance: Provenance

    def __post_init__(self) -> None:
        for array in (self.scores, *self.tokens, *self.chances):
            array.setflags(write=False)

    @property
    def settled(self) -> np.ndarray:
        """Per input, the number of the layer from which on the output with the highest score stays what it is at the end."""
        same = self.scores.argmax(2) == self.scores[:, -1:].argmax(2)
        return same.shape[1] - np.cumprod(same[:, ::-1], axis=1).sum(1)

    def to_frame(self) -> pd.DataFrame:
        """Long table: one row per input, layer and output."""
        import pandas as pd

        index = pd.MultiIndex.from_product([range(len(self.scores)), self.layers, self.labels], names=["instance", "layer", "output"])
        return pd.DataFrame({"score": self.scores.reshape(-1)}, index=index).reset_index()

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it as one JSON file."""
        return saving.save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LogitLens:
        """Read what :meth:`save` wrote. Raises InvalidInput, CorruptFile."""
        found = saving.load(path, cls.__name__)
        read = {
            "layers": tuple(found["layers"]), "labels": tuple(found["labels"]), "scores": np.array(found["scores"], dtype=float),
            "tokens": tuple(np.array(one) for one in found["tokens"]),
            "chances": tuple(np.array(one, dtype=float) for one in found["chances"]),
            "positions": tuple(tuple(one) for one in found["positions"]), "provenance": saving.provenance(found["provenance"]),
        }  # fmt: skip
        return cls(**{**found, **read})


def logit_lens(model: Any, inputs: Any, *, layers: Any = None, output: str = "probability", progress: Any = False) -> LogitLens:
    r"""What the model would say after each block: :math:`head(norm(h_l))`, the state handed straight to what follows the stack.

    The state after block l takes the place of the last block's output, and the model's own final norm, pooler and head do the
    rest (nostalgebraist 2020; for classifiers the same idea). Early states were never trained to be read by that head: a layer
    that says nothing may still hold everything (Belrose et al. 2023).

    Parameters
    ----------
    layers : the blocks, in their order, of one width; by default the stack of like blocks found in the module. Where the first
        is a single layer and no block, what enters it is not read.

    Raises Unsupported where there is no such stack or its states differ in shape; UnknownName.
    """
    started = time.perf_counter()
    net = followed(model, "Logit lens", inputs)
    given = net.canonical(inputs)
    found = layers_of(net, given)
    blocks = readable(found, layers)
    scale = scale_of(net, output)
    reader = _Reader(found, blocks, scale)
    scores: np.ndarray | None = None
    tokens: list[Any] = [None] * len(given)
    chances: list[Any] = [None] * len(given)
    done = 0
    with reporter(progress, "Logit lens") as report, net.scoring():
        for rows in net.batches(given, 32):
            batch, said = reader(take(given, rows))
            if scores is None:
                scores = np.empty((len(given), *batch.shape[1:]))
            scores[rows] = batch
            for i, row in enumerate(rows):
                if said is not None:
                    tokens[row], chances[row] = (one[:, i][:, said[2][i]] for one in said[:2])
            done += len(rows)
            report(done, len(given))
    assert scores is not None
    per_token = bool(reader.head)
    return LogitLens(
        layers=reader.layers, scores=scores, labels=net.class_names, output=scale,
        tokens=tuple(tokens) if per_token else (), chances=tuple(chances) if per_token else (),
        positions=tuple(position_names(net, take(given, [i])) for i in range(len(given))) if net.modality in ("text", "series") else (),
        provenance=stamp(net, "logit lens", given, 0, len(given) * (len(blocks) + 1), started, {"layers": blocks}),
    )  # fmt: skip


def readable(found: Layers, layers: Any) -> list[str]:
    blocks = found.named(layers) if layers is not None else found.blocks()
    if len(blocks) < 2:
        raise Unsupported(
            f"{type(found.model.core).__name__} shows no stack of like blocks whose states could be read one by one. Name the layers "
            f"after which to read, of one shape: layers=[...], among {', '.join(list(found.calls)[:25])}."
        )
    shapes = {name: (found.calls[name].units, found.calls[name].positions) for name in blocks}
    odd = [name for name in blocks if shapes[name] != shapes[blocks[-1]]]
    if odd:
        raise Unsupported(
            f"The layer {odd[0]!r} gives {shapes[odd[0]]} (units, positions), the last one {blocks[-1]!r} gives {shapes[blocks[-1]]}: what "
            "follows the last cannot read the other. Name layers of one shape."
        )
    return blocks


class _Reader:
    """Scores of one batch after each block."""

    def __init__(self, found: Layers, blocks: list[str], scale: str) -> None:
        self.found, self.blocks, self.scale = found, blocks, scale
        self.layers: tuple[str, ...] = tuple(blocks)
        last, stack = list(found.calls.values())[-1], found.calls[blocks[-1]]
        ends = [call for call in found.calls.values() if call.leaf][-1]
        self.head = ends.name if ends.positions and ends.positions == stack.positions and last.units >= ends.units else ""

    def __call__(self, inputs: Any) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray] | None]:
        model: TorchModel = self.found.model
        arguments = model.encode(inputs)
        states: dict[str, Tensor] = {}

        def keep(name: str) -> Callable[[View], None]:
            return lambda seen: states.update({name: seen.values.clone()})

        if not self.found.calls[self.blocks[0]].leaf:
            self.found.run(arguments, {self.blocks[0]: keep(INPUT)}, entering=True)
        self.found.run(arguments, {name: keep(name) for name in self.blocks})
        if INPUT in states and states[INPUT].shape != states[self.blocks[-1]].shape:
            del states[INPUT]
        order = [name for name in (INPUT, *self.blocks) if name in states]
        self.layers = tuple(order)
        scores, said = [], []
        for name in order:
            heard: list[View] = []
            do: dict[str, Any] = {self.blocks[-1]: lambda seen, name=name: None if name == self.blocks[-1] else states[name]}
            if self.head:
                do[self.head] = lambda seen, heard=heard: heard.append(seen)
            scores.append(model.rescale(self.found.run(arguments, do).double().cpu().numpy(), self.scale))
            said.extend(heard)
        return np.stack(scores, axis=1), self._said(said) if self.head else None

    def _said(self, heard: list[View]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        best = [view.values.double().softmax(-1).max(-1) for view in heard]
        which = np.stack([found.indices.cpu().numpy() for found in best])
        chance = np.stack([found.values.cpu().numpy() for found in best])
        real = heard[0].real
        kept = np.ones(which.shape[1:], dtype=bool) if real is None else real.cpu().numpy()
        return self._words(which, heard[0].values.shape[-1]), chance, kept

    def _words(self, which: np.ndarray, outputs: int) -> np.ndarray:
        """Names of outputs: the model's classes, the tokeniser's pieces, or their numbers."""
        model = self.found.model
        tokenizer: Any = getattr(model.preprocess, "tokenizer", None)
        numbers = np.unique(which)
        if len(model.class_names) == outputs:
            names = [model.class_names[i] for i in numbers]
        elif hasattr(tokenizer, "convert_ids_to_tokens"):
            names = [str(word) for word in tokenizer.convert_ids_to_tokens([int(i) for i in numbers])]
        else:
            names = [str(i) for i in numbers]
        return np.array(names, dtype=object)[np.searchsorted(numbers, which)]
