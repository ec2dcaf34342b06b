"""ONNX graphs behind the Model face, held against the torch modules and estimators they were made from."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
import torch_gallery as gallery
from onnx import TensorProto, helper
from torch import nn

import explainer
from explainer import sources
from explainer.errors import CorruptFile, InvalidInput, MissingDependency, UnknownName, Unsupported

NAMES = [f"f{i}" for i in range(5)]
WEIGHTS = np.array([[1.0, -1, 0.5], [0, 2, -0.5], [0.25, 0, 1], [-1, 1, 1], [0.5, 0.5, -2]], dtype=np.float32)


def saved(folder: Path, nodes, inputs, outputs, constants=(), name="model.onnx", producer="test") -> Path:
    graph = helper.make_graph(nodes, "g", inputs, outputs, [onnx.numpy_helper.from_array(value, key) for key, value in constants])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, producer_name=producer, ir_version=8), folder / name)
    return folder / name


def linear(folder: Path, batch="n", softmax=False, **options) -> Path:
    """``x @ WEIGHTS``, with or without a softmax behind it."""
    last = [helper.make_node("Softmax", ["z"], ["probabilities"], axis=1)] if softmax else []
    return saved(
        folder,
        [helper.make_node("MatMul", ["x", "w"], ["z"]), *last],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 5])],
        [helper.make_tensor_value_info("probabilities" if softmax else "z", TensorProto.FLOAT, [batch, 3])],
        [("w", WEIGHTS)],
        **options,
    )


def test_a_torch_module_and_its_export_score_alike(tmp_path):
    net = gallery.mlp(final=nn.Softmax(1))
    data = gallery.table(20)
    torch.onnx.export(
        net, (torch.randn(2, 5),), tmp_path / "net.onnx", input_names=["x"], dynamic_shapes=({0: torch.export.Dim("n")},),
        external_data=True, verbose=False,
    )  # fmt: skip
    ours = gallery.tabular(net, background=data)
    model = explainer.wrap(tmp_path / "net.onnx", modality="tabular", background=data)
    assert model.returns == "probability" and model.class_names == ("class 0", "class 1", "class 2")
    assert model.feature_names == tuple(NAMES) and model.framework == "onnx"
    np.testing.assert_allclose(model.scores(data), ours.scores(data), atol=1e-6)
    mine, theirs = (explainer.explain(m, data[:2], "shap", target=1) for m in (model, ours))
    np.testing.assert_allclose(mine.values, theirs.values, atol=1e-5)
    assert mine.verdict.checks["completeness"].status == "pass"


def test_logits_are_never_taken_for_probabilities(tmp_path):
    path = linear(tmp_path)
    with pytest.raises(InvalidInput, match="returns='logit'"):
        explainer.wrap(path, modality="tabular")
    with pytest.raises(InvalidInput, match="said to give probabilities"):
        explainer.wrap(path, modality="tabular", returns="probability")
    model = explainer.wrap(str(path), modality="tabular", feature_names=NAMES, returns="logit")
    data = gallery.table(7)
    logits = data.to_numpy() @ WEIGHTS
    np.testing.assert_allclose(model.scores(data, "logit"), logits, atol=1e-5)
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(model.scores(data), expected, atol=1e-6)
    values = explainer.wrap(path, modality="tabular", task="regression")
    assert values.class_names == ("output 0", "output 1", "output 2")


@pytest.mark.parametrize("batch", [1, 4])
def test_a_fixed_batch_is_filled_up(tmp_path, batch):
    model = explainer.wrap(linear(tmp_path, batch), modality="tabular", returns="logit")
    data = gallery.table(11)
    np.testing.assert_allclose(model.scores(data.to_numpy(), "raw"), data.to_numpy() @ WEIGHTS, atol=1e-5)
    assert model.feature_names == ("x0", "x1", "x2", "x3", "x4")


def test_a_session_and_its_bytes(tmp_path):
    path = linear(tmp_path, softmax=True)
    data = gallery.table(9)
    given = [onnxruntime.InferenceSession(s, providers=["CPUExecutionProvider"]) for s in (str(path), path.read_bytes())]
    models = [explainer.wrap(one, modality="tabular", background=data) for one in (*given, path)]
    assert len({m.fingerprint() for m in models}) == 1
    for model in models:
        np.testing.assert_array_equal(model.scores(data), models[0].scores(data))


def test_the_fingerprint_follows_the_weights_also_beside_the_file(tmp_path):
    prints = []
    for scale in (1.0, 2.0):
        model = onnx.load(linear(tmp_path, name="inline.onnx"))
        model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(WEIGHTS * np.float32(scale), "w"))
        onnx.save_model(model, tmp_path / "out.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
        prints.append(explainer.wrap(tmp_path / "out.onnx", modality="tabular", returns="logit").fingerprint())
        (tmp_path / "weights.bin").rename(tmp_path / f"kept{scale}")
    assert prints[0] != prints[1]


def sklearn_like(folder: Path) -> Path:
    """Two named columns, one of words, and a map from class to probability, as skl2onnx makes them."""
    nodes = [
        helper.make_node("LabelEncoder", ["town"], ["t"], domain="ai.onnx.ml", keys_strings=["north", "south"], values_floats=[0.0, 1.0]),
        helper.make_node("Concat", ["age", "t"], ["x"], axis=1),
        helper.make_node(
            "LinearClassifier", ["x"], ["label", "p"], domain="ai.onnx.ml", coefficients=[-1.0, -2.0, 1.0, 2.0], intercepts=[0.0, 0.0],
            classlabels_strings=["bad", "good"], multi_class=1, post_transform="SOFTMAX",
        ),
        helper.make_node("ZipMap", ["p"], ["output_probability"], domain="ai.onnx.ml", classlabels_strings=["bad", "good"]),
    ]  # fmt: skip
    column = [helper.make_tensor_value_info(n, t, [None, 1]) for n, t in (("age", TensorProto.FLOAT), ("town", TensorProto.STRING))]
    label = helper.make_tensor_value_info("label", TensorProto.STRING, [None])
    probability = helper.make_value_info(
        "output_probability",
        helper.make_sequence_type_proto(
            helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
        ),
    )
    return saved(folder, nodes, column, [label, probability], producer="skl2onnx")


def test_columns_by_name_and_a_map_of_probabilities(tmp_path):
    data = pd.DataFrame({"town": ["north", "south", "south"], "age": [1.0, -1.0, 0.25]})
    model = explainer.wrap(sklearn_like(tmp_path), background=data)
    assert model.modality == "tabular" and model.class_names == ("bad", "good") and model.returns == "probability"
    margin = 2 * data["age"].to_numpy() + 4 * (data["town"] == "south").to_numpy()
    np.testing.assert_allclose(model.scores(data)[:, 1], 1 / (1 + np.exp(-margin)), atol=1e-6)
    ex = explainer.explain(model, data[:1], "shap", target="good")
    assert ex.feature_names[0] == ("town", "age") and ex.verdict.checks["completeness"].status == "pass"


def test_every_method_runs_or_says_why_not(tmp_path):
    data = gallery.table(12)
    model = explainer.wrap(linear(tmp_path, 4, softmax=True), modality="tabular", background=data[:5], name="mine")
    ran = []
    for name, able in model.capabilities().items():
        if able.level == "unsupported":
            with pytest.raises(Unsupported, match="mine|for"):
                explainer.explain(model, data[6:8], name)
        else:
            ex = explainer.explain(model, data[6:8], name, budget=64)
            assert np.isfinite(ex.values).all() and "onnxruntime" in ex.provenance.versions
            ran.append(name)
    assert {"shap", "lime", "ablation"} <= set(ran) and not {"saliency", "attention", "tree_shap"} & set(ran)


def test_the_command_line_takes_a_graph_that_says_what_it_is(tmp_path):
    assert sources.resolve_model(str(sklearn_like(tmp_path))).class_names == ("bad", "good")
    for word in (str(linear(tmp_path)), "https://example.org/predict?key=abc"):
        with pytest.raises(InvalidInput, match=r"path/to/file\.py:function") as caught:
            sources.resolve_model(word)
        assert "abc" not in str(caught.value)


def test_pictures_channels_first_or_last(tmp_path):
    pictures = np.random.default_rng(0).random((5, 4, 6, 3)).astype(np.float32)
    for shape, axes, name in ((["n", 3, 4, 6], [2, 3], "first.onnx"), (["n", 4, 6, 3], [1, 2], "last.onnx")):
        path = saved(
            tmp_path,
            [helper.make_node("ReduceMean", ["x"], ["y"], axes=axes, keepdims=0)],
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
            name=name,
        )
        model = explainer.wrap(path, task="regression", class_names=["r", "g", "b"])
        assert model.modality == "image"
        np.testing.assert_allclose(model.scores(pictures), pictures.mean((1, 2)), atol=1e-6)
    with pytest.raises(Unsupported, match="outside only"):
        explainer.explain(model, pictures, "saliency", target="r")


def test_series_of_unequal_length(tmp_path):
    path = saved(
        tmp_path,
        [helper.make_node("ReduceMean", ["x"], ["y"], axes=[1], keepdims=0)],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "t", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
    )
    given = gallery.series()
    model = explainer.wrap(path, modality="series", task="regression", background=given)
    np.testing.assert_allclose(model.scores(given), np.stack([one.mean(0) for one in given]), atol=1e-6)


def two_inputs(folder: Path) -> Path:
    return saved(
        folder,
        [helper.make_node("Cast", ["ids"], ["c"], to=TensorProto.FLOAT), helper.make_node("Add", ["x", "c"], ["y"])],
        [helper.make_tensor_value_info(n, t, ["n", 2]) for n, t in (("x", TensorProto.FLOAT), ("ids", TensorProto.INT64))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
    )  # fmt: skip


def test_several_inputs_come_from_preprocess(tmp_path):
    path, data = two_inputs(tmp_path), gallery.table(4, 4)
    with pytest.raises(InvalidInput, match="takes 2 inputs"):
        explainer.wrap(path, modality="tabular", feature_names=NAMES[:4], task="regression")

    def split(t):
        return {"x": t.to_numpy()[:, :2], "ids": t.to_numpy()[:, 2:].round()}

    model = explainer.wrap(path, modality="tabular", preprocess=split, background=data, task="regression")
    np.testing.assert_allclose(model.scores(data), data.to_numpy()[:, :2] + data.to_numpy()[:, 2:].round(), atol=1e-6)
    for wrong, error, words in (
        (lambda t: {"x": t.to_numpy()[:, :2], "idz": t.to_numpy()[:, 2:]}, UnknownName, "Did you mean 'ids'"),
        (lambda t: t.to_numpy(), InvalidInput, "takes 2"),
        (lambda t: (t.to_numpy()[:, :2], t.to_numpy()[:, 2:]), InvalidInput, "whole numbers"),
        (lambda t: {"x": t.to_numpy()[:1, :2], "ids": np.ones((1, 2))}, InvalidInput, "one row per input"),
    ):
        with pytest.raises(error, match=words):
            explainer.wrap(path, modality="tabular", preprocess=wrong, background=data, task="regression")


def test_what_is_wrong_is_said(tmp_path, monkeypatch):
    with pytest.raises(InvalidInput, match="no file"):
        explainer.wrap(tmp_path / "absent.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0")
    with pytest.raises(CorruptFile, match="Git LFS pointer"):
        explainer.wrap(tmp_path / "broken.onnx")
    path = linear(tmp_path, softmax=True)
    with pytest.raises(InvalidInput, match=r"modality='tabular'.*"):
        explainer.wrap(path)
    with pytest.raises(UnknownName, match="Did you mean 'output'"):
        explainer.wrap(path, modality="tabular", outptu="probabilities")
    with pytest.raises(UnknownName, match="probabilities"):
        explainer.wrap(path, modality="tabular", output="logitz")
    with pytest.raises(InvalidInput, match="has 3 outputs, but 2 class_names"):
        explainer.wrap(path, modality="tabular", class_names=["a", "b"])
    model = explainer.wrap(path, modality="tabular")
    with pytest.raises(InvalidInput, match="5"):
        model.scores(gallery.table(2, 4))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependency, match=r"explainer-toolkit\[onnx\]"):
        explainer.wrap(path)
