"""Integrate a text's Jacobian along a straight path, times the step of each token: forward-mode products only."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from interp.authoring import ModelError, Subject
from interp.model.tape import Tape


@dataclass(frozen=True)
class Encoded:
    """A text's pooled state, that of its reference, and each token's part of the difference.

    Attributes:
        state: float64 [d_model].
        reference: float64 [d_model].
        parts: float64 [pos, d_model]; their sum is nearly `state - reference`.
    """

    state: Tensor
    reference: Tensor
    parts: Tensor


def encoded(subject: Subject, ids: Tensor, bare: Tensor, first: int, pool: Tensor, layer: int, steps: int) -> Encoded:
    """Follow the path from the reference to the text, at the midpoints of `steps` equal parts.

    Args:
        subject: the model.
        ids: of the text, int64 [pos].
        bare: the first block's input where every token is the reference, [pos, d_model].
        first: the text's first position; those before it, the model's start, stay as they are.
        pool: weights of the positions, [pos].
        layer: of the residual stream that is pooled.
        steps: parts of the path.

    Raises:
        ModelError: an operation of the model has no forward-mode derivative.
    """
    n = len(ids)
    at_once = max(1, subject.block_tokens(n) // (2 * n))  # a dual number is two

    def program(tape: Tape) -> list[Tensor]:
        own = tape.residual(0)[0].detach()
        base = torch.where(torch.arange(n, device=own.device)[:, None] < first, own, bare.to(own))
        change = own - base
        weight = pool.to(own.device, torch.float64)

        def pooled(residual: Tensor) -> Tensor:
            for block in range(layer):
                residual = tape.run_block(block, residual)
            return torch.einsum("p,bpd->bd", weight, residual.double())

        ends = pooled(torch.stack([own, base]))
        parts = torch.zeros(n, own.shape[1], dtype=torch.float64, device=own.device)
        every = [(step, pos) for step in range(steps) for pos in range(first, n)]
        for start in range(0, len(every), at_once):
            step, pos = torch.tensor(every[start : start + at_once], device=own.device).T
            along = base + (step.to(own.dtype)[:, None, None] + 0.5) / steps * change
            tangent = torch.zeros_like(along)
            rows = torch.arange(len(pos), device=own.device)
            tangent[rows, pos] = change[pos]
            with forward_ad.dual_level():
                dual = forward_ad.make_dual(along, tangent)  # type: ignore[no-untyped-call]
                found = forward_ad.unpack_dual(pooled(dual)).tangent  # type: ignore[no-untyped-call]
            parts.index_add_(0, pos, found / steps)
        return [ends[0].cpu(), ends[1].cpu(), parts[first:].cpu()]

    try:
        # Fused attention has no forward-mode derivative on the processor.
        with sdpa_kernel(SDPBackend.MATH), torch.no_grad():
            return Encoded(*subject.run(ids[None], program))
    except NotImplementedError as error:
        raise ModelError(
            f"{subject.name!r} has an operation without a forward-mode derivative; take a model of plain operations, "
            f"or replace it: {str(error).splitlines()[0].rstrip('.')}."
        ) from error
