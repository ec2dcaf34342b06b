"""The dashboard as a person uses it: in a real, headless Chromium."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import zoo

pytestmark = pytest.mark.browser
WAIT = 60_000


# dash-ag-grid asks a grid for its selection a moment after the page has replaced that grid by a filtered one: a warning of the
# library about its own timing, seen now and then on a busy machine; nothing is lost.
GRID_GONE = "AG Grid: warning #26"


@pytest.fixture(scope="module")
def chrome(chromium: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def address(served: Any, specimens: list[SimpleNamespace], slow_table: SimpleNamespace) -> str:
    return served([*specimens, slow_table])


@pytest.fixture
def visit(chrome: Any) -> Iterator[Callable[..., Any]]:
    """Open a page in a browser context of its own; at the end no page may have had an error in its console or from the server."""
    contexts, wrong = [], []

    def start(url: str, **options: Any) -> Any:
        context = chrome.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT)
        page.on(
            "console",
            lambda said: (
                wrong.append(f"{said.type}: {said.text}") if said.type in ("error", "warning") and GRID_GONE not in said.text else None
            ),
        )
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("response", lambda answer: wrong.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None)
        page.goto(url)
        return page

    yield start
    seen = list(wrong)  # before closing: a request cut off by the closing itself is no fault of the page
    for context in contexts:
        context.close()
    assert seen == []


def _panel(page: Any, side: str, patience: int = WAIT) -> Any:
    """The explanation in a panel, once it is there."""
    found = page.locator(f"#figure-{side}")
    found.wait_for(timeout=patience)
    return found


def _choose(page: Any, selector: str, option: str) -> None:
    page.locator(selector).click()
    page.get_by_role("option", name=re.compile(rf"^{re.escape(option)}(\s*[=≈]|$)")).click()  # a method's level follows its name


def _until(page: Any, told: Callable[[], bool], seconds: float = 30) -> None:
    """Wait in steps: the page's policy forbids the evaluation that playwright's own waiting is made of."""
    for _ in range(int(seconds / 0.1)):
        if told():
            return
        page.wait_for_timeout(100)
    pytest.fail("it did not happen in time")


def _fits(page: Any) -> None:
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0, "something is cut off on the right"


def test_the_first_screen_is_an_answer(visit: Callable[..., Any], address: str) -> None:
    page = visit(address)
    for side in "ab":
        panel = _panel(page, side)
        panel.locator(".verdict .badge").wait_for()
        panel.locator(".js-plotly-plot").wait_for()
    assert re.search(r"test set 90 rows.*accuracy 0\.\d+", page.locator("#stats").inner_text().replace("\n", " "))
    assert page.locator(".confusion .cell").count() >= 2
    first = page.locator("#grid [row-index='0']")
    assert "refused" in first.inner_text() and "granted" in first.inner_text()  # an error comes first
    _fits(page)


@pytest.mark.parametrize("name", ["small-table", "small-images", "small-texts", "small-series"])
def test_each_kind_of_input_is_explained_by_two_methods(visit: Callable[..., Any], address: str, name: str) -> None:
    page = visit(address)
    _choose(page, "#model-pick", name)
    page.locator(f".inspect[data-model='{name}']").wait_for()
    a, b = _panel(page, "a"), _panel(page, "b")
    assert a.get_attribute("data-method") != b.get_attribute("data-method")
    assert a.get_attribute("data-score") == b.get_attribute("data-score")
    assert page.locator("#change").inner_text() or page.locator("#change textarea").count() or page.locator("#change canvas").count()
    _fits(page)


@pytest.fixture(scope="module")
def gallery(served: Any) -> str:
    return served(zoo.names())


@pytest.mark.parametrize("name", ["digits-cnn", "vowels-rnn", "licence-transformer", "loan-mlp", "diabetes-mlp"])
def test_each_specimen_of_the_zoo_is_toured(visit: Callable[..., Any], gallery: str, name: str) -> None:
    """Open, explain by two methods, change the input, see score and explanation move, and the way back."""
    page = visit(f"{gallery}/inspect?model={name}")
    scores = {side: _panel(page, side, 150_000).get_attribute("data-score") for side in "ab"}
    assert scores["a"] == scores["b"]
    assert page.locator("#figure-a").get_attribute("data-method") != page.locator("#figure-b").get_attribute("data-method")
    _fits(page)
    if name == "digits-cnn":
        page.locator("[data-clear]").click()
    elif name == "licence-transformer":
        page.locator(".attention-box .js-plotly-plot").wait_for()
        _choose(page, "#head", "head 2")
        words = page.locator("#change textarea").first
        words.fill("Permission is hereby granted, free of charge, to any person to use, copy and sell the software.")
    elif name == "vowels-rnn":
        page.locator("#edit-scale [role=slider]").focus()
        page.keyboard.press("Home")
    else:
        column, value = ("loanamt", "700") if name == "loan-mlp" else ("bmi", "41")
        page.get_by_label(column).fill(value)
        page.get_by_label(column).press("Tab")
    for side in "ab":
        page.locator(f"#figure-{side}:not([data-score='{scores[side]}'])").wait_for()
    page.get_by_text("undo the change").click()
    page.locator(f"#figure-a[data-score='{scores['a']}']").wait_for()


def test_a_method_is_chosen_and_the_address_says_so(visit: Callable[..., Any], address: str) -> None:
    page = visit(f"{address}/inspect?model=small-images&row=5")
    _panel(page, "a")
    _choose(page, ".panel:nth-child(1) .method-pick input", "Saliency")
    page.wait_for_url("**a=saliency**")
    page.locator("#figure-a[data-method=saliency]").wait_for()
    _until(page, lambda: "row=5" in page.url)
    page.go_back()
    page.locator("#figure-a[data-method=integrated_gradients]").wait_for()


def test_maps_and_layers_of_a_network(visit: Callable[..., Any], gallery: str) -> None:
    """What a method is on the model stands there before it runs; a layer is chosen, and the address says so."""
    page = visit(f"{gallery}/inspect?model=digits-cnn&row=702&b=saliency")
    _panel(page, "a", 150_000)
    _choose(page, ".panel:nth-child(1) .method-pick input", "Grad-CAM")
    page.locator("#figure-a[data-method=grad_cam] .overlay").wait_for()
    assert "approximate" in page.locator(".panel:nth-child(1) .panel-able").inner_text()
    assert "at layer features.6" in page.locator("#figure-a .panel-sum").inner_text()
    _choose(page, ".panel:nth-child(1) .layer-pick input", "features.3")
    page.locator("#figure-a .panel-sum", has_text="at layer features.3").wait_for()
    _until(page, lambda: "layer_a=features.3" in page.url)
    _choose(page, ".panel:nth-child(1) .method-pick input", "Layer conductance")
    page.locator("#figure-a[data-method=layer_conductance]").wait_for()
    _until(page, lambda: "layer_a" not in page.url)  # another method, its own choice again
    _choose(page, ".panel:nth-child(2) .layer-pick input", "head.2")
    page.locator("#figure-b .panel-sum", has_text="at layer head.2").wait_for()
    assert page.locator("#figure-b").get_by_text("unit 8").count()
    page.locator("#figure-b").get_by_text("explain the logit").click()
    page.locator("#figure-b .panel-sum", has_text="logit of").wait_for()
    _fits(page)
    page.go_back()
    page.locator("#figure-b .panel-sum", has_text="probability of").wait_for()
    page.locator(".panel:nth-child(1) .method-pick input").click()
    unable = page.get_by_role("option", name=re.compile("^Attention flow.*unsupported.*no attention layers"))
    assert unable.get_attribute("data-combobox-disabled") == "true"


def test_a_link_to_a_layer_that_is_not_there_says_so(visit: Callable[..., Any], gallery: str) -> None:
    page = visit(f"{gallery}/inspect?model=digits-cnn&row=702&a=grad_cam&layer_a=feature.3&b=saliency")
    page.get_by_text("Did you mean 'features.3'").wait_for(timeout=150_000)


def test_one_input_through_the_layers_and_a_unit_taken_out(visit: Callable[..., Any], gallery: str) -> None:
    """What each look inside is on the model stands there before it runs; the fields follow the address."""
    page = visit(f"{gallery}/global?model=licence-transformer&row=3")
    card = page.locator("section.card", has_text="One input, layer by layer")
    card.get_by_text("were never trained to be read by the head").wait_for(timeout=150_000)
    card.get_by_text("Read row 3 after each layer").click()
    card.get_by_text("The highest score stays what it is").wait_for()
    page.locator("#inside-row").fill("0")
    page.locator("#inside-row").press("Tab")
    _until(page, lambda: page.locator("#inside-other").get_attribute("placeholder") == "114")
    card.get_by_text("Patch row 0 into row 114").click()
    card.get_by_text("on row 0 and").wait_for()
    _until(page, lambda: "row=0" in page.url and "other" not in page.url)
    page.locator("#inside-other").fill("1")
    page.locator("#inside-other").press("Tab")
    card.get_by_text("Patch row 0 into row 1", exact=True).click()
    card.get_by_text("both need the same length").wait_for()
    _until(page, lambda: "other=1" in page.url)
    _fits(page)
    page.goto(f"{gallery}/global?model=digits-cnn&row=702")
    page.locator("section.card", has_text="One input, layer by layer").get_by_text("no stack of like blocks").wait_for(timeout=150_000)
    page.get_by_text("Watch its layers").click()
    page.get_by_text("Take it out, on 24 rows").click()
    page.get_by_text("with the unit held at zero (95 % intervals)").wait_for()


def test_attention_heads_and_units_of_a_network(visit: Callable[..., Any], gallery: str) -> None:
    page = visit(f"{gallery}/inspect?model=licence-transformer&row=5&a=attention_relevance&b=saliency")
    _panel(page, "a", 150_000)
    page.get_by_text("all heads of a layer").click()
    page.locator("[data-view=heads] .js-plotly-plot .scatterlayer .trace").first.wait_for()
    page.get_by_text("whole model").click()
    page.locator("[data-view=model] .js-plotly-plot").wait_for()
    assert not page.locator("#layer").is_visible()
    drawn = page.locator("#attention-figure .nsewdrag").first
    box = drawn.bounding_box()
    drawn.click(position={"x": box["width"] * 3.5 / 4, "y": box["height"] * 0.75})  # the last of 4 heads, in the second layer
    page.locator("[data-view=head]").wait_for()
    assert (page.locator("#layer").input_value(), page.locator("#head").input_value()) == ("layer 1", "head 3")
    page.get_by_role("link", name="Global").click()
    page.get_by_text("Measure on 24 rows").click()
    page.get_by_text("Told from 0 by their interval").wait_for()
    page.get_by_text("Watch its layers").click()
    page.locator(".unit[data-unit^='norm[']").wait_for()
    _choose(page, "#layer-pick", "blocks.0.mlp.1 (GELU, 256)")
    page.locator("#unit-pick").fill("7")
    page.locator("#unit-pick").press("Tab")
    page.locator("[data-unit='blocks.0.mlp.1[7]'] .top-rows button").first.wait_for()
    _until(page, lambda: "unit=7" in page.url)
    _fits(page)
    page.locator(".top-rows button").first.click()
    page.wait_for_url("**/inspect?**")


def test_methods_that_are_not_valid_say_why(visit: Callable[..., Any], address: str) -> None:
    page = visit(f"{address}/inspect?model=small-texts")
    _panel(page, "a")
    page.locator(".panel:nth-child(1) .method-pick input").click()
    option = page.get_by_role("option", name=re.compile("^Saliency.*unsupported.*no gradients"))
    option.wait_for()
    assert option.get_attribute("data-combobox-disabled") == "true"


def test_a_link_shows_a_colleague_the_same(visit: Callable[..., Any], address: str) -> None:
    link = f"{address}/inspect?model=small-table&row=11&a=lime&b=shap&target=0&cell=0%2C1"
    for _ in range(2):
        page = visit(link)
        assert _panel(page, "a").get_attribute("data-method") == "lime"
        assert "row 11" in page.locator("#detail-head").inner_text()
        assert "of refused" in page.locator("#figure-a .panel-sum").inner_text()
        page.get_by_role("button", name="true refused, predicted granted").wait_for()


def test_a_cell_of_the_confusion_matrix_filters_the_table(visit: Callable[..., Any], address: str) -> None:
    page = visit(address)
    _panel(page, "a")
    cell = page.locator(".cell-wrong").first
    count = int(cell.inner_text())
    cell.click()
    page.locator("#count", has_text=re.compile(rf"^{count} of 90$")).wait_for()
    page.locator("#detail-head", has_text="predicted granted").wait_for()  # the row that is open is one of the cell
    assert "true refused" in page.locator("#detail-head").inner_text()
    _until(page, lambda: page.locator("#grid .ag-center-cols-container .ag-row").count() == count)
    page.locator(".confusion-note .chip").click()
    page.locator("#count", has_text="90 of 90").wait_for()
    page.goto(f"{address}/inspect?model=small-table&cell=9%2C9")
    page.locator("#count", has_text=re.compile("^0 of 90$")).wait_for()
    page.locator(".confusion-note .chip", has_text="class 9, which is not there").click()
    page.locator("#count", has_text="90 of 90").wait_for()


def test_the_table_is_searched_and_sorted_and_the_address_says_so(visit: Callable[..., Any], address: str) -> None:
    page = visit(f"{address}/inspect?model=small-table")
    _panel(page, "a")
    page.locator("#search").fill("no such row")
    page.locator("#count", has_text=re.compile("^0 of 90$")).wait_for()
    _until(page, lambda: "find=no+such+row" in page.url)
    page.goto(f"{address}/inspect?model=small-table&find=rent&order=row")
    _until(page, lambda: re.fullmatch(r"\d\d of 90", page.locator("#count").inner_text()) is not None)
    assert page.locator("#count").inner_text() != "90 of 90" and page.locator("#search").input_value() == "rent"
    page.locator("#search").fill("")
    page.locator("#count", has_text="90 of 90").wait_for()
    page.locator("#grid .ag-header-cell[col-id=p]").wait_for()
    assert re.search(r"income\s", page.locator("#grid .ag-header").inner_text())  # the row's own values stand beside its prediction
    page.locator("#grid .ag-header-cell[col-id=p]").click()
    _until(page, lambda: page.locator("#order").input_value() == "")  # the heading sorts now
    _choose(page, "#order", "by row")
    page.locator("#grid [row-index='0'] [col-id=row]", has_text=re.compile("^0$")).wait_for()
    _until(page, lambda: page.locator("#grid .ag-header-cell[col-id=p]").get_attribute("aria-sort") == "none")


def test_a_large_test_set_is_listed_whole(visit: Callable[..., Any], served: Any) -> None:
    import explainer

    draw = np.random.default_rng(0)
    rows = draw.normal(0, 1, (30_000, 2))

    def score(x: Any) -> np.ndarray:
        p = 1 / (1 + np.exp(-np.asarray(x)[:, 0]))
        return np.stack([1 - p, p], axis=1)

    names = {"feature_names": ["a", "b"], "class_names": ["no", "yes"], "name": "large"}
    model = explainer.wrap(score, modality="tabular", background=rows[:50], **names)
    test = SimpleNamespace(inputs=rows, labels=(rows.sum(1) > 0).astype(int), groups=None)
    page = visit(f"{served([SimpleNamespace(name='large', model=model, data=SimpleNamespace(test=test))])}/inspect?order=row&row=29999")
    page.locator("#count", has_text="30,000 of 30,000").wait_for()
    page.locator("#grid .ag-row", has_text="29999").wait_for()  # the table turned to its last page


def test_the_keyboard_opens_a_row_and_leaves_the_table(visit: Callable[..., Any], address: str) -> None:
    page = visit(f"{address}/inspect?model=small-table&order=row")
    _panel(page, "a")
    assert page.locator("main").count() == 1
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    _until(page, lambda: page.evaluate("document.activeElement.id") == "page")
    page.locator("#grid [row-index='2'] [col-id='true']").click()
    page.locator("#detail-head", has_text="row 2").wait_for()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.locator("#detail-head", has_text="row 3").wait_for()
    page.keyboard.press("Tab")
    _until(page, lambda: not page.evaluate("!!document.activeElement.closest('#grid .ag-cell')"))


def test_rows_are_walked_with_keys_and_clicks(visit: Callable[..., Any], address: str) -> None:
    page = visit(f"{address}/inspect?model=small-table&order=row")
    _panel(page, "a")
    head = page.locator("#detail-head")
    head.get_by_text("row 0").wait_for()
    page.locator("#grid [row-index='3']").wait_for()
    page.keyboard.press("j")
    page.keyboard.press("j")
    head.get_by_text("row 2").wait_for()
    page.keyboard.press("k")
    head.get_by_text("row 1").wait_for()
    page.locator("#grid [row-index='4'] [col-id='true']").click()
    head.get_by_text("row 4").wait_for()
    page.keyboard.press("/")
    page.keyboard.type("jj")
    assert page.locator("#search").input_value() == "jj"  # typing is not walking
    head.get_by_text("row 4").wait_for()


def test_a_changed_column_moves_score_and_explanations(visit: Callable[..., Any], address: str) -> None:
    page = visit(f"{address}/inspect?model=small-table&row=3&target=1")
    before = {side: float(_panel(page, side).get_attribute("data-score")) for side in "ab"}
    field = page.get_by_label("income")
    field.fill(str(float(field.input_value()) + 40))
    field.press("Tab")
    page.get_by_text("undo the change").wait_for()
    for side in "ab":
        page.locator(f"#figure-{side}:not([data-score='{before[side]:.6f}'])").wait_for()
        assert float(_panel(page, side).get_attribute("data-score")) > before[side] + 0.01
    assert page.locator(".prob-before").count() == 2
    page.get_by_text("undo the change").click()
    page.locator(f"#figure-a[data-score='{before['a']:.6f}']").wait_for()
    _until(page, lambda: "row=3" in page.url)


def test_a_change_stays_with_its_row_its_link_and_its_reload(visit: Callable[..., Any], address: str) -> None:
    page = visit(f"{address}/inspect?model=small-table&row=3")
    before = _panel(page, "a").get_attribute("data-score")
    held = page.get_by_label("income").input_value()
    page.get_by_label("income").fill("2e1")
    page.locator(".change-note .flip", has_text="Explained for 'granted', the prediction before the change; now 'refused'").wait_for()
    page.locator(f"#figure-a:not([data-score='{before}'])").wait_for()
    assert "of granted" in page.locator("#figure-a .panel-sum").inner_text()
    assert page.locator(".field-changed").count() == page.locator(".field-outside", has_text="outside").count() == 1
    after = page.locator("#figure-a").get_attribute("data-score")
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.locator(".tag-changed").wait_for(state="detached")
    page.keyboard.press("k")
    page.locator(".tag-changed").wait_for()
    _until(page, lambda: page.get_by_label("income").input_value() == "2e1")
    page.get_by_role("link", name="Compare").click()
    page.locator(".compare .change-note", has_text=f"income {held} → 20").wait_for()
    page.reload()
    page.locator(f"#figure-a[data-score='{after}']").wait_for()
    colleague = visit(page.url.replace("/compare", "/inspect"))
    colleague.locator(f"#figure-a[data-score='{after}']").wait_for()
    assert colleague.get_by_label("income").input_value() == "2e1"
    page.get_by_text("undo the change").click()
    page.locator(f"#figure-a[data-score='{before}']").wait_for()
    page.go_back()
    page.locator(f"#figure-a[data-score='{after}']").wait_for()


@pytest.mark.parametrize("value", ["abc", "-", "1,5"])
def test_what_is_no_number_is_told_greyed_and_undone(visit: Callable[..., Any], address: str, value: str) -> None:
    page = visit(f"{address}/inspect?model=small-table&row=3")
    before, held = _panel(page, "a").get_attribute("data-score"), page.get_by_label("income").input_value()
    page.get_by_label("income").fill(value)
    page.locator(".change-note .bad", has_text=f"income takes a number; '{value}' came").wait_for()
    page.locator(".field-changed", has_text="not a number").wait_for()
    page.locator("#probabilities .stale").wait_for()
    assert page.locator("#figure-a").count() == 0
    page.locator("[data-undo]").click()
    page.locator(f"#figure-a[data-score='{before}']").wait_for()
    _until(page, lambda: page.get_by_label("income").input_value() == held and page.locator("#probabilities .stale").count() == 0)


def test_changed_words_move_the_score(visit: Callable[..., Any], address: str) -> None:
    page = visit(f"{address}/inspect?model=small-texts&row=2&target=1")
    before = float(_panel(page, "a").get_attribute("data-score"))
    page.locator("#change textarea").first.fill("You may, free, permission granted.")
    page.locator(f"#figure-a:not([data-score='{before:.6f}'])").wait_for()
    assert float(_panel(page, "a").get_attribute("data-score")) > 0.9
    page.locator("#change textarea").first.fill("   ")
    page.locator(".change-note .bad", has_text="empty").wait_for()
    page.locator("[data-undo]").click()
    page.locator(f"#figure-a[data-score='{before:.6f}']").wait_for()
    page.locator("#change textarea").first.fill("free may " * 400)
    page.get_by_text("too large for the address").wait_for()
    page.get_by_role("link", name="Compare").click()
    page.locator(".compare .change-note", has_text="another text, 800 words").wait_for()
    _until(page, lambda: "edit=" not in page.url)
    page.get_by_role("link", name="Inspect").click()
    _until(page, lambda: len(page.locator("#change textarea").first.input_value()) == 3600)
    page.locator("[data-undo]").click()
    page.locator(f"#figure-a[data-score='{before:.6f}']").wait_for()


def test_an_uploaded_and_a_drawn_picture_move_the_score(visit: Callable[..., Any], address: str) -> None:
    from PIL import Image

    page = visit(f"{address}/inspect?model=small-images&row=3&target=0")
    before = float(_panel(page, "a").get_attribute("data-score"))
    picture = np.zeros((48, 48), dtype=np.uint8)
    picture[:, :24] = 255
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    page.locator("#edit-upload input").set_input_files({"name": "left.png", "mimeType": "image/png", "buffer": buffer.getvalue()})
    page.locator(f"#figure-a:not([data-score='{before:.6f}'])").wait_for()
    uploaded = float(_panel(page, "a").get_attribute("data-score"))
    assert uploaded > 0.99
    page.locator("[data-clear]").click()
    page.locator("#figure-a[data-score='0.500000']").wait_for()  # an empty picture says nothing
    page.locator("#edit-upload input").set_input_files({"name": "x.png", "mimeType": "image/png", "buffer": b"no picture"})
    page.locator(".change-note .bad", has_text="not a picture").wait_for()
    for name, kind, content, said in (
        ("notes.txt", "text/plain", b"words", "not a picture"),
        ("large.png", "image/png", b"\x89PNG" + b"0" * 9 * 2**20, "'large.png' has 9.0 MB; at most 8 MB are taken"),
    ):
        page.locator("[data-undo]").click()
        page.locator(f"#figure-a[data-score='{before:.6f}']").wait_for()
        page.locator("#edit-upload input").set_input_files({"name": name, "mimeType": kind, "buffer": content})
        page.locator(".change-note .bad", has_text=said).wait_for()


def test_a_scaled_channel_moves_the_score(visit: Callable[..., Any], address: str) -> None:
    page = visit(f"{address}/inspect?model=small-series&row=3")
    before = _panel(page, "a").get_attribute("data-score")
    page.locator("#edit-scale [role=slider]").focus()
    for _ in range(10):
        page.keyboard.press("ArrowLeft")
    page.locator(f"#figure-a:not([data-score='{before}'])").wait_for()
    page.locator(".tag-changed").wait_for()


def test_two_people_do_not_affect_each_other(visit: Callable[..., Any], address: str) -> None:
    mine, theirs = (visit(f"{address}/inspect?model=small-table&row=7&target=1") for _ in range(2))
    before = _panel(theirs, "a").get_attribute("data-score")
    _panel(mine, "a")
    field = mine.get_by_label("income")
    field.fill(str(float(field.input_value()) + 30))
    field.press("Tab")
    mine.locator(f"#figure-a:not([data-score='{before}'])").wait_for()
    mine.locator("#theme").click()
    theirs.keyboard.press("j")
    theirs.wait_for_url("**row=**")
    theirs.keyboard.press("k")
    theirs.reload()
    assert _panel(theirs, "a").get_attribute("data-score") == before
    assert theirs.locator(".tag-changed").count() == 0
    assert theirs.evaluate("document.documentElement.dataset.mantineColorScheme") == "light"
    assert mine.evaluate("document.documentElement.dataset.mantineColorScheme") == "dark"


def test_stopping_is_ones_own_affair(visit: Callable[..., Any], address: str) -> None:
    link = f"{address}/inspect?model=slow-table&row=2&a=shap&b=shap"
    mine, theirs = visit(link), visit(link)
    for page in (mine, theirs):
        page.locator(".panel:nth-child(1) .loading-long").wait_for()
        page.locator(".panel:nth-child(1)", has_text="SHAP for row 2").wait_for()
    for side in (1, 2):
        mine.locator(f".panel:nth-child({side})").get_by_text("Stop", exact=True).click()
    mine.get_by_text("You stopped this").first.wait_for()
    bar = theirs.locator(".panel:nth-child(1) .loading-long :not(.wandering) > .mantine-Progress-section")
    before = float(bar.get_attribute("aria-valuenow"))
    _until(theirs, lambda: float(bar.get_attribute("aria-valuenow")) > before)
    assert theirs.get_by_text("You stopped this").count() == 0
    assert mine.locator(".loading").count() == 0 and mine.get_by_text("You stopped this").count() == 2


def test_jobs_show_what_this_tab_asked_for(visit: Callable[..., Any], address: str) -> None:
    page, other = visit(f"{address}/inspect?model=slow-table&row=5&a=lime&b=shap"), visit(f"{address}/jobs")
    page.locator(".loading-long").first.wait_for()
    page.get_by_role("link", name="Jobs").click()
    page.locator(".job", has_text="for row 5").first.wait_for()
    page.locator(".job", has_text="shap for row 5").get_by_text("Stop").click()
    page.locator(".job", has_text="shap for row 5").get_by_text("cancelled").first.wait_for()
    other.get_by_text("Nothing was computed for this tab yet").wait_for()


def test_a_finding_opens_its_rows(visit: Callable[..., Any], address: str) -> None:
    page = visit(f"{address}/data?model=small-table")
    card = page.locator(".finding-fail", has_text="missing values")
    card.locator("summary").click()
    card.get_by_text("in Inspect").click()
    page.wait_for_url("**/inspect?**rows=missing+values**")
    page.locator("#rows-chip .chip", has_text="missing values").wait_for()
    page.locator("#count", has_text="6 of 90").wait_for()


def test_findings_are_filtered_by_state_and_name_and_the_address_says_so(visit: Callable[..., Any], address: str) -> None:
    page = visit(f"{address}/data?model=small-table")
    page.locator(".finding-fail").first.wait_for()
    sections = page.locator(".data section > h2").all_inner_texts()
    assert sections[0].startswith("Failed") and sections[-1].startswith("Passed")  # what failed comes first
    page.get_by_role("button", name=re.compile(r"not run$")).click()
    page.wait_for_url("**state=not+run**")
    _until(page, lambda: page.locator(".finding-pass, .finding-fail").count() == 0)
    assert page.locator(".finding-not-run").count() and page.get_by_text("these are no passes").count()
    _choose(page, "#check-pick", "missing values")
    page.wait_for_url("**check=missing+values**")
    page.locator(".finding-opened", has_text="missing values").wait_for()
    assert page.locator(".finding").count() == 1
    page.get_by_role("button", name="All checks").click()
    page.locator(".finding-not-run").first.wait_for()
    page.goto(f"{address}/data?model=small-table&check=missing+value")
    page.get_by_text("No check of these data is called 'missing value'").wait_for()
    _fits(page)


def test_a_finding_has_its_figure_its_reasons_and_its_rows(visit: Callable[..., Any], address: str) -> None:
    page = visit(f"{address}/data?model=small-table&check=missing+values")
    opened = page.locator(".finding-opened")
    opened.locator(".finding-figure .main-svg").first.wait_for()
    assert "debt" in opened.locator(".finding-figure").inner_text()
    assert "Why it matters." in opened.inner_text() and "What to do." in opened.inner_text() and "threshold 0.05" in opened.inner_text()
    row = opened.locator(".finding-row").first
    assert row.locator("strong", has_text="debt = missing").count() == 1  # the column it is about comes first
    row.click()
    page.wait_for_url("**/inspect?**row=0**")


@pytest.mark.parametrize(
    ("name", "check", "shows"), [("small-images", "class balance", "img.thumb"), ("small-series", "class balance", "img.sparkline")]
)
def test_rows_are_shown_as_what_they_are(visit: Callable[..., Any], address: str, name: str, check: str, shows: str) -> None:
    page = visit(f"{address}/data?model={name}&check={check.replace(' ', '+')}")
    page.locator(".finding-opened").wait_for()
    rows = page.locator(".finding-opened .finding-row")
    assert rows.count() == page.locator(f".finding-opened .finding-row {shows}").count() > 0


def test_findings_are_exported(visit: Callable[..., Any], address: str) -> None:
    from explainer.checks.finding import Findings

    page = visit(f"{address}/data?model=small-table")
    page.locator(".finding-fail").first.wait_for()
    with page.expect_download() as waiting:
        page.get_by_role("button", name="JSON").click()
    assert waiting.value.suggested_filename == "small-table-findings.json"
    assert Findings.from_json(Path(waiting.value.path()).read_text("utf-8")).rows == 90
    with page.expect_download() as waiting:
        page.get_by_role("button", name="One page (HTML)").click()
    assert "Data checks of small-table" in Path(waiting.value.path()).read_text("utf-8")


def test_the_report_is_written_and_downloaded(visit: Callable[..., Any], address: str) -> None:
    page = visit(f"{address}/report?model=small-table")
    _choose(page, "#profile", "Finance")
    page.wait_for_url("**profile=finance**")
    page.get_by_role("heading", name="What Finance asks for").wait_for()
    _choose(page, "#favourable", "granted")
    page.wait_for_url("**favourable=granted**")
    page.get_by_text("Write the report").click()
    page.locator(".report-place .loading").wait_for()
    page.reload()  # the tab that asked is known again
    page.get_by_text("Everything (zip)").wait_for(timeout=120_000)
    assert "Missing values." in page.locator(".report-place").inner_text()
    page.get_by_text("not assessed", exact=False).first.wait_for()
    with page.expect_download() as waiting:
        page.get_by_text("Everything (zip)").click()
    assert waiting.value.suggested_filename == "small-table-finance-report.zip"
    with zipfile.ZipFile(waiting.value.path()) as archive:
        assert {"report.html", "report.pdf", "report.json"} <= set(archive.namelist())
        assert archive.read("report.pdf").startswith(b"%PDF")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="HTML").click()
    assert "small-table" in Path(waiting.value.path()).read_text("utf-8")


def test_a_threshold_is_moved(visit: Callable[..., Any], address: str) -> None:
    page = visit(f"{address}/model?model=small-table")
    page.locator("#at .js-plotly-plot").wait_for()
    before = page.locator("#at .facts-line").inner_text()
    page.locator("#threshold [role=slider]").focus()
    page.keyboard.press("End")
    page.locator("#at .facts-line", has_text="0 of 90").wait_for()
    assert page.locator("#at .facts-line").inner_text() != before


def test_how_the_score_follows_a_column(visit: Callable[..., Any], address: str) -> None:
    page = visit(f"{address}/global?model=small-table")
    card = page.locator("section.card", has_text="How the score follows a column")
    card.locator(".js-plotly-plot", has_text="income").wait_for()
    _until(page, lambda: "column=" not in page.url)
    _choose(page, "#dependence-column", "debt")
    card.locator(".js-plotly-plot", has_text="debt").wait_for()
    card.get_by_text("local effects", exact=True).click()
    card.get_by_text("columns that go together are kept apart").wait_for()
    _until(page, lambda: "column=debt" in page.url and "curve=ale" in page.url)
    _fits(page)


@pytest.mark.parametrize("size", [(1280, 800), (390, 844)])
def test_every_page_fits_its_screen(visit: Callable[..., Any], address: str, size: tuple[int, int]) -> None:
    page = visit(f"{address}/jobs", viewport={"width": size[0], "height": size[1]}, color_scheme="dark")
    for name in ("jobs", "model", "compare", "global", "data", "report"):
        page.goto(f"{address}/{name}?model=small-table")
        page.locator("main .card").first.wait_for()
        page.wait_for_timeout(200)
        _fits(page)
    assert page.evaluate("document.documentElement.dataset.mantineColorScheme") == "dark"


def test_inspect_is_usable_on_a_phone(visit: Callable[..., Any], address: str) -> None:
    page = visit(address, viewport={"width": 390, "height": 844}, has_touch=True)
    for name in ("small-images", "small-texts", "small-series", "small-table"):
        page.goto(f"{address}/inspect?model={name}")
        _panel(page, "b")
        _fits(page)
    link = page.get_by_role("link", name="Compare")
    assert link.bounding_box()["x"] < 0, "the navigation covers the page"
    page.locator("#burger").click()
    _until(page, lambda: link.bounding_box()["x"] >= 0)
    link.click()
    page.wait_for_url("**/compare?**")
    _panel(page, "a")
    _fits(page)


def test_what_is_not_there_is_told(visit: Callable[..., Any], address: str) -> None:
    page = visit(f"{address}/nowhere")
    page.get_by_text("No such page").wait_for()
    for path, said in (
        ("/inspect?model=nowhere", "No such model here"),
        ("/inspect?model=small-table&row=99999", "No such row"),
        ("/inspect?model=small-table&target=77", "No such class"),
        ("/inspect?model=small-texts&a=saliency", "Not available on this model"),
        ("/compare?model=small-table&a=shap&b=shap", "The same method twice"),
    ):
        page.goto(address + path)
        page.get_by_text(said).first.wait_for()


def test_the_verdict_tells_its_numbers_on_hover(visit: Callable[..., Any], address: str) -> None:
    page = visit(f"{address}/inspect?model=small-table")
    _panel(page, "a")
    badge = page.locator("#figure-a .verdict")
    assert re.search(r"[✓!✗○]\s*(pass|warn|fail|not run)", badge.inner_text())
    badge.hover()
    page.locator(".checks .check").first.wait_for()
    assert "threshold" in page.locator(".checks").inner_text()
