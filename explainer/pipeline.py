"""``explain``: validate, preflight, method, verify, and freeze the result."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import math
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from explainer import arguments, preflight
from explainer import features as features_
from explainer import inputs as inputs_
from explainer.coalitions import Budget, Coalitions
from explainer.errors import Cancelled, InvalidInput, Unsupported, unknown
from explainer.explanation import Check, Explanation, Provenance, Verdict, versions
from explainer.faults import score_each
from explainer.inputs import take
from explainer.methods import Method
from explainer.methods.attribution import Attribution
from explainer.methods.peers import entry, peer_of
from explainer.model import Model, wrap
from explainer.progress import reporter
from explainer.scored import Kept
from explainer.target import Target, resolve

_TOLD = 4  # rows scored anew for a run that goes on: a fingerprint may not cover all that decides a score
_GIVEN = ("model", "inputs", "coalitions", "method_parameters")  # not the caller's to pass by name


def explain(
    model: Any,
    inputs: Any,
    method: Any = "auto",
    target: Any = "predicted",
    *,
    baseline: Any = "auto",
    background: Any = None,
    features: Any = "auto",
    budget: Any = None,
    output: str = "auto",
    seed: int = 0,
    verify: bool | str = True,
    progress: Any = False,
    resume: Any = None,
    time_limit: float | None = None,
    accelerate: bool | str | Sequence[str] = False,
    **method_parameters: Any,
) -> Explanation:
    """Explain predictions: which parts of each input made the score what it is, and how far that can be trusted.

    Parameters
    ----------
    model : a :class:`Model`, or anything :func:`wrap` takes without further names.
    inputs : a batch of inputs as ``model.scores`` takes them.
    method : a name of ``METHODS``, ``"auto"``, a function ``(model, inputs, target, ...) -> values``, or an object: any
        ``captum.attr.Attribution`` of the module wrapped, with the parameters of its ``attribute`` as they are called there,
        or any shap explainer. They explain the scale that is theirs unless ``output`` says another.
    target : ``"predicted"`` | class index | class name | ``("margin", a, b)`` | ``"all"`` | callable on scores. A regression of
        several numbers needs one named, or "all". Token classifiers: ``("token", word, label)``. Language models: a continuation of
        the text, or ``("tokens", continuation)``.
    baseline : what stands in for an absent part; the result names it, because it changes the answer. Tables: "auto" (the
        background rows in turn), "median", "mean", one row or number, or given the present columns "copula" or ("neighbours", k).
        Images: "zeros", "mean", "blur", "inpaint" or a picture. Text: "remove", "mask" or a word. Series: "zeros", "mean",
        "interpolate", "background" or one value per channel. Gradient methods take those that do not depend on what is present.
    background : rows that stand for the population; the model's own unless given.
    features : how inputs are cut into parts. Tables: columns, a mapping group -> columns, ("correlated", 0.7) or "one-hot".
        Images: ("superpixels", 200), ("patches", 64) or label maps. Text: "words" or "sentences". Series: ("segments", 20).
        See :func:`explainer.features.build`.
    budget : evaluations of the model per input: an int, ``"500 evals"``, ``"10s"`` or ``"1% error"``.
    output : scale of the scores explained; "auto" is the probability of a class, or the value of a regression.
    seed : the same seed gives the same result, bit for bit.
    verify : measure the verdict; False or "off" does not; ``"full"`` also reruns the method for stability and the randomisation check.
    progress : True for a bar, or a callable ``(done, total)``; raising Cancelled in it ends the sampling, and what is known
        by then comes back with its error. Cancelled is passed on where nothing is known yet.
    resume : a folder that keeps every coalition scored, so that a run that was stopped goes on where it ended.
    time_limit : seconds one batch may take in the model before it counts as hanging.
    accelerate : True scores coalitions on a copy of a torch module with those ways to run faster that, measured once on the inputs, help
        and move no probability by more than 1e-5; names of ways try those (:func:`explainer.accelerate`). The result says which.

    Inputs on which the model raises, hangs or gives no number have NaN values and a failed verdict that says so; the others
    are explained. Raises InvalidInput where none can be, UnknownName, or Unsupported when the method would not be right here.
    """
    started = time.perf_counter()
    arguments.whole(seed)
    verify = arguments.verifying(verify)
    model = model if isinstance(model, Model) else wrap(model)
    given = model.canonical(inputs)
    model, target = model.aimed(target, given)
    arguments.one_of_several(model, target)
    peer = peer_of(method, model)
    if peer is None:
        baseline, budget, method_parameters = arguments.renamed(baseline, budget, method_parameters)
        baseline = arguments.everywhere(model, given, baseline)
    arguments.known_words(model, given)
    scale = arguments.scale_of(model, output) if peer is None else peer.scale(given, output)
    every, everything = given, len(given)
    scores, faults = score_each(model, given, scale, time_limit)
    kept = [i for i in range(everything) if i not in faults]
    if not kept:
        raise InvalidInput(faults[0] if everything == 1 else f"None of the {everything} inputs can be scored; the first: {faults[0]}")
    if faults:
        given, scores, target = take(given, np.array(kept)), scores[kept], arguments.targets_of(target, kept, everything)
    goal = resolve(target, scores, model.class_names, model.told(given))
    model.meet(given)
    chosen = arguments.method_of(model, method if peer is None else entry(peer), background)
    if peer is None and chosen.own is None and hasattr(method_parameters.get("layer"), "named_modules"):
        method_parameters["layer"] = arguments.layer_name(model, method_parameters["layer"], chosen.title)
    with reporter(progress, chosen.title) as report:
        cut = _Cut(model, given, features, seed, background, lambda: _absence(peer, given, baseline, background, method_parameters))
        spent = Budget.parse(budget)
        pool = {
            "output": scale, "baseline": baseline, "background": cut.background, "seed": seed, "budget": spent, "progress": report,
        }  # fmt: skip
        engines: list[Coalitions] = []
        faster = _Faster(model, given, accelerate)

        def engine(model: Model) -> Coalitions:
            scored = faster.instead_of(model)
            store = None if resume is None or engines else _store(resume, scored, given, cut.features, goal, scale, time_limit)
            engines.append(
                Coalitions(scored, given, cut.features, goal, scale, budget=spent, report=report, kept=store, time_limit=time_limit)
            )
            return engines[-1]

        def run(model: Model = model, seed: int = seed) -> Attribution:
            return _call(chosen, model, given, goal, {**pool, "seed": seed, "coalitions": _Lazy(lambda: engine(model))}, method_parameters)

        try:
            found = run()
        finally:
            for one in engines:
                one.close()
        _fits(found, len(given))
        found = faster.told(found, chosen.title)
        lost = _lost(found, engines[0] if engines else None)
        found = _with_extras(found, cut, len(given))
        found.checks = _added(found, preflight.check(model, chosen))
        verdicts = _verify(verify, chosen, model, given, goal, scale, cut, found, scores, run, seed, lost, engines, time_limit, spent.error)
        found.notes = (*found.notes, *_against(None if budget is None else spent, found, engines[0] if engines else None, lost))
    result = _freeze(
        model, given, chosen, goal, target, scale, scores, found, verdicts, seed, time.perf_counter() - started, method_parameters
    )
    return _with_faults(result, every, kept, faults) if faults else result


class _Cut:
    """The parts of the inputs, made when first needed: not every method needs them, and a table without background has none."""

    def __init__(self, model: Model, given: Any, features: Any, seed: int, background: Any, absence: Callable[[], tuple[Any, Any]]) -> None:
        self._arguments, self._absence = (model, given, features, seed), absence
        self.background = model.background if background is None else model.canonical(background)
        self._made: Any = None

    @property
    def made(self) -> bool:
        return self._made is not None

    @property
    def features(self) -> features_.Features:
        if self._made is None:
            model, given, features, seed = self._arguments
            baseline, background = self._absence()
            self._made = features_.build(model, given, features=features, baseline=baseline, background=background, seed=seed)
        return self._made


def _absence(peer: Any, given: Any, baseline: Any, background: Any, own: Mapping[str, Any]) -> tuple[Any, Any]:
    """By which baseline or background parts are absent: those of another library's object are its own."""
    return (baseline, background) if peer is None else peer.absence(given, baseline, background, own)


class _Faster:
    """The faster copy of the model explained, made when coalitions are first scored; the scores at the inputs stay the model's own."""

    def __init__(self, model: Model, given: Any, wanted: bool | str | Sequence[str]) -> None:
        self._model, self._given, self._wanted = model, given, wanted
        self._copy: Any = None

    def instead_of(self, model: Model) -> Model:
        if model is not self._model or not self._wanted or model.framework != "torch":
            return model
        if self._copy is None:
            from explainer.adapters.acceleration import quickest

            self._copy = quickest(model, self._given, self._wanted)  # type: ignore[arg-type]
        return self._copy if self._copy.kept else model

    def told(self, found: Attribution, title: str) -> Attribution:
        """The attribution with what was asked for and what came of it."""
        if not self._wanted:
            return found
        if self._copy is None:
            why = f"{title} scores no coalitions" if self._model.framework == "torch" else f"{self._model!r} is seen from outside"
            note = f"Not accelerated: {why}."
        elif self._copy.kept:
            note = f"Coalitions were scored accelerated: {self._copy.how_faster}."
        else:
            note = f"Not accelerated: {'; '.join(f'{t.option} {t.reason}' for t in self._copy.trials)}."
        kept = () if self._copy is None else self._copy.kept
        found.notes, found.parameters = (*found.notes, note), {**found.parameters, "accelerate": list(kept)}
        return found


class _Lazy:
    """A keyword whose value is made only when a method asks for it."""

    def __init__(self, make: Any) -> None:
        self.make = make


def _call(method: Method, model: Model, given: Any, goal: Target, pool: Mapping[str, Any], own: Mapping[str, Any]) -> Attribution:
    signature = inspect.signature(method.function).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in signature.values())
    for name in own:
        if name in arguments.ELSEWHERE and name not in signature and not takes_any:
            raise InvalidInput(f"{name}= is captum's: {arguments.ELSEWHERE[name]}")
        if name not in signature and not takes_any:
            valid = dict.fromkeys(p for p in (*signature, *inspect.signature(explain).parameters) if p not in _GIVEN)
            raise unknown(f"parameter of {method.name}", name, valid)
    keywords = {name: value for name, value in pool.items() if name in signature and name not in own}
    made = {name: value.make() if isinstance(value, _Lazy) else value for name, value in keywords.items()}
    found = method.function(model, given, goal, **made, **own)
    return found if isinstance(found, Attribution) else _plain(np.asarray(found, dtype=np.float64), model, given, goal)


def _plain(values: np.ndarray, model: Model, given: Any, goal: Target) -> Attribution:
    """An array a caller's own method returned, ``(n, *axes[, k])``, with names where they can be told."""
    axes = {"tabular": ("column",), "image": ("row", "column"), "text": ("word",), "series": ("time", "channel")}[model.modality]
    if values.ndim == len(axes) + 1:
        values = values[..., None]
    sizes = {"tabular": (len(model.feature_names),), "image": np.shape(given)[1:3]}.get(model.modality, values.shape[1:-1])
    wanted = (len(given), *sizes, goal.k)
    if values.ndim != len(axes) + 2 or values.shape != wanted:
        needed = wanted if goal.k > 1 else wanted[:-1]
        came = values.shape if goal.k > 1 else values.shape[: len(needed)]
        each = " and ".join(("input", *axes, *(("output",) if goal.k > 1 else ())))
        raise InvalidInput(f"The method gave values of shape {came}; {needed} is needed: one value per {each}.")
    names = [model.feature_names if model.modality == "tabular" else tuple(str(j) for j in range(values.shape[1]))] * len(given)
    return Attribution(list(values), axes, names)


def _store(folder: Any, model: Model, given: Any, cut: features_.Features, goal: Target, scale: str, time_limit: float | None) -> Kept:
    """The folder of an interrupted run, held against what its scores depend on."""
    first = range(min(len(given), 8))
    shown = [np.arange(cut.players(i)) % 2 == parity for i in first for parity in (0, 1)]
    rows = cut.rows_of([(i // 2, mask[None]) for i, mask in enumerate(shown)])
    told = inputs_.take(rows, np.unique(np.linspace(0, len(rows) - 1, _TOLD).astype(int)))
    scores, _ = score_each(model, told, scale, time_limit)
    weights = "" if goal.weights is None else hashlib.sha256(np.ascontiguousarray(goal.weights).tobytes()).hexdigest()
    header = {
        "schema": 2, "model": model.fingerprint(), "inputs": inputs_.sha256(given), "parts": [cut.players(i) for i in range(len(given))],
        "absence": cut.absence, "perturbed": inputs_.sha256(rows), "target": [*goal.labels[:100], weights], "output": scale,
        "accelerated": list(getattr(model, "kept", ())), "scores": scores.tolist(),
    }  # fmt: skip
    return Kept(folder, header)


def _fits(found: Attribution, n: int) -> None:
    if len(found.values) != n or len(found.names) != n:
        raise InvalidInput(f"The method gave {len(found.values)} attributions and {len(found.names)} name lists for {n} inputs.")
    for shape, names in {(values.shape, len(names)) for values, names in zip(found.values, found.names, strict=True)}:
        cells = shape[:-1]
        if len(cells) != len(found.axes) or names not in (0, cells[0], math.prod(cells)):
            raise InvalidInput(
                f"The method gave values of shape {shape} with {names} names; (*{', *'.join(found.axes)}, targets) is needed, "
                "with one name per cell or per entry of the first axis."
            )


def _lost(found: Attribution, engine: Coalitions | None) -> dict[int, str]:
    """Why an input has no values, per input that has none. Raises where that is all of them."""
    lost = {}
    for i in _not_finite(found.values):
        why = "The attribution holds NaN or infinite values; the model's gradients or scores are not finite there."
        failed, stopped = (engine.failed, engine.stopped) if engine is not None else ({}, "")
        lost[i] = failed.get(i) or found.faults.get(i) or stopped or why
        found.values[i][...] = np.nan
    if len(lost) == len(found.values):
        if engine is not None and engine.cancelled:
            raise Cancelled(f"{engine.stopped} Too little is known for any value.")
        raise InvalidInput(lost[0])
    return lost


def _not_finite(values: Sequence[np.ndarray] | np.ndarray) -> list[int]:
    if isinstance(values, np.ndarray):
        return list(map(int, np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(1))))
    return [i for i, one in enumerate(values) if not np.isfinite(one).all()]


def _verify(
    verify: bool | str, method: Method, model: Model, given: Any, goal: Target, scale: str, cut: _Cut, found: Attribution,
    scores: np.ndarray, run: Any, seed: int, lost: dict[int, str], engines: list[Coalitions], time_limit: float | None,
    asked: float | None,
) -> tuple[Verdict, ...]:  # fmt: skip
    from explainer.trust.verdict import failed, judge, stopped

    used = engines[0] if engines else None
    early = used.stopped if used is not None and used.cancelled else ""
    if verify is False:
        verdicts: tuple[Verdict, ...] = (Verdict(),) * len(given)
    else:
        values = _at_inputs(goal, scores)
        engine, why_not = None, early
        if goal.k == 1 and not early:
            try:
                engine = Coalitions(model, given, cut.features, goal, scale, time_limit=time_limit)
            except (Unsupported, InvalidInput) as error:  # such as a baseline that gradients know and coalitions do not
                why_not = str(error)
        rerun = run if verify == "full" and not early else None
        beside = _beside(model, given, goal, scale) if method.family == "attention" else None
        verdicts = judge(method, found, values, scale, engine, why_not, rerun, model, seed, lost, beside, asked)
    verdicts = tuple(failed(lost[i]) if i in lost else verdict for i, verdict in enumerate(verdicts))
    if used is not None and used.stopped:
        found.notes = (*found.notes, used.stopped)
    found.notes = (*found.notes, *(note for note in model.notes(given) if note not in found.notes))
    if model.how_faster:
        found.notes = (*found.notes, f"Accelerated: {model.how_faster}.")
    return tuple(stopped(verdict, early) for verdict in verdicts) if early else verdicts


def _beside(model: Model, given: Any, goal: Target, scale: str) -> Callable[[], Attribution]:
    """Gradient x input of the same inputs: attention is not by itself an explanation, and is held against it."""

    def run() -> Attribution:
        from explainer.methods.gradient import input_x_gradient

        return input_x_gradient(model, given, goal, output=scale)

    return run


def _against(budget: Budget | None, found: Attribution, engine: Coalitions | None, lost: Mapping[int, str]) -> Iterator[str]:
    """Where what was done is not what the budget asked for."""
    from explainer.trust.verdict import missed

    if budget is None:
        return
    short = missed(found, budget.error, lost)
    if short:
        worst, of = max(short.values()), len(found.values)
        yield f"The error asked for, {budget.error:.2%}, was not reached for {len(short)} of {of} inputs: {worst:.2%} at worst."
    most = max(engine.used.values(), default=0) if engine is not None else 0
    if most > budget.evaluations and not budget.adaptive:
        yield f"{most:,} evaluations were used for an input where {budget.evaluations:,} were allowed: the method cannot do with fewer."


def _freeze(
    model: Model, given: Any, method: Method, goal: Target, target: Any, scale: str, scores: np.ndarray, found: Attribution,
    verdicts: tuple[Verdict, ...], seed: int, seconds: float, own: Mapping[str, Any],
) -> Explanation:  # fmt: skip
    every = isinstance(target, str) and target == "all"
    at_input = _at_inputs(goal, scores)
    base = np.full_like(at_input, np.nan) if found.base is None else np.asarray(found.base, dtype=np.float64)
    provenance = Provenance(
        method=method.name, parameters={**own, **found.parameters}, seed=seed, evaluations=found.evaluations, seconds=seconds,
        device=str(model.device), versions=versions("torch", "captum", "shap", "lime", "scikit-learn", *model.packages),
        model_sha256=model.fingerprint(), inputs_sha256=inputs_.sha256(given), notes=found.notes,
    )  # fmt: skip
    return Explanation(
        values=_stack(found.values, every), axes=("instance", *found.axes, *(("output",) if every else ())),
        base_values=base if every else base[:, 0], scores=at_input if every else at_input[:, 0], target=goal.labels,
        feature_names=tuple(tuple(names) for names in found.names), inputs=given, method=method.name, modality=model.modality, output=scale,
        class_names=model.class_names, verdicts=verdicts, provenance=provenance,
        stderr=None if found.stderr is None else _stack(found.stderr, every), extras={k: tuple(v) for k, v in found.extras.items()},
        _model=weakref.ref(model),
    )  # fmt: skip


def _with_faults(ex: Explanation, every: Any, kept: list[int], faults: Mapping[int, str]) -> Explanation:
    """The explanation of all inputs: NaN and a failed verdict for those the model could not score."""
    from explainer.trust.verdict import failed

    n = len(every)

    def spread(array: np.ndarray) -> np.ndarray:
        whole = np.full((n, *array.shape[1:]), np.nan)
        whole[kept] = array
        return whole

    def fill(entries: Sequence[Any], other: Any) -> tuple[Any, ...]:
        of = dict(zip(kept, entries, strict=True))
        return tuple(of[i] if i in of else other(i) for i in range(n))

    named = ", ".join(f"{i} ({why})" for i, why in list(faults.items())[:3])
    note = f"{len(faults)} of {n} inputs could not be scored and have no values: {named}{', ...' if len(faults) > 3 else ''}"
    provenance = dataclasses.replace(
        ex.provenance, inputs_sha256=inputs_.sha256(every), notes=(*ex.provenance.notes, note)
    )  # fmt: skip
    return dataclasses.replace(
        ex, values=spread(ex.values), base_values=spread(ex.base_values), scores=spread(ex.scores),
        stderr=None if ex.stderr is None else spread(ex.stderr), target=fill(ex.target, lambda i: "not scored"),
        feature_names=fill(ex.feature_names, lambda i: ()), verdicts=fill(ex.verdicts, lambda i: failed(faults[i])),
        extras={key: fill(entries, lambda i: None) for key, entries in ex.extras.items()}, inputs=every, provenance=provenance,
    )  # fmt: skip


def _with_extras(found: Attribution, cut: _Cut, n: int) -> Attribution:
    """Add what a plot needs to draw the parts, when the values stand on the same parts as the coalitions."""
    if cut.made:
        thinned = cut.features.thinned if found.parameters.get("absence") == cut.features.absence else ""
        found.notes = (*found.notes, *(note for note in (*cut.features.notes, thinned) if note and note not in found.notes))
        if thinned and found.stderr is None:
            why = f"The method draws nothing at random, but the background was: {thinned}"
            found.checks = _added(found, Check("sampling error", "not run", why))
    if cut.made and found.axes == cut.features.axes:
        drawn = [cut.features.extras(i) for i in range(n)]
        found.extras = {**{key: [one[key] for one in drawn] for key in drawn[0]}, **found.extras}
    return found


def _added(found: Attribution, check: Check | None) -> Sequence[Mapping[str, Check]]:
    """The method's own checks, with one more for every input."""
    if check is None:
        return found.checks
    return [{**(found.checks[i] if len(found.checks) else {}), check.name: check} for i in range(len(found.values))]


def _at_inputs(goal: Target, scores: np.ndarray) -> np.ndarray:
    """The target's values ``(n, k)`` at the inputs; all functionals of all inputs at once could be more than memory holds."""
    if goal.k == 1:
        return np.asarray(goal(scores, np.arange(len(scores))))
    return np.stack([goal(scores[i : i + 1], i)[0] for i in range(len(scores))])


def _stack(values: Sequence[np.ndarray] | np.ndarray, every: bool) -> np.ndarray:
    """One array over instances of unequal length, padded with NaN."""
    shapes = {values.shape[1:]} if isinstance(values, np.ndarray) else {v.shape for v in values}
    if len(shapes) == 1:
        stacked = np.array(values, dtype=np.float64)
        return stacked if every else stacked[..., 0]
    shape = tuple(max(sizes) for sizes in zip(*shapes, strict=True))
    stacked = np.full((len(values), *shape), np.nan)
    for i, one in enumerate(values):
        stacked[i][tuple(slice(0, s) for s in one.shape)] = one
    return stacked if every else stacked[..., 0]
