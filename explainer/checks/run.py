"""``check``: every check that exists for a kind of data, each ending pass, fail, not run (why) or error; none vanishes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from explainer.checks import documents, frame, pictures, recordings
from explainer.checks.catalogue import checks
from explainer.checks.context import Check, Context, NotRun, count, plural
from explainer.checks.finding import STOPPED, Finding, Findings
from explainer.checks.frame import frame_of
from explainer.checks.labels import labels_of
from explainer.checks.parts import SHARE, Parts, free_memory, in_parts
from explainer.checks.read import Data, read
from explainer.checks.rules import rules_of
from explainer.checks.spool import Spool
from explainer.checks.view import Reading, View
from explainer.checks.workers import ticking
from explainer.errors import Cancelled, ExplainerError, InvalidInput, UnknownName, unknown
from explainer.progress import Report, reporter


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
    memory: float | None = None,
    progress: bool | Report = False,
) -> Findings:
    """Check data before a model is trained, tested or explained on them.

    Parameters
    ----------
    data : a DataFrame (pandas, polars), ``(n, columns)``, images ``(n, H, W[, C])`` or a list of pictures, a list of texts, a
        list of ``(T, channels)`` series, a torch dataset; an iterator of the parts of a table; or a path to csv, parquet, jsonl, npz,
        npy, a folder of images or of the parts of a table.
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
    memory : bytes that may be used for a table on disk; half of what is free unless told. One that needs more is read in parts: the
        checks that look at one column at a time judge all of it, the others a sample, and say so.
    progress : True for a bar, or a function called with (done, total), which may raise Cancelled to stop.

    Returns the findings, worst first. Nothing in the data makes it raise. Stopped by Ctrl-C or Cancelled, it returns what was found
    so far, and each check not reached as "not run". Raises InvalidInput where the request itself is not
    clear: a modality that cannot be told, labels of another length, no such file.
    """
    modality = modality or (model.modality if model is not None else None)
    with reporter(progress, "Checking data") as report:
        parts = in_parts(data, memory) if modality in (None, "tabular") else None
        found = read(data, labels, modality=modality) if parts is None else kept(parts, labels, memory)
        reading = view_of(found)
        labels_read = labels_of(found.labels, reading, "labels")
        there = there_labels = there_groups = there_time = None
        unreadable, attempted = reading.unreadable, reading.attempted
        if reference is not None:
            other = reference_of(reference, reference_labels, found)
            other_reading = view_of(other)
            if other_reading.unreadable:
                unreadable += tuple((f"reference set: {name}", reason) for name, reason in other_reading.unreadable)
                attempted += other_reading.attempted
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
            unreadable,
            attempted,
            reading.lost,
            tuple(words),
            there_groups,
            there_time,
            rules_of(rules),
            "" if parts is None else parts.why,
            found.notes.get("order", ""),
        )
        return run(context, found, report, only)


def reference_of(reference: Any, labels: Any, found: Data) -> Data:
    """The reference set, with the labels given, or those under the name that the data's labels have, where it has them."""
    if labels is not None or found.label_name is None:
        return read(reference, labels, modality=found.modality)
    if isinstance(reference, (str, Path)):
        with suppress(UnknownName):
            return read(reference, found.label_name, modality=found.modality)
        return read(reference, modality=found.modality)
    named = _has(reference, found.label_name)
    return read(reference, found.label_name if named else None, modality=found.modality)


def kept(parts: Parts, labels: Any, memory: float | None) -> Data:
    """A table that comes in parts, on disk; ``labels`` may name one of its columns."""
    spool = Spool(SHARE * free_memory() if memory is None else memory)
    for part in parts:
        spool.add(part)
    name = labels if isinstance(labels, str) else None
    if name is not None:
        if name not in spool.columns:
            raise unknown("label column", name, spool.columns)
        labels = frame_of([spool.take_out(name)], spool.n).iloc[:, 0]
    view = spool.view()
    return Data(view.frame, labels, "tabular", (), tuple(parts.unreadable), None, name, parts.source, {"view": view}, tuple(parts.damaged))


def run(context: Context, found: Data, progress: bool | Report = False, only: Sequence[str] | None = None) -> Findings:
    """Run the checks of the modality on a context. Raises UnknownName for a name in ``only`` that is no check.

    Stopped by Ctrl-C, or by a progress callable that raises Cancelled, it gives what was found so far; each check that was not
    reached is "not run" and says so.
    """
    todo = checks(context.view.modality)
    if only is not None:
        for name in only:
            if name not in {c.name for c in todo}:
                raise unknown(f"check of {context.view.modality} data", name, [c.name for c in todo])
        todo = tuple(c for c in todo if c.name in only)
    else:
        todo = tuple(c for c in todo if not c.asked)
    findings: list[Finding] = []
    samples: dict[int, Context] = {}
    with reporter(progress, "Checking data") as report, _one_thread_each():
        try:
            with ticking(lambda: report(len(findings), len(todo))):
                report(0, len(todo))
                for one in todo:
                    findings.append(_with_files(_run_one(one, context, samples), found))
                    report(len(findings), len(todo))
        except (KeyboardInterrupt, Cancelled):
            findings += [Finding(c.name, "not run", STOPPED, why=c.why) for c in todo[len(findings) :]]
    return Findings(tuple(findings), context.view.modality, context.view.n)


def _one_thread_each() -> Any:
    """BLAS on one thread: the checks spread their own work, and its threads would wait for each other."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, user_api="blas")


def _run_one(one: Check, context: Context, samples: dict[int, Context]) -> Finding:
    """How one check ended; ``samples`` holds the samples drawn so far, by their size."""
    import warnings

    try:
        if not one.alone and context.view.n == 0:
            raise NotRun(f"There are no {plural(context.view.noun)}.")
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            most = min(filter(None, (one.most, 0 if one.streams else context.view.held)), default=0)
            if most not in samples:
                samples[most] = context.sample(most)
            shown = samples[most]
            finding = one.function(shown)
            if shown.view.unread and not one.alone:
                finding = replace(finding, message=f"{finding.message} {shown.view.unread}")
            if shown is not context:
                told = f"Judged on a sample of {shown.view.n:,} of {count(context.view.n, context.view.noun)}."
                finding = replace(finding, message=f"{finding.message} {told}")
    except Cancelled:
        raise
    except NotRun as reason:
        finding = Finding(one.name, "not run", f"Not run: {reason}")
    except ExplainerError as error:
        finding = Finding(one.name, "error", f"The check itself failed: {error}", evidence={"exception": type(error).__name__})
    except Exception as error:  # a check that breaks is a finding, never a crash or a silence
        finding = Finding(one.name, "error", f"The check itself failed with {type(error).__name__}: {str(error)[:300]}",
                          evidence={"exception": type(error).__name__})  # fmt: skip
    advice = finding.advice or (one.advice if finding.state == "fail" else "")
    code = finding.code or (one.code if finding.state == "fail" else "").format(
        check=one.name, columns=list(finding.columns), rows=list(finding.rows)
    )
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
        view: View = found.notes.get("view") or frame.TableView(inputs, found.positions)
        return Reading(view, (*bad, *found.damaged), _gaps(found, view.n + len(bad)), view.n + len(bad), np.arange(view.n), view.n)
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
    rows = sorted({*rows, *_gaps(found, len(found.files) or view.n + len(bad))})
    return Reading(view, (*bad, *found.damaged), tuple(rows), view.n + len(bad), np.asarray(kept, dtype=int), len(outer))


def _gaps(found: Data, met: int) -> tuple[int, ...]:
    """The places, of all items met, of those that could not be read, where places are known."""
    return () if found.positions is None else tuple(sorted(set(range(met)) - set(np.asarray(found.positions).tolist())))


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
        stamps = dates.dt.tz_localize(None).to_numpy().astype("datetime64[us]").astype("int64")
        numbers = pd.Series(np.where(dates.notna(), stamps / 1e6, np.nan))
    if not numbers.notna().any():
        raise InvalidInput(f"time holds neither numbers nor dates (the first is {items[0]!r}); pass datetimes, ISO dates or numbers.")
    return numbers.to_numpy()
