"""What gradient methods share: batches that fit into memory, the number that is differentiated, and values brought to parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explainer.adapters.backward import Rules
from explainer.adapters.gradients import GradientView
from explainer.adapters.layerview import Layer, LayerView, layer_named
from explainer.adapters.torch import TorchModel, out_of_memory
from explainer.errors import ExplainerError, Unsupported
from explainer.inputs import take
from explainer.methods.attribution import Attribution
from explainer.state import saved_bytes
from explainer.target import Target

Progress = Callable[[int, int], None]
_MEMORY = {"cpu": 2**25, "cuda": 2**32}  # bytes of activations kept at once; on a CPU more than its caches hold is slower
_MOST_ROWS = {"cpu": 1024, "cuda": 4096}
_QUICK_ROWS = {"cpu": 256, "cuda": 4096}


@dataclass
class Batch:
    """Some inputs, encoded, with their row numbers in the whole."""

    model: TorchModel
    view: GradientView | LayerView
    rows: np.ndarray
    numbers: Tensor
    output: str

    @property
    def at_input(self) -> GradientView:
        """The view, of methods that differentiate at the input and never at a layer."""
        assert isinstance(self.view, GradientView)
        return self.view

    @property
    def rest(self) -> tuple[Tensor, ...]:
        """What goes with ``x`` into :class:`Functional`: the module's other tensors, and the row numbers last."""
        return (*self.view.others, self.numbers)

    def at(self, starts: Tensor) -> tuple[Tensor, Tensor]:
        """The module's float64 outputs at reference points ``(count, n or 1, ...)``, and row numbers: ``count * n`` rows each."""
        count, n = len(starts), len(self.numbers)
        shared = starts.shape[1] == 1 and not self.view.others
        points = (starts if shared else starts.expand(count, n, *starts.shape[2:])).flatten(0, 1)
        others = tuple(t.repeat(count, *[1] * (t.ndim - 1)) for t in self.view.others)
        raw = self.view.forward(points, *others).double()
        return raw.repeat_interleave(n, 0) if shared else raw, self.numbers.repeat(count)


class Functional:
    """``(x, *others, row numbers) -> (m,)``, the number whose gradient is taken, in float64.

    ``rules``: a mode to go through the module under, where its backward pass is to be of another kind.
    """

    def __init__(self, batch: Batch, goal: Target, rules: Callable[[], Rules] | None = None) -> None:
        self._batch, self._goal, self._rules = batch, goal, rules

    def __call__(self, x: Tensor, *rest: Tensor) -> Tensor:
        return self.head(self._batch.view.forward(x, *rest[:-1]).double(), rest[-1])

    def head(self, raw: Tensor, numbers: Tensor) -> Tensor:
        """From the module's own float64 outputs to the target's value per row."""
        return target_value(self._batch.model, self._goal, self._batch.output, raw, numbers)

    def gradient(self, x: Tensor, rest: tuple[Tensor, ...]) -> Tensor:
        """Gradient of each row's value with respect to that row of ``x``, in float64. Raises Unsupported where there is none.

        The way from the module's outputs to the value is differentiated in float64 and brought to size 1 before it enters
        the module: behind a saturated softmax the derivative may be 1e-60, which float32 takes for 0.
        """
        point = x if x.requires_grad else x.detach().requires_grad_()
        with differentiable():
            return self._back(self._through(point, rest[:-1]), point, rest[-1])

    def at_layer(self, x: Tensor, rest: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """What the layer of the batch's view gives at inputs ``x``, and the gradient there, in float64."""
        view = self._batch.view
        assert isinstance(view, LayerView)
        with differentiable():
            point, raw = view.taken(x, *rest[:-1])
            return point.detach().double(), self._back(raw, point, rest[-1])

    def _through(self, point: Tensor, others: tuple[Tensor, ...]) -> Tensor:
        if self._rules is None:
            return self._batch.view.forward(point, *others)
        with self._rules() as rules:
            raw = self._batch.view.forward(point, *others)
        rules.audit(raw, point)
        return raw

    def _back(self, raw: Tensor, point: Tensor, numbers: Tensor) -> Tensor:
        return pulled_back(raw, point, lambda outputs: self.head(outputs, numbers), self._goal)


@contextmanager
def differentiable() -> Iterator[None]:
    """What PyTorch cannot differentiate is Unsupported, and says why; memory that runs out stays what it is."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, ExplainerError) or out_of_memory(error):
            raise
        raise Unsupported(f"PyTorch cannot differentiate this module: {str(error).splitlines()[0]} Use 'shap' or 'lime'.") from error


def target_value(model: TorchModel, goal: Target, output: str, raw: Tensor, numbers: Tensor) -> Tensor:
    """The target's value ``(m,)`` from the module's own float64 outputs; row ``i`` is input ``numbers[i]``."""
    scores = model.rescale(raw, output)
    try:
        return goal(scores, numbers.cpu().numpy())[:, 0]
    except (RuntimeError, TypeError, AttributeError) as error:
        if goal.function is None or out_of_memory(error):
            raise
        raise Unsupported(
            f"The target function {goal.labels[0]} fails on torch scores ({error}); for gradients it must use torch operations, "
            "or plain indexing and arithmetic."
        ) from error


def pulled_back(
    raw: Tensor, point: Tensor, head: Callable[[Tensor], Tensor], goal: Target, keep: bool = False, batch_axis: int = 0
) -> Tensor:
    """Gradient in float64 of ``head(raw)`` with respect to ``point``, from which the module made ``raw``; ``keep`` it for another.

    The way from the module's outputs to the value is differentiated in float64 and brought to size 1 before it enters
    the module: behind a saturated softmax the derivative may be 1e-60, which float32 takes for 0.
    """
    if not raw.requires_grad:
        raise Unsupported(
            "The score is cut off from the input: somewhere the module leaves differentiable operations (argmax, detach, numpy, "
            "no_grad). Gradients would say nothing; use 'shap' or 'lime'."
        )
    outputs = raw.detach().double().requires_grad_()
    value = head(outputs)
    if not value.requires_grad:
        raise Unsupported(f"The target {goal.labels[0]!r} does not depend on the scores in a differentiable way.")
    (steep,) = torch.autograd.grad(value.sum(), outputs)
    size = steep.abs().amax(1, keepdim=True)
    seed = (steep / torch.where(size > 0, size, 1)).to(raw.dtype)
    (gradient,) = torch.autograd.grad(raw, point, seed, allow_unused=True, retain_graph=keep)
    if gradient is None:
        raise Unsupported("The score does not depend on the tensor that carries the features: no gradient. Use 'shap' or 'lime'.")
    return gradient * size.reshape([-1 if axis == batch_axis else 1 for axis in range(gradient.ndim)])  # float64, as size is


def rows_that_fit(used: int, on_gpu: bool) -> int:
    """Rows per pass where one row keeps ``used`` bytes for the way back."""
    kind = "cuda" if on_gpu else "cpu"
    return int(np.clip(_MEMORY[kind] // max(used, 1), 1, _MOST_ROWS[kind]))


class Run:
    """What every gradient method shares: batches that fit into memory, and the values brought to named parts.

    ``layer``: the name of a layer to stand at in the input's place, or "auto" (see :func:`~explainer.adapters.layerview.layer_named`).
    """

    def __init__(
        self, model: TorchModel, inputs: Any, target: Target, output: str, progress: Progress | None, layer: str | None = None
    ) -> None:
        self.model, self.inputs, self.target, self.output = model, inputs, target, output
        self.layer: Layer | None = None if layer is None else layer_named(model, layer, take(inputs, slice(0, 1)))
        self.progress = progress
        self.evaluations = 0
        self.notes: list[str] = []
        self.axes: tuple[str, ...] = ()
        self._values: list[np.ndarray | None] = [None] * len(inputs)
        self._whole: np.ndarray | None = None  # the values in its place, where all inputs have one shape
        self._names: list[tuple[str, ...]] = [()] * len(inputs)
        self._extras: list[Mapping[str, Any]] = [{}] * len(inputs)
        self._errors: list[np.ndarray | None] = [None] * len(inputs)
        self._still: set[int] = set()
        self._done = 0
        self.rows = 1
        self.quick_rows = 1  # of a pass that goes back several times: what it keeps should stay near at hand

    def batches(self, copies: int) -> Iterator[Batch]:
        """Encoded batches of which ``copies`` fit into one pass; to be used inside ``model.differentiating()``."""
        self.rows = self._rows_that_fit()
        for rows in self.model.batches(self.inputs, max(1, self.rows // copies)):
            view = self._view(rows)
            numbers = torch.from_numpy(np.asarray(rows)).to(view.x.device)
            self.axes = view.axes
            yield Batch(self.model, view, np.asarray(rows), numbers, self.output)
            self.notes.extend(note for note in view.notes if note not in self.notes)

    def _view(self, rows: Any) -> GradientView | LayerView:
        view = self.model.gradient_view(take(self.inputs, rows))
        return view if self.layer is None else LayerView(view, self.layer)

    def _rows_that_fit(self) -> int:
        """Rows per pass, from the bytes autograd keeps for the longest input."""
        longest = max(range(len(self.inputs)), key=lambda i: len(self.inputs[i])) if isinstance(self.inputs, list) else 0
        view = self._view(slice(longest, longest + 1))
        kind = "cuda" if view.x.is_cuda else "cpu"
        used = saved_bytes(self.model.core, lambda: view.forward(view.x.clone().requires_grad_(), *view.others))
        fitting = _MEMORY[kind] // max(used, 1)
        self.quick_rows = int(np.clip(fitting // 4, 1, _QUICK_ROWS[kind]))
        return int(np.clip(fitting, 1, _MOST_ROWS[kind]))

    def shared_out(self, work: Callable[[Tensor, np.ndarray], list[Tensor]], points: Tensor, left: np.ndarray) -> list[Tensor]:
        """``work(points, left)``, tensors ``(points, left, ...)``; where memory does not hold it, half of them at a time."""
        try:
            return work(points, left)
        except RuntimeError as error:
            if not out_of_memory(error) or (len(points) == 1 and len(left) == 1):
                raise
        self.rows = max(1, len(points) * len(left) // 2)
        if len(points) > 1:
            half, axis = len(points) // 2, 0
            parts = [self.shared_out(work, some, left) for some in (points[:half], points[half:])]
        else:
            half, axis = len(left) // 2, 1
            parts = [self.shared_out(work, points, some) for some in (left[:half], left[half:])]
        return [torch.cat(both, axis) for both in zip(*parts, strict=True)]

    def keep(self, batch: Batch, j: int, values: Tensor) -> None:
        """Store the values of functional ``j``, collapsed onto the parts with names."""
        parts = batch.view.collapse_all(values)
        if isinstance(parts, np.ndarray) and not isinstance(self.inputs, list):
            self._store_all(batch, j, parts)
        else:
            for position, one in enumerate(parts):
                self.store(batch, j, position, one)
        self.tick(len(batch.rows))

    def _store_all(self, batch: Batch, j: int, parts: np.ndarray) -> None:
        """Store the values of a whole batch at once: row by row takes longer than the gradient of a small table's row."""
        if self._whole is None:
            self._whole = np.empty((len(self._values), *parts.shape[1:], self.target.k))
        self._whole[batch.rows, ..., j] = parts
        if j == 0:
            for position, row in enumerate(batch.rows.tolist()):
                self._names[row], self._extras[row] = batch.view.names(position), batch.view.extras(position)
        self._still.update(batch.rows[~parts.reshape(len(parts), -1).any(1)].tolist())

    def store(self, batch: Batch, j: int, position: int, parts: np.ndarray, error: np.ndarray | None = None) -> None:
        """Store one input's values on its named parts, and their standard errors where they are sampled."""
        row = batch.rows[position]
        if self._values[row] is None:
            self._values[row] = np.empty((*parts.shape, self.target.k))
            self._errors[row] = None if error is None else np.empty((*parts.shape, self.target.k))
            self._names[row] = batch.view.names(position)
            self._extras[row] = dict(batch.view.extras(position))
        self._values[row][..., j] = parts  # type: ignore[index]
        if error is not None:
            self._errors[row][..., j] = error  # type: ignore[index]
        if not parts.any():
            self._still.add(int(row))

    def tick(self, done: int = 0) -> None:
        """Tell the progress that ``done`` more values are there; it may raise Cancelled."""
        self._done += done
        if self.progress is not None:
            self.progress(self._done, len(self._values) * self.target.k)

    def attribution(self, parameters: dict[str, Any], nothing: str = "") -> Attribution:
        """What is stored, with a note where all values are 0: ``nothing`` says what that means where it is not a gradient's doing."""
        if self._still:
            what, meaning = "The gradient is", "the score does not react there, and this method has nothing to say about it."
            what, meaning = ("The values are", nothing) if nothing else (what, meaning)
            self.notes.append(
                f"{what} exactly 0 everywhere for {len(self._still)} of {len(self._values)} inputs (first: {min(self._still)}): {meaning}"
            )
        keys = self._extras[0]
        if self.layer is not None:
            parameters = {**parameters, "layer": self.layer.name}
        return Attribution(
            values=[v for v in self._values if v is not None] if self._whole is None else self._whole,
            axes=self.axes,
            names=self._names,
            stderr=[e for e in self._errors if e is not None] or None,
            evaluations=self.evaluations,
            extras={key: [one[key] for one in self._extras] for key in keys},
            parameters=parameters,
            notes=tuple(self.notes),
        )
