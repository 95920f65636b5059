"""What ReAGent and its least-squares twin share: prompts made into cases, and a model made into a reader of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from interp.errors import InputError
from interp.subject import Subject
from interp.tokens import whole_numbers
from probes._attribution import Targets
from probes._ends import log_prob_and_rank, read_ends
from probes._recursion import Case, Read
from probes._replacements import OwnSampler, Replacements, replacements


def cases_of(subject: Subject, targets: Targets, sampler: Any, *, protect_bos: bool) -> tuple[list[Case], np.ndarray]:
    """The targets as cases, and the rank of each target after its intact prompt, int64 [T]."""
    contexts = targets.contexts.ids
    tables: Sequence[Replacements | OwnSampler]
    if callable(sampler) and not hasattr(sampler, "table"):
        tables = [_checked(sampler, subject)] * len(contexts)
    else:
        tables = replacements(sampler, subject, contexts)
    ids = torch.nn.utils.rnn.pad_sequence(contexts, batch_first=True)
    intact = read_ends(subject, ids, targets.pos + 1, log_prob_and_rank(targets.ids)).double().numpy()
    frees = [free_positions(subject, one.numpy(), protect_bos=protect_bos) for one in contexts]
    cases = [
        Case(one.numpy(), free, table, float(prob))
        for one, free, table, prob in zip(contexts, frees, tables, np.exp(intact[:, 0]), strict=True)
    ]
    return cases, intact[:, 1].astype(np.int64)


def reader_of(subject: Subject, targets: Targets) -> Read:
    """How to read the probability and rank of a case's target after tokens put in place of its own."""
    lengths = targets.pos + 1

    def read(ids: np.ndarray, case: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        which = torch.from_numpy(case)
        reduce = log_prob_and_rank(targets.ids[which])
        log_prob, rank = read_ends(subject, torch.from_numpy(ids), lengths[which], reduce).double().numpy().T
        return np.exp(log_prob), rank

    return read


def free_positions(subject: Subject, ids: np.ndarray, *, protect_bos: bool) -> np.ndarray:
    """Which positions may be replaced, bool [pos]: all, or all but a start-of-text token at position 0."""
    free = np.ones(len(ids), dtype=bool)
    bos = getattr(subject.tokenizer, "bos_token_id", None)
    free[0] = not (protect_bos and bos is not None and ids[0] == bos)
    return free


def check_counts(**counts: int) -> None:
    """Raise InputError where a count is no whole number of at least 1."""
    for name, count in counts.items():
        if whole_numbers(count, name)[0] < 1:
            raise InputError(f"{name}={count}; give at least 1.")


def check_seed(seed: int) -> None:
    """Raise InputError where a seed is negative."""
    if whole_numbers(seed, "seed")[0] < 0:
        raise InputError(f"seed={seed}; give 0 or more.")


def _checked(sampler: OwnSampler, subject: Subject) -> OwnSampler:
    def draw(ids: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        drawn = np.asarray(sampler(ids, generator))
        if drawn.shape != ids.shape or not np.issubdtype(drawn.dtype, np.integer):
            raise InputError(f"the sampler returned {drawn.dtype} {list(drawn.shape)} for {len(ids)} token ids.")
        if drawn.min() < 0 or drawn.max() >= subject.d_vocab:
            raise InputError(f"the sampler returned an id outside the vocabulary of {subject.d_vocab}.")
        return drawn

    return draw


def sampler_name(sampler: Any) -> str:
    """What provenance says of a sampler."""
    return sampler if isinstance(sampler, str) else str(getattr(sampler, "__name__", type(sampler).__name__))


def spread(values: Sequence[float], targets: Targets) -> list[np.ndarray]:
    """One value per target as one per token read, for a column."""
    return [np.full(int(pos) + 1, value) for value, pos in zip(values, targets.pos, strict=True)]
