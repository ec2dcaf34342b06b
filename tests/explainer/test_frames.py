"""A table that is saved with a result comes back with every type and every cell, or is refused when it is written."""

import json

import numpy as np
import pandas as pd
import pytest

import explainer
from explainer import frames
from explainer.errors import CorruptFile, InvalidInput

MOMENTS = ["2020-01-01T01:02:03", "NaT", "1890-01-01"]
COLUMNS = {
    **{f"date {unit}": np.array(MOMENTS, dtype=f"M8[{unit}]") for unit in ("s", "ms", "us", "ns")},
    **{f"span {unit}": np.array([1, "NaT", -5], dtype=f"m8[{unit}]") for unit in ("s", "ms", "us", "ns")},
    "zone": pd.Series(pd.to_datetime(["2020-01-01", None, "2020-07-01"])).dt.tz_localize("Europe/Zurich"),
    "ordered": pd.Categorical(["b", None, "a"], categories=["c", "b", "a"], ordered=True),
    "whole categories": pd.Categorical([3, 1, 2], categories=[3, 2, 1, 9]),
    "true": [True, False, True],
    "nullable": pd.array([1, None, 2**60 + 1], dtype="Int64"),
    "nullable true": pd.array([True, None, False], dtype="boolean"),
    "nullable float": pd.array([0.1, None, 2], dtype="Float32"),
    "exact": [2**53 + 1, -(2**63), 1],
    "byte": np.array([1, 2, 3], "i1"),
    "half": np.array([0.1, np.nan, 2], "f2"),
    "double": [0.1 + 0.2, np.nan, -0.0],
    "words": ["a", None, "é"],
    "string": pd.array(["a", None, "b"], dtype="string"),
    "object": pd.Series(["a", None, np.nan], dtype=object),
    "true or missing": pd.Series([True, None, False], dtype=object),
    "mixed": pd.Series([1, "1", 1.5], dtype=object),
    "special": pd.Series([pd.NaT, pd.NA, float("nan")], dtype=object),
    "month": pd.period_range("2020", periods=3, freq="M"),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_comes_back_as_it_was(name):
    frame = pd.DataFrame({name: COLUMNS[name]})
    back = frames.unpacked(json.loads(json.dumps(frames.packed(frame))))
    assert back.dtypes.iloc[0] == frame.dtypes.iloc[0]
    pd.testing.assert_frame_equal(back, frame, check_exact=True)
    pd.testing.assert_frame_equal(frames.unpacked(frames.packed(frame[:0])), frame[:0])
    two = pd.concat([frame, frame])
    pd.testing.assert_frame_equal(frames.unpacked(frames.packed(two)), two)
    if frame[name].dtype.kind == "O" and isinstance(frame[name].dtype, np.dtype):
        assert [(type(cell), str(cell)) for cell in back[name]] == [(type(cell), str(cell)) for cell in frame[name]]


def test_names_and_index_come_back():
    frame = pd.DataFrame([[1, 2.5]], columns=["a", 3], index=pd.MultiIndex.from_tuples([("p", 7)], names=["who", None]))
    pd.testing.assert_frame_equal(frames.unpacked(frames.packed(frame)), frame)


@pytest.mark.parametrize("column", [pd.Series([pd.Timestamp("2020-01-01"), "x"], dtype=object), np.array([1j, 2])])
def test_what_has_no_exact_form_is_refused(column):
    with pytest.raises(InvalidInput, match="cannot be written exactly.*type"):
        frames.packed(pd.DataFrame({"c": column}))


def _explained():
    rows = pd.DataFrame({name: COLUMNS[name] for name in ("date s", "span us", "zone", "nullable", "ordered", "object", "double")})
    rows["double"] = [1.0, 2.0, 3.0]
    model = explainer.wrap(lambda table: table["double"].to_numpy(), modality="tabular", task="regression", background=rows)
    return explainer.explain(model, rows, "ablation")


def test_an_explanation_of_dates_and_each_of_its_instances_come_back(tmp_path):
    ex = _explained()
    for one in (ex, ex[1]):
        back = explainer.load(one.save(tmp_path / "ex"))
        pd.testing.assert_frame_equal(back.inputs, one.inputs, check_exact=True)


def test_inputs_that_were_changed_in_the_file_are_named(tmp_path):
    ex = _explained()
    path = ex.save(tmp_path / "ex") / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["inputs"]["frame"] = frames.packed(ex.inputs.assign(double=4.0))
    path.write_text(json.dumps(manifest))
    with pytest.raises(CorruptFile, match="not those that were explained"):
        explainer.load(tmp_path / "ex")
