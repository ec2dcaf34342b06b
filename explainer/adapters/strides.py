"""How pictures lie in memory: on a CPU convolutions are 1.2 to 2 times as fast where the channels of a pixel lie side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from explainer.adapters.encoding import Arguments

if TYPE_CHECKING:
    from explainer.adapters.torch import TorchModel

_SAME = 1e-4  # of the outputs' size: what moves more is no rounding
_SLOWER = (nn.modules.instancenorm._InstanceNorm,)  # puts the channels first again


def channels_last(arguments: Arguments) -> Arguments:
    """The same numbers and shapes, pictures with their channels last in memory."""
    return Arguments(tuple(_turned(t) for t in arguments.tensors), arguments.names)


def _turned(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 and tensor.is_floating_point() else tensor


def gains(model: TorchModel, arguments: Arguments) -> bool | None:
    """Whether the module takes :func:`channels_last` and is faster so, by its layers and one trial; None where that cannot be said yet.

    By a rule and not by the clock, so that the same model gives the same bits. A module that asks for strides (``x.view``) fails
    in the trial, and one whose scores are drawn at random is not the same.
    """
    layers = list(model.core.modules())
    able = any(isinstance(m, nn.Conv2d) for m in layers) and not any(isinstance(m, _SLOWER) for m in layers)
    if not able or model.module is not model.core or model.dtype != torch.float32 or model.device != "cpu":
        return False
    if any(m._forward_hooks or m._forward_pre_hooks for m in layers):  # somebody listens, to whom a trial would look like a pass
        return None
    noise = torch.Generator().manual_seed(0)
    given = Arguments(
        tuple(torch.rand(t.shape, generator=noise) if t.ndim == 4 and t.is_floating_point() else t for t in arguments.tensors),
        arguments.names,
    )
    try:
        usual = model.forward(_copied(given))
    except Exception:  # the arguments do not fit, which the pass to come says itself
        return None
    try:
        turned = model.forward(channels_last(_copied(given)))
    except Exception:
        return False
    return bool(torch.allclose(turned, usual, rtol=_SAME, atol=_SAME * float(usual.abs().max())))


def _copied(arguments: Arguments) -> Arguments:
    """For a module that works in place on what it is given."""
    return Arguments(tuple(t.clone() for t in arguments.tensors), arguments.names)
