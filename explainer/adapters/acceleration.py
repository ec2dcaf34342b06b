"""Faster passes of a torch module that say the same: each way is tried on the person's own inputs, and kept only if it helps."""

from __future__ import annotations

import copy
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn

from explainer.adapters.pace import kind_of
from explainer.adapters.torch import TorchModel
from explainer.errors import Unsupported, unknown
from explainer.inputs import take

OPTIONS = ("fold_batch_norm", "channels_last", "compile", "bfloat16")
DEFAULT = ("fold_batch_norm", "channels_last")  # no waiting for a compiler, no change of precision
WORTH = 1.1  # a way that gains less is left out
_MEASURED: weakref.WeakKeyDictionary[TorchModel, dict[Any, AcceleratedModel]] = weakref.WeakKeyDictionary()
_ROUNDS = 5
_ROWS = 64


@dataclass(frozen=True)
class Trial:
    """One way that was tried: how much faster, how far the scores moved, and whether it was kept (or why not)."""

    option: str
    speedup: float
    difference: float
    kept: bool
    reason: str


class AcceleratedModel(TorchModel):
    """A copy of a torch model that runs faster; ``trials`` says what was tried. Its fingerprint is the ``original`` module's."""

    trials: tuple[Trial, ...] = ()
    original = ""

    def fingerprint(self) -> str:
        return self.original

    @property
    def kept(self) -> tuple[str, ...]:
        """The ways that were kept."""
        return tuple(t.option for t in self.trials if t.kept)

    @property
    def how_faster(self) -> str:  # type: ignore[override]
        return ", ".join(f"{t.option} ({t.reason})" for t in self.trials if t.kept)

    def raw(self, inputs: Any, at_once: int | None = None) -> np.ndarray:
        if not any(t.kept and t.option == "bfloat16" for t in self.trials):
            return super().raw(inputs, at_once)
        with torch.autocast(self._where.type, dtype=torch.bfloat16):
            return super().raw(inputs, at_once)


def accelerate(model: Any, inputs: Any, *, options: Sequence[str] = DEFAULT, tolerance: float = 1e-5) -> AcceleratedModel:
    """A copy of ``model`` with those ways to run faster that do not change its probabilities by more than ``tolerance``.

    ``options``: "fold_batch_norm" puts batch norms into the convolutions before them, "channels_last" lays pictures out as
    the processor reads them, "compile" builds the module anew (waits for a compiler), "bfloat16" computes in half precision.
    Each is measured on ``inputs`` on top of those kept so far; what gains less than a tenth, or moves a score too far, is
    left out and ``.trials`` says why. The model given is not changed. Raises Unsupported, UnknownName.
    """
    if not isinstance(model, TorchModel):
        raise Unsupported(f"accelerate() is for torch models; {model!r} is seen from outside.")
    for option in options:
        if option not in OPTIONS:
            raise unknown("way to accelerate", option, OPTIONS)
    given = model.canonical(inputs)
    sample = take(given, np.arange(min(_ROWS, max(len(given), 16))) % len(given))
    truth = model.scores(sample)
    current, trials = _twin(model, copy.deepcopy(model.core)), []
    for option in (o for o in OPTIONS if o in options):
        trial, candidate = _try(option, current, sample, truth, tolerance)
        trials.append(trial)
        current = candidate if trial.kept else current
        current.trials = tuple(trials)
    return current


def quickest(model: TorchModel, inputs: Any, wanted: Any) -> AcceleratedModel:
    """:func:`accelerate` as ``explain(accelerate=...)`` asks for it (True, or names), measured once per model and kind of input."""
    options = DEFAULT if wanted is True else (wanted,) if isinstance(wanted, str) else tuple(wanted)
    known, key = _MEASURED.setdefault(model, {}), (kind_of(inputs), options)
    if key not in known:
        known[key] = accelerate(model, inputs, options=options)
    return known[key]


def _try(option: str, current: AcceleratedModel, sample: Any, truth: np.ndarray, tolerance: float) -> tuple[Trial, AcceleratedModel]:
    try:
        candidate = _WAYS[option](current)
        difference = float(np.abs(candidate.scores(sample) - truth).max())
    except Exception as error:  # a way that does not fit this module is no fault of the module's
        first = str(error).strip().splitlines()[0][:120] if str(error).strip() else "no message"
        return Trial(option, 0.0, float("nan"), False, f"does not fit this module ({type(error).__name__}: {first})"), current
    if not difference <= tolerance:
        return Trial(option, 0.0, difference, False, f"moves a score by {difference:.2g}; {tolerance:.2g} is allowed"), current
    speedup = _speedup(lambda: current.raw(sample), lambda: candidate.raw(sample))
    if speedup < WORTH:
        return Trial(option, speedup, difference, False, f"{speedup:.2f} times as fast: not worth it"), current
    return Trial(option, speedup, difference, True, f"{speedup:.2f} times as fast, scores within {difference:.1g}"), candidate


def _speedup(before: Callable[[], Any], after: Callable[[], Any]) -> float:
    """Median over rounds in turn of how many times as fast ``after`` is."""
    ratios = []
    for _ in range(_ROUNDS):
        seconds = []
        for call in (before, after):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
        ratios.append(seconds[0] / seconds[1])
    return float(np.median(ratios))


def _twin(model: TorchModel, module: nn.Module) -> AcceleratedModel:
    twin: Any = model.on(module)
    if not isinstance(twin, AcceleratedModel):
        twin.__class__ = _accelerated(type(model))
        twin.original = TorchModel.fingerprint(model)
    return twin


@cache
def _accelerated(kind: type[TorchModel]) -> type[AcceleratedModel]:
    """What a model of this kind can do beside its scores, such as explain one word or one token, its faster copy can."""
    return type(f"Accelerated{kind.__name__}", (kind, AcceleratedModel), {}) if kind is not TorchModel else AcceleratedModel


def _folded(model: AcceleratedModel) -> AcceleratedModel:
    from torch.fx.experimental.optimization import fuse

    if not any(isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)) for m in model.core.modules()):
        raise Unsupported("it has no batch norm")
    return _twin(model, fuse(copy.deepcopy(model.core).eval()))


def _channels_last(model: AcceleratedModel) -> AcceleratedModel:
    if not any(isinstance(m, nn.Conv2d) for m in model.core.modules()):
        raise Unsupported("it has no two-dimensional convolution")
    return _twin(model, copy.deepcopy(model.core).to(memory_format=torch.channels_last))  # type: ignore[call-overload]


def _compiled(model: AcceleratedModel) -> AcceleratedModel:
    return _twin(model, torch.compile(copy.deepcopy(model.core).eval(), dynamic=True))  # type: ignore[arg-type]


def _bfloat16(model: AcceleratedModel) -> AcceleratedModel:
    twin = _twin(model, model.module)
    twin.trials = (*twin.trials, Trial("bfloat16", 0.0, 0.0, True, "on trial"))
    return twin


_WAYS: dict[str, Callable[[AcceleratedModel], AcceleratedModel]] = {
    "fold_batch_norm": _folded, "channels_last": _channels_last, "compile": _compiled, "bfloat16": _bfloat16,
}  # fmt: skip
