r"""Kernels that go leaf by leaf: interventional Shapley values, Shapley interactions of both games, the margins of coalitions.

What a leaf gives a row depends on one bit per player of its path: whether the row passes all of that player's splits. So a
leaf is solved once per pattern of bits that occurs, against the patterns of the background rows, and the rows look their
values up: the cost does not grow with rows times background rows. The formulas stand in :mod:`explainer.methods.treeshap`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from explainer.methods.treeshap import _left

MOST_PLAYERS = 62  # on one path: the bits of an integer, and room for a sign


@njit(cache=True)
def _passes(w, k, first, columns, bits):  # type: ignore[no-untyped-def]
    """Patterns at node ``k`` from those of its parent, ``bits`` (depth, rows)."""
    e, g = w.depth[k], first + w.gate[k]
    x, threshold, missing, side = columns[w.feature[g]], w.threshold[g], w.missing_left[g], w.left[k]
    one = np.int64(1) << w.slot[k]
    above, here = bits[e - 1], bits[e]
    for i in range(len(x)):
        through = _left(x[i], threshold, missing) == side
        if w.older[k] > 0:
            here[i] = above[i] if through else above[i] & ~one
        else:
            here[i] = above[i] | one if through else above[i]


@njit(cache=True)
def _group(bits, slots, kinds, group):  # type: ignore[no-untyped-def]
    """Number the different patterns: ``kinds`` gets them, ``group`` each row's number; ``slots`` is room for a hash table."""
    slots[:] = -1
    count, last = 0, len(slots) - 1
    for i in range(len(bits)):
        at = (bits[i] * 2654435761 >> 7) & last
        while slots[at] >= 0 and kinds[slots[at]] != bits[i]:
            at = (at + 1) & last
        if slots[at] < 0:
            slots[at] = count
            kinds[count] = bits[i]
            count += 1
        group[i] = slots[at]
    return count


@njit(cache=True)
def _members(bits, out):  # type: ignore[no-untyped-def]
    count, player = 0, 0
    while bits:
        if bits & 1:
            out[count] = player
            count += 1
        bits >>= 1
        player += 1
    return count


@njit(cache=True)
def _against_background(own, width, others, counts, beta, pairs, value, pair):  # type: ignore[no-untyped-def]
    """Values (and pairs) of a leaf worth 1 for a row with pattern ``own``, summed over background patterns ``others``."""
    inside, outside = np.empty(width, np.int64), np.empty(width, np.int64)
    b = _members(~own & ((np.int64(1) << width) - 1), outside)  # what only the background row may pass, else the leaf is not reached
    below, both = 0.0, 0.0
    for z in range(len(others)):
        if own | others[z] != (np.int64(1) << width) - 1:
            continue
        a, weight = _members(own & ~others[z], inside), counts[z]
        if a:
            gain = weight * beta[a, b + 1]
            for j in range(a):
                value[inside[j]] += gain
        if b:
            below += weight * beta[a + 1, b]
        if pairs:
            if a > 1:
                gain = weight * beta[a - 1, b + 1]
                for j in range(a):
                    for h in range(j):
                        pair[inside[j], inside[h]] += gain
                        pair[inside[h], inside[j]] += gain
            if a and b:
                gain = weight * beta[a, b]
                for j in range(a):
                    for h in range(b):
                        pair[inside[j], outside[h]] -= gain
                        pair[outside[h], inside[j]] -= gain
            if b > 1:
                both += weight * beta[a + 1, b - 1]
    for j in range(b):
        value[outside[j]] -= below
        for h in range(b):
            if pairs and h != j:
                pair[outside[j], outside[h]] += both


@njit(cache=True)
def _against_cover(own, width, share, t, weight, pairs, value, pair):  # type: ignore[no-untyped-def]
    """The same for the path-dependent game, by quadrature; ``share`` (width,) says what part of the training rows passes."""
    ratio = np.empty(width)
    for j in range(len(t)):
        product = weight[j]
        for s in range(width):
            o = float((own >> s) & 1)
            factor = o * t[j] + share[s] * (1 - t[j])
            product *= factor
            ratio[s] = (o - share[s]) / factor
        for s in range(width):
            value[s] += product * ratio[s]
            if pairs:
                for r in range(width):
                    if r != s:
                        pair[s, r] += product * ratio[s] * ratio[r]


@njit(cache=True)
def leaf_values(w, columns, background, beta, nodes, weights, pairs, phi, both):  # type: ignore[no-untyped-def]
    """Add Shapley values to ``phi`` (outputs, players, n) and, with ``pairs``, interactions to ``both`` (outputs, players, players, n).

    ``background`` (features, rows) makes the interventional game, without rows the path-dependent one is played.
    """
    n, m, wide = columns.shape[1], background.shape[1], w.value.shape[1]
    deepest, widest = w.depth.max(), max(1, w.width.max())
    bits, others = np.zeros((deepest + 1, n), np.int64), np.zeros((deepest + 1, m), np.int64)
    size = 16
    while size < 2 * max(n, m):
        size *= 2
    slots, kinds, group = np.empty(size, np.int64), np.empty(n, np.int64), np.empty(n, np.int64)
    kinds_b, group_b = np.empty(m, np.int64), np.empty(m, np.int64)
    value, pair = np.empty((n, widest)), np.empty((n if pairs else 1, widest, widest))
    player, share, path = np.empty(widest, np.int64), np.empty(widest), np.empty(deepest + 1, np.int64)
    for tree in range(len(w.output)):
        first, out = w.gates[tree], w.output[tree]
        for k in range(w.nodes[tree] + 1, w.nodes[tree + 1]):
            e, width = w.depth[k], w.width[k]
            path[e] = k
            _passes(w, k, first, columns, bits)
            _passes(w, k, first, background, others)
            if not w.leaf[k]:
                continue
            for d in range(1, e + 1):  # the last edge of a player holds the product of all its shares
                player[w.slot[path[d]]], share[w.slot[path[d]]] = w.player[path[d]], w.share[path[d]]
            kinds_there = _group(others[e], slots, kinds_b, group_b)
            counts = np.zeros(kinds_there)
            for z in range(m):
                counts[group_b[z]] += 1.0 / m
            kinds_here, q = _group(bits[e], slots, kinds, group), (width + 1) // 2
            for g in range(kinds_here):
                at = g if pairs else 0
                value[g, :width] = 0.0
                pair[at, :width, :width] = 0.0
                if m:
                    _against_background(kinds[g], width, kinds_b[:kinds_there], counts, beta, pairs, value[g], pair[at])
                else:
                    _against_cover(kinds[g], width, share, nodes[q, :q], weights[q, :q], pairs, value[g], pair[at])
            for o in range(wide):
                c = w.value[k, o]
                for s in range(width):
                    to = phi[out + o, player[s]]
                    for i in range(n):
                        to[i] += c * value[group[i], s]
                    if pairs:
                        for r in range(width):
                            if r != s:
                                to = both[out + o, player[s], player[r]]
                                for i in range(n):
                                    to[i] += c * pair[group[i], s, r]


@njit(cache=True)
def coalition_margins(w, row, other, bit, live, out):  # type: ignore[no-untyped-def]
    """Margins of all coalitions: ``out`` (outputs, 2**live), each with the row's columns where the player's bit is set.

    ``row`` and ``other`` (features,) are an instance and a background row; ``bit`` numbers each player among the live ones, -1 for
    players that both agree on. A leaf counts for the coalitions that hold the players only the row passes and none of those
    only the other passes: it is added to these, or to the terms of their inclusion-exclusion sum, whichever are fewer.
    """
    direct, terms = np.zeros(out.shape), np.zeros(out.shape)
    deepest = w.depth.max()
    need, ban, dead = np.zeros(deepest + 1, np.int64), np.zeros(deepest + 1, np.int64), np.zeros(deepest + 1, np.bool_)
    every = (np.int64(1) << live) - 1
    for tree in range(len(w.output)):
        first = w.gates[tree]
        for k in range(w.nodes[tree], w.nodes[tree + 1]):
            e = w.depth[k]
            if e:
                g = first + w.gate[k]
                mine = _left(row[w.feature[g]], w.threshold[g], w.missing_left[g]) == w.left[k]
                its = _left(other[w.feature[g]], w.threshold[g], w.missing_left[g]) == w.left[k]
                need[e], ban[e], dead[e] = need[e - 1], ban[e - 1], dead[e - 1] or not (mine or its)
                if mine and not its:
                    need[e] |= np.int64(1) << bit[w.player[k]]
                if its and not mine:
                    ban[e] |= np.int64(1) << bit[w.player[k]]
                dead[e] = dead[e] or (need[e] & ban[e]) != 0
            if not w.leaf[k] or dead[e]:
                continue
            free = every & ~(need[e] | ban[e])
            few = _size(ban[e]) <= _size(free)
            span = ban[e] if few else free
            for o in range(w.value.shape[1]):
                to, c, part = (terms if few else direct)[w.output[tree] + o], w.value[k, o], span
                while True:
                    to[need[e] | part] += -c if few and _size(part) & 1 else c
                    if part == 0:
                        break
                    part = (part - 1) & span
    for o in range(len(out)):
        for p in range(live):
            step = 1 << p
            for start in range(0, every + 1, 2 * step):
                for s in range(start, start + step):
                    terms[o, s + step] += terms[o, s]
        for s in range(every + 1):
            out[o, s] += direct[o, s] + terms[o, s]


@njit(cache=True)
def _size(bits):  # type: ignore[no-untyped-def]
    count = 0
    while bits:
        bits &= bits - 1
        count += 1
    return count
