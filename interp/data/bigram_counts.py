"""The bigram counts of the shipped model's training text."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from interp.data.pair_counts import csr_array
from interp.data.shipped import shipped_path

if TYPE_CHECKING:
    from scipy import sparse
    from tokenizers import Tokenizer

FILE_NAME = "counts.npz"


@dataclass(frozen=True)
class BigramCounts:
    """The counts of adjacent tokens in a corpus of `n_tokens` tokens, with start-of-text before the first.

    Attributes:
        pairs: int64 CSR [V, V]; row = current token, column = the token after it. Only pairs seen at least `threshold`
            times; 0 elsewhere.
        unigram: int64 [V], occurrences of each token (as the predicted one). Complete: sums to `n_tokens`.
        current: int64 [V], occurrences of each token as the one before another. Complete: sums to `n_tokens`.
        threshold: smallest count kept in `pairs`.
        tokenizer_sha256: `tokens_sha256` of the text's tokenizer.
    """

    pairs: sparse.csr_array
    unigram: NDArray[np.int64]
    current: NDArray[np.int64]
    threshold: int
    tokenizer_sha256: str

    @property
    def n_tokens(self) -> int:
        """Tokens counted, equal to the number of pairs before rare ones were dropped."""
        return int(self.unigram.sum())

    @property
    def mass_kept(self) -> float:
        """Fraction of the corpus's pairs that `pairs` holds."""
        return float(self.pairs.sum() / self.n_tokens)

    @property
    def dropped(self) -> NDArray[np.int64]:
        """Number of dropped pairs of each row, int64 [V]."""
        kept: NDArray[np.int64] = self.pairs.sum(axis=1)
        return self.current - kept


def tokens_sha256(tokens: Sequence[str]) -> str:
    """Return the SHA-256 of tokens in the order of their ids; it does not depend on how the tokenizer was saved."""
    return hashlib.sha256("\n".join(tokens).encode()).hexdigest()


def vocabulary(tokenizer: Tokenizer) -> list[str]:
    """Return the tokens in the order of their ids."""
    ids = tokenizer.get_vocab()
    return sorted(ids, key=ids.__getitem__)


def load_counts(path: str | Path | None = None) -> BigramCounts:
    """Read a file written by `save_counts`; by default the shipped counts of the reference model's training text.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged.
    """
    with np.load(shipped_path("bigrams") / FILE_NAME if path is None else path, allow_pickle=False) as saved:
        arrays = {name: saved[name].astype(np.int64) for name in ("indptr", "indices", "data", "unigram", "current")}
        threshold, digest = int(saved["threshold"]), str(saved["tokenizer_sha256"])
    n = len(arrays["unigram"])
    pairs = csr_array((arrays["data"], arrays["indices"], arrays["indptr"]), shape=(n, n))
    pairs.check_format(full_check=True)
    return BigramCounts(pairs, arrays["unigram"], arrays["current"], threshold, digest)
