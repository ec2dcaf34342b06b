"""What one dashboard serves: its models, the store and the jobs; and the questions that can be put to them."""

from __future__ import annotations

import datetime
import io
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import explainer
from dashboard.exhibit import Exhibit
from dashboard.importance import Importance, Picture, summarised
from dashboard.jobs import Jobs, Progress, Task
from dashboard.predictions import Predictions
from dashboard.store import Store
from dashboard.view import View
from explainer import inputs as inputs_
from explainer.errors import InvalidInput, unknown
from explainer.methods import METHODS
from explainer.model import Capability
from explainer.sources import made

# Which two methods are shown first, per kind of input: one exact where there is one, beside one that works differently.
FIRST: Mapping[str, tuple[str, ...]] = {
    "tabular": ("shap", "integrated_gradients", "lime"),
    "image": ("integrated_gradients", "shap", "lime", "saliency"),
    "text": ("integrated_gradients", "shap", "lime", "attention"),
    "series": ("integrated_gradients", "shap", "lime", "saliency"),
}
SEED = 0


@dataclass(frozen=True)
class Written:
    """A report: its files by kind ("zip" holds all), the worst outcome, how much failed, how much was not assessed."""

    files: Mapping[str, bytes]
    status: str
    failed: int
    not_assessed: int
    sha256: str


class Desk:
    """The models in the order given, one store, one set of jobs. Nothing here belongs to a person or a browser."""

    def __init__(self, specimens: Sequence[Any], *, store: Store | None = None, workers: int = 3) -> None:
        if not specimens:
            raise InvalidInput("No model came; name at least one, for example 'zoo:digits-cnn'.")
        self.exhibits: dict[str, Exhibit] = {}
        for given in specimens:
            exhibit = exhibit_of(given)
            name, k = exhibit.name, 2
            while exhibit.name in self.exhibits:
                exhibit.name, k = f"{name}-{k}", k + 1
            self.exhibits[exhibit.name] = exhibit
        self.store = store or Store()
        self.jobs = Jobs(self.store, workers=workers)

    @property
    def names(self) -> list[str]:
        return list(self.exhibits)

    def exhibit(self, name: str) -> Exhibit:
        """The model called ``name``; the first when ``name`` is empty. Raises UnknownName."""
        if not name:
            return next(iter(self.exhibits.values()))
        if name not in self.exhibits:
            raise unknown("model", name, self.exhibits)
        return self.exhibits[name]

    def predictions(self, exhibit: Exhibit) -> Predictions:
        """The scores of the test set, computed here and now if the store has let go of them."""
        task = self.scoring(exhibit)
        held = self.store.get(task.key)
        if held is None:
            held = task.work(lambda done, total: None)
            self.store.put(task.key, held)
        return held

    def scoring(self, exhibit: Exhibit) -> Task:
        return Task(("predictions", exhibit.name), f"Score the test set of {exhibit.name}", exhibit.predict, lasting=True)

    def explanation(self, exhibit: Exhibit, inputs: Any, method: str, target: int | str, label: str) -> Task:
        """One explanation of one input. The key holds all it depends on, so equal questions meet."""

        def work(progress: Progress) -> Any:
            with exhibit.model() as model:
                return explainer.explain(model, inputs, method=method, target=target, seed=SEED, progress=progress)

        key = ("explanation", exhibit.name, exhibit.sha, method, target, inputs_.sha256(inputs), SEED)
        title = METHODS[method].title if method in METHODS else method
        return Task(key, f"{title} for {label} of {exhibit.name}", work)

    def checking(self, exhibit: Exhibit) -> Task:
        """The data checks of the test set, against the training set where there is one."""

        def work(progress: Progress) -> Any:
            train = exhibit.train
            reference = {}
            if train is not None:
                reference = {"reference": exhibit.face.canonical(train.inputs), "reference_labels": exhibit.named(train.labels)}
            with exhibit.model() as model:
                return explainer.check(
                    exhibit.inputs,
                    exhibit.named(exhibit.labels),
                    modality=model.modality,
                    model=model,
                    groups=exhibit.groups,
                    progress=progress,
                    **reference,
                )

        return Task(("findings", exhibit.name, exhibit.sha, exhibit.data_sha), f"Check the data of {exhibit.name}", work, lasting=True)

    def found_rows(self, exhibit: Exhibit, check: str) -> set[int] | None:
        """The rows that a data check named, if it has run; None shows all rows."""
        findings = self.store.get(self.checking(exhibit).key) if check else None
        if findings is None:
            return None
        return {int(r) for f in findings if f.check == check for r in f.rows}

    def sample_size(self, exhibit: Exhibit) -> int:
        """How many rows the work over many rows takes: what answers in a minute or so."""
        return min(len(exhibit.inputs), {"tabular": 60, "image": 24, "text": 24, "series": 24}[exhibit.face.modality])

    def sample(self, exhibit: Exhibit) -> np.ndarray:
        """Rows spread evenly over the test set; the same ones every time."""
        return np.unique(np.linspace(0, len(exhibit.inputs) - 1, self.sample_size(exhibit)).round().astype(int))

    def importance(self, exhibit: Exhibit, method: str) -> Task:
        """What drives the model over the sample, by one method."""
        rows = self.sample(exhibit)

        def work(progress: Progress) -> Importance | Picture:
            with exhibit.model() as model:
                ex = explainer.explain(model, inputs_.take(exhibit.inputs, rows), method=method, seed=SEED, verify=False, progress=progress)
            return summarised(ex)

        key = ("importance", exhibit.name, exhibit.sha, exhibit.data_sha, method, len(rows), SEED)
        return Task(key, f"{METHODS[method].title} over {len(rows)} rows of {exhibit.name}", work)

    def agreement(self, exhibit: Exhibit, a: str, b: str) -> Task:
        """How far two methods agree over the sample: one line per row."""
        rows = self.sample(exhibit)
        a, b = sorted((a, b))

        def work(progress: Progress) -> Any:
            inputs, found = inputs_.take(exhibit.inputs, rows), []
            with exhibit.model() as model:
                for k, method in enumerate((a, b)):
                    half = _half(progress, k)
                    found.append(explainer.explain(model, inputs, method=method, seed=SEED, verify=False, progress=half))
            frame = explainer.compare(found)
            frame["row"] = rows[frame["instance"].to_numpy()]
            return frame

        key = ("agreement", exhibit.name, exhibit.sha, exhibit.data_sha, a, b, len(rows), SEED)
        return Task(key, f"{METHODS[a].title} beside {METHODS[b].title} on {len(rows)} rows of {exhibit.name}", work)

    def report(self, exhibit: Exhibit, profile: str) -> Task:
        """The audit report on the test set, as files in memory."""
        date = datetime.datetime.now(datetime.UTC).date()

        def work(progress: Progress) -> Written:
            train = exhibit.train
            reference = {} if train is None else {"reference": exhibit.face.canonical(train.inputs), "reference_labels": train.labels}
            with tempfile.TemporaryDirectory() as folder, exhibit.model() as model:
                out = Path(folder) / "report"
                made = explainer.audit(
                    model, exhibit.inputs, exhibit.labels, profile=profile, groups=exhibit.groups, seed=SEED, out=out, name=exhibit.name,
                    card=exhibit.card or None, record=exhibit.record or None, date=date, progress=progress, **reference,
                )  # fmt: skip
                files = {path.suffix[1:]: path.read_bytes() for path in (made.html, made.pdf, made.json) if path is not None}
                files["zip"] = zipped(out)
            failed = sum(1 for outcome in made.evidence.get("outcomes", ()) if outcome.get("status") == "fail")
            return Written(files, made.status, failed, len(made.not_assessed), made.evidence_sha256)

        key = ("report", exhibit.name, exhibit.sha, exhibit.data_sha, profile, date.isoformat(), SEED)
        return Task(key, f"Report on {exhibit.name} ({profile})", work, lasting=True)

    def filled(self, view: View, exhibit: Exhibit) -> View:
        """``view`` with every choice the address leaves open made: the first row in its order, two methods that are valid."""
        predictions = self.predictions(exhibit)
        row = view.row
        if row is None:
            order = predictions.ordered(view)
            row = int(order[0]) if len(order) else 0
        valid = self.methods(exhibit)
        usable = [m for m in FIRST[exhibit.face.modality] if m in valid and valid[m].level != "unsupported"]
        usable += [m for m, c in valid.items() if c.level != "unsupported" and m not in usable]
        a = view.a if view.a in valid else (usable[0] if usable else "")
        rest = [m for m in usable if m != a]
        b = view.b if view.b in valid else (rest[0] if rest else a)
        return replace(view, model=exhibit.name, row=row, a=a, b=b)

    def methods(self, exhibit: Exhibit) -> Mapping[str, Capability]:
        """Every method with what it can be on this model, asked once."""
        key = ("capabilities", exhibit.name)
        held = self.store.get(key)
        if held is None:
            with exhibit.model() as model:
                held = dict(model.capabilities())
            self.store.put(key, held)
        return held

    def close(self) -> None:
        self.jobs.close()


def _half(progress: Progress, k: int) -> Progress:
    """The progress of the ``k``-th of two equal parts."""
    return lambda done, total: progress(int(1000 * (k + done / max(total, 1)) / 2), 1000)


def zipped(folder: Path) -> bytes:
    """The files of ``folder`` in one archive, in a fixed order and with fixed times: same files, same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.writestr(zipfile.ZipInfo(str(path.relative_to(folder))), path.read_bytes(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


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
            return Exhibit(name, lambda: zoo.load(name))
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
