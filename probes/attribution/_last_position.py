"""Next-token distributions after many short sequences, in large batches; only the last position is unembedded.

Sequences that begin alike can be read as a tree, what they share once.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TypeAlias

import torch
from torch import Tensor

from interp.authoring import Subject, logits_after, options
from interp.model.sites import editing

Reduce: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(float32 logits [rows, d_vocab], indices of their sequences [rows]) -> numbers [rows, k]."""

EditEmbedding: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(token embeddings [rows, pos, d_model], indices of their sequences [rows]) -> embeddings to run instead."""

_LIVE_COPIES = 4  # of a chunk of logits: as computed, as float32, and two temporaries in `reduce`


def read_last(
    subject: Subject, ids: Tensor, lengths: Tensor, reduce: Reduce, *, edit: EditEmbedding | None = None
) -> Tensor:
    """Run sequences and reduce the next-token logits after the last token of each.

    Args:
        subject: the model.
        ids: int64 [n, pos], padded on the right with any ids.
        lengths: of the sequences, int64 [n].
        reduce: maps logits to the numbers to keep.
        edit: changes token embeddings before the first block. Run the subject once without edits first: verification
            must see the unedited model.

    Returns:
        The results of `reduce` in the order of the sequences, on the CPU: [n, k]. Sequences of similar length share
        batches within the memory budget.
    """
    order = lengths.argsort(descending=True, stable=True)
    most = max(1, options.available // (4 * _LIVE_COPIES * 4 * subject.d_vocab))
    parts: list[Tensor] = []
    start = 0
    while start < len(order):
        width = int(lengths[order[start]])
        rows = order[start : start + min(most, max(1, subject.batch_tokens() // width))]
        parts.append(_read_batch(subject, ids[rows, :width], lengths[rows] - 1, rows, reduce, edit))
        start += len(rows)
    results = torch.cat(parts)
    return torch.empty_like(results).index_copy_(0, order, results)


def read_alike(subject: Subject, ids: Tensor, lengths: Tensor, reduce: Reduce) -> Tensor:
    """Run sequences as `read_last` does, and read what they begin with alike once, where that is quicker.

    Args:
        subject: the model.
        ids: int64 [n, pos], padded on the right with any ids.
        lengths: of the sequences, int64 [n].
        reduce: maps logits to the numbers to keep; it is given 0 as the index of every sequence.

    Returns:
        The results of `reduce` in the order of the sequences, on the CPU: [n, k].
    """
    if subject.device.type != "cpu":  # a tree is a small batch, and its attention grows with the square
        return read_last(subject, ids, lengths, lambda logits, rows: reduce(logits, torch.zeros_like(rows)))

    def program(logits: Tensor) -> Tensor:
        return reduce(logits.float(), torch.zeros(len(logits), dtype=torch.int64)).cpu()

    texts = [tuple(row[:length]) for row, length in zip(ids.tolist(), lengths.tolist(), strict=True)]
    found: dict[tuple[int, ...], Tensor] = {}
    for some, numbers in logits_after(subject, texts, program):
        found |= zip(some, numbers, strict=True)
    return torch.stack([found[text] for text in texts])


def log_prob_and_rank(targets: Tensor) -> Reduce:
    """Return a reducer to each target's log-probability (nats) and number of strictly larger logits, [rows, 2].

    Args:
        targets: int64 [n], one per sequence.
    """

    def reduce(logits: Tensor, rows: Tensor) -> Tensor:
        own = logits.gather(1, targets[rows].to(logits.device)[:, None])
        log_prob = own - logits.logsumexp(dim=1, keepdim=True)
        return torch.cat([log_prob, (logits > own).sum(dim=1, keepdim=True).float()], dim=1)

    return reduce


def logit_difference(targets: Tensor, others: Tensor) -> Reduce:
    """Return a reducer to each target's logit minus the other token's, [rows, 1].

    Args:
        targets: int64 [n], one per sequence.
        others: int64 [n].
    """

    def reduce(logits: Tensor, rows: Tensor) -> Tensor:
        own, other = (logits.gather(1, of[rows].to(logits.device)[:, None]) for of in (targets, others))
        return own - other

    return reduce


def _read_batch(
    subject: Subject, ids: Tensor, ends: Tensor, rows: Tensor, reduce: Reduce, edit: EditEmbedding | None
) -> Tensor:
    with ExitStack() as active:
        if edit is not None:
            active.enter_context(editing(subject.site("embed"), lambda value: edit(value, rows)))
        return subject.next_token_logits(ids, ends, lambda logits: reduce(logits.float(), rows)).cpu()
