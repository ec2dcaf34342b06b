"""SmoothGrad and VarGrad: the gradients of many noisy copies of an input, their mean and their variance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from explainer.adapters.gradients import GradientView
from explainer.adapters.layouts import SeriesLayout, TableLayout, TextLayout
from explainer.adapters.torch import require_torch
from explainer.errors import InvalidInput, unknown
from explainer.methods.attribution import Attribution
from explainer.methods.passes import Batch, Functional, Progress, Run
from explainer.model import Model
from explainer.target import Target

_GROUPS = 8  # of draws, whose means tell the standard error
_COPIES = 4  # of each input in one pass, at least, where memory holds them
_FORMULAS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"saliency": lambda x, g: g, "input_x_gradient": lambda x, g: x * g}
Of = Literal["saliency", "input_x_gradient"]


def smoothgrad(
    model: Model,
    inputs: Any,
    target: Target,
    *,
    output: str = "probability",
    of: Of = "saliency",
    noise: float = 0.15,
    samples: int = 64,
    absolute: bool = True,
    background: Any = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Attribution:
    """The gradient averaged over noisy copies of the input: how the score reacts around it, without the jitter at the point itself.

    ``E over e of g(x + e)``, e normal with standard deviation ``noise`` times the input's spread, g the gradient or the input times
    it; of the mean its size is taken. Smilkov, Thorat, Kim, Viegas & Wattenberg 2017, arXiv:1706.03825. Noise is drawn in mirrored
    pairs e and -e, and is the same for every input of a size: a value depends neither on the batch nor on the place in it. The
    standard errors are those of eight groups of draws, widened by Student's factor so that 1.96 of them hold the value in 95 % of
    cases.

    The spread is, per picture or text, the range of its own numbers (a text's are those of its words' embeddings); per channel of
    a series, the range in its own steps; per encoded column of a table, the standard deviation in the background, or without one
    the range of the row.

    Parameters
    ----------
    of : "saliency" or "input_x_gradient".
    noise : the standard deviation of the noise over the spread.
    samples : gradients per input; at least 16, and a multiple of 16 or the next higher one.
    absolute : False keeps the sign of the mean gradient; input x gradient always has its sign.
    background : rows whose spread is that of a table's columns; the model's own unless given.

    Raises Unsupported on models without gradients, InvalidInput for a noise or a number of samples that is none.
    """
    keep_sign = of == "input_x_gradient" or not absolute
    found = _attribute(
        "smoothgrad", model, inputs, target, output, of, noise, samples, background, seed, progress, partial(_Mean, keep_sign)
    )
    found.parameters = {**found.parameters, "absolute": not keep_sign}
    return found


def vargrad(
    model: Model,
    inputs: Any,
    target: Target,
    *,
    output: str = "probability",
    of: Of = "saliency",
    noise: float = 0.15,
    samples: int = 64,
    background: Any = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Attribution:
    """The variance of the gradient over noisy copies of the input: where the score's reaction changes most around it.

    ``Var over e of g(x + e)``, estimated without bias, summed over a feature's entries; see :func:`smoothgrad` for the noise and the
    parameters. Adebayo, Gilmer, Goodfellow & Kim 2018, arXiv:1810.03307. In units of the squared gradient.

    Raises Unsupported on models without gradients, InvalidInput for a noise or a number of samples that is none.
    """
    return _attribute("vargrad", model, inputs, target, output, of, noise, samples, background, seed, progress, _Variance)


class _Mean:
    """The mean over mirrored pairs, from the sums of groups of them, which tell its error."""

    def __init__(self, keep_sign: bool, x: Tensor) -> None:
        self._keep_sign = keep_sign
        self._groups = torch.zeros((_GROUPS, *x.shape), dtype=torch.float64, device=x.device)

    def add(self, draws: range, up: Tensor, down: Tensor) -> None:
        self._groups.index_add_(0, torch.tensor([draw % _GROUPS for draw in draws], device=up.device), up + down)

    def values(self, pairs: int) -> tuple[Tensor, Tensor]:
        """The mean, and what it is the mean of, ``(groups, n, ...)``."""
        groups = self._groups * (_GROUPS / (2 * pairs))
        mean = groups.mean(0)
        return (mean, groups) if self._keep_sign else (mean.abs(), groups * mean.sign())


class _Variance:
    """The variance over mirrored pairs: the mean square, less products of the means of different pairs, which have no bias."""

    def __init__(self, x: Tensor) -> None:
        self._sums, self._sums_squared, self._squares = (torch.zeros_like(x, dtype=torch.float64) for _ in range(3))

    def add(self, draws: range, up: Tensor, down: Tensor) -> None:
        means = (up + down) / 2
        self._sums += means.sum(0)
        self._sums_squared += (means**2).sum(0)
        self._squares += (up**2 + down**2).sum(0)

    def values(self, pairs: int) -> tuple[Tensor, None]:
        products = (self._sums**2 - self._sums_squared) / (pairs * (pairs - 1))
        return (self._squares / (2 * pairs) - products).clamp(min=0), None


def _attribute(
    name: str, model: Model, inputs: Any, target: Target, output: str, of: str, noise: float, samples: int, background: Any, seed: int,
    progress: Progress | None, summary: Callable[[Tensor], _Mean | _Variance],
) -> Attribution:  # fmt: skip
    torch_model = require_torch(model, name)
    if of not in _FORMULAS:
        raise unknown("of", of, _FORMULAS)
    if isinstance(noise, bool) or not isinstance(noise, (int, float, np.number)) or not 0 < noise < np.inf:
        raise InvalidInput(f"noise={noise!r} is not valid; it is a share of the input's spread above 0, such as 0.15.")
    if isinstance(samples, bool) or not isinstance(samples, (int, np.integer)) or samples < 1:
        raise InvalidInput(f"samples={samples!r} is not valid; pass a whole number of at least {2 * _GROUPS}.")
    each = max(1, -(-int(samples) // (2 * _GROUPS)))
    run = Run(torch_model, inputs, target, output, progress)
    background = torch_model.background if background is None else torch_model.canonical(background)
    with torch_model.differentiating():
        for batch in run.batches(_COPIES):
            assert isinstance(batch.view, GradientView)
            scale = float(noise) * _spread(batch.view, background)
            for j in range(target.k):
                kept = summary(batch.view.x)
                draws = _Draws(run, batch, target.only(j), scale, _FORMULAS[of])
                draws.take(each * _GROUPS, seed, kept)
                values, groups = kept.values(each * _GROUPS)
                parts = batch.view.collapse_all(values)
                errors = None if groups is None else _errors([batch.view.collapse_all(group) for group in groups])
                for position in range(len(batch.rows)):
                    run.store(batch, j, position, parts[position], None if errors is None else errors[position])
                run.tick(len(batch.rows))
    return run.attribution({"of": of, "noise": float(noise), "samples": 2 * _GROUPS * each})


def _errors(groups: list[Sequence[np.ndarray]]) -> list[np.ndarray]:
    """Standard errors per instance, from the groups' values ``[group][instance]``."""
    from scipy.special import stdtrit

    widened = float(stdtrit(len(groups) - 1, 0.975)) / 1.959964
    return [np.std(parts, axis=0, ddof=1) / np.sqrt(len(groups)) * widened for parts in zip(*groups, strict=True)]


class _Draws:
    """Gradients at noisy copies of one batch."""

    def __init__(self, run: Run, batch: Batch, goal: Target, scale: Tensor, formula: Callable[[Tensor, Tensor], Tensor]) -> None:
        assert isinstance(batch.view, GradientView)
        self.run, self.batch, self.view, self.scale, self.formula = run, batch, batch.view, scale, formula
        self.function = Functional(batch, goal)

    def take(self, pairs: int, seed: int, kept: _Mean | _Variance) -> None:
        """Mirrored draws, as many pairs at a time as memory holds."""
        rows, done = np.arange(len(self.batch.rows)), 0
        while done < pairs:
            draws = range(done, min(pairs, done + max(1, self.run.rows // (2 * len(rows)))))
            noise = np.stack([_normal(self.view, np.random.default_rng([seed, draw])) for draw in draws])
            kept.add(draws, *self.run.shared_out(self._gradients, torch.from_numpy(noise).to(self.view.x), rows))
            self.run.tick()
            done = draws.stop

    def _gradients(self, noise: Tensor, rows: np.ndarray) -> list[Tensor]:
        """The formula at the inputs plus and minus each noise, ``(draws, rows, ...)`` twice."""
        index = torch.from_numpy(rows).to(noise.device)
        way = noise[:, None] * self.scale[index]
        points = (self.view.x[index] + torch.stack([way, -way])).flatten(0, 2)
        rest = tuple(t[index.to(t.device)].repeat(2 * len(noise), *[1] * (t.ndim - 1)) for t in self.batch.rest)
        found = self.formula(points, self.function.gradient(points, rest))
        self.run.evaluations += len(points)
        return list(found.unflatten(0, (2, len(noise), len(rows))))


def _normal(view: GradientView, rng: np.random.Generator) -> np.ndarray:
    """Standard normal numbers for one row of a view, those of an earlier step or token not changed by how many come after it."""
    shape = tuple(view.x.shape[1:])
    if isinstance(view.layout, SeriesLayout) and not view.layout.time_first:
        return rng.standard_normal(shape[::-1]).T
    return rng.standard_normal(shape)


def _spread(view: GradientView, background: Any) -> Tensor:
    """The spread that noise is measured by, ``(n, ...)`` against ``view.x``; 0 where there is nothing of the input."""
    x, layout = view.x, view.layout
    if isinstance(layout, TableLayout) and background is not None and len(background) > 1:
        return view.model.encode(background).tensors[view.position].to(x).std(0).expand_as(x)
    here, over = torch.ones_like(x, dtype=torch.bool), tuple(range(1, x.ndim))
    if isinstance(layout, TextLayout):
        here = layout.word_positions(x.device)[..., None].expand_as(x)
    elif isinstance(layout, SeriesLayout):
        time = 1 if layout.time_first else 2
        present = torch.from_numpy(layout.present(x.shape[time])).to(x.device)
        here, over = present.unsqueeze(3 - time).expand_as(x), (time,)
    high, low = (torch.where(here, x, sign * -torch.inf).mul(sign).amax(over, keepdim=True) for sign in (1, -1))
    return torch.where(here, (high + low).clamp(min=0), 0)
