"""The one frozen result of every method: values with named axes, a verdict, and where it all came from."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from explainer import frames
from explainer.errors import CorruptFile, InvalidInput
from explainer.inputs import sha256, take

if TYPE_CHECKING:
    import pandas as pd

Status = Literal["pass", "warn", "fail", "not run"]
SCHEMA = 2
_WORST: tuple[Status, ...] = ("fail", "warn", "pass", "not run")


@dataclass(frozen=True)
class Check:
    """One question asked of an explanation: its value, the threshold it was held against, and the outcome in words."""

    name: str
    status: Status
    reason: str
    value: float | None = None
    threshold: float | None = None


def grade(value: float, pass_at: float, warn_at: float) -> Status:
    """The outcome of a value held against two thresholds; whether small or large is good is told by their order."""
    sign = 1 if pass_at >= warn_at else -1
    return "pass" if sign * value >= sign * pass_at else "warn" if sign * value >= sign * warn_at else "fail"


@dataclass(frozen=True)
class Verdict:
    """How far to trust one explanation: the worst of its checks; "not run" when none could be made."""

    checks: Mapping[str, Check] = field(default_factory=dict)

    @property
    def status(self) -> Status:
        found = {check.status for check in self.checks.values()}
        return next((status for status in _WORST if status in found), "not run")

    @property
    def reason(self) -> str:
        """The sentence of the check that decided the status."""
        return next((c.reason for c in self.checks.values() if c.status == self.status), "No check was asked for.")

    @staticmethod
    def worst(verdicts: Sequence[Verdict]) -> Verdict:
        """Merge the verdicts of a batch: per check, the worst outcome over the instances."""
        merged: dict[str, Check] = {}
        for verdict in verdicts:
            for name, check in verdict.checks.items():
                if name not in merged or _WORST.index(check.status) < _WORST.index(merged[name].status):
                    merged[name] = check
        return Verdict(merged)


@dataclass(frozen=True)
class Provenance:
    """What was really done: method and parameters after defaults and repairs, cost, device, versions, hashes."""

    method: str
    parameters: Mapping[str, Any]
    seed: int
    evaluations: int
    seconds: float
    device: str
    versions: Mapping[str, str]
    model_sha256: str
    inputs_sha256: str
    notes: tuple[str, ...] = ()


def versions(*packages: str) -> dict[str, str]:
    """Installed versions of Python, this toolkit and the packages named."""
    return {"python": platform.python_version(), **{package: _version(package) for package in ("explainer-toolkit", "numpy", *packages)}}


@lru_cache(maxsize=64)
def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


@dataclass(frozen=True, eq=False)
class Explanation:
    """Attributions of ``n`` predictions, whatever the method and the kind of input.

    Attributes
    ----------
    values : array ``(n, *feature axes[, outputs])``; ``axes`` names every axis. Shorter instances are padded with NaN.
    base_values, scores : ``(n,)`` or ``(n, outputs)``; the target's value with every feature absent (NaN when the
        method has none), and at the input. Additive methods satisfy ``base + values.sum() == score``.
    target : one label per instance, such as ``"class 4"`` or, of a token classifier, ``"LOC of 'cat' (word 2)"``; with
        ``target="all"`` the output axis carries the classes.
    feature_names : one tuple per instance, naming its parts in the order of the first feature axis, or of all feature
        axes flattened where each cell has a name of its own; pixels have no names, only positions.
    output : "probability", "logit" or "raw": the scale of scores and values.
    stderr : standard error of each value, or None when the method is deterministic.
    extras : arrays a plot needs beside the values (superpixel labels, raw attention weights, tokens, ...), one entry
        per instance in each tuple.
    """

    values: np.ndarray
    axes: tuple[str, ...]
    base_values: np.ndarray
    scores: np.ndarray
    target: tuple[str, ...]
    feature_names: tuple[tuple[str, ...], ...]
    inputs: Any
    method: str
    modality: str
    output: str
    class_names: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    provenance: Provenance
    stderr: np.ndarray | None = None
    extras: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    # Weak, and never saved: an explanation does not keep its model alive.
    _model: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for array in (self.values, self.base_values, self.scores, self.stderr):
            if isinstance(array, np.ndarray):
                array.setflags(write=False)

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[Explanation]:
        return (self[i] for i in range(len(self)))

    @property
    def verdict(self) -> Verdict:
        """The verdict of a single explanation, or the worst per check over a batch."""
        return self.verdicts[0] if len(self.verdicts) == 1 else Verdict.worst(self.verdicts)

    @property
    def model(self) -> Any:
        """The model explained, while it lives in this process; None afterwards, and after loading from a file."""
        return None if self._model is None else self._model()

    @property
    def additive(self) -> bool:
        """Whether values and base value are meant to sum to the score."""
        return bool(np.isfinite(self.base_values).all())

    def __getitem__(self, index: int | slice | Sequence[Any] | np.ndarray) -> Explanation:
        """Instances by number, slice, list of numbers or mask; one alone keeps its leading axis, and is cut to its own length.

        Raises IndexError for an instance that is not there.
        """
        chosen = self._rows(index)
        own = self._own_shape(chosen[0]) if isinstance(index, (int, np.integer)) else ()

        def of(entries: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(entries[i] for i in chosen)

        return dataclasses.replace(
            self,
            values=self.values[chosen][:, *own],
            stderr=None if self.stderr is None else self.stderr[chosen][:, *own],
            base_values=self.base_values[chosen],
            scores=self.scores[chosen],
            target=of(self.target),
            feature_names=of(self.feature_names),
            inputs=take(self.inputs, chosen),
            verdicts=of(self.verdicts),
            extras={key: of(entries) for key, entries in self.extras.items()},
        )

    def _rows(self, index: Any) -> list[int]:
        """The numbers of the instances that ``index`` names."""
        n = len(self)
        if isinstance(index, (int, np.integer)) and not -n <= index < n:
            raise IndexError(f"This explanation has {n} instances; {index} is outside 0 to {n - 1}.")
        try:
            chosen = np.atleast_1d(np.arange(n)[index if isinstance(index, slice) else np.asarray(index)])
        except (IndexError, TypeError, ValueError) as error:
            raise IndexError(f"ex[{index!r}] names no instances: {error}. Give a number, a slice, a list of numbers or a mask.") from None
        if chosen.ndim > 1 or not len(chosen):
            raise IndexError(f"ex[{index!r}] names no instances; there are {n}. Give a number, a slice, a list of numbers or a mask.")
        return [int(i) for i in chosen]

    def _own_shape(self, i: int) -> tuple[slice, ...]:
        """Slices that drop the NaN padding of instance ``i``: all beyond its names, or, of cells in two axes, beyond its last value."""
        present = ~np.isnan(self.values[i])
        if present.all():
            return tuple(slice(None) for _ in present.shape)
        kept = [np.flatnonzero(present.any(axis=tuple(a for a in range(present.ndim) if a != axis))) for axis in range(present.ndim)]
        cuts = [slice(0, int(last[-1]) + 1 if len(last) else 0) for last in kept]
        parts = present.ndim - (self.axes[-1] == "output")
        if parts == 1 and self.feature_names[i]:  # a value may be missing for want of evaluations, and is no padding
            return slice(0, len(self.feature_names[i])), *(slice(None) for _ in cuts[1:])
        return tuple(cuts)

    def to_frame(self) -> pd.DataFrame:
        """Long table: one row per instance and feature (and output), with value, standard error and target."""
        import pandas as pd

        tables = [one._columns(i) for i, one in enumerate(self)]
        return pd.DataFrame({name: np.concatenate([table[name] for table in tables]) for name in tables[0]} if tables else {})

    def _columns(self, instance: int) -> dict[str, np.ndarray]:
        """The columns of the long table for this one instance."""
        shape, by_output = self.values.shape[1:], self.axes[-1] == "output"
        places = np.indices(shape).reshape(len(shape), -1)
        axes = {axis: places[k] for k, axis in enumerate(self.axes[1:])} if len(self.axes) > 2 else {}
        labels = [label_of(self, j) for j in range(shape[-1])] if by_output else [self.target[0]]
        features = np.array(self.cells(shape[:-1] if by_output else shape), dtype=object)
        return {
            "instance": np.full(places.shape[1], instance),
            "feature": np.repeat(features, shape[-1]) if by_output else features,
            **axes,
            "target": np.array(labels, dtype=object)[places[-1] if by_output else np.zeros(places.shape[1], dtype=int)],
            "value": self.values[0].reshape(-1).astype(np.float64),
            "stderr": np.full(places.shape[1], np.nan) if self.stderr is None else self.stderr[0].reshape(-1).astype(np.float64),
        }

    def cells(self, shape: tuple[int, ...]) -> list[str]:
        """The name of every cell of the feature axes, flattened: its own, that of its first axis, or its place."""
        names, cells = self.feature_names[0], int(np.prod(shape))
        if len(names) == cells:
            return list(names)
        if len(names) == shape[0]:
            return [name for name in names for _ in range(cells // len(names))]
        rest = [""]
        for size in shape[::-1]:
            rest = [f"{k}, {more}" if more else str(k) for k in range(size) for more in rest]
        return rest

    def to_shap(self) -> Any:
        """The same result as a ``shap.Explanation``, accepted by ``shap.plots``; text keeps its words as data."""
        from explainer.adapters.peers import to_shap

        return to_shap(self)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write ``manifest.json`` and ``arrays.npz`` into the folder ``path``; nothing is pickled, nothing half-written."""
        folder = Path(path)
        arrays: dict[str, np.ndarray] = {}
        manifest = {
            "schema": SCHEMA,
            "axes": self.axes,
            "target": self.target,
            "feature_names": self.feature_names,
            "method": self.method,
            "modality": self.modality,
            "output": self.output,
            "class_names": self.class_names,
            "verdicts": [[dataclasses.asdict(c) for c in v.checks.values()] for v in self.verdicts],
            "provenance": dataclasses.asdict(self.provenance),
            "inputs": _pack(self.inputs, "inputs", arrays),
            "inputs_sha256": sha256(self.inputs),  # of one instance it is not that of the batch, which the provenance names
            "extras": {k: [_pack(e, f"extras.{k}.{i}", arrays) for i, e in enumerate(v)] for k, v in self.extras.items()},
        }
        for name in ("values", "base_values", "scores", "stderr"):
            if getattr(self, name) is not None:
                arrays[name] = np.asarray(getattr(self, name))
        folder.mkdir(parents=True, exist_ok=True)
        # The manifest goes last: a folder without one is not an explanation.
        write_atomic(folder / "arrays.npz", lambda handle: np.savez_compressed(handle, allow_pickle=False, **arrays))
        text = json.dumps(manifest, indent=1, default=_plain)
        write_atomic(folder / "manifest.json", lambda handle: handle.write(text.encode()))
        return folder


def label_of(one: Explanation, output: int) -> str:
    """What one output of an instance explained with ``target="all"`` is: its class, and what the target says beside it."""
    name, said = one.class_names[output], one.target[0]
    return name + said.removeprefix("all") if said.startswith("all") else name


def load(path: str | os.PathLike[str]) -> Any:
    """Read what ``save`` wrote: an :class:`Explanation` from its folder, any other result from its file.

    Raises InvalidInput where nothing is, CorruptFile where it is no saved result.
    """
    folder = Path(path)
    if folder.is_file():
        from explainer.inspection.saving import reopen

        return reopen(folder)
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        with np.load(folder / "arrays.npz", allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        if manifest["schema"] != SCHEMA:
            raise CorruptFile(
                f"{folder} was written with schema {manifest['schema']}, and this version reads schema {SCHEMA}. Compute and save it again."
            )
        inputs = _unpack(manifest["inputs"], arrays)
        if sha256(inputs) != manifest["inputs_sha256"]:
            raise CorruptFile(f"The inputs in {folder} are not those that were explained: their sha256 differs. Compute and save it again.")
        return Explanation(
            values=arrays["values"],
            axes=tuple(manifest["axes"]),
            base_values=arrays["base_values"],
            scores=arrays["scores"],
            target=tuple(manifest["target"]),
            feature_names=tuple(tuple(names) for names in manifest["feature_names"]),
            inputs=inputs,
            method=manifest["method"],
            modality=manifest["modality"],
            output=manifest["output"],
            class_names=tuple(manifest["class_names"]),
            verdicts=tuple(Verdict({c["name"]: Check(**c) for c in checks}) for checks in manifest["verdicts"]),
            provenance=Provenance(**{**manifest["provenance"], "notes": tuple(manifest["provenance"]["notes"])}),
            stderr=arrays.get("stderr"),
            extras={k: tuple(_unpack(e, arrays) for e in v) for k, v in manifest["extras"].items()},
        )
    except CorruptFile:
        raise
    except FileNotFoundError as error:
        raise InvalidInput(f"{folder} holds no saved explanation ({error.filename} is missing); save one with ex.save(path).") from None
    except Exception as error:
        raise CorruptFile(f"{folder} is not a readable explanation: {type(error).__name__}: {error}. Compute and save it again.") from error


def write_atomic(path: Path, write: Any) -> None:
    """Write through a temporary file, fsync and rename, so that a crash or a full disk leaves the old file or none."""
    # Not tempfile: its files are readable by their owner only, and the result must be an ordinary file.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as handle:
            write(handle)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _pack(value: Any, key: str, arrays: dict[str, np.ndarray]) -> Any:
    """Describe ``value`` in JSON, moving arrays to the npz under ``key``."""
    if isinstance(value, np.ndarray):
        arrays[key] = value
        return {"array": key}
    if hasattr(value, "iloc"):
        return {"frame": frames.packed(value)}
    if isinstance(value, (list, tuple)):
        return {"list": [_pack(v, f"{key}.{i}", arrays) for i, v in enumerate(value)]}
    return {"value": value}


def _unpack(entry: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Any:
    if "array" in entry:
        return arrays[entry["array"]]
    if "frame" in entry:
        return frames.unpacked(entry["frame"])
    if "list" in entry:
        return [_unpack(v, arrays) for v in entry["list"]]
    return entry["value"]


def _plain(value: Any) -> Any:
    """JSON for the numpy scalars and paths that parameters may hold; anything else is described, never pickled."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    return str(value)
