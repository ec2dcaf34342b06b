"""From the tensors a captum object gives to parts a person can name: those of the input, or the units of a layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from explainer.adapters.gradients import GradientView
from explainer.adapters.torch import TorchModel
from explainer.errors import InvalidInput, Unsupported
from explainer.methods.passes import Batch


class Parts:
    """Where values belong. ``about`` says so where they are not about the score; ``of_layer`` where the parts are a layer's."""

    def __init__(self, method: Any, model: TorchModel, given: Mapping[str, Any]) -> None:
        self._method, self._model = method, model
        self._mask = given.get("feature_mask")
        self._ids: Tensor | None = None
        self._windows = given.get("sliding_window_shapes") if method.inner_name == "Occlusion" else None
        self.notes: list[str] = []
        self._axes: tuple[str, ...] | None = None
        self.about = ""
        if method.inner_name.startswith("Neuron"):
            self.about = f"the unit {given.get('neuron_selector')!r} of a layer"
        elif method.inner_name == "LayerActivation":
            self.about = "what a layer puts out"

    @property
    def of_layer(self) -> bool:
        return self._axes is not None

    def units(self, count: int) -> tuple[str, ...]:
        """Names along the first axis of a layer's values."""
        assert self._axes is not None
        return tuple(f"{self._axes[0]} {j}" for j in range(count))

    def axes(self, view: GradientView) -> tuple[str, ...]:
        return self._axes or view.axes

    def by_ids(self, view: GradientView) -> bool:
        """Whether the object is given the token ids themselves, because it works inside a layer."""
        return bool(self._method._layered and view.embedded and self._method._interpolates_layer)

    def mask(self, batch: Batch, any_baseline: bool) -> Tensor | None:
        """Which entries are switched together: as given, else the tokens of a word and the columns of a category.

        ``any_baseline``: the baseline may differ from the input outside the words too.
        """
        mask = self._own_mask(batch.at_input, any_baseline) if self._mask is None else self._given_mask(batch)
        self._ids = None if mask is None else mask.contiguous()
        return self._ids

    def _given_mask(self, batch: Batch) -> Tensor:
        given, x = self._mask, batch.at_input.x
        if isinstance(given, tuple) and len(given) == 1:
            given = given[0]
        mask = torch.as_tensor(given, device=x.device)
        mask = mask[None] if mask.ndim == x.ndim - 1 else mask
        if mask.ndim != x.ndim or any(a not in (1, b) for a, b in zip(mask.shape[1:], x.shape[1:], strict=True)):
            raise InvalidInput(f"feature_mask= has shape {tuple(mask.shape)}; the module's input has {tuple(x.shape[1:])} per row.")
        return mask if len(mask) == 1 else mask[batch.numbers.to(mask.device)]

    def _own_mask(self, view: GradientView, any_baseline: bool) -> Tensor | None:
        if self._model.modality == "text":
            owners = torch.from_numpy(view.layout.owners).to(view.x.device)  # type: ignore[attr-defined]
            # Tokens of no word: a part of their own, or, where input and baseline agree on them, with the first word for nothing.
            rest = owners.max() + 1 if any_baseline else torch.zeros_like(owners)
            return torch.where(owners >= 0, owners, rest)[..., None].expand_as(view.x)
        groups = getattr(view.layout, "_groups", None)
        if groups is not None and len(set(groups.tolist())) < len(groups):
            return torch.from_numpy(groups).to(view.x.device)[None]
        return None

    def collapse(self, view: GradientView, values: Tensor, position: int) -> np.ndarray:
        """Values of one input on named parts."""
        row = values[position]
        if self._method._layered and not self._method.inner_name.startswith("Neuron"):
            return self._of_layer(view, row, position)
        if row.shape != view.x.shape[1:]:
            raise Unsupported(
                f"captum's {self._method.name} gave values {tuple(row.shape)}, where the module's input is {tuple(view.x.shape[1:])}."
            )
        return view.collapse(self._shared(row.double(), view, position), position)

    def _shared(self, row: Tensor, view: GradientView, position: int) -> Tensor:
        """Entries switched together each hold their whole value; divided among them, the sum over a part is that value."""
        if self._ids is not None:
            own = self._ids[position if len(self._ids) > 1 else 0].expand_as(row)
            _, own = own.unique(return_inverse=True)
            belong = torch.ones_like(own, dtype=torch.bool)
            if self._mask is None and self._model.modality == "text":
                belong &= torch.from_numpy(view.layout.owners[position] >= 0).to(own.device)[:, None]  # type: ignore[attr-defined]
            counts = torch.bincount(own[belong], minlength=int(own.max()) + 1).clamp(min=1)
            if self._mask is not None:
                self._note("A value of entries that were switched together is spread evenly over them.")
            return row / counts[own]
        if self._windows is not None:
            sizes = self._windows[0] if isinstance(self._windows[0], tuple) else self._windows
            axis = {"image": 0, "text": len(sizes) - 1}.get(self._model.modality)
            if axis is not None and row.ndim == len(sizes) and row.ndim > 1:
                return row / int(sizes[axis])
        return row

    def _of_layer(self, view: GradientView, row: Tensor, position: int) -> np.ndarray:
        layer = self._method._inner.layer
        if view.embedding is not None and row.shape == view.x.shape[1:] and self._is_embedding(view, layer):
            return view.collapse(row, position)
        if self._method.inner_name == "LayerGradCam" and self._model.modality == "image" and row.ndim == 3 and len(row) == 1:
            size = view.inputs.shape[1:3]
            self._note("The map of the layer is enlarged to the picture, bilinearly.")
            return F.interpolate(row[None].double(), size, mode="bilinear", align_corners=False)[0, 0].cpu().numpy()
        if isinstance(layer, list):
            raise Unsupported("Values of several layers do not fit one explanation; pass one layer at a time.")
        names = {1: ("unit",), 2: ("position", "unit"), 3: ("unit", "layer row", "layer column")}
        if row.ndim not in names:
            raise Unsupported(f"captum's {self._method.name} gave values {tuple(row.shape)} per input; up to three axes are named.")
        self._axes = names[row.ndim]
        return row.double().cpu().numpy()

    def _is_embedding(self, view: GradientView, layer: Any) -> bool:
        name = self._method._names.get(id(layer))
        return name is not None and dict(self._model.core.named_modules()).get(name) is view.embedding

    def _note(self, words: str) -> None:
        if words not in self.notes:
            self.notes.append(words)
