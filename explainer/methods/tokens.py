"""From the positions attention is over to the parts a person can name: words, time steps, patches of a picture."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from explainer.adapters.encoding import Arguments
from explainer.adapters.layouts import Layout, SeriesLayout, TextLayout, layout_for, token_mask
from explainer.adapters.torch import TorchModel
from explainer.errors import Unsupported

_PREFIXES = (1, 0, 2, 5)  # tokens before the patches: a classification token, none, a distillation token, registers


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
        self._grid, self._frames = (0, 0), 0
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

    def settle(self, widths: Sequence[int], convolved: Sequence[tuple[int, int]]) -> None:
        """Find the grid of patches of a picture, or the frames of a series, by the positions attention is over. Raises Unsupported."""
        if isinstance(self.layout, SeriesLayout):
            self._settle_frames(sorted(set(widths)))
        if self.width is not None:
            return
        size = (int(self._tensor.shape[-2]), int(self._tensor.shape[-1]))
        wanted = dict.fromkeys(widths)
        if len(wanted) == 1:
            grid = patches(widths[0], size, convolved)
            if grid is not None:
                self._grid, self.width = grid, widths[0]
                self.real = np.ones((len(self.real), self.width), dtype=bool)
                return
        raise Unsupported(
            f"{type(self._model.core).__name__} attends over {', '.join(map(str, wanted)) or 'no'} positions, which are not one grid of "
            f"patches of a picture of {size[0]} x {size[1]} with a few tokens before it. Use 'integrated_gradients' or 'shap'."
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
        (rows, columns), (height, width) = self._grid, self._tensor.shape[-2:]
        patch = relevance[len(relevance) - rows * columns :].reshape(rows, columns)
        return self.layout.collapse(_spread(_spread(patch, height).T, width).T[None], i)

    def labels(self, i: int) -> list[str]:
        """The real tokens in words."""
        kept = np.flatnonzero(self.real[i])
        if self._model.modality == "image":
            prefix = len(kept) - self._grid[0] * self._grid[1]
            patch = [f"patch {r},{c}" for r in range(self._grid[0]) for c in range(self._grid[1])]
            return [f"[{k}]" for k in range(prefix)] + patch
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


def patches(tokens: int, size: tuple[int, int], convolved: Iterable[tuple[int, int]] = ()) -> tuple[int, int] | None:
    """The grid ``(rows, columns)`` that ``tokens`` positions stand on after at most five others, or None.

    A convolution whose result has as many places is the one that cut the picture; else the grid has the picture's own shape.
    """
    for grid in reversed(list(convolved)):
        if grid[0] * grid[1] > 1 and 0 <= tokens - grid[0] * grid[1] <= max(_PREFIXES):
            return grid
    height, width = size[0] // math.gcd(*size), size[1] // math.gcd(*size)
    for prefix in _PREFIXES:
        times = math.isqrt(max(tokens - prefix, 0) // (height * width))
        if times and times * times * height * width == tokens - prefix and tokens - prefix > 1:
            return times * height, times * width
    return None


def _token_tensor(model: TorchModel, arguments: Arguments) -> tuple[int, int | None]:
    """Position of the tensor whose second axis is the tokens, and their number; of pictures, that of the pixels."""
    named = arguments.index("ids", "input_ids")
    wanted = {"text": (2,), "series": (3,), "image": (4, 3)}.get(model.modality, ())
    position = named if named is not None else next((i for i, t in enumerate(arguments.tensors) if t.ndim in wanted), None)
    if position is None:
        raise Unsupported(f"preprocess gives {arguments.describe()}: which axis holds the tokens cannot be told.")
    return position, None if model.modality == "image" else arguments.tensors[position].shape[1]
