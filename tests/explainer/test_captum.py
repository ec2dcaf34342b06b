"""captum's attribution objects as methods: the same numbers as captum gives alone, with our guards and verdict around them."""

from __future__ import annotations

import copy

import captum.attr as ca
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torch_gallery as gallery
from torch import nn

import explainer
from explainer.errors import InvalidInput, UnknownName, Unsupported
from explainer.methods.captum import CaptumMethod

DATA = gallery.table(3)
X = torch.tensor(DATA.to_numpy())
ZEROS = torch.zeros_like(X)


def mlp() -> nn.Sequential:
    return gallery.mlp()


def wrapped(net: nn.Module, **options) -> explainer.Model:
    return gallery.tabular(net, background=gallery.table(20, seed=1), **options)


def explained(obj, model=None, inputs=DATA, **options) -> explainer.Explanation:
    options = {"target": 1, "verify": False, **options}
    return explainer.explain(model or wrapped(obj.forward_func), inputs, obj, **options)


def seeded(call):
    torch.manual_seed(0)
    state = np.random.get_state()
    np.random.seed(0)
    try:
        return call()
    finally:
        np.random.set_state(state)


# -- the same numbers ------------------------------------------------------------------------------------------------------

INPUT = {
    "IntegratedGradients": {"n_steps": 7, "baselines": ZEROS},
    "Saliency": {"abs": False},
    "InputXGradient": {},
    "DeepLift": {"baselines": ZEROS},
    "FeatureAblation": {"baselines": 0.5},
    "ShapleyValueSampling": {"baselines": ZEROS, "n_samples": 4},
    "ShapleyValues": {"baselines": ZEROS},
    "Occlusion": {"baselines": 0, "sliding_window_shapes": (2,)},
    "GuidedBackprop": {},
    "Deconvolution": {},
    "FeaturePermutation": {},
}
ALONE = {
    "GradientShap": {"baselines": torch.tensor(gallery.table(6, seed=2).to_numpy()), "n_samples": 5, "stdevs": 0.1},
    "DeepLiftShap": {"baselines": torch.tensor(gallery.table(6, seed=2).to_numpy())},
    "KernelShap": {"baselines": ZEROS[:1], "n_samples": 30},
    "Lime": {"baselines": ZEROS[:1], "n_samples": 30},
}


@pytest.mark.parametrize("name", INPUT)
def test_a_batch_gets_captums_own_values(name):
    net = mlp()
    direct = seeded(lambda: getattr(ca, name)(net).attribute(X.clone(), target=1, **INPUT[name]))
    np.testing.assert_allclose(explained(getattr(ca, name)(net), **INPUT[name]).values, direct.detach().numpy(), atol=1e-6)


@pytest.mark.parametrize("name", ALONE)
def test_one_input_at_a_time_gets_captums_own_values(name):
    net = mlp()
    rows = [seeded(lambda i=i: getattr(ca, name)(net).attribute(X[i : i + 1].clone(), target=1, **ALONE[name])) for i in range(3)]
    ex = explained(getattr(ca, name)(net), **ALONE[name])
    np.testing.assert_allclose(ex.values, torch.cat(rows).detach().numpy(), atol=1e-6)
    assert ex.output == "raw" and ex.feature_names[0] == tuple(DATA.columns)


DRAWN = {"baselines": torch.tensor(gallery.table(6, seed=2).to_numpy())}
OF_LAYERS = {
    "LayerGradientShap": {**DRAWN, "n_samples": 5, "stdevs": 0.1},
    "LayerDeepLiftShap": DRAWN,
    "NeuronGradientShap": {**DRAWN, "n_samples": 5, "stdevs": 0.1, "neuron_selector": 2},
    "NeuronDeepLiftShap": {**DRAWN, "neuron_selector": 2},
}


@pytest.mark.parametrize("name", OF_LAYERS)
def test_draws_inside_layers(name):
    net = mlp()
    target = {"target": 1} if name.startswith("Layer") else {}
    rows = [
        seeded(lambda i=i: getattr(ca, name)(net, net[3]).attribute(X[i : i + 1].clone(), **target, **OF_LAYERS[name])) for i in range(3)
    ]
    ex = explained(getattr(ca, name)(net, net[3]), **OF_LAYERS[name])
    np.testing.assert_allclose(ex.values, torch.cat(rows).detach().numpy(), atol=1e-6)


def test_noise_tunnel_and_lrp():
    net = mlp()
    keywords = {"nt_type": "smoothgrad", "nt_samples": 6, "stdevs": 0.3}
    one = seeded(lambda: ca.NoiseTunnel(ca.Saliency(net)).attribute(X[:1].clone(), target=1, **keywords))
    ex = explained(ca.NoiseTunnel(ca.Saliency(net)), **keywords)
    np.testing.assert_allclose(ex.values[:1], one.detach().numpy(), atol=1e-6)
    direct = ca.LRP(mlp()).attribute(X.clone(), target=1)
    np.testing.assert_allclose(explained(ca.LRP(net)).values, direct.detach().numpy(), atol=1e-6)


LAYER = {
    "LayerIntegratedGradients": {"n_steps": 7, "baselines": ZEROS},
    "LayerConductance": {"n_steps": 7, "baselines": ZEROS},
    "InternalInfluence": {"n_steps": 7, "baselines": ZEROS},
    "LayerGradientXActivation": {},
    "LayerActivation": {},
    "LayerDeepLift": {"baselines": ZEROS},
    "LayerFeatureAblation": {},
    "LayerLRP": {},
}


@pytest.mark.parametrize("name", LAYER)
def test_layers(name):
    net = mlp()
    target = {} if name == "LayerActivation" else {"target": 1}
    direct = getattr(ca, name)(net, net[0]).attribute(X.clone(), **target, **LAYER[name])
    ex = explained(getattr(ca, name)(net, net[0]), **LAYER[name])
    np.testing.assert_allclose(ex.values, direct.detach().numpy(), atol=1e-6)
    assert ex.axes == ("instance", "unit") and ex.feature_names[0][3] == "unit 3"


NEURON = {
    "NeuronGradient": {},
    "NeuronIntegratedGradients": {"n_steps": 7, "baselines": ZEROS},
    "NeuronConductance": {"n_steps": 7, "baselines": ZEROS},
    "NeuronDeepLift": {"baselines": ZEROS},
    "NeuronFeatureAblation": {"baselines": 0},
    "NeuronGuidedBackprop": {},
    "NeuronDeconvolution": {},
}


@pytest.mark.parametrize("name", NEURON)
def test_neurons(name):
    net = mlp()
    target = {"target": 1} if name == "NeuronConductance" else {}
    direct = getattr(ca, name)(net, net[3]).attribute(X.clone(), neuron_selector=(2,), **target, **NEURON[name])
    ex = explained(getattr(ca, name)(net, net[3]), neuron_selector=(2,), verify=True, **NEURON[name])
    np.testing.assert_allclose(ex.values, direct.detach().numpy(), atol=1e-6)
    assert "unit (2,)" in ex.verdict.checks["faithfulness"].reason
    assert ex.verdict.checks["completeness"].status == "not run"


def cnn(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, 4)).eval()


PICTURES = np.random.default_rng(0).random((3, 8, 8, 3)).astype(np.float32)
PIXELS = torch.tensor(np.moveaxis(PICTURES, -1, 1).copy())


@pytest.mark.parametrize("name", ["IntegratedGradients", "Saliency", "DeepLift", "GuidedBackprop", "FeatureAblation"])
def test_pictures_sum_their_channels(name):
    net = cnn()
    model = explainer.wrap(net, modality="image")
    direct = getattr(ca, name)(net).attribute(PIXELS.clone(), target=1)
    ex = explained(getattr(ca, name)(net), model, PICTURES)
    np.testing.assert_allclose(ex.values, direct.detach().numpy().sum(1), atol=1e-6)
    assert ex.axes == ("instance", "row", "column")


def test_a_window_over_all_channels_counts_once():
    net = cnn()
    window = {"sliding_window_shapes": (3, 4, 4), "strides": (3, 4, 4)}
    ex = explained(ca.Occlusion(net), explainer.wrap(net, modality="image"), PICTURES, **window)
    without = PIXELS.clone()
    without[:, :, :4, :4] = 0
    drop = (net(PIXELS) - net(without))[:, 1].detach().numpy()
    np.testing.assert_allclose(ex.values[:, 2, 3], drop, atol=1e-5)


def test_grad_cam_is_enlarged_and_masks_are_shared_out():
    net = cnn()
    model = explainer.wrap(net, modality="image")
    direct = ca.LayerGradCam(net, net[2]).attribute(PIXELS.clone(), target=1)
    larger = F.interpolate(direct, (8, 8), mode="bilinear", align_corners=False)[:, 0]
    np.testing.assert_allclose(explained(ca.LayerGradCam(net, net[2]), model, PICTURES).values, larger.detach().numpy(), atol=1e-6)
    guided = ca.GuidedGradCam(net, net[1]).attribute(PIXELS.clone(), target=1)
    np.testing.assert_allclose(explained(ca.GuidedGradCam(net, net[1]), model, PICTURES).values, guided.detach().numpy().sum(1), atol=1e-6)
    mask = torch.arange(64).reshape(1, 8, 8).div(16, rounding_mode="floor").expand(3, 8, 8)
    ex = explained(ca.ShapleyValues(net), model, PICTURES, feature_mask=mask, verify=True)
    direct = ca.ShapleyValues(net).attribute(PIXELS.clone(), target=1, feature_mask=mask[None].contiguous())
    np.testing.assert_allclose(ex.values[:, ::2].sum(2) * 2, direct.detach().numpy()[:, 0, ::2, 0], atol=1e-5)
    assert ex.verdict.checks["completeness"].status == "pass"


# -- text ------------------------------------------------------------------------------------------------------------------


def text_model():
    net = gallery.seeded(gallery.Encoder, readout="mean")
    return net, gallery.text(net)


def test_words_through_the_embedding_layer():
    net, model = text_model()
    texts = gallery.TEXTS[:2]
    ours = explained(ca.IntegratedGradients(net), model, texts, n_steps=20)
    named = explainer.explain(model, texts, "integrated_gradients", 1, steps=20, output="raw", verify=False)
    np.testing.assert_allclose(ours.values, named.values, atol=1e-5)
    layered = explained(ca.LayerIntegratedGradients(net, net.token), model, texts, n_steps=20, verify=True)
    np.testing.assert_allclose(layered.values, named.values, atol=1e-5)
    assert layered.verdict.checks["completeness"].status == "pass" and layered.axes == ("instance", "word")
    encoded = gallery.Pieces()(texts[:1])
    base = torch.where(encoded["ids"] > 2, 0, encoded["ids"])
    direct = ca.LayerIntegratedGradients(net, net.token).attribute(
        encoded["ids"], base, target=1, additional_forward_args=(encoded["mask"],), n_steps=20
    )
    np.testing.assert_allclose(np.nansum(layered.values[0]), direct.sum().item(), atol=1e-5)
    given = explained(ca.LayerIntegratedGradients(net, net.token), model, texts[:1], n_steps=20, baselines=base)
    np.testing.assert_allclose(given.values[0], named.values[0][: given.values.shape[1]], atol=1e-5)


def test_words_are_switched_off_whole():
    net, model = text_model()
    ex = explained(ca.FeatureAblation(net), model, gallery.TEXTS[1:3])
    encoded = gallery.Pieces()(gallery.TEXTS[1:2])
    # "redistribution and use": its second word is the sixth piece.
    without = encoded["ids"].clone()
    without[0, 6] = 0
    drop = (net(**encoded) - net(without, encoded["mask"]))[0, 1].item()
    np.testing.assert_allclose(ex.values[0, 1], drop, atol=1e-5)
    first = encoded["ids"].clone()
    first[0, 1:6] = 0
    drop = (net(**encoded) - net(first, encoded["mask"]))[0, 1].item()
    np.testing.assert_allclose(ex.values[0, 0], drop, atol=1e-5)
    plain = explained(ca.FeatureAblation(net), model, gallery.TEXTS[1:2], baselines=0)
    hidden = net.token.register_forward_hook(lambda layer, args, out: torch.cat([out[:, :1], out[:, 1:6] * 0, out[:, 6:]], 1))
    with torch.no_grad():
        without = net(**encoded)
    hidden.remove()
    drop = (net(**encoded) - without)[0, 1].item()
    np.testing.assert_allclose(plain.values[0, 0], drop, atol=1e-5)
    exact = explained(ca.ShapleyValues(net), model, gallery.TEXTS[1:2], verify=True)
    assert exact.verdict.checks["completeness"].status == "pass"


# -- verdict, scales, refusals ---------------------------------------------------------------------------------------------


class Functional(nn.Module):
    """ReLU as a function: no hook sees it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(5, 32), nn.Linear(32, 3)

    def forward(self, x):
        return self.b(F.relu(self.a(x)))


class Reused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c, self.act = nn.Linear(5, 16), nn.Linear(16, 16), nn.Linear(16, 3), nn.ReLU()

    def forward(self, x):
        return self.c(self.act(self.b(self.act(self.a(x)))))


class Residual(Functional):
    def forward(self, x):
        h = self.a(x)
        return self.b(h + F.relu(h))


def test_an_error_that_captum_passes_over_fails_the_verdict():
    net = Functional()
    ex = explained(ca.DeepLift(net), verify=True, baselines="zeros")
    assert ex.verdict.checks["completeness"].status == "fail" and ex.verdict.status == "fail"
    sound = nn.Sequential(net.a, nn.ReLU(), net.b)
    assert explained(ca.DeepLift(sound), verify=True, baselines="zeros").verdict.checks["completeness"].status == "pass"
    smooth = nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3))
    assert explained(ca.DeepLift(smooth), verify=True, baselines="zeros").verdict.status == "fail"
    coarse = explained(ca.IntegratedGradients(mlp()), verify=True, n_steps=1, baselines="zeros")
    assert coarse.verdict.checks["completeness"].status == "fail"


def test_a_recurrent_model_fails_the_verdict():
    net = gallery.lstm()

    def encode(series):
        return {"x": torch.tensor(np.stack(series)), "lengths": torch.full((len(series),), len(series[0]))}

    given = gallery.series((6, 6))
    model = explainer.wrap(net, modality="series", preprocess=encode, background=given, class_names=list("abc"))
    ex = explained(ca.DeepLift(net), model, given, verify=True, baselines="zeros")
    assert ex.verdict.checks["completeness"].status == "fail"
    fine = explained(ca.IntegratedGradients(net), model, given, verify=True, baselines="zeros", n_steps=60)
    assert fine.verdict.checks["completeness"].status == "pass"


@pytest.mark.parametrize("net", [Functional(), Reused()], ids=["functional", "reused"])
@pytest.mark.parametrize("name", ["GuidedBackprop", "Deconvolution", "LRP"])
def test_rules_follow_functional_and_reused_activations_on_a_repaired_copy(name, net):
    modular = nn.Sequential(net.a, nn.ReLU(), net.b, *((nn.ReLU(), net.c) if isinstance(net, Reused) else ()))
    obj = getattr(ca, name)(net)
    ex = explained(obj)
    np.testing.assert_allclose(ex.values, explained(getattr(ca, name)(modular)).values, atol=1e-6 if name == "LRP" else 0)
    escaping = name == "LRP" or isinstance(net, Functional)  # one guided layer may be used several times
    assert any("repaired copy" in note for note in ex.provenance.notes) == escaping
    assert obj.forward_func is net if hasattr(obj, "forward_func") else obj.model is net


@pytest.mark.parametrize("name", ["GuidedBackprop", "Deconvolution", "LRP"])
def test_rules_that_escape_repair_too_are_refused(name):
    if name != "LRP":
        with pytest.raises(Unsupported, match=r"no nn\.ReLU"):
            explained(getattr(ca, name)(nn.Sequential(nn.Linear(5, 3))))
    else:
        with pytest.raises(Unsupported, match="outside them"):
            explained(ca.LRP(Residual()))
        with pytest.raises(Unsupported, match="LayerNorm"):
            explained(ca.LRP(nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.Linear(8, 3))))


@pytest.mark.parametrize("name", ["DeepLift", "LRP", "GuidedBackprop", "LayerConductance", "KernelShap"])
def test_the_module_is_as_it_was_also_after_an_error(name):
    for net, fails in ((mlp().train(), False), (Reused().train(), name == "DeepLift"), (Residual().train(), name == "LRP")):
        layer = (next(net.children()),) if name.startswith("Layer") else ()
        obj = getattr(ca, name)(net, *layer)
        before, weights = repr([sorted(vars(m)) for m in net.modules()]), copy.deepcopy(net.state_dict())
        held, rng, numbers = dict(vars(obj)), torch.get_rng_state(), np.random.get_state()[1].copy()
        try:
            explained(obj, budget=20)
            assert not fails
        except Unsupported:
            assert fails
        assert repr([sorted(vars(m)) for m in net.modules()]) == before and net.training
        assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in net.modules())
        assert all(torch.equal(weights[k], v) for k, v in net.state_dict().items())
        assert all(p.grad is None for p in net.parameters()) and vars(obj).keys() == held.keys()
        assert torch.equal(torch.get_rng_state(), rng) and (np.random.get_state()[1] == numbers).all()


def test_scales_and_targets():
    net = mlp()
    model = wrapped(net)
    obj = ca.IntegratedGradients(net)
    for output in ("probability", "logit"):
        named = explainer.explain(
            model, DATA, "integrated_gradients", ("margin", 0, 2), steps=40, output=output, baseline="zeros", verify=False
        )
        ours = explained(obj, model, target=("margin", 0, 2), n_steps=40, output=output)
        np.testing.assert_allclose(ours.values, named.values, atol=1e-6)
        assert ours.output == output
    every = explained(obj, model, target="all")
    assert every.values.shape == (3, 5, 3)
    assert explained(ca.DeepLift(net), model, output="logit").output == "logit"
    with pytest.raises(Unsupported, match="not a layer"):
        explained(ca.DeepLift(net), model, output="probability")
    one = gallery.mlp(outputs=1)
    single = wrapped(one, class_names=["no", "yes"])
    yes, no = (explained(ca.InputXGradient(one), single, target=t).values for t in ("yes", "no"))
    np.testing.assert_allclose(yes, ca.InputXGradient(one).attribute(X.clone()).detach().numpy(), atol=1e-6)
    np.testing.assert_allclose(no, -yes)


def test_outputs_in_a_dict_are_explained():
    net = gallery.Container(mlp(), "dict")
    np.testing.assert_allclose(
        explained(ca.IntegratedGradients(net), n_steps=7, baselines=ZEROS).values,
        ca.IntegratedGradients(net.inner).attribute(X, ZEROS, target=1, n_steps=7).numpy(), atol=1e-6,
    )  # fmt: skip


def test_batches_change_nothing_and_are_bounded(monkeypatch):
    from explainer.methods import passes

    net = mlp()
    seen: list[int] = []
    net.register_forward_hook(lambda module, args, output: seen.append(len(output)))
    data = gallery.table(11)
    objects = {
        "IntegratedGradients": {"n_steps": 50},
        "KernelShap": {"n_samples": 20},
        "FeatureAblation": {},
        "GradientShap": {"n_samples": 4},
    }
    shared = {"baselines": torch.tensor(gallery.table(30, seed=3).to_numpy())}
    objects["DeepLiftShap"] = shared
    whole = {name: explained(getattr(ca, name)(net), inputs=data, **keywords).values for name, keywords in objects.items()}
    monkeypatch.setattr(passes, "_MOST_ROWS", {"cpu": 8, "cuda": 8})
    for name, keywords in objects.items():
        model = wrapped(net)
        model.anatomy()  # the passes of the preflight are its own
        seen.clear()
        monkeypatch.setattr(model, "raw", lambda inputs, at_once=None: np.zeros((len(inputs), 3)))  # only captum's own passes count
        np.testing.assert_allclose(explained(getattr(ca, name)(net), model, data, **keywords).values, whole[name], atol=1e-6)
        assert max(seen) <= 8
    draws = explained(ca.GradientShap(net), wrapped(net), data[:1], n_samples=400, **shared)
    assert draws.provenance.parameters == {"n_samples": 400, "baselines": "given"}
    monkeypatch.setattr(passes, "_MOST_ROWS", {"cpu": 256, "cuda": 256})
    whole_, sure = (explained(ca.GradientShap(net), wrapped(net), data[:1], n_samples=n, **shared) for n in (400, 4000))
    spread = np.abs(whole_.values - sure.values).max()
    assert np.abs(draws.values - sure.values).max() < 4 * spread + 0.05


def test_what_memory_does_not_hold_is_halved():
    net = mlp()
    want = explained(ca.IntegratedGradients(net), n_steps=50).values

    def full(module, args):
        if len(args[0]) > 20:
            raise RuntimeError("CUDA out of memory. Tried to allocate 1 GiB")

    handle = net.register_forward_pre_hook(full)
    np.testing.assert_allclose(explained(ca.IntegratedGradients(net), n_steps=50).values, want, atol=1e-6)
    handle.remove()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda net: explained(ca.Saliency(mlp()), wrapped(net)), InvalidInput, "another module"),
        (lambda net: explained(ca.Saliency(lambda x: net(x)), wrapped(net)), InvalidInput, r"Saliency\(module\)"),
        (lambda net: explained(ca.Saliency, wrapped(net)), InvalidInput, "is a class of captum"),
        (lambda net: explained(ca.KernelShap(net), budget="10s"), InvalidInput, "n_samples=500"),
        (lambda net: explained(ca.IntegratedGradients(net), n_step=3), UnknownName, "Did you mean 'n_steps'"),
        (lambda net: explained(ca.Occlusion(net)), InvalidInput, "needs sliding_window_shapes="),
        (lambda net: explained(ca.FeaturePermutation(net), inputs=DATA[:1]), Unsupported, "shuffles"),
        (lambda net: explained(ca.FeatureAblation(net), feature_mask=torch.zeros(1, 4)), InvalidInput, r"\(1, 4\)"),
        (lambda net: explained(ca.IntegratedGradients(net), baselines=torch.zeros(1, 4)), InvalidInput, r"\(1, 4\)"),
        (lambda net: explained(ca.IntegratedGradients(net), baselines=0, baseline="mean"), InvalidInput, "came together"),
        (lambda net: explained(ca.IntegratedGradients(net), additional_forward_args=(X,)), InvalidInput, "another model's"),
    ],
)
def test_what_cannot_be_is_said(call, error, words):
    with pytest.raises(error, match=words):
        call(mlp())


def test_a_bound_forward_and_a_compiled_wrapper_are_the_same_module():
    net = mlp()
    np.testing.assert_allclose(
        explained(ca.Saliency(net.forward), wrapped(net)).values, explained(ca.Saliency(net), wrapped(net)).values, atol=0
    )
    parallel = nn.DataParallel(net)
    explained(ca.Saliency(net), wrapped(parallel))
    explained(ca.DeepLift(parallel), wrapped(net))


def test_a_full_verdict_reruns_on_random_weights():
    ex = explained(ca.LayerConductance(net := mlp(), net[0]), verify="full")
    assert ex.verdict.checks["randomisation"].status != "not run"
    random = explained(ca.KernelShap(net), verify="full", n_samples=40)
    assert "tells no standard error" in random.verdict.checks["sampling error"].reason
    assert random.verdict.checks["stability"].value is not None  # measured, by reruns with other seeds


# -- what captum takes where nothing is told, and what is known of its methods ---------------------------------------------

WITHOUT = {"IntegratedGradients": {"n_steps": 7}, "DeepLift": {}, "FeatureAblation": {}, "ShapleyValues": {}}


@pytest.mark.parametrize("name", WITHOUT)
def test_without_baselines_there_are_captums_own_zeros(name):
    net = mlp()
    direct = seeded(lambda: getattr(ca, name)(net).attribute(X.clone(), target=1, **WITHOUT[name]))
    ex = explained(getattr(ca, name)(net), **WITHOUT[name])
    np.testing.assert_allclose(ex.values, direct.detach().numpy(), atol=1e-6)
    assert any("takes zeros where no baselines= are given" in note for note in ex.provenance.notes)
    assert ex.provenance.parameters["baselines"] == "0 everywhere"
    told = explained(getattr(ca, name)(net), baselines="mean", **WITHOUT[name])
    assert not np.allclose(told.values, ex.values) and not any("takes zeros" in note for note in told.provenance.notes)


@pytest.mark.parametrize("name", ["GuidedBackprop", "Deconvolution"])
def test_methods_that_are_no_gradients_are_flagged_as_ours_is(name):
    net = mlp()
    ex = explained(getattr(ca, name)(net), verify=True)
    assert ex.verdict.checks["class sensitivity"].status == "warn"
    assert any("set integrated_gradients beside it" in note for note in ex.provenance.notes)
    assert "class sensitivity" not in explained(ca.Saliency(net), verify=True).verdict.checks


def test_nothing_found_by_perturbation_is_not_called_a_gradient():
    net = nn.Sequential(nn.Linear(5, 3))
    with torch.no_grad():
        net[0].weight.mul_(1e-4)
    (note,) = (note for note in explained(ca.Lime(net), n_samples=20).provenance.notes if "exactly 0" in note)
    assert "gradient" not in note and "penalty" in note


def faithful(ex: explainer.Explanation) -> list[float | None]:
    return [verdict.checks["faithfulness"].value for verdict in ex.verdicts]


@pytest.mark.parametrize("start", [None, 0, 0.5, torch.full((1, 5), 0.5), torch.full((3, 5), 0.5)], ids=range(5))
def test_parts_are_taken_away_by_the_objects_own_baselines(start):
    net = mlp()
    model = explainer.wrap(net, modality="tabular", background=DATA + 7, class_names=["a", "b", "c"])
    value = np.full(5, 0.5 if start is not None and not isinstance(start, int) else 0.0)
    own = {} if start is None else {"baselines": start}
    theirs = explainer.explain(model, DATA, ca.FeatureAblation(net), target=1, **own)
    ours = explainer.explain(model, DATA, "ablation", target=1, baseline=value, output="raw")
    np.testing.assert_allclose(theirs.values, ours.values, atol=1e-6)
    assert faithful(theirs) == faithful(ours) and None not in faithful(ours)


def test_many_baselines_are_the_background_of_the_verdict():
    net, rows = mlp(), gallery.table(10, seed=3)
    model = explainer.wrap(net, modality="tabular", background=DATA + 7, class_names=["a", "b", "c"])
    theirs = explainer.explain(model, DATA, ca.DeepLiftShap(net), target=1, baselines=torch.as_tensor(rows.to_numpy()))
    ours = explainer.explain(model, DATA, "deeplift_shap", target=1, background=rows, output="raw")
    np.testing.assert_allclose(theirs.values, ours.values, atol=1e-5)
    assert faithful(theirs) == faithful(ours)


def test_baselines_that_no_input_stands_for_leave_faithfulness_unmeasured():
    net = mlp()
    model = explainer.wrap(
        net, modality="tabular", background=DATA, class_names=["a", "b", "c"], feature_names=list(DATA.columns),
        preprocess=lambda table: torch.as_tensor(table.to_numpy(), dtype=torch.float32) / 10,
    )  # fmt: skip
    check = explainer.explain(model, DATA[:1], ca.FeatureAblation(net), target=1, baselines=3.0)[0].verdict.checks["faithfulness"]
    assert check.status == "not run" and "no one input" in check.reason
    zeros = explainer.explain(model, DATA[:1], ca.FeatureAblation(net), target=1)
    assert faithful(zeros) == faithful(explainer.explain(model, DATA[:1], "ablation", target=1, baseline=np.zeros(5), output="raw"))


def test_pictures_are_painted_with_the_objects_baseline():
    net = cnn()
    pictures = np.random.default_rng(0).random((2, 8, 8, 3)).astype(np.float32)
    model = explainer.wrap(net, modality="image", class_names=list("abcd"))
    painted, _ = CaptumMethod(ca.IntegratedGradients(net), model).absence(pictures, "auto", None, {"baselines": 0.75})
    np.testing.assert_array_equal(painted, np.full((1, 8, 8, 3), 0.75))
    theirs = explainer.explain(model, pictures, ca.IntegratedGradients(net), target=0, baselines=0.75)
    ours = explainer.explain(model, pictures, "integrated_gradients", target=0, baseline=painted, output="raw")
    assert faithful(theirs) == faithful(ours)
