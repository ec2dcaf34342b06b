"""Figures: pure functions from a result to a plotly ``Figure``; nothing is computed, changed or shown here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import plotly.graph_objects as go

from explainer.checks.finding import Finding
from explainer.explanation import Explanation
from explainer.inspection.ablation import Ablation
from explainer.inspection.activations import Activations
from explainer.inspection.concepts import Concepts
from explainer.inspection.contributions import Contributions
from explainer.inspection.counterfactuals import Counterfactuals
from explainer.inspection.dependence import Dependence
from explainer.inspection.effect import Effect
from explainer.inspection.heads import HeadImportance
from explainer.inspection.importance import Importance
from explainer.inspection.lens import LogitLens
from explainer.inspection.notices import Reasons
from explainer.inspection.patching import Patching
from explainer.inspection.permutation import PermutationImportance
from explainer.inspection.probes import Probing
from explainer.inspection.visualisation import Visualisation
from explainer.plots.activations import plot_activations as plot_activations
from explainer.plots.activations import plot_visualisation as plot_visualisation
from explainer.plots.attention import plot_attention as plot_attention
from explainer.plots.attention import plot_attention_heads as plot_attention_heads
from explainer.plots.attention import plot_attention_model as plot_attention_model
from explainer.plots.attention import plot_head_importance as plot_head_importance
from explainer.plots.bars import plot_bars as plot_bars
from explainer.plots.counterfactuals import plot_counterfactuals as plot_counterfactuals
from explainer.plots.dependence import plot_dependence as plot_dependence
from explainer.plots.effect import plot_effect as plot_effect
from explainer.plots.findings import plot_finding as plot_finding
from explainer.plots.image import plot_image as plot_image
from explainer.plots.importance import plot_contributions as plot_contributions
from explainer.plots.importance import plot_importance as plot_importance
from explainer.plots.look import nothing as _nothing
from explainer.plots.look import part as _part
from explainer.plots.model import plot_calibration as plot_calibration
from explainer.plots.model import plot_confusion as plot_confusion
from explainer.plots.model import plot_history as plot_history
from explainer.plots.model import plot_margins as plot_margins
from explainer.plots.model import plot_probabilities as plot_probabilities
from explainer.plots.pairs import is_of_pairs as is_of_pairs
from explainer.plots.pairs import plot_pairs as plot_pairs
from explainer.plots.patching import plot_ablation as plot_ablation
from explainer.plots.patching import plot_lens as plot_lens
from explainer.plots.patching import plot_patching as plot_patching
from explainer.plots.permutation import plot_permutation as plot_permutation
from explainer.plots.pictures import plot_pictures as plot_pictures
from explainer.plots.pictures import plot_plane as plot_plane
from explainer.plots.probes import plot_concepts as plot_concepts
from explainer.plots.probes import plot_probing as plot_probing
from explainer.plots.reasons import plot_reasons as plot_reasons
from explainer.plots.series import plot_series as plot_series
from explainer.plots.text import plot_text as plot_text
from explainer.plots.text import tinted as tinted
from explainer.plots.thresholds import plot_thresholds as plot_thresholds
from explainer.plots.units import plot_units as plot_units

# What is not an Explanation, and how it is drawn.
_OTHERS: dict[type, Callable[..., go.Figure]] = {
    Importance: lambda found, instance, output, top, dark: plot_importance(found, top=top, dark=dark),
    Reasons: lambda found, instance, output, top, dark: plot_reasons(found, instance=instance, dark=dark),
    Contributions: lambda found, instance, output, top, dark: plot_contributions(found, dark=dark),
    Dependence: lambda found, instance, output, top, dark: plot_dependence(found, output=output, dark=dark),
    PermutationImportance: lambda found, instance, output, top, dark: plot_permutation(found, top=top, dark=dark),
    HeadImportance: lambda found, instance, output, top, dark: plot_head_importance(found, dark=dark),
    Counterfactuals: lambda found, instance, output, top, dark: plot_counterfactuals(found, instance=instance, dark=dark),
    Activations: lambda found, instance, output, top, dark: plot_activations(found, dark=dark),
    Visualisation: lambda found, instance, output, top, dark: plot_visualisation(found, dark=dark),
    Probing: lambda found, instance, output, top, dark: plot_probing(found, dark=dark),
    Concepts: lambda found, instance, output, top, dark: plot_concepts(found, dark=dark),
    Patching: lambda found, instance, output, top, dark: plot_patching(found, dark=dark),
    Ablation: lambda found, instance, output, top, dark: plot_ablation(found, top=top, dark=dark),
    Effect: lambda found, instance, output, top, dark: plot_effect(found, top=top, dark=dark),
    Finding: lambda found, instance, output, top, dark: plot_finding(found, dark=dark),
    LogitLens: lambda found, instance, output, top, dark: plot_lens(found, instance=instance, dark=dark),
}


def plot(
    ex: Any, *, instance: int = 0, output: int | str | None = None, top: int = 12, opacity: float = 0.75, dark: bool = False
) -> go.Figure:
    """Draw one instance of an explanation in the way its kind of input is read; also what the
    views of a model give (importance, reason codes, dependence, activations, probes, patching and others), a data check's
    finding, and the effect of a fix.

    Parameters
    ----------
    instance : which one of a batch.
    output : with ``target="all"``, the class (name or index) drawn; by default the one with the highest score.
    top : how many bars, where bars are drawn; the others stand together as "rest of N features".
    opacity : of the heat map over an image, 0 to 1.
    dark : ink for a dark page; the ground is see-through in both.

    Raises InvalidInput for what is no result, UnknownName for an output that does not exist.
    """
    if type(ex) in _OTHERS:
        return _OTHERS[type(ex)](ex, instance, output, top, dark)
    if isinstance(ex, Explanation) and not np.isfinite(ex.values[instance]).any():
        return _nothing(ex.verdicts[instance].reason, dark)
    if isinstance(ex, Explanation) and ex.axes[1:3] == ("layer", "head") and ex.extras.get("attention"):
        return plot_attention_model(ex, instance=instance, dark=dark)
    drawn = _part(ex, instance, output)
    axes, extras = drawn.axes, drawn.ex.extras
    if is_of_pairs(axes):
        return plot_pairs(ex, instance=instance, output=output, dark=dark)
    if axes[:2] == ("row", "column") or (axes == ("superpixel",) and extras.get("segments")):
        return plot_image(ex, instance=instance, output=output, opacity=opacity, dark=dark)
    if axes in (("word",), ("sentence",), ("part",)):
        return plot_text(ex, instance=instance, output=output, top=top, dark=dark)
    if axes == ("time", "channel") or (axes == ("segment", "channel") and extras.get("segments")):
        return plot_series(ex, instance=instance, output=output, dark=dark)
    if axes == ("channel", "row", "column") or (len(axes) == 2 and axes[1] == "unit"):
        return plot_units(ex, instance=instance, output=output, top=top, dark=dark)
    return plot_bars(ex, instance=instance, output=output, top=top, dark=dark)
