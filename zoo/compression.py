"""Smaller models, and what it costs: accuracy, and how far the explanations are still those of the model that was audited."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from explainer.errors import InvalidInput, Unsupported
from zoo import metrics

if TYPE_CHECKING:
    from explainer.model import Model
    from zoo.data import Split

INDEX = 4  # bytes of the number of a row or a column


def pruned(model: Model, share: float, *, structured: bool = False) -> Model:
    """The model with ``share`` of the weights of its linear and convolutional layers set to 0; the model given stays as it is.

    Embeddings and norms keep theirs, so of all parameters it may be far less (:func:`zeros`). Unstructured: the smallest weights over
    all these layers together (magnitude pruning, Han et al. 2015). Structured: in each layer but the last, the output rows of the
    smallest L2 norm with their biases (Li et al. 2017), and what only they were read by: where layers follow one another in an
    ``nn.Sequential``, the norm's numbers and the next layer's columns.

    Raises InvalidInput for a share outside [0, 1), Unsupported for a model that is no PyTorch module.
    """
    from torch import nn
    from torch.nn.utils import prune

    if not 0 <= share < 1:
        raise InvalidInput(f"share must be at least 0 and below 1; {share} came.")
    module = _module(model)
    layers = [one for one in module.modules() if isinstance(one, (nn.Linear, nn.Conv1d, nn.Conv2d))]
    if not layers:
        raise Unsupported("The model has no linear or convolutional layer to prune.")
    layers = layers[:-1] if structured else layers
    if structured:
        for one in layers:
            prune.ln_structured(one, "weight", share, n=2, dim=0)
    else:
        prune.global_unstructured([(one, "weight") for one in layers], prune.L1Unstructured, amount=share)
    for one in layers:
        prune.remove(one, "weight")
    if structured:
        _clear(module, {one: (one.weight == 0).flatten(1).all(1) for one in layers})
    return _wrapped(model, module, f"{model.name}, {share:.0%} of {'rows' if structured else 'weights'} pruned")


def _clear(module: Any, gone: Mapping[Any, Any]) -> None:
    """Set to 0 the biases of rows that are gone, and, through layers that leave 0 as it is, all that multiplies their outputs."""
    import torch
    from torch import nn

    norms = (nn.BatchNorm1d, nn.BatchNorm2d)
    still = (nn.Identity, nn.Dropout, nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool2d)
    with torch.no_grad():
        for layer, rows in gone.items():
            if layer.bias is not None:
                layer.bias[rows] = 0
        for chain in (one for one in module.modules() if type(one) is nn.Sequential):
            rows = None  # which outputs are 0 at this place
            for layer in chain:
                if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d)):
                    if rows is not None and layer.weight.shape[1] == len(rows):  # a grouped convolution has fewer columns
                        layer.weight[:, rows] = 0
                    rows = gone.get(layer)
                elif isinstance(layer, norms) and layer.affine and rows is not None:
                    layer.weight[rows] = layer.bias[rows] = 0
                elif not isinstance(layer, still):
                    rows = None


def quantised(model: Model, *, products: bool = False) -> Model:
    """The model with the weights of its linear layers and embeddings rounded to 8 bits, one scale per output row.

    w is kept as round(w / s) in [-127, 127] with s = max |row| / 127 (symmetric, per channel; Jacob et al. 2018), and brought back
    to float when it is used, so that every explanation method still has its gradients. About a quarter of the size; not faster.
    ``products``: linear layers round their inputs too, row by row, and multiply whole numbers, which has no gradient, so that only
    methods that look from outside are left. On layers as narrow as the zoo's the rounding costs what the product saves.
    """
    from zoo.int8 import replaced

    module = _module(model)
    found = 0
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            made = replaced(child, products)
            if made is not None:
                setattr(parent, name, made)
                found += 1
    if not found:
        raise Unsupported("The model has no linear layer and no embedding to quantise.")
    return _wrapped(model, module, f"{model.name}, int8{' products' if products else ''}")


def size(model: Model) -> int:
    """Bytes of the parameters and buffers in a file that keeps each in the cheapest of three forms.

    Whole; the values that are not 0, each with its column, and where every row starts (compressed sparse rows); or the block of rows
    and columns that are not all 0, with their numbers. Numbers of rows and columns have 4 bytes.
    """
    return sum(_stored(one) for one in _state(model))


def _stored(tensor: Any) -> int:
    rows = tensor.flatten(1) if tensor.ndim > 1 else tensor.reshape(1, -1)
    full, each = rows != 0, tensor.element_size()
    values, height, width = int(full.sum()), int(full.any(1).sum()), int(full.any(0).sum())
    sparse, block = values * (each + INDEX) + (len(rows) + 1) * INDEX, height * width * each + (height + width) * INDEX
    return min(tensor.numel() * each, sparse, block)


def zeros(model: Model) -> float:
    """The share of all its numbers, parameters and buffers, that are 0."""
    state = _state(model)
    return sum(int((one == 0).sum()) for one in state) / sum(one.numel() for one in state)


def _state(model: Model) -> list[Any]:
    return list(_module(model, copied=False).state_dict().values())


@dataclass(frozen=True)
class Cost:
    """What a change of a model cost on the same rows.

    Sizes are of :func:`size`, ``zeros`` is of the changed model; ``seconds`` are of the processor, for scoring the rows once.
    ``agreement`` is the mean over rows of Spearman's rank correlation between |attributions| before and after, with its 95 % bootstrap
    interval; ``first`` the share of rows whose strongest feature stayed the strongest; ``same`` the share of rows that are still given
    the same class.
    """

    size_before: int
    size_after: int
    zeros: float
    seconds_before: float
    seconds_after: float
    metric: str
    before: dict[str, float]
    after: dict[str, float]
    same: float
    agreement: dict[str, float]
    first: float

    def __str__(self) -> str:
        from zoo.card import TITLES, interval

        return (
            f"{self.size_after / self.size_before:.0%} of the size, {self.seconds_after / self.seconds_before:.0%} of the time; "
            f"{TITLES[self.metric]} {interval(self.before)} before, "
            f"{interval(self.after)} after; same class on {self.same:.1%} of rows; explanations agree by rank "
            f"{interval(self.agreement)}, same first feature on {self.first:.0%}"
        )


def cost(
    before: Model, after: Model, split: Split, *, method: str = "auto", metric: str = "accuracy", rows: int = 40, seed: int = 0
) -> Cost:
    """Hold two models of the same task against each other: size, the metric on the split, and the explanations of ``rows`` rows."""
    import explainer
    from explainer.inputs import take

    scores, seconds = _timed((before, after), split.inputs)
    classes = [one.argmax(1) for one in scores]
    chosen = np.random.default_rng(seed).permutation(len(split))[:rows]
    inputs, target = take(split.inputs, np.sort(chosen)), classes[0][np.sort(chosen)]
    found = [
        explainer.explain(one, inputs, method=method, target=target.tolist(), seed=seed, verify="off", progress=False)
        for one in (before, after)
    ]
    pairs = [[np.abs(np.asarray(e.values, dtype=float)).ravel() for e in pair] for pair in zip(*found, strict=True)]
    ranks = np.array([_rank(a, b) for a, b in pairs])
    draws = metrics.resampled(ranks, seed)
    figures = [metrics.intervals(split.labels, one)[metric] for one in scores]
    return Cost(
        size(before), size(after), zeros(after), seconds[0], seconds[1], metric, figures[0], figures[1],
        same=float((classes[0] == classes[1]).mean()), agreement=metrics.interval(float(ranks.mean()), draws),
        first=float(np.mean([a.argmax() == b.argmax() for a, b in pairs])),
    )  # fmt: skip


def _timed(models: tuple[Model, Model], inputs: Any) -> tuple[list[np.ndarray], list[float]]:
    """Scores of each, and the least processor time of three turns: what else the machine does then counts for little."""
    scores: list[np.ndarray] = []
    seconds = [np.inf, np.inf]
    for _ in range(3):
        scores = []
        for i, one in enumerate(models):
            started = time.process_time()
            scores.append(one.scores(inputs))
            seconds[i] = min(seconds[i], time.process_time() - started)
    return scores, seconds


def _rank(a: np.ndarray, b: np.ndarray) -> float:
    from scipy.stats import spearmanr

    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float(np.array_equal(a, b))
    return float(spearmanr(a, b).statistic)


def _module(model: Model, copied: bool = True) -> Any:
    module = getattr(model, "module", None)
    if module is None:
        raise Unsupported(f"{model.name} is no PyTorch model; only those are compressed here.")
    return copy.deepcopy(module) if copied else module


def _wrapped(model: Any, module: Any, name: str) -> Model:
    import explainer

    return explainer.wrap(
        module, modality=model.modality, feature_names=model.feature_names or None, class_names=model.class_names,
        preprocess=model.preprocess, background=model.background, task=model.task, returns=model.returns, name=name,
    )  # fmt: skip
