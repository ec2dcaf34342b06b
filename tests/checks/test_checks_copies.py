"""A cleaned copy of each kind of file: what was damaged is mended, all else stands as it was written, the source is untouched."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import explainer
from explainer.checks.copies import log_path, strip_location, write_copy
from explainer.checks.read import read
from explainer.errors import InvalidInput, Unsupported

spec = importlib.util.spec_from_file_location("checks_clean_data", Path(__file__).parent / "conftest.py")
clean = importlib.util.module_from_spec(spec)
spec.loader.exec_module(clean)


def digest(path):
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return hashlib.sha256(b"".join(f.name.encode() + f.read_bytes() for f in files)).hexdigest()


def cleaned(source, out, labels=None, modality=None, **more):
    """Check, fix and copy; the source stays as it was."""
    before = digest(source)
    found = read(source, labels, modality=modality)
    findings = explainer.check(found, **more)
    fixed = explainer.fix(found, findings)
    log = write_copy(fixed, found, source, out)
    assert digest(source) == before
    assert log == log_path(out) and len(pd.read_csv(log)) == len(fixed.log)
    return fixed, explainer.check(read(out, labels, modality=modality), **more)


def damaged_table():
    frame = clean.table(200)
    frame["code"] = [f"{i % 7:03d}" for i in range(200)]
    frame["income"] = frame["income"].round(2)
    frame.loc[[3, 9], "age"] = 9999
    frame.loc[5, "n2"] = np.inf
    frame.loc[7, "city"] = "roma "
    frame["country"] = "DE"
    frame["outcome"] = np.where(frame["n0"] > 0, "yes", "no")
    frame.loc[11, "outcome"] = None
    frame.loc[12, "outcome"] = "Yes "
    return pd.concat([frame, frame.iloc[[20]]], ignore_index=True)


MENDED = ("placeholder values", "infinite values", "spelling of categories", "constant columns", "missing labels", "class names",
          "exact duplicates", "unreadable items")  # fmt: skip


def holds(after, names=MENDED):
    states = {f.check: f.state for f in after}
    assert {states[n] for n in names if n in states} == {"pass"}, {n: states[n] for n in names if n in states}


def test_csv_keeps_every_cell_it_does_not_change_as_it_was_written(tmp_path):
    source, out = tmp_path / "a.csv", tmp_path / "clean" / "b.csv"
    damaged_table().to_csv(source, index=False)
    with source.open("a") as handle:
        handle.write("1,2,3,too,many,fields,for,this,table,x,x,x,x,x,x,x,x,x\n")
    fixed, after = cleaned(source, out, "outcome")
    holds(after)
    before, made = (pd.read_csv(p, dtype=str, keep_default_na=False, on_bad_lines="skip") for p in (source, out))
    assert list(made.columns) == [c for c in before.columns if c != "country"] and len(made) == len(fixed.kept) == 199
    changed = {(c.row, c.column or "outcome") for c in fixed.log if c.action in ("cell", "label")}
    assert changed == {(3, "age"), (9, "age"), (5, "n2"), (7, "city"), (12, "outcome")}
    rows = fixed.kept.tolist()
    for k, row in enumerate(rows):
        for column in made.columns:
            if (row, column) not in changed:
                assert made[column].iloc[k] == before[column].iloc[row]
    assert made["age"].iloc[rows.index(3)] == "" and made["city"].iloc[rows.index(7)] == "Roma" and "007" not in made["code"]
    unread = [c for c in fixed.log if c.check == "unreadable items"]
    assert len(unread) == 1 and unread[0].before.startswith("a line beginning")


def test_tsv_stays_tsv(tmp_path):
    damaged_table().to_csv(tmp_path / "a.tsv", index=False, sep="\t")
    _, after = cleaned(tmp_path / "a.tsv", tmp_path / "b.tsv", "outcome")
    holds(after)


def test_parquet_keeps_its_types(tmp_path):
    damaged_table().assign(when=pd.Timestamp("2026-01-01")).to_parquet(tmp_path / "a.parquet", index=False)
    fixed, after = cleaned(tmp_path / "a.parquet", tmp_path / "b.parquet", "outcome")
    holds(after)
    before, made = (pd.read_parquet(tmp_path / f"{n}.parquet") for n in "ab")
    pd.testing.assert_frame_equal(made[["n0", "flag", "income"]], before[["n0", "flag", "income"]].iloc[fixed.kept].reset_index(drop=True))


def test_jsonl_keeps_the_lines_it_does_not_change(tmp_path):
    source, out = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    records = damaged_table().drop(columns="country").to_dict("records")
    lines = [json.dumps(r, allow_nan=True) for r in records]
    lines.insert(2, "{broken")
    source.write_text("\n".join(lines) + "\n")
    fixed, after = cleaned(source, out, "outcome")
    holds(after)
    changed = {c.row for c in fixed.log if c.action in ("cell", "label")}
    made = out.read_text().splitlines()
    assert len(made) == len(fixed.kept)
    assert all(made[k] == lines[row] for k, row in enumerate(fixed.kept) if row not in changed)
    assert 2 not in fixed.kept


def test_texts_of_a_jsonl_are_mended_whole(tmp_path):
    source, out = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    texts = clean.texts(60, length=(60, 80))
    records = [{"text": t, "label": i % 2} for i, t in enumerate(texts)]
    records[4]["text"] += " cafÃ©"
    records[5]["text"] = "  "
    source.write_text("".join(json.dumps(r) + "\n" for r in [*records, records[0]]))
    fixed, after = cleaned(source, out, "label", modality="text")
    holds(after, ("damaged characters", "empty texts", "exact duplicates"))
    made = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(made) == 59 and made[4] == {"text": texts[4] + " café", "label": 0}  # longer than the log repeats
    assert fixed.log and made[0] == records[0]


def test_npz_loses_the_same_items_in_every_array(tmp_path):
    x = np.concatenate([clean.images(), clean.images()[:2]])
    y = np.array([0, 1] * 76)
    x[9] = 0.5
    np.savez(tmp_path / "a.npz", images=x, labels=y, weight=np.arange(152), note=np.array("made in May"))
    fixed, after = cleaned(tmp_path / "a.npz", tmp_path / "b.npz", only=["blank images", "exact duplicates"])
    holds(after, ("blank images", "exact duplicates"))
    with np.load(tmp_path / "b.npz") as made:
        assert made["images"].shape == (149, 28, 28) and made["images"].dtype == x.dtype
        assert made["weight"].tolist() == fixed.kept.tolist() and made["labels"].tolist() == y[fixed.kept].tolist()
        assert str(made["note"]) == "made in May"


def test_a_table_in_an_npz_gets_its_missing_values(tmp_path):
    x = np.random.default_rng(0).normal(size=(80, 4))
    x[3, 1] = np.inf
    np.savez(tmp_path / "a.npz", x=x)
    _, after = cleaned(tmp_path / "a.npz", tmp_path / "b.npz", only=["infinite values"])
    holds(after)
    with np.load(tmp_path / "b.npz") as made:
        assert np.isnan(made["x"][3, 1]) and made["x"].shape == (80, 4)


def folder(path):
    for k, image in enumerate((clean.images(40) * 255).astype(np.uint8)):
        place = path / ("cat" if k % 2 else "dog")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{k:02d}.png")
    Image.fromarray(np.full((28, 28), 90, np.uint8)).save(path / "dog" / "98.png")
    (path / "cat" / "99.png").write_bytes(b"no picture")
    (path / "Cat").mkdir()
    Image.open(path / "cat" / "01.png").rotate(90).save(path / "Cat" / "01.png")


def test_a_folder_is_copied_without_what_was_dropped(tmp_path):
    source, out = tmp_path / "pictures", tmp_path / "clean"
    folder(source)
    fixed, after = cleaned(source, out)
    holds(after, ("unreadable items", "blank images", "class names"))
    names = {p.relative_to(out).as_posix() for p in out.rglob("*.png")}
    assert len(names) == 41 and "dog/98.png" not in names and "cat/99.png" not in names
    assert not (out / "Cat").exists() and any(n.startswith("cat/01-") for n in names)  # two folders became one
    assert (out / "dog" / "00.png").read_bytes() == (source / "dog" / "00.png").read_bytes()
    assert {c.check for c in fixed.log} == {"unreadable items", "blank images", "class names"}


def test_a_copy_of_a_folder_names_no_place(tmp_path):
    source, out = tmp_path / "pictures", tmp_path / "clean"
    source.mkdir()
    for k, image in enumerate((clean.images(40) * 255).astype(np.uint8)):
        exif = Image.Exif()
        exif[0x010F] = "Maker"
        if k in (3, 7):
            exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 18.0)})
        Image.fromarray(image).save(source / f"{k:02d}.jpg", exif=exif)
    fixed, after = cleaned(source, out, only=["location in metadata"])
    holds(after, ("location in metadata",))
    assert [(c.row, c.action) for c in fixed.log] == [(3, "file stripped"), (7, "file stripped")]
    assert Image.open(out / "03.jpg").getexif()[0x010F] == "Maker"
    assert (out / "04.jpg").read_bytes() == (source / "04.jpg").read_bytes()


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_the_place_goes_and_the_rest_of_the_metadata_stays(tmp_path, suffix):
    pixels = (clean.images(1)[0] * 255).astype(np.uint8)
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 18.0)})
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(pixels).convert("RGB").save(path, exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    seen = np.asarray(Image.open(path)).astype(int)
    assert 0x8825 in Image.open(path).getexif()
    strip_location(path)
    left = Image.open(path).getexif()
    assert 0x8825 not in left and left[0x010F] == "Maker"
    assert np.abs(np.asarray(Image.open(path)).astype(int) - seen).max() <= 3


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("a.csv", "original"),
        ("./a.csv", "original"),
        ("a.csv/b.csv", "original"),
        ("there.csv", "is there already"),
        ("b.parquet", "its own"),
    ],
)
def test_a_place_that_is_not_free_or_not_apart_is_refused(tmp_path, monkeypatch, out, message):
    monkeypatch.chdir(tmp_path)
    clean.table(40).assign(country="DE").to_csv("a.csv", index=False)
    Path("there.csv").write_text("mine")
    found = read(Path("a.csv"))
    fixed = explainer.fix(found, explainer.check(found, only=["constant columns"]))
    before = digest(Path("a.csv"))
    with pytest.raises(InvalidInput, match=message):
        write_copy(fixed, found, Path("a.csv"), Path(out))
    assert digest(Path("a.csv")) == before and Path("there.csv").read_text() == "mine"


@pytest.mark.parametrize("out", ["pictures", "pictures/clean", ".", "b.csv"])
def test_a_folder_is_not_copied_into_or_over_itself(tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    folder(Path("pictures"))
    found = read(Path("pictures"))
    fixed = explainer.fix(found, explainer.check(found, only=["blank images"]))
    with pytest.raises(InvalidInput):
        write_copy(fixed, found, Path("pictures"), Path(out))


def test_nothing_half_written_is_left(tmp_path, monkeypatch):
    source = tmp_path / "pictures"
    folder(source)
    found = read(source)
    fixed = explainer.fix(found, explainer.check(found, only=["blank images"]))
    copied = []

    def fail(a, b):
        copied.append(a)
        if len(copied) > 3:
            raise OSError("disk full")
        Path(b).write_bytes(Path(a).read_bytes())

    monkeypatch.setattr("explainer.checks.copies.shutil.copy2", fail)
    with pytest.raises(OSError, match="disk full"):
        write_copy(fixed, found, source, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not log_path(tmp_path / "out").exists()


def test_an_npz_is_never_made_to_hold_objects(tmp_path):
    x, y = clean.images(40), np.array(["a", "b"] * 20)
    x[3] = 0.5
    np.savez(tmp_path / "a.npz", x=x, y=y)
    found = read(tmp_path / "a.npz")
    fixed = explainer.fix(found, explainer.check(found, only=["blank images"]))
    object.__setattr__(fixed, "labels", np.array([None] * 39, dtype=object))
    with pytest.raises(Unsupported, match="objects"):
        write_copy(fixed, found, tmp_path / "a.npz", tmp_path / "b.npz")
    assert not (tmp_path / "b.npz").exists()
