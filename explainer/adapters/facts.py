"""What was found in a torch module, in words: what it is, where, and what it means for an explanation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from explainer.adapters.probe import Watch

if TYPE_CHECKING:
    from explainer.adapters.gradients import GradientView
    from explainer.adapters.torch import TorchModel


class Fact(NamedTuple):
    """One finding: ``what`` it is, ``where`` in the module, and its ``consequence``."""

    what: str
    where: str
    consequence: str


# How far gradients may be from the slope of the scores, measured by differences, of which kinks take a few per cent.
_OFF_SLOPE = 0.1
_LAYERED = "every function is followed call by call; methods that hook layers run on a copy in which each call is a layer"
# Attribute of the watch -> what it is, and what that means.
_SEEN = (
    ("functional", "functional activations", _LAYERED),
    ("in_place", "operations in place", "inputs are copied first; methods that hook layers run on a copy that does not work in place"),
    ("curved", "normalisation, softmax or other curved functions", "gradients change along the way: integrated gradients takes more steps"),
    ("fused", "fused attention", "computed in the open where the weights are read, and held against the fused scores"),
    ("draws", "random draws", "the random state is put back; scores that move are refused"),
    (
        "branches",
        "a way that depends on the input's values",
        "gradients are those of the way taken; DeepLIFT compares two ways and is refused",
    ),
    ("exits", "values that leave automatic differentiation", "what depends on them has no gradient; completeness shows what is lost"),
)


def facts(
    model: TorchModel, watch: Watch | None, view: GradientView | None, output: Any, slope_error: float, sample: Any
) -> tuple[Fact, ...]:
    """All that was found, the watched pass first."""
    found: list[Fact] = []
    if sample is None:
        found.append(Fact("not run", "no input is at hand to probe with", "only the types of its layers are known; pass background="))
    if watch is not None:
        found.extend(_watched(watch))
    if slope_error > _OFF_SLOPE:
        far = f"by {slope_error:.0%} at a sample input"
        found.append(Fact("gradients that are not the slope of the scores", far, "gradient methods are approximate, or refused"))
    return (*found, *_layers(model), *_inputs(view), *_output(model, output), *_wrapper(model))


def _watched(watch: Watch) -> Iterator[Fact]:
    again = [watch.name(layer) for layer, count in watch.calls.items() if count > 1]
    if again:
        yield Fact("an activation layer called several times", _listed(again), _LAYERED)
    for attribute, what, consequence in _SEEN:
        places = getattr(watch, attribute)
        if places:
            yield Fact(what, in_words(places), consequence)


def _layers(model: TorchModel) -> Iterator[Fact]:
    named = dict(model.core.named_modules())
    recurrent = [name or type(m).__name__ for name, m in named.items() if isinstance(m, (nn.RNNBase, nn.RNNCellBase))]
    if recurrent:
        yield Fact("recurrent layers", _listed(recurrent), "on a GPU, cuDNN is off while gradients are taken: it has none in eval mode")
    norms = [name or type(m).__name__ for name, m in named.items() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    if norms:
        yield Fact("batch norm in training mode", _listed(norms), "scored and explained in eval mode, with running statistics; put back")
    elif any(m.training for m in named.values()):
        yield Fact("training mode", type(model.core).__name__, "scored and explained in eval mode; put back")
    scripted = [name or type(m).__name__ for name, m in named.items() if isinstance(m, torch.jit.ScriptModule)]
    if scripted:
        yield Fact("TorchScript", _listed(scripted), "what it calls is hidden: methods with rules of their own per function are refused")
    frozen = [name for name, p in model.core.named_parameters() if not p.requires_grad]
    if frozen:
        yield Fact("frozen parameters", _listed(frozen), "no consequence: gradients are taken at the input")
    if model.dtype in (torch.float16, torch.bfloat16):
        digits = "2 to 3" if model.dtype == torch.bfloat16 else "3"
        yield Fact("half precision", str(model.dtype)[6:], f"scores have {digits} digits: small differences between inputs are rounding")


def _inputs(view: GradientView | None) -> Iterator[Fact]:
    if view is None:
        return
    names = view.names_of_arguments or tuple(f"argument {i}" for i in range(len(view.others) + (not view.embedded)))
    if view.embedding is not None:
        name = next((n for n, m in view.model.core.named_modules() if m is view.embedding), "")
        yield Fact("integer inputs", names[view.position], f"differentiated at the output of the embedding layer {name!r}")
    if len(names) > 1:
        yield Fact("several inputs", _listed(names), f"explained at {names[view.position]}; the others are held as they are")


def _output(model: TorchModel, output: Any) -> Iterator[Fact]:
    if output is None or isinstance(output, Tensor):
        return
    kind = "dataclass" if is_dataclass(output) else type(output).__name__
    yield Fact("output in a container", f"{type(output).__name__} ({kind})", f"the scores are its entry {model.entry.found!r}")


def _wrapper(model: TorchModel) -> Iterator[Fact]:
    if model.core is not model.module:
        kind = "torch.compile" if hasattr(model.module, "_orig_mod") else type(model.module).__name__
        yield Fact("a wrapper", kind, "gradients and hooks act on the module inside")


def in_words(places: Mapping[str, Sequence[str]]) -> str:
    """``{"relu": ["first", "second"]}`` as "relu in first and second"."""
    return "; ".join(f"{name} in {_listed(where)}" for name, where in places.items())


def _listed(names: Sequence[str]) -> str:
    shown = [*names[:3], *([f"{len(names) - 3} more"] if len(names) > 3 else [])]
    return f"{', '.join(shown[:-1])} and {shown[-1]}" if len(shown) > 1 else shown[0]
