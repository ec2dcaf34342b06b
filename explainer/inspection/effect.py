"""What a fix of the data does to explanations: models trained before and after it, explained on the same rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from explainer import inputs as inputs_
from explainer.errors import ExplainerError, InvalidInput
from explainer.model import Model, wrap
from explainer.pipeline import explain
from explainer.progress import reporter
from explainer.trust.sanity import rank_correlation

if TYPE_CHECKING:
    import pandas as pd

ROWS = 30
BACKGROUND = 20
SEEDS = 5  # models on each side: the least with which the permutation test reaches 5 %, at p = 0.008 times three measures
FIRST = 3
LEVEL = 0.05


@dataclass(frozen=True)
class Measure:
    """One way in which attributions part: ``shift`` between models before and after, ``noise`` between models of one side.

    ``spread`` is the standard deviation of the latter over pairs of models; ``p`` is that of the permutation test.
    """

    name: str
    shift: float
    noise: float
    spread: float
    p: float

    def __str__(self) -> str:
        return f"{self.name}: {self.shift:.3f} across the fix, {self.noise:.3f} ± {self.spread:.3f} by retraining, p = {self.p:.2g}"


@dataclass(frozen=True, eq=False)
class Effect:
    """The shift in attributions that a fix brings, held against what retraining alone brings.

    Attributes
    ----------
    measures : "rank" is 1 - Spearman's rho of the sizes, "first three" the share of the three largest parts that are others,
        "relative" the mean absolute difference over the mean absolute value.
    features : names of the columns of a table (those that the fix drops included), empty for other data.
    before, after : ``(seeds, features)``, mean absolute attribution of each column by each model.
    """

    method: str
    target: str
    rows: int
    seeds: int
    measures: tuple[Measure, ...]
    features: tuple[str, ...]
    before: np.ndarray
    after: np.ndarray

    @property
    def p(self) -> float:
        """The smallest p-value times the number of measures (Bonferroni): that the fix moves no attribution."""
        return min(1.0, len(self.measures) * min(m.p for m in self.measures))

    @property
    def shifted(self) -> bool:
        """Whether attributions moved by more than retraining moves them, at 5 %."""
        return self.p <= LEVEL

    def __getitem__(self, name: str) -> Measure:
        from explainer.errors import unknown

        for measure in self.measures:
            if measure.name == name:
                return measure
        raise unknown("measure", name, [m.name for m in self.measures])

    def to_frame(self) -> pd.DataFrame:
        """One row per column: mean absolute attribution before and after with standard deviations over models, largest move first."""
        import pandas as pd

        sides = {"before": self.before, "after": self.after}
        columns: dict[str, Any] = {"feature": list(self.features)}
        for name, values in sides.items():
            columns |= {name: values.mean(axis=0), f"{name} sd": values.std(axis=0, ddof=1)}
        frame = pd.DataFrame(columns)
        return frame.iloc[np.argsort(-np.abs(frame["after"] - frame["before"]), kind="stable")].reset_index(drop=True)

    def __str__(self) -> str:
        said = "move by more than retraining moves them" if self.shifted else "move no more than retraining moves them"
        head = f"Attributions by {self.method} for {self.target} on {self.rows} rows {said} (p = {self.p:.2g}, {self.seeds} models a side)."
        lines = [
            f"  {m.name}: {m.shift:.3f} across the fix, {m.noise:.3f} ± {m.spread:.3f} by retraining, p = {m.p:.2g}" for m in self.measures
        ]
        return "\n".join([head, *lines])


def effect(
    data: Any,
    labels: Any,
    fixed: Any,
    *,
    train: Any,
    method: Any = "shap",
    target: Any = "auto",
    rows: Any = None,
    seeds: int = SEEDS,
    resample: bool = True,
    modality: inputs_.Modality | None = None,
    seed: int = 0,
    progress: Any = False,
    **parameters: Any,
) -> Effect:
    """How far a fix of the training data shifts attributions, told from the noise of retraining.

    Of models trained before (b) and after (a) the fix, the shift is the mean distance of attributions d(b, a) over all pairs; the
    noise is the mean of d(b, b') and d(a, a'). Their difference is the energy distance of the two sets of models (Szekely and
    Rizzo, 2013); its p-value comes from all ways to deal the models out into two sides.

    Parameters
    ----------
    data, labels : the training data as they were; labels may be the name of a column.
    fixed : what :func:`explainer.fix` returned for them.
    train : a scikit-learn estimator, pipeline or class, or a function ``(inputs, labels, seed) -> model``, of anything that
        :func:`explainer.wrap` takes; a :class:`Model` where more must be told.
    method, parameters : as for :func:`explainer.explain`; the same for every model.
    target : a class (name or index) that both know; "auto" is the second of two classes, else the commonest.
    rows : inputs to explain; by default up to 30 training rows that the fix left as they are.
    seeds : models on each side, 5 or more; every one has a seed of its own.
    resample : train each on a draw with replacement of its data, so that the noise is that of other data of the same kind too.

    Raises InvalidInput where the data cannot be trained on, the error saying on which side, or the two cannot be compared.
    """
    if seeds < SEEDS:
        raise InvalidInput(f"seeds={seeds}; the least with which a shift can be told from noise is {SEEDS} on each side.")
    sides = [_split(data, labels), _split(fixed.data, labels if isinstance(labels, str) else fixed.labels)]
    shared = _untouched(fixed, len(sides[0][0]))
    chosen = shared[np.linspace(0, len(shared) - 1, min(ROWS, len(shared))).astype(int)] if len(shared) else shared
    if rows is None and not len(chosen):
        raise InvalidInput("The fix changed every row; pass rows=, inputs to explain with both models.")
    names = _classes(sides)
    goal = _target(target, names, sides[1][1])
    attributions: list[list[np.ndarray]] = [[], []]
    columns: list[tuple[str, ...]] = []
    with reporter(progress, "effect of the fix") as told:
        told(0, 2 * seeds)
        for side, (inputs, y) in enumerate(sides):
            places = chosen if side == 0 else np.searchsorted(fixed.kept, chosen)
            behind = shared if side == 0 else np.searchsorted(fixed.kept, shared)
            background = inputs_.take(inputs, behind[np.linspace(0, len(behind) - 1, min(BACKGROUND, len(behind))).astype(int)])
            for k in range(seeds):
                own = seed + side * seeds + k
                model = _trained(train, inputs, y, own, resample, side, {"modality": modality, "background": background})
                asked = rows if rows is not None else inputs_.take(inputs, places)
                ex = explain(model, asked, method, goal if model.task == "classification" else 0, seed=seed, verify=False, **parameters)
                attributions[side].append(np.asarray(ex.values, dtype=float))
                told(side * seeds + k + 1, 2 * seeds)
            columns.append(tuple(ex.feature_names[0]) if ex.modality == "tabular" and len(ex.axes) == 2 else ())
    before, after, features = _aligned(attributions, columns)
    measures = tuple(_measure(name, distance, before, after) for name, distance in DISTANCES.items())
    sizes = [np.abs(one).mean(axis=1) if features else np.zeros((seeds, 0)) for one in (before, after)]
    return Effect(ex.method, str(ex.target[0]), before.shape[1], seeds, measures, features, *sizes)


def _split(data: Any, labels: Any) -> tuple[Any, np.ndarray]:
    """Inputs, and their labels as objects; items without a label cannot be trained on and are left to stand without one."""
    if isinstance(labels, str):
        if not hasattr(data, "columns") or labels not in list(data.columns):
            raise InvalidInput(f"labels={labels!r} names no column of the data; pass the labels themselves, one per item.")
        frame = data.to_pandas() if hasattr(data, "to_pandas") else data
        return frame.drop(columns=labels), frame[labels].to_numpy()
    if labels is None or len(labels) != len(data):
        came = "none" if labels is None else f"{len(labels):,}"
        raise InvalidInput(f"One label per item is needed to train on: {len(data):,} items, {came} labels.")
    return (data.to_pandas() if hasattr(data, "to_pandas") else data), np.asarray(labels)


def _known(y: np.ndarray) -> np.ndarray:
    import pandas as pd

    return ~pd.isna(pd.Series(y, dtype=object)).to_numpy()


def _untouched(fixed: Any, n: int) -> np.ndarray:
    """Places of the items that stand in both and of which no cell was changed."""
    changed = {c.row for c in fixed.log if c.action == "cell"}
    kept = np.asarray(fixed.kept)
    if kept.max(initial=-1) >= n:
        raise InvalidInput(f"The fix speaks of item {kept.max():,}, the data hold {n:,}; pass the data that were fixed.")
    return kept[[place not in changed for place in kept.tolist()]]


def _classes(sides: Sequence[tuple[Any, np.ndarray]]) -> list[str]:
    """Classes that both sides know."""
    found = [{str(v) for v in y[_known(y)].tolist()} for _, y in sides]
    return sorted(found[0] & found[1])


def _target(target: Any, names: list[str], y: np.ndarray) -> Any:
    if target != "auto":
        return target
    if len(names) == 2:
        return names[1]
    values, counts = np.unique([str(v) for v in y[_known(y)].tolist()], return_counts=True)
    return str(values[counts.argmax()])


def _trained(train: Any, inputs: Any, y: np.ndarray, seed: int, resample: bool, side: int, how: dict[str, Any]) -> Model:
    known = np.flatnonzero(_known(y))
    drawn = np.random.default_rng(seed).choice(known, len(known)) if resample else known
    x, labels = inputs_.take(inputs, drawn), y[drawn]
    labels = labels if labels.dtype != object else np.array(labels.tolist())
    try:
        made = _fitted(train, x, labels, seed)
    except ExplainerError:
        raise
    except Exception as error:
        when = "as they were" if side == 0 else "after the fix"
        raise InvalidInput(
            f"Training on the data {when} failed with {type(error).__name__}: {str(error)[:300]} Pass train= a pipeline or a function "
            "that can take both."
        ) from error
    if isinstance(made, Model):
        return made
    told = {k: v for k, v in how.items() if v is not None}
    if hasattr(x, "columns"):
        told["feature_names"] = [str(c) for c in x.columns]
    return wrap(made, **told)


def _fitted(train: Any, x: Any, y: np.ndarray, seed: int) -> Any:
    estimator = train() if isinstance(train, type) else train
    if not hasattr(estimator, "fit"):
        return train(x, y, seed)
    from sklearn.base import clone

    estimator = clone(estimator)
    drawn = {name: seed for name in estimator.get_params() if name.rpartition("__")[2] == "random_state"}
    return estimator.set_params(**drawn).fit(x, y)


def _aligned(found: Sequence[Sequence[np.ndarray]], columns: Sequence[tuple[str, ...]]) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """``(models, rows, parts)`` of both sides; a column that one side lacks has no say there."""
    sides = [np.nan_to_num(np.stack([a.reshape(len(a), -1) for a in one])) for one in found]
    if not all(columns):
        if sides[0].shape != sides[1].shape:
            raise InvalidInput(
                f"The attributions have {sides[0].shape[2]} parts before and {sides[1].shape[2]} after; pass features= to fix them."
            )
        return sides[0], sides[1], ()
    features = tuple(dict.fromkeys([*columns[0], *columns[1]]))
    wide = []
    for values, names in zip(sides, columns, strict=True):
        one = np.zeros((*values.shape[:2], len(features)))
        one[:, :, [features.index(n) for n in names]] = values
        wide.append(one)
    return wide[0], wide[1], features


def _ranks(a: np.ndarray, b: np.ndarray) -> float:
    return 1 - float(np.mean([rank_correlation(np.abs(x), np.abs(y)) for x, y in zip(a, b, strict=True)]))


def _firsts(a: np.ndarray, b: np.ndarray) -> float:
    k = min(FIRST, a.shape[1])
    first = [np.argsort(-np.abs(one), axis=1, kind="stable")[:, :k] for one in (a, b)]
    return 1 - float(np.mean([len(set(x) & set(y)) / k for x, y in zip(*map(np.ndarray.tolist, first), strict=True)]))


def _relative(a: np.ndarray, b: np.ndarray) -> float:
    size = (np.abs(a).mean() + np.abs(b).mean()) / 2
    return float(np.abs(a - b).mean() / size) if size else 0.0


DISTANCES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {"rank": _ranks, "first three": _firsts, "relative": _relative}


def _measure(name: str, distance: Callable[[np.ndarray, np.ndarray], float], before: np.ndarray, after: np.ndarray) -> Measure:
    """Mean distance across and within the sides, and the share of all deals of the models in which it is as far apart."""
    models = [*before, *after]
    n, k = len(models), len(before)
    apart = np.zeros((n, n))
    for i, j in combinations(range(n), 2):
        apart[i, j] = apart[j, i] = distance(models[i], models[j])

    def excess(first: tuple[int, ...]) -> float:
        mine = np.zeros(n, dtype=bool)
        mine[list(first)] = True
        inside = (apart[np.ix_(mine, mine)].sum() + apart[np.ix_(~mine, ~mine)].sum()) / (2 * k * (k - 1))
        return float(apart[np.ix_(mine, ~mine)].mean() - inside)

    seen = excess(tuple(range(k)))
    deals = _deals(n, k)
    p = float(np.mean([excess(deal) >= seen - 1e-12 for deal in deals]))
    within = np.concatenate([apart[:k, :k][np.triu_indices(k, 1)], apart[k:, k:][np.triu_indices(k, 1)]])
    return Measure(name, float(apart[:k, k:].mean()), float(within.mean()), float(within.std(ddof=1)), p)


def _deals(n: int, k: int) -> list[tuple[int, ...]]:
    """Every way to pick ``k`` of ``n`` models, or 2,000 draws of them with the one at hand among them."""
    from math import comb

    if comb(n, k) <= 2_000:
        return list(combinations(range(n), k))
    rng = np.random.default_rng(0)
    return [tuple(range(k)), *(tuple(rng.permutation(n)[:k].tolist()) for _ in range(1_999))]
