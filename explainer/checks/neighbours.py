"""Pairs of items that are nearly the same: in tables by rank, among vectors by distance, among texts by shared shingles."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from explainer.checks.context import NotRun
from explainer.checks.levels import Levels
from explainer.checks.workers import each

if TYPE_CHECKING:
    from explainer.checks.columns import Column
    from explainer.checks.frame import TableView

RANK_WIDTH = 0.01  # numbers closer than this share of a column's rows are nearly equal
VALUE_WIDTH = 0.002  # and so is one this share of a column's spread away from a value of more rows than that, past all of which its rank is
SAMPLED_CELLS, SAMPLED_LEAST = 10_000_000, 5_000  # of which fewer where columns are many
RANKED = 100_000  # values among which ranks are told: their error, a sixth of that width, moves no copy out of it
CELLS_MOST = 4  # columns cut into cells, each of which has 3^4 adjoining ones
CANDIDATES = 4_000_000  # pairs compared at a time
CANDIDATES_MOST = 3e8  # and in all: half a minute
PAIRS_MOST = 1_000_000  # pairs kept
SAMPLED_PAIRS = 200_000  # random pairs of rows by which coincidence is measured
LIKENESS_TINY = 0.03  # distance of unit vectors (correlation 0.9995) that is a copy in any collection
LIKENESS_MOST = 0.10  # and one (correlation 0.995) beyond which none is called a copy: two people's straight "1" reach 0.9935
LIKENESS_SHARE = 0.15  # in between: this share of the collection's usual distance to a nearest neighbour
BRUTE_ITEMS = 8_000  # up to here all pairs are compared, above a search tree finds neighbours
CHUNK = 2_000
JACCARD = 0.8  # shared share of five-letter pieces above which one text is nearly another
SHINGLE = 5
BANDS, BAND_ROWS = 20, 5  # at a likeness of 0.8 a pair is missed once in 2,800; at 0.4 it is a candidate 1 time in 5
CROWD = 16  # items of one bucket compared each with each
TEXT_LETTERS = 20_000  # of a longer text only so much is compared

Pair = tuple[int, int, float]


def close_ranks(view: TableView, other: TableView | None) -> tuple[list[Pair], float]:
    """Rows equal in every category (spelling aside) and within ``RANK_WIDTH`` of ranks in every number.

    Ranks, because a difference of 50 is nothing between mansions and much between coffees. A value that many rows have draws those
    within ``VALUE_WIDTH`` of the column's spread to itself: 1.0001 ranks beyond all the rows of 1, and is nearly 1. Identifier
    columns are left out: a row repeated under a new number is a repeat. Also returns how many such pairs chance would give, were
    columns independent: the product over columns of the share of random pairs that agree in it. Raises NotRun where that is more than
    there are rows.

    Found without a search tree: rows are put into cells as wide as ``RANK_WIDTH`` along the few columns that tell most apart, and
    each is compared with those of its own and of the adjoining cells.
    """
    names = [c.name for c in view.columns]
    shared = [i for i, c in enumerate(view.columns) if not view.identifier(c) and c.distinct > 1]
    if other is not None:
        theirs = {c.name: c for c in other.columns}
        shared = [i for i in shared if names[i] in theirs]
    if not shared:
        raise NotRun("No column tells rows apart: each holds one value throughout, merely names the rows, or is not in both tables.")
    keys = view.keys if other is None else np.concatenate(view.keys_against(other))
    kept = view.firsts if other is None else np.arange(len(keys))
    side = np.zeros(len(kept), dtype=bool) if other is None else np.arange(len(keys)) >= view.n
    grid = each(lambda i: _Scale([view.columns[i]] if other is None else [view.columns[i], theirs[names[i]]]), shared, len(keys))
    left, right = _random_pairs(side, other is not None, int(np.clip(SAMPLED_CELLS // len(grid), SAMPLED_LEAST, SAMPLED_PAIRS)))
    close = each(lambda scale: np.abs(scale.at(kept[left]) - scale.at(kept[right])) <= RANK_WIDTH, grid, len(left))
    agree = np.array([one.mean() for one in close]) if len(left) else np.ones(len(grid))
    pairs = view.n * (other.n if other is not None else (view.n - 1) / 2)
    expected = float(np.prod(np.maximum(agree, 1 / max(1, len(left)))) * pairs)
    joint = float(np.logical_and.reduce(close).mean()) * pairs if len(left) else 0.0
    if expected >= max(1, len(kept)) or joint > 50 * len(kept):
        raise NotRun(
            f"Some {max(expected, joint):,.0f} pairs of rows would be as close as near-copies by chance, and there are only {len(kept):,} "
            f"{'unequal rows' if other is None else 'rows'}; near-copies and coincidences cannot be told apart."
        )
    order = np.argsort(agree, kind="stable")
    a, b = _in_cells([grid[k] for k in order], [close[k] for k in order], kept, side, pairs)
    different = keys[a] != keys[b]
    a, b = a[different], b[different]
    gaps = np.zeros(len(a), dtype=np.float32)
    for scale in grid:
        gaps = np.maximum(gaps, np.abs(scale.at(a) - scale.at(b)))
    offset = 0 if other is None else view.n
    return list(zip(a.tolist(), (b - offset).tolist(), (1 - gaps).tolist(), strict=True)), expected


def _in_cells(
    grid: list[_Scale], close: list[np.ndarray], kept: np.ndarray, side: np.ndarray, pairs: float
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of the rows ``kept`` within ``RANK_WIDTH`` in each column of ``grid``; across the sides where there are two.

    Columns whose values all lie further apart than that agree only where they are equal, so one number stands for all of them.
    Of the others so many, the most telling first, are cut into cells that the candidates, guessed from how often random pairs
    (``close``) agree, are few.
    """
    exact: np.ndarray = np.zeros(len(kept), dtype=np.uint64)
    together = np.ones(len(close[0]), dtype=bool)
    finer = []
    for scale, agrees in zip(grid, close, strict=True):
        if scale.fine:
            finer.append((scale, agrees))
            continue
        exact = _mix(exact) ^ scale.at(kept).view(np.uint32).astype(np.uint64)
        together &= agrees
    cut: list[np.ndarray] = []
    candidates = pairs * float(together.mean()) if len(together) else 0.0
    for scale, agrees in finer[:CELLS_MOST]:
        if candidates <= len(kept):
            break
        cut.append(np.floor(scale.at(kept) / RANK_WIDTH).astype(np.int64))
        together &= agrees
        candidates = pairs * float(together.mean()) * 1.5 ** len(cut)  # adjoining cells reach half as far again
    if candidates > CANDIDATES_MOST:
        raise NotRun(f"The columns tell rows apart so little that {candidates:.1g} pairs of rows would have to be compared.")
    mine, across = np.flatnonzero(~side), bool(side.any())
    theirs = np.flatnonzero(side) if across else mine
    keys = _cell(exact, cut, (0,) * len(cut))
    theirs = theirs[np.argsort(keys[theirs], kind="stable")]
    ordered = keys[theirs]
    found = [(mine[:0], mine[:0])]
    for step in itertools.product((0, 1, -1), repeat=len(cut)):
        if not across and step < (0,) * len(cut):
            continue  # the adjoining cell finds this pair from its own side
        wanted = keys[mine] if not any(step) else _cell(exact[mine], [c[mine] for c in cut], step)
        first = np.searchsorted(ordered, wanted)
        number = np.searchsorted(ordered, wanted, side="right") - first
        some = np.flatnonzero(number > (0 if across or any(step) else 1))
        for rows in np.array_split(some, int(number[some].sum()) // CANDIDATES + 1):
            a = np.repeat(mine[rows], number[rows])
            starts = np.cumsum(number[rows]) - number[rows]
            b = theirs[np.arange(len(a)) - np.repeat(starts - first[rows], number[rows])]
            if not across and not any(step):
                a, b = a[a < b], b[a < b]
            for scale in grid:
                near = np.abs(scale.at(kept[a]) - scale.at(kept[b])) <= RANK_WIDTH
                a, b = a[near], b[near]
            found.append((a, b) if across else (np.minimum(a, b), np.maximum(a, b)))
    a, b = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.lexsort((b, a))[:PAIRS_MOST]
    return kept[a[order]], kept[b[order]]


def _cell(exact: np.ndarray, cut: list[np.ndarray], step: tuple[int, ...]) -> np.ndarray:
    """One number for each row's cell, moved by ``step`` cells along each of the columns that are cut."""
    cell = exact
    for one, by in zip(cut, step, strict=True):
        cell = _mix(cell) ^ (one + by).astype(np.uint64)
    return cell


def _random_pairs(side: np.ndarray, across: bool, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Random pairs of distinct rows (of the two sides, when ``across``); always the same ones."""
    rng = np.random.default_rng(0)
    if across:
        mine, theirs = np.flatnonzero(~side), np.flatnonzero(side)
        if not len(mine) or not len(theirs):
            return mine[:0], theirs[:0]
        return rng.choice(mine, number), rng.choice(theirs, number)
    if len(side) < 2:
        return np.zeros(0, dtype=int), np.zeros(0, dtype=int)
    left = rng.integers(len(side), size=number)
    return left, (left + rng.integers(1, len(side), size=number)) % len(side)


class _Scale:
    """One column of one or two tables on a scale where nearly equal is within ``RANK_WIDTH``: mid-ranks, or whole numbers.

    Ranks are those among all known values, or among ``RANKED`` of them; a value all but equal to one of many rows has its rank;
    a missing value lies far from all others.
    """

    def __init__(self, parts: list[Column]) -> None:
        self.values: list[np.ndarray] = []
        if all(p.numbers is not None for p in parts):
            self.values = [np.asarray(p.numbers) for p in parts]
            known = [one[~p.missing] for one, p in zip(self.values, parts, strict=True)]
            rng, size = np.random.default_rng(0), sum(map(len, known))
            drawn = [one if size <= RANKED else rng.choice(one, max(1, RANKED * len(one) // size)) for one in known if len(one)]
            steps, sizes = np.unique(np.concatenate([*drawn, np.zeros(0)]), return_counts=True)
            below = np.cumsum(sizes) - sizes
            # the place of a value among the steps, doubled, plus one where it is a step itself, is its place here
            self.ranks = np.append(np.column_stack([below + 0.5, below + (sizes + 1) / 2]).ravel(), sizes.sum() + 0.5) / max(1, sizes.sum())
            self.steps: np.ndarray | None = steps
            finite = np.isfinite(steps)
            self.often = steps[finite & (sizes > RANK_WIDTH * sizes.sum())]
            with np.errstate(over="ignore"):
                spread = float(np.subtract(*np.quantile(steps[finite], [0.9, 0.1]))) if finite.any() else 0.0
            self.drawn = VALUE_WIDTH * spread if np.isfinite(spread) else 0.0
            few = len(steps) <= 2 / RANK_WIDTH and max(p.distinct for p in parts) <= 2 / RANK_WIDTH
            levels = np.unique(self._rank(np.concatenate([np.unique(one) for one in known]))) if few else np.zeros(0)
        else:
            coded = [(p.codes, p.levels) if p.numbers is None else _as_written(p) for p in parts]
            ends = np.cumsum([0] + [len(levels) for _, levels in coded])
            written = (coded[0][1] if len(coded) == 1 else Levels([level for _, levels in coded for level in levels])).alike()
            for (codes, _), low, high in zip(coded, ends, ends[1:], strict=False):
                self.values.append(np.append(written[low:high], -5)[codes].astype(np.float32))
            self.steps, few, levels = None, True, np.zeros(0)
        self.fine = not few or bool(len(levels) > 1 and np.diff(levels).min() <= RANK_WIDTH)  # unequal values may be nearly equal

    def at(self, rows: np.ndarray) -> np.ndarray:
        """``(rows,)`` float32, those of the second table numbered on from the first's."""
        if len(self.values) == 1:
            values = self.values[0][rows]
        else:
            values = np.empty(len(rows), dtype=self.values[0].dtype)
            second = rows >= len(self.values[0])
            values[~second] = self.values[0][rows[~second]]
            values[second] = self.values[1][rows[second] - len(self.values[0])]
        return values if self.steps is None else self._rank(values)

    def _rank(self, values: np.ndarray) -> np.ndarray:
        assert self.steps is not None
        values = self._drawn(values)
        place = np.searchsorted(self.steps, values)
        equal = self.steps[np.minimum(place, len(self.steps) - 1)] == values if len(self.steps) else np.zeros(len(values), dtype=bool)
        return np.where(np.isnan(values), -5, self.ranks[2 * place + equal]).astype(np.float32)

    def _drawn(self, values: np.ndarray) -> np.ndarray:
        """Each value, or the one of many rows that it is all but equal to."""
        if not len(self.often):
            return values
        place = np.searchsorted(self.often, values)
        below, above = self.often[np.maximum(place - 1, 0)], self.often[np.minimum(place, len(self.often) - 1)]
        nearest = np.where(values - below < above - values, below, above)
        return np.where(np.abs(values - nearest) <= self.drawn, nearest, values)


def _as_written(column: Column) -> tuple[np.ndarray, Levels]:
    """The codes and the levels of a column of numbers, were it one of texts."""
    values, places = np.unique(np.asarray(column.numbers)[~column.missing], return_inverse=True)
    codes = np.full(len(column.missing), -1)
    codes[~column.missing] = places
    return codes, Levels([f"{value:g}" for value in values])


def close_vectors(
    vectors: np.ndarray,
    keys: np.ndarray,
    confirm: Callable[[np.ndarray, np.ndarray], np.ndarray],
    split: int | None = None,
    more: np.ndarray | None = None,
) -> list[Pair]:
    """Pairs of unit vectors far closer than neighbours in this collection usually are.

    A pair counts when its distance d = sqrt(2 (1 - correlation)) is below ``LIKENESS_TINY``, or below ``LIKENESS_MOST`` and
    ``LIKENESS_SHARE`` of the median distance to a nearest neighbour, and ``confirm(i, j)`` (the full-size distances) says the same. Items
    with equal ``keys`` are copies, not near copies: one of each is kept. With ``split``, only pairs across that index. ``more``:
    ``(m, 2)`` further pairs to be confirmed, beside each item and its nearest.
    """
    if split is None:
        kept = np.sort(np.unique(keys, return_index=True)[1])
        mine = theirs = kept
    else:
        mine, theirs = np.arange(split), np.arange(split, len(keys))
        mine = mine[~np.isin(keys[mine], keys[theirs])]
    length = np.linalg.norm(vectors, axis=1)
    mine, theirs = mine[length[mine] > 0], theirs[length[theirs] > 0]
    if not len(mine) or not len(theirs) or (split is None and len(mine) < 2):
        return []
    unit = (vectors / np.maximum(length, 1e-12)[:, None]).astype(np.float32)
    nearest, _ = _nearest(unit, mine, theirs, split is None)
    known = nearest >= 0
    i, j = mine[known], nearest[known]
    distance = confirm(i, j)
    usual = _usual(unit, mine, theirs, confirm, split, i, distance)
    limit = max(LIKENESS_TINY, min(LIKENESS_MOST, LIKENESS_SHARE * usual))
    if more is not None:
        apart = np.isin(more[:, 0], mine) & np.isin(more[:, 1], theirs)
        i, j = np.concatenate([i, more[apart, 0]]), np.concatenate([j, more[apart, 1]])
        distance = np.concatenate([distance, confirm(more[apart, 0], more[apart, 1])])
    close = np.flatnonzero(distance <= limit)
    found = {(min(int(i[k]), int(j[k])), max(int(i[k]), int(j[k]))): float(1 - distance[k] ** 2 / 2) for k in close}
    return [(a, b if split is None else b - split, s) for (a, b), s in sorted(found.items())]


def _usual(unit, mine, theirs, confirm, split, i, distance) -> float:  # type: ignore[no-untyped-def]
    """The usual distance to a nearest neighbour: within the set itself, also where overlap with another is looked for."""
    if split is None:
        return float(np.median(distance))
    inside, _ = _nearest(unit, theirs, theirs, True)
    known = inside >= 0
    return float(np.median(confirm(theirs[known], inside[known]))) if known.any() else 1.0


def _nearest(unit: np.ndarray, mine: np.ndarray, theirs: np.ndarray, same: bool) -> tuple[np.ndarray, np.ndarray]:
    """For each of ``mine`` the most alike of ``theirs`` (not itself), or -1, and their likeness."""
    if len(theirs) - same < 1:
        return np.full(len(mine), -1), np.zeros(len(mine))
    if max(len(mine), len(theirs)) > BRUTE_ITEMS:
        return _nearest_by_tree(unit, mine, theirs, same)
    best, likeness = np.zeros(len(mine), dtype=int), np.zeros(len(mine))
    for start in range(0, len(mine), CHUNK):
        rows = slice(start, min(start + CHUNK, len(mine)))
        product = unit[mine[rows]] @ unit[theirs].T
        if same:
            product[np.arange(product.shape[0]), np.arange(rows.start, rows.stop)] = -2
        best[rows] = product.argmax(axis=1)
        likeness[rows] = product[np.arange(product.shape[0]), best[rows]]
    return theirs[best], likeness


def _nearest_by_tree(unit: np.ndarray, mine: np.ndarray, theirs: np.ndarray, same: bool) -> tuple[np.ndarray, np.ndarray]:
    """The same by a tree over ten principal directions: near copies are nearest in those too."""
    from scipy.spatial import cKDTree

    sample = unit[theirs[:: max(1, len(theirs) // 5_000)]].astype(np.float64)
    _, _, axes = np.linalg.svd(sample - sample.mean(axis=0), full_matrices=False)
    low = unit @ axes[:10].T.astype(np.float32)
    _, hits = cKDTree(low[theirs]).query(low[mine], k=min(4, len(theirs)))
    hits = np.atleast_2d(hits.T).T
    likeness = np.einsum("id,ikd->ik", unit[mine], unit[theirs[hits]])
    if same:
        likeness[theirs[hits] == mine[:, None]] = -2
    best = likeness.argmax(axis=1)
    rows = np.arange(len(mine))
    return theirs[hits[rows, best]], likeness[rows, best]


def distances(unit: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Distances of rows of unit vectors, pair by pair."""

    def between(i: np.ndarray, j: np.ndarray) -> np.ndarray:
        return np.concatenate(
            [np.linalg.norm(unit[i[s : s + CHUNK]] - unit[j[s : s + CHUNK]], axis=1) for s in range(0, len(i), CHUNK)] or [np.zeros(0)]
        )

    return between


def shingles(text: str) -> np.ndarray:
    """Sorted distinct 64-bit hashes of the text's five-letter pieces; the whole text when it is shorter."""
    letters = np.frombuffer(text[:TEXT_LETTERS].encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    if len(letters) == 0:
        return np.zeros(0, dtype=np.uint64)
    size = min(SHINGLE, len(letters))
    rolled = np.zeros(len(letters) - size + 1, dtype=np.uint64)
    for k in range(size):
        rolled = rolled * np.uint64(0x100000001B3) + letters[k : k + len(rolled)]
    return np.unique(_mix(rolled))


def _mix(values: np.ndarray) -> np.ndarray:
    values = (values ^ (values >> np.uint64(31))) * np.uint64(0x7FB5D329728EA185)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x81DADEF4BC2DD44D)
    return values ^ (values >> np.uint64(33))


def signatures(pieces: Sequence[np.ndarray]) -> np.ndarray:
    """MinHash signatures ``(n, BANDS * BAND_ROWS)`` of sets of hashes; Broder, On the resemblance of documents, 1997."""
    number = BANDS * BAND_ROWS
    salts = _mix(np.arange(1, number + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    lengths = np.array([len(p) for p in pieces])
    result = np.zeros((len(pieces), number), dtype=np.uint64)
    filled = np.flatnonzero(lengths)
    for start in range(0, len(filled), 500):
        rows = filled[start : start + 500]
        joined = np.concatenate([pieces[r] for r in rows])
        starts = np.concatenate([[0], np.cumsum(lengths[rows])[:-1]])
        for k in range(number):
            hashed = (joined ^ salts[k]) * np.uint64(0xD6E8FEB86659FD93)
            hashed ^= hashed >> np.uint64(32)
            result[rows, k] = np.minimum.reduceat(hashed, starts)
    return result


def close_texts(pieces: Sequence[np.ndarray], split: int | None = None) -> list[Pair]:
    """Pairs of texts whose sets of pieces share at least ``JACCARD``, found by banded MinHash and then measured exactly."""
    sizes = np.array([len(p) for p in pieces])
    usable = np.flatnonzero(sizes)
    if len(usable) < 2:
        return []
    marks = signatures([pieces[i] for i in usable])
    candidates = np.unique(np.concatenate([_bucket_pairs(marks[:, b * BAND_ROWS : (b + 1) * BAND_ROWS]) for b in range(BANDS)]), axis=0)
    if split is not None:
        side = usable < split
        candidates = candidates[side[candidates[:, 0]] != side[candidates[:, 1]]]
    agree = np.concatenate(
        [(marks[c[:, 0]] == marks[c[:, 1]]).mean(axis=1) for c in np.array_split(candidates, len(candidates) // 20_000 + 1)]
    )
    found = []
    for a, b in usable[candidates[agree >= JACCARD - 0.15]]:  # 0.15: four standard errors of a likeness seen by 100 hashes
        common = len(np.intersect1d(pieces[a], pieces[b], assume_unique=True))
        likeness = common / (len(pieces[a]) + len(pieces[b]) - common)
        if likeness >= JACCARD:
            a, b = min(a, b), max(a, b)
            found.append((int(a), int(b) if split is None else int(b - split), float(likeness)))
    return found


def _bucket_pairs(band: np.ndarray) -> np.ndarray:
    """Pairs of items equal in one band: all pairs of a bucket of up to ``CROWD``; in a larger one each with the next ``CROWD``."""
    folded = band[:, 0]
    for k in range(1, band.shape[1]):
        folded = _mix(folded) ^ band[:, k]
    order = np.argsort(folded, kind="stable")
    ordered = folded[order]
    pairs = [np.zeros((0, 2), dtype=np.int64)]
    for step in range(1, CROWD + 1):
        same = ordered[step:] == ordered[:-step]
        if not same.any():
            break
        pairs.append(np.column_stack([order[:-step], order[step:]])[same])
    return np.sort(np.concatenate(pairs), axis=1)
