"""Exact Shapley values of linear models, read from their coefficients."""

from __future__ import annotations

from typing import Any

import numpy as np

from explainer.features import FITTED_ROWS
from explainer.features.base import Features, drawn, thinned
from explainer.features.tabular import Columns, averaged
from explainer.methods.attribution import Attribution
from explainer.methods.links import affine, link_of, probes
from explainer.methods.trees import functionals, players_of, stand_ins, unfit_game

_EXACT = 1e-6  # of the largest number: the agreement that rounding in the model's own sum allows
_HELD = 256


def linear_values(model: Any, inputs: Any, target: Any, output: str, features: Features, seed: int) -> Attribution | str:
    r"""The interventional Shapley values of a linear model, or the reason in words why they cannot be had from its coefficients.

    .. math:: \phi_j = w_j \, (z_j - \operatorname{mean}_b z_j)

    Strumbelj & Kononenko (2014). z is the row as it enters the linear model: the row itself, or where the model ends a Pipeline whose
    steps handle each column alone, such as StandardScaler, what they make of it. Both are measured: the coefficients have to reproduce
    the model's output, and rows put together from two have to be encoded as put together from the two. For scores that are affine in
    the linear sum: a regression, or a two-class model on the logit scale.
    """
    if unfit_game(features) or target.weights is None or not isinstance(features, Columns):
        return "The game is not one of columns that take background rows' values."
    try:
        reader = _Linear(model)
        rows = drawn(features.whole, FITTED_ROWS, seed)
        encoded, others = reader.encoded(inputs), reader.encoded(rows)
        held, apart = reader.composed(features, inputs)
        link = link_of(model, [inputs, rows, held], reader.margins, _EXACT)
        if link is None or not apart:
            return "The coefficients, column by column, do not reproduce the model's output."
    except (AttributeError, TypeError, ValueError) as error:  # no linear model, or columns that are not numbers
        return f"{model.name} has no coefficients of its columns that can be read ({str(error)[:80]})."
    slope, intercept = affine(lambda margins: model.rescale(link(margins), output), probes(reader.outputs))
    if slope is None or intercept is None:
        return f"The {output} of {model.name} is not linear in its columns; output='logit' may be."
    columns = (encoded - others.mean(axis=0))[:, :, None] * (reader.coefficients.T @ slope)
    parts = np.zeros((len(inputs), features.players(0), columns.shape[2]))
    np.add.at(parts.swapaxes(0, 1), players_of(features, inputs), columns.swapaxes(0, 1))
    base = reader.margins(rows).mean(axis=0) @ slope + intercept
    return Attribution(
        list(functionals(parts, target)), ("column",), [features.names(i) for i in range(len(inputs))], base=functionals(base, target),
        evaluations=len(inputs) + len(rows), notes=tuple(filter(None, (thinned(len(rows), len(features.whole)),))),
        parameters={"algorithm": "linear", "absence": averaged(len(rows), len(features.whole)) if features.thinned else features.absence},
    )  # fmt: skip


class _Linear:
    """A fitted linear estimator of scikit-learn, alone or at the end of a Pipeline. Raises AttributeError for any other model."""

    def __init__(self, model: Any) -> None:
        steps = getattr(model.estimator, "steps", [("", model.estimator)])
        self._model, self._steps, head = model, steps[:-1], steps[-1][1]
        self.coefficients = np.atleast_2d(np.asarray(head.coef_, dtype=np.float64))
        self._intercept = np.asarray(head.intercept_, dtype=np.float64)
        self.outputs = len(self.coefficients)

    def encoded(self, table: Any) -> np.ndarray:
        """Rows ``(n, columns)`` as they enter the linear estimator."""
        given = self._model.native(table)
        for _, step in self._steps:
            given = given if step in (None, "passthrough") else step.transform(given)
        return np.asarray(given, dtype=np.float64)

    def margins(self, table: Any) -> np.ndarray:
        return self.encoded(table) @ self.coefficients.T + self._intercept

    def composed(self, features: Columns, inputs: Any) -> tuple[Any, bool]:
        """Rows put together from inputs and background rows, and whether they are encoded column by column from the two."""
        own, others, players = self.encoded(inputs), self.encoded(stand_ins(features)), players_of(features, inputs)
        chosen = range(min(len(inputs), 4))
        masks = np.random.default_rng(0).random((max(2, _HELD // (len(chosen) * len(others))), features.players(0))) < 0.5
        rows = features.rows_of([(i, masks) for i in chosen])
        if own.shape[1] != len(players):
            return rows, False
        wanted = np.concatenate([np.where(masks[:, None, players], own[i], others).reshape(-1, own.shape[1]) for i in chosen])
        return rows, bool(np.abs(self.encoded(rows) - wanted).max() <= _EXACT * max(1.0, float(np.abs(wanted).max())))
