"""What can be looked at inside a model, and how far it is to be trusted, said before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from explainer.errors import ExplainerError
from explainer.inspection.lens import readable
from explainer.inspection.network import layers_of, network
from explainer.model import Capability

VIEWS = {"lens": "Logit lens", "patch": "Activation patching", "ablate": "Ablation of units", "visualise": "Feature visualisation"}
_EXACT = {
    "lens": "The states are exact; early ones were never trained to be read by the head, so a layer that says nothing may hold everything.",
    "patch": "Every share is measured by a pass of its own; the shares of positions need not add up.",
    "ablate": "Every change is measured by a pass of its own; a unit held at zero may be where it never is: its mean is not.",
}


def views(model: Any) -> Mapping[str, Capability]:
    """Per view of ``VIEWS``, what it is on ``model``."""
    try:
        net = network(model, "A look inside")
        sample = net.sample()
    except ExplainerError as error:
        return dict.fromkeys(VIEWS, Capability("unsupported", str(error)))
    if sample is None:
        return dict.fromkeys(
            VIEWS, Capability("approximate", "No input is at hand to look at its layers with; pass background= to wrap().")
        )
    found = {view: Capability("exact", why) for view, why in _EXACT.items()}
    try:
        readable(layers_of(net, sample), None)
    except ExplainerError as error:
        found["lens"] = Capability("unsupported", str(error))
    found["visualise"] = Capability(
        "approximate", "An image searched for from one seed: it excites the unit, and need not look like an input."
    )
    if net.modality != "image":
        why = f"An image is made for models of pictures; this one takes {net.modality} inputs. Use the rows that excite the unit most."
        found["visualise"] = Capability("unsupported", why)
    return found
