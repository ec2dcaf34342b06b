"""The table of predictions: sorted, filtered and searched in the browser; a row opens its detail."""

from __future__ import annotations

from typing import Any

import dash_ag_grid as dag
import numpy as np

from dashboard import ids
from dashboard.exhibit import Exhibit
from dashboard.predictions import Predictions
from dashboard.view import View

MOST = 20_000
_THEME = (
    "themeQuartz.withParams({backgroundColor: 'var(--mantine-color-body)', foregroundColor: 'var(--mantine-color-text)',"
    " headerBackgroundColor: 'var(--panel)', borderColor: 'var(--line)', accentColor: 'var(--accent)', fontSize: 12.5, headerFontSize: 12,"
    " rowHeight: 30, headerHeight: 32, spacing: 5, cellHorizontalPadding: 7, wrapperBorderRadius: 6, oddRowBackgroundColor: 'transparent',"
    " chromeBackgroundColor: 'var(--panel)', browserColorScheme: 'inherit'})"
)


def rows(exhibit: Exhibit, predictions: Predictions, view: View, only: set[int] | None = None) -> list[dict[str, Any]]:
    """One record per row in the order that ``view`` asks for; ``only`` keeps the rows a data check found."""
    names = predictions.class_names
    order = [int(i) for i in predictions.ordered(view) if only is None or int(i) in only][:MOST]
    confidence, margin, predicted = predictions.confidence, predictions.margin, predictions.predicted
    hint = _hints(exhibit)
    records = []
    for i in order:
        record: dict[str, Any] = {"row": i, "flag": predictions.flag(i), "text": hint(i)}
        if predictions.regression:
            record |= {"true": _number(predictions.labels, i), "predicted": _rounded(predicted[i]), "p": _rounded(confidence[i])}
        else:
            true = "" if predictions.labels is None else names[int(predictions.labels[i])]
            record |= {"true": true, "predicted": names[int(predicted[i])], "p": _share(confidence[i]), "margin": _share(margin[i])}
        records.append(record)
    return records


def _rounded(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None


def _share(value: float) -> float | None:
    """To four digits, but never a 1 that is not one."""
    return min(round(float(value), 4), 0.9999) if value < 1 else 1.0


def _number(labels: np.ndarray | None, i: int) -> float | None:
    return None if labels is None else _rounded(labels[i])


def _hints(exhibit: Exhibit) -> Any:
    """What the search box finds a row by beside its classes: its words, or a table's text values."""
    inputs = exhibit.inputs
    if exhibit.face.modality == "text":
        return lambda i: inputs[i][:300]
    if hasattr(inputs, "iloc"):
        words = inputs.select_dtypes(exclude="number")
        return lambda i: " ".join(str(v) for v in words.iloc[i]) if words.shape[1] else ""
    return lambda i: ""


def table(predictions: Predictions) -> dag.AgGrid:
    """The empty table; its rows come with the address."""
    form = {"function": "params.value == null ? '' : params.value > 0.9994 && params.value < 1 ? '>0.999' : d3.format('.3f')(params.value)"}
    number = {"type": "rightAligned", "filter": "agNumberColumnFilter", "valueFormatter": form}
    wrong = {"cell-is-wrong": "params.data.true !== '' && params.data.true !== params.data.predicted"}
    columns: list[dict[str, Any]] = [
        {"field": "row", "headerName": "row", "width": 62, "filter": "agNumberColumnFilter", "type": "rightAligned"},
        {"field": "true", "headerName": "true", "flex": 1, "minWidth": 54, "tooltipField": "true"},
        {"field": "predicted", "headerName": "pred", "flex": 1, "minWidth": 62, "tooltipField": "predicted"},
    ]
    if predictions.regression:
        columns[1] |= number
        columns[2] |= number
        columns += [{"field": "p", "headerName": "|error|", "width": 84, **number}]
    else:
        columns[2]["cellClassRules"] = wrong
        columns += [
            {"field": "p", "headerName": "p", "width": 70, **number},
            {"field": "margin", "headerName": "margin", "width": 82, **number},
        ]
    columns += [{"field": "flag", "headerName": "flag", "width": 58}, {"field": "text", "hide": True}]
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
            "includeHiddenColumnsInQuickFilter": True,
            "suppressCellFocus": False,
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
