from __future__ import annotations

import base64
import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dashboard import edits
from explainer.errors import InvalidInput


@pytest.fixture(scope="module")
def by_kind(specimens: list[SimpleNamespace]) -> dict[str, SimpleNamespace]:
    return {s.model.modality: s for s in specimens}


def _apply(specimen: SimpleNamespace, edit: Any, row: int = 1) -> Any:
    from explainer.inputs import take

    return edits.apply(edit, take(specimen.model.canonical(specimen.data.test.inputs), [row]), specimen.model)


def _picture(size: tuple[int, int], mode: str = "L", colour: Any = 0, form: str = "PNG") -> str:
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, form)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _csv(text: str) -> str:
    return "data:text/csv;base64," + base64.b64encode(text.encode()).decode()


def test_columns_change_and_the_row_given_does_not(by_kind: dict[str, SimpleNamespace]) -> None:
    specimen = by_kind["tabular"]
    before = specimen.data.test.inputs.copy()
    changed = _apply(specimen, {"values": {"income": "70.5", "home": "own", "years": 3}})
    assert changed["income"].iloc[0] == 70.5 and changed["home"].iloc[0] == "own" and changed["years"].iloc[0] == 3
    assert changed["debt"].iloc[0] == before["debt"].iloc[1]
    assert specimen.data.test.inputs.equals(before)


def test_an_emptied_column_is_missing(by_kind: dict[str, SimpleNamespace]) -> None:
    assert np.isnan(_apply(by_kind["tabular"], {"values": {"debt": ""}})["debt"].iloc[0])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"income": "plenty"}, "income takes a number"),
        ({"income": "inf"}, "finite"),
        ({"height": 3}, "no column 'height'"),
        ("income", "could not be read"),
        ({"income": [1, 2]}, "takes a number"),
    ],
)
def test_a_bad_column_is_told(by_kind: dict[str, SimpleNamespace], values: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        _apply(by_kind["tabular"], {"values": values})


def test_words_change(by_kind: dict[str, SimpleNamespace]) -> None:
    assert _apply(by_kind["text"], {"text": "You may."}) == ["You may."]
    for bad in ("", "   ", 5, None, "x" * 30_000):
        with pytest.raises(InvalidInput):
            _apply(by_kind["text"], {"text": bad})


def test_a_picture_is_scaled_and_its_proportions_are_kept(by_kind: dict[str, SimpleNamespace]) -> None:
    white = _apply(by_kind["image"], {"image": _picture((30, 90), colour=255)})
    assert white.shape == (1, 12, 12) and white.dtype == np.float32 and white.min() == 1.0
    tall = Image.new("L", (30, 90), 0)
    tall.paste(255, (10, 0, 20, 90))
    buffer = io.BytesIO()
    tall.save(buffer, "PNG")
    fitted = _apply(by_kind["image"], {"image": "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()})[0]
    assert fitted[:, 5:7].mean() > 0.6 and fitted[:, :3].max() == 0 and fitted[:, -3:].max() == 0  # a thin line stays thin


def test_a_see_through_picture_stands_on_black(by_kind: dict[str, SimpleNamespace]) -> None:
    assert _apply(by_kind["image"], {"image": _picture((12, 12), "RGBA", (255, 255, 255, 0))}).max() == 0.0


@pytest.mark.parametrize(
    "bad",
    [
        None,
        "no picture",
        "data:image/png;base64,????",
        "data:image/png;base64," + base64.b64encode(b"GIF89a but not really").decode(),
        "data:image/png;base64," + base64.b64encode(base64.b64decode(_picture((50, 50)).split(",")[1])[:60]).decode(),
        _picture((6000, 6000)),
        _csv("1,2"),
    ],
)
def test_what_is_no_picture_is_told(by_kind: dict[str, SimpleNamespace], bad: Any) -> None:
    with pytest.raises(InvalidInput):
        _apply(by_kind["image"], {"image": bad})


def test_a_stretch_of_one_channel_is_scaled(by_kind: dict[str, SimpleNamespace]) -> None:
    specimen = by_kind["series"]
    before = specimen.data.test.inputs[1]
    changed = _apply(specimen, {"channel": "1", "first": 2, "last": 5, "scale": 0})[0]
    assert (changed[2:5, 1] == 0).all()
    same = np.ones_like(before, dtype=bool)
    same[2:5, 1] = False
    assert (changed[same] == before[same]).all()
    assert (_apply(specimen, {"channel": "all", "first": 0, "last": len(before), "scale": 2})[0] == 2 * before).all()


@pytest.mark.parametrize(
    "bad",
    [
        {"channel": "9", "first": 0, "last": 2, "scale": 1},
        {"channel": "all", "first": 3, "last": 3, "scale": 1},
        {"channel": "all", "first": -1, "last": 2, "scale": 1},
        {"channel": "all", "first": 0, "last": 10_000, "scale": 1},
        {"channel": "all", "first": 0, "last": 2, "scale": "nan"},
    ],
)
def test_a_bad_stretch_is_told(by_kind: dict[str, SimpleNamespace], bad: Any) -> None:
    with pytest.raises(InvalidInput):
        _apply(by_kind["series"], bad)


def test_a_csv_is_a_series(by_kind: dict[str, SimpleNamespace]) -> None:
    read = _apply(by_kind["series"], {"csv": _csv("x;y;z\n1;2;3\n4;5;6\n")})[0]
    assert read.tolist() == [[1, 2, 3], [4, 5, 6]]
    for bad in ("", "1,2\n3,4\n", "1,2,3\n4,x,6\n", "1,2,3\n4,nan,6\n"):
        with pytest.raises(InvalidInput):
            _apply(by_kind["series"], {"csv": _csv(bad)})


def test_what_is_no_change_at_all_is_told(by_kind: dict[str, SimpleNamespace]) -> None:
    for specimen in by_kind.values():
        for bad in (None, 3, [], "text", {}):
            if specimen.model.modality == "series" and bad == {}:
                continue  # nothing named, nothing changed
            with pytest.raises(InvalidInput):
                _apply(specimen, bad)


def test_a_change_travels_in_the_address_and_is_told_in_words(by_kind: dict[str, SimpleNamespace]) -> None:
    from explainer.inputs import take

    def told(kind: str, edit: Any) -> str:
        model = by_kind[kind].model
        one = take(model.canonical(by_kind[kind].data.test.inputs), [1])
        return edits.told(edit, one, edits.apply(edit, one, model), model)

    row = by_kind["tabular"].data.test.inputs.iloc[1]
    edit = edits.read('{"values": {"income": "1e3", "debt": ""}}')
    assert told("tabular", edit) == f"income {row['income']:g} → 1,000, debt {row['debt']:.3g} → missing"
    assert told("text", {"text": "Two words"}) == "another text, 2 words for 11"
    assert told("image", {"image": _picture((12, 12))}) == "another picture"
    assert told("series", {"channel": "1", "first": 2, "last": 5, "scale": 0.5}) == "y x 0.5 from step 2 to 5"
    for bad in ("", "5", "[1]", '{"values"', "[" * 100_000):
        with pytest.raises(InvalidInput, match="address could not be read"):
            edits.read(bad)


def test_a_file_that_was_not_sent_is_told(by_kind: dict[str, SimpleNamespace]) -> None:
    for kind in ("image", "series"):
        with pytest.raises(InvalidInput, match="'big' has 9.0 MB; at most 8 MB"):
            _apply(by_kind[kind], {"large": {"name": "big", "bytes": 9 * 2**20}})


def test_a_change_is_explained_for_the_class_predicted_before_it(small: SimpleNamespace) -> None:
    from dashboard import answers
    from dashboard.desk import Desk
    from dashboard.view import View

    desk = Desk([small])
    exhibit = desk.exhibit("")
    row = int(desk.predictions(exhibit).predicted.argmax())  # one that is granted
    view = View("small-table", row, edit='{"values": {"income": "-500"}}')
    inputs, held = answers.asked(desk, exhibit, view, None)
    assert small.model.scores(inputs).argmax() == 0 and held.target == "1"
    assert answers.asked(desk, exhibit, View("small-table", row), None)[1].target == ""
    assert answers.asked(desk, exhibit, View("small-table", row, target="0", edit=view.edit), None)[1].target == "0"
    kept = {"model": "small-table", "row": row, "values": {"income": "7"}}
    assert answers.change(exhibit, View("small-table", row), kept) is kept
    assert answers.change(exhibit, View("small-table", row + 1), kept) is None
