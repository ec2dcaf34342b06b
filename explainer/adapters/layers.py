"""The layers of a torch module by name: what each gives, seen as rows x positions x units, read or replaced while it runs."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence
from torch.overrides import BaseTorchFunctionMode

from explainer import state
from explainer.adapters.containers import main, replaced
from explainer.adapters.encoding import Arguments
from explainer.errors import InvalidInput, Unsupported, unknown
from explainer.inputs import take

if TYPE_CHECKING:
    from explainer.adapters.torch import TorchModel

_SILENT = (nn.Dropout, nn.modules.dropout._DropoutNd, nn.Identity, nn.Flatten, nn.Unflatten)
_FIRST = (nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.modules.instancenorm._InstanceNorm)
_LAST = (nn.Linear, nn.LayerNorm, nn.Embedding, nn.RNNBase, nn.MultiheadAttention)
Do = Callable[["View"], Tensor | None]


@dataclass(frozen=True)
class Call:
    """One run of one module in a forward pass: ``turn`` counts the runs of a module that is used several times."""

    name: str
    module: str
    turn: int
    kind: str
    rows_axis: int
    units_axis: int
    positions: tuple[int, ...]
    units: int
    leaf: bool = True


@dataclass(frozen=True)
class View:
    """What a layer gave, as ``values`` ``(rows, *positions, units)``, and the way back.

    ``real`` ``(rows, steps)`` marks the positions that are no padding, where there is any.
    """

    values: Tensor
    real: Tensor | None
    put: Callable[[Tensor], Any]

    @property
    def rows(self) -> Tensor:
        """``(real positions of all rows, units)``."""
        if self.real is None or self.values.ndim != 3:
            return self.values.reshape(-1, self.values.shape[-1])
        return self.values[self.real]

    def pooled(self, how: str = "mean") -> Tensor:
        """``(rows, units)``: mean or max over real positions, or the first or last real one."""
        if self.values.ndim == 2:
            return self.values
        flat = self.values.flatten(1, -2)
        real = torch.ones(flat.shape[:2], dtype=torch.bool, device=flat.device)
        if self.real is not None and self.values.ndim == 3:
            real = self.real
        if how == "max":
            return flat.masked_fill(~real[..., None], -torch.inf).amax(1)
        if how in ("first", "last"):
            order = torch.arange(flat.shape[1], device=flat.device).expand_as(real)
            at = order.masked_fill(~real, -1).amax(1) if how == "last" else order.masked_fill(~real, flat.shape[1]).amin(1)
            return flat[torch.arange(len(flat), device=flat.device), at]
        return torch.where(real[..., None], flat, 0).sum(1) / real.sum(1, keepdim=True)


def name_of(core: nn.Module, layer: Any) -> Any:
    """The dotted name of a layer given as the module itself; anything else as it stands. Raises InvalidInput for a strange module."""
    if not isinstance(layer, nn.Module):
        return layer
    names = {module: name for name, module in core.named_modules()}
    if not names.get(layer):
        known = ", ".join([name for name in names.values() if name][:25])
        raise InvalidInput(f"layer= is a {type(layer).__name__} that is no layer inside the module wrapped. Name one of {known}.")
    return names[layer]


class Layers:
    """Every layer of ``model`` that runs, by name, in the order of running; found by one forward pass of one input.

    A module that runs several times stands once for each run, as ``name#0``, ``name#1``. Functions that are no modules
    (``F.relu``) have no name and are not seen. The module is as it was after every use, an error included.
    """

    def __init__(self, model: TorchModel, inputs: Any) -> None:
        self.model = model
        self.calls = _trace(model, model.encode(take(inputs, [0, 0])))  # twice one input: an axis of 2 is that of the rows

    @property
    def leaves(self) -> list[str]:
        """Layers that hold no other layer; without dropout and what only reshapes."""
        return [c.name for c in self.calls.values() if c.leaf and not isinstance(self.module(c.name), _SILENT)]

    def module(self, name: str) -> nn.Module:
        return self.model.core.get_submodule(self.calls[name].module)

    def named(self, layers: Any) -> list[str]:
        """Names of the layers asked for; None for all leaves. Raises UnknownName, Unsupported."""
        if layers is None:
            return self.leaves
        asked = layers if isinstance(layers, (list, tuple)) else [layers]
        return [self._named(name_of(self.model.core, layer)) for layer in asked]

    def _named(self, name: str) -> str:
        if name in self.calls:
            return name
        turns = [c.name for c in self.calls.values() if c.module == name]
        if turns:
            raise Unsupported(f"The layer {name!r} runs {len(turns)} times in one pass; name one of {', '.join(turns[:8])}.")
        modules = dict(self.model.core.named_modules())
        if isinstance(modules.get(name), torch.jit.ScriptModule):
            raise Unsupported(
                f"The layer {name!r} is TorchScript, which cannot be entered; name another, or wrap the module it was made from."
            )
        if name in modules:
            raise Unsupported(
                f"The layer {name!r} gives no float tensor with a row per input, or does not run as a module of its own (a fused kernel "
                f"may stand in for it). Layers that can be read: {', '.join(list(self.calls)[:25])}."
            )
        raise unknown("layer", name, self.calls)

    def blocks(self) -> list[str]:
        """The stack of blocks of one kind and one shape that hands a state on: the longest, of those the last to run; or none."""
        stacks: dict[tuple[Any, ...], list[str]] = {}
        for call in self.calls.values():
            repeated = "#" in call.name  # one block that runs again and again
            above = call.module if repeated else call.module.rpartition(".")[0]
            if not call.leaf and (repeated or isinstance(self.model.core.get_submodule(above), (nn.ModuleList, nn.Sequential))):
                stacks.setdefault((above, call.kind, call.units, call.positions), []).append(call.name)
        deep = {key[0]: names for key, names in stacks.items() if len(names) > 1}
        # A stack inside a block of another stack is a part of that block.
        held = tuple(f"{name.partition('#')[0]}." for names in deep.values() for name in names)
        outer = [names for above, names in deep.items() if not above.startswith(held)]
        return max(outer, key=lambda names: (len(names), list(self.calls).index(names[-1])), default=[])

    def run(self, arguments: Arguments, do: Mapping[str, Do], entering: bool = False) -> Tensor:
        """The module's scores, with ``do[name](view)`` called as each layer runs; what it returns replaces the layer's values.

        With ``entering``, it is what the layer is given that is seen and replaced.
        """
        with self.doing(arguments, do, self.model.core, entering):
            return self.model.forward(arguments, core=True)

    @contextmanager
    def doing(self, arguments: Arguments, do: Mapping[str, Do], core: nn.Module, entering: bool = False) -> Iterator[None]:
        """``do[name](view)`` for each layer of ``core`` (the module or a copy) that runs inside; with ``entering``, on what it is given."""
        turns: Counter[str] = Counter()
        by_module: dict[str, dict[int, str]] = {}
        for name in do:
            by_module.setdefault(self.calls[name].module, {})[self.calls[name].turn] = name
        pad_id = getattr(self.model.preprocess, "pad_id", None)

        def act(module: str, layer: nn.Module, passed: Any) -> Any:
            name = by_module[module].get(turns[module])
            turns[module] += 1
            if name is None:
                return None
            seen = view(self.calls[name], layer, passed, arguments, pad_id, entering)
            new = do[name](seen)
            return None if new is None else seen.put(new)

        with ExitStack() as stack:
            stack.enter_context(BaseTorchFunctionMode())  # keeps fused encoder layers off the path on which no module runs
            for module in by_module:
                mine = partial(act, module)
                hook = (
                    state.hooked_before(core.get_submodule(module), mine)
                    if entering
                    else state.hooked(core.get_submodule(module), partial(_output_only, mine))
                )
                stack.enter_context(hook)
            yield

    def read(self, inputs: Any, names: Sequence[str], rows: int | None = None) -> Iterator[tuple[Any, dict[str, View]]]:
        """Batch by batch, the numbers of its rows and what each layer gave; without gradients."""
        with self.model.scoring():
            for chosen in self.model.batches(inputs, rows):
                found: dict[str, View] = {}

                def keep(name: str, found: dict[str, View] = found) -> Do:
                    # Cloned: an in-place activation behind the layer would change what was kept.
                    return lambda seen: found.update({name: dataclasses.replace(seen, values=seen.values.detach().clone())})

                self.run(self.model.encode(take(inputs, chosen)), {name: keep(name) for name in names})
                yield chosen, found


def view(call: Call, layer: nn.Module, output: Any, arguments: Arguments, pad_id: int | None, entering: bool = False) -> View:
    """What one layer gave (is given, with ``entering``) as a :class:`View`. Raises Unsupported where it has no row per input."""
    key, tensor = main(output)
    rows = len(arguments)
    if entering and isinstance(tensor, Tensor):
        call = dataclasses.replace(call, units_axis=1 if isinstance(layer, _FIRST) else tensor.ndim - 1)
    index = None
    if isinstance(tensor, PackedSequence):
        packed, places = tensor, torch.arange(len(tensor.data), device=tensor.data.device)
        index, _ = pad_packed_sequence(packed._replace(data=places), batch_first=True, padding_value=-1)
        values = packed.data[index.clamp(min=0)]
    elif tensor is None or call.rows_axis >= tensor.ndim or tensor.shape[call.rows_axis] != rows:
        came = "none" if tensor is None else tuple(tensor.shape)
        raise Unsupported(f"The layer {call.name!r} gives {came} for {rows} inputs: it has no row per input and cannot be read.")
    else:
        values = tensor.movedim(call.rows_axis, 0).movedim(call.units_axis, -1)
    real = index >= 0 if index is not None else real_positions(arguments, pad_id, values.shape[1]) if values.ndim == 3 else None

    def put(new: Tensor) -> Any:
        new = new.to(values.dtype, copy=True)  # what follows may work in place on it
        if index is not None:
            assert isinstance(tensor, PackedSequence)
            data = torch.empty_like(tensor.data).index_put((index[index >= 0],), new[index >= 0])
            changed: Any = tensor._replace(data=data)
        else:
            changed = new.movedim(-1, call.units_axis).movedim(0, call.rows_axis)
        if isinstance(layer, nn.RNNBase) and isinstance(output, tuple) and not entering:
            return changed, _last_state(layer, new, None if index is None else real, output[1])
        return replaced(output, key, changed)

    return View(values, real, put)


def real_positions(arguments: Arguments, pad_id: int | None, steps: int) -> Tensor | None:
    """Which of ``steps`` positions ``(rows, steps)`` are no padding, by a mask, by lengths, or by the ids; None where all are."""
    rows, tensors = len(arguments), arguments.tensors
    named = arguments.index("mask", "attention_mask")
    masks = [tensors[named]] if named is not None else [t for t in tensors if t.dtype == torch.bool]
    for mask in masks:
        if mask.shape == (rows, steps):
            return mask.bool()
    whole = [t for t in tensors if not t.is_floating_point() and t.dtype != torch.bool]
    for tensor in whole:
        if tensor.shape == (rows,) and int(tensor.max()) == steps and len(tensors) > 1:
            return torch.arange(steps, device=tensor.device)[None] < tensor[:, None]
        if tensor.shape == (rows, steps) and pad_id is not None:
            return tensor != pad_id
    return None


def _trace(model: TorchModel, arguments: Arguments) -> dict[str, Call]:
    seen: list[tuple[str, nn.Module, Any]] = []
    with model.scoring(), BaseTorchFunctionMode(), ExitStack() as stack:
        for name, module in model.core.named_modules():
            if name and "parametrizations" not in name.split(".") and not isinstance(module, torch.jit.ScriptModule):
                stack.enter_context(state.hooked(module, partial(_output_only, partial(_noted, seen, name))))
        model.forward(arguments, core=True)
    runs, turns = Counter(name for name, *_ in seen), Counter[str]()
    calls: dict[str, Call] = {}
    first: dict[int, bool] = {}
    for name, layer, sizes in seen:
        if sizes and isinstance(layer, (*_FIRST, *_LAST)):
            first[len(sizes)] = isinstance(layer, _FIRST)
        turn = turns[name]
        turns[name] += 1
        if sizes is None or len(arguments) not in sizes[: max(1, len(sizes) - 1)] or len(sizes) < 2:
            continue
        rows_axis = sizes.index(len(arguments))
        rest = [s for axis, s in enumerate(sizes) if axis != rows_axis]
        units_axis = 1 if first.get(len(sizes), len(sizes) > 3) or len(rest) == 1 else len(sizes) - 1
        units = rest.pop(units_axis - 1)
        shown = f"{name}#{turn}" if runs[name] > 1 else name
        leaf = not any(other.startswith(f"{name}.") for other in runs)
        calls[shown] = Call(shown, name, turn, type(layer).__name__, rows_axis, units_axis, tuple(rest), units, leaf)
    return calls


def _output_only(do: Callable[[nn.Module, Any], Any], layer: nn.Module, _: Any, output: Any) -> Any:
    return do(layer, output)


def _noted(seen: list[tuple[str, nn.Module, Any]], name: str, layer: nn.Module, output: Any) -> None:
    seen.append((name, layer, _sizes(output)))


def _sizes(output: Any) -> tuple[int, ...] | None:
    tensor = main(output)[1]
    if isinstance(tensor, PackedSequence):
        return (int(tensor.batch_sizes[0]), len(tensor.batch_sizes), tensor.data.shape[-1])
    return None if tensor is None else tuple(tensor.shape)


def _last_state(layer: nn.RNNBase, values: Tensor, real: Tensor | None, state_: Any) -> Any:
    """The recurrent layer's last state, made to agree with its replaced output ``(rows, steps, directions x width)``."""
    hidden = state_[0] if isinstance(state_, tuple) else state_
    directions = 2 if layer.bidirectional else 1
    parts = list(values.chunk(directions, -1))
    steps = torch.full((len(values),), values.shape[1], device=values.device) if real is None else real.sum(1)
    ends = [parts[0][torch.arange(len(values), device=values.device), steps - 1], *(p[:, 0] for p in parts[1:])]
    changed = torch.cat([hidden[:-directions], torch.stack(ends)])
    return (changed, state_[1]) if isinstance(state_, tuple) else changed
