"""SAGE: the share of the model's loss that each column saves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from explainer import features as features_
from explainer.coalitions import Budget, Coalitions
from explainer.errors import InvalidInput, Unsupported, unknown
from explainer.inspection.importance import Tally
from explainer.model import Model
from explainer.target import Target, resolve

EVALUATIONS = 256  # per row: enough for all coalitions of eight columns, or a few pairs of orders of more
_LEAST = 1e-12  # a probability of 0 for the class that came true would make every other row's loss vanish beside it


class Losses:
    r"""Per row and column, an unbiased draw of its SAGE value: :math:`\phi_j` of the game
    :math:`v(S) = \ell(f_\varnothing, y) - \ell(f_S(x), y)`, :math:`f_S(x) = E[f(x_S, X_{rest})]` over the background rows.
    """

    quantities = 1
    method = "sage"

    def __init__(self, model: Model, labels: Any, budget: int | None, *, baseline: Any, background: Any, features: Any, seed: int) -> None:
        if labels is None:
            raise InvalidInput("SAGE explains the model's loss, so it needs labels=: a column of the data, or one label per row.")
        if model.modality != "tabular":
            raise Unsupported(f"SAGE needs the same parts in every row, which {model.modality} inputs do not have; use kind='mean_abs'.")
        if model.task == "regression" and len(model.class_names) > 1:
            raise Unsupported(f"SAGE explains one squared error; this regression has {len(model.class_names)} outputs.")
        self._model, self._cut, self._seed = model, {"baseline": baseline, "background": background, "features": features}, seed
        self._budget = EVALUATIONS if budget is None else budget
        self._ends = Tally(1)
        self.evaluations = 0
        self.output = "raw" if model.task == "regression" else "probability"
        self.target = "squared error" if model.task == "regression" else "cross-entropy"
        self.parameters: dict[str, Any] = {}
        self.notes: tuple[str, ...] = ()

    @property
    def losses(self) -> tuple[float, float]:
        """Mean loss with no column known, and with all."""
        return float(self._ends.mean[0][0]), float(self._ends.mean[0][1])

    def __call__(self, rows: Any, labels: Any, start: int, report: Any, seconds: float | None) -> list[tuple[Sequence[str], np.ndarray]]:
        """One ``(names, (1, columns))`` per row; the orders of a row depend on the seed and its number ``start + i`` only."""
        truth, goal = self._truth(labels, len(rows))
        cut = features_.build(self._model, rows, seed=self._seed, **self._cut)
        d = cut.players(0)
        exact = 2**d <= max(self._budget, 4)
        pairs = 0 if exact else max(1, (self._budget - 2) // (2 * (d - 1)))
        budget = Budget(2**d if exact else pairs * 2 * (d - 1) + 2, seconds=seconds)
        engine = Coalitions(self._model, rows, cut, goal, self.output, budget=budget, report=report)
        designs = [_Enumeration(d) if exact else _Orders(d, pairs, self._seed, start + i) for i in range(len(rows))]
        engine.plan(sum(len(design.masks) for design in designs))
        scores = engine.gather([(i, design.masks) for i, design in enumerate(designs)])
        found: list[tuple[Sequence[str], np.ndarray]] = []
        for i, design in enumerate(designs):
            loss = self._loss(scores[i][:, 0], truth[i])
            engine.forget(i)
            found.append((cut.names(i), design.values(-loss)[None]))
            self._ends.add(("none", "all"), loss[None, [design.empty, design.full]])
        self.evaluations += engine.evaluations
        how = "all coalitions per row" if exact else f"{pairs} antithetic pair{'s' * (pairs > 1)} of orders per row"
        self.parameters = {"algorithm": how, "absence": cut.absence, "loss": self.target}
        return found

    def _truth(self, labels: Any, n: int) -> tuple[np.ndarray, Target]:
        blank = np.empty((n, len(self._model.class_names)))
        if self._model.task == "regression":
            try:
                truth = np.asarray(labels, dtype=np.float64)
            except (TypeError, ValueError):
                raise InvalidInput("The labels of a regression must be numbers.") from None
            if not np.isfinite(truth).all():
                raise InvalidInput(f"{int((~np.isfinite(truth)).sum())} labels are missing; leave those rows out.")
            return truth, resolve(0, blank, self._model.class_names)
        index = class_indices(labels, self._model.class_names)
        return index, resolve(index, blank, self._model.class_names)

    def _loss(self, scores: np.ndarray, truth: float) -> np.ndarray:
        if self._model.task == "regression":
            return np.asarray((scores - truth) ** 2)
        return np.asarray(-np.log(np.clip(scores, _LEAST, None)))  # the target is the probability of the true class


def class_indices(labels: Any, class_names: Sequence[str]) -> np.ndarray:
    """Labels as class indices: names where they are the class names, whole numbers below the number of classes otherwise."""
    given = [one.item() if hasattr(one, "item") else one for one in np.asarray(labels).ravel()]
    words = [str(int(one)) if isinstance(one, float) and one.is_integer() else str(one) for one in given]
    if all(word in class_names for word in words):
        return np.array([class_names.index(word) for word in words])
    for one, word in zip(given, words, strict=True):
        if not word.isdigit() or isinstance(one, str) or int(word) >= len(class_names):
            raise unknown("label", one, class_names)
    return np.array([int(word) for word in words])


class _Enumeration:
    """All coalitions: exact Shapley values of a row."""

    def __init__(self, d: int) -> None:
        index = np.arange(2**d)
        self.masks = (index[:, None] >> np.arange(d)) & 1 == 1
        self.empty, self.full = 0, 2**d - 1

    def values(self, v: np.ndarray) -> np.ndarray:
        d, sizes = self.masks.shape[1], self.masks.sum(axis=1)
        weight = np.array([1 / (d * math.comb(d - 1, s)) for s in range(d)])
        signed = np.where(self.masks, weight[sizes - 1, None], -weight[np.minimum(sizes, d - 1), None])
        return np.asarray(v @ signed)


class _Orders:
    """Pairs of an order and its reverse: the mean of the steps is unbiased, and each order's steps sum to the whole."""

    def __init__(self, d: int, pairs: int, seed: int, row: int) -> None:
        rng = np.random.default_rng([seed, row])
        orders = [order for _ in range(pairs) for forth in [rng.permutation(d)] for order in (forth, forth[::-1])]
        self._rank = np.argsort(np.stack(orders), axis=1)
        inner = self._rank[:, None, :] < np.arange(1, d)[None, :, None]  # (orders, d - 1, d)
        self.masks = np.concatenate([np.zeros((1, d), dtype=bool), np.ones((1, d), dtype=bool), inner.reshape(-1, d)])
        self.empty, self.full = 0, 1

    def values(self, v: np.ndarray) -> np.ndarray:
        inner = v[2:].reshape(len(self._rank), -1)
        ends = (np.full((len(inner), 1), v[at]) for at in (self.empty, self.full))
        first, last = ends
        steps = np.diff(np.concatenate([first, inner, last], axis=1), axis=1)
        return np.asarray(np.take_along_axis(steps, self._rank, axis=1).mean(axis=0))
