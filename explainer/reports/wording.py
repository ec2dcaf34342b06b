"""Numbers and words as a person reads them, and text made safe for a page."""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np

SYMBOLS = {
    "pass": "✓",
    "warn": "!",
    "fail": "✗",
    "error": "✗",
    "not run": "–",
    "not assessed": "–",
    "evidence given": "✓",
    "partly": "◐",
    "info": "·",
}


def number(value: Any, digits: int = 3, sign: bool = False) -> str:
    """A number in few characters: three significant digits, thin exponents avoided where they can be."""
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return "–"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    value = float(value)
    if value == 0:
        return "0"
    size = abs(value)
    while size < 1 and digits < 6 and f"{size:.{digits}g}" == "1":  # not quite one is not told as one
        digits += 1
    text = f"{size:,.0f}" if size >= 1000 else f"{size:.{digits}g}"
    if "e" in text:
        mantissa, exponent = text.split("e")
        text = f"{mantissa}e{int(exponent)}"
    return ("−" if value < 0 else "+" if sign else "") + text


def beside(value: float, largest: float, sign: bool = False) -> str:
    """A number among others: what is under a ten-thousandth of the largest is told as "≈ 0", for its digits mean nothing."""
    return "≈ 0" if largest > 0 and abs(value) < 1e-4 * largest else number(value, sign=sign)


def shown(value: Any, digits: int = 3) -> str:
    """Text as it is, a number in few digits."""
    return value if isinstance(value, str) else number(value, digits)


def percent(value: Any) -> str:
    """A share as a percentage with one decimal; "–" where there is none."""
    return "–" if value is None or not np.isfinite(value) else f"{100 * float(value):.1f}\N{NO-BREAK SPACE}%"


def interval(low: Any, high: Any, as_percent: bool = False) -> str:
    """An interval "low to high"; "–" where it is unknown."""
    show = percent if as_percent else number
    return "–" if low is None or high is None or not np.isfinite([low, high]).all() else f"{show(low)} to {show(high)}"


def count(n: int, one: str, many: str | None = None) -> str:
    """A number with its noun: "1 row", "3 rows"."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def sentence(name: str) -> str:
    """A name of the code as the beginning of a sentence: "sampling_error" is "Sampling error"."""
    text = name.replace("_", " ").strip()
    return text[:1].upper() + text[1:]


def badge(status: str) -> str:
    """A status as symbol and word, so that it is never told by colour alone."""
    return f"{SYMBOLS.get(status, '·')} {status}"


def clean(text: Any) -> str:
    """Text without control, surrogate and private-use characters; line breaks and tabs become spaces."""
    spaced = unicodedata.normalize("NFC", str(text)).replace("\r\n", "\n").replace("\t", " ").replace("\n", " ")
    return "".join(c if unicodedata.category(c) not in ("Cc", "Cs", "Co", "Cn") else "�" for c in spaced)


def within_font(text: str, covered: frozenset[int]) -> str:
    """Text in which each character the printed report's fonts do not draw is written as its code point, ``[U+4E2D]``."""
    safe = "".join(c if ord(c) in covered else "" if unicodedata.category(c) in ("Cf", "Mn") else f"[U+{ord(c):04X}]" for c in text)
    return safe
