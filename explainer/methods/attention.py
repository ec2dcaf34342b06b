"""Attention on torch models, read in four ways and brought from tokens to words, time steps and patches."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from explainer.adapters.torch import TorchModel, require_torch
from explainer.errors import ExplainerError, Unsupported, unknown
from explainer.inputs import take
from explainer.methods.attribution import Attribution
from explainer.methods.capture import Captured, gradients_by, rows_at_once, stacked
from explainer.methods.readings import flow, norms, relevance, rollout, travelled
from explainer.model import Capability, Model
from explainer.target import Target

Progress = Callable[[int, int], None]
FLOW_TOKENS = 128
_NOTE = "Attention does not depend on the target: it says where information flowed, not what decided."
_RESTRICTED = (
    "Another sequence reads the tokens (an encoder-decoder, or a query that pools): its last cross-attention layer where the score is "
    "read, then the rollout of the layers below; what its own tokens pass on among themselves is left out."
)
_LATER = "Use attention (kind='raw', stream='cross') for its weights, or integrated_gradients or shap."


def attention(
    model: Model,
    inputs: Any,
    target: Target,
    *,
    kind: Literal["rollout", "raw"] = "rollout",
    readout: str | int = "auto",
    stream: Literal["auto", "encoder", "decoder", "cross"] = "auto",
    progress: Progress | None = None,
) -> Attribution:
    """Attention weights of every layer and head, and their rollout: how much of each part reaches the read-out token.

    Rollout: per layer the mean over heads ``A``, mixed with the residual as ``(A + I) / 2`` and row-normalised, multiplied
    over the layers; the row of the read-out token, summed over a word's tokens. The shares of all tokens add up to 1; that
    of special tokens is left out and reported. Abnar & Zuidema 2020, arXiv:2005.00928. Of an encoder-decoder, the last
    cross-attention layer stands above the encoder's rollout, and a note says so.

    Parameters
    ----------
    kind : "rollout", one share per word, time step or pixel; or "raw", the weights ``(layer, head, query, key)`` on tokens.
    readout : the token the score is read from: "first" (a classification token), "last", "mean" (of all tokens), a
        position, or "auto": the tokens whose state after the last attention layer the score's gradient reaches.
    stream : of an encoder-decoder, the raw weights that are given: "encoder", "decoder", "cross" or "auto", which is cross.

    Fused attention is computed in the open meanwhile; scores must then equal those of the untouched model to 1e-5
    (Unsupported with the difference otherwise). Raises Unsupported where the model computes no attention over its tokens.
    """
    if kind not in ("rollout", "raw"):
        raise unknown("kind of attention", kind, ("rollout", "raw"))
    if kind == "raw":
        return _Reading("attention", readout, note=_NOTE).cells(
            model, inputs, target, lambda found: found.weights(found.stream(stream)), progress, stream
        )  # fmt: skip

    def weigh(found: Captured, reading: np.ndarray) -> np.ndarray:
        if found.crossing:
            found.notes.append(_RESTRICTED)
            reading = (reading[:, None, :] @ np.nanmean(found.weights(found.crossing[-1:])[:, 0].astype(np.float64), axis=1))[:, 0]
        return rollout(found.weights(), reading) if found.layers else reading

    return _Reading("attention", readout, note=_NOTE, decoders=True).parts(model, inputs, target, weigh, progress)


def attention_flow(
    model: Model, inputs: Any, target: Target, *, readout: str | int = "auto", progress: Progress | None = None
) -> Attribution:
    """The most that can flow from the read-out token down to each part, through the layers' attention as pipes.

    Maximum flow in the graph whose edges from layer to layer carry at most ``(A + I) / 2``, ``A`` the mean over heads; one
    flow per token, so that the values do not add up. Capacities are rounded to multiples of 2^-30. Abnar & Zuidema 2020,
    arXiv:2005.00928. ``readout`` as in :func:`attention`.

    Raises Unsupported for inputs of more than 128 tokens (a max-flow per token of a graph of layers x tokens^2 edges), for an
    encoder-decoder, and as :func:`attention` does.
    """

    def weigh(found: Captured, reading: np.ndarray) -> np.ndarray:
        real, weights = found.tokens.real, found.weights()
        longest = int(real.sum(1).max())
        if longest > FLOW_TOKENS:
            raise Unsupported(f"attention_flow takes at most {FLOW_TOKENS} tokens; an input has {longest}. Use 'attention', the rollout.")
        made = np.zeros(real.shape)
        for i, kept in enumerate(map(np.flatnonzero, real)):
            made[i, kept] = flow(weights[i][:, :, kept][..., kept], reading[i, kept])
        return made

    return _Reading("attention_flow", readout, note=_NOTE).parts(model, inputs, target, weigh, progress)


def attention_relevance(
    model: Model, inputs: Any, target: Target, *, output: str = "probability", readout: str | int = "auto", progress: Progress | None = None
) -> Attribution:
    """Attention weighted by how the target reacts to it, passed from layer to layer: it depends on the target.

    ``R <- R + mean over heads of (d f / d A * A)+ R`` from ``R = I``; the row of the read-out token without ``I``, what that
    token says of itself. Chefer, Gur & Wolf 2021, arXiv:2103.15679. ``readout`` as in :func:`attention`.

    Raises Unsupported where the scores cannot be differentiated, for an encoder-decoder, and as :func:`attention` does.
    """

    def weigh(found: Captured, reading: np.ndarray) -> np.ndarray:
        weights = found.weights()
        each = [relevance(weights, _gradients(found, target.only(j), output), reading) for j in range(target.k)]
        return np.stack(each, -1)

    return _Reading("attention_relevance", readout).parts(model, inputs, target, weigh, progress)


def attention_norms(
    model: Model,
    inputs: Any,
    target: Target,
    *,
    kind: Literal["rollout", "raw"] = "rollout",
    readout: str | int = "auto",
    progress: Progress | None = None,
) -> Attribution:
    """Attention weighted by the size of what it carries: ``||a_ij v_j W_O||``, a small vector counts little.

    "raw": the norm per layer and head. "rollout": the norms ``||sum over heads of a_ij v_j W_O||`` of a layer, each row brought
    to the sum 1, take the place of the mean weights in the rollout. Kobayashi, Kuribayashi, Yokoi & Inui 2020,
    arXiv:2004.10102. ``readout`` as in :func:`attention`.

    Raises Unsupported where values or output projection cannot be seen, for an encoder-decoder, and as :func:`attention` does.
    """
    if kind not in ("rollout", "raw"):
        raise unknown("kind of attention norms", kind, ("rollout", "raw"))
    reading = _Reading("attention_norms", readout, note=_NOTE)
    if kind == "raw":
        return reading.cells(model, inputs, target, lambda found: stacked([torch.from_numpy(one) for _, one in _normed(found)]), progress)

    def weigh(found: Captured, reading: np.ndarray) -> np.ndarray:
        mixing = np.stack([together for together, _ in _normed(found)], 1)
        total = mixing.sum(-1, keepdims=True)
        return travelled(np.divide(mixing, total, out=np.zeros_like(mixing), where=total > 0), reading)

    return reading.parts(model, inputs, target, weigh, progress)


def _normed(found: Captured) -> list[tuple[np.ndarray, np.ndarray]]:
    """Per layer, the norms over heads together and per head."""
    made = []
    for number, layer in enumerate(found.layers):
        if layer.values is None or layer.projection is None:
            raise Unsupported(
                f"The values or the output projection of attention layer {number} of {type(found.model.core).__name__} cannot be seen "
                "(no linear layer takes its heads side by side). Use 'attention' or 'attention_relevance'."
            )
        made.append(norms(*(t.detach().double().cpu().numpy() for t in (layer.weights, layer.values, layer.projection))))
    return made


def _gradients(found: Captured, goal: Target, output: str) -> np.ndarray:
    """Gradient of each input's target by every weight ``(n, layers, heads, tokens, tokens)``."""
    gradients, size = gradients_by(found.model, found.scores, goal, output, found.rows, [layer.used for layer in found.layers])
    shaped = [_like(gradient, layer.weights) for gradient, layer in zip(gradients, found.layers, strict=True)]
    return stacked(shaped).astype(np.float64) * size[:, None, None, None, None]


def _like(gradient: Tensor | None, weights: Tensor) -> Tensor:
    return torch.zeros_like(weights) if gradient is None else gradient.reshape(weights.shape)


@dataclass
class _Reading:
    """One way to read attention, over all batches."""

    method: str
    readout: str | int
    note: str = ""
    decoders: bool = False

    def parts(
        self, model: Model, inputs: Any, target: Target, weigh: Callable[[Captured, np.ndarray], np.ndarray], progress: Progress | None
    ) -> Attribution:
        """Values on words, time steps or pixels, from relevance per token ``(n, tokens[, targets])``."""
        special: list[float] = [0.0] * len(inputs)
        readouts: set[str] = set()

        def values(found: Captured, kept: _Kept) -> None:
            if found.crossing and not self.decoders:
                raise Unsupported(f"{self.method} does not follow the decoder of {type(found.model.core).__name__}. {_LATER}")
            reading, described = found.reading(self.readout)
            readouts.update(described)
            given = weigh(found, reading)
            given = given if given.ndim == 3 else np.repeat(given[..., None], target.k, axis=-1)
            for i, row in enumerate(found.rows):
                kept.values[row] = np.stack([found.tokens.parts(given[i, :, j], i) for j in range(target.k)], -1)
                kept.names[row] = found.tokens.names(i)
                total = given[i].sum(0)
                shares = (total - kept.values[row].reshape(-1, target.k).sum(0)) / np.where(total > 0, total, 1)
                special[row] = float(np.clip(shares.mean(), 0, 1))
                kept.weights(found, i, row)

        kept = self._run(model, inputs, values, progress)
        if any(share > 1e-9 for share in special):
            kept.notes.append(
                f"Special tokens hold {float(np.mean(special)):.0%} of the relevance on average; it belongs to no part of the input."
            )
        kept.extras["special"] = special
        readout = self.readout if self.readout != "auto" else f"auto: {', '.join(sorted(readouts))}"
        return kept.attribution(inputs, kept.axes, self._parameters("rollout", readout), self.note)

    def cells(
        self, model: Model, inputs: Any, target: Target, read: Callable[[Captured], np.ndarray], progress: Progress | None,
        stream: str = "encoder",
    ) -> Attribution:  # fmt: skip
        """Values on ``(layer, head, query, key)``, the same for every target."""
        crossed = False

        def values(found: Captured, kept: _Kept) -> None:
            nonlocal crossed
            if found.crossing and stream == "encoder" and self.method != "attention":
                raise Unsupported(f"{self.method} does not follow the decoder of {type(found.model.core).__name__}. {_LATER}")
            crossed = bool(found.crossing) and stream in ("auto", "cross")
            decoder = bool(found.crossing) and stream == "decoder"
            given = read(found)
            for i, row in enumerate(found.rows):
                kept.weights(found, i, row, stream)
                real = np.flatnonzero(found.tokens.real[i])
                cut = given[i] if decoder else given[i][..., real]
                cut = cut if decoder or crossed else cut[..., real, :]
                # A head that a layer lacks is 0 here: in values, NaN says that an input has none.
                kept.values[row] = np.repeat(np.nan_to_num(cut)[..., None].astype(np.float64), target.k, axis=-1)
                kept.names[row] = tuple(f"layer {k}" for k in range(cut.shape[0]))

        kept = self._run(model, inputs, values, progress)
        axes = ("layer", "head", "decoder token", "token") if crossed else ("layer", "head", "query", "key")
        return kept.attribution(inputs, axes, self._parameters("raw", self.readout), self.note)

    def _parameters(self, kind: str, readout: str | int) -> dict[str, Any]:
        return {**({"kind": kind} if self.method in ("attention", "attention_norms") else {}), "readout": readout}

    def _run(self, model: Model, inputs: Any, read: Callable[[Captured, _Kept], None], progress: Progress | None) -> _Kept:
        torch_model, kept = require_torch(model, self.method), _Kept(len(inputs))
        if model.modality == "tabular":
            raise Unsupported("Attention over the columns of tabular inputs is not traced to them. Use 'integrated_gradients' or 'shap'.")
        with torch_model.differentiating():
            done = 0
            for rows in torch_model.batches(inputs, rows_at_once(torch_model, inputs)):
                found = Captured.of(torch_model, take(inputs, rows), rows)
                read(found, kept)
                kept.axes = found.tokens.axes
                kept.notes.extend(note for note in (*found.tokens.layout.notes, *found.notes) if note not in kept.notes)
                done += len(rows)
                if progress is not None:
                    progress(done, len(inputs))
        return kept


class _Kept:
    """Results by input, filled batch by batch."""

    def __init__(self, n: int) -> None:
        self.values: list[Any] = [None] * n
        self.names: list[tuple[str, ...]] = [()] * n
        self.axes: tuple[str, ...] = ()
        self.extras: dict[str, list[Any]] = {"attention": [None] * n, "tokens": [None] * n}
        self.notes: list[str] = []

    def weights(self, found: Captured, i: int, row: int, stream: str = "encoder") -> None:
        """Keep the weights and token names of one input, for figures."""
        real, labels = np.flatnonzero(found.tokens.real[i]), found.tokens.labels(i)
        layers = found.stream(stream if stream != "encoder" or found.layers else "auto")
        weights = found.weights(layers)[i]
        own, crossing = layers is found.layers, layers is found.crossing
        weights = weights if layers is found.decoding else weights[..., real]
        self.extras["attention"][row] = weights[..., real, :] if own else weights
        decoder = [f"decoder {k}" for k in range(weights.shape[-2])]
        self.extras["tokens"][row] = decoder if layers is found.decoding else labels
        if crossing:
            self.extras.setdefault("queries", [None] * len(self.values))[row] = decoder
        spans = found.tokens.layout.extras(i).get("spans")
        if spans is not None:
            self.extras.setdefault("spans", [None] * len(self.values))[row] = spans

    def attribution(self, inputs: Any, axes: tuple[str, ...], parameters: dict[str, Any], note: str) -> Attribution:
        extras: dict[str, Sequence[Any]] = dict(self.extras)
        notes = (*((note,) if note else ()), *self.notes)
        return Attribution(
            values=self.values, axes=axes, names=self.names, evaluations=2 * len(inputs), extras=extras, parameters=parameters, notes=notes
        )  # fmt: skip


@dataclass(frozen=True)
class _Facts:
    """What one probe says: why the tokens cannot be told, whether a decoder reads them, whether the values' way on is seen."""

    obstacle: str = ""
    decoder: bool = False
    carried: bool = True


_KNOWN: weakref.WeakKeyDictionary[Any, _Facts] = weakref.WeakKeyDictionary()


def _facts(model: Any) -> _Facts:
    if model not in _KNOWN:
        _KNOWN[model] = _probed(model)
    return _KNOWN[model]


def _probed(model: Any) -> _Facts:
    sample = model.sample() if isinstance(model, TorchModel) else None
    if sample is None:
        return _Facts()
    try:
        with model.differentiating():
            found = Captured.of(model, sample, np.arange(1))
    except (ExplainerError, RuntimeError) as error:
        return _Facts(str(error))
    return _Facts("", bool(found.crossing), all(one.values is not None and one.projection is not None for one in found.layers))


def fits(model: Any) -> Capability | None:
    """Unsupported where the positions attention is over cannot be told."""
    facts = _facts(model)
    return Capability("unsupported", facts.obstacle) if facts.obstacle else None


def fits_encoder(model: Any) -> Capability | None:
    """Unsupported where a decoder reads the tokens as well."""
    if _facts(model).decoder:
        return Capability(
            "unsupported", f"{model.name} reads its tokens from another sequence (an encoder-decoder, or learned queries). {_LATER}"
        )
    return fits(model)


def fits_norms(model: Any) -> Capability | None:
    """Unsupported where the values, or the linear layer that takes them on, are not seen."""
    if _facts(model).carried:
        return fits_encoder(model)
    return Capability("unsupported", f"{model.name} shows no values or no output projection of its heads. Use attention.")
