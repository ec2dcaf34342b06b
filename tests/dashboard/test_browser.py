"""The dashboard as a person uses it: in a real, headless Chromium."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from browsing import choose, fits, panel, until

pytestmark = pytest.mark.browser


def test_the_first_screen_is_an_answer(visit: Callable[..., Any], address: str) -> None:
    page = visit(address)
    for side in "ab":
        shown = panel(page, side)
        shown.locator(".verdict .badge").wait_for()
        shown.locator(".js-plotly-plot").wait_for()
    assert re.search(r"test set 90 rows.*accuracy 0\.\d+", page.locator("#stats").inner_text().replace("\n", " "))
    assert page.locator(".confusion .cell").count() >= 2
    first = page.locator("#grid [row-index='0']")
    assert "refused" in first.inner_text() and "granted" in first.inner_text()  # an error comes first
    fits(page)


@pytest.mark.parametrize("name", ["small-table", "small-images", "small-texts", "small-series"])
def test_each_kind_of_input_is_explained_by_two_methods(visit: Callable[..., Any], address: str, name: str) -> None:
    page = visit(address)
    choose(page, "#model-pick", name)
    page.locator(f".inspect[data-model='{name}']").wait_for()
    a, b = panel(page, "a"), panel(page, "b")
    assert a.get_attribute("data-method") != b.get_attribute("data-method")
    assert a.get_attribute("data-score") == b.get_attribute("data-score")
    assert page.locator("#change").inner_text() or page.locator("#change textarea").count() or page.locator("#change canvas").count()
    fits(page)


@pytest.mark.parametrize("name", ["digits-cnn", "vowels-rnn", "licence-transformer", "loan-mlp", "diabetes-mlp"])
def test_each_specimen_of_the_zoo_is_toured(visit: Callable[..., Any], gallery: str, name: str) -> None:
    """Open, explain by two methods, change the input, see score and explanation move, and the way back."""
    page = visit(f"{gallery}/inspect?model={name}")
    scores = {side: panel(page, side, 150_000).get_attribute("data-score") for side in "ab"}
    assert scores["a"] == scores["b"]
    assert page.locator("#figure-a").get_attribute("data-method") != page.locator("#figure-b").get_attribute("data-method")
    fits(page)
    if name == "digits-cnn":
        page.locator("[data-clear]").click()
    elif name == "licence-transformer":
        page.locator(".attention-box .js-plotly-plot").wait_for()
        choose(page, "#head", "head 2")
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
    panel(page, "a")
    choose(page, ".panel:nth-child(1) .method-pick input", "Saliency")
    page.wait_for_url("**a=saliency**")
    page.locator("#figure-a[data-method=saliency]").wait_for()
    until(page, lambda: "row=5" in page.url)
    page.go_back()
    page.locator("#figure-a[data-method=integrated_gradients]").wait_for()


def test_maps_and_layers_of_a_network(visit: Callable[..., Any], gallery: str) -> None:
    """What a method is on the model stands there before it runs; a layer is chosen, and the address says so."""
    page = visit(f"{gallery}/inspect?model=digits-cnn&row=702&b=saliency")
    panel(page, "a", 150_000)
    choose(page, ".panel:nth-child(1) .method-pick input", "Grad-CAM")
    page.locator("#figure-a[data-method=grad_cam] .overlay").wait_for()
    assert "approximate" in page.locator(".panel:nth-child(1) .panel-able").inner_text()
    assert "at layer features.6" in page.locator("#figure-a .panel-sum").inner_text()
    choose(page, ".panel:nth-child(1) .layer-pick input", "features.3")
    page.locator("#figure-a .panel-sum", has_text="at layer features.3").wait_for()
    until(page, lambda: "layer_a=features.3" in page.url)
    choose(page, ".panel:nth-child(1) .method-pick input", "Layer conductance")
    page.locator("#figure-a[data-method=layer_conductance]").wait_for()
    until(page, lambda: "layer_a" not in page.url)  # another method, its own choice again
    choose(page, ".panel:nth-child(2) .layer-pick input", "head.2")
    page.locator("#figure-b .panel-sum", has_text="at layer head.2").wait_for()
    assert page.locator("#figure-b").get_by_text("unit 8").count()
    page.locator("#figure-b").get_by_text("explain the logit").click()
    page.locator("#figure-b .panel-sum", has_text="logit of").wait_for()
    fits(page)
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
    until(page, lambda: page.locator("#inside-other").get_attribute("placeholder") == "114")
    card.get_by_text("Patch row 0 into row 114").click()
    card.get_by_text("on row 0 and").wait_for()
    until(page, lambda: "row=0" in page.url and "other" not in page.url)
    page.locator("#inside-other").fill("1")
    page.locator("#inside-other").press("Tab")
    card.get_by_text("Patch row 0 into row 1", exact=True).click()
    card.get_by_text("both need the same length").wait_for()
    until(page, lambda: "other=1" in page.url)
    fits(page)
    page.goto(f"{gallery}/global?model=digits-cnn&row=702")
    page.locator("section.card", has_text="One input, layer by layer").get_by_text("no stack of like blocks").wait_for(timeout=150_000)
    page.get_by_text("Watch its layers").click()
    page.get_by_text("Take it out, on 24 rows").click()
    page.get_by_text("with the unit held at zero (95 % intervals)").wait_for()


def test_attention_heads_and_units_of_a_network(visit: Callable[..., Any], gallery: str) -> None:
    page = visit(f"{gallery}/inspect?model=licence-transformer&row=5&a=attention_relevance&b=saliency")
    panel(page, "a", 150_000)
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
    choose(page, "#layer-pick", "blocks.0.mlp.1 (GELU, 256)")
    page.locator("#unit-pick").fill("7")
    page.locator("#unit-pick").press("Tab")
    page.locator("[data-unit='blocks.0.mlp.1[7]'] .top-rows button").first.wait_for()
    until(page, lambda: "unit=7" in page.url)
    fits(page)
    page.locator(".top-rows button").first.click()
    page.wait_for_url("**/inspect?**")


def test_methods_that_are_not_valid_say_why(visit: Callable[..., Any], address: str) -> None:
    page = visit(f"{address}/inspect?model=small-texts")
    panel(page, "a")
    page.locator(".panel:nth-child(1) .method-pick input").click()
    option = page.get_by_role("option", name=re.compile("^Saliency.*unsupported.*no gradients"))
    option.wait_for()
    assert option.get_attribute("data-combobox-disabled") == "true"


def test_a_link_shows_a_colleague_the_same(visit: Callable[..., Any], address: str) -> None:
    link = f"{address}/inspect?model=small-table&row=11&a=lime&b=shap&target=0&cell=0%2C1"
    for _ in range(2):
        page = visit(link)
        assert panel(page, "a").get_attribute("data-method") == "lime"
        assert "row 11" in page.locator("#detail-head").inner_text()
        assert "of refused" in page.locator("#figure-a .panel-sum").inner_text()
        page.get_by_role("button", name="true refused, predicted granted").wait_for()


def test_a_cell_of_the_confusion_matrix_filters_the_table(visit: Callable[..., Any], address: str) -> None:
    page = visit(address)
    panel(page, "a")
    cell = page.locator(".cell-wrong").first
    count = int(cell.inner_text())
    cell.click()
    page.locator("#count", has_text=re.compile(rf"^{count} of 90$")).wait_for()
    page.locator("#detail-head", has_text="predicted granted").wait_for()  # the row that is open is one of the cell
    assert "true refused" in page.locator("#detail-head").inner_text()
    until(page, lambda: page.locator("#grid .ag-center-cols-container .ag-row").count() == count)
    page.locator(".confusion-note .chip").click()
    page.locator("#count", has_text="90 of 90").wait_for()
    page.goto(f"{address}/inspect?model=small-table&cell=9%2C9")
    page.locator("#count", has_text=re.compile("^0 of 90$")).wait_for()
    page.locator(".confusion-note .chip", has_text="class 9, which is not there").click()
    page.locator("#count", has_text="90 of 90").wait_for()


def test_the_table_is_searched_and_sorted_and_the_address_says_so(visit: Callable[..., Any], address: str) -> None:
    page = visit(f"{address}/inspect?model=small-table")
    panel(page, "a")
    page.locator("#search").fill("no such row")
    page.locator("#count", has_text=re.compile("^0 of 90$")).wait_for()
    until(page, lambda: "find=no+such+row" in page.url)
    page.goto(f"{address}/inspect?model=small-table&find=rent&order=row")
    until(page, lambda: re.fullmatch(r"\d\d of 90", page.locator("#count").inner_text()) is not None)
    assert page.locator("#count").inner_text() != "90 of 90" and page.locator("#search").input_value() == "rent"
    page.locator("#search").fill("")
    page.locator("#count", has_text="90 of 90").wait_for()
    page.locator("#grid .ag-header-cell[col-id=p]").wait_for()
    assert re.search(r"income\s", page.locator("#grid .ag-header").inner_text())  # the row's own values stand beside its prediction
    page.locator("#grid .ag-header-cell[col-id=p]").click()
    until(page, lambda: page.locator("#order").input_value() == "")  # the heading sorts now
    choose(page, "#order", "by row")
    page.locator("#grid [row-index='0'] [col-id=row]", has_text=re.compile("^0$")).wait_for()
    until(page, lambda: page.locator("#grid .ag-header-cell[col-id=p]").get_attribute("aria-sort") == "none")


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
    panel(page, "a")
    assert page.locator("main").count() == 1
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    until(page, lambda: page.evaluate("document.activeElement.id") == "page")
    page.locator("#grid [row-index='2'] [col-id='true']").click()
    page.locator("#detail-head", has_text="row 2").wait_for()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.locator("#detail-head", has_text="row 3").wait_for()
    page.keyboard.press("Tab")
    until(page, lambda: not page.evaluate("!!document.activeElement.closest('#grid .ag-cell')"))


def test_rows_are_walked_with_keys_and_clicks(visit: Callable[..., Any], address: str) -> None:
    page = visit(f"{address}/inspect?model=small-table&order=row")
    panel(page, "a")
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


def test_two_people_do_not_affect_each_other(visit: Callable[..., Any], address: str) -> None:
    mine, theirs = (visit(f"{address}/inspect?model=small-table&row=7&target=1") for _ in range(2))
    before = panel(theirs, "a").get_attribute("data-score")
    panel(mine, "a")
    field = mine.get_by_label("income")
    field.fill(str(float(field.input_value()) + 30))
    field.press("Tab")
    mine.locator(f"#figure-a:not([data-score='{before}'])").wait_for()
    mine.locator("#theme").click()
    theirs.keyboard.press("j")
    theirs.wait_for_url("**row=**")
    theirs.keyboard.press("k")
    theirs.reload()
    assert panel(theirs, "a").get_attribute("data-score") == before
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
    until(theirs, lambda: float(bar.get_attribute("aria-valuenow")) > before)
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


@pytest.mark.parametrize("size", [(1280, 800), (390, 844)])
def test_every_page_fits_its_screen(visit: Callable[..., Any], address: str, size: tuple[int, int]) -> None:
    page = visit(f"{address}/jobs", viewport={"width": size[0], "height": size[1]}, color_scheme="dark")
    for name in ("jobs", "model", "compare", "global", "data", "report"):
        page.goto(f"{address}/{name}?model=small-table")
        page.locator("main .card").first.wait_for()
        page.wait_for_timeout(200)
        fits(page)
    assert page.evaluate("document.documentElement.dataset.mantineColorScheme") == "dark"


def test_inspect_is_usable_on_a_phone(visit: Callable[..., Any], address: str) -> None:
    page = visit(address, viewport={"width": 390, "height": 844}, has_touch=True)
    for name in ("small-images", "small-texts", "small-series", "small-table"):
        page.goto(f"{address}/inspect?model={name}")
        panel(page, "b")
        fits(page)
    link = page.get_by_role("link", name="Compare")
    assert link.bounding_box()["x"] < 0, "the navigation covers the page"
    page.locator("#burger").click()
    until(page, lambda: link.bounding_box()["x"] >= 0)
    link.click()
    page.wait_for_url("**/compare?**")
    panel(page, "a")
    fits(page)


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
    panel(page, "a")
    badge = page.locator("#figure-a .verdict")
    assert re.search(r"[✓!✗○]\s*(pass|warn|fail|not run)", badge.inner_text())
    badge.hover()
    page.locator(".checks .check").first.wait_for()
    assert "threshold" in page.locator(".checks").inner_text()
