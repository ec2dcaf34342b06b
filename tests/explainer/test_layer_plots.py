"""Figures of activations, probes, concepts, patching, ablation, the lens and visualised units: what is drawn is what was found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch_gallery as gallery

import explainer
from explainer.errors import InvalidInput


@pytest.fixture(scope="module")
def image() -> Any:
    names = {"class_names": ["<a>", "b", "c", "d"], "preprocess": gallery.standardised, "background": gallery.images(6, seed=3)}
    return explainer.wrap(gallery.convnet(), modality="image", **names)


@pytest.fixture(scope="module")
def text() -> Any:
    return gallery.text(gallery.seeded(gallery.Encoder), class_names=list("abc"))


@pytest.mark.parametrize("dark", [False, True])
def test_activations_and_the_image_of_a_unit(image, dark):
    found = explainer.activations(image, gallery.images(8))
    bars = {trace.name: trace for trace in explainer.plot(found, dark=dark).data}
    assert list(bars["dead units"].x) == [len(one.dead) / one.units for one in found.layers]
    np.testing.assert_allclose(list(bars["effective rank / units"].x), [one.effective_rank / one.units for one in found.layers])
    made = explainer.visualise(image, "conv", 1, steps=3)
    figure = explainer.plot(made, dark=dark)
    np.testing.assert_allclose(figure.data[1].y, made.curve)
    assert figure.data[0].z.shape == (8, 8)


@pytest.mark.parametrize("dark", [False, True])
def test_probes_and_concepts(image, dark):
    inputs = gallery.images(40)
    found = explainer.probe(image, inputs, inputs.mean((1, 2)) > 0.5, controls=2)
    line, control = explainer.plot(found, dark=dark).data
    np.testing.assert_allclose(line.y, found.values)
    np.testing.assert_allclose(np.array(line.y) + line.error_y.array, found.high)
    np.testing.assert_allclose(control.y, found.control.mean(1))
    shown = {"light": gallery.images(9) * 0.5 + 0.5, "none": gallery.images(9, seed=2)}
    told = explainer.concepts(image, gallery.images(5), shown, gallery.images(20, seed=4), target="b", runs=3)
    bars, random = explainer.plot(told, dark=dark).data
    np.testing.assert_allclose(bars.x, told.values[0])
    assert random.x[0] == told.random[0].mean()
    assert [told.said(0, j) in bars.customdata[j][0].replace("&#x27;", "'") for j in range(2)] == [True, True]


@pytest.mark.parametrize("dark", [False, True])
def test_patching_ablation_and_lens(image, text, dark):
    found = explainer.patch(text, "the cat sat on", "the dog sat on")
    heat = explainer.plot(found, dark=dark).data[0]
    np.testing.assert_allclose(heat.z[:, :-1], np.array(found.values))
    np.testing.assert_allclose(heat.z[:, -1], found.whole)
    bars = explainer.plot(explainer.patch(image, gallery.images(2)[:1], gallery.images(2)[1:]), dark=dark).data[0]
    assert len(bars.x) == 3
    ablated = explainer.ablate(image, gallery.images(4), "norm")
    figure = explainer.plot(ablated, top=2, dark=dark)
    np.testing.assert_allclose(figure.data[0].z, ablated.values[ablated.order[:2]])
    assert figure.layout.xaxis.ticktext[0] == "&lt;a&gt;"
    lens = explainer.logit_lens(text, gallery.TEXTS)
    lines = {trace.name: trace.y for trace in explainer.plot(lens, instance=2, dark=dark).data}
    np.testing.assert_allclose(lines["b"], lens.scores[2, :, 1])
    with pytest.raises(InvalidInput, match="instance=9"):
        explainer.plot(lens, instance=9)
