"""Rules for a table: inferred from good data, saved, edited by a person, and held against other data through pandera."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from explainer.checks.columns import CODE_LEVELS, Column
from explainer.checks.context import EVIDENCE_SHOWN, Check, Context, NotRun, count, failed, listed, passed
from explainer.checks.finding import Finding
from explainer.checks.frame import TableView
from explainer.errors import InvalidInput, unknown

KINDS = ("number", "category", "text", "date")
VALUES_MOST = 50  # more kinds than this are not listed
VALUE_LEAST = 10  # a list of kinds is taken to be complete where each has at least so many rows
ROWS_LEAST = 30  # with fewer good rows, nothing is inferred but the type
TAIL, TAIL_LEAST = 0.05, 10  # share, and least number, of values that tell how heavy a tail is
BEYOND = 100.0  # sets of which one has a value beyond the end of its tail
DAY = 86_400e6  # microseconds, in which dates are kept
REACH = 2.0  # a range reaches so many times as far from the median as the extreme seen
COMPLETE = 1_000  # rows without one missing, or broken: the share of such is then below 0.3 %, with 95 % confidence
NUMBERED = re.compile(r"(^|[\W_])(id|key|uuid|guid|nr|no|number|code)$", re.I)
COMPARE = re.compile(r"\s*(.+?)\s*(<=|>=|==|!=|<|>)\s*(.+?)\s*")


@dataclass(frozen=True)
class Rule:
    """What one column must keep to; ``low`` and ``high`` are numbers, or ISO dates for dates; None asks nothing."""

    type: str
    low: float | str | None = None
    high: float | str | None = None
    whole: bool = False
    values: tuple[str, ...] | None = None
    pattern: str | None = None  # a regular expression that the whole value matches
    missing: bool = True  # whether values may be missing
    unique: bool = False
    required: bool = True  # whether the column must be there


@dataclass(frozen=True)
class Rules:
    """Rules by column, and comparisons of two columns (or a column and a number) that every row must keep: ``"start <= end"``."""

    columns: Mapping[str, Rule]
    rows: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """JSON's own types; what a rule does not ask is left out."""
        plain = {f.name: f.default for f in fields(Rule)}
        columns = {n: {k: v for k, v in asdict(r).items() if k == "type" or v != plain[k]} for n, r in self.columns.items()}
        return {"columns": json.loads(json.dumps(columns)), "rows": list(self.rows)}

    def save(self, path: str | Path) -> None:
        """Write them as JSON, or as YAML where the name ends so. Raises InvalidInput for another ending."""
        Path(path).write_text(_write(self.to_dict(), Path(path)), encoding="utf-8")

    def to_pandera(self) -> Any:
        """The same as a ``pandera.DataFrameSchema``."""
        import pandera.pandas as pa

        columns = {}
        for name, rule in self.columns.items():
            columns[name] = pa.Column(
                {"number": float, "category": object, "text": object}.get(rule.type),
                _checks(pa, rule),
                nullable=rule.missing,
                unique=rule.unique,
                required=rule.required,
            )
        return pa.DataFrameSchema(columns, checks=[_comparison(pa, text, self.columns) for text in self.rows])


def _checks(pa: Any, rule: Rule) -> list[Any]:
    checks = []
    low, high = (pd.Timestamp(v).as_unit("us") if rule.type == "date" and v is not None else v for v in (rule.low, rule.high))
    if low is not None:
        checks.append(pa.Check.ge(low))
    if high is not None:
        checks.append(pa.Check.le(high))
    if rule.whole:
        checks.append(pa.Check(lambda s: s == s.round(), name="whole"))
    if rule.values is not None:
        checks.append(pa.Check.isin(list(rule.values)))
    if rule.pattern is not None:
        form = re.compile(rule.pattern)
        checks.append(pa.Check(lambda s: s.map(lambda v: bool(form.fullmatch(str(v)))), name=f"pattern {rule.pattern}"))
    return checks


def _comparison(pa: Any, text: str, columns: Mapping[str, Rule]) -> Any:
    import operator

    left, sign, right = _read_comparison(text, columns)
    compare = {"<=": operator.le, ">=": operator.ge, "==": operator.eq, "!=": operator.ne, "<": operator.lt, ">": operator.gt}[sign]

    def holds(frame: pd.DataFrame) -> pd.Series:
        one, two = (frame[side] if isinstance(side, str) else side for side in (left, right))
        lost = frame[[s for s in (left, right) if isinstance(s, str)]].isna().any(axis=1)
        return compare(one, two) | lost

    return pa.Check(holds, name=text)


def _read_comparison(text: str, columns: Mapping[str, Rule]) -> tuple[str, str, str | float]:
    match = COMPARE.fullmatch(text)
    if match is None:
        raise InvalidInput(f"The rule {text!r} is no comparison; write it as 'start <= end' or 'age >= 18'.")
    left, sign, right = match.groups()
    if left not in columns:
        raise unknown("column in a rule", left, list(columns))
    if right in columns:
        return left, sign, right
    try:
        return left, sign, float(right)
    except ValueError:
        raise unknown("column in a rule", right, list(columns)) from None


def infer_rules(data: Any) -> Rules:
    """Rules that ``data``, taken to be good, keep to, with room for more rows of their kind.

    Ranges reach ``REACH`` times as far from the median as the extreme values, and further in a heavy tail, but not below zero where
    nothing is; to a side of the median with but a few values they have no end. Kinds are listed where each has at least
    ``VALUE_LEAST`` rows. Values must be there, and whole, where all of ``COMPLETE`` rows or more are (codes of a few values, none of
    them rare, are whole in fewer rows), and differ where they are all different under the name of an identifier.
    ``data``: whatever :func:`explainer.check` takes as a table. Raises InvalidInput for other data.
    """
    from explainer.checks.read import read

    return rules_for(TableView(read(data, modality="tabular").inputs))


def rules_for(view: TableView) -> Rules:
    """The same for a table already read."""
    return Rules({c.name: _rule(view, i, c) for i, c in enumerate(view.columns) if c.kind != "empty"})


def _rule(view: TableView, place: int, column: Column) -> Rule:
    known = ~column.missing
    missing = bool(column.missing.any()) or view.n < COMPLETE
    unique = bool(view.identifier(column)) and column.distinct == known.sum() and bool(NUMBERED.search(column.name))
    if known.sum() < ROWS_LEAST or column.kind == "text":
        return Rule(column.kind, missing=missing, unique=unique)
    if column.kind == "category":
        sizes = np.bincount(column.codes[column.codes >= 0], minlength=len(column.levels))
        closed = not unique and len(sizes) <= VALUES_MOST and sizes.min() >= VALUE_LEAST
        return Rule("category", values=tuple(sorted(map(_whole, column.levels))) if closed else None, missing=missing, unique=unique)
    if column.kind == "date":
        stamps = None if column.numbers is None else column.numbers[known] // DAY
        if stamps is None or not pd.api.types.is_datetime64_any_dtype(view.frame.iloc[:, place].dtype):
            return Rule("date", missing=missing)
        span = stamps.max() - stamps.min()
        return Rule("date", _date(stamps.min() - span), _date(stamps.max() + span), missing=missing)
    assert column.numbers is not None
    numbers = column.numbers[known & np.isfinite(column.numbers)]
    if not len(numbers):
        return Rule("number", missing=missing)
    sure = len(numbers) >= COMPLETE or (column.distinct <= CODE_LEVELS and column.sizes.min() >= VALUE_LEAST)
    whole = bool(sure and (numbers == np.round(numbers)).all())
    low, high = (None, None) if unique else _range(numbers)
    return Rule("number", low, high, whole=whole, missing=missing, unique=unique)


def _date(day: float) -> str | None:
    """ISO date of so many days after 1970-01-01; None where the calendar has no such year."""
    date = np.datetime64(int(day), "D")
    return str(date) if np.datetime64("0001-01-01") <= date <= np.datetime64("9999-12-31") else None


def _range(numbers: np.ndarray) -> tuple[float | None, float | None]:
    """The range of more such numbers: never below zero where none of these is."""
    middle = float(np.median(numbers))
    below, above = _end(middle - numbers), _end(numbers - middle)
    low = None if below is None else float(f"{middle - below:.6g}")
    if numbers.min() >= 0:
        low = max(low or 0.0, 0.0)
    return low, None if above is None else float(f"{middle + above:.6g}")


def _end(distances: np.ndarray) -> float | None:
    """How far from the median others may lie on that side on which these distances are positive; None where that cannot be told.

    ``REACH`` times as far as the furthest of these, and in a heavy tail as far as one in ``BEYOND`` sets of this size has a value:
    d_k (k BEYOND)^xi, d_k the kth furthest and xi the mean of log(d_i / d_k) over the k furthest (Hill, Annals of Statistics 3,
    1975; Weissman, Journal of the American Statistical Association 73, 1978).
    """
    side = np.sort(distances[distances > 0])[::-1]
    if not len(side):
        return 0.0
    if len(side) < ROWS_LEAST:  # the furthest of a few says little of the next, unless they are all one
        return REACH * float(side[0]) if side[0] == side[-1] else None
    k = max(TAIL_LEAST, int(TAIL * len(distances)))
    last = side[:k][-1]
    with np.errstate(over="ignore"):
        end = float(max(REACH * side[0], last * (len(side[:k]) * BEYOND) ** np.log(side[:k] / last).mean()))
    return end if np.isfinite(end) else None


def rules_of(given: Any) -> Rules | None:
    """Rules given as such, as a dict, or as the path of a JSON or YAML file.

    Raises InvalidInput where they cannot be read, UnknownName for a property that no rule has.
    """
    if given is None or isinstance(given, Rules):
        return given
    if isinstance(given, (str, Path)):
        given = _load(Path(given))
    if not isinstance(given, Mapping) or not isinstance(given.get("columns"), Mapping):
        raise InvalidInput(
            f"Rules of type {type(given).__name__} came; pass infer_rules(data), the path of its file, or {{'columns': {{...}}}}."
        )
    known = [f.name for f in fields(Rule)]
    columns = {}
    for name, rule in given["columns"].items():
        for key in rule:
            if key not in known:
                raise unknown(f"rule for {name!r}", key, known)
        if rule.get("type") not in KINDS:
            raise unknown(f"type of {name!r}", str(rule.get("type")), list(KINDS))
        values = rule.get("values")
        columns[str(name)] = Rule(**{**rule, "values": None if values is None else tuple(map(str, values))})
    rules = Rules(columns, tuple(given.get("rows") or ()))
    for text in rules.rows:
        _read_comparison(text, columns)
    return rules


def _yaml() -> Any:
    try:
        import yaml
    except ImportError:
        raise InvalidInput("YAML needs pyyaml; install it, or save the rules as .json.") from None
    return yaml


def _write(document: dict[str, Any], path: Path) -> str:
    if path.suffix in (".yaml", ".yml"):
        return str(_yaml().safe_dump(document, sort_keys=False, allow_unicode=True))
    if path.suffix == ".json":
        return json.dumps(document, ensure_ascii=False, indent=2)
    raise InvalidInput(f"Rules are saved as .json or .yaml, not as {path.suffix or 'a file without an ending'!r}.")


def _load(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
        return _yaml().safe_load(text) if path.suffix in (".yaml", ".yml") else json.loads(text)
    except OSError as error:
        raise InvalidInput(f"The rules {str(path)!r} cannot be read: {error.strerror}.") from None
    except Exception as error:
        raise InvalidInput(f"The rules {str(path)!r} are no valid {path.suffix or 'JSON'}: {str(error)[:200]}") from None


def rules_kept(context: Context) -> Finding:
    """Whether the table keeps to the rules given, or to those inferred from the reference set."""
    view = context.view
    assert isinstance(view, TableView)
    rules, source = context.rules, "given"
    if rules is None:
        if not isinstance(context.reference, TableView):
            raise NotRun("Neither rules nor a reference set were given; rules can be inferred from data that are known to be good.")
        rules, source = rules_for(context.reference), "inferred from the reference set"
    if not rules.columns and not rules.rows:
        raise NotRun(f"No rules were {source}; there is nothing to keep to.")
    broken = violations(view, rules)
    details: dict[str, Any] = {"value": len(broken), "threshold": 0}
    if not broken:
        return passed(f"All {view.n:,} rows keep to the {count(len(rules.columns) + len(rules.rows), 'rule')} {source}.", **details)
    rows = np.unique(np.concatenate([r for r in broken.values()])) if broken else np.zeros(0, dtype=int)
    names = {(column, rule): f"{column!r} {rule}" if column else rule for column, rule in broken}
    shown = listed(f"{names[k]} ({count(len(r), 'row')})" if len(r) else names[k] for k, r in broken.items())
    message = f"{count(len(broken), 'rule')} {source} broken: {shown}."
    evidence = {names[k]: {"rows": len(r), "first": view.at(r)[:10]} for k, r in list(broken.items())[:EVIDENCE_SHOWN]}
    columns = list(dict.fromkeys(c for c, _ in broken if c))
    return failed(message, rows=view.at(rows), count=max(len(rows), 1), columns=columns, evidence=evidence, **details)


def violations(view: TableView, rules: Rules) -> dict[tuple[str, str], np.ndarray]:
    """(column, rule) -> rows that break it, by pandera's lazy validation; no rows where a whole column breaks it.

    Column by column, then the comparisons with the columns they name: a large table need not fit twice.
    """
    found: dict[tuple[str, str], np.ndarray] = {}
    for name, rule in rules.columns.items():
        cases = _cases(view, Rules({name: rule}))
        if "column_in_dataframe" in cases:
            found[name, "is not there"] = np.zeros(0, dtype=int)
            continue
        mistyped = [check for check in cases if check.startswith("dtype")]
        for check in mistyped or cases:  # numbers cannot be compared with words
            said = _said(check, rule)
            found[name, said] = np.union1d(found.get((name, said), np.zeros(0, dtype=int)), cases[check])
    for text in rules.rows:
        left, _, right = _read_comparison(text, rules.columns)
        sides = [side for side in (left, right) if isinstance(side, str)]
        if any((side, "is not there") in found for side in sides):
            continue
        cases = _cases(view, Rules({side: Rule(rules.columns[side].type) for side in sides}, (text,)))
        if text in cases and not any(check.startswith("dtype") for check in cases):
            found["", text] = cases[text]
    return found


def _cases(view: TableView, rules: Rules) -> dict[str, np.ndarray]:
    """Rows by the check of pandera that they fail."""
    from pandera.errors import SchemaErrors

    try:
        rules.to_pandera().validate(_frame(view, rules), lazy=True)
    except SchemaErrors as errors:
        cases = errors.failure_cases
        names = cases["check"].astype(str)
        return {name: cases["index"][names == name].dropna().astype(int).unique() for name in names.unique()}
    return {}


def _said(check: str, rule: Rule) -> str:
    if check.startswith("dtype"):
        return f"is no {rule.type}"
    if check.startswith("greater_than"):
        return f"below {rule.low}"
    if check.startswith("less_than"):
        return f"above {rule.high}"
    return {"not_nullable": "missing", "field_uniqueness": "not unique", "whole": "not a whole number"}.get(
        check, "of none of the values listed" if check.startswith("isin") else f"not of the {check}"
    )


def _whole(text: str) -> str:
    """Without the halves of signs that a damaged encoding leaves, which no file of rules can hold."""
    return text.encode("utf-8", "replace").decode()


def _frame(view: TableView, rules: Rules) -> pd.DataFrame:
    """The columns named in the rules as plain floats, texts and dates, numbered from 0."""
    data: dict[str, Any] = {}
    for i, column in enumerate(view.columns):
        if column.name not in rules.columns or column.name in data:
            continue
        if column.kind == "empty":
            data[column.name] = (
                np.full(view.n, np.nan) if rules.columns[column.name].type == "number" else np.full(view.n, None, dtype=object)
            )
        elif column.kind == "date":
            values = view.frame.iloc[:, i].reset_index(drop=True)
            values = values.dt.tz_localize(None) if getattr(getattr(values, "dt", None), "tz", None) is not None else values
            dated = pd.api.types.is_datetime64_any_dtype(values.dtype)
            data[column.name] = values.astype("datetime64[us]") if dated else values  # the unit that holds every date of a rule
        elif column.numbers is not None:
            data[column.name] = column.numbers
        else:
            texts = np.array([*map(_whole, column.levels), None], dtype=object)[column.codes]
            data[column.name] = pd.Series(texts).astype(object)  # a column of nothing but texts would become one of pandas' own
    return pd.DataFrame(data, index=range(view.n))


CHECKS: tuple[Check, ...] = (
    Check(
        "rules",
        ("tabular",),
        rules_kept,
        "What no good row has is an error, or something the model never saw.",
        "Correct these values at their source; if they are right, widen the rule.",
        "from explainer.checks.rules import infer_rules\n\n"
        'infer_rules(good_data).save("rules.yaml")  # edit it, then: explainer.check(data, rules="rules.yaml")',
    ),
)
