"""How each specimen is made: one entry per specimen, read by training, loading and the card. Imports no framework."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from explainer.errors import unknown
from explainer.inputs import Modality
from zoo.data import Data


@dataclass(frozen=True)
class Recipe:
    """Names of what a specimen is made of, and how long and how hard it is trained.

    ``source`` is the module with the data (``load``, ``background`` and, where it helps, ``augment``); ``network`` and
    ``preprocess`` are ``module:class``; ``metric`` decides against the baseline and, with ``bar``, whether it is good enough.
    """

    name: str
    modality: Modality
    source: str
    network: str
    preprocess: str
    baseline: str
    metric: str
    bar: float | None
    summary: str
    use: str
    limits: tuple[str, ...]
    epochs: int
    batch: int
    rate: float
    decay: float
    patience: int
    smoothing: float = 0.0
    average: float = 0.0  # share of the old weights kept in the running average that is validated and saved; 0: none
    select: str = "log_loss"  # the validation metric that picks the epoch
    network_arguments: Mapping[str, Any] = field(default_factory=dict)
    preprocess_arguments: Mapping[str, Any] = field(default_factory=dict)

    def data(self) -> Data:
        """Load the splits. Raises MissingDependency when the package they come with is not installed."""
        return importlib.import_module(self.source).load()

    def background(self, data: Data) -> Any:
        """A few training inputs that stand for the population, or None."""
        return importlib.import_module(self.source).background(data)

    def augment(self) -> Any:
        """The function that varies a training batch, or None."""
        return getattr(importlib.import_module(self.source), "augment", None)


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="digits-cnn",
            modality="image",
            source="zoo.digits",
            network="zoo.cnn:Digits",
            preprocess="zoo.preprocess:Pixels",
            baseline="zoo.baselines:pixels",
            metric="accuracy",
            bar=0.975,
            summary="Reads one handwritten digit from a grey 28 x 28 image.",
            use="Trying explanations on images; teaching.",
            limits=(
                "Digits are centred, of one size, and light on dark; a digit shifted far, or in dark ink on light paper, is not what "
                "it was trained on.",
                "It has no way to say that an image shows no digit.",
            ),
            epochs=24,
            batch=64,
            rate=2e-3,
            decay=1e-2,
            patience=10,
            average=0.995,
        ),
        Recipe(
            name="vowels-rnn",
            modality="series",
            source="zoo.vowels",
            network="zoo.rnn:Vowels",
            preprocess="zoo.preprocess:Steps",
            baseline="zoo.baselines:padded",
            metric="accuracy",
            bar=0.95,
            summary="Tells which of nine speakers said a Japanese vowel, from 12 LPC cepstrum coefficients over 7 to 29 time steps.",
            use="Trying explanations on series of unequal length; teaching.",
            limits=(
                "It knows nine male speakers and assigns every voice to one of them.",
                "Identifying people by voice is a biometric use that the law restricts; nothing here is fit for it.",
            ),
            epochs=150,
            batch=32,
            rate=3e-3,
            decay=5e-2,
            patience=40,
            smoothing=0.05,
            average=0.98,
        ),
        Recipe(
            name="licence-transformer",
            modality="text",
            source="zoo.licences",
            network="zoo.transformer:Licences",
            preprocess="zoo.preprocess:Tokens",
            baseline="zoo.baselines:words",
            metric="accuracy",
            bar=None,
            summary="Sorts an English licence notice into one of five categories.",
            use="Trying explanations on text; a first look at a notice. It is no legal advice.",
            limits=(
                "A notice often names its licence, and the name gives the answer away; the figures with the names masked say what is "
                "left without them.",
                "A few thousand notices are little to learn a language from; it starts from nothing, without a pretrained model.",
                "Its read-out and settings were chosen from trial runs whose test accuracy was seen too: expect less on new notices.",
                "English only; a text is cut after 255 subwords.",
                "Categories are those of the licensedcode-data authors; Copyleft Limited and Copyleft differ by a legal judgement.",
            ),
            epochs=8,
            batch=64,
            rate=1e-3,
            decay=5e-2,
            patience=5,
            smoothing=0.05,
            average=0.995,
            select="accuracy",
            preprocess_arguments={"vocabulary": 6000, "max_length": 256},
        ),
        Recipe(
            name="loan-mlp",
            modality="tabular",
            source="zoo.loans",
            network="zoo.mlp:Loans",
            preprocess="zoo.preprocess:Columns",
            baseline="zoo.baselines:boosting",
            metric="roc_auc",
            bar=None,
            summary="Says whether a mortgage application in Boston in 1990 was approved or refused.",
            use="Trying explanations and fairness audits on a table; teaching. Not for deciding about anyone.",
            limits=(
                "It repeats what lenders decided in 1990, unequal treatment included: leaving protected attributes out does not "
                "make a model fair, because other columns stand in for them.",
                "gdlin (credit history meets the guidelines) and unver (information could not be verified) are the lender's own "
                "judgements from before the decision; much of the accuracy comes from them.",
                "Tract figures (bd, mi, vr) and county (suffolk) stay in the model and may stand in for race.",
                "The test ROC AUC of one earlier configuration was seen before its settings were chosen by cross-validation.",
            ),
            epochs=150,
            batch=64,
            rate=1e-3,
            decay=5e-2,
            patience=30,
            smoothing=0.05,
            average=0.99,
            preprocess_arguments={"bins": 8},
        ),
    )
}


def recipe(name: str) -> Recipe:
    """The recipe of that name. Raises UnknownName with the nearest valid one."""
    if name not in RECIPES:
        raise unknown("model", name, RECIPES)
    return RECIPES[name]


def resolve(path: str) -> Any:
    """The object that ``"module:name"`` says."""
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)
