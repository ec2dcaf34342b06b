"""Model: its card and training record, how good it is, how well its probabilities hold, and what can explain it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import dash
import dash_mantine_components as dmc
import yaml
from dash import dcc, html

from dashboard import ids
from dashboard.components import badge, states, threshold
from dashboard.components.figures import graph
from dashboard.components.matrix import firsts, matrix
from dashboard.components.panel import LEVELS
from dashboard.components.probabilities import percent
from dashboard.desk import Desk
from dashboard.exhibit import Exhibit
from dashboard.predictions import Predictions
from dashboard.view import View
from explainer import plots
from explainer.inspection.views import GROUP, VIEWS
from explainer.methods import METHODS, grouped
from explainer.model import Capability
from explainer.plots.look import three

FRONT = re.compile(r"\A---\s*\n(.*?)\n---\s*\n", re.DOTALL)  # the metadata at the head of a card
TITLES = {
    "roc_auc": "ROC AUC",
    "macro_f1": "macro F1",
    "ece": "calibration error",
    "log_loss": "log loss (lower is better)",
    "brier": "Brier score",
}


def layout(desk: Desk, exhibit: Exhibit, view: View) -> html.Div:
    """All of the page: nothing on it takes work beyond the scores of the test set."""
    predictions = desk.predictions(exhibit)
    cards = [
        _card("How good it is", metrics(exhibit, predictions)),
    ]
    if predictions.confusion is not None:
        counts = matrix(predictions.confusion, predictions.class_names, View(), firsts(predictions, View()), page="/inspect")
        cards.append(_card("Where it is wrong", counts))
        cards.append(_card("Do its probabilities hold", _calibration(predictions)))
    if threshold.able(predictions):
        cards.append(_card("Where to draw the line", threshold.content(predictions)))
    if exhibit.record.get("history"):
        curves = plots.plot_history(exhibit.record["history"])
        drawn = graph(_short(curves, curves.layout.height - 20), label="Training curves")
        cards.append(_card("Training", [_facts(exhibit.record), drawn]))
    wide = html.Section([html.H2("Card"), *card(exhibit.card)], className="card")
    able = html.Section([html.H2("What can explain it"), capabilities(desk, exhibit)], className="card card-below")
    here = dcc.Store(id=ids.PAGE_MODEL, data=exhibit.name)
    return html.Div([here, html.Div(cards, className="columns"), able, wide])


def register(app: dash.Dash, desk: Desk) -> None:
    """Only the threshold moves."""
    threshold.register(app, desk)


def card(text: str) -> list[Any]:
    """A model card: licence and tags of its front matter as a line, the rest as it is written."""
    if not text:
        return [html.Div("This model came without a card. A zoo specimen, or an object with a .card text, brings one.", className="dim")]
    front, body = FRONT.match(text), FRONT.sub("", text)
    try:
        held = yaml.safe_load(front[1]) if front else None
    except yaml.YAMLError:
        held = None
    known = held if isinstance(held, dict) else {}
    tags = known.get("tags")
    said = (("licence", known.get("license")), ("tags", ", ".join(map(str, tags)) if isinstance(tags, list) else tags))
    return [_line_of(said), dcc.Markdown(body, className="card-text", link_target="_blank")]


def _card(title: str, content: Any) -> html.Section:
    return html.Section([html.H2(title), *(content if isinstance(content, list) else [content])], className="card")


def metrics(exhibit: Exhibit, predictions: Predictions) -> Any:
    """The record's figures with their intervals beside the baseline's; without a record, what the test set gives."""
    record = exhibit.record
    found = record.get("metrics") or {}
    if not found:
        accuracy = predictions.accuracy
        if accuracy is None:
            return states.notice(
                "No figures",
                "There is no training record, and no true labels to measure with.",
                "Give the data labels to see accuracy and errors.",
            )
        return _table(
            ("", "value", "95 % interval"), [("accuracy", percent(accuracy[0]), f"{percent(accuracy[1])} to {percent(accuracy[2])}")]
        )
    baseline = record.get("baseline") or {}
    others = baseline.get("metrics") or {}
    rows = []
    for name, value in found.items():
        if not isinstance(value, dict) or "value" not in value:
            continue
        rows.append((TITLES.get(name, name.replace("_", " ")), _said(value), _said(others.get(name))))
    table = _table(("", "this model", f"baseline: {baseline.get('name', 'none')}"), rows)
    return [table, html.Div("On the test set, with 95 % bootstrap intervals.", className="dim")]


def _said(value: Any) -> Any:
    if not isinstance(value, dict) or "value" not in value:
        return "–"
    return [
        html.Strong(_rounded(value["value"])),
        html.Span(f" [{_rounded(value['low'])}, {_rounded(value['high'])}]" if "low" in value else "", className="dim"),
    ]


def _rounded(value: float) -> str:
    """Three significant digits, but never a 1 that is not one."""
    return percent(value) if 0.999 < value < 1 else three(value)


def capabilities(desk: Desk, exhibit: Exhibit) -> html.Div:
    """Per method, by family: exact, approximate or unsupported on this model, and why; and what was found in its module."""
    able = desk.methods(exhibit)
    groups = [
        html.Details(
            [_heading(group, names, able), *(_able(n, able[n]) for n in names)], open=any(able[n].level != "unsupported" for n in names)
        )
        for group, names in grouped(able).items()
    ]
    inside = desk.views(exhibit)
    views = [_line(html.Strong(VIEWS[name].title), found) for name, found in inside.items()]
    groups.append(
        html.Details([_heading(GROUP, list(inside), inside), *views], open=any(found.level != "unsupported" for found in inside.values()))
    )
    facts = desk.facts(exhibit)
    if facts:
        lines = [
            html.Div([html.Strong(what), html.Span(f" {where}", className="dim"), html.Div(means, className="dim")], className="able")
            for what, where, means in facts
        ]
        groups.append(html.Details([html.Summary(f"Found in the module ({len(facts)})"), *lines], open=True))
    return html.Div(groups, className="abilities")


def _heading(group: str, names: list[str], able: Mapping[str, Capability]) -> html.Summary:
    valid = sum(able[name].level != "unsupported" for name in names)
    return html.Summary([html.Strong(group), html.Span(f" {valid} of {len(names)}", className="dim")])


def _able(name: str, able: Capability) -> html.Div:
    title: Any = html.Strong(METHODS[name].title)
    if able.level != "unsupported":
        title = html.Button(
            METHODS[name].title,
            type="button",
            className="link",
            title="Open in Inspect",
            **states.go({"a": name, "layer_a": ""}, "/inspect"),
        )
    return _line(title, able)


def _line(title: Any, able: Capability) -> html.Div:
    level = badge.level(LEVELS[able.level], able.level)
    return html.Div([html.Div([title, level], className="spread"), html.Div(able.reason, className="dim")], className="able")


def _calibration(predictions: Predictions) -> list[Any]:
    figure = plots.plot_calibration(predictions.scores, predictions.labels)
    return [graph(_short(figure, 300), label="How often the model was right, by how sure it was")]


def _short(figure: Any, height: int) -> Any:
    return figure.update_layout(title=None, height=height, margin={"l": 8, "r": 8, "t": 44, "b": 8})


def _facts(record: dict[str, Any]) -> html.Div:
    said = [
        ("epochs", record.get("epochs")),
        ("took", states.duration(record["seconds"]) if isinstance(record.get("seconds"), (int, float)) else None),
        ("device", record.get("device")),
        ("seed", record.get("seed")),
        ("weights", f"{str(record['weights_sha256'])[:12]}…" if record.get("weights_sha256") else None),
        ("data", f"{str(record['data_sha256'])[:12]}…" if record.get("data_sha256") else None),
    ]
    return _line_of(said)


def _line_of(said: Iterable[tuple[str, Any]]) -> html.Div:
    known = [(name, value) for name, value in said if value is not None]
    return html.Div([html.Span([html.Span(f"{n} ", className="dim"), str(v)], className="stat") for n, v in known], className="facts-line")


def _table(head: tuple[Any, ...], rows: list[tuple[Any, ...]]) -> dmc.Table:
    return html.Div(
        dmc.Table(
            [
                dmc.TableThead(dmc.TableTr([dmc.TableTh(h) for h in head])),
                dmc.TableTbody([dmc.TableTr([dmc.TableTd(c) for c in row]) for row in rows]),
            ],
            className="plain-table",
            verticalSpacing=4,
            horizontalSpacing=8,
        ),
        className="scroll",
    )
