"""The figure of one case's principal reasons."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go

from explainer.inspection.notices import Change, Reasons
from explainer.plots.bars import annotate_errors, span, unique
from explainer.plots.look import BAR_NEGATIVE, SYMBOLS, escape, finish, rgba, three


def plot_reasons(found: Reasons, *, instance: int = 0, dark: bool = False) -> go.Figure:
    """Draw how far each reason lowered the score, with its 95 % interval (faint where that holds 0), and how stable the set is."""
    case = found[instance]
    values = np.array([reason.value for reason in case.reasons])
    halves = [reason.high - reason.value for reason in case.reasons]
    figure = go.Figure(
        go.Bar(
            x=values,
            y=unique(["<br>".join(escape(line) for line in textwrap.wrap(reason.text, 34)) for reason in case.reasons]),
            orientation="h",
            marker={"color": [BAR_NEGATIVE if reason.distinguishable else rgba(BAR_NEGATIVE, 0.35) for reason in case.reasons]},
            error_x={"type": "data", "array": halves, "color": "#7f7f7f", "thickness": 1.4, "width": 4},
            customdata=[escape("; ".join(reason.facts)) for reason in case.reasons],
            hovertemplate="%{x:.3~g}<br>%{customdata}<extra></extra>",
        )
    )
    scale = "score" if found.output == "raw" else found.output
    decided = "approved" if case.approved else "not approved"
    words = f"Row {case.row}: {scale} of {found.target} {three(case.score)}, {decided} (cutoff {three(found.cutoff)})"
    title = {
        "text": escape(f"{words} · reasons: {SYMBOLS[case.verdict.status]} {case.verdict.status}"),
        "subtitle": {"text": escape(_stability(case.changes)), "font": {"size": 11}},
        "font": {"size": 14},
        "x": 0.01,
        "xanchor": "left",
    }
    finish(figure, dark=dark, height=150 + 44 * max(len(values), 2), title=title, bargap=0.35, showlegend=False)
    if case.why_none:
        words = "<br>".join(textwrap.wrap(escape(case.why_none), 90))
        figure.add_annotation(
            text=words, x=0, xanchor="left", y=0.5 if not len(values) else -0.34, xref="paper", yref="paper", showarrow=False, align="left"
        )
        figure.update_layout(margin={"b": 40 if not len(values) else 120})
    if not len(values):
        figure.update_xaxes(visible=False)
        figure.update_yaxes(visible=False)
        return figure
    annotate_errors(figure)
    low, high = span(figure.data[0])
    figure.update_xaxes(
        range=[low, max(high, 0.0)], title=escape(f"how far it lowered the {scale}, against {found.described}"), zeroline=True
    )
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False, ticksuffix="  ")
    return figure


def _stability(changes: Mapping[str, Change]) -> str:
    """How often other reasons come out, by what is varied."""
    told = {"seeds": "other seeds", "backgrounds": "other draws of the background", "baselines": "other populations"}
    parts = [f"{changes[kind].reasons:.0%} of {words}" for kind, words in told.items() if changes[kind].runs]
    return f"the set of reasons changes in {', '.join(parts)}" if parts else "not rerun, so its stability is not known"
