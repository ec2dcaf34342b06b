"""Through which layers a module's scores depend on its input: by counting the ways through the graph that autograd keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from explainer.adapters.containers import main
from explainer.state import hooked

if TYPE_CHECKING:
    from explainer.adapters.grids import Grid
    from explainer.adapters.torch import TorchModel

_PRIME = 2**61 - 1  # ways are counted modulo this: their number grows like 2 ** depth
_SILENT = 1e-6  # of the largest gradient


@dataclass
class Group:
    """Layers that give one and the same tensor. ``whole``: every way from the input to the scores leads through it."""

    edge: GradientEdge
    grids: list[Grid]
    order: int
    whole: bool = False

    @property
    def grid(self) -> Grid:
        """The layer to name: called once, and the innermost of those."""
        return max(self.grids, key=lambda grid: (grid.calls == 1, grid.layer.count("."), -self.grids.index(grid)))


@dataclass
class Flow:
    """One differentiable forward pass: the tensors on a grid, in the order they were made, and the number to differentiate."""

    groups: list[Group]
    value: Tensor | None


def passages(model: TorchModel, inputs: Any, grids: Mapping[tuple[str, int], Grid]) -> Flow:
    """The tensors on a grid that a gradient of the scores reaches, and which of them are the only way."""
    groups: dict[tuple[Any, int], Group] = {}
    count: dict[str, int] = {}

    def watch(name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            number = count[name] = count.get(name, -1) + 1
            tensor = main(output)[1]
            if (name, number) in grids and tensor is not None and tensor.requires_grad:
                edge = get_gradient_edge(tensor)
                group = groups.setdefault((edge.node, edge.output_nr), Group(edge, [], len(groups)))
                group.grids.append(grids[name, number])

        return hook

    with model.differentiating():
        arguments = model.encode(inputs)
        position = max((i for i, t in enumerate(arguments.tensors) if t.is_floating_point()), key=lambda i: arguments.tensors[i].numel())
        leaf = arguments.tensors[position].detach().requires_grad_()
        with ExitStack() as stack:
            for name in {name for name, _ in grids}:
                stack.enter_context(hooked(model.core.get_submodule(name), watch(name)))
            scores = model.forward(arguments.replace(position, leaf.clone()), core=True)
        if not scores.requires_grad:
            return Flow([], None)
        total, ways = _ways(get_gradient_edge(scores), get_gradient_edge(leaf).node)
        for key, group in groups.items():
            group.whole = total != 0 and ways(key) == total
        # Unequal weights: the plain sum of probabilities is constant, and its gradient is 0.
        spread = torch.linspace(1, 2, scores.shape[1], device=scores.device, dtype=scores.dtype)
        return Flow(list(groups.values()), (scores * spread).sum())


def reached(flow: Flow, groups: Sequence[Group]) -> list[int]:
    """How many cells of each group's grid the gradient of the scores reaches."""
    if flow.value is None or not groups:
        return [0] * len(groups)
    found = torch.autograd.grad(flow.value, [group.edge for group in groups], allow_unused=True, retain_graph=True)
    counts = []
    for group, gradient in zip(groups, found, strict=True):
        if gradient is None:
            counts.append(0)
            continue
        size = group.grids[0].maps(gradient).double().square().sum((0, 1)).sqrt().cpu().numpy()
        counts.append(int(np.count_nonzero(size > _SILENT * max(float(gradient.abs().max()), 1e-300))))
    return counts


def _ways(start: GradientEdge, end: Any) -> tuple[int, Any]:
    """The number of ways from ``start`` to the node ``end``, and a function giving how many of them pass an edge."""
    order = _ordered(start.node)
    after: dict[Any, int] = {}
    for node in order:  # every node after those it leads to
        onward = sum(after.get(following, 0) for following, _ in node.next_functions if following is not None)
        after[node] = 1 if node is end else onward % _PRIME
    before: dict[Any, int] = {start.node: 1}
    entering: dict[tuple[Any, int], int] = {(start.node, start.output_nr): 1}
    for node in reversed(order):
        for following, number in node.next_functions:
            if following is not None:
                before[following] = (before.get(following, 0) + before[node]) % _PRIME
                entering[following, number] = (entering.get((following, number), 0) + before[node]) % _PRIME
    return after[start.node], lambda key: entering.get(key, 0) * after.get(key[0], 0) % _PRIME


def _ordered(root: Any) -> list[Any]:
    """The nodes under ``root``, each after all that it leads to."""
    order: list[Any] = []
    seen = {root}
    stack = [(root, iter(root.next_functions))]
    while stack:
        node, following = stack[-1]
        for child, _ in following:
            if child is not None and child not in seen:
                seen.add(child)
                stack.append((child, iter(child.next_functions)))
                break
        else:
            order.append(node)
            stack.pop()
    return order
