"""The measured effects of the practices: what the file says is what is measured, and it is complete."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import zoo
from explainer.errors import UnknownName
from explainer.metrics import measure
from zoo import metrics, practices, privacy
from zoo.recipes import recipe
from zoo.specimens import RECIPES


@pytest.fixture(scope="module")
def measured():
    return practices.read()


def test_every_measure_has_its_figures_and_says_where_they_are_from(measured):
    assert set(measured) == set(practices.MEASURES)
    for one in measured.values():
        assert one["figures"]
        assert one["device"] and one["versions"]["torch"]
    assert set(measured["settings"]["figures"]) == set(practices.ABLATIONS)


@pytest.mark.parametrize("name", ["calibration", "compression"])
def test_what_was_measured_on_packaged_weights_is_of_those_that_are_packaged_now(measured, name):
    held = measured[name]["weights"]
    assert set(held) == set(measured[name]["figures"])
    assert held == {one: practices.weights(one) for one in held}, f"run python -m zoo.practices {name}"


@pytest.mark.parametrize("name", practices.ABLATIONS)
def test_on_and_off_are_two_recipes_and_one_of_them_is_the_specimens_own(name):
    one = practices.ABLATIONS[name]
    own = recipe(one.specimen)
    on, off = dataclasses.replace(own, **one.on), dataclasses.replace(own, **one.off)
    assert on != off
    assert own in (on, off)


def test_a_setting_measured_on_few_rows_is_measured_on_as_many_as_it_says(monkeypatch):
    seen = []
    few = {name: one for name, one in practices.ABLATIONS.items() if one.rows}
    monkeypatch.setattr(practices, "ABLATIONS", few)
    monkeypatch.setattr(practices, "_figures", lambda chosen, data, *_: seen.append(data.train) or {"accuracy": len(seen)})
    practices.settings()
    assert [f"on {one.rows} digits" for one in few.values()] == [one.what for one in few.values()] == ["on 500 digits"]
    assert {len(train) for train in seen} == {500}
    assert np.bincount(seen[0].labels).min() > 30
    assert len(np.unique(seen[0].inputs.reshape(500, -1), axis=0)) == 500


def test_every_setting_measured_is_in_use_but_those_that_say_otherwise():
    """A practice that no specimen uses would be a promise only."""
    for name in ("l1", "decay", "smoothing", "average", "weighted", "warmup", "clip"):
        assert any(getattr(one, name) for one in RECIPES.values() if one.epochs), name
    assert any(one.network_arguments.get("norm") for one in RECIPES.values())
    assert any(one.augment() for one in RECIPES.values() if one.epochs and one.augmented)


@pytest.mark.parametrize("name", ["loan-mlp", "breast-forest"])
def test_the_calibration_of_the_file_is_found_again(measured, name):
    again = practices._calibrated(name)
    kept = measured["calibration"]["figures"][name]
    for key in ("temperature", "ece", "log_loss", "classes in a set"):
        assert again[key] == pytest.approx(kept[key], abs=2e-3), key
    assert again["covered"]["value"] == pytest.approx(kept["covered"]["value"], abs=3e-3)


def test_a_model_that_learnt_its_rows_by_heart_gives_them_away_and_a_private_one_less(measured):
    figures = measured["privacy"]["figures"]
    bare = figures["no regularisation, last epoch"]["advantage"]
    assert bare["low"] > figures["epsilon 1"]["advantage"]["high"]
    for epsilon in practices.EPSILONS:
        assert figures[f"epsilon {epsilon:g}"]["spent"]["epsilon"] <= epsilon
    areas = [figures[f"epsilon {epsilon:g}"]["roc_auc"]["value"] for epsilon in practices.EPSILONS]
    assert areas[0] < areas[-1] < figures["as the specimen is trained"]["roc_auc"]["value"]


def test_the_packaged_loan_model_gives_away_about_as_little_as_its_recipe_does(measured):
    specimen = zoo.load("loan-mlp")
    splits = specimen.data.train, specimen.data.test
    found = privacy.membership_advantage(*(privacy.losses(specimen.model.scores(one.inputs), one.labels) for one in splits))
    known = measured["privacy"]["figures"]["as the specimen is trained"]["advantage"]
    assert found["low"] <= known["value"] <= found["high"]


def test_speakers_never_heard_are_on_the_card(measured):
    figures = measured["speakers"]["figures"]
    specimen = zoo.load("speech-rnn")
    assert specimen.record["unheard_speakers"] == figures
    assert len(figures) == 6 and sum(one["rows"] for one in figures.values()) == 3000
    for name, one in figures.items():
        assert f"| {name} | {one['rows']:,} | {one['accuracy']['value']:.3f}" in specimen.card


def test_a_run_without_a_folder_is_the_run_of_the_specimen(tmp_path):
    from zoo.train import fit, train

    chosen = recipe("breast-mlp")
    run, state = fit(dataclasses.replace(chosen, epochs=3), chosen.data())
    record = train("breast-mlp", out=tmp_path, epochs=3, progress=False, log=False, device="cpu")
    found = measure(run.data.test.labels, run.predict(state.module, state.best, run.data.test))
    assert found["roc_auc"][0] == pytest.approx(record["metrics"]["roc_auc"]["value"], abs=1e-4)


def test_students_interval_holds_the_mean_difference_as_often_as_it_says():
    draw = np.random.default_rng(0)
    found = [metrics.student(draw.normal(1.0, 2.0, size=5)) for _ in range(400)]
    assert 0.92 < np.mean([one["low"] <= 1.0 <= one["high"] for one in found]) < 0.98


def test_an_unknown_measure_is_refused_before_anything_runs():
    with pytest.raises(UnknownName, match="Did you mean 'privacy'"):
        practices.measure(["privac"])
