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
        InputError: the file is of another kind.
    """
    if data in text_dataset_names():
        return read_texts(data)
    path = Path(data)
    if not path.is_file():
        raise UnknownName("dataset", data, text_dataset_names(), "Or give a .txt, .jsonl, .csv or .parquet file.")
    if path.suffix == ".txt":
        return pd.DataFrame({"text": [line for line in path.read_text("utf-8").splitlines() if line.strip()]})
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        ".jsonl": lambda file: pd.read_json(file, lines=True),
        ".csv": pd.read_csv,
        ".parquet": pd.read_parquet,
    }
    if path.suffix not in readers:
        raise InputError(f"cannot read {data!r}: give a .txt, .jsonl, .csv or .parquet file.")
    return readers[path.suffix](path)


def text_dataset_names() -> list[str]:
    """Return the names of the shipped datasets that hold texts."""
    return [name for name in shipped_names() if (shipped_root() / name / f"{name}.jsonl").is_file()]
