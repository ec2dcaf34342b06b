"""What can be read off a torch module: facts for the preflight, none of them guessed from its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from explainer.errors import ExplainerError

if TYPE_CHECKING:
    from explainer.adapters.torch import TorchModel


@dataclass(frozen=True)
class Anatomy:
    """Facts for the preflight. ``probed`` says whether a forward pass was seen, or only the types of the layers.

    ``gradient_obstacle``, ``attention_obstacle``: why gradients by named feature, or attention by word, cannot be had;
    empty where nothing stands against them.
    """

    layers: Mapping[str, int]
    operations: frozenset[str]
    probed: bool
    has_recurrent: bool
    has_attention: bool
    integer_inputs: bool
    batchnorm: bool
    smooth: bool
    frozen: bool
    parameters: int
    dtype: str
    gradient_obstacle: str
    attention_obstacle: str


_KINKED = (
    "ReLU", "LeakyReLU", "PReLU", "ReLU6", "RReLU", "Hardtanh", "Hardswish", "Hardsigmoid", "Threshold",
    "MaxPool1d", "MaxPool2d", "MaxPool3d",
)  # fmt: skip
_KINKED_OPERATIONS = ("Relu", "LeakyRelu", "MaxPool", "Hardtanh", "Hardswish", "Threshold", "Clamp", "MaxBackward", "AmaxBackward")


def read_anatomy(model: TorchModel) -> Anatomy:
    """Read the module of ``model``; nothing is changed and nothing is raised."""
    modules = list(model.core.modules())
    layers: dict[str, int] = {}
    for module in modules:
        layers[type(module).__name__] = layers.get(type(module).__name__, 0) + 1
    sample = model.sample()
    operations: frozenset[str] = frozenset()
    gradient_obstacle, attention_obstacle, probed, integer = "", "", False, any(isinstance(m, nn.Embedding) for m in modules)
    attention = any("attention" in kind.lower() for kind in layers)
    if sample is not None:
        try:
            view = model.gradient_view(sample)
            with model.differentiating():
                operations = graph_operations(view.forward(view.x.clone().requires_grad_(), *view.others))
            probed, integer = True, view.embedded
            if not operations:
                gradient_obstacle = "the module cuts its output off from its input (detach, numpy or no_grad inside)"
        except ExplainerError as error:
            gradient_obstacle = str(error)
        except Exception as error:  # a probe that fails is a fact about the model, not a failure of the reader
            gradient_obstacle = f"{type(error).__name__}: {error}"
        attention, attention_obstacle = _probe_attention(model, sample)
    elif not attention:
        attention_obstacle = "no attention layer was found among the module's layers"
    parameters = list(model.core.parameters())
    return Anatomy(
        layers=layers,
        operations=operations,
        probed=probed,
        has_recurrent=any(isinstance(m, (nn.RNNBase, nn.RNNCellBase)) for m in modules),
        has_attention=attention,
        integer_inputs=integer,
        batchnorm=any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in modules),
        smooth=not any(k in layers for k in _KINKED) and not any(o.startswith(_KINKED_OPERATIONS) for o in operations),
        frozen=bool(parameters) and not any(p.requires_grad for p in parameters),
        parameters=sum(p.numel() for p in parameters),
        dtype=str(model.dtype)[6:],
        gradient_obstacle=gradient_obstacle,
        attention_obstacle=attention_obstacle,
    )


def _probe_attention(model: TorchModel, sample: Any) -> tuple[bool, str]:
    from explainer.adapters.taps import AttentionTap

    if model.modality == "tabular":
        return False, "attention over the columns of a table is not traced to them"
    try:
        arguments = model.encode(sample)
        with model.scoring(), AttentionTap(len(arguments)) as tap:
            model.forward(arguments, core=True)
    except ExplainerError as error:
        return False, str(error)
    except Exception as error:
        return False, f"{type(error).__name__}: {error}"
    return bool(tap.layers), "" if tap.layers else "no attention was computed in a forward pass of this module"


def graph_operations(output: Tensor) -> frozenset[str]:
    """Names of the autograd nodes that made ``output``, functional calls included."""
    names, stack, seen = set(), [output.grad_fn], set()
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        names.add(node.name())
        stack.extend(parent for parent, _ in node.next_functions)
    return frozenset(names)
