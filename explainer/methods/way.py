"""The straight way from a baseline to each input of a batch, and rules to integrate along it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from explainer.adapters.gradients import GradientView
from explainer.adapters.layerview import LayerView
from explainer.methods.passes import Run

Work = Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]


class Way:
    """``start + a (x - start)`` for a in [0, 1], of each row of a view; ``numbers`` are the rows' numbers in the whole."""

    def __init__(self, run: Run, view: GradientView | LayerView, numbers: Tensor, start: Tensor) -> None:
        self.run, self.view, self.start = run, view, start
        self._rest = (*view.others, numbers)

    def walk(self, alphas: np.ndarray, left: np.ndarray, work: Work) -> Iterator[tuple[slice, list[Tensor]]]:
        """``work(points, rest)`` at the points ``alphas`` of the rows ``left``, in order, as many points at a time as memory holds.

        Gives which of them, and tensors ``(points, left, ...)``; ``rest`` is what goes into the functional beside the points.
        """
        x, done = self.view.x, 0

        def at(some: Tensor, rows: np.ndarray) -> list[Tensor]:
            index = torch.from_numpy(rows).to(x.device)
            start = self.start[index]
            points = start + some.reshape(-1, *[1] * x.ndim) * (x[index] - start)
            rest = tuple(t[index.to(t.device)].repeat(len(some), *[1] * (t.ndim - 1)) for t in self._rest)
            found = work(points.flatten(0, 1), rest)
            self.run.evaluations += len(some) * len(rows)
            return [part.unflatten(0, (len(some), len(rows))) for part in found]

        while done < len(alphas):
            chunk = slice(done, min(len(alphas), done + max(1, self.run.rows // len(left))))
            yield chunk, self.run.shared_out(at, torch.from_numpy(alphas[chunk]).to(x), left)
            done = chunk.stop


@dataclass(frozen=True)
class Rung:
    """A quadrature on [0, 1]: the mean at ``nodes`` under ``weights``, and ``carried`` times the rung before, whose nodes it shares."""

    steps: int
    nodes: np.ndarray
    weights: np.ndarray
    carried: float = 0.0


def gauss(steps: int) -> Rung:
    """Gauss-Legendre."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return Rung(steps, (nodes + 1) / 2, weights / 2)


def nested(steps: int, new: bool = False) -> Rung:
    """The trapezoid rule after ``a = t - sin(2 pi t) / (2 pi)`` (Sidi 1993), whose nodes are those of twice the step and one between each.

    Of fourth order, as the ends are smoothed away; open, for they have weight 0. With ``new`` the first of its kind, which has to
    take all of its nodes.
    """
    t = np.arange(1, steps) / steps if new else np.arange(1, steps, 2) / steps
    weights = (1 - np.cos(2 * np.pi * t)) / steps
    return Rung(steps, t - np.sin(2 * np.pi * t) / (2 * np.pi), weights, 0.0 if new else 0.5)
