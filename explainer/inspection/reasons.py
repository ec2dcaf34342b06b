"""Reason codes: what lowered a favourable score most, against a named population, in the user's words, and how stable that is."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from explainer import inputs as inputs_
from explainer.coalitions import Budget, Clock
from explainer.errors import Cancelled, InvalidInput, Unsupported, unknown
from explainer.explanation import Check, Explanation, Provenance, Verdict, grade, versions
from explainer.inspection import wording
from explainer.inspection.notices import Case, Change, Reason, Reasons
from explainer.inspection.populations import baselines, cutoff_of, drawn, favourable
from explainer.model import Model, wrap
from explainer.pipeline import explain
from explainer.progress import reporter

TOP = 4  # 12 CFR 1002, comment 9(b)(2)-1: more than four reasons are not likely to help
# Share of reruns that give other reasons: up to the first passes, up to the second warns.
CHANGED = (0.1, 0.3)
# Another population asks another question, so that alone is never a failure.
CHANGED_BASELINE = (0.34, 1.0)


def reason_codes(
    model: Any,
    rows: Any,
    *,
    target: Any = None,
    population: Any = "all",
    applicants: Any = None,
    cutoff: float | None = None,
    reasons: Any = None,
    top: int = TOP,
    inquiries: str | None = None,
    method: str = "shap",
    output: str = "auto",
    features: Any = "auto",
    budget: Any = None,
    seeds: int = 5,
    seed: int = 0,
    progress: Any = False,
    **method_parameters: Any,
) -> Reasons:
    r"""The principal reasons of adverse decisions (12 CFR 1002.9(b)(2); 15 USC 1681g(f)): what lowered the favourable score most.

    A reason is a negative contribution :math:`\phi_j` of ``method`` to the score of ``target``, the absent columns taking the
    values of a named population, by at most 100 rows of it. Its 95 % interval is
    :math:`\phi_j \pm \sqrt{(1.96\,s_j)^2 + (t\,b_j)^2}`: s the standard error of the value, b the standard deviation over
    ``seeds`` backgrounds drawn anew with replacement, t Student's. Columns with the same sentence are one reason.

    Stability, each as the share of reruns with another set of reasons, and with another first reason: over sampling seeds,
    over backgrounds, over the other populations, and over all of them. Set changes up to 10 % of the reruns pass, up to 30 %
    warn, more fail; by population up to 34 % pass, more warn.

    Parameters
    ----------
    target : the favourable class (name or index), a margin, or a callable; a regression's output when left out.
    population : "all" applicants, the "approved", those "near the cutoff" (the lowest-scored tenth of the approved, at least
        20), a table, or ``(name, table)``.
    applicants : the table the named populations are taken from; the model's background when left out.
    cutoff : the score that is approved from; 0.5 for a probability, 0 for a logit or margin.
    reasons : the user's sentences, see :func:`explainer.inspection.wording.read`; columns without one are named as such.
    top : how many reasons at most.
    inquiries : the column that counts inquiries: a fifth reason where it is among the negative ones and not in the first.
    budget : work per run: evaluations, or an error; seconds are for all runs together, in equal shares.
    seeds : reruns per source of change.

    Raises InvalidInput, UnknownName, Unsupported, Cancelled.
    """
    started = time.perf_counter()
    model = model if isinstance(model, Model) else wrap(model)
    if model.modality != "tabular":
        raise Unsupported(f"Reason codes name columns of a table; {model.name} takes {model.modality} inputs. Use explain().")
    _whole("top", top, 1)
    _whole("seeds", seeds, 0)
    given = model.canonical(rows)
    score, goal = favourable(model, target)
    cutoff = cutoff_of(model, target, output, cutoff)
    known = model.background if applicants is None else model.canonical(applicants)
    others = baselines(known, population, model, lambda table: score(table, output), cutoff)
    name, (described, table) = next(iter(others.items()))
    arguments = {"target": goal, "output": output, "features": features, **method_parameters}
    limits = Budget.parse(budget)
    clock, short = Clock(limits), 0

    plan = _plan(others, seeds, seed)
    runs: dict[str, list[Explanation]] = {"main": [], "seeds": [], "backgrounds": [], "baselines": []}
    with reporter(progress, "reason codes") as report:
        steps = _Steps(report, len(plan))
        for number, (kind, background, at) in enumerate(plan):
            if kind != "seeds" or _sampled(runs["main"][0]):
                own = {"background": background, "seed": at, "verify": kind == "main"}
                own["budget"] = _share(limits, clock, len(plan) - number) if limits.seconds else budget
                try:
                    made = explain(model, given, method, progress=steps, **own, **arguments)
                    runs[kind].append(made)
                except InvalidInput:  # a rerun whose seconds sufficed for no row says nothing
                    if kind == "main" or not limits.seconds:
                        raise
                    short += 1
            if kind == "main":  # what does not fit is said before the reruns
                main, parts = made, _parts(made, method)
                table_of = wording.read(reasons, parts)
                if inquiries is not None and inquiries not in parts:
                    raise unknown("inquiries column", inquiries, parts)
            steps.next()
    choose = _Chooser(parts, _members(features, parts), table_of, reasons is not None, top, inquiries, table, given)
    cases = [_judge(i, main, runs, choose, cutoff, described) for i in range(len(given))]
    provenance = Provenance(
        method=main.method,
        parameters={**main.provenance.parameters, "population": name, "background_rows": len(plan[0][1]), "top": top, "seeds": seeds},
        seed=seed, evaluations=sum(one.provenance.evaluations for many in runs.values() for one in many),
        seconds=time.perf_counter() - started, device=str(model.device), versions=versions("torch", "scikit-learn"),
        model_sha256=main.provenance.model_sha256, inputs_sha256=inputs_.sha256(given), notes=_notes(main, top, seeds, short, limits),
    )  # fmt: skip
    return Reasons(
        tuple(cases), name, described, len(table), float(np.nanmean(main.base_values)), cutoff, main.target[0], main.output, top, provenance
    )


def _whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise InvalidInput(f"{name}={value!r}; a whole number of at least {least} is needed.")


def _plan(populations: Mapping[str, tuple[str, Any]], seeds: int, seed: int) -> list[tuple[str, Any, int]]:
    """Every run: what it varies, its background rows, its sampling seed. The first is the answer."""
    table = next(iter(populations.values()))[1]
    own = drawn(table, seed, 0)
    plan = [("main", own, seed)]
    plan += [("seeds", own, seed + r) for r in range(1, seeds + 1)]
    plan += [("backgrounds", drawn(table, seed, r), seed) for r in range(1, seeds + 1)]
    others = [rows for _, rows in list(populations.values())[1:] if not rows.equals(table)] if seeds else []
    return plan + [("baselines", drawn(rows, seed, 0), seed) for rows in others]


def _share(limits: Budget, clock: Clock, left: int) -> Budget:
    """The seconds of one of the runs ``left``."""
    return replace(limits, seconds=max(clock.left or 0.0, 1e-3) / left)


def _parts(main: Explanation, method: str) -> tuple[str, ...]:
    """The names of the columns or groups, where the method gives each a share of the score."""
    told = np.isfinite(main.base_values)
    if main.axes != ("instance", "column") or not told.any():
        if not np.isfinite(main.values).any():
            raise InvalidInput(f"No row could be explained: {main.verdicts[0].reason}")
        raise Unsupported(f"{method} gives no contributions per column that sum to the score; use method='shap'.")
    return main.feature_names[int(np.flatnonzero(told)[0])]


def _sampled(ex: Explanation) -> bool:
    return ex.stderr is not None and bool(np.nanmax(ex.stderr) > 0)


class _Steps:
    """Progress over several runs of one size; it remembers that the person stopped."""

    def __init__(self, report: Any, runs: int) -> None:
        self._report, self._runs, self._done, self.stopped = report, runs, 0, False

    def __call__(self, done: int, total: int) -> None:
        try:
            self._report(1000 * self._done + 1000 * done // max(total, 1), 1000 * self._runs)
        except (Cancelled, KeyboardInterrupt):
            self.stopped = True
            raise

    def next(self) -> None:
        """Go on to the next run, unless the person stopped in this one: then its values are not whole."""
        if self.stopped:
            raise Cancelled("The reason codes were stopped.")
        self._done += 1
        self(0, 1)


# -- the answer --------------------------------------------------------------------------------------------------------


class _Chooser:
    """The reasons of a row from its contributions and half intervals ``(parts,)``."""

    def __init__(
        self, parts: Sequence[str], members: Mapping[str, Sequence[str]], table: wording.Wording, worded: bool, top: int,
        inquiries: str | None, population: Any, rows: Any,
    ) -> None:  # fmt: skip
        self.parts, self._members, self._wording, self.worded, self._top, self._inquiries = parts, members, table, worded, top, inquiries
        self._typical = {column: _typical(population[column]) for column in population.columns}
        self._rows = rows

    def __call__(self, i: int, values: np.ndarray, half: np.ndarray) -> tuple[Reason, ...]:
        by_text: dict[str, list[int]] = {}
        for j in np.argsort(values, kind="stable"):
            if values[j] < 0:
                by_text.setdefault(self._text(i, self.parts[j])[0], []).append(int(j))
        # The errors of one row's values depend on each other, so those of a sum are not known; their sum bounds them.
        found = [(text, js, float(values[js].sum()), float(half[js].sum())) for text, js in by_text.items()]
        found.sort(key=lambda one: one[2])
        kept = found[: self._top]
        kept += [one for one in found[self._top :] if self._inquiries in {self.parts[j] for j in one[1]} and one[2] + one[3] < 0]
        return tuple(self._reason(i, *one) for one in kept)

    def _reason(self, i: int, text: str, js: list[int], value: float, half: float) -> Reason:
        names = tuple(self.parts[j] for j in js)
        facts = tuple(fact for name in names for fact in self._facts(i, name))
        return Reason(text, names, value, value - half, value + half, self._text(i, names[0])[1], facts)

    def _text(self, i: int, part: str) -> tuple[str, bool]:
        told = wording.sentence(self._wording, part, self._direction(i, part))
        return (told, True) if told else (f"{part} (no sentence in the table of reasons)" if self.worded else part, False)

    def _direction(self, i: int, part: str) -> str:
        columns = self._members[part]
        return _beside(self._rows[columns[0]].iloc[i], self._typical[columns[0]]) if len(columns) == 1 else ""

    def _facts(self, i: int, part: str) -> list[str]:
        return [
            f"{column} = {_shown(self._rows[column].iloc[i])}, population {_shown(self._typical[column])}" for column in self._members[part]
        ]


def _judge(i: int, main: Explanation, runs: Mapping[str, Sequence[Explanation]], choose: _Chooser, cutoff: float, described: str) -> Case:
    values, score = main.values[i], float(main.scores[i])
    if not np.isfinite(values).all():
        why = main.verdicts[i].reason
        none = Change(0, math.nan, math.nan)
        checks = {"explanation": Check("explanation", "fail", why)}
        return Case(i, score, bool(score >= cutoff), (), why, dict.fromkeys((*_SOURCES, "all"), none), Verdict(checks))
    half = _half(i, main, runs["backgrounds"])
    reasons = choose(i, values, half)
    approved = bool(score >= cutoff)
    changes = {
        kind: _change(reasons, [choose(i, ex.values[i], half) for ex in runs[kind] if np.isfinite(ex.values[i]).all()]) for kind in _SOURCES
    }
    if not _sampled(main):
        changes["seeds"] = Change(0, 0.0, 0.0)
    changes["all"] = _overall([one for one in changes.values() if one.runs])
    why = "" if any(reason.distinguishable for reason in reasons) else _why_none(reasons, float(main.base_values[i]), cutoff, described)
    return Case(i, score, approved, reasons, why, changes, _verdict(main.verdicts[i], reasons, why, changes, choose.worded))


_SOURCES = ("seeds", "backgrounds", "baselines")


def _half(i: int, main: Explanation, redrawn: Sequence[Explanation]) -> np.ndarray:
    from scipy.special import stdtrit

    own = np.zeros_like(main.values[i]) if main.stderr is None else 1.96 * main.stderr[i]
    again = [ex.values[i] for ex in redrawn if np.isfinite(ex.values[i]).all()]
    if len(again) < 2:
        return own
    return np.asarray(np.hypot(own, float(stdtrit(len(again) - 1, 0.975)) * np.std(again, axis=0, ddof=1)))


def _change(reasons: Sequence[Reason], others: Sequence[Sequence[Reason]]) -> Change:
    if not others:
        return Change(0, math.nan, math.nan)
    told = [reason.text for reason in reasons]
    again = [[reason.text for reason in other] for other in others]
    return Change(len(again), float(np.mean([set(o) != set(told) for o in again])), float(np.mean([o[:1] != told[:1] for o in again])))


def _overall(changes: Sequence[Change]) -> Change:
    """Over all reruns of whatever kind."""
    runs = sum(change.runs for change in changes)
    if not runs:
        return Change(0, math.nan, math.nan)
    return Change(runs, sum(c.runs * c.reasons for c in changes) / runs, sum(c.runs * c.first for c in changes) / runs)


def _why_none(reasons: Sequence[Reason], base: float, cutoff: float, described: str) -> str:
    if reasons:
        return f"Every negative contribution against {described} is within its own error: none can be told from 0."
    own = f" That population itself scores {base:.3g} on average, below the cutoff {cutoff:.3g}." if base < cutoff else ""
    return f"No column lowers the score against {described}.{own}"


def _verdict(explained: Verdict, reasons: Sequence[Reason], why: str, changes: Mapping[str, Change], worded: bool) -> Verdict:
    checks = [Check("explanation", explained.status, explained.reason)]
    unclear = [reason.text for reason in reasons if not reason.distinguishable]
    if why:
        checks.append(Check("distinguishable", "fail", why))
    elif unclear:
        checks.append(Check("distinguishable", "warn", f"Within its own error, and left out of the notice: {'; '.join(unclear)}."))
    else:
        checks.append(Check("distinguishable", "pass", "Every reason's interval leaves out 0."))
    checks += [_stability(kind, changes[kind]) for kind in _SOURCES]
    checks.append(_worded(reasons, worded))
    return Verdict({check.name: check for check in checks})


def _stability(kind: str, change: Change) -> Check:
    if not change.runs and change.reasons == 0:
        return Check(kind, "pass", "The values are exact: no seed changes them.", 0.0)
    if not change.runs:
        return Check(kind, "not run", f"No other {kind} were tried.")
    passes, warns = CHANGED_BASELINE if kind == "baselines" else CHANGED
    words = f"The set of reasons changed in {change.reasons:.0%} of {change.runs} other {kind}, the first reason in {change.first:.0%}."
    return Check(kind, grade(change.reasons, passes, warns), words, change.reasons, passes)


def _worded(reasons: Sequence[Reason], worded: bool) -> Check:
    if not worded:
        return Check("wording", "not run", "No table of reasons was given: columns stand under their own names.")
    bare = [part for reason in reasons if not reason.mapped for part in reason.parts]
    vague = [reason.text for reason in reasons if wording.unspecific(reason.text)]
    if bare or vague:
        words = [f"No sentence for {', '.join(bare)}."] * bool(bare) + [f"Not a specific reason: {'; '.join(vague)}."] * bool(vague)
        return Check("wording", "warn", " ".join(words))
    return Check("wording", "pass", "Every reason has a sentence of the table.")


def _notes(main: Explanation, top: int, seeds: int, short: int, limits: Budget) -> tuple[str, ...]:
    notes = list(main.provenance.notes)
    if short:
        notes.append(f"{short} reruns had no values within their share of the {limits.seconds:g} s: allow more, or fewer seeds.")
    if top > TOP:
        notes.append(f"More than {TOP} reasons are not likely to help the applicant (12 CFR 1002, comment 9(b)(2)-1).")
    if seeds < 2:
        notes.append("With fewer than 2 seeds the intervals hold the sampling error alone, not that of the background.")
    return tuple(notes)


# -- small things ------------------------------------------------------------------------------------------------------


def _members(features: Any, parts: Sequence[str]) -> dict[str, list[str]]:
    groups = features if isinstance(features, Mapping) else {}
    return {part: list(groups.get(part, [part])) for part in parts}


def _typical(column: Any) -> Any:
    """The median of numbers (one that occurs), else the most frequent value."""
    import pandas as pd

    known = column.dropna()
    if not len(known):
        return math.nan
    if pd.api.types.is_numeric_dtype(known) and not pd.api.types.is_bool_dtype(known):
        return known.sort_values().iloc[(len(known) - 1) // 2]
    return known.mode().iloc[0]


def _beside(own: Any, typical: Any) -> str:
    import pandas as pd

    if pd.isna(own):
        return "missing"
    if not isinstance(own, (int, float, np.number)) or isinstance(own, bool) or not isinstance(typical, (int, float, np.number)):
        return ""
    return "high" if own > typical else "low" if own < typical else ""


def _shown(value: Any) -> str:
    import pandas as pd

    return "missing" if pd.isna(value) else f"{value:.4g}" if isinstance(value, (float, np.floating)) else str(value)
