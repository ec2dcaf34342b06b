"""Results handed over to the libraries people already use."""

from __future__ import annotations

from typing import Any

import numpy as np

from explainer.errors import Unsupported
from explainer.explanation import Explanation


def to_shap(ex: Explanation) -> Any:
    """A ``shap.Explanation`` with the same values, base values, data and names. Raises Unsupported for NaN-padded batches."""
    import shap

    if ex.modality == "tabular":
        names = list(ex.feature_names[0])
        data = ex.inputs.to_numpy() if set(names) == set(map(str, ex.inputs.columns)) else None
        return shap.Explanation(
            np.array(ex.values), np.array(ex.base_values), data=data, feature_names=names, output_names=_outputs(ex),
            error_std=None if ex.stderr is None else np.array(ex.stderr),
        )  # fmt: skip
    if ex.modality == "image" and ex.axes[1:3] == ("row", "column"):
        values = np.array(ex.values)[:, :, :, None] if "output" not in ex.axes else np.array(ex.values)[:, :, :, None, :]
        data = ex.inputs if ex.inputs.ndim == 4 else ex.inputs[..., None]
        return shap.Explanation(values, np.array(ex.base_values), data=data, output_names=_outputs(ex))
    if len(ex) > 1 and len({one.values.shape for one in ex}) > 1:
        raise Unsupported("Inputs of unequal length do not fit one shap.Explanation; convert them one by one: ex[i].to_shap().")
    flat, own = np.array(ex.values), list(ex.feature_names[0])
    if len(own) < int(np.prod(ex.values[0].shape[: flat.ndim - 1 - ("output" in ex.axes)])) and flat.ndim > 2:
        # Pairs of parts, and the units of a layer, keep their axes; the first of them has the names.
        data = np.array(ex.feature_names, dtype=object) if any(axis.startswith("other ") for axis in ex.axes) else None
    else:
        flat = flat.reshape(len(ex), len(own), *([flat.shape[-1]] if "output" in ex.axes else []))
        data = np.array(ex.feature_names, dtype=object)
    return shap.Explanation(flat, np.array(ex.base_values), data=data, feature_names=own, output_names=_outputs(ex))


def _outputs(ex: Explanation) -> list[str] | None:
    return list(ex.class_names) if "output" in ex.axes else None
