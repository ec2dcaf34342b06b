"""Rows in batches, from what fits in memory or from what does not: a table, an iterable of tables, a csv or a parquet file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from explainer.errors import InvalidInput, unknown
from explainer.inputs import take
from explainer.model import Model

SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson")
_CHUNK = 4096  # rows of a file held at once


class Stream:
    """Canonical batches ``(inputs, labels or None)`` of at most ``batch`` rows; ``total`` rows in all, None while it is not known.

    ``data``: canonical inputs, an iterable of tables, or the path of a csv, tsv, parquet or jsonl file, of which only a few
    thousand rows are in memory at a time. ``labels``: the name of a column of the tables, or one label per row. ``shuffle``
    takes the rows in an order drawn by that seed: all of them where they are in memory, otherwise in the order they come.
    ``seen`` counts the rows given out, and ``sha256`` is the digest of them, the same whatever the batch.
    """

    def __init__(self, model: Model, data: Any, labels: Any = None, *, batch: int = 64, shuffle: int | None = None) -> None:
        if isinstance(batch, bool) or not isinstance(batch, (int, np.integer)) or batch < 1:
            raise InvalidInput(f"batch={batch!r} is not a number of rows; pass a whole number of at least 1.")
        self._model, self._data, self._labels, self._batch, self._shuffle = model, data, labels, int(batch), shuffle
        self._path = _file(data, model)
        self.in_memory = self._path is None and not _chunked(data)
        self.total = len(data) if self.in_memory and hasattr(data, "__len__") else None if self._path is None else _count(self._path)
        self.seen = 0
        self._digest = hashlib.sha256()
        self._named = False

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def __iter__(self) -> Iterator[tuple[Any, np.ndarray | None]]:
        start = 0
        for chunk in self._chunks():
            labels = self._labels_of(chunk, start)
            rows = self._model.canonical(chunk)
            start += len(rows)
            order = np.arange(len(rows))
            if self._shuffle is not None:
                order = np.random.default_rng([self._shuffle, start]).permutation(len(rows))
            for at in range(0, len(rows), self._batch):
                picked = order[at : at + self._batch]
                part = take(rows, picked)
                part = part.reset_index(drop=True) if hasattr(part, "reset_index") else part
                self._add(part)
                self.seen += len(part)
                yield part, None if labels is None else labels[picked]
        if start == 0:
            raise InvalidInput("The data hold no rows; pass at least one.")
        if self._labels is not None and not isinstance(self._labels, str) and start != len(self._labels):
            raise InvalidInput(f"{len(self._labels)} labels came for {start} rows; pass one label per row.")

    def _chunks(self) -> Iterator[Any]:
        if self.in_memory:
            yield self._data
        elif self._path is None:
            yield from (chunk for chunk in self._data if len(chunk))
        else:
            yield from _read(self._path)

    def _labels_of(self, chunk: Any, start: int) -> np.ndarray | None:
        if self._labels is None:
            return None
        if isinstance(self._labels, str):
            if not hasattr(chunk, "columns") or self._labels not in chunk.columns:
                raise unknown("label column", self._labels, getattr(chunk, "columns", ("none: the data have no columns",)))
            return np.asarray(chunk[self._labels])
        here = np.asarray(self._labels)[start : start + len(chunk)]
        if len(here) != len(chunk) or (self.in_memory and len(self._labels) != len(chunk)):
            raise InvalidInput(f"{len(self._labels)} labels came for {start + len(chunk)} rows or more; pass one label per row.")
        return here

    def _add(self, part: Any) -> None:
        """Digest as ``inputs.sha256`` makes it, one batch after another."""
        if hasattr(part, "to_csv"):
            self._digest.update(part.to_csv(index=False, header=not self._named).encode())
            self._named = True
            return
        for one in part:
            array = None if isinstance(one, str) else np.ascontiguousarray(one)
            self._digest.update(one.encode() + b"\0" if array is None else f"{array.shape}{array.dtype}".encode() + array.tobytes())


def _file(data: Any, model: Model) -> Path | None:
    if not isinstance(data, os.PathLike) and not (isinstance(data, str) and model.modality == "tabular"):
        return None
    path = Path(data)
    if path.suffix.lower() not in SUFFIXES or model.modality != "tabular":
        raise InvalidInput(f"{path} cannot be read in parts; pass a table as {', '.join(SUFFIXES)}, or an iterable of batches.")
    if not path.is_file():
        raise InvalidInput(f"There is no file {path}; check the name.")
    return path


def _chunked(data: Any) -> bool:
    """Whether the data come as several tables: an iterator, or a list of tables."""
    if not hasattr(data, "__len__"):
        return isinstance(data, Iterable)
    return isinstance(data, (list, tuple)) and len(data) > 0 and hasattr(data[0], "columns")


def _count(path: Path) -> int | None:
    """Rows of a file: what parquet says of itself, else lines, close enough for a progress bar."""
    if path.suffix.lower() == ".parquet":
        import pyarrow.parquet as parquet

        try:
            return int(parquet.ParquetFile(path).metadata.num_rows)
        except (OSError, ValueError) as error:
            raise InvalidInput(f"{path} cannot be read as parquet ({error}); write it again.") from None
    with path.open("rb") as handle:
        lines = sum(block.count(b"\n") for block in iter(lambda: handle.read(1 << 20), b""))
    return max(1, lines - (path.suffix.lower() in (".csv", ".tsv")))


def _read(path: Path) -> Iterator[Any]:
    import pandas as pd

    kind = path.suffix.lower()
    try:
        if kind == ".parquet":
            import pyarrow.parquet as parquet

            yield from (part.to_pandas() for part in parquet.ParquetFile(path).iter_batches(_CHUNK) if part.num_rows)
        elif kind in (".csv", ".tsv"):
            with pd.read_csv(path, sep="\t" if kind == ".tsv" else ",", chunksize=_CHUNK, float_precision="round_trip") as parts:
                yield from (part for part in parts if len(part))
        else:
            with pd.read_json(path, lines=True, chunksize=_CHUNK) as parts:
                yield from (part for part in parts if len(part))
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be read to the end ({type(error).__name__}: {error}); repair it first.") from None
