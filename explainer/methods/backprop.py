"""Gradients by other rules of going back: guided backpropagation, and layer-wise relevance propagation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from explainer.adapters.backward import Guided, Relevance, Rules
from explainer.adapters.torch import TorchModel
from explainer.errors import ExplainerError, InvalidInput, unknown
from explainer.explanation import Check
from explainer.methods.attribution import Attribution
from explainer.methods.gradient import at_the_input
from explainer.methods.passes import Progress
from explainer.model import Capability, Model
from explainer.target import Target

_INSTEAD = "It shows edges of the input more than reasons of the model; set integrated_gradients beside it."
_FLAG = (
    "Guided backpropagation is known to fail the randomisation test (Adebayo et al. 2018, arXiv:1810.03292): on deep networks its picture "
    f"is much the same with random weights. {_INSTEAD}"
)
_FLAG_DECONVOLUTION = (
    f"Deconvolution is known to restore the input, much the same for every class (Nie, Zhang & Patel 2018, arXiv:1805.07039). {_INSTEAD}"
)


def guided_backprop(
    model: Model, inputs: Any, target: Target, *, output: str = "probability", progress: Progress | None = None
) -> Attribution:
    """The gradient at the input, where at every ReLU only what is above 0 goes further back.

    At ``y = max(x, 0)`` the gradient g becomes ``g * [x > 0] * [g > 0]``. Springenberg, Dosovitskiy, Brox & Riedmiller 2015,
    arXiv:1412.6806 (captum's ``GuidedBackprop``, whose hooks miss ReLUs that are no modules). Summed over a feature's entries, with
    its sign. Its verdict always warns, for the method is known to fail the randomisation test.

    Raises Unsupported on models without gradients or without a ReLU.
    """
    found = at_the_input("guided_backprop", model, inputs, target, output, None, progress, lambda x, g: g, {}, Guided)
    return flagged(found)


def flagged(found: Attribution, deconvolution: bool = False) -> Attribution:
    """With the note, and the check that always warns, of methods that change the gradient at ReLUs."""
    flag = _FLAG_DECONVOLUTION if deconvolution else _FLAG
    found.notes = (*found.notes, flag)
    checks = found.checks or [{}] * len(found.values)
    found.checks = [{**own, "class sensitivity": Check("class sensitivity", "warn", flag)} for own in checks]
    return found


def lrp(
    model: Model,
    inputs: Any,
    target: Target,
    *,
    output: str = "probability",
    rule: Literal["epsilon", "gamma"] = "epsilon",
    epsilon: float = 1e-6,
    gamma: float = 0.25,
    progress: Progress | None = None,
) -> Attribution:
    """Layer-wise relevance propagation: at every layer relevance is shared among the inputs by what each adds to the result.

    ``R_i = sum over j of x_i w_ij R_j / (z_j + epsilon sign z_j)``, z with its bias, which keeps its own part; with
    ``rule="gamma"`` the weights count as ``w + gamma max(w, 0)``. Bach et al. 2015, doi:10.1371/journal.pone.0130140; Montavon et al.
    2019, doi:10.1007/978-3-030-28954-6_10 (captum's ``LRP`` with these rules on every layer). Activations pass relevance on, and a
    maximum gives it to the largest entry. What starts it is each output of the module times the derivative of the target by it: on the
    module's own scale the output explained. On networks of ReLUs the epsilon rule tends to input x gradient as epsilon goes to 0.

    Parameters
    ----------
    epsilon : takes up relevance where the terms cancel; both rules.
    gamma : how much more positive weights count.

    Raises Unsupported where a function of the module has no rule (attention, normalisation by the input's own statistics, gates,
    recurrent layers), UnknownName for another rule, InvalidInput for a parameter below 0.
    """
    if rule not in ("epsilon", "gamma"):
        raise unknown("rule", rule, ("epsilon", "gamma"))
    for name, value in (("epsilon", epsilon), ("gamma", gamma)):
        if not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
            raise InvalidInput(f"{name}={value!r} is not valid; pass a number of at least 0.")
    made = partial(Relevance, float(epsilon), float(gamma) if rule == "gamma" else 0.0)
    parameters = {"rule": rule, "epsilon": epsilon, **({"gamma": gamma} if rule == "gamma" else {})}
    return at_the_input("lrp", model, inputs, target, output, None, progress, lambda x, g: x * g, parameters, made)


def guided_backprop_fits(model: Model) -> Capability | None:
    """Unsupported without a ReLU."""
    return _fits(model, Guided)


def lrp_fits(model: Model) -> Capability | None:
    """Unsupported where a function of the module has no rule."""
    return _fits(model, partial(Relevance, 1e-6))


def _fits(model: Model, rules: Callable[[], Rules]) -> Capability | None:
    """What one pass under the rules says; nothing where there is no input to try it on, or it fails for another reason."""
    sample = model.sample() if isinstance(model, TorchModel) else None
    if sample is None:
        return None
    assert isinstance(model, TorchModel)
    try:
        view = model.gradient_view(sample)
        with model.differentiating():
            x = view.x.clone().requires_grad_()
            with rules() as open_rules:
                raw = view.forward(x, *view.others)
            open_rules.audit(raw, x)
    except ExplainerError as error:
        return Capability("unsupported", str(error))
    except RuntimeError as error:  # what the method itself would say, with the inputs at hand
        return Capability("unsupported", f"PyTorch cannot differentiate this module: {str(error).splitlines()[0]}")
    return None
