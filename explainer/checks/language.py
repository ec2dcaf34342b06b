"""Texts in another language than the bulk, by script, by the small words of a language, and by what the data themselves are made of."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np

from explainer.checks.context import EVIDENCE_SHOWN, Check, Context, NotRun, failed, listed, passed, share
from explainer.checks.documents import TextView
from explainer.checks.finding import Finding

WORDS_LEAST = 10  # a shorter text is left alone: names and quotations are in any language
LETTERS_LEAST = 20  # and one of another script needs so many letters of it
SMALL_SHARE = 0.15  # small words of a language in a text of it; running prose has 30 to 50 %
SMALL_LEAST, SMALL_KINDS = 4, 3  # so many of them, so many different ones
AHEAD = 3.0  # and so many times more than of the bulk's language
BULK_SHARE = 0.10  # of all words must be small words of the bulk's language for it to be known
OWN_WORDS, OWN_SPREAD = (
    30,
    0.05,
)  # the words in most texts serve as the small words of a language that is not listed; in this share of texts
TEXTS_LEAST = 30
UNLIKE_WORDS = 20  # words of a text judged by its letters alone
UNLIKE = 6.0  # robust standard deviations below the usual likelihood of its runs of three letters
UNLIKE_SMALL = 0.03  # and hardly a small word of the bulk's language
CELLS = 1 << 18  # counters for runs of three letters
CHUNK = 2_000
SCRIPTS = {
    "Greek": ((0x370, 0x3FF), (0x1F00, 0x1FFF)),
    "Cyrillic": ((0x400, 0x52F),),
    "Armenian": ((0x530, 0x58F),),
    "Hebrew": ((0x590, 0x5FF),),
    "Arabic": ((0x600, 0x6FF), (0x750, 0x77F), (0xFB50, 0xFDFF), (0xFE70, 0xFEFE)),
    "Devanagari": ((0x900, 0x97F),),
    "Bengali": ((0x980, 0x9FF),),
    "Tamil": ((0xB80, 0xBFF),),
    "Thai": ((0xE00, 0xE7F),),
    "Georgian": ((0x10A0, 0x10FF),),
    "Hangul": ((0x1100, 0x11FF), (0xAC00, 0xD7A3)),
    "Japanese or Chinese": ((0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF)),
}


@lru_cache(maxsize=1)
def small_words() -> dict[str, frozenset[str]]:
    """The most frequent small words of each language that is known."""
    lines = files("explainer.checks").joinpath("stopwords.txt").read_text("utf-8").splitlines()
    pairs = (line.split(":", 1) for line in lines if line and not line.startswith("#"))
    return {name: frozenset(listed_.split()) for name, listed_ in pairs}


def foreign_texts(context: Context) -> Finding:
    """Texts of another script than most; with small words of another language than the bulk's; or unlike the bulk in their letters.

    Only texts of ``WORDS_LEAST`` words or more (``LETTERS_LEAST`` letters of another script) are judged. The bulk's small words are
    those of the language that has most, or the words that stand in most texts where none is known.
    """
    view = context.view
    assert isinstance(view, TextView)
    context.need_rows(TEXTS_LEAST)
    scripts = [script_of(text) for text in view.texts]
    usual = Counter(name for name in scripts if name).most_common(1)
    if not usual:
        raise NotRun(f"No text has {LETTERS_LEAST} letters or more; shorter ones are not judged.")
    script = usual[0][0]
    sizes = np.array([len(words) for words in view.words])
    judged = np.array([name == script for name in scripts]) & (sizes >= WORDS_LEAST)
    names = list(small_words())
    counts, kinds = _counted(view, [small_words()[name] for name in names])
    shares = counts / np.maximum(sizes, 1)[:, None]
    total = counts[judged].sum(axis=0) / max(1, sizes[judged].sum())
    bulk = int(total.argmax())
    if total[bulk] >= BULK_SHARE:
        own, language = shares[:, bulk], names[bulk]
    else:
        own, language = _own(view, sizes), ""
        bulk = -1
    other = shares.copy()
    if bulk >= 0:
        other[:, bulk] = 0
    best = other.argmax(axis=1)
    rows = np.arange(view.n)
    clear = (other[rows, best] >= SMALL_SHARE) & (counts[rows, best] >= SMALL_LEAST) & (kinds[rows, best] >= SMALL_KINDS)
    languages: dict[int, str] = {}
    for i, name in enumerate(scripts):
        if name and name != script:
            languages[i] = names[best[i]] if clear[i] else f"{name} script"
    for i in np.flatnonzero(judged & clear & (own * AHEAD < other[rows, best])):
        languages[int(i)] = names[best[i]]
    for i in np.flatnonzero(_unlike(view.texts, judged & (sizes >= UNLIKE_WORDS)) & (own < UNLIKE_SMALL)):
        languages.setdefault(int(i), "no language told")
    found = Counter(languages.values())
    told = language or f"{script} script"
    details: dict[str, Any] = {
        "value": len(languages) / view.n,
        "threshold": 0,
        "evidence": {"bulk": told, "others": dict(found.most_common(EVIDENCE_SHOWN))},
    }
    if languages:
        order = sorted(languages)
        details["evidence"]["texts"] = [
            {"row": view.at([i])[0], "language": languages[i], "text": view.show(i)} for i in order[:EVIDENCE_SHOWN]
        ]
        kinds_told = listed(f"{name} ({n:,})" for name, n in found.most_common())
        return failed(
            f"{share(len(order), view.n)} texts are not in the language of the bulk ({told}): {kinds_told}.", rows=view.at(order), **details
        )
    short = int((sizes < WORDS_LEAST).sum())
    left = f"; {short:,} of fewer than {WORDS_LEAST} words are not judged" if short else ""
    return passed(f"No text is in another language than the bulk ({told}){left}.", **details)


def script_of(text: str) -> str:
    """The script of most letters of a text; "" where there are fewer than ``LETTERS_LEAST``."""
    if text.isascii():
        return (
            "Latin"
            if sum(map(str.isalpha, text[: 4 * LETTERS_LEAST])) >= LETTERS_LEAST or sum(map(str.isalpha, text)) >= LETTERS_LEAST
            else ""
        )
    letters = np.array([ord(c) for c in text if c.isalpha()], dtype=np.int64)
    if len(letters) < LETTERS_LEAST:
        return ""
    amounts = {"Latin": int((letters < 0x250).sum() + ((letters >= 0x1E00) & (letters <= 0x1EFF)).sum())}
    for name, ranges in SCRIPTS.items():
        amounts[name] = sum(int(((letters >= low) & (letters <= high)).sum()) for low, high in ranges)
    best = max(amounts, key=amounts.__getitem__)
    return best if amounts[best] * 2 > len(letters) else ""


def _counted(view: TextView, lists: list[frozenset[str]]) -> tuple[np.ndarray, np.ndarray]:
    """How many words of each list stand in each text, ``(n, lists)``, and how many different ones."""
    member: dict[str, list[int]] = {}
    for k, small in enumerate(lists):
        for word in small:
            member.setdefault(word, []).append(k)
    counts, kinds = np.zeros((view.n, len(lists)), dtype=np.int32), np.zeros((view.n, len(lists)), dtype=np.int32)
    for i, words in enumerate(view.words):
        for word, times in Counter(w for w in words if w in member).items():
            counts[i, member[word]] += times
            kinds[i, member[word]] += 1
    return counts, kinds


def _own(view: TextView, sizes: np.ndarray) -> np.ndarray:
    """Per text the share of words that stand in most texts: what small words are in a language that is not listed."""
    common = [word for word, n in view.frequency.most_common(OWN_WORDS) if n >= OWN_SPREAD * view.n]
    counts, _ = _counted(view, [frozenset(common)])
    return counts[:, 0] / np.maximum(sizes, 1)


def _unlike(texts: list[str], judged: np.ndarray) -> np.ndarray:
    """Texts whose runs of three letters are far less likely than usual, by how often those occur in all the texts.

    Cavnar and Trenkle, N-gram-based text categorization, SDAIR 1994, with the one profile that the data themselves give.
    """
    rows = np.flatnonzero(judged)
    odd = np.zeros(len(texts), dtype=bool)
    if len(rows) < TEXTS_LEAST:
        return odd
    totals = np.zeros(CELLS)
    for part in _parts(rows):
        totals += np.bincount(_runs(texts, part)[0], minlength=CELLS)
    chances = np.log((totals + 0.5) / (totals.sum() + 0.5 * CELLS))
    means = []
    for part in _parts(rows):
        cells, starts, sizes = _runs(texts, part)
        means.append(np.add.reduceat(chances[cells], starts) / sizes)
    likely = np.concatenate(means)
    low, middle = np.quantile(likely, [0.16, 0.5])
    odd[rows] = likely < middle - UNLIKE * max(middle - low, 1e-3)
    return odd


def _parts(rows: np.ndarray) -> list[np.ndarray]:
    return np.array_split(rows, -(-len(rows) // CHUNK))


def _runs(texts: list[str], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cells of all runs of three characters of some texts, and where each text's begin and how many they are."""
    coded = [np.frombuffer(f" {texts[i].lower()} ".encode("utf-32-le", "surrogatepass"), dtype=np.uint32) for i in rows]
    sizes = np.array([len(c) - 2 for c in coded])
    cells = [
        ((c[:-2] * np.uint32(0x9E3779B1)) ^ (c[1:-1] * np.uint32(0x85EBCA77)) ^ (c[2:] * np.uint32(0xC2B2AE3D))) >> np.uint32(14)
        for c in coded
    ]
    return np.concatenate(cells), np.concatenate([[0], np.cumsum(sizes)[:-1]]), sizes


CHECKS: tuple[Check, ...] = (
    Check(
        "language",
        ("text",),
        foreign_texts,
        "A model of one language reads another as unknown words, and the language itself may stand for the label.",
        "Leave these texts out or translate them, or say that the model is not for them.",
    ),
)
