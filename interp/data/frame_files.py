"""Write a frame to a file in the format of its name."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd

from interp.data.writing import written
from interp.errors import InputError


def check_frame_file(path: str | Path) -> None:
    """Refuse a file whose name ends with none of the known formats; call this before the frame is computed.

    Raises:
        InputError: it does.
    """
    if Path(path).suffix.lower() not in _WRITERS:
        raise InputError(f"{str(path)!r} has no known format; give a name that ends with .parquet, .csv or .json.")


def write_frame(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a frame as .parquet, .csv or .json, by the file's name.

    Parquet keeps types and provenance. CSV has a header and texts in quotation marks. JSON is a list of objects, with
    15 digits of each number.

    Raises:
        InputError: the name ends with none of these, or the file cannot be written.
    """
    check_frame_file(path)
    with written(path, "the frame") as file:
        _WRITERS[Path(path).suffix.lower()](frame, file)


def _to_csv(frame: pd.DataFrame, file: BinaryIO) -> None:
    # All texts in quotation marks: pandas would leave out those around a carriage return, which then ends a row.
    frame.to_csv(file, index=False, quoting=csv.QUOTE_NONNUMERIC, encoding="utf-8", lineterminator="\n")


def _to_json(frame: pd.DataFrame, file: BinaryIO) -> None:
    frame.to_json(file, orient="records", double_precision=15, force_ascii=False)


_WRITERS: dict[str, Callable[[pd.DataFrame, Any], None]] = {
    ".parquet": lambda frame, file: frame.to_parquet(file),
    ".csv": _to_csv,
    ".json": _to_json,
}
