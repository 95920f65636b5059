"""Soft masks over weight matrices, trained by their own optimiser during the backward pass.

A matrix's effective weight is w * sigmoid(T m) (continuous sparsification; Savarese, Silva & Maire, 2020), with T an
inverse temperature. As soon as the backward pass has the gradient of an effective weight, it is converted to that of m,
m is updated, and the gradient is freed. Beyond the model this holds four copies of the masked weights at the finest
unit: effective weights, m, and Adam's two moments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from interp.authoring import InputError
from interp.model.weights import WeightMatrix, replaced
from probes.subnetworks.search._groups import Counts, Group, Member

MaskUnit: TypeAlias = Literal["weight", "row", "neuron", "head"]
"""The weights that are kept or dropped together.

"weight": every weight by itself. "row": the weights into one output of a matrix. "neuron": an MLP neuron, its weights
in and out; attention by head. "head": an attention head, its queries, keys, values and output (with grouped keys and
values, the heads that share them); an MLP as a whole.
"""

NEVER = -1e6  # m of weights that are exactly 0 in the model: there is nothing to keep


class MaskParameters:
    """Mask parameters of all matrices of a model.

    Args:
        matrices: the matrices to mask.
        unit: the weights that are kept or dropped together.
        n_heads: of the model, for units of heads.
        sparsity: lambda, the weight of the mean soft mask in the loss.
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
        self._ready: float | None = None  # inverse temperature of the effective weights, if known

    @property
    def m(self) -> dict[str, Tensor]:
        """Mask parameters by the name of their group, as stored."""
        return {name: group.m for name, group in self._groups.items()}

    @property
    def effective(self) -> list[nn.Parameter]:
        """The weights that masked passes use, one parameter per module."""
        return list(self._effective.values())

    @contextmanager
    def masking(self, then: float | None = None) -> Iterator[list[nn.Parameter]]:
        """Use the masked weights inside this context; backward() to the yielded parameters updates the masks.

        Args:
            then: the next inverse temperature: the update also computes the effective weights for it, so the context
                must contain a backward pass. None leaves the effective weights as they were before the update.
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
            self._ready = then  # not reached if the pass raises

    @torch.no_grad()
    def refresh(self) -> float:
        """Compute the effective weights unless an update has, and return the mean soft mask over all weights."""
        if self._ready is None or self._ready != self.inverse_temperature:
            t = self.inverse_temperature
            self._kept = sum(member.refresh(chunk, t) for member in self._all() for chunk in member.chunks())
        return self._kept / self.n_weights

    def counts(self) -> Counts:
        """Return the counts after the updates of the backward pass, at the temperature of that pass."""
        return self._counts

    @torch.no_grad()
    def hard(self) -> dict[str, Tensor]:
        """Return which weights are kept (m above 0, and not 0 in the model): bool [out, in] on the CPU, by matrix."""
        return {member.matrix.name: member.hard().cpu().contiguous() for member in self._all()}

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Return the state that training resumes from."""
        return {name: group.state() for name, group in self._groups.items()}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Resume from a `state`."""
        for name, group in self._groups.items():
            for key, value in group.state().items():
                if state[name][key].shape != value.shape:  # `copy_` would broadcast it
                    raise InputError(f"{key} of {name} is {list(state[name][key].shape)}, not {list(value.shape)}.")
                value.copy_(state[name][key])
        self._ready = None

    def held_bytes(self) -> int:
        """Return the memory held beyond the model between steps."""
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
        """Update the masks of a matrix, once the gradients of all matrices that share them are there."""
        group, penalty = member.group, self.sparsity / self.n_weights
        for chunk in member.chunks():
            gradient = member.gradient(chunk, of_effective, penalty)
            if len(group.members) > 1:
                group.gathered.append(gradient)
                if len(group.gathered) < len(group.members):
                    return
                gradient = torch.stack(group.gathered).sum(dim=0)
            self._counts += group.advance(chunk, gradient, self.inverse_temperature)
            if self._then is not None:
                self._kept += sum(each.refresh(chunk, self._then) for each in group.members)
        group.stepped()


def n_parameters(matrices: Sequence[WeightMatrix], unit: MaskUnit, n_heads: int) -> int:
    """Return the number of mask parameters, before any is made."""
    n_groups = _n_groups_of_heads(matrices, n_heads)
    places = {
        name: (matrix.weight.numel() if axis is None else n_units)
        for matrix in matrices
        for name, axis, n_units in [_place(matrix, unit, n_groups)]
    }
    return sum(places.values())


def _in_memory_order(weights: Tensor) -> list[int]:
    """Return the dimensions from slowest to fastest, so that passes over m and weights read memory in order."""
    strides: tuple[int, ...] = weights.stride()
    return sorted(range(weights.ndim), key=lambda dim: -strides[dim])


def _n_groups_of_heads(matrices: Sequence[WeightMatrix], n_heads: int) -> int:
    """Return the number of heads that can be kept one by one; queries that share keys and values count as one."""
    rows = {matrix.component: matrix.shape[0] for matrix in matrices}
    return rows["k"] // (rows["q"] // n_heads)


def _place(matrix: WeightMatrix, unit: MaskUnit, n_groups: int) -> tuple[str, Literal[0, 1] | None, int]:
    """Return the name of the units that mask a matrix, the axis they lie along, and their number."""
    if unit == "weight":
        return matrix.name, None, 0
    if unit == "row":
        return matrix.name, 0, matrix.shape[0]
    reads = matrix.component in ("o", "mlp_out")  # units are its columns, and rows of the other matrices
    if not matrix.component.startswith("mlp"):
        return f"blocks.{matrix.layer}.attn", 1 if reads else 0, n_groups
    return f"blocks.{matrix.layer}.mlp", 1 if reads else 0, matrix.shape[1 if reads else 0] if unit == "neuron" else 1
