"""``Model``: anything that predicts, behind one face; ``wrap`` makes one from the object a person has."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, Literal

import numpy as np

from explainer import inputs as inputs_
from explainer.errors import InvalidInput, Unsupported, unknown

Output = Literal["probability", "logit", "raw"]
Returns = Literal["logit", "independent", "probability", "value"]
_EPSILON = 1e-12
ROWS_AT_ONCE = 4096  # of a model that is seen from outside: a call costs little beside that many rows


@dataclass(frozen=True)
class Capability:
    """What one method can be on one model, known before it runs."""

    level: Literal["exact", "approximate", "unsupported"]
    reason: str


class Model(ABC):
    """One prediction function with the names a person needs to read it.

    Parameters
    ----------
    modality : "tabular", "image", "text" or "series".
    task : "classification" or "regression".
    class_names : one name per output column; a regression names its outputs.
    feature_names : the columns of a table, the channels of a series; empty otherwise.
    background : canonical inputs that stand for "the population" (reference rows for SHAP and LIME), or None.
    returns : what :meth:`raw` gives: "logit" (of classes of which one is true: softmax), "independent" (logits of labels that do
        not exclude each other: a sigmoid each), "probability" or "value" (regression).
    """

    framework = "function"
    differentiable = False
    device = "cpu"
    packages: tuple[str, ...] = ()  # that decide the scores, beside those every result names; their versions are recorded
    how_faster = ""  # what was changed to run faster, in words

    def __init__(
        self,
        *,
        modality: inputs_.Modality,
        class_names: Sequence[str],
        feature_names: Sequence[str] = (),
        task: Literal["classification", "regression"] = "classification",
        returns: Returns = "probability",
        background: Any = None,
        name: str = "model",
    ) -> None:
        if modality not in inputs_.MODALITIES:
            raise unknown("modality", modality, inputs_.MODALITIES)
        self.modality = modality
        self.task = task
        self.name = name
        self.returns: Returns = "value" if task == "regression" else returns
        self.class_names = tuple(str(c) for c in class_names)
        self.feature_names = tuple(str(f) for f in feature_names)
        inputs_.distinct(self.feature_names, f"The background or feature_names= of {self.name}")
        self.background: Any = None
        self._labels = {str(label): label for label in background.columns} if hasattr(background, "iloc") and modality == "tabular" else {}
        if background is not None:
            self.background = self.canonical(background)

    @abstractmethod
    def raw(self, inputs: Any, at_once: int | None = None) -> np.ndarray:
        """The underlying object's own output ``(n, outputs)`` for canonical inputs; ``(n, 1)`` for one logit of two classes.

        ``at_once``: rows of a batch, where the object is called in batches at all.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """sha256 of what decides the predictions (weights, parameters, code), but for what :attr:`unhashed` tells."""

    @property
    def unhashed(self) -> str:
        """What decides predictions too and the fingerprint does not cover, in a sentence; empty where there is no such thing."""
        preprocess = getattr(self, "preprocess", None)
        known = preprocess is None or hasattr(preprocess, "fingerprint") or getattr(preprocess, "__module__", "").startswith("explainer.")
        return "" if known else "The model's sha256 does not cover the preprocess that its inputs go through first."

    def canonical(self, inputs: Any) -> Any:
        """``inputs`` checked and in the canonical form of this model's modality. Raises InvalidInput."""
        return inputs_.canonical(inputs, self.modality, self.feature_names, self.background)

    def handed_out(self, inputs: Any) -> Any:
        """A copy of canonical inputs for code that is not ours, with the columns labelled as in the background it came with."""
        copied = inputs_.handed_out(inputs)
        if any(name is not label for name, label in self._labels.items()):
            copied.columns = [self._labels.get(name, name) for name in copied.columns]
        return copied

    def scores(self, inputs: Any, output: str = "probability") -> np.ndarray:
        """Scores ``(n, outputs)`` on the scale asked for.

        ``"probability"``: softmax or sigmoid of logits; ``"logit"``: the logits before it, or log(p / (1 - p)) where the
        model gives probabilities; ``"raw"``: the model's own output. A regression has one scale, whichever is asked for.
        Raises InvalidInput for inputs that cannot be scored, and names the first row whose score is not a number.
        """
        if output == "auto":
            output = "probability"
        if output not in ("probability", "logit", "raw"):
            raise unknown("output", output, ("probability", "logit", "raw", "auto"))
        given = self.canonical(inputs)
        scores = self.rescale(np.asarray(self.raw(given), dtype=np.float64), output)
        if scores.shape != (len(given), len(self.class_names)):
            raise InvalidInput(
                f"The model gave scores of shape {scores.shape} for {len(given)} inputs and {len(self.class_names)} named "
                f"outputs ({', '.join(self.class_names[:6])}); check class_names and what the model returns."
            )
        bad = ~np.isfinite(scores).all(1)
        if bad.any():
            raise InvalidInput(self.unscorable(given, int(np.flatnonzero(bad)[0]), int(bad.sum())))
        return scores

    def rescale(self, raw: Any, output: str) -> Any:
        """Bring raw outputs, numpy or torch (differentiably), to the scale ``output``."""
        ops = _ops(raw)
        if self.task == "regression" or output == "raw":
            if self.task == "regression" or raw.shape[1] != 1 or len(self.class_names) != 2:
                return raw
            return ops.cat([-raw, raw] if self.returns == "logit" else [1 - raw, raw])
        if self.returns == "logit":
            if raw.shape[1] == 1 and len(self.class_names) == 2:
                raw = ops.cat([ops.zeros(raw), raw])
            return raw if output == "logit" else ops.softmax(raw)
        if self.returns == "independent":
            return raw if output == "logit" else ops.sigmoid(raw)
        if raw.shape[1] == 1 and len(self.class_names) == 2:
            raw = ops.cat([1 - raw, raw])
        if output == "probability":
            return raw
        clipped = raw.clip(_EPSILON, 1 - _EPSILON)
        return ops.log(clipped) - ops.log(1 - clipped)

    def embedding(self, inputs: Any) -> np.ndarray | None:
        """``(n, units)``: what enters the last layer for canonical inputs, or None where this model does not show it."""
        return None

    def aimed(self, target: Any, given: Any) -> tuple[Model, Any]:
        """The model and the target that ``target`` stands for at canonical inputs: itself, unless what is scored depends on it."""
        return self, target

    def told(self, given: Any) -> tuple[str, ...]:
        """What each input's target is beside the name of a class, where that says too little: such as the word that is labelled."""
        return ("",) * len(given)

    def notes(self, given: Any) -> tuple[str, ...]:
        """What a person must know of how these canonical inputs are read, whatever the method (such as that they are cut)."""
        return ()

    def meet(self, inputs: Any) -> None:  # noqa: B027  most models need no probe
        """Told which canonical inputs are explained: the first may serve to probe a model that had none to be probed with."""

    def composer(self, features: Any) -> Any:
        """What puts the rows of coalitions of ``features`` together after encoding (``.rows(asks)``), or None."""
        return None

    def rows_at_once(self, inputs: Any, measured: bool = False) -> int:
        """How many rows to score at once; an adapter that can tell measures it on ``inputs`` when asked to."""
        return ROWS_AT_ONCE

    def batches(self, inputs: Any, rows: int | None = None) -> Iterator[np.ndarray]:
        """Row numbers of the batches in which :meth:`raw` scores ``inputs``: all at once, unless an adapter cuts them itself."""
        yield np.arange(len(inputs))

    def unscorable(self, given: Any, row: int, count: int = 1) -> str:
        """Why row ``row`` of canonical inputs has no finite score, in words."""
        message = f"{count} of {len(given)} inputs have no finite score, the first is row {row}."
        if self.modality == "tabular":
            missing = [str(c) for c in given.columns[given.iloc[row].isna()]]
            if missing:
                return f"{message} Its columns {', '.join(missing[:6])} are missing (NaN), which this model does not take; fill them first."
        return f"{message} Check the values of that row, or the model's weights."

    def capabilities(self) -> Mapping[str, Capability]:
        """Per method: exact, approximate or unsupported on this model, and why."""
        from explainer.preflight import capabilities

        return capabilities(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self.modality} {self.task}, {len(self.class_names)} outputs>"


class _ops:
    """The few operations of ``rescale`` on the library the array belongs to."""

    def __init__(self, like: Any) -> None:
        if isinstance(like, np.ndarray):
            self.log, self.zeros, self.cat = np.log, np.zeros_like, lambda parts: np.concatenate(parts, axis=1)
            self.softmax: Any = _softmax
            self.sigmoid: Any = _sigmoid
        else:
            import torch

            self.log, self.zeros, self.cat = torch.log, torch.zeros_like, lambda parts: torch.cat(parts, dim=1)
            # In float64: at p = 1 a float32 softmax has gradient exactly 0, and the explanation would be empty.
            self.softmax = lambda logits: steady(torch.softmax(logits, 1, dtype=torch.float64))
            self.sigmoid = lambda logits: torch.sigmoid(logits.double())


def steady(p: Any) -> Any:
    """``p`` ``(n, classes)``, a torch softmax, whose gradient keeps its direction where 1 - p is below the precision.

    The backward pass ``p * (g - sum(g p))`` cancels to 0 for such a class. A constant added to g changes nothing in it but that.
    """
    if p.requires_grad:
        top = p.argmax(1, keepdim=True)
        p.register_hook(lambda gradient: gradient - gradient.gather(1, top))
    return p


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Outputs first while it is worked out: numpy reduces the few numbers of each row many times slower than the many rows."""
    columns = np.ascontiguousarray(logits.T)
    shifted = np.exp(columns - columns.max(axis=0))
    return np.ascontiguousarray((shifted / shifted.sum(axis=0)).T)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    """``1 / (1 + exp(-x))`` without overflow on either side."""
    return np.exp(-np.logaddexp(0, -logits))


def wrap(
    obj: Any,
    *,
    modality: inputs_.Modality | None = None,
    feature_names: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    preprocess: Callable[[Any], Any] | None = None,
    background: Any = None,
    task: Literal["classification", "regression"] | None = None,
    returns: Returns | None = None,
    name: str | None = None,
    device: Any = None,
    **options: Any,
) -> Model:
    """Put a trained object behind the :class:`Model` face.

    Parameters
    ----------
    obj : a torch ``nn.Module``, a scikit-learn estimator or ``Pipeline``, XGBoost's or LightGBM's own ``Booster`` (NaN is missing), a
        ``transformers`` pipeline or ``(model, tokenizer)`` (or image processor, or feature extractor), an ONNX file or session, the
        ``https://`` address of an endpoint, or a callable ``inputs -> (n, outputs)``.
    modality : "tabular", "image", "text" or "series"; scikit-learn estimators are tabular unless told otherwise, or unless what they
        begin with is a vectoriser of texts.
    feature_names, class_names : taken from the object where it knows them.
    preprocess : maps canonical inputs to what ``obj`` takes (for torch: a tensor, a tuple or a dict of tensors).
    background : reference inputs; SHAP and LIME on tables need them.
    task, returns : "regression", or what ``obj`` gives ("logit", "independent", "probability", "value"; see :class:`Model`),
        where it cannot be told. A function's numbers are probabilities where they lie in [0, 1] and each row sums to 1, or has one.
    device : for torch, where to run; default is where the module is. For ONNX, "cpu" or "cuda".
    options : what one kind of object alone takes; see :func:`explainer.adapters.torch.wrap_torch`,
        :func:`explainer.adapters.onnx.wrap_onnx` and :func:`explainer.adapters.http.wrap_http`.

    Raises Unsupported for an object of another kind, InvalidInput for arguments that do not fit together, UnknownName for an
    option that this kind of object does not have.
    """
    from explainer.adapters import adapter_for

    if isinstance(obj, Model):
        return obj
    common = {
        "modality": modality, "feature_names": feature_names, "class_names": class_names, "preprocess": preprocess,
        "background": background, "task": task, "returns": returns, "name": name, "device": device,
    }  # fmt: skip
    adapter = adapter_for(obj)
    if adapter is None:
        shown = f"{str(obj)!r} of type {type(obj).__name__}" if isinstance(obj, (str, PathLike)) else type(obj).__name__
        raise Unsupported(
            "wrap() takes a torch nn.Module, a scikit-learn estimator or Pipeline, a Booster, a transformers pipeline or (model, "
            "tokenizer), an ONNX file (.onnx) or session, the address of an endpoint (https://...), or a callable; "
            f"{shown} came. Pass a function of the inputs that returns (n, outputs) scores."
        )
    own = [p.name for p in inspect.signature(adapter).parameters.values() if p.kind is p.KEYWORD_ONLY and p.name not in common]
    for name_ in options:
        if name_ not in own:
            raise unknown(f"option of wrap() for {type(obj).__name__}", name_, [*own, *common])
    return adapter(obj, **common, **options)
