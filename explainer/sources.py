"""What the command line's words stand for: MODEL and INPUT, from a file, from the zoo, or typed as they are.

| word | stands for |
| --- | --- |
| ``zoo:NAME`` | a model another package offers (entry point group ``explainer.models``); as DATA its test rows |
| ``model.onnx`` | the graph, where what it takes and gives is certain |
| ``path/to/file.py:factory`` | what the function returns: a Model, or anything ``wrap`` takes |
| ``data.csv`` (tsv, parquet, jsonl, npz, png, jpg, txt, a folder of images) | all the rows in it |
| ``data.csv#3``, ``data.csv#0-4,9``, ``zoo:NAME#417`` | those rows, counted from 0 |
| anything else, for a text model | the text itself |
"""

from __future__ import annotations

import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from explainer.errors import ExplainerError, InvalidInput, MissingDependency, unknown
from explainer.inputs import take
from explainer.model import Model, wrap

MOST_ROWS = 50  # explained without being asked for by number
_FACTORY = "On the command line, write a function that returns explainer.wrap(...) with them, and pass path/to/file.py:function."
_ROWS = re.compile(r"^(?P<source>.+)#(?P<rows>\d+(-\d+)?(,\d+(-\d+)?)*)$", re.DOTALL)


def resolve_model(word: str) -> Model:
    """The model that ``word`` stands for: ``zoo:NAME``, ``model.onnx`` or ``path/to/file.py:factory``.

    Raises UnknownName, or InvalidInput for a file or a factory that gives no model.
    """
    if is_file(word):
        given = made(word)
        inner = getattr(given, "model", None)
        return inner if isinstance(inner, Model) else wrap(given)
    if word.lower().startswith(("https://", "http://")):
        raise InvalidInput(f"What an endpoint takes and its class names must be told. {_FACTORY}")
    if word.lower().endswith(".onnx"):
        try:
            return wrap(Path(word))
        except (InvalidInput, MissingDependency) as error:
            raise type(error)(f"{error} {_FACTORY}" if Path(word).is_file() else str(error)) from error
    prefix, colon, name = word.partition(":")
    if colon:
        return wrap(_offered("explainer.models", prefix, "model prefix")(name))
    raise InvalidInput(
        f"{word!r} is no model. Pass zoo:NAME (see: explainer models), a file model.onnx, or path/to/file.py:factory, a function that "
        "returns one."
    )


def resolve_specimen(word: str) -> Any | None:
    """The specimen behind ``zoo:NAME`` (its model, data, card), or None when ``word`` is not offered as one."""
    prefix, colon, name = word.partition("#")[0].partition(":")
    offered = {point.name: point for point in entry_points(group="explainer.specimens")}
    if not colon or prefix not in offered or Path(word).exists():
        return None
    return _loaded(offered[prefix])(name)


def resolve_input(word: str, model: Model) -> tuple[Any, list[int]]:
    """The inputs that ``word`` stands for, in canonical form, and their row numbers in the source.

    Raises InvalidInput, also when there are more rows than a person would read and none were chosen.
    """
    match = None if Path(word).exists() else _ROWS.match(word)
    source = match["source"] if match else word
    inputs = _everything(source, model)
    count = len(inputs)
    if match is None and count > MOST_ROWS:
        raise InvalidInput(f"{source} has {count:,} rows; say which to explain, as in {source}#0 or {source}#0-{MOST_ROWS - 1}.")
    rows = list(range(count)) if match is None else _rows(match["rows"], count, source)
    return model.canonical(take(inputs, rows)), rows


def resolve_rows(word: str, labels: str | None, model: Model) -> dict[str, Any]:
    """Arguments ``data`` and ``labels`` of ``importance``: a whole file of a table is left to be read in parts."""
    from explainer.inspection.stream import SUFFIXES

    path = Path(word)
    if model.modality == "tabular" and path.is_file() and path.suffix.lower() in SUFFIXES:
        return {"data": path, "labels": labels}
    data, found, _ = resolve_labelled(word, labels, model)
    return {"data": data, "labels": found}


def resolve_labelled(word: str, labels: str | None, model: Model) -> tuple[Any, Any, list[int]]:
    """The rows that ``word`` stands for, their labels (a zoo model's own, else the column named, else None), and their numbers."""
    from explainer.checks.read import read

    match = None if _file(Path(word)) else _ROWS.match(word)
    source = match["source"] if match else word
    specimen = resolve_specimen(source)
    if labels is None:
        data, found = _everything(source, model), None if specimen is None else specimen.data.test.labels
    elif specimen is not None:
        raise InvalidInput(f"{source} brings labels of its own; --labels names a column of a file.")
    else:
        whole = read(Path(source), labels, modality=model.modality)
        data, found = whole.inputs, whole.labels
    rows = list(range(len(data)))
    if match:
        rows = _rows(match["rows"], len(data), source)
        data, found = take(data, rows), None if found is None else [found[row] for row in rows]
    return data, found, rows


def resolve_population(word: str, model: Model) -> Any:
    """A named population as it stands, or a file of rows under its own name."""
    return (Path(word).name, _everything(word, model)) if Path(word).is_file() or resolve_specimen(word) else word


def resolve_applicants(word: str | None, model_word: str, model: Model) -> Any:
    """The rows that populations are taken from: those named, else a zoo model's training rows, else the model's background."""
    if word is not None:
        return _everything(word, model)
    specimen = resolve_specimen(model_word)
    return None if specimen is None else _training(specimen)["reference"]


def resolve_data(word: str, labels: str | None, modality: str | None, model: str | None) -> dict[str, Any]:
    """Arguments of ``check`` for DATA: a file is read by the check itself, so that what cannot be read becomes a finding."""
    intended = None if model is None else resolve_model(model)
    specimen = resolve_specimen(word)
    if specimen is None:
        return {"data": word, "labels": labels, "modality": modality or (intended and intended.modality), "model": intended}
    test = specimen.data.test
    intended = intended or specimen.model
    return {
        "data": test.inputs,
        "labels": _named(specimen, test.labels),
        "groups": test.groups,
        "modality": intended.modality,
        "model": intended,
        **_training(specimen),
    }


def resolve_reference(word: str, labels: str | None, modality: str | None) -> dict[str, Any]:
    """Arguments ``reference`` and ``reference_labels`` for DATA: the training rows of ``zoo:NAME``, or a file."""
    from explainer.checks.read import read

    specimen = resolve_specimen(word)
    if specimen is not None:
        return _training(specimen)
    found = read(Path(word), labels, modality=modality)
    if found.unreadable:
        raise InvalidInput(
            f"The reference {word} cannot be read whole: {found.unreadable[0][0]}: {found.unreadable[0][1]}. Repair it first."
        )
    return {"reference": found.inputs, "reference_labels": found.labels}


def _training(specimen: Any) -> dict[str, Any]:
    """The rows a specimen was trained on and their labels; None for one that was trained by others on data that are not here."""
    train = specimen.data.train
    none = len(train.labels) == 0
    return {"reference": None if none else train.inputs, "reference_labels": None if none else _named(specimen, train.labels)}


def _named(specimen: Any, labels: Any) -> Any:
    """Class numbers as the names people know."""
    import numpy as np

    model = specimen.model
    return labels if model.task == "regression" else np.array(model.class_names)[labels]


def resolve_audit(
    model: str, data: str | None, labels: str | None, groups: list[str], reference: str | None, unit: str | None = None
) -> tuple[Model, dict[str, Any]]:
    """The model and the arguments of ``audit``: a zoo model brings its test rows, training rows, groups, units, card and record.

    Raises InvalidInput when there are no data to assess the model on, or a group or unit is named that they do not have.
    """
    specimen = resolve_specimen(model)
    wrapped = resolve_model(model) if specimen is None else specimen.model
    given: dict[str, Any] = {} if specimen is None else {"card": specimen.card, "record": specimen.record}
    if data is not None:
        given |= _judged(data, labels, groups, wrapped, unit)
    elif specimen is None:
        raise InvalidInput(f"{model} brings no data of its own; name a file with labels: explainer audit {model} DATA --labels COL.")
    else:
        given |= _tested(specimen, groups, unit, model)
    if reference is not None:
        given |= resolve_reference(reference, labels, wrapped.modality)
    elif specimen is not None:
        given |= resolve_reference(model, None, None)
    return wrapped, given


def resolve_verified(model: str | None, data: str | None, labels: str | None) -> dict[str, Any]:
    """Arguments ``model``, ``data`` and ``labels`` of ``verify``. Raises InvalidInput for data without the model that reads them."""
    if data is None:
        if labels is not None:
            raise InvalidInput(f"--labels {labels} names a column of --data, which was not given.")
        return {"model": None if model is None else resolve_model(model)}
    if model is None:
        raise InvalidInput("How to read --data is told by the model; name it too: explainer verify REPORT --model MODEL --data DATA.")
    wrapped = resolve_model(model)
    judged = _judged(data, labels, [], wrapped)
    return {"model": wrapped, "data": judged["data"], "labels": judged["labels"]}


def _tested(specimen: Any, groups: list[str], unit: str | None, word: str) -> dict[str, Any]:
    """The test rows of a zoo model; its units are those it has, or a column of its groups."""
    test = specimen.data.test
    given = {"data": test.inputs, "labels": test.labels, "groups": _columns(test.groups, groups, word)}
    own = unit is None or (test.units is not None and unit == test.units.name)
    return given | {"units": test.units if own else _unit(test.groups, unit, word)}


def _unit(frame: Any, unit: str | None, word: str) -> Any:
    """The column that says whom each row is of, where one is named."""
    if unit is None:
        return None
    if frame is None:
        raise InvalidInput(
            f"{word} gives no columns beside its inputs to take the unit {unit!r} from; call explainer.audit(units=) from Python."
        )
    if unit not in frame.columns:
        raise unknown("unit column", unit, frame.columns)
    return frame[unit]


def _judged(word: str, labels: str | None, groups: list[str], model: Model, unit: str | None = None) -> dict[str, Any]:
    from explainer.checks.read import read

    specimen = resolve_specimen(word)
    if specimen is not None:
        return _tested(specimen, groups, unit, word)
    found = read(Path(word), labels, modality=model.modality)
    if found.unreadable:
        raise InvalidInput(f"{word} cannot be read whole: {found.unreadable[0][0]}: {found.unreadable[0][1]}. Repair it first.")
    frame = found.inputs if hasattr(found.inputs, "columns") else None
    given = {"data": found.inputs, "labels": found.labels, "groups": _columns(frame, groups, word) if groups else None}
    given["units"] = _unit(frame, unit, word)
    return given | ({"source": Path(word)} if Path(word).is_file() else {})


def _columns(frame: Any, names: list[str], word: str) -> Any:
    """The protected attributes named; where none is, all that come with the data."""
    if not names:
        return frame
    if frame is None:
        raise InvalidInput(
            f"{word} gives no columns beside its inputs to take the group {names[0]!r} from; call explainer.audit(groups=) from Python."
        )
    for name in names:
        if name not in frame.columns:
            raise unknown("group column", name, frame.columns)
    return frame[names]


def _everything(source: str, model: Model) -> Any:
    from explainer.checks.read import read

    specimen = resolve_specimen(source)
    if specimen is not None:
        return specimen.data.test.inputs
    path = Path(source)
    if path.suffix.lower() == ".txt" and path.is_file():
        return [path.read_text(encoding="utf-8")]
    if model.modality == "text" and not _file(path):
        return [source]
    found = read(path, modality=model.modality)
    if found.unreadable:
        which, why = found.unreadable[0]
        raise InvalidInput(
            f"{len(found.unreadable)} of the inputs in {source} cannot be read, the first is {which}: {why}. Repair or leave them out."
        )
    return found.inputs


def _file(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a long text, or one with a zero in it, is no file's name
        return False


def _rows(text: str, count: int, source: str) -> list[int]:
    rows: list[int] = []
    for piece in text.split(","):
        first, _, last = piece.partition("-")
        rows += range(int(first), int(last or first) + 1)
    outside = [row for row in rows if row >= count]
    if outside or not rows:
        came = f"row {outside[0]}" if outside else f"the empty range {text}"
        raise InvalidInput(f"{source} has {count:,} rows, numbered 0 to {count - 1}; {came} was asked for.")
    return rows


def is_file(word: str) -> bool:
    """Whether ``word`` has the form ``path/to/file.py:factory``."""
    return word.rpartition(":")[0].endswith(".py")


def made(word: str) -> Any:
    """What the factory of ``path/to/file.py:factory`` returns: a Model, anything ``wrap`` takes, or an object with .model and .data."""
    file, _, factory = word.rpartition(":")
    path = Path(file)
    if not path.is_file() or path.suffix != ".py":
        raise InvalidInput(f"There is no Python file {path}; pass path/to/file.py:factory, a function that returns a model.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with _beside(path), _theirs(path):
        spec.loader.exec_module(module)
        function = getattr(module, factory, None)
        if not callable(function):
            raise unknown(
                f"factory in {path}", factory, [name for name, value in vars(module).items() if callable(value) and name[0] != "_"]
            )
        return function()


@contextmanager
def _theirs(path: Path) -> Iterator[None]:
    """An error of the person's own file, told as that and where in it."""
    try:
        yield
    except ExplainerError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == path.resolve()]
        where = f", line {lines[-1]}," if lines else ""
        raise InvalidInput(
            f"{path}{where} raised {type(error).__name__}: {error}. It gives no model as it stands; put that right."
        ) from error


@contextmanager
def _beside(path: Path) -> Iterator[None]:
    """Let a file import its neighbours while it is loaded."""
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _offered(group: str, prefix: str, kind: str) -> Any:
    points = {point.name: point for point in entry_points(group=group)}
    if prefix not in points:
        raise unknown(kind, prefix, points or ("none: no installed package offers any",))
    return _loaded(points[prefix])


def _loaded(point: Any) -> Any:
    try:
        return point.load()
    except ModuleNotFoundError as error:
        raise MissingDependency(f"{point.value} needs the package {error.name!r}, which is not installed.") from error
