"""Layers by name and what they do over a data set: against slow code over stored activations, planted dead units, known ranks."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import numpy as np
import pytest
import torch
import torch_gallery as gallery
from torch import Tensor, nn

import explainer
from explainer.adapters.layers import Layers
from explainer.errors import InvalidInput, UnknownName, Unsupported
from explainer.inspection.activations import Activations, activations, effective_rank
from explainer.inspection.network import last_layer


def image_model(module: nn.Module | None = None, **options: Any) -> Any:
    return explainer.wrap(
        module or gallery.convnet(), modality="image", class_names=list("abcd"), preprocess=gallery.standardised, **options
    )


def series_model() -> Any:
    return explainer.wrap(gallery.lstm(), modality="series", class_names=list("abc"), feature_names=list("xyz"))


def text_model(kind: type[nn.Module] = gallery.Encoder, **options: Any) -> Any:
    return gallery.text(gallery.seeded(kind, **options), class_names=list("abc"))


def hooks(module: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in module.modules())


def slow(values: np.ndarray) -> dict[str, Any]:
    """Statistics of ``(values, units)``, one formula after the other."""
    spectrum = np.linalg.eigvalsh(np.atleast_2d(np.cov(values.T)))
    p = np.array([e for e in spectrum if e > 1e-12 * spectrum.max()]) / spectrum.sum()
    return {
        "mean": values.mean(0), "std": values.std(0), "zeros": (values == 0).mean(0), "peak": np.abs(values).max(0),
        "effective_rank": np.exp(-sum(x * np.log(x) for x in p)),
    }  # fmt: skip


def stored(model: Any, inputs: Any, layer: str) -> list[np.ndarray]:
    """Per input the layer's output ``(positions, units)`` from a plain hook, one input at a time so that nothing is padded."""
    found: list[np.ndarray] = []

    def hook(module: nn.Module, args: Any, output: Any) -> None:
        tensor = output[0] if isinstance(output, tuple) else output
        tensor = tensor.data[None] if isinstance(tensor, nn.utils.rnn.PackedSequence) else tensor
        array = tensor.detach().double().numpy()[0]
        found.append(np.moveaxis(array, 0, -1).reshape(-1, array.shape[0]) if array.ndim == 3 else array.reshape(-1, array.shape[-1]))

    handle = model.core.get_submodule(layer).register_forward_hook(hook)
    for i in range(len(inputs)):
        model.scores(inputs.iloc[i : i + 1] if hasattr(inputs, "iloc") else inputs[i : i + 1])
    handle.remove()
    return found


CASES = {
    "conv": (image_model, gallery.images(9), "conv", 3),
    "table": (lambda: gallery.tabular(gallery.mlp()), gallery.table(20), "4", 7),
    "packed lstm": (series_model, gallery.series((5, 9, 7, 5, 6)), "rnn", 2),
    "padded text": (lambda: text_model(gallery.Fused), gallery.TEXTS, "norm.0", 3),
}


@pytest.mark.parametrize("case", CASES)
def test_streamed_statistics_are_those_of_stored_activations(case):
    make, inputs, layer, rows = CASES[case]
    model = make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        each = stored(model, inputs, layer)
    found = activations(model, inputs, layer, rows=rows, top=3)[layer]
    truth = slow(np.concatenate(each))
    assert found.values == sum(map(len, each)) and found.units == each[0].shape[1]
    for name in ("mean", "std", "zeros", "peak", "effective_rank"):
        np.testing.assert_allclose(getattr(found, name), truth[name], rtol=2e-4, atol=2e-5, err_msg=name)
    highest = np.array([one.max(0) for one in each])
    np.testing.assert_array_equal(found.top, np.argsort(-highest, axis=0, kind="stable")[:3].T)
    np.testing.assert_allclose(found.top_values, -np.sort(-highest, axis=0)[:3].T, atol=2e-5)


def test_batches_do_not_change_the_result_and_runs_repeat():
    model, inputs = image_model(), gallery.images(12)
    one, other, again = (activations(model, inputs, rows=rows) for rows in (12, 5, 5))
    for a, b, c in zip(one.layers, other.layers, again.layers, strict=True):
        np.testing.assert_allclose(a.mean, b.mean, atol=1e-6)
        np.testing.assert_array_equal(a.top, b.top)
        np.testing.assert_array_equal(b.mean, c.mean)


def test_dead_and_saturated_units_are_found():
    net = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 3)).eval()
    with torch.no_grad():
        net[0].bias[[1, 4]] = -100.0
        net[2].weight[2], net[2].bias[2] = 0, 9.0
        net[2].weight[5], net[2].bias[5] = 0, -9.0
    found = activations(gallery.tabular(net), gallery.table(40))
    assert found["1"].dead.tolist() == [1, 4] and found["1"].stuck.size == 0
    assert {2, 5} <= set(found["3"].stuck) and found["3"].saturated[0] < 0.5
    frame = found.to_frame().set_index("layer")
    assert frame.loc["1", "dead"] == 2 and frame.loc["3", "saturated"] == len(found["3"].stuck) and np.isnan(frame.loc["1", "saturated"])
    assert frame.loc["1", "sparsity"] == pytest.approx(found["1"].zeros.mean())


def test_effective_rank_of_a_layer_whose_rank_is_known():
    torch.manual_seed(0)
    wide = nn.Linear(3, 700, bias=False)
    with torch.no_grad():
        wide.weight.copy_(torch.linalg.qr(torch.randn(700, 3))[0])  # three directions of equal length
    model = explainer.wrap(nn.Sequential(wide, nn.Linear(700, 2)).eval(), modality="tabular", feature_names=list("abc"))
    data = np.random.default_rng(0).normal(size=(4000, 3)).astype(np.float32)
    found = activations(model, data)["0"]
    assert found.projected and found.effective_rank == pytest.approx(3, abs=0.1)
    assert effective_rank(np.array([4.0, 4.0, 0.0])) == pytest.approx(2) and effective_rank(np.zeros(3)) == 0
    constant = activations(model, np.repeat(data[:1], 9, axis=0))["0"]
    assert constant.effective_rank == 0


class Reused(nn.Module):
    """One activation module three times, a dict as output, an in-place activation, a layer that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.unused = nn.Linear(5, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.act(self.b(self.act(self.a(x))))
        return {"hidden": h, "logits": self.act(h - 0.1)}


def test_every_run_of_a_reused_module_is_a_layer_of_its_own():
    torch.manual_seed(0)
    model = gallery.tabular(Reused().eval())
    found = activations(model, gallery.table(30))
    assert [one.name for one in found.layers] == ["a", "act#0", "b", "act#1", "act#2"]
    assert (found["a"].zeros == 0).all() and found["act#0"].zeros.mean() > 0.2  # in-place, and yet read before it
    with pytest.raises(Unsupported, match="runs 3 times"):
        activations(model, gallery.table(3), "act")
    with pytest.raises(Unsupported, match="does not run"):
        activations(model, gallery.table(3), "unused")
    with pytest.raises(UnknownName, match="Did you mean 'act#1'"):
        activations(model, gallery.table(3), "act#11")


def test_stacks_of_blocks_and_the_layer_before_the_head_are_found():
    model = text_model(layers=3)
    layers = Layers(model, gallery.TEXTS)
    assert layers.blocks() == [f"encoder.layers.{i}" for i in range(3)]
    assert last_layer(model, gallery.TEXTS) == "encoder" and last_layer(image_model(), gallery.images(1)) == "norm"
    assert Layers(gallery.tabular(gallery.mlp()), gallery.table(1)).blocks() == []


@pytest.mark.parametrize("make", [image_model, series_model, text_model, lambda: gallery.tabular(Reused().eval())])
def test_putting_back_what_was_read_changes_nothing_and_noise_does(make):
    model = make()
    inputs = {"image": gallery.images(3), "series": gallery.series(), "text": gallery.TEXTS, "tabular": gallery.table(3)}[model.modality]
    given = model.canonical(inputs)
    layers, arguments = Layers(model, given), model.encode(given)
    with model.scoring():
        plain = model.forward(arguments, core=True)
        for name in layers.leaves:
            same = layers.run(arguments, {name: lambda view: view.values.clone()})
            other = layers.run(arguments, {name: lambda view: view.values + torch.randn_like(view.values)})
            torch.testing.assert_close(same, plain, atol=1e-5, rtol=1e-5)
            assert not torch.allclose(other, plain, atol=1e-3), name


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_a_recurrent_layers_last_state_follows_its_replaced_output(kind, bidirectional):
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = kind(3, 4, num_layers=2, batch_first=True, bidirectional=bidirectional)
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            _, state = self.rnn(x)
            return self.head((state[0] if isinstance(state, tuple) else state)[-1])

    torch.manual_seed(0)
    model: Any = explainer.wrap(Last().eval(), modality="series", class_names=["p", "q"], feature_names=list("xyz"))
    given = model.canonical(gallery.series((6, 6)))
    layers, arguments = Layers(model, given), model.encode(given)
    new = torch.randn(2, 6, 8 if bidirectional else 4)
    with model.scoring():
        said = layers.run(arguments, {"rnn": lambda view: new})
        truth = model.core.head(new[:, 0, 4:] if bidirectional else new[:, -1])
    torch.testing.assert_close(said, truth)


def test_state_is_restored_also_after_an_error_and_other_threads_see_no_hook():
    module = gallery.convnet().train()
    model = image_model(module)
    rng, modes = torch.get_rng_state(), [m.training for m in module.modules()]
    layers, arguments = Layers(model, gallery.images(2)), model.encode(gallery.images(2))
    seen: list[int] = []

    def fail(view: Any) -> None:
        thread = threading.Thread(target=lambda: seen.append(len(model.scores(gallery.images(2)))))
        thread.start()
        thread.join()
        raise KeyError("inside")

    with pytest.raises(KeyError), model.scoring():
        layers.run(arguments, {"norm": fail})
    activations(model, gallery.images(2))
    assert seen == [2] and hooks(module) == 0 and [m.training for m in module.modules()] == modes
    assert torch.equal(rng, torch.get_rng_state()) and all(p.grad is None for p in module.parameters())


def test_progress_disk_and_misuse(tmp_path):
    model, done = image_model(), []
    found = explainer.activations(model, gallery.images(7), rows=4, progress=lambda *now: done.append(now))
    assert done[-1] == (7, 7) and found.rows == 7 and found.provenance.parameters["layers"] == ["conv", "norm", "head"]
    back = Activations.load(found.save(tmp_path / "activations.json"))
    assert back.provenance == found.provenance and back["conv"].positions == (8, 8)
    for name in ("mean", "top", "top_values", "effective_rank"):
        np.testing.assert_array_equal(getattr(back["norm"], name), getattr(found["norm"], name))
    with pytest.raises(UnknownName, match="Did you mean 'conv'"):
        activations(model, gallery.images(2), "covn")
    with pytest.raises(InvalidInput, match="top=0"):
        activations(model, gallery.images(2), top=0)
    with pytest.raises(Unsupported, match="torch"):
        activations(explainer.wrap(lambda x: x[:, :2], modality="tabular", feature_names=["a", "b"], class_names=["n", "y"]), [[1, 2]])
    with pytest.raises(UnknownName):
        found["convv"]


class TimeFirst(nn.Module):
    """Works on (time, rows, width) inside."""

    def __init__(self) -> None:
        super().__init__()
        self.inp, self.head = nn.Linear(3, 8), nn.Linear(8, 3)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.inp(x).transpose(0, 1)).mean(0))


class Spectral(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.utils.parametrizations.spectral_norm(nn.Linear(5, 6))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.first(x)))


KINDS = {
    "time first": (lambda: gallery.seeded(TimeFirst), "encoder.layers.0"),
    "bfloat16": (lambda: gallery.mlp().bfloat16(), "3"),
    "spectral norm": (lambda: gallery.seeded(Spectral), "first"),
    "dict": (lambda: gallery.Container(gallery.mlp(), "dict"), "inner.1"),
    "dataclass": (lambda: gallery.Container(gallery.mlp(), "dataclass"), "inner.1"),
    "data parallel": (lambda: nn.DataParallel(gallery.mlp()), "3"),
    "frozen": (lambda: gallery.mlp().requires_grad_(False), "3"),
    "probabilities": (lambda: gallery.mlp(final=nn.Softmax(1)), "3"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_module_is_read_patched_and_explained(kind):
    make, layer = KINDS[kind]
    if kind == "time first":
        model: Any = explainer.wrap(make(), modality="series", class_names=list("abc"), feature_names=list("xyz"))
        inputs: Any = gallery.series((5, 5, 5))
        pair = inputs[:1], inputs[1:2]
    else:
        model, inputs = gallery.tabular(make()), gallery.table(6)
        pair = inputs.iloc[:1], inputs.iloc[1:2]
    loose = 2e-2 if kind == "bfloat16" else 1e-4
    found = activations(model, inputs, layer)[layer]
    unit = explainer.neuron(model, layer, 1)
    assert unit.scores(inputs).mean() == pytest.approx(found.mean[1], abs=loose)
    patched = explainer.patch(model, *pair, target=1)
    assert patched.whole[-1] == pytest.approx(1, abs=loose)
    without = explainer.ablate(model, inputs, layer, [1])
    assert np.abs(without.changes).max() > 1e-6
    ex = explainer.explain(unit, inputs[:2] if isinstance(inputs, list) else inputs.iloc[:2], method="integrated_gradients", verify=False)
    assert np.isfinite(ex.values).all() and np.abs(ex.values).max() > 0
