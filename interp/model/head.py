"""A model's read-out, residual -> logits, whole or a tile of the vocabulary at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


def _as_it_is(values: Tensor) -> Tensor:
    return values


@dataclass(frozen=True)
class Head:
    """Final norm, unembedding, and what the model does to its logits after that.

    Attributes:
        whole: residual [..., d_model] -> logits [..., d_vocab], by the model's own modules.
        weight: of the unembedding, [d_vocab, d_model]; None where it is not at hand, and then nothing reads tiles.
        bias: of the unembedding, [d_vocab], or None.
        norm: what stands before the unembedding.
        transform: what comes after it, token by token and never decreasing: a soft cap, a scale.
    """

    whole: Callable[[Tensor], Tensor]
    weight: Tensor | None = None
    bias: Tensor | None = None
    norm: Callable[[Tensor], Tensor] = _as_it_is
    transform: Callable[[Tensor], Tensor] = _as_it_is

    def __call__(self, residual: Tensor) -> Tensor:
        """Logits [..., d_vocab] of a residual [..., d_model]."""
        return self.whole(residual)

    def tile(self, normed: Tensor, start: int, stop: int, out: Tensor) -> Tensor:
        """float32 logits of the tokens start..stop-1 for residuals behind the norm, [rows, stop - start].

        Args:
            normed: what `norm` made of the residuals, [rows, d_model].
            start: the first token.
            stop: the token after the last.
            out: float32 [rows, stop - start]; what is returned may be it, or not.
        """
        assert self.weight is not None
        columns = self.weight[start:stop].T
        logits = torch.mm(normed, columns, out=out) if normed.dtype == torch.float32 else normed @ columns
        if self.bias is not None:
            logits += self.bias[start:stop]
        return self.transform(logits).float()

    def bounds(self, normed: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Between which two values `tile` puts the logits of single tokens, however its product rounds.

        Args:
            normed: residuals behind the norm, [rows, d_model].
            ids: tokens of each row, [rows, t].

        Returns:
            Lower and upper bounds, float32 [rows, t].
        """
        assert self.weight is not None
        columns = self.weight[ids].double()
        exact = torch.einsum("rd,rtd->rt", normed.double(), columns)
        if self.bias is not None:
            exact += self.bias[ids].double()
        # Each of d additions rounds a partial sum, of about the size of a random walk's or of the whole; the roundings
        # add up like another. Not the worst case: a logit outside its bounds is found out, and costs a recount.
        lengths = normed.double().norm(dim=1, keepdim=True) * columns.norm(dim=2)
        sums = normed.shape[1] ** 0.5 * exact.abs() + 4 * lengths
        own = torch.finfo(self.weight.dtype).eps
        slack = 2 * torch.finfo(torch.float32).eps * sums + 2 * own * exact.abs()
        low, high = (self.transform((exact + side * slack).to(normed.dtype)).float() for side in (-1, 1))
        return low - 2 * own * low.abs(), high + 2 * own * high.abs()
