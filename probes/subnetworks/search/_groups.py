"""Mask parameters of one group of units, the matrices they mask, and a step of theirs, piece by piece.

All that happens to a piece happens at once, while a processor has it at hand: a pass over each tensor would cost more
than the arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from interp.model.weights import WeightMatrix

_DECIDED = 2.1972245773362196  # logit(0.9): beyond it a soft mask is above 0.9, below its negative under 0.1
_IN_CACHE = 1 << 18  # numbers of which a processor keeps a few tensors at hand
_EXACT = 1 << 24  # up to which float32 counts by ones
_ADAMW: dict[str, Any] = {  # the defaults of torch.optim.AdamW
    "beta1": 0.9,
    "beta2": 0.999,
    "eps": 1e-8,
    "weight_decay": 1e-2,
    "amsgrad": False,
    "maximize": False,
}


@dataclass(frozen=True)
class Counts:
    """How decided the masks are: parameters with a soft mask between 0.1 and 0.9, and above."""

    n_mid: int = 0
    n_hi: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.n_mid + other.n_mid, self.n_hi + other.n_hi)


def decided(n_mid: Any, n_hi: Any) -> Any:
    """The rule to stop by: fewer than one soft mask between 0.1 and 0.9 per hundred above, or none; of arrays too."""
    return (n_mid < 0.01 * n_hi) | (n_mid == 0)


class Group:
    """Mask parameters m of some units with their state of AdamW, and the matrices they mask."""

    def __init__(self, m: Tensor, lr: float) -> None:
        self.m, self._lr = m, lr
        self._moments = torch.zeros_like(m), torch.zeros_like(m)
        self._n_steps = torch.zeros((), device=m.device)
        self.members: list[Member] = []
        self.gathered: list[Tensor] = []  # of members, until all have theirs: d loss / d soft mask

    def state(self) -> dict[str, Tensor]:
        """What training goes on from, as torch.optim.AdamW names it."""
        return {"m": self.m, "step": self._n_steps, "exp_avg": self._moments[0], "exp_avg_sq": self._moments[1]}

    def advance(self, piece: slice, gradient: Tensor, t: float) -> Counts:
        """Step a piece of m; counts are those after it, at the inverse temperature t that the pass was made at.

        Args:
            piece: of m.
            gradient: d loss / d soft mask of the piece, contiguous; overwritten.
            t: inverse temperature.
        """
        m = self.m[piece]
        soft = (m * t).sigmoid_()
        torch.ops.aten.sigmoid_backward.grad_input(gradient, soft, grad_input=gradient).mul_(t)
        first, second = (moment[piece] for moment in self._moments)
        fused = m.device.type in ("cpu", "cuda")  # one pass over all four tensors, where torch has it
        steps = [self._n_steps.clone()]  # which it counts up; every piece is at the same step
        adamw([m], [gradient], [first], [second], [], steps, fused=fused, lr=self._lr, **_ADAMW)
        # Into floats, for a sum of those is several times faster than a count of booleans.
        high = int(torch.gt(m, _DECIDED / t, out=soft).sum())
        return Counts(int(torch.ge(m, -_DECIDED / t, out=soft).sum()) - high, high)

    def stepped(self) -> None:
        """Every piece has been advanced."""
        self._n_steps += 1
        self.gathered.clear()


@dataclass(eq=False)
class Member:
    """A matrix and the axis along which its units lie; None where every weight is its own.

    In the latter case m and weights are held with their dimensions as they lie in memory, and worked on piece by piece.
    """

    matrix: WeightMatrix
    axis: Literal[0, 1] | None
    group: Group
    order: list[int]  # of the dimensions of the matrix's view
    own: Tensor  # the model's weights
    effective: Tensor  # what the pass multiplies by

    def refresh(self, piece: slice, t: float) -> float:
        """Compute effective weights at inverse temperature t; returns the sum of soft masks over these weights."""
        soft = (self.group.m[piece] * t).sigmoid_()
        torch.mul(self.own[piece], self.expand(soft), out=self.effective[piece])
        return float(soft.sum()) * self.per_unit

    def gradient(self, piece: slice, of_effective: Tensor, penalty: float) -> Tensor:
        """Of the loss, by the soft masks of a piece.

        Args:
            piece: of the units.
            of_effective: d loss / d effective weight, shaped as the module's parameter; may be overwritten.
            penalty: what each weight's soft mask adds to the loss, beside what it does through the model.
        """
        given = self.matrix.view(of_effective).permute(self.order)[piece].to(self.group.m.dtype)
        found = self.reduce(given.contiguous().mul_(self.own[piece]))
        return found.add_(penalty * self.per_unit)

    def pieces(self) -> list[slice]:
        """What is worked on at once: parts along the first dimension, or where units have many weights all of them."""
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
        """Which weights are kept, bool [out, in]."""
        kept = self.expand(self.group.m > 0) & (self.own != 0)
        return kept.permute([self.order.index(dim) for dim in range(kept.ndim)]).reshape(self.matrix.shape)

    def expand(self, values: Tensor) -> Tensor:
        """Values per unit, to be multiplied with the weights."""
        if self.axis is None:
            return values
        if self.axis == 1:
            return values.repeat_interleave(self.own.shape[-1] // len(values))
        lead = self.own.shape[:-1]
        return values.repeat_interleave(lead.numel() // len(values)).view(*lead, 1)

    def reduce(self, values: Tensor) -> Tensor:
        """Sums over each unit's weights of values of the weights' shape."""
        if self.axis is None:
            return values
        sums = values.flatten(0, -2).sum(dim=1 - self.axis)
        return sums.view(len(self.group.m), -1).sum(dim=1)
