"""The gallery's models with embeddings and attention, and tiny transformers made from their configurations with random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch_gallery as gallery
from model_kinds import GALLERY, Entry, entry, picture, seeded, steps, words
from torch import Tensor, nn

from explainer.adapters.encoding import Steps

# -- attention over tokens -----------------------------------------------------------------------------------------------------------


class Pooled(gallery.Head):
    """Embeddings, a bag of words."""

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.read(torch.tanh(self.embed(ids)), mask)


@entry("embeddings alone")
def _embeddings() -> Entry:
    return words(seeded(lambda: Pooled(readout="mean")))


class Additive(gallery.Head):
    """One softmax over the tokens, as in older recurrent networks."""

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        h = torch.tanh(self.embed(ids))
        weights = h.mean(-1).masked_fill(~mask, -1e9).softmax(-1)
        return self.head((weights[..., None] * h).sum(1))


@entry("embeddings and additive attention")
def _additive() -> Entry:
    return words(seeded(Additive))


class TwoTables(gallery.Head):
    """The same ids looked up in two tables: a wide part and a deep part."""

    def __init__(self) -> None:
        super().__init__(readout="mean")
        self.wide = nn.Embedding(40, 3)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.read(torch.tanh(self.embed(ids)), mask) + (self.wide(ids) * mask[..., None]).sum(1)


@entry("two embedding tables")
def _two_tables() -> Entry:
    return words(seeded(TwoTables))


class SlowEncoder(gallery.Encoder):
    """nn.TransformerEncoder with a hook, which keeps it off its fast path."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.encoder.enable_nested_tensor = False
        self.encoder.layers[0].self_attn.register_forward_hook(lambda *_: None)


@entry("transformer encoder, fast path")
def _fast() -> Entry:
    return words(gallery.seeded(gallery.Encoder))


@entry("transformer encoder, slow path")
def _slow() -> Entry:
    return words(seeded(SlowEncoder))


@entry("fused attention, padding mask")
def _padded() -> Entry:
    return words(gallery.seeded(gallery.Fused, readout="mean"))


@entry("fused attention, causal mask")
def _causal() -> Entry:
    return words(gallery.seeded(gallery.Fused, causal=True, float_mask=True, readout="mean"))


@entry("fused attention, grouped heads")
def _grouped() -> Entry:
    return words(gallery.seeded(gallery.Fused, grouped=True))


# -- transformers ------------------------------------------------------------


class HuggingPieces(gallery.Pieces):
    """The same pieces under the names that transformers models take."""

    def __call__(self, texts: list[str]) -> dict[str, Tensor]:
        encoded = super().__call__(texts)
        return {"input_ids": encoded["ids"], "attention_mask": encoded["mask"].long()}


def hugging(architecture: str, **options: Any) -> nn.Module:
    """``architecture`` (a class of transformers) from its own configuration class, tiny and random."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    kind = getattr(transformers, architecture)
    torch.manual_seed(0)
    return kind(kind.config_class(num_labels=3, **options)).eval()


_SMALL = {"vocab_size": 40, "pad_token_id": 0, "max_position_embeddings": 66}
# The default spread of the weights, 0.02, would make random models of this width all but constant.
_SPREAD = {"initializer_range": 0.4}
_WIDE = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 32} | _SPREAD
_VIEW = {"image_size": 32, "num_channels": 3}

_TEXT: dict[str, tuple[str, dict[str, Any]]] = {
    "BERT": ("BertForSequenceClassification", _SMALL | _WIDE),
    "DistilBERT": ("DistilBertForSequenceClassification", _SMALL | {"dim": 16, "n_heads": 2, "n_layers": 2, "hidden_dim": 32} | _SPREAD),
    "RoBERTa": ("RobertaForSequenceClassification", _SMALL | _WIDE),
    "ALBERT": ("AlbertForSequenceClassification", _SMALL | _WIDE | {"embedding_size": 8}),
    "ELECTRA": ("ElectraForSequenceClassification", _SMALL | _WIDE | {"embedding_size": 8}),
    "DeBERTa": (
        "DebertaForSequenceClassification",
        _SMALL | _WIDE | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False, "type_vocab_size": 0},
    ),
    "DeBERTa-v2": (
        "DebertaV2ForSequenceClassification",
        _SMALL | _WIDE | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8, "norm_rel_ebd": "layer_norm"},
    ),
    "GPT-2": (
        "GPT2ForSequenceClassification",
        {"vocab_size": 40, "pad_token_id": 0, "n_positions": 66, "n_embd": 16, "n_head": 2, "n_layer": 2, "eos_token_id": 2}
        | _SPREAD,
    ),
    "Llama": ("LlamaForSequenceClassification", _SMALL | _WIDE | {"num_key_value_heads": 1}),
    "Mistral": ("MistralForSequenceClassification", _SMALL | _WIDE | {"num_key_value_heads": 1, "sliding_window": 4}),
    "T5": (
        "T5ForSequenceClassification",
        {"vocab_size": 40, "pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 0, "d_model": 16, "d_kv": 8, "d_ff": 32,
         "num_layers": 2, "num_heads": 2},
    ),
}  # fmt: skip
_PICTURE: dict[str, tuple[str, dict[str, Any]]] = {
    "ViT": ("ViTForImageClassification", _VIEW | _WIDE | {"patch_size": 8}),
    "Swin": (
        "SwinForImageClassification",
        _VIEW | {"patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4, "initializer_range": 0.4},
    ),
    "ConvNeXt": (
        "ConvNextForImageClassification",
        {"num_channels": 3, "patch_size": 4, "num_stages": 2, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_scale_init_value": 0.5,
         "initializer_range": 0.4},
    ),
    "ResNet": (
        "ResNetForImageClassification",
        {"num_channels": 3, "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
    ),
}  # fmt: skip


def _text_entry(architecture: str, options: dict[str, Any]) -> Callable[[], Entry]:
    return lambda: words(hugging(architecture, **options), HuggingPieces())


def _picture_entry(architecture: str, options: dict[str, Any]) -> Callable[[], Entry]:
    return lambda: picture(hugging(architecture, **options), size=32, channels=3)


GALLERY |= {name: _text_entry(*made_of) for name, made_of in _TEXT.items()}
GALLERY |= {name: _picture_entry(*made_of) for name, made_of in _PICTURE.items()}


class Pooling(nn.Module):
    """The encoder of a sequence-to-sequence model with a linear head on the mean of its states."""

    def __init__(self, encoder: nn.Module, width: int = 16) -> None:
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(width, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return self.head((states * attention_mask[..., None]).sum(1) / attention_mask.sum(1, keepdim=True))


@entry("T5 encoder")
def _t5_encoder() -> Entry:
    options = {key: value for key, value in _TEXT["T5"][1].items() if key != "decoder_start_token_id"}
    return words(seeded(lambda: Pooling(hugging("T5EncoderModel", **options))), HuggingPieces())


class Waveform(nn.Module):
    """An audio model that takes ``(n, T)`` behind the face of a series of one channel."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Any:
        return self.inner(x[..., 0])


@entry("Wav2Vec2")
def _wav2vec2() -> Entry:
    inner = hugging(
        "Wav2Vec2ForSequenceClassification", **_WIDE, conv_dim=(8, 8), conv_stride=(4, 2), conv_kernel=(8, 3), num_feat_extract_layers=2,
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, classifier_proj_size=8,
    )  # fmt: skip
    return steps(Waveform(inner), (96, 96), channels=1, preprocess=Steps(lengths=False, channels_first=False))


@entry("Whisper encoder")
def _whisper() -> Entry:
    module = hugging(
        "WhisperForAudioClassification", d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=32, decoder_layers=1,
        decoder_attention_heads=2, decoder_ffn_dim=32, num_mel_bins=4, max_source_positions=16, classifier_proj_size=8, vocab_size=40,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1, init_std=0.4,
    )  # fmt: skip
    return steps(module, (32, 32), channels=4)
