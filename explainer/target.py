"""What is explained: a callable from the model's scores to the number whose reasons are asked for."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from explainer.errors import InvalidInput, unknown


@dataclass(frozen=True)
class Target:
    """``k`` functionals of each instance's scores, fixed at the instance's own prediction.

    ``target(scores, rows)`` maps scores ``(m, outputs)``, numpy or torch, of perturbed copies of instances ``rows`` (an
    int, or one int per score row) to ``(m, k)``. ``weights`` is ``(n, k, outputs)``; a user's callable stands in
    ``function`` instead: scores ``(m, outputs)`` -> ``(m,)``.
    """

    labels: tuple[str, ...]
    weights: np.ndarray | None = None
    function: Callable[[Any], Any] | None = None

    @property
    def k(self) -> int:
        return 1 if self.weights is None else self.weights.shape[1]

    def __call__(self, scores: Any, rows: Any) -> Any:
        if self.function is not None:
            return self.function(scores).reshape(-1, 1)
        assert self.weights is not None
        weights = self.weights[rows] if isinstance(rows, int) else self.weights[np.asarray(rows)]
        if not isinstance(scores, np.ndarray):
            weights = scores.new_tensor(weights)
        if isinstance(rows, int):
            return scores @ weights.T
        return (scores[:, None, :] * weights).sum(-1)

    def only(self, j: int) -> Target:
        """The ``j``-th functional alone (for gradients, which follow one number at a time)."""
        return self if self.weights is None else Target(self.labels, self.weights[:, j : j + 1])


def resolve(target: Any, scores: np.ndarray, class_names: tuple[str, ...], told: Sequence[str] = ()) -> Target:
    """Turn a person's ``target`` into a :class:`Target`, using the scores ``(n, outputs)`` at the inputs.

    ``"predicted"`` | class index | class name | ``("margin", a, b)`` | ``"all"`` | callable. A class named "predicted" or
    "all" is reached by its index. ``told`` is what each input's label says beside the class (see :meth:`Model.told`). Raises
    UnknownName, InvalidInput.
    """
    goal = _resolved(target, scores, class_names)
    if not any(told):
        return goal
    return replace(goal, labels=tuple(f"{label}{more}" for label, more in zip(goal.labels, told, strict=True)))


def shared(labels: Iterable[str], otherwise: str) -> str:
    """What the targets of many inputs have in common: the label, without the place of a word where it stands elsewhere in each."""
    distinct = set(labels)
    if len(distinct) > 1:
        distinct = {re.sub(r"(?<=') \(word \d+\)$", "", label) for label in distinct}
    return distinct.pop() if len(distinct) == 1 else otherwise


def _resolved(target: Any, scores: np.ndarray, class_names: tuple[str, ...]) -> Target:
    n, outputs = scores.shape
    eye = np.eye(outputs)
    if isinstance(target, Target):
        return target
    if callable(target):
        return _custom(target, scores)
    if isinstance(target, np.ndarray) and target.ndim == 0:
        target = target.item()
    _has_a_form(target, n)
    if isinstance(target, str) and target == "predicted":
        chosen = scores.argmax(1)
        return Target(tuple(class_names[c] for c in chosen), eye[chosen][:, None])
    if isinstance(target, str) and target == "all":
        return Target(("all",) * n, np.broadcast_to(eye, (n, outputs, outputs)))
    if isinstance(target, tuple):
        a, b = (_class(t, class_names) for t in target[1:])
        return Target((f"{class_names[a]} over {class_names[b]}",) * n, np.broadcast_to(eye[a] - eye[b], (n, 1, outputs)))
    if isinstance(target, (list, np.ndarray)):
        chosen = [_class(t, class_names) for t in target]
        return Target(tuple(class_names[c] for c in chosen), eye[chosen][:, None])
    chosen_class = _class(target, class_names)
    return Target((class_names[chosen_class],) * n, np.broadcast_to(eye[chosen_class], (n, 1, outputs)))


def _has_a_form(target: Any, n: int) -> None:
    """Raise InvalidInput for a list of another length, and for a tuple that is no margin."""
    if isinstance(target, (list, np.ndarray)) and len(target) != n:
        raise InvalidInput(
            f"target has {len(target)} entries, and {n} inputs are explained: give one per input, one for all (a class name or index), "
            "or 'all' for every class."
        )
    if isinstance(target, tuple) and not (len(target) == 3 and target[0] == "margin"):
        raise InvalidInput(
            f"target={target!r} has no known form: ('margin', a, b) is the score of class a less that of class b; a list has one class "
            "per input; ('token', word, label) is for token classifiers and ('tokens', continuation) for language models."
        )


def _class(name: Any, class_names: tuple[str, ...]) -> int:
    if isinstance(name, (bool, np.bool_)):  # a class of a model that predicts True or False, and no index
        name = str(bool(name))
    if isinstance(name, (int, np.integer)):
        if not 0 <= name < len(class_names):
            raise unknown("class index", name, [f"{i} ({c})" for i, c in enumerate(class_names)])
        return int(name)
    if name in class_names:
        return class_names.index(name)
    raise unknown("target", name, ("predicted", "all", *class_names))


def _custom(function: Callable[[Any], Any], scores: np.ndarray) -> Target:
    label = getattr(function, "__name__", type(function).__name__)
    value = np.asarray(function(scores))
    if value.shape not in ((len(scores),), (len(scores), 1)):
        raise InvalidInput(
            f"The target function {label}{inspect.signature(function)} gave shape {value.shape} for scores of shape "
            f"{scores.shape}; it must give one number per row, as in lambda scores: scores[:, 1]."
        )
    return Target((label,) * len(scores), function=function)
