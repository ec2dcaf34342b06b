"""What a specimen is trained and tested on: fixed splits, the same on every machine."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explainer.errors import MissingDependency
from explainer.inputs import sha256, take

if TYPE_CHECKING:
    import pandas as pd

PARTS = ("train", "validation", "test")
EXTRA = 'pip install "explainer-toolkit[zoo]"'


@dataclass(frozen=True, eq=False)
class Split:
    """Inputs in the model's canonical form, labels ``(n,)`` (classes int64, numbers float, None where nothing is to be told), and
    attributes to audit by, which the model need not see.

    ``units``: whom each row is of, named by what they are ("patient"), where a model is to hold for others than these: rows of one are
    alike, and their number says less than how many units there are.
    """

    inputs: Any
    labels: Any
    groups: pd.DataFrame | None = None
    units: pd.Series | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, rows: Any) -> Split:
        """The rows named, as a split of their own."""
        groups, units = (None if one is None else one.iloc[rows] for one in (self.groups, self.units))
        return Split(take(self.inputs, rows), None if self.labels is None else self.labels[rows], groups, units)


@dataclass(frozen=True, eq=False)
class Data:
    """Three disjoint splits, the names a person needs to read them, and where they come from."""

    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    source: str
    rule: str
    feature_names: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def _lines(self) -> dict[str, bytes]:
        found = {}
        for part in PARTS:
            split: Split = getattr(self, part)
            labels = "" if split.labels is None else sha256([split.labels])
            found[part] = f"{part} {_digest(split.inputs)} {labels} ".encode()
        return found

    @property
    def sha256(self) -> str:
        """A digest of every input and label of the three splits, in order."""
        return hashlib.sha256(b"".join(self._lines.values())).hexdigest()

    @property
    def parts_sha256(self) -> dict[str, str]:
        """The same of each split."""
        return {part: hashlib.sha256(line).hexdigest() for part, line in self._lines.items()}

    def repeated(self) -> dict[str, int]:
        """How many rows of validation and of test have the inputs of a row in an earlier split; texts are alike but for case and white
        space.
        """
        found, seen = {}, set[Any]()
        for part in PARTS:
            rows = _rows(getattr(self, part).inputs)
            found[part] = sum(row in seen for row in rows)
            seen.update(rows)
        return {part: found[part] for part in PARTS[1:]}


def _rows(inputs: Any) -> list[Any]:
    """What each row is known by."""
    if hasattr(inputs, "to_csv"):
        return inputs.to_csv(index=False, header=False).splitlines()
    return [" ".join(one.casefold().split()) if isinstance(one, str) else hashlib.sha256(one.tobytes()).digest() for one in inputs]


def _digest(inputs: Any) -> str:
    """As the training records hold it: a table by its text."""
    return hashlib.sha256(inputs.to_csv(index=False).encode()).hexdigest() if hasattr(inputs, "to_csv") else sha256(inputs)


def stratified(labels: np.ndarray, shares: Sequence[float], seed: int = 0) -> list[np.ndarray]:
    """Cut rows into ``len(shares)`` disjoint parts with the classes in equal proportion; sorted row numbers of each part."""
    generator = np.random.default_rng(seed)
    parts: list[list[np.ndarray]] = [[] for _ in shares]
    edges = np.cumsum(shares) / np.sum(shares)
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        for part, piece in zip(parts, np.split(rows, np.round(edges[:-1] * len(rows)).astype(int)), strict=True):
            part.append(piece)
    return [np.sort(np.concatenate(part)) for part in parts]


def package(name: str, install: str) -> Path:
    """The folder of an installed package, found without importing it. Raises MissingDependency."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise MissingDependency(f"This data set comes with {install}, which is not installed. Run: {EXTRA}")
    return Path(found.submodule_search_locations[0])


def need(name: str, why: str) -> Any:
    """Import an optional package. Raises MissingDependency naming the extra that brings it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingDependency(f"{why} needs {name}, which cannot be imported ({error}). Run: {EXTRA}") from None
