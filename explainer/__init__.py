"""Explain any trained model, say how far the explanation can be trusted, check the data, and write a report.

Public names are loaded when first used, so that ``import explainer`` stays instant: it loads neither torch nor plotly.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from explainer.adapters.acceleration import accelerate as accelerate
    from explainer.checks.fixes import fix as fix
    from explainer.checks.run import check as check
    from explainer.explanation import Explanation as Explanation
    from explainer.explanation import Verdict as Verdict
    from explainer.explanation import load as load
    from explainer.inspection.ablation import ablate as ablate
    from explainer.inspection.activations import activations as activations
    from explainer.inspection.concepts import concepts as concepts
    from explainer.inspection.contributions import contributions as contributions
    from explainer.inspection.counterfactuals import counterfactuals as counterfactuals
    from explainer.inspection.dependence import partial_dependence as partial_dependence
    from explainer.inspection.effect import effect as effect
    from explainer.inspection.heads import head_importance as head_importance
    from explainer.inspection.importance import importance as importance
    from explainer.inspection.lens import logit_lens as logit_lens
    from explainer.inspection.neurons import neuron as neuron
    from explainer.inspection.patching import patch as patch
    from explainer.inspection.permutation import permutation_importance as permutation_importance
    from explainer.inspection.probes import probe as probe
    from explainer.inspection.reasons import reason_codes as reason_codes
    from explainer.inspection.visualisation import visualise as visualise
    from explainer.model import Model as Model
    from explainer.model import wrap as wrap
    from explainer.pipeline import explain as explain
    from explainer.plots import plot as plot
    from explainer.reports.audit import audit as audit
    from explainer.reports.verify import verify as verify
    from explainer.trust.agreement import compare as compare
    from explainer.trust.faithfulness import evaluate as evaluate

_HOMES = {
    "accelerate": "explainer.adapters.acceleration",
    "Explanation": "explainer.explanation", "Verdict": "explainer.explanation", "load": "explainer.explanation",
    "Model": "explainer.model", "wrap": "explainer.model", "explain": "explainer.pipeline",
    "compare": "explainer.trust.agreement", "evaluate": "explainer.trust.faithfulness",
    "plot": "explainer.plots", "check": "explainer.checks.run", "fix": "explainer.checks.fixes",
    "effect": "explainer.inspection.effect",
    "contributions": "explainer.inspection.contributions", "counterfactuals": "explainer.inspection.counterfactuals",
    "partial_dependence": "explainer.inspection.dependence",
    "permutation_importance": "explainer.inspection.permutation",
    "head_importance": "explainer.inspection.heads",
    "importance": "explainer.inspection.importance", "reason_codes": "explainer.inspection.reasons",
    "ablate": "explainer.inspection.ablation", "activations": "explainer.inspection.activations",
    "concepts": "explainer.inspection.concepts", "logit_lens": "explainer.inspection.lens", "neuron": "explainer.inspection.neurons",
    "patch": "explainer.inspection.patching", "probe": "explainer.inspection.probes", "visualise": "explainer.inspection.visualisation",
    "audit": "explainer.reports.audit", "verify": "explainer.reports.verify",
}  # fmt: skip

__all__ = sorted(_HOMES)


_ROOMS = ("errors", "plots")  # modules that are called by name, as in explainer.plots.plot_confusion


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"explainer.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'explainer' has no attribute {name!r}; it offers {', '.join(__all__)}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
