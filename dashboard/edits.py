"""A changed input, as the browser sends it: checked, and applied to one row of the test set."""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from explainer.errors import InvalidInput
from explainer.model import Model
from explainer.plots.look import shown

LONGEST_TEXT = 20_000
LONGEST_SERIES = 5_000
MOST_PIXELS = 25_000_000
LARGEST_FILE = 8 * 2**20
NAMED = 3  # changed columns that are told by name
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")


def apply(edit: Any, one: Any, model: Model) -> Any:
    """The batch of one, ``one``, as ``edit`` changes it; ``one`` itself is left alone. Raises InvalidInput, in words for the person."""
    if not isinstance(edit, Mapping):
        raise InvalidInput("The change could not be read; reset it and try again.")
    if isinstance(edit.get("large"), Mapping):  # of a file that the browser did not send
        name, size = edit["large"].get("name"), edit["large"].get("bytes")
        size = f"has {size / 2**20:.1f} MB" if isinstance(size, (int, float)) else "is too large"
        raise InvalidInput(f"{str(name)[:60]!r} {size}; at most {LARGEST_FILE // 2**20} MB are taken. Choose a smaller file.")
    change = {"tabular": _table, "text": _text, "image": _image, "series": _series}[model.modality]
    return model.canonical(change(edit, one))


def read(text: str) -> Mapping[str, Any]:
    """The change that an address holds as JSON: the values of columns, a text, or a stretch of a series. Raises InvalidInput."""
    try:
        edit = json.loads(text)
    except (ValueError, RecursionError):
        edit = None
    if not isinstance(edit, Mapping):
        raise InvalidInput("The change in the address could not be read; undo it, or copy the link again.")
    return edit


def told(edit: Mapping[str, Any], one: Any, changed: Any, model: Model) -> str:
    """In words, the change that made ``changed`` of ``one``."""
    if model.modality == "tabular":
        moved = [f"{c} {shown(one[c].iloc[0])} → {shown(changed[c].iloc[0])}" for c in edit["values"]]
        return ", ".join(moved[:NAMED]) + (f" and {len(moved) - NAMED} more" if len(moved) > NAMED else "")
    if model.modality == "text":
        return f"another text, {len(edit['text'].split()):,} words for {len(one[0].split()):,}"
    if model.modality == "image":
        return "another picture"
    if edit.get("csv") is not None:
        return "another series"
    channel = str(edit.get("channel", "all"))
    names = model.feature_names or ()
    which = "all channels" if channel == "all" else names[int(channel)] if int(channel) < len(names) else f"channel {channel}"
    return f"{which} x {edit.get('scale', 1):g} from step {edit.get('first', 0)} to {edit.get('last', len(one[0]))}"


def _table(edit: Mapping[str, Any], one: Any) -> Any:
    frame = one.copy()
    values = edit.get("values")
    if not isinstance(values, Mapping):
        raise InvalidInput("The changed columns could not be read; reset them and try again.")
    for column, value in values.items():
        if column not in frame.columns:
            raise InvalidInput(f"There is no column {str(column)[:60]!r} in this table.")
        numeric = frame[column].dtype.kind in "biuf"
        if value in ("", None):
            filled: Any = np.nan if numeric else None
        elif numeric:
            filled = _number(value, str(column))
        else:
            filled = str(value)[:LONGEST_TEXT]
        if numeric:
            whole = isinstance(filled, float) and filled.is_integer() and frame[column].dtype.kind in "iu"
            frame[column] = np.array([int(filled) if whole else filled], dtype=frame[column].dtype if whole else float)
        else:
            frame[column] = frame[column].astype(object)
            frame.loc[frame.index[0], column] = filled
    return frame


def _number(value: Any, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InvalidInput(f"{where} takes a number; {str(value)[:40]!r} came.") from None
    if not np.isfinite(number):
        raise InvalidInput(f"{where} takes a finite number; {value!r} came.")
    return number


def _text(edit: Mapping[str, Any], one: Any) -> list[str]:
    text = edit.get("text")
    if not isinstance(text, str):
        raise InvalidInput("The changed text could not be read; reset it and try again.")
    if len(text) > LONGEST_TEXT:
        raise InvalidInput(f"The text has {len(text):,} characters; at most {LONGEST_TEXT:,} are taken here. Shorten it.")
    return [text]


def _image(edit: Mapping[str, Any], one: Any) -> np.ndarray:
    """An uploaded or drawn picture, in the shape and range of the model's own."""
    picture = picture_of(edit.get("image"))
    height, width = one.shape[1:3]
    channels = one.shape[3] if one.ndim == 4 else 0
    pixels = (
        np.asarray(_squared(picture.convert("RGB" if channels == 3 else "L"), width / height).resize((width, height)), dtype=np.float32)
        / 255
    )
    if channels and channels != 3:
        pixels = np.repeat(pixels[..., None], channels, axis=2)
    return pixels[None]


def picture_of(data: Any) -> Any:
    """The PIL image in a ``data:`` address. Raises InvalidInput for what is no picture, or one too large."""
    from PIL import Image, UnidentifiedImageError

    try:
        picture = Image.open(io.BytesIO(_decoded(data)), formats=_FORMATS)
        if picture.width * picture.height > MOST_PIXELS:
            raise InvalidInput(f"The picture has {picture.width:,} x {picture.height:,} pixels; at most {MOST_PIXELS:,} in all are taken.")
        picture.load()
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput("This file is not a picture that can be read; PNG, JPEG, BMP, GIF, WebP and TIFF can.") from None
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        ground = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        ground.alpha_composite(picture.convert("RGBA"))
        return ground.convert("RGB")
    return picture


def _squared(picture: Any, ratio: float) -> Any:
    """Pad with the corner's colour to the model's proportions: stretching would change what is seen."""
    width, height = picture.size
    wide, high = max(width, round(height * ratio)), max(height, round(width / ratio))
    if (wide, high) == (width, height):
        return picture
    from PIL import Image

    ground = Image.new(picture.mode, (wide, high), picture.getpixel((0, 0)))
    ground.paste(picture, ((wide - width) // 2, (high - height) // 2))
    return ground


def _decoded(data: Any) -> bytes:
    if not isinstance(data, str) or not data.startswith("data:") or ";base64," not in data[:200]:
        raise InvalidInput("The file could not be read; choose it again.")
    try:
        return base64.b64decode(data.split(",", 1)[1], validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput("The file arrived damaged; choose it again.") from None


def _series(edit: Mapping[str, Any], one: Any) -> list[np.ndarray]:
    """A channel scaled over a stretch of time, or a whole series from a csv file (rows: time steps, columns: channels)."""
    series = np.array(one[0], dtype=np.float32, copy=True)
    if edit.get("csv") is not None:
        return [_csv(edit["csv"], series.shape[1])]
    channel, first, last = edit.get("channel", "all"), edit.get("first", 0), edit.get("last", len(series))
    if not (isinstance(first, int) and isinstance(last, int) and 0 <= first < last <= len(series)):
        raise InvalidInput(f"The stretch of time must lie within 0 to {len(series)}; {first!r} to {last!r} came.")
    factor = _number(edit.get("scale", 1), "The scale")
    if channel == "all":
        series[first:last] *= factor
    elif isinstance(channel, (int, str)) and str(channel).isdigit() and int(channel) < series.shape[1]:
        series[first:last, int(channel)] *= factor
    else:
        raise InvalidInput(f"There is no channel {str(channel)[:20]!r}; the series has {series.shape[1]}.")
    return [series]


def _csv(data: Any, channels: int) -> np.ndarray:
    try:
        text = _decoded(data).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInput("The csv file is not UTF-8 text.") from None
    lines = [line for line in text.splitlines() if line.strip()]
    separator = next((s for s in ("\t", ";") if lines and s in lines[0]), ",")
    cells = [[c.strip() for c in line.split(separator)] for line in lines]
    if cells and not any(_is_number(c) for c in cells[0]):
        cells = cells[1:]  # a header
    if not cells or len(cells) > LONGEST_SERIES:
        raise InvalidInput(f"The csv file has {len(cells):,} rows of numbers; 1 to {LONGEST_SERIES:,} are taken, one per time step.")
    for k, row in enumerate(cells):
        if len(row) != channels or not all(_is_number(c) for c in row):
            raise InvalidInput(f"Row {k + 1} of the csv file does not hold {channels} numbers, one per channel.")
    return np.array(cells, dtype=np.float32)


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False
