"""Texts as the checks see them: strings, their words and pieces."""

from __future__ import annotations

import re
from collections import Counter
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from explainer.checks.columns import normalised
from explainer.checks.neighbours import close_texts, shingles
from explainer.checks.view import View, digest

WORD = re.compile(r"\w+(?:['’]\w+)?")
SIGNAL_WORDS = 3_000  # the most frequent words tried one by one; a rarer one cannot give many labels away
DRIFT_WORDS = 200  # and of these, those compared between two sets


class TextView(View):
    """Texts; a missing one is empty."""

    modality = "text"
    noun = "text"

    def __init__(self, texts: list[str | None], positions: np.ndarray) -> None:
        self.absent = np.array([t is None for t in texts], dtype=bool)
        self.texts = [t or "" for t in texts]
        self.n = len(texts)
        self.positions = positions

    @cached_property
    def keys(self) -> np.ndarray:
        return np.array([digest(t.encode("utf-8", "surrogatepass")) for t in self.texts], dtype=np.uint64)

    @cached_property
    def blank(self) -> np.ndarray:
        return np.array([not t.strip() for t in self.texts], dtype=bool)

    def take(self, index: np.ndarray) -> list[str]:
        return [self.texts[i] for i in index]

    @cached_property
    def words(self) -> list[list[str]]:
        return [WORD.findall(t.lower()) for t in self.texts]

    @cached_property
    def pieces(self) -> list[np.ndarray]:
        return [shingles(normalised(t)) for t in self.texts]

    @cached_property
    def frequency(self) -> Counter[str]:
        """In how many texts each word stands."""
        counts: Counter[str] = Counter()
        for words in self.words:
            counts.update(set(words))
        return counts

    @cached_property
    def summary(self) -> pd.DataFrame:
        size = np.array([len(t) for t in self.texts], dtype=float)
        words = np.array([len(w) for w in self.words], dtype=float)
        letters = np.maximum(size, 1)
        frequency = self.frequency
        lone = np.array([sum(frequency[w] == 1 for w in set(words)) for words in self.words], dtype=float)
        figures = {
            "characters": size,
            "words": words,
            "letters in a word": np.array([sum(map(len, w)) for w in self.words]) / np.maximum(words, 1),
            "share of capitals": np.array([sum(map(str.isupper, t)) for t in self.texts]) / letters,
            "share of digits": np.array([sum(map(str.isdigit, t)) for t in self.texts]) / letters,
            "share of signs": np.array([sum(not (c.isalnum() or c.isspace()) for c in t) for t in self.texts]) / letters,
            "share of words in no other text": lone / np.maximum(np.array([len(set(w)) for w in self.words]), 1),
        }
        frame = pd.DataFrame(figures, index=range(self.n))
        return frame.mask(np.repeat(self.blank[:, None], frame.shape[1], axis=1))

    @cached_property
    def signals(self) -> pd.DataFrame:
        return self.summary.drop(columns="share of words in no other text")

    def presence(self, vocabulary: list[str]) -> Any:
        """Sparse ``(n, words)`` 0/1 matrix: which text holds which word."""
        from scipy.sparse import csr_array

        index = {word: k for k, word in enumerate(vocabulary)}
        hits = [[index[w] for w in set(words) if w in index] for words in self.words]
        ends = np.cumsum([0] + [len(h) for h in hits])
        columns = np.concatenate([np.array(h, dtype=np.int64) for h in hits]) if hits else np.zeros(0, dtype=np.int64)
        return csr_array((np.ones(len(columns), dtype=np.int64), columns, ends), shape=(self.n, len(vocabulary)))

    def near(self, other: View | None = None) -> tuple[list[tuple[int, int, float]], float]:
        if isinstance(other, TextView):
            found = close_texts([*self.pieces, *other.pieces], self.n)
            theirs = set(other.keys.tolist())
            return [(i, j, s) for i, j, s in found if int(self.keys[i]) not in theirs], 0.0
        kept = np.sort(np.unique(self.keys, return_index=True)[1])
        return [(int(kept[i]), int(kept[j]), s) for i, j, s in close_texts([self.pieces[k] for k in kept])], 0.0

    def part(self, rows: np.ndarray) -> TextView:
        return TextView([None if self.absent[r] else self.texts[r] for r in rows], self.positions[rows])

    def chance(self) -> float:
        return 0.0

    def show(self, index: int) -> str:
        text = " ".join(self.texts[index].split())
        return text if len(text) <= 80 else text[:77] + "..."


def texts_of(items: Any) -> tuple[list[str | None], list[int], list[tuple[int, str]]]:
    """The texts (None where one is missing), their places, and the items that are not texts; never raises."""
    texts: list[str | None] = []
    places: list[int] = []
    bad: list[tuple[int, str]] = []
    for i, item in enumerate(items):
        if isinstance(item, str):
            texts.append(str(item))
        elif item is None or item is pd.NA or (isinstance(item, float) and item != item):
            texts.append(None)
        elif isinstance(item, bytes):
            texts.append(item.decode("utf-8", "replace"))
        else:
            bad.append((i, f"not a text but {type(item).__name__}"))
            continue
        places.append(i)
    return texts, places, bad
