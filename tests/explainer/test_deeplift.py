"""DeepLIFT and DeepLIFT SHAP against captum, shap, the paper written out, Shapley values, and completeness on odd modules."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torch_gallery as gallery
from games import brute_force
from torch import Tensor, nn

import explainer
from explainer.adapters.multipliers import Tape
from explainer.errors import Cancelled, Unsupported
from explainer.methods import passes

BACKGROUND = gallery.table(7, seed=1)


def explain(module: nn.Module, rows: Any = None, method: str = "deeplift_shap", **options: Any) -> explainer.Explanation:
    """On a table of five columns, on the logits, without a verdict."""
    model = gallery.tabular(module.eval(), background=BACKGROUND)
    options = {"output": "logit", "verify": False, "target": 0, **options}
    return explainer.explain(model, gallery.table() if rows is None else rows, method, **options)


def gap(ex: explainer.Explanation) -> float:
    axes = tuple(range(1, ex.values.ndim))
    return float(np.abs(ex.base_values + np.nansum(ex.values, axes) - ex.scores).max())


class Plain(nn.Module):
    """A convolutional network of modules, each used once: what captum and shap were made for."""

    def __init__(self, activation: Callable[[], nn.Module] = nn.ReLU, pool: nn.Module | None = None) -> None:
        super().__init__()
        self.c1, self.a1, self.pool = nn.Conv2d(1, 6, 3, padding=1), activation(), pool or nn.AvgPool2d(2)
        self.c2, self.a2, self.head = nn.Conv2d(6, 8, 3, padding=1), activation(), nn.LazyLinear(4)
        self(torch.zeros(1, 1, 8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.a2(self.c2(self.pool(self.a1(self.c1(x))))).flatten(1))


def pictures(net: nn.Module, background: int = 9) -> tuple[explainer.Explanation, Tensor, Tensor]:
    rows, images = gallery.images(background, seed=3), gallery.images(4)
    model = explainer.wrap(net, modality="image", background=rows)
    ex = explainer.explain(model, images, "deeplift_shap", target=1, output="logit", verify=False)
    return ex, torch.tensor(images)[:, None], torch.tensor(rows)[:, None]


# -- oracles -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", [nn.ReLU, nn.LeakyReLU, nn.ELU, nn.Sigmoid, nn.Tanh, nn.Softplus])
@pytest.mark.filterwarnings("ignore")
def test_equals_captum_where_captum_has_a_rule(activation: Callable[[], nn.Module]) -> None:
    from captum.attr import DeepLift, DeepLiftShap

    torch.manual_seed(0)
    net = Plain(activation).eval()
    ex, x, b = pictures(net)
    theirs = DeepLiftShap(net).attribute(x, b, target=1).detach().numpy()[:, 0]
    np.testing.assert_allclose(ex.values, theirs, atol=1e-5)
    single = explainer.explain(explainer.wrap(net, modality="image"), gallery.images(4), "deeplift", target=1, output="logit")
    theirs = DeepLift(net).attribute(x, torch.zeros_like(x), target=1).detach().numpy()[:, 0]
    np.testing.assert_allclose(single.values, theirs, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_equals_shap_on_maximum_pooling() -> None:
    import shap

    torch.manual_seed(0)
    net = Plain(pool=nn.MaxPool2d(2)).eval()
    ex, x, b = pictures(net)
    theirs = shap.DeepExplainer(net, b).shap_values(x, check_additivity=False)[..., 1][:, 0]
    np.testing.assert_allclose(ex.values, theirs, atol=1e-6)


class Larger(nn.Module):
    """Convolution, ReLU and maximum pooling, with ``between`` the two, which are to be told apart by captum's hooks."""

    def __init__(self, between: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), between, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@pytest.mark.filterwarnings("ignore")
def test_equals_captum_on_maximum_pooling_where_its_hooks_do_not_meet() -> None:
    """An average over one pixel changes nothing but the tensor that the hooks of ReLU and pooling stand on."""
    from captum.attr import DeepLift

    ours, theirs = [], []
    for between in (nn.AvgPool2d(1), nn.Identity()):
        net, pictures, start = Larger(between).eval(), gallery.images(4), gallery.images(5)[4:]
        x, b = torch.tensor(pictures)[:, None], torch.tensor(start)[:, None].expand(4, -1, -1, -1)
        model = explainer.wrap(net, modality="image")
        ours.append(explainer.explain(model, pictures, "deeplift", target=1, output="logit", baseline=start, verify=False).values)
        theirs.append(DeepLift(net).attribute(x, b.clone(), target=1).detach().numpy()[:, 0])
        change = (net(x) - net(b))[:, 1].detach().numpy()
        np.testing.assert_allclose(ours[-1].sum((1, 2)), change, atol=1e-5)
    np.testing.assert_allclose(ours[0], theirs[0], atol=1e-6)
    np.testing.assert_allclose(ours[1], ours[0], atol=1e-6)
    assert np.abs(theirs[1] - ours[1]).max() > 1e-2  # captum's own sum is wrong by then
    assert np.abs(theirs[1].sum((1, 2)) - change).max() > 1e-2


def by_the_paper(layers: list[nn.Module], x: np.ndarray, b: np.ndarray, output: int) -> np.ndarray:
    """Shrikumar et al., section 3.5: one input, one reference, in float64, the chain rule of multipliers as matrices."""
    here, there, chain = x.astype(np.float64), b.astype(np.float64), np.eye(len(x))
    for layer in layers:
        if isinstance(layer, nn.Linear):
            weight, bias = (t.detach().numpy().astype(np.float64) for t in (layer.weight, layer.bias))
            here, there, chain = weight @ here + bias, weight @ there + bias, weight @ chain
        elif not isinstance(layer, nn.Dropout):
            after = [layer(torch.from_numpy(v)).numpy() for v in (here, there)]
            chain = ((after[0] - after[1]) / (here - there))[:, None] * chain
            here, there = after
    return chain[output] * (x.astype(np.float64) - b)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Hardtanh])
def test_equals_the_paper_pair_by_pair(activation: Callable[[], nn.Module]) -> None:
    torch.manual_seed(2)
    net = nn.Sequential(nn.Linear(5, 9), activation(), nn.Dropout(0.5), nn.Linear(9, 8), activation(), nn.Linear(8, 3)).eval()
    ex = explain(net, target=2)
    rows = gallery.table().to_numpy()
    wanted = [np.mean([by_the_paper(list(net), x, b, 2) for b in BACKGROUND.to_numpy()], axis=0) for x in rows]
    np.testing.assert_allclose(ex.values, wanted, atol=2e-6)


class Product(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x[:, 0] * x[:, 1] + x[:, 2] * x[:, 2], x[:, 3] / (1 + x[:, 4].exp())], 1) * self.unit

    unit = 1.0


def test_products_are_shared_out_like_shapley_values() -> None:
    def two(rows: np.ndarray) -> np.ndarray:
        return rows[:, 0] * rows[:, 1] + rows[:, 2] ** 2

    def quotient(rows: np.ndarray) -> np.ndarray:
        return rows[:, 3] / (1 + np.exp(rows[:, 4]))

    rows, background = gallery.table().to_numpy().astype(float), BACKGROUND.to_numpy().astype(float)
    for target, function in enumerate((two, quotient)):
        wanted = np.stack([brute_force(function, x, background) for x in rows])
        np.testing.assert_allclose(explain(Product(), target=target).values, wanted, atol=1e-6)


def test_a_linear_model_gives_weight_times_difference() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(5, 2)
    wanted = layer.weight.detach().numpy()[0] * (gallery.table().to_numpy() - BACKGROUND.to_numpy().mean(0))
    np.testing.assert_allclose(explain(layer).values, wanted, atol=1e-6)


# -- completeness on modules of every kind ---------------------------------------------------------------------------------


class Odd(nn.Module):
    """Two linear layers with something odd between them."""

    def __init__(self, middle: Callable[..., Tensor], width: int = 8, out: int = 8) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.enter, self.leave, self.middle = nn.Linear(5, width), nn.Linear(out, 2), middle
        self.relu, self.relu_, self.norm = nn.ReLU(), nn.ReLU(inplace=True), nn.LayerNorm(width)
        self.prelu, self.group = nn.PReLU(width), nn.GroupNorm(2, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.middle(self, 2 * self.enter(x)))


def overwritten(m: Odd, h: Tensor) -> Tensor:
    kept = torch.tanh(h)
    kept += 1.0  # autograd's own tanh would refuse; ours keeps copies
    kept *= torch.sigmoid(h)
    h.clamp_(-1, 1)
    return kept + h


def windows(m: Odd, h: Tensor) -> Tensor:
    return F.max_pool1d(h.unflatten(1, (2, 4)), 3, 1, 1).flatten(1)  # overlapping windows


def on_other_axes(m: Odd, h: Tensor) -> Tensor:
    """Rows on the second axis, then rows and steps in one: references cannot be shared."""
    steps = h.unflatten(1, (4, 2)).transpose(0, 1)
    mixed = torch.tanh(steps).reshape(-1, 2).relu()
    return mixed.reshape(4, -1, 2).transpose(0, 1).flatten(1)


ODD: dict[str, Callable[[Odd, Tensor], Tensor]] = {
    "functional relu": lambda m, h: F.relu(h), "torch relu": lambda m, h: torch.relu(h), "method": lambda m, h: h.relu(),
    "one module twice": lambda m, h: m.relu(m.relu(h) - 0.5), "in place": lambda m, h: m.relu_(h), "in place again": lambda m, h: h.relu_(),
    "leaky in place": lambda m, h: F.leaky_relu(h, 0.1, True), "gelu": lambda m, h: F.gelu(h), "silu": lambda m, h: F.silu(h),
    "elu": lambda m, h: F.elu(h, 0.5), "prelu": lambda m, h: m.prelu(h), "hardswish": lambda m, h: F.hardswish(h),
    "clamp": lambda m, h: h.clamp(min=-0.5, max=1), "power": lambda m, h: h**3, "softsign": lambda m, h: F.softsign(h),
    "swish by hand": lambda m, h: h * torch.sigmoid(h), "quotient": lambda m, h: h / (1 + h.abs()), "inverse": lambda m, h: 1 / (1 + h * h),
    "softmax": lambda m, h: h.softmax(-1), "log softmax": lambda m, h: F.log_softmax(h, dim=1), "functional": lambda m, h: F.softmax(h, -1),
    "layer norm": lambda m, h: m.norm(h), "group norm": lambda m, h: m.group(h), "rms norm": lambda m, h: F.rms_norm(h, (8,)),
    "maximum": lambda m, h: torch.maximum(h, h.flip(1)), "minimum": lambda m, h: torch.min(h, h * 2),
    "glu": lambda m, h: F.glu(torch.cat([h, -h], 1)),
    "amax": lambda m, h: h.unflatten(1, (4, 2)).amax(1).repeat(1, 4),
    "max": lambda m, h: h.unflatten(1, (4, 2)).max(1, keepdim=True).values.flatten(1).repeat(1, 4),
    "pooling": windows, "adaptive": lambda m, h: F.adaptive_max_pool1d(h[:, None], 4).flatten(1).repeat(1, 2),
    "einsum": lambda m, h: torch.einsum("ni,nj->nij", h, h.tanh()).sum(2), "product in place": lambda m, h: h.mul_(h.sigmoid()),
    "scaled in place": lambda m, h: h.mul_(2).relu_(), "keyword": lambda m, h: F.relu(input=h), "overwritten": overwritten,
    "other axes": on_other_axes, "matrix": lambda m, h: (h.unflatten(1, (2, 4)).transpose(1, 2) @ h.unflatten(1, (2, 4))).flatten(1)[:, :8],
    "instance norm": lambda m, h: F.instance_norm(h.unflatten(1, (2, 4))).flatten(1),
}  # fmt: skip


@pytest.mark.parametrize("method", ["deeplift", "deeplift_shap"])
@pytest.mark.parametrize("kind", ODD)
def test_values_add_up_whatever_the_module_does(kind: str, method: str) -> None:
    ex = explain(Odd(ODD[kind]), method=method)
    assert gap(ex) < 1e-5 * max(1.0, np.abs(ex.values).max())
    assert np.abs(ex.values).max() > 1e-3 and not ex.provenance.notes


@pytest.mark.parametrize("kind", ["functional relu", "layer norm", "overwritten", "pooling", "softmax", "prelu"])
def test_references_shared_equal_references_one_by_one(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = Odd(ODD[kind])
    shared = explain(module)
    for count in (1, 6, 7):  # as many inputs as references, and fewer
        np.testing.assert_allclose(explain(module, gallery.table(7)[:count]).values[0], shared.values[0], atol=2e-6)
    monkeypatch.setattr(passes.Run, "_rows_that_fit", lambda self: 2)
    np.testing.assert_allclose(explain(module).values, shared.values, atol=2e-6)
    monkeypatch.setattr(passes.Run, "_rows_that_fit", lambda self: setattr(self, "quick_rows", 12) or 256)
    np.testing.assert_allclose(explain(module).values, shared.values, atol=2e-6)  # four turns of two references, and seven of them
    pairs = [
        [explain(module, gallery.table()[i : i + 1], "deeplift", baseline=BACKGROUND[k : k + 1]).values[0] for k in range(7)]
        for i in range(2)
    ]
    np.testing.assert_allclose(shared.values[:2], np.mean(pairs, axis=1), atol=2e-6)


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], packed: bool, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.rnn, self.packed = kind(3, 4, batch_first=True, **options), packed
        self.head = nn.Linear(4 * (2 if options.get("bidirectional") else 1), 2)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        given = nn.utils.rnn.pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False) if self.packed else x
        out, hidden = self.rnn(given)
        last = hidden[0] if isinstance(hidden, tuple) else hidden
        return self.head(torch.cat(list(last[-self.head.in_features // 4 :]), 1)) + (0 if self.packed else out.sum((1, 2))[:, None])


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "num_layers": 2}, {"bias": False}])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_are_written_out(kind: type[nn.RNNBase], options: dict[str, Any], packed: bool) -> None:
    model = explainer.wrap(Recurrent(kind, packed, **options).eval(), modality="series", background=gallery.series((6, 9), seed=8))
    for method in ("deeplift", "deeplift_shap"):
        ex = explainer.explain(model, gallery.series(), method, target=0, output="logit", verify=False)
        np.testing.assert_allclose(ex.scores, model.scores(gallery.series(), "logit")[:, 0], atol=1e-6)
        assert gap(ex) < 1e-5 and np.nanmax(np.abs(ex.values)) > 1e-3


class Stepwise(nn.Module):
    """The layer ``rnn`` as a loop over a cell with its weights."""

    def __init__(self, rnn: nn.RNNBase, cell: nn.RNNCellBase, head: nn.Linear) -> None:
        super().__init__()
        self.cell, self.head = cell, head
        with torch.no_grad():
            for name, weight in cell.named_parameters():
                weight.copy_(getattr(rnn, f"{name}_l0"))

    def forward(self, x: Tensor) -> Tensor:
        state: Any = None
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
        return self.head(state[0] if isinstance(state, tuple) else state)


class Whole(nn.Module):
    def __init__(self, rnn: nn.RNNBase, head: nn.Linear) -> None:
        super().__init__()
        self.rnn, self.head = rnn, head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


@pytest.mark.parametrize(
    ("kind", "cell", "options"),
    [(nn.LSTM, nn.LSTMCell, {}), (nn.GRU, nn.GRUCell, {}), (nn.RNN, nn.RNNCell, {}), (nn.RNN, nn.RNNCell, {"nonlinearity": "relu"})],
)
def test_a_loop_over_a_cell_is_explained_as_the_layer_is(kind: Any, cell: Any, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    rnn, head = kind(3, 6, batch_first=True, **options), nn.Linear(6, 3)
    modules = [Whole(rnn, head).eval(), Stepwise(rnn, cell(3, 6, **options), head).eval()]
    names, background = ["x", "y", "z"], gallery.series((5,), seed=8)
    models = [explainer.wrap(m, modality="series", feature_names=names, background=background) for m in modules]
    found = [explainer.explain(m, gallery.series((5, 7)), "deeplift", target=0, output="logit", verify=False) for m in models]
    assert gap(found[1]) < 1e-5
    np.testing.assert_allclose(found[1].values, found[0].values, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"causal": True, "readout": "mean"}, {"grouped": True}, {"float_mask": True, "readout": "mean"}])
def test_attention_is_written_out(options: dict[str, Any]) -> None:
    for module in (gallery.seeded(gallery.Fused, **options), gallery.seeded(gallery.Encoder)):
        ex = explainer.explain(gallery.text(module), gallery.TEXTS, "deeplift", target=0, verify=False)
        assert gap(ex) < 1e-5 and not ex.provenance.notes


def test_multi_head_attention_written_out_gives_what_torch_gives() -> None:
    torch.manual_seed(0)
    layer, x, memory = nn.MultiheadAttention(8, 2, kdim=6, vdim=6, batch_first=True).eval(), torch.randn(3, 5, 8), torch.randn(3, 4, 6)
    hidden, unseen = torch.tensor([[False, False, True, True]] * 3), torch.ones(5, 4, dtype=torch.bool).triu(2)
    tape = Tape()
    for options in ({}, {"key_padding_mask": hidden}, {"attn_mask": unseen, "average_attn_weights": False}, {"need_weights": False}):
        wanted = layer(x, memory, memory, **options)
        with torch.no_grad(), tape:
            found = layer(x, memory, memory, **options)
        for a, b in zip(found, wanted, strict=True):
            assert (a is None and b is None) or torch.allclose(a, b, atol=1e-6)


# -- scales and targets ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("final", [None, nn.Softmax(1), nn.LogSoftmax(1)])
@pytest.mark.parametrize("output", ["probability", "logit", "raw"])
def test_values_add_up_on_every_scale_even_where_a_softmax_is_saturated(final: nn.Module | None, output: str) -> None:
    for size in (1.0, 300.0):
        net = gallery.mlp(final=final)
        with torch.no_grad():
            net[5].weight *= size
        if isinstance(final, nn.Softmax) and output == "logit" and size > 1:
            continue  # log(p / (1 - p)) is cut off at p = 1
        for target in ("all", ("margin", 0, 1), lambda scores: scores[:, 0] * scores[:, 1]):
            ex = explain(net, target=target, output=output)
            sums = ex.values.sum(1)
            np.testing.assert_allclose(ex.base_values + sums, ex.scores, atol=2e-6 * max(1, np.abs(ex.scores).max()))


def test_a_softmax_over_entries_that_are_masked_out() -> None:
    def masked(m: Odd, h: Tensor) -> Tensor:
        return (h + torch.tensor([0.0, -torch.inf] * 4)).softmax(-1)

    ex = explain(Odd(masked))
    assert gap(ex) < 1e-6 and np.isfinite(ex.values).all()


# -- honesty -------------------------------------------------------------------------------------------------------------


def test_functions_without_a_rule_are_named_and_fail_the_verdict() -> None:
    ex = explain(Odd(lambda m, h: torch.where(h > 0, h, h.prod(1, keepdim=True)) * 3), verify=True)
    assert "no rule (here: prod, where)" in ex.provenance.notes[0].replace("for ", "", 1) or "prod, where" in ex.provenance.notes[0]
    assert any(v.checks["completeness"].status == "fail" for v in ex.verdicts)


def test_another_way_for_the_reference_is_refused() -> None:
    def branching(m: Odd, h: Tensor) -> Tensor:
        return h.relu() if h.detach().numpy().sum() > 0 else h.tanh()  # where no torch function sees the choice

    module, rows = Odd(branching), gallery.table(3)
    with torch.no_grad():
        module.enter.weight.abs_()
    seen = Odd(lambda m, h: torch.stack([row.relu() if float(row.detach().sum()) > 0 else row.tanh() for row in h]))
    with pytest.raises(Unsupported, match=r"Which way the module goes depends on the input's values \(__float__ in Odd\)"):
        explain(seen, rows, background=BACKGROUND)
    for method in ("deeplift", "deeplift_shap"):
        with pytest.raises(Unsupported, match=r"another way .*\(relu where the reference had tanh\)"):
            explain(module, rows + 50, method, background=BACKGROUND - 50)


def test_a_score_cut_off_from_the_input_is_refused() -> None:
    for cut in (lambda m, h: h.detach(), lambda m, h: F.one_hot(h.argmax(1), 8).float()):
        with pytest.raises(Unsupported, match=r"cut off|does not depend"):
            explain(Odd(cut))


def test_the_module_is_as_it_was_after_an_error_and_after_a_stop() -> None:
    module = Odd(ODD["one module twice"]).train()
    model = gallery.tabular(module, background=BACKGROUND)

    def stop(done: int, total: int) -> None:
        raise Cancelled("enough")

    with pytest.raises(Cancelled):
        explainer.explain(model, gallery.table(), "deeplift_shap", progress=stop)
    assert all(m.training and not m._forward_hooks for m in module.modules())
    assert torch.overrides._get_current_function_mode_stack() == []
    assert all(p.grad is None for p in module.parameters())


def test_no_pair_is_formed_in_the_forward_passes() -> None:
    rows: list[int] = []
    module = Odd(ODD["functional relu"])
    model = gallery.tabular(module, background=gallery.table(40, seed=2))
    inputs = gallery.table(30)
    explainer.explain(model, inputs, "deeplift_shap", target=0, verify=False)
    handle = module.register_forward_hook(lambda m, args, out: rows.append(len(out)))
    explainer.explain(model, inputs, "deeplift_shap", target=0, verify=False)
    handle.remove()
    assert sum(rows) < 40 + 256 + 5 * 30 < 40 * 30


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_a_gpu_gives_the_same_values() -> None:
    for kind, method in itertools.product(("pooling", "layer norm", "overwritten", "other axes"), ("deeplift", "deeplift_shap")):
        on_cpu, on_gpu = explain(Odd(ODD[kind]), method=method), explain(Odd(ODD[kind]).cuda(), method=method)
        np.testing.assert_allclose(on_cpu.values, on_gpu.values, atol=1e-4)
