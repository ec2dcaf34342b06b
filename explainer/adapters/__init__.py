"""One file per framework: the only places where a framework's own objects are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def adapter_for(obj: Any) -> Callable[..., Any] | None:
    """The function that wraps ``obj``, found without importing a framework the object is not from."""
    bases = {f"{c.__module__.partition('.')[0]}.{c.__name__}" for c in type(obj).__mro__}
    if "torch.Module" in bases:
        from explainer.adapters.torch import wrap_torch

        return wrap_torch
    if "sklearn.BaseEstimator" in bases:
        from explainer.adapters.sklearn import wrap_sklearn

        return wrap_sklearn
    if callable(obj):
        from explainer.adapters.function import wrap_function

        return wrap_function
    return None
