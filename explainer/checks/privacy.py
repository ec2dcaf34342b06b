"""Whether data name persons, or let them be found again; and the cures: masking and pseudonyms."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from explainer.checks.columns import Column
from explainer.checks.context import EVIDENCE_SHOWN, Check, Context, NotRun, count, failed, listed, passed, plural, share
from explainer.checks.documents import TextView
from explainer.checks.finding import Finding
from explainer.checks.frame import TableView
from explainer.checks.recognisers import Hit, scan
from explainer.errors import InvalidInput

TEXTS_MOST = 50_000  # texts, or different values of a column, that are read; of more, so many drawn with seed 0
PRESIDIO_MOST = 2_000  # presidio reads about 500 short texts a second
NAMED_SHARE = 0.8  # of a column's values must look like what its name says
SMALLEST = 5  # k: a row that fewer than five share stands out (the customary least, e.g. El Emam and Dankar, 2008)
SUPPRESSED = 0.05  # rows that may stand out: so many can be suppressed before release (ARX and sdcMicro's customary limit)
KINDS_LEAST = 3  # Sweeney (2000): three together (zip, sex, date of birth) single out 87 % of people in the USA

_HIDDEN = re.compile(r"(?<=[^\W_])[^\W_]")
_NAME = re.compile(r"[^\W\d_][^\W\d_'’.-]*(?:[ ,'’.-]{1,2}[^\W\d_][^\W\d_'’.-]*){0,4}\.?")
_DAY = re.compile(r"(?:18|19|20)\d\d[-/.]?\d\d?[-/.]?\d\d?|\d\d?[-/.]\d\d?[-/.](?:18|19|20)?\d\d")
_PERSON = "patient|customer|client|employee|person|contact|user|student|member|applicant|doctor|author|guest|tenant|borrower"

_NUMBER = r"( (number|no|nr))?"


def _named(*claims: str) -> re.Pattern[str]:
    return re.compile("|".join(claims))


# What a column's name says is in it, and what its values must then look like.
TOLD: tuple[tuple[str, re.Pattern[str], re.Pattern[str]], ...] = (
    ("email address", _named("e ?mail( address)?"), re.compile(r".+@.+")),
    (
        "phone number",
        _named(f"(tele)?phone{_NUMBER}", f"(tel|mobile|cell|fax|handy|telefon|msisdn){_NUMBER}"),
        re.compile(r"(?=(?:.*\d){7})[+(]?\d[\d ()./x-]{5,24}"),
    ),
    (
        "date of birth",
        _named(
            "dob",
            "(date of )?birth ?(day|date)?",
            "date birth",
            "born",
            "geburts(datum|tag)",
            "date (de )?naissance",
            "fecha (de )?nacimiento",
        ),
        _DAY,
    ),
    (
        "national id",
        _named(
            f"ssn|nino|dni|nie|cpf|pesel|aadhaar|personnummer|social security{_NUMBER}|national (id|insurance){_NUMBER}",
            f"passport{_NUMBER}|tax id|id card{_NUMBER}",
        ),
        re.compile(r"(?=(?:.*\d){5})[\w .+/-]{6,20}"),
    ),
    ("account number", _named("iban", f"bank account{_NUMBER}", "account (number|no|nr)"), re.compile(r"(?=(?:.*\d){6})[\w -]{7,40}")),
    ("card number", _named("(credit|debit)? ?card (number|no|nr)", "credit ?card", "pan"), re.compile(r"(?:\d[ -]?){12,18}\d")),
    (
        "address",
        _named(r"((street|home|postal|mailing|billing|shipping) )?addr(ess)?( ?line)?( ?\d)?", "street|stra(ss|ß)e|anschrift|adresse"),
        re.compile(r"(?=.*[^\W\d])[\w .,;'’/#-]{5,120}"),
    ),
    (
        "name of a person",
        _named(
            rf"(first|last|middle|given|family|full|sur|maiden|nick|birth|{_PERSON}) ?names?",
            "forename|vorname|nachname",
            "pr[ée]nom|nom de famille|apellidos?|cognome",
        ),
        _NAME,
    ),
)

# Quasi-identifiers: what others know of a person too.
QUASI: dict[str, re.Pattern[str]] = {
    "date of birth": _named("dob", "(date of )?birth ?(day|date|year)?", "date birth", "year (of )?birth", "geburtsdatum", "yob"),
    "postcode": _named("zip( ?code)?", "post(al)? ?code", "plz"),
    "age": _named("age", "age (group|band|years|yrs)", "alter"),
    "sex": _named("sex|gender|geschlecht|male|female"),
    "ethnicity": _named("race|ethnicity|ethnic( group)?|black|white|hispan(ic)?"),
    "nationality": _named("nationality|citizenship", "native country|country of birth|birth ?place"),
    "place": _named("((home|residence) )?(city|town|county|municipality|village|district|region|state|tract|suburb)", "place of residence"),
    "occupation": _named("occupation|job( title)?|profession|employer"),
    "marital status": _named("marital( status)?|married|civil status|relationship"),
    "education": _named("education|degree|school(ing)?"),
    "religion": _named("religion|denomination"),
    "family": _named("children|dependents|household size|number of (children|dependents)"),
}
FINE = frozenset({"date of birth", "postcode"})  # these single out nearly alone


def spelled(name: str) -> str:
    """A column's name as words: ``DateOfBirth`` and ``date_of_birth`` are ``date of birth``."""
    return " ".join(re.sub(r"(?<=[a-z])(?=[A-Z])|[\W_]+", " ", name).lower().split())


@dataclass(frozen=True)
class _Read:
    """Distinct texts that were read, each with its rows, and how many there are in all."""

    texts: list[str]
    rows: list[np.ndarray]
    all: int


def personal_data(context: Context) -> Finding:
    """Values that name, locate or number a person, by form and checksum and by what a column's name says."""
    told = {c.name: kind for c in context.view.columns if (kind := _told(c))} if isinstance(context.view, TableView) else {}
    engine = "patterns with checksums" + (
        " and by column name" if isinstance(context.view, TableView) else "; names in running text are not looked for"
    )
    return _personal(context, scan, TEXTS_MOST, told, engine)


def presidio_data(context: Context) -> Finding:
    """The same by presidio's recognisers that work by pattern, checksum and context word; no language model is loaded."""
    from explainer.checks.presidio import recogniser

    return _personal(context, recogniser(), PRESIDIO_MOST, {}, "presidio's pattern recognisers")


def _personal(context: Context, find: Callable[[list[str]], list[Hit]], most: int, told: dict[str, str], engine: str) -> Finding:
    view = context.view
    found: dict[str, dict[str, Any]] = {}
    rows = np.zeros(view.n, dtype=bool)
    partly: list[str] = []
    columns = view.columns if isinstance(view, TableView) else [None]
    for column in columns:
        name = column.name if column is not None else "the texts"
        if column is not None and name in told:
            present = ~column.missing
            rows |= present
            found[name] = {"kinds": {told[name]: int(present.sum())}, "how": "the column's name and the form of its values", "whole": True}
            continue
        read = _values(column, most) if column is not None else _texts(view, most)
        hits = find(read.texts)
        partly += [name] if read.all > len(read.texts) else []
        if hits:
            rows[np.concatenate([read.rows[h.text] for h in hits])] = True
            found[name] = {"kinds": _kinds(hits, read), "how": "form", "whole": _whole(hits, read), "examples": _examples(hits, read.texts)}
    engine = f"Looked for by {engine}" + (f"; of {listed(partly)} in {most:,} drawn with seed 0" if partly else "") + "."
    if isinstance(view, TextView):
        return _told_of_texts(view, found.get("the texts"), rows, min(view.n, most), engine)
    details: dict[str, Any] = {"value": len(found), "threshold": 0.0}
    if not found:
        return passed(f"No personal data found in {count(len(columns), 'column')}. {engine}", **details)
    shown = listed(f"{name!r} ({_counted(one['kinds'])})" for name, one in found.items())
    message = f"{count(len(found), 'column')} with personal data: {shown}. {engine}"
    return failed(message, rows=view.at(rows), columns=found, evidence=found, code=_code(found), **details)


def _told_of_texts(view: TextView, found: dict[str, Any] | None, rows: np.ndarray, read: int, engine: str) -> Finding:
    details: dict[str, Any] = {"value": rows.sum() / max(1, read), "threshold": 0.0}
    if found is None:
        return passed(f"No personal data found in {count(read, view.noun)}. {engine}", **details)
    message = f"{share(int(rows.sum()), read)} {plural(view.noun)} hold personal data ({_counted(found['kinds'])}). {engine}"
    return failed(message, rows=view.at(rows), evidence=found, code=f"{_IMPORT}\n\ntexts = mask(texts, parts=True)", **details)


def _counted(kinds: dict[str, int]) -> str:
    return listed(f"{kind}: {n:,}" for kind, n in kinds.items())


KEY_LEAST = 16  # bytes
_IMPORT = "from explainer.checks.privacy import mask, pseudonymise"


def _code(found: dict[str, dict[str, Any]]) -> str:
    changes = [f"data[{name!r}] = mask(data[{name!r}]{'' if one['whole'] else ', parts=True'})" for name, one in found.items()]
    return "\n".join([_IMPORT, "", *changes[:EVIDENCE_SHOWN], "# to tell rows apart still: pseudonymise(..., key=key)"])


def _some(n: int, most: int) -> np.ndarray:
    return np.arange(n) if n <= most else np.sort(np.random.default_rng(0).choice(n, most, replace=False))


def _texts(view: Any, most: int) -> _Read:
    places = _some(view.n, most)
    return _Read([view.texts[i] for i in places], [np.array([i]) for i in places], view.n)


def _values(column: Column, most: int) -> _Read:
    """The different values of one column as texts; of numbers, only those long enough to name someone."""
    if column.numbers is None:
        texts: Sequence[str] = column.levels
    elif column.kind == "number":
        known = column.numbers[np.isfinite(column.numbers)]
        if not 1e8 <= known.max(initial=0) < 2**63 or (known != np.round(known)).any():
            return _Read([], [], 0)
        distinct = np.unique(known)
        texts = [str(int(v)) for v in distinct]
    else:
        return _Read([], [], 0)
    places = _some(len(texts), most)
    codes = column.codes if column.numbers is None else np.where(column.missing, -1, np.searchsorted(distinct, column.numbers))
    order = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[order], [places, places + 1])
    return _Read([texts[i] for i in places], [order[a:b] for a, b in bounds.T], len(texts))


def _told(column: Column) -> str:
    """The kind of personal data that the column's name claims, where at least ``NAMED_SHARE`` of its values look like it."""
    name = spelled(column.name)
    for kind, claim, form in TOLD:
        if not claim.fullmatch(name) or column.kind == "empty":
            continue
        if column.kind == "date":
            return kind if kind == "date of birth" else ""
        if column.numbers is None:
            values: Sequence[str] = column.levels
        else:
            values = [f"{v:.0f}" for v in np.unique(column.numbers[np.isfinite(column.numbers)])]
        values = [values[i].strip() for i in _some(len(values), 1_000)]
        alike = [bool(form.fullmatch(v)) for v in values]
        if len(values) > 1 and np.mean(alike) >= NAMED_SHARE:
            return kind
    return ""


def _kinds(hits: Iterable[Hit], read: _Read) -> dict[str, int]:
    """How many rows hold each kind."""
    rows: Counter[str] = Counter()
    for kind, text in {(h.kind, h.text) for h in hits}:
        rows[kind] += len(read.rows[text])
    return dict(rows.most_common())


def _whole(hits: list[Hit], read: _Read) -> bool:
    """Whether the values are nothing but personal data."""
    return len(hits) >= 0.5 * len(read.texts) and bool(np.mean([h.end - h.start >= 0.8 * len(read.texts[h.text]) for h in hits]) > 0.5)


def _examples(hits: list[Hit], texts: Sequence[str]) -> list[str]:
    """A few, with all but the first sign of each part hidden: a report on personal data must hold none."""
    return [f"{h.kind}: {_HIDDEN.sub('*', texts[h.text][h.start : h.end])}" for h in hits[:5]]


def re_identification(context: Context) -> Finding:
    """Size of the smallest class of rows alike in all quasi-identifiers (k-anonymity), and labels within classes (l-diversity).

    k = min over classes of their size (Sweeney, 2002, k-anonymity: a model for protecting privacy); a class is l-diverse when its
    rows have l different labels (Machanavajjhala et al., 2007). Quasi-identifiers are columns named so, and the groups given.
    """
    view = context.view
    assert isinstance(view, TableView)
    context.need_rows(30)
    codes, kinds = _quasi_identifiers(context, view)
    fine = bool(FINE & set(kinds.values()))
    if len(set(kinds.values())) < KINDS_LEAST - fine:
        shown = f" (only {listed(map(repr, kinds))})" if kinds else ""
        raise NotRun(f"The columns hold fewer than {KINDS_LEAST} kinds of what others know of a person{shown}; name more such columns.")
    _, classes, sizes = np.unique(np.column_stack(list(codes.values())), axis=0, return_inverse=True, return_counts=True)
    classes = classes.ravel()
    small = sizes[classes] < SMALLEST
    k = int(sizes.min())
    alone = int((sizes == 1).sum())
    evidence: dict[str, Any] = {"quasi-identifiers": kinds, "k": k, "classes": len(sizes), "rows alone in their class": alone}
    details: dict[str, Any] = {"value": small.mean(), "threshold": SUPPRESSED, "columns": list(kinds)}
    message = f"Taken together, {listed(map(repr, kinds))} put {share(int(small.sum()), view.n)} rows "
    message += f"into a class of fewer than {SMALLEST} (k = {k})"
    uniform, expected = _one_label(context, classes, sizes) if context.labels is not None else (np.zeros(view.n, dtype=bool), 0.0)
    if context.labels is not None and context.labels.kind == "class":
        evidence |= {"rows of a class with one label only": int(uniform.sum()), "expected by chance": expected}
    if small.mean() > SUPPRESSED:
        return failed(f"{message}; {count(alone, 'row')} stand alone.", rows=view.at(small), evidence=evidence, **details)
    if uniform.sum() > SUPPRESSED * view.n and uniform.sum() > 2 * expected:
        details |= {"value": uniform.mean()}
        told = f"{message}, but {share(int(uniform.sum()), view.n)} stand in a class that has one label only (l = 1), which tells it."
        return failed(told, rows=view.at(uniform), evidence=evidence, **details)
    return passed(f"{message}.", count=int(small.sum()), evidence=evidence, **details)


def _quasi_identifiers(context: Context, view: TableView) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Codes of each quasi-identifier and its kind; what differs in nearly every row numbers rows and is no class."""
    codes: dict[str, np.ndarray] = {}
    kinds: dict[str, str] = {}
    for column in view.columns:
        kind = next((kind for kind, claim in QUASI.items() if claim.fullmatch(spelled(column.name))), "")
        if kind and column.kind not in ("empty", "text") and column.distinct > 1 and not view.identifier(column):
            codes[column.name], kinds[column.name] = column.codes, kind
    for name, values in (context.groups or {}).items():
        if name not in codes:
            codes[name] = pd.factorize(np.asarray([str(v) for v in values], dtype=object))[0]
            kinds[name] = next((kind for kind, claim in QUASI.items() if claim.fullmatch(spelled(name))), name)
    return codes, kinds


def _one_label(context: Context, classes: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, float]:
    """Rows of a class of at least ``SMALLEST`` with one label only, and how many chance would give: sum n_c sum_k p_k^n_c."""
    labels = context.labels
    assert labels is not None
    if labels.kind != "class" or len(labels.names) < 2:
        return np.zeros(len(classes), dtype=bool), 0.0
    known = labels.codes >= 0
    pairs = np.unique(np.column_stack([classes[known], labels.codes[known]]), axis=0)
    variety = np.bincount(pairs[:, 0], minlength=len(sizes))
    rates = labels.sizes / max(1, labels.sizes.sum())
    large = sizes >= SMALLEST
    expected = float((sizes[large] * (rates[:, None] ** sizes[large]).sum(axis=0)).sum())
    return (variety == 1)[classes] & large[classes], expected


def mask(values: Any, *, parts: bool = False) -> Any:
    """``values`` hidden: each becomes ``[masked]``, or with ``parts`` only the personal data found in it, by kind.

    ``values``: a Series or any list, one value per row; missing values stay missing. Returns the same kind: a Series with its
    index, else a list. ``parts``: what :func:`scan` finds becomes ``[email address]`` and so on, and other text stays.
    """
    return _changed(values, (lambda kind, _: f"[{kind}]") if parts else (lambda kind, _: "[masked]"), parts)


def pseudonymise(values: Any, *, key: str | bytes, parts: bool = False) -> Any:
    """``values`` replaced by keyed hashes: the first 128 bits of HMAC-SHA256(key, value) as 32 hexadecimal digits (RFC 2104).

    The same value under the same key gives the same token, in any table, so rows can still be joined and counted; without the
    key, no one can try values out. The key is never stored: whoever keeps it can link tokens to values again, so keep it apart
    from the data (at least 16 random bytes: ``secrets.token_bytes(32)``). ``parts`` as in :func:`mask`.
    Raises InvalidInput for a shorter key.
    """
    import hmac

    secret = key.encode() if isinstance(key, str) else bytes(key)
    if len(secret.strip()) < KEY_LEAST:  # whoever can try all keys can try all values
        raise InvalidInput(
            f"The key has {len(secret.strip())} bytes; at least {KEY_LEAST} are needed. Pass a random one, such as "
            "secrets.token_bytes(32), and keep it apart from the data."
        )

    def token(kind: str, value: str) -> str:
        code = hmac.new(secret, value.encode("utf-8", "surrogatepass"), "sha256").hexdigest()[:32]
        return f"[{kind} {code}]" if parts else code

    return _changed(values, token, parts)


def _changed(values: Any, into: Any, parts: bool) -> Any:
    series = values if isinstance(values, pd.Series) else pd.Series(list(values), dtype=object)
    missing = series.isna().to_numpy(dtype=bool)
    texts = [_text(v) for v in series.tolist()]
    if parts:
        present = np.flatnonzero(~missing)
        hits: dict[int, list[Hit]] = {}
        for hit in scan([texts[i] for i in present]):
            hits.setdefault(int(present[hit.text]), []).append(hit)
        for i, found in hits.items():
            for hit in reversed(found):
                texts[i] = texts[i][: hit.start] + into(hit.kind, texts[i][hit.start : hit.end]) + texts[i][hit.end :]
        changed: list[Any] = [None if lost else text for text, lost in zip(texts, missing, strict=True)]
    else:
        changed = [None if lost else into("", text) for text, lost in zip(texts, missing, strict=True)]
    return pd.Series(changed, index=series.index, name=series.name, dtype=object) if isinstance(values, pd.Series) else changed


def _text(value: Any) -> str:
    """5 and 5.0 are one value: a column of whole numbers turns to floats where one is missing."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


CHECKS: tuple[Check, ...] = (
    Check(
        "personal data",
        ("tabular", "text"),
        personal_data,
        "What names a person must not reach a model without need or consent, and a model can repeat it.",
        "Leave these out; where rows must be told apart or joined, replace them by pseudonyms.",
    ),
    Check(
        "personal data, presidio",
        ("tabular", "text"),
        presidio_data,
        "What names a person must not reach a model without need or consent, and a model can repeat it.",
        "Leave these out; where rows must be told apart or joined, replace them by pseudonyms.",
        asked=True,
    ),
    Check(
        "re-identification",
        ("tabular",),
        re_identification,
        "Who knows a person's age, sex and place finds their row, and reads the rest of it.",
        "Coarsen these columns (age bands, first digits of the postcode) until each class has five rows; suppress what stays alone.",
    ),
)
