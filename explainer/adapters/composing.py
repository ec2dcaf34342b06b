"""Rows of coalitions put together after encoding: inputs and stand-ins are encoded once, and parts are hidden where the model computes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from explainer.adapters.encoding import Arguments
from explainer.features.base import Cells, Features

if TYPE_CHECKING:
    from explainer.adapters.torch import TorchModel

Asks = Sequence[tuple[int, np.ndarray]]
_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
_MOST_BYTES = 2**28  # of instances held encoded; more of them make their rows in the usual way
_BYTES_AT_ONCE = 2**24  # of rows in the trial
_TRIED = 64  # instances of the trial
_DENSITIES = (0.0, 0.2, 0.5, 0.5, 0.8, 1.0)  # shares of players present in its coalitions; of more than eight instances two each


class Composer:
    """Encoded instances and stand-ins on the model's device, and the player that each encoded cell belongs to."""

    def __init__(self, own: Arguments, away: Tensor, cells: Cells, players: Sequence[Any], raw: tuple[int, ...]) -> None:
        self.arguments, self.shared, self.players, self.raw = own, cells.shared, players, raw
        self.repeats = len(away) if cells.shared else 1
        self._dtype, bits = away.dtype, _BITS[away.itemsize]
        self._own, self._away = own.tensors[0].view(bits), away.view(bits)
        self._alone = cells.shared and np.array_equal(players[0], np.arange(away.shape[1]))  # one column, one player

    def rows(self, asks: Asks) -> Composed:
        return Composed(self, asks, 0, sum(len(masks) for _, masks in asks) * self.repeats)

    def build(self, asks: Asks, channels_last: bool) -> Tensor:
        """Encoded rows, those of one coalition together: by bits, b ^ (present * (x ^ b)), exact and without a branch per cell."""
        return (self._table(asks) if self.shared else self._pictures(asks, channels_last)).view(self._dtype)

    def _table(self, asks: Asks) -> Tensor:
        away, columns = self._away, self.players[0]
        sizes = [len(masks) for _, masks in asks]
        built = torch.empty((sum(sizes), *away.shape), dtype=away.dtype, device=away.device)
        for (i, masks), part in zip(asks, built.split(sizes), strict=True):
            shown = masks if self._alone else masks.take(columns, axis=1)
            torch.mul(torch.from_numpy(shown).to(away.device)[:, None], self._own[i] ^ away, out=part)
        return built.bitwise_xor_(away).flatten(0, 1)

    def _pictures(self, asks: Asks, channels_last: bool) -> Tensor:
        own, away = self._own, self._away
        sizes = [len(masks) for _, masks in asks]
        layout = torch.channels_last if channels_last else torch.contiguous_format
        built = torch.empty((sum(sizes), *own.shape[1:]), dtype=own.dtype, device=own.device, memory_format=layout)
        for (i, masks), part in zip(asks, built.split(sizes), strict=True):
            shown = torch.from_numpy(masks).to(own.device)[:, self.players[i]].unflatten(1, own.shape[2:])[:, None]
            torch.mul(shown, own[i] ^ away[i], out=part)
            part.bitwise_xor_(away[i])
        return built


class Composed:
    """The rows ``start`` to ``stop`` of some coalitions, not built yet; it is taken from like an array, in one piece."""

    def __init__(self, composer: Composer, asks: Asks, start: int, stop: int) -> None:
        self._composer, self._asks, self._start, self._stop = composer, asks, start, stop

    def __len__(self) -> int:
        return self._stop - self._start

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self._composer.raw)

    def __getitem__(self, index: slice | np.ndarray) -> Composed:
        start, stop = index.indices(len(self))[:2] if isinstance(index, slice) else (int(index[0]), int(index[-1]) + 1)
        return Composed(self._composer, self._asks, self._start + start, self._start + max(start, stop))

    def encoded(self, channels_last: bool) -> Arguments:
        """The tensors that the encoder would have made of these rows."""
        repeats, kept, passed = self._composer.repeats, [], 0
        first, last = self._start // repeats, -(-self._stop // repeats)  # coalitions
        for i, masks in self._asks:
            part = masks[max(0, first - passed) : max(0, last - passed)]
            passed += len(masks)
            if len(part):
                kept.append((i, part))
        rows = self._composer.build(kept, channels_last)
        skipped = first * repeats
        if len(rows) != len(self):
            rows = rows[self._start - skipped : self._stop - skipped].clone()  # aligned as any batch is, so that its bits are the same
        return self._composer.arguments.replace(0, rows)


def composer(model: TorchModel, features: Features) -> Composer | None:
    """A composer for the coalitions of ``features``, or None where the encoder does more than treat every cell on its own.

    That is tried on coalitions of several instances: every encoded number must be the same, to the bit.
    """
    cells = features.cells()
    if cells is None or model.modality not in ("tabular", "image") or cells.own.size * 4 > _MOST_BYTES:
        return None
    try:
        own, away = model.encode(cells.own), model.encode(cells.away)
        players = _players(model, cells, own) if len(own.tensors) == 1 else None
        if players is None:
            return None
        found = Composer(own, away.tensors[0], cells, players, cells.own.shape[1:])
        return found if _agrees(model, features, found) else None
    except Exception:  # what is wrong with encoding shows, and is told, where the rows are scored in the usual way
        return None


def _players(model: TorchModel, cells: Cells, own: Arguments) -> list[Any] | None:
    """Per instance (one for all of a table) the player of each encoded column or pixel, or None where they cannot be told."""
    encoded = own.tensors[0]
    if model.modality == "tabular":
        columns = np.asarray(getattr(model.preprocess, "groups", range(len(cells.players[0]))))
        if encoded.ndim != 2 or columns.shape != (encoded.shape[1],):
            return None
        return [cells.players[0][columns]]
    if encoded.ndim != 4 or encoded.shape[2:] != cells.own.shape[1:3]:
        return None
    return [torch.from_numpy(labels.ravel().astype(np.int64)).to(encoded.device) for labels in cells.players]


def _agrees(model: TorchModel, features: Features, found: Composer) -> bool:
    return all(
        _same(model.encode(features.rows_of(asks)), found.rows(asks).encoded(False)) for asks in _trials(features, len(found.arguments))
    )


def _trials(features: Features, n: int) -> Iterator[list[tuple[int, np.ndarray]]]:
    """Coalitions of up to ``_TRIED`` of ``n`` instances, in parts of which memory holds the rows."""
    draw, densities = np.random.default_rng(0), np.array(_DENSITIES if n <= 8 else _DENSITIES[3:5])
    asks: list[tuple[int, np.ndarray]] = []
    held = 0
    for i in np.unique(np.linspace(0, n - 1, _TRIED).astype(int)).tolist():
        masks, each = draw.random((len(densities), features.players(i))) < densities[:, None], features.row_bytes(i) * features.repeats
        at_once = max(1, _BYTES_AT_ONCE // each)
        for k in range(0, len(masks), at_once):
            part = masks[k : k + at_once]
            if asks and held + each * len(part) > _BYTES_AT_ONCE:
                yield asks
                asks, held = [], 0
            asks.append((i, part))
            held += each * len(part)
    yield asks


def _same(usual: Arguments, composed: Arguments) -> bool:
    one, other = usual.tensors[0], composed.tensors[0]
    return one.shape == other.shape and bool(((one == other) | (one.isnan() & other.isnan())).all())
