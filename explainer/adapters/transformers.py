"""Adapter for ``transformers``: a pipeline, or a model with its tokenizer, image processor or feature extractor."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from explainer.adapters.anatomy import Anatomy
from explainer.adapters.generation import Continued
from explainer.adapters.gradients import GradientView
from explainer.adapters.signals import Pictures, Waves
from explainer.adapters.tagging import MarkedWords, WordTokens
from explainer.adapters.tokens import LastToken, Tokens, check_tokenizer, limit_of, padding_of
from explainer.adapters.torch import TorchModel, _padding_counts, unwrapped, wrap_torch
from explainer.errors import InvalidInput, Unsupported
from explainer.features.text import Words
from explainer.features.text import words as words_of
from explainer.model import Capability, Model

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


class TransformersModel(TorchModel):
    """A model of ``transformers`` with what prepares its inputs; scores equal those of its own pipeline."""

    def __init__(self, module: nn.Module, preprocess: Any, **names: Any) -> None:
        self._views: dict[Any, TransformersModel] = {}
        super().__init__(module, preprocess, **names)

    def canonical(self, inputs: Any) -> Any:
        if isinstance(self.preprocess, Pictures):
            inputs = self.preprocess.seen(inputs)
        if isinstance(self.preprocess, Waves):
            inputs = self.preprocess.waveforms(inputs)
        return super().canonical(inputs)

    def notes(self, given: Any) -> tuple[str, ...]:
        if isinstance(self.preprocess, Tokens):
            return self.preprocess.cut_notes(given)
        return self.preprocess.notes() if isinstance(self.preprocess, Pictures) else ()

    def anatomy(self) -> Anatomy:
        """As of any module; with what stands against reading its attention by word or time step."""
        found = super().anatomy()
        obstacle = ""
        if isinstance(self.preprocess, Waves):
            obstacle = "it attends over frames of the sound, each made of many samples"
        elif self.modality == "text" and self._encoder_decoder:
            obstacle = "the attention of its encoder and that of its decoder are not told apart yet"
        return dataclasses.replace(found, has_attention=False, attention_obstacle=obstacle) if obstacle else found

    @property
    def _encoder_decoder(self) -> bool:
        return bool(getattr(self.core.config, "is_encoder_decoder", False))

    def gradient_view(self, inputs: Any) -> GradientView:
        if (
            self.modality == "text"
            and getattr(self.core.config, "is_encoder_decoder", False)
            and not isinstance(self.preprocess, Continued)
        ):
            raise Unsupported(
                f"{type(self.core).__name__} reads the text twice, in its encoder and again in its decoder, and gradients would see the "
                "first reading only. Use 'shap' or 'lime'."
            )
        return super().gradient_view(inputs)

    def sample(self) -> Any:
        if self._sample is None and self.background is None:
            made: Any = None
            if isinstance(self.preprocess, Pictures):
                height, width = self.preprocess.size or (224, 224)
                made = np.full((1, height, width, self.preprocess.channels), 0.5, dtype=np.float32)
            elif isinstance(self.preprocess, Waves):
                made = [np.random.default_rng(0).normal(size=(self.preprocess.rate // 4, 1)).astype(np.float32)]
            self._sample = made
        return super().sample()

    def fingerprint(self) -> str:
        return hashlib.sha256(f"{super().fingerprint()}{self.preprocess.fingerprint()}".encode()).hexdigest()

    def _view(self, key: Any, preprocess: Tokens, **changed: Any) -> Any:
        """The same module read otherwise; kept, since results refer to the model that they are of."""
        if key not in self._views:
            names = {
                "modality": self.modality, "class_names": self.class_names, "feature_names": self.feature_names, "task": self.task,
                "returns": self.returns, "background": self.background, **changed,
            }  # fmt: skip
            view = type(self)(self.module, preprocess, **names)
            view.padding_counts = self.padding_counts
            self._views[key] = view
        return self._views[key]


class TokenClassifier(TransformersModel):
    """A classifier of tokens. What is scored are the labels of one word: ``model.at("Paris")``, or ``target=("token", "Paris", label)``.

    The labels are read at the word's first token (as the pipeline's ``aggregation_strategy="first"`` does). When methods
    leave words out, the place of the explained word stays: where it is absent itself, a mask token stands there.
    """

    def at(self, word: str | int) -> TokenClassifier:
        """The model that scores the labels of one word: the word, or its number in the text, from 0. Raises UnknownName when used."""
        tokens = self.preprocess
        return self._view(word, WordTokens(tokens, word), name=f"{self.name} at {word!r}")

    @property
    def _bound(self) -> bool:
        return isinstance(self.preprocess, WordTokens)

    def aimed(self, target: Any, given: Any) -> tuple[Model, Any]:
        """``("token", word)`` or ``("token", word, label)``; any other target where :meth:`at` has named the word."""
        if isinstance(target, tuple) and len(target) in (2, 3) and target[0] == "token":
            return self.at(target[1]), target[2] if len(target) == 3 else "predicted"
        if not self._bound:
            raise InvalidInput(self._which(given))
        return self, target

    def raw(self, inputs: Any, at_once: int | None = None) -> np.ndarray:
        if not self._bound:
            raise InvalidInput(self._which(inputs))
        return super().raw(inputs, at_once)

    def words(self, texts: list[str], replacement: str, features: Any) -> Words:
        """The parts of texts, with the explained word kept in its place."""
        tokens = self.preprocess
        return MarkedWords(texts, replacement, features, [tokens.span(text) for text in texts], tokens.mask_token)

    def capabilities(self) -> Mapping[str, Capability]:
        return super().capabilities() if self._bound else self.at(0).capabilities()

    def anatomy(self) -> Anatomy:
        return super().anatomy() if self._bound else self.at(0).anatomy()

    def _which(self, texts: Sequence[str]) -> str:
        known = ", ".join(texts[0][a:b] for a, b in words_of(texts[0])[:12])
        return (
            f"{self.name} labels every word: say which one is explained, with model.at(word) or target=('token', word, label). "
            f"The words: {known}. The labels: {', '.join(self.class_names[:12])}."
        )


class LanguageModel(TransformersModel):
    """A language model. What is scored is the log-probability (natural) of given tokens after the text, over the whole vocabulary.

    Targets of ``explain``: "predicted" (the most probable next token of each text); a continuation such as ``" Paris"`` (the
    sum over its tokens), or a token id; ``("margin", " Paris", " London")`` (single tokens); ``("tokens", " is Paris")``
    (each token's own values, and the sequence's, in one result). A continuation is taken letter by letter: where words are
    written apart it begins with a space. Tokens generated earlier are explained too when they stand in the text: see
    :meth:`steps`.
    """

    def next(self, *tokens: str | int) -> LanguageModel:
        """The model that scores single tokens right after the text, one output each."""
        ids = [self._single(token) if isinstance(token, str) else int(token) for token in tokens]
        known = len(self.preprocess.tokenizer)
        for token in ids:
            if not 0 <= token < known:
                raise InvalidInput(f"Token id {token} is not in the vocabulary of {known} tokens.")
        return self._reading((), [(0, token) for token in ids])

    def continuing(self, continuation: str) -> LanguageModel:
        """The model that scores each token of a continuation, given those before it, and "sequence", their sum."""
        ids = self._ids(continuation)
        return self._reading(ids[:-1], list(enumerate(ids)), total=True)

    def steps(self, text: str, tokens: int = 8) -> list[tuple[str, int]]:
        """Greedy generation step by step: the text so far and the id that follows, to be passed to ``explain`` as input and target.

        Ends at a special token, and where a token is no text of its own (a part of a character). Raises Unsupported for an
        encoder-decoder, whose text is not what it goes on with.
        """
        if self.preprocess.start_id is not None:
            raise Unsupported(f"{self.name} writes another text than the one it reads; explain it with target=a continuation.")
        found = []
        for _ in range(tokens):
            (token,) = self.greedy([text])
            if token in self.preprocess.special_ids:
                break
            found.append((text, token))
            text += self.preprocess.name_of(token)
            if self.preprocess.prompts([text])[0].ids[-1] != token:
                break
        return found

    def greedy(self, texts: Sequence[str]) -> list[int]:
        """The most probable next token of each text."""
        found = np.empty(len(texts), dtype=np.int64)
        reading = Continued(self.preprocess, start_id=self.preprocess.start_id)
        free = self._view("predicted", reading) if self.preprocess.reads else self
        with self.scoring():
            for rows in self.batches(list(texts)):
                logits = free.preprocess.logits(free.encode([texts[i] for i in rows]), self.module, [0])
                found[rows] = logits[:, 0].argmax(-1).cpu().numpy()
        return [int(token) for token in found]

    def aimed(self, target: Any, given: Any) -> tuple[Model, Any]:
        if self.preprocess.reads:
            last = self.preprocess.total and isinstance(target, str) and target == "predicted"
            return self, len(self.class_names) - 1 if last else target
        if isinstance(target, str) and target == "predicted":
            return self._each(self.greedy(given))
        if isinstance(target, str) and target != "all":
            ids = self._ids(target)
            return (self.next(ids[0]), 0) if len(ids) == 1 else (self.continuing(target), len(ids))
        if isinstance(target, (int, np.integer)) and not isinstance(target, bool):
            return self.next(int(target)), 0
        if isinstance(target, tuple) and len(target) == 2 and target[0] == "tokens":
            return self.continuing(target[1]), "all"
        if isinstance(target, tuple) and len(target) == 3 and target[0] == "margin":
            return self.next(*target[1:]), ("margin", 0, 1)
        if isinstance(target, (list, np.ndarray)) and len(target) == len(given):
            return self._each([self._single(t) if isinstance(t, str) else int(t) for t in target])
        raise InvalidInput(
            f"target={target!r} says nothing of which token of {self.name} is explained; use 'predicted', a continuation such as ' Paris', "
            "('margin', ' Paris', ' London'), ('tokens', ' is Paris'), or explain model.next(...) or model.continuing(...)."
        )

    def notes(self, given: Any) -> tuple[str, ...]:
        return (*super().notes(given), "Scores are natural log-probabilities of tokens, given the text, over the whole vocabulary.")

    def _each(self, ids: Sequence[int]) -> tuple[LanguageModel, list[int]]:
        """One target per text."""
        distinct = list(dict.fromkeys(ids))
        return self.next(*distinct), [distinct.index(token) for token in ids]

    def _reading(self, after: Sequence[int], reads: Sequence[tuple[int, int]], total: bool = False) -> LanguageModel:
        tokens = self.preprocess
        total = total and len(reads) > 1
        names = [tokens.name_of(token) for _, token in reads]
        names = [f"{name} ({k})" if names.count(name) > 1 else name for k, name in enumerate(names)]
        key = (tuple(after), tuple(reads), total)
        reading = Continued(tokens, after, reads, total, tokens.start_id)
        return self._view(key, reading, class_names=[*names, *(["sequence"] if total else [])], name=f"{self.name} before {names[-1]!r}")

    def _ids(self, continuation: str) -> list[int]:
        ids = self.preprocess.ids_of(continuation) if isinstance(continuation, str) else []
        if not ids:
            raise InvalidInput(f"The continuation {continuation!r} holds no token; pass some text, such as ' Paris'.")
        return ids

    def _single(self, token: str) -> int:
        ids = self._ids(token)
        if len(ids) > 1:
            pieces = ", ".join(repr(self.preprocess.name_of(i)) for i in ids)
            raise InvalidInput(
                f"{token!r} is {len(ids)} tokens ({pieces}), and single tokens are compared here; name its first, or explain the "
                "whole as target=continuation (one text or continuation at a time)."
            )
        return ids[0]


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
