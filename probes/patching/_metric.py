"""Measure how near a run's next token is to the clean run's, in one number that is larger the nearer it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from interp.model.readout import Readout, read_out
from interp.model.tape import Tape

Metric: TypeAlias = Literal["logit_diff", "log_prob", "kl"]
"""The number that is compared: the logit of the target minus that of `against`, the log-probability of the target, or
minus KL(clean || here)."""


class Chosen(NamedTuple):
    """The tokens that the metric is of, int64 [rows] each."""

    target: Tensor
    against: Tensor


def tokens_of_rows(tape: Tape, clean: Tensor, corrupt: Tensor, chosen: Chosen, draws: int) -> Chosen:
    """Return both tokens of every row, int64 [rows] each; -1 asks for what a run itself says next.

    Args:
        tape: whose head reads.
        clean: final residuals of the clean run, [rows, d_model].
        corrupt: those of the corrupt run.
        chosen: -1 is the most probable token: of the clean run, and of the corrupt run but for the target.
        draws: corrupt runs of a prompt, neighbours in `rows`; the first one decides.
    """
    target, against = (one.to(clean.device) for one in chosen)
    if bool((target < 0).any()):
        target = torch.where(target < 0, tape.head(clean).float().argmax(dim=-1), target)
    if bool((against < 0).any()):
        logits = tape.head(corrupt).float().clone()
        logits.scatter_(1, target[:, None], -torch.inf)
        found = logits.argmax(dim=-1).view(-1, draws)[:, :1].expand(-1, draws).reshape(-1)
        against = torch.where(against < 0, found, against)
    return Chosen(target, against)


def values_of(
    tape: Tape, read: Callable[..., Readout], metric: Metric, states: Sequence[Tensor], clean: Tensor, chosen: Chosen
) -> Tensor:
    """Return the metric of final residuals [rows, d_model], float32 [states, rows], on the CPU.

    Args:
        tape: whose head reads.
        read: see `reading`.
        metric: what to compute.
        states: the residuals.
        clean: that of the clean run.
        chosen: the tokens of each row.
    """
    if metric == "logit_diff":
        pair = torch.stack(chosen, dim=1)
        logits = torch.stack([tape.head.logits_of(state, pair) for state in states])
        return (logits[..., 0] - logits[..., 1]).cpu()
    readout = read(tape.head, states, clean, targets=chosen.target[:, None])
    return -readout.kl if metric == "kl" else readout.log_prob[..., 0]


def reading(metric: Metric, d_vocab: int, memory: int) -> Callable[..., Readout]:
    """Return the read-out of a metric, which holds only numbers, so that it can be sent with a program."""
    return partial(read_out, d_vocab=d_vocab, memory=memory, entropy=False, kl=metric == "kl")
