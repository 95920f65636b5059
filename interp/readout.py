"""Residual vectors -> statistics of the next-token distribution, streamed in chunks.

The logits of a chunk of rows exist for every layer in turn and are gone before the next; `[layers, rows, d_vocab]`
never exists. Rows are the outer loop, so that the distribution compared with is computed once per chunk for all layers.
All statistics are float32, whatever the model's dtype, from one shifted log-sum-exp: no `log(p + eps)` anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from interp.errors import InputError, NumericalError

# Beyond this a chunk of logits leaves the processor's last-level cache and every pass over it pays for memory.
_CPU_CHUNK_BYTES = 24 << 20
# Chunks alive at once: the reference distribution, one scratch, and in the head the logits and two steps of a soft cap.
_LIVE_CHUNKS = 5

Head = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Readout:
    """Statistics of `states` read through a head; n states, r rows, t targets per row. Those not asked for are None.

    Attributes:
        log_prob: of each target, nats, float32 [n, r, t].
        rank: number of tokens with a strictly larger logit than the target, int64 [n, r, t]; 0 is the argmax.
        entropy: nats, float32 [n, r].
        kl: KL(reference || state), nats, float32 [n, r]; 0 exactly where the state is the reference itself.
        top_id: the k most probable tokens, most probable first, int64 [n, r, k]; of equals the lowest id where k is 1,
            else in no certain order.
        top_log_prob: their log-probabilities, nats, float32 [n, r, k].
        reference_top1: the argmax of the reference, int64 [r].
        target_ids: int64 [r, t].
    """

    top_id: Tensor
    top_log_prob: Tensor
    reference_top1: Tensor
    target_ids: Tensor | None = None
    log_prob: Tensor | None = None
    rank: Tensor | None = None
    entropy: Tensor | None = None
    kl: Tensor | None = None


@torch.no_grad()
def read_out(
    head: Head,
    states: Sequence[Tensor],
    reference: Tensor,
    *,
    d_vocab: int,
    memory: int,
    targets: Tensor | Literal["argmax"] | None = None,
    reference_head: Head | None = None,
    entropy: bool = True,
    kl: bool = True,
    k: int = 1,
) -> Readout:
    """Read every state through `head` and reduce its next-token distribution.

    Args:
        head: residual [rows, d_model] -> logits [rows, d_vocab].
        states: residuals [r, d_model] each.
        reference: residual [r, d_model] whose distribution `kl` and "argmax" refer to; may be one of `states`, and is
            then read once.
        d_vocab: size of the vocabulary; with `memory` it decides the rows per chunk.
        memory: bytes all chunks together may use.
        targets: ids [r, t] to score, or "argmax" for the reference's own argmax (t = 1).
        reference_head: another head for the reference; default `head`.
        entropy: compute entropies.
        kl: compute divergences from the reference.
        k: how many top tokens to return, at least 1.

    Returns:
        A `Readout`, on the CPU.

    Raises:
        InputError: there are no states or no rows.
        NumericalError: a state's logits hold NaN or +infinity.
    """
    if not states or not len(reference):
        raise InputError("there is nothing to read: give at least one state of at least one row.")
    n_rows = min(len(reference), _rows_per_chunk(d_vocab, memory, reference.device))
    buffers = torch.empty(2, n_rows, d_vocab, device=reference.device)
    reducer = _Reducer(entropy, kl, k, *buffers)
    columns: dict[str, list[Tensor]] = {}
    for start in range(0, len(reference), n_rows):
        rows = slice(start, start + n_rows)
        logits = _logits(reference_head or head, reference[rows])
        ids: Tensor | None = None
        if isinstance(targets, Tensor):
            ids = targets[rows].to(logits.device)
        elif targets == "argmax":
            ids = logits.argmax(dim=1, keepdim=True)
        reference_stats, distribution = reducer.reduce(logits, ids)
        del logits
        results = [
            reference_stats
            if state is reference and reference_head is None
            else reducer.reduce(_logits(head, state[rows]), ids, distribution)[0]
            for state in states
        ]
        for name in results[0]:
            columns.setdefault(name, []).append(torch.stack([result[name] for result in results]).cpu())
        columns.setdefault("reference_top1", []).append(reference_stats["top_id"][:, 0].cpu())
        if ids is not None:
            columns.setdefault("target_ids", []).append(ids.cpu())
    per_row = ("target_ids", "reference_top1")
    joined = {name: torch.cat(parts, dim=0 if name in per_row else 1) for name, parts in columns.items()}
    return Readout(**joined)


@dataclass(frozen=True)
class _Reference:
    """Probabilities [rows, d_vocab] and entropy [rows] of the reference."""

    prob: Tensor
    entropy: Tensor


@dataclass
class _Reducer:
    """Which statistics to take of a chunk of float32 logits [rows, d_vocab].

    Every pass over a chunk writes into a buffer kept between chunks: fresh tensors of this size cost more in page
    faults than the arithmetic does.
    """

    entropy: bool
    kl: bool
    k: int
    scratch: Tensor
    exponentials: Tensor

    def reduce(
        self, logits: Tensor, targets: Tensor | None, reference: _Reference | None = None
    ) -> tuple[dict[str, Tensor], _Reference | None]:
        """Statistics of one state, and its own distribution in case it is the reference (where none is given).

        The logits are shifted in place so that each row's maximum is 0: the distribution stays, sums become exact.
        """
        out = self.scratch[: len(logits)]
        stats: dict[str, Tensor] = {}
        if targets is not None:
            # Before the shift, which rounds: two small logits under a large maximum could become equal by it.
            # Counted in float32, exact below 2**24 tokens: summing booleans is eight times slower.
            of_targets = logits.gather(1, targets)
            above = [torch.gt(logits, one[:, None], out=out).sum(dim=1) for one in of_targets.unbind(dim=1)]
            stats["rank"] = torch.stack(above, dim=1).long()
        top = logits.max(dim=1, keepdim=True) if self.k == 1 else logits.topk(self.k, dim=1)
        shift = top.values[:, :1]
        logits.sub_(shift)
        exponentials = torch.exp(logits, out=out if reference else self.exponentials[: len(logits)])
        total = exponentials.sum(dim=1)
        log_total = total.log()
        if not torch.isfinite(log_total).all():
            raise NumericalError("the logits hold NaN or infinity: check the model's weights and its dtype.")
        stats |= {"top_id": top.indices, "top_log_prob": (top.values - shift) - log_total[:, None]}
        if targets is not None:
            stats["log_prob"] = (of_targets - shift) - log_total[:, None]
        own = None
        if self.entropy or (self.kl and reference is None):
            own_entropy = (log_total - _total(torch.mul(exponentials, logits, out=out)) / total).clamp_(min=0.0)
            if self.entropy:
                stats["entropy"] = own_entropy
            if reference is None:
                own = _Reference(exponentials.div_(total[:, None]), own_entropy)
        if self.kl:
            if reference is None:
                stats["kl"] = torch.zeros_like(log_total)
            else:
                cross_entropy = log_total - _total(torch.mul(reference.prob, logits, out=out))
                # Two float32 sums of up to d_vocab terms: a divergence of zero can come out as -1e-7.
                stats["kl"] = (cross_entropy - reference.entropy).clamp_(min=0.0)
        return stats, own


def _logits(head: Head, state: Tensor) -> Tensor:
    """float32 logits [rows, d_vocab] that may be written over, also where the head hands its input back."""
    logits = head(state).float()
    return logits.clone() if logits.untyped_storage().data_ptr() == state.untyped_storage().data_ptr() else logits


def _total(products: Tensor) -> Tensor:
    """Row sums [rows] where a token of probability 0 and logit -infinity, whose product is NaN, adds 0."""
    total = products.sum(dim=1)
    return products.nan_to_num_(nan=0.0, neginf=-torch.inf).sum(dim=1) if total.isnan().any() else total


def _rows_per_chunk(d_vocab: int, memory: int, device: torch.device) -> int:
    chunk = memory // _LIVE_CHUNKS
    if device.type == "cpu":
        chunk = min(chunk, _CPU_CHUNK_BYTES)
    return max(1, chunk // (4 * d_vocab))
