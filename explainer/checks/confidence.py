"""Labels that what is known of the items contradicts: judged by probabilities of items that were not learnt from."""

from __future__ import annotations

from typing import Any

import numpy as np

from explainer.checks.context import EVIDENCE_SHOWN, Check, Context, NotRun, count, failed, passed, percent, plural, share
from explainer.checks.documents import TextView
from explainer.checks.finding import Finding
from explainer.checks.labels import Labels
from explainer.checks.pictures import ImageView, shrink
from explainer.checks.recordings import SeriesView
from explainer.checks.view import View
from explainer.inputs import MODALITIES
from explainer.metrics import wilson

ROWS_LEAST = 100  # of which the surest 50 are judged
CLASS_LEAST = 5  # members below which a class has no threshold of its own
ITEMS_MOST = 20_000  # items judged: a noise of 2 % is then known to 0.3 points
TREES, TREE_ROWS = 100, 5_000  # of the forest; each item is judged by the trees that did not see it
PIXELS = 16  # side of the thumbnails the forest looks at
WORDS = 5_000
FOLDS = 5
NOISE = 0.02  # below this the mistakes of a good forest on hard but right labels begin
SKILL = 0.75  # share of the errors of always naming the commonest class that is avoided, label noise taken out
RISING = 0.02  # p-value at which the second quarter's mistakes are more than the surest quarter's
ROBUST_LEAST = 15.0  # robust standard deviations of the residuals: a forest is off by 8 at the ends of what it learnt
EXPLAINED = 0.5  # R2 out of sample below which a number is no reason to doubt a label


def label_errors(context: Context) -> Finding:
    r"""Labels contradicted by probabilities of items that were not learnt from.

    The probabilities come from the model where a reference set is given (items of which are left out), else from a forest on the
    items' figures, each item judged by trees that did not see it (of texts: logistic regression on words, in five folds).

    Which labels: confident learning (Northcutt, Jiang and Chuang, JAIR 70, 2021), by ``cleanlab.filter.find_label_issues``. How
    many: the share of labels that differ from the prediction among the half of the items predicted most surely. Noise in labels
    does not shrink there, hard cases do; so where the surest quarter holds significantly fewer such labels than the next, or the
    classes are told apart poorly, labels cannot be judged.
    """
    labels = context.need_labels()
    if labels.kind == "number":
        return _number_errors(context, labels)
    rows, probabilities, source = _probabilities(context, labels)
    given = labels.codes[rows]
    classes = np.unique(given)
    given = np.searchsorted(classes, given)
    probabilities = validated(probabilities, given)
    from cleanlab.filter import find_label_issues

    issues = np.asarray(find_label_issues(given, probabilities, n_jobs=1))
    predicted, chance = probabilities.argmax(axis=1), probabilities[np.arange(len(given)), given]
    order = np.argsort(-probabilities.max(axis=1), kind="stable")
    wrong = (predicted != given)[order]
    quarter = len(given) // 4
    first, second = int(wrong[:quarter].sum()), int(wrong[quarter : 2 * quarter].sum())
    noise, interval = (first + second) / (2 * quarter), wilson(first + second, 2 * quarter)
    details: dict[str, Any] = {"value": noise, "threshold": NOISE, "interval": interval}
    among = f"among the half of {count(len(given), context.view.noun)} that {source} is surest of, {percent(noise)} of the labels differ"
    spread = f" (95 % interval {percent(interval[0])} to {percent(interval[1])})"
    if interval[0] <= NOISE:
        return passed(f"The labels agree with their items: {among}{spread}.", **details)
    if _rising(first, second, quarter) or _skill(wrong.mean(), given, noise) < SKILL:
        raise NotRun(f"The items do not tell the classes well enough to doubt single labels: {among}, and more of the rest.")
    named = np.flatnonzero(issues)[np.argsort(chance[issues], kind="stable")]
    suspects = [
        {
            "row": context.view.at([rows[i]])[0],
            "given": labels.names[classes[given[i]]],
            "suggested": labels.names[classes[predicted[i]]],
            "probability of the given": chance[i],
        }
        for i in named[:EVIDENCE_SHOWN]
    ]
    message = f"{share(len(named), len(given))} labels look wrong: {among}{spread}."
    return failed(message, rows=context.view.at(rows[named]), evidence={"labels": suspects}, **details)


def validated(probabilities: np.ndarray, given: np.ndarray) -> np.ndarray:
    """``(n, classes)`` as they are, or NotRun with what is wrong: confident learning says "no issues" of what it cannot read."""
    if probabilities.ndim != 2 or len(probabilities) != len(given) or probabilities.shape[1] != given.max(initial=-1) + 1:
        raise NotRun(f"Probabilities of shape {probabilities.shape} came for {len(given):,} labels of {given.max(initial=-1) + 1} classes.")
    if not np.isfinite(probabilities).all():
        raise NotRun(f"{int((~np.isfinite(probabilities)).any(axis=1).sum()):,} of {len(given):,} rows of probabilities are not finite.")
    if (probabilities < 0).any() or (np.abs(probabilities.sum(axis=1) - 1) > 1e-3).any():
        raise NotRun("The probabilities are negative or do not sum to 1 in each row.")
    sizes = np.bincount(given)
    if len(sizes) < 2 or sizes.min() < CLASS_LEAST:
        raise NotRun(f"At least two classes of {CLASS_LEAST} items each are needed; the smallest has {sizes.min()}.")
    return probabilities


def _rising(first: int, second: int, size: int) -> bool:
    from scipy.stats import fisher_exact

    p = float(fisher_exact([[second, size - second], [first, size - first]], alternative="greater").pvalue)
    return p < RISING or second > 2 * first + 2


def _skill(wrong: float, given: np.ndarray, noise: float) -> float:
    """1 - error / error of always naming the commonest class, both without the share that uniform noise of the labels adds."""
    classes = int(given.max()) + 1
    kept = 1 - noise * classes / (classes - 1)
    if kept <= 0.3:  # hardly a label is where it should be
        return 0.0
    error, base = (1 - (1 - w - noise / (classes - 1)) / kept for w in (wrong, 1 - np.bincount(given).max() / len(given)))
    return float(1 - error / base) if base > 0 else 0.0


def _probabilities(context: Context, labels: Labels) -> tuple[np.ndarray, np.ndarray, str]:
    """The items judged, their probabilities ``(m, classes present)`` out of sample, and whose those are, in words."""
    view, usable = context.view, ~labels.missing & ~context.view.blank
    if context.model is not None and context.reference is not None and context.model.task == "classification":
        predictions = context.need_predictions()
        mine, theirs = view.keys_against(context.reference)
        truth = predictions.truth(labels)
        kept = (truth >= 0) & ~np.isin(mine, theirs)[predictions.rows] & usable[predictions.rows]
        rows, present = predictions.rows[kept], np.unique(truth[kept])
        known = predictions.scores[kept][:, present]
        if kept.sum() >= ROWS_LEAST and len(present) == len(np.unique(labels.codes[rows])):
            # the columns in the order of the labels' own codes
            order = [truth[kept][np.flatnonzero(labels.codes[rows] == k)[0]] for k in np.unique(labels.codes[rows])]
            known = known[:, np.searchsorted(present, order)]
            return rows, known / np.maximum(known.sum(axis=1, keepdims=True), 1e-12), "the model"
    sizes = np.bincount(labels.codes[usable], minlength=len(labels.names))
    usable &= np.append(sizes >= CLASS_LEAST, False)[labels.codes]
    rows = np.flatnonzero(usable)
    if len(rows) < ROWS_LEAST or len(np.unique(labels.codes[rows])) < 2:
        raise NotRun(f"{len(rows):,} items have a label of a class of {CLASS_LEAST} or more; {ROWS_LEAST} of two classes are needed.")
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:ITEMS_MOST])
    codes = np.unique(labels.codes[rows], return_inverse=True)[1]
    kept = np.bincount(codes)[codes] >= CLASS_LEAST  # a sample may hold less of a class
    rows, codes = rows[kept], np.unique(codes[kept], return_inverse=True)[1]
    if isinstance(view, TextView):
        return rows, _by_words(view, rows, codes), "a model of the words"
    found = _forest(_figures(view, rows), codes)
    seen = np.isfinite(found).all(axis=1)
    return rows[seen], found[seen], "a forest on the items' figures"


def _figures(view: View, rows: np.ndarray) -> np.ndarray:
    """``(m, features)`` without gaps: a missing value lies below all others."""
    if isinstance(view, ImageView):
        return shrink(view.greys[rows], PIXELS).reshape(len(rows), -1)
    frame = view.summary.iloc[rows]
    columns = [frame[c].cat.codes.to_numpy() if frame[c].dtype.kind == "O" else frame[c].to_numpy(dtype=float) for c in frame.columns]
    values = np.column_stack(columns).astype(float) if columns else np.zeros((len(rows), 0))
    if isinstance(view, SeriesView):
        values = np.column_stack([values, view.resampled[rows]])
    low = np.nanmin(np.where(np.isfinite(values), values, np.nan), axis=0, initial=0.0) - 1
    bound = np.finfo(np.float32).max / 4
    return np.clip(np.where(np.isnan(values), low, values), -bound, bound)


def _forest(figures: np.ndarray, codes: np.ndarray) -> np.ndarray:
    from sklearn.ensemble import ExtraTreesClassifier

    if figures.shape[1] == 0:
        raise NotRun("The items have no figures to judge a label by.")
    forest = ExtraTreesClassifier(TREES, bootstrap=True, oob_score=True, max_samples=min(len(codes), TREE_ROWS), random_state=0)
    return np.asarray(forest.fit(figures, codes).oob_decision_function_)


def _by_words(view: TextView, rows: np.ndarray, codes: np.ndarray) -> np.ndarray:
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    vocabulary = [w for w, n in view.frequency.most_common(WORDS) if n > 1]
    if not vocabulary:
        raise NotRun("No word stands in two texts.")
    counts = TfidfTransformer(sublinear_tf=True).fit_transform(view.presence(vocabulary)[rows].astype(float))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    return np.asarray(cross_val_predict(LogisticRegression(C=10, max_iter=300), counts, codes, cv=folds, method="predict_proba"))


def _number_errors(context: Context, labels: Labels) -> Finding:
    """Numbers whose residual, out of sample, is ``ROBUST_LEAST`` robust standard deviations: gross errors, such as a factor of 10."""
    from scipy.stats import norm, rankdata
    from sklearn.ensemble import ExtraTreesRegressor

    view = context.view
    assert labels.numbers is not None
    rows = np.flatnonzero(~labels.missing & ~view.blank & np.isfinite(labels.numbers))
    if len(rows) < ROWS_LEAST:
        raise NotRun(f"{len(rows):,} items have a label; at least {ROWS_LEAST} are needed.")
    if isinstance(view, TextView):
        raise NotRun("Labels that are numbers are not judged by the words of texts.")
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:ITEMS_MOST])
    given = labels.numbers[rows]
    y = norm.ppf((rankdata(given) - 0.5) / len(given))
    forest = ExtraTreesRegressor(
        TREES, bootstrap=True, oob_score=True, max_samples=min(len(rows), TREE_ROWS), min_samples_leaf=3, random_state=0
    )
    # learnt in normal scores, which no wrong label can stretch, and read back in the labels' own units
    suggested = np.quantile(given, norm.cdf(forest.fit(_figures(view, rows), y).oob_prediction_))
    residual = given - suggested
    usual = float(np.median(np.abs(residual)))
    explained = 1 - usual / max(float(np.median(np.abs(given - np.median(given)))), 1e-300)
    if explained < 1 - np.sqrt(1 - EXPLAINED):
        raise NotRun("The items do not tell these numbers well enough to doubt single ones.")
    wrong = np.abs(residual) > ROBUST_LEAST * usual / 0.6745
    if given.min() > 0:  # large numbers miss by more: what is off must be so in proportion too
        ratio = np.abs(np.log(given / suggested))
        wrong &= ratio > ROBUST_LEAST * float(np.median(ratio)) / 0.6745
    details: dict[str, Any] = {"value": wrong.mean(), "threshold": 0.0, "interval": wilson(wrong.sum(), len(rows))}
    if wrong.any():
        named = np.flatnonzero(wrong)[np.argsort(-np.abs(residual[wrong]), kind="stable")]
        shown = [{"row": view.at([rows[i]])[0], "given": given[i], "suggested": suggested[i]} for i in named[:EVIDENCE_SHOWN]]
        message = f"{share(len(named), len(rows))} labels look wrong: far from what a forest on the items' figures expects."
        return failed(message, rows=view.at(rows[named]), evidence={"labels": shown}, **details)
    return passed(
        f"No label of {count(len(rows), view.noun)} is far from what a forest on the {plural(view.noun)}' figures expects.", **details
    )


CHECKS: tuple[Check, ...] = (
    Check(
        "label errors",
        MODALITIES,
        label_errors,
        "A model learns wrong labels too, and is then measured by them.",
        "Have a person look at the named labels, without showing the suggestion first; correct or leave out.",
        "labels = labels.drop(index={rows})  # or correct them one by one",
    ),
)
