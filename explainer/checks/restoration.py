"""Texts as they were meant, and pictures without their place: what the fixes of single items do."""

from __future__ import annotations

import re
from typing import Any

from explainer.checks.damage import find
from explainer.checks.origin import GPS

_FOREIGN = re.compile(r"([^\x00-\x7f]+)")


def repaired(text: str) -> str:
    """A text with its damaged places as they were meant, or without them where that cannot be told."""
    if find(text) is None:
        return text
    again, before = text, ""
    while again != before:  # it can have been misread more than once
        before, again = again, "".join(map(_read_again, _FOREIGN.split(again)))
    if find(again) is None:
        return again
    while (hit := find(text)) is not None:  # each step shortens the text
        place = text[hit.start : hit.end]
        meant = hit.meant or _unescaped(place)
        if place.endswith(" ") and text[hit.end :].strip():  # a space that was eaten by a letter
            meant += " "
        text = text[: hit.start] + (meant if len(meant) < len(place) else "") + text[hit.end :]
    return text


def _read_again(stretch: str) -> str:
    """Letters outside ASCII taken for the bytes they were made of, each two to four of them that are UTF-8 read as its letter."""
    if stretch.isascii():
        return stretch
    codes = [_byte(c) for c in stretch]
    letters, i = [], 0
    while i < len(stretch):
        for size in (4, 3, 2):
            chunk = codes[i : i + size]
            if len(chunk) == size and None not in chunk:
                try:
                    letter = bytes(chunk).decode("utf-8")  # type: ignore[arg-type]
                except UnicodeDecodeError:
                    continue
                if len(letter) == 1:
                    letters.append(letter)
                    i += size
                    break
        else:
            letters.append(stretch[i])
            i += 1
    return "".join(letters)


def _byte(letter: str) -> int | None:
    for encoding in ("cp1252", "latin-1"):
        try:
            return letter.encode(encoding)[0]
        except UnicodeEncodeError:
            continue
    return None


def _unescaped(place: str) -> str:
    """Escaped letters (of JSON, of quoted-printable) as the letters they stand for; "" for anything else."""
    if place.startswith("\\u"):
        letter = chr(int(place[2:6], 16))
        return letter if letter.isprintable() else ""
    if place.startswith("="):
        return bytes.fromhex(place.replace("=", "")).decode("utf-8", "ignore")
    return ""


def without_location(picture: Any) -> Any:
    """A copy of a Pillow picture whose EXIF and XMP name no place; the rest of its EXIF stays."""
    exif = picture.getexif()
    exif.pop(GPS, None)
    made = picture.copy()
    made.info = {k: v for k, v in picture.info.items() if k not in ("exif", "xmp", "XML:com.adobe.xmp")} | {"exif": exif.tobytes()}
    return made
