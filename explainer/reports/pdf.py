"""The report as a tagged, archival PDF (PDF/A-3a and PDF/UA-1) set by typst; its blocks go in as JSON, never as markup."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from explainer.errors import ExplainerError, MissingDependency
from explainer.reports.wording import badge, within_font

STANDARDS = ["a-3a", "ua-1"]
_LONGEST = 1500


def require() -> Any:
    """The typst package. Raises MissingDependency."""
    try:
        import typst
    except ImportError:
        raise MissingDependency("A PDF report needs typst; install it with: pip install typst. Or leave 'pdf' out of formats.") from None
    return typst


def render(document: Mapping[str, Any]) -> bytes:
    """The whole document; the same blocks give the same bytes, whatever fonts the machine has."""
    typst = require()
    template = resources.files("explainer.reports").joinpath("templates/report.typ").read_bytes()
    chapters = [id(b) for b in document["blocks"] if b["kind"] == "heading" and b["numbered"]]
    content = {
        "title": document["title"],
        "subtitle": document["subtitle"],
        "date": [int(part) for part in document["date"].split("-")],
        "sha256": document["evidence_sha256"],
        "blocks": [_block(b, chapters.index(id(b)) + 1 if id(b) in chapters else 0) for b in document["blocks"]],
    }
    day = datetime.datetime.fromisoformat(document["date"]).replace(tzinfo=datetime.UTC)
    fonts = typst.Fonts(include_system_fonts=False, include_embedded_fonts=True, font_paths=[str(_font_folder())])
    try:
        return typst.compile(template, format="pdf", font_paths=fonts, sys_inputs={"content": json.dumps(_safe(content))},
                             pdf_standards=STANDARDS, timestamp=day)  # fmt: skip
    except RuntimeError as error:
        raise ExplainerError(
            f"The PDF could not be set: {error}. The other formats are not affected: leave 'pdf' out of formats."
        ) from error


def _font_folder() -> Path:
    """DejaVu Sans, which matplotlib brings along, draws what typst's own fonts lack (Cyrillic, arrows, symbols)."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@cache
def _covered() -> frozenset[int]:
    from matplotlib import ft2font

    return frozenset(ft2font.FT2Font(str(_font_folder() / "DejaVuSans.ttf")).get_charmap())


def _safe(value: Any) -> Any:
    if isinstance(value, str):
        covered = _covered() | {10}
        # A label in a figure has no room for code points.
        return "".join(c if ord(c) in covered else "□" for c in value) if value.startswith("<svg") else within_font(value, covered)
    if isinstance(value, Mapping):
        return {k: _safe(v) for k, v in value.items()}
    return [_safe(v) for v in value] if isinstance(value, (list, tuple)) else value


def _block(b: Mapping[str, Any], chapter: int) -> dict[str, Any]:
    """A block as the template takes it: badges as words, figures with a font of their own, long cells cut."""
    if b["kind"] == "heading":
        return {**b, "chapter": chapter, "text": b["text"] or "–"}
    if b["kind"] == "table":
        return {**b, "rows": [[_cell(cell) for cell in row] for row in b["rows"]]}
    if b["kind"] in ("outcomes", "banner"):
        items = b["items"] if b["kind"] == "outcomes" else [b]
        badged = [{**item, "badge": badge(item["status"])} for item in items]
        return {"kind": "outcomes", "items": badged} if b["kind"] == "outcomes" else badged[0]
    if b["kind"] == "figures":
        return {"kind": "figures", "items": [{**f, "svg": _svg(f["svg"]), "width": _width(f["svg"])} for f in b["items"]]}
    if b["kind"] == "columns":
        return {**b, "items": [{**c, "title": f"{badge(c['status']).split(' ')[0]} {c['title']}"} for c in b["items"]]}
    return dict(b)


def _cell(cell: Any) -> dict[str, str]:
    if isinstance(cell, Mapping):
        return {"badge": badge(cell["status"]), "status": cell["status"]} if "status" in cell else {"code": cell["code"]}
    text = str(cell)
    return {"text": text if len(text) <= _LONGEST else text[:_LONGEST] + "…"}


def _svg(svg: str) -> str:
    return svg.replace("<svg ", '<svg font-family="Libertinus Serif, DejaVu Sans" color="#1c2430" ', 1)


def _width(svg: str) -> float:
    found = re.search(r' width="([\d.]+)"', svg)
    return float(found.group(1)) if found else 640.0
