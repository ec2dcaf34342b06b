"""The error that is told before a gradient method runs: measured, on the model itself."""

from __future__ import annotations

import re

import model_gallery
import numpy as np
import pytest
import torch
import torch_gallery as gallery
from torch import nn

import explainer
from explainer import preflight
from explainer.adapters import ways
from explainer.inputs import take
from explainer.methods import METHODS
from explainer.methods.trial import error_of

NUMBER = re.compile(r"(?:by|of|within) ([\d.e-]+) (?:of (?:it|the)|times its size)")


def told(model: explainer.Model, method: str) -> float:
    found = NUMBER.search(error_of(model, method))  # type: ignore[arg-type]
    assert found, error_of(model, method)  # type: ignore[arg-type]
    return float(found[1])


@pytest.mark.parametrize("method", ["integrated_gradients", "layer_conductance"])
def test_the_completeness_error_is_that_of_the_same_run(method: str) -> None:
    model, _ = model_gallery.made("functional relu")
    row = take(ways.varied(model, model.sample()), slice(1, 2))  # type: ignore[arg-type]
    ex = explainer.explain(model, row, method, steps=15, verify=False)
    difference = float(ex.scores[0] - ex.base_values[0])
    gap = abs(float(ex.values.sum()) - difference) / max(abs(difference), 0.01)
    assert told(model, method) == pytest.approx(gap, rel=0.5) and gap > 1e-4


def test_a_linear_network_has_no_error_and_a_kinked_one_has() -> None:
    plain, kinked = (gallery.tabular(net, background=gallery.table(12, seed=1)) for net in (nn.Linear(5, 3), gallery.mlp()))
    for method in ("internal_influence", "integrated_gradients"):
        if method == "integrated_gradients":  # a softmax is smooth, and 15 points are enough for it
            assert told(plain, method) < 1e-4
        assert told(kinked, method) > 1e-6


def test_what_layer_wise_relevance_loses_to_biases() -> None:
    torch.manual_seed(0)
    with_bias = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
    without = nn.Sequential(nn.Linear(5, 8, bias=False), nn.ReLU(), nn.Linear(8, 3, bias=False))
    lost, kept = (told(gallery.tabular(net.eval(), background=gallery.table(12, seed=1)), "lrp") for net in (with_bias, without))
    assert kept < 1e-4 < 0.01 < lost


@pytest.mark.parametrize(
    "name", ["residual, dense and depthwise", "lstm", "transformer encoder, slow path", "regression of several outputs"]
)
def test_every_gradient_method_tells_its_error_once_per_model(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = model_gallery.made(name)
    able = model.capabilities()
    for method in METHODS.values():
        if method.family == "gradient" and able[method.name].level != "unsupported":
            assert re.search(r"sample input", able[method.name].reason), (method.name, able[method.name].reason)
    monkeypatch.setattr("explainer.methods.trial.error_of", lambda *_: pytest.fail("asked again"))
    assert model.capabilities() == able
    before = preflight.capability(model, METHODS["integrated_gradients"])  # which explain() asks: no run is made for it
    assert "sample input" not in before.reason


def pictures(background: np.ndarray) -> explainer.Model:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 2)).eval()

    def encode(rows: np.ndarray) -> torch.Tensor:
        return torch.tensor(rows)[:, None]

    return explainer.wrap(net, modality="image", preprocess=encode, class_names=["a", "b"], background=background)


@pytest.mark.parametrize("method", ["grad_cam", "layer_cam", "score_cam", "attention", "attention_norms"])
def test_how_faithful_a_map_is_on_the_background_is_what_the_verdicts_there_say(method: str) -> None:
    model = pictures(background=gallery.images(6))
    if method.startswith("attention"):
        model = gallery.text(gallery.seeded(gallery.Fused), background=list(gallery.TEXTS))
    rows = take(model.background, slice(0, 4))
    checks = [one.checks["faithfulness"] for one in explainer.explain(model, rows, method).verdicts]
    share = np.mean([check.value for check in checks if check.value is not None])
    reason = model.capabilities()[method].reason
    assert f"first moves the score more than {share:.0%} of random choices do." in reason and "rows of the background" in reason


def test_how_faithful_a_map_is_is_not_tried_on_made_up_inputs_nor_on_large_models(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no real input is at hand" in gallery.text(gallery.seeded(gallery.Fused)).capabilities()["attention"].reason
    monkeypatch.setattr("explainer.methods.trial._MOST_WORK", 0)
    assert "not tried, as a pass takes long" in pictures(background=gallery.images(6)).capabilities()["layer_cam"].reason


def test_of_a_large_model_nothing_is_tried() -> None:
    wide = nn.Sequential(nn.Linear(5, 9000), nn.Tanh(), nn.Linear(9000, 9000), nn.Tanh(), nn.Linear(9000, 3)).eval()
    model = gallery.tabular(wide, background=gallery.table(12, seed=1))
    assert "takes long" in error_of(model, "integrated_gradients")
    assert np.isfinite(explainer.explain(model, gallery.table(1), "saliency", verify=False).values).all()
