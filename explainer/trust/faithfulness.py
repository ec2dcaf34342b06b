"""Faithfulness: do the parts an explanation names matter to the model, more than parts drawn at random?"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from explainer.coalitions import Coalitions
from explainer.errors import ExplainerError, InvalidInput, unknown
from explainer.explanation import Check, Explanation, grade
from explainer.features import build
from explainer.inputs import take
from explainer.methods.attribution import Attribution
from explainer.target import Target

RANDOM_SETS = 40
SHARE = 0.2  # of the parts is taken away
_FEWEST_PARTS = 4
_TOGETHER = 256  # instances in one stream
_NAME = "faithfulness"
PASS, WARN = 0.9, 0.6
_BEHIND = 0.8  # of what gradient x input moves; less than that is clearly less
METRICS = ("top_vs_random", "deletion", "insertion", "correlation")


def checks(
    found: Attribution, engine: Coalitions | None, why_not: str, seed: int, lost: Collection[int] = (),
    beside: Callable[[], Attribution] | None = None,
) -> list[Check]:  # fmt: skip
    """Take away the parts named first, and compare the change of the score with that of random sets of the same size.

    One check per instance; the instances not in ``lost`` are scored together, some hundreds at a time. With ``beside``, which
    gives gradient x input of the same inputs, also with as many parts as that names first: one more score per instance.
    """
    made: list[Check] = []
    everyone = range(len(found.values))
    other, silence = _beside(beside if engine is not None else None)
    for start in range(0, len(everyone), _TOGETHER):
        trials = {}
        for i in everyone[start : start + _TOGETHER]:
            ready = Check(_NAME, "not run", "There are no values.") if i in lost else _trial(found, engine, i, why_not, seed, other)
            trials[i] = ready
        asked = {i: trial for i, trial in trials.items() if isinstance(trial, _Trial)}
        values = engine.gather([(i, trial.masks) for i, trial in asked.items()]) if engine is not None and asked else []
        judged = {i: _judged(trial, v[:, 0], silence) for (i, trial), v in zip(asked.items(), values, strict=True)}
        for i, trial in trials.items():
            made.append(trial if isinstance(trial, Check) else judged[i])
            if engine is not None:
                engine.forget(i)
    return made


def _beside(rerun: Callable[[], Attribution] | None) -> tuple[Attribution | None, str]:
    if rerun is None:
        return None, ""
    try:
        return rerun(), ""
    except ExplainerError as error:
        return None, f" Gradient x input, to compare with, did not run: {str(error).splitlines()[0]}"


@dataclass(frozen=True)
class _Trial:
    """The full input, the input without the parts named first, without each of ``sets`` other sets of as many (all there are where
    ``whole``), and without gradient x input's.
    """

    masks: np.ndarray
    direction: float
    signed: bool
    count: int
    sets: int
    whole: bool

    def share(self, v: np.ndarray) -> float:
        """Share of the other sets whose removal moves the score less, from the scores ``v`` of the masks."""
        v = v[: self.sets + 2]
        change = (v[0] - v[1:]) * self.direction if self.signed else np.abs(v[0] - v[1:])
        # Ties count for half: a model that reacts to nothing gives one half, not a pass.
        return float(np.mean(change[0] > change[1:]) + 0.5 * np.mean(change[0] == change[1:]))

    def moved(self, v: np.ndarray) -> tuple[float, float] | None:
        """How far the score moves without the parts named first, and without those of gradient x input."""
        return (abs(float(v[0] - v[1])), abs(float(v[0] - v[-1]))) if len(v) > self.sets + 2 else None


def _trial(
    found: Attribution, engine: Coalitions | None, i: int, why_not: str, seed: int, other: Attribution | None = None
) -> _Trial | Check:
    if found.about:
        return Check(_NAME, "not run", f"The values are about {found.about}, not about the score.")
    if engine is None:
        return Check(_NAME, "not run", why_not or "It is measured for one target at a time; ask for a single target.")
    parts = _parts(found, engine.features, i)
    if parts is None:
        return Check(_NAME, "not run", f"Values on {', '.join(found.axes)} do not belong to single parts of the input.")
    if len(parts) < _FEWEST_PARTS:
        return Check(_NAME, "not run", f"With {len(parts)} parts there is nothing to compare with.")
    if not np.abs(parts).max() > 0:
        return Check(_NAME, "fail", "The explanation is zero everywhere: it names no part.", 0.0, PASS)
    return _top_vs_random(parts, seed, None if other is None else _parts(other, engine.features, i))


def _parts(found: Attribution, features: Any, i: int) -> np.ndarray | None:
    """The values of one input, summed onto the parts that can be taken away; None where they do not belong to single parts."""
    values, axes = np.asarray(found.values[i])[..., 0], found.axes
    if axes == ("time",) and features.axes[-1] == "channel":  # a step is all its channels at once
        channels = features.shape(i)[-1]
        values, axes = np.repeat(values[:, None] / channels, channels, axis=1), ("time", "channel")
    return features.pool(i, values, axes) if _poolable(axes, features.axes, features) else None


def _judged(trial: _Trial, v: np.ndarray, silence: str = "") -> Check:
    if not np.isfinite(v).all():
        return Check(_NAME, "not run", "The model did not score the input without some of its parts.")
    share = trial.share(v)
    removed = f"the {trial.count} parts" if trial.count > 1 else "the part"
    choices = f"the {trial.sets} other choices" if trial.whole else "random choices"
    reason = f"Taking away {removed} named first moves the score more than {share:.0%} of {choices} do."
    status, moved = grade(share, PASS, WARN), trial.moved(v)
    if status == "pass" and (trial.sets + 1) * (1 - PASS) < 1:
        reason += f" Of so few, the best would be named by chance one time in {trial.sets + 1}."
    if moved is not None:
        own, other = moved
        word = "as far as" if np.isclose(own, other, rtol=0.01) else "less than" if own < other else "further than"
        reason += f" It moves it by {own:.2g}, {word} those of gradient x input ({other:.2g})."
        status = "warn" if status == "pass" and own < _BEHIND * other else status
    return Check(_NAME, status, reason + silence, share, PASS)


def _poolable(axes: tuple[str, ...], own: tuple[str, ...], features: Any) -> bool:
    return axes == own or axes in {("row", "column"), ("time", "channel"), ("word",), ("sentence",), ("part",)}


def _top_vs_random(parts: np.ndarray, seed: int, other: np.ndarray | None = None) -> _Trial:
    d = len(parts)
    ranked, direction = _ranked(parts)
    available = int((parts * direction > 0).sum())
    count = max(1, min(round(SHARE * d), available))
    sets = _other_sets(ranked[:count], d, np.random.default_rng([seed, d]))
    beside = other is not None and len(other) == d
    masks = np.ones((len(sets) + 2 + beside, d), dtype=bool)
    masks[1, ranked[:count]] = False
    np.put_along_axis(masks[2 : len(sets) + 2], sets, False, axis=1)
    if other is not None and beside:
        masks[-1, _ranked(other)[0][:count]] = False
    return _Trial(masks, direction, bool((parts < 0).any()), count, len(sets), math.comb(d, count) <= RANDOM_SETS)


def _other_sets(named: np.ndarray, d: int, rng: np.random.Generator) -> np.ndarray:
    """Sets of as many of the ``d`` parts as are ``named``, but for those themselves: all, or forty at random.

    A set that is compared with itself is a tie, which of few sets would be so many that none could be better than most.
    """
    count = len(named)
    if math.comb(d, count) <= RANDOM_SETS:
        sets = np.array(list(combinations(range(d), count)))
    else:
        sets = rng.random((2 * RANDOM_SETS, d)).argsort(axis=1)[:, :count]
    return sets[(np.sort(sets, axis=1) != np.sort(named)).any(axis=1)][:RANDOM_SETS]


def _ranked(parts: np.ndarray) -> tuple[np.ndarray, float]:
    """Parts in the order they are named; a signed explanation says which way the score moves, and its stronger side is followed."""
    direction = 1.0 if not (parts < 0).any() or parts[parts > 0].sum() >= -parts[parts < 0].sum() else -1.0
    return np.argsort(-parts * direction, kind="stable"), direction


def evaluate(
    ex: Explanation,
    model: Any = None,
    metrics: Sequence[str] | str = "all",
    *,
    background: Any = None,
    baseline: Any = "auto",
    features: Any = "auto",
    seed: int = 0,
) -> Any:
    """Measure how faithful explanations are to the model, one row per instance.

    ``top_vs_random``: share of random (of few: all) other part sets whose removal moves the score less than the parts named first.
    ``deletion`` / ``insertion``: mean score while parts are taken away / put back, most important first, relative to the
    same in random order (Petsiuk et al. 2018); below 0 is good for deletion, above 0 for insertion.
    ``correlation``: between the summed values of random part sets and the score change they cause (Bhatt et al. 2020).

    ``model`` is needed for explanations loaded from a file; ``baseline`` and ``background`` as in ``explain``; ``features``
    "auto" are the parts the values stand on. Returns a DataFrame. Raises InvalidInput, UnknownName.
    """
    import pandas as pd

    wanted = METRICS if metrics == "all" else (metrics,) if isinstance(metrics, str) else tuple(metrics)
    for metric in wanted:
        if metric not in METRICS:
            raise unknown("metric", metric, METRICS)
    model = model if model is not None else ex.model
    if model is None:
        raise InvalidInput("This explanation no longer has its model at hand; call evaluate(ex, model).")
    if ex.axes[-1] == "output":
        raise InvalidInput("evaluate() follows one target; explain with a single target instead of target='all'.")
    rows = []
    for i, one in enumerate(ex):
        engine = _engine(model, one, background, baseline, features, seed)
        parts = engine.features.pool(0, one.values[0], one.axes[1:])
        rng = np.random.default_rng([seed, len(parts)])
        row: dict[str, Any] = {"instance": i, "method": one.method, "target": one.target[0]}
        for metric in wanted:
            if metric == "top_vs_random":
                trial = _top_vs_random(parts, seed)
                row[metric] = trial.share(engine(0, trial.masks)[:, 0])
            elif metric == "correlation":
                row[metric] = _correlation(engine, parts, rng)
            else:
                row[metric] = _curve(engine, parts, rng, metric == "insertion")
        rows.append(row)
    return pd.DataFrame(rows)


def _engine(model: Any, one: Explanation, background: Any, baseline: Any, chosen: Any, seed: int) -> Coalitions:
    if isinstance(chosen, str) and chosen == "auto":
        chosen = _parts_of(one)
    features = build(model, take(one.inputs, slice(0, 1)), features=chosen, baseline=baseline, background=background, seed=seed)
    if not _poolable(one.axes[1:], features.axes, features):
        raise InvalidInput(f"Values on {', '.join(one.axes[1:])} do not belong to single parts of the input; they cannot be evaluated.")
    scores = model.scores(one.inputs, one.output)
    return Coalitions(model, one.inputs, features, _target(model, one, scores), one.output)


def _parts_of(one: Explanation) -> Any:
    """The parts that the values of an explanation stand on, as ``features=`` takes them."""
    if one.modality == "text":
        return {"word": "words", "sentence": "sentences"}.get(one.axes[1], "auto")
    if one.modality == "tabular" and one.extras.get("groups"):
        owners = np.asarray(one.extras["groups"][0])
        columns = np.array([str(c) for c in one.inputs.columns], dtype=object)
        return {name: columns[owners == j].tolist() for j, name in enumerate(one.feature_names[0])}
    segments = one.extras.get("segments")
    return segments[0] if segments else "auto"


def _target(model: Any, one: Explanation, scores: np.ndarray) -> Target:
    from explainer.target import resolve

    (told,) = model.told(one.inputs)
    if not one.target[0].endswith(told):
        raise InvalidInput(f"The explanation is of {one.target[0]!r}, and {model.name} scores what is{told}; pass that target's model.")
    label = one.target[0].removesuffix(told)
    if " over " in label and label not in one.class_names:
        a, b = label.split(" over ", 1)
        return resolve(("margin", a, b), scores, one.class_names)
    if label not in one.class_names:
        raise InvalidInput(f"The target {label!r} was a function; evaluate() follows classes, outputs and margins.")
    return resolve(one.class_names.index(label), scores, one.class_names)


def _correlation(engine: Coalitions, parts: np.ndarray, rng: np.random.Generator, sets: int = 100) -> float:
    d = len(parts)
    masks = np.ones((sets + 1, d), dtype=bool)
    masks[1:] = rng.random((sets, d)) > 0.3
    v = engine(0, masks)[:, 0]
    removed, change = ~masks[1:] @ parts, v[0] - v[1:]
    if removed.std() == 0 or change.std() == 0:
        return 0.0
    return float(np.corrcoef(removed, change)[0, 1])


def _curve(engine: Coalitions, parts: np.ndarray, rng: np.random.Generator, insertion: bool, orders: int = 10) -> float:
    """Mean score along the path, minus that of random orders."""
    d = len(parts)
    rank = np.stack([np.argsort(np.argsort(-parts, kind="stable")), *(rng.permutation(d) for _ in range(orders))])
    steps = np.unique(np.linspace(0, d, min(d, 20) + 1).astype(int))
    taken = rank[:, None, :] < steps[None, :, None]
    masks = taken if insertion else ~taken
    v = engine(0, masks.reshape(-1, d))[:, 0].reshape(orders + 1, len(steps)).mean(axis=1)
    return float(v[0] - v[1:].mean())
