"""Sanity: an explanation of a model with random weights must look different (Adebayo et al. 2018)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from explainer.errors import ExplainerError
from explainer.explanation import Check, grade
from explainer.methods.attribution import Attribution

PASS, WARN = 0.5, 0.8
_MEANING = {
    "pass": "the explanation depends on what the model learned",
    "warn": "part of the explanation comes from the input or the architecture alone",
    "fail": "the explanation hardly depends on what the model learned",
}


def randomisation_checks(found: Attribution, rerun: Callable[..., Attribution], model: Any, seed: int) -> list[Check]:
    """Per instance: rank correlation of |values| between the model and the same model with all weights drawn anew."""
    n, name = len(found.values), "randomisation"
    if not model.differentiable:
        return [Check(name, "not run", "The weights of this model cannot be reached.")] * n
    try:
        other = rerun(model=_randomised(model, seed))
    except ExplainerError as error:
        return [Check(name, "not run", f"The method did not run on the randomised model: {error}")] * n
    checks = []
    for values, strange in zip(found.values, other.values, strict=True):
        a, b = np.abs(values[..., 0]), np.abs(strange[..., 0])
        # Parts equal to the baseline are 0 under any weights; their ties would pass for likeness.
        told = (a > 0) | (b > 0)
        likeness = rank_correlation(a[told], b[told]) if told.sum() > 1 else 0.0
        status = grade(likeness, PASS, WARN)
        checks.append(Check(name, status, f"With random weights the ranking agrees by {likeness:.2f}: {_MEANING[status]}.", likeness, PASS))
    return checks


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rho of two arrays of one shape; 0 where one of them is constant."""
    from scipy.stats import rankdata

    x, y = rankdata(a.reshape(-1)), rankdata(b.reshape(-1))
    if x.std() == 0 or y.std() == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def _randomised(model: Any, seed: int) -> Any:
    """A torch model whose weights are permuted within each tensor: same scale, nothing learned."""
    import torch

    module = copy.deepcopy(model.module)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            parameter.copy_(parameter.reshape(-1)[order].reshape(parameter.shape))
    made = model.on(module)
    made.name = f"{model.name} with random weights"
    return made
