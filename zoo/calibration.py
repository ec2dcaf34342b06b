"""Probabilities that mean what they say: temperature scaling, and sets of classes that hold the right one as often as promised."""

from __future__ import annotations

import numpy as np

from explainer.errors import InvalidInput


def temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The T > 0 that makes softmax(logits / T) fit the labels best: the least mean negative log likelihood (Guo et al. 2017).

    A share 1 / (n + 2) of each label is spread over the classes (Platt 1999): where every held-out row is right, the best T would
    be 0 and every probability 1, which n rows cannot know.

    ``logits``: ``(n, classes)`` on rows the model was not trained on; ``labels``: ``(n,)``. Above 1, the model was too sure.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    logits, labels = _pair(logits, labels)
    spread = 1 / (len(labels) + 2)
    own = (1 - spread) * logits[np.arange(len(labels)), labels] + spread * logits.mean(1)

    def loss(log_t: float) -> float:
        t = np.exp(log_t)
        return float(np.mean(logsumexp(logits / t, axis=1) - own / t))

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded").x))


def scaled(logits: np.ndarray, t: float) -> np.ndarray:
    """softmax(logits / t), ``(n, classes)``."""
    from scipy.special import softmax

    return softmax(_finite(logits) / t, axis=1)


def conformal_threshold(probabilities: np.ndarray, labels: np.ndarray, miss: float = 0.1) -> float:
    """The least probability a class needs to enter the set, so that at most ``miss`` of sets lack the right class.

    Split conformal prediction (Vovk et al. 2005; Sadinle et al. 2019): with scores 1 - p(label) on n held-out rows, their
    ceil((n + 1)(1 - miss)) / n quantile q gives sets {k : p(k) >= 1 - q} that hold the label with probability at least 1 - miss,
    if new rows are exchangeable with these. Raises InvalidInput where n is too small for the promise.

    The threshold is one of the probabilities itself, so that rows tied with it are in by the same comparison.
    """
    probabilities, labels = _pair(probabilities, labels)
    if not 0 < miss < 1:
        raise InvalidInput(f"miss must lie between 0 and 1; {miss} came.")
    n = len(labels)
    place = int(np.ceil((n + 1) * (1 - miss)))
    if place > n:
        raise InvalidInput(f"{n} rows cannot promise to miss no more than {miss:g}; at least {int(np.ceil(1 / miss)) - 1} are needed.")
    return float(np.sort(probabilities[np.arange(n), labels])[n - place])


def conformal_sets(probabilities: np.ndarray, threshold: float) -> np.ndarray:
    """``(n, classes)`` bool: which classes each row's set holds; never none: the likeliest is always in it."""
    probabilities = _finite(probabilities)
    sets = probabilities >= threshold
    sets[np.arange(len(sets)), probabilities.argmax(1)] = True
    return sets


def _finite(scores: np.ndarray) -> np.ndarray:
    scores = np.asarray(scores, dtype=float)
    if not np.isfinite(scores).all():
        strange = int((~np.isfinite(scores)).any(axis=tuple(range(1, scores.ndim))).sum())
        raise InvalidInput(f"Scores must be finite; NaN or infinity came in {strange} of {len(scores)} rows. Leave them out, or clip.")
    return scores


def _pair(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores, labels = _finite(scores), np.asarray(labels, dtype=int)
    if scores.ndim != 2 or len(scores) != len(labels) or not len(labels):
        raise InvalidInput(f"Scores (n, classes) and n labels are needed; {scores.shape} and {labels.shape} came.")
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise InvalidInput(f"Labels are class indices 0 to {scores.shape[1] - 1}; {labels.min()} to {labels.max()} came.")
    return scores, labels
