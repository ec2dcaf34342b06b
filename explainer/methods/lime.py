"""LIME: a weighted linear model fitted to the scores around one input (Ribeiro, Singh & Guestrin 2016)."""

from __future__ import annotations

from typing import Any

import numpy as np

from explainer.coalitions import Coalitions
from explainer.errors import InvalidInput
from explainer.explanation import Check, grade
from explainer.methods.attribution import Attribution

# lime's own kernel widths and ridge penalties, kept for parity.
TEXT_WIDTH, IMAGE_WIDTH, TABLE_WIDTH_FACTOR = 25.0, 0.25, 0.75
RIDGE, SELECTION_RIDGE = 1.0, 0.01
FIT_PASS, FIT_WARN = 0.7, 0.4
_FEW_VALUES = 10  # a numeric column with no more different values is sampled as it is, not from quartile bins


def lime(
    model: Any,
    inputs: Any,
    target: Any,
    *,
    coalitions: Coalitions,
    background: Any,
    seed: int,
    num_features: int | None = None,
    kernel_width: float | None = None,
) -> Attribution:
    r"""Coefficients of :math:`\arg\min_\beta \sum_z \pi(z)\,(f(z) - \beta_0 - \beta^T z)^2 + \|\beta\|^2`.

    ``z`` says which parts of the input are kept; :math:`\pi(z) = \exp(-D(z)^2 / 2w^2)` is lime's kernel. Tables are cut
    into lime's quartile bins and "kept" means "in the same bin"; other parts are removed or painted over. ``num_features``
    keeps the largest only and refits (the rest is 0), as lime's "highest_weights". Standard errors are the
    heteroscedastic ones of the weighted ridge. Local, not additive: there is no base value. Raises InvalidInput.
    """
    features, n = coalitions.features, len(inputs)
    size = coalitions.budget.evaluations
    coalitions.plan(n * size)
    values, errors, checks, rules = [], [], [], []
    bins = _Bins(background, inputs) if _binned(model, features, inputs, background) else None
    for i in range(n):
        rng = np.random.default_rng([seed, features.players(i)])
        if bins is not None:
            kept, rows = bins.neighbours(i, size, seed)
            scores = coalitions.score_rows(i, rows)
            rules.append(bins.rules(i))
        else:
            kept = _masks(model.modality, features.players(i), size, rng)
            scores = coalitions(i, kept)
            coalitions.forget(i)
        weights = _kernel(kept.astype(float), model.modality, bins is not None, kernel_width)
        coefficients, error, fit = _surrogate(kept.astype(float), scores, weights, num_features)
        shape = (*features.shape(i), -1)
        values.append(coefficients.reshape(shape))
        errors.append(error.reshape(shape))
        checks.append({"fit": _fit_check(float(fit.min()))})
    return Attribution(
        values, features.axes, [features.names(i) for i in range(n)], stderr=errors, evaluations=n * size, checks=checks,
        extras={"rules": rules} if rules else {},
        parameters={"samples": size, "num_features": num_features, "kernel_width": kernel_width or "lime's default",
                    "absence": "another quartile bin or category of the background" if bins is not None else features.absence},
        notes=bins.notes if bins is not None else (),
    )  # fmt: skip


def _binned(model: Any, features: Any, inputs: Any, background: Any) -> bool:
    if model.modality != "tabular" or features.players(0) != inputs.shape[1]:
        return False
    if background is None:
        raise InvalidInput(
            f"LIME on a table needs background rows to learn its bins from; pass background=training_rows ({model.name} has none)."
        )
    return True


def _masks(modality: str, d: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Lime's designs, the input itself first: texts lose a uniform number of words, others each part with probability 1/2."""
    if modality == "text":
        removed = rng.integers(1, d + 1, size - 1)
        kept = rng.random((size - 1, d)).argsort(axis=1).argsort(axis=1) >= removed[:, None]
    else:
        kept = rng.random((size - 1, d)) < 0.5
    return np.concatenate([np.ones((1, d), dtype=bool), kept])


def _kernel(kept: np.ndarray, modality: str, binned: bool, width: float | None) -> np.ndarray:
    if binned:
        distance = np.sqrt(((kept - kept[0]) ** 2).sum(axis=1))
        width = width or TABLE_WIDTH_FACTOR * kept.shape[1] ** 0.5
    else:
        # Cosine distance to the full input; an empty coalition is as far as can be.
        share = np.sqrt(kept.mean(axis=1))
        distance = (1 - share) * (100 if modality == "text" else 1)
        width = width or (TEXT_WIDTH if modality == "text" else IMAGE_WIDTH)
    return np.sqrt(np.exp(-(distance**2) / width**2))


def _surrogate(
    kept: np.ndarray, scores: np.ndarray, weights: np.ndarray, num_features: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coefficients and standard errors ``(d, k)`` and weighted R2 ``(k,)``, one fit per target functional."""
    d, k = kept.shape[1], scores.shape[1]
    coefficients, errors, fit = np.zeros((d, k)), np.zeros((d, k)), np.zeros(k)
    for j in range(k):
        chosen = np.arange(d)
        if num_features is not None and num_features < d:
            strength = _ridge(kept, scores[:, j], weights, SELECTION_RIDGE)[0] * kept[0]
            chosen = np.argsort(-np.abs(strength), kind="stable")[:num_features]
        coefficients[chosen, j], errors[chosen, j], fit[j] = _ridge(kept[:, chosen], scores[:, j], weights, RIDGE)
    return coefficients, errors, fit


def _ridge(x: np.ndarray, y: np.ndarray, weights: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Weighted ridge with a free intercept: coefficients, sandwich standard errors, weighted R2."""
    total = weights.sum()
    centred_x, centred_y = x - weights @ x / total, y - weights @ y / total
    gram = (centred_x * weights[:, None]).T @ centred_x + penalty * np.eye(x.shape[1])
    coefficients = np.linalg.solve(gram, centred_x.T @ (weights * centred_y))
    residual = centred_y - centred_x @ coefficients
    bread = np.linalg.inv(gram)
    meat = (centred_x * ((weights * residual) ** 2)[:, None]).T @ centred_x
    spread = np.sqrt(np.clip(np.diag(bread @ meat @ bread), 0, None))
    variance = float(weights @ centred_y**2)
    return coefficients, spread, 1 - float(weights @ residual**2) / variance if variance > 1e-18 else 1.0


def _fit_check(fit: float) -> Check:
    status = grade(fit, FIT_PASS, FIT_WARN)
    words = {"pass": "follows the model well", "warn": "follows the model only roughly", "fail": "does not follow the model"}[status]
    return Check(
        "fit", status, f"The linear stand-in {words} around this input: it explains {max(fit, 0):.0%} of the variation.", fit, FIT_PASS
    )


class _Bins:
    """lime's tabular neighbourhood: quartile bins of the background, categories as they are, drawn by their frequency."""

    def __init__(self, background: Any, inputs: Any) -> None:
        import pandas as pd

        both = pd.concat([background, inputs], ignore_index=True)
        self._columns, self._dtypes = list(inputs.columns), inputs.dtypes
        self._categories: dict[int, np.ndarray] = {}
        self.notes: tuple[str, ...] = ()
        self._inputs = inputs
        matrix = np.empty(both.shape)
        filled = []
        for j, name in enumerate(self._columns):
            column = both[name]
            if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column) or column.nunique() <= _FEW_VALUES:
                codes, uniques = pd.factorize(column, sort=False, use_na_sentinel=False)
                matrix[:, j], self._categories[j] = codes, uniques
                continue
            numbers = column.to_numpy(dtype=float, na_value=np.nan)
            if np.isnan(numbers).any():
                filled.append(name)
                numbers = np.where(np.isnan(numbers), np.nanmedian(numbers), numbers)
            matrix[:, j] = numbers
        if filled:
            self.notes = (f"Missing values of {', '.join(filled)} count as the column's median in LIME's neighbourhood.",)
        self._data, self._rows = matrix[: len(background)], matrix[len(background) :]

    def _discretiser(self, seed: int) -> Any:
        from lime.discretize import QuartileDiscretizer

        return QuartileDiscretizer(self._data, list(self._categories), self._columns, random_state=np.random.RandomState(seed))

    def neighbours(self, i: int, size: int, seed: int) -> tuple[np.ndarray, Any]:
        """Which columns stay in the input's bin ``(size, columns)``, and the rows drawn; the input itself comes first."""
        discretiser = self._discretiser(seed)
        rng = np.random.default_rng([seed, len(self._columns)])
        binned = discretiser.discretize(self._data)
        own = discretiser.discretize(self._rows[i])
        drawn = np.empty((size, len(self._columns)))
        for j in range(len(self._columns)):
            found, count = np.unique(binned[:, j], return_counts=True)
            drawn[:, j] = rng.choice(found, size, p=count / count.sum())
        kept = drawn == own
        kept[0] = True
        values = discretiser.undiscretize(drawn)
        for j, lowest in discretiser.mins.items():
            # lime returns a z-score where a bin holds a single value; put the value itself.
            low, high = np.asarray(lowest)[drawn[:, j].astype(int)], np.asarray(discretiser.maxs[j])[drawn[:, j].astype(int)]
            values[:, j] = np.where(low == high, low, values[:, j])
        return kept, self._frame(values, i)

    def _frame(self, values: np.ndarray, i: int) -> Any:
        import pandas as pd

        frame = {}
        for j, name in enumerate(self._columns):
            column = self._categories[j].take(values[:, j].astype(int)) if j in self._categories else values[:, j]
            series = pd.Series(column)
            series.iloc[0] = self._inputs[name].iloc[i]
            frame[name] = series
        return pd.DataFrame(frame)

    def rules(self, i: int) -> tuple[str, ...]:
        """The bin of each column in words, such as ``"40 < age <= 52"``."""
        discretiser = self._discretiser(0)
        own = discretiser.discretize(self._rows[i])
        return tuple(
            f"{name} = {self._categories[j].take([int(own[j])])[0]}" if j in self._categories else discretiser.names[j][int(own[j])]
            for j, name in enumerate(self._columns)
        )
