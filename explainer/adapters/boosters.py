"""XGBoost's and LightGBM's own Booster behind scikit-learn's interface, so that they are wrapped and read as their estimators are."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from explainer.adapters.sklearn import SklearnModel, wrap_sklearn
from explainer.errors import InvalidInput, Unsupported

_PROBABILITIES = ("binary:logistic", "binary:logitraw", "multi:softprob", "multi:softmax")  # of XGBoost: the link of its margins is known


class Trained(BaseEstimator):
    """A booster that came trained: ``raw`` are the sums of its trees, ``told`` is what it predicts."""

    def fit(self, rows: Any, labels: Any) -> None:
        """Raises Unsupported."""
        raise Unsupported("A Booster that came trained is not trained again here.")

    def raw(self, rows: Any) -> np.ndarray:
        raise NotImplementedError

    def told(self, rows: Any) -> np.ndarray:
        raise NotImplementedError

    def __sklearn_is_fitted__(self) -> bool:
        return True


class XGBBooster(Trained):
    """Scores all trees of a copy, as ``Booster.predict`` does, though training may have noted a better number of them."""

    def __init__(self, booster: Any) -> None:
        self.booster = booster.copy()
        self.booster.set_attr(best_iteration=None, best_score=None)
        self.n_features_in_ = booster.num_features()
        if booster.feature_names:
            self.feature_names_in_ = np.array(booster.feature_names, dtype=object)

    def get_booster(self) -> Any:
        return self.booster

    def raw(self, rows: Any) -> np.ndarray:
        return self._predicted(rows, margin=True)

    def told(self, rows: Any) -> np.ndarray:
        return self._predicted(rows, margin=False)

    def _predicted(self, rows: Any, margin: bool) -> np.ndarray:
        import xgboost

        return np.asarray(self.booster.predict(xgboost.DMatrix(rows, enable_categorical=True), output_margin=margin), dtype=np.float64)


class LGBMBooster(Trained):
    """Scores as ``Booster.predict`` does: up to the best iteration, where training noted one."""

    def __init__(self, booster: Any) -> None:
        self.booster = self.booster_ = booster
        self.n_features_in_ = booster.num_feature()
        names = booster.feature_name()
        if names != [f"Column_{j}" for j in range(len(names))]:  # what it calls columns that came without names
            self.feature_names_in_ = np.array(names, dtype=object)

    def raw(self, rows: Any) -> np.ndarray:
        return np.asarray(self.booster.predict(rows, raw_score=True))

    def told(self, rows: Any) -> np.ndarray:
        return np.asarray(self.booster.predict(rows))


class Numbers(RegressorMixin, Trained):
    """What it predicts are numbers."""

    def predict(self, rows: Any) -> np.ndarray:
        return self.told(rows)


class Classes(ClassifierMixin, Trained):
    """What it predicts are the probabilities of classes 0 to k - 1, of two classes that of the second."""

    def decision_function(self, rows: Any) -> np.ndarray:
        return self.raw(rows)

    def predict_proba(self, rows: Any) -> np.ndarray:
        found = self.told(rows)
        return found if found.ndim == 2 else np.stack([1 - found, found], axis=1)

    def predict(self, rows: Any) -> np.ndarray:
        return self.predict_proba(rows).argmax(1)


# Readers of trees know an estimator by how its name begins.
class XGBBoosterRegressor(Numbers, XGBBooster):
    pass


class LGBMBoosterRegressor(Numbers, LGBMBooster):
    pass


class LGBMBoosterClassifier(Classes, LGBMBooster):
    pass


class XGBBoosterClassifier(Classes, XGBBooster):
    def told(self, rows: Any) -> np.ndarray:
        margins = self.raw(rows)  # some objectives predict margins or the likeliest class
        return softmax(margins, axis=1) if margins.ndim == 2 else expit(margins)


def wrap_booster(booster: Any, **options: Any) -> SklearnModel:
    """Wrap a Booster by its objective: classes 0 to k - 1, or numbers.

    Raises Unsupported for an objective whose link is not known, InvalidInput for one that is not trained.
    """
    library = "xgboost" if any(c.__module__.partition(".")[0] == "xgboost" for c in type(booster).__mro__) else "lightgbm"
    estimator, classes = (_xgboost if library == "xgboost" else _lightgbm)(booster, options["task"], options["returns"])
    if classes:
        estimator.classes_ = np.arange(classes)
    given = getattr(options["background"], "columns", None)
    if given is not None and [str(c).replace(" ", "_") for c in given] == list(getattr(estimator, "feature_names_in_", ())):
        estimator.feature_names_in_ = np.array([str(c) for c in given], dtype=object)  # LightGBM keeps names without their spaces
    return wrap_sklearn(estimator, **{**options, "name": options["name"] or f"{library}.Booster"})


def _xgboost(booster: Any, task: str | None, returns: str | None) -> tuple[Any, int]:
    """The estimator and how many classes it has; 0 of numbers."""
    try:
        learner = json.loads(booster.save_config())["learner"]
        booster.num_features()
    except Exception as error:
        raise InvalidInput(f"The XGBoost Booster cannot be read; is it trained? ({str(error).strip().splitlines()[-1]})") from None
    objective, facts = learner["objective"]["name"], learner["learner_model_param"]
    if task == "regression" or not objective.startswith(("binary:", "multi:")):
        return XGBBoosterRegressor(booster), 0
    if objective not in _PROBABILITIES:
        raise Unsupported(
            f"How the objective {objective} turns margins into probabilities is not known. Known are {', '.join(_PROBABILITIES)}; or pass "
            "task='regression' to explain what Booster.predict gives as a number."
        )
    if objective.startswith("binary:") and int(facts.get("num_target", 1)) > 1:
        raise Unsupported(
            "The Booster predicts several labels at once, each with its own two classes. Pass task='regression' to explain the "
            "probability that Booster.predict gives for one of them, named by target=."
        )
    return XGBBoosterClassifier(booster), max(2, int(facts["num_class"]))


def _lightgbm(booster: Any, task: str | None, returns: str | None) -> tuple[Any, int]:
    """The same."""
    told = booster.dump_model(num_iteration=1)
    objective, *settings = str(told.get("objective") or "none").split()
    if task == "regression" or objective not in ("binary", "multiclass", "multiclassova"):
        return LGBMBoosterRegressor(booster), 0
    if returns == "logit" and (objective == "multiclassova" or (objective == "binary" and settings != ["sigmoid:1"])):
        raise Unsupported(f"The raw scores of the objective {' '.join([objective, *settings])} are no logits; leave returns= out.")
    return LGBMBoosterClassifier(booster), max(2, int(told["num_class"]))
