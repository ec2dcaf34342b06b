"""The contract: every method on every kind of model and input, held to the same promises."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
import torch_gallery as gallery
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import explainer
from explainer.errors import Unsupported
from explainer.inputs import take
from explainer.methods import METHODS

BUDGET = 128


def mixed(n: int = 120) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame({"age": rng.normal(40, 9, n), "town": rng.choice(["north", "south", "west"], n), "income": rng.lognormal(3, 1, n)})


def pipeline() -> explainer.Model:
    data = mixed()
    encode = ColumnTransformer([("n", StandardScaler(), ["age", "income"]), ("c", OneHotEncoder(), ["town"])])
    labels = np.where((data["town"] == "west") | (data["age"] > 45), "yes", "no")
    return explainer.wrap(make_pipeline(encode, LogisticRegression()).fit(data, labels), background=data[:30])


def text_pipeline() -> explainer.Model:
    texts = [*gallery.TEXTS, "grant of permission", "you may not sell this", "free software for all"] * 3
    fitted = make_pipeline(TfidfVectorizer(token_pattern=r"\w+"), LogisticRegression()).fit(texts, [i % 3 for i in range(len(texts))])
    return explainer.wrap(fitted, modality="text")


def forest() -> explainer.Model:
    data = gallery.table(50)
    return explainer.wrap(RandomForestRegressor(5, random_state=0).fit(data, data.sum(axis=1)), background=data[:20])


def brightness(images: np.ndarray) -> np.ndarray:
    top = images[:, :4].mean((1, 2))
    return np.stack([top, 1 - top], axis=1)


@cache
def cases() -> dict[str, tuple[explainer.Model, object]]:
    """Name -> (model, four inputs)."""
    wrap, names = explainer.wrap, list("abc")
    return {
        "mlp": (wrap(gallery.mlp(), modality="tabular", background=gallery.table(20, seed=1), class_names=names), gallery.table(4)),
        "cnn": (wrap(gallery.convnet(), modality="image", class_names=list("abcd")), gallery.images(4)),
        "lstm": (wrap(gallery.lstm(), modality="series", class_names=names, feature_names=["x", "y", "z"]), gallery.series()),
        "encoder": (wrap(gallery.seeded(gallery.Encoder), modality="text", preprocess=gallery.Pieces(), class_names=names), gallery.TEXTS),
        "fused": (wrap(gallery.seeded(gallery.Fused), modality="text", preprocess=gallery.Pieces(), class_names=names), gallery.TEXTS),
        "dict output": (
            wrap(gallery.Container(gallery.mlp(), "dict"), modality="tabular", background=gallery.table(20, seed=1), class_names=names),
            gallery.table(4),
        ),
        "pipeline": (pipeline(), mixed()[40:44]),
        "forest": (forest(), gallery.table(4)),
        "text pipeline": (text_pipeline(), gallery.TEXTS),
        "image function": (wrap(brightness, modality="image", class_names=["up", "down"]), gallery.images(4)),
        "series function": (
            wrap(
                lambda s: np.array([[one[:, 0].mean(), one[:, 1].mean()] for one in s]),
                modality="series",
                class_names=["x", "y"],
                returns="logit",
            ),
            gallery.series(),
        ),
    }  # fmt: skip


CASES = list(cases())
EVERY = [(case, method) for case in CASES for method in METHODS]


def explain(case: str, method: str, inputs=None, **options):
    model, given = cases()[case]
    if model.capabilities()[method].level == "unsupported":
        with pytest.raises(Unsupported, match=METHODS[method].title):
            explainer.explain(model, given, method)
        pytest.skip(f"refused with a reason: {model.capabilities()[method].reason}")
    options.setdefault("verify", False)
    if METHODS[method].family == "coalition":
        options.setdefault("budget", BUDGET)
    return explainer.explain(model, given if inputs is None else inputs, method, **options)


@pytest.mark.parametrize(("case", "method"), EVERY)
def test_shapes_names_scores_and_verdict(case, method):
    model, given = cases()[case]
    ex = explain(case, method, verify=True)
    assert len(ex) == len(given) == len(ex.verdicts) == len(ex.target) == len(ex.feature_names)
    assert ex.axes[0] == "instance" and len(ex.axes) == ex.values.ndim
    np.testing.assert_allclose(ex.scores, model.scores(given, ex.output)[np.arange(4), [model.class_names.index(t) for t in ex.target]])
    for i, one in enumerate(ex):
        assert np.isfinite(one.values).all() and one.values.size
        # Pixels are named by their position only.
        assert one.axes[1:3] == ("row", "column") or len(ex.feature_names[i]) in (one.values[0].size, one.values.shape[1])
        assert len(one.verdict.checks) >= 6 and all(check.reason for check in one.verdict.checks.values())
        assert one.verdict.status in ("pass", "warn", "fail") or one.values[0].size < 4
        if one.additive:
            assert one.base_values[0] + one.values.sum() == pytest.approx(one.scores[0], abs=0.02)
    if ex.stderr is not None:
        assert ex.stderr.shape == ex.values.shape


@pytest.mark.parametrize(("case", "method"), EVERY)
def test_batch_and_seed_do_not_matter_beyond_rounding(case, method):
    _, given = cases()[case]
    whole = explain(case, method, seed=3)
    alone = explain(case, method, take(given, slice(2, 3)), seed=3)
    np.testing.assert_allclose(whole[2].values, alone.values, rtol=1e-4, atol=2e-6)
    np.testing.assert_array_equal(explain(case, method, seed=3).values, whole.values)


@pytest.mark.parametrize(("case", "method"), EVERY)
def test_every_form_of_target(case, method):
    model, _ = cases()[case]
    every = explain(case, method, target="all")
    assert every.axes[-1] == "output" and every.values.shape[-1] == every.scores.shape[1] == len(model.class_names)
    last = explain(case, method, target=len(model.class_names) - 1)
    np.testing.assert_allclose(every.values[..., -1], last.values, rtol=1e-4, atol=2e-6)
    named = explain(case, method, target=model.class_names[-1])
    np.testing.assert_array_equal(named.values, last.values)
    function = explain(case, method, target=lambda scores: scores[:, -1])
    np.testing.assert_allclose(function.values, last.values, rtol=1e-4, atol=2e-6)
    if len(model.class_names) > 1 and method in ("shap", "integrated_gradients"):
        margin = explain(case, method, target=("margin", 0, 1))
        np.testing.assert_allclose(margin.values, every.values[..., 0] - every.values[..., 1], atol=0.02)


@pytest.mark.parametrize(("case", "method"), EVERY)
def test_results_survive_disk_and_conversion(case, method, tmp_path):
    ex = explain(case, method, verify=True)
    ex.save(tmp_path / "ex")
    back = explainer.load(tmp_path / "ex")
    np.testing.assert_array_equal(back.values, ex.values)
    assert back.feature_names == ex.feature_names and back.verdicts == ex.verdicts and set(back.extras) == set(ex.extras)
    assert ex.to_frame()["value"].sum() == pytest.approx(np.nansum(ex.values))
    assert ex[0].to_shap().values.size == ex[0].values.size


@pytest.mark.parametrize("case", [c for c in CASES if cases()[c][0].framework == "torch"])
def test_the_callers_module_is_as_it_was(case):
    model, given = cases()[case]
    module = model.module
    module.train()
    before, hooks = copy.deepcopy(module.state_dict()), sum(len(m._forward_hooks) for m in module.modules())
    rng = torch.get_rng_state()
    for method in METHODS:
        if model.capabilities()[method].level != "unsupported":
            explainer.explain(model, given, method, **({"budget": 40} if METHODS[method].family == "coalition" else {}))
    assert all(m.training for m in module.modules())
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in module.parameters())
    assert hooks == sum(len(m._forward_hooks) for m in module.modules())
    assert torch.equal(rng, torch.get_rng_state())
    module.eval()


@pytest.mark.parametrize("case", CASES)
def test_auto_picks_a_valid_method_and_says_which(case):
    model, given = cases()[case]
    ex = explainer.explain(model, take(given, slice(0, 1)), budget=64)
    assert ex.method in METHODS and model.capabilities()[ex.method].level != "unsupported"
    assert ex.additive


def test_full_verification_runs_the_randomisation_check():
    check = explain("cnn", "integrated_gradients", verify="full").verdicts[0].checks["randomisation"]
    assert check.status != "not run" and check.value is not None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@pytest.mark.parametrize("method", METHODS)
def test_a_gpu_gives_the_same_values(method):
    for case in ("mlp", "cnn", "lstm", "encoder"):
        model, given = cases()[case]
        if model.capabilities()[method].level == "unsupported":
            continue
        twin = explainer.wrap(
            model.module, modality=model.modality, preprocess=model.preprocess, class_names=model.class_names,
            feature_names=model.feature_names or None, background=model.background, device="cuda",
        )  # fmt: skip
        on_cpu, on_gpu = (explainer.explain(m, given, method, verify=False) for m in (model, twin))
        np.testing.assert_allclose(on_cpu.values, on_gpu.values, rtol=1e-3, atol=1e-4)
        assert on_gpu.provenance.device.startswith("cuda")
