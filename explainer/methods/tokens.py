"""From the positions attention is over to the parts a person can name: words, time steps, patches of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from explainer.adapters.encoding import Arguments
from explainer.adapters.grids import token_grid
from explainer.adapters.layouts import Layout, SeriesLayout, TextLayout, layout_for, token_mask
from explainer.adapters.torch import TorchModel
from explainer.errors import Unsupported


class Tokens:
    """The tokens of one batch.

    Attributes
    ----------
    width : how many positions attention must be over; None for pictures, whose patches only the module knows.
    real : ``(n, width)``, which positions hold a token of the input and not padding.
    """

    def __init__(self, model: TorchModel, inputs: Any, arguments: Arguments) -> None:
        self._model, self._inputs = model, inputs
        position, self.width = _token_tensor(model, arguments)
        self._tensor = arguments.tensors[position]
        self.layout: Layout = layout_for(model, inputs, arguments, position, self._tensor)
        if isinstance(self.layout, SeriesLayout) and not self.layout.time_first:
            self.width = int(self._tensor.shape[2])
        self._cells, self._frames = np.zeros((0, 2), dtype=int), 0
        self.notes: list[str] = []
        self._steps = 0
        self.real = np.ones((len(arguments), self.width or 0), dtype=bool)
        if isinstance(self.layout, SeriesLayout):
            self.real = self.layout.present(self.real.shape[1])
        elif isinstance(self.layout, TextLayout):
            self.real = token_mask(arguments, position, getattr(model.preprocess, "pad_id", None))

    @property
    def axes(self) -> tuple[str, ...]:
        return {"text": ("word",), "image": ("row", "column")}.get(self._model.modality, ("time",))

    def settle(self, widths: Sequence[int]) -> None:
        """Find the grid of patches of a picture, or the frames of a series, by the positions attention is over. Raises Unsupported."""
        if isinstance(self.layout, SeriesLayout):
            self._settle_frames(sorted(set(widths)))
        if self.width is not None:
            return
        wanted = list(dict.fromkeys(widths))
        if not wanted:
            raise Unsupported(
                f"{type(self._model.core).__name__} attends within windows or over pooled positions, nowhere over the whole input at once: "
                "attention is not followed from one window to the next. Use 'integrated_gradients' or 'shap'."
            )
        why = "in different layers, and one grid of patches is followed only"
        if len(wanted) == 1:
            try:
                self._cells, self.width = token_grid(self._model, self._inputs, wanted[0]), wanted[0]
                self.real = np.ones((len(self.real), self.width), dtype=bool)
                return
            except Unsupported as error:
                why = f"and which is which part of the picture cannot be told: {error}"
        raise Unsupported(
            f"{type(self._model.core).__name__} attends over {', '.join(map(str, wanted))} positions, {why.rstrip('.')}. "
            "Use 'integrated_gradients' or 'shap'."
        )

    def _settle_frames(self, widths: list[int]) -> None:
        """Attention over fewer positions than steps, the same number in every layer, is over frames of steps of one length."""
        steps = int(self.real.shape[1])
        if len(widths) != 1 or not 1 < widths[0] < steps or not self.real.all():
            return
        self._frames = self.width = widths[0]
        self.real = np.ones((len(self.real), self.width), dtype=bool)
        self._steps = steps
        self.notes.append(f"Attention is over {widths[0]} frames; each is taken for an even share of the {steps} steps, true to one frame.")

    def names(self, i: int) -> tuple[str, ...]:
        if self._model.modality == "series":
            return tuple(f"step {t}" for t in range(self._steps if self._frames else int(self.real[i].sum())))
        return self.layout.names(i)

    def parts(self, relevance: np.ndarray, i: int) -> np.ndarray:
        """Relevance per position, summed onto the parts of input ``i``; a patch's is spread evenly over its pixels."""
        if isinstance(self.layout, TextLayout):
            return self.layout.collapse(relevance, i)
        if self._model.modality == "series":
            return _spread(relevance, self._steps) if self._frames else relevance[self.real[i]]
        (rows, columns), (height, width) = self._cells.max(0) + 1, self._tensor.shape[-2:]
        patch = relevance[self._cells[:, 0] >= 0].reshape(rows, columns)
        return self.layout.collapse(_spread(_spread(patch, height).T, width).T[None], i)

    def labels(self, i: int) -> list[str]:
        """The real tokens in words."""
        kept = np.flatnonzero(self.real[i])
        if self._model.modality == "image":
            return [f"patch {r},{c}" if r >= 0 else f"[{k}]" for k, (r, c) in enumerate(self._cells)]
        if self._model.modality == "series":
            return [f"frame {t}" if self._frames else str(t) for t in range(len(kept))]
        encoder = self._model.preprocess
        if not hasattr(encoder, "tokens"):
            text = self._inputs[i]
            return [text[a:b] if b > a else "" for a, b in encoder.offsets([text])[0]][: len(kept)]
        listed = list(encoder.tokens([self._inputs[i]])[0])
        return listed if len(listed) == len(kept) else [listed[k] for k in kept if k < len(listed)]


def _spread(values: np.ndarray, size: int) -> np.ndarray:
    """``size`` rows for the rows of ``values``, each spread evenly over its share of them."""
    owner = np.arange(size) * len(values) // size
    counts = np.bincount(owner, minlength=len(values))
    return (values / counts.reshape(-1, *[1] * (values.ndim - 1)))[owner]


def _token_tensor(model: TorchModel, arguments: Arguments) -> tuple[int, int | None]:
    """Position of the tensor whose second axis is the tokens, and their number (time before channels); of pictures, that of the pixels."""
    named = arguments.index("ids", "input_ids")
    wanted = {"text": (2,), "series": (3,), "image": (4, 3)}.get(model.modality, ())
    position = named if named is not None else next((i for i, t in enumerate(arguments.tensors) if t.ndim in wanted), None)
    if position is None:
        raise Unsupported(f"preprocess gives {arguments.describe()}: which axis holds the tokens cannot be told.")
    return position, None if model.modality == "image" else arguments.tensors[position].shape[1]
