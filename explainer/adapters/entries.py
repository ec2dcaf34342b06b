"""Where the scores stand in what a torch module gives: a tensor, or one entry of a tuple, a mapping or a dataclass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any

from torch import Tensor

from explainer.errors import InvalidInput, unknown

_NAMES = (
    "scores", "score", "output", "outputs", "out", "prediction", "predictions", "pred", "preds", "probability", "probabilities", "prob",
    "probs", "y_pred", "y_hat",
)  # fmt: skip


class SeveralEntries(InvalidInput):
    """Which entry holds the scores must be told."""


@dataclass
class Entry:
    """The entry that holds the scores: the one told, else found at the first answer and kept.

    Found are ``logits``, else the entry whose name tells, else the only one with a column per class; of a tuple whose number of
    classes nobody told, the first. A loss is never taken, nor what holds integers.

    Parameters
    ----------
    told : key, field or position, or None.
    widths : how many columns scores can have; None where that is not known.
    """

    told: str | int | None = None
    widths: tuple[int, ...] | None = None
    found: Any = None

    def scores(self, output: Any, rows: int) -> Tensor:
        """The scores ``(rows, outputs)``. Raises InvalidInput, UnknownName."""
        if not isinstance(output, Tensor):
            return _as_rows(self._entry(output, rows), rows)
        if self.told is not None:
            raise InvalidInput(f"output={self.told!r} names an entry of what the module gives, and it gives one tensor; leave output= out.")
        return _as_rows(output, rows)

    def _entry(self, output: Any, rows: int) -> Tensor:
        entries = _entries(output)
        if self.told is not None:
            if not isinstance(entries.get(self.told), Tensor):
                raise unknown("output of the module", self.told, entries)
            self.found = self.told
        if not isinstance(entries.get(self.found), Tensor):
            self.found = self._find(entries, rows, type(output).__name__, isinstance(output, (tuple, list)))
        taken: Tensor = entries[self.found]
        return taken

    def _find(self, entries: Mapping[Any, Any], rows: int, kind: str, ordered: bool) -> Any:
        of = {key: value for key, value in entries.items() if isinstance(value, Tensor) and value.ndim and len(value) == rows}
        if not of:
            raise InvalidInput(f"The module gave {kind} without a tensor of {rows} rows in it; it must return scores (n, outputs).")
        able = [key for key, v in of.items() if v.is_floating_point() and v.ndim <= 2 and "loss" not in str(key).lower()]
        if "logits" in of:
            return "logits"
        named = [key for key in able if str(key).lower() in _NAMES]
        if len(named) == 1 or not able:
            return (named or list(of))[0]
        fitting = [key for key in named or able if self.widths is None or _width(of[key]) in self.widths]
        if len(fitting) == 1 or (fitting and ordered and self.widths is None):
            return fitting[0]
        shown = ", ".join(f"{key!r} {tuple(of[key].shape)}" for key in fitting or able)
        wanted = "none has one column per class" if not fitting else "several could be the scores"
        raise SeveralEntries(f"The module gives {kind} with {shown}, and {wanted}. Say which is meant: wrap(..., output={able[0]!r}).")


def widths_of(class_names: Sequence[str]) -> tuple[int, ...]:
    """How many columns may stand for these classes: one may stand for two."""
    return (1, 2) if len(class_names) == 2 else (len(class_names),)


def _entries(output: Any) -> dict[Any, Any]:
    if isinstance(output, Mapping):
        return dict(output)
    if hasattr(output, "_asdict"):
        return dict(output._asdict())
    if is_dataclass(output):
        return dict(vars(output))
    return dict(enumerate(output)) if isinstance(output, (tuple, list)) else {}


def _width(value: Tensor) -> int:
    return 1 if value.ndim == 1 else int(value.shape[1])


def _as_rows(found: Tensor, rows: int) -> Tensor:
    if found.ndim == 1 and len(found) == rows:
        found = found[:, None]
    if found.ndim != 2 or len(found) != rows:
        raise InvalidInput(
            f"The module gave scores of shape {tuple(found.shape)} for {rows} inputs; (n, outputs) is needed. Wrap it in a small "
            "module that returns one row of scores per input."
        )
    return found
