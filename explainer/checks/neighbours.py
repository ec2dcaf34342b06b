"""Pairs of items that are nearly the same: in tables by rank, among vectors by distance, among texts by shared shingles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from explainer.checks.columns import Column
    from explainer.checks.frame import TableView

RANK_WIDTH = 0.01  # numbers closer than this share of a column's rows are nearly equal
INDEX_COLUMNS = 24  # columns in the search tree; the rest only confirm
SAMPLED_PAIRS = 400_000  # random pairs of rows by which coincidence is measured
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

    Ranks, because a difference of 50 is nothing between mansions and much between coffees. Identifier columns are left out:
    a row repeated under a new number is a repeat. Also returns how many such pairs chance would give, were columns
    independent: the product over columns of the share of random pairs that agree in it.
    """
    from scipy.spatial import cKDTree

    tables = [view] if other is None else [view, other]
    names = [c.name for c in view.columns]
    shared = [i for i, c in enumerate(view.columns) if not view.identifier(c)]
    if other is not None:
        theirs = {c.name: c for c in other.columns}
        shared = [i for i in shared if names[i] in theirs]
    shared = [i for i in shared if view.columns[i].distinct > 1]
    if not shared:
        return [], np.inf
    keys = view.keys if other is None else np.concatenate(view.keys_against(other))
    kept = np.sort(np.unique(keys, return_index=True)[1]) if other is None else np.arange(len(keys))
    columns = [[view.columns[i]] if other is None else [view.columns[i], theirs[names[i]]] for i in shared]
    grid = np.column_stack([_comparable(parts)[kept] for parts in columns])
    side = np.concatenate([np.full(t.n, k) for k, t in enumerate(tables)])[kept]
    left, right = _random_pairs(side, other is not None)
    agree, together = np.ones(grid.shape[1]), np.ones(len(left), dtype=bool)
    for k in range(grid.shape[1] if len(left) else 0):  # column by column: wide tables need not fit twice
        close = np.abs(grid[left, k] - grid[right, k]) <= RANK_WIDTH
        agree[k] = close.mean()
        together &= close
    pairs = view.n * (other.n if other is not None else (view.n - 1) / 2)
    expected = float(np.prod(np.maximum(agree, 1 / max(1, len(left)))) * pairs)
    joint = float(together.mean()) * pairs if len(left) else 0.0
    if expected >= max(1, len(kept)) or joint > 50 * len(kept):  # so coarse a table has more pairs than rows: nothing can be told
        return [], max(expected, joint)
    order = np.argsort(agree, kind="stable")[:INDEX_COLUMNS]
    if other is None:
        found = cKDTree(grid[:, order]).query_pairs(RANK_WIDTH, p=np.inf, output_type="ndarray")
    else:
        mine, others = np.flatnonzero(side == 0), np.flatnonzero(side == 1)
        near = cKDTree(grid[np.ix_(others, order)]).query_ball_point(grid[np.ix_(mine, order)], RANK_WIDTH, p=np.inf)
        found = np.array([(mine[i], others[j]) for i, hits in enumerate(near) for j in hits], dtype=int).reshape(-1, 2)
    gaps = np.abs(grid[found[:, 0]] - grid[found[:, 1]])
    found, gaps = found[(gaps <= RANK_WIDTH).all(axis=1)], gaps[(gaps <= RANK_WIDTH).all(axis=1)]
    a, b = kept[found[:, 0]], kept[found[:, 1]]
    different = keys[a] != keys[b]
    likeness = 1 - gaps.max(axis=1, initial=0.0)
    offset = 0 if other is None else view.n
    return [(int(i), int(j) - offset, float(s)) for i, j, s in zip(a[different], b[different], likeness[different], strict=True)], expected


def _random_pairs(side: np.ndarray, across: bool) -> tuple[np.ndarray, np.ndarray]:
    """Random pairs of distinct rows (of the two sides, when ``across``); always the same ones."""
    rng = np.random.default_rng(0)
    if across:
        mine, theirs = np.flatnonzero(side == 0), np.flatnonzero(side == 1)
        if not len(mine) or not len(theirs):
            return mine[:0], theirs[:0]
        return rng.choice(mine, SAMPLED_PAIRS), rng.choice(theirs, SAMPLED_PAIRS)
    if len(side) < 2:
        return np.zeros(0, dtype=int), np.zeros(0, dtype=int)
    left = rng.integers(len(side), size=SAMPLED_PAIRS)
    return left, (left + rng.integers(1, len(side), size=SAMPLED_PAIRS)) % len(side)


def _comparable(parts: list[Column]) -> np.ndarray:
    """One column of one or two tables on a scale where nearly equal is within ``RANK_WIDTH``: mid-ranks, or whole numbers."""
    from scipy.stats import rankdata

    from explainer.checks.columns import normalised

    if all(p.numbers is not None for p in parts):
        values = np.concatenate([p.numbers for p in parts])  # type: ignore[misc]
        known = ~np.isnan(values)
        ranks = np.full(len(values), -5.0)
        if known.any():
            ranks[known] = rankdata(values[known]) / known.sum()
        return ranks
    levels: dict[str, int] = {}
    coded = []
    for part in parts:
        written = [f"{v:g}" for v in np.unique(part.numbers[~part.missing])] if part.numbers is not None else part.levels
        index = np.array([levels.setdefault(normalised(level), len(levels)) for level in written] + [-5], dtype=float)
        codes = (
            part.codes
            if part.numbers is None
            else np.where(part.missing, -1, np.searchsorted(np.unique(part.numbers[~part.missing]), part.numbers))
        )
        coded.append(index[codes])
    return np.concatenate(coded)


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
