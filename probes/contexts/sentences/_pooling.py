"""Pool the states of a text into one vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from interp.authoring import InputError, Subject, Tokens, start_ids

Pooling: TypeAlias = Literal["mean", "last"]
"""The mean over a text's positions, or the state at its last one."""


def n_started(subject: Subject, tokens: Tokens) -> int:
    """Return how many tokens of the model's start stand before each text."""
    return len(start_ids(subject.tokenizer)) if tokens.bos else 0


def weights(first: int, stop: int, length: int, pooling: Pooling) -> Tensor:
    """Return the weights of positions, float32 [length], for the text at positions `first` to `stop`.

    A mean leaves out position 0, where attention rests whatever the text, unless there is no other.
    """
    found = torch.zeros(length)
    if pooling == "last":
        found[stop - 1] = 1.0
    else:
        begin = min(max(first, 1), stop - 1)
        found[begin:stop] = 1.0 / (stop - begin)
    return found


def first_tokens_of(lengths: Sequence[int], n_tokens: int | None) -> list[int]:
    """Return how many tokens of each text to pool.

    Raises:
        InputError: a text is shorter than asked for, or none is asked for.
    """
    if n_tokens is None:
        return list(lengths)
    if not 1 <= n_tokens <= min(lengths):
        raise InputError(f"n_tokens={n_tokens}: the shortest text has {min(lengths)} tokens; give 1 to that many.")
    return [n_tokens] * len(lengths)
