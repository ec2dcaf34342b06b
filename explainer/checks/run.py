"""``check``: every check that exists for a kind of data, each ending pass, fail, not run (why) or error; none vanishes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from explainer.checks import documents, frame, pictures, recordings
from explainer.checks.catalogue import checks
from explainer.checks.context import Check, Context, NotRun, plural
from explainer.checks.finding import Finding, Findings
from explainer.checks.labels import labels_of
from explainer.checks.read import Data, read
from explainer.checks.rules import rules_of
from explainer.checks.view import Reading, View
from explainer.errors import ExplainerError, InvalidInput, unknown


def check(
    data: Any,
    labels: Any = None,
    *,
    modality: str | None = None,
    reference: Any = None,
    reference_labels: Any = None,
    model: Any = None,
    groups: Any = None,
    splits: Any = None,
    time: Any = None,
    words: Sequence[str] = (),
    rules: Any = None,
    only: Sequence[str] | None = None,
    progress: bool | Callable[[int, int], Any] = False,
) -> Findings:
    """Check data before a model is trained, tested or explained on them.

    Parameters
    ----------
    data : a DataFrame (pandas, polars), ``(n, columns)``, images ``(n, H, W[, C])`` or a list of pictures, a list of texts, a
        list of ``(T, channels)`` series; or a path to csv, parquet, jsonl, npz or a folder of images.
    labels : one per item, or the name of the column that holds them.
    modality : "tabular", "image", "text" or "series", where it cannot be told.
    reference, reference_labels : the set to hold the data against (the training set, for a test set).
    model : a :class:`explainer.Model` the data are meant for.
    groups : a DataFrame or dict of columns (``(n,)`` each) whose groups should be large enough to measure; or column names.
    splits : the name of each item's split (``"train"``, ``"test"``), or the column that holds it: what two splits share is found.
    time : when each item was recorded (dates or numbers), or the column that holds it.
    words : the list of words that "toxic words" looks for in texts, in place of its own short one.
    rules : what a table's values must keep to: :func:`explainer.checks.rules.infer_rules` of good data, or the path of its file.
    only : names of the checks wanted, where not all are.
    progress : True for a bar, or a function called with (done, total), which may raise to stop.

    Returns the findings, worst first. Nothing in the data makes it raise. Raises InvalidInput where the request itself is not
    clear: a modality that cannot be told, labels of another length, no such file.
    """
    modality = modality or (model.modality if model is not None else None)
    found = read(data, labels, modality=modality)
    reading = view_of(found)
    labels_read = labels_of(found.labels, reading, "labels")
    there = there_labels = there_groups = there_time = None
    if reference is not None:
        if found.label_name is not None and reference_labels is None and _has_column(reference, found.label_name):
            reference_labels = found.label_name
        other = read(reference, reference_labels, modality=found.modality)
        other_reading = view_of(other)
        there = other_reading.view
        there_labels = labels_of(other.labels, other_reading, "reference_labels")
        if isinstance(time, str) and _has(other.inputs, time):
            there_time = _times(time, other, other_reading)
        names = [groups] if isinstance(groups, str) else groups if isinstance(groups, (list, tuple)) else []
        if names and all(isinstance(n, str) and _has(other.inputs, n) for n in names):
            there_groups = _groups(names, other, other_reading)
    elif reference_labels is not None:
        raise InvalidInput("reference_labels came without a reference set; pass reference=... as well.")
    context = Context(
        reading.view,
        labels_read,
        there,
        there_labels,
        _groups(groups, found, reading),
        _beside(splits, found, reading, "splits"),
        _times(time, found, reading),
        model,
        reading.unreadable,
        reading.attempted,
        reading.lost,
        tuple(words),
        there_groups,
        there_time,
        rules_of(rules),
    )
    return run(context, found, progress, only)


def run(context: Context, found: Data, progress: bool | Callable[[int, int], Any] = False, only: Sequence[str] | None = None) -> Findings:
    """Run the checks of the modality on a context. Raises UnknownName for a name in ``only`` that is no check."""
    todo = checks(context.view.modality)
    if only is not None:
        for name in only:
            if name not in {c.name for c in todo}:
                raise unknown(f"check of {context.view.modality} data", name, [c.name for c in todo])
        todo = tuple(c for c in todo if c.name in only)
    else:
        todo = tuple(c for c in todo if not c.asked)
    findings: list[Finding] = []
    with _Reporter(progress, len(todo)) as report:
        for one in todo:
            findings.append(_with_files(_run_one(one, context), found))
            report(len(findings))
    return Findings(tuple(findings), context.view.modality, context.view.n)


def _run_one(one: Check, context: Context) -> Finding:
    import warnings

    try:
        if not one.alone and context.view.n == 0:
            raise NotRun(f"There are no {plural(context.view.noun)}.")
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            finding = one.function(context)
    except NotRun as reason:
        finding = Finding(one.name, "not run", f"Not run: {reason}")
    except ExplainerError as error:
        finding = Finding(one.name, "error", f"The check itself failed: {error}", evidence={"exception": type(error).__name__})
    except Exception as error:  # a check that breaks is a finding, never a crash or a silence
        finding = Finding(one.name, "error", f"The check itself failed with {type(error).__name__}: {str(error)[:300]}",
                          evidence={"exception": type(error).__name__})  # fmt: skip
    advice = finding.advice or (one.advice if finding.state == "fail" else "")
    code = finding.code or (one.code.format(columns=list(finding.columns), rows=list(finding.rows)) if finding.state == "fail" else "")
    return replace(finding, check=one.name, why=finding.why or one.why, advice=advice, code=code)


def _with_files(finding: Finding, found: Data) -> Finding:
    """The names of the flagged files, where items are files."""
    if not found.files or not finding.rows:
        return finding
    return replace(finding, files=tuple(found.files[r] for r in finding.rows if r < len(found.files)))


def view_of(found: Data) -> Reading:
    """The data as the checks see them, with what could not be read."""
    inputs, bad = found.inputs, list(found.unreadable)
    if found.modality == "tabular":
        view: View = frame.TableView(inputs, found.positions)
        return Reading(view, (*bad, *found.damaged), (), view.n + len(bad), np.arange(view.n), view.n)
    inputs = [inputs] if isinstance(inputs, str) else inputs if hasattr(inputs, "__len__") else _items(inputs)
    if found.modality == "series" and isinstance(inputs, np.ndarray) and inputs.ndim == 2 and inputs.dtype != object:
        raise InvalidInput(
            f"An array of shape {inputs.shape} could be one series or {len(inputs)} series of one channel; pass [data] for the one, "
            "data[:, :, None] for the other."
        )
    if hasattr(inputs, "columns"):
        raise InvalidInput(f"A table came where {found.modality} data are asked for; pass the one column that holds them, as a list.")
    outer = np.arange(len(inputs)) if found.positions is None else np.asarray(found.positions)
    missed: list[tuple[int, str]]
    if found.modality == "image":
        read_, missed = pictures.pictures(inputs)
        lost = {i for i, _ in missed}
        kept = [i for i in range(len(read_) + len(missed)) if i not in lost]
        outer = outer if len(outer) == len(read_) + len(missed) else np.arange(len(read_) + len(missed))
        origins = found.notes.get("origins") or pictures.origins_of(inputs)
        view = pictures.ImageView(read_, outer[kept], [origins[i] for i in kept] if origins else ())
    elif found.modality == "text":
        texts, kept, missed = documents.texts_of(inputs)
        view = documents.TextView(texts, outer[kept])
    else:
        series, kept, missed = recordings.series_of(inputs)
        view = recordings.SeriesView(series, outer[kept])
    bad += [(f"{view.noun} {outer[i] if i < len(outer) else i}", reason) for i, reason in missed]
    rows = [int(outer[i]) for i, _ in missed if i < len(outer)]
    if found.files:
        rows = sorted({*rows, *(set(range(len(found.files))) - set(outer.tolist()))})
    return Reading(view, (*bad, *found.damaged), tuple(rows), view.n + len(bad), np.asarray(kept, dtype=int), len(outer))


def _has_column(reference: Any, name: str) -> bool:
    return isinstance(reference, str) or _has(reference, name)


def _has(table: Any, name: str) -> bool:
    return hasattr(table, "columns") and name in [str(c) for c in table.columns]


def _items(inputs: Any) -> list[Any]:
    try:
        return list(inputs)
    except TypeError:
        raise InvalidInput(f"Data of type {type(inputs).__name__} came; a list or an array with one entry per item is needed.") from None


def _groups(groups: Any, found: Data, reading: Reading) -> Mapping[str, np.ndarray] | None:
    if groups is None:
        return None
    import pandas as pd

    from explainer.checks.read import as_frame

    if isinstance(groups, (str, list, tuple)) and hasattr(found.inputs, "columns"):
        names = [groups] if isinstance(groups, str) else list(groups)
        if all(isinstance(n, str) for n in names):
            lost = [n for n in names if n not in [str(c) for c in found.inputs.columns]]
            if lost:
                raise unknown("group column", lost[0], found.inputs.columns)
            groups = found.inputs[names]
    groups = as_frame(groups)
    frame = groups if isinstance(groups, pd.DataFrame) else pd.DataFrame({"group": list(groups)})
    frame = frame.iloc[reading.align(len(frame), "group rows")]
    return {str(name): frame.iloc[:, i].astype(object).to_numpy() for i, name in enumerate(frame.columns)}


def _beside(values: Any, found: Data, reading: Reading, what: str) -> np.ndarray | None:
    """One value per item, given as such or as the name of a column."""
    if values is None:
        return None
    if isinstance(values, str):
        if not hasattr(found.inputs, "columns"):
            raise InvalidInput(f"{what}={values!r} names a column, but the data are not a table; pass one value per item.")
        names = [str(c) for c in found.inputs.columns]
        if values not in names:
            raise unknown(f"{what} column", values, names)
        values = found.inputs.iloc[:, names.index(values)]
    import pandas as pd

    series = pd.Series(values.to_numpy() if hasattr(values, "to_numpy") else list(values))
    return series.iloc[reading.align(len(series), what)].astype(object).to_numpy()


def _times(values: Any, found: Data, reading: Reading) -> np.ndarray | None:
    import pandas as pd

    items = _beside(values, found, reading, "time")
    if items is None:
        return None
    numbers = pd.to_numeric(pd.Series(items), errors="coerce").astype(float)
    if numbers.notna().mean() < 0.5:  # not numbers, so dates
        dates = pd.to_datetime(pd.Series(items), errors="coerce", utc=True, format="mixed")
        numbers = pd.Series(np.where(dates.notna(), dates.astype("int64") / 1e9, np.nan))
    if not numbers.notna().any():
        raise InvalidInput(f"time holds neither numbers nor dates (the first is {items[0]!r}); pass datetimes, ISO dates or numbers.")
    return numbers.to_numpy()


class _Reporter:
    """Calls a person's function, draws a bar, or does nothing."""

    def __init__(self, progress: bool | Callable[[int, int], Any], total: int) -> None:
        self.call, self.bar, self.total = progress if callable(progress) else None, None, total
        if progress is True:
            from rich.progress import Progress

            self.bar = Progress()

    def __enter__(self) -> _Reporter:
        if self.bar is not None:
            self.bar.start()
            self.task = self.bar.add_task("Checking data", total=self.total)
        self(0)
        return self

    def __call__(self, done: int) -> None:
        if self.call is not None:
            self.call(done, self.total)
        if self.bar is not None:
            self.bar.update(self.task, completed=done)

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()
