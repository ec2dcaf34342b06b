"""Personal data by form and checksum: e-mail addresses, phone, card and account numbers, national ids, addresses, dates of birth."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date

LUCK = 1e-3  # valid numbers that chance would give this often among those of the right form are not believed
NEAR = 40  # letters before a number in which a word may say what it is
TEXT_LETTERS = 20_000  # of a longer text only so much is read


@dataclass(frozen=True)
class Hit:
    """One piece of personal data: in which text, of what kind, from where to where."""

    text: int
    kind: str
    start: int
    end: int


@dataclass(frozen=True)
class Recogniser:
    """A form, what makes one of that form valid, and how often chance does (``luck``).

    ``word`` says what it is when it stands before it; ``plain`` is a way of writing that leaves no doubt.
    """

    kind: str
    form: re.Pattern[str]
    valid: Callable[[str], bool]
    luck: float
    word: re.Pattern[str] | None = None
    plain: re.Pattern[str] | None = None
    needs: re.Pattern[str] | None = None  # cheap to look for; where it is not there, the form is not


def luhn(digits: str) -> bool:
    """Luhn's check (ISO/IEC 7812-1): every second digit from the right doubled, digit sums added, divisible by 10."""
    total = 0
    for i, c in enumerate(reversed(digits)):
        n = int(c) * (1 + i % 2)
        total += n - 9 * (n > 9)
    return total % 10 == 0


IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "CH": 21, "CR": 22, "CY": 28, "CZ": 24,
    "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18,
    "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LI": 21,
    "LT": 20, "LU": 20, "LV": 21, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18, "NO": 15, "PK": 24,
    "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "TN": 24, "TR": 26,
    "UA": 29, "VG": 24, "XK": 20,
}  # fmt: skip


def iban(text: str) -> bool:
    """ISO 13616: the country's length, and the first four signs put last, letters as 10 to 35, leave 1 modulo 97."""
    bare = re.sub(r"\s", "", text).upper()
    if IBAN_LENGTHS.get(bare[:2]) != len(bare):
        return False
    return int("".join(str(int(c, 36)) for c in bare[4:] + bare[:4])) % 97 == 1


def card(text: str) -> bool:
    """An issuer's prefix with its length, and Luhn's check."""
    digits = _digits(text)
    return bool(_ISSUERS.fullmatch(digits)) and len(set(digits)) > 1 and luhn(digits)


_ISSUERS = re.compile(
    r"4\d{12}(?:\d{3}){0,2}|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|6(?:011|5\d\d|4[4-9]\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}|3(?:0[0-5]|[68]\d)\d{11}"
)
_FILES = frozenset({"png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "html", "py", "txt"})


def _email(text: str) -> bool:
    name, _, host = text.rpartition("@")
    return ".." not in text and not name.endswith(".") and host.rpartition(".")[2].lower() not in _FILES


def _phone(text: str) -> bool:
    digits = _digits(text)
    return 8 <= len(digits) <= 15 and len(set(digits)) > 2 and (len(digits) >= 10 or bool(re.search(r"\d[ .\-/()]+\d", text)))


def _address4(text: str) -> bool:
    """Not a version (1.2.3.4), nor an address that is no one's (loopback, unspecified, multicast, reserved)."""
    import ipaddress

    parts = text.split(".")
    if any(len(p) > 1 and p[0] == "0" for p in parts) or sum(len(p) > 1 for p in parts) < 2:
        return False
    return _somebodys(ipaddress.ip_address(text)) if all(int(p) < 256 for p in parts) else False


def _address6(text: str) -> bool:
    import ipaddress

    try:
        return _somebodys(ipaddress.ip_address(text))
    except ValueError:
        return False


def _somebodys(address: object) -> bool:
    return not any(getattr(address, f"is_{kind}") for kind in ("loopback", "unspecified", "multicast", "reserved"))


def _ssn(text: str) -> bool:
    """USA: no part all zeros, the first neither 666 nor 900 to 999."""
    return not re.match(r"000|666|9|\d{3}-00|\d{3}-\d\d-0000", text)


def _dni(text: str) -> bool:
    """Spain: the number modulo 23 gives the letter (an X, Y or Z in front counts as 0, 1 or 2)."""
    bare = text.upper().replace("-", "")
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(bare[:-1].translate(str.maketrans("XYZ", "012"))) % 23] == bare[-1]


_ODD = dict(
    zip("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23),
        strict=True)
)  # fmt: skip


def _fiscal_code(text: str) -> bool:
    """Italy: odd places by table, even places by value, modulo 26 the last letter."""
    bare = text.upper()
    total = sum(_ODD[c] if i % 2 == 0 else int(c) if c.isdigit() else ord(c) - 65 for i, c in enumerate(bare[:15]))
    return chr(65 + total % 26) == bare[15]


def _nir(text: str) -> bool:
    """France: 97 less the first 13 digits modulo 97 gives the last two."""
    digits = _digits(text)
    return len(digits) == 15 and 97 - int(digits[:13]) % 97 == int(digits[13:])


def _pesel(text: str) -> bool:
    """Poland: weights 1, 3, 7, 9; the month carries the century."""
    n = [int(c) for c in text]
    century, month = {0: 1900, 1: 2000, 2: 2100, 3: 2200, 4: 1800}[n[2] // 2], 10 * (n[2] % 2) + n[3]
    return _day(century + 10 * n[0] + n[1], month, 10 * n[4] + n[5]) and sum(
        a * b for a, b in zip(n, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1), strict=True)
    ) % 10 == 0  # fmt: skip


def _hetu(text: str) -> bool:
    """Finland: the nine digits modulo 31 give the last sign."""
    digits = text[:6] + text[7:10]
    return _day(1900 + int(text[4:6]), int(text[2:4]), int(text[:2])) and "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(digits) % 31] == text[10]


def _personnummer(text: str) -> bool:
    """Sweden: a date and Luhn's check over the last ten digits."""
    digits = _digits(text)[-10:]
    return _day(1900 + int(digits[:2]), int(digits[2:4]), int(digits[4:6])) and luhn(digits)


def _cpf(text: str) -> bool:
    """Brazil: two check digits, each a weighted sum modulo 11."""
    n = [int(c) for c in _digits(text)]
    return len(set(n)) > 1 and all(sum(a * (k + 1 - i) for i, a in enumerate(n[:k])) * 10 % 11 % 10 == n[k] for k in (9, 10))


def _aadhaar(text: str) -> bool:
    """India: Verhoeff's check over the twelve digits."""
    total = 0
    for i, c in enumerate(reversed(_digits(text))):
        total = _TIMES[total][_turn(int(c), i)]
    return total == 0


# The dihedral group of order ten, and Verhoeff's permutation of its elements (Verhoeff, 1969).
_TIMES = [[(a + b) % 5 if a < 5 and b < 5 else 5 + (a + b) % 5 if a < 5 else 5 + (a - b) % 5 if b < 5 else (a - b) % 5 for b in range(10)]
          for a in range(10)]  # fmt: skip
_STEP = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def _turn(digit: int, times: int) -> int:
    for _ in range(times % 8):
        digit = _STEP[digit]
    return digit


def _day(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True


def _digits(text: str) -> str:
    return "".join(c for c in text if c.isdecimal())


def _always(_: str) -> bool:
    return True


def _form(pattern: str, flags: int = 0) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w.])(?:{pattern})(?!\w|[.,-]\d)", flags | re.ASCII)


def _words(words: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{words})", re.I)


_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_ORDINAL = r"(?:st|nd|rd|th)?"
_DATE = (
    r"(?:\d{4}-\d\d?-\d\d?|\d\d?[./-]\d\d?[./-]\d{2,4}"
    rf"|\d\d?{_ORDINAL} (?:of )?{_MONTH},? \d{{4}}|{_MONTH} \d\d?{_ORDINAL},? \d{{4}})"
)
_BORN = r"\b(?:born|birth|dob|d\.o\.b\.?|geboren|geb\.|n[ée]e? le|nacid[oa])"
_DIGITS = re.compile(r"\d(?:[^\dA-Za-z]{0,3}\d){6}")  # seven digits in a row, signs between them or not
_CALL = _words(r"tel|phone|call|mobile|cell|fax|telefon|t[ée]l[ée]phone|handy|whatsapp|sms|ring")
_STREET = (
    r"\d{1,5}[A-Za-z]?,? (?:[A-Z][\w'’.-]+ ){1,3}(?:Street|St|Avenue|Ave|Road|Rd|Lane|Drive|Boulevard|Blvd|Court|Square|Terrace|Place|Way)"
    r"|[A-ZÄÖÜ][a-zäöüß]+(?:straße|strasse|str\.|weg|platz|allee|gasse) \d{1,4}[a-z]?"
    r"|\d{1,4}(?: bis| ter)?,? (?:rue|avenue|boulevard|place|chemin|impasse) (?:de |du |des |de la |d['’]|l['’])?[A-ZÀ-Ý]\w+"
)

RECOGNISERS: tuple[Recogniser, ...] = (
    Recogniser("email address",
               re.compile(r"(?<![\w.+%-])[^\W_][\w.+%-]{0,63}@[^\W_](?:[\w-]{0,62}\.){1,8}[A-Za-z]{2,24}(?![\w@-])"),
               _email, 1e-9, needs=re.compile("@")),
    Recogniser("account number", _form(r"[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?"), iban, 1e-4, _words("iban")),
    Recogniser("card number", _form(r"\d(?:[ -]?\d){12,18}"), card, 0.1,
               _words(r"card|visa|master ?card|amex|american express|discover|credit|debit|karte|carte|tarjeta|pan\b"),
               re.compile(r"\d{4}([ -])\d{4}\1\d{4}\1\d{4}|\d{4}([ -])\d{6}\2\d{4,5}"), _DIGITS),
    Recogniser("national id", _form(r"\d{3}-\d\d-\d{4}"), _ssn, 0.89,
               _words(r"ssn|social security|tax ?(?:payer)? ?id|itin"), None, _DIGITS),
    Recogniser("national id", _form(r"[A-Z]{2} ?\d\d ?\d\d ?\d\d ?[A-Z]"),
               lambda t: bool(re.match(r"(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z][\d ]+[A-D]$", t)), 0.09,
               _words(r"ni(?:no)?\b|national insurance"), re.compile(r"[A-Z]{2} \d\d \d\d \d\d [A-D]")),
    Recogniser("national id", _form(r"(?:\d{8}|[XYZ]-?\d{7})-?[A-Z]"), _dni, 1 / 23, _words(r"dni|nie\b|nif")),
    Recogniser("national id", _form(r"[A-Z]{6}\d\d[A-EHLMPRST]\d\d[A-Z]\d{3}[A-Z]"), _fiscal_code, 1e-4),
    Recogniser("national id", _form(r"[12] ?\d\d ?(?:0[1-9]|1[0-2]|20) ?\d\d ?\d{3} ?\d{3} ?\d\d"), _nir, 0.01,
               _words(r"nir\b|s[ée]curit[ée] sociale|insee"), re.compile(r"\d \d\d \d\d \d\d \d{3} \d{3} \d\d"), _DIGITS),
    Recogniser("national id", _form(r"\d{11}"), _pesel, 0.018, _words("pesel"), None, _DIGITS),
    Recogniser("national id", _form(r"\d{6}[-+A]\d{3}[0-9A-FHJ-NPR-Y]"), _hetu, 1e-3 / 2, _words("hetu|henkil")),
    Recogniser("national id", _form(r"(?:19|20)?\d{6}[-+]?\d{4}"), _personnummer, 0.0036, _words("personnummer"), None, _DIGITS),
    Recogniser("national id", _form(r"\d{3}\.\d{3}\.\d{3}-\d\d"), _cpf, 0.01, _words("cpf"), re.compile(".+"), _DIGITS),
    Recogniser("national id", _form(r"[2-9]\d{3} ?\d{4} ?\d{4}"), _aadhaar, 0.1, _words("aadhaar|uidai"), None, _DIGITS),
    Recogniser("phone number", re.compile(r"(?<![\w+.])\+[1-9](?:[ .\-/()]{0,2}\d){7,14}(?!\w)"), _phone, 1e-4, _CALL, None, _DIGITS),
    Recogniser("phone number", _form(r"(?:\([2-9]\d\d\) ?|[2-9]\d\d[-.])[2-9]\d\d[-.]\d{4}"), _always, 1e-4, _CALL, None, _DIGITS),
    Recogniser("phone number", _form(r"\(?0(?:[ /()-]{0,2}\d){7,11}|[2-9]\d\d ?[2-9]\d\d ?\d{4}"), _phone, 1.0, _CALL, None, _DIGITS),
    Recogniser("IP address", _form(r"\d{1,3}(?:\.\d{1,3}){3}"), _address4, 1e-4, needs=re.compile(r"\d\.\d")),
    Recogniser("IP address", re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{1,4}:){1,7}(?::?[0-9A-Fa-f]{1,4}){1,7}(?![\w:])"),
               _address6, 1e-4, needs=re.compile("::|(?:[0-9A-Fa-f]{1,4}:){7}")),
    Recogniser("date of birth", re.compile(rf"{_BORN}\W[^.\n\d]{{0,20}}({_DATE})", re.I), _always, 1e-4, needs=re.compile(_BORN, re.I)),
    Recogniser("address", re.compile(rf"(?<![\w.])(?:{_STREET})(?!\w)"), _always, 1e-4,
               needs=re.compile(r"\d[A-Za-z]?,? [^\W\d]|[a-z.] \d")),
)  # fmt: skip


def scan(texts: Iterable[str]) -> list[Hit]:
    """The personal data in some texts, no two pieces overlapping.

    A number of the right form may be valid by luck (one order number in ten passes Luhn's check). It is believed where a word
    before it or its writing says what it is; otherwise where so many of all those of its form are valid that chance would do it
    less than once in 1,000: P(X >= valid), X binomial with ``luck``.
    """
    from scipy.stats import binom

    sure: list[list[Hit]] = []
    maybe: dict[int, list[Hit]] = {}
    tried = [0] * len(RECOGNISERS)
    for i, text in enumerate(texts):
        text = text[:TEXT_LETTERS]
        sure.append([])
        for k, one in enumerate(RECOGNISERS):
            if one.needs is not None and not one.needs.search(text):
                continue
            for match in one.form.finditer(text):
                tried[k] += 1
                found = match.group()
                if not one.valid(found):
                    continue
                hit = Hit(i, one.kind, *match.span(match.re.groups and 1))
                before = text[max(0, match.start() - NEAR) : match.start()]
                told = (one.word and one.word.search(before)) or (one.plain and one.plain.fullmatch(found))
                (sure[-1] if told else maybe.setdefault(k, [])).append(hit)
    for k, hits in maybe.items():
        if binom.sf(len(hits) - 1, tried[k], RECOGNISERS[k].luck) < LUCK:
            for hit in hits:
                sure[hit.text].append(hit)
    return [hit for hits in sure for hit in _apart(hits)]


def _apart(hits: list[Hit]) -> list[Hit]:
    """The longer of two that overlap."""
    kept: list[Hit] = []
    for hit in sorted(hits, key=lambda h: (h.start - h.end, h.start)):
        if all(hit.end <= other.start or hit.start >= other.end for other in kept):
            kept.append(hit)
    return sorted(kept, key=lambda h: h.start)
