"""From raw inputs to tensors, fitted on the train split and kept as JSON beside the weights; nothing is pickled."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from explainer.errors import CorruptFile, InvalidInput
from zoo.data import need

if TYPE_CHECKING:
    import pandas as pd
    import torch


@dataclass(frozen=True)
class Pixels:
    """Grey images ``(n, 28, 28)`` in [0, 1] -> standardised ``(n, 1, 28, 28)``; colour images become grey first."""

    mean: float
    std: float
    shape: tuple[int, int]

    @classmethod
    def fit(cls, images: np.ndarray, plain: bool = False) -> Pixels:
        """Mean and spread of the training images; ``plain`` leaves values as they are."""
        if plain:
            return cls(0.0, 1.0, (images.shape[1], images.shape[2]))
        return cls(round(float(images.mean()), 4), round(float(images.std()), 4), (images.shape[1], images.shape[2]))

    def __call__(self, images: Any) -> torch.Tensor:
        import torch

        array = np.asarray(images, dtype=np.float32)
        if array.ndim == 4:
            array = array[..., 0] if array.shape[-1] == 1 else array[..., :3] @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
        if array.shape[1:] != self.shape:
            height, width = self.shape
            raise InvalidInput(f"Images of {height} x {width} pixels are needed; {array.shape[1:]} came. Resize them first.")
        return torch.from_numpy((array - self.mean) / self.std)[:, None]


@dataclass(frozen=True)
class Steps:
    """Series of unequal length -> standardised and zero-padded ``(n, T, channels)`` with lengths ``(n,)``."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def fit(cls, series: Sequence[np.ndarray], plain: bool = False) -> Steps:
        """Mean and spread of each channel over the training steps; ``plain`` leaves values as they are."""
        if plain:
            return cls((0.0,) * series[0].shape[1], (1.0,) * series[0].shape[1])
        steps = np.concatenate(list(series)).astype(np.float64)
        return cls(tuple(steps.mean(0).round(5).tolist()), tuple(steps.std(0).round(5).tolist()))

    @property
    def arguments(self) -> dict[str, int]:
        return {"channels": len(self.mean)}

    def __call__(self, series: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        lengths = [len(one) for one in series]
        padded = np.zeros((len(lengths), max(lengths), len(self.mean)), dtype=np.float32)
        for i, one in enumerate(series):
            padded[i, : len(one)] = (np.asarray(one) - self.mean) / self.std
        return torch.from_numpy(padded), torch.tensor(lengths)


class Tokens:
    """Texts -> subword ids with a leading [CLS], cut at ``max_length``, and a mask that is True on real tokens.

    Lower-case WordPiece. [CLS] stands first so that a text without one known word still has something to be scored on.
    """

    PAD, UNKNOWN, CLS, MASK = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[MASK]")
    PAD_ID, UNKNOWN_ID, CLS_ID, MASK_ID = range(4)

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        self.max_length = max_length
        self._tokenizer = tokenizer
        self._tokenizer.enable_truncation(max_length)
        self._tokenizer.no_padding()
        if [tokenizer.token_to_id(token) for token in self.SPECIAL] != list(range(4)):
            raise InvalidInput(f"A tokeniser whose first tokens are {', '.join(self.SPECIAL)} is needed.")
        self.pad_id, self.unknown_id, self.cls_id, self.mask_id = range(4)
        self.special_ids = {self.pad_id, self.cls_id, self.mask_id}

    @classmethod
    def fit(cls, texts: Sequence[str], vocabulary: int = 6000, max_length: int = 256) -> Tokens:
        tokenizers = need("tokenizers", "The tokeniser")
        from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

        tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token=cls.UNKNOWN))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        # Letters within a word are named beforehand, as if special: else their numbers, and with them which of two equally frequent
        # pairs is joined first, would be another in every process.
        words = {word for text in texts for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text))}
        first = [*cls.SPECIAL, *sorted({f"##{letter}" for word in words for letter in word[1:]})]
        trainer = trainers.WordPieceTrainer(vocab_size=vocabulary, special_tokens=first, min_frequency=2, show_progress=False)
        tokenizer.train_from_iterator(texts, trainer)
        learnt = json.loads(tokenizer.to_str())
        learnt["added_tokens"] = learnt["added_tokens"][: len(cls.SPECIAL)]
        tokenizer = tokenizers.Tokenizer.from_str(json.dumps(learnt))
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{cls.CLS} $A", special_tokens=[(cls.CLS, cls.CLS_ID)])
        return cls(tokenizer, max_length)

    @property
    def arguments(self) -> dict[str, int]:
        return {"vocabulary": self._tokenizer.get_vocab_size(), "length": self.max_length}

    def __call__(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        import torch

        rows = [encoding.ids for encoding in self._encode(texts)]
        ids = torch.full((len(rows), max(map(len, rows))), self.pad_id, dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
        lengths = torch.tensor([len(row) for row in rows])
        return {"ids": ids, "mask": torch.arange(ids.shape[1]) < lengths[:, None]}

    def offsets(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """Per text and token, where in the text it stands; (0, 0) for [CLS]."""
        return [encoding.offsets for encoding in self._encode(texts)]

    def tokens(self, texts: Sequence[str]) -> list[list[str]]:
        """Per text its tokens in words, [CLS] first."""
        return [encoding.tokens for encoding in self._encode(texts)]

    def unknown_share(self, texts: Sequence[str]) -> np.ndarray:
        """Per text the share of its words that the vocabulary can only spell, letter by letter, or not at all; 1 without words."""
        return np.array([self._unknown(encoding) for encoding in self._encode(texts)])

    def _unknown(self, encoding: Any) -> float:
        pieces: dict[int, list[str]] = {}
        for word, token in zip(encoding.word_ids, encoding.tokens, strict=True):
            if word is not None:
                pieces.setdefault(word, []).append(token.removeprefix("##"))
        spelt = [self.UNKNOWN in parts or (len(parts) > 1 and all(len(p) == 1 for p in parts)) for parts in pieces.values()]
        return sum(spelt) / len(spelt) if spelt else 1.0

    def _encode(self, texts: Sequence[str]) -> list[Any]:
        return list(self._tokenizer.encode_batch(list(texts)))


@dataclass(frozen=True)
class Subwords:
    """Texts -> ids and mask by the tokeniser of a pretrained base, cut at ``max_length`` subwords; nothing is learnt."""

    base: str
    max_length: int

    @classmethod
    def fit(cls, texts: Sequence[str], base: str, max_length: int) -> Subwords:
        return cls(base, max_length)

    @cached_property
    def tokenizer(self) -> Any:
        """The base's own, as ``transformers`` knows it."""
        from zoo import pretrained

        content = pretrained.contents(self.base)["tokenizer.json"]
        tokenizers = need("tokenizers", "The tokeniser")
        from transformers import PreTrainedTokenizerFast

        special = {f"{kind}_token": f"[{kind.upper()}]" for kind in ("unk", "sep", "pad", "cls", "mask")}
        read = tokenizers.Tokenizer.from_buffer(content)
        names = ["input_ids", "attention_mask"]
        return PreTrainedTokenizerFast(tokenizer_object=read, model_max_length=self.max_length, model_input_names=names, **special)

    @cached_property
    def _encode(self) -> Any:
        from explainer.adapters.tokens import Tokens as Encoder  # the one that the wrapped model will be scored with

        return Encoder(self.tokenizer, ("input_ids", "attention_mask"), self.max_length, self.tokenizer.pad_token_id)

    def __call__(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        return self._encode(texts)


@dataclass(frozen=True)
class Colours:
    """Colour images ``(n, H, W, 3)`` in [0, 1] -> ``(255 x - mean) / std`` as ``(n, 3, H, W)``; grey ones get three equal channels."""

    mean: float
    std: float
    side: int

    @classmethod
    def fit(cls, images: np.ndarray, mean: float, std: float, side: int) -> Colours:
        return cls(mean, std, side)

    def __call__(self, images: Any) -> torch.Tensor:
        import torch

        array = np.asarray(images, dtype=np.float32)
        array = np.repeat(array[..., None] if array.ndim == 3 else array, 3 if array.ndim == 3 or array.shape[-1] == 1 else 1, axis=-1)
        if array.shape[1:] != (self.side, self.side, 3):
            raise InvalidInput(f"Images of {self.side} x {self.side} pixels are needed; {array.shape[1:]} came. Resize them first.")
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis((255 * array - self.mean) / self.std, -1, 1)))


@dataclass(frozen=True)
class Number:
    """A numeric column, as how far it has come through each of its quantile bins; the train median stands for a missing value.

    Bin k gives ``clip((x - edge[k]) / (edge[k + 1] - edge[k]), 0, 1)``: a network of few rows learns thresholds from it that it
    would not from one number (piecewise linear encoding, Gorishniy et al. 2022). ``indicator``: one more column, 1 where missing.
    """

    name: str
    median: float
    edges: tuple[float, ...]
    indicator: bool

    @classmethod
    def fit(cls, column: pd.Series, bins: int) -> Number:
        values = column.to_numpy(dtype=float)
        known = values[~np.isnan(values)]
        edges = np.unique(np.quantile(known, np.linspace(0, 1, bins + 1)) if len(np.unique(known)) > bins else known)
        edges = edges if len(edges) > 1 else np.array([edges[0], edges[0] + 1])
        return cls(str(column.name), float(np.median(known)), tuple(edges.tolist()), len(known) < len(values))

    @property
    def width(self) -> int:
        return len(self.edges) - 1 + self.indicator

    def encode(self, column: pd.Series) -> list[np.ndarray]:
        try:
            values = column.to_numpy(dtype=float, na_value=np.nan)
        except (TypeError, ValueError):
            odd = next(v for v in column if isinstance(v, str))
            raise InvalidInput(f"Column {self.name!r} takes numbers (or nothing); {odd!r} came.") from None
        missing = np.isnan(values)
        filled = np.where(missing, self.median, values)
        pairs = zip(self.edges[:-1], self.edges[1:], strict=True)
        encoded = [np.clip((filled - low) / (high - low), 0, 1) for low, high in pairs]
        return [*encoded, missing.astype(float)] if self.indicator else encoded


@dataclass(frozen=True)
class Category:
    """A column of words: one encoded column per word seen in training; an unseen or missing word is all zeros."""

    name: str
    words: tuple[str, ...]

    @classmethod
    def fit(cls, column: pd.Series) -> Category:
        return cls(str(column.name), tuple(sorted(column.dropna().unique())))

    @property
    def width(self) -> int:
        return len(self.words)

    def encode(self, column: pd.Series) -> list[np.ndarray]:
        return [(column == word).fillna(False).to_numpy(dtype=float) for word in self.words]


@dataclass(frozen=True)
class Columns:
    """A table of raw columns -> ``(n, encoded)``; ``groups`` says which raw column each encoded one belongs to."""

    parts: tuple[Number | Category, ...]

    @classmethod
    def fit(cls, frame: pd.DataFrame, bins: int = 8) -> Columns:
        from pandas.api.types import is_numeric_dtype

        columns = [frame[name] for name in frame.columns]
        return cls(tuple(Number.fit(column, bins) if is_numeric_dtype(column) else Category.fit(column) for column in columns))

    @property
    def arguments(self) -> dict[str, int]:
        return {"columns": len(self.groups)}

    @cached_property
    def groups(self) -> list[int]:
        return [i for i, part in enumerate(self.parts) for _ in range(part.width)]

    def __call__(self, frame: pd.DataFrame) -> torch.Tensor:
        import torch

        encoded = [column for part in self.parts for column in part.encode(frame[part.name])]
        return torch.from_numpy(np.stack(encoded, axis=1).astype(np.float32))


@dataclass(frozen=True)
class Plain:
    """A table of numbers as it is -> ``(n, columns)``."""

    names: tuple[str, ...]

    @classmethod
    def fit(cls, frame: pd.DataFrame) -> Plain:
        return cls(tuple(map(str, frame.columns)))

    @property
    def arguments(self) -> dict[str, int]:
        return {"columns": len(self.names)}

    @property
    def groups(self) -> list[int]:
        return list(range(len(self.names)))

    def __call__(self, frame: pd.DataFrame) -> torch.Tensor:
        import torch

        return torch.from_numpy(np.array(frame[list(self.names)], dtype=np.float32))


KINDS: dict[str, Any] = {
    "pixels": Pixels, "colours": Colours, "steps": Steps, "tokens": Tokens, "subwords": Subwords, "columns": Columns, "plain": Plain,
}  # fmt: skip


def dump(preprocess: Any) -> bytes:
    """One JSON object holding everything the preprocess learnt."""
    kind = next(kind for kind, cls in KINDS.items() if type(preprocess) is cls)
    content: dict[str, Any]
    if kind == "tokens":
        content = {"max_length": preprocess.max_length, "tokenizer": json.loads(preprocess._tokenizer.to_str())}
    elif kind == "columns":
        content = {"parts": [{"kind": type(part).__name__, **vars(part)} for part in preprocess.parts]}
    else:
        content = asdict(preprocess)
    return json.dumps({"kind": kind, **content}, ensure_ascii=False, indent=None if kind == "tokens" else 1).encode()


def parse(content: bytes) -> Any:
    """The preprocess that :func:`dump` wrote. Raises CorruptFile."""
    try:
        fields = json.loads(content)
        kind = fields.pop("kind")
        if kind == "tokens":
            tokenizer = need("tokenizers", "The tokeniser").Tokenizer.from_str(json.dumps(fields["tokenizer"]))
            return Tokens(tokenizer, fields["max_length"])
        if kind == "columns":
            classes = {"Number": Number, "Category": Category}
            return Columns(tuple(_made(classes[part.pop("kind")], part) for part in fields["parts"]))
        return _made(KINDS[kind], fields)
    except (KeyError, TypeError, ValueError) as error:
        message = f"The preprocessing file is not readable ({type(error).__name__}: {error}). Install the toolkit again."
        raise CorruptFile(message) from error


def _made(cls: Any, fields: dict[str, Any]) -> Any:
    """``cls`` from JSON fields; lists come back as the tuples they were."""
    return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})
