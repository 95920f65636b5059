"""Distributions as training targets: their cross-entropy with a model's logits, and its gradient.

The bigram target is never made dense: a row is its few seen pairs plus a share of the unigram distribution, so the
cross-entropy is a sum over the pairs plus a product with the unigram distribution.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from interp.authoring import InputError, Subject
from probes.subnetworks.bigram_model import BigramModel

Distributions: TypeAlias = Callable[[Tensor], Tensor]
"""A function from token ids [batch, pos] to next-token distributions [batch, pos, V], each summing to 1."""


class TargetRows(Protocol):
    """Target distributions of some positions [n]."""

    def expect(self, values: Tensor) -> Tensor:
        """Return the expectation of values [n, V] under each row, [n]."""

    def subtract_from(self, values: Tensor) -> None:
        """Subtract the probabilities from values [n, V], in place."""

    def entropy(self) -> Tensor:
        """Return the entropy of each row, nats [n]."""


class MaskTarget(Protocol):
    """A distribution that a subnetwork is trained to predict.

    Attributes:
        d_vocab: V; logits of tokens from V on are cut off.
    """

    d_vocab: int

    def begin(self, ids: Tensor) -> Callable[[slice], TargetRows]:
        """Start a batch ids [batch, pos]; returns a function from a slice of sequences to rows [sequences * pos]."""


def cross_entropy(logits: Tensor, rows: TargetRows, d_vocab: int) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy [n] of logits [n, V or more] with target rows, nats, and its gradient by the logits."""
    log_q = logits[:, :d_vocab].float().log_softmax(dim=-1)
    losses = -rows.expect(log_q)
    gradient = log_q.exp_()
    rows.subtract_from(gradient)
    if d_vocab < logits.shape[1]:
        gradient = torch.nn.functional.pad(gradient, (0, logits.shape[1] - d_vocab))
    return losses, gradient.to(logits.dtype)


class BigramTarget:
    """The bigram row of the current token; with `unigram`, the backoff distribution at every position."""

    def __init__(self, bigrams: BigramModel, device: torch.device, *, unigram: bool = False) -> None:
        self.d_vocab = bigrams.d_vocab
        seen = bigrams.seen
        self._indptr = torch.from_numpy(seen.indptr.astype("int64") * (not unigram)).to(device)
        self._indices = torch.from_numpy(seen.indices[: 0 if unigram else None].astype("int64")).to(device)
        self._data = torch.from_numpy(seen.data[: 0 if unigram else None].astype("float32")).to(device)
        share = torch.from_numpy(bigrams.backoff).float() if not unigram else torch.ones(self.d_vocab)
        self._share = share.to(device)
        self._backoff = torch.from_numpy(bigrams.unigram_probs).float().to(device)
        p = torch.from_numpy(bigrams.unigram_probs)
        whole = torch.special.entr(p).sum()
        entropy = whole.expand(self.d_vocab) if unigram else bigrams.entropy()
        self._entropy = entropy.float().to(device)

    def begin(self, ids: Tensor) -> Callable[[slice], TargetRows]:
        """See `MaskTarget`."""
        if int(ids.max()) >= self.d_vocab:
            raise InputError(f"a text holds token {int(ids.max())}; give token ids below {self.d_vocab}, the target's.")
        return lambda sequences: _SparseRows(self, ids[sequences].flatten())


class _SparseRows:
    def __init__(self, target: BigramTarget, current: Tensor) -> None:
        self._target, self._current = target, current
        starts = target._indptr[current]
        counts = target._indptr[current + 1] - starts
        firsts = counts.cumsum(0) - counts
        self._row = torch.repeat_interleave(counts)
        place = torch.arange(len(self._row), device=current.device) + (starts - firsts)[self._row]
        self._flat = self._row * target.d_vocab + target._indices[place]
        self._p = target._data[place]
        self._share = target._share[current]
        self._backing = self._share.nonzero()[:, 0]

    def expect(self, values: Tensor) -> Tensor:
        products = values.reshape(-1)[self._flat] * self._p
        expected = values.new_zeros(len(values)).index_add_(0, self._row, products)
        if len(self._backing):
            expected[self._backing] += self._share[self._backing] * (values[self._backing] @ self._target._backoff)
        return expected

    def subtract_from(self, values: Tensor) -> None:
        values.view(-1).index_add_(0, self._flat, self._p, alpha=-1)
        if len(self._backing):
            values[self._backing] -= self._share[self._backing, None] * self._target._backoff

    def entropy(self) -> Tensor:
        return self._target._entropy[self._current]


class ModelTarget:
    """The full model's own next-token distribution at every position."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self.d_vocab = subject.d_vocab

    def begin(self, ids: Tensor) -> Callable[[slice], TargetRows]:
        """See `MaskTarget`; runs the full model once and reads out its residuals on demand."""

        def rest(tape: Any) -> tuple[Any, Tensor]:
            return tape.head, tape.last.detach()

        head, last = self._subject.run(ids, rest, graph=True)

        def rows(sequences: slice) -> TargetRows:
            with torch.no_grad():
                return _DenseRows(head(last[sequences].flatten(0, 1)).float().softmax(dim=-1))

        return rows


class GivenTarget:
    """Distributions returned by a user's function."""

    def __init__(self, function: Distributions, d_vocab: int) -> None:
        self._function = function
        self.d_vocab = d_vocab

    def begin(self, ids: Tensor) -> Callable[[slice], TargetRows]:
        """See `MaskTarget`."""

        def rows(sequences: slice) -> TargetRows:
            given = self._function(ids[sequences])
            wanted = (*ids[sequences].shape, self.d_vocab)
            if not isinstance(given, Tensor) or given.shape != wanted:
                shape = list(given.shape) if isinstance(given, Tensor) else type(given).__name__
                raise InputError(f"target returned {shape}; it must return probabilities {list(wanted)}.")
            given = given.to(ids.device).float().flatten(0, 1)
            if not bool(((given.sum(dim=1) - 1).abs() < 1e-3).all() and (given >= 0).all()):
                raise InputError("target returned rows with negative numbers or a sum other than 1; normalise them.")
            return _DenseRows(given)

        return rows


class _DenseRows:
    def __init__(self, probs: Tensor) -> None:
        self._probs = probs

    def expect(self, values: Tensor) -> Tensor:
        return torch.einsum("nv,nv->n", self._probs, values)

    def subtract_from(self, values: Tensor) -> None:
        values -= self._probs

    def entropy(self) -> Tensor:
        return torch.special.entr(self._probs).sum(dim=1)
