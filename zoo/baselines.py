"""The scikit-learn model each specimen is held against, fitted on the same train split; its strength is picked on validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from zoo.data import Data, stratified

Scores = Callable[[Any], np.ndarray]


def flat(inputs: Any) -> np.ndarray:
    """Each input as one row of its numbers, ``(n, columns)``."""
    return np.stack([np.ravel(one) for one in (inputs.to_numpy() if hasattr(inputs, "to_numpy") else inputs)])


def pixels(data: Data) -> tuple[str, Scores]:
    """Support vector machine with a Gaussian kernel on the pixels."""
    from sklearn.svm import SVC

    picked = best(data, [SVC(C=c, gamma=g) for c in (3, 10) for g in (0.01, 0.02, 0.03)], flat)

    name = f"SVM on pixels (C={picked.C}, gamma={picked.gamma})"
    return name, scaled(data, lambda images: picked.decision_function(flat(images)))


def kernel(data: Data) -> tuple[str, Scores]:
    """Ridge classification on a Gaussian kernel's Nystroem features: what an SVM on pixels comes to where the images are many."""
    from sklearn.kernel_approximation import Nystroem
    from sklearn.linear_model import RidgeClassifier
    from sklearn.pipeline import make_pipeline

    options = [make_pipeline(Nystroem(gamma=g, n_components=2000, random_state=0), RidgeClassifier(alpha=0.1)) for g in (0.01, 0.02)]
    picked = best(data, options, flat)
    name = f"ridge classifier on 2,000 kernel features (gamma={picked[0].gamma})"
    return name, scaled(data, lambda images: picked.decision_function(flat(images)))


def scaled(data: Data, margins: Scores) -> Scores:
    """Probabilities of a model that has only margins: scaled to fit validation best, which leaves its predictions as they are."""
    from scipy.special import softmax
    from sklearn.metrics import log_loss

    def decided(inputs: Any) -> np.ndarray:
        found = margins(inputs)
        return found if found.ndim == 2 else np.stack([-found, found], axis=1)

    held = decided(data.validation.inputs)
    scale = min(np.geomspace(0.3, 30, 41), key=lambda s: log_loss(data.validation.labels, softmax(s * held, axis=1)))
    return lambda inputs: softmax(scale * decided(inputs), axis=1)


def padded(data: Data) -> tuple[str, Scores]:
    """Logistic regression on the standardised series, padded with zeros to the longest."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    longest = max(len(one) for split in (data.train, data.validation, data.test) for one in split.inputs)

    def equal(series: Sequence[np.ndarray]) -> np.ndarray:
        return flat([np.pad(one, ((0, longest - len(one)), (0, 0))) for one in series])

    picked = best(data, [make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2000)) for c in (0.01, 0.1, 1.0, 10.0)], equal)
    return f"logistic regression on padded series (C={picked[-1].C})", lambda series: picked.predict_proba(equal(series))


def words(
    data: Data, metric: str = "", weights: Sequence[Any] = (None,), strengths: Sequence[float] = (3.0, 10.0, 30.0, 100.0)
) -> tuple[str, Scores]:
    """TF-IDF of words and word pairs with logistic regression."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectors = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True).fit(data.train.inputs)
    options = [LogisticRegression(C=c, class_weight=w, max_iter=2000) for w in weights for c in strengths]
    picked = best(data, options, vectors.transform, metric)
    weighted = "" if picked.class_weight is None else ", weighted classes"
    return f"TF-IDF + logistic regression (C={picked.C:g}{weighted})", lambda texts: picked.predict_proba(vectors.transform(texts))


def words_by_f1(data: Data) -> tuple[str, Scores]:
    """The same, picked by macro F1 among strengths and class weights: none, the inverse of the share, its root."""
    sizes = np.bincount(data.train.labels)
    root = {label: float(weight) for label, weight in enumerate(np.sqrt(sizes.sum() / len(sizes) / sizes))}
    return words(data, "macro_f1", (None, "balanced", root))


def words_evenly(data: Data) -> tuple[str, Scores]:
    """The same at one strength, classes weighing alike: a teacher for :func:`unseen`."""
    return words(data, "macro_f1", ("balanced",), (30.0,))


def unseen(teacher: Callable[[Data], tuple[str, Scores]], data: Data, parts: int = 5) -> np.ndarray:
    """What ``teacher`` tells of each training row when fitted on the other parts of train only (Wolpert 1992): probabilities
    ``(n, classes)``.
    """
    found = np.zeros((len(data.train), len(data.class_names)))
    for rows in stratified(data.train.labels, (1,) * parts):
        others = np.setdiff1d(np.arange(len(data.train)), rows)
        found[rows] = teacher(replace(data, train=data.train.take(others)))[1](data.train.take(rows).inputs)
    return found


def boosting(data: Data) -> tuple[str, Scores]:
    """Gradient boosting on the raw columns; missing values and categories as they are."""
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    words = [name for name in data.train.inputs.columns if data.train.inputs[name].dtype.kind not in "fiub"]
    options = [
        make_pipeline(
            make_column_transformer((OneHotEncoder(handle_unknown="ignore", sparse_output=False), words), remainder="passthrough"),
            HistGradientBoostingClassifier(learning_rate=rate, max_iter=trees, max_leaf_nodes=leaves, random_state=0),
        )
        for rate, trees in ((0.1, 100), (0.05, 100), (0.03, 150))
        for leaves in (4, 8, 31)
    ]
    picked = best(data, options, lambda frame: frame)
    chosen = picked[-1]
    name = f"gradient boosting (rate {chosen.learning_rate}, {chosen.max_iter} trees of {chosen.max_leaf_nodes} leaves)"
    return name, picked.predict_proba


def windows(data: Data) -> tuple[str, Scores]:
    """Gradient boosting on the samples of series of one length."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    options = [HistGradientBoostingClassifier(learning_rate=0.1, max_iter=trees, random_state=0) for trees in (50, 150)]
    picked = best(data, options, flat, "balanced_accuracy")

    def scores(series: Sequence[np.ndarray]) -> np.ndarray:
        found = np.zeros((len(series), len(data.class_names)))  # a class that train does not have is never told
        found[:, picked.classes_] = picked.predict_proba(flat(series))
        return found

    return f"gradient boosting on the samples ({picked.max_iter} iterations, balanced classes)", scores


def logistic(data: Data) -> tuple[str, Scores]:
    """Logistic regression on the standardised columns, pixels or samples."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    picked = best(data, [make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2000)) for c in (0.01, 0.1, 1.0)], flat)
    return f"logistic regression (C={picked[-1].C})", lambda inputs: picked.predict_proba(flat(inputs))


def logistic_filled(data: Data) -> tuple[str, Scores]:
    """Logistic regression on the standardised columns, medians in the place of missing values, which are marked."""
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    filled = SimpleImputer(strategy="median", add_indicator=True)
    options = [make_pipeline(filled, StandardScaler(), LogisticRegression(C=c, max_iter=2000)) for c in (0.01, 0.1, 1.0)]
    picked = best(data, options, lambda frame: frame)
    return f"logistic regression (C={picked[-1].C})", picked.predict_proba


def ridge(data: Data) -> tuple[str, Scores]:
    """Ridge regression on the standardised columns."""
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    picked = best(data, [make_pipeline(StandardScaler(), Ridge(alpha)) for alpha in (0.1, 1.0, 10.0, 100.0)], lambda frame: frame)
    return f"ridge regression (alpha={picked[-1].alpha})", lambda frame: picked.predict(frame)[:, None]


def mixture(data: Data) -> tuple[str, dict[str, np.ndarray]]:
    """The bound that a VAE has, of a mixture of Bernoulli pixels instead, for every test picture."""
    name, likelihood = bernoulli(data)
    return name, {"elbo": likelihood(data.test.inputs)}


def bernoulli(data: Data, components: Sequence[int] = (1, 10, 30, 100), rounds: int = 60) -> tuple[str, Scores]:
    """A mixture of Bernoulli pixels by EM, its number of components picked on validation; from images to nats ``(n,)``.

    The log likelihood is log sum_k w_k prod p_k^x (1 - p_k)^(1 - x). Grey x stands for black-and-white pictures whose pixels are
    white with probability x, and the formula bounds their mean.
    """
    from scipy.special import logsumexp

    def grey(images: np.ndarray) -> np.ndarray:
        return flat(images).astype(np.float64)

    def joint(x: np.ndarray, weights: np.ndarray, p: np.ndarray) -> np.ndarray:
        return np.log(weights) + x @ np.log(p).T + (1 - x) @ np.log1p(-p).T

    def fitted(k: int) -> tuple[np.ndarray, np.ndarray]:
        x = grey(data.train.inputs)
        shares = np.eye(k)[np.random.default_rng(0).integers(0, k, len(x))]
        for _ in range(rounds):
            sizes = shares.sum(0)
            # Half a white and half a black picture seen beforehand in each component: no pixel is ruled out.
            weights, p = (sizes + 1) / (sizes + 1).sum(), (shares.T @ x + 0.5) / (sizes + 1)[:, None]
            parts = joint(x, weights, p)
            shares = np.exp(parts - logsumexp(parts, axis=1, keepdims=True))
        return weights, p

    found = {k: fitted(k) for k in components}
    k = max(components, key=lambda k: logsumexp(joint(grey(data.validation.inputs), *found[k]), axis=1).mean())
    return f"mixture of {k} Bernoulli pictures by EM", lambda images: logsumexp(joint(grey(images), *found[k]), axis=1)


def uniform(data: Data) -> tuple[str, Scores]:
    """The same probability for every class: where there is nothing to train on."""
    classes = len(data.class_names)
    return "a guess among all classes", lambda inputs: np.full((len(inputs), classes), 1 / classes)


def best(data: Data, options: Sequence[Any], features: Callable[[Any], Any], metric: str = "") -> Any:
    """Fit every option on train and keep the one that is best on validation by ``metric``: "accuracy", "macro_f1", "balanced_accuracy"
    (classes then weigh alike in fitting too), else ROC AUC for two classes, accuracy for more, R2 for numbers.
    """
    from sklearn import metrics as judged
    from sklearn.utils.class_weight import compute_sample_weight

    x, y = features(data.train.inputs), data.train.labels
    held, truth = features(data.validation.inputs), data.validation.labels
    fitting = {"sample_weight": compute_sample_weight("balanced", y)} if metric == "balanced_accuracy" else {}

    def score(model: Any) -> float:
        model.fit(x, y, **fitting)
        if metric == "balanced_accuracy":
            return float(judged.balanced_accuracy_score(truth, model.predict(held)))
        if metric == "macro_f1":
            return float(judged.f1_score(truth, model.predict(held), average="macro"))
        if metric == "accuracy" or len(data.class_names) != 2:
            return float(model.score(held, truth))
        margin = model.decision_function(held) if hasattr(model, "decision_function") else model.predict_proba(held)[:, 1]
        return float(judged.roc_auc_score(truth, margin))

    return max(options, key=score)
