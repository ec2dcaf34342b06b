"""One model on the dashboard: loaded when first needed, with its test data and copies of the model for parallel work."""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import explainer
from dashboard.predictions import CHUNK, Predictions
from explainer import inputs as inputs_
from explainer.errors import InvalidInput, unknown
from explainer.sources import made

if TYPE_CHECKING:
    import pandas as pd

    from explainer.model import Model

log = logging.getLogger(__name__)


class Test(NamedTuple):
    """What the model is looked at on: canonical inputs, and what came with them."""

    inputs: Any
    labels: np.ndarray | None = None
    groups: pd.DataFrame | None = None
    units: pd.Series | None = None


class Exhibit:
    """A specimen (anything with ``.model``, perhaps ``.data``, ``.card``, ``.record``) or a bare Model, made ready to be asked.

    ``source`` is the object or a function that loads it; loading happens once, at the first use, on a worker thread. ``lacks()``
    says what is not on this machine and what to do, or nothing.
    """

    def __init__(self, name: str, source: Any, lacks: Callable[[], str] = lambda: "") -> None:
        self.name = name
        self.lacks = lacks
        self._load: Callable[[], Any] | None = source if callable(source) and not hasattr(source, "scores") else None
        self._specimen = None if self._load else source
        self._lock = threading.RLock()
        self._free: SimpleQueue[Model] = SimpleQueue()
        self._copies = True
        self._sha: str | None = None
        self._data_sha: str | None = None
        self._test: Test | None = None

    @property
    def loaded(self) -> bool:
        return self._specimen is not None

    @property
    def specimen(self) -> Any:
        with self._lock:
            if self._specimen is None:
                assert self._load is not None
                self._specimen = self._load()
            return self._specimen

    @property
    def face(self) -> Model:
        """The model, for its names and modality only; borrow :meth:`model` to run it."""
        specimen = self.specimen
        return specimen if hasattr(specimen, "scores") else specimen.model

    @property
    def sha(self) -> str:
        with self._lock:
            if self._sha is None:
                self._sha = self.face.fingerprint()
            return self._sha

    @property
    def data_sha(self) -> str:
        """A digest of the test set: inputs and labels."""
        with self._lock:
            if self._data_sha is None:
                labels = "" if self.labels is None else inputs_.sha256([self.labels])
                self._data_sha = f"{inputs_.sha256(self.inputs)}{labels}"
            return self._data_sha

    @property
    def card(self) -> str:
        return str(getattr(self.specimen, "card", "") or "")

    @property
    def record(self) -> dict[str, Any]:
        record = getattr(self.specimen, "record", None)
        return dict(record) if record else {}

    @property
    def columns(self) -> dict[str, str]:
        """What each column means, where the data says so."""
        return dict(getattr(getattr(self.specimen, "data", None), "columns", None) or {})

    @contextmanager
    def model(self) -> Iterator[Model]:
        """A copy of the model nobody else runs meanwhile: methods put hooks and modes on it, which must not meet.

        A model that cannot be copied is lent to one at a time.
        """
        borrowed = self._borrow()
        try:
            yield borrowed
        finally:
            self._free.put(borrowed)

    def _borrow(self) -> Model:
        try:
            return self._free.get_nowait()
        except Empty:
            pass
        with self._lock:
            if self._copies:
                try:
                    return copy.deepcopy(self.face)
                except Exception as error:  # whatever a user's object does when it is copied
                    log.warning("%s cannot be copied (%s); its work is done one at a time", self.name, error)
                    self._copies = False
                    return self.face
        return self._free.get()

    @property
    def inputs(self) -> Any:
        """Canonical test inputs; the model's background rows when it came without data."""
        return self._tests().inputs

    @property
    def labels(self) -> np.ndarray | None:
        return self._tests().labels

    @property
    def groups(self) -> pd.DataFrame | None:
        return self._tests().groups

    @property
    def units(self) -> pd.Series | None:
        """Whom each test row is of, where rows of one are alike; else None."""
        return self._tests().units

    @property
    def train(self) -> Any | None:
        """The training split (``.inputs``, ``.labels``), or None where there is none or it is empty (others trained the model)."""
        found = getattr(getattr(self.specimen, "data", None), "train", None)
        return None if found is None or not len(found.inputs) else found

    def row(self, index: int) -> Any:
        """Row ``index`` of the test set, as a batch of one."""
        return inputs_.take(self.inputs, [index])

    def _tests(self) -> Test:
        with self._lock:
            if self._test is None:
                self._test = self._read()
            return self._test

    def _read(self) -> Test:
        test = getattr(getattr(self.specimen, "data", None), "test", None)
        if test is None:
            background = self.face.background
            if background is None:
                raise InvalidInput(
                    f"{self.name} came without data, so there are no rows to show. Let the factory return an object with .model and "
                    ".data.test (.inputs, .labels), or give the model a background."
                )
            return Test(background)
        labels = getattr(test, "labels", None)
        inputs = self.face.canonical(test.inputs)
        if labels is not None and len(labels) != len(inputs):
            raise InvalidInput(f"{self.name} has {len(inputs)} test inputs but {len(labels)} labels; they must be equally many.")
        indices = None if labels is None else self._indices(np.asarray(labels))
        return Test(inputs, indices, getattr(test, "groups", None), getattr(test, "units", None))

    def _indices(self, labels: np.ndarray) -> np.ndarray:
        """Labels as class indices, whether they came as indices or as names; numbers of a regression as they are."""
        face = self.face
        if face.task == "regression":
            return labels.astype(float)
        if labels.dtype.kind in "iub":
            wrong = labels[(labels.astype(int) < 0) | (labels.astype(int) >= len(face.class_names))]
            found = labels.astype(np.int64)
        else:
            place = {name: k for k, name in enumerate(face.class_names)}
            wrong = np.array([label for label in labels if str(label) not in place])
            found = np.array([place.get(str(label), 0) for label in labels], dtype=np.int64)
        if len(wrong):
            raise InvalidInput(
                f"{len(wrong)} labels of {self.name} are no class of the model, the first is {str(wrong[0])[:60]!r}; labels are class "
                f"indices 0 to {len(face.class_names) - 1} or names: {', '.join(face.class_names[:12])}."
            )
        return found

    def named(self, labels: Any) -> Any:
        """Class indices as the names people know; anything else as it is."""
        if labels is None or self.face.task == "regression":
            return labels
        given = np.asarray(labels)
        return np.array(self.face.class_names)[given] if given.dtype.kind in "iu" else given

    def predict(self, progress: Callable[[int, int], None]) -> Predictions:
        """Score the whole test set, in chunks, so that it can be watched and stopped."""
        inputs, face = self.inputs, self.face
        n, parts = len(inputs), []
        progress(0, n)
        with self.model() as model:
            for start in range(0, n, CHUNK):
                parts.append(model.scores(inputs_.take(inputs, slice(start, start + CHUNK))))
                progress(min(start + CHUNK, n), n)
        return Predictions(np.concatenate(parts), self.labels, face.class_names, face.task == "regression")


def exhibit_of(given: Any) -> Exhibit:
    """An exhibit from what a person named: a zoo name, ``zoo:NAME``, ``file.py:factory``, a Model or a specimen.

    A zoo specimen is loaded when it is first opened; a file is run now, so that its mistakes are seen at the start.
    """
    if isinstance(given, Exhibit):
        return given
    if isinstance(given, str):
        import zoo

        name = given.removeprefix("zoo:")
        if given.startswith("zoo:") or ":" not in given:
            if name not in zoo.names():
                raise unknown("model", given, (*zoo.names(), "path/to/file.py:factory"))
            return Exhibit(name, lambda: zoo.load(name), lambda: zoo.missing(name))
        given = _wrapped(made(given))
    model = given if hasattr(given, "scores") else getattr(given, "model", None)
    if model is None or not hasattr(model, "scores"):
        raise InvalidInput(
            f"A dashboard shows a zoo name, an explainer.Model, or an object with .model (and .data); {type(given).__name__} came."
        )
    return Exhibit(str(getattr(given, "name", None) or model.name), given)


def _wrapped(given: Any) -> Any:
    """A Model or a specimen as it is; anything else behind the Model face."""
    return given if hasattr(given, "scores") or hasattr(getattr(given, "model", None), "scores") else explainer.wrap(given)
