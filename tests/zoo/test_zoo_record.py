"""Records: measured again without training, of what they say, and bars, groups and units as they stand."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import zoo
from explainer.errors import InvalidInput
from zoo import bars, card, record, registry
from zoo.bars import Bar
from zoo.data import Data, Split
from zoo.recipes import Recipe, recipe
from zoo.sources import ecg, vowels


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """A copy of a packaged specimen that may be written to, in the place of the one in the package."""
    shutil.copytree(registry.WEIGHTS / "vowels-rnn", tmp_path / "vowels-rnn")
    monkeypatch.setattr(registry, "WEIGHTS", tmp_path)
    return tmp_path / "vowels-rnn"


def edit(folder, **changes):
    path = folder / "record.json"
    old = json.loads(path.read_text())
    path.write_text(json.dumps({**old, **changes}))
    return old


# -- measured again --------------------------------------------------------------------------------------------------------


def test_measuring_again_finds_the_figures_and_keeps_what_training_wrote(packaged):
    old = edit(packaged, metrics={}, versions={"torch": "1.0"}, note="kept")
    weights = (packaged / "model.safetensors").read_bytes()
    made = record.again("vowels-rnn")
    assert made == json.loads((packaged / "record.json").read_text())
    assert made["metrics"] == old["metrics"] and made["against_baseline"] == old["against_baseline"]
    for key in ("seed", "device", "history", "seconds", "best_epoch", "files", "weights_sha256"):
        assert made[key] == old[key], key
    assert made["versions"] == {"torch": "1.0"} and made["note"] == "kept"
    assert (packaged / "model.safetensors").read_bytes() == weights
    assert zoo.load("vowels-rnn").card == card.markdown(recipe("vowels-rnn"), made)
    assert f"anew on {made['measured']['date']}" in zoo.load("vowels-rnn").card
    assert f"with torch {made['measured']['versions']['torch']}." in zoo.load("vowels-rnn").card


@pytest.mark.parametrize("part", ["train", "validation"])
def test_weights_are_not_measured_where_what_they_were_trained_on_is_another(packaged, monkeypatch, part):
    data = vowels.load()
    split = getattr(data, part)
    monkeypatch.setattr(vowels, "load", lambda: replace(data, **{part: split.take(np.arange(len(split) - 1))}))
    before = (packaged / "record.json").read_bytes()
    with pytest.raises(InvalidInput, match=rf"The {part} split of vowels-rnn is not what its weights were trained on.*explainer train"):
        record.again("vowels-rnn")
    assert (packaged / "record.json").read_bytes() == before


def test_a_smaller_test_split_is_measured_unless_the_record_cannot_say_which_part_changed(packaged, monkeypatch):
    data = vowels.load()
    monkeypatch.setattr(vowels, "load", lambda: replace(data, test=data.test.take(np.arange(200))))
    assert record.again("vowels-rnn")["split"]["test"] == 200
    old = json.loads((packaged / "record.json").read_text())
    (packaged / "record.json").write_text(json.dumps({k: v for k, v in old.items() if k != "parts_sha256"} | {"data_sha256": "0"}))
    with pytest.raises(InvalidInput, match="The data of vowels-rnn"):
        record.again("vowels-rnn")


def test_each_part_has_a_digest_that_changes_with_it_alone():
    rows = np.arange(12.0).reshape(6, 2)
    labels = np.array([0, 1] * 3)
    whole = Data(Split(rows, labels), Split(rows[:4], labels[:4]), Split(rows[:2], labels[:2]), ("a", "b"), "", "")
    other = replace(whole, test=Split(rows[:2], 1 - labels[:2]))
    assert [whole.parts_sha256[part] == other.parts_sha256[part] for part in ("train", "validation", "test")] == [True, True, False]
    assert whole.sha256 != other.sha256


# -- units -----------------------------------------------------------------------------------------------------------------


def test_no_patient_of_the_ecg_is_on_both_sides(packaged):
    pytest.importorskip("torch")
    if zoo.missing("ecg-rnn"):
        pytest.skip(zoo.missing("ecg-rnn"))
    data = ecg.load()
    person = {202: 201}  # two records of one man (Moody and Mark 2001)
    people = [{person.get(one, one) for one in part.units} for part in (data.train, data.validation, data.test)]
    assert [len(one) for one in people] == [16, 6, 21]
    assert not (people[0] | people[1]) & people[2]
    assert not {102, 104, 107, 217} & set.union(*people)  # paced
    assert all(len(part.units) == len(part) for part in (data.train, data.test))


def test_the_record_of_the_ecg_is_of_patients_and_its_card_says_so():
    specimen = zoo.load("ecg-rnn")
    assert specimen.record["resampled"] == {"by": "patient", "units": 21}
    assert "over 21 patients, drawn whole" in specimen.card and "tend to be too narrow" in specimen.card
    figure = specimen.record["metrics"]["balanced_accuracy"]
    assert figure["high"] - figure["low"] > 0.1  # 0.02 where each beat counts as a patient


def test_units_go_with_their_rows():
    split = Split(np.arange(6), np.arange(6), units=pd.Series(list("aabbcc"), name="patient"))
    assert split.take(np.array([5, 0])).units.tolist() == ["c", "a"]


def test_figures_of_a_split_with_units_are_as_wide_as_those_of_its_units(monkeypatch):
    """Every row four times, by patient: the same intervals as of the rows once."""
    rng = np.random.default_rng(0)
    rows, labels = rng.random((60, 2)), rng.integers(0, 2, 60)

    def figures(times):
        units = pd.Series(np.repeat(np.arange(60), times), name="patient")
        test = Split(np.repeat(rows, times, 0), np.repeat(labels, times), pd.DataFrame({"sex": units % 2}), units)
        data = Data(test, test, test, ("a", "b"), "", "")
        monkeypatch.setattr(record, "resolve", lambda path: lambda data: ("half", lambda inputs: np.full((len(inputs), 2), 0.5)))
        chosen = Recipe("x", "tabular", "zoo.sources.breast", "zoo.baselines:logistic", "accuracy", "", "", ())
        return record._figures(chosen, data, lambda split: np.stack([split.inputs[:, 0], 1 - split.inputs[:, 0]], 1))

    once, often = figures(1), figures(4)
    for key in ("metrics", "against_baseline"):
        assert often[key] == once[key]
    assert often["baseline"]["metrics"] == once["baseline"]["metrics"]
    assert often["resampled"] == {"by": "patient", "units": 60}
    assert {k: v["metrics"] for k, v in often["groups"]["sex"].items()} == {k: v["metrics"] for k, v in once["groups"]["sex"].items()}


def test_classes_that_count_as_one_have_the_sum_of_their_probabilities(monkeypatch):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 90)
    outputs = np.where(labels[:, None] == 0, [0.6, 0.3, 0.1], [0.4, 0.3, 0.3])  # never 1 nor 2 by the largest, always by their sum
    test = Split(rng.random((90, 3)), labels)
    found = record._merged({"fair": (0,), "unfair": (1, 2)}, test, outputs, np.full((90, 3), 1 / 3), "macro_f1")
    assert found["classes"] == ["fair", "unfair"]
    assert found["metrics"]["macro_f1"]["value"] == 1 and found["metrics"]["accuracy"]["value"] == 1
    assert found["baseline"]["accuracy"]["value"] == pytest.approx((labels > 0).mean(), abs=1e-4)
    assert found["against_baseline"]["standing"] == "beats"


# -- rows seen before ------------------------------------------------------------------------------------------------------


def test_rows_that_stand_in_an_earlier_split_are_counted_in_every_kind_of_input():
    table = pd.DataFrame({"a": [1.0, 2.0, np.nan], "b": ["x", "y", "z"]})
    other = pd.DataFrame({"a": [9.0, np.nan], "b": ["x", "z"]})
    texts = (["One  licence", "another"], ["a third"], ["one LICENCE\n", "A third", "a fourth"])
    series = ([np.zeros((2, 1)), np.ones((3, 1))], [np.ones((2, 1))], [np.ones((3, 1)), np.ones((4, 1))])
    images = (np.zeros((3, 2, 2)), np.zeros((1, 2, 2)), np.stack([np.zeros((2, 2)), np.ones((2, 2))]))
    for parts, expected in (((table, table[:1], other), (1, 1)), (texts, (0, 2)), (series, (0, 1)), (images, (1, 1))):
        data = Data(*(Split(one, np.zeros(len(one), dtype=int)) for one in parts), ("a",), "", "")
        assert tuple(data.repeated().values()) == expected


def test_cards_say_how_many_test_rows_were_in_training():
    default, digits = zoo.load("default-mlp"), zoo.load("digits-cnn")
    assert f", {default.record['repeated']['test']} of them with the inputs of a row in train or validation)" in default.card
    assert "(1,000 rows, none with the inputs of a row in train or validation)" in digits.card
    assert not any("never seen" in zoo.load(name).card for name in zoo.names())


@pytest.mark.parametrize("name", ["default-mlp", "loan-mlp"])
def test_the_count_is_that_of_a_join(name):
    if zoo.missing(name):
        pytest.skip(zoo.missing(name))
    data = recipe(name).data()
    known = pd.concat([data.train.inputs, data.validation.inputs]).drop_duplicates()
    joined = data.test.inputs.merge(known, how="left", indicator=True)
    assert len(joined) == len(data.test)
    assert zoo.load(name).record["repeated"]["test"] == (joined["_merge"] == "both").sum()


# -- groups ----------------------------------------------------------------------------------------------------------------


def test_a_group_too_small_for_an_interval_is_listed():
    labels = np.array([0, 1] * 20 + [1] * 40 + [0, 1] + [0] * 3)
    groups = pd.DataFrame({"town": ["Oslo"] * 40 + ["Bergen"] * 40 + ["Molde"] * 2 + [None] * 3, "coast": [1.0] * 82 + [np.nan] * 3})
    outputs = np.full((85, 2), 0.5)
    made = record.by_group(Split(np.arange(85), labels, groups), outputs)
    found = made["town"]
    assert {name: one["rows"] for name, one in found.items()} == {"Oslo": 40, "Bergen": 40, "Molde": 2, "not known": 3}
    assert {name: one["rows"] for name, one in made["coast"].items()} == {"1": 82, "not known": 3}
    assert found["Bergen"]["without"] == "all of one class"
    assert found["Oslo"]["metrics"]["accuracy"]["value"] == 0.5
    lines = card.groups({"metric": "accuracy", "groups": {"town": found}})
    assert "| town = Molde | 2 | too few for an interval |" in lines
    assert "| town = not known | 3 | too few for an interval |" in lines


@pytest.mark.parametrize(("name", "column"), [("diabetes-mlp", "sex"), ("speech-rnn", "speaker"), ("loan-mlp", "min30")])
def test_every_group_of_the_test_split_is_on_the_card_with_its_rows(name, column):
    if zoo.missing(name):
        pytest.skip(zoo.missing(name))
    specimen = zoo.load(name)
    counts = recipe(name).data().test.groups[column].value_counts()
    assert sum(one["rows"] for one in specimen.record["groups"][column].values()) == specimen.record["split"]["test"]
    assert len(counts) > 1
    for value, rows in counts.items():
        assert (
            f"| {column} = {value:g} | {rows} |" in specimen.card if isinstance(value, float) else f"= {value} | {rows} |" in specimen.card
        )


# -- bars ------------------------------------------------------------------------------------------------------------------


def test_each_kind_of_bar_is_judged_and_told(packaged):
    shutil.copytree(packaged, packaged.parent / "other")
    edit(packaged.parent / "other", name="other", metrics={"accuracy": {"value": 0.9}})
    cells = {"0.1": {"adapters": {"accuracy": {"value": 0.7}}, "scratch": {"accuracy": {"value": 0.8}}}}
    mine = {"metrics": {"accuracy": {"value": 0.85}}, "baseline": {"metrics": {"accuracy": {"value": 0.85}}}, "transfer": {"cells": cells}}
    asked = {
        Bar("accuracy", 0.85): "accuracy at least 0.85: 0.850, met",
        Bar("accuracy", 0.86): "accuracy at least 0.86: 0.850, NOT met",
        Bar("accuracy", beside="baseline"): "accuracy above the baseline's: 0.850 against 0.850, NOT met",
        Bar("accuracy", -0.01, beside="baseline"): "accuracy less than 0.01 below the baseline's: 0.850 against 0.850, met",
        Bar("accuracy", -0.02, beside="other"): "accuracy less than 0.02 below other's: 0.850 against 0.900, NOT met",
        Bar("accuracy", -0.06, beside="other"): "accuracy less than 0.06 below other's: 0.850 against 0.900, met",
        Bar(
            "accuracy", beside="scratch", share="0.1"
        ): "with 10% of the labels above the network from scratch's: 0.700 against 0.800, NOT met",
        Bar("accuracy", beside="scratch", share="0.01"): "with 1% of the labels above the network from scratch's: not measured",
    }
    for one, (bar, said) in zip(bars.judged(list(asked), mine), asked.items(), strict=True):
        assert f"{card.wanted(one)}: {card.reached(one)}".endswith(said), bar


def test_what_was_promised_of_each_specimen_is_a_bar_of_its_recipe():
    assert {bar.metric for bar in recipe("pneumonia-cnn").bars} == {"roc_auc", "accuracy"}
    assert recipe("ecg-rnn").bars[0].beside == "baseline"
    assert recipe("licence-rnn").bars[0].beside == "licence-transformer"
    assert [bar.share for bar in recipe("licence-minilm").bars] == ["0.01", "0.1"]


# -- the rest of the card --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"seconds": 7200, "device": "cpu (4 threads)"}, ", 8 core hours"),
        ({"seconds": 900, "device": "cuda (NVIDIA H100)", "processes": 2}, ", 0.5 GPU hours"),
        ({"seconds": 900, "device": "cpu"}, ""),
    ],
)
def test_time_is_told_times_devices(made, said):
    assert card.hours(made) == said


def test_the_gan_is_also_held_against_its_baseline_with_nothing_left_out():
    found = zoo.load("digits-gan").record["further"]
    gap = found["the same less the baseline's, of whose pictures none is left out either"]
    whole = found["confidence of digits-cnn in all pictures, before the discriminator keeps half"]
    other = zoo.load("digits-gan").record["baseline"]["metrics"]["confidence"]
    assert gap["value"] == pytest.approx(whole["value"] - other["value"], abs=2e-5)
    assert "the half of 2,000 that its discriminator keeps" in zoo.load("digits-gan").card


def test_the_digest_of_all_is_made_of_those_of_the_parts():
    data = recipe("diabetes-mlp").data()
    assert data.sha256 == hashlib.sha256(b"".join(data._lines.values())).hexdigest()
    assert zoo.load("diabetes-mlp").record["parts_sha256"] == data.parts_sha256
