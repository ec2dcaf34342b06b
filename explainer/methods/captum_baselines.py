"""What a captum object compares inputs with: captum's tensors and numbers, or the names that every other method takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from explainer.adapters.torch import TorchModel
from explainer.errors import InvalidInput
from explainer.methods.passes import Batch, Functional
from explainer.methods.references import References
from explainer.target import Target


class Baselines:
    """``of(batch)`` gives reference points ``(count, n or 1, ...)``; ``distribution``: the object takes many, shared by the inputs;
    ``plain``: tensors or numbers as captum has them.
    """

    def __init__(self, model: TorchModel, inputs: Any, spec: Any, background: Any, seed: int, distribution: bool) -> None:
        if isinstance(spec, tuple) and len(spec) == 1:
            spec = spec[0]
        self.distribution = distribution
        self._model, self._spec, self._n = model, spec, len(inputs)
        self.plain = isinstance(spec, Tensor) or (isinstance(spec, (int, float)) and not isinstance(spec, bool))
        self._named = None if self.plain else References(model, inputs, spec, background, seed, single=not distribution)

    @property
    def count(self) -> int:
        if self._named is not None:
            return self._named.count
        return len(self._spec) if self.distribution and isinstance(self._spec, Tensor) and self._spec.ndim else 1

    @property
    def in_words(self) -> str:
        if self._named is not None:
            return self._named.in_words
        return "given" if isinstance(self._spec, Tensor) else f"{self._spec:g} everywhere"

    def of(self, batch: Batch) -> Tensor:
        x = batch.at_input.x
        if self._named is not None:
            return self._named.of(batch).to(x)
        if not isinstance(self._spec, Tensor) or self._spec.ndim == 0:
            return torch.full_like(x, float(self._spec))[None]
        given = self._spec.detach()
        if not given.is_floating_point() and batch.at_input.embedded:
            return self._embedded(batch, given)[None]
        given = given.to(x)
        if given.shape[1:] != x.shape[1:]:
            raise InvalidInput(f"baselines= has shape {tuple(given.shape)}; the module's input has {tuple(x.shape[1:])} per row.")
        if self.distribution:
            return given[:, None]
        return self._rows(given, batch)[None]

    def wanted(self, x: Tensor) -> Tensor:
        """Plain baselines ``(m, ...)`` as they enter the module beside one input ``x`` (1, ...)."""
        if isinstance(self._spec, Tensor) and self._spec.ndim:
            return self._spec.detach().to(x).expand(-1, *x.shape[1:])
        return torch.full_like(x, float(self._spec))

    def ids(self, batch: Batch) -> Tensor:
        """Token ids with which the words are absent, for objects that take the ids themselves."""
        view = batch.at_input
        ids = view.others[view.position]
        if isinstance(self._spec, Tensor) and not self._spec.is_floating_point():
            return self._rows(self._spec.to(ids), batch).expand_as(ids)
        word = self._spec if isinstance(self._spec, str) else ""
        attribute = {"auto": "pad_id", "mask": "mask_id"}.get(word)
        assert view.embedding is not None
        token = getattr(self._model.preprocess, attribute, view.embedding.padding_idx if word == "auto" else None) if attribute else None
        if token is None:
            raise InvalidInput(
                f"baseline={self._spec!r} is not a token; objects that take token ids need 'auto' (the padding token), 'mask', or ids as "
                "baselines=."
            )
        return torch.where(view.layout.word_positions(ids.device), torch.full_like(ids, int(token)), ids)  # type: ignore[attr-defined]

    def value(self, batch: Batch, goal: Target, starts: Tensor, rows: int) -> np.ndarray:
        """The number explained at the references, their mean per input; ``rows`` fit into one pass."""
        total = np.zeros(len(batch.rows))
        with torch.no_grad():
            for part in starts.split(max(1, rows // len(batch.rows))):
                raw, numbers = batch.at(part)
                total += Functional(batch, goal).head(raw, numbers).reshape(len(part), -1).sum(0).cpu().numpy()
        return total / len(starts)

    def _embedded(self, batch: Batch, ids: Tensor) -> Tensor:
        """Ids as the embedding layer sees them."""
        view = batch.at_input
        assert view.embedding is not None
        with torch.no_grad():
            return view.embedding(self._rows(ids.to(view.x.device), batch)).to(view.x.dtype).expand_as(view.x)

    def _rows(self, given: Tensor, batch: Batch) -> Tensor:
        if len(given) not in (1, self._n):
            raise InvalidInput(f"baselines= has {len(given)} rows for {self._n} inputs; pass one, or one for each.")
        return given if len(given) == 1 else given[batch.numbers.to(given.device)]
