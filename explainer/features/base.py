"""``Features``: how one batch of inputs is cut into parts a person can name, and what a part's absence means."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from explainer.errors import InvalidInput, unknown
from explainer.inputs import join, take

GIVEN_ROWS = 500  # of a background given for this explanation: the person chose its size


@dataclass(frozen=True)
class Cells:
    """What rows are put together from, cell by cell: the instance where the cell's player is present, else a stand-in.

    ``own``: canonical inputs, one per instance. ``away``: canonical stand-ins, one per instance, or ``shared``: each coalition takes
    all of them in turn. ``players``: the player of each cell, ``(columns,)`` once or ``(H, W)`` per instance.
    """

    own: Any
    away: Any
    shared: bool
    players: Sequence[np.ndarray]


class Features(ABC):
    """The players of the coalition games, one game per instance.

    ``axes`` names the feature axes; ``absence`` says in words what replaces an absent part; ``repeats`` is how many model
    rows one coalition takes (the background rows it is averaged over). ``conditional``: what replaces an absent part depends
    on which others are present. ``notes`` say what was decided for the person; ``thinned`` says so where what stands in was drawn
    from more.
    """

    axes: tuple[str, ...]
    absence: str
    repeats: int = 1
    conditional: bool = False
    notes: tuple[str, ...] = ()
    thinned: str = ""

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
        parts = [self.rows(i, masks) for i, masks in asks]
        return parts[0] if len(parts) == 1 else join(parts)

    def cells(self) -> Cells | None:
        """How rows are put together where that is a choice per cell between two known inputs, else None."""
        return None

    @abstractmethod
    def row_bytes(self, i: int) -> int:
        """About how many bytes one model row of instance ``i`` takes while it is built."""

    def players(self, i: int) -> int:
        return math.prod(self.shape(i))

    def idle(self, i: int) -> np.ndarray:
        """Players whose absence provably changes nothing in the input, ``(players,)`` bool: their share of any score is exactly 0."""
        return np.zeros(self.players(i), dtype=bool)

    def pool(self, i: int, values: np.ndarray, axes: tuple[str, ...]) -> np.ndarray:
        """Bring values given on ``axes`` (these, or finer ones such as pixels or time steps) to one number per player."""
        return values.reshape(-1)

    def extras(self, i: int) -> dict[str, Any]:
        """What a plot needs to draw instance ``i``'s players."""
        return {}


def word_and_number(kind: str, given: Any, valid: Sequence[str], numbered: Sequence[str] = ()) -> tuple[str, float | None]:
    """Read ``"word"`` or ``("word", number)``; only the words ``numbered`` take a number. Raises UnknownName, InvalidInput."""
    word, number = given if isinstance(given, tuple) and len(given) == 2 else (given, None)
    if word not in valid:
        raise unknown(kind, word, valid)
    if number is None:
        return word, None
    if word not in numbered:
        can = f"; {', '.join(map(repr, numbered))} can" if numbered else ""
        raise InvalidInput(f"{kind} {word!r} takes no number ({number!r} came){can}.")
    if isinstance(number, bool) or not isinstance(number, (int, float, np.integer, np.floating)) or not 0 < number < np.inf:
        raise InvalidInput(f"{kind} ({word!r}, {number!r}): the second must be a number above 0.")
    return word, float(number)


def drawn(background: Any, most: int, seed: int) -> Any:
    """The background, or ``most`` of its rows drawn with ``seed``."""
    if len(background) <= most:
        return background
    return take(background, np.sort(np.random.default_rng(seed).choice(len(background), most, replace=False)))


def thinned(used: int, of: int, kind: str = "rows") -> str:
    """The note that stand-ins were drawn from a background, where they were."""
    if used == of:
        return ""
    return (
        f"{used:,} of the {of:,} background {kind} were drawn, as each costs a row of the model per evaluation; another draw gives other "
        f"values, which no standard error counts. background= to explain() takes up to {GIVEN_ROWS}."
    )
