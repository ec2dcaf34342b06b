"""Adapter for scikit-learn estimators and pipelines, explained on the raw columns that enter them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from explainer.errors import InvalidInput, Unsupported
from explainer.model import Model

# How libraries with scikit-learn's interface are asked for logits.
_LOGITS = {"xgboost": "output_margin", "lightgbm": "raw_score"}


class SklearnModel(Model):
    """A fitted estimator or Pipeline behind the Model face."""

    framework = "sklearn"

    def __init__(self, estimator: Any, preprocess: Any, as_frame: bool, **names: Any) -> None:
        self.estimator = estimator
        self.preprocess = preprocess
        self._as_frame = as_frame
        super().__init__(**names)

    def raw(self, inputs: Any, at_once: int | None = None) -> np.ndarray:
        try:
            return self._predict(self.native(inputs))
        except (ValueError, TypeError) as error:
            missing = list(inputs.columns[inputs.isna().any()]) if hasattr(inputs, "isna") else []
            reason = f" Columns with missing values: {', '.join(map(str, missing[:6]))}." if missing else ""
            raise InvalidInput(f"{self.name} could not score the inputs: {error}{reason}") from error

    def native(self, inputs: Any) -> Any:
        """Canonical inputs in the form the estimator was fitted on."""
        if self.preprocess is not None:
            return self.preprocess(inputs)
        if self.modality == "tabular":
            return inputs if self._as_frame else inputs.to_numpy()
        return np.reshape(inputs, (len(inputs), -1)) if self.modality == "image" else inputs

    def _predict(self, given: Any) -> np.ndarray:
        if self.task == "regression":
            return np.asarray(self.estimator.predict(given), dtype=np.float64).reshape(len(given), -1)
        if self.returns == "probability":
            return np.asarray(self.estimator.predict_proba(given))
        if hasattr(self.estimator, "decision_function"):
            return np.asarray(self.estimator.decision_function(given)).reshape(len(given), -1)
        # XGBoost and LightGBM give logits under names of their own.
        return np.asarray(self.estimator.predict(given, **{_LOGITS[_library(self.estimator)]: True})).reshape(len(given), -1)

    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"{type(self.estimator)}{self.class_names}".encode())
        _digest(self.estimator, digest, set())
        return digest.hexdigest()


def wrap_sklearn(estimator: Any, **options: Any) -> SklearnModel:
    """Wrap a fitted estimator: names come from the estimator where it knows them. Raises InvalidInput, Unsupported."""
    from sklearn.base import is_regressor
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(estimator)
    except NotFittedError:
        raise InvalidInput(f"{type(estimator).__name__} is not fitted; call fit() before wrap().") from None
    task = options["task"] or ("regression" if is_regressor(estimator) else "classification")
    returns = options["returns"]
    if task == "classification" and not hasattr(estimator, "classes_"):
        raise Unsupported(
            f"{type(estimator).__name__} is neither a classifier nor a regressor. Wrap the function whose numbers are to be explained, as "
            "in explainer.wrap(lambda rows: estimator.decision_function(rows), modality='tabular', task='regression', background=rows)."
        )
    if task == "classification" and returns is None:
        returns = "probability" if hasattr(estimator, "predict_proba") else "logit"
    if task == "classification" and returns == "logit" and not hasattr(estimator, "decision_function") and not _library(estimator):
        if hasattr(estimator, "predict_proba"):
            raise Unsupported(f"{type(estimator).__name__} has no decision_function, so it gives no logits; leave returns= out.")
        raise Unsupported(f"{type(estimator).__name__} has neither predict_proba nor decision_function; it gives no scores to explain.")
    known = getattr(estimator, "feature_names_in_", None)
    names = options["feature_names"] or (list(known) if known is not None else None)
    background = options["background"]
    if names is None and hasattr(background, "columns"):
        names = [str(c) for c in background.columns]
    modality = options["modality"] or "tabular"
    if names is None and modality == "tabular":
        names = [f"x{j}" for j in range(getattr(estimator, "n_features_in_", 0))]
    classes = options["class_names"] or _classes(estimator, task)
    return SklearnModel(
        estimator, options["preprocess"], known is not None or _is_pipeline(estimator), modality=modality, task=task,
        returns=returns or "value", class_names=classes, feature_names=names or (),
        background=background, name=options["name"] or _name(estimator),
    )  # fmt: skip


def _classes(estimator: Any, task: str) -> list[str]:
    if task == "classification":
        return [str(c) for c in estimator.classes_]
    width = getattr(estimator, "n_outputs_", 1)
    return ["value"] if width == 1 else [f"output {j}" for j in range(width)]


def _library(estimator: Any) -> str:
    """The library of a boosted model with scikit-learn's interface, or nothing."""
    found = {c.__module__.partition(".")[0] for c in type(estimator).__mro__} & set(_LOGITS)
    return next(iter(found), "")


def _is_pipeline(estimator: Any) -> bool:
    return hasattr(estimator, "steps")


def _name(estimator: Any) -> str:
    return type(estimator.steps[-1][1]).__name__ if _is_pipeline(estimator) else type(estimator).__name__


def _digest(value: Any, digest: Any, seen: set[int]) -> None:
    """Walk a fitted object in a fixed order and hash what it holds; nothing is pickled."""
    if id(value) in seen:
        return
    if isinstance(value, np.ndarray) and value.dtype != object:
        digest.update(f"{value.shape}{value.dtype}".encode() + np.ascontiguousarray(value).tobytes())
    elif isinstance(value, (str, bytes, int, float, bool, complex, np.generic, type(None))):
        digest.update(repr(value).encode())
    elif isinstance(value, Mapping):
        for key in sorted(value, key=repr):
            digest.update(repr(key).encode())
            _digest(value[key], digest, seen)
    elif isinstance(value, (Sequence, np.ndarray)):
        for one in value:
            _digest(one, digest, seen)
    else:
        seen.add(id(value))
        digest.update(type(value).__qualname__.encode())
        # Compiled trees keep their state behind __getstate__ rather than in __dict__.
        state = getattr(value, "__dict__", None) or (value.__getstate__() if hasattr(value, "__getstate__") else None)
        _digest(state, digest, seen)
