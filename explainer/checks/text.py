"""The checks that only texts need."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from explainer.checks.context import EVIDENCE_SHOWN, FIX_CODE, Check, Context, NotRun, failed, listed, passed, share
from explainer.checks.damage import find
from explainer.checks.documents import TextView
from explainer.checks.finding import Finding

LEAST = 50  # texts by which the usual length is known
SPREADS = 4.5  # met by chance once in 150,000 texts a side, were lengths lognormal
BEYOND = 16.0  # lengths that stop at a bound are spread wide without a tail
LENGTH_FACTOR = 4.0  # times shorter or longer than the usual text, whatever the spread of the others


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
    """Texts read in a wrong code page (once or more), with escapes never undone, replaced, control or hidden characters."""
    view = _texts(context)
    hits = {i: hit for i, text in enumerate(view.texts) if (hit := find(text)) is not None}
    if not hits:
        return passed("No text shows damage by a wrong encoding.", value=0, threshold=0)
    kinds = Counter(hit.kind for hit in hits.values())
    examples = []
    for i, hit in list(hits.items())[:EVIDENCE_SHOWN]:
        around = view.texts[i][max(0, hit.start - 15) : hit.end + 15]
        examples.append({"row": view.at([i])[0], "kind": hit.kind, "text": around, "meant": hit.meant})
    told = listed(f"{kind} ({n:,})" for kind, n in kinds.most_common())
    message = f"{share(len(hits), view.n)} texts hold damaged characters: {told}; the first, {examples[0]['text']!r}."
    evidence = {"kinds": dict(kinds.most_common()), "examples": examples}
    return failed(message, value=len(hits) / view.n, threshold=0, rows=view.at(list(hits)), evidence=evidence)


def text_lengths(context: Context) -> Finding:
    """Texts far shorter or longer than the rest, by the logarithm of the number of words and of characters.

    Beyond ``SPREADS`` robust standard deviations of logarithms, one for each side (from the middle 68 %), or ``BEYOND`` times
    shorter or longer than 98 % of texts if that is less; and at least ``LENGTH_FACTOR`` times shorter or longer than the median.
    """
    view = _texts(context)
    context.need_rows(LEAST)
    usable = ~view.blank & np.array([bool(words) for words in view.words], dtype=bool)
    if usable.sum() < LEAST:
        raise NotRun(f"Only {int(usable.sum())} texts hold words; at least {LEAST} are needed.")
    figures = {"words": np.array([len(w) for w in view.words]), "characters": np.array([len(t) for t in view.texts])}
    short, long = np.zeros(view.n, dtype=bool), np.zeros(view.n, dtype=bool)
    evidence: dict[str, Any] = {}
    for name, sizes in figures.items():
        logs = np.log(np.maximum(sizes, 1))
        least, left, middle, right, most = np.quantile(logs[usable], [0.02, 0.16, 0.5, 0.84, 0.98])
        low = middle - max(np.log(LENGTH_FACTOR), min(SPREADS * (middle - left), middle - least + np.log(BEYOND)))
        high = middle + max(np.log(LENGTH_FACTOR), min(SPREADS * (right - middle), most - middle + np.log(BEYOND)))
        short |= usable & (logs < low)
        long |= usable & (logs > high)
        limits = {"median": float(np.exp(middle)), "plausible from": float(np.exp(low)), "to": float(np.exp(high))}
        evidence[name] = {**limits, "shortest": int(sizes[usable].min()), "longest": int(sizes[usable].max())}
    odd = short | long
    words = evidence["words"]
    told = f"{words['shortest']:,} to {words['longest']:,} words (median {words['median']:,.0f})"
    details: dict[str, Any] = {"value": odd.mean(), "threshold": 0, "evidence": evidence}
    if odd.any():
        sides = f"{short.sum():,} too short, {long.sum():,} too long"
        message = f"{share(int(odd.sum()), view.n)} texts are far from the usual length: {sides}; {told}."
        return failed(message, rows=view.at(odd), **details)
    return passed(f"All texts are of plausible length: {told}.", **details)


CHECKS: tuple[Check, ...] = (
    Check(
        "missing values",
        ("text",),
        missing_texts,
        "A missing text is scored like any other, on nothing.",
        "Restore them from the source, or drop the rows with their labels.",
        FIX_CODE,
    ),
    Check(
        "empty texts",
        ("text",),
        empty_texts,
        "A text with no word is scored on nothing.",
        "Restore or drop them.",
        FIX_CODE,
    ),
    Check(
        "damaged characters",
        ("text",),
        damaged_texts,
        "Words broken by a wrong encoding are unknown words, and mark their source.",
        "Read the source again as UTF-8 (or what it is written in).",
        FIX_CODE,
    ),
    Check(
        "text lengths",
        ("text",),
        text_lengths,
        "A text of a few words says too little to be labelled; one far too long is cut, or is several texts in one.",
        "Look at them: headings, rests of tables and whole documents are not what the others are.",
    ),
)
