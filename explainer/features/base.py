"""``Features``: how one batch of inputs is cut into parts a person can name, and what a part's absence means."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from explainer.inputs import join


class Features(ABC):
    """The players of the coalition games, one game per instance.

    ``axes`` names the feature axes; ``absence`` says in words what replaces an absent part; ``repeats`` is how many model
    rows one coalition takes (the background rows it is averaged over).
    """

    axes: tuple[str, ...]
    absence: str
    repeats: int = 1

    @abstractmethod
    def names(self, i: int) -> tuple[str, ...]:
        """One name per player of instance ``i``."""

    @abstractmethod
    def shape(self, i: int) -> tuple[int, ...]:
        """Sizes along ``axes``; their product is the number of players."""

    @abstractmethod
    def rows(self, i: int, masks: np.ndarray) -> Any:
        """Model inputs for coalitions ``masks`` (m, players) bool: ``m * repeats`` rows, those of one coalition together."""

    def rows_of(self, asks: Sequence[tuple[int, np.ndarray]]) -> Any:
        """Model inputs of several instances' coalitions ``(i, masks)``, one after the other."""
        return join([self.rows(i, masks) for i, masks in asks])

    def row_bytes(self, i: int) -> int:
        """About how many bytes one model row of instance ``i`` takes when it is built."""
        return 1024

    def players(self, i: int) -> int:
        return int(np.prod(self.shape(i)))

    def idle(self, i: int) -> np.ndarray:
        """Players whose absence changes nothing in the input, ``(players,)`` bool: their share of any score is exactly 0."""
        return np.zeros(self.players(i), dtype=bool)

    def pool(self, i: int, values: np.ndarray, axes: tuple[str, ...]) -> np.ndarray:
        """Bring values given on ``axes`` (these, or finer ones such as pixels or time steps) to one number per player."""
        return values.reshape(-1)

    def extras(self, i: int) -> dict[str, Any]:
        """What a plot needs to draw instance ``i``'s players."""
        return {}
