"""What the browser tests do to a page."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

WAIT = 60_000


def panel(page: Any, side: str, patience: int = WAIT) -> Any:
    """The explanation in a panel, once it is there."""
    found = page.locator(f"#figure-{side}")
    found.wait_for(timeout=patience)
    return found


def choose(page: Any, selector: str, option: str) -> None:
    page.locator(selector).click()
    page.get_by_role("option", name=re.compile(rf"^{re.escape(option)}(\s*[=≈]|$)")).click()  # a method's level follows its name


def until(page: Any, told: Callable[[], bool], seconds: float = 30) -> None:
    """Wait in steps: the page's policy forbids the evaluation that playwright's own waiting is made of."""
    for _ in range(int(seconds / 0.1)):
        if told():
            return
        page.wait_for_timeout(100)
    pytest.fail("it did not happen in time")


def fits(page: Any) -> None:
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0, "something is cut off on the right"
