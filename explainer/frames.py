"""Tables as JSON, every type and every cell as it was: numbers, dates, categories and missing values of each kind."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from explainer.errors import CorruptFile, InvalidInput

if TYPE_CHECKING:
    import pandas as pd


def packed(frame: pd.DataFrame) -> dict[str, Any]:
    """``frame`` in JSON: columns that have a type as Arrow's bytes in base64, columns of objects cell by cell.

    Raises InvalidInput where a column has no exact form in either.
    """
    import pyarrow as pa

    levels = frame.index.nlevels
    names = [*frame.index.names, *frame.columns]
    whole = frame.reset_index(names=[f"index {k}" for k in range(levels)], allow_duplicates=True)
    objects: dict[str, list[Any]] = {}
    for place in range(whole.shape[1]):
        column = whole.iloc[:, place]
        if column.dtype == object:
            objects[str(place)] = [_cell(value, names[place]) for value in column]
    typed = whole.iloc[:, [place for place in range(whole.shape[1]) if str(place) not in objects]]
    typed.columns = [str(place) for place in range(whole.shape[1]) if str(place) not in objects]
    try:
        table = pa.Table.from_pandas(typed, preserve_index=False)
    except (pa.ArrowException, TypeError) as error:
        raise InvalidInput(f"The table cannot be written exactly: {error}. Give that column another type, and explain again.") from None
    # One batch, also of no rows: a table without rows is written without its categories.
    batch = pa.RecordBatch.from_arrays([column.combine_chunks() for column in table.columns], schema=table.schema)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return {
        "levels": levels,
        "names": [_cell(name, "names") for name in names],
        "objects": objects,
        "arrow": base64.b64encode(sink.getvalue()).decode(),
    }


def unpacked(entry: Mapping[str, Any]) -> pd.DataFrame:
    """The table that :func:`packed` described. Raises CorruptFile."""
    import pandas as pd
    import pyarrow as pa

    try:
        names, levels = [_value(name) for name in entry["names"]], entry["levels"]
        columns = dict(pa.ipc.open_stream(base64.b64decode(entry["arrow"])).read_all().to_pandas())
        columns |= {place: pd.Series([_value(cell) for cell in cells], dtype=object) for place, cells in entry["objects"].items()}
        frame = pd.DataFrame({str(place): columns[str(place)] for place in range(len(names))})
        frame = frame.set_index([str(place) for place in range(levels)])
        frame.index.names, frame.columns = names[:levels], names[levels:]
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # Arrow's own errors are ValueErrors
        raise CorruptFile(f"A table in the file is not readable: {type(error).__name__}: {error}. Compute and save it again.") from None
    return frame


def _cell(value: Any, column: Any) -> Any:
    """One object as JSON; what JSON has no word for is named."""
    import pandas as pd

    value = value.item() if isinstance(value, np.generic) else value
    if value is pd.NaT or value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return {"special": str(value)}
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise InvalidInput(
        f"Column {column!r} holds {type(value).__name__} ({value!r:.40}) as an object, which cannot be written exactly. Give the column a "
        "type, such as with pd.to_datetime or astype(float), and explain again."
    )


def _value(cell: Any) -> Any:
    import pandas as pd

    missing = {"NaT": pd.NaT, "<NA>": pd.NA}
    if not isinstance(cell, Mapping):
        return cell
    return missing[cell["special"]] if cell["special"] in missing else float(cell["special"])
