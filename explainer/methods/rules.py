"""The search for a rule: candidates grown part by part and told apart by KL-LUCB, on draws that many rules share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

DOUBT = 0.05  # delta: how often the search may be wrong
APART = 0.1  # epsilon: candidates closer than this count as equally good
_BATCH = 32


class Draws:
    """Copies drawn so far: under which rule, what they keep, and whether they agree with the input.

    A copy drawn under ``R`` that keeps ``K`` is a fair draw under every rule ``A`` with ``R`` in ``A`` in ``K``, because the
    parts outside ``R`` were drawn independently.
    """

    def __init__(self, under: np.ndarray, kept: np.ndarray, agree: np.ndarray) -> None:
        self._under, self._kept, self._agree = under.astype(np.float32), kept.astype(np.float32), agree

    def add(self, under: np.ndarray, kept: np.ndarray, agree: np.ndarray) -> None:
        self._under = np.concatenate([self._under, under.astype(np.float32)])
        self._kept = np.concatenate([self._kept, kept.astype(np.float32)])
        self._agree = np.concatenate([self._agree, agree])

    def tally(self, rules: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How many draws each of ``rules`` (c, d) has, and how many of them agree: ``(agreeing, draws)``, each (c,)."""
        columns = rules.T.astype(np.float32)
        fair = (self._kept @ columns == columns.sum(axis=0)) & (self._under @ columns == self._under.sum(axis=1)[:, None])
        return (fair & self._agree[:, None]).sum(axis=0).astype(float), fair.sum(axis=0).astype(float)

    def along(self, order: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """The tallies of no rule, and of the rule after each of its parts ``order``."""
        rules = np.zeros((len(order) + 1, self._kept.shape[1]), dtype=bool)
        for step, part in enumerate(order):
            rules[step + 1 :, part] = True
        return self.tally(rules)


def search(
    draws: Draws, draw: Callable[[np.ndarray], tuple[np.ndarray, ...]], live: np.ndarray, coverage: Callable[[np.ndarray], np.ndarray],
    limits: Any, left: int,
) -> tuple[list[int], bool]:  # fmt: skip
    """The parts of the rule in the order they joined, and whether its precision is at least ``limits.precision``.

    At most ``left`` copies more are drawn, by ``draw(rules)``, one under each. Without a rule that is precise enough, the one
    with the highest lower bound.
    """
    purse = _Purse(draws, draw, left)
    d = draws._kept.shape[1]
    if purse.settled(np.zeros(d, dtype=bool), limits.precision, left // 4):
        return [], True
    beam: list[list[int]] = [[]]
    best: tuple[float, list[int]] = (-1.0, [])
    for _ in range(min(limits.parts, len(live))):
        rules, orders = _grown(beam, live, d)
        share = max(_BATCH, purse.left // 4)
        top = _best_arms(purse, rules, limits.beam, share)
        beam = [orders[c] for c in top]
        precise = [c for c in top if purse.settled(rules[c], limits.precision, share // limits.beam)]
        hits, total = draws.tally(rules[top])
        lows = bounds(hits, total, np.log(1 / DOUBT))[0]
        if precise:
            widest = coverage(rules[precise])
            return orders[precise[int(np.argmax(widest))]], True
        if lows.max() > best[0]:
            best = (float(lows.max()), beam[int(lows.argmax())])
        if purse.left <= 0:
            break
    return best[1], False


class _Purse:
    """Draws, and how many more may be made."""

    def __init__(self, draws: Draws, draw: Callable[[np.ndarray], tuple[np.ndarray, ...]], left: int) -> None:
        self.draws, self._draw, self.left = draws, draw, left

    def spend(self, rules: np.ndarray) -> bool:
        """Draw one copy under each of ``rules`` while there is anything left; whether any came."""
        rules = rules[: max(0, self.left)]
        if not len(rules):
            return False
        self.left -= len(rules)
        under, kept, agree = self._draw(rules)
        self.draws.add(under, kept, agree)
        if not len(agree):  # nothing can be scored any more
            self.left = 0
        return len(agree) > 0

    def settled(self, rule: np.ndarray, precision: float, share: int) -> bool:
        """Whether the rule is at least so precise, by its lower bound; draws while that is open and worth it."""
        while True:
            hits, total = self.draws.tally(rule[None])
            low, high = bounds(hits, total, np.log(1 / DOUBT))
            if low[0] >= precision:
                return True
            hopeless = high[0] < precision or (total[0] and hits[0] / total[0] < precision)
            if hopeless or share <= 0 or not self.spend(np.broadcast_to(rule, (min(_BATCH, share), len(rule)))):
                return False
            share -= _BATCH


def _grown(beam: list[list[int]], live: np.ndarray, d: int) -> tuple[np.ndarray, list[list[int]]]:
    """Every rule with one part more than one of ``beam``, once."""
    orders: dict[frozenset[int], list[int]] = {}
    for order in beam:
        for part in live.tolist():
            if part not in order:
                orders.setdefault(frozenset([*order, part]), [*order, part])
    rules = np.zeros((len(orders), d), dtype=bool)
    for c, members in enumerate(orders):
        rules[c, list(members)] = True
    return rules, list(orders.values())


def _best_arms(purse: _Purse, rules: np.ndarray, count: int, share: int) -> list[int]:
    """Indices of the ``count`` most precise rules by KL-LUCB: draw where a good one and a bad one are hardest to tell apart."""
    for turn in range(1, share // _BATCH + 2):
        hits, total = purse.draws.tally(rules)
        mean = np.where(total > 0, hits / np.maximum(total, 1), 0.5)
        ranked = np.lexsort((-total, -mean))
        top, rest = ranked[:count], ranked[count:]
        if not len(rest) or turn > share // _BATCH:
            break
        low, high = bounds(hits, total, np.log(405.5 * len(rules) * turn**1.1 / DOUBT))
        weakest, strongest = top[low[top].argmin()], rest[high[rest].argmax()]
        if high[strongest] - low[weakest] < APART or not purse.spend(np.repeat(rules[[weakest, strongest]], _BATCH // 2, axis=0)):
            break
    return top.tolist()


def bounds(hits: np.ndarray, total: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    r"""The interval of means :math:`q` with :math:`n \, KL(\hat p, q) \le` ``level``, by bisection."""
    mean = np.where(total > 0, hits / np.maximum(total, 1), 0.5)
    ends = []
    for outer in (0.0, 1.0):
        inside, outside = mean.copy(), np.full_like(mean, outer)
        for _ in range(40):
            middle = (inside + outside) / 2
            within = total * _divergence(mean, middle) <= level
            inside, outside = np.where(within, middle, inside), np.where(within, outside, middle)
        ends.append(outside)
    return ends[0], ends[1]


def _divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    q = np.clip(q, 1e-12, 1 - 1e-12)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(p > 0, p * np.log(p / q), 0) + np.where(p < 1, (1 - p) * np.log((1 - p) / (1 - q)), 0)


def clopper_pearson(hits: int, total: int, doubt: float = 0.05) -> tuple[float, float]:
    """The exact interval of a share, from ``hits`` of ``total`` (Clopper & Pearson 1934)."""
    from scipy.stats import beta

    low = 0.0 if hits == 0 else float(beta.ppf(doubt / 2, hits, total - hits + 1))
    high = 1.0 if hits == total else float(beta.ppf(1 - doubt / 2, hits + 1, total - hits))
    return low, high
