"""Layers written out in steps that DeepLIFT has a rule for: sums, products of two tensors, functions of one number.

Each entry gets a call's arguments and returns a function without arguments that computes the same in steps; or None, where
the call is left as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Steps = Callable[[], Any] | None
State = tuple[Tensor, ...]


# -- arithmetic ----------------------------------------------------------------------------------------------------------


def _quotient(a: Any, b: Any, *rest: Any, **options: Any) -> Steps:
    if not isinstance(b, Tensor) or not b.is_floating_point() or rest or options.get("rounding_mode"):
        return None
    return lambda: b.reciprocal() * a


def _larger(a: Any, b: Any = None, *rest: Any, **options: Any) -> Steps:
    if not isinstance(b, Tensor) or not isinstance(a, Tensor):
        return None
    return lambda: torch.stack(torch.broadcast_tensors(a, b), -1).amax(-1)


def _smaller(a: Any, b: Any = None, *rest: Any, **options: Any) -> Steps:
    if not isinstance(b, Tensor) or not isinstance(a, Tensor):
        return None
    return lambda: -torch.stack(torch.broadcast_tensors(-a, -b), -1).amax(-1)


def _gated(input: Tensor, dim: int = -1) -> Steps:
    def steps() -> Tensor:
        value, gate = input.chunk(2, dim)
        return value * gate.sigmoid()

    return steps


# -- normalisation -------------------------------------------------------------------------------------------------------


def _scaled(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def _layer_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5, *_: Any
) -> Steps:
    """Down to the norm of one axis without weights, which has a rule."""
    axes = len(normalized_shape)
    if axes == 1 and weight is None and bias is None:
        return None

    def steps() -> Tensor:
        flat = input.flatten(-axes)
        return _scaled(F.layer_norm(flat, flat.shape[-1:], eps=eps).reshape(input.shape), weight, bias)

    return steps


def _rms_norm(input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None) -> Steps:
    axes = len(normalized_shape)
    if axes == 1 and weight is None:
        return None

    def steps() -> Tensor:
        flat = input.flatten(-axes)
        return _scaled(F.rms_norm(flat, flat.shape[-1:], eps=eps).reshape(input.shape), weight, None)

    return steps


def _group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5, *_: Any
) -> Steps:
    each = (-1, *[1] * (input.ndim - 2))

    def steps() -> Tensor:
        flat = input.unflatten(1, (num_groups, -1)).flatten(2)
        whole = F.layer_norm(flat, flat.shape[-1:], eps=eps).reshape(input.shape)
        return _scaled(whole, None if weight is None else weight.view(each), None if bias is None else bias.view(each))

    return steps


def _instance_norm(
    input: Tensor, running_mean: Any = None, running_var: Any = None, weight: Any = None, bias: Any = None, use_input_stats: bool = True,
    momentum: float = 0.1, eps: float = 1e-5, *_: Any,
) -> Steps:  # fmt: skip
    return _group_norm(input, input.shape[1], weight, bias, eps) if use_input_stats else None


# -- attention -----------------------------------------------------------------------------------------------------------


def _added(mask: Tensor | None, is_causal: bool, like: Tensor, queries: int, keys: int) -> Tensor | None:
    """What is added to the logits: 0, or -inf where a query may not see a key."""
    if mask is not None and mask.dtype == torch.bool:
        mask = like.new_zeros(mask.shape).masked_fill(~mask, -math.inf)
    if is_causal:
        unseen = torch.ones(queries, keys, dtype=torch.bool, device=like.device).triu(1)
        future = like.new_zeros(queries, keys).masked_fill(unseen, -math.inf)
        mask = future if mask is None else mask + future
    return mask


def _attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0, is_causal: bool = False,
    scale: float | None = None, enable_gqa: bool = False,
) -> Steps:  # fmt: skip
    if dropout_p > 0:
        return None
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], dim=-3)
        value = value.repeat_interleave(query.shape[-3] // value.shape[-3], dim=-3)
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    added = _added(attn_mask, is_causal, query, query.shape[-2], key.shape[-2])
    blind = None
    if added is not None and bool((added == -math.inf).all(-1).any()):  # a query that sees no key gets nothing
        none = (added == -math.inf).all(-1, keepdim=True)
        added, blind = added.masked_fill(none, 0), (~none).to(query.dtype)

    def steps() -> Tensor:
        logits = (query @ key.transpose(-2, -1)) * factor
        weights = (logits if added is None else logits + added).softmax(-1)
        return (weights if blind is None else weights * blind) @ value

    return steps


def _multi_head(
    query: Tensor, key: Tensor, value: Tensor, embed_dim_to_check: int, num_heads: int, in_proj_weight: Any, in_proj_bias: Any,
    bias_k: Any, bias_v: Any, add_zero_attn: bool, dropout_p: float, out_proj_weight: Tensor, out_proj_bias: Any, training: bool = True,
    key_padding_mask: Tensor | None = None, need_weights: bool = True, attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False, q_proj_weight: Any = None, k_proj_weight: Any = None, v_proj_weight: Any = None,
    static_k: Any = None, static_v: Any = None, average_attn_weights: bool = True, is_causal: bool = False,
) -> Steps:  # fmt: skip
    rare = (bias_k is not None, add_zero_attn, training and dropout_p > 0, static_k is not None, static_v is not None, query.ndim != 3)
    if any(rare):
        return None
    length, rows = query.shape[:2]
    keys, heads = key.shape[0], num_heads
    parts = (q_proj_weight, k_proj_weight, v_proj_weight) if use_separate_proj_weight else in_proj_weight.chunk(3)
    biases = (None,) * 3 if in_proj_bias is None else in_proj_bias.chunk(3)
    # Boolean masks say here which keys are hidden.
    mask = None if attn_mask is None else _added(~attn_mask if attn_mask.dtype == torch.bool else attn_mask, False, query, length, keys)
    if mask is not None and mask.ndim == 3:
        mask = mask.view(rows, heads, length, keys)
    if key_padding_mask is not None:
        hidden = key_padding_mask if key_padding_mask.dtype != torch.bool else ~key_padding_mask
        padding = _added(hidden.view(rows, 1, 1, keys), False, query, length, keys)
        mask = padding if mask is None else mask + padding

    def steps() -> tuple[Tensor, Tensor | None]:
        q, k, v = (
            F.linear(t, w, b).unflatten(-1, (heads, -1)).permute(1, 2, 0, 3)
            for t, w, b in zip((query, key, value), parts, biases, strict=True)
        )
        attended = F.scaled_dot_product_attention(q, k, v, mask, is_causal=is_causal and mask is None)
        output = F.linear(attended.permute(2, 0, 1, 3).flatten(2), out_proj_weight, out_proj_bias)
        if not need_weights:
            return output, None
        weights = ((q @ k.transpose(-2, -1)) / math.sqrt(q.shape[-1]) + (0 if mask is None else mask)).detach().softmax(-1)
        return output, weights.mean(1) if average_attn_weights else weights

    return steps


# -- recurrence ----------------------------------------------------------------------------------------------------------


def _lstm_step(x: Tensor, state: State, weights: Sequence[Tensor]) -> State:
    h, c = state
    gates = F.linear(x, weights[0], _at(weights, 2)) + F.linear(h, weights[1], _at(weights, 3))
    i, f, g, o = gates.chunk(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _gru_step(x: Tensor, state: State, weights: Sequence[Tensor]) -> State:
    (h,) = state
    given, kept = F.linear(x, weights[0], _at(weights, 2)), F.linear(h, weights[1], _at(weights, 3))
    (r, z, n), (hr, hz, hn) = given.chunk(3, -1), kept.chunk(3, -1)
    new, gate = (n + (r + hr).sigmoid() * hn).tanh(), (z + hz).sigmoid()
    return (new + gate * (h - new),)


def _plain_step(name: str) -> Callable[[Tensor, State, Sequence[Tensor]], State]:
    def step(x: Tensor, state: State, weights: Sequence[Tensor]) -> State:
        summed = F.linear(x, weights[0], _at(weights, 2)) + F.linear(state[0], weights[1], _at(weights, 3))
        return (getattr(torch, name)(summed),)

    return step


def _at(weights: Sequence[Tensor], position: int) -> Tensor | None:
    return weights[position] if len(weights) > position else None


def _recurrent(step: Callable[[Tensor, State, Sequence[Tensor]], State]) -> Callable[..., Steps]:
    def written_out(data: Tensor, *rest: Any) -> Steps:
        packed = isinstance(rest[0], Tensor) and not rest[0].is_floating_point()
        sizes, rest = (rest[0].tolist(), rest[1:]) if packed else (None, rest)
        hx, flat, bias, layers, dropout, training, two_ways = rest[:7]
        batch_first, first = bool(rest[7]) if not packed else False, tuple(hx) if isinstance(hx, (tuple, list)) else (hx,)
        ways, each = 2 if two_ways else 1, 4 if bias else 2
        if len(flat) != layers * ways * each or (training and dropout > 0):  # projections have one weight more
            return None

        def steps() -> tuple[Tensor, ...]:
            inputs = list(data.split(sizes)) if packed else list(data.unbind(1 if batch_first else 0))
            ends: list[State] = []
            for layer in range(layers):
                passed = []
                for way in range(ways):
                    number = layer * ways + way
                    weights = flat[number * each : (number + 1) * each]
                    out, end = _along(step, inputs, tuple(s[number] for s in first), weights, way == 1)
                    passed.append(out)
                    ends.append(end)
                inputs = [torch.cat(both, -1) for both in zip(*passed, strict=True)]
            output = torch.cat(inputs) if packed else torch.stack(inputs, 1 if batch_first else 0)
            return output, *(torch.stack(last) for last in zip(*ends, strict=True))

        return steps

    return written_out


def _cell(step: Callable[[Tensor, State, Sequence[Tensor]], State]) -> Callable[..., Steps]:
    """One step, as a cell takes it: the new state, a pair where it is one."""

    def written_out(data: Tensor, hx: Any, *weights: Any) -> Steps:
        def steps() -> Any:
            pair = isinstance(hx, (tuple, list))
            found = step(data, tuple(hx) if pair else (hx,), weights)
            return found if pair else found[0]

        return steps

    return written_out


def _along(
    step: Callable[[Tensor, State, Sequence[Tensor]], State], inputs: list[Tensor], first: State, weights: Sequence[Tensor], back: bool
) -> tuple[list[Tensor], State]:
    """Outputs per step and the last state. Packed steps hold fewer and fewer rows: series that ended are left out."""
    order = range(len(inputs) - 1, -1, -1) if back else range(len(inputs))
    state = tuple(s[: len(inputs[order[0]])] for s in first)
    outputs, ended = [inputs[0]] * len(inputs), [tuple(s[len(inputs[0]) :] for s in first)]
    for t in order:
        rows, now = len(inputs[t]), len(state[0])
        if rows > now:
            state = tuple(torch.cat([s, f[now:rows]]) for s, f in zip(state, first, strict=True))
        elif rows < now:
            ended.append(tuple(s[rows:] for s in state))
            state = tuple(s[:rows] for s in state)
        state = step(inputs[t], state, weights)
        outputs[t] = state[0]
    return outputs, tuple(torch.cat(parts) for parts in zip(state, *reversed(ended), strict=True))


COMPOSITES: dict[str, Callable[..., Steps]] = {
    "div": _quotient, "divide": _quotient, "true_divide": _quotient, "__truediv__": _quotient,
    "maximum": _larger, "max": _larger, "minimum": _smaller, "min": _smaller, "glu": _gated,
    "layer_norm": _layer_norm, "rms_norm": _rms_norm, "group_norm": _group_norm, "instance_norm": _instance_norm,
    "scaled_dot_product_attention": _attention, "multi_head_attention_forward": _multi_head,
    "lstm": _recurrent(_lstm_step), "gru": _recurrent(_gru_step),
    "rnn_tanh": _recurrent(_plain_step("tanh")), "rnn_relu": _recurrent(_plain_step("relu")),
    "lstm_cell": _cell(_lstm_step), "gru_cell": _cell(_gru_step),
    "rnn_tanh_cell": _cell(_plain_step("tanh")), "rnn_relu_cell": _cell(_plain_step("relu")),
}  # fmt: skip
