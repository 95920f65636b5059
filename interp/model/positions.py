"""Selection of positions in a batch, and checks of the numbers a user gives."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from interp.checks import checked
from interp.errors import InputError, TooLong
from interp.model.tokens import Batch, Tokens

_LISTED = 12  # tokens that an error message names

Layers: TypeAlias = Literal["all"] | int | Sequence[int] | None
"""Layers as users give them: one, several, "all"; negative ones count from the last, as positions do."""

Positions: TypeAlias = int | str | Sequence[int | str] | None
"""Positions as users give them, one or several: numbers from 0, negative ones from each prompt's end, and strings of
tokens, which mean every place where a prompt has that token; None and "all" mean all."""


@dataclass(frozen=True)
class ChosenPositions:
    """The positions that were asked for, prompt by prompt; made by `positions_of`.

    Attributes:
        by_prompt: ascending and without duplicates, int64 [n] for each prompt of the `Tokens`.
        reaches_an_end: True if the last position of a prompt is among them.
    """

    by_prompt: Sequence[Tensor]
    reaches_an_end: bool

    def __len__(self) -> int:
        return sum(map(len, self.by_prompt))


@checked
def positions_of(subject: Any, tokens: Tokens, positions: Positions, what: str = "positions") -> ChosenPositions | None:
    """Return the positions that are meant in each prompt, for `select_positions`; None means all of them.

    A probe calls this before it computes anything.

    Args:
        subject: a `Subject`, which knows how its tokens read.
        tokens: of the prompts.
        positions: as a user gave them.
        what: the argument's name, for the error message.

    Raises:
        InputError: a position is outside a prompt, a prompt does not hold a token, or the list is empty.

    >>> from interp import load
    >>> subject = load("reference")
    >>> tokens = subject.tokens(["Once upon a time a", "Once upon a"])
    >>> [one.tolist() for one in positions_of(subject, tokens, [" a", -1]).by_prompt]
    [[3, 5], [3]]
    """
    if positions is None or (isinstance(positions, str) and positions == "all"):
        return None
    given = [positions] if isinstance(positions, str) or not isinstance(positions, Iterable) else list(positions)
    strings = [one for one in given if isinstance(one, str)]
    by_prompt = []
    for number, ids in zip(tokens.table["prompt_id"], tokens.ids, strict=True):
        known = dict(enumerate(subject.token_strings[ids.numpy()])) if strings else {}
        numbers = whole_numbers(numbered(given, known, f"prompt {number}"), what)
        check_positions(numbers, len(ids))
        by_prompt.append(torch.tensor(sorted({one % len(ids) for one in numbers})))
    ends = any(int(chosen[-1]) == len(ids) - 1 for chosen, ids in zip(by_prompt, tokens.ids, strict=True))
    return ChosenPositions(by_prompt, ends)


def numbered(positions: Iterable[int | str], tokens: Mapping[int, str], holder: str) -> list[int]:
    """Return positions with the strings of tokens replaced by the places where they stand.

    Args:
        positions: numbers, which are kept, and strings.
        tokens: the token at each position.
        holder: what holds them, such as "prompt 3", for the error message.

    Raises:
        InputError: a token is not there.

    >>> numbered([-1, " a"], {0: "Once", 1: " upon", 2: " a", 3: " time", 4: " a"}, "prompt 0")
    [-1, 2, 4]
    """
    found: list[int] = []
    for one in positions:
        places = [pos for pos, token in tokens.items() if token == one] if isinstance(one, str) else [one]
        if not places:
            raise InputError(f"{holder} has no token {one!r}; {_what_is_there(str(one), list(tokens.values()))}")
        found += places
    return found


def _what_is_there(string: str, tokens: list[str]) -> str:
    """Return how to give a token that is there: as the pieces of the string, else the nearest, else the first ones."""
    begins = "".join(tokens).find(string) if string else -1
    ends = list(accumulate(map(len, tokens)))
    pieces = [
        token
        for token, end in zip(tokens, ends, strict=True)
        if begins >= 0 and end > begins and end - len(token) < begins + len(string)
    ]
    if pieces:
        return f"{string!r} is within {_quoted(pieces)} there: give one of these."
    near = difflib.get_close_matches(string, list(dict.fromkeys(tokens)), n=3, cutoff=0.75)
    if near:
        return f"did you mean {_quoted(near)}?"
    distinct = list(dict.fromkeys(tokens))
    more = f" and {len(distinct) - _LISTED} others" if len(distinct) > _LISTED else ""
    return f"it has {_quoted(distinct[:_LISTED])}{more}; give one of these."


def _quoted(tokens: Sequence[str]) -> str:
    return ", ".join(map(repr, tokens))


def select_positions(batch: Batch, positions: int | Sequence[int] | ChosenPositions | None) -> tuple[Tensor, Tensor]:
    """Return rows and columns of `batch.ids`: all real tokens, or the given positions of every prompt; -1 is the last.

    Args:
        batch: of the prompts.
        positions: None, numbers that mean the same in every prompt, or the result of `positions_of`.

    Returns:
        (row, pos), int64 [n] each, prompt by prompt, positions ascending and without duplicates.

    Raises:
        InputError: `positions` is empty, or a prompt is too short for one of them.
    """
    real = torch.arange(batch.ids.shape[1]) < batch.lengths[:, None]
    if isinstance(positions, ChosenPositions):
        real = torch.zeros_like(real)
        for place, prompt in enumerate(batch.prompts.tolist()):
            real[place, positions.by_prompt[prompt]] = True
    elif positions is not None:
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
