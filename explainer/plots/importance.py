"""Figures over many rows: importance with its intervals, and one column's contributions beside its strongest partner."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from explainer.inspection.contributions import Contributions
from explainer.inspection.importance import Importance
from explainer.plots.bars import unique
from explainer.plots.look import BAR_MAGNITUDE, BAR_NEGATIVE, BAR_POSITIVE, DIVERGING, NEUTRAL, escape, finish, method_title, rgba, three

_FAINT = 0.35  # of a bar whose interval holds 0
_KINDS = 8  # categories told apart by colour; the others stand together
_COLOURS = (BAR_NEGATIVE, BAR_POSITIVE, BAR_MAGNITUDE, "#1b7837", "#b35806", "#01665e", "#c51b7d", "#737373")


def plot_importance(found: Importance, *, top: int = 15, dark: bool = False) -> go.Figure:
    """Draw the ``top`` most important parts with their 95 % intervals; faint where the interval holds 0."""
    order = found.order[:top]
    values, low, high = found.values[order], found.low[order], found.high[order]
    figure = go.Figure(
        go.Bar(
            x=values,
            y=unique([escape(_cut(found.names[i])) for i in order]),
            orientation="h",
            marker={"color": [BAR_MAGNITUDE if a > 0 or b < 0 else rgba(BAR_MAGNITUDE, _FAINT) for a, b in zip(low, high, strict=True)]},
            error_x={"type": "data", "array": high - values, "arrayminus": values - low, "color": "#7f7f7f", "thickness": 1.4, "width": 4},
            customdata=np.stack([low, high], axis=1),
            hovertemplate="%{y}: %{x:.3~g} (95 % %{customdata[0]:.3~g} to %{customdata[1]:.3~g})<extra></extra>",
        )
    )
    figure = finish(figure, dark=dark, height=130 + 26 * max(len(order), 3), bargap=0.3, showlegend=False, title=_over(found))
    scale = "score" if found.output == "raw" else found.output
    what = f"mean {found.target} saved" if found.kind == "sage" else f"mean size of the contribution to the {scale} of {found.target}"
    figure.update_xaxes(title=escape(what), zeroline=True)
    figure.update_yaxes(autorange="reversed", type="category", showgrid=False, ticksuffix="  ")
    return figure


def plot_contributions(found: Contributions, *, dark: bool = False) -> go.Figure:
    """Draw each row's contribution against the column's own value, coloured by the column it interacts with most."""
    figure = go.Figure()
    own, bars = _axis(found.own), None
    if found.stderr.max() > 0:
        bars = {"type": "data", "array": 1.96 * found.stderr, "color": rgba(NEUTRAL, 0.35), "thickness": 1, "width": 0}
    for name, rows, marker in _groups(found, dark):
        figure.add_trace(
            go.Scatter(
                x=own[rows],
                y=found.values[rows],
                mode="markers",
                name=name,
                marker={"size": 7, "line": {"width": 0.5, "color": "#7f7f7f"}, **marker},
                error_y=None if bars is None else {**bars, "array": 1.96 * found.stderr[rows]},
                customdata=None if found.other is None else [_word(v) for v in found.other[rows]],
                hovertemplate=f"{escape(found.column)} %{{x}}: %{{y:.3~g}}"
                + (f"<br>{escape(str(found.partner))} %{{customdata}}" if found.partner else "")
                + "<extra></extra>",
            )
        )
    finish(figure, dark=dark, height=420, title=_beside(found), legend={"title": {"text": escape(str(found.partner))}})
    figure.update_xaxes(title=escape(found.column), zeroline=False)
    scale = "score" if found.output == "raw" else found.output
    figure.update_yaxes(title=escape(f"contribution to the {scale} of {found.target}"), zeroline=True)
    return figure


def _over(found: Importance) -> dict[str, Any]:
    stopped = "" if found.complete else " (stopped early)"
    if found.kind == "sage":
        assert found.losses is not None
        words = f"SAGE over {found.rows:,} rows{stopped}"
        below = (
            f"{found.target} {three(found.losses[0])} knowing nothing, {three(found.losses[1])} knowing all; the bars sum to the difference"
        )
    else:
        words = f"{method_title(found.provenance.method)} over {found.rows:,} rows{stopped}"
        below = "mean size of contributions; noise of sampled values taken off" if found.noise.max() > 0 else "mean size of contributions"
    return _title(words, f"{below} · 95 % intervals")


def _beside(found: Contributions) -> dict[str, Any]:
    words = f"{method_title(found.method)} of {found.column} over {len(found):,} rows"
    if found.partner is None:
        return _title(words, "there is no other column")
    share = f"{found.partner} explains {found.strength[found.partner]:.0%} of the {found.left:.0%} its own value leaves"
    chance = "more than chance" if found.certain else "not told from chance"
    return _title(words, f"{share} (the strongest interaction is {chance}, p = {found.p_value:.2g})")


def _title(words: str, below: str) -> dict[str, Any]:
    subtitle = {"text": escape(below), "font": {"size": 11}}
    return {"text": escape(words), "subtitle": subtitle, "font": {"size": 14}, "x": 0.01, "xanchor": "left"}


def _cut(name: str) -> str:
    return name if len(name) <= 40 else name[:39] + "…"


def _axis(values: np.ndarray) -> np.ndarray:
    """Numbers as they are, anything else as words."""
    return values if values.dtype.kind in "fiu" else np.array([_word(v) for v in values], dtype=object)


def _word(value: Any) -> str:
    if value is None or value != value:
        return "missing"
    return three(float(value)) if isinstance(value, (float, np.floating)) else str(value)


def _groups(found: Contributions, dark: bool) -> list[tuple[str, np.ndarray, dict[str, Any]]]:
    """Rows of one look: a colour scale over a numeric partner (what is missing apart), or one colour per category."""
    every = np.arange(len(found))
    if found.other is None:
        return [("", every, {"color": BAR_MAGNITUDE, "showscale": False})]
    if found.other.dtype.kind not in "fiu" or len(np.unique(found.other[found.other == found.other])) <= 3:
        words = np.array([_word(v) for v in found.other])
        names, counts = np.unique(words, return_counts=True)
        names = names[np.argsort(-counts, kind="stable")]
        shown, rest = names[: _KINDS - 1 if len(names) > _KINDS else _KINDS], names[_KINDS - 1 :] if len(names) > _KINDS else names[:0]
        groups = [(escape(n), np.flatnonzero(words == n), {"color": c}) for n, c in zip(shown, _COLOURS, strict=False)]
        return [*groups, ("others", np.flatnonzero(np.isin(words, rest)), {"color": NEUTRAL})] if len(rest) else groups
    other = found.other.astype(float)
    known = np.isfinite(other)
    low, high = np.quantile(other[known], [0.05, 0.95])  # a few far values would leave the others one colour
    bar = {"title": {"text": escape(str(found.partner)), "side": "right"}, "thickness": 12, "tickformat": ".3~g"}
    marker = {"color": other[known], "colorscale": DIVERGING, "cmin": low, "cmax": high, "colorbar": bar}
    groups = [("", every[known], marker)]
    return groups if known.all() else [*groups, ("missing", every[~known], {"color": NEUTRAL, "symbol": "x"})]
