"""What can be read off a torch module: facts for the preflight, none of them guessed from its name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from explainer.adapters import ways
from explainer.adapters.facts import Fact, facts, in_words
from explainer.adapters.probe import Watch
from explainer.errors import ExplainerError
from explainer.inputs import join, take

if TYPE_CHECKING:
    from explainer.adapters.gradients import GradientView
    from explainer.adapters.torch import TorchModel

T = TypeVar("T")
_SLOPE_WRONG = 0.5  # gradients farther than this from the slope of the score at a sample input say nothing about it


@dataclass(frozen=True)
class Anatomy:
    """Facts for the preflight. ``probed`` says whether a forward pass was seen, or only the types of the layers.

    ``facts``: what was found, where, and what it means, to be read by a person.
    ``obstacle``: why no method can be right on this module; ``noise``: why every one is off a little;
    ``gradient_obstacle``, ``attention_obstacle``: why gradients by named feature, or attention by word, cannot be had;
    ``branches``: where its way depends on the input's values; ``exits``: where values made of the input leave automatic
    differentiation. Empty where there is nothing of the kind.
    ``slope_error``: how far gradients are from the slope of the scores, NaN where that was not measured.
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
    obstacle: str = ""
    noise: str = ""
    branches: str = ""
    exits: str = ""
    slope_error: float = math.nan
    facts: tuple[Fact, ...] = ()

    @property
    def slope_obstacle(self) -> str:
        """Why gradients that can be had would mislead, whatever is differentiated; empty where they do not."""
        if not self.slope_error > _SLOPE_WRONG:
            return ""
        return (
            f"at a sample input they differ from the slope of the score by {self.slope_error:.0%} (a function with a backward pass of its "
            "own, as in gradient reversal or rounding with a straight-through gradient, or values that are detached)"
        )


_KINKED = (
    "ReLU", "LeakyReLU", "PReLU", "ReLU6", "RReLU", "Hardtanh", "Hardswish", "Hardsigmoid", "Threshold",
    "MaxPool1d", "MaxPool2d", "MaxPool3d",
)  # fmt: skip
_KINKED_OPERATIONS = ("Relu", "LeakyRelu", "MaxPool", "Hardtanh", "Hardswish", "Threshold", "Clamp", "MaxBackward", "AmaxBackward")


@dataclass
class _Probe:
    """What one watched pass told."""

    watch: Watch | None = None
    view: GradientView | None = None
    operations: frozenset[str] = frozenset()
    obstacle: str = ""
    noise: str = ""
    gradient_obstacle: str = ""
    slope_error: float = math.nan
    output: Any = None


def read_anatomy(model: TorchModel) -> Anatomy:
    """Read the module of ``model``; nothing is changed and nothing is raised."""
    modules = list(model.core.modules())
    layers: dict[str, int] = {}
    for module in modules:
        layers[type(module).__name__] = layers.get(type(module).__name__, 0) + 1
    sample = model.sample()
    probe = _Probe() if sample is None else _probed(model, sample)
    if sample is not None:
        attention, attention_obstacle = _probe_attention(model, sample)
    else:
        attention = any("attention" in kind.lower() for kind in layers)
        attention_obstacle = "" if attention else "no attention layer was found among the module's layers"
    parameters, operations = list(model.core.parameters()), probe.operations
    integer = any(isinstance(m, nn.Embedding) for m in modules) if probe.view is None else probe.view.embedded
    return Anatomy(
        layers=layers,
        operations=operations,
        probed=probe.view is not None,
        has_recurrent=any(isinstance(m, (nn.RNNBase, nn.RNNCellBase)) for m in modules),
        has_attention=attention,
        integer_inputs=integer,
        batchnorm=any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in modules),
        smooth=not any(k in layers for k in _KINKED) and not any(o.startswith(_KINKED_OPERATIONS) for o in operations),
        frozen=bool(parameters) and not any(p.requires_grad for p in parameters),
        parameters=sum(p.numel() for p in parameters),
        dtype=str(model.dtype)[6:],
        gradient_obstacle=probe.gradient_obstacle,
        attention_obstacle=attention_obstacle,
        obstacle=probe.obstacle,
        noise=probe.noise,
        branches=in_words(probe.watch.branches) if probe.watch is not None else "",
        exits=in_words(probe.watch.exits) if probe.watch is not None else "",
        slope_error=probe.slope_error,
        facts=facts(model, probe.watch, probe.view, probe.output, probe.slope_error, sample),
    )


def _probed(model: TorchModel, sample: Any) -> _Probe:
    """One pass, watched. A probe that fails is a fact about the model, not a failure of the reader."""
    probe = _Probe()
    found = _told(lambda: ways.unsteady(model, sample), (0.0, ""))
    try:
        view = model.gradient_view(sample)
        probe.view = view
        try:
            _go_back(model, view, probe)
        except RuntimeError as error:
            if "modified by an inplace operation" not in str(error):
                raise
            model.overwrites = True
            _go_back(model, view, probe)
        if not probe.gradient_obstacle:
            probe.gradient_obstacle = _told(lambda: ways.other_ways(model, view, sample), "")
        if not probe.gradient_obstacle:
            probe.slope_error = _told(lambda: ways.slope_error(model, sample), math.nan)
        with model.scoring():
            probe.output = model.answer(model.encode(sample), model.core)
    except ExplainerError as error:
        probe.gradient_obstacle = str(error)
    except Exception as error:
        probe.gradient_obstacle = f"{type(error).__name__}: {error}"
    if probe.watch is None:
        probe.watch = _watched_plainly(model, sample)
    if probe.watch is not None and probe.watch.branches:
        branches = in_words(probe.watch.branches)
        crowded = _told(lambda: ways.crowded(model, ways.crowd(model, sample), branches), found)
        found = crowded if crowded[1] else found
    probe.obstacle, probe.noise = _weighed(*found)
    return probe


def _weighed(unsteady: float, why: str) -> tuple[str, str]:
    """Obstacle and noise, from how far the scores are from a function of the input."""
    if unsteady > ways.NO_FUNCTION:
        return why, ""
    return "", f"Rather noisy here: {why}." if unsteady > ways.NOISY else ""


def met(model: TorchModel, anatomy: Anatomy, given: Any) -> Anatomy:
    """``anatomy``, with what the inputs to be explained tell of a module whose way depends on values."""
    if not anatomy.branches or anatomy.obstacle:
        return anatomy
    shown = take(given, slice(0, ways.CROWD))
    rows = _told(lambda: join([shown, ways.crowd(model, take(given, slice(0, 1)))]), shown)
    obstacle, noise = _weighed(*_told(lambda: ways.crowded(model, rows, anatomy.branches), (0.0, "")))
    return replace(anatomy, obstacle=obstacle, noise=noise or anatomy.noise)


def _told(ask: Callable[[], T], otherwise: T) -> T:
    """What ``ask`` says; ``otherwise`` where the inputs it makes up do not fit the module, which says nothing about it."""
    try:
        return ask()
    except Exception:
        return otherwise


def _go_back(model: TorchModel, view: GradientView, probe: _Probe) -> None:
    """Forward, watched, and back to the input."""
    x = view.x.clone().requires_grad_()
    probe.watch = Watch(model.core, x)
    with model.differentiating():
        with probe.watch.watching():
            scores = view.forward(x, *view.others)
        probe.operations = graph_operations(scores)
        probe.gradient_obstacle = _cut_off(scores, x)


def _cut_off(scores: Tensor, x: Tensor) -> str:
    if scores.requires_grad and torch.autograd.grad(scores.sum(), x, allow_unused=True)[0] is not None:
        return ""
    return "the module's output is cut off from its input (detach, numpy or no_grad inside)"


def _watched_plainly(model: TorchModel, sample: Any) -> Watch | None:
    """A pass watched where there is nothing to differentiate at."""
    watch = Watch(model.core)
    try:
        arguments = model.encode(sample)
        with model.scoring(), watch.watching():
            model.forward(arguments, core=True)
    except Exception:  # scoring worked before: only what is watched is lost
        return None
    return watch


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
