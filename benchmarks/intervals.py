"""How often the 95 % intervals of sampled Shapley values hold the exact value, over many kinds of games.

Run ``python benchmarks/intervals.py`` (``--help`` for sizes). Games of 8 to 14 players are enumerated: an MLP, a forest and a
boosted ensemble (each the mean over background rows), a product, a threshold, sums of unanimity games, a small attention model on
words and a small convolution on patches, the last two with three outputs. Games of 30 to 200 players have exact values by other
ways: unanimity games and products in closed form, functions of a weighted sum by the generating function of the sums, networks
on separate groups of players by enumerating each group. Sparse games (``sparse.py``), drawn anew for every size and budget, lean on
three to eight of 12 to 30 players. Coverage is the share of values, those of parts that do nothing left
out, that lie within 1.96 standard errors of the exact ones; 0.95 is right. Error is the median of ||phi - exact|| / ||exact||.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
import typer
from results import Results
from rich.console import Console
from rich.progress import track
from sparse import FAINT, KINDS, enumerate_values, scores_and_values

from explainer.coalitions import Budget, Clock
from explainer.methods.game import Answer, Play
from explainer.methods.shapley import solver

BAR = (0.90, 0.98)  # of the intervals must hold the exact value, for each kind of game over its sizes, budgets and seeds
SMALL, LARGE, SPARSE = (8, 10, 12, 14), (30, 64, 128, 200), (12, 16, 20, 30)
SIZES = tuple(sorted({*SMALL, *LARGE, *SPARSE}))
MOST_SPARSE = 1024  # evaluations of a sparse game; beyond, nothing is left to find
SPARSE_DRAWS = 6  # of each kind, for every size and budget
DRAWS = 4  # of the small games: one draw has seven games of a kind, all of one model per size, and says little of the kind
NOTHING = 1e-9  # a value no larger is that of a part that does nothing
BUDGETS = (64, 128, 256, 512, 1024, 2048)
Scores = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Game:
    """A game of ``d`` players: ``v(masks)`` gives ``(m, k)`` scores, ``exact`` its Shapley values ``(d, k)``."""

    kind: str
    v: Scores
    exact: np.ndarray

    @property
    def d(self) -> int:
        return len(self.exact)


def on_rows(function: Callable[[np.ndarray], np.ndarray], x: np.ndarray, background: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Mean score over the background rows that stand in for absent columns."""
    rows = np.where(masks[:, None], x, background).reshape(-1, len(x))
    return function(rows).reshape(len(masks), len(background), -1).mean(axis=1)


def fitted(d: int, rng: np.random.Generator) -> Iterator[Game]:
    """Models fitted to a wavy target, each against one or eight background rows."""
    from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
    from sklearn.neural_network import MLPRegressor

    x = rng.normal(size=(600, d))
    y = np.sin(x[:, 0] * x[:, 1]) + x[:, 2] * x[:, 3] * x[:, 4] + np.maximum(x[:, 5], 0) * x[:, 6] + 0.3 * x.sum(axis=1)
    models = {
        "MLP": MLPRegressor(hidden_layer_sizes=(32, 32), max_iter=200, random_state=1),
        "forest": RandomForestRegressor(10, max_depth=7, random_state=1),
        "boosting": GradientBoostingRegressor(n_estimators=60, max_depth=4, random_state=1),
    }
    for kind, model in models.items():
        predict = model.fit(x, y).predict
        for i, rows in enumerate((1, 8) if d < 14 else (1,)):
            v = partial(on_rows, predict, x[i], x[100 : 100 + rows])
            yield Game(kind, v, enumerate_values(v, d))


def formulas(d: int, rng: np.random.Generator) -> Iterator[Game]:
    for kind, function in {
        "threshold": lambda a: (a.sum(axis=1) > 0.5).astype(float),
        "product": lambda a: np.prod(1 + 0.4 * np.tanh(a), axis=1),
        "squashed": lambda a: 1 / (1 + np.exp(-2 * a.sum(axis=1))),
    }.items():
        for _ in range(2):
            v = partial(on_rows, function, rng.normal(size=d), rng.normal(size=(1, d)))
            yield Game(kind, v, enumerate_values(v, d))


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def words(d: int, rng: np.random.Generator) -> Game:
    """One attention layer over words, absent words masked out of it; three classes."""
    width = 16
    tokens, query = rng.normal(size=(d, width)), rng.normal(size=(width, width)) / math.sqrt(width)
    out, head = rng.normal(size=(width, 32)) / math.sqrt(width), rng.normal(size=(32, 3))

    def v(masks: np.ndarray) -> np.ndarray:
        seen = np.concatenate([np.ones((len(masks), 1), dtype=bool), masks], axis=1)  # the first token is always there
        every = np.concatenate([np.zeros((1, width)), tokens])
        weight = softmax(np.where(seen[:, None], every @ query @ every.T, -1e9))
        return softmax(np.tanh((weight @ every @ out).mean(axis=1)) @ head)

    return Game("words", v, enumerate_values(v, d))


def picture(d: int, rng: np.random.Generator) -> Game:
    """A convolution, a rectifier and a linear layer on ``d`` patches in two rows; three classes."""
    patch, kernel = rng.normal(size=(2, d // 2, 4)), rng.normal(size=(3, 3, 4, 12)) / 4
    head = rng.normal(size=(2 * (d // 2) * 12, 3)) / math.sqrt(3 * d)

    def v(masks: np.ndarray) -> np.ndarray:
        shown = np.pad(patch * masks.reshape(-1, 2, d // 2, 1), ((0, 0), (1, 1), (1, 1), (0, 0)))
        seen = sum(shown[:, a : a + 2, b : b + d // 2] @ kernel[a, b] for a in range(3) for b in range(3))
        return softmax(np.maximum(seen, 0).reshape(len(masks), -1) @ head)

    return Game("picture", v, enumerate_values(v, d))


def sums(d: int, rng: np.random.Generator, kind: str) -> Game:
    """Additive and pairwise parts, and terms on up to eight players: unanimity (1/|T| each) or products of +-1 (2/|T|, odd T)."""
    terms = [(rng.choice(d, min(d, size), replace=False), 1.0) for size in rng.integers(1, 9, 2 * d)]
    terms += [(np.array([j]), w) for j, w in enumerate(rng.normal(size=d))]
    coefficient = np.array([rng.normal() * w for _, w in terms])
    exact = np.zeros((d, 1))
    for (members, _), c in zip(terms, coefficient, strict=True):
        share = 1.0 if kind == "unanimity" else 2.0 * (len(members) % 2)
        exact[members] += c * share / len(members)

    def v(masks: np.ndarray) -> np.ndarray:
        x = masks.astype(float) if kind == "unanimity" else 2.0 * masks - 1
        return sum(c * x[:, members].prod(axis=1) for (members, _), c in zip(terms, coefficient, strict=True))[:, None]

    return Game(kind, v, exact)


def of_a_weighted_sum(d: int, rng: np.random.Generator, kind: str) -> Game:
    """f(sum of integer weights): a vote with a quota, or a squashed sum. phi_j is the mean over t in (0, 1) of the change of f that
    j makes when every other player is there with probability t; that law of the sum is read from its characteristic function.
    """
    weights = rng.integers(1, 10, d) * (1 if kind == "vote" else rng.choice([-1, 1], d))
    low, high = int(weights[weights < 0].sum()), int(weights[weights > 0].sum())
    total = np.arange(low, high + 1)
    f = (total >= 0.5 * high).astype(float) if kind == "vote" else 1 / (1 + np.exp(-3 * (total - total.mean()) / np.linalg.norm(weights)))
    length = len(total)
    wave = np.exp(-2j * np.pi * np.outer(weights, np.arange(length)) / length)
    spectrum = np.conj(np.fft.fft(f)) / length  # of f over the sums, shifted by `low` below
    shift = np.exp(2j * np.pi * np.arange(length) * low / length)
    exact = np.zeros((d, 1))
    nodes, shares = np.polynomial.legendre.leggauss(d // 2 + 1)
    for t, share in zip((nodes + 1) / 2, shares / 2, strict=True):
        factors = 1 - t + t * wave
        ahead = np.concatenate([np.ones((1, length)), np.cumprod(factors[:-1], axis=0)])
        behind = np.concatenate([np.cumprod(factors[:0:-1], axis=0)[::-1], np.ones((1, length))])
        exact[:, 0] += share * ((ahead * behind * (wave - 1)) @ (spectrum * shift)).real

    def v(masks: np.ndarray) -> np.ndarray:
        return f[masks @ weights - low][:, None]

    return Game(kind, v, exact)


def groups(d: int, rng: np.random.Generator) -> Game:
    """Random networks, each on its own group of ten players, added up: the exact values are those of the groups."""
    parts = [np.arange(a, min(a + 10, d)) for a in range(0, d, 10)]
    layers = [(rng.normal(size=(len(p), 24)), rng.normal(size=24), rng.normal(size=(24, 2)) / 3) for p in parts]

    def one(layer: tuple[np.ndarray, ...], masks: np.ndarray) -> np.ndarray:
        return np.maximum(masks @ layer[0] + layer[1], 0) @ layer[2]

    def v(masks: np.ndarray) -> np.ndarray:
        return sum(one(layer, masks[:, p]) for p, layer in zip(parts, layers, strict=True))

    exact = [enumerate_values(partial(one, layer), len(p)) for p, layer in zip(parts, layers, strict=True)]
    return Game("networks", v, np.concatenate(exact))


def small_games(d: int, seed: int = 0) -> list[Game]:
    rng = np.random.default_rng([seed, d])
    found = [*fitted(d, rng), *formulas(d, rng), words(d, rng), picture(d, rng)]
    return [*found, *(sums(d, rng, kind) for kind in ("unanimity", "odd products")), of_a_weighted_sum(d, rng, "vote")]


def large_games(d: int, seed: int = 0) -> list[Game]:
    rng = np.random.default_rng([seed, d])
    found = [sums(d, rng, kind) for kind in ("unanimity", "odd products")]
    return [*found, *(of_a_weighted_sum(d, rng, kind) for kind in ("vote", "squashed")), groups(d, rng)]


def sparse_games(d: int, budget: int, first: int = 0) -> list[Game]:
    kinds = [(draw, k, kind) for draw in range(first, first + SPARSE_DRAWS) for k, kind in enumerate((*KINDS, FAINT))]
    return [Game(kind, *scores_and_values(d, kind, np.random.default_rng([draw, d, budget, k]))) for draw, k, kind in kinds]


def answer(play: Play, v: Scores) -> Answer:
    """Play one game to its end."""
    asked = next(play)
    while True:
        try:
            asked = play.send(v(asked))
        except StopIteration as end:
            return end.value


WAYS: dict[str, tuple[str, bool]] = {
    "gaussian, a strength per part": ("gaussian", True),
    "gaussian, shared strengths": ("gaussian", False),
    "kernel": ("kernel", False),
    "permutation": ("permutation", False),
    "stratified": ("stratified", False),
}


@dataclass
class Tally:
    """What was measured of one way on one kind of game."""

    inside: list[np.ndarray]
    errors: list[float]

    def add(self, found: Answer, exact: np.ndarray) -> None:
        live = np.abs(exact) > NOTHING
        self.inside.append((np.abs(found.values - exact) <= 1.96 * found.stderr + 1e-12)[live])
        self.errors.append(float(np.linalg.norm(found.values - exact) / np.linalg.norm(exact)))

    @property
    def coverage(self) -> float:
        return float(np.concatenate(self.inside).mean())


Tallies = dict[str, dict[str, Tally]]


def tallies(ways: list[str], sizes: tuple[int, ...], most: int, seeds: int, draws: int, first: int = 0) -> tuple[Tallies, Tallies]:
    """What was measured of each way, by kind of game and by evaluations."""
    kinds: Tallies = {}
    budgets: Tallies = {}
    cells = [(d, budget) for d in sizes for budget in BUDGETS if budget <= most and budget < 2**d]
    games: dict[int, list[Game]] = {}
    for d, budget in track(cells, "intervals", console=Console(stderr=True), transient=True):
        if d not in games:
            games = {d: [game for draw in range(first, first + draws) for game in small_games(d, draw)] if d in SMALL else []}
            games[d] += large_games(d, first) if d in LARGE else []
        played = games[d] + (sparse_games(d, budget, first) if d in SPARSE and budget <= MOST_SPARSE else [])
        for way, seed, game in product(ways, range(seeds), played):
            if np.abs(game.exact).max() < NOTHING:  # a threshold that is never crossed has nothing to find
                continue
            how, relevance = WAYS[way]
            found = answer(solver(how, game.d, Budget(budget), Clock(None), seed, relevance), game.v)
            for table, key in ((kinds, game.kind), (budgets, str(budget))):
                table.setdefault(key, {}).setdefault(way, Tally([], [])).add(found, game.exact)
    return kinds, budgets


def outside(kinds: Tallies) -> list[str]:
    """The kinds of game whose coverage misses the bar."""
    return [
        f"{kind} ({way}): {tally.coverage:.3f}"
        for kind, row in kinds.items()
        for way, tally in row.items()
        if not BAR[0] <= tally.coverage <= BAR[1]
    ]


def collect(
    ways: list[str], sizes: tuple[int, ...], most: int, seeds: int, draws: int = DRAWS, first: int = 0
) -> tuple[Results, list[str]]:
    """Coverage and error as tables, and what misses the bar."""
    kinds, budgets = tallies(ways, sizes, most, seeds, draws, first)
    results = Results()
    for by, table in (("kind of game", kinds), ("evaluations", budgets)):
        rows = [(name, *(f"{row[w].coverage:.3f}, error {np.median(row[w].errors):.3f}" for w in ways)) for name, row in table.items()]
        results.others.append((f"Coverage of 95 % intervals, by {by}", (by, *ways), rows))
    wrong = outside(kinds)
    results.notes.append(f"Kinds of game whose coverage is outside {BAR[0]:.0%} to {BAR[1]:.0%}: {', '.join(wrong) or 'none'}.")
    return results, wrong


def measure(quick: bool = False) -> Results:
    """Both forms of the default estimate on all games."""
    warnings.filterwarnings("ignore")
    ways = [w for w in WAYS if w.startswith("gaussian")]
    return (collect(ways, SMALL[:1], 128, 1, 1) if quick else collect(ways, SIZES, 2048, 1))[0]


def main(
    seeds: int = 1,
    ways: str = typer.Option("gaussian", help="Algorithms to measure: 'gaussian' (both forms), 'all', or names with commas."),
    most: int = typer.Option(2048, help="The largest budget."),
    draws: int = typer.Option(DRAWS, help="Draws of the small games."),
    players: str = typer.Option(",".join(map(str, SIZES)), help="Sizes of games, with commas."),
    first: int = typer.Option(0, help="Number of the first draw: another number, other games."),
) -> None:
    """Print coverage and error per kind of game and per budget; exits with 1 where a kind's coverage is outside 90 to 98 %."""
    warnings.filterwarnings("ignore")
    asked = [w for w in WAYS if ways == "all" or any(w.startswith(name.strip()) for name in ways.split(","))]
    results, wrong = collect(asked, tuple(int(d) for d in players.split(",")), most, seeds, draws, first)
    results.show()
    raise typer.Exit(bool(wrong))


if __name__ == "__main__":
    typer.run(main)
