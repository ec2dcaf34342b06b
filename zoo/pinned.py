"""Files whose sha256 is written down: read whole, and given only if they are what they were."""

from __future__ import annotations

import hashlib
from pathlib import Path

from explainer.errors import CorruptFile


def content(path: Path, expected: str, advice: str, largest: int) -> bytes:
    """The content of ``path``, if it has the sha256 ``expected`` and at most ``largest`` bytes; ``advice`` says what to do else.

    Raises CorruptFile before anything is parsed.
    """
    try:
        if path.stat().st_size > largest:
            raise CorruptFile(f"{path} has {path.stat().st_size} bytes, far more than it can have. It was not loaded. {advice}")
        found = path.read_bytes()
    except FileNotFoundError:
        raise CorruptFile(f"{path} is missing. {advice}") from None
    digest = hashlib.sha256(found).hexdigest()
    if digest != expected:
        raise CorruptFile(
            f"{path} is not the file that was written down: its sha256 is {digest[:16]}..., {expected[:16]}... is expected. "
            f"It was not loaded. {advice}"
        )
    return found
