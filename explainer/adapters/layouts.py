"""From attributions shaped like a module's tensor to the parts a person can name, one layout per modality."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from explainer.adapters.encoding import Arguments
from explainer.errors import InvalidInput, Unsupported
from explainer.features.text import words

if TYPE_CHECKING:
    from explainer.adapters.torch import TorchModel


class Layout(ABC):
    """The feature axes of one batch; ``collapse`` never loses a part of the sum that belongs to a feature."""

    axes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    named: tuple[str, ...] = ("auto", "zeros", "mean")
    needs_background = True

    @abstractmethod
    def collapse(self, values: np.ndarray, i: int) -> np.ndarray:
        """Values of instance ``i``, shaped like a row of the module's tensor, summed onto the feature axes."""

    def collapse_all(self, values: np.ndarray) -> Sequence[np.ndarray]:
        """All instances of the batch at once."""
        return [self.collapse(one, i) for i, one in enumerate(values)]

    def names(self, i: int) -> tuple[str, ...]:
        return ()

    def extras(self, i: int) -> Mapping[str, Any]:
        return {}

    def reference(self, model: TorchModel, inputs: Any, spec: Any, background: Any) -> Any:
        """The baseline ``spec`` as canonical inputs, or as a tensor the module's input can be replaced by."""
        if isinstance(spec, str):
            if spec not in self.named:
                valid = ", ".join(map(repr, self.named))
                raise InvalidInput(f"baseline={spec!r} is not known; it is {valid}, or inputs of the model (one, or one each).")
            if spec == "mean" and background is None and self.needs_background:
                raise InvalidInput("baseline='mean' needs background rows; pass background= to wrap() or explain(), or baseline='zeros'.")
            return self.named_reference(model, inputs, spec, background)
        given = model.canonical(spec)
        if len(given) not in (1, len(inputs)):
            raise InvalidInput(f"The baseline has {len(given)} rows for {len(inputs)} inputs; pass one, or one for each.")
        return given

    @abstractmethod
    def named_reference(self, model: TorchModel, inputs: Any, spec: str, background: Any) -> Any:
        """The reference for one of ``named``."""


def layout_for(model: TorchModel, inputs: Any, arguments: Arguments, position: int, x: Tensor) -> Layout:
    """The layout of one encoded batch. Raises Unsupported where tensor and features cannot be matched."""
    if model.modality == "tabular":
        return TableLayout(model, x, position)
    if model.modality == "image":
        return ImageLayout(inputs, x)
    if model.modality == "series":
        return SeriesLayout(model, inputs, x)
    return TextLayout(model, inputs, arguments, position)


class TableLayout(Layout):
    """Encoded columns to the raw columns they were made from; one-hot columns belong together."""

    axes = ("column",)
    named = ("auto", "median", "zeros", "mean")

    def __init__(self, model: TorchModel, x: Tensor, position: int) -> None:
        self._names = model.feature_names
        self._position = position
        self._like = x[:1]
        width, columns = x.shape[1], len(model.feature_names)
        groups = getattr(model.preprocess, "groups", None)
        if groups is None and width == columns:
            groups = range(columns)
        if groups is None or len(groups) != width:
            came = "has no .groups" if groups is None else f"has .groups of {len(groups)} entries"
            raise Unsupported(
                f"The {columns} columns are encoded as {width}, and preprocess {came}, so that the raw column of each cannot be told. "
                f"Set preprocess.groups to {width} indices of raw columns, or use 'shap' or 'lime'."
            )
        self._groups = np.asarray(groups, dtype=np.int64)
        if self._groups.min() < 0 or self._groups.max() >= columns:
            raise Unsupported(f"preprocess.groups names column {int(self._groups.max())}; the raw columns are 0 to {columns - 1}.")

    def names(self, i: int) -> tuple[str, ...]:
        return self._names

    def collapse(self, values: np.ndarray, i: int) -> np.ndarray:
        flat = values.reshape(len(values), -1).sum(1)
        return np.bincount(self._groups, weights=flat, minlength=len(self._names))

    def collapse_all(self, values: np.ndarray) -> Sequence[np.ndarray]:
        if np.array_equal(self._groups, np.arange(len(self._names))):
            return values.reshape(*values.shape[:2], -1).sum(-1)
        return super().collapse_all(values)

    def named_reference(self, model: TorchModel, inputs: Any, spec: str, background: Any) -> Any:
        if spec == "mean":
            return model.encode(background).tensors[self._position].double().mean(0, keepdim=True)
        if spec in ("auto", "median") and background is not None:
            from explainer.features.tabular import typical_row

            return model.canonical(typical_row(background))
        if spec != "zeros":
            self.notes = ("No background was given: the baseline is zero in every encoded column.",)
        return torch.zeros_like(self._like)


class ImageLayout(Layout):
    """Channels summed: one value per pixel."""

    axes = ("row", "column")
    named = ("auto", "zeros", "mean", "blur")
    needs_background = False

    def __init__(self, images: np.ndarray, x: Tensor) -> None:
        self._size = images.shape[1:3]
        self._channels = 1 if images.ndim == 3 else images.shape[3]
        height, width = self._size
        flat = x.ndim == 2 and x.shape[1] == height * width * self._channels
        if not flat and not (x.ndim in (3, 4) and tuple(x.shape[-2:]) == (height, width)):
            raise Unsupported(
                f"preprocess turns images of {height} x {width} into {tuple(x.shape[1:])}, so that gradients are not per pixel of the "
                "image. Pass images at the module's own size, or put the resizing inside the module; or use 'shap' or 'lime'."
            )

    def collapse(self, values: np.ndarray, i: int) -> np.ndarray:
        if values.ndim == 1:
            return values.reshape(*self._size, self._channels).sum(-1)
        return values.sum(0) if values.ndim == 3 else values

    def named_reference(self, model: TorchModel, inputs: Any, spec: str, background: Any) -> Any:
        from explainer.features.image import baseline_of

        return baseline_of(inputs, spec)


class SeriesLayout(Layout):
    """Time steps x channels, cut to each series' own length."""

    axes = ("time", "channel")

    def __init__(self, model: TorchModel, series: Sequence[np.ndarray], x: Tensor) -> None:
        self._lengths = [len(one) for one in series]
        self._channels = model.feature_names or tuple(f"channel {c}" for c in range(series[0].shape[1]))
        channels, longest = len(self._channels), max(self._lengths)
        time_first = x.ndim == 3 and x.shape[2] == channels and x.shape[1] >= longest
        channels_first = x.ndim == 3 and x.shape[1] == channels and x.shape[2] >= longest
        if not time_first and not channels_first:
            raise Unsupported(
                f"preprocess turns series of {longest} steps x {channels} channels into {tuple(x.shape[1:])}, so that gradients are not "
                "per step and channel. Give the module the steps as they are, or use 'shap' or 'lime'."
            )
        if time_first and channels_first:  # as many steps as channels: the values tell which way they lie
            given = torch.from_numpy(np.asarray(series[0])).to(x)
            straight, across = x[0, : self._lengths[0]], x[0].T[: self._lengths[0]]
            time_first = bool((straight - given).abs().sum() <= (across - given).abs().sum())
        self.time_first = time_first

    def names(self, i: int) -> tuple[str, ...]:
        return tuple(f"{channel} at step {t}" for t in range(self._lengths[i]) for channel in self._channels)

    def collapse(self, values: np.ndarray, i: int) -> np.ndarray:
        return (values if self.time_first else values.T)[: self._lengths[i]]

    def present(self, steps: int) -> np.ndarray:
        """Which of ``steps`` padded positions ``(n, steps)`` hold a real step."""
        return np.arange(steps)[None, :] < np.array(self._lengths)[:, None]

    def reference(self, model: TorchModel, inputs: Any, spec: Any, background: Any) -> Any:
        if per_channel(spec):
            flat = np.asarray(spec, dtype=np.float32)
            if flat.shape in ((), (len(self._channels),)):  # one value for all, or one per channel
                return [np.broadcast_to(flat, (length, len(self._channels))).copy() for length in self._lengths]
        given = super().reference(model, inputs, spec, background)
        if isinstance(spec, str):
            return given
        given = list(given) * (len(inputs) if len(given) == 1 else 1)
        fitted = [np.repeat(one, n, axis=0) if len(one) == 1 else one for one, n in zip(given, self._lengths, strict=True)]
        if [len(one) for one in fitted] != self._lengths:
            raise InvalidInput("A baseline series must have as many steps as the series it is the baseline of, or one step to be repeated.")
        return fitted

    def named_reference(self, model: TorchModel, inputs: Any, spec: str, background: Any) -> Any:
        mean = np.zeros(len(self._channels), dtype=np.float32)
        if spec != "zeros" and background is not None:
            mean = np.concatenate(background).mean(0, dtype=np.float64).astype(np.float32)
        elif spec == "auto":
            self.notes = ("No background was given: the baseline is zero in every channel.",)
        return [np.tile(mean, (length, 1)) for length in self._lengths]


class TextLayout(Layout):
    """Tokens to the words they are part of. Special tokens and padding belong to no word."""

    axes = ("word",)

    def __init__(self, model: TorchModel, texts: Sequence[str], arguments: Arguments, position: int) -> None:
        encoder = model.preprocess
        if not hasattr(encoder, "offsets"):
            raise Unsupported(
                "preprocess has no .offsets(texts), so that tokens cannot be traced to words. Give it one that returns, per text, the "
                "(start, end) characters of each token ((0, 0) for special tokens), or use 'shap' or 'lime'."
            )
        self._texts = list(texts)
        self.spans = [words(text) for text in self._texts]
        width = arguments.tensors[position].shape[1]
        real = token_mask(arguments, position, getattr(encoder, "pad_id", None))
        self.owners = np.full((len(texts), width), -1)
        self.tokens: list[np.ndarray] = []
        cut = 0
        for i, offsets in enumerate(encoder.offsets(self._texts)):
            positions = np.flatnonzero(real[i])
            self.tokens.append(positions)
            # Offsets may come padded, or for the real tokens alone.
            placed = zip(positions, offsets if len(offsets) <= len(positions) else [offsets[p] for p in positions], strict=False)
            end = 0
            for where, (start, stop) in placed:
                if stop > start:
                    self.owners[i, where] = owner(self._texts[i], self.spans[i], start, stop)
                    end = max(end, stop)
            cut += sum(a >= end for a, _ in self.spans[i])
        if cut:
            limit = getattr(encoder, "max_length", width)
            self.notes = (f"{cut} words lie beyond the {limit} tokens that the model reads; their value is 0.",)

    def names(self, i: int) -> tuple[str, ...]:
        return tuple(self._texts[i][a:b] for a, b in self.spans[i])

    def extras(self, i: int) -> Mapping[str, Any]:
        return {"spans": np.array(self.spans[i], dtype=np.int64).reshape(-1, 2)}

    def collapse(self, values: np.ndarray, i: int) -> np.ndarray:
        per_token = values.reshape(len(values), -1).sum(1)
        owners = self.owners[i]
        return np.bincount(owners[owners >= 0], weights=per_token[owners >= 0], minlength=len(self.spans[i]))

    def word_positions(self, device: torch.device) -> Tensor:
        """Which token positions ``(n, tokens)`` carry a word."""
        return torch.from_numpy(self.owners >= 0).to(device)

    def named_reference(self, model: TorchModel, inputs: Any, spec: str, background: Any) -> Any:
        raise InvalidInput("Text has no reference inputs; its baseline is made of token embeddings.")


def per_channel(baseline: Any) -> bool:
    """Whether a series baseline is one number, or one number per channel."""
    if isinstance(baseline, str):
        return False
    return np.ndim(baseline[0]) == 0 if isinstance(baseline, (list, tuple)) and baseline else np.ndim(baseline) < 2


def owner(text: str, spans: Sequence[tuple[int, int]], start: int, stop: int) -> int:
    """Index of the word a token belongs to: the one its first visible character lies in, else the nearest before it."""
    while start < stop - 1 and text[start].isspace():
        start += 1
    found = bisect_right(spans, start, key=lambda span: span[0]) - 1
    return max(found, 0) if spans else -1


def token_mask(arguments: Arguments, position: int, pad_id: int | None) -> np.ndarray:
    """Which positions ``(n, tokens)`` hold real tokens: the mask the module is given, else those that are not padding."""
    ids = arguments.tensors[position]
    named = arguments.index("mask", "attention_mask")
    masks = [t for t in arguments.tensors if t.dtype == torch.bool and t.shape == ids.shape]
    if named is not None:
        return arguments.tensors[named].bool().cpu().numpy()
    if masks:
        return masks[0].cpu().numpy()
    return (ids != pad_id).cpu().numpy() if pad_id is not None else np.ones(tuple(ids.shape), dtype=bool)
