"""One judge per method, the same for all tools: how far an answer is from what is right, and how far it may be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import attentions
import enumerated
import noise
import numpy as np
import truths
from cases import Case
from contenders import Answer, Call, Failure, attempt, explained, pairs

Outcome = Literal["right", "flagged", "refused", "wrong", "error", "not judged", "none"]
SYMBOLS: dict[Outcome, str] = {
    "right": "+", "flagged": "!", "refused": "-", "wrong": "X", "error": "E", "not judged": "?", "none": " ",
}  # fmt: skip
EXACT, SMOOTHED, SUMMED, SAMPLED, CHANCE = 1e-3, 0.01, 0.02, 0.05, 4.0
_CANCEL = 0.1
_ROUNDED = 1e-3  # of the mean square gradient: float32 does not tell a smaller variance
_MEASURED = ("completeness", "integration", "sampling error", "fault")


@dataclass(frozen=True)
class Cell:
    """What came of one tool's method on one model; ``far`` is its error as a share of the largest right value."""

    tool: str
    method: str
    model: str
    kind: str
    outcome: Outcome
    detail: str = ""
    far: float | None = None


@dataclass(frozen=True)
class Distance:
    """An error as a share of the largest right value, what is allowed, and what was compared."""

    far: float
    allowed: float
    what: str

    @property
    def right(self) -> bool:
        return self.far <= self.allowed


class Judge:
    """What is right on one case, each truth found once."""

    def __init__(self, case: Case) -> None:
        self.case = case

    def __call__(self, method: str, answer: Answer) -> Distance | None:
        """None where what is right cannot be said."""
        return getattr(self, f"_{method}")(answer)

    def _near(self, values: np.ndarray, truth: np.ndarray | None, allowed: float, what: str, least: float = 1e-6) -> Distance | None:
        if truth is None:
            return None
        if values.shape != truth.shape or not np.isfinite(values).all():
            return Distance(float("inf"), allowed, f"{what}: {values.shape} numbers for {truth.shape}, or none")
        size = max(float(np.abs(truth).max()), least)
        return Distance(float(np.abs(values - truth).max()) / size, max(allowed, self.case.tolerance), what)

    def _sums(self, answer: Answer, starts: Any, allowed: float) -> Distance:
        """The sum against the difference of scores, over the larger of the difference and the largest value."""
        wanted = truths.difference(self.case, starts)
        total = float(np.mean([one[1] for one in answer.draws])) if answer.draws else answer.total
        size = max(abs(wanted), float(np.abs(answer.values).max()), 1e-6)
        return Distance(abs(total - wanted) / size, max(allowed, self.case.tolerance), "sum against the difference of scores")

    @staticmethod
    def _worse(*found: Distance | None) -> Distance:
        return max((one for one in found if one is not None), key=lambda one: one.far / one.allowed)

    # -- gradients ----------------------------------------------------------------------------------------------------------

    @cached_property
    def slopes(self) -> np.ndarray:
        return truths.slopes(self.case)

    @cached_property
    def least(self) -> float:
        """What slopes are held against where those of one part cancel: a layer norm takes no notice of a shift."""
        return max(1e-6, _CANCEL * truths.steepness(self.case))

    @cached_property
    def integrals(self) -> np.ndarray | None:
        return truths.paths(self.case, self.case.baseline)

    def _saliency(self, answer: Answer) -> Distance | None:
        return self._near(answer.values, self.slopes, EXACT, "slope by differences", self.least)

    def _smoothgrad(self, answer: Answer) -> Distance | None:
        return self._near(answer.values, self.slopes, SMOOTHED, "slope by differences", self.least)

    def _vargrad(self, answer: Answer) -> Distance | None:
        said = answer.more["explanation"].provenance.parameters
        found = noise.variances(self.case, said["samples"] // 2, said["noise"])
        if found is None:
            return None
        truth, square = found
        return self._near(answer.values, truth, EXACT, "variance of gradients one by one", max(1e-9, _ROUNDED * square))

    def _input_x_gradient(self, answer: Answer) -> Distance | None:
        least = max(1e-6, _CANCEL * truths.steepness(self.case, times_input=True))
        return self._near(answer.values, truths.slopes(self.case, times_input=True), EXACT, "slope along the input by differences", least)

    def _integrated_gradients(self, answer: Answer) -> Distance | None:
        parts = self._near(answer.values, self.integrals, SAMPLED, "integral of slopes by differences")
        return self._worse(self._sums(answer, self.case.baseline, SAMPLED), parts)

    def _expected_gradients(self, answer: Answer) -> Distance | None:
        starts = self.case.references
        truth = self.integrals if self.case.modality == "text" else truths.paths(self.case, starts)
        parts = self._sampled(answer, truth, SAMPLED, "mean integral of slopes by differences")
        draws = np.array([one[1] for one in answer.draws])
        wanted = truths.difference(self.case, starts)
        largest = np.abs(answer.values if truth is None else truth).max()
        size = max(abs(wanted), float(largest), 1e-6)
        chance = CHANCE * draws.std(ddof=1) / np.sqrt(len(draws)) / size
        allowed = max(SAMPLED, self.case.tolerance) + float(chance)
        return self._worse(parts, Distance(abs(float(draws.mean()) - wanted) / size, allowed, "sum against the difference of scores"))

    def _sampled(self, answer: Answer, truth: np.ndarray | None, floor: float, what: str) -> Distance | None:
        """The mean over seeds, held to a floor and four of its standard errors."""
        if truth is None:
            return None
        draws = np.array([one[0] for one in answer.draws])
        size = max(float(np.abs(truth).max()), 1e-6)
        chance = CHANCE * draws.std(0, ddof=1).max() / np.sqrt(len(draws)) / size
        return self._near(draws.mean(0), truth, max(floor, self.case.tolerance) + float(chance), what)

    # -- layer-by-layer rules ---------------------------------------------------------------------------------------------------

    def _deeplift(self, answer: Answer) -> Distance | None:
        return self._rescaled(answer, self.case.baseline)

    def _deeplift_shap(self, answer: Answer) -> Distance | None:
        return self._rescaled(answer, self.case.references)

    def _rescaled(self, answer: Answer, starts: Any) -> Distance | None:
        truth = truths.rescale(self.case, starts)
        parts = self._near(answer.values, truth, EXACT, "the rescale rule by hand")
        return self._worse(self._sums(answer, starts, SUMMED), parts)

    def _guided_backprop(self, answer: Answer) -> Distance | None:
        return self._near(answer.values, truths.guided(self.case), EXACT, "the formula at every ReLU", self.least)

    def _lrp(self, answer: Answer) -> Distance | None:
        return self._near(answer.values, truths.relevance(self.case), SMOOTHED, "input times modified gradient")

    def _layer_conductance(self, answer: Answer) -> Distance | None:
        return self._sums(answer, self.case.baseline, SAMPLED) if self.head else None

    def _internal_influence(self, answer: Answer) -> Distance | None:
        truth = truths.influence(self.case, self.head) if self.head else None
        return self._near(answer.values, truth, EXACT, "mean gradient along the way, node by node")

    @cached_property
    def head(self) -> str | None:
        return truths.linear_head(self.case)

    # -- maps and attention ----------------------------------------------------------------------------------------------------

    def _cam(self, method: str, answer: Answer) -> Distance | None:
        if "explanation" in answer.more:
            ex = answer.more["explanation"]
            drawn, said = np.asarray(ex.extras["map"][0])[..., 0], ex.provenance.parameters
            layer, call = str(said["layer"]), int(said.get("call", 0))
        else:
            drawn, layer, call = answer.values.reshape(answer.more["shape"]), str(answer.more["layer"]), 0
        if method == "score_cam":
            truth, size = truths.score_cam(self.case, layer, drawn.shape, call)
        else:
            truth, size = truths.cam(self.case, method, layer, drawn.shape, call)
        return self._near(drawn, truth, EXACT, f"the formula at {layer}", max(1e-9, _CANCEL * size))

    def _grad_cam(self, answer: Answer) -> Distance | None:
        return self._cam("grad_cam", answer)

    def _grad_cam_plus_plus(self, answer: Answer) -> Distance | None:
        return self._cam("grad_cam_plus_plus", answer)

    def _layer_cam(self, answer: Answer) -> Distance | None:
        return self._cam("layer_cam", answer)

    def _score_cam(self, answer: Answer) -> Distance | None:
        return self._cam("score_cam", answer)

    def _eigen_cam(self, answer: Answer) -> Distance | None:
        return self._cam("eigen_cam", answer)

    @cached_property
    def weights(self) -> np.ndarray | None:
        return attentions.attention(self.case)

    def _attention(self, answer: Answer) -> Distance | None:
        given = np.asarray(answer.more["explanation"].values[0], dtype=np.float64)
        if self.weights is not None and self.weights.shape == given.shape:
            return self._near(given, self.weights, EXACT, "the weights of eager attention")
        rows = np.nansum(given, -1)
        return Distance(float(np.abs(rows - 1).max()), EXACT, "rows that sum to one")

    def _attention_rollout(self, answer: Answer) -> Distance | None:
        if self.weights is None:
            return None
        return self._at_words(answer, attentions.rollout(self.weights, self._reading), "rollout entry by entry")

    @property
    def _reading(self) -> np.ndarray:
        assert self.weights is not None
        return np.eye(1, self.weights.shape[-1], self._start)[0]

    @cached_property
    def _start(self) -> int:
        return 0 if self.weights is None or attentions.readout(self.case) == "first" else self.weights.shape[-1] - 1

    def _attention_norms(self, answer: Answer) -> Distance | None:
        if self.weights is None:
            return None
        mixing = attentions.norms(self.case, self.weights)
        reach = None if mixing is None else attentions.rollout(mixing, self._reading)
        return self._at_words(answer, reach, "norms entry by entry, rolled out")

    def _attention_flow(self, answer: Answer) -> Distance | None:
        if self.weights is None:
            return None
        return self._at_words(answer, attentions.flow(self.weights, self._start), "largest flow by linear programming")

    def _attention_relevance(self, answer: Answer) -> Distance | None:
        return self._at_words(
            answer, attentions.attention_relevance(self.case, self._start), "the recursion on eager weights and their gradients"
        )

    def _at_words(self, answer: Answer, reach: np.ndarray | None, what: str) -> Distance | None:
        if reach is None or self.case.modality == "text":
            at_words = None if reach is None else np.array([reach[tokens].sum() for tokens in self.case.words])
            return self._near(answer.values, at_words, EXACT, what)
        given = np.asarray(answer.more["explanation"].values[0], dtype=np.float64)
        return self._near(given, attentions.spread(reach, given.shape), EXACT, what)

    # -- games ----------------------------------------------------------------------------------------------------------------

    def _game(self, answer: Answer) -> Callable[[np.ndarray], np.ndarray]:
        return self.case.game(removed="explanation" in answer.more)

    def _shap(self, answer: Answer) -> Distance | None:
        truth = enumerated.shapley(self._game(answer), self.case.count)
        if len(answer.draws) > 1:
            return self._sampled(answer, truth, SAMPLED, "Shapley values by enumeration")
        return self._near(answer.values, truth, SUMMED, "Shapley values by enumeration")

    def _owen(self, answer: Answer) -> Distance | None:
        truth = enumerated.owen(self._game(answer), self.case.count, pairs(self.case))
        return self._near(answer.values, truth, EXACT, "Owen values by enumeration")

    def _shap_interactions(self, answer: Answer) -> Distance | None:
        truth = enumerated.interactions(self._game(answer), self.case.count).ravel()
        coarse = 2 * self.case.tolerance  # differences of differences: of twice as many scores
        return self._near(answer.values, truth, max(EXACT, coarse), "interactions by enumeration")

    def _rise(self, answer: Answer) -> Distance | None:
        if self.case.modality == "image":
            return None
        return self._sampled(answer, enumerated.shown(self._game(answer), self.case.count), SAMPLED, "mean scores by enumeration")

    def _ablation(self, answer: Answer) -> Distance | None:
        return self._near(answer.values, enumerated.left_out(self._game(answer), self.case.count), EXACT, "each part left out")

    def _occlusion(self, answer: Answer) -> Distance | None:
        lost = enumerated.left_out(self.case.game(), self.case.count)
        return self._near(answer.values, lost[self.case.labels].ravel(), EXACT, "each window hidden")


def applies(case: Case, method: str) -> bool:
    """Whether a method is for this kind of model at all."""
    if method.endswith("_cam") or method in ("grad_cam_plus_plus", "occlusion"):
        return case.modality == "image"
    return not method.startswith("attention") or case.modality == "text" or hasattr(case.core_of(case.model.module), "config")


def cell(tool: str, method: str, case: Case, judge: Judge, call: Call) -> Cell:
    """Ask one tool, and judge what it says."""

    def made(outcome: Outcome, detail: str = "", far: float | None = None) -> Cell:
        return Cell(tool, method, case.name, case.kind, outcome, detail, far)

    if not applies(case, method) or (method in ("layer_conductance", "internal_influence") and tool != "ours" and judge.head is None):
        return made("none")
    answer = attempt(call, case, "explainer" if tool == "ours" else tool)
    if isinstance(answer, Failure):
        return made("flagged" if answer.flagged else "refused" if answer.refused else "error", answer.reason)
    found = judge(method, answer)
    if found is None:
        return made("not judged")
    if found.right:
        return made("right", found.what, found.far)
    said = answer.said or _verdict(case, answer)
    return made("flagged" if said else "wrong", f"{found.what}{': ' + said if said else ''}", found.far)


def _verdict(case: Case, answer: Answer) -> str:
    """What our own verdict says against the answer: only checks that measured it count."""
    if "again" not in answer.more:
        return ""
    method, options = answer.more["again"]
    checks = explained(case, method, verify=True, **options)[2]["explanation"].verdicts[0].checks
    return next((c.reason for name, c in checks.items() if name in _MEASURED and c.status in ("warn", "fail")), "")
