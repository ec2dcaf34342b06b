"""From raw inputs to tensors and back from JSON: nothing is lost, missing values and odd inputs are handled."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

import zoo
from explainer.errors import CorruptFile, InvalidInput
from zoo import background, preprocess
from zoo.preprocess import Colours, Columns, Pixels, Plain, Steps, Subwords, Tokens
from zoo.rnn import Recurrent
from zoo.sources import licences
from zoo.specimens import RECIPES
from zoo.transformer import Encoder, Phrases

NOTICES = ["This file is licensed under the GPL version 2", "Permission is granted to copy this file", "All rights reserved by the owner"]


def table():
    return pd.DataFrame(
        {"income": [1.0, 2.0, 3.0, 4.0, np.nan, 100.0], "flag": [0.0, 1.0, 0.0, 1.0, 1.0, 0.0], "kind": ["a", "b", "a", "b", "a", "b"]}
    )


def fitted(kind):
    generator = np.random.default_rng(0)
    return {
        "pixels": lambda: (Pixels.fit(generator.random((9, 28, 28), dtype=np.float32)), generator.random((2, 28, 28), dtype=np.float32)),
        "colours": lambda: (Colours(127.0, 128.0, 8), generator.random((2, 8, 8, 3), dtype=np.float32)),
        "steps": lambda: (Steps.fit([generator.normal(size=(n, 3)) for n in (4, 7)]), [generator.normal(size=(n, 3)) for n in (2, 5)]),
        "tokens": lambda: (Tokens.fit(NOTICES * 2, vocabulary=120, max_length=16), NOTICES[:2]),
        "columns": lambda: (Columns.fit(table(), bins=3), table()),
        "plain": lambda: (Plain.fit(table()[["income", "flag"]]), table().fillna(0.0)),
    }[kind]()


def tensors(encoded):
    if isinstance(encoded, dict):
        return list(encoded.values())
    return list(encoded) if isinstance(encoded, tuple) else [encoded]


@pytest.mark.parametrize(
    "kind", sorted(preprocess.KINDS.keys() - {"colours", "subwords"})
)  # these hold what a package brings: test_zoo_pretrained
def test_json_keeps_everything(kind):
    one, inputs = fitted(kind)
    again = preprocess.parse(preprocess.dump(one))
    assert all(torch.equal(a, b) for a, b in zip(tensors(one(inputs)), tensors(again(inputs)), strict=True))
    assert getattr(again, "arguments", None) == getattr(one, "arguments", None)


def test_json_keeps_which_tokeniser_is_meant():
    one = Subwords("minilm", 96)
    assert preprocess.parse(preprocess.dump(one)) == one


@pytest.mark.parametrize(
    "content", [b"{", b"{}", b'{"kind": "pixels"}', b'{"kind": "other"}', b'{"kind": "columns", "parts": [{"kind": "x"}]}']
)
def test_unreadable_preprocessing_is_said(content):
    with pytest.raises(CorruptFile, match="not readable"):
        preprocess.parse(content)


def test_pixels_take_colour_and_refuse_another_size():
    pixels = Pixels(0.5, 0.25, (28, 28))
    grey = np.full((2, 28, 28), 0.75, dtype=np.float32)
    assert torch.allclose(pixels(grey), torch.ones(2, 1, 28, 28))
    assert torch.allclose(pixels(np.repeat(grey[..., None], 3, -1)), pixels(grey), atol=1e-5)
    with pytest.raises(InvalidInput, match="28 x 28"):
        pixels(np.zeros((1, 32, 32), dtype=np.float32))


def test_columns_encode_missing_and_unseen_values_and_know_their_groups():
    columns = Columns.fit(table(), bins=3)
    encoded = columns(table())
    assert encoded.shape[1] == len(columns.groups) == columns.arguments["columns"]
    assert sorted(set(columns.groups)) == [0, 1, 2]
    income = [i for i, g in enumerate(columns.groups) if g == 0]
    assert encoded[:, income[-1]].tolist() == [0, 0, 0, 0, 1, 0]
    asked = pd.DataFrame({"income": [3.0, None], "flag": [None, 1.0], "kind": ["new", None]})
    odd = columns(asked)
    assert torch.isfinite(odd).all()
    assert odd[:, [i for i, g in enumerate(columns.groups) if g == 2]].sum() == 0
    # The median (3) stands for the missing income; only the indicator differs.
    assert torch.equal(odd[0, income[:-1]], odd[1, income[:-1]])
    with pytest.raises(InvalidInput, match="Column 'income' takes numbers"):
        columns(pd.DataFrame({"income": ["lots"], "flag": [1.0], "kind": ["a"]}))


def test_numbers_are_encoded_monotonically():
    columns = Columns.fit(pd.DataFrame({"x": np.random.default_rng(0).lognormal(size=200)}), bins=5)
    encoded = columns(pd.DataFrame({"x": np.linspace(-1, 20, 300)}))
    assert encoded.shape[1] == 5
    assert (encoded.diff(dim=0) >= 0).all()
    assert encoded.min() == 0
    assert encoded.max() == 1


def test_tokens_start_with_cls_and_point_into_the_text():
    tokens = Tokens.fit(NOTICES * 2, vocabulary=120, max_length=16)
    text = "This file is GPL \u2603 licensed"
    encoded = tokens([text, "a"])
    assert encoded["ids"][:, 0].tolist() == [tokens.cls_id] * 2
    assert encoded["mask"].sum(1).tolist() == [len(t) for t in tokens.tokens([text, "a"])]
    assert (encoded["ids"][~encoded["mask"]] == tokens.pad_id).all()
    offsets, pieces = tokens.offsets([text])[0], tokens.tokens([text])[0]
    assert offsets[0] == (0, 0)
    for (start, end), piece in list(zip(offsets, pieces, strict=True))[1:]:
        assert piece == Tokens.UNKNOWN or text[start:end].lower() == piece.removeprefix("##")
    assert tokens.unknown_share([text])[0] > 0
    assert tokens.unknown_share([NOTICES[0]])[0] == 0
    assert tokens.unknown_share(["\u2603"])[0] == 1
    assert tokens.unknown_share(["xqzj xqzj"])[0] == 1  # spelt letter by letter, or not at all


def test_tokens_cut_long_texts_at_their_length():
    tokens = Tokens.fit(NOTICES * 2, vocabulary=120, max_length=16)
    assert tokens(["file " * 100])["ids"].shape == (1, 16)


def test_a_text_without_a_known_word_still_gets_probabilities():
    scores = zoo.load("licence-transformer").model.scores(["\u2603 \u2603", "\u4f60\u597d"])
    assert np.isfinite(scores).all()
    assert np.allclose(scores.sum(1), 1)


def test_rnn_and_transformer_do_not_see_padding():
    torch.manual_seed(0)
    rnn = Recurrent(channels=3, classes=2).eval()
    x = torch.randn(2, 6, 3)
    lengths = torch.tensor([4, 6])
    dirty = x.clone()
    dirty[0, 4:] = 99
    assert torch.equal(rnn(x, lengths), rnn(dirty, lengths))
    assert torch.allclose(rnn(x[:1, :4], lengths[:1]), rnn(x, lengths)[:1], atol=1e-6)
    transformer = Encoder(vocabulary=20, length=8, classes=3, width=16, heads=2, pairs=32).eval()
    torch.nn.init.normal_(transformer.tokens.pairs.weight)
    ids, mask = torch.randint(4, 20, (1, 8)), torch.arange(8)[None] < 5
    other = torch.where(mask, ids, 7)
    assert torch.allclose(transformer(ids, mask), transformer(other, mask), atol=1e-6)
    assert torch.allclose(transformer(ids[:, :5], mask[:, :5]), transformer(ids, mask), atol=1e-5)


def test_a_phrase_is_its_token_and_its_pair():
    torch.manual_seed(0)
    layer = Phrases(vocabulary=20, width=4, pairs=64)
    ids = torch.tensor([[2, 5, 9], [9, 5, 2]])
    assert torch.equal(layer(ids), torch.nn.functional.embedding(ids, layer.weight))  # pairs say nothing before they have learnt
    torch.nn.init.normal_(layer.pairs.weight)
    whole = layer(ids)
    for row, texts in enumerate(ids.tolist()):
        for place, (before, token) in enumerate(zip([0, *texts], texts, strict=False)):
            pair = layer.pairs.weight[(token * 1_000_003 + before * 7919) % 64]
            assert torch.equal(whole[row, place], layer.weight[token] + pair)
    assert not torch.equal(whole[0, 1], whole[1, 1])  # the same token after another
    assert torch.equal(layer(torch.tensor(5)), layer(torch.tensor([5, 5]))[1])


def test_transformer_calls_the_fused_attention(monkeypatch):
    called = []
    fused = torch.nn.functional.scaled_dot_product_attention

    def spy(*args, **kwargs):
        called.append(kwargs["attn_mask"].shape)
        return fused(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    Encoder(vocabulary=20, length=8, classes=3, width=16, heads=2)(torch.zeros(2, 5, dtype=torch.long), torch.ones(2, 5, dtype=torch.bool))
    assert called == [(2, 1, 1, 5)] * 2


def test_augmentation_keeps_shapes_and_special_tokens_and_follows_the_generator():
    tokens = Tokens.fit(NOTICES * 2, vocabulary=120, max_length=16)
    batch = tokens(NOTICES)
    changed = licences.augment(batch, torch.Generator().manual_seed(1))
    again = licences.augment(batch, torch.Generator().manual_seed(1))
    assert torch.equal(changed["ids"], again["ids"])
    differs = changed["ids"] != batch["ids"]
    assert differs.any()
    assert (changed["ids"][differs] == tokens.mask_id).all()
    assert not differs[:, 0].any()
    assert not (differs & ~batch["mask"]).any()
    digits = RECIPES["digits-cnn"].augment()(torch.zeros(4, 1, 28, 28), torch.Generator().manual_seed(1))
    assert digits.shape == (4, 1, 28, 28)
    assert digits.abs().max() == 0
    series, lengths = RECIPES["vowels-rnn"].augment()((torch.randn(3, 20, 12), torch.tensor([7, 12, 20])), torch.Generator().manual_seed(1))
    assert series.shape == (3, 20, 12)
    assert (lengths >= 1).all()
    assert all((series[i, n:] == 0).all() for i, n in enumerate(lengths))


@pytest.mark.parametrize(
    "reference",
    [
        table(),
        np.round(np.random.default_rng(0).random((2, 28, 28)) * 255).astype(np.float32) / 255,
        [np.ones((3, 2), np.float32), np.zeros((1, 2), np.float32)],
    ],
    ids=["table", "images", "series"],
)
def test_background_comes_back_from_json(reference):
    again = background.parse(background.dump(reference))
    if isinstance(reference, pd.DataFrame):
        pd.testing.assert_frame_equal(again, reference)
    else:
        assert all(np.allclose(a, b) and a.dtype == np.float32 for a, b in zip(again, reference, strict=True))


def test_a_tokeniser_is_learnt_alike_in_every_process():
    """A run that goes on in a new process, or in several, must number its tokens as before."""
    code = f"from zoo import preprocess; print(preprocess.dump(preprocess.Tokens.fit({NOTICES * 2!r}, 300, 16)).decode())"
    shown = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in range(2)]
    tokens = Tokens.fit(NOTICES * 2, 300, 16)
    assert shown == [preprocess.dump(tokens).decode() + "\n"] * 2
    assert tokens.tokens(["##s"]) == [["[CLS]", "[UNK]", "[UNK]", "s"]]  # no letter is special in a text
