"""Work that ends early, by the person, the clock or a model that hangs: what is known then, for whom, and what is said of the rest."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch_gallery as gallery
from games import frame, regression, wavy

import explainer
from explainer.coalitions import Coalitions, rounds, spread_out
from explainer.errors import Cancelled, InvalidInput
from explainer.faults import score_each
from explainer.features import build
from explainer.inspection.importance import importance
from explainer.inspection.reasons import reason_codes
from explainer.methods.quadrature import evenly, in_turn, odd_process
from explainer.target import resolve

WIDE = [f"x{j}" for j in range(12)]


def slowed(function, seconds: float):
    """The function, at so many seconds a row."""

    def slow(x):
        time.sleep(seconds * len(x))
        return function(x)

    return slow


def stop_at(share: float, total: int):
    def progress(done, _):
        if done >= share * total:
            raise Cancelled("enough")

    return progress


def pictures(n: int = 2, side: int = 28) -> np.ndarray:
    return np.random.default_rng(0).random((n, side, side)).astype(np.float32)


def of_pictures(function):
    def score(images):
        value = function(images)
        return np.stack([value, 1 - value], axis=1)

    return explainer.wrap(score, modality="image", class_names=["yes", "no"])


# -- designs whose beginnings are designs ------------------------------------------------------------------------------


def test_every_beginning_of_a_design_holds_all_sizes():
    masks = np.random.default_rng(0).random((900, 12)) < 0.5
    sizes = np.minimum(masks.sum(axis=1), 12 - masks.sum(axis=1))
    turn, even = sizes[in_turn(masks)], sizes[evenly(masks)]
    kinds, counts = np.unique(sizes, return_counts=True)
    assert sorted(turn[: len(kinds)]) == list(kinds)
    for part in (90, 300, 600):
        share = np.array([(even[:part] == kind).sum() for kind in kinds])
        assert np.abs(share - counts * part / 900).max() <= 1
        seen = np.array([(turn[:part] == kind).sum() for kind in kinds])
        assert (np.minimum(seen.max() - 1, counts) <= seen).all()


def test_parts_done_in_turn_are_all_of_it():
    for size in (0, 1, 15, 16, 17, 2048):
        assert [j for part in rounds(size) for j in range(part.start, part.stop)] == list(range(size))


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("algorithm", ["gaussian", "kernel", "stratified", "permutation", "exact"])
def test_shap_stopped_anywhere_has_values_for_all_rows(monkeypatch, algorithm, share):
    monkeypatch.setattr("explainer.model.ROWS_AT_ONCE", 32)
    model, rows = regression(wavy, WIDE, frame(1, WIDE, seed=3)), frame(3, WIDE)
    total = 3 * (4096 if algorithm == "exact" else 1000)
    exact = explainer.explain(model, rows, "shap", algorithm="exact", verify=False).values
    ex = explainer.explain(model, rows, "shap", algorithm=algorithm, budget=1000, progress=stop_at(share, total), verify=False)
    assert ex.provenance.evaluations <= share * total + 64
    assert np.isfinite(ex.values).all()
    assert np.linalg.norm(ex.values - exact) < 0.6 * np.linalg.norm(exact)
    assert (np.abs(ex.values - exact) <= 1.96 * ex.stderr + 1e-9).mean() >= 0.75
    np.testing.assert_allclose(ex.base_values + ex.values.sum(axis=1), ex.scores, atol=1e-8)


@pytest.mark.parametrize("algorithm", ["gaussian", "exact"])
@pytest.mark.parametrize(
    ("index", "share"), [("shapley", 0.1), ("shapley", 0.3), ("shapley", 0.6), ("shapley_taylor", 0.3), ("shapley_taylor", 0.6)]
)
def test_interactions_stopped_anywhere_have_values(monkeypatch, algorithm, index, share):
    monkeypatch.setattr("explainer.model.ROWS_AT_ONCE", 16)
    names = WIDE[:9]
    model, rows = regression(wavy, names, frame(1, names, seed=3)), frame(2, names)
    options = {"algorithm": algorithm, "index": index, "verify": False}
    total = 2 * (512 if algorithm == "exact" else 400)
    exact = explainer.explain(model, rows, "shap_interactions", **{**options, "algorithm": "exact"}).values
    ex = explainer.explain(model, rows, "shap_interactions", budget=400, progress=stop_at(share, total), **options)
    assert np.isfinite(ex.values).all() and ex.stderr is not None and ex.stderr.max() > 0
    assert np.linalg.norm(ex.values - exact) < 0.9 * np.linalg.norm(exact)


def test_the_order_of_asking_changes_no_value():
    model, rows = regression(wavy, WIDE, frame(1, WIDE, seed=3)), frame(1, WIDE)
    ex = explainer.explain(model, rows, "shap", algorithm="gaussian", budget=402, verify=False, relevance=False)
    process = odd_process(12, 200, 0)

    def v(masks):
        return wavy(np.where(masks, rows.to_numpy(), model.background.to_numpy()))[:, None]

    ends = v(np.array([[False] * 12, [True] * 12]))
    phi, error = process.values(ends[0], ends[1], v(process.coalitions))
    np.testing.assert_allclose(ex.values[0], phi[:, 0], atol=1e-10)
    np.testing.assert_allclose(ex.stderr[0], error[:, 0], atol=1e-10)


# -- between the batches of a model that sorts by length --------------------------------------------------------------


TEXT = " ".join(f"{'ab' * (j % 4 + 1)}{j}" for j in range(40))


def of_texts() -> explainer.Model:
    return gallery.text(gallery.seeded(gallery.Encoder), class_names=["no", "yes", "maybe"])


def test_progress_is_told_between_the_models_own_batches():
    model, seen = of_texts(), []
    model.module.register_forward_hook(lambda module, given, answer: seen.append(len(answer)))
    told = []
    ex = explainer.explain(model, [TEXT], "shap", progress=lambda done, total: told.append((done, total, len(seen))), verify=False)
    assert ex.provenance.evaluations == told[-1][0] == 2048 and len(told) > 7
    assert all(total == 2048 for _, total, _ in told) and [done for done, *_ in told] == sorted(done for done, *_ in told)
    calls = [calls for *_, calls in told]
    assert max(np.diff(calls)) == 1  # one batch of the module from one report to the next


def test_batches_in_another_order_are_the_same_bits(monkeypatch):
    """The texts of the whole request are sorted by length once; what is asked for between two reports is one of those batches."""
    model = of_texts()
    masks = np.random.default_rng(0).random((700, 40)) < 0.5
    given = model.canonical([TEXT])
    features = build(model, given)
    goal = resolve(0, model.scores(given), model.class_names)
    rows = features.rows_of([(0, masks)])
    whole = goal(model.rescale(model.raw(rows, 64), "probability"), 0)
    monkeypatch.setattr(model, "rows_at_once", lambda inputs, measured=False: 64)
    np.testing.assert_array_equal(Coalitions(model, given, features, goal, "probability")(0, masks), whole)


@pytest.mark.parametrize("share", [0.1, 0.4, 0.8])
@pytest.mark.parametrize("method", ["shap", "permutation", "owen", "lime", "rise"])
def test_a_stop_between_the_models_own_batches_leaves_what_is_known(method, share):
    model = of_texts()
    name, options = ("shap", {"algorithm": method}) if method == "permutation" else (method, {})
    options = {**options, "budget": 2048, "verify": False}
    whole = explainer.explain(model, [TEXT], name, **options)
    total = whole.provenance.evaluations
    ex = explainer.explain(model, [TEXT], name, progress=stop_at(share, total), **options)
    assert share * total <= ex.provenance.evaluations <= share * total + 256
    assert np.isfinite(ex.values).all() and any("enough" in note for note in ex.provenance.notes)
    if method in ("shap", "lime", "rise") and share > 0.3:
        assert np.linalg.norm(ex.values - whole.values) < 0.6 * np.linalg.norm(whole.values)


def test_seconds_end_between_the_models_own_batches():
    model = of_texts()
    explainer.explain(model, [TEXT], "shap", budget=2048, verify=False)  # its batch size is known from here on
    model.module.register_forward_hook(lambda module, given, answer: time.sleep(0.2))
    ex = explainer.explain(model, [TEXT], "shap", algorithm="kernel", budget="1s", verify=False)
    assert ex.provenance.seconds < 3 and np.isfinite(ex.values).all()


def test_every_beginning_holds_short_and_long_batches_in_pairs():
    for count in (1, 2, 3, 8, 33):
        parts = [int(part[0]) for part in spread_out([np.array([j]) for j in range(count)])]
        assert sorted(parts) == list(range(count))
        half = count // 2
        assert all(a + b == count - 1 for a, b in zip(parts[0 : 2 * half : 2], parts[1 : 2 * half : 2], strict=True))
    firsts = [int(part[0]) for part in spread_out([np.array([j]) for j in range(64)])][0:16:2]
    assert firsts[0] == 0
    assert max(np.diff(sorted([-1, *firsts, 32]))) <= 8  # an eighth of the halves was seen on average, and no gap is twice that


# -- every input has its share -----------------------------------------------------------------------------------------


def seen(images):
    return images[:, 4:14, 4:14].mean(axis=(1, 2))


@pytest.mark.parametrize("share", [0.15, 0.4, 0.8])
def test_occlusion_stopped_anywhere_has_every_pixel_of_every_picture(share):
    whole = explainer.explain(of_pictures(seen), pictures(), "occlusion", "yes", verify=False)
    model = of_pictures(slowed(seen, 1e-4))
    total = whole.provenance.evaluations
    ex = explainer.explain(model, pictures(), "occlusion", "yes", progress=stop_at(share, total), verify=False)
    assert ex.provenance.evaluations < total and np.isfinite(ex.values).all()
    assert np.corrcoef(ex.values.ravel(), whole.values.ravel())[0, 1] > 0.8
    assert any("windows" in note and "were scored" in note for note in ex.provenance.notes)


def test_occlusion_in_seconds():
    ex = explainer.explain(of_pictures(slowed(seen, 0.002)), pictures(4), "occlusion", "yes", budget="1s", verify=False)
    assert np.isfinite(ex.values).all() and ex.provenance.evaluations < 4 * 600


def test_pixels_no_window_came_to_are_said():
    with pytest.raises(InvalidInput, match=r"used up.*% of the parts had not been under a window"):
        explainer.explain(of_pictures(slowed(seen, 0.02)), pictures(2), "occlusion", budget="0.2s", verify=False)


def test_rise_in_seconds_is_fair_to_all_pictures():
    ex = explainer.explain(of_pictures(slowed(seen, 0.004)), pictures(5), "rise", "yes", budget="1.5s", cells=3, verify=False)
    assert np.isfinite(ex.values).all() and ex.provenance.seconds < 4


def test_rise_goes_on_without_a_picture_that_failed():
    given = pictures(2)
    given[1] += 5
    model = of_pictures(lambda images: np.where((images.max(axis=(1, 2)) > 4) & (images.min(axis=(1, 2)) < 2), np.nan, seen(images)))
    ex = explainer.explain(model, given, "rise", "yes", budget="50% error", cells=2, verify=False)
    assert np.isfinite(ex.values[0]).all() and np.isnan(ex.values[1]).all() and ex.provenance.evaluations < 20_000


@pytest.mark.parametrize("inputs", ["table", "picture"])
def test_lime_in_seconds_is_fair_to_all_rows(inputs):
    if inputs == "table":
        model, given, parts = regression(slowed(wavy, 0.002)), frame(6, seed=3), "auto"
    else:
        model, given, parts = of_pictures(slowed(seen, 0.004)), pictures(5), ("patches", 16)
    ex = explainer.explain(model, given, "lime", budget="1.5s", features=parts, verify=False)
    assert all(one.values.size and np.isfinite(one.values).all() for one in ex) and ex.provenance.seconds < 5


# -- seconds for a whole work ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mean_abs", "sage"])
def test_importance_keeps_to_its_seconds(kind):
    model = regression(slowed(wavy, 2e-5), WIDE)
    rows = frame(300, WIDE)
    started = time.perf_counter()
    found = importance(model, rows, kind=kind, labels=None if kind == "mean_abs" else np.zeros(300), budget="1s")
    assert time.perf_counter() - started < 3
    assert not found.complete and 2 <= found.rows < 300 and np.isfinite(found.values).all()
    said = [note for note in found.provenance.notes if "used up" in note]
    assert len(said) == 1 and f"The 1 s of the budget were used up after {found.rows} of 300 rows" in said[0]


def test_importance_without_a_single_row_says_so():
    with pytest.raises(InvalidInput, match="before any row"):
        importance(regression(slowed(wavy, 0.02), WIDE), frame(40, WIDE), budget="0.3s")


def test_reason_codes_share_their_seconds():
    model = regression(slowed(wavy, 2e-5), WIDE, frame(60, WIDE, seed=1))
    started = time.perf_counter()
    found = reason_codes(model, frame(1, WIDE), cutoff=3.0, budget="1.5s", seeds=3)
    assert time.perf_counter() - started < 4
    assert found[0].changes["seeds"].runs == 3 and found[0].changes["backgrounds"].runs == 3


def test_reruns_whose_seconds_did_not_suffice_are_said():
    calls = []

    def tiring(x):
        calls.append(time.perf_counter())
        time.sleep(2e-3 * len(x) if calls[-1] > calls[0] + 0.5 else 0)
        return wavy(x)

    model = regression(tiring, WIDE, frame(60, WIDE, seed=1))
    found = reason_codes(model, frame(1, WIDE), cutoff=3.0, budget="1s", seeds=3)
    assert found[0].changes["seeds"].runs + found[0].changes["backgrounds"].runs < 6
    assert any("reruns had no values within their share of the 1 s" in note for note in found.provenance.notes)


# -- a model that hangs ------------------------------------------------------------------------------------------------


class Dying:
    """Answers so many calls, and then none any more."""

    def __init__(self, answers: int) -> None:
        self.left, self.calls, self.forever = answers, 0, threading.Event()

    def __call__(self, x):
        self.calls += 1
        self.left -= 1
        if self.left < 0:
            self.forever.wait(20)
        return wavy(x)


@pytest.mark.parametrize("method", ["lime", "shap", "rise", "ablation", "anchors"])
@pytest.mark.parametrize("budget", [100, "1s"])
def test_a_dead_model_is_not_waited_for_again_and_again(method, budget):
    dying = Dying(1)
    started = time.perf_counter()
    with pytest.raises(InvalidInput, match="The model hangs: it gave no answer within the time limit"):
        explainer.explain(regression(dying), frame(2), method, budget=budget, time_limit=0.1)
    dying.forever.set()
    assert time.perf_counter() - started < 3 and dying.calls <= 12


def test_a_model_that_hangs_ends_with_the_seconds():
    dying = Dying(1)
    started = time.perf_counter()
    with pytest.raises(InvalidInput, match=r"0\.6 s of the budget were used up"):
        explainer.explain(regression(dying), frame(2), "lime", budget="0.6s", time_limit=15)
    dying.forever.set()
    assert time.perf_counter() - started < 3


def test_rows_that_hang_are_told_from_a_model_that_is_dead():
    def hangs(x):
        if (x[:, 0] > 50).any():
            time.sleep(1)
        return wavy(x)

    rows = frame(16)
    rows.loc[[3, 4], "a"] = 99
    model = regression(hangs)
    scores, faults = score_each(model, model.canonical(rows), "raw", 0.05)
    assert sorted(faults) == [3, 4] and np.isfinite(np.delete(scores, [3, 4], axis=0)).all()


def test_a_search_for_rows_at_fault_ends_when_it_is_told_to():
    calls = []

    def broken(x):
        calls.append(len(x))
        raise RuntimeError("no")

    model = regression(broken)
    scores, faults = score_each(model, model.canonical(frame(64)), "raw", None, lambda: len(calls) >= 5)
    assert len(calls) <= 6 and np.isnan(scores).all() and len(faults) < 64


# -- what the budget missed --------------------------------------------------------------------------------------------


def rough(x):
    return np.sin(3000 * (x @ np.linspace(1, 2, x.shape[1])))


@pytest.mark.parametrize("method", ["shap", "lime", "rise", "owen"])
def test_an_error_that_was_not_reached_is_said(monkeypatch, method):
    monkeypatch.setattr("explainer.coalitions._MOST_EVALUATIONS", 150)
    names = [f"x{j}" for j in range(20)]
    ex = explainer.explain(regression(rough, names, frame(1, names, seed=3)), frame(2, names), method, budget="0.1% error")
    assert any("0.10%, was not reached for 2 of 2" in note for note in ex.provenance.notes)
    for verdict in ex.verdicts:
        check = verdict.checks["sampling error"]
        assert check.status in ("warn", "fail") and "0.10% was asked for" in check.reason and check.threshold == 0.001


def test_an_error_that_was_reached_is_not_complained_of():
    model = regression(lambda x: x @ np.arange(12.0), WIDE, frame(1, WIDE, seed=3))
    for method in ("shap", "owen", "lime"):
        ex = explainer.explain(model, frame(2, WIDE), method, budget="20% error")
        assert not any("not reached" in note for note in ex.provenance.notes)
        assert ex.verdicts[0].checks["sampling error"].reason.count("asked for") == 0


@pytest.mark.parametrize("how", ["kernel", "permutation", "stratified", ""])
def test_more_evaluations_than_allowed_are_said(how):
    method, options = ("shap", {"algorithm": how}) if how else ("ablation", {})
    names = [f"x{j}" for j in range(30)]
    model = regression(wavy, names, frame(1, names, seed=3))
    ex = explainer.explain(model, frame(2, names), method, budget=20, verify=False, **options)
    most = ex.provenance.evaluations // 2
    assert most > 20 and any(f"{most} evaluations were used for an input where 20 were allowed" in note for note in ex.provenance.notes)
    within = explainer.explain(model, frame(2, names), method, budget=2000, verify=False, **options)
    assert not any("were allowed" in note for note in within.provenance.notes)


def test_evaluations_that_interactions_cannot_use_are_said():
    names = [f"x{j}" for j in range(18)]
    model = regression(wavy, names, frame(1, names, seed=3))
    ex = explainer.explain(model, frame(1, names), "shap_interactions", budget=20_000, verify=False)
    assert any("20,000" in note and "2,050" in note for note in ex.provenance.notes)
    assert ex.provenance.evaluations == 2050


def test_thousands_of_parts_need_no_square_table_and_stay_numbers(recwarn):
    """No table of parts x parts, and no 0 / 0 where the strengths of very many parts add up."""
    d = 6000
    process, weights = odd_process(d, 32, 0), np.random.default_rng(0).normal(size=d)
    assert max(array.size for fit in process.fits for array in vars(fit).values()) < d * d / 10
    rows = process.coalitions @ weights[:, None]
    phi, error = process.fitted(refine=True).values(np.zeros(1), weights.sum(keepdims=True), rows)
    assert np.isfinite(phi).all() and np.isfinite(error).all() and not recwarn.list
    np.testing.assert_allclose(phi.sum(), weights.sum())
