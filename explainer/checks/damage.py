"""Characters damaged on the way: read in a wrong code page, escaped and never unescaped, replaced, or invisible."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from html import unescape
from html.entities import html5

PAGES = ("cp1252", "cp1250", "cp1251", "mac_roman", "cp850", "cp437")  # in which UTF-8 is most often misread
REPLACED = "\ufffd"
# Zero-width space, word joiner and byte order mark belong in no word; joiners and marks of direction do in some scripts.
HIDDEN = re.compile("[\u200b\u2060\ufeff]|(?<=[A-Za-z\u00c0-\u024f])[\u200c\u200d\u202a-\u202e\u2066-\u2069](?=[A-Za-z\u00c0-\u024f])")
CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]")
PRIVATE = re.compile("[\ue000-\uf8ff\ud800-\udfff]")  # glyphs of one font alone, and halves of characters
ENTITY = re.compile(r"&(#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")
ESCAPE = re.compile(r"\\u[0-9a-fA-F]{4}|(?:=[89A-F][0-9A-F]){2,}")
FOREIGN = re.compile("[^\x00-\x7f]{2,}")
LOST_SPACE = re.compile("(?<=[a-z\u00df-\u00ff])\u00c3 (?=\\S|$)")  # "voilÃ " for "voilà": the non-breaking space became a space
# What may stand right after a letter in sound text: closing quotes, dashes, a non-breaking space.
CLOSING = frozenset("’”“‘»«…–—›‹‚„\u00a0™®°")
SUMS = frozenset("π∞∑∏∫±≤≥")  # may stand after a root sign
ROUNDS = 3  # how often a text may have been misread


@dataclass(frozen=True)
class Damage:
    """One damaged place of a text, and what was meant where that can be told."""

    kind: str
    start: int
    end: int
    meant: str = ""


def find(text: str) -> Damage | None:
    """The first damage of each text, the surest kind first, or None."""
    place = text.find(REPLACED)
    if place >= 0:
        return Damage("replacement character", place, place + 1)
    if not text.isascii():
        misread = _misread(text)
        if misread is not None:
            return misread
        for kind, pattern in (("hidden character", HIDDEN), ("private or half character", PRIVATE)):
            hit = pattern.search(text)
            if hit:
                return Damage(kind, hit.start(), hit.end())
    hit = CONTROL.search(text)
    if hit:
        return Damage("control character", hit.start(), hit.end(), hit[0].encode("latin-1").decode("cp1252", "ignore").strip(hit[0]))
    if "&" in text:
        for hit in ENTITY.finditer(text):
            if hit[1][0] == "#" or f"{hit[1]};" in html5:
                return Damage("HTML entity", hit.start(), hit.end(), unescape(hit[0]))
    if "\\u" in text or "=" in text:
        hit = ESCAPE.search(text)
        if hit:
            return Damage("escape sequence", hit.start(), hit.end())
    return None


def _misread(text: str) -> Damage | None:
    """UTF-8 read as another code page: the bytes behind the characters are UTF-8 once more, and mean something plausible."""
    for run in FOREIGN.finditer(text):
        for page in PAGES:
            for start, end, meant in _decoded(run[0], page):
                a, b = run.start() + start, run.start() + end
                if _plausible(text, a, b, meant, page):
                    return Damage("wrong code page", a, b, _again(meant))
    hit = LOST_SPACE.search(text)
    return Damage("wrong code page", hit.start(), hit.end(), "à") if hit else None


def _again(meant: str) -> str:
    """What was meant where a text was misread more than once."""
    for _ in range(ROUNDS):
        whole = [piece for page in PAGES for start, end, piece in _decoded(meant, page) if end - start == len(meant)]
        if not whole:
            break
        meant = whole[0]
    return meant


def _decoded(run: str, page: str) -> list[tuple[int, int, str]]:
    """The stretches of a run that are UTF-8 in the bytes of ``page``, and what they mean."""
    table = _bytes(page)
    codes = [table.get(character, 0) for character in run]
    found, i, start, meant = [], 0, 0, ""
    while i < len(codes):
        size = 2 if 0xC2 <= codes[i] <= 0xDF else 3 if 0xE0 <= codes[i] <= 0xEF else 4 if 0xF0 <= codes[i] <= 0xF4 else 0
        piece = ""
        if size and i + size <= len(codes) and all(0x80 <= c <= 0xBF for c in codes[i + 1 : i + size]):
            piece = bytes(codes[i : i + size]).decode("utf-8", "ignore")
        if piece:
            start = start if meant else i
            meant += piece
            i += size
            continue
        if meant:
            found.append((start, i, meant))
            meant = ""
        i += 1
    if meant:
        found.append((start, len(codes), meant))
    return found


@lru_cache(maxsize=len(PAGES))
def _bytes(page: str) -> dict[str, int]:
    """The byte behind each character; bytes the page leaves undefined stand as control characters."""
    table = {}
    for byte in range(0x80, 0x100):
        table[bytes([byte]).decode(page, "ignore") or chr(byte)] = byte
        table.setdefault(chr(byte), byte) if page == "cp1252" else None
    return table


def _plausible(text: str, start: int, end: int, meant: str, page: str) -> bool:
    """Whether a stretch is a misreading, and not sound text that happens to be UTF-8 in a code page.

    Two characters or more of any living script are; a single one only when it is a Latin letter or a sign, and not an upper-case
    letter before a closing quote or dash.
    """
    if not all(_living(ord(c)) for c in meant):
        return False
    if len(meant) > 2:
        return True
    before, after = text[start - 1 : start], text[end : end + 1]
    if page in ("mac_roman", "cp437", "cp850") and text[start] in "√¬≈├┬┼─":
        return (before.islower() or after.islower()) and text[start + 1] not in SUMS
    if len(meant) > 1:
        return True
    code = ord(meant)
    if not (code <= 0x17F or 0x2010 <= code <= 0x27BF or code >= 0x1F300 or code in (0xFEFF, 0xFFFD)):
        return False
    if page == "cp1251" and code < 0x1F300:
        return text[start : start + 2] == "вЂ" or (before.islower() and text[start].isupper())
    if text[start] == "Â":
        return True
    if all(c in CLOSING for c in text[start + 1 : end]):
        return (before.islower() and text[start].isupper()) or after.islower()
    return True


def _living(code: int) -> bool:
    """Whether a character is one that texts are written in today."""
    ranges = (
        (0xA0, 0x24F), (0x370, 0x45F), (0x490, 0x491), (0x5D0, 0x5EA), (0x620, 0x6FF), (0x900, 0x97F), (0xE00, 0xE5B), (0x1E00, 0x1EFF),
        (0x2010, 0x27BF), (0x3000, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF), (0xFF00, 0xFFEF),
        (0xFFFD, 0xFFFD), (0x1F300, 0x1FAFF),
    )  # fmt: skip
    return any(low <= code <= high for low, high in ranges)
