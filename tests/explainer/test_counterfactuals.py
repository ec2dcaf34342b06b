"""Counterfactuals: closed forms, every row of a small space, limits that are never broken, and "none" with its reason."""

from __future__ import annotations

import itertools

import games
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import explainer
from explainer.errors import InvalidInput, UnknownName, Unsupported
from explainer.inspection.counterfactuals import Counterfactuals, counterfactuals
from explainer.inspection.space import Space

TOWNS = ["east", "north", "south", "west"]


def people(n: int = 200, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame({
        "age": rng.integers(18, 70, n), "income": rng.lognormal(3, 0.5, n).round(1), "town": rng.choice(TOWNS, n),
        "owner": rng.random(n) < 0.5, "grade": pd.Categorical(rng.choice(["low", "mid", "high"], n), ["low", "mid", "high"], ordered=True),
        "ratio": rng.normal(size=n),
    })  # fmt: skip


def yes_or_no(logit, data: pd.DataFrame) -> explainer.Model:
    def score(table):
        p = 1 / (1 + np.exp(-np.asarray(logit(table), dtype=float)))
        return np.c_[1 - p, p]

    return explainer.wrap(score, modality="tabular", feature_names=list(data.columns), class_names=["no", "yes"], background=data)


def merit(t: pd.DataFrame) -> np.ndarray:
    town = t["town"].map({"east": 0.0, "north": 1.0, "south": -1.0, "west": 0.5}).astype(float)
    grade = t["grade"].map({"low": -1.0, "mid": 0.0, "high": 1.0}).astype(float)
    return (t["age"] - 45) / 10 + (t["income"] - 22) / 8 + town + 1.5 * t["owner"] + grade + 0.5 * t["ratio"]


# -- oracles -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("free", range(3))
def test_the_nearest_change_of_one_column_of_a_linear_model_is_found(free):
    data, weights = games.frame(300, ["a", "b", "c"]), np.array([1.0, -2.0, 0.7])
    model = yes_or_no(lambda t: t.to_numpy() @ weights, data)
    row = pd.DataFrame([[-0.5, 0.3, 0.2]], columns=data.columns)
    immutable = [name for j, name in enumerate(data.columns) if j != free]
    found = counterfactuals(model, row, immutable=immutable, ranges={data.columns[free]: (-9, 9)}, k=1)
    nearest = row.iloc[0, free] - (row.to_numpy()[0] @ weights) / weights[free]
    step = np.median(np.abs(data.iloc[:, free] - data.iloc[:, free].median())) / 100
    assert found.rows.iloc[0, free] == pytest.approx(nearest, abs=step) and found.scores[0, 1] > 0.5
    assert found.changes[0] == 1 and abs(found.rows.iloc[0, free] - row.iloc[0, free]) > 0.3


def test_in_a_small_space_the_best_row_of_all_is_found(monkeypatch):
    """Every row of a mixed space is scored by brute force: none is nearer with fewer changes than the answer."""
    monkeypatch.setattr(Space, "lonely", lambda self, z: np.zeros(len(z)))
    data = pd.DataFrame(list(itertools.product(range(4), TOWNS, [False, True], ["low", "high"])), columns=["n", "town", "owner", "grade"])
    for seed in range(12):
        table = np.random.default_rng(seed).random((4, 4, 2, 2))

        def score(t, table=table):
            p = table[t["n"], t["town"].map(TOWNS.index).astype(int), t["owner"].astype(int), (t["grade"] == "high").astype(int)] ** 3
            return np.c_[1 - p, p]

        model = explainer.wrap(score, modality="tabular", feature_names=list(data.columns), class_names=["no", "yes"], background=data)
        said = score(data)[:, 1] > 0.5
        start = int(np.flatnonzero(~said)[seed % (~said).sum()])
        own = data.iloc[start]
        changes = (data != own).sum(axis=1).to_numpy()
        distance = changes - (data["n"] != own["n"]) + (data["n"] - own["n"]).abs() / 1.0  # the spread of 0..3 is 1
        cost = np.where(said, distance + changes, np.inf)
        found = counterfactuals(model, data.iloc[[start]], k=1)
        assert found.distance[0] + found.changes[0] == pytest.approx(cost.min())


def test_changes_that_work_only_together_are_found():
    data = people()
    model = yes_or_no(lambda t: 4 * ((t["town"] == "west") & t["owner"] & (t["age"] > 60)) - 2, data)
    row = data[(data["town"] == "east") & ~data["owner"] & (data["age"] < 40)].iloc[[0]]
    found = counterfactuals(model, row, k=2)
    assert found.changed[0].nonzero()[0].tolist() == [0, 2, 3] and found.rows["age"][0] == 61
    assert found.rows["town"][0] == "west" and found.rows["owner"][0]


def test_answers_are_near_the_data_where_that_costs_little():
    rng = np.random.default_rng(0)
    a = rng.normal(size=500)
    data = pd.DataFrame({"a": a, "b": a + 0.1 * rng.normal(size=500)})
    model = yes_or_no(lambda t: t["a"] + t["b"] - 2, data)
    found = counterfactuals(model, pd.DataFrame({"a": [0.0], "b": [0.0]}), k=1)
    assert found.changes[0] == 2 and abs(found.rows["a"][0] - found.rows["b"][0]) < 0.6
    assert found.plausibility[0] > 0
    far = counterfactuals(model, pd.DataFrame({"a": [0.0], "b": [0.0]}), k=1, max_changes=1)
    assert far.changes[0] == 1 and far.plausibility[0] <= found.plausibility[0]


def test_several_answers_differ():
    data = people()
    model = yes_or_no(merit, data)
    row = data[merit(data) < -1].iloc[[0]]
    found = counterfactuals(model, row, k=4)
    assert len(found.rows) == 4 and found.reasons == ("",)
    assert len({tuple(c) for c in found.changed}) >= 3 and found.diversity[0] > 0.4
    assert not found.rows.duplicated().any()


def test_a_value_outside_its_range_stays_or_comes_inside():
    data = people(60, 0)
    data.loc[0, "age"] = 62
    model, row = yes_or_no(lambda t: (49 - t["age"]).to_numpy(float), data), data.iloc[:1]
    found = counterfactuals(model, row, ranges={"age": (25, 50.5)}, budget=800)
    assert len(found.rows) and found.rows["age"].between(25, 50).all()
    assert not len(counterfactuals(model, row, ranges={"age": (25, 50)}, monotone={"age": "up"}, budget=800).rows)


# -- limits ------------------------------------------------------------------------------------------------------------


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_limits_are_never_broken(draw):
    seed = draw.draw(st.integers(0, 10_000), label="seed")
    rng = np.random.default_rng(seed)
    data = people(60, seed)
    weights = rng.normal(size=6) * 2

    def logit(t):
        town = t["town"].map(dict(zip(TOWNS, rng_town, strict=True))).astype(float)
        x = np.c_[(t["age"] - 45) / 15, t["income"] / 10 - 2, town, t["owner"], t["grade"].cat.codes - 1, t["ratio"]]
        return x @ weights + x[:, 0] * x[:, 5]

    rng_town = rng.normal(size=4)
    immutable = draw.draw(st.lists(st.sampled_from(list(data.columns)), max_size=3, unique=True), label="immutable")
    monotone = draw.draw(
        st.dictionaries(st.sampled_from(["age", "income", "grade", "ratio"]), st.sampled_from(["up", "down"])), label="monotone"
    )
    ranges = {"age": (25, 50.5), "town": ["north", "south"]} if draw.draw(st.booleans(), label="ranges") else {}
    most = draw.draw(st.sampled_from([None, 1, 2, 3]), label="max_changes")
    rows = data.iloc[:2].reset_index(drop=True)
    found = counterfactuals(
        yes_or_no(logit, data), rows, immutable=immutable, monotone=monotone, ranges=ranges, max_changes=most, budget=800
    )
    original = rows.iloc[found.instance].reset_index(drop=True)
    assert found.rows.dtypes.to_dict() == rows.dtypes.to_dict() and len(found.rows) <= 6
    model = yes_or_no(logit, data)
    if len(found.rows):
        np.testing.assert_allclose(found.scores, model.scores(found.rows))
        assert (found.scores.argmax(1) != model.scores(original).argmax(1)).all()
    for name in data.columns:
        new, old = found.rows[name], original[name]
        moved = (new != old).to_numpy()
        np.testing.assert_array_equal(moved, found.changed[:, list(data.columns).index(name)])
        assert not (moved.any() and name in immutable)
        if name in monotone:
            a, b = (new.cat.codes, old.cat.codes) if name == "grade" else (new, old)
            assert (a >= b).all() if monotone[name] == "up" else (a <= b).all()
        assert set(new[moved]) <= set(data[name]) or name in ("age", "income", "ratio")
        if name in ("age", "income", "ratio"):
            assert new[moved].between(data[name].min(), data[name].max()).all()
        if name == "income":
            np.testing.assert_allclose(new, new.round(1), atol=1e-12)
        if name in ranges:
            assert new[moved].isin(ranges[name]).all() if name == "town" else new[moved].between(*ranges[name]).all()
    if most:
        assert (found.changes <= most).all()


def test_types_missing_values_and_unseen_categories_are_kept():
    data = people(80)
    data["count"] = pd.array(np.arange(80) % 7, dtype="Int64")
    data["small"] = np.linspace(0, 1, 80).astype("float32").round(2)
    data["kind"] = np.array(["x", "y"] * 40, dtype=object)
    row = data.iloc[[0]].copy()
    row["income"] = np.nan
    row["town"] = "abroad"
    row["count"] = pd.array([None], dtype="Int64")
    row["kind"] = [None]

    def logit(t):
        return (t["income"].fillna(0) > 30) * 1.0 + (t["count"].fillna(0) >= 5).astype(float) + (t["kind"] == "y") - 0.5

    found = counterfactuals(yes_or_no(logit, data), row, k=5)
    assert found.rows.dtypes.to_dict() == row.dtypes.to_dict()
    assert set(found.rows.columns[found.changed.any(axis=0)]) == {"income", "count", "kind"}
    assert (found.rows["town"] == "abroad").all() and len(found.rows) >= 3
    assert found.rows.loc[found.changed[:, 7], "small"].empty


def test_fixed_columns_leave_no_way_and_the_reason_says_so():
    data = people(60)
    model = yes_or_no(merit, data)
    row = data[merit(data) < -1].iloc[[0]]
    none = counterfactuals(model, row, immutable=list(data.columns))
    assert none.reasons[0].startswith("None within these limits: no column may change. Limits: age, income")
    assert len(none.rows) == 0 and none.scores.shape == (0, 2) and list(none.rows.columns) == list(data.columns)
    assert none.to_frame().empty and len(none.of(0)) == 0


def test_none_within_the_limits_says_how_near_the_best_came():
    data = people()
    model = yes_or_no(lambda t: 4 * ((t["town"] == "west") & t["owner"]) + t["age"] / 1000 - 2, data)
    row = data[(data["town"] == "east") & ~data["owner"] & (data["age"] == data["age"].min())]
    row = (row if len(row) else data[(data["town"] == "east") & ~data["owner"]]).iloc[[0]]
    none = counterfactuals(model, row, "yes", max_changes=1, monotone={"ratio": "up"})
    reason = none.reasons[0]
    assert "every combination of one change" in reason and "ratio may only go up" in reason and "at most 1 change" in reason
    best = 1 / (1 + np.exp(2 - data["age"].max() / 1000))
    assert f"gives yes a probability of {best:.3g}" in reason and "age" in reason and "asked for was yes" in reason
    assert "With 2 changes it can be had" in reason
    assert counterfactuals(model, row, "yes", max_changes=2).changes.min() == 2


def test_what_holds_already_needs_no_change():
    data = people()
    found = counterfactuals(yes_or_no(merit, data), data[merit(data) > 1].iloc[[0]], "yes")
    assert found.reasons == ("The model says yes already; nothing needs to change.",) and len(found.rows) == 0


# -- targets -----------------------------------------------------------------------------------------------------------


def test_targets_of_classes_thresholds_and_ranges():
    data = games.frame(200, ["a", "b"])

    def three(t):
        e = np.exp(3 * np.c_[t["a"], t["b"], 0 * t["a"]])
        return e / e.sum(1, keepdims=True)

    model = explainer.wrap(three, modality="tabular", feature_names=["a", "b"], class_names=["A", "B", "C"], background=data)
    row = pd.DataFrame({"a": [1.0], "b": [0.0]})
    for target, wanted in (("other", {1, 2}), ("C", {2}), (1, {1})):
        found = counterfactuals(model, row, target)
        assert set(found.scores.argmax(1)) <= wanted and len(found.rows)
    sure = counterfactuals(model, row, "B", threshold=0.8)
    assert (sure.scores[:, 1] >= 0.8).all() and sure.scores[0, 1] == pytest.approx(0.8, abs=0.02)
    assert sure.targets == ("B with a probability of 0.8 or more",)
    number = explainer.wrap(
        lambda t: (2 * t["a"] + t["b"]).to_numpy()[:, None], modality="tabular", feature_names=["a", "b"], class_names=["y"],
        task="regression", background=data,
    )  # fmt: skip
    between = counterfactuals(number, row, (-1, 0), k=2)
    assert between.scores[:, 0] == pytest.approx([0, 0], abs=0.01) and (between.scores <= 0).all() and between.targets == ("-1 to 0",)
    assert (counterfactuals(number, row, (3, None)).scores >= 3).all()
    assert counterfactuals(number, row, (None, 99)).reasons[0].startswith("The model says at most 99 already")
    assert "gives" in counterfactuals(number, row, (50, None)).reasons[0]


# -- the rest ----------------------------------------------------------------------------------------------------------


def test_the_same_row_gets_the_same_answer_in_any_batch():
    data = people()
    model, rows = yes_or_no(merit, data), data[merit(data) < 0].iloc[:3]
    seen = []
    whole = counterfactuals(model, rows, budget=3000, progress=lambda done, total: seen.append((done, total)))
    alone = counterfactuals(model, rows.iloc[[1]], budget=3000)
    pd.testing.assert_frame_equal(whole.rows.iloc[whole.of(1)].reset_index(drop=True), alone.rows)
    np.testing.assert_array_equal(whole.plausibility[whole.of(1)], alone.plausibility)
    assert seen[-1] == (9000, 9000) and all(a <= b for (a, _), (b, _) in itertools.pairwise(seen))
    assert whole.provenance.evaluations <= 3 * 3010


def test_the_budget_holds_and_a_model_that_fails_on_some_rows_does_not_stop_the_search():
    data = people()

    def fragile(t):
        if (t["town"] == "west").any():
            raise ValueError("west is not served")
        return merit(t)

    row = data[(merit(data) < -1) & (data["town"] != "west")].iloc[[0]]
    found = explainer.counterfactuals(yes_or_no(fragile, data), row, budget=800)
    assert len(found.rows) and not (found.rows["town"] == "west").any() and found.provenance.evaluations <= 810
    quick = counterfactuals(yes_or_no(merit, data), row, budget="0.001s")
    assert quick.provenance.evaluations < 20_000


def test_results_survive_disk_and_become_frames(tmp_path):
    data = people()
    data["when"] = pd.Timestamp("2026-01-01")
    model = yes_or_no(merit, data)
    rows = data[merit(data) < 0].iloc[:2].reset_index(drop=True)
    for found in (counterfactuals(model, rows, budget=2000), counterfactuals(model, rows, immutable=list(data.columns))):
        back = Counterfactuals.load(found.save(tmp_path / "found.json"))
        pd.testing.assert_frame_equal(back.rows, found.rows, check_dtype=True)
        pd.testing.assert_frame_equal(back.originals, found.originals)
        for name in ("scores", "original_scores", "instance", "changed", "distance", "plausibility", "diversity"):
            np.testing.assert_array_equal(getattr(back, name), getattr(found, name))
        for name in ("targets", "reasons", "class_names", "output"):
            assert getattr(back, name) == getattr(found, name)
        pd.testing.assert_frame_equal(back.to_frame(), found.to_frame())
        assert len(found.to_frame()) == found.changed.sum()


def test_misuse_is_answered():
    data, model = people(), yes_or_no(merit, people())
    row = data.iloc[[0]]
    for error, words, options in (
        (UnknownName, "column 'aeg'", {"immutable": ["aeg"]}),
        (UnknownName, "direction", {"monotone": {"age": "upwards"}}),
        (InvalidInput, "without an order", {"monotone": {"town": "up"}}),
        (InvalidInput, "pair", {"ranges": {"age": 3}}),
        (InvalidInput, "empty", {"ranges": {"age": (5, 3)}}),
        (UnknownName, "category", {"ranges": {"town": ["nroth"]}}),
        (UnknownName, "target", {"target": "maybe"}),
        (InvalidInput, "threshold", {"threshold": 1.5}),
        (InvalidInput, "k=0", {"k": 0}),
        (InvalidInput, "max_changes", {"max_changes": 0}),
        (InvalidInput, "no sampling error", {"budget": "1% error"}),
    ):
        with pytest.raises(error, match=words):
            counterfactuals(model, row, **options)
    number = games.regression(games.wavy)
    for target in ("other", (None, None), (2, 1), 5):
        with pytest.raises(InvalidInput, match="target="):
            counterfactuals(number, games.frame(1), target)
    with pytest.raises(Unsupported, match="is for tables"):
        counterfactuals(explainer.wrap(lambda t: np.ones((len(t), 1)), modality="text", class_names=["v"]), ["a"])


def test_a_row_that_cannot_be_scored_is_named_and_the_others_kept():
    data = people()

    def fragile(t):
        if (t["ratio"] > 50).any():
            raise RuntimeError("the sensor is unplugged")
        return merit(t)

    model, rows = yes_or_no(fragile, data), data[merit(data) < -1][:3].reset_index(drop=True)
    whole = counterfactuals(model, rows.iloc[[0, 2]], data=data, k=2, budget=2000)
    rows.loc[1, "ratio"] = 99.0
    found = counterfactuals(model, rows, data=data, k=2, budget=2000)
    assert "the sensor is unplugged" in found.reasons[1] and len(found.of(1)) == 0 and np.isnan(found.original_scores[1]).all()
    assert found.targets[1] == "another class"
    pd.testing.assert_frame_equal(found.rows, whole.rows)
    with pytest.raises(InvalidInput, match="the sensor is unplugged"):
        counterfactuals(model, rows.iloc[[1]], data=data)
