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
_IN_CACHE = 1 << 17  # numbers of which a processor keeps a few tensors at hand from one elementwise pass to the next
_EXACT = 1 << 24  # up to which float32 counts by ones


@dataclass(eq=False)
class _Group:
    """Mask parameters m of some units, and the matrices they mask."""

    m: Tensor
    optimiser: torch.optim.Optimizer
    members: list[_Member] = field(default_factory=list)
    waiting: int = 0

    def counts(self, t: float) -> Counts:
        """See `Counts`; at the inverse temperature t."""
        middle = high = 0
        for piece in _pieces(self.m):
            m = self.m[piece]
            # Into floats, for a sum of those is several times faster than a count of booleans.
            above = int(torch.gt(m, _DECIDED / t, out=torch.empty_like(m)).sum())
            middle += int(torch.ge(m, -_DECIDED / t, out=torch.empty_like(m)).sum()) - above
            high += above
        return Counts(middle, high)


@dataclass(eq=False)
class _Member:
    """A matrix and the axis along which its units lie; None where every weight is its own.

    In the latter case m and weights are held with their dimensions as they lie in memory, and worked on piece by piece.
    """

    matrix: WeightMatrix
    axis: Literal[0, 1] | None
    group: _Group
    order: list[int]  # of the dimensions of the matrix's view
    own: Tensor  # the model's weights
    effective: Tensor  # what the pass multiplies by

    def refresh(self, t: float) -> float:
        """Compute the effective weights at inverse temperature t; returns the sum of soft masks over all weights."""
        kept = 0.0
        for piece in self._pieces():
            soft = (self.group.m[piece] * t).sigmoid_()
            torch.mul(self.own[piece], self.expand(soft), out=self.effective[piece])
            kept += float(soft.sum())
        return kept * (self.own.numel() / self.group.m.numel())

    def gradient(self, of_effective: Tensor, t: float, penalty: float) -> Tensor:
        """Of the loss, by m, at inverse temperature t.

        Args:
            of_effective: d loss / d effective weight, shaped as the module's parameter; may be overwritten.
            t: inverse temperature.
            penalty: what each weight's soft mask adds to the loss, beside what it does through the model.
        """
        m = self.group.m
        given = self.matrix.view(of_effective).permute(self.order).to(m.dtype)
        found = given.contiguous() if self.axis is None else self.reduce(given.mul_(self.own))
        for piece in self._pieces():
            part = found[piece]
            if self.axis is None:
                part.mul_(self.own[piece])
            part.add_(penalty * (self.own.numel() / m.numel()))
            soft = (m[piece] * t).sigmoid_()
            torch.ops.aten.sigmoid_backward.grad_input(part, soft, grad_input=part)
            part.mul_(t)
        return found

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

    def _pieces(self) -> list[slice]:
        return _pieces(self.own) if self.axis is None else [slice(None)]


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
        self._counts = Counts(0, 0)

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
            self._counts = Counts(0, 0)
            yield self.effective

    @torch.no_grad()
    def refresh(self) -> float:
        """Compute the effective weights anew; returns the mean soft mask over all weights."""
        return sum(member.refresh(self.inverse_temperature) for member in self._all()) / self.n_weights

    def counts(self) -> Counts:
        """After the backward pass's steps, at the temperature of that pass."""
        return self._counts

    @torch.no_grad()
    def hard(self) -> dict[str, Tensor]:
        """Which weights are kept: m above 0, and not 0 in the model; bool [out, in] on the CPU, by matrix."""
        return {member.matrix.name: member.hard().cpu().contiguous() for member in self._all()}

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

    def held_bytes(self) -> int:
        """Memory held beyond the model, from one step to the next."""
        tensors = [value for state in self.state().values() for value in state.values()] + self.effective
        return sum(one.numel() * one.element_size() for one in tensors)

    def _all(self) -> Iterator[_Member]:
        for members in self._members.values():
            yield from members

    def _add(self, matrix: WeightMatrix, place: tuple[str, Literal[0, 1] | None, int], lr: float) -> None:
        name, axis, n_units = place
        own = matrix.weight
        order = _in_memory_order(own) if axis is None else list(range(own.ndim))
        own = own.permute(order)
        if name not in self._groups:
            shape = own.shape if axis is None else [n_units]
            m = torch.zeros(shape, device=own.device, dtype=torch.promote_types(own.dtype, torch.float32))
            fused = own.device.type in ("cpu", "cuda")  # one pass over all four tensors, where torch has it
            self._groups[name] = _Group(m, torch.optim.AdamW([m], lr=lr, fused=fused))
        group = self._groups[name]
        effective = matrix.view(self._effective[matrix.module].detach()).permute(order)
        member = _Member(matrix, axis, group, order, own, effective)
        group.members.append(member)
        self._members.setdefault(matrix.module, []).append(member)

    @torch.no_grad()
    def _never(self) -> None:
        for group in self._groups.values():
            alive = torch.zeros_like(group.m)
            for member in group.members:
                alive += member.reduce((member.own != 0).to(alive.dtype))
            group.m.masked_fill_(alive == 0, NEVER)

    def _step(self, module: nn.Module) -> Callable[[Tensor], None]:
        @torch.no_grad()
        def step(weight: Tensor) -> None:
            assert weight.grad is not None
            gradient, weight.grad = weight.grad, None
            for member in self._members[module]:
                group = member.group
                found = member.gradient(gradient, self.inverse_temperature, self.sparsity / self.n_weights)
                group.m.grad = found if group.m.grad is None else group.m.grad.add_(found)
                group.waiting -= 1
                if not group.waiting:
                    self._advance(group)

        return step

    def _advance(self, group: _Group) -> None:
        group.optimiser.step()
        group.m.grad = None
        found = group.counts(self.inverse_temperature)
        self._counts = Counts(self._counts.n_mid + found.n_mid, self._counts.n_hi + found.n_hi)


def _pieces(values: Tensor) -> list[slice]:
    """Parts along the first dimension in which to work on values elementwise."""
    most = _IN_CACHE if values.device.type == "cpu" else _EXACT
    rows = max(1, most // values[0].numel())
    return [slice(start, start + rows) for start in range(0, len(values), rows)]


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
