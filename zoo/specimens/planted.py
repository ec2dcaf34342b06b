"""The specimens whose right explanation is known: how each is made."""

from __future__ import annotations

from typing import Any

from explainer.inputs import Modality
from zoo.recipes import Recipe


def _planted(kind: str, modality: Modality, network: str, preprocess: str, truth: str, summary: str, **options: Any) -> Recipe:
    return Recipe(
        name=f"planted-{kind}",
        modality=modality,
        source="zoo.planted",
        source_arguments={"kind": kind},
        network=f"zoo.planted:{network}",
        preprocess=f"zoo.preprocess:{preprocess}",
        truth=f"zoo.planted:{truth}",
        metric="accuracy",
        licence="made here, under the toolkit's own (Apache-2.0)",
        summary=summary,
        use="Scoring explainers: its right attribution is known (`specimen.truth(inputs)`).",
        limits=("Made data; it says nothing about the world.",),
        **{"baseline": "zoo.baselines:logistic", **options},
    )


PLANTED = (
    _planted("linear", "tabular", "Linear", "Plain", "columns", "A weighted sum of six columns, one of weight 0."),
    _planted("additive", "tabular", "Additive", "Plain", "columns", "A sum of curves of four columns; two columns are idle."),
    _planted("interaction", "tabular", "Interaction", "Plain", "columns", "One column, and the product of two others."),
    _planted("xor", "tabular", "Xor", "Plain", "columns", "Whether exactly one of two binary columns is set; four are idle."),
    _planted("leak", "tabular", "Leak", "Plain", "columns", "Reads a column that repeats the label, and nothing else."),
    _planted("watermark", "image", "Watermark", "Pixels", "pixels", "Reads a stamp in the corner of an image, and nothing else.",
             preprocess_arguments={"plain": True}),
    _planted("trigger", "text", "Trigger", "Tokens", "words",
             "Reads one word wherever it stands; trained, with a penalty that left no other word a weight.",
             baseline="zoo.baselines:words", packages=("tokenizers",), epochs=60, rate=0.1, l1=0.3, patience=60,
             preprocess_arguments={"vocabulary": 300, "max_length": 64}),
    _planted("segment", "series", "Segment", "Steps", "steps", "Looks for a bump of eight steps in the second of three channels.",
             baseline="zoo.baselines:logistic", preprocess_arguments={"plain": True}),
)  # fmt: skip
