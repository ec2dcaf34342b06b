"""The checks that only images need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from explainer.checks.context import EVIDENCE_SHOWN, FIX_CODE, Check, Context, NotRun, failed, listed, passed, percent, share
from explainer.checks.finding import Finding
from explainer.checks.pictures import ImageView, value_range

RANGE_FACTOR = 8  # 0..255 beside 0..1 differ by 255, darker scenes by less than this
OTHERS_LEAST = 20  # images needed before one of them can be called unlike the rest
ASPECT = 1.5  # times as wide (or as tall) as usual: below it squeezing is hardly seen
EXPOSURE = 0.4  # of the usual brightness (for light: of the usual distance from white)
SHARPNESS = 0.25  # of the usual relative variance of the Laplacian; a Gaussian blur of one pixel takes four fifths of it
SOFT_EDGES = 0.75  # of the usual steepness of edges: what is plain but sharp has edges as steep as the rest
SPREADS = 4.0  # robust standard deviations (of logarithms) beyond which a picture is unlike the rest
TELLING = 0.1  # a level of brightness this near to black (or white) in most pictures tells nothing of exposure
GREYNESS = 2 / 255  # channels nowhere further apart than this show no colour
MODES = {
    "1": "black and white", "L": "grey", "LA": "grey with transparency", "P": "palette", "RGB": "colour", "CMYK": "print colours (CMYK)",
    "RGBA": "colour with transparency", "I;16": "grey, 16 bit", "I;16B": "grey, 16 bit", "I": "grey, 32 bit", "F": "grey, floating point",
}  # fmt: skip


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


def aspect_ratios(context: Context) -> Finding:
    """Images far wider or taller than the rest, by the logarithm of width / height, or by its size alone.

    Alone, so that a panorama stands out among photographs of which half are upright.
    """
    view = _images(context)
    context.need_rows(OTHERS_LEAST)
    shapes = np.array([i.shape[:2] for i in view.images], dtype=float)
    ratio = np.log(shapes[:, 1] / shapes[:, 0])
    odd = np.zeros(view.n, dtype=bool)
    for figure, spreads in ((ratio, SPREADS + 1), (np.abs(ratio), 2 * SPREADS)):
        low, middle, high = np.quantile(figure, [0.1, 0.5, 0.9])
        odd |= np.abs(figure - middle) > max(np.log(ASPECT), spreads * (high - low) / 2.56)  # q10 to q90 of a normal
    usual = float(np.exp(np.median(ratio)))
    worst = float(np.exp(np.abs(ratio - np.median(ratio)).max()))
    details: dict[str, Any] = {"value": worst, "threshold": ASPECT, "evidence": {"usual width / height": usual}}
    if odd.any():
        order = np.flatnonzero(odd)[np.argsort(-np.abs(ratio[odd] - np.log(usual)), kind="stable")]
        details["evidence"]["width / height"] = np.exp(ratio[order[:EVIDENCE_SHOWN]])
        message = f"{share(len(order), view.n)} images are far wider or taller than the rest, such as {_size(view.images[order[0]])}"
        return failed(f"{message} (usual width / height: {usual:.3g}).", rows=view.at(order), **details)
    return passed(f"No image is far wider or taller than the rest (usual width / height: {usual:.3g}).", **details)


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"


def image_modes(context: Context) -> Finding:
    """Grey among colour, transparency, palettes and other depths: by the file's mode, and by whether any colour is seen."""
    view = _images(context)
    kinds = np.array([_mode(view, i) for i in range(view.n)])
    names, codes, sizes = np.unique(kinds, return_inverse=True, return_counts=True)
    order = np.argsort(-sizes, kind="stable")
    evidence = {str(names[k]): int(sizes[k]) for k in order[:EVIDENCE_SHOWN]}
    if len(names) > 1:
        message = f"The images are of {len(names)} kinds: {listed(f'{name} ({n:,})' for name, n in evidence.items())}."
        return failed(message, value=len(names), threshold=1, rows=view.at(codes != order[0]), evidence=evidence)
    return passed(f"All images are {names[0]}.", value=1, threshold=1, evidence=evidence)


def _mode(view: ImageView, i: int) -> str:
    image = view.images[i]
    channels = image.shape[2] if image.ndim == 3 else 1
    if view.origins:
        name = MODES.get(view.origins[i].mode, view.origins[i].mode)
    else:
        name = {1: "grey", 3: "colour", 4: "colour with transparency"}.get(channels, f"of {channels} channels")
        name += ", 16 bit" if image.dtype.kind in "iu" and image.dtype.itemsize == 2 else ""
    if channels < 3:
        return name
    sample = image[:: max(1, image.shape[0] // 64), :: max(1, image.shape[1] // 64), :3].astype(np.float32)
    shown = np.abs(sample - sample[..., :1]).max() > GREYNESS * view.white
    return name if shown or channels > 4 else f"{name}, but grey to the eye"


def dark_images(context: Context) -> Finding:
    """Images of which even the lightest parts (the 99th percentile of brightness) are dark beside those of the rest."""
    return _exposure(context, "dark", "99 %", lambda level: level)


def light_images(context: Context) -> Finding:
    """Images of which even the darkest parts (the first percentile of brightness) are light beside those of the rest."""
    return _exposure(context, "light", "1 %", lambda level: 1 - level)


def _exposure(context: Context, word: str, level: str, room: Callable[[Any], Any]) -> Finding:
    """``room``: from a level to its distance from black (for dark) or white (for light), and back."""
    view = _images(context)
    context.need_rows(OTHERS_LEAST)
    usable = ~view.blank
    left = np.maximum(room(view.optics[level].to_numpy()), 0)
    usual = float(np.median(left[usable])) if usable.any() else 0.0
    if usual < TELLING:
        raise NotRun(f"Nearly all of most images is {'black' if word == 'dark' else 'white'}, so that none can be called {word}.")
    limit = far_below(left[usable], EXPOSURE)
    odd = usable & (left < limit * usual)
    details: dict[str, Any] = {"value": float(left[usable].min()) / usual, "threshold": limit}
    details["evidence"] = {f"brightness that {level} of pixels do not reach": {"usual": room(usual), "limit": room(limit * usual)}}
    if odd.any():
        order = np.flatnonzero(odd)[np.argsort(left[odd], kind="stable")]
        told = f"{level} of its pixels are darker than {percent(room(left[order[0]]))} of white, usually {percent(room(usual))}"
        message = f"{share(len(order), view.n)} images are far too {word} beside the rest: in the first, {told}."
        return failed(message, rows=view.at(order), **details)
    return passed(f"No image is far {word}er than the rest.", **details)


def far_below(values: np.ndarray, factor: float) -> float:
    """The share of the median below which a positive figure is unlike the rest: ``factor``, or less where all differ much.

    ``exp(-SPREADS * s)``, with s the wider half of the middle 68 % of logarithms, which a tenth of odd images hardly moves.
    """
    logs = np.log(np.maximum(values[np.isfinite(values)], 1e-6))
    low, middle, high = np.quantile(logs, [0.16, 0.5, 0.84])
    return float(min(factor, np.exp(-SPREADS * max(middle - low, high - middle))))


def blurry_images(context: Context) -> Finding:
    """Images whose fine detail is far weaker than that of the rest, and whose edges are soft.

    Detail: the variance of the Laplacian over the picture's own, below ``SHARPNESS`` of the median and below ``SPREADS`` robust
    standard deviations of logarithms. Edges: the steepest step between neighbours over the range around it, below
    ``SOFT_EDGES`` of the median, so that a plain but sharp picture is left alone.
    """
    view = _images(context)
    context.need_rows(OTHERS_LEAST)
    detail, edges = view.optics["laplacian"].to_numpy(), view.optics["edges"].to_numpy()
    usable = ~view.blank & np.isfinite(detail) & np.isfinite(edges)
    if usable.sum() < OTHERS_LEAST:
        raise NotRun("The images are too small to tell sharp from blurry; at least 8 x 8 pixels are needed.")
    usual, usual_edges = float(np.median(detail[usable])), float(np.median(edges[usable]))
    limit = far_below(detail[usable], SHARPNESS)
    odd = usable & (detail < limit * usual) & (edges < SOFT_EDGES * usual_edges)
    details: dict[str, Any] = {"value": float(detail[usable].min() / max(usual, 1e-12)), "threshold": limit}
    details["evidence"] = {"usual relative variance of the Laplacian": usual, "usual steepness of edges": usual_edges}
    if odd.any():
        order = np.flatnonzero(odd)[np.argsort(detail[odd], kind="stable")]
        least = percent(detail[order[0]] / usual)
        message = f"{share(len(order), view.n)} images are blurry beside the rest, with down to {least} of the usual detail."
        return failed(message, rows=view.at(order), **details)
    return passed("No image is blurry beside the rest.", **details)


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
        FIX_CODE,
    ),
    Check(
        "image sizes",
        ("image",),
        image_sizes,
        "Resizing on the way in distorts some and not others, and size may stand for the source.",
        "Bring all to one size and mode the same way, and check that size does not go with the label.",
        "pictures = [picture.resize((width, height)) for picture in pictures]  # one size for all",
    ),
    Check(
        "value ranges",
        ("image",),
        value_ranges,
        "Pictures in 0 to 255 among pictures in 0 to 1 are saturated to the model.",
        "Scale all the same way on loading.",
        "images = [image / 255 if image.max() > 1 else image for image in images]",
    ),
    Check(
        "aspect ratios",
        ("image",),
        aspect_ratios,
        "Brought to the common shape, such a picture is squeezed or cut, and the model sees something else than people do.",
        "Crop or pad them to the shape of the rest, or leave them out.",
        "from PIL import ImageOps\n\npictures = [ImageOps.pad(picture, (width, height)) for picture in pictures]",
    ),
    Check(
        "image modes",
        ("image",),
        image_modes,
        "A model of three channels reads grey, palettes, transparency and other depths in ways it was not trained on.",
        "Convert all to one mode on loading, and check that the mode does not go with the label.",
        code="pictures = [picture.convert('RGB') for picture in pictures]",
    ),
    Check(
        "dark images",
        ("image",),
        dark_images,
        "What cannot be seen is guessed, and darkness itself may stand for the source.",
        "Look at them; correct the exposure, take them again, or leave them out.",
        "from PIL import ImageOps\n\nfor i in {rows}:\n    pictures[i] = ImageOps.autocontrast(pictures[i])",
    ),
    Check(
        "light images",
        ("image",),
        light_images,
        "Where all is near white the detail is lost, and the model guesses.",
        "Look at them; correct the exposure, take them again, or leave them out.",
        "from PIL import ImageOps\n\nfor i in {rows}:\n    pictures[i] = ImageOps.autocontrast(pictures[i])",
    ),
    Check(
        "blurry images",
        ("image",),
        blurry_images,
        "Without edges a model falls back on brightness and colour.",
        "Look at them; take them again or leave them out, or train with blur where use will bring it.",
    ),
)
