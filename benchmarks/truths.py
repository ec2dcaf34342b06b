"""What is right, found without any of the tools: differences of float64 scores, formulas from the papers, and enumeration.

None stands for "cannot be said here".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from cases import Case
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Points = tuple[Tensor, ...]
NODES, _AGREE = 96, 0.02

# -- slopes, and slopes along a way ---------------------------------------------------------------------------------------


def _along(case: Case, at: Points, ways: list[Points], steps: np.ndarray | None = None) -> np.ndarray:
    """Central differences of the score at each row of ``at`` along each way ``(ways, rows)``, ``steps`` wide per row."""
    at, rows = case.precise(at), len(at[0])
    wide = case.step * (np.ones(rows) if steps is None else steps)
    h = torch.tensor(wide).to(at[0])
    moved = []
    for way in ways:
        shifts = [h.reshape(-1, *[1] * (x.ndim - 1)) * w for x, w in zip(at, case.precise(way), strict=True)]
        moved.append(tuple(torch.cat([x + shift, x - shift]) for x, shift in zip(at, shifts, strict=True)))
    scores = case.score(*(torch.cat(one) for one in zip(*moved, strict=True)))
    up, down = scores.reshape(len(ways), 2, rows).transpose(1, 0, 2)
    return (up - down) / (2 * wide)


def _ways(case: Case, times_input: bool, signs: bool = False) -> list[Points]:
    """Per part the direction of its entries (times the input), with random signs where asked."""
    rng = torch.Generator().manual_seed(0)

    def way(mask: Tensor, x: Tensor) -> Tensor:
        sign = 2 * torch.randint(2, mask.shape, generator=rng) - 1 if signs else 1
        return mask * sign * (x if times_input else 1)

    return [tuple(way(m, x) for m, x in zip(masks, case.inputs, strict=True)) for _, masks in case.parts]


def slopes(case: Case, times_input: bool = False) -> np.ndarray:
    """Per part the slope of the score along it: the sum of the gradient's entries, each times the input's where asked."""
    return _along(case, case.inputs, _ways(case, times_input))[:, 0]


def steepness(case: Case, times_input: bool = False) -> float:
    """The largest slope with random signs of a part's entries: what a sum of slopes that cancel is held against."""
    return float(np.abs(_along(case, case.inputs, _ways(case, times_input, signs=True))).max())


def paths(case: Case, starts: Points) -> np.ndarray | None:
    """Per part its integrated gradient from each row of ``starts``, averaged over the rows.

    By the midpoint rule, on even nodes and on nodes that crowd at the start, where normalised layers turn within a millionth
    of the way; None where the two do not agree, so that nothing but the sum can be judged.
    """
    even, crowded = (_path_means(case, starts, power) for power in (1, 6))
    size = max(float(np.abs(even).max()), float(np.abs(crowded).max()), 1e-9)
    if float(np.abs(even - crowded).max()) <= _AGREE * size:
        return even
    return None


def _path_means(case: Case, starts: Points, power: int) -> np.ndarray:
    total, count = np.zeros(len(case.parts)), len(starts[0])
    t = (np.arange(NODES) + 0.5) / NODES
    a, weights = t**power, power * t ** (power - 1) / NODES
    for i in range(count):
        start = tuple(s[i : i + 1] for s in starts)
        nodes = torch.tensor(a)
        points = tuple(s + nodes.reshape(-1, *[1] * (s.ndim - 1)) * (x - s) for s, x in zip(start, case.inputs, strict=True))
        ways = [tuple(m * (x - s) for m, x, s in zip(masks, case.inputs, start, strict=True)) for _, masks in case.parts]
        total += _along(case, points, ways, np.maximum(a, 1e-4)) @ weights
    return total / count


def difference(case: Case, starts: Points) -> float:
    """The score minus the mean score of the starting points."""
    return float(case.score(*case.inputs)[0] - case.score(*starts).mean())


# -- layer-by-layer rules ---------------------------------------------------------------------------------------------------


def layers_of(case: Case) -> list[nn.Module] | None:
    """The network as a list of linear and elementwise layers, where it is one."""
    module: Any = case.exact.module
    module = getattr(module, "inner", module)
    if case.name in ("functional relu", "relu reused", "functional in place"):
        return [module.first, nn.ReLU(), module.second, nn.ReLU(), module.last]
    listed = [module] if isinstance(module, nn.Linear) else list(module) if isinstance(module, nn.Sequential) else []
    known = all(isinstance(layer, (nn.Linear, nn.ReLU, nn.Tanh, nn.Dropout)) for layer in listed)
    return listed if listed and known else None


def rescale(case: Case, starts: Points) -> np.ndarray | None:
    """DeepLIFT's rescale rule on a plain network of linear and elementwise layers, averaged over the references.

    Shrikumar, Greenside & Kundaje 2017, section 3.5, in float64: multipliers multiplied layer by layer.
    """
    layers = layers_of(case)
    if layers is None:
        return None
    total = np.zeros(case.inputs[0].shape[1])
    for start in starts[0]:
        here, there = (t.double() for t in (case.inputs[0][0], start))
        way, chain = here - there, torch.eye(len(here), dtype=torch.float64)
        with torch.no_grad():
            for layer in layers:
                if isinstance(layer, nn.Linear):
                    here, there, chain = layer(here), layer(there), layer.weight @ chain
                elif not isinstance(layer, nn.Dropout):
                    after, before = layer(here.clone()), layer(there.clone())
                    chain = ((after - before) / (here - there))[:, None] * chain
                    here, there = after, before
        total += (chain[case.column] * way).numpy()
    return total / len(starts[0])


class _Rule(TorchFunctionMode):
    """The elementwise functions of a forward pass, replaced by others with the same values and another way back."""

    def __init__(self, replaced: dict[str, Callable[..., Tensor]], outside: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self.replaced, self.outside = replaced, outside
        self.seen: set[str] = set()

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(function, "__name__", "").rstrip("_")
        differentiable = [a for a in args if isinstance(a, Tensor) and a.requires_grad]
        if differentiable:
            self.seen.add(name)
            if name in ("mul", "matmul", "bmm", "__mul__", "__matmul__", "einsum") and len(differentiable) > 1:
                self.seen.add("product")
        new = self.replaced.get(name)
        if new is None or not differentiable:
            return function(*args, **(kwargs or {}))
        in_place = getattr(function, "__name__", "").endswith("_") or (kwargs or {}).get("inplace", False)
        result = new(args[0].clone() if in_place else args[0], F_OF[name])
        return args[0].copy_(result) if in_place else result


F_OF: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "gelu": F.gelu, "silu": F.silu, "leaky_relu": F.leaky_relu,
}  # fmt: skip


class _Guided(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,), (g,) = ctx.saved_tensors, gradients
        return g * (x > 0) * (g > 0)


def _by_rule(case: Case, rule: _Rule) -> Points | None:
    """Gradients of the float64 copy under a rule; None where it cannot be differentiated."""
    if "scripted" in case.name or case.name == "quantised":
        return None
    points = tuple(x.requires_grad_() for x in (t.detach().clone() for t in case.precise(case.inputs)))
    for parameter in case.exact.parameters():
        parameter.requires_grad_(False)
    try:
        with case.in_exact(), rule:
            score = case.exact(*(p * 1 for p in points))[0, case.column]
        return torch.autograd.grad(score, points)
    except RuntimeError:
        return None


def guided(case: Case) -> np.ndarray | None:
    """Guided backpropagation by its formula, every ReLU met however it is called; without one it is the slope.

    Springenberg, Dosovitskiy, Brox & Riedmiller 2015: ``g * [x > 0] * [g > 0]``.
    """
    if case.tolerance and case.name != "bfloat16":
        return slopes(case)
    rule = _Rule({"relu": lambda x, _: _Guided.apply(x)})
    found = _by_rule(case, rule)
    if found is None or "relu" not in rule.seen:
        return None if case.name == "scripted" else slopes(case)
    return np.array([sum(float((m * g).sum()) for m, g in zip(masks, found, strict=True)) for _, masks in case.parts])


OUTSIDE = {
    "softmax", "layer_norm", "group_norm", "rms_norm", "instance_norm", "lstm", "gru", "scaled_dot_product_attention", "product",
    "multi_head_attention_forward", "lstm_cell", "embedding", "rsqrt", "pow", "apply",
}  # fmt: skip


def relevance(case: Case) -> np.ndarray | None:
    """LRP's epsilon rule at epsilon -> 0: input times a gradient in which every activation has the slope ``f(z) / z``.

    Ancona, Ceolini, Oztireli & Gross 2018, proposition 1. None where a function has no rule (attention, gates, normalisation).
    """
    if case.tolerance and case.name != "bfloat16":
        return None
    rule = _Rule(dict.fromkeys(F_OF, lambda z, f: z * (f(z) / z).detach()))
    found = _by_rule(case, rule)
    if found is None or rule.seen & OUTSIDE or case.name in ("gradient reversal", "partly detached"):
        return None
    if case.name == "batch norm without statistics":
        return None
    return np.array([
        sum(float((m * x * g).sum()) for m, x, g in zip(masks, case.inputs, found, strict=True)) for _, masks in case.parts
    ])  # fmt: skip


# -- layers -------------------------------------------------------------------------------------------------------------------


def linear_head(case: Case) -> str | None:
    """The last linear layer of a forward pass, where all of the score goes through what enters it."""
    core, seen = case.exact.module, []
    listed = [(n, m) for n, m in core.named_modules() if isinstance(m, nn.Linear) and n]
    handles = [m.register_forward_pre_hook(lambda _, given, n=n: seen.append((n, given[0]))) for n, m in listed]
    try:
        whole = case.score(*case.inputs)
        there = list(seen)
        seen.clear()
        empty = case.score(*case.baseline)
    finally:
        for handle in handles:
            handle.remove()
    if not there or (case.tolerance and case.name != "bfloat16"):
        return None
    name, at_baseline = seen[-1]
    if sum(n == name for n, _ in there) > 1:
        return None
    handle = core.get_submodule(name).register_forward_pre_hook(lambda _, given: (at_baseline,))
    try:
        through = case.score(*case.inputs)
    finally:
        handle.remove()
    return name if np.allclose(through, empty, atol=1e-9) and not np.allclose(whole, empty, atol=1e-9) else None


def influence(case: Case, layer: str) -> np.ndarray:
    """Leino et al. 2018: the score's gradient by what enters ``layer``, averaged over the way from the baseline, node by node."""
    entering: list[Tensor] = []

    def cut(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        entering.append(given[0].detach().clone().requires_grad_())
        return (entering[-1], *given[1:])

    total: Any = 0
    handle = case.exact.module.get_submodule(layer).register_forward_pre_hook(cut)
    try:
        for node, weight in zip(*np.polynomial.legendre.leggauss(NODES), strict=True):
            points = tuple(b + (node + 1) / 2 * (x - b) for x, b in zip(*map(case.precise, (case.inputs, case.baseline)), strict=True))
            with case.in_exact():
                score = case.exact(*points)[0, case.column]
            total += weight / 2 * torch.autograd.grad(score, entering[-1])[0]
    finally:
        handle.remove()
    return np.asarray(total.double().numpy()).ravel()


@contextmanager
def _caught(module: nn.Module) -> Iterator[list[Tensor]]:
    found: list[Tensor] = []

    def keep(_: nn.Module, __: Any, output: Any) -> Any:
        """What the layer gives, kept from being overwritten later: what goes on is a copy."""
        one = output if isinstance(output, Tensor) else scores_in(output)
        one = one if one.requires_grad else one.requires_grad_()
        found.append(one)
        return one.clone() if isinstance(output, Tensor) else output

    handle = module.register_forward_hook(keep)
    try:
        yield found
    finally:
        handle.remove()


def scores_in(output: Any) -> Tensor:
    return output[0] if isinstance(output, (tuple, list)) else next(v for v in vars(output).values() if isinstance(v, Tensor))


def last_convolution(case: Case) -> str | None:
    """The last convolution of a forward pass."""
    core, seen = case.exact.module, []
    handles = [
        m.register_forward_hook(lambda *_, n=n: seen.append(n)) for n, m in core.named_modules() if isinstance(m, nn.Conv2d)
    ]  # fmt: skip
    try:
        case.score(*case.inputs)
    finally:
        for handle in handles:
            handle.remove()
    return seen[-1] if seen else None


def cam(case: Case, method: str, layer: str, shape: tuple[int, int], call: int = 0) -> tuple[np.ndarray | None, float]:
    """A class activation map by its paper's formula at ``layer`` of the float64 copy, without its final ReLU; and its size.

    The size is what the map could reach if nothing cancelled, which is what rounding is a share of.
    """
    core = case.exact.module
    with _caught(core.get_submodule(layer)) as found, case.in_exact():
        score = case.exact(*case.precise(case.inputs))[0, case.column]
    output = found[call]
    (gradient,) = torch.autograd.grad(score, output, allow_unused=True)
    if gradient is None:
        return None, 0.0
    a, g = (_planes(t.detach(), shape) for t in (output, gradient))
    if a is None or g is None:
        return None, 0.0
    size = float((np.abs(g).mean((1, 2)) * np.abs(a).max((1, 2))).sum())
    if method == "eigen_cam":
        flat = a.reshape(len(a), -1).T
        vector = np.linalg.svd(flat, full_matrices=False)[2][0]
        drawn = (flat @ vector).reshape(shape)
        return (drawn if drawn.sum() > 0 else -drawn), 0.0
    total = np.zeros(shape)
    for k in range(len(a)):
        if method == "grad_cam":
            weight: Any = g[k].mean()
        elif method == "grad_cam_plus_plus":
            below = 2 * g[k] ** 2 + a[k].sum() * g[k] ** 3
            weight = (np.divide(g[k] ** 2, below, out=np.zeros_like(below), where=below != 0) * np.maximum(g[k], 0)).sum()
        else:
            weight = np.maximum(g[k], 0)
        total += weight * a[k]
    return total, size


def score_cam(case: Case, layer: str, shape: tuple[int, int], call: int = 0) -> tuple[np.ndarray | None, float]:
    """Wang et al. 2020 without softmax or final ReLU: maps of ``layer`` times the score of the picture seen through each, over black's."""
    with _caught(case.exact.module.get_submodule(layer)) as found, case.in_exact():
        case.exact(*case.precise(case.inputs))
    maps, picture = _planes(found[call].detach(), shape), np.asarray(case.given[0])
    if maps is None:
        return None, 0.0
    seen = [np.zeros_like(picture)]
    for one in maps:
        large = F.interpolate(torch.tensor(one)[None, None], size=picture.shape[:2], mode="bilinear", align_corners=False)[0, 0].numpy()
        mask = (large - large.min()) / (np.ptp(large) or 1.0)
        seen.append(((mask[..., None] if picture.ndim == 3 else mask) * picture).astype(picture.dtype))
    encoded = case.model.encode(case.model.canonical(np.stack(seen))).tensors
    scores = case.score(*(encoded[i] for i in case.positions))
    raised = scores[1:] - scores[0]
    return np.tensordot(raised, maps, 1), float((np.abs(raised) * np.abs(maps).max((1, 2))).sum())


def _planes(output: Tensor, shape: tuple[int, int]) -> np.ndarray | None:
    """One input's maps ``(channels, rows, columns)`` from planes, from channels in the last place, or from tokens."""
    one = output[0].double().numpy()
    if one.ndim == 3 and one.shape[1:] == shape:
        return one
    if one.ndim == 3 and one.shape[:2] == shape:
        return np.moveaxis(one, -1, 0)
    cells = math.prod(shape)
    return one[len(one) - cells :].T.reshape(-1, *shape) if one.ndim == 2 and len(one) >= cells else None
