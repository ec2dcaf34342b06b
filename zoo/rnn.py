"""Recurrent networks for series and for texts."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class Recurrent(nn.Module):
    """A bidirectional LSTM over packed series; the mean of its states over the real steps is classified, with ``top`` their
    maximum beside it.

    ``(n, T, channels)`` padded, lengths ``(n,)`` -> logits ``(n, classes)``. What stands in the padding has no influence.
    """

    def __init__(self, channels: int, classes: int, width: int = 64, layers: int = 1, dropout: float = 0.4, top: bool = False) -> None:
        super().__init__()
        between = dropout if layers > 1 else 0.0
        self.lstm = nn.LSTM(channels, width, layers, batch_first=True, bidirectional=True, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.top = top
        self.head = nn.Linear((4 if top else 2) * width, classes)

    def forward(self, series: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        packed = pack_padded_sequence(series, lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=series.shape[1])
        pooled = states.sum(1) / lengths.to(states)[:, None]
        if self.top:
            real = torch.arange(series.shape[1], device=series.device) < lengths.to(series.device)[:, None]
            pooled = torch.cat([pooled, states.masked_fill(~real[..., None], float("-inf")).amax(1)], 1)
        return self.head(self.dropout(pooled))


class Words(nn.Module):
    """Token embeddings, two LSTM layers read both ways, and a linear layer on the mean and the maximum of the real tokens' states.

    ids ``(n, T)`` int64, mask ``(n, T)`` True on real tokens -> logits ``(n, classes)``.
    """

    def __init__(self, vocabulary: int, length: int, classes: int, embedding: int = 64, width: int = 64, dropout: float = 0.3) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, embedding)
        self.dropout = nn.Dropout(dropout)
        self.lstm = nn.LSTM(embedding, width, 2, batch_first=True, bidirectional=True, dropout=dropout)
        self.head = nn.Linear(4 * width, classes)
        nn.init.normal_(self.tokens.weight, std=0.1)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        packed = pack_padded_sequence(self.dropout(self.tokens(ids)), mask.sum(1).cpu(), batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=ids.shape[1])
        real = mask[..., None]
        mean = states.sum(1) / real.sum(1)
        top = states.masked_fill(~real, float("-inf")).amax(1)
        return self.head(self.dropout(torch.cat([mean, top], 1)))
