"""A run's state after each epoch, in one safetensors file: replaced whole, so that a kill leaves the last whole epoch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import nn

from explainer.errors import CorruptFile, InvalidInput
from explainer.explanation import write_atomic

if TYPE_CHECKING:
    from zoo.train import State

NAME = "checkpoint.safetensors"


def save(path: Path, state: State, identity: dict[str, Any]) -> None:
    """Write weights, running average, best weights and optimizer tensors; the rest as JSON in the file's head.

    No random state is kept: all chance in an epoch follows from the seed and the epoch's number.
    """
    groups = {"module": trained(state.module), "best": state.best, "average": state.average or {}}
    tensors = {f"{group}.{name}": tensor for group, content in groups.items() for name, tensor in content.items()}
    for index, values in state.optimizer.state_dict()["state"].items():
        tensors.update({f"optimizer.{index}.{name}": value for name, value in values.items()})
    head = {"identity": identity, "best_epoch": state.best_epoch, "history": state.history, "seconds": state.seconds}
    # Copies: safetensors refuses tensors that share memory.
    content = to_bytes({name: t.detach().cpu().clone().contiguous() for name, t in tensors.items()}, {"head": json.dumps(head)})
    write_atomic(path, lambda handle: handle.write(content))


def restore(path: Path, state: State, identity: dict[str, Any]) -> None:
    """Bring ``state`` to where the checkpoint was written. Raises InvalidInput when it is of another run, CorruptFile."""
    try:
        with safe_open(str(path), framework="pt") as file:
            head = json.loads(file.metadata()["head"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, KeyError, ValueError, TypeError, OSError) as error:
        raise CorruptFile(f"{path} is not a readable checkpoint ({error}). Start anew with --fresh (resume=False).") from error
    if head["identity"] != identity:
        differing = sorted(k for k in identity if head["identity"].get(k) != identity[k])
        raise InvalidInput(
            f"{path} is from another run: its {' and '.join(differing)} {'is' if len(differing) == 1 else 'are'} not this one's. "
            "Train into another folder (--out), repeat the settings of that run, or start afresh with --fresh (resume=False)."
        )

    def group(prefix: str) -> dict[str, torch.Tensor]:
        return {name[len(prefix) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(prefix + ".")}

    device = next(state.module.parameters()).device
    put(state.module, group("module"))
    state.best = {name: tensor.to(device) for name, tensor in group("best").items()}
    if state.average is not None:
        state.average = {name: tensor.to(device) for name, tensor in group("average").items()}
    kept: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in group("optimizer").items():
        index, _, key = name.partition(".")
        kept.setdefault(int(index), {})[key] = tensor
    state.optimizer.load_state_dict({"state": kept, "param_groups": state.optimizer.state_dict()["param_groups"]})
    state.best_epoch, state.history, state.seconds = head["best_epoch"], head["history"], head["seconds"]


def trained(module: nn.Module) -> dict[str, torch.Tensor]:
    """The module's state without what is frozen, which comes from elsewhere and stays as it is: parameters that need no gradient,
    and the buffers of layers that have no other.
    """
    frozen: set[str] = set()
    for prefix, layer in module.named_modules():
        still = {name for name, one in layer.named_parameters(prefix, recurse=False) if not one.requires_grad}
        whole = len(still) == len(list(layer.parameters(recurse=False))) > 0
        frozen |= still | ({name for name, _ in layer.named_buffers(prefix, recurse=False)} if whole else set())
    return {name: tensor for name, tensor in module.state_dict().items() if name not in frozen}


def put(module: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Set what :func:`trained` gave. Raises RuntimeError where it is not all of it, or more."""
    lacking = sorted(set(trained(module)) - set(weights))
    unexpected = module.load_state_dict(weights, strict=False).unexpected_keys
    if lacking or unexpected:
        raise RuntimeError(f"missing: {', '.join(lacking[:3]) or 'none'}; not of this network: {', '.join(unexpected[:3]) or 'none'}")


def epoch(path: Path) -> int:
    """How many epochs the checkpoint holds; 0 when there is none that can be read."""
    try:
        with safe_open(str(path), framework="pt") as file:
            return len(json.loads(file.metadata()["head"])["history"])
    except (SafetensorError, KeyError, ValueError, TypeError, OSError):
        return 0
