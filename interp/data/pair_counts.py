"""Count adjacent tokens, of any amount of text: the one counter of bigrams here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from interp.checks import checked
from interp.errors import InputError

if TYPE_CHECKING:
    from scipy import sparse

_AT_ONCE = 1 << 20  # pairs sorted together: a few tens of megabytes

_Counted: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64]]  # distinct pairs, ascending, and their counts


class PairCounter:
    """Counts of adjacent tokens in streams that arrive one by one.

    A pair is one number, current * V + following. Pairs are sorted about a million at a time, and the sorted counts are
    merged as in a merge sort: memory is bounded by the number of different pairs, and nothing is ever dense in V x V.

    Args:
        d_vocab: V, the size of the vocabulary.
    """

    def __init__(self, d_vocab: int) -> None:
        self._d_vocab = d_vocab
        self._waiting: list[NDArray[np.int64]] = []
        self._n_waiting = 0
        self._counted: list[_Counted] = []  # each at least twice as long as the next

    def add(self, ids: NDArray[np.integer]) -> None:
        """Count every adjacent pair of token ids [pos].

        Raises:
            InputError: an id is outside the vocabulary.
        """
        if len(ids) < 2:
            return
        smallest, largest = int(ids.min()), int(ids.max())
        if smallest < 0 or largest >= self._d_vocab:
            wrong = largest if smallest >= 0 else smallest
            raise InputError(
                f"the corpus holds the token id {wrong}, but the vocabulary has {self._d_vocab}; leave it out."
            )
        for start in range(0, len(ids) - 1, _AT_ONCE):
            some = ids[start : start + _AT_ONCE + 1].astype(np.int64)
            self._waiting.append(some[:-1] * self._d_vocab + some[1:])
            self._n_waiting += len(some) - 1
            if self._n_waiting >= _AT_ONCE:
                self._settle()

    def matrix(self) -> sparse.csr_array:
        """Return the counts so far, int64 CSR [V, V]; row = current token, column = the token after it."""
        self._settle()
        while len(self._counted) > 1:
            self._merge_last()
        pairs, counts = self._counted[0] if self._counted else (np.empty(0, np.int64), np.empty(0, np.int64))
        starts = np.searchsorted(pairs, np.arange(self._d_vocab + 1) * self._d_vocab)
        return csr_array((counts, pairs % self._d_vocab, starts), shape=(self._d_vocab, self._d_vocab))

    def _settle(self) -> None:
        if not self._waiting:
            return
        keys = np.concatenate(self._waiting)
        keys.sort()
        self._waiting, self._n_waiting = [], 0
        self._counted.append(_summed(keys, np.ones(len(keys), dtype=np.int64)))
        while len(self._counted) > 1 and len(self._counted[-2][0]) < 2 * len(self._counted[-1][0]):
            self._merge_last()

    def _merge_last(self) -> None:
        last = [self._counted.pop() for _ in range(2)]
        keys, counts = (np.concatenate(parts) for parts in zip(*last, strict=True))
        order = np.argsort(keys, kind="stable")  # two ascending runs: a merge
        self._counted.append(_summed(keys[order], counts[order]))


def _summed(keys: NDArray[np.int64], counts: NDArray[np.int64]) -> _Counted:
    """Add up the counts of equal keys, which lie beside each other."""
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    return keys[first], np.add.reduceat(counts, first)


@checked
def csr_array(values: Any, shape: tuple[int, int] | None = None) -> sparse.csr_array:
    """Return `scipy.sparse.csr_array`, which is slow to import, of values."""
    from scipy import sparse

    return sparse.csr_array(values, shape=shape)


def counted_pairs(streams: Iterable[NDArray[np.integer]], d_vocab: int) -> sparse.csr_array:
    """Count every adjacent pair of tokens within each stream of ids [pos], int64 CSR [V, V].

    Raises:
        InputError: an id is outside the vocabulary.

    >>> counted_pairs([np.array([0, 1, 0, 1]), np.array([1, 1])], d_vocab=2).toarray().tolist()
    [[0, 2], [1, 1]]
    """
    counter = PairCounter(d_vocab)
    for ids in streams:
        counter.add(ids)
    return counter.matrix()
