"""The one table of all checks, gathered from the rooms they live in."""

from __future__ import annotations

from explainer.checks import (
    categories,
    channels,
    confidence,
    dates,
    drift,
    duplicates,
    familiarity,
    image,
    labels,
    language,
    leakage,
    metadata,
    missingness,
    order,
    outliers,
    privacy,
    rules,
    segments,
    sensors,
    sequence,
    shortcut,
    tabular,
    text,
    together,
    units,
    vocabulary,
    windows,
    wording,
)
from explainer.checks.context import EVIDENCE_SHOWN, FIX_CODE, Check, Context, count, failed, listed, passed, plural
from explainer.checks.finding import Finding
from explainer.inputs import MODALITIES

ROWS_LEAST = 30  # with fewer, most figures say nothing


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
    held = context.view.held if context.view.held < n else 0
    told = f", read in parts and kept on disk, as {context.parts}" if context.parts else ""
    told += f"; checks of more than one column at a time see a sample of {held:,}" if held else ""
    return passed(f"There are {count(n, context.view.noun)}{told}.", value=n, threshold=ROWS_LEAST)


GENERAL: tuple[Check, ...] = (
    Check(
        "unreadable items",
        MODALITIES,
        unreadable,
        "What cannot be read is left out in silence, and what is left may be a biased rest.",
        "Restore these from their source, or list them as left out.",
        FIX_CODE,
        alone=True,
        streams=True,
    ),
    Check(
        "number of items",
        MODALITIES,
        enough,
        "On so few, most figures are chance.",
        "Collect more before judging the data or a model.",
        alone=True,
        streams=True,
    ),
)
_ROOMS = (
    tabular,
    missingness,
    dates,
    units,
    categories,
    rules,
    image,
    metadata,
    shortcut,
    text,
    language,
    vocabulary,
    wording,
    sequence,
    sensors,
    channels,
    windows,
    duplicates,
    outliers,
    labels,
    leakage,
    order,
    drift,
    together,
    confidence,
    segments,
    familiarity,
    privacy,
)
CHECKS: tuple[Check, ...] = (*GENERAL, *(check for room in _ROOMS for check in room.CHECKS))


def checks(modality: str) -> tuple[Check, ...]:
    """The checks that apply to one modality, in order."""
    return tuple(c for c in CHECKS if modality in c.modalities)
