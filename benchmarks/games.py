"""The reference games: models with known exact Shapley values, each a function of on/off designs.

Up to 16 players the values come from all coalitions; those of boosted trees from shap's interventional algorithm, which is
exact on the mean over the background rows; those of the product and the threshold from all coalitions too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

Scores = Callable[[np.ndarray], np.ndarray]
_AT_ONCE = 4096  # coalitions


@dataclass(frozen=True)
class Game:
    """``v(masks)`` gives the scores ``(m,)`` of coalitions ``(m, d)`` bool; ``exact`` its Shapley values ``(d,)``."""

    v: Scores
    exact: np.ndarray

    @property
    def d(self) -> int:
        return len(self.exact)

    def error(self, values: np.ndarray) -> float:
        """Distance to the exact values, over their length."""
        return float(np.linalg.norm(values - self.exact) / np.linalg.norm(self.exact))


def every_coalition(d: int) -> np.ndarray:
    """All ``(2^d, d)`` coalitions; player ``j`` is bit ``j`` of the row's number."""
    return (np.arange(2**d)[:, None] >> np.arange(d)) & 1 == 1


def shapley_values(scores: np.ndarray) -> np.ndarray:
    """Shapley values ``(d,)`` from the scores of :func:`every_coalition`."""
    d = len(scores).bit_length() - 1
    sizes = every_coalition(d - 1).sum(axis=1)
    weight = np.array([1 / (d * math.comb(d - 1, s)) for s in range(d)])[sizes]
    cube = scores.reshape((2,) * d)  # the last axis is player 0
    return np.array([np.dot(weight, np.diff(np.moveaxis(cube, d - 1 - j, 0), axis=0).reshape(-1)) for j in range(d)])


def enumerated(v: Scores, d: int) -> Game:
    """The game of ``v``, its scores of all coalitions kept, so that asking again costs nothing."""
    masks = every_coalition(d)
    table = np.concatenate([v(masks[start : start + _AT_ONCE]) for start in range(0, len(masks), _AT_ONCE)])
    place = 1 << np.arange(d)
    return Game(lambda asked: table[np.asarray(asked, dtype=bool) @ place], shapley_values(table))


def on_rows(predict: Scores, x: np.ndarray, background: np.ndarray) -> Scores:
    """Coalitions of columns: the mean prediction over the background rows that stand in for the absent ones."""

    def v(masks: np.ndarray) -> np.ndarray:
        rows = np.where(np.asarray(masks, dtype=bool)[:, None], x, background).reshape(-1, len(x))
        return predict(rows).reshape(len(masks), len(background)).mean(axis=1)

    return v


def trained(module: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, epochs: int, rate: float = 3e-3) -> nn.Module:
    """``module`` after Adam on the cross entropy; the draws are those of torch's seed."""
    optimiser = torch.optim.Adam(module.parameters(), rate)
    for _ in range(epochs):
        for part in torch.randperm(len(inputs)).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(module(inputs[part]), labels[part]).backward()
            optimiser.step()
    return module.eval().requires_grad_(False)


def mlp_on_tumours(columns: int = 30) -> tuple[nn.Module, np.ndarray, np.ndarray]:
    """A trained MLP on the first columns of the breast cancer data, with its training and test rows (float32, scaled)."""
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x = ((x - x.mean(axis=0)) / x.std(axis=0)).astype(np.float32)[order, :columns]
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(columns, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    train, test = x[:400], x[400:]
    return trained(net, torch.from_numpy(train), torch.from_numpy(y[order][:400]), 30), train, test


def probability(net: nn.Module, label: int) -> Scores:
    """The probability of class ``label`` for an array of rows."""

    def predict(rows: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return net(torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32))).softmax(-1)[:, label].double().numpy()

    return predict


def mlp(instances: int) -> list[Game]:
    """14 columns of the breast cancer data, absent ones over 50 background rows."""
    net, train, test = mlp_on_tumours(14)
    return [enumerated(on_rows(probability(net, 1), x, train[:50]), 14) for x in test[:instances]]


def cnn(instances: int) -> list[Game]:
    """A small CNN on 8 x 8 digits in 4 x 4 patches; an absent patch is that of the mean picture."""
    from sklearn.datasets import load_digits

    pictures, labels = load_digits(return_X_y=True)
    images = torch.from_numpy(pictures.astype(np.float32) / 16).view(-1, 1, 8, 8)
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, 1, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 32, 3, 1, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(512, 10),
    )  # fmt: skip
    trained(net, images[:1400], torch.from_numpy(labels[:1400]), 8)
    mean = images[:1400].mean(dim=0)

    def game(image: torch.Tensor, label: int) -> Game:
        def v(masks: np.ndarray) -> np.ndarray:
            shown = torch.from_numpy(masks).view(-1, 1, 4, 4).repeat_interleave(2, 2).repeat_interleave(2, 3)
            with torch.inference_mode():
                return net(torch.where(shown, image, mean)).softmax(-1)[:, label].double().numpy()

        return enumerated(v, 16)

    return [game(images[i], int(labels[i])) for i in range(1400, 1400 + instances)]


class _Reader(nn.Module):
    """Embedding, LSTM, and a linear layer on its last state."""

    def __init__(self, words: int, width: int = 24) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.lstm = nn.LSTM(width, width, batch_first=True)
        self.head = nn.Linear(width, 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(self.embedding(ids))[0][:, -1])


def text(instances: int) -> list[Game]:
    """An LSTM that has learnt good and bad words and their negation, on texts of 14 words; an absent word is the mask token."""
    length, vocabulary, mask = 14, 60, 0
    rng = np.random.default_rng(0)
    ids = rng.integers(1, vocabulary, (4000, length))
    worth = np.zeros(vocabulary)
    worth[10:25], worth[25:40] = 1, -1
    negated = np.roll(ids < 5, 1, axis=1)  # words 1 to 4 turn the next one round
    negated[:, 0] = False
    labels = ((worth[ids] * np.where(negated, -1, 1)).sum(axis=1) > 0).astype(np.int64)
    hidden = np.where((rng.random((4000, 1)) < 0.5) & (rng.random(ids.shape) < 0.3), mask, ids)  # it has met the mask token
    torch.manual_seed(0)
    net = trained(_Reader(vocabulary), torch.from_numpy(hidden), torch.from_numpy(labels), 10)

    def game(row: np.ndarray) -> Game:
        def v(masks: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                return net(torch.from_numpy(np.where(masks, row, mask))).softmax(-1)[:, 1].double().numpy()

        return enumerated(v, length)

    return [game(row) for row in ids[:instances]]


def _of_trees(model: object, predict: Scores, rows: np.ndarray, background: np.ndarray) -> list[Game]:
    import shap

    exact = shap.TreeExplainer(model, data=background, feature_perturbation="interventional").shap_values(rows, check_additivity=False)
    return [Game(on_rows(predict, x, background), np.asarray(phi).reshape(-1)) for x, phi in zip(rows, exact, strict=True)]


def boosting_30(instances: int) -> list[Game]:
    """The margin of boosted trees on the 30 columns of the breast cancer data, over 10 background rows."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.ensemble import GradientBoostingClassifier

    x, y = load_breast_cancer(return_X_y=True)
    x = x.astype(np.float32)
    model = GradientBoostingClassifier(n_estimators=100, max_depth=4, random_state=0).fit(x[:400], y[:400])
    return _of_trees(model, model.decision_function, x[-instances:], x[:10])


def boosting_64(instances: int) -> list[Game]:
    """Boosted trees that tell an 8 from the other digits by its 64 pixels, over 10 background rows."""
    from sklearn.datasets import load_digits
    from sklearn.ensemble import GradientBoostingRegressor

    x, y = load_digits(return_X_y=True)
    x = x.astype(np.float32)
    model = GradientBoostingRegressor(n_estimators=100, max_depth=5, random_state=0).fit(x[:1400], 4.0 * (y[:1400] == 8))
    return _of_trees(model, model.predict, x[-instances:], x[:10])


def product(instances: int) -> list[Game]:
    """A product of one factor per player, 14 of them."""
    rng = np.random.default_rng(1)
    factors = 0.4 * np.tanh(rng.normal(size=(instances, 14)))
    return [enumerated(lambda masks, f=f: np.prod(1 + masks * f, axis=1), 14) for f in factors]  # type: ignore[misc]


def threshold(instances: int) -> list[Game]:
    """1 where the weights of the players present exceed half a unit, else 0; 14 players."""
    rng = np.random.default_rng(2)
    weights = np.abs(rng.normal(size=(instances, 14)))
    return [enumerated(lambda masks, w=w: (masks @ w > 0.5 * w.sum()).astype(float), 14) for w in weights]  # type: ignore[misc]


GAMES: dict[str, Callable[[int], list[Game]]] = {
    "MLP 14": mlp, "CNN 16": cnn, "text 14": text, "boosting 30": boosting_30, "boosting 64": boosting_64, "product 14": product,
    "threshold 14": threshold,
}  # fmt: skip
