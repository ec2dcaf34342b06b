"""Reading leniently: every kind of source, what is broken in it set aside, and clear words where the request is not."""

from __future__ import annotations

import json

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
        kind.mkdir(exist_ok=True)
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
