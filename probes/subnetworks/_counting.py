"""Count adjacent tokens of texts that need not fit in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from interp.authoring import (
    InputError,
    Subject,
    UnknownName,
    dataset,
    frame_of_texts,
    start_ids,
    text_dataset_names,
    text_ids,
)

_PIECE = 1 << 20  # characters tokenised at once
_PENDING = 1 << 22  # pairs collected before they are added up


def texts_of(corpus: str | Path | Iterable[str]) -> tuple[Iterator[Iterator[str]], str]:
    """Return the documents of a corpus, each in pieces of text, and the name of the corpus.

    Raises:
        InputError: the folder has no .txt file.
        UnknownName: the corpus is neither a path nor a shipped dataset.
    """
    if isinstance(corpus, str) and corpus in text_dataset_names():
        return ((iter([text])) for text in dataset(corpus)["text"]), corpus
    if isinstance(corpus, pd.DataFrame | Mapping | Set):  # which would be read by their columns, keys or in any order
        corpus = frame_of_texts(corpus)["text"]
    if not isinstance(corpus, str | Path):
        return (_pieces_of(text) for text in corpus), "texts"
    path = Path(corpus)
    files = sorted(path.rglob("*.txt")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"the folder {str(path)!r} has no .txt file; put the texts there as .txt.")
    if not files[0].is_file():
        raise UnknownName("corpus", str(corpus), ["shipped", *text_dataset_names()], "A path of .txt files works too.")
    return (_pieces_of_file(file) for file in files), path.name


def _pieces_of(text: Any) -> Iterator[str]:
    if not isinstance(text, str):
        raise InputError(f"the corpus holds a {type(text).__name__}; give texts (str).")
    yield text


def _pieces_of_file(path: Path) -> Iterator[str]:
    """Yield whole lines, about a million characters at a time."""
    with path.open(encoding="utf-8-sig") as file:
        while lines := file.readlines(_PIECE):
            yield "".join(lines)


def counted_texts(documents: Iterable[Iterable[str]], subject: Subject) -> sparse.csr_array:
    """Count every adjacent pair of tokens within each document, float64 CSR [V, V].

    Raises:
        InputError: the model has no tokenizer.
    """
    if subject.tokenizer is None:
        raise InputError("this model came without a tokenizer; pass token ids, or load it with tokenizer=.")
    pairs = _pairs_of_documents(documents, subject.tokenizer, start_ids(subject.tokenizer))
    return _summed(pairs, subject.d_vocab)


def counted_ids(prompts: Iterable[Tensor], d_vocab: int) -> sparse.csr_array:
    """Count every adjacent pair of tokens within each prompt, float64 CSR [V, V]."""
    arrays = (prompt.numpy() for prompt in prompts)
    return _summed(((ids[:-1], ids[1:]) for ids in arrays), d_vocab)


def _pairs_of_documents(
    documents: Iterable[Iterable[str]], tokenizer: Any, start: list[int]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    for pieces in documents:
        last = start
        for piece in pieces:
            joined = np.array([*last, *text_ids([piece], tokenizer)[0]], dtype=np.int64)
            yield joined[:-1], joined[1:]
            last = joined[-1:].tolist()


def _summed(pairs: Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]], d_vocab: int) -> sparse.csr_array:
    """Add up pairs as they arrive; memory is bounded by the number of different pairs."""
    total = sparse.csr_array((d_vocab, d_vocab), dtype=np.float64)
    waiting: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    n_waiting = 0
    for pair in pairs:
        waiting.append(pair)
        n_waiting += len(pair[0])
        if n_waiting >= _PENDING:
            total, waiting, n_waiting = total + _counted(waiting, d_vocab), [], 0
    return sparse.csr_array(total + _counted(waiting, d_vocab)) if waiting else total


def _counted(pairs: list[tuple[NDArray[np.int64], NDArray[np.int64]]], d_vocab: int) -> sparse.csr_array:
    current, following = (np.concatenate(side) for side in zip(*pairs, strict=True))
    largest = max(current.max(initial=0), following.max(initial=0))
    if largest >= d_vocab:
        raise InputError(f"the corpus holds the token id {largest}, but the vocabulary has {d_vocab}; leave it out.")
    ones = np.ones(len(current))
    return sparse.csr_array(sparse.coo_array((ones, (current, following)), shape=(d_vocab, d_vocab)))
