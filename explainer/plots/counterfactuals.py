"""Counterfactuals of one row as a table: what it is, and beside it what it would have had to be."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from explainer.inspection.counterfactuals import Counterfactuals
from explainer.plots.dependence import titled
from explainer.plots.look import BAR_MAGNITUDE, BAR_NEGATIVE, BAR_POSITIVE, escape, finish, nothing, rgba, shown, three

_ROW = 30  # pixels


def plot_counterfactuals(found: Counterfactuals, *, instance: int = 0, dark: bool = False) -> go.Figure:
    """Draw the columns that change, up in red, down in blue, another category in violet; below, what each answer is worth.

    Without an answer the figure says why there is none.
    """
    chosen = found.of(instance)
    i = instance % len(found)
    if not len(chosen):
        return nothing(found.reasons[i], dark)
    moved = found.changed[chosen]
    columns = [j for j in np.argsort(-moved.sum(axis=0), kind="stable") if moved[:, j].any()]
    # The class that gains most is what the answers are about.
    gain = (found.scores[chosen] - found.original_scores[i]).mean(axis=0)
    c = int(gain.argmax()) if len(gain) > 1 else 0
    scale = "score" if found.output == "raw" else f"{found.output} of"
    names = [f"<b>{escape(f'{scale} {found.class_names[c]}')}</b>", *(escape(str(found.rows.columns[j])) for j in columns)]
    names += ["columns changed", "distance", "plausibility"]
    own = [f"<b>{three(float(found.original_scores[i, c]))}</b>", *(_value(found.originals.iloc[i, j]) for j in columns), "", "", ""]
    cells, fills = [names, own], [_plain(len(names)), _plain(len(names))]
    for m in chosen:
        texts, tints = zip(*(_cell(found, i, m, j) for j in columns), strict=True)
        worth = [str(found.changes[m]), three(float(found.distance[m])), f"{found.plausibility[m]:.0%}"]
        cells.append([f"<b>{three(float(found.scores[m, c]))}</b>", *texts, *worth])
        fills.append([_CLEAR, *tints, *_plain(3)])
    ink, line = ("#e6e6e6", "rgba(255,255,255,0.16)") if dark else ("#212529", "rgba(0,0,0,0.10)")
    look = {"align": ["left", *["right"] * (len(cells) - 1)], "line": {"color": line}, "height": _ROW}
    head = ["", "as it is", *(f"answer {k + 1}" for k in range(len(chosen)))]
    figure = go.Figure(go.Table(
        columnwidth=[2.2, *[1.2] * (len(cells) - 1)],
        header={"values": [f"<b>{h}</b>" for h in head], "fill": {"color": _CLEAR}, "font": {"color": ink, "size": 12}, **look},
        cells={"values": cells, "fill": {"color": fills}, "font": {"color": ink, "size": 12}, **look},
    ))  # fmt: skip
    below = found.reasons[i] or "distance in median absolute deviations of the data · plausibility: share of data rows as far from others"
    words = f"What would have given {found.targets[i]} instead"
    finish(figure, dark=dark, height=110 + _ROW * (len(names) + 1), title=titled(words, below if len(below) <= 130 else below[:129] + "…"))
    return figure


_CLEAR = "rgba(0,0,0,0)"


def _plain(count: int) -> list[str]:
    return [_CLEAR] * count


def _value(value: Any) -> str:
    return escape(shown(value))


def _cell(found: Counterfactuals, i: int, m: int, j: int) -> tuple[str, str]:
    """A changed value with its direction, and its tint; what stays is a dot."""
    if not found.changed[m, j]:
        return "·", _CLEAR
    new: Any = found.rows.iloc[m, j]
    old: Any = found.originals.iloc[i, j]
    number = all(isinstance(v, (int, float, np.number)) and not isinstance(v, (bool, np.bool_)) for v in (new, old))
    if not number or old != old:
        return _value(new), rgba(BAR_MAGNITUDE, 0.35)
    return f"{_value(new)} {'↑' if new > old else '↓'}", rgba(BAR_POSITIVE if new > old else BAR_NEGATIVE, 0.35)
