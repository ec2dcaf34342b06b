"""A recurrent network for series of unequal length."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class Vowels(nn.Module):
    """A bidirectional LSTM over packed series; the mean of its states over the real steps is classified.

    ``(n, T, channels)`` padded, lengths ``(n,)`` -> logits ``(n, classes)``. What stands in the padding has no influence.
    """

    def __init__(self, channels: int, classes: int, width: int = 64, dropout: float = 0.4) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, width, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, series: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        packed = pack_padded_sequence(series, lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=series.shape[1])
        pooled = states.sum(1) / lengths.to(states)[:, None]
        return self.head(self.dropout(pooled))
