"""The datasets shipped with `interp`: inside the package in a wheel, next to it in a checkout."""

from __future__ import annotations

import difflib
from pathlib import Path

import pandas as pd

from interp.checks import checked
from interp.data import text_files
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


@checked
def shipped_path(name: str) -> Path:
    """Return the folder of a shipped dataset.

    Raises:
        UnknownName: there is no such dataset.
    """
    path = shipped_root() / name
    if not path.is_dir():
        raise UnknownName("dataset", name, shipped_names())
    return path


@checked
def dataset(name: str) -> pd.DataFrame:
    """Read a shipped dataset of texts, to give to a probe as its texts.

    Where a probe takes texts, a lone string that is the name of a dataset means the dataset too. This form cannot be
    mistaken for a text, and a list, `["stories"]`, cannot be mistaken for a dataset.

    Args:
        name: "stories" (300 texts that the shipped model wrote) or "prompts" (120 short texts with the word that is
            expected next).

    Returns:
        A frame with one row per text and the columns `prompt_id` and `text`; the dataset's card lists the others.

    Raises:
        UnknownName: there is no such dataset, or it holds no texts.

    >>> import interp
    >>> interp.dataset("prompts")[["text", "expected"]].loc[79].tolist()
    ['a, b, c, d,', ' e']
    >>> from interp.probes import top_tokens
    >>> top_tokens("reference", interp.dataset("stories").head(2), k=1)["prompt_id"].unique().tolist()
    [0, 1]
    """
    file = shipped_path(name) / f"{name}.jsonl"
    if not file.is_file():
        raise UnknownName("dataset of texts", name, text_dataset_names())
    return text_files.read_jsonl(file)


@checked
def dataset_or_text(text: str) -> pd.DataFrame:
    """Read a lone string: the shipped dataset of that name, or a frame of that one text.

    >>> len(dataset_or_text("prompts")), dataset_or_text("Once upon a time")["text"].tolist()
    (120, ['Once upon a time'])

    Raises:
        UnknownName: it is nearly the name of a dataset.
    """
    names = text_dataset_names()
    if text in names:
        return dataset(text)
    if difflib.get_close_matches(text.strip().casefold(), names, n=1, cutoff=0.8):
        raise UnknownName("dataset", text, names, "Put it in a list to mean the text.")
    return pd.DataFrame({"text": [text]})


@checked
def read_data(data: str) -> pd.DataFrame:
    """Read texts by the name of a shipped dataset or from a file: .txt (one text per line), .jsonl, .csv or .parquet.

    Texts are taken as they are: "NA" and "007" stay words, and only a newline ends a line. In place of texts a .jsonl
    or .parquet file may hold chat messages, in a column `messages`.

    Raises:
        UnknownName: `data` is neither a shipped dataset nor a file.
        InputError: the file is of another kind or cannot be read, or it has neither column or a gap in its texts.
    """
    if data in text_dataset_names():
        return dataset(data)
    path = Path(data)
    if not path.is_file():
        raise UnknownName("dataset", data, text_dataset_names(), "Or give a .txt, .jsonl, .csv or .parquet file.")
    kind = path.suffix.lower()
    if kind not in text_files.READERS:
        raise InputError(f"cannot read {data!r}: give a .txt, .jsonl, .csv or .parquet file.")
    try:
        frame = text_files.READERS[kind](path)
    except (OSError, ValueError) as error:  # of pandas and pyarrow too: all their errors of parsing are ValueErrors
        raise InputError(f"cannot read {data!r} as {kind}: {' '.join(str(error).split()).rstrip('.')}.") from error
    if "messages" in frame.columns and "text" not in frame.columns:
        return frame  # checked where they are read
    if "text" not in frame.columns:
        raise InputError(f"{data!r} has no column 'text', only {list(frame.columns)}; rename the one with the texts.")
    for row, text in enumerate(frame["text"]):
        if not isinstance(text, str) or not text:
            raise InputError(f"{data!r} has no text in row {row} but {text!r}; fill it in or take the row out.")
    return frame


def text_dataset_names() -> list[str]:
    """Return the names of the shipped datasets that hold texts."""
    return [name for name in shipped_names() if (shipped_root() / name / f"{name}.jsonl").is_file()]
