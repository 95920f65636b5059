"""The next-token distribution after many short sequences: large batches, and only the last position unembedded."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TypeAlias

import torch
from torch import Tensor

from interp.authoring import Subject, options
from interp.model.sites import editing

Reduce: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(float32 logits [rows, d_vocab], which sequences they follow [rows]) -> numbers [rows, k]."""

EditEmbedding: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(token embeddings [rows, pos, d_model], which sequences they are of [rows]) -> what to run instead of them."""

_LIVE_COPIES = 4  # of a chunk of logits: as computed, as float32, and two of what `reduce` makes of them


def read_last(
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
    most = max(1, options.memory // (4 * _LIVE_COPIES * 4 * subject.d_vocab))
    parts: list[Tensor] = []
    start = 0
    while start < len(order):
        width = int(lengths[order[start]])
        rows = order[start : start + min(most, max(1, subject.batch_tokens() // width))]
        parts.append(_read_batch(subject, ids[rows, :width], lengths[rows] - 1, rows, reduce, edit))
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


def _read_batch(
    subject: Subject, ids: Tensor, ends: Tensor, rows: Tensor, reduce: Reduce, edit: EditEmbedding | None
) -> Tensor:
    with ExitStack() as active:
        if edit is not None:
            active.enter_context(editing(subject.site("embed"), lambda value: edit(value, rows)))
        return subject.next_token_logits(ids, ends, lambda logits: reduce(logits.float(), rows)).cpu()
