"""``check``: every check that exists for a kind of data, each ending pass, fail, not run (why) or error; none vanishes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from explainer.checks import drift, duplicates, image, labels, leakage, outliers, sequence, tabular, text
from explainer.checks.context import EVIDENCE_SHOWN, Context, NotRun, count, failed, listed, passed, plural
from explainer.checks.finding import Finding, Findings
from explainer.checks.read import Data, read
from explainer.checks.view import View
from explainer.errors import ExplainerError, InvalidInput
from explainer.inputs import MODALITIES

ALL = MODALITIES
MISSING_COLUMN = 0.05  # up to 5 % of a column can be filled or its rows left out with little harm (Schafer, 1999)
MISSING_ROW = 0.5  # a row that lacks more than half of itself is mostly guesswork
ROWS_LEAST = 30  # with fewer, most figures say nothing


@dataclass(frozen=True)
class Check:
    """One check: what it looks at, on which kinds of data, why it matters and what to do when it fails."""

    name: str
    modalities: tuple[str, ...]
    function: Callable[[Context], Finding]
    why: str
    advice: str
    alone: bool = False  # runs even where there is not a single item


def unreadable(context: Context) -> Finding:
    bad = context.unreadable
    if bad:
        message = f"{len(bad):,} of {count(max(context.attempted, len(bad)), 'item')} could not be read: "
        message += listed((f"{name} ({reason})" for name, reason in bad), 3) + "."
        evidence = {"items": [{"name": name, "reason": reason} for name, reason in bad[:EVIDENCE_SHOWN * 5]]}
        details = {"value": len(bad), "threshold": 0, "count": len(bad), "rows": context.notes.get("unreadable rows", ())}
        return failed(message, evidence=evidence, **details)
    return passed(f"All {context.attempted:,} {plural(context.view.noun)} could be read.", value=0, threshold=0)


def enough(context: Context) -> Finding:
    n = context.view.n
    if n < ROWS_LEAST:
        message = f"There are no {plural(context.view.noun)}." if n == 0 else f"There are only {count(n, context.view.noun)}."
        return failed(message, value=n, threshold=ROWS_LEAST)
    return passed(f"There are {count(n, context.view.noun)}.", value=n, threshold=ROWS_LEAST)


def _missing_cells(context: Context) -> Finding:
    return tabular.missing_cells(context, MISSING_COLUMN, MISSING_ROW)


_TABLE, _IMAGE, _TEXT, _SERIES = ("tabular",), ("image",), ("text",), ("series",)

CHECKS: tuple[Check, ...] = (
    Check("unreadable items", ALL, unreadable, "What cannot be read is left out in silence, and what is left may be a biased rest.",
          "Restore these from their source, or list them as left out.", alone=True),
    Check("number of items", ALL, enough, "On so few, most figures are chance.", "Collect more before judging the data or a model.", alone=True),
    Check("missing values", _TABLE, _missing_cells, "Many models refuse missing values; others fill them in by a guess that becomes a pattern.",
          "Find out why they are missing; fill them in inside the pipeline with an indicator column, or leave the column out."),
    Check("missing values", _IMAGE, image.bad_pixels, "One pixel that is no number makes every score no number.", "Find where they arise (division, decoding); repair or drop the images."),
    Check("missing values", _TEXT, text.missing_texts, "A missing text is scored like any other, on nothing.", "Restore them from the source, or drop the rows with their labels."),
    Check("missing values", _SERIES, sequence.missing_steps, "A gap filled with zeros looks like a signal.", "Interpolate short gaps, cut at long ones, and keep a mask."),
    Check("placeholder values", _TABLE, tabular.placeholders, "A model takes 999 for a large number and '?' for a kind.", "Read these codes as missing (na_values=... on loading)."),
    Check("infinite values", _TABLE, tabular.infinite_values, "Infinite values break scaling and gradients.", "Find the division by zero or overflow they come from."),
    Check("mixed types", _TABLE, tabular.mixed_types, "A column of mixed types is read as text, and its numbers lose their order.", "Convert the column to one type and look at what does not convert."),
    Check("spelling of categories", _TABLE, tabular.spellings, "Two spellings of one value split its evidence.", "Write each value one way (strip, lower case, a mapping)."),
    Check("column names", _TABLE, tabular.column_names, "Tools pick one of two columns of one name, not always the same.", "Give each column its own name."),
    Check("constant columns", _TABLE, tabular.constant_columns, "A column that never changes tells nothing and hides a lost feature.", "Leave it out, after finding out whether it should vary."),
    Check("constant rows", _TABLE, tabular.constant_rows, "A row of one number throughout is usually a default, not a measurement.", "Look at these rows in the source."),
    Check("blank images", _IMAGE, image.blank_images, "A blank picture with a label teaches that nothing means something.", "Restore or drop them."),
    Check("image sizes", _IMAGE, image.image_sizes, "Resizing on the way in distorts some and not others, and size may stand for the source.", "Bring all to one size and mode the same way, and check that size does not go with the label."),
    Check("value ranges", _IMAGE, image.value_ranges, "Pictures in 0 to 255 among pictures in 0 to 1 are saturated to the model.", "Scale all the same way on loading."),
    Check("empty texts", _TEXT, text.empty_texts, "A text with no word is scored on nothing.", "Restore or drop them."),
    Check("damaged characters", _TEXT, text.damaged_texts, "Words broken by a wrong encoding are unknown words, and mark their source.", "Read the source again as UTF-8 (or what it is written in)."),
    Check("flat series", _SERIES, sequence.flat_series, "A flat line is a sensor that did not record.", "Check the sensor at those times; drop or mask them."),
    Check("constant channels", _SERIES, sequence.constant_channels, "A channel that never changes tells nothing and hides a lost sensor.", "Leave it out, after finding out whether it should vary."),
    Check("series shapes", _SERIES, sequence.series_shapes, "Channels that do not line up are read as one another.", "Bring all series to the same channels in the same order."),
    Check("exact duplicates", ALL, duplicates.exact_duplicates, "Copies count twice in training, and once they fall on both sides of a split they inflate every figure.",
          "Keep one of each, before splitting."),
    Check("near duplicates", ALL, duplicates.near_duplicates, "Near-copies across a split let a model be right by memory.", "Look at the pairs; keep one of each, or keep them on one side of the split."),
    Check("redundant columns", _TABLE, tabular.redundant_columns, "Two columns that say the same share the credit for it, and either explanation is half wrong.", "Keep the one a person understands."),
    Check("identifier columns", _TABLE, tabular.identifiers, "A model can memorise rows by their number, and numbers often follow time or source.", "Keep it as an index, not as a feature."),
    Check("outlying values", ALL, outliers.outlying_values, "One value of another order of magnitude pulls scaling, means and gradients to itself.", "Check unit and typing at the source; correct, cap or leave out."),
    Check("outlying items", ALL, outliers.outlying_items, "An item unlike all others is an error or a case the model has not learnt.", "Look at them one by one; correct, or say that the model is not for such cases."),
    Check("missing labels", ALL, labels.missing_labels, "Rows without a label silently drop out of training and of every figure.", "Label them or leave them out on purpose."),
    Check("class names", ALL, labels.class_names, "Two spellings of a class are two classes to a model.", "Write each class one way."),
    Check("class balance", ALL, labels.class_balance, "A model can ignore a rare class and still look accurate.", "Judge by recall and precision per class; weight or collect more of the rare ones."),
    Check("conflicting labels", ALL, labels.conflicting_labels, "Equal items with different labels: one label is wrong, or what tells them apart is not in the data.",
          "Have these labels checked; add what tells them apart."),
    Check("label given away", ALL, leakage.given_away, "A feature that holds the answer is usually known only after it; a model built on it fails in use.",
          "Ask when each of these features is known. If after the label, leave it out."),
    Check("group sizes", ALL, labels.group_sizes, "On a small group, a fair and an unfair model look alike.", "Collect more of it, or report its figures with their intervals."),
    Check("fits the model", ALL, labels.fits_model, "The model cannot be scored on data built otherwise than what it was trained on.", "Add or rename the columns; bring labels to the model's classes."),
    Check("schema", ALL, drift.schema, "What is built otherwise is misread or refused.", "Bring the data to the reference set's form."),
    Check("overlap, exact", ALL, duplicates.exact_overlap, "Items the model was trained on are no test.", "Drop them from one side (from the test, if training is done)."),
    Check("overlap, near", ALL, duplicates.near_overlap, "Near-copies of training items are hardly a test.", "Look at the pairs; drop them from one side, or split by source."),
    Check("drift", ALL, drift.drift, "A model is only known to work on data like those it was tested on.", "Find what changed (source, time, unit); retrain or re-test on data like these."),
    Check("label drift", ALL, drift.label_drift, "With other class shares, thresholds and calibration no longer hold.", "Recalibrate, or re-weight the figures to the new shares."),
)  # fmt: skip


def checks(modality: str) -> tuple[Check, ...]:
    """The checks that apply to one modality, in order."""
    return tuple(c for c in CHECKS if modality in c.modalities)


def check(
    data: Any,
    labels: Any = None,
    *,
    modality: str | None = None,
    reference: Any = None,
    reference_labels: Any = None,
    model: Any = None,
    groups: Any = None,
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
    progress : True for a bar, or a function called with (done, total), which may raise to stop.

    Returns the findings, worst first. Nothing in the data makes it raise. Raises InvalidInput where the request itself is not
    clear: a modality that cannot be told, labels of another length, no such file.
    """
    modality = modality or (model.modality if model is not None else None)
    found = read(data, labels, modality=modality)
    view, bad, rows, attempted = view_of(found)
    labels_read = _labels(found.labels, view, attempted, "labels")
    there = there_labels = None
    if reference is not None:
        if found.label_name is not None and reference_labels is None and _has_column(reference, found.label_name):
            reference_labels = found.label_name
        other = read(reference, reference_labels, modality=found.modality)
        there, _, _, other_attempted = view_of(other)
        there_labels = _labels(other.labels, there, other_attempted, "reference_labels")
    elif reference_labels is not None:
        raise InvalidInput("reference_labels came without a reference set; pass reference=... as well.")
    context = Context(view, labels_read, there, there_labels, _groups(groups, found, view, attempted), model, bad, attempted, {"unreadable rows": rows})
    return run(context, found, progress)


def run(context: Context, found: Data, progress: bool | Callable[[int, int], Any] = False) -> Findings:
    """Run every check of the modality on a context."""
    todo = checks(context.view.modality)
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
    return replace(finding, check=one.name, why=finding.why or one.why, advice=advice)


def _with_files(finding: Finding, found: Data) -> Finding:
    """The names of the flagged files, where items are files."""
    if not found.files or not finding.rows:
        return finding
    return replace(finding, evidence={**finding.evidence, "files": [found.files[r] for r in finding.rows if r < len(found.files)]})


def view_of(found: Data) -> tuple[View, tuple[tuple[str, str], ...], list[int], int]:
    """The data as the checks see them; what could not be read, the rows of that, and how many items there were."""
    inputs, bad = found.inputs, list(found.unreadable)
    if found.modality == "tabular":
        view: View = tabular.TableView(inputs, found.positions)
        return view, tuple(bad), [], view.n + len(bad)
    if not hasattr(inputs, "__len__"):
        inputs = list(inputs)
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
        read_, missed = image.pictures(inputs)
        lost = {i for i, _ in missed}
        kept = [i for i in range(len(read_) + len(missed)) if i not in lost]
        view = image.ImageView(read_, outer[kept] if len(outer) == len(read_) + len(missed) else np.array(kept, dtype=int))
    elif found.modality == "text":
        texts, kept, missed = text.texts_of([inputs] if isinstance(inputs, str) else inputs)
        view = text.TextView(texts, outer[kept] if not isinstance(inputs, str) else np.array([0]))
    else:
        series, kept, missed = sequence.series_of(inputs)
        view = sequence.SeriesView(series, outer[kept])
    bad += [(f"{view.noun} {outer[i] if i < len(outer) else i}", reason) for i, reason in missed]
    rows = [int(outer[i]) for i, _ in missed if i < len(outer)]
    if found.files:
        rows = sorted({*rows, *(set(range(len(found.files))) - set(outer.tolist()))})
    return view, tuple(bad), rows, view.n + len(bad)


def _labels(values: Any, view: View, attempted: int, what: str) -> labels.Labels | None:
    return labels.labels_of(values, attempted, view.positions if view.n != attempted and view.modality != "tabular" else None, what)


def _has_column(reference: Any, name: str) -> bool:
    return isinstance(reference, str) or (hasattr(reference, "columns") and name in [str(c) for c in reference.columns])


def _groups(groups: Any, found: Data, view: View, attempted: int) -> Mapping[str, np.ndarray] | None:
    if groups is None:
        return None
    import pandas as pd

    from explainer.checks.read import as_frame

    if isinstance(groups, (str, list, tuple)) and hasattr(found.inputs, "columns"):
        names = [groups] if isinstance(groups, str) else list(groups)
        if all(isinstance(n, str) for n in names):
            lost = [n for n in names if n not in [str(c) for c in found.inputs.columns]]
            if lost:
                from explainer.errors import unknown

                raise unknown("group column", lost[0], found.inputs.columns)
            groups = found.inputs[names]
    groups = as_frame(groups)
    frame = groups if isinstance(groups, pd.DataFrame) else pd.DataFrame({"group": list(groups)})
    if len(frame) == attempted != view.n and view.modality != "tabular":
        frame = frame.iloc[view.positions]
    if len(frame) != view.n:
        raise InvalidInput(f"groups has {len(frame):,} rows for {view.n:,} items; pass exactly one per item, in the same order.")
    return {str(name): frame.iloc[:, i].astype(object).to_numpy() for i, name in enumerate(frame.columns)}


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

