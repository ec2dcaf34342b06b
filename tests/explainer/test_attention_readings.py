"""Flow, relevance and norms against slow code written from their papers."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch_gallery as gallery
from test_attention import run
from test_attention_transformers import Named, made, texts
from torch import Tensor, nn

import explainer
from explainer.adapters.taps import AttentionTap
from explainer.errors import Unsupported, unknown
from explainer.methods.attention import attention_flow, attention_norms, attention_relevance
from explainer.methods.readings import UNIT, flow, norms, relevance
from explainer.target import resolve


def read(method: Any, model: explainer.Model, inputs: Any, target: Any = "predicted", **options: Any) -> Any:
    given = model.canonical(inputs)
    return method(model, given, resolve(target, model.scores(given), model.class_names), **options)


def drawn(layers: int, tokens: int, heads: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(tokens, 0.4), size=(layers, heads, tokens)).astype(np.float32)


# -- flow -------------------------------------------------------------------------------------------------------------------


def slow_flow(weights: np.ndarray, reading: np.ndarray, token: int) -> float:
    """Minimum cut by trying every cut of the graph of Abnar & Zuidema 2020: no solver at all."""
    layers, _, tokens, _ = weights.shape
    edges = {("source", (layers, t)): float(reading[t]) for t in range(tokens)}
    for layer in range(layers):
        for i, j in itertools.product(range(tokens), repeat=2):
            edges[(layer + 1, i), (layer, j)] = float(0.5 * weights[layer, :, i, j].astype(float).mean() + 0.5 * (i == j))
    sink = (0, token)
    others = [(level, t) for level in range(layers + 1) for t in range(tokens) if (level, t) != sink]
    least = math.inf
    for side in itertools.product([False, True], repeat=len(others)):
        above = {"source", *(node for node, inside in zip(others, side, strict=True) if inside)}
        least = min(least, sum(c for (a, b), c in edges.items() if a in above and b not in above))
    return least


@pytest.mark.parametrize(("layers", "tokens"), [(1, 4), (2, 3), (2, 4)])
@pytest.mark.parametrize("mean", [False, True])
def test_flow_equals_the_smallest_of_all_cuts(layers: int, tokens: int, mean: bool) -> None:
    weights = drawn(layers, tokens, seed=layers)
    reading = np.full(tokens, 1 / tokens) if mean else np.eye(tokens)[1]
    found = flow(weights, reading)
    for token in range(tokens if layers == 1 else 2):
        assert found[token] == pytest.approx(slow_flow(weights, reading, token), abs=tokens**2 / UNIT)


def test_flow_equals_a_linear_programme_on_longer_inputs() -> None:
    from scipy.optimize import linprog

    layers, tokens = 3, 6
    weights = drawn(layers, tokens, seed=5)
    mixed = 0.5 * weights.astype(float).mean(1) + 0.5 * np.eye(tokens)
    edges = [((k + 1, i), (k, j), mixed[k, i, j]) for k in range(layers) for i in range(tokens) for j in range(tokens)]
    source, found = (layers, 2), flow(weights, np.eye(tokens)[2])
    for token in range(tokens):
        inner = [(k, t) for k in range(layers + 1) for t in range(tokens) if (k, t) not in (source, (0, token))]
        balance = [[(a == node) - float(b == node) for a, b, _ in edges] for node in inner]
        into = [-float(b == (0, token)) for _, b, _ in edges]
        solved = linprog(into, A_eq=balance, b_eq=np.zeros(len(inner)), bounds=[(0, c) for _, _, c in edges])
        assert found[token] == pytest.approx(min(-solved.fun, 1), abs=1e-7)


def test_flow_reaches_words_and_refuses_long_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    model = gallery.text(gallery.seeded(gallery.Fused))
    found = read(attention_flow, model, gallery.TEXTS)
    for i in range(4):
        weights = found.extras["attention"][i]
        wanted = flow(weights, np.eye(weights.shape[-1])[0])
        assert found.values[i].sum() == pytest.approx(wanted[1:-1].sum(), abs=1e-9)
    monkeypatch.setattr("explainer.methods.attention.FLOW_TOKENS", 8)
    with pytest.raises(Unsupported, match=r"at most 8 tokens; an input has 30\. Use 'attention', the rollout"):
        read(attention_flow, model, gallery.TEXTS)


# -- relevance --------------------------------------------------------------------------------------------------------------


def eager_attentions(module: nn.Module, encoded: dict[str, Tensor], i: int) -> tuple[Tensor, tuple[Tensor, ...]]:
    one = {key: value[i : i + 1, : int(encoded["attention_mask"][i].sum())] for key, value in encoded.items()}
    output = module(**one, output_attentions=True)
    return output.logits[0], output.attentions


def slow_relevance(logits: Tensor, attentions: tuple[Tensor, ...], target: int, output: str, token: int) -> np.ndarray:
    """Chefer et al. 2021, equations 5 and 6, from transformers' own weights and autograd."""
    score = logits.double().softmax(0)[target] if output == "probability" else logits[target]
    gradients = torch.autograd.grad(score, attentions, retain_graph=True)
    tokens = attentions[0].shape[-1]
    rows = np.eye(tokens)
    for weights, gradient in zip(attentions, gradients, strict=True):
        heads = (weights * gradient)[0].detach().double().numpy()
        mean = np.zeros((tokens, tokens))
        for head in heads:
            for a, b in itertools.product(range(tokens), repeat=2):
                mean[a, b] += max(head[a, b], 0) / len(heads)
        rows = rows + mean @ rows
    return (rows - np.eye(tokens))[token]


@pytest.mark.parametrize("output", ["probability", "logit"])
@pytest.mark.parametrize(("name", "token"), [("bert", 0), ("gpt2", -1), ("deberta", 0)])
def test_relevance_equals_the_papers_rule(name: str, token: int, output: str) -> None:
    model = texts(name)
    told = made(name, "eager")
    told.load_state_dict(model.module.state_dict())
    encoded, offsets = Named()(gallery.TEXTS), gallery.Pieces().offsets(gallery.TEXTS)
    found = read(attention_relevance, model, gallery.TEXTS, "all", output=output)
    for i, text in enumerate(gallery.TEXTS):
        logits, attentions = eager_attentions(told, encoded, i)
        for target in range(3):
            wanted = slow_relevance(logits, attentions, target, output, token)
            for j, (a, b) in enumerate(found.extras["spans"][i]):
                inside = [k for k, (s, e) in enumerate(offsets[i]) if e > s and a <= s < b]
                assert found.values[i][j, target] == pytest.approx(wanted[inside].sum(), abs=1e-7, rel=1e-3), text
    assert found.values[0].max() > 1e-4
    assert np.abs(found.values[0][:, 0] - found.values[0][:, 1]).max() > 0.1 * found.values[0].max()  # it depends on the target


def test_relevance_leaves_out_what_a_token_says_of_itself_by_the_residual() -> None:
    rng = np.random.default_rng(3)
    weights, gradients, reading = drawn(2, 5)[None], rng.normal(size=(1, 2, 2, 5, 5)), rng.dirichlet(np.ones(5))[None]
    whole = np.eye(5)
    for layer in range(2):
        mean = np.array([[sum(max(weights[0, layer, h, a, b] * gradients[0, layer, h, a, b], 0) for h in range(2)) / 2
                          for b in range(5)] for a in range(5)])  # fmt: skip
        whole = whole + mean @ whole
    wanted = sum(reading[0, t] * (whole - np.eye(5))[t] for t in range(5))
    np.testing.assert_allclose(relevance(weights, gradients, reading)[0], wanted, atol=1e-12)


def test_relevance_refuses_a_target_that_torch_cannot_follow() -> None:
    model = gallery.text(gallery.seeded(gallery.Fused))
    with pytest.raises(Unsupported, match="cannot be differentiated"):
        read(attention_relevance, model, gallery.TEXTS, lambda scores: np.asarray(scores)[:, 0].round())


# -- norms ------------------------------------------------------------------------------------------------------------------


def slow_norms(x: Tensor, weights: Tensor, value: nn.Linear, out: Tensor, heads: int) -> tuple[np.ndarray, np.ndarray]:
    """Kobayashi et al. 2020, equation 3 and its norm, one pair of tokens at a time; ``out`` is W_O as (width, heads * size)."""
    tokens, size = len(x), value.weight.shape[0] // heads
    together, alone = np.zeros((tokens, tokens)), np.zeros((heads, tokens, tokens))
    with torch.no_grad():
        for i, j in itertools.product(range(tokens), repeat=2):
            parts = []
            for h in range(heads):
                block = slice(h * size, (h + 1) * size)
                carried = weights[h, i, j] * (out[:, block] @ (value.weight[block] @ x[j] + value.bias[block]))
                alone[h, i, j] = carried.norm()
                parts.append(carried)
            together[i, j] = sum(parts).norm()
    return together, alone


def test_norms_of_multihead_attention_equal_its_weights_written_out() -> None:
    torch.manual_seed(0)
    layer, x = nn.MultiheadAttention(12, 3, batch_first=True).eval(), torch.randn(2, 5, 12)
    nn.init.normal_(layer.in_proj_bias)
    with AttentionTap(2) as tap:
        layer(x, x, x, need_weights=False)
    caught = tap.layers[0]
    together, alone = norms(*(t.detach().numpy() for t in (caught.weights, caught.values, caught.projection)))
    value = nn.Linear(12, 12)
    value.weight.data, value.bias.data = layer.in_proj_weight[24:], layer.in_proj_bias[24:]
    for i in range(2):
        wanted = slow_norms(x[i], caught.weights[i], value, layer.out_proj.weight, 3)
        np.testing.assert_allclose(together[i], wanted[0], atol=1e-5)
        np.testing.assert_allclose(alone[i], wanted[1], atol=1e-5)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_norms_of_bert_equal_its_weights_written_out(implementation: str) -> None:
    model = texts("bert", implementation)
    raw, rolled = (read(attention_norms, model, gallery.TEXTS, kind=kind) for kind in ("raw", "rollout"))
    told = made("bert", "eager")
    told.load_state_dict(model.module.state_dict())
    encoded = Named()(gallery.TEXTS)
    for i in range(2):
        real = int(encoded["attention_mask"][i].sum())
        output = told(**{k: v[i : i + 1, :real] for k, v in encoded.items()}, output_attentions=True, output_hidden_states=True)
        arrived = np.eye(real)[0]
        for k in (1, 0):
            layer = told.bert.encoder.layer[k].attention
            wanted = slow_norms(output.hidden_states[k][0], output.attentions[k][0], layer.self.value, layer.output.dense.weight, 4)
            np.testing.assert_allclose(raw.values[i][k, ..., 0], wanted[1], atol=1e-5)
            arrived = arrived @ (0.5 * wanted[0] / wanted[0].sum(1, keepdims=True) + 0.5 * np.eye(real))
        assert rolled.values[i].sum() == pytest.approx(1 - arrived[0] - arrived[-1], abs=1e-5)


def test_norms_refuse_heads_whose_way_on_is_not_seen() -> None:
    class Gated(gallery.Fused):
        def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
            h = self.embed(ids)
            for i in range(len(self.out)):
                attended = torch.nn.functional.scaled_dot_product_attention(*self.heads(i, h), attn_mask=self.mask_of(mask))
                h = self.norm[i](h + self.out[i](attended.transpose(1, 2).flatten(2).sigmoid()))
            return self.read(h, mask)

    model = gallery.text(gallery.seeded(Gated))
    with pytest.raises(Unsupported, match="output projection of attention layer 0"):
        read(attention_norms, model, gallery.TEXTS)
    able = model.capabilities()
    assert able["attention_norms"].level == "unsupported" and "output projection" in able["attention_norms"].reason
    assert able["attention"].level == able["attention_relevance"].level == "approximate"


@pytest.mark.parametrize("method", [attention_norms, attention_relevance, attention_flow])
def test_readings_are_the_same_one_by_one(method: Any) -> None:
    model = gallery.text(gallery.seeded(gallery.Fused, grouped=True, causal=True, readout="mean"))
    together = read(method, model, gallery.TEXTS, "all")
    for i, text in enumerate(gallery.TEXTS):
        np.testing.assert_allclose(read(method, model, [text], "all").values[0], together.values[i], atol=1e-6)


def test_frozen_modules_and_modules_in_train_mode_are_read_alike() -> None:
    wanted = read(attention_relevance, gallery.text(gallery.seeded(gallery.Fused)), gallery.TEXTS)
    frozen = read(attention_relevance, gallery.text(gallery.seeded(gallery.Fused).requires_grad_(False)), gallery.TEXTS)
    training = read(attention_relevance, gallery.text(gallery.seeded(gallery.Fused).train()), gallery.TEXTS)
    for a, b, c in zip(wanted.values, frozen.values, training.values, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)
        np.testing.assert_allclose(a, c, atol=1e-9)


def test_a_mistyped_kind_is_answered() -> None:
    with pytest.raises(type(unknown("kind", "row", ["raw"])), match="raw"):
        read(attention_norms, gallery.text(gallery.seeded(gallery.Fused)), gallery.TEXTS, kind="row")
    with pytest.raises(LookupError, match="cross"):
        run(gallery.text(gallery.seeded(gallery.Fused)), gallery.TEXTS, kind="raw", stream="crosss")
    with pytest.raises(Unsupported, match="no cross attention"):
        run(gallery.text(gallery.seeded(gallery.Fused)), gallery.TEXTS, kind="raw", stream="cross")
