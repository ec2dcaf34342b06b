"""Global importance against slow definitions, planted truth and the noise it promises to take off; streams and stops."""

import dataclasses
import itertools
import math

import numpy as np
import pandas as pd
import pytest
from games import brute_force, frame, regression, wavy
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

import explainer
from explainer.errors import Cancelled, CorruptFile, InvalidInput, UnknownName, Unsupported
from explainer.inspection.importance import Importance, Tally, excess, importance, summarise
from explainer.inspection.sage import class_indices

SMALL = ["a", "b", "c", "d"]


def wavy_model():
    return regression(wavy, SMALL)


def sage_by_definition(function, rows, y, background):
    """Mean over rows of the Shapley values of the squared error saved, one coalition at a time."""
    d = rows.shape[1]
    total = np.zeros(d)
    for x, truth in zip(rows, y, strict=True):

        def v(members, x=x, truth=truth):
            mixed = background.copy()
            mixed[:, list(members)] = x[list(members)]
            return -((float(np.mean(function(mixed))) - truth) ** 2)

        for j in range(d):
            rest = [k for k in range(d) if k != j]
            for size in range(d):
                weight = math.factorial(size) * math.factorial(d - size - 1) / math.factorial(d)
                for subset in itertools.combinations(rest, size):
                    total[j] += weight * (v((*subset, j)) - v(subset))
    return total / len(rows)


def test_mean_size_is_the_mean_of_the_definition():
    model, x = wavy_model(), frame(7, SMALL)
    found = importance(model, x)
    expected = np.array([brute_force(wavy, row, model.background.to_numpy()) for row in x.to_numpy()])
    np.testing.assert_allclose(found.values, np.abs(expected).mean(axis=0), atol=1e-10)
    np.testing.assert_allclose(found.mean, expected.mean(axis=0), atol=1e-10)
    np.testing.assert_allclose(found.stderr, np.abs(expected).std(axis=0, ddof=1) / math.sqrt(7), atol=1e-10)
    assert (found.noise == 0).all() and found.rows == 7 and found.names == tuple(SMALL)
    half = 2.446912 * found.stderr  # Student's t with 6 degrees of freedom
    np.testing.assert_allclose(found.high, found.values + half, rtol=1e-6)
    np.testing.assert_allclose(found.low, np.maximum(found.values - half, 0), atol=1e-6)


def test_sage_equals_the_definition():
    model, x = wavy_model(), frame(6, SMALL)
    y = wavy(x.to_numpy()) + np.linspace(-1, 1, 6)
    found = importance(model, x, labels=y, kind="sage")
    np.testing.assert_allclose(found.values, sage_by_definition(wavy, x.to_numpy(), y, model.background.to_numpy()), atol=1e-10)
    assert found.losses[0] - found.losses[1] == pytest.approx(found.values.sum(), abs=1e-10)
    assert found.losses[1] == pytest.approx(np.mean((wavy(x.to_numpy()) - y) ** 2))


def test_sampled_sage_agrees_with_the_definition_within_its_interval():
    columns = ["a", "b", "c", "d", "e"]
    model, x = regression(wavy, columns), frame(300, columns)
    y = wavy(x.to_numpy())
    exact = importance(model, x, labels=y, kind="sage", budget=32)
    sampled = importance(model, x, labels=y, kind="sage", budget=18)
    assert (
        "all coalitions" in exact.provenance.parameters["algorithm"] and "2 antithetic pairs" in sampled.provenance.parameters["algorithm"]
    )
    # Both see the same rows, so they differ by the orders alone, which is less than the error over rows.
    assert (np.abs(sampled.values - exact.values) < 2 * sampled.stderr).all()
    assert sampled.values.sum() == pytest.approx(exact.values.sum(), abs=1e-10)


def test_sage_of_a_linear_model_with_independent_columns_is_its_closed_form():
    """f = w.x and y = f: knowing S leaves the variance of the others, so column j saves w_j^2 (x_j^2 + variance) / 2 on average: w_j^2."""
    rng = np.random.default_rng(0)
    columns, weights = ["a", "b", "c", "dummy"], np.array([2.0, 1.0, -0.5, 0.0])
    signs = np.array(list(itertools.product([-1.0, 1.0], repeat=4)))  # exactly independent, mean 0, variance 1
    model = regression(lambda x: x @ weights, columns, pd.DataFrame(signs, columns=columns))
    x = pd.DataFrame(signs, columns=columns)
    found = importance(model, x, labels=signs @ weights, kind="sage")
    np.testing.assert_allclose(found.values, weights**2, atol=1e-10)
    noisy = importance(model, x, labels=signs @ weights + rng.normal(size=16), kind="sage", budget=8)
    assert noisy.values[3] == pytest.approx(0, abs=1e-10)


def test_sage_of_a_classifier_is_the_cross_entropy_saved_and_knows_labels_by_name_or_number():
    rng = np.random.default_rng(0)
    x = pd.DataFrame(rng.normal(size=(200, 3)), columns=["strong", "weak", "dummy"])
    y = np.where(3 * x["strong"] + 0.7 * x["weak"] + rng.logistic(size=200) > 0, "yes", "no")
    fitted = LogisticRegression().fit(x, y)
    fitted.coef_[0, 2] = 0
    model = explainer.wrap(fitted, background=x[:40])
    found = importance(model, x, labels=y, kind="sage")
    assert found.values[0] > 3 * found.values[1] > 0 and found.values[2] == pytest.approx(0, abs=1e-12)
    assert found.low[0] > 0
    p = model.scores(x)[np.arange(200), (y == "yes").astype(int)]
    assert found.losses[1] == pytest.approx(-np.log(p).mean())
    again = importance(model, x.assign(outcome=(y == "yes").astype(int)), labels="outcome", kind="sage")
    np.testing.assert_array_equal(again.values, found.values)


def test_sage_takes_groups_of_columns():
    model, x = wavy_model(), frame(20, SMALL)
    found = importance(model, x, labels=wavy(x.to_numpy()), kind="sage", features={"pair": ["a", "b"]})
    assert found.names == ("pair", "c", "d")


def test_labels_that_are_no_classes_are_refused():
    assert class_indices(["no", "yes"], ("no", "yes")).tolist() == [0, 1]
    assert class_indices(np.array([2.0, 1.0]), ("1", "2")).tolist() == [1, 0]  # names before numbers
    for labels in (["no", "maybe"], [0, 2], [0, -1], [0, float("nan")], [0.5, 1]):
        with pytest.raises(UnknownName, match="label"):
            class_indices(labels, ("no", "yes"))


def test_the_noise_of_sampled_values_does_not_make_a_dummy_important():
    """The excess is the folded normal's, checked by drawing; what is left after correcting is never more than told."""
    rng = np.random.default_rng(0)
    for phi in (0.0, 0.3, 1.0, 2.5, 6.0):
        x = phi + rng.normal(size=400_000)
        ones = np.ones_like(x)
        assert excess(np.array([phi]), np.ones(1))[0] == pytest.approx(np.abs(x).mean() - phi, abs=5e-3)
        left = np.mean(np.abs(x) - excess(x, ones)) - phi
        assert abs(left) <= min(0.475, np.abs(x).mean() - phi + 0.06)
    assert excess(np.array([2.0, 0.0]), np.zeros(2)).tolist() == [0.0, 0.0]


@settings(max_examples=20, deadline=None)
@given(batch=st.integers(1, 9), cuts=st.lists(st.integers(1, 22), max_size=3, unique=True))
def test_batches_and_chunks_leave_no_trace(batch, cuts):
    model, x = wavy_model(), frame(23, SMALL)
    y = wavy(x.to_numpy())
    bounds = [0, *sorted(cuts), 23]
    chunks = (x.iloc[a:b].assign(y=y[a:b]) for a, b in itertools.pairwise(bounds))
    whole = importance(model, x, labels=y, kind="sage", budget=10, seed=3)
    parts = importance(model, chunks, labels="y", kind="sage", budget=10, seed=3, batch=batch)
    np.testing.assert_allclose(parts.values, whole.values, atol=1e-12)
    assert parts.provenance.inputs_sha256 == whole.provenance.inputs_sha256 and parts.rows == 23


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".jsonl"])
def test_files_are_read_in_parts(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr("explainer.inspection.stream._CHUNK", 6)
    model, x = wavy_model(), frame(20, SMALL).round(6)
    path = tmp_path / f"rows{suffix}"
    write = {
        ".csv": lambda: x.to_csv(path, index=False),
        ".tsv": lambda: x.to_csv(path, index=False, sep="\t"),
        ".parquet": lambda: x.to_parquet(path),
        ".jsonl": lambda: path.write_text("".join(f"{line}\n" for line in x.to_json(orient="records", lines=True).splitlines())),
    }
    write[suffix]()
    seen = []
    found = importance(model, path, progress=lambda done, total: seen.append((done, total)))
    np.testing.assert_allclose(found.values, importance(model, x).values, atol=1e-9)
    assert found.rows == 20 and seen[-1] == (20, 20)


def test_only_a_chunk_is_in_memory(tmp_path):
    """Chunks made one at a time are let go before the next is asked for."""
    import gc
    import weakref

    alive = []

    def chunks():
        for seed in range(5):
            chunk = frame(10, SMALL, seed=seed)
            alive.append(weakref.ref(chunk))
            yield chunk
            del chunk
            gc.collect()
            assert sum(ref() is not None for ref in alive) <= 2

    assert importance(wavy_model(), chunks()).rows == 50


@pytest.mark.parametrize("stop", [Cancelled("enough"), KeyboardInterrupt()])
def test_a_stop_gives_what_is_known(stop):
    def halt(done, total):
        if done >= 12:
            raise stop

    model, x = wavy_model(), frame(40, SMALL)
    found = importance(model, x, batch=5, progress=halt)
    assert not found.complete and 5 <= found.rows <= 15
    np.testing.assert_allclose(found.values, importance(model, x[: found.rows]).values, atol=1e-12)
    assert any("Stopped" in note for note in found.provenance.notes)


def test_a_stop_before_anything_is_known_stays_a_stop():
    def halt(done, total):
        raise Cancelled("at once")

    with pytest.raises(Cancelled):
        importance(wavy_model(), frame(10, SMALL), progress=halt)


def test_reading_stops_when_the_interval_is_narrow_enough():
    x = frame(2000, SMALL)
    model, y = regression(lambda x: x @ np.array([2.0, 1.0, 0.5, 0.0]), SMALL), None
    y = model.scores(x)[:, 0]
    found = importance(model, x, labels=y, kind="sage", budget="15% error")
    assert 30 <= found.rows < 2000
    assert ((found.high - found.low) / 2).max() <= 0.15 * found.values.max()
    whole = importance(model, x, labels=y, kind="sage")
    assert (np.abs(found.values - whole.values) < 2 * (found.high - found.low)).all()
    hard = importance(model, x[:40], labels=y[:40], kind="sage", budget="1% error")
    assert hard.rows == 40 and any("ended before" in note for note in hard.provenance.notes)


def test_seconds_end_the_reading():
    model = wavy_model()
    importance(model, frame(3, SMALL))  # what is loaded and compiled once is no part of the seconds below
    found = importance(model, (frame(50, SMALL, seed=s) for s in range(10**6)), budget="1s")
    assert found.rows and not found.complete
    assert any("as they came" in note for note in found.provenance.notes) and any("used up" in note for note in found.provenance.notes)


def test_rows_that_the_seconds_did_not_suffice_for_are_not_counted(monkeypatch):
    def ended(*args, **kwargs):  # as an explanation is whose clock ended before its last row
        ex = explainer.explain(*args, **{**kwargs, "budget": None})
        values, stderr = (np.vstack([one[:-1], np.full_like(one[-1:], np.nan)]) for one in (ex.values, np.zeros_like(ex.values)))
        return dataclasses.replace(ex, values=values, stderr=stderr)

    monkeypatch.setattr("explainer.inspection.importance.explain", ended)
    found = importance(wavy_model(), frame(10, SMALL), budget="60s")
    assert found.rows == 9


def test_rows_that_cannot_be_explained_are_counted():
    def picky(x):
        if (x[:, 0] == 7).any():
            raise ValueError("no sevens")
        return wavy(x)

    x = frame(9, SMALL)
    y = wavy(x.to_numpy())
    x.loc[4, "a"] = 7.0
    model = regression(picky, SMALL)
    for more in ({}, {"kind": "sage", "labels": y}):
        found = importance(model, x, **more)
        assert found.rows == 8 and any("1 of 9 rows" in note for note in found.provenance.notes)
        without = {k: np.delete(v, 4) if k == "labels" else v for k, v in more.items()}
        np.testing.assert_allclose(found.values, importance(model, x.drop(4), **without).values, atol=1e-12)


def test_a_tally_counts_each_name_apart():
    tally = Tally(1)
    tally.add(["a", "b"], np.array([[1.0, 2.0]]))
    tally.add(["a", "b"], np.array([[np.nan, 2.0]]))
    tally.add(["b", "c", "b"], np.array([[1.0, 5.0, 3.0]]))
    assert (tally.rows, tally.lost) == (2, 1)
    assert tally.counts.tolist() == [1, 2, 1] and tally.mean[0].tolist() == [1.0, 3.0, 5.0]
    assert tally.error[0][1] == pytest.approx(1.0) and np.isnan(tally.error[0][0])


def test_words_and_channels_are_summed_under_their_names():
    def shout(texts):
        p = np.array([min(1.0, 0.1 + 0.4 * t.lower().count("now")) for t in texts])
        return np.c_[1 - p, p]

    texts = explainer.wrap(shout, modality="text", class_names=["calm", "loud"])
    found = importance(texts, ["Now, now!", "not today", "do it now"])
    frame_ = found.to_frame().set_index("feature")
    assert found.names[0] == "now" and found.to_frame()["feature"][0] == "now" and frame_.loc["now", "rows"] == 2
    assert frame_.loc["now", "mean"] == pytest.approx((0.8 + 0.4) / 2)

    series = explainer.wrap(
        lambda many: np.array([[one[:, 0].mean(), -one[:, 0].mean()] for one in many]),
        modality="series", feature_names=["x", "y"], class_names=["up", "down"], returns="logit",
    )  # fmt: skip
    rows = [np.random.default_rng(i).normal(size=(6 + i, 2)) for i in range(3)]
    channels = importance(series, rows, target="up", output="logit")
    assert channels.names == ("x", "y") and channels.values[1] == pytest.approx(0, abs=1e-3) and channels.values[0] > 0


def test_summaries_of_explanations_are_the_same():
    model, x = wavy_model(), frame(9, SMALL)
    ex = explainer.explain(model, x, "shap", verify=False)
    np.testing.assert_array_equal(summarise(ex).values, importance(model, x).values)


def test_saved_and_read_again(tmp_path):
    found = importance(wavy_model(), frame(9, SMALL), labels=np.zeros(9), kind="sage")
    again = Importance.load(found.save(tmp_path / "deep" / "importance.json"))
    pd.testing.assert_frame_equal(again.to_frame(), found.to_frame())
    assert again.provenance == found.provenance and again.losses == found.losses and again.names == found.names
    (tmp_path / "broken.json").write_text("{}")
    with pytest.raises(CorruptFile):
        Importance.load(tmp_path / "broken.json")
    with pytest.raises(InvalidInput, match="no file"):
        Importance.load(tmp_path / "missing.json")


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"kind": "median"}, UnknownName, "mean_abs, sage"),
        ({"kind": "sage"}, InvalidInput, "labels="),
        ({"kind": "sage", "labels": [1.0, 2.0]}, InvalidInput, "one label per row"),
        ({"kind": "sage", "labels": ["a"] * 9}, InvalidInput, "numbers"),
        ({"kind": "sage", "labels": [np.nan] * 9}, InvalidInput, "missing"),
        ({"kind": "sage", "labels": "outcome"}, UnknownName, "outcome"),
        ({"kind": "sage", "labels": np.zeros(9), "target": 0}, InvalidInput, "kind='mean_abs'"),
        ({"target": "all"}, InvalidInput, "one target"),
        ({"batch": 0}, InvalidInput, "batch=0"),
        ({"budget": "soon"}, InvalidInput, "budget"),
        ({"method": "magic"}, UnknownName, "magic"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        importance(wavy_model(), frame(9, SMALL), **arguments)


def test_files_and_pictures_that_do_not_fit_are_refused(tmp_path):
    model = wavy_model()
    with pytest.raises(InvalidInput, match="no file"):
        importance(model, str(tmp_path / "none.csv"))
    with pytest.raises(InvalidInput, match="cannot be read in parts"):
        importance(model, tmp_path / "rows.xlsx")
    (tmp_path / "empty.csv").write_text("a,b,c,d\n")
    with pytest.raises(InvalidInput, match="no rows"):
        importance(model, tmp_path / "empty.csv")
    (tmp_path / "short.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InvalidInput, match="lacks 2"):
        importance(model, tmp_path / "short.csv")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(InvalidInput, match="parquet"):
        importance(model, tmp_path / "torn.parquet")
    pictures = explainer.wrap(lambda x: x.reshape(len(x), -1)[:, :2], modality="image", task="regression", class_names=["a", "b"])
    with pytest.raises(Unsupported, match="pictures"):
        importance(pictures, np.random.default_rng(0).random((2, 6, 6)), target="a", budget=20)
    with pytest.raises(Unsupported, match="same parts"):
        importance(pictures, np.zeros((2, 6, 6)), labels=[0, 1], kind="sage")
