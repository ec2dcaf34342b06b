"""LIME: a weighted linear model fitted to the scores around one input (Ribeiro, Singh & Guestrin 2016)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from explainer.coalitions import Budget, Coalitions, rounds
from explainer.errors import InvalidInput, unknown
from explainer.explanation import Check, Status, grade
from explainer.inputs import take
from explainer.methods.attribution import Attribution
from explainer.methods.bins import Bins
from explainer.methods.game import CELLS
from explainer.methods.surrogate import SELECTIONS, Fit, Surrogate

STYLES = ("local", "lime")
# lime's own kernel widths.
TEXT_WIDTH, IMAGE_WIDTH, TABLE_WIDTH_FACTOR = 25.0, 0.25, 0.75
# The kernel of the "local" style is as narrow as leaves so many effective samples: a share of all, and so many per part.
EFFECTIVE_SHARE, EFFECTIVE_PER_PART = 0.75, 5
FIT_PASS, FIT_WARN = 0.7, 0.4
STABLE_PASS, STABLE_WARN = 0.8, 0.5
_ROUND = 1024  # samples per look at the clock or at the error
_FIRST = 64
_FEWEST = 8  # samples scored, for values at all


def lime(
    model: Any,
    inputs: Any,
    target: Any,
    *,
    coalitions: Coalitions,
    background: Any,
    seed: int,
    style: str = "local",
    num_features: int | None = None,
    feature_selection: str = "auto",
    kernel_width: float | None = None,
) -> Attribution:
    r"""Coefficients of :math:`\arg\min_\beta \sum_z \pi(z)\,(f(z) - \beta_0 - \beta^T z)^2 + \|\beta\|^2`.

    ``z`` says which parts of the input are kept, :math:`\pi(z) = \exp(-D(z)^2 / 2w^2)` is lime's kernel. Columns of a table
    are cut into lime's bins, and "kept" means "in the same bin"; other parts are removed or painted over.

    ``style="local"``: the number of parts kept is uniform, so that copies close to the input are among the samples; kept
    columns have the input's own values; parts that cannot change the score are left out; and ``w`` is the narrowest that
    leaves the samples worth three quarters of their number, and five per part, by Kish's effective size. ``style="lime"``: lime's
    own samples, kernel widths and parts. Its tables are drawn once for all rows, since its law knows no row.

    ``num_features`` keeps so many coefficients (the rest is 0), chosen by ``feature_selection``: "forward_selection",
    "highest_weights", "lasso_path", "auto" or "none", as lime does. ``kernel_width`` sets ``w``. Standard errors are the
    heteroscedastic ones of the weighted ridge. Local, not additive: there is no base value.

    Raises InvalidInput, UnknownName.
    """
    if style not in STYLES:
        raise unknown("lime style", style, STYLES)
    if feature_selection not in SELECTIONS:
        raise unknown("feature selection", feature_selection, SELECTIONS)
    if num_features is not None and num_features < 1:
        raise InvalidInput(f"num_features={num_features}: keep at least one part, or None for all of them.")
    if kernel_width is not None and not kernel_width > 0:
        raise InvalidInput(f"kernel_width={kernel_width}: a width above 0 is needed, or None for one that is chosen.")
    features, n, budget = coalitions.features, len(inputs), coalitions.budget
    binned = model.modality == "tabular" and features.players(0) == inputs.shape[1]
    if binned and background is None:
        raise InvalidInput(
            f"LIME on a table needs background rows to learn its bins from; pass background=training_rows ({model.name} has none)."
        )
    bins = Bins(background, inputs) if binned else None
    kernel = _Kernel(model.modality, binned, style, kernel_width)
    sampler = _Rows(coalitions, bins, inputs, style, seed) if bins is not None else _Masks(coalitions, model.modality, n, style, seed)
    fits = _fitted(sampler, budget, lambda samples: _fit(samples, kernel, num_features, feature_selection))
    values, errors, checks = [], [], []
    for i, fit in enumerate(fits):
        value, error = (np.full((features.players(i), coalitions.target.k), 0.0 if fit else np.nan) for _ in range(2))
        if fit:
            value[sampler.live[i]], error[sampler.live[i]] = fit.coefficients, fit.stderr
        values.append(value.reshape(*features.shape(i), -1))
        errors.append(error.reshape(*features.shape(i), -1))
        checks.append(_checks(fit))
        coalitions.forget(i)
    return Attribution(
        values, features.axes, [features.names(i) for i in range(n)], stderr=errors, evaluations=coalitions.evaluations, checks=checks,
        extras={"rules": [bins.rules(i) for i in range(n)]} if bins is not None else {},
        parameters={"style": style, "samples": sampler.size, "num_features": num_features, "feature_selection": feature_selection,
                    "kernel_width": kernel.said, "absence": sampler.absence},
        notes=sampler.notes,
    )  # fmt: skip


class _Masks:
    """Samples of parts that are there or not; instances with equally many parts share them."""

    def __init__(self, coalitions: Coalitions, modality: str, n: int, style: str, seed: int) -> None:
        self._coalitions, self._seed = coalitions, seed
        self._uniform = style == "local" or modality == "text"
        every = [coalitions.features.players(i) for i in range(n)]
        idle = [coalitions.features.idle(i) if style == "local" else np.zeros(d, dtype=bool) for i, d in enumerate(every)]
        # An input none of whose parts can matter keeps them all: its coefficients are 0 by themselves.
        self.live = [np.flatnonzero(~still) if not still.all() else np.arange(len(still)) for still in idle]
        self._every, self.size = every, 0
        self.notes: tuple[str, ...] = ()
        self.absence = coalitions.features.absence
        self._designs: dict[int, list[np.ndarray]] = {}
        self._scores: list[list[np.ndarray]] = [[] for _ in range(n)]

    def cost(self, size: int) -> int:
        return len(self._every) * size

    def add(self, size: int) -> bool:
        """Score ``size`` samples more of each instance; whether all of them could be."""
        turn = len(self._scores[0])
        for d in {len(live) for live in self.live}:
            rng = np.random.default_rng([self._seed, d, *([turn] if turn else [])])
            self._designs.setdefault(d, []).append(self._draw(rng, size, d, first=turn == 0))
        asks = []
        for i, live in enumerate(self.live):
            masks = np.ones((size, self._every[i]), dtype=bool)
            masks[:, live] = self._designs[len(live)][-1]
            asks.append((i, masks))
        found = self._coalitions.gather(asks, in_turn=True)
        for scores, new in zip(self._scores, found, strict=True):
            scores.append(new)
        self.size += size
        return all(np.isfinite(new).all() for i, new in enumerate(found) if i not in self._coalitions.failed)

    def _draw(self, rng: np.random.Generator, size: int, d: int, first: bool) -> np.ndarray:
        """Lime's designs: texts lose a uniform number of words, others each part with probability 1/2; the input comes first."""
        if self._uniform:
            kept = rng.random((size, d)).argsort(axis=1).argsort(axis=1) >= rng.integers(1, d + 1, size)[:, None]
        else:
            kept = rng.random((size, d)) < 0.5
        kept[:first] = True
        return kept

    def samples(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Per instance ``(kept, scores)``; the very same ``kept`` where instances share it."""
        designs = {d: np.concatenate(parts) for d, parts in self._designs.items()}
        return [(designs[len(live)], np.concatenate(scores)) for live, scores in zip(self.live, self._scores, strict=True)]


class _Rows:
    """Samples of a table's rows, drawn bin by bin."""

    def __init__(self, coalitions: Coalitions, bins: Bins, inputs: Any, style: str, seed: int) -> None:
        self._coalitions, self._bins, self._inputs, self._seed = coalitions, bins, inputs, seed
        self._shared = style == "lime"
        n, d = bins.own.shape
        self.live, self.size = [np.arange(d)] * n, 0
        self.notes: tuple[str, ...] = ()
        self.absence = "another quartile bin or category of the background"
        self._samples: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in range(n)]

    def cost(self, size: int) -> int:
        return size + len(self._inputs) if self._shared else len(self._inputs) * size

    def add(self, size: int) -> bool:
        turn = len(self._samples[0])
        self.size += size
        return (self._draw_once if self._shared else self._draw_each)(size, turn)

    def _rng(self, turn: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, self._bins.own.shape[1], *([turn] if turn else [])])

    def _draw_once(self, size: int, turn: int) -> bool:
        """Lime draws bins by their shares in the background, whatever the row: one set of rows serves all."""
        from explainer.inputs import join

        rng, n = self._rng(turn), len(self._inputs)
        drawn = self._bins.draw(size - (turn == 0), rng)
        rows = self._bins.frame(drawn, rng)
        scores = self._coalitions.score_outputs(join([self._inputs, rows]) if turn == 0 else rows)
        told = np.isfinite(scores).all(axis=1)
        if not told.all() and not self._coalitions.stopped:
            self.notes = (f"{(~told).sum()} of {len(told)} perturbed rows had no finite score and were left out.",)
        first, told_first = (scores[:n], told[:n]) if turn == 0 else (scores[:0], told[:0])
        scores, told = scores[len(first) :], told[len(first) :]
        # Small integers: each row is compared with all of them.
        found, scores = drawn[told].astype(np.min_scalar_type(max(int(drawn.max()), int(self._bins.own.max())))), scores[told]
        for i, samples in enumerate(self._samples):
            if turn == 0 and told_first[i]:
                samples.append((np.ones((1, drawn.shape[1]), dtype=bool), np.asarray(self._coalitions.target(first[i : i + 1], i))))
            samples.append((found == self._bins.own[i].astype(found.dtype), np.asarray(self._coalitions.target(scores, i))))
        return bool(told.all())

    def _draw_each(self, size: int, turn: int) -> bool:
        """Kept columns have the row's own values, the others those of another bin."""
        complete, n, d = True, len(self._samples), self._bins.own.shape[1]
        together = max(1, CELLS // (size * d))
        for start in range(0, n, together):
            drawn = {i: self._copies(i, size, turn) for i in range(start, min(n, start + together))}
            scores: dict[int, list[np.ndarray]] = {i: [] for i in drawn}
            for part in rounds(size):  # the beginning of each row before the rest of any
                for i, (_, copies) in drawn.items():
                    scores[i].append(self._coalitions.score_rows(i, take(copies, part)))
            for i, (kept, _) in drawn.items():
                self._samples[i].append((kept, np.concatenate(scores[i])))
                complete &= bool(np.isfinite(self._samples[i][-1][1]).all()) or i in self._coalitions.failed
        return complete

    def _copies(self, i: int, size: int, turn: int) -> tuple[np.ndarray, Any]:
        """Which columns of row ``i`` each copy keeps, and the copies."""
        rng, d = self._rng(turn), self._bins.own.shape[1]
        kept = rng.random((size, d)).argsort(axis=1).argsort(axis=1) >= rng.integers(1, d + 1, size)[:, None]
        kept[: turn == 0] = True
        drawn = np.where(kept, self._bins.own[i], self._bins.elsewhere(i, size, rng))
        kept = drawn == self._bins.own[i]
        return kept, self._bins.frame(drawn, rng, i, kept)

    def samples(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return [tuple(np.concatenate(parts) for parts in zip(*samples, strict=True)) for samples in self._samples]  # type: ignore[misc]


class _Kernel:
    """Weights of the samples by the number of parts they keep."""

    def __init__(self, modality: str, binned: bool, style: str, width: float | None) -> None:
        self._binned, self._scale = binned, 100 if modality == "text" else 1
        self._local, self._width = style == "local" and width is None, width
        self._lime = TEXT_WIDTH if modality == "text" else IMAGE_WIDTH
        self.said: Any = width or ("by effective samples" if self._local else "lime's default")

    def __call__(self, kept: np.ndarray) -> np.ndarray:
        d = kept.shape[1]
        sizes = np.arange(d + 1)
        # Euclidean distance between bins, cosine distance to the full input; an empty coalition is as far as can be.
        distance = np.sqrt(d - sizes) if self._binned else self._scale * (1 - np.sqrt(sizes / d))
        counts = kept.sum(axis=1)
        if self._local:
            amounts = np.bincount(counts, minlength=d + 1)
            width = narrowest(distance, amounts, max(EFFECTIVE_SHARE * len(kept), EFFECTIVE_PER_PART * d))
        else:
            width = self._width or (TABLE_WIDTH_FACTOR * d**0.5 if self._binned else self._lime)
        return np.exp(-(distance**2) / (2 * width**2))[counts]


def narrowest(distance: np.ndarray, amounts: np.ndarray, wanted: float) -> float:
    r"""The smallest kernel width that leaves ``wanted`` effective samples, :math:`(\sum w)^2 / \sum w^2` (Kish 1965).

    ``amounts`` samples lie at each ``distance``; wanted is met at most by as many as there are, at any width.
    """
    low, high = 1e-3 * distance.max(), 1e3 * distance.max()
    for _ in range(50):
        middle = (low * high) ** 0.5
        weights = np.exp(-(distance**2) / (2 * middle**2))
        enough = (amounts @ weights) ** 2 >= wanted * (amounts @ weights**2)
        low, high = (low, middle) if enough else (middle, high)
    return float(high)


def _fitted(sampler: Any, budget: Budget, fit: Callable[[Any], list[Fit | None]]) -> list[Fit | None]:
    """Sample and fit: once, or in rounds until the clock or the error says that it is enough."""
    if not budget.adaptive:
        sampler._coalitions.plan(sampler.cost(budget.evaluations))
        sampler.add(budget.evaluations)
        return fit(sampler.samples())
    fits: list[Fit | None] = []
    while sampler.size < budget.evaluations:
        # Against the clock, few at first, so that every input has some.
        size = _ROUND if budget.seconds is None else min(_ROUND, max(_FIRST, sampler.size))
        complete = sampler.add(min(size, budget.evaluations - sampler.size))
        if budget.error is not None or not complete or sampler.size >= budget.evaluations:
            fits = fit(sampler.samples())
        if not complete or (budget.error is not None and all(one is None or _settled(one, budget.error) for one in fits)):
            break
    return fits or fit(sampler.samples())


def _settled(fit: Fit, error: float) -> bool:
    """Whether the 95 % interval of every coefficient is within the error asked for, as a share of the largest."""
    return bool((1.96 * fit.stderr <= error * np.abs(fit.coefficients).max(axis=0)).all())


def _fit(samples: list[tuple[np.ndarray, np.ndarray]], kernel: _Kernel, num_features: int | None, selection: str) -> list[Fit | None]:
    """One fit per instance, None where too few samples were scored; instances on the same samples are fitted together."""
    fits: list[Fit | None] = [None] * len(samples)
    groups: dict[int, list[int]] = {}
    for i, (kept, scores) in enumerate(samples):
        told = np.isfinite(scores).all(axis=1)
        if told.all():
            groups.setdefault(id(kept), []).append(i)
        elif told.sum() >= _FEWEST:
            fits[i] = Surrogate(kept[told], kernel(kept[told])).fit(scores[told], num_features, selection)
    for members in groups.values():
        kept, scores = samples[members[0]]
        if len(kept) < _FEWEST:
            continue
        k = scores.shape[1]
        whole = Surrogate(kept, kernel(kept)).fit(np.concatenate([samples[i][1] for i in members], axis=1), num_features, selection)
        for position, i in enumerate(members):
            own = slice(position * k, (position + 1) * k)
            fits[i] = Fit(whole.coefficients[:, own], whole.stderr[:, own], whole.r2[own], whole.overlap[own], whole.first[own])
    return fits


def _checks(fit: Fit | None) -> dict[str, Check]:
    if fit is None:
        why = "Too few perturbed copies could be scored for a linear stand-in."
        return {name: Check(name, "not run", why) for name in ("fit", "top-k stability")}
    return {"fit": _fit_check(float(fit.r2.min())), "top-k stability": _stability_check(float(fit.overlap.min()), float(fit.first.min()))}


def _fit_check(fit: float) -> Check:
    status = grade(fit, FIT_PASS, FIT_WARN)
    words = {"pass": "follows the model well", "warn": "follows the model only roughly", "fail": "does not follow the model"}[status]
    return Check(
        "fit", status, f"The linear stand-in {words} around this input: it explains {max(fit, 0):.0%} of the variation.", fit, FIT_PASS
    )


def _stability_check(overlap: float, first: float) -> Check:
    status: Status = grade(min(overlap, first), STABLE_PASS, STABLE_WARN)
    advice = {
        "pass": "",
        "warn": " A larger budget may settle their order.",
        "fail": " Do not rely on them; a larger budget may settle them.",
    }[status]
    return Check(
        "top-k stability", status,
        f"Between two resamples of the perturbed copies, the parts named first overlap by {overlap:.0%} and the very first is the same in "
        f"{first:.0%}.{advice}", min(overlap, first), STABLE_PASS,
    )  # fmt: skip
