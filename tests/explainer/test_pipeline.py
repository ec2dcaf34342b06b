import numpy as np
import pandas as pd
import pytest
from games import frame, regression, wavy

import explainer
from explainer.coalitions import Budget, Coalitions
from explainer.errors import Cancelled, CorruptFile, InvalidInput, UnknownName, Unsupported
from explainer.features import build
from explainer.methods.attribution import Attribution
from explainer.pipeline import _fits
from explainer.target import resolve


@pytest.fixture
def ex():
    return explainer.explain(regression(wavy), frame(3), "shap")


def test_result_is_complete_and_frozen(ex):
    assert ex.axes == ("instance", "column")
    assert ex.values.shape == (3, 5)
    np.testing.assert_allclose(ex.base_values + ex.values.sum(1), ex.scores)
    assert ex.target == ("value",) * 3
    assert ex.output == "raw"
    with pytest.raises(ValueError, match="read-only"):
        ex.values[0, 0] = 1
    with pytest.raises(AttributeError):
        ex.values = None
    made = ex.provenance
    assert made.method == "shap"
    assert made.evaluations == 3 * 2**5
    assert len(made.model_sha256) == len(made.inputs_sha256) == 64
    assert made.versions["numpy"] == np.__version__


def test_round_trip_keeps_every_bit(ex, tmp_path):
    ex.save(tmp_path / "ex")
    back = explainer.load(tmp_path / "ex")
    np.testing.assert_array_equal(back.values, ex.values)
    assert back.verdict == ex.verdict
    assert back.provenance == ex.provenance
    pd.testing.assert_frame_equal(back.inputs.reset_index(drop=True), ex.inputs.reset_index(drop=True))
    assert sorted(p.name for p in (tmp_path / "ex").iterdir()) == ["arrays.npz", "manifest.json"]


def test_broken_files_are_named(ex, tmp_path):
    with pytest.raises(InvalidInput, match="holds no saved explanation"):
        explainer.load(tmp_path)
    ex.save(tmp_path / "ex")
    (tmp_path / "ex" / "arrays.npz").write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(CorruptFile, match="not a readable explanation"):
        explainer.load(tmp_path / "ex")


def test_results_of_every_kind_are_read_by_load(tmp_path):
    import importlib
    import pkgutil

    import explainer.inspection as room
    from explainer.inspection import saving

    modules = [importlib.import_module(f"explainer.inspection.{m.name}") for m in pkgutil.iter_modules(room.__path__)]
    kinds = {
        name: module.__name__.rpartition(".")[2] for module in modules for name, kind in vars(module).items()
        if isinstance(kind, type) and kind.__module__ == module.__name__ and hasattr(kind, "save") and hasattr(kind, "load")
    }  # fmt: skip
    assert kinds == saving._HOMES
    found = explainer.permutation_importance(regression(wavy), frame(), frame().sum(axis=1).to_numpy(), repeats=3)
    back = explainer.load(found.save(tmp_path / "importance.json"))
    assert type(back) is type(found)
    pd.testing.assert_frame_equal(back.to_frame(), found.to_frame())
    (tmp_path / "other.json").write_text('{"result": "Sonnet", "schema": 1}')
    for name in ("other.json", "text.json"):
        (tmp_path / "text.json").write_text("no JSON")
        with pytest.raises(CorruptFile, match="is no saved result .*Activations"):
            explainer.load(tmp_path / name)
    with pytest.raises(InvalidInput, match="holds no saved explanation"):
        explainer.load(tmp_path / "nowhere")


def test_a_full_disk_leaves_nothing_half_written(ex, tmp_path, monkeypatch):
    def full(_handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("explainer.explanation.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        ex.save(tmp_path / "ex")
    assert list((tmp_path / "ex").iterdir()) == []


def test_frames_and_shap(ex):
    table = ex.to_frame()
    assert len(table) == 15
    assert table["value"].sum() == pytest.approx(ex.values.sum())
    theirs = ex.to_shap()
    np.testing.assert_array_equal(theirs.values, ex.values)
    np.testing.assert_array_equal(theirs.base_values, ex.base_values)
    assert list(theirs.feature_names) == list(ex.feature_names[0])


def slow_rows(ex):
    """The long table cell by cell."""
    rows = []
    for i, one in enumerate(ex):
        by_output = one.axes[-1] == "output"
        for where in np.ndindex(one.values.shape[1:]):
            cell, shape = where[:-1] if by_output else where, one.values.shape[1:-1] if by_output else one.values.shape[1:]
            names = one.feature_names[0]
            own = names[int(np.ravel_multi_index(cell, shape))] if len(names) == int(np.prod(shape)) else None
            place = names[cell[0]] if len(names) == shape[0] else ", ".join(map(str, cell))
            row = {"instance": i, "feature": own if own is not None else place}
            row |= {axis: k for axis, k in zip(one.axes[1:], where, strict=True) if len(one.axes) > 2}
            row["target"] = one.class_names[where[-1]] if by_output else one.target[0]
            row["value"] = float(one.values[0][where])
            row["stderr"] = float("nan") if one.stderr is None else float(one.stderr[0][where])
            rows.append(row)
    return pd.DataFrame(rows)


@pytest.mark.parametrize("sizes", [(4,), (3, 2), (2, 3, 4, 4)])
@pytest.mark.parametrize("outputs", [0, 2])
@pytest.mark.parametrize("named", ["cells", "first axis", "none"])
def test_the_long_table_is_that_of_a_loop_over_the_cells(sizes, outputs, named):
    from explainer.explanation import Explanation, Provenance, Verdict

    rng, n = np.random.default_rng(0), 3
    shape = (n, *sizes, *([outputs] if outputs else []))
    names = {"cells": range(int(np.prod(sizes))), "first axis": range(sizes[0]), "none": ()}[named]
    values = rng.normal(size=shape)
    if named == "none":
        values[1, -1] = np.nan  # a shorter input
    ex = Explanation(
        values=values, axes=("instance", *"abcd"[: len(sizes)], *(["output"] if outputs else [])), base_values=np.zeros(n),
        scores=np.zeros((n, outputs) if outputs else n), target=("all",) * n if outputs else ("u", "v", "u"),
        feature_names=(tuple(f"f{k}" for k in names),) * n, inputs=np.zeros((n, 1)), method="m", modality="image", output="raw",
        class_names=("u", "v"), verdicts=(Verdict(),) * n, provenance=Provenance("m", {}, 0, 0, 0.0, "cpu", {}, "", ""),
        stderr=np.abs(values) if len(sizes) == 2 else None,
    )  # fmt: skip
    pd.testing.assert_frame_equal(ex.to_frame(), slow_rows(ex))


def test_shap_plots_accept_it(ex):
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    import shap

    shap.plots.waterfall(ex.to_shap()[0], show=False)
    shap.plots.bar(ex.to_shap(), show=False)
    plt.close("all")


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"method": "shapp"}, UnknownName, "Did you mean 'shap'"),
        ({"method": 3}, InvalidInput, "name, a function"),
        ({"method": "saliency"}, Unsupported, "no gradients"),
        ({"method": "attention"}, Unsupported, "no attention layer"),
        ({"target": "valeu"}, UnknownName, "Did you mean 'value'"),
        ({"output": "log"}, UnknownName, "Did you mean 'logit'"),
        ({"budget": "soon"}, InvalidInput, "'10s'"),
        ({"algorithms": "exact"}, UnknownName, "Did you mean 'algorithm'"),
        ({"features": {"g": ["zz"]}}, InvalidInput, "do not exist"),
        ({"features": {"g": ["a"], "h": ["a"]}}, InvalidInput, "two groups"),
        ({"inputs": frame(2)[["a", "b"]]}, InvalidInput, "lacks 3"),
        ({"inputs": frame(0)}, InvalidInput, "0 rows"),
    ],
)
def test_every_mistake_has_its_answer(change, error, words):
    arguments = {"model": regression(wavy), "inputs": frame(1), "method": "shap", **change}
    with pytest.raises(error, match=words):
        explainer.explain(**arguments)


def test_rows_without_a_score_are_named_and_the_others_kept():
    model = regression(lambda x: np.where(x[:, 0] > 100, np.nan, x[:, 0]))
    bad = frame(3)
    bad.loc[1, "a"] = 1000
    ex = explainer.explain(model, bad, "shap")
    assert np.isnan(ex.values[1]).all() and ex.verdicts[1].status == "fail" and ex.target[1] == "not scored"
    assert "1 of 3 inputs could not be scored" in ex.provenance.notes[-1]
    np.testing.assert_array_equal(ex.values[[0, 2]], explainer.explain(model, bad.iloc[[0, 2]], "shap").values)
    missing = frame(2)
    missing.loc[0, "a"] = np.nan
    with pytest.raises(InvalidInput, match="columns a are missing"):
        explainer.explain(model, missing.iloc[:1], "shap")


def test_a_table_without_background_says_so():
    model = explainer.wrap(lambda t: t.to_numpy()[:, 0], modality="tabular", task="regression", class_names=["v"])
    with pytest.raises(Unsupported, match="background=training_rows"):
        explainer.explain(model, frame(1), "shap")
    ex = explainer.explain(model, frame(1), "shap", background=frame(5))
    assert ex.verdict.checks["completeness"].status == "pass"


def test_a_method_of_ones_own():
    def half(model, inputs, target):
        return inputs.to_numpy() / 2

    ex = explainer.explain(regression(wavy), frame(2), half)
    assert ex.method == "half"
    np.testing.assert_array_equal(ex.values, frame(2).to_numpy() / 2)
    assert ex.verdict.checks["completeness"].status == "not run"
    with pytest.raises(InvalidInput, match="one value per input and column"):
        explainer.explain(regression(wavy), frame(2), lambda m, i, t: np.zeros((7, 2)))


def test_a_cancelled_run_gives_what_is_known():
    calls = []

    def stop(done, total):
        calls.append((done, total))
        if done >= 700:
            raise Cancelled("enough")

    columns = [f"x{j}" for j in range(14)]
    rows = frame(5, columns)
    ex = explainer.explain(regression(wavy, columns), rows, "shap", budget=500, progress=stop)
    assert all(done <= total for done, total in calls)
    assert "enough" in ex.provenance.notes[-1]
    whole = explainer.explain(regression(wavy, columns), rows, "shap", budget=500, verify=False)
    assert ex.provenance.evaluations < 0.7 * whole.provenance.evaluations
    for i, verdict in enumerate(ex.verdicts):  # every input has its share of what was done
        assert verdict.checks["budget"].status == "warn" and "enough" in verdict.checks["budget"].reason
        assert np.isfinite(ex.values[i]).all() and ex.stderr[i].mean() > whole.stderr[i].mean()


def test_a_run_cancelled_before_the_last_input_had_a_share_says_so(monkeypatch):
    monkeypatch.setattr("explainer.model.ROWS_AT_ONCE", 40)

    def stop(done, total):
        if done >= 40:
            raise Cancelled("enough")

    columns = [f"x{j}" for j in range(14)]
    ex = explainer.explain(regression(wavy, columns), frame(5, columns), "shap", budget=500, progress=stop)
    assert np.isfinite(ex.values[0]).all() and ex.verdicts[0].checks["budget"].status == "warn"
    last = ex.verdicts[-1]
    assert last.status == "fail" and "enough" in last.checks["fault"].reason and np.isnan(ex.values[-1]).all()
    assert ex[-1].values.shape == (1, 14) and ex[-1].stderr.shape == (1, 14) and len(ex.to_frame()) == 70


def test_cancelling_before_anything_is_known_is_passed_on(monkeypatch):
    monkeypatch.setattr("explainer.model.ROWS_AT_ONCE", 1)

    def stop(done, total):
        raise Cancelled("at once")

    columns = [f"x{j}" for j in range(14)]
    with pytest.raises(Cancelled, match="at once"):
        explainer.explain(regression(wavy, columns), frame(2, columns), "shap", progress=stop, budget=64)


def test_caller_state_is_untouched():
    data = frame(2)
    before, state = data.copy(), np.random.get_state()[1].copy()
    for method in ("shap", "lime"):
        explainer.explain(regression(wavy), data, method)
    pd.testing.assert_frame_equal(data, before)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_engine_scores_each_coalition_once_and_survives_out_of_memory():
    sizes = []

    def hungry(x):
        sizes.append(len(x))
        if len(x) > 64:
            raise MemoryError
        return wavy(x)

    model = regression(hungry)
    x = frame(1)
    engine = Coalitions(model, x, build(model, x), resolve(0, np.zeros((1, 1)), ("value",)), "raw")
    masks = (np.arange(32)[:, None] >> np.arange(5)) & 1 == 1
    values = engine(0, np.concatenate([masks, masks]))
    assert engine.evaluations == 32
    np.testing.assert_array_equal(values[:32], values[32:])
    quiet = regression(wavy)
    np.testing.assert_allclose(values[:32], Coalitions(quiet, x, build(quiet, x), engine.target, "raw")(0, masks))
    engine(0, masks[:4])
    assert engine.evaluations == 32


def test_budgets():
    assert Budget.parse("500 evals") == Budget(500)
    assert Budget.parse("1.5% error").error == 0.015
    assert Budget.parse("10s").seconds == 10
    for bad in (0, -3, True, "1 apple", "0s"):
        with pytest.raises(InvalidInput):
            Budget.parse(bad)


@pytest.mark.parametrize("seed", [-1, 0.5, True, "1", None])
def test_a_seed_that_is_none_is_refused_by_every_method(seed):
    for method in ("shap", "lime", lambda model, inputs, target: np.zeros((1, 5))):
        with pytest.raises(InvalidInput, match=r"seed=.* whole number of at least 0"):
            explainer.explain(regression(wavy), frame(1), method, seed=seed)
    assert explainer.explain(regression(wavy), frame(1), "shap", seed=np.int64(3)).provenance.seed == 3


def test_of_several_numbers_none_is_the_predicted_one():
    names = ["metres", "grams"]
    model = explainer.wrap(
        lambda x: np.asarray(x) * [3, 1], modality="tabular", task="regression", class_names=names, feature_names=["a", "b"],
        background=np.zeros((2, 2)),
    )  # fmt: skip
    rows = np.array([[1.0, 2.0], [1.0, 9.0]])
    with pytest.raises(InvalidInput, match=r"2 numbers \(metres, grams\).*target="):
        explainer.explain(model, rows)
    np.testing.assert_allclose(explainer.explain(model, rows, target="grams").values, [[0, 2], [0, 9]])
    assert explainer.explain(model, rows, target="all").values.shape == (2, 2, 2)


def test_verify_takes_its_own_words_alone():
    with pytest.raises(UnknownName, match="Unknown verify 'ful'. Did you mean 'full'"):
        explainer.explain(regression(wavy), frame(1), "shap", verify="ful")
    with pytest.raises(UnknownName, match="verify 3"):
        explainer.explain(regression(wavy), frame(1), "shap", verify=3)
    assert not explainer.explain(regression(wavy), frame(1), "shap", verify="off")[0].verdict.checks


def test_a_part_of_an_explanation_is_its_instances():
    ex = explainer.explain(regression(wavy), frame(4), "lime", budget=64)
    for index, rows in (
        (slice(1, 3), [1, 2]),
        ([3, -4], [3, 0]),
        (np.array([True, False, False, True]), [0, 3]),
        (slice(None, None, -2), [3, 1]),
    ):
        part = ex[index]
        np.testing.assert_array_equal(part.values, ex.values[rows])
        np.testing.assert_array_equal(part.stderr, ex.stderr[rows])
        np.testing.assert_array_equal(part.scores, ex.scores[rows])
        assert part.verdicts == tuple(ex.verdicts[i] for i in rows)
        pd.testing.assert_frame_equal(part.inputs, ex.inputs.iloc[rows])
    texts = explainer.wrap(lambda given: np.array([len(t) for t in given]), modality="text", task="regression", class_names=["n"])
    found = explainer.explain(texts, ["one two three", "one", "one two"], "ablation")
    assert found[1:].inputs == ["one", "one two"]
    assert found[1:][1].values.shape == (1, 2)
    for index in (4, -5, slice(2, 2), "a", [7], 1.0, True):
        with pytest.raises(IndexError, match="instances"):
            ex[index]


@pytest.mark.parametrize("verify", [True, False])
def test_a_method_of_ones_own_gives_one_value_per_column(verify):
    with pytest.raises(InvalidInput, match=r"shape \(1, 4\); \(1, 5\) is needed.*column"):
        explainer.explain(regression(wavy), frame(1), lambda model, inputs, target: np.ones((1, 4)), verify=verify)

    def misnamed(model, inputs, target):
        return Attribution([np.ones((5, 1))], ("column",), [("a", "b")])

    with pytest.raises(InvalidInput, match="with 2 names"):
        explainer.explain(regression(wavy), frame(1), misnamed, verify=verify)


@pytest.mark.parametrize(
    ("typo", "meant"), [("basline", "baseline"), ("budgt", "budget"), ("feature", "features"), ("algoritm", "algorithm")]
)
def test_a_mistyped_argument_is_told_from_all_valid_ones(typo, meant):
    with pytest.raises(UnknownName, match=f"Did you mean '{meant}'"):
        explainer.explain(regression(wavy), frame(1), "shap", **{typo: 1})
    with pytest.raises(UnknownName, match="Did you mean 'target'"):
        explainer.explain(regression(wavy), frame(1), "shap", targt=1)


def test_captums_arguments_that_are_no_ones_here_say_what_to_do_instead():
    for name, words in (("additional_forward_args", "fixed in it"), ("internal_batch_size", "leave it out")):
        with pytest.raises(InvalidInput, match=words):
            explainer.explain(regression(wavy), frame(1), "shap", **{name: 3})


def test_a_baseline_may_be_one_number_everywhere():
    by_number, by_row = (
        explainer.explain(regression(wavy), frame(2), "shap", **given) for given in ({"baselines": 0}, {"baseline": np.zeros((1, 5))})
    )
    np.testing.assert_array_equal(by_number.values, by_row.values)
    dark = explainer.wrap(lambda p: np.asarray(p).mean(axis=(1, 2)), modality="image", task="regression", class_names=["brightness"])
    ex = explainer.explain(dark, np.ones((1, 16, 16), np.float32), "ablation", baseline=0.25, features=("patches", 4))
    np.testing.assert_allclose(ex.values.sum(), 0.75, rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "names", "axes"), [((3, 2, 1), 3, ("column",)), ((3, 1), 2, ("column",)), ((2, 3, 1), 4, ("row", "column"))]
)
def test_values_that_do_not_fit_their_axes_or_names_are_refused_whichever_input_has_them(shape, names, axes):
    right = (np.zeros((*(2 for _ in axes), 1)), ("a",) * 2 ** len(axes))
    found = Attribution([right[0], np.zeros(shape), right[0]], axes, [right[1], ("a",) * names, right[1]])
    with pytest.raises(InvalidInput, match=rf"values of shape \({shape[0]}, .* with {names} names"):
        _fits(found, 3)
    _fits(Attribution([right[0]] * 2, axes, [right[1], ("a",) * 2]), 2)  # a name per cell, or per entry of the first axis
