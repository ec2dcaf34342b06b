"""The plain-language sentence of each column: a table the user writes, from a mapping, a csv or a toml file."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from explainer.errors import InvalidInput, unknown

# When a sentence holds: whatever the value, or where it is above, below, or missing beside the population's.
WHEN = ("reason", "high", "low", "missing")
# 12 CFR 1002.9(b)(2): that an applicant missed a score, or the creditor's own standards, is no specific reason.
_UNSPECIFIC = re.compile(
    r"cut-?\s?off|qualifying score|(credit )?score (was |is )?(too low|insufficient)|internal (standard|polic)", re.IGNORECASE
)

Wording = Mapping[str, Mapping[str, str]]


def read(reasons: Any, parts: Iterable[str]) -> Wording:
    """Per part, its sentences by when they hold.

    ``reasons``: None, a mapping part -> sentence (or -> {"high": ..., "low": ..., "missing": ..., "reason": ...}), or the path of
    a csv file with the columns ``column`` and ``reason`` (or ``high``, ``low``, ``missing``) or of a toml file of the mapping.
    Raises UnknownName for parts that do not exist, InvalidInput for a table of another form.
    """
    if reasons is None:
        return {}
    if isinstance(reasons, (str, os.PathLike)):
        reasons = _file(Path(reasons))
    if not isinstance(reasons, Mapping):
        raise InvalidInput(f"reasons= takes a mapping column -> sentence, or a csv or toml file of it; {type(reasons).__name__} came.")
    known, table = list(parts), {}
    for part, given in reasons.items():
        if str(part) not in known:
            raise unknown("column in the table of reasons", part, known)
        table[str(part)] = _entry(str(part), given)
    return table


def sentence(wording: Wording, part: str, direction: str) -> str | None:
    """The sentence of ``part`` where its value is "high", "low", "missing" or "" beside the population's; None without one."""
    entry = wording.get(part, {})
    return entry.get(direction) or entry.get("reason")


def unspecific(text: str) -> bool:
    """Whether a sentence only says that a score or a standard was missed."""
    return _UNSPECIFIC.search(text) is not None


def _entry(part: str, given: Any) -> dict[str, str]:
    entry = {"reason": given} if isinstance(given, str) else given
    if not isinstance(entry, Mapping) or not all(isinstance(text, str) for text in entry.values()):
        raise InvalidInput(f"The reason of {part!r} is {given!r}; a sentence, or sentences for {', '.join(WHEN[1:])}, is needed.")
    for when in entry:
        if when not in WHEN:
            raise unknown(f"case of the reason of {part!r}", when, WHEN)
    kept = {when: " ".join(text.split()) for when, text in entry.items() if text.strip()}
    if not kept:
        raise InvalidInput(f"The reason of {part!r} is empty; write a sentence, or leave the column out of the table.")
    return kept


def _file(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise InvalidInput(f"There is no table of reasons {path}; pass a csv or toml file.")
    kind = path.suffix.lower()
    try:
        if kind == ".toml":
            return tomllib.loads(path.read_text(encoding="utf-8"))
        if kind == ".csv":
            return _csv(path)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"The table of reasons {path} cannot be read: {error}.") from None
    raise InvalidInput(f"The table of reasons {path} is of another kind; pass a csv or toml file.")


def _csv(path: Path) -> dict[str, dict[str, str]]:
    import csv

    with path.open(encoding="utf-8-sig", newline="") as handle:
        lines = csv.DictReader(handle, skipinitialspace=True)
        header = [name.strip() for name in lines.fieldnames or ()]
        lines.fieldnames = header
        if "column" not in header or not set(WHEN) & set(header):
            raise InvalidInput(
                f"{path} has the columns {', '.join(header) or 'none'}; 'column' and 'reason' (or high, low, missing) are needed."
            )
        table: dict[str, dict[str, str]] = {}
        for line in lines:
            if line["column"] in table:
                raise InvalidInput(f"{path} has two lines for the column {line['column']!r}; keep one.")
            table[line["column"]] = {when: line[when] for when in WHEN if line.get(when) and line[when].strip()}
    return table
