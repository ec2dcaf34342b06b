"""What a specimen's figures must reach, and whether they do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

OWN = "adapters"  # the row that is the specimen itself in the table of what pretraining is worth


@dataclass(frozen=True)
class Bar:
    """``metric`` must be at least ``least``; with ``beside``, its difference from that of another model must be above ``least``.

    ``beside``: "baseline", or another packaged specimen. ``share``: both figures are those with this share of the labels, as the
    record's table of what pretraining is worth has them, and ``beside`` is one of its rows.
    """

    metric: str
    least: float = 0.0
    beside: str = ""
    share: str = ""


def judged(bars: Sequence[Bar], record: dict[str, Any]) -> list[dict[str, Any]]:
    """Each bar with the specimen's ``value``, that of the ``other``, and whether it is ``met``; None where one was not measured."""
    return [_judged(bar, *_values(bar, record)) for bar in bars]


def _judged(bar: Bar, value: float | None, other: float | None) -> dict[str, Any]:
    if value is None or (bar.beside and other is None):
        met = None
    else:
        met = value >= bar.least if other is None else value - other > bar.least
    return {**asdict(bar), "value": value, "other": other, "met": met}


def _values(bar: Bar, record: dict[str, Any]) -> tuple[float | None, float | None]:
    if bar.share:
        cells = record.get("transfer", {}).get("cells", {}).get(bar.share, {})
        own, other = cells.get(OWN, {}), cells.get(bar.beside, {})
    else:
        own, other = record["metrics"], _beside(bar.beside, record)
    value, reference = (one.get(bar.metric, {}).get("value") for one in (own, other))
    return value, reference


def _beside(name: str, record: dict[str, Any]) -> dict[str, Any]:
    """The figures of the baseline, or of another specimen as its own record has them."""
    from zoo.registry import WEIGHTS, read_record

    if name in ("", "baseline"):
        return record["baseline"]["metrics"] if name else {}
    return read_record(WEIGHTS / name, name)["metrics"]
