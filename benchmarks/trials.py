"""One planted defect and one check; one clean twin and all checks: what is measured, seed by seed."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from commondefects import listed
from defect import Defect, Planted
from timing import one_thread
from twins import Sample, twin


@dataclass(frozen=True)
class Trial:
    """One planted defect, and what its check said. Shares are None where there is nothing to name, or nothing was found."""

    defect: int
    strength: float
    seed: int
    state: str
    message: str
    rows_right: float | None = None  # of the rows named, the share that were planted
    rows_found: float | None = None  # of the rows planted (a screenful at most), the share that were named
    columns_found: float | None = None


@dataclass(frozen=True)
class Calm:
    """One check on one clean sample; ``defect`` is that whose setting it is, None for the twin as it is."""

    check: str
    modality: str
    seed: int
    state: str
    message: str
    defect: int | None = None


Outcome = Trial | Calm


def known(modality: str) -> dict[str, bool]:
    """The checks of a kind of data by name, and whether each runs only when asked for."""
    from explainer.checks.catalogue import checks

    return {check.name: check.asked for check in checks(modality)}


def generator(seed: int, index: int, strength: float) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(f"{listed()[index].what} {strength}".encode())])


def trial(index: int, strength: float, seed: int) -> Trial:
    """Plant one defect at one strength in the twin of one seed, and ask its check."""
    one: Defect = listed()[index]
    rng = generator(seed, index, strength)
    clean = twin(one.modality, seed)
    planted = one.plant(clean if one.setting is None or one.writes else one.setting(clean, rng), rng, strength)
    try:
        finding = planted.sample.check([one.check])[0]
    finally:
        forget(planted.sample)
    if finding.state != "fail":
        return Trial(index, strength, seed, finding.state, finding.message)
    return Trial(index, strength, seed, finding.state, finding.message, *named(planted, finding.rows, finding.columns))


def named(planted: Planted, rows: Iterable[int], columns: Iterable[str]) -> tuple[float | None, float | None, float | None]:
    """How many of the rows named are planted ones, how many of the planted are named, and the same of columns."""
    said, told = set(rows), set(columns)
    right = found = None
    if planted.rows is not None and said:
        wanted = set(planted.rows.tolist())
        right = len(said & wanted) / len(said)
        found = len(said & wanted) / max(1, min(len(wanted), 100))
    return right, found, len(told & set(planted.columns)) / len(planted.columns) if planted.columns else None


def forget(sample: Sample) -> None:
    if isinstance(sample.inputs, Path):
        shutil.rmtree(sample.inputs if sample.inputs.is_dir() else sample.inputs.parent, ignore_errors=True)


def calm(modality: str, seed: int, only: list[str]) -> list[Calm]:
    """All checks (or some) on the clean twin of one seed, and those that need another setting on that."""
    clean = twin(modality, seed)
    slow = {d.check for d in listed() if d.modality == modality and seed % d.every}
    names = [name for name in known(modality) if (not only or name in only) and name not in slow]
    found = [Calm(f.check, modality, seed, f.state, f.message) for f in clean.check(names)] if names else []
    for index, one in enumerate(listed()):
        if one.modality == modality and one.setting is not None and one.check in names:
            sample = one.setting(clean, generator(seed, index, -1))
            finding = sample.check([one.check])[0]
            found.append(Calm(one.check, modality, seed, finding.state, finding.message, index))
            forget(sample)
    return found


def work(modality: str, seed: int, only: list[str], part: str) -> list[Outcome]:
    """One seed of one kind of data: either the clean twin, or all defects planted in it."""
    one_thread()
    if part == "clean":
        return list(calm(modality, seed, only))
    found = []
    for index, one in enumerate(listed()):
        if one.modality == modality and one.check in known(modality) and (not only or one.check in only) and seed % one.every == 0:
            # strengths beside the documented one are for comparison: half the seeds, of both kinds of twin, do
            found += [trial(index, strength, seed) for strength in one.strengths if strength == one.at or seed // 2 % 2 == 0]
    return found
