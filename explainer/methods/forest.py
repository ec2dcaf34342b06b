"""Tree ensembles as flat arrays: what scikit-learn, XGBoost and LightGBM hold, read from the fitted object or its own dump."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from explainer.errors import Unsupported

_ZERO, _LIGHT_ZERO = 1, 1e-35  # LightGBM's mark of splits at which zero is missing, and what it takes for zero


class Unread(Unsupported):
    """Trees that no reader known here can read."""


@dataclass(frozen=True)
class Tree:
    """One tree. A row goes left where its column is <= the threshold, or where it is missing and ``missing_left`` says so.

    ``left`` and ``right`` are node numbers, -1 at a leaf; ``cover`` is the training weight that reached the node; ``value`` is
    ``(nodes, width)``, read at leaves only, and is added to the margins from ``output`` on.
    """

    left: np.ndarray
    right: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    missing_left: np.ndarray
    cover: np.ndarray
    value: np.ndarray
    output: int = 0


@dataclass(frozen=True)
class Forest:
    """Trees whose values add up to the margins ``(n, outputs)``, starting from ``base`` ``(outputs,)``.

    ``precision`` is the type the library compares columns in, ``exact`` the agreement that its own rounding allows; ``missing`` is the
    number that counts as missing beside NaN, up to ``near``.
    """

    trees: Sequence[Tree]
    base: np.ndarray
    precision: Any = np.float64
    exact: float = 1e-9
    missing: float = np.nan
    near: float = 0.0

    @property
    def outputs(self) -> int:
        return len(self.base)

    def columns(self, table: Any) -> np.ndarray:
        """Rows as the library sees them before it compares: ``(n, columns)`` float64, NaN where missing."""
        if hasattr(table, "to_numpy"):
            table = table.to_numpy(dtype=np.float64, na_value=np.nan)
        columns = np.asarray(np.asarray(table, dtype=self.precision), dtype=np.float64)
        if np.isnan(self.missing):
            return columns
        return np.where(np.abs(columns - np.float64(self.precision(self.missing))) <= self.near, np.nan, columns)


def read(estimator: Any) -> Forest:
    """The trees of a fitted estimator. Raises Unsupported, with the reason, where they cannot be read exactly."""
    name = type(estimator).__name__
    for start, reader in _READERS:
        if name.startswith(start):
            try:
                return reader(estimator)
            except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
                raise Unsupported(f"The trees of this {name} could not be read ({type(error).__name__}: {str(error)[:120]}).") from error
    raise Unsupported(f"{name} is not a tree ensemble this reads; it reads {', '.join(start for start, _ in _READERS)}.")


def _sklearn_tree(fitted: Any, value: np.ndarray, output: int = 0) -> Tree:
    tree = fitted.tree_
    return Tree(
        tree.children_left, tree.children_right, tree.feature, tree.threshold, np.asarray(tree.missing_go_to_left, dtype=bool),
        tree.weighted_n_node_samples, value, output,
    )  # fmt: skip


def _averaged(estimator: Any) -> Forest:
    """Single trees and forests: class shares, or values, averaged over the trees."""
    fitted = getattr(estimator, "estimators_", [estimator])
    classes = hasattr(estimator, "classes_")
    if classes and estimator.n_outputs_ > 1:
        raise Unsupported("A classifier of several outputs has no one table of class scores.")
    trees = []
    for one in fitted:
        value = one.tree_.value[:, 0, :] if classes else one.tree_.value[:, :, 0]
        if classes:
            value = value / value.sum(axis=1, keepdims=True)
            value = value[:, 1:] if value.shape[1] == 2 else value  # the first of two shares is what the other leaves
        trees.append(_sklearn_tree(one, value / len(fitted)))
    return Forest(trees, np.zeros(trees[0].value.shape[1]), np.float32)


def _boosted(estimator: Any) -> Forest:
    first = estimator.init_
    if not (isinstance(first, str) or type(first).__name__.startswith("Dummy")):
        raise Unsupported(f"Boosting that starts from a {type(first).__name__} (init=) is not a sum of trees.")
    base = np.zeros(estimator.estimators_.shape[1])
    if not isinstance(first, str):
        base = np.asarray(estimator._raw_predict_init(np.zeros((1, estimator.n_features_in_), dtype=np.float32)), dtype=np.float64)[0]
    rate = estimator.learning_rate
    trees = [_sklearn_tree(one, one.tree_.value[:, 0, :] * rate, k) for stage in estimator.estimators_ for k, one in enumerate(stage)]
    return Forest(trees, base, np.float32)


def _histogram(estimator: Any) -> Forest:
    trees = []
    for stage in estimator._predictors:
        for k, predictor in enumerate(stage):
            nodes = predictor.nodes
            leaf = nodes["is_leaf"].astype(bool)
            if nodes["is_categorical"][~leaf].any():
                raise Unsupported("Splits on categories are not read.")
            left, right = (np.where(leaf, -1, nodes[side].astype(np.int64)) for side in ("left", "right"))
            trees.append(
                Tree(
                    left, right, nodes["feature_idx"], nodes["num_threshold"], nodes["missing_go_to_left"].astype(bool),
                    nodes["count"].astype(np.float64), nodes["value"][:, None], k,
                )
            )  # fmt: skip
    return Forest(trees, np.asarray(estimator._baseline_prediction, dtype=np.float64).reshape(-1))


def _xgboost(estimator: Any) -> Forest:
    booster = estimator.get_booster()
    learner = json.loads(booster.save_raw("json"))["learner"]
    gradient, weights = learner["gradient_booster"], None
    if gradient["name"] == "dart":
        gradient, weights = gradient["gbtree"], gradient["weight_drop"]
    elif gradient["name"] != "gbtree":
        raise Unsupported(f"booster={gradient['name']!r} has no trees.")
    model = gradient["model"]
    outputs = max(1, int(learner["learner_model_param"]["num_class"]), int(learner["learner_model_param"].get("num_target", 1)))
    used = len(model["trees"])
    best = learner["attributes"].get("best_iteration")
    if best is not None:
        used = model["iteration_indptr"][int(best) + 1]
    trees = []
    for t in range(used):
        tree = model["trees"][t]
        if any(tree["split_type"]):
            raise Unsupported("Splits on categories are not read.")
        if int(tree["tree_param"]["size_leaf_vector"]) > 1:
            raise Unsupported("Trees with a vector in each leaf (multi_strategy='multi_output_tree') are not read.")
        left = np.array(tree["left_children"])
        condition = np.array(tree["split_conditions"], dtype=np.float32)
        # XGBoost asks x < threshold in float32: the same as x <= the number just below it.
        threshold = np.nextafter(condition, np.float32(-np.inf)).astype(np.float64)
        trees.append(
            Tree(
                left, np.array(tree["right_children"]), np.array(tree["split_indices"]), threshold,
                np.array(tree["default_left"], dtype=bool), np.array(tree["sum_hessian"], dtype=np.float64),
                condition.astype(np.float64)[:, None] * (1.0 if weights is None else weights[t]), model["tree_info"][t],
            )
        )  # fmt: skip
    base = np.array(learner["learner_model_param"]["base_score"].strip("[]").split(","), dtype=np.float64)
    objective = learner["objective"]["name"]
    if objective in ("binary:logistic", "reg:logistic"):
        base = np.log(base) - np.log1p(-base)
    elif objective in ("count:poisson", "reg:gamma", "reg:tweedie"):
        base = np.log(base)
    missing = getattr(estimator, "missing", None)
    return Forest(trees, np.broadcast_to(base, (outputs,)), np.float32, 1e-5, np.nan if missing is None else float(missing))


def _lightgbm(estimator: Any) -> Forest:
    head, *parts = estimator.booster_.model_to_string().partition("end of trees")[0].split("\nTree=")
    outputs = int(_fields(head)["num_tree_per_iteration"])
    # A random forest (boosting_type="rf") says this in a line of one word.
    shrink = outputs / len(parts) if "average_output" in head.split() else 1.0
    fields = [_fields(part) for part in parts]
    kinds = {int(kind) for field in fields for kind in _missing_kinds(field)}
    if _ZERO in kinds and kinds != {_ZERO}:
        raise Unsupported("Zero counts as missing at some splits and not at others, which is not read.")
    trees = [_lightgbm_tree(field, t % outputs, shrink) for t, field in enumerate(fields)]
    return Forest(trees, np.zeros(outputs), missing=0.0 if kinds == {_ZERO} else np.nan, near=_LIGHT_ZERO)


def _missing_kinds(field: dict[str, str]) -> np.ndarray:
    """What is missing at each split, two bits of its decision: nothing (NaN is then 0), zero (zero_as_missing), or NaN."""
    return (np.array(field.get("decision_type", "").split(), dtype=np.int64) >> 2) & 3


def _fields(part: str) -> dict[str, str]:
    return {key: value for key, equals, value in (line.partition("=") for line in part.splitlines()) if equals}


def _lightgbm_tree(field: dict[str, str], output: int, shrink: float) -> Tree:
    def numbers(key: str, dtype: Any = np.int64) -> np.ndarray:
        return np.array(field.get(key, "").split(), dtype=dtype)

    if field.get("is_linear", "0") != "0":
        raise Unread("Trees with linear models in their leaves (linear_tree) are not read.")
    if int(field["num_cat"]):
        raise Unsupported("Splits on categories are not read.")
    leaves = numbers("leaf_value", float)[:, None] * shrink
    inner = len(leaves) - 1
    if not inner:
        return Tree(*(np.array([-1]),) * 2, np.array([0]), np.zeros(1), np.zeros(1, dtype=bool), np.ones(1), leaves, output)
    # Beside the kind of missing values, one bit of each decision says where they go.
    decision, threshold = numbers("decision_type"), numbers("threshold", float)
    missing_left = np.where(_missing_kinds(field) == 0, threshold >= 0, (decision & 2) > 0)
    # Children below 0 are leaves, -1 the first; here leaves follow the inner nodes.
    left, right = (np.where(c < 0, inner - 1 - c, c) for c in (numbers("left_child"), numbers("right_child")))
    end = np.full(len(leaves), -1)
    none = np.zeros(len(leaves))
    return Tree(
        np.concatenate([left, end]), np.concatenate([right, end]), np.concatenate([numbers("split_feature"), none.astype(np.int64)]),
        np.concatenate([threshold, none]), np.concatenate([missing_left, none > 0]),
        np.concatenate([numbers("internal_count", float), numbers("leaf_count", float)]),
        np.concatenate([np.zeros((inner, 1)), leaves]), output,
    )  # fmt: skip


_READERS: tuple[tuple[str, Callable[[Any], Forest]], ...] = (
    ("DecisionTree", _averaged), ("ExtraTree", _averaged), ("RandomForest", _averaged),
    ("GradientBoosting", _boosted), ("HistGradientBoosting", _histogram), ("XGB", _xgboost), ("LGBM", _lightgbm),
)  # fmt: skip


def kinds() -> Iterator[str]:
    """How the class names of the estimators that :func:`read` knows begin."""
    return (start for start, _ in _READERS)
