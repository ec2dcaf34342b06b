"""Adapter for plain callables: any function of the inputs that returns scores."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from explainer.adapters.outputs import held, names_of_classes
from explainer.errors import ExplainerError, InvalidInput
from explainer.inputs import take
from explainer.model import Model

_PROBED = 64  # background rows on which a function is asked what it gives


class FunctionModel(Model):
    """A callable ``inputs -> (n, outputs)`` or ``(n,)`` behind the Model face; seen from outside only."""

    def __init__(self, function: Callable[[Any], Any], preprocess: Callable[[Any], Any] | None, told: Any = None, **names: Any) -> None:
        self._function = function
        self.preprocess = preprocess
        self._told = told
        super().__init__(**names)

    def raw(self, inputs: Any, at_once: int | None = None) -> np.ndarray:
        try:
            given = self.handed_out(inputs)
            given = given if self.preprocess is None else self.preprocess(given)
            scores = np.asarray(self._function(given), dtype=np.float64)
        except (ExplainerError, MemoryError):
            raise  # the engine halves its batch after a MemoryError
        except Exception as error:
            raise InvalidInput(f"{self.name} could not score {_describe(inputs)}: {type(error).__name__}: {error}") from error
        if scores.shape[:1] != (len(inputs),):
            raise InvalidInput(f"{self.name} gave scores of shape {scores.shape} for {len(inputs)} inputs; (n,) or (n, outputs) is needed.")
        rows = scores.reshape(len(inputs), -1)
        if self.task == "classification":
            alone = rows.shape[1] == 1  # one number per row is the probability of the second of two classes
            held(rows, "probability" if alone and self._told is None else self._told, self.name)
        return rows

    @property
    def unhashed(self) -> str:
        return "The model is a plain function; its sha256 covers the code, not the objects that the code uses."

    def fingerprint(self) -> str:
        """sha256 of the function's code and constants; what it closes over is not seen."""
        code = getattr(self._function, "__code__", None) or getattr(getattr(self._function, "__func__", None), "__code__", None)
        body = repr(type(self._function)) if code is None else code_of(code)
        return hashlib.sha256(f"{getattr(self._function, '__qualname__', '')}{body}{self.class_names}".encode()).hexdigest()


def code_of(code: Any) -> str:
    """What a function's code does, the functions in it left out: their names change with each run."""
    return f"{code.co_code!r}{[c for c in code.co_consts if not hasattr(c, 'co_code')]!r}{code.co_names!r}"


def _describe(inputs: Any) -> str:
    shape = getattr(inputs, "shape", None)
    return f"inputs of shape {tuple(shape)}" if shape is not None else f"{len(inputs)} inputs"


def wrap_function(function: Callable[[Any], Any], **options: Any) -> FunctionModel:
    """Wrap a callable. ``modality`` is needed; class names are counted on the background when they are not given."""
    if options["modality"] is None:
        raise InvalidInput(
            "wrap() of a function needs modality='tabular', 'image', 'text' or 'series': it cannot be told from the function."
        )
    names, background = options["class_names"], options["background"]
    task = options["task"] or ("regression" if options["returns"] == "value" else "classification")
    feature_names = options["feature_names"]
    if feature_names is None:
        feature_names = [str(c) for c in background.columns] if hasattr(background, "columns") else ()
    name = options["name"] or getattr(function, "__name__", type(function).__name__)
    common = {
        "modality": options["modality"], "feature_names": feature_names, "background": background, "task": task,
        "returns": options["returns"] or "probability", "told": options["returns"], "name": name,
    }  # fmt: skip
    if names is None:
        names = _count_outputs(function, options["preprocess"], common)
    return FunctionModel(function, options["preprocess"], class_names=names, **common)


def _count_outputs(function: Callable[[Any], Any], preprocess: Any, common: dict[str, Any]) -> list[str]:
    if common["background"] is None:
        raise InvalidInput("wrap() of a function needs class_names=[...] (or background=, on which its outputs can be counted).")
    probe = FunctionModel(function, preprocess, class_names=("?",), **common)
    width = probe.raw(take(probe.background, slice(0, _PROBED))).shape[1]
    return names_of_classes(None, width, probe.task, probe.name)
