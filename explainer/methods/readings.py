"""How attention weights are read: rollout, flow, gradient-weighted relevance and value-weighted norms, as plain arrays.

``weights`` are ``(n, layers, heads, tokens, tokens)``, a query per row; NaN where a layer has fewer heads. ``reading`` is
``(n, tokens)``: how much of the score is read from each token after the last layer; a row sums to 1.
"""

from __future__ import annotations

import numpy as np

UNIT = 2**30  # a flow of 1, in the whole numbers that the max-flow solver counts in


def rollout(weights: np.ndarray, reading: np.ndarray) -> np.ndarray:
    """Relevance ``(n, tokens)`` of each token for the read-out. Abnar & Zuidema 2020, arXiv:2005.00928."""
    return travelled(np.nanmean(weights.astype(np.float64), axis=2), reading)


def travelled(mixing: np.ndarray, reading: np.ndarray) -> np.ndarray:
    """``reading`` sent down through layers that mix tokens, ``(n, layers, tokens, tokens)``, and keep half by the residual."""
    mixed = residual(mixing)
    # From the read-out downwards: vector times matrix, never a product of matrices.
    relevance = reading[:, None, :]
    for layer in range(mixed.shape[1] - 1, -1, -1):
        relevance = relevance @ mixed[:, layer]
    return relevance[:, 0]


def residual(mixing: np.ndarray) -> np.ndarray:
    """``(A + I) / 2``, every row brought to the sum 1."""
    mixed = 0.5 * mixing + 0.5 * np.eye(mixing.shape[-1])
    return mixed / mixed.sum(-1, keepdims=True)


def flow(weights: np.ndarray, reading: np.ndarray) -> np.ndarray:
    """The maximum flow ``(tokens,)`` of one instance from the read-out to each token, with ``(A + I) / 2`` as capacities.

    Capacities are rounded to whole multiples of 2^-30, so that a flow is off by at most 2^-31 per edge of its cut.
    Abnar & Zuidema 2020, arXiv:2005.00928.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_flow

    mixed = residual(np.nanmean(weights.astype(np.float64), axis=1))  # (layers, tokens, tokens)
    layers, tokens = mixed.shape[:2]
    # Node 0 is the source; 1 + level * tokens + t is token t below layer `level`, the last level above the last layer.
    upper = 1 + np.arange(1, layers + 1)[:, None, None] * tokens + np.arange(tokens)[None, :, None]
    lower = 1 + np.arange(layers)[:, None, None] * tokens + np.arange(tokens)[None, None, :]
    tail = np.concatenate([np.zeros(tokens, dtype=int), np.broadcast_to(upper, mixed.shape).ravel()])
    head = np.concatenate([1 + layers * tokens + np.arange(tokens), np.broadcast_to(lower, mixed.shape).ravel()])
    capacity = np.rint(np.concatenate([reading, mixed.ravel()]) * UNIT).astype(np.int32)
    nodes = 1 + (layers + 1) * tokens
    graph = csr_array((capacity[capacity > 0], (tail[capacity > 0], head[capacity > 0])), shape=(nodes, nodes))
    return np.array([maximum_flow(graph, 0, 1 + token).flow_value for token in range(tokens)]) / UNIT


def relevance(weights: np.ndarray, gradients: np.ndarray, reading: np.ndarray) -> np.ndarray:
    """``reading (R - I)``, with ``R <- R + mean over heads of (gradient * A)+ R`` over the layers, from ``R = I``.

    Chefer, Gur & Wolf 2021, arXiv:2103.15679, equations 5 and 6. ``I``, what a read-out token says of itself by the residual,
    is left out: it is the same for every target.
    """
    gain = np.nanmean(np.maximum(weights.astype(np.float64) * gradients, 0), axis=2)
    found = reading[:, None, :].astype(np.float64)
    for layer in range(gain.shape[1] - 1, -1, -1):
        found = found + found @ gain[:, layer]
    return found[:, 0] - reading


def norms(weights: np.ndarray, values: np.ndarray, projection: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``||sum over heads of a_ij v_j W_O||`` (n, tokens, tokens) of one layer, and ``||a_ij v_j W_O||`` of each of its heads.

    ``weights`` (n, heads, queries, keys); ``values`` (n, heads, keys, size), bias and all; ``projection`` (heads * size,
    width). Kobayashi, Kuribayashi, Yokoi & Inui 2020, arXiv:2004.10102.
    """
    heads, size = values.shape[1], values.shape[3]
    sent = np.einsum("nhks,hsw->nkhw", values.astype(np.float64), projection.astype(np.float64).reshape(heads, size, -1))
    # (n, keys, heads, width). The square of a sum over heads, by the heads' inner products: no array of queries x keys x width is made.
    products = sent @ sent.swapaxes(-1, -2)  # (n, keys, heads, heads)
    by_key = weights.astype(np.float64).transpose(0, 3, 2, 1)  # (n, keys, queries, heads)
    together = ((by_key @ products) * by_key).sum(-1).swapaxes(-1, -2)
    alone = weights * np.linalg.norm(sent, axis=-1).transpose(0, 2, 1)[:, :, None, :]
    return np.sqrt(np.maximum(together, 0)), alone
