"""Japanese vowels: nine speakers say /ae/; 12 LPC cepstrum coefficients over 7 to 29 steps, that come with aeon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from explainer.errors import CorruptFile
from zoo.data import Data, Split, package, stratified

SOURCE = "Japanese Vowels (Kudo, Toyama and Shimbo 1999, UCI), as it comes with aeon"
RULE = "the authors' own 270 train and 370 test series; 15 % of train, stratified by speaker with seed 0, for validation"
CHANNELS = tuple(f"LPC {k}" for k in range(1, 13))


def load() -> Data:
    """Series, a list of ``(steps, 12)`` float32; class names "speaker 1" to "speaker 9"."""
    folder = package("aeon", "aeon") / "datasets" / "data" / "JapaneseVowels"
    series, labels = read(folder / "JapaneseVowels_TRAIN.ts")
    train, validation = (Split([series[i] for i in rows], labels[rows]) for rows in stratified(labels, (0.85, 0.15)))
    test = Split(*read(folder / "JapaneseVowels_TEST.ts"))
    return Data(train, validation, test, tuple(f"speaker {k}" for k in range(1, 10)), SOURCE, RULE, feature_names=CHANNELS)


def read(path: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """Read one ``.ts`` file: per line the channels separated by colons, the label last.

    Read here and not through aeon, whose import takes seconds; the format is a few lines of text.
    """
    try:
        lines = path.read_text().splitlines()
        rows = [line.split(":") for line in lines[lines.index("@data") + 1 :] if line.strip()]
        series = [np.array([[float(v) for v in channel.split(",")] for channel in row[:-1]], dtype=np.float32).T.copy() for row in rows]
        return series, np.array([int(row[-1]) - 1 for row in rows], dtype=np.int64)
    except (OSError, ValueError) as error:
        message = f"{path} cannot be read as a series file ({error}). Install it again: pip install --force-reinstall aeon"
        raise CorruptFile(message) from None


def background(data: Data) -> list[np.ndarray]:
    """Two training series of each speaker."""
    labels = data.train.labels
    return [data.train.inputs[i] for k in range(9) for i in np.flatnonzero(labels == k)[:2]]


def augment(batch: Any, generator: Any) -> Any:
    """Add a little noise, a constant shift per channel (another microphone), and drop steps at either end.

    ``batch`` is (padded ``(n, T, 12)``, lengths ``(n,)``); 220 series alone are soon learnt by heart.
    """
    import torch

    x, lengths = batch

    def normal(*shape: int) -> Any:
        return torch.randn(shape, generator=generator).to(x.device)

    steps = torch.arange(x.shape[1], device=x.device)
    start = (torch.rand(len(x), generator=generator).to(x.device) * 0.15 * lengths).long()
    kept = lengths - start - (torch.rand(len(x), generator=generator).to(x.device) * 0.15 * lengths).long()
    source = (start[:, None] + steps).clamp(max=x.shape[1] - 1)
    cropped = x.gather(1, source[..., None].expand_as(x))
    noisy = cropped + 0.15 * normal(*x.shape) + 0.15 * normal(len(x), 1, x.shape[2])
    return noisy * (steps < kept[:, None])[..., None], kept
