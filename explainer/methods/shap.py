"""Any shap explainer object as a method: its own values, on the scale they add up on, with our verdict."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from explainer.errors import ExplainerError, InvalidInput, Unsupported, unknown
from explainer.inputs import take
from explainer.methods import Family
from explainer.methods.attribution import Attribution
from explainer.methods.peers import numpy_seeded, untold
from explainer.model import Model
from explainer.target import Target

_SCALES = ("probability", "logit", "raw")
_FITS, _WORTH = 0.01, 0.05  # gaps of the sum, as a share of the difference explained: a scale fits; another is worth a refusal
_RANDOM = ("Permutation", "Sampling", "Kernel", "Gradient")


@dataclass
class _Found:
    """Values ``(*parts, outputs)`` and base values ``(outputs,)`` of each input, and the names of the parts where shap tells them."""

    values: list[np.ndarray]
    base: np.ndarray | None
    names: list[tuple[str, ...]] | None = None

    @property
    def width(self) -> int:
        return self.values[0].shape[-1]

    def sums(self) -> np.ndarray:
        """Base plus all values ``(n, outputs)``; NaN where there is no base."""
        total = np.stack([one.reshape(-1, one.shape[-1]).sum(0) for one in self.values])
        return total + (np.nan if self.base is None else self.base)


class ShapMethod:
    """A shap explainer. Those of torch modules (Deep, Gradient) run on a copy of the module; all others ask their own model.

    Which scale their values are on is found by adding them up at the first input.
    """

    library = "shap"

    def __init__(self, obj: Any, model: Model) -> None:
        self.obj, self._model = obj, model
        self.name = type(obj).__name__.removesuffix("Explainer") + "Explainer"
        self._torch = self.name in ("DeepExplainer", "GradientExplainer")
        self.family: Family = "gradient" if self._torch else "peer"
        self._function = obj.shap_values if self._torch else obj
        if self._torch:
            self._same_module()
        elif model.modality == "series":
            raise Unsupported(f"shap's {self.name} knows no series of unequal length. Use method='shap'.")

    def scale(self, inputs: Any, output: str) -> str:
        """The scale on which base and values add up to the model's scores; raises Unsupported where that is not the one asked for."""
        if output not in ("auto", *_SCALES):
            raise unknown("output", output, ("auto", *_SCALES))
        if self._torch or self._model.task == "regression":
            if output not in ("auto", "raw", self._model.returns) and self._model.task != "regression":
                raise Unsupported(f"shap's {self.name} explains the module's own output ({self._model.returns}); leave output= out.")
            return "raw"
        first = take(inputs, slice(0, 1))
        found = self._explained(self._model, first, 0, {})
        gaps = {scale: self._gap(found, self._model.scores(first, scale)) for scale in _SCALES}
        best = min(gaps, key=lambda scale: gaps[scale])
        if output == "auto":
            return best if gaps[best] <= _WORTH else "probability"
        if gaps[output] > _WORTH and gaps[best] <= _FITS:
            raise Unsupported(
                f"The values of this {self.name} add up to the {best}, not to the {output}: their gap to it is {gaps[output]:.0%} of the "
                f"difference explained. Leave output= out, or make the explainer of a function that returns the {output}."
            )
        return output

    def absence(self, inputs: Any, baseline: Any, background: Any, own: Mapping[str, Any]) -> tuple[Any, Any]:
        """The rows of a table that the object takes an absent column's values from, or the picture it paints with, where it has them."""
        if not (isinstance(baseline, str) and baseline == "auto" and background is None):
            return baseline, background
        if self._torch:
            return baseline, self._tensors(inputs)
        painted, rows = self._held("mask_value"), self._held("data")
        if self._model.modality == "image" and painted.size == inputs[0].size:
            return painted.reshape(inputs[0].shape), background
        if self._model.modality == "tabular" and rows.ndim == 2 and rows.shape[1] == len(self._model.feature_names):
            return baseline, rows
        return baseline, background

    def _held(self, name: str) -> np.ndarray:
        """What the explainer, or else its masker, holds under a name; an array of no axes where that is none."""
        for owner in (self.obj, getattr(self.obj, "masker", None)):
            held: Any = getattr(owner, name, None)
            held = held.data if type(held).__name__ == "DenseData" else held
            if held is not None:
                return np.asarray(held)
        return np.array(None)

    def _tensors(self, inputs: Any) -> Any:
        """The rows that a torch explainer compares with, as inputs of the model."""
        from explainer.adapters.torch import require_torch
        from explainer.methods.decoding import decoded

        found = decoded(require_torch(self._model, self.name), inputs, self.obj.explainer.data[0])
        if found is None:
            raise Unsupported(
                f"shap's {self.name} compares with rows as they enter the module, for which no input of {self._model.name} stands; pass "
                "background= to have absent parts take values of those rows."
            )
        return found

    def __call__(self, model: Model, inputs: Any, target: Target, *, output: str = "raw", seed: int = 0, **own: Any) -> Attribution:
        self._known(own)
        if target.weights is None:
            raise Unsupported(f"shap's {self.name} explains the model's outputs, not a function of them. Name a class, or a margin.")
        found = self._explained(model, inputs, seed, own)
        scores = model.scores(inputs, output)
        whole = _all_outputs(found, scores, self.name, target)
        values = [one @ target.weights[i].T for i, one in enumerate(whole.values)]
        base = None if whole.base is None else np.einsum("no,nko->nk", whole.base, target.weights)
        axes, names = self._axes(model, inputs, found)
        return Attribution(
            [one.sum(-2) if model.modality == "image" and one.ndim == 4 else one for one in values], axes, names, base,
            checks=untold(f"shap's {self.name}", len(values)) if self.name.startswith(_RANDOM) else (),
            parameters={name: value if isinstance(value, (str, int, float, bool)) else type(value).__name__ for name, value in own.items()},
            notes=(f"The values are those of shap's {self.name}, on the {output} scale; how often it asked its model is not known to us.",),
        )  # fmt: skip

    # -- asking shap ----------------------------------------------------------------------------------------------------

    def _known(self, own: Mapping[str, Any]) -> None:
        valid = [p.name for p in inspect.signature(self._function).parameters.values() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
        for name in own:
            if name not in valid or name in ("X", "args"):
                raise unknown(f"parameter of shap's {self.name}", name, [v for v in valid if v != "X"])

    def _explained(self, model: Model, inputs: Any, seed: int, own: Mapping[str, Any]) -> _Found:
        try:
            with ExitStack() as stack:
                stack.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
                stack.enter_context(numpy_seeded(seed))
                return self._of_module(model, inputs, own) if self._torch else self._of_callable(model, inputs, own)
        except ExplainerError:
            raise
        except Exception as error:  # shap raises whatever its own model, numba or NumPy raise
            reason = (str(error).strip().splitlines() or ["without a message"])[0]
            raise Unsupported(f"shap's {self.name} fails on {model.name}: {type(error).__name__}: {reason}") from error

    def _of_callable(self, model: Model, inputs: Any, own: Mapping[str, Any]) -> _Found:
        known = inspect.signature(self.obj.__call__).parameters
        quiet = {name: value for name, value in (("silent", True), ("check_additivity", False)) if name in known}  # the verdict checks it
        given = np.asarray(inputs, dtype=object) if model.modality == "text" else inputs
        found = self._without_bars()(given, **{**quiet, **own})
        if isinstance(found, list):
            raise Unsupported(f"shap's {self.name} gave {len(found)} explanations for one batch; make it explain one thing.")
        n, parts = len(inputs), {"tabular": 1, "text": 1, "image": np.ndim(inputs) - 1}[model.modality]
        listed = [np.asarray(found.values[i], dtype=np.float64) for i in range(n)]
        if any(one.ndim not in (parts, parts + 1) for one in listed):
            raise Unsupported(f"shap's {self.name} gave values {listed[0].shape} per input; one per part (and output) is needed.")
        values = [one if one.ndim == parts + 1 else one[..., None] for one in listed]
        names = [tuple(str(t) for t in found.data[i]) for i in range(n)] if model.modality == "text" else None
        return _Found(values, _base_of(found.base_values, n), names)

    def _without_bars(self) -> Any:
        """The object, or a copy of one that shows progress and hides it only when its ``shap_values`` is told to."""
        if self.name != "SamplingExplainer":
            return self.obj
        twin = copy.copy(self.obj)
        twin.shap_values = partial(self.obj.shap_values, silent=True)
        return twin

    def _of_module(self, model: Any, inputs: Any, own: Mapping[str, Any]) -> _Found:
        """Deep and Gradient explainers, on a copy of the module and the tensor the wrapped model gives it."""
        import torch

        twin = model.on(copy.deepcopy(model.core))
        runner = copy.copy(self.obj)
        runner.explainer = copy.copy(self.obj.explainer)
        runner.explainer.model = twin.core
        quiet = {"check_additivity": False} if self.name == "DeepExplainer" else {}
        values: list[np.ndarray] = []
        with twin.differentiating():
            view = twin.gradient_view(inputs)
            if view.embedded or view.others:
                raise Unsupported(f"shap's {self.name} takes one float tensor; {model.name} takes others. Use deeplift_shap.")
            found = runner.shap_values(view.x.clone(), **{**quiet, **own})
            if isinstance(found, (list, tuple)):
                found = np.stack(found, axis=-1)
            found = np.asarray(found)
            listed = found if found.ndim == view.x.ndim + 1 else found[..., None]
            for i in range(len(inputs)):
                columns = [view.collapse(torch.as_tensor(np.ascontiguousarray(listed[i, ..., o])), i) for o in range(listed.shape[-1])]
                values.append(np.stack(columns, axis=-1))
        with twin.scoring():
            data = runner.explainer.data
            base = twin.core(*data)
            base = base.double().mean(0).cpu().numpy() if isinstance(base, torch.Tensor) else None
        return _Found(values, None if base is None else np.broadcast_to(base.reshape(1, -1), (len(inputs), base.size)))

    def _same_module(self) -> None:
        from explainer.adapters.torch import require_torch, unwrapped

        core = require_torch(self._model, f"shap's {self.name}").core
        inner = getattr(self.obj, "explainer", None)
        if getattr(inner, "interim", False):
            raise Unsupported(f"This {self.name} explains a layer's input, which has no named parts here. Make it of the module alone.")
        if unwrapped(getattr(inner, "model", None)) is not core:
            raise InvalidInput(
                f"shap's {self.name} is bound to another module than the one explained ({type(core).__name__}). Make it with the module "
                "that was wrapped."
            )

    def _axes(self, model: Model, inputs: Any, found: _Found) -> tuple[tuple[str, ...], Sequence[tuple[str, ...]]]:
        n = len(inputs)
        if model.modality == "image":
            return ("row", "column"), [()] * n
        if model.modality == "text":
            assert found.names is not None
            return ("token",), found.names
        if model.modality == "series":
            channels = model.feature_names or tuple(f"channel {c}" for c in range(inputs[0].shape[1]))
            return ("time", "channel"), [tuple(f"{c} at step {t}" for t in range(len(one)) for c in channels) for one in inputs]
        if len(found.values[0]) != len(model.feature_names):
            raise InvalidInput(
                f"shap's {self.name} gave {len(found.values[0])} values per row; {model.name} has {len(model.feature_names)} columns. Make "
                "the explainer on the rows as they enter the model, not on encoded ones."
            )
        return ("column",), [model.feature_names] * n

    def _gap(self, found: _Found, scores: np.ndarray) -> float:
        """How far base and values are from the scores on one scale, as a share of the difference explained."""
        if found.base is None:
            return np.inf
        sums = found.sums()
        if found.width == scores.shape[1]:
            gap, span = np.abs(sums - scores), np.abs(scores - found.base)
            return float(gap.max() / max(span.max(), 0.01))
        if found.width == 1:
            return float(min((np.abs(sums - scores) / np.maximum(np.abs(scores - found.base), 0.01)).max(0)))
        return np.inf


def _base_of(base: Any, n: int) -> np.ndarray | None:
    """Base values ``(n, outputs)``, from one number, one per input or output, or one each."""
    if base is None:
        return None
    array = np.asarray(base, dtype=np.float64)
    if array.ndim == 2:
        return array
    return (
        np.broadcast_to(array.reshape(-1, 1), (n, 1))
        if array.size in (1, n) and array.ndim < 2
        else np.broadcast_to(array, (n, len(array)))
    )


def _all_outputs(found: _Found, scores: np.ndarray, name: str, target: Target) -> _Found:
    """Values of every output of the model: shap gives one of two classes where the model itself computes one."""
    outputs = scores.shape[1]
    if found.width == outputs:
        return found
    if found.width != 1:
        raise Unsupported(f"shap's {name} explains {found.width} outputs; the model has {outputs}. Make it of the same function.")
    gaps = np.abs(found.sums() - scores).max(0)
    told = int(np.argmin(gaps)) if found.base is not None else outputs - 1
    values = [np.zeros((*one.shape[:-1], outputs)) for one in found.values]
    base = None if found.base is None else np.zeros((len(scores), outputs))
    for i, one in enumerate(found.values):
        values[i][..., told] = one[..., 0]
    if base is not None and found.base is not None:
        base[:, told] = found.base[:, 0]
    asked = {int(o) for o in np.flatnonzero(np.abs(target.weights).sum((0, 1)))} if target.weights is not None else set()
    if asked - {told}:
        other = 1 - told
        total = scores.sum(1)
        if outputs != 2:
            raise Unsupported(f"shap's {name} explains one output, {told}; the model has {outputs}. Ask for that one as target=.")
        if np.allclose(total, total[0], rtol=0, atol=1e-6):  # what one class gains the other loses
            for one in values:
                one[..., other] = -one[..., told]
            if base is not None:
                base[:, other] = total[0] - base[:, told]
        elif base is not None:  # the logit that the other is measured against
            base[:, other] = scores[:, other]
    return _Found(values, base, found.names)
