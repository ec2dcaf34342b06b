"""Score-CAM: a layer's channels, each weighted with the score of the picture seen through it alone (Wang et al. 2020)."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from explainer.adapters.grids import choose
from explainer.adapters.torch import require_torch
from explainer.coalitions import Coalitions
from explainer.errors import unknown
from explainer.features.image import baseline_of
from explainer.methods.attribution import Attribution
from explainer.methods.cam import Maps, activations, enlarged
from explainer.model import Model
from explainer.target import Target

_BYTES_AT_ONCE = 2**25  # of masked copies built at once
_WEIGHTS = ("auto", "increase", "softmax")


def score_cam(
    model: Model, inputs: Any, target: Target, *, coalitions: Coalitions, output: str = "probability", baseline: Any = "auto",
    layer: str | nn.Module = "auto", relu: bool = True, weights: Literal["auto", "increase", "softmax"] = "auto",
) -> Attribution:  # fmt: skip
    r"""A layer's channels, each weighted with how much of the score the picture keeps when it is seen through that channel.

    .. math:: L = \mathrm{ReLU}\Big(\sum_k w_k A^k\Big), \quad c_k = f(x \circ H_k + b \circ (1 - H_k)) - f(b)

    with :math:`H_k` the channel enlarged to the picture and brought to [0, 1], b the baseline picture. Wang et al. 2020,
    arXiv:1910.01279. One pass of the model per channel and no gradient. Values as for
    :func:`~explainer.methods.cam.grad_cam`.

    Parameters
    ----------
    baseline : "auto" (black), "zeros", "mean", "blur" or a picture.
    layer, relu : as for :func:`~explainer.methods.cam.grad_cam`.
    weights : "softmax", :math:`w = \mathrm{softmax}(c)` over the channels, as the paper has it for logits; "increase",
        :math:`w = c`; "auto", the first for logits and the second otherwise (a softmax of numbers in [0, 1] weighs all alike).

    The budget's evaluations bound the channels of each input; those that vary most over the picture are taken, and a channel
    that does not vary shows nothing and has weight 0. Raises as :func:`~explainer.methods.cam.grad_cam`.
    """
    torch_model = require_torch(model, "score_cam")
    if weights not in _WEIGHTS:
        raise unknown("weights", weights, _WEIGHTS)
    softmax = weights == "softmax" or (weights == "auto" and output == "logit")
    choice = choose(torch_model, inputs, layer, gradient=False)
    found = Maps(torch_model, inputs, target, choice, None)
    hidden = baseline_of(inputs, baseline)
    most = max(1, coalitions.budget.evaluations - 1)
    coalitions.plan(len(inputs) * (1 + min(most, _channels(torch_model, choice, inputs))))
    used, given = 0, 0
    for i in range(len(inputs)):
        maps = activations(torch_model, choice, inputs[i : i + 1])[0]
        taken, able = _energetic(maps, most)
        increase = _increases(coalitions, i, inputs[i], hidden[i], maps[taken])
        cells = torch.einsum("mk,mhw->khw", torch.from_numpy(_weighted(increase, softmax)).to(maps), maps[taken])
        for j in range(target.k):
            found.keep(np.array([i]), j, (cells[j : j + 1].clamp(min=0) if relu else cells[j : j + 1]))
        used, given = max(used, int(np.isfinite(increase).all(axis=1).sum())), max(given, able)
    if used < given:
        found.notes.append(f"Of {given} channels that vary, the budget covered {used}; a budget of {given + 1} covers all.")
    found.evaluations = coalitions.evaluations
    return found.attribution({"relu": relu, "weights": "softmax" if softmax else "increase", "channels": used,
                              "baseline": baseline if isinstance(baseline, str) else "given"})  # fmt: skip


def _channels(model: Any, choice: Any, inputs: np.ndarray) -> int:
    return int(activations(model, choice, inputs[:1]).shape[1])


def _energetic(maps: torch.Tensor, most: int) -> tuple[np.ndarray, int]:
    """The channels that vary over the picture, the strongest first and at most ``most``; and how many vary in all."""
    energy = maps.flatten(1).std(1, unbiased=False).cpu().numpy()
    order = np.argsort(-energy, kind="stable")
    able = int(np.count_nonzero(energy > 1e-12 * max(float(energy.max()), 1e-300)))
    return order[: min(able, most)], able


def _increases(coalitions: Coalitions, i: int, picture: np.ndarray, hidden: np.ndarray, maps: torch.Tensor) -> np.ndarray:
    """``(channels, k)``: the target on the picture seen through each channel, less its value on the baseline."""
    at_once = max(1, _BYTES_AT_ONCE // max(1, 4 * picture.nbytes))
    base = coalitions.score_rows(i, hidden[None])
    scores = [np.empty((0, base.shape[1]))]
    for part in maps.split(at_once):
        masks = enlarged(part, picture.shape[:2]).cpu().numpy()
        low, high = masks.min(axis=(1, 2), keepdims=True), masks.max(axis=(1, 2), keepdims=True)
        shown = (masks - low) / np.where(high > low, high - low, 1)
        over = shown[..., None] if picture.ndim == 3 else shown
        scores.append(coalitions.score_rows(i, (hidden + over * (picture - hidden)).astype(np.float32)))
    return np.concatenate(scores) - base


def _weighted(increase: np.ndarray, softmax: bool) -> np.ndarray:
    """A weight per channel and functional; channels that were not scored have none."""
    told = np.isfinite(increase)
    if len(told) and not told.any():
        return increase  # NaN: nothing is known of this input
    if not softmax or not len(told):
        return np.where(told, increase, 0.0)
    exponent = np.where(told, increase, -np.inf)
    powers = np.exp(exponent - exponent.max(axis=0, keepdims=True))
    return powers / powers.sum(axis=0, keepdims=True)
