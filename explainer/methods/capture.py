"""One batch's attention: caught in a forward pass, proved against the untouched scores, and told apart by what attends to what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explainer.adapters.encoding import Arguments
from explainer.adapters.repair import rounding
from explainer.adapters.taps import AttentionLayer, AttentionTap
from explainer.adapters.torch import TorchModel, out_of_memory
from explainer.errors import InvalidInput, Unsupported, unknown
from explainer.inputs import take
from explainer.methods.tokens import Tokens
from explainer.target import Target

_CELLS = 2**21  # weights of one head, in a batch: all layers' and heads' are held at once, and their gradients
_MOST_ROWS = 32
STREAMS = ("auto", "encoder", "decoder", "cross")


def capture(model: TorchModel, arguments: Arguments) -> tuple[Tensor, AttentionTap]:
    """Scores of one batch and its tap, inside ``model.differentiating()``; the tap is held against the untapped scores.

    Raises Unsupported where there is no attention, or where capturing it changed a score.
    """
    with AttentionTap(len(arguments)) as tap:
        scores = model.forward(arguments, core=True)
    if not tap.layers:
        raise Unsupported(
            f"No attention was computed in a forward pass of {type(model.core).__name__}: neither scaled_dot_product_attention, nor "
            "multi_head_attention_forward, nor a softmax over tokens. Use 'integrated_gradients' or 'shap'."
        )
    with model.scoring():
        plain = model.forward(arguments, core=True)
    scale = "raw" if model.task == "regression" else "probability"
    tapped, untapped = (model.rescale(s.detach().double(), scale) for s in (scores, plain))
    difference = float((tapped - untapped).abs().max() / max(1.0, float(untapped.abs().max())))
    allowed = rounding(model.dtype, scores.device)
    if not difference <= allowed:
        raise Unsupported(
            f"With its attention computed in the open, {type(model.core).__name__} gives scores that differ by {difference:.2g} (allowed "
            f"{allowed:g}), so the weights are not those it uses. Use 'integrated_gradients' or 'shap'."
        )
    return scores, tap


def rows_at_once(model: TorchModel, inputs: Any) -> int:
    """Rows of a batch, by the tokens of the longest input."""
    if not isinstance(inputs, list):
        return _MOST_ROWS // 2  # of pictures, whose patches are some hundreds
    longest = max(range(len(inputs)), key=lambda i: len(inputs[i]))
    tensors = model.encode(take(inputs, slice(longest, longest + 1))).tensors
    width = max((t.shape[1] for t in tensors if t.ndim > 1), default=1)
    return int(np.clip(_CELLS // width**2, 1, _MOST_ROWS))


@dataclass
class Captured:
    """One batch's attention over the input's tokens.

    Attributes
    ----------
    layers : those from the input's tokens to themselves, the encoder's where there is a decoder as well.
    crossing, decoding : the layers from a decoder's tokens (or a few tokens that pool) to the input's, and to themselves; none in
        most models.
    """

    model: TorchModel
    rows: np.ndarray
    scores: Tensor
    tokens: Tokens
    layers: list[AttentionLayer]
    crossing: list[AttentionLayer] = field(default_factory=list)
    decoding: list[AttentionLayer] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @staticmethod
    def of(model: TorchModel, inputs: Any, rows: np.ndarray) -> Captured:
        """Catch the attention of one batch, inside ``model.differentiating()``. Raises Unsupported with the reason."""
        arguments = model.encode(inputs)
        tokens = Tokens(model, inputs, arguments)
        scores, tap = capture(model, arguments)
        whole = [layer for layer in tap.layers if layer.windows == 1]
        own = [layer for layer in whole if not layer.cross and layer.weights.shape[-1] == layer.weights.shape[-2]]
        known = {tokens.width} if tokens.width is not None else {layer.weights.shape[-1] for layer in own}
        crossing = [layer for layer in whole if layer not in own and layer.weights.shape[-1] in known]
        encoding = _before(crossing, own) if crossing else own
        tokens.settle([layer.weights.shape[-1] for layer in (encoding or crossing)])
        found = Captured(model, rows, scores, tokens, [layer for layer in encoding if layer.weights.shape[-1] == tokens.width])
        found.crossing = [layer for layer in crossing if layer.weights.shape[-1] == tokens.width]
        found.decoding = [layer for layer in own if layer not in encoding]
        found._check(tap.layers)
        return found

    def _check(self, every: list[AttentionLayer]) -> None:
        if not self.layers and not self.crossing:
            sizes = sorted({tuple(layer.weights.shape[-2:]) for layer in every})
            raise Unsupported(
                f"{type(self.model.core).__name__} attends over {', '.join(map(str, sizes))} positions, but the input has "
                f"{self.tokens.width} tokens: which position is which token cannot be told. Use 'integrated_gradients' or 'shap'."
            )
        left_out = len(every) - len(self.layers) - len(self.crossing) - len(self.decoding)
        if left_out:
            self.notes.append(f"{left_out} attention layers over other positions (windows, pooled tokens) are left out.")
        heads = {layer.heads for layer in self.layers}
        if len(heads) > 1:
            self.notes.append(f"The layers have different numbers of heads ({sorted(heads)}); those one lacks are NaN, 0 in raw values.")
        if any(layer.mixed is None for layer in self.layers):
            self.notes.append("No product with values was seen; the weights are the softmax results over tokens as they passed.")
        self.notes.extend(self.tokens.notes)

    def stream(self, name: str) -> list[AttentionLayer]:
        """The layers of one stream; "auto" is the cross-attention of an encoder-decoder, and all layers of another model."""
        if name not in STREAMS:
            raise unknown("stream of attention", name, STREAMS)
        found = {"encoder": self.layers, "decoder": self.decoding, "cross": self.crossing, "auto": self.crossing or self.layers}[name]
        if not found:
            raise Unsupported(f"{type(self.model.core).__name__} has no {name} attention over the input's tokens; leave stream='auto'.")
        return found

    def weights(self, layers: list[AttentionLayer] | None = None) -> np.ndarray:
        """``(n, layers, heads, queries, keys)``, NaN where a layer has fewer heads than another."""
        layers = self.layers if layers is None else layers
        return stacked([layer.weights for layer in layers])

    def reading(self, readout: str | int) -> tuple[np.ndarray, list[str]]:
        """How much of the score is read from each token ``(n, tokens)`` after the last layer, and in words; of a decoder, its tokens."""
        last = (self.crossing or self.layers)[-1]
        real = np.ones((len(self.rows), last.weights.shape[-2]), dtype=bool) if self.crossing else self.tokens.real
        reached = _reached(self.scores, last, real) if readout == "auto" else None
        if reached is None:
            reached = np.zeros(real.shape, dtype=bool)
            if readout == "auto":
                self.notes.append("Which token the score is read from could not be told from gradients; the first was taken.")
            for i in range(len(real)):
                reached[i, _positions(np.flatnonzero(real[i]), 0 if readout == "auto" else readout)] = True
        return reached / reached.sum(1, keepdims=True), [_describe(reached[i], real[i]) for i in range(len(real))]


def stacked(weights: list[Tensor]) -> np.ndarray:
    """``(n, layers, heads, ...)`` of tensors ``(n, heads, ...)``, NaN where one has fewer heads."""
    heads = max(one.shape[1] for one in weights)
    made = np.full((len(weights[0]), len(weights), heads, *weights[0].shape[2:]), np.nan, dtype=np.float32)
    for number, one in enumerate(weights):
        made[:, number, : one.shape[1]] = one.float().cpu().numpy()
    return made


def gradients_by(
    model: TorchModel, scores: Tensor, goal: Target, output: str, rows: np.ndarray, tensors: Sequence[Tensor]
) -> tuple[Sequence[Tensor | None], np.ndarray]:
    """Gradient of each input's target by ``tensors`` of its graph, to be multiplied by the sizes ``(n,)`` that come with it.

    The way from the outputs to the target is differentiated in float64 and brought to size 1 before it enters the module:
    behind a saturated softmax the derivative may be 1e-60, which float32 takes for 0. Raises Unsupported where there is none.
    """
    outputs = scores.detach().double().requires_grad_()
    try:
        value = goal(model.rescale(outputs, output), rows)
        (head,) = torch.autograd.grad(value.sum(), outputs)
        size = head.abs().amax(1, keepdim=True)
        seed = (head / torch.where(size > 0, size, 1)).to(scores.dtype)
        found = torch.autograd.grad(scores, list(tensors), seed, retain_graph=True, allow_unused=True)
    except (RuntimeError, TypeError, AttributeError) as error:
        if out_of_memory(error):
            raise
        raise Unsupported(
            f"The target {goal.labels[0]!r} of {type(model.core).__name__} cannot be differentiated by its attention "
            f"({str(error).splitlines()[0]}). Use 'attention', or 'shap'."
        ) from error
    return found, size[:, 0].cpu().numpy()


def _before(crossing: list[AttentionLayer], own: list[AttentionLayer]) -> list[AttentionLayer]:
    """The layers whose result reaches the keys of the first cross-attention: the encoder's."""
    values, mixed = crossing[0].values, [layer.mixed for layer in own]
    if values is None or not values.requires_grad or any(one is None for one in mixed) or not own:
        return []
    reached = torch.autograd.grad(values.sum(), mixed, retain_graph=True, allow_unused=True)  # type: ignore[arg-type]
    return [layer for layer, gradient in zip(own, reached, strict=True) if gradient is not None]


def _positions(kept: np.ndarray, readout: str | int) -> Any:
    if readout == "mean":
        return kept
    if readout in ("first", "last"):
        return kept[0 if readout == "first" else -1]
    if isinstance(readout, (int, np.integer)) and not isinstance(readout, bool):
        if not -len(kept) <= readout < len(kept):
            raise InvalidInput(f"readout={readout} is outside the {len(kept)} tokens of an input.")
        return kept[readout]
    raise unknown("readout", readout, ("auto", "first", "last", "mean", "a position"))


def _describe(reached: np.ndarray, real: np.ndarray) -> str:
    kept, read = np.flatnonzero(real), np.flatnonzero(reached)
    if len(read) == len(kept):
        return "mean"
    if len(read) == 1:
        return "first" if read[0] == kept[0] else "last" if read[0] == kept[-1] else f"token {int(read[0])}"
    return f"{len(read)} tokens"


def _reached(scores: Tensor, last: AttentionLayer, real: np.ndarray) -> np.ndarray | None:
    """Which tokens' state after the last attention layer moves the score: the first alone, all of them, or some."""
    if last.mixed is None or not scores.requires_grad:
        return None
    spread = torch.linspace(1, 2, scores.shape[1], device=scores.device, dtype=scores.dtype)
    # Unequal weights: the plain sum of probabilities is constant, and its gradient is 0.
    (gradient,) = torch.autograd.grad((scores * spread).sum(), last.mixed, allow_unused=True, retain_graph=True)
    if gradient is None:
        return None
    n, tokens = real.shape
    strength = gradient.reshape(n, -1, tokens, gradient.shape[-1]).norm(dim=(1, 3))
    size = strength.double().cpu().numpy() * real
    most = size.max(1, keepdims=True)
    if not (most > 0).all():
        return None
    return size > 1e-6 * most
