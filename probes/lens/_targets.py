"""The tokens that the logit lens scores: the next one, the model's own, or some that are named."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.authoring import InputError, Subject, single_token, whole_numbers

Targets: TypeAlias = str | int | Sequence[str | int] | Sequence[Sequence[str | int]]
"""Tokens to score: "next", "argmax", a token as text, an id, or a list of tokens and ids (one row each); or a list of
such lists, one for each prompt."""


def chosen_targets(targets: Targets, subject: Subject, table: pd.DataFrame) -> Tensor | str | None:
    """Return the ids of the targets, [1, t], or [n_prompts, t] if each prompt has its own; or "argmax".

    None stands for "next", which differs from batch to batch.

    Args:
        targets: as the user gives them.
        subject: the model.
        table: one row per prompt, with the user's own columns.
    """
    if isinstance(targets, str) and targets in ("next", "argmax"):
        return None if targets == "next" else "argmax"
    n_prompts = len(table)
    if isinstance(targets, str) and targets in set(table.columns) - {"prompt_id", "text", "messages"}:
        raise InputError(
            f"targets={targets!r} is a column of your texts: give each prompt its own as "
            f"[[one] for one in texts[{targets!r}]], or the token {targets!r} by its id."
        )
    if isinstance(targets, Tensor | np.ndarray):
        targets = targets.tolist()
    given: Any = targets
    several = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    if not several:
        raise InputError("targets is empty; name at least one token, 'next' or 'argmax'.")
    if not all(isinstance(one, Iterable) and not isinstance(one, str) for one in several):
        ids_of_all = _target_ids(several, subject)
        twice = next((one for one, index in zip(several, ids_of_all, strict=True) if ids_of_all.count(index) > 1), None)
        if twice is not None and len(several) == n_prompts:
            raise InputError(
                f"targets names {twice!r} twice, but a list is scored in every prompt; give each prompt its own as "
                f"[[{several[0]!r}], [{several[1]!r}], …]."
            )
        return torch.tensor([list(dict.fromkeys(ids_of_all))])
    if len(several) != n_prompts:
        raise InputError(f"targets holds {len(several)} lists for {n_prompts} prompts; give one list for each prompt.")
    ids = [list(dict.fromkeys(_target_ids(one, subject))) for one in several]
    sizes = sorted(set(map(len, ids)))
    if len(sizes) > 1 or not sizes[0]:
        raise InputError(f"targets gives prompts {sizes} tokens; give each prompt the same number, at least one.")
    return torch.tensor(ids)


def _target_ids(several: Iterable[str | int], subject: Subject) -> list[int]:
    """Return the ids of tokens given as texts or ids."""
    ids = [
        single_token(one, subject.tokenizer) if isinstance(one, str) else whole_numbers(one, "target ids")[0]
        for one in several
    ]
    for one, index in zip(several, ids, strict=True):
        if not 0 <= index < subject.d_vocab:
            name = f"target {one!r} (id {index})" if isinstance(one, str) else f"target id {index}"
            last = subject.d_vocab - 1
            raise InputError(f"{name} is outside the vocabulary of {last + 1}; ids run from 0 to {last}.")
    return ids
