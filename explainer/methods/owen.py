"""Owen values: Shapley values whose coalitions respect a hierarchy of groups; exact, split where it matters most, or sampled."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from explainer.coalitions import Budget, Clock, Coalitions
from explainer.errors import unknown
from explainer.explanation import Check, grade
from explainer.methods import hierarchy
from explainer.methods.attribution import Attribution
from explainer.methods.game import Answer, Game, Play, ends, play, told
from explainer.methods.hierarchy import Node
from explainer.methods.sampling import permutation

ALGORITHMS = ("auto", "splitting", "orders")
_MOST_CHILDREN = 12  # of a group whose sets of children are all scored
_BATCH = 64  # coalitions asked for at once, at least
_SHARED_PASS, _SHARED_WARN = 0.05, 0.25


def owen(
    model: Any, inputs: Any, target: Any, *, coalitions: Coalitions, background: Any, seed: int, groups: Any = "auto",
    algorithm: str = "auto",
) -> Attribution:  # fmt: skip
    r"""Owen values: each part's mean contribution over all orders in which the parts of every group stand together.

    .. math:: \phi_i = \sum_{S \subseteq \text{siblings}} \frac{|S|!\,(m-|S|-1)!}{m!}\,[v(C \cup S \cup i) - v(C \cup S)]

    averaged in the same way over the contexts C, the sets of siblings of each group that i is in. Owen (1977) for groups,
    Winter (1989) for hierarchies; on a binary hierarchy this is what shap's PartitionExplainer aims at. Values sum to score
    minus base, always. They answer another question than Shapley values: within a group, parts are credited as a team.

    Where the budget covers all coalitions of the hierarchy, values are exact. Else the hierarchy is split where the most is at
    stake: what is left of a group when the budget ends is shared evenly among its parts, the check "splitting" says how much
    that is, and each part's share is given as its error. Or antithetic pairs of orders are sampled, with standard errors.

    Parameters
    ----------
    groups : "auto", a mapping from a group to its parts, or nested lists of parts (names or numbers); parts not named stand alone.
        "auto" clusters a table's columns by their association in the background, and halves texts, pictures and series into
        neighbours.

    algorithm : "splitting" for groups of up to 12 each, "orders", or "auto": orders for tables, whose columns differ within their
        groups, splitting for neighbours in texts, pictures and series, which are much alike.

    Raises InvalidInput for groups that do not fit, UnknownName for another algorithm.
    """
    if algorithm not in ALGORITHMS:
        raise unknown("owen algorithm", algorithm, ALGORITHMS)
    features, budget, n = coalitions.features, coalitions.budget, len(inputs)
    # The columns of a table are the same for every row.
    one = hierarchy.build(features, 0, groups, background) if features.axes == ("column",) else None
    trees: dict[int, Node] = {}
    used: dict[int, str] = {}

    def tree(game: Game) -> Node:
        if game.i not in trees:
            trees[game.i] = (one or hierarchy.build(features, game.i, groups, background)).among(game.live)
        return trees[game.i]

    def start(game: Game, clock: Clock) -> Play:
        used[game.i] = how = _way(tree(game), game.d, budget, algorithm, features.axes)
        if how == "orders":
            return permutation(game.d, budget, clock, seed, tree(game).order)
        return _split(tree(game), game.d, budget, clock)

    answers = play(coalitions, n, start, lambda game: min(tree(game).cost(), budget.evaluations))
    made = [Game(coalitions, i) for i in range(n)]
    exact = all(answer.extra is not None and answer.extra == 0 for answer in answers)
    return Attribution(
        [game.spread(answer.values) for game, answer in zip(made, answers, strict=True)],
        features.axes,
        [features.names(i) for i in range(n)],
        base=np.stack([answer.empty for answer in answers]),
        stderr=None if exact else [game.spread(answer.stderr) for game, answer in zip(made, answers, strict=True)],
        evaluations=coalitions.evaluations,
        checks=[_check(answer) for answer in answers],
        parameters={"algorithm": " and ".join(sorted(set(used.values()))), "groups": str(groups)[:200], "absence": features.absence},
    )


def _way(tree: Node, d: int, budget: Budget, wanted: str, axes: tuple[str, ...]) -> str:
    if d < 2 or (tree.cost() <= budget.evaluations and not budget.adaptive):
        return "exact"
    if wanted == "auto":
        wanted = "orders" if axes == ("column",) else "splitting"
    return wanted if max(len(node.children) for node in tree.walk()) <= _MOST_CHILDREN else "orders"


def _check(answer: Answer) -> dict[str, Check]:
    if answer.extra is None:
        return {}
    share = float(answer.extra)
    status = grade(share, _SHARED_PASS, _SHARED_WARN)
    reason = (
        "Every group was split down to single parts."
        if share == 0
        else f"{share:.1%} of the values is shared evenly inside groups that the budget did not split; a larger budget splits them."
    )
    return {"splitting": Check("splitting", status, reason, share, _SHARED_PASS)}


class _Task:
    """A group in one context: what it adds there, with its weight in the values, is to be divided among its children."""

    def __init__(self, node: Node, context: np.ndarray, weight: float, low: np.ndarray, high: np.ndarray) -> None:
        self.node, self.context, self.weight, self.low, self.high = node, context, weight, low, high

    @property
    def gain(self) -> np.ndarray:
        return self.weight * (self.high - self.low)

    @property
    def stake(self) -> float:
        return float(np.abs(self.gain).max())

    def masks(self) -> np.ndarray:
        """The context with each set of children but none and all, by the number whose bits say which children are there."""
        m = len(self.node.children)
        masks = np.repeat(self.context[None], 2**m - 2, axis=0)
        for s in range(1, 2**m - 1):
            for j in range(m):
                if s >> j & 1:
                    masks[s - 1, self.node.children[j].players] = True
        return masks

    def split(self, scores: np.ndarray) -> list[_Task]:
        """The children's tasks in every set of their siblings."""
        m = len(self.node.children)
        v, masks = np.concatenate([self.low[None], scores, self.high[None]]), np.concatenate([self.context[None], self.masks()])
        weight = [1 / (m * math.comb(m - 1, s)) for s in range(m)]
        return [
            _Task(child, masks[s], self.weight * weight[s.bit_count()], v[s], v[s | 1 << j])
            for j, child in enumerate(self.node.children)
            for s in range(2**m - 1)
            if not s >> j & 1
        ]


def _split(tree: Node, d: int, budget: Budget, clock: Clock) -> Play:
    """Each output is split for itself, so that its values are the same alone and among others; what they share is scored once."""
    scores = yield ends(d)
    if not told(scores).all():
        return Answer.unknown(d, scores.shape[1])
    parts = []
    for column in range(scores.shape[1]):
        parts.append((yield from _split_one(tree, d, budget, clock, scores[:, [column]], column)))
    values, errors = (np.concatenate([getattr(part, name) for part in parts], axis=1) for name in ("values", "stderr"))
    return Answer(values, errors, scores[0], max(part.extra for part in parts))


def _split_one(tree: Node, d: int, budget: Budget, clock: Clock, both: np.ndarray, column: int) -> Play:
    """Split the groups with the most at stake, until nothing is left to split or the budget is spent."""
    empty, full = both
    phi = np.zeros((d, len(empty)))
    waiting = [_Task(tree, np.zeros(d, dtype=bool), 1.0, empty, full)] if d else []
    left = budget.evaluations - 2
    while True:
        for task in [task for task in waiting if not task.node.children]:
            phi[task.node.player] += task.gain
        waiting = sorted((task for task in waiting if task.node.children), key=lambda task: -task.stake)
        if not waiting or clock.over or _fine(waiting, phi, budget):
            break
        now, asked = [], 0
        for task in waiting:
            size = 2 ** len(task.node.children) - 2
            if size <= left and asked < max(_BATCH, left // 8):
                now.append(task)
                asked, left = asked + size, left - size
        if not now:
            break
        scores = (yield np.concatenate([task.masks() for task in now]))[:, [column]]
        start, taken = 0, set(map(id, now))
        waiting = [task for task in waiting if id(task) not in taken]
        stopped = False
        for task in now:
            stop = start + 2 ** len(task.node.children) - 2
            if told(scores[start:stop]).all():
                waiting += task.split(scores[start:stop])
            else:
                waiting.append(task)
                stopped = True
            start = stop
        if stopped:
            for task in [task for task in waiting if not task.node.children]:
                phi[task.node.player] += task.gain
            waiting = [task for task in waiting if task.node.children]
            break
    error = _share_evenly(waiting, phi)
    shared, size = error.sum(), np.abs(phi).sum()
    return Answer(phi, error, empty, float(shared / size) if size > 0 else 0.0)


def _fine(waiting: list[_Task], phi: np.ndarray, budget: Budget) -> bool:
    if budget.error is None:
        return False
    even = phi.copy()
    error = _share_evenly(waiting, even)
    return bool((1.96 * error.max(axis=0) <= budget.error * np.abs(even).max(axis=0)).all())


def _share_evenly(waiting: list[_Task], phi: np.ndarray) -> np.ndarray:
    """Add what is not split to its parts in equal shares; gives the sizes of those shares ``(d, k)``."""
    error = np.zeros_like(phi)
    for task in waiting:
        players = task.node.players
        phi[players] += task.gain / len(players)
        error[players] += np.abs(task.gain) / len(players)
    return error
