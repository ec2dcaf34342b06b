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
NO_GRADIENT |= {"gradient reversal": "differ from the slope", "partly detached": "differ from the slope"}
NO_DEEPLIFT = {"control flow": "depends on the input's values"}


def options(method: str) -> dict[str, object]:
    return {"budget": 32} if METHODS[method].family == "coalition" else {}


@cache
def explained(name: str, method: str) -> Explanation | None:
    """The first input explained, or None where that is refused as announced; the caller's module must be as it was."""
    model, given = model_gallery.made(name)
    able, before = model.capabilities()[method], snapshot(model.core)
    kernel = getattr(getattr(model.core, "config", None), "_attn_implementation", None)
    try:
        ex = explainer.explain(model, take(given, slice(0, 1)), method, **options(method))
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
    assert ex.values.any() or method == "anchors"  # a prediction that nothing changes needs no rule
    if ex.additive:
        difference = float(ex.scores[0] - ex.base_values[0])
        gap = abs(float(ex.values.sum()) - difference)
        assert gap <= 0.011 * max(abs(difference), 0.01) or ex.verdicts[0].status != "pass"


@pytest.mark.parametrize("name", NAMES)
def test_the_same_reasons_and_the_same_values_again(name: str) -> None:
    model, given = model_gallery.made(name)
    again = explainer.wrap(
        model.module, modality=model.modality, preprocess=model.preprocess, background=model.background, class_names=model.class_names,
        task=model.task, returns=model.returns, feature_names=model.feature_names or None,
    )  # fmt: skip
    assert dict(again.capabilities()) == dict(model.capabilities())
    for method in ("saliency", "shap"):
        if model.capabilities()[method].level != "unsupported":
            ex = explainer.explain(again, take(given, slice(0, 1)), method, verify=False, **options(method))
            np.testing.assert_array_equal(ex.values, explained(name, method).values)
            both = explainer.explain(model, given, method, verify=False, **options(method))
            np.testing.assert_allclose(both[0].values, explained(name, method).values, rtol=2e-3, atol=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_refused_is_what_must_be(name: str) -> None:
    model, _ = model_gallery.made(name)
    able = model.capabilities()
    for method in METHODS.values():
        if model.modality not in method.modalities or method.family in ("tree", "attention"):
            continue
        expected = NOTHING.get(name) or (NO_GRADIENT.get(name) if method.family == "gradient" else None)
        expected = expected or (NO_DEEPLIFT.get(name) if method.name.startswith("deeplift") else None)
        found = able[method.name]
        assert (found.level == "unsupported") == bool(expected), f"{method.name}: {found}"
        assert expected is None or expected in found.reason


@pytest.mark.parametrize("name", NAMES)
def test_an_error_inside_leaves_the_module_as_it_was(name: str) -> None:
    model, given = model_gallery.made(name)
    if name == "compiled":
        pytest.skip("a compiled module does not run hooks that are set after it was compiled")
    before, layer = snapshot(model.core), [m for m in model.core.modules() if not list(m.children())][-1]
    model.capabilities()

    def fail(*_: object) -> None:
        raise ValueError("on purpose")

    handle = layer.register_forward_hook(fail)
    try:
        for method in ("integrated_gradients", "deeplift", "attention", "shap"):
            with pytest.raises(explainer.errors.ExplainerError):
                explainer.explain(model, take(given, slice(0, 1)), method, **options(method))
    finally:
        handle.remove()
    assert_unchanged(model.core, before)


def test_the_gallery_is_quick() -> None:
    started = time.perf_counter()
    for name in NAMES[:8]:
        model_gallery.GALLERY[name]()
    assert time.perf_counter() - started < 8 and torch.is_grad_enabled()
