"""The input of ReAGent and of its least-squares variant: targets as cases, and the model as a function of token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.authoring import InputError, Subject, Usable
from probes.attribution._checks import free_positions
from probes.attribution._last_position import log_prob_and_rank, read_last
from probes.attribution._replacements import OwnSampler, Replacements, replacements
from probes.attribution._targets import Targets
from probes.attribution.reagent._recursion import Case, Read


@dataclass(frozen=True, eq=False)
class Cases:
    """The targets to explain.

    Attributes:
        all: one per target.
        ranks: of each target after its intact prompt, int64 [T].
        seconds: of a pass of all the intact prompts.
    """

    all: list[Case]
    ranks: np.ndarray
    seconds: float

    def cost(self, passes: float) -> str:
        """Return what as many passes of every target will take: minutes, or nothing if that is less than one."""
        minutes = self.seconds * passes / 60
        return f"about {minutes:,.0f} minutes" if minutes >= 1 else ""


def cases_of(subject: Subject, targets: Targets, sampler: Any, *, protect_bos: bool, usable: Usable = None) -> Cases:
    """Return the targets as cases."""
    contexts = targets.contexts.ids
    tables: Sequence[Replacements | OwnSampler]
    if callable(sampler) and not hasattr(sampler, "table"):
        tables = [_checked(sampler, subject)] * len(contexts)
    else:
        tables = replacements(sampler, subject, contexts, usable)
    ids = torch.nn.utils.rnn.pad_sequence(contexts, batch_first=True)
    start = perf_counter()  # the model was verified when the targets were found
    intact = read_last(subject, ids, targets.pos + 1, log_prob_and_rank(targets.ids)).double().numpy()
    seconds = perf_counter() - start
    frees = [free_positions(subject, one.numpy(), protect_bos=protect_bos) for one in contexts]
    cases = [
        Case(one.numpy(), free, table, float(prob))
        for one, free, table, prob in zip(contexts, frees, tables, np.exp(intact[:, 0]), strict=True)
    ]
    return Cases(cases, intact[:, 1].astype(np.int64), seconds)


def reader_of(subject: Subject, targets: Targets) -> Read:
    """Return a function that reads the probability and rank of a case's target after replaced tokens.

    Of a contrast, the probability is that of the target minus that of the other token.
    """
    lengths = targets.pos + 1
    others = targets.against

    def read(ids: np.ndarray, case: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        which = torch.from_numpy(case)
        reducers = [log_prob_and_rank(of[which]) for of in (targets.ids, others) if of is not None]

        def reduce(logits: Tensor, rows: Tensor) -> Tensor:
            return torch.cat([one(logits, rows) for one in reducers], dim=1)

        read = read_last(subject, torch.from_numpy(ids), lengths[which], reduce).double().numpy().T
        prob = np.exp(read[0]) - (np.exp(read[2]) if others is not None else 0.0)
        return prob, read[1]

    return read


def _checked(sampler: OwnSampler, subject: Subject) -> OwnSampler:
    def draw(ids: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        drawn = np.asarray(sampler(ids, generator))
        if drawn.shape != ids.shape or not np.issubdtype(drawn.dtype, np.integer):
            raise InputError(
                f"the sampler returned {drawn.dtype} {list(drawn.shape)}; return {len(ids)} integer token ids."
            )
        if drawn.min() < 0 or drawn.max() >= subject.d_vocab:
            raise InputError(
                f"the sampler returned ids from {drawn.min()} to {drawn.max()}; return ids within the vocabulary, "
                f"0 to {subject.d_vocab - 1}."
            )
        return drawn

    return draw


def spread(values: Sequence[float], targets: Targets) -> list[np.ndarray]:
    """Repeat each target's value for every token read, for a column."""
    return [np.full(int(pos) + 1, value) for value, pos in zip(values, targets.pos, strict=True)]
