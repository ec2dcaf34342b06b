"""Clean twins: the zoo's data freed of their own defects, drawn anew for each seed, with all that a check may be given beside them.

How each is made is ``MADE``, which stands in docs/checks.md too. Half of the twins of tables and series are rows of the real data,
half are drawn anew from them: their seeds overlap less.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

import explainer
from explainer.checks.finding import Findings

MADE = {
    "tabular": "zoo/sources/loans (codes of 'not known', leaks and the constant column are gone already): rows with a missing cell, an "
    "occupancy that does not apply (6 rows) or half a credit line are left out, and rows beyond the 0.5 % and 99.5 % quantiles of an "
    "amount (a loan of 2.57 times the price is among them), the nine columns computed from others, and approvals beyond six for each "
    "refusal. Two columns are made up: the day of the application and the branch. Odd seeds: rows drawn anew from a Gaussian copula "
    "of these, the decision from a logistic regression on them",
    "image": "zoo/sources/digits as they are",
    "text": "zoo/sources/licences (no two nearly the same): without the texts that hold an e-mail or postal address, a telephone number, a "
    "ruled line, an HTML entity or a character that a decoder gave up on, a coarse word, or small words of another language than "
    "English, and with the names of licences, which give the class away, replaced by 'this'; of texts that then share half their "
    "runs of six letters, the first",
    "series": "zoo/sources/vowels, all 640 in new halves. Odd seeds: each series louder or softer by up to 10 %, up to a tenth of it cut "
    "off at each end, and noise of a twentieth of each channel's spread",
}
SIZES = {"tabular": (600, 450, 400), "image": (700, 400, 800), "text": (700, 400, 800), "series": (250, 200, 190)}  # data, reference, model
COMPUTED = ("mortno", "mortperf", "mortlat1", "mortlat2", "multi", "thick", "loanprc", "hrat", "chist")
AMOUNTS = ("loanamt", "appinc", "atotinc", "cototinc", "hexp", "price", "other", "liq", "lines", "obrat", "apr", "netw")
TRIMMED = 0.005
MOST_APPROVED = 6  # for each refused: rarer would be a defect itself
BRANCHES = ("Allston", "Brighton", "Charlestown", "Dorchester", "Hyde Park", "Roxbury")
TRAIN_SHARE = 0.6
DAYS = pd.Timestamp("1990-01-02"), pd.Timestamp("1991-12-30")
SHARED = 0.5
SMALL = frozenset(
    re.findall(r"\w+", "the of and to in is are be this that a an or for any by with as it on not you may must if from all at no")
)
FOREIGN = frozenset(re.findall(r"\w+", "der die das und von ist les des une sous est el los del una para het een"))
LEFT_OUT = re.compile(  # ruled lines, mail addresses, lost characters, postal addresses, telephone numbers
    r"[^\w\s]{5,}|@|\ufffd|\b\d+\w* (?:[A-Z]\w*\.? ){1,3}(?:St|Ave|Road|Rd|Pl|Dr|Boulevard|Blvd|Suite|Floor|Way|Square)"
    r"|&#?\w+;|(?i:fuck|shit|damn)|P\.? ?O\.? Box|\b[A-Z]{2},? \d{5}\b|\b[A-Z]-\d{4,5}\b|\+?\d[\d ().-]{8,}\d"
)


@dataclass(frozen=True)
class Sample:
    """Data of one modality and everything a check may be given beside them; ``rows()`` and friends give changed copies."""

    modality: str
    inputs: Any
    labels: Any
    reference: Any
    reference_labels: Any
    groups: dict[str, np.ndarray] = field(default_factory=dict)
    splits: np.ndarray | None = None
    time: np.ndarray | None = None
    model: Any = None

    @property
    def n(self) -> int:
        return len(self.inputs)

    def check(self, only: list[str] | None = None) -> Findings:
        beside = {"groups": self.groups or None, "splits": self.splits, "time": self.time, "model": self.model}
        return explainer.check(
            self.inputs, self.labels, modality=self.modality, only=only, reference=self.reference,
            reference_labels=self.reference_labels, **beside,
        )  # fmt: skip

    def take(self, rows: np.ndarray) -> Sample:
        """These rows, in this order, of all there is one of per item."""
        groups = {name: values[rows] for name, values in self.groups.items()}
        splits, time = (None if one is None else one[rows] for one in (self.splits, self.time))
        return replace(self, inputs=take(self.inputs, rows), labels=self.labels[rows], groups=groups, splits=splits, time=time)

    def append(self, other: Sample) -> Sample:
        """The items of another sample after these; reference and model stay."""
        groups = {name: np.concatenate([values, other.groups[name]]) for name, values in self.groups.items()}
        splits, time = (
            None if one is None else np.concatenate([one, two]) for one, two in ((self.splits, other.splits), (self.time, other.time))
        )
        labels = np.concatenate([self.labels, other.labels])
        return replace(self, inputs=join(self.inputs, other.inputs), labels=labels, groups=groups, splits=splits, time=time)

    def shuffled(self, rng: np.random.Generator, planted: np.ndarray) -> tuple[Sample, np.ndarray]:
        """The items in a new order, and where the planted ones went."""
        order = rng.permutation(self.n)
        return self.take(order), np.flatnonzero(np.isin(order, planted))


def take(inputs: Any, rows: np.ndarray) -> Any:
    if isinstance(inputs, pd.DataFrame):
        return inputs.iloc[rows].reset_index(drop=True)
    return inputs[rows] if isinstance(inputs, np.ndarray) else [inputs[i] for i in rows]


def join(a: Any, b: Any) -> Any:
    if isinstance(a, pd.DataFrame):
        return pd.concat([a, b], ignore_index=True)
    return np.concatenate([a, b]) if isinstance(a, np.ndarray) else [*a, *b]


@cache
def twin(modality: str, seed: int) -> Sample:
    """The clean twin of one seed: items, a reference set from the same source, groups, splits by time, and a model of other items."""
    rng = np.random.default_rng([seed, list(SIZES).index(modality)])
    inputs, labels = pool(modality)
    here, there, _ = SIZES[modality]
    if seed % 2 and modality == "tabular":
        inputs, labels = drawn(inputs, labels, sum(SIZES[modality]), rng)
    rows = rng.permutation(len(labels))[: sum(SIZES[modality])]
    inputs, labels = take(inputs, rows), labels[rows]
    if seed % 2 and modality == "series":
        inputs = [said_again(one, rng) for one in inputs]
    first, second, third = np.split(np.arange(len(labels)), [here, here + there])
    time = rng.integers(DAYS[0].value // 10**9, DAYS[1].value // 10**9, here) // 86_400 * 86_400
    splits = np.where(time < np.quantile(time, TRAIN_SHARE), "train", "test")
    if modality == "tabular":
        inputs = inputs.assign(branch=rng.choice(BRANCHES, len(inputs)))
        days = np.concatenate([time, rng.integers(time.min(), time.max(), len(inputs) - here) // 86_400 * 86_400])
        inputs["applied"] = pd.to_datetime(days, unit="s").strftime("%Y-%m-%d")
    groups = {"site": rng.choice(["north", "east", "south"], here)}
    data, reference, known = ((take(inputs, rows), labels[rows]) for rows in (first, second, third))
    return Sample(modality, *data, *reference, groups, splits, time.astype(float), model(modality, *known))


@cache
def pool(modality: str) -> tuple[Any, np.ndarray]:
    """All clean items of one kind of data and their classes by name."""
    import importlib

    names = {"tabular": "loans", "image": "digits", "text": "licences", "series": "vowels"}
    data = importlib.import_module(f"zoo.sources.{names[modality]}").load()
    parts = (data.train, data.validation, data.test)
    labels = np.array(data.class_names, dtype=object)[np.concatenate([part.labels for part in parts])]
    inputs = parts[0].inputs
    for part in parts[1:]:
        inputs = join(inputs, part.inputs)
    kept = np.ones(len(labels), dtype=bool)
    if modality == "tabular":
        inputs = inputs.drop(columns=list(COMPUTED))
        amounts = inputs[list(AMOUNTS)]
        low, high = amounts.quantile(TRIMMED), amounts.quantile(1 - TRIMMED)
        commoner = np.cumsum(labels == "approved") <= MOST_APPROVED * (labels == "refused").sum()
        usual = (inputs["occ"] != "not applicable") & inputs.notna().all(axis=1)
        usual &= inputs["lines"] == inputs["lines"].round()
        kept = (usual & (amounts >= low).all(axis=1) & (amounts <= high).all(axis=1)).to_numpy()
        kept = kept & (commoner | (labels == "refused"))
    elif modality == "text":
        from zoo.sources.licences import masked

        kept = np.array([not LEFT_OUT.search(text) for text in inputs])
        inputs = masked(inputs)
        kept &= english(inputs) & unlike(inputs)
    return take(inputs, np.flatnonzero(kept)), labels[kept]


def english(texts: list[str]) -> np.ndarray:
    """Which texts hold small words of English: one in ten of their words, where they are of ten or more, and none of other languages."""
    words = [re.findall(r"[^\W\d_]+", text.lower()) for text in texts]
    kept = [len(some) < 10 or sum(w in SMALL for w in some) >= 0.1 * len(some) for some in words]
    return np.array(kept) & np.array([sum(w in FOREIGN for w in some) < 2 for some in words])


def unlike(texts: list[str]) -> np.ndarray:
    """Which texts share less than ``SHARED`` of their runs of six letters with every text before them (Jaccard)."""
    from sklearn.feature_extraction.text import CountVectorizer

    marks = CountVectorizer(analyzer="char", ngram_range=(6, 6), binary=True, dtype=np.float32).fit_transform(texts)
    sizes, kept = np.asarray(marks.sum(axis=1)).ravel(), np.ones(len(texts), dtype=bool)
    for start in range(0, len(texts), 500):
        shared = (marks[start : start + 500] @ marks.T).tocoo()
        row, column = shared.row + start, shared.col
        alike = shared.data >= SHARED * (sizes[row] + sizes[column] - shared.data)
        kept[row[alike & (column < row)]] = False
    return kept


def drawn(frame: pd.DataFrame, labels: np.ndarray, n: int, rng: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
    """New rows from a Gaussian copula with each column's own values, and classes from a logistic regression on its normal scores."""
    from scipy.stats import norm
    from sklearn.linear_model import LogisticRegression

    ranks = np.column_stack([pd.factorize(frame[c], sort=True)[0] + rng.random(len(frame)) for c in frame])
    places = (np.argsort(np.argsort(ranks, axis=0), axis=0) + 0.5) / len(frame)
    scores = norm.ppf(places)
    new = rng.multivariate_normal(np.zeros(frame.shape[1]), np.corrcoef(scores, rowvar=False), n)
    columns = {}
    for j, name in enumerate(frame):
        ordered, at = np.sort(frame[name].to_numpy()), norm.cdf(new[:, j]) * (len(frame) - 1)
        if name in AMOUNTS:  # between two values there are others, as round as they are
            whole = bool((ordered == np.round(ordered)).all())
            columns[name] = np.round(np.interp(at, np.arange(len(frame)), ordered.astype(float)), 0 if whole else 2)
        else:
            columns[name] = ordered[np.round(at).astype(int)]
    names, codes = np.unique(labels.astype(str), return_inverse=True)
    chance = LogisticRegression(C=0.1, max_iter=500).fit(scores, codes).predict_proba(new)[:, 1]
    return pd.DataFrame(columns), names.astype(object)[(rng.random(n) < chance).astype(int)]


def said_again(one: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The series as it might be said a second time."""
    start, stop = rng.integers(0, len(one) // 10 + 1, 2)
    kept = one[start : len(one) - stop]
    noisy = kept * rng.uniform(0.9, 1.1) + rng.normal(size=kept.shape) * one.std(axis=0) / 20
    return noisy.astype(np.float32)


def model(modality: str, inputs: Any, labels: np.ndarray) -> Any:
    """A plain model of these items, trained in a second, behind the toolkit's own face."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    names = tuple(sorted(set(labels)))
    if modality == "tabular":
        from sklearn.compose import make_column_transformer

        words = ["occ", "prop", "branch"]
        numbers = [c for c in inputs if c not in (*words, "applied")]
        cut = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), words), (StandardScaler(), numbers))
        return explainer.wrap(make_pipeline(cut, LogisticRegression(C=0.1, max_iter=500)).fit(inputs[[*words, *numbers]], labels))
    fitted = make_pipeline(FEATURES[modality](), LogisticRegression(C=0.1 if modality != "text" else 10, max_iter=200)).fit(inputs, labels)
    return explainer.wrap(fitted.predict_proba, modality=modality, class_names=names)


def _pixels() -> Any:
    from sklearn.preprocessing import FunctionTransformer

    return FunctionTransformer(lambda images: np.stack([np.asarray(i, dtype=float)[::2, ::2].ravel() for i in images]))


def _words() -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(min_df=2)


def _figures() -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    def figures(series: Any) -> np.ndarray:
        return np.stack([np.concatenate([s.mean(axis=0), s.std(axis=0)]) for s in series])

    return make_pipeline(FunctionTransformer(figures), StandardScaler())


FEATURES = {"image": _pixels, "text": _words, "series": _figures}
