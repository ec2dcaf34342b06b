"""Words that should not be there: the label's own, and those of a list that is asked for."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np

from explainer.checks.columns import normalised
from explainer.checks.context import EVIDENCE_SHOWN, Check, Context, NotRun, count, failed, listed, passed, percent, plain, share
from explainer.checks.documents import TextView
from explainer.checks.finding import Finding
from explainer.checks.language import small_words

CLASS_LEAST = 20
OWN_SHARE = 0.10  # of a class's texts hold the word
TIMES = 3.0  # as often as other texts do
LUCK = 1e-6  # by chance, given the number of words tried
STEM_LEAST = 4  # letters of a stem
ABBREVIATION_LEAST = 3  # words whose first letters make one
ENDINGS = ("ational", "ations", "ation", "ments", "ment", "ings", "ing", "ies", "ers", "ed", "er", "es", "ly", "al", "s", "y", "e")


def label_words(context: Context) -> Finding:
    """Words of a class's name (or their stems, or its initials) that its texts hold far more often than others.

    In at least ``OWN_SHARE`` of the class and ``TIMES`` as often as elsewhere, and by Fisher's exact test no coincidence, with
    Bonferroni's correction for the number of words tried.
    """
    view, labels = context.view, context.need_labels()
    assert isinstance(view, TextView)
    labels.need_classes()
    usable = ~labels.missing & ~view.blank
    y = np.where(usable, labels.codes, -1)
    judged = [k for k in range(len(labels.names)) if CLASS_LEAST <= (y == k).sum() <= usable.sum() - CLASS_LEAST]
    if not judged:
        raise NotRun(f"At least {CLASS_LEAST} texts of one class and {CLASS_LEAST} of others are needed.")
    tried = [(k, form, stem) for k in judged for form, stem in forms(labels.names[k])]
    if not tried:
        raise NotRun(f"The names of the classes hold no words to look for ({listed(map(repr, labels.names))}).")
    holding = _holding(view, sorted({(form, stem) for _, form, stem in tried}))
    rows = np.zeros(view.n, dtype=bool)
    found: list[dict[str, Any]] = []
    for k, form, stem in tried:
        held = holding[form, stem]
        inside, outside = held[y == k], held[usable & (y != k)]
        p = _chance(inside, outside) * len(tried)
        if inside.mean() >= OWN_SHARE and inside.mean() >= TIMES * outside.mean() and p < LUCK:
            rows |= held & (y == k)
            found.append({"class": labels.names[k], "word": f"{form}..." if stem else form, "of the class": float(inside.mean()),
                          "of the others": float(outside.mean()), "p": p})  # fmt: skip
    found.sort(key=lambda one: -one["of the class"])
    details: dict[str, Any] = {
        "value": found[0]["of the class"] if found else 0.0,
        "threshold": OWN_SHARE,
        "evidence": {"words": found[:EVIDENCE_SHOWN]},
    }
    if found:
        told = listed(
            (
                f"{f['word']!r} in {percent(f['of the class'])} of {f['class']!r} and {percent(f['of the others'])} of the others"
                for f in found
            ),
            4,
        )
        message = f"{count(len(found), 'word')} of the labels stand{'s' if len(found) == 1 else ''} in the texts of their class: {told}."
        return failed(message, rows=view.at(rows), columns=dict.fromkeys(f["word"] for f in found), **details)
    return passed(f"No word of a label marks the texts of its class ({count(len(tried), 'word')} tried).", **details)


def forms(name: str) -> list[tuple[str, bool]]:
    """What to look for of a class's name: its words, their stems (True) and its initials; small words and numbers left out."""
    words = [word for word in re.findall(r"[^\W\d_]+", normalised(name)) if len(word) > 1]
    small = frozenset().union(*small_words().values())
    telling = [word for word in words if word not in small and len(word) > 2]
    result: dict[tuple[str, bool], None] = {}
    for word in telling:
        stem = _stem(word)
        result[(stem, True) if len(stem) >= STEM_LEAST else (word, False)] = None
    initials = "".join(word[0] for word in words)
    if len(telling) >= ABBREVIATION_LEAST:
        result[initials, False] = None
    return list(result)


def _stem(word: str) -> str:
    """A word without one common ending; crude, but the same for all forms of most words."""
    return next((word[: -len(end)] for end in ENDINGS if word.endswith(end) and len(word) - len(end) >= STEM_LEAST), word)


def _holding(view: TextView, wanted: list[tuple[str, bool]]) -> dict[tuple[str, bool], np.ndarray]:
    """Which texts hold a word, or a word that begins with a stem and goes on with at most six letters."""
    vocabulary: dict[str, list[int]] = {}
    whole = {form: k for k, (form, stem) in enumerate(wanted) if not stem}
    stems = [(form, k) for k, (form, stem) in enumerate(wanted) if stem]
    for word in view.frequency:
        bare = normalised(word)
        hits = [k for form, k in stems if bare.startswith(form) and len(bare) <= len(form) + 6]
        if bare in whole:
            hits.append(whole[bare])
        if hits:
            vocabulary[word] = hits
    held = np.zeros((len(wanted), view.n), dtype=bool)
    for i, words in enumerate(view.words):
        for word in vocabulary.keys() & set(words):
            held[vocabulary[word], i] = True
    return dict(zip(wanted, held, strict=True))


def _chance(inside: np.ndarray, outside: np.ndarray) -> float:
    from scipy.stats import hypergeom

    hits = int(inside.sum() + outside.sum())
    return float(hypergeom.sf(int(inside.sum()) - 1, len(inside) + len(outside), hits, len(inside)))


@lru_cache(maxsize=1)
def toxic() -> frozenset[str]:
    """The short list of insults and threats that comes with the toolkit."""
    lines = files("explainer.checks").joinpath("toxic.txt").read_text("utf-8").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.lower().split())


def toxic_words(context: Context) -> Finding:
    """Texts that hold a word of the list given as ``words=``, or of the short one that comes with the toolkit; counted by class."""
    view = context.view
    assert isinstance(view, TextView)
    wanted = frozenset(word.lower() for word in context.words) if context.words else toxic()
    hits = [wanted.intersection(words) for words in view.words]
    bad = np.array([bool(h) for h in hits], dtype=bool)
    evidence: dict[str, Any] = {"words in the list": len(wanted)}
    labels = context.labels
    if labels is not None and labels.kind == "class":
        sizes = {name: labels.codes == k for k, name in enumerate(labels.names)}
        evidence["share of each class"] = {name: float(bad[own].mean()) for name, own in list(sizes.items())[:EVIDENCE_SHOWN] if own.any()}
    if bad.any():
        per_word: dict[str, int] = {}
        for h in hits:
            for word in h:
                per_word[word] = per_word.get(word, 0) + 1
        worst = sorted(per_word, key=lambda word: (-per_word[word], word))
        evidence["texts with each word"] = {word: per_word[word] for word in worst[:EVIDENCE_SHOWN]}
        message = f"{share(int(bad.sum()), view.n)} texts hold a word of the list of {len(wanted):,}, {count(len(worst), 'word')} in all."
        return failed(message, value=bad.mean(), threshold=0, rows=view.at(bad), evidence=plain(evidence))
    return passed(f"No text holds a word of the list of {len(wanted):,}.", value=0, threshold=0, evidence=evidence)


CHECKS: tuple[Check, ...] = (
    Check(
        "label words",
        ("text",),
        label_words,
        "A model that finds the label's own word in the text needs to understand nothing else, and fails where the word is missing.",
        "Measure the model with these words masked as well; if they were added with the label, take them out.",
    ),
    Check(
        "toxic words",
        ("text",),
        toxic_words,
        "Insults learnt by a model are repeated by it, and where they go with one class it judges tone in place of content.",
        "Read these texts; leave out what is abuse, and compare the classes.",
        asked=True,
    ),
)
