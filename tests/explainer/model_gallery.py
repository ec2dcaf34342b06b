"""Small seeded models of the kinds people have, each with inputs: what every method is held on.

``GALLERY[name]()`` makes ``(model, inputs)`` anew; ``made(name)`` keeps it. Nothing is downloaded.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import attention_gallery  # noqa: F401  adds its entries
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torch_gallery as gallery
from model_kinds import GALLERY, Entry, entry, made, picture, seeded, steps, table
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.nn.utils.rnn import pack_padded_sequence

__all__ = ["GALLERY", "made"]

# -- feed-forward ----------------------------------------------------------------------------------------------------------------


class Feed(nn.Module):
    """Two layers, and between them any function: ``F.relu``, one shared module, an in-place call."""

    def __init__(self, function: Callable[[Tensor], Tensor], outputs: int = 3) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(5, 12), nn.Linear(12, 12), nn.Linear(12, outputs)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.second(self.function(self.first(x)))))


@entry("functional relu")
def _functional() -> Entry:
    return table(seeded(lambda: Feed(F.relu)))


@entry("relu reused")
def _reused() -> Entry:
    return table(seeded(lambda: Feed(nn.ReLU())))


@entry("relu in place")
def _in_place() -> Entry:
    return table(
        seeded(lambda: nn.Sequential(nn.Linear(5, 12), nn.ReLU(inplace=True), nn.Linear(12, 12), nn.ReLU(inplace=True), nn.Linear(12, 3)))
    )


@entry("functional in place")
def _functional_in_place() -> Entry:
    return table(seeded(lambda: Feed(lambda x: F.relu(x, inplace=True))))


class Overwriting(Feed):
    """Arithmetic in place, on the input itself too."""

    def forward(self, x: Tensor) -> Tensor:
        x.mul_(2)
        h = self.first(x)
        h += 0.5
        h.relu_()
        return self.last(self.second(h).sigmoid_())


@entry("arithmetic in place")
def _overwriting() -> Entry:
    return table(seeded(lambda: Overwriting(torch.relu)))


class Spoiling(Feed):
    """Writes over a result that its own backward pass needs: plain PyTorch cannot differentiate it."""

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        h.mul_(2)
        return self.last(torch.sigmoid(self.second(h)))


@entry("writes over its own results")
def _spoiling() -> Entry:
    return table(seeded(lambda: Spoiling(torch.tanh)))


@entry("layer norm and gelu")
def _normed() -> Entry:
    return table(
        seeded(lambda: nn.Sequential(nn.Linear(5, 12), nn.LayerNorm(12), nn.GELU(), nn.Linear(12, 12), nn.LayerNorm(12), nn.Linear(12, 3)))
    )


@entry("softmax at the end")
def _probabilities() -> Entry:
    return table(gallery.mlp(final=nn.Softmax(1)))


@entry("linear")
def _linear() -> Entry:
    return table(seeded(lambda: nn.Linear(5, 3)))


@entry("regression of several outputs")
def _regression() -> Entry:
    return table(gallery.mlp(outputs=2), task="regression", outputs=2)


@entry("one logit for two classes")
def _binary() -> Entry:
    return table(gallery.mlp(outputs=1), outputs=2, returns="logit", task="classification")


class TwoInputs(nn.Module):
    """Takes some columns by one argument and some by another."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.last = nn.Linear(2, 8), nn.Linear(3, 8), nn.Linear(8, 3)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.last(torch.tanh(self.left(left) * self.right(right)))


@entry("two inputs")
def _two_inputs() -> Entry:
    def split(frame: Any) -> dict[str, Tensor]:
        whole = torch.tensor(frame.to_numpy(dtype=np.float32))
        return {"left": whole[:, :2], "right": whole[:, 2:]}

    return table(seeded(TwoInputs), preprocess=split)


@entry("dict output")
def _dict() -> Entry:
    return table(gallery.Container(gallery.mlp(), "dict"))


@entry("tuple output")
def _tuple() -> Entry:
    return table(gallery.Container(gallery.mlp(), "tuple"))


@entry("dataclass output")
def _dataclass() -> Entry:
    return table(gallery.Container(gallery.mlp(), "dataclass"))


class Branching(nn.Module):
    """Which way a batch goes, and how often, depends on its values; torch.fx cannot trace it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.last = nn.Linear(5, 12), nn.Linear(12, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        rows = []
        for row in h.unbind(0):
            for _ in range(1 + int(row.sum() > 0)):
                row = F.relu(self.again(row))
            rows.append(row)
        return self.last(torch.stack(rows))


@entry("control flow")
def _branching() -> Entry:
    return table(seeded(Branching))


class Tied(nn.Module):
    """One weight matrix used there and, transposed, back."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 12), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x))
        return self.last(torch.relu(h @ self.first.weight))


@entry("tied weights")
def _tied() -> Entry:
    return table(seeded(Tied))


@entry("spectral and weight norm")
def _parametrised() -> Entry:
    return table(seeded(lambda: nn.Sequential(spectral_norm(nn.Linear(5, 12)), nn.ReLU(), weight_norm(nn.Linear(12, 3)))))


@entry("frozen backbone")
def _frozen() -> Entry:
    module = gallery.mlp()
    for layer in list(module)[:-1]:
        layer.requires_grad_(False)
    return table(module)


@entry("frozen whole")
def _all_frozen() -> Entry:
    return table(gallery.mlp().requires_grad_(False))


@entry("bfloat16")
def _bfloat16() -> Entry:
    return table(gallery.mlp().bfloat16())


@entry("float64")
def _float64() -> Entry:
    return table(gallery.mlp().double())


@entry("compiled")
def _compiled() -> Entry:
    compiled = torch.compile(gallery.mlp(), backend="eager", dynamic=True)  # the eager backend needs no C++ compiler
    try:
        with torch.no_grad():
            compiled(torch.zeros(2, 5))
    except Exception as error:
        pytest.skip(f"torch.compile does not work here: {type(error).__name__}: {error}")
    return table(compiled)  # type: ignore[arg-type]


@entry("scripted")
def _scripted() -> Entry:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is on its way out, and still what many have
        return table(torch.jit.script(gallery.mlp()))


@entry("quantised")
def _quantised() -> Entry:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return table(torch.ao.quantization.quantize_dynamic(gallery.mlp(), {nn.Linear}, dtype=torch.qint8))


@entry("data parallel")
def _parallel() -> Entry:
    return table(nn.DataParallel(gallery.mlp()))


class Random(nn.Module):
    """Dropout that its author forgot to switch off outside training."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.dropout(torch.relu(self.first(x)), 0.3))


@entry("dropout always on")
def _random() -> Entry:
    return table(seeded(Random))


class Detached(Feed):
    """Leaves autograd on the way."""

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.from_numpy(np.tanh(self.first(x).detach().numpy())))


@entry("cut off by numpy")
def _detached() -> Entry:
    return table(seeded(lambda: Detached(torch.relu)))


class Reversal(torch.autograd.Function):
    """The identity, whose gradient has the other sign: domain-adversarial training."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return -gradients[0]


class Reversed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Reversal.apply(x)


@entry("gradient reversal")
def _reversal() -> Entry:
    return table(seeded(lambda: nn.Sequential(nn.Linear(5, 12), nn.Tanh(), Reversed(), nn.Linear(12, 3))))


class PartlyDetached(Feed):
    """A part of the input's way under no_grad, as with a frozen backbone."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            h = torch.tanh(self.first(x))
        return self.last(self.second(h)) + 0.1 * self.last(torch.tanh(self.first(x)))


@entry("partly detached")
def _partly() -> Entry:
    return table(seeded(lambda: PartlyDetached(torch.relu)))


# -- convolution -----------------------------------------------------------------------------------------------------------------


def normed(channels: int) -> nn.Module:
    """Batch norm with statistics that differ from the defaults."""
    norm = nn.BatchNorm2d(channels)
    norm.running_mean, norm.running_var = torch.randn(channels) / 5, torch.rand(channels) + 0.5
    return norm


@entry("batch norm in eval mode")
def _batchnorm_eval() -> Entry:
    return picture(gallery.convnet(), outputs=4)


@entry("batch norm in train mode")
def _batchnorm_train() -> Entry:
    return picture(gallery.convnet().train(), outputs=4)


@entry("batch norm without statistics")
def _mixed() -> Entry:
    norm = nn.BatchNorm2d(6, track_running_stats=False)
    return picture(seeded(lambda: nn.Sequential(nn.Conv2d(1, 6, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(216, 3))))


class Residual(nn.Module):
    """Residual and dense connections, a depthwise convolution, one ReLU for all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 6, 3, padding=1), normed(6)
        self.depthwise, self.pointwise = nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.Conv2d(6, 6, 1)
        self.dense, self.relu = nn.Conv2d(12, 8, 3, padding=1), nn.ReLU(inplace=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.relu(self.norm(self.stem(x)))
        h = h + self.pointwise(self.relu(self.depthwise(h)))
        h = self.relu(self.dense(torch.cat([h, F.silu(h)], 1)))
        return self.head(F.adaptive_avg_pool2d(h, 1).flatten(1))


@entry("residual, dense and depthwise")
def _residual() -> Entry:
    return picture(seeded(Residual))


class Standardised(nn.Module):
    """Preprocessing inside the module, group norm, average and maximum pooling, colour pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.last = nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.norm(self.conv((x - 0.5) / 0.25)))
        return self.last(F.avg_pool2d(h, 2).amax((2, 3)))


@entry("colour pictures and group norm")
def _colour() -> Entry:
    return picture(seeded(Standardised), channels=3)


# -- series ------------------------------------------------------------------------------------------------------------------------


class Recurrent(nn.Module):
    """A recurrent layer read out at its last step; packed where lengths are given."""

    def __init__(self, kind: type[nn.RNNBase], packed: bool = False, **options: Any) -> None:
        super().__init__()
        self.rnn = kind(3, 6, batch_first=True, **options)
        self.head = nn.Linear(12 if options.get("bidirectional") else 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


class Packed(Recurrent):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:  # type: ignore[override]
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return self.head(self.rnn(packed)[1][-1])


@entry("lstm")
def _lstm() -> Entry:
    return steps(seeded(lambda: Recurrent(nn.LSTM)))


@entry("gru of two layers, both ways")
def _gru() -> Entry:
    return steps(seeded(lambda: Recurrent(nn.GRU, num_layers=2, bidirectional=True)))


@entry("lstm packed, both ways")
def _packed_lstm() -> Entry:
    return steps(gallery.lstm())


@entry("gru packed")
def _packed_gru() -> Entry:
    return steps(seeded(lambda: Packed(nn.GRU)))


class Cell(nn.Module):
    """A loop over a recurrent cell."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTMCell(3, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        state = (x.new_zeros(len(x), 6), x.new_zeros(len(x), 6))
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
        return self.head(state[0])


@entry("lstm cell")
def _cell() -> Entry:
    return steps(seeded(Cell))


@entry("convolution over time")
def _temporal() -> Entry:
    return steps(seeded(lambda: nn.Sequential(nn.Conv1d(3, 6, 3), nn.ReLU(), nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(6, 3))))
