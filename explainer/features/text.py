"""Words: the parts of a text a person can name; an absent word is removed, or replaced by the model's mask token."""

from __future__ import annotations

import re

import numpy as np

from explainer.features.base import Features

# A word keeps its inner hyphens, apostrophes and dots ("don't", "GPL-2.0"); punctuation stands for itself.
_WORD = re.compile(r"\w+(?:[-'’._]\w+)*|[^\w\s]")


def words(text: str) -> list[tuple[int, int]]:
    """Character spans ``(start, end)`` of the words of ``text``."""
    return [match.span() for match in _WORD.finditer(text)]


class Words(Features):
    """One player per word. ``replacement`` stands in for an absent word; empty means the word is removed."""

    axes = ("word",)

    def __init__(self, texts: list[str], replacement: str = "") -> None:
        self.texts = texts
        self.replacement = replacement
        self.spans = [words(text) for text in texts]
        self.absence = f"word replaced by {replacement!r}" if replacement else "word removed"

    def names(self, i: int) -> tuple[str, ...]:
        return tuple(self.texts[i][a:b] for a, b in self.spans[i])

    def shape(self, i: int) -> tuple[int, ...]:
        return (len(self.spans[i]),)

    def rows(self, i: int, masks: np.ndarray) -> list[str]:
        text, spans = self.texts[i], self.spans[i]
        # Each word travels with the white space before it, so that a removed word leaves no double space behind.
        starts = [0] + [end for _, end in spans[:-1]]
        gaps = [text[gap:start] for gap, (start, _) in zip(starts, spans, strict=True)]
        shown = [text[a:b] for a, b in spans]
        tail = text[spans[-1][1] :]
        hidden = self.replacement
        off = [gap + hidden if hidden else "" for gap in gaps]
        on = [gap + word for gap, word in zip(gaps, shown, strict=True)]
        return ["".join([on[j] if kept else off[j] for j, kept in enumerate(mask)]) + tail for mask in masks.tolist()]

    def extras(self, i: int) -> dict[str, np.ndarray]:
        return {"spans": np.array(self.spans[i], dtype=np.int64)}
