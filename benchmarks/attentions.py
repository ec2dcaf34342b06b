"""What is right of attention, from transformers' eager weights and by the papers' formulas, without any of the tools.

None stands for "cannot be said here".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from cases import Case, scores_of
from torch import Tensor, nn


def attention(case: Case) -> np.ndarray | None:
    """Weights ``(layers, heads, tokens, tokens)``: what transformers gives in eager mode, or by hand one query at a time."""
    core: Any = case.core_of(case.handed()).eval()
    import test_attention
    import torch_gallery

    names, tensors = case.argument_names, case.arguments
    with torch.no_grad():
        for kind, by_hand in ((torch_gallery.Encoder, test_attention.encoder_by_hand), (torch_gallery.Fused, test_attention.fused_by_hand)):
            if isinstance(core, kind):
                return torch.stack(by_hand(core, *tensors), 1)[0].numpy()
        holder = getattr(core, "inner", getattr(core, "encoder", core)) if not hasattr(core, "config") else core
        if not hasattr(holder, "set_attn_implementation"):
            return None
        holder.set_attn_implementation("eager")
        given = dict(zip(names, tensors, strict=True)) if names else {"0": tensors[0][..., 0] if holder is not core else tensors[0]}
        output = holder(*([] if names else given.values()), **(given if names else {}), output_attentions=True)
    weights = getattr(output, "attentions", None)
    if not weights or len({w.shape for w in weights}) > 1:
        return None
    return torch.stack(list(weights), 1)[0].numpy()


def torch_gallery() -> Any:
    import torch_gallery as found

    return found


def readout(case: Case) -> str:
    """The token that attention is read at: the last where no token sees a later one, for the first then sees itself alone."""
    weights = attention(case)
    return "last" if weights is not None and not np.triu(weights, 1).any() else "first"


def rollout(weights: np.ndarray, readout: np.ndarray) -> np.ndarray:
    """Abnar & Zuidema 2020, entry by entry: ``(A + I) / 2`` row by row, multiplied over the layers, read at ``readout``."""
    tokens = weights.shape[-1]
    reach = readout
    for layer in weights[::-1]:
        mixed = np.zeros((tokens, tokens))
        for i in range(tokens):
            for j in range(tokens):
                mixed[i, j] = (layer[:, i, j].mean() + (i == j)) / 2
            mixed[i] /= mixed[i].sum()
        reach = np.array([sum(reach[i] * mixed[i, j] for i in range(tokens)) for j in range(tokens)])
    return reach


def flow(weights: np.ndarray, start: int) -> np.ndarray:
    """Abnar & Zuidema 2020: per token the largest flow from ``start`` on top, by linear programming over the edges."""
    from scipy.optimize import linprog

    layers, _, tokens, _ = weights.shape
    edges = [(k, i, j) for k in range(layers) for i in range(tokens) for j in range(tokens)]
    capacity = [(weights[k, :, i, j].mean() + (i == j)) / 2 for k, i, j in edges]
    kept = np.zeros((layers + 1, tokens, len(edges)))  # what arrives at a node less what leaves it
    for e, (k, i, j) in enumerate(edges):
        kept[k + 1, i, e], kept[k, j, e] = -1, 1
    between = kept[1:-1].reshape(-1, len(edges))
    shut = np.delete(kept[-1], start, axis=0)  # nothing starts elsewhere on top
    reached = []
    for j in range(tokens):
        ends = np.concatenate([between, shut, np.delete(kept[0], j, axis=0)])
        found = linprog(-kept[0, j], A_eq=ends, b_eq=np.zeros(len(ends)), bounds=[(0, c) for c in capacity], method="highs")
        reached.append(-found.fun)
    return np.array(reached)


@contextmanager
def _by_definition() -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Fused attention as ``softmax(q k' / sqrt(d) + mask) v``, whose weights and values ``(heads, tokens, d)`` are kept, call by call."""
    kept: list[tuple[Tensor, Tensor]] = []

    def plain(
        q: Tensor, k: Tensor, v: Tensor, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False, scale: Any = None,
        enable_gqa: bool = False,
    ) -> Tensor:  # fmt: skip
        k, v = (t.repeat_interleave(q.shape[-3] // t.shape[-3], -3) for t in (k, v))
        logits = q @ k.transpose(-1, -2) * (scale or 1 / math.sqrt(q.shape[-1]))
        if is_causal:
            logits = logits.masked_fill(~torch.ones(logits.shape[-2:], dtype=torch.bool).tril(), -torch.inf)
        if attn_mask is not None:
            logits = logits.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else logits + attn_mask
        weights = logits.softmax(-1)
        kept.append((weights, v.detach()[0]))
        return weights @ v

    fused = F.scaled_dot_product_attention
    F.scaled_dot_product_attention = plain
    try:
        yield kept
    finally:
        F.scaled_dot_product_attention = fused


def _called(case: Case) -> tuple[nn.Module, Any]:
    """A float64 copy of the module whose attention is eager where it can be told, and how it is called."""
    core: Any = case.core_of(case.handed()).eval().double().requires_grad_()
    given = [t.double() if t.is_floating_point() else t for t in case.arguments]
    if hasattr(core, "set_attn_implementation"):
        core.set_attn_implementation("eager")
    return core, lambda **more: core(
        *([] if case.argument_names else given), **dict(zip(case.argument_names or (), given, strict=False)), **more
    )


def norms(case: Case, weights: np.ndarray) -> np.ndarray | None:
    """Kobayashi et al. 2020: ``|| sum over heads of a_ij v_j W_O ||``, entry by entry and each row brought to the sum 1, as one head."""
    core, call = _called(case)
    values: list[Tensor] = []
    outward: list[Tensor] = []
    for name, layer in core.named_modules():
        if name.endswith((".value", ".v_lin", ".v_proj", ".value_proj", "SelfAttention.v")):
            layer.register_forward_hook(lambda _, __, output: values.append(output[0].detach()))
        elif name.endswith("attn.c_attn"):
            layer.register_forward_hook(lambda _, __, output: values.append(output[0].detach().chunk(3, -1)[2]))
        elif name.endswith("attn.c_proj"):
            layer.register_forward_hook(lambda module, *_: outward.append(module.weight.detach().T))
        elif name.endswith(
            ("attention.output.dense", "attention.out_lin", "attention.dense", ".o_proj", "SelfAttention.o", "attn.out_proj")
        ) or (isinstance(core, torch_gallery().Fused) and name.startswith("out.")):
            layer.register_forward_hook(lambda module, *_: outward.append(module.weight.detach()))
    with _by_definition() as met:
        call()
    values = values or [v.transpose(0, 1).flatten(1) for _, v in met]
    outward = outward or [layer.out_proj.weight.detach() for layer in core.modules() if isinstance(layer, nn.MultiheadAttention)]
    if not len(values) == len(outward) == len(weights):
        return None
    heads, tokens = weights.shape[1:3]
    found = np.zeros((len(weights), 1, tokens, tokens))
    for k, (value, out) in enumerate(zip(values, outward, strict=True)):
        parts = value.split(out.shape[1] // heads, -1)  # fewer than heads where some share theirs
        carried = [parts[h * len(parts) // heads] @ w.T for h, w in enumerate(out.chunk(heads, -1))]
        for i in range(tokens):
            for j in range(tokens):
                found[k, 0, i, j] = float(sum(float(weights[k, h, i, j]) * carried[h][j] for h in range(heads)).norm())
    return found / found.sum(-1, keepdims=True)


def attention_relevance(case: Case, start: int) -> np.ndarray | None:
    """Chefer et al. 2021 of one token: ``R <- R + mean over heads of (gradient of A times A)+ R``, A as eager."""
    core, call = _called(case)
    with _by_definition() as met:
        output = call(**({"output_attentions": True} if hasattr(core, "config") else {}))
    weights = [w for w, _ in met] or list(getattr(output, "attentions", None) or ())
    if not weights or len({w.shape for w in weights}) > 1:
        return None
    slopes = torch.autograd.grad(scores_of(output)[0, case.column], weights, allow_unused=True)
    reach = torch.eye(weights[0].shape[-1]).double()
    for a, g in zip(weights, slopes, strict=True):
        if g is not None:
            reach = reach + (a * g)[0].clamp(min=0).mean(0) @ reach
    reach[start, start] -= 1
    return np.asarray(reach[start].detach().numpy())


def spread(reach: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """The reach of a picture's patches or a series' positions, each evenly over what it covers; special tokens are left out."""
    if len(shape) == 1:
        return np.repeat(reach, shape[0] // len(reach)) * len(reach) / shape[0] if shape[0] % len(reach) == 0 else None
    side = math.isqrt(len(reach))
    if len(reach) - side**2 > 1 or shape[0] % side or shape[1] % side:
        return None
    cell = (shape[0] // side, shape[1] // side)
    return np.kron(reach[len(reach) - side**2 :].reshape(side, side), np.ones(cell)) / (cell[0] * cell[1])
