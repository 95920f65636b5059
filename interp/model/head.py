"""A model's read-out, residual -> logits: the whole vocabulary at once, or one tile of it at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


def _as_it_is(values: Tensor) -> Tensor:
    return values


@dataclass(frozen=True)
class Head:
    """A final norm, the unembedding, and the model's transform of its logits.

    Attributes:
        whole: residual [..., d_model] -> logits [..., d_vocab], by the model's own modules.
        weight: of the unembedding, [d_vocab, d_model]; None if it is not available, and then `tile` cannot be used.
        bias: of the unembedding, [d_vocab], or None.
        norm: applied before the unembedding.
        transform: applied after it, an elementwise non-decreasing function: a soft cap, a scale.
    """

    whole: Callable[[Tensor], Tensor]
    weight: Tensor | None = None
    bias: Tensor | None = None
    norm: Callable[[Tensor], Tensor] = _as_it_is
    transform: Callable[[Tensor], Tensor] = _as_it_is

    def __call__(self, residual: Tensor) -> Tensor:
        """Return the logits [..., d_vocab] of a residual [..., d_model]."""
        return self.whole(residual)

    def logits_of(self, residual: Tensor, ids: Tensor) -> Tensor:
        """Return the float32 logits of chosen tokens: residuals [rows, d_model], tokens [rows, t] -> [rows, t].

        Only their columns of the unembedding are read, if it is available.
        """
        if self.weight is None:
            return self.whole(residual).float().gather(1, ids)
        logits = torch.einsum("rd,rtd->rt", self.norm(residual), self.weight[ids])
        return self.transform(logits if self.bias is None else logits + self.bias[ids]).float()

    def tile(self, normed: Tensor, start: int, stop: int, out: Tensor) -> Tensor:
        """Return float32 logits of the tokens start..stop-1 for normalised residuals, [rows, stop - start].

        Args:
            normed: residuals after `norm`, [rows, d_model].
            start: the first token.
            stop: the token after the last.
            out: float32 [rows, stop - start]; the result may or may not be this buffer.
        """
        assert self.weight is not None
        columns = self.weight[start:stop].T
        logits = torch.mm(normed, columns, out=out) if normed.dtype == torch.float32 else normed @ columns
        if self.bias is not None:
            logits += self.bias[start:stop]
        return self.transform(logits).float()

    def bounds(self, normed: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return bounds of the logits that `tile` computes for single tokens, whatever its rounding.

        Args:
            normed: residuals after `norm`, [rows, d_model].
            ids: tokens of each row, [rows, t].

        Returns:
            Lower and upper bounds, float32 [rows, t].
        """
        assert self.weight is not None
        columns = self.weight[ids].double()
        exact = torch.einsum("rd,rtd->rt", normed.double(), columns)
        if self.bias is not None:
            exact += self.bias[ids].double()
        # Each of d additions rounds a partial sum, which is about as large as a random walk's or as the total; the
        # rounding errors add up like a random walk too. This is not the worst case: a logit outside its bounds is
        # detected and costs a recount.
        lengths = normed.double().norm(dim=1, keepdim=True) * columns.norm(dim=2)
        sums = normed.shape[1] ** 0.5 * exact.abs() + 4 * lengths
        own = torch.finfo(self.weight.dtype).eps
        slack = 2 * torch.finfo(torch.float32).eps * sums + 2 * own * exact.abs()
        low, high = (self.transform((exact + side * slack).to(normed.dtype)).float() for side in (-1, 1))
        return low - 2 * own * low.abs(), high + 2 * own * high.abs()
