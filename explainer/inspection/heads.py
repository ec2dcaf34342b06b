"""Head importance: what the score loses without one attention head, or how it reacts to turning that head down."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from explainer.errors import InvalidInput, Unsupported, unknown
from explainer.explanation import Provenance
from explainer.inputs import take
from explainer.inspection import saving
from explainer.inspection.network import followed
from explainer.inspection.tables import scale_of, stamp
from explainer.progress import reporter
from explainer.target import Target, resolve, shared

if TYPE_CHECKING:
    import pandas as pd

    from explainer.adapters.taps import AttentionLayer
    from explainer.adapters.torch import TorchModel

KINDS = ("ablation", "gradient")


@dataclass(frozen=True, eq=False)
class HeadImportance:
    """What each attention head does to a score, on average over inputs.

    Attributes
    ----------
    values : ``(layers, heads)``. Ablation: mean fall of the target's score when the head hands on nothing, in the score's
        unit; negative where the head held the score down. Gradient: mean size of the score's derivative by the head's mask.
        NaN where a layer has fewer heads than another.
    stderr : standard error of that mean over the inputs; NaN for a single input.
    low, high : ends of the 95 % interval over inputs (Student's t).
    layers : what each layer is, in order of running: attention, or cross-attention.
    """

    values: np.ndarray
    stderr: np.ndarray
    low: np.ndarray
    high: np.ndarray
    layers: tuple[str, ...]
    kind: str
    target: str
    output: str
    rows: int
    provenance: Provenance

    def __post_init__(self) -> None:
        for array in (self.values, self.stderr, self.low, self.high):
            array.setflags(write=False)

    def to_frame(self) -> pd.DataFrame:
        """One row per head, the most important (by size) first."""
        import pandas as pd

        layer, head = np.nonzero(np.isfinite(self.values))
        cells = {name: getattr(self, source)[layer, head] for name, source in _COLUMNS.items()}
        frame = pd.DataFrame({"layer": layer, "head": head, "kind": [self.layers[k] for k in layer], **cells})
        return frame.iloc[np.argsort(-np.abs(frame["importance"].to_numpy()), kind="stable")].reset_index(drop=True)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it as one JSON file."""
        return saving.save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> HeadImportance:
        """Read what :meth:`save` wrote. Raises InvalidInput, CorruptFile."""
        found = saving.load(path, cls.__name__)
        arrays = {name: np.array(found[name], dtype=float) for name in _COLUMNS.values()}
        return cls(**{**found, **arrays, "layers": tuple(found["layers"]), "provenance": saving.provenance(found["provenance"])})


_COLUMNS = {"importance": "values", "stderr": "stderr", "low": "low", "high": "high"}


def head_importance(
    model: Any,
    inputs: Any,
    target: Any = "predicted",
    *,
    kind: Literal["ablation", "gradient"] = "ablation",
    output: str = "auto",
    progress: Any = False,
) -> HeadImportance:
    r"""How much each attention head matters to a score, on average over ``inputs``.

    "ablation": mean of ``f(x) - f(x without the head)``, the head's share of what its layer hands on held at 0; one pass over
    the inputs per head. "gradient": mean of ``|d f / d xi|`` at ``xi = 1``, the head's share multiplied by ``xi``; one pass in
    all, to first order. Michel, Levy & Neubig 2019, arXiv:1905.10650, who take the gradient of the loss: pass
    ``target=labels, output="logit"`` or a function of the scores for that.

    Parameters
    ----------
    target, output : as in :func:`explainer.explain`; one number per input.

    Fused kernels included; heads are turned off in this thread alone, and the module is as it was afterwards. Raises
    Unsupported without attention, or where what a head hands on cannot be told from its neighbours'; InvalidInput, UnknownName.
    """
    started = time.perf_counter()
    if kind not in KINDS:
        raise unknown("kind of head importance", kind, KINDS)
    model = followed(model, "Head importance", inputs)
    given, scale = model.canonical(inputs), scale_of(model, output)
    goal = resolve(target, model.scores(given, scale), model.class_names, model.told(given))
    if goal.k != 1:
        raise InvalidInput("Head importance follows one number per input; name one target instead of target='all'.")
    effects = _Effects(model, scale, goal)
    with reporter(progress, "Head importance") as report:
        measured = _over(effects, given, effects.ablated if kind == "ablation" else effects.differentiated, report)
    values, stderr, reach = _averaged(measured)
    return HeadImportance(
        values=values, stderr=stderr, low=values - reach, high=values + reach, layers=effects.layers, kind=kind,
        target=shared(goal.labels, str(target) if isinstance(target, str) else "each input's own"), output=scale,
        rows=len(given),
        provenance=stamp(model, "head importance", given, 0, effects.evaluations, started, {"kind": kind, "output": scale}),
    )  # fmt: skip


def has_heads(model: TorchModel, inputs: Any) -> None:
    """Raises Unsupported where no head can be told from its neighbours on canonical ``inputs``."""
    with model.scoring():
        _Effects(model, scale_of(model, "raw"), resolve(0, model.scores(inputs), model.class_names)).caught(model.encode(inputs))


class _Effects:
    """What the heads do to the target on one batch, ``(n, layers, heads)``."""

    def __init__(self, model: TorchModel, output: str, goal: Target) -> None:
        self.model, self.output, self.goal = model, output, goal
        self.layers: tuple[str, ...] = ()
        self.evaluations = 0

    def caught(self, arguments: Any) -> tuple[Any, dict[int, AttentionLayer]]:
        """Scores and layers by their number, proved to be those of the untouched module; gates over experts have no heads."""
        from explainer.adapters.taps import MIXTURE
        from explainer.methods.capture import capture

        scores, tap = capture(self.model, arguments)
        layers = {number: layer for number, layer in enumerate(tap.layers) if layer.source != MIXTURE}
        self.layers = tuple("cross-attention" if layer.cross else "attention" for layer in layers.values())
        self.evaluations += 2 * len(arguments)
        if not layers or any(layer.mixed is None for layer in layers.values()):
            raise Unsupported(
                f"{type(self.model.core).__name__} computes attention weights, but no product of them with values was seen, so a head "
                "cannot be turned off. Use torch.matmul or scaled_dot_product_attention in the module."
            )
        return scores, layers

    def ablated(self, arguments: Any, rows: np.ndarray, report: Callable[[float], None]) -> np.ndarray:
        """The fall of the score without each head."""
        import torch

        from explainer.adapters.taps import AttentionTap

        with self.model.differentiating():
            _, layers = self.caught(arguments)
            heads = {number: layer.heads for number, layer in layers.items()}
            del layers
        falls = np.full((len(rows), len(heads), max(heads.values())), np.nan)
        with self.model.scoring():
            whole = self._values(self.model.forward(arguments, core=True), rows)
            for place, number, head in [(p, k, h) for p, (k, count) in enumerate(heads.items()) for h in range(count)]:
                gate = torch.ones(heads[number])
                gate[head] = 0
                with AttentionTap(len(arguments), {number: gate}):
                    without = self.model.forward(arguments, core=True)
                falls[:, place, head] = whole - self._values(without, rows)
                self.evaluations += len(rows)
                report(1 / sum(heads.values()))
        return falls

    def differentiated(self, arguments: Any, rows: np.ndarray, report: Callable[[float], None]) -> np.ndarray:
        """The size of the derivative by each head's mask: what it hands on, times the gradient by that."""
        from explainer.methods.capture import gradients_by

        with self.model.differentiating():
            scores, layers = self.caught(arguments)
            mixed = [layer.mixed for layer in layers.values() if layer.mixed is not None]
            gradients, size = gradients_by(self.model, scores, self.goal, self.output, rows, mixed)
            slopes = np.full((len(rows), len(layers), max(layer.heads for layer in layers.values())), np.nan)
            for number, (layer, one, gradient) in enumerate(zip(layers.values(), mixed, gradients, strict=True)):
                slopes[:, number, : layer.heads] = 0
                if gradient is not None:
                    product = (one.detach() * gradient).double().reshape(len(rows), layer.windows, layer.heads, -1)
                    slopes[:, number, : layer.heads] = product.sum((1, 3)).abs().cpu().numpy() * size[:, None]
        report(1.0)
        return slopes

    def _values(self, scores: Any, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self.goal(self.model.rescale(scores.double().cpu().numpy(), self.output), rows))[:, 0]


def _over(effects: _Effects, given: Any, measure: Callable[..., np.ndarray], report: Callable[[int, int], None]) -> np.ndarray:
    """``measure`` over all batches: ``(n, layers, heads)``."""
    from explainer.methods.capture import rows_at_once

    measured: np.ndarray | None = None
    done = 0.0
    for rows in effects.model.batches(given, rows_at_once(effects.model, given)):

        def step(share: float, count: int = len(rows)) -> None:
            nonlocal done
            done += share * count
            report(round(done), len(given))

        found = measure(effects.model.encode(take(given, rows)), rows, step)
        measured = np.empty((len(given), *found.shape[1:])) if measured is None else measured
        if found.shape[1:] != measured.shape[1:]:
            raise Unsupported("The number of attention layers or heads differs from input to input; measure inputs of one kind at a time.")
        measured[rows] = found
    assert measured is not None
    return measured


def _averaged(measured: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over inputs, its standard error, and the reach of its 95 % interval."""
    from scipy.stats import t

    n = len(measured)
    mean = measured.mean(0)
    stderr = measured.std(0, ddof=1) / np.sqrt(n) if n > 1 else np.full_like(mean, np.nan)
    return mean, stderr, stderr * (float(t.ppf(0.975, n - 1)) if n > 1 else np.nan)
