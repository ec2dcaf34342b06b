"""What is found in a module before a method runs: each kind is found where it is, and nowhere else."""

from __future__ import annotations

from typing import Any

import model_gallery
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torch_gallery as gallery
from torch import Tensor, nn
from typer.testing import CliRunner

import explainer
from explainer.cli import app
from explainer.errors import InvalidInput, Unsupported
from explainer.methods import METHODS

TEXTS = {
    "embeddings alone", "embeddings and additive attention", "two embedding tables", "transformer encoder, fast path",
    "transformer encoder, slow path", "fused attention, padding mask", "fused attention, causal mask", "fused attention, grouped heads",
    "BERT", "DistilBERT", "RoBERTa", "ALBERT", "ELECTRA", "DeBERTa", "DeBERTa-v2", "GPT-2", "Llama", "Mistral", "T5", "T5 encoder",
}  # fmt: skip
RECURRENT = {"lstm", "gru of two layers, both ways", "lstm packed, both ways", "gru packed", "lstm cell"}
BOXED = {"dict output", "tuple output", "dataclass output"}
_PICTURES_AND_SOUNDS = {"ViT", "Swin", "ConvNeXt", "ResNet", "Wav2Vec2", "Whisper encoder"}
HUGGING = {name for name in TEXTS if not name[0].islower() and name != "T5 encoder"} | _PICTURES_AND_SOUNDS
FUSED = (TEXTS & {name for name in TEXTS if "fused" in name or "encoder," in name}) | (
    {*HUGGING, "T5 encoder"} - {"DeBERTa", "DeBERTa-v2", "ConvNeXt", "ResNet"}
)
# A kind of finding -> the models of the gallery that have it, all of them.
FOUND = {
    "an activation layer called several times": {"relu reused", "residual, dense and depthwise"},
    "recurrent layers": RECURRENT,
    "batch norm in training mode": {"batch norm in train mode"},
    "half precision": {"bfloat16"},
    "a wrapper": {"compiled", "data parallel"},
    "integer inputs": TEXTS,
    "output in a container": BOXED | HUGGING,
    "frozen parameters": {"frozen backbone", "frozen whole", "Whisper encoder"},
    "random draws": {"dropout always on"},
    "a way that depends on the input's values": {"control flow"},
    "values that leave automatic differentiation": {"cut off by numpy"},
    "several inputs": TEXTS | {"lstm packed, both ways", "gru packed"},
    "fused attention": FUSED,
}


def kinds(name: str) -> dict[str, tuple[str, str]]:
    return {fact.what: (fact.where, fact.consequence) for fact in model_gallery.made(name)[0].anatomy().facts}


@pytest.mark.parametrize("what", FOUND)
def test_each_finding_is_where_it_is_and_nowhere_else(what: str) -> None:
    assert {name for name in model_gallery.GALLERY if what in kinds(name)} == FOUND[what]


def test_the_places_are_named() -> None:
    assert kinds("relu reused")["an activation layer called several times"][0] == "function"
    assert "relu in Feed" in kinds("functional relu")["functional activations"][0]
    assert "max_pool2d in ConvNet" in kinds("batch norm in eval mode")["functional activations"][0]
    assert kinds("relu in place")["operations in place"][0] == "relu in 1 and 3"
    assert all(word in kinds("arithmetic in place")["operations in place"][0] for word in ("mul", "add", "relu", "sigmoid"))
    assert kinds("layer norm and gelu")["normalisation, softmax or other curved functions"][0] == "layer_norm in 1 and 4; gelu in 2"
    assert kinds("batch norm in train mode")["batch norm in training mode"][0] == "norm"
    assert "word_embeddings" in kinds("BERT")["integer inputs"][1]
    assert kinds("linear") == {}
    assert all(text for name in model_gallery.GALLERY for places in kinds(name).values() for text in places)


def test_a_model_that_could_not_be_probed_is_probed_with_the_first_input() -> None:
    class Exact(nn.Module):
        """Takes series of exactly 11 steps, which nobody can guess."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(33, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(F.dropout(x.flatten(1), 0.5))

    model = explainer.wrap(Exact(), modality="series", feature_names=["x", "y", "z"])
    assert not model.anatomy().probed and model.anatomy().facts[0].what == "not run"
    with pytest.raises(Unsupported, match="drawn at random"):
        explainer.explain(model, gallery.series((11,)), "shap")
    assert model.anatomy().probed


def test_a_gap_of_deeplift_is_measured() -> None:
    class Odd(nn.Module):
        def __init__(self, share: float) -> None:
            super().__init__()
            self.layer, self.share = nn.Linear(5, 3), share

        def forward(self, x: Tensor) -> Tensor:
            h = self.layer(x)
            return h + self.share * torch.cumprod(h, 1)  # a function without a rule

    levels = {}
    for share in (0.0, 0.2, 3.0):
        torch.manual_seed(0)
        model = explainer.wrap(Odd(share), modality="tabular", background=gallery.table(8, seed=1), class_names=list("abc"))
        levels[share] = model.capabilities()["deeplift"]
    assert levels[0.0].level == "approximate" and "within" in levels[0.0].reason
    assert "miss" in levels[0.2].reason and "cumprod" in levels[0.2].reason
    assert levels[3.0].level == "unsupported" and "cumprod" in levels[3.0].reason


def test_a_sample_that_does_not_fit_says_nothing_about_the_model() -> None:
    rows = gallery.table(8)
    rows.iloc[0, 0] = np.nan
    model = gallery.tabular(gallery.mlp(), background=rows)
    assert {able.level for name, able in model.capabilities().items() if name in ("saliency", "deeplift", "shap")} <= {
        "exact",
        "approximate",
    }

    class Picky(nn.Module):
        """Refuses every picture but a black one."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 2)

        def forward(self, x: Tensor) -> Tensor:
            if float(x.detach().sum()) > 30:
                raise ValueError("too bright")
            return self.layer(x.flatten(1))

    model = explainer.wrap(Picky(), modality="image", background=np.zeros((1, 8, 8), dtype=np.float32), class_names=["a", "b"])
    assert model.capabilities()["integrated_gradients"].level == "approximate"


def test_a_picture_given_twice_is_not_explained_by_one_of_them() -> None:
    class Pyramid(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.large, self.small = nn.Linear(64, 2), nn.Linear(16, 2)

        def forward(self, large: Tensor, small: Tensor) -> Tensor:
            return self.large(large.flatten(1)) + self.small(small.flatten(1))

    def both(pictures: np.ndarray) -> tuple[Tensor, Tensor]:
        whole = torch.tensor(pictures)[:, None]
        return whole, F.avg_pool2d(whole, 2)

    model = explainer.wrap(Pyramid(), modality="image", preprocess=both, background=gallery.images(1), class_names=["a", "b"])
    assert "several ways" in model.capabilities()["integrated_gradients"].reason
    assert model.capabilities()["shap"].level != "unsupported"


def test_gradients_are_held_against_the_slope() -> None:
    errors = {name: model_gallery.made(name)[0].anatomy().slope_error for name in model_gallery.GALLERY}
    wrong = {name for name, error in errors.items() if error > 0.1}
    assert wrong == {"gradient reversal", "partly detached", "dropout always on", "batch norm without statistics"}
    assert sum(np.isfinite(error) for error in errors.values()) > 50

    class Slightly(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x + 0.2 * x.detach())

    torch.manual_seed(0)
    model = explainer.wrap(Slightly(5, 3), modality="tabular", background=gallery.table(8), class_names=list("abc"))
    able = model.capabilities()["saliency"]
    assert able.level == "approximate" and "detach in Slightly" in able.reason
    assert gallery.tabular(gallery.mlp(), background=gallery.table(8)).capabilities()["saliency"].level == "exact"


def test_a_module_that_writes_over_its_results_has_the_gradients_of_one_that_does_not() -> None:
    class Clean(model_gallery.Feed):
        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.sigmoid(self.second(torch.tanh(self.first(x)) * 2)))

    torch.manual_seed(0)
    clean, (spoiling, given) = Clean(torch.tanh).eval(), model_gallery.made("writes over its own results")
    with pytest.raises(RuntimeError, match="inplace"):
        spoiling.core(torch.zeros(1, 5, requires_grad=True)).sum().backward()
    spoiling.core.zero_grad()
    for method in ("saliency", "integrated_gradients", "expected_gradients", "deeplift"):
        mine, wanted = (
            explainer.explain(m, given, method, verify=False)
            for m in (spoiling, explainer.wrap(clean, modality="tabular", background=spoiling.background, class_names=spoiling.class_names))
        )
        np.testing.assert_allclose(mine.values, wanted.values, rtol=1e-5, atol=1e-7)


def test_facts_and_capabilities_are_read_once() -> None:
    calls = []
    net = gallery.mlp()
    net.register_forward_hook(lambda *_: calls.append(1))
    model = gallery.tabular(net, background=gallery.table(8))
    first = model.capabilities()
    count = len(calls)
    assert model.capabilities() == first and set(first) == set(METHODS)
    assert len(calls) == count


def test_the_command_shows_what_was_found(tmp_path) -> None:
    (tmp_path / "made.py").write_text(
        "import torch_gallery as g\n\ndef make():\n    return g.tabular(g.mlp().bfloat16(), background=g.table(8))\n"
    )
    shown = CliRunner().invoke(app, ["methods", f"{tmp_path / 'made.py'}:make"])
    assert shown.exit_code == 0, shown.output
    assert "half precision" in shown.output and "DeepLIFT" not in shown.output.partition("found in the module")[2]


class OfTheBatch(nn.Module):
    """Which way all rows go is decided by their mean: two rows often go the same way, alone and together."""

    def __init__(self, share: float = 1.0) -> None:
        super().__init__()
        self.first, self.again, self.last, self.share = nn.Linear(5, 12), nn.Linear(12, 12), nn.Linear(12, 3), share

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        if h.mean() > 0.1:
            h = h + self.share * (3 * self.again(h) - h)
        return self.last(h)


@pytest.mark.parametrize("seed", range(6))
def test_a_branch_on_the_whole_batch_is_refused(seed: int) -> None:
    torch.manual_seed(seed)
    model = gallery.tabular(OfTheBatch(), background=gallery.table(30, seed=seed))
    able = model.capabilities()
    assert all(one.level == "unsupported" and "__bool__ in OfTheBatch" in one.reason for one in (able["shap"], able["saliency"]))
    with pytest.raises(Unsupported, match="values of the whole batch"):
        explainer.explain(model, gallery.table(3), "shap")


def test_a_branch_that_the_given_inputs_show_is_refused_when_they_come() -> None:
    torch.manual_seed(0)
    model = gallery.tabular(OfTheBatch(0.0), background=gallery.table(8, seed=1))
    assert model.anatomy().branches and not model.anatomy().obstacle
    model.core.share = 1.0  # what the made-up rows did not show
    with pytest.raises(Unsupported, match="values of the whole batch"):
        explainer.explain(model, gallery.table(8, seed=2), "saliency")


def test_a_branch_of_each_row_and_a_slight_one_are_not_refused() -> None:
    able = model_gallery.made("control flow")[0].capabilities()["shap"]
    assert able.level == "exact" and "batch" not in able.reason
    torch.manual_seed(0)
    slight = gallery.tabular(OfTheBatch(0.01), background=gallery.table(8, seed=1)).capabilities()["shap"]
    assert slight.level == "approximate" and "Rather noisy here" in slight.reason and "values of the whole batch" in slight.reason


def test_a_batch_norm_that_takes_no_single_row_is_named() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 3))
    with pytest.raises(InvalidInput, match="track_running_stats=True") as caught:
        gallery.tabular(module, background=gallery.table(8)).scores(gallery.table(1))
    assert "preprocess" not in str(caught.value)


def test_refusals_name_what_was_found() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(5, 3)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.layer(torch.cat([a, b], 1))

    def halves(frame: Any) -> tuple[Tensor, Tensor]:
        rows = torch.tensor(frame.to_numpy())
        return rows[:, :2], rows[:, 2:]

    why = gallery.tabular(Two(), background=gallery.table(8), preprocess=halves).capabilities()["saliency"].reason
    assert "only one of them" in why and "the float one" not in why
    import transformers

    small = {"image_size": 32, "patch_size": 2, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4, "num_labels": 3}
    swin = transformers.SwinForImageClassification(transformers.SwinConfig(**small)).eval()
    windows = explainer.wrap(swin, modality="image", background=np.zeros((1, 32, 32, 3), np.float32), class_names=list("abc"))
    why = windows.capabilities()["attention"].reason
    assert "within windows" in why and "no positions" not in why
