"""The way into a network for the views of its layers; torch is imported when the first of them is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from explainer.model import Model, wrap

if TYPE_CHECKING:
    from explainer.adapters.layers import Layers
    from explainer.adapters.torch import TorchModel


def network(model: Any, what: str) -> TorchModel:
    """The model as a torch model. Raises Unsupported for another framework."""
    from explainer.adapters.torch import require_torch

    return require_torch(model if isinstance(model, Model) else wrap(model), what)


def layers_of(net: TorchModel, inputs: Any) -> Layers:
    """Its layers, as they run on canonical ``inputs``."""
    from explainer.adapters.layers import Layers

    return Layers(net, inputs)
