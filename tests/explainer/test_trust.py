import numpy as np
import pytest
from games import frame, regression

import explainer
from explainer.errors import InvalidInput, UnknownName

WIDE = [f"x{j}" for j in range(12)]


def linear(x):
    return 5 * x[:, 0] - 4 * x[:, 1] + 0.1 * x[:, 2:].sum(1)


def backwards(model, inputs, target):
    """A wrong explanation: it names the parts that matter least."""
    return np.broadcast_to(np.where(np.arange(12) < 2, 0.0, 1.0 + np.arange(12)), (len(inputs), 12)).copy()


def test_a_right_explanation_passes_and_a_wrong_one_fails():
    model, x = regression(linear, WIDE), frame(3, WIDE, seed=9)
    right = explainer.explain(model, x, "shap")
    wrong = explainer.explain(model, x, backwards)
    assert right.verdict.checks["faithfulness"].status == "pass"
    assert wrong.verdict.checks["faithfulness"].status == "fail"
    assert wrong.verdict.status == "fail"


def test_zero_everywhere_fails():
    ex = explainer.explain(regression(linear, WIDE), frame(1, WIDE), lambda m, i, t: np.zeros((1, 12)))
    assert ex.verdict.checks["faithfulness"].status == "fail"


def test_nothing_measured_is_not_a_pass():
    ex = explainer.explain(regression(linear, WIDE), frame(1, WIDE), "shap", verify=False)
    assert ex.verdict.status == "not run"


def test_each_check_has_a_reason():
    ex = explainer.explain(regression(linear, WIDE), frame(1, WIDE), "lime")
    assert set(ex.verdict.checks) >= {"completeness", "sampling error", "fit", "faithfulness", "stability", "randomisation"}
    assert all(check.reason for check in ex.verdict.checks.values())
    assert ex.verdict.checks["completeness"].status == "not run"
    assert ex.verdict.checks["stability"].status == "not run"


def test_an_incomplete_explanation_fails_completeness():
    from explainer.methods.attribution import Attribution

    def leaky(model, inputs, target):
        values = [np.full((12, 1), 0.25)]
        return Attribution(values, ("column",), [tuple(WIDE)], base=np.zeros((1, 1)))

    ex = explainer.explain(regression(linear, WIDE), frame(1, WIDE), leaky)
    check = ex.verdict.checks["completeness"]
    assert check.status == "fail"
    assert check.value == pytest.approx(abs(ex.scores[0] - 3) / max(abs(ex.scores[0]), 0.01 * abs(ex.scores[0])))


def test_full_verification_measures_stability():
    # Twelve columns of nearly equal weight, strongly intertwined: few draws cannot rank them.
    model, x = regression(lambda x: np.sin(3 * x.sum(1)), WIDE), frame(1, WIDE)
    rough = explainer.explain(model, x, "shap", algorithm="permutation", budget=80, verify="full").verdict.checks["stability"]
    fine = explainer.explain(model, x, "shap", algorithm="exact", verify="full").verdict.checks["stability"]
    assert rough.value < 1
    assert fine.status == "not run" and "draws nothing at random" in fine.reason


def test_evaluate_ranks_right_above_wrong():
    model, x = regression(linear, WIDE), frame(2, WIDE, seed=9)
    right = explainer.evaluate(explainer.explain(model, x, "shap"))
    wrong = explainer.evaluate(explainer.explain(model, x, backwards), model)
    assert (right["top_vs_random"] > wrong["top_vs_random"]).all()
    assert (right["correlation"] > 0.9).all()
    assert (right["correlation"] > wrong["correlation"]).all()
    with pytest.raises(UnknownName, match="Did you mean 'deletion'"):
        explainer.evaluate(explainer.explain(model, x, "shap"), metrics="deletoin")


def test_compare():
    model, x = regression(linear, WIDE), frame(2, WIDE, seed=9)
    a, b, c = explainer.explain(model, x, "shap"), explainer.explain(model, x, "lime"), explainer.explain(model, x, backwards)
    table = explainer.compare([a, a, c])
    assert table.loc[0, "rank_correlation"] == pytest.approx(1)
    assert table.loc[0, "top_overlap"] == 1
    assert (table[table["b"] == "backwards"]["rank_correlation"] < 0).any()
    assert len(explainer.compare([a, b])) == 2
    with pytest.raises(InvalidInput, match="same inputs"):
        explainer.compare([a, explainer.explain(model, x[:1], "shap")])
    with pytest.raises(InvalidInput, match="two or more"):
        explainer.compare([a])


def test_randomisation_is_judged_on_parts_that_say_something(monkeypatch):
    """A dark border is 0 under any weights; it must not make two unlike maps look alike."""
    from explainer.methods.attribution import Attribution
    from explainer.trust.sanity import randomisation_checks

    def map_(seed):
        values = np.zeros((400, 1))
        values[:60, 0] = np.random.default_rng(seed).normal(size=60)
        return Attribution([values], ("column",), [()])

    class Torchlike:
        differentiable = True

    monkeypatch.setattr("explainer.trust.sanity._randomised", lambda model, seed: model)
    unlike = randomisation_checks(map_(1), lambda model: map_(2), Torchlike(), 0)[0]
    same = randomisation_checks(map_(1), lambda model: map_(1), Torchlike(), 0)[0]
    assert unlike.status == "pass" and unlike.value < 0.4
    assert same.status == "fail" and "hardly depends" in same.reason


def test_parts_too_small_to_be_named_do_not_count_for_stability():
    from explainer.trust.stability import top

    assert top(np.array([1.0, 0.001, -0.002, 0.0, 0.6])) == {0, 4}
