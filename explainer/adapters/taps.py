"""Taps on the functions a torch module calls while it runs: its attention weights, and the activation that ends it.

They are ``TorchFunctionMode``s: they see every call made in this thread while they are open, functional ones included, and
nothing is replaced for anyone else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from explainer.adapters.streams import Streams
from explainer.errors import Unsupported
from explainer.model import steady

_ATTENTION = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
_MULTI_HEAD = (
    "query", "key", "value", "embed_dim_to_check", "num_heads", "in_proj_weight", "in_proj_bias", "bias_k", "bias_v",
    "add_zero_attn", "dropout_p", "out_proj_weight", "out_proj_bias", "training", "key_padding_mask", "need_weights", "attn_mask",
    "use_separate_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight", "static_k", "static_v", "average_attn_weights",
    "is_causal",
)  # fmt: skip
_SOFTMAX = {torch.softmax, torch.Tensor.softmax, F.softmax, torch.nn.functional.softmax}
_PRODUCTS = {torch.matmul, torch.bmm, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.Tensor.bmm}
MIXTURE = "softmax without queries and keys"  # a gate over experts, or additive attention
# What may stand between a softmax and the product with the values.
_PASSING = {
    F.dropout, torch.dropout, torch.Tensor.to, torch.Tensor.type, torch.Tensor.type_as, torch.Tensor.float, torch.Tensor.half,
    torch.Tensor.bfloat16, torch.Tensor.contiguous, torch.Tensor.masked_fill, torch.nan_to_num, torch.Tensor.nan_to_num,
}  # fmt: skip
_ACTIVATIONS: dict[Callable[..., Any], str] = {
    torch.softmax: "softmax", torch.Tensor.softmax: "softmax", F.softmax: "softmax",
    torch.sigmoid: "sigmoid", torch.Tensor.sigmoid: "sigmoid", F.sigmoid: "sigmoid",
    torch.log_softmax: "log_softmax", torch.Tensor.log_softmax: "log_softmax", F.log_softmax: "log_softmax",
}  # fmt: skip


@dataclass(eq=False)
class AttentionLayer:
    """One attention call, as the module goes on with it.

    Attributes
    ----------
    weights : ``(n, heads, queries, keys)``, detached.
    used : the same weights in the graph of the scores, in the module's own shape.
    mixed : weights times values, ``(..., queries, size)`` per head, in the graph; None where no product with values was seen.
    values : ``(n, heads, keys, size)`` in the graph, or None.
    projection : ``W_O`` as ``(heads * size, width)``, or None where no linear layer takes the heads side by side.
    cross : whether the keys are of another sequence than the queries.
    windows : how many windows per instance the leading axis holds; they are counted among the heads of ``weights``.
    """

    weights: Tensor
    used: Tensor
    source: str
    mixed: Tensor | None = None
    values: Tensor | None = None
    projection: Tensor | None = None
    cross: bool = False
    windows: int = 1

    @property
    def heads(self) -> int:
        return self.weights.shape[1] // self.windows


class AttentionTap(TorchFunctionMode):
    """Collects the attention of every layer that runs while it is open, fused kernels included.

    A fused call (``scaled_dot_product_attention``, ``multi_head_attention_forward``) is computed in the open, with the
    weights in hand: ``softmax(q k' * scale + mask) v``; the module goes on with that result, so that scores equal to those
    of the untapped module prove the weights. A softmax whose result is multiplied with values is read as it passes. An open
    mode keeps ``nn.MultiheadAttention`` off its fast path by itself, in this thread only.

    Parameters
    ----------
    rows : instances in the batch, to tell a leading axis of instances x heads.
    gates : per number of a layer, in order of calling, factors ``(heads,)`` on what each head hands on.

    ``layers`` are those seen.
    """

    def __init__(self, rows: int, gates: Mapping[int, Tensor] | None = None) -> None:
        super().__init__()
        self._rows, self._gates = rows, gates or {}
        self._attending: list[AttentionLayer] = []
        self._loose: dict[int, AttentionLayer] = {}
        self._streams = None if gates else Streams()
        self._awaiting: AttentionLayer | None = None

    @property
    def layers(self) -> list[AttentionLayer]:
        """Softmaxes over tokens that no product with values followed stand in only where there is nothing else."""
        seen = {id(layer): layer for layer in self._loose.values()}.values()
        square = [layer for layer in seen if layer.weights.shape[-1] == layer.weights.shape[-2] > 1]
        return self._attending or square

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        given = dict(kwargs or {})
        # Inside this method the mode is off: what is called here is not seen again.
        if func is F.scaled_dot_product_attention:
            return self._fused(**dict(zip(_ATTENTION, args, strict=False)), **given)
        if func is F.multi_head_attention_forward:
            return self._multi_head(**{**dict(zip(_MULTI_HEAD, args, strict=False)), **given})
        result = func(*args, **given)
        if self._streams is not None:
            self._streams.follow(func, args, given, result)
        if func in _SOFTMAX:
            self._softmax(result, given.get("dim", args[1] if len(args) > 1 else None))
        elif func in _PASSING and self._loose and isinstance(args[0], Tensor) and isinstance(result, Tensor):
            self._pass_on(args[0], result)
        elif func in _PRODUCTS and self._loose:
            return self._product(result, *args[:2], *given.values())
        elif func is F.linear or func is torch.addmm:
            self._project(func, [*args, *given.values()])
        return result

    def _fused(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if dropout_p > 0:
            raise Unsupported(
                f"This module drops attention at random (dropout_p={dropout_p}) even in eval mode: its weights differ from call to "
                "call. Pass dropout_p=0 when not self.training."
            )
        cross = self._streams is not None and self._streams.apart(query, key)
        if enable_gqa:
            key = key.repeat_interleave(query.shape[-3] // key.shape[-3], dim=-3)
            value = value.repeat_interleave(query.shape[-3] // value.shape[-3], dim=-3)
        weights = _differentiable(attention_weights(query, key, attn_mask, is_causal, scale))
        layer = self._layer(weights, "fused attention", cross)
        return weights @ value if layer is None else self._settle(layer, value, weights @ value)

    def _multi_head(
        self, query: Tensor, key: Tensor, value: Tensor, num_heads: int, out_proj_weight: Tensor, out_proj_bias: Tensor | None,
        need_weights: bool = True, average_attn_weights: bool = True, **rest: Any,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        if rest.get("training") and rest.get("dropout_p", 0) > 0:
            raise Unsupported("This module drops attention at random even in eval mode: its weights differ from call to call.")
        batched, cross = query.ndim == 3, not _same(query, key)
        if not batched:
            query, key, value = (t.unsqueeze(1) for t in (query, key, value))
        q, k, v, mask = projected(query, key, value, num_heads, **rest)
        weights = _differentiable(attention_weights(q, k, mask, False, None))
        layer = self._layer(weights, "multi-head attention", cross)
        mixed = weights @ v if layer is None else self._settle(layer, v, weights @ v)
        if layer is not None:
            layer.projection = out_proj_weight.detach().T
        output = F.linear(mixed.permute(2, 0, 1, 3).flatten(2), out_proj_weight, out_proj_bias)
        shown = weights.mean(1) if average_attn_weights else weights
        if not batched:
            output, shown = output.squeeze(1), shown.squeeze(0)
        return output, shown if need_weights else None

    def _softmax(self, weights: Any, dim: int | None) -> None:
        if isinstance(weights, Tensor) and weights.ndim >= 3 and dim in (-1, weights.ndim - 1):
            crossed = self._streams is not None and self._streams.crossed(weights)
            plain = self._streams is None or self._streams.compared(weights)
            layer = self._layer(_differentiable(weights), "softmax over tokens" if plain else MIXTURE, crossed)
            if layer is not None:
                self._loose[weights.untyped_storage().data_ptr()] = layer

    def _pass_on(self, weights: Tensor, result: Tensor) -> None:
        layer = self._loose.get(weights.untyped_storage().data_ptr())
        if layer is not None and result.numel() == weights.numel():
            self._loose[result.untyped_storage().data_ptr()] = layer

    def _product(self, result: Tensor, weights: Any, value: Any = None, *_: Any) -> Tensor:
        """A product of softmax weights with values is what the heads hand on."""
        layer = self._loose.get(weights.untyped_storage().data_ptr()) if isinstance(weights, Tensor) else None
        fits = isinstance(value, Tensor) and layer is not None and weights.shape[-1] == layer.weights.shape[-1] == value.shape[-2]
        if layer is None or not fits or value.ndim < 3:
            return result
        self._loose = {place: other for place, other in self._loose.items() if other is not layer}
        return self._settle(layer, value, result)

    def _layer(self, weights: Tensor, source: str, cross: bool) -> AttentionLayer | None:
        queries, keys = weights.shape[-2:]
        if weights.numel() % (self._rows * queries * keys):
            return None
        # (n, heads, L, S), (n * heads, L, S), (n, L, S), (n * windows, heads, L, S); (heads, L, S) of a single unbatched instance.
        windows = weights.shape[0] // self._rows if weights.ndim == 4 and weights.shape[0] % self._rows == 0 else 1
        return AttentionLayer(
            weights.detach().reshape(self._rows, -1, queries, keys), weights, source, cross=cross, windows=max(windows, 1)
        )  # fmt: skip

    def _settle(self, layer: AttentionLayer, value: Tensor, mixed: Tensor) -> Tensor:
        """Enter a layer, and give back what its heads hand on, with gates where they are set."""
        mixed = _differentiable(mixed)
        gate = self._gates.get(len(self._attending))
        if gate is not None:
            gated = mixed.reshape(-1, layer.heads, *mixed.shape[-2:]) * gate.to(mixed)[:, None, None]
            mixed = gated.reshape(mixed.shape)
        layer.mixed = mixed
        if value.ndim == 4 or value.shape[0] == self._rows * layer.heads:
            shaped = value if value.ndim == 4 else value.reshape(self._rows, -1, *value.shape[-2:])
            shaped = shaped.expand(-1, layer.heads, -1, -1) if shaped.shape[1] == 1 else shaped
            if shaped.shape[:2] == (self._rows, layer.heads):
                layer.values = shaped
        elif layer.heads == 1:
            layer.values = value[:, None]
        self._attending.append(layer)
        self._awaiting = layer
        return mixed

    def _project(self, func: Any, operands: list[Any]) -> None:
        """The linear layer that takes the heads side by side is the output projection."""
        layer = self._awaiting
        if layer is None or layer.mixed is None or layer.values is None:
            return
        given_to, weight = (operands[0], operands[1].T) if func is F.linear else (operands[1], operands[2])
        mixed = layer.mixed.reshape(self._rows, layer.heads, *layer.mixed.shape[-2:])
        if not isinstance(weight, Tensor) or weight.ndim != 2 or weight.shape[0] != mixed.shape[1] * mixed.shape[3]:
            return
        beside = mixed.transpose(1, 2).flatten(2)
        if given_to.numel() == beside.numel() and torch.equal(given_to.reshape(beside.shape), beside):
            layer.projection, self._awaiting = weight.detach(), None


def projected(
    query: Tensor, key: Tensor, value: Tensor, heads: int, in_proj_weight: Tensor | None = None, in_proj_bias: Tensor | None = None,
    bias_k: Tensor | None = None, bias_v: Tensor | None = None, add_zero_attn: bool = False, key_padding_mask: Tensor | None = None,
    attn_mask: Tensor | None = None, use_separate_proj_weight: bool = False, q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None, v_proj_weight: Tensor | None = None, static_k: Tensor | None = None,
    static_v: Tensor | None = None, **_: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:  # fmt: skip
    """Queries, keys and values ``(n, heads, tokens, size)`` of ``multi_head_attention_forward``, and its masks as one to be added."""
    if static_k is not None or static_v is not None:
        raise Unsupported("multi_head_attention_forward with static keys or values is not followed. Use 'integrated_gradients' or 'shap'.")
    three = (q_proj_weight, k_proj_weight, v_proj_weight) if use_separate_proj_weight else in_proj_weight.chunk(3)  # type: ignore[union-attr]
    biases = in_proj_bias.chunk(3) if in_proj_bias is not None else (None, None, None)
    q, k, v = (F.linear(t, w, b) for t, w, b in zip((query, key, value), three, biases, strict=True))  # type: ignore[arg-type]
    n, added = q.shape[1], 0
    if bias_k is not None and bias_v is not None:
        k, v, added = torch.cat([k, bias_k.expand(1, n, -1)]), torch.cat([v, bias_v.expand(1, n, -1)]), 1
    if add_zero_attn:
        k, v, added = F.pad(k, (0, 0, 0, 0, 0, 1)), F.pad(v, (0, 0, 0, 0, 0, 1)), added + 1
    q, k, v = (t.view(len(t), n, heads, -1).permute(1, 2, 0, 3) for t in (q, k, v))
    mask = None
    if attn_mask is not None:
        mask = F.pad(_added(attn_mask, q.dtype), (0, added))
        mask = mask.reshape(n, heads, *mask.shape[-2:]) if mask.ndim == 3 else mask
    if key_padding_mask is not None:
        padding = F.pad(_added(key_padding_mask, q.dtype), (0, added)).reshape(n, 1, 1, -1)
        mask = padding if mask is None else mask + padding
    return q, k, v, mask


def _same(query: Tensor, key: Tensor) -> bool:
    """Whether unprojected queries and keys are one sequence: one tensor, or the same numbers computed twice."""
    if query.untyped_storage().data_ptr() == key.untyped_storage().data_ptr():
        return True
    return query.shape == key.shape and torch.equal(query, key)


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask that is True where attention is barred, as one to be added to logits."""
    return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, -math.inf) if mask.dtype == torch.bool else mask


def attention_weights(query: Tensor, key: Tensor, mask: Tensor | None, is_causal: bool, scale: float | None) -> Tensor:
    """``softmax(q k' * scale + mask)`` over the keys; a query that may see no key has weight 0 everywhere."""
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    logits = (query @ key.transpose(-2, -1)) * factor
    if is_causal:
        seen = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()
        logits = logits.masked_fill(~seen, -math.inf)
    if mask is not None:
        logits = logits.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else logits + mask
    blind = (logits == -math.inf).all(-1, keepdim=True)
    return logits.masked_fill(blind, 0).softmax(-1).masked_fill(blind, 0)


def _differentiable(output: Tensor) -> Tensor:
    """Let gradients reach ``output`` also where the module is frozen and its inputs are integers."""
    return output if output.requires_grad or not torch.is_grad_enabled() else output.requires_grad_()


class ActivationTap(TorchFunctionMode):
    """Finds the softmax or sigmoid that made a module's output; or runs the one numbered ``upcast`` in float64.

    In float32 a softmax that gives exactly 1 has gradient exactly 0, and everything explained through it would be empty.
    """

    def __init__(self, upcast: int | None = None) -> None:
        super().__init__()
        self._upcast = upcast
        self._calls: list[tuple[str, Tensor]] = []
        self._count = 0

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        given = dict(kwargs or {})
        if func not in _ACTIVATIONS:
            return func(*args, **given)
        upcast = self._upcast is not None and self._count == self._upcast and bool(args)
        if upcast:
            args = (args[0].double(), *args[1:])
        self._count += 1
        result = func(*args, **given)
        if upcast and _ACTIVATIONS[func] == "softmax" and result.ndim == 2:
            result = steady(result)
        if self._upcast is None:
            # Kept alive, so that no later tensor can come to lie at the same address.
            self._calls.append((_ACTIVATIONS[func], result))
        return result

    def made(self, output: Tensor) -> str | None:
        """The name of the activation whose result (or a view of it) is ``output``."""
        index = self.index(output)
        return None if index is None else self._calls[index][0]

    def index(self, output: Tensor) -> int | None:
        """The number of that call, in order of calling."""
        where = output.untyped_storage().data_ptr()
        return next((i for i, (_, kept) in enumerate(self._calls) if kept.untyped_storage().data_ptr() == where), None)
