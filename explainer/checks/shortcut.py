"""A mark that stands in the images of one class only: a stamp, a ruler, a frame, a word burnt in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from explainer.checks.context import EVIDENCE_SHOWN, Check, Context, NotRun, count, failed, listed, passed, percent
from explainer.checks.finding import Finding
from explainer.checks.pictures import ImageView

SHAPES = (1 / 9, 1 / 5, 2 / 7)  # sides of square patches, in the shorter side of the picture
STRIP = 2 / 7  # length of strips one pixel wide, for frames and rulers
SEARCHED, SEARCHED_REST = 60, 120  # images of a class, and of the others, among which candidates are found
HELD, HELD_REST = 300, 600  # and further ones on which they are tested
SOURCES, CUTS = 8, 100  # images from which marks that move are cut, and cuts of the highest contrast from each
AT_ONCE = 8  # images whose windows are held at a time
CANDIDATES = 12  # of a class and of a way of looking that are tested
LIKE = 0.2  # two patches are the same where they differ by so much of the patch's own contrast (root mean square) ...
LEAST_LIKE, MOST_LIKE = 0.012, 0.05  # ... but by no less and no more than this share of white
PRESENT = 0.2  # of a class must show it
ELSEWHERE = 0.02  # of the other classes' images may show it, anywhere
MAYBE = 0.15  # of a class's searched images, to be tested at all
LUCK = 1e-6  # a perfect coincidence, given how many were tested
CLASS_LEAST = 40
MOST_CLASSES = 12  # the largest; of a hundred classes each patch would be tested a hundred times


@dataclass(frozen=True)
class Mark:
    """A patch cut from an image: its pixels, and where it is looked for (None: anywhere)."""

    pixels: np.ndarray
    place: tuple[int, int] | None

    @property
    def limit(self) -> float:
        """The squared distance within which a patch is the same."""
        near = np.clip(LIKE * self.pixels.std(), LEAST_LIKE, MOST_LIKE)
        return float(near**2 * self.pixels.size)

    def found(self, images: np.ndarray, anywhere: bool) -> np.ndarray:
        """Which of ``(n, H, W)`` images show it."""
        height, width = self.pixels.shape
        if not anywhere and self.place is not None:
            row, column = self.place
            images = images[:, row : row + height, column : column + width]
        hits = [(_distances(part, self.pixels) <= self.limit).any(axis=(1, 2)) for part in np.array_split(images, len(images) // 64 + 1)]
        return np.concatenate(hits)


def patch_shortcut(context: Context) -> Finding:
    """Patches that look the same in many images of one class, and in hardly any of the others, wherever one looks there.

    Patches of four shapes are cut from some images of the class and looked for in others of it (at the same place, and those of
    high contrast anywhere). Those met in ``MAYBE`` of them, and in few of other classes, are tested on images not yet seen: met in
    ``PRESENT`` of the class and at most ``ELSEWHERE`` of the others, and by Fisher's exact test no coincidence, with Bonferroni's
    correction for the number tested.
    """
    view, labels = context.view, context.need_labels()
    assert isinstance(view, ImageView)
    labels.need_classes()
    usable = ~labels.missing & ~view.blank
    y = np.where(usable, labels.codes, -1)
    sizes = np.bincount(y[usable], minlength=len(labels.names))
    judged = [int(k) for k in np.argsort(-sizes, kind="stable")[:MOST_CLASSES] if CLASS_LEAST <= sizes[k] <= usable.sum() - CLASS_LEAST]
    if not judged:
        raise NotRun(f"At least {CLASS_LEAST} images of one class and {CLASS_LEAST} of others are needed.")
    rng = np.random.default_rng(0)
    best: list[dict[str, Any]] = []
    tested = 0
    for k in judged:
        mine, others = rng.permutation(np.flatnonzero(y == k)), rng.permutation(np.flatnonzero(usable & (y != k)))
        cut, cut_rest = min(SEARCHED, len(mine) // 2), min(SEARCHED_REST, len(others) // 2)
        search, search_rest = view.canvas(mine[:cut]), view.canvas(others[:cut_rest])
        marks = list(_candidates(search, search_rest))
        tested += len(marks)
        if marks:
            held, held_rest = view.canvas(mine[cut : cut + HELD]), view.canvas(others[cut_rest : cut_rest + HELD_REST])
            best += [dict(_tested(mark, held, held_rest), k=k, mark=mark) for mark in marks]
    sure = [b for b in best if b["in"] >= PRESENT and b["out"] <= ELSEWHERE and b["p"] * tested < LUCK]
    sure.sort(key=lambda b: -b["in"])
    chosen = {b["k"]: b for b in reversed(sure)}
    details: dict[str, Any] = {"value": max((b["in"] for b in sure), default=0.0), "threshold": PRESENT}
    details["p"] = min((min(1.0, b["p"] * tested) for b in best), default=1.0)
    if not chosen:
        return passed(f"No patch stands in the images of one class only ({count(tested, 'candidate')} tested).", **details)
    rows, told, evidence = [], [], []
    for k, b in sorted(chosen.items(), key=lambda item: -item[1]["in"]):
        members = np.flatnonzero(y == k)
        rows.append(members[_everywhere(view, members, b["mark"])])
        where = _where(b["mark"], view.canvas(members[:1]).shape[1:])
        told.append(f"{where}, in {percent(b['in'])} of class {labels.names[k]!r} and {percent(b['out'])} of the others")
        shares = {"share of the class": b["in"], "share of the others": b["out"], "p": b["p"]}
        evidence.append({"class": labels.names[k], "where": where, **shares, "pixels": b["mark"].pixels})
    details["evidence"] = {"patches": evidence[:EVIDENCE_SHOWN]}
    message = f"{count(len(told), 'patch')} that one class alone shows: {listed(told, 3)}."
    return failed(message, rows=view.at(np.concatenate(rows)), columns=[labels.names[k] for k in chosen], **details)


def _where(mark: Mark, shape: tuple[int, ...]) -> str:
    height, width = mark.pixels.shape
    size = f"{height} x {width} of {shape[0]} x {shape[1]} pixels"
    return f"{size}, anywhere" if mark.place is None else f"{size} at row {mark.place[0]}, column {mark.place[1]}"


def _everywhere(view: ImageView, members: np.ndarray, mark: Mark) -> np.ndarray:
    parts = np.array_split(members, len(members) // 512 + 1)
    return np.concatenate([mark.found(view.canvas(part), mark.place is None) for part in parts])


def _tested(mark: Mark, held: np.ndarray, rest: np.ndarray) -> dict[str, float]:
    from scipy.stats import hypergeom

    inside, outside = mark.found(held, mark.place is None), mark.found(rest, True)
    hits = int(inside.sum() + outside.sum())
    p = float(hypergeom.sf(inside.sum() - 1, len(held) + len(rest), hits, len(held)))
    return {"in": float(inside.mean()), "out": float(outside.mean()), "p": p}


def _candidates(search: np.ndarray, rest: np.ndarray) -> Iterator[Mark]:
    """The marks worth a test, the most frequent ones first in each shape."""
    short = min(search.shape[1:])
    squares = sorted({max(2, round(part * short)) for part in SHAPES})
    strip = max(4, round(STRIP * short))
    for height, width in [*((s, s) for s in squares), (1, strip), (strip, 1)]:
        if height > search.shape[1] or width > search.shape[2]:
            continue
        found = sorted(_fixed(search, rest, height, width), key=lambda pair: -pair[0])
        yield from (mark for _, mark in found[:CANDIDATES])
        if height == width and height > 4:
            moving = sorted(_moving(search, rest, height), key=lambda pair: -pair[0])
            yield from (mark for _, mark in moving[:CANDIDATES])


def _fixed(search: np.ndarray, rest: np.ndarray, height: int, width: int) -> Iterator[tuple[float, Mark]]:
    """Per place the patch that most of the class share there beyond the others, and its share."""
    for row in _starts(search.shape[1], height):
        for column in _starts(search.shape[2], width):
            place = np.s_[:, row : row + height, column : column + width]
            own = search[place].reshape(len(search), -1)
            other = rest[place].reshape(len(rest), -1)
            limit = np.clip(LIKE * own.std(axis=1), LEAST_LIKE, MOST_LIKE)[:, None] ** 2 * own.shape[1]
            inside = (_squares(own, own) <= limit).mean(axis=1)
            outside = (_squares(own, other) <= limit).mean(axis=1)
            best = int((inside - outside).argmax())
            if inside[best] >= MAYBE and outside[best] <= 2 * ELSEWHERE:
                yield float(inside[best]), Mark(own[best].reshape(height, width), (row, column))


def _starts(length: int, size: int) -> list[int]:
    """Where patches begin along one side: half overlapping, the last flush with the end."""
    return sorted({*range(0, length - size, max(1, size // 2)), length - size})


def _moving(search: np.ndarray, rest: np.ndarray, size: int) -> Iterator[tuple[float, Mark]]:
    """Cuts of high contrast from a few images that turn up anywhere in the others of the class, and not in the rest."""
    from numpy.lib.stride_tricks import sliding_window_view

    cuts = []
    for image in search[:SOURCES]:
        windows = sliding_window_view(image, (size, size)).reshape(-1, size, size)
        cuts.append(windows[np.argsort(-windows.std(axis=(1, 2)), kind="stable")[:CUTS]])
    marks = np.concatenate(cuts)
    limits = np.clip(LIKE * marks.std(axis=(1, 2)), LEAST_LIKE, MOST_LIKE) ** 2 * size * size
    inside = _share(search, marks, limits)
    often = np.flatnonzero(inside >= MAYBE)
    if len(often):
        outside = _share(rest, marks[often], limits[often])
        for i, share in zip(often, outside, strict=True):
            if share <= 2 * ELSEWHERE:
                yield float(inside[i]), Mark(marks[i], None)


def _share(images: np.ndarray, marks: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Per mark the share of the images in which it stands somewhere."""
    from numpy.lib.stride_tricks import sliding_window_view

    flat, hits = marks.reshape(len(marks), -1), np.zeros(len(marks))
    for part in np.array_split(images, -(-len(images) // AT_ONCE)):
        windows = sliding_window_view(part, marks.shape[1:], axis=(1, 2))  # type: ignore[call-overload]
        windows = windows.reshape(-1, flat.shape[1])
        same = _squares(flat, windows) <= limits[:, None]
        hits += same.reshape(len(marks), len(part), -1).any(axis=2).sum(axis=1)
    return hits / len(images)


def _squares(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """``(n, m)`` squared distances."""
    return (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1) - 2 * left @ right.T


def _distances(images: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """``(n, rows, columns)`` squared distances of one patch ``(h, w)`` to every place of the images."""
    height, width = pixels.shape
    rows, columns = images.shape[1] - height + 1, images.shape[2] - width + 1
    result = np.zeros((len(images), rows, columns), dtype=np.float32)
    for i in range(height):
        for j in range(width):
            result += (images[:, i : i + rows, j : j + columns] - pixels[i, j]) ** 2
    return result


CHECKS: tuple[Check, ...] = (
    Check(
        "patch shortcut",
        ("image",),
        patch_shortcut,
        "A mark that goes with one class is learnt in place of what the class looks like, and fails where the mark is missing.",
        "Look at the patch; cut it off or paint it over in all images, or collect the class without it.",
    ),
)
