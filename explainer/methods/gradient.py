"""Gradient methods on torch models: saliency, and integrated gradients with as many steps as the error asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from explainer.adapters.gradients import GradientView
from explainer.adapters.layouts import per_channel
from explainer.adapters.torch import TorchModel, out_of_memory, require_torch
from explainer.errors import ExplainerError, InvalidInput, Unsupported
from explainer.inputs import take
from explainer.methods.attribution import Attribution
from explainer.model import Model
from explainer.state import saved_bytes
from explainer.target import Target

Progress = Callable[[int, int], None]
_SCHEDULE = (16, 32, 64, 128, 256, 512)
_FLOOR = 0.01  # a difference from the baseline below 1 % of the scale is held to the error allowed at 1 %
_MEMORY = {"cpu": 2**25, "cuda": 2**32}  # bytes of activations kept at once; on a CPU more than its caches hold is slower
_MOST_ROWS = {"cpu": 256, "cuda": 4096}


def saliency(
    model: Model, inputs: Any, target: Target, *, output: str = "probability", absolute: bool = True, progress: Progress | None = None
) -> Attribution:
    """The gradient of the target at the input: how strongly it reacts to a tiny change of each part.

    ``|d f / d x|`` per entry the module sees, summed over a feature's entries (channels of a pixel, one-hot columns,
    embedding dimensions of a word), per unit of what the module sees (after preprocess). Simonyan, Vedaldi & Zisserman
    2014, arXiv:1312.6034, who take the maximum over channels where the sum stands here.

    Parameters
    ----------
    absolute : False keeps the sign (and lets entries of one feature cancel).

    Raises Unsupported on models without gradients.
    """
    torch_model = require_torch(model, "saliency")
    run = _Run(torch_model, inputs, target, output, progress)
    with torch_model.differentiating():
        for batch in run.batches(1):
            for j in range(target.k):
                gradient = _Functional(batch, target.only(j)).gradient(batch.view.x, batch.rest)
                run.evaluations += len(batch.rows)
                run.keep(batch, j, gradient.abs() if absolute else gradient)
    return run.attribution({"absolute": absolute})


def integrated_gradients(
    model: Model,
    inputs: Any,
    target: Target,
    *,
    output: str = "probability",
    baseline: Any = "auto",
    background: Any = None,
    steps: int | Literal["auto"] = "auto",
    tolerance: float = 0.01,
    progress: Progress | None = None,
) -> Attribution:
    """Each part's share of ``f(x) - f(x')``, from the gradients along the straight way from a baseline x' to the input x.

    ``(x - x') * integral over a in [0, 1] of the gradient at x' + a (x - x')``, by Gauss-Legendre quadrature (captum's
    ``IntegratedGradients``). Sundararajan, Taly & Yan 2017, arXiv:1703.01365.

    Parameters
    ----------
    baseline, background : see :meth:`~explainer.adapters.gradients.GradientView.baseline`.
    steps : an int, or "auto": 16, doubled to at most 512 for the inputs whose values miss ``f(x) - f(x')`` by more than
        ``tolerance`` of it.
    tolerance : the completeness error aimed at, as a share of the difference to be explained.

    Raises Unsupported on models without gradients, InvalidInput for a baseline that does not fit.
    """
    torch_model = require_torch(model, "integrated_gradients")
    if steps != "auto" and (isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or steps < 1):
        raise InvalidInput(f"steps={steps!r} is not valid; pass 'auto' or a whole number of at least 1.")
    schedule = _SCHEDULE if steps == "auto" else (int(steps),)
    reference = _per_input(torch_model, baseline, len(inputs))
    run = _Run(torch_model, inputs, target, output, progress)
    base = np.empty((len(inputs), target.k))
    taken, missed = np.zeros(len(inputs), dtype=int), np.zeros(len(inputs), dtype=bool)
    with torch_model.differentiating():
        for batch in run.batches(schedule[0]):
            start = batch.view.baseline(take(reference, batch.rows) if reference is not None else baseline, background)
            for j in range(target.k):
                path = _Path(batch, start, target.only(j), output, run.rows)
                values = path.integrate(schedule, tolerance)
                run.evaluations += path.evaluations
                base[batch.rows, j] = path.first
                taken[batch.rows] = np.maximum(taken[batch.rows], path.steps)
                missed[batch.rows] |= path.missed
                run.keep(batch, j, values)
    if missed.any() and steps == "auto":
        count = int(missed.sum())
        run.notes.append(f"{count} of {len(inputs)} inputs keep a completeness error above {tolerance:.1%} at {schedule[-1]} steps.")
    shown = (
        {"baseline": baseline, "reference": _in_words(torch_model, baseline, background)}
        if isinstance(baseline, str)
        else {"baseline": "given"}
    )
    found = run.attribution({**shown, "steps": int(taken.max()), "tolerance": tolerance, "quadrature": "Gauss-Legendre"})
    found.base = base
    return found


@dataclass
class _Batch:
    """Some inputs, encoded, with their row numbers in the whole."""

    model: TorchModel
    view: GradientView
    rows: np.ndarray
    numbers: Tensor
    output: str

    @property
    def rest(self) -> tuple[Tensor, ...]:
        """What goes with ``x`` into :class:`_Functional`: the module's other tensors, and the row numbers last."""
        return (*self.view.others, self.numbers)


class _Functional:
    """``(x, *others, row numbers) -> (m,)``, the number whose gradient is taken, in float64."""

    def __init__(self, batch: _Batch, goal: Target) -> None:
        self._batch, self._goal = batch, goal

    def __call__(self, x: Tensor, *rest: Tensor) -> Tensor:
        return self._head(self._batch.view.forward(x, *rest[:-1]).double(), rest[-1])

    def _head(self, raw: Tensor, numbers: Tensor) -> Tensor:
        """From the module's own float64 outputs to the target's value per row."""
        scores = self._batch.model.rescale(raw, self._batch.output)
        try:
            return self._goal(scores, numbers.cpu().numpy())[:, 0]
        except (RuntimeError, TypeError, AttributeError) as error:
            if self._goal.function is None or out_of_memory(error):
                raise
            raise Unsupported(
                f"The target function {self._goal.labels[0]} fails on torch scores ({error}); for gradients it must use torch operations, "
                "or plain indexing and arithmetic."
            ) from error

    def gradient(self, x: Tensor, rest: tuple[Tensor, ...]) -> Tensor:
        """Gradient of each row's value with respect to that row of ``x``, in float64. Raises Unsupported where there is none.

        The way from the module's outputs to the value is differentiated in float64 and brought to size 1 before it enters
        the module: behind a saturated softmax the derivative may be 1e-60, which float32 takes for 0.
        """
        point = x if x.requires_grad else x.detach().requires_grad_()
        try:
            raw = self._batch.view.forward(point, *rest[:-1])
            if not raw.requires_grad:
                raise Unsupported(
                    "The score is cut off from the input: somewhere the module leaves differentiable operations (argmax, detach, numpy, "
                    "no_grad). Gradients would say nothing; use 'shap' or 'lime'."
                )
            outputs = raw.detach().double().requires_grad_()
            value = self._head(outputs, rest[-1])
            if not value.requires_grad:
                raise Unsupported(f"The target {self._goal.labels[0]!r} does not depend on the scores in a differentiable way.")
            (head,) = torch.autograd.grad(value.sum(), outputs)
            size = head.abs().amax(1, keepdim=True)
            seed = (head / torch.where(size > 0, size, 1)).to(raw.dtype)
            (gradient,) = torch.autograd.grad(raw, point, seed, allow_unused=True)
        except RuntimeError as error:
            if isinstance(error, ExplainerError) or out_of_memory(error):
                raise
            raise Unsupported(f"PyTorch cannot differentiate this module: {str(error).splitlines()[0]} Use 'shap' or 'lime'.") from error
        if gradient is None:
            raise Unsupported("The score does not depend on the tensor that carries the features: no gradient. Use 'shap' or 'lime'.")
        return gradient.double() * size.reshape(-1, *[1] * (gradient.ndim - 1))


class _Run:
    """What every gradient method shares: batches that fit into memory, and the values brought to named parts."""

    def __init__(self, model: TorchModel, inputs: Any, target: Target, output: str, progress: Progress | None) -> None:
        self.model, self.inputs, self.target, self.output = model, inputs, target, output
        self.progress = progress
        self.evaluations = 0
        self.notes: list[str] = []
        self.axes: tuple[str, ...] = ()
        self._values: list[np.ndarray | None] = [None] * len(inputs)
        self._names: list[tuple[str, ...]] = [()] * len(inputs)
        self._extras: list[dict[str, Any]] = [{}] * len(inputs)
        self._still: set[int] = set()
        self._done = 0
        self.rows = 1

    def batches(self, copies: int) -> Iterator[_Batch]:
        """Encoded batches of which ``copies`` fit into one pass; to be used inside ``model.differentiating()``."""
        self.rows = self._rows_that_fit()
        for rows in self.model.batches(self.inputs, max(1, self.rows // copies)):
            view = self.model.gradient_view(take(self.inputs, rows))
            numbers = torch.from_numpy(np.asarray(rows)).to(view.x.device)
            self.axes = view.axes
            yield _Batch(self.model, view, np.asarray(rows), numbers, self.output)
            self.notes.extend(note for note in view.notes if note not in self.notes)

    def _rows_that_fit(self) -> int:
        """Rows per pass, from the bytes autograd keeps for the longest input."""
        longest = max(range(len(self.inputs)), key=lambda i: len(self.inputs[i])) if isinstance(self.inputs, list) else 0
        view = self.model.gradient_view(take(self.inputs, slice(longest, longest + 1)))
        kind = "cuda" if view.x.is_cuda else "cpu"
        used = saved_bytes(self.model.core, lambda: view.forward(view.x.clone().requires_grad_(), *view.others))
        return int(np.clip(_MEMORY[kind] // max(used, 1), 1, _MOST_ROWS[kind]))

    def keep(self, batch: _Batch, j: int, values: Tensor) -> None:
        """Store the values of functional ``j``, collapsed onto the parts with names."""
        for position, row in enumerate(batch.rows):
            parts = batch.view.collapse(values[position], position)
            if self._values[row] is None:
                self._values[row] = np.empty((*parts.shape, self.target.k))
                self._names[row] = batch.view.names(position)
                self._extras[row] = dict(batch.view.extras(position))
            self._values[row][..., j] = parts  # type: ignore[index]
            if not parts.any():
                self._still.add(int(row))
        self._done += len(batch.rows)
        if self.progress is not None:
            self.progress(self._done, len(self._values) * self.target.k)

    def attribution(self, parameters: dict[str, Any]) -> Attribution:
        if self._still:
            self.notes.append(
                f"The gradient is exactly 0 everywhere for {len(self._still)} of {len(self._values)} inputs (first: {min(self._still)}): "
                "the score does not react there, and this method has nothing to say about it."
            )
        keys = self._extras[0]
        return Attribution(
            values=[v for v in self._values if v is not None],
            axes=self.axes,
            names=self._names,
            evaluations=self.evaluations,
            extras={key: [one[key] for one in self._extras] for key in keys},
            parameters=parameters,
            notes=tuple(self.notes),
        )


class _Path:
    """The straight way from the baseline to the inputs of one batch, integrated for one functional."""

    def __init__(self, batch: _Batch, start: Tensor, goal: Target, output: str, rows: int) -> None:
        from captum.attr import IntegratedGradients

        self.view, self.start, self.rows = batch.view, start, rows
        self.rest = batch.rest
        self.function = _Functional(batch, goal)
        self.captum = IntegratedGradients(self.function)
        # captum's own takes the gradient of every row apart; rows do not depend on each other, and their sum is 2 to 4 times faster.
        self.captum.gradient_func = lambda forward_fn, inputs, target_ind=None, additional_forward_args=None: (
            forward_fn.gradient(inputs[0], additional_forward_args),
        )
        with torch.no_grad():
            self.first = self._values_at(start)
            self.last = self._values_at(batch.view.x)
        scale = 1.0 if output == "probability" else np.maximum(np.abs(self.first), np.abs(self.last))
        self._unit = np.maximum(np.abs(self.last - self.first), np.maximum(_FLOOR * scale, 1e-12))
        self.evaluations = 2 * len(self.first)
        self.steps = np.zeros(len(self.first), dtype=int)
        self.missed = np.zeros(len(self.first), dtype=bool)

    def _values_at(self, x: Tensor) -> np.ndarray:
        return self.function(x, *self.rest).cpu().numpy()

    def integrate(self, schedule: tuple[int, ...], tolerance: float) -> Tensor:
        """Values shaped like ``x``; only inputs still above the tolerance are given more steps, and the best is kept."""
        values = torch.zeros_like(self.view.x, dtype=torch.float64)
        error = np.full(len(self.first), np.inf)
        left = np.arange(len(self.first))
        for steps in schedule:
            found = self._attribute(left, steps)
            total = found.double().flatten(1).sum(1).cpu().numpy()
            missing = np.abs(total - (self.last - self.first)[left]) / self._unit[left]
            better = missing < error[left]
            chosen = left[better]
            values[chosen], error[chosen], self.steps[chosen] = found[torch.from_numpy(better)], missing[better], steps
            left = left[missing > tolerance]
            if len(left) == 0:
                break
        self.missed = error > tolerance
        return values

    def _attribute(self, left: np.ndarray, steps: int) -> Tensor:
        index = torch.from_numpy(left).to(self.view.x.device)
        inputs, baselines = self.view.x[index], self.start[index]
        rest = tuple(t[index.to(t.device)] for t in self.rest)
        self.evaluations += len(left) * steps
        while True:
            try:
                found = self.captum.attribute(
                    inputs,
                    baselines,
                    additional_forward_args=rest,
                    n_steps=steps,
                    method="gausslegendre",
                    internal_batch_size=max(self.rows, len(left)),
                )
                return found.detach()
            except RuntimeError as error:
                if not out_of_memory(error) or max(self.rows, len(left)) <= 1:
                    raise
            if self.rows <= len(left):  # one step of every input does not fit: halve the inputs
                half = (len(left) + 1) // 2
                self.evaluations -= len(left) * steps
                return torch.cat([self._attribute(left[:half], steps), self._attribute(left[half:], steps)])
            self.rows //= 2


def _in_words(model: TorchModel, baseline: str, background: Any) -> str:
    """What the name of a baseline stands for on this model."""
    if model.modality == "text":
        words = {"auto": "the padding token", "mask": "the mask token", "zeros": "the zero vector", "mean": "the vocabulary's mean vector"}
        return f"{words[baseline]} at every word"
    if model.modality == "image":
        return {"mean": "each image's mean colour", "blur": "a blurred copy"}.get(baseline, "a black image")
    if baseline == "zeros" or (background is None and model.background is None):
        return "zero in every encoded column" if model.modality == "tabular" else "zero in every channel"
    if model.modality == "series":
        return "the background's mean per channel"
    return "the background's mean encoded row" if baseline == "mean" else "the background's typical row"


def _per_input(model: TorchModel, baseline: Any, n: int) -> Any:
    """A baseline given as one input per input, in canonical form; None where it is a name or one for all."""
    if isinstance(baseline, str) or model.modality == "text" or (model.modality == "series" and per_channel(baseline)):
        return None
    given = model.canonical(baseline)
    if len(given) not in (1, n):
        raise InvalidInput(f"The baseline has {len(given)} rows for {n} inputs; pass one, or one for each.")
    return take(given, np.zeros(n, dtype=int)) if len(given) == 1 else given
