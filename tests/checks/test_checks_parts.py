"""Every kind of source is read; what is too large to hold is judged in parts, with the findings it has in one piece."""

from __future__ import annotations

import json
import os
import signal

import numpy as np
import pandas as pd
import pytest

from explainer.checks import parts as parts_module
from explainer.checks import spool as spool_module
from explainer.checks.catalogue import checks
from explainer.checks.read import read
from explainer.checks.run import check
from explainer.errors import InvalidInput, UnknownName

LITTLE = 1.0  # byte: less than any file needs


def damaged(n=3000, seed=0):
    """A table with something for most checks to find, in all its parts."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({
        "id": np.arange(n), "a": rng.normal(size=n), "b": rng.normal(size=n), "whole": rng.poisson(20, n), "flat": 7,
        "city": rng.choice(["Rome", "rome ", "Paris", "n/a"], n), "late": np.where(np.arange(n) < n - 500, np.nan, rng.normal(size=n)),
        "text": [f"{i} parcels went out by the road to town {i * 7919 % 1000}" for i in range(n)], "code": rng.integers(0, 9, n),
    })  # fmt: skip
    frame["typed"] = frame["whole"].astype(str).where(np.arange(n) % 211 != 210, "none")
    frame.loc[[5, n - 7], "a"] = np.inf, 1e9
    frame.loc[frame.sample(30, random_state=1).index, "code"] = 9999
    frame.loc[n - 20 :, frame.columns[1:]] = frame.loc[:19, frame.columns[1:]].to_numpy()
    frame["y"] = np.where(rng.random(n) < 0.03, "rare", rng.choice(["u", "v"], n))
    return frame.infer_objects()


def write(frame, path):
    kinds = {
        ".csv": lambda: frame.to_csv(path, index=False), ".tsv": lambda: frame.to_csv(path, index=False, sep="\t"),
        ".parquet": lambda: frame.to_parquet(path), ".jsonl": lambda: frame.to_json(path, orient="records", lines=True),
    }  # fmt: skip
    kinds[path.suffix]()
    return path


EXACT = [c.name for c in checks("tabular") if c.streams]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".jsonl"])
@pytest.mark.parametrize("labels", ["y", None])
def test_what_is_judged_in_parts_is_what_is_judged_in_one_piece(tmp_path, monkeypatch, suffix, labels):
    monkeypatch.setattr(parts_module, "ROWS", 700)
    path = write(damaged(), tmp_path / f"data{suffix}")
    whole = {f.check: f for f in check(path, labels)}
    stored = {f.check: f for f in check(path, labels, memory=LITTLE)}
    assert stored.keys() == whole.keys()
    assert "kept on disk" in stored["number of items"].message
    assert len(EXACT) >= 15
    for name in EXACT:
        if name != "number of items":
            assert stored[name] == whole[name], name
    sampled = [f for f in stored.values() if f.message.endswith("Judged on a sample of 1,000 of 3,000 rows.")]
    assert {"outlying items", "near duplicates", "redundant columns"} <= {f.check for f in sampled}
    assert not {f.check for f in sampled} & set(EXACT)
    assert sum(f.state == "fail" for f in stored.values()) >= 7


def test_rows_of_a_sample_are_named_by_their_place_in_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(parts_module, "ROWS", 700)
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(6000, 6)), columns=list("abcdef"))
    odd = np.arange(0, 6000, 250)
    frame.loc[odd] = 0.5
    [finding] = check(write(frame, tmp_path / "d.csv"), only=["constant rows"], memory=LITTLE)
    assert finding.state == "fail"
    assert finding.rows
    assert set(finding.rows) <= set(odd.tolist())


def test_the_sample_is_uniform_and_always_the_same(monkeypatch):
    monkeypatch.setattr(spool_module, "SAMPLE_MOST", 1000)
    drawn = []
    for _ in range(2):
        spool = spool_module.Spool(1e9)
        for start in range(0, 20_000, 1000):
            spool.add(pd.DataFrame({"x": np.arange(start, start + 1000.0)}))
        view, rows = spool.view().sampled(1000)
        assert view.columns[0].numbers.tolist() == rows.tolist()
        drawn.append(rows)
    np.testing.assert_array_equal(*drawn)
    assert len(drawn[0]) == 1000
    assert np.bincount(drawn[0] // 1000, minlength=20) == pytest.approx(50, abs=25)


def test_an_iterator_of_parts_is_one_table(monkeypatch):
    frame = damaged(1200)
    whole = {f.check: f for f in check(frame, "y")}
    stored = {f.check: f for f in check((frame.iloc[k : k + 500] for k in range(0, 1200, 500)), "y")}
    for name in EXACT:
        if name != "number of items":
            assert stored[name] == whole[name], name
    arrays = check(np.ones((10, 2)) * np.arange(10)[:, None] for _ in range(4))
    assert arrays.rows == 40
    with pytest.raises(InvalidInput, match="Part 1 of the data is str"):
        check(iter(["a text", "another"]))
    with pytest.raises(UnknownName, match="Did you mean 'city'"):
        check(iter([frame]), "citty")


def test_objects_of_mixed_types_are_told_as_in_one_piece(tmp_path, monkeypatch):
    monkeypatch.setattr(parts_module, "ROWS", 100)
    path = tmp_path / "d.jsonl"
    values = [*range(2_000_000, 2_000_250), *["one", 5, "two", True, None] * 10, *["three"] * 100, *[1.5] * 100]
    path.write_text("\n".join(json.dumps({"v": v, "w": k % 7}) for k, v in enumerate(values)))
    [whole], [stored] = (check(path, only=["mixed types"], memory=memory) for memory in (None, LITTLE))
    assert stored == whole
    assert whole.state == "fail"
    assert whole.count == 130
    for name in ("missing values", "exact duplicates"):
        [whole], [stored] = (check(path, only=[name], memory=memory) for memory in (None, LITTLE))
        assert stored == whole


def test_columns_that_come_late_or_change_their_type_are_read_as_in_one_piece():
    first, second = pd.DataFrame({"x": [1, 2] * 20, "z": [1.5, 2] * 20}), pd.DataFrame({"x": ["u", "2"] * 20, "new": [None, 3.0] * 20})
    stored = {f.check: f for f in check(iter([first, second]))}
    missing = stored["missing values"]
    assert missing.state == "fail"
    assert missing.evidence["new"]["missing"] == 60
    assert missing.evidence["z"]["missing"] == 40
    assert "x" not in missing.evidence


def test_a_column_of_too_many_texts_still_counts_where_rows_are_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_module, "LEVELS_MOST", 50)
    monkeypatch.setattr(parts_module, "ROWS", 100)
    frame = pd.DataFrame({"text": [f"w{k % 240}" for k in range(400)], "x": 1.0, "label": "u"})
    frame.loc[3, "text"] = None
    path = write(frame, tmp_path / "d.csv")
    [whole], [stored] = (check(path, only=["exact duplicates"], memory=memory) for memory in (None, LITTLE))
    assert (stored.state, stored.count, stored.rows) == (whole.state, whole.count, whole.rows)
    assert stored.message.endswith("Of 'text', of too many different texts to be held, only which are equal was judged.")
    [missing] = check(path, only=["missing values"], memory=LITTLE)
    assert missing.evidence["text"]["missing"] == 1


def test_broken_lines_in_parts_are_findings(tmp_path, monkeypatch):
    monkeypatch.setattr(parts_module, "ROWS", 20)
    path = tmp_path / "d.csv"
    path.write_text("a,b\n" + "".join(f"{i},{i % 7}\n" for i in range(50)) + "9,9,9,9\n1,2\n")
    findings = check(path, memory=LITTLE)
    assert findings.rows == 51
    [broken] = check(path, memory=LITTLE, only=["unreadable items"])
    assert (broken.state, broken.count) == ("fail", 1)
    lines = tmp_path / "d.jsonl"
    lines.write_text("\n".join([*(json.dumps({"a": i}) for i in range(50)), "{", json.dumps({"a": 3})]))
    assert check(lines, memory=LITTLE, only=["unreadable items"])[0].count == 1
    ruined = tmp_path / "r.parquet"
    ruined.write_bytes(b"PAR1 no")
    assert check(ruined, memory=LITTLE).of("fail")


@pytest.mark.parametrize("memory", [None, LITTLE])
def test_a_folder_of_parts_is_one_table(tmp_path, memory):
    frame = damaged(900)
    for k in range(3):
        write(frame.iloc[k * 300 : (k + 1) * 300], tmp_path / f"part-{k}.parquet")
    (tmp_path / "_SUCCESS").write_text("")
    findings = check(tmp_path, "y", memory=memory)
    assert findings.rows == 900
    assert not findings.of("error")


def test_arrays_in_a_file_and_lazy_frames_are_read(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(50, 3)))
    assert read(tmp_path / "x.npy").modality == "tabular"
    with pytest.raises(InvalidInput, match="one array without names"):
        read(tmp_path / "x.npy", "y")
    polars = pytest.importorskip("polars")
    lazy = polars.LazyFrame({"a": list(range(40)), "y": ["u", "v"] * 20})
    assert check(lazy, "y").rows == 40
    import pyarrow as pa

    assert check(pa.table({"a": list(range(40)), "y": ["u", "v"] * 20}), "y").rows == 40


class Pairs:
    """What torch calls a map-style dataset."""

    def __init__(self, items, broken=()):
        self.items, self.broken = items, broken

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        if i in self.broken:
            raise OSError("no such file")
        return self.items[i]


def test_torch_datasets_and_loaders_are_read():
    torch = pytest.importorskip("torch")
    from torch.utils.data import DataLoader, TensorDataset

    data = TensorDataset(torch.rand(40, 3), torch.arange(40) % 2)
    for one in (data, DataLoader(data, batch_size=8)):
        found = read(one)
        assert (found.modality, found.inputs.shape, list(found.labels[:3])) == ("tabular", (40, 3), [0, 1, 0])
    pictures = Pairs([(torch.rand(1, 12, 12), k % 3) for k in range(40)], broken={7})
    findings = check(pictures)
    assert (findings.modality, findings.rows) == ("image", 39)
    assert check(pictures, only=["unreadable items"])[0].rows == (7,)
    assert read(Pairs([np.zeros((5 + k, 2)) for k in range(9)])).modality == "series"


def test_ctrl_c_gives_what_was_found_so_far(monkeypatch):
    from dataclasses import replace

    from explainer.checks import catalogue

    def interrupted(context):
        os.kill(os.getpid(), signal.SIGINT)
        while True:  # until the signal comes
            pass

    stops = tuple(replace(c, function=interrupted) if c.name == "mixed types" else c for c in catalogue.CHECKS)
    monkeypatch.setattr(catalogue, "CHECKS", stops)
    findings = check(np.random.default_rng(0).normal(size=(50, 3)))
    assert findings.stopped
    states = {f.check: f.message for f in findings}
    assert states["mixed types"] == states["drift"] == "Not run: stopped before it."
    assert "stopped" not in states["missing values"]
    assert states.keys() == {c.name for c in checks("tabular") if not c.asked}


def test_the_sample_size_counts_every_label_of_a_table_on_disk(tmp_path):
    n = 40_000
    frame = pd.DataFrame({"a": np.arange(n) % 1009 / 7, "b": np.arange(n) % 997 / 3, "y": np.where(np.arange(n) % 400, "often", "rarely")})
    frame.to_csv(tmp_path / "rows.csv", index=False)
    (found,) = check(tmp_path / "rows.csv", "y", only=["sample size"], memory=1e6)
    assert found.state == "pass" and found.evidence["figures"][0]["n"] == n // 400
