"""What files of pictures tell beside the pixels: where they were taken, and what gives the label away."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd

from explainer.checks.context import EVIDENCE_SHOWN, Check, Context, NotRun, count, failed, listed, passed, share
from explainer.checks.finding import Finding
from explainer.checks.labels import Labels
from explainer.checks.leakage import FOLDS, auc_by_fold, binned
from explainer.checks.origin import Origin
from explainer.checks.pictures import ImageView
from explainer.numerals import rounded

TOLD = 0.70  # AUC of one class by one fact about the file, which has no honest reason to know it: 40 % of one class marked
TOLD_BY_CONTENT = 0.999  # and by the size of the file, which what is seen moves too: the digit 1 is told by it with 0.98
ERRORS = 5.0  # standard errors by which the AUC must exceed one half
CLASS_LEAST = 20
ROWS_LEAST = 50
CONTENT = ("size of the file", "bytes per pixel")


def _origins(context: Context) -> tuple[Origin, ...]:
    assert isinstance(context.view, ImageView)
    if not context.view.origins:
        raise NotRun("The images came as arrays, which carry no metadata; pass the folder of files, or pictures of Pillow.")
    return context.view.origins


def located_images(context: Context) -> Finding:
    located = np.array([o.located for o in _origins(context)], dtype=bool)
    if located.any():
        message = f"{share(int(located.sum()), len(located))} images say in their metadata where they were taken."
        return failed(message, value=located.mean(), threshold=0, rows=context.view.at(located))
    return passed("No image says where it was taken.", value=0, threshold=0)


def telling_metadata(context: Context) -> Finding:
    """Cross-validated AUC of each class against the rest by each fact about the file alone.

    Numbers in at most 32 bins, as for "label given away"; labels that are numbers are split at their median. A class counts
    from ``CLASS_LEAST`` images on, and its AUC when it exceeds one half by ``ERRORS`` standard errors (Hanley and McNeil,
    Radiology 143, 1982) too.
    """
    origins, labels = _origins(context), context.need_labels()
    usable = ~labels.missing
    names, y = _classes(labels, usable)
    judged = [k for k in range(len(names)) if CLASS_LEAST <= (y == k).sum() <= len(y) - CLASS_LEAST]
    if len(y) < ROWS_LEAST or not judged:
        raise NotRun(f"At least {ROWS_LEAST} labelled images are needed, {CLASS_LEAST} of one class and {CLASS_LEAST} of others.")
    fold = np.random.default_rng(0).permutation(len(y)) % FOLDS
    facts = facts_of([o for o, use in zip(origins, usable, strict=True) if use], names)
    power: dict[str, float] = {}
    found: dict[str, str] = {}
    for name in facts.columns:
        codes, _ = binned(facts[name])
        if codes.max(initial=0) == 0:
            continue
        table = np.zeros((FOLDS, codes.max() + 1, len(names)))
        np.add.at(table, (fold, codes, y), 1)
        aucs = {k: auc_by_fold(table, k) for k in judged}
        best = max(aucs, key=aucs.__getitem__)
        power[name] = aucs[best]
        limit = max(TOLD_BY_CONTENT if name in CONTENT else TOLD, 0.5 + ERRORS * _error(int((y == best).sum()), len(y)))
        if aucs[best] >= limit:
            found[name] = f"tells {names[best]!r} from the rest with AUC {aucs[best]:.3f}"
    if not power:
        return passed("The images do not differ in size, mode, format, camera, date, software or kind of name.", value=0.5, threshold=TOLD)
    ranked = sorted(power, key=power.__getitem__, reverse=True)
    details: dict[str, Any] = {"value": power[ranked[0]], "threshold": TOLD}
    details["evidence"] = {"figure": "AUC", "power": {name: power[name] for name in ranked[:EVIDENCE_SHOWN]}, "found": found}
    if found:
        worst = [name for name in ranked if name in found]
        what = f"{count(len(worst), 'fact')} about the files {'gives' if len(worst) == 1 else 'give'} the label away"
        details["value"] = power[worst[0]]
        return failed(f"{what}: {listed(f'{n} ({found[n]})' for n in worst)}.", columns=worst, count=len(worst), **details)
    return passed(f"Nothing about the files gives the label away; the strongest, {ranked[0]}, has AUC {power[ranked[0]]:.3f}.", **details)


def _classes(labels: Labels, usable: np.ndarray) -> tuple[list[str], np.ndarray]:
    """The classes' names, and the class of each labelled item; numbers are split at their median."""
    if labels.kind == "class":
        return labels.names, labels.codes[usable]
    assert labels.numbers is not None
    numbers = labels.numbers[usable]
    middle = float(np.median(numbers)) if len(numbers) else 0.0
    return [f"up to {rounded(middle, 4)}", f"above {rounded(middle, 4)}"], (numbers > middle).astype(int)


def _error(hits: int, total: int) -> float:
    """Standard error of an AUC of one half."""
    rest = total - hits
    return float(np.sqrt((total + 1) / (12 * hits * rest)))


def facts_of(origins: list[Origin], names: list[str]) -> pd.DataFrame:
    """One row per image; texts as categories. Of a file's name only its kind, without numbers and the names of classes."""
    words = [re.escape(name.lower()) for name in names if re.search(r"[^\W\d]", name)]
    own = re.compile("|".join(sorted(words, key=len, reverse=True)) or "(?!)")
    pixels = np.array([o.width * o.height for o in origins], dtype=float)
    size = np.array([o.size for o in origins])
    frame = {
        "width": np.array([o.width for o in origins], dtype=float),
        "height": np.array([o.height for o in origins], dtype=float),
        "width / height": np.array([o.width / max(1, o.height) for o in origins]),
        "size of the file": size,
        "bytes per pixel": size / np.maximum(pixels, 1),
        "JPEG quantisation": np.array([o.quantisation for o in origins]),
        "day of the file": np.array([o.modified for o in origins]),
        "date taken": np.array([o.taken for o in origins]),
        "hour taken": np.floor(np.array([o.taken for o in origins]) % 1 * 24),
    }
    texts = {
        "mode": [o.mode for o in origins],
        "format": [o.format for o in origins],
        "camera": [o.camera for o in origins],
        "software": [o.software for o in origins],
        "place in metadata": ["given" if o.located else "" for o in origins],
        "kind of name": [_kind(o.name, own) for o in origins],
    }
    categories = {name: pd.Categorical(values) for name, values in texts.items()}
    return pd.DataFrame({**frame, **categories})


def _kind(name: str, own: re.Pattern[str]) -> str:
    """``IMG_2041.JPG`` -> ``img_9.jpg``: each run of digits as one, names of classes left out, random-looking stems as ``x``."""
    stem, _, suffix = name.lower().rpartition(".")
    stem = own.sub("", stem)
    if re.fullmatch(r"[0-9a-f]{8,}(-[0-9a-f]+)*", stem):
        return f"x.{suffix}"
    return f"{re.sub('[0-9]+', '9', stem)}.{suffix}"


CHECKS: tuple[Check, ...] = (
    Check(
        "location in metadata",
        ("image",),
        located_images,
        "Where a picture was taken may be somebody's home: personal data that travel with every copy of the set.",
        "Save the pictures anew without their metadata before they are shared.",
        code="Image.open(path).convert('RGB').save(path.with_suffix('.png'))  # without exif=, Pillow writes none",
    ),
    Check(
        "image metadata",
        ("image",),
        telling_metadata,
        "Where camera, size, date or compression go with the label, the classes have different sources, and a model learns the source.",
        "Bring all files to one size, mode and format in the same way; collect each class from every source.",
    ),
)
