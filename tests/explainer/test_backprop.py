"""Guided backpropagation and LRP: captum where it is right, slow formulas where it is not, and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torch_gallery as gallery
from captum.attr import LRP, GuidedBackprop, InputXGradient
from captum.attr._utils.lrp_rules import EpsilonRule, GammaRule
from test_torch_adapter import assert_unchanged, snapshot
from torch import Tensor, nn

import explainer
from explainer.errors import InvalidInput, UnknownName, Unsupported


def pictures(seed: int = 0, size: int = 8) -> nn.Module:
    """All that captum's rules cover, each a module of its own, used once."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(1, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(5, 6, 3), nn.Tanh(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Dropout(), nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 3),
    )  # fmt: skip
    net.train()
    with torch.no_grad():
        net(torch.rand(16, 1, size, size))
    return net.eval()


class Flat(nn.Module):
    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).flatten(1))


def explain(module: nn.Module, method: str, inputs: Any = None, **options: Any) -> explainer.Explanation:
    image = inputs is None or np.ndim(inputs) > 2
    model = explainer.wrap(module, modality="image") if image else gallery.tabular(module)
    given = gallery.images() if inputs is None else inputs
    return explainer.explain(model, given, method, **{"verify": False, "output": "logit", "target": 1, **options})


# -- captum, where it is right -------------------------------------------------------------------------------------------------


def test_guided_backprop_equals_captums_on_modules() -> None:
    module, x = pictures(), torch.tensor(gallery.images())[:, None]
    theirs = GuidedBackprop(pictures()).attribute(x, target=1).detach().numpy()[:, 0]
    np.testing.assert_allclose(explain(module, "guided_backprop").values, theirs, atol=1e-6)
    assert np.abs(theirs).max() > 1e-3


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        (lambda: EpsilonRule(1e-6), {}),
        (lambda: EpsilonRule(0.3), {"epsilon": 0.3}),
        (lambda: GammaRule(), {"rule": "gamma", "epsilon": 1e-9}),
        (lambda: GammaRule(1.5), {"rule": "gamma", "gamma": 1.5, "epsilon": 1e-9}),
    ],
)
def test_lrp_equals_captums_on_modules(rule: Any, options: dict[str, Any]) -> None:
    layers = list(pictures())  # captum has no rule for nn.Flatten
    flat = next(i for i, layer in enumerate(layers) if isinstance(layer, nn.Flatten))
    peer, x = Flat(nn.Sequential(*layers[:flat]), nn.Sequential(*layers[flat + 1 :])), torch.tensor(gallery.images())[:, None]
    gamma = options.get("rule") == "gamma"
    for layer in layers:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.rule = rule()
        elif isinstance(layer, (nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d)):
            layer.rule = EpsilonRule(1e-9) if gamma else rule()
    theirs = LRP(peer).attribute(x, target=1).detach().numpy()[:, 0]
    ex = explain(pictures(), "lrp", **options)
    np.testing.assert_allclose(ex.values, theirs, atol=2e-5 * np.abs(theirs).max())
    assert not ex.additive and ex.provenance.parameters["rule"] == options.get("rule", "epsilon")


# -- formulas, where it is not -------------------------------------------------------------------------------------------------


class Functional(nn.Module):
    """Two layers, one of them used twice, with a way past: ReLUs as functions, in place, reused, as clamps."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.one, self.two, self.head, self.act = kind, nn.Linear(5, 8), nn.Linear(8, 8), nn.Linear(8, 3), nn.ReLU()

    def rectify(self, z: Tensor) -> Tensor:
        kinds = {"functional": F.relu, "in place": lambda z: z.relu_(), "reused": self.act, "clamp": lambda z: z.clamp(min=0)}
        return kinds[self.kind](z) if self.kind in kinds else F.relu(z, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        h = self.rectify(self.one(x))
        return self.head(self.rectify(self.two(h)) + h)


KINDS = ("functional", "in place", "reused", "clamp", "inplace flag")


def module_of(kind: str) -> Functional:
    torch.manual_seed(4)
    return Functional(kind).eval()


def by_hand(module: Functional, x: np.ndarray, target: int) -> tuple[np.ndarray, ...]:
    layers = [
        (layer.weight.detach().numpy().astype(float), layer.bias.detach().numpy().astype(float)) for layer in (module.one, module.two)
    ]
    return (*layers, (module.head.weight.detach().numpy().astype(float)[target], float(module.head.bias[target].detach())))


@pytest.mark.parametrize("kind", KINDS)
def test_guided_backprop_is_right_on_functions_reuse_and_in_place(kind: str) -> None:
    module, frame = module_of(kind), gallery.table()
    x = frame.to_numpy().astype(float)
    (w1, b1), (w2, b2), (w3, _) = by_hand(module, x, 1)
    z1 = x @ w1.T + b1
    z2 = np.maximum(z1, 0) @ w2.T + b2
    at_two = np.where((z2 > 0) & (w3 > 0), w3, 0)
    at_one = at_two @ w2 + w3
    expected = np.where((z1 > 0) & (at_one > 0), at_one, 0) @ w1
    ex = explain(module, "guided_backprop", frame)
    np.testing.assert_allclose(ex.values, expected, atol=1e-6)
    plain = explain(module, "saliency", frame, absolute=False)
    assert np.abs(ex.values - plain.values).max() > 0.01  # which is what captum gives on a functional ReLU


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "clamp"])
@pytest.mark.parametrize("epsilon", [1e-6, 0.2])
def test_lrp_is_right_on_functions_reuse_and_sums(kind: str, epsilon: float) -> None:
    module, frame = module_of(kind), gallery.table()
    x = frame.to_numpy().astype(float)
    (w1, b1), (w2, b2), (w3, b3) = by_hand(module, x, 1)
    z1 = x @ w1.T + b1
    h = np.maximum(z1, 0)
    z2 = h @ w2.T + b2
    s = np.maximum(z2, 0) + h
    stable = lambda z: z + np.where(z < 0, -epsilon, epsilon)  # noqa: E731
    z3 = s @ w3 + b3
    r_sum = s * w3 * (z3 / stable(z3))[:, None]  # relevance of the sum, shared by what each way adds
    share = np.divide(r_sum, s, out=np.zeros_like(s), where=s != 0)
    r2, past = np.maximum(z2, 0) * share, h * share
    r1 = past + h * ((r2 / stable(z2)) @ w2)
    expected = x * ((r1 / stable(z1)) @ w1)
    ex = explain(module, "lrp", frame, epsilon=epsilon)
    np.testing.assert_allclose(ex.values, expected, atol=3e-5 * np.abs(expected).max())


def test_lrp_without_epsilon_is_input_x_gradient_on_networks_of_relus() -> None:
    module, frame = module_of("functional"), gallery.table()
    theirs = InputXGradient(module).attribute(torch.tensor(frame.to_numpy()), target=1).detach().numpy()
    np.testing.assert_allclose(explain(module, "lrp", frame, epsilon=0).values, theirs, atol=1e-6)
    np.testing.assert_allclose(explain(module, "input_x_gradient", frame).values, theirs, atol=1e-6)


def test_relevance_is_kept_where_nothing_has_a_bias() -> None:
    module = pictures()
    for layer in module:
        if getattr(layer, "bias", None) is not None:
            nn.init.zeros_(layer.bias)
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
    for options in ({}, {"rule": "gamma"}):
        ex = explain(module, "lrp", **options, epsilon=1e-9)
        np.testing.assert_allclose(ex.values.sum((1, 2)), ex.scores, rtol=1e-3)


def test_the_score_of_another_scale_follows_its_gradient() -> None:
    module = pictures()
    p = explainer.wrap(module, modality="image").scores(gallery.images())
    every = explain(module, "lrp", target="all").values
    found = explain(module, "lrp", output="probability").values
    jacobian = p[:, 1:2] * (np.eye(3)[1] - p)
    np.testing.assert_allclose(found, (every * jacobian[:, None, None]).sum(-1), atol=1e-6)
    inside = nn.Sequential(*module, nn.Softmax(1)).eval()
    np.testing.assert_allclose(explain(inside, "lrp", output="probability").values, found, atol=1e-6)


# -- honesty -------------------------------------------------------------------------------------------------------------------


class Odd(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.one, self.head, self.norm = kind, nn.Linear(5, 6), nn.Linear(6, 3), nn.LayerNorm(6)
        self.cell = nn.RNN(5, 6, nonlinearity="relu", batch_first=True)
        self.scripted = torch.jit.script(nn.Sequential(nn.Linear(5, 6), nn.ReLU())) if kind == "script" else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.one(x)
        made = {
            "gate": lambda: h.relu() * h.sigmoid(), "norm": lambda: self.norm(h).relu(), "exp": lambda: h.exp(),
            "softmax": lambda: h.softmax(1).relu(), "divide": lambda: h.relu() / (1 + h.abs().sum(1, keepdim=True)),
            "instance": lambda: F.instance_norm(h[:, None])[:, 0].relu(), "product": lambda: (h[:, :, None] @ h[:, None]).sum(2).relu(),
            "recurrent": lambda: self.cell(x[:, None])[0][:, 0], "script": lambda: self.scripted(x), "sigmoid": lambda: h.sigmoid(),
        }  # fmt: skip
        return self.head(made[self.kind]())


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("gate", "Mul"), ("norm", "LayerNorm"), ("exp", "Exp"), ("softmax", "Softmax"), ("divide", "Abs"), ("instance", "BatchNorm"),
        ("product", "Bmm"), ("recurrent", "Relu"), ("script", "Relu"), ("sigmoid", "Sigmoid"),
    ],
)  # fmt: skip
def test_what_has_no_rule_is_refused_by_name_before_it_runs(kind: str, word: str) -> None:
    torch.manual_seed(0)
    model = gallery.tabular(Odd(kind).eval(), background=gallery.table(3))
    able = model.capabilities()["lrp"]
    assert able.level == "unsupported" and word in able.reason and "Use deeplift" in able.reason
    with pytest.raises(Unsupported, match=word):
        explainer.explain(model, gallery.table(), "lrp")


@pytest.mark.parametrize(("kind", "words"), [("recurrent", "ReLUs inside"), ("script", "ReLUs inside"), ("sigmoid", "has no ReLU")])
def test_guided_backprop_is_never_silently_the_plain_gradient(kind: str, words: str) -> None:
    torch.manual_seed(0)
    model = gallery.tabular(Odd(kind).eval(), background=gallery.table(3))
    with pytest.raises(Unsupported, match=words):
        explainer.explain(model, gallery.table(), "guided_backprop")


def test_the_gamma_rule_knows_no_bare_matrices_and_parameters_are_checked() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(5, 3))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.weight

    # What makes the weights, and does not see the input, is no concern of the rule.
    spectral = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(5, 8)), nn.ReLU(), nn.Linear(8, 3)).eval()
    same = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    same[0].weight.data, same[0].bias.data, same[2] = spectral[0].weight.detach(), spectral[0].bias.detach(), spectral[2]
    found = [explain(module, "lrp", gallery.table(), rule="gamma").values for module in (spectral, same)]
    np.testing.assert_allclose(*found, atol=1e-6)
    model = gallery.tabular(Bare(), background=gallery.table(3))
    assert np.isfinite(explainer.explain(model, gallery.table(), "lrp").values).all()
    with pytest.raises(Unsupported, match="rule='epsilon'"):
        explainer.explain(model, gallery.table(), "lrp", rule="gamma")
    with pytest.raises(UnknownName, match="Did you mean 'gamma'"):
        explainer.explain(model, gallery.table(), "lrp", rule="gama")
    with pytest.raises(InvalidInput, match="epsilon=-1"):
        explainer.explain(model, gallery.table(), "lrp", epsilon=-1)


def test_guided_backprop_carries_its_flag() -> None:
    model = explainer.wrap(pictures(), modality="image")
    ex = explainer.explain(model, gallery.images(), "guided_backprop")
    assert "randomisation test" in model.capabilities()["guided_backprop"].reason
    assert any("fail the randomisation test" in note for note in ex.provenance.notes)
    assert all(v.checks["class sensitivity"].status == "warn" and v.status != "pass" for v in ex.verdicts)


@pytest.mark.parametrize("method", ["guided_backprop", "lrp"])
def test_the_module_is_as_it_was_also_after_an_error(method: str) -> None:
    module = pictures().train()
    before, attributes = snapshot(module), [set(vars(m)) for m in module.modules()]
    explain(module, method)
    with pytest.raises(Unsupported):
        explain(module, method, target=lambda scores: scores[:, 0].astype(float))
    assert_unchanged(module, before)
    assert attributes == [set(vars(m)) for m in module.modules()]
