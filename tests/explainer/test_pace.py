"""Batch sizes: measured once per module and kind of input, remembered, never in the way of the scores."""

from __future__ import annotations

import json
import time
import weakref

import numpy as np
import pytest
import torch_gallery as gallery
from games import frame, regression

import explainer
from explainer.adapters import pace


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(pace, "_path", lambda: tmp_path / "cache" / "rows-at-once.json")
    monkeypatch.setattr(pace, "_KNOWN", {})
    monkeypatch.setattr(pace, "_READ", [])
    monkeypatch.setattr(pace, "_CLIMBED", weakref.WeakKeyDictionary())
    return tmp_path / "cache" / "rows-at-once.json"


def costing(per_call: float, per_row: float, cliff: int = 10**9, calls: list[int] | None = None):
    """A clock for a made-up device: a call costs, each row costs, and rows beyond the cliff cost three times as much."""

    def timed(score, sample):
        n = len(sample)
        if calls is not None:
            calls.append(n)
        return per_call + n * per_row * (3 if n > cliff else 1)

    return timed


@pytest.mark.parametrize(
    ("per_call", "per_row", "cliff", "usual", "expected"),
    [
        (1e-3, 1e-6, 10**9, 256, 4096),  # the call dominates: as many as may be
        (1e-6, 1e-4, 64, 256, 64),  # beyond 64 the cache is full
        (1e-5, 1e-4, 10**9, 256, 256),  # all alike: the usual size stays
        (1e-1, 3e-2, 10**9, 256, 16),  # half a second for sixteen rows: nothing larger is tried
    ],
)
def test_the_fastest_size_is_found(monkeypatch, per_call, per_row, cliff, usual, expected):
    monkeypatch.setattr(pace, "_timed", costing(per_call, per_row, cliff))
    assert pace.rows_at_once("a module", lambda sample: None, np.zeros((3, 4)), usual, pace.MOST) == expected


def test_a_disturbed_trial_decides_nothing(monkeypatch):
    calls: list[int] = []
    quick = costing(1e-3, 1e-6, calls=calls)
    for disturbed in (32, 64, 4096):
        monkeypatch.setattr(pace, "_timed", lambda score, sample, at=disturbed: quick(score, sample) * (50 if len(sample) == at else 1))
        found = pace.rows_at_once(f"a module disturbed at {disturbed}", lambda sample: None, np.zeros((3, 4)), 4096, pace.MOST)
        assert found == (4096 if disturbed < 4096 else 2048)


def test_it_is_measured_once_and_kept_for_the_next_process(monkeypatch, own_cache):
    calls: list[int] = []
    monkeypatch.setattr(pace, "_timed", costing(1e-5, 1e-4, 64, calls))
    first = pace.rows_at_once("a module", lambda sample: None, np.zeros((3, 4)), 256, pace.MOST)
    measured = len(calls)
    assert measured and pace.rows_at_once("a module", lambda sample: None, np.zeros((3, 4)), 256, pace.MOST) == first
    assert list(json.loads(own_cache.read_text()).values()) == [first]
    monkeypatch.setattr(pace, "_KNOWN", {})
    monkeypatch.setattr(pace, "_READ", [])
    assert pace.rows_at_once("a module", lambda sample: None, np.zeros((3, 4)), 256, pace.MOST) == first
    assert len(calls) == measured
    pace.rows_at_once("another module", lambda sample: None, np.zeros((3, 4)), 256, pace.MOST)
    assert len(calls) > measured


def test_a_damaged_file_is_measured_anew(monkeypatch, own_cache):
    own_cache.parent.mkdir()
    own_cache.write_text("{half")
    monkeypatch.setattr(pace, "_timed", costing(1e-5, 1e-4))
    assert pace.rows_at_once("a module", lambda sample: None, np.zeros((3, 4)), 256, pace.MOST) == 256


def test_kinds_of_input():
    assert pace.kind_of(np.zeros((5, 8, 8, 3))) == "ndarray(8, 8, 3)"
    assert pace.kind_of(["a" * 100, "b"]) == "list up to 128"
    assert pace.kind_of([np.zeros((16, 3)), np.zeros((4, 3))]) == "list(3,) up to 16"


def test_values_do_not_depend_on_the_measured_size(monkeypatch):
    model = explainer.wrap(gallery.convnet(), modality="image", class_names=list("abcd"))
    images, found = gallery.images(2), []
    for size in (16, 64, 256):
        monkeypatch.setattr(pace, "rows_at_once", lambda *_, size=size: size)
        model._measured.clear()
        found.append(explainer.explain(model, images, "shap", budget=1100, verify=False).values)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4, atol=2e-6)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-4, atol=2e-6)


def test_the_same_call_gives_the_same_bits_whatever_was_measured_between():
    model = explainer.wrap(gallery.convnet(), modality="image", class_names=list("abcd"))
    images = gallery.images(2)
    small = explainer.explain(model, images, "shap", budget=64, verify=False).values
    explainer.explain(model, images, "shap", budget=1100, verify=False)
    np.testing.assert_array_equal(explainer.explain(model, images, "shap", budget=64, verify=False).values, small)


def test_timing_takes_the_time():
    assert pace._timed(lambda sample: time.sleep(0.01), None) >= 0.01


# -- models seen from outside ------------------------------------------------------------------------------------------


class Outside:
    """A model of which only the pace matters: seconds a call, seconds a row."""

    def __init__(self, name: str, per_call: float, per_row: float) -> None:
        self.name, self.per_call, self.per_row, self.noise = name, per_call, per_row, 1.0

    def fingerprint(self) -> str:
        return self.name

    def calls(self, total: int = 40_000) -> list[int]:
        """The rows of each call, of a run that asks for so many."""
        ladder, asked = pace.Ladder(self, np.zeros((3, 4)), 0.5), []
        while total > 0 and len(asked) < 12:
            asked.append(min(total, ladder.rows))
            ladder.climb(asked[-1], self.noise * (self.per_call + asked[-1] * self.per_row))
            total -= asked[-1]
        return asked


@pytest.mark.parametrize(
    ("per_call", "per_row", "expected"),
    [
        (1e-5, 1e-6, [64, 4096, 4096]),
        (1e-5, 1e-3, [64, 256, 256]),  # half a second is 500 rows, a power of two below
        (0.1, 1e-5, [64, 256, 1024, 4096, 4096]),  # a call that is dear takes more rows step by step
        (0.0, 0.1, [64, 4, 4]),
    ],
)
def test_steps_follow_the_pace(per_call, per_row, expected):
    assert Outside("a model", per_call, per_row).calls()[: len(expected)] == expected


@pytest.mark.parametrize(("per_call", "per_row"), [(1e-5, 1e-3), (0.05, 2e-4), (1e-3, 3e-4), (1e-5, 2.4e-4)])
def test_a_clock_that_runs_otherwise_changes_no_call(monkeypatch, per_call, per_row):
    model = Outside("a model", per_call, per_row)
    first = model.calls()
    for noise in (0.5, 0.8, 1.3, 2.0):
        model.noise = noise
        assert model.calls() == first
        monkeypatch.setattr(pace, "_CLIMBED", weakref.WeakKeyDictionary())  # as in another process, from the file
        monkeypatch.setattr(pace, "_KNOWN", {})
        monkeypatch.setattr(pace, "_READ", [])
        assert model.calls() == first


def test_a_run_that_was_short_decides_the_beginning_of_a_long_one():
    model = Outside("a model", 0.1, 1e-5)
    assert model.calls(300) == [64, 236]
    model.noise = 3.0
    assert model.calls()[:2] == [64, 256]


def test_a_model_that_shares_a_print_and_no_pace_is_not_taken_for_the_other():
    quick, slow = Outside("alike", 1e-5, 1e-6), Outside("alike", 1e-5, 1e-2)
    assert quick.calls()[:3] == [64, 4096, 4096]
    assert max(slow.calls()) == 64
    assert quick.calls()[:3] == [64, 4096, 4096]


def test_a_slow_model_whose_score_depends_on_its_batch_gives_the_same_bits():
    factor = [1.0]

    def uneven(x):
        time.sleep(4e-4 * len(x) * factor[0])  # half a second is 1250 rows, then 2083, then 890
        return x.sum(axis=1) + 1e-9 * len(x)

    model = regression(uneven, [f"x{j}" for j in range(9)])
    rows = frame(1, [f"x{j}" for j in range(9)])
    found = []
    for factor[0] in (1.0, 0.6, 1.4):
        found.append(explainer.explain(model, rows, "shap", algorithm="kernel", budget=150, verify=False).values)
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])
