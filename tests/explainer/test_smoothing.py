"""SmoothGrad and VarGrad against captum, closed forms, a slow loop, and the coverage of the standard errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch_gallery as gallery
from captum.attr import InputXGradient, NoiseTunnel, Saliency
from test_torch_adapter import assert_unchanged, snapshot
from torch import Tensor, nn

import explainer
from explainer.errors import InvalidInput, UnknownName, Unsupported

METHODS = ("smoothgrad", "vargrad")


def explain(model: explainer.Model, inputs: Any, method: str, **options: Any) -> explainer.Explanation:
    return explainer.explain(model, inputs, method, **{"verify": False, "output": "logit", "target": 1, **options})


def images() -> tuple[explainer.Model, nn.Module, np.ndarray]:
    torch.manual_seed(1)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 36, 3)).eval()
    pictures = np.random.default_rng(3).random((3, 8, 8, 3)).astype(np.float32)
    return explainer.wrap(module, modality="image", class_names=list("abc")), module, pictures


class Square(nn.Module):
    """``sum of a_i x_i ** 2``, of which everything is known."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0]))

    def forward(self, x: Tensor) -> Tensor:
        return (x**2 * self.a).sum(1, keepdim=True)


def square(**options: Any) -> explainer.Model:
    return gallery.tabular(Square(), task="regression", class_names=["y"], **options)


def test_a_linear_model_has_its_weights_and_no_variance() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(5, 1)
    model, frame = gallery.tabular(layer, task="regression", class_names=["y"]), gallery.table()
    weights = layer.weight.detach().numpy()[0].astype(float)
    np.testing.assert_allclose(explain(model, frame, "smoothgrad", target=0).values, np.tile(np.abs(weights), (6, 1)), atol=1e-7)
    np.testing.assert_allclose(explain(model, frame, "smoothgrad", target=0, absolute=False).values, np.tile(weights, (6, 1)), atol=1e-7)
    np.testing.assert_allclose(explain(model, frame, "vargrad", target=0).values, 0, atol=1e-12)


@pytest.mark.parametrize("with_background", [True, False])
def test_a_square_has_its_own_gradient_and_the_known_variance(with_background: bool) -> None:
    frame, background = gallery.table(), gallery.table(50, seed=1)
    model = square(background=background if with_background else None)
    x, a = frame.to_numpy().astype(float), np.array([1.0, -2.0, 0.5, 0.0, 3.0])
    smooth = explain(model, frame, "smoothgrad", target=0, absolute=False)
    np.testing.assert_allclose(smooth.values, 2 * a * x, atol=1e-5)  # mirrored noise cancels
    np.testing.assert_allclose(smooth.stderr, 0, atol=1e-5)
    spread = background.to_numpy().std(0, ddof=1) if with_background else np.ptp(x, axis=1)[:, None]
    var = explain(model, frame, "vargrad", target=0, samples=8192, noise=0.2).values
    np.testing.assert_allclose(var, (2 * a) ** 2 * (0.2 * spread) ** 2 * np.ones_like(x), rtol=0.06)


@pytest.mark.parametrize("of", ["saliency", "input_x_gradient"])
def test_both_are_what_a_slow_loop_gives(of: str) -> None:
    model, module, pictures = images()
    x = torch.tensor(pictures).permute(0, 3, 1, 2).double()
    module.double()
    sigma = 0.1 * (x.amax((1, 2, 3), keepdim=True) - x.amin((1, 2, 3), keepdim=True))
    draws = []
    for pair in range(16):
        noise = torch.from_numpy(np.random.default_rng([5, pair]).standard_normal(x.shape[1:])) * sigma
        for sign in (1, -1):
            point = (x + sign * noise).requires_grad_()
            (gradient,) = torch.autograd.grad(module(point)[:, 2].sum(), point)
            draws.append((gradient if of == "saliency" else gradient * point).detach().numpy())
    module.float()
    options = {"samples": 32, "noise": 0.1, "seed": 5, "target": 2, "of": of}
    mean = np.mean(draws, 0)
    expected = np.abs(mean).sum(1) if of == "saliency" else mean.sum(1)
    np.testing.assert_allclose(explain(model, pictures, "smoothgrad", **options).values, expected, atol=2e-6)
    pairs = (np.array(draws)[::2] + np.array(draws)[1::2]) / 2
    cross = np.mean([pairs[p] * pairs[q] for p in range(16) for q in range(16) if p != q], 0)
    expected = np.maximum(np.mean(np.square(draws), 0) - cross, 0).sum(1)
    np.testing.assert_allclose(explain(model, pictures, "vargrad", **options).values, expected, atol=1e-7)


def test_captums_noise_tunnel_agrees_within_the_errors() -> None:
    model, module, pictures = images()
    x = torch.tensor(pictures).permute(0, 3, 1, 2)
    sigma = 0.2 * float(np.ptp(pictures[0]))
    torch.manual_seed(0)
    for of, peer in (("saliency", Saliency(module)), ("input_x_gradient", InputXGradient(module))):
        given = {"abs": False} if of == "saliency" else {}
        tunnel = NoiseTunnel(peer)
        every = [tunnel.attribute(x[:1], nt_type=kind, nt_samples=4000, nt_samples_batch_size=500, stdevs=sigma, target=1, **given)
                 for kind in ("smoothgrad", "vargrad")]  # fmt: skip
        mean, variance = (part.detach().double().numpy().sum(1)[0] for part in every)
        smooth = explain(model, pictures[:1], "smoothgrad", of=of, noise=0.2, samples=2048, absolute=False)
        assert np.abs(smooth.values[0] - mean).max() < 6 * float(smooth.stderr.max()) + 6 * np.sqrt(variance.max() * 3 / 4000)
        var = explain(model, pictures[:1], "vargrad", of=of, noise=0.2, samples=4096).values[0]
        np.testing.assert_allclose(var, variance, rtol=0.25)
        assert abs(var.sum() / variance.sum() - 1) < 0.03


def test_intervals_hold_what_they_promise() -> None:
    frame = gallery.table(6)
    model = gallery.tabular(gallery.mlp(), background=gallery.table(20, seed=1))
    truth = explain(model, frame, "smoothgrad", samples=8192, noise=0.5, absolute=False, seed=99)
    held, far = [], []
    for seed in range(100):
        ex = explain(model, frame, "smoothgrad", samples=32, noise=0.5, absolute=False, seed=seed)
        held.append(np.abs(ex.values - truth.values) <= 1.96 * np.hypot(ex.stderr, truth.stderr))
        far.append(np.abs(ex.values - truth.values).max())

    assert 0.93 <= np.mean(held) <= 0.97 and np.median(far) > 1e-3


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", ["series", "text", "channels first"])
def test_neither_batch_nor_padding_matter_and_the_seed_does(method: str, case: str) -> None:
    class Across(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv1d(3, 4, 1), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.tanh(self.conv(x)).sum(2) * 0.1)

    def across(series: list[np.ndarray]) -> Tensor:
        longest = max(map(len, series))
        return torch.tensor(np.stack([np.pad(one, ((0, longest - len(one)), (0, 0))).T for one in series]))

    model, inputs = {
        "series": lambda: (explainer.wrap(gallery.lstm(), modality="series"), gallery.series()),
        "text": lambda: (gallery.text(gallery.seeded(gallery.Encoder, readout="mean")), gallery.TEXTS),
        "channels first": lambda: (
            explainer.wrap(gallery.seeded(Across), modality="series", preprocess=across, class_names=["a", "b"]), gallery.series((4, 9, 6))
        ),
    }[case]()  # fmt: skip
    whole = explain(model, inputs, method, seed=2)
    for i in range(len(inputs)):
        np.testing.assert_allclose(whole[i].values, explain(model, [inputs[i]], method, seed=2).values, rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(whole.values, explain(model, inputs, method, seed=2).values)
    assert np.nanmax(np.abs(whole.values - explain(model, inputs, method, seed=3).values)) > 1e-6


def test_memory_running_out_changes_nothing() -> None:
    model, frame = gallery.tabular(gallery.mlp(), background=gallery.table(20, seed=1)), gallery.table()
    expected = explain(model, frame, "smoothgrad").values

    def limited(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        if len(args[0]) > 20:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    handle = model.module.register_forward_pre_hook(limited)  # type: ignore[attr-defined]
    small = explain(model, frame, "smoothgrad").values
    handle.remove()
    np.testing.assert_allclose(small, expected, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_parameters_are_checked_and_the_module_is_as_it_was(method: str) -> None:
    model, frame = gallery.tabular(gallery.mlp()), gallery.table()
    for options, kind, words in (
        ({"of": "salience"}, UnknownName, "Did you mean 'saliency'"),
        ({"noise": 0}, InvalidInput, "noise=0"),
        ({"samples": 0}, InvalidInput, "samples=0"),
        ({"target": lambda scores: scores[:, 0].astype(float)}, Unsupported, "torch operations"),
    ):
        before = snapshot(model.module)  # type: ignore[attr-defined]
        with pytest.raises(kind, match=words):
            explain(model, frame, method, **options)
        assert_unchanged(model.module, before)  # type: ignore[attr-defined]
    ex = explain(model, frame, method, samples=20)
    assert ex.provenance.parameters["samples"] == 32 and ex.provenance.evaluations == 32 * 6
    assert ex.provenance.parameters["of"] == "saliency" and ex.provenance.parameters["noise"] == 0.15
