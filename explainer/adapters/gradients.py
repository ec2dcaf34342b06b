"""Where to differentiate a torch model, and how what comes back is brought to parts a person can name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from explainer.adapters.encoding import Arguments
from explainer.adapters.layouts import Layout, TextLayout, layout_for
from explainer.adapters.taps import ActivationTap
from explainer.errors import InvalidInput, Unsupported
from explainer.features import CONDITIONAL
from explainer.state import hooked

if TYPE_CHECKING:
    from explainer.adapters.torch import TorchModel


@dataclass
class GradientView:
    """One batch, seen from the tensor its explanation is differentiated at.

    Attributes
    ----------
    x : the float input ``(n, ...)``, or for integer ids the output of their embedding layer ``(n, tokens, width)``.
    others : every other tensor the module takes; repeated along the batch wherever ``x`` is.
    layout : from attributions shaped like ``x`` to parts with names.
    """

    model: TorchModel
    inputs: Any
    x: Tensor
    others: tuple[Tensor, ...]
    layout: Layout
    names_of_arguments: tuple[str, ...] | None
    position: int
    embedding: nn.Embedding | None = None
    derived: bool = False
    upcast: int | None = field(default=None)

    @property
    def embedded(self) -> bool:
        return self.embedding is not None

    @property
    def axes(self) -> tuple[str, ...]:
        return self.layout.axes

    @property
    def notes(self) -> tuple[str, ...]:
        return self.layout.notes

    def names(self, i: int) -> tuple[str, ...]:
        return self.layout.names(i)

    def collapse(self, attribution: Tensor, i: int) -> np.ndarray:
        """Attributions of instance ``i``, shaped like one row of ``x``, summed onto the feature axes in float64."""
        return self.layout.collapse(attribution.detach().double().cpu().numpy(), i)

    def collapse_all(self, attributions: Tensor) -> Sequence[np.ndarray]:
        """Attributions of every instance, shaped like ``x``, summed onto the feature axes in float64."""
        return self.layout.collapse_all(attributions.detach().double().cpu().numpy())

    def extras(self, i: int) -> Mapping[str, Any]:
        return self.layout.extras(i)

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        """The module's own scores ``(m, outputs)`` with ``x`` in place of what it computes itself; differentiable."""
        if self.upcast is not None:
            with ActivationTap(self.upcast):
                return self._forward(x, others)
        return self._forward(x, others)

    def _forward(self, x: Tensor, others: tuple[Tensor, ...]) -> Tensor:
        value = x.to(self.model.dtype, copy=True)  # a copy: a module that works in place may not touch a leaf
        if self.embedding is None:
            tensors = (*others[: self.position], value, *others[self.position :])
            return self.model.forward(Arguments(tensors, self.names_of_arguments), core=True)
        ids = others[self.position]

        def replace(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
            return value if _is_ids(args, ids, self.derived) else None

        with hooked(self.embedding, replace):
            return self.model.forward(Arguments(others, self.names_of_arguments), core=True)

    def baseline(self, spec: Any = "auto", background: Any = None) -> Tensor:
        """The reference point, shaped like ``x``.

        | | table | image | series | text, at every word |
        | --- | --- | --- | --- | --- |
        | "auto" | medians, most frequent values of the background | black | background's mean per channel | padding token |
        | "zeros" | zero in every encoded column | black | zero | zero vector |
        | "mean" | mean encoded row of the background | the image's own mean | background's mean per channel | the vocabulary's mean |

        Also "median" (tables, as "auto"), "blur" (images), "mask" (text: the mask token); or inputs of the model: one, or one
        per instance. ``background`` defaults to the model's. Raises InvalidInput.
        """
        background = self.model.background if background is None else background
        word = spec[0] if isinstance(spec, tuple) and spec else spec
        if isinstance(word, str) and word in CONDITIONAL:
            raise InvalidInput(
                f"baseline={word!r} has other values for every set of parts present, and a gradient needs one reference point. Use "
                "'auto' or 'mean' with this method, or this baseline with 'shap'."
            )
        if self.model.modality == "text":
            return self._token_baseline(spec)
        reference = self.layout.reference(self.model, self.inputs, spec, background)
        if isinstance(reference, Tensor):
            return reference.to(self.x).expand_as(self.x)
        encoded = self.model.encode(reference).tensors[self.position].to(self.x.dtype)
        if encoded.shape[1:] != self.x.shape[1:]:
            raise InvalidInput(f"The baseline has shape {tuple(encoded.shape[1:])} once encoded; the input has {tuple(self.x.shape[1:])}.")
        return encoded.expand_as(self.x)

    def _token_baseline(self, spec: Any) -> Tensor:
        assert isinstance(self.layout, TextLayout)
        assert self.embedding is not None
        if not isinstance(spec, str) or spec not in ("auto", "mask", "zeros", "mean"):
            raise InvalidInput(
                f"baseline={spec!r} is not known; for text it is 'auto' (the padding token at every word), 'mask', 'zeros' or 'mean'. "
                "Another text cannot stand in: its tokens are at other positions."
            )
        if spec == "zeros":
            empty = self.x.new_zeros(self.x.shape[-1])
        elif spec == "mean":
            empty = self.embedding.weight.detach().mean(0).to(self.x.dtype)
        else:
            attribute = "pad_id" if spec == "auto" else "mask_id"
            token = getattr(self.model.preprocess, attribute, self.embedding.padding_idx if spec == "auto" else None)
            if token is None:
                raise InvalidInput(f"preprocess has no .{attribute}; give it one, or pass baseline='zeros' or 'mean'.")
            with self.model.scoring():
                empty = self.embedding(torch.tensor(token, device=self.x.device)).to(self.x.dtype)
        return torch.where(self.layout.word_positions(self.x.device)[..., None], empty, self.x)


def gradient_view(model: TorchModel, inputs: Any) -> GradientView:
    """Encode one batch of canonical inputs and find where to differentiate. Raises Unsupported with the reason and a way out."""
    arguments = model.encode(inputs)
    floats = [i for i, t in enumerate(arguments.tensors) if t.is_floating_point()]
    integers = [i for i, t in enumerate(arguments.tensors) if not t.is_floating_point() and t.dtype != torch.bool]
    if model.modality == "text" or not floats:
        position, embedding, x, derived = _embedded(model, arguments, integers)
        others = arguments.tensors
    else:
        position, embedding, derived = _float_input(model, arguments, floats, integers), None, False
        x = arguments.tensors[position]
        others = (*arguments.tensors[:position], *arguments.tensors[position + 1 :])
    # Half precision would lose the steps between baseline and input; the module still computes in its own dtype.
    x = x.detach().float() if x.dtype in (torch.float16, torch.bfloat16) else x.detach()
    layout = layout_for(model, inputs, arguments, position, x)
    return GradientView(model, inputs, x, others, layout, arguments.names, position, embedding, derived, last_activation(model, arguments))


def _float_input(model: TorchModel, arguments: Arguments, floats: Sequence[int], integers: Sequence[int]) -> int:
    if model.modality == "tabular" and (len(floats) > 1 or integers):
        raise Unsupported(
            f"preprocess gives {arguments.describe()}: the columns enter the module by several ways, and gradients would see only "
            f"{'one of them' if len(floats) > 1 else 'the float one'}. Use 'shap' or 'lime', or give the module one float tensor (one-hot "
            "for categories)."
        )
    return max(floats, key=lambda i: (arguments.tensors[i].ndim > 1, arguments.tensors[i][0].numel()))


def _embedded(model: TorchModel, arguments: Arguments, integers: Sequence[int]) -> tuple[int, nn.Embedding, Tensor, bool]:
    """Find the embedding layer that is given the ids, by one forward pass."""
    if model.modality != "text":
        raise Unsupported(
            f"preprocess gives {arguments.describe()}: integers only, and gradients need a float tensor whose entries are the "
            f"{model.modality}'s own features. Use 'shap' or 'lime'."
        )
    named = arguments.index("ids", "input_ids")
    position = named if named is not None else next((i for i in integers if arguments.tensors[i].ndim == 2), None)
    if position is None:
        raise Unsupported(
            f"preprocess gives {arguments.describe()}: no tensor of token ids (n, tokens) to differentiate at. Use 'shap' or 'lime'."
        )
    ids = arguments.tensors[position]
    calls: list[tuple[nn.Embedding, Tensor, Tensor]] = []

    def record(layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        assert isinstance(layer, nn.Embedding)
        calls.append((layer, args[0], output.detach()))

    with model.scoring(), ExitStack() as stack:
        for layer in [m for m in model.core.modules() if isinstance(m, nn.Embedding)]:
            stack.enter_context(hooked(layer, record))
        model.forward(arguments, core=True)
    for derived in (False, True):
        found = [call for call in calls if _is_ids((call[1],), ids, derived)]
        if found:
            layer, _, output = max(found, key=lambda call: call[0].num_embeddings)
            return position, layer, output, derived
    raise Unsupported(
        f"No nn.Embedding of {type(model.core).__name__} takes the token ids {tuple(ids.shape)}, so there is no float tensor to "
        "differentiate at. Use nn.Embedding in the module, or 'shap' or 'lime'."
    )


def _is_ids(args: tuple[Any, ...], ids: Tensor, derived: bool) -> bool:
    """Whether an embedding layer was given these ids; with ``derived``, others of the same shape (shifted, clamped)."""
    given = args[0] if args else None
    return isinstance(given, Tensor) and given.shape == ids.shape and (derived or torch.equal(given, ids))


def last_activation(model: TorchModel, arguments: Arguments) -> int | None:
    """Number of the softmax or sigmoid call that ends a module which returns probabilities."""
    if model.returns != "probability":
        return None
    with model.scoring(), ActivationTap() as tap:
        return tap.index(model.forward(arguments, core=True))
