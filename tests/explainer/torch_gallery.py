"""Small seeded modules of the kinds people have, with the preprocess each was made for."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import explainer

TEXTS = [
    "Permission is hereby granted, free of charge, to any person.",
    "redistribution and use",
    "Don't sell software licences without the author's written-permission!",
    "a",
]


def table(n: int = 6, columns: int = 5, seed: int = 0) -> pd.DataFrame:
    values = np.random.default_rng(seed).normal(size=(n, columns)).astype(np.float32)
    return pd.DataFrame(values, columns=[f"f{i}" for i in range(columns)])


def images(n: int = 4, size: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, size, size)).astype(np.float32)


def standardised(pictures: np.ndarray) -> Tensor:
    return torch.tensor((pictures[:, None] - 0.5) / 0.2)


def series(lengths: tuple[int, ...] = (5, 9, 7, 5), channels: int = 3, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(length, channels)).astype(np.float32) for length in lengths]


def mlp(seed: int = 0, outputs: int = 3, columns: int = 5, final: nn.Module | None = None) -> nn.Module:
    torch.manual_seed(seed)
    layers = [nn.Linear(columns, 16), nn.Tanh(), nn.Dropout(0.5), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, outputs)]
    return nn.Sequential(*layers, *([final] if final else [])).eval()


class ConvNet(nn.Module):
    """Convolutions with batch norm, functional and in-place ReLU, dropout."""

    def __init__(self, size: int = 8, outputs: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(6 * (size // 2) ** 2, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(x)), inplace=True)
        return self.head(self.drop(F.max_pool2d(x, 2).flatten(1)))


def convnet(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    net = ConvNet()
    net.train()
    with torch.no_grad():  # batch norm statistics that differ from the defaults
        for _ in range(3):
            net(torch.rand(16, 1, 8, 8))
    return net.eval()


class PackedLSTM(nn.Module):
    """Bidirectional LSTM over packed series."""

    def __init__(self, channels: int = 3, outputs: int = 3) -> None:
        super().__init__()
        self.rnn = nn.LSTM(channels, 8, batch_first=True, bidirectional=True)
        self.head = nn.Linear(16, outputs)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, (hidden, _) = self.rnn(packed)
        return self.head(torch.cat([hidden[0], hidden[1]], 1))


def lstm(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return PackedLSTM().eval()


class Pieces:
    """A tokeniser with the text protocol: pieces of at most three letters, [CLS] in front, [SEP] behind, padded with 0."""

    pad_id, special_ids, max_length = 0, {0, 1, 2}, 64

    def __init__(self, max_length: int = 64) -> None:
        self.max_length = max_length

    def _pieces(self, text: str) -> list[tuple[int, int]]:
        found = [(s, min(s + 3, m.end())) for m in re.finditer(r"\w+|[^\w\s]", text) for s in range(m.start(), m.end(), 3)]
        return [(0, 0), *found[: self.max_length - 2], (0, 0)]

    def _ids(self, text: str) -> list[int]:
        inner = [3 + sum(map(ord, text[a:b].lower())) % 37 for a, b in self._pieces(text)[1:-1]]
        return [1, *inner, 2]

    def __call__(self, texts: list[str]) -> dict[str, Tensor]:
        listed = [self._ids(t) for t in texts]
        width = max(map(len, listed))
        ids = torch.tensor([one + [0] * (width - len(one)) for one in listed])
        return {"ids": ids, "mask": ids != 0}

    def offsets(self, texts: list[str]) -> list[list[tuple[int, int]]]:
        return [self._pieces(t) for t in texts]

    def tokens(self, texts: list[str]) -> list[list[str]]:
        return [["[CLS]", *[t[a:b] for a, b in self._pieces(t)[1:-1]], "[SEP]"] for t in texts]


class Head(nn.Module):
    """Token and position embeddings shared by the text modules; reads out the first token or the mean."""

    def __init__(self, width: int = 16, outputs: int = 3, readout: str = "first") -> None:
        super().__init__()
        self.token = nn.Embedding(40, width, padding_idx=0)
        self.position = nn.Embedding(128, width)
        self.head = nn.Linear(width, outputs)
        self.readout = readout

    def embed(self, ids: Tensor) -> Tensor:
        return self.token(ids) + self.position(torch.arange(ids.shape[1], device=ids.device))

    def read(self, h: Tensor, mask: Tensor) -> Tensor:
        if self.readout == "mean":
            return self.head((h * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))
        return self.head(h[:, 0])


class Encoder(Head):
    """nn.TransformerEncoder, which takes PyTorch's fast path in eval mode."""

    def __init__(self, layers: int = 2, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        width = self.token.embedding_dim
        layer = nn.TransformerEncoderLayer(width, 4, 32, dropout=0.1, batch_first=True, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, layers)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        h = self.encoder(self.embed(ids), src_key_padding_mask=~mask)
        return self.read(F.pad(h, (0, 0, 0, ids.shape[1] - h.shape[1])), mask)


class Fused(Head):
    """Own attention through scaled_dot_product_attention, optionally causal, optionally with grouped heads."""

    def __init__(self, layers: int = 2, causal: bool = False, grouped: bool = False, float_mask: bool = False, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        width = self.token.embedding_dim
        self.causal, self.grouped, self.float_mask = causal, grouped, float_mask
        self.keys = width // 2 if grouped else width
        self.project = nn.ModuleList(nn.Linear(width, width + 2 * self.keys) for _ in range(layers))
        self.out = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.norm = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))

    def mask_of(self, mask: Tensor) -> Tensor:
        seen = mask[:, None, None, :]
        if self.causal:
            seen = seen & torch.ones(mask.shape[1], mask.shape[1], dtype=torch.bool, device=mask.device).tril()
        return torch.zeros(seen.shape, device=mask.device).masked_fill(~seen, -torch.inf) if self.float_mask else seen

    def heads(self, i: int, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n, tokens, width = h.shape
        q, k, v = self.project[i](h).split([width, self.keys, self.keys], -1)
        return tuple(t.view(n, tokens, -1, 4).transpose(1, 2) for t in (q, k, v))  # type: ignore[return-value]

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        h = self.embed(ids)
        for i in range(len(self.out)):
            q, k, v = self.heads(i, h)
            attended = F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask_of(mask), enable_gqa=self.grouped)
            h = self.norm[i](h + self.out[i](attended.transpose(1, 2).flatten(2)))
        return self.read(h, mask)


def seeded(kind: type[nn.Module], seed: int = 0, **options: object) -> nn.Module:
    torch.manual_seed(seed)
    return kind(**options).eval()


@dataclass
class Output:
    loss: Tensor | None
    logits: Tensor


class Container(nn.Module):
    """Returns its scores in a dict, a tuple or a dataclass."""

    def __init__(self, inner: nn.Module, kind: str) -> None:
        super().__init__()
        self.inner, self.kind = inner, kind

    def forward(self, x: Tensor) -> object:
        scores = self.inner(x)
        made = {"dict": {"hidden": x, "logits": scores}, "tuple": (scores, x), "dataclass": Output(None, scores)}
        return made[self.kind]


def tabular(module: nn.Module, **options: object) -> explainer.Model:
    return explainer.wrap(module, modality="tabular", feature_names=[f"f{i}" for i in range(5)], **options)


def text(module: nn.Module, max_length: int = 64, **options: object) -> explainer.Model:
    return explainer.wrap(module, modality="text", preprocess=Pieces(max_length), **options)
