"""Patching, ablation and the lens: against interventions made by hand, and models whose inner ways are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch_gallery as gallery
from torch import Tensor, nn

import explainer
from explainer.errors import InvalidInput, UnknownName, Unsupported
from explainer.inspection.ablation import Ablation, ablate
from explainer.inspection.lens import LogitLens, logit_lens
from explainer.inspection.patching import Patching, patch

CLEAN, CORRUPT = "the cat sat on", "the dog sat on"


class Scores(nn.Module):
    """A transformers model behind (ids, mask); of a language model the logits of what follows the last token."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, ids: Tensor, mask: Tensor) -> Any:
        out = self.inner(input_ids=ids, attention_mask=mask.long())
        return out if out.logits.ndim == 2 else out.logits[torch.arange(len(ids)), mask.sum(1) - 1]


@pytest.fixture(scope="module")
def gpt() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=40, n_positions=64, n_embd=16, n_layer=3, n_head=4, bos_token_id=1, eos_token_id=2)
    return gallery.text(Scores(GPT2LMHeadModel(config).eval()), class_names=[f"t{i}" for i in range(40)])


@pytest.fixture(scope="module")
def bert() -> Any:
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(vocab_size=40, hidden_size=16, num_hidden_layers=3, num_attention_heads=4, intermediate_size=32, num_labels=3)
    return gallery.text(Scores(BertForSequenceClassification(config).eval()), class_names=list("abc"))


def vision() -> Any:
    from transformers import ViTConfig, ViTForImageClassification

    class Pixels(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Any:
            return self.inner(pixel_values=x)

    torch.manual_seed(0)
    config = ViTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32, image_size=8, patch_size=4,
                       num_channels=1, num_labels=4)  # fmt: skip
    module = Pixels(ViTForImageClassification(config).eval())
    return explainer.wrap(module, modality="image", class_names=list("abcd"), preprocess=gallery.standardised)


# -- the lens ----------------------------------------------------------------------------------------------------------


def test_the_lens_is_norm_and_head_on_every_state_and_ends_in_the_models_scores(gpt):
    found = logit_lens(gpt, gallery.TEXTS, output="logit")
    np.testing.assert_allclose(found.scores[:, -1], gpt.scores(gallery.TEXTS, "logit"), atol=1e-6)
    inner = gpt.core.inner
    for i, text in enumerate(gallery.TEXTS):
        encoded = gpt.preprocess([text])
        with torch.no_grad():
            states = inner(input_ids=encoded["ids"], output_hidden_states=True).hidden_states[:-1]  # the last has its norm already
            truth = [inner.lm_head(inner.transformer.ln_f(state))[0] for state in states]
        assert found.layers == ("input", *(f"inner.transformer.h.{k}" for k in range(3)))
        for k, logits in enumerate(truth):
            np.testing.assert_allclose(found.scores[i, k], logits[-1].numpy(), atol=1e-5)
            assert list(found.tokens[i][k]) == [f"t{t}" for t in logits.argmax(-1).tolist()]
            np.testing.assert_allclose(found.chances[i][k], logits.softmax(-1).amax(-1).numpy(), atol=1e-5)
        assert found.positions[i][0] == "0 [CLS]" and found.tokens[i].shape == (4, len(found.positions[i]))
    last = found.scores.argmax(2)
    for i in range(len(gallery.TEXTS)):
        at = found.settled[i]
        assert (last[i, at:] == last[i, -1]).all() and (at == 0 or last[i, at - 1] != last[i, -1])


def test_a_classifiers_lens_goes_through_its_pooler(bert):
    found = logit_lens(bert, gallery.TEXTS, output="logit")
    np.testing.assert_allclose(found.scores[:, -1], bert.scores(gallery.TEXTS, "logit"), atol=1e-6)
    inner, encoded = bert.core.inner, bert.preprocess(gallery.TEXTS[:1])
    with torch.no_grad():
        states = inner(input_ids=encoded["ids"], output_hidden_states=True).hidden_states
        truth = [inner.classifier(inner.bert.pooler(state))[0].numpy() for state in states]
    np.testing.assert_allclose(found.scores[0], truth, atol=1e-5)
    assert found.tokens == () and (found.settled <= 3).all()


@pytest.mark.parametrize("make", [vision, lambda: gallery.text(gallery.seeded(gallery.Encoder), class_names=list("abc"))])
def test_other_stacks_end_in_the_models_scores_too(make):
    model = make()
    inputs = gallery.images(3) if model.modality == "image" else gallery.TEXTS
    found = logit_lens(model, inputs)
    np.testing.assert_allclose(found.scores[:, -1], model.scores(inputs), atol=1e-5)
    assert len(found.layers) == 3 and np.abs(found.scores[:, 0] - found.scores[:, -1]).max() > 1e-3


def test_where_there_is_no_stack_the_lens_says_so(tmp_path, gpt):
    with pytest.raises(Unsupported, match="no stack of like blocks"):
        logit_lens(gallery.tabular(gallery.mlp()), gallery.table(2))
    with pytest.raises(Unsupported, match="cannot read the other"):
        logit_lens(gpt, CLEAN, layers=["inner.transformer.h.0.mlp.c_fc", "inner.transformer.h.1"])
    named = logit_lens(gallery.text(gallery.seeded(gallery.Fused), class_names=list("abc")), CLEAN, layers=["norm.0", "norm.1"])
    assert named.layers == ("norm.0", "norm.1")
    done: list[Any] = []
    found = logit_lens(gpt, gallery.TEXTS, progress=lambda *now: done.append(now))
    back = LogitLens.load(found.save(tmp_path / "lens.json"))
    assert done[-1] == (4, 4) and back.provenance == found.provenance and back.to_frame().equals(found.to_frame())
    assert [list(a.ravel()) for a in back.tokens] == [list(a.ravel()) for a in found.tokens]


# -- patching ----------------------------------------------------------------------------------------------------------


class OnlyThird(nn.Module):
    """Embeds, mixes nothing, and reads the third position alone."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.token = nn.Embedding(40, 8)
        self.first, self.second, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.head(self.second(torch.tanh(self.first(self.token(ids))))[:, 2])


def test_where_one_position_matters_it_restores_everything():
    model = gallery.text(OnlyThird().eval(), class_names=["p", "q"])
    found = patch(model, CLEAN, CORRUPT)
    assert found.layers == ("token", "first", "second", "head")
    for values in found.values[:3]:
        assert values is not None
        np.testing.assert_allclose(values, np.eye(1, 6, 2)[0], atol=1e-5)
    np.testing.assert_allclose(found.whole, 1, atol=1e-5)
    assert found.values[3] is None and found.positions[2] == "2 cat"
    frame = found.to_frame()
    assert frame[(frame["layer"] == "first") & (frame["position"] == "2 cat")]["restored"].item() == pytest.approx(1, abs=1e-5)


def test_patching_is_what_a_hook_by_hand_does(gpt):
    found = patch(gpt, CLEAN, CORRUPT, target="t7")
    assert found.layers == tuple(f"inner.transformer.h.{k}" for k in range(3))
    high, low = (gpt.scores([text], "logit")[0, 7] for text in (CLEAN, CORRUPT))
    block = gpt.core.inner.transformer.h[1]
    kept: list[Tensor] = []

    def first(output: Any) -> Tensor:
        return output[0] if isinstance(output, tuple) else output

    handle = block.register_forward_hook(lambda layer, args, output: kept.append(first(output).detach().clone()))
    gpt.scores([CLEAN])
    handle.remove()
    for place in range(6):

        def swap(layer: nn.Module, args: Any, output: Any, place: int = place) -> Any:
            new = first(output).clone()
            new[:, place] = kept[0][:, place]
            return (new, *output[1:]) if isinstance(output, tuple) else new

        handle = block.register_forward_hook(swap)
        score = gpt.scores([CORRUPT], "logit")[0, 7]
        handle.remove()
        assert found.values[1][place] == pytest.approx((score - low) / (high - low), abs=1e-4)
    assert found.clean == pytest.approx(high) and found.corrupt == pytest.approx(low)
    np.testing.assert_allclose(found.values[2], np.eye(1, 6, 5)[0], atol=1e-4)  # the last state of the last token is all there is
    np.testing.assert_allclose(found.values[0][:2], 0, atol=1e-5)  # causal: what stands before the change is the same


def test_images_series_and_modules_that_work_in_place_are_patched():
    names = {"class_names": list("abcd"), "preprocess": gallery.standardised}
    found = patch(explainer.wrap(gallery.convnet(), modality="image", **names), gallery.images(2)[:1], gallery.images(2)[1:])
    np.testing.assert_allclose(found.whole, 1, atol=1e-4)
    assert found.values[0].shape == (8, 8) and found.values[2] is None
    # The head is linear in what it is given, and the pooling windows do not overlap: in blocks of 2 x 2 shares add up.
    series = explainer.wrap(gallery.lstm(), modality="series", class_names=list("abc"), feature_names=list("xyz"))
    rnn = patch(series, gallery.series()[:1], gallery.series(seed=2)[:1], layers="rnn", target=("margin", "a", "b"))
    values = rnn.values[0]
    np.testing.assert_allclose(values[1:-1], 0, atol=1e-5)  # only the ends of both directions are read
    assert values[0] + values[-1] == pytest.approx(1, abs=1e-4)


class Long(gallery.Pieces):
    """Pads every text to 12 tokens."""

    def __call__(self, texts: list[str]) -> dict[str, Tensor]:
        ids = nn.functional.pad(super().__call__(texts)["ids"], (0, 12))[:, :12]
        return {"ids": ids, "mask": ids != 0}


def test_texts_of_other_lengths_behind_equal_padding_are_refused():
    model = explainer.wrap(OnlyThird().eval(), modality="text", preprocess=Long(), class_names=["p", "q"])
    assert patch(model, CLEAN, CORRUPT).values[0][2] == pytest.approx(1, abs=1e-5)
    with pytest.raises(InvalidInput, match="with 6 and 7 real positions"):
        patch(model, CLEAN, "the dog sat on it")


def test_inputs_that_cannot_be_patched_are_refused(gpt, tmp_path):
    for error, words, arguments in (
        (InvalidInput, "same length", {"corrupt": "a far longer text than the first one"}),
        (InvalidInput, "score the same", {"corrupt": CLEAN}),
        (InvalidInput, "one clean and one corrupt", {"corrupt": [CORRUPT, CORRUPT]}),
        (InvalidInput, "one score", {"target": "all"}),
        (UnknownName, "target", {"target": "t99"}),
        (UnknownName, "Did you mean", {"layers": "inner.transformer.h.9"}),
    ):
        with pytest.raises(error, match=words):
            patch(gpt, **{"clean": CLEAN, "corrupt": CORRUPT, **arguments})
    done: list[Any] = []
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in gpt.core.modules()]  # transformers keeps some of its own
    found = patch(gpt, CLEAN, CORRUPT, progress=lambda *now: done.append(now))
    back = Patching.load(found.save(tmp_path / "patching.json"))
    assert done[-1] == (3, 3) and back.provenance == found.provenance and back.to_frame().equals(found.to_frame())
    assert hooks == [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in gpt.core.modules()]


# -- ablation ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["zero", "mean"])
def test_ablation_is_what_holding_the_unit_by_hand_does(kind):
    net = gallery.mlp()
    model = gallery.tabular(net, background=gallery.table(30, seed=1))
    rows = gallery.table(7)
    found = ablate(model, rows, "4", [3, [0, 5, 7]], kind=kind, output="logit")
    with torch.no_grad():
        middle = net[:5](torch.tensor(gallery.table(30, seed=1).to_numpy())).mean(0)
        hidden = net[:5](torch.tensor(rows.to_numpy()))
        for name, places in (("unit 3", [3]), ("units 0, 5, 7", [0, 5, 7])):
            held = hidden.clone()
            held[:, places] = middle[places] if kind == "mean" else 0
            truth = (net[5](held) - net[5](hidden)).numpy()
            np.testing.assert_allclose(found.changes[found.names.index(name)], truth, atol=1e-5)
    np.testing.assert_allclose(found.stderr, found.changes.std(1, ddof=1) / np.sqrt(7))
    assert np.isin(found.flipped, np.arange(8) / 7).all()


def test_heads_are_cut_from_what_the_output_projection_is_given(gpt):
    layer = "inner.transformer.h.1.attn.c_proj"
    found = ablate(gpt, gallery.TEXTS, layer, heads=4, output="logit")
    projection = gpt.core.get_submodule(layer)
    whole = projection.weight.detach().clone()
    plain = gpt.scores(gallery.TEXTS, "logit")
    for head in range(4):
        try:
            with torch.no_grad():
                projection.weight[head * 4 : head * 4 + 4] = 0  # transformers' Conv1D holds (inputs, outputs)
            truth = gpt.scores(gallery.TEXTS, "logit") - plain
        finally:
            projection.weight.data = whole.clone()
        np.testing.assert_allclose(found.changes[head], truth, atol=1e-5)
    assert found.names == ("head 0", "head 1", "head 2", "head 3") and np.abs(found.values).max() > 1e-5


def test_the_mean_is_taken_over_real_positions_and_channels_are_units():
    module = gallery.seeded(gallery.Fused)
    model = gallery.text(module, class_names=list("abc"))
    kept: list[Tensor] = []
    handle = module.norm[0].register_forward_hook(lambda layer, args, output: kept.append(output[0].detach().double()))
    for text in gallery.TEXTS:
        model.scores([text])
    handle.remove()
    from explainer.adapters.layers import Layers
    from explainer.inspection.ablation import _mean

    np.testing.assert_allclose(
        _mean(Layers(model, gallery.TEXTS), "norm.0", gallery.TEXTS, False), torch.cat(kept).mean(0).numpy(), atol=1e-5
    )
    images = explainer.wrap(gallery.convnet(), modality="image", class_names=list("abcd"), preprocess=gallery.standardised)
    found = ablate(images, gallery.images(3), "norm")
    assert len(found.names) == 6 and found.changes.shape == (6, 3, 4) and (found.size > 0).all()
    np.testing.assert_allclose(found.changes.sum(2), 0, atol=1e-6)  # probabilities: what one class loses the others win


def test_misuse_of_ablation_and_disk(gpt, tmp_path):
    model = gallery.tabular(gallery.mlp())
    for error, words, arguments in (
        (UnknownName, "kind of ablation", {"kind": "nought"}),
        (InvalidInput, "units 0 to 15", {"units": [16]}),
        (InvalidInput, "at least one", {"units": []}),
        (InvalidInput, "cannot be cut", {"heads": 3}),
        (InvalidInput, "not both", {"heads": 4, "units": [1]}),
    ):
        with pytest.raises(error, match=words):
            ablate(model, gallery.table(3), "3", **arguments)
    with pytest.raises(UnknownName, match="layer"):
        ablate(model, gallery.table(3), "thre")
    done: list[Any] = []
    found = ablate(model, gallery.table(5), "3", progress=lambda *now: done.append(now))
    back = Ablation.load(found.save(tmp_path / "ablation.json"))
    assert done[-1] == (16, 16) and back.provenance == found.provenance and back.to_frame().equals(found.to_frame())


class Loose(nn.Module):
    """A score that is no function of its input: drawn at random, or taken over the batch."""

    def __init__(self, drawn: bool) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 8), nn.Linear(8, 2)
        self.drawn = drawn

    def forward(self, x: Tensor) -> Tensor:
        found = self.first(x)
        return self.last(torch.dropout(found, 0.5, True) if self.drawn else found - found.mean(0))


@pytest.mark.parametrize("drawn", [True, False], ids=["random", "batch"])
def test_scores_that_are_no_function_of_the_input_are_followed_by_no_view(drawn):
    """What explain() refuses is refused here, for the same reason."""
    model = gallery.tabular(Loose(drawn), background=gallery.table(30, seed=1))
    why = "its scores are drawn at random" if drawn else "depends on what stands beside it in the batch"
    rows, pool = gallery.table(8), gallery.table(40, seed=3)
    calls = [
        lambda: patch(model, rows[:1], rows[1:2], target=0),
        lambda: ablate(model, rows, "first", [0]),
        lambda: logit_lens(model, rows),
        lambda: explainer.concepts(model, rows, {"one": pool[:8]}, pool, layers="first", target=0),
        lambda: explainer.head_importance(model, rows),
    ]
    with pytest.raises(Unsupported, match=why):
        explainer.explain(model, rows, "shap")
    for call in calls:
        with pytest.raises(Unsupported, match=why):
            call()
