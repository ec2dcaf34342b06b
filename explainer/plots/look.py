"""The one look of every figure: palette, theme, titles, rounding."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from explainer.errors import InvalidInput, unknown
from explainer.explanation import Explanation, label_of
from explainer.numerals import rounded

# Blue - white - red (after ColorBrewer's RdBu): told apart by every common colour blindness, and on light and dark ground.
NEGATIVE, MIDDLE, POSITIVE = "#2166ac", "#f7f7f7", "#b2182b"
DIVERGING = [[0.0, NEGATIVE], [0.25, "#67a9cf"], [0.5, MIDDLE], [0.75, "#ef8a62"], [1.0, POSITIVE]]
# Magnitudes have no direction, so they get a hue of their own: nobody should read "towards" or "against" in them.
SEQUENTIAL = [[0.0, MIDDLE], [0.5, "#998ec3"], [1.0, "#542788"]]
# Bars and lines need contrast on white and on black alike, hence the palette's middle tones.
BAR_NEGATIVE, BAR_POSITIVE, BAR_MAGNITUDE, NEUTRAL = "#4393c3", "#d6604d", "#8073ac", "#8c8c8c"
SYMBOLS = {"pass": "✓", "warn": "!", "fail": "✗", "not run": "○"}
INTERVAL = 1.96  # standard errors on either side of a value: a 95 % interval


@dataclass(frozen=True)
class Part:
    """One instance and one output of an explanation: all that a figure shows."""

    ex: Explanation
    values: np.ndarray
    stderr: np.ndarray | None
    base: float
    score: float
    target: str

    @property
    def axes(self) -> tuple[str, ...]:
        """The feature axes alone."""
        return tuple(axis for axis in self.ex.axes[1:] if axis != "output")

    @property
    def names(self) -> tuple[str, ...]:
        """One name per value, in the order of ``values.ravel()``."""
        names = self.ex.feature_names[0]
        if len(names) == self.values.size:
            return names
        first = names if len(names) == len(self.values) else tuple(f"{self.axes[0]} {i}" for i in range(len(self.values)))
        return tuple(
            ", ".join((first[w[0]], *(f"{a} {k}" for a, k in zip(self.axes[1:], w[1:], strict=True))))
            for w in np.ndindex(*self.values.shape)
        )

    @property
    def magnitude(self) -> bool:
        """Whether the values have a size but no direction (saliency, attention): then zero is an end, not the middle."""
        finite = self.values[np.isfinite(self.values)]
        return not self.ex.additive and not self.rule and bool((finite >= 0).all())

    @property
    def rule(self) -> str:
        """What an explanation by a rule says in words; empty for all others."""
        told = self.ex.extras.get("rule", ("",))[0]
        if isinstance(told, str):
            return told
        return str(told[[label_of(self.ex, j) for j in range(len(told))].index(self.target)])

    @property
    def limit(self) -> float:
        """The largest absolute value: the end of every colour scale."""
        finite = np.abs(self.values[np.isfinite(self.values)])
        return float(finite.max()) if finite.size and finite.max() > 0 else 1.0


def part(ex: Explanation, instance: int = 0, output: int | str | None = None) -> Part:
    """Pick what is drawn: an instance, and with ``target="all"`` an output (by default the one with the highest score)."""
    if not isinstance(ex, Explanation):
        raise InvalidInput(f"plot() draws an Explanation, as explainer.explain() returns; {type(ex).__name__} came.")
    one = ex[instance]
    if one.axes[-1] != "output":
        if output is not None:
            raise InvalidInput(f'This explanation has one target, {one.target[0]!r}; output= needs one made with target="all".')
        stderr = None if one.stderr is None else one.stderr[0]
        return Part(one, one.values[0], stderr, float(np.ravel(one.base_values)[0]), float(np.ravel(one.scores)[0]), one.target[0])
    j = int(np.argmax(one.scores[0])) if output is None else _output(output, one.class_names)
    stderr = None if one.stderr is None else one.stderr[0][..., j]
    return Part(one, one.values[0][..., j], stderr, float(one.base_values[0][j]), float(one.scores[0][j]), label_of(one, j))


def _output(output: int | str, class_names: tuple[str, ...]) -> int:
    if output in class_names:
        return class_names.index(str(output))
    if isinstance(output, (int, np.integer)) and 0 <= output < len(class_names):
        return int(output)
    raise unknown("output", output, class_names)


def three(value: float) -> str:
    """Three significant digits, thousands separated: 0.0123, 4.57, 12,300."""
    return rounded(value, 3)


def shown(value: Any) -> str:
    """An input's own value as a label: whole numbers whole, others to three digits, long words cut, missing said."""
    if value is None or (isinstance(value, (float, np.floating)) and np.isnan(value)) or str(value) in ("<NA>", "NaT"):
        return "missing"
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value))
    if isinstance(value, (int, float, np.number)):
        return f"{int(value):,}" if float(value).is_integer() and abs(float(value)) < 1e15 else three(float(value))
    text = str(value)
    return text if len(text) <= 24 else text[:23] + "…"


def rgba(colour: str, alpha: float) -> str:
    """``#rrggbb`` as ``rgba(...)``."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha:.3f})"


def tint(value: float, limit: float, magnitude: bool = False) -> str:
    """A see-through background for ``value``: at most half opaque, so that text on it reads in both themes."""
    if not np.isfinite(value) or value == 0 or limit <= 0:
        return "rgba(0,0,0,0)"
    colour = BAR_MAGNITUDE if magnitude else BAR_POSITIVE if value > 0 else BAR_NEGATIVE
    return rgba(colour, 0.55 * min(1.0, abs(value) / limit))


def bar_colours(values: np.ndarray, magnitude: bool) -> list[str]:
    return [BAR_MAGNITUDE if magnitude else BAR_POSITIVE if v > 0 else BAR_NEGATIVE for v in values]


def scale(drawn: Part) -> dict[str, Any]:
    """Heat map arguments: zero in the middle of blue - white - red, or at the light end of a magnitude's scale."""
    if drawn.magnitude:
        return {"colorscale": SEQUENTIAL, "zmin": 0.0, "zmax": drawn.limit}
    return {"colorscale": DIVERGING, "zmin": -drawn.limit, "zmax": drawn.limit, "zmid": 0.0}


def colour_bar(drawn: Part) -> dict[str, Any]:
    return {"title": {"text": "size" if drawn.magnitude else "contribution", "side": "right"}, "thickness": 12, "tickformat": ".3~g"}


def heading(drawn: Part) -> dict[str, Any]:
    """A title that says method, target, score and verdict; the deciding sentence of the verdict below it."""
    verdict = drawn.ex.verdict
    scale_name = "score" if drawn.ex.output == "raw" else drawn.ex.output
    score = f"{scale_name} {three(drawn.score)}"
    words = f"{method_title(drawn.ex.method)} for {drawn.target} · {score} · verdict: {SYMBOLS[verdict.status]} {verdict.status}"
    lines = [text if len(text) <= 110 else text[:109] + "…" for text in (drawn.rule, verdict.reason) if text]
    return {
        "text": escape(words),
        "subtitle": {"text": "<br>".join(map(escape, lines)), "font": {"size": 11}},
        "font": {"size": 14},
        "x": 0.01,
        "xanchor": "left",
    }


def method_title(method: str) -> str:
    """The name people use: "SHAP" for shap; a user's own function keeps its name."""
    from explainer import methods

    known = getattr(methods, "METHODS", {}).get(method)
    return known.title if known else method


def escape(text: str) -> str:
    """Text for plotly's labels, which would read ``<`` as the start of a tag."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def finish(figure: go.Figure, *, dark: bool = False, height: int | None = None, **layout: Any) -> go.Figure:
    """Put the theme on: see-through ground, so that the page's own light or dark shows; only ink and grid change."""
    ink, grid = ("#e6e6e6", "rgba(255,255,255,0.16)") if dark else ("#212529", "rgba(0,0,0,0.10)")
    axis = {"gridcolor": grid, "zerolinecolor": ink, "linecolor": grid, "automargin": True}
    figure.update_layout(
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": ink, "size": 12, "family": "system-ui, Segoe UI, Roboto, Helvetica, Arial, sans-serif"},
        hoverlabel={"font": {"family": "system-ui, sans-serif"}},
        margin={"l": 12, "r": 12, "t": 64, "b": 40},
        height=height,
        **layout,
    )
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    return figure


def nothing(reason: str, dark: bool = False) -> go.Figure:
    """A figure that says why there is nothing to draw."""
    figure = go.Figure()
    lines = "<br>".join(textwrap.wrap(escape(reason), 80))
    figure.add_annotation(text=lines, x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False, font={"size": 14})
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return finish(figure, dark=dark, height=160)
