"""Tiny random-weight models of transformers with tokenizers, processors and extractors made here: nothing is downloaded."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

TEXTS = [
    "Permission is hereby granted, free of charge, to any person.",
    "redistribution and use",
    "Don't sell software licences without the author's written-permission!",
    "granted",
]
PLAIN = ["input_ids", "attention_mask"]  # what tokenizers of models without segment ids give
CORPUS = [*TEXTS, "the person in Paris and the author in London", "charge free software to any use"] * 4
LABELS = {0: "low", 1: "middle", 2: "high"}
SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


WORDS = sorted(set(re.findall(r"\w+", " ".join(CORPUS))))
LETTERS = sorted(set("".join(CORPUS)) - {" "} | set("abcdefghijklmnopqrstuvwxyz"))


def wordpiece(max_length: int = 64) -> PreTrainedTokenizerFast:
    """As BERT's: [CLS] and [SEP] around pieces of lower-case words."""
    low = sorted({letter.lower() for letter in LETTERS})
    pieces = sorted({word.lower()[:4] for word in WORDS} | {f"##{word.lower()[4:]}" for word in WORDS if len(word) > 4})
    vocabulary = dict.fromkeys([*SPECIAL, *low, *(f"##{letter}" for letter in low), *pieces])
    backend = Tokenizer(models.WordPiece({piece: k for k, piece in enumerate(vocabulary)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    backend.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends)
    named = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=max_length, **named)


def bytelevel(roberta: bool = False) -> PreTrainedTokenizerFast:
    """As GPT-2's, with one special token, which it never adds; or as RoBERTa's, with <s> and </s> around."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"] if roberta else ["<|endoftext|>"]
    merges = {}
    for word in WORDS:
        written = f"\u0120{word[:4]}"  # a space and the first letters become one token, letter by letter
        for k in range(1, len(written)):
            merges[written[:k], written[k]] = written[: k + 1]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = dict.fromkeys([*special, *alphabet, *merges.values()])
    backend = Tokenizer(models.BPE({piece: k for k, piece in enumerate(vocabulary)}, list(merges)))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    if not roberta:
        backend.post_processor = processors.ByteLevel(trim_offsets=False)
        named = {"eos_token": "<|endoftext|>", "bos_token": "<|endoftext|>"}
    else:
        backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False)
        named = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>"}
        named |= {"pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_input_names=PLAIN, **named)


def unigram(begin: bool = False) -> PreTrainedTokenizerFast:
    """As T5's (</s> at the end), or as Llama's (<s> in front): pieces that carry the space before them."""
    special = ["<pad>", "</s>", "<unk>", "<s>"]
    pieces = dict.fromkeys([f"\u2581{word[:4]}" for word in WORDS], -3.0) | dict.fromkeys((word[4:] for word in WORDS if word[4:]), -4.0)
    scores = dict.fromkeys(special, 0.0) | dict.fromkeys(["\u2581", *LETTERS], -6.0) | pieces
    backend = Tokenizer(models.Unigram(list(scores.items()), unk_id=2))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    ends = [("<s>", 3), ("</s>", 1)]
    backend.post_processor = processors.TemplateProcessing(single="<s> $A" if begin else "$A </s>", special_tokens=ends)
    named = {"eos_token": "</s>", "unk_token": "<unk>", "bos_token": "<s>", **({} if begin else {"pad_token": "<pad>"})}
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_input_names=PLAIN, **named)


def made(kind: str, config: Any, head: str, seed: int = 0) -> Any:
    """A seeded model in eval mode, its weights large enough that scores differ."""
    torch.manual_seed(seed)
    model = getattr(transformers, f"{kind}{head}")(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and kind not in ("ResNet", "T5"):
                parameter.mul_(20 if name.startswith(("classifier", "score")) and "dense" not in name else 3)
    return model


def labelled(**more: Any) -> dict[str, Any]:
    return {"id2label": dict(LABELS), "label2id": {v: k for k, v in LABELS.items()}, **more}


def bert(head: str = "ForSequenceClassification", **more: Any) -> tuple[Any, Any]:
    tokenizer = wordpiece()
    config = transformers.BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **SIZE, **labelled(**more))
    return made("Bert", config, head), tokenizer


def distilbert(head: str = "ForSequenceClassification") -> tuple[Any, Any]:
    tokenizer = wordpiece()
    tokenizer.model_input_names = PLAIN
    config = transformers.DistilBertConfig(
        vocab_size=len(tokenizer), max_position_embeddings=64, dim=32, n_layers=2, n_heads=4, hidden_dim=48, **labelled()
    )
    return made("DistilBert", config, head), tokenizer


def roberta(head: str = "ForSequenceClassification") -> tuple[Any, Any]:
    tokenizer = bytelevel(roberta=True)
    config = transformers.RobertaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=66, pad_token_id=tokenizer.pad_token_id, **SIZE, **labelled()
    )
    return made("Roberta", config, head), tokenizer


def deberta(head: str = "ForSequenceClassification") -> tuple[Any, Any]:
    tokenizer = wordpiece()
    config = transformers.DebertaV2Config(
        vocab_size=len(tokenizer), max_position_embeddings=64, relative_attention=True, pos_att_type=["p2c", "c2p"], **SIZE, **labelled()
    )
    return made("DebertaV2", config, head), tokenizer


def gpt2(head: str = "LMHeadModel", pad: int | None = None) -> tuple[Any, Any]:
    tokenizer = bytelevel()
    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": pad}
    config = transformers.GPT2Config(vocab_size=len(tokenizer), n_positions=64, n_embd=32, n_layer=2, n_head=4, **ends, **labelled())
    return made("GPT2", config, head), tokenizer


def llama(head: str = "ForCausalLM") -> tuple[Any, Any]:
    tokenizer = unigram(begin=True)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=64, num_key_value_heads=2, pad_token_id=None, bos_token_id=3, eos_token_id=1,
        **SIZE, **labelled(),
    )  # fmt: skip
    return made("Llama", config, head), tokenizer


def t5(head: str = "ForConditionalGeneration") -> tuple[Any, Any]:
    tokenizer = unigram()
    config = transformers.T5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=0, pad_token_id=0,
        eos_token_id=1, **labelled(),
    )  # fmt: skip
    return made("T5", config, head), tokenizer


def bart(head: str = "ForConditionalGeneration") -> tuple[Any, Any]:
    tokenizer = bytelevel(roberta=True)
    config = transformers.BartConfig(
        vocab_size=len(tokenizer), max_position_embeddings=64, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, pad_token_id=tokenizer.pad_token_id, bos_token_id=0,
        eos_token_id=2, decoder_start_token_id=2, forced_eos_token_id=None, **labelled(),
    )  # fmt: skip
    return made("Bart", config, head), tokenizer


TEXT_CLASSIFIERS = {
    "bert": bert, "distilbert": distilbert, "roberta": roberta, "deberta": deberta,
    "gpt2": lambda: gpt2("ForSequenceClassification"), "gpt2-pad": lambda: gpt2("ForSequenceClassification", 0),
    "llama": lambda: llama("ForSequenceClassification"),
}  # fmt: skip


def vit(size: int = 24) -> tuple[Any, Any]:
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    config = transformers.ViTConfig(image_size=size, patch_size=8, **SIZE, **labelled())
    return made("ViT", config, "ForImageClassification"), ViTImageProcessorPil(size={"height": size, "width": size})


def resnet() -> tuple[Any, Any]:
    from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil

    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic", **labelled())
    return made("ResNet", config, "ForImageClassification"), ConvNextImageProcessorPil(size={"shortest_edge": 28})


def wav2vec2() -> tuple[Any, Any]:
    config = transformers.Wav2Vec2Config(
        conv_dim=(16, 16), conv_kernel=(10, 4), conv_stride=(5, 4), num_feat_extract_layers=2, num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2, classifier_proj_size=16, vocab_size=12, **SIZE, **labelled(),
    )  # fmt: skip
    return made("Wav2Vec2", config, "ForSequenceClassification"), transformers.Wav2Vec2FeatureExtractor(return_attention_mask=False)


TASKS = {
    "tokenizer": "text-classification", "image_processor": "image-classification", "feature_extractor": "audio-classification",
}  # fmt: skip


def pipeline(pair: tuple[Any, Any], part: str = "tokenizer", **options: Any) -> Any:
    return transformers.pipeline(TASKS[part], model=pair[0], **{part: pair[1]}, **options)


def by_class(pipe: Any, one: Any, names: tuple[str, ...]) -> np.ndarray:
    """The scores a pipeline gives to one input, in the order of the classes."""
    found = pipe(one)
    found = found[0] if isinstance(found[0], list) else found
    return np.array([{entry["label"]: entry["score"] for entry in found}[name] for name in names])


def module_scores(pair: tuple[Any, Any], text: str, **options: Any) -> np.ndarray:
    """The logits of the bare module at one text."""
    with torch.no_grad():
        return pair[0](**pair[1](text, return_tensors="pt", **options)).logits.numpy()
