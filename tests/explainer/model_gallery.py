"""Small seeded models of the kinds people have, each with inputs: what every method is held on.

``GALLERY[name]()`` makes ``(model, inputs)`` anew; ``made(name)`` keeps it. Nothing is downloaded: the transformers are made
from their configurations, with random weights.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torch_gallery as gallery
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.nn.utils.rnn import pack_padded_sequence

import explainer

Entry = tuple[explainer.Model, Any]
GALLERY: dict[str, Callable[[], Entry]] = {}
ROWS = 2


def entry(name: str) -> Callable[[Callable[[], Entry]], Callable[[], Entry]]:
    def keep(make: Callable[[], Entry]) -> Callable[[], Entry]:
        GALLERY[name] = make
        return make

    return keep


@cache
def made(name: str) -> Entry:
    """The entry ``name``, made once; the test is skipped where it needs what is not installed."""
    return GALLERY[name]()


# -- the four kinds of input -------------------------------------------------------------------------------------------------


def table(module: nn.Module, task: Any = None, outputs: int = 3, preprocess: Any = None, returns: Any = None) -> Entry:
    word = "output" if task == "regression" else "class"
    model = explainer.wrap(
        module, modality="tabular", background=gallery.table(12, seed=1), task=task, preprocess=preprocess, returns=returns,
        class_names=[f"{word} {i}" for i in range(outputs)],
    )  # fmt: skip
    return model, gallery.table(ROWS)


def picture(module: nn.Module, size: int = 8, channels: int = 1, preprocess: Any = None, outputs: int = 3) -> Entry:
    shape = (size, size) if channels == 1 else (size, size, channels)
    pictures = np.random.default_rng(0).random((ROWS + 1, *shape)).astype(np.float32)
    names = [f"class {i}" for i in range(outputs)]
    return explainer.wrap(module, modality="image", preprocess=preprocess, background=pictures[ROWS:], class_names=names), pictures[:ROWS]


def steps(module: nn.Module, lengths: tuple[int, ...] = (5, 7), channels: int = 3, outputs: int = 3) -> Entry:
    background = gallery.series(lengths[:1], channels, seed=1)
    names = [f"class {i}" for i in range(outputs)]
    return explainer.wrap(module, modality="series", background=background, class_names=names), gallery.series(lengths, channels)


def words(module: nn.Module, preprocess: Any = None, outputs: int = 3) -> Entry:
    names = [f"class {i}" for i in range(outputs)]
    model = explainer.wrap(module, modality="text", preprocess=preprocess or gallery.Pieces(), class_names=names)
    return model, ["redistribution and use", "Don't sell the licence!"]


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return make().eval()


# -- feed-forward ----------------------------------------------------------------------------------------------------------------


class Feed(nn.Module):
    """Two layers, and between them any function: ``F.relu``, one shared module, an in-place call."""

    def __init__(self, function: Callable[[Tensor], Tensor], outputs: int = 3) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(5, 12), nn.Linear(12, 12), nn.Linear(12, outputs)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.second(self.function(self.first(x)))))


@entry("functional relu")
def _functional() -> Entry:
    return table(seeded(lambda: Feed(F.relu)))


@entry("relu reused")
def _reused() -> Entry:
    return table(seeded(lambda: Feed(nn.ReLU())))


@entry("relu in place")
def _in_place() -> Entry:
    return table(
        seeded(lambda: nn.Sequential(nn.Linear(5, 12), nn.ReLU(inplace=True), nn.Linear(12, 12), nn.ReLU(inplace=True), nn.Linear(12, 3)))
    )


@entry("functional in place")
def _functional_in_place() -> Entry:
    return table(seeded(lambda: Feed(lambda x: F.relu(x, inplace=True))))


class Overwriting(Feed):
    """Arithmetic in place, on the input itself too."""

    def forward(self, x: Tensor) -> Tensor:
        x.mul_(2)
        h = self.first(x)
        h += 0.5
        h.relu_()
        return self.last(self.second(h).sigmoid_())


@entry("arithmetic in place")
def _overwriting() -> Entry:
    return table(seeded(lambda: Overwriting(torch.relu)))


@entry("layer norm and gelu")
def _normed() -> Entry:
    return table(
        seeded(lambda: nn.Sequential(nn.Linear(5, 12), nn.LayerNorm(12), nn.GELU(), nn.Linear(12, 12), nn.LayerNorm(12), nn.Linear(12, 3)))
    )


@entry("softmax at the end")
def _probabilities() -> Entry:
    return table(gallery.mlp(final=nn.Softmax(1)))


@entry("linear")
def _linear() -> Entry:
    return table(seeded(lambda: nn.Linear(5, 3)))


@entry("regression of several outputs")
def _regression() -> Entry:
    return table(gallery.mlp(outputs=2), task="regression", outputs=2)


@entry("one logit for two classes")
def _binary() -> Entry:
    return table(gallery.mlp(outputs=1), outputs=2, returns="logit", task="classification")


class TwoInputs(nn.Module):
    """Takes some columns by one argument and some by another."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.last = nn.Linear(2, 8), nn.Linear(3, 8), nn.Linear(8, 3)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.last(torch.tanh(self.left(left) * self.right(right)))


@entry("two inputs")
def _two_inputs() -> Entry:
    def split(frame: Any) -> dict[str, Tensor]:
        whole = torch.tensor(frame.to_numpy(dtype=np.float32))
        return {"left": whole[:, :2], "right": whole[:, 2:]}

    return table(seeded(TwoInputs), preprocess=split)


@entry("dict output")
def _dict() -> Entry:
    return table(gallery.Container(gallery.mlp(), "dict"))


@entry("tuple output")
def _tuple() -> Entry:
    return table(gallery.Container(gallery.mlp(), "tuple"))


@entry("dataclass output")
def _dataclass() -> Entry:
    return table(gallery.Container(gallery.mlp(), "dataclass"))


class Branching(nn.Module):
    """Which way a batch goes, and how often, depends on its values; torch.fx cannot trace it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.last = nn.Linear(5, 12), nn.Linear(12, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        rows = []
        for row in h.unbind(0):
            for _ in range(1 + int(row.sum() > 0)):
                row = F.relu(self.again(row))
            rows.append(row)
        return self.last(torch.stack(rows))


@entry("control flow")
def _branching() -> Entry:
    return table(seeded(Branching))


class Tied(nn.Module):
    """One weight matrix used there and, transposed, back."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 12), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x))
        return self.last(torch.relu(h @ self.first.weight))


@entry("tied weights")
def _tied() -> Entry:
    return table(seeded(Tied))


@entry("spectral and weight norm")
def _parametrised() -> Entry:
    return table(seeded(lambda: nn.Sequential(spectral_norm(nn.Linear(5, 12)), nn.ReLU(), weight_norm(nn.Linear(12, 3)))))


@entry("frozen backbone")
def _frozen() -> Entry:
    module = gallery.mlp()
    for layer in list(module)[:-1]:
        layer.requires_grad_(False)
    return table(module)


@entry("frozen whole")
def _all_frozen() -> Entry:
    return table(gallery.mlp().requires_grad_(False))


@entry("bfloat16")
def _bfloat16() -> Entry:
    return table(gallery.mlp().bfloat16())


@entry("float64")
def _float64() -> Entry:
    return table(gallery.mlp().double())


@entry("compiled")
def _compiled() -> Entry:
    compiled = torch.compile(gallery.mlp(), backend="eager", dynamic=True)  # the eager backend needs no C++ compiler
    try:
        with torch.no_grad():
            compiled(torch.zeros(2, 5))
    except Exception as error:
        pytest.skip(f"torch.compile does not work here: {type(error).__name__}: {error}")
    return table(compiled)  # type: ignore[arg-type]


@entry("data parallel")
def _parallel() -> Entry:
    return table(nn.DataParallel(gallery.mlp()))


class Random(nn.Module):
    """Dropout that its author forgot to switch off outside training."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.dropout(torch.relu(self.first(x)), 0.3))


@entry("dropout always on")
def _random() -> Entry:
    return table(seeded(Random))


@entry("rows mixed")
def _mixed() -> Entry:
    return table(
        seeded(lambda: nn.Sequential(nn.Linear(5, 12), nn.BatchNorm1d(12, track_running_stats=False), nn.ReLU(), nn.Linear(12, 3)))
    )


class Detached(Feed):
    """Leaves autograd on the way."""

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.from_numpy(np.tanh(self.first(x).detach().numpy())))


@entry("cut off by numpy")
def _detached() -> Entry:
    return table(seeded(lambda: Detached(torch.relu)))


# -- convolution -----------------------------------------------------------------------------------------------------------------


def normed(channels: int) -> nn.Module:
    """Batch norm with statistics that differ from the defaults."""
    norm = nn.BatchNorm2d(channels)
    norm.running_mean, norm.running_var = torch.randn(channels) / 5, torch.rand(channels) + 0.5
    return norm


@entry("batch norm in eval mode")
def _batchnorm_eval() -> Entry:
    return picture(gallery.convnet(), outputs=4)


@entry("batch norm in train mode")
def _batchnorm_train() -> Entry:
    return picture(gallery.convnet().train(), outputs=4)


class Residual(nn.Module):
    """Residual and dense connections, a depthwise convolution, one ReLU for all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 6, 3, padding=1), normed(6)
        self.depthwise, self.pointwise = nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.Conv2d(6, 6, 1)
        self.dense, self.relu = nn.Conv2d(12, 8, 3, padding=1), nn.ReLU(inplace=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.relu(self.norm(self.stem(x)))
        h = h + self.pointwise(self.relu(self.depthwise(h)))
        h = self.relu(self.dense(torch.cat([h, F.silu(h)], 1)))
        return self.head(F.adaptive_avg_pool2d(h, 1).flatten(1))


@entry("residual, dense and depthwise")
def _residual() -> Entry:
    return picture(seeded(Residual))


class Standardised(nn.Module):
    """Preprocessing inside the module, group norm, average and maximum pooling, colour pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.last = nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.norm(self.conv((x - 0.5) / 0.25)))
        return self.last(F.avg_pool2d(h, 2).amax((2, 3)))


@entry("colour pictures and group norm")
def _colour() -> Entry:
    return picture(seeded(Standardised), channels=3)


# -- series ------------------------------------------------------------------------------------------------------------------------


class Recurrent(nn.Module):
    """A recurrent layer read out at its last step; packed where lengths are given."""

    def __init__(self, kind: type[nn.RNNBase], packed: bool = False, **options: Any) -> None:
        super().__init__()
        self.rnn = kind(3, 6, batch_first=True, **options)
        self.head = nn.Linear(12 if options.get("bidirectional") else 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


class Packed(Recurrent):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:  # type: ignore[override]
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return self.head(self.rnn(packed)[1][-1])


@entry("lstm")
def _lstm() -> Entry:
    return steps(seeded(lambda: Recurrent(nn.LSTM)))


@entry("gru of two layers, both ways")
def _gru() -> Entry:
    return steps(seeded(lambda: Recurrent(nn.GRU, num_layers=2, bidirectional=True)))


@entry("lstm packed, both ways")
def _packed_lstm() -> Entry:
    return steps(gallery.lstm())


@entry("gru packed")
def _packed_gru() -> Entry:
    return steps(seeded(lambda: Packed(nn.GRU)))


class Cell(nn.Module):
    """A loop over a recurrent cell."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTMCell(3, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        state = (x.new_zeros(len(x), 6), x.new_zeros(len(x), 6))
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
        return self.head(state[0])


@entry("lstm cell")
def _cell() -> Entry:
    return steps(seeded(Cell))


@entry("convolution over time")
def _temporal() -> Entry:
    return steps(seeded(lambda: nn.Sequential(nn.Conv1d(3, 6, 3), nn.ReLU(), nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(6, 3))))


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


# -- transformers ---------------------------------------------------------------------------------------------------------------------


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
_WIDE = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 32}
_VIEW = {"image_size": 32, "num_channels": 3}

_TEXT: dict[str, tuple[str, dict[str, Any]]] = {
    "BERT": ("BertForSequenceClassification", _SMALL | _WIDE),
    "DistilBERT": ("DistilBertForSequenceClassification", _SMALL | {"dim": 16, "n_heads": 2, "n_layers": 2, "hidden_dim": 32}),
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
        {"vocab_size": 40, "pad_token_id": 0, "n_positions": 66, "n_embd": 16, "n_head": 2, "n_layer": 2},
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
        _VIEW | {"patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4},
    ),
    "ConvNeXt": (
        "ConvNextForImageClassification",
        {"num_channels": 3, "patch_size": 4, "num_stages": 2, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_scale_init_value": 0.5},
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
    return steps(Waveform(inner), (96, 96), channels=1)


@entry("Whisper encoder")
def _whisper() -> Entry:
    module = hugging(
        "WhisperForAudioClassification", d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=32, decoder_layers=1,
        decoder_attention_heads=2, decoder_ffn_dim=32, num_mel_bins=4, max_source_positions=16, classifier_proj_size=8, vocab_size=40,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    return steps(module, (32, 32), channels=4)
