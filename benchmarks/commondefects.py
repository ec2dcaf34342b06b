"""Defects that all kinds of data can have: copies, labels, groups, splits, and a reference set that is not alike."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from defect import Defect, Plant, Planted, Setting, changed, column, copied, defect, from_reference, relabelled, some
from twins import AMOUNTS, SIZES, Sample

MODALITIES = tuple(SIZES)


def everywhere(
    check: str, what: str, strengths: tuple[float, ...], at: float, modalities: tuple[str, ...] = MODALITIES, setting: Setting | None = None
) -> Any:
    """The same defect in several kinds of data."""

    def enter(plant: Plant) -> Plant:
        for modality in modalities:
            defect(check, modality, what, strengths, at, setting)(plant)
        return plant

    return enter


def slightly(modality: str, rng: np.random.Generator) -> Any:
    """A change that leaves an item what it was: other spelling, other brightness, the last digit, a little noise."""

    def table(frame: pd.DataFrame) -> pd.DataFrame:
        numbers = list(AMOUNTS)
        return frame.assign(**{n: frame[n] * (1 + rng.normal(0, 1e-4, len(frame))) for n in numbers}, prop=frame["prop"].str.upper())

    def picture(images: Any) -> Any:
        return np.clip(np.stack(images) * 0.85 + 0.02 + rng.normal(0, 0.01, np.shape(images)), 0, 1).astype(np.float32)

    def text(texts: list[str]) -> list[str]:
        return [f"{one.upper()}  (c)" for one in texts]

    def series(items: list[np.ndarray]) -> list[np.ndarray]:
        return [(one + rng.normal(size=one.shape) * one.std(axis=0) / 200).astype(one.dtype) for one in items]

    return {"tabular": table, "image": picture, "text": text, "series": series}[modality]


# -- reading -----------------------------------------------------------------------------------------------------------------


@everywhere("unreadable items", "{:.0f} items that are none", (1, 3), 1, ("image", "text", "series"))
def nothing_to_read(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows = some(s, rng, strength)
    return Planted(changed(s, rows, lambda one: {"broken": True}), rows)


@everywhere("number of items", "only {:.0f} items are left", (25, 10), 25)
def hardly_any(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    return Planted(s.take(some(s, rng, strength)))


# -- copies ------------------------------------------------------------------------------------------------------------------


@everywhere("exact duplicates", "{:.0f} items copied", (1, 5, 30), 1)
def twice(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    return copied(s, some(s, rng, strength))


@everywhere("near duplicates", "{:.0f} items copied with small changes", (1, 5, 30), 5)
def nearly_twice(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    return copied(s, some(s, rng, strength), slightly(s.modality, rng))


@everywhere("overlap, exact", "{:.0f} items of the reference set", (1, 5, 30), 1)
def seen_before(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    return from_reference(s, rng, strength)


@everywhere("overlap, near", "{:.0f} items of the reference set with small changes", (1, 5, 30), 5)
def nearly_seen_before(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    return from_reference(s, rng, strength, slightly(s.modality, rng))


@everywhere("overlap between splits", "{:.0f} training items copied into the test split", (1, 5, 30), 5)
def on_both_sides(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    planted = copied(s, some(s, rng, strength, s.splits == "train"), slightly(s.modality, rng) if rng.random() < 0.5 else unchanged)
    splits = planted.sample.splits.copy()
    splits[planted.rows] = "test"
    return Planted(replace(planted.sample, splits=splits), planted.rows)


def unchanged(inputs: Any) -> Any:
    return inputs


# -- labels ------------------------------------------------------------------------------------------------------------------


@everywhere("missing labels", "{:.0f} labels lost", (1, 10), 1)
def unlabelled(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows = some(s, rng, strength)
    return Planted(relabelled(s, rows, None), rows)


@everywhere("class names", "{:.0f} labels spelled otherwise", (1, 10), 1)
def other_spelling(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows = some(s, rng, strength)
    spelled = rng.choice(["{} ", " {}", "_{}"])
    return Planted(relabelled(s, rows, [spelled.format(label) for label in s.labels[rows]]), rows)


@everywhere("class balance", "one class thinned out to {:.0%} of an equal share", (0.5, 0.15, 0.05), 0.15)
def one_rare_class(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    names = np.unique(s.labels.astype(str))
    rare = "refused" if s.modality == "tabular" else rng.choice(names)
    own = np.flatnonzero(s.labels == rare)
    others = s.n - len(own)
    size = max(2, round(strength * others / (len(names) - strength)))  # k of n + k is strength / classes
    kept = np.sort(np.concatenate([np.flatnonzero(s.labels != rare), rng.choice(own, min(size, len(own)), replace=False)]))
    sample = s.take(kept)
    return Planted(sample, np.flatnonzero(sample.labels == rare))


@everywhere("conflicting labels", "{:.0f} items once more with another label", (1, 5, 30), 1)
def two_answers(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows = some(s, rng, strength)
    planted = copied(s, rows)
    sample = relabelled(planted.sample, planted.rows, another(s, rng, s.labels[rows]))
    return Planted(sample, np.concatenate([rows, planted.rows]))


def another(s: Sample, rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    names = np.unique(s.labels.astype(str))
    return np.array([rng.choice(names[names != one]) for one in labels], dtype=object)


def tumours(s: Sample, rng: np.random.Generator) -> Sample:
    """Breast cancer, Wisconsin: what the loans say of a refusal tells too little to doubt a single one. Without a model."""
    from zoo.sources import breast

    data = breast.load()
    frame = pd.concat([part.inputs for part in (data.train, data.validation, data.test)], ignore_index=True)
    labels = np.array(data.class_names, dtype=object)[np.concatenate([part.labels for part in (data.train, data.validation, data.test)])]
    rows = rng.permutation(len(labels))[:500]
    return Sample("tabular", frame.iloc[rows].reset_index(drop=True), labels[rows], None, None)


def worded(s: Sample, rng: np.random.Generator) -> Sample:
    """Texts with three of six words that only their class uses: what else they say leaves 3 classes in 10 open. Without a model."""
    names = list(np.unique(s.labels.astype(str)))
    own = dict(zip(names, np.array_split(np.array(CLASS_WORDS), len(names)), strict=True))
    said = [f"{text} {' '.join(rng.choice(own[name][:6], 3, replace=False))}" for text, name in zip(s.inputs, s.labels, strict=True)]
    return replace(s, inputs=said, reference=None, reference_labels=None, model=None)


CLASS_WORDS = re.findall(
    r"\w+",
    "anchor barley cedar dolphin ember falcon garnet harbour indigo juniper kestrel lantern meadow nectar orchard pebble quartz raven "
    "saddle thistle umber violet willow yarrow zephyr almond bramble clover dune elder",
)


@everywhere("label errors", "{:.0%} of labels exchanged for another class", (0.02, 0.05, 0.1, 0.2), 0.1, ("image", "series"))
@everywhere("label errors", "{:.0%} of diagnoses of breast cancer exchanged", (0.02, 0.05, 0.1, 0.2), 0.1, ("tabular",), tumours)
@everywhere(
    "label errors", "{:.0%} of labels exchanged, in texts with three words that only their class uses", (0.02, 0.05, 0.1, 0.2), 0.1,
    ("text",), worded,
)  # fmt: skip
def mislabelled(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows = some(s, rng, strength)
    return Planted(relabelled(s, rows, another(s, rng, s.labels[rows])), rows)


@everywhere("label drift", "the commonest class by {:.0%} commoner than in the reference", (0.05, 0.2, 0.4), 0.2, MODALITIES[:3])
@everywhere("label drift", "the commonest class by {:.0%} commoner than in the reference", (0.05, 0.2, 0.4), 0.4, ("series",))
def other_shares(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    names, sizes = np.unique(s.reference_labels.astype(str), return_counts=True)
    grown, share = names[sizes.argmax()], sizes.max() / sizes.sum()
    if s.modality == "tabular":  # the commonest is nearly all; so the rarer grows
        grown, share = names[sizes.argmin()], sizes.min() / sizes.sum()
    own, rest = np.flatnonzero(s.labels == grown), np.flatnonzero(s.labels != grown)
    wanted = min(0.95, share + strength)
    kept = rng.choice(rest, min(len(rest), round(len(own) * (1 - wanted) / wanted)), replace=False)
    return Planted(s.take(np.sort(np.concatenate([own, kept]))))


# -- groups, time and order --------------------------------------------------------------------------------------------------


@everywhere("group sizes", "a group of {:.0f} items", (25, 5), 25)
def small_group(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows = some(s, rng, strength)
    site = s.groups["site"].copy()
    site[rows] = "west"
    return Planted(replace(s, groups={"site": site}), rows)


def patients(s: Sample, rng: np.random.Generator) -> Sample:
    """Sixty patients, each in one split."""
    number = rng.integers(0, 36, s.n)
    number = np.where(s.splits == "train", number, 36 + number % 24)
    return replace(s, groups={"patient": np.array([f"p{k:02d}" for k in number], dtype=object)})


@everywhere("leakage by group", "{:.0f} of 60 patients with items in the training and in the test split", (1, 10), 1, setting=patients)
def on_both_sides_by_name(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    names = s.groups["patient"].copy()
    shared = rng.choice(np.unique(names[s.splits == "train"]), int(strength), replace=False)
    rows = some(s, rng, 2 * len(shared), s.splits == "test")
    names[rows] = np.repeat(shared, 2)
    return Planted(replace(s, groups={"patient": names}), rows)


@everywhere("leakage by time", "{:.0%} of the items trained on are put into the test split", (0.01, 0.1, 0.5), 0.01)
def tested_on_the_past(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    train = np.flatnonzero(s.splits == "train")
    rows = np.sort(rng.choice(train, max(1, round(strength * len(train))), replace=False))
    splits = s.splits.copy()
    splits[rows] = "test"
    return Planted(replace(s, splits=splits), rows)


@everywhere("missing groups", "{:.0%} left of a class, or of a table's branch, that the reference set has", (0.5, 0.1, 0.0), 0.0)
def lost_group(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    groups = s.inputs["branch"].to_numpy() if s.modality == "tabular" else s.labels
    own = np.flatnonzero(groups == rng.choice(np.unique(groups.astype(str))))
    dropped = rng.choice(own, round((1 - strength) * len(own)), replace=False)
    return Planted(replace(s.take(np.setdiff1d(np.arange(s.n), dropped)), groups={}))


@everywhere("order of rows", "rows sorted by class, but for {:.0%} of them", (0.9, 0.5, 0.0), 0.5, MODALITIES[1:])
@everywhere("order of rows", "rows sorted by class, but for {:.0%} of them", (0.9, 0.5, 0.2), 0.2, MODALITIES[:1])
def in_order(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    order = np.argsort(s.labels.astype(str), kind="stable")
    loose = rng.choice(s.n, round(strength * s.n), replace=False)
    order[np.sort(loose)] = order[rng.permutation(loose)]
    return Planted(s.take(order))


def two_classes(s: Sample, rng: np.random.Generator) -> Sample:
    """Classes of hundreds: those of the first half of the alphabet, and the others. The model, which tells more of them, is left out."""
    names = np.unique(s.labels.astype(str))
    first = set(names[: len(names) // 2])
    merged = [np.array(["first" if one in first else "second" for one in held], dtype=object) for held in (s.labels, s.reference_labels)]
    return replace(s, labels=merged[0], reference_labels=merged[1], model=None)


@everywhere("sample size", "only {:.0f} items are left", (100, 60, 40), 60, setting=two_classes)
def too_few_to_say(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    return Planted(s.take(some(s, rng, strength)))


# -- two sets ----------------------------------------------------------------------------------------------------------------


@everywhere("drift", "{:.1f} standard deviations added to one figure", (0.2, 0.5, 1.0), 0.5, ("tabular", "image"))
@everywhere("drift", "{:.1f} standard deviations added to one channel", (0.2, 0.5, 1.0), 1.0, ("series",))
@everywhere("drift, all together", "{:.1f} standard deviations added to one figure", (0.2, 0.5, 1.0), 1.0, ("image", "series"))
def shifted(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    if s.modality == "tabular":
        name = rng.choice(["appinc", "hexp", "obrat"])
        return Planted(column(s, name, s.inputs[name] + strength * s.inputs[name].std()), None, (str(name),))
    if s.modality == "image":
        spread = float(s.inputs.mean(axis=(1, 2)).std())
        return Planted(replace(s, inputs=np.clip(s.inputs + strength * spread, 0, 1)), None, ("brightness",))
    place = int(rng.integers(12))
    moved = np.zeros(12, dtype=np.float32)
    moved[place] = strength * np.std([one[:, place].mean() for one in s.inputs])
    return Planted(replace(s, inputs=[one + moved for one in s.inputs]), None, (f"mean of channel {place}",))


@everywhere(
    "prediction drift",
    "the class predicted most by {:.0%} commoner than in the reference",
    (0.05, 0.2, 0.4),
    0.2,
    MODALITIES[:3],
)
@everywhere(
    "prediction drift",
    "the class predicted most by {:.0%} commoner than in the reference",
    (0.05, 0.2, 0.4),
    0.4,
    ("series",),
)
def other_predictions(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    here, there = (np.asarray(s.model.scores(one)).argmax(axis=1) for one in (s.inputs, s.reference))
    sizes = np.bincount(there, minlength=len(s.model.class_names))
    grown = sizes.argmin() if s.modality == "tabular" else sizes.argmax()
    own, rest = np.flatnonzero(here == grown), np.flatnonzero(here != grown)
    wanted = min(0.95, sizes[grown] / sizes.sum() + strength)
    kept = rng.choice(rest, min(len(rest), round(len(own) * (1 - wanted) / wanted)), replace=False)
    return Planted(s.take(np.sort(np.concatenate([own, kept]))))


@everywhere("fits the model", "{:.0f} labels of a class that the model does not know", (1, 10), 1)
def unknown_class(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows = some(s, rng, strength)
    return Planted(relabelled(s, rows, "withdrawn"), rows)


# -- what single items are like ----------------------------------------------------------------------------------------------


@everywhere("unfamiliar items", "{:.0f} items of another kind altogether", (1, 5, 20), 5, ("image", "series"))
@everywhere("unfamiliar items", "{:.0f} items of another kind altogether", (1, 5, 20), 20, ("tabular",))
@everywhere("unfamiliar items", "{:.0f} items of another kind altogether", (5, 20, 70), 70, ("text",))
def strangers(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows = some(s, rng, strength)
    if s.modality == "tabular":
        frame = s.inputs.copy()
        for name in AMOUNTS:  # each value is met somewhere; together they are no applicant
            frame.loc[rows, name] = np.where(rng.random(len(rows)) < 0.5, frame[name].min(), frame[name].max())
        return Planted(replace(s, inputs=frame), rows)
    strange = {
        "image": lambda one: rng.random(one.shape).astype(np.float32),
        "text": lambda one: " ".join(rng.choice(RECIPE, len(one.split()))),
        "series": lambda one: (rng.normal(size=one.shape) * one.std(axis=0) * 3).astype(np.float32),
    }
    return Planted(changed(s, rows, strange[s.modality]), rows)


RECIPE = re.findall(
    r"\w+", "peel onions carrots garlic simmer butter flour oven minutes stir gently pepper until golden serve hot rice beans salt"
)


@everywhere("weak segments", "{:.0%} of labels exchanged in one segment of a seventh of the data", (0.2, 0.5, 0.8), 0.8, MODALITIES[1:])
@everywhere("weak segments", "{:.0%} of labels exchanged in one segment of a seventh of the data", (0.5, 0.8, 1.0), 1.0, MODALITIES[:1])
def badly_served(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    figure = {
        "tabular": lambda: s.inputs["obrat"].to_numpy(),
        "image": lambda: s.inputs.mean(axis=(1, 2)),
        "text": lambda: np.array([len(one) for one in s.inputs]),
        "series": lambda: np.array([len(one) + rng.random() for one in s.inputs]),
    }[s.modality]()
    segment = np.flatnonzero(figure > np.quantile(figure, 6 / 7))
    rows = np.sort(rng.choice(segment, round(strength * len(segment)), replace=False))
    return Planted(relabelled(s, rows, another(s, rng, s.labels[rows])), segment)


def listed() -> list[Defect]:
    """All defects of all kinds of data."""
    import mediadefects  # noqa: F401 - their decorators enter them
    import seriesdefects  # noqa: F401
    import tabledefects  # noqa: F401
    from defect import DEFECTS

    return DEFECTS
