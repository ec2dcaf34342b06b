"""What is wrong with a file, in words, and with the lines of one: other than UTF-8, more or fewer fields than the header has."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

BLOCK = 1 << 24  # bytes looked at together
TOLD = 1_000  # lines named; a file all in another encoding has every line wrong
NOT_UTF8 = "bytes that are not UTF-8; each is shown as \ufffd"

NO_OBJECT = "no object {...}, as the other lines hold"


_PLAIN = {  # what readers raise, by the names of their exceptions: the libraries need not be there
    "EmptyDataError": "nothing is in it",
    "UnidentifiedImageError": "no picture, or of a kind that cannot be read",
    "BadZipFile": "no npz archive, or a damaged one",
    "ArrowInvalid": "no parquet file, or a damaged one",
}


def in_words(error: BaseException) -> str:
    """Why something could not be read: in plain words where the reason is a common one, else as the library says it."""
    if isinstance(error, json.JSONDecodeError):
        return f"no valid JSON: {error.msg} at character {error.colno}"
    if "contains pickled" in str(error):  # what numpy says of any file that is none of its own
        return _PLAIN["BadZipFile"]
    if "allow_pickle" in str(error):
        return "it holds Python objects, and reading these could run anything; save plain arrays"
    said = " ".join(_PLAIN.get(type(error).__name__, f"{type(error).__name__}: {error}").split())
    return said[:200]


def are_objects(records: Sequence[Any]) -> bool:
    """Whether most lines of a jsonl hold an object: one that does not is damage then, and no other form of the data."""
    return 2 * sum(isinstance(record, dict) for record in records) > len(records)


def is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def longer_lines(path: Path, separator: str) -> tuple[tuple[str, str], ...]:
    """``((which, why),)`` where the lines of a csv have more fields than its header; else nothing.

    Of such a file pandas takes the first fields for names of the rows, so that every value stands under the name of another column;
    with ``index_col=False`` the fields beyond are left out.
    """
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        try:
            named, held = map(len, islice(filter(None, csv.reader(file, delimiter=separator)), 2))
        except (ValueError, csv.Error):  # not two lines, or none that can be told apart
            return ()
    return ((path.name, f"its lines have {held} fields, its header {named}; those beyond are left out"),) if held > named else ()


def faulty_lines(path: Path, separator: str) -> tuple[tuple[str, str], ...]:
    """``(which, why)`` of the lines of a csv that are read in part: some bytes guessed, or the last fields taken as missing.

    A line is held against the first by its number of separators, and only where no quoted field can run over its end.
    """
    found: list[tuple[str, str]] = []
    fields, number, quoted = -1, 1, False
    for block in _blocks(path):
        if not is_utf8(block):
            found += [(f"line {number + i}", NOT_UTF8) for i, line in enumerate(block.split(b"\n")) if not is_utf8(line)]
        values = np.frombuffer(block, dtype=np.uint8)
        ends = np.flatnonzero(values == ord("\n"))
        if not len(ends) or ends[-1] != len(values) - 1:
            ends = np.append(ends, len(values))
        separators, quotes = (_in_each(values == ord(mark), ends) for mark in (separator, '"'))
        open_before = (np.cumsum(quotes) - quotes + quoted) % 2 == 1
        plain = ~open_before & (quotes % 2 == 0) & (np.diff(ends, prepend=-1) > 2)  # an empty line, "\r" or not, is none
        if fields < 0:
            fields = int(separators[0]) if plain[0] and not quotes[0] else 0
        for i in np.flatnonzero(plain & (separators < fields)):
            found.append((f"line {number + int(i)}", f"{int(separators[i]) + 1} fields of {fields + 1}; the others are read as missing"))
        number, quoted = number + len(ends), bool((quotes.sum() + quoted) % 2)
        if len(found) > TOLD:
            break
    return tuple(found[:TOLD])


def _in_each(marks: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """How many marks each line holds."""
    before = np.searchsorted(np.flatnonzero(marks), ends)
    return np.diff(before, prepend=0)


def _blocks(path: Path) -> Iterator[bytes]:
    """The file in pieces that end with a line."""
    with path.open("rb") as handle:
        while block := handle.read(BLOCK):
            yield block if block.endswith(b"\n") else block + handle.readline()
