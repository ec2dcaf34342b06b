"""A transformer encoder for short texts, from scratch on PyTorch's fused attention."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017); tokens that are not real are never looked at."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        n, length, width = x.shape
        q, k, v = self.project(x).view(n, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        # No dropout on the weights: the fused kernel of the CPU has none, and would be left for a slow one.
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
        return self.out(mixed.transpose(1, 2).reshape(n, length, width))


class Block(nn.Module):
    """Attention and a two-layer perceptron, each normalised first and added to its input (Xiong et al. 2020)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), mask))
        return x + self.dropout(self.mlp(self.mlp_norm(x)))


class Phrases(nn.Embedding):
    """Token embeddings to which that of the token and the one before it is added, by one of ``pairs`` hashed rows (Weinberger 2009).

    Two words that tell together ("sole discretion") need not be brought together by attention first. It is one embedding layer to
    whoever follows gradients. ids ``(..., T)`` int64, or one id, as if it stood beside itself -> ``(..., T, width)``.
    """

    def __init__(self, vocabulary: int, width: int, pairs: int) -> None:
        super().__init__(vocabulary, width)
        self.pairs = nn.Embedding(pairs, width)
        nn.init.zeros_(self.pairs.weight)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        before = functional.pad(ids[..., :-1], (1, 0)) if ids.ndim else ids
        return super().forward(ids) + self.pairs((ids * 1_000_003 + before * 7919) % self.pairs.num_embeddings)


class Encoder(nn.Module):
    """Token and position embeddings, encoder blocks, and a linear layer on the mean and the maximum of the real tokens' states.

    The maximum lets one telling phrase count in a long notice, where the mean would thin it out. ``pairs``: see :class:`Phrases`.

    ids ``(n, T)`` int64, mask ``(n, T)`` True on real tokens -> logits ``(n, classes)``.
    """

    def __init__(
        self,
        vocabulary: int,
        length: int,
        classes: int,
        width: int = 128,
        heads: int = 4,
        layers: int = 2,
        dropout: float = 0.2,
        pairs: int = 0,
    ) -> None:
        super().__init__()
        self.tokens = Phrases(vocabulary, width, pairs) if pairs else nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(length, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(2 * width, classes))
        nn.init.normal_(self.tokens.weight, std=0.1)
        nn.init.normal_(self.positions.weight, std=0.02)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = self.dropout(self.tokens(ids) + self.positions.weight[: ids.shape[1]])
        for block in self.blocks:
            x = block(x, mask)
        x, real = self.norm(x), mask[..., None]
        mean = (x * real).sum(1) / real.sum(1)
        return self.head(torch.cat([mean, x.masked_fill(~real, float("-inf")).amax(1)], 1))
