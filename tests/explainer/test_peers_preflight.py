"""What makes gradients silently wrong on a model is refused, or said, of captum's and shap's objects and of a caller's function too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import captum.attr as ca
import numpy as np
import pytest
import shap
import torch
import torch_gallery as gallery
from torch import Tensor, nn

import explainer
from explainer.errors import Unsupported

ROWS = gallery.table(20, seed=1)
GIVEN = gallery.table(3)
ZEROS = torch.zeros(4, 5)


class Rounded(nn.Module):
    """An argmax in the path: the class of a first layer chooses the row of a table."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.rows = nn.Linear(5, 6), nn.Embedding(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.rows(self.first(x).argmax(1))


class Reversed(nn.Module):
    """The score rises with x; its gradient, of a backward pass of its own, falls."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(2 * x.detach() - x)


class Batchwise(nn.Module):
    """The mean of the batch is taken from every score."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(3 * (x - x.mean(0)) ** 2 + x)


class Slightly(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + 0.2 * x.detach())


class Whole(nn.Module):
    """Integer inputs that no embedding takes in: a table is looked up by them."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.randn(40, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.table[x.long().clamp(-9, 9) + 10].sum(1)


def table(net: nn.Module, rows: Any = ROWS) -> explainer.Model:
    return gallery.tabular(net, background=rows)


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make().eval()


GRADIENTS = {
    "captum saliency": ca.Saliency,
    "captum integrated gradients": ca.IntegratedGradients,
    "captum deeplift": ca.DeepLift,
    "captum noise tunnel": lambda net: ca.NoiseTunnel(ca.InputXGradient(net)),
    "captum layer": lambda net: ca.LayerConductance(net, next(m for m in net.modules() if isinstance(m, nn.Linear))),
    "shap gradient": lambda net: shap.GradientExplainer(net, ZEROS),
}
ASKING: dict[str, tuple[Callable[[nn.Module], Any], dict[str, Any]]] = {
    "captum ablation": (ca.FeatureAblation, {}),
    "captum sampling": (ca.ShapleyValueSampling, {"n_samples": 3}),
}


@pytest.mark.parametrize("obj", GRADIENTS)
@pytest.mark.parametrize("net", [Rounded, Reversed])
def test_gradients_that_mislead_are_refused_as_ours_are(net: type[nn.Module], obj: str) -> None:
    module = seeded(net)
    model, method = table(module), GRADIENTS[obj](module)
    own = model.capabilities()["saliency"]
    assert own.level == "unsupported"
    with pytest.raises(Unsupported) as caught:
        explainer.explain(model, GIVEN, method, target=1)
    assert str(caught.value).endswith(own.reason)


def test_integer_inputs_without_a_gradient_are_refused() -> None:
    module = seeded(Whole)
    rows = (ROWS * 4).round()
    model = table(module, rows)
    assert model.capabilities()["saliency"].level == "unsupported"
    with pytest.raises(Unsupported, match="Gradients cannot be had"):
        explainer.explain(model, rows[:2], ca.IntegratedGradients(module), target=1)
    assert np.abs(explainer.explain(model, rows[:2], ca.FeatureAblation(module), target=1).values).max() > 0


@pytest.mark.parametrize("obj", ASKING)
def test_what_only_asks_for_scores_still_runs(obj: str) -> None:
    make, options = ASKING[obj]
    for net in (Rounded, Reversed):
        module = seeded(net)
        ex = explainer.explain(table(module), GIVEN, make(module), target=1, **options)
        assert np.isfinite(ex.values).all() and "preflight" not in ex.verdict.checks


def test_scores_that_depend_on_the_batch_are_explained_by_nothing() -> None:
    module = seeded(Batchwise)
    model = table(module)
    permuting = shap.PermutationExplainer(lambda rows: model.scores(rows), ROWS.to_numpy())
    methods = [ca.Saliency(module), ca.FeatureAblation(module), shap.GradientExplainer(module, ZEROS), permuting, plain]
    for method in methods:
        with pytest.raises(Unsupported, match="stands beside it in the batch"):
            explainer.explain(model, GIVEN, method, target=1)


def test_two_ways_to_the_score_are_refused() -> None:
    class Pyramid(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.large, self.small = nn.Linear(64, 2), nn.Linear(16, 2)

        def forward(self, large: Tensor, small: Tensor) -> Tensor:
            return self.large(large.flatten(1)) + self.small(small.flatten(1))

    def both(pictures: np.ndarray) -> tuple[Tensor, Tensor]:
        whole = torch.tensor(pictures)[:, None]
        return whole, nn.functional.avg_pool2d(whole, 2)

    module = seeded(Pyramid)
    model = explainer.wrap(module, modality="image", preprocess=both, background=gallery.images(1), class_names=["a", "b"])
    for method in (ca.Saliency(module), ca.IntegratedGradients(module)):
        with pytest.raises(Unsupported, match="several ways"):
            explainer.explain(model, gallery.images(1), method, target=1)


def plain(model: Any, inputs: Any, target: Any) -> np.ndarray:
    """A method of the caller's own."""
    return np.ones((len(inputs), 5, 1))


def test_what_is_doubtful_stands_in_the_verdict() -> None:
    module = seeded(lambda: Slightly(5, 3))
    model = table(module)
    doubt = model.capabilities()["saliency"]
    for method in ("saliency", ca.Saliency(module), ca.IntegratedGradients(module), shap.GradientExplainer(module, ZEROS)):
        check = explainer.explain(model, GIVEN, method, target=1).verdict.checks["preflight"]
        assert check.status == "warn" and check.reason in doubt.reason and "detach in Slightly" in check.reason
    for method in ("shap", ca.FeatureAblation(module)):
        assert "preflight" not in explainer.explain(model, GIVEN, method, target=1).verdict.checks
    own = explainer.explain(model, GIVEN, plain, target=1).verdict.checks["preflight"]
    assert own.status == "not run" and "detach in Slightly" in own.reason and "plain" in own.reason


def test_a_sound_model_has_nothing_said_against_it() -> None:
    module = gallery.mlp()
    for method in ("saliency", ca.Saliency(module), shap.GradientExplainer(module, ZEROS), plain):
        assert "preflight" not in explainer.explain(table(module), GIVEN, method, target=1).verdict.checks
