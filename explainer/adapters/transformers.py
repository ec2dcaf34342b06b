"""Adapter for ``transformers``: a pipeline, or a model with its tokenizer, image processor or feature extractor."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from explainer.adapters.generation import Continued
from explainer.adapters.heads import LanguageModel, TokenClassifier, TransformersModel
from explainer.adapters.signals import Pictures, Waves
from explainer.adapters.tokens import LastToken, Tokens, check_tokenizer, limit_of, padding_of
from explainer.adapters.torch import _padding_counts, unwrapped, wrap_torch
from explainer.errors import InvalidInput, Unsupported
from explainer.model import Model

_PROCESSORS = {"PreTrainedTokenizerBase": "text", "ImageProcessingMixin": "image", "FeatureExtractionMixin": "series"}
_HEADS = {
    "text": ("ForSequenceClassification", "ForTokenClassification", "ForCausalLM", "LMHeadModel", "ForConditionalGeneration"),
    "image": ("ForImageClassification",),
    "series": ("ForSequenceClassification", "ForAudioClassification"),
}
_PIPELINES = {
    "TextClassificationPipeline": "tokenizer", "TokenClassificationPipeline": "tokenizer", "TextGenerationPipeline": "tokenizer",
    "ImageClassificationPipeline": "image_processor", "AudioClassificationPipeline": "feature_extractor",
}  # fmt: skip


def wrap_transformers(obj: Any, *, device: Any = None, **options: Any) -> Model:
    """Wrap a pipeline, or ``(model, tokenizer)``, ``(model, image processor)``, ``(model, feature extractor)``; see :func:`explainer.wrap`.

    Text, image and audio classification, token classification (see :class:`TokenClassifier`) and language models (see
    :class:`LanguageModel`). Class names, what the logits mean, padding and lengths are read from the model's configuration.
    The model is left as it is: mode, device, dtype and attention implementation. Raises Unsupported for another head.
    """
    module, processor, settings = _parts(obj)
    core = unwrapped(module)
    if device is not None and torch.device(device) != next(core.parameters()).device:
        module = core = copy.deepcopy(core).to(device)
    modality, head = _kind(core, processor)
    if options.get("preprocess") is not None:
        return wrap_torch(module, **{**options, "modality": options["modality"] or modality})
    if options["modality"] not in (None, modality):
        raise InvalidInput(f"{type(processor).__name__} makes inputs of modality {modality!r}, and modality={options['modality']!r} came.")
    names = _names(core, head, settings, modality, options)
    takes = _takes(core)
    if modality == "text":
        made = _text_model(module, core, head, _tokens(core, processor, takes, head, settings), names)
        probe = made.at(0) if isinstance(made, TokenClassifier) else made
        made.padding_counts = _padding_counts(probe, made.background)
        return made
    channels = getattr(core.config, "num_channels", 3)
    return TransformersModel(module, Pictures(processor, channels) if modality == "image" else Waves(processor, takes), **names)


def _text_model(module: nn.Module, core: Any, head: str, tokens: Tokens, names: dict[str, Any]) -> TransformersModel:
    if head == "ForTokenClassification":
        return TokenClassifier(module, tokens, **names)
    if head == "ForSequenceClassification":
        model = TransformersModel(module, tokens, **names)
        _held_against_the_module(model)
        return model
    start = getattr(core.config, "decoder_start_token_id", None) if getattr(core.config, "is_encoder_decoder", False) else None
    if start is None and getattr(core.config, "is_encoder_decoder", False):
        raise InvalidInput("The encoder-decoder's config has no decoder_start_token_id; set it, so that decoding can begin.")
    names |= {"task": "regression", "returns": "value", "class_names": ["most probable next token"]}
    return LanguageModel(module, Continued(tokens, start_id=start), **names)


def _held_against_the_module(model: TransformersModel) -> None:
    """A classifier whose last token is read here must say what it says itself, alone with one text."""
    if not isinstance(model.preprocess, LastToken):
        return
    with model.scoring():
        arguments = model.encode(["probe"])
        ours = model.forward(arguments, core=True)
        own = Tokens.read(model.preprocess, arguments, model.core)
    own = own["logits"] if "logits" in own else own[0]
    if not torch.allclose(ours, own, atol=1e-5, rtol=1e-4):
        raise Unsupported(
            f"{type(model.core).__name__} has no padding id and takes one text at a time. Set model.config.pad_token_id = "
            "tokenizer.pad_token_id."
        )


def _parts(obj: Any) -> tuple[nn.Module, Any, Mapping[str, Any]]:
    """The module, what prepares its inputs, and the settings a pipeline was made with."""
    if isinstance(obj, tuple):
        return obj[0], obj[1], {}
    kinds = [c.__name__ for c in type(obj).__mro__]
    part = next((_PIPELINES[kind] for kind in kinds if kind in _PIPELINES), None)
    if part is None:
        raise Unsupported(
            f"{type(obj).__name__} cannot be explained yet; those of {', '.join(_PIPELINES)} can. Pass a function of the inputs that "
            "returns (n, outputs) scores to wrap()."
        )
    settings = {**getattr(obj, "_preprocess_params", {}), **getattr(obj, "_postprocess_params", {})}
    return obj.model, getattr(obj, part), settings


def _kind(core: Any, processor: Any) -> tuple[str, str]:
    """Modality and head, by the names of the classes."""
    kinds = [c.__name__ for c in type(processor).__mro__]
    modality = next((m for kind, m in _PROCESSORS.items() if kind in kinds), None)
    if modality is None:
        raise Unsupported(
            f"{type(processor).__name__} is no tokenizer, image processor or feature extractor; pass (model, tokenizer), or the part of a "
            "processor that the model's inputs need."
        )
    names = [c.__name__ for c in type(core).__mro__]
    head = next((head for name in names for head in _HEADS[modality] if head in name), None)
    if head is None or not hasattr(core, "config"):
        valid = ", ".join(_HEADS[modality])
        raise Unsupported(f"{type(core).__name__} has none of the heads that can be explained with a {type(processor).__name__}: {valid}.")
    return modality, head


def _takes(core: nn.Module) -> tuple[str, ...]:
    return tuple(inspect.signature(core.forward).parameters)


def _tokens(core: Any, tokenizer: Any, takes: Sequence[str], head: str, settings: Mapping[str, Any]) -> Tokens:
    if settings.get("is_split_into_words"):
        raise Unsupported("A pipeline with is_split_into_words=True takes lists of words; make it without, and pass texts.")
    embedding = core.get_input_embeddings()
    size = getattr(embedding, "num_embeddings", len(tokenizer))
    check_tokenizer(tokenizer, size)
    config = core.config.get_text_config() if hasattr(core.config, "get_text_config") else core.config
    pad = padding_of(config, size)
    generates = head not in ("ForSequenceClassification", "ForTokenClassification")
    options, limit = {}, limit_of(config, tokenizer, core)
    if settings.get("add_special_tokens") is not None:
        options["add_special_tokens"] = settings["add_special_tokens"]
    if settings.get("max_length") and not generates:  # of a text that is generated it is the length in all
        limit = min(limit, int(settings["max_length"]))
    lone = head == "ForSequenceClassification" and pad is None and hasattr(core, "score")
    keep = "end" if generates and not getattr(config, "is_encoder_decoder", False) else "start"
    return (LastToken if lone else Tokens)(tokenizer, takes, limit, pad, keep, options)


def _names(core: Any, head: str, settings: Mapping[str, Any], modality: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Class names and what the logits mean, as the pipelines read them from the configuration; the caller's word goes first."""
    config = core.config
    count = int(getattr(config, "num_labels", 1))
    labels = getattr(config, "id2label", None) or {}
    task, returns = "classification", "logit"
    if head != "ForTokenClassification":
        applied = settings.get("function_to_apply")
        applied = str(getattr(applied, "value", applied)).lower() if applied is not None else ""
        problem = getattr(config, "problem_type", None)
        if applied == "none" or (not applied and problem == "regression"):
            task, returns = "regression", "value"
        elif applied == "sigmoid" or (not applied and (problem == "multi_label_classification" or count == 1)):
            returns = "independent"
    if options.get("task") == "regression":
        returns = "value"
    class_names = options.get("class_names") or [str(labels.get(i, f"class {i}")) for i in range(count)]
    if count == 1 and len(class_names) == 2 and task == "classification":
        returns = "logit"  # one logit, and the caller names both classes
    elif len(class_names) != count:
        raise InvalidInput(
            f"The model has {count} labels, but {len(class_names)} class_names came ({', '.join(map(str, class_names[:6]))})."
        )
    features = options.get("feature_names") or (("amplitude",) if modality == "series" else ())
    return {
        "modality": modality, "class_names": class_names, "feature_names": features, "task": options.get("task") or task,
        "returns": options.get("returns") or returns, "background": options.get("background"),
        "name": options.get("name") or type(core).__name__,
    }  # fmt: skip
