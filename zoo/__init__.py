"""Trained reference models with their data, cards and training records.

``zoo.load("digits-cnn")`` gives a :class:`Specimen`; ``zoo.names()`` lists them. Names are loaded when first used, so that
``import zoo`` loads no framework.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.registry import Specimen as Specimen
    from zoo.registry import load as load
    from zoo.registry import missing as missing
    from zoo.registry import names as names

__all__ = ["Specimen", "load", "missing", "names"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'zoo' has no attribute {name!r}; it offers {', '.join(__all__)}")
    value = getattr(importlib.import_module("zoo.registry"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
