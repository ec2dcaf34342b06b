"""What can be put right without asking a person, each done to a copy and written down; what cannot be says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from explainer.checks import dates
from explainer.checks.columns import column_of, normalised
from explainer.checks.context import Context, uncapped
from explainer.checks.damage import find
from explainer.checks.documents import TextView
from explainer.checks.draft import Draft, Fixed
from explainer.checks.finding import Finding, Findings
from explainer.checks.frame import TableView
from explainer.checks.labels import _signs, labels_of
from explainer.checks.levels import spelled
from explainer.checks.read import Data, read
from explainer.checks.restoration import repaired, without_location
from explainer.checks.run import run, view_of
from explainer.checks.tabular import _empty_words, _sentinels
from explainer.errors import InvalidInput, unknown
from explainer.inputs import MODALITIES
from explainer.progress import Report, reporter

ROUNDS = 5  # a code for missing may hide another behind it; more layers than this are no accident


@dataclass(frozen=True)
class Fix:
    """What puts right the findings of one check; ``does`` says it in words."""

    check: str
    modalities: tuple[str, ...]
    function: Callable[[Draft, Context, Finding, Any], None]
    does: str


def fix(
    data: Any,
    findings: Findings,
    labels: Any = None,
    *,
    only: Sequence[str] | None = None,
    key: str | bytes | None = None,
    reference: Any = None,
    reference_labels: Any = None,
    progress: bool | Report = False,
) -> Fixed:
    """Clean a copy of the data of what the checks found, as far as that needs no person's judgement.

    Parameters
    ----------
    data, labels : what :func:`explainer.check` was given (the labels, or the name of their column).
    findings : what it returned; only checks that failed there are acted on.
    only : the checks whose findings are fixed, where not all are.
    key : personal data are replaced by keyed pseudonyms (equal values stay equal) instead of being masked.
    reference, reference_labels : the set that items of the data must not stand in, where overlap is to be dropped.
    progress : True for a bar, or a function called with (done, total).

    Each check is run anew on the copy after its fix, so that ``fixed.left`` names what still fails, and why: there are defects
    that no program should decide on. The original is not changed. Raises UnknownName for a name in ``only`` that has no fix,
    InvalidInput where the findings are of other data.
    """
    found = read(data, labels, modality=findings.modality)
    reading = view_of(found)
    if reading.view.n != findings.rows:
        raise InvalidInput(
            f"The findings are of {findings.rows:,} items, the data hold {reading.view.n:,}; pass the data that were checked."
        )
    fixes = [f for f in FIXES if findings.modality in f.modalities]
    for name in only or ():
        if name not in {f.check for f in fixes}:
            raise unknown(f"fix for {findings.modality} data", name, [f.check for f in fixes])
    failed = {f.check: f for f in findings.of("fail")}
    draft, against = Draft(found, reading), _against(reference, reference_labels, found)
    wanted = [f for f in fixes if f.check in failed and (only is None or f.check in only)]
    left = {}
    with reporter(progress, "Fixing data") as report:
        for done, one in enumerate(wanted):
            report(done, len(wanted) + 1)
            still = _until_it_passes(one, draft, against, found, key)
            if still is not None:
                left[one.check] = _why(one, still, against)
        report(len(wanted), len(wanted) + 1)
        if only is None:
            left |= _undecided([name for name in failed if name not in {f.check for f in fixes}], draft.context(against), found, failed)
        else:
            left |= {name: "It was not among those asked for." for name in failed if name not in only}
        report(len(wanted) + 1, len(wanted) + 1)
    return Fixed(*_given_back(draft, data, found), tuple(draft.log), draft.origin, left)


def _undecided(names: list[str], context: Context, found: Data, failed: Mapping[str, Finding]) -> dict[str, str]:
    """What has no fix, as far as the fixes of others have not put it right."""
    if not names:
        return {}
    passed = {f.check for f in run(context, found, only=names).of("pass")}
    return {name: f"No program should decide this. {failed[name].advice}".strip() for name in names if name not in passed}


def _until_it_passes(one: Fix, draft: Draft, against: Context | None, found: Data, key: Any) -> Finding | None:
    """Fix and check in turn; the finding that is left, or None when the check no longer fails."""
    draft.check = one.check
    for _ in range(ROUNDS):
        context = draft.context(against)
        with uncapped():
            finding = run(context, found, only=[one.check])[0]
        if finding.state != "fail":
            return finding if finding.state == "not run" and not draft.log_of(one.check) else None
        before = len(draft.log)
        one.function(draft, context, finding, key)
        if len(draft.log) == before:
            return finding
    return finding


def _why(one: Fix, still: Finding, against: Context | None) -> str:
    if "overlap" in one.check and against is None:
        return "The reference set is needed: pass reference=... as the check was given it."
    if still.state == "not run":
        return still.message
    return f"What could be was {one.does}; still found: {still.message} {still.advice}".strip()


def _against(reference: Any, reference_labels: Any, found: Data) -> Context | None:
    if reference is None:
        return None
    other = read(reference, reference_labels, modality=found.modality)
    reading = view_of(other)
    return Context(reading.view, reference=reading.view, reference_labels=labels_of(other.labels, reading))


def _given_back(draft: Draft, data: Any, found: Data) -> tuple[Any, Any]:
    """Data and labels in the form they came in: frames as frames (the label column in its place), arrays as arrays, lists as lists."""
    labels: Any = None
    if draft.labels is not None:
        labels = draft.labels
        if isinstance(found.labels, np.ndarray) or hasattr(found.labels, "dtype"):
            labels = _as_before(labels, np.asarray(found.labels).dtype)
        elif isinstance(found.labels, (list, tuple)):
            labels = labels.tolist()
    if draft.frame is not None and isinstance(found.inputs, np.ndarray):
        return draft.frame.to_numpy(), labels
    if draft.frame is None:
        same = isinstance(found.inputs, np.ndarray) and found.inputs.dtype != object and len(draft.items)
        return (np.stack(draft.items) if same else draft.items), labels
    frame = draft.frame
    if found.label_name is not None and draft.labels is not None and hasattr(data, "columns"):
        names = [str(c) for c in data.columns]
        frame = frame.copy()
        place = min(names.index(found.label_name), frame.shape[1])
        frame.insert(place, found.label_name, labels, allow_duplicates=True)
    if type(data).__module__.partition(".")[0] == "polars":
        import polars

        return polars.from_pandas(frame), labels
    return frame, labels


def _as_before(values: np.ndarray, kind: np.dtype) -> np.ndarray:
    try:
        return values.astype(kind)
    except (TypeError, ValueError):  # a label that is missing does not go into every type
        return values


# ---- what each does


def _drop(why: str) -> Callable[[Draft, Context, Finding, Any], None]:
    """Leave out every item the finding names."""

    def function(draft: Draft, context: Context, finding: Finding, key: Any) -> None:
        draft.drop(finding.rows, why)

    return function


def unreadable(draft: Draft, context: Context, finding: Finding, key: Any) -> None:
    """Leave out items that are of no kind the checks can read."""
    draft.drop(context.lost, {place: reason for place, (_, reason) in zip(context.lost, context.unreadable, strict=False)})


def repeated(draft: Draft, context: Context, finding: Finding, key: Any) -> None:
    """Keep the first of equal items; where their labels differ, the first with the commonest label, and none where that is a tie."""
    view, labels = context.view, context.labels
    usable = np.flatnonzero(~view.blank)
    _, group = np.unique(view.keys[usable], return_inverse=True)
    whys: dict[int, str] = {}
    repeats = set(np.flatnonzero(np.bincount(group) > 1).tolist())
    members: dict[int, list[int]] = {}
    for place, g in zip(usable, group, strict=True):
        if g in repeats:
            members.setdefault(int(g), []).append(int(place))
    for places in members.values():
        kept, why = places[0], "equal to row {}"
        if labels is not None and len({int(labels.codes[p]) for p in places}) > 1:
            codes = [int(labels.codes[p]) for p in places]
            best = sorted(set(codes), key=lambda c: -codes.count(c))
            if codes.count(best[0]) == codes.count(best[1]):
                whys |= dict.fromkeys(places, "equal items have different labels, none of them more often: which is right is not known")
                continue
            kept, why = places[codes.index(best[0])], "equal to row {}, whose label is the commonest among equal ones"
        whys |= {p: why.format(draft.origin[kept]) for p in places if p != kept}
    draft.drop(view.at(np.array(sorted(whys), dtype=int)), {int(view.at([p])[0]): why for p, why in whys.items()})


def idle_columns(draft: Draft, context: Context, finding: Finding, key: Any) -> None:
    """Leave out columns that the finding names."""
    draft.drop_columns(draft.columns(finding.columns), finding.why)


def empty_columns(draft: Draft, context: Context, finding: Finding, key: Any) -> None:
    """Leave out columns without a single value; other gaps are not made up."""
    view = _table(context)
    empty = [c.name for c in view.columns if c.kind == "empty"]
    draft.drop_columns(draft.columns(empty), "not a single value in it")


def placeholders(draft: Draft, context: Context, finding: Finding, key: Any) -> None:
    """Cells with a code for missing become missing."""
    view = _table(context)
    for j in draft.columns(finding.columns):
        column = view.columns[j]
        found = _sentinels(column) if column.numbers is not None else _empty_words(column)
        for code, mask in found.items():
            draft.blank(np.flatnonzero(mask), j, f"{code} stands for a missing value")


def infinite(draft: Draft, context: Context, finding: Finding, key: Any) -> None:
    """Infinite cells become missing."""
    view = _table(context)
    for j in draft.columns(finding.columns):
        numbers = view.columns[j].numbers
        if numbers is not None:
            draft.blank(np.flatnonzero(np.isinf(numbers)), j, "an infinite value is no measurement")


def mixed_types(draft: Draft, context: Context, finding: Finding, key: Any) -> None:
    """A column whose values are mostly numbers becomes one of numbers, any other one of texts; what does not convert is missing."""
    import pandas as pd

    assert draft.frame is not None
    for j in draft.columns(finding.columns):
        values = draft.frame.iloc[:, j].astype(object).tolist()
        missing = column_of("", pd.Series(values, dtype=object)).missing
        known = [i for i in range(len(values)) if not missing[i]]
        numbers = {i: n for i in known if (n := _number(values[i])) is not None}
        if 2 * len(numbers) > len(known):
            made = pd.Series([numbers.get(i, np.nan) for i in range(len(values))], index=draft.frame.index, dtype=float)
            changed = {i: numbers.get(i) for i in known if i not in numbers or not _plain(values[i])}
            draft.convert(j, made, changed, "most values are numbers; what is none is missing")
        else:
            texts = {i: str(values[i]) for i in known if isinstance(values[i], (str, bool, int, float, np.generic))}
            column = pd.Series([texts.get(i) for i in range(len(values))], index=draft.frame.index, dtype=object)
            draft.convert(j, column, {i: None for i in known if i not in texts}, "most values are texts; numbers are written as texts")


def _number(value: Any) -> float | None:
    """A value as a number: as people write them, with thousands' commas and per cent."""
    if not isinstance(value, str):
        return float(value) if isinstance(value, (bool, int, float, np.number, np.bool_)) and np.isfinite(float(value)) else None
    text = value.strip().replace(",", "")
    try:
        number = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _plain(value: Any) -> bool:
    """Whether any program reads this value as the number it is."""
    return not isinstance(value, str) or ("," not in value and "%" not in value)


def spellings(draft: Draft, context: Context, finding: Finding, key: Any) -> None:
    """Every spelling of a category becomes the commonest of them."""
    view = _table(context)
    for j in draft.columns(finding.columns):
        column = view.columns[j]
        for right, wrong in _variants(list(column.levels), column.codes, spelled):
            places = np.flatnonzero(column.codes == wrong)
            draft.set(places, j, [column.levels[right]] * len(places), f"another spelling of {column.levels[right]!r}")


def class_names(draft: Draft, context: Context, finding: Finding, key: Any) -> None:
    """Every spelling of a class becomes the commonest of them."""
    labels = context.need_labels()
    for right, wrong in _variants(labels.names, labels.codes, normalised):
        if not _signs((labels.names[right], labels.names[wrong])):
            places = context.view.at(labels.codes == wrong)
            draft.relabel(places, labels.names[right], f"another spelling of {labels.names[right]!r}")


def _variants(levels: list[str], codes: np.ndarray, bare: Callable[[str], str]) -> list[tuple[int, int]]:
    """Pairs (commonest, other) of levels that are one when brought to their ``bare`` form."""
    sizes = np.bincount(codes[codes >= 0], minlength=len(levels))
    groups: dict[str, list[int]] = {}
    for i, level in enumerate(levels):
        groups.setdefault(bare(level), []).append(i)
    ordered = (sorted(g, key=lambda i: -sizes[i]) for g in groups.values() if len(g) > 1)
    return [(g[0], other) for g in ordered for other in g[1:]]


def damaged(draft: Draft, context: Context, finding: Finding, key: Any) -> None:
    """Texts read in the wrong encoding are read in the right one; marks of letters that are lost, and control characters, go."""
    view = context.view
    assert isinstance(view, TextView)
    for i in range(view.n):
        text = view.texts[i]
        hit = find(text)
        if hit is not None:
            draft.set(view.at([i]), 0, [repaired(text)], f"{hit.kind}, read as it was meant where that can be told")


def impossible_dates(draft: Draft, context: Context, finding: Finding, key: Any) -> None:
    """Days that cannot be become missing; of two dates in the wrong order nobody knows which is wrong."""
    view = _table(context)
    for j in draft.columns(finding.columns):
        read_ = dates._dates(view, j, view.columns[j])
        if read_ is not None:
            for reason, where in {**read_.wrong, **dates._out_of_time(read_), **dates._defaults(read_)}.items():
                if where.any():
                    draft.blank(np.flatnonzero(where), j, f"a date {reason}")


def personal_data(draft: Draft, context: Context, finding: Finding, key: Any) -> None:
    """Personal data are masked, or with a key replaced by pseudonyms; the log does not repeat them."""
    from explainer.checks import privacy

    def hidden(values: Any, whole: bool) -> list[Any]:
        made = privacy.mask(values, parts=not whole) if key is None else privacy.pseudonymise(values, key=key, parts=not whole)
        return list(made)

    why = "personal data" + ("" if key is None else ", replaced by a pseudonym under the key")
    if draft.frame is None:
        _hide(draft, 0, list(draft.items), hidden(list(draft.items), False), why)
        return
    for name, one in finding.evidence.items():
        for j in draft.columns([name]):
            values = draft.frame.iloc[:, j]
            _hide(draft, j, values.tolist(), hidden(values, bool(one.get("whole"))), why)


def _hide(draft: Draft, j: int, before: list[Any], after: list[Any], why: str) -> None:
    moved = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if isinstance(b, str) and a != b]
    draft.set(moved, j, [after[i] for i in moved], why, told="[personal data]")


def locations(draft: Draft, context: Context, finding: Finding, key: Any) -> None:
    """The place a picture was taken at goes from its metadata; of a folder, when the copy is written."""
    origins = draft.notes.get("origins")
    for place in finding.rows:
        if origins is not None:
            origins[place] = replace(origins[place], located=False)
        elif hasattr(draft.items[place], "getexif"):
            draft.items[place] = without_location(draft.items[place])
        else:
            continue
        draft.strip(place, "a picture's place may be somebody's home")


def _table(context: Context) -> TableView:
    assert isinstance(context.view, TableView)
    return context.view


FIXES: tuple[Fix, ...] = (
    Fix("unreadable items", MODALITIES, unreadable, "dropped"),
    Fix("missing labels", MODALITIES, _drop("it has no label"), "dropped"),
    Fix("class names", MODALITIES, class_names, "written one way"),
    Fix("damaged characters", ("text",), damaged, "read again as UTF-8"),
    Fix("personal data", ("tabular", "text"), personal_data, "masked"),
    Fix("location in metadata", ("image",), locations, "taken out"),
    Fix("missing values", ("text",), _drop("there is no text"), "dropped"),
    Fix("empty texts", ("text",), _drop("there is no word in it"), "dropped"),
    Fix("blank images", ("image",), _drop("one flat grey: there is nothing to see"), "dropped"),
    Fix("flat series", ("series",), _drop("a flat line: nothing was recorded"), "dropped"),
    Fix("placeholder values", ("tabular",), placeholders, "set to missing"),
    Fix("infinite values", ("tabular",), infinite, "set to missing"),
    Fix("impossible dates", ("tabular",), impossible_dates, "set to missing"),
    Fix("mixed types", ("tabular",), mixed_types, "brought to one type"),
    Fix("spelling of categories", ("tabular",), spellings, "written one way"),
    Fix("missing values", ("tabular",), empty_columns, "taken out (columns without a value)"),
    Fix("constant columns", ("tabular",), idle_columns, "dropped"),
    Fix("identifier columns", ("tabular",), idle_columns, "dropped"),
    Fix("overlap, exact", MODALITIES, _drop("it stands in the reference set"), "dropped"),
    Fix("exact duplicates", MODALITIES, repeated, "dropped"),
)
