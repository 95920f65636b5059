"""Prompts that ask a model to say a token: built once, with the candidate's id put in, never tokenised again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from interp.authoring import InputError, Subject, start_ids, text_ids
from interp.tokenization.asking import many_ids

Prompt: TypeAlias = Literal["echo", "repeat"]
Shots: TypeAlias = Literal["fixed", "self"]

_HERE = -1  # where the candidate stands
_TIMES = 12  # a token repeated so often is repeated by models that know it
# Alike from the first position on, all states would be that of a first token, after which models repeat nothing.
_LEAD = "The word is: "
_INTRODUCTION = "This device repeats every input exactly.\n"
# Words and pieces, with a space and without: after words alone a model doubts that a piece is to be repeated.
_SHOTS = ("apple", " seven", "tion", " Paris", "under", "ness", " blue", "run")
_STAND_INS = ("apple", "river")  # texts that begin and end differently: what they share is not the candidate's


@dataclass(frozen=True)
class Template:
    """A prompt of a candidate.

    Attributes:
        prefix: what all candidates share, int64 [pos].
        tail: what follows, int64 [pos], with -1 where the candidate stands.
    """

    prefix: Tensor
    tail: Tensor

    def filled(self, ids: Tensor) -> Tensor:
        """Return the tail of each candidate: int64 [n, pos] for ids [n]."""
        return torch.where(self.tail == _HERE, ids[:, None], self.tail)


def template(subject: Subject, prompt: Prompt, shots: Shots) -> Template:
    """Return a prompt after which a model that knows the candidate says it.

    Args:
        subject: the model.
        prompt: "echo", a device that repeats its input, whose last line ends in an open quote, after eight shots, or
            four, two or one where the context is short; "repeat", the candidate itself twelve times, or as often as
            the context allows, after "The word is: " where the tokenizer reads it.
        shots: of "echo": "fixed" shows other words, one prefix for all candidates; "self" shows the candidate.

    Raises:
        InputError: the tokenizer cannot read the prompt, or the context cannot hold it.
    """
    start = start_ids(subject.tokenizer)
    if prompt == "repeat":
        (lead,) = many_ids([_LEAD], subject.tokenizer)
        before = [*start, *(lead or [])]
        before = before if len(before) + _TIMES <= subject.n_ctx else start
        times = min(_TIMES, subject.n_ctx - len(before))
        return Template(torch.tensor(before, dtype=torch.int64), torch.full((times,), _HERE))
    for n_shots in (8, 4, 2, 1):
        ids = [*start, *_echo(subject.tokenizer, shots, n_shots)]
        if len(ids) <= subject.n_ctx:
            break
    else:
        raise InputError(
            f"the prompt 'echo' has {len(ids)} tokens with one shot and {subject.name!r} a context of {subject.n_ctx}; "
            "pass prompts=['repeat']."
        )
    first = ids.index(_HERE)
    return Template(torch.tensor(ids[:first], dtype=torch.int64), torch.tensor(ids[first:], dtype=torch.int64))


def _echo(tokenizer: Any, shots: Shots, n_shots: int) -> list[int]:
    asked = 'Input: "'
    if shots == "fixed":
        shown = "".join(f'Input: "{word}" Output: "{word}"\n' for word in _SHOTS[:n_shots])
        return [*_before(tokenizer, _INTRODUCTION + shown + asked), _HERE, *_behind(tokenizer, asked, '" Output: "')]
    between, next_line = (_behind(tokenizer, asked, text) for text in ('" Output: "', '"\nInput: "'))
    shot = [_HERE, *between, _HERE, *next_line]
    return [*_before(tokenizer, _INTRODUCTION + asked), *shot * n_shots, _HERE, *between]


def _before(tokenizer: Any, text: str) -> list[int]:
    """Return the ids of a text that a candidate follows."""
    one, other = _read(tokenizer, [text + word for word in _STAND_INS])
    return _shared(one, other)


def _behind(tokenizer: Any, before: str, text: str) -> list[int]:
    """Return the ids of a text that follows a candidate."""
    one, other = _read(tokenizer, [before + word + text for word in _STAND_INS])
    return _shared(one[::-1], other[::-1])[::-1]


def _read(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    try:
        return text_ids(texts, tokenizer)
    except InputError as error:
        raise InputError(f"{str(error).rstrip('.')}, so that it cannot be asked by 'echo'; pass ['repeat'].") from error


def _shared(one: list[int], other: list[int]) -> list[int]:
    """Return the ids with which both lists begin."""
    n = next((n for n, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), 0)
    if not n:
        raise InputError("the model's tokenizer joins words and quotes, so that 'echo' cannot ask; pass ['repeat'].")
    return one[:n]
