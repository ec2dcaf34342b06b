"""Whether drawn pictures help where labels are few: a hundred labelled digits, with and without pictures that have none."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from zoo.cnn import Digits
from zoo.data import Split
from zoo.metrics import student
from zoo.sources import digits

EACH = 10  # labelled images of a digit
PICTURES = 3000  # drawn, or real ones without their labels
SURE = 0.9  # a picture counts when the model of the hundred labels is this sure of it
STEPS, BATCH = 200, 64
SEEDS = 5


def effect(module: Any, seed: int = 0) -> dict[str, dict[str, float]]:
    """Test accuracy of the digits-cnn network on 100 labels: alone, and with 3,000 pictures that it labelled itself where it was
    at least 90 % sure (self-training; Lee 2013): pictures that ``module`` drew, and as a control real images.

    No label beyond the hundred is used. Means over five seeds, which decide the hundred, the pictures and the training; the
    differences are paired and have Student's interval.
    """
    data = digits.load()
    found = np.array([_once(module, data, seed * SEEDS + k) for k in range(SEEDS)])
    alone, drawn, real = found.T
    return {
        "accuracy of 100 labels": student(alone),
        "accuracy of 100 labels and drawn pictures": student(drawn),
        "accuracy of 100 labels and real images without labels": student(real),
        "what drawn pictures add": student(drawn - alone),
        "what real images without labels add": student(real - alone),
    }


def _once(module: Any, data: Any, seed: int) -> tuple[float, float, float]:
    from zoo.gan import sample

    generator = np.random.default_rng(seed)
    labels = data.train.labels
    chosen = np.concatenate([generator.choice(np.flatnonzero(labels == k), EACH, replace=False) for k in range(10)])
    few = data.train.take(chosen)
    others = generator.choice(np.setdiff1d(np.arange(len(labels)), chosen), PICTURES, replace=False)
    first = fitted(few, None, seed)

    def helped(pictures: np.ndarray) -> float:
        said = scores(first, pictures)
        kept = said.max(1) >= SURE
        return accuracy(fitted(few, Split(pictures[kept], said[kept].argmax(1)), seed), data.test)

    return accuracy(first, data.test), helped(sample(module, PICTURES, seed=1000 + seed)), helped(data.train.inputs[others])


def fitted(few: Split, more: Split | None, seed: int) -> nn.Module:
    """The network of digits-cnn after 200 steps on moved images, half of each batch from ``more`` where there is such."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        module = Digits(10).train()
        optimizer = torch.optim.AdamW(module.parameters(), lr=2e-3, weight_decay=1e-2)
        slope = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=STEPS)
        parts = [few] if more is None or not len(more) else [few, more]
        tensors = [(_standard(part.inputs), torch.from_numpy(part.labels)) for part in parts]
        for _ in range(STEPS):
            picks = [torch.randint(len(labels), (BATCH // len(parts),), generator=generator) for _, labels in tensors]
            images = torch.cat([x[rows] for (x, _), rows in zip(tensors, picks, strict=True)])
            labels = torch.cat([y[rows] for (_, y), rows in zip(tensors, picks, strict=True)])
            loss = nn.functional.cross_entropy(module(digits.augment(images, generator)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            slope.step()
        return module.eval()


def scores(module: nn.Module, images: np.ndarray) -> np.ndarray:
    """Probabilities ``(n, 10)``."""
    with torch.no_grad():
        return torch.cat([module(some).softmax(1) for some in _standard(images).split(500)]).numpy()


def accuracy(module: nn.Module, split: Split) -> float:
    """Share of ``split`` that is read right."""
    return float((scores(module, split.inputs).argmax(1) == split.labels).mean())


def _standard(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(((images - 0.13) / 0.31).astype(np.float32))[:, None]  # about MNIST's mean and spread
