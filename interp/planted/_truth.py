"""Helpers for the truths of all planted models: the layout of blocks, and one-hot vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from interp.errors import InputError


@dataclass(frozen=True)
class Layout:
    """A model's planted and noise blocks.

    Attributes:
        planted: block index of each planted step, in the order of the steps.
        noise: indices of the noise blocks, which never change a logit.
    """

    planted: tuple[int, ...]
    noise: tuple[int, ...]

    @property
    def n_layers(self) -> int:
        """Number of blocks, planted and noise together."""
        return len(self.planted) + len(self.noise)

    def steps(self, schedule: Sequence[int] | None) -> tuple[int, ...]:
        """Return the planted steps (0-based) that run under a schedule of blocks, in its order (None: all, in order).

        >>> Layout(planted=(0, 2), noise=(1,)).steps((2, 1, 0))
        (1, 0)

        Raises:
            InputError: the schedule names a block that does not exist, or a block twice.
        """
        blocks = range(self.n_layers) if schedule is None else schedule
        for block in blocks:
            if not 0 <= block < self.n_layers:
                raise InputError(f"the schedule names block {block}; the model has blocks 0 to {self.n_layers - 1}.")
        if len(set(blocks)) < len(blocks):
            raise InputError(f"the schedule {tuple(blocks)} names a block twice; name each at most once.")
        return tuple(self.planted.index(block) for block in blocks if block in self.planted)


def interleave(n_planted: int, n_noise: int) -> Layout:
    """Put `n_noise` noise blocks after the planted ones, in turn: one after each, then a second after each.

    >>> interleave(2, 3)
    Layout(planted=(0, 3), noise=(1, 2, 4))

    Raises:
        InputError: `n_planted` is below 1 or `n_noise` is negative.
    """
    if n_planted < 1:
        raise InputError(f"n_layers is {n_planted}; give at least 1.")
    if n_noise < 0:
        raise InputError(f"noise_blocks is {n_noise}; give 0 or more.")
    followers = [len(range(step, n_noise, n_planted)) for step in range(n_planted)]
    is_planted = list(chain.from_iterable([True] + [False] * k for k in followers))
    return Layout(
        planted=tuple(i for i, planted in enumerate(is_planted) if planted),
        noise=tuple(i for i, planted in enumerate(is_planted) if not planted),
    )


def one_hot(ids: Tensor, vocab: int) -> Tensor:
    """Return the one-hot vectors of ids [..., pos], float64 [..., pos, V] on the CPU.

    Raises:
        InputError: an id is outside the vocabulary.
    """
    ids = ids.detach().cpu().long()
    outside = ids[(ids < 0) | (ids >= vocab)]
    if len(outside):
        raise InputError(f"token id {int(outside[0])} is outside the vocabulary; give ids 0 to {vocab - 1}.")
    return torch.nn.functional.one_hot(ids, vocab).double()


def every_layer(logits: Callable[[Sequence[int]], Tensor], n_layers: int) -> Tensor:
    """Stack the logits after the first 0, 1, ..., L blocks: the logit lens at layers 0..L, [L + 1, ..., pos, V]."""
    return torch.stack([logits(range(layer)) for layer in range(n_layers + 1)])
