"""Whether two sets differ in how their columns go together, also where no single column does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from explainer.checks.context import EVIDENCE_SHOWN, Check, Context, NotRun, chance, count, failed, listed, passed
from explainer.checks.drift import FALSE_SHARE, LEAST, features
from explainer.checks.finding import Finding
from explainer.inputs import MODALITIES

KERNEL_ITEMS = 1_000  # of each set, whose distances are all held at once
PERMUTATIONS = 999
LEARNT_ITEMS = 2_000  # of each set, told apart by the classifier
FOLDS = 5
COLUMNS_MOST = 100  # columns used; of more, some drawn at random
LEVELS_MOST = 10  # categories told apart in a column, the commonest
CLIP = 6.0  # a value counts at most so many spreads from the median
TOLD = 0.55  # AUC: what is reached at least where a tenth of one set lies where the other has nothing
LEANED = 0.005  # AUC lost without a column, for it to be named


def together(context: Context) -> Finding:
    """Two tests of all columns at once: maximum mean discrepancy, and a classifier that tells the sets apart.

    MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y), unbiased, with k(x, y) = exp(-|x - y|^2 / (2 s^2)) and s^2 the median squared
    distance; its p-value by permutation (Gretton et al., JMLR 13, 2012). The classifier's cross-validated AUC is held against that
    of Mann and Whitney's null (classifier two-sample test: Lopez-Paz and Oquab, ICLR 2017), its variance corrected for the folds'
    shared training rows (Nadeau and Bengio, Machine Learning 52, 2003).
    """
    reference = context.need_reference()
    if min(context.view.n, reference.n) < LEAST:
        raise NotRun(f"{context.view.n:,} and {reference.n:,} items came; at least {LEAST} on each side are needed.")
    rng = np.random.default_rng(0)
    rows = [np.sort(rng.permutation(n)[:LEARNT_ITEMS]) for n in (context.view.n, reference.n)]
    frames = features(context.view, reference)
    names = [n for n in frames[0].columns if (frames[0][n].dtype.kind == "f") == (frames[1][n].dtype.kind == "f")]
    if len(names) > COLUMNS_MOST:
        names = [names[i] for i in np.sort(rng.permutation(len(names))[:COLUMNS_MOST])]
    here, there = (frame.loc[:, names].iloc[chosen] for frame, chosen in zip(frames, rows, strict=True))
    points, owner = matrix(here, there)
    if points.shape[1] < 2:
        raise NotRun("Fewer than two columns that both sets have, and that vary, cannot differ in how they go together.")
    side = np.arange(len(points)) >= len(rows[0])
    shift, by_kernel = discrepancy(points, side, rng)
    auc, by_classifier, leaned = classifier(points, side, owner, rng)
    p = min(1.0, 2 * min(by_kernel, by_classifier))  # two tests, one verdict: Bonferroni
    on = {names[k]: round(loss, 4) for k, loss in sorted(leaned.items(), key=lambda item: -item[1]) if loss >= LEANED}
    evidence = {
        "maximum mean discrepancy": {"squared": shift, "p": by_kernel, "items of each": min(KERNEL_ITEMS, *map(len, rows))},
        "classifier": {"AUC": auc, "p": by_classifier, "items": [len(r) for r in rows]},
        "AUC lost without": dict(list(on.items())[:EVIDENCE_SHOWN]),
        "columns used": len(names),
    }
    details: dict[str, Any] = {"value": auc, "threshold": TOLD, "p": p, "evidence": evidence}
    asked = f"a classifier tells {count(len(rows[0]), context.view.noun)} from {len(rows[1]):,} of the reference set with AUC {auc:.3f} "
    asked += f"({chance(by_classifier)}); maximum mean discrepancy {max(shift, 0) ** 0.5:.3f} ({chance(by_kernel)})"
    if p < FALSE_SHARE and auc >= TOLD:
        most = f", most by {listed(map(repr, on))}" if on else ""
        return failed(f"Taken together the columns differ from the reference set{most}: {asked}.", columns=on, count=len(on), **details)
    slight = " beyond chance, but by too little to matter" if p < FALSE_SHARE else ""
    verdict = f"differ{slight}" if slight else "do not differ"
    return passed(f"Taken together, {count(len(names), 'column')} {verdict}: {asked}.", **details)


def matrix(here: pd.DataFrame, there: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """``(rows, figures)`` of both, scaled by the reference, and which column each figure comes from.

    A number about its median in units of its spread, clipped; the commonest categories as 0 and 1; whether a value is missing.
    """
    made: list[np.ndarray] = []
    owner: list[int] = []
    for k in range(here.shape[1]):
        a, b = here.iloc[:, k], there.iloc[:, k]
        if a.dtype.kind == "f":
            values = np.concatenate([a.to_numpy(), b.to_numpy()]).astype(np.float64)
            known = values[len(a) :][np.isfinite(values[len(a) :])]
            known = known if len(known) else values[np.isfinite(values)]
            low, middle, high = np.quantile(known, [0.1, 0.5, 0.9]) if len(known) else np.zeros(3)
            spread = (high - low) / 2.56 or (float(np.std(known)) if len(known) else 0.0) or 1.0
            columns = [np.clip(np.nan_to_num((values - middle) / spread, nan=0, posinf=CLIP, neginf=-CLIP), -CLIP, CLIP), np.isnan(values)]
        else:
            words = np.concatenate([a.astype(object).to_numpy(), b.astype(object).to_numpy()])
            codes, levels = pd.factorize(words)
            often = np.argsort(-np.bincount(codes[codes >= 0], minlength=len(levels)), kind="stable")[:LEVELS_MOST]
            columns = [*(codes == level for level in often), codes < 0]
        for column in columns:
            if column.min() != column.max():
                made.append(np.asarray(column, dtype=np.float32))
                owner.append(k)
    points = np.column_stack(made) if made else np.zeros((len(here) + len(there), 0), dtype=np.float32)
    return points, np.array(owner, dtype=int)


def discrepancy(points: np.ndarray, side: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """The unbiased squared maximum mean discrepancy of the two sides, and its p-value by permutation."""
    size = min(KERNEL_ITEMS, int(side.sum()), int((~side).sum()))
    rows = np.concatenate([rng.permutation(np.flatnonzero(one))[:size] for one in (~side, side)])
    x = points[rows]
    square = (x**2).sum(axis=1)
    apart = np.maximum(square[:, None] + square - 2 * x @ x.T, 0)
    kernel = np.exp(-apart / max(float(np.median(apart[np.triu_indices(len(x), 1)])), 1e-12) / 2)
    np.fill_diagonal(kernel, 0)
    signs = np.repeat([1.0, -1.0], size).astype(np.float32)
    signs = np.column_stack([signs, *(rng.permutation(signs) for _ in range(PERMUTATIONS))])
    # with signs s of the sides: within = sum of k where s s' = 1, across where s s' = -1
    signed, total = np.einsum("ib,ib->b", signs, kernel @ signs), float(kernel.sum(dtype=np.float64))
    within, across = (total + signed) / 2, (total - signed) / 2
    figures = within / (size * (size - 1.0)) - across / (size * float(size))
    return float(figures[0]), float((figures >= figures[0]).mean())


def classifier(points: np.ndarray, side: np.ndarray, owner: np.ndarray, rng: np.random.Generator) -> tuple[float, float, dict[int, float]]:
    """The cross-validated AUC of boosted trees, its p-value, and what it loses by each column when that is shuffled."""
    from scipy.stats import norm, rankdata
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    fold = np.empty(len(side), dtype=int)
    for one in (side, ~side):
        fold[one] = rng.permutation(int(one.sum())) % FOLDS
    aucs: list[float] = []
    variances: list[float] = []
    lost: dict[int, list[float]] = {k: [] for k in np.unique(owner).tolist()}

    def auc(score: np.ndarray, y: np.ndarray) -> float:
        above, below = int(y.sum()), int((~y).sum())
        return float((rankdata(score)[y].sum() - above * (above + 1) / 2) / (above * below))

    with threadpool_limits(1):
        for f in range(FOLDS):
            train, test = fold != f, fold == f
            x, y = points[test], side[test]
            trees = HistGradientBoostingClassifier(
                max_iter=40, max_leaf_nodes=15, learning_rate=0.15, max_bins=63, early_stopping=False, random_state=0
            ).fit(points[train], side[train])
            aucs.append(auc(trees.decision_function(x), y))
            above, below = int(y.sum()), int((~y).sum())
            variances.append((above + below + 1) / (12.0 * above * below))
            order = rng.permutation(len(x))
            for k in lost:
                shuffled = np.where(owner == k, x[order], x)
                lost[k].append(aucs[-1] - auc(trees.decision_function(shuffled), y))
    mean = float(np.mean(aucs))
    # folds share the rows they are trained on: the variance of their mean is that of one fold times 1 / k + 1 / (k - 1), not 1 / k
    p = float(norm.sf((mean - 0.5) / np.sqrt(np.mean(variances) * (1 / FOLDS + 1 / (FOLDS - 1)))))
    return mean, p, {k: float(np.mean(losses)) for k, losses in lost.items()}


CHECKS: tuple[Check, ...] = (
    Check(
        "drift, all together",
        MODALITIES,
        together,
        "A model leans on how columns go together; that can change while each column stays as it was.",
        "Look at the columns named, two at a time; retrain or re-test on data like these.",
    ),
)
