"""Words or sentences: the parts of a text a person can name; an absent one is removed, or a word stands in for it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from explainer.errors import InvalidInput
from explainer.features.base import Features, word_and_number

KINDS = ("auto", "words", "sentences")
LONG = 200  # words, beyond which the parts are sentences unless told otherwise

# A word keeps its inner hyphens, apostrophes and dots ("don't", "GPL-2.0"); punctuation stands for itself.
_WORD = re.compile(r"\w+(?:[-'’._]\w+)*|[^\w\s]")
# A sentence ends at . ! ? before white space and no small letter, after closing quotes or brackets, or at an empty line.
_END = re.compile(r"[.!?…]+[\"'’”»)\]]*(?=\s+[^\sa-z])|\n\s*\n|[。！？]")
_ABBREVIATION = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|No|Nos|Art|Arts|Sec|Sect|Fig|vs|cf|e\.g|i\.e|etc|al|[A-Z]))\.$")


def words(text: str) -> list[tuple[int, int]]:
    """Character spans ``(start, end)`` of the words of ``text``."""
    return [match.span() for match in _WORD.finditer(text)]


def sentences(text: str) -> list[tuple[int, int]]:
    """Character spans ``(start, end)`` of the sentences of ``text``, without the white space around them."""
    spans, start = [], 0
    for end in [match.end() for match in _END.finditer(text)] + [len(text)]:
        piece = text[start:end]
        if end < len(text) and _ABBREVIATION.search(piece[-8:]):
            continue
        if piece.strip():
            left = start + len(piece) - len(piece.lstrip())
            spans.append((left, left + len(piece.strip())))
        start = end
    return spans


class Words(Features):
    """One player per word, or per sentence. ``replacement`` stands in for an absent one; empty means it is removed.

    ``features``: "words", "sentences", or "auto": sentences for texts of more than 200 words, else words.
    """

    def __init__(self, texts: list[str], replacement: str = "", features: Any = "auto") -> None:
        kind, _ = word_and_number("text features", features, KINDS)
        self.texts = texts
        self.replacement = replacement
        self._words = [words(text) for text in texts]
        cut = [
            kind == "sentences" or (kind == "auto" and len(w) > LONG and len(sentences(t)) > 1)
            for t, w in zip(texts, self._words, strict=True)
        ]
        self.spans = [sentences(t) if whole else w for t, w, whole in zip(texts, self._words, cut, strict=True)]
        part = "sentence" if all(cut) else "part" if any(cut) else "word"
        self.axes = (part,)
        self.absence = f"{part} replaced by {replacement!r}" if replacement else f"{part} removed"
        if kind == "auto" and any(cut):
            count = f"{sum(cut)} of {len(cut)} texts have" if len(cut) > 1 else "The text has"
            self.notes = (f"{count} more than {LONG} words, and the parts there are sentences; features='words' keeps words.",)

    def names(self, i: int) -> tuple[str, ...]:
        return tuple(self.texts[i][a:b] for a, b in self.spans[i])

    def shape(self, i: int) -> tuple[int, ...]:
        return (len(self.spans[i]),)

    def row_bytes(self, i: int) -> int:
        return 64 + 2 * len(self.texts[i]) + len(self.replacement) * len(self.spans[i]) + 8 * len(self.spans[i])

    def rows(self, i: int, masks: np.ndarray) -> list[str]:
        text, spans = self.texts[i], self.spans[i]
        if not spans:
            return [text] * len(masks)
        on, off = self.pieces(i)
        chosen = np.array([off, on], dtype=object)[masks.astype(np.int8), np.arange(len(spans))]
        tail = text[spans[-1][1] :]
        return ["".join(parts) + tail for parts in chosen.tolist()]

    def pieces(self, i: int) -> tuple[list[str], list[str]]:
        """What stands in the text for each part when it is present, and when it is absent."""
        text, spans = self.texts[i], self.spans[i]
        # Each part travels with the white space before it, so that a removed one leaves no double space behind.
        starts = [0] + [end for _, end in spans[:-1]]
        on = [text[start:end] for start, (_, end) in zip(starts, spans, strict=True)]
        off = [text[start:begin] + self.replacement if self.replacement else "" for start, (begin, _) in zip(starts, spans, strict=True)]
        return on, off

    def pool(self, i: int, values: np.ndarray, axes: tuple[str, ...]) -> np.ndarray:
        if len(values) == self.players(i):
            return values.reshape(-1)
        if axes != ("word",) or len(values) != len(self._words[i]):
            raise InvalidInput(f"{len(values)} values on {', '.join(axes)} cannot be brought to the {self.players(i)} parts of text {i}.")
        ends = [end for _, end in self.spans[i]]
        owner = [min(int(np.searchsorted(ends, start, side="right")), len(ends) - 1) for start, _ in self._words[i]]
        return np.bincount(owner, weights=values.reshape(-1), minlength=len(ends))

    def extras(self, i: int) -> dict[str, np.ndarray]:
        return {"spans": np.array(self.spans[i], dtype=np.int64).reshape(-1, 2)}
