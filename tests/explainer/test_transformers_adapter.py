"""Models of transformers: their own pipelines, captum and the bare modules say what is right."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

import explainer
from explainer.errors import ExplainerError, InvalidInput, UnknownName, Unsupported
from explainer.features.text import words
from explainer.methods import METHODS

transformers = pytest.importorskip("transformers")
from transformers_gallery import LABELS, TEXT_CLASSIFIERS, TEXTS, bert, gpt2, llama, resnet, roberta, t5, vit, wav2vec2, wordpiece  # noqa: E402

transformers.logging.set_verbosity_error()
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


# -- text classification ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TEXT_CLASSIFIERS)
def test_texts_score_as_in_the_pipeline_alone_and_in_a_batch(kind: str) -> None:
    pair = TEXT_CLASSIFIERS[kind]()
    model = explainer.wrap(pair)
    assert model.class_names == tuple(LABELS.values())
    assert not model.padding_counts  # so that the batch is padded, and texts are not scored one by one after all
    scores = model.scores(TEXTS)
    assert scores.std(0).max() > 1e-3  # the texts differ, so that equal scores prove something
    for text, row in zip(TEXTS, scores, strict=True):
        logits = torch.tensor(module_scores(pair, text)[0]).double()
        np.testing.assert_allclose(row, logits.softmax(0), atol=1e-5)
        np.testing.assert_allclose(model.scores([text])[0], row, atol=1e-5)
    pipe = pipeline(pair, top_k=None)
    for text, row in zip(TEXTS, explainer.wrap(pipe).scores(TEXTS), strict=True):
        np.testing.assert_allclose(row, by_class(pipe, text, model.class_names), atol=1e-5)


@pytest.mark.parametrize("kind", TEXT_CLASSIFIERS)
def test_integrated_gradients_are_complete_on_every_classifier(kind: str) -> None:
    ex = explainer.explain(explainer.wrap(TEXT_CLASSIFIERS[kind]()), TEXTS, "integrated_gradients", verify=False)
    np.testing.assert_allclose(np.nansum(ex.values, 1) + ex.base_values, ex.scores, atol=5e-3)
    alone = explainer.explain(explainer.wrap(TEXT_CLASSIFIERS[kind]()), TEXTS[1], "integrated_gradients", verify=False)
    n = len(words(TEXTS[1]))
    np.testing.assert_allclose(alone.values[0], ex.values[1, :n], atol=1e-4)


def word_sums(text: str, offsets: list[tuple[int, int]], per_token: np.ndarray) -> np.ndarray:
    """Every token's value given to the word that holds its characters, letter by letter."""
    sums = np.zeros(len(words(text)))
    for (start, stop), value in zip(offsets, per_token, strict=True):
        letters = [c for c in range(start, stop) if not text[c].isspace()]
        if stop > start and not letters:  # white space alone stands before a word
            letters = [next(c for c in range(stop, len(text)) if not text[c].isspace())]
        owners = [w for w, (a, b) in enumerate(words(text)) if letters and a <= letters[0] < b]
        if owners:
            sums[owners[0]] += value
    return sums


def test_captum_gives_the_same_values_at_berts_embeddings() -> None:
    from captum.attr import LayerIntegratedGradients

    module, tokenizer = bert()
    ex = explainer.explain(explainer.wrap((module, tokenizer)), TEXTS[2], "integrated_gradients", target=1, steps=32, verify=False)
    made = tokenizer(TEXTS[2], return_tensors="pt", return_offsets_mapping=True, return_special_tokens_mask=True)
    special, ids = made["special_tokens_mask"].bool(), made["input_ids"]
    reference = torch.where(special, ids, tokenizer.pad_token_id)
    forward = lambda ids, mask: module(input_ids=ids, attention_mask=mask).logits.double().softmax(-1)  # noqa: E731
    peer = LayerIntegratedGradients(forward, module.bert.embeddings.word_embeddings)
    mask = made["attention_mask"].expand(32, -1)
    values = peer.attribute(
        ids, reference, target=1, additional_forward_args=(mask[:1],), n_steps=32, method="gausslegendre", internal_batch_size=1
    )
    per_token = values.sum(-1)[0].detach().numpy()
    offsets = [tuple(pair) for pair in made["offset_mapping"][0].tolist()]
    np.testing.assert_allclose(ex.values[0], word_sums(TEXTS[2], offsets, per_token), atol=1e-6)
    assert len(offsets) > len(words(TEXTS[2])) + 2  # words of several tokens are among them


@pytest.mark.parametrize("make", [bert, roberta, lambda: gpt2("ForSequenceClassification", 0), lambda: llama("ForSequenceClassification")])
def test_a_words_value_is_the_sum_over_its_tokens(make: Any) -> None:
    model, texts = explainer.wrap(make()), [*TEXTS, "free  of   charge"]
    view = model.gradient_view(texts)
    values = torch.randn(view.x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for i, text in enumerate(texts):
        offsets = model.preprocess.offsets([text])[0]
        per_token = values[i].sum(-1)[: len(offsets)].numpy()
        np.testing.assert_allclose(view.collapse(values[i], i), word_sums(text, offsets, per_token), rtol=1e-12)
        own = [k for k, (a, b) in enumerate(offsets) if b > a]
        assert np.isclose(view.collapse(values[i], i).sum(), per_token[own].sum())  # nothing of a word is lost


def test_what_the_logits_mean_is_read_from_the_configuration() -> None:
    scores = {}
    for problem in (None, "multi_label_classification", "regression"):
        pair = bert(problem_type=problem)
        model, pipe = explainer.wrap(pair), pipeline(pair, top_k=None)
        scores[problem] = model.scores(TEXTS)
        want = np.stack([by_class(pipe, text, model.class_names) for text in TEXTS])
        np.testing.assert_allclose(scores[problem], want, atol=1e-5)
        logits = np.concatenate([module_scores(pair, text) for text in TEXTS])
        np.testing.assert_allclose(model.scores(TEXTS, "logit"), logits, atol=1e-4)
        assert (model.task == "regression") == (problem == "regression")
        ex = explainer.explain(model, TEXTS[:2], "integrated_gradients", target="middle", verify=False)
        np.testing.assert_allclose(np.nansum(ex.values, 1) + ex.base_values, ex.scores, atol=1e-2 * np.abs(ex.scores).max())
        np.testing.assert_allclose(ex.scores, want[:2, 1], atol=1e-5)
    assert np.abs(scores["multi_label_classification"].sum(1) - 1).max() > 0.05  # never made to sum to 1
    one = bert(num_labels=1, id2label={0: "relevant"}, label2id={"relevant": 0})
    pipe = pipeline(one, top_k=None)
    np.testing.assert_allclose(explainer.wrap(one).scores(TEXTS)[:, 0], [by_class(pipe, t, ("relevant",))[0] for t in TEXTS], atol=1e-5)
    both = explainer.wrap(one, class_names=["irrelevant", "relevant"]).scores(TEXTS)
    np.testing.assert_allclose(both.sum(1), 1)
    applied = pipeline(bert(), top_k=None, function_to_apply="sigmoid")
    np.testing.assert_allclose(explainer.wrap(applied).scores(TEXTS[:1])[0], by_class(applied, TEXTS[0], tuple(LABELS.values())), atol=1e-5)


def test_a_text_that_is_cut_says_so_whatever_the_method() -> None:
    pair = bert()
    pair[1].model_max_length = 12
    long = " ".join(TEXTS)
    model = explainer.wrap(pair)
    np.testing.assert_allclose(
        model.scores([long], "logit"), module_scores(pair, long, truncation=True, max_length=12), atol=1e-5
    )  # fmt: skip
    for method, options in (("integrated_gradients", {}), ("shap", {"budget": 20})):
        ex = explainer.explain(model, [long, "granted"], method, verify=False, **options)
        (note,) = [note for note in ex.provenance.notes if "are cut to the 12 tokens" in note]
        read = pair[1](long, truncation=True, max_length=12, return_offsets_mapping=True)["offset_mapping"]
        lost = [long[a:b] for a, b in words(long) if a >= max(stop for _, stop in read)]
        assert note.startswith("1 of 2 texts") and f"{len(lost)} words, from {lost[0]!r}" in note
    assert not any("cut" in note for note in explainer.explain(model, "granted", "saliency", verify=False).provenance.notes)


def test_roberta_counts_its_positions_from_behind_the_padding() -> None:
    pair = roberta()
    assert explainer.wrap(pair).preprocess.max_length == 64
    explainer.wrap(pair).scores(["granted " * 300])


def test_a_slow_tokenizer_is_aligned_by_decoding_or_refused(tmp_path: Any) -> None:
    from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

    module, fast = bert()
    known = fast.get_vocab()
    (tmp_path / "vocab.txt").write_text("\n".join(sorted(known, key=known.get)))
    slow, quick = explainer.wrap((module, BertTokenizerLegacy(tmp_path / "vocab.txt"))), explainer.wrap((module, fast))
    assert slow.preprocess.offsets(TEXTS) == quick.preprocess.offsets(TEXTS)
    np.testing.assert_allclose(slow.scores(TEXTS), quick.scores(TEXTS))
    with pytest.raises(Unsupported, match=r"keeps no offsets.*fast version"):
        explainer.explain(slow, "granted § charge", "saliency")
    explainer.explain(slow, "granted § charge", "shap")


def test_unknown_texts_are_refused() -> None:
    with pytest.raises(InvalidInput, match="no word that"):
        explainer.explain(explainer.wrap(bert()), ["§ ¶"], "shap")


# -- one word's labels -----------------------------------------------------------------------------------------------------

SENTENCE = "the person in Paris and the author in London"


def test_a_words_labels_are_those_of_its_first_token_in_the_pipeline() -> None:
    pair = bert("ForTokenClassification")
    pipe = transformers.pipeline("token-classification", model=pair[0], tokenizer=pair[1], ignore_labels=[])
    model, found = explainer.wrap(pipe), {entry["start"]: entry for entry in pipe(SENTENCE)}
    for k, (a, b) in enumerate(words(SENTENCE)):
        scores = model.at(k).scores([SENTENCE])[0]
        assert model.class_names[int(scores.argmax())] == found[a]["entity"]
        assert scores.max() == pytest.approx(found[a]["score"], abs=1e-5)
        if SENTENCE.count(SENTENCE[a:b]) == 1:
            np.testing.assert_array_equal(model.at(SENTENCE[a:b]).scores([SENTENCE])[0], scores)
    batch = model.at("Paris").scores([SENTENCE, "Paris", "use Paris"])
    np.testing.assert_allclose(batch[1], model.at("Paris").scores(["Paris"])[0], atol=1e-6)


def test_the_explained_word_keeps_its_place_when_words_are_left_out() -> None:
    module, tokenizer = bert("ForTokenClassification")
    model = explainer.wrap((module, tokenizer))
    text = "the person in Paris and London"

    def truth(text: str, at: str) -> float:
        made = tokenizer(text, return_tensors="pt", return_offsets_mapping=True)
        place = next(k for k, (a, b) in enumerate(made.pop("offset_mapping")[0].tolist()) if b > a and a == text.index(at))
        with torch.no_grad():
            return float(module(**made).logits[0, place].softmax(-1)[2])

    ex = explainer.explain(model, text, "ablation", target=("token", "Paris", "high"), verify=False)
    assert ex.scores[0] == pytest.approx(truth(text, "Paris"), abs=1e-6)
    left = {"person": "the in Paris and London", "London": "the person in Paris and"}
    left["Paris"] = "the person in [MASK] and London"
    for word, shown in left.items():
        want = truth(text, "Paris") - truth(shown, "[MASK]" if word == "Paris" else "Paris")
        assert ex.values[0][ex.feature_names[0].index(word)] == pytest.approx(want, abs=1e-6)
    shap = explainer.explain(model, text, "shap", target=("token", "Paris", "high"), verify=False)
    assert shap.base_values[0] == pytest.approx(truth("[MASK]", "[MASK]"), abs=1e-6)
    assert shap.values.sum() + shap.base_values[0] == pytest.approx(shap.scores[0], abs=1e-6)
    by_sentence = explainer.explain(
        model, "Use it. He is in Paris now. To any use.", "ablation", target=("token", "Paris", "high"), features="sentences", verify=False
    )
    want = truth("Use it. He is in Paris now. To any use.", "Paris") - truth("Use it. [MASK] To any use.", "[MASK]")
    assert by_sentence.values[0][1] == pytest.approx(want, abs=1e-6)


def test_a_token_classifier_asks_which_word_and_names_those_there_are() -> None:
    model = explainer.wrap(bert("ForTokenClassification"))
    with pytest.raises(InvalidInput, match=r"which one is explained.*the, person, in, Paris.*low, middle, high"):
        explainer.explain(model, SENTENCE)
    with pytest.raises(InvalidInput, match="which one is explained"):
        model.scores([SENTENCE])
    with pytest.raises(UnknownName, match="Did you mean 'Paris'"):
        explainer.explain(model, SENTENCE, target=("token", "Pariss", "high"))
    with pytest.raises(UnknownName, match="Unknown word 44"):
        model.at(44).scores([SENTENCE])
    with pytest.raises(UnknownName, match="Did you mean 'high'"):
        explainer.explain(model, SENTENCE, target=("token", "Paris", "hihg"))
    assert model.capabilities()["integrated_gradients"].level != "unsupported"


# -- language models -------------------------------------------------------------------------------------------------------


def log_probabilities(module: Any, ids: list[int]) -> np.ndarray:
    """Of each id after the first, given those before it, from one forward pass of the bare module."""
    with torch.no_grad():
        logits = module(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return np.array([logits[k, following] for k, following in enumerate(ids[1:])])


@pytest.mark.parametrize("make", [gpt2, llama])
def test_log_probabilities_are_those_of_the_bare_module(make: Any) -> None:
    module, tokenizer = make()
    model = explainer.wrap((module, tokenizer))
    continuation = " author of Paris"
    view = model.continuing(continuation)
    whole = [tokenizer(text + continuation)["input_ids"] for text in TEXTS]
    count = len(view.class_names) - 1
    names = [view.preprocess.name_of(token) for _, token in view.preprocess.reads]
    assert "".join(names) == continuation and view.class_names[-1] == "sequence"
    assert all(shown.startswith(name) for shown, name in zip(view.class_names, names, strict=False))
    scores = view.scores(TEXTS)
    for row, ids, text in zip(scores, whole, TEXTS, strict=True):
        assert ids[:-count] == tokenizer(text)["input_ids"]
        want = log_probabilities(module, ids)[-count:]
        np.testing.assert_allclose(row, [*want, want.sum()], atol=1e-4)
        np.testing.assert_allclose(view.scores([text])[0], row, atol=1e-5)
    token = whole[0][-count]
    np.testing.assert_allclose(model.next(token).scores(TEXTS)[:, 0], scores[:, 0], atol=1e-5)


@pytest.mark.parametrize("make", [gpt2, llama])
def test_predicted_is_what_the_model_generates(make: Any) -> None:
    module, tokenizer = make()
    model = explainer.wrap(transformers.pipeline("text-generation", model=module, tokenizer=tokenizer))
    ex = explainer.explain(model, TEXTS, "integrated_gradients", verify=False)
    for i, text in enumerate(TEXTS):
        made = tokenizer(text, return_tensors="pt")
        inputs = {"input_ids": made["input_ids"], "attention_mask": made["attention_mask"]}
        grown = module.generate(**inputs, max_new_tokens=3, do_sample=False, pad_token_id=0, eos_token_id=None)[0].tolist()
        new = grown[made["input_ids"].shape[1] :]
        assert model.greedy([text]) == new[:1]
        assert ex.scores[i] == pytest.approx(log_probabilities(module, grown)[-3], abs=1e-4)
        assert [token for _, token in model.steps(text, 3)] == new[: len(model.steps(text, 3))]
    np.testing.assert_allclose(np.nansum(ex.values, 1) + ex.base_values, ex.scores, atol=0.02 * np.abs(ex.scores - ex.base_values).max())


def test_the_sequences_values_are_the_sums_of_its_tokens() -> None:
    model = explainer.wrap(llama())
    for method, options in (("integrated_gradients", {"steps": 32}), ("shap", {"budget": 64}), ("saliency", {"absolute": False})):
        ex = explainer.explain(model, TEXTS[1], method, target=("tokens", " in Paris"), verify=False, **options)
        assert ex.values.shape == (1, 3, len(ex.class_names)) and ex.class_names[-1] == "sequence"
        np.testing.assert_allclose(ex.values[..., :-1].sum(-1), ex.values[..., -1], atol=1e-5)
        whole = explainer.explain(model, TEXTS[1], method, target=" in Paris", verify=False, **options)
        assert whole.target == ("sequence",)
        np.testing.assert_allclose(whole.values, ex.values[..., -1], atol=1e-6)


def test_two_next_tokens_are_compared_and_tokens_generated_earlier_are_explained() -> None:
    module, tokenizer = gpt2()
    model = explainer.wrap((module, tokenizer))
    single = [" in", " the"]
    margin = explainer.explain(model, TEXTS[:2], "integrated_gradients", target=("margin", *single), steps=16, verify=False)
    a, b = (explainer.explain(model, TEXTS[:2], "integrated_gradients", target=t, steps=16, verify=False) for t in single)
    np.testing.assert_allclose(margin.values, a.values - b.values, atol=1e-6)
    listed = explainer.explain(model, TEXTS[:2], "integrated_gradients", target=single, steps=16, verify=False)
    np.testing.assert_allclose(np.nan_to_num(listed.values[1]), np.nan_to_num(b.values[1]), atol=1e-6)
    for text, token in explainer.wrap(llama()).steps("the person", 3):
        ex = explainer.explain(explainer.wrap(llama()), text, "saliency", target=token, verify=False)
        assert len(ex.feature_names[0]) == len(words(text))
    with pytest.raises(InvalidInput, match=r"is \d+ tokens .* and single tokens are compared here"):
        explainer.explain(model, TEXTS[0], target=("margin", " written-permission", " b"))
    with pytest.raises(InvalidInput, match="which token"):
        explainer.explain(model, TEXTS[0], target=lambda scores: scores[:, 0])


def test_a_prompt_too_long_loses_its_beginning() -> None:
    module, tokenizer = llama()
    tokenizer.model_max_length = 16
    model = explainer.wrap((module, tokenizer))
    long = " ".join(TEXTS)
    view = model.continuing(" in Paris")
    after = len(view.preprocess.after)
    ids = tokenizer(long, truncation=False)["input_ids"]
    want = log_probabilities(module, [ids[0], *ids[-(16 - after - 1) :], *view.preprocess.after, view.preprocess.reads[-1][1]])
    np.testing.assert_allclose(view.scores([long])[0, :-1], want[-after - 1 :], atol=1e-4)
    ex = explainer.explain(model, long, "saliency", target=" in Paris", verify=False)
    assert any("loses its first" in note and "up to" in note for note in ex.provenance.notes)
    assert not ex.values[0, 0] and ex.values[0, -1]


def test_an_encoder_decoder_scores_what_its_loss_says() -> None:
    module, tokenizer = t5()
    model = explainer.wrap((module, tokenizer))
    labels = tokenizer(" the author", add_special_tokens=False, return_tensors="pt")["input_ids"]
    scores = model.continuing(" the author").scores(TEXTS)
    for text, row in zip(TEXTS, scores, strict=True):
        made = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            loss = module(input_ids=made["input_ids"], attention_mask=made["attention_mask"], labels=labels).loss
        assert row[-1] == pytest.approx(-float(loss) * labels.shape[1], abs=1e-4)
    ex = explainer.explain(model, TEXTS[:2], "integrated_gradients", target=" the author", verify=False)
    np.testing.assert_allclose(np.nansum(ex.values, 1) + ex.base_values, ex.scores, atol=0.02 * np.abs(ex.scores - ex.base_values).max())
    assert model.capabilities()["attention"].level == "unsupported"
    twice = explainer.wrap(t5("ForSequenceClassification"))
    assert twice.capabilities()["integrated_gradients"].level == "unsupported"
    assert "reads the text twice" in twice.capabilities()["integrated_gradients"].reason
    np.testing.assert_allclose(twice.scores(TEXTS)[1], twice.scores(TEXTS[1:2])[0], atol=1e-5)


# -- pictures and sounds ---------------------------------------------------------------------------------------------------


def pictures(*sizes: tuple[int, int]) -> list[Any]:
    from PIL import Image

    rng = np.random.default_rng(0)
    made = []
    for height, width in sizes:
        coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        made.append(coarse.resize((width, height)))
    return made


@pytest.mark.parametrize("make", [vit, resnet])
def test_pictures_score_as_in_the_pipeline(make: Any) -> None:
    pair = make()
    pipe = pipeline(pair, "image_processor")
    model = explainer.wrap(pair)
    given = pictures((40, 56), (31, 30), (24, 24), (28, 28))
    want = np.stack([by_class(pipe, one, model.class_names) for one in given])
    np.testing.assert_allclose(model.scores(given), want, atol=1e-5)
    np.testing.assert_allclose(explainer.wrap(pipe).scores(given), want, atol=1e-5)
    np.testing.assert_allclose(model.scores(np.stack([np.asarray(given[0])] * 2)), want[[0, 0]], atol=1e-5)  # (n, H, W, C) of 8 bits
    seen = model.canonical(given)
    np.testing.assert_allclose(model.canonical(seen), seen)
    np.testing.assert_allclose(model.scores(seen), want, atol=1e-5)


@pytest.mark.parametrize("make", [vit, resnet])
def test_gradients_reach_the_picture_that_the_model_sees(make: Any) -> None:
    module, processor = make()
    model = explainer.wrap((module, processor))
    given = pictures((40, 56), (31, 30))
    ex = explainer.explain(model, given, "saliency", target=2, output="logit", absolute=False, verify=False)
    seen = torch.tensor(np.moveaxis(ex.inputs, -1, 1))
    mean, std = (torch.tensor(v)[:, None, None] for v in (processor.image_mean, processor.image_std))
    normal = ((seen - mean) / std).float().requires_grad_()
    (gradient,) = torch.autograd.grad(module(pixel_values=normal).logits[:, 2].sum(), normal)
    np.testing.assert_allclose(ex.values, gradient.sum(1), atol=1e-5)
    assert any("picture that the model sees" in note for note in ex.provenance.notes)
    complete = explainer.explain(model, given, "integrated_gradients", verify=False)
    np.testing.assert_allclose(complete.values.sum((1, 2)) + complete.base_values, complete.scores, atol=5e-3)


def test_pictures_without_resizing_keep_their_size_and_their_floats() -> None:
    module, processor = vit()
    processor.do_resize = False
    model = explainer.wrap((module, processor))
    floats = np.random.default_rng(0).random((2, 24, 24, 3)).astype(np.float32)
    assert model.canonical(floats).tobytes() == floats.tobytes() and not model.notes(floats)
    with pytest.raises(InvalidInput, match="floats are 0 to 1"):
        explainer.wrap(vit()).scores([floats[0] * 255])


def test_a_processor_that_does_more_is_refused() -> None:
    module, processor = vit()

    class Inverted(type(processor)):  # type: ignore[misc]
        def rescale(self, image: Any, scale: float, **more: Any) -> Any:
            return 1 - super().rescale(image, scale, **more)

    with pytest.raises(Unsupported, match="Inverted does more than resize"):
        explainer.wrap((module, Inverted(size={"height": 24, "width": 24})))


def test_sounds_score_as_in_the_pipeline_whatever_their_lengths() -> None:
    pair = wav2vec2()
    pipe = pipeline(pair, "feature_extractor", top_k=None)
    model, rng = explainer.wrap(pipe), np.random.default_rng(0)
    waves = [rng.normal(size=n).astype(np.float32) for n in (900, 640, 900)]
    want = np.stack([by_class(pipe, wave, model.class_names) for wave in waves])
    np.testing.assert_allclose(model.scores(waves), want, atol=1e-5)
    np.testing.assert_allclose(model.scores([{"raw": waves[1], "sampling_rate": 16_000}])[0], want[1], atol=1e-5)
    np.testing.assert_allclose(model.scores(np.stack(waves[::2])), want[::2], atol=1e-5)
    with pytest.raises(InvalidInput, match="8000 samples a second and the model takes 16000"):
        model.scores([{"raw": waves[1], "sampling_rate": 8_000}])
    quiet = [wave[:, None] * 0.5 for wave in waves]
    ex = explainer.explain(model, waves, "integrated_gradients", baseline=[q[::-1] for q in quiet], output="logit", verify=False)
    assert ex.values.shape == (3, 900, 1) and np.isnan(ex.values[1, 640:]).all()
    np.testing.assert_allclose(np.nansum(ex.values, (1, 2)) + ex.base_values, ex.scores, atol=0.02)
    assert "frames of the sound" in model.capabilities()["attention"].reason


# -- the contract ----------------------------------------------------------------------------------------------------------

KINDS = {
    "classifier": (bert, "predicted"), "padless": (lambda: gpt2("ForSequenceClassification"), "predicted"),
    "tagger": (lambda: bert("ForTokenClassification"), ("token", "granted", "high")), "generator": (llama, " Paris"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", [name for name, entry in METHODS.items() if "text" in entry.modalities])
def test_every_text_method_is_right_or_refused_and_leaves_the_model_alone(kind: str, method: str) -> None:
    make, target = KINDS[kind]
    module, tokenizer = make()
    module.train()
    module.config._attn_implementation_was = module.config._attn_implementation
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    state = torch.random.get_rng_state()
    settings = (
        tokenizer.padding_side,
        tokenizer.truncation_side,
        tokenizer.backend_tokenizer.padding,
        tokenizer.backend_tokenizer.truncation,
    )
    options = {"budget": 30} if METHODS[method].family == "coalition" else {}
    runs = []
    for _ in range(2):
        with contextlib.suppress(ExplainerError):  # refused, with the reason
            runs.append(explainer.explain(explainer.wrap((module, tokenizer)), TEXTS[0], method, target=target, verify=False, **options))
    for ex in runs:
        assert np.isfinite(ex.values).all() and ex.feature_names[0]
        np.testing.assert_array_equal(ex.values, runs[0].values)
    assert len(runs) in (0, 2)
    assert all(layer.training for layer in module.modules())
    assert module.config._attn_implementation == module.config._attn_implementation_was
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert all(p.grad is None for p in module.parameters())
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in module.modules())
    assert torch.equal(state, torch.random.get_rng_state())
    assert settings == (tokenizer.padding_side, tokenizer.truncation_side, *settings[2:])


@pytest.mark.parametrize("kind", KINDS)
def test_the_full_verdict_is_judged_on_the_view(kind: str) -> None:
    make, target = KINDS[kind]
    ex = explainer.explain(explainer.wrap(make()), TEXTS[0], "integrated_gradients", target=target, verify="full", steps=16)
    assert ex.verdict.status in ("pass", "warn", "fail")
    assert any("random weights" in check.reason for check in ex.verdict.checks.values())


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_does_not_depend_on_the_implementation(attention: str) -> None:
    module, tokenizer = bert()
    module.set_attn_implementation(attention)
    ex = explainer.explain(explainer.wrap((module, tokenizer)), TEXTS[:2], "attention", verify=False)
    assert module.config._attn_implementation == attention
    module.set_attn_implementation("eager")
    with torch.no_grad():
        told = module(**tokenizer(TEXTS[0], return_tensors="pt"), output_attentions=True).attentions
    for layer, weights in enumerate(told):
        np.testing.assert_allclose(ex.extras["attention"][0][layer], weights[0], atol=1e-5)


def test_half_precision_stays_half() -> None:
    module, tokenizer = bert()
    module = module.to(torch.bfloat16)
    model = explainer.wrap((module, tokenizer))
    full = explainer.wrap(bert())
    np.testing.assert_allclose(model.scores(TEXTS), full.scores(TEXTS), atol=0.1)
    explainer.explain(model, TEXTS[1], "saliency", verify=False)
    assert {p.dtype for p in module.parameters()} == {torch.bfloat16}


def test_what_cannot_be_explained_is_refused_with_what_can() -> None:
    module, tokenizer = bert("ForMaskedLM")
    with pytest.raises(Unsupported, match="BertForMaskedLM has none of the heads"):
        explainer.wrap((module, tokenizer))
    with pytest.raises(Unsupported, match="FillMaskPipeline cannot be explained yet"):
        explainer.wrap(transformers.pipeline("fill-mask", model=module, tokenizer=tokenizer))
    small = transformers.BertForSequenceClassification(transformers.BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=8))  # fmt: skip
    with pytest.raises(InvalidInput, match="do not belong together"):
        explainer.wrap((small, wordpiece()))
    with pytest.raises(InvalidInput, match="3 labels, but 2 class_names"):
        explainer.wrap(bert(), class_names=["a", "b"])
    with pytest.raises(Unsupported, match=r"\(model, tokenizer\)"):
        explainer.wrap((1, 2))


def test_other_objects_are_wrapped_without_transformers() -> None:
    code = (
        "import sys, numpy as np, explainer; explainer.wrap(lambda x: np.ones((len(x), 1)), modality='text', task='regression', "
        "class_names=['y']); sys.exit('transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
