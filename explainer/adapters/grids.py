"""Where in a torch module the picture still lies on a grid of cells: seen in two forward passes, never told by names.

A picture of noise is sent through the module, and copies of it with one corner changed. What a layer gives moves where the
change was, so rows, columns, channels and the tokens in front (a classification token) are read off and not guessed.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn

from explainer.adapters.containers import main, replaced
from explainer.adapters.corners import PARTS, Plane, Sight, changed, grid_of_tokens, noise, sight_of
from explainer.adapters.flow import Flow, Group, passages, reached
from explainer.adapters.torch import TorchModel
from explainer.errors import Unsupported, unknown
from explainer.state import hooked

Kind = Literal["channels first", "channels last", "tokens"]
Tokens = tuple[int, int, int]  # in front of the grid, rows, columns
_LAYERED: dict[Kind, tuple[type[nn.Module], ...]] = {
    "channels first": (
        nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.modules.pooling._MaxPoolNd,
        nn.modules.pooling._AvgPoolNd, nn.modules.pooling._AdaptiveAvgPoolNd, nn.modules.pooling._AdaptiveMaxPoolNd,
    ),
    "channels last": (nn.Linear,),
}  # fmt: skip
_AT_ONCE = 8
_TURNED = "its positions do not follow the picture's (turned, mirrored or mixed)"
_INSTEAD = "Use 'integrated_gradients', 'rise' or 'shap'."


@dataclass(frozen=True)
class Grid:
    """How one call of one layer lies over the picture.

    Attributes
    ----------
    layer, call, calls : the layer's name, and which of its ``calls`` in a forward pass this is (from 0).
    rows, columns : cells over the picture; row 0 is the top.
    shape : of the output without the batch, which is axis ``batch_axis``.
    before : tokens in front of the grid that are no part of the picture (classification, register tokens).
    pooled : nothing but a summary of a finer map before it.
    """

    layer: str
    kind: Kind
    rows: int
    columns: int
    shape: tuple[int, ...]
    before: int = 0
    batch_axis: int = 0
    call: int = 0
    calls: int = 1
    pooled: bool = False

    def maps(self, output: Tensor) -> Tensor:
        """The layer's output as ``(n, channels, rows, columns)``. Raises Unsupported where it has another shape than was seen."""
        one = output.movedim(self.batch_axis, 0)
        if tuple(one.shape[1:]) != self.shape:
            raise Unsupported(f"Layer {self.layer!r} gives {tuple(one.shape[1:])} here and gave {self.shape} when it was looked at.")
        if self.kind == "channels first":
            return one
        if self.kind == "channels last":
            return one.movedim(-1, 1)
        cells = one[:, self.before : self.before + self.rows * self.columns]
        return cells.transpose(1, 2).reshape(len(one), -1, self.rows, self.columns)

    def __str__(self) -> str:
        which = f" (call {self.call + 1} of {self.calls})" if self.calls > 1 else ""
        others = self.shape[0] - self.rows * self.columns if self.kind == "tokens" else 0
        tokens = f", {others} token{'s' if others > 1 else ''} left out" if others else ""
        return f"{self.layer!r}{which}, {self.rows} x {self.columns} cells{tokens}"


@dataclass(frozen=True)
class Choice:
    """The layer taken, and why it and no other."""

    grid: Grid
    why: str


@dataclass
class Spatial:
    """Every grid of a module for pictures of one size, in the order they are made; ``why_not`` says why a layer is none.

    ``default``, ``without_gradient``: the layers "auto" stands for, found when first asked for.
    """

    grids: list[Grid]
    why_not: dict[str, str]
    default: Choice | None = None
    without_gradient: Choice | None = None
    tokens: dict[int, Tokens] = field(default_factory=dict)
    kept: dict[tuple[str, int], int] = field(default_factory=dict)  # bytes on the way back from the scores to a layer, per picture


_SEEN: weakref.WeakKeyDictionary[TorchModel, dict[tuple[int, ...], Spatial]] = weakref.WeakKeyDictionary()


def choose(model: TorchModel, inputs: np.ndarray, layer: str | nn.Module = "auto", gradient: bool = True) -> Choice:
    """The layer to map: by name (or the module itself), or "auto".

    "auto" is the last layer whose output lies on a grid, through which alone the score depends on the picture, and more than
    one cell of which the score's gradient reaches (where ``gradient`` is needed); a mere pooling is passed over for the finer
    map before it. Raises UnknownName with the nearest name, Unsupported with the reason where there is no such layer.
    """
    found = spatial(model, inputs)
    if isinstance(layer, nn.Module):
        layer = next((name for name, module in model.core.named_modules() if module is layer), type(layer).__name__)
    if layer != "auto":
        return _named(model, found, layer)
    if found.grids and found.without_gradient is None:
        _default(model, _noise_like(inputs), found)
    choice = found.default if gradient else found.default or found.without_gradient
    if choice is not None:
        return choice
    if found.grids:
        raise Unsupported(
            f"No gradient of the scores reaches more than one cell of any layer of {model.name}. Use 'score_cam' or 'eigen_cam', which "
            "need none."
        )
    reasons = "; ".join(f"{name}: {why}" for name, why in list(found.why_not.items())[-3:])
    raise Unsupported(f"No layer of {type(model.core).__name__} gives a map over the picture ({reasons or 'it has none'}). {_INSTEAD}")


def spatial(model: TorchModel, inputs: np.ndarray) -> Spatial:
    """What is known of the module for pictures of this size; looked at once."""
    key = (*inputs.shape[1:], *map(int, _range(inputs)))
    known = _SEEN.setdefault(model, {})
    if key not in known:
        known[key] = _look(model, _noise_like(inputs))
    return known[key]


def token_grid(model: TorchModel, inputs: np.ndarray, tokens: int) -> np.ndarray:
    """``(tokens, 2)``: the row and column of each of a transformer's ``tokens``, -1 for those that are no part of the picture.

    Raises Unsupported where no layer was seen to hold that many tokens on a grid.
    """
    known = spatial(model, inputs).tokens
    if tokens not in known:
        seen = ", ".join(map(str, sorted(known))) or "none"
        raise Unsupported(f"No layer was seen to hold {tokens} tokens on a grid over the picture; those on a grid have {seen} tokens.")
    before, rows, columns = known[tokens]
    cells = np.full((tokens, 2), -1)
    cells[before : before + rows * columns] = np.stack(np.divmod(np.arange(rows * columns), columns), 1)
    return cells


@contextmanager
def at_layer(model: TorchModel, grid: Grid, use: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    """``use(output)`` at the one call of the layer that ``grid`` names; what it returns takes the output's place."""
    calls = 0

    def hook(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        nonlocal calls
        calls += 1
        key, tensor = main(output)
        if calls - 1 != grid.call or tensor is None:
            return None
        new = use(tensor)
        return None if new is None else replaced(output, key, new)

    with hooked(model.core.get_submodule(grid.layer), hook):
        yield


def _range(inputs: np.ndarray) -> tuple[float, float]:
    return -1.0 if inputs.min() < 0 else 0.0, 255.0 if inputs.max() > 2 else 1.0


def _noise_like(inputs: np.ndarray) -> np.ndarray:
    return noise(inputs.shape[1:], _range(inputs))


# -- looking ---------------------------------------------------------------------------------------------------------------


@dataclass
class _Call:
    layer: str
    module: nn.Module
    call: int
    sight: Sight
    shrinks: bool


def _look(model: TorchModel, picture: np.ndarray) -> Spatial:
    if not _registered(model, changed(picture, PARTS[0])):
        return Spatial([], {"preprocess": "a picture's corners do not enter the module (cut away, or skipped), so no cell has its place"})
    for part in PARTS:
        calls = _calls(model, changed(picture, part))
        if not calls or calls[0].sight.moves:
            break
    found = Spatial(*_grids(calls, _sides(model, picture)))
    found.tokens = {grid.shape[0]: (grid.before, grid.rows, grid.columns) for grid in found.grids if grid.kind == "tokens"}
    return found


def _sides(model: TorchModel, picture: np.ndarray) -> tuple[int, ...]:
    """Height and width of the picture as the module gets it, which preprocess may have stretched."""
    entering = next((t.shape[1:] for t in model.encode(picture).tensors if t.is_floating_point() and t.ndim == 4), None)
    if entering is None:
        return picture.shape[1:3]
    return tuple(entering[:2] if entering[-1] <= 4 < entering[0] else entering[1:])


def _registered(model: TorchModel, copies: np.ndarray) -> bool:
    """Whether each corner of the picture is in what the module gets."""
    tensors = [t for t in model.encode(copies).tensors if t.is_floating_point()]
    return all(any(bool((t[k] != t[0]).any()) for t in tensors) for k in range(1, len(copies)))


def _calls(model: TorchModel, copies: np.ndarray) -> list[_Call]:
    """Every call of every layer, with what the changed corners moved in its output."""
    calls: list[_Call] = []
    count: dict[str, int] = {}

    def watch(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            (_, tensor), (_, given) = main(output), main(args)
            number = count[name] = count.get(name, -1) + 1
            sight = sight_of(tensor.detach()) if isinstance(tensor, Tensor) else None
            if sight is not None:
                shrinks = isinstance(given, Tensor) and given.ndim == tensor.ndim and given.numel() > tensor.numel()
                calls.append(_Call(name, module, number, sight, shrinks and next(module.parameters(), None) is None))

        return hook

    with model.scoring(), _watching(model, watch):
        model.forward(model.encode(copies), core=True)
    return calls


@contextmanager
def _watching(model: TorchModel, watch: Callable[[str], Callable[..., None]]) -> Iterator[None]:
    with ExitStack() as stack:
        for name, module in model.core.named_modules():
            if name:
                stack.enter_context(hooked(module, watch(name)))
        yield


def _grids(calls: Sequence[_Call], shape: tuple[int, ...]) -> tuple[list[Grid], dict[str, str]]:
    grids: list[Grid] = []
    why_not: dict[str, str] = {}
    tokens: dict[int, Tokens | str] = {}
    for call in calls:
        sight = call.sight
        # Where all sides are alike, an output of the same shape may lie either way.
        before = next((grid.kind for grid in reversed(grids) if grid.shape == sight.shape and len(set(sight.shape)) > 1), None)
        read = _tokens(sight, tokens, shape) if len(sight.shape) == 2 else _planes(call, shape, before)
        if isinstance(read, str):
            why_not[call.layer] = read
            if read is _TURNED and not grids:  # seen where nothing is mixed yet: what follows is turned too
                return [], why_not
            continue
        kind, front, rows, columns = read
        grids.append(Grid(call.layer, kind, rows, columns, sight.shape, front, sight.batch_axis, call.call, 1, call.shrinks))
    times = {call.layer: call.call + 1 for call in calls}
    return [replace(grid, calls=times[grid.layer]) for grid in grids], why_not


def _planes(call: _Call, shape: tuple[int, ...], before: Kind | None) -> tuple[Kind, int, int, int] | str:
    """Rows and columns of an output with two axes beside the channels, in a module that takes pictures of ``shape``.

    ``before`` : how the last output of this shape lies.
    """
    planes: dict[Kind, Plane] = {kind: call.sight.planes[kind] for kind in ("channels first", "channels last")}
    layered = next((kind for kind, layers in _LAYERED.items() if isinstance(call.module, layers)), None)
    if layered is not None:
        planes = {layered: planes[layered]}
    if all(plane.rows == 1 or plane.columns == 1 for plane in planes.values()):
        return "its map is one cell wide"
    able = {kind: plane for kind, plane in planes.items() if min(plane.rows, plane.columns) > 1 and not plane.contradicts}
    if not able:
        return _TURNED
    following = [kind for kind, plane in able.items() if plane.follows]
    shaped = [kind for kind, plane in able.items() if plane.shaped_like(shape)]
    for kinds in (following, [before], shaped):  # seen to move with the corners; as before; in proportion
        if len(able) > 1:
            able = {kind: plane for kind, plane in able.items() if kind in kinds} or able
    if len(able) > 1:
        return "which of its axes are rows and columns cannot be told"
    ((kind, plane),) = able.items()
    return kind, 0, plane.rows, plane.columns


def _tokens(sight: Sight, known: dict[int, Tokens | str], shape: tuple[int, ...]) -> tuple[Kind, int, int, int] | str:
    """Rows and columns of a sequence, as read in the earliest layer of as many tokens, where they are mixed least."""
    count = sight.shape[0]
    if count not in known:
        read = grid_of_tokens(sight, [other[0] for other in known.values() if not isinstance(other, str)], shape)
        if isinstance(read, str) and not sight.sharp:  # channels, it may be, or tokens that are mixed
            return read
        known[count] = read
    read = known[count]
    if isinstance(read, str):
        return read
    # A layer of as many channels as there are tokens would pass for one of tokens: it must show that it is none.
    plane, width = sight.plane(*read), sight.shape[1]
    if plane.contradicts or width == 1 or (width in known and not plane.follows):
        return "its positions do not follow the picture's corners in rows and columns"
    return "tokens", *read


def _default(model: TorchModel, picture: np.ndarray, found: Spatial) -> None:
    """Set the layer that is taken unless one is named."""
    flow = passages(model, picture, {(grid.layer, grid.call): grid for grid in found.grids})
    last = next((grid for grid in reversed(found.grids) if not grid.pooled), found.grids[-1])
    found.without_gradient = Choice(last, "the last map over the picture")
    whole = [group for group in flow.groups if group.whole]
    group, passed = _last_reached(flow, whole)
    if group is not None:
        unread = f" (of {passed[0].grid.layer!r}, which is later, the scores read at most one cell)" if passed else ""
        found.default = Choice(group.grid, f"the last map through which alone the score depends on the picture{unread}")
        return
    group, _ = _last_reached(flow, flow.groups)
    if group is not None:
        found.default = Choice(group.grid, "the last map that the score's gradient reaches; the score depends on the picture past it too")


def _last_reached(flow: Flow, groups: Sequence[Group]) -> tuple[Group | None, list[Group]]:
    """The last of which the scores' gradient reaches more than one cell, poolings only where nothing else is; and those after it."""
    passed: list[Group] = []
    coarse: Group | None = None
    left = list(groups)
    while left:
        last, left = left[-_AT_ONCE:], left[:-_AT_ONCE]  # the way back to the late layers is short
        for group, count in reversed(list(zip(last, reached(flow, last), strict=True))):
            pooled = any(grid.pooled for grid in group.grids)
            if count > 1 and not pooled:
                return group, passed
            if count > 1:
                coarse = coarse or group
            elif coarse is None:
                passed.append(group)
    return coarse, passed


def _named(model: TorchModel, found: Spatial, layer: str) -> Choice:
    grid = next((grid for grid in reversed(found.grids) if grid.layer == layer), None)
    if grid is not None:
        return Choice(grid, "named by you")
    if layer in dict(model.core.named_modules()):
        names = ", ".join(dict.fromkeys(grid.layer for grid in found.grids[-12:])) or "none"
        why = found.why_not.get(layer, "it gives no map over the picture in a forward pass")
        raise Unsupported(f"Layer {layer!r} cannot be mapped: {why}. Layers that can, the last first made last: {names}.")
    raise unknown("layer", layer, ("auto", *dict.fromkeys(grid.layer for grid in reversed(found.grids))))
