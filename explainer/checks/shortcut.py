"""A mark that stands in the images of one class only: a stamp, a ruler, a frame, a word burnt in."""

from __future__ import annotations

from typing import Any

import numpy as np

from explainer.checks.context import EVIDENCE_SHOWN, Check, Context, NotRun, count, failed, listed, passed, percent
from explainer.checks.finding import Finding
from explainer.checks.marks import Mark, candidates
from explainer.checks.pictures import ImageView

SEARCHED, SEARCHED_REST = 60, 120  # images of a class, and of the others, among which candidates are found
HELD, HELD_REST = 300, 600  # and further ones on which they are tested
PRESENT = 0.2  # of a class must show it
ELSEWHERE = 0.02  # of the other classes' images may show it, anywhere
LUCK = 1e-6  # a perfect coincidence, given how many were tested
CLASS_LEAST = 40
MOST_CLASSES = 12  # the largest; of a hundred classes each patch would be tested a hundred times


def patch_shortcut(context: Context) -> Finding:
    """Patches that look the same in many images of one class, and in hardly any of the others, wherever one looks there.

    Patches of a few shapes are cut from some images of the class and looked for in others of it (at the same place, and those of
    high contrast anywhere); and pixels are looked for that have one value far more often than the values beside it. What is met in
    many of them and in few of other classes is tested on images not yet seen: met in ``PRESENT`` of the class and at most
    ``ELSEWHERE`` of the others, and by Fisher's exact test no coincidence, with Bonferroni's correction for the number tested.
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
        marks = list(candidates(search, search_rest))
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
        return passed(f"No mark stands in the images of one class only ({count(tested, 'candidate')} tested).", **details)
    rows, told, evidence = [], [], []
    for k, b in sorted(chosen.items(), key=lambda item: -item[1]["in"]):
        members = np.flatnonzero(y == k)
        rows.append(members[_everywhere(view, members, b["mark"])])
        where = _where(b["mark"], view.canvas(members[:1]).shape[1:])
        told.append(f"{where}, in {percent(b['in'])} of class {labels.names[k]!r} and {percent(b['out'])} of the others")
        shares = {"share of the class": b["in"], "share of the others": b["out"], "p": b["p"]}
        evidence.append({"class": labels.names[k], "where": where, **shares, "pixels": b["mark"].pixels})
    details["evidence"] = {"patches": evidence[:EVIDENCE_SHOWN]}
    message = f"{count(len(told), 'mark')} that one class alone shows: {listed(told, 3)}."
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


CHECKS: tuple[Check, ...] = (
    Check(
        "patch shortcut",
        ("image",),
        patch_shortcut,
        "A mark that goes with one class is learnt in place of what the class looks like, and fails where the mark is missing.",
        "Look at the patch; cut it off or paint it over in all images, or collect the class without it.",
    ),
)
