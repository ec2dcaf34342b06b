"""Concepts (TCAV): whether a model's score rises in the direction of a concept that a person shows by examples."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explainer.errors import InvalidInput, Unsupported, unknown
from explainer.explanation import Provenance
from explainer.inputs import join, take
from explainer.inspection import saving
from explainer.inspection.network import followed, last_layer, layers_of
from explainer.inspection.probes import pooled
from explainer.inspection.tables import scale_of, stamp
from explainer.metrics import wilson
from explainer.progress import reporter
from explainer.target import Target, resolve

if TYPE_CHECKING:
    import pandas as pd

    from explainer.adapters.layers import Layers, View
    from explainer.adapters.torch import TorchModel

RUNS = 20
ALPHA = 0.05
_FEWEST = 4  # examples of a concept: two to fit, two to judge
_FOLDS = 3
CORRECTIONS = ("bh", "bonferroni")


@dataclass(frozen=True, eq=False)
class Concepts:
    """How often the target's score rises along each concept, and whether that differs from random directions.

    Attributes
    ----------
    scores : ``(layers, concepts, runs)`` TCAV scores: the share of inputs whose score rises along the concept's direction.
    random : ``(layers, runs)`` the same for directions between two random sets.
    accuracy : ``(layers, concepts)`` held-out accuracy of telling the concept from random examples, mean over runs.
    known : ``(layers, concepts)`` bool: that accuracy is above 1/2 by more than chance (Wilson's 95 % interval). Without it a
        direction stands for these examples and for no concept: any fixed set gives scores that hardly vary between runs, and
        the t-test alone may call them significant.
    p : ``(layers, concepts)`` of the two-sided t-test between both, corrected over all of them.
    """

    concepts: tuple[str, ...]
    layers: tuple[str, ...]
    scores: np.ndarray
    random: np.ndarray
    accuracy: np.ndarray
    known: np.ndarray
    p: np.ndarray
    correction: str
    target: str
    rows: int
    provenance: Provenance

    def __post_init__(self) -> None:
        for array in (self.scores, self.random, self.accuracy, self.known, self.p):
            array.setflags(write=False)

    @property
    def values(self) -> np.ndarray:
        """``(layers, concepts)``: mean TCAV score over the runs."""
        return self.scores.mean(axis=2)

    @property
    def significant(self) -> np.ndarray:
        """``(layers, concepts)`` bool: told from random directions at 5 %, along a direction that does tell the concept."""
        return (self.p < ALPHA) & self.known

    def said(self, layer: int, concept: int) -> str:
        """The outcome in words."""
        name, where = self.concepts[concept], self.layers[layer]
        if not self.known[layer, concept]:
            accuracy = f"{self.accuracy[layer, concept]:.2f}"
            return f"not significant: {name!r} cannot be told from random examples in {where} by more than chance (accuracy {accuracy})"
        if not self.significant[layer, concept]:
            return f"not significant: no different from random directions in {where} (p = {self.p[layer, concept]:.2g})"
        way = "for" if self.values[layer, concept] > self.random[layer].mean() else "against"
        return f"significant: {name!r} speaks {way} {self.target} in {where} (p = {self.p[layer, concept]:.2g})"

    def to_frame(self) -> pd.DataFrame:
        """One row per layer and concept."""
        import pandas as pd

        return pd.DataFrame([
            {
                "layer": layer, "concept": concept, "tcav": self.values[i, j], "std": self.scores[i, j].std(ddof=1),
                "random": self.random[i].mean(), "accuracy": self.accuracy[i, j], "p": self.p[i, j],
                "significant": bool(self.significant[i, j]), "outcome": self.said(i, j),
            }
            for i, layer in enumerate(self.layers) for j, concept in enumerate(self.concepts)
        ])  # fmt: skip

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it as one JSON file."""
        return saving.save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Concepts:
        """Read what :meth:`save` wrote. Raises InvalidInput, CorruptFile."""
        found = saving.load(path, cls.__name__)
        arrays = {key: np.array(found[key], dtype=float) for key in ("scores", "random", "accuracy", "p")}
        tuples = {key: tuple(found[key]) for key in ("concepts", "layers")}
        arrays["known"] = np.array(found["known"], dtype=bool)
        return cls(**{**found, **arrays, **tuples, "provenance": saving.provenance(found["provenance"])})


def concepts(
    model: Any,
    inputs: Any,
    examples: Mapping[str, Any],
    random: Any,
    *,
    layers: Any = None,
    target: Any = None,
    output: str = "logit",
    runs: int = RUNS,
    correction: str = "bh",
    seed: int = 0,
    progress: Any = False,
) -> Concepts:
    r"""Whether the score rises when a layer's activation moves towards a concept shown by examples: TCAV (Kim et al. 2018).

    .. math:: TCAV = \frac1n \left|\{x : \nabla_{a_l} s(x) \cdot v > 0\}\right|

    with v the normal of a linear classifier between activations of the concept's examples and of random ones. Each run draws
    half of the random examples (as many as there are of the concept, at most) anew; random directions are drawn in the same
    way from one half against the other. A two-sided Welch t-test compares both sets of scores, corrected over layers x
    concepts. Runs share examples, so p is too small where the random pool is: give several times as many as of a concept.

    Parameters
    ----------
    inputs : inputs of the class that is asked about.
    examples : per concept its inputs. ``random`` : inputs that show nothing in particular.
    layers : names; by default the last layer before the head.
    target : class name, index or margin; the output of a model with one.
    correction : "bh" (Benjamini & Hochberg 1995, the false discovery rate) or "bonferroni".

    Images and tables are compared position by position, texts and series by their mean over positions. Raises InvalidInput,
    UnknownName, Unsupported.
    """
    started = time.perf_counter()
    net = followed(model, "Concepts (TCAV)", inputs)
    given, pool = net.canonical(inputs), net.canonical(random)
    shown = _examples(net, examples, pool, runs, correction)
    goal, scale = _goal(net, target), scale_of(net, output)
    found = layers_of(net, given)
    names = found.named(layers) if layers is not None else [last_layer(net, given)]
    how = "flat" if net.modality in ("image", "tabular") else "mean"
    rng = np.random.default_rng(seed)
    scores, accuracy = np.empty((len(names), len(shown), runs)), np.empty((len(names), len(shown)))
    known = np.empty(accuracy.shape, dtype=bool)
    chance = np.empty((len(names), runs))
    with reporter(progress, "Concepts") as report:
        total = len(names) * (1 + len(shown))
        slopes = {name: _slopes(found, given, name, goal, scale, how) for name in names}
        noise = pooled(found, pool, names, how)
        shows = {concept: pooled(found, rows, names, how) for concept, rows in shown.items()}
        for i, name in enumerate(names):
            size = min(min(len(rows) for rows in shown.values()), len(pool) // 2)
            chance[i] = [_share(slopes[name], _direction(*_halves(noise[name], size, rng))[0]) for _ in range(runs)]
            report(i * (1 + len(shown)) + 1, total)
            for j, concept in enumerate(shown):
                made = [_direction(*_drawn(shows[concept][name], noise[name], rng), rng=rng) for _ in range(runs)]
                scores[i, j] = [_share(slopes[name], direction) for direction, _ in made]
                accuracy[i, j] = float(np.mean([held for _, held in made]))
                judged = 2 * min(len(shown[concept]), len(pool) // 2)
                known[i, j] = wilson(accuracy[i, j] * judged, judged)[0] > 0.5
                report(i * (1 + len(shown)) + 2 + j, total)
    p = corrected(np.array([[_welch(one, chance[i]) for one in scores[i]] for i in range(len(names))]), correction)
    parameters = {"layers": names, "runs": runs, "target": goal.labels[0], "output": scale, "correction": correction, "pool": how}
    every = [given, pool, *shown.values()]
    return Concepts(
        concepts=tuple(shown), layers=tuple(names), scores=scores, random=chance, accuracy=accuracy, known=known, p=p,
        correction=correction, target=goal.labels[0], rows=len(given),
        provenance=stamp(net, "TCAV", join(every), seed, sum(map(len, every)), started, parameters),
    )  # fmt: skip


def _examples(net: TorchModel, examples: Any, pool: Any, runs: int, correction: str) -> dict[str, Any]:
    if not isinstance(examples, Mapping) or not examples:
        raise InvalidInput('Concepts are shown by examples: pass {"striped": striped_inputs, ...}.')
    if isinstance(runs, bool) or not isinstance(runs, (int, np.integer)) or runs < 2:
        raise InvalidInput(f"runs={runs!r} is how many directions are fitted per concept; a test needs at least 2.")
    if correction not in CORRECTIONS:
        raise unknown("correction", correction, CORRECTIONS)
    shown = {str(name): net.canonical(rows) for name, rows in examples.items()}
    for name, rows in (*shown.items(), ("random", take(pool, slice(0, len(pool) // 2)) if len(pool) > 1 else pool)):
        if len(rows) < _FEWEST:
            twice = " (twice that of random ones, which are compared with each other)" if name == "random" else ""
            raise InvalidInput(f"{len(rows)} examples of {name!r} are too few; at least {_FEWEST} are needed{twice}.")
    return shown


def _goal(net: TorchModel, target: Any) -> Target:
    if target is None and len(net.class_names) > 1:
        raise InvalidInput(f"Say which score is asked about: target=, one of {', '.join(net.class_names[:8])}.")
    goal = resolve(0 if target is None else target, np.zeros((1, len(net.class_names))), net.class_names)
    if goal.k != 1 or target == "predicted":
        raise InvalidInput("concepts() follows one score for all inputs: name a class or a margin as target.")
    return goal


def _slopes(found: Layers, given: Any, name: str, goal: Target, scale: str, how: str) -> np.ndarray:
    """``(n, features)``: the gradient of the score by the layer's activation, laid out as the activations are."""
    import torch

    net = found.model
    made: list[tuple[np.ndarray, np.ndarray]] = []
    with net.differentiating():
        for rows in net.batches(given):
            leaves: list[torch.Tensor] = []

            def cut(seen: View, leaves: list[torch.Tensor] = leaves) -> torch.Tensor:
                leaves.append(seen.values.detach().clone().requires_grad_())
                return leaves[0]

            scores = net.rescale(found.run(net.encode(take(given, rows)), {name: cut}), scale)
            total = goal(scores, 0).sum()
            slope = torch.autograd.grad(total, leaves, allow_unused=True)[0] if total.requires_grad else None
            if slope is None:
                raise Unsupported(f"The score does not depend on the layer {name!r} by a gradient; choose another layer.")
            flat = slope.flatten(1) if how == "flat" else slope.reshape(len(rows), -1, slope.shape[-1]).sum(1)
            made.append((rows, flat.double().cpu().numpy()))
    slopes = np.empty((len(given), made[0][1].shape[1]))
    for rows, values in made:
        slopes[rows] = values
    if not slopes.any():
        raise Unsupported(
            f"The gradient of the score by the layer {name!r} is 0 for all {len(given)} inputs; use output='logit', or another target "
            "(a model of one logit scores its second class)."
        )
    return slopes


def _halves(noise: np.ndarray, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    order = rng.permutation(len(noise))
    return noise[order[:size]], noise[order[size : 2 * size]]


def _drawn(shown: np.ndarray, noise: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    size = min(len(shown), len(noise) // 2)
    return shown[rng.permutation(len(shown))[:size]], noise[rng.permutation(len(noise))[:size]]


def _direction(of: np.ndarray, others: np.ndarray, rng: np.random.Generator | None = None) -> tuple[np.ndarray, float]:
    """The normal of a linear classifier that points towards ``of``, and its cross-validated accuracy (with ``rng``)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    x, y = np.concatenate([of, others]), np.repeat([1, 0], [len(of), len(others)])
    x = (x - x.mean(axis=0)) / (float(x.std(axis=0).max()) or 1.0)
    turn = None
    if x.shape[1] > len(x):  # in the span of the examples: the same classifier, in as many numbers as there are examples
        turn = np.linalg.svd(x, full_matrices=False)[2]
        x = x @ turn.T
    line, held = LogisticRegression(max_iter=200), float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence: the accuracy says how good the direction is
        if rng is not None:
            split = StratifiedKFold(_FOLDS, shuffle=True, random_state=int(rng.integers(2**31)))
            held = float(cross_val_score(line, x, y, cv=split).mean())
        direction = line.fit(x, y).coef_[0]
    return (direction if turn is None else direction @ turn), held


def _share(slopes: np.ndarray, direction: np.ndarray) -> float:
    return float(np.mean(slopes @ direction > 0))


def _welch(one: np.ndarray, other: np.ndarray) -> float:
    """Two-sided p; where neither varies, 1 if they are equal and 0 if not."""
    from scipy.stats import ttest_ind

    if one.std() == 0 and other.std() == 0:
        return float(one[0] == other[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where one side never varies, scipy doubts digits that are exact here
        return float(ttest_ind(one, other, equal_var=False).pvalue)


def corrected(p: np.ndarray, how: str) -> np.ndarray:
    """p-values corrected for how many there are."""
    flat, m = p.ravel(), p.size
    if how == "bonferroni":
        return np.minimum(p * m, 1.0)
    order = np.argsort(flat)
    ranked = flat[order] * m / np.arange(1, m + 1)
    adjusted = np.empty(m)
    adjusted[order] = np.minimum(np.minimum.accumulate(ranked[::-1])[::-1], 1.0)
    return adjusted.reshape(p.shape)
