"""The three tools' calls, each as its documentation has it, one function per method, and what came of a call.

For captum and shap everything a careful user would write is written: a module that unwraps dicts and dataclasses, feeds further
arguments, and takes embeddings where the model takes token ids (captum's ``configure_interpretable_embedding_layer``, or
``inputs_embeds``); feature masks, several references, more samples than the default. The module itself is handed over as it is.
"""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import attentions
import numpy as np
import torch
import truths
from cases import Case, Face
from torch import Tensor

import explainer
from explainer.errors import ExplainerError

SAMPLES, SEEDS, STEPS = 200, 6, 200
NOISE = 1e-6  # so little that a smoothed gradient is the gradient
# What captum says on every call: no word on whether the result can be right.
_ALWAYS = ("Setting forward, backward hooks", "Setting backward hooks", "did not already require gradients", "required_grads", "default")
# And what other libraries' calls in it bring up, which has nothing to do with the answer.
_HINTS = ("is deprecated", "non-writable", "torch.jit", "is not going to be", "lazily", "full_backward_hook", "NumPy global RNG")


@dataclass
class Answer:
    """What a tool said: values of the case's parts (or cells, players, weights), and their sum over everything.

    ``draws`` holds the same of further seeds; ``said`` what the tool itself says against its answer; ``more`` what a judge needs.
    """

    values: np.ndarray
    total: float
    draws: list[tuple[np.ndarray, float]] = field(default_factory=list)
    said: str = ""
    more: dict[str, Any] = field(default_factory=dict)


@dataclass
class Failure:
    """No answer: ``refused`` with a reason of the tool's own, else it crashed."""

    refused: bool
    reason: str
    flagged: bool = False  # it had an answer and says itself that it is wrong


Call = Callable[[Case], Answer]


def attempt(call: Call, case: Case, package: str) -> Answer | Failure:
    """Run one call, and tell a refusal (raised by the tool's own statement) from a crash."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            answer = call(case)
        except Exception as error:
            return _failure(error, package)
    said = [str(w.message) for w in caught if package in w.filename.replace("\\", "/") and package != "explainer"]
    said = [one for one in said if not any(word in one for word in (*_ALWAYS, *_HINTS))]
    answer.said = answer.said or (said[0] if said else "")
    return answer


def _failure(error: Exception, package: str) -> Failure:
    reason = " ".join(str(error).split()) or type(error).__name__
    if package == "explainer":
        meant = isinstance(error, ExplainerError)
        return Failure(meant, reason if meant else f"{type(error).__name__}: {reason}")
    last = traceback.extract_tb(error.__traceback__)[-1]
    own = f"/{package}/" in last.filename.replace("\\", "/") and (last.line or "").lstrip().startswith(("raise", "assert"))
    own = own or isinstance(error, NotImplementedError)  # the model's own word on what it cannot do
    return Failure(own, f"{type(error).__name__}: {reason}"[:300], "do not sum up to the model" in reason)


# -- ours ---------------------------------------------------------------------------------------------------------------------


def ours(method: str, seeds: int = 1, **fixed: Any) -> Call:
    """``explain`` on the module's own output, with what ``fixed`` says (functions of the case are called)."""

    def call(case: Case) -> Answer:
        options = {key: value(case) if callable(value) else value for key, value in fixed.items()}
        options = {key: value for key, value in options.items() if value is not None}
        found = [explained(case, method, seed=seed, **options) for seed in range(seeds)]
        return Answer(*found[0][:2], [one[:2] for one in found], more={**found[0][2], "again": (method, options)})

    return call


def explained(case: Case, method: str, **options: Any) -> tuple[np.ndarray, float, dict[str, Any]]:
    """Values at the case's parts where they are per part (else all of them), their sum, and the result itself."""
    options = {"verify": False, **options}
    ex = explainer.explain(case.model, case.given, method, target=case.target, output="raw", **options)
    values = np.asarray(ex.values[0], dtype=np.float64)
    by_part = len(case.parts[0][0]) == values.ndim and method not in _OF_OTHER_PARTS
    at_parts = np.array([values[where] for where, _ in case.parts]) if by_part else values.ravel()
    return at_parts, float(values.sum()), {"explanation": ex}


_OF_OTHER_PARTS = ("shap", "owen", "shap_interactions", "rise", "ablation", "layer_conductance", "internal_influence", "occlusion")


def zero(case: Case) -> Any:
    return np.zeros((1, case.given.shape[1]), dtype=np.float32) if case.modality == "tabular" else "zeros"


def absent(case: Case) -> Any:
    return "remove" if case.modality == "text" else zero(case)


def cut(case: Case) -> Any:
    """How ours cuts the input into the case's players."""
    return {"image": lambda: case.labels[None], "series": lambda: case.labels}.get(case.modality, lambda: None)()


def pairs(case: Case) -> list[list[int]]:
    """Groups of two neighbours among the case's players, the last alone where they are odd."""
    return [[j, j + 1] for j in range(0, case.count - 1, 2)]


def reference(case: Case) -> Any:
    return "zeros" if case.modality == "text" else "auto"


def window(case: Case) -> Any:
    return tuple(side // 2 for side in case.given.shape[1:3])


def into_head(case: Case) -> str:
    """The layer that conductance is asked for."""
    name = truths.linear_head(case)
    return "auto" if name is None else f"input of {name}"


def head_attention(case: Case) -> Answer:
    """Raw weights; rollout is told from them."""
    values, total, more = explained(case, "attention", kind="raw")
    return Answer(values, total, more=more)


OURS: dict[str, Call] = {
    "saliency": ours("saliency", absolute=False),
    "input_x_gradient": ours("input_x_gradient"),
    "integrated_gradients": ours("integrated_gradients", baseline="zeros"),
    "smoothgrad": ours("smoothgrad", absolute=False, noise=NOISE, samples=16),
    "vargrad": ours("vargrad"),
    "expected_gradients": ours("expected_gradients", SEEDS, background=lambda c: c.background, baseline=reference, budget=SAMPLES),
    "deeplift": ours("deeplift", baseline="zeros"),
    "deeplift_shap": ours("deeplift_shap", background=lambda c: c.background, baseline=reference),
    "guided_backprop": ours("guided_backprop"),
    "lrp": ours("lrp"),
    "layer_conductance": ours("layer_conductance", baseline="zeros", layer=into_head),
    "internal_influence": ours("internal_influence", baseline="zeros", layer=into_head),
    "grad_cam": ours("grad_cam", relu=False),
    "grad_cam_plus_plus": ours("grad_cam_plus_plus", relu=False),
    "layer_cam": ours("layer_cam", relu=False),
    "score_cam": ours("score_cam", relu=False, weights="increase", budget=4096),
    "eigen_cam": ours("eigen_cam"),
    "attention": head_attention,
    "attention_rollout": ours("attention", readout=attentions.readout),
    "attention_norms": ours("attention_norms", readout=attentions.readout),
    "attention_flow": ours("attention_flow", readout=attentions.readout),
    "attention_relevance": ours("attention_relevance", readout=attentions.readout),
    "shap": ours("shap", baseline=absent, features=cut),
    "owen": ours("owen", baseline=absent, features=cut, groups=pairs),
    "shap_interactions": ours("shap_interactions", baseline=absent, features=cut),
    "rise": ours("rise", SEEDS, baseline=absent, features=cut, budget=20 * SAMPLES),
    "ablation": ours("ablation", baseline=absent, features=cut),
    "occlusion": ours("occlusion", baseline="zeros", window=window, stride=window),
}

# -- captum ---------------------------------------------------------------------------------------------------------------------


def _at_parts(case: Case, given: Any) -> tuple[np.ndarray, float]:
    """Attributions shaped like the tensors, summed over each part's entries."""
    tensors = [torch.as_tensor(t).detach().double().reshape(x.shape) for t, x in zip(_tuple(given), case.inputs, strict=True)]
    parts = [sum(float((m * t).sum()) for m, t in zip(masks, tensors, strict=True)) for _, masks in case.parts]
    return np.array(parts), sum(float(t.sum()) for t in tensors)


def _tuple(given: Any) -> tuple[Any, ...]:
    return tuple(given) if isinstance(given, (tuple, list)) else (given,)


def _one(tensors: tuple[Tensor, ...]) -> Any:
    """Captum and shap give back a tuple where a tuple came."""
    copies = tuple(t.clone() for t in tensors)
    return copies if len(copies) > 1 else copies[0]


def by_captum(attribute: Callable[[Face, Case], Any], seeds: int = 1) -> Call:
    """``attribute`` gives attributions shaped like the case's tensors."""

    def call(case: Case) -> Answer:
        found = []
        for seed in range(seeds):
            face = case.face()
            torch.manual_seed(seed)
            found.append(_at_parts(case, attribute(face, case)))
        return Answer(*found[0], found)

    return call


def _at(name: str, **fixed: Any) -> Call:
    """A method of captum that takes input and target, and of ``fixed`` those values or functions of the case."""
    import captum.attr

    def attribute(face: Face, case: Case) -> Any:
        options = {key: value(case) if callable(value) else value for key, value in fixed.items()}
        return getattr(captum.attr, name)(face).attribute(_one(case.inputs), target=case.column, **options)

    return by_captum(attribute, SEEDS if name == "GradientShap" else 1)


def _noisy(face: Face, case: Case) -> Any:
    from captum.attr import NoiseTunnel, Saliency

    tunnel = NoiseTunnel(Saliency(face))
    return tunnel.attribute(_one(case.inputs), nt_type="smoothgrad", nt_samples=16, stdevs=NOISE, target=case.column, abs=False)


def _captum_conductance(case: Case) -> Answer:
    from captum.attr import LayerConductance

    name, face = truths.linear_head(case), case.face()
    if name is None:
        raise LookupError("no single linear head")
    layer = case.core_of(face.module).get_submodule(name)
    found = LayerConductance(face, layer).attribute(
        _one(case.inputs), _one(case.baseline), target=case.column, n_steps=STEPS, attribute_to_layer_input=True
    )  # fmt: skip
    total = sum(float(t.sum()) for t in _tuple(found))
    return Answer(np.array([total]), total)


def _captum_cam(case: Case) -> Answer:
    from captum.attr import LayerGradCam

    name, face = truths.last_convolution(case), case.face()
    layer = case.core_of(face.module).get_submodule(str(name))
    found = LayerGradCam(face, layer).attribute(_one(case.inputs), target=case.column)
    drawn = found.detach().double().numpy()[0, 0]
    return Answer(drawn.ravel(), float(drawn.sum()), more={"layer": name, "shape": drawn.shape})


def _captum_game(name: str, seeds: int = 1, **fixed: Any) -> Call:
    """A perturbing method: on the case's players, absent entries 0; of a text on its ids, 0 is the padding token."""
    import captum.attr

    def call(case: Case) -> Answer:
        found = []
        given = tuple(case.arguments[i].clone() for i in case.positions)
        empty = case.absent(np.zeros((1, case.count), dtype=bool))
        players = tuple(torch.where(p < 0, case.count, p) for p in case.players)  # special tokens: a player whose absence is its presence
        for seed in range(seeds):
            tool = getattr(captum.attr, name)(case.face(by_tokens=True))
            torch.manual_seed(seed)
            np.random.seed(seed)
            values = tool.attribute(_one(given), baselines=_one(empty), target=case.column, feature_mask=_one(players), **fixed)
            found.append(_of_players(case, values))
        return Answer(*found[0], found)

    return call


def _of_players(case: Case, given: Any) -> tuple[np.ndarray, float]:
    """One value per player, from attributions that repeat it on each of its entries."""
    values = np.zeros(case.count)
    for tensor, player in zip(_tuple(given), case.players, strict=True):
        for j in range(case.count):
            if bool((player == j).any()):
                values[j] = float(tensor.detach()[player == j].double().mean())
    return values, float(values.sum())


def _captum_occlusion(case: Case) -> Answer:
    from captum.attr import Occlusion

    (x,) = case.inputs
    size = (x.shape[1], *window(case))
    found = Occlusion(case.face()).attribute(x.clone(), size, strides=size, baselines=0, target=case.column).detach().double()
    values = found[0, 0].numpy()
    return Answer(values.ravel(), float(values.sum()))


def captums() -> dict[str, Call]:
    """Captum's methods that have a counterpart in ours."""
    start = {"baselines": lambda case: _one(case.baseline)}
    several = {"baselines": lambda case: _one(case.references)}
    return {
        "saliency": _at("Saliency", abs=False),
        "input_x_gradient": _at("InputXGradient"),
        "integrated_gradients": _at("IntegratedGradients", n_steps=STEPS, **start),
        "smoothgrad": by_captum(_noisy),
        "expected_gradients": _at("GradientShap", n_samples=SAMPLES, stdevs=0.0, **several),
        "deeplift": _at("DeepLift", **start),
        "deeplift_shap": _at("DeepLiftShap", **several),
        "guided_backprop": _at("GuidedBackprop"),
        "lrp": _at("LRP"),
        "layer_conductance": _captum_conductance,
        "grad_cam": _captum_cam,
        "shap": _captum_game("KernelShap", SEEDS, n_samples=SAMPLES),
        "ablation": _captum_game("FeatureAblation"),
        "occlusion": _captum_occlusion,
    }


# -- shap -------------------------------------------------------------------------------------------------------------------------


def _shap_gradients(case: Case) -> Answer:
    import shap

    found = []
    for seed in range(SEEDS):
        tool = shap.GradientExplainer(case.face(), _listed(case.references))
        found.append(_at_parts(case, _column(case, tool.shap_values(_listed(case.inputs), nsamples=SAMPLES, rseed=seed))))
    return Answer(*found[0], found)


def _shap_deep(case: Case) -> Answer:
    import shap

    tool = shap.DeepExplainer(case.face(), _listed(case.references))
    return Answer(*_at_parts(case, _column(case, tool.shap_values(_listed(case.inputs)))))


def _listed(tensors: tuple[Tensor, ...]) -> Any:
    copies = [t.clone() for t in tensors]
    return copies if len(copies) > 1 else copies[0]


def _column(case: Case, given: Any) -> tuple[np.ndarray, ...]:
    """The values of the output explained, which stands on the last axis."""
    return tuple(np.asarray(one)[..., case.column] for one in _tuple(given))


def _shap_kernel(case: Case) -> Answer:
    """KernelExplainer on a function of which parts are shown, as its example on images has it."""
    import shap

    face = case.face(by_tokens=True)

    def shown(masks: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return face(*case.absent(np.asarray(masks) > 0.5))[:, case.column].float().numpy()

    found = []
    for seed in range(SEEDS):
        np.random.seed(seed)
        tool = shap.KernelExplainer(shown, np.zeros((1, case.count)))
        values = np.asarray(tool.shap_values(np.ones((1, case.count)), nsamples=SAMPLES, silent=True)).reshape(-1)
        found.append((values, float(values.sum())))
    return Answer(*found[0], found)


def shaps() -> dict[str, Call]:
    """Shap's explainers that have a counterpart in ours."""
    return {"expected_gradients": _shap_gradients, "deeplift_shap": _shap_deep, "shap": _shap_kernel}
