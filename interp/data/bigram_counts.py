"""Read the bigram counts of the shipped model's training text."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from tokenizers import Tokenizer

from interp.data.shipped import shipped_path

FILE_NAME = "counts.npz"


@dataclass(frozen=True)
class BigramCounts:
    """Counts of adjacent tokens in a corpus of `n_tokens` tokens, the first one preceded by start-of-text.

    Attributes:
        pairs: int64 CSR [V, V]; row = current token, column = the token after it. Only pairs seen `threshold` times
            or more; 0 elsewhere.
        unigram: int64 [V], how often each token is predicted, that is, occurs. Complete: sums to `n_tokens`.
        current: int64 [V], how often each token is the one before. Complete: sums to `n_tokens`.
        threshold: smallest count kept in `pairs`.
        tokenizer_sha256: `tokens_sha256` of the tokenizer that cut the text.
    """

    pairs: sparse.csr_array
    unigram: NDArray[np.int64]
    current: NDArray[np.int64]
    threshold: int
    tokenizer_sha256: str

    @property
    def n_tokens(self) -> int:
        """Tokens counted, equal to the number of pairs before any were dropped."""
        return int(self.unigram.sum())

    @property
    def mass_kept(self) -> float:
        """Fraction of the corpus's pairs that `pairs` accounts for."""
        return float(self.pairs.sum() / self.n_tokens)

    @property
    def dropped(self) -> NDArray[np.int64]:
        """How many pairs of each row were dropped, int64 [V]."""
        kept: NDArray[np.int64] = self.pairs.sum(axis=1)
        return self.current - kept


def tokens_sha256(tokens: Sequence[str]) -> str:
    """SHA-256 of a vocabulary, its tokens in the order of their ids: the same however the tokenizer was saved."""
    return hashlib.sha256("\n".join(tokens).encode()).hexdigest()


def vocabulary(tokenizer: Tokenizer) -> list[str]:
    """The tokens in the order of their ids."""
    ids = tokenizer.get_vocab()
    return sorted(ids, key=ids.__getitem__)


def load_counts(path: str | Path | None = None) -> BigramCounts:
    """Read what `save_counts` wrote; by default the shipped counts of the reference model's training text.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged.
    """
    with np.load(shipped_path("bigrams") / FILE_NAME if path is None else path, allow_pickle=False) as saved:
        arrays = {name: saved[name].astype(np.int64) for name in ("indptr", "indices", "data", "unigram", "current")}
        threshold, digest = int(saved["threshold"]), str(saved["tokenizer_sha256"])
    n = len(arrays["unigram"])
    pairs = sparse.csr_array((arrays["data"], arrays["indices"], arrays["indptr"]), shape=(n, n))
    pairs.check_format(full_check=True)
    return BigramCounts(pairs, arrays["unigram"], arrays["current"], threshold, digest)
