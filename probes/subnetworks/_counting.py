"""Count adjacent tokens of texts that need not fit in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from torch import Tensor

from interp.authoring import (
    InputError,
    Subject,
    UnknownName,
    dataset,
    frame_of_texts,
    progress_bar,
    start_ids,
    text_dataset_names,
    text_ids,
)
from interp.data.pair_counts import PairCounter, counted_pairs

if TYPE_CHECKING:
    from scipy import sparse

_PIECE = 1 << 20  # characters of a document tokenised at once
_AT_ONCE = 1 << 22  # characters handed to the tokenizer together, which reads pieces side by side


@dataclass(frozen=True)
class Documents:
    """A corpus, in pieces of text.

    Attributes:
        pieces: document by document; True with the first piece of each.
        name: of the corpus.
        n_bytes: of all texts, about; 0 if it is not known beforehand.
    """

    pieces: Iterator[tuple[bool, str]]
    name: str
    n_bytes: int


def documents_of(corpus: str | Path | Iterable[str]) -> Documents:
    """Return the documents of a corpus.

    Raises:
        InputError: the folder has no .txt file.
        UnknownName: the corpus is neither a path nor a shipped dataset.
    """
    shipped = isinstance(corpus, str) and corpus in text_dataset_names()
    name = str(corpus) if shipped else "texts"
    if shipped:
        corpus = dataset(name)["text"].tolist()
    elif isinstance(corpus, pd.DataFrame | Mapping | Set):  # which would be read by their columns, keys or in any order
        corpus = frame_of_texts(corpus)["text"].tolist()
    if not isinstance(corpus, str | Path):
        known = isinstance(corpus, Sequence)
        n_bytes = sum(len(text) for text in corpus if isinstance(text, str)) if known else 0
        return Documents(_of_texts(corpus), name, n_bytes)
    path = Path(corpus)
    files = sorted(path.rglob("*.txt")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"the folder {str(path)!r} has no .txt file; put the texts there as .txt.")
    if not files[0].is_file():
        raise UnknownName("corpus", str(corpus), ["shipped", *text_dataset_names()], "A path of .txt files works too.")
    return Documents(_of_files(files), path.name, sum(file.stat().st_size for file in files))


def _of_texts(texts: Iterable[Any]) -> Iterator[tuple[bool, str]]:
    for text in texts:
        if not isinstance(text, str):
            raise InputError(f"the corpus holds a {type(text).__name__}; give texts (str).")
        yield True, text


def _of_files(files: Iterable[Path]) -> Iterator[tuple[bool, str]]:
    """Yield whole lines, about a million characters at a time."""
    for path in files:
        first = True
        with path.open(encoding="utf-8-sig") as file:
            while lines := file.readlines(_PIECE):
                yield first, "".join(lines)
                first = False


def counted_texts(documents: Documents, subject: Subject) -> sparse.csr_array:
    """Count every adjacent pair of tokens within each document, int64 CSR [V, V].

    Nearly all the time is the tokenizer's. It is given several pieces at once, which a tokenizer of the `tokenizers`
    library reads on all cores.

    Raises:
        InputError: the model has no tokenizer.
    """
    if subject.tokenizer is None:
        raise InputError("this model came without a tokenizer; pass token ids, or load it with tokenizer=.")
    start, counter, last = start_ids(subject.tokenizer), PairCounter(subject.d_vocab), np.empty(0, np.int64)
    total = documents.n_bytes // 1000
    n_steps = 2 if not total else documents.n_bytes // _AT_ONCE + 1
    with progress_bar(total, "kB", f"count pairs of tokens in {documents.name}", n_steps=n_steps) as bar:
        read = 0
        for pieces in _together(documents.pieces):
            for (first, text), ids in zip(
                pieces, text_ids([text for _, text in pieces], subject.tokenizer), strict=True
            ):
                joined = np.array([*(start if first else last.tolist()), *ids], dtype=np.int64)
                counter.add(joined)
                last = joined[-1:]
                read += len(text.encode())
            bar.update(read // 1000 - bar.n)
    return counter.matrix()


def _together(pieces: Iterable[tuple[bool, str]]) -> Iterator[list[tuple[bool, str]]]:
    """Yield successive pieces in groups of about `_AT_ONCE` characters."""
    group: list[tuple[bool, str]] = []
    n_characters = 0
    for piece in pieces:
        group.append(piece)
        n_characters += len(piece[1])
        if n_characters >= _AT_ONCE:
            yield group
            group, n_characters = [], 0
    if group:
        yield group


def counted_ids(prompts: Iterable[Tensor], d_vocab: int) -> sparse.csr_array:
    """Count every adjacent pair of tokens within each prompt, int64 CSR [V, V]."""
    return counted_pairs((prompt.cpu().numpy() for prompt in prompts), d_vocab)
