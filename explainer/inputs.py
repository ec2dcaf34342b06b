"""Canonical inputs of the four modalities: what a person may pass, checked once and brought to one form.

| modality | accepted | canonical |
| --- | --- | --- |
| tabular | DataFrame (pandas, polars), ``(n, columns)``, list of dicts | pandas DataFrame in the model's column order |
| image | ``(n, H, W[, C])``, list of PIL images or arrays | one float32 array; bytes and uint16 between 0 and 1, floats as they are |
| text | list of str, one str, a column | list of str |
| series | list of ``(T, channels)``, ``(n, T, channels)`` | list of float32 ``(T, channels)`` |

Tensors are taken as the arrays they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from explainer.errors import InvalidInput, unknown

Modality = Literal["tabular", "image", "text", "series"]
MODALITIES: tuple[Modality, ...] = ("tabular", "image", "text", "series")

_CHANNELS = (1, 3, 4)
_SIDE = 8  # pixels: an array with two sides of as many and a few channels looks like one picture
_EXACT = 2.0**53  # whole numbers up to here are float64 too
_TENS = 10.0 ** np.arange(20)
_BLOCK = 2**13  # numbers whose decimals are sought at once: as many as stay near at hand


def canonical(inputs: Any, modality: Modality, feature_names: Sequence[str] = (), like: Any = None) -> Any:
    """Check ``inputs`` and bring them to the canonical form of ``modality``; InvalidInput says what is wrong and where.

    ``like``: canonical inputs of the same model, which tell the categories of a column and the shape of a picture.
    """
    readers = {"tabular": _table, "image": _images, "text": _texts, "series": _series}
    if modality not in readers:
        raise unknown("modality", modality, MODALITIES)
    if inputs is None:
        raise InvalidInput(f"No inputs came (None); pass a batch of {modality} inputs.")
    result = readers[modality](_plain(inputs), tuple(feature_names), like)
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


def handed_out(inputs: Any) -> Any:
    """A copy of canonical inputs, for a callee that is not ours: it may write into what it gets."""
    if isinstance(inputs, list):
        return [one.copy() if isinstance(one, np.ndarray) else one for one in inputs]
    return inputs.copy()


def categorised(frame: Any, like: Any) -> Any:
    """``frame`` whose columns that are categories in ``like`` have those categories, and after them values of their own."""
    import pandas as pd

    made = {}
    for name, dtype in like.dtypes.items():
        if not isinstance(dtype, pd.CategoricalDtype) or name not in frame.columns:
            continue
        own = [value for value in frame[name].dropna().unique() if value not in dtype.categories]
        made[name] = frame[name].astype(pd.CategoricalDtype([*dtype.categories, *own], dtype.ordered))
    return frame.assign(**made) if made else frame


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


def _plain(inputs: Any) -> Any:
    """Tensors and sparse matrices, or a list of them, as arrays."""
    if isinstance(inputs, (list, tuple)):
        return [_plain(one) if hasattr(one, "detach") else one for one in inputs]
    if hasattr(inputs, "detach"):
        tensor = inputs.detach().cpu()
        return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
    return inputs.toarray() if hasattr(inputs, "toarray") else inputs


def _table(inputs: Any, names: tuple[str, ...], like: Any) -> Any:
    import pandas as pd

    if hasattr(inputs, "collect") and not hasattr(inputs, "to_pandas"):  # a lazy table of polars
        inputs = inputs.collect()
    if hasattr(inputs, "to_pandas") and not isinstance(inputs, pd.DataFrame):
        inputs = inputs.to_pandas()
    if isinstance(inputs, pd.Series):
        inputs = inputs.to_frame().T.infer_objects()
    if isinstance(inputs, (list, tuple)) and inputs and isinstance(inputs[0], dict):
        inputs = pd.DataFrame(list(inputs))
    if isinstance(inputs, pd.DataFrame):
        frame = _columns(inputs, names)
    else:
        array = np.asarray(inputs)
        if array.ndim == 1 and array.dtype != object and (not names or len(array) == len(names)) and len(array):
            array = array[None]
        if array.ndim != 2 or (names and array.shape[1] != len(names)):
            wanted = f"(rows, {len(names)})" if names else "(rows, columns)"
            came = f"an array of shape {array.shape}" if array.ndim else type(inputs).__name__
            raise InvalidInput(f"A table of shape {wanted} or a DataFrame is needed; {came} came.")
        frame = pd.DataFrame(array, columns=list(names) or [f"x{i}" for i in range(array.shape[1])])
        frame = frame.infer_objects()
    if len(frame.columns) == 0:
        raise InvalidInput("The table has no columns; pass the model's features.")
    numbers = frame.select_dtypes("number")
    infinite = np.isinf(numbers.to_numpy(dtype=float, na_value=np.nan))
    if infinite.any():
        row, column = np.argwhere(infinite)[0]
        raise InvalidInput(f"Row {row}, column {numbers.columns[column]!r} is infinite; replace it by a number or leave it empty.")
    return frame if like is None else categorised(frame, like)


def _columns(frame: Any, names: tuple[str, ...]) -> Any:
    """The columns ``names`` of ``frame``, or all of them, found by what their labels are as text."""
    labels = [str(label) for label in frame.columns]
    distinct(labels, "The table")
    place = {label: k for k, label in enumerate(labels)}
    wanted = list(names) or labels
    missing = [name for name in wanted if name not in place]
    if missing:
        raise InvalidInput(
            f"The table lacks {len(missing)} of the model's {len(names)} columns: {', '.join(missing[:8])}. "
            f"It has: {', '.join(labels[:12])}. Add the missing columns (empty is allowed where the model takes missing values)."
        )
    return frame.iloc[:, [place[name] for name in wanted]].set_axis(wanted, axis=1)


def distinct(names: Sequence[str], what: str) -> None:
    """Raise InvalidInput where two of ``names`` are the same."""
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise InvalidInput(f"{what} has several columns of one name: {', '.join(twice[:8])}. Give each column a name of its own.")


def _images(inputs: Any, _names: tuple[str, ...], like: Any) -> np.ndarray:
    if isinstance(inputs, np.ndarray) and inputs.dtype != object:
        array = _one_or_many(_unit(inputs), like)
    else:
        listed = inputs if isinstance(inputs, (list, tuple)) else [inputs]
        pictures = [_picture(one) for one in listed]
        shapes = {p.shape for p in pictures}
        if len(shapes) > 1:
            raise InvalidInput(f"The images differ in shape ({', '.join(map(str, sorted(shapes)[:4]))}); resize them to one shape.")
        array = np.stack(pictures) if pictures else np.empty((0, 1, 1), dtype=np.float32)
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[-1] not in _CHANNELS and array.shape[1] in _CHANNELS):
        raise InvalidInput(
            f"Images of shape (n, H, W) or (n, H, W, C) are needed; {array.shape} came. "
            "Move the channel axis last: np.moveaxis(images, 1, -1), or images.permute(0, 2, 3, 1) of a tensor."
        )
    return _finite(array, "image")


def _one_or_many(array: np.ndarray, like: Any) -> np.ndarray:
    """``array`` with the axis that counts pictures, which one picture alone lacks."""
    if array.ndim == 2:
        return array[None]
    if array.ndim != 3 or array.shape[-1] not in _CHANNELS or min(array.shape[:2]) < _SIDE:
        return array
    known = None if like is None else like.shape[1:]
    if array.shape == known:
        return array[None]
    if array.shape[1:] == known:
        return array
    n, height, channels = array.shape
    raise InvalidInput(
        f"An array of shape {array.shape} may be one picture of {n} x {height} with {channels} channels, or {n} pictures of {height} x "
        f"{channels}. Pass images[None] for the one, images[..., None] for the many, or wrap() the model with background= pictures."
    )


def _picture(one: Any) -> np.ndarray:
    if hasattr(one, "convert"):  # PIL
        if one.mode == "I":
            raise InvalidInput(
                "A picture of mode I (whole numbers of 32 bits) does not say its range. Pass an array of what the model takes, such as "
                "np.asarray(picture) / 65535 for one that was read from a file of 16 bits."
            )
        kept = one.mode in ("L", "RGB", "F") or one.mode.startswith("I;16")
        one = one if kept else one.convert("L" if one.mode in ("1", "LA") else "RGB")
    array = np.asarray(one)
    if array.ndim not in (2, 3):
        raise InvalidInput(f"An image of shape (H, W) or (H, W, C) is needed; {array.shape} came.")
    return _unit(array)


def _unit(array: np.ndarray) -> np.ndarray:
    """float32: floats and booleans as they are, bytes and uint16 divided by the largest they can hold."""
    if array.dtype.kind in "fb":
        return array.astype(np.float32)
    if array.dtype.kind == "u" and array.dtype.itemsize <= 2:
        return array.astype(np.float32) / np.float32(np.iinfo(array.dtype).max)
    if array.dtype.kind in "iu":
        raise InvalidInput(
            f"Images of {array.dtype} do not say their range. Pass images.astype('uint8') where they hold 0 to 255 (they become 0 to 1), "
            "uint16 where they hold 0 to 65535, or floats as the model takes them."
        )
    raise InvalidInput(f"Images must be numbers; an array of {array.dtype} came.")


def _texts(inputs: Any, _names: tuple[str, ...], _like: Any) -> list[str]:
    if isinstance(inputs, Mapping) or (hasattr(inputs, "columns") and len(inputs.columns) != 1):
        columns = list(inputs) if isinstance(inputs, Mapping) else list(inputs.columns)
        shown = ", ".join(map(str, columns[:8]))
        raise InvalidInput(f"{type(inputs).__name__} with {len(columns)} columns came ({shown}); pass the one that holds the texts.")
    if hasattr(inputs, "columns"):
        inputs = inputs[inputs.columns[0]]
    texts = [inputs] if isinstance(inputs, str) else list(inputs)
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidInput(f"Text {i} is {type(text).__name__}, not str; pass a list of strings.")
        if not text.strip():
            raise InvalidInput(f"Text {i} is empty; there is nothing to predict or explain. Leave it out.")
    return [str(text) for text in texts]


def _series(inputs: Any, names: tuple[str, ...], _like: Any) -> list[np.ndarray]:
    if hasattr(inputs, "columns") or (isinstance(inputs, np.ndarray) and inputs.dtype != object and inputs.ndim == 2):
        inputs = [inputs]
    series = []
    for i, one in enumerate(inputs):
        if hasattr(one, "columns") and set(names) <= set(map(str, one.columns)):
            one = _table(one, names, None)
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
