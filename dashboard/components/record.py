"""One row of the test set as people know it: the picture, the first words, or its columns; pressing it opens it in Inspect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dash import html

from dashboard.components import input, states
from dashboard.components.probabilities import percent
from dashboard.exhibit import Exhibit
from dashboard.predictions import Predictions
from explainer import inputs as inputs_
from explainer.plots.look import shown as spoken
from explainer.plots.look import three

LETTERS = 160  # of a text
COLUMNS = 6


def shown(row: int, exhibit: Exhibit, predictions: Predictions, note: str = "", first: Sequence[str] = ()) -> html.Button:
    """A button with the row, its label and prediction, and a ``note`` in place of the prediction where there is one.

    Of a table's columns those named in ``first`` come first, set off from the others.
    """
    modality = exhibit.face.modality
    one = inputs_.take(exhibit.inputs, [row])
    names = predictions.class_names
    label = (
        ""
        if predictions.labels is None
        else (three(float(predictions.labels[row])) if predictions.regression else names[int(predictions.labels[row])])
    )
    said = note or (
        ""
        if predictions.regression
        else f"predicted {names[int(predictions.predicted[row])]} ({percent(float(predictions.confidence[row]))})"
    )
    inside: list[Any] = [html.Img(src=input.png(one[0]), className="thumb", alt="")] if modality == "image" else []
    inside.append(html.Span([html.Strong(f"row {row}"), f"  {label}  ", html.Span(said, className="dim")]))
    if modality == "text":
        inside.append(html.Div(one[0][:LETTERS] + "…" * (len(one[0]) > LETTERS), className="dim clip"))
    if modality == "tabular":
        inside.append(html.Div(_cells(one.iloc[0], first), className="dim clip"))
    if modality == "series":
        inside.append(html.Img(src=input.sparkline(one[0]), className="sparkline", alt=""))
    return html.Button(
        inside,
        type="button",
        className="finding-row",
        title="Open in Inspect",
        **states.go({"row": row, "cell": "", "rows": ""}, "/inspect"),
    )


def _cells(values: Any, first: Sequence[str]) -> list[Any]:
    named = [c for c in values.index if str(c) in first][:COLUMNS]
    rest = [c for c in values.index if c not in named][: COLUMNS - len(named)]
    told: list[Any] = []
    for k, c in enumerate([*named, *rest]):
        told += [", "] if k else []
        cell = f"{c} = {spoken(values[c])}"
        told.append(html.Strong(cell) if c in named else cell)
    return told
