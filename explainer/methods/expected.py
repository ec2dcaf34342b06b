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
    tolerance: float = 0.01,
    seed: int = 0,
    progress: Progress | None = None,
) -> Attribution:
    """Each part's share of the difference between the score and the mean score of the background, from gradients on the way.

    ``E over b, a of (x - b) * gradient of f at b + a (x - b)``, b a background row and a uniform on [0, 1]. Erion, Janizek,
    Sturmfels, Lundberg & Lee 2021, arXiv:1906.10670 (captum's ``GradientShap`` without noise, shap's ``GradientExplainer``).
    The values add up to ``f(x) - mean f(b)`` but for the sampling error.

    Sampled in independent replicates, each of which takes every background row once, at two mirrored points a and 1 - a of
    a stratified set; functions of degree two come out exact. The standard errors are those of the mean over replicates,
    widened by Student's factor so that 1.96 of them hold the value in 95 % of cases.

    Parameters
    ----------
    baseline, background : see :class:`~explainer.methods.references.References`; "auto" compares with background rows.
    budget : gradients per input at most, or seconds in all, or the error to stop at ("1% error"); without one, sampling stops at
        95 % intervals of 5 % of the largest value.
    tolerance : sampling goes on while the values miss the difference to be explained by more than this share of it.

    Raises Unsupported on models without gradients, InvalidInput for a baseline or background that does not fit.
    """
    torch_model = require_torch(model, "expected_gradients")
    if isinstance(tolerance, bool) or not isinstance(tolerance, (int, float)) or not tolerance > 0:
        raise InvalidInput(f"tolerance={tolerance!r} is not valid; pass a share above 0, such as 0.01.")
    spent, references = Budget.parse(budget), References(torch_model, inputs, baseline, background, seed)
    run, clock = Run(torch_model, inputs, target, output, progress), Clock(spent)
    base = np.empty((len(inputs), target.k))
    short = np.zeros(len(inputs), dtype=bool)
    with torch_model.differentiating():
        for batch in run.batches(_COPIES):
            starts = references.of(batch)
            for j in range(target.k):
                sample = _Sample(run, batch, starts, target.only(j))
                sample.draw(spent, tolerance, clock, seed)
                base[batch.rows, j] = sample.base
                short[batch.rows] |= sample.short
                for position in range(len(batch.rows)):
                    run.store(batch, j, position, sample.mean(position), sample.error(position))
                run.tick(len(batch.rows))
    if short.any():
        run.notes.append(f"The budget was used up for {int(short.sum())} of {len(inputs)} inputs before the error was small enough.")
    found = run.attribution({"references": references.in_words, "tolerance": tolerance})
    found.base = base
    return found


class _Sample:
    """Replicates of one batch and one functional: their sums, and sums of squares, on the parts with names."""

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
        self._sums: list[Any] = [0.0] * n
        self._squares: list[Any] = [0.0] * n
        self._count = np.zeros(n, dtype=int)
        self.short = np.zeros(n, dtype=bool)

    def draw(self, budget: Budget, tolerance: float, clock: Clock, seed: int) -> None:
        """Replicates until every input's error is small enough, or the budget is used up."""
        k = len(self.starts)
        pairs = max(1, min(k * -(-_FEWEST_PAIRS // k), budget.evaluations // (2 * _ROUND)))
        most = max(2, budget.evaluations // (2 * pairs))
        left = np.arange(len(self._sums))
        for first in range(0, most, _ROUND):
            replicates = range(first, min(most, first + _ROUND))
            self._add(left, [points(k, pairs, np.random.default_rng([seed, replicate])) for replicate in replicates])
            self.run.tick()
            left = left[[not self._settled(int(i), budget.error or _ERROR, tolerance) for i in left]]
            if len(left) == 0 or (clock.over and first):
                break
        self.short[left] = True

    def _settled(self, i: int, error: float, tolerance: float) -> bool:
        values = self.mean(i)
        small = 1.96 * self.error(i).max() <= error * np.abs(values).max()
        return bool(small and abs(values.sum() - (self.here[i] - self.base[i])) <= tolerance * self._unit[i])

    def mean(self, i: int) -> np.ndarray:
        return self._sums[i] / self._count[i]

    def error(self, i: int) -> np.ndarray:
        """Standard error of the mean over replicates, times Student's quantile over the normal one."""
        from scipy.special import stdtrit

        r = self._count[i]
        variance = np.maximum(self._squares[i] - self._sums[i] ** 2 / r, 0) / (r - 1)
        return np.sqrt(variance / r) * float(stdtrit(r - 1, 0.975)) / 1.959964

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
                parts = view.collapse(total, int(i))
                self._sums[i] = self._sums[i] + parts
                self._squares[i] = self._squares[i] + parts**2
            self._count[i] += len(replicates)

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
