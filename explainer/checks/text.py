"""The checks that only texts need."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from explainer.checks.context import Check, Context, failed, passed, share
from explainer.checks.documents import TextView
from explainer.checks.finding import Finding

# UTF-8 read as Latin-1 or cp1252 ("Ã©", "â€™"), and the mark a decoder leaves where it gave up
DAMAGE = re.compile(
    "\ufffd|[\u00c2\u00c3][\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc]"
    "|\u00e2\u20ac[\u2122\u0153\u009d\u02dc\u201c\u201d\u00a6]"
)
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def _texts(context: Context) -> TextView:
    assert isinstance(context.view, TextView)
    return context.view


def missing_texts(context: Context) -> Finding:
    view = _texts(context)
    if view.absent.any():
        return failed(
            f"{share(int(view.absent.sum()), view.n)} texts are missing.", value=view.absent.mean(), threshold=0, rows=view.at(view.absent)
        )
    return passed("No text is missing.", value=0, threshold=0)


def empty_texts(context: Context) -> Finding:
    view = _texts(context)
    empty = view.blank & ~view.absent
    wordless = ~view.blank & np.array([not words for words in view.words], dtype=bool)
    if empty.any() or wordless.any():
        message = f"{share(int(empty.sum()), view.n)} texts are empty, and {wordless.sum():,} more hold no word."
        return failed(message, value=(empty | wordless).mean(), threshold=0, rows=view.at(empty | wordless))
    return passed("Every text holds words.", value=0, threshold=0)


def damaged_texts(context: Context) -> Finding:
    view = _texts(context)
    hits = [DAMAGE.search(t) or CONTROL.search(t) for t in view.texts]
    bad = np.array([h is not None for h in hits], dtype=bool)
    if bad.any():
        examples = [_around(view.texts[i], hits[i]) for i in np.flatnonzero(bad)[:5]]
        message = f"{share(int(bad.sum()), view.n)} texts hold characters damaged by a wrong encoding, such as {examples[0]!r}."
        return failed(message, value=bad.mean(), threshold=0, rows=view.at(bad), evidence={"examples": examples})
    return passed("No text shows damage by a wrong encoding.", value=0, threshold=0)


def _around(text: str, hit: Any) -> str:
    return text[max(0, hit.start() - 15) : hit.end() + 15]


CHECKS: tuple[Check, ...] = (
    Check(
        "missing values",
        ("text",),
        missing_texts,
        "A missing text is scored like any other, on nothing.",
        "Restore them from the source, or drop the rows with their labels.",
    ),
    Check(
        "empty texts",
        ("text",),
        empty_texts,
        "A text with no word is scored on nothing.",
        "Restore or drop them.",
    ),
    Check(
        "damaged characters",
        ("text",),
        damaged_texts,
        "Words broken by a wrong encoding are unknown words, and mark their source.",
        "Read the source again as UTF-8 (or what it is written in).",
    ),
)
