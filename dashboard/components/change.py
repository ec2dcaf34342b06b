"""The form that changes the input: columns, words, pixels or a stretch of the signal; what it holds goes into one store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dash_mantine_components as dmc
import numpy as np
from dash import dcc, html

from dashboard import edits
from dashboard.components.input import png
from dashboard.components.states import icon
from dashboard.edits import LARGEST_FILE
from dashboard.exhibit import Exhibit
from explainer.errors import ExplainerError
from explainer.plots.look import three

MOST_CHOICES = 60


def form(exhibit: Exhibit, row: int, edit: Mapping[str, Any] | None, held: str) -> tuple[html.Div, dict[str, Any]]:
    """The form for one row; every field starts at the row's own value, or at what ``edit`` makes of it.

    With it, for the store ``edit-base``: what the fields hold before anything is changed, so that the browser sends only what
    differs, and what the address held (``held``) when the form was made.
    """
    one, modality, edit = exhibit.row(row), exhibit.face.modality, edit or {}
    base: dict[str, Any] = {"model": exhibit.name, "row": row, "edit": held, "largest": LARGEST_FILE}
    if modality == "tabular":
        columns = [_Column(exhibit, one, c) for c in one.columns]
        base["values"] = {c.name: c.start for c in columns}
        base["ranges"] = {c.name: (c.low, c.high) for c in columns if not c.choice}
        values = edit.get("values")
        values = values if isinstance(values, Mapping) else {}
        body: Any = html.Div([c.field(values.get(c.name, c.start)) for c in columns], className="fields")
    elif modality == "text":
        base["text"] = one[0]
        text = edit.get("text")
        shown = text if isinstance(text, str) else one[0]
        body = dmc.Textarea(id="edit-text", value=shown, autosize=True, minRows=4, maxRows=10, debounce=600, size="sm", spellCheck=False)
    elif modality == "image":
        body = _image(_seen(exhibit, one, edit))
    else:
        body = _series(exhibit, one, edit)
    return html.Div(body, className=f"change change-{modality}"), base


def _seen(exhibit: Exhibit, one: Any, edit: Mapping[str, Any]) -> Any:
    """The picture as it was changed; where that cannot be read, the row's own."""
    try:
        return edits.apply(edit, one, exhibit.face) if edit else one
    except ExplainerError:
        return one


class _Column:
    """One column of a table's row: a choice where it holds words or two values, a number otherwise."""

    def __init__(self, exhibit: Exhibit, one: Any, name: str) -> None:
        self.name = name
        self.meaning = exhibit.columns.get(name, "")
        self.known = exhibit.inputs[name].dropna()
        self.gaps = len(self.known) < len(exhibit.inputs)
        value = one[name].iloc[0]
        self.missing = value is None or (isinstance(value, (float, np.floating)) and bool(np.isnan(value))) or str(value) in ("<NA>", "nan")
        numeric = self.known.dtype.kind in "iufb"
        self.choice = not numeric or self.known.nunique() <= 2
        self.whole = numeric and bool(np.all(np.asarray(self.known, dtype=float) % 1 == 0))
        self.low, self.high = (0.0, 1.0) if self.choice else (float(self.known.min()), float(self.known.max()))
        if self.choice:
            self.start: Any = None if self.missing else _say(value)
        else:
            self.start = "" if self.missing else f"{int(value)}" if self.whole and float(value).is_integer() else f"{float(value):.6g}"

    def field(self, value: Any) -> Any:
        """A field that takes what is typed as it is typed: what is no number is told, not mended."""
        span = "" if self.choice else f"{three(self.low)} to {three(self.high)}"
        label = html.Span(
            [self.name, html.Span(f" {span}", className="span")], title=": ".join(filter(None, (self.meaning or self.name, span)))
        )
        value = value if value is None else str(value)
        common = {"id": {"type": "edit-cell", "column": self.name}, "label": label, "size": "xs", "value": value, "placeholder": "missing"}
        if self.choice:
            choices = sorted({_say(v) for v in self.known.unique()} | {v for v in (self.start, value) if v is not None})[:MOST_CHOICES]
            return dmc.Select(data=choices, clearable=self.gaps, searchable=len(choices) > 8, allowDeselect=False, **common)
        span_ = self.high - self.low
        by = 1 if self.whole and span_ < 200 else 10.0 ** np.floor(np.log10(max(span_ / 20, 1e-9)))
        return dmc.TextInput(debounce=350, inputProps={"inputMode": "decimal"}, **common, **{"data-by": f"{by:g}"})


def _say(value: Any) -> str:
    return str(int(value)) if isinstance(value, (float, np.floating)) and float(value).is_integer() else str(value)


def _image(one: Any) -> Any:
    parts: list[Any] = []
    height, width = one.shape[1:3]
    grey = one.ndim == 3 or one.shape[3] == 1
    if grey and max(height, width) <= 64:
        brush = html.Div(
            [
                html.Button("draw", type="button", className="small-button", **{"data-brush": "draw", "aria-pressed": "true"}),
                html.Button("erase", type="button", className="small-button", **{"data-brush": "erase", "aria-pressed": "false"}),
                html.Button("clear", type="button", className="small-button", **{"data-clear": "1"}),
            ],
            className="brush",
        )
        canvas = html.Div(**{"data-canvas": "1", "data-width": str(width), "data-height": str(height), "data-picture": png(one[0])})
        parts.append(html.Div([canvas, brush], className="canvas"))
    parts.append(
        dcc.Upload(
            html.Div(
                [
                    icon("upload"),
                    html.Div(["Drop a picture here, or ", html.Span("choose a file", className="link")]),
                    html.Div(f"it is scaled to {width} x {height}", className="dim"),
                ]
            ),
            id="edit-upload",
            className="upload",
        )
    )
    return html.Div(parts, className="image-change")


def _series(exhibit: Exhibit, one: Any, edit: Mapping[str, Any]) -> Any:
    steps, channels = one[0].shape
    channel, span = str(edit.get("channel", "all")), [edit.get("first", 0), edit.get("last", steps)]
    names = exhibit.face.feature_names or tuple(f"channel {c}" for c in range(channels))
    options = [{"value": "all", "label": "all channels"}] + [{"value": str(c), "label": names[c]} for c in range(channels)]
    marks = [{"value": 0, "label": "0"}, {"value": steps, "label": str(steps)}]
    return html.Div(
        [
            dmc.Select(id="edit-channel", label="channel", data=options, value=channel, allowDeselect=False, size="xs", w=130),
            html.Div(
                [
                    html.Label("time steps", className="field-label"),
                    dmc.RangeSlider(id="edit-span", min=0, max=steps, step=1, minRange=1, value=span, marks=marks, size="sm"),
                ],
                className="slider",
            ),
            html.Div(
                [
                    html.Label("scale (0 silences it, 1 leaves it)", className="field-label"),
                    dmc.Slider(
                        id="edit-scale",
                        min=0,
                        max=2,
                        step=0.1,
                        value=edit.get("scale", 1),
                        precision=1,
                        marks=[{"value": v, "label": str(v)} for v in (0, 1, 2)],
                        size="sm",
                    ),
                ],
                className="slider",
            ),
            dcc.Upload(
                html.Div(
                    [
                        icon("upload"),
                        html.Span("upload a csv", className="link"),
                        html.Span(f" ({channels} columns, a row per time step)", className="dim"),
                    ]
                ),
                id="edit-csv",
                className="upload upload-thin",
            ),
        ],
        className="series-change",
    )
