"""How each specimen is made: one entry per specimen, read by training, loading and the card. Imports no framework."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from explainer.errors import unknown
from explainer.inputs import Modality
from zoo.bars import Bar
from zoo.data import EXTRA, Data

Task = Literal["classification", "regression", "density"]


@dataclass(frozen=True)
class Recipe:
    """Names of what a specimen is made of, and how long and how hard it is trained.

    ``source`` is the module with the data (``load``, ``background`` and, where it helps, ``augment``, and ``masked``); ``network``
    and ``preprocess`` are ``module:class``; an ``estimator`` is ``module:function``, from the data to a fitted scikit-learn model,
    in the place of both. ``metric`` decides against the baseline, ``bars`` say what is good enough. ``truth`` is
    ``module:function``, from a specimen and inputs to the attribution that is right by construction. No epochs: the network is built
    as it stands, not trained. ``base``: the pretrained weights the network starts from; what training leaves of them as it was is not
    written with the specimen.

    A "density" has no labels: in training its network gives the loss of each row, else one number a row. Its figures are means of
    ``measure``, ``module:function`` from network, preprocess and data to ``{metric: rows}``, and its ``baseline`` gives such rows for
    the same data. ``further`` takes the seed too and gives other figures worth keeping, ``{what: interval}``.
    """

    name: str
    modality: Modality
    source: str
    baseline: str
    metric: str
    summary: str
    use: str
    limits: tuple[str, ...]
    network: str = ""
    preprocess: str = ""
    estimator: str = ""
    task: Task = "classification"
    bars: tuple[Bar, ...] = ()
    truth: str = ""
    measure: str = ""
    further: str = ""
    packages: tuple[str, ...] = ()  # modules of the extra zoo that its data come with, or that read its files
    needs: str = ""  # the data set that comes with no package, as zoo.sources.official names it
    base: str = ""  # as zoo.pretrained names it
    licence: str = ""  # of the data, as their source states it, or that it states none
    epochs: int = 0
    batch: int = 64
    rate: float = 1e-3
    decay: float = 0.0  # L2: every weight of a matrix loses rate * decay of itself in a step (AdamW)
    l1: float = 0.0  # every weight of a matrix is pulled towards 0 by rate * l1 in a step
    warmup: float = 0.05  # share of the steps in which the learning rate rises
    clip: float = 1.0  # the largest norm of a step's gradient; 0: any
    patience: int = 10
    smoothing: float = 0.0
    average: float = 0.0  # share of the old weights kept in the running average that is validated and saved; 0: none
    augmented: bool = True  # training batches are varied by the source's ``augment``, where it has one
    select: str = "log_loss"  # the validation metric that picks the epoch; empty: the last is kept
    momentum: float = 0.9  # of AdamW, its first beta
    teacher: str = ""  # as ``baseline``; what it tells of a training row that it has not seen takes a share of that row's label
    taught: float = 0.0  # that share
    weighted: bool = False  # classes weigh in the loss by the root of the inverse of their share
    source_arguments: Mapping[str, Any] = field(default_factory=dict)
    network_arguments: Mapping[str, Any] = field(default_factory=dict)
    preprocess_arguments: Mapping[str, Any] = field(default_factory=dict)

    def data(self) -> Data:
        """Load the splits. Raises MissingDependency where the package or the file they come from is not at hand."""
        return importlib.import_module(self.source).load(**self.source_arguments)

    def background(self, data: Data) -> Any:
        """A few training inputs that stand for the population, or None."""
        return importlib.import_module(self.source).background(data)

    def augment(self) -> Any:
        """The function that varies a training batch, or None."""
        return getattr(importlib.import_module(self.source), "augment", None) if self.augmented else None

    def missing(self) -> str:
        """What to do where packages, its base or its data are not at hand, in a sentence each, else nothing; imports none of them."""
        from zoo import pretrained
        from zoo.sources import official

        absent = [name for name in self.packages if importlib.util.find_spec(name) is None]
        lacks = [
            f"It needs {' and '.join(absent)}, which cannot be imported here. Run: {EXTRA}" if absent else "",
            pretrained.missing(self.base) if self.base else "",
            official.missing(self.needs) if self.needs else "",
        ]
        return " ".join(filter(None, lacks))


def recipe(name: str) -> Recipe:
    """The recipe of that name. Raises UnknownName with the nearest valid one."""
    from zoo.specimens import RECIPES

    if name not in RECIPES:
        raise unknown("model", name, RECIPES)
    return RECIPES[name]


def resolve(path: str) -> Any:
    """The object that ``"module:name"`` says."""
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)
