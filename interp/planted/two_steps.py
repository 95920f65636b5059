"""`two_step`: the second block reads the output of the first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from interp.errors import InputError
from interp.planted._build import Planted, empty_model
from interp.planted._truth import Layout, every_layer, interleave, one_hot

# The predicted token minus the current one, for each order in which the planted blocks can run.
_DISTANCE = {(0, 1): 2, (1, 0): 1, (1,): 1, (0,): 0, (): 0}


@dataclass(frozen=True)
class TwoStepTruth:
    """The answers of `two_step`.

    At a position with token w the logits are e_w + a · e_(w + d), ids modulo V, where d depends on the blocks that ran:

    - both, in order: d = 2;
    - first deleted, or the two swapped: d = 1, because the second block finds no flag and steps from w itself;
    - second deleted: the logits are e_w alone, because nothing reads the flag.

    Attributes:
        layout: the planted blocks (first, second) and the noise blocks.
        vocab: number of tokens V.
        a: logit given to the prediction.
    """

    layout: Layout
    vocab: int
    a: float

    def answer(self, ids: Tensor, schedule: Sequence[int] | None = None) -> Tensor:
        """Return the predicted token id at each position, [..., pos], when the blocks in `schedule` run."""
        distance = _DISTANCE[self.layout.steps(schedule)]
        return (ids.detach().cpu().long() + distance) % self.vocab

    def logits(self, ids: Tensor, schedule: Sequence[int] | None = None) -> Tensor:
        """Return final logits [..., pos, V] for ids [..., pos] under a schedule of blocks (None: all, in order)."""
        current = one_hot(ids, self.vocab)
        if 1 not in self.layout.steps(schedule):
            return current
        return current + self.a * one_hot(self.answer(ids, schedule), self.vocab)

    def lens(self, ids: Tensor) -> Tensor:
        """Return the logit-lens logits at layers 0..L, [L + 1, ..., pos, V]."""
        return every_layer(lambda schedule: self.logits(ids, schedule), self.layout.n_layers)


def two_step(
    vocab: int = 12,
    a: float = 6.0,
    *,
    noise_blocks: int = 0,
    seed: int = 0,
    n_ctx: int = 64,
    device: str | torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Planted[TwoStepTruth]:
    """Build a model that predicts the second token after the current one, one step in each of two MLPs.

    On token w the first block sets the flag of token w + 1, in dimensions V..2V-1, which the unembedding does not read.
    The second block predicts the token after the flagged one or, without a flag, the token after w. `TwoStepTruth`
    lists the effects of deleting or swapping the two blocks.

    Args:
        vocab: tokens V, at least 3, so that w, w + 1 and w + 2 differ.
        a: logit given to the prediction; above 1, the logit of the current token.
        noise_blocks: blocks of random weights, after and between the planted ones, that change no logit.
        seed: of the noise.
        n_ctx: longest input, in tokens.
        device: of the model; None is the CPU.
        dtype: of the model.

    Raises:
        InputError: a size is below its minimum, or `a` is not a finite number above 1.

    >>> planted = two_step(vocab=5)
    >>> ids = torch.tensor([[0, 4]])
    >>> planted.model(ids).argmax(dim=-1).tolist()
    [[2, 1]]
    >>> first, second = planted.truth.layout.planted
    >>> planted.truth.answer(ids, schedule=(second, first)).tolist()  # swapped
    [[1, 0]]
    """
    if vocab < 3:
        raise InputError(f"vocab is {vocab}; give at least 3 tokens, so that w, w + 1 and w + 2 differ.")
    if not (math.isfinite(a) and a > 1):
        raise InputError(f"a is {a}; give a finite number above 1, the logit of the current token.")
    layout = interleave(2, noise_blocks)
    model, weights = empty_model("two_step", layout, vocab, width=2, seed=seed, n_ctx=n_ctx, device=device, dtype=dtype)
    first, second = (weights.blocks[block] for block in layout.planted)
    token, flag = slice(0, vocab), slice(vocab, 2 * vocab)
    step = torch.eye(vocab).roll(1, dims=0).to(weights.head)  # [to, from]: column w is e_(w + 1)
    # First block: neuron w is on for token w and sets flag w + 1.
    first.fc_in.weight[token, token].fill_diagonal_(1.0)
    first.fc_out.weight[flag, token] = step
    # Second block: neuron w is on for flag w, neuron V + w for token w unless a flag is set.
    second.fc_in.weight[token, flag].fill_diagonal_(1.0)
    second.fc_in.weight[flag, token].fill_diagonal_(1.0)
    second.fc_in.weight[flag, flag] = -1.0
    second.fc_out.weight[token, token] = a * step
    second.fc_out.weight[token, flag] = a * step
    return Planted(model, model.tokenizer, TwoStepTruth(layout, vocab, float(a)))
