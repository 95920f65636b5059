"""Write recorded values: a sorted JSON file beside each test module, one row per line for readable diffs.

    tests/test_depth.py              the tests
    tests/test_depth.findings.json   {test: {name: {"model", "fingerprint", "by", "rows"}}}

A row maps columns to numbers (six digits), truth values and text; `null` is a missing value, "inf" an infinite one.
"""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from interp.data.writing import written
from interp.errors import InputError, UnknownName

if TYPE_CHECKING:
    import pandas as pd

Cell: TypeAlias = bool | int | float | str | None
Row: TypeAlias = dict[str, Cell]
Record: TypeAlias = dict[str, Any]
"""The `model` and `fingerprint` it was measured on, `by` (the key columns) and `rows` sorted by them."""

Recorded: TypeAlias = dict[str, dict[str, Record]]
"""The records of a file, by test and name."""

SUFFIX = ".findings.json"
DIGITS = 6  # float32 has seven
VALUE = "value"  # the column of a single number

_OF_THE_RUN = ("model", "run_id")  # not recorded per row: run_id depends on the device, and the record has the model


def file_of(module: Path) -> Path:
    """Return the file of a test module's records.

    >>> file_of(Path("tests/test_depth.py")).name
    'test_depth.findings.json'
    """
    return module.with_suffix(SUFFIX)


def module_of(file: Path) -> Path:
    """Return the test module whose records a file holds.

    >>> module_of(Path("tests/test_depth.findings.json")).name
    'test_depth.py'
    """
    return file.with_name(file.name.removesuffix(SUFFIX) + ".py")


def write(file: Path, recorded: Recorded) -> None:
    """Write the file atomically; without records, remove it."""
    kept = {test: records for test, records in recorded.items() if records}
    if not kept:
        file.unlink(missing_ok=True)
        return
    with written(file, "the records of findings") as target:
        target.write(as_text(kept).encode())


def as_text(recorded: Recorded) -> str:
    """Format records as sorted JSON with one row per line."""
    tests = []
    for test in sorted(recorded):
        records = [f"  {_json(name)}: {_record_text(recorded[test][name])}" for name in sorted(recorded[test])]
        tests.append(f" {_json(test)}: {{\n" + ",\n".join(records) + "\n }")
    return "{\n" + ",\n".join(tests) + "\n}\n"


def _record_text(record: Record) -> str:
    facts = [f"   {_json(key)}: {_json(record[key])}" for key in ("model", "fingerprint", "by")]
    rows = ",\n".join(f"    {_json(row)}" for row in record["rows"])
    return "{\n" + ",\n".join(facts) + f',\n   "rows": [\n{rows}\n   ]\n  }}'


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def as_rows(value: Any, by: str | Sequence[str] | None) -> tuple[list[str], list[Row]]:
    """Convert a DataFrame, a Series or a single value to key columns and plain rows, sorted by key.

    Args:
        value: a frame; a Series, whose index levels are its keys; or a number, truth value or text.
        by: columns that distinguish a frame's rows.

    Raises:
        UnknownName: a key column does not exist.
        InputError: there is nothing to record, the keys do not distinguish all rows, or JSON cannot hold a value.

    >>> as_rows(0.25, None)
    ([], [{'value': 0.25}])
    """
    import pandas as pd

    keys = [by] if isinstance(by, str) else list(by or ())
    if isinstance(value, pd.Series):
        if keys or None in value.index.names:
            raise InputError("a Series is recorded by the names of its index; name its levels, and leave by= out.")
        keys = [str(name) for name in value.index.names]
        value = value.rename(value.name or VALUE).reset_index()
    if not isinstance(value, pd.DataFrame):
        if keys:
            raise InputError(f"by={by!r} names columns, but a {type(value).__name__} has none; leave by= out.")
        return [], [{VALUE: plain(value, VALUE)}]
    return keys, _sorted_rows(value, keys)


def _sorted_rows(frame: pd.DataFrame, keys: list[str]) -> list[Row]:
    for key in keys:
        if key not in frame.columns:
            raise UnknownName("column", key, map(str, frame.columns))
    if frame.empty:
        raise InputError("the frame has no rows; record at least one.")
    if not keys and len(frame) > 1:
        raise InputError(f"the frame has {len(frame)} rows; name the columns that distinguish them with by=.")
    kept = frame[[name for name in frame.columns if name in keys or name not in _OF_THE_RUN]]
    rows = [
        {str(name): plain(cell, str(name)) for name, cell in zip(kept.columns, row, strict=True)}
        for row in kept.itertuples(index=False, name=None)
    ]
    found = [key_of(row, keys) for row in rows]
    if any(cell is None for key in found for cell in key):
        raise InputError(f"a key in {keys} is missing in some row; fill it in or record by other columns.")
    twice = next((key for key in found if found.count(key) > 1), None) if len(set(found)) < len(found) else None
    if twice is not None:
        raise InputError(f"several rows have {describe_key(keys, twice)}; add columns that distinguish them to by=.")
    order = sorted(range(len(rows)), key=lambda index: [(isinstance(cell, str), cell) for cell in found[index]])
    return [rows[index] for index in order]


def key_of(row: Mapping[str, Cell], keys: Sequence[str]) -> tuple[Any, ...]:
    """Return the values of a row's key columns."""
    return tuple(row.get(key) for key in keys)


def describe_key(keys: Sequence[str], key: Sequence[Cell]) -> str:
    """Format a key for a message.

    >>> describe_key(["layer", "control"], (3, "none"))
    "layer=3, control='none'"
    """
    return ", ".join(f"{name}={cell!r}" for name, cell in zip(keys, key, strict=True))


def plain(value: Any, column: str) -> Cell:
    """Convert a cell to a JSON value; floats keep six digits.

    Raises:
        InputError: the cell is neither a number, a truth value nor text.

    >>> plain(1 / 3, "kl"), plain(float("nan"), "kl"), plain(float("-inf"), "kl")
    (0.333333, None, '-inf')
    """
    import numpy as np
    import pandas as pd

    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, str):
        return str(value)
    if value is None or value is pd.NA:
        return None
    if hasattr(value, "item") and np.ndim(value) == 0:  # a number of numpy or torch
        value = value.item()
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        number = float(value)
        if math.isnan(number):
            return None
        return float(f"{number:.{DIGITS}g}") if math.isfinite(number) else str(number)
    raise InputError(f"column {column!r} holds a {type(value).__name__}; record numbers, truth values and text.")
