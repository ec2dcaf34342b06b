"""Changing an input in a real, headless Chromium."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from browsing import panel, until

pytestmark = pytest.mark.browser


def test_a_changed_column_moves_score_and_explanations(visit: Callable[..., Any], address: str) -> None:
    page = visit(f"{address}/inspect?model=small-table&row=3&target=1")
    before = {side: float(panel(page, side).get_attribute("data-score")) for side in "ab"}
    field = page.get_by_label("income")
    field.fill(str(float(field.input_value()) + 40))
    field.press("Tab")
    page.get_by_text("undo the change").wait_for()
    for side in "ab":
        page.locator(f"#figure-{side}:not([data-score='{before[side]:.6f}'])").wait_for()
        assert float(panel(page, side).get_attribute("data-score")) > before[side] + 0.01
    assert page.locator(".prob-before").count() == 2
    page.get_by_text("undo the change").click()
    page.locator(f"#figure-a[data-score='{before['a']:.6f}']").wait_for()
    until(page, lambda: "row=3" in page.url)


def test_a_change_stays_with_its_row_its_link_and_its_reload(visit: Callable[..., Any], address: str) -> None:
    page = visit(f"{address}/inspect?model=small-table&row=3")
    before = panel(page, "a").get_attribute("data-score")
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
    until(page, lambda: page.get_by_label("income").input_value() == "2e1")
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
    before, held = panel(page, "a").get_attribute("data-score"), page.get_by_label("income").input_value()
    page.get_by_label("income").fill(value)
    page.locator(".change-note .bad", has_text=f"income takes a number; '{value}' came").wait_for()
    page.locator(".field-changed", has_text="not a number").wait_for()
    page.locator("#probabilities .stale").wait_for()
    assert page.locator("#figure-a").count() == 0
    page.locator("[data-undo]").click()
    page.locator(f"#figure-a[data-score='{before}']").wait_for()
    until(page, lambda: page.get_by_label("income").input_value() == held and page.locator("#probabilities .stale").count() == 0)


def test_changed_words_move_the_score(visit: Callable[..., Any], address: str) -> None:
    page = visit(f"{address}/inspect?model=small-texts&row=2&target=1")
    before = float(panel(page, "a").get_attribute("data-score"))
    page.locator("#change textarea").first.fill("You may, free, permission granted.")
    page.locator(f"#figure-a:not([data-score='{before:.6f}'])").wait_for()
    assert float(panel(page, "a").get_attribute("data-score")) > 0.9
    page.locator("#change textarea").first.fill("   ")
    page.locator(".change-note .bad", has_text="empty").wait_for()
    page.locator("[data-undo]").click()
    page.locator(f"#figure-a[data-score='{before:.6f}']").wait_for()
    page.locator("#change textarea").first.fill("free may " * 400)
    page.get_by_text("too large for the address").wait_for()
    page.get_by_role("link", name="Compare").click()
    page.locator(".compare .change-note", has_text="another text, 800 words").wait_for()
    until(page, lambda: "edit=" not in page.url)
    page.get_by_role("link", name="Inspect").click()
    until(page, lambda: len(page.locator("#change textarea").first.input_value()) == 3600)
    page.locator("[data-undo]").click()
    page.locator(f"#figure-a[data-score='{before:.6f}']").wait_for()


def test_an_uploaded_and_a_drawn_picture_move_the_score(visit: Callable[..., Any], address: str) -> None:
    from PIL import Image

    page = visit(f"{address}/inspect?model=small-images&row=3&target=0")
    before = float(panel(page, "a").get_attribute("data-score"))
    picture = np.zeros((48, 48), dtype=np.uint8)
    picture[:, :24] = 255
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    page.locator("#edit-upload input").set_input_files({"name": "left.png", "mimeType": "image/png", "buffer": buffer.getvalue()})
    page.locator(f"#figure-a:not([data-score='{before:.6f}'])").wait_for()
    uploaded = float(panel(page, "a").get_attribute("data-score"))
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
    before = panel(page, "a").get_attribute("data-score")
    page.locator("#edit-scale [role=slider]").focus()
    for _ in range(10):
        page.keyboard.press("ArrowLeft")
    page.locator(f"#figure-a:not([data-score='{before}'])").wait_for()
    page.locator(".tag-changed").wait_for()
