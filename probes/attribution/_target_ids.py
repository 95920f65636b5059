"""The tokens to explain, from what a user gives: texts, ids, or the model's own argmax."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import TypeAlias

import numpy as np
from torch import Tensor

from interp.authoring import InputError, Subject, single_token

Target: TypeAlias = str | int | Sequence[str | int | Sequence[str | int]]
"""The token to explain: "argmax" (the model's own), a token as text, an id, or one (or a list) of these per prompt."""

Against: TypeAlias = str | int | Sequence[str | int | Sequence[str | int]] | None
"""The token to contrast a target with: "runner_up" (the model's likeliest but the target), a token as text, an id, or
one per prompt, or for each prompt a list with one for each of its targets; None for no contrast."""


def chosen_ids(subject: Subject, n_prompts: int, target: Target) -> list[list[int]]:
    """Return the target ids of every prompt; [-1] for the argmax."""
    if isinstance(target, str | Integral):
        argmax = isinstance(target, str) and target == "argmax"
        return [[-1] if argmax else [_token_id(subject, target)]] * n_prompts
    if isinstance(target, Tensor | np.ndarray):
        target = target.tolist()
    if not isinstance(target, Iterable):
        raise InputError(f"target={target!r}; give 'argmax', a token as text, an id, or one of these per prompt.")
    per_prompt = list(target)
    if len(per_prompt) != n_prompts:
        raise InputError(
            f"target lists {len(per_prompt)} entries for {n_prompts} prompts; give one per prompt: a token, or a list "
            "of tokens."
        )
    several = [list(one) if isinstance(one, Iterable) and not isinstance(one, str) else [one] for one in per_prompt]
    if not all(several):
        raise InputError(f"target is empty for prompt {several.index([])}; give at least one token.")
    return [list(dict.fromkeys(_token_id(subject, one) for one in tokens)) for tokens in several]


def against_ids(subject: Subject, n_targets: Sequence[int], against: Against) -> list[list[int]] | None:
    """Return the tokens that targets are contrasted with, prompt by prompt; -1 for the runner-up, None for no contrast.

    Args:
        subject: the model.
        n_targets: of each prompt.
        against: as a user gave it.
    """
    if against is None:
        return None
    if isinstance(against, str | int | Integral):
        return [[_against_id(subject, against)] * n for n in n_targets]
    if isinstance(against, Tensor | np.ndarray):
        against = against.tolist()
    per_prompt = list(against)
    if len(per_prompt) != len(n_targets):
        raise InputError(
            f"against lists {len(per_prompt)} entries for {len(n_targets)} prompts; give one, or one per prompt."
        )
    found = []
    for index, (one, n) in enumerate(zip(per_prompt, n_targets, strict=True)):
        several = [one] * n if isinstance(one, str | int | Integral) else list(one)
        if len(several) != n:
            raise InputError(
                f"against lists {len(several)} tokens for the {n} target{'s' * (n != 1)} of prompt {index}; give one, "
                "or one for each."
            )
        found.append([_against_id(subject, token) for token in several])
    return found


def _against_id(subject: Subject, token: object) -> int:
    return -1 if isinstance(token, str) and token == "runner_up" else _token_id(subject, token, "against")


def _token_id(subject: Subject, token: object, what: str = "target") -> int:
    if not isinstance(token, str | Integral):
        raise InputError(f"{what} {token!r} is not a token; give it as text or as an integer id.")
    index = single_token(token, subject.tokenizer) if isinstance(token, str) else int(token)
    if not 0 <= index < subject.d_vocab:
        name = f"{what} {token!r} (id {index})" if isinstance(token, str) else f"{what} id {index}"
        raise InputError(f"{name} is outside the vocabulary of {subject.d_vocab}; choose another.")
    return index
