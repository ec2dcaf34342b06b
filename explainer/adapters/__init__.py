"""One file per framework: the only places where a framework's own objects are known."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from typing import Any


def adapter_for(obj: Any) -> Callable[..., Any] | None:
    """The function that wraps ``obj``, found without importing a framework the object is not from."""
    if isinstance(obj, (str, PathLike)):
        return _at(str(obj))
    bases = _bases(obj)
    pair = isinstance(obj, tuple) and len(obj) == 2 and "torch.Module" in _bases(obj[0])
    if "transformers.Pipeline" in bases or (pair and any(name.startswith("transformers.") for name in _bases(obj[1]))):
        from explainer.adapters.transformers import wrap_transformers

        return wrap_transformers
    if "torch.Module" in bases:
        from explainer.adapters.torch import wrap_torch

        return wrap_torch
    if "sklearn.BaseEstimator" in bases:
        from explainer.adapters.sklearn import wrap_sklearn

        return wrap_sklearn
    if bases & {"xgboost.Booster", "lightgbm.Booster"}:
        from explainer.adapters.boosters import wrap_booster

        return wrap_booster
    if "onnxruntime.InferenceSession" in bases:
        from explainer.adapters.onnx import wrap_onnx

        return wrap_onnx
    if callable(obj):
        from explainer.adapters.function import wrap_function

        return wrap_function
    return None


def _bases(obj: Any) -> set[str]:
    """Package and name of every class that ``obj`` is an instance of."""
    return {f"{c.__module__.partition('.')[0]}.{c.__name__}" for c in type(obj).__mro__}


def _at(place: str) -> Callable[..., Any] | None:
    """A model that is named by where it is: an ONNX file, or an endpoint."""
    if place.lower().startswith(("https://", "http://")):
        from explainer.adapters.http import wrap_http

        return wrap_http
    if place.lower().endswith((".onnx", ".ort")):
        from explainer.adapters.onnx import wrap_onnx

        return wrap_onnx
    return None
