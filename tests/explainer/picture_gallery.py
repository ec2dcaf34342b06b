"""Small seeded modules that take pictures: convolutions of every build, and transformers with every arrangement of tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import explainer


class Plain(nn.Module):
    """Two convolutions, the mean over the map, one layer of scores: the net that class activation maps were made for."""

    def __init__(self, channels: int = 3, outputs: int = 3) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(channels, 6, 3, padding=1, stride=2), nn.Conv2d(6, 8, 3, padding=1)
        self.act1, self.act2 = nn.ReLU(), nn.ReLU()
        self.head = nn.Linear(8, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act2(self.second(self.act1(self.first(x)))).mean((2, 3)))


class Reused(nn.Module):
    """One in-place ReLU after every convolution, batch normalisation before it."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)])
        self.norms = nn.ModuleList([nn.BatchNorm2d(6), nn.BatchNorm2d(6)])
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(6 * 16, 3)

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.max_pool2d(self.relu(norm(conv(x))), 2)
        return self.head(F.adaptive_avg_pool2d(x, 4).flatten(1))


class Dense(nn.Module):
    """Each convolution sees all maps before it (DenseNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1, stride=2)
        self.grow = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(6 + 4 * i), nn.ReLU(), nn.Conv2d(6 + 4 * i, 4, 3, padding=1)) for i in range(3)
        )
        self.norm, self.head = nn.BatchNorm2d(18), nn.Linear(18, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for grow in self.grow:
            x = torch.cat([x, grow(x)], 1)
        return self.head(F.relu(self.norm(x)).mean((2, 3)))


class Squeeze(nn.Module):
    """Depthwise separable convolutions, a squeeze-and-excitation gate, and a residual sum (MobileNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, stride=2)
        self.depth, self.point = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 8, 1)
        self.pool, self.gate = nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1)
        self.act = nn.Hardswish()
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.stem(x))
        y = self.point(self.act(self.depth(x)))
        x = x + y * torch.sigmoid(self.gate(self.pool(y)))
        return self.head(self.act(x).mean((2, 3)))


class ChannelsLast(nn.Module):
    """Maps with their channels behind, as many as there are rows and columns, so that shapes alone say nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mix = nn.Conv2d(3, 8, 2, stride=2), nn.Linear(8, 8)
        self.norm, self.act = nn.LayerNorm(8), nn.GELU()
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.mix(self.stem(x).permute(0, 2, 3, 1))))
        return self.head(x.mean((1, 2)))


class Tokens(nn.Module):
    """A vision transformer: ``front`` and ``back`` extra tokens around the patches, read from the first token or the mean."""

    def __init__(
        self, size: tuple[int, int] = (16, 16), front: int = 1, back: int = 0, read: str = "first", batch_first: bool = True
    ) -> None:
        super().__init__()
        self.front, self.back, self.read, self.batch_first = front, back, read, batch_first
        width, count = 12, size[0] // 4 * (size[1] // 4)
        self.patches = nn.Conv2d(3, width, 4, stride=4)
        self.extra = nn.Parameter(torch.randn(1, front + back, width))
        self.place = nn.Parameter(torch.randn(1, front + count + back, width))
        self.embedded = nn.Identity()
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 3, 24, batch_first=batch_first, norm_first=True, activation="gelu") for _ in range(3)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        extra = self.extra.expand(len(x), -1, -1)
        x = self.embedded(torch.cat([extra[:, : self.front], x, extra[:, self.front :]], 1) + self.place)
        x = x if self.batch_first else x.transpose(0, 1)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x if self.batch_first else x.transpose(0, 1))
        return self.head(x[:, 0] if self.read == "first" else x.mean(1))


class Mixer(nn.Module):
    """Tokens mixed by a layer over them, with as many channels as tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, stride=4)
        self.over_tokens, self.over_channels = nn.Linear(16, 16), nn.Linear(16, 16)
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = x + self.over_tokens(x.transpose(1, 2)).transpose(1, 2)
        return self.head(self.norm(x + F.gelu(self.over_channels(x))).mean(1))


class Rows(nn.Module):
    """A recurrent net that reads a picture row by row: a sequence, but no grid."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.rnn, self.head = nn.Linear(48, 8), nn.GRU(8, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        steps = F.relu(self.embed(x.transpose(1, 2).flatten(2)))
        return self.head(self.rnn(steps)[0][:, -1])


def flat() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 8), nn.ReLU(), nn.Linear(8, 3))


class Frozen(nn.Module):
    """A backbone that runs without gradients, and a head that has them."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU())
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.backbone(x)
        return self.head(x.mean((2, 3)))


def hugging(kind: str, size: int = 32) -> nn.Module:
    import transformers as t

    small = {"hidden_size": 12, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24, "num_labels": 3}
    made: dict[str, Callable[[], Any]] = {
        "ViT": lambda: t.ViTForImageClassification(t.ViTConfig(image_size=size, patch_size=8, **small)),
        "DeiT": lambda: t.DeiTForImageClassificationWithTeacher(t.DeiTConfig(image_size=size, patch_size=8, **small)),
        "DINOv2": lambda: t.Dinov2WithRegistersForImageClassification(t.Dinov2WithRegistersConfig(image_size=size, patch_size=8, **small)),
        "Swin": lambda: t.SwinForImageClassification(
            t.SwinConfig(image_size=size, patch_size=2, embed_dim=8, depths=[2, 2, 2], num_heads=[2, 2, 2], window_size=4, num_labels=3)
        ),
        "ConvNeXt": lambda: t.ConvNextForImageClassification(
            t.ConvNextConfig(image_size=size, num_stages=2, hidden_sizes=[8, 16], depths=[1, 2], num_labels=3)
        ),
        "ResNet": lambda: t.ResNetForImageClassification(
            t.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 2], layer_type="basic", num_labels=3)
        ),
    }  # fmt: skip
    return made[kind]()


# name -> (module, size of its pictures)
GALLERY: dict[str, tuple[Callable[[], nn.Module], tuple[int, int]]] = {
    "plain": (Plain, (16, 16)),
    "plain, wide pictures": (Plain, (12, 20)),
    "one in-place ReLU": (Reused, (16, 16)),
    "dense": (Dense, (16, 16)),
    "depthwise, gated, residual": (Squeeze, (16, 16)),
    "channels last": (ChannelsLast, (16, 16)),
    "tokens, first": (Tokens, (16, 16)),
    "tokens, mean": (lambda: Tokens(front=0, read="mean"), (16, 16)),
    "tokens, wide pictures": (lambda: Tokens((12, 32), front=1), (12, 32)),
    "tokens, registers": (lambda: Tokens((16, 24), front=2, back=3), (16, 24)),
    "tokens, batch second": (lambda: Tokens(batch_first=False), (16, 16)),
    "mixer": (Mixer, (16, 16)),
    **{kind: ((lambda kind=kind: hugging(kind)), (32, 32)) for kind in ("ViT", "DeiT", "DINOv2", "Swin", "ConvNeXt", "ResNet")},
}  # fmt: skip


def made(name: str, seed: int = 0) -> tuple[explainer.Model, np.ndarray]:
    """A model of the gallery and three pictures for it."""
    make, size = GALLERY[name]
    return wrapped(make, seed), pictures(size)


def wrapped(make: Callable[[], nn.Module], seed: int = 0, **options: Any) -> explainer.Model:
    torch.manual_seed(seed)
    return explainer.wrap(make().eval(), modality="image", class_names=list("abc"), **options)


def pictures(size: tuple[int, int] = (16, 16), n: int = 3, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).random((n, *size, 3)).astype(np.float32)
