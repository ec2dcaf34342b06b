"""Models of ``transformers`` by what they answer: one score per input, the labels of a word, or what comes after a text."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from torch import nn

from explainer.adapters.anatomy import Anatomy
from explainer.adapters.generation import Continued
from explainer.adapters.gradients import GradientView
from explainer.adapters.signals import Pictures, Waves
from explainer.adapters.tagging import MarkedWords, WordTokens
from explainer.adapters.tokens import Tokens
from explainer.adapters.torch import TorchModel
from explainer.errors import InvalidInput, Unsupported
from explainer.features.text import Words
from explainer.features.text import words as words_of
from explainer.model import Capability, Model

_OF_THE_MODULE = ("padding_counts", "trials", "original")  # what a view has from the model it is of; of a faster copy, what was tried
_LOGITS = 2**25  # numbers of a batch's log-probabilities over the vocabulary, in float64


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

    @property
    def _encoder_decoder(self) -> bool:
        return bool(getattr(self.core.config, "is_encoder_decoder", False))

    def gradient_view(self, inputs: Any) -> GradientView:
        if self.modality == "text" and self._encoder_decoder and not isinstance(self.preprocess, Continued):
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

    def on(self, module: nn.Module) -> Self:
        twin = super().on(module)
        twin._views = {}
        return twin

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
            for name in _OF_THE_MODULE:
                if hasattr(self, name):
                    setattr(view, name, getattr(self, name))
            view._anatomy = next((v._anatomy for v in self._views.values() if v._anatomy is not None), None)  # one module, read once
            self._views[key] = view
        return self._views[key]


class TokenClassifier(TransformersModel):
    """A classifier of tokens. What is scored are the labels of one word: ``model.at("Paris")``, or ``target=("token", "Paris", label)``.

    The labels are read at the word's first token (as the pipeline's ``aggregation_strategy="first"`` does). When methods
    leave words out, the place of the explained word stays: where it is absent itself, a mask token stands there.
    """

    def at(self, word: str | int) -> TokenClassifier:
        """The model that scores the labels of one word: the word, or its number in the text, from 0.

        Scoring a text without that word, or with it several times, raises InvalidInput.
        """
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

    def told(self, given: Any) -> tuple[str, ...]:
        return tuple(self.preprocess.told(text) for text in given) if self._bound else super().told(given)

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

    def __init__(self, module: nn.Module, preprocess: Any, **names: Any) -> None:
        super().__init__(module, preprocess, **names)
        logits = len(preprocess.tokenizer) * len({step for step, _ in preprocess.reads} or {0})
        self._rows, self._most = (max(1, min(rows, _LOGITS // logits)) for rows in (self._rows, self._most))

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

    def told(self, given: Any) -> tuple[str, ...]:
        if not self.preprocess.total:
            return super().told(given)
        return (f" of {''.join(self.preprocess.name_of(token) for _, token in self.preprocess.reads)!r}",) * len(given)

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
