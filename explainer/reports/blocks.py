"""The blocks a report is made of, as plain dictionaries: what ``html`` and ``pdf`` draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from explainer.reports.wording import badge

Block = dict[str, Any]


def heading(text: str, anchor: str = "", level: int = 2, numbered: bool = True) -> Block:
    """A heading; those of level 2 are chapters, numbered and listed in the contents."""
    return {"kind": "heading", "level": level, "text": text, "anchor": anchor, "numbered": numbered and level == 2}


def text(words: str) -> Block:
    return {"kind": "text", "text": words}


def note(status: str, title: str, words: str) -> Block:
    return {"kind": "note", "status": status, "title": title, "text": words}


def unassessed(reason: str) -> Block:
    return note("not assessed", badge("not assessed"), reason)


def facts(items: Sequence[tuple[str, str]]) -> Block:
    return {"kind": "facts", "items": [list(item) for item in items]}


def outcomes(items: Sequence[Mapping[str, str]]) -> Block:
    """Outcomes in full: each a ``status``, a ``topic`` and a ``text``."""
    return {"kind": "outcomes", "items": list(items)}


def table(caption: str, columns: str, rows: Sequence[Sequence[Any]]) -> Block:
    """A table; ``columns`` reads ``"Group < 2 | Rows > 0.8"``: title, < left or > right, width against the others."""
    specified = []
    for column in columns.split(" | "):
        title, side, width = column.rsplit(" ", 2)
        specified.append({"title": title, "align": "left" if side == "<" else "right", "width": float(width)})
    return {"kind": "table", "caption": caption, "columns": specified, "rows": [list(row) for row in rows]}


def figures(*items: Mapping[str, str]) -> Block:
    return {"kind": "figures", "items": list(items)}


def figure(svg: str, alt: str, caption: str) -> dict[str, str]:
    """One figure: ``alt`` says in words what it shows to one who cannot see it."""
    return {"svg": svg, "alt": alt, "caption": caption}


def cell(status: str) -> dict[str, str]:
    """A table cell that holds an outcome: symbol and word."""
    return {"status": status}
