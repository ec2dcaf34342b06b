"""Any ``captum.attr.Attribution`` object as a method: its own mathematics, on our batches, scores, guards and verdict."""

from __future__ import annotations

import copy
import inspect
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from explainer.adapters.encoding import Arguments
from explainer.adapters.functional import FunctionalTap
from explainer.adapters.repair import repaired
from explainer.adapters.torch import TorchModel, out_of_memory, require_torch, unwrapped
from explainer.coalitions import Budget
from explainer.errors import ExplainerError, InvalidInput, Unsupported, unknown
from explainer.inputs import take
from explainer.methods import Family
from explainer.methods.attribution import Attribution
from explainer.methods.backprop import flagged
from explainer.methods.captum_baselines import Baselines
from explainer.methods.captum_parts import Parts
from explainer.methods.decoding import decoded
from explainer.methods.passes import Batch, Functional, Progress, Run
from explainer.methods.peers import numpy_seeded, untold
from explainer.model import Model
from explainer.target import Target

# What the values of each class add up to the score from; of the others nothing of the kind is promised.
_FROM_BASELINE = {
    "IntegratedGradients", "DeepLift", "DeepLiftShap", "GradientShap", "InputBaselineXGradient", "ShapleyValueSampling", "ShapleyValues",
    "KernelShap", "LayerIntegratedGradients", "LayerConductance", "LayerDeepLift", "LayerDeepLiftShap", "LayerGradientShap",
    "LayerInputBaselineXGradient",
}  # fmt: skip
_FROM_ZERO = {"LRP", "LayerLRP"}
_RANDOM = {
    "GradientShap",
    "InputBaselineXGradient",
    "LayerGradientShap",
    "NeuronGradientShap",
    "NoiseTunnel",
    "Lime",
    "LimeBase",
    "KernelShap",
}
_ALONE = {*_RANDOM, "LayerInputBaselineXGradient", "NeuronDeepLiftShap", "DeepLiftShap", "LayerDeepLiftShap"}  # one input at a time
_RULES = ("DeepLift", "GuidedBackprop", "Deconvolution", "LRP", "GuidedGradCam")  # carry something other than gradients back
_GUIDED = ("GuidedBackprop", "Deconvolution", "GuidedGradCam")
_INTERPOLATING = ("LayerConductance", "InternalInfluence", "LayerDeepLift", "LayerGradientShap", "LayerInputBaselineXGradient")
_OURS = ("inputs", "target", "return_convergence_delta", "return_input_shape")  # given, or measured, in any case
_CHANGED = ("neuron_selector", "sliding_window_shapes")  # without a default


class CaptumMethod:
    """An attribution object bound to the module of ``model``.

    The object itself, its module and its hooks are never touched: a copy of the object runs on the module through
    :class:`Face`, and where captum hooks layers, on a copy of the module.
    """

    library = "captum"

    def __init__(self, obj: Any, model: Model) -> None:
        self.obj = obj
        self.name = type(obj).__name__
        torch_model = require_torch(model, f"captum's {self.name}")
        kinds = {c.__name__ for c in type(obj).__mro__}
        if kinds & {"BaseLLMAttribution", "DataLoaderAttribution"}:
            raise Unsupported(f"captum's {self.name} takes inputs of its own kind. Pass the attribution object inside it as method=.")
        _same_module(self.name, obj.forward_func, torch_model)
        self._names = {id(module): name for name, module in torch_model.core.named_modules()}
        self._roots = {id(torch_model.module), id(torch_model.core), id(obj.forward_func)}
        self._inner = getattr(obj, "attribution_method", obj)
        self.inner_name = type(self._inner).__name__
        self._accepts = {*_parameters(obj), *(_parameters(self._inner) if self._inner is not obj else ())}
        self._layered = hasattr(self._inner, "layer")
        self._hooks = self._layered or hasattr(self._inner, "model") or hasattr(self._inner, "grad_cam")
        self.family: Family = "gradient" if any(c.__name__ == "GradientAttribution" for c in type(self._inner).__mro__) else "peer"
        self._perturbs = any(c.__name__ == "PerturbationAttribution" for c in type(self._inner).__mro__)
        self._rules = any(word in self.inner_name for word in _RULES)
        self._model = torch_model
        self._inside = ""  # where the module stands in the one that runs

    def scale(self, inputs: Any, output: str) -> str:
        """The module's own output where nothing is asked for, as captum has it."""
        model = self._model
        if output == "auto" or model.task == "regression":
            return "raw"
        if self._rules and output not in ("raw", model.returns):
            raise Unsupported(
                f"captum's {self.name} carries values back by rules for layers, and the step from the module's {model.returns} to "
                f"{output} is not a layer. Leave output= out, or pass output='raw'."
            )
        return output

    def absence(self, inputs: Any, baseline: Any, background: Any, own: Mapping[str, Any]) -> tuple[Any, Any]:
        """The object's baselines as inputs of the model."""
        start = self._start(own.get("baselines", baseline))
        if not self._takes_baselines or isinstance(start, str) or self._model.modality == "text":
            return baseline, background
        baselines = Baselines(self._model, inputs, start, background, 0, self._distribution)
        if not baselines.plain:
            return baseline, background
        view = self._model.gradient_view(take(inputs, slice(0, 1)))
        wanted = baselines.wanted(view.x)
        one = self._distribution or len(wanted.unique(dim=0)) == 1
        found = decoded(self._model, inputs, wanted) if one else None
        if found is not None and self._model.modality == "series" and not self._distribution:
            found = found[0][:1] if (found[0] == found[0][:1]).all() else None  # a series is held at one value per channel
        if found is None:
            raise Unsupported(
                f"captum's {self.name} compares with baselines ({baselines.in_words}) of what enters the module, and no one input of "
                f"{self._model.name} is that; pass baseline= in their place, which takes parts away in the same way."
            )
        return ("auto", found) if self._distribution else (found[0] if self._model.modality == "series" else found[:1], background)

    @property
    def _distribution(self) -> bool:
        return any(word in self.inner_name for word in ("GradientShap", "DeepLiftShap", "InputBaselineXGradient"))

    def _start(self, given: Any) -> Any:
        """What the object compares with: zeros where nothing is given, as captum has it; the words of a text have a token for that."""
        unsaid = isinstance(given, str) and given == "auto"
        return 0 if unsaid and self._takes_baselines and not self._distribution and self._model.modality != "text" else given

    def __call__(
        self,
        model: Model,
        inputs: Any,
        target: Target,
        *,
        output: str = "raw",
        baseline: Any = "auto",
        background: Any = None,
        seed: int = 0,
        budget: Budget | None = None,
        progress: Progress | None = None,
        **own: Any,
    ) -> Attribution:
        given = self._checked(own, baseline)
        torch_model, notes = self._prepared(require_torch(model, self.name), inputs)
        run = Run(torch_model, inputs, target, output, progress)
        run.notes.extend(notes)
        asked = given.pop("baselines", baseline)
        start = self._start(asked)
        if start is not asked:
            run.notes.append(f"captum's {self.name} takes zeros where no baselines= are given, and so it is here.")
        baselines = Baselines(torch_model, inputs, start, background, seed, self._distribution)
        base = np.full((len(inputs), target.k), np.nan)
        parts = Parts(self, torch_model, given)
        used: dict[str, Any] = {}
        with torch_model.differentiating():
            for batch in run.batches(10**9 if self._alone else 2 * baselines.count if self._rules else 1):
                starts = baselines.of(batch) if self._takes_baselines else None
                for j in range(target.k):
                    ask = partial(self._keywords, run, batch, target.only(j), starts, baselines, given, budget, parts)
                    used, base[batch.rows, j], values = self._within_memory(run, batch, target.only(j), ask, seed)
                    for position in range(len(batch.rows)):
                        run.store(batch, j, position, parts.collapse(batch.at_input, values, position))
                    run.tick(len(batch.rows))
                run.axes = parts.axes(batch.at_input)
        return self._attribution(run, parts, base, {**own, **used}, baselines)

    # -- what is decided before -----------------------------------------------------------------------------------------

    @property
    def _alone(self) -> bool:
        # The words of a text are entries of its own, so their masks differ from text to text.
        own_masks = self._model.modality == "text" and "feature_mask" in self._accepts
        return self.name in _ALONE or self.inner_name in _ALONE or own_masks

    @property
    def _takes_baselines(self) -> bool:
        return "baselines" in self._accepts

    def _checked(self, own: Mapping[str, Any], baseline: Any) -> dict[str, Any]:
        """The caller's keywords, each known to the object. Raises UnknownName, InvalidInput."""
        valid = [name for name in self._accepts if name not in _OURS]
        given = {name: value for name, value in own.items() if name not in _OURS}
        for name in given:
            if name not in valid:
                raise unknown(f"parameter of captum's {self.name}", name, valid)
        for name in _CHANGED:
            if name in self._accepts and name not in given:
                raise InvalidInput(f"captum's {self.name} needs {name}=; pass it to explain() as to attribute().")
        if "baselines" in given and not (isinstance(baseline, str) and baseline == "auto"):
            raise InvalidInput("baseline= and baselines= came together; pass one of them.")
        return given

    def _prepared(self, model: TorchModel, inputs: Any) -> tuple[TorchModel, list[str]]:
        """The model to run on: itself where no layer is hooked, else one with a copy of the module. Refuses what would be wrong.

        The one place where a repaired copy can take the place of a plain one.
        """
        why = self._escaping(model, inputs)
        if why:
            return self._repaired(model, inputs, why)
        if not self._hooks:
            return model, []
        return self._twin(model), []

    def _repaired(self, model: TorchModel, inputs: Any, why: str) -> tuple[TorchModel, list[str]]:
        """The model on a repaired copy of its module. Raises Unsupported where the rules would miss a part of that too."""
        twin = self._twin(model)
        made = repaired(twin.core, model.encode(take(inputs, slice(0, 1))))
        twin = twin.on(made.module)
        if not made.changes or self._escaping(twin, inputs):
            raise Unsupported(why)
        self._inside = "inner."
        return twin, [f"Explained on a repaired copy of the module: {'; '.join(made.changes)}."]

    def _twin(self, model: TorchModel) -> TorchModel:
        try:
            return model.on(copy.deepcopy(model.core))
        except Exception as error:
            raise Unsupported(
                f"captum's {self.name} hooks layers, which is done on a copy of the module, and it cannot be copied: {error}."
            ) from error

    def _escaping(self, model: TorchModel, inputs: Any) -> str:
        """Why the object's rules would silently miss a part of the module, or nothing. DeepLIFT's error is measured instead."""
        if not self._rules or "DeepLift" in self.inner_name:
            return ""
        view = model.gradient_view(take(inputs, slice(0, 1)))
        with model.differentiating(), FunctionalTap(model.core) as tap:
            view.forward(view.x.clone(), *view.others)
        guided = any(word in self.inner_name for word in _GUIDED)
        missed = [name for name in tap.functions if name == "relu" or not guided]
        if missed:
            return (
                f"captum's {self.name} acts on layers, and {type(model.core).__name__} calls {', '.join(sorted(missed))} outside them: "
                f"it would {'give the plain gradient there' if guided else 'pass relevance by unnoticed'}. Make them layers (nn.ReLU()), "
                "one for each use, or use integrated_gradients."
            )
        if guided and not any(isinstance(layer, nn.ReLU) for layer in tap.calls):
            return f"{model.name} has no nn.ReLU layer: captum's {self.name} would be the plain gradient. Use saliency."
        twice = [type(layer).__name__ for layer, count in tap.calls.items() if count > 1]
        if twice and not guided:
            return f"One {twice[0]} layer is used several times, and captum's {self.name} keeps one state for it. Use a copy each."
        return ""

    # -- one batch ------------------------------------------------------------------------------------------------------

    def _keywords(
        self, run: Run, batch: Batch, goal: Target, starts: Tensor | None, baselines: Baselines, given: Mapping[str, Any],
        budget: Budget | None, parts: Parts,
    ) -> tuple[dict[str, Any], np.ndarray]:  # fmt: skip
        """What ``attribute`` is given for one batch, and the value that the values are counted from."""
        n = len(batch.rows)
        keywords = {name: value for name, value in given.items() if name != "additional_forward_args"}
        extra = given.get("additional_forward_args")
        if extra is not None:
            _same_arguments(extra, batch)
        if "internal_batch_size" in self._accepts:
            keywords.setdefault("internal_batch_size", max(run.rows, n))
        if "perturbations_per_eval" in self._accepts:
            keywords.setdefault("perturbations_per_eval", max(1, run.rows // n))
        if self.name == "NoiseTunnel":
            keywords.setdefault("nt_samples_batch_size", max(1, run.rows // n))
        if self.inner_name in ("KernelShap", "Lime", "LimeBase") and budget is not None and "n_samples" not in keywords:
            if budget.adaptive:
                raise InvalidInput(f"captum's {self.name} draws a number told before; pass budget=500 or n_samples=500, or method='shap'.")
            keywords.setdefault("n_samples", budget.evaluations)
        if "feature_mask" in self._accepts:
            keywords["feature_mask"] = parts.mask(batch, baselines.plain)
        base = np.full(n, np.nan)
        if starts is not None:
            keywords["baselines"] = starts[:, 0] if baselines.distribution else starts[0].expand_as(batch.at_input.x)
            if parts.by_ids(batch.at_input):
                keywords["baselines"] = baselines.ids(batch)
            if self._adds_up:
                base = baselines.value(batch, goal, starts, run.rows)
        elif self.inner_name in _FROM_ZERO:
            base = np.zeros(n)
        return {name: value for name, value in keywords.items() if value is not None}, base

    def _within_memory(
        self, run: Run, batch: Batch, goal: Target, ask: Callable[[], tuple[dict[str, Any], np.ndarray]], seed: int
    ) -> tuple[dict[str, Any], np.ndarray, Tensor]:
        """Keywords, base and values of one batch, with half the rows in a pass for as long as memory does not hold them."""
        while True:
            try:
                keywords, base = ask()
                return keywords, base, self._values(run, batch, goal, keywords, seed)
            except RuntimeError as error:
                if not out_of_memory(error) or run.rows <= 1:
                    raise
                run.rows //= 2

    @property
    def _adds_up(self) -> bool:
        scaled = getattr(self._inner, "_multiply_by_inputs", True)
        return scaled and self.name == self.inner_name and self.inner_name in _FROM_BASELINE

    def _values(self, run: Run, batch: Batch, goal: Target, keywords: dict[str, Any], seed: int) -> Tensor:
        view = batch.at_input
        by_ids = self._layered and view.embedded and self._interpolates_layer
        face = Face(batch, goal, by_ids)
        x, others = (view.others[view.position], _without(view.others, view.position)) if by_ids else (view.x, view.others)
        if "Permutation" in self.name and (len(run.inputs) == 1 or len(batch.rows) != len(run.inputs)):
            raise Unsupported(
                f"captum's {self.name} shuffles values between the inputs of one batch; pass 2 to {run.rows} inputs of one shape."
            )
        arguments = {**keywords, "additional_forward_args": (*others, batch.numbers)}
        if "target" in self._accepts:
            arguments["target"] = 0
        modules = {name.removeprefix(self._inside): layer for name, layer in batch.model.core.named_modules()}
        twin = self._rebound(self.obj, face, modules)
        try:
            found = None
            for turn, (weight, own) in enumerate(_pieces(arguments, run.rows, self.inner_name)):
                part = _first(_attribute(twin, x.clone(), own, seed + turn))
                found = part if weight == 1 else part * weight + (0 if found is None else found)
        except (RuntimeError, TypeError, ValueError, AssertionError, AttributeError, IndexError, KeyError, NotImplementedError) as error:
            if isinstance(error, ExplainerError) or out_of_memory(error):
                raise
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise Unsupported(f"captum's {self.name} fails on {run.model.name}: {type(error).__name__}: {reason}") from error
        run.evaluations += face.rows
        if not isinstance(found, Tensor) or found.shape[:1] != (len(batch.rows),):
            came = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise Unsupported(f"captum's {self.name} gave {came} for {len(batch.rows)} inputs; one row of values per input is needed.")
        return found.detach()

    @property
    def _interpolates_layer(self) -> bool:
        return self.inner_name.startswith("Layer") and not any(self.inner_name.startswith(word) for word in _INTERPOLATING)

    def _rebound(self, obj: Any, face: Face, modules: Mapping[str, nn.Module]) -> Any:
        """A copy of a captum object whose module is ``face`` and whose layers are those of the module it runs."""
        twin = copy.copy(obj)

        def moved(value: Any) -> Any:
            if isinstance(value, nn.Module):
                if id(value) in self._roots:
                    return face
                return modules[self._names[id(value)]] if id(value) in self._names else value
            if isinstance(value, types.MethodType):
                owner = value.__self__
                return face if id(owner) in self._roots else types.MethodType(value.__func__, twin) if owner is obj else value
            if isinstance(value, (list, tuple)):
                return type(value)(moved(one) for one in value)
            return self._rebound(value, face, modules) if hasattr(value, "attribute") and hasattr(value, "forward_func") else value

        for key, value in vars(obj).items():
            vars(twin)[key] = moved(value)
        return twin

    def _attribution(self, run: Run, parts: Parts, base: np.ndarray, used: Mapping[str, Any], baselines: Baselines) -> Attribution:
        shown = {name: _shown(value) for name, value in used.items() if value is not None}
        if self._takes_baselines:
            shown["baselines"] = baselines.in_words
        if self.inner_name != self.name:
            shown["of"] = self.inner_name
        run.notes.extend(parts.notes)
        found = run.attribution(shown, self._nothing)
        if parts.of_layer:
            found.names = [parts.units(len(values)) for values in found.values]
            found.extras = {}
        found.base = base if np.isfinite(base).all() else None
        found.about = parts.about
        if self.name in _RANDOM or self.inner_name in _RANDOM or self.name in ("ShapleyValueSampling", "FeaturePermutation"):
            found.checks = untold(f"captum's {self.name}", len(found.values))
        if any(word in self.inner_name for word in _GUIDED):
            found = flagged(found, deconvolution="Deconvolution" in self.inner_name)
        return found

    @property
    def _nothing(self) -> str:
        """What it means that all values of an input are 0, where that is not a gradient."""
        if not self._perturbs:
            return ""
        penalty = " Its model is fitted under a penalty, which may set every coefficient to 0." if self.inner_name == "Lime" else ""
        return f"captum's {self.name} found no part that moves the score, and has nothing to say about it.{penalty}"


class Face(nn.Module):
    """The module as a captum object sees it: ``(x, *others, row numbers) -> (m, 1)``, the number explained.

    The wrapped module stands inside, so that captum finds its layers; ``by_ids``: x are the token ids themselves.
    """

    def __init__(self, batch: Batch, goal: Target, by_ids: bool) -> None:
        super().__init__()
        self.core = batch.model.core
        self.rows = 0
        self._batch, self._by_ids = batch, by_ids
        self._functional = Functional(batch, goal)

    def forward(self, x: Tensor, *rest: Tensor) -> Tensor:
        view, (*others, numbers) = self._batch.at_input, rest
        self.rows += len(x)
        if self._by_ids:
            tensors = (*others[: view.position], x, *others[view.position :])
            raw = self._batch.model.forward(Arguments(tensors, view.names_of_arguments), core=True)
        else:
            raw = view.forward(x, *others)
        return self._functional.head(raw.double(), numbers)[:, None]


def _attribute(twin: Any, x: Tensor, arguments: Mapping[str, Any], seed: int) -> Any:
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # that hooks are set, and that Lime takes time
        stack.enter_context(numpy_seeded(seed))
        torch.manual_seed(seed)
        return twin.attribute(x, **arguments)


def _first(found: Any) -> Any:
    while isinstance(found, (tuple, list)) and len(found) == 1:
        found = found[0]
    return found


def _pieces(arguments: Mapping[str, Any], rows: int, name: str) -> Iterator[tuple[float, Mapping[str, Any]]]:
    """Shares of one input's work that fit into a pass, with their weights: captum itself takes all draws or references at once."""
    if name.endswith("DeepLiftShap"):
        references = arguments["baselines"]
        for part in torch.tensor_split(references, -(-len(references) // max(2, rows // 2))):
            yield len(part) / len(references), {**arguments, "baselines": part}
    elif name.endswith("GradientShap"):
        draws = int(arguments.get("n_samples", 5))
        for part in np.array_split(np.arange(draws), -(-draws // max(1, rows))):
            yield len(part) / draws, {**arguments, "n_samples": len(part)}
    else:
        yield 1, arguments


def _same_module(name: str, function: Any, model: TorchModel) -> None:
    owner = function.__self__ if isinstance(function, types.MethodType) else function
    if not isinstance(owner, nn.Module):
        raise InvalidInput(
            f"captum's {name} is bound to the function {getattr(function, '__name__', type(function).__name__)}, and that it computes what "
            f"{model.name} does cannot be seen. Bind it to the module: {name}(module)."
        )
    if unwrapped(owner) is not model.core:
        raise InvalidInput(
            f"captum's {name} is bound to another module ({type(owner).__name__}) than the one explained ({type(model.core).__name__}); "
            "their values would not belong together. Make it with the module that was wrapped."
        )


def _parameters(obj: Any) -> list[str]:
    return [p.name for p in inspect.signature(type(obj).attribute).parameters.values() if p.name != "self" and p.kind is not p.VAR_KEYWORD]


def _same_arguments(extra: Any, batch: Batch) -> None:
    """What captum calls ``additional_forward_args`` is what ``preprocess`` gives beside the input; else it would be another model."""
    given = extra if isinstance(extra, tuple) else (extra,)
    others = batch.at_input.others
    alike = len(given) == len(others) and all(_same_rows(a, b, batch) for a, b in zip(given, others, strict=True))
    if not alike:
        raise InvalidInput(
            "additional_forward_args= differ from what preprocess gives the module beside its input, so the scores would be another "
            "model's. Let preprocess give a tuple or dict with all the tensors."
        )


def _same_rows(given: Any, own: Tensor, batch: Batch) -> bool:
    if not isinstance(given, Tensor) or given.shape[1:] != own.shape[1:] or len(given) <= int(batch.rows.max()):
        return False
    return torch.equal(given.to(own)[batch.numbers.to(own.device)], own)


def _without(tensors: tuple[Tensor, ...], position: int) -> tuple[Tensor, ...]:
    return (*tensors[:position], *tensors[position + 1 :])


def _shown(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, bool, tuple, type(None))) else type(value).__name__
