"""Expected gradients: integrated gradients averaged over background rows, sampled, with a standard error on each value."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from explainer.adapters.torch import TorchModel, out_of_memory, require_torch
from explainer.coalitions import Budget, Clock
from explainer.errors import InvalidInput, Unsupported
from explainer.features.base import Features
from explainer.inputs import join
from explainer.methods.attribution import Attribution
from explainer.methods.passes import Batch, Functional, Progress, Run
from explainer.methods.references import References
from explainer.model import Model
from explainer.target import Target

_ROUND = 8  # replicates drawn before the error is looked at again
_FEWEST_PAIRS = 8  # in a replicate, so that the way is covered evenly where there are few references
_ERROR = 0.05  # sampling stops when 95 % intervals are within this share of the largest value
_FLOOR = 0.01  # a difference from the background below 1 % of the scale is held to the error allowed at 1 %
_FEWEST_FITTED = 6  # replicates, from which the known sum is put to use
_CHANCE = 4.0  # standard errors that the sum may be off by chance
_COPIES = 16  # points per input in one pass, at least, where memory holds them


def expected_gradients(
    model: Model,
    inputs: Any,
    target: Target,
    *,
    output: str = "probability",
    baseline: Any = "auto",
    background: Any = None,
    budget: Any = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Attribution:
    """Each part's share of the difference between the score and the mean score of the background, from gradients on the way.

    ``E over b, a of (x - b) * gradient of f at b + a (x - b)``, b a background row and a uniform on [0, 1]. Erion, Janizek,
    Sturmfels, Lundberg & Lee 2021, arXiv:1906.10670 (captum's ``GradientShap`` without noise, shap's ``GradientExplainer``).
    The values add up to ``f(x) - mean f(b)``, which the estimate makes use of; a sum that is off by more than chance is left so.

    Sampled in independent replicates, each of which takes every background row once, at two mirrored points a and 1 - a of
    a stratified set; functions of degree two come out exact. The standard errors are those of the mean over replicates,
    widened by Student's factor so that 1.96 of them hold the value in 95 % of cases.

    Parameters
    ----------
    baseline, background : see :class:`~explainer.methods.references.References`; "auto" compares with background rows.
    budget : gradients per input at most, or seconds in all, or the error to stop at ("1% error"); without one, sampling stops at
        95 % intervals of 5 % of the largest value.

    Raises Unsupported on models without gradients, InvalidInput for a baseline or background that does not fit.
    """
    torch_model = require_torch(model, "expected_gradients")
    spent, references = Budget.parse(budget), References(torch_model, inputs, baseline, background, seed)
    run, clock = Run(torch_model, inputs, target, output, progress), Clock(spent)
    base = np.empty((len(inputs), target.k))
    short, astray = np.zeros(len(inputs), dtype=bool), np.zeros(len(inputs), dtype=bool)
    with torch_model.differentiating():
        for batch in run.batches(_COPIES):
            starts = references.of(batch)
            for j in range(target.k):
                sample = _Sample(run, batch, starts, target.only(j))
                sample.draw(spent, clock, seed)
                base[batch.rows, j] = sample.base
                short[batch.rows] |= sample.short
                for position in range(len(batch.rows)):
                    run.store(batch, j, position, *sample.estimate(position))
                astray[batch.rows] |= sample.astray
                run.tick(len(batch.rows))
    if short.any() and spent.error is None:  # against an error asked for, all methods are held in one place
        run.notes.append(f"The budget was used up for {int(short.sum())} of {len(inputs)} inputs before the error was small enough.")
    if astray.any():
        run.notes.append(
            f"For {int(astray.sum())} of {len(inputs)} inputs the values miss the difference by more than chance: the score moves where "
            "its gradient is 0 or cut off (steps, rounding, detach), or in jumps too narrow for the draws. Use 'shap'."
        )
    found = run.attribution({"references": references.in_words})
    found.base = base
    return found


class _Moments:
    """Independent draws of one input's values: what their mean and its error need, each draw taken from the first."""

    def __init__(self) -> None:
        self._origin: Any = None
        self._count, self._sum, self._sum2 = 0, 0.0, 0.0
        self._first: Any = 0.0
        self._second: Any = 0.0
        self._cross: Any = 0.0

    def add(self, values: np.ndarray) -> None:
        if self._origin is None:
            self._origin = values
        far = values - self._origin
        total = float(far.sum())
        self._count, self._sum, self._sum2 = self._count + 1, self._sum + total, self._sum2 + total**2
        self._first, self._second, self._cross = self._first + far, self._second + far**2, self._cross + far * total

    def estimate(self, known: float, unit: float) -> tuple[np.ndarray, np.ndarray, bool]:
        """The mean, its standard error times Student's quantile over the normal one, and whether the sum is off by more than chance.

        What the values must add up to is known, so each is corrected by its regression on the sums of the draws (a control
        variate); not where the sums are so far off that the gradient does not tell all: that must show.
        """
        from scipy.special import stdtrit

        r = self._count
        mean, squares = self._origin + self._first / r, self._second - self._first**2 / r
        off, variance = known - float(mean.sum()), self._sum2 - self._sum**2 / r
        astray = off**2 > _CHANCE**2 * variance / (r * (r - 1)) + (_FLOOR * unit) ** 2
        freedom, lever = r - 1, 1 / r
        if r >= _FEWEST_FITTED and variance > 1e-12 * unit**2 and not astray:
            slope = (self._cross - self._first * (self._sum / r)) / variance
            mean, squares = mean + slope * off, squares - slope**2 * variance
            freedom, lever = r - 2, 1 / r + off**2 / variance
        return mean, np.sqrt(np.maximum(squares, 0) / freedom * lever) * float(stdtrit(freedom, 0.975)) / 1.959964, astray


class _Sample:
    """Replicates of one batch and one functional, on the parts with names."""

    def __init__(self, run: Run, batch: Batch, starts: Tensor, goal: Target) -> None:
        self.run, self.batch, self.starts = run, batch, starts
        self.function = Functional(batch, goal)
        n = len(batch.rows)
        with torch.no_grad():
            at_references = self.function.head(*batch.at(starts)).reshape(len(starts), n)
            here = self.function(batch.view.x, *batch.rest)
        self.base, self.here = at_references.mean(0).cpu().numpy(), here.cpu().numpy()
        run.evaluations += len(starts) * starts.shape[1] + n
        scale = 1.0 if batch.output == "probability" else np.maximum(np.abs(self.base), np.abs(self.here))
        self._unit = np.maximum(np.abs(self.here - self.base), np.maximum(_FLOOR * scale, 1e-12))
        self._draws = [_Moments() for _ in range(n)]
        self.short, self.astray = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)

    def draw(self, budget: Budget, clock: Clock, seed: int) -> None:
        """Replicates until every input's error is small enough, or the budget is used up."""
        k = len(self.starts)
        pairs = max(1, min(k * -(-_FEWEST_PAIRS // k), budget.evaluations // (2 * _ROUND)))
        most = max(2, budget.evaluations // (2 * pairs))
        left = np.arange(len(self._draws))
        for first in range(0, most, _ROUND):
            replicates = range(first, min(most, first + _ROUND))
            self._add(left, [points(k, pairs, np.random.default_rng([seed, replicate])) for replicate in replicates])
            self.run.tick()
            left = left[[not self._settled(int(i), budget.error or _ERROR) for i in left]]
            if len(left) == 0 or clock.over:
                break
        self.short[left] = True

    def _settled(self, i: int, error: float) -> bool:
        values, errors = self.estimate(i)
        return bool(1.96 * errors.max() <= error * np.abs(values).max())

    def estimate(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Values of input ``i`` and their standard errors."""
        values, errors, self.astray[i] = self._draws[i].estimate(self.here[i] - self.base[i], self._unit[i])
        return values, errors

    def _add(self, left: np.ndarray, replicates: list[tuple[np.ndarray, np.ndarray]]) -> None:
        view, device = self.batch.view, self.batch.view.x.device
        owner = torch.from_numpy(np.repeat(np.arange(len(replicates)), len(replicates[0][0]))).to(device)
        which = torch.from_numpy(np.concatenate([rows for rows, _ in replicates])).to(device)
        how_far = torch.from_numpy(np.concatenate([alphas for _, alphas in replicates])).to(view.x)
        totals = torch.zeros((len(replicates), len(left), *view.x.shape[1:]), dtype=torch.float64, device=device)
        done = 0
        while done < len(which):
            chunk = slice(done, done + max(1, self.run.rows // len(left)))
            try:
                totals.index_add_(0, owner[chunk], self._shares(left, which[chunk], how_far[chunk]))
            except RuntimeError as error:
                if not out_of_memory(error) or chunk.stop - chunk.start == 1:
                    raise
                self.run.rows = max(1, self.run.rows // 2)
                continue
            done = chunk.stop
        self.run.evaluations += len(which) * len(left)
        totals /= len(replicates[0][0])
        for position, i in enumerate(left):
            for total in totals[:, position]:
                self._draws[i].add(view.collapse(total, int(i)))

    def _shares(self, left: np.ndarray, which: Tensor, how_far: Tensor) -> Tensor:
        """``(points, inputs, ...)``: the way from the reference times the gradient at each point."""
        view = self.batch.view
        index = torch.from_numpy(left).to(view.x.device)
        start = self.starts[which] if self.starts.shape[1] == 1 else self.starts[which][:, index]
        way = view.x[index] - start
        at = start + how_far.reshape(-1, *[1] * view.x.ndim) * way
        rest = tuple(t[index.to(t.device)].repeat(len(which), *[1] * (t.ndim - 1)) for t in self.batch.rest)
        return way.double() * self.function.gradient(at.flatten(0, 1), rest).reshape(way.shape)


def points(references: int, pairs: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One replicate: which reference and how far along, ``(2 pairs,)`` each.

    References come in random orders, each whole before the next; the nearer points of the pairs lie one in each of ``pairs``
    equal steps of [0, 1/2], in random order, and their mirror images in the other half (McKay, Beckman & Conover 1979).
    """
    orders = [rng.permutation(references) for _ in range(-(-pairs // references))]
    rows = np.concatenate(orders)[:pairs]
    near = (rng.permutation(pairs) + rng.random(pairs)) / (2 * pairs)
    return np.tile(rows, 2), np.concatenate([near, 1 - near])


def control(
    model: Model, inputs: Any, target: Target, *, output: str, features: Features, gradients: int = 64, seed: int = 0
) -> list[np.ndarray] | None:
    """Expected gradients of the parts of coalition games, ``(players, k)`` per input, as a control for sampled Shapley values.

    The references are what the model sees where every part is absent, so that the values explain the same difference as the
    game. ``gradients`` is how many each input takes; what error that leaves only makes the control less close. They lower the
    error of the odd Gaussian process where the budget is below about three evaluations per part, and not beyond.

    None where the model has no gradients, or where absent parts leave no fixed reference of the input's shape (words that are
    taken out, values that depend on the parts present).
    """
    if not isinstance(model, TorchModel) or model.modality == "text":
        return None
    empty = [features.rows(i, np.zeros((1, features.players(i)), dtype=bool)) for i in range(len(inputs))]
    if model.modality == "tabular":
        if not all(rows.equals(empty[0]) for rows in empty):
            return None
        references = {"background": empty[0]}  # the same rows for every input
    elif features.repeats == 1:
        references = {"baseline": join(empty)}
    else:
        return None
    try:
        found = expected_gradients(model, inputs, target, output=output, budget=Budget(gradients), seed=seed, **references)
    except (Unsupported, InvalidInput):
        return None
    return [
        np.stack([features.pool(i, values[..., j], found.axes) for j in range(target.k)], axis=1) for i, values in enumerate(found.values)
    ]
