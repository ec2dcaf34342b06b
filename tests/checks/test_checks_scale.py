"""The parts that make large data quick give what the plain way gives."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata

from explainer.checks import neighbours
from explainer.checks.columns import column_of
from explainer.checks.frame import TableView
from explainer.checks.levels import Levels, normalised, parses, spelled
from explainer.checks.neighbours import RANK_WIDTH, close_ranks
from explainer.checks.run import check
from explainer.checks.workers import each

ODD = [
    "A",
    "a ",
    "É",
    "e",
    "3",
    " 3 %",
    "1,000.5",
    "x",
    "",
    " ",
    "A+",
    "A-",
    "ﬁ",
    "fi",
    "a_b",
    "A  B",
    "\x1c7",
    "٣",
    "_",
    "n/a",
    "1e5",
    ".5",
]


@pytest.mark.parametrize("strings", [ODD, [*ODD, "lone \ud800"], []], ids=["text", "surrogate", "none"])
def test_strings_in_bulk_are_as_one_by_one(strings):
    levels = Levels(strings)
    assert list(levels) == strings
    assert len(levels) == len(strings)
    assert levels.numeric.tolist() == [parses(s) for s in strings]
    assert levels.filled.tolist() == [bool(s.strip()) for s in strings]
    assert levels.among({"n/a", "x"}) == [i for i, s in enumerate(strings) if s.strip().lower() in ("n/a", "x")]
    for punctuation, write in ((True, normalised), (False, spelled)):
        assert levels.alike(punctuation).tolist() == pd.factorize(np.array([write(s) for s in strings], dtype=object))[0].tolist()
    assert levels.take(np.arange(len(strings))[::2])[:] == strings[::2]


def test_equal_strings_have_equal_hashes_whatever_stands_beside_them():
    alone, beside = Levels(["a", "b"]), Levels(["b", "lone \ud800", "a"])
    assert alone.hashes.tolist() == [beside.hashes[2], beside.hashes[0]]
    assert len(set(beside.hashes.tolist())) == 3


def test_a_number_column_counts_its_values():
    column = column_of("x", pd.Series([3.0, np.nan, 3.0, 0.0, -0.0, np.inf]))
    assert column.distinct == 3
    assert sorted(column.sizes.tolist()) == [1, 2, 2]
    assert column.codes.tolist() == [0, -1, 0, 1, 1, 2]


def near_pairs(frame, other=None, width=RANK_WIDTH):
    """All pairs within the width in every column, by comparing each with each."""
    both = frame if other is None else pd.concat([frame, other], ignore_index=True)
    grid = np.column_stack([
        rankdata(both[c]) / len(both) if both[c].dtype.kind in "fi" else pd.factorize(both[c])[0].astype(float) for c in both
    ])  # fmt: skip
    close = (np.abs(grid[:, None] - grid[None]) <= width).all(axis=2)
    equal = (both.to_numpy()[:, None] == both.to_numpy()[None]).all(axis=2)
    i, j = np.nonzero(close & ~equal)
    if other is None:
        return {(a, b) for a, b in zip(i, j, strict=True) if a < b}
    return {(a, b - len(frame)) for a, b in zip(i, j, strict=True) if a < len(frame) <= b}


def crowd(seed, n=700):
    """Rows of which many are near another, in numbers, whole numbers and a category."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(n // 2, 3))
    values = np.concatenate([base, base + rng.normal(0, 0.01, base.shape)])
    frame = pd.DataFrame(values, columns=list("abc"))
    return frame.assign(
        whole=rng.poisson(30, n) if seed % 2 else np.tile(rng.poisson(30, n // 2), 2), kind=np.tile(rng.choice([*"xy"], n // 2), 2)
    )


@pytest.mark.parametrize("seed", range(4))
def test_near_rows_found_by_cells_are_those_of_comparing_each_with_each(seed):
    frame = crowd(seed)
    found, _ = close_ranks(TableView(frame), None)
    surely = near_pairs(frame, width=RANK_WIDTH - 1e-6)
    assert surely <= {(i, j) for i, j, _ in found} <= near_pairs(frame, width=RANK_WIDTH + 1e-6)
    assert len(surely) > (0 if seed % 2 else 100)


@pytest.mark.parametrize("seed", range(2))
def test_near_rows_of_two_tables_are_those_of_comparing_each_with_each(seed):
    frame = crowd(seed * 2)
    here, there = frame.iloc[:300].reset_index(drop=True), frame.iloc[300:].reset_index(drop=True)
    found, _ = close_ranks(TableView(here), TableView(there))
    surely = near_pairs(here, there, RANK_WIDTH - 1e-6)
    assert len(surely) > 100
    assert surely <= {(i, j) for i, j, _ in found} <= near_pairs(here, there, RANK_WIDTH + 1e-6)


def test_candidates_in_parts_are_candidates_at_once(monkeypatch):
    view = TableView(crowd(0))
    whole = close_ranks(view, None)
    monkeypatch.setattr(neighbours, "CANDIDATES", 50)
    assert close_ranks(view, None) == whole


def test_a_check_of_many_rows_says_that_it_judged_a_sample(monkeypatch):
    from dataclasses import replace

    from explainer.checks import catalogue

    small = tuple(replace(c, most=200) if c.name == "label given away" else c for c in catalogue.CHECKS)
    monkeypatch.setattr(catalogue, "CHECKS", small)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(900, 3)), columns=list("abc"))
    [finding] = check(frame, frame["a"] > 0, only=["label given away"], splits=["train"] * 900, groups={"g": ["u"] * 900})
    assert finding.state == "fail"
    assert finding.columns == ("a",)
    assert finding.message.endswith("Judged on a sample of 200 of 900 rows.")


def test_threads_change_nothing():
    assert each(lambda i: i * i, range(50), 10**6) == each(lambda i: i * i, range(50), 1) == [i * i for i in range(50)]


def test_thousands_of_columns_end_in_bounded_time():
    import time

    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(200, 3000)), columns=[f"c{i}" for i in range(3000)])
    start = time.process_time()
    findings = check(frame, rng.integers(0, 2, 200), reference=frame.sample(frac=1, random_state=0), groups={"g": rng.integers(0, 2, 200)})
    assert time.process_time() - start < 60
    assert not findings.of("error")
