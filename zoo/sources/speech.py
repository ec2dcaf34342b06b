"""Spoken digits: 3,000 recordings of six speakers at 8 kHz, as log-mel frames."""

from __future__ import annotations

import io
import wave
import zipfile
from typing import Any

import numpy as np

from zoo.data import Data, Split, stratified
from zoo.sources.official import locate

SOURCE = "Free Spoken Digit Dataset (Jackson et al.), 3,000 recordings of six speakers"
RULE = "the authors' own test part (recordings 0 to 4 of each digit and speaker); 10 % of the rest, stratified with seed 0, for validation"
SPEAKER_RULE = "test: every recording of {speaker}, whom the model never heard; 10 % of the others, stratified with seed 0, for validation"
RATE = 8000  # samples a second
WINDOW, HOP, BANDS = 256, 128, 32  # 32 ms windows every 16 ms
DECIMALS = 4  # of the log energies: with 64 bits before it every machine gets the same numbers, whose sha256 the record holds
CHANNELS = tuple(f"mel band {k}" for k in range(1, BANDS + 1))


def load(speaker: str = "") -> Data:
    """Series, a list of ``(frames, 32)`` log-mel energies; class names "0" to "9"; the speaker as group.

    ``speaker``: leave that one out for the test. Without it the six are in train and test alike: what is told is of new recordings by
    these six, each a draw of its own, so they are groups and no units.
    """
    import pandas as pd

    clips, digits, speakers, takes = read()
    series = [log_mel(clip) for clip in clips]
    test = speakers == speaker if speaker else takes < 5
    rest = np.flatnonzero(~test)
    parts = [rest[rows] for rows in stratified(digits[rest], (0.9, 0.1))]
    train, validation, held = (
        Split([series[i] for i in rows], digits[rows], pd.DataFrame({"speaker": speakers[rows]})) for rows in (*parts, np.flatnonzero(test))
    )
    rule = SPEAKER_RULE.format(speaker=speaker) if speaker else RULE
    return Data(train, validation, held, tuple(map(str, range(10))), SOURCE, rule, feature_names=CHANNELS)


def read() -> tuple[list[np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
    """Waves in [-1, 1] with digit, speaker and number of the take, in order of their names ``DIGIT_SPEAKER_TAKE.wav``."""
    clips, names = [], []
    with zipfile.ZipFile(locate("speech")) as archive:
        for name in sorted(n for n in archive.namelist() if n.endswith(".wav")):
            with wave.open(io.BytesIO(archive.read(name))) as clip:
                clips.append(np.frombuffer(clip.readframes(clip.getnframes()), dtype="<i2").astype(np.float32) / 2**15)
            names.append(name.rsplit("/", 1)[-1].removesuffix(".wav").split("_"))
    digits, speakers, takes = zip(*names, strict=True)
    return clips, np.array(digits, dtype=np.int64), np.array(speakers), np.array(takes, dtype=int)


def log_mel(clip: np.ndarray) -> np.ndarray:
    """``(frames, 32)``: log of the energy in 32 mel bands (mel = 2595 log10(1 + f / 700)) of Hann windows of 32 ms every 16 ms."""
    import torch

    padded = np.pad(clip, (0, max(0, WINDOW - len(clip))))
    samples, window = torch.from_numpy(padded).double(), torch.hann_window(WINDOW, dtype=torch.float64)
    spectrum = torch.stft(samples, WINDOW, HOP, window=window, center=False, return_complex=True)
    energy = spectrum.abs().square().T.numpy() @ _filters()
    return np.log(energy + 1e-6).round(DECIMALS).astype(np.float32)


def _filters() -> np.ndarray:
    """``(129, 32)`` triangles, equally spaced in mel from 20 Hz to 4 kHz."""
    low, high = (2595 * np.log10(1 + f / 700) for f in (20.0, RATE / 2))
    edges = 700 * (10 ** (np.linspace(low, high, BANDS + 2) / 2595) - 1)
    bins = np.linspace(0, RATE / 2, WINDOW // 2 + 1)[:, None]
    rise, fall = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2]), (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rise, fall))


def background(data: Data) -> list[np.ndarray]:
    """Two training recordings of each digit."""
    labels = data.train.labels
    return [data.train.inputs[i] for k in range(10) for i in np.flatnonzero(labels == k)[:2]]


def augment(batch: Any, generator: Any) -> Any:
    """Louder or softer, a few steps lost at either end, and a band of frequencies and a stretch of time hidden (Park et al. 2019)."""
    import torch

    x, lengths = batch
    n, steps, bands = x.shape
    random = torch.rand((n, 6), generator=generator).to(x.device)
    time, band = torch.arange(steps, device=x.device), torch.arange(bands, device=x.device)
    start = (random[:, 0] * 0.1 * lengths).long()
    kept = lengths - start - (random[:, 1] * 0.1 * lengths).long()
    source = (start[:, None] + time).clamp(max=steps - 1)
    moved = x.gather(1, source[..., None].expand_as(x)) + 0.5 * (random[:, 2, None, None] - 0.5)
    first = (random[:, 3] * bands).long()[:, None]
    hidden = (band >= first) & (band < first + 5)
    gap = (random[:, 4] * kept).long()[:, None]
    silent = (time >= gap) & (time < gap + (random[:, 5] * 0.15 * kept).long()[:, None])
    moved = moved.masked_fill(hidden[:, None, :] | silent[..., None], 0.0)
    return moved * (time < kept[:, None])[..., None], kept
