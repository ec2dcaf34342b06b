"""Ways to run faster: kept only where they are faster and say the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch_gallery as gallery
from torch import nn

import explainer
from explainer.adapters import acceleration
from explainer.errors import InvalidInput, UnknownName, Unsupported


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU()
        )
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).mean((2, 3)))


@pytest.fixture
def model() -> explainer.Model:
    torch.manual_seed(0)
    module = Normed()
    module(torch.randn(32, 1, 8, 8))  # running figures that are not the initial ones
    return explainer.wrap(module, modality="image", class_names=list("abcd"))


@pytest.fixture
def faster(monkeypatch):
    monkeypatch.setattr(acceleration, "_speedup", lambda before, after: 2.0)


@pytest.mark.usefixtures("faster")
def test_what_is_kept_says_the_same(model):
    images = gallery.images(4)
    before = model.fingerprint()
    fast = explainer.accelerate(model, images)
    assert [t.option for t in fast.trials if t.kept] == ["fold_batch_norm", "channels_last"]
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fast.core.modules())
    np.testing.assert_allclose(fast.scores(images), model.scores(images), atol=1e-5)
    assert fast.fingerprint() == model.fingerprint() == before
    assert any(isinstance(m, nn.BatchNorm2d) for m in model.core.modules()) and model.core.training
    for method in ("shap", "integrated_gradients"):
        a, b = (explainer.explain(m, images, method, verify=False).values for m in (model, fast))
        np.testing.assert_allclose(a, b, atol=1e-4)
    assert explainer.explain(fast, images, "shap", verify=False).provenance.notes[-1].startswith("Accelerated: fold_batch_norm")


@pytest.mark.usefixtures("faster")
def test_what_moves_a_score_is_left_out(model):
    fast = explainer.accelerate(model, gallery.images(4), options=("bfloat16",), tolerance=1e-7)
    assert not fast.trials[0].kept and "moves a score" in fast.trials[0].reason
    np.testing.assert_array_equal(fast.scores(gallery.images(4)), model.scores(gallery.images(4)))


@pytest.mark.usefixtures("faster")
def test_half_precision_is_used_when_allowed(model):
    images = gallery.images(4)
    fast = explainer.accelerate(model, images, options=("bfloat16",), tolerance=0.05)
    assert fast.trials[0].kept
    gap = np.abs(fast.scores(images) - model.scores(images)).max()
    assert 0 < gap <= 0.05


def test_what_is_not_faster_is_left_out(model, monkeypatch):
    monkeypatch.setattr(acceleration, "_speedup", lambda before, after: 1.02)
    fast = explainer.accelerate(model, gallery.images(4))
    assert not any(t.kept for t in fast.trials) and "not worth it" in fast.trials[0].reason


@pytest.mark.usefixtures("faster")
def test_ways_that_do_not_fit_are_said():
    mlp = gallery.tabular(gallery.mlp())
    fast = explainer.accelerate(mlp, gallery.table(4))
    assert [t.reason for t in fast.trials if t.kept] == []
    assert "no batch norm" in fast.trials[0].reason
    with pytest.raises(UnknownName, match="channels_last"):
        explainer.accelerate(mlp, gallery.table(4), options=("channel_last",))
    outside = explainer.wrap(lambda t: t.to_numpy()[:, :1], modality="tabular", task="regression", class_names=["v"])
    with pytest.raises(Unsupported, match="torch models"):
        explainer.accelerate(outside, gallery.table(4))


@pytest.mark.usefixtures("faster")
@pytest.mark.parametrize("method", ["shap", "lime", "ablation"])
def test_an_explanation_is_accelerated_when_asked_and_says_so(model, method, monkeypatch):
    images, trials = gallery.images(2), []
    plain = explainer.explain(model, images, method, verify=False)
    run = acceleration.accelerate
    monkeypatch.setattr(acceleration, "accelerate", lambda *given, **options: trials.append(1) or run(*given, **options))
    fast = explainer.explain(model, images, method, accelerate=True)
    np.testing.assert_allclose(fast.values, plain.values, atol=1e-4)
    np.testing.assert_array_equal(fast.scores, plain.scores)  # the model's own
    assert fast.provenance.parameters["accelerate"] == ["fold_batch_norm", "channels_last"]
    assert any(note.startswith("Coalitions were scored accelerated: fold_batch_norm") for note in fast.provenance.notes)
    assert "accelerate" not in plain.provenance.parameters and fast.provenance.model_sha256 == plain.provenance.model_sha256
    explainer.explain(model, images, method, accelerate=True, verify=False)
    assert len(trials) == 1  # measured once


@pytest.mark.usefixtures("faster")
def test_a_way_that_moves_a_score_is_not_used(model):
    images = gallery.images(2)
    plain = explainer.explain(model, images, "shap", verify=False)
    ex = explainer.explain(model, images, "shap", accelerate="bfloat16", verify=False)  # half precision moves scores by more than 1e-5
    np.testing.assert_array_equal(ex.values, plain.values)
    assert ex.provenance.parameters["accelerate"] == [] and any("moves a score" in note for note in ex.provenance.notes)


def test_a_way_that_is_not_faster_is_not_used(model, monkeypatch):
    monkeypatch.setattr(acceleration, "_speedup", lambda before, after: 0.9)
    ex = explainer.explain(model, gallery.images(2), "shap", accelerate=True, verify=False)
    np.testing.assert_array_equal(ex.values, explainer.explain(model, gallery.images(2), "shap", verify=False).values)
    assert ex.provenance.parameters["accelerate"] == [] and any("not worth it" in note for note in ex.provenance.notes)


def test_what_cannot_be_accelerated_is_said(model):
    ex = explainer.explain(model, gallery.images(2), "integrated_gradients", accelerate=True, verify=False)
    assert any(note == "Not accelerated: Integrated gradients scores no coalitions." for note in ex.provenance.notes)
    rows = gallery.table(4)
    outside = explainer.wrap(
        lambda t: t.to_numpy()[:, :1], modality="tabular", task="regression", class_names=["v"], background=rows
    )  # fmt: skip
    ex = explainer.explain(outside, rows[:1], "shap", accelerate=True, verify=False)
    assert any("seen from outside" in note for note in ex.provenance.notes)
    with pytest.raises(UnknownName, match="channels_last"):
        explainer.explain(model, gallery.images(2), "shap", accelerate="channel_last", verify=False)


def test_a_folder_of_an_accelerated_run_is_not_gone_on_with_otherwise(model, tmp_path, monkeypatch):
    monkeypatch.setattr(acceleration, "_speedup", lambda before, after: 2.0)
    explainer.explain(model, gallery.images(1), "shap", budget=64, accelerate=True, resume=tmp_path / "run", verify=False)
    with pytest.raises(InvalidInput, match="accelerated"):
        explainer.explain(model, gallery.images(1), "shap", budget=64, resume=tmp_path / "run", verify=False)


def test_speed_is_measured_in_turn():
    order = []
    acceleration._speedup(lambda: order.append("a"), lambda: order.append("b"))
    assert order == ["a", "b"] * 5


@pytest.mark.usefixtures("faster")
def test_views_of_a_language_model_stay_fast_and_are_the_same_model() -> None:
    pytest.importorskip("transformers")
    from transformers_gallery import TEXTS, gpt2

    model = explainer.wrap(gpt2())
    quick = explainer.accelerate(model, TEXTS, options=("bfloat16",), tolerance=10)
    view, plain = quick.next(" to"), model.next(" to")
    assert isinstance(quick, type(model)) and isinstance(view, acceleration.AcceleratedModel) and view.trials == quick.trials
    assert (quick.fingerprint(), view.fingerprint()) == (model.fingerprint(), plain.fingerprint())
    assert not np.array_equal(view.scores(TEXTS), plain.scores(TEXTS)) and np.allclose(view.scores(TEXTS), plain.scores(TEXTS), atol=0.5)
    ex = explainer.explain(quick, TEXTS[:1], "shap", target=" to", budget=32)
    assert ex.target == (" to",) and any("Accelerated" in note for note in ex.provenance.notes)
    assert any("log-probabilities" in note for note in ex.provenance.notes)
