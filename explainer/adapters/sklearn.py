"""Adapter for scikit-learn estimators and pipelines, explained on the raw columns that enter them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np

from explainer import inputs as inputs_
from explainer.adapters.function import code_of
from explainer.adapters.outputs import held, names_of_classes
from explainer.errors import ExplainerError, InvalidInput, Unsupported
from explainer.model import Model

# Packages whose code their version tells.
_CODE_KNOWN = (
    "sklearn",
    "numpy",
    "scipy",
    "pandas",
    "joblib",
    "xgboost",
    "lightgbm",
    "builtins",
    "functools",
    "_thread",
    "explainer",
    "zoo",
)
_HELD = 256  # background rows on which the largest scores are held against what is predicted
_TIES = 0.05  # of the rows may differ: votes that are equal are settled in other ways by predict()
# How libraries with scikit-learn's interface are asked for logits.
_LOGITS = {"xgboost": "output_margin", "lightgbm": "raw_score"}


class SklearnModel(Model):
    """A fitted estimator or Pipeline behind the Model face."""

    framework = "sklearn"

    def __init__(self, estimator: Any, preprocess: Any, as_frame: bool | None, **names: Any) -> None:
        self.estimator = estimator
        self.preprocess = preprocess
        self._as_frame = as_frame  # None: no names were recorded when it was fitted, and no row has been scored yet
        self._held = False  # whether the largest scores were held against what it predicts
        super().__init__(**names)

    def raw(self, inputs: Any, at_once: int | None = None) -> np.ndarray:
        try:
            return self._predict(self.native(inputs))
        except (ExplainerError, MemoryError):
            raise
        except Exception as error:
            missing = list(inputs.columns[inputs.isna().any()]) if hasattr(inputs, "isna") else []
            reason = f" Columns with missing values: {', '.join(map(str, missing[:6]))}." if missing else ""
            raise InvalidInput(f"{self.name} could not score the inputs: {error}{reason}") from error

    def native(self, inputs: Any) -> Any:
        """A copy of canonical inputs in the form the estimator was fitted on."""
        if self.preprocess is not None:
            return self.preprocess(self.handed_out(inputs))
        if self.modality != "tabular":
            return np.array(inputs).reshape(len(inputs), -1) if self.modality == "image" else inputs_.handed_out(inputs)
        if self._as_frame is None:
            self._as_frame = self._needs_frame(inputs.iloc[:1])
        return self.handed_out(inputs) if self._as_frame else inputs.to_numpy(copy=True)

    def _needs_frame(self, row: Any) -> bool | None:
        """Whether the estimator scores a row as a frame and not as an array; None where it scores it as neither."""
        for form, given in ((False, row.to_numpy(copy=True)), (True, self.handed_out(row))):
            try:
                self._predict(given)
            except Exception:  # what is wrong with the row itself is said where it is scored
                continue
            return form
        return None

    def _predict(self, given: Any) -> np.ndarray:
        if self.task == "regression":
            return np.asarray(self.estimator.predict(given), dtype=np.float64).reshape(len(given), -1)
        if self.returns == "probability":
            found = np.asarray(self.estimator.predict_proba(given))
            held(found, "probability", f"predict_proba of {self.name}")
            return found
        if hasattr(self.estimator, "decision_function"):
            found = np.asarray(self.estimator.decision_function(given)).reshape(len(given), -1)
            pairwise = getattr(_last(self.estimator), "decision_function_shape", "ovr") == "ovo"
            return _by_class(found, len(self.class_names)) if pairwise and len(self.class_names) > 2 else found
        # XGBoost and LightGBM give logits under names of their own.
        return np.asarray(self.estimator.predict(given, **{_LOGITS[_library(self.estimator)]: True})).reshape(len(given), -1)

    def meet(self, inputs: Any) -> None:
        """Hold the class of the largest score against ``predict``, once, where scores are no probabilities. Raises Unsupported."""
        if self._held or self.task == "regression" or self.returns == "probability":
            return
        rows = inputs if self.background is None else inputs_.take(self.background, slice(0, _HELD))
        said = np.asarray(self.estimator.predict(self.native(rows)))
        largest = np.asarray(self.estimator.classes_)[self.rescale(self.raw(rows), "logit").argmax(1)]
        wrong = int((said != largest).sum())
        if wrong > _TIES * len(rows):
            raise Unsupported(
                f"The class with the largest decision_function of {self.name} is not the one that predict() gives in {wrong} of "
                f"{len(rows)} rows, so these are no scores of the classes. Wrap a function of the rows that returns one score per class, "
                "with class_names=."
            )
        self._held = True

    @property
    def unhashed(self) -> str:
        strange = self._digested()[1]
        named = ", ".join(sorted(strange)[:3])
        code = f"The model's sha256 does not cover all that {named} decide by: code, or objects that the code uses." if strange else ""
        return " ".join(filter(None, (code, super().unhashed)))

    def fingerprint(self) -> str:
        return self._digested()[0]

    def _digested(self) -> tuple[str, set[str]]:
        digest, strange = hashlib.sha256(f"{type(self.estimator)}{self.class_names}".encode()), set[str]()
        _digest(self.estimator, digest, set(), strange)
        return digest.hexdigest(), strange


def wrap_sklearn(estimator: Any, **options: Any) -> SklearnModel:
    """Wrap a fitted estimator: names come from the estimator where it knows them. Raises InvalidInput, Unsupported."""
    from sklearn.base import is_regressor
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(estimator)
    except NotFittedError:
        raise InvalidInput(f"{type(estimator).__name__} is not fitted; call fit() before wrap().") from None
    if isinstance(getattr(estimator, "classes_", None), list):
        raise Unsupported(
            f"{type(estimator).__name__} predicts {len(estimator.classes_)} labels at once, each with its own classes. Wrap one of them, "
            "as in explainer.wrap(lambda rows: estimator.predict_proba(rows)[0], modality='tabular', class_names=[...], background=rows)."
        )
    task = options["task"] or ("regression" if is_regressor(estimator) else "classification")
    returns = options["returns"]
    if task == "classification" and not hasattr(estimator, "classes_"):
        raise Unsupported(
            f"{type(estimator).__name__} is neither a classifier nor a regressor. Wrap the function whose numbers are wanted, as in "
            f"explainer.wrap(lambda rows: estimator.{_numbers(estimator)}(rows), modality='tabular', task='regression', background=rows)."
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
    modality = options["modality"] or ("text" if _reads_text(estimator) else "tabular")
    if names is None and modality == "tabular":
        names = [f"x{j}" for j in range(getattr(estimator, "n_features_in_", 0))]
    common = {
        "modality": modality, "task": task, "returns": returns or "value", "feature_names": names or (), "background": background,
        "name": options["name"] or _name(estimator),
    }  # fmt: skip
    as_frame = None if known is None else True
    classes = options["class_names"]
    if classes is None and task == "classification":
        classes = list(estimator.classes_)
    if classes is None:
        draft = SklearnModel(estimator, options["preprocess"], as_frame, class_names=("?",), **common)
        classes = (
            [str(c) for c in estimator.classes_] if task == "classification" else names_of_classes(None, _width(draft), task, draft.name)
        )
    model = SklearnModel(estimator, options["preprocess"], as_frame, class_names=classes, **common)
    if model.background is not None:
        model.meet(model.background)
    return model


def _width(model: SklearnModel) -> int:
    """How many numbers a regression gives, seen on a background row or, where that can be made up, a row of zeros."""
    row = model.background
    if row is None and model.modality == "tabular" and model.feature_names:
        row = inputs_.canonical(np.zeros((1, len(model.feature_names))), "tabular", model.feature_names)
    try:
        return 1 if row is None else int(model.raw(inputs_.take(row, slice(0, 1))).shape[1])
    except InvalidInput:
        return 1


def _by_class(pairs: np.ndarray, classes: int) -> np.ndarray:
    """Scores of the classes from the decisions ``(n, pairs)`` between two of them (positive: the first).

    Votes, and among equals the sum of the decisions brought below a third, as in ``decision_function_shape="ovr"``.
    """
    votes, sums = np.zeros((2, len(pairs), classes))
    for decision, (first, second) in zip(pairs.T, combinations(range(classes), 2), strict=True):
        votes[:, first] += decision >= 0
        votes[:, second] += decision < 0
        sums[:, first] += decision
        sums[:, second] -= decision
    return votes + sums / (3 * (np.abs(sums) + 1))


def _last(estimator: Any) -> Any:
    """The estimator that gives the scores, inside pipelines and searches."""
    while True:
        inner = estimator.steps[-1][1] if _is_pipeline(estimator) else getattr(estimator, "best_estimator_", None)
        if inner is None:
            return estimator
        estimator = inner


def _reads_text(estimator: Any) -> bool:
    """Whether what the inputs enter first is a vectoriser of texts."""
    while _is_pipeline(estimator) or hasattr(estimator, "best_estimator_"):
        estimator = estimator.steps[0][1] if _is_pipeline(estimator) else estimator.best_estimator_
    return hasattr(estimator, "build_tokenizer")


def _numbers(estimator: Any) -> str:
    """A method of an estimator without a target that gives numbers for rows."""
    return next((name for name in ("decision_function", "score_samples", "transform", "predict") if hasattr(estimator, name)), "method")


def _library(estimator: Any) -> str:
    """The library of a boosted model with scikit-learn's interface, or nothing."""
    found = {c.__module__.partition(".")[0] for c in type(estimator).__mro__} & set(_LOGITS)
    return next(iter(found), "")


def _is_pipeline(estimator: Any) -> bool:
    return hasattr(estimator, "steps")


def _name(estimator: Any) -> str:
    return type(estimator.steps[-1][1]).__name__ if _is_pipeline(estimator) else type(estimator).__name__


def _digest(value: Any, digest: Any, seen: set[int], strange: set[str]) -> None:
    """Walk a fitted object in a fixed order and hash what it holds; nothing is pickled. ``strange`` gets the names of what decides by
    code or objects that are not hashed: classes and functions of other packages than known ones.
    """
    if id(value) in seen:
        return
    if isinstance(value, np.ndarray) and value.dtype != object:
        digest.update(f"{value.shape}{value.dtype}".encode() + np.ascontiguousarray(value).tobytes())
    elif isinstance(value, (str, bytes, int, float, bool, complex, np.generic, type(None))):
        digest.update(repr(value).encode())
    elif isinstance(value, Mapping):
        for key in sorted(value, key=repr):
            digest.update(repr(key).encode())
            _digest(value[key], digest, seen, strange)
    elif isinstance(value, (Sequence, np.ndarray)):
        for one in value:
            _digest(one, digest, seen, strange)
    else:
        seen.add(id(value))
        digest.update(f"{type(value).__qualname__}{getattr(value, '__name__', '')}".encode())
        if str(getattr(value, "__module__", None) or "builtins").partition(".")[0] not in _CODE_KNOWN:
            strange.add(getattr(value, "__name__", type(value).__qualname__))
        _digest(_held(value), digest, seen, strange)


def _held(value: Any) -> Any:
    """What an object decides by: its code, its trees, or its attributes."""
    if hasattr(value, "__code__"):
        return code_of(value.__code__), getattr(value, "__self__", None)
    if isinstance(value, partial):
        return value.func, value.args, value.keywords
    if any(c.__name__ == "Booster" for c in type(value).__mro__):  # of XGBoost or LightGBM: a pointer, which says nothing of its trees
        return bytes(value.save_raw("ubj")) if hasattr(value, "save_raw") else value.model_to_string()
    # Compiled trees keep their state behind __getstate__ rather than in __dict__.
    return getattr(value, "__dict__", None) or (value.__getstate__() if hasattr(value, "__getstate__") else None)
