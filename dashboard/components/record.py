"""One row of the test set as people know it: the picture, the first words, or its columns; pressing it opens it in Inspect."""

from __future__ import annotations

from typing import Any

from dash import html

from dashboard.components import input, states
from dashboard.components.probabilities import percent
from dashboard.exhibit import Exhibit
from dashboard.predictions import Predictions
from explainer import inputs as inputs_
from explainer.plots.look import three


def shown(row: int, exhibit: Exhibit, predictions: Predictions, note: str = "") -> html.Button:
    """A button with the row, its label and prediction, and a ``note`` in place of the prediction where there is one."""
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
        inside.append(html.Div(one[0][:160], className="dim clip"))
    if modality == "tabular":
        inside.append(html.Div(", ".join(f"{c} = {v}" for c, v in list(one.iloc[0].items())[:6]), className="dim clip"))
    return html.Button(
        inside,
        type="button",
        className="finding-row",
        title="Open in Inspect",
        **states.go({"row": row, "cell": "", "rows": ""}, "/inspect"),
    )
