"""Text: words tinted where they stand, and bars for the words that counted most."""

from __future__ import annotations

import plotly.graph_objects as go

from explainer.explanation import Explanation
from explainer.plots.bars import annotate_errors, axis_title, bar_trace, span
from explainer.plots.look import Part, escape, finish, heading, part, three, tint

WIDTH, LINES = 760, 36
_MARGIN, _CHARACTER, _LINE = 16, 0.6 * 12, 21  # pixels: a monospaced letter is 0.6 of its size wide
_PLOT = WIDTH - 2 * _MARGIN
COLUMNS = int(_PLOT / _CHARACTER)


def tinted(ex: Explanation, *, instance: int = 0, output: int | str | None = None) -> list[tuple[str, float | None, str]]:
    """The text in pieces ``(text, value, background)``; joined, the pieces are the text. Value None between the words.

    For pages that can set a background behind a word by themselves; the colours are see-through, so they read on light
    and dark alike.
    """
    return _pieces(part(ex, instance, output))


def plot_text(ex: Explanation, *, instance: int = 0, output: int | str | None = None, top: int = 10, dark: bool = False) -> go.Figure:
    """Draw the words tinted in place, hover telling each value, over bars of the ``top`` words."""
    drawn = part(ex, instance, output)
    placed, hidden = _lay(_pieces(drawn))
    lines = 1 + max((line for _, _, line, *_ in placed), default=0) + (hidden > 0)
    bars = bar_trace(drawn, top)
    bar_height = 26 * max(len(bars.y), 3) + 16
    inner = lines * _LINE + 16 + bar_height
    figure = go.Figure(bars)
    # A fixed width, and room for the bars' labels inside the plot: only so do the words' places in pixels hold.
    finish(figure, dark=dark, height=inner + 64 + 48, width=WIDTH, title=heading(drawn), bargap=0.3)
    figure.update_layout(margin={"l": _MARGIN, "r": _MARGIN, "t": 64, "b": 48})
    figure.update_xaxes(title=escape(axis_title(drawn)), zeroline=True, automargin=False, domain=[0.24, 1], range=span(bars))
    figure.update_yaxes(autorange="reversed", showgrid=False, ticksuffix="  ", automargin=False, domain=[0, bar_height / inner])
    annotate_errors(figure)
    if bars.error_x.array is not None:
        figure.update_xaxes(domain=[0.24, 0.84])
        figure.update_layout(margin={"r": _MARGIN})
    words = [_word(*word, height=inner) for word in placed]
    if hidden:
        words.append(_word(f"... and {hidden:,} more words", 0, lines - 1, None, "", height=inner))
    figure.update_layout(annotations=[*figure.layout.annotations, *words])
    return figure


def _pieces(drawn: Part) -> list[tuple[str, float | None, str]]:
    words, values = drawn.names, drawn.values.ravel()
    spans = drawn.ex.extras.get("spans")
    text = str(drawn.ex.inputs[0])
    pieces: list[tuple[str, float | None, str]] = []
    last = 0
    for i, (word, value) in enumerate(zip(words, values, strict=True)):
        start, end = (int(s) for s in spans[0][i]) if spans else (0, 0)
        between = text[last:start] if spans else " " if pieces else ""
        if between:
            pieces.append((between, None, ""))
        pieces.append((text[start:end] if spans else word, float(value), tint(float(value), drawn.limit, drawn.magnitude)))
        last = end
    if spans and last < len(text):
        pieces.append((text[last:], None, ""))
    return pieces


def _lay(pieces: list[tuple[str, float | None, str]]) -> tuple[list[tuple[str, int, int, float | None, str]], int]:
    """Place the pieces on lines of ``COLUMNS`` characters: ``(text, column, line, value, background)``, and how many did not fit."""
    placed: list[tuple[str, int, int, float | None, str]] = []
    column, line, hidden = 0, 0, 0
    for text, value, colour in pieces:
        chunks = text.split() if value is None else [" ".join(text.split())]
        if value is None and text[:1].isspace() and column:
            column += 1
        for k, chunk in enumerate(chunks):
            chunk = chunk[:COLUMNS]
            if k:
                column += 1
            if column + len(chunk) > COLUMNS:
                column, line = 0, line + 1
            if line < LINES:
                placed.append((chunk, column, line, value, colour))
            else:
                hidden += value is not None
            column += len(chunk)
        if value is None and chunks and text[-1:].isspace():
            column += 1
    return placed, hidden


def _word(text: str, column: int, line: int, value: float | None, colour: str, *, height: int) -> dict[str, object]:
    return {
        "text": escape(text),
        "hovertext": None if value is None else f"{escape(text)}: {three(value)}",
        "xref": "paper",
        "yref": "paper",
        "x": column * _CHARACTER / _PLOT,
        "xanchor": "left",
        "y": 1 - (line + 0.5) * _LINE / height,
        "yanchor": "middle",
        "showarrow": False,
        "bgcolor": colour or "rgba(0,0,0,0)",
        "borderpad": 1,
        "font": {"family": "DejaVu Sans Mono, Menlo, Courier New, monospace", "size": 12},
    }
