"""On a GPU: the same answers as on the CPU, also where its memory runs out; skipped where there is none."""

import numpy as np
import pytest
import torch
import torch_gallery as gallery

import explainer
from explainer.adapters.repair import repaired

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
NAMES = list("abc")


def both(make, **options):
    return [explainer.wrap(make().to(device), **options) for device in ("cpu", "cuda")]


def text_models():
    return both(lambda: gallery.seeded(gallery.Fused), modality="text", preprocess=gallery.Pieces(), class_names=NAMES)


@pytest.mark.parametrize("method", ["shap", "occlusion", "integrated_gradients"])
def test_memory_that_runs_out_is_met_by_smaller_batches(method):
    wide = torch.nn.Sequential(
        torch.nn.Conv2d(1, 512, 3, padding=1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(512, 3)
    ).eval()  # fmt: skip
    pictures = gallery.images(1, size=96)
    options = {"modality": "image", "preprocess": gallery.standardised, "class_names": NAMES}
    budget = {"budget": 300} if method in ("shap", "occlusion") else {}
    budget |= {"target": 0, "output": "logit", "verify": False, "seed": 0}
    on_cpu = explainer.explain(explainer.wrap(wide, **options), pictures, method, **budget)
    torch.cuda.empty_cache()
    whole = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(0.3 * 2**30 / whole)  # some 8 rows of 18 MB and their gradients, not 300
    try:
        on_gpu = explainer.explain(explainer.wrap(wide.cuda(), **options), pictures, method, **budget)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    np.testing.assert_allclose(on_gpu.values, on_cpu.values, atol=0.02 * np.abs(on_cpu.values).max())


def test_the_verdict_is_the_same():
    given = gallery.images(2)
    options = {"modality": "image", "class_names": list("abcd")}
    found = [explainer.explain(m, given, "integrated_gradients", verify="full") for m in both(gallery.convnet, **options)]
    for one, other in zip(*(ex.verdicts for ex in found), strict=True):
        assert {name: check.status for name, check in one.checks.items()} == {name: check.status for name, check in other.checks.items()}


def test_what_hooks_layers_is_not_refused_for_the_rounding_of_a_gpu():
    model = text_models()[1]
    made = repaired(model.core, model.encode(gallery.TEXTS))
    assert isinstance(made.module, torch.nn.Module)


def test_views_of_the_inside_are_the_same():
    on_cpu, on_gpu = text_models()
    same = np.testing.assert_allclose
    texts = gallery.TEXTS[:3]
    one, other = (explainer.head_importance(m, texts) for m in (on_cpu, on_gpu))
    same(one.values, other.values, rtol=1e-3, atol=1e-4)
    one, other = (explainer.activations(m, texts) for m in (on_cpu, on_gpu))
    assert list(one.to_frame().columns) == list(other.to_frame().columns)
    for column in one.to_frame().select_dtypes("number"):
        same(one.to_frame()[column], other.to_frame()[column], rtol=1e-2, atol=1e-3)


def test_mixed_precision_and_a_compiled_module_keep_the_bound():
    pictures = gallery.images(4)
    model = explainer.wrap(gallery.convnet().cuda(), modality="image", class_names=list("abcd"))
    fast = explainer.accelerate(model, pictures, options=("fold_batch_norm", "channels_last", "compile", "bfloat16"), tolerance=1e-2)
    assert len(fast.trials) == 4 and not any("does not fit" in trial.reason for trial in fast.trials)
    np.testing.assert_allclose(fast.scores(pictures), model.scores(pictures), atol=1e-2)


def test_a_pipeline_on_the_gpu_stays_there():
    on_cpu, on_gpu = text_models()
    assert on_gpu.device.startswith("cuda") and next(on_gpu.module.parameters()).is_cuda
    a, b = (explainer.explain(m, gallery.TEXTS, "shap", budget=200, verify=False, seed=1) for m in (on_cpu, on_gpu))
    np.testing.assert_allclose(a.values, b.values, rtol=1e-3, atol=1e-4)
    assert on_gpu.capabilities()["attention"].level == on_cpu.capabilities()["attention"].level


def test_a_module_moved_to_the_gpu_after_it_was_wrapped_is_followed():
    module, given = gallery.convnet(), gallery.images(2)
    model = explainer.wrap(module, modality="image", class_names=list("abcd"))
    before = model.scores(given)
    module.cuda()
    np.testing.assert_allclose(model.scores(given), before, atol=2e-3)
    assert explainer.explain(model, given, "integrated_gradients", verify=False).provenance.device.startswith("cuda")
