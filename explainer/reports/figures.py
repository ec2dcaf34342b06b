"""Figures as small SVG texts of our own: the same bytes every time, readable in light and dark, sign never by colour alone.

Text and lines use ``currentColor``, so a page's own text colour holds; pictures are embedded as PNG.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from explainer.reports.wording import beside, interval, number

NEGATIVE, POSITIVE, NEUTRAL = "#2166ac", "#b2182b", "#8a94a3"
_STOPS = np.array([[33, 102, 172], [146, 197, 222], [247, 247, 247], [244, 165, 130], [178, 24, 43]], dtype=float)
_BARS = 480.0  # as wide as bars may be and still be read on a telephone, where they shrink to fit
_TOP, _PITCH = 18, 17  # where the first bar's row begins, and how far one is below the other


def diverging(values: np.ndarray) -> np.ndarray:
    """RGB bytes ``(..., 3)`` of values in [-1, 1]: blue, white at zero, red."""
    place = (np.clip(np.nan_to_num(values), -1, 1) + 1) / 2 * (len(_STOPS) - 1)
    low = np.clip(place.astype(int), 0, len(_STOPS) - 2)
    share = (place - low)[..., None]
    return np.round(_STOPS[low] * (1 - share) + _STOPS[low + 1] * share).astype(np.uint8)


def bars(rows: Sequence[Mapping[str, Any]], unit: str, signed: bool = True) -> str:
    """Horizontal bars from zero over an axis in ``unit``, each with its number beside its label.

    A row: ``label``, ``value`` and optionally ``low`` and ``high``, its 95 % interval: a line across the bar and, where the labels leave
    room, small print beside the number.
    """
    parts, left = _bar_texts(rows, signed)
    right, bottom = _BARS - 12, _TOP + _PITCH * len(rows)
    finite = [v for row in rows for v in (row["value"], row.get("low"), row.get("high"), 0.0) if v is not None and np.isfinite(v)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    high = high if high > low else low + 1

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (right - left)

    for tick in ticks(low, high):
        parts.append(_line(x(tick), _TOP, x(tick), bottom + 4, 0.8, 0.6 if tick == 0 else 0.15))
        parts.append(_text(x(tick), bottom + 15, number(tick), anchor="middle", size=10))
    for k, row in enumerate(rows):
        y, value = _TOP + _PITCH * k, float(row["value"])
        start, end = sorted((x(0), x(value)))
        fill = POSITIVE if signed and value >= 0 else NEGATIVE
        parts.append(f'<rect x="{start:.1f}" y="{y + 3}" width="{max(end - start, 0.6):.1f}" height="11" fill="{fill}"/>')
        if _interval(row) != "–":
            a, b = x(row["low"]), x(row["high"])
            parts.append(_line(a, y + 8.5, b, y + 8.5, 1.4, 0.9))
            parts += [_line(at, y + 5.5, at, y + 11.5, 1.2, 0.9) for at in (a, b)]
    parts.append(_text(_BARS - 2, bottom + 30, _short(unit, 76), anchor="end", size=11))
    return _svg(_BARS, bottom + 36, parts)


def _bar_texts(rows: Sequence[Mapping[str, Any]], signed: bool) -> tuple[list[str], float]:
    """Labels, numbers and, where a third of the width is left for the bars, intervals, in columns; and where the bars may begin."""
    largest = max((abs(float(row["value"])) for row in rows), default=0.0)
    labels = [_short(str(row["label"]), 28) for row in rows]
    values = [beside(float(row["value"]), largest, sign=signed) for row in rows]
    intervals = [_interval(row) for row in rows]
    parts, right = [], 0.0
    for texts, title, size in ((labels, "", 12), (values, "", 12), (intervals, "95 % interval", 10)):
        end = right + 10 + 0.6 * size * max(map(len, [*texts, title]))
        if texts is intervals and (end > _BARS * 0.64 or set(texts) <= {"–"}):
            continue
        right = end
        column = [(_TOP - 5, title), *((_TOP + _PITCH * k + 13, text) for k, text in enumerate(texts))]
        parts += [_text(right, y, text, anchor="end", size=size) for y, text in column if text]
    return parts, right + 14


def _interval(row: Mapping[str, Any]) -> str:
    return interval(row.get("low"), row.get("high"))


def ticks(low: float, high: float) -> list[float]:
    """The multiples between ``low`` and ``high`` (zero among them) of a round number that makes two to five of them."""
    rough = (high - low) / 4
    size = 10.0 ** np.floor(np.log10(rough))
    step = float(next(size * m for m in (1, 2, 2.5, 5, 10) if size * m >= rough * (1 - 1e-9)))
    return [k * step for k in range(int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9)) + 1)]


def reliability(bins: Sequence[Mapping[str, Any]], x_title: str, y_title: str) -> str:
    """Observed share against stated probability, with Wilson intervals; the diagonal is perfect calibration."""
    size, left, top = 250, 64, 12

    def at(px: float, py: float) -> tuple[float, float]:
        return left + px * size, top + (1 - py) * size

    parts = [_grid(left, top, size)]
    x0, y0 = at(0, 0)
    x1, y1 = at(1, 1)
    parts.append(f'<path d="M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}" stroke="currentColor" stroke-dasharray="4 4" fill="none" opacity="0.6"/>')
    most = max((b["n"] for b in bins), default=1)
    for b in bins:
        cx, cy = at(b["stated"], b["observed"])
        _, lo = at(0, b["low"])
        _, hi = at(0, b["high"])
        radius = 3 + 4 * np.sqrt(b["n"] / most)
        parts.append(f'<path d="M{cx:.1f} {lo:.1f}L{cx:.1f} {hi:.1f}" stroke="{NEGATIVE}" stroke-width="1.6" fill="none"/>')
        parts.append(f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="{radius:.1f}" fill="{NEGATIVE}"/>')
    parts.append(_text(left + size / 2, top + size + 36, x_title, anchor="middle"))
    parts.append(_text(16, top + size / 2, y_title, anchor="middle", rotate=-90))
    return _svg(left + size + 16, top + size + 46, parts)


def confusion(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """Counts of true class (row) against predicted class (column); shade by the share of the row, the count always written."""
    k = len(names)
    cell = 58 if k <= 3 else 48 if k <= 6 else max(30, 380 // k)
    labels = [_short(name, 16) for name in names]
    longest = 6.0 * max(len(label) for label in labels)
    turned = longest > cell - 4
    left, top = 26 + longest, 24 + (longest * 0.75 if turned else 12)
    parts = [
        _text(left + cell * k / 2, 12, "predicted", anchor="middle", size=11),
        _text(12, top + cell * k / 2, "true", anchor="middle", size=11, rotate=-90),
    ]
    for i, row in enumerate(matrix):
        total = max(1, sum(row))
        middle = left + cell * (i + 0.5)
        parts.append(_text(left - 6, top + cell * (i + 0.5) + 4, labels[i], anchor="end", size=11))
        column = {"anchor": "start", "rotate": -45} if turned else {"anchor": "middle"}
        parts.append(_text(middle, top - 6, labels[i], size=11, **column))  # type: ignore[arg-type]
        for j, count in enumerate(row):
            share = count / total
            shade, ink = _mix(share if count else 0), "#ffffff" if share > 0.55 else "#1c2430"
            x, y = left + cell * j, top + cell * i
            frame = ' stroke="#1c2430" stroke-width="1.4"' if i == j else ' stroke="#c3cad4" stroke-width="0.6"'
            parts.append(f'<rect x="{x:g}" y="{y:g}" width="{cell}" height="{cell}" fill="{shade}"{frame}/>')
            place = f'x="{x + cell / 2:g}" y="{y + cell / 2 + 4:g}" text-anchor="middle"'
            parts.append(f'<text {place} font-size="{11 if cell > 30 else 9}" fill="{ink}">{count}</text>')
    spill = longest * 0.75 - cell / 2 if turned else 0  # the last turned label leans out to the right
    return _svg(left + cell * k + max(8, spill), top + cell * k + 8, parts)


def picture_panels(picture: np.ndarray, values: np.ndarray) -> str:
    """An image beside what speaks for the prediction and what speaks against it: two panels, so that sign needs no colour."""
    scale = float(np.nanmax(np.abs(values))) or 1.0
    share = np.nan_to_num(values) / scale
    panels = [
        ("input", picture),
        ("speaks for the prediction", diverging(np.clip(share, 0, 1))),
        ("speaks against it", diverging(np.clip(share, -1, 0))),
    ]
    return _panels(panels)


def heat_panel(values: np.ndarray, title: str) -> str:
    """One map of magnitudes, zero white, the largest red."""
    scale = float(np.nanmax(np.abs(values))) or 1.0
    return _panels([(title, diverging(np.abs(values) / scale))])


def series_panels(series: np.ndarray, values: np.ndarray, channels: Sequence[str]) -> str:
    """Channels by time: the series itself (grey, each channel on its own scale), what speaks for and against the prediction."""
    spread = np.ptp(series, axis=0)
    grey = (series - series.min(0)) / np.where(spread > 0, spread, 1)
    shown = np.repeat(np.round(255 - grey.T * 215).astype(np.uint8)[..., None], 3, axis=-1)
    share = np.nan_to_num(values).T / (float(np.nanmax(np.abs(values))) or 1.0)
    panels = [("the series (dark = high)", shown), ("speaks for the prediction", diverging(np.clip(share, 0, 1))),
              ("speaks against it", diverging(np.clip(share, -1, 0)))]  # fmt: skip
    return _panels(panels, rows=list(channels), columns="time →")


def _panels(panels: Sequence[tuple[str, np.ndarray]], rows: Sequence[str] = (), columns: str = "") -> str:
    side, left = (196, 6) if not rows else (176, 78)
    parts = []
    for k, (title, picture) in enumerate(panels):
        x = left + k * (side + 14)
        parts.append(_text(x + side / 2, 13, title, anchor="middle", size=11))
        place = f'x="{x}" y="20" width="{side}" height="{side}"'
        parts.append(f'<image {place} preserveAspectRatio="{"none" if rows else "xMidYMid"}" href="{_png(picture)}"/>')
        parts.append(f'<rect x="{x}" y="20" width="{side}" height="{side}" fill="none" stroke="#8a94a3" stroke-width="0.8"/>')
        if columns:
            parts.append(_text(x + side / 2, side + 34, columns, anchor="middle", size=11))
    step = side / max(1, len(rows))
    for k, name in enumerate(rows):
        if step > 9 or k % 2 == 0:
            parts.append(_text(left - 6, 20 + step * (k + 0.5) + 3.5, _short(name, 12), anchor="end", size=10))
    return _svg(left + len(panels) * (side + 14), side + (42 if columns else 28), parts)


def residuals(bins: Sequence[Mapping[str, float]]) -> str:
    """Mean residual (prediction minus truth) with its interval, over the prediction; zero everywhere is right on average."""
    width, height, left, top = 460, 200, 74, 12
    xs = [b["predicted"] for b in bins]
    ys = [v for b in bins for v in (b["low"], b["high"], b["mean"]) if np.isfinite(v)] + [0.0]
    x_low, x_span, y_low, y_span = min(xs), (max(xs) - min(xs)) or 1, min(ys), (max(ys) - min(ys)) or 1

    def at(x: float, y: float) -> tuple[float, float]:
        return left + 12 + (x - x_low) / x_span * (width - 24), top + (1 - (y - y_low) / y_span) * height

    _, zero = at(x_low, 0)
    parts = [_line(left, zero, left + width, zero, 1, 0.6), _text(left - 6, zero + 4, "0", anchor="end")]
    for b in bins:
        x, y = at(b["predicted"], b["mean"])
        if np.isfinite([b["low"], b["high"]]).all():
            low, high = at(0, b["low"])[1], at(0, b["high"])[1]
            parts.append(f'<path d="M{x:.1f} {low:.1f}L{x:.1f} {high:.1f}" stroke="{NEGATIVE}" stroke-width="1.6" fill="none"/>')
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{NEGATIVE}"/>')
    for value in (min(ys), max(ys)):
        if abs(at(0, value)[1] - zero) > 14:
            parts.append(_text(left - 6, at(0, value)[1] + 4, number(value), anchor="end"))
    parts += [
        _text(left + 12, top + height + 18, number(x_low)),
        _text(left + width - 12, top + height + 18, number(max(xs)), anchor="end"),
    ]
    parts.append(_text(left + width / 2, top + height + 34, "prediction", anchor="middle"))
    parts.append(_text(12, top + height / 2, "prediction − truth", anchor="middle", rotate=-90))
    return _svg(left + width + 12, top + height + 44, parts)


def as_rgb(image: np.ndarray) -> np.ndarray:
    """An ``(H, W[, C])`` picture in [0, 1] (or any range, then stretched) as RGB bytes."""
    array = np.asarray(image, dtype=float)
    low, high = float(array.min()), float(array.max())
    if low < 0 or high > 1:
        array = (array - low) / ((high - low) or 1)
    if array.ndim == 2:
        array = array[..., None]
    array = np.repeat(array[..., :1], 3, axis=-1) if array.shape[-1] < 3 else array[..., :3]
    return np.round(array * 255).astype(np.uint8)


def _png(picture: np.ndarray) -> str:
    """A PNG data address; small pictures are enlarged by whole pixels, so that no viewer blurs them."""
    from PIL import Image

    h, w = picture.shape[:2]
    up, across = max(1, -(-196 // h)), max(1, -(-196 // w))
    if h != w or h >= 196:
        large = np.repeat(np.repeat(picture, up, axis=0), across, axis=1) if max(h, w) < 196 or min(h, w) < 60 else picture
    else:
        large = np.repeat(np.repeat(picture, up, axis=0), up, axis=1)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(large, dtype=np.uint8)).save(buffer, "PNG", compress_level=9)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _mix(share: float) -> str:
    shade = np.round(np.array([247, 249, 252]) * (1 - share) + np.array([33, 102, 172]) * share).astype(int)
    return "#" + "".join(f"{c:02x}" for c in shade)


def _grid(left: float, top: float, size: float) -> str:
    parts = [
        f'<rect x="{left}" y="{top}" width="{size}" height="{size}" fill="none" stroke="currentColor" stroke-width="0.8" opacity="0.5"/>'
    ]
    for tick in (0, 0.25, 0.5, 0.75, 1):
        x, y = left + tick * size, top + (1 - tick) * size
        if 0 < tick < 1:
            parts.append(_line(x, top, x, top + size, 0.6, 0.15) + _line(left, y, left + size, y, 0.6, 0.15))
        parts.append(
            _text(x, top + size + 16, f"{tick:g}", anchor="middle", size=11) + _text(left - 6, y + 4, f"{tick:g}", anchor="end", size=11)
        )
    return "".join(parts)


def _line(x1: float, y1: float, x2: float, y2: float, width: float, opacity: float) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="currentColor" stroke-width="{width}" opacity="{opacity}" fill="none"/>'


def _text(x: float, y: float, text: str, anchor: str = "start", size: int = 12, rotate: int = 0) -> str:
    turn = f' transform="rotate({rotate} {x:.1f} {y:.1f})"' if rotate else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="currentColor"{turn}>{escape(text)}</text>'


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _svg(width: float, height: float, parts: Sequence[str]) -> str:
    size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{"".join(parts)}</svg>'
