"""A table that comes in parts: a file too large to hold, a folder of files, an iterator of frames. Each part is a small frame."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from explainer.checks.lines import NO_OBJECT, NOT_UTF8, are_objects, faulty_lines, in_words, is_utf8, longer_lines
from explainer.errors import InvalidInput

ROWS = 100_000  # of a part
TABLES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson")
GROWTH = {".csv": 3.0, ".tsv": 3.0, ".jsonl": 4.0, ".ndjson": 4.0, ".parquet": 4.0}  # bytes in memory, checks included, for one in the file
TRAP_BYTES, TRAP_RATIO = 2**30, 100  # more than a gigabyte packed to less than a hundredth is a trap, not data
SHARE = 0.5  # of the memory that is free, which is used unless told otherwise


@dataclass
class Parts:
    """What yields the parts of one table, and what was met in it that could not be read."""

    make: Callable[[Parts], Iterator[Any]]
    source: str = ""
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    damaged: list[tuple[str, str]] = field(default_factory=list)  # what was read, but in part only
    why: str = ""  # why it is read in parts, in words

    def __iter__(self) -> Iterator[Any]:
        return self.make(self)


def free_memory() -> float:
    """Bytes of memory that are free: of the machine, or of the container this runs in."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # no Linux: half of all there is
        free = 0.5 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4e9
    limits = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current")
    try:
        most, used = (Path(name).read_text().strip() for name in limits)
        return min(free, float(most) - float(used)) if most != "max" else free
    except (OSError, ValueError):
        return free


def in_parts(data: Any, memory: float | None) -> Parts | None:
    """The parts of ``data`` where it is an iterator of frames or a table on disk too large for ``memory`` bytes; else None."""
    if hasattr(data, "__next__"):
        return Parts(lambda parts: _frames(data, parts), why="they came in parts")
    if not isinstance(data, (str, Path)):
        return None
    path = Path(data).expanduser()
    files = table_files(path)
    if not files:
        return None
    needed = sum(_needed(file) for file in files)
    allowed = SHARE * free_memory() if memory is None else memory
    if needed <= allowed:
        return None
    why = f"they need about {needed / 1e9:.2g} GB of memory, {allowed / 1e9:.2g} GB may be used"
    return of_files(files, why)


def of_files(files: list[Path], why: str = "") -> Parts:
    """One table of all the files."""
    return Parts(lambda parts: _of_files(files, parts), str(files[0].parent if len(files) > 1 else files[0]), why=why)


def table_files(path: Path) -> list[Path]:
    """The one table that ``path`` is, or the parts of one in a folder that holds nothing else but parts of one kind."""
    if path.is_file():
        return [path] if path.suffix.lower() in TABLES else []
    if not path.is_dir():
        return []
    hidden = (".", "_")  # _SUCCESS, .crc
    inside = sorted(p for p in path.rglob("*") if p.is_file() and not any(part.startswith(hidden) for part in p.relative_to(path).parts))
    return inside if len({p.suffix.lower() for p in inside}) == 1 and inside[0].suffix.lower() in TABLES else []


def need_sound_size(claimed: int, held: int) -> None:
    """Raise ValueError where a small file claims to hold so much that reading it would take all memory."""
    if claimed > TRAP_BYTES and claimed > TRAP_RATIO * held:
        raise ValueError(f"claims {claimed / 2**30:,.1f} GB in {held:,} bytes; where that is right, load it in parts and check each")


def _needed(file: Path) -> float:
    suffix = file.suffix.lower()
    if suffix == ".parquet":
        import pyarrow.parquet as pq

        try:
            metadata = pq.read_metadata(file)
            return GROWTH[suffix] * sum(metadata.row_group(k).total_byte_size for k in range(metadata.num_row_groups))
        except Exception:  # what is wrong with it is told when it is read
            return 0.0
    return GROWTH[suffix] * file.stat().st_size


def _of_files(files: list[Path], parts: Parts) -> Iterator[Any]:
    readers = {".csv": _csv, ".tsv": _csv, ".parquet": _parquet, ".jsonl": _jsonl, ".ndjson": _jsonl}
    for file in files:
        try:
            yield from readers[file.suffix.lower()](file, parts)
        except Exception as error:  # the rest of the file is lost, what was read before it is not
            parts.unreadable.append((file.name, in_words(error)))


def _csv(path: Path, parts: Parts) -> Iterator[Any]:
    """Twice: once for the types of the columns, which no single part tells, then for the values."""
    import pandas as pd

    options: dict[str, Any] = {"sep": "\t" if path.suffix.lower() == ".tsv" else ",", "encoding": "utf-8-sig", "encoding_errors": "replace"}
    options |= {"chunksize": ROWS, "on_bad_lines": "warn", "low_memory": False, "float_precision": "round_trip"}
    longer = longer_lines(path, options["sep"])
    options |= {"index_col": False} if longer else {}
    kinds: dict[Any, set[str]] = {}
    with warnings.catch_warnings(), suppress(pd.errors.ParserError):  # met again below, after the parts that could be read
        warnings.simplefilter("ignore")
        for chunk in pd.read_csv(path, **options):
            for name, dtype in chunk.dtypes.items():
                empty = dtype.kind == "f" and chunk[name].isna().all()
                kinds.setdefault(name, set()).update([] if empty else ["number" if dtype.kind in "fiu" else str(dtype)])
    texts = {name: "str" for name, found in kinds.items() if len(found) > 1 or found & {"str", "object"}}
    parts.damaged += (*longer, *faulty_lines(path, options["sep"]))
    yield from _noting_bad_lines(pd.read_csv(path, dtype=texts, **options), parts)


def _noting_bad_lines(chunks: Iterator[Any], parts: Parts) -> Iterator[Any]:
    """The chunks; lines of too many fields, which pandas leaves out with a warning, are noted."""
    while True:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            chunk = next(chunks, None)
        for warning in caught:
            for line, expected, seen in re.findall(r"line (\d+): expected (\d+) fields, saw (\d+)", str(warning.message)):
                parts.unreadable.append((f"line {line}", f"{seen} fields, not {expected} as the header"))
        if chunk is None:
            return
        yield chunk


def _parquet(path: Path, parts: Parts) -> Iterator[Any]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        need_sound_size(file.metadata.num_rows * file.metadata.num_columns * 8, path.stat().st_size)
        for batch in file.iter_batches(batch_size=ROWS):
            yield batch.to_pandas()


def _jsonl(path: Path, parts: Parts) -> Iterator[Any]:
    from explainer.checks.read import records_frame

    number = 0
    with path.open("rb") as file:
        while lines := list(islice(file, ROWS)):
            records = []
            for line in lines:
                number += 1
                if not line.strip():
                    continue
                try:
                    record = json.loads(line.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace"))
                except (ValueError, RecursionError) as error:
                    parts.unreadable.append((f"line {number}", in_words(error)))
                    continue
                if not is_utf8(line):
                    parts.damaged.append((f"line {number}", NOT_UTF8))
                records.append((number, record))
            if are_objects([record for _, record in records]):
                parts.unreadable += [(f"line {at}", NO_OBJECT) for at, record in records if not isinstance(record, dict)]
                records = [one for one in records if isinstance(one[1], dict)]
            if records:
                yield records_frame([record if isinstance(record, dict) else {"value": record} for _, record in records])


def _frames(chunks: Iterable[Any], parts: Parts) -> Iterator[Any]:
    import numpy as np
    import pandas as pd

    from explainer.checks.read import as_frame

    for number, chunk in enumerate(chunks, 1):
        frame = as_frame(chunk)
        if isinstance(frame, np.ndarray) and frame.ndim == 2 and frame.dtype.kind in "fiub":
            frame = pd.DataFrame(frame, columns=[f"x{i}" for i in range(frame.shape[1])])
        if not hasattr(frame, "columns"):
            raise InvalidInput(
                f"Part {number} of the data is {type(chunk).__name__}; an iterator must yield tables: frames, arrays (n, columns), "
                "lists of dicts. Pass other kinds of data as a list."
            )
        yield frame
