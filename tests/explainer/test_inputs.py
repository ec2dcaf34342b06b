import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from PIL import Image

from explainer.errors import InvalidInput, UnknownName
from explainer.inputs import _as_written, canonical, sha256, take


def test_tables_in_every_form_become_the_same_frame():
    rows = [[1.0, 2.0], [3.0, 4.0]]
    forms = [pd.DataFrame(rows, columns=["a", "b"]), np.array(rows), pl.DataFrame(rows, schema=["a", "b"], orient="row"),
             [{"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 4.0}], pd.DataFrame(rows, columns=["a", "b"])[["b", "a"]]]  # fmt: skip
    digests = {sha256(canonical(form, "tabular", ("a", "b"))) for form in forms}
    assert len(digests) == 1


def test_a_table_read_back_is_the_same_table_and_any_change_another(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({
        "small": rng.normal(size=50).astype(np.float32), "wide": 1e9 * rng.normal(size=50),
        "whole": rng.integers(0, 9, 50).astype(np.int16),
        "flag": rng.random(50) < 0.5, "word": rng.choice(["a", "b,c", 'd"'], 50), "missing": np.where(rng.random(50) < 0.3, np.nan, 0.1),
    })  # fmt: skip
    frame.to_csv(tmp_path / "table.csv", index=False)
    back = pd.read_csv(tmp_path / "table.csv", float_precision="round_trip")
    assert sha256(back) == sha256(frame) == sha256(frame.astype({"whole": float}))
    for column, value in (("small", 0.5), ("wide", frame["wide"][3] * (1 + 1e-15)), ("whole", 10), ("word", "e"), ("missing", 0.2)):
        assert sha256(frame.assign(**{column: [value, *frame[column][1:]]}).astype({"small": np.float32})) != sha256(frame)
    assert sha256(frame.rename(columns={"whole": "hole"})) != sha256(frame) != sha256(frame[::-1])
    assert sha256(pd.DataFrame({"n": [2**60, 1]})) != sha256(pd.DataFrame({"n": [2**60 + 1, 1]}))


def test_numbers_of_single_precision_count_by_the_shortest_decimal_they_are_written_as():
    rng = np.random.default_rng(0)
    every = rng.integers(0, 2**32, 100_000, dtype=np.uint32).view(np.float32)
    halves = rng.integers(0, 2**12, 20_000) / 2.0 ** rng.integers(0, 24, 20_000)  # some lie half way between two decimals
    short = rng.integers(0, 10**7, 20_000) / 10.0 ** rng.integers(0, 8, 20_000)
    edges = [0.0, -0.0, 1e-45, 3.4e38, 2**24 - 1, 2**24, 0.1, 1e-10, 9.9999999]
    numbers = np.concatenate([every[np.isfinite(every)], rng.normal(size=100_000), -halves, short, edges]).astype(np.float32)
    found = _as_written(numbers[:, None])[:, 0]
    np.testing.assert_array_equal(found, [float(str(one)) for one in numbers])
    assert (np.signbit(found) == np.signbit(numbers)).all()


@pytest.mark.parametrize(
    ("inputs", "modality", "names", "words"),
    [
        (None, "tabular", (), "None"),
        (pd.DataFrame({"a": []}), "tabular", ("a",), "0 rows"),
        (pd.DataFrame({"b": [1.0]}), "tabular", ("a",), "lacks 1 of the model's 1 columns: a"),
        (pd.DataFrame({"a": [1.0, np.inf]}), "tabular", ("a",), "Row 1, column 'a' is infinite"),
        (np.zeros((2, 3)), "tabular", ("a", "b"), r"\(2, 3\)"),
        (np.zeros((2, 3, 8, 8)), "image", (), "np.moveaxis"),
        (np.full((1, 4, 4), np.nan), "image", (), "16 NaN"),
        ([np.zeros((4, 4)), np.zeros((5, 4))], "image", (), "differ in shape"),
        (["fine", "  "], "text", (), "Text 1 is empty"),
        (["fine", 3], "text", (), "Text 1 is int"),
        ([np.zeros((0, 2))], "series", ("x", "y"), "at least one step"),
        ([np.zeros((5, 3))], "series", ("x", "y"), "2 channels"),
        ([[["a", "b"]]], "series", ("x", "y"), "not made of numbers"),
        (pd.DataFrame([[1, 2, 3]], columns=["a", "b", "a"]), "tabular", (), "several columns of one name: a"),
        (pd.DataFrame([[1, 2]], columns=[0, "0"]), "tabular", (), "several columns of one name: 0"),
        (np.zeros((28, 28, 1)), "image", (), r"one picture of 28 x 28 with 1 channels, or 28 pictures of 28 x 1"),
        (np.zeros((32, 32, 3), dtype=np.uint8), "image", (), r"images\[None\]"),
        (torch.zeros((2, 3, 32, 32)), "image", (), r"permute\(0, 2, 3, 1\) of a tensor"),
        (np.zeros((2, 9, 9), dtype=np.int64), "image", (), r"int64 do not say their range.*astype\('uint8'\)"),
        ([np.zeros((9, 9), dtype=np.uint8), np.full((9, 9), 7)], "image", (), "int64 do not say"),
        ([Image.new("I", (9, 9))], "image", (), "mode I .* does not say its range"),
        (pd.DataFrame({"id": ["1"], "review": ["good"]}), "text", (), "2 columns came .*review"),
        ({"review": ["good"]}, "text", (), "dict with 1 columns"),
        (pd.DataFrame({"x": [1.0], "z": [1.0], "q": [0.0]}), "series", ("x", "y"), "2 channels"),
    ],
)
def test_bad_input_says_what_came(inputs, modality, names, words):
    with pytest.raises(InvalidInput, match=words):
        canonical(inputs, modality, names)


def test_unknown_modality_gets_the_nearest():
    with pytest.raises(UnknownName, match="Did you mean 'tabular'"):
        canonical([1], "tabluar")


def test_pictures_and_bytes_come_to_unit_range():
    grey = Image.fromarray(np.full((4, 4), 255, dtype=np.uint8))
    assert canonical([grey], "image").max() == 1.0
    assert canonical(np.full((1, 4, 4), 51, dtype=np.uint8), "image")[0, 0, 0] == np.float32(0.2)


def test_pictures_of_more_than_eight_bits_keep_their_values():
    deep = np.random.default_rng(0).integers(0, 65536, (9, 9)).astype(np.uint16)
    shares = (deep / 65535).astype(np.float32)
    for given in (deep[None], [deep], [Image.fromarray(deep)], [Image.fromarray(shares)]):
        np.testing.assert_allclose(canonical(given, "image")[0], deep / 65535, atol=1e-7)
    np.testing.assert_array_equal(canonical([Image.fromarray(100 * shares)], "image")[0], 100 * shares)  # floats are not scaled


def test_each_picture_of_a_list_is_scaled_by_its_own_kind():
    as_bytes, as_share = np.full((9, 9), 51, dtype=np.uint8), np.full((9, 9), 0.2)
    np.testing.assert_allclose(canonical([as_bytes, as_share], "image"), 0.2, atol=1e-7)


def test_what_a_model_has_seen_tells_one_picture_from_many():
    one, many = np.zeros((1, 28, 28, 1)), np.zeros((1, 28, 1))
    assert canonical(np.zeros((28, 28, 1)), "image", like=one).shape == (1, 28, 28, 1)
    assert canonical(np.zeros((28, 28, 1)), "image", like=many).shape == (28, 28, 1)
    assert canonical(np.zeros((5, 4, 4)), "image").shape == (5, 4, 4)  # too small for one picture with channels


def test_labels_of_columns_are_matched_as_text():
    given = pd.DataFrame([[1.0, 2.0]])
    assert canonical(given, "tabular", ("1", "0")).to_dict("list") == {"1": [2.0], "0": [1.0]}


def test_tensors_lazy_tables_and_sparse_matrices_are_read():
    from scipy import sparse

    rows = np.array([[1.0, 0.0], [0.0, 2.0]])
    lazy = pl.from_numpy(rows, schema=["a", "b"]).lazy()
    part_of_a_graph = torch.tensor(rows, requires_grad=True) * 1
    for given in (lazy, sparse.csr_matrix(rows), sparse.coo_array(rows), part_of_a_graph, part_of_a_graph.bfloat16()):
        np.testing.assert_array_equal(canonical(given, "tabular", ("a", "b")).to_numpy(), rows)
    series = [torch.ones((3, 2), requires_grad=True), torch.ones((1, 2))]
    assert [len(one) for one in canonical(series, "series")] == [3, 1]
    assert canonical(torch.full((1, 9, 9), 51, dtype=torch.uint8), "image")[0, 0, 0] == np.float32(0.2)


def test_a_frame_is_one_series_with_its_channels_by_name():
    found = canonical(pd.DataFrame({"y": [1.0, 2.0], "x": [3.0, 4.0]}), "series", ("x", "y"))
    np.testing.assert_array_equal(found, [[[3, 1], [4, 2]]])


def test_a_column_of_texts_is_read_whatever_holds_it():

    for given in (pd.DataFrame({"review": ["good", "bad"]}), pl.DataFrame({"review": ["good", "bad"]}), pd.Series(["good", "bad"])):
        assert canonical(given, "text") == ["good", "bad"]


def test_categories_are_those_known_and_after_them_those_that_are_new():
    known = pd.DataFrame({"c": pd.Categorical(["u", "v"], categories=["v", "w", "u"])})
    for cells in (pd.Categorical(["u"]), pd.Series(["u"]), pd.Series(["u"], dtype=object)):
        assert canonical(pd.DataFrame({"c": cells}), "tabular", like=known)["c"].dtype == known["c"].dtype
    strange = canonical(pd.DataFrame({"c": ["x", "u", None]}), "tabular", like=known)["c"]
    assert list(strange.cat.categories) == ["v", "w", "u", "x"]
    assert strange.tolist()[:2] == ["x", "u"]
    assert strange.isna().tolist() == [False, False, True]


def test_inputs_are_not_changed():
    given = np.full((2, 3, 3), 0.5)
    canonical(given, "image")[:] = 9
    assert (given == 0.5).all()


def test_take_keeps_the_form():
    assert take(["a", "b", "c"], np.array([True, False, True])) == ["a", "c"]
    assert take(["a", "b", "c"], [2, 0]) == ["c", "a"]
    assert take(pd.DataFrame({"a": [1, 2]}), slice(1, 2))["a"].tolist() == [2]
