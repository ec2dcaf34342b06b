"""Counterfactuals for tables: the few changes to a row that would have changed what the model says of it."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explainer import frames
from explainer.coalitions import Budget, Clock
from explainer.errors import InvalidInput, unknown
from explainer.explanation import Provenance
from explainer.faults import score_each
from explainer.inputs import take
from explainer.inspection import saving
from explainer.inspection.search import Search
from explainer.inspection.space import Space, same
from explainer.inspection.tables import ROWS_AT_ONCE, rows_of, stamp, tabular
from explainer.model import Model
from explainer.progress import Report, reporter

if TYPE_CHECKING:
    import pandas as pd

EVALUATIONS = 20_000  # per row
ROWS = 5000
_COMPARED = 400  # of the nearest valid rows, among which the answers are chosen
_ALIKE = 0.05  # two answers nearer than this are one
_VARIETY = 1.5  # how much being different from the answers before counts, beside the cost


@dataclass(frozen=True, eq=False)
class Counterfactuals:
    """Rows that differ from an original in little, and that the model answers as asked for.

    Attributes
    ----------
    originals : the rows asked about, ``n``; ``original_scores`` ``(n, outputs)``; ``targets``: what was asked for, in words.
    rows : the counterfactuals, ``m`` in all, of the originals' types; ``instance`` ``(m,)`` says of which original each is.
    scores : the model's scores ``(m, outputs)`` of ``rows``, scored anew from the finished table.
    changed : ``(m, columns)``, True where a row differs from its original.
    distance : sum over columns of the change in median absolute deviations of the data, 1 for another category.
    plausibility : share of data rows that lie at least as far from their own nearest rows as this one: 1 ordinary, 0 like none.
    diversity : per original, how different its counterfactuals are on average, 0 to 1; NaN with fewer than two.
    reasons : per original, why there are fewer than ``k``, or none; "" where all were found.
    """

    originals: pd.DataFrame
    original_scores: np.ndarray
    targets: tuple[str, ...]
    rows: pd.DataFrame
    instance: np.ndarray
    scores: np.ndarray
    changed: np.ndarray
    distance: np.ndarray
    plausibility: np.ndarray
    diversity: np.ndarray
    reasons: tuple[str, ...]
    limits: Mapping[str, Any]
    class_names: tuple[str, ...]
    output: str
    provenance: Provenance

    def __post_init__(self) -> None:
        for array in (self.original_scores, self.instance, self.scores, self.changed, self.distance, self.plausibility, self.diversity):
            array.setflags(write=False)

    def __len__(self) -> int:
        return len(self.originals)

    def of(self, i: int) -> np.ndarray:
        """Positions of original ``i``'s counterfactuals in ``rows``, the best first (near, few changes, like the data)."""
        if not -len(self) <= i < len(self):
            raise IndexError(f"There are {len(self)} originals; {i} is outside 0 to {len(self) - 1}.")
        return np.flatnonzero(self.instance == i % len(self))

    @property
    def changes(self) -> np.ndarray:
        """How many columns each counterfactual changes ``(m,)``."""
        return self.changed.sum(axis=1)

    def to_frame(self) -> pd.DataFrame:
        """Long table: one row per change, with what the column was and what it became."""
        import pandas as pd

        columns = ("instance", "counterfactual", "column", "from", "to", "distance", "plausibility", *self.class_names)
        listed: list[list[Any]] = []
        for i in range(len(self)):
            for number, m in enumerate(self.of(i)):
                for j in np.flatnonzero(self.changed[m]):
                    cells = (str(self.rows.columns[j]), self.originals.iloc[i, j], self.rows.iloc[m, j])
                    listed.append([i, number, *cells, self.distance[m], self.plausibility[m], *self.scores[m]])
        return pd.DataFrame(listed, columns=list(columns))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it as one JSON file."""
        packed: Any = {"originals": frames.packed(self.originals), "rows": frames.packed(self.rows)}
        return saving.save(dataclasses.replace(self, **packed), path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Counterfactuals:
        """Read what :meth:`save` wrote. Raises InvalidInput, CorruptFile."""
        found = saving.load(path, cls.__name__)
        tables = {name: frames.unpacked(found[name]) for name in ("originals", "rows")}
        outputs, columns = len(found["class_names"]), len(tables["originals"].columns)
        kinds = {"instance": np.int64, "changed": bool}
        shapes = {"original_scores": (-1, outputs), "scores": (-1, outputs), "changed": (-1, columns)}
        names = ("original_scores", "instance", "scores", "changed", "distance", "plausibility", "diversity")
        arrays = {name: np.array(found[name], dtype=kinds.get(name, float)).reshape(shapes.get(name, (-1,))) for name in names}
        words = {name: tuple(found[name]) for name in ("targets", "reasons", "class_names")}
        return cls(**{**found, **arrays, **words, **tables, "provenance": saving.provenance(found["provenance"])})


def counterfactuals(
    model: Any,
    rows: Any,
    target: Any = "other",
    *,
    data: Any = None,
    immutable: Sequence[Any] = (),
    monotone: Mapping[Any, str] | None = None,
    ranges: Mapping[Any, Any] | None = None,
    k: int = 3,
    max_changes: int | None = None,
    threshold: float | None = None,
    budget: Any = None,
    seed: int = 0,
    progress: Any = False,
) -> Counterfactuals:
    r"""What would have had to be different, as little as possible, for the model to answer otherwise.

    Among rows that meet the target within the limits, those that are near (sum of changes in median absolute deviations,
    Wachter, Mittelstadt & Russell 2018), change few columns, and lie near the data; then such that differ from the ones before
    (Mothilal, Sharma & Tan 2020). The model is only asked, never looked into: first all rows with one change, two, ... while
    they are few, then the most promising partial changes, then rows of the data that meet the target; each valid row has the
    changes it does not need taken back and its numbers brought near. Whole numbers stay whole, numbers keep the data's
    decimals and range, categories are ones seen in the data. "None" is an answer with its reason, not an error.

    Parameters
    ----------
    target : ``"other"`` (another class than predicted) | class name or index | for a regression ``(low, high)``, None for an
        open end. ``threshold``: the class must reach this probability, beside being the most probable.
    data : rows that stand for the population; by default the model's background. Decides scales, ranges and categories.
    immutable : columns that stay. ``monotone``: ``{"age": "up"}``, columns that only grow ("up") or shrink ("down").
    ranges : ``{"hours": (20, 60)}``, or the categories allowed; by default what the data hold.
    k : how many per row, at most. ``max_changes``: how many columns each may change.
    budget : rows scored per original (20,000), or ``"10s"`` for all together.

    Raises InvalidInput, UnknownName, Unsupported.
    """
    started = time.perf_counter()
    model = tabular(model, "Counterfactuals")
    given = model.canonical(rows).reset_index(drop=True)
    _whole_number("k", k)
    if max_changes is not None:
        _whole_number("max_changes", max_changes)
    spent = Budget(EVALUATIONS) if budget is None else Budget.parse(budget)
    if spent.error is not None:
        raise InvalidInput(f"budget={budget!r}: counterfactuals have no sampling error; pass a number of rows to score, or seconds.")
    frame, _ = rows_of(model, data, ROWS, seed)
    space = Space(frame, given, immutable, monotone or {}, ranges or {})
    scores, faults = score_each(model, given, _output(model))
    if len(faults) == len(given):
        raise InvalidInput(f"None of the {len(given)} rows can be scored; the first: {faults[0]}" if len(given) > 1 else faults[0])
    goals = [_Goal(model, target, threshold, scores[i]) for i in range(len(given))]
    limits = {"immutable": [str(c.name) for c in space.columns if c.fixed], "monotone": dict(monotone or {}),
              "ranges": dict(ranges or {}), "max_changes": max_changes, "threshold": threshold}  # fmt: skip
    found, clock = [], Clock(spent)
    with reporter(progress, "Counterfactuals") as report:
        asked = _Asked(model, report, len(given) * spent.evaluations)
        for i, goal in enumerate(goals):
            left = clock.left
            share = Clock(None if left is None else max(left, 0.0) / (len(goals) - i))
            if i in faults:
                found.append(_none(space, given, len(model.class_names), faults[i]))
            else:
                found.append(_of_one(space, i, given, goal, asked, spent.evaluations, share, max_changes, int(k), limits, scores[i]))
            asked.done((i + 1) * spent.evaluations)
    return _collected(model, given, scores, goals, space, found, limits, frame, seed, asked, started, spent)


@dataclass
class _Found:
    z: np.ndarray
    frame: pd.DataFrame
    scores: np.ndarray
    diversity: float
    reason: str


class _Asked:
    """The model's scores of tables, counted; a row it fails on is NaN."""

    def __init__(self, model: Model, report: Report, total: int) -> None:
        self.model, self.evaluations = model, 0
        self._report, self._total, self._shown = report, total, 0

    def __call__(self, frame: pd.DataFrame) -> np.ndarray:
        parts = []
        for start in range(0, len(frame), ROWS_AT_ONCE):
            parts.append(score_each(self.model, take(frame, slice(start, start + ROWS_AT_ONCE)), _output(self.model))[0])
            self.evaluations += len(parts[-1])
            self._shown = min(self._shown + len(parts[-1]), self._total)
            self._report(self._shown, self._total)
        return np.concatenate(parts)

    def done(self, shown: int) -> None:
        """A row is finished, whether or not it took all it was allowed."""
        self._shown = shown
        self._report(shown, self._total)


class _Goal:
    """When a row is an answer: ``margin(scores)`` is above 0; ``words`` say what was asked for."""

    def __init__(self, model: Model, target: Any, threshold: float | None, own: np.ndarray) -> None:
        self._names, self._own, self._threshold = model.class_names, int(own.argmax()), threshold
        unknown_own = not np.isfinite(own).all()
        self._range: tuple[float, float] | None = None
        self._class: int | None = None
        if threshold is not None and not 0 < threshold < 1:
            raise InvalidInput(f"threshold={threshold!r} is a probability the class must reach; it lies between 0 and 1.")
        if model.task == "regression":
            self._range = _interval(model, target)
            low, high = self._range
            self.words = f"at least {low:g}" if math.isinf(high) else f"at most {high:g}" if math.isinf(low) else f"{low:g} to {high:g}"
            return
        if not (isinstance(target, str) and target == "other" and target not in self._names):
            self._class = _class(target, self._names)
        other = "another class" if unknown_own else f"not {self._names[self._own]}"
        self.words = other if self._class is None else self._names[self._class]
        if threshold is not None:
            self.words += f" with a probability of {threshold:g} or more"

    def margin(self, scores: np.ndarray) -> np.ndarray:
        """By how much each row ``(m, outputs)`` meets the goal; NaN counts as not at all."""
        if self._range is not None:
            # The ends themselves are inside: a margin of exactly 0 must count.
            inside = np.minimum(scores[:, 0] - self._range[0], self._range[1] - scores[:, 0])
            margins = np.where(inside >= 0, np.maximum(inside, np.finfo(float).tiny), inside)
        else:
            others = np.delete(scores, self._own if self._class is None else self._class, axis=1)
            margins = others.max(axis=1) - scores[:, self._own] if self._class is None else scores[:, self._class] - others.max(axis=1)
            if self._threshold is not None:
                best = others.max(axis=1) if self._class is None else scores[:, self._class]
                reached = best - self._threshold
                margins = np.minimum(margins, np.where(reached >= 0, np.maximum(reached, np.finfo(float).tiny), reached))
        return np.where(np.isfinite(margins), margins, -np.inf)

    def met_by(self, scores: np.ndarray) -> bool:
        return bool(self.margin(scores[None])[0] > 0)

    def told(self, scores: np.ndarray) -> str:
        """How near a row's scores ``(outputs,)`` come, in words."""
        if self._range is not None:
            return f"gives {scores[0]:.4g}"
        best = int(np.delete(np.arange(len(scores)), self._own)[np.delete(scores, self._own).argmax()])
        c = best if self._class is None else self._class
        most = int(scores.argmax())
        against = "" if most == c else f" and {self._names[most]} {scores[most]:.3g}"
        return f"gives {self._names[c]} a probability of {scores[c]:.3g}{against}"


def _of_one(
    space: Space, i: int, given: pd.DataFrame, goal: _Goal, asked: _Asked, most: int, clock: Clock, max_changes: int | None, k: int,
    limits: Mapping[str, Any], scores: np.ndarray,
) -> _Found:  # fmt: skip
    own = space.own[i]
    if goal.met_by(scores):
        return _none(space, given, len(scores), f"The model says {goal.words} already; nothing needs to change.")
    search = Search(space, own, lambda z: goal.margin(asked(space.frame(z, i))), most, clock, max_changes)
    search.run()
    z = _varied(space, own, search.valid(), k)
    frame = space.frame(z, i) if len(z) else given.iloc[:0]
    final = asked(frame) if len(z) else np.empty((0, len(scores)))
    held = goal.margin(final) > 0 if len(z) else np.empty(0, dtype=bool)
    z, frame, final = z[held], frame[held].reset_index(drop=True), final[held]
    apart = [_unlike(space, own, a, b[None])[0] for p, a in enumerate(z) for b in z[:p]]
    reason = "" if len(z) == k else _reason(space, given, i, search, goal, asked, limits, len(z), k)
    return _Found(z, frame, final, float(np.mean(apart)) if apart else math.nan, reason)


def _none(space: Space, given: pd.DataFrame, outputs: int, reason: str) -> _Found:
    return _Found(np.empty((0, space.own.shape[1])), given.iloc[:0], np.empty((0, outputs)), math.nan, reason)


def _varied(space: Space, own: np.ndarray, rows: np.ndarray, k: int) -> np.ndarray:
    """Up to ``k`` rows: the cheapest, then each time the best of being cheap and unlike those chosen; the cheapest first."""
    if not len(rows):
        return rows
    rows = rows[:_COMPARED]
    distance = space.distance(rows, own).sum(axis=1)
    lonelier = np.maximum(0, space.lonely(rows) - space.lonely(own[None]))
    cost = distance + (~same(rows, own)).sum(axis=1) + lonelier
    chosen = [int(cost.argmin())]
    apart = _unlike(space, own, rows[chosen[0]], rows)
    while len(chosen) < k and (apart > _ALIKE).any():
        utility = np.where(apart > _ALIKE, cost / cost[chosen[0]] - _VARIETY * apart, np.inf)
        chosen.append(int(utility.argmin()))
        apart = np.minimum(apart, _unlike(space, own, rows[chosen[-1]], rows))
    return rows[sorted(chosen, key=lambda c: (cost[c], c))]


def _unlike(space: Space, own: np.ndarray, row: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """How different answers are, 0 to 1: half for which columns change (Jaccard), half for how far the values lie apart."""
    mine, theirs = ~same(row, own), ~same(rows, own)
    either = np.maximum((mine | theirs).sum(axis=1), 1)
    sets = 1 - (mine & theirs).sum(axis=1) / either
    values = np.minimum(space.distance(rows, row), 1).sum(axis=1) / either
    return (sets + values) / 2


def _reason(
    space: Space, given: pd.DataFrame, i: int, search: Search, goal: _Goal, asked: _Asked, limits: Mapping[str, Any], count: int, k: int
) -> str:
    """Why there are fewer than asked for: what was tried, how near the best came, and which limits there were."""
    if not search.free:
        return "None within these limits: no column may change." + _limits(limits)
    tried = f"{search.tried:,} rows were tried"
    if search.complete:
        some = "one change" if search.complete == 1 else f"up to {search.complete} changes"
        tried += f", among them every combination of {some} to the values of the grid"
    if count:
        return f"{count} of {k} within these limits: {tried}; the others found were too much alike." + _limits(limits)
    miss = search.nearest_miss()
    near = ""
    if miss is not None:
        frame = space.frame(miss[None], i)
        moved = [
            f"{c.name} {_shown(given.iloc[i, j])} → {_shown(frame.iloc[0, j])}"
            for j, c in enumerate(space.columns) if not same(miss[j], space.own[i, j])
        ]  # fmt: skip
        near = f" The nearest ({', '.join(moved) or 'the row as it is'}) {goal.told(asked(frame)[0])}; asked for was {goal.words}."
    more = f" With {search.beyond} changes it can be had: raise max_changes." if search.beyond else ""
    return f"None within these limits: {tried}.{near}{more}" + _limits(limits)


def _limits(limits: Mapping[str, Any]) -> str:
    told = []
    if limits["immutable"]:
        told.append(f"{', '.join(limits['immutable'])} may not change")
    told += [f"{name} may only go {way}" for name, way in limits["monotone"].items()]
    told += [f"{name} is limited to {span}" for name, span in limits["ranges"].items()]
    if limits["max_changes"] is not None:
        told.append(f"at most {limits['max_changes']} change" + ("s" if limits["max_changes"] > 1 else ""))
    return f" Limits: {'; '.join(told)}." if told else ""


def _collected(
    model: Model, given: pd.DataFrame, scores: np.ndarray, goals: Sequence[_Goal], space: Space, found: Sequence[_Found],
    limits: Mapping[str, Any], frame: pd.DataFrame, seed: int, asked: _Asked, started: float, spent: Budget,
) -> Counterfactuals:  # fmt: skip
    import pandas as pd

    filled = [one.frame for one in found if len(one.frame)]
    rows = pd.concat(filled, ignore_index=True) if filled else given.iloc[:0].reset_index(drop=True)
    z = np.concatenate([one.z for one in found])
    instance = np.repeat(np.arange(len(found)), [len(one.z) for one in found])
    own = space.own[instance]
    parameters = {"evaluations": spent.evaluations, "seconds": spent.seconds, "data_rows": len(frame), **limits}
    return Counterfactuals(
        originals=given, original_scores=scores, targets=tuple(goal.words for goal in goals), rows=rows, instance=instance,
        scores=np.concatenate([one.scores for one in found]), changed=~same(z, own),
        distance=np.array([space.distance(a[None], b).sum() for a, b in zip(z, own, strict=True)]),
        plausibility=space.plausibility(z) if len(z) else np.empty(0), diversity=np.array([one.diversity for one in found]),
        reasons=tuple(one.reason for one in found), limits=limits, class_names=model.class_names, output=_output(model),
        provenance=stamp(model, "counterfactuals", given, seed, asked.evaluations, started, parameters),
    )  # fmt: skip


def _output(model: Model) -> str:
    return "raw" if model.task == "regression" else "probability"


def _whole_number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise InvalidInput(f"{name}={value!r}: a whole number from 1 on is needed.")


def _class(target: Any, names: tuple[str, ...]) -> int:
    if isinstance(target, str) and target in names:
        return names.index(target)
    if isinstance(target, (int, np.integer)) and not isinstance(target, bool) and 0 <= target < len(names):
        return int(target)
    raise unknown("target", target, ("other", *names))


def _interval(model: Model, target: Any) -> tuple[float, float]:
    if len(model.class_names) != 1:
        raise InvalidInput(f"{model.name} predicts {len(model.class_names)} numbers; wrap it with the one meant.")
    try:
        low, high = target
        ends = (-math.inf if low is None else float(low), math.inf if high is None else float(high))
    except (TypeError, ValueError):
        raise InvalidInput(f"For a regression, target= is a pair (low, high), None for an open end; {target!r} came.") from None
    if not ends[0] <= ends[1] or ends == (-math.inf, math.inf):
        raise InvalidInput(f"target={target!r} is no range that a prediction could be asked to lie in.")
    return ends


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, (float, np.floating)) else str(value)
