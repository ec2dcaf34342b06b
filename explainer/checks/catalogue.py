"""The one table of all checks: what each looks at, why it matters, and what to do when it fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from explainer.checks import drift, duplicates, image, labels, leakage, outliers, sequence, tabular, text
from explainer.checks.context import EVIDENCE_SHOWN, Context, count, failed, listed, passed, plural
from explainer.checks.finding import Finding
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
        evidence = {"items": [{"name": name, "reason": reason} for name, reason in bad[: EVIDENCE_SHOWN * 5]]}
        details = {"value": len(bad), "threshold": 0, "count": len(bad), "rows": context.lost}
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
    Check(
        "unreadable items",
        ALL,
        unreadable,
        "What cannot be read is left out in silence, and what is left may be a biased rest.",
        "Restore these from their source, or list them as left out.",
        alone=True,
    ),
    Check(
        "number of items",
        ALL,
        enough,
        "On so few, most figures are chance.",
        "Collect more before judging the data or a model.",
        alone=True,
    ),
    Check(
        "missing values",
        _TABLE,
        _missing_cells,
        "Many models refuse missing values; others fill them in by a guess that becomes a pattern.",
        "Find out why they are missing; fill them in inside the pipeline with an indicator column, or leave the column out.",
    ),
    Check(
        "missing values",
        _IMAGE,
        image.bad_pixels,
        "One pixel that is no number makes every score no number.",
        "Find where they arise (division, decoding); repair or drop the images.",
    ),
    Check(
        "missing values",
        _TEXT,
        text.missing_texts,
        "A missing text is scored like any other, on nothing.",
        "Restore them from the source, or drop the rows with their labels.",
    ),
    Check(
        "missing values",
        _SERIES,
        sequence.missing_steps,
        "A gap filled with zeros looks like a signal.",
        "Interpolate short gaps, cut at long ones, and keep a mask.",
    ),
    Check(
        "placeholder values",
        _TABLE,
        tabular.placeholders,
        "A model takes 999 for a large number and '?' for a kind.",
        "Read these codes as missing (na_values=... on loading).",
    ),
    Check(
        "infinite values",
        _TABLE,
        tabular.infinite_values,
        "Infinite values break scaling and gradients.",
        "Find the division by zero or overflow they come from.",
    ),
    Check(
        "mixed types",
        _TABLE,
        tabular.mixed_types,
        "A column of mixed types is read as text, and its numbers lose their order.",
        "Convert the column to one type and look at what does not convert.",
    ),
    Check(
        "spelling of categories",
        _TABLE,
        tabular.spellings,
        "Two spellings of one value split its evidence.",
        "Write each value one way (strip, lower case, a mapping).",
    ),
    Check(
        "column names",
        _TABLE,
        tabular.column_names,
        "Tools pick one of two columns of one name, not always the same.",
        "Give each column its own name.",
    ),
    Check(
        "constant columns",
        _TABLE,
        tabular.constant_columns,
        "A column that never changes tells nothing and hides a lost feature.",
        "Leave it out, after finding out whether it should vary.",
    ),
    Check(
        "constant rows",
        _TABLE,
        tabular.constant_rows,
        "A row of one number throughout is usually a default, not a measurement.",
        "Look at these rows in the source.",
    ),
    Check(
        "blank images",
        _IMAGE,
        image.blank_images,
        "A blank picture with a label teaches that nothing means something.",
        "Restore or drop them.",
    ),
    Check(
        "image sizes",
        _IMAGE,
        image.image_sizes,
        "Resizing on the way in distorts some and not others, and size may stand for the source.",
        "Bring all to one size and mode the same way, and check that size does not go with the label.",
    ),
    Check(
        "value ranges",
        _IMAGE,
        image.value_ranges,
        "Pictures in 0 to 255 among pictures in 0 to 1 are saturated to the model.",
        "Scale all the same way on loading.",
    ),
    Check("empty texts", _TEXT, text.empty_texts, "A text with no word is scored on nothing.", "Restore or drop them."),
    Check(
        "damaged characters",
        _TEXT,
        text.damaged_texts,
        "Words broken by a wrong encoding are unknown words, and mark their source.",
        "Read the source again as UTF-8 (or what it is written in).",
    ),
    Check(
        "flat series",
        _SERIES,
        sequence.flat_series,
        "A flat line is a sensor that did not record.",
        "Check the sensor at those times; drop or mask them.",
    ),
    Check(
        "constant channels",
        _SERIES,
        sequence.constant_channels,
        "A channel that never changes tells nothing and hides a lost sensor.",
        "Leave it out, after finding out whether it should vary.",
    ),
    Check(
        "series shapes",
        _SERIES,
        sequence.series_shapes,
        "Channels that do not line up are read as one another.",
        "Bring all series to the same channels in the same order.",
    ),
    Check(
        "exact duplicates",
        ALL,
        duplicates.exact_duplicates,
        "Copies count twice in training, and once they fall on both sides of a split they inflate every figure.",
        "Keep one of each, before splitting.",
    ),
    Check(
        "near duplicates",
        ALL,
        duplicates.near_duplicates,
        "Near-copies across a split let a model be right by memory.",
        "Look at the pairs; keep one of each, or keep them on one side of the split.",
    ),
    Check(
        "redundant columns",
        _TABLE,
        tabular.redundant_columns,
        "Two columns that say the same share the credit for it, and either explanation is half wrong.",
        "Keep the one a person understands.",
    ),
    Check(
        "identifier columns",
        _TABLE,
        tabular.identifiers,
        "A model can memorise rows by their number, and numbers often follow time or source.",
        "Keep it as an index, not as a feature.",
    ),
    Check(
        "outlying values",
        ALL,
        outliers.outlying_values,
        "One value of another order of magnitude pulls scaling, means and gradients to itself.",
        "Check unit and typing at the source; correct, cap or leave out.",
    ),
    Check(
        "outlying items",
        ALL,
        outliers.outlying_items,
        "An item unlike all others is an error or a case the model has not learnt.",
        "Look at them one by one; correct, or say that the model is not for such cases.",
    ),
    Check(
        "missing labels",
        ALL,
        labels.missing_labels,
        "Rows without a label silently drop out of training and of every figure.",
        "Label them or leave them out on purpose.",
    ),
    Check("class names", ALL, labels.class_names, "Two spellings of a class are two classes to a model.", "Write each class one way."),
    Check(
        "class balance",
        ALL,
        labels.class_balance,
        "A model can ignore a rare class and still look accurate.",
        "Judge by recall and precision per class; weight or collect more of the rare ones.",
    ),
    Check(
        "conflicting labels",
        ALL,
        labels.conflicting_labels,
        "Equal items with different labels: one label is wrong, or what tells them apart is not in the data.",
        "Have these labels checked; add what tells them apart.",
    ),
    Check(
        "label given away",
        ALL,
        leakage.given_away,
        "A feature that holds the answer is usually known only after it; a model built on it fails in use.",
        "Ask when each of these features is known. If after the label, leave it out.",
    ),
    Check(
        "group sizes",
        ALL,
        labels.group_sizes,
        "On a small group, a fair and an unfair model look alike.",
        "Collect more of it, or report its figures with their intervals.",
    ),
    Check(
        "fits the model",
        ALL,
        labels.fits_model,
        "The model cannot be scored on data built otherwise than what it was trained on.",
        "Add or rename the columns; bring labels to the model's classes.",
    ),
    Check("schema", ALL, drift.schema, "What is built otherwise is misread or refused.", "Bring the data to the reference set's form."),
    Check(
        "overlap, exact",
        ALL,
        duplicates.exact_overlap,
        "Items the model was trained on are no test.",
        "Drop them from one side (from the test, if training is done).",
    ),
    Check(
        "overlap, near",
        ALL,
        duplicates.near_overlap,
        "Near-copies of training items are hardly a test.",
        "Look at the pairs; drop them from one side, or split by source.",
    ),
    Check(
        "drift",
        ALL,
        drift.drift,
        "A model is only known to work on data like those it was tested on.",
        "Find what changed (source, time, unit); retrain or re-test on data like these.",
    ),
    Check(
        "label drift",
        ALL,
        drift.label_drift,
        "With other class shares, thresholds and calibration no longer hold.",
        "Recalibrate, or re-weight the figures to the new shares.",
    ),
)


def checks(modality: str) -> tuple[Check, ...]:
    """The checks that apply to one modality, in order."""
    return tuple(c for c in CHECKS if modality in c.modalities)
