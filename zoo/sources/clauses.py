"""Clauses of terms of service: fair, or in which way unfair to the consumer (ToS-100)."""

from __future__ import annotations

import numpy as np

from zoo.data import Data, Split, stratified
from zoo.sources.licences import augment as augment
from zoo.sources.licences import unlike
from zoo.sources.official import locate

SOURCE = "ToS-100 (Ruggeri, Lagioia, Lippi and Torroni 2021)"
RULE = "of texts that are nearly the same the first is kept; stratified by fair or not with seed 0: 70 % train, 10 % validation, 20 % test"
# The data's REMOVE_CONTENT, UNBALANCED_DELECRATION, TERMINATE_CONTRACT and OTHER, by what their clauses say.
CLASSES = ("fair", "content removal", "limited liability", "change or termination", "other unfair")
MERGED = {"fair": (0,), "unfair": (1, 2, 3, 4)}  # for whoever asks no more than whether


def load() -> Data:
    """Clauses as texts, each of one of the classes."""
    import pandas as pd

    frame = pd.read_csv(locate("clauses"))
    frame["text"] = frame["text"].astype(str).str.split().str.join(" ")
    frame = frame[frame["text"].str.len() > 0].drop_duplicates("text")
    table = unlike(list(zip(frame["text"], frame["label"], strict=True)))
    texts, labels = [text for text, _ in table], np.array([label for _, label in table], dtype=np.int64)
    train, validation, test = (Split([texts[i] for i in rows], labels[rows]) for rows in stratified(labels > 0, (0.7, 0.1, 0.2)))
    return Data(train, validation, test, CLASSES, SOURCE, RULE)


def background(data: Data) -> None:
    """None: a word is taken out by the mask token."""
