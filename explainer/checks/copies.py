"""A cleaned copy of a file or folder beside the original: what was not changed stands in it as it was written."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from explainer.checks.draft import Change, Fixed
from explainer.checks.lines import longer_lines
from explainer.checks.origin import GPS
from explainer.checks.read import FILE_SUFFIXES, INPUT_KEYS, Data, arrays_of
from explainer.errors import InvalidInput, Unsupported

TABLES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson")


def log_path(out: Path) -> Path:
    """Where the change log of a copy stands: beside it."""
    return out.with_name(f"{out.name}.changes.csv")


def check_out(source: Path, out: Path) -> None:
    """Raise InvalidInput where a copy of ``source`` must not or cannot be written to ``out``."""
    if not source.exists():
        raise InvalidInput(f"Only a file or a folder can be copied cleaned; {source} is none. Use explainer.fix on data in memory.")
    here, there = source.resolve(), out.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise InvalidInput(f"{out} is the original, or inside it, or holds it; the original is never touched. Name another place.")
    for path in (out, log_path(out)):
        if path.exists():
            raise InvalidInput(f"{path} is there already; nothing is overwritten. Name a place that is free.")
    suffix = source.suffix.lower()
    if source.is_dir():
        if out.suffix.lower() in FILE_SUFFIXES:
            raise InvalidInput(f"{source} is a folder, so its copy is one too; {out.name!r} names a file.")
    elif out.suffix.lower() != suffix:
        raise InvalidInput(f"The copy of {source.name!r} is written in its own format; end its name with {suffix}, as in cleaned{suffix}.")


def write_copy(fixed: Fixed, found: Data, source: Path, out: Path) -> Path:
    """Write the cleaned copy of ``source`` to ``out`` and the log beside it; returns the path of the log.

    Nothing half-written is left where the copy fails. Raises InvalidInput for a place that is not free, Unsupported for a file
    that cannot be written back.
    """
    check_out(source, out)
    writers = {".csv": _csv, ".tsv": _csv, ".parquet": _parquet, ".jsonl": _jsonl, ".ndjson": _jsonl, ".npz": _npz}
    writer = _folder if source.is_dir() else writers.get(source.suffix.lower())
    if writer is None:
        raise Unsupported(f"A cleaned copy of {source.name!r} cannot be written; valid: {', '.join(writers)}, or a folder of images.")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        writer(fixed, found, source, out)
        fixed.to_frame().to_csv(log_path(out), index=False, encoding="utf-8", errors="backslashreplace")
    except BaseException:
        shutil.rmtree(out, ignore_errors=True) if out.is_dir() else out.unlink(missing_ok=True)
        raise
    return log_path(out)


def _cells(fixed: Fixed, found: Data) -> list[tuple[int, str, Change]]:
    """Changed cells and labels as (row of the source, column of the source, change), for items that are still there."""
    kept = set(fixed.kept.tolist())
    column = str(found.notes.get("column", ""))
    changes = (c for c in fixed.log if c.action in ("cell", "label") and c.row in kept)
    return [(int(c.row or 0), (found.label_name or "") if c.action == "label" else c.column or column, c) for c in changes]


def _gone(fixed: Fixed) -> list[str]:
    return [c.column for c in fixed.log if c.action == "column dropped"]


def _whole(fixed: Fixed, change: Change) -> Any:
    """The new value itself: the log repeats only the beginning of a long text."""
    if change.action == "label" or change.row is None or not isinstance(change.after, str):
        return change.after
    place = int(np.searchsorted(fixed.kept, change.row))
    if not hasattr(fixed.data, "columns"):
        return fixed.data[place]
    return fixed.data[change.column].iloc[place] if change.column in fixed.data.columns else change.after


def _csv(fixed: Fixed, found: Data, source: Path, out: Path) -> None:
    """Every cell as the text it was, so that 007 stays 007; those changed as the log says."""
    import pandas as pd

    separator = "\t" if source.suffix.lower() == ".tsv" else ","
    options: dict[str, Any] = {"sep": separator, "dtype": str, "keep_default_na": False, "na_filter": False, "encoding": "utf-8-sig",
                               "encoding_errors": "replace"}  # fmt: skip
    options |= {"index_col": False} if longer_lines(source, separator) else {}
    with warnings.catch_warnings(action="ignore", category=pd.errors.ParserWarning):
        try:
            frame = pd.read_csv(source, **options)
        except pd.errors.ParserError:
            frame = pd.read_csv(source, engine="python", on_bad_lines="skip", **options)
    columns: dict[int, Any] = {}
    for row, column, change in _cells(fixed, found):
        place = [str(c) for c in frame.columns].index(column)
        written = columns.setdefault(place, frame.iloc[:, place].to_numpy(dtype=object, copy=True))
        after = _whole(fixed, change)
        written[row] = "" if after is None else str(after)
    for place, written in columns.items():
        frame.isetitem(place, written)
    frame = _left(frame, fixed)
    frame.to_csv(out, sep=separator, index=False, encoding="utf-8", errors="backslashreplace")


def _parquet(fixed: Fixed, found: Data, source: Path, out: Path) -> None:
    import pandas as pd

    frame = _left(pd.read_parquet(source), fixed)
    changed = {column for _, column, _ in _cells(fixed, found)} | {c.column for c in fixed.log if c.action == "column converted"}
    for name in changed:
        values = fixed.labels if name == found.label_name else fixed.data[name] if hasattr(fixed.data, "columns") else fixed.data
        frame[name] = values.array if hasattr(values, "array") else list(values)
    frame.to_parquet(out, index=False)


def _jsonl(fixed: Fixed, found: Data, source: Path, out: Path) -> None:
    """Every line as it was; a changed one as its record with the new values."""
    lines = [line for line in source.read_text("utf-8", "replace").splitlines() if line.strip()]
    changed: dict[int, dict[str, Any]] = {}
    for row, column, change in _cells(fixed, found):
        changed.setdefault(row, {})[column] = _whole(fixed, change)
    gone = _gone(fixed)
    written = []
    for row in fixed.kept.tolist():
        if row not in changed and not gone:
            written.append(lines[row])
            continue
        record = json.loads(lines[row])
        if isinstance(record, dict):
            record = {str(k): v for k, v in (record | changed.get(row, {})).items() if str(k) not in gone}
        elif row in changed:
            record = next(iter(changed[row].values()))
        written.append(json.dumps(record, ensure_ascii=False, default=_plain))
    out.write_text("".join(f"{line}\n" for line in written), "utf-8", "backslashreplace")


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)


def _npz(fixed: Fixed, found: Data, source: Path, out: Path) -> None:
    """The inputs and labels cleaned; other arrays with one entry per item lose the same ones."""
    arrays: dict[str, Any] = dict(arrays_of(source)[0])
    n = len(found.inputs)
    inputs = [key for key in arrays if key != found.label_name and arrays[key].shape == np.shape(found.inputs)]
    inputs = [key for key in inputs if key.lower() in INPUT_KEYS] or inputs
    for key, array in arrays.items():
        if inputs and key == inputs[0]:
            values = fixed.data.to_numpy() if hasattr(fixed.data, "to_numpy") else np.asarray(fixed.data)
            arrays[key] = values.astype(array.dtype) if array.dtype.kind == "f" or not np.issubdtype(values.dtype, np.floating) else values
        elif key == found.label_name and fixed.labels is not None:
            arrays[key] = np.asarray(fixed.labels)
        elif array.ndim and len(array) == n:
            arrays[key] = array[fixed.kept]
    if any(array.dtype == object for array in arrays.values()):
        raise Unsupported(f"The copy of {source.name!r} would hold objects, which an npz file cannot without being run on reading.")
    with out.open("wb") as handle:
        np.savez_compressed(handle, **arrays)


def _folder(fixed: Fixed, found: Data, source: Path, out: Path) -> None:
    """The files that are left, as they are; those whose place is to be forgotten, without it."""
    stripped = {c.row for c in fixed.log if c.action == "file stripped"}
    renamed = {c.row: str(c.after) for c in fixed.log if c.action == "label"}
    out.mkdir()
    for place in fixed.kept.tolist():
        name = found.files[place]
        target = out / renamed[place] / Path(name).name if place in renamed else out / name
        while target.exists():  # two folders become one, and both held a file of this name
            target = target.with_stem(f"{target.stem}-{place}")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / name, target)
        if place in stripped:
            strip_location(target)


def strip_location(path: Path) -> None:
    """Take the GPS fields, and XMP that names a place, out of a picture's file; its pixels are saved anew."""
    from PIL import Image

    with Image.open(path) as picture:
        picture.load()
        exif = picture.getexif()
        exif.pop(GPS, None)
        kept: dict[str, Any] = {k: v for k, v in picture.info.items() if k in ("icc_profile", "dpi")}
        if picture.format == "JPEG":
            kept |= {"quality": "keep", "subsampling": "keep"}
        if picture.format == "WEBP":  # it does not say how it was saved; larger, but not a pixel is lost
            kept |= {"lossless": True}
        for name in ("xmp", "XML:com.adobe.xmp"):
            picture.info.pop(name, None)
        picture.save(path, format=picture.format, exif=exif, **kept)


def _left(frame: Any, fixed: Fixed) -> Any:
    """The rows and columns of the source that are still there."""
    gone = _gone(fixed)
    return frame.iloc[fixed.kept, [j for j, name in enumerate(frame.columns) if str(name) not in gone]]
