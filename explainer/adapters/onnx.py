"""Adapter for ONNX graphs, run by onnxruntime and seen from outside: scores only, whatever framework the graph came from."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from explainer.adapters.feeds import Spec, encoder_for, feeds_of, made_up
from explainer.adapters.outputs import as_rows, check_probabilities, names_of_classes, returned
from explainer.errors import CorruptFile, ExplainerError, InvalidInput, MissingDependency, unknown
from explainer.faults import out_of_memory
from explainer.inputs import Modality, canonical, take
from explainer.model import Model

_ROWS = {"tabular": 4096}
_MOST = 256  # rows at once of pictures, texts and series
_KNOWN_OUTPUTS = ("probabilities", "output_probability", "logits", "scores")
_LOCATION = re.compile(rb"\x0a\x08location\x12(.)", re.DOTALL)  # where a file says that weights lie in another file
_FOREIGN = {
    b"PK": "a zip archive, such as torch.save writes",
    b"version https://git-lfs": "a Git LFS pointer: the file itself was not fetched",
}


class OnnxModel(Model):
    """An onnxruntime session behind the Model face.

    A graph with a fixed batch size is given whole batches: the last is filled up with copies of its last row.
    """

    framework = "onnx"
    packages = ("onnxruntime",)

    def __init__(self, session: Any, preprocess: Any, output: str, print_of: str, device: str, **names: Any) -> None:
        self.session = session
        self.preprocess = preprocess
        self.device = device
        self._specs = specs_of(session)
        self._output = output
        self._print = print_of
        super().__init__(**names)
        self._encode = preprocess or encoder_for(self._specs, self.modality, self.feature_names, self.name)

    def raw(self, inputs: Any, at_once: int | None = None) -> np.ndarray:
        limit = fixed_batch(self._specs) or at_once or _ROWS.get(self.modality, _MOST)
        result: np.ndarray | None = None
        for rows in self._batches(inputs, limit):
            scores = self._score(take(inputs, rows))
            if result is None:
                result = np.empty((len(inputs), scores.shape[1]))
            result[rows] = scores
        assert result is not None
        if self.returns == "probability":
            check_probabilities(result, self.name)
        return result

    def _batches(self, inputs: Any, limit: int) -> Iterator[np.ndarray]:
        """Row numbers, at most ``limit`` at once; series of one length together, because padding would change what is said."""
        if self.modality != "series" or self.preprocess is not None:
            for start in range(0, len(inputs), limit):
                yield np.arange(start, min(len(inputs), start + limit))
            return
        lengths = np.array([len(one) for one in inputs])
        for length in np.unique(lengths):
            same = np.flatnonzero(lengths == length)
            yield from (same[start : start + limit] for start in range(0, len(same), limit))

    def _score(self, batch: Any) -> np.ndarray:
        given = batch if self.preprocess is None else self.handed_out(batch)
        feeds = feeds_of(self._encode, given, self._specs, self.name)
        return run(self.session, feeds, self._output, len(batch), self.name)[0]

    def fingerprint(self) -> str:
        """sha256 of the file with its external weights, the output explained and the names of the classes."""
        return hashlib.sha256(f"{self._print}{self._output}{self.class_names}".encode()).hexdigest()


def wrap_onnx(
    source: Any,
    *,
    modality: Modality | None = None,
    feature_names: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    preprocess: Any = None,
    background: Any = None,
    task: Any = None,
    returns: Any = None,
    name: str | None = None,
    device: Any = None,
    output: str | None = None,
) -> OnnxModel:
    """Wrap an ONNX file or an onnxruntime session; see :func:`explainer.wrap` for the parameters.

    Parameters
    ----------
    modality : told, or certain: text where the graph takes strings, images where it takes three axes of pixels, tables where
        scikit-learn made it.
    preprocess : from canonical inputs to an array, a tuple in the order of the graph's inputs, or a dict name -> array.
    output : name of the output explained, where the graph has several that could be meant.
    returns : must be told where the numbers are not probabilities that sum to 1: logits are never taken for probabilities.

    Raises MissingDependency, InvalidInput, CorruptFile (a file that onnxruntime cannot read), UnknownName.
    """
    session = _session(source, device) if isinstance(source, (str, os.PathLike)) else source
    label = name or (Path(source).stem if isinstance(source, (str, os.PathLike)) else "ONNX graph")
    specs = specs_of(session)
    modality = modality or _modality(session, specs, background, label)
    names = _feature_names(specs, modality, feature_names, preprocess, background)
    given = None if background is None else canonical(background, modality, names)
    chosen = _output(session, output, label)
    encode = preprocess or encoder_for(specs, modality, names, label)
    probe, keys = _probe(session, specs, encode, given, chosen, label)
    if returns == "value":
        task = "regression"
    if probe is None and ((returns is None and task != "regression") or class_names is None):
        raise InvalidInput(
            f"{label} cannot be tried on made-up inputs, so what it gives is not known: pass background= to try it on, or both "
            "class_names= and returns='logit' | 'probability' | 'value'."
        )
    kind = returns if probe is None else returned(probe, returns, task, f"the output {chosen!r} of {label}")
    task = task or ("regression" if kind == "value" else "classification")
    width = probe.shape[1] if probe is not None else len(class_names or ())
    return OnnxModel(
        session, preprocess, chosen, _print(session), "cuda" if "CUDAExecutionProvider" in session.get_providers() else "cpu",
        modality=modality, feature_names=names, class_names=names_of_classes(class_names or keys, width, task, label), task=task,
        returns=kind, background=given, name=label,
    )  # fmt: skip


def specs_of(session: Any) -> tuple[Spec, ...]:
    """What the graph takes: names, dtypes and shapes; a dimension that may vary is None."""
    return tuple(
        Spec(one.name, one.type, tuple(size if isinstance(size, int) and size > 0 else None for size in one.shape))
        for one in session.get_inputs()
    )


def fixed_batch(specs: Sequence[Spec]) -> int | None:
    """The batch size that is written into the graph, or None where it may vary."""
    return next((spec.shape[0] for spec in specs if spec.shape and spec.shape[0] is not None), None)


def run(session: Any, feeds: dict[str, np.ndarray], output: str, n: int, what: str) -> tuple[np.ndarray, list[str] | None]:
    """Scores ``(n, outputs)``, and the class names where the graph gives a map from class to probability."""
    size = fixed_batch(specs_of(session))
    if size is not None and size > n:
        feeds = {key: np.concatenate([value, np.repeat(value[-1:], size - n, axis=0)]) for key, value in feeds.items()}
    try:
        (found,) = session.run([output], feeds)
    except Exception as error:  # onnxruntime's exceptions have no common base
        if out_of_memory(error) or "allocate memory" in str(error):
            raise MemoryError(str(error)) from error
        shapes = ", ".join(f"{key} {value.dtype} {value.shape}" for key, value in feeds.items())
        raise InvalidInput(
            f"{what} failed on {shapes}: {str(error).strip().splitlines()[0]}. The graph takes "
            f"{', '.join(map(str, specs_of(session)))}; pass preprocess= to bring the inputs to that."
        ) from error
    if isinstance(found, list) and found and isinstance(found[0], dict):  # scikit-learn's ZipMap: one map per row
        keys = list(found[0])
        return np.array([[row[key] for key in keys] for row in found], dtype=np.float64)[:n], [str(key) for key in keys]
    return as_rows(np.asarray(found)[:n] if size is not None else found, n, what), None


def _session(source: Any, device: Any) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise MissingDependency('An ONNX file is run by onnxruntime: pip install "explainer-toolkit[onnx]".') from None
    path = Path(source)
    if not path.is_file():
        raise InvalidInput(f"There is no file {path}; pass the path of an .onnx file.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _threads()
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 4  # what fails is raised; the log would say it twice
    providers = ["CPUExecutionProvider"]
    if device is not None and str(device).startswith("cuda"):
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            raise InvalidInput("device='cuda' needs onnxruntime-gpu; this onnxruntime runs on the CPU only. Leave device= out.")
        providers.insert(0, "CUDAExecutionProvider")
    elif device is not None and str(device) != "cpu":
        raise unknown("device for ONNX", device, ("cpu", "cuda"))
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:
        start = path.open("rb").read(64)
        looks = next((f" It looks like {kind}." for mark, kind in _FOREIGN.items() if start.startswith(mark)), "")
        raise CorruptFile(
            f"onnxruntime cannot read {path.name} ({path.stat().st_size:,} bytes): {str(error).strip().splitlines()[0]}.{looks} Export it "
            "again, and keep a file of external weights beside it."
        ) from error


def _threads() -> int:
    """As many threads as torch was told to use; 0 leaves it to onnxruntime."""
    torch = sys.modules.get("torch")
    told = os.environ.get("OMP_NUM_THREADS", "")
    return int(torch.get_num_threads()) if torch is not None else int(told) if told.isdigit() else 0


def _modality(session: Any, specs: Sequence[Spec], background: Any, label: str) -> Modality:
    if len(specs) == 1 and specs[0].is_text and len(specs[0].shape) == 1:
        return "text"
    if len(specs) == 1 and len(specs[0].shape) == 4 and (specs[0].shape[1] in (1, 3) or specs[0].shape[3] in (1, 3)):
        return "image"
    if "skl2onnx" in session.get_modelmeta().producer_name or hasattr(background, "columns"):
        return "tabular"
    raise InvalidInput(
        f"What kind of input {label} takes cannot be told from {', '.join(map(str, specs))}: pass modality='tabular', 'image', 'text' or "
        "'series'."
    )


def _feature_names(specs: Sequence[Spec], modality: Modality, names: Any, preprocess: Any, background: Any) -> tuple[str, ...]:
    if names is not None:
        return tuple(str(n) for n in names)
    if modality not in ("tabular", "series"):
        return ()
    if background is not None:
        known = canonical(background, modality)
        return tuple(map(str, known.columns)) if modality == "tabular" else tuple(f"channel {c}" for c in range(known[0].shape[1]))
    if modality == "series":
        return ()
    if preprocess is None and len(specs) > 1:
        return tuple(spec.name for spec in specs)
    width = specs[0].shape[1] if preprocess is None and len(specs[0].shape) == 2 else None
    if width is None:
        raise InvalidInput("The names of the table's columns cannot be told from the graph; pass feature_names= or background=.")
    return tuple(f"x{j}" for j in range(width))


def _output(session: Any, told: str | None, label: str) -> str:
    found = {one.name: one for one in session.get_outputs()}
    if told is not None:
        if told not in found:
            raise unknown(f"output of {label}", told, found)
        return told
    maps = [name for name, one in found.items() if one.type.startswith("seq(map(")]
    numbers = [
        name for name, one in found.items() if one.type in ("tensor(float)", "tensor(double)", "tensor(float16)", "tensor(bfloat16)")
    ]
    named = [name for name in numbers if name.lower() in _KNOWN_OUTPUTS]
    flat = [name for name in numbers if len(found[name].shape or ()) <= 2]
    for choice in (maps, named, numbers, flat):
        if len(choice) == 1:
            return choice[0]
    shown = ", ".join(f"{name} {one.type} {one.shape}" for name, one in found.items())
    raise InvalidInput(f"Which output of {label} holds the scores cannot be told: {shown}. Pass output= with its name.")


def _probe(
    session: Any, specs: Sequence[Spec], encode: Any, background: Any, output: str, label: str
) -> tuple[np.ndarray | None, list[str] | None]:
    """Scores at some rows of the background, or at made-up inputs. The background must work; what is made up need not."""
    if background is not None:
        sizes = {len(one) for one in background} if isinstance(background, list) and not isinstance(background[0], str) else set()
        rows = take(background, slice(0, fixed_batch(specs) or (1 if len(sizes) > 1 else 64)))
        return run(session, feeds_of(encode, rows, specs, label), output, len(rows), label)
    n = fixed_batch(specs) or 8
    with contextlib.suppress(ExplainerError):
        return run(session, made_up(specs, n), output, n, label)
    return None, None


def _print(session: Any) -> str:
    """sha256 of the graph's bytes and of the files its weights lie in; of its description where onnxruntime keeps no bytes."""
    path, content = getattr(session, "_model_path", None), getattr(session, "_model_bytes", None)
    digest = hashlib.sha256()
    if path:
        content = Path(path).read_bytes()
        for found in sorted({content[m.end() : m.end() + m.group(1)[0]] for m in _LOCATION.finditer(content)}):
            beside = Path(path).parent / found.decode(errors="replace")
            digest.update(beside.read_bytes() if beside.is_file() else found)
    if content is None:
        meta = session.get_modelmeta()
        content = (
            f"{meta.producer_name}{meta.graph_name}{meta.version}{specs_of(session)}{[o.name for o in session.get_outputs()]}".encode()
        )
    digest.update(content)
    return digest.hexdigest()
