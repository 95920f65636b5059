"""Soft masks over weight matrices, trained by their own optimiser as the backward pass goes by.

A matrix's effective weight is w * sigmoid(T m) (continuous sparsification; Savarese, Silva & Maire, 2020), T an inverse
temperature. The pass computes the gradient of each effective weight; as soon as it is there it becomes that of m, m is
stepped, and the gradient is let go. Beyond the model this holds four copies of the masked weights at the finest unit:
effective weights, m, and the two moments of Adam.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from interp.weights import WeightMatrix, replaced

Unit: TypeAlias = Literal["weight", "row", "neuron", "head"]
"""What is kept or dropped together.

"weight": every weight by itself. "row": the weights into one output of a matrix. "neuron": an MLP neuron, its weights
in and out; attention by head. "head": an attention head, its queries, keys, values and output (with grouped keys and
values the heads that share them); an MLP as a whole.
"""

NEVER = -1e6  # m of what is exactly 0 in the model: no weight to keep
_DECIDED = 2.1972245773362196  # logit(0.9): beyond it a soft mask is above 0.9, below its negative under 0.1


@dataclass(eq=False)
class _Group:
    """Mask parameters m of some units, and the matrices they mask."""

    m: Tensor
    optimiser: torch.optim.Optimizer
    members: list[_Member] = field(default_factory=list)
    waiting: int = 0


@dataclass(eq=False)
class _Member:
    """A matrix and the axis along which its units lie; None where every weight is its own."""

    matrix: WeightMatrix
    axis: Literal[0, 1] | None
    group: _Group
    shaped: Tensor  # m in the shape of the matrix's view where axis is None, else the units [n]
    own: Tensor  # the model's weights
    effective: Tensor  # what the pass multiplies by

    def expand(self, values: Tensor) -> Tensor:
        """Values per unit, to be multiplied with the view of the matrix."""
        if self.axis is None:
            return values
        if self.axis == 1:
            return values.repeat_interleave(self.own.shape[-1] // len(values))
        lead = self.own.shape[:-1]
        return values.repeat_interleave(lead.numel() // len(values)).view(*lead, 1)

    def reduce(self, values: Tensor) -> Tensor:
        """Sums over each unit's weights of values of the matrix's shape."""
        if self.axis is None:
            return values
        sums = values.flatten(0, -2).sum(dim=1 - self.axis, dtype=torch.float32)
        return sums.view(len(self.shaped), -1).sum(dim=1)


@dataclass(frozen=True)
class Counts:
    """How decided the masks are: parameters with a soft mask between 0.1 and 0.9, and above."""

    n_mid: int
    n_hi: int


class MaskParameters:
    """Mask parameters of all matrices of a model.

    Args:
        matrices: what is masked.
        unit: what is kept or dropped together.
        n_heads: of the model, for units of heads.
        sparsity: lambda, the loss's weight of the mean soft mask.
        lr: of AdamW, whose other settings are torch's defaults.
    """

    def __init__(
        self, matrices: Sequence[WeightMatrix], *, unit: Unit, n_heads: int, sparsity: float, lr: float
    ) -> None:
        self.sparsity, self.inverse_temperature = sparsity, 1.0
        self.n_weights = sum(matrix.weight.numel() for matrix in matrices)
        self._effective: dict[nn.Module, nn.Parameter] = {}
        self._groups: dict[str, _Group] = {}
        self._members: dict[nn.Module, list[_Member]] = {}
        n_groups = _n_groups_of_heads(matrices, n_heads)
        for matrix in matrices:
            if matrix.module not in self._effective:
                self._effective[matrix.module] = nn.Parameter(torch.empty_like(matrix.module.weight))  # type: ignore[arg-type]
            self._add(matrix, _place(matrix, unit, n_groups), lr)
        self._never()
        self._n_mid = self._n_hi = 0

    @property
    def m(self) -> dict[str, Tensor]:
        """Mask parameters by the name of their group, as they are stored."""
        return {name: group.m for name, group in self._groups.items()}

    @property
    def effective(self) -> list[nn.Parameter]:
        """What passes multiply by while masked, a parameter per module."""
        return list(self._effective.values())

    @contextmanager
    def masking(self) -> Iterator[list[nn.Parameter]]:
        """Within, passes use the effective weights, and a backward pass to those yielded makes a step."""
        with ExitStack() as stack:
            stack.enter_context(replaced(self._effective))
            for module, weight in self._effective.items():
                handle = weight.register_post_accumulate_grad_hook(self._step(module))  # type: ignore[no-untyped-call]
                stack.callback(handle.remove)
            for group in self._groups.values():
                group.waiting = len(group.members)
            self._n_mid = self._n_hi = 0
            yield self.effective

    @torch.no_grad()
    def refresh(self) -> float:
        """Compute the effective weights anew; returns the mean soft mask over all weights."""
        kept = 0.0
        for member in self._all():
            soft = torch.sigmoid(member.shaped * self.inverse_temperature)
            torch.mul(member.own, member.expand(soft), out=member.effective)
            kept += float(soft.sum(dtype=torch.float64)) * (member.own.numel() / soft.numel())
        return kept / self.n_weights

    def counts(self) -> Counts:
        """After the backward pass's steps, at the temperature of that pass."""
        return Counts(self._n_mid, self._n_hi)

    @torch.no_grad()
    def hard(self) -> dict[str, Tensor]:
        """Which weights are kept: m above 0, and not 0 in the model; bool [out, in] on the CPU, by matrix."""
        masks = {}
        for member in self._all():
            kept = (member.expand(member.shaped > 0) & (member.own != 0)).reshape(member.matrix.shape)
            masks[member.matrix.name] = kept.cpu().contiguous()
        return masks

    def state(self) -> dict[str, dict[str, Tensor]]:
        """What training goes on from."""
        return {name: {"m": group.m, **group.optimiser.state.get(group.m, {})} for name, group in self._groups.items()}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Go on from a `state`."""
        for name, group in self._groups.items():
            saved = dict(state[name])
            group.m.copy_(saved.pop("m"))
            if saved:
                group.optimiser.state[group.m] = {key: value.to(group.m.device) for key, value in saved.items()}

    def _all(self) -> Iterator[_Member]:
        for members in self._members.values():
            yield from members

    def _add(self, matrix: WeightMatrix, place: tuple[str, Literal[0, 1] | None, int], lr: float) -> None:
        name, axis, n_units = place
        own = matrix.weight
        order = _in_memory_order(own)
        if name not in self._groups:
            shape = [own.shape[dim] for dim in order] if axis is None else [n_units]
            m = torch.zeros(shape, device=own.device, dtype=torch.float32)
            fused = own.device.type in ("cpu", "cuda")  # one pass over all four tensors, where torch has it
            self._groups[name] = _Group(m, torch.optim.AdamW([m], lr=lr, fused=fused))
        group = self._groups[name]
        shaped = group.m.permute([order.index(dim) for dim in range(own.ndim)]) if axis is None else group.m
        effective = matrix.view(self._effective[matrix.module].detach())
        member = _Member(matrix, axis, group, shaped, own, effective)
        group.members.append(member)
        self._members.setdefault(matrix.module, []).append(member)

    @torch.no_grad()
    def _never(self) -> None:
        for group in self._groups.values():
            alive = torch.zeros_like(group.members[0].shaped)
            for member in group.members:
                alive += member.reduce((member.own != 0).float())
            group.members[0].shaped.masked_fill_(alive == 0, NEVER)

    def _step(self, module: nn.Module) -> Callable[[Tensor], None]:
        @torch.no_grad()
        def step(weight: Tensor) -> None:
            assert weight.grad is not None
            gradient, weight.grad = weight.grad, None
            for member in self._members[module]:
                group = member.group
                # d loss / d mask, summed over each unit's weights, and what the penalty adds to it.
                found = member.reduce(member.matrix.view(gradient).float().mul_(member.own))
                found = found.add_(self.sparsity * member.own.numel() / (self.n_weights * member.shaped.numel()))
                if member.axis is None:
                    found = found.permute(_in_memory_order(member.own)).contiguous()
                group.m.grad = found if group.m.grad is None else group.m.grad.add_(found)
                group.waiting -= 1
                if not group.waiting:
                    self._advance(group)

        return step

    def _advance(self, group: _Group) -> None:
        t = self.inverse_temperature
        soft = torch.sigmoid(group.m * t)
        group.m.grad.mul_(soft.addcmul_(soft, soft, value=-1)).mul_(t)  # type: ignore[union-attr]
        group.optimiser.step()
        group.m.grad = None
        high = int(torch.count_nonzero(group.m > _DECIDED / t))
        self._n_hi += high
        self._n_mid += int(torch.count_nonzero(group.m >= -_DECIDED / t)) - high


def _in_memory_order(weights: Tensor) -> list[int]:
    """Dimensions from the slowest to the fastest, so that a pass over mask parameters and weights is a plain one."""
    strides: tuple[int, ...] = weights.stride()
    return sorted(range(weights.ndim), key=lambda dim: -strides[dim])


def _n_groups_of_heads(matrices: Sequence[WeightMatrix], n_heads: int) -> int:
    """Heads that can be kept one by one: where queries share keys and values, those that do go together."""
    rows = {matrix.component: matrix.shape[0] for matrix in matrices}
    return rows["k"] // (rows["q"] // n_heads)


def _place(matrix: WeightMatrix, unit: Unit, n_groups: int) -> tuple[str, Literal[0, 1] | None, int]:
    """Name of the units that mask a matrix, the axis they lie along, and how many there are."""
    if unit == "weight":
        return matrix.name, None, 0
    if unit == "row":
        return matrix.name, 0, matrix.shape[0]
    reads = matrix.component in ("o", "mlp_out")  # the units of its block by columns, where the others make them
    if not matrix.component.startswith("mlp"):
        return f"blocks.{matrix.layer}.attn", 1 if reads else 0, n_groups
    return f"blocks.{matrix.layer}.mlp", 1 if reads else 0, matrix.shape[1 if reads else 0] if unit == "neuron" else 1
