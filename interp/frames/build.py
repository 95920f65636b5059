"""Build frames from whole arrays at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from interp.checks import checked
from interp.errors import InputError
from interp.frames.schema import _DTYPES, Column, Schema


def build(schema: Schema, values: Mapping[str, Any]) -> pd.DataFrame:
    """Build a frame of the schema's columns from whole arrays [rows] or single values, without a loop over rows.

    Raises:
        InputError: a column of the schema is missing or of another type, or the arrays differ in length.
    """
    absent = [column.name for column in schema.columns if column.name not in values]
    if absent:
        raise InputError(f"no values for {absent} of {schema.probe!r}; give every column of the schema.")
    n_rows = _n_rows(schema, values)
    return pd.DataFrame(
        {column.name: _array(column, values[column.name], n_rows) for column in schema.columns}, copy=False
    )


def broadcast(schema: Schema, part: Mapping[str, Any]) -> dict[str, Any]:
    """Repeat each single value for all rows of a part of a frame; a part without arrays is one row.

    Raises:
        InputError: the arrays differ in length.
    """
    n_rows = _n_rows(schema, part)
    return {name: value if np.ndim(value) else _repeated(value, n_rows) for name, value in part.items()}


@checked
def rows_of_block(
    shape: tuple[int, ...],
    *,
    by_row: Mapping[str, np.ndarray],
    by_place: Mapping[str, np.ndarray],
    full: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Flatten the values of a [row, place, item] block into columns; `full` holds those that broadcast to the block.

    >>> pos, layer = np.array([0, 1]), np.array([0, 4, 8])
    >>> rows = rows_of_block((2, 3, 1), by_row={"pos": pos}, by_place={"layer": layer}, full={})
    >>> rows["pos"].tolist(), rows["layer"].tolist()
    ([0, 0, 0, 1, 1, 1], [0, 4, 8, 0, 4, 8])
    """
    values = {name: value[:, None, None] for name, value in by_row.items()}
    values |= {name: value[None, :, None] for name, value in by_place.items()}
    return {name: np.broadcast_to(value, shape).ravel() for name, value in (values | dict(full)).items()}


def _n_rows(schema: Schema, values: Mapping[str, Any]) -> int:
    lengths = {len(value) for value in values.values() if np.ndim(value)}
    if len(lengths) > 1:
        raise InputError(f"the columns of {schema.probe!r} have different lengths {sorted(lengths)}; give one per row.")
    return lengths.pop() if lengths else 1


def _repeated(value: Any, n_rows: int) -> np.ndarray:
    # Strings as objects: concatenated numpy strings would all be as wide as the widest.
    return np.full(n_rows, value, dtype=object if value is None or isinstance(value, str) else None)


def _array(column: Column, value: Any, n_rows: int) -> Any:
    if column.kind == "str":
        if isinstance(value, str):
            return pd.array([value], dtype="str").take(np.zeros(n_rows, dtype=np.intp))
        return value if isinstance(value, pd.api.extensions.ExtensionArray) else pd.array(value, dtype="str")
    if column.kind == "id":
        ids = np.broadcast_to(np.asarray(value), n_rows)
        return pd.arrays.IntegerArray(ids.astype(np.int64), ids < 0)  # negative: missing
    values = np.asarray(value)
    if not np.can_cast(values.dtype, _DTYPES[column.kind], casting="same_kind"):
        raise InputError(f"column {column.name!r} holds {_DTYPES[column.kind]}, not {values.dtype}; convert it.")
    # Copy: the user could not write to a view of the probe's array or to a broadcast single value.
    return np.full(n_rows, values, dtype=_DTYPES[column.kind])
