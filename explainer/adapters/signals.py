"""Image processors and feature extractors of ``transformers``: pictures and sounds as their modules were trained on them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from explainer import inputs as inputs_
from explainer.adapters.encoding import Arguments
from explainer.errors import InvalidInput, Unsupported

_SHAPING = ("do_resize", "do_center_crop", "do_pad")
_WITHIN = 1e-4  # of the processor's own numbers, whose order of float32 operations may differ


class Pictures:
    """An image processor in two steps: :meth:`seen` brings pictures to the size the module sees, and calling it normalises them.

    Explanations are per pixel of the picture seen, in [0, 1] per channel: gradients reach it, which no resizing of 8-bit
    pictures lets through. ``x -> (255 x * rescale_factor - mean) / std``, held against the processor itself when made.

    Raises Unsupported for a processor that does something else.
    """

    def __init__(self, processor: Any, channels: int) -> None:
        self.processor, self.channels = processor, channels
        self.shapes = any(getattr(processor, step, False) for step in _SHAPING)
        probe = np.random.default_rng(0).integers(0, 256, (40, 52, 3), dtype=np.uint8)
        whole = torch.as_tensor(np.asarray(processor(images=[probe], return_tensors="pt")["pixel_values"]))
        self.size = tuple(whole.shape[-2:]) if self.shapes else None
        ours = self(np.asarray(inputs_.canonical(self.seen([probe]), "image")))["pixel_values"]
        difference = float((ours - whole).abs().max()) if ours.shape == whole.shape else float("inf")
        if not difference <= _WITHIN:
            raise Unsupported(
                f"{type(processor).__name__} does more than resize, crop, rescale and normalise (its pixels differ by {difference:.2g}). "
                "Wrap the model itself with modality='image' and preprocess=, a function from (n, H, W, C) in [0, 1] to what it takes."
            )

    def seen(self, inputs: Any) -> Any:
        """Pictures at the size the module sees. 8-bit ones (and PIL) go through the processor; floats at that size are taken as seen."""
        given: Any = inputs if isinstance(inputs, (list, tuple, np.ndarray)) else [inputs]
        batch = isinstance(given, np.ndarray) and given.dtype != object
        for one in [given] if batch else given:
            _in_range(one)
        if not self.shapes:
            return given if batch else [np.asarray(one.convert("RGB")) if hasattr(one, "convert") else one for one in given]
        if batch and (given.ndim == 2 or (given.ndim == 3 and given.shape[-1] == self.channels)):
            given = [given]
        if all(getattr(one, "dtype", np.dtype("u1")).kind == "f" and one.shape[:2] == self.size for one in given):
            return np.stack(list(given))
        pictures = [self._bytes(picture) for picture in given]
        made = self.processor(images=pictures, do_rescale=False, do_normalize=False, return_tensors="pt", input_data_format="channels_last")
        pixels = np.asarray(made["pixel_values"], dtype=np.float32) / 255
        return np.ascontiguousarray(np.moveaxis(pixels, 1, -1))

    def _bytes(self, picture: Any) -> np.ndarray:
        """One picture as 8-bit ``(H, W, channels)``: what a processor resizes."""
        if hasattr(picture, "convert"):  # PIL
            return np.asarray(picture.convert("RGB"), dtype=np.uint8)
        array = np.asarray(picture)
        if array.dtype.kind == "f":
            array = np.round(array * 255).astype(np.uint8)
        array = array[..., None] if array.ndim == 2 else array
        if array.ndim != 3 or array.shape[-1] not in (1, self.channels):
            raise InvalidInput(f"A picture of shape {array.shape} came; (H, W) or (H, W, {self.channels}) is needed.")
        return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], self.channels)).astype(np.uint8))

    def __call__(self, images: np.ndarray) -> dict[str, Tensor]:
        images = np.asarray(images, dtype=np.float32)
        images = np.repeat(images[..., None], self.channels, -1) if images.ndim == 3 else images
        pixels = torch.tensor(np.ascontiguousarray(np.moveaxis(images, -1, 1))) * 255
        of = self.processor
        if getattr(of, "do_rescale", False):
            pixels = pixels * of.rescale_factor
        if getattr(of, "do_normalize", False):
            mean, std = (torch.as_tensor(np.broadcast_to(v, self.channels).copy()).float() for v in (of.image_mean, of.image_std))
            pixels = (pixels - mean[:, None, None]) / std[:, None, None]
        return {"pixel_values": pixels}

    def notes(self) -> tuple[str, ...]:
        if not self.shapes:
            return ()
        steps = " and ".join(step[3:].replace("_", " ") for step in _SHAPING if getattr(self.processor, step, False))
        size = f"the {self.size[0]} x {self.size[1]} picture" if self.size else "the picture"
        return (f"Values are per pixel of {size} that the model sees, after its image processor's {steps}.",)

    def fingerprint(self) -> str:
        return hashlib.sha256(repr(self.processor.to_dict()).encode()).hexdigest()


def _in_range(picture: Any) -> None:
    """Raises InvalidInput for floats that are not 0 to 1."""
    if getattr(picture, "dtype", np.dtype("u1")).kind == "f" and picture.size and not (picture.min() >= 0 and picture.max() <= 1):
        raise InvalidInput(
            f"Pictures of floats from {picture.min():g} to {picture.max():g} came; floats are 0 to 1. Pass 8-bit pictures as uint8."
        )


class Waves:
    """A feature extractor on waveforms ``(T, 1)`` of one length each batch: padding changes what many sound models say."""

    equal_only = True

    def __init__(self, extractor: Any, takes: Sequence[str]) -> None:
        self.extractor, self.takes = extractor, tuple(takes)
        self.rate = int(getattr(extractor, "sampling_rate", 16_000))

    def waveforms(self, inputs: Any) -> list[np.ndarray]:
        """What a person passes as ``(T, 1)`` each: ``(T,)``, ``(n, T)``, or dicts with "raw" or "array" and a sampling rate."""
        if isinstance(inputs, Mapping) or (isinstance(inputs, np.ndarray) and (inputs.ndim == 1 or inputs.shape[1:] == (1,))):
            inputs = [inputs]
        return [self._wave(one, i) for i, one in enumerate(inputs)]

    def _wave(self, one: Any, i: int) -> np.ndarray:
        if isinstance(one, Mapping):
            rate = one.get("sampling_rate", self.rate)
            if rate != self.rate:
                raise InvalidInput(f"Sound {i} has {rate} samples a second and the model takes {self.rate}; resample it first.")
            one = one.get("raw", one.get("array"))
        array = np.asarray(one, dtype=np.float32)
        return array[:, None] if array.ndim == 1 else array

    def __call__(self, series: Sequence[np.ndarray]) -> dict[str, Tensor]:
        made = self.extractor([one[:, 0] for one in series], sampling_rate=self.rate, return_tensors="pt")
        tensors = {name: torch.as_tensor(np.asarray(value)) for name, value in made.items() if name in self.takes}
        # Raw samples keep their axis of channels, so that gradients are per step and channel; read() takes it off.
        return {name: t[..., None] if t.is_floating_point() and t.ndim == 2 else t for name, t in tensors.items()}

    def read(self, arguments: Arguments, module: nn.Module) -> Any:
        given = dict(zip(arguments.names or (), arguments.tensors, strict=True))
        raw = {"input_values"} & set(given)
        return module(**{name: t.squeeze(-1) if name in raw and t.ndim == 3 and t.shape[-1] == 1 else t for name, t in given.items()})

    def fingerprint(self) -> str:
        return hashlib.sha256(repr(self.extractor.to_dict()).encode()).hexdigest()
