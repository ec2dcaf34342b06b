"""Attention weights against attention computed by hand, rollout against the paper's slow form, on fused and eager modules."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torch_gallery as gallery
from test_torch_adapter import assert_unchanged, snapshot
from torch import Tensor, nn

import explainer
from explainer.adapters.taps import AttentionTap, attention_weights
from explainer.errors import InvalidInput, Unsupported
from explainer.methods.attention import attention, rollout
from explainer.methods.attribution import Attribution
from explainer.target import resolve


def run(model: explainer.Model, texts: Any, **options: Any) -> Attribution:
    given = model.canonical(texts)
    return attention(model, given, resolve(options.pop("target", "predicted"), model.scores(given), model.class_names), **options)


def by_hand(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Attention one query at a time, straight from Vaswani et al. 2017; ``mask`` True where a key may be seen."""
    weights = torch.zeros(*query.shape[:-1], key.shape[-2], dtype=query.dtype)
    for where in np.ndindex(*query.shape[:-1]):
        dots = key[where[:-1]] @ query[where] / math.sqrt(query.shape[-1])
        seen = mask.expand(*query.shape[:-1], key.shape[-2])[where]
        if seen.any():
            exp = torch.where(seen, (dots - dots[seen].max()).exp(), 0)
            weights[where] = exp / exp.sum()
    return weights, weights @ value


def encoder_by_hand(module: gallery.Encoder, ids: Tensor, mask: Tensor) -> list[Tensor]:
    h, found = module.embed(ids), []
    for layer in module.encoder.layers:
        projected = h @ layer.self_attn.in_proj_weight.T + layer.self_attn.in_proj_bias
        q, k, v = (t.view(*h.shape[:2], 4, -1).transpose(1, 2) for t in projected.chunk(3, -1))
        weights, mixed = by_hand(q, k, v, mask[:, None, None, :])
        found.append(weights)
        h = layer.norm1(h + layer.self_attn.out_proj(mixed.transpose(1, 2).flatten(2)))
        h = layer.norm2(h + layer.linear2(F.gelu(layer.linear1(h))))
    return found


def fused_by_hand(module: gallery.Fused, ids: Tensor, mask: Tensor) -> list[Tensor]:
    h, found = module.embed(ids), []
    tokens = ids.shape[1]
    for i in range(len(module.out)):
        q, k, v = module.heads(i, h)
        k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
        seen = mask[:, None, None, :]
        if module.causal:
            seen = seen & torch.ones(tokens, tokens, dtype=torch.bool).tril()
        weights, mixed = by_hand(q, k, v, seen)
        found.append(weights)
        h = module.norm[i](h + module.out[i](mixed.transpose(1, 2).flatten(2)))
    return found


MODULES: dict[str, tuple[Callable[[], nn.Module], Callable[..., list[Tensor]]]] = {
    "TransformerEncoder": (lambda: gallery.seeded(gallery.Encoder), encoder_by_hand),
    "fused, padding": (lambda: gallery.seeded(gallery.Fused), fused_by_hand),
    "fused, causal and padding": (lambda: gallery.seeded(gallery.Fused, causal=True, readout="mean"), fused_by_hand),
    "fused, float mask": (lambda: gallery.seeded(gallery.Fused, causal=True, float_mask=True, readout="mean"), fused_by_hand),
    "fused, grouped heads": (lambda: gallery.seeded(gallery.Fused, grouped=True), fused_by_hand),
}


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("fast", [True, False])
def test_captured_weights_equal_attention_by_hand(name: str, fast: bool) -> None:
    make, oracle = MODULES[name]
    module = make()
    was = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(fast)
    try:
        found = run(gallery.text(module), gallery.TEXTS)
    finally:
        torch.backends.mha.set_fastpath_enabled(was)
    encoded = gallery.Pieces()(gallery.TEXTS)
    with torch.no_grad():
        wanted = torch.stack(oracle(module, **encoded), 1).numpy()  # (n, layers, heads, T, T)
    for i, weights in enumerate(found.extras["attention"]):
        real = int(encoded["mask"][i].sum())
        assert weights.shape == (2, 4, real, real)
        assert weights.dtype == np.float32
        np.testing.assert_allclose(weights, wanted[i][:, :, :real, :real], atol=1e-5)
        np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
        assert len(found.extras["tokens"][i]) == real


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_multihead_attention_gives_its_weights_and_its_own_result(need_weights: bool, batch_first: bool) -> None:
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(12, 3, batch_first=batch_first).eval()
    shape = (2, 5, 12) if batch_first else (5, 2, 12)
    x = torch.randn(*shape)
    pad = torch.tensor([[False] * 5, [False, False, False, True, True]])
    causal = torch.ones(5, 5, dtype=torch.bool).triu(1)
    with torch.no_grad():
        plain, averaged = layer(x, x, x, key_padding_mask=pad, attn_mask=causal, need_weights=True)
        with AttentionTap(2) as tap:
            tapped, given = layer(x, x, x, key_padding_mask=pad, attn_mask=causal, need_weights=need_weights)
    torch.testing.assert_close(tapped, plain, atol=1e-6, rtol=0)
    torch.testing.assert_close(tap.layers[0].weights.mean(1), averaged, atol=1e-6, rtol=0)
    assert (given is None) == (not need_weights)
    if given is not None:
        torch.testing.assert_close(given, averaged)
    projected = (x if batch_first else x.transpose(0, 1)) @ layer.in_proj_weight.T + layer.in_proj_bias
    q, k, v = (t.view(2, 5, 3, 4).transpose(1, 2) for t in projected.chunk(3, -1))
    wanted, _ = by_hand(q, k, v, ~pad[:, None, None, :] & ~causal)
    torch.testing.assert_close(tap.layers[0].weights, wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "options",
    [{}, {"add_bias_kv": True, "add_zero_attn": True}, {"kdim": 5, "vdim": 7}, {"bias": False}, {"add_zero_attn": True, "dropout": 0.3}],
)
@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("masked", ["none", "boolean", "float", "per head"])
def test_every_form_of_multihead_attention_is_computed_alike(options: dict[str, Any], batched: bool, masked: str) -> None:
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(12, 3, batch_first=True, **options).eval()
    n, (k, v) = 2 if batched else 1, (options.get("kdim", 12), options.get("vdim", 12))
    given = [torch.randn(n, 4, 12), torch.randn(n, 6, k), torch.randn(n, 6, v)]
    pad = torch.zeros(n, 6, dtype=torch.bool)
    pad[0, -1] = True
    mask = {
        "none": None, "boolean": torch.randn(4, 6) > 1, "float": torch.randn(4, 6), "per head": torch.randn(n * 3, 4, 6) > 1,
    }[masked]  # fmt: skip
    pad = pad.float() * -1e4 if masked == "float" else pad
    given, pad = (given, pad) if batched else ([t[0] for t in given], pad[0])
    with torch.no_grad():
        plain, weights = layer(*given, key_padding_mask=pad, attn_mask=mask, average_attn_weights=False)
        with AttentionTap(n) as tap:
            tapped, told = layer(*given, key_padding_mask=pad, attn_mask=mask, average_attn_weights=False)
    torch.testing.assert_close(tapped, plain, atol=1e-6, rtol=0)
    torch.testing.assert_close(told, weights, atol=1e-6, rtol=0)
    torch.testing.assert_close(tap.layers[0].weights, weights if batched else weights[None], atol=1e-6, rtol=0)
    assert tap.layers[0].cross


def test_a_sequence_computed_twice_is_one_sequence() -> None:
    torch.manual_seed(0)
    layer, x, place = nn.MultiheadAttention(8, 2, batch_first=True).eval(), torch.randn(2, 5, 8), torch.randn(5, 8)
    with AttentionTap(2) as tap:
        layer(x + place, x + place, x)
        layer(x, torch.randn(2, 5, 8), x)
    assert [one.cross for one in tap.layers] == [False, True]


def test_a_pooling_query_stands_above_the_rollout() -> None:
    class Pooling(gallery.Fused):
        def __init__(self) -> None:
            super().__init__()
            self.pool, self.query = nn.MultiheadAttention(16, 2, batch_first=True), nn.Parameter(torch.randn(1, 1, 16))

        def read(self, h: Tensor, mask: Tensor) -> Tensor:
            pooled, _ = self.pool(self.query.expand(len(h), -1, -1), h, h, key_padding_mask=~mask)
            return self.head(pooled[:, 0])

    model = gallery.text(gallery.seeded(Pooling))
    found, raw = run(model, gallery.TEXTS), run(model, gallery.TEXTS, kind="raw")
    for i in range(len(gallery.TEXTS)):
        stack, row = found.extras["attention"][i].astype(float), raw.values[i][0, :, 0, :, 0].mean(0)
        wanted = sum(row[t] * slow_rollout(stack, t) for t in range(len(row)))
        assert found.values[i].sum() == pytest.approx(1 - wanted[0] - wanted[-1], abs=1e-5)
        assert found.extras["special"][i] == pytest.approx(wanted[0] + wanted[-1], abs=1e-5)


def test_a_mixture_of_experts_is_not_taken_for_a_decoder() -> None:
    class Mixture(gallery.Fused):
        def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
            h = self.embed(ids)
            for i in range(len(self.out)):
                attended = F.scaled_dot_product_attention(*self.heads(i, h), attn_mask=self.mask_of(mask))
                h = self.norm[i](h + self.out[i](attended.transpose(1, 2).flatten(2)))
                experts = torch.stack([h.mean(1) * k for k in range(3)], 1)  # (n, experts, width)
                h = h + h[..., :3].softmax(-1) @ experts
            return self.read(h, mask)

    found = run(gallery.text(gallery.seeded(Mixture)), gallery.TEXTS)
    assert found.extras["attention"][0].shape[:2] == (2, 4)
    assert any("2 attention layers over other positions" in note for note in found.notes)
    assert not any("Another sequence" in note for note in found.notes)
    alone = run(gallery.text(gallery.seeded(gallery.Fused)), gallery.TEXTS)
    np.testing.assert_allclose(found.extras["attention"][0][0], alone.extras["attention"][0][0], atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions_are_read(dtype: torch.dtype) -> None:
    from explainer.methods.attention import attention_norms, attention_relevance

    module = gallery.seeded(gallery.Fused)
    wanted = run(gallery.text(module), gallery.TEXTS)
    model = gallery.text(gallery.seeded(gallery.Fused).to(dtype))
    found = run(model, gallery.TEXTS)
    for a, b in zip(found.values, wanted.values, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-2 if dtype == torch.bfloat16 else 1e-5)
    goal = resolve(0, model.scores(gallery.TEXTS), model.class_names)
    for method in (attention_norms, attention_relevance):
        assert all(np.isfinite(v).all() and v.max() > 0 for v in method(model, gallery.TEXTS, goal).values)


def test_the_causal_hint_of_an_encoder_is_kept() -> None:
    torch.manual_seed(0)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2).eval()
    x, mask = torch.randn(2, 5, 8), nn.Transformer.generate_square_subsequent_mask(5)
    plain = encoder(x, mask=mask, is_causal=True)
    with AttentionTap(2) as tap:
        tapped = encoder(x, mask=mask, is_causal=True)
    torch.testing.assert_close(tapped, plain, atol=1e-6, rtol=0)
    assert [bool((layer.weights.triu(1) == 0).all()) for layer in tap.layers] == [True, True]


@pytest.mark.parametrize("queries", [4, 6])
@pytest.mark.parametrize("case", ["plain", "causal", "boolean", "float", "scale", "blind"])
def test_weights_equal_what_the_fused_kernel_computes(queries: int, case: str) -> None:
    generator = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(2, 3, n, 8, generator=generator) for n in (queries, 6, 6))
    boolean = torch.rand(2, 1, queries, 6, generator=generator) > 0.4
    boolean[..., 0] = True
    if case == "blind":
        boolean[0, 0, 1] = False  # a query that may see no key
    options: dict[str, Any] = {
        "plain": {}, "causal": {"is_causal": True}, "boolean": {"attn_mask": boolean}, "blind": {"attn_mask": boolean},
        "float": {"attn_mask": torch.randn(2, 3, queries, 6, generator=generator)}, "scale": {"scale": 0.7},
    }[case]  # fmt: skip
    fused = F.scaled_dot_product_attention(q, k, v, **options)
    weights = attention_weights(q, k, options.get("attn_mask"), options.get("is_causal", False), options.get("scale"))
    torch.testing.assert_close(weights @ v, fused, atol=1e-6, rtol=1e-5)
    with AttentionTap(2) as tap:
        tapped = F.scaled_dot_product_attention(q, k, v, **options)
    torch.testing.assert_close(tapped, fused, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(tap.layers[0].weights, weights)


def slow_rollout(weights: np.ndarray, token: int) -> np.ndarray:
    """Abnar & Zuidema 2020, section 4, as written: product of (W + I) / 2 over the layers, one path at a time."""
    layers, _, tokens, _ = weights.shape
    joint = np.eye(tokens)
    for layer in range(layers):
        average = weights[layer].mean(0)
        mixed = np.array([[0.5 * average[i, j] + 0.5 * (i == j) for j in range(tokens)] for i in range(tokens)])
        mixed = mixed / mixed.sum(1, keepdims=True)
        joint = np.array([[sum(mixed[i, m] * joint[m, j] for m in range(tokens)) for j in range(tokens)] for i in range(tokens)])
    return joint[token]


def test_rollout_equals_the_slow_form() -> None:
    weights = np.random.default_rng(0).dirichlet(np.ones(6), size=(2, 3, 4, 6)).astype(np.float32)
    reading = np.zeros((2, 6))
    reading[0, 0] = reading[1, 3] = 1
    found = rollout(weights, reading)
    np.testing.assert_allclose(found[0], slow_rollout(weights[0], 0), atol=1e-7)
    np.testing.assert_allclose(found[1], slow_rollout(weights[1], 3), atol=1e-7)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
    even = rollout(weights, np.full((2, 6), 1 / 6))
    np.testing.assert_allclose(even[0], np.mean([slow_rollout(weights[0], t) for t in range(6)], axis=0), atol=1e-7)


def test_words_get_the_rollout_of_their_tokens_and_special_tokens_are_reported() -> None:
    found = run(gallery.text(gallery.seeded(gallery.Encoder)), gallery.TEXTS)
    assert found.axes == ("word",)
    assert found.base is None
    for i, text in enumerate(gallery.TEXTS):
        relevance = slow_rollout(found.extras["attention"][i].astype(float), 0)
        offsets = gallery.Pieces().offsets([text])[0]
        for j, (a, b) in enumerate(found.extras["spans"][i]):
            assert found.names[i][j] == text[a:b]
            inside = [k for k, (s, e) in enumerate(offsets) if e > s and a <= s < b]
            assert found.values[i][j, 0] == pytest.approx(relevance[inside].sum(), abs=1e-6)
        assert found.extras["special"][i] == pytest.approx(relevance[0] + relevance[-1], abs=1e-6)
    assert "does not depend on the target" in found.notes[0]
    assert any("Special tokens hold" in note for note in found.notes)


@pytest.mark.parametrize("kind", [gallery.Encoder, gallery.Fused])
@pytest.mark.parametrize("readout", ["first", "mean"])
@pytest.mark.parametrize("frozen", [True, False])
def test_the_readout_is_found_from_gradients(kind: type[nn.Module], readout: str, frozen: bool) -> None:
    module = gallery.seeded(kind, readout=readout).requires_grad_(not frozen)
    found = run(gallery.text(module), gallery.TEXTS)
    told = run(gallery.text(module), gallery.TEXTS, readout=readout)
    assert found.parameters["readout"] == f"auto: {readout}"
    for mine, wanted in zip(found.values, told.values, strict=True):
        np.testing.assert_allclose(mine, wanted, atol=1e-12)


def test_a_causal_model_is_read_from_its_last_real_token() -> None:
    class Last(gallery.Fused):
        def read(self, h: Tensor, mask: Tensor) -> Tensor:
            return self.head(h[torch.arange(len(h)), mask.sum(1) - 1])

    found = run(gallery.text(gallery.seeded(Last, causal=True)), gallery.TEXTS)
    assert found.parameters["readout"] == "auto: last"
    for i in range(len(gallery.TEXTS)):
        relevance = slow_rollout(found.extras["attention"][i].astype(float), -1)
        assert found.values[i].sum() + relevance[[0, -1]].sum() == pytest.approx(1, abs=1e-6)


def test_raw_weights_are_given_on_four_axes_and_padded_in_the_explanation() -> None:
    model = gallery.text(gallery.seeded(gallery.Fused))
    found = run(model, gallery.TEXTS, kind="raw")
    assert found.axes == ("layer", "head", "query", "key")
    for values, weights in zip(found.values, found.extras["attention"], strict=True):
        np.testing.assert_array_equal(values[..., 0], weights)
    ex = explainer.explain(model, gallery.TEXTS, "attention", kind="raw", verify=False)
    assert ex[1].values.shape == (1, *found.values[1].shape[:-1])


def test_eager_softmax_attention_is_read_as_it_passes() -> None:
    class Eager(gallery.Fused):
        def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
            h = self.embed(ids)
            for i in range(len(self.out)):
                q, k, v = self.heads(i, h)
                logits = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).masked_fill(~self.mask_of(mask), -math.inf)
                h = self.norm[i](h + self.out[i]((logits.softmax(-1) @ v).transpose(1, 2).flatten(2)))
            return self.read(h, mask)

    eager = run(gallery.text(gallery.seeded(Eager)), gallery.TEXTS)
    fused = run(gallery.text(gallery.seeded(gallery.Fused)), gallery.TEXTS)
    assert eager.parameters["readout"] == "auto: first"
    for mine, wanted in zip(eager.values, fused.values, strict=True):
        np.testing.assert_allclose(mine, wanted, atol=1e-6)


def test_one_by_one_equals_all_at_once_and_truncation_is_said_aloud() -> None:
    model = gallery.text(gallery.seeded(gallery.Encoder), max_length=12)
    together = run(model, gallery.TEXTS)
    for i, text in enumerate(gallery.TEXTS):
        alone = run(model, [text])
        np.testing.assert_allclose(alone.values[0], together.values[i], atol=1e-5)
    assert (together.values[0][-3:] == 0).all()
    assert any("words lie beyond the 12 tokens" in note for note in together.notes)


def test_every_target_gets_the_same_values() -> None:
    model = gallery.text(gallery.seeded(gallery.Encoder))
    one, every = run(model, gallery.TEXTS), run(model, gallery.TEXTS, target="all")
    assert every.values[0].shape == (*one.values[0].shape[:-1], 3)
    np.testing.assert_array_equal(every.values[0], np.repeat(one.values[0], 3, -1))


def test_attention_over_time_steps_of_a_series() -> None:
    class OverTime(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.head = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 2)
            self.widen = nn.Linear(3, 4)

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            pad = torch.arange(x.shape[1]) >= lengths[:, None]
            h = self.widen(x)
            h = h + self.inner(h, h, h, key_padding_mask=pad, need_weights=False)[0]
            return self.head((h * ~pad[..., None]).sum(1) / lengths[:, None])

    torch.manual_seed(0)
    model = explainer.wrap(OverTime().eval(), modality="series", background=gallery.series())
    found = run(model, gallery.series())
    assert found.axes == ("time",)
    assert [len(v) for v in found.values] == [5, 9, 7, 5]
    assert found.parameters["readout"] == "auto: mean"
    np.testing.assert_allclose([v.sum() for v in found.values], 1, atol=1e-6)


# -- refusals, and the caller's module -------------------------------------------------------------------------------------


def test_no_attention_is_refused_with_the_reason() -> None:
    class Bag(gallery.Head):
        def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
            return self.read(self.embed(ids), mask)

    model = gallery.text(gallery.seeded(Bag, readout="mean"))
    with pytest.raises(Unsupported, match="No attention was computed"):
        run(model, gallery.TEXTS)
    assert model.capabilities()["attention"].level == "unsupported"
    with pytest.raises(Unsupported, match="No attention was computed"):
        run(explainer.wrap(gallery.convnet(), modality="image"), gallery.images())
    with pytest.raises(Unsupported, match="tabular inputs"):
        run(gallery.tabular(gallery.mlp()), gallery.table())


def test_attention_over_other_positions_is_refused() -> None:
    class Pooled(gallery.Encoder):
        def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
            h = self.embed(ids)
            return self.read(self.encoder(F.avg_pool1d(h.transpose(1, 2), 2, ceil_mode=True).transpose(1, 2)), mask)

    with pytest.raises(Unsupported, match=r"attends over \(15, 15\) positions, but the input has 30 tokens"):
        run(gallery.text(gallery.seeded(Pooled)), gallery.TEXTS[2:3])


def test_a_capture_that_changes_the_scores_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from explainer.adapters import taps

    right = taps.attention_weights
    monkeypatch.setattr(taps, "attention_weights", lambda q, k, m, c, s: right(q, k, m, c, s) ** 2)
    with pytest.raises(Unsupported, match=r"scores that differ by .* \(allowed 1e-05\)"):
        run(gallery.text(gallery.seeded(gallery.Fused)), gallery.TEXTS)


def test_dropout_in_eval_mode_is_refused() -> None:
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(x, x, x, dropout_p=0.5)

    with pytest.raises(Unsupported, match="dropout_p=0.5"), AttentionTap(1):
        Noisy()(torch.ones(1, 2, 3, 4))


@pytest.mark.parametrize(("options", "words"), [({"kind": "roll"}, "rollout"), ({"readout": "frist"}, "first"), ({"readout": 40}, "40")])
def test_mistyped_options_are_answered(options: dict[str, Any], words: str) -> None:
    with pytest.raises((InvalidInput, LookupError), match=words):
        run(gallery.text(gallery.seeded(gallery.Fused)), gallery.TEXTS, **options)


@pytest.mark.parametrize("kind", [gallery.Encoder, gallery.Fused])
def test_state_is_restored_also_after_an_error(kind: type[nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    module = gallery.seeded(kind).train()
    model = gallery.text(module)
    before = snapshot(module)
    found = run(model, gallery.TEXTS)
    assert_unchanged(module, before)
    again = run(gallery.text(gallery.seeded(kind)), gallery.TEXTS)
    for mine, wanted in zip(found.values, again.values, strict=True):
        np.testing.assert_allclose(mine, wanted, atol=1e-7)
    goal = resolve("predicted", model.scores(gallery.TEXTS), model.class_names)
    monkeypatch.setattr(module, "read", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        attention(model, gallery.TEXTS, goal)
    monkeypatch.undo()
    assert_unchanged(module, before)
