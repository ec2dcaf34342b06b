"""From canonical inputs to the arrays an ONNX graph takes, by the names, dtypes and shapes it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from explainer.errors import ExplainerError, InvalidInput, unknown
from explainer.inputs import Modality

_DTYPES = {
    "tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16, "tensor(int64)": np.int64,
    "tensor(int32)": np.int32, "tensor(int16)": np.int16, "tensor(int8)": np.int8, "tensor(uint8)": np.uint8, "tensor(bool)": np.bool_,
}  # fmt: skip


@dataclass(frozen=True)
class Spec:
    """One input of a graph; in ``shape`` a dimension that may vary is None."""

    name: str
    type: str
    shape: tuple[int | None, ...]

    @property
    def is_text(self) -> bool:
        return self.type == "tensor(string)"

    @property
    def dtype(self) -> Any:
        if self.is_text:
            return object
        if self.type not in _DTYPES:
            raise InvalidInput(f"The graph's input {self} has a type that is not supported; wrap a function that runs the session.")
        return _DTYPES[self.type]

    def __str__(self) -> str:
        return f"{self.name} {self.type} ({', '.join('?' if size is None else str(size) for size in self.shape)})"

    def cast(self, values: Any) -> np.ndarray:
        """``values`` in the dtype the graph takes; raises InvalidInput where that would change them."""
        array = np.asarray(values)
        if self.dtype is object:
            return array.astype(str).astype(object)
        try:
            made = array.astype(self.dtype)
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"The graph's input {self} takes numbers, and {array.dtype} came: {error}.") from None
        if np.issubdtype(self.dtype, np.integer) and array.dtype.kind == "f" and not np.array_equal(made, array):
            raise InvalidInput(
                f"The graph's input {self} takes whole numbers, and others came (the first is {array.flat[0]:g}). Pass preprocess= that "
                "brings the inputs to what the graph was made for, such as lambda x: (x * 255).round()."
            )
        return made


Encoder = Callable[[Any], Any]


def encoder_for(specs: Sequence[Spec], modality: Modality, feature_names: Sequence[str], label: str) -> Encoder:
    """The encoding for a graph that takes the modality in the usual way. Raises InvalidInput where preprocess= is needed."""
    if len(specs) > 1:
        wanted = {spec.name for spec in specs}
        if modality == "tabular" and wanted == set(feature_names):
            return lambda frame: {spec.name: frame[[spec.name]].to_numpy() for spec in specs}
        raise InvalidInput(
            f"{label} takes {len(specs)} inputs: {', '.join(map(str, specs))}. Pass preprocess=, a function from the {modality} inputs to "
            "a dict of arrays with these names (or, for a table, name its columns as they are)."
        )
    rank = len(specs[0].shape)
    made = {"tabular": _table, "image": _images, "text": _texts, "series": _series}[modality](specs[0], rank)
    if made is None:
        raise InvalidInput(
            f"{label} takes {specs[0]}, which is not a usual form of {modality} inputs. Pass preprocess=, a function from the {modality} "
            "inputs to that array."
        )
    return made


def feeds_of(encode: Encoder, batch: Any, specs: Sequence[Spec], label: str) -> dict[str, np.ndarray]:
    """One batch as the graph takes it. Raises InvalidInput, UnknownName for a name the graph does not have."""
    try:
        given = encode(batch)
    except (ExplainerError, MemoryError):
        raise
    except Exception as error:
        raise InvalidInput(f"preprocess failed on {len(batch)} inputs: {type(error).__name__}: {error}.") from error
    if not isinstance(given, Mapping):
        parts = list(given) if isinstance(given, (tuple, list)) else [given]
        if len(parts) != len(specs):
            raise InvalidInput(f"preprocess gave {len(parts)} arrays; {label} takes {len(specs)}: {', '.join(map(str, specs))}.")
        given = {spec.name: part for spec, part in zip(specs, parts, strict=True)}
    names = [spec.name for spec in specs]
    for name in given:
        if name not in names:
            raise unknown(f"input of {label}", name, names)
    missing = [str(spec) for spec in specs if spec.name not in given]
    if missing:
        raise InvalidInput(f"preprocess gave {', '.join(given)}; {label} also takes {', '.join(missing)}.")
    feeds = {spec.name: spec.cast(_numpy(given[spec.name])) for spec in specs}
    for name, array in feeds.items():
        if array.shape[:1] != (len(batch),):
            raise InvalidInput(f"preprocess gave {name} of shape {array.shape} for {len(batch)} inputs; one row per input is needed.")
    return feeds


def made_up(specs: Sequence[Spec], n: int) -> dict[str, np.ndarray]:
    """Inputs to try a graph on where none are at hand; whether it takes them is not certain."""
    rng = np.random.default_rng(0)
    feeds: dict[str, np.ndarray] = {}
    for spec in specs:
        usual = 32 if len(spec.shape) == 4 else 8
        shape = (n, *(size or usual for size in spec.shape[1:]))
        if spec.is_text:
            feeds[spec.name] = np.full(shape, "a word", dtype=object)
        elif np.issubdtype(spec.dtype, np.floating):
            feeds[spec.name] = rng.normal(size=shape).astype(spec.dtype)
        else:
            feeds[spec.name] = np.ones(shape, dtype=spec.dtype)
    return feeds


def _numpy(value: Any) -> Any:
    return value.detach().cpu().numpy() if hasattr(value, "detach") else value


def _table(spec: Spec, rank: int) -> Encoder | None:
    return (lambda frame: frame.to_numpy()) if rank == 2 else None


def _texts(spec: Spec, rank: int) -> Encoder | None:
    if not spec.is_text or rank > 2:
        return None
    return lambda texts: np.array(texts, dtype=object).reshape((-1, *(1,) * (rank - 1)))


def _images(spec: Spec, rank: int) -> Encoder | None:
    if rank == 2:
        return lambda images: images.reshape(len(images), -1)
    if rank == 3:
        return lambda images: images if images.ndim == 3 or images.shape[3] > 1 else images[..., 0]

    def encode(images: np.ndarray) -> np.ndarray:
        last = images[..., None] if images.ndim == 3 else images
        first = np.moveaxis(last, -1, 1)  # as PyTorch has it, and where both would do
        return last if _fits(spec, last) and not _fits(spec, first) else first

    return encode if rank == 4 else None


def _fits(spec: Spec, array: np.ndarray) -> bool:
    return all(size in (None, given) for size, given in zip(spec.shape[1:], array.shape[1:], strict=True))


def _series(spec: Spec, rank: int) -> Encoder | None:
    if rank != 3:
        return None

    def encode(series: Sequence[np.ndarray]) -> np.ndarray:
        stacked = np.stack(series)
        channels = stacked.shape[2]
        if spec.shape[2] == channels or (spec.shape[2] is None and spec.shape[1] != channels):
            return stacked
        return np.moveaxis(stacked, 2, 1)

    return encode
