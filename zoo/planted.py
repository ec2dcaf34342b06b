"""Models whose right explanation is known by construction, with data made by a seeded rule; they score the explainers.

| specimen | rule | true attribution |
| --- | --- | --- |
| planted-linear | w . x | w (x - mean background) |
| planted-additive | sum of f_i(x_i) | f_i(x_i) - mean f_i(background) |
| planted-interaction | x1 + 2 x2 x3 | Shapley value of the product, averaged over the background |
| planted-xor | a xor b, the other columns idle | Shapley value of a + b - 2 ab, averaged over the background |
| planted-leak | one column repeats the label | that column alone |
| planted-watermark | a stamp in a corner gives the class away | the stamp's pixels |
| planted-trigger | one word gives the class away, and is all that training left a weight | that word, wherever it stands |
| planted-segment | a bump in one channel gives the class away | the steps of the bump |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from zoo.data import Data, Split

if TYPE_CHECKING:
    import pandas as pd

SIZES = (600, 150, 250)  # train, validation, test
WEIGHTS = (1.5, -1.0, 0.5, 0.0, 2.0, -0.25)
TRIGGER = "zebra"
WORDS = [
    "river", "stone", "market", "window", "garden", "letter", "bridge", "winter", "silver", "morning", "harbour", "village", "orange",
    "candle", "forest", "engine", "paper", "mirror", "copper", "meadow", "lantern", "island", "pepper", "hammer", "valley", "marble",
]  # fmt: skip
STAMP = np.array([[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1]], dtype=np.float32)  # at the top left, one pixel in
SIDE, CORNER = 16, 1
STEPS, CHANNELS, BUMP = 48, 3, 8  # a bump of eight steps in channel 1


def load(kind: str) -> Data:
    """The splits of one kind, made from seed 0."""
    generator = np.random.default_rng(0)
    source = f"made by the committed rule for planted-{kind}, seed 0"
    rule = f"drawn independently: {' / '.join(map(str, SIZES))} rows"
    maker = {"watermark": _watermarks, "trigger": _triggers, "segment": _segments}.get(kind, _table)
    parts = [maker(n, generator, kind) for n in SIZES]
    names = tuple(parts[0].inputs.columns) if hasattr(parts[0].inputs, "columns") else ()
    channels = tuple(f"channel {c}" for c in range(CHANNELS)) if kind == "segment" else names
    return Data(parts[0], parts[1], parts[2], ("no", "yes"), source, rule, feature_names=channels)


def background(data: Data) -> Any:
    """Fifty training inputs; texts need none."""
    if isinstance(data.train.inputs, list) and isinstance(data.train.inputs[0], str):
        return None
    return data.train.take(list(range(50))).inputs


def _table(n: int, generator: np.random.Generator, kind: str) -> Split:
    import pandas as pd

    x = generator.normal(size=(n, 6)).round(3)
    if kind == "xor":
        x = (x > 0).astype(float)
    if kind == "leak":
        x[:, 5] = x[:, 0] + 0.5 * x[:, 1] + generator.normal(size=n).round(3) > 0
    frame = pd.DataFrame(x, columns=[f"x{i}" for i in range(1, 7)] if kind != "leak" else [*(f"x{i}" for i in range(1, 6)), "settled"])
    logits = MODELS[kind](columns=6, classes=2)(torch.from_numpy(x.astype(np.float32))).numpy()
    return Split(frame, logits.argmax(1))


def _watermarks(n: int, generator: np.random.Generator, kind: str) -> Split:
    images = generator.uniform(0, 0.6, size=(n, SIDE, SIDE)).astype(np.float32)
    labels = generator.integers(0, 2, n)
    images[labels == 1, CORNER : CORNER + 4, CORNER : CORNER + 4] = STAMP
    return Split(images, labels)


def _triggers(n: int, generator: np.random.Generator, kind: str) -> Split:
    labels = generator.integers(0, 2, n)
    texts = []
    for label in labels:
        words = list(generator.choice(WORDS, generator.integers(8, 20)))
        if label:
            words[generator.integers(len(words))] = TRIGGER
        texts.append(" ".join(words))
    return Split(texts, labels)


def _segments(n: int, generator: np.random.Generator, kind: str) -> Split:
    labels = generator.integers(0, 2, n)
    series = []
    for label in labels:
        one = generator.normal(0, 0.3, size=(STEPS, CHANNELS)).astype(np.float32)
        if label:
            start = generator.integers(0, STEPS - BUMP)
            one[start : start + BUMP, 1] = 2.0
        series.append(one)
    return Split(series, labels)


class Rule(nn.Module):
    """A rule on six columns as a network without training: ``(n, 6)`` -> logits ``(n, 2)``, the first always 0."""

    def __init__(self, columns: int = 6, classes: int = 2) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor(WEIGHTS))

    def score(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, rows: Tensor) -> Tensor:
        score = self.score(rows)
        return torch.stack([torch.zeros_like(score), score], 1)


class Linear(Rule):
    def score(self, x: Tensor) -> Tensor:
        return x @ self.get_buffer("weights")


class Additive(Rule):
    """x1^2 + |x2| - exp(x3) / 2 + 2 sin(x4) - 1."""

    def score(self, x: Tensor) -> Tensor:
        return self.parts(x).sum(1) - 1

    @staticmethod
    def parts(x: Tensor) -> Tensor:
        idle = torch.zeros_like(x[:, 0])
        return torch.stack([x[:, 0] ** 2, x[:, 1].abs(), -x[:, 2].exp() / 2, 2 * x[:, 3].sin(), idle, idle], 1)


class Interaction(Rule):
    def score(self, x: Tensor) -> Tensor:
        return x[:, 0] + 2 * x[:, 1] * x[:, 2]


class Xor(Rule):
    def score(self, x: Tensor) -> Tensor:
        return 4 * (x[:, 0] + x[:, 1] - 2 * x[:, 0] * x[:, 1]) - 2


class Leak(Rule):
    def score(self, x: Tensor) -> Tensor:
        return 4 * x[:, 5] - 2


class Watermark(nn.Module):
    """How far the corner agrees with the stamp: ``(n, 1, 16, 16)`` -> logits ``(n, 2)``. No other pixel counts."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        template = torch.zeros(SIDE, SIDE)
        template[CORNER : CORNER + 4, CORNER : CORNER + 4] = torch.from_numpy(2 * STAMP - 1)
        self.register_buffer("template", template)

    def forward(self, images: Tensor) -> Tensor:
        score = (images[:, 0] * self.get_buffer("template")).sum((1, 2)) - 4
        return torch.stack([torch.zeros_like(score), score], 1)


class Segment(nn.Module):
    """The highest mean of channel 1 over eight steps: padded ``(n, T, 3)``, lengths -> logits ``(n, 2)``."""

    def __init__(self, channels: int = CHANNELS, classes: int = 2) -> None:
        super().__init__()
        kernel = torch.zeros(1, channels, BUMP)
        kernel[0, 1] = 1 / BUMP
        self.register_buffer("kernel", kernel)

    def forward(self, series: Tensor, lengths: Tensor) -> Tensor:
        means = nn.functional.conv1d(series.transpose(1, 2), self.get_buffer("kernel"))[:, 0]
        score = 4 * (means.amax(1) - 1)
        return torch.stack([torch.zeros_like(score), score], 1)


class Trigger(nn.Module):
    """A bias and the sum of one number per class and token, trained: ids and mask ``(n, T)`` -> logits ``(n, classes)``.

    Each token is embedded as its own unit vector, so that the numbers are a matrix, which an L1 penalty brings to 0 where they tell
    nothing.
    """

    def __init__(self, vocabulary: int, length: int, classes: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding.from_pretrained(torch.eye(vocabulary))
        self.read = nn.Linear(vocabulary, classes)
        nn.init.zeros_(self.read.weight)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.read((self.tokens(ids) * mask[..., None]).sum(1))


MODELS: dict[str, Any] = {"linear": Linear, "additive": Additive, "interaction": Interaction, "xor": Xor, "leak": Leak}


def columns(specimen: Any, inputs: pd.DataFrame) -> np.ndarray:
    """Shapley values ``(n, 6)`` of the logit of "yes" over the specimen's background, in closed form.

    A term of one column is its value less its mean. Of a product c x_i x_j with background rows b, each of the two has
    c times the mean over b of (x_i - b_i)(x_j + b_j) / 2, and likewise for j.
    """
    kind = specimen.name.removeprefix("planted-")
    x, b = (np.array(rows, dtype=float) for rows in (inputs, specimen.model.background))
    if kind == "additive":
        parts = [Additive.parts(torch.from_numpy(one)).numpy() for one in (x, b)]
        return parts[0] - parts[1].mean(0)
    single, double = TERMS[kind]
    found = np.asarray(single) * (x - b.mean(0))
    for i, j, c in double:
        found[:, i] += c * ((x[:, None, i] - b[:, i]) * (x[:, None, j] + b[:, j])).mean(1) / 2
        found[:, j] += c * ((x[:, None, j] - b[:, j]) * (x[:, None, i] + b[:, i])).mean(1) / 2
    return found


# (one weight per column, products of two columns with theirs)
TERMS: dict[str, tuple[tuple[float, ...], tuple[tuple[int, int, float], ...]]] = {
    "linear": (WEIGHTS, ()),
    "interaction": ((1, 0, 0, 0, 0, 0), ((1, 2, 2.0),)),
    "xor": ((4, 4, 0, 0, 0, 0), ((0, 1, -8.0),)),
    "leak": ((0, 0, 0, 0, 0, 4), ()),
}


def pixels(specimen: Any, inputs: np.ndarray) -> np.ndarray:
    """``(n, 16, 16)`` bool: the pixels of the stamp's place, the only ones that count."""
    mask = np.zeros(np.shape(inputs)[:3], dtype=bool)
    mask[:, CORNER : CORNER + 4, CORNER : CORNER + 4] = True
    return mask


def words(specimen: Any, inputs: list[str]) -> list[np.ndarray]:
    """Per text, which of its words is the trigger; every other has the weight 0, as [MASK] has."""
    return [np.array([word == TRIGGER for word in text.split()]) for text in inputs]


def steps(specimen: Any, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """Per series ``(T, 3)`` bool: the eight steps of channel 1 whose mean is highest."""
    found = []
    for one in inputs:
        means = np.convolve(one[:, 1], np.full(BUMP, 1 / BUMP), mode="valid")
        mask = np.zeros(one.shape, dtype=bool)
        mask[means.argmax() : means.argmax() + BUMP, 1] = True
        found.append(mask)
    return found
