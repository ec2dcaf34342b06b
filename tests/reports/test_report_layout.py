"""What the PDF keeps together on a page, and what a telephone shows of the HTML."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pypdf
import pytest

from explainer.reports import blocks, figures, html, pdf

ROWS = [{"label": "income", "value": 0.031, "low": 0.012, "high": 0.081}, {"label": "debt = 4", "value": -0.02}]
FILLER = "Words that fill a line of the page and say nothing else, so that what follows comes to stand lower down. "


def document(told: list[blocks.Block]) -> dict[str, Any]:
    return {"title": "Layout", "subtitle": "made up", "date": "2026-05-31", "evidence_sha256": "0" * 64, "blocks": told}


def pages(told: list[blocks.Block]) -> list[str]:
    reader = pypdf.PdfReader(io.BytesIO(pdf.render(document(told))))
    return [re.sub(r"\s+", " ", page.extract_text()) for page in reader.pages]


def picture() -> dict[str, str]:
    return blocks.figure(figures.bars(ROWS, "change of the prediction"), "Bars: income +0.031, debt −0.02.", "Bars, in words.")


def test_what_introduces_a_small_table_or_a_figure_is_on_its_page() -> None:
    """Forty times with other gaps before, so that each comes to straddle the foot of a page somewhere."""
    told = [blocks.heading("Chapter", "chapter")]
    for k in range(40):
        words = FILLER * int(np.random.default_rng(k).integers(1, 9))
        told += [blocks.text(words), blocks.heading(f"Group {k}g", level=3)]
        told.append(blocks.outcomes([{"status": "pass", "topic": f"Ratio {k}o", "text": "Within the limit."}]))
        told.append(blocks.table(f"Caption {k}t", "Part < 1 | Value > 1", [[f"row {k}{r}", "1"] for r in "abc"]))
        told += [
            blocks.heading(f"Chart {k}h", level=3),
            blocks.text(f"What it shows {k}w."),
            blocks.figures({**picture(), "caption": f"Seen {k}f."}),
        ]
    found = pages(told)
    assert len(found) > 10
    for k in range(40):
        for marks in ("g", "o", "t", "a", "b", "c"), ("h", "w", "f"):
            on = [[p for p, page in enumerate(found) if re.search(rf"\b{k}{mark}\b", page)] for mark in marks]
            assert len(set(map(tuple, on))) == 1 and len(on[0]) == 1, (k, marks, on)


def test_a_long_table_goes_on_under_its_header() -> None:
    found = pages([blocks.text(FILLER * 20), blocks.table("Long", "Headed < 1 | Value > 1", [[f"row {k}", "1"] for k in range(120)])])
    assert len(found) > 2 and all(page.count("Headed") == 1 for page in found)
    assert "row 0 " in found[0]


@pytest.mark.parametrize("before", range(36, 52, 3))
def test_the_contents_are_whole_and_the_report_goes_on_beneath_them(before: int) -> None:
    """Whether they are still on the first page or no longer, the first chapter does not wait for a page of its own."""
    chapters = [(blocks.heading(f"Chapter{k}", f"c{k}"), blocks.text("Told.")) for k in range(11)]
    found = pages([*(blocks.text("One line.") for _ in range(before)), {"kind": "contents"}, *(b for pair in chapters for b in pair)])
    (page,) = [p for p, text in enumerate(found) if "Contents" in text]
    assert all(f"Chapter{k} ." in found[page] for k in range(11))
    assert page == 0 or "Chapter0 Told." in found[page]


@pytest.mark.browser
def test_a_telephone_shows_captions_and_bars_whole(chrome: Any, tmp_path: Path) -> None:
    caption = "Columns. Percentiles stand in place of extremes, which would be single persons' values; others are not named."
    wide = blocks.table(caption, " | ".join(f"Column{k} < 1" for k in range(9)), [["a value"] * 9])
    place = tmp_path / "report.html"
    place.write_bytes(html.render(document([wide, blocks.figures(picture())])))
    page = chrome.new_page(viewport={"width": 390, "height": 800})
    page.goto(place.as_uri())
    assert page.evaluate("document.querySelector('table').offsetWidth") > 390  # the table itself is scrolled
    for shown in ("caption", "figure svg"):
        assert page.evaluate(f"document.querySelector('{shown}').getBoundingClientRect().right") <= 390, shown
    told = (
        "(r => { r.selectNodeContents(document.querySelector('caption')); return r.getBoundingClientRect().right })(document.createRange())"
    )
    assert page.evaluate(told) <= 390
    page.evaluate("document.querySelector('.scroll').scrollLeft = 150")
    assert page.evaluate("document.querySelector('caption').getBoundingClientRect().left") >= 0 and page.evaluate(told) <= 390
    assert page.evaluate("document.documentElement.scrollWidth") == 390
