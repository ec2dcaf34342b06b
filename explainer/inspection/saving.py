"""Results of this room as JSON files: plain numbers and words, what is not a number as null, nothing pickled."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from explainer.errors import CorruptFile, InvalidInput
from explainer.explanation import Provenance, write_atomic

SCHEMA = 1
# Class of a result -> its module.
_HOMES = {
    "Ablation": "ablation", "Activations": "activations", "Concepts": "concepts", "Counterfactuals": "counterfactuals",
    "Dependence": "dependence", "HeadImportance": "heads", "Importance": "importance", "LogitLens": "lens", "Patching": "patching",
    "PermutationImportance": "permutation", "Probing": "probes", "Reasons": "notices", "Visualisation": "visualisation",
}  # fmt: skip


def save(result: Any, path: str | os.PathLike[str]) -> Path:
    """Write a frozen result as JSON, whole or not at all."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    fields = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    text = json.dumps({"result": type(result).__name__, "schema": SCHEMA, **plain(fields)}, indent=1, allow_nan=False, ensure_ascii=False)
    write_atomic(file, lambda handle: handle.write(text.encode()))
    return file


def load(path: str | os.PathLike[str], kind: str) -> dict[str, Any]:
    """The fields of a saved result. Raises InvalidInput for a missing file, CorruptFile for another one."""
    file = Path(path)
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if found.pop("result") != kind or found.pop("schema") > SCHEMA:
            raise CorruptFile(f"{file} holds no {kind} that this version reads; save one with .save(path).")
        return dict(found)
    except FileNotFoundError:
        raise InvalidInput(f"There is no file {file}; save one with .save(path).") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorruptFile(f"{file} is not a saved {kind} ({type(error).__name__}: {error}). Compute and save it again.") from None


def reopen(path: str | os.PathLike[str]) -> Any:
    """A saved result of any kind, by the name in its file. Raises InvalidInput, CorruptFile."""
    file = Path(path)
    try:
        kind = json.loads(file.read_text(encoding="utf-8"))["result"]
        home = _HOMES[kind]
    except (KeyError, TypeError, ValueError) as error:
        why = f"{type(error).__name__}: {error}"
        raise CorruptFile(f"{file} is no saved result ({why}); explanations are folders, the others are {', '.join(_HOMES)}.") from None
    return getattr(importlib.import_module(f"explainer.inspection.{home}"), kind).load(file)


def provenance(entry: Mapping[str, Any]) -> Provenance:
    return Provenance(**{**entry, "notes": tuple(entry["notes"])})


def plain(value: Any) -> Any:
    """JSON of dataclasses, mappings, sequences and numpy; what is not finite becomes None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)
