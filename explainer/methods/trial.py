"""How far off a gradient method is on a model, from a short run on a sample input, told before it runs on anybody's inputs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from torch.utils.flop_counter import FlopCounterMode

from explainer.adapters import ways
from explainer.adapters.torch import TorchModel
from explainer.errors import ExplainerError
from explainer.inputs import take
from explainer.methods.attribution import Attribution
from explainer.methods.backprop import guided_backprop, lrp
from explainer.methods.expected import expected_gradients
from explainer.methods.gradient import integrated_gradients, saliency
from explainer.methods.smoothing import smoothgrad, vargrad
from explainer.methods.units import internal_influence, layer_conductance
from explainer.numerals import rounded
from explainer.target import Target, resolve

_STEPS, _DRAWS = 15, 64
_MOST_WORK = 10**8  # multiplications in a pass; of more, the hundred passes of all trials would take seconds
_LEAST = 0.01  # of the score: a smaller difference from the baseline is held to that


class Trial(NamedTuple):
    """One input of a model, and its predicted class, for the methods to be tried on."""

    model: TorchModel
    row: Any
    goal: Target
    output: str

    @property
    def score(self) -> float:
        return float(self.goal(self.model.scores(self.row, self.output), 0)[0, 0])

    def run(self, method: Callable[..., Attribution], **options: Any) -> Attribution:
        return method(self.model, self.row, self.goal, output=self.output, **options)


def error_of(model: TorchModel, method: str) -> str:
    """What a short run says of the error of a gradient method, in a sentence; nothing where it says nothing."""
    if method not in _ASKED or not model.anatomy().probed:
        return ""
    try:
        sample = model.sample()
        if too_large(model):
            return "How far off it is here was not tried on a sample input, as a pass takes long; the verdict of each result says it."
        pair = ways.varied(model, sample)
        row = sample if pair is None else take(pair, slice(1, 2))
        output = "raw" if model.task == "regression" or method == "lrp" else "probability"
        goal = resolve("predicted", model.scores(row, output), model.class_names)
        return _ASKED[method](Trial(model, row, goal, output))
    except ExplainerError:  # the sample does not fit, which says nothing about the method
        return ""


def too_large(model: TorchModel) -> bool:
    """Whether a pass takes so long that short runs of every method would not be short."""
    return _work(model, model.sample()) > _MOST_WORK


def _work(model: TorchModel, sample: Any) -> int:
    """Multiplications and additions of one pass, as far as PyTorch counts them."""
    view = model.gradient_view(sample)
    with model.differentiating(), FlopCounterMode(display=False) as counter:
        view.forward(view.x.clone().requires_grad_(), *view.others)
    return int(counter.get_total_flops())


def _completeness(method: Callable[..., Attribution], trial: Trial) -> str:
    found = trial.run(method, steps=_STEPS)
    assert found.base is not None
    difference = trial.score - float(found.base[0, 0])
    least = _LEAST * (1.0 if trial.output == "probability" else abs(trial.score))
    gap = abs(float(found.values[0].sum()) - difference) / max(abs(difference), least, 1e-12)
    return (
        f"On a sample input, {_STEPS} steps miss the difference explained by {_rough(gap)} times its size; inputs that need more get more."
    )


def _sampling(method: Callable[..., Attribution], option: str, trial: Trial) -> str:
    found = trial.run(method, **{option: _DRAWS})
    if found.base is not None and found.values[0].size < 2:
        return "On a sample input of one part, that part takes the whole difference."
    if found.stderr is None:  # fewer draws than background rows
        return ""
    reach = 1.96 * float(np.max(found.stderr[0])) / max(float(np.abs(found.values[0]).max()), 1e-300)
    intervals = f"95 % intervals of {_rough(reach)} of the largest value"
    return f"On a sample input, {found.evaluations} gradients leave {intervals}; four times as many halve that."


def _redrawn(trial: Trial) -> str:
    one, other = (trial.run(vargrad, samples=_DRAWS, seed=seed).values[0] for seed in (0, 1))
    return f"On a sample input, another {_DRAWS} draws change the values by {_rough(_apart(other, one))} of the largest."


def _integration(trial: Trial) -> str:
    few, more = (trial.run(internal_influence, steps=steps).values[0] for steps in (_STEPS, 2 * _STEPS))
    return f"On a sample input, {2 * _STEPS} steps in place of {_STEPS} change the values by {_rough(_apart(few, more))} of the largest."


def _conservation(trial: Trial) -> str:
    missed = abs(float(trial.run(lrp).values[0].sum()) - trial.score) / max(abs(trial.score), 1e-12)
    return f"On a sample input the values miss the score by {_rough(missed)} of it."


def _from_the_gradient(trial: Trial) -> str:
    own, plain = trial.run(guided_backprop).values[0], trial.run(saliency, absolute=False).values[0]
    return f"On a sample input its values differ from the gradient's by {_rough(_apart(own, plain))} of the largest."


def _rough(share: float) -> str:
    return rounded(share, 1)


def _apart(values: np.ndarray, others: np.ndarray) -> float:
    return float(np.abs(values - others).max() / max(np.abs(others).max(), 1e-300))


def _slope(trial: Trial) -> str:
    error = trial.model.anatomy().slope_error
    return "" if not np.isfinite(error) else f"At a sample input the gradient is within {_rough(error)} of the slope of the score."


_ASKED: dict[str, Callable[[Trial], str]] = {
    "integrated_gradients": partial(_completeness, integrated_gradients),
    "layer_conductance": partial(_completeness, layer_conductance),
    "internal_influence": _integration,
    "expected_gradients": partial(_sampling, expected_gradients, "budget"),
    "smoothgrad": partial(_sampling, smoothgrad, "samples"),
    "vargrad": _redrawn,
    "lrp": _conservation,
    "guided_backprop": _from_the_gradient,
    "saliency": _slope,
    "input_x_gradient": _slope,
}
