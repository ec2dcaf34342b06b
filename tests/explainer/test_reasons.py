"""Reason codes on models whose reasons are known: which, in which words, against whom, how stable, and when there are none."""

import math

import numpy as np
import pandas as pd
import pytest

import explainer
from explainer.errors import Cancelled, InvalidInput, UnknownName, Unsupported
from explainer.inspection.notices import Change, Reasons
from explainer.inspection.populations import baselines
from explainer.inspection.reasons import reason_codes
from explainer.inspection.wording import read, unspecific

COLUMNS = ["income", "debt", "late", "age", "town"]
WEIGHTS = np.array([1.0, -2.0, -0.5, 0.1, 0.0])
TEXTS = {
    "income": {"low": "Income insufficient for amount of credit requested", "missing": "Unable to verify income"},
    "debt": "Excessive obligations in relation to income",
    "late": "Delinquent past or present credit obligations with others",
}


def applicants(rows=200, seed=0):
    return pd.DataFrame(np.random.default_rng(seed).normal(size=(rows, 5)), columns=COLUMNS)


def linear(background=None):
    return explainer.wrap(
        lambda table: table.to_numpy() @ WEIGHTS, modality="tabular", task="regression", class_names=["points"],
        feature_names=COLUMNS, background=applicants() if background is None else background, name="scorecard",
    )  # fmt: skip


def row(**values):
    return pd.DataFrame([{**dict.fromkeys(COLUMNS, 0.0), **values}])


def coded(rows, **more):
    return reason_codes(linear(), rows, **{"cutoff": 0.0, "reasons": TEXTS, **more})


def test_the_reasons_of_a_scorecard_are_its_own_points():
    """On a linear score a contribution is the weight times the distance from the population's mean: a closed form."""
    people = applicants(40)
    model = linear(people)
    given = row(income=-1.0, debt=1.5, late=2.0)
    found = reason_codes(model, given, cutoff=0.0, reasons=TEXTS)
    points = WEIGHTS * (given.to_numpy()[0] - people.to_numpy().mean(axis=0))
    assert [r.parts for r in found[0].reasons][:3] == [("debt",), ("income",), ("late",)]
    for reason in found[0].reasons:
        assert reason.value == pytest.approx(points[COLUMNS.index(reason.parts[0])], abs=1e-10)
        assert reason.low <= reason.value <= reason.high
    assert [r.text for r in found[0].reasons][:3] == [TEXTS["debt"], TEXTS["income"]["low"], TEXTS["late"]]
    assert found.population == "all" and found.population_rows == 40 and "all 40 applicants" in found.described
    assert not found[0].approved and found[0].score == pytest.approx(-5.0)
    assert found.base == pytest.approx((people.to_numpy() @ WEIGHTS).mean())


def test_the_interval_holds_the_spread_over_backgrounds():
    """The population has more rows than a background: the mean over all of it is inside the interval about as often as told."""
    inside = []
    truth = WEIGHTS * (row(debt=0.4).to_numpy()[0] - applicants().to_numpy().mean(axis=0))
    for seed in range(20):
        for reason in coded(row(debt=0.4), seed=seed).cases[0].reasons:
            value = truth[COLUMNS.index(reason.parts[0])]
            inside.append(reason.low <= value <= reason.high)
    assert np.mean(inside) >= 0.85


def test_a_column_that_does_nothing_is_no_reason_and_top_limits_them():
    found = coded(row(income=-2, debt=2, late=2, age=-2, town=9), top=2)
    assert [r.parts[0] for r in found[0].reasons] == ["debt", "income"]
    many = coded(row(income=-2, debt=2, late=2, age=-2, town=9), top=9)
    assert "town" not in {p for r in many[0].reasons for p in r.parts} and len(many[0].reasons) == 4
    assert any("More than 4" in note for note in many.provenance.notes)


def test_columns_without_a_sentence_are_named_and_warned_of():
    case = coded(row(age=-30.0, debt=3.0))[0]
    bare = next(r for r in case.reasons if r.parts == ("age",))
    assert bare.text == "age (no sentence in the table of reasons)" and not bare.mapped
    assert case.verdict.checks["wording"].status == "warn" and "age" in case.verdict.checks["wording"].reason
    assert coded(row(debt=3.0), reasons=None)[0].verdict.checks["wording"].status == "not run"


def test_the_words_know_the_direction_and_what_is_missing():
    model = explainer.wrap(
        lambda t: np.where(t["income"].isna(), -3.0, -np.abs(t["income"].fillna(0))), modality="tabular", task="regression",
        class_names=["points"], feature_names=COLUMNS, background=applicants(),
    )  # fmt: skip
    texts = {"income": {"low": "too low", "high": "too high", "missing": "not stated"}}
    rows = pd.concat([row(income=-4.0), row(income=4.0), row(income=np.nan)], ignore_index=True)
    found = reason_codes(model, rows, cutoff=0.0, reasons=texts)
    assert [case.reasons[0].text for case in found] == ["too low", "too high", "not stated"]
    assert found[2].reasons[0].facts[0].startswith("income = missing, population ")


def test_columns_with_one_sentence_are_one_reason():
    texts = {"debt": "Obligations", "late": "Obligations", "income": "Income"}
    case = coded(row(income=-1.6, debt=1.0, late=2.0), reasons=texts)[0]
    assert case.reasons[0].parts == ("debt", "late")
    alone = {r.parts[0]: r.value for r in coded(row(income=-1.6, debt=1.0, late=2.0))[0].reasons}
    assert case.reasons[0].value == pytest.approx(alone["debt"] + alone["late"])
    assert [r.text for r in case.reasons[:2]] == ["Obligations", "Income"]


def test_inquiries_are_a_fifth_reason_where_they_count():
    given = row(income=-9.0, debt=9.0, late=9.0, age=-9.0)
    assert len(coded(given, top=3)[0].reasons) == 3
    with_inquiries = coded(given, top=3, inquiries="age")[0].reasons
    assert len(with_inquiries) == 4 and with_inquiries[-1].parts == ("age",)
    assert len(coded(given, top=3, inquiries="town")[0].reasons) == 3


def test_named_populations_are_what_they_say():
    people, model = applicants(300), linear()
    score = people.to_numpy() @ WEIGHTS
    found = baselines(people, "near cutoff", model, lambda table: table.to_numpy() @ WEIGHTS, 1.0)
    assert list(found) == ["near the cutoff", "all", "approved"]
    approved = people[score >= 1.0]
    assert len(found["approved"][1]) == len(approved) and len(found["all"][1]) == 300
    near = found["near the cutoff"][1].to_numpy() @ WEIGHTS
    assert len(near) == max(20, math.ceil(0.1 * len(approved)))
    assert near.min() >= 1.0 and near.max() <= np.sort(score[score >= 1.0])[len(near)]
    words = found["near the cutoff"][0]
    assert "nearest the cutoff 1" in words and f"{len(near)} approved" in words


def test_the_answer_depends_on_the_population_and_says_which():
    given = row(debt=0.1, income=0.3)
    every, approved = coded(given, population="all"), coded(given, population="approved")
    assert every.base < approved.base and every.population != approved.population
    assert approved[0].reasons[0].value < every[0].reasons[0].value if every[0].reasons else True
    own = coded(given, population=("branch 7", applicants(30, seed=5)))
    assert own.population == "branch 7" and own.population_rows == 30 and own[0].changes["baselines"].runs == 3
    plain = coded(given, population=applicants(30, seed=5))
    assert plain.population == "rows given by the caller"
    assert plain[0].reasons == own[0].reasons


def test_an_approved_case_needs_no_notice():
    found = coded(row(debt=-3.0, income=1.0))
    assert found[0].approved and found.text(0).startswith("No notice is needed") and not found.denied


def test_no_reason_is_said_with_its_reason():
    best = row(income=9.0, debt=-9.0, late=-9.0, age=9.0)
    nothing = coded(best, cutoff=100.0)
    case = nothing[0]
    assert not case.approved and case.reasons == () and "No column lowers the score" in case.why_none and "itself scores" in case.why_none
    assert case.verdict.status == "fail" and "A person has to look" in nothing.text(0)
    assert nothing.to_frame()["reason"][0] == case.why_none
    # A row at the population's mean: every contribution is noise of the background drawn.
    people = applicants()
    middle = coded(people.mean().to_frame().T, cutoff=100.0)[0]
    assert middle.reasons and not any(r.distinguishable for r in middle.reasons)
    assert "within its own error" in middle.why_none and middle.verdict.checks["distinguishable"].status == "fail"


def test_reasons_within_noise_are_marked_and_stay_out_of_the_notice():
    people = applicants()
    given = people.mean().to_frame().T
    given["debt"] += 3.0
    found = coded(given, cutoff=100.0)
    case = found[0]
    assert case.reasons[0].distinguishable and not case.reasons[-1].distinguishable
    assert case.verdict.checks["distinguishable"].status == "warn"
    assert TEXTS["debt"] in found.text(0) and case.reasons[-1].text not in found.text(0)


def test_exact_values_know_no_seed_and_clear_reasons_do_not_change():
    clear = coded(row(income=-10.0, debt=10.0, late=10.0, age=-30.0), reasons={**TEXTS, "age": "Length of residence"})
    assert clear[0].changes["seeds"] == Change(0, 0.0, 0.0) and clear[0].verdict.checks["seeds"].status == "pass"
    assert clear.changes["backgrounds"] == Change(5, 0.0, 0.0) and clear.changes["baselines"].runs == 2
    assert clear[0].verdict.status == "pass", clear[0].verdict


def test_close_reasons_change_and_fail():
    """Nine columns of one weight at one distance: which four come first is chance, and the verdict must say so."""
    names = [f"x{j}" for j in range(9)]
    people = pd.DataFrame(np.random.default_rng(0).normal(size=(400, 9)), columns=names)
    model = explainer.wrap(
        lambda t: -t.to_numpy().sum(1), modality="tabular", task="regression", class_names=["points"], feature_names=names,
        background=people,
    )  # fmt: skip
    found = reason_codes(model, pd.DataFrame([dict.fromkeys(names, 1.0)]), cutoff=0.0)
    assert found.changes["backgrounds"].reasons >= 0.8 and found[0].verdict.checks["backgrounds"].status == "fail"
    assert "Not to be sent" in found.text(0)
    everything = found.changes["all"]
    parts = [found.changes[k] for k in ("seeds", "backgrounds", "baselines")]
    assert everything.reasons == pytest.approx(sum(c.runs * c.reasons for c in parts if c.runs) / sum(c.runs for c in parts))


def test_sampled_values_are_rerun_by_seed():
    names = [f"x{j}" for j in range(14)]
    people = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 14)), columns=names)

    def score(table):
        x = table.to_numpy()
        p = 1 / (1 + np.exp(-2 * x[:, 0] * x[:, 1] - x[:, 2:].sum(axis=1) - (x[:, 3] > 0) * x[:, 4] * x[:, 5]))
        return np.c_[1 - p, p]

    model = explainer.wrap(score, modality="tabular", feature_names=names, class_names=["False", "True"], background=people)
    found = reason_codes(model, people[:3], target="True", cutoff=0.99, budget=60, seeds=2)
    assert found[0].changes["seeds"].runs == 2 and found[0].changes["backgrounds"].runs == 2
    assert reason_codes(model, people[:3], target="True", cutoff=0.99, budget=60, seeds=2).cases == found.cases
    alone = reason_codes(model, people[1:2], target="True", cutoff=0.99, budget=60, seeds=2)
    assert [r.text for r in alone[0].reasons] == [r.text for r in found[1].reasons]
    no_reruns = reason_codes(model, people[:1], target="True", cutoff=0.99, budget=60, seeds=0)
    assert no_reruns[0].verdict.checks["seeds"].status == "not run" and any("fewer than 2 seeds" in n for n in no_reruns.provenance.notes)


def test_groups_are_named_as_one():
    case = coded(row(debt=2.0, late=2.0), features={"credit": ["debt", "late"]}, reasons={"credit": "Credit history"})[0]
    assert case.reasons[0].parts == ("credit",) and case.reasons[0].text == "Credit history" and len(case.reasons[0].facts) == 2


def test_a_row_the_model_fails_on_is_named_and_the_rest_kept():
    def picky(table):
        if (table["age"] == 7).any():
            raise ValueError("no sevens")
        return table.to_numpy() @ WEIGHTS

    model = explainer.wrap(
        picky, modality="tabular", task="regression", class_names=["points"], feature_names=COLUMNS, background=applicants()
    )
    found = reason_codes(model, pd.concat([row(debt=2.0), row(age=7.0)], ignore_index=True), cutoff=0.0)
    assert found[0].reasons and not found[1].reasons
    assert "no sevens" in found[1].why_none and found[1].verdict.status == "fail"


def test_saved_and_read_again(tmp_path):
    found = coded(pd.concat([row(debt=2.0), row(debt=-3.0)], ignore_index=True), seeds=0)
    again = Reasons.load(found.save(tmp_path / "reasons.json"))
    pd.testing.assert_frame_equal(again.to_frame(), found.to_frame())
    assert again.text(0) == found.text(0) and again.verdict == found.verdict and again.provenance == found.provenance
    assert math.isnan(again[0].changes["backgrounds"].reasons)
    assert set(found.to_frame()["row"]) == {0, 1}
    with pytest.raises(IndexError):
        found[2]


def test_the_table_of_reasons_is_read_from_files(tmp_path):
    lines = "column, reason, low, high\nincome, , Income too low, Income too high\ndebt, Obligations, ,\n"
    (tmp_path / "reasons.csv").write_text(lines)
    expected = {"income": {"low": "Income too low", "high": "Income too high"}, "debt": {"reason": "Obligations"}}
    assert read(tmp_path / "reasons.csv", COLUMNS) == expected
    (tmp_path / "reasons.toml").write_text('debt = "Obligations"\n[income]\nlow = "Income too low"\nhigh = "Income too high"\n')
    assert read(str(tmp_path / "reasons.toml"), COLUMNS) == expected
    assert read(expected, COLUMNS) == expected


@pytest.mark.parametrize(
    ("table", "error", "words"),
    [
        ({"dept": "Obligations"}, UnknownName, "Did you mean 'debt'"),
        ({"debt": {"hight": "Obligations"}}, UnknownName, "Did you mean 'high'"),
        ({"debt": "  "}, InvalidInput, "empty"),
        ({"debt": 3}, InvalidInput, "sentence"),
        (["debt"], InvalidInput, "mapping"),
        ("none.csv", InvalidInput, "no table of reasons"),
        ("column,text\ndebt,x\n", InvalidInput, "'column' and 'reason'"),
        ("column,reason\ndebt,x\ndebt,y\n", InvalidInput, "two lines"),
        ("= [", InvalidInput, "cannot be read"),
    ],
)
def test_a_table_of_reasons_that_does_not_fit_is_refused(tmp_path, table, error, words):
    if isinstance(table, str) and not table.endswith(".csv"):
        path = tmp_path / ("table.toml" if table.startswith("=") else "table.csv")
        path.write_text(table)
        table = path
    with pytest.raises(error, match=words):
        read(table, COLUMNS)


def test_a_missed_score_is_no_specific_reason():
    for text in (
        "You did not reach our cutoff",
        "Failed to achieve a qualifying score",
        "Internal standards",
        "Your credit score was too low",
    ):
        assert unspecific(text)
    assert not unspecific("Excessive obligations in relation to income")
    case = coded(row(debt=3.0), reasons={**TEXTS, "debt": "Applicant did not reach the qualifying score"})[0]
    assert "Not a specific reason" in case.verdict.checks["wording"].reason


def classifier():
    return explainer.wrap(
        lambda t: np.c_[t.to_numpy()[:, 0] * 0 + 0.4, t.to_numpy()[:, 0] * 0 + 0.6], modality="tabular", feature_names=COLUMNS,
        class_names=["no", "yes"], background=applicants(20),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("make", "arguments", "error", "words"),
    [
        (classifier, {}, InvalidInput, "which outcome is favourable"),
        (classifier, {"target": "predicted"}, InvalidInput, "which outcome is favourable"),
        (classifier, {"target": "maybe"}, UnknownName, "maybe"),
        (classifier, {"target": "no", "population": "approved"}, InvalidInput, "None of the 20 applicants"),
        (linear, {}, InvalidInput, "cutoff="),
        (linear, {"cutoff": float("nan")}, InvalidInput, "cutoff=nan"),
        (linear, {"cutoff": 0, "top": 0}, InvalidInput, "top=0"),
        (linear, {"cutoff": 0, "seeds": -1}, InvalidInput, "seeds=-1"),
        (linear, {"cutoff": 0, "population": "everyone"}, UnknownName, "near the cutoff"),
        (linear, {"cutoff": 0, "inquiries": "asked"}, UnknownName, "asked"),
        (linear, {"cutoff": 0, "applicants": applicants()[["age"]]}, InvalidInput, "lacks"),
    ],
)
def test_what_does_not_fit_is_refused(make, arguments, error, words):
    with pytest.raises(error, match=words):
        reason_codes(make(), row(debt=1.0), **arguments)


def test_texts_and_models_without_population_are_refused():
    texts = explainer.wrap(lambda t: np.full((len(t), 2), 0.5), modality="text", class_names=["a", "b"])
    with pytest.raises(Unsupported, match="columns of a table"):
        reason_codes(texts, ["words"], target="a")
    bare = explainer.wrap(lambda t: t.to_numpy()[:, 0], modality="tabular", task="regression", class_names=["p"], feature_names=COLUMNS)
    with pytest.raises(Unsupported, match="applicants="):
        reason_codes(bare, row(), cutoff=0)


def test_a_stop_is_a_stop():
    def halt(done, total):
        if done > 2500:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        coded(row(debt=2.0), progress=halt)
