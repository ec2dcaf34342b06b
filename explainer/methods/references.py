"""The points that inputs are compared with: background rows one by one, or a single baseline."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from explainer.adapters.layouts import per_channel
from explainer.adapters.torch import TorchModel
from explainer.errors import InvalidInput
from explainer.features import BACKGROUND_ROWS, drawn
from explainer.inputs import take
from explainer.methods.passes import Batch


class References:
    """``count`` reference points for each input.

    With ``baseline="auto"`` and a background they are the background's rows, at most 100 drawn with ``seed`` (those that SHAP
    takes); a background series is cut to the input's length, or carried on with its own mean. Texts, and models without a
    background, have one reference: the baseline that integrated gradients would start from; ``single`` asks for that one.
    """

    def __init__(self, model: TorchModel, inputs: Any, baseline: Any, background: Any, seed: int, single: bool = False) -> None:
        self._model, self._baseline = model, baseline
        self._background = model.background if background is None else background
        self._own = per_input(model, baseline, len(inputs))
        self._rows: Any = None
        named = isinstance(baseline, str) and baseline == "auto" and not single
        if named and self._background is not None and model.modality != "text":
            self._rows = drawn(self._background, BACKGROUND_ROWS, seed)

    @property
    def count(self) -> int:
        return 1 if self._rows is None else len(self._rows)

    @property
    def in_words(self) -> str:
        """What the parts are compared with, for the provenance."""
        if self._rows is not None and self._background is not None:
            of = f" of {len(self._background)}" if self.count < len(self._background) else ""
            return f"{self.count}{of} background rows"
        return in_words(self._model, self._baseline, self._background) if isinstance(self._baseline, str) else "given"

    def of(self, batch: Batch) -> Tensor:
        """References ``(count, n, ...)`` of a batch, or ``(count, 1, ...)`` where all inputs share them."""
        view = batch.view
        if self._rows is None:
            spec = self._baseline if self._own is None else take(self._own, batch.rows)
            return view.baseline(spec, self._background)[None]
        if self._model.modality == "series":
            lengths = [len(one) for one in view.inputs]
            return torch.stack([view.baseline([_fitted(row, length) for length in lengths]) for row in self._rows])
        encoded = self._model.encode(self._rows).tensors[view.position].to(view.x.dtype)
        if encoded.shape[1:] != view.x.shape[1:]:
            raise InvalidInput(
                f"The background has shape {tuple(encoded.shape[1:])} once encoded; the input has {tuple(view.x.shape[1:])}. "
                "Pass background= of the inputs' size, or a baseline= by name."
            )
        return encoded[:, None]


def _fitted(series: np.ndarray, length: int) -> np.ndarray:
    """A background series at the length of an input."""
    if len(series) >= length:
        return series[:length]
    return np.concatenate([series, np.repeat(series.mean(0, keepdims=True), length - len(series), axis=0)])


def in_words(model: TorchModel, baseline: str, background: Any) -> str:
    """What the name of a baseline stands for on this model."""
    if model.modality == "text":
        pad = getattr(model.preprocess, "pad_name", "the padding token")
        words = {"auto": pad, "mask": "the mask token", "zeros": "the zero vector", "mean": "the vocabulary's mean vector"}
        return f"{words[baseline]} at every word"
    if model.modality == "image":
        return {"mean": "each image's mean colour", "blur": "a blurred copy"}.get(baseline, "a black image")
    if baseline == "zeros" or (background is None and model.background is None):
        return "zero in every encoded column" if model.modality == "tabular" else "zero in every channel"
    if model.modality == "series":
        return "the background's mean per channel"
    return "the background's mean encoded row" if baseline == "mean" else "the background's typical row"


def said(model: TorchModel, baseline: Any, background: Any) -> dict[str, Any]:
    """A single baseline for the provenance: its name and what that stands for, or that it was given."""
    if not isinstance(baseline, str):
        return {"baseline": "given"}
    return {"baseline": baseline, "reference": in_words(model, baseline, background)}


def per_input(model: TorchModel, baseline: Any, n: int) -> Any:
    """A baseline given as one input per input, in canonical form; None where it is a name or one for all."""
    named = isinstance(baseline, str) or (isinstance(baseline, tuple) and baseline and isinstance(baseline[0], str))
    if named or model.modality == "text" or (model.modality == "series" and per_channel(baseline)):
        return None
    given = model.canonical(baseline)
    if len(given) not in (1, n):
        raise InvalidInput(f"The baseline has {len(given)} rows for {n} inputs; pass one, or one for each.")
    return take(given, np.zeros(n, dtype=int)) if len(given) == 1 else given
