"""One clean forward pass, recorded: any order of blocks can be run again from it, exactly.

A `Tape` holds the residual that entered each block and what else the block was called with (masks, rotary embeddings,
positions), so that a block can be run on any residual. Masks travel with their block: a sliding-window block keeps its
window wherever a schedule puts it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, TypeAlias

from torch import Tensor

from interp.errors import InputError
from interp.head import Head

Schedule: TypeAlias = Sequence[int]
"""The order in which blocks run: (0, 1, 3, 4) deletes block 2, (0, 2, 1, 3, 4) swaps 1 and 2; repeats are allowed."""


@dataclass(frozen=True)
class Call:
    """The arguments a block was called with; the first positional one, or `hidden_states`, is the residual."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @property
    def residual(self) -> Tensor:
        """What entered the block, [batch, pos, d_model]."""
        residual: Tensor = self.args[0] if self.args else self.kwargs["hidden_states"]
        return residual

    def on(self, block: Callable[..., Any], residual: Tensor) -> Tensor:
        """Run `block` on another residual with everything else as recorded."""
        if self.args:
            out = block(residual, *self.args[1:], **self.kwargs)
        else:
            out = block(**{**self.kwargs, "hidden_states": residual})
        result: Tensor = out[0] if isinstance(out, tuple) else out
        return result


@dataclass(frozen=True)
class Tape:
    """A recorded forward pass.

    Attributes:
        calls: how each block was called, length n_layers.
        last: the residual leaving the last block, [batch, pos, d_model].
        mids: the residual between attention and MLP of each block, [batch, pos, d_model]; empty unless asked for.
        blocks: the blocks themselves.
        head: residual [..., d_model] -> logits [..., d_vocab]: final norm, unembedding, and what the model does after.
        raw_head: the same without the final norm.
    """

    calls: Sequence[Call]
    last: Tensor
    mids: Sequence[Tensor]
    blocks: Sequence[Callable[..., Any]]
    head: Head
    raw_head: Head

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return len(self.calls)

    def residual(self, layer: int) -> Tensor:
        """The residual at `layer`, [batch, pos, d_model]: 0 enters the first block, n_layers leaves the last.

        Raises:
            InputError: `layer` is not in 0..n_layers.
        """
        if not 0 <= layer <= self.n_layers:
            raise InputError(f"layer {layer} is not on the tape: its residuals run from 0 to {self.n_layers}.")
        return self.last if layer == self.n_layers else self.calls[layer].residual

    def run_block(self, index: int, residual: Tensor) -> Tensor:
        """Block `index` on any residual [batch, pos, d_model] of the recorded batch."""
        return self.calls[index].on(self.blocks[index], residual)

    def replay(self, schedule: Schedule) -> Tensor:
        """The residual after running the blocks in this order, [batch, pos, d_model]."""
        return next(self.replay_all([schedule]))[1]

    def replay_all(self, schedules: Sequence[Schedule]) -> Iterator[tuple[int, Tensor]]:
        """Run many schedules, each shared prefix once; a prefix in the model's own order is not run at all.

        Yields:
            (index into `schedules`, residual after it), in the order of the schedules' own sorting. At most
            one residual per block of the longest schedule is held beside the tape.

        Raises:
            InputError: a schedule names a block that is not there.
        """
        check_schedules(schedules, self.n_layers)
        path: list[int] = []
        states = [self.residual(0)]
        for index in sorted(range(len(schedules)), key=lambda index: tuple(schedules[index])):
            order = tuple(schedules[index])
            shared = _common_prefix(path, order)
            del states[shared + 1 :]
            for depth in range(shared, len(order)):
                intact = order[: depth + 1] == tuple(range(depth + 1))
                states.append(self.residual(depth + 1) if intact else self.run_block(order[depth], states[-1]))
            path = list(order)
            yield index, states[-1]


def n_block_runs(schedules: Sequence[Schedule]) -> int:
    """How many block runs `replay_all` needs: the prefixes that differ from one another and from the model's own order.

    >>> n_block_runs([(0, 1, 2), (0, 2), (0, 2, 1)])
    2
    """
    prefixes = {tuple(order[:n]) for order in schedules for n in range(1, len(order) + 1)}
    return sum(prefix != tuple(range(len(prefix))) for prefix in prefixes)


def check_schedules(schedules: Sequence[Schedule], n_layers: int) -> None:
    """Raise InputError where a schedule is no sequence of blocks in 0..n_layers-1."""
    for order in schedules:
        if not hasattr(order, "__getitem__") or not all(isinstance(index, Integral) for index in order):
            raise InputError(f"{order!r} is not a schedule; give a sequence of block numbers, such as (0, 1, 3).")
        for index in order:
            if not 0 <= index < n_layers:
                raise InputError(f"block {index} is not in a model of {n_layers} blocks (0 to {n_layers - 1}).")


def _common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    n = 0
    while n < min(len(left), len(right)) and left[n] == right[n]:
        n += 1
    return n
