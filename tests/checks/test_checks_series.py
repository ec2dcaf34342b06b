"""Series: each check passes on clean recordings, fails on the planted defect and names the series, and says why where it cannot run."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from explainer.checks.run import check
from explainer.checks.sensors import runs

spec = importlib.util.spec_from_file_location("checks_clean_data", Path(__file__).parent / "conftest.py")
clean = importlib.util.module_from_spec(spec)
spec.loader.exec_module(clean)
PLANTED = (7, 40, 90)


def recordings(n=150, seed=0):
    """Four channels of different level and size, each with a memory."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        noise = rng.normal(size=(rng.integers(100, 150), 4))
        values = np.zeros_like(noise)
        for t in range(1, len(noise)):
            values[t] = 0.8 * values[t - 1] + noise[t]
        made.append(values * [1, 10, 0.1, 3] + [0, 200, -2, 50])
    return made


def courses(n=150, seed=0):
    """One channel that always runs the same course, with noise."""
    rng = np.random.default_rng(seed)
    shape = np.exp(-((np.linspace(-1, 1, 80) * 5) ** 2)) - 0.3 * np.exp(-((np.linspace(-1, 1, 80) * 3 - 1.5) ** 2))
    return [(shape * rng.uniform(0.8, 1.2) + rng.normal(0, 0.05, 80))[:, None] for _ in range(n)]


def changed(series, change):
    return [change(s.copy()) if i in PLANTED else s.copy() for i, s in enumerate(series)]


def put(values, where, what):
    values[where] = what
    return values


def read_faster(values, times=4):
    place = np.linspace(0, len(values) - 1, times * len(values))
    return np.column_stack([np.interp(place, np.arange(len(values)), channel) for channel in values.T])


CASES = {
    "gaps": (recordings, lambda s: put(s, slice(20, 24), np.nan)),
    "flat stretches": (recordings, lambda s: put(s, (slice(30, 60), 2), s[30, 2])),
    "saturation": (recordings, lambda s: np.minimum(s, np.quantile(s, 0.8, axis=0))),
    "saturation from below": (courses, lambda s: np.maximum(s, np.quantile(s, 0.2))),
    "sampling rate": (recordings, read_faster),
    "spikes": (recordings, lambda s: put(s, (50, 1), s[50, 1] + 200)),
    "spikes among peaks": (courses, lambda s: put(s, (10, 0), -3.0)),
    "swapped channels": (recordings, lambda s: s[:, [0, 3, 2, 1]]),
    "scaled channels": (recordings, lambda s: s * [1, 1000, 1, 1]),
    "scaled channels, turned level": (recordings, lambda s: s * [1, -1, 1, 1]),
    "scaled channels, turned course": (courses, lambda s: -s),
    "series lengths": (recordings, lambda s: s[:30]),
    "series lengths, all alike": (courses, lambda s: s[:79]),
}


@pytest.mark.parametrize("case", CASES)
def test_series_check_fails_on_the_planted_series_and_on_no_other(case, found):
    name = case.partition(",")[0].partition(" among")[0].partition(" from")[0]
    make, change = CASES[case]
    series = make()
    assert found(name, series, modality="series").state == "pass"
    finding = found(name, changed(series, change), modality="series")
    assert finding.state == "fail", finding.message
    assert set(finding.rows) == set(PLANTED)
    assert finding.count == len(PLANTED)
    assert finding.why
    assert finding.advice


NEW = ["gaps", "flat stretches", "saturation", "sampling rate", "spikes", "swapped channels", "scaled channels", "series lengths"]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("make", [recordings, courses, lambda n, seed: clean.series(n, seed)], ids=["recordings", "courses", "waves"])
def test_clean_series_are_left_alone(make, seed):
    findings = check(make(120, seed), modality="series", only=NEW)
    assert not findings.of("fail"), [f.message for f in findings.of("fail")]
    assert not findings.of("error"), [f.message for f in findings.of("error")]


@pytest.mark.parametrize(
    ("name", "series"),
    [
        ("sampling rate", recordings(10)),
        ("swapped channels", courses()),
        ("swapped channels", clean.series()),
        ("scaled channels", recordings(10)),
        ("series lengths", recordings(10)),
        ("overlapping windows", recordings()),
        ("subjects in both", recordings()),
        ("flat stretches", recordings(1)),
    ],
)
def test_series_check_says_why_it_cannot_run(name, series, found):
    finding = found(name, series, modality="series")
    assert finding.state == "not run"
    assert len(finding.message) > 20


def test_gaps_by_the_time_stamps_in_a_channel(found):
    clock = [np.column_stack([np.arange(len(s)) * 0.5, s]) for s in recordings(40)]
    sound = found("gaps", clock)
    assert sound.state == "pass"
    assert "stamps in channel 0" in sound.message
    clock[3][20:, 0] += 2.0
    clock[5][30, 0] = clock[5][29, 0]
    finding = found("gaps", clock)
    assert finding.rows == (3, 5)
    assert finding.evidence["steps missing"] >= 1
    assert finding.evidence["stamps repeated"] == 1
    other = [c * np.where(np.arange(5) == 0, 2 if i == 8 else 1, 1) for i, c in enumerate(clock)]
    rate = found("sampling rate", other)
    assert rate.rows == (8,)
    assert "time stamps" in rate.message


def test_gaps_between_items_by_time_each_group_apart(found):
    series = recordings(120)
    time = np.tile(np.arange(60.0), 2)
    groups = {"patient": np.repeat(["a", "b"], 60)}
    assert found("gaps", series, time=time, groups=groups).state == "pass"
    time[70:] += 5
    time[20] = 19
    finding = found("gaps", series, time=time, groups=groups)
    assert finding.state == "fail"
    assert {20, 70} <= set(finding.rows)
    irregular = np.random.default_rng(0).uniform(0, 1000, 120)
    assert found("gaps", series, time=irregular).state == "pass"


def test_a_peak_of_a_signal_is_no_spike_and_silence_no_flat_stretch(found):
    rng = np.random.default_rng(0)
    beats = [np.pad([10.0, 90, 250, 110, 20], (60, 60))[:, None] + rng.normal(0, 1, (125, 1)) for _ in range(60)]
    assert found("spikes", beats).state == "pass"
    mixed = [b if i % 6 == 0 else rng.normal(0, 5, (125, 1)) for i, b in enumerate(beats)]
    assert found("spikes", mixed).state == "pass"
    speech = [np.concatenate([np.zeros((int(rng.integers(20, 60)), 1)), rng.normal(size=(100, 1))]) for _ in range(60)]
    assert found("flat stretches", speech).state == "pass"
    coarse = [np.round(3 * np.sin(np.linspace(0, 9, 120) + rng.uniform(0, 6)))[:, None] for _ in range(60)]
    assert found("saturation", coarse).state == "pass"


def test_runs_are_the_longest():
    rng = np.random.default_rng(0)
    marks = rng.random((20, 30, 3)) < 0.7
    for i in range(20):
        for c in range(3):
            text = "".join("x" if m else " " for m in marks[i, :, c])
            assert runs(marks)[i, c] == max(map(len, text.split()), default=0)


def windows(long, size, step):
    return [long[s : s + size] for s in range(0, len(long) - size + 1, step)]


def test_overlapping_windows_are_found_across_a_split_and_across_two_sets(found):
    rng = np.random.default_rng(0)
    long = rng.normal(size=(4000, 2)).cumsum(axis=0)
    apart, half = windows(long, 40, 40), windows(long, 40, 20)
    splits = np.where(np.arange(len(apart)) % 2, "train", "test")
    assert found("overlapping windows", apart, splits=splits).state == "pass"
    finding = found("overlapping windows", half, splits=np.where(np.arange(len(half)) % 2, "train", "test"))
    assert finding.state == "fail"
    assert finding.count == len(half)
    assert finding.evidence["pairs"][0]["steps in common"] == 20
    blocks = found("overlapping windows", half, splits=np.where(np.arange(len(half)) < 100, "train", "test"))
    assert sorted(blocks.rows) == [99, 100]
    two = found("overlapping windows", apart[:30], reference=[long[1180:1220], *apart[40:]])
    assert two.rows == (29,)
    assert two.evidence["pairs"][0]["reference row"] == 0
    assert found("overlapping windows", apart[:30], reference=apart[30:]).state == "pass"
    assert found("overlapping windows", apart[:30], reference=[s[:, :1] for s in apart]).state == "not run"


def test_windows_of_silence_and_of_whispers_do_not_overlap(found):
    rng = np.random.default_rng(0)
    quiet = [np.where(np.arange(200)[:, None] < 100, 0.0, rng.integers(-2, 3, (200, 1))) for _ in range(60)]
    assert found("overlapping windows", quiet, splits=["a", "b"] * 30).state == "pass"
    hum = [np.concatenate([np.resize([0.0, 1, 0, 1, 0, 1, 1], (100, 1)), rng.normal(size=(50, 1))]) for _ in range(60)]
    assert found("overlapping windows", hum, splits=["a", "b"] * 30).state == "pass"


def test_equal_series_are_no_overlapping_windows_but_copies(found):
    series = recordings(20)
    both = [*series, *[s.copy() for s in series]]
    assert found("overlapping windows", both, splits=["a"] * 20 + ["b"] * 20).state == "pass"
    assert found("exact duplicates", both).count == 20


def test_subjects_in_both_splits_are_named(found):
    series = recordings(120)
    subject = np.repeat([f"s{k}" for k in range(12)], 10)
    apart = np.where(np.arange(120) < 60, "train", "test")
    assert found("subjects in both", series, groups={"subject": subject}, splits=apart).state == "pass"
    mixed = np.where(np.arange(120) < 65, "train", "test")
    finding = found("subjects in both", series, groups={"subject": subject}, splits=mixed)
    assert finding.state == "fail"
    assert finding.evidence["subject"] == ["s6"]
    assert set(finding.rows) == set(range(60, 70))
    assert "GroupShuffleSplit" in finding.code
    sex = {"sex": np.tile(["f", "m"], 60)}
    assert found("subjects in both", series, groups=sex, splits=mixed).state == "not run"
    assert found("subjects in both", series, groups={"subject": subject}).state == "not run"
    assert found("subjects in both", series, groups={"subject": subject}, splits=["one"] * 120).state == "not run"


def test_real_vowels_are_whole(found):
    zoo = pytest.importorskip("zoo")
    data = zoo.load("vowels-rnn").data
    findings = check(data.test.inputs, data.test.labels, modality="series", reference=data.train.inputs, only=[*NEW, "overlapping windows"])
    assert not findings.of("fail"), [f.message for f in findings.of("fail")]
    assert not findings.of("error")


ODD = [
    [np.full((20, 2), np.nan)] * 30,
    [np.zeros((20, 2))] * 30,
    [np.full((20, 2), np.inf), *recordings(5)],
    [np.ones((1, 3))] * 25,
    [np.arange(2.0)[:, None]] * 25,
    [*recordings(25), np.zeros((3, 1)), np.zeros((5, 9))],
]


@pytest.mark.parametrize("series", ODD, ids=["all missing", "all zero", "infinite", "one step", "two steps", "other channels"])
def test_odd_series_break_no_check(series):
    n = len(series)
    findings = check(
        series, modality="series", splits=["a", "b"] * (n // 2) + ["a"] * (n % 2), time=np.arange(n), groups={"g": np.arange(n) // 2}
    )
    assert not findings.of("error"), [(f.check, f.message) for f in findings.of("error")]
