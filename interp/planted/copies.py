"""`copying`: uniform attention adds up all tokens so far, so the logits count them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from interp.errors import InputError
from interp.planted._build import Planted, empty_model
from interp.planted._truth import Layout, every_layer, interleave, one_hot


@dataclass(frozen=True)
class CopyTruth:
    """The answers of `copying`.

    At position n with token w, after the planted block, the logit of token v is 1[v = w] + a · (count of v at positions
    0..n) / (n + 1). Before it, or without it, the logit is 1[v = w].

    Attributes:
        layout: the planted block and the noise blocks.
        vocab: number of tokens V.
        a: logit given to a token that fills the whole prefix.
    """

    layout: Layout
    vocab: int
    a: float

    def shares(self, ids: Tensor) -> Tensor:
        """Return the share of positions 0..n (n included) with each token, [..., pos, V]; each row sums to 1."""
        counts = one_hot(ids, self.vocab).cumsum(dim=-2)
        return counts / torch.arange(1, ids.shape[-1] + 1, dtype=counts.dtype)[:, None]

    def logits(self, ids: Tensor, schedule: Sequence[int] | None = None) -> Tensor:
        """Return final logits [..., pos, V] for ids [..., pos] under a schedule of blocks (None: all, in order)."""
        current = one_hot(ids, self.vocab)
        return current + self.a * self.shares(ids) if self.layout.steps(schedule) else current

    def lens(self, ids: Tensor) -> Tensor:
        """Return the logit-lens logits at layers 0..L, [L + 1, ..., pos, V]."""
        return every_layer(lambda schedule: self.logits(ids, schedule), self.layout.n_layers)


def copying(
    vocab: int = 12,
    a: float = 1.0,
    *,
    noise_blocks: int = 0,
    seed: int = 0,
    n_ctx: int = 64,
    device: str | torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Planted[CopyTruth]:
    """Build a model with one attention block that copies all positions so far equally.

    Queries and keys are zero, so the pattern is 1 / (n + 1) on positions 0..n; values are the one-hot tokens and
    the output writes them into the logits, times `a`.

    Args:
        vocab: tokens V, at least 2.
        a: logit given to a token that fills the whole prefix.
        noise_blocks: blocks of random weights, after the planted one, that change no logit.
        seed: of the noise.
        n_ctx: longest input, in tokens.
        device: of the model; None is the CPU.
        dtype: of the model.

    Raises:
        InputError: a size is below its minimum, or `a` is not finite.

    >>> planted = copying(vocab=3)
    >>> ids = planted.tokenizer("w0 w0 w2 w0", return_tensors="pt")["input_ids"]
    >>> planted.truth.logits(ids)[0, -1].tolist()  # 1 for the current token, and counts over 4
    [1.75, 0.0, 0.25]
    >>> bool(torch.allclose(planted.model(ids).double(), planted.truth.logits(ids)))
    True
    """
    if not math.isfinite(a):
        raise InputError(f"a is {a}; give a finite number of logits.")
    layout = interleave(1, noise_blocks)
    model, weights = empty_model("copying", layout, vocab, seed=seed, n_ctx=n_ctx, device=device, dtype=dtype)
    block = weights.blocks[layout.planted[0]]
    block.v.weight[:vocab, :vocab].fill_diagonal_(1.0)
    block.o.weight[:vocab, :vocab].fill_diagonal_(a)
    return Planted(model, model.tokenizer, CopyTruth(layout, vocab, float(a)))
