"""How inputs are cut into named parts, per modality."""

from __future__ import annotations

from typing import Any

import numpy as np

from explainer.errors import InvalidInput, Unsupported
from explainer.features.base import Features
from explainer.inputs import take

BACKGROUND_ROWS = 50


def build(model: Any, inputs: Any, *, features: Any = "auto", baseline: Any = "auto", background: Any = None, seed: int = 0) -> Features:
    """The :class:`Features` of canonical ``inputs`` for ``model``.

    ``features``: "auto"; for tables a mapping group -> columns; for images "superpixels", "patches" or label maps.
    ``baseline``: "auto", "zeros", "mean", "blur" (images), "mask" (text), or canonical input to show where a part is absent.
    ``background``: rows that stand for the population; default is the model's own, at most 50 drawn with ``seed``.
    Raises Unsupported when a table has neither background nor baseline, InvalidInput for arguments that do not fit.
    """
    from explainer.features.image import Superpixels
    from explainer.features.series import Segments
    from explainer.features.tabular import Columns
    from explainer.features.text import Words

    given = model.background if background is None else model.canonical(background)
    if model.modality == "image":
        return Superpixels(inputs, features, baseline)
    if model.modality != "tabular" and not (isinstance(features, str) and features == "auto"):
        raise InvalidInput(f"features={features!r} is for tables and images; {model.modality} inputs take features='auto'.")
    if model.modality == "text":
        return Words(inputs, "" if isinstance(baseline, str) and baseline == "auto" else _mask_word(model, baseline))
    if model.modality == "series":
        return Segments(inputs, model.feature_names, baseline, given)
    if isinstance(features, str):
        if features != "auto":
            raise InvalidInput(
                f"features={features!r} is not for tables; pass a mapping such as {{'address': ['street', 'town']}}, or 'auto'."
            )
        features = None
    return Columns(inputs, _reference_rows(model, baseline, given, seed), features)


def _reference_rows(model: Any, baseline: Any, background: Any, seed: int) -> Any:
    from explainer.features.tabular import typical_row

    if not isinstance(baseline, str):
        return model.canonical(baseline).iloc[:1]
    if background is None:
        raise Unsupported(
            f"{model.name} has no background rows, so an absent column has no value to take. Pass background=training_rows to "
            "explain() or wrap(), or baseline=one_row."
        )
    if baseline in ("mean", "median"):
        return typical_row(background)
    if baseline != "auto":
        raise InvalidInput(f"baseline={baseline!r} is not for tables; use 'auto' (background rows), 'median', or one row.")
    if len(background) > BACKGROUND_ROWS:
        chosen = np.sort(np.random.default_rng(seed).choice(len(background), BACKGROUND_ROWS, replace=False))
        background = take(background, chosen)
    return background


def _mask_word(model: Any, baseline: Any) -> str:
    if baseline == "mask":
        return str(getattr(getattr(model, "preprocess", None), "mask_token", "[UNK]"))
    if isinstance(baseline, str) and baseline.strip() and baseline not in ("zeros", "mean", "blur"):
        return baseline
    raise InvalidInput(f"baseline={baseline!r} is not for text; use 'auto' (the word is removed), 'mask', or a word to put in its place.")
