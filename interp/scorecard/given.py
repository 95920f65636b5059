"""The tokenizers and texts of a scorecard, in whatever form they were given, by name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from interp.data.shipped import dataset_or_text
from interp.errors import InputError, shown


def named_tokenizers(given: Any) -> dict[str, Any]:
    """Return tokenizers of the tokenizers library by name.

    Raises:
        InputError: one is not such a tokenizer, there are none, or two have one name.
    """
    if isinstance(given, Mapping):
        found = [(name, _tokenizer(one)) for name, one in given.items()]
    else:
        several = list(given) if isinstance(given, list | tuple) else [given]
        found = [(_name(one), _tokenizer(one)) for one in several]
    if not found:
        raise InputError("no tokenizers were given; pass at least one.")
    names = [name for name, _ in found]
    if strange := next((name for name in names if not isinstance(name, str) or not name), None):
        raise InputError(f"tokenizers have {strange!r} among their names; give a str for each.")
    if again := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"two tokenizers are called {again!r}; give a dictionary of names.")
    return dict(found)


def _name(one: Any) -> str:
    """Return the name of a model that holds a tokenizer, of its folder, or of the tokenizer's own."""
    if isinstance(one, str | Path):
        return Path(one).name
    name = getattr(one, "name", None) or Path(str(getattr(one, "name_or_path", "") or "")).name
    return str(name or "tokenizer")


def _tokenizer(one: Any) -> Any:
    if isinstance(one, str | Path):
        one = _of_folder(Path(one))
    found = getattr(one, "tokenizer", one)  # a loaded model holds one
    if getattr(found, "backend_tokenizer", None) is None:
        raise InputError(
            f"{shown(one) if isinstance(one, str) else type(one).__name__} is not a tokenizer of the tokenizers "
            "library; give one of transformers' fast ones, a loaded model, or a folder that holds tokenizer.json."
        )
    return found


def _of_folder(folder: Path) -> Any:
    if not (folder / "tokenizer.json").is_file():
        raise InputError(f"{str(folder)!r} holds no tokenizer.json; give a folder that does, or a tokenizer.")
    from transformers import PreTrainedTokenizerFast  # needs no torch, unlike AutoTokenizer

    try:
        return PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # whatever transformers raises about a damaged file
        raise InputError(f"the tokenizer in {str(folder)!r} cannot be read: {str(error).rstrip('.')}.") from error


def named_texts(given: Any) -> dict[str, list[str]]:
    """Return lists of texts by name; "texts" if they have none.

    Raises:
        InputError: there are none, or one is empty or not a str.
    """
    return _several(given, "texts") if isinstance(given, Mapping) else {"texts": _texts(given, "texts")}


def aligned_texts(given: Any) -> dict[str, list[str]]:
    """Return the sides of parallel texts by name, at least two of the same length.

    Raises:
        InputError: they are not such sides.
    """
    if isinstance(given, pd.DataFrame):
        given = {str(name): given[name].tolist() for name in given.columns}
    if not isinstance(given, Mapping) or len(given) < 2:
        raise InputError(
            "parallel texts are a dictionary of two sides or more, each a list of texts, the reference first; give "
            "one such."
        )
    found = _several(given, "parallel")
    lengths = {name: len(texts) for name, texts in found.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(f"parallel sides have {lengths} texts; give as many of each, translations in the same place.")
    return found


def digest(texts: Iterable[str]) -> str:
    """Hash texts, in their order."""
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()


def _several(given: Mapping[Any, Any], what: str) -> dict[str, list[str]]:
    if not given:
        raise InputError(f"no {what} were given; pass at least one.")
    if strange := next((name for name in given if not isinstance(name, str) or not name), None):
        raise InputError(f"{what} have {strange!r} among their names; give a str for each.")
    return {name: _texts(texts, f"{what}[{name!r}]") for name, texts in given.items()}


def _texts(given: Any, what: str) -> list[str]:
    if isinstance(given, str):
        given = dataset_or_text(given)
    if isinstance(given, pd.DataFrame):
        if "text" not in given.columns:
            raise InputError(f"{what} is a frame without a column 'text'; add one.")
        given = given["text"].tolist()
    if not isinstance(given, Sequence):
        raise InputError(f"{what} is a {type(given).__name__}; give a list of texts, a frame or a dataset's name.")
    found = list(given)
    if not found:
        raise InputError(f"{what} holds no texts; give at least one.")
    for place, one in enumerate(found):
        if not isinstance(one, str):
            raise InputError(f"{what} holds {one!r} at place {place}; a tokenizer reads a str.")
        if not one.strip():
            raise InputError(f"{what} holds an empty text at place {place}; leave it out.")
    return found
