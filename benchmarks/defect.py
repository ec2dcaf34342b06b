"""A kind of defect: what it is, the check that must find it, how it is planted, and at which strengths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from twins import Sample, take

Plant = Callable[[Sample, np.random.Generator, float], "Planted"]
Setting = Callable[[Sample, np.random.Generator], Sample]


@dataclass(frozen=True)
class Planted:
    """A sample with a defect in it, the rows it lies in and the columns (features, channels) it lies in, where it has such."""

    sample: Sample
    rows: np.ndarray | None = None
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Defect:
    """``what`` says it in words, with the strength in braces; the bar holds at the strength ``at``.

    Where a clean twin as it is would tell nothing, ``setting`` makes the clean sample that the defect is planted in. A defect that
    ``writes`` its own files is planted in the twin, and its setting writes the clean files. Of a slow check
    only ``every`` so many-th seed is tried.
    """

    check: str
    modality: str
    what: str
    strengths: tuple[float, ...]
    at: float
    plant: Plant
    setting: Setting | None = None
    writes: bool = False
    every: int = 1

    def words(self, strength: float) -> str:
        return self.what.format(strength)


DEFECTS: list[Defect] = []


def defect(
    check: str,
    modality: str,
    what: str,
    strengths: tuple[float, ...],
    at: float,
    setting: Setting | None = None,
    writes: bool = False,
    every: int = 1,
) -> Callable[[Plant], Plant]:
    """Enter the decorated function into the list; several decorators enter it for several kinds of data."""
    if at not in strengths:
        raise ValueError(f"{check}: the documented strength {at} is none of {strengths}.")

    def enter(plant: Plant) -> Plant:
        DEFECTS.append(Defect(check, modality, what, strengths, at, plant, setting, writes, every))
        return plant

    return enter


def some(sample: Sample, rng: np.random.Generator, how_many: float, among: np.ndarray | None = None) -> np.ndarray:
    """Row numbers drawn without replacement: so many of them, or, below one, this share of all."""
    rows = np.arange(sample.n) if among is None else np.flatnonzero(among)
    size = round(how_many if how_many >= 1 else max(1, how_many * sample.n))
    return np.sort(rng.choice(rows, min(size, len(rows)), replace=False))


def changed(sample: Sample, rows: np.ndarray, change: Callable[[Any], Any]) -> Sample:
    """These items, each passed through ``change``; arrays become lists where a changed item no longer fits."""
    items = list(sample.inputs)
    for row in rows:
        items[row] = change(items[row])
    if isinstance(sample.inputs, np.ndarray) and all(np.shape(one) == sample.inputs.shape[1:] for one in items):
        return replace(sample, inputs=np.stack(items).astype(sample.inputs.dtype))
    return replace(sample, inputs=items)


def cells(sample: Sample, rows: np.ndarray, column: str, values: Any) -> Sample:
    """Values put into some rows of one column of a table, whatever its type was."""
    frame = sample.inputs.copy()
    held = frame[column].astype(object).to_numpy().copy()
    held[rows] = values
    frame[column] = held
    frame[column] = frame[column].infer_objects()
    return replace(sample, inputs=frame)


def column(sample: Sample, name: str, values: Any) -> Sample:
    return replace(sample, inputs=sample.inputs.assign(**{name: values}))


def relabelled(sample: Sample, rows: np.ndarray, labels: Any) -> Sample:
    held = sample.labels.copy()
    held[rows] = labels
    return replace(sample, labels=held)


def copied(sample: Sample, rows: np.ndarray, change: Callable[[Any], Any] = lambda inputs: inputs) -> Planted:
    """These items once more, changed or not, at the end; those are the planted ones."""
    twice = sample.take(rows)
    whole = sample.append(replace(twice, inputs=change(twice.inputs)))
    return Planted(whole, np.arange(sample.n, whole.n))


def from_reference(
    sample: Sample, rng: np.random.Generator, how_many: float, change: Callable[[Any], Any] = lambda inputs: inputs
) -> Planted:
    """Items of the reference set, changed or not, in place of as many of the data's own."""
    rows = some(sample, rng, how_many)
    theirs = rng.choice(len(sample.reference_labels), len(rows), replace=False)
    rest = sample.take(np.setdiff1d(np.arange(sample.n), rows))
    beside = replace(sample.take(rows), inputs=change(take(sample.reference, theirs)), labels=sample.reference_labels[theirs])
    whole = rest.append(beside)
    return Planted(whole, np.arange(rest.n, whole.n))
