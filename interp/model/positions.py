"""Selection of positions in a batch, and checks of the numbers a user gives."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from interp.checks import checked
from interp.errors import InputError, TooLong
from interp.model.tokens import Batch, Tokens

Layers: TypeAlias = Literal["all"] | int | Sequence[int] | None
"""Layers as users give them: one, several, "all"; negative ones count from the last, as positions do."""


def select_positions(batch: Batch, positions: int | Sequence[int] | None) -> tuple[Tensor, Tensor]:
    """Return rows and columns of `batch.ids`: all real tokens, or the given positions of every prompt; -1 is the last.

    Returns:
        (row, pos), int64 [n] each, prompt by prompt, positions ascending and without duplicates.

    Raises:
        InputError: `positions` is empty, or a prompt is too short for one of them.
    """
    real = torch.arange(batch.ids.shape[1]) < batch.lengths[:, None]
    if positions is not None:
        wanted = torch.tensor(whole_numbers(positions, "positions"))
        check_positions(wanted.tolist(), int(batch.lengths.min()))
        pos = torch.where(wanted < 0, batch.lengths[:, None] + wanted, wanted)
        real = torch.zeros_like(real).scatter_(1, pos, True)
    row, pos = real.nonzero(as_tuple=True)
    return row, pos


@checked
def layers_of(layers: Layers, last: int, model: str) -> list[int]:
    """Return the layers that are meant, ascending and each once; None and "all" mean all, -1 the last.

    Args:
        layers: as a user gave them.
        last: the last layer there is: L of residuals, L - 1 of blocks.
        model: its name, for the error message.

    Raises:
        InputError: there is no such layer, or the list is empty.

    >>> layers_of([0, -1], 8, "a model"), layers_of("all", 2, "a model")
    ([0, 8], [0, 1, 2])
    """
    if layers is None or isinstance(layers, str):
        return list(range(last + 1))
    found = set()
    for layer in whole_numbers(layers, "layers"):
        if not -last - 1 <= layer <= last:
            raise InputError(f"layer {layer} is not in {model!r}: layers run from 0 to {last} here, or back from -1.")
        found.add(layer % (last + 1))
    return sorted(found)


@checked
def next_tokens(batch: Batch, row: Tensor, pos: Tensor) -> Tensor:
    """Return the token after each position, int64 [n, 1]; -1 at a prompt's last position, which has none."""
    following = batch.ids[row, (pos + 1).clamp(max=batch.ids.shape[1] - 1)]
    return torch.where(pos + 1 < batch.lengths[row], following, -1)[:, None]


@checked
def followed(batch: Batch) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Return the rows and positions [n] that are followed by a token, and that token [n]."""
    row, pos = select_positions(batch, None)
    following = next_tokens(batch, row, pos)[:, 0]
    known = following >= 0
    return (row[known], pos[known]), following[known]


@checked
def require_two_tokens(tokens: Tokens) -> None:
    """Refuse a prompt of a single token, which has nothing before its position 0 and no next token.

    Raises:
        InputError: there is one.
    """
    for number, ids in zip(tokens.table["prompt_id"], tokens.ids, strict=True):
        if len(ids) < 2:
            raise InputError(f"prompt {number} has a single token; give it two or more.")


def check_positions(positions: int | Sequence[int] | None, shortest: int) -> None:
    """Raise InputError if a position is outside the shortest prompt; probes check this before they compute anything."""
    for position in () if positions is None else whole_numbers(positions, "positions"):
        if not -shortest <= position < shortest:
            raise InputError(
                f"position {position} is outside a prompt of {shortest} tokens; "
                f"positions run from {-shortest} to {shortest - 1} there."
            )


def check_ids(ids: Tensor, *, d_vocab: int, n_ctx: int) -> None:
    """Refuse token ids that a model would read out of bounds, or as something else than token ids.

    Raises:
        InputError: they are not whole numbers [batch, pos], or outside the vocabulary.
        TooLong: they are longer than the context.
    """
    if ids.ndim != 2 or ids.numel() == 0 or ids.dtype not in (torch.int64, torch.int32):
        raise InputError(f"token ids are {ids.dtype} {list(ids.shape)}: give int64 [batch, pos].")
    if ids.shape[1] > n_ctx:
        raise TooLong(f"the ids have {ids.shape[1]} positions, more than the context of {n_ctx}; shorten them.")
    least, largest = int(ids.min()), int(ids.max())
    if least < 0 or largest >= d_vocab:
        raise InputError(f"token ids run from {least} to {largest}; the vocabulary has {d_vocab}.")


def check_ends(ends: Tensor, ids: Tensor) -> None:
    """Raise InputError if `ends` is not one position of each row of ids [batch, pos]."""
    if ends.shape != ids.shape[:1] or ends.dtype not in (torch.int64, torch.int32):
        raise InputError(f"ends are {ends.dtype} {list(ends.shape)}: give int64 [{len(ids)}], one for each row of ids.")
    if int(ends.min()) < 0 or int(ends.max()) >= ids.shape[1]:
        raise InputError(
            f"ends run from {int(ends.min())} to {int(ends.max())}; the positions of ids from 0 to {ids.shape[1] - 1}."
        )


def whole_numbers(given: int | Iterable[int], what: str) -> list[int]:
    """Return one whole number or several as a list.

    >>> whole_numbers(3, "positions"), whole_numbers(range(2), "positions")
    ([3], [0, 1])

    Raises:
        InputError: there are none, or one is not a whole number.
    """
    try:
        several = [operator.index(one) for one in (given if isinstance(given, Iterable) else [given])]
    except TypeError:
        raise InputError(f"{what} are whole numbers, not {given!r}.") from None
    if not several:
        raise InputError(f"{what} is empty; name at least one, or pass None for all.")
    return several
