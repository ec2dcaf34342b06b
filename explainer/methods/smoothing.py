"""SmoothGrad and VarGrad: the gradients of many noisy copies of an input, their mean and their variance."""

from __future__ import annotations

from collections.abc import Callable
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

    def mean(draws: _Draws) -> tuple[Tensor, Tensor]:
        groups = draws.groups / draws.each
        whole = groups.mean(0)
        return (whole, groups) if keep_sign else (whole.abs(), groups * whole.sign())

    found = _attribute("smoothgrad", model, inputs, target, output, of, noise, samples, background, seed, progress, mean)
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

    def variance(draws: _Draws) -> tuple[Tensor, None]:
        m = draws.pairs
        # The squared mean without its own noise: products of the means of different pairs.
        square = (draws.sums**2 - draws.sums_squared) / (m * (m - 1))
        return (draws.squares / (2 * m) - square).clamp(min=0), None

    return _attribute("vargrad", model, inputs, target, output, of, noise, samples, background, seed, progress, variance)


def _attribute(
    name: str, model: Model, inputs: Any, target: Target, output: str, of: str, noise: float, samples: int, background: Any, seed: int,
    progress: Progress | None, summary: Callable[[_Draws], tuple[Tensor, Tensor | None]],
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
        for batch in run.batches(min(2 * _GROUPS * each, 32)):
            assert isinstance(batch.view, GradientView)
            scale = float(noise) * _spread(batch.view, background)
            for j in range(target.k):
                draws = _Draws(run, batch, target.only(j), scale, _FORMULAS[of])
                draws.take(each, seed)
                values, parts = summary(draws)
                for position in range(len(batch.rows)):
                    collapsed = batch.view.collapse(values[position], position)
                    error = None if parts is None else _error([batch.view.collapse(part[position], position) for part in parts])
                    run.store(batch, j, position, collapsed, error)
                run.tick(len(batch.rows))
    return run.attribution({"of": of, "noise": float(noise), "samples": 2 * _GROUPS * each})


def _error(groups: list[np.ndarray]) -> np.ndarray:
    from scipy.special import stdtrit

    widened = float(stdtrit(len(groups) - 1, 0.975)) / 1.959964
    return np.std(groups, axis=0, ddof=1) / np.sqrt(len(groups)) * widened


class _Draws:
    """Gradients at noisy copies of one batch: what means, errors and variances need of them."""

    def __init__(self, run: Run, batch: Batch, goal: Target, scale: Tensor, formula: Callable[[Tensor, Tensor], Tensor]) -> None:
        assert isinstance(batch.view, GradientView)
        self.run, self.batch, self.view, self.scale, self.formula = run, batch, batch.view, scale, formula
        self.function = Functional(batch, goal)
        x = batch.view.x
        self.groups = torch.zeros((_GROUPS, *x.shape), dtype=torch.float64, device=x.device)
        self.sums, self.sums_squared, self.squares = (torch.zeros_like(self.groups[0]) for _ in range(3))
        self.each = self.pairs = 0

    def take(self, each: int, seed: int) -> None:
        """``each`` pairs of mirrored draws for every group."""
        self.each, self.pairs = each, each * _GROUPS
        rows, done = np.arange(len(self.batch.rows)), 0
        while done < self.pairs:
            chunk = range(done, min(self.pairs, done + max(1, self.run.rows // (2 * len(rows)))))
            noise = np.stack([_normal(self.view, np.random.default_rng([seed, draw])) for draw in chunk])
            both = self.run.shared_out(self._gradients, torch.from_numpy(noise).to(self.view.x), rows)
            for draw, up, down in zip(chunk, *both, strict=True):
                mean = (up + down) / 2
                self.groups[draw % _GROUPS] += mean
                self.sums += mean
                self.sums_squared += mean**2
                self.squares += up**2 + down**2
            self.run.tick()
            done = chunk.stop

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
