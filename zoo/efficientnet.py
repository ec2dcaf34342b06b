"""EfficientNet-Lite0 (Tan and Le 2019, without squeeze-and-excitation and with ReLU6, so that it runs in 8 bits), in plain modules."""

from __future__ import annotations

import io

import torch
from torch import Tensor, nn
from torch.nn import functional

from explainer.errors import CorruptFile
from zoo import pretrained

EPSILON = 1e-3  # of the batch norms, as TensorFlow trained them
# Kernel, stride, expansion, channels out, repeats.
STAGES = (
    (3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3), (5, 2, 6, 192, 4), (3, 1, 6, 320, 1),
)  # fmt: skip
STEM, HEAD = 32, 1280


class Convolution(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow does ("SAME"): where the padding is odd, the more of it right and below."""

    def __init__(self, channels: int, out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__(channels, out, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        down, right = (max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[-2:])
        return super().forward(functional.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2)))


class Block(nn.Module):
    """MBConv: widen by 1 x 1, mix each channel in space, narrow by 1 x 1; added to its input where the shapes allow."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.expand = layer(channels, wide) if expansion > 1 else nn.Identity()
        self.depthwise = layer(wide, wide, kernel, stride, groups=wide)
        self.project = nn.Sequential(Convolution(wide, out), nn.BatchNorm2d(out, EPSILON))
        self.adds = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.adds else y


class Lite0(nn.Module):
    """Images ``(n, 3, 224, 224)`` -> logits ``(n, classes)``."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = layer(3, STEM, 3, 2)
        blocks, channels = [], STEM
        for kernel, stride, expansion, out, repeats in STAGES:
            for k in range(repeats):
                blocks.append(Block(channels, out, kernel, stride if k == 0 else 1, expansion))
                channels = out
        self.blocks = nn.Sequential(*blocks)
        self.head = layer(channels, HEAD)
        self.classifier = nn.Linear(HEAD, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.head(self.blocks(self.stem(images))).mean((2, 3)))


def layer(channels: int, out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU6."""
    return nn.Sequential(Convolution(channels, out, kernel, stride, groups), nn.BatchNorm2d(out, EPSILON), nn.ReLU6())


def pretrained_lite0(classes: int) -> nn.Module:
    """The network with the weights of its base, frozen: nothing of it is trained here.

    Raises MissingDependency where the base is not installed, CorruptFile where it is not the one pinned.
    """
    (content,) = pretrained.contents("lite0").values()
    weights = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    module = Lite0(classes)
    own = module.state_dict()
    # The same tensors in the same order, under other names.
    if [tuple(t.shape) for t in weights.values()] != [tuple(t.shape) for t in own.values()]:
        raise CorruptFile("The weights of EfficientNet-Lite0 do not have the shapes of the network.")
    module.load_state_dict(dict(zip(own, weights.values(), strict=True)))
    return module.requires_grad_(False)
