"""Hierarchies of players: nested groups, balanced over neighbours, or clustered by association."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from explainer.errors import InvalidInput
from explainer.features.base import Features
from explainer.features.groups import associations

_FEWEST_ROWS = 8  # of background, for associations to mean something


@dataclass(frozen=True)
class Node:
    """A player, or a group of nodes."""

    children: tuple[Node, ...] = ()
    player: int = -1

    @cached_property
    def players(self) -> np.ndarray:
        if not self.children:
            return np.array([self.player])
        return np.concatenate([child.players for child in self.children])

    def walk(self) -> Iterator[Node]:
        """The node and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()

    def cost(self) -> int:
        """Coalitions needed for the exact values: at a group of m, its 2^m sets of children for each set of those beside its ancestors."""
        total, level = 2, [(self, 1)]
        while level:
            node, contexts = level.pop()
            if node.children:
                total += contexts * (2 ** len(node.children) - 2)
                level += [(child, contexts * 2 ** (len(node.children) - 1)) for child in node.children]
        return total

    def order(self, rng: np.random.Generator) -> np.ndarray:
        """A random order of the players in which every group stays together."""
        if not self.children:
            return self.players
        return np.concatenate([self.children[j].order(rng) for j in rng.permutation(len(self.children))])

    def among(self, live: np.ndarray) -> Node:
        """The hierarchy of the players ``live`` alone, numbered as they stand there; groups of one give way to their member."""
        number = {int(player): j for j, player in enumerate(live)}

        def cut(node: Node) -> Node | None:
            if not node.children:
                return Node(player=number[node.player]) if node.player in number else None
            kept = tuple(child for child in map(cut, node.children) if child is not None)
            return kept[0] if len(kept) == 1 else Node(kept) if kept else None

        return cut(self) or Node((), -1)


def build(features: Features, i: int, groups: Any, background: Any) -> Node:
    """The hierarchy of instance ``i``'s players.

    ``groups``: "auto", a mapping from a group to its parts, or nested lists of parts; parts by name or number, each once. Parts that are
    not named stand alone. "auto": tables by clustering columns by their association in the background (average linkage), texts by
    halving, pictures by halving along the longer side, series by halving time, then channels.
    """
    if not (isinstance(groups, str) and groups == "auto"):
        return _given(features.names(i), groups)
    if features.axes == ("column",) and background is not None and len(background) >= _FEWEST_ROWS:
        found = _clustered(features, background)
        if found is not None:
            return found
    return _halved(np.arange(features.players(i)), _places(features, i))


def _given(names: Sequence[str], groups: Any) -> Node:
    if isinstance(groups, str) or not isinstance(groups, (Mapping, Sequence)):
        raise InvalidInput(f"groups={groups!r} is not understood; use 'auto', a mapping group -> parts, or nested lists of parts.")
    seen: list[int] = []

    def node(part: Any) -> Node:
        if isinstance(part, Mapping):
            return node(list(part.values()))
        if isinstance(part, (list, tuple)):
            children = tuple(node(member) for member in part)
            if not children:
                raise InvalidInput("groups= holds an empty group.")
            return children[0] if len(children) == 1 else Node(children)
        player = list(names).index(part) if part in names else part
        if isinstance(player, bool) or not isinstance(player, (int, np.integer)) or not 0 <= player < len(names):
            raise InvalidInput(f"groups= names a part that does not exist: {part!r}; the parts are {', '.join(names[:30])}.")
        if player in seen:
            raise InvalidInput(f"groups= names {names[int(player)]!r} twice.")
        seen.append(int(player))
        return Node(player=int(player))

    top = node(groups)
    alone = tuple(Node(player=j) for j in range(len(names)) if j not in seen)
    if not alone:
        return top
    return Node((*(top.children if isinstance(groups, (Mapping, list, tuple)) and top.children and _several(groups) else (top,)), *alone))


def _several(groups: Any) -> bool:
    """Whether the outermost level holds several groups, rather than being one group itself."""
    return len(groups) > 1


def _clustered(features: Features, background: Any) -> Node | None:
    """Average linkage on one minus the strongest association between the columns of two players."""
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    columns, members = [str(c) for c in background.columns], getattr(features, "groups", None)
    if members is None or len(members) < 2:
        return None
    strength = associations(background)
    where = [[columns.index(name) for name in names] for names in members.values()]
    distance = 1 - np.array([[strength[np.ix_(a, b)].max() for b in where] for a in where])
    np.fill_diagonal(distance, 0)
    nodes = [Node(player=j) for j in range(len(where))]
    for a, b, _, _ in linkage(squareform(np.maximum(distance, distance.T), checks=False), "average"):
        nodes.append(Node((nodes[int(a)], nodes[int(b)])))
    return nodes[-1]


def _places(features: Features, i: int) -> np.ndarray:
    """Where each player is, ``(players, dimensions)``."""
    segments = features.extras(i).get("segments")
    if features.axes == ("superpixel",) and segments is not None:
        size = np.maximum(np.bincount(segments.ravel(), minlength=features.players(i)), 1)
        at = np.indices(segments.shape).reshape(2, -1)
        return np.stack([np.bincount(segments.ravel(), weights=axis, minlength=len(size)) / size for axis in at], axis=1)
    # A grid such as time segments x channels: unequal axes are halved the longer first.
    return np.indices(features.shape(i)).reshape(len(features.shape(i)), -1).T.astype(float)


def _halved(players: np.ndarray, places: np.ndarray) -> Node:
    if len(players) == 1:
        return Node(player=int(players[0]))
    own = places[players]
    axis = int(np.ptp(own, axis=0).argmax())
    order = players[np.argsort(own[:, axis], kind="stable")]
    return Node((_halved(order[: len(order) // 2], places), _halved(order[len(order) // 2 :], places)))
