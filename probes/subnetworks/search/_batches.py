"""Training batches for masks; batch n is the same for every caller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.authoring import InputError, Tokens
from probes.subnetworks.bigram_model import BigramModel


class Contexts(Protocol):
    """Batches by number."""

    def batch(self, step: int) -> Tensor:
        """Return the token ids [batch, pos] of a step, from 0; -1 is for measuring and is never trained on."""


class DrawnContexts:
    """Endless sequences drawn from a bigram model: they have its frequencies, and only the current token matters.

    Each begins with the tokens of `start`; if there are none, its first token is drawn from the unigram distribution.
    """

    def __init__(self, bigrams: BigramModel, shape: tuple[int, int], *, start: Sequence[int], seed: int) -> None:
        self._bigrams, self._shape, self._seed = bigrams, shape, seed
        self._start = list(start[: shape[1]])
        self._cumulated = np.concatenate([[0.0], np.cumsum(bigrams.seen.data)])
        self._unigram = np.cumsum(bigrams.unigram_probs)

    def batch(self, step: int) -> Tensor:
        """See `Contexts`."""
        generator = np.random.default_rng([self._seed, step + 1])
        n, length = self._shape
        ids = np.empty((n, length), dtype=np.int64)
        ids[:, 0] = self._by_unigram(generator.random(n))
        ids[:, : len(self._start)] = self._start
        for pos in range(max(1, len(self._start)), length):
            ids[:, pos] = self._following(ids[:, pos - 1], generator.random(n), generator.random(n))
        return torch.from_numpy(ids)

    def _following(
        self, current: NDArray[np.int64], draws: NDArray[np.float64], backs: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        starts, stops = (self._bigrams.seen.indptr[current + one] for one in (0, 1))
        low, high = self._cumulated[starts], self._cumulated[stops]
        place = np.searchsorted(self._cumulated, low + draws * (high - low), side="right") - 1
        place = np.minimum(place, np.maximum(stops - 1, starts)).clip(max=max(0, len(self._bigrams.seen.indices) - 1))
        backed = backs < self._bigrams.backoff[current]
        seen = self._bigrams.seen.indices[place] if len(self._bigrams.seen.indices) else 0
        following: NDArray[np.int64] = np.where(backed, self._by_unigram(draws), seen)
        return following

    def _by_unigram(self, draws: NDArray[np.float64]) -> NDArray[np.int64]:
        place: NDArray[np.int64] = np.searchsorted(self._unigram, draws * self._unigram[-1], side="right")
        return place.clip(max=len(self._unigram) - 1)


class TextContexts:
    """Windows of concatenated texts, each used once before any is reused; one batch is kept for measuring."""

    def __init__(self, tokens: Tokens, shape: tuple[int, int], *, seed: int) -> None:
        n, length = shape
        ids = torch.cat(tokens.ids)
        self._windows = ids[: len(ids) // length * length].view(-1, length)
        self._n, self._seed = n, seed
        if len(self._windows) < 2 * n:
            raise InputError(
                f"the texts have {len(ids):,} tokens; {2 * n} windows of {length} need {2 * n * length:,}; give more "
                "texts or smaller batches."
            )

    def batch(self, step: int) -> Tensor:
        """See `Contexts`."""
        order = np.random.default_rng(self._seed).permutation(len(self._windows))
        if step < 0:
            return self._windows[torch.from_numpy(order[: self._n])]
        training = order[self._n :]
        per_pass = len(training) // self._n
        turn = np.random.default_rng([self._seed, step // per_pass]).permutation(training)
        chosen = turn[step % per_pass * self._n : (step % per_pass + 1) * self._n]
        return self._windows[torch.from_numpy(chosen)]
