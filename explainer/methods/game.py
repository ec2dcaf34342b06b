"""The coalition game of one instance, and how several games are played in one stream of scores."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from explainer.coalitions import Clock, Coalitions

# Masks x players asked for at once, over the instances scored together: their arrays stay in the tens of megabytes.
CELLS = 1_000_000


@dataclass(frozen=True)
class Answer:
    """Values and standard errors ``(players that can matter, k)``, and the score ``(k,)`` of the empty coalition."""

    values: np.ndarray
    stderr: np.ndarray
    empty: np.ndarray
    extra: Any = None

    @staticmethod
    def unknown(d: int, k: int) -> Answer:
        """Nothing could be said: too few coalitions were scored."""
        return Answer(np.full((d, k), np.nan), np.full((d, k), np.nan), np.full(k, np.nan))


# Asks for the scores of masks (m, d) and is sent (m, k), NaN where a coalition was not scored; ends in an Answer.
Play = Generator[np.ndarray, np.ndarray, Answer]


class Game:
    """The game of instance ``i`` among the ``d`` players that can change its score."""

    def __init__(self, coalitions: Coalitions, i: int) -> None:
        self.i = i
        self._features = coalitions.features
        self.live = np.flatnonzero(~self._features.idle(i))
        self.d = len(self.live)

    def full(self, masks: np.ndarray) -> np.ndarray:
        """Masks ``(m, d)`` as masks of all players; those that change nothing are always there."""
        every = np.ones((len(masks), self._features.players(self.i)), dtype=bool)
        every[:, self.live] = masks
        return every

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Values ``(d, k)`` as ``(*feature axes, k)``, 0 for players that change nothing."""
        every = np.zeros((self._features.players(self.i), values.shape[1]))
        every[self.live] = values
        return every.reshape(*self._features.shape(self.i), -1)


def play(coalitions: Coalitions, n: int, start: Callable[[Game, Clock], Play], cost: Callable[[Game], int]) -> list[Answer]:
    """The answers of ``n`` instances' games; ``start(game, clock)`` begins one, ``cost(game)`` is how many masks it will ask for.

    Games of one size follow each other, so that what depends on the size alone is worked out once, and as many as memory
    likes are scored together. No answer depends on which games stand beside it.
    """
    games = [Game(coalitions, i) for i in range(n)]
    coalitions.plan(sum(cost(game) for game in games))
    answers: dict[int, Answer] = {}
    for group in _groups(sorted(games, key=lambda game: game.d), cost):
        # A group's share of the seconds that are left, as long as it is a share of the instances that are left.
        clock = coalitions.clock(max(1, (n - len(answers)) // len(group)))
        plays = {game.i: start(game, clock) for game in group}
        _together(coalitions, {game.i: game for game in group}, plays, answers)
        for game in group:
            coalitions.forget(game.i)
    return [answers[i] for i in range(n)]


def _groups(games: Sequence[Game], cost: Callable[[Game], int]) -> Iterator[list[Game]]:
    group: list[Game] = []
    cells = 0
    for game in games:
        own = max(1, cost(game) * game.d)
        if group and cells + own > CELLS:
            yield group
            group, cells = [], 0
        group.append(game)
        cells += own
    if group:
        yield group


def _together(coalitions: Coalitions, games: dict[int, Game], plays: dict[int, Play], answers: dict[int, Answer]) -> None:
    asked = {i: next(one) for i, one in plays.items()}
    while asked:
        scores = coalitions.gather([(i, games[i].full(masks)) for i, masks in asked.items()], in_turn=True)
        following: dict[int, np.ndarray] = {}
        for i, values in zip(asked, scores, strict=True):
            try:
                following[i] = plays[i].send(values)
            except StopIteration as end:
                answers[i] = end.value
        asked = following


def known_exactly(answers: Sequence[Answer]) -> bool:
    """Whether no value has an error: an enumeration that was stopped has, and one without values says nothing."""
    return not any(np.nan_to_num(answer.stderr).any() for answer in answers)


def ends(d: int) -> np.ndarray:
    """The empty and the full coalition."""
    return np.array([[False] * d, [True] * d])


def told(scores: np.ndarray) -> np.ndarray:
    """Which coalitions ``(m,)`` were scored."""
    return np.isfinite(scores).all(axis=1)
