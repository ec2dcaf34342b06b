"""The checks that only images need."""

from __future__ import annotations

import numpy as np

from explainer.checks.context import EVIDENCE_SHOWN, Check, Context, NotRun, failed, listed, passed, share
from explainer.checks.finding import Finding
from explainer.checks.pictures import ImageView, value_range

RANGE_FACTOR = 8  # 0..255 beside 0..1 differ by 255, darker scenes by less than this


def _images(context: Context) -> ImageView:
    assert isinstance(context.view, ImageView)
    return context.view


def blank_images(context: Context) -> Finding:
    view = _images(context)
    flat = view.blank
    if flat.any():
        return failed(f"{share(int(flat.sum()), view.n)} images are one flat grey: there is nothing to see.",
                      value=flat.mean(), threshold=0, rows=view.at(flat))  # fmt: skip
    return passed("No image is blank.", value=0, threshold=0)


def bad_pixels(context: Context) -> Finding:
    view = _images(context)
    bad = np.array([i.dtype.kind == "f" and not np.isfinite(i).all() for i in view.images], dtype=bool)
    if bad.any():
        lost = sum(int((~np.isfinite(view.images[i])).sum()) for i in np.flatnonzero(bad))
        message = f"{share(int(bad.sum()), view.n)} images hold pixels that are missing or infinite ({lost:,} in all)."
        return failed(message, value=bad.mean(), threshold=0, rows=view.at(bad))
    return passed("Every pixel of every image is a number.", value=0, threshold=0)


def image_sizes(context: Context) -> Finding:
    view = _images(context)
    shapes = [i.shape for i in view.images]
    kinds: dict[tuple[int, ...], int] = {}
    for shape in shapes:
        kinds[shape] = kinds.get(shape, 0) + 1
    order = sorted(kinds, key=lambda s: -kinds[s])
    evidence = {" x ".join(map(str, s)): kinds[s] for s in order[:EVIDENCE_SHOWN]}
    if len(kinds) > 1:
        odd = [s != order[0] for s in shapes]
        message = f"The images come in {len(kinds):,} shapes: {listed(f'{name} ({n:,})' for name, n in evidence.items())}."
        return failed(message, value=len(kinds), threshold=1, rows=view.at(np.array(odd)), evidence=evidence)
    return passed(f"All images are {next(iter(evidence))}.", value=1, threshold=1, evidence=evidence)


def value_ranges(context: Context) -> Finding:
    """Images whose values run in another range than the rest: 0 to 255 among 0 to 1."""
    view = _images(context)
    if view.n < 2:
        raise NotRun("One image has no others to be compared with.")
    ranges = np.array([value_range(i) for i in view.images])
    tops = np.abs(ranges).max(axis=1)
    usual = float(np.median(tops[tops > 0])) if (tops > 0).any() else 0.0
    unlike = (tops > RANGE_FACTOR * usual) if usual else np.zeros(view.n, dtype=bool)
    small = (tops > 0) & (tops <= 1) & (usual > 64) & np.array([i.dtype.kind == "f" for i in view.images])
    # a nearly black 8-bit picture is small too, but made of whole numbers
    small &= np.array([bool(s) and not (i == np.round(i)).all() for s, i in zip(small, view.images, strict=True)])
    odd = unlike | small
    evidence = {"lowest": ranges[:, 0].min(), "highest": ranges[:, 1].max(), "usual highest": usual}
    if odd.any():
        message = f"{share(int(odd.sum()), view.n)} images with another range of values than the rest (usually up to {usual:.3g})."
        return failed(message, value=odd.mean(), threshold=0, rows=view.at(odd), evidence=evidence)
    return passed(f"All images run in one range of values, up to {evidence['highest']:.3g}.", value=0, threshold=0, evidence=evidence)


CHECKS: tuple[Check, ...] = (
    Check(
        "missing values",
        ("image",),
        bad_pixels,
        "One pixel that is no number makes every score no number.",
        "Find where they arise (division, decoding); repair or drop the images.",
    ),
    Check(
        "blank images",
        ("image",),
        blank_images,
        "A blank picture with a label teaches that nothing means something.",
        "Restore or drop them.",
    ),
    Check(
        "image sizes",
        ("image",),
        image_sizes,
        "Resizing on the way in distorts some and not others, and size may stand for the source.",
        "Bring all to one size and mode the same way, and check that size does not go with the label.",
    ),
    Check(
        "value ranges",
        ("image",),
        value_ranges,
        "Pictures in 0 to 255 among pictures in 0 to 1 are saturated to the model.",
        "Scale all the same way on loading.",
    ),
)
