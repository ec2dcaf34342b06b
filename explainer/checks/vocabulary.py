"""What a model, or the reference set, does not know of the texts: words outside the vocabulary, and ends beyond the longest text read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from explainer.checks.context import EVIDENCE_SHOWN, Check, Context, NotRun, failed, listed, passed, percent, share
from explainer.checks.documents import TextView
from explainer.checks.finding import Finding

WORDS_LEAST = 10  # of a text whose share of unknown words is a figure
UNKNOWN_MOST = 0.5  # a text of which so much is unknown is read as something else
UNKNOWN_USUAL = 0.05  # and if so much is unknown over all texts, the vocabulary is not theirs
REFERENCE_LEAST = 50  # texts
TIMES = 2.0  # more unknown words than each reference text has to the other reference texts, in all ...
LUCK = 0.01  # ... and for single texts so many as chance would give one text of a clean set once in a hundred sets
CUT_TEXTS = 0.01  # of the texts may be cut
AT_ONCE = 1_000
DIGIT = re.compile(r"\d")


def _texts(context: Context) -> TextView:
    assert isinstance(context.view, TextView)
    return context.view


def _reader(context: Context, *needed: str) -> Any:
    """What turns texts into tokens for the model, if it has one that says how: its ``preprocess``."""
    reader = getattr(context.model, "preprocess", None)
    return reader if all(getattr(reader, name, None) is not None for name in needed) else None


def unknown_words(context: Context) -> Finding:
    """The share of words outside the model's vocabulary, or else outside the reference set.

    By the model: over ``UNKNOWN_USUAL`` in all, or over ``UNKNOWN_MOST`` of one text. By the reference, each text of which is held
    against the others: ``TIMES`` as much in all, if more; and one text is named only where so many of its n words would be unknown by
    chance, P(X >= k), X beta-binomial as in the reference's own texts, less than ``LUCK`` once in all texts (Sidak, JASA 62, 1967).
    """
    view = _texts(context)
    reader = _reader(context, "unknown_share")
    sizes = np.array([len(words) for words in view.words])
    judged = sizes >= WORDS_LEAST
    if reader is None and context.reference is None:
        raise NotRun("It needs model=, one that knows its vocabulary (preprocess.unknown_share), or reference= to compare words with.")
    if not judged.any():
        raise NotRun(f"No text has {WORDS_LEAST} words or more.")
    if reader is not None:
        unknown = np.concatenate([np.asarray(reader.unknown_share(part), dtype=float) for part in _parts(view.texts)])
        usual, whose, odd = UNKNOWN_USUAL, "the model's vocabulary", judged
        rare: list[str] = []
    else:
        reference = context.reference
        assert isinstance(reference, TextView)
        if reference.n < REFERENCE_LEAST:
            raise NotRun(f"The reference has {reference.n:,} texts; at least {REFERENCE_LEAST} are needed to tell what is unknown.")
        unknown, usual, odd, rare = _by_reference(view, reference)
        whose = "the words of the reference"
    overall = float(np.average(unknown[judged], weights=sizes[judged]))
    odd = odd & judged & (unknown > UNKNOWN_MOST)
    evidence = {"unknown in all": overall, "limit": usual, "limit of one text": UNKNOWN_MOST, "most frequent": rare}
    details: dict[str, Any] = {"value": overall, "threshold": usual, "evidence": evidence}
    told = f"{percent(overall)} of words are outside {whose}"
    if overall > usual or odd.any():
        order = np.flatnonzero(odd)[np.argsort(-unknown[odd], kind="stable")]
        message = f"{told}, and over {percent(UNKNOWN_MOST)} of {share(len(order), view.n)} texts" if len(order) else told
        message += f" (most often {listed(rare)})." if rare else "."
        return failed(message, rows=view.at(order), **details)
    return passed(f"{told}, and of no text more than {percent(float(unknown[judged].max()))}.", **details)


def _by_reference(view: TextView, reference: TextView) -> tuple[np.ndarray, float, np.ndarray, list[str]]:
    """Each text's share of words not in the reference, the limit of that over all, which texts' chance does not give, and the words."""
    from scipy.stats import betabinom

    lone = {word for word, n in reference.frequency.items() if n == 1}
    own, sizes = np.array([_outside(words, lambda word: word not in lone) for words in reference.words]).T
    enough = sizes >= WORDS_LEAST
    if not enough.any():
        raise NotRun(f"No text of the reference has {WORDS_LEAST} words or more.")
    a, b = _beta(own[enough], sizes[enough])
    usual = max(UNKNOWN_USUAL, TIMES * a / (a + b))
    here, length = np.array([_outside(words, lambda word: word in reference.frequency) for words in view.words]).T
    beyond = betabinom.sf(here - 1, length, a, b) < 1 - (1 - LUCK) ** (1 / view.n)
    rare = Counter(word for words in view.words for word in set(words) if word not in reference.frequency and not DIGIT.search(word))
    return here / np.maximum(length, 1), usual, beyond, [word for word, _ in rare.most_common(EVIDENCE_SHOWN)]


def _outside(words: list[str], known: Callable[[str], bool]) -> tuple[int, int]:
    """How many of the words are not known, and how many there are; numbers, of which there is no end, count as known."""
    return sum(not DIGIT.search(word) and not known(word) for word in words), len(words)


def _beta(hits: np.ndarray, sizes: np.ndarray) -> tuple[float, float]:
    """The two parameters of the beta distribution of shares of which these were seen, by moments (Kleinman, JASA 68, 1973)."""
    mean = float(np.clip(hits.sum() / sizes.sum(), 1e-4, 1 - 1e-4))
    by_chance = mean * (1 - mean)
    spread = float(((hits / sizes - mean) ** 2).mean()) / by_chance  # 1 / n of a size n where all shares are equal, 1 at most
    alike = float(np.clip((spread - (1 / sizes).mean()) / (1 - (1 / sizes).mean()), 1e-4, 0.99))
    return mean * (1 / alike - 1), (1 - mean) * (1 / alike - 1)


def truncated_texts(context: Context) -> Finding:
    """Texts longer than the model reads, by where the last token that it reads ends; and how much of them is lost."""
    view = _texts(context)
    reader = _reader(context, "offsets", "max_length")
    if context.model is None:
        raise NotRun("No model was given.")
    if reader is None:
        raise NotRun("The model does not say how far it reads (preprocess.max_length and preprocess.offsets).")
    lost = np.concatenate([_lost(reader, part) for part in _parts(view.texts)]) if view.n else np.zeros(0)
    cut = lost > 0
    letters = np.array([len(text) for text in view.texts])
    evidence = {
        "tokens read": int(reader.max_length),
        "share of all characters lost": float((lost * letters).sum() / max(1, letters.sum())),
    }
    details: dict[str, Any] = {"value": cut.mean(), "threshold": CUT_TEXTS, "evidence": evidence}
    if not cut.any():
        return passed(f"No text is longer than the {int(reader.max_length):,} tokens that the model reads.", **details)
    order = np.flatnonzero(cut)[np.argsort(-lost[cut], kind="stable")]
    evidence |= {"lost of a cut text, median": float(np.median(lost[cut])), "most": float(lost.max())}
    message = f"{share(len(order), view.n)} texts are longer than the {int(reader.max_length):,} tokens that the model reads; "
    message += f"these lose {percent(float(np.median(lost[cut])))} (median), up to {percent(float(lost.max()))}."
    return (failed if cut.mean() > CUT_TEXTS else passed)(message, rows=view.at(order), **details)


def _parts(texts: list[str]) -> list[list[str]]:
    return [texts[i : i + AT_ONCE] for i in range(0, len(texts), AT_ONCE)]


def _lost(reader: Any, texts: list[str]) -> np.ndarray:
    """The share of each text's characters before the first or behind the last token read; 0 of a text that is read whole."""
    lost = np.zeros(len(texts))
    for i, (text, places) in enumerate(zip(texts, reader.offsets(texts), strict=True)):
        known = [(a, b) for a, b in places if b > a]
        if len(places) < int(reader.max_length) or not known:
            continue
        before, behind = text[: min(a for a, _ in known)].strip(), text[max(b for _, b in known) :].strip()
        lost[i] = (len(before) + len(behind)) / max(1, len(text))
    return lost


CHECKS: tuple[Check, ...] = (
    Check(
        "unknown words",
        ("text",),
        unknown_words,
        "Words that a model does not know it cannot weigh: two texts of unknown words are the same to it.",
        "Bring the texts to the language, spelling and case the model was trained on, or train it on such texts.",
    ),
    Check(
        "truncated texts",
        ("text",),
        truncated_texts,
        "What stands behind the longest text that a model reads is neither used nor explained.",
        "Shorten the texts, score them in parts, or use a model that reads more.",
    ),
)
