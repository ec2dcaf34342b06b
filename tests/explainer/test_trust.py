import dataclasses

import numpy as np
import pytest
from games import frame, regression, wavy

import explainer
from explainer.errors import InvalidInput, UnknownName
from explainer.methods.attribution import Attribution

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


@pytest.mark.parametrize("d", [4, 5, 6, 7])
def test_the_exact_values_of_a_linear_model_pass_with_few_columns(d):
    columns, rng = [f"x{j}" for j in range(d)], np.random.default_rng(d)
    weights = rng.normal(size=d)
    model = regression(lambda x: x @ weights, columns)
    ex = explainer.explain(model, frame(20, columns, seed=9), "shap")
    assert [verdict.checks["faithfulness"].value for verdict in ex.verdicts] == [1.0] * 20
    assert {verdict.status for verdict in ex.verdicts} == {"pass"}
    assert f"one time in {d}" in ex[0].verdict.checks["faithfulness"].reason


def test_of_few_sets_all_others_are_compared_with_and_a_wrong_one_falls_behind():
    model = regression(lambda x: x @ [4.0, 3.0, 2.0, 1.0], list("abcd"), background=frame(5, list("abcd")) * 0)
    rows = frame(1, list("abcd")) * 0 + 1

    def named(j):
        return lambda model, inputs, target: np.eye(4)[[j]]

    shares = [explainer.explain(model, rows, named(j)).verdict.checks["faithfulness"] for j in range(4)]
    assert [round(check.value, 6) for check in shares] == [1.0, round(2 / 3, 6), round(1 / 3, 6), 0.0]
    assert "of the 3 other choices" in shares[0].reason and "one time in 4" in shares[0].reason


def test_rounding_is_not_an_explanation():
    columns = list("abcde")
    flat = regression(lambda x: 0.881 + 1e-17 * x[:, 0] + x[:, 1] * 0, columns)

    def noise(model, inputs, target):
        values = np.full((2, 5, 1), 1e-16) * np.arange(5)[:, None]
        return Attribution(list(values), ("column",), [tuple(columns)] * 2, base=model.scores(inputs))

    ex = explainer.explain(flat, frame(2), noise)
    assert ex[0].verdict.status == "fail" and "nothing to explain" in ex[0].verdict.reason and "0.881" in ex[0].verdict.reason
    assert ex[0].verdict.checks["faithfulness"].status == "not run"
    told = explainer.explain(regression(wavy), frame(2), "shap")
    figures = explainer.compare([ex, dataclasses.replace(told, target=ex.target, output=ex.output)])
    assert figures[["rank_correlation", "top_overlap", "sign_agreement"]].isna().all().all()
    # In double precision a small difference on top of a large number is a difference.
    small = regression(lambda x: 1e6 + 0.1 * x[:, 0], columns)
    assert "difference explained" not in explainer.explain(small, frame(1), "shap")[0].verdict.checks
