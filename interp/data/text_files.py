"""Read files of texts as they are: no word becomes a number or a gap, and no character but a newline ends a line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

_WORDS = ("text", "expected")  # columns that hold texts: "NA", "null" and "007" are words there
_GAPS = ("NA", "N/A", "NaN", "nan")  # in a column of numbers


def read_lines(file: Path) -> pd.DataFrame:
    """Read one text per line; blank lines are left out."""
    return pd.DataFrame({"text": [line for line in _lines(file) if line.strip()]})


def read_jsonl(file: Path) -> pd.DataFrame:
    """Read one JSON object per line; values keep their JSON types.

    Raises:
        ValueError: a line is not a JSON object.
    """
    rows = []
    for number, line in enumerate(_lines(file), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"line {number}: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is not a JSON object")
        rows.append(row)
    return pd.DataFrame(rows)


def read_csv(file: Path) -> pd.DataFrame:
    """Read a table with a header; texts stay texts, and another column is numeric if all its values are numbers.

    Raises:
        ValueError: a row has more fields than the header, as an unquoted comma in a text gives.
    """
    # Read the header as a row: pandas would take the first of too many fields as an index.
    as_is: dict[str, Any] = {"header": None, "dtype": "str", "keep_default_na": False, "encoding": "utf-8-sig"}
    try:
        table = pd.read_csv(file, **as_is)
    except pd.errors.ParserError as error:
        reason = str(error).removeprefix("Error tokenizing data. C error: ").strip()
        raise ValueError(f"{reason}; put a text that holds a comma in quotation marks") from error
    names = table.iloc[0].tolist()
    if len(set(names)) < len(names):
        raise ValueError(f"two columns have one name, of {names}")
    frame = table.iloc[1:].set_axis(names, axis=1).reset_index(drop=True)
    filled = {name: column.where(column != "") for name, column in frame.items()}
    return pd.DataFrame({name: one if name in _WORDS else _typed(one) for name, one in filled.items()})


def _typed(column: pd.Series) -> pd.Series:
    """Return strings as numbers if all but gaps are such, or as truth values if all are, else as they are."""
    if len(column) and column.isin(["True", "False"]).all():
        return column == "True"
    there = column[column.notna() & ~column.isin(_GAPS)]
    numbers = pd.to_numeric(there, errors="coerce")
    if len(there) and numbers.notna().all():
        return numbers.reindex(column.index)
    return column


def _lines(file: Path) -> list[str]:
    """Return the lines of a UTF-8 file, without a byte-order mark."""
    return [line.removesuffix("\r") for line in file.read_bytes().decode("utf-8-sig").split("\n")]


READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".txt": read_lines,
    ".jsonl": read_jsonl,
    ".csv": read_csv,
    ".parquet": pd.read_parquet,
}
"""The readers of texts, by the end of a file's name."""
