"""Heart beats of the MIT-BIH Arrhythmia Database: 128 samples at 125 Hz each, split by patient."""

from __future__ import annotations

from typing import Any

import numpy as np

from zoo.data import Data, Split
from zoo.sources.official import locate

SOURCE = "MIT-BIH Arrhythmia Database (Moody and Mark 2001), beats of 128 samples at 125 Hz around the R peak"
RULE = (
    "by patient, never by beat: DS1 and DS2 of de Chazal et al. (2004) without the four paced records; six records of DS1 for "
    "validation; record 202 of DS2 left out, for it is of the man whose record 201 is in training; unknown beats (15) left out; at most "
    "8,000 normal beats in training and 2,000 in validation, drawn with seed 0; the test part has all others"
)
DS1 = (101, 106, 108, 109, 112, 114, 115, 116, 118, 119, 122, 124, 201, 203, 205, 207, 208, 209, 215, 220, 223, 230)
# Without 202: it and 201 of DS1 are of one man (Moody and Mark 2001), and of the others each is of a person of its own.
DS2 = (100, 103, 105, 111, 113, 117, 121, 123, 200, 210, 212, 213, 214, 219, 221, 222, 228, 231, 232, 233, 234)
VALIDATION = (114, 116, 119, 203, 209, 223)  # of DS1; between them they hold beats of every class
CLASSES = ("normal", "supraventricular", "ventricular", "fusion")  # the fifth, unknown, has 15 beats without the paced records
NORMAL_MOST = {"train": 8000, "validation": 2000}


def load() -> Data:
    """Series, a list of ``(128, 1)`` float32, each beat standardised by itself; four AAMI classes; whose each beat is as units."""
    import pandas as pd

    with np.load(locate("beats"), allow_pickle=False) as archive:
        beats, labels, records = archive["X"].astype(np.float32), archive["y"].astype(np.int64), archive["record"].astype(int)
    centred = beats - beats.mean(axis=1, keepdims=True)
    scaled = centred / np.maximum(centred.std(axis=1, keepdims=True), 1e-3)
    generator = np.random.default_rng(0)
    train = np.isin(records, [r for r in DS1 if r not in VALIDATION])
    parts = []
    for name, inside in (("train", train), ("validation", np.isin(records, VALIDATION)), ("test", np.isin(records, DS2))):
        rows = np.flatnonzero(inside & (labels < len(CLASSES)))
        if name in NORMAL_MOST:
            normal = rows[labels[rows] == 0]
            kept = generator.permutation(normal)[: NORMAL_MOST[name]]
            rows = np.sort(np.concatenate([rows[labels[rows] != 0], kept]))
        parts.append(Split([one[:, None] for one in scaled[rows]], labels[rows], units=pd.Series(records[rows], name="patient")))
    return Data(parts[0], parts[1], parts[2], CLASSES, SOURCE, RULE, feature_names=("lead",))


def background(data: Data) -> list[np.ndarray]:
    """Four training beats of each class that has them."""
    labels = data.train.labels
    return [data.train.inputs[i] for k in range(len(CLASSES)) for i in np.flatnonzero(labels == k)[:4]]


def augment(batch: Any, generator: Any) -> Any:
    """Shift each beat by up to 6 samples, scale it by up to 20 % and add a little noise; the lengths stay."""
    import torch

    x, lengths = batch
    n, steps = x.shape[:2]
    random = torch.rand((n, 2), generator=generator).to(x.device)
    shift = (random[:, 0] * 13).long() - 6
    source = (torch.arange(steps, device=x.device) + shift[:, None]).clamp(0, steps - 1)
    moved = x.gather(1, source[..., None].expand_as(x))
    noise = torch.randn(x.shape, generator=generator).to(x.device)
    return moved * (0.8 + 0.4 * random[:, 1, None, None]) + 0.05 * noise, lengths
