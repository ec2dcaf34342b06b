"""The report as one HTML file that asks nothing of the network: styles, pictures and text are all inside."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from importlib import resources
from typing import Any

from explainer.reports.attributions import TOLD
from explainer.reports.wording import badge, number

_NO_NETWORK = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def render(document: Mapping[str, Any]) -> bytes:
    """The whole page, UTF-8."""
    style = resources.files("explainer.reports").joinpath("templates/report.css").read_text("utf-8")
    chapters = [b for b in document["blocks"] if b["kind"] == "heading" and b["numbered"]]
    links = "".join(f'<li><a href="#{b["anchor"]}">{escape(b["text"])}</a></li>' for b in chapters)
    number_of = {id(b): k for k, b in enumerate(chapters, start=1)}
    body = "\n".join(_block(b, number_of.get(id(b))) for b in document["blocks"])
    title = escape(document["title"])
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_NO_NETWORK}">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the report</a>
<header><h1>{title}</h1><p>{escape(document["subtitle"])}</p></header>
<nav aria-label="Contents"><h2>Contents</h2><ol>{links}</ol></nav>
<main id="main">
{body}
</main>
<footer><p>Evidence sha256 <code>{document["evidence_sha256"]}</code></p></footer>
</body>
</html>
"""
    return page.encode("utf-8")


def _block(b: Mapping[str, Any], chapter: int | None) -> str:
    return _WRITERS[b["kind"]](b, chapter)


def _contents(_b: Mapping[str, Any], _chapter: int | None) -> str:
    return ""  # stands before the report here, so that it is the first thing a screen reader meets


def _heading(b: Mapping[str, Any], chapter: int | None) -> str:
    anchor = f' id="{b["anchor"]}"' if b["anchor"] else ""
    prefix = f'<span class="chapter">{chapter}</span> ' if chapter else ""
    return f"<h{b['level']}{anchor}>{prefix}{escape(b['text'])}</h{b['level']}>"


def _text(b: Mapping[str, Any], _chapter: int | None) -> str:
    return f"<p>{escape(b['text'])}</p>"


def _code(b: Mapping[str, Any], _chapter: int | None) -> str:
    return f"<pre><code>{escape(b['text'])}</code></pre>"


def _list(b: Mapping[str, Any], _chapter: int | None) -> str:
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in b["items"]) + "</ul>"


def _note(b: Mapping[str, Any], _chapter: int | None) -> str:
    return f'<div class="note {_class(b["status"])}"><strong>{escape(b["title"])}</strong> {escape(b["text"])}</div>'


def _banner(b: Mapping[str, Any], _chapter: int | None) -> str:
    return f'<p class="banner {_class(b["status"])}">{_badge(b["status"])} <span>{escape(b["text"])}</span></p>'


def _facts(b: Mapping[str, Any], _chapter: int | None) -> str:
    return "<dl>" + "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in b["items"]) + "</dl>"


def _outcomes(b: Mapping[str, Any], _chapter: int | None) -> str:
    items = "".join(
        f'<li class="{_class(o["status"])}">{_badge(o["status"])} <strong>{escape(o["topic"])}.</strong> {escape(o["text"])}</li>'
        for o in b["items"]
    )
    return f'<ul class="outcomes">{items}</ul>'


def _columns(b: Mapping[str, Any], _chapter: int | None) -> str:
    parts = []
    for column in b["items"]:
        items = "".join(f"<li>{escape(item)}</li>" for item in column["items"]) or "<li>none</li>"
        title = f"<h3>{_symbol(column['status'])}{escape(column['title'])}</h3>"
        parts.append(f'<section class="{_class(column["status"])}">{title}<ul>{items}</ul></section>')
    return f'<div class="columns">{"".join(parts)}</div>'


def _table(b: Mapping[str, Any], _chapter: int | None) -> str:
    caption = f"<caption>{escape(b['caption'])}</caption>" if b["caption"] else ""
    head = "".join(f'<th scope="col" class="{c["align"]}">{escape(c["title"])}</th>' for c in b["columns"])
    # The first cell that names the row is its header; a leading outcome badge names nothing.
    rows = []
    for row in b["rows"]:
        named = next((j for j, cell in enumerate(row) if not isinstance(cell, Mapping)), 0)
        rows.append(
            "<tr>"
            + "".join(_cell(cell, c["align"], j == named) for j, (cell, c) in enumerate(zip(row, b["columns"], strict=True)))
            + "</tr>"
        )
    # A table wider than the screen scrolls inside its own frame, by keyboard too.
    frame = f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(b["caption"] or "table")}">'
    wide = ' class="wide"' if len(b["columns"]) > 3 else ""
    return f"{frame}<table{wide}>{caption}<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"


def _cell(cell: Any, align: str, header: bool) -> str:
    inner = escape(str(cell))
    if isinstance(cell, Mapping):
        inner = _badge(cell["status"]) if "status" in cell else f"<code>{escape(cell['code'])}</code>"
    return f'<th scope="row" class="{align}">{inner}</th>' if header else f'<td class="{align}">{inner}</td>'


def _figures(b: Mapping[str, Any], _chapter: int | None) -> str:
    parts = []
    for figure in b["items"]:
        svg = figure["svg"].replace("<svg ", f'<svg role="img" aria-label="{escape(figure["alt"])}" ', 1)
        # The page is HTML: a namespace address would be the only "http" in it, and is not needed there.
        svg = svg.replace(' xmlns="http://www.w3.org/2000/svg"', "")
        width = re.search(r' width="([\d.]+)"', figure["svg"])
        basis = float(width.group(1)) if width else 640
        wide = ' class="wide" tabindex="0"' if basis > 480 else ""  # on a small screen it scrolls rather than shrinks past reading
        parts.append(f'<figure{wide} style="flex-basis:{basis:g}px">{svg}<figcaption>{escape(figure["caption"])}</figcaption></figure>')
    return f'<div class="figures">{"".join(parts)}</div>'


def _words(b: Mapping[str, Any], _chapter: int | None) -> str:
    parts = []
    for piece in b["pieces"]:
        share, text = piece["share"], escape(piece["text"])
        parts.append(escape(piece["lead"]))
        if abs(share) < TOLD:
            parts.append(text)
            continue
        kind = "for" if share > 0 else "against"
        strength = round(min(1.0, abs(share)) * 0.75, 3)
        parts.append(f'<mark class="{kind}" style="--s:{strength}" title="{number(share, 2, sign=True)} of the largest">{text}</mark>')
    body = ("… " if b["before"] else "") + "".join(parts) + (" …" if b["after"] else "")
    return f'<figure class="words"><p>{body}</p><figcaption>{escape(b["caption"])}</figcaption></figure>'


def _badge(status: str) -> str:
    return f'<span class="badge {_class(status)}">{escape(badge(status))}</span>'


def _symbol(status: str) -> str:
    return f'<span aria-hidden="true">{escape(badge(status).split(" ")[0])} </span>'


def _class(status: str) -> str:
    return re.sub(r"[^a-z]+", "-", status)


_WRITERS = {
    "heading": _heading, "text": _text, "note": _note, "banner": _banner, "facts": _facts, "table": _table, "figures": _figures,
    "words": _words, "contents": _contents, "list": _list, "outcomes": _outcomes, "code": _code, "columns": _columns,
}  # fmt: skip
