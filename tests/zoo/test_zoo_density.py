"""digits-vae and digits-gan: the bound is one, codes mean something, strange pictures are told, pictures are drawn as promised."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

import zoo
from explainer.errors import InvalidInput, Unsupported
from zoo import baselines, gan, metrics, selftraining, vae
from zoo.sources import digits
from zoo.specimens import RECIPES


@pytest.fixture(scope="module")
def coder():
    return zoo.load("digits-vae")


@pytest.fixture(scope="module")
def drawer():
    return zoo.load("digits-gan")


@pytest.fixture(scope="module")
def known():
    return digits.load()


def test_the_cubature_is_the_elbo_that_drawn_codes_give(coder):
    module, images = coder.model.module, coder.data.test.inputs[:100]
    drawn, weighted = vae._sampled(module, coder.model.preprocess(images), seed=3)
    exact = -coder.model.scores(images)[:, 0]
    assert abs(drawn.mean() - exact.mean()) < 0.01 * abs(exact.mean())
    assert np.corrcoef(drawn, exact)[0, 1] > 0.995
    assert (weighted >= drawn).all()  # Burda et al. 2016: more codes, a tighter bound


def test_the_bound_is_below_the_likelihood_where_that_can_be_summed():
    """One code, by brute force: -ELBO >= -log of the integral over a fine grid of codes."""
    torch.manual_seed(0)
    module = vae.VAE(codes=1, width=2, hidden=8).eval()
    images = torch.rand(5, 1, 28, 28).round()
    with torch.no_grad():
        grid = torch.linspace(-8, 8, 4001)
        joint = -module.misfit(images, grid[:, None, None].expand(-1, 5, 1)) - grid[:, None].square() / 2 - np.log(2 * np.pi) / 2
        likelihood = joint.double().logsumexp(0) + np.log(16 / 4000)
        assert (module(images)[:, 0] >= -likelihood - 1e-2).all()


def test_divergence_is_that_of_torch():
    mean, spread = torch.randn(4, 3), torch.rand(4, 3) + 0.1
    kinds = torch.distributions
    expected = kinds.kl_divergence(kinds.Normal(mean, spread), kinds.Normal(0.0, 1.0)).sum(1)
    assert torch.allclose(vae.divergence(mean, spread), expected, atol=1e-6)


def test_scores_draw_nothing_and_training_does(coder):
    few = coder.data.test.inputs[:3]
    assert np.array_equal(coder.model.scores(few), coder.model.scores(few))
    module = vae.VAE()
    images = torch.rand(2, 1, 28, 28)
    assert not torch.equal(module(images), module(images))


def test_a_digit_is_rebuilt_and_its_error_is_zero_only_for_itself(coder):
    images = coder.data.test.inputs[:50]
    rebuilt = vae.decoded(coder.model, vae.codes(coder.model, images))
    assert np.abs(rebuilt - images).mean() < np.abs(rebuilt[::-1] - images).mean() / 2
    error = vae.reconstruction_error(coder.model, images)
    p, x = np.clip(rebuilt, 1e-7, 1 - 1e-7).astype(float), images.astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = np.nansum(np.where(x > 0, x * np.log(x / p), 0) + np.where(x < 1, (1 - x) * np.log((1 - x) / (1 - p)), 0), axis=(1, 2))
    assert error == pytest.approx(expected, rel=1e-3)


def test_a_traversal_moves_one_code_at_a_time(coder):
    start = coder.data.test.inputs[0]
    found = vae.traversal(coder.model, start, steps=5, reach=2.0)
    code = vae.codes(coder.model, start[None])
    assert found.shape == (code.shape[1], 5, 28, 28)
    assert found.min() >= 0 and found.max() <= 1
    moved = code.copy()
    moved[0, 2] = 2.0
    assert np.allclose(found[2, -1], vae.decoded(coder.model, moved)[0], atol=1e-6)
    assert (np.abs(found[:, -1] - found[:, 0]).max((1, 2)) > 0.1).any()
    middle = vae.traversal(coder.model, steps=3)[:, 1]
    assert np.allclose(middle, middle[0], atol=1e-6)


def test_the_map_holds_what_two_directions_can(coder, known):
    found = vae.plane(coder.model, known.test.inputs)
    codes = vae.codes(coder.model, known.test.inputs).astype(float)
    assert found.points.shape == (1000, 2)
    assert found.share == pytest.approx(found.points.var(0).sum() / codes.var(0).sum(), rel=1e-6)
    assert 2 / codes.shape[1] < found.share <= 1
    from sklearn.neighbors import KNeighborsClassifier

    for features, least in ((codes, 0.8), (found.points, 0.3)):  # codes keep the digit; a map of two directions some of it
        guess = KNeighborsClassifier(9).fit(features[::2], known.test.labels[::2]).predict(features[1::2])
        assert (guess == known.test.labels[1::2]).mean() > least


def test_strange_pictures_are_told_as_the_record_says(coder):
    images = coder.data.test.inputs
    record = coder.record["further"]
    found = vae.strange(images)
    assert all(one.shape == images.shape and one.min() >= 0 and one.max() <= 1 for one in found.values())
    usual = vae.reconstruction_error(coder.model, images)
    for kind in ("a bar across", "crops of a photograph"):
        area = metrics.separation(vae.reconstruction_error(coder.model, found[kind]), usual)
        assert area["value"] == pytest.approx(record[f"ROC AUC of reconstruction error for {kind}"]["value"], abs=2e-3)
        assert area["low"] > 0.9


def test_one_component_is_the_mean_of_each_pixel(coder):
    name, likelihood = baselines.bernoulli(coder.data, components=(1,), rounds=2)
    x = coder.data.train.inputs.reshape(3600, -1).astype(float)
    p = (x.sum(0) + 0.5) / 3601
    y = coder.data.test.inputs[:4].reshape(4, -1).astype(float)
    assert name == "mixture of 1 Bernoulli pictures by EM"
    assert likelihood(coder.data.test.inputs[:4]) == pytest.approx(y @ np.log(p) + (1 - y) @ np.log(1 - p))
    assert baselines.bernoulli(coder.data, components=(10,), rounds=10)[1](coder.data.test.inputs).mean() > -200


def test_a_vae_is_asked_for_and_codes_of_its_size(coder, drawer):
    with pytest.raises(Unsupported, match="digits-gan is no VAE"):
        vae.codes(drawer.model, drawer.data.test.inputs[:1])
    with pytest.raises(InvalidInput, match=r"\(n, 8\) are needed; \(1, 3\) came"):
        vae.decoded(coder.model, np.zeros((1, 3)))
    with pytest.raises(InvalidInput, match="at least 2"):
        vae.traversal(coder.model, steps=1)
    with pytest.raises(Unsupported, match="digits-vae draws no pictures"):
        gan.sample(coder.model, 1)
    for wrong in ({"n": 0}, {"n": 1, "keep": 0.0}, {"n": 1, "keep": 2.0}):
        with pytest.raises(InvalidInput, match="At least 1"):
            gan.sample(drawer.model, **wrong)


def test_the_same_seed_draws_the_same_bits(drawer):
    first, again, other = (gan.sample(drawer.model, 300, seed=s) for s in (4, 4, 5))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert first.shape == (300, 28, 28) and first.min() >= 0 and first.max() <= 1
    whole = gan.sample(drawer.model, 600, seed=4, keep=1)  # of which the better half was kept
    scores = drawer.model.scores(whole)[:, 0]
    assert np.array_equal(first, whole[scores >= np.sort(scores)[-300]])


def test_drawn_digits_are_of_all_ten_kinds_and_read_surely(drawer):
    read = gan.judged(gan.sample(drawer.model, gan.DRAWN))
    counts = np.bincount(read.argmax(1), minlength=10)
    assert read.max(1).mean() >= RECIPES["digits-gan"].bars[0].least
    assert (counts >= gan.DRAWN / 100).all(), counts
    for k in range(10):
        assert drawer.record["further"][f"share of pictures read as {k}"]["value"] == pytest.approx(counts[k] / gan.DRAWN, abs=3e-3)


def test_drawn_digits_are_no_copies(drawer, known):
    distance = gan.nearest(gan.sample(drawer.model, 200), known.train.inputs)
    assert (distance > 1).mean() > 0.95
    assert gan.nearest(known.train.inputs[:3], known.train.inputs) == pytest.approx(0, abs=1e-2)


def test_no_layer_of_the_discriminator_stretches(drawer):
    layers = [one for one in drawer.model.module.discriminator if hasattr(one, "weight")]
    assert len(layers) == 4
    for layer, bound in zip(layers, (1, 1, 1, gan.MARGIN), strict=True):
        assert torch.linalg.svdvals(layer.weight.flatten(1))[0] == pytest.approx(bound, rel=0.05)
        assert torch.linalg.svdvals(layer.parametrizations.weight.original.flatten(1))[0] != pytest.approx(bound, rel=0.05)


@pytest.mark.parametrize("bound", [1.0, 5.0])
def test_spectral_normalisation_finds_the_largest_singular_value(bound):
    torch.manual_seed(0)
    plain = torch.nn.Linear(30, 20)
    plain.weight.data.mul_(3)
    layer = gan.normed(plain, bound)
    for _ in range(50):
        _ = layer.weight
    kept = layer.parametrizations.weight[0].left.clone()
    layer.eval()
    assert torch.linalg.svdvals(layer.weight.detach())[0] == pytest.approx(bound, rel=1e-3)
    assert torch.equal(kept, layer.parametrizations.weight[0].left)


def test_each_side_learns_from_its_own_loss_only():
    """The discriminator's gradient is that of the hinge: the generator's term would push it towards calling everything real."""
    torch.manual_seed(0)
    module, images = gan.Adversarial(width=4).train(), torch.rand(6, 1, 28, 28)
    alone = copy.deepcopy(module)
    torch.manual_seed(1)
    module(images).mean().backward()
    assert all(p.requires_grad and bool(p.grad.abs().sum() > 0) for p in module.generator.parameters())
    torch.manual_seed(1)
    made = alone.generator(torch.randn(6, alone.codes)).detach()
    real, fake = alone.discriminator(torch.cat([images, made])).chunk(2)
    ((1 - real).relu() + (1 + fake).relu()).mean().backward()
    for mine, right in zip(module.discriminator.parameters(), alone.discriminator.parameters(), strict=True):
        assert mine.requires_grad
        torch.testing.assert_close(mine.grad, right.grad)


def test_an_effect_is_measured_without_other_labels(known, monkeypatch):
    seen = []
    real = selftraining.fitted

    def spy(few, more, seed):
        seen.append((few, more))
        return real(few, more, seed)

    monkeypatch.setattr(selftraining, "fitted", spy)
    monkeypatch.setattr(selftraining, "STEPS", 3)
    monkeypatch.setattr(selftraining, "SEEDS", 2)
    monkeypatch.setattr(selftraining, "SURE", 0.0)
    monkeypatch.setattr(selftraining, "PICTURES", 20)
    found = selftraining.effect(gan.Adversarial(width=4))
    assert len(seen) == 6 and all(np.bincount(few.labels).tolist() == [10] * 10 for few, _ in seen)
    assert [more is None for _, more in seen] == [True, False, False] * 2
    gain = found["accuracy of 100 labels and drawn pictures"]["value"] - found["accuracy of 100 labels"]["value"]
    assert found["what drawn pictures add"]["value"] == pytest.approx(gain, abs=2e-5)


def test_students_interval_of_a_known_case():
    found = metrics.student(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert found == {"value": 3.0, "low": pytest.approx(1.0368, abs=1e-4), "high": pytest.approx(4.9632, abs=1e-4)}


def test_the_way_between_two_codes_stays_on_their_sphere(drawer):
    found = gan.between(drawer.model, rows=2, steps=5)
    assert found.shape == (2, 5, 28, 28)
    assert np.abs(np.diff(found, axis=1)).mean() < np.abs(found[0] - found[1]).mean()
