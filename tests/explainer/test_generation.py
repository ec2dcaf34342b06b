"""Language models of transformers: their bare modules, what they generate and their loss say what is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import explainer
from explainer.errors import InvalidInput
from explainer.features.text import words

transformers = pytest.importorskip("transformers")
from transformers_gallery import TEXTS, gpt2, llama, t5  # noqa: E402


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
        assert whole.target == ("sequence of ' in Paris'",) and ex.target == ("all of ' in Paris'",)
        np.testing.assert_allclose(whole.values, ex.values[..., -1], atol=1e-6)


def test_the_target_says_which_continuation_and_others_are_not_compared() -> None:
    model = explainer.wrap(gpt2())
    one, other = (explainer.explain(model, TEXTS[1], "saliency", target=t, verify=False) for t in (" in Paris", " the person"))
    assert one.target == ("sequence of ' in Paris'",) and "' in Paris'" in explainer.plot(one).layout.title.text
    with pytest.raises(InvalidInput, match="different targets .*' in Paris'.*' the person'"):
        explainer.compare([one, other])
    every = [explainer.explain(model, TEXTS[1], "saliency", target=("tokens", t), verify=False) for t in (" in Paris", " the person")]
    with pytest.raises(InvalidInput, match="different targets"):
        explainer.compare(every)
    assert set(every[0].to_frame()["target"]) == {f"{name} of ' in Paris'" for name in every[0].class_names}
    assert "sequence of ' in Paris'" in explainer.plot(every[0], output="sequence").layout.title.text
    with pytest.raises(InvalidInput, match="pass that target's model"):
        explainer.evaluate(one, model.continuing(" the person"))


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
    twice = explainer.wrap(t5("ForSequenceClassification"))
    assert twice.capabilities()["integrated_gradients"].level == "unsupported"
    assert "reads the text twice" in twice.capabilities()["integrated_gradients"].reason
    np.testing.assert_allclose(twice.scores(TEXTS)[1], twice.scores(TEXTS[1:2])[0], atol=1e-5)
