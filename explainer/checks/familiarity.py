"""Whether the model meets here what it knows, and whether there are enough items to say how well it does."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from explainer.checks.context import EVIDENCE_SHOWN, Check, Context, NotRun, count, failed, listed, passed, percent, plural, share
from explainer.checks.documents import TextView
from explainer.checks.drift import EFFECT, FALSE_SHARE, LEAST, adjust, compare
from explainer.checks.finding import Finding
from explainer.checks.intervals import half_width, needed
from explainer.checks.outliers import LEAST as POINTS_LEAST
from explainer.checks.outliers import LEAST_DIRECTION, _drawn_in, _scaled, tail_limits
from explainer.inputs import MODALITIES
from explainer.metrics import Z, wilson

NEIGHBOUR = 5
MEASURED = 10_000  # items placed, where no model was to score them
COMPARED = 3_000  # reference items among which neighbours are sought
USUAL = 0.99  # an item further than this share of the reference items are from one another is unfamiliar
SHARE = (
    0.06  # where the lower end of the share of such items is above this, they are of another kind (a small network: 7 % of unseen items)
)
WIDEST = 0.10  # a figure known to no better than 10 points either way tells no good model from a poor one
SURE = 3.0  # standard errors by which a mean score has moved
GUESS = 0.9  # the recall taken where there is no model


def unfamiliar_items(context: Context) -> Finding:
    """Items far from all reference items, as the model sees them.

    An item's distance is that to its fifth nearest reference item (Sun et al., Out-of-distribution detection with deep nearest
    neighbors, ICML 2022) between what enters the model's last layer, made uncorrelated; without a model, or with one that does not
    show that layer, between uncorrelated summary figures, their tails drawn in; of texts, how little expected their words are
    (:func:`surprise`). The measure is the reference items' own distance to one another: an item beyond its tail (see
    :func:`explainer.checks.outliers.tail_limits`) is named, and so are those beyond its 99 % quantile where they are surely more than
    6 % of the items.
    """
    reference = context.need_reference()
    if min(context.view.n, reference.n) < POINTS_LEAST:
        raise NotRun(f"{context.view.n:,} and {reference.n:,} items came; at least {POINTS_LEAST} on each side are needed.")
    rows, far, usual, space, aside = _distances(context)
    beyond = float(np.quantile(usual, USUAL))
    limit = max(tail_limits(usual)[1], beyond)
    strange = far > beyond
    low, high = wilson(strange.sum(), len(far))
    many = low > SHARE
    named = strange if many else far > limit
    details: dict[str, Any] = {"value": strange.mean(), "threshold": SHARE, "interval": (low, high)}
    details["evidence"] = {"space": space, "usual distance": float(np.median(usual)), "limit": limit, "farthest": np.sort(far)[::-1][:10]}
    things = plural(context.view.noun)
    if named.any():
        order = np.flatnonzero(named)[np.argsort(-far[named], kind="stable")]
        message = f"{share(int(named.sum()), len(far))} {things} are unlike all reference items in {space}: up to"
        message += f" {far.max() / max(beyond, 1e-300):.2g} times as far as 99 % of these are from one another{aside}."
        if not many:
            details |= {"value": float(far.max() / max(beyond, 1e-300)), "threshold": float(limit / max(beyond, 1e-300)), "interval": None}
        return failed(message, rows=context.view.at(rows[order]), **details)
    return passed(f"The {things} are as near to the reference items as these are to one another, in {space}{aside}.", **details)


def _distances(context: Context) -> tuple[np.ndarray, np.ndarray, np.ndarray, str, str]:
    """Which items, their distances from the reference, the reference's from itself, in what space, and which items were left out."""
    if context.model is not None:
        mine, theirs = context.need_predictions(), context.need_reference_predictions()
        parts = [p.embedding for p in (mine, theirs)]
        if parts[0] is not None and parts[1] is not None and parts[0].shape[1] > 1:
            return mine.rows, *_far(parts[0], parts[1]), "what enters the model's last layer", mine.aside
    view, reference = context.view, context.need_reference()
    hidden = " (the model does not show its layers)" if context.model is not None else ""
    rows, there = (np.sort(np.random.default_rng(0).permutation(v.n)[:MEASURED]) for v in (view, reference))
    aside = f" (on {len(rows):,} of {view.n:,}, drawn at random)" if len(rows) < view.n else ""
    if isinstance(view, TextView) and isinstance(reference, TextView):
        sides = ([v.words[i] for i in chosen] for v, chosen in ((view, rows), (reference, there)))
        return rows, *surprise(*sides), f"the words they use{hidden}", aside
    return rows, *_far(*_summaries(context, rows, there)), f"the summary figures{hidden}", aside


def _far(here: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each point's distance to the reference points, and these points' to each other, each between points made uncorrelated.

    A reference point is measured by others than those it helps to measure: a tenth at a time by the other nine, or it would seem
    nearer than a new point is.
    """
    if len(there) < POINTS_LEAST:
        raise NotRun(f"Only {len(there):,} reference items can be placed; at least {POINTS_LEAST} are needed.")
    sample = there[np.random.default_rng(0).permutation(len(there))[:COMPARED]]
    tenth = np.arange(len(sample)) % 10
    usual = [_distance(*_whitened(sample[tenth == k], sample[tenth != k])) for k in range(10)]
    return _distance(*_whitened(here, sample)), np.concatenate(usual)


def surprise(here: list[list[str]], there: list[list[str]]) -> tuple[np.ndarray, np.ndarray]:
    """How much less expected each text's words are than a reference text's usually are; of reference texts, to the other ones.

    A word's -log2 p, p = (count + 1) / (tokens + types) over the reference (Laplace), on average over the text's n words; less the
    mean m of the reference texts, over sqrt(t^2 + s^2 / n): s within texts, t between them (moments). A text without words is usual.
    """
    counts = Counter(word for words in there for word in words)
    total = sum(counts.values()) + len(counts)

    def bits(words: list[str], own: bool) -> tuple[float, float, int]:
        held = Counter(words)
        size = total - own * len(words)
        each = [np.log2(size / (counts[word] - own * n + 1)) for word, n in held.items()]
        weights = list(held.values())
        mean = float(np.average(each, weights=weights)) if held else np.nan
        return mean, float(np.average((np.array(each) - mean) ** 2, weights=weights)) if held else np.nan, len(words)

    mine, theirs = (np.array([bits(words, own) for words in side], dtype=float) for side, own in ((here, False), (there, True)))
    known = theirs[theirs[:, 2] > 0]
    if len(known) < POINTS_LEAST:
        raise NotRun(f"Only {len(known):,} reference texts have words; at least {POINTS_LEAST} are needed.")
    middle, within = known[:, 0].mean(), np.average(known[:, 1], weights=known[:, 2])
    between = max(0.0, float(known[:, 0].var() - (within / known[:, 2]).mean()))

    def standard(side: np.ndarray) -> np.ndarray:
        return np.nan_to_num((side[:, 0] - middle) / np.sqrt(max(between, 1e-12) + within / np.maximum(side[:, 2], 1)))

    return standard(mine), standard(known)


def _whitened(here: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both in units in which the reference has unit covariance (drawn towards a round one where it has few items)."""
    n, d = there.shape
    centre = there.mean(axis=0, dtype=np.float64)
    _, sizes, directions = np.linalg.svd(there - centre, full_matrices=False)  # of n items no more than n directions are known
    trust = n / (n + d)
    round_ = (1 - trust) * max(float((sizes**2).sum()) / (n - 1) / d, 1e-12)
    variances = trust * sizes**2 / (n - 1) + round_
    known, rest = (1 / np.sqrt(np.maximum(v, LEAST_DIRECTION * variances.max())) for v in (variances, round_))

    def turned(points: np.ndarray) -> np.ndarray:
        away = points - centre
        return (away * rest + (away @ directions.T * (known - rest)) @ directions).astype(np.float32)

    return turned(here), turned(there)


def _summaries(context: Context, here: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Figures of both sets in units of their spread."""
    frames = [v.summary.iloc[rows] for v, rows in ((context.view, here), (context.need_reference(), there))]
    names = [c for c in frames[0].columns if c in frames[1].columns and all(f[c].dtype.kind == "f" for f in frames)]
    if not names:
        raise NotRun("The two sets share no figures.")
    both = pd.concat([f[names] for f in frames[::-1]], ignore_index=True).to_numpy(dtype=float)
    points, split = _drawn_in(_scaled(list(both.T))), len(frames[1])
    if points.shape[1] < 1:
        raise NotRun("No figure varies.")
    return points[split:], points[:split]


def _distance(points: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """Each point's distance to its fifth nearest of ``sample``."""
    squares = (sample**2).sum(axis=1)
    k = min(NEIGHBOUR, len(sample))
    result = np.zeros(len(points))
    for start in range(0, len(points), 2_048):
        block = points[start : start + 2_048]
        square = (block**2).sum(axis=1)[:, None] + squares - 2 * block @ sample.T
        result[start : start + len(block)] = np.sqrt(np.maximum(np.partition(square, k - 1, axis=1)[:, k - 1], 0))
    return result


def prediction_drift(context: Context) -> Finding:
    """The model's scores here against those on the reference, class by class: Kolmogorov-Smirnov, and chi-square of the predicted class.

    A model is surer of items it was trained on; so scores of a class that are spread otherwise but have the same mean are no drift.
    """
    mine, theirs = context.need_predictions(), context.need_reference_predictions()
    if min(len(mine.rows), len(theirs.rows)) < LEAST:
        raise NotRun(f"{len(mine.rows):,} and {len(theirs.rows):,} items were scored; at least {LEAST} on each side are needed.")
    tests: list[dict[str, Any]] = []
    classes = context.model.task == "classification"
    for k, name in enumerate(mine.class_names):
        sides = mine.scores[:, k], theirs.scores[:, k]
        moved_by = float(sides[0].mean() - sides[1].mean())
        sure = abs(moved_by) > SURE * np.sqrt(sum(one.var() / len(one) for one in sides))
        tests += [
            {"output": name, "mean moved": moved_by, "only sharper": classes and not (sure and abs(moved_by) >= EFFECT / 2), **t}
            for t in compare(*map(pd.Series, sides))
        ]
    if classes:
        predicted = [
            pd.Series(pd.Categorical.from_codes(p.scores.argmax(axis=1), categories=pd.Index(p.class_names, dtype=object)))
            for p in (mine, theirs)
        ]
        tests += [{"output": "predicted class", **t} for t in compare(*predicted)]
    adjust(tests)
    tests.sort(key=lambda t: -t["distance"] * (t["adjusted p"] < FALSE_SHARE))
    beyond = [t for t in tests if t["adjusted p"] < FALSE_SHARE and t["distance"] >= EFFECT]
    moved = [t for t in beyond if not t.get("only sharper")]
    most = (moved or tests)[0]
    value = most["distance"] if most["adjusted p"] < FALSE_SHARE else 0.0
    details: dict[str, Any] = {
        "value": value,
        "threshold": EFFECT,
        "p": most["adjusted p"],
        "evidence": {"outputs": tests[:EVIDENCE_SHOWN]},
    }
    if moved:
        shown = listed(f"{t['output']!r} (by {t['distance']:.2f})" for t in moved)
        message = f"The model's answers differ from those on the reference set: {shown}{mine.aside}."
        return failed(message, count=len(moved), columns=[t["output"] for t in moved], **details)
    note = "; it is only surer on one of them, as of items it was trained on" if beyond else ""
    details["value"] = 0.0 if beyond else value
    return passed(f"The model answers as on the reference set (largest difference {most['distance']:.3f}{note}){mine.aside}.", **details)


def sample_size(context: Context) -> Finding:
    """The 95 % intervals of accuracy, of each class's recall, and of the AUC of two classes, at this number of labelled items.

    Shares by Wilson's interval; the AUC by Hanley and McNeil (Radiology 143, 1982). Without a model, recalls of 0.9 are taken.
    For numbers, the standard error of an RMSE, 1 / sqrt(2 n) of it.
    """
    labels = context.need_labels()
    if labels.kind == "number":
        n = int((~labels.missing).sum())
        width, least = Z / np.sqrt(2 * max(n, 1)), int(np.ceil(Z**2 / (2 * WIDEST**2)))
        message = f"On {count(n, 'label')} an error (RMSE) is known to within {percent(width)} of itself"
        if width > WIDEST:
            return failed(f"{message}; {least:,} are needed for {percent(WIDEST)}.", value=width, threshold=WIDEST)
        return passed(f"{message}.", value=width, threshold=WIDEST)
    sizes = labels.sizes
    if not sizes.sum():
        raise NotRun("Every label is missing.")
    known, scale, aside = _recalls(context)
    figures: list[dict[str, Any]] = []
    for k in np.flatnonzero(sizes):
        name, n = labels.names[k], int(sizes[k])
        recall = known.get(name, GUESS)
        figures.append(
            {
                "figure": f"recall of {name!r}",
                "at": recall,
                "n": n,
                "half-width": half_width(recall, n),
                "needed": needed(recall, WIDEST),
                "class": name,
            }
        )
    total = int(sizes.sum())
    right = sum(f["at"] * f["n"] for f in figures) / total
    figures.append({"figure": "accuracy", "at": right, "n": total, "half-width": half_width(right, total), "needed": needed(right, WIDEST)})
    if scale is not None and np.isfinite(scale[0]):
        auc, half, n = scale
        figures.append({"figure": "AUC", "at": auc, "n": n, "half-width": half, "needed": int(np.ceil(n * (half / WIDEST) ** 2))})
    wide = sorted((f for f in figures if f["half-width"] > WIDEST), key=lambda f: -f["half-width"])
    worst = max(figures, key=lambda f: f["half-width"])
    shown_ = [{k: v for k, v in f.items() if k != "class"} for f in sorted(figures, key=lambda f: -f["half-width"])[:EVIDENCE_SHOWN]]
    details: dict[str, Any] = {"value": worst["half-width"], "threshold": WIDEST, "evidence": {"figures": shown_}}
    ground = "as the model does" if known else f"if recall is {GUESS:g}"
    if wide:
        shown = listed(f"{f['figure']} ({percent(f['half-width'])} either way on {f['n']:,}; {f['needed']:,} needed)" for f in wide)
        few = {f["class"] for f in wide if "class" in f}
        rows = context.view.at(np.isin(labels.codes, [labels.names.index(name) for name in few])) if few else []
        message = f"{count(len(wide), 'figure')} known to no better than {percent(WIDEST)} either way ({ground}{aside}): {shown}."
        return failed(message, count=len(wide), rows=rows, columns=sorted(few), **details)
    return passed(
        f"Every figure is known to within {percent(worst['half-width'])} ({ground}{aside}); the widest: {worst['figure']}.", **details
    )


def _recalls(context: Context) -> tuple[dict[str, float], tuple[float, float, int] | None, str]:
    """The model's recall of each class by its name in the labels, and its AUC with its half-width, where it is of two classes."""
    try:
        predictions = context.need_predictions()
    except NotRun:
        return {}, None, ""
    labels = context.need_labels()
    if context.model.task != "classification":
        return {}, None, ""
    truth, predicted = predictions.truth(labels), predictions.scores.argmax(axis=1)
    codes = labels.codes[predictions.rows]
    known = {labels.names[k]: float((predicted[codes == k] == truth[codes == k]).mean()) for k in np.unique(codes[truth >= 0])}
    one, other = truth == 1, truth == 0
    if predictions.scores.shape[1] != 2 or not one.any() or not other.any():
        return known, None, ""
    from scipy.stats import rankdata

    a, b = int(one.sum()), int(other.sum())
    ranks = rankdata(predictions.scores[one | other, 1])
    auc = float((ranks[one[one | other]].sum() - a * (a + 1) / 2) / (a * b))
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = (auc * (1 - auc) + (a - 1) * (q1 - auc**2) + (b - 1) * (q2 - auc**2)) / (a * b)
    return known, (auc, float(Z * np.sqrt(max(variance, 0.0))), a + b), ""


CHECKS: tuple[Check, ...] = (
    Check(
        "unfamiliar items",
        MODALITIES,
        unfamiliar_items,
        "On what it never met a model still answers, and often surely.",
        "Look at them; leave them out of what the model is for, or train on such items too.",
    ),
    Check(
        "prediction drift",
        MODALITIES,
        prediction_drift,
        "When the answers move, either the cases have changed or the model no longer fits them.",
        "Compare with the drift of the columns; get labels for a sample and measure anew.",
    ),
    Check(
        "sample size",
        MODALITIES,
        sample_size,
        "A figure from few items may differ by ten points on the next few.",
        "Label more items of these classes, or report the figures with their intervals.",
        streams=True,  # it counts labels; scores, where there is a model, are of a sample that is drawn there
    ),
)
