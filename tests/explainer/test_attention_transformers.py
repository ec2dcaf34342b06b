"""Attention of tiny random transformers, against transformers' own weights; encoder-decoders, pictures and frames end to end."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import picture_gallery
import pytest
import torch
import torch_gallery as gallery
from test_attention import run, slow_rollout
from test_torch_adapter import assert_unchanged, snapshot
from torch import Tensor, nn

import explainer
from explainer.adapters.encoding import Steps
from explainer.adapters.taps import AttentionTap
from explainer.errors import Unsupported

transformers = pytest.importorskip("transformers")
from transformers_gallery import bart, t5  # noqa: E402

SMALL = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24, "vocab_size": 40,
    "max_position_embeddings": 64,
}  # fmt: skip
ENDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24, "num_channels": 1}
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertForSequenceClassification", "BertConfig", SMALL),
    "distilbert": ("DistilBertForSequenceClassification", "DistilBertConfig", {
        "dim": 16, "n_layers": 2, "n_heads": 4, "hidden_dim": 24, "vocab_size": 40, "max_position_embeddings": 64}),
    "roberta": ("RobertaForSequenceClassification", "RobertaConfig", {**SMALL, "max_position_embeddings": 80}),
    "albert": ("AlbertForSequenceClassification", "AlbertConfig", {**SMALL, "embedding_size": 8}),
    "electra": ("ElectraForSequenceClassification", "ElectraConfig", {**SMALL, "embedding_size": 8}),
    "deberta": ("DebertaV2ForSequenceClassification", "DebertaV2Config", {
        **SMALL, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 8, "share_att_key": True,
        "norm_rel_ebd": "layer_norm"}),
    "gpt2": ("GPT2ForSequenceClassification", "GPT2Config", {
        "n_embd": 16, "n_layer": 2, "n_head": 4, "vocab_size": 40, "n_positions": 64, **ENDS}),
    "llama": ("LlamaForSequenceClassification", "LlamaConfig", {**SMALL, **ENDS, "num_key_value_heads": 2}),
    "mistral": ("MistralForSequenceClassification", "MistralConfig", {**SMALL, **ENDS, "num_key_value_heads": 1, "sliding_window": 4}),
    "t5": ("T5ForSequenceClassification", "T5Config", {
        **ENDS, "d_model": 16, "d_kv": 4, "num_layers": 2, "num_heads": 4, "d_ff": 24, "vocab_size": 40, "decoder_start_token_id": 0}),
    "vit": ("ViTForImageClassification", "ViTConfig", {**VIT, "image_size": 12, "patch_size": 4}),
    "wav2vec2": ("Wav2Vec2ForSequenceClassification", "Wav2Vec2Config", {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24, "conv_dim": (8, 8),
        "conv_stride": (4, 4), "conv_kernel": (8, 8), "num_feat_extract_layers": 2, "num_conv_pos_embeddings": 4,
        "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 8}),
    "whisper": ("WhisperForAudioClassification", "WhisperConfig", {
        **ENDS, "d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 24, "decoder_layers": 1,
        "decoder_attention_heads": 4, "num_mel_bins": 6, "max_source_positions": 10, "vocab_size": 40, "decoder_start_token_id": 1,
        "classifier_proj_size": 8}),
}  # fmt: skip
TEXT = [name for name in KINDS if name not in ("vit", "wav2vec2", "whisper")]


def made(name: str, implementation: str = "sdpa") -> Any:
    kind, config, options = KINDS[name]
    torch.manual_seed(0)
    config = getattr(transformers, config)(**options, num_labels=3)
    module = getattr(transformers, kind)._from_config(config, attn_implementation="eager" if name == "deberta" else implementation)
    with torch.no_grad():  # fresh weights are so small that everything would be even
        for parameter in module.parameters():
            if parameter.ndim == 2:
                parameter.mul_(8)
    return module.eval()


def batch(name: str) -> dict[str, Tensor]:
    torch.manual_seed(1)
    if name == "vit":
        return {"pixel_values": torch.rand(2, 1, 12, 12)}
    if name == "wav2vec2":
        return {"input_values": torch.randn(2, 200)}
    if name == "whisper":
        return {"input_features": torch.randn(2, 6, 20)}
    ids = torch.tensor([[1, 5, 6, 7, 8, 9, 2], [1, 5, 6, 2, 0, 0, 0]])
    return {"input_ids": ids, "attention_mask": (ids != 0).long()}


class Named(gallery.Pieces):
    """The gallery's tokeniser with transformers' names."""

    def __call__(self, texts: list[str]) -> dict[str, Tensor]:
        encoded = super().__call__(texts)
        return {"input_ids": encoded["ids"], "attention_mask": encoded["mask"].long()}


def texts(name: str, implementation: str = "sdpa") -> explainer.Model:
    return explainer.wrap(made(name, implementation), modality="text", preprocess=Named(), class_names=["a", "b", "c"])


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("name", KINDS)
def test_weights_equal_those_of_transformers(name: str, implementation: str) -> None:
    module, inputs = made(name, implementation), batch(name)
    told = made(name, "eager")
    told.load_state_dict(module.state_dict())
    with torch.no_grad():
        output = told(**inputs, output_attentions=True)
        plain = module(**inputs).logits
        with AttentionTap(2) as tap:
            tapped = module(**inputs).logits
    torch.testing.assert_close(tapped, plain, atol=1e-5, rtol=0)
    by_name = {key: output.get(f"{key}attentions") or () for key in ("", "encoder_", "decoder_", "cross_")}
    cross = [layer for layer in tap.layers if layer.cross]
    own = [layer for layer in tap.layers if not layer.cross]
    wanted = [*by_name["encoder_"], *by_name["decoder_"], *by_name[""]]
    assert (len(own), len(cross)) == (len(wanted), len(by_name["cross_"])) and wanted
    for layer, weights in zip([*own, *cross], [*wanted, *by_name["cross_"]], strict=True):
        torch.testing.assert_close(layer.weights, weights.reshape(layer.weights.shape), atol=1e-5, rtol=0)
        assert layer.values is not None and layer.projection is not None and layer.windows == 1
        assert layer.source.startswith("softmax" if implementation == "eager" or name == "deberta" else "fused")
        # What the heads hand on is weights times values, whatever the shape it came in.
        torch.testing.assert_close(layer.mixed.reshape(layer.values.shape[:2] + layer.mixed.shape[-2:]), weights @ layer.values)
    assert module.config._attn_implementation == ("eager" if name == "deberta" else implementation)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("name", [name for name in TEXT if name != "t5"])
def test_all_readings_run_on_text_and_restore_the_module(name: str, implementation: str) -> None:
    model = texts(name, implementation)
    before = snapshot(model.module)
    for method in ("attention", "attention_relevance", "attention_norms", "attention_flow"):
        ex = explainer.explain(model, gallery.TEXTS, method, verify=False)
        assert ex.values.shape[0] == 4 and np.nanmax(ex.values) > 0
        wanted = "last" if name in ("gpt2", "llama", "mistral") else "first"
        assert ex.provenance.parameters["readout"] == f"auto: {wanted}"
    assert_unchanged(model.module, before)


def test_encoder_decoder_gives_raw_weights_and_a_restricted_rollout() -> None:
    model = texts("t5")
    encoded = Named()(gallery.TEXTS)
    told = made("t5", "eager")
    told.load_state_dict(model.module.state_dict())
    with torch.no_grad():
        output = told(**encoded, output_attentions=True)
    for stream, weights in (
        ("cross", output.cross_attentions),
        ("encoder", output.encoder_attentions),
        ("decoder", output.decoder_attentions),
    ):
        found = run(model, gallery.TEXTS, kind="raw", stream=stream)
        assert found.axes == (("layer", "head", "decoder token", "token") if stream == "cross" else ("layer", "head", "query", "key"))
        for i in range(4):
            real = int(encoded["attention_mask"][i].sum())
            wanted = torch.stack(weights, 1)[i].numpy()
            wanted = wanted if stream == "decoder" else wanted[..., :real]
            wanted = wanted[..., :real, :] if stream == "encoder" else wanted
            np.testing.assert_allclose(found.values[i][..., 0], wanted, atol=1e-5)
            np.testing.assert_allclose(found.extras["attention"][i], wanted, atol=1e-5)
    assert run(model, gallery.TEXTS, kind="raw").axes == ("layer", "head", "decoder token", "token")
    found = run(model, gallery.TEXTS)
    assert any("encoder-decoder" in note for note in found.notes)
    for i in range(4):
        real = int(encoded["attention_mask"][i].sum())
        read = int((encoded["input_ids"][i] == 2).nonzero()[0, 0])  # the decoder's state at the end-of-sequence token is read
        row = output.cross_attentions[-1][i].mean(0)[read, :real].numpy()
        stack = torch.stack(output.encoder_attentions, 1)[i][..., :real, :real].double().numpy()
        wanted = sum(row[t] * slow_rollout(stack, t) for t in range(real))
        assert found.values[i].sum() + found.extras["special"][i] == pytest.approx(1, abs=1e-5)
        assert found.extras["special"][i] == pytest.approx(wanted[0] + wanted[-1], abs=1e-5)


def test_cross_attention_survives_disk(tmp_path: Any) -> None:
    ex = explainer.explain(texts("t5"), gallery.TEXTS, "attention", kind="raw")
    ex.save(tmp_path / "ex")
    back = explainer.load(tmp_path / "ex")
    np.testing.assert_array_equal(back.values, ex.values)
    assert list(back.extras["queries"][0]) == list(ex.extras["queries"][0]) and back.axes[3:] == ("decoder token", "token")
    assert len(ex[1].values[0, 0, 0]) == len(ex.extras["queries"][1])


@pytest.mark.parametrize("method", ["attention_flow", "attention_relevance", "attention_norms"])
def test_readings_of_one_stack_refuse_an_encoder_decoder_before_they_run(method: str) -> None:
    model = texts("t5")
    able = model.capabilities()[method]
    assert able.level == "unsupported" and "encoder-decoder" in able.reason and "stream='cross'" in able.reason
    with pytest.raises(Unsupported, match="encoder-decoder"):
        explainer.explain(model, gallery.TEXTS, method)


def test_cross_attention_of_pytorchs_own_decoder_is_told_apart_at_equal_lengths() -> None:
    torch.manual_seed(0)
    module = nn.Transformer(8, 2, 1, 1, 16, batch_first=True).eval()
    x, y = torch.randn(2, 5, 8), torch.randn(2, 5, 8)
    plain = module(x, y)
    with AttentionTap(2) as tap:
        tapped = module(x, y)
    torch.testing.assert_close(tapped, plain, atol=1e-6, rtol=0)
    assert [layer.cross for layer in tap.layers] == [False, False, True]


@pytest.mark.parametrize("head", ["ForConditionalGeneration", "ForSequenceClassification"])
@pytest.mark.parametrize("make", [t5, bart])
def test_each_stream_of_an_encoder_decoder_with_its_tokenizer_is_transformers_own(make: Any, head: str) -> None:
    module, tokenizer = make(head)
    model, text = explainer.wrap((module, tokenizer)), "redistribution and use"
    target, given = "predicted", dict(tokenizer(text, return_tensors="pt"))
    if head == "ForConditionalGeneration":
        target, reading = " the author", model.continuing(" the author").preprocess
        given["decoder_input_ids"] = torch.tensor([[reading.start_id, *reading.after]])
    found = {
        stream: explainer.explain(model, [text], "attention", target=target, kind="raw", stream=stream, verify=False).values[0]
        for stream in ("encoder", "decoder", "cross")
    }
    module.set_attn_implementation("eager")
    with torch.no_grad():
        told = module(**given, output_attentions=True)
    for stream, values in found.items():
        np.testing.assert_allclose(values, torch.cat(told[f"{stream}_attentions"]).numpy(), atol=1e-5)
    rollout = explainer.explain(model, [text], "attention", target=target, verify=False)
    assert rollout.values.shape == (1, 3) and any("last cross-attention" in note for note in rollout.provenance.notes)


# -- pictures and frames ----------------------------------------------------------------------------------------------------


def pictures() -> explainer.Model:
    class Channelled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = made("vit")

        def forward(self, x: Tensor) -> Any:
            return self.inner(x)

    return explainer.wrap(Channelled().eval(), modality="image", class_names=["a", "b", "c"])


@pytest.mark.parametrize("method", ["attention", "attention_relevance", "attention_norms", "attention_flow"])
def test_patches_of_a_vision_transformer_become_pixels(method: str) -> None:
    model, images = pictures(), gallery.images(2, 12)
    ex = explainer.explain(model, images, method, verify=False)
    assert ex.axes == ("instance", "row", "column") and ex.values.shape == (2, 12, 12)
    blocks = ex.values.reshape(2, 3, 4, 3, 4)
    np.testing.assert_allclose(blocks, np.broadcast_to(blocks[:, :, :1, :, :1], blocks.shape))
    assert ex.extras["tokens"][0][:2] == ["[0]", "patch 0,0"] and len(ex.extras["tokens"][0]) == 10


def test_the_rollout_of_a_patch_lies_on_the_patch() -> None:
    found = run(pictures(), gallery.images(2, 12))
    for i in range(2):
        relevance = slow_rollout(found.extras["attention"][i].astype(float), 0)
        blocks = found.values[i][..., 0].reshape(3, 4, 3, 4).sum((1, 3))
        np.testing.assert_allclose(blocks.ravel(), relevance[1:], atol=1e-7)
        assert found.extras["special"][i] == pytest.approx(relevance[0], abs=1e-6)


@pytest.mark.parametrize(
    ("name", "grid", "before"), [("ViT", (4, 4), 1), ("DeiT", (4, 4), 2), ("DINOv2", (4, 4), 5), ("tokens, registers", (4, 6), 2)]
)
def test_pixels_get_the_relevance_of_the_patch_they_enter_by(name: str, grid: tuple[int, int], before: int) -> None:
    model, images = picture_gallery.made(name)
    found = run(model, images[:1], readout="first")
    relevance = slow_rollout(found.extras["attention"][0].astype(float), 0)
    (rows, columns), (height, width) = grid, images.shape[1:3]
    summed = found.values[0][..., 0].reshape(rows, height // rows, columns, width // columns).sum((1, 3))
    np.testing.assert_allclose(summed.ravel(), relevance[before : before + rows * columns], atol=1e-6)
    labels = found.extras["tokens"][0]
    assert labels[before - 1 : before + 1] == [f"[{before - 1}]", "patch 0,0"]


def test_swin_is_read_over_the_stages_that_attend_to_the_whole_picture() -> None:
    model, images = picture_gallery.made("Swin")
    able = model.capabilities()["attention"]
    assert able.level != "unsupported", able.reason
    assert explainer.explain(model, images[:1], "attention", verify=False).values.shape == (1, *images.shape[1:3])


def test_windows_are_not_taken_for_heads() -> None:
    config = transformers.SwinConfig(
        image_size=16, patch_size=2, num_channels=1, embed_dim=8, depths=[2, 2], num_heads=[2, 4], window_size=4, num_labels=3
    )
    torch.manual_seed(0)
    module = transformers.SwinForImageClassification(config).eval()
    with AttentionTap(2) as tap, torch.no_grad():
        module(torch.rand(2, 1, 16, 16))
    assert [(layer.heads, layer.windows) for layer in tap.layers] == [(2, 4), (2, 4), (4, 1), (4, 1)]


def test_frames_of_a_waveform_are_spread_over_its_steps() -> None:
    class Wave(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = made("wav2vec2")

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x[..., 0]).logits

    steps = Steps(lengths=False, channels_first=False)
    model = explainer.wrap(Wave().eval(), modality="series", preprocess=steps, feature_names=["sound"], class_names=["a", "b", "c"])
    found = run(model, gallery.series((200, 200), 1))
    frames = found.extras["attention"][0].shape[-1]
    assert [len(v) for v in found.values] == [200, 200] and found.axes == ("time",)
    assert found.values[0].sum() == pytest.approx(1) and any(f"{frames} frames" in note for note in found.notes)
    relevance = sum(slow_rollout(found.extras["attention"][0].astype(float), t) for t in range(frames)) / frames
    owner = [math.floor(s * frames / 200) for s in range(200)]
    np.testing.assert_allclose([found.values[0][[o == f for o in owner]].sum() for f in range(frames)], relevance, atol=1e-6)


def test_layers_with_different_numbers_of_heads_stand_side_by_side() -> None:
    class Uneven(gallery.Fused):
        def heads(self, i: int, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            n, tokens, width = h.shape
            parts = self.project[i](h).split([width] * 3, -1)
            return tuple(t.view(n, tokens, 2 + 2 * i, -1).transpose(1, 2) for t in parts)  # type: ignore[return-value]

    found = run(gallery.text(gallery.seeded(Uneven)), gallery.TEXTS)
    assert any("different numbers of heads ([2, 4])" in note for note in found.notes)
    raw = explainer.explain(gallery.text(gallery.seeded(Uneven)), gallery.TEXTS, "attention", kind="raw", verify=False)
    np.testing.assert_array_equal(raw[0].values[0], np.nan_to_num(found.extras["attention"][0]))
    weights = found.extras["attention"][0]
    assert weights.shape[:2] == (2, 4) and np.isnan(weights[0, 2:]).all() and np.isfinite(weights[1]).all()
    averaged = np.stack([weights[0, :2].mean(0, keepdims=True), weights[1].mean(0, keepdims=True)])
    relevance = slow_rollout(averaged.astype(float), 0)
    assert found.values[0].sum() == pytest.approx(1 - relevance[0] - relevance[-1], abs=1e-5)


@pytest.mark.parametrize("method", ["attention", "attention_relevance"])
def test_a_picture_is_judged_drawn_and_kept(method: str, tmp_path: Any) -> None:
    ex = explainer.explain(pictures(), gallery.images(2, 12), method)
    check = ex.verdicts[0].checks["faithfulness"]
    assert check.value is not None and "gradient x input" in check.reason
    assert explainer.plot(ex).data
    ex.save(tmp_path / "ex")
    np.testing.assert_array_equal(explainer.load(tmp_path / "ex").values, ex.values)


def test_a_convolution_in_front_does_not_make_a_grid_of_anything() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cut, self.inner, self.head = nn.Conv2d(1, 8, 4, 4), nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = self.cut(x).flatten(2).transpose(1, 2)
            h = torch.cat([h, h.flip(1), h[:, :2]], 1)  # 20 tokens, which are no grid of a picture of 12 x 12 with a few before it
            return self.head(self.inner(h, h, h)[0].mean(1))

    torch.manual_seed(0)
    model = explainer.wrap(Odd().eval(), modality="image", background=gallery.images(2, 12))
    able = model.capabilities()["attention"]
    assert able.level == "unsupported" and "20 positions" in able.reason
    with pytest.raises(Unsupported, match="20 positions"):
        explainer.explain(model, gallery.images(2, 12), "attention")


def test_frames_of_a_series_with_its_channels_first_are_its_steps() -> None:
    """Whisper reads (channels, steps) and halves the steps; the rollout of its own attention weights says what is right."""

    class Frames:
        equal_only = True

        def __call__(self, series: list[np.ndarray]) -> dict[str, Tensor]:
            return {"input_features": torch.tensor(np.stack(series)).transpose(1, 2)}

    given = [np.random.default_rng(1).normal(size=(20, 6)).astype(np.float32)]
    module = made("whisper", "eager")
    model = explainer.wrap(
        module, modality="series", preprocess=Frames(), feature_names=[f"mel {i}" for i in range(6)], class_names=["a", "b", "c"]
    )
    ex = explainer.explain(model, given, "attention", readout="mean", verify=False)
    with torch.no_grad():
        weights = module(**Frames()(given), output_attentions=True).attentions
    reading = np.full(10, 0.1)
    for layer in weights[::-1]:
        reading = reading @ (layer[0].mean(0).double().numpy() / 2 + np.eye(10) / 2)
    np.testing.assert_allclose(ex.values[0], np.repeat(reading, 2) / 2, atol=1e-6)
    assert any("over 10 frames" in note for note in ex.provenance.notes)
