"""Where a picture comes from: what its file says beside the pixels."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

CAMERA, MODEL, SOFTWARE, CHANGED, TAKEN, EXIF, GPS = 0x010F, 0x0110, 0x0131, 0x0132, 0x9003, 0x8769, 0x8825  # numbers of EXIF fields
LATITUDE, LONGITUDE = 2, 4  # and of those of the place
DAY = 86_400.0
NAN = float("nan")


@dataclass(frozen=True)
class Origin:
    """What is known of one picture beside its pixels; "" and NaN where nothing is said."""

    mode: str = ""  # as in the file: "L", "RGB", "P", "I;16", ...
    width: int = 0
    height: int = 0
    format: str = ""
    size: float = NAN  # bytes of the file
    name: str = ""  # of the file, without its folders
    modified: float = NAN  # the day of the file's last change; by the day, for files unpacked one after the other differ in seconds
    quantisation: float = NAN  # mean step of JPEG's luminance table: the coarser, the larger
    camera: str = ""
    software: str = ""
    taken: float = NAN  # days since 1970
    located: bool = False


def origin_of(picture: Any, file: Path | None = None) -> Origin:
    """Read what a Pillow picture and its file say; what is broken counts as not said."""
    known: dict[str, Any] = {"mode": picture.mode, "width": picture.width, "height": picture.height, "format": picture.format or ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for part in (_file, _compression, _exif):
            try:
                known |= part(picture, file)
            except Exception:  # metadata are written by anything, and may hold anything
                continue
    return Origin(**known)


def _file(picture: Any, file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    facts = file.stat()
    return {"size": float(facts.st_size), "modified": facts.st_mtime // DAY, "name": file.name}


def _compression(picture: Any, file: Path | None) -> dict[str, Any]:
    tables = getattr(picture, "quantization", None)
    return {"quantisation": sum(tables[0]) / len(tables[0])} if tables and tables.get(0) else {}


def _exif(picture: Any, file: Path | None) -> dict[str, Any]:
    found = picture.getexif()
    place = found.get_ifd(GPS) if GPS in found else {}
    located = LATITUDE in place and LONGITUDE in place
    packet = picture.info.get("xmp") or picture.info.get("XML:com.adobe.xmp") or b""
    located = located or b"GPSLatitude" in (packet.encode() if isinstance(packet, str) else bytes(packet))
    taken = _days(found.get_ifd(EXIF).get(TAKEN) or found.get(CHANGED)) if len(found) else NAN
    camera = " ".join(_words(found.get(tag)) for tag in (CAMERA, MODEL)).strip()
    return {"located": located, "taken": taken, "camera": camera, "software": _words(found.get(SOFTWARE))}


def _words(value: Any) -> str:
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value or "")
    return " ".join(text.replace("\0", " ").split())


def _days(value: Any) -> float:
    """EXIF's ``YYYY:MM:DD hh:mm:ss`` in days since 1970."""
    try:
        return (datetime.strptime(_words(value)[:19], "%Y:%m:%d %H:%M:%S") - datetime(1970, 1, 1)).total_seconds() / DAY
    except ValueError:
        return NAN
