"""Lenient reading: from a path or an object to data the checks can judge, with what could not be read set aside.

| data | read as |
| --- | --- |
| csv, tsv, parquet; DataFrame (pandas, polars), arrow table, list of dicts, ``(n, columns)`` | tabular |
| jsonl | tabular, or text when its only text field is the one that is not the label |
| folder of images, list of pictures, ``(n, H, W[, C])`` | image; sub-folders are labels |
| list of str | text |
| list of ``(T, channels)`` | series |
| npz, npy | by the shape of its one array of inputs |
| torch Dataset, DataLoader | by its items, ``x`` or ``(x, y)`` |
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from explainer.checks.lines import NO_OBJECT, NOT_UTF8, are_objects, faulty_lines, in_words, is_utf8, longer_lines
from explainer.checks.parts import need_sound_size, of_files, table_files
from explainer.errors import InvalidInput, UnknownName, unknown
from explainer.inputs import MODALITIES, Modality

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
FILE_SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson", ".npz", ".npy")
INPUT_KEYS = ("inputs", "x", "images", "data", "series", "x_train", "train_images")
LABEL_KEYS = ("labels", "label", "y", "target", "targets", "y_train", "train_labels")
TRAP_PIXELS = 2**26  # of a picture: four times as many as a camera's
EXAMPLE_ROWS = 200  # items looked at to tell the modality of a list


@dataclass(frozen=True)
class Data:
    """Data as read: only what could be read is in ``inputs``; ``positions`` are the places of those items in the source."""

    inputs: Any
    labels: Any = None
    modality: Modality | None = None
    files: tuple[str, ...] = ()  # one per item met, unreadable ones included; empty when the items are not files
    unreadable: tuple[tuple[str, str], ...] = ()  # (which, why)
    positions: np.ndarray | None = None
    label_name: str | None = None
    source: str = ""
    notes: dict[str, Any] = field(default_factory=dict)
    damaged: tuple[tuple[str, str], ...] = ()  # what was read, but in part only: (which, why)


def read(data: Any, labels: Any = None, *, modality: str | None = None) -> Data:
    """Read a path (csv, parquet, jsonl, npz, folder of images), a registered name (``zoo:NAME``) or an object.

    ``labels`` is an array-like, or the name of the column (field, array) that holds them. Raises InvalidInput where it is not
    clear what is meant, and UnknownName for a column that is not there.
    """
    if modality is not None and modality not in MODALITIES:
        raise unknown("modality", modality, MODALITIES)
    if isinstance(data, Data):
        found = data
    elif hasattr(data, "inputs") and hasattr(data, "labels"):  # a split of a specimen
        found = Data(data.inputs, data.labels)
    elif isinstance(data, Path) or (isinstance(data, str) and modality != "text"):
        found = _named(str(data), labels if isinstance(labels, str) else None, modality)
    elif is_dataset(data):
        found = _dataset(data)
    else:
        found = Data(data)
    return _settle(found, labels, modality)


def _settle(found: Data, labels: Any, modality: str | None) -> Data:
    """Take the labels out of the inputs when they are named, and settle the modality."""
    inputs = as_frame(found.inputs)
    name = found.label_name
    if isinstance(labels, str) and found.unreadable and not len(inputs) and not len(getattr(inputs, "columns", ())):
        labels = None  # nothing of the file could be read, its labels neither
    if isinstance(labels, str):
        if name != labels:
            inputs, labels = _column(inputs, labels)
            name = labels.name
        else:
            labels = found.labels
    elif labels is None:
        labels = found.labels
    settled: Any = modality or found.modality or infer(inputs)
    return replace(found, inputs=inputs, labels=labels, modality=settled, label_name=None if name is None else str(name))


def _column(frame: Any, name: str) -> tuple[Any, Any]:
    if not hasattr(frame, "columns"):
        raise InvalidInput(f"labels={name!r} names a column, but the data are not a table; pass the labels themselves, one per item.")
    matches = [i for i, column in enumerate(frame.columns) if str(column) == name]
    if not matches:
        raise unknown("label column", name, frame.columns)
    rest = [i for i in range(len(frame.columns)) if i != matches[0]]
    return frame.iloc[:, rest], frame.iloc[:, matches[0]].rename(name)


def as_frame(inputs: Any) -> Any:
    """Anything that is a table of some library, as a pandas frame; anything else unchanged."""
    import pandas as pd

    if isinstance(inputs, pd.DataFrame):
        return inputs
    if isinstance(inputs, pd.Series):
        return inputs.to_frame() if pd.api.types.is_numeric_dtype(inputs.dtype) else inputs.tolist()
    if hasattr(inputs, "collect") and hasattr(inputs, "collect_schema"):  # a lazy polars frame
        inputs = inputs.collect()
    if hasattr(inputs, "to_pandas"):
        return as_frame(inputs.to_pandas())
    if isinstance(inputs, dict):
        try:
            return pd.DataFrame(inputs)
        except (ValueError, TypeError) as error:
            raise InvalidInput(f"A dict was given whose values do not make columns of one length ({error}).") from None
    if isinstance(inputs, (list, tuple)) and len(inputs) and all(isinstance(one, dict) for one in inputs):
        return records_frame(list(inputs))
    if hasattr(inputs, "detach"):  # a torch tensor
        return inputs.detach().cpu().numpy()
    return inputs


def records_frame(records: list[dict]) -> Any:
    """A frame of records, whatever is in them: pandas' own strings cannot hold a lone surrogate, plain ones can."""
    import pandas as pd

    try:
        return pd.DataFrame(records)
    except (UnicodeError, ValueError, TypeError, OverflowError):
        return pd.DataFrame(records, dtype=object)


def infer(inputs: Any) -> Modality:
    """The modality of an object. Raises InvalidInput, naming the choices, where it could be more than one."""
    if hasattr(inputs, "columns") or (isinstance(inputs, np.ndarray) and inputs.ndim == 2):
        return "tabular"
    if isinstance(inputs, np.ndarray) and inputs.dtype != object and inputs.dtype.kind not in "US":
        if inputs.ndim == 1:
            return "tabular"
        if inputs.ndim in (3, 4):
            return "image"
        raise InvalidInput(
            f"An array of shape {inputs.shape} is no data this toolkit knows: (n, columns) is a table, (n, H, W[, C]) images; "
            "a list of (time steps, channels) arrays is series."
        )
    if isinstance(inputs, (list, tuple, np.ndarray)):
        return _infer_list(list(inputs))
    raise InvalidInput(
        f"Data of type {type(inputs).__name__} came. Pass a DataFrame or (n, columns) array, images (n, H, W[, C]), a list of texts, "
        "a list of (time steps, channels) series, or a path to csv, parquet, jsonl, npz or a folder of images."
    )


def _infer_list(items: list[Any]) -> Modality:
    known = [one for one in items if one is not None and not (isinstance(one, float) and one != one)][:EXAMPLE_ROWS]
    if not known:
        raise InvalidInput(f"The {len(items)} items are all empty, so their kind cannot be told; pass modality={_choices(MODALITIES)}.")
    votes = [_kind(one) for one in known]
    if "text" in votes and votes.count("text") * 2 >= len(votes):
        return "text"
    if "picture" in votes:
        return "image"
    if set(votes) <= {"number"}:
        return "tabular"
    shapes = [np.shape(one) for one, vote in zip(known, votes, strict=True) if vote == "array"]
    ranks = {len(s) for s in shapes}
    if ranks == {1}:
        return "tabular" if len(set(shapes)) == 1 else "series"
    if ranks == {3}:
        return "image"
    if ranks == {2}:
        if all(np.asarray(one).dtype == np.uint8 for one, vote in zip(known, votes, strict=True) if vote == "array"):
            return "image"
        if len({s for s in shapes}) == 1 and shapes[0][0] == shapes[0][1] and shapes[0][0] >= 8:
            raise InvalidInput(f"A list of {shapes[0]} arrays could be images or series; pass modality='image' or modality='series'.")
        return "series"
    raise InvalidInput(f"The items are of several kinds ({', '.join(sorted(set(votes)))}); pass modality={_choices(MODALITIES)}.")


def _kind(one: Any) -> str:
    if isinstance(one, str):
        return "text"
    if hasattr(one, "convert") and hasattr(one, "getbands"):
        return "picture"
    if isinstance(one, (int, float, complex, np.number, bool)):
        return "number"
    try:
        array = np.asarray(one)
    except (ValueError, TypeError):
        return "other"
    return "array" if array.dtype.kind in "fiub" and array.ndim else "other"


def _choices(valid: Sequence[str]) -> str:
    return " or ".join(repr(v) for v in valid)


def _named(name: str, labels: str | None, modality: str | None) -> Data:
    path = Path(name).expanduser()
    if path.is_dir():
        return _folder(path, labels, modality)
    if path.is_file():
        suffix = path.suffix.lower()
        if suffix in IMAGE_SUFFIXES:
            return _pictures([path], path.parent, None)
        readers = {".csv": _csv, ".tsv": _csv, ".parquet": _parquet, ".jsonl": _jsonl, ".ndjson": _jsonl, ".npz": _npz, ".npy": _npy}
        if suffix not in readers:
            raise InvalidInput(
                f"{path.name!r} is of a kind this toolkit does not read ({suffix or 'no suffix'}). "
                f"Valid: {', '.join(FILE_SUFFIXES)}, or a folder of images."
            )
        return readers[suffix](path, labels, modality)
    prefix, _, rest = name.partition(":")
    if rest and len(prefix) > 1:
        return _registered(prefix, rest)
    raise InvalidInput(f"No file or folder {name!r}. Pass a path to {', '.join(FILE_SUFFIXES)} or a folder of images, or texts as a list.")


def _registered(prefix: str, name: str) -> Data:
    """The test rows of a specimen that another package offers by entry point group ``explainer.specimens``, labels as names."""
    from importlib.metadata import entry_points

    found = {point.name: point for point in entry_points(group="explainer.specimens")}
    if prefix not in found:
        raise UnknownName(f"No file {prefix}:{name!r}, and no data are registered under {prefix!r}. Valid: {', '.join(found) or 'none'}.")
    specimen = found[prefix].load()(name)
    test, model = specimen.data.test, specimen.model
    labels = test.labels if model.task == "regression" else np.array(model.class_names)[test.labels]
    return Data(test.inputs, labels, model.modality, source=f"{prefix}:{name}")


def _broken(path: Path, reason: object, modality: Modality = "tabular") -> Data:
    """A file of which nothing could be read: no rows, and the reason as a finding."""
    import pandas as pd

    empty: Any = pd.DataFrame() if modality == "tabular" else []
    return Data(empty, modality=modality, unreadable=((path.name, _short(reason)),), source=str(path))


def _short(reason: object) -> str:
    return in_words(reason) if isinstance(reason, BaseException) else " ".join(str(reason).split())[:200]


def _csv(path: Path, labels: str | None, modality: str | None) -> Data:
    import csv
    import warnings

    import pandas as pd

    limit = csv.field_size_limit()
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    bad: list[tuple[str, str]] = []

    def note(fields: list[str]) -> None:
        bad.append((f"a line beginning {fields[0][:40]!r}" if fields else "a line", f"{len(fields)} fields, not as many as the header"))

    options: dict[str, Any] = {"sep": separator, "encoding": "utf-8-sig", "encoding_errors": "replace"}
    try:
        longer = longer_lines(path, separator)
        options |= {"index_col": False} if longer else {}
        with warnings.catch_warnings(action="ignore", category=pd.errors.ParserWarning):  # fields are left out: ``longer`` says so
            try:
                frame = pd.read_csv(path, low_memory=False, float_precision="round_trip", **options)
            except pd.errors.ParserError as error:  # some lines have too many fields: read again, noting each
                if "EOF inside string" in str(error):
                    where = str(error).rpartition("string ")[2].strip()
                    bad.append((where, "a quoted field begins there and never ends; lines after it are lost"))
                frame = pd.read_csv(path, engine="python", on_bad_lines=note, **options)
    except Exception as error:  # whatever is wrong with a file is a finding, not a crash
        return _broken(path, error)
    finally:
        csv.field_size_limit(limit)
    found = _from_table(frame, tuple(bad), path, labels, modality)
    return replace(found, damaged=(*longer, *faulty_lines(path, separator)))


def _parquet(path: Path, labels: str | None, modality: str | None) -> Data:
    import pandas as pd
    import pyarrow.parquet

    try:
        claimed = pyarrow.parquet.read_metadata(path)
        need_sound_size(claimed.num_rows * claimed.num_columns * 8, path.stat().st_size)
        frame = pd.read_parquet(path)
    except Exception as error:
        return _broken(path, error)
    return _from_table(frame, (), path, labels, modality)


def _jsonl(path: Path, labels: str | None, modality: str | None) -> Data:
    found: list[tuple[int, int, Any]] = []  # (place among the records, line, record)
    bad, damaged, met = [], [], -1
    try:
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        return _broken(path, error)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        met += 1
        try:
            found.append((met, number, json.loads(line.decode("utf-8", "replace"))))
        except (ValueError, RecursionError) as error:
            bad.append((f"line {number}", _short(error)))
            continue
        if not is_utf8(line):
            damaged.append((f"line {number}", NOT_UTF8))
    if are_objects([record for *_, record in found]):
        bad += [(f"line {number}", NO_OBJECT) for _, number, record in found if not isinstance(record, dict)]
        found = [one for one in found if isinstance(one[-1], dict)]
    frame = records_frame([r if isinstance(r, dict) else {"text" if isinstance(r, str) else "value": r} for *_, r in found])
    if modality is None:
        fields = [c for c in frame.columns if c != labels]
        if len(fields) == 1 and all(isinstance(v, str) or v is None for v in frame[fields[0]].tolist()):
            modality = "text"
    table = _from_table(frame, tuple(bad), path, labels, modality, np.array([place for place, *_ in found], dtype=int))
    return replace(table, damaged=tuple(damaged))


def _from_table(
    frame: Any, bad: tuple[tuple[str, str], ...], path: Path, labels: str | None, modality: str | None, positions: Any = None
) -> Data:
    """A table as it is, or the column of texts in it when texts were asked for."""
    if modality in (None, "tabular"):
        return Data(frame, modality="tabular", unreadable=bad, positions=positions, source=str(path))
    if modality != "text":
        raise InvalidInput(f"{path.name!r} is a table; it can be read as 'tabular' or 'text', not {modality!r}.")
    rest, values = (frame, None) if labels is None else _column(frame, labels)
    strings = [
        i for i in range(rest.shape[1]) if sum(isinstance(v, str) for v in rest.iloc[:EXAMPLE_ROWS, i]) * 2 > min(EXAMPLE_ROWS, len(rest))
    ]
    named = [i for i in strings if str(rest.columns[i]).lower() in ("text", "texts", "document", "content")]
    chosen = named if len(named) == 1 else strings
    if len(chosen) != 1:
        raise InvalidInput(
            f"{path.name!r} has {len(chosen)} columns of text ({', '.join(str(rest.columns[i]) for i in chosen[:8])}); exactly one can be "
            "checked as texts. Load the file and pass that column as a list, with the labels beside it."
        )
    notes = {"column": str(rest.columns[chosen[0]])}
    return Data(rest.iloc[:, chosen[0]].tolist(), values, "text", (), bad, positions, labels, str(path), notes)


def _npz(path: Path, labels: str | None, modality: str | None) -> Data:
    kind: Any = modality or "tabular"
    try:
        arrays, broken = arrays_of(path)
    except Exception as error:
        return _broken(path, error, kind)
    bad = tuple((f"{path.name}:{key}", _short(error)) for key, error in broken.items())
    if not arrays:
        return _broken(path, bad[0][1] if bad else "the archive holds no arrays", kind)
    keys = [*arrays, *broken]
    lower = {key.lower(): key for key in keys}
    target = labels if labels is not None else next((lower[k] for k in LABEL_KEYS if k in lower), None)
    if target is not None and target not in keys:
        raise unknown("array", target, keys)
    chosen = [lower[k] for k in INPUT_KEYS if k in lower and lower[k] != target]
    others = [k for k in keys if k != target]
    if len(chosen) != 1:
        chosen = others
    if len(chosen) != 1:
        raise InvalidInput(
            f"{path.name!r} holds several arrays ({', '.join(keys)}) and which are the inputs is not clear. Name the one of inputs "
            f"{' or '.join(repr(k) for k in INPUT_KEYS[:3])}, or load it and pass the arrays."
        )
    if chosen[0] in broken:
        return replace(_broken(path, "", kind), unreadable=bad)
    values = None if target is None or target in broken else _flat(arrays[target])
    inputs = arrays[chosen[0]]
    if modality is None and chosen[0].lower() == "series" and inputs.ndim == 3:
        modality = "series"  # by its shape alone it could be images
    if values is not None and np.ndim(inputs) and len(values) != len(inputs) and labels is None:
        values = target = None
    return Data(inputs, values, modality, (), bad, None, target, str(path))  # type: ignore[arg-type]


def arrays_of(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Exception]]:
    """The arrays of an npz file that can be read, and what is wrong with the others. Raises what numpy raises."""
    arrays, broken = {}, {}
    with np.load(path, allow_pickle=False) as archive:
        for key in archive.files:
            try:
                held = archive.zip.getinfo(key if key in archive.zip.namelist() else f"{key}.npy")
                need_sound_size(held.file_size, held.compress_size)
                arrays[key] = archive[key]
            except Exception as error:
                broken[key] = error
    return arrays, broken


def _npy(path: Path, labels: str | None, modality: str | None) -> Data:
    try:
        held = np.load(path, mmap_mode="r", allow_pickle=False)  # its header is believed only where the file is as long as it says
        array = np.array(held)
    except Exception as error:
        return _broken(path, error, modality or "tabular")  # type: ignore[arg-type]
    if labels is not None:
        raise InvalidInput(f"{path.name!r} is one array without names, so {labels!r} is not in it; pass the labels themselves.")
    return Data(array, modality=modality, source=str(path))  # type: ignore[arg-type]


def is_dataset(data: Any) -> bool:
    """Whether ``data`` gives its items by number, as torch's Dataset does, or is a loader of such."""
    data = getattr(data, "dataset", data)
    known = (str, bytes, list, tuple, dict, range, np.ndarray)
    by_number = hasattr(type(data), "__getitem__") and hasattr(type(data), "__len__")
    return by_number and not isinstance(data, known) and not any(hasattr(data, name) for name in ("columns", "iloc", "detach", "to_pandas"))


def _dataset(data: Any) -> Data:
    """All items of a dataset, those that cannot be given noted; a pair is an input and its label."""
    data = getattr(data, "dataset", data)
    inputs: list[Any] = []
    labels: list[Any] = []
    kept, bad = [], []
    for i in range(len(data)):
        try:
            item = data[i]
        except Exception as error:  # one that cannot be given is a finding
            bad.append((f"item {i}", _short(error)))
            continue
        paired = isinstance(item, (tuple, list)) and len(item) == 2
        inputs.append(_array(item[0] if paired else item))
        labels.append(_array(item[1]) if paired else None)
        kept.append(i)
    if inputs and all(isinstance(one, np.ndarray) and one.ndim == 1 and one.shape == inputs[0].shape for one in inputs):
        inputs = np.stack(inputs)  # type: ignore[assignment]
    single = [one.item() if isinstance(one, np.ndarray) and one.size == 1 else one for one in labels]
    values = None if all(one is None for one in labels) else single
    return Data(inputs, values, unreadable=tuple(bad), positions=np.array(kept, dtype=int), source=type(data).__name__)


def _array(value: Any) -> Any:
    return value.detach().cpu().numpy() if hasattr(value, "detach") else value


def _flat(array: np.ndarray) -> np.ndarray:
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def _of_parts(path: Path, labels: str | None, modality: str | None) -> Data:
    """A folder of the parts of one table."""
    import pandas as pd

    parts = of_files(table_files(path))
    frames = list(parts)
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    found = _from_table(frame, tuple(parts.unreadable), path, labels, modality)
    return replace(found, damaged=tuple(parts.damaged))


def _folder(path: Path, labels: str | None = None, modality: str | None = None) -> Data:
    files = sorted(p for p in path.rglob("*") if p.is_file() and not any(part.startswith(".") for part in p.relative_to(path).parts))
    pictures = [p for p in files if p.suffix.lower() in IMAGE_SUFFIXES]
    if not pictures and table_files(path):
        return _of_parts(path, labels, modality)
    if not pictures:
        raise InvalidInput(f"The folder {path.name!r} holds no images ({', '.join(IMAGE_SUFFIXES)}); {len(files)} other files are in it.")
    folders = [p.parent.relative_to(path).as_posix() for p in pictures]
    return _pictures(pictures, path, folders if all(f != "." for f in folders) and len(set(folders)) > 1 else None)


def _pictures(files: list[Path], root: Path, folders: list[str] | None) -> Data:
    from PIL import Image

    from explainer.checks.origin import origin_of

    inputs, kept, bad, origins = [], [], [], []
    for position, file in enumerate(files):
        try:
            with Image.open(file) as picture:
                if picture.width * picture.height > TRAP_PIXELS:
                    raise ValueError(f"{picture.width:,} x {picture.height:,} pixels; where that is right, cut it into parts")
                picture.load()
                inputs.append(np.asarray(_grey_or_colour(picture), dtype=np.uint8))
                origins.append(origin_of(picture, file))
            kept.append(position)
        except Exception as error:
            bad.append((file.relative_to(root).as_posix(), _short(error).replace(str(root), "")))
    names = tuple(f.relative_to(root).as_posix() for f in files)
    labels = None if folders is None else [folders[i] for i in kept]
    order = "The files are read folder by folder: their order says nothing of the data." if len({f.parent for f in files}) > 1 else ""
    notes = {"origins": origins, "order": order}
    return Data(inputs, labels, "image", names, tuple(bad), np.array(kept, dtype=int), None, str(root), notes)


def _grey_or_colour(picture: Any) -> Any:
    if picture.mode in ("L", "RGB", "RGBA"):
        return picture
    if picture.mode.startswith("I") or picture.mode == "F":  # 16 and 32 bit greys: bring the range to 8 bits, not cut it off
        array = np.nan_to_num(np.asarray(picture, dtype=np.float64))
        top = 65535 if array.max(initial=0) > 255 else 255
        return np.clip(array / top * 255, 0, 255).astype(np.uint8)
    return picture.convert("L" if picture.mode in ("1", "LA") else "RGB")
