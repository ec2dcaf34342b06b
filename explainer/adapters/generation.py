"""Language models: the log-probability of given tokens after a text, one by one and as a sequence."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from explainer.adapters.encoding import Arguments
from explainer.adapters.tokens import Encoded, Tokens
from explainer.errors import InvalidInput

_FROM = "read_from"
_ANCHORS = ("x", ".", "0", "a", "\n")


class Continued(Tokens):
    """A text, the tokens put after it, and the tokens whose log-probability is read there.

    ``log p(token | text, tokens before it)``, natural logarithm, over the whole vocabulary; one column per entry of
    ``reads`` and, with ``total``, their sum: the log-probability of the sequence. Without ``reads``: that of the most
    probable next token. An encoder-decoder reads the text in its encoder; what is put after it goes to the decoder.

    Parameters
    ----------
    after : ids put after the text.
    reads : ``(step, id)``: the id at that step behind the text (0: right after it).
    start_id : the decoder's first token; None for a decoder alone.
    """

    def __init__(
        self,
        tokens: Tokens,
        after: Sequence[int] = (),
        reads: Sequence[tuple[int, int]] = (),
        total: bool = False,
        start_id: int | None = None,
    ) -> None:
        self.__dict__.update(vars(tokens))
        self.after, self.reads, self.total, self.start_id = tuple(after), tuple(reads), total, start_id
        self.reserved = 0 if start_id is not None else len(self.after)
        if self.max_length - self.reserved < 1:
            raise InvalidInput(f"The continuation has {len(self.after) + 1} tokens; the model reads {self.max_length} in all.")

    def prompts(self, texts: Sequence[str]) -> list[Encoded]:
        """The texts as the model reads them; a token that ends a sequence does not stand before what follows."""
        encoded = self.encode(texts)
        if self.start_id is None:
            encoded = [one.only(range(_end(one))) for one in encoded]
        return [self.cut(one) for one in encoded]

    def __call__(self, texts: Sequence[str]) -> dict[str, Tensor]:
        prompts = self.prompts(texts)
        if self.start_id is not None:
            decoder = torch.tensor([[self.start_id, *self.after]] * len(texts))
            return {**self.padded(prompts), "decoder_input_ids": decoder, _FROM: torch.zeros(len(texts), dtype=torch.long)}
        n = len(self.after)
        whole = [Encoded([*one.ids, *self.after], [*one.types, *[0] * n], [*one.special, *[True] * n], None) for one in prompts]
        return {**self.padded(whole), _FROM: torch.tensor([len(one.ids) - 1 for one in prompts])}

    def offsets(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        return [self.placed(text, one) for text, one in zip(texts, self.prompts(texts), strict=True)]

    def tokens(self, texts: Sequence[str]) -> list[list[str]]:
        after = () if self.start_id is not None else self.after
        return [self.tokenizer.convert_ids_to_tokens([*one.ids, *after]) for one in self.prompts(texts)]

    def read(self, arguments: Arguments, module: nn.Module) -> Tensor:
        steps = sorted({step for step, _ in self.reads}) or [0]
        found = self.logits(arguments, module, steps).log_softmax(-1, dtype=torch.float64)  # (n, steps, vocabulary)
        if not self.reads:
            return found[:, 0].amax(-1, keepdim=True)
        columns = torch.stack([found[:, steps.index(step), token] for step, token in self.reads], 1)
        return torch.cat([columns, columns.sum(1, keepdim=True)], 1) if self.total else columns

    def logits(self, arguments: Arguments, module: nn.Module, steps: Sequence[int]) -> Tensor:
        """The module's logits ``(n, steps, vocabulary)`` behind each text; only those are computed, where it can."""
        given = dict(zip(arguments.names or (), arguments.tensors, strict=True))
        places = given.pop(_FROM)[:, None] + torch.tensor(list(steps), device=arguments.tensors[0].device)
        if "logits_to_keep" in self.takes:
            kept = places.unique()
            given["logits_to_keep"] = kept
            places = torch.searchsorted(kept, places)
        output = self.run(module, given)
        logits = output["logits"] if "logits" in output else output[0]
        return logits[torch.arange(len(places), device=logits.device)[:, None], places]

    def ids_of(self, continuation: str) -> list[int]:
        """The ids of a continuation as they stand behind a text, without what a tokenizer puts in front of a text of its own."""
        if self.start_id is None:
            for anchor in _ANCHORS:
                (one,) = Tokens.encode(self, [anchor + continuation])
                if one.offsets is None:
                    break
                own = [k for k, special in enumerate(one.special) if not special]
                if any(one.offsets[k][1] == len(anchor) for k in own) and all(
                    one.offsets[k][1] <= len(anchor) or one.offsets[k][0] >= len(anchor) for k in own
                ):
                    return [one.ids[k] for k in own if one.offsets[k][1] > len(anchor)]
        return list(self.tokenizer(continuation, add_special_tokens=False, verbose=False)["input_ids"])

    def name_of(self, token: int) -> str:
        """A token as text; as the vocabulary writes it where it is part of a character."""
        # Behind another token: decoders drop the space in front of a text's first.
        shown = str(self.tokenizer.decode([token, token]))[len(str(self.tokenizer.decode([token]))) :]
        return shown if shown and "\ufffd" not in shown else str(self.tokenizer.convert_ids_to_tokens(token))

    def fingerprint(self) -> str:
        return hashlib.sha256(f"{super().fingerprint()}{self.after}{self.reads}{self.total}".encode()).hexdigest()


def _end(one: Encoded) -> int:
    """How many tokens there are without the special ones at the end; one at least."""
    end = len(one.ids)
    while end > 1 and one.special[end - 1]:
        end -= 1
    return end
