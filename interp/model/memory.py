"""Estimate the memory of forward passes, so that batches fit the budget."""

from __future__ import annotations

from typing import Protocol

import torch

from interp.options import options

MOST_TOKENS_AT_ONCE = 4096
"""Tokens of a block's batch beyond which it is not faster, while its activations grow."""
_LONG = 2048  # attention over longer contexts is assumed to be computed piece by piece


class Sizes(Protocol):
    """A model's shape, which decides the memory of its passes; a `Subject` is one."""

    n_layers: int
    n_heads: int
    d_model: int
    d_mlp: int
    n_ctx: int

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the model's weights."""


def batch_tokens(subject: Sizes, states_per_layer: float = 1) -> int:
    """Return how many padded tokens fit half the memory budget: recorded residuals and one block's activations."""
    recorded = subject.n_layers * states_per_layer + 2
    return _fitting(subject, recorded + _working(subject, subject.n_ctx))


def block_tokens(subject: Sizes, width: int) -> int:
    """Return how many tokens, in rows of `width`, one block can run on at once within half the memory budget."""
    return min(_fitting(subject, _working(subject, width)), MOST_TOKENS_AT_ONCE)


def _working(subject: Sizes, width: int) -> float:
    """Return the size of a block's activations per token, in residuals: attention's, the MLP's, and their patterns'."""
    return 8 + 4 * subject.d_mlp / subject.d_model + 2 * subject.n_heads * min(width, _LONG) / subject.d_model


def _fitting(subject: Sizes, n_residuals: float) -> int:
    bytes_per_token = n_residuals * subject.d_model * torch.finfo(subject.dtype).bits // 8
    return max(1, int(options.available // 2 / bytes_per_token))
