"""Backward passes of another kind through any torch module: guided backpropagation, and layer-wise relevance propagation.

Both are function modes: while one is open in this thread it sees every function that a module calls, functional, reused and
in-place ones included, and gives those it has a rule for another backward pass; the forward pass keeps its values. What the graph
holds in the end is read, so that a function without a rule is never passed over in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from explainer.adapters.multipliers import names, out_of_place
from explainer.errors import Unsupported

_RECTIFIERS = frozenset({"relu", "relu6"})
_CLAMPS = frozenset({"clamp", "clip", "clamp_min"})
# Functions of one number with f(0) = 0: relevance passes them as it is.
_PASSING = names(
    "relu relu6 leaky_relu prelu rrelu elu selu celu gelu silu mish hardtanh hardswish tanh tanhshrink softsign softshrink hardshrink"
)
_WEIGHTED = names("linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d")
_POOLS = frozenset(f"{kind}_pool{d}d" for kind in ("max", "avg", "adaptive_avg", "adaptive_max") for d in (1, 2, 3))
_STABILISED = _WEIGHTED | _POOLS | {"batch_norm"}
# Autograd's own names of what is linear in the input, or picks entries of it (pooling by the maximum).
_LINEAR = names(
    "Add Addmm Addbmm Baddbmm Addmv Mm Bmm Mv Dot Mul Div Sub Rsub Neg Sum Mean Cat Stack Linear Convolution ConvolutionOverrideable "
    "MkldnnConvolution CudnnConvolution NativeBatchNorm CudnnBatchNorm MiopenBatchNorm View UnsafeView ReshapeAlias Permute Transpose T "
    "Select Slice Narrow Index IndexSelect Gather Take Expand Unsqueeze Squeeze Split SplitWithSizes SafeSplit UnsafeSplit Unbind Chunk "
    "Unfold Im2Col Col2Im Repeat RepeatInterleave Roll Flip Tril Triu Diagonal ConstantPadNd ReflectionPad1D ReflectionPad2D "
    "ReplicationPad1D ReplicationPad2D ReflectionPad3D ReplicationPad3D AvgPool2D AvgPool3D AdaptiveAvgPool2D AdaptiveAvgPool3D "
    "MkldnnAdaptiveAvgPool2D MaxPool2DWithIndices MaxPool3DWithIndices AdaptiveMaxPool2D AdaptiveMaxPool3D PixelShuffle PixelUnshuffle "
    "UpsampleNearest1D UpsampleNearest2D UpsampleNearest3D UpsampleLinear1D UpsampleBilinear2D MaskedFill ToCopy Clone Alias AsStrided "
    "Copy CopySlices Contiguous Detach LiftFresh _Carried AccumulateGrad"
)
# Products: the places of their factors, of which one alone may depend on the input; of a quotient, the divisor may not.
_FACTORS = {
    "Mul": (0, 1), "Mm": (0, 1), "Bmm": (0, 1), "Mv": (0, 1), "Dot": (0, 1), "Addmv": (1, 2), "Addmm": (1, 2), "Addbmm": (1, 2),
    "Baddbmm": (1, 2), "Convolution": (0, 1), "Linear": (0, 1), "Div": (1,),
}  # fmt: skip
_MATRICES = frozenset(_FACTORS) - {"Mul", "Div"}
_HEADS = frozenset({"Softmax", "LogSoftmax", "Sigmoid"})


class Rules(TorchFunctionMode):
    """A mode that changes the backward pass; :meth:`audit` is asked once the forward pass is over."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        given, name = dict(kwargs or {}), getattr(func, "__name__", "")
        if not args and "input" in given:
            args = (given.pop("input"),)
        # Inside this method the mode is off: what is called here is not seen again.
        if not any(isinstance(a, Tensor) and a.requires_grad and a.is_floating_point() for a in args[:2]):
            return func(*args, **given)
        return self.call(func, name, name[:-1] if name.endswith("_") and not name.endswith("__") else name, args, given)

    def call(self, func: Any, name: str, plain: str, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
        raise NotImplementedError

    def audit(self, raw: Tensor, x: Tensor) -> None:
        """Raise Unsupported where something on the way from ``x`` to the module's outputs ``raw`` has no rule."""


class Guided(Rules):
    """At every ReLU only gradients above 0 go on, besides the ReLU's own gate."""

    def __init__(self) -> None:
        super().__init__()
        self.rectifiers = 0

    def call(self, func: Any, name: str, plain: str, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
        if plain not in _RECTIFIERS and not (plain in _CLAMPS and _lower(args, given) == 0):
            return func(*args, **given)

        def rectified(x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
            result = function(x)
            result.register_hook(lambda gradient: gradient.clamp(min=0))
            return result

        self.rectifiers += 1
        return _replaced(func, name, plain, args, given, rectified)

    def audit(self, raw: Tensor, x: Tensor) -> None:
        hidden = sum(_name(node) == "Relu" for node in _nodes(raw)) > self.rectifiers
        if hidden or not self.rectifiers:
            why = "holds ReLUs inside a function that cannot be opened (a recurrent layer, TorchScript)" if hidden else "has no ReLU"
            raise Unsupported(
                f"The module {why}, so that guided backpropagation would be the plain gradient. Use saliency, integrated_gradients or "
                "deeplift."
            )


class Relevance(Rules):
    """Relevance at a function's result is shared among its inputs in proportion to what each adds to it.

    As a gradient (Ancona et al. 2018, arXiv:1711.06104): functions of one number carry ``f(z) / z`` in the place of their
    derivative, and what a linear layer receives is multiplied by ``z / (z + epsilon sign z)``. With ``gamma`` the weights of linear
    layers and convolutions count as ``w + gamma max(w, 0)`` on the way back. Relevance is then the input times what arrives there.
    """

    def __init__(self, epsilon: float, gamma: float = 0.0) -> None:
        super().__init__()
        self.epsilon, self.gamma = epsilon, gamma
        self._weighed: set[Any] = set()  # products whose weights count by the gamma rule

    def call(self, func: Any, name: str, plain: str, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
        if plain in _PASSING:
            return _replaced(func, name, plain, args, given, _passed)
        if name not in _STABILISED or bool(given.get("return_indices")):
            return func(*args, **given)
        z = func(*args, **given)
        if not isinstance(z, Tensor):
            return z
        carrier = self._heavier(func, args, given) if self.gamma and name in _WEIGHTED else z
        size = carrier.detach()
        share = z.detach() / (size + torch.where(size < 0, -self.epsilon, self.epsilon))
        return _Carried.apply(z.detach(), carrier * torch.where(torch.isfinite(share), share, 0))

    def _heavier(self, func: Any, args: tuple[Any, ...], given: dict[str, Any]) -> Tensor:
        weight = (args[1] if len(args) > 1 else given["weight"]).detach()
        heavier = weight + self.gamma * weight.clamp(min=0)
        result = func(args[0], heavier, *args[2:], **given) if len(args) > 1 else func(*args, **{**given, "weight": heavier})
        node = result.grad_fn
        while node is not None and _name(node) not in _FACTORS:  # the views around the product itself
            node = node.next_functions[0][0]
        self._weighed.add(node)
        return result

    def audit(self, raw: Tensor, x: Tensor) -> None:
        nodes = self._moved(raw, x)
        bare = sorted({_name(node) for node in nodes if _name(node) in _MATRICES and node not in self._weighed}) if self.gamma else []
        if bare:
            raise Unsupported(
                f"The module multiplies by a matrix of its own ({', '.join(bare)}), where the gamma rule knows linear layers and "
                "convolutions. Use rule='epsilon'."
            )
        strange = sorted({_name(node) for node in self._without_rule(nodes, raw)})
        if strange:
            raise Unsupported(
                f"Layer-wise relevance propagation has no rule for {', '.join(strange)} in this module: it covers linear layers, "
                "convolutions, batch norm, pooling, sums, and activations that are 0 at 0. Use deeplift or integrated_gradients."
            )

    def _moved(self, raw: Tensor, x: Tensor) -> list[Any]:
        """The nodes that depend on ``x``, each after those it is made of."""
        moved: dict[Any, None] = {}
        for node in _nodes(raw):
            if getattr(node, "variable", None) is x or any(parent in moved for parent, _ in node.next_functions):
                moved[node] = None
        return list(moved)

    def _without_rule(self, nodes: list[Any], raw: Tensor) -> Iterator[Any]:
        head, moved = raw.grad_fn, set(nodes)
        while head is not None and _name(head) in ("View", "ToCopy", "Clone", "Squeeze", "Unsqueeze", "Select"):
            head = head.next_functions[0][0]
        for node in nodes:
            name = _name(node)
            parents = [parent for parent, _ in node.next_functions]
            factors = sum(parents[place] in moved for place in _FACTORS.get(name, ()) if place < len(parents))
            product = factors > (name != "Div") or bool(getattr(node, "_saved_training", False))  # statistics of the batch itself
            if name in _HEADS and node is head:  # the score's own scale, which follows its gradient
                continue
            if name not in _LINEAR or product:
                yield node


class _Carried(torch.autograd.Function):
    """The value of one tensor with the gradient of another."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, carrier: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, gradients[0]


def _passed(x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    with torch.no_grad():
        result = function(x)
        ratio = torch.where(x == 0, 0, result / x)
    return _Carried.apply(result, x * ratio)


def _replaced(
    func: Any, name: str, plain: str, args: tuple[Any, ...], given: dict[str, Any],
    rule: Callable[[Tensor, Callable[[Tensor], Tensor]], Tensor],
) -> Tensor:  # fmt: skip
    """``rule(x, function)`` in the place of a function of one tensor, written back where the call works in place."""
    func, rest, given, in_place = out_of_place(func, name, plain, args, given)
    x = args[0]
    result = rule(x.clone() if in_place else x, lambda z: func(z, *rest[1:], **given))
    return x.copy_(result) if in_place else result


def _lower(args: tuple[Any, ...], given: Mapping[str, Any]) -> Any:
    upper = given.get("max", args[2] if len(args) > 2 else None)
    lower = given.get("min", args[1] if len(args) > 1 else None)
    return lower if upper is None and isinstance(lower, (int, float)) else None


def _name(node: Any) -> str:
    """Autograd's name of a node, without the words that every name ends with."""
    return node.name().split("::")[-1].partition("Backward")[0]


def _nodes(output: Tensor) -> Iterator[Any]:
    """The graph that made ``output``, each node after those it is made of."""
    done: set[Any] = set()
    stack: list[tuple[Any, bool]] = [(output.grad_fn, False)]
    while stack:
        node, ready = stack.pop()
        if node is None or (node in done and not ready):
            continue
        if ready:
            yield node
            continue
        done.add(node)
        stack.append((node, True))
        stack.extend((parent, False) for parent, _ in node.next_functions)
