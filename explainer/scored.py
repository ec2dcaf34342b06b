"""The coalitions already scored: found again by their bits, and kept on disk where work is to be resumed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from explainer.errors import CorruptFile, InvalidInput
from explainer.explanation import write_atomic

_SHAPE = "{:06d}.npz"
_ROWS_PER_FILE = 20_000


def keys_of(masks: np.ndarray) -> np.ndarray:
    """One sortable key per coalition ``(m, players)`` bool: equal keys are equal coalitions."""
    packed = np.packbits(masks, axis=1)
    if packed.shape[1] <= 8:
        wide = np.zeros((len(masks), 8), dtype=np.uint8)
        wide[:, : packed.shape[1]] = packed
        return wide.view(np.uint64)[:, 0]
    return np.ascontiguousarray(packed).view(f"S{packed.shape[1]}")[:, 0]


class Scored:
    """Values ``(n, k)`` of one instance's coalitions; they are put in order when the first is looked for."""

    def __init__(self) -> None:
        self._keys: list[np.ndarray] = []
        self._values: list[np.ndarray] = []

    def __bool__(self) -> bool:
        return bool(self._keys)

    def find(self, keys: np.ndarray, k: int) -> np.ndarray:
        """Values ``(len(keys), k)``, NaN where a coalition is not known."""
        found = np.full((len(keys), k), np.nan)
        if not self._keys:
            return found
        if len(self._keys) > 1 or not _ascending(self._keys[0]):
            ordered, first = np.unique(np.concatenate(self._keys), return_index=True)
            self._keys, self._values = [ordered], [np.concatenate(self._values)[first]]
        at = np.minimum(np.searchsorted(self._keys[0], keys), len(self._keys[0]) - 1)
        known = self._keys[0][at] == keys
        found[known] = self._values[0][at[known]]
        return found

    def add(self, keys: np.ndarray, values: np.ndarray) -> None:
        """Remember values; those that are not numbers are not remembered, so that they may be tried again."""
        told = np.isfinite(values).all(axis=1)
        if told.any():
            self._keys.append(keys[told])
            self._values.append(values[told])


def distinct(keys: np.ndarray) -> bool:
    """Whether no two keys are equal; much quicker than to say which."""
    ordered = np.sort(keys)
    return bool((ordered[1:] != ordered[:-1]).all())


def _ascending(keys: np.ndarray) -> bool:
    return bool((keys[1:] > keys[:-1]).all())


def _same_as(kept: Any, wanted: Any, rounded: bool) -> bool:
    """Whether two entries of a header are alike; scores where both are known, but for what another batch or device rounds otherwise."""
    if not rounded or np.shape(kept) != np.shape(wanted):
        return bool(kept == wanted)
    one, other = np.array(kept, dtype=float), np.array(wanted, dtype=float)
    known = np.isfinite(one) & np.isfinite(other)
    return np.allclose(one[known], other[known], rtol=1e-4, atol=1e-6)


class Kept:
    """A folder that holds what has been scored, so that a run that was stopped goes on where it ended.

    ``header`` says what the scores belong to (model, inputs, parts, target, scale); a folder with another header is refused,
    because its scores would be wrong here. ``scores`` in it are those of a few rows, for what no digest of the model covers.
    Raises InvalidInput, CorruptFile.
    """

    def __init__(self, folder: str | Path, header: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self._fresh: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._waiting = 0
        wanted = json.loads(json.dumps(dict(header), default=str))
        path = self.folder / "header.json"
        if path.is_file():
            self._same(path, wanted)
        else:
            if self.folder.is_dir() and any(self.folder.iterdir()):
                raise InvalidInput(f"resume={str(folder)!r} is a folder with other files in it; name a new one.")
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomic(path, lambda handle: handle.write(json.dumps(wanted, indent=1).encode()))
        self._files = max((int(file.stem) for file in self.folder.glob("*.npz") if file.stem.isdigit()), default=0)

    def _same(self, path: Path, wanted: dict[str, Any]) -> None:
        try:
            kept = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise CorruptFile(f"{path} cannot be read ({error}); delete the folder and start again.") from None
        differing = [name for name in wanted if not _same_as(kept.get(name), wanted[name], rounded=name == "scores")]
        if differing:
            named = [name for name in differing if name != "scores"]  # they follow from the rest, unless the model is another
            what = f"{', '.join(named)} differ" if named else "the model scores the same rows otherwise"
            if "schema" in named:
                what = "it was written by another version of the toolkit"
            raise InvalidInput(
                f"resume={str(self.folder)!r} holds the scores of another run: {what}. Name another folder, or delete this one."
            )

    def read(self) -> dict[int, Scored]:
        """What was scored, per instance."""
        found: dict[int, Scored] = {}
        for path in sorted(self.folder.glob("*.npz")):
            try:
                with np.load(path, allow_pickle=False) as stored:
                    owners, bits, values = stored["owners"], stored["bits"], stored["values"]
            except Exception as error:
                raise CorruptFile(f"{path} is not readable ({type(error).__name__}); delete it: what it held is scored anew.") from error
            for i in np.unique(owners):
                own = owners == i
                masks = np.unpackbits(bits[own], axis=1).astype(bool)
                found.setdefault(int(i), Scored()).add(keys_of(masks), values[own])
        return found

    def add(self, i: int, masks: np.ndarray, values: np.ndarray) -> None:
        """Keep values of instance ``i``; they reach the disk in files of some thousand coalitions, and with :meth:`flush`."""
        self._fresh.append((np.full(len(masks), i), np.packbits(masks, axis=1), values))
        self._waiting += len(masks)
        if self._waiting >= _ROWS_PER_FILE:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting; texts of different length have coalitions of different width, hence files."""
        by_width: dict[int, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
        for entry in self._fresh:
            by_width.setdefault(entry[1].shape[1], []).append(entry)
        for entries in by_width.values():
            owners, bits, values = (np.concatenate(parts) for parts in zip(*entries, strict=True))
            self._files += 1
            write_atomic(
                self.folder / _SHAPE.format(self._files),
                lambda handle, o=owners, b=bits, v=values: np.savez(handle, allow_pickle=False, owners=o, bits=b, values=v),
            )
        self._fresh, self._waiting = [], 0

    def rows(self, content: str) -> np.ndarray | None:
        """Scores of rows a method built itself, known by the digest of their content."""
        path = self._rows_path(content)
        return np.load(path, allow_pickle=False) if path.is_file() else None

    def add_rows(self, content: str, scores: np.ndarray) -> None:
        if np.isfinite(scores).all():
            write_atomic(self._rows_path(content), lambda handle: np.save(handle, scores, allow_pickle=False))

    def _rows_path(self, content: str) -> Path:
        return self.folder / f"rows-{hashlib.sha256(content.encode()).hexdigest()[:24]}.npy"
