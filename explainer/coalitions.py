"""The coalition engine: the one place that scores on/off designs.

``engine(i, masks)`` gives the target's value for each coalition of instance ``i``; ``engine.gather`` those of many instances
in one stream of full batches. Batching, the memory of coalitions already seen, retry after out-of-memory, the count of
evaluations, budget, progress, stopping and the faults of a model live here and nowhere else.

What could not be scored is NaN: coalitions after the person or the clock said stop (``engine.stopped`` says which), and all
coalitions of an instance on which the model failed (``engine.failed`` says how). A method works with the rows it has.

The same seed asks the same coalitions in the same batches: how many rows a model takes at once is measured once and remembered
(:mod:`explainer.adapters.pace`); the clock decides only when to stop and when to report, between the batches of the model.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from explainer.adapters.pace import Ladder
from explainer.errors import Cancelled, InvalidInput
from explainer.faults import Dead, Hangs, Unreachable, model_scores, out_of_memory, reason, score_each, within
from explainer.features.base import Features
from explainer.inputs import sha256, take
from explainer.progress import Report
from explainer.scored import Kept, Scored, distinct, keys_of
from explainer.target import Target

EVALUATIONS = 2048
USED_UP = "of the budget were used up"
_MOST_EVALUATIONS = 50_000
_BYTES_AT_ONCE = 2**26  # of model rows built at once, whatever the model takes
_LONG = 32  # batches of unequal inputs built together, so that a model that sorts them by length pads little
_COMPOSED_FROM = 2**22  # bytes of rows asked for, from which trying pays whether they can be put together after encoding
_MEASURED_FROM = 1024  # model rows asked for at once, from which measuring the batch size pays
_FLUSH_SECONDS = 5.0
_PATIENCE = 0.5  # seconds between two looks at the clock and at the person
_TURNS = 16
_GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class Budget:
    """How long to sample: evaluations per instance, seconds in all, or until the 95 % error of each instance is small enough."""

    evaluations: int
    seconds: float | None = None
    error: float | None = None

    @property
    def adaptive(self) -> bool:
        """Whether sampling stops by the clock or the error rather than by a count."""
        return self.seconds is not None or self.error is not None

    @staticmethod
    def parse(budget: Any) -> Budget:
        """Read None, an int, ``"500 evals"``, ``"10s"`` or ``"1% error"``. Raises InvalidInput."""
        if budget is None:
            return Budget(EVALUATIONS)
        if isinstance(budget, Budget):
            return budget
        if isinstance(budget, (int, np.integer)) and not isinstance(budget, bool) and budget > 0:
            return Budget(int(budget))
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(evals?|evaluations|s|sec|seconds|%\s*error)\s*", str(budget))
        if match is None or float(match[1]) <= 0:
            raise InvalidInput(f"budget={budget!r} is not understood; use an int, '500 evals', '10s' or '1% error'.")
        number, unit = float(match[1]), match[2]
        if unit.startswith("e"):
            return Budget(max(1, int(number)))
        if unit.startswith("s"):
            return Budget(_MOST_EVALUATIONS, seconds=number)
        return Budget(_MOST_EVALUATIONS, error=number / 100)


def spread_out(parts: list[np.ndarray]) -> list[np.ndarray]:
    """Batches that are sorted by length, in an order of which every beginning holds all lengths: first the two ends, with the empty and
    the full coalition, and always the k-th longest after the k-th shortest, where its complements are.
    """
    half = len(parts) // 2
    order = np.argsort(np.argsort(np.arange(half) * _GOLDEN % 1))
    middle = [half] if len(parts) % 2 else []
    return [parts[j] for j in [*(j for k in order for j in (k, len(parts) - 1 - k)), *middle]]


class Clock:
    """Whether the seconds given are used up; without seconds it never is."""

    def __init__(self, budget: Budget | float | None) -> None:
        seconds = budget.seconds if isinstance(budget, Budget) else budget
        self._end = None if seconds is None else time.perf_counter() + seconds

    @property
    def left(self) -> float | None:
        return None if self._end is None else self._end - time.perf_counter()

    @property
    def over(self) -> bool:
        return self._end is not None and time.perf_counter() >= self._end


def rounds(size: int, first: int = 0) -> Iterator[slice]:
    """The parts of ``size`` that are done in turn for several instances: a first one (a sixteenth), then twice as much each time."""
    start, stop = 0, first or -(-size // _TURNS)
    while start < size:
        yield slice(start, min(stop, size))
        start, stop = stop, 2 * stop


@dataclass(frozen=True)
class _Ask:
    """The coalitions of one request that must be scored (``first``: where they stand), and how to answer with them."""

    keys: np.ndarray
    first: Any
    known: tuple[np.ndarray, np.ndarray] | None
    back: np.ndarray | None
    asked: int

    def spread(self, fresh: np.ndarray) -> np.ndarray:
        """The values of all coalitions asked for, in their order, from those just scored."""
        if self.known is None or self.back is None:
            return fresh
        values, new = self.known
        values[new] = fresh
        return values[self.back]


class Coalitions:
    """Scores of coalitions of one batch of inputs, on one target and output scale.

    ``kept`` resumes from, and adds to, what an earlier run scored. ``time_limit``: seconds one batch may take in the model
    before it counts as hanging; the instances it hangs on are tried again alone, and then named.
    """

    def __init__(
        self,
        model: Any,
        inputs: Any,
        features: Features,
        target: Target,
        output: str,
        *,
        budget: Budget | None = None,
        report: Report | None = None,
        kept: Kept | None = None,
        time_limit: float | None = None,
    ) -> None:
        self.model = model
        self.inputs = inputs
        self.features = features
        self.target = target
        self.output = output
        self.budget = budget or Budget(EVALUATIONS)
        self.evaluations = 0
        self.used: Counter[int] = Counter()  # evaluations of each instance's own coalitions and rows
        self.failed: dict[int, str] = {}
        self.stopped = ""
        self.cancelled = False
        self._rows_of: Callable[[Sequence[tuple[int, np.ndarray]]], Any] = features.rows_of
        self._tried = False  # whether the model was asked for a composer of rows
        self._clock = Clock(self.budget.seconds)
        self._report = report or (lambda done, total: None)
        self._total = 0
        self._time_limit = time_limit
        self._patience = _PATIENCE if time_limit is None else min(_PATIENCE, time_limit / 4)
        self._kept = kept
        self._known: dict[int, Scored] = kept.read() if kept else {}
        self._flushed = time.perf_counter()
        self._batch: int | None = None
        self._batches: dict[bool, int] = {}
        self._under_way = 0  # evaluations of the request being scored
        self._seconds_per_row = 0.0
        self._ladder = None if model.framework == "torch" else Ladder(model, inputs, self._patience)
        self._fewer: int | None = None  # rows at once, since memory ended

    # -- what methods ask ----------------------------------------------------------------------------------------------

    def plan(self, evaluations: int) -> None:
        """Tell the progress bar how many coalitions will be asked for in all."""
        self._total = evaluations

    def __call__(self, i: int, masks: np.ndarray) -> np.ndarray:
        """Target values ``(m, k)`` of coalitions ``masks`` (m, players) bool; each different coalition is scored once."""
        return self.gather([(i, masks)])[0]

    def gather(self, asks: Sequence[tuple[int, np.ndarray]], *, in_turn: bool = False) -> list[np.ndarray]:
        """The values of several instances' coalitions ``(i, masks)``, scored in one stream: full batches across instances.

        ``in_turn``: the beginning of each before the rest of any, so that a stop leaves something for all.
        """
        asked = [self._unknown(i, masks) for i, masks in asks]
        fresh = [(i, masks[:0] if i in self.failed else masks[ask.first]) for ask, (i, masks) in zip(asked, asks, strict=True)]
        results = []
        for ask, (i, masks), values in zip(asked, fresh, self._stream(fresh, in_turn), strict=True):
            if len(masks):
                self._remember(i, ask.keys, masks, values)
            results.append(np.full((ask.asked, self.target.k), np.nan) if i in self.failed else ask.spread(values))
        return results

    def _unknown(self, i: int, masks: np.ndarray) -> _Ask:
        known = self._known.setdefault(i, Scored())
        keys = keys_of(masks)
        if not known and distinct(keys):  # the common case: a design without repetitions
            return _Ask(keys, slice(None), None, None, len(masks))
        unique, first, back = np.unique(keys, return_index=True, return_inverse=True)
        values = known.find(unique, self.target.k)
        new = np.flatnonzero(np.isnan(values).any(axis=1))
        # In the order asked, so that what is known after a stop is the beginning of the design.
        new = new[np.argsort(first[new], kind="stable")]
        return _Ask(unique[new], first[new], (values, new), back.reshape(-1), len(masks))

    def score_rows(self, i: int, rows: Any, repeats: int = 1) -> np.ndarray:
        """Target values ``(m, k)`` of model inputs made by the caller; ``repeats`` of them count as one evaluation."""
        if i in self.failed:
            return np.full((len(rows), self.target.k), np.nan)
        scores, fault = self._in_batches(rows, repeats)
        self.used[i] += len(rows) // repeats
        told = np.isfinite(scores).all(axis=1)
        if not told.all() and not self.stopped:
            why = self._not_finite(int((~told).sum()), len(told), i) if fault is None else reason(fault)
            return self._lost([(i, told[:, None])], why)[0]
        values = np.full((len(rows), self.target.k), np.nan)
        values[told] = self.target(scores[told], i)
        return values

    def score_outputs(self, rows: Any, i: int | None = None) -> np.ndarray:
        """Scores ``(m, outputs)`` on the output scale, before the target, of rows made for instance ``i``, or for no one instance.

        Rows the model fails on are NaN; where it answers none any more, the instance has failed, or all the work is stopped.
        """
        if i in self.failed:
            return np.full((len(rows), len(self.model.class_names)), np.nan)
        scores, fault = self._in_batches(rows, 1)
        if i is not None:
            self.used[i] += len(rows)
        if isinstance(fault, Dead) and i is not None:
            self.failed[i] = reason(fault)
        elif isinstance(fault, Dead):
            self.stopped = reason(fault)
        return scores

    def forget(self, i: int) -> None:
        """Drop what is known of instance ``i``, when its explanation is done."""
        self._known.pop(i, None)

    def close(self) -> None:
        """Write what is still to be kept; called however the run ends."""
        if self._kept:
            self._kept.flush()

    def clock(self, left: int) -> Clock:
        """The share of the budget's seconds for one of the ``left`` instances still to be explained."""
        remaining = self._clock.left
        return Clock(None if remaining is None else max(0.0, remaining) / max(1, left))

    # -- scoring -------------------------------------------------------------------------------------------------------

    def _stream(self, asks: list[tuple[int, np.ndarray]], in_turn: bool) -> list[np.ndarray]:
        results = [self._unscored(masks) for _, masks in asks]
        rows = max(self._total, sum(map(len, results))) * self.features.repeats
        if not self._tried and asks and rows * self.features.row_bytes(asks[0][0]) >= _COMPOSED_FROM:
            self._tried = True
            self._compose()
        for chunk in self._chunks(asks, in_turn):
            if self._halted():
                break
            whole = [one for one in chunk if asks[one[0]][0] not in self.failed]
            pieces = [(asks[ask][0], asks[ask][1][start:stop]) for ask, start, stop in whole]
            for (ask, start, stop), values in zip(whole, self._score(pieces) if pieces else (), strict=True):
                results[ask][start:stop] = values
            self._tick()
        return results

    def _compose(self) -> None:
        """Have rows put together after encoding, where the model can; an encoder that hangs is met, and named, where rows are scored."""
        try:
            composer = within(self._time_limit, lambda: self.model.composer(self.features))
        except Hangs:
            return
        if composer is not None:
            self._rows_of = composer.rows

    def _chunks(self, asks: list[tuple[int, np.ndarray]], in_turn: bool) -> Iterator[list[tuple[int, int, int]]]:
        """Pieces ``(ask, start, stop)`` that together make about as many model rows as are scored at once."""
        total, repeats = sum(len(masks) for _, masks in asks) * self.features.repeats, self.features.repeats
        chunk: list[tuple[int, int, int]] = []
        rows = 0
        for ask, start, end in self._order(asks, in_turn, total):
            while start < end:
                most = self._at_once(total, self.features.row_bytes(asks[ask][0]))
                room = max(1, (most - rows) // repeats)
                if rows and rows + repeats > most:
                    yield chunk
                    chunk, rows = [], 0
                    continue
                stop = min(end, start + room)
                chunk.append((ask, start, stop))
                rows += (stop - start) * repeats
                start = stop
        if chunk:
            yield chunk

    def _order(self, asks: list[tuple[int, np.ndarray]], in_turn: bool, total: int) -> list[tuple[int, int, int]]:
        """What is scored after what: one ask after the other, or where a batch does not hold all, a part of each in turn."""
        sizes = [len(masks) for _, masks in asks]
        if not in_turn or len(asks) < 2 or not total or total <= self._at_once(total, self.features.row_bytes(asks[0][0])):
            return [(ask, 0, size) for ask, size in enumerate(sizes)]
        return [(ask, part.start, min(part.stop, size)) for part in rounds(max(sizes)) for ask, size in enumerate(sizes)]

    def _at_once(self, total: int, row_bytes: int) -> int:
        """How many model rows to build and score at once; the same for the same request, so that its bits are too."""
        measured = total >= _MEASURED_FROM
        if measured not in self._batches:
            self._batches[measured] = self.model.rows_at_once(self.inputs, measured)
        most = self._batch = self._batches[measured]
        if self._ladder is not None:
            most = min(most, self._ladder.rows)
        if self._clock.left is not None and self._seconds_per_row:
            most = min(most, int(max(self._clock.left, 0) / self._seconds_per_row))
        if isinstance(self.inputs, list) and self._ladder is None:
            most *= _LONG
        return max(1, min(most, _BYTES_AT_ONCE // max(1, row_bytes), self._fewer or most))

    def _score(self, pieces: list[tuple[int, np.ndarray]]) -> list[np.ndarray]:
        """Values ``(m, k)`` per piece. Short of memory, the pieces are halved; an instance the model fails on is named."""
        repeats = self.features.repeats
        try:
            scores, asked = self._scores_of(self._rows_of(pieces), repeats)
        except Unreachable:
            raise
        except MemoryError:
            return self._halved(pieces)
        except Exception as error:
            if out_of_memory(error):
                return self._halved(pieces)
            if isinstance(error, Hangs) and self._halted():
                return [self._unscored(masks) for _, masks in pieces]
            if len(pieces) > 1:  # who is at fault shows when each is scored alone
                return [self._unscored(piece[1]) if self._halted() else self._score([piece])[0] for piece in pieces]
            return self._lost(pieces, reason(error))
        finite = bool(np.isfinite(scores).all())  # so it is where all rows were asked and the model does as it should
        values, start = [], 0
        for i, masks in pieces:
            rows = slice(start, start + len(masks) * repeats)
            values.append(self._means(i, scores[rows]) if finite else self._known_of(i, scores[rows], asked[rows]))
            start = rows.stop
        return values

    def _means(self, i: int, scores: np.ndarray) -> np.ndarray:
        """Values ``(m, k)`` of instance ``i``'s coalitions from the scores of their rows."""
        repeats = self.features.repeats
        size = len(scores) // repeats
        self.evaluations += size
        self.used[i] += size
        each = np.asarray(self.target(scores, i))
        return each if repeats == 1 else each.reshape(size, repeats, -1).mean(axis=1)

    def _known_of(self, i: int, scores: np.ndarray, asked: np.ndarray) -> np.ndarray:
        """The same, NaN for coalitions not all of whose rows were asked, and for all where the model gave no number."""
        repeats = self.features.repeats
        known = np.asarray(asked.reshape(-1, repeats).all(axis=1))
        own = scores[np.repeat(known, repeats)]
        values, bad = np.full((len(known), self.target.k), np.nan), int((~np.isfinite(own)).any(axis=1).sum())
        if bad:
            self.evaluations += len(own) // repeats
            self.used[i] += len(own) // repeats
            self.failed.setdefault(i, self._not_finite(bad, len(own), i))
        elif len(own):
            values[known] = self._means(i, own)
        return values

    def _halved(self, pieces: list[tuple[int, np.ndarray]]) -> list[np.ndarray]:
        size = sum(len(masks) for _, masks in pieces)
        if size == 1:
            raise MemoryError(f"Memory does not hold one coalition of instance {pieces[0][0]} ({self.features.repeats} rows of the model).")
        self._fewer = max(self.features.repeats, size * self.features.repeats // 2)
        if len(pieces) > 1:
            half = len(pieces) // 2
            return self._score(pieces[:half]) + self._score(pieces[half:])
        i, masks = pieces[0]
        half = len(masks) // 2
        return [np.concatenate([self._score([(i, part)])[0] for part in (masks[:half], masks[half:])])]

    def _in_batches(self, rows: Any, repeats: int) -> tuple[np.ndarray, Exception | None]:
        """Scores ``(m, outputs)`` of rows that are built already, NaN after a stop and where the model fails; and how it fails."""
        content = sha256(rows) if self._kept else ""
        kept = self._kept.rows(content) if self._kept else None
        if kept is not None:
            return kept, None
        scores = np.full((len(rows), len(self.model.class_names)), np.nan)
        fault: Exception | None = None
        start = 0
        while start < len(rows) and not self._halted():
            stop = min(len(rows), start + self._at_once(len(rows), 1))
            part = take(rows, slice(start, stop))
            asked = np.ones(len(part), dtype=bool)
            try:
                scores[start:stop], asked = self._scores_of(part, repeats)
            except Exception as error:
                if out_of_memory(error) and len(part) > 1:
                    self._fewer = len(part) // 2
                    continue
                scores[start:stop], faults = score_each(self.model, part, self.output, self._limit, self._halted)
                if isinstance(error, Hangs) and faults and not self._halted():
                    dead = not np.isfinite(scores[start:stop]).any()
                    fault = (Dead if dead else Hangs)(next(iter(faults.values())))
                elif faults:
                    fault = error
            self.evaluations += int(asked.sum()) // repeats
            start = stop
            self._tick()
            if isinstance(fault, Dead):
                break
        if self._kept:
            self._kept.add_rows(content, scores)
        return scores, fault

    def _scores_of(self, rows: Any, repeats: int) -> tuple[np.ndarray, np.ndarray]:
        """Scores ``(m, outputs)``, batch by batch of the model's own, and which rows ``(m,)`` were asked before a stop."""
        parts = list(self.model.batches(rows, self._batch)) if isinstance(rows, list) else []  # of equal rows no more are built at once
        if len(parts) < 2:
            return self._asked(rows), np.ones(len(rows), dtype=bool)
        scores, asked = np.full((len(rows), len(self.model.class_names)), np.nan), np.zeros(len(rows), dtype=bool)
        try:
            for number, part in enumerate(spread_out(parts)):
                if number:
                    self._tick()
                    if self._halted():
                        break
                scores[part] = self._asked(take(rows, part))
                asked[part] = True
                self._under_way = int(asked.sum()) // repeats
        finally:
            self._under_way = 0
        return scores, asked

    def _asked(self, rows: Any) -> np.ndarray:
        start = time.perf_counter()
        scores = model_scores(self.model, rows, self.output, self._limit, self._batch)
        seconds = max(time.perf_counter() - start, 1e-9)
        self._seconds_per_row = seconds / len(rows)
        if self._ladder is not None:
            self._ladder.climb(len(rows), seconds)
        return scores

    @property
    def _limit(self) -> float | None:
        """Seconds the model may take for a batch: what the person allowed, and not much beyond the end of the budget."""
        if self._time_limit is None or self._clock.left is None:
            return self._time_limit
        return min(self._time_limit, max(self._clock.left, self._patience))

    def _unscored(self, masks: np.ndarray) -> np.ndarray:
        return np.full((len(masks), self.target.k), np.nan)

    # -- stopping and faults -------------------------------------------------------------------------------------------

    def _halted(self) -> bool:
        if not self.stopped and self._clock.over:
            self.stopped = f"The {self.budget.seconds:g} s {USED_UP} after {self.evaluations + self._under_way} evaluations."
        return bool(self.stopped)

    def _tick(self) -> None:
        done = self.evaluations + self._under_way
        try:
            self._report(done, max(self._total, done))
        except Cancelled as stop:
            self.stopped, self.cancelled = f"Stopped after {done} evaluations ({stop}).", True
        if self._kept and time.perf_counter() - self._flushed > _FLUSH_SECONDS:
            self._kept.flush()
            self._flushed = time.perf_counter()

    def _lost(self, pieces: list[tuple[int, np.ndarray]], why: str) -> list[np.ndarray]:
        for i, _ in pieces:
            self.failed.setdefault(i, why)
        return [self._unscored(masks) for _, masks in pieces]

    def _not_finite(self, bad: int, of: int, i: int) -> str:
        return (
            f"The model gave no finite score for {bad} of {of} perturbed copies of instance {i} ({self.features.absence}). "
            "Choose another baseline= or background= that the model can score."
        )

    def _remember(self, i: int, keys: np.ndarray, masks: np.ndarray, values: np.ndarray) -> None:
        self._known.setdefault(i, Scored()).add(keys, values)
        if self._kept:
            told = np.isfinite(values).all(axis=1)
            self._kept.add(i, masks[told], values[told])
