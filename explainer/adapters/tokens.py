"""A tokenizer of ``transformers`` behind the text protocol: ids for the module, and the characters each token came from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from explainer.adapters.encoding import Arguments
from explainer.errors import InvalidInput, Unsupported
from explainer.features.text import words

_ENDLESS = 10**6  # tokenizers that know no limit give one above this
_MARKS = ("##", "▁", "Ġ", "</w>", "@@")  # how vocabularies write the begin or the inside of a word


@dataclass(frozen=True)
class Encoded:
    """One text as tokens. ``special``: put there by the tokenizer, and part of no word. ``offsets``: None where unknown."""

    ids: list[int]
    types: list[int]
    special: list[bool]
    offsets: list[tuple[int, int]] | None

    def only(self, kept: Sequence[int]) -> Encoded:
        offsets = None if self.offsets is None else [self.offsets[k] for k in kept]
        return Encoded([self.ids[k] for k in kept], [self.types[k] for k in kept], [self.special[k] for k in kept], offsets)


class Tokens:
    """What a text module is given: ids, mask and segment ids, padded on the right; longer texts are cut to ``max_length``.

    Padding is done here and truncation too, so that the caller's tokenizer keeps its own settings (and threads do not fight
    over them). A text without any token (GPT-2 has no special ones) is given the first of its special tokens.

    Parameters
    ----------
    tokenizer : of ``transformers``; a fast one knows the characters of its tokens, those of a slow one are found by decoding.
    takes : names of the arguments that the module's forward takes.
    max_length : tokens that the module reads.
    pad_id : the module's own padding id; the tokenizer's, or another special token's, where it has none.
    keep : the end of a text that is kept when it is cut, "start" or "end".
    options : further keywords of the tokenizer's call.
    """

    def __init__(
        self,
        tokenizer: Any,
        takes: Sequence[str],
        max_length: int,
        pad_id: int | None = None,
        keep: str = "start",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.tokenizer, self.takes, self.max_length, self.keep = tokenizer, tuple(takes), max_length, keep
        self.options = dict(options or {})
        self.reserved = 0  # tokens that will follow a text
        known = [getattr(tokenizer, f"{kind}_token_id", None) for kind in ("pad", "eos", "bos", "unk", "cls")]
        self.pad_id = next((i for i in (pad_id, *known) if i is not None), 0)
        lacking = f"the token {tokenizer.convert_ids_to_tokens(self.pad_id)!r} (there is no padding token)"
        self.pad_name = lacking if pad_id is None and known[0] is None else "the padding token"
        self.fill_id = next((i for i in (*known[2:3], *known[4:5], *known[1:2], self.pad_id) if i is not None), 0)
        self.mask_id = getattr(tokenizer, "mask_token_id", None)
        words_for = [getattr(tokenizer, f"{kind}_token", None) for kind in ("mask", "unk", "eos", "pad")]
        self.mask_token = next((str(word) for word in words_for if word), "_")
        self.special_ids = set(tokenizer.all_special_ids)

    # -- the text protocol ---------------------------------------------------------------------------------------------

    def __call__(self, texts: Sequence[str]) -> dict[str, Tensor]:
        return self.padded([self.cut(one) for one in self.encode(texts)])

    def offsets(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """The characters ``(start, end)`` of each token that the module reads. Raises Unsupported where they cannot be told."""
        return [self.placed(text, self.cut(one)) for text, one in zip(texts, self.encode(texts), strict=True)]

    def tokens(self, texts: Sequence[str]) -> list[list[str]]:
        return [self.tokenizer.convert_ids_to_tokens(self.cut(one).ids) for one in self.encode(texts)]

    def unknown_share(self, texts: Sequence[str]) -> np.ndarray:
        """The share of each text's own tokens that the vocabulary does not hold."""
        unknown = getattr(self.tokenizer, "unk_token_id", None)
        shares = []
        for one in self.encode(texts):
            own = [i for i, special in zip(one.ids, one.special, strict=True) if not special]
            shares.append(sum(i == unknown for i in own) / len(own) if own and unknown not in (None, self.fill_id) else 0.0)
        return np.array(shares)

    def read(self, arguments: Arguments, module: nn.Module) -> Any:
        """The module's output for one batch."""
        return self.run(module, dict(zip(arguments.names or (), arguments.tensors, strict=True)))

    def run(self, module: nn.Module, given: Mapping[str, Any]) -> Any:
        quiet = {"use_cache": False} if "use_cache" in self.takes else {}
        return module(**given, **quiet)

    # -- encoding ------------------------------------------------------------------------------------------------------

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Texts as tokens, uncut."""
        fast = bool(getattr(self.tokenizer, "is_fast", False))
        segments = "token_type_ids" in self.takes and "token_type_ids" in self.tokenizer.model_input_names
        found = self.tokenizer(
            list(texts), padding=False, truncation=False, return_token_type_ids=segments,
            return_attention_mask=False, return_special_tokens_mask=True, return_offsets_mapping=fast, verbose=False, **self.options,
        )  # fmt: skip
        encoded = []
        for i, ids in enumerate(found["input_ids"]):
            offsets = [(int(a), int(b)) for a, b in found["offset_mapping"][i]] if fast else None
            types = found["token_type_ids"][i] if segments else [0] * len(ids)
            special = [bool(s) for s in found["special_tokens_mask"][i]]
            empty = Encoded([self.fill_id], [0], [True], [(0, 0)])
            encoded.append(Encoded(list(ids), list(types), special, offsets) if len(ids) else empty)
        return encoded

    def cut(self, one: Encoded) -> Encoded:
        """The tokens that the module reads: special ones at both ends are kept."""
        n, room = len(one.ids), self.max_length - self.reserved
        if n <= room:
            return one
        own = [i for i in range(n) if not one.special[i]]
        if not own:
            return one.only(range(room))
        first, last = own[0], n - 1 - own[-1]
        kept = max(0, room - first - last)
        inner = range(first, n - last)
        inner = inner[:kept] if self.keep == "start" else inner[len(inner) - kept :]
        return one.only([*range(first), *inner, *range(n - last, n)])

    def padded(self, encoded: Sequence[Encoded]) -> dict[str, Tensor]:
        width = max(len(one.ids) for one in encoded)

        def rows(lists: Sequence[Sequence[int]], filler: int) -> Tensor:
            return torch.tensor([[*one, *[filler] * (width - len(one))] for one in lists])

        made = {
            "input_ids": rows([one.ids for one in encoded], self.pad_id),
            "token_type_ids": rows([one.types for one in encoded], 0),
            "attention_mask": rows([[1] * len(one.ids) for one in encoded], 0),
        }
        # GPT-2 takes segment ids and was trained without: the tokenizer knows what belongs to its model.
        known = {"input_ids", "attention_mask", *self.tokenizer.model_input_names}
        return {name: tensor for name, tensor in made.items() if name in self.takes and name in known}

    def placed(self, text: str, one: Encoded) -> list[tuple[int, int]]:
        """Offsets of one encoded text; ``(0, 0)`` for special tokens, and a character for every other."""
        offsets = one.offsets
        if offsets is None:
            offsets = aligned(text, self.tokenizer.convert_ids_to_tokens(one.ids), one.special)
        return [(0, 0) if special else _shown(text, a, b) for (a, b), special in zip(offsets, one.special, strict=True)]

    def cut_notes(self, texts: Sequence[str]) -> tuple[str, ...]:
        """What the module does not read of these texts, in words."""
        lost = []
        for i, (text, one) in enumerate(zip(texts, self.encode(texts), strict=True)):
            kept = self.cut(one)
            if len(kept.ids) < len(one.ids):
                lost.append((i, len(one.ids) - len(kept.ids), self._unread(text, kept)))
        if not lost:
            return ()
        i, tokens, missing = lost[0]
        end = "last" if self.keep == "start" else "first"
        named = (
            f" ({len(missing)} words, {'from' if end == 'last' else 'up to'} {missing[0 if end == 'last' else -1]!r})" if missing else ""
        )
        room = self.max_length - self.reserved
        return (f"{len(lost)} of {len(texts)} texts are cut to the {room} tokens read: text {i} loses its {end} {tokens} tokens{named}.",)

    def _unread(self, text: str, kept: Encoded) -> list[str]:
        if kept.offsets is None:
            return []
        read = [(a, b) for (a, b), special in zip(kept.offsets, kept.special, strict=True) if not special]
        return [text[a:b] for a, b in words(text) if not any(start < b and stop > a for start, stop in read)]

    def fingerprint(self) -> str:
        """sha256 of what turns texts into ids."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        vocabulary = backend.to_str() if backend is not None else repr(sorted(self.tokenizer.get_vocab().items()))
        settings = repr((self.max_length, self.keep, sorted(self.options.items()), self.pad_id))
        return hashlib.sha256((vocabulary + settings).encode()).hexdigest()


class LastToken(Tokens):
    """For a classifier that reads the last token and has no padding id, with which it refuses more than one text at a time.

    Its body and its head are called here, and the last token that is no padding is read.
    """

    def read(self, arguments: Arguments, module: nn.Module) -> Any:
        given = dict(zip(arguments.names or (), arguments.tensors, strict=True))
        body: Any = getattr(module, str(module.base_model_prefix))
        scores = module.score(self.run(body, given)[0])  # type: ignore[operator]
        rows = torch.arange(len(scores), device=scores.device)
        return scores[rows, given["attention_mask"].sum(1) - 1]


def _shown(text: str, start: int, stop: int) -> tuple[int, int]:
    """Characters of a token; one that is only white space, or nothing, goes with the word behind it, as its removal does."""
    if text[start:stop].strip() or not text:
        return start, stop
    behind = min(stop + len(text[stop:]) - len(text[stop:].lstrip()), len(text) - 1)
    return behind, behind + 1


def aligned(text: str, pieces: Sequence[str], special: Sequence[bool]) -> list[tuple[int, int]]:
    """Characters of the tokens of a slow tokenizer, by finding each token's letters in the text, one after the other.

    Raises Unsupported where a token stands for other letters than those in the text (unknown words, normalised ones).
    """
    low = text.lower()
    offsets, end = [], 0
    for piece, outside in zip(pieces, special, strict=True):
        bare = piece.lower()
        for mark in _MARKS:
            bare = bare.replace(mark.lower(), "")
        start = end if outside or not bare else low.find(bare, end)
        if len(low) != len(text) or start < 0 or text[end:start].strip():
            raise Unsupported(
                f"The token {piece!r} is not found in the text after character {end} ({text[end : end + 20]!r}): this slow tokenizer keeps "
                "no offsets, so tokens cannot be traced to words. Use its fast version (AutoTokenizer gives it), or 'shap' or 'lime'."
            )
        if outside:
            offsets.append((0, 0))
            continue
        offsets.append((start, start + len(bare)))
        end = start + len(bare)
    return offsets


def limit_of(config: Any, tokenizer: Any, module: nn.Module) -> int:
    """Tokens that a module reads: the fewest of its positions and the tokenizer's own limit."""
    positions = getattr(config, "max_position_embeddings", None)
    limits = [getattr(tokenizer, "model_max_length", None), positions]
    for name, layer in module.named_modules():
        # RoBERTa and its kin count positions from behind the padding id.
        if name.endswith("position_embeddings") and isinstance(layer, nn.Embedding) and layer.padding_idx is not None:
            limits.append(layer.num_embeddings - layer.padding_idx - 1)
    known = [int(limit) for limit in limits if limit is not None and 0 < limit < _ENDLESS]
    return min(known, default=_ENDLESS)


def padding_of(config: Any, size: int) -> int | None:
    """The padding id that the module itself knows, where it is one of its ids."""
    pad = getattr(config, "pad_token_id", None)
    return pad if isinstance(pad, int) and 0 <= pad < size else None


def check_tokenizer(tokenizer: Any, size: int) -> None:
    """Raises InvalidInput where the tokenizer has ids that the module has no embedding for."""
    if len(tokenizer) > size:
        raise InvalidInput(
            f"The tokenizer has {len(tokenizer)} tokens and the model embeddings for {size}: they do not belong together. Load both from "
            "one name, or call model.resize_token_embeddings(len(tokenizer)) before training."
        )
