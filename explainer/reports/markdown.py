"""The little Markdown that model cards use, as blocks: headings, paragraphs, lists, tables, code. Anything else stays text."""

from __future__ import annotations

import re
from typing import Any

_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_MARKS = re.compile(r"(\*\*|__|`)(.+?)\1")


def blocks_of(text: str, level: int = 3) -> list[dict[str, Any]]:
    """Blocks of a Markdown text, its highest heading at ``level``; links keep their words only, front matter its plain entries."""
    paragraph: list[str] = []
    lines = text.split("\n")
    end = lines.index("---", 1) if lines[0] == "---" and "---" in lines[1:] else -1
    blocks: list[dict[str, Any]] = _front(lines[1:end]) if end > 0 else []
    i = end + 1

    def flush() -> None:
        if paragraph:
            blocks.append({"kind": "text", "text": _inline(" ".join(paragraph))})
            paragraph.clear()

    while i < len(lines):
        line = lines[i].strip()
        if line.startswith("```"):
            flush()
            end = next((j for j in range(i + 1, len(lines)) if lines[j].strip().startswith("```")), len(lines))
            blocks.append({"kind": "code", "text": "\n".join(lines[i + 1 : end])})
            i = end
        elif line.startswith("#"):
            flush()
            blocks.append({"kind": "heading", "level": level, "text": _inline(line.lstrip("#").strip()), "anchor": "", "numbered": False})
        elif line.startswith("|"):
            flush()
            end = next((j for j in range(i, len(lines)) if not lines[j].strip().startswith("|")), len(lines))
            blocks += _table([lines[j].strip() for j in range(i, end)])
            i = end - 1
        elif re.match(r"([-*+]|\d+\.)\s", line):
            flush()
            item = _inline(re.sub(r"^([-*+]|\d+\.)\s+", "", line))
            if blocks and blocks[-1]["kind"] == "list" and i and lines[i - 1].strip():
                blocks[-1]["items"].append(item)
            else:
                blocks.append({"kind": "list", "items": [item]})
        elif line and blocks and blocks[-1]["kind"] == "list" and not paragraph and lines[i].startswith("  "):
            blocks[-1]["items"][-1] += " " + _inline(line)
        elif line:
            paragraph.append(line)
        else:
            flush()
        i += 1
    flush()
    return blocks


def _front(lines: list[str]) -> list[dict[str, Any]]:
    """The entries of front matter (YAML) that are one value or a list of values, as facts; nested ones are for machines."""
    found: dict[str, list[str]] = {}
    key = ""
    for line in lines:
        entry = re.fullmatch(r"([\w-]+):\s*(.*)", line)
        if entry:
            key = entry[1]
            found[key] = [entry[2].strip("\"'")] if entry[2] else []
        elif key and re.fullmatch(r"\s*- [^:]+", line):
            found[key].append(line.strip("- \"'"))
    items = [[key.replace("_", " "), ", ".join(values)] for key, values in found.items() if values]
    return [{"kind": "facts", "items": items}] if items else []


def _table(lines: list[str]) -> list[dict[str, Any]]:
    rows = [[_inline(cell.strip()) for cell in line.strip("|").split("|")] for line in lines]
    body = [row for row in rows[1:] if not all(re.fullmatch(r":?-*:?", cell) for cell in row)]
    wide = len(rows[0])
    columns = [{"title": title, "align": "left", "width": 1} for title in rows[0]]
    return [{"kind": "table", "caption": "", "columns": columns, "rows": [(row + [""] * wide)[:wide] for row in body]}]


def _inline(text: str) -> str:
    return _MARKS.sub(r"\2", _LINK.sub(r"\1", text)).strip()
