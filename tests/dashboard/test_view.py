from __future__ import annotations

import pytest
from werkzeug.exceptions import BadRequest

from dashboard.view import View


def test_an_address_says_it_all_again() -> None:
    view = View(
        "digits-cnn",
        417,
        "shap",
        "lime",
        "3",
        "4,9",
        "sure",
        "near duplicates",
        "finance",
        "blocks.0",
        "",
        "head.3",
        7,
        12,
        "logit",
        "not run",
        "drift",
        "a few words",
        '{"values":{"income":"5 & 6"}}' + " " * 600,
        "yes",
        8192,
        "income",
        "ale",
    )
    assert View.parse(view.search) == view
    assert View().search == ""
    assert View("a&b=c d", 1).search == "?model=a%26b%3Dc+d&row=1"


@pytest.mark.parametrize(
    ("search", "field", "value"),
    [
        ("?row=-1", "row", None),
        ("?row=1e9", "row", None),
        ("?row=" + "9" * 40, "row", None),
        ("?row=٣", "row", None),
        ("?unit=-1", "unit", None),
        ("?other=7", "other", 7),
        ("?budget=0", "budget", None),
        ("?budget=lots", "budget", None),
        ("?cell=4", "cell", ""),
        ("?cell=4,9,1", "cell", ""),
        ("?order=sideways", "order", ""),
        ("?state=failed", "state", ""),
        ("?state=not+run", "state", "not run"),
        ("?target=<script>", "target", ""),
        ("?row=1&row=2", "row", 2),
        ("?unknown=1&&&=;%ff", "model", ""),
    ],
)
def test_a_mistyped_address_falls_back(search: str, field: str, value: object) -> None:
    assert getattr(View.parse(search), field) == value


def test_what_is_no_address_at_all_is_refused() -> None:
    assert View.parse(None) == View()
    for wrong in (5, ["?row=1"], {"row": 1}):
        with pytest.raises(BadRequest):
            View.parse(wrong)


def test_a_cell_is_two_numbers() -> None:
    assert View.parse("?cell=4,9").pair == (4, 9)
    assert View().pair is None
