"""The engine: each coalition once, in full batches, whatever memory, the clock, the person or the model does."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from games import COLUMNS, frame, regression, wavy

import explainer
from explainer.coalitions import Budget, Clock, Coalitions
from explainer.errors import Cancelled, InvalidInput
from explainer.faults import Hangs, score_each, within
from explainer.features import build
from explainer.scored import Kept, Scored, keys_of
from explainer.target import resolve

RNG = np.random.default_rng(0)


def engine(model, inputs, **options) -> Coalitions:
    given = model.canonical(inputs)
    goal = resolve(0, model.scores(given), model.class_names)
    return Coalitions(model, given, build(model, given), goal, "raw", **options)


def counting(function):
    """The model, and the number of rows of each of its calls."""
    calls: list[int] = []

    def counted(x):
        calls.append(len(x))
        return function(x)

    return regression(counted), calls


def slow_values(model, features, i, masks):
    """One coalition at a time."""
    return np.array([model.scores(features.rows(i, mask[None])).mean() for mask in masks])[:, None]


# -- values --------------------------------------------------------------------------------------------------------


def test_values_are_means_over_the_background_rows():
    model = regression(wavy)
    e, masks = engine(model, frame(3)), RNG.random((40, 5)) < 0.5
    np.testing.assert_allclose(e(1, masks), slow_values(model, e.features, 1, masks), atol=1e-12)


def test_many_instances_in_one_stream_are_as_each_alone():
    model, calls = counting(wavy)
    e = engine(model, frame(6))
    asks = [(i, RNG.random((int(RNG.integers(1, 9)), 5)) < 0.5) for i in range(6)]
    calls.clear()
    together = e.gather(asks)
    assert len(calls) == 2  # one to learn the model's pace; the rest of 20 background rows times some thirty coalitions fit one batch
    for (i, masks), values in zip(asks, together, strict=True):
        np.testing.assert_allclose(values, slow_values(model, e.features, i, masks), atol=1e-12)


def test_each_coalition_is_scored_once():
    model, calls = counting(wavy)
    e, masks = engine(model, frame(2)), RNG.random((300, 5)) < 0.5
    different = len(np.unique(masks, axis=0))
    calls.clear()
    first = e(0, masks)
    assert sum(calls) == different * 20 and e.evaluations == different
    np.testing.assert_array_equal(e(0, masks[::-1]), first[::-1])
    assert e.evaluations == different
    e.forget(0)
    e(0, masks[:1])
    assert e.evaluations == different + 1


@pytest.mark.parametrize("players", [3, 8, 64, 65, 200])
def test_keys_tell_coalitions_apart_and_memory_finds_them(players):
    masks = np.unique(RNG.random((200, players)) < 0.5, axis=0)
    keys = keys_of(masks)
    assert len(np.unique(keys)) == len(masks)
    known, values = Scored(), RNG.normal(size=(len(masks), 2))
    known.add(keys[::2], values[::2])
    known.add(keys[1:9:2], values[1:9:2])
    found = known.find(keys, 2)
    np.testing.assert_array_equal(found[::2], values[::2])
    np.testing.assert_array_equal(found[1:9:2], values[1:9:2])
    assert np.isnan(found[9::2]).all()


def test_trailing_zero_bytes_do_not_make_two_coalitions_one():
    masks = np.zeros((2, 80), dtype=bool)
    masks[1, 79] = True
    masks[0, 0] = masks[1, 0] = True
    assert len(np.unique(keys_of(masks))) == 2


def test_rows_at_once_do_not_change_the_values(monkeypatch):
    model, masks = regression(wavy), RNG.random((64, 5)) < 0.5
    whole = engine(model, frame(2))(0, masks)
    monkeypatch.setattr("explainer.model.ROWS_AT_ONCE", 7)
    np.testing.assert_allclose(engine(model, frame(2))(0, masks), whole, atol=1e-12)


# -- memory --------------------------------------------------------------------------------------------------------


def test_out_of_memory_halves_and_goes_on():
    sizes = []

    def greedy(x):
        sizes.append(len(x))
        if len(x) > 100:
            raise MemoryError
        return wavy(x)

    masks = RNG.random((64, 5)) < 0.5
    e = engine(regression(greedy), frame(2))
    np.testing.assert_allclose(e(0, masks), engine(regression(wavy), frame(2))(0, masks), atol=1e-12)
    before = len(sizes)
    e(1, masks)
    assert max(sizes[before:]) <= 100  # what was learned is kept


def test_memory_that_never_suffices_is_an_error():
    def hungry(x):
        if len(x) > 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return wavy(x)

    with pytest.raises(MemoryError, match="one coalition"):
        engine(regression(hungry), frame(2))(0, np.ones((4, 5), dtype=bool) * [[True], [False], [True], [False]])


def test_large_rows_are_built_few_at_a_time():
    most = []

    def model(images):
        most.append(images.nbytes)
        return images.mean(axis=(1, 2, 3))[:, None]

    wrapped = explainer.wrap(model, modality="image", task="regression", class_names=["brightness"])
    picture = RNG.random((1, 512, 512, 3)).astype(np.float32)
    e = engine(wrapped, picture)
    e(0, RNG.random((60, e.features.players(0))) < 0.5)
    assert max(most) <= 2**26


# -- stopping ------------------------------------------------------------------------------------------------------


def test_a_cancelled_stream_keeps_its_beginning(monkeypatch):
    monkeypatch.setattr("explainer.model.ROWS_AT_ONCE", 20)

    def stop(done, total):
        if done >= 10:
            raise Cancelled("enough")

    masks = np.unique(RNG.random((25, 5)) < 0.5, axis=0)[RNG.permutation(12)]
    e = engine(regression(wavy), frame(2), report=stop)
    values = e(0, masks)
    assert np.isfinite(values[:10]).all() and np.isnan(values[10:]).all()
    assert e.cancelled and "enough" in e.stopped
    assert np.isnan(e(1, masks)).all()


def test_seconds_are_for_the_whole_call():
    def slow(x):
        time.sleep(0.02)
        return wavy(x)

    ex = explainer.explain(regression(slow), frame(4, seed=3), "shap", algorithm="permutation", budget="1s", verify=False)
    assert ex.provenance.evaluations > 0
    assert ex.provenance.seconds < 10


def test_a_model_seen_from_outside_is_asked_for_no_more_than_half_a_second_at_a_time():
    def slow(x):
        time.sleep(0.004 * len(x))
        return wavy(x)

    model, calls = counting(slow)
    e = engine(model, frame(1, seed=3), budget=Budget(50_000, seconds=1))
    calls.clear()
    values = e.score_rows(0, frame(2000))  # eight seconds in full
    assert "used up" in e.stopped and np.isfinite(values[:64]).all() and np.isnan(values[1000:]).all()
    assert calls[0] == 64 and max(calls) <= 128


def test_a_quick_model_seen_from_outside_is_asked_in_full_batches():
    model, calls = counting(wavy)
    e = engine(model, frame(1, seed=3))
    calls.clear()
    e.score_rows(0, frame(10_000))
    assert calls == [64, 4096, 4096, 1744]


def test_shares_of_the_clock():
    e = engine(regression(wavy), frame(2), budget=Budget(100, seconds=10))
    assert 4.5 < e.clock(2).left <= 5
    assert Clock(None).left is None and not Clock(None).over
    assert Clock(0.0).over


# -- faults --------------------------------------------------------------------------------------------------------


def broken_above(limit, how):
    def function(x):
        if (x[:, 0] > limit).any():
            how()
        return wavy(x)

    return regression(function)


def raises():
    raise RuntimeError("the sensor is unplugged")


@pytest.mark.parametrize("method", ["shap", "lime"])
def test_a_model_that_raises_on_one_row_is_named_and_the_others_explained(method):
    model, rows = broken_above(50, raises), frame(4)
    clean = explainer.explain(model, rows.iloc[[0, 1, 3]], method, verify=False)
    rows.loc[2, "a"] = 99
    ex = explainer.explain(model, rows, method)
    assert [v.status == "fail" and "fault" in v.checks for v in ex.verdicts] == [False, False, True, False]
    assert "the sensor is unplugged" in ex.verdicts[2].checks["fault"].reason
    np.testing.assert_allclose(ex.values[[0, 1, 3]], clean.values, atol=1e-9)


def test_a_fault_that_only_coalitions_meet_is_named():
    """The row itself can be scored; mixed with the background it cannot."""
    model = regression(lambda x: np.where((x[:, 0] == 7) & (x[:, 1] != 8), np.nan, x[:, 0]))
    rows = frame(3)
    rows.loc[1, ["a", "b"]] = 7, 8
    ex = explainer.explain(model, rows, "shap")
    assert "no finite score" in ex.verdicts[1].checks["fault"].reason
    assert np.isnan(ex.values[1]).all() and np.isfinite(ex.values[[0, 2]]).all()
    with pytest.raises(InvalidInput, match="no finite score"):
        explainer.explain(model, rows.iloc[1:2], "shap")


def test_a_model_that_hangs_is_left_behind():
    model, rows = broken_above(50, lambda: time.sleep(20)), frame(3)
    rows.loc[2, "a"] = 99
    ex = explainer.explain(model, rows, "shap", time_limit=0.5, verify=False)
    assert "time limit" in ex.verdicts[2].checks["fault"].reason
    assert np.isfinite(ex.values[:2]).all()


def test_within_passes_results_and_errors_on():
    assert within(1.0, lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        within(1.0, lambda: 1 / 0)
    with pytest.raises(Hangs, match=r"0\.05 s"):
        within(0.05, lambda: time.sleep(5))


def test_a_changed_output_shape_is_named():
    def changing(x):
        return np.stack([wavy(x)] * 2, axis=1) if len(x) > 60 else wavy(x)

    ex_error = "scores of shape"
    with pytest.raises(InvalidInput, match=ex_error):
        explainer.explain(regression(changing), frame(2), "shap")


def test_score_each_finds_the_rows_at_fault():
    model, rows = broken_above(50, raises), frame(9)
    rows.loc[[2, 7], "a"] = 99
    scores, faults = score_each(model, model.canonical(rows), "raw")
    assert list(faults) == [2, 7]
    assert np.isfinite(scores[[0, 1, 3, 4, 5, 6, 8]]).all()


# -- resuming ------------------------------------------------------------------------------------------------------


def test_a_stopped_run_goes_on_where_it_ended(tmp_path, monkeypatch):
    monkeypatch.setattr("explainer.model.ROWS_AT_ONCE", 200)
    columns = [f"x{j}" for j in range(12)]
    model, rows, scored = regression(wavy, columns), frame(3, columns), []

    def stop(done, total):
        scored.append(done)
        if done >= 300:
            raise Cancelled("the machine is needed")

    options = {"budget": 400, "verify": False}
    whole = explainer.explain(model, rows, "shap", **options)
    explainer.explain(model, rows, "shap", **options, progress=stop, resume=tmp_path / "run")
    again = explainer.explain(model, rows, "shap", **options, resume=tmp_path / "run")
    np.testing.assert_array_equal(again.values, whole.values)
    assert again.provenance.evaluations == whole.provenance.evaluations - scored[-1]
    assert explainer.explain(model, rows, "shap", **options, resume=tmp_path / "run").provenance.evaluations == 0


class Scaled(torch.nn.Module):
    by = 1.0

    def forward(self, x):
        return x.sum(1, keepdim=True) * self.by


def test_scores_of_another_run_are_refused(tmp_path):
    model = regression(wavy)
    explainer.explain(model, frame(2), "shap", resume=tmp_path / "run", verify=False)
    with pytest.raises(InvalidInput, match="inputs, perturbed differ"):
        explainer.explain(model, frame(2, seed=9), "shap", resume=tmp_path / "run", verify=False)
    with pytest.raises(InvalidInput, match="absence, perturbed differ"):
        explainer.explain(model, frame(2), "shap", baseline="median", resume=tmp_path / "run", verify=False)
    weight = [1.0]
    closing = explainer.wrap(
        lambda rows: rows.sum(axis=1).to_numpy() * weight[0], modality="tabular", task="regression", background=frame(9)
    )
    first = explainer.explain(closing, frame(2), "shap", resume=tmp_path / "closing", verify=False)
    weight[0] = 1.0 + 1e-7  # as another batch may round
    again = explainer.explain(closing, frame(2), "shap", resume=tmp_path / "closing", verify=False)
    np.testing.assert_array_equal(again.values, first.values)
    weight[0] = 2.0  # the same code on another number: the fingerprint does not see it
    with pytest.raises(InvalidInput, match="the model scores the same rows otherwise"):
        explainer.explain(closing, frame(2), "shap", resume=tmp_path / "closing", verify=False)
    broken = [1.0]
    nowhere = explainer.wrap(
        lambda rows: closing.scores(rows)[:, 0] / broken[0], modality="tabular", task="regression", class_names=["y"], background=frame(9)
    )
    broken[0] = np.nan
    with pytest.raises(InvalidInput):
        explainer.explain(nowhere, frame(2), "shap", resume=tmp_path / "nowhere", verify=False)
    broken[0] = 1.0  # what could not be scored then says nothing of the model now
    assert np.isfinite(explainer.explain(nowhere, frame(2), "shap", resume=tmp_path / "nowhere", verify=False).values).all()
    net = Scaled()
    scaled = explainer.wrap(net, modality="tabular", task="regression", background=frame(9))
    assert "code of its classes" in scaled.unhashed and "(Scaled)" in scaled.unhashed
    explainer.explain(scaled, frame(2), "shap", resume=tmp_path / "scaled", verify=False)
    net.by = 2.0  # neither weight nor structure
    with pytest.raises(InvalidInput, match="the model scores the same rows otherwise"):
        explainer.explain(scaled, frame(2), "shap", resume=tmp_path / "scaled", verify=False)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(InvalidInput, match="other files"):
        explainer.explain(model, frame(2), "shap", resume=tmp_path / "other", verify=False)


def test_rows_a_method_built_itself_are_resumed_too(tmp_path):
    model, calls = counting(wavy)
    first = explainer.explain(model, frame(2), "lime", resume=tmp_path / "run", verify=False)
    calls.clear()
    again = explainer.explain(model, frame(2), "lime", resume=tmp_path / "run", verify=False)
    np.testing.assert_array_equal(again.values, first.values)
    assert sum(calls) == 2 + 4  # the scores at the inputs themselves, and of a few rows that say whether the function is the same


def test_a_deleted_file_does_not_cost_another_one(tmp_path):
    kept = Kept(tmp_path / "run", {})
    masks = np.eye(3, dtype=bool)
    for j in range(3):
        kept.add(0, masks[[j]], np.array([[float(j)]]))
        kept.flush()
    (tmp_path / "run" / "000002.npz").unlink()
    again = Kept(tmp_path / "run", {})
    again.add(0, np.ones((1, 3), dtype=bool), np.array([[9.0]]))
    again.flush()
    found = Kept(tmp_path / "run", {}).read()[0].find(keys_of(np.concatenate([masks, np.ones((1, 3), dtype=bool)])), 1)[:, 0]
    np.testing.assert_array_equal(found, [0, np.nan, 2, 9])


def test_budgets_are_read():
    assert Budget.parse("500 evals") == Budget(500)
    assert Budget.parse(None).evaluations == 2048
    assert Budget.parse("10s").seconds == 10 and Budget.parse("1% error").error == 0.01
    for wrong in ("ten", 0, -5, True, "0s"):
        with pytest.raises(InvalidInput, match="budget="):
            Budget.parse(wrong)


def test_columns_are_named_like_the_table():
    assert engine(regression(wavy), frame(1)).features.names(0) == tuple(COLUMNS)
