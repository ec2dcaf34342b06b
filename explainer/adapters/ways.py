"""What makes every explanation of a torch module wrong, or every gradient: found by running it, never by guess."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from explainer.adapters.probe import spread
from explainer.inputs import join, take

if TYPE_CHECKING:
    from explainer.adapters.gradients import GradientView
    from explainer.adapters.torch import TorchModel

# Of the difference between two inputs' scores: what moves more than this from call to call, or with its neighbours in the
# batch, is noise that an explanation shows, or is not a function of the input at all.
NOISY, NO_FUNCTION = 0.01, 0.1
CROWD = 48  # inputs that a module whose way depends on values is tried on
_STEADY = 1e-3  # of the scores' size: what moves less when it should not move is rounding


def unsteady(model: TorchModel, sample: Any) -> tuple[float, str]:
    """How far the scores are from being a function of the input alone, and why: drawn at random, or dependent on the batch.

    In units of the difference between two inputs' scores; 0 where they are a function up to rounding.
    """
    pair = varied(model, sample)
    with model.scoring():
        # Encoded anew each time: a module may overwrite its input.
        moved, size = spread(lambda: model.forward(model.encode(sample), core=True))
        unit = max(_STEADY, size) if pair is None else max(_STEADY, _apart(model, pair))
    if moved > _STEADY * max(size, unit):
        return moved / unit, (
            f"its scores are drawn at random: they move by {moved:.2g} from call to call on the same input, in eval mode. Dropout called "
            "as F.dropout(x, p) is always on; pass training=self.training. Or wrap a function that averages over draws"
        )
    if pair is None or (model.padding_counts and model.modality == "text"):
        return 0.0, ""
    with model.scoring():
        alone, beside = (model.forward(model.encode(rows), core=True)[:1].double() for rows in (take(pair, slice(0, 1)), pair))
    return _held(float((alone - beside).abs().max()), float(alone.abs().max()), unit, "one more row")


def crowded(model: TorchModel, rows: Any, branches: str) -> tuple[float, str]:
    """How far the scores of ``rows`` together are from those of each alone, as :func:`unsteady` has it; told of ``branches``.

    For modules whose way depends on values: two rows may happen to take the same way, where many do not.
    """
    if len(rows) < 2 or (model.padding_counts and isinstance(rows, list)):
        return 0.0, ""
    with model.scoring():
        alone = torch.cat([model.forward(model.encode(take(rows, slice(i, i + 1))), core=True).double() for i in range(len(rows))])
        beside = model.forward(model.encode(rows), core=True).double()
    size = float(alone.abs().max())
    unit = max(_STEADY, float((alone.amax(0) - alone.amin(0)).max()))
    return _held(float((alone - beside).abs().max()), size, unit, f"{len(rows) - 1} more rows", branches)


def _held(moved: float, size: float, unit: float, company: str, branches: str = "") -> tuple[float, str]:
    """What it means that a score moves by ``moved`` with its company in the batch."""
    if moved <= _STEADY * max(size, unit):
        return 0.0, ""
    cause = (
        f"Which way the module goes is decided by values of the whole batch ({branches}); decide for each row, as torch.where does"
        if branches
        else "A batch norm without running statistics does that (give it some: track_running_stats=True), and dynamic quantisation a little"
    )
    return moved / unit, (
        f"the score of an input depends on what stands beside it in the batch: it moves by {moved:.2g} with {company}. {cause}. Or wrap a "
        "function that scores row by row"
    )


def _apart(model: TorchModel, pair: Any) -> float:
    """The difference between the scores of two inputs, each scored alone."""
    one, other = (model.forward(model.encode(take(pair, slice(i, i + 1))), core=True).double() for i in (0, 1))
    return float((one - other).abs().max())


def varied(model: TorchModel, sample: Any) -> Any:
    """Two inputs of one shape and different values, or None where none can be made up."""
    rng = np.random.default_rng(1729)  # a seed that the sample itself is hardly made with
    if model.background is not None and model.modality == "tabular":
        return take(model.background, slice(0, 2)) if len(model.background) > 1 else None
    if model.modality == "text":
        return [sample[0], sample[0][::-1]]
    if model.modality == "series":
        return [sample[0], rng.normal(size=sample[0].shape).astype(sample[0].dtype)]
    if model.modality == "image":
        other = rng.random((1, *sample.shape[1:])) * max(1.0, float(np.max(sample)))
        return np.concatenate([np.asarray(sample[:1]), other.astype(np.float32)])
    import pandas as pd

    return pd.concat([sample, sample + rng.normal(size=sample.shape).astype(np.float32)], ignore_index=True)


def crowd(model: TorchModel, sample: Any) -> Any:
    """Some ``CROWD`` inputs of one shape: background rows, mixtures and extremes of them, or noise of many sizes around the sample."""
    rng = np.random.default_rng(1729)
    if model.background is not None and model.modality == "tabular" and len(model.background) > 1:
        rows = take(model.background, rng.permutation(len(model.background))[: CROWD // 3])
        mixed, far = rows.copy(), rows.copy()
        for j in range(rows.shape[1]):  # as coalitions mix them, and three times as far from their mean
            column = rows.iloc[:, j]
            mixed.isetitem(j, column.to_numpy()[rng.permutation(len(rows))])
            if column.dtype.kind == "f":
                far.isetitem(j, (3 * column - 2 * column.mean()).astype(column.dtype))
        return join([rows, mixed, far])
    if model.modality == "text":
        return [" ".join(rng.permutation(sample[0].split())) for _ in range(CROWD)]
    sizes = np.geomspace(0.1, 10, CROWD) * np.where(np.arange(CROWD) % 2, -1, 1)
    if model.modality == "series":
        return [(sample[0] + size * (1 + rng.normal(size=sample[0].shape))).astype(sample[0].dtype) for size in sizes]
    if model.modality == "image":
        shades = np.linspace(0, 1, CROWD)  # from black to white, each with noise of its own
        noisy = [0.5 * shade + 0.5 * rng.random(sample.shape[1:]) * shade for shade in shades]
        return (np.stack(noisy) * max(1.0, float(np.max(sample)))).astype(np.float32)
    return join([sample, *(sample + (size * (1 + rng.normal(size=sample.shape))).astype(np.float32) for size in sizes)])


def slope_error(model: TorchModel, sample: Any) -> float:
    """How far gradients are from the slope of the scores, as a share of it: the median over directions, at another input.

    Central differences ``(f(x + e d) - f(x - e d)) / 2 e`` at two sizes of e, of which the nearer counts. NaN where it cannot
    be told: in half precision, or where the scores do not move.
    """
    pair = varied(model, sample)
    if pair is None or model.dtype in (torch.float16, torch.bfloat16):
        return math.nan
    view = model.gradient_view(take(pair, slice(1, 2)))
    with model.differentiating():
        x = view.x.clone().requires_grad_()
        scores = view.forward(x, *view.others)
        weights = torch.linspace(1, 2, scores.shape[1]).to(scores).double()  # the plain sum of probabilities is constant
        (gradient,) = torch.autograd.grad((scores.double() @ weights).sum(), x, allow_unused=True)
        if gradient is None:
            return math.nan
        directions = torch.randn((3, *x.shape[1:]), generator=torch.Generator().manual_seed(0)).to(x)
        own = (gradient * directions).flatten(1).sum(1).double()
        sizes = [e * (float(x.detach().abs().max()) or 1.0) for e in (1e-3, 1e-4)]
        with torch.no_grad():
            points = torch.cat([x + sign * e * directions for e in sizes for sign in (1, -1)])
            others = tuple(t.repeat(len(points), *[1] * (t.ndim - 1)) for t in view.others)
            values = (view.forward(points, *others).double() @ weights).reshape(len(sizes), 2, 3)
    slopes = (values[:, 0] - values[:, 1]) / (2 * torch.tensor(sizes).to(values)[:, None])
    errors = (slopes - own).abs() / torch.maximum(slopes.abs(), own.abs()).clamp(min=1e-6)
    return float(errors.amin(0).median())


def other_ways(model: TorchModel, view: GradientView, sample: Any) -> str:
    """Where the features reach the score past the tensor that is differentiated at, so that gradients would see a part of them."""
    if view.embedded:
        return _ids_elsewhere(model, view)
    if model.modality == "tabular" or not view.others:
        return ""
    pair = varied(model, sample)
    arguments = model.encode(pair)
    moving = [i for i, t in enumerate(arguments.tensors) if i != view.position and not torch.equal(t[0], t[1])]
    if not moving:
        return ""
    return f"preprocess gives {arguments.describe()}: the input enters the module by several ways, and gradients would see only the largest"


def _ids_elsewhere(model: TorchModel, view: GradientView) -> str:
    """Change the ids and hold their embedding: a score that moves all the same has seen them in another way."""
    assert view.embedding is not None
    changed = _other_ids(model, view)
    others = (*view.others[: view.position], changed, *view.others[view.position + 1 :])
    with model.scoring():
        here = view.forward(view.x, *view.others).double()
        there = dataclasses.replace(view, others=others).forward(view.x, *others).double()
    moved = float((here - there).abs().max() / here.abs().max().clamp(min=1))
    if moved <= _STEADY:
        return ""
    name = next((name for name, layer in model.core.named_modules() if layer is view.embedding), "the embedding")
    return (
        f"the token ids enter the module by another way than the embedding layer {name!r} too (with that held, other ids move the scores "
        f"by {moved:.2g}): a second embedding, or a decoder that is given them as well. Gradients at {name!r} would see only a part"
    )


def _other_ids(model: TorchModel, view: GradientView) -> Tensor:
    """The ids with every token of a word exchanged for another that is nothing special."""
    ids = view.others[view.position]
    words = view.layout.word_positions(ids.device)  # type: ignore[attr-defined]
    kept = {int(i) for i in ids[~words].unique()} | {getattr(model.preprocess, "pad_id", None)}
    kept |= set(getattr(model.preprocess, "special_ids", None) or ())
    assert view.embedding is not None
    usual = [i for i in range(min(view.embedding.num_embeddings, 200)) if i not in kept]
    one, two = (usual * 2)[:2] if usual else (0, 0)
    return torch.where(words, torch.where(ids == one, two, one), ids)
