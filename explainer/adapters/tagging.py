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
        """Characters of the explained word: the k-th word, or the word where it stands once. Raises InvalidInput."""
        spans = words(text)
        if isinstance(self.word, int):
            if not -len(spans) <= self.word < len(spans):
                raise InvalidInput(str(unknown("word", self.word, [f"{k} ({text[a:b]})" for k, (a, b) in enumerate(spans)])))
            return spans[self.word]
        word = re.escape(self.word)
        found = [m.span() for m in re.finditer(rf"(?<!\w){word}(?!\w)", text)] or [m.span() for m in re.finditer(word, text)]
        if not found or not self.word.strip():
            raise InvalidInput(str(unknown("word", self.word, [text[a:b] for a, b in spans])))
        if len(found) > 1:
            numbers = list(dict.fromkeys(place(spans, span) for span in found))
            raise InvalidInput(
                f"{self.word!r} stands {len(found)} times in the text, in words {', '.join(map(str, numbers))} (from 0): name one by its "
                f"number, as in model.at({numbers[0]}) or target=('token', {numbers[0]}, label)."
            )
        return found[0]

    def told(self, text: str) -> str:
        """The explained word and its number in the text, in words."""
        plain, span = self.located(text)
        return f" of {plain[slice(*span)]!r} (word {place(words(plain), span)})"

    def located(self, text: str) -> tuple[str, tuple[int, int]]:
        """The text without marks, and the characters of the explained word."""
        if OPEN not in text:
            return text, self.span(text)
        start = text.index(OPEN)
        return text.replace(OPEN, "").replace(CLOSE, ""), (start, text.index(CLOSE) - 1)

    def __call__(self, texts: Sequence[str]) -> dict[str, Tensor]:
        located = [self.located(text) for text in texts]
        encoded = [self.cut(one) for one in self.encode([plain for plain, _ in located])]
        at = []
        for (plain, (a, b)), one in zip(located, encoded, strict=True):
            over = (k for k, (start, stop) in enumerate(self.placed(plain, one)) if start < b and stop > a)
            first = next(over, None)
            if first is None:
                raise InvalidInput(
                    f"The word {plain[a:b]!r} is not among the {self.max_length} tokens that the model reads of the text; shorten the text."
                )
            at.append(first)
        return {**self.padded(encoded), _AT: torch.tensor(at)}

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


def place(spans: Sequence[tuple[int, int]], span: tuple[int, int]) -> int:
    """The number of the word that the characters ``span`` begin in."""
    return max((k for k, (start, _) in enumerate(spans) if start <= span[0]), default=0)


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
