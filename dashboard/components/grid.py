"""The table of predictions: sorted, filtered and searched in the browser; a row opens its detail.

The rows travel once, column by column; an order or a filter is then a list of row numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dash_ag_grid as dag
import numpy as np

from dashboard import ids
from dashboard.exhibit import Exhibit
from dashboard.predictions import FLAGS, Predictions
from dashboard.view import View

MOST_CELLS = 400_000  # of a table, sent with its predictions
_THEME = (
    "themeQuartz.withParams({backgroundColor: 'var(--mantine-color-body)', foregroundColor: 'var(--mantine-color-text)',"
    " headerBackgroundColor: 'var(--panel)', borderColor: 'var(--line)', accentColor: 'var(--accent)', fontSize: 12.5, headerFontSize: 12,"
    " rowHeight: 30, headerHeight: 32, spacing: 5, cellHorizontalPadding: 6, wrapperBorderRadius: 6, oddRowBackgroundColor: 'transparent',"
    " chromeBackgroundColor: 'var(--panel)', browserColorScheme: 'inherit'})"
)


def columns(exhibit: Exhibit, predictions: Predictions) -> dict[str, Any]:
    """What the table says of every row of the test set, a list per column; classes and flags by their numbers."""
    labels, names = predictions.labels, predictions.class_names
    held: dict[str, Any] = {"flags": FLAGS, "flag": predictions.flags.tolist(), "text": _hints(exhibit), "features": _features(exhibit)}
    if predictions.regression:
        true = None if labels is None else _rounded(labels)
        return held | {"names": None, "true": true, "predicted": _rounded(predictions.predicted), "p": _rounded(predictions.confidence)}
    return held | {
        "names": names,
        "true": None if labels is None else labels.tolist(),
        "predicted": predictions.predicted.tolist(),
        "p": _shares(predictions.confidence),
        "margin": _shares(predictions.margin),
    }


def order(predictions: Predictions, view: View, only: set[int] | None = None) -> list[int]:
    """The numbers of the rows in the order that ``view`` asks for; ``only`` keeps those a data check found."""
    found = predictions.ordered(view)
    return (found if only is None else found[np.isin(found, list(only))]).tolist()


def _rounded(values: np.ndarray) -> list[float | None]:
    return [v if np.isfinite(v) else None for v in np.round(np.asarray(values, dtype=float), 4).tolist()]


def _shares(values: np.ndarray) -> list[float]:
    """To four digits, but never a 1 that is not one."""
    values = np.asarray(values, dtype=float)
    return np.where(values < 1, np.minimum(np.round(values, 4), 0.9999), 1.0).tolist()


def features(exhibit: Exhibit) -> list[tuple[str, bool]]:
    """The columns of a table that stand beside its predictions, each with whether it holds numbers; none of one too large to send."""
    frame = exhibit.inputs
    if not hasattr(frame, "iloc") or frame.size > MOST_CELLS:
        return []
    return [(str(c), frame[c].dtype.kind in "iuf") for c in frame.columns]


def _features(exhibit: Exhibit) -> list[list[Any]]:
    frame = exhibit.inputs
    known = features(exhibit)
    return [[None if gap else v for v, gap in zip(frame[c].tolist(), frame[c].isna(), strict=True)] for c in frame.columns] if known else []


def _hints(exhibit: Exhibit) -> list[str] | None:
    """What the search box finds a row by beside its classes: its words, or a table's text values."""
    inputs = exhibit.inputs
    if exhibit.face.modality == "text":
        return [text[:300] for text in inputs]
    words = inputs.select_dtypes(exclude="number") if hasattr(inputs, "iloc") else None
    if words is None or not words.shape[1]:
        return None
    return [" ".join(map(str, row)) for row in words.itertuples(index=False)]


def shared_start(names: Sequence[str]) -> str:
    """What all class names begin with, up to the end of a word: "speaker " of "speaker 1" and "speaker 2"."""
    first, last = min(names), max(names)  # what these two share, all share
    k = next((k for k, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), 0)
    return first[: max(first[:k].rfind(mark) for mark in " -_:/.") + 1]


def table(exhibit: Exhibit, predictions: Predictions, find: str = "") -> dag.AgGrid:
    """The empty table; its rows come with the address, of which those with the words of ``find`` are shown."""
    sure = "params.value > 0.9994 && params.value < 1 ? '>0.999' : d3.format('.3f')(params.value)"
    share = {"function": f"params.value == null ? '' : {sure}"}
    number = {"type": "rightAligned", "filter": "agNumberColumnFilter"}
    value = number | {"valueFormatter": {"function": "params.value == null ? '' : d3.format(',.4~r')(params.value)"}}
    beside = features(exhibit)
    label: dict[str, Any] = {"width": 77} if beside else {"flex": 1, "minWidth": 62}
    if predictions.regression:
        label |= value
    else:
        start = len(shared_start(predictions.class_names))
        label |= {"valueFormatter": {"function": f"(params.value || '').slice({start})"}}
    columns: list[dict[str, Any]] = [
        {"field": "row", "headerName": "row", "width": 55, **number},
        {"field": "true", "headerName": "true", "tooltipField": "true", **label},
        {"field": "predicted", "headerName": "pred", "tooltipField": "predicted", **label, **({"width": 80} if beside else {})},  # bold
    ]
    if predictions.regression:
        columns += [{**label, "field": "p", "headerName": "|error|"}]
    else:
        columns[2]["cellClassRules"] = {"cell-is-wrong": "params.data.true !== '' && params.data.true !== params.data.predicted"}
        columns.append({"field": "p", "headerName": "p", "width": 52, "valueFormatter": share, **number})
        columns.append({"field": "flag", "headerName": "flag", "width": 56})
        columns.append({"field": "margin", "headerName": "margin", "width": 76, "valueFormatter": share, **number})
    columns.append({"field": "text", "hide": True})
    # Searched by their words only: a figure such as 5 would be found in every row.
    own = {"width": 84, "getQuickFilterText": {"function": "''"}}
    columns += [
        {"field": f"f{k}", "headerName": name, "headerTooltip": name, **own, **(value if numeric else {})}
        for k, (name, numeric) in enumerate(beside)
    ]
    return dag.AgGrid(
        id=ids.GRID,
        columnDefs=columns,
        defaultColDef={"sortable": True, "filter": True, "resizable": True, "suppressHeaderMenuButton": False, "suppressMovable": True},
        getRowId="params.data.row + ''",
        dashGridOptions={
            "theme": {"function": _THEME},
            "rowSelection": {"mode": "singleRow", "checkboxes": False, "enableClickSelection": True},
            "pagination": True,
            "paginationPageSize": 100,
            "paginationPageSizeSelector": False,
            "quickFilterText": find,
            "includeHiddenColumnsInQuickFilter": True,
            "tabToNextCell": {"function": "leave(params)"},
            "tabToNextHeader": {"function": "leave(params)"},
            "tooltipShowDelay": 400,
            "localeText": {
                "noRowsToShow": "No row fits. Clear the search or the filter.",
                "noMatchingRows": "No row fits. Clear the search.",
            },
            "columnMenu": "legacy",
            "enableCellTextSelection": True,
        },
        columnSize=None,
        style={"height": "100%", "width": "100%"},
        className="",
    )
