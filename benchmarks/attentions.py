"""What is right of attention, from transformers' eager weights and by the papers' formulas, without any of the tools.

None stands for "cannot be said here".
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from cases import Case
from torch import Tensor
from truths import scores_in


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


def norms(case: Case, weights: np.ndarray) -> np.ndarray | None:
    """Kobayashi et al. 2020: ``|| sum over heads of a_ij v_j W_O ||``, entry by entry and each row brought to the sum 1, as one head."""
    core: Any = case.core_of(case.handed()).eval()
    values: list[Tensor] = []
    outward: list[Tensor] = []
    for name, layer in core.named_modules():
        if name.endswith((".value", ".v_lin", ".v_proj", ".value_proj")):
            layer.register_forward_hook(lambda _, __, output: values.append(output[0].detach()))
        elif name.endswith(("attention.output.dense", "attention.out_lin", "attention.dense", ".o_proj")):
            layer.register_forward_hook(lambda module, *_: outward.append(module.weight.detach()))
    if case.argument_names:
        core(**dict(zip(case.argument_names, case.arguments, strict=True)))
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
    core: Any = case.core_of(case.handed()).eval()
    if not hasattr(core, "set_attn_implementation") or not case.argument_names:
        return None
    core.set_attn_implementation("eager")
    output = core.double()(**dict(zip(case.argument_names, case.arguments, strict=True)), output_attentions=True)
    weights = getattr(output, "attentions", None)
    if not weights:
        return None
    slopes = torch.autograd.grad(scores_in(output)[0, case.column], weights, allow_unused=True)
    reach = torch.eye(weights[0].shape[-1]).double()
    for a, g in zip(weights, slopes, strict=True):
        if g is not None:
            reach = reach + (a * g)[0].clamp(min=0).mean(0) @ reach
    reach[start, start] -= 1
    return np.asarray(reach[start].detach().numpy())
