"""Write a frame to a file in the format of its name, and read it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd

from interp.data.file_hash import sha256_of_file
from interp.data.writing import written
from interp.errors import InputError, reason_of


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
    15 digits of each number. Beside a CSV or JSON file its provenance is written to a file of the same name and
    `.provenance.json`, which `read_frame` finds.

    Raises:
        InputError: the name ends with none of these, or the file cannot be written.
    """
    check_frame_file(path)
    with written(path, "the frame") as file:
        _WRITERS[Path(path).suffix.lower()](frame, file)
    if Path(path).suffix.lower() != ".parquet" and frame.attrs:
        facts = {"sha256_of_the_rows": sha256_of_file(path), "attrs": frame.attrs}
        with written(sidecar(path), "the provenance") as file:
            file.write(json.dumps(facts, indent=1, ensure_ascii=False).encode())


def sidecar(path: str | Path) -> Path:
    """Return the file that holds the provenance of a CSV or JSON file.

    >>> sidecar("runs/lens.csv").as_posix()
    'runs/lens.csv.provenance.json'
    """
    return Path(f"{path}.provenance.json")


def read_frame(path: str | Path) -> pd.DataFrame:
    """Read a frame that was written as .parquet, .csv or .json, with its provenance if that is in it or beside it.

    A file beside it that was written for other rows is left alone: they were changed since.

    Raises:
        InputError: the name ends with none of these, or the file cannot be read.
    """
    check_frame_file(path)
    try:
        frame: pd.DataFrame = _READERS[Path(path).suffix.lower()](path)
    except (OSError, ValueError) as error:  # of pandas and pyarrow too: all their errors of parsing are ValueErrors
        raise InputError(f"cannot read the frame in {str(path)!r}: {reason_of(error)}.") from error
    with suppress(OSError, ValueError, KeyError, TypeError):  # there is none, or it is somebody else's
        facts = json.loads(sidecar(path).read_text("utf-8"))
        if facts["sha256_of_the_rows"] == sha256_of_file(path):
            frame.attrs = dict(facts["attrs"])
    return frame


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

_READERS: dict[str, Callable[[Any], pd.DataFrame]] = {
    ".parquet": pd.read_parquet,
    ".csv": lambda path: pd.read_csv(path, keep_default_na=False, na_values=[""]),
    ".json": lambda path: pd.read_json(path, orient="records"),
}
