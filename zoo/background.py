"""The few inputs that stand for the population, kept as JSON beside the weights so that loading needs no data set."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from explainer.errors import CorruptFile


def dump(reference: Any) -> bytes:
    """A table, images ``(n, H, W)`` in [0, 1], or a list of series, as JSON."""
    if hasattr(reference, "iloc"):
        rows = json.loads(reference.to_json(orient="values", double_precision=15))
        words = [name for name in reference if reference[name].dtype.kind not in "fiub"]
        content = {"kind": "table", "columns": list(reference.columns), "words": words, "rows": rows}
    elif isinstance(reference, np.ndarray):
        content = {"kind": "images", "images": np.round(reference * 255).astype(int).tolist()}
    else:
        content = {"kind": "series", "series": [one.astype(float).round(6).tolist() for one in reference]}
    return json.dumps(content).encode()


def parse(content: bytes) -> Any:
    """What :func:`dump` wrote. Raises CorruptFile."""
    try:
        fields = json.loads(content)
        if fields["kind"] == "table":
            import pandas as pd

            frame = pd.DataFrame(fields["rows"], columns=fields["columns"])
            return frame.astype({name: "str" if name in fields["words"] else float for name in frame.columns})
        if fields["kind"] == "images":
            return np.array(fields["images"], dtype=np.float32) / 255
        return [np.array(one, dtype=np.float32) for one in fields["series"]]
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptFile(f"The background file is not readable ({type(error).__name__}: {error}). Install the toolkit again.") from error
