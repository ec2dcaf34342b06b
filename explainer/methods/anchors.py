"""Anchors: a rule under which the prediction hardly ever changes (Ribeiro, Singh & Guestrin 2018)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from explainer.coalitions import EVALUATIONS, Coalitions
from explainer.errors import InvalidInput
from explainer.explanation import Check, grade
from explainer.methods.attribution import Attribution
from explainer.methods.bins import Bins
from explainer.methods.rules import Draws, clopper_pearson, search

PRECISION, BEAM, PARTS = 0.95, 4, 8
TOLERANCE = 0.5  # of the value's standard deviation over perturbed copies, where there is no class to keep
_WIDE = (0.05, 0.15)  # half the interval of the precision: up to the first passes, up to the second warns
_FEWEST = 8  # copies scored, for any values at all


def anchors(
    model: Any,
    inputs: Any,
    target: Any,
    *,
    coalitions: Coalitions,
    background: Any,
    seed: int,
    precision: float = PRECISION,
    beam: int = BEAM,
    parts: int = PARTS,
    tolerance: float | None = None,
) -> Attribution:
    r"""A shortest rule ``A``, at most ``parts`` parts kept, with :math:`P_{z \sim D(\cdot | A)}[f(z) \text{ agrees with } f(x)]`
    at least ``precision``, and how much each of its parts adds to that probability.

    ``D``: columns of a table are drawn on their own from the background's bins (numbers: quartiles), those of the rule stay in
    the input's bin; other parts are kept with probability 1/2, those of the rule always. "Agrees": a class is, or is not, the
    predicted one as before; of a margin the same side is ahead; any other value (regression, a function) moves by at most
    ``tolerance``, which is half its standard deviation over ``D`` unless given.

    Rules grow part by part, ``beam`` at a time, and are told apart by KL-LUCB (Kaufmann & Kalyanakrishnan 2013); a copy drawn
    under one rule counts for every longer rule that it happens to satisfy. The precision told is measured afterwards, on a
    quarter of the budget drawn afresh, with its 95 % interval (Clopper & Pearson 1934). ``extras``: "rule" in words,
    "precision", "precision interval", "coverage" (the share of background rows under the rule; for other inputs of perturbed
    copies) and "anchor" (which parts are in it). Values sum to the rule's precision less that of no rule. Standard errors are
    those of the counts. With several outputs each has a rule, and a budget, of its own.

    Raises InvalidInput for limits out of range, a budget too small for any rule, or a table without background.
    """
    _check(precision, beam, parts, tolerance)
    evaluations = EVALUATIONS if coalitions.budget.adaptive else coalitions.budget.evaluations
    if evaluations < 4 * _FEWEST:
        raise InvalidInput(
            f"budget={evaluations} is too small for a rule: {4 * _FEWEST} copies per input are the fewest, and about {_enough(precision)} "
            f"are enough to show a precision of {precision:.0%}."
        )
    features, n, k = coalitions.features, len(inputs), coalitions.target.k
    space = _rows(coalitions, background, inputs, model.name) if model.modality == "tabular" else _Copies(coalitions, inputs)
    coalitions.plan(n * k * evaluations)
    at_input = coalitions.score_outputs(inputs)
    limits = _Limits(precision, beam, parts, evaluations, coalitions.budget.error)
    values, errors, checks, told = [], [], [], []
    for i in range(n):
        rules = [_anchor(space, coalitions, at_input[i], i, j, limits, tolerance, seed) for j in range(k)]
        shape = (*features.shape(i), k)
        gains = np.stack([rule.gains for rule in rules], axis=-1).reshape(shape)
        values.append(np.full_like(gains, np.nan) if i in coalitions.failed else gains)
        errors.append(np.stack([rule.errors for rule in rules], axis=-1).reshape(shape))
        checks.append({check.name: check for check in (_precision_check(rules, precision), _width_check(rules, limits.error), _JUDGED)})
        told.append(_extras(rules, shape))
    return Attribution(
        values,
        features.axes,
        [features.names(i) for i in range(n)],
        stderr=errors,
        evaluations=coalitions.evaluations,
        checks=checks,
        extras={key: [one[key] for one in told] for key in told[0]},
        parameters={"precision": precision, "beam": beam, "parts": parts, "tolerance": tolerance, "absence": space.absence},
        faults={i: _NONE for i, one in enumerate(checks) if one["precision"].reason == _NONE and not coalitions.stopped},
    )


_NONE = "Too few perturbed copies could be scored to find a rule."
_JUDGED = Check("faithfulness", "not run", "A rule is judged by how often it holds, which is measured on copies drawn for that alone.")


def _enough(precision: float) -> int:
    """The budget whose quarter, all copies agreeing, has an interval that begins at ``precision``."""
    return 4 * math.ceil(math.log(0.025) / math.log(precision))


@dataclass(frozen=True)
class _Limits:
    precision: float
    beam: int
    parts: int
    evaluations: int
    error: float | None

    @property
    def measured(self) -> int:
        """Copies for the last word on the precision: a quarter of all, or as many as the error asked for takes."""
        if self.error is not None:
            return int(min(50_000, np.ceil(0.25 * (1.96 / self.error) ** 2)))
        # 73 that agree are the fewest whose interval ends above 0.95.
        return max(self.evaluations // 4, min(self.evaluations // 2, 73))


@dataclass(frozen=True)
class _Rule:
    """What was found for one output of one input; ``gains``, ``errors`` and ``members`` per part."""

    gains: np.ndarray
    errors: np.ndarray
    members: np.ndarray
    words: str
    precision: float
    interval: tuple[float, float]
    coverage: float
    found: bool


def _check(precision: float, beam: int, parts: int, tolerance: float | None) -> None:
    if not 0 < precision < 1:
        raise InvalidInput(f"precision={precision}: a probability between 0 and 1 is needed, such as 0.95.")
    if beam < 1 or parts < 1:
        raise InvalidInput(f"beam={beam}, parts={parts}: both must be at least 1.")
    if tolerance is not None and not tolerance > 0:
        raise InvalidInput(f"tolerance={tolerance}: a distance above 0 is needed, or None for half a standard deviation.")


def _anchor(
    space: Any, coalitions: Coalitions, at_input: np.ndarray, i: int, j: int, limits: _Limits, tolerance: float | None, seed: int
) -> _Rule:
    """Search on one part of the budget, and measure on another."""
    d = space.players(i)
    nothing, nowhere = np.zeros(d), np.full(d, np.nan)
    none = _Rule(nowhere, nowhere, nothing > 0, "", float("nan"), (0.0, 1.0), float("nan"), False)
    if not np.isfinite(at_input).all():
        return none
    agreement = _Agreement(coalitions, i, j, at_input, tolerance)
    # The draws depend on the seed and the number of parts only, so an input has the same rule in any batch.
    rng = np.random.default_rng([seed, d])

    def draw(rules: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        kept, scores = space.draw(i, rules, rng)
        told = np.isfinite(scores).all(axis=1)
        return rules[told], kept[told], agreement(scores[told])

    kept, scores = space.first(i, limits.evaluations // 4, seed)
    told = np.isfinite(scores).all(axis=1)
    if told.sum() < _FEWEST:
        return none
    agreement.learn(scores[told])
    draws = Draws(np.zeros((int(told.sum()), d), dtype=bool), kept[told], agreement(scores[told]))
    left = limits.evaluations - len(kept) - limits.measured
    order, found = search(draws, draw, space.live(i), lambda rules: space.coverage(i, rules), limits, left)
    members = nothing > 0
    members[order] = True
    fresh = draw(np.broadcast_to(members, (limits.measured, d)))[2]
    hits, total = draws.along(order)
    if len(fresh):
        hits[-1], total[-1] = fresh.sum(), len(fresh)
    low, high = clopper_pearson(int(fresh.sum()), len(fresh))
    precisions = hits / np.maximum(total, 1)
    smooth = (hits + 1) / (total + 2)
    variance = smooth * (1 - smooth) / np.maximum(total, 1)
    gains, errors = nothing.copy(), nothing.copy()
    gains[order], errors[order] = np.diff(precisions), np.sqrt(variance[1:] + variance[:-1])
    words = f"if {space.words(i, members)}, then {agreement.words}"
    coverage = float(space.coverage(i, members[None])[0])
    return _Rule(gains, errors, members, words, float(precisions[-1]), (low, high), coverage, found)


class _Agreement:
    """Whether scores say the same as those of input ``i``, for the ``j``-th functional of the target."""

    def __init__(self, coalitions: Coalitions, i: int, j: int, at_input: np.ndarray, tolerance: float | None) -> None:
        self._coalitions, self._i, self._j, self._tolerance = coalitions, i, j, tolerance
        self._at = at_input
        self._value = float(self._values(at_input[None])[0])
        names = coalitions.model.class_names
        weights = None if coalitions.model.task == "regression" else self._weights(len(names))
        self._class = self._margin = None
        if weights is not None and sorted(weights)[-2:] == [0, 1] and (weights != 0).sum() == 1:
            self._class = int(weights.argmax())
            same = int(at_input.argmax()) == self._class
            self.words = f"the prediction stays {names[self._class]}" if same else f"the prediction does not become {names[self._class]}"
        elif weights is not None and abs(weights.sum()) < 1e-12:
            self._margin = np.sign(self._value)
            ahead, behind = names[int((weights * self._margin).argmax())], names[int((weights * self._margin).argmin())]
            self.words = f"{ahead} stays ahead of {behind}"

    def learn(self, scores: np.ndarray) -> None:
        """Take the tolerance from scores of perturbed copies, where it is needed and not given."""
        if self._class is None and self._margin is None:
            if self._tolerance is None:
                self._tolerance = TOLERANCE * float(self._values(scores).std())
            self.words = f"the value stays within {self._tolerance:.3g} of {self._value:.3g}"

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        if self._class is not None:
            return (scores.argmax(axis=1) == self._class) == (self._at.argmax() == self._class)
        values = self._values(scores)
        if self._margin is not None:
            return np.sign(values) == self._margin
        assert self._tolerance is not None
        # A constant value has no spread, and rounding must not count as a change.
        return np.abs(values - self._value) <= self._tolerance + 1e-9 * max(1.0, abs(self._value))

    def _values(self, scores: np.ndarray) -> np.ndarray:
        return np.asarray(self._coalitions.target(scores, self._i))[:, self._j] if len(scores) else np.zeros(0)

    def _weights(self, outputs: int) -> np.ndarray | None:
        """The functional as weights of the outputs; a caller's function has them if it acts as they do."""
        try:
            weights = self._values(np.eye(outputs))
            probe = np.random.default_rng(0).random((8, outputs))
            return weights if np.allclose(self._values(probe), probe @ weights, atol=1e-9) else None
        except Exception:  # a function made for these scores alone
            return None


class _Copies:
    """Parts that are there or not: those outside a rule are kept with probability 1/2."""

    def __init__(self, coalitions: Coalitions, inputs: Any) -> None:
        self._coalitions, self._features = coalitions, coalitions.features
        self.absence = coalitions.features.absence

    def players(self, i: int) -> int:
        return self._features.players(i)

    def live(self, i: int) -> np.ndarray:
        return np.flatnonzero(~self._features.idle(i))

    def first(self, i: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        d = self.players(i)
        return self.draw(i, np.zeros((size, d), dtype=bool), np.random.default_rng([seed, d, 1]))

    def draw(self, i: int, rules: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Kept parts ``(m, d)`` and scores ``(m, outputs)``, one copy under each of ``rules`` (m, d)."""
        kept = rules | (rng.random(rules.shape) < 0.5)
        masks, back = np.unique(kept, axis=0, return_inverse=True)
        repeats = self._features.repeats
        scores = self._coalitions.score_outputs(self._features.rows(i, masks), i)
        return kept, scores.reshape(len(masks), repeats, -1).mean(axis=1)[back.reshape(-1)]

    def coverage(self, i: int, rules: np.ndarray) -> np.ndarray:
        return 0.5 ** rules.sum(axis=1)

    def words(self, i: int, members: np.ndarray) -> str:
        names = [name for name, member in zip(self._features.names(i), members, strict=True) if member]
        if not names:
            return "any parts are kept"
        listed = ", ".join(f'"{name}"' for name in names) if self._features.axes == ("word",) else ", ".join(names)
        return f"{listed} {'is' if len(names) == 1 else 'are'} kept"


def _rows(coalitions: Coalitions, background: Any, inputs: Any, name: str) -> _Rows:
    if background is None:
        raise InvalidInput(f"Anchors on a table need background rows to learn bins from; pass background=training_rows ({name} has none).")
    return _Rows(coalitions, background, inputs)


class _Rows:
    """Rows of a table: columns outside a rule are drawn from the background's bins, those of a rule inside the input's own bin."""

    absence = "a draw from the background, column by column"

    def __init__(self, coalitions: Coalitions, background: Any, inputs: Any) -> None:
        self._coalitions, self._bins = coalitions, Bins(background, inputs)
        names = list(coalitions.features.names(0))
        groups = getattr(coalitions.features, "groups", {name: [name] for name in names})
        columns = [str(column) for column in inputs.columns]
        self._parts = [[columns.index(str(member)) for member in groups[name]] for name in names]
        self._shared: tuple[np.ndarray, np.ndarray] | None = None

    def players(self, i: int) -> int:
        return len(self._parts)

    def live(self, i: int) -> np.ndarray:
        """Parts that the background can change."""
        return np.flatnonzero(~self._kept(i, self._bins.background).all(axis=0))

    def first(self, i: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Copies under no rule know no input: drawn and scored once for all."""
        if self._shared is None:
            rng = np.random.default_rng([seed, len(self._parts), 1])
            drawn = self._bins.draw(size, rng)
            self._shared = drawn, self._coalitions.score_outputs(self._bins.frame(drawn, rng))
        return self._kept(i, self._shared[0]), self._shared[1]

    def draw(self, i: int, rules: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        drawn = self._bins.draw(len(rules), rng)
        for part, columns in enumerate(self._parts):
            for column in columns:
                drawn[rules[:, part], column] = self._bins.own[i, column]
        return self._kept(i, drawn), self._coalitions.score_outputs(self._bins.frame(drawn, rng), i)

    def _kept(self, i: int, drawn: np.ndarray) -> np.ndarray:
        same = drawn == self._bins.own[i]
        return np.stack([same[:, columns].all(axis=1) for columns in self._parts], axis=1)

    def coverage(self, i: int, rules: np.ndarray) -> np.ndarray:
        outside = ~self._kept(i, self._bins.background)
        return np.array([1 - outside[:, rule].any(axis=1).mean() for rule in rules])

    def words(self, i: int, members: np.ndarray) -> str:
        bins = self._bins.rules(i)
        return " and ".join(bins[column] for part in np.flatnonzero(members) for column in self._parts[part]) or "columns have any values"


def _extras(rules: list[_Rule], shape: tuple[int, ...]) -> dict[str, Any]:
    """What is told of an input's rule; one entry per output where there are several."""
    told: dict[str, list[Any]] = {
        "rule": [rule.words for rule in rules],
        "precision": [rule.precision for rule in rules],
        "precision interval": [list(rule.interval) for rule in rules],
        "coverage": [rule.coverage for rule in rules],
        "anchor": list(np.stack([rule.members for rule in rules]).reshape(-1, *shape[:-1])),
    }
    return {key: entries[0] if len(rules) == 1 else entries for key, entries in told.items()}


def _precision_check(rules: list[_Rule], asked: float) -> Check:
    rule = min(rules, key=lambda one: one.interval[0])
    if np.isnan(rule.precision):
        return Check("precision", "fail", _NONE, None, asked)
    low, high = rule.interval
    measured = f"it holds in {rule.precision:.1%} of perturbed copies (95 % interval {low:.1%} to {high:.1%})"
    if low >= asked:
        return Check("precision", "pass", f"The rule keeps what it promises: {measured}.", low, asked)
    if rule.found:
        advice = f"A larger budget may tell; {_enough(asked):,} evaluations are enough where a rule always holds."
        return Check("precision", "fail", f"The rule may hold less often than {asked:.0%}: {measured}. {advice}", low, asked)
    advice = "A larger budget, more parts in a rule, or less precision asked for may help."
    return Check(
        "precision", "fail", f"No rule within these limits reaches {asked:.0%}; of the best found, {measured}. {advice}", low, asked
    )


def _width_check(rules: list[_Rule], asked: float | None) -> Check:
    """How well the precisions are known: the half of their 95 % interval."""
    half = max((rule.interval[1] - rule.interval[0]) / 2 for rule in rules)
    passes = _WIDE[0] if asked is None else asked
    advice = "" if half <= passes else " A larger budget would tell it better."
    words = f"The precision of the rule is known within ± {half:.1%}.{advice}"
    return Check("sampling error", grade(half, passes, max(passes, _WIDE[1])), words, half, passes)
