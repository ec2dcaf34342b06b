"""Adapter for PyTorch modules: scores in batches, gradients by named feature, and what can be read off the module."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from explainer import state
from explainer.adapters import composing, pace, strides
from explainer.adapters.encoding import OWN, Arguments, default_preprocess, first_layer, made_up, unwrapped, wanted_width
from explainer.adapters.entries import Entry, SeveralEntries, widths_of
from explainer.errors import ExplainerError, InvalidInput, UnknownName, Unsupported
from explainer.faults import out_of_memory
from explainer.inputs import Modality, canonical, take
from explainer.model import Model, Returns

if TYPE_CHECKING:
    from explainer.adapters.anatomy import Anatomy
    from explainer.adapters.gradients import GradientView

ROWS = (256, 4096)  # rows of a batch: of pictures, texts and series; of tables, whose rows cost less than the call
_CODE_KNOWN = ("torch", "torchvision", "transformers", "peft", "zoo", "explainer")  # packages whose code a version tells
_PIXELS = 2**16  # of a batch of pictures on a CPU: what convolutions make of more no longer fits its caches
_FEWEST_PICTURES = 8
_ELEMENTS = 2**22  # numbers (or characters) that enter the module at once; bigger inputs go in smaller batches


class TorchModel(Model):
    """A torch module behind the Model face; the module itself is never changed, whatever happens."""

    framework = "torch"
    differentiable = True

    def __init__(self, module: nn.Module, preprocess: Any, **names: Any) -> None:
        self.module = module
        self.core = unwrapped(module)
        self.preprocess = preprocess
        self._where, self.dtype = _place(module)
        self.device = str(self._where)
        self._rows = ROWS[names["modality"] == "tabular"]
        self.entry = Entry(None, widths_of(names["class_names"]))
        self._most = pace.MOST  # as far as memory has been seen to go
        self._described: str | None = None
        self._measured: dict[str, int] = {}
        self.padding_counts = False
        self._channels_last: bool | None = None  # whether pictures enter the module so; None as long as none was scored
        self.overwrites = False  # whether the module writes over what its own backward pass needs; found by the anatomy
        self._sample: Any = None
        self._anatomy: Anatomy | None = None
        self._met: Any = None  # inputs to be explained, of which the anatomy has not been told
        super().__init__(**names)

    # -- scores ------------------------------------------------------------------------------------------------------

    def raw(self, inputs: Any, at_once: int | None = None) -> np.ndarray:
        result: np.ndarray | None = None
        with self.scoring():
            if self._channels_last is None and len(inputs):
                self._channels_last = self.modality == "image" and strides.gains(self, self.encode(take(inputs, slice(0, 1))))
            for rows in self.batches(inputs, at_once and min(at_once, self._most)):
                scores = self._score(inputs if len(rows) == len(inputs) and not isinstance(inputs, list) else take(inputs, rows))
                if result is None:
                    result = np.empty((len(inputs), scores.shape[1]))
                result[rows] = scores
        assert result is not None
        return result

    def _score(self, batch: Any) -> np.ndarray:
        """One batch, cut in two for as long as memory does not hold it."""
        try:
            return self.forward(self.encode(batch, bool(self._channels_last))).double().cpu().numpy()
        except RuntimeError as error:
            if not out_of_memory(error) or len(batch) == 1:
                raise
        half = (len(batch) + 1) // 2
        self._rows, self._most = min(self._rows, half), min(self._most, half)
        return np.concatenate([self._score(take(batch, slice(0, half))), self._score(take(batch, slice(half, None)))])

    def embedding(self, inputs: Any) -> np.ndarray | None:
        from explainer.adapters.embedding import embedding

        return embedding(self, inputs)

    def composer(self, features: Any) -> composing.Composer | None:
        return composing.composer(self, features)

    def rows_at_once(self, inputs: Any, measured: bool = False) -> int:
        usual = self._usual(inputs)
        if not measured:
            return usual
        if self._described is None:
            versions = f"{torch.__version__} {torch.get_num_threads()}"
            self._described = f"{hashlib.sha256(repr(self.core).encode()).hexdigest()} {self._where} {self.dtype} {versions}"
        kind = pace.kind_of(inputs)
        if kind not in self._measured:
            self._measured[kind] = pace.rows_at_once(f"{self._described} {kind}", self.raw, inputs, usual, self._most)
        return min(self._measured[kind], self._most)

    def _usual(self, inputs: Any) -> int:
        """Rows of a batch where nothing was measured."""
        if self.modality != "image" or self._where.type != "cpu":
            return self._rows
        return min(self._rows, max(_FEWEST_PICTURES, 1 << max(0, (_PIXELS // int(np.prod(inputs.shape[1:]))).bit_length() - 1)))

    def batches(self, inputs: Any, rows: int | None = None) -> Iterator[np.ndarray]:
        """Indices of batches of similar length, so that padding is cheap; never padded where padding changes the scores."""
        limit = rows or self._usual(inputs)
        if not isinstance(inputs, list):
            width = int(np.prod(inputs.shape[1:]))
            size = max(1, min(limit, _ELEMENTS // max(1, width)))
            if len(inputs) <= size:
                yield np.arange(len(inputs))
            else:
                yield from np.array_split(np.arange(len(inputs)), -(-len(inputs) // size))
            return
        lengths = np.array([np.size(one) if isinstance(one, np.ndarray) else len(one) for one in inputs])
        equal_only = getattr(self.preprocess, "equal_only", False) or self.padding_counts
        if self.padding_counts and self.modality == "text":
            limit = 1  # how many tokens a text has is known only once it is encoded
        batch: list[int] = []
        for i in np.argsort(lengths, kind="stable"):
            full = len(batch) >= limit or (len(batch) + 1) * int(lengths[i]) > _ELEMENTS // 32
            if batch and (full or (equal_only and lengths[i] != lengths[batch[-1]])):
                yield np.array(batch)
                batch = []
            batch.append(int(i))
        yield np.array(batch)

    def encode(self, inputs: Any, channels_last: bool = False) -> Arguments:
        """Canonical inputs as the tensors the module takes, on its device and in its dtype (pictures with their channels last)."""
        self._settle()
        if isinstance(inputs, composing.Composed):
            return inputs.encoded(channels_last)
        try:
            encoded = self.preprocess(inputs if isinstance(self.preprocess, OWN) else self.handed_out(inputs))
        except ExplainerError:
            raise
        except Exception as error:
            raise InvalidInput(
                f"preprocess failed on {len(inputs)} {self.modality} inputs: {type(error).__name__}: {error}. "
                f"It gets canonical inputs ({type(inputs).__name__}) and must give tensors."
            ) from error
        arguments = Arguments.of(encoded, self._where, self.dtype, channels_last)
        if len(arguments) != len(inputs):
            raise InvalidInput(f"preprocess gave {arguments.describe()} for {len(inputs)} inputs; one row per input is needed.")
        return arguments

    def forward(self, arguments: Arguments, core: bool = False) -> Tensor:
        """The module's scores ``(n, outputs)``, taken out of whatever container they come in."""
        try:
            given = self.answer(arguments, self.core if core else self.module)
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
            if isinstance(error, ExplainerError) or out_of_memory(error):
                raise
            raise InvalidInput(self._misfit(arguments, error)) from error
        return self.entry.scores(given, len(arguments))

    def answer(self, arguments: Arguments, module: nn.Module) -> Any:
        """What ``module`` gives, in its container; an encoder may know where in it the scores stand (``.read``)."""
        laid_out = strides.channels_last(arguments) if self._channels_last else arguments
        return getattr(self.preprocess, "read", Arguments.call)(laid_out, module)

    def _misfit(self, arguments: Arguments, error: Exception) -> str:
        first = first_layer(self.core)
        wants = f" Its first layer is {first}." if first is not None else ""
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if "more than 1 value per channel" in reason:
            return (
                f"The module {type(self.core).__name__} cannot score {arguments.describe()}: {reason}. A batch norm without running "
                "statistics takes them from the batch, so that the score of an input depends on what stands beside it: give it some "
                "(track_running_stats=True), or wrap a function that scores row by row."
            )
        return (
            f"The module {type(self.core).__name__} failed on {arguments.describe()}: {reason}.{wants} "
            "Check the shape of the inputs, or give the preprocess= that the module was trained with."
        )

    def scoring(self) -> AbstractContextManager[None]:
        """Eval mode without gradients, restored on leaving."""
        self._settle()
        return state.scoring(state.Evaluation.of(self.module), self._where)

    def differentiating(self) -> AbstractContextManager[None]:
        """Eval mode with gradients, restored on leaving; parameters' own ``.grad`` is never touched."""
        self._settle()
        recurrent = any(isinstance(m, nn.RNNBase) for m in self.core.modules())
        return state.differentiating(state.Evaluation.of(self.module), self._where, recurrent, self.overwrites)

    def _settle(self) -> None:
        """Follow the module where its owner has moved it since (another device or dtype); what was measured before is forgotten."""
        first = next(self.core.parameters(), None)
        if first is None or (first.device == self._where and first.dtype == self.dtype):
            return
        place = _place(self.module)
        if place != (self._where, self.dtype):
            (self._where, self.dtype), self.device = place, str(place[0])
            self._described, self._measured, self._anatomy, self._channels_last = None, {}, None, None

    def on(self, module: nn.Module) -> Self:
        """The same model with ``module`` in the place of its own: a copy, or one that computes the same in another way."""
        twin = copy.copy(self)
        twin.module, twin.core = module, unwrapped(module)
        twin._where, twin.dtype = _place(module)
        twin.device = str(twin._where)
        twin._described, twin._measured, twin._anatomy = None, {}, None
        return twin

    @property
    def unhashed(self) -> str:
        strange = {type(m).__qualname__ for m in self.core.modules() if type(m).__module__.partition(".")[0] not in _CODE_KNOWN}
        named = ", ".join(sorted(strange)[:3])
        code = f"The model's sha256 does not cover the code of its classes, nor what they hold beside weights ({named})."
        return " ".join(filter(None, (code if strange else "", super().unhashed)))

    def fingerprint(self) -> str:
        told = "" if self.entry.told is None else f"{self.entry.told!r}"
        digest = hashlib.sha256(f"{self.core!r}{told}".encode())
        for key, value in self.core.state_dict().items():
            if isinstance(value, Tensor):
                array = value.detach().cpu().contiguous()
                digest.update(f"{key}{array.dtype}{tuple(array.shape)}".encode())
                digest.update(array.reshape(-1).view(torch.uint8).numpy().tobytes() if array.numel() else b"")
            else:
                digest.update(f"{key}{value!r}".encode())
        return digest.hexdigest()

    # -- what gradients and attention need -----------------------------------------------------------------------------

    def gradient_view(self, inputs: Any) -> GradientView:
        """See :class:`explainer.adapters.gradients.GradientView`. Raises Unsupported where features cannot be told apart."""
        from explainer.adapters.gradients import gradient_view

        return gradient_view(self, inputs)

    def anatomy(self) -> Anatomy:
        """What can be read off the module without data, and from one probe forward where an input is at hand (cached)."""
        if self._anatomy is None:
            from explainer.adapters.anatomy import read_anatomy

            self._anatomy = read_anatomy(self)
        if self._met is not None:
            from explainer.adapters.anatomy import met

            self._anatomy, self._met = met(self, self._anatomy, self._met), None
        return self._anatomy

    def meet(self, inputs: Any) -> None:
        if self.sample() is None:
            self._sample, self._anatomy = take(inputs, slice(0, 1)), None
        self._met = inputs

    def sample(self) -> Any:
        """One canonical input to probe with: a background row, or a made-up input that the module takes; None where none is."""
        if self.background is not None:
            return take(self.background, slice(0, 1))
        if self._sample is None:
            for made in made_up(self.core, self.modality, self.feature_names, self.preprocess):
                try:
                    self.raw(made)
                    self._sample = made
                    break
                except (SeveralEntries, UnknownName):
                    raise
                except Exception:  # what is made up may not fit; that says nothing about the module
                    continue
        return self._sample


def wrap_torch(
    module: nn.Module,
    *,
    modality: Any = None,
    feature_names: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    preprocess: Any = None,
    background: Any = None,
    task: Any = None,
    returns: Returns | None = None,
    name: str | None = None,
    device: Any = None,
    output: str | int | None = None,
) -> TorchModel:
    """Wrap a torch module; see :func:`explainer.wrap` for the parameters. Raises InvalidInput where something must be told.

    ``output``: the entry of the tuple, mapping or dataclass the module gives that holds the scores, where several could.

    A ``device`` other than the module's own gets a copy: the caller's module stays where it is.
    """
    if modality is None:
        example = "(net, modality='image', class_names=[...])"
        if hasattr(module, "config"):
            example = "((model, tokenizer)), with the tokenizer, image processor or feature extractor it was trained with"
        raise InvalidInput(
            "A torch module does not say what it takes: pass modality='tabular', 'image', 'text' or 'series'. "
            f"For example explainer.wrap{example}."
        )
    core = unwrapped(module)
    if device is not None and torch.device(device) != _place(module)[0]:
        module = copy.deepcopy(core).to(device)
    names = _feature_names(core, modality, feature_names, preprocess, background)
    encoder = preprocess if preprocess is not None else default_preprocess(core, modality, len(names))
    draft = TorchModel(module, encoder, modality=modality, class_names=("?",), feature_names=names, background=background)
    draft.entry = Entry(output, None if class_names is None else widths_of([class_names] if isinstance(class_names, str) else class_names))
    probe, activation = _probe(draft)
    outputs = probe.shape[1] if probe is not None else _outputs(core)
    if class_names is None and outputs is None:
        raise InvalidInput(
            "How many outputs the module has cannot be told from its layers; pass class_names= (one per output; for a regression "
            "name its outputs and pass task='regression'), or background= to probe it with."
        )
    if returns == "value":
        task = task or "regression"
    task = task or ("regression" if class_names is None and outputs == 1 and returns is None else "classification")
    width = outputs or 1
    if class_names is None:
        word = "output" if task == "regression" else "class"
        class_names = ["output"] if width == 1 and task == "regression" else [f"{word} {i}" for i in range(2 if width == 1 else width)]
    class_names = [class_names] if isinstance(class_names, str) else list(class_names)
    one_for_two = width == 1 and len(class_names) == 2 and task == "classification"
    if probe is not None and width != len(class_names) and not one_for_two:
        came = ", ".join(map(str, class_names[:6]))
        raise InvalidInput(f"The module has {width} outputs, but {len(class_names)} class_names came ({came}).")
    model = TorchModel(
        module,
        encoder,
        modality=modality,
        feature_names=names,
        class_names=class_names,
        task=task,
        returns=returns or _returns(core, probe, activation),
        background=background,
        name=name or type(core).__name__,
    )
    model._channels_last = draft._channels_last
    model._sample, model.entry = draft._sample, Entry(output, model.entry.widths, draft.entry.found)
    model.padding_counts = modality in ("text", "series") and _padding_counts(draft, draft.background)
    return model


def unwrap(output: Any, rows: int) -> Tensor:
    """The scores ``(rows, outputs)`` in a tensor or a container, found as :class:`~explainer.adapters.entries.Entry` does."""
    return Entry().scores(output, rows)


def _place(module: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Where the module is and the dtype of its first floating parameter."""
    tensors = [*module.parameters(), *module.buffers()]
    device = tensors[0].device if tensors else torch.device("cpu")
    return device, next((t.dtype for t in tensors if t.is_floating_point()), torch.float32)


def _feature_names(core: nn.Module, modality: Modality, names: Any, preprocess: Any, background: Any) -> tuple[str, ...]:
    if names is not None:
        return tuple(str(n) for n in names)
    if modality not in ("tabular", "series"):
        return ()
    if getattr(preprocess, "feature_names", None) is not None:
        return tuple(str(n) for n in preprocess.feature_names)
    if background is not None:
        known = canonical(background, modality)
        return tuple(map(str, known.columns)) if modality == "tabular" else tuple(f"channel {c}" for c in range(known[0].shape[1]))
    width = wanted_width(core) if preprocess is None else None
    if modality == "series" and not isinstance(first_layer(core), (nn.RNNBase, nn.Conv1d)):
        return ()  # a layer that is registered first need not be the one the channels enter
    if width is None and modality == "tabular":
        raise InvalidInput("The names of the table's columns cannot be told from the module; pass feature_names= or background=.")
    return tuple(f"x{i}" if modality == "tabular" else f"channel {i}" for i in range(width or 0))


def _probe(model: TorchModel) -> tuple[np.ndarray | None, str | None]:
    """Raw outputs at a few inputs, and the activation that made them. The caller's background must work; made-up inputs need not."""
    from explainer.adapters.taps import ActivationTap

    inputs = model.sample() if model.background is None else take(model.background, slice(0, 64))
    if inputs is None:
        return None, None
    with model.scoring(), ActivationTap() as tap:
        activation = tap.made(model.forward(model.encode(take(inputs, slice(0, 1))), core=True))
    return model.raw(inputs), activation


def _padding_counts(model: TorchModel, background: Any) -> bool:
    """Whether a short input scores otherwise when it is padded to the length of a longer one (the module ignores its mask)."""
    if getattr(model.preprocess, "equal_only", False) or (background is None and model.modality == "series" and not model.feature_names):
        return False
    if background is not None:
        ordered = sorted(range(len(background)), key=lambda i: len(background[i]))
        pair = take(background, [ordered[0], ordered[-1]])
    elif model.modality == "text":
        pair = ["probe", "probe " * 8]
    else:
        rng = np.random.default_rng(0)
        pair = [rng.normal(size=(length, len(model.feature_names))).astype(np.float32) for length in (16, 24)]
    try:
        with model.scoring():
            together, alone = (model.forward(model.encode(inputs), core=True)[0].double() for inputs in (pair, pair[:1]))
    except ExplainerError:
        if background is not None:
            raise
        return False
    return bool((together - alone).abs().max() > 1e-3 * max(1.0, float(alone.abs().max())))


def _outputs(core: nn.Module) -> int | None:
    linear = [m for m in core.modules() if isinstance(m, nn.Linear)]
    return linear[-1].out_features if linear else None


def _returns(core: nn.Module, probe: np.ndarray | None, activation: str | None) -> Returns:
    """Whether the outputs are probabilities: by the operation that made them, by the rows, or else by the last layer's type."""
    if probe is not None:
        sums_to_one = probe.shape[1] > 1 and bool((probe >= 0).all() and np.allclose(probe.sum(1), 1, atol=1e-3))
        return "probability" if sums_to_one or activation in ("softmax", "sigmoid") else "logit"
    silent = (nn.Dropout, nn.Identity, nn.Flatten, nn.Unflatten)
    leaves = [m for m in core.modules() if not list(m.children()) and not isinstance(m, silent)]
    return "probability" if leaves and isinstance(leaves[-1], (nn.Softmax, nn.Sigmoid)) else "logit"


def require_torch(model: Model, method: str) -> TorchModel:
    """``model`` as a TorchModel. Raises Unsupported for another framework, naming what works instead."""
    if not isinstance(model, TorchModel):
        raise Unsupported(
            f"{method} needs the gradients or layers of a torch module; {model.name} is a {model.framework} model. Use 'shap' or 'lime'."
        )
    return model
