"""The pages about the data, the model and the report, in a real, headless Chromium."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browsing import choose, fits, until

pytestmark = pytest.mark.browser


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
    until(page, lambda: page.locator(".finding-pass, .finding-fail").count() == 0)
    assert page.locator(".finding-not-run").count() and page.get_by_text("these are no passes").count()
    choose(page, "#check-pick", "missing values")
    page.wait_for_url("**check=missing+values**")
    page.locator(".finding-opened", has_text="missing values").wait_for()
    assert page.locator(".finding").count() == 1
    page.get_by_role("button", name="All checks").click()
    page.locator(".finding-not-run").first.wait_for()
    page.goto(f"{address}/data?model=small-table&check=missing+value")
    page.get_by_text("No check of these data is called 'missing value'").wait_for()
    fits(page)


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
    choose(page, "#profile", "Finance")
    page.wait_for_url("**profile=finance**")
    page.get_by_role("heading", name="What Finance asks for").wait_for()
    choose(page, "#favourable", "granted")
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
    until(page, lambda: "column=" not in page.url)
    choose(page, "#dependence-column", "debt")
    card.locator(".js-plotly-plot", has_text="debt").wait_for()
    card.get_by_text("local effects", exact=True).click()
    card.get_by_text("columns that go together are kept apart").wait_for()
    until(page, lambda: "column=debt" in page.url and "curve=ale" in page.url)
    fits(page)
