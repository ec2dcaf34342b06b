"""Every method, in one explicit table."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from explainer.inputs import MODALITIES

Family = Literal["gradient", "cam", "attention", "coalition", "tree", "own", "peer"]
_GROUPS = {
    "gradient": "Gradients", "cam": "Class activation maps", "attention": "Attention", "coalition": "Shapley values, LIME, rules",
    "tree": "Trees", "own": "Functions of the caller", "peer": "Objects of captum and shap that only ask for scores",
}  # fmt: skip
_HIDING = ("ablation", "occlusion", "rise")


@dataclass(frozen=True)
class Method:
    """One entry: what it is called, in one sentence what its values mean, and where its function lives.

    The function is called as ``function(model, inputs, target, **keywords)`` with those keywords of the pool (output,
    baseline, background, seed, budget, progress, coalitions, and the caller's own) that its signature names. It returns
    an :class:`~explainer.methods.attribution.Attribution`. ``level`` and ``caveat`` say what the values are on a model that
    the method's family can run on; ``modalities`` are the kinds of input it is for. ``fits`` names a function
    ``(model) -> Capability | None`` where the method itself says more about a model than its family does.
    """

    name: str
    title: str
    family: Family
    summary: str
    home: str = ""
    level: Literal["exact", "approximate"] = "approximate"
    caveat: str = ""
    modalities: tuple[str, ...] = MODALITIES
    fits: str = ""
    own: Callable[..., Any] | None = None

    @property
    def function(self) -> Callable[..., Any]:
        if self.own is not None:
            return self.own
        return _named(self.home)

    @property
    def group(self) -> str:
        """The heading it stands under in a list of methods."""
        return "Occlusion" if self.name in _HIDING else _GROUPS[self.family]

    @property
    def layer(self) -> str | None:
        """What ``layer=`` is where nobody says: a layer's name, "auto", "" for the input itself; None where there is no layer=."""
        found = inspect.signature(self.function).parameters.get("layer")
        return None if found is None else found.default or ""

    def judged(self, model: Any) -> Any:
        """What the method itself says it is on ``model``: a Capability, or None where its family's rules say it all."""
        return _named(self.fits)(model) if self.fits else None


def grouped(methods: Iterable[str]) -> dict[str, list[str]]:
    """Names of methods under their headings, both in the order of the table."""
    chosen = set(methods)
    groups: dict[str, list[str]] = {}
    for name, method in METHODS.items():
        if name in chosen:
            groups.setdefault(method.group, []).append(name)
    return groups


def _named(place: str) -> Callable[..., Any]:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "integrated_gradients", "Integrated gradients", "gradient",
            "Each part's share of the difference from a baseline's score, from gradients along the way to the input; the shares add up.",
            "explainer.methods.gradient:integrated_gradients",
            caveat="Exact up to the integration error, which is measured.",
        ),
        Method(
            "expected_gradients", "Expected gradients", "gradient",
            "Each part's share of the difference from the average score: integrated gradients from background rows; the shares add up.",
            "explainer.methods.expected:expected_gradients",
            caveat="Sampled, each value with its standard error.",
        ),
        Method(
            "deeplift_shap", "DeepLIFT SHAP", "gradient",
            "Each part's share of the difference from the average score: differences from background rows, carried back layer by layer.",
            "explainer.methods.deeplift:deeplift_shap",
            fits="explainer.methods.deeplift:fits",
            caveat="A quick stand-in for Shapley values; the shares add up where every function has a rule, which is measured.",
        ),
        Method(
            "deeplift", "DeepLIFT", "gradient",
            "Each part's share of the difference from a baseline's score: differences from the baseline, carried back layer by layer.",
            "explainer.methods.deeplift:deeplift",
            fits="explainer.methods.deeplift:fits",
            caveat="The shares add up where every function has a rule, which is measured.",
        ),
        Method(
            "saliency", "Saliency", "gradient",
            "How strongly the score reacts to a tiny change of each part.",
            "explainer.methods.gradient:saliency",
            level="exact",
            caveat="The gradient itself; it says how the score reacts nearby, not what it is made of.",
        ),
        Method(
            "input_x_gradient", "Input x gradient", "gradient",
            "The gradient times the input: what each part would add if the model were linear from zero on.",
            "explainer.methods.gradient:input_x_gradient",
            level="exact",
            caveat="Exact as a formula; its values add up to the score only where the model is linear from zero on.",
        ),
        Method(
            "smoothgrad", "SmoothGrad", "gradient",
            "The gradient averaged over noisy copies of the input: how the score reacts around it, without the jitter at the point.",
            "explainer.methods.smoothing:smoothgrad",
            caveat="Sampled, each value with its standard error; how much noise is a choice, which the result names.",
        ),
        Method(
            "vargrad", "VarGrad", "gradient",
            "The variance of the gradient over noisy copies of the input: where the reaction of the score changes most.",
            "explainer.methods.smoothing:vargrad",
            caveat="Sampled, without standard errors; it says where the gradient is unsteady, not which way the score moves.",
        ),
        Method(
            "guided_backprop", "Guided backpropagation", "gradient",
            "The gradient, of which every ReLU lets only the positive part back: a sharp picture, of the input more than of the model.",
            "explainer.methods.backprop:guided_backprop",
            caveat="Known to fail the randomisation test: on deep networks its picture is much the same with random weights.",
            fits="explainer.methods.backprop:guided_backprop_fits",
        ),
        Method(
            "lrp", "Layer-wise relevance propagation", "gradient",
            "Each part's share of the score, handed back layer by layer by what each input of a layer adds to its result.",
            "explainer.methods.backprop:lrp",
            caveat="Biases and epsilon keep their part of the score, so the values need not add up to it.",
            fits="explainer.methods.backprop:lrp_fits",
        ),
        Method(
            "layer_conductance", "Layer conductance", "gradient",
            "Each unit's share, in one layer, of the difference from a baseline's score; the shares add up.",
            "explainer.methods.units:layer_conductance",
            fits="explainer.methods.units:fits",
            caveat="Exact up to the integration error, which is measured; what goes past the layer shows as a gap.",
        ),
        Method(
            "internal_influence", "Internal influence", "gradient",
            "How the score reacts to each unit of a layer, averaged over the way from a baseline to the input.",
            "explainer.methods.units:internal_influence",
            fits="explainer.methods.units:fits",
            caveat="Exact up to the integration error; reactions, not shares: the values do not add up to the score.",
        ),
        Method(
            "grad_cam", "Grad-CAM", "cam",
            "Which cells of a late layer's map speak for the score: its channels, each weighted by its mean gradient.",
            "explainer.methods.cam:grad_cam",
            caveat="A coarse map of one layer; it does not add up to the score.",
            modalities=("image",), fits="explainer.methods.cam:fits",
        ),
        Method(
            "grad_cam_plus_plus", "Grad-CAM++", "cam",
            "Which cells of a late layer's map speak for the score: its channels, weighted so that several places of one class all count.",
            "explainer.methods.cam:grad_cam_plus_plus",
            caveat="A coarse map of one layer; it does not add up to the score.",
            modalities=("image",), fits="explainer.methods.cam:fits",
        ),
        Method(
            "layer_cam", "Layer-CAM", "cam",
            "Which cells of a layer's map speak for the score: its activations, each weighted by its own positive gradient.",
            "explainer.methods.cam:layer_cam",
            caveat="A map of one layer, fine where the layer is early; it does not add up to the score.",
            modalities=("image",), fits="explainer.methods.cam:fits",
        ),
        Method(
            "score_cam", "Score-CAM", "cam",
            "Which cells of a late layer's map speak for the score: its channels, each weighted by the score seen through it alone.",
            "explainer.methods.scorecam:score_cam",
            caveat="A coarse map of one layer, without gradients; it does not add up to the score.",
            modalities=("image",), fits="explainer.methods.cam:fits_without_gradient",
        ),
        Method(
            "eigen_cam", "Eigen-CAM", "cam",
            "Which cells of a late layer's map hold most of what is in it, whatever the class.",
            "explainer.methods.cam:eigen_cam",
            caveat="A coarse map of one layer; it is the same for every class.",
            modalities=("image",), fits="explainer.methods.cam:fits_any_class",
        ),
        Method(
            "attention", "Attention", "attention",
            "How much of each part reaches the read-out through the attention of all layers: what was looked at, not what decided.",
            "explainer.methods.attention:attention",
            caveat="The weights are exact; that they explain the score is not given, so their faithfulness is measured.",
            fits="explainer.methods.attention:fits",
        ),
        Method(
            "attention_relevance", "Attention relevance", "attention",
            "Attention weighted by how the score reacts to it: which of the parts looked at counted for the class explained.",
            "explainer.methods.attention:attention_relevance",
            caveat="What speaks against the class is left out; that the rest explains the score is not given, so it is measured.",
            fits="explainer.methods.attention:fits_encoder",
        ),
        Method(
            "attention_norms", "Attention norms", "attention",
            "Attention weighted by the size of the vectors it carries, so that what was looked at but empty counts little.",
            "explainer.methods.attention:attention_norms",
            caveat="The norms are exact; that they explain the score is not given, so their faithfulness is measured.",
            fits="explainer.methods.attention:fits_norms",
        ),
        Method(
            "attention_flow", "Attention flow", "attention",
            "The most that can flow from each part to the read-out through the attention of all layers; for up to 128 tokens.",
            "explainer.methods.attention:attention_flow",
            caveat="The flows are exact; that they explain the score is not given, so their faithfulness is measured.",
            fits="explainer.methods.attention:fits_encoder",
        ),
        Method(
            "shap", "SHAP", "coalition",
            "Shapley values: each part's fair share of the difference between the score and the average score; the shares add up.",
            "explainer.methods.shapley:shap",
            caveat="Sampled, each value with its standard error; exact on trees and linear models that can be read.",
        ),
        Method(
            "tree_shap", "TreeSHAP, path-dependent", "tree",
            "Shapley values in the trees' own terms: at a split on an absent column a row goes both ways, as the training rows did.",
            "explainer.methods.trees:tree_shap",
            level="exact",
            caveat="Exact, without background rows; another game than SHAP's, whose absent columns take background rows' values.",
            modalities=("tabular",),
        ),
        Method(
            "owen", "Owen values", "coalition",
            "Shapley values that respect groups: parts of a group come and go together, and its share is divided inside it.",
            "explainer.methods.owen:owen",
            caveat="Exact where the budget covers the hierarchy; else what is not split is shared evenly, which the result says.",
        ),
        Method(
            "shap_interactions", "SHAP interactions", "coalition",
            "How the score is made up of single parts and of pairs of parts; all entries add up to the score minus the average score.",
            "explainer.methods.interactions:shap_interactions",
            caveat="Sampled, each value with its standard error; tree ensembles and up to 16 parts can be exact.",
        ),
        Method(
            "lime", "LIME", "coalition",
            "Coefficients of a simple linear model fitted to the scores around the input.",
            "explainer.methods.lime:lime",
            caveat="A linear stand-in; how well it follows the model is measured.",
        ),
        Method(
            "anchors", "Anchors", "coalition",
            "A rule, a few parts kept, under which the prediction hardly ever changes, and what each part adds to that.",
            "explainer.methods.anchors:anchors",
            caveat="A rule; how often it holds is measured, on perturbed copies drawn for that alone.",
        ),
        Method(
            "ablation", "Ablation", "coalition",
            "How much of the score goes when one part alone is taken away.",
            "explainer.methods.occlusion:ablation",
            level="exact",
            caveat="Exact, one part at a time; parts that stand in for each other hide each other's share.",
        ),
        Method(
            "occlusion", "Occlusion", "coalition",
            "How much of the score goes when a window that slides over the input is hidden.",
            "explainer.methods.occlusion:occlusion",
            level="exact",
            caveat="Exact for the window chosen; another size of window may show something else.",
            modalities=("image", "text", "series"),
        ),
        Method(
            "rise", "RISE", "coalition",
            "How much higher the score is on random masks that show a part than on all random masks.",
            "explainer.methods.rise:rise",
            caveat="Sampled, each value with its standard error.",
        ),
    )
}  # fmt: skip
