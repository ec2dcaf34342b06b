"""Reading leniently: every kind of source, what is broken in it set aside, and clear words where the request is not."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from explainer.checks.read import infer, read
from explainer.checks.run import check
from explainer.errors import InvalidInput, UnknownName

RNG = np.random.default_rng(0)


def state(findings, name):
    return next(f for f in findings if f.check == name)


@pytest.mark.parametrize(
    ("data", "modality"),
    [
        (pd.DataFrame({"a": [1]}), "tabular"),
        (np.zeros((4, 3)), "tabular"),
        ([[1, 2], [3, 4]], "tabular"),
        ([{"a": 1}, {"a": 2}], "tabular"),
        (np.zeros((4, 8, 8)), "image"),
        (np.zeros((4, 8, 8, 3)), "image"),
        ([np.zeros((8, 9), np.uint8)], "image"),
        ([Image.new("L", (4, 4)), None], "image"),
        (["one", None, "two"], "text"),
        (pd.Series(["one", "two"]), "text"),
        ([np.zeros((5, 2)), np.zeros((7, 2))], "series"),
        ([np.zeros(5), np.zeros(7)], "series"),
    ],
)
def test_modality_is_told_from_the_data(data, modality):
    assert read(data).modality == modality


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([np.zeros((9, 9)), np.zeros((9, 9))], "modality='image' or modality='series'"),
        ([], "pass modality="),
        ([object(), object()], "pass modality="),
        (np.zeros((2, 2, 2, 2, 2)), "no data this toolkit knows"),
        (12, "Pass a DataFrame"),
        ("no/such/file.csv", "No file or folder"),
    ],
)
def test_what_cannot_be_told_is_an_error_that_names_the_choices(data, said):
    with pytest.raises(InvalidInput) as error:
        check(data)
    assert said in str(error.value)


def test_an_array_that_could_be_one_series_or_many_is_an_error():
    with pytest.raises(InvalidInput, match="could be one series or 5 series"):
        check(np.zeros((5, 30)), modality="series")


def test_unknown_names_get_the_nearest():
    frame = pd.DataFrame({"target": [1, 2]})
    with pytest.raises(UnknownName, match="Did you mean 'target'"):
        check(frame, "targt")
    with pytest.raises(UnknownName, match="Did you mean 'text'"):
        check(frame, modality="txt")
    with pytest.raises(UnknownName, match="Did you mean 'drift'"):
        check(frame, only=["drit"])


@pytest.mark.parametrize("labels", [[1, 2], list(range(9)), 3, "x", np.zeros((5, 2))])
def test_labels_that_do_not_fit_the_data_are_an_error(labels):
    with pytest.raises((InvalidInput, UnknownName)):
        check(np.zeros((5, 3)), labels)


def test_reference_labels_without_a_reference_are_an_error():
    with pytest.raises(InvalidInput, match="without a reference"):
        check(np.zeros((5, 3)), reference_labels=[1] * 5)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "jsonl"])
def test_tables_are_read_from_files_with_their_label_column(tmp_path, suffix):
    frame = pd.DataFrame({"a": np.arange(40) % 7, "b": RNG.normal(size=40), "y": ["u", "v"] * 20})
    path = tmp_path / f"data.{suffix}"
    {
        "csv": lambda: frame.to_csv(path, index=False),
        "tsv": lambda: frame.to_csv(path, index=False, sep="\t"),
        "parquet": lambda: frame.to_parquet(path),
        "jsonl": lambda: frame.to_json(path, orient="records", lines=True),
    }[suffix]()
    data = read(path, "y")
    assert (data.modality, data.label_name, list(data.inputs.columns)) == ("tabular", "y", ["a", "b"])
    assert list(data.labels) == ["u", "v"] * 20
    findings = check(str(path), "y")
    assert findings.rows == 40
    assert state(findings, "missing labels").state == "pass"


def test_broken_lines_of_a_csv_are_findings_and_the_rest_is_checked(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("a,b,y\n" + "".join(f"{i},{i % 5},u\n" for i in range(50)) + "9,9,9,9,9\n1,2,v\n")
    findings = check(path, "y")
    assert findings.rows == 51
    assert state(findings, "unreadable items").state == "fail"
    assert state(findings, "unreadable items").count == 1
    assert not findings.of("error")


@pytest.mark.parametrize("name", ["data.csv", "data.parquet", "data.npz", "data.jsonl", "data.tsv"])
@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe\x01" * 50, b"PK\x03\x04broken"])
def test_a_ruined_file_is_a_finding_not_a_crash(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    findings = check(path)
    assert not findings.ok
    assert not findings.of("error")


def test_broken_lines_of_jsonl_are_findings_and_rows_keep_their_line(tmp_path):
    path = tmp_path / "texts.jsonl"
    lines = [
        json.dumps({"text": f"a text about item {i} and its {['price', 'size', 'colour', 'weight'][i % 4]}", "y": i % 2}) for i in range(40)
    ]
    lines[3] = "{broken"
    lines[10] = json.dumps({"text": "", "y": 0})
    path.write_text("\n".join(lines))
    findings = check(path, "y")
    assert findings.modality == "text"
    assert findings.rows == 39
    assert state(findings, "unreadable items").evidence["items"][0]["name"] == "line 4"
    assert state(findings, "empty texts").rows == (10,)


def test_a_text_column_of_a_csv_is_read_when_texts_are_asked_for(tmp_path):
    path = tmp_path / "texts.csv"
    pd.DataFrame({"narrative": ["some words here", "other words there"] * 20, "y": [0, 1] * 20}).to_csv(path, index=False)
    findings = check(path, "y", modality="text")
    assert findings.modality == "text"
    assert state(findings, "exact duplicates").count == 38


def test_npz_is_read_by_its_usual_names(tmp_path):
    np.savez(tmp_path / "a.npz", images=RNG.random((40, 8, 8)), labels=np.arange(40)[:, None] % 2)
    data = read(tmp_path / "a.npz")
    assert (data.modality, data.label_name, len(data.labels)) == ("image", "labels", 40)
    np.savez(tmp_path / "b.npz", first=np.zeros((4, 2)), second=np.zeros((4, 2)))
    with pytest.raises(InvalidInput, match="first, second"):
        read(tmp_path / "b.npz")


def test_npz_holding_objects_is_never_unpickled(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([{"a": 1}, None], dtype=object))
    findings = check(tmp_path / "a.npz")
    assert state(findings, "unreadable items").state == "fail"


def folder_of_images(path, n=40):
    for i in range(n):
        kind = path / ("cat" if i % 2 else "dog")
        kind.mkdir(exist_ok=True, parents=True)
        Image.fromarray((RNG.random((12, 12)) * 255).astype(np.uint8)).save(kind / f"{i:02d}.png")
    return path


def test_a_folder_of_images_gives_labels_and_unreadable_files_as_findings(tmp_path):
    folder_of_images(tmp_path)
    whole = (tmp_path / "cat" / "01.png").read_bytes()
    (tmp_path / "cat" / "01.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "dog" / "00.png").write_bytes(b"not a picture")
    (tmp_path / "dog" / "notes.txt").write_text("not an image at all")
    Image.new("L", (12, 12), 90).save(tmp_path / "dog" / "99.png")
    findings = check(tmp_path)
    assert findings.rows == 39
    broken = state(findings, "unreadable items")
    assert (broken.state, broken.count) == ("fail", 2)
    assert {item["name"] for item in broken.evidence["items"]} == {"cat/01.png", "dog/00.png"}
    assert set(broken.files) == {"cat/01.png", "dog/00.png"}
    assert state(findings, "blank images").files == ("dog/99.png",)
    assert state(findings, "class balance").evidence["classes"] == {"dog": 20, "cat": 19}
    assert str(tmp_path) not in findings.to_json()


def test_the_order_of_files_read_folder_by_folder_is_not_judged(tmp_path):
    folder_of_images(tmp_path / "nested", 60)
    files = read(tmp_path / "nested").files
    assert list(files) == sorted(files)  # all cats, then all dogs
    finding = check(tmp_path / "nested", only=["order of rows"])[0]
    assert finding.state == "not run"
    assert "folder by folder" in finding.message
    (tmp_path / "flat").mkdir()
    for i, name in enumerate(files):
        shutil.copy(tmp_path / "nested" / name, tmp_path / "flat" / f"{i:02d}.png")
    finding = check(tmp_path / "flat", [name.split("/")[0] for name in files], only=["order of rows"])[0]
    assert finding.state == "fail"
    assert "the label comes in runs" in finding.message


def test_labels_of_a_folder_may_be_given_for_all_files_or_the_readable_ones(tmp_path):
    folder_of_images(tmp_path)
    (tmp_path / "dog" / "00.png").write_bytes(b"not a picture")
    files = read(tmp_path).files
    labels = np.array([f"label {i % 3}" for i in range(len(files))])
    given = state(check(tmp_path, labels), "class balance").evidence["classes"]
    readable = labels[[f != "dog/00.png" for f in files]]
    kept = state(check(tmp_path, readable), "class balance").evidence["classes"]
    assert given == kept
    assert sum(kept.values()) == 39


def test_sixteen_bit_and_colour_pictures_are_read(tmp_path):
    Image.fromarray((RNG.random((9, 9)) * 65535).astype(np.uint16)).save(tmp_path / "a.png")
    Image.new("RGBA", (9, 9), (9, 99, 200, 128)).save(tmp_path / "b.png")
    Image.new("P", (9, 9)).save(tmp_path / "c.png")
    Image.new("CMYK", (9, 9)).save(tmp_path / "d.jpg")
    data = read(tmp_path)
    assert len(data.inputs) == 4
    assert data.inputs[0].std() > 40
    assert not data.unreadable


def test_polars_frames_are_tables():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"a": list(range(40)), "c": ["x", None] * 20, "y": [0, 1] * 20})
    findings = check(frame, "y")
    assert not findings.of("error")
    assert state(findings, "missing values").columns == ("c",)
    assert state(check(frame.lazy(), "y"), "missing values").columns == ("c",)


def test_a_split_of_a_specimen_is_data_with_labels():
    class Split:
        inputs = pd.DataFrame({"a": RNG.normal(size=50)})
        labels = np.arange(50) % 2

    assert state(check(Split()), "missing labels").state == "pass"


def test_inference_needs_no_more_than_a_look():
    assert infer(np.zeros((2, 3))) == "tabular"


def test_a_specimen_is_read_by_its_name():
    found = read("zoo:loan-mlp")
    assert found.modality == "tabular"
    assert len(found.inputs) == len(found.labels) > 400
    assert set(found.labels) == {"refused", "approved"}
    with pytest.raises(UnknownName, match="Valid: zoo"):
        read("zo:loan-mlp")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_dates_are_the_same_whatever_unit_they_are_kept_in(unit):
    days = pd.Series(pd.to_datetime(["2020-03-01"] * 40)).astype(f"datetime64[{unit}]")
    finding = state(check(pd.DataFrame({"day": days, "x": np.arange(40.0)}), only=["constant columns"]), "constant columns")
    assert "2020-03-01" in finding.message


def test_a_table_of_objects_is_a_table():
    assert read(np.array([[1, "a"], [None, 2.0]], dtype=object)).modality == "tabular"


@pytest.mark.parametrize("memory", [None, 10.0])
@pytest.mark.parametrize("ending", ["", ",x", ","])
def test_lines_longer_than_the_header_shift_no_column(tmp_path, ending, memory):
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n" + "".join(f"{i},{'uvw'[i % 3]}{ending}\n" for i in range(60)))
    frame = read(path).inputs
    assert frame["a"].tolist() == list(range(60)) and set(frame["b"]) == set("uvw")
    found = state(check(path, memory=memory), "unreadable items")
    assert found.state == ("fail" if ending else "pass")
    assert not ending or "its lines have 3 fields, its header 2" in found.message


def test_one_line_that_is_no_object_does_not_change_what_the_data_are(tmp_path):
    path = tmp_path / "texts.jsonl"
    lines = [json.dumps({"text": f"a line about number {i}", "label": "ab"[i % 2]}) for i in range(40)]
    path.write_text("\n".join([*lines[:7], "[1, 2]", *lines[7:]]))
    findings = check(path, "label")
    assert findings.modality == "text" and findings.rows == 40
    found = state(findings, "unreadable items")
    assert found.state == "fail" and found.rows == (7,) and "line 8 (no object" in found.message
    in_parts = check(path, "label", memory=10.0)
    assert in_parts.rows == 40 and "line 8 (no object" in state(in_parts, "unreadable items").message


def damaged_npz(path, name):
    """An npz file, one byte of the array ``name`` changed."""
    images = RNG.integers(0, 255, (40, 8, 8)).astype(np.uint8)
    arrays = {"images": images, "labels": np.arange(40) % 2}
    np.savez(path, **arrays)
    content = bytearray(path.read_bytes())
    at = content.index(arrays[name].tobytes()) + 5
    content[at] ^= 255
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("labels", [None, "labels"])
@pytest.mark.parametrize("name", ["images", "labels"])
def test_an_array_that_is_broken_is_a_finding(tmp_path, name, labels):
    findings = check(damaged_npz(tmp_path / "a.npz", name), labels)
    found = state(findings, "unreadable items")
    assert found.state == "fail" and f"a.npz:{name}" in found.message
    assert findings.rows == (40 if name == "labels" else 0)


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.npz"])
def test_labels_of_a_file_that_cannot_be_read_are_no_misuse(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    assert state(check(tmp_path / name, "outcome"), "unreadable items").state == "fail"


def test_an_array_called_series_is_series(tmp_path):
    np.savez(tmp_path / "a.npz", series=RNG.normal(size=(40, 50, 3)))
    assert read(tmp_path / "a.npz").modality == "series"


def test_what_cannot_be_read_of_the_reference_is_told(tmp_path):
    frame = pd.DataFrame({"a": np.arange(60.0), "b": RNG.normal(size=60), "y": ["u", "v"] * 30})
    (tmp_path / "ref.parquet").write_bytes(b"PAR1")
    findings = check(frame, "y", reference=tmp_path / "ref.parquet")
    assert "reference set: ref.parquet" in state(findings, "unreadable items").message
    assert {state(findings, name).state for name in ("overlap, exact", "schema", "drift", "rules")} == {"not run"}
    frame.drop(columns="y").to_csv(tmp_path / "ref.csv", index=False)  # a reference set without labels is one
    findings = check(frame, "y", reference=str(tmp_path / "ref.csv"))
    assert state(findings, "overlap, exact").state == "fail" and state(findings, "label drift").state == "not run"
    findings = check(frame, reference=frame.iloc[:0])
    assert {state(findings, name).state for name in ("overlap, exact", "schema", "rules")} == {"not run"}


def test_a_column_read_as_words_does_not_hide_an_overlap():
    frame = pd.DataFrame({"a": np.arange(60) // 4 / 2, "b": RNG.normal(size=60), "c": RNG.normal(size=60)})
    other = frame.astype({"a": str})
    other.loc[0, "a"] = "unknown"
    assert state(check(frame, reference=other), "overlap, exact").count >= 59


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"", "nothing is in it"),
        ("a.parquet", b"PAR1 and no more", "no parquet file, or a damaged one"),
        ("a.npz", b"no zip", "no npz archive, or a damaged one"),
        (
            "a.jsonl",
            b'{"a": 1}\n{"a": 2, b}\n',
            "line 2 (no valid JSON: Expecting property name enclosed",
        ),
        ("pictures/a.png", b"no picture", "no picture, or of a kind that cannot be read"),
    ],
)
def test_what_could_not_be_read_is_said_in_plain_words(tmp_path, name, content, said):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    findings = check(path.parent if path.suffix == ".png" else path)
    assert said in state(findings, "unreadable items").message
