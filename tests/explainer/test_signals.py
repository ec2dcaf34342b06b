"""Pictures and sounds for models of transformers: their own pipelines and the bare modules say what is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import explainer
from explainer.errors import InvalidInput, Unsupported

pytest.importorskip("transformers")
from transformers_gallery import by_class, pipeline, resnet, vit, wav2vec2


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


def test_attention_over_sounds_is_that_of_the_module_over_its_frames() -> None:
    module, extractor = wav2vec2()
    model, rng = explainer.wrap((module, extractor)), np.random.default_rng(0)
    waves = [rng.normal(size=n).astype(np.float32) for n in (600, 900)]
    ex = explainer.explain(model, waves, "attention", verify=False)
    assert ex.values.shape == (2, 900) and np.isnan(ex.values[0, 600:]).all()
    module.set_attn_implementation("eager")
    for i, wave in enumerate(waves):
        with torch.no_grad():
            told = module(**extractor(wave, sampling_rate=16_000, return_tensors="pt"), output_attentions=True).attentions
        np.testing.assert_allclose(ex.extras["attention"][i], torch.cat(told).numpy(), atol=1e-5)
        assert np.nansum(ex.values[i]) == pytest.approx(1, abs=1e-5)
        assert any(f"{told[0].shape[-1]} frames" in note for note in ex.provenance.notes)


@pytest.mark.parametrize("method", ["layer_cam", "score_cam", "eigen_cam", "attention", "attention_relevance", "layer_conductance"])
def test_what_looks_inside_sees_the_same_with_a_processor_as_with_tensors(method: str) -> None:
    model = explainer.wrap(vit())
    model.module.train()
    bare = explainer.wrap(model.module, modality="image", preprocess=lambda given: model.preprocess(given), class_names=model.class_names)
    given = np.random.default_rng(0).random((2, 24, 24, 3)).astype(np.float32)
    ours, plain = (explainer.explain(one, given, method, verify=False) for one in (model, bare))
    np.testing.assert_allclose(ours.values, plain.values, atol=1e-6)
    assert ours.values.any() and all(layer.training for layer in model.module.modules())
