"""Values on the units of a layer, against captum where it is right, slow formulas, and completeness; and which layer it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torch_gallery as gallery
from captum.attr import InternalInfluence, LayerConductance, LayerDeepLift, LayerGradientXActivation, LayerIntegratedGradients
from test_torch_adapter import assert_unchanged, snapshot
from torch import Tensor, nn

import explainer
from explainer.errors import InvalidInput, UnknownName, Unsupported


class Pictures(nn.Module):
    """Two convolutions that captum's hooks can follow, with a way past the second."""

    def __init__(self, past: bool = False) -> None:
        super().__init__()
        self.first, self.act, self.second = nn.Conv2d(1, 3, 3, padding=1), nn.Tanh(), nn.Conv2d(3, 3, 3, padding=1)
        self.head = nn.Linear(3 * 64, 2)
        self.past = past

    def forward(self, x: Tensor) -> Tensor:
        first = self.act(self.first(x))
        second = self.second(first)
        return self.head((second + first if self.past else second).sigmoid().flatten(1))


def pictures(past: bool = False) -> tuple[explainer.Model, nn.Module, np.ndarray, Tensor]:
    module, images = gallery.seeded(Pictures, past=past), gallery.images()
    return explainer.wrap(module, modality="image", class_names=["a", "b"]), module, images, torch.tensor(images)[:, None]


def explain(model: explainer.Model, inputs: Any, method: str, **options: Any) -> explainer.Explanation:
    return explainer.explain(model, inputs, method, **{"verify": False, "output": "logit", **options})


# -- oracles -----------------------------------------------------------------------------------------------------------------


def test_layer_values_equal_captums() -> None:
    model, module, images, x = pictures(past=True)
    zero = torch.zeros_like(x)
    peers = {
        "saliency": lambda layer: LayerGradientXActivation(module, layer, multiply_by_inputs=False).attribute(x, target=1).abs(),
        "input_x_gradient": lambda layer: LayerGradientXActivation(module, layer).attribute(x, target=1),
        "integrated_gradients": lambda layer: LayerIntegratedGradients(module, layer).attribute(x, zero, target=1, n_steps=20),
        "internal_influence": lambda layer: InternalInfluence(module, layer).attribute(x, zero, target=1, n_steps=20),
    }
    for method, peer in peers.items():
        options = {"steps": 20} if method in ("integrated_gradients", "internal_influence") else {}
        for layer in ("first", "second"):
            ex = explain(model, images, method, target=1, layer=layer, **options)
            assert ex.axes == ("instance", "channel", "row", "column") and ex.feature_names[0] == ("channel 0", "channel 1", "channel 2")
            assert ex.provenance.parameters["layer"] == layer
            np.testing.assert_allclose(ex.values, peer(getattr(module, layer)).detach().numpy(), atol=2e-6, err_msg=f"{method} {layer}")


def test_deeplift_at_a_layer_equals_captums() -> None:
    module, frame = gallery.mlp(), gallery.table()
    theirs = LayerDeepLift(module, module[3]).attribute(torch.tensor(frame.to_numpy()), torch.zeros(6, 5), target=2)
    ex = explain(gallery.tabular(module), frame, "deeplift", target=2, layer="3", baseline="zeros")
    np.testing.assert_allclose(ex.values, theirs.detach().numpy(), atol=2e-6)
    assert ex.axes == ("instance", "unit") and ex.additive


def dense_conductance(module: nn.Module, layer: nn.Module, x: Tensor, start: Tensor, target: int, steps: int = 400) -> np.ndarray:
    """The definition: midpoints, and the derivative of the units along the way by forward differentiation, in float64."""
    total: Any = 0.0
    for k in range(steps):
        kept: list[Tensor] = []
        handle = layer.register_forward_hook(lambda _m, _i, out, kept=kept: kept.append(out))
        alpha = torch.tensor((k + 0.5) / steps, dtype=torch.float64, requires_grad=True)
        score = module(start + alpha * (x - start))[:, target].sum()
        handle.remove()
        (gradient,) = torch.autograd.grad(score, kept[0], retain_graph=True)
        pull = torch.zeros_like(kept[0], requires_grad=True)
        (along,) = torch.autograd.grad(kept[0], alpha, pull, create_graph=True)  # linear in pull: its derivative is dy / da
        (speed,) = torch.autograd.grad(along, pull)
        total = total + (gradient * speed).detach().numpy() / steps
    return total


@pytest.mark.parametrize("past", [False, True])
def test_conductance_is_its_definition(past: bool) -> None:
    model, module, images, x = pictures(past)
    expected = dense_conductance(module.double(), module.second, x.double(), torch.zeros_like(x).double(), 1)
    module.float()
    found = explain(model, images, "layer_conductance", target=1, layer="second", steps=128, baseline="zeros")
    np.testing.assert_allclose(found.values, expected, atol=2e-4 * np.abs(expected).max())
    theirs = LayerConductance(module, module.second).attribute(x, torch.zeros_like(x), target=1, n_steps=400).detach().numpy()
    np.testing.assert_allclose(found.values, theirs, atol=0.02 * np.abs(expected).max())


def test_influence_is_the_mean_gradient_by_dense_quadrature() -> None:
    model, module, images, x = pictures()
    kept: list[Tensor] = []
    handle = module.second.register_forward_hook(lambda _m, _i, out: kept.append(out))
    total = 0.0
    for k in range(300):
        score = module((k + 0.5) / 300 * x).softmax(1)[:, 0].sum()
        total = total + torch.autograd.grad(score, kept[-1])[0].numpy() / 300
    handle.remove()
    ex = explain(model, images, "internal_influence", target=0, layer="second", output="probability", tolerance=1e-4, verify=True)
    np.testing.assert_allclose(ex.values, total, atol=3e-4 * np.abs(total).max())
    assert not ex.additive and ex.verdict.checks["integration"].status == "pass"


# -- axioms ------------------------------------------------------------------------------------------------------------------

CASES = {
    "mlp": lambda: (gallery.tabular(gallery.mlp(), background=gallery.table(20, seed=1)), gallery.table(), "1"),
    "cnn": lambda: (explainer.wrap(gallery.convnet(), modality="image"), gallery.images(), "conv"),
    "encoder": lambda: (gallery.text(gallery.seeded(gallery.Encoder)), gallery.TEXTS, "encoder.layers.0"),
    "mean encoder": lambda: (gallery.text(gallery.seeded(gallery.Encoder, readout="mean")), gallery.TEXTS, "encoder.layers.1"),
    "lstm": lambda: (explainer.wrap(gallery.lstm(), modality="series"), gallery.series(), "input of head"),
    "bfloat16": lambda: (gallery.tabular(gallery.mlp().bfloat16()), gallery.table(), "3"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("method", ["layer_conductance", "integrated_gradients", "deeplift"])
def test_completeness_at_a_layer_that_all_goes_through(case: str, method: str) -> None:
    model, inputs, layer = CASES[case]()
    ex = explain(model, inputs, method, target=0, output="probability", layer=layer)
    plain = explain(model, inputs, "integrated_gradients", target=0, output="probability")
    np.testing.assert_allclose(ex.base_values, plain.base_values, atol=0.01 if case == "bfloat16" else 1e-5)
    gap = np.abs(ex.base_values + np.nansum(ex.values.reshape(len(ex), -1), 1) - ex.scores)
    assert (gap <= np.maximum(0.0101 * np.abs(ex.scores - ex.base_values), 5e-3 if case == "bfloat16" else 1.01e-4)).all()
    assert np.nanmax(np.abs(ex.values)) > 1e-3


def test_what_goes_past_the_layer_is_said() -> None:
    model, _, images, _ = pictures(past=True)
    ex = explain(model, images, "layer_conductance", target=1, layer="second", verify=True)
    assert ex.verdict.checks["completeness"].status == "fail"
    assert any("goes past this layer" in note for note in ex.provenance.notes)


def test_a_batch_changes_nothing_and_padding_has_no_rows() -> None:
    model, texts, layer = CASES["mean encoder"]()
    for method in ("layer_conductance", "internal_influence", "saliency"):
        together = explain(model, texts, method, target=1, layer=layer)
        for i, one in enumerate(texts):
            alone = explain(model, [one], method, target=1, layer=layer)
            assert together[i].values.shape == alone.values.shape == (1, len(gallery.Pieces().tokens([one])[0]), 16)
            assert together.feature_names[i] == tuple(gallery.Pieces().tokens([one])[0])
            np.testing.assert_allclose(together[i].values, alone.values, atol=2e-6)


# -- which layer -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "name", "axes"),
    [
        ("mlp", "4", ("unit",)),
        ("cnn", "norm", ("channel", "row", "column")),
        ("encoder", "encoder", ("token", "unit")),
        ("lstm", "input of head", ("unit",)),
    ],
)
def test_the_default_is_the_last_layer_before_the_head(case: str, name: str, axes: tuple[str, ...]) -> None:
    model, inputs, _ = CASES[case]()
    ex = explain(model, inputs, "internal_influence")
    assert ex.provenance.parameters["layer"] == name and ex.axes == ("instance", *axes)


def test_the_default_is_one_that_all_of_the_score_goes_through() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.branch, self.pool, self.head = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = self.stem(x)
            return self.head(self.pool(h + self.branch(h).relu()).flatten(1))

    ex = explain(explainer.wrap(gallery.seeded(Block), modality="image", class_names=["a", "b"]), gallery.images(), "layer_conductance")
    assert ex.provenance.parameters["layer"] == "stem"
    np.testing.assert_allclose(ex.base_values + ex.values.sum((1, 2, 3)), ex.scores, atol=0.011 * np.abs(ex.scores - ex.base_values).max())


@pytest.mark.parametrize("module", [nn.Linear(5, 3), torch.jit.script(gallery.mlp())])
def test_a_module_without_such_a_layer_is_refused_before_it_runs(module: nn.Module) -> None:
    model = gallery.tabular(module, background=gallery.table(3))
    for method in ("layer_conductance", "internal_influence"):
        assert model.capabilities()[method].level == "unsupported"
        with pytest.raises(Unsupported, match="no layer before its head"):
            explain(model, gallery.table(), method)
    with pytest.raises(UnknownName if isinstance(module, nn.Linear) else Unsupported, match=r"Unknown layer|TorchScript"):
        explain(model, gallery.table(), "saliency", layer="0")


def test_names_that_do_not_fit_are_answered() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.unused, self.head = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(F.relu(self.layer(F.relu(self.layer(x)))))

    model = gallery.tabular(Twice())
    with pytest.raises(UnknownName, match="Unknown layer 'layr'. Did you mean 'layer#1'"):
        explain(model, gallery.table(), "saliency", layer="layr")
    with pytest.raises(Unsupported, match="runs 2 times in one pass; name one of layer#0, layer#1"):
        explain(model, gallery.table(), "layer_conductance", layer="layer")
    for turn in (0, 1):  # each run of a layer used twice is a layer of its own, as for the views inside the network
        found = explain(model, gallery.table(), "layer_conductance", layer=f"layer#{turn}", baseline="zeros", output="logit")
        assert found.provenance.parameters["layer"] == f"layer#{turn}"
    assert explain(model, gallery.table(), "layer_conductance").provenance.parameters["layer"] == "layer#1"
    with pytest.raises(Unsupported, match="does not run as a module"):
        explain(model, gallery.table(), "layer_conductance", layer="unused")
    for texts in (gallery.TEXTS, ["a"]):  # of three tokens: as many positions as rows are tried
        with pytest.raises(Unsupported, match="a row per input"):
            explain(gallery.text(gallery.seeded(gallery.Encoder)), texts, "saliency", layer="position")
    with pytest.raises(InvalidInput, match="steps=0"):
        explain(model, gallery.table(), "internal_influence", steps=0)


def test_channels_last_grids_are_turned() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.head = nn.LayerNorm(5), nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.norm(x.expand(-1, 5, -1, -1).permute(0, 2, 3, 1) * torch.arange(1.0, 6)).mean((1, 2)))

    model = explainer.wrap(Last().eval(), modality="image", class_names=["a", "b"])
    ex = explain(model, gallery.images(), "saliency", layer="norm")
    assert ex.values.shape == (4, 5, 8, 8) and len(ex.feature_names[0]) == 5


@pytest.mark.parametrize("method", ["saliency", "integrated_gradients", "layer_conductance", "grad_cam", "score_cam"])
def test_a_layer_may_be_the_module_itself(method: str) -> None:
    model, module, images, _ = pictures()
    own = explain(model, images[:1], method, layer=module.second, verify=True)
    named = explain(model, images[:1], method, layer="second", verify=True)
    np.testing.assert_array_equal(own.values, named.values)
    assert own.provenance.parameters["layer"] == "second" and own.verdict == named.verdict
    for strange in (nn.Conv2d(1, 3, 3), module):
        with pytest.raises(InvalidInput, match=r"no layer inside the module wrapped. Name one of first, act, second, head"):
            explain(model, images[:1], method, layer=strange)


def test_what_is_read_inside_takes_the_layer_itself() -> None:
    model, module, images, _ = pictures()
    assert list(explainer.activations(model, images, layers=module.second).to_frame()["layer"]) == ["second"]
    assert list(explainer.activations(model, images, layers=[module.act, "second"]).to_frame()["layer"]) == ["act", "second"]


def test_the_module_is_as_it_was_and_results_are_kept_drawn_and_listed(tmp_path: Any) -> None:
    for case in ("mlp", "cnn", "encoder"):
        model, inputs, layer = CASES[case]()
        module = model.module.train()  # type: ignore[attr-defined]
        before = snapshot(module)
        ex = explain(model, inputs, "layer_conductance", layer=layer)
        assert_unchanged(module, before)
        with pytest.raises(Unsupported):
            explain(model, inputs, "saliency", layer=layer, target=lambda scores: scores[:, 0].astype(float))
        assert_unchanged(module, before)
        np.testing.assert_array_equal(explainer.load(ex.save(tmp_path / case)).values, ex.values)
        assert len(ex[0].to_frame()) == ex[0].values.size
        figure = explainer.plot(ex, top=4)
        assert {type(trace).__name__ for trace in figure.data} == ({"Bar"} if case == "mlp" else {"Heatmap"})
        if case == "cnn":
            strongest = np.argsort(-np.abs(ex.values[0]).sum((1, 2)), kind="stable")[:4]
            assert len(figure.data) == 4
            for trace, channel in zip(figure.data, strongest, strict=True):
                np.testing.assert_array_equal(trace.z, ex.values[0, channel])
        if case == "encoder":
            np.testing.assert_array_equal(figure.data[0].z, ex[0].values[0])
