"""What a screen shows, as its address says it: a link shows a colleague the same thing, and back works."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from urllib.parse import parse_qs, urlencode

from werkzeug.exceptions import BadRequest

from explainer.checks.finding import STATES

ORDERS = ("wrong", "unsure", "sure", "row")
_LONGEST, _LONGEST_EDIT = 400, 4000


@dataclass(frozen=True)
class View:
    """The state in the address. Empty fields are chosen by the page; unknown fields in an address are ignored.

    ``row`` is a position in the test set, ``a`` and ``b`` are methods, ``target`` a class index ("" is the predicted
    class), ``cell`` is "true,predicted" of the confusion matrix, ``order`` how the predictions are sorted,
    ``rows`` a data check whose rows the table shows, ``layer_a`` and ``layer_b`` where in the network the two methods look,
    ``layer`` and ``unit`` the unit that the page on the whole model shows, ``other`` the row that ``row`` is
    patched into there, ``output`` "logit" where that is explained, ``state`` and ``check`` which findings the data page shows,
    ``find`` what the table is searched for, ``edit`` how the row was changed (see ``edits.read``), ``favourable`` the class
    that the report takes as good for the person, ``budget`` how many evaluations a method may take instead of its usual number,
    ``column`` and ``curve`` which dependence the page on the whole model shows.
    """

    model: str = ""
    row: int | None = None
    a: str = ""
    b: str = ""
    target: str = ""
    cell: str = ""
    order: str = ""
    rows: str = ""
    profile: str = ""
    layer_a: str = ""
    layer_b: str = ""
    layer: str = ""
    unit: int | None = None
    other: int | None = None
    output: str = ""
    state: str = ""
    check: str = ""
    find: str = ""
    edit: str = ""
    favourable: str = ""
    budget: int | None = None
    column: str = ""
    curve: str = ""

    @classmethod
    def parse(cls, search: object) -> View:
        """Read the query part of an address; what is malformed there falls back to the default, as for a mistyped link.

        Raises BadRequest when ``search`` is not text at all: that comes from no browser.
        """
        if search is None:
            return cls()
        if not isinstance(search, str):
            raise BadRequest("The address must be text.")
        given = {k: v[-1][: _LONGEST_EDIT if k == "edit" else _LONGEST] for k, v in parse_qs(search.removeprefix("?")).items()}
        fields = {f.name: given[f.name] for f in dataclasses.fields(cls) if f.name in given}
        row, unit, other, budget = (fields.pop(name, "") for name in ("row", "unit", "other", "budget"))
        cell = fields.pop("cell", "")
        order = fields.pop("order", "")
        target, output, state = (fields.pop(name, "") for name in ("target", "output", "state"))
        return cls(
            row=_number(row),
            output=output if output == "logit" else "",
            unit=_number(unit),
            other=_number(other),
            budget=_number(budget) or None,
            state=state if state in STATES else "",
            cell=cell if re.fullmatch(r"[0-9]{1,6},[0-9]{1,6}", cell) else "",
            order=order if order in ORDERS else "",
            target=target if re.fullmatch(r"[0-9]{1,6}", target) else "",
            **fields,
        )

    def layer_of(self, side: str) -> str:
        """Where in the network the method of a side looks; empty where the method's own choice stands."""
        return self.layer_a if side == "a" else self.layer_b

    @property
    def pair(self) -> tuple[int, int] | None:
        """The chosen cell of the confusion matrix as (true, predicted), or None."""
        if not self.cell:
            return None
        true, predicted = self.cell.split(",")
        return int(true), int(predicted)

    @property
    def search(self) -> str:
        """The query part of the address that shows this view."""
        fields = {k: str(v) for k, v in dataclasses.asdict(self).items() if v not in ("", None)}
        return f"?{urlencode(fields)}" if fields else ""


def _number(word: str) -> int | None:
    return int(word) if re.fullmatch(r"[0-9]{1,9}", word) else None
