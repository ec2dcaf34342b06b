"""Words of the command line that several commands take, and what they stand for."""

from __future__ import annotations

from typing import Any

import typer

MODEL = typer.Argument(
    metavar="MODEL", help="zoo:NAME, model.onnx, or path/to/file.py:factory, a function that returns a model.", show_default=False
)
DATA = "A file (csv, tsv, parquet, jsonl, npz, png, jpg, txt), a folder of images, or zoo:NAME; rows as in data.csv#3 or zoo:NAME#0-4."
JSON = typer.Option("--json", help="Print JSON for machines.")


def target_of(word: str, class_names: tuple[str, ...]) -> Any:
    """What ``--target`` says: a name as it stands; else "A over B" as a margin, or digits as a class index."""
    if word in class_names or word in ("predicted", "all"):
        return word
    first, over, second = word.partition(" over ")
    if over:
        return ("margin", target_of(first.strip(), class_names), target_of(second.strip(), class_names))
    return int(word) if word.isdigit() else word


def number(word: str | None) -> int | str | None:
    """``--budget``: digits as a number, anything else as it stands."""
    return int(word) if word is not None and word.isdigit() else word
