"""Canonical inputs of the four modalities: what a person may pass, checked once and brought to one form.

| modality | accepted | canonical |
| --- | --- | --- |
| tabular | DataFrame (pandas, polars), ``(n, columns)``, list of dicts | pandas DataFrame in the model's column order |
| image | ``(n, H, W[, C])``, list of PIL images or arrays | one float32 array |
| text | list of str, one str | list of str |
| series | list of ``(T, channels)``, ``(n, T, channels)`` | list of float32 ``(T, channels)`` |
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from explainer.errors import InvalidInput, unknown

Modality = Literal["tabular", "image", "text", "series"]
MODALITIES: tuple[Modality, ...] = ("tabular", "image", "text", "series")

_EXACT = 2.0**53  # whole numbers up to here are float64 too
_TENS = 10.0 ** np.arange(20)
_BLOCK = 2**13  # numbers whose decimals are sought at once: as many as stay near at hand


def canonical(inputs: Any, modality: Modality, feature_names: Sequence[str] = ()) -> Any:
    """Check ``inputs`` and bring them to the canonical form of ``modality``; InvalidInput says what is wrong and where."""
    readers = {"tabular": _table, "image": _images, "text": _texts, "series": _series}
    if modality not in readers:
        raise unknown("modality", modality, MODALITIES)
    if inputs is None:
        raise InvalidInput(f"No inputs came (None); pass a batch of {modality} inputs.")
    result = readers[modality](inputs, tuple(feature_names))
    if len(result) == 0:
        raise InvalidInput(f"The {modality} input is empty (0 rows); pass at least one.")
    return result


def take(inputs: Any, index: Any) -> Any:
    """The rows ``index`` (ints, slice or boolean mask) of canonical inputs, in canonical form."""
    if hasattr(inputs, "iloc"):
        return inputs.iloc[index]
    if not isinstance(inputs, list) or isinstance(index, slice):
        return inputs[index]
    index = np.asarray(index)
    return [inputs[int(i)] for i in (np.flatnonzero(index) if index.dtype == bool else index)]


def join(parts: Sequence[Any]) -> Any:
    """Concatenate canonical inputs of one modality."""
    if hasattr(parts[0], "iloc"):
        import pandas as pd

        return pd.concat(parts, ignore_index=True)
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return [one for part in parts for one in part]


def _columns_bytes(frame: Any) -> list[bytes]:
    """The numbers of each column as float64, where they are numbers that it holds exactly; else its cells as text."""
    found: list[bytes] = [b""] * frame.shape[1]
    kinds: dict[Any, list[int]] = {}
    for place, kind in enumerate(frame.dtypes):
        plain = isinstance(kind, np.dtype) and kind.kind in "fiub" and kind.itemsize <= 8
        kinds.setdefault(kind if plain else None, []).append(place)
    for kind, places in kinds.items():
        whole = None if kind is None else _as_written(frame.iloc[:, places].to_numpy())
        for k, place in enumerate(places):
            column = None if whole is None else whole[:, k]
            if column is None or (kind.kind in "iu" and np.abs(column, dtype=np.float64).max(initial=0.0) > _EXACT):
                found[place] = frame.iloc[:, place].to_csv(index=False, header=False).encode()
            else:
                wide = column.astype(np.float64)
                wide[np.isnan(wide)] = np.nan
                found[place] = wide.tobytes()
    return found


def _as_written(numbers: np.ndarray) -> np.ndarray:
    """float32 by way of the shortest decimal that it is written as: 0.1 as float32 is another float64 than 0.1."""
    if numbers.dtype != np.float32:
        return numbers
    given = numbers.ravel()
    written = given.astype(np.float64)
    for start in range(0, len(given), _BLOCK):
        _write(given[start : start + _BLOCK], written[start : start + _BLOCK])
    return written.reshape(numbers.shape)


def _write(given: np.ndarray, written: np.ndarray) -> None:
    """Put the decimals of ``given`` in the place of the numbers in ``written``."""
    size = np.abs(written)
    plain = (size > 1e-10) & (size < 2**24)  # there the decimal is a whole number over a power of ten, and both are exact
    digits = np.floor(np.log10(np.where(plain, size, 1.0))).astype(int)
    _shorten(given, written.copy(), _TENS[np.clip(9 - digits, 0, None)], written)
    other = np.flatnonzero(~plain & (size > 0))
    if len(other):
        written[other] = _printed(given[other])


def _shorten(given: np.ndarray, exact: np.ndarray, tens: np.ndarray, written: np.ndarray) -> None:
    """Round ``exact`` at a digit less each time, for as long as float32 cannot tell the difference."""
    while True:
        rounded = np.rint(exact * tens) / tens
        same = (rounded.astype(np.float32) == given) & (tens >= 1)
        count = np.count_nonzero(same)
        if count < len(same) // 4 or not count:
            break
        np.copyto(written, rounded, where=same)
        tens = tens / 10
    if count:
        left = np.flatnonzero(same)
        found = rounded[left]
        _shorten(given[left], exact[left], tens[left] / 10, found)
        written[left] = found


def _printed(numbers: np.ndarray) -> np.ndarray:
    import pyarrow as pa

    return np.asarray(pa.array(numbers).cast(pa.string()).cast(pa.float64()).to_numpy(zero_copy_only=False))


def sha256(inputs: Any) -> str:
    """A digest of canonical inputs: equal content gives an equal digest, whatever the container.

    Columns of numbers count by the decimal that each is written as, so that a table read back from a file is the same table.
    """
    digest = hashlib.sha256()
    if hasattr(inputs, "iloc"):
        for name, content in zip(inputs.columns, _columns_bytes(inputs), strict=True):
            digest.update(f"{name}\0".encode() + content + b"\0")
    else:
        for one in inputs:
            if isinstance(one, str):
                digest.update(one.encode() + b"\0")
            else:
                array = np.ascontiguousarray(one)
                digest.update(f"{array.shape}{array.dtype}".encode() + array.tobytes())
    return digest.hexdigest()


def _table(inputs: Any, names: tuple[str, ...]) -> Any:
    import pandas as pd

    if hasattr(inputs, "to_pandas") and not isinstance(inputs, pd.DataFrame):
        inputs = inputs.to_pandas()
    if isinstance(inputs, pd.Series):
        inputs = inputs.to_frame().T.infer_objects()
    if isinstance(inputs, (list, tuple)) and inputs and isinstance(inputs[0], dict):
        inputs = pd.DataFrame(list(inputs))
    if isinstance(inputs, pd.DataFrame):
        frame = inputs
        if names:
            missing = [name for name in names if name not in frame.columns]
            if missing:
                raise InvalidInput(
                    f"The table lacks {len(missing)} of the model's {len(names)} columns: {', '.join(missing[:8])}. "
                    f"It has: {', '.join(map(str, list(frame.columns)[:12]))}. Add the missing columns (empty is allowed where "
                    "the model takes missing values)."
                )
            frame = frame.loc[:, list(names)]
    else:
        array = np.asarray(inputs)
        if array.ndim == 1 and array.dtype != object and (not names or len(array) == len(names)) and len(array):
            array = array[None]
        if array.ndim != 2 or (names and array.shape[1] != len(names)):
            wanted = f"(rows, {len(names)})" if names else "(rows, columns)"
            raise InvalidInput(f"A table of shape {wanted} or a DataFrame is needed; an array of shape {array.shape} came.")
        frame = pd.DataFrame(array, columns=list(names) or [f"x{i}" for i in range(array.shape[1])])
        frame = frame.infer_objects()
    if len(frame.columns) == 0:
        raise InvalidInput("The table has no columns; pass the model's features.")
    numbers = frame.select_dtypes("number")
    infinite = np.isinf(numbers.to_numpy(dtype=float, na_value=np.nan))
    if infinite.any():
        row, column = np.argwhere(infinite)[0]
        raise InvalidInput(f"Row {row}, column {numbers.columns[column]!r} is infinite; replace it by a number or leave it empty.")
    return frame


def _images(inputs: Any, _names: tuple[str, ...]) -> np.ndarray:
    if isinstance(inputs, np.ndarray) and inputs.dtype != object:
        array = inputs
    else:
        listed = inputs if isinstance(inputs, (list, tuple)) else [inputs]
        pictures = [_picture(one) for one in listed]
        shapes = {p.shape for p in pictures}
        if len(shapes) > 1:
            raise InvalidInput(f"The images differ in shape ({', '.join(map(str, sorted(shapes)[:4]))}); resize them to one shape.")
        array = np.stack(pictures) if pictures else np.empty((0, 1, 1))
    if array.ndim == 2:
        array = array[None]
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[-1] not in (1, 3, 4) and array.shape[1] in (1, 3)):
        raise InvalidInput(
            f"Images of shape (n, H, W) or (n, H, W, C) are needed; {array.shape} came. "
            "Move the channel axis last: np.moveaxis(images, 1, -1)."
        )
    if array.dtype.kind not in "fiub":
        raise InvalidInput(f"Images must be numbers; an array of {array.dtype} came.")
    array = array.astype(np.float32) / (255 if array.dtype == np.uint8 else 1)
    return _finite(array, "image")


def _picture(one: Any) -> np.ndarray:
    if hasattr(one, "convert"):  # PIL
        picture = one if one.mode in ("L", "RGB") else one.convert("L" if one.mode in ("1", "I", "I;16", "F", "LA") else "RGB")
        return np.asarray(picture, dtype=np.uint8)
    array = np.asarray(one)
    if array.ndim not in (2, 3):
        raise InvalidInput(f"An image of shape (H, W) or (H, W, C) is needed; {array.shape} came.")
    return array


def _texts(inputs: Any, _names: tuple[str, ...]) -> list[str]:
    texts = [inputs] if isinstance(inputs, str) else list(inputs)
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidInput(f"Text {i} is {type(text).__name__}, not str; pass a list of strings.")
        if not text.strip():
            raise InvalidInput(f"Text {i} is empty; there is nothing to predict or explain. Leave it out.")
    return [str(text) for text in texts]


def _series(inputs: Any, names: tuple[str, ...]) -> list[np.ndarray]:
    if isinstance(inputs, np.ndarray) and inputs.dtype != object and inputs.ndim == 2:
        inputs = [inputs]
    series = []
    for i, one in enumerate(inputs):
        try:
            array = np.asarray(one, dtype=np.float32)
        except (TypeError, ValueError):
            raise InvalidInput(f"Series {i} is not made of numbers; each must be an array (time steps, channels).") from None
        if array.ndim != 2 or len(array) == 0 or (names and array.shape[1] != len(names)):
            wanted = f"(time steps, {len(names)} channels)" if names else "(time steps, channels)"
            raise InvalidInput(f"Series {i} has shape {array.shape}; {wanted} is needed, with at least one step.")
        series.append(_finite(array, f"series {i}"))
    return series


def _finite(array: np.ndarray, what: str) -> np.ndarray:
    bad = ~np.isfinite(array)
    if bad.any():
        where = ", ".join(str(int(k)) for k in np.argwhere(bad)[0])
        raise InvalidInput(
            f"The {what} input holds {int(bad.sum())} NaN or infinite values, the first at index ({where}); fill or drop them."
        )
    return array
