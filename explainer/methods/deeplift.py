"""DeepLIFT, and its average over background rows: differences from a reference, carried back layer by layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from explainer.adapters import ways
from explainer.adapters.multipliers import NotShared, Overwritten, Tape
from explainer.adapters.torch import out_of_memory, require_torch
from explainer.errors import ExplainerError, Unsupported
from explainer.inputs import take
from explainer.methods.attribution import Attribution
from explainer.methods.passes import Batch, Progress, Run
from explainer.methods.references import References
from explainer.model import Capability, Model
from explainer.target import Target, resolve

_GAP = 0.01  # of the difference explained: beyond it the note names what no rule covers
_NO_RULE = "functions that DeepLIFT has no rule for"
_WRONG = 0.5  # of the difference explained, or of a tenth of the score's scale: beyond it the values say nothing


def deeplift_shap(
    model: Model,
    inputs: Any,
    target: Target,
    *,
    output: str = "probability",
    baseline: Any = "auto",
    background: Any = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Attribution:
    """Each part's share of the difference between the score and the mean score of the background, by DeepLIFT's multipliers.

    The mean over background rows b of ``(x - b) * m(x, b)``, m the product of the layers' multipliers: Lundberg & Lee 2017,
    arXiv:1705.07874 (captum's ``DeepLiftShap``, shap's ``DeepExplainer``). The rules stand in
    :mod:`explainer.adapters.multipliers`; captum's are those of the rescale rule alone. Background rows and inputs go forward
    once each wherever rows do not mix, not once per pair.

    Parameters
    ----------
    baseline, background : see :class:`~explainer.methods.references.References`; "auto" compares with background rows.

    Raises Unsupported on models without gradients, or that take another way for the reference than for the input.
    """
    return _attribute("deeplift_shap", model, inputs, target, output, baseline, background, seed, progress, single=False, layer=None)


def deeplift(
    model: Model,
    inputs: Any,
    target: Target,
    *,
    output: str = "probability",
    baseline: Any = "auto",
    background: Any = None,
    layer: str | None = None,
    progress: Progress | None = None,
) -> Attribution:
    """Each part's share of ``f(x) - f(x')``, by DeepLIFT's multipliers between a baseline x' and the input x.

    ``(x - x') * m(x, x')``, m the product of the layers' multipliers: Shrikumar, Greenside & Kundaje 2017, arXiv:1704.02685
    (captum's ``DeepLift``, and with ``layer`` its ``LayerDeepLift``). The rules stand in :mod:`explainer.adapters.multipliers`.
    A maximum gives its change to the entry that is the larger of the two maxima, captum's rule too. Where a ReLU and a pooling follow
    each other directly, captum 0.9 goes past the rule of the later: its hooks stand on one tensor, and the earlier reads it first.

    Parameters
    ----------
    baseline, background : see :meth:`~explainer.adapters.gradients.GradientView.baseline`.
    layer : values of the units of this layer; see :func:`~explainer.methods.gradient.integrated_gradients`.

    Raises Unsupported on models without gradients, or that take another way for the baseline than for the input.
    """
    return _attribute("deeplift", model, inputs, target, output, baseline, background, 0, progress, single=True, layer=layer)


def _attribute(
    name: str, model: Model, inputs: Any, target: Target, output: str, baseline: Any, background: Any, seed: int,
    progress: Progress | None, single: bool, layer: str | None,
) -> Attribution:  # fmt: skip
    torch_model = require_torch(model, name)
    references = References(torch_model, inputs, baseline, background, seed, single)
    run = Run(torch_model, inputs, target, output, progress, layer)
    base, gap = np.empty((len(inputs), target.k)), np.zeros(len(inputs))
    uncovered: set[str] = set()
    with torch_model.differentiating():
        for batch in run.batches(2):
            pairs = _Pairs(run, batch, references.of(batch))
            values = pairs.values()
            base[batch.rows] = pairs.base
            sums = values.flatten(2).sum(2).T.cpu().numpy()
            wanted = pairs.here - pairs.base
            gap[batch.rows] = (np.abs(sums - wanted) / np.maximum(np.abs(wanted), _GAP)).max(1)
            uncovered |= pairs.uncovered
            for j in range(target.k):
                run.keep(batch, j, values[j])
    missed = int((gap > _GAP).sum())
    if missed:
        run.notes.append(
            f"For {missed} of {len(inputs)} inputs the values miss the difference by more than {_GAP:.0%} of it: "
            f"{_because(uncovered)}. Use integrated_gradients or shap."
        )
    found = run.attribution({"references": references.in_words, "rule": "rescale"})
    found.base = base
    return found


def _because(uncovered: set[str]) -> str:
    if uncovered:
        return f"{_NO_RULE} follow their gradient ({', '.join(sorted(uncovered))})"
    return "every function has a rule, but multipliers that all but cancel leave their rounding (another baseline= may do better)"


def fits(model: Model) -> Capability | None:
    """What DeepLIFT is on ``model``: refused where the module branches, else with the gap it leaves at a sample input."""
    torch_model = require_torch(model, "deeplift")
    anatomy, sample = torch_model.anatomy(), torch_model.sample()
    if anatomy.branches:
        return Capability(
            "unsupported",
            f"Which way the module goes depends on the input's values ({anatomy.branches}), so that the ways of reference and input cannot "
            "be compared. Use integrated_gradients or shap.",
        )
    if any(fact.what == "TorchScript" for fact in anatomy.facts):
        return Capability("unsupported", "TorchScript hides the functions that DeepLIFT has rules for. Use integrated_gradients or shap.")
    pair = ways.varied(torch_model, sample) if anatomy.probed else None
    if pair is None:
        return None
    row = take(pair, slice(1, 2))
    output = "raw" if model.task == "regression" else "probability"
    try:
        scores = model.scores(row, output)
        goal = resolve("predicted", scores, model.class_names)
        found = deeplift(model, row, goal, output=output)
    except Unsupported as error:
        return Capability("unsupported", str(error))
    except ExplainerError:  # the sample does not fit, which says nothing about the model
        return None
    assert found.base is not None
    here, base = float(goal(scores, 0)[0, 0]), float(found.base[0, 0])
    missing = abs(float(found.values[0].sum()) - (here - base))
    gap = missing / max(abs(here - base), _GAP)
    scale = 1.0 if output == "probability" else max(abs(here), abs(base))
    if gap <= _GAP:
        return Capability("approximate", f"On a sample input the shares add up to within {gap:.1g} of the difference explained.")
    why = next((note.partition("of it: ")[2] for note in found.notes if "of it: " in note), "")
    missed = f"On a sample input the shares miss the difference explained by {gap:.0%} of it: {why}"
    wrong = _NO_RULE in why and missing > _WRONG * max(abs(here - base), scale / 10)  # rounding is another matter with another baseline
    return Capability("unsupported" if wrong else "approximate", missed)


class _Pairs:
    """One batch of inputs, each compared with each of its references.

    After :meth:`values`: ``base`` and ``here`` ``(n, k)``, the mean value at the references and the value at the inputs.
    """

    def __init__(self, run: Run, batch: Batch, starts: Tensor) -> None:
        self.run, self.batch, self.starts, self.k = run, batch, starts, run.target.k
        self.n = len(batch.rows)
        self.uncovered: set[str] = set()
        self._sharing = starts.shape[1] == 1 and len(starts) > 1 and not batch.view.others
        self._copies = False

    def values(self) -> Tensor:
        """Values ``(k, n, ...)`` in float64, the mean over references."""
        while True:
            try:
                return self._shared() if self._sharing else self._one_by_one()
            except NotShared:
                self._sharing = False
            except Overwritten:
                if self._copies:
                    raise
                self._copies = True
            except RuntimeError as error:
                if not out_of_memory(error) or self.run.rows < 2 * self.n:
                    raise
                self.run.rows //= 2

    def _start(self) -> Tensor:
        self.base, self.here = np.zeros((self.n, self.k)), np.zeros((self.n, self.k))
        shape = (self.k, self.n, *self.batch.view.x.shape[1:])
        return torch.zeros(shape, dtype=torch.float64, device=self.batch.view.x.device)

    def _shared(self) -> Tensor:
        """References go forward once; inputs too, in as many copies as one pass holds, which meet other references in turn."""
        view, n, total = self.batch.view, self.n, self._start()
        for chosen in torch.arange(len(self.starts), device=view.x.device).split(max(2, self.run.rows)):
            turns = -(-len(chosen) // max(1, min(self.run.rows, self.run.quick_rows) // n))
            copies = -(-len(chosen) // turns)
            points = self.starts[chosen, 0]
            given = torch.cat([points, points[:1]]) if len(points) == copies * n else points
            tape = Tape((len(given), copies * n), self._copies)
            scores = self._references(tape, given, ())[: len(points)]
            self.base += self._goal(scores.repeat_interleave(n, 0), self.batch.numbers.repeat(len(points))).reshape(-1, n, self.k).sum(0)
            x, values = self._inputs(tape, copies, ())
            for turn in range(turns):
                which = torch.arange(turn * copies, (turn + 1) * copies, device=view.x.device)
                real = which < len(points)
                tape.which = which.clamp(max=len(points) - 1)
                way = (view.x - points[tape.which][:, None]) * real.reshape(-1, *[1] * view.x.ndim)
                self._add(total, x, values, way)
        return self._mean(total)

    def _one_by_one(self) -> Tensor:
        """Every pair of an input and a reference goes forward: each input has its own references, or rows are mixed up inside."""
        view, n, total = self.batch.view, self.n, self._start()
        for starts in self.starts.split(max(1, self.run.rows // n)):
            count = len(starts)
            others = tuple(t.repeat(count, *[1] * (t.ndim - 1)) for t in view.others)
            tape = Tape(None, self._copies)
            points = starts.expand(count, n, *view.x.shape[1:])
            scores = self._references(tape, points.flatten(0, 1), others)
            self.base += self._goal(scores, self.batch.numbers.repeat(count)).reshape(count, n, self.k).sum(0)
            x, values = self._inputs(tape, count, others)
            self._add(total, x, values, view.x - points)
        return self._mean(total)

    def _mean(self, total: Tensor) -> Tensor:
        self.base /= len(self.starts)
        return total / len(self.starts)

    def _references(self, tape: Tape, points: Tensor, others: tuple[Tensor, ...]) -> Tensor:
        with torch.no_grad(), tape:
            scores = self._scores(points, others)
        self.run.evaluations += len(points)
        tape.turn()
        return scores

    def _inputs(self, tape: Tape, copies: int, others: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        view, target = self.batch.view, self.run.target
        x = view.x.repeat(copies, *[1] * (view.x.ndim - 1)).requires_grad_()
        with tape:
            scores = self._scores(x, others)
        tape.done()
        self.uncovered |= tape.uncovered
        self.run.evaluations += len(x)
        values = scores if target.function is not None else target(scores, self.batch.numbers.repeat(copies).cpu().numpy())
        if not values.requires_grad:
            raise Unsupported(
                "The score is cut off from the input: somewhere the module leaves differentiable operations (argmax, detach, numpy, "
                "no_grad). DeepLIFT would say nothing; use 'shap' or 'lime'."
            )
        self.here = values[: self.n].detach().cpu().numpy()
        return x, values

    def _scores(self, points: Tensor, others: tuple[Tensor, ...]) -> Tensor:
        """The model's scores on the scale explained; with a target of the caller's own, that target's values ``(m, 1)``."""
        scores = self.batch.model.rescale(self.batch.view.forward(points, *others).double(), self.batch.output)
        function = self.run.target.function
        if function is None:
            return scores
        try:
            return function(scores).reshape(-1, 1)
        except (RuntimeError, TypeError, AttributeError) as error:
            if isinstance(error, ExplainerError) or out_of_memory(error):
                raise
            raise Unsupported(
                f"The target function {self.run.target.labels[0]} fails on torch scores ({error}); for DeepLIFT it must use torch "
                "operations, or plain indexing and arithmetic."
            ) from error

    def _goal(self, scores: Tensor, numbers: Tensor) -> np.ndarray:
        target = self.run.target
        return (scores if target.function is not None else target(scores, numbers.cpu().numpy())).detach().cpu().numpy()

    def _add(self, total: Tensor, x: Tensor, values: Tensor, way: Tensor) -> None:
        """Add ``way`` (references, n, ...) times the multipliers of each functional, summed over the references."""
        for j in range(self.k):
            try:
                (multiplier,) = torch.autograd.grad(values[:, j].sum(), x, retain_graph=True, allow_unused=True)
            except RuntimeError as error:
                if isinstance(error, ExplainerError) or out_of_memory(error):
                    raise
                raise Unsupported(
                    f"PyTorch cannot differentiate this module: {str(error).splitlines()[0]} Use 'shap' or 'lime'."
                ) from error
            if multiplier is None:
                raise Unsupported("The score does not depend on the tensor that carries the features. Use 'shap' or 'lime'.")
            total[j] += (way.double() * multiplier.reshape(way.shape)).sum(0)
        self.run.evaluations += self.k * len(x)
        self.run.tick()
