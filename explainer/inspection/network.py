"""The way into a network for the views of its layers; torch is imported when the first of them is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from explainer.errors import Unsupported
from explainer.methods import METHODS
from explainer.model import Model, wrap

if TYPE_CHECKING:
    from explainer.adapters.layers import Layers
    from explainer.adapters.torch import TorchModel


def network(model: Any, what: str) -> TorchModel:
    """The model as a torch model. Raises Unsupported for another framework."""
    from explainer.adapters.torch import require_torch

    return require_torch(model if isinstance(model, Model) else wrap(model), what)


def followed(model: Any, view: str, inputs: Any) -> TorchModel:
    """The model for a view of how its scores change. Raises Unsupported where preflight finds them no function of the input."""
    net = network(model, view)
    net.meet(net.canonical(inputs))
    why = unsteady(net)
    if why:
        raise Unsupported(f"{view} is not valid on {net.name}: {why}")
    return net


def unsteady(net: TorchModel) -> str:
    """Why no change of a score would be right, where it is drawn at random or depends on the batch."""
    obstacle = net.anatomy().obstacle
    return f"No change of a score of {net.name} would be right: {obstacle}." if obstacle else ""


def layers_of(net: TorchModel, inputs: Any) -> Layers:
    """Its layers, as they run on canonical ``inputs``. Raises Unsupported where there is none to read."""
    from explainer.adapters.layers import Layers

    found = Layers(net, inputs)
    if not found.calls:
        raise Unsupported(f"No layer of {type(net.core).__name__} gives a float tensor with a row per input; there is nothing to read.")
    return found


def last_layer(net: TorchModel, inputs: Any) -> str:
    """The layer that ``layer="auto"`` of the gradient methods stands for, or the head where none stands before it. Raises Unsupported."""
    from explainer.adapters.layerview import layer_named

    layer = layer_named(net, "auto", inputs)
    return layer.name.removeprefix("input of ") if layer.entering else layer.name


def layers_for(model: Model, method: str) -> tuple[str, ...] | None:
    """The names that ``layer=`` of a method can be on ``model``, besides "auto", in the order in which they are done.

    None where the method takes no layer, empty where no input is known to look at the layers with.
    """
    chosen = METHODS[method]
    if chosen.layer is None:
        return None
    net = network(model, method)
    sample = net.sample()
    if sample is None:
        return ()
    if chosen.family == "cam":
        from explainer.adapters.grids import spatial

        return tuple(dict.fromkeys(grid.layer for grid in spatial(net, sample).grids))
    from explainer.adapters.layerview import usable_layers

    return tuple(usable_layers(net, sample))
