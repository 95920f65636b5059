"""The next-token distribution after many short sequences: large batches, and only the last position unembedded."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from interp.options import options
from interp.sites import editing
from interp.subject import Subject
from interp.tape import Tape

Reduce: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(float32 logits [rows, d_vocab], which sequences they follow [rows]) -> numbers [rows, k]."""

EditEmbedding: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(token embeddings [rows, pos, d_model], which sequences they are of [rows]) -> what to run instead of them."""

_LIVE_COPIES = 4  # of a chunk of logits: as computed, as float32, and two of what `reduce` makes of them


def read_ends(
    subject: Subject, ids: Tensor, lengths: Tensor, reduce: Reduce, *, edit: EditEmbedding | None = None
) -> Tensor:
    """Run sequences and reduce the distribution that follows the last token of each.

    Args:
        subject: the model.
        ids: int64 [n, pos], padded on the right with any ids.
        lengths: of the sequences, int64 [n].
        reduce: what to keep of the logits.
        edit: changes token embeddings before the first block. It may not be the first thing ever run on a subject,
            whose check of itself must see the model as it is.

    Returns:
        What `reduce` gave, in the order of the sequences, on the CPU: [n, k]. Sequences of like length share batches
        within the memory budget.
    """
    order = lengths.argsort(descending=True, stable=True)
    parts: list[Tensor] = []
    start = 0
    while start < len(order):
        width = int(lengths[order[start]])
        rows = order[start : start + max(1, subject.batch_tokens() // width)]
        program = _reducing(reduce, rows, lengths[rows] - 1, _rows_of_logits(subject.d_vocab))
        if edit is None:
            parts.append(subject.run(ids[rows, :width], program).cpu())
        else:
            with editing(subject.site("embed"), lambda value, rows=rows: edit(value, rows)):  # type: ignore[misc]
                parts.append(subject.run(ids[rows, :width], program).cpu())
        start += len(rows)
    results = torch.cat(parts)
    return torch.empty_like(results).index_copy_(0, order, results)


def log_prob_and_rank(targets: Tensor) -> Reduce:
    """Log-probability of each sequence's target (nats) and how many tokens have a strictly larger logit: [rows, 2].

    Args:
        targets: int64 [n], one per sequence.
    """

    def reduce(logits: Tensor, rows: Tensor) -> Tensor:
        own = logits.gather(1, targets[rows].to(logits.device)[:, None])
        log_prob = own - logits.logsumexp(dim=1, keepdim=True)
        return torch.cat([log_prob, (logits > own).sum(dim=1, keepdim=True).float()], dim=1)

    return reduce


def _reducing(reduce: Reduce, rows: Tensor, ends: Tensor, n_rows: int) -> Callable[[Tape], Tensor]:
    def program(tape: Tape) -> Tensor:
        device = tape.last.device
        last = tape.last[torch.arange(len(rows), device=device), ends.to(device)]
        parts = range(0, len(rows), n_rows)
        return torch.cat([reduce(tape.head(last[i : i + n_rows]).float(), rows[i : i + n_rows]) for i in parts])

    return program


def _rows_of_logits(d_vocab: int) -> int:
    return max(1, options.memory // (4 * _LIVE_COPIES * 4 * d_vocab))
