"""Clean data of the four modalities; each test plants one defect in a copy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from explainer.checks.run import check


@pytest.fixture(scope="session")
def found():
    """``found(check_name, *arguments, **keywords)``: the one finding of that check."""

    def one(name, *arguments, **keywords):
        matches = check(*arguments, only=[name], **keywords)
        assert len(matches) == 1, name
        return matches[0]

    return one


def table(n=400, seed=0):
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(n, 6)) @ np.random.default_rng(42).normal(size=(6, 6))
    frame = pd.DataFrame(mixed, columns=[f"n{i}" for i in range(6)])
    frame["income"] = np.exp(rng.normal(10, 0.5, n))
    frame["age"] = rng.integers(18, 90, n)
    frame["city"] = rng.choice(["Berlin", "Roma", "Łódź", "Paris"], n)
    frame["flag"] = rng.random(n) < 0.4
    return frame


def table_labels(n=400, seed=0):
    frame = table(n, seed)
    noise = np.random.default_rng(seed + 1).normal(size=n)
    return np.where(frame["n0"] + 2 * noise > 0, "yes", "no")


def images(n=150, seed=0, side=28):
    """Blurred blobs, a few per picture, with pixel noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side]
    result = np.zeros((n, side, side), dtype=np.float32)
    for image in result:
        for _ in range(4):
            cy, cx, r = *rng.uniform(4, side - 4, 2), rng.uniform(1.5, 4)
            image += np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * r * r))
    result += rng.normal(0, 0.02, result.shape)
    return np.clip(result / 2, 0, 1).astype(np.float32)


WORDS = [
    "river",
    "stone",
    "market",
    "window",
    "garden",
    "letter",
    "bridge",
    "winter",
    "silver",
    "morning",
    "harbour",
    "village",
    "orange",
    "candle",
    "forest",
    "engine",
    "paper",
    "mirror",
    "thunder",
    "copper",
    "meadow",
    "lantern",
    "island",
    "pepper",
    "hammer",
    "valley",
    "marble",
    "saddle",
    "blanket",
    "feather",
    "cellar",
    "turnip",
    "anchor",
    "basket",
    "needle",
]


def texts(n=300, seed=0, length=(15, 60)):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(*length))) + "." for _ in range(n)]


def series(n=150, seed=0, channels=3):
    rng = np.random.default_rng(seed)
    result = []
    for _ in range(n):
        t = np.linspace(0, 1, rng.integers(30, 60))[:, None]
        waves = np.sin(2 * np.pi * (rng.uniform(1, 4, channels) * t + rng.uniform(0, 1, channels))) * rng.uniform(0.5, 2, channels)
        result.append((waves + rng.normal(0, 0.1, waves.shape)).astype(np.float32))
    return result


def halves(n, seed=0):
    return np.random.default_rng(seed).integers(0, 2, n)
