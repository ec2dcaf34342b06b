"""What is changed for a computation is put back, also after an error, and a second thread never notices."""

from __future__ import annotations

import copy
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torch_gallery as gallery
from torch import nn

import explainer
from explainer import state
from explainer.adapters.taps import AttentionTap


def test_modes_come_back_to_what_each_submodule_had() -> None:
    module = gallery.convnet().train()
    module.drop.eval()
    flags = [m.training for m in module.modules()]
    evaluation = state.Evaluation(module)

    def fail() -> None:
        with evaluation:
            assert not any(m.training for m in module.modules())
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()
    assert [m.training for m in module.modules()] == flags
    with evaluation, evaluation:
        pass
    assert [m.training for m in module.modules()] == flags


def test_eval_mode_holds_until_the_last_thread_leaves() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Dropout()).train()
    evaluation = state.Evaluation(module)
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with evaluation:
            inside.set()
            leave.wait(5)

    thread = threading.Thread(target=other)
    with evaluation:
        thread.start()
        inside.wait(5)
    assert not module.training  # the other thread is still scoring
    leave.set()
    thread.join()
    assert module.training


def test_a_module_wrapped_twice_has_one_guard() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Dropout()).train()
    first, second = (gallery.tabular(module, class_names=["a", "b"], preprocess=lambda f: f) for _ in range(2))
    with second.scoring():  # type: ignore[attr-defined]
        with first.scoring():  # type: ignore[attr-defined]
            pass
        assert not module.training
    assert module.training


def test_a_copied_model_has_a_guard_of_its_own() -> None:
    model = gallery.tabular(gallery.mlp().train())
    copied = copy.deepcopy(model)
    with copied.scoring():  # type: ignore[attr-defined]
        assert model.module.training  # type: ignore[attr-defined]
        assert not copied.module.training  # type: ignore[attr-defined]
    assert copied.module.training  # type: ignore[attr-defined]


def test_cudnn_is_off_until_the_last_one_leaves() -> None:
    was = torch.backends.cudnn.enabled
    with state._CUDNN_OFF:
        with state._CUDNN_OFF:
            assert not torch.backends.cudnn.enabled
        assert not torch.backends.cudnn.enabled
    assert torch.backends.cudnn.enabled == was


def test_overridden_train_is_not_called() -> None:
    class Merging(nn.Linear):
        def train(self, mode: bool = True) -> nn.Module:
            raise AssertionError("train() has lasting effects here")

    module = nn.Sequential(nn.Linear(2, 2), Merging(2, 2))
    with state.Evaluation(module):
        assert not module[1].training
    assert module[1].training


def test_random_state_is_kept() -> None:
    before = torch.get_rng_state()
    with state.scoring(state.Evaluation(nn.Identity()), torch.device("cpu")):
        torch.rand(3)
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.is_grad_enabled()


def test_differentiating_works_inside_inference_mode_and_no_grad() -> None:
    evaluation = state.Evaluation(nn.Identity())
    with torch.inference_mode(), state.differentiating(evaluation, torch.device("cpu"), recurrent=True):
        x = torch.ones(2, requires_grad=True)
        (gradient,) = torch.autograd.grad((x * 3).sum(), x)
    assert gradient.tolist() == [3, 3]


def test_hooks_are_removed_after_an_error_and_deaf_to_other_threads() -> None:
    layer = nn.Linear(2, 2)
    x = torch.ones(1, 2)
    plain = layer(x)
    seen: list[torch.Tensor] = []

    def fail() -> None:
        with state.hooked(layer, lambda _m, _a, out: out * 0):
            assert layer(x).abs().sum() == 0
            thread = threading.Thread(target=lambda: seen.append(layer(x)))
            thread.start()
            thread.join()
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()
    assert torch.equal(seen[0], plain)
    assert torch.equal(layer(x), plain)
    assert not layer._forward_hooks


def test_scores_are_right_while_another_thread_explains_the_same_module() -> None:
    model = gallery.text(gallery.seeded(gallery.Encoder, readout="mean").train())
    quiet = model.scores(gallery.TEXTS)
    errors: list[BaseException] = []

    def explain() -> None:
        try:
            for method in ("integrated_gradients", "attention", "saliency"):
                for _ in range(5):
                    explainer.explain(model, gallery.TEXTS, method, verify=False)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=explain)
    thread.start()
    rounds = 0
    while thread.is_alive():
        np.testing.assert_allclose(model.scores(gallery.TEXTS), quiet, atol=1e-6)
        rounds += 1
    thread.join()
    assert not errors
    assert rounds > 5
    assert all(m.training for m in model.module.modules())  # type: ignore[attr-defined]


def test_saved_bytes_counts_activations_once_and_no_weights() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(100, 50), nn.ReLU(), nn.Linear(50, 10))
    x = torch.ones(1, 100, requires_grad=True)
    # Linear keeps its input (100) for the weight gradient, ReLU its result (50), which the next Linear shares.
    assert state.saved_bytes(module, lambda: module(x)) == 4 * (100 + 50)
    wide = torch.ones(8, 100, requires_grad=True)
    assert state.saved_bytes(module, lambda: module(wide)) == 8 * 4 * (100 + 50)


@pytest.mark.parametrize("fast", [True, False])
def test_the_fast_path_switch_is_left_alone(fast: bool) -> None:
    was = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(fast)

    def fail() -> None:
        with AttentionTap(1):
            assert torch.backends.mha.get_fastpath_enabled() is fast  # another thread may be using it
            raise ValueError("inside")

    try:
        with pytest.raises(ValueError, match="inside"):
            fail()
        assert torch.backends.mha.get_fastpath_enabled() is fast
    finally:
        torch.backends.mha.set_fastpath_enabled(was)


def test_a_tap_sees_its_own_thread_only_and_replaces_nothing_globally() -> None:
    q = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 2, 4, 3)))
    function = F.scaled_dot_product_attention
    with AttentionTap(1) as tap:
        assert F.scaled_dot_product_attention is function
        thread = threading.Thread(target=lambda: F.scaled_dot_product_attention(q, q, q))
        thread.start()
        thread.join()
        assert not tap.layers
        F.scaled_dot_product_attention(q, q, q)
        assert len(tap.layers) == 1
