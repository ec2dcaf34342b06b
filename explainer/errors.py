"""The exceptions of the toolkit; each message says what came, what is valid, and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ExplainerError(Exception):
    """Base of every error this toolkit raises on purpose; ``str(error)`` is fit to show to a person."""


class InvalidInput(ExplainerError, ValueError):
    """The data given cannot be read or scored as they are."""


class UnknownName(ExplainerError, LookupError):
    """A name (method, class, model, profile) that does not exist; the nearest valid one is named."""


class Unsupported(ExplainerError):
    """The request is well formed but would not be right on this model."""


class MissingDependency(ExplainerError, ImportError):
    """An optional package is needed; the message names what to install."""


class CorruptFile(ExplainerError, OSError):
    """A file's content does not match its checksum or its format."""


class Cancelled(ExplainerError):
    """The person asked for the work to stop."""


def unknown(kind: str, name: object, valid: Iterable[object]) -> UnknownName:
    """Build the error for a name that does not exist: what came, the nearest valid one, and all that are valid."""
    names = [str(v) for v in valid]
    near = difflib.get_close_matches(str(name).lower(), [n.lower() for n in names], n=1, cutoff=0.5)
    nearest = next((n for n in names if near and n.lower() == near[0]), None)
    hint = f" Did you mean {nearest!r}?" if nearest else ""
    shown = ", ".join(names[:25]) + (f", ... ({len(names)} in all)" if len(names) > 25 else "")
    return UnknownName(f"Unknown {kind} {name!r}.{hint} Valid: {shown}.")
