"""What one dashboard serves: its models, the store and the jobs; and the questions that can be put to them."""

from __future__ import annotations

import datetime
import io
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import explainer
from dashboard.exhibit import Exhibit, exhibit_of
from dashboard.importance import Importance, Picture, summarised
from dashboard.jobs import Jobs, Progress, Task
from dashboard.predictions import Predictions
from dashboard.store import Store
from dashboard.view import View
from explainer import inputs as inputs_
from explainer.errors import ExplainerError, InvalidInput, unknown
from explainer.inspection.network import layers_for
from explainer.inspection.views import views
from explainer.methods import METHODS
from explainer.model import Capability, Model

if TYPE_CHECKING:
    from explainer.inspection.activations import Activations

# Which two methods are shown first, per kind of input: one exact where there is one, beside one that works differently.
FIRST: Mapping[str, tuple[str, ...]] = {
    "tabular": ("shap", "integrated_gradients", "lime"),
    "image": ("integrated_gradients", "shap", "lime", "saliency"),
    "text": ("integrated_gradients", "shap", "lime", "attention"),
    "series": ("integrated_gradients", "shap", "lime", "saliency"),
}
SEED = 0
WATCHED = 256  # rows that the layers are watched on
NEAR = 600  # rows that a partner is looked for among


@dataclass(frozen=True)
class Written:
    """A report: its files by kind ("zip" holds all), the worst outcome, what failed and what was not assessed, each with its words,
    and the sha256 of its manifest.
    """

    files: Mapping[str, bytes]
    status: str
    failed: tuple[tuple[str, str], ...]
    not_assessed: tuple[tuple[str, str], ...]
    sha256: str


@dataclass(frozen=True)
class Watched:
    """What layers did, and the rows of the test set they did it on."""

    found: Activations
    rows: np.ndarray


@dataclass(frozen=True)
class Looked:
    """What each method is on a model, at which layers it can look, what was found in the module, and which views there are of it."""

    methods: Mapping[str, Capability]
    layers: Mapping[str, tuple[str, ...]]
    facts: tuple[tuple[str, str, str], ...]
    views: Mapping[str, Capability]


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

    @property
    def lacking(self) -> dict[str, str]:
        """The models that cannot be opened here, each with the sentence that says why and what to do."""
        return {name: sentence for name, exhibit in self.exhibits.items() if (sentence := exhibit.lacks())}

    def exhibit(self, name: str) -> Exhibit:
        """The model called ``name``; the first that can be opened when ``name`` is empty. Raises UnknownName."""
        if not name:
            every = list(self.exhibits.values())
            return next((one for one in every if not one.lacks()), every[0])
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

    def explanation(
        self, exhibit: Exhibit, inputs: Any, method: str, target: int | str, label: str, layer: str = "", output: str = "auto",
        budget: int | None = None,
    ) -> Task:  # fmt: skip
        """One explanation of one input. The key holds all it depends on, so equal questions meet."""
        at = _at(method, layer) | ({"budget": budget} if budget else {})

        def work(progress: Progress) -> Any:
            with exhibit.model() as model:
                return explainer.explain(model, inputs, method=method, target=target, output=output, seed=SEED, progress=progress, **at)

        key = ("explanation", exhibit.name, exhibit.sha, method, *at.items(), target, output, inputs_.sha256(inputs), SEED)
        return Task(key, f"{titled(method, layer)} for {label} of {exhibit.name}", work)

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
        return spread(len(exhibit.inputs), self.sample_size(exhibit))

    def importance(self, exhibit: Exhibit, method: str) -> Task:
        """What drives the model over the sample, by one method."""
        rows = self.sample(exhibit)

        def work(progress: Progress) -> Importance | Picture:
            with exhibit.model() as model:
                ex = explainer.explain(model, inputs_.take(exhibit.inputs, rows), method=method, seed=SEED, verify=False, progress=progress)
            return summarised(ex)

        key = ("importance", exhibit.name, exhibit.sha, exhibit.data_sha, method, len(rows), SEED)
        return Task(key, f"{METHODS[method].title} over {len(rows)} rows of {exhibit.name}", work)

    def dependence(self, exhibit: Exhibit, column: str, kind: str) -> Task:
        """How the score follows one column over the test set."""

        def work(progress: Progress) -> Any:
            with exhibit.model() as model:
                return explainer.partial_dependence(model, exhibit.inputs, column, kind=kind, seed=SEED, progress=progress)

        key = ("dependence", exhibit.name, exhibit.sha, exhibit.data_sha, column, kind, SEED)
        return Task(key, f"How {exhibit.name} follows {column}", work)

    def agreement(self, exhibit: Exhibit, *pair: tuple[str, str]) -> Task:
        """How far two methods, each with the layer it looks at, agree over the sample: one line per row."""
        rows = self.sample(exhibit)
        pair = tuple(sorted(pair))

        def work(progress: Progress) -> Any:
            inputs, found = inputs_.take(exhibit.inputs, rows), []
            with exhibit.model() as model:
                for k, (method, layer) in enumerate(pair):
                    half, at = _half(progress, k), _at(method, layer)
                    found.append(explainer.explain(model, inputs, method=method, seed=SEED, verify=False, progress=half, **at))
            frame = explainer.compare(found)
            frame["row"] = rows[frame["instance"].to_numpy()]
            return frame

        key = ("agreement", exhibit.name, exhibit.sha, exhibit.data_sha, *pair, len(rows), SEED)
        return Task(key, f"{titled(*pair[0])} beside {titled(*pair[1])} on {len(rows)} rows of {exhibit.name}", work)

    def heads(self, exhibit: Exhibit) -> Task:
        """What each attention head is worth to the predicted class, over the sample."""
        rows = self.sample(exhibit)

        def work(progress: Progress) -> Any:
            from explainer.inspection.heads import head_importance

            with exhibit.model() as model:
                return head_importance(model, inputs_.take(exhibit.inputs, rows), progress=progress)

        key = ("heads", exhibit.name, exhibit.sha, exhibit.data_sha, len(rows))
        return Task(key, f"Attention heads of {exhibit.name} over {len(rows)} rows", work)

    def activations(self, exhibit: Exhibit) -> Task:
        """What each layer does over rows spread evenly over the test set."""
        rows = spread(len(exhibit.inputs), WATCHED)

        def work(progress: Progress) -> Any:
            with exhibit.model() as model:
                found = explainer.activations(model, inputs_.take(exhibit.inputs, rows), seed=SEED, progress=progress)
            return Watched(found, rows)

        key = ("activations", exhibit.name, exhibit.sha, exhibit.data_sha, len(rows), SEED)
        return Task(key, f"Layers of {exhibit.name} over {len(rows)} rows", work)

    def visualisation(self, exhibit: Exhibit, layer: str, unit: int) -> Task:
        """An image that excites one unit."""

        def work(progress: Progress) -> Any:
            with exhibit.model() as model:
                return explainer.visualise(model, layer, unit, seed=SEED, progress=progress)

        return Task(
            ("visualisation", exhibit.name, exhibit.sha, layer, unit, SEED), f"An image for {layer}[{unit}] of {exhibit.name}", work
        )

    def lens(self, exhibit: Exhibit, row: int) -> Task:
        """What the model would say of one row after each layer."""

        def work(progress: Progress) -> Any:
            with exhibit.model() as model:
                return explainer.logit_lens(model, exhibit.row(row), progress=progress)

        return Task(("lens", exhibit.name, exhibit.sha, exhibit.data_sha, row), f"Row {row} of {exhibit.name} through its layers", work)

    def patching(self, exhibit: Exhibit, row: int, other: int) -> Task:
        """Where the difference between two rows is decided."""

        def work(progress: Progress) -> Any:
            with exhibit.model() as model:
                return explainer.patch(model, exhibit.row(row), exhibit.row(other), progress=progress)

        key = ("patching", exhibit.name, exhibit.sha, exhibit.data_sha, row, other)
        return Task(key, f"Row {row} patched into row {other} of {exhibit.name}", work)

    def partner(self, exhibit: Exhibit, row: int) -> int | None:
        """The next row as long as ``row``, of another predicted class where there is one; None where none is near."""
        from explainer.inspection.patching import alike

        predictions, n = self.predictions(exhibit), len(exhibit.inputs)
        following = ((row + step) % n for step in range(1, min(n, NEAR)))
        fitting = (i for i in following if alike(exhibit.face, exhibit.row(row), exhibit.row(i)))
        first = next(fitting, None)
        if first is None or predictions.regression:
            return first
        other = predictions.predicted != predictions.predicted[row]
        return next((i for i in (first, *fitting) if other[i]), first)

    def ablation(self, exhibit: Exhibit, layer: str, unit: int) -> Task:
        """How every score changes over the sample when one unit is taken out."""
        rows = self.sample(exhibit)

        def work(progress: Progress) -> Any:
            with exhibit.model() as model:
                return explainer.ablate(model, inputs_.take(exhibit.inputs, rows), layer, [unit], progress=progress)

        key = ("ablation", exhibit.name, exhibit.sha, exhibit.data_sha, layer, unit, len(rows))
        return Task(key, f"{exhibit.name} without {layer}[{unit}]", work)

    def report(self, exhibit: Exhibit, profile: str, favourable: str = "") -> Task:
        """The audit report on the test set, as files in memory; ``favourable`` is the class that is good for the person, if named."""
        date = datetime.datetime.now(datetime.UTC).date()

        def work(progress: Progress) -> Written:
            train = exhibit.train
            reference = {} if train is None else {"reference": exhibit.face.canonical(train.inputs), "reference_labels": train.labels}
            with tempfile.TemporaryDirectory() as folder, exhibit.model() as model:
                out = Path(folder) / "report"
                made = explainer.audit(
                    model, exhibit.inputs, exhibit.labels, profile=profile, favourable=favourable or None, groups=exhibit.groups,
                    units=exhibit.units, seed=SEED, out=out, name=exhibit.name, card=exhibit.card or None,
                    record=exhibit.record or None, date=date, progress=progress, **reference,
                )  # fmt: skip
                files = {path.suffix[1:]: path.read_bytes() for path in (made.html, made.pdf, made.json) if path is not None}
                files["zip"] = zipped(out)
            failed = tuple((one["topic"], one["text"]) for one in made.evidence["outcomes"] if one["status"] == "fail")
            open_ = tuple((one["topic"], one["reason"]) for one in made.evidence["not_assessed"])
            return Written(files, made.status, failed, open_, made.manifest_sha256)

        key = ("report", exhibit.name, exhibit.sha, exhibit.data_sha, profile, favourable, date.isoformat(), SEED)
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
        """Every method with what it can be on this model."""
        return self._looked(exhibit).methods

    def layers(self, exhibit: Exhibit, method: str) -> tuple[str, ...] | None:
        """The layers that a method can look at on this model; None where it takes none."""
        return self._looked(exhibit).layers.get(method)

    def facts(self, exhibit: Exhibit) -> tuple[tuple[str, str, str], ...]:
        """What was found in the module that matters to explanations: what, where, and what it means."""
        return self._looked(exhibit).facts

    def views(self, exhibit: Exhibit) -> Mapping[str, Capability]:
        """What can be looked at inside this model, and what each is on it."""
        return self._looked(exhibit).views

    def _looked(self, exhibit: Exhibit) -> Looked:
        """What is known of a model before anything is explained; it is looked at once."""
        key = ("looked", exhibit.name)
        held = self.store.get(key)
        if held is None:
            with exhibit.model() as model:
                held = look(model)
            self.store.put(key, held)
        return held

    def close(self) -> None:
        self.jobs.close()


def look(model: Model) -> Looked:
    """What is known of a model before anything is explained."""
    able = dict(model.capabilities())
    layers: dict[str, tuple[str, ...]] = {}
    by_kind: dict[bool, tuple[str, ...]] = {}
    for name in (name for name, found in able.items() if found.level != "unsupported" and METHODS[name].layer is not None):
        maps = METHODS[name].family == "cam"
        if maps not in by_kind:
            try:
                by_kind[maps] = layers_for(model, name) or ()
            except ExplainerError:  # then the method's own choice is the only one
                by_kind[maps] = ()
        layers[name] = by_kind[maps]
    facts = model.anatomy().facts if hasattr(model, "anatomy") else ()
    return Looked(able, layers, tuple((fact.what, fact.where, fact.consequence) for fact in facts), views(model))


def _at(method: str, layer: str) -> dict[str, Any]:
    """The argument that says where a method looks, for a method that takes it."""
    return {"layer": layer} if layer and method in METHODS and METHODS[method].layer is not None else {}


def titled(method: str, layer: str = "") -> str:
    """A method's name for people, with the layer it looks at."""
    title = METHODS[method].title if method in METHODS else method
    return f"{title} at {layer}" if _at(method, layer) else title


def spread(n: int, count: int) -> np.ndarray:
    """At most ``count`` of ``n`` rows, evenly."""
    return np.unique(np.linspace(0, n - 1, min(n, count)).round().astype(int))


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
