"""How pictures lie in memory when they enter a torch module: channels last where that is faster, and the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import explainer

PICTURES = np.random.default_rng(0).random((3, 8, 8, 3)).astype(np.float32)


class Net(nn.Module):
    """Notes how what its convolution is given lies in memory."""

    def __init__(self, norm: nn.Module | None = None, strict: bool = False, drawn: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3, padding=1), norm or nn.Identity(), nn.Linear(4 * 64, 3)
        self.strict, self.drawn, self.last = strict, drawn, []

    def forward(self, x: Tensor) -> Tensor:
        self.last.append(x.is_contiguous(memory_format=torch.channels_last))
        found = torch.relu(self.norm(self.conv(x)))
        found = torch.dropout(found, 0.5, True) if self.drawn else found
        return self.head(found.view(len(x), -1) if self.strict else found.flatten(1))


def wrapped(net: nn.Module) -> Any:
    return explainer.wrap(net, modality="image", class_names=list("abc"), returns="logit", background=PICTURES)


def test_channels_lie_last_in_scores_and_gradients_and_change_nothing() -> None:
    net = Net()
    model = wrapped(net)
    net.last.clear()
    scores = model.raw(PICTURES)
    values = explainer.explain(model, PICTURES, "saliency", target=0, output="logit", absolute=False, verify=False).values
    assert net.last and all(net.last)
    x = torch.tensor(PICTURES).permute(0, 3, 1, 2).contiguous().requires_grad_()
    usual = net(x)
    np.testing.assert_allclose(scores, usual.detach().numpy(), atol=1e-6)
    (gradient,) = torch.autograd.grad(usual[:, 0].sum(), x)
    np.testing.assert_allclose(values, gradient.sum(1).numpy(), atol=1e-6)
    assert next(net.parameters()).is_contiguous()  # the weights stay as they are


@pytest.mark.parametrize("net", [Net(strict=True), Net(norm=nn.InstanceNorm2d(4)), Net(drawn=True)], ids=["view", "instance norm", "drawn"])
def test_what_cannot_or_gains_nothing_is_left_as_it_is(net: Net) -> None:
    model = wrapped(net)
    net.last.clear()
    scores = model.raw(PICTURES)
    assert net.last and not any(net.last)
    assert scores.shape == (3, 3)


def test_nobody_who_listens_hears_a_trial() -> None:
    net, heard = Net(), []
    model = explainer.wrap(net, modality="image", class_names=list("abc"), preprocess=lambda p: torch.tensor(p).permute(0, 3, 1, 2))
    handle = net.conv.register_forward_hook(lambda *_: heard.append(1))
    model.raw(PICTURES)
    handle.remove()
    assert len(heard) == 1


def test_the_same_model_gives_the_same_bits_from_the_first_call_on() -> None:
    def model() -> Any:
        return explainer.wrap(Net(), modality="image", class_names=list("abc"), preprocess=lambda p: torch.tensor(p).permute(0, 3, 1, 2))

    first, second = model(), model()
    second.raw(PICTURES)
    np.testing.assert_array_equal(first.raw(PICTURES), second.raw(PICTURES))
