r"""The kernels of the tree algorithms, compiled by numba on first use and kept beside this file.

A leaf with value :math:`c` is a product game of the players met on its path: player :math:`i` contributes the factor
:math:`o_i` (0 or 1: does the row pass all its splits there) when present and :math:`r_i` when absent. Owen's (1972)
multilinear extension turns its Shapley values and Shapley interactions into integrals of polynomials,

.. math::
    \phi_i = c\int_0^1 (o_i - r_i)\prod_{j \ne i} f_j(t)\,dt,\qquad
    \phi_{ij} = c\int_0^1 (o_i - r_i)(o_j - r_j)\prod_{k \ne i, j} f_k(t)\,dt,\qquad f_j(t) = o_j t + r_j (1 - t),

which Gauss-Legendre quadrature with half as many nodes as players gives exactly. Path-dependent: :math:`r_i` is the share
of the training rows that pass. Interventional: :math:`r_i` is 0 or 1, whether one background row passes, and the
integrals are Beta functions: with :math:`a` players only the row passes and :math:`b` only the background row,
:math:`\phi_i = 1/(a \binom{a+b}{a})` for the first and :math:`-1/(b \binom{a+b}{b})` for the second.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

_BLOCK = 32  # rows walked together: a few vector registers
_SMALL = 12  # splits; rows that decide alike at all splits of so small a tree are walked once


class Walk(NamedTuple):
    """The nodes of all trees in preorder, and what their paths say that no row changes.

    ``depth`` is the number of edges above a node. The edge into it hangs on the split ``gate`` and on ``player``; ``older`` is the
    depth of the edge on its path that last asked the same player (0: none); ``slot`` numbers the path's players in order of
    appearance and ``width`` counts them. ``share`` multiplies the cover ratios of the path's edges of this player, ``reach``
    those of all its edges.
    """

    nodes: np.ndarray  # (trees + 1,) first node of each tree
    gates: np.ndarray  # (trees + 1,) first split of each tree
    depth: np.ndarray
    gate: np.ndarray
    left: np.ndarray
    player: np.ndarray
    older: np.ndarray
    share: np.ndarray
    reach: np.ndarray
    slot: np.ndarray
    width: np.ndarray
    leaf: np.ndarray
    value: np.ndarray  # (nodes, width of a leaf)
    feature: np.ndarray  # (splits,)
    threshold: np.ndarray  # (splits,)
    missing_left: np.ndarray  # (splits,)
    output: np.ndarray  # (trees,) the first output its leaves add to


def walk(forest: Any, player: np.ndarray) -> Walk:
    """The forest prepared for the kernels; ``player`` maps each column to the player it belongs to."""
    parts, gates = [], [0]
    for tree in forest.trees:
        left, right, feature = (np.ascontiguousarray(a, np.int64) for a in (tree.left, tree.right, tree.feature))
        order, *rest = _preorder(left, right, feature, np.ascontiguousarray(tree.cover, np.float64), player.astype(np.int64))
        splits = order[left[order] >= 0]
        asks = (feature[splits], np.asarray(tree.threshold, np.float64)[splits], np.asarray(tree.missing_left, np.bool_)[splits])
        parts.append((*rest, left[order] < 0, np.asarray(tree.value, np.float64)[order], *asks))
        gates.append(gates[-1] + len(splits))
    nodes = np.cumsum([0, *(len(part[0]) for part in parts)])
    fields = [np.ascontiguousarray(np.concatenate(column)) for column in zip(*parts, strict=True)]
    return Walk._make([nodes, np.array(gates), *fields, np.array([tree.output for tree in forest.trees], dtype=np.int64)])


@njit(cache=True)
def _preorder(left, right, feature, cover, player):  # type: ignore[no-untyped-def]
    n = len(left)
    order, depth, gate = np.empty(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64)
    is_left, who, older = np.zeros(n, np.bool_), np.full(n, -1, np.int64), np.zeros(n, np.int64)
    share, reach, slot, width = np.ones(n), np.ones(n), np.zeros(n, np.int64), np.zeros(n, np.int64)
    # Per pending node: its number, depth and parent's place in the order; per depth: the path's node, as a place in the order.
    pending, at, above = np.empty(n + 1, np.int64), np.empty(n + 1, np.int64), np.empty(n + 1, np.int64)
    path, split = np.empty(n + 1, np.int64), np.empty(n, np.int64)
    pending[0], at[0], above[0] = 0, 0, -1
    top, count, splits = 0, 0, 0
    while top >= 0:
        v, e, parent = pending[top], at[top], above[top]
        top -= 1
        k = count
        count += 1
        order[k], depth[k], path[e] = v, e, k
        if e > 0:
            u = order[parent]
            gate[k], is_left[k], who[k] = split[parent], left[u] == v, player[feature[u]]
            both = cover[left[u]] + cover[right[u]]
            share[k] = cover[v] / both if both > 0 else 0.0
            reach[k] = reach[parent] * share[k]
            slot[k], width[k] = width[parent], width[parent] + 1
            for d in range(e - 1, 0, -1):
                if who[path[d]] == who[k]:
                    older[k], slot[k], width[k] = d, slot[path[d]], width[parent]
                    share[k] *= share[path[d]]
                    break
        if left[v] >= 0:
            split[k] = splits
            splits += 1
            for child in (right[v], left[v]):
                top += 1
                pending[top], at[top], above[top] = child, e + 1, k
    n = count
    return order[:n], depth[:n], gate[:n], is_left[:n], who[:n], older[:n], share[:n], reach[:n], slot[:n], width[:n]


@njit(cache=True)
def _left(x, threshold, missing_left):  # type: ignore[no-untyped-def]
    return x <= threshold or (x != x and missing_left)


@njit(cache=True)
def margins(w, columns, out):  # type: ignore[no-untyped-def]
    """Add the trees' values for ``columns`` (features, n) to ``out`` (outputs, n)."""
    for tree in range(len(w.output)):
        lo, hi, first = w.nodes[tree], w.nodes[tree + 1], w.gates[tree]
        # The right child of a node in preorder is where its left subtree ends.
        right = np.zeros(hi - lo, np.int64)
        path = np.zeros(hi - lo + 1, np.int64)
        split = np.zeros(hi - lo, np.int64)
        for k in range(lo, hi):
            path[w.depth[k]] = k - lo
            if k > lo:
                parent = path[w.depth[k] - 1]
                split[parent] = w.gate[k]
                if not w.left[k]:
                    right[parent] = k - lo
        for i in range(columns.shape[1]):
            v = 0
            while not w.leaf[lo + v]:
                g = first + split[v]
                v = v + 1 if _left(columns[w.feature[g], i], w.threshold[g], w.missing_left[g]) else right[v]
            for o in range(w.value.shape[1]):
                out[w.output[tree] + o, i] += w.value[lo + v, o]


@njit(cache=True)
def _decisions(w, tree, columns, start, rows, out):  # type: ignore[no-untyped-def]
    """1.0 where a row of the block goes left at a split of the tree; ``out`` (splits, block)."""
    first = w.gates[tree]
    for g in range(first, w.gates[tree + 1]):
        x, threshold, missing = columns[w.feature[g]], w.threshold[g], w.missing_left[g]
        for i in range(rows):
            out[g - first, i] = 1.0 if _left(x[start + i], threshold, missing) else 0.0


@njit(cache=True)
def _coefficients(w, tree, t, weight, opening, closing):  # type: ignore[no-untyped-def]
    """Per node and quadrature node, what its edge multiplies the product by, and what share of a leaf it takes.

    Both are linear in the row's own factor o and that of the older edge of the same player, which this edge takes the place of.
    """
    lo, hi = w.nodes[tree], w.nodes[tree + 1]
    path = np.zeros(hi - lo + 1, np.int64)
    for k in range(lo, hi):
        path[w.depth[k]] = k
        r = w.share[k]
        for j in range(len(t)):
            u = 1 - t[j]
            full = t[j] + r * u
            if w.older[k] > 0:
                p = w.share[path[w.older[k]]]
                before = t[j] + p * u
                opening[k - lo, j, 0] = r / p
                opening[k - lo, j, 1] = r * u / before - r / p
                opening[k - lo, j, 2] = (full - r * u) / before
                closing[k - lo, j, 0] = 0.0
                closing[k - lo, j, 1] = weight[j] * ((1 - r) / full + 1 / u)
                closing[k - lo, j, 2] = -weight[j] * ((1 - p) / before + 1 / u)
            else:
                opening[k - lo, j, 0] = r * u
                opening[k - lo, j, 1] = 0.0
                opening[k - lo, j, 2] = t[j]
                closing[k - lo, j, 0] = -weight[j] / u
                closing[k - lo, j, 1] = weight[j] * ((1 - r) / full + 1 / u)
                closing[k - lo, j, 2] = 0.0


@njit(cache=True)
def _walk_block(w, tree, q, opening, closing, decide, passed, product, below, path, shares):  # type: ignore[no-untyped-def]
    """One walk over a tree for a block of rows: ``shares`` (splits, leaf width, block) gets what each split's edges earn.

    Per depth: whether the row ``passed`` all edges of the player; the ``product`` of factors at each quadrature node; the leaves ``below``.
    """
    lo, hi, wide = w.nodes[tree], w.nodes[tree + 1], w.value.shape[1]
    shares[: w.gates[tree + 1] - w.gates[tree]] = 0.0
    product[0, :q] = 1.0
    open_ = 0
    for k in range(lo + 1, hi + 1):
        e = w.depth[k] if k < hi else 1
        for d in range(open_, e - 1, -1):  # finished nodes, the deepest first
            node = path[d]
            close, own, old = closing[node - lo], passed[d], passed[w.older[node]]
            for o in range(wide):
                share = shares[w.gate[node], o]
                for j in range(q):
                    c0, c1, c2, g, up = close[j, 0], close[j, 1], close[j, 2], below[d, o, j], below[d - 1, o, j]
                    for i in range(_BLOCK):
                        share[i] += g[i] * (c0 + own[i] * c1 + old[i] * c2)
                        up[i] += g[i]
        open_ = e - 1
        if k == hi:
            break
        gate, own, old = decide[w.gate[k]], passed[e], passed[w.older[k]]
        if w.left[k]:
            for i in range(_BLOCK):
                own[i] = gate[i]
        else:
            for i in range(_BLOCK):
                own[i] = 1.0 - gate[i]
        if w.older[k] > 0:
            for i in range(_BLOCK):
                own[i] *= old[i]
        if w.leaf[k]:
            close = closing[k - lo]
            for o in range(wide):
                share, c = shares[w.gate[k], o], w.value[k, o]
                for j in range(q):
                    a0, a1, a2 = opening[k - lo, j, 0] * c, opening[k - lo, j, 1] * c, opening[k - lo, j, 2] * c
                    c0, c1, c2, above, up = close[j, 0], close[j, 1], close[j, 2], product[e - 1, j], below[e - 1, o, j]
                    for i in range(_BLOCK):
                        g = above[i] * (a0 + old[i] * a1 + own[i] * a2)
                        share[i] += g * (c0 + own[i] * c1 + old[i] * c2)
                        up[i] += g
        else:
            path[e] = k
            open_ = e
            below[e, :, :q] = 0.0
            for j in range(q):
                a0, a1, a2 = opening[k - lo, j, 0], opening[k - lo, j, 1], opening[k - lo, j, 2]
                above, here = product[e - 1, j], product[e, j]
                for i in range(_BLOCK):
                    here[i] = above[i] * (a0 + old[i] * a1 + own[i] * a2)


@njit(cache=True)
def path_values(w, columns, nodes, weights, phi):  # type: ignore[no-untyped-def]
    """Path-dependent Shapley values, added to ``phi`` (outputs, players, n); ``nodes[q]`` is the rule of q points on [0, 1]."""
    n, wide = columns.shape[1], w.value.shape[1]
    most, splits, deepest = 1, 1, 1
    for tree in range(len(w.output)):
        lo, hi = w.nodes[tree], w.nodes[tree + 1]
        most, splits = max(most, hi - lo), max(splits, w.gates[tree + 1] - w.gates[tree])
        deepest = max(deepest, w.depth[lo:hi].max())
    top = nodes.shape[0] - 1
    opening, closing = np.empty((most, top, 3)), np.empty((most, top, 3))
    passed, product = np.zeros((deepest + 1, _BLOCK)), np.empty((deepest + 1, top, _BLOCK))
    below = np.zeros((deepest + 1, wide, top, _BLOCK))
    path, shares = np.zeros(deepest + 1, np.int64), np.empty((splits, wide, _BLOCK))
    decide = np.zeros((splits, _BLOCK))
    known, kind = np.full(2**_SMALL, -1, np.int64), np.zeros(n, np.int64)
    patterns = np.zeros(2**_SMALL, np.int64)
    table = np.empty((_SMALL, wide, min(n, 2**_SMALL) + _BLOCK))
    for tree in range(len(w.output)):
        lo, hi, first, m, out = w.nodes[tree], w.nodes[tree + 1], w.gates[tree], w.gates[tree + 1] - w.gates[tree], w.output[tree]
        if m == 0:
            continue
        q = (w.width[lo:hi].max() + 1) // 2
        _coefficients(w, tree, nodes[q, :q], weights[q, :q], opening, closing)
        if m > _SMALL:
            for start in range(0, n, _BLOCK):
                rows = min(_BLOCK, n - start)
                _decisions(w, tree, columns, start, rows, decide)
                _walk_block(w, tree, q, opening, closing, decide, passed, product, below, path, shares)
                for k in range(lo + 1, hi):
                    if w.left[k]:
                        for o in range(wide):
                            to, share = phi[out + o, w.player[k]], shares[w.gate[k], o]
                            for i in range(rows):
                                to[start + i] += share[i]
            continue
        kind[:] = 0
        for g in range(m):
            x, threshold, missing = columns[w.feature[first + g]], w.threshold[first + g], w.missing_left[first + g]
            for i in range(n):
                kind[i] |= np.int64(_left(x[i], threshold, missing)) << g
        count = 0
        for i in range(n):
            if known[kind[i]] < 0:
                known[kind[i]] = count
                patterns[count] = kind[i]
                count += 1
            kind[i] = known[kind[i]]
        for start in range(0, count, _BLOCK):
            for g in range(m):
                for i in range(min(_BLOCK, count - start)):
                    decide[g, i] = (patterns[start + i] >> g) & 1
            _walk_block(w, tree, q, opening, closing, decide, passed, product, below, path, shares)
            for g in range(m):
                for o in range(wide):
                    table[g, o, start : start + _BLOCK] = shares[g, o]
        for i in range(count):
            known[patterns[i]] = -1
        for k in range(lo + 1, hi):
            if w.left[k]:
                for o in range(wide):
                    to, share = phi[out + o, w.player[k]], table[w.gate[k], o]
                    for i in range(n):
                        to[i] += share[kind[i]]
