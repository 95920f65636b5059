"""The bigram model of a corpus: P(next token | current token) from counts, unsmoothed, with backoff.

A token that the corpus never shows before another one gets the unigram distribution. If nothing was counted at all,
every token gets the uniform one (Chang & Bergen, arXiv 2504.15471).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.authoring import InputError, ModelError, Source, Subject, checked, load
from interp.data.bigram_counts import BigramCounts, load_counts, tokens_sha256, vocabulary
from interp.data.pair_counts import csr_array
from interp.data.tensor_file import reading
from interp.data.writing import written
from probes.subnetworks._counting import counted_ids, counted_texts, documents_of

if TYPE_CHECKING:
    from scipy import sparse

Corpus: TypeAlias = str | Path | Iterable[str] | pd.DataFrame | Tensor
"""A corpus: "shipped", a file or folder of texts, an iterable of texts, or token ids [pos] or [prompt, pos]."""


@checked
@dataclass(frozen=True, eq=False, repr=False)
class BigramModel:
    """Counts of adjacent tokens, and the distributions they give.

    Attributes:
        pairs: float64 CSR [V, V]; row = current token, column = next token.
        unigram: float64 [V], how often each token occurs as the next one.
        current: float64 [V], how often each token occurs before another one. If this exceeds the sum of the token's row
            in `pairs`, the rest was counted but not kept, and is spread as the unigram distribution.
        corpus: name of the corpus.
        tokenizer_sha256: hash of the vocabulary that the counts are for; None if it is not known.
    """

    made_by: ClassVar[str] = "bigram_model"

    pairs: sparse.csr_array
    unigram: NDArray[np.float64]
    current: NDArray[np.float64]
    corpus: str
    tokenizer_sha256: str | None = None

    def __post_init__(self) -> None:
        if not hasattr(self.pairs, "indptr"):
            raise InputError(f"pairs={self.pairs!r}: give a csr_array.")
        shape, size = self.pairs.shape, len(self.unigram)
        if shape != (size, size) or len(self.current) != size or size < 1:
            raise InputError(
                f"pairs {list(shape)}, unigram [{size}] and current [{len(self.current)}] do not match; "
                "give [V, V], [V] and [V]."
            )
        counts = self.pairs.data, self.unigram, self.current
        if not all(np.isfinite(one).all() and (one >= 0).all() for one in counts):
            raise InputError("counts of bigrams hold a negative or infinite number; give counts of 0 or more.")
        if (self._kept > self.current * (1 + 1e-9) + 1e-9).any():
            raise InputError("a row of pairs sums to more than its token's count in current; give complete counts.")

    @classmethod
    def from_transition(cls, transition: Tensor | NDArray[np.floating]) -> BigramModel:
        """Make the model of a row-stochastic matrix P [V, V], in which all current tokens are equally frequent.

        >>> BigramModel.from_transition(torch.tensor([[0.25, 0.75], [0.5, 0.5]])).probs([0]).tolist()
        [[0.25, 0.75]]

        Raises:
            InputError: the rows do not sum to 1.
        """
        matrix = np.asarray(transition, dtype=np.float64)
        if matrix.ndim != 2 or not np.allclose(matrix.sum(axis=1), 1, atol=1e-6):
            raise InputError(f"transition {list(matrix.shape)} has rows that do not sum to 1; divide each by its sum.")
        matrix = matrix / matrix.sum(axis=1, keepdims=True)
        return cls(csr_array(matrix), matrix.sum(axis=0), matrix.sum(axis=1), "transition")

    @classmethod
    def from_counts(cls, counts: BigramCounts, corpus: str) -> BigramModel:
        """Make the model of shipped counts."""
        unigram, current = counts.unigram.astype(np.float64), counts.current.astype(np.float64)
        return cls(counts.pairs.astype(np.float64), unigram, current, corpus, counts.tokenizer_sha256)

    def __repr__(self) -> str:
        return f"BigramModel({self.corpus!r}, vocabulary {self.d_vocab:,}, {self.pairs.nnz:,} pairs of tokens)"

    @property
    def d_vocab(self) -> int:
        """Size of the vocabulary, V."""
        return len(self.unigram)

    @cached_property
    def digest(self) -> str:
        """Hash of the counts, 16 hex digits."""
        digest = hashlib.blake2b(digest_size=8)
        for part in (self.pairs.indptr.astype(np.int64), self.pairs.indices.astype(np.int64), self.pairs.data):
            digest.update(part.tobytes())
        digest.update(self.unigram.tobytes() + self.current.tobytes())
        return digest.hexdigest()

    @cached_property
    def unigram_probs(self) -> NDArray[np.float64]:
        """Backoff distribution, float64 [V]: the unigram distribution, or the uniform one if nothing was counted."""
        total = self.unigram.sum()
        uniform = np.full(self.d_vocab, 1 / self.d_vocab)
        return self.unigram / total if total else uniform

    @cached_property
    def backoff(self) -> NDArray[np.float64]:
        """Share of the unigram distribution in each row, float64 [V]; 1 for a token never seen before another."""
        share = 1 - np.divide(self._kept, self.current, out=np.zeros(self.d_vocab), where=self.current > 0)
        return np.where(share < 1e-9, 0.0, share)  # complete rows, up to the rounding of their sum

    @cached_property
    def seen(self) -> sparse.csr_array:
        """P(next | current) of the kept pairs, float64 CSR [V, V]; the rest of each row is its `backoff`."""
        scale = np.divide(1 - self.backoff, self._kept, out=np.zeros(self.d_vocab), where=self._kept > 0)
        scaled = self.pairs.copy()
        scaled.data = self.pairs.data * np.repeat(scale, np.diff(self.pairs.indptr))
        return scaled

    def probs(self, ids: Tensor | Iterable[int]) -> Tensor:
        """Return the next-token distribution after each of ids [...], float64 [..., V]; each sums to 1.

        Raises:
            InputError: an id outside the vocabulary.
        """
        current = self._checked(ids)
        rows, place = np.unique(current, return_inverse=True)
        dense = self.seen[rows].toarray() + np.outer(self.backoff[rows], self.unigram_probs)
        return torch.from_numpy(dense[place.reshape(current.shape)])

    def surprisal(self, current: Tensor | Iterable[int], following: Tensor | Iterable[int]) -> Tensor:
        """Return -log2 P(following | current) in bits, float64, shaped as both; infinite for a pair never seen.

        >>> model = BigramModel.from_transition(torch.tensor([[0.25, 0.75], [0.0, 1.0]]))
        >>> model.surprisal([0, 1], [0, 0]).tolist()
        [2.0, inf]

        Raises:
            InputError: an id outside the vocabulary, or other numbers of current and following tokens.
        """
        before, after = self._checked(current), self._checked(following)
        if before.shape != after.shape:
            raise InputError(f"current {list(before.shape)} and following {list(after.shape)} differ; give pairs.")
        wanted = before * self.d_vocab + after
        place = np.searchsorted(self._keys, wanted).clip(max=max(0, len(self._keys) - 1))
        found = self._keys[place] == wanted if len(self._keys) else np.zeros(wanted.shape, dtype=bool)
        seen = np.where(found, self.seen.data[place] if len(self._keys) else 0.0, 0.0)
        return _bits(seen + self.backoff[before] * self.unigram_probs[after])

    def unigram_surprisal(self, following: Tensor | Iterable[int]) -> Tensor:
        """Return -log2 P(following) without context in bits, float64, shaped as `following`.

        Raises:
            InputError: an id outside the vocabulary.
        """
        return _bits(self.unigram_probs[self._checked(following)])

    def entropy(self) -> Tensor:
        """Return the entropy of the next token after each token, nats, float64 [V]; no expected loss is lower.

        A row is its seen pairs plus `backoff` times the unigram distribution u, so that its entropy is that of
        backoff * u, in closed form, and what the seen pairs change of it: no row is made dense.
        """
        share, seen = torch.from_numpy(self.backoff), self.seen
        unigram = torch.from_numpy(self.unigram_probs)
        of_unigram = torch.special.entr(unigram).sum()
        entropy = torch.special.entr(share) + share * of_unigram
        row = torch.repeat_interleave(torch.from_numpy(np.diff(seen.indptr).astype(np.int64)))
        backed = share[row] * unigram[torch.from_numpy(seen.indices.astype(np.int64))]
        changes = torch.special.entr(torch.from_numpy(seen.data) + backed) - torch.special.entr(backed)
        return entropy.index_add_(0, row, changes)

    def check(self, subject: Subject) -> None:
        """Check that the counts fit a model's vocabulary.

        Raises:
            ModelError: the counts have more tokens than the model, or are of another tokenizer.
        """
        if self.d_vocab > subject.d_vocab:
            raise ModelError(
                f"{self!r} has more tokens than the {subject.d_vocab:,} of {subject.name!r}; count with its tokenizer."
            )
        known = self.tokenizer_sha256 is not None and subject.tokenizer is not None
        if known and tokens_sha256(vocabulary(subject.tokenizer)) != self.tokenizer_sha256:
            raise ModelError(
                f"{self!r} was counted with another tokenizer than that of {subject.name!r}; "
                "count your own corpus: bigram_model(subject, folder)."
            )

    def save(self, path: str | Path) -> Path:
        """Write the counts as one compressed .npz file.

        Raises:
            InputError: the file cannot be written.
        """
        path = Path(path)
        arrays: dict[str, Any] = {"indptr": self.pairs.indptr, "indices": self.pairs.indices, "data": self.pairs.data}
        about: dict[str, Any] = {
            "corpus": np.array(self.corpus),
            "tokenizer_sha256": np.array(self.tokenizer_sha256 or ""),
        }
        with written(path, "a bigram model") as file:
            np.savez_compressed(file, **arrays, unigram=self.unigram, current=self.current, **about)
        return path

    @classmethod
    def load(cls, path: str | Path) -> BigramModel:
        """Read a file written by `save`.

        Raises:
            InputError: the file is missing or holds something else.
        """
        with reading(path, "bigram model", "Save it again."), np.load(path, allow_pickle=False) as saved:
            unigram, current = saved["unigram"], saved["current"]
            pairs = csr_array((saved["data"], saved["indices"], saved["indptr"]), shape=(len(unigram),) * 2)
            pairs.check_format(full_check=True)
            return cls(pairs, unigram, current, str(saved["corpus"]), str(saved["tokenizer_sha256"]) or None)

    @cached_property
    def _kept(self) -> NDArray[np.float64]:
        kept: NDArray[np.float64] = np.asarray(self.pairs.sum(axis=1), dtype=np.float64)
        return kept

    @cached_property
    def _keys(self) -> NDArray[np.int64]:
        """Every kept pair as one number, ascending."""
        self.seen.sort_indices()
        rows = np.repeat(np.arange(self.d_vocab, dtype=np.int64), np.diff(self.seen.indptr))
        return rows * self.d_vocab + self.seen.indices

    def _checked(self, ids: Tensor | Iterable[int]) -> NDArray[np.int64]:
        if isinstance(ids, Tensor):
            ids = ids.cpu().numpy()
        array = np.asarray(ids if isinstance(ids, np.ndarray) else list(ids))
        if not np.issubdtype(array.dtype, np.integer):
            raise InputError(f"token ids are {array.dtype}; give whole numbers.")
        if array.size and (array.min() < 0 or array.max() >= self.d_vocab):
            raise InputError(f"token ids run from {array.min()} to {array.max()}; the vocabulary has {self.d_vocab}.")
        return array.astype(np.int64)


@checked
def bigram_model(subject: Source, corpus: Corpus = "shipped") -> BigramModel:
    """Count a corpus with a model's tokenizer.

    Pairs are counted within documents only; a document begins with a start-of-text token if the tokenizer adds one.

    Args:
        subject: anything `interp.load` takes; only its tokenizer and vocabulary are used.
        corpus: "shipped": the counts of the reference model's training text, for models with its tokenizer. Or a folder
            of .txt files, one such file, or the name of a shipped dataset; each file or text is one document, read in
            pieces. Or any iterable of texts. Or token ids [pos] or [prompt, pos].

    Returns:
        A `BigramModel`.

    Raises:
        InputError: the corpus is empty or cannot be read.
        ModelError: the shipped counts are of another tokenizer than the model's.

    >>> (model := bigram_model("reference"))
    BigramModel('shipped', vocabulary 8,192, 780,595 pairs of tokens)
    >>> rows = model.probs([5, 6])
    >>> rows.shape, bool((rows.sum(dim=1) - 1).abs().max() < 1e-12)
    (torch.Size([2, 8192]), True)
    """
    loaded = load(subject)
    if isinstance(corpus, str) and corpus == "shipped":
        model = BigramModel.from_counts(load_counts(), "shipped")
        model.check(loaded)
        return model
    if isinstance(corpus, Tensor):
        pairs = counted_ids(loaded.tokens(corpus, truncate=True).ids, loaded.d_vocab)
        counted_from, digest = "token ids", None
    else:
        documents = documents_of(corpus)
        pairs, counted_from = counted_texts(documents, loaded), documents.name
        digest = tokens_sha256(vocabulary(loaded.tokenizer))
    if not pairs.nnz:
        raise InputError(f"the corpus {counted_from!r} holds no two adjacent tokens; give more text.")
    unigram, current = (np.asarray(pairs.sum(axis=axis), dtype=np.float64) for axis in (0, 1))
    return BigramModel(pairs.astype(np.float64), unigram, current, counted_from, digest)


def _bits(probs: NDArray[np.float64]) -> Tensor:
    with np.errstate(divide="ignore"):
        return torch.from_numpy(-np.log2(probs) + 0.0)  # + 0.0 turns the -0.0 of a certain token into 0.0
