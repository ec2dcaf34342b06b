"""A model of the gallery as a question with one right answer: its tensors, its score in float64, its parts and its absences."""

from __future__ import annotations

import inspect
import itertools
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from explainer.inputs import take

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "explainer"))  # behind: it has modules of the same names
from model_gallery import GALLERY

Part = tuple[tuple[int, ...], tuple[Tensor, ...]]  # where it stands in our values, and which entries of the tensors it is
_PIXELS = 6  # of a picture, that are looked at one by one
_DRAWS = 4096  # whose mean is the score of a model that draws at random
_ALONE = {"batch norm without statistics", "quantised"}  # rows of one batch change each other's scores
_AT_RANDOM = {"dropout always on"}
_COARSE = {"bfloat16": 0.1, "dropout always on": 0.05, "quantised": 0.1}  # what the model's own arithmetic leaves uncertain


def scores_of(output: Any) -> Tensor:
    """The scores in what a module gives: a tensor, a tuple, a mapping or an object with ``logits``."""
    if isinstance(output, Tensor):
        return output
    if hasattr(output, "logits"):
        return output.logits
    return output["logits"] if hasattr(output, "keys") else next(one for one in output if isinstance(one, Tensor))


class Face(nn.Module):
    """The module as captum's and shap's documentation ask for it: float tensors in, scores out.

    What else the module takes is kept and repeated. Integer tokens enter as the output of their embedding layers: by
    ``inputs_embeds`` where ``documented`` and the module has it, else in place of what the layers give (captum's
    ``configure_interpretable_embedding_layer``). ``by_tokens`` takes the ids themselves, for methods that only call the model.
    """

    def __init__(self, case: Case, module: nn.Module, documented: bool = True, by_tokens: bool = False) -> None:
        super().__init__()
        self.module, self.case, self.by_tokens = module, case, by_tokens
        core = case.core_of(module)
        self.embeds = documented and hasattr(core, "get_input_embeddings") and "inputs_embeds" in inspect.signature(core.forward).parameters
        self.layers = [core.get_submodule(name) for name in case.tables]

    def forward(self, *given: Tensor) -> Tensor:
        case, rows, kept = self.case, len(given[0]), {}
        for number, tensor in enumerate(case.arguments):
            kept[number] = tensor.expand(rows, *tensor.shape[1:]) if len(tensor) == 1 else tensor
        if self.by_tokens or not case.tables:
            kept |= dict(zip(case.positions, given, strict=True))
            return scores_of(self._call(list(kept.values())))
        if self.embeds:
            names = dict(zip(case.argument_names or (), kept.values(), strict=True))
            names.pop("input_ids")
            return scores_of(self.module(inputs_embeds=given[0], **names))
        with ExitStack() as stack:
            for layer, value in zip(self.layers, given, strict=True):
                stack.enter_context(_instead(layer, kept[case.positions[0]], value))
            return scores_of(self._call(list(kept.values())))

    def _call(self, tensors: list[Tensor]) -> Any:
        names = self.case.argument_names
        return self.module(**dict(zip(names, tensors, strict=True))) if names else self.module(*tensors)


@contextmanager
def _instead(layer: nn.Module, ids: Tensor, value: Tensor) -> Iterator[None]:
    def replace(_: nn.Module, given: tuple[Any, ...], __: Tensor) -> Tensor | None:
        return value if given and given[0].shape == ids.shape and bool((given[0] == ids).all()) else None

    handle = layer.register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


class Double(TorchFunctionMode):
    """Float64 throughout: models that compute a part in float32 whatever they are given would hide small differences."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(function, "__name__", "") == "float":
            return args[0].double()
        wide = [torch.float64 if one is torch.float32 else one for one in args]
        named = {key: torch.float64 if one is torch.float32 else one for key, one in (kwargs or {}).items()}
        return function(*wide, **named)


@contextmanager
def in_double() -> Iterator[None]:
    was = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with Double():
            yield
    finally:
        torch.set_default_dtype(was)


@dataclass
class Case:
    """One model of the gallery with its first input.

    Attributes
    ----------
    arguments : every tensor the module takes, of one input; ``positions`` are those that are explained (for text: the ids).
    tables : names of the embedding layers that take the ids of a text.
    column : the output that is explained, the highest at the input.
    """

    name: str
    model: Any = field(init=False)
    given: Any = field(init=False)

    def __post_init__(self) -> None:
        self.model, inputs = GALLERY[self.name]()
        self.given = take(self.model.canonical(inputs), slice(0, 1))
        encoded = self.model.encode(self.given)
        self.arguments, self.argument_names = [t.clone() for t in encoded.tensors], encoded.names
        text = self.modality == "text"
        self.positions = [0] if text else [i for i, t in enumerate(self.arguments) if t.is_floating_point()]
        self.tables = self._tables() if text else []
        self.column = int(self.model.raw(self.given)[0].argmax())

    @property
    def modality(self) -> str:
        return str(self.model.modality)

    @property
    def kind(self) -> str:
        kinds = {"tabular": "tables", "image": "pictures", "series": "series", "text": "embeddings and attention"}
        known = any(hasattr(module, "config") for module in self.core_of(self.model.module).modules())
        return "transformers models" if known else kinds[self.modality]

    @property
    def target(self) -> int:
        """The class of ours that is the module's output ``column``."""
        return 1 if self.model.raw(self.given).shape[1] == 1 and len(self.model.class_names) == 2 else self.column

    @property
    def tolerance(self) -> float:
        return _COARSE.get(self.name, 0.0)

    def core_of(self, module: nn.Module) -> nn.Module:
        core = getattr(module, "_orig_mod", module)
        return core.module if isinstance(core, nn.DataParallel) else core

    def handed(self) -> nn.Module:
        """The module as its owner hands it over, made anew: whatever a tool did to it before is gone."""
        return GALLERY[self.name]()[0].module

    def face(self, by_tokens: bool = False) -> Face:
        """The module as handed over, behind the face that the peers need, in the mode it came in."""
        return Face(self, self.handed(), by_tokens=by_tokens)

    @cached_property
    def inputs(self) -> tuple[Tensor, ...]:
        """The float tensors that are differentiated at, ``(1, ...)`` each."""
        if not self.tables:
            return tuple(self.arguments[i] for i in self.positions)
        core = self.core_of(self.model.module)
        with torch.no_grad():
            return tuple(core.get_submodule(name)(self.arguments[0]).detach() for name in self.tables)

    # -- the score, seen from outside ---------------------------------------------------------------------------------

    @cached_property
    def exact(self) -> Face:
        """A float64 copy in eval mode; in float32 where the module's arithmetic knows no other."""
        core = self.core_of(self.handed()).eval()
        if self.name != "quantised":
            core = core.double()
        return Face(self, core, documented=False).eval()

    @property
    def step(self) -> float:
        return 1e-3 if self.name == "quantised" else 1e-6

    def precise(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(t.float() if self.name == "quantised" else t.double() for t in tensors)

    def score(self, *points: Tensor) -> np.ndarray:
        """The score of each point ``(m,)``; of a model that draws at random its mean over draws, the same for all points."""
        points = self.precise(points)
        with torch.no_grad():
            if self.name in _AT_RANDOM:
                return np.array([self._mean(*(p[i : i + 1] for p in points)) for i in range(len(points[0]))])
            size = 1 if self.name in _ALONE else 512
            groups = zip(*(p.split(size) for p in points), strict=True)
            return np.concatenate([self._exactly(*(t.clone() for t in group)) for group in groups])

    def _exactly(self, *points: Tensor) -> np.ndarray:
        with self.in_exact():
            return self.exact(*points)[:, self.column].double().numpy()

    @contextmanager
    def in_exact(self) -> Iterator[None]:
        """Where the float64 copy is called."""
        if self.name == "quantised":
            yield
            return
        assert self.exact is not None  # made before float64 is the default, in which its weights would be drawn differently
        kept, self.arguments = self.arguments, [t.double() if t.is_floating_point() else t for t in self.arguments]
        try:
            with in_double():
                yield
        finally:
            self.arguments = kept

    def _mean(self, *point: Tensor) -> float:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return float(self._exactly(*(t.repeat(_DRAWS, *[1] * (t.ndim - 1)) for t in point)).mean())

    # -- parts and references ---------------------------------------------------------------------------------------------

    @cached_property
    def parts(self) -> list[Part]:
        """Columns, words, steps of channels, or some pixels, with the entries of :attr:`inputs` that belong to them."""
        if self.modality == "text":
            return [((j,), tuple(self._at_tokens(t, tokens) for t in self.inputs)) for j, tokens in enumerate(self.words)]
        if self.modality == "tabular":
            return list(self._columns())
        (x,) = self.inputs
        rng = np.random.default_rng(0)
        shape = x.shape[2:] if self.modality == "image" else self.given[0].shape
        cells = list(np.ndindex(*shape))
        chosen = [cells[i] for i in sorted(rng.choice(len(cells), min(_PIXELS, len(cells)), replace=False))]
        return [(cell, (self._at_cell(x, cell),)) for cell in chosen]

    def _columns(self) -> Iterator[Part]:
        number = 0
        for position, x in enumerate(self.inputs):
            for j in range(x.shape[1]):
                masks = [torch.zeros_like(t) for t in self.inputs]
                masks[position][0, j] = 1
                yield (number,), tuple(masks)
                number += 1

    def _at_cell(self, x: Tensor, cell: tuple[int, ...]) -> Tensor:
        mask = torch.zeros_like(x)
        if self.modality == "image":
            mask[0, :, cell[0], cell[1]] = 1
        else:
            mask[(0, *(cell if x.shape[1:] == self.given[0].shape else cell[::-1]))] = 1
        return mask

    @staticmethod
    def _at_tokens(x: Tensor, tokens: list[int]) -> Tensor:
        mask = torch.zeros_like(x)
        mask[0, tokens] = 1
        return mask

    @cached_property
    def words(self) -> list[list[int]]:
        """The tokens of each word of a text."""
        offsets = self.model.preprocess.offsets(self.given)[0]
        spans = [m.span() for m in re.finditer(r"\S+", self.given[0])]
        return [[t for t, (a, b) in enumerate(offsets) if b > a and start <= a < end] for start, end in spans]

    @cached_property
    def baseline(self) -> tuple[Tensor, ...]:
        """Zero; of a text, zero vectors at the words' tokens."""
        if self.modality != "text":
            return tuple(torch.zeros_like(x) for x in self.inputs)
        every = [t for tokens in self.words for t in tokens]
        return tuple(x * (1 - self._at_tokens(x, every)) for x in self.inputs)

    @cached_property
    def background(self) -> Any:
        """Three reference inputs as ours takes them; none for text, whose reference is the baseline."""
        rng = np.random.default_rng(5)
        if self.modality == "text":
            return None
        if self.modality == "tabular":
            return type(self.given)(rng.normal(size=(3, self.given.shape[1])).astype(np.float32), columns=self.given.columns)
        if self.modality == "image":
            return rng.random((3, *self.given.shape[1:])).astype(np.float32)
        return [rng.normal(size=self.given[0].shape).astype(np.float32) for _ in range(3)]

    @cached_property
    def references(self) -> tuple[Tensor, ...]:
        """The same as tensors ``(references, ...)``; of a text the baseline twice, for captum takes no single one."""
        if self.background is None:
            return tuple(torch.cat([b, b]) for b in self.baseline)
        encoded = self.model.encode(self.model.canonical(self.background)).tensors
        return tuple(encoded[i] for i in self.positions)

    # -- absences -------------------------------------------------------------------------------------------------------

    @cached_property
    def labels(self) -> np.ndarray:
        """Which quarter of a picture each pixel is in, or which third (of many channels: half) of a series each step."""
        if self.modality == "image":
            high, wide = self.given.shape[1:3]
            return (np.arange(high) * 2 // high)[:, None] * 2 + np.arange(wide) * 2 // wide
        steps, channels = self.given[0].shape
        return np.arange(steps) * (2 if channels > 3 else 3) // steps

    @cached_property
    def players(self) -> tuple[Tensor, ...]:
        """The player of every entry of what a perturbing method is given: the tensors, or a text's ids (-1: none)."""
        if self.modality == "text":
            mask = torch.full_like(self.arguments[0], -1)
            for j, tokens in enumerate(self.words):
                mask[0, tokens] = j
            return (mask,)
        if self.modality == "tabular":
            ends = np.cumsum([0, *(x.shape[1] for x in self.inputs)])
            return tuple(torch.arange(int(a), int(b))[None] for a, b in itertools.pairwise(ends))
        (x,) = self.inputs
        if self.modality == "image":
            return (torch.tensor(self.labels).expand(x.shape).clone(),)
        channels = self.given[0].shape[1]
        grid = torch.tensor(self.labels)[:, None] * channels + torch.arange(channels)
        return ((grid if x.shape[1:] == grid.shape else grid.T)[None].clone(),)

    @property
    def count(self) -> int:
        return 1 + int(max(mask.max() for mask in self.players))

    def absent(self, kept: np.ndarray) -> tuple[Tensor, ...]:
        """The tensors (or ids) of coalitions ``(m, players) bool``: absent entries are 0, which is a text's padding token."""
        made = []
        for x, player in zip([self.arguments[i] for i in self.positions], self.players, strict=True):
            shown = torch.tensor(np.concatenate([kept, np.ones((len(kept), 1), dtype=bool)], 1))[:, player[0]]
            made.append(torch.where(shown, x, torch.zeros_like(x)))
        return tuple(made)

    def game(self, removed: bool = False) -> Callable[[np.ndarray], np.ndarray]:
        """The score of coalitions; of a text with its words ``removed``, or padded."""
        if self.modality != "text":
            return lambda kept: self.score(*self.absent(kept))
        return self._texts if removed else self._padded

    def _padded(self, kept: np.ndarray) -> np.ndarray:
        self.exact.by_tokens = True
        try:
            with torch.no_grad():
                return self._exactly(*self.absent(kept))
        finally:
            self.exact.by_tokens = False

    def _texts(self, kept: np.ndarray) -> np.ndarray:
        words = self.given[0].split()
        found = []
        for row in kept:
            encoded = self.model.encode([" ".join(word for word, here in zip(words, row, strict=True) if here)])
            names, tensors = encoded.names, list(encoded.tensors)
            with torch.no_grad(), self.in_exact():
                output = self.exact.module(**dict(zip(names, tensors, strict=True))) if names else self.exact.module(*tensors)
            found.append(float(scores_of(output)[0, self.column]))
        return np.array(found)

    def _tables(self) -> list[str]:
        """The embedding layers that are given the ids, in one pass."""
        core, ids, found = self.core_of(self.model.module), self.arguments[0], []

        def see(name: str) -> Callable[..., None]:
            return lambda _, given, __: found.append(name) if torch.equal(given[0], ids) and name not in found else None

        with ExitStack() as stack, torch.no_grad():
            for name, layer in core.named_modules():
                if isinstance(layer, nn.Embedding):
                    stack.callback(layer.register_forward_hook(see(name)).remove)
            self.model.raw(self.given)
        return found


__all__ = ["GALLERY", "Case", "Face", "Part"]
