"""Batch sizes: measured once per module and kind of input, remembered, never in the way of the scores."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
import torch_gallery as gallery

import explainer
from explainer.adapters import pace


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(pace, "_path", lambda: tmp_path / "cache" / "rows-at-once.json")
    monkeypatch.setattr(pace, "_KNOWN", {})
    monkeypatch.setattr(pace, "_READ", [])
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
