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
from transformers_gallery import (  # noqa: E402, I001
    LABELS, TEXT_CLASSIFIERS, TEXTS, bart, bert, by_class, gpt2, llama, module_scores, pipeline, roberta, t5, vit, wav2vec2, wordpiece,
)  # fmt: skip

transformers.logging.set_verbosity_error()
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
    with pytest.raises(InvalidInput, match="Did you mean 'Paris'"):
        explainer.explain(model, SENTENCE, target=("token", "Pariss", "high"))
    with pytest.raises(InvalidInput, match="Unknown word 44"):
        model.at(44).scores([SENTENCE])
    with pytest.raises(UnknownName, match="Did you mean 'high'"):
        explainer.explain(model, SENTENCE, target=("token", "Paris", "hihg"))
    assert model.capabilities()["integrated_gradients"].level != "unsupported"
    some = explainer.explain(model, [SENTENCE, "to any person"], "shap", target=("token", "Paris", "high"), budget=20)
    assert np.isfinite(some.values[0]).all() and np.isnan(some.values[1]).all()
    assert some[1].verdict.status == "fail" and "Unknown word 'Paris'" in some[1].verdict.reason


def test_the_target_says_which_word_and_others_are_not_compared(tmp_path: Any) -> None:
    model = explainer.wrap(bert("ForTokenClassification"))
    one, other = (explainer.explain(model, SENTENCE, "saliency", target=("token", w, "high"), verify=False) for w in ("Paris", 8))
    assert one.target == ("high of 'Paris' (word 3)",) and other.target == ("high of 'London' (word 8)",)
    with pytest.raises(InvalidInput, match="different targets .*'Paris'.*'London'"):
        explainer.compare([one, other])
    assert "high of 'Paris' (word 3)" in explainer.plot(one).layout.title.text
    assert explainer.load(one.save(tmp_path / "ex")).target == one.target
    every = explainer.explain(model, SENTENCE, "saliency", target=("token", "Paris", "all"), verify=False)
    assert list(every.to_frame()["target"][:3]) == [f"{c} of 'Paris' (word 3)" for c in model.class_names]
    each = explainer.explain(model, ["Paris", "to Paris"], "saliency", target=("token", "Paris", ["low", "high"]), verify=False)
    drives = explainer.importance(model, [SENTENCE, "to Paris"], method="shap", target=("token", "Paris", "high"), budget=20)
    assert drives.target == "high of 'Paris'"
    assert each.target == ("low of 'Paris' (word 0)", "high of 'Paris' (word 1)")


def test_a_word_that_stands_twice_is_not_guessed() -> None:
    model = explainer.wrap(bert("ForTokenClassification"))
    with pytest.raises(InvalidInput, match=r"'the' stands 2 times in the text, in words 0, 5 .*model.at\(0\)"):
        explainer.explain(model, SENTENCE, target=("token", "the", "high"))
    for number in (0, 5):
        ex = explainer.explain(model, SENTENCE, "ablation", target=("token", number, "high"), verify=False)
        assert ex.target == (f"high of 'the' (word {number})",)


@pytest.mark.parametrize("target", [("token", "Paris", "high"), "classes"])
def test_results_on_views_are_measured_saved_and_compared(target: Any, tmp_path: Any) -> None:
    model = explainer.wrap(bert("ForTokenClassification")) if target != "classes" else explainer.wrap(llama())
    target = " Paris" if target == "classes" else target
    found = [explainer.explain(model, SENTENCE, method, target=target, budget=64) for method in ("shap", "lime")]
    assert len(explainer.evaluate(found[0])) and explainer.compare(found) is not None
    found[0].save(tmp_path / "ex")
    again = explainer.load(tmp_path / "ex")
    np.testing.assert_array_equal(again.values, found[0].values)
    assert again.target == found[0].target


@pytest.mark.parametrize("make", [*TEXT_CLASSIFIERS.values(), llama, t5, bart, vit, wav2vec2])
def test_a_model_in_training_mode_can_do_what_it_can_in_eval_mode(make: Any) -> None:
    pair = make()
    told = explainer.wrap(pair).capabilities()
    pair[0].train()
    model = explainer.wrap(pair)
    assert not model.anatomy().gradient_obstacle and model.capabilities() == told


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
def test_an_error_in_the_middle_leaves_the_model_alone(kind: str) -> None:
    make, target = KINDS[kind]
    module, tokenizer = make()
    model = explainer.wrap((module, tokenizer))
    module.train()
    calls = []

    def fail(*_: Any) -> None:
        calls.append(module.training)
        if len(calls) > 3:
            raise KeyError("broken")

    last = list(module.modules())[-1]
    handle = last.register_forward_hook(fail)
    with pytest.raises((KeyError, ExplainerError)):
        explainer.explain(model, TEXTS[0], "integrated_gradients", target=target)
    handle.remove()
    assert len(calls) > 3 and not any(calls)  # scored in eval mode
    assert all(layer.training and not layer._forward_hooks for layer in module.modules())


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
