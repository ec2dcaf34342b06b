"""What a finding's evidence looks like as bars or as a grid: one reading of it for every page and figure that draws it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isclose
from typing import Any

from explainer.checks.finding import Finding

SHOWN = 20  # bars a person compares at a glance
# Which figure of an entry is drawn where it holds several, and which word names it.
FIGURES = (
    "half-width", "effect", "share", "distance", "likeness", "error", "accuracy", "score", "loss", "gap", "ratio", "times", "factor",
    "steps", "strength", "value", "power", "auc", "missing", "count", "rows", "size", "n",
)  # fmt: skip
NAMES = ("segment", "figure", "output", "column", "feature", "word", "group", "pattern", "split", "rule", "name", "class")
PLACES = ("row", "channel", "step", "reference row", "other row", "p", "adjusted p")  # numbers that say where or how sure, not how much


@dataclass(frozen=True)
class Bars:
    """One figure per name; ``threshold`` is the line it is held against, ``intervals`` are 95 % where they are known."""

    names: tuple[str, ...]
    values: tuple[float, ...]
    what: str
    threshold: float | None = None
    intervals: tuple[tuple[float, float] | None, ...] = ()


@dataclass(frozen=True)
class Grid:
    """One figure per row and column; None where there is none."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    what: str


Chart = Bars | Grid


def chart(finding: Finding) -> Chart | None:
    """The chart of a finding that ended pass or fail, None where there is no figure to draw."""
    if finding.state not in ("pass", "fail"):
        return None
    for read in _READERS:
        found = read(finding)
        if found is not None:
            return found
    return None


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf")


def _held(finding: Finding, figures: Iterable[Any]) -> float | None:
    """The threshold, where the finding's value is one of the ``figures`` (evidence is cut to six digits): else it is of other things."""
    value = finding.value
    return finding.threshold if value is not None and any(_number(f) and isclose(f, value, rel_tol=1e-5) for f in figures) else None


def _bars(pairs: Sequence[tuple[Any, Any]], what: str, threshold: float | None = None, *, ordered: bool = False) -> Bars | None:
    """Bars of those pairs that hold a number, the longest first unless they have an order of their own."""
    kept = [(str(name), float(value)) for name, value in pairs if _number(value)]
    if not ordered:
        kept.sort(key=lambda pair: -abs(pair[1]))
    kept = kept[:SHOWN]
    return Bars(tuple(n for n, _ in kept), tuple(v for _, v in kept), what, threshold) if kept else None


def _grid(finding: Finding) -> Grid | None:
    """A matrix under its own name, with the names of its sides beside it."""
    evidence = finding.evidence
    for key in ("matrix", "grid", "correlations", "patterns"):
        table = evidence.get(key)
        if not (isinstance(table, list) and table and all(isinstance(r, list) and len(r) == len(table[0]) > 0 for r in table)):
            continue
        if not all(_number(v) or v is None for r in table for v in r):
            continue
        sides = [v for k, v in evidence.items() if k != key and isinstance(v, list) and all(isinstance(one, (str, int)) for one in v)]
        columns = next((v for v in sides if len(v) == len(table[0])), range(len(table[0])))
        rows = next((v for v in sides if len(v) == len(table)), range(len(table)))
        values = tuple(tuple(None if v is None else float(v) for v in r) for r in table)
        return Grid(tuple(map(str, rows)), tuple(map(str, columns)), values, str(evidence.get("figure", key)))
    return None


def _classes(finding: Finding) -> Bars | None:
    """Items per class, against the size below which a class counts as rare."""
    sizes = finding.evidence.get("classes")
    if not isinstance(sizes, Mapping) or not sizes or not all(map(_number, sizes.values())):
        return None
    whole = finding.evidence.get("number of classes", len(sizes)) == len(sizes)
    held = finding.threshold * sum(sizes.values()) / len(sizes) if finding.threshold is not None and whole else None
    return _bars(list(sizes.items()), "items", held)


def _groups(finding: Finding) -> Bars | None:
    """Items in each group of equal ones, named after its first."""
    groups = finding.evidence.get("groups")
    if not isinstance(groups, list) or not groups:
        return None
    members = [g.get("rows") if isinstance(g, Mapping) else g for g in groups]
    return _bars([(f"item {m[0]}", len(m)) for m in members if isinstance(m, list) and m], "equal items")


def _pairs(finding: Finding) -> Bars | None:
    """The likeness of two items or rows, most alike first."""
    pairs = finding.evidence.get("pairs")
    if not isinstance(pairs, list) or not pairs or not all(isinstance(p, Mapping) for p in pairs):
        return None
    named = []
    for pair in pairs:
        ends = pair["rows"] if isinstance(pair.get("rows"), list) else [v for k, v in pair.items() if str(k) in PLACES and "row" in str(k)]
        if len(ends) != 2:
            return None
        named.append((" ~ ".join(map(str, ends)), pair.get("likeness", pair.get("steps in common", 1.0))))
    return _bars(named, "steps in common" if "steps in common" in pairs[0] else "likeness")


def _limits(finding: Finding) -> Bars | None:
    """How far the furthest value of a column lies from its median, in distances from the median to the plausible limit."""
    far = []
    for name, entry in finding.evidence.items():
        if not isinstance(entry, Mapping) or "plausible from" not in entry or not _number(entry.get("median")):
            return None
        reach = []
        for value in (v for v in entry.get("found", (entry.get("shortest"), entry.get("longest"))) if _number(v)):
            limit = entry["to"] if value > entry["median"] else entry["plausible from"]
            if _number(limit) and limit != entry["median"]:
                reach.append((value - entry["median"]) / (limit - entry["median"]))
        far.append((name, max(reach, default=None)))
    return _bars(far, "times as far from the median as the limit", 1.0)


def _listed(finding: Finding) -> Bars | None:
    """A list of entries, each a name and its figures: columns that drift, weak segments, groups."""
    for key, entries in finding.evidence.items():
        if isinstance(entries, list) and entries and all(isinstance(e, Mapping) for e in entries):
            figure = next((f for f in FIGURES if all(_number(e.get(f)) for e in entries)), None)
            figure = figure or next((f for f in entries[0] if f not in PLACES and all(_number(e.get(f)) for e in entries)), None)
            if figure is None:
                continue
            kept = sorted(entries, key=lambda e: -abs(e[figure]))[:SHOWN]
            intervals = tuple(_interval(e) for e in kept)
            held = _held(finding, (e[figure] for e in entries))
            return Bars(
                tuple(_name(e, key) for e in kept),
                tuple(float(e[figure]) for e in kept),
                figure,
                held,
                intervals if any(intervals) else (),
            )
    return None


def _name(entry: Mapping[str, Any], otherwise: str) -> str:
    key = next((k for k in NAMES if k in entry), None)
    if key is None:
        where = ", ".join(f"{k} {entry[k]}" for k in ("row", "channel", "step") if k in entry)
        return where or next((v for v in entry.values() if isinstance(v, str)), otherwise)
    kind = f" ({entry['test']})" if key == "column" and "missing" in str(entry.get("test", "")) else ""
    other = f" ~ {entry['other']}" if isinstance(entry.get("other"), str) else ""
    return f"{entry[key]}{other}{kind}"


def _interval(entry: Mapping[str, Any]) -> tuple[float, float] | None:
    ends: Any = entry.get("interval") or (entry.get("low"), entry.get("high"))
    return (float(ends[0]), float(ends[1])) if len(ends) == 2 and all(map(_number, ends)) else None


def _nested(finding: Finding) -> Bars | None:
    """Figures under names, one level down or two: ``{"age": {"share": 0.2}}``, ``{"sex": {"f": 20}}``, ``{"power": {"age": 0.9}}``."""
    evidence = finding.evidence
    power = evidence.get("power")
    if isinstance(power, Mapping) and power:
        held = _held(finding, power.values())
        return _bars(list(power.items()), str(evidence.get("figure", "power")), held)
    inner = {k: v for k, v in evidence.items() if isinstance(v, Mapping) and v}
    if not inner:
        return None
    figure = next((f for f in FIGURES if all(_number(v.get(f)) for v in inner.values())), None)
    if figure is not None:
        held = _held(finding, (v[figure] for v in inner.values()))
        return _bars([(k, v[figure]) for k, v in inner.items()], figure, held)
    pairs = [(name, value) for k, v in inner.items() for name, value in _leaves(str(k), v)]
    counts = [pair for pair in pairs if isinstance(pair[1], int)]  # counts beside shares: only one of them goes on one axis
    return _bars(counts or pairs, "rows" if counts else "figure", _held(finding, (value for _, value in counts or pairs)))


def _leaves(name: str, value: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The numbers in a mapping, each under the first and the last of the names that lead to it."""
    found: list[tuple[str, Any]] = []
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            found += _leaves(name, inner)
        elif _number(inner):
            found.append((f"{name} = {key}", inner))
    return found


def _run(finding: Finding) -> Bars | None:
    """A list of figures, the largest first, against the limit beside it."""
    for key, values in finding.evidence.items():
        if isinstance(values, list) and len(values) > 1 and all(_number(v) and not isinstance(v, int) for v in values):
            limit = finding.evidence.get("limit")
            return _bars([(f"{k + 1}", v) for k, v in enumerate(values)], key, limit if _number(limit) else None, ordered=True)
    return None


def _flat(finding: Finding) -> Bars | None:
    """Counts side by side, or lists whose length is the figure: spellings of one value."""
    evidence = finding.evidence
    if evidence and all(_number(v) and isinstance(v, int) for v in evidence.values()) and not {"shortest", "longest"} & set(evidence):
        return _bars(list(evidence.items()), "count")
    lists = {k: v for k, v in evidence.items() if isinstance(v, list) and v and all(isinstance(one, list) for one in v)}
    return _bars([(" = ".join(map(str, one)), len(one)) for v in lists.values() for one in v], "ways of writing it") if lists else None


def _single(finding: Finding) -> Bars | None:
    """The finding's own value against its threshold."""
    if not _number(finding.value):
        return None
    interval = finding.interval if finding.interval and all(map(_number, finding.interval)) else None
    value = float(finding.value)  # type: ignore[arg-type]
    return Bars((finding.check,), (value,), "value", finding.threshold, (interval,) if interval else ())


_READERS: tuple[Callable[[Finding], Chart | None], ...] = (
    _grid, _classes, _groups, _pairs, _limits, _listed, _run, _nested, _flat, _single,
)  # fmt: skip
