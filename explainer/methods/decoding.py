"""From what enters a module back to inputs that a person would give: an object of another library holds its absence as tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explainer.adapters.torch import TorchModel
from explainer.errors import ExplainerError


def decoded(model: TorchModel, inputs: Any, wanted: Tensor) -> Any | None:
    """Inputs that the model encodes as ``wanted`` ``(m, ...)``, shaped like ``inputs``; None where none of the obvious ones is."""
    for candidate in _candidates(model, inputs, wanted.detach().cpu().numpy()):
        try:
            given = model.canonical(candidate)
            again = model.gradient_view(given).x
        except (ExplainerError, ValueError, RuntimeError, TypeError):  # not an input of this model
            continue
        if again.shape == wanted.shape and torch.allclose(again.to(wanted), wanted, rtol=1e-4, atol=1e-5):
            return given
    return None


def _candidates(model: TorchModel, inputs: Any, wanted: np.ndarray) -> Iterator[Any]:
    if model.modality == "tabular" and wanted.ndim == 2 and wanted.shape[1] == len(model.feature_names):
        yield wanted
    elif model.modality == "image" and wanted.ndim == 4:
        for picture in (np.moveaxis(wanted, 1, -1), wanted):  # channels first, and last
            if picture.size == len(wanted) * inputs[0].size:
                yield picture.reshape(len(wanted), *inputs[0].shape)
    elif model.modality == "series" and wanted.ndim == 3:
        yield list(wanted)
