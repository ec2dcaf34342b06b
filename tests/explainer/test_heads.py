"""Head importance against modules whose heads are turned off by hand."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch
import torch_gallery as gallery
from test_attention_transformers import texts
from test_torch_adapter import assert_unchanged, snapshot
from torch import Tensor, nn

from explainer.errors import InvalidInput, UnknownName, Unsupported
from explainer.inspection.heads import HeadImportance, head_importance


class Explicit(gallery.Fused):
    """The fused module, one head at a time in plain sight, each with a factor of its own."""

    factors: Tensor | None = None

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        h = self.embed(ids)
        for i in range(len(self.out)):
            q, k, v = self.heads(i, h)
            parts = []
            for head in range(4):
                logits = torch.einsum("nid,njd->nij", q[:, head], k[:, head]) / 2
                weights = logits.masked_fill(~mask[:, None, :], -torch.inf).exp()
                mixed = torch.einsum("nij,njd->nid", weights / weights.sum(-1, keepdim=True), v[:, head])
                parts.append(mixed if self.factors is None else mixed * self.factors[i, head])
            h = self.norm[i](h + self.out[i](torch.cat(parts, -1)))
        return self.read(h, mask)


def by_hand(kind: str, target: int) -> np.ndarray:
    """``(n, layers, heads)``."""
    module = gallery.seeded(Explicit)
    encoded = gallery.Pieces()(gallery.TEXTS)

    def probability(factors: Tensor) -> Tensor:
        module.factors = factors
        return module(**encoded).double().softmax(1)[:, target]

    found = np.zeros((4, 2, 4))
    if kind == "gradient":
        factors = torch.ones(2, 4, requires_grad=True)
        for i in range(4):
            (gradient,) = torch.autograd.grad(probability(factors)[i], factors)
            found[i] = gradient.abs().numpy()
        return found
    with torch.no_grad():
        whole = probability(torch.ones(2, 4))
        for k, h in np.ndindex(2, 4):
            factors = torch.ones(2, 4)
            factors[k, h] = 0
            found[:, k, h] = (whole - probability(factors)).numpy()
    return found


@pytest.mark.parametrize("kind", ["ablation", "gradient"])
def test_importance_equals_heads_turned_off_by_hand(kind: Any) -> None:
    found = head_importance(gallery.text(gallery.seeded(gallery.Fused)), gallery.TEXTS, 1, kind=kind)
    wanted = by_hand(kind, 1)
    np.testing.assert_allclose(found.values, wanted.mean(0), atol=1e-6)
    np.testing.assert_allclose(found.stderr, wanted.std(0, ddof=1) / 2, atol=1e-6)
    np.testing.assert_allclose(found.high - found.values, 3.1824463 * found.stderr, rtol=1e-5)  # Student's t, 3 degrees of freedom
    assert (found.kind, found.rows, found.layers) == (kind, 4, ("attention", "attention"))
    assert np.abs(found.values).max() > 1e-3


def without(module: nn.Module, layer: int, head: int, encoded: dict[str, Tensor]) -> Tensor:
    """Scores of tiny BERT with the columns of W_O that take one head set to zero: the same as that head handing on nothing."""
    weight = module.bert.encoder.layer[layer].attention.output.dense.weight  # type: ignore[union-attr, index]
    kept = weight.data.clone()
    with torch.no_grad():
        weight[:, head * 4 : (head + 1) * 4] = 0
        scores = module(**encoded).logits.double().softmax(1)
        weight.copy_(kept)
    return scores


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_a_head_of_bert_without_its_output_weights(implementation: str) -> None:
    model = texts("bert", implementation)
    before = snapshot(model.module)
    found = head_importance(model, gallery.TEXTS, 2)
    assert_unchanged(model.module, before)
    encoded = model.preprocess(gallery.TEXTS)
    with torch.no_grad():
        whole = model.module(**encoded).logits.double().softmax(1)
    for layer, head in np.ndindex(2, 4):
        wanted = (whole - without(model.module, layer, head, encoded))[:, 2].mean()
        assert found.values[layer, head] == pytest.approx(float(wanted), abs=1e-6)


@pytest.mark.parametrize("kind", ["ablation", "gradient"])
@pytest.mark.parametrize("name", ["t5", "deberta", "gpt2", "llama"])
def test_every_way_to_compute_attention_has_heads(name: str, kind: Any) -> None:
    found = head_importance(texts(name), gallery.TEXTS, kind=kind)
    assert found.values.shape == (6 if name == "t5" else 2, 4) and np.isfinite(found.values).all() and np.abs(found.values).min() > 0
    assert found.layers.count("cross-attention") == (2 if name == "t5" else 0)


@pytest.mark.parametrize("kind", ["ablation", "gradient"])
def test_pytorchs_own_encoder_and_batches_of_one(kind: Any) -> None:
    model = gallery.text(gallery.seeded(gallery.Encoder))
    together = head_importance(model, gallery.TEXTS, 0, kind=kind)
    alone = [head_importance(model, [text], 0, kind=kind) for text in gallery.TEXTS]
    np.testing.assert_allclose(together.values, np.mean([one.values for one in alone], axis=0), atol=1e-6)
    assert np.isnan(alone[0].stderr).all() and np.isfinite(alone[0].values).all()


@pytest.mark.parametrize("kind", ["ablation", "gradient"])
def test_a_gate_over_experts_is_no_head(kind: Any) -> None:
    class Mixture(gallery.Fused):
        def embed(self, ids: Tensor) -> Tensor:
            h = super().embed(ids)
            return h + 0 * (h[..., :3].softmax(-1) @ torch.stack([h.mean(1) * k for k in range(3)], 1))

    found = head_importance(gallery.text(gallery.seeded(Mixture)), gallery.TEXTS, 1, kind=kind)
    np.testing.assert_allclose(found.values, by_hand(kind, 1).mean(0), atol=1e-6)


def test_a_head_that_does_nothing_is_worth_nothing() -> None:
    module = gallery.seeded(gallery.Fused)
    with torch.no_grad():
        module.out[1].weight[:, 8:12] = 0  # what head 2 of the last layer hands on goes nowhere
    for kind in ("ablation", "gradient"):
        found = head_importance(gallery.text(module), gallery.TEXTS, kind=kind)  # type: ignore[arg-type]
        assert found.values[1, 2] == pytest.approx(0, abs=1e-7) and np.abs(np.delete(found.values[1], 2)).min() > 1e-6
        assert found.to_frame().iloc[-1][["layer", "head"]].tolist() == [1, 2]


def test_other_threads_keep_all_their_heads() -> None:
    model = gallery.text(gallery.seeded(gallery.Fused))
    wanted, seen, done = model.scores(gallery.TEXTS), [], threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.append(model.scores(gallery.TEXTS))

    thread = threading.Thread(target=watch)
    thread.start()
    for _ in range(3):
        head_importance(model, gallery.TEXTS)
    done.set()
    thread.join()
    assert seen and all(np.array_equal(one, wanted) for one in seen)


def test_the_module_is_restored_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    module = gallery.seeded(gallery.Fused).train()
    model, before, calls = gallery.text(module), snapshot(module), []
    read = module.read
    monkeypatch.setattr(module, "read", lambda *given: 1 / 0 if len(calls) > 4 else (calls.append(1), read(*given))[1])
    with pytest.raises(ZeroDivisionError):
        head_importance(model, gallery.TEXTS, 0)
    monkeypatch.undo()
    assert_unchanged(module, before)


def test_it_is_saved_and_read_again(tmp_path: Any) -> None:
    found = head_importance(gallery.text(gallery.seeded(gallery.Fused)), gallery.TEXTS)
    back = HeadImportance.load(found.save(tmp_path / "heads.json"))
    np.testing.assert_array_equal(back.values, found.values)
    assert back.layers == found.layers and back.provenance == found.provenance and not back.values.flags.writeable


def test_what_cannot_be_asked_is_answered() -> None:
    model = gallery.text(gallery.seeded(gallery.Fused))
    with pytest.raises(UnknownName, match="ablation"):
        head_importance(model, gallery.TEXTS, kind="ablate")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="one target"):
        head_importance(model, gallery.TEXTS, "all")
    with pytest.raises(Unsupported, match="No attention was computed"):
        head_importance(gallery.tabular(gallery.mlp()), gallery.table())
    with pytest.raises(Unsupported, match="no product of them with values"):
        head_importance(gallery.text(gallery.seeded(Loose)), gallery.TEXTS)


class Loose(gallery.Fused):
    """Mixes values without a product that could be seen."""

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        h = self.embed(ids)
        q, k, v = self.heads(0, h)
        weights = (q @ k.transpose(-2, -1)).softmax(-1)
        return self.read((weights[..., None] * v[:, :, None]).sum(3).transpose(1, 2).flatten(2), mask)
