"""Schedules (orders in which blocks run) and the cheapest plan for running many of them.

Schedules share the runs of their common prefix, and runs of the same block form one batch: deletions and swaps of all
blocks take a single pass up the model.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import TypeAlias

import torch
from torch import Tensor

from interp.errors import InputError

Schedule: TypeAlias = Sequence[int]
"""The order in which blocks run: (0, 1, 3, 4) deletes block 2, (0, 2, 1, 3, 4) swaps 1 and 2; repeats are allowed."""

Root: TypeAlias = Hashable
"""The start of a run: the number of blocks already run in the model's own order, or a name given by the caller."""

_Node: TypeAlias = tuple[Root, tuple[int, ...]]  # a root and the blocks run after it


@dataclass(frozen=True)
class Plan:
    """A plan for many runs with the fewest block runs, and few calls.

    Properties are not cached: a plan is sent to the model, and the lock of a cached property cannot be pickled.

    Attributes:
        runs: for each run, in the given order, its root and the blocks to run from it.
    """

    runs: tuple[_Node, ...]

    @property
    def steps(self) -> tuple[tuple[int, tuple[_Node, ...]], ...]:
        """The calls in order: a block and the nodes it leads to, all in one batch.

        The lowest-numbered ready block always runs next, so that schedules meet at the same block and share a batch.
        """
        children: dict[_Node, list[_Node]] = defaultdict(list)
        for node in sorted(self._nodes, key=lambda node: (len(node[1]), node[1])):
            children[_parent(node)].append(node)
        ready = [(child[1][-1], index, child) for index, child in enumerate(self._first(children))]
        heapq.heapify(ready)
        steps, count = [], len(ready)
        while ready:
            block, together = ready[0][0], []
            while ready and ready[0][0] == block:
                together.append(heapq.heappop(ready)[2])
            steps.append((block, tuple(together)))
            for child in (child for node in together for child in children[node]):
                heapq.heappush(ready, (child[1][-1], count, child))
                count += 1
        return tuple(steps)

    @property
    def n_block_runs(self) -> int:
        """Block runs per batch: one for each distinct sequence of blocks that some run begins with."""
        return len(self._nodes)

    @property
    def n_calls(self) -> int:
        """Calls of blocks, each on a batch of all runs that need that block at that point."""
        return len(self.steps)

    @property
    def _nodes(self) -> frozenset[_Node]:
        return frozenset((root, blocks[:n]) for root, blocks in self.runs for n in range(1, len(blocks) + 1))

    def _first(self, children: Mapping[_Node, list[_Node]]) -> list[_Node]:
        return [
            child for root in dict.fromkeys(root for root, _ in self.runs) for child in children.get((root, ()), [])
        ]

    def execute(
        self,
        start: Callable[[Root], Tensor],
        run_block: Callable[[int, Tensor], Tensor],
        at_once: int = 64,
        keep: Callable[[Tensor], Tensor] | None = None,
    ) -> list[Tensor]:
        """Run the plan.

        Args:
            start: root -> residual [batch, pos, d_model]; called once per root, when the first run leaves it.
            run_block: (block, residuals) -> residuals; the residuals of several runs are stacked along the batch.
            at_once: the most runs in one call.
            keep: applied to the residual after each run, before the next is taken.

        Returns:
            The residual after each run, [batch, pos, d_model], or what `keep` made of it, in the order of `runs`. A
            residual is freed as soon as no run needs it any more.
        """
        uses = Counter([_parent(node) for node in self._nodes] + list(self.runs))
        states: dict[_Node, Tensor] = {}

        def take(node: _Node) -> Tensor:
            uses[node] -= 1
            if node not in states and not node[1]:
                states[node] = start(node[0])
            return states[node] if uses[node] else states.pop(node)

        for block, nodes in self.steps:
            for some in (nodes[first : first + at_once] for first in range(0, len(nodes), at_once)):
                entering = [take(_parent(node)) for node in some]
                leaving = run_block(block, torch.cat(entering) if len(entering) > 1 else entering.pop())
                entering.clear()
                states |= zip(some, leaving.chunk(len(some)) if len(some) > 1 else [leaving], strict=True)
        return [take(node) if keep is None else keep(take(node)) for node in self.runs]


def plan(schedules: Mapping[str, Schedule] | Iterable[Schedule]) -> Plan:
    """Return the plan for schedules; a prefix in the model's own order is on the tape and is not run again.

    >>> plan({"delete 1": (0, 2, 3), "swap 1 and 2": (0, 2, 1, 3)}).n_block_runs
    4
    """
    orders = schedules.values() if isinstance(schedules, Mapping) else schedules
    return Plan(tuple(run_of(order) for order in orders))


def run_of(order: Schedule) -> tuple[int, tuple[int, ...]]:
    """Return a schedule as a run: the number of blocks it begins with in the model's own order, and the blocks after.

    >>> run_of((0, 1, 3, 2))
    (2, (3, 2))
    """
    blocks = tuple(int(index) for index in order)
    intact = next((n for n, index in enumerate(blocks) if index != n), len(blocks))
    return intact, blocks[intact:]


def check_schedules(schedules: Iterable[Schedule], n_layers: int) -> None:
    """Raise InputError if a schedule is not a sequence of blocks in 0..n_layers-1."""
    for order in schedules:
        if not hasattr(order, "__getitem__") or not all(isinstance(index, Integral) for index in order):
            raise InputError(f"{order!r} is not a schedule; give a sequence of block numbers, such as (0, 1, 3).")
        for index in order:
            if not 0 <= index < n_layers:
                raise InputError(f"block {index} is not in a model of {n_layers} blocks (0 to {n_layers - 1}).")


def _parent(node: _Node) -> _Node:
    return node[0], node[1][:-1]
