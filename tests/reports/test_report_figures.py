from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest

import explainer
from explainer.reports import figures
from explainer.reports.attributions import unit
from explainer.reports.wording import number

ROWS = [
    {"label": "income", "value": 0.031, "low": 0.012, "high": 0.081},
    {"label": "debt = 4", "value": -0.02, "low": -0.024, "high": -0.016},
    {"label": "age", "value": 0.004, "low": -0.001, "high": 0.009},
]


def parts(svg: str, tag: str) -> list[ET.Element]:
    return [e for e in ET.fromstring(svg).iter() if e.tag.endswith(tag)]


def texts(svg: str) -> dict[str, tuple[float, float]]:
    return {e.text or "": (float(e.get("x", 0)), float(e.get("y", 0))) for e in parts(svg, "text")}


def lines(svg: str) -> np.ndarray:
    """``(lines, 4)``: x1, y1, x2, y2."""
    return np.array([re.findall(r"-?[\d.]+", e.get("d", "")) for e in parts(svg, "path")], dtype=float)


def test_bars_and_intervals_are_read_off_the_axis() -> None:
    svg = figures.bars(ROWS, "change of the probability of 'yes'")
    written = texts(svg)
    shown = {number(tick): tick for tick in figures.ticks(-0.024, 0.081)}
    assert "0" in shown and set(shown) <= set(written)
    slope, origin = np.polyfit([written[text][0] for text in shown], list(shown.values()), 1)
    drawn = [(float(r.get("x", 0)), float(r.get("width", 0))) for r in parts(svg, "rect")]
    for row, (x, width) in zip(ROWS, drawn, strict=True):
        ends = sorted((0.0, float(row["value"])))
        np.testing.assert_allclose([slope * x + origin, slope * (x + width) + origin], ends, atol=1e-4)
    level = lines(svg)[lines(svg)[:, 1] == lines(svg)[:, 3]]
    np.testing.assert_allclose(slope * level[:, [0, 2]] + origin, [[row["low"], row["high"]] for row in ROWS], atol=1e-4)


def test_a_number_stands_beside_its_label_and_never_at_the_end_of_an_interval() -> None:
    svg = figures.bars(ROWS, "change of the probability of 'yes'")
    written = texts(svg)
    plot = lines(svg)[:, [0, 2]].min()
    for row, value, interval in zip(
        ROWS, ("+0.031", "−0.02", "+0.004"), ("0.012 to 0.081", "−0.024 to −0.016", "−0.001 to 0.009"), strict=True
    ):
        label = written[str(row["label"])]
        assert label[0] < written[value][0] < written[interval][0] < plot and label[1] == written[value][1] == written[interval][1]
    assert "change of the probability of 'yes'" in written and "95 % interval" in written
    crowded = texts(figures.bars([{**row, "label": 5 * str(row["label"])} for row in ROWS], "change"))
    assert "95 % interval" not in crowded and "0.012 to 0.081" not in crowded and "+0.031" in crowded
    assert "95 % interval" not in texts(figures.bars([{"label": "a", "value": 1.0}], "change"))


def test_ticks_are_few_round_and_hold_zero() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        low, high = -rng.random() * 10.0 ** rng.integers(-6, 6), rng.random() * 10.0 ** rng.integers(-6, 6)
        low, high = (low, high) if rng.random() < 0.5 else (0.0, high)
        found = figures.ticks(low, high)
        assert 2 <= len(found) <= 5 and 0.0 in found
        assert min(found) >= low - 1e-6 * (high - low) and max(found) <= high + 1e-6 * (high - low)
        steps = np.diff(found)
        np.testing.assert_allclose(steps, steps[0])
        assert f"{steps[0]:.1e}"[:3] in ("1.0", "2.0", "2.5", "5.0")
    assert figures.ticks(-0.024, 0.081) == pytest.approx([0, 0.05])
    assert "nan" not in figures.bars([{"label": "a", "value": 0.0}], "change")


def test_the_unit_says_what_an_attribution_is_counted_in() -> None:
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(30, 2)), columns=["a", "b"])

    def chance(rows: pd.DataFrame) -> np.ndarray:
        p = 1 / (1 + np.exp(-rows.to_numpy(dtype=float).sum(1)))
        return np.stack([1 - p, p], axis=1)

    judge = explainer.wrap(chance, modality="tabular", class_names=["no", "yes"], background=frame)
    ex = explainer.explain(judge, frame.iloc[:1], "shap", target="yes", verify=False)
    assert unit(ex, "'yes'") == "change of the probability of 'yes'"
    assert unit(explainer.explain(judge, frame.iloc[:1], "lime", target="yes", verify=False), "'yes'").endswith(
        "on the probability of 'yes'"
    )
    guess = explainer.wrap(lambda rows: chance(rows)[:, :1], modality="tabular", task="regression", background=frame)
    assert unit(explainer.explain(guess, frame.iloc[:1], "shap", verify=False), "'output'") == "change of the prediction"
