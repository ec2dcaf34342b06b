"""The straight way from a baseline to each input of a batch, and rules to integrate along it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from explainer.adapters.gradients import GradientView
from explainer.adapters.layerview import LayerView
from explainer.explanation import Check, grade
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
            points = torch.addcmul(start, some.reshape(-1, *[1] * x.ndim), x[index] - start)
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
    """A quadrature on [0, 1]: the mean at ``nodes`` under ``weights``, and ``carried`` times the rung before, whose nodes it shares.

    ``coarse``: weights of a coarser rule on some of the same nodes, which a first rung can be compared with.
    """

    steps: int
    nodes: np.ndarray
    weights: np.ndarray
    carried: float = 0.0
    coarse: np.ndarray | None = None


def gauss(steps: int) -> Rung:
    """Gauss-Legendre."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return Rung(steps, (nodes + 1) / 2, weights / 2)


def kronrod() -> Rung:
    """Gauss-Legendre at 7 nodes, and its extension by 8 to a rule of degree 22 (Kronrod 1965), to tell the error of the first by."""
    gauss7, added = np.polynomial.legendre.leggauss(7), np.array(_ADDED)
    nodes = np.concatenate([gauss7[0], added, -added])
    # The weights that integrate the first 15 Legendre polynomials; of which all but the constant have integral 0.
    weights = np.linalg.solve(np.polynomial.legendre.legvander(nodes, 14).T, np.eye(15)[0])
    coarse = np.concatenate([gauss7[1] / 2, np.zeros(8)])
    return Rung(15, (nodes + 1) / 2, weights, coarse=coarse)


_ADDED = (0.991455371120812639, 0.864864423359769073, 0.586087235467691130, 0.207784955007898468)  # zeros of a Stieltjes polynomial


def nested(steps: int, new: bool = False, power: int = 1) -> Rung:
    """The trapezoid rule after ``a = t - sin(2 pi t) / (2 pi)`` (Sidi 1993), whose nodes are those of twice the step and one between each.

    Of fourth order, as the ends are smoothed away; open, for they have weight 0. With ``new`` the first of its kind, which has to
    take all of its nodes. ``power``: :math:`a^p` in place of a, which crowds the nodes where the way begins.
    """
    t = np.arange(1, steps) / steps if new else np.arange(1, steps, 2) / steps
    a, weights = t - np.sin(2 * np.pi * t) / (2 * np.pi), (1 - np.cos(2 * np.pi * t)) / steps
    return Rung(steps, a**power, weights * power * a ** (power - 1), 0.0 if new else 0.5)


def settled(change: float, tolerance: float) -> Check:
    """The check that values no longer depend on how many steps are taken."""
    reason = f"Twice the steps change the values by {change:.2g} of the largest."
    return Check("integration", grade(change, tolerance, 5 * tolerance), reason, change, tolerance)
