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
_ACTIVATIONS: dict[Callable[..., Any], str] = {
    torch.softmax: "softmax", torch.Tensor.softmax: "softmax", F.softmax: "softmax",
    torch.sigmoid: "sigmoid", torch.Tensor.sigmoid: "sigmoid", F.sigmoid: "sigmoid",
    torch.log_softmax: "log_softmax", torch.Tensor.log_softmax: "log_softmax", F.log_softmax: "log_softmax",
}  # fmt: skip


@dataclass
class AttentionLayer:
    """One attention call: ``weights`` (n, heads, queries, keys), its ``output``, and which axis of that is the query."""

    weights: Tensor
    output: Tensor | None
    query_axis: int
    source: str


class AttentionTap(TorchFunctionMode):
    """Collects the attention weights of every layer that runs while it is open, fused kernels included.

    A fused call (``scaled_dot_product_attention``, ``multi_head_attention_forward``) is computed in the open, with the
    weights in hand: ``softmax(q k' * scale + mask) v``; the module goes on with that result, so that scores equal to those
    of the untapped module prove the weights. Softmax calls over a token axis are read as they pass, where nothing fused ran.
    An open mode keeps ``nn.MultiheadAttention`` off its fast path by itself, in this thread only.

    Parameters
    ----------
    rows : instances in the batch, to tell a leading axis of instances x heads.
    """

    def __init__(self, rows: int) -> None:
        super().__init__()
        self._rows = rows
        self._computed: list[AttentionLayer] = []
        self._read: list[AttentionLayer] = []

    @property
    def layers(self) -> list[AttentionLayer]:
        return self._computed or self._read

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        given = dict(kwargs or {})
        # Inside this method the mode is off: what is called here is not seen again.
        if func is F.scaled_dot_product_attention:
            return self._fused(**dict(zip(_ATTENTION, args, strict=False)), **given)
        if func is F.multi_head_attention_forward:
            return self._multi_head(**dict(zip(_MULTI_HEAD, args, strict=False)), **given)
        result = func(*args, **given)
        if func in _SOFTMAX and isinstance(result, Tensor):
            self._softmax(result, given.get("dim", args[1] if len(args) > 1 else None))
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
        if enable_gqa:
            key = key.repeat_interleave(query.shape[-3] // key.shape[-3], dim=-3)
            value = value.repeat_interleave(query.shape[-3] // value.shape[-3], dim=-3)
        weights = attention_weights(query, key, attn_mask, is_causal, scale)
        output = _differentiable(weights @ value)
        self._keep(self._computed, weights, output, output.ndim - 2, "fused attention")
        return output

    def _multi_head(self, need_weights: bool = True, average_attn_weights: bool = True, **rest: Any) -> tuple[Tensor, Tensor | None]:
        if rest.get("training") and rest.get("dropout_p", 0) > 0:
            raise Unsupported("This module drops attention at random even in eval mode: its weights differ from call to call.")
        output, weights = F.multi_head_attention_forward(**rest, need_weights=True, average_attn_weights=False)
        assert weights is not None
        output = _differentiable(output)
        self._keep(self._computed, weights, output, 0, "multi-head attention")
        if not need_weights:
            return output, None
        return output, weights.mean(-3) if average_attn_weights else weights

    def _softmax(self, weights: Tensor, dim: int | None) -> None:
        tokens = weights.shape[-1]
        if weights.ndim >= 3 and dim in (-1, weights.ndim - 1) and tokens > 1 and weights.shape[-2] == tokens:
            self._keep(self._read, weights, None, 0, "softmax over tokens")

    def _keep(self, layers: list[AttentionLayer], weights: Tensor, output: Tensor | None, axis: int, source: str) -> None:
        queries, keys = weights.shape[-2:]
        if weights.numel() % (self._rows * queries * keys) == 0:
            # (n, heads, L, S), (n * heads, L, S), (n, L, S), and (heads, L, S) of a single unbatched instance.
            layers.append(AttentionLayer(weights.detach().reshape(self._rows, -1, queries, keys), output, axis, source))


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
