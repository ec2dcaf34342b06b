"""A unit as a model of its own, explained by every method; and images that excite it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch_gallery as gallery
from torch import Tensor, nn

import explainer
from explainer.errors import InvalidInput, UnknownName, Unsupported
from explainer.inspection.visualisation import Visualisation, visualise


def image_model(module: nn.Module | None = None, **options: Any) -> Any:
    names = {"class_names": list("abcd"), "preprocess": gallery.standardised, "background": gallery.images(6, seed=3), **options}
    return explainer.wrap(module or gallery.convnet(), modality="image", **names)


def test_the_score_is_the_units_activation():
    net = gallery.mlp()
    rows = gallery.table(6)
    model = gallery.tabular(net, background=gallery.table(4, seed=1))
    with torch.no_grad():
        hidden = net[:4](torch.tensor(rows.to_numpy())).double().numpy()
    unit = explainer.neuron(model, "3", 2)
    assert unit.task == "regression" and unit.class_names == ("3[2]",)
    np.testing.assert_allclose(unit.scores(rows)[:, 0], hidden[:, 2], atol=1e-6)
    vector = np.arange(16.0)
    along = explainer.neuron(model, "3", 10 * vector)
    np.testing.assert_allclose(along.scores(rows)[:, 0], hidden @ vector / np.linalg.norm(vector), atol=1e-5)
    assert model.fingerprint() != unit.fingerprint() != along.fingerprint()


def test_positions_are_pooled_over_what_is_no_padding():
    module = gallery.seeded(gallery.Fused)
    model = gallery.text(module, class_names=list("abc"))
    kept: list[Tensor] = []
    handle = module.norm[0].register_forward_hook(lambda layer, args, output: kept.append(output[0, :, 3].detach().double()))
    for text in gallery.TEXTS:
        model.scores([text])
    handle.remove()
    whole = {"mean": Tensor.mean, "max": Tensor.amax, "first": lambda t: t[0], "last": lambda t: t[-1], 1: lambda t: t[1]}
    for at, pick in whole.items():
        scores = explainer.neuron(model, "norm.0", 3, at=at).scores(gallery.TEXTS)[:, 0]
        np.testing.assert_allclose(scores, [float(pick(one)) for one in kept], atol=1e-5)
    pixel = explainer.neuron(image_model(), "conv", 1, at=(2, 5)).scores(gallery.images(3))
    with torch.no_grad():
        truth = image_model().core.conv(gallery.standardised(gallery.images(3)))[:, 1, 2, 5]
    np.testing.assert_allclose(pixel[:, 0], truth.numpy(), atol=1e-5)


@pytest.mark.parametrize("method", ["integrated_gradients", "shap", "lime", "deeplift", "saliency", "ablation"])
def test_methods_explain_a_linear_unit_rightly(method):
    net = gallery.mlp()
    model = gallery.tabular(net, background=gallery.table(5, seed=1))
    unit = explainer.neuron(model, "0", 4)
    rows = gallery.table(3)
    ex = explainer.explain(unit, rows, method=method, verify=False, baseline="zeros" if method == "integrated_gradients" else "auto")
    weights = net[0].weight[4].detach().numpy()
    middle = gallery.table(5, seed=1)
    away = {
        "integrated_gradients": rows.to_numpy(), "shap": rows.to_numpy() - middle.to_numpy().mean(0), "saliency": np.sign(weights),
        "deeplift": rows.to_numpy() - middle.median().to_numpy(), "ablation": rows.to_numpy() - middle.to_numpy().mean(0), "lime": None,
    }[method]  # fmt: skip
    if away is not None:
        np.testing.assert_allclose(ex.values, np.broadcast_to(weights * away, ex.values.shape), atol=1e-4)
    else:  # a local linear model of a linear unit fits it
        assert ex.verdicts[0].checks == {} and np.sign(ex.values).astype(int).any()
    assert ex.output == "raw" and ex.scores == pytest.approx(unit.scores(rows)[:, 0])


def test_a_units_explanation_is_held_against_random_weights():
    net = nn.Sequential(nn.Linear(5, 16), nn.Dropout(0.9), nn.ReLU(), nn.Linear(16, 4)).train()
    unit = explainer.neuron(gallery.tabular(net, background=gallery.table(5, seed=1)), "3", 2)
    ex = explainer.explain(unit, gallery.table(2), "input_x_gradient", verify="full")
    check = ex.verdicts[0].checks["randomisation"]
    assert check.value is not None and abs(check.value) < 0.9
    np.testing.assert_array_equal(explainer.explain(unit, gallery.table(2), "input_x_gradient", verify="full").values, ex.values)
    assert ex.verdicts[0].checks == explainer.explain(unit, gallery.table(2), "input_x_gradient", verify="full").verdicts[0].checks
    assert all(layer.training for layer in net)


def test_the_callers_module_stays_as_it_was():
    module = gallery.convnet().train()
    module.drop.eval()
    model = image_model(module)
    modes = [m.training for m in module.modules()]
    unit = explainer.neuron(model, "conv", 0)
    explainer.explain(unit, gallery.images(2), method="integrated_gradients")
    with pytest.raises(InvalidInput, match="no position"):
        explainer.neuron(model, "conv", 0, at=(90, 0)).scores(gallery.images(1))
    assert [m.training for m in module.modules()] == modes
    assert all(not m._forward_hooks for m in module.modules()) and all(p.grad is None for p in module.parameters())


def test_a_recurrent_unit_on_series_of_unequal_length():
    model = explainer.wrap(
        gallery.lstm(), modality="series", class_names=list("abc"), feature_names=list("xyz"), background=gallery.series(seed=3)
    )
    unit = explainer.neuron(model, "rnn", 2, at="last")
    together, alone = unit.scores(gallery.series()), np.concatenate([unit.scores([one]) for one in gallery.series()])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    ex = explainer.explain(unit, gallery.series(), method="integrated_gradients", verify=False)
    np.testing.assert_allclose(np.nansum(ex.values, (1, 2)) + ex.base_values, ex.scores, atol=1e-4)


class Reads(gallery.Pieces):
    """An encoder that knows where in the module's output its scores stand."""

    def read(self, arguments: Any, module: nn.Module) -> Any:
        return arguments.call(module)["logits"]


class InDict(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        return {"logits": self.inner(ids, mask)}


def test_encoders_that_read_the_output_are_not_asked_to_read_the_unit():
    module = InDict(gallery.seeded(gallery.Fused))
    model = explainer.wrap(module, modality="text", preprocess=Reads(), class_names=list("abc"))
    plain = gallery.text(module.inner, class_names=list("abc"))
    unit = explainer.neuron(model, "inner.norm.0", 3)
    np.testing.assert_allclose(unit.scores(gallery.TEXTS), explainer.neuron(plain, "norm.0", 3).scores(gallery.TEXTS), atol=1e-6)
    ex = explainer.explain(unit, gallery.TEXTS[:2], method="integrated_gradients", verify=False)
    np.testing.assert_allclose(np.nansum(ex.values, 1) + ex.base_values, ex.scores, atol=1e-3)
    refused = unit.capabilities()["attention"]
    assert refused.level == "unsupported" and "inside the network" in refused.reason


def test_misuse_of_neuron_is_answered():
    model = image_model()
    for error, words, arguments in (
        (UnknownName, "Did you mean 'conv'", ("cnv", 0)),
        (InvalidInput, "units 0 to 5", ("conv", 6)),
        (InvalidInput, "6 finite numbers", ("conv", [1.0, 2.0])),
        (InvalidInput, "not all 0", ("conv", np.zeros(6))),
        (InvalidInput, "unit=", ("conv", "two")),
    ):
        with pytest.raises(error, match=words):
            explainer.neuron(model, *arguments)
    with pytest.raises(UnknownName, match="position"):
        explainer.neuron(model, "conv", 0, at="middle")
    with pytest.raises(Unsupported, match="torch"):
        explainer.neuron(explainer.wrap(lambda x: x, modality="tabular", feature_names=["a", "b"], class_names=["n", "y"]), "a", 0)


class Matched(nn.Module):
    """One unit that fires for a light left half and a dark right half; another that never fires."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 8)
        with torch.no_grad():
            self.conv.weight.zero_()
            self.conv.weight[0, 0, :, :4], self.conv.weight[0, 0, :, 4:] = 1 / 32, -1 / 32
            self.conv.bias.copy_(torch.tensor([0.0, -1.0]))
        self.act = nn.ReLU()
        self.head = nn.Linear(2, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.conv(x)).flatten(1))


def test_the_image_made_for_a_unit_shows_what_it_looks_for():
    model = image_model(Matched().eval())
    found = visualise(model, "conv", 0, steps=120, jitter=0, smoothness=0.0)
    assert found.image.shape == (8, 8) and found.image.min() >= 0 and found.image.max() <= 1.0
    assert found.image[:, :4].mean() > 0.9 and found.image[:, 4:].mean() < 0.2
    assert found.activation == pytest.approx(model.core.conv(gallery.standardised(found.image[None]))[0, 0, 0, 0].item(), abs=1e-4)
    assert found.activation > found.best_input and found.curve[-1] == pytest.approx(found.activation, abs=1e-3) and len(found.curve) == 121


def test_smoothness_makes_smoother_images_and_seeds_repeat():
    model = image_model()
    plain, smooth, again = (visualise(model, "conv", 2, steps=30, smoothness=s) for s in (0.0, 20.0, 0.0))
    np.testing.assert_array_equal(plain.image, again.image)
    assert not np.array_equal(plain.image, visualise(model, "conv", 2, steps=30, smoothness=0.0, seed=1).image)

    def rough(image: np.ndarray) -> float:
        return float(np.abs(np.diff(image, axis=0)).mean() + np.abs(np.diff(image, axis=1)).mean())

    assert rough(smooth.image) < 0.7 * rough(plain.image)
    assert plain.activation > plain.curve[0] and all(p.grad is None for p in model.core.parameters())


def test_colours_follow_the_background():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2)).eval()
    grey = np.repeat(gallery.images(8)[..., None], 3, axis=-1)
    model = explainer.wrap(net, modality="image", class_names=["p", "q"], background=grey)
    found = visualise(model, "0", 1, steps=10)
    assert found.provenance.parameters["colours"] == "as in the background"
    assert np.ptp(found.image, axis=-1).max() < 1e-3  # a background in grey gives an image in grey


def test_what_cannot_be_visualised_is_refused_or_said(tmp_path):
    model = image_model(Matched().eval())
    dead = visualise(model, "act", 1, steps=3)
    assert "never moved" in dead.provenance.notes[0] and dead.activation == 0
    done: list[Any] = []
    found = visualise(model, "conv", 0, steps=4, progress=lambda *now: done.append(now))
    back = Visualisation.load(found.save(tmp_path / "unit.json"))
    np.testing.assert_allclose(back.image, found.image)
    assert done[-1] == (4, 4) and back.provenance == found.provenance and found.to_frame().shape == (5, 2)
    squared = image_model(Matched().eval(), preprocess=lambda p: torch.tensor(p[:, None]) ** 2)
    with pytest.raises(Unsupported, match="each linear"):
        visualise(squared, "conv", 0)
    with pytest.raises(Unsupported, match="makes images"):
        visualise(gallery.tabular(gallery.mlp()), "0", 0)
    for words, arguments in (("steps", {"steps": 0}), ("rate", {"rate": 0}), ("bounds", {"bounds": (1, 0)})):
        with pytest.raises(InvalidInput, match=words):
            visualise(model, "conv", 0, **arguments)
