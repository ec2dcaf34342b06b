"""How the gallery's models are wrapped, one function per kind of input, and the table they stand in."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
import torch_gallery as gallery
from torch import nn

import explainer

Entry = tuple[explainer.Model, Any]
GALLERY: dict[str, Callable[[], Entry]] = {}
ROWS = 2


def entry(name: str) -> Callable[[Callable[[], Entry]], Callable[[], Entry]]:
    def keep(make: Callable[[], Entry]) -> Callable[[], Entry]:
        GALLERY[name] = make
        return make

    return keep


@cache
def made(name: str) -> Entry:
    """The entry ``name``, made once; the test is skipped where it needs what is not installed."""
    return GALLERY[name]()


# -- the four kinds of input -------------------------------------------------------------------------------------------------


def table(module: nn.Module, task: Any = None, outputs: int = 3, preprocess: Any = None, returns: Any = None) -> Entry:
    word = "output" if task == "regression" else "class"
    model = explainer.wrap(
        module, modality="tabular", background=gallery.table(12, seed=1), task=task, preprocess=preprocess, returns=returns,
        class_names=[f"{word} {i}" for i in range(outputs)],
    )  # fmt: skip
    return model, gallery.table(ROWS)


def picture(module: nn.Module, size: int = 8, channels: int = 1, preprocess: Any = None, outputs: int = 3) -> Entry:
    shape = (size, size) if channels == 1 else (size, size, channels)
    pictures = np.random.default_rng(0).random((ROWS + 1, *shape)).astype(np.float32)
    names = [f"class {i}" for i in range(outputs)]
    return explainer.wrap(module, modality="image", preprocess=preprocess, background=pictures[ROWS:], class_names=names), pictures[:ROWS]


def steps(module: nn.Module, lengths: tuple[int, ...] = (5, 7), channels: int = 3, preprocess: Any = None) -> Entry:
    background = gallery.series(lengths[:1], channels, seed=1)
    names = [f"class {i}" for i in range(3)]
    model = explainer.wrap(module, modality="series", background=background, class_names=names, preprocess=preprocess)
    return model, gallery.series(lengths, channels)


def words(module: nn.Module, preprocess: Any = None, outputs: int = 3) -> Entry:
    names = [f"class {i}" for i in range(outputs)]
    model = explainer.wrap(module, modality="text", preprocess=preprocess or gallery.Pieces(), class_names=names)
    return model, ["redistribution and use", "Don't sell the licence!"]


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return make().eval()
