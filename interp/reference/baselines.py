"""Baselines that a language model must beat: next-token prediction from unigram and bigram counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from interp.data.pair_counts import counted_pairs


@dataclass(frozen=True)
class Baselines:
    """A unigram and a bigram model fitted on one text; every distribution sums to one and is positive everywhere.

    Attributes:
        unigram: float64 [V], add-one smoothed probabilities.
        seen: float64 CSR [V, V], discounted probabilities of the pairs seen; row = previous token.
        backoff: float64 [V], the discounted mass of each row, which goes to `unigram`.
    """

    unigram: NDArray[np.float64]
    seen: sparse.csr_array
    backoff: NDArray[np.float64]

    def after(self, previous: int) -> NDArray[np.float64]:
        """Return the bigram model's distribution of the token after `previous`, float64 [V]."""
        row: NDArray[np.float64] = self.seen[[previous]].toarray()[0] + self.backoff[previous] * self.unigram
        return row

    def unigram_losses(self, ids: NDArray[np.int32]) -> NDArray[np.float64]:
        """Return -log p of each token, in nats [len(ids)]."""
        losses: NDArray[np.float64] = -np.log(self.unigram[ids])
        return losses

    def bigram_losses(self, ids: NDArray[np.int32], bos: int) -> NDArray[np.float64]:
        """Return -log p of each token given the one before it (`bos` before the first), in nats [len(ids)].

        These are the same tokens that `held_out_losses` predicts. There the model starts anew every `context - 1`
        tokens and sees start-of-text instead of the token before; here the true token before is always given, which
        can only help the baseline.
        """
        before = np.concatenate([[bos], ids[:-1]])
        seen: NDArray[np.float64] = np.asarray(self.seen[before, ids])
        losses: NDArray[np.float64] = -np.log(seen + self.backoff[before] * self.unigram[ids])
        return losses


def fit_baselines(ids: NDArray[np.int32], bos: int, vocab_size: int) -> Baselines:
    """Fit both models on a stream of token ids.

    The bigram model uses interpolated absolute discounting (Ney, Essen and Kneser, 1994): every pair count above 0
    loses `discount`, and the total that a row loses goes to the unigram model.
    """
    pairs = counted_pairs([np.concatenate([[bos], ids])], vocab_size)
    unigram = (pairs.sum(axis=0) + 1) / (len(ids) + vocab_size)
    totals = pairs.sum(axis=1)
    discount = ney_discount(pairs.data)
    rows = np.repeat(np.arange(vocab_size), np.diff(pairs.indptr))
    seen = sparse.csr_array(((pairs.data - discount) / totals[rows], pairs.indices, pairs.indptr), shape=pairs.shape)
    # After a token that was never followed by another, only the unigram model predicts.
    backoff = np.where(totals > 0, discount * np.diff(pairs.indptr) / np.maximum(totals, 1), 1.0)
    return Baselines(unigram, seen, backoff)


def ney_discount(counts: NDArray[np.int64]) -> float:
    """Return n1 / (n1 + 2 n2), n1 and n2 the numbers of counts 1 and 2; 0.5 if no count is 1, to keep some backoff.

    >>> ney_discount(np.array([1, 1, 2, 5]))
    0.5
    """
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    return once / (once + 2 * twice) if once else 0.5
