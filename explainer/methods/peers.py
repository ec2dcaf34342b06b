"""Objects of captum and shap as ``method=``: recognised without importing either, and run with the guards of every other method."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from explainer.errors import InvalidInput
from explainer.explanation import Check
from explainer.methods import Family, Method
from explainer.methods.attribution import Attribution
from explainer.model import Model

_UNTOLD = "{} draws at random and tells no standard error; explain(..., verify='full') measures its stability over seeds."


class Peer(Protocol):
    """An object of another library, made to be called as a method is."""

    name: str
    library: str
    family: Family  # "gradient" where it takes gradients of the wrapped module, "peer" where it only asks for scores

    def scale(self, inputs: Any, output: str) -> str:
        """The output scale that the object explains; raises Unsupported where ``output`` asks for one that it cannot explain."""
        ...

    def absence(self, inputs: Any, baseline: Any, background: Any, own: Mapping[str, Any]) -> tuple[Any, Any]:
        """The ``baseline`` and ``background`` that parts are absent by in the object's values, for the verdict on them; raises Unsupported
        where they are nothing that ``explain`` takes.
        """
        ...

    def __call__(self, model: Model, inputs: Any, target: Any, **keywords: Any) -> Attribution: ...


def peer_of(obj: Any, model: Model) -> Peer | None:
    """The captum or shap object ``obj``, bound to ``model``; None for anything else.

    Raises InvalidInput for a class instead of an object, or one that belongs to another model; Unsupported.
    """
    kinds = obj.__mro__ if inspect.isclass(obj) else type(obj).__mro__
    found = {f"{c.__module__.partition('.')[0]}.{c.__name__}" for c in kinds}
    library = next((name for name, base in (("captum", "captum.Attribution"), ("shap", "shap.Explainer")) if base in found), None)
    if library is None:
        return None
    if inspect.isclass(obj):
        raise InvalidInput(f"method={obj.__name__} is a class of {library}; pass an object of it, such as {obj.__name__}(module).")
    if library == "captum":
        from explainer.methods.captum import CaptumMethod

        return CaptumMethod(obj, model)
    from explainer.methods.shap import ShapMethod

    return ShapMethod(obj, model)


def entry(peer: Peer) -> Method:
    """The table's row for a peer."""
    name = f"{peer.library} {peer.name}"
    said = f"What {peer.library}'s {peer.name} says, judged as any other method is."
    return Method(name, name, peer.family, said, caveat="A method of another library; nothing is known of it before it runs.", own=peer)


def untold(name: str, n: int) -> list[dict[str, Check]]:
    """The check on sampling error of ``n`` instances where a method draws at random without saying how far that matters."""
    return [{"sampling error": Check("sampling error", "not run", _UNTOLD.format(name))}] * n


@contextmanager
def numpy_seeded(seed: int) -> Iterator[None]:
    """NumPy's global generator seeded, and put back: peers draw from it."""
    state = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        np.random.set_state(state)
