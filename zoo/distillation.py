"""A small student that learns from a large model's probabilities where labels are lacking, and how far it explains itself alike.

``python -m zoo.distillation`` trains the licence-rnn's network on a tenth of the labels, once alone and once with licence-minilm's
probabilities for the other texts, and writes what came of it into the record and the card of licence-minilm.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import checkpoint, compression, metrics
from zoo.data import Data, Split
from zoo.recipes import Recipe, recipe, resolve
from zoo.train import fit

if TYPE_CHECKING:
    from explainer.model import Model

TEACHER, STUDENT = "licence-minilm", "licence-rnn"
SHARE, EPOCHS, ROWS = 0.1, 5, 40
SHORT = 60  # words: texts that neither model cuts are the ones whose explanations can be compared
METHOD = "occlusion"


def taught(data: Data, few: Split, teacher: Model) -> Data:
    """The training rows of ``data`` with distributions in the place of labels: sure of its label for a row of ``few``, for any other
    the teacher's probabilities.

    Cross-entropy against them is distillation at temperature 1 (Hinton, Vinyals and Dean 2015).
    """
    known = dict(zip(few.inputs, few.labels, strict=True))
    soft = teacher.scores(data.train.inputs)
    for row, text in enumerate(data.train.inputs):
        if text in known:
            soft[row] = np.eye(soft.shape[1])[known[text]]
    return replace(data, train=Split(data.train.inputs, soft.astype(np.float32)))


def student(chosen: Recipe, data: Data, preprocess: Any, seed: int = 0) -> Model:
    """The recipe's network trained on ``data``, whose training labels are classes ``(n,)`` or distributions ``(n, classes)``."""
    import explainer

    _, state = fit(chosen, data, preprocess, seed=seed, progress=True)
    checkpoint.put(state.module, state.best)
    module = state.module.cpu().eval().requires_grad_(False)
    names: dict[str, Any] = {"modality": chosen.modality, "class_names": data.class_names, "name": f"a student, {chosen.network}"}
    return explainer.wrap(module, preprocess=preprocess, returns="logit", **names)


def compare() -> dict[str, Any]:
    """Accuracy of the student with and without the teacher, and both students' explanations held against the teacher's."""
    from zoo.registry import load
    from zoo.transfer import part

    teacher = load(TEACHER)
    data, test = teacher.data, teacher.data.test
    few = part(data, SHARE)
    chosen = replace(recipe(STUDENT), epochs=EPOCHS, patience=EPOCHS)
    alone_steps = replace(chosen, epochs=round(EPOCHS / SHARE), patience=round(EPOCHS / SHARE))  # as many steps as with the teacher
    # Texts need no labels: both read all of them to learn their vocabulary.
    preprocess = resolve(chosen.preprocess).fit(data.train.inputs, **chosen.preprocess_arguments)
    students = {
        "taught": student(chosen, replace(taught(data, few.train, teacher.model), validation=few.validation), preprocess),
        "alone": student(alone_steps, few, preprocess),
    }
    brief = test.take(np.flatnonzero([len(text.split()) <= SHORT for text in test.inputs]))
    found: dict[str, Any] = {}
    outputs = {key: one.scores(test.inputs) for key, one in students.items()}
    for key, one in students.items():
        cost = compression.cost(teacher.model, one, brief, method=METHOD, rows=ROWS)
        found[key] = {
            "accuracy": metrics.intervals(test.labels, outputs[key])["accuracy"], "agreement": cost.agreement, "first": cost.first,
            "same": cost.same,
        }  # fmt: skip
        size = cost.size_after / cost.size_before
    gain = metrics.difference(test.labels, outputs["taught"], outputs["alone"], "accuracy")
    labels = len(few.train)
    return {
        "student": STUDENT, "labels": labels, "softened": len(data.train) - labels, "method": METHOD, "rows": ROWS, "size": size,
        "gain": gain, **found,
    }  # fmt: skip


if __name__ == "__main__":
    from zoo.record import enter

    enter(TEACHER, "distillation", compare())
