from __future__ import annotations

import pytest

from explainer.numerals import rounded


@pytest.mark.parametrize(
    ("value", "digits", "said"),
    [
        (60.4, 1, "60"),
        (0.0234, 1, "0.02"),
        (5.1e-8, 1, "5e-08"),
        (42_920.3, 4, "42,920"),
        (134.84, 4, "134.8"),
        (0.012345, 3, "0.0123"),
        (12_345, 3, "12,300"),
        (-999.7, 3, "-1,000"),
        (2.0, 3, "2"),
        (2.5e20, 3, "2.5e+20"),
        (float("inf"), 3, "inf"),
        (float("nan"), 3, "not a number"),
    ],
)
def test_numbers_are_written_as_people_write_them(value: float, digits: int, said: str) -> None:
    assert rounded(value, digits) == said
