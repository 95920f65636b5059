"""Soft masks over weight matrices, trained by their own optimiser as the backward pass goes by.

A matrix's effective weight is w * sigmoid(T m) (continuous sparsification; Savarese, Silva & Maire, 2020), T an inverse
temperature. The pass computes the gradient of each effective weight; as soon as it is there it becomes that of m, m is
stepped, and the gradient is let go. Beyond the model this holds four copies of the masked weights at the finest unit:
effective weights, m, and the two moments of Adam.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from interp.model.weights import WeightMatrix, replaced
from probes.subnetworks.search._groups import Counts, Group, Member

MaskUnit: TypeAlias = Literal["weight", "row", "neuron", "head"]
"""What is kept or dropped together.

"weight": every weight by itself. "row": the weights into one output of a matrix. "neuron": an MLP neuron, its weights
in and out; attention by head. "head": an attention head, its queries, keys, values and output (with grouped keys and
values the heads that share them); an MLP as a whole.
"""

NEVER = -1e6  # m of what is exactly 0 in the model: no weight to keep


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
        self, matrices: Sequence[WeightMatrix], *, unit: MaskUnit, n_heads: int, sparsity: float, lr: float
    ) -> None:
        self.sparsity, self.inverse_temperature = sparsity, 1.0
        self.n_weights = sum(matrix.weight.numel() for matrix in matrices)
        self._effective: dict[nn.Module, nn.Parameter] = {}
        self._groups: dict[str, Group] = {}
        self._members: dict[nn.Module, list[Member]] = {}
        n_groups = _n_groups_of_heads(matrices, n_heads)
        for matrix in matrices:
            if matrix.module not in self._effective:
                self._effective[matrix.module] = nn.Parameter(torch.empty_like(matrix.module.weight))  # type: ignore[arg-type]
            self._add(matrix, _place(matrix, unit, n_groups), lr)
        self._never()
        self._counts, self._kept = Counts(), 0.0
        self._then: float | None = None
        self._ready: float | None = None  # the inverse temperature that effective weights are at, where known

    @property
    def m(self) -> dict[str, Tensor]:
        """Mask parameters by the name of their group, as they are stored."""
        return {name: group.m for name, group in self._groups.items()}

    @property
    def effective(self) -> list[nn.Parameter]:
        """What passes multiply by while masked, a parameter per module."""
        return list(self._effective.values())

    @contextmanager
    def masking(self, then: float | None = None) -> Iterator[list[nn.Parameter]]:
        """Within, passes use the effective weights, and a backward pass to those yielded makes a step.

        Args:
            then: the inverse temperature that comes next, for which the step leaves effective weights ready; None
                leaves those of before it. A pass must follow.
        """
        with ExitStack() as stack:
            stack.enter_context(replaced(self._effective))
            for module, weight in self._effective.items():
                handle = weight.register_post_accumulate_grad_hook(self._step(module))  # type: ignore[no-untyped-call]
                stack.callback(handle.remove)
            for group in self._groups.values():
                group.gathered.clear()
            self._counts, self._kept, self._ready, self._then = Counts(), 0.0, None, then
            yield self.effective
            self._ready = then  # not reached where the pass broke off

    @torch.no_grad()
    def refresh(self) -> float:
        """Compute the effective weights anew, unless a step has; returns the mean soft mask over all weights."""
        if self._ready is None or self._ready != self.inverse_temperature:
            t = self.inverse_temperature
            self._kept = sum(member.refresh(piece, t) for member in self._all() for piece in member.pieces())
        return self._kept / self.n_weights

    def counts(self) -> Counts:
        """After the backward pass's steps, at the temperature of that pass."""
        return self._counts

    @torch.no_grad()
    def hard(self) -> dict[str, Tensor]:
        """Which weights are kept: m above 0, and not 0 in the model; bool [out, in] on the CPU, by matrix."""
        return {member.matrix.name: member.hard().cpu().contiguous() for member in self._all()}

    def state(self) -> dict[str, dict[str, Tensor]]:
        """What training goes on from."""
        return {name: group.state() for name, group in self._groups.items()}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Go on from a `state`."""
        for name, group in self._groups.items():
            for key, value in group.state().items():
                value.copy_(state[name][key])
        self._ready = None

    def held_bytes(self) -> int:
        """Memory held beyond the model, from one step to the next."""
        tensors = [value for state in self.state().values() for value in state.values()] + self.effective
        return sum(one.numel() * one.element_size() for one in tensors)

    def _all(self) -> Iterator[Member]:
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
            self._groups[name] = Group(m, lr)
        group = self._groups[name]
        effective = matrix.view(self._effective[matrix.module].detach()).permute(order)
        member = Member(matrix, axis, group, order, own, effective)
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
                self._step_by(member, gradient)

        return step

    def _step_by(self, member: Member, of_effective: Tensor) -> None:
        """What a matrix's gradient allows: a step of its masks, if they are not waiting for other matrices' too."""
        group, penalty = member.group, self.sparsity / self.n_weights
        for piece in member.pieces():
            gradient = member.gradient(piece, of_effective, penalty)
            if len(group.members) > 1:
                group.gathered.append(gradient)
                if len(group.gathered) < len(group.members):
                    return
                gradient = torch.stack(group.gathered).sum(dim=0)
            self._counts += group.advance(piece, gradient, self.inverse_temperature)
            if self._then is not None:
                self._kept += sum(each.refresh(piece, self._then) for each in group.members)
        group.stepped()


def _in_memory_order(weights: Tensor) -> list[int]:
    """Dimensions from the slowest to the fastest, so that a pass over mask parameters and weights is a plain one."""
    strides: tuple[int, ...] = weights.stride()
    return sorted(range(weights.ndim), key=lambda dim: -strides[dim])


def _n_groups_of_heads(matrices: Sequence[WeightMatrix], n_heads: int) -> int:
    """Heads that can be kept one by one: where queries share keys and values, those that do go together."""
    rows = {matrix.component: matrix.shape[0] for matrix in matrices}
    return rows["k"] // (rows["q"] // n_heads)


def _place(matrix: WeightMatrix, unit: MaskUnit, n_groups: int) -> tuple[str, Literal[0, 1] | None, int]:
    """Name of the units that mask a matrix, the axis they lie along, and how many there are."""
    if unit == "weight":
        return matrix.name, None, 0
    if unit == "row":
        return matrix.name, 0, matrix.shape[0]
    reads = matrix.component in ("o", "mlp_out")  # the units of its block by columns, where the others make them
    if not matrix.component.startswith("mlp"):
        return f"blocks.{matrix.layer}.attn", 1 if reads else 0, n_groups
    return f"blocks.{matrix.layer}.mlp", 1 if reads else 0, matrix.shape[1 if reads else 0] if unit == "neuron" else 1
