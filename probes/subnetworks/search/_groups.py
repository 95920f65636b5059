"""Mask parameters of one group of units, the matrices they mask, and their AdamW step in chunks.

All operations on a chunk run together, while it is in the processor's cache: separate passes over whole tensors would
cost more than the arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from interp.model.weights import WeightMatrix

_DECIDED = 2.1972245773362196  # logit(0.9): beyond it a soft mask is above 0.9, below its negative under 0.1
_GONE = 1e-12  # a soft mask up to here is lost beside one near 1 in float32, and is 0 here
_IN_CACHE = 1 << 18  # elements per chunk: the cache holds a few tensors of this size
_EXACT = 1 << 24  # float32 counts by ones up to here
_ADAMW: dict[str, Any] = {  # the defaults of torch.optim.AdamW
    "beta1": 0.9,
    "beta2": 0.999,
    "eps": 1e-8,
    "weight_decay": 1e-2,
    "amsgrad": False,
    "maximize": False,
}


def soft_mask(m: Tensor, t: float) -> Tensor:
    """Return sigmoid(t m), with exact zeros, which take no gradient, where it is at most 1e-12.

    Late in the annealing most masks are below float32's smallest normal number, and a matrix product of such numbers
    takes more than a hundred times as long as one of others or of zeros.
    """
    return torch.threshold_((m * t).sigmoid_(), _GONE, 0.0)


@dataclass(frozen=True)
class Counts:
    """Numbers of parameters with a soft mask between 0.1 and 0.9, and above 0.9."""

    n_mid: int = 0
    n_hi: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.n_mid + other.n_mid, self.n_hi + other.n_hi)


def decided(n_mid: Any, n_hi: Any) -> Any:
    """Apply the stopping rule to numbers or arrays: fewer than one mid mask per hundred high ones, or none."""
    return (n_mid < 0.01 * n_hi) | (n_mid == 0)


class Group:
    """Mask parameters m of some units, their AdamW state, and the matrices they mask."""

    def __init__(self, m: Tensor, lr: float) -> None:
        self.m, self._lr = m, lr
        self._moments = torch.zeros_like(m), torch.zeros_like(m)
        self._n_steps = torch.zeros((), device=m.device)
        self.members: list[Member] = []
        self.gathered: list[Tensor] = []  # d loss / d soft mask by member, until all are there

    def state(self) -> dict[str, Tensor]:
        """Return the state that training resumes from, with the names of torch.optim.AdamW."""
        return {"m": self.m, "step": self._n_steps, "exp_avg": self._moments[0], "exp_avg_sq": self._moments[1]}

    def advance(self, chunk: slice, gradient: Tensor, t: float) -> Counts:
        """Update a chunk of m, and return its counts after the update, at the inverse temperature of the pass.

        Args:
            chunk: slice of m.
            gradient: d loss / d soft mask of the chunk, contiguous; overwritten.
            t: inverse temperature of the pass.
        """
        m = self.m[chunk]
        soft = soft_mask(m, t)
        torch.ops.aten.sigmoid_backward.grad_input(gradient, soft, grad_input=gradient).mul_(t)
        first, second = (moment[chunk] for moment in self._moments)
        fused = m.device.type in ("cpu", "cuda")  # one pass over all four tensors, if torch has it
        steps = [self._n_steps.clone()]  # adamw increments it, but all chunks are at the same step
        adamw([m], [gradient], [first], [second], [], steps, fused=fused, lr=self._lr, **_ADAMW)
        # As floats, because their sum is several times faster than a count of booleans.
        high = int(torch.gt(m, _DECIDED / t, out=soft).sum())
        return Counts(int(torch.ge(m, -_DECIDED / t, out=soft).sum()) - high, high)

    def stepped(self) -> None:
        """Finish the step, after `advance` on every chunk."""
        self._n_steps += 1
        self.gathered.clear()


@dataclass(eq=False)
class Member:
    """A matrix and the axis along which its units lie; None if every weight is its own unit.

    In that case m and weights keep the dimension order that they have in memory, and are processed in chunks.
    """

    matrix: WeightMatrix
    axis: Literal[0, 1] | None
    group: Group
    order: list[int]  # of the dimensions of the matrix's view
    own: Tensor  # the model's weights
    effective: Tensor  # the masked weights that the pass uses

    def refresh(self, chunk: slice, t: float) -> float:
        """Compute the effective weights of a chunk at inverse temperature t, and return the sum of their soft masks."""
        soft = soft_mask(self.group.m[chunk], t)
        torch.mul(self.own[chunk], self.expand(soft), out=self.effective[chunk])
        return float(soft.sum()) * self.per_unit

    def gradient(self, chunk: slice, of_effective: Tensor, penalty: float) -> Tensor:
        """Return the gradient of the loss with respect to the soft masks of a chunk.

        Args:
            chunk: slice of the units.
            of_effective: d loss / d effective weight, shaped as the module's parameter; may be overwritten.
            penalty: each weight's gradient from the sparsity term of the loss.
        """
        given = self.matrix.view(of_effective).permute(self.order)[chunk].to(self.group.m.dtype)
        found = self.reduce(given.contiguous().mul_(self.own[chunk]))
        return found.add_(penalty * self.per_unit)

    def chunks(self) -> list[slice]:
        """Return the slices to process one by one: parts of the first dimension, or all if units have many weights."""
        if self.axis is not None:
            return [slice(None)]
        most = _IN_CACHE if self.own.device.type == "cpu" else _EXACT
        rows = max(1, most // self.own[0].numel())
        return [slice(start, start + rows) for start in range(0, len(self.own), rows)]

    @property
    def per_unit(self) -> float:
        """Weights per mask parameter."""
        return self.own.numel() / self.group.m.numel()

    def hard(self) -> Tensor:
        """Return which weights are kept, bool [out, in]."""
        kept = self.expand(self.group.m > 0) & (self.own != 0)
        return kept.permute([self.order.index(dim) for dim in range(kept.ndim)]).reshape(self.matrix.shape)

    def expand(self, values: Tensor) -> Tensor:
        """Expand values per unit so that they can be multiplied with the weights."""
        if self.axis is None:
            return values
        if self.axis == 1:
            return values.repeat_interleave(self.own.shape[-1] // len(values))
        lead = self.own.shape[:-1]
        return values.repeat_interleave(lead.numel() // len(values)).view(*lead, 1)

    def reduce(self, values: Tensor) -> Tensor:
        """Sum values, shaped as the weights, over each unit's weights."""
        if self.axis is None:
            return values
        sums = values.flatten(0, -2).sum(dim=1 - self.axis)
        return sums.view(len(self.group.m), -1).sum(dim=1)
