"""A report's forms, each drawn from the evidence alone: JSON, HTML, PDF, and the manifest of their hashes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from explainer.explanation import versions
from explainer.reports import document, html, pdf

SCHEMA = 2
FORMATS = ("html", "pdf", "json")
MANIFEST = "manifest.json"
KIND = "explainer audit report"
_DRAWN = {"html": html.render, "pdf": pdf.render}
_SOURCES = (".py", ".toml", ".css", ".typ")


@cache
def drawing() -> str:
    """sha256 of what draws a report: this room's code and templates, typst, and the package that brings the fonts.

    Where it is the same, the same evidence gives the same bytes.
    """
    digest = hashlib.sha256(json.dumps(versions("typst", "matplotlib"), sort_keys=True).encode())
    room = resources.files("explainer.reports")
    for file in sorted((*room.iterdir(), *room.joinpath("templates").iterdir()), key=lambda file: file.name):
        if file.name.endswith(_SOURCES):
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def canonical(evidence: Mapping[str, Any]) -> bytes:
    """The bytes of report.json (RFC 8785)."""
    import rfc8785

    return rfc8785.dumps(dict(evidence))


def drawn(content: bytes, formats: Sequence[str]) -> dict[str, bytes]:
    """The files, by name, that ``formats`` ask for, from the bytes of report.json: a later reader has no more to draw them from."""
    evidence = json.loads(content)
    composed = document.compose(evidence, evidence["figures"], hashlib.sha256(content).hexdigest())
    return {f"report.{name}": content if name == "json" else _DRAWN[name](composed) for name in FORMATS if name in formats}


def manifest(evidence: Mapping[str, Any], digest: str, files: Mapping[str, bytes]) -> dict[str, Any]:
    """What a report is of, and the sha256 and size of each of its files."""
    return {
        "schema": evidence["schema"], "kind": KIND, "name": evidence["name"], "date": evidence["date"],
        "profile": evidence["profile"]["name"], "toolkit": evidence["toolkit"], "inputs": evidence["inputs"], "evidence_sha256": digest,
        "files": {name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)} for name, content in files.items()},
    }  # fmt: skip
