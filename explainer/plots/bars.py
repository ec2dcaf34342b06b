"""Sorted bars: the figure of a table's row, and of the top words, superpixels or segments of anything else."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from explainer.explanation import Explanation
from explainer.plots.look import INTERVAL, Part, bar_colours, escape, finish, heading, part, shown, three


def plot_bars(ex: Explanation, *, instance: int = 0, output: int | str | None = None, top: int = 12, dark: bool = False) -> go.Figure:
    """Draw the ``top`` largest values as bars, the largest first, with 95 % error bars, and one bar for the rest."""
    drawn = part(ex, instance, output)
    figure = go.Figure(bar_trace(drawn, top))
    rows = min(drawn.values.size, top) + (drawn.values.size > top)
    finish(figure, dark=dark, height=130 + 26 * max(rows, 3), title=heading(drawn), bargap=0.3)
    annotate_errors(figure)
    figure.update_xaxes(title=escape(axis_title(drawn)), zeroline=True, range=span(figure.data[0]))
    # Category: words such as "4.0" are names here, not places on a scale.
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False, ticksuffix="  ")
    return figure


def bar_trace(drawn: Part, top: int) -> go.Bar:
    """The bars alone, for figures that set them beside something else."""
    values = drawn.values.ravel()
    errors = None if drawn.stderr is None else drawn.stderr.ravel()
    order = np.argsort(-np.abs(np.where(np.isfinite(values), values, 0.0)), kind="stable")
    # One feature more than fits is shown itself: a bar "rest of 1 feature" would take the same room.
    order, rest = (order, order[:0]) if len(order) <= top + 1 else (order[:top], order[top:])
    x, names = list(values[order]), labels(drawn)
    y = [names[i] for i in order]
    spread = None if errors is None else list(errors[order] * INTERVAL)
    if len(rest):
        x.append(float(np.nansum(values[rest])))
        y.append(f"rest of {len(rest)} features")
        if spread is not None:
            # None for the rest: the errors of sampled values depend on each other, so those of a sum are not known from
            # theirs, and the bound that always holds (their plain sum) would dwarf every other bar.
            spread.append(float("nan"))
    numbers = np.array(x)
    around = "" if spread is None else " ± %{error_x.array:.3~g}"
    return go.Bar(
        x=numbers,
        # Positions, not names: two words or columns may be called the same, and plotly would stack them.
        y=unique(y),
        orientation="h",
        marker={"color": bar_colours(numbers, drawn.magnitude)},
        error_x=None if spread is None else {"type": "data", "array": spread, "color": "#7f7f7f", "thickness": 1.4, "width": 4},
        # Error bars would run through the numbers: then annotate_errors() sets them beside the plot instead.
        text=[three(v) for v in numbers] if spread is None else None,
        textposition="auto",
        textangle=0,
        hovertemplate="%{y}: %{x:.3~g}" + around + "<extra></extra>",
        showlegend=False,
        cliponaxis=False,
    )


def span(bars: go.Bar) -> list[float]:
    """Ends of the axis, with room beyond the bars for the numbers that stand outside them."""
    half = 0.0 if bars.error_x.array is None else np.nan_to_num(np.asarray(bars.error_x.array, dtype=float))
    x = np.nan_to_num(np.asarray(bars.x, dtype=float))
    low, high = min(0.0, float((x - half).min())), max(0.0, float((x + half).max()))
    pad = 0.12 * (high - low or 1.0)
    return [low - pad * (low < 0), high + pad * (high > 0)]


def annotate_errors(figure: go.Figure, bars: go.Bar | None = None, axes: str = "") -> None:
    """Where error bars are drawn, write each value and half its interval in a column on the right; ``axes`` is their number."""
    bars = figure.data[0] if bars is None else bars
    if bars.error_x.array is None:
        return
    for name, value, half in zip(bars.y, bars.x, bars.error_x.array, strict=True):
        figure.add_annotation(
            text=three(value) + ("" if np.isnan(half) else f" ± {half:.2g}"),
            x=1.01,
            xref=f"x{axes} domain",
            xanchor="left",
            y=name,
            yref=f"y{axes}",
            showarrow=False,
            font={"size": 11},
        )
    figure.update_layout(margin={"r": 118})


def add_bars(figure: go.Figure, drawn: Part, top: int, row: int, axes: str) -> go.Bar:
    """Put the ``top`` values with their error bars into row ``row`` of a figure of several, whose axes there are numbered ``axes``."""
    bars = bar_trace(drawn, top)
    figure.add_trace(bars, row, 1)
    figure.update_xaxes(title=escape(axis_title(drawn)), zeroline=True, range=span(bars), row=row, col=1)
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False, ticksuffix="  ", row=row, col=1)
    annotate_errors(figure, bars, axes)
    return bars


def labels(drawn: Part) -> list[str]:
    """Names of the features, on a table with the row's own value."""
    names = [escape(n if len(n) <= 40 else n[:39] + "…") for n in drawn.names]
    inputs: Any = drawn.ex.inputs
    if drawn.axes != ("column",) or not hasattr(inputs, "iloc"):
        return names
    if "rules" in drawn.ex.extras:  # the bins that a linear stand-in speaks of
        return [escape(rule) for rule in drawn.ex.extras["rules"][0]]
    row = inputs.iloc[0]
    known = {str(column): row.iloc[k] for k, column in enumerate(inputs.columns)}
    return [f"{n} = {escape(shown(known[raw]))}" if raw in known else n for n, raw in zip(names, drawn.names, strict=True)]


def unique(names: list[str]) -> list[str]:
    """The same names, repeats numbered."""
    seen: dict[str, int] = {}
    result = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        result.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return result


def axis_title(drawn: Part) -> str:
    """What the lengths mean, and for additive methods from where to where they lead."""
    if drawn.rule:
        return "gain in the share of perturbed copies that agree"
    if drawn.magnitude:
        return "size (no direction)"
    scale_name = "score" if drawn.ex.output == "raw" else drawn.ex.output
    if not drawn.ex.additive:
        return f"effect on the {scale_name} of {drawn.target}"
    return f"contribution to the {scale_name} of {drawn.target}: from {three(drawn.base)} (base) to {three(drawn.score)}"
