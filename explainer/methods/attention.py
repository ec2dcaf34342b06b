"""Attention on torch models: raw weights per layer and head, and rollout, brought from tokens to words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from explainer.adapters.encoding import Arguments
from explainer.adapters.layouts import Layout, SeriesLayout, TextLayout, layout_for, token_mask
from explainer.adapters.taps import AttentionLayer, AttentionTap
from explainer.adapters.torch import TorchModel, require_torch
from explainer.errors import InvalidInput, Unsupported, unknown
from explainer.inputs import take
from explainer.methods.attribution import Attribution
from explainer.model import Model
from explainer.target import Target

Progress = Callable[[int, int], None]
_ROWS = 32  # all layers' weights of a batch are held at once: layers x heads x tokens x tokens each
_TOLERANCE = {torch.float16: 2e-2, torch.bfloat16: 5e-2}
_NOTE = "Attention does not depend on the target: it says where information flowed, not what decided."


def attention(
    model: Model,
    inputs: Any,
    target: Target,
    *,
    kind: Literal["rollout", "raw"] = "rollout",
    readout: str | int = "auto",
    progress: Progress | None = None,
) -> Attribution:
    """Attention weights of every layer and head, and their rollout: how much of each part reaches the read-out token.

    Rollout: per layer the mean over heads ``A``, mixed with the residual as ``(A + I) / 2`` and row-normalised, multiplied
    over the layers; the row of the read-out token, summed over a word's tokens. The shares of all tokens add up to 1; that
    of special tokens is left out and reported. Abnar & Zuidema 2020, arXiv:2005.00928.

    Parameters
    ----------
    kind : "rollout", one share per word (or time step); or "raw", the weights ``(layer, head, query, key)`` on tokens.
    readout : the token the score is read from: "first" (a classification token), "last", "mean" (of all tokens), a
        position, or "auto": the tokens whose state after the last attention layer the score's gradient reaches.

    Fused attention is computed in the open meanwhile; scores must then equal those of the untouched model to 1e-5
    (Unsupported with the difference otherwise). Raises Unsupported where the model computes no attention over its tokens.
    """
    torch_model = require_torch(model, "attention")
    if kind not in ("rollout", "raw"):
        raise unknown("kind of attention", kind, ("rollout", "raw"))
    if model.modality not in ("text", "series"):
        raise Unsupported(
            f"Attention is traced to words and time steps; the tokens of {model.modality} inputs are not matched to their parts yet. "
            "Use 'integrated_gradients' or 'shap'."
        )
    found = _Collected(len(inputs))
    with torch_model.differentiating():
        for rows in torch_model.batches(inputs, _ROWS):
            _explain(torch_model, take(inputs, rows), rows, kind, readout, found)
            if progress is not None:
                progress(found.done, len(inputs))
    axes: tuple[str, ...] = ("layer", "head", "query", "key")
    if kind == "rollout":
        axes = ("word",) if model.modality == "text" else ("time",)
    notes = [_NOTE, *dict.fromkeys(found.notes)]
    if kind == "rollout" and any(found.special):
        notes.append(f"Special tokens hold {float(np.mean(found.special)):.0%} of the relevance on average; it belongs to no word.")
    extras: dict[str, Sequence[Any]] = {"attention": found.weights, "tokens": found.tokens, "special": found.special}
    if model.modality == "text":
        extras["spans"] = found.spans
    return Attribution(
        values=[np.repeat(np.asarray(v, dtype=np.float64)[..., None], target.k, axis=-1) for v in found.values],
        axes=axes,
        names=found.names,
        evaluations=2 * len(inputs),
        extras=extras,
        parameters={"kind": kind, "readout": readout if readout != "auto" else f"auto: {', '.join(sorted(set(found.readouts)))}"},
        notes=tuple(notes),
    )


class _Collected:
    """Results by input, filled batch by batch."""

    def __init__(self, n: int) -> None:
        self.values: list[Any] = [None] * n
        self.names: list[tuple[str, ...]] = [()] * n
        self.weights: list[Any] = [None] * n
        self.tokens: list[list[str]] = [[]] * n
        self.spans: list[Any] = [None] * n
        self.special = [0.0] * n
        self.readouts: list[str] = []
        self.notes: list[str] = []
        self.done = 0


def _explain(model: TorchModel, inputs: Any, rows: np.ndarray, kind: str, readout: str | int, found: _Collected) -> None:
    arguments = model.encode(inputs)
    scores, layers = capture(model, arguments)
    position, width = _token_tensor(model, arguments)
    layout = layout_for(model, inputs, arguments, position, arguments.tensors[position])
    real = _real(model, layout, arguments, position)
    layers = _over_tokens(model, layers, width, found)
    weights = torch.stack([layer.weights for layer in layers], 1).float().cpu().numpy()
    reading = _readout(scores, layers[-1], real, readout, found) if kind == "rollout" else None
    relevance = None if reading is None else rollout(weights, reading)
    for i, row in enumerate(rows):
        kept = np.flatnonzero(real[i])
        found.weights[row] = weights[i][:, :, kept][..., kept]
        found.tokens[row] = _tokens(model, inputs, i, layout, kept)
        found.spans[row] = layout.extras(i).get("spans")
        if relevance is None:
            found.values[row] = found.weights[row]
            found.names[row] = tuple(f"layer {k}" for k in range(len(layers)))
            continue
        parts = layout.collapse(relevance[i], i) if isinstance(layout, TextLayout) else relevance[i][kept]
        found.values[row] = parts
        found.names[row] = layout.names(i) if isinstance(layout, TextLayout) else tuple(f"step {t}" for t in range(len(parts)))
        found.special[row] = float(max(0.0, relevance[i].sum() - parts.sum()))
    found.notes.extend(layout.notes)
    found.done += len(rows)


def capture(model: TorchModel, arguments: Arguments) -> tuple[Tensor, list[AttentionLayer]]:
    """Scores and attention layers of one batch, inside ``model.differentiating()``; the tap is held against the untapped scores.

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
    allowed = _TOLERANCE.get(model.dtype, 1e-5 if scores.device.type == "cpu" else 1e-3)
    if not difference <= allowed:
        raise Unsupported(
            f"With its attention computed in the open, {type(model.core).__name__} gives scores that differ by {difference:.2g} (allowed "
            f"{allowed:g}), so the weights are not those it uses. Use 'integrated_gradients' or 'shap'."
        )
    return scores, tap.layers


def rollout(weights: np.ndarray, reading: np.ndarray) -> np.ndarray:
    """Relevance ``(n, tokens)`` of each token for the read-out ``reading`` (n, tokens), from weights (n, layers, heads, tokens, tokens)."""
    mixed = weights.astype(np.float64).mean(2)
    mixed = 0.5 * mixed + 0.5 * np.eye(mixed.shape[-1])
    mixed /= mixed.sum(-1, keepdims=True)
    # From the read-out downwards: vector times matrix, never a product of matrices.
    relevance = reading[:, None, :]
    for layer in range(mixed.shape[1] - 1, -1, -1):
        relevance = relevance @ mixed[:, layer]
    return relevance[:, 0]


def _token_tensor(model: TorchModel, arguments: Arguments) -> tuple[int, int]:
    """Position of the tensor whose second axis is the tokens, and their number."""
    named = arguments.index("ids", "input_ids")
    wanted = 2 if model.modality == "text" else 3
    position = named if named is not None else next((i for i, t in enumerate(arguments.tensors) if t.ndim == wanted), None)
    if position is None:
        raise Unsupported(f"preprocess gives {arguments.describe()}: which axis holds the tokens cannot be told.")
    return position, arguments.tensors[position].shape[1]


def _real(model: TorchModel, layout: Layout, arguments: Arguments, position: int) -> np.ndarray:
    if isinstance(layout, SeriesLayout):
        return layout.present(arguments.tensors[position].shape[1])
    return token_mask(arguments, position, getattr(model.preprocess, "pad_id", None))


def _over_tokens(model: TorchModel, layers: list[AttentionLayer], width: int, found: _Collected) -> list[AttentionLayer]:
    """The layers that attend from the input's tokens to the input's tokens, all with as many heads."""
    square = [layer for layer in layers if tuple(layer.weights.shape[-2:]) == (width, width)]
    if not square:
        sizes = sorted({tuple(layer.weights.shape[-2:]) for layer in layers})
        raise Unsupported(
            f"{type(model.core).__name__} attends over {', '.join(map(str, sizes))} positions, but the input has {width} "
            "tokens: which position is which token cannot be told. Use 'integrated_gradients' or 'shap'."
        )
    heads = {layer.weights.shape[1] for layer in square}
    if len(heads) > 1:
        raise Unsupported(f"The attention layers have different numbers of heads ({sorted(heads)}), which cannot stand in one array yet.")
    if len(square) < len(layers):
        left_out = len(layers) - len(square)
        found.notes.append(f"{left_out} attention layers over other positions (cross-attention, pooled tokens) are left out.")
    if square[0].source == "softmax over tokens":
        found.notes.append("No fused or multi-head attention was called; the weights are the softmax results over tokens as they passed.")
    return square


def _readout(scores: Tensor, last: AttentionLayer, real: np.ndarray, readout: str | int, found: _Collected) -> np.ndarray:
    """Weights ``(n, tokens)`` of the tokens the score is read from."""
    n, tokens = real.shape
    reached = _reached(scores, last, real) if readout == "auto" else None
    if reached is None:
        reached = np.zeros((n, tokens), dtype=bool)
        if readout == "auto":
            found.notes.append("Which token the score is read from could not be told from gradients; the first was taken.")
        for i in range(n):
            reached[i, _positions(np.flatnonzero(real[i]), 0 if readout == "auto" else readout)] = True
    for i in range(n):
        found.readouts.append(_describe(reached[i], real[i]))
    return reached / reached.sum(1, keepdims=True)


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
    if last.output is None or not scores.requires_grad:
        return None
    spread = torch.linspace(1, 2, scores.shape[1], device=scores.device, dtype=scores.dtype)
    # Unequal weights: the plain sum of probabilities is constant, and its gradient is 0.
    (gradient,) = torch.autograd.grad((scores * spread).sum(), last.output, allow_unused=True)
    if gradient is None:
        return None
    n, tokens = real.shape
    if last.query_axis == 0:  # multi_head_attention_forward: (tokens, n, width)
        strength = gradient.reshape(tokens, n, -1).norm(dim=-1).T
    else:
        strength = gradient.reshape(n, -1, tokens, gradient.shape[-1]).norm(dim=(1, 3))
    size = strength.double().cpu().numpy() * real
    most = size.max(1, keepdims=True)
    if not (most > 0).all():
        return None
    return size > 1e-6 * most


def _tokens(model: TorchModel, inputs: Any, i: int, layout: Layout, kept: np.ndarray) -> list[str]:
    if not isinstance(layout, TextLayout):
        return [str(t) for t in range(len(kept))]
    if not hasattr(model.preprocess, "tokens"):
        return [inputs[i][a:b] if b > a else "" for a, b in model.preprocess.offsets([inputs[i]])[0]][: len(kept)]
    listed = list(model.preprocess.tokens([inputs[i]])[0])
    return listed if len(listed) == len(kept) else [listed[k] for k in kept if k < len(listed)]
