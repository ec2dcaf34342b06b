"""Every method on every model of the gallery: a right answer, or a refusal whose reason is known before it runs."""

from __future__ import annotations

import time
from functools import cache

import model_gallery
import numpy as np
import pytest
import torch
from test_torch_adapter import assert_unchanged, snapshot

import explainer
from explainer.errors import Unsupported
from explainer.explanation import Explanation
from explainer.features.tabular import typical_row
from explainer.inputs import take
from explainer.methods import METHODS
from explainer.model import Capability

NAMES = list(model_gallery.GALLERY)
# Models on which nothing can be right, or no gradient; anything else that is refused would be a step back.
NOTHING = {"dropout always on": "drawn at random", "batch norm without statistics": "beside it in the batch"}
NO_GRADIENT = {
    "two inputs": "several ways",
    "two embedding tables": "another way",
    "T5": "another way",
    "cut off by numpy": "is cut off",
}
NO_GRADIENT |= {"quantised": "is cut off", "gradient reversal": "differ from the slope", "partly detached": "differ from the slope"}
NO_DEEPLIFT = {"control flow": "depends on the input's values", "scripted": "TorchScript hides"}
NO_LAYER = {"linear": "no layer before its head", "scripted": "no layer before its head"}
# The only ones that call a ReLU; and those made of nothing but sums, weights, averages, maxima and activations that are 0 at 0.
_FEEDS = {
    "functional relu", "relu reused", "relu in place", "functional in place", "softmax at the end", "regression of several outputs",
    "one logit for two classes", "dict output", "tuple output", "dataclass output", "control flow", "tied weights",
    "spectral and weight norm", "frozen backbone", "frozen whole", "bfloat16", "float64", "compiled", "data parallel",
    "batch norm in eval mode", "batch norm in train mode", "residual, dense and depthwise", "convolution over time", "ResNet",
}  # fmt: skip
RECTIFIED = _FEEDS | {"DistilBERT", "T5 encoder", "arithmetic in place"}
PROPAGATING = _FEEDS | {"embeddings alone", "linear"}


def refusal(name: str, method: str) -> str | None:
    """A word of the reason for which a gradient method must be refused on a model, or None."""
    if name in NO_GRADIENT:
        return NO_GRADIENT[name]
    if method.startswith("deeplift"):
        return NO_DEEPLIFT.get(name)
    if method in OF_UNITS:
        return NO_LAYER.get(name)
    if method == "guided_backprop" and name not in RECTIFIED:
        return "ReLU"
    return "no rule" if method == "lrp" and name not in PROPAGATING else None


BESIDE = ("quantised",)  # its rounding depends on the batch, and its capabilities say so
HOOKLESS = ("compiled", "scripted", "quantised")  # hooks set after they were made do not run, or cannot be set
OF_UNITS = ("layer_conductance", "internal_influence")


def options(method: str) -> dict[str, object]:
    return {"budget": 32} if METHODS[method].family == "coalition" else {}


def wanted(model: explainer.Model) -> int | str:
    """What is predicted; of several numbers nothing is, and the first is taken."""
    return 0 if model.task == "regression" and len(model.class_names) > 1 else "predicted"


@cache
def explained(name: str, method: str) -> Explanation | None:
    """The first input explained, or None where that is refused as announced; the caller's module must be as it was."""
    model, given = model_gallery.made(name)
    able, before = model.capabilities()[method], snapshot(model.core)
    kernel = getattr(getattr(model.core, "config", None), "_attn_implementation", None)
    try:
        ex = explainer.explain(model, take(given, slice(0, 1)), method, wanted(model), **options(method))
    except Unsupported as error:
        assert_announced(able, str(error))
        ex = None
    finally:
        assert_unchanged(model.core, before)
        assert kernel == getattr(getattr(model.core, "config", None), "_attn_implementation", None)
    assert (ex is None) == (able.level == "unsupported")
    return ex


def assert_announced(able: Capability, came: str) -> None:
    assert able.level == "unsupported" and able.reason in came, f"refused only when it ran: {came}"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NAMES)
def test_every_cell_is_right_or_refused(name: str, method: str) -> None:
    ex = explained(name, method)
    if ex is None:
        return
    assert np.isfinite(ex.values).all() and ex.values.size
    empty = any("is 0 everywhere" in note for note in ex.provenance.notes)  # a class map of which nothing is left above 0
    assert ex.values.any() or empty or method == "anchors"  # a prediction that nothing changes needs no rule
    if ex.additive:
        difference = float(ex.scores[0] - ex.base_values[0])
        gap = abs(float(ex.values.sum()) - difference)
        assert gap <= 0.011 * max(abs(difference), 0.01) or ex.verdicts[0].status != "pass"


SAME = (
    ("functional relu", "relu reused", "relu in place", "functional in place"),
    ("frozen backbone", "frozen whole", "dict output", "tuple output", "dataclass output", "data parallel", "compiled", "float64"),
    ("batch norm in eval mode", "batch norm in train mode"),
    ("transformer encoder, slow path", "transformer encoder, fast path"),
    ("lstm", "lstm cell"),
)


@pytest.mark.parametrize("method", [m for m in METHODS if METHODS[m].family != "tree" and m not in OF_UNITS])
@pytest.mark.parametrize("names", SAME, ids=lambda names: names[0])
def test_one_function_written_in_several_ways_has_one_explanation(names: tuple[str, ...], method: str) -> None:
    """But for values of a layer's units: which layers there are is what differs."""
    plain = explained(names[0], method)
    for name in names[1:]:
        other = explained(name, method)
        assert (plain is None) == (other is None)
        if plain is not None and other is not None:
            np.testing.assert_allclose(other.values, plain.values, rtol=1e-3, atol=2e-6, err_msg=name)
            np.testing.assert_allclose(other.base_values, plain.base_values, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("method", ["integrated_gradients", "deeplift", "expected_gradients", "deeplift_shap", "shap", "owen"])
def test_of_a_linear_model_there_is_one_right_answer(method: str) -> None:
    model, given = model_gallery.made("linear")
    ex = explainer.explain(model, given, method, 1, output="logit")
    weights = model.core.weight[1].detach().numpy()
    reference = typical_row(model.background) if method in ("integrated_gradients", "deeplift") else model.background.mean()
    wanted = weights * (given.to_numpy() - np.asarray(reference, dtype=np.float64).reshape(1, -1))
    # Drawn from the rows that stand for the population, the rest by formula.
    np.testing.assert_allclose(ex.values, wanted, atol=1e-5 if ex.stderr is None else 4 * float(np.max(ex.stderr)) + 1e-5)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in {*NOTHING, *NO_GRADIENT}])
def test_the_base_is_the_score_of_the_baseline(name: str) -> None:
    """Not only do the values add up: what they are held against is what the model says of the baseline, all of it replaced."""
    ex, (model, given) = explained(name, "integrated_gradients"), model_gallery.made(name)
    assert ex is not None
    index = model.class_names.index(ex.target[0])
    one = take(given, slice(0, 1))
    if model.modality == "tabular":
        baseline = typical_row(model.background)
    elif model.modality == "image":
        baseline = np.zeros_like(one)
    elif model.modality == "series":
        baseline = [np.tile(np.concatenate(model.background).mean(0), (len(one[0]), 1)).astype(np.float32)]
    else:
        ids = model.encode(one).tensors[0]
        padded = torch.where(torch.isin(ids, torch.tensor(sorted(model.preprocess.special_ids))), ids, model.preprocess.pad_id)
        arguments = model.encode(one).replace(0, padded)
        if model.core.__class__.__name__.startswith(("GPT2", "Llama", "Mistral", "Roberta")):
            pytest.skip("the module looks at which ids are padding, which is another question than their embedding")
        with model.scoring():
            raw = model.forward(arguments, core=True).double().numpy()
        assert ex.base_values[0] == pytest.approx(model.rescale(raw, ex.output)[0, index], abs=2e-3)
        return
    assert ex.base_values[0] == pytest.approx(model.scores(baseline, ex.output)[0, index], abs=5e-3 if name == "bfloat16" else 1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_module_wrapped_again_has_the_same_capabilities(name: str) -> None:
    model, _ = model_gallery.made(name)
    again = explainer.wrap(
        model.module, modality=model.modality, preprocess=model.preprocess, background=model.background, class_names=model.class_names,
        task=model.task, returns=model.returns, feature_names=model.feature_names or None,
    )  # fmt: skip
    assert dict(again.capabilities()) == dict(model.capabilities())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NAMES)
def test_every_cell_keeps_the_contract(name: str, method: str) -> None:
    """Form and type; the same seed, the same values; the target by index, by name or one of all; alone or beside another input."""
    ex = explained(name, method)
    if ex is None:
        return
    model, given = model_gallery.made(name)
    one, label = take(given, slice(0, 1)), ex.target[0]
    index, before = model.class_names.index(label), snapshot(model.core)
    assert len(ex.axes) == ex.values.ndim and ex.values.shape[0] == 1 and ex.values.dtype == np.float64
    assert ex.scores.shape == ex.base_values.shape == (1,) and not ex.values.flags.writeable
    assert ex.stderr is None or ex.stderr.shape == ex.values.shape
    again = explainer.explain(model, one, method, index if method < "m" else label, verify=False, **options(method))
    assert again.target == ex.target
    np.testing.assert_array_equal(again.values, ex.values)
    np.testing.assert_array_equal(again.base_values, ex.base_values)
    every = explainer.explain(model, given, method, "all", verify=False, **options(method))
    assert len(every) == 2 and every.axes == (*ex.axes, "output") and every.scores.shape == (2, len(model.class_names))
    assert every[0].values.shape == (*ex.values.shape, len(model.class_names))
    if name not in BESIDE:
        size = max(1e-3, float(np.abs(ex.values).max()))
        np.testing.assert_allclose(every[0].values[..., index], ex.values, rtol=2e-3, atol=2e-3 * size)
        np.testing.assert_allclose(every[0].base_values[..., index], ex.base_values, rtol=2e-3, atol=2e-5)
    assert_unchanged(model.core, before)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", [name for name in NAMES if name not in HOOKLESS])
def test_an_error_inside_leaves_the_module_as_it_was(name: str, method: str) -> None:
    """After the inputs are scored, in the midst of the method; and then it gives what it gave before."""
    ex = explained(name, method)
    if ex is None:
        return
    model, given = model_gallery.made(name)
    one, before = take(given, slice(0, 1)), snapshot(model.core)
    passes = []

    def fail(*_: object) -> None:
        if passes:
            raise ValueError("on purpose")

    leaf = [m for m in model.core.modules() if not list(m.children())][-1]
    handles = [leaf.register_forward_hook(fail), model.core.register_forward_hook(lambda *_: passes.append(1))]
    try:
        with pytest.raises(explainer.errors.ExplainerError):
            explainer.explain(model, one, method, wanted(model), verify=False, **options(method))
    finally:
        for handle in handles:
            handle.remove()
    assert_unchanged(model.core, before)
    after = explainer.explain(model, one, method, wanted(model), verify=False, **options(method))
    np.testing.assert_array_equal(after.values, ex.values)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_refused_is_what_must_be(name: str) -> None:
    model, _ = model_gallery.made(name)
    able = model.capabilities()
    for method in METHODS.values():
        if model.modality not in method.modalities or method.family in ("tree", "attention"):
            continue
        expected = NOTHING.get(name) or (refusal(name, method.name) if method.family == "gradient" else None)
        found = able[method.name]
        assert (found.level == "unsupported") == bool(expected), f"{method.name}: {found}"
        assert expected is None or expected in found.reason


def test_the_gallery_is_quick() -> None:
    started = time.perf_counter()
    for name in NAMES[:8]:
        model_gallery.GALLERY[name]()
    assert time.perf_counter() - started < 8 and torch.is_grad_enabled()
