"""What a shell or a notebook's magic passes as text, as the arguments of a probe."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from interp.errors import InputError, UnknownName
from interp.shipped import read_texts, text_dataset_names


def parameters(function: Callable[..., Any], given: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """A probe's own keyword arguments from names and texts; values are JSON, or the text where they are not.

    >>> from probes import logit_lens
    >>> parameters(logit_lens, [("positions", "[-1]"), ("targets", "argmax")])
    {'positions': [-1], 'targets': 'argmax'}

    Raises:
        UnknownName: the probe has no such parameter.
    """
    known = [name for name in inspect.signature(function).parameters if name not in ("subject", "texts")]
    values: dict[str, Any] = {}
    for name, text in given:
        if name not in known:
            raise UnknownName("parameter", name, known)
        try:
            values[name] = json.loads(text)
        except json.JSONDecodeError:
            values[name] = text
    return values


def takes_texts(function: Callable[..., Any]) -> bool:
    """Whether a probe reads texts, and not weights only."""
    return "texts" in inspect.signature(function).parameters


def pairs(given: Iterable[str]) -> list[tuple[str, str]]:
    """Names and texts of `key=value` arguments.

    Raises:
        InputError: one that is none.
    """
    split = [(pair, *pair.partition("=")) for pair in given]
    for pair, _, equals, _ in split:
        if not equals:
            raise InputError(f"--param {pair!r} is not key=value.")
    return [(key, value) for _, key, _, value in split]


def data(name: str) -> pd.DataFrame:
    """Texts by the name of a shipped dataset, or from a file.

    Raises:
        UnknownName: neither is there.
        InputError: a file of another kind.
    """
    if name in text_dataset_names():
        return read_texts(name)
    path = Path(name)
    if not path.is_file():
        raise UnknownName("dataset", name, text_dataset_names(), "A .txt, .jsonl, .csv or .parquet file is taken too.")
    if path.suffix == ".txt":
        return pd.DataFrame({"text": [line for line in path.read_text("utf-8").splitlines() if line.strip()]})
    readers: Mapping[str, Callable[[Path], pd.DataFrame]] = {
        ".jsonl": lambda file: pd.read_json(file, lines=True),
        ".csv": pd.read_csv,
        ".parquet": pd.read_parquet,
    }
    if path.suffix not in readers:
        raise InputError(f"cannot read {name!r}: give a .txt, .jsonl, .csv or .parquet file.")
    return readers[path.suffix](path)
