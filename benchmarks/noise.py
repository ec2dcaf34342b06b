"""What is right of VarGrad, found without any of the tools: float64 gradients at noisy copies of the input, one after the other."""

from __future__ import annotations

import numpy as np
import torch
from cases import Case
from torch import Tensor


def variances(case: Case, pairs: int, noise: float, seed: int = 0) -> tuple[np.ndarray, float] | None:
    """Adebayo et al. 2018: per part the sum of its entries' variances, without bias, over mirrored draws; and their mean square.

    Draw ``k`` is the standard normal numbers of ``default_rng([seed, k])``, a series' step by step, times ``noise`` and the spread
    of the input. None where several tensors are explained.
    """
    if len(case.inputs) > 1:
        return None
    (x,) = case.precise(case.inputs)
    scale = noise * _spread(case, x)
    ups, downs = [], []
    for k in range(pairs):
        rng = np.random.default_rng([seed, k])
        turned = case.modality == "series" and x.shape[1:] != case.given[0].shape
        drawn = rng.standard_normal(x.shape[:0:-1]).T if turned else rng.standard_normal(x.shape[1:])
        way = scale * torch.tensor(drawn)
        ups.append(_gradient(case, x + way))
        downs.append(_gradient(case, x - way))
    square = sum(up**2 + down**2 for up, down in zip(ups, downs, strict=True)) / (2 * pairs)
    means = [(up + down) / 2 for up, down in zip(ups, downs, strict=True)]
    other = np.zeros(x.shape)  # the square of the mean, of different pairs: those of the same would bring their own variance in
    for i in range(pairs):
        for j in range(i):
            other += 2 * means[i] * means[j]
    variance = np.maximum(square - other / (pairs * (pairs - 1)), 0)
    at_parts, whole = ([float((masks[0].double().numpy() * one).sum()) for _, masks in case.parts] for one in (variance, square))
    return np.array(at_parts), max(whole)


def _gradient(case: Case, x: Tensor) -> np.ndarray:
    point = x.detach().requires_grad_()
    with case.in_exact(), torch.autograd.graph.allow_mutation_on_saved_tensors():  # a module may work in place
        score = case.exact(point * 1)[0, case.column]
        return np.asarray(torch.autograd.grad(score, point)[0].numpy())


def _spread(case: Case, x: Tensor) -> Tensor:
    """The range of a picture, of a text's words, or of each channel of a series; a table's standard deviation, or the row's range."""
    if case.modality == "tabular" and case.model.background is not None and len(case.model.background) > 1:
        return case.precise(case.model.encode(case.model.background).tensors)[case.positions[0]].std(0)
    if case.modality == "text":
        words = [t for tokens in case.words for t in tokens]
        size = x[0, words].max() - x[0, words].min()
        return case._at_tokens(x, words) * size
    if case.modality == "series":
        time = 1 if x.shape[1:] == case.given[0].shape else 2
        return x.amax(time, keepdim=True) - x.amin(time, keepdim=True)
    return x.max() - x.min()
