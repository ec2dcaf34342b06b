"""Rule packs read from data, and what a report's evidence answers of them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from explainer.errors import unknown

# What the kinds of evidence are called beside the sections.
KINDS = {
    "cases": "an explained case that no check failed",
    "trust": "explanations that all pass their checks", "adverse": "an explained adverse decision",
    "reasons": "principal reasons that are stable", "ratio": "a ratio of selection rates",
    "overlap": "overlap with the training data", "drift": "drift", "personal": "a search for personal data",
    "reidentification": "re-identification",
}  # fmt: skip


@cache
def _packs() -> dict[str, Any]:
    return tomllib.loads(resources.files("explainer.reports").joinpath("profiles.toml").read_text("utf-8"))


def names() -> tuple[str, ...]:
    """The profiles a report can be written for."""
    return tuple(_packs()["profiles"])


def profile(name: str) -> dict[str, Any]:
    """Title, pack version and packs of a profile. Raises UnknownName with the nearest valid one."""
    data = _packs()
    if name not in data["profiles"]:
        raise unknown("profile", name, data["profiles"])
    found = data["profiles"][name]
    return {"name": name, "title": found["title"], "version": data["version"], "verified": data["verified"],
            "packs": {pack: data["packs"][pack] for pack in found["packs"]}}  # fmt: skip


def answers(found: Mapping[str, Any], answered: Mapping[str, bool]) -> list[dict[str, Any]]:
    """Per requirement: evidence present, partly present or not assessed, given which kinds of it there are (``answered``).

    "evidence given" says that the report holds what the requirement asks to see, never that the requirement is met.
    """
    rows = []
    for name, pack in found["packs"].items():
        for requirement in pack["requirements"]:
            wanted = requirement["evidence"]
            have = [s for s in wanted if answered.get(s)]
            lacking = [s for s in wanted if not answered.get(s)]
            complete = have and not lacking and not requirement["gap"]
            status = "evidence given" if complete else "partly" if have else "not assessed"
            rows.append(
                {"pack": name, "instrument": pack["instrument"], "paragraph": requirement["paragraph"], "text": requirement["text"],
                 "status": status, "evidence": [KINDS.get(k, k) for k in have], "lacking": [KINDS.get(k, k) for k in lacking],
                 "gap": requirement["gap"]}
            )  # fmt: skip
    return rows
