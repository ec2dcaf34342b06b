"""The verdict on each explanation: completeness, sampling error, fit, faithfulness, stability, randomisation."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from explainer.coalitions import Coalitions
from explainer.explanation import Check, Verdict, grade
from explainer.methods import Method
from explainer.methods.attribution import Attribution
from explainer.trust import faithfulness, rounding, sanity, stability

# Shares of the difference explained (completeness), or of the largest value (sampling error).
COMPLETE_PASS, COMPLETE_WARN = 0.01, 0.05
ERROR_PASS, ERROR_WARN = 0.10, 0.30
# A difference smaller than this share of the scale counts as none, so that noise is not divided by nothing.
_FLOOR = 0.01
_FULL = "explain(..., verify='full') reruns the method to measure it."


def judge(
    method: Method, found: Attribution, values: np.ndarray, scale: str, engine: Coalitions | None, why_not: str,
    rerun: Callable[..., Attribution] | None, model: Any, seed: int, lost: Collection[int] = (),
    beside: Callable[[], Attribution] | None = None, asked: float | None = None,
) -> tuple[Verdict, ...]:  # fmt: skip
    """One verdict per instance. ``values`` (n, k) are the target's values at the inputs; ``rerun(model=, seed=)`` repeats the method;
    ``beside()`` gives gradient x input, which the faithfulness of attention is held against.

    Instances in ``lost`` have no values to judge: they get an empty verdict. ``asked``: the error that the budget was given as. What a
    method measures itself takes the place of a general check of that name: it knows what its values are.
    """
    n = len(values)
    again = stability.rerun_checks(found, rerun, seed) if rerun else [Check("stability", "not run", _FULL)] * n
    sane = sanity.randomisation_checks(found, rerun, model, seed) if rerun else [Check("randomisation", "not run", _FULL)] * n
    own = [i for i in range(n) if "faithfulness" in _own(found, i)]
    empty = _nothing_explained(found, values, model, lost)
    faithful = faithfulness.checks(found, engine, why_not, seed, {*lost, *own, *empty}, beside)
    verdicts = []
    for i in range(n):
        if i in lost:
            verdicts.append(Verdict())
            continue
        general = [
            _completeness(found, values, i, scale),
            _sampling_error(found, i, asked),
            Check("fit", "not run", f"{method.title} fits no stand-in model."),
            Check("faithfulness", "not run", "There is nothing to explain.") if i in empty else faithful[i],
            again[i],
            sane[i],
        ]
        mine = {**({rounding.NAME: empty[i]} if i in empty else {}), **_own(found, i)}
        instead = [mine.pop(check.name, check) for check in general]
        # What a method alone measures comes first: of equal outcomes it is the one that is told.
        verdicts.append(Verdict({check.name: check for check in (*mine.values(), *instead)}))
    return tuple(verdicts)


def _nothing_explained(found: Attribution, values: np.ndarray, model: Any, lost: Collection[int]) -> dict[int, Check]:
    """Per input whose values are no more than rounding of its score, the check that says so: their order would mean nothing."""
    if found.base is None or found.about:
        return {}
    faint = [i for i in range(len(values)) if i not in lost and rounding.check(found.values[i], found.base[i], values[i])]
    dtype = rounding.number_type(model) if faint else None
    checks = {i: rounding.check(found.values[i], found.base[i], values[i], dtype) for i in faint}
    return {i: check for i, check in checks.items() if check is not None}


def failed(why: str) -> Verdict:
    """The verdict where the model failed, or the work ended, before there were values."""
    return Verdict({"fault": Check("fault", "fail", why)})


def stopped(verdict: Verdict, why: str) -> Verdict:
    """The verdict of values that were to become more precise when the person ended the work."""
    return Verdict({**verdict.checks, "budget": Check("budget", "warn", why)})


def missed(found: Attribution, asked: float | None, lost: Collection[int] = ()) -> dict[int, float]:
    """The instances whose values are not known as well as was asked for, and how well they are: a share of the largest value."""
    if asked is None:
        return {}
    reached = {i: _reached(found, i) for i in range(len(found.values)) if i not in lost}
    return {i: error for i, error in reached.items() if error > asked * (1 + 1e-9)}


def _reached(found: Attribution, i: int) -> float:
    """The widest 95 % interval's half as a share of its output's largest value, or what the method has measured in its place."""
    own = _own(found, i).get("sampling error")
    if own is not None and own.value is not None:
        return own.value
    if found.stderr is None:
        return 0.0
    k = found.values[i].shape[-1]
    largest = np.abs(found.values[i]).reshape(-1, k).max(axis=0)
    half = 1.96 * np.asarray(found.stderr[i]).reshape(-1, k).max(axis=0)
    return float(np.where(half > 0, half / np.maximum(largest, 1e-300), 0.0).max(initial=0.0))


def _own(found: Attribution, i: int) -> Mapping[str, Check]:
    return found.checks[i] if len(found.checks) else {}


def _completeness(found: Attribution, values: np.ndarray, i: int, scale: str) -> Check:
    if found.base is None:
        return Check("completeness", "not run", "The method does not promise that its values add up to the score.")
    difference = values[i] - found.base[i]
    gap = np.abs(difference - found.values[i].reshape(-1, values.shape[1]).sum(axis=0))
    size = 1.0 if scale == "probability" else float(np.abs(values[i]).max())
    error = float((gap / np.maximum(np.abs(difference), _FLOOR * max(size, 1e-12))).max())
    status = grade(error, COMPLETE_PASS, COMPLETE_WARN)
    verb = "add up to the score" if status == "pass" else "miss the score"
    return Check("completeness", status, f"The values {verb}: the gap is {error:.2g} of the difference explained.", error, COMPLETE_PASS)


def _sampling_error(found: Attribution, i: int, asked: float | None = None) -> Check:
    if found.stderr is None:
        return Check("sampling error", "not run", "The method draws nothing at random: its values have no sampling error.")
    largest = float(np.abs(found.values[i]).max())
    error = 1.96 * float(np.max(found.stderr[i])) / max(largest, 1e-12)
    status = grade(error, ERROR_PASS, ERROR_WARN)
    short = missed(found, asked).get(i)
    if short is not None:
        status = "warn" if status == "pass" else status
        reason = f"95 % intervals reach {short:.2%} of the largest value; {asked:.2%} was asked for."
        return Check("sampling error", status, reason, short, asked)
    advice = "" if status == "pass" else " A larger budget gives a tighter answer."
    return Check("sampling error", status, f"95 % intervals reach {error:.0%} of the largest value.{advice}", error, ERROR_PASS)
