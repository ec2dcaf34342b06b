"""The repaired copy of a module computes the same, shows every activation as a layer, and leaves the caller's alone."""

from __future__ import annotations

import copy

import model_gallery
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torch_gallery as gallery
from captum.attr import GuidedBackprop
from torch import Tensor, nn

from explainer.adapters.encoding import Arguments
from explainer.adapters.repair import LAYERS, repaired
from explainer.adapters.torch import unwrap
from explainer.errors import Unsupported
from explainer.inputs import take

CANNOT = {"control flow": "another way", "dropout always on": "differ", "scripted": "TorchScript"}


def activations(module: nn.Module) -> list[nn.Module]:
    return [m for m in module.modules() if isinstance(m, LAYERS)]


def calls(module: nn.Module, x: Tensor) -> list[int]:
    """How often each activation layer of ``module`` is called in one pass."""
    layers = activations(module)
    seen = dict.fromkeys(layers, 0)
    handles = [layer.register_forward_hook(lambda layer, *_: seen.update({layer: seen[layer] + 1})) for layer in layers]
    module(x)
    for handle in handles:
        handle.remove()
    return list(seen.values())


@pytest.mark.parametrize("name", model_gallery.GALLERY)
def test_scores_are_the_same_and_the_callers_module_is_untouched(name: str) -> None:
    model, given = model_gallery.made(name)
    before = {key: value.clone() for key, value in model.core.state_dict().items() if isinstance(value, Tensor)}
    hooks, modes = [len(m._forward_hooks) for m in model.core.modules()], [m.training for m in model.core.modules()]
    sample = model.encode(take(given, slice(0, 1)))
    if name in CANNOT:
        with pytest.raises(Unsupported, match=CANNOT[name]):
            model.encode(given).call(repaired(model.core, sample).module)
    else:
        fixed = repaired(model.core, sample)
        with model.scoring():
            rows = model.encode(given)
            mine = unwrap(rows.call(fixed.module), len(rows))
            own = model.forward(model.encode(given), core=True)
        torch.testing.assert_close(mine, own, atol=1e-5, rtol=1e-5)
        assert {id(p) for p in fixed.module.parameters()} == {id(p) for p in model.core.parameters()}
    assert hooks == [len(m._forward_hooks) for m in model.core.modules()] and modes == [m.training for m in model.core.modules()]
    assert all(torch.equal(value, model.core.state_dict()[key]) for key, value in before.items())


@pytest.mark.parametrize(
    "name", ["functional relu", "relu reused", "relu in place", "functional in place", "residual, dense and depthwise"]
)
def test_every_activation_is_a_layer_called_once_and_not_in_place(name: str) -> None:
    model, given = model_gallery.made(name)
    x = model.encode(given).tensors[0]
    fixed = repaired(model.core, Arguments((x,)))
    assert calls(fixed.module, x) == [1] * (4 if name.startswith("residual") else 2)
    assert not any(getattr(layer, "inplace", False) for layer in activations(fixed.module))
    assert fixed.changes


@pytest.mark.parametrize("activation", [F.relu, torch.relu, Tensor.relu, Tensor.relu_, lambda x: x.clamp(min=0), nn.ReLU()])
def test_guided_backpropagation_hooks_the_repaired_module(activation) -> None:
    """captum's own gives the plain gradient of functional activations; on the repaired module it follows the rule."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(3)
            self.first, self.second, self.last, self.function = nn.Linear(5, 12), nn.Linear(12, 12), nn.Linear(12, 1), activation

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.function(self.second(self.function(self.first(x)))))

    net, x = Net(), torch.tensor(gallery.table(3).to_numpy())
    h1, h2 = net.first(x), net.second(net.first(x).clamp(min=0))
    g = net.last.weight.clamp(min=0) * (h2 > 0)  # by hand: only positive gradients pass an active unit
    g = (g @ net.second.weight).clamp(min=0) * (h1 > 0)
    found = GuidedBackprop(repaired(net, Arguments((x,))).module).attribute(x.clone().requires_grad_())
    torch.testing.assert_close(found, g @ net.first.weight)


def test_layers_are_found_by_the_callers_names_and_hooks_stay_on_the_copy() -> None:
    net = gallery.convnet()
    fixed = repaired(net, Arguments((torch.rand(1, 1, 8, 8),)))
    seen: list[Tensor] = []
    fixed.layer("conv").register_forward_hook(lambda *_: seen.append(_[2]))
    net(torch.rand(1, 1, 8, 8))
    assert not seen and not net.conv._forward_hooks
    fixed.module(torch.rand(1, 1, 8, 8))
    assert len(seen) == 1 and fixed.layer("conv").weight is net.conv.weight


def test_what_is_done_in_place_and_seen_by_others_stays() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.relu = nn.Linear(5, 3), nn.ReLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            h = self.layer(x)
            return self.relu(h) + h  # h is rectified by now

    torch.manual_seed(0)
    net, x = Both(), torch.randn(4, 5)
    fixed = repaired(net, Arguments((x,)))
    torch.testing.assert_close(fixed.module(x), net(x))
    assert not any("in place" in change for change in fixed.changes)


def test_scripted_modules_are_refused() -> None:
    scripted = torch.jit.script(gallery.mlp())
    with pytest.raises(Unsupported, match="TorchScript"):
        repaired(scripted, Arguments((torch.zeros(1, 5),)))


def test_random_state_and_copies() -> None:
    net = gallery.mlp().train()
    state, twin = torch.get_rng_state(), copy.deepcopy(net)
    repaired(net, Arguments((torch.zeros(2, 5),)))
    assert torch.equal(state, torch.get_rng_state()) and net.training
    np.testing.assert_array_equal(net[0].weight.detach(), twin[0].weight.detach())
