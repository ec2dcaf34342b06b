"""One face for the data of all four modalities, as the checks see them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from explainer.errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd


class View(ABC):
    """Data of one modality, read leniently: nothing in them makes a view raise.

    ``positions[i]`` is where item ``i`` stood in the data as given (unreadable items are left out of the view).
    """

    modality: str
    noun: str
    n: int
    positions: np.ndarray
    held = 0  # items in memory at once, where not all are

    @cached_property
    @abstractmethod
    def keys(self) -> np.ndarray:
        """``(n,)`` uint64 digests of content: equal content gives equal keys, across views of one modality too."""

    @cached_property
    def content(self) -> np.ndarray:
        """``(n,)`` int32: the contents numbered from 0 by first appearance; equal items have the same number."""
        import pandas as pd

        return pd.factorize(self.keys)[0].astype(np.int32)

    @property
    def firsts(self) -> np.ndarray:
        """Where each content first stands, in the order of their numbers."""
        first = np.zeros(int(self.content.max(initial=-1)) + 1, dtype=np.int64)
        first[self.content[::-1]] = np.arange(self.n)[::-1]
        return first

    @cached_property
    @abstractmethod
    def blank(self) -> np.ndarray:
        """``(n,)`` bool: items that hold nothing at all, which the other checks leave alone."""

    @cached_property
    @abstractmethod
    def summary(self) -> pd.DataFrame:
        """``(n, features)`` of figures a person can name; a table's own columns."""

    @cached_property
    @abstractmethod
    def signals(self) -> pd.DataFrame:
        """``(n, features)``: the simplest things that could give a label away."""

    @abstractmethod
    def near(self, other: View | None = None) -> tuple[list[tuple[int, int, float]], float]:
        """Pairs ``(i, j, likeness)`` of unequal items that are nearly the same, and how many pairs chance would give.

        Without ``other``, i < j within this view; with it, i is here and j there.
        """

    @cached_property
    def pairs(self) -> tuple[list[tuple[int, int, float]], float]:
        """What :meth:`near` finds within this view, found once."""
        return self.near()

    @abstractmethod
    def part(self, rows: np.ndarray) -> View:
        """The view of the items ``rows`` alone."""

    def sampled(self, most: int) -> tuple[View, np.ndarray]:
        """The view of ``most`` items drawn at random (always the same ones), and their places in this one, in order."""
        rows = np.sort(np.random.default_rng(0).choice(self.n, most, replace=False))
        return self.part(rows), rows

    @abstractmethod
    def take(self, index: np.ndarray) -> Any:
        """The items ``index`` (ints) in the form in which a model takes them."""

    def whole(self, names: Sequence[str] = ()) -> np.ndarray:
        """``(n,)`` bool: items with nothing missing (of a table, in the columns ``names``) and of the usual shape."""
        return ~self.blank

    def keys_against(self, other: View) -> tuple[np.ndarray, np.ndarray]:
        """Keys of this view's items and of the other's, made to be compared."""
        return self.keys, other.keys

    @abstractmethod
    def chance(self) -> float:
        """How many pairs of exactly equal items chance alone would give."""

    def at(self, index: Any) -> list[int]:
        """The positions, in the data as given, of the items ``index`` (ints or a mask)."""
        index = np.asarray(index)
        return self.positions[np.flatnonzero(index) if index.dtype == bool else index.astype(int)].tolist()

    @property
    def aside(self) -> str:
        """What is left out when items are compared, in words."""
        return ""

    def show(self, index: int) -> str:
        """A short text by which a person recognises one item."""
        return f"{self.noun} {int(self.positions[index])}"


@dataclass(frozen=True)
class Reading:
    """A view, and what did not come into it."""

    view: View
    unreadable: tuple[tuple[str, str], ...]  # (which, why)
    lost: tuple[int, ...]  # the places of those
    attempted: int  # all items met
    kept: np.ndarray  # the places of the view's items in the inputs
    given: int  # how many inputs those were

    def align(self, size: int, what: str) -> np.ndarray:
        """Which of ``size`` values, one per item, belong to the view's items. Raises InvalidInput where the sizes do not fit."""
        if size == self.view.n:
            return np.arange(size)
        if size == self.given:
            return self.kept
        if size == self.attempted and self.view.positions.max(initial=-1) < size:
            return self.view.positions
        raise InvalidInput(f"{size:,} {what} came for {self.attempted:,} items; pass exactly one per item, in the same order.")


def digest(data: bytes) -> int:
    """64 bits of a content's digest; chance collisions among a million items: under 1 in 10 million."""
    import hashlib

    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
