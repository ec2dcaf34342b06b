"""Token classification: the labels of one named word, kept in sight while the words around it come and go."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from explainer.adapters.encoding import Arguments
from explainer.adapters.tokens import Tokens
from explainer.adapters.torch import unwrap
from explainer.errors import InvalidInput, unknown
from explainer.features.text import Words, words

# Private-use characters around the explained word in texts made here: they never reach the tokenizer.
OPEN, CLOSE = "\ue000", "\ue001"
_AT = "explained_token"


class WordTokens(Tokens):
    """Tokens, and the place of the first token of one word: where the labels are read."""

    def __init__(self, tokens: Tokens, word: str | int) -> None:
        self.__dict__.update(vars(tokens))
        self.word = word

    def span(self, text: str) -> tuple[int, int]:
        """Characters of the explained word: the k-th word, or where the word stands first. Raises InvalidInput."""
        spans = words(text)
        if isinstance(self.word, int):
            if not -len(spans) <= self.word < len(spans):
                raise InvalidInput(str(unknown("word", self.word, [f"{k} ({text[a:b]})" for k, (a, b) in enumerate(spans)])))
            return spans[self.word]
        found = re.search(rf"(?<!\w){re.escape(self.word)}(?!\w)", text) or re.search(re.escape(self.word), text)
        if found is None or not self.word.strip():
            raise InvalidInput(str(unknown("word", self.word, [text[a:b] for a, b in spans])))
        return found.span()

    def located(self, text: str) -> tuple[str, tuple[int, int]]:
        """The text without marks, and the characters of the explained word."""
        if OPEN not in text:
            return text, self.span(text)
        start = text.index(OPEN)
        return text.replace(OPEN, "").replace(CLOSE, ""), (start, text.index(CLOSE) - 1)

    def __call__(self, texts: Sequence[str]) -> dict[str, Tensor]:
        located = [self.located(text) for text in texts]
        encoded = [self.cut(one) for one in self.encode([plain for plain, _ in located])]
        places = []
        for (plain, (a, b)), one in zip(located, encoded, strict=True):
            over = (k for k, (start, stop) in enumerate(self.placed(plain, one)) if start < b and stop > a)
            place = next(over, None)
            if place is None:
                raise InvalidInput(
                    f"The word {plain[a:b]!r} is not among the {self.max_length} tokens that the model reads of the text; shorten the text."
                )
            places.append(place)
        return {**self.padded(encoded), _AT: torch.tensor(places)}

    def offsets(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        return super().offsets([self.located(text)[0] for text in texts])

    def tokens(self, texts: Sequence[str]) -> list[list[str]]:
        return super().tokens([self.located(text)[0] for text in texts])

    def unknown_share(self, texts: Sequence[str]) -> Any:
        return super().unknown_share([text.replace(OPEN, "").replace(CLOSE, "") for text in texts])

    def read(self, arguments: Arguments, module: nn.Module) -> Tensor:
        given = dict(zip(arguments.names or (), arguments.tensors, strict=True))
        places = given.pop(_AT)
        output = self.run(module, given)
        logits = output["logits"] if "logits" in output else output[0]
        return unwrap(logits[torch.arange(len(places), device=logits.device), places], len(places))

    def fingerprint(self) -> str:
        return hashlib.sha256(f"{super().fingerprint()}{self.word!r}".encode()).hexdigest()


class MarkedWords(Words):
    """Words of a text, one of which is always there to be labelled: where it is absent, ``stand_in`` holds its place."""

    def __init__(self, texts: list[str], replacement: str, features: Any, spans: Sequence[tuple[int, int]], stand_in: str) -> None:
        super().__init__(texts, replacement, features)
        self._marked, self._stand_in = list(spans), replacement or stand_in
        if not replacement:
            self.absence = f"{self.absence}; the explained word replaced by {stand_in!r}"

    def pieces(self, i: int) -> tuple[list[str], list[str]]:
        on, off = super().pieces(i)
        text, spans, (a, b) = self.texts[i], self.spans[i], self._marked[i]
        starts = [0] + [end for _, end in spans[:-1]]
        k = max(j for j, start in enumerate(starts) if start <= a)
        start, (begin, end) = starts[k], spans[k]
        b = min(b, end)
        on[k] = f"{text[start:a]}{OPEN}{text[a:b]}{CLOSE}{text[b:end]}"
        off[k] = f"{text[start:begin]}{OPEN}{self._stand_in}{CLOSE}"
        return on, off
