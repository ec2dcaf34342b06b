"""What a fix of the data does to attributions: each column before and after, with the spread over models."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from explainer.inspection.effect import Effect
from explainer.plots.dependence import titled
from explainer.plots.look import BAR_MAGNITUDE, BAR_POSITIVE, NEUTRAL, escape, finish, shown


def plot_effect(found: Effect, *, top: int = 12, dark: bool = False) -> go.Figure:
    """Draw mean absolute attribution per column, before and after, largest first; data without columns show the measures."""
    said = "more than retraining moves them" if found.shifted else "no more than retraining moves them"
    title = titled(f"Attributions before and after the fix: they move {said}", f"p = {found.p:.2g} · bars: standard deviation over models")
    figure = go.Figure()
    if not found.features:
        names = [m.name for m in found.measures]
        spread = {"array": [m.spread for m in found.measures], "thickness": 1.4, "color": NEUTRAL}
        figure.add_bar(x=[m.noise for m in found.measures], y=names, error_x=spread, name="by retraining", orientation="h",
                       marker_color=NEUTRAL)  # fmt: skip
        figure.add_bar(x=[m.shift for m in found.measures], y=names, name="across the fix", orientation="h", marker_color=BAR_POSITIVE)
        finish(figure, dark=dark, height=300, title=title)
        return figure.update_layout(margin={"t": 76}).update_yaxes(autorange="reversed").update_xaxes(title="distance of attributions")
    order = np.argsort(-np.maximum(found.before.mean(axis=0), found.after.mean(axis=0)), kind="stable")[:top]
    labels = [escape(shown(found.features[j])) for j in order]
    for name, values, colour in (("before", found.before, BAR_MAGNITUDE), ("after", found.after, BAR_POSITIVE)):
        spread = {"array": values.std(axis=0, ddof=1)[order], "thickness": 1.4, "color": NEUTRAL}
        figure.add_bar(x=values.mean(axis=0)[order], y=labels, error_x=spread, name=name, orientation="h", marker_color=colour)
    finish(figure, dark=dark, height=130 + 36 * len(order), title=title)
    figure.update_layout(margin={"t": 76}, bargap=0.25).update_yaxes(autorange="reversed", showgrid=False)
    return figure.update_xaxes(title=escape(f"mean size of attributions by {found.method} for {found.target}"), rangemode="tozero")
