"""shap's explainers as methods: the same numbers as shap gives alone, on the scale they add up on, with our verdict."""

from __future__ import annotations

import numpy as np
import pytest
import shap
import torch
import torch_gallery as gallery
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from torch import nn

import explainer
from explainer.errors import InvalidInput, UnknownName, Unsupported

DATA = gallery.table(60)
LABELS = np.where(DATA["f0"] + DATA["f1"] * DATA["f2"] > 0, "yes", "no")
BACKGROUND, GIVEN = DATA[:20], DATA[40:43]
FOREST = RandomForestClassifier(8, max_depth=3, random_state=0).fit(DATA, LABELS)
BOOSTED = GradientBoostingClassifier(n_estimators=8, max_depth=2, random_state=0).fit(DATA, LABELS)
LOGISTIC = LogisticRegression().fit(DATA, LABELS)


def probabilities(rows) -> np.ndarray:
    return FOREST.predict_proba(DATA.iloc[:0].reindex(range(len(rows))).assign(**dict(zip(DATA.columns, np.asarray(rows).T, strict=True))))


def direct(make, **keywords):
    made, state = make(), np.random.get_state()
    np.random.seed(0)
    try:
        return made(GIVEN, **keywords)
    finally:
        np.random.set_state(state)


CALLABLES = {
    "Permutation": (lambda: shap.PermutationExplainer(probabilities, BACKGROUND), {"silent": True}),
    "Exact": (lambda: shap.ExactExplainer(probabilities, BACKGROUND), {"silent": True}),
    "Partition": (lambda: shap.PartitionExplainer(probabilities, shap.maskers.Partition(BACKGROUND)), {"silent": True}),
    "Explainer": (lambda: shap.Explainer(probabilities, BACKGROUND), {"silent": True}),
    "Kernel": (lambda: shap.KernelExplainer(probabilities, BACKGROUND), {"silent": True}),
    "Sampling": (lambda: shap.SamplingExplainer(probabilities, BACKGROUND), {}),
    "Tree": (lambda: shap.TreeExplainer(FOREST), {}),
}


@pytest.mark.parametrize("name", CALLABLES)
def test_values_are_shaps_own_and_judged(name):
    make, keywords = CALLABLES[name]
    theirs = direct(make, **keywords)
    ex = explainer.explain(explainer.wrap(FOREST, background=BACKGROUND), GIVEN, make(), target="yes")
    np.testing.assert_allclose(ex.values, theirs.values[..., 1], atol=1e-9)
    np.testing.assert_allclose(ex.base_values, np.broadcast_to(np.asarray(theirs.base_values)[..., 1], 3), atol=1e-9)
    assert ex.output == "probability" and ex.verdict.checks["completeness"].status == "pass"
    assert ex.feature_names[0] == tuple(DATA.columns) and "sampling error" in ex.verdict.checks
    told = "tells no standard error" in ex.verdict.checks["sampling error"].reason
    assert told == (name in ("Permutation", "Kernel", "Sampling"))


@pytest.mark.parametrize("name", ["Sampling", "Kernel", "Permutation"])
def test_no_bars_are_drawn(name, capfd):
    explainer.explain(explainer.wrap(FOREST, background=BACKGROUND), GIVEN, CALLABLES[name][0](), target="yes")
    assert "%|" not in "".join(capfd.readouterr())


def test_the_scale_is_the_one_the_values_add_up_on():
    model = explainer.wrap(BOOSTED, background=BACKGROUND)
    tree = shap.TreeExplainer(BOOSTED)
    yes, no = (explainer.explain(model, GIVEN, tree, target=t) for t in ("yes", "no"))
    assert yes.output == "logit" and yes.verdict.checks["completeness"].status == "pass"
    np.testing.assert_allclose(yes.values, tree(GIVEN).values, atol=1e-9)
    np.testing.assert_allclose(no.values, -yes.values)
    assert no.verdict.checks["completeness"].status == "pass"
    with pytest.raises(Unsupported, match="add up to the logit, not to the probability"):
        explainer.explain(model, GIVEN, tree, output="probability")
    other = shap.TreeExplainer(FOREST)  # of another model: the sums say so
    assert explainer.explain(model, GIVEN, other, target="yes").verdict.status == "fail"


def test_linear_and_additive():
    linear = LinearRegression().fit(DATA, DATA["f0"] * 2 - DATA["f3"])
    model = explainer.wrap(linear, background=BACKGROUND)
    for make in (lambda: shap.LinearExplainer(linear, BACKGROUND), lambda: shap.AdditiveExplainer(linear.predict, BACKGROUND)):
        ex = explainer.explain(model, GIVEN, make())
        np.testing.assert_allclose(ex.values, linear.coef_ * (GIVEN - BACKGROUND.mean()), atol=1e-6)
        assert ex.verdict.checks["completeness"].status == "pass"
    margin = explainer.explain(explainer.wrap(LOGISTIC, background=BACKGROUND), GIVEN, shap.LinearExplainer(LOGISTIC, BACKGROUND), "yes")
    assert margin.output == "logit" and margin.verdict.checks["completeness"].status == "pass"


def test_regression_margin_and_all():
    forest = RandomForestRegressor(5, random_state=0).fit(DATA, DATA["f0"])
    ex = explainer.explain(explainer.wrap(forest, background=BACKGROUND), GIVEN, shap.TreeExplainer(forest))
    np.testing.assert_allclose(ex.values, shap.TreeExplainer(forest)(GIVEN).values, atol=1e-9)
    model = explainer.wrap(FOREST, background=BACKGROUND)
    every = explainer.explain(model, GIVEN, shap.TreeExplainer(FOREST), target="all")
    margin = explainer.explain(model, GIVEN, shap.TreeExplainer(FOREST), target=("margin", "yes", "no"))
    np.testing.assert_allclose(margin.values, every.values[..., 1] - every.values[..., 0], atol=1e-12)


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(5, 32), nn.Linear(32, 3)

    def forward(self, x):
        return self.b(torch.relu(self.a(x)))


def tensors(frame) -> torch.Tensor:
    return torch.tensor(frame.to_numpy())


def test_deep_and_gradient_on_a_module():
    net = gallery.mlp()
    model = gallery.tabular(net, background=BACKGROUND)
    held = [sorted(vars(m)) for m in net.modules()]
    deep = explainer.explain(model, GIVEN, shap.DeepExplainer(net, tensors(BACKGROUND)), target=1)
    assert deep.verdict.checks["completeness"].status == "pass" and deep.output == "raw"
    gradient = explainer.explain(model, GIVEN, shap.GradientExplainer(net, tensors(BACKGROUND)), target=1, nsamples=300)
    assert [sorted(vars(m)) for m in net.modules()] == held and not any(m._forward_hooks for m in net.modules())
    theirs = shap.DeepExplainer(gallery.mlp(), tensors(BACKGROUND)).shap_values(tensors(GIVEN))
    np.testing.assert_allclose(deep.values, theirs[..., 1], atol=1e-6)
    np.random.seed(0)
    theirs = shap.GradientExplainer(gallery.mlp(), tensors(BACKGROUND)).shap_values(tensors(GIVEN), nsamples=300)
    np.testing.assert_allclose(gradient.values, theirs[..., 1], atol=1e-6)
    with torch.no_grad():
        np.testing.assert_allclose(gradient.base_values, net(tensors(BACKGROUND)).mean(0)[1].item(), atol=1e-5)


def test_what_deep_shap_gets_wrong_fails_the_verdict():
    net = Functional()
    ex = explainer.explain(gallery.tabular(net, background=BACKGROUND), GIVEN, shap.DeepExplainer(net, tensors(BACKGROUND)), target=1)
    assert ex.verdict.checks["completeness"].status == "fail"


def test_pictures_and_texts():
    pictures = gallery.images(2)
    score = lambda x: np.asarray(x).reshape(len(x), 8, 8)[:, :4, :4].mean((1, 2))  # noqa: E731
    masker = shap.maskers.Image(np.zeros((8, 8, 1)), (8, 8, 1))
    model = explainer.wrap(score, modality="image", task="regression", class_names=["light"])
    ex = explainer.explain(model, pictures[..., None], shap.PartitionExplainer(score, masker), max_evals=200)
    assert ex.axes == ("instance", "row", "column") and ex.verdict.checks["completeness"].status == "pass"
    assert np.abs(ex.values[:, 4:]).max() < 1e-9

    words = lambda texts: np.array([float(t.count("good")) for t in texts])  # noqa: E731
    model = explainer.wrap(words, modality="text", task="regression", class_names=["praise"])
    explained = shap.PartitionExplainer(words, shap.maskers.Text(r"\W"))
    ex = explainer.explain(model, ["a good thing and good", "bad one"], explained)
    assert ex.axes == ("instance", "token") and ex.verdict.checks["completeness"].status == "pass"
    top = [name for name, value in zip(ex[0].feature_names[0], ex[0].values[0], strict=True) if value > 0.9]
    assert [t.strip() for t in top] == ["good", "good"]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda m: explainer.explain(m, GIVEN, shap.TreeExplainer), InvalidInput, "is a class of shap"),
        (lambda m: explainer.explain(m, GIVEN, shap.TreeExplainer(FOREST), check_addivity=False), UnknownName, "Did you mean 'check_add"),
        (lambda m: explainer.explain(m, GIVEN, shap.TreeExplainer(FOREST), lambda s: s[:, 0]), Unsupported, "Name a class"),
        (lambda m: explainer.explain(m, GIVEN, shap.DeepExplainer(gallery.mlp(), tensors(BACKGROUND))), Unsupported, "torch module"),
        (
            lambda m: explainer.explain(
                gallery.tabular(gallery.mlp(), background=BACKGROUND), GIVEN, shap.DeepExplainer(gallery.mlp(), tensors(BACKGROUND))
            ),
            InvalidInput,
            "another module",
        ),
        (lambda m: explainer.explain(m, GIVEN, shap.KernelExplainer(lambda x: 1 / 0 if len(x) < 9 else np.ones(len(x)), BACKGROUND)),
         Unsupported, "fails on"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said(call, error, words):
    with pytest.raises(error, match=words):
        call(explainer.wrap(FOREST, background=BACKGROUND))


@pytest.mark.parametrize("name", ["Kernel", "Exact", "Tree"])
def test_the_verdict_takes_absent_columns_from_the_explainers_own_rows(name):
    make = {**CALLABLES, "Tree": (lambda: shap.TreeExplainer(FOREST, BACKGROUND), {})}[name][0]
    elsewhere, rows = explainer.wrap(FOREST, background=DATA[50:51] + 3), DATA[25:45]
    theirs = explainer.explain(elsewhere, rows, make(), target="yes")
    ours = explainer.explain(elsewhere, rows, "shap", target="yes", background=BACKGROUND)
    np.testing.assert_allclose(theirs.values, ours.values, atol=1e-6)
    assert [one.checks["faithfulness"].value for one in theirs.verdicts] == [one.checks["faithfulness"].value for one in ours.verdicts]
