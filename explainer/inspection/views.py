"""What can be looked at inside a model, and how far it is to be trusted, said before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from explainer.errors import ExplainerError
from explainer.inspection.heads import has_heads
from explainer.inspection.lens import readable
from explainer.inspection.network import layers_of, network, unsteady
from explainer.model import Capability

GROUP = "Inside the network"


@dataclass(frozen=True)
class View:
    """One entry: what it is called, what it tells, what it is on a model that it can run on, and whether it is about scores."""

    title: str
    summary: str
    level: Literal["exact", "approximate"]
    caveat: str
    scored: bool = True


VIEWS: dict[str, View] = {
    "activations": View(
        "Activations", "What each layer does over a data set: dead and saturated units, sparsity, rank, the rows that excite a unit most.",
        "exact", "Counted over the rows given; what a layer does is not yet what it does to the score.", scored=False,
    ),
    "neuron": View(
        "One unit as a model", "A unit's activation, or that along a direction, as the score that every method explains.",
        "exact", "The activation is read as it is; how far a method explains it is said for the unit's own model.", scored=False,
    ),
    "visualise": View(
        "Feature visualisation", "An image that excites one unit most.",
        "approximate", "An image searched for from one seed: it excites the unit, and need not look like an input.", scored=False,
    ),
    "probe": View(
        "Linear probes", "Whether labels can be read off a layer by a linear fit.",
        "approximate", "Measured on rows held out and against a control task; what can be read off need not be used.", scored=False,
    ),
    "concepts": View(
        "Concepts (TCAV)", "Whether a concept, shown by examples, moves a score at a layer.",
        "approximate", "Held against random directions by a test; only layers from which the score has a gradient.",
    ),
    "heads": View(
        "Head importance", "What the score loses without each attention head, or how it reacts to turning it down.",
        "exact", "Each head's effect is measured, on average over the rows given; heads that stand in for each other hide it.",
    ),
    "lens": View(
        "Logit lens", "What the model would answer after each of its layers.",
        "exact", "The states are exact; early ones were never trained to be read by the head, so one that says nothing may hold all.",
    ),
    "patch": View(
        "Activation patching", "At which layers and positions the difference between two inputs is decided.",
        "exact", "Every share is measured by a pass of its own; the shares of positions need not add up.",
    ),
    "ablate": View(
        "Ablation of units", "How every score changes when a unit, or a head, is taken out.",
        "exact", "Every change is measured by a pass of its own; a unit held at zero may be where it never is: its mean is not.",
    ),
}  # fmt: skip


def views(model: Any, names: Iterable[str] = tuple(VIEWS)) -> Mapping[str, Capability]:
    """Per view of ``names``, what it is on ``model``."""
    names = tuple(names)
    try:
        net = network(model, "A look inside")
        sample = net.sample()
    except ExplainerError as error:
        return dict.fromkeys(names, Capability("unsupported", str(error)))
    if sample is None:
        return dict.fromkeys(
            names, Capability("approximate", "No input is at hand to look at its layers with; pass background= to wrap().")
        )
    found = {name: _steady(net, VIEWS[name]) for name in names}
    asked: dict[str, Callable[[], Any]] = {"lens": lambda: readable(layers_of(net, sample), None), "heads": lambda: has_heads(net, sample)}
    for name in found.keys() & asked.keys():
        try:
            asked[name]()
        except ExplainerError as error:
            found[name] = Capability("unsupported", str(error))
    if "visualise" in found and net.modality != "image":
        why = f"An image is made for models of pictures; this one takes {net.modality} inputs. Use the rows that excite the unit most."
        found["visualise"] = Capability("unsupported", why)
    return found


def _steady(net: Any, view: View) -> Capability:
    """The view on a model that it can run on: a score that is no function of its input has nothing to be followed."""
    if view.scored and (why := unsteady(net)):
        return Capability("unsupported", why)
    if view.scored and (noise := net.anatomy().noise):
        return Capability("approximate", f"{view.caveat} {noise}")
    return Capability(view.level, view.caveat)
