"""wrap() on torch modules: scores, what is inferred, and that the caller's module and data are never changed."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import pytest
import torch
import torch_gallery as gallery
from torch import nn

import explainer
from explainer.errors import InvalidInput, UnknownName, Unsupported


def snapshot(module: nn.Module) -> dict[str, object]:
    """Everything about a module that an explanation could have changed."""
    return {
        "training": [m.training for m in module.modules()],
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in module.modules()],
        "requires_grad": [p.requires_grad for p in module.parameters()],
        "grads": [None if p.grad is None else p.grad.clone() for p in module.parameters()],
        "weights": {key: value.clone() for key, value in module.state_dict().items() if isinstance(value, torch.Tensor)},
        "rng": torch.get_rng_state(),
        "numpy": np.random.get_state()[1].copy(),  # type: ignore[union-attr]
        "fast": torch.backends.mha.get_fastpath_enabled(),
        "grad": torch.is_grad_enabled(),
    }


def assert_unchanged(module: nn.Module, before: dict[str, object]) -> None:
    after = snapshot(module)
    for key in ("training", "hooks", "requires_grad", "fast", "grad"):
        assert after[key] == before[key], key
    assert torch.equal(after["rng"], before["rng"])
    assert np.array_equal(after["numpy"], before["numpy"])
    for old, new in zip(before["grads"], after["grads"], strict=True):
        assert (old is None and new is None) or torch.equal(old, new)
    for name, value in before["weights"].items():
        assert torch.equal(after["weights"][name], value), name


def test_scores_equal_the_modules_own() -> None:
    module, frame = gallery.mlp(), gallery.table()
    model = gallery.tabular(module)
    with torch.no_grad():
        logits = module(torch.tensor(frame.to_numpy()))
    np.testing.assert_allclose(model.scores(frame), logits.double().softmax(1).numpy(), atol=1e-7)
    np.testing.assert_allclose(model.scores(frame, "logit"), logits.numpy(), atol=1e-6)
    assert model.scores(frame).dtype == np.float64


@pytest.mark.parametrize(("final", "returns"), [(nn.Softmax(1), "probability"), (nn.LogSoftmax(1), "logit"), (None, "logit")])
def test_returns_is_read_from_the_last_activation(final: nn.Module | None, returns: str) -> None:
    model = gallery.tabular(gallery.mlp(final=final))
    assert model.returns == returns
    np.testing.assert_allclose(model.scores(gallery.table()), gallery.tabular(gallery.mlp()).scores(gallery.table()), atol=1e-6)


def test_a_functional_sigmoid_of_one_output_is_found_and_a_registered_softmax_that_is_not_last_is_not() -> None:
    class Gate(nn.Module):
        def __init__(self, squash: bool) -> None:
            super().__init__()
            self.head = nn.Linear(5, 1 if squash else 3)
            self.pool = nn.Softmax(1)
            self.squash = squash

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(self.head(x)).squeeze(1) if self.squash else self.head(self.pool(x) * x)

    torch.manual_seed(0)
    binary = gallery.tabular(Gate(True), class_names=["no", "yes"])
    assert binary.returns == "probability"
    assert binary.scores(gallery.table()).shape == (6, 2)
    for output in ("probability", "raw"):
        np.testing.assert_allclose(binary.scores(gallery.table(), output).sum(1), 1)
    assert gallery.tabular(Gate(False)).returns == "logit"


def test_one_output_without_names_is_a_regression_and_named_classes_make_it_a_classifier() -> None:
    module = gallery.mlp(outputs=1)
    assert gallery.tabular(module).task == "regression"
    assert gallery.tabular(module).scores(gallery.table()).shape == (6, 1)
    binary = gallery.tabular(module, class_names=["no", "yes"])
    assert (binary.task, binary.scores(gallery.table()).shape) == ("classification", (6, 2))


def test_the_number_of_outputs_is_probed_where_the_last_layer_registered_is_not_the_last_to_run() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.conv, self.middle = nn.Linear(9, 4), nn.Conv2d(1, 5, 3), nn.Linear(5, 9)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.middle(self.conv(x).mean((2, 3))))

    assert explainer.wrap(Backwards(), modality="image").scores(gallery.images()).shape == (4, 4) != (4, 9)
    pooled = nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert len(explainer.wrap(pooled, modality="image").class_names) == 3  # no linear layer to read it from


@pytest.mark.parametrize("kind", ["dict", "tuple", "dataclass"])
def test_scores_are_taken_out_of_containers(kind: str) -> None:
    inner = gallery.mlp()
    boxed = gallery.tabular(gallery.Container(inner, kind))
    np.testing.assert_array_equal(boxed.scores(gallery.table()), gallery.tabular(inner).scores(gallery.table()))


class Named(nn.Module):
    """Hands out what it knows under the names told: features of 3 or 5 columns, scores of 3, a loss, labels."""

    def __init__(self, *names: str, wide: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head, self.names = nn.Linear(5, 5 if wide else 3), nn.Linear(5 if wide else 3, 3), names

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = self.body(x)
        scores = self.head(hidden)
        whole = {"loss": scores.mean(1), "features": hidden, "labels": scores.argmax(1), "scores": scores, "other": scores, "a": scores}
        return {name: whole[name] for name in self.names}


@pytest.mark.parametrize(
    ("names", "wide", "options"),
    [
        (("features", "scores"), False, {}),  # by its name
        (("features", "other"), True, {}),  # by its columns
        (("loss", "labels", "a"), False, {}),  # neither a loss nor labels
        (("features", "a", "other"), False, {"output": "other"}),
    ],
)
def test_scores_are_the_entry_whose_name_or_columns_tell(names: tuple[str, ...], wide: bool, options: dict[str, str]) -> None:
    module = Named(*names, wide=wide)
    model = gallery.tabular(module, class_names=["a", "b", "c"], **options)
    x = torch.tensor(gallery.table().to_numpy(), dtype=torch.float32)
    np.testing.assert_allclose(model.scores(gallery.table(), "logit"), module.head(module.body(x)).detach().numpy(), atol=1e-6)
    (fact,) = [f for f in model.anatomy().facts if f.what == "output in a container"]
    assert fact.consequence == f"the scores are its entry {options.get('output', names[-1])!r}"


def test_entries_that_cannot_be_told_apart_are_named_and_asked_for() -> None:
    for background in (None, gallery.table()):
        with pytest.raises(InvalidInput, match=r"'features' \(1, 3\), 'a' \(1, 3\).*output='features'"):
            gallery.tabular(Named("features", "a"), class_names=["a", "b", "c"], background=background)
    with pytest.raises(InvalidInput, match="none has one column per class"):
        gallery.tabular(Named("features", "a"), class_names=["a", "b", "c", "d"])
    with pytest.raises(UnknownName, match="Did you mean 'features'"):
        gallery.tabular(Named("features", "a"), output="feature", class_names=["a", "b", "c"])
    with pytest.raises(InvalidInput, match="gives one tensor"):
        gallery.tabular(gallery.mlp(), output="scores", background=gallery.table())
    one, other = (gallery.tabular(Named("features", "a"), class_names=["a", "b", "c"], output=name) for name in ("features", "a"))
    assert one.fingerprint() != other.fingerprint()


@pytest.mark.parametrize("rows", [1, 3, 256])
def test_batch_size_does_not_change_scores(rows: int) -> None:
    cases = [
        (gallery.tabular(gallery.mlp()), gallery.table(7)),
        (explainer.wrap(gallery.convnet(), modality="image"), gallery.images(5)),
        (explainer.wrap(gallery.lstm(), modality="series"), gallery.series()),
        (gallery.text(gallery.seeded(gallery.Encoder)), gallery.TEXTS),
    ]
    for model, inputs in cases:
        whole = model.scores(inputs)
        model._rows = rows  # type: ignore[attr-defined]
        np.testing.assert_allclose(model.scores(inputs), whole, atol=1e-6)


def test_series_of_unequal_length_without_a_lengths_argument_are_never_padded() -> None:
    class MeanOverTime(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(x.mean(1))

    torch.manual_seed(0)
    model, series = explainer.wrap(MeanOverTime(), modality="series"), gallery.series()
    alone = np.concatenate([model.scores([one]) for one in series])
    np.testing.assert_allclose(model.scores(series), alone, atol=1e-7)


@pytest.mark.parametrize("modality", ["text", "series"])
def test_a_module_that_ignores_its_padding_is_never_given_any(modality: str) -> None:
    class Careless(gallery.Head):
        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return self.head(self.embed(ids).mean(1))

    class CarelessSeries(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            return self.head(self.rnn(x)[0][:, -1])

    torch.manual_seed(0)
    model = gallery.text(Careless()) if modality == "text" else explainer.wrap(CarelessSeries(), modality="series")
    inputs = gallery.TEXTS if modality == "text" else gallery.series()
    assert model.padding_counts  # type: ignore[attr-defined]
    alone = np.concatenate([model.scores(inputs[i : i + 1]) for i in range(len(inputs))])
    np.testing.assert_allclose(model.scores(inputs), alone, atol=1e-7)


def test_memory_running_out_halves_the_batch_and_gives_the_same_scores() -> None:
    module = gallery.mlp()
    whole = gallery.tabular(module).scores(gallery.table(20))
    seen: list[int] = []

    def limited(_: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        seen.append(len(args[0]))
        if len(args[0]) > 6:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: not enough memory: you tried to allocate")

    model = gallery.tabular(module)
    handle = module.register_forward_pre_hook(limited)
    np.testing.assert_allclose(model.scores(gallery.table(20)), whole, atol=1e-7)
    assert seen[0] == 20
    assert max(seen[1:]) == 10
    seen.clear()
    model.scores(gallery.table(20))
    assert max(seen) <= 6  # what did not fit once is not tried again
    handle.remove()


def test_the_callers_module_mode_grads_and_random_state_are_kept() -> None:
    module = gallery.convnet().train()
    module.drop.eval()  # a mixture of modes
    module.conv.weight.grad = torch.ones_like(module.conv.weight)
    module.head.weight.requires_grad_(False)
    model = explainer.wrap(module, modality="image")
    before = snapshot(module)
    first, again = model.scores(gallery.images()), model.scores(gallery.images())
    assert_unchanged(module, before)
    np.testing.assert_array_equal(first, again)  # dropout and batch norm were in eval mode
    np.testing.assert_allclose(first, explainer.wrap(copy.deepcopy(module).eval(), modality="image").scores(gallery.images()), atol=1e-7)
    with pytest.raises(InvalidInput):
        model.scores(gallery.images(size=13))
    assert_unchanged(module, before)


def test_a_module_that_works_in_place_does_not_reach_the_callers_data() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(5, 2))
    frame = gallery.table()
    kept = frame.copy()
    model = explainer.wrap(
        module, modality="tabular", preprocess=lambda f: torch.from_numpy(np.asarray(f)), feature_names=list(frame.columns)
    )
    model.scores(frame)
    pd.testing.assert_frame_equal(frame, kept)


def test_errors_say_what_came_and_what_the_first_layer_takes() -> None:
    with pytest.raises(InvalidInput, match="modality="):
        explainer.wrap(gallery.mlp())
    with pytest.raises(InvalidInput, match=r"preprocess=.*offsets"):
        explainer.wrap(gallery.seeded(gallery.Encoder), modality="text")
    with pytest.raises(InvalidInput, match=r"class_names=.*background="):
        explainer.wrap(nn.Sequential(nn.Conv2d(7, 3, 19), nn.Flatten()), modality="image", preprocess=gallery.standardised)
    with pytest.raises(InvalidInput, match=r"\(4, 1, 13, 13\) float32.*Conv2d\(1, 6"):
        explainer.wrap(gallery.convnet(), modality="image").scores(gallery.images(size=13))
    with pytest.raises(InvalidInput, match="3 outputs, but 2 class_names"):
        gallery.tabular(gallery.mlp(), class_names=["a", "b"])
    mixed = gallery.table().assign(f1=["a", "b", "c", "d", "e", "f"])
    with pytest.raises(InvalidInput, match=r"f1 hold no numbers"):
        gallery.tabular(gallery.mlp()).scores(mixed)
    with pytest.raises(InvalidInput, match=r"scores of shape \(6, 5, 1\)"):
        gallery.tabular(nn.Unflatten(1, (5, 1)), class_names=list("abc")).scores(gallery.table())


def test_the_fingerprint_follows_the_weights_and_nothing_else() -> None:
    module = gallery.convnet()
    model = explainer.wrap(module, modality="image")
    first = model.fingerprint()
    model.scores(gallery.images())
    assert first == model.fingerprint() == explainer.wrap(gallery.convnet(), modality="image").fingerprint()
    with torch.no_grad():
        module.norm.running_mean[0] += 1e-3  # a buffer decides predictions too
    assert model.fingerprint() != first
    assert explainer.wrap(gallery.convnet().bfloat16(), modality="image").fingerprint() != first


def test_bfloat16_and_compiled_wrappers_score_like_their_module() -> None:
    plain = gallery.tabular(gallery.mlp())
    half = gallery.tabular(gallery.mlp().bfloat16())
    np.testing.assert_allclose(half.scores(gallery.table()), plain.scores(gallery.table()), atol=0.02)
    compiled = gallery.tabular(torch.compile(gallery.mlp(), backend="eager"))
    np.testing.assert_allclose(compiled.scores(gallery.table()), plain.scores(gallery.table()), atol=1e-6)
    assert compiled.fingerprint() == plain.fingerprint()


def test_tokens_become_words_and_special_tokens_belong_to_none() -> None:
    model = gallery.text(gallery.seeded(gallery.Encoder))
    texts = ["Don't  sell it!", "a"]
    view = model.gradient_view(texts)  # type: ignore[attr-defined]
    assert view.names(0) == ("Don't", "sell", "it", "!")
    # [CLS] Don ' t sel l it ! [SEP]
    ones = torch.ones(view.x.shape[1:])
    ones[1:] *= torch.arange(1, len(ones))[:, None]
    width = view.x.shape[2]
    np.testing.assert_allclose(view.collapse(ones, 0) / width, [1 + 2 + 3, 4 + 5, 6, 7])
    np.testing.assert_allclose(view.collapse(ones, 1) / width, [1])
    assert [texts[0][a:b] for a, b in view.extras(0)["spans"]] == list(view.names(0))


def test_words_beyond_what_the_model_reads_are_said_aloud() -> None:
    model = gallery.text(gallery.seeded(gallery.Encoder), max_length=6)
    view = model.gradient_view([gallery.TEXTS[0]])  # type: ignore[attr-defined]
    values = view.collapse(torch.ones(view.x.shape[1:]), 0)
    assert (values[:1] > 0).all()
    assert (values[2:] == 0).all()
    assert "words lie beyond the 6 tokens" in view.notes[0]


def test_the_view_of_a_text_gives_the_models_own_scores_and_follows_its_embedding() -> None:
    model = gallery.text(gallery.seeded(gallery.Fused, readout="mean"))
    view = model.gradient_view(gallery.TEXTS)  # type: ignore[attr-defined]
    with model.differentiating():  # type: ignore[attr-defined]
        same = view.forward(view.x, *view.others)
        other = view.forward(view.baseline("auto"), *view.others)
    np.testing.assert_allclose(same.detach().numpy(), model.raw(gallery.TEXTS), atol=1e-6)
    assert np.abs(other.detach().numpy() - model.raw(gallery.TEXTS)).max() > 1e-3


def test_one_hot_columns_are_grouped_and_an_unknown_grouping_is_refused() -> None:
    def encode(frame: pd.DataFrame) -> torch.Tensor:
        colours = np.stack([frame["colour"] == c for c in ("red", "green", "blue")], 1)
        return torch.tensor(np.column_stack([frame["size"], colours]).astype(np.float32))

    frame = pd.DataFrame({"size": [1.0, 2.0], "colour": ["red", "blue"]})
    model = explainer.wrap(gallery.mlp(columns=4), modality="tabular", preprocess=encode, feature_names=["size", "colour"])
    with pytest.raises(Unsupported, match=r"2 columns are encoded as 4.*no \.groups"):
        model.gradient_view(frame)  # type: ignore[attr-defined]
    encode.groups = [0, 1, 1, 1]  # type: ignore[attr-defined]
    view = model.gradient_view(frame)  # type: ignore[attr-defined]
    np.testing.assert_allclose(view.collapse(torch.tensor([1.0, 10.0, 20.0, 30.0]), 0), [1, 60])


def test_anatomy_reads_functional_operations_where_it_can_probe() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(torch.relu(self.a(x)))

    assert not gallery.tabular(Functional()).anatomy().smooth  # type: ignore[attr-defined]
    encoder = gallery.text(gallery.seeded(gallery.Encoder)).anatomy()  # type: ignore[attr-defined]
    assert encoder.has_attention
    assert encoder.integer_inputs
    assert encoder.smooth
    recurrent = explainer.wrap(gallery.lstm(), modality="series", background=gallery.series()).anatomy()  # type: ignore[attr-defined]
    assert recurrent.has_recurrent
    assert not recurrent.has_attention
    cut = gallery.tabular(nn.Sequential(gallery.mlp(), Detach())).anatomy()  # type: ignore[attr-defined]
    assert "detach" in cut.gradient_obstacle


class Detach(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.detach()


def test_a_module_that_its_owner_moves_later_is_followed():
    module, given = gallery.mlp(), gallery.table(4)
    model = explainer.wrap(module, modality="tabular", background=gallery.table(9, seed=1), class_names=list("abc"))
    before, values = model.scores(given), explainer.explain(model, given, "integrated_gradients", verify=False).values
    module.double()  # as .to("cuda") would, or a pipeline that takes the module to a GPU
    assert model.scores(given) == pytest.approx(before, abs=1e-6)
    ex = explainer.explain(model, given, "integrated_gradients", verify=False)
    np.testing.assert_allclose(ex.values, values, atol=1e-5)
    np.testing.assert_allclose(explainer.explain(model, given, "shap", verify=False).scores, ex.scores, atol=1e-12)


class _OfOneMapping(torch.nn.Module):
    """``forward`` takes one batch: a mapping."""

    def __init__(self):
        super().__init__()
        self.first, self.last = torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)

    def forward(self, batch):
        return self.last(torch.tanh(self.first(batch["x"])))


@pytest.mark.parametrize("form", [lambda d: d, lambda d: (d,), lambda d: {"batch": d}], ids=["mapping", "tuple", "keyword"])
@pytest.mark.parametrize("around", [lambda m: m, torch.nn.DataParallel], ids=["alone", "parallel"])
def test_a_module_that_takes_one_mapping(form, around):
    torch.manual_seed(0)
    net = _OfOneMapping().eval()
    rows = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)

    def encode(frame):
        return form({"x": torch.tensor(frame.to_numpy(np.float32))})

    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return net({"x": x})

    told = {"modality": "tabular", "class_names": ["n", "y"], "returns": "logit", "background": rows}
    model, plain = explainer.wrap(around(net), preprocess=encode, **told), explainer.wrap(Plain(), **told)
    for method in ("shap", "integrated_gradients", "saliency", "deeplift"):
        found, true = (explainer.explain(one, rows[:2], method, target="y") for one in (model, plain))
        np.testing.assert_allclose(found.values, true.values, atol=1e-6)
