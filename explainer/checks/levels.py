"""The distinct strings of one column: a million of them without a million Python objects, compared and matched in bulk."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

CHUNK = 10_000  # made into Python strings at a time

_NUMBER = re.compile(r"^\s*[+-]?(\d[\d,]*\.?\d*|\.\d+)([eE][+-]?\d+)?\s*%?\s*$")
_PUNCTUATION = re.compile(r"[\W_]+")
_SPACE = re.compile(r"[\s_]+")
# the same three for ASCII, as arrow's regular expressions write them
_NUMBER_ASCII = r"^[\s\x0b\x1c-\x1f]*[+-]?([0-9][0-9,]*\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?[\s\x0b\x1c-\x1f]*%?[\s\x0b\x1c-\x1f]*$"
_PUNCTUATION_ASCII = r"[^0-9a-z]+"
_SPACE_ASCII = r"[\s_\x0b\x1c-\x1f]+"


class Levels(Sequence[str]):
    """Distinct strings, in arrow's memory where they are valid Unicode, as Python's where they are not."""

    def __init__(self, strings: Any = ()) -> None:
        try:
            array = pa.array(strings, type=pa.large_string(), from_pandas=False)
            self.arrow: pa.Array | None = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
            self.strings: list[str] = []
        except (UnicodeError, pa.ArrowException):  # a lone surrogate
            self.arrow, self.strings = None, [str(s) for s in strings]

    def __len__(self) -> int:
        return len(self.strings) if self.arrow is None else len(self.arrow)

    def __getitem__(self, index: Any) -> Any:
        if self.arrow is None:
            return self.strings[index]
        if isinstance(index, slice):
            return self.arrow[index].to_pylist()
        return self.arrow[range(len(self))[index]].as_py()

    def __iter__(self) -> Iterator[str]:
        if self.arrow is None:
            yield from self.strings
            return
        for start in range(0, len(self), CHUNK):
            yield from self.arrow.slice(start, CHUNK).to_pylist()

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.array(list(self), dtype=object)

    @property
    def as_index(self) -> pd.Index:
        """As a pandas index, of pandas' own strings where these can hold them."""
        return pd.Index(self.strings, dtype=object) if self.arrow is None else pd.Index(pd.array(self.arrow, dtype="str"))

    def take(self, places: np.ndarray) -> Levels:
        return Levels([self.strings[i] for i in places] if self.arrow is None else self.arrow.take(pa.array(places)))

    @property
    def filled(self) -> np.ndarray:
        """``(levels,)`` bool: not of white space alone."""
        if self.arrow is None:
            return np.array([bool(s.strip()) for s in self.strings], dtype=bool)
        return pc.not_equal(pc.utf8_trim_whitespace(self.arrow), "").to_numpy(zero_copy_only=False)

    @property
    def hashes(self) -> np.ndarray:
        """``(levels,)`` uint64, equal for equal strings in any table."""
        plain = [s.encode("utf-8", "backslashreplace").decode() for s in self] if self.arrow is None else self.arrow.to_numpy(False)
        return pd.util.hash_array(np.asarray(plain, dtype=object), categorize=False)

    @property
    def numeric(self) -> np.ndarray:
        """``(levels,)`` bool: a number as people write them."""
        return self._in_bulk(lambda arrow: pc.match_substring_regex(arrow, _NUMBER_ASCII), lambda s: bool(_NUMBER.match(s)), pa.bool_())

    def among(self, words: Collection[str]) -> list[int]:
        """The places of the strings that, case and outer space aside, are one of ``words``."""
        if self.arrow is None:
            return [i for i, s in enumerate(self.strings) if s.strip().lower() in words]
        bare = pc.utf8_lower(pc.utf8_trim_whitespace(self.arrow))
        return np.flatnonzero(pc.is_in(bare, pa.array(sorted(words), type=bare.type)).to_numpy(zero_copy_only=False)).tolist()

    def alike(self, punctuation: bool = True) -> np.ndarray:
        """``(levels,)`` int: the same number for strings that differ only in case, accents and space (and, if told, in punctuation)."""
        pattern, write = (_PUNCTUATION_ASCII, normalised) if punctuation else (_SPACE_ASCII, spelled)

        def bulk(arrow: pa.Array) -> pa.Array:
            bare = pc.utf8_trim_whitespace(pc.replace_substring_regex(pc.utf8_lower(arrow), pattern, " "))
            return pc.if_else(pc.equal(bare, ""), pc.utf8_trim_whitespace(arrow), bare)

        return pd.factorize(self._in_bulk(bulk, write, pa.large_string()))[0]

    def _in_bulk(self, fast: Callable[[pa.Array], pa.Array], slow: Callable[[str], Any], kind: Any) -> Any:
        """ASCII strings, nearly all there are, by arrow; the others one by one."""
        if self.arrow is None:
            return np.array([slow(s) for s in self.strings], dtype=bool if kind == pa.bool_() else object)
        found, other = fast(self.arrow), pc.invert(pc.string_is_ascii(self.arrow))
        if pc.any(other).as_py():
            found = pc.replace_with_mask(found, other, pa.array([slow(s) for s in self.arrow.filter(other).to_pylist()], type=kind))
        return found.to_numpy(zero_copy_only=False) if kind == pa.bool_() else pd.array(found, dtype="str")


def parses(text: str) -> bool:
    """Whether a text is a number as people write them."""
    return bool(_NUMBER.match(text))


def normalised(text: str) -> str:
    """A text without case, accents, punctuation and repeated space: what two spellings of one value share."""
    return _PUNCTUATION.sub(" ", _bare(text)).strip() or text.strip()


def spelled(text: str) -> str:
    """The same with its punctuation: signs carry meaning in short codes (A+ and A-, <5 and >5)."""
    return _SPACE.sub(" ", _bare(text)).strip() or text.strip()


def _bare(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)).casefold()
