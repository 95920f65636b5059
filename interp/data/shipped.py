"""The datasets shipped with `interp`: inside the package in a wheel, next to it in a checkout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from interp.errors import InputError, UnknownName

_PACKAGE = Path(__file__).parents[1]


def shipped_root() -> Path:
    """Return the folder of all shipped datasets."""
    inside = _PACKAGE / "datasets"
    return inside if inside.is_dir() else _PACKAGE.parent / "datasets"


def shipped_names() -> list[str]:
    """Return the names of the shipped datasets.

    >>> "prompts" in shipped_names()
    True
    """
    return sorted(path.name for path in shipped_root().iterdir() if path.is_dir())


def shipped_path(name: str) -> Path:
    """Return the folder of a shipped dataset.

    Raises:
        UnknownName: there is no such dataset.
    """
    path = shipped_root() / name
    if not path.is_dir():
        raise UnknownName("dataset", name, shipped_names())
    return path


def read_texts(name: str) -> pd.DataFrame:
    """Read a shipped dataset of texts as a frame with a `text` column; its card lists the other columns.

    >>> sorted(read_texts("prompts").columns)
    ['expected', 'group', 'prompt_id', 'text']

    Raises:
        UnknownName: there is no such dataset, or it holds no texts.
    """
    file = shipped_path(name) / f"{name}.jsonl"
    if not file.is_file():
        raise UnknownName("dataset of texts", name, text_dataset_names())
    return pd.read_json(file, lines=True)


def read_data(data: str) -> pd.DataFrame:
    """Read texts by the name of a shipped dataset or from a file: .txt (one text per line), .jsonl, .csv or .parquet.

    Raises:
        UnknownName: `data` is neither a shipped dataset nor a file.
        InputError: the file is of another kind or cannot be read, or it has no column `text` or a gap in it.
    """
    if data in text_dataset_names():
        return read_texts(data)
    path = Path(data)
    if not path.is_file():
        raise UnknownName("dataset", data, text_dataset_names(), "Or give a .txt, .jsonl, .csv or .parquet file.")
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        ".txt": _read_lines,
        ".jsonl": lambda file: pd.read_json(file, lines=True, dtype={"text": str}),  # "1984" is a text here
        ".csv": lambda file: pd.read_csv(file, dtype={"text": str}),
        ".parquet": pd.read_parquet,
    }
    if path.suffix not in readers:
        raise InputError(f"cannot read {data!r}: give a .txt, .jsonl, .csv or .parquet file.")
    try:
        frame = readers[path.suffix](path)
    except (OSError, ValueError) as error:  # of pandas and pyarrow too: all their errors of parsing are ValueErrors
        raise InputError(f"cannot read {data!r} as {path.suffix}: {' '.join(str(error).split())}") from error
    if "text" not in frame.columns:
        raise InputError(f"{data!r} has no column 'text', only {list(frame.columns)}; rename the one with the texts.")
    for row, text in enumerate(frame["text"]):
        if not isinstance(text, str):
            raise InputError(f"{data!r} has no text in row {row} but {text!r}; fill it in or take the row out.")
    return frame


def _read_lines(file: Path) -> pd.DataFrame:
    return pd.DataFrame({"text": [line for line in file.read_text("utf-8").splitlines() if line.strip()]})


def text_dataset_names() -> list[str]:
    """Return the names of the shipped datasets that hold texts."""
    return [name for name in shipped_names() if (shipped_root() / name / f"{name}.jsonl").is_file()]
