from __future__ import annotations

import pytest

from explainer.reports import wording
from explainer.reports.markdown import blocks_of


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0.9996, "0.9996"),
        (1.0, "1"),
        (0.123456, "0.123"),
        (-0.5, "−0.5"),
        (12345.6, "12,346"),
        (1e-7, "1e-7"),
        (float("nan"), "–"),
        (None, "–"),
    ],
)
def test_numbers_as_people_read_them(value: float | None, told: str) -> None:
    assert wording.number(value) == told


def test_a_value_is_told_against_the_largest() -> None:
    assert wording.beside(1e-6, 1.0) == "≈ 0"
    assert wording.beside(0.25, 1.0, sign=True) == "+0.25"
    assert wording.beside(0.0, 0.0) == "0"


def test_markdown_of_a_card_becomes_blocks() -> None:
    text = "# Title\n\nSome **bold** [words](x).\n- one\n- two\n  more\n\n"
    text += "| a | b |\n| --- | --: |\n| 1 | 2 |\n\n```\ncode # not a heading\n```\n"
    found = blocks_of(text)
    assert [b["kind"] for b in found] == ["heading", "text", "list", "table", "code"]
    assert found[1]["text"] == "Some bold words."
    assert found[2]["items"] == ["one", "two more"]
    assert [c["title"] for c in found[3]["columns"]] == ["a", "b"] and found[3]["rows"] == [["1", "2"]]
    assert found[4]["text"] == "code # not a heading"


def test_front_matter_of_a_card_becomes_facts() -> None:
    card = "---\nlicense: apache-2.0\ntags:\n- one\n- two\nmodel-index:\n- name: x\n  results:\n  - value: 0.9\n---\n\n# Title\n"
    facts, heading = blocks_of(card)
    assert facts == {"kind": "facts", "items": [["license", "apache-2.0"], ["tags", "one, two"]]} and heading["text"] == "Title"
    assert [b["kind"] for b in blocks_of("---\nno end")] == ["text"]
