"""DeepLIFT's multipliers on any torch module: differences from a reference in the place of derivatives.

A reference runs through the module, then the input does; a :class:`Tape` sees every function called on the way, functional,
reused and in-place ones included, and gives its nonlinear ones a backward pass of their own:

- a function of one number, m = (f(x) - f(b)) / (x - b), the derivative where x = b (the rescale rule, Shrikumar, Greenside &
  Kundaje 2017, arXiv:1704.02685);
- a product of two tensors that both depend on the input (gates, attention), its derivative half way between x and b, which
  shares f(x) - f(b) out like Shapley values;
- a maximum, the whole change to the entry that is the larger of the two maxima;
- softmax and normalisation, their derivative averaged along the straight way from b to x, which the first two rules are also;
- attention, recurrent layers, quotients and gates, taken apart into the above.

Whatever is linear keeps its own backward pass. Multipliers through all of these add up exactly; what is in none of these
lists follows its gradient, and the gap says so.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from explainer.adapters.composites import COMPOSITES
from explainer.errors import Unsupported


def names(text: str) -> frozenset[str]:
    """The words of ``text``."""
    return frozenset(text.split())


ELEMENTWISE = names(
    "relu leaky_relu prelu rrelu elu selu celu gelu silu mish relu6 hardtanh hardswish hardsigmoid softplus softsign tanhshrink "
    "softshrink hardshrink threshold _threshold logsigmoid sigmoid tanh exp exp2 expm1 log log2 log10 log1p sqrt rsqrt square pow "
    "__pow__ __rpow__ abs absolute sin cos tan sinh cosh asin acos atan arctan asinh acosh atanh erf erfc reciprocal __rdiv__ "
    "__rtruediv__ clamp clip clamp_min clamp_max sinc logit"
)
SOFTMAX = names("softmax _softmax log_softmax")
IN_PLACE = names("mul_ multiply_ __imul__")
BILINEAR = IN_PLACE | names("mul multiply __mul__ __rmul__ matmul __matmul__ __rmatmul__ bmm mm mv dot inner einsum")
MAXIMA = names(
    "max_pool1d max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices "
    "adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d amax max"
)
# Nonlinear functions that no rule covers, or not in every form; they follow their gradient, and are named.
UNCOVERED = names(
    "where masked_fill sign round floor ceil norm linalg_norm linalg_vector_norm vector_norm prod cumprod var std sort topk median amin "
    "min logsumexp cdist cosine_similarity heaviside fmod remainder atan2 normalize local_response_norm fft_fft fft_rfft softmin "
    "grid_sample lp_pool1d lp_pool2d lp_pool3d fractional_max_pool2d gumbel_softmax cummax logcumsumexp bilinear addcmul addcdiv "
    "baddbmm addbmm lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell layer_norm rms_norm group_norm "
    "instance_norm multi_head_attention_forward scaled_dot_product_attention"
)
_CLOSE = 1e-3  # of the size of x: nearer than this, a smooth function's slope is its derivative, which rounding spoils less
_GAUSS = tuple(((np.polynomial.legendre.leggauss(8) + np.array([[1], [0]])) / 2).tolist())  # nodes and weights on [0, 1]
_BEND = 10.0  # how fast a derivative may change and still count as smooth


class NotShared(Exception):
    """A tensor whose first axis is not the rows: references cannot be shared, and each input goes with its own."""


class Overwritten(Exception):
    """A tensor that the backward pass needs was changed in place; the tape must keep copies."""


@dataclass
class _Record:
    """One call that the reference made: its operands, its result, and the versions they had."""

    name: str
    operands: tuple[Any, ...]
    result: Any
    versions: tuple[int, ...]


class Tape(TorchFunctionMode):
    """Open it for the references' forward pass, call :meth:`turn`, open it again for the inputs'; then go backward.

    Parameters
    ----------
    shared : the number of reference rows and the number of input rows, which must differ. :attr:`which` then says, before
        each backward pass, which reference each block of input rows is compared with. Without it row i goes with row i.
    copies : keep copies of what the backward pass needs, for modules that work in place.
    """

    def __init__(self, shared: tuple[int, int] | None = None, copies: bool = False) -> None:
        super().__init__()
        self.shared, self.copies = shared, copies
        self.which: Tensor | None = None
        self.uncovered: set[str] = set()
        self._records: list[_Record] = []
        self._next: int | None = None

    def turn(self) -> None:
        """From the references to the inputs."""
        self._next = 0

    def done(self) -> None:
        """Check that the inputs called all that the references called."""
        if self._next is not None and self._next != len(self._records):
            raise self._astray("nothing more")

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        given, name = dict(kwargs or {}), getattr(func, "__name__", "")
        # Inside this method the tape is off, unless it is opened again.
        if name in COMPOSITES:
            steps = COMPOSITES[name](*args, **given)
            if steps is not None:
                with self:
                    return steps()
        if not args and "input" in given:
            args = (given.pop("input"),)
        plain = name[:-1] if name.endswith("_") and not name.endswith("__") else name
        if name in BILINEAR:
            return self._bilinear(func, name, args, given)
        if any(_floating(a) for a in args[:2]):
            if plain in ELEMENTWISE:
                return self._elementwise(func, name, plain, args, given)
            if name in ("layer_norm", "rms_norm"):
                return self._standardised(func, name, args, given)
            if plain in SOFTMAX:
                return self._softmax(func, plain, args, given)
            if name in MAXIMA:
                return self._maximum(func, name, args, given)
            if plain in UNCOVERED:
                return self._uncovered(plain, func, args, given)
        return func(*args, **given)

    def _uncovered(self, name: str, func: Any, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
        """A call that follows its gradient; named where the input has part in it."""
        result = func(*args, **given)
        first = result if isinstance(result, Tensor) else next((r for r in result if isinstance(r, Tensor)), None)
        if self._next is not None and first is not None and first.requires_grad:
            self.uncovered.add(name)
        return result

    # -- what is covered -------------------------------------------------------------------------------------------------

    def _elementwise(self, func: Any, name: str, plain: str, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
        func, args, given, in_place = out_of_place(func, name, plain, args, given)
        at = next(i for i, a in enumerate(args) if _floating(a))

        def function(z: Tensor) -> Tensor:
            return func(*args[:at], z, *args[at + 1 :], **given)

        x = args[at]
        others = any(isinstance(a, Tensor) for a in (*args[:at], *args[at + 1 :], *given.values()))
        result = self._run(_Slope(function, plain == "relu", others), plain, (x.clone() if in_place else x,))
        return x.copy_(result) if in_place else result

    def _bilinear(self, func: Any, name: str, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
        in_place = name in IN_PLACE
        operands = args[1:] if name == "einsum" else args
        if name == "einsum" and len(operands) == 1 and isinstance(operands[0], (list, tuple)):
            operands = tuple(operands[0])
        if len(operands) > 2:
            return self._uncovered(name, func, args, given)
        if len(operands) != 2 or not all(_floating(a) for a in operands):
            return func(*args, **given)

        def function(a: Tensor, b: Tensor) -> Tensor:
            return func(args[0], a, b) if name == "einsum" else a * b if in_place else func(a, b, **given)

        a, b = operands
        result = self._run(_Product(function), "product", (a.clone() if in_place else a, b))
        return a.copy_(result) if in_place else result

    def _softmax(self, func: Any, name: str, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
        dim = given.get("dim", args[1] if len(args) > 1 else None)
        if not isinstance(dim, int):
            return self._uncovered(name, func, args, given)
        dtype = given.get("dtype") or next((a for a in args[2:] if isinstance(a, torch.dtype)), None)
        x = args[0] if dtype is None else args[0].to(dtype)
        function = torch.log_softmax if name == "log_softmax" else torch.softmax
        return self._run(_Group(lambda z: function(z, -1)), name, (x.movedim(dim, -1),)).movedim(-1, dim)

    def _standardised(self, func: Any, name: str, args: tuple[Any, ...], given: dict[str, Any]) -> Tensor:
        shape = args[1] if len(args) > 1 else given["normalized_shape"]
        eps = given.get("eps", args[-1] if isinstance(args[-1], float) else None if name == "rms_norm" else 1e-5)
        return self._run(_Group(lambda z: func(z, shape, eps=eps)), name, (args[0],))

    def _maximum(self, func: Any, name: str, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
        x = args[0]
        if name in ("amax", "max"):
            dim, keep = _dims(args, given)
            if dim is None:
                return self._uncovered(name, func, args, given)
            dims = tuple(d % x.ndim for d in ((dim,) if isinstance(dim, int) else dim)) or tuple(range(x.ndim))
            rest = [d for d in range(x.ndim) if d not in dims]
            flat = x.permute(*rest, *dims).flatten(len(rest))
            result = self._run(_Maximum(lambda z: z.max(-1, keepdim=True)), name, (flat,))
            values = result.squeeze(-1)
            if keep:
                for d in sorted(dims):
                    values = values.unsqueeze(d)
            return values if name == "amax" else torch.return_types.max((values, x.detach().max(dim, keep).indices))
        pool = getattr(F, name.replace("_with_indices", ""))
        bound = inspect.signature(getattr(F, f"{name.replace('_with_indices', '')}_with_indices")).bind(*args, **given)
        wanted = bool(bound.arguments.pop("return_indices", False)) or name.endswith("_with_indices")
        options = dict(list(bound.arguments.items())[1:])
        space = int(name.split("pool")[1][0])

        def pooled(z: Tensor) -> tuple[Tensor, Tensor]:
            return pool(z, return_indices=True, **options)

        result = self._run(_Maximum(pooled, space), name, (x,))
        return (result, pooled(x.detach())[1]) if wanted else result

    # -- the record --------------------------------------------------------------------------------------------------------

    def _run(self, rule: _Rule, name: str, operands: tuple[Tensor, ...]) -> Tensor:
        if self._next is None:
            result = rule.forward(*operands)
            kept = tuple(self._keep(t) for t in (*operands, result))
            self._records.append(_Record(name, kept[:-1], kept[-1], tuple(t._version for t in kept)))
            return result
        if self._next >= len(self._records) or self._records[self._next].name != name:
            raise self._astray(name)
        record = self._records[self._next]
        self._next += 1
        moves = [self._moves(t, b) for t, b in zip(operands, record.operands, strict=True)]
        if not any(moves) or (len(moves) == 2 and not all(moves)):
            return rule.forward(*operands)  # nothing of the input in it, or linear in what is
        return _Call.apply(rule, record, self, *operands)

    def _keep(self, tensor: Tensor) -> Tensor:
        return tensor.detach().clone() if self.copies else tensor.detach()

    def _moves(self, x: Tensor, b: Tensor) -> bool:
        """Whether an operand is one of the rows' own; constants are the same for references and inputs."""
        if x.shape == b.shape:
            return self.shared is None and not (x.data_ptr() == b.data_ptr() and x.stride() == b.stride())
        if self.shared is None:
            raise self._astray(f"a tensor of shape {tuple(x.shape)} in the place of {tuple(b.shape)}")
        if x.shape[1:] != b.shape[1:] or (len(b), len(x)) != self.shared:
            raise NotShared
        return True

    def reference(self, tensor: Tensor, like: Tensor, whole: bool) -> tuple[Tensor, Tensor]:
        """``like`` and the reference's ``tensor`` beside it, broadcastable; with ``whole``, row by row."""
        if self.shared is None or tensor.shape == like.shape:
            return like, tensor
        assert self.which is not None
        chosen = tensor[self.which]
        if whole:
            return like, chosen.repeat_interleave(len(like) // len(chosen), 0)
        return like.unflatten(0, (len(chosen), -1)), chosen[:, None]

    def _astray(self, name: str) -> Unsupported:
        wanted = self._records[self._next].name if self._next is not None and self._next < len(self._records) else "nothing more"
        return Unsupported(
            f"The module takes another way for the input than for the reference ({name} where the reference had {wanted}), so that their "
            "activations cannot be compared. Use integrated_gradients or shap."
        )


def out_of_place(
    func: Any, name: str, plain: str, args: tuple[Any, ...], given: dict[str, Any]
) -> tuple[Any, tuple[Any, ...], dict[str, Any], bool]:
    """A call of a function of one tensor, as one that leaves its operand alone; and whether the caller wants it overwritten."""
    in_place = False
    if isinstance(func, FunctionType) and func.__module__ == "torch.nn.functional":
        bound = inspect.signature(func).bind(*args, **given)
        in_place, given = bool(bound.arguments.pop("inplace", False)), {}
        args, given = bound.args[:1], {k: v for k, v in list(bound.arguments.items())[1:]}
    if name != plain:
        in_place, func = True, getattr(torch.Tensor, plain, None) or getattr(F, plain)
    return func, args, given, in_place


def _floating(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _dims(args: tuple[Any, ...], given: dict[str, Any]) -> tuple[Any, bool]:
    dim = given.get("dim", args[1] if len(args) > 1 else None)
    keep = given.get("keepdim", args[2] if len(args) > 2 else False)
    return (dim if isinstance(dim, int) or (isinstance(dim, (tuple, list)) and dim) else None), bool(keep)


class _Rule:
    """A function, and its multipliers: ``backward`` gives one tensor per operand, from those of input and reference."""

    whole = True

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def forward(self, *operands: Tensor) -> Tensor:
        return self.function(*operands)

    def backward(self, g: Tensor, x: tuple[Tensor, ...], y: Tensor, b: tuple[Tensor, ...], yb: Tensor) -> tuple[Tensor, ...]:
        raise NotImplementedError


class _Slope(_Rule):
    """A function of one number: the slope between reference and input."""

    def __init__(self, function: Callable[..., Any], is_relu: bool, whole: bool) -> None:
        super().__init__(function)
        self.is_relu, self.whole = is_relu, whole

    def backward(self, g: Tensor, x: tuple[Tensor, ...], y: Tensor, b: tuple[Tensor, ...], yb: Tensor) -> tuple[Tensor, ...]:
        (point,), (start,) = x, b
        way = point - start
        slope = (y - yb).div_(way)
        still = way == 0
        if self.is_relu:
            if still.any():
                slope = torch.where(still, (point > 0).to(slope), slope)
            return (slope.mul_(g),)
        near = way.abs() <= _CLOSE * (1 + point.abs())
        if near.any():
            here, there = self._derivative(point), self._derivative(start)
            smooth = near & ((here - there).abs() <= _BEND * way.abs())
            slope = torch.where(smooth | still, (here + there) / 2, slope)
        return (g * torch.where(torch.isfinite(slope), slope, 0),)

    def _derivative(self, at: Tensor) -> Tensor:
        with torch.enable_grad():
            point = at.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.function(point).sum(), point)
        return slope


class _Group(_Rule):
    """A function of the entries along the last axis: its derivative averaged along the way from reference to input.

    The average is a quadrature, and Broyden's rank-one update makes it carry the way exactly to the difference of the results.
    """

    def backward(self, g: Tensor, x: tuple[Tensor, ...], y: Tensor, b: tuple[Tensor, ...], yb: Tensor) -> tuple[Tensor, ...]:
        start, way = b[0].double(), x[0].double() - b[0].double()
        way = torch.where(way.isfinite(), way, 0)  # masked out with -inf
        found, seed = torch.zeros_like(way), g.double()
        for node, weight in zip(*_GAUSS, strict=True):
            with torch.enable_grad():
                point = (start + node * way).requires_grad_()
                (gradient,) = torch.autograd.grad(self.function(point), point, seed)
            found += weight * torch.where(gradient.isfinite(), gradient, 0)
        change = (y - yb).double()
        missing = (seed * torch.where(change.isfinite(), change, 0)).sum(-1, True) - (found * way).sum(-1, True)
        length = (way**2).sum(-1, True)
        return ((found + way * missing / torch.where(length > 0, length, 1)).to(g.dtype),)


class _Product(_Rule):
    """A function linear in each of two operands: its derivatives half way."""

    def backward(self, g: Tensor, x: tuple[Tensor, ...], y: Tensor, b: tuple[Tensor, ...], yb: Tensor) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            middle = tuple(((p + q) / 2).detach().requires_grad_() for p, q in zip(x, b, strict=True))
            return torch.autograd.grad(self.function(*middle), middle, g)


class _Maximum(_Rule):
    """The largest entry of each window: ``function`` gives values and their positions in the last ``space`` axes, flattened."""

    def __init__(self, function: Callable[..., Any], space: int = 1) -> None:
        super().__init__(function)
        self.space = space

    def forward(self, *operands: Tensor) -> Tensor:
        return self.function(*operands)[0]

    def backward(self, g: Tensor, x: tuple[Tensor, ...], y: Tensor, b: tuple[Tensor, ...], yb: Tensor) -> tuple[Tensor, ...]:
        (point,), (start,) = x, b
        larger = torch.maximum(y, yb)
        here, there = (self.function(t)[1].flatten(-self.space) for t in (point, start))
        shares = torch.zeros_like(point).flatten(-self.space)
        plain = shares.scatter_add(-1, here, g.flatten(-self.space)).reshape(point.shape)
        shares = shares.scatter_add(-1, here, ((larger - yb) * g).flatten(-self.space))
        shares = shares.scatter_add_(-1, there, ((y - larger) * g).flatten(-self.space)).reshape(point.shape)
        way = point - start
        return (torch.where(way == 0, plain, shares / torch.where(way == 0, 1, way)),)


class _Call(torch.autograd.Function):
    """A call on the input's way, whose backward pass asks its rule."""

    @staticmethod
    def forward(ctx: Any, rule: _Rule, record: _Record, tape: Tape, *operands: Tensor) -> Tensor:
        result = rule.forward(*operands)
        ctx.rule, ctx.record, ctx.tape = rule, record, tape
        ctx.kept = tuple(tape._keep(t) for t in (*operands, result))
        ctx.versions = tuple(t._version for t in ctx.kept)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        record, tape, rule = ctx.record, ctx.tape, ctx.rule
        now = tuple(t._version for t in (*ctx.kept, *record.operands, record.result))
        if now != ctx.versions + record.versions:
            raise Overwritten
        pairs = [tape.reference(b, x, rule.whole) for x, b in zip(ctx.kept, (*record.operands, record.result), strict=True)]
        points, starts = tuple(x for x, _ in pairs), tuple(b for _, b in pairs)
        g = gradients[0].reshape(points[-1].shape)
        found = rule.backward(g, points[:-1], points[-1], starts[:-1], starts[-1])
        return None, None, None, *(f.reshape(x.shape) for f, x in zip(found, ctx.kept, strict=False))
