"""What drives a model over many rows: mean sizes of contributions, or the loss each column saves (SAGE), with intervals."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from explainer.coalitions import EVALUATIONS, USED_UP, Budget, Clock
from explainer.errors import Cancelled, InvalidInput, Unsupported, unknown
from explainer.explanation import Explanation, Provenance, versions
from explainer.inspection import saving
from explainer.inspection.stream import Stream
from explainer.model import Model, wrap
from explainer.pipeline import explain
from explainer.progress import reporter
from explainer.target import shared

if TYPE_CHECKING:
    import pandas as pd

BY_PERSON = "Stopped by the person"
KINDS = ("mean_abs", "sage")
_TIMED = 16
FEWEST = 30  # rows before an early stop may believe its own interval
# The mean |value| of a part that does nothing is all noise; correcting once leaves at most this share of its standard error.
_LEFT_OVER = 0.47


@dataclass(frozen=True, eq=False)
class Importance:
    r"""One importance per named part (column, group, word, channel), over ``rows`` rows.

    Attributes
    ----------
    values : mean \|value\|, corrected for noise, or with ``kind="sage"`` the mean loss that knowing the part saves.
    stderr, low, high : standard error and ends of the 95 % interval of ``values``.
    mean, mean_stderr : the same for the signed values; equal to ``values`` with ``kind="sage"``.
    noise : mean standard error of the single values; 0 where they are exact.
    counts : rows each part stands in (a word is not in every text).
    losses : with ``kind="sage"``, the mean loss with no part known and with all; the values sum to their difference.
    complete : False when the person stopped it, or the seconds ended, and ``rows`` is what was done until then; the notes say which.
    """

    names: tuple[str, ...]
    values: np.ndarray
    stderr: np.ndarray
    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    mean_stderr: np.ndarray
    noise: np.ndarray
    counts: np.ndarray
    rows: int
    kind: str
    target: str
    output: str
    provenance: Provenance
    losses: tuple[float, float] | None = None
    complete: bool = True

    def __post_init__(self) -> None:
        for field in (self.values, self.stderr, self.low, self.high, self.mean, self.mean_stderr, self.noise, self.counts):
            field.setflags(write=False)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def order(self) -> np.ndarray:
        """Positions of the parts, the most important first."""
        return np.argsort(-np.abs(self.values), kind="stable")

    def of(self, parts: Sequence[int] | np.ndarray) -> Importance:
        """The same for these parts alone."""
        arrays = ("values", "stderr", "low", "high", "mean", "mean_stderr", "noise", "counts")
        return replace(self, names=tuple(self.names[i] for i in parts), **{name: getattr(self, name)[parts] for name in arrays})

    def to_frame(self) -> pd.DataFrame:
        """One row per part, the most important first."""
        import pandas as pd

        columns = {
            "feature": list(self.names), "importance": self.values, "stderr": self.stderr, "low": self.low, "high": self.high,
            "mean": self.mean, "mean_stderr": self.mean_stderr, "noise": self.noise, "rows": self.counts,
        }  # fmt: skip
        return pd.DataFrame(columns).iloc[self.order].reset_index(drop=True)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it as one JSON file."""
        return saving.save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Importance:
        """Read what :meth:`save` wrote. Raises InvalidInput, CorruptFile."""
        found = saving.load(path, cls.__name__)
        arrays = {k: np.array(found[k], dtype=float) for k in ("values", "stderr", "low", "high", "mean", "mean_stderr", "noise")}
        losses = None if found["losses"] is None else (found["losses"][0], found["losses"][1])
        whole = {"names": tuple(found["names"]), "counts": np.array(found["counts"], dtype=np.int64), "losses": losses}
        return cls(**{**found, **arrays, **whole, "provenance": saving.provenance(found["provenance"])})


def importance(
    model: Any,
    data: Any,
    *,
    labels: Any = None,
    kind: str = "mean_abs",
    method: str = "shap",
    target: Any = "auto",
    output: str = "auto",
    baseline: Any = "auto",
    background: Any = None,
    features: Any = "auto",
    budget: Any = None,
    batch: int = 64,
    seed: int = 0,
    progress: Any = False,
    **method_parameters: Any,
) -> Importance:
    r"""What drives the model over many rows, each figure with a 95 % interval.

    ``kind="mean_abs"``: the mean of :math:`|\phi_{ij}|` over rows i, for the values of ``method``. A value known up to its
    standard error s is too large in size on average, by

    .. math:: b(\phi, s) = s\sqrt{2/\pi}\,e^{-\phi^2 / 2s^2} + |\phi|\,\mathrm{erf}(|\phi| / s\sqrt 2) - |\phi|

    (the folded normal), which is taken off; at most 0.47 s is left, for a part that does nothing. The standard error is
    :math:`\sqrt{S^2 / n + \bar s^2}` with S the standard deviation over rows: all rows share their coalitions and their
    background, so the sampling error is taken not to average out.

    ``kind="sage"``: the Shapley value of the reduction in loss (cross-entropy, or squared error of a regression) by knowing
    a column; Covert, Lundberg & Lee (2020), with antithetic pairs of orders per row (all coalitions where the budget
    allows), absent columns taking the background rows' values. Its standard error is that over rows, order included.

    Parameters
    ----------
    data : inputs as ``explain`` takes them; an iterable of such batches; or the path of a csv, tsv, parquet or jsonl file,
        read in parts. Neither the rows nor their values are kept.
    labels : the label column of ``data``, or one label per row (class name or index, or number); for ``kind="sage"``.
    target : as in ``explain``; "auto" is the second of two classes, the predicted one of more.
    budget : evaluations per row (256 for sage), or for the whole work "10s" or "1% error": reading stops when every 95 %
        interval is within that share of the largest importance. When the seconds end, the rows begun count with what is known of
        them: the interval has their larger errors.
    batch : rows scored together; it changes no result.

    Stopped by Ctrl-C, or by a progress callable that raises Cancelled, it gives what is known so far.
    Raises InvalidInput, UnknownName, Unsupported.
    """
    from explainer.inspection.sage import Losses

    started = time.perf_counter()
    if kind not in KINDS:
        raise unknown("kind of importance", kind, KINDS)
    model = model if isinstance(model, Model) else wrap(model)
    limits = Budget.parse(budget)
    cut = {"baseline": baseline, "background": background, "features": features, "seed": seed}
    given = None if budget is None or limits.adaptive else limits.evaluations
    scorer: _Scorer
    if kind == "sage":
        _only_for_mean_abs(
            method=(method, "shap"),
            target=(target, "auto"),
            output=(output, "auto"),
            **{k: (v, None) for k, v in method_parameters.items()},
        )
        scorer = Losses(model, labels, given, **cut)
    else:
        goal = _target(model, target)
        scorer = _Sizes(model, method, {"target": goal, "output": output, "budget": given, **cut, **method_parameters})
    # Against the clock few rows are begun at once, so that those are known well.
    together = batch if limits.seconds is None or isinstance(batch, bool) else min(batch, _TIMED)
    stream = Stream(model, data, labels if kind == "sage" else None, batch=together, shuffle=seed if limits.adaptive else None)
    with reporter(progress, f"importance ({kind})") as report:
        tally, ended = _run(scorer, stream, limits, report)
    return _freeze(model, kind, scorer, stream, tally, limits, ended, seed, time.perf_counter() - started)


def summarise(ex: Explanation) -> Importance:
    """The importance that explanations already made add up to, as :func:`importance` has it."""
    sizes, tally = _Sizes(None, ex.method, {}), Tally(3)
    for row in sizes.read(ex):
        tally.add(*row)
    return _summary(tally, "mean_abs", sizes.target, sizes.output, ex.provenance)


class Tally:
    """Running means and variances (Welford 1962) of several quantities per named part, one row at a time: the batch leaves no trace."""

    def __init__(self, quantities: int) -> None:
        self.names: dict[str, int] = {}
        self.counts = np.zeros(0, dtype=np.int64)
        self.mean = np.zeros((quantities, 0))
        self._squares = np.zeros((quantities, 0))
        self.rows = self.lost = 0

    def add(self, names: Sequence[str], quantities: np.ndarray) -> None:
        """One row: ``quantities`` (quantities, cells); cells of one name are summed. A row without finite values is counted as lost."""
        if not quantities.size or not np.isfinite(quantities).all():
            self.lost += 1
            return
        self.rows += 1
        where, cell = np.unique([self.names.setdefault(name, len(self.names)) for name in names], return_inverse=True)
        summed = np.stack([np.bincount(cell, weights=one, minlength=len(where)) for one in quantities])
        more = len(self.names) - len(self.counts)
        if more:
            self.counts = np.pad(self.counts, (0, more))
            self.mean, self._squares = (np.pad(array, ((0, 0), (0, more))) for array in (self.mean, self._squares))
        self.counts[where] += 1
        delta = summed - self.mean[:, where]
        self.mean[:, where] += delta / self.counts[where]
        self._squares[:, where] += delta * (summed - self.mean[:, where])

    @property
    def error(self) -> np.ndarray:
        """Standard error of each mean over rows, NaN for a single row."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.sqrt(self._squares / (self.counts - 1) / self.counts)


class _Scorer(Protocol):
    quantities: int
    evaluations: int
    target: str
    output: str
    parameters: dict[str, Any]
    notes: tuple[str, ...]
    method: str

    def __call__(self, rows: Any, labels: Any, start: int, report: Any, seconds: float | None) -> list[tuple[Sequence[str], np.ndarray]]:
        """Per row the names of its cells and ``(quantities, cells)``; NaN for a row that ``seconds`` did not suffice for."""
        ...


class _Sizes:
    """Contributions of one method: size, value and standard error of each cell."""

    quantities = 3

    def __init__(self, model: Any, method: str, arguments: dict[str, Any]) -> None:
        self._model, self._arguments, self.method = model, arguments, method
        self.evaluations, self.target, self.output = 0, "", ""
        self.parameters: dict[str, Any] = {}
        self.notes: tuple[str, ...] = ()

    def __call__(self, rows: Any, labels: Any, start: int, report: Any, seconds: float | None) -> list[tuple[Sequence[str], np.ndarray]]:
        timed = {} if seconds is None else {"budget": Budget(EVALUATIONS, seconds=seconds)}
        ex = explain(self._model, rows, self.method, verify=False, progress=report, **{**self._arguments, **timed})
        self.evaluations += ex.provenance.evaluations
        return self.read(ex)

    def read(self, ex: Explanation) -> list[tuple[Sequence[str], np.ndarray]]:
        if ex.axes[-1] == "output":
            raise InvalidInput("An importance is about one target; pass a class, 'predicted', or a margin instead of 'all'.")
        if ex.modality == "image":
            raise Unsupported(
                "The parts of one picture are not those of another, so there is no mean over pictures. Explain them one by one."
            )
        names = set(ex.target)
        self.target, self.output, self.method = (
            shared(names | {self.target} - {""}, "predicted class"),
            ex.output,
            ex.method,
        )
        self.parameters = dict(ex.provenance.parameters)
        self.notes = tuple(note for note in ex.provenance.notes if USED_UP not in note)  # said of the whole work, not of a batch
        found: list[tuple[Sequence[str], np.ndarray]] = []
        for one in ex:
            values = one.values[0].ravel()
            errors = np.zeros_like(values) if one.stderr is None else one.stderr[0].ravel()
            found.append((_cells(one), np.stack([np.abs(values) - excess(values, errors), values, errors])))
        return found


def excess(values: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """By how much the size of ``values`` known up to ``errors`` is too large on average: the folded normal's mean less the size."""
    from scipy.special import erf

    size = np.abs(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(errors > 0, size / errors, np.inf)
    return np.where(errors > 0, errors * math.sqrt(2 / math.pi) * np.exp(-(ratio**2) / 2) + size * (erf(ratio / math.sqrt(2)) - 1), 0.0)


def _cells(one: Explanation) -> list[str]:
    """The name under which each value of one instance is summed up: column, word (lower case, without marks), or channel."""
    names, size = one.feature_names[0], one.values[0].size
    by_channel = one.modality == "series" and one.axes[-1] == "channel"
    if len(names) != size and not by_channel:
        axes = " x ".join(one.axes[1:])
        raise Unsupported(
            f"An importance is one number per part, and {one.method} gives values by {axes} here. Use another method or layer."
        )
    if one.axes[1] == "unit":
        return list(names)
    if one.modality == "text":
        return [re.sub(r"^\W+|\W+$", "", name.lower()) or name for name in names]
    if not by_channel:
        return list(names)
    channels = list(getattr(one.model, "feature_names", ())) or [f"channel {c}" for c in range(one.values.shape[2])]
    return channels * (size // len(channels))


def _target(model: Model, target: Any) -> Any:
    if not (isinstance(target, str) and target == "auto"):
        return target
    return 1 if len(model.class_names) == 2 and model.task == "classification" else "predicted"


def _only_for_mean_abs(**given: tuple[Any, Any]) -> None:
    for name, (value, default) in given.items():
        if value is not default and not (isinstance(value, str) and value == default):
            raise InvalidInput(f"{name}={value!r} is for kind='mean_abs'; SAGE explains the loss of the model's own output. Leave it out.")


class _Watch:
    """Progress in rows; it remembers that the person stopped, which the engine may answer by values that are missing."""

    def __init__(self, report: Any, total: int | None) -> None:
        self._report, self._total = report, total
        self.stopped, self.done, self.rows = False, 0, 0

    def __call__(self, done: int, total: int) -> None:
        reached = self.done + min(self.rows, self.rows * done // max(total, 1))
        try:
            self._report(reached, max(self._total or 0, self.done + self.rows))
        except (Cancelled, KeyboardInterrupt):
            self.stopped = True
            raise


def _run(scorer: _Scorer, stream: Stream, limits: Budget, report: Any) -> tuple[Tally, str]:
    """Read to the end or to the limit, or until the person (who drops the batch in flight) or the clock stops it: says which."""
    tally, clock, watch = Tally(scorer.quantities), Clock(limits.seconds), _Watch(report, stream.total)
    try:
        for rows, labels in stream:
            if clock.over:
                return _timed_out(tally, stream, limits)
            watch.rows = len(rows)
            try:
                found = scorer(rows, labels, watch.done, watch, clock.left)
            except InvalidInput:
                if clock.over:  # none of the rows of this batch is known
                    return _timed_out(tally, stream, limits)
                raise
            if watch.stopped:
                raise Cancelled("The importance was stopped.")
            for names, quantities in found:
                if np.isfinite(quantities).all() or not clock.over:
                    tally.add(names, quantities)
            watch.done, watch.rows = watch.done + len(rows), 0
            watch(1, 1)
            if limits.error is not None and tally.rows >= FEWEST and _reached(tally) <= limits.error:
                break
    except (Cancelled, KeyboardInterrupt):
        if tally.rows < 2:
            raise
        return tally, f"{BY_PERSON} after {tally.rows} rows."
    if clock.over:
        return _timed_out(tally, stream, limits)
    if not tally.rows:
        raise InvalidInput(f"None of the {tally.lost} rows gave finite values; the model cannot be scored on them.")
    return tally, ""


def _timed_out(tally: Tally, stream: Stream, limits: Budget) -> tuple[Tally, str]:
    of = f" of {stream.total:,}" if stream.total is not None and stream.in_memory else ""
    if not tally.rows:
        raise InvalidInput(f"The {limits.seconds:g} s {USED_UP} before any row had values; allow more of them.")
    after = f"{tally.rows:,}{of} rows; the last of them may be known less precisely"
    return tally, f"The {limits.seconds:g} s {USED_UP} after {after}."


def _reached(tally: Tally) -> float:
    """Half the widest interval, as a share of the largest importance."""
    values, stderr = tally.mean[0], _total_error(tally)
    return float((_half(stderr, tally.counts)).max() / max(np.abs(values).max(), 1e-300))


def _total_error(tally: Tally) -> np.ndarray:
    """Over rows, and the mean sampling error of the single values where there is one."""
    return tally.error[0] if len(tally.mean) == 1 else np.hypot(tally.error[0], tally.mean[2])


def _half(stderr: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Half the 95 % interval by Student's t."""
    from scipy.special import stdtrit

    return np.asarray(stdtrit(np.maximum(counts - 1, 1), 0.975)) * stderr


def _summary(tally: Tally, kind: str, target: str, output: str, provenance: Provenance, **more: Any) -> Importance:
    values, stderr = tally.mean[0].copy(), _total_error(tally)
    half = _half(stderr, tally.counts)
    signed = kind == "sage"
    if not signed:  # taking the noise off can overshoot, a size cannot
        values = np.maximum(values, 0.0)
    low = values - half
    return Importance(
        names=tuple(tally.names), values=values, stderr=stderr, low=low if signed else np.maximum(low, 0.0), high=values + half,
        mean=values.copy() if signed else tally.mean[1].copy(),
        mean_stderr=stderr.copy() if signed else np.hypot(tally.error[1], tally.mean[2]),
        noise=np.zeros_like(values) if signed else tally.mean[2].copy(),
        counts=tally.counts.copy(), rows=tally.rows, kind=kind, target=target, output=output, provenance=provenance, **more,
    )  # fmt: skip


def _freeze(
    model: Model, kind: str, scorer: _Scorer, stream: Stream, tally: Tally, limits: Budget, ended: str, seed: int, seconds: float
) -> Importance:
    notes = list(scorer.notes)
    if tally.lost:
        notes.append(f"{tally.lost} of {tally.rows + tally.lost} rows gave no finite values and are left out.")
    if ended:
        notes.append(ended)
    if tally.rows == 1:
        notes.append("One row has no spread, so there are no intervals.")
    elif limits.error is not None and not ended and not _reached(tally) <= limits.error:
        notes.append(
            f"The data ended before every 95 % interval was within {limits.error:.3g} of the largest; {_reached(tally):.2g} was reached."
        )
    if limits.adaptive and not stream.in_memory:
        notes.append("The rows were taken as they came; if the file is sorted, an early stop has seen only its beginning.")
    if kind == "mean_abs" and tally.mean[2].max() > 0:
        left = _LEFT_OVER * tally.mean[2].max()
        notes.append(f"Sampled values: noise is taken off the mean size; at most {left:.2g} of it may be left in a part that does nothing.")
    provenance = Provenance(
        method=kind if kind == "sage" else scorer.method, parameters={"kind": kind, **scorer.parameters}, seed=seed,
        evaluations=scorer.evaluations, seconds=seconds, device=str(model.device), versions=versions("torch", "scikit-learn"),
        model_sha256=model.fingerprint(), inputs_sha256=stream.sha256, notes=tuple(notes),
    )  # fmt: skip
    return _summary(tally, kind, scorer.target, scorer.output, provenance, losses=getattr(scorer, "losses", None), complete=not ended)
