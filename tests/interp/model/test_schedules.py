"""Plans: the fewest block runs, in few calls, whatever the schedules."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp.model.schedules import Plan, plan

orders = st.lists(st.lists(st.integers(0, 4), max_size=7).map(tuple), max_size=8)


def deletions(n: int) -> list[tuple[int, ...]]:
    return [(*range(i), *range(i + 1, n)) for i in range(n)]


def swaps(n: int) -> list[tuple[int, ...]]:
    return [(*range(i), i + 1, i, *range(i + 2, n)) for i in range(n - 1)]


def distinct_prefixes(schedules: list[tuple[int, ...]]) -> int:
    """The optimum: each way in which schedules begin, but for the model's own, must be run once."""
    prefixes = {order[:n] for order in schedules for n in range(1, len(order) + 1)}
    return sum(prefix != tuple(range(len(prefix))) for prefix in prefixes)


@given(schedules=orders)
def test_plans_reach_the_optimum_and_run_everything_after_what_it_needs(schedules: list[tuple[int, ...]]) -> None:
    made = plan(schedules)
    assert made.n_block_runs == distinct_prefixes(schedules)
    done = {(root, ()) for root, _ in made.runs}
    for block, nodes in made.steps:
        for root, blocks in nodes:
            assert blocks[-1] == block
            assert (root, blocks[:-1]) in done
        assert done.isdisjoint(nodes)
        done.update(nodes)
    assert set(made.runs) <= done and len(done) == made.n_block_runs + len({root for root, _ in made.runs})


@given(schedules=orders, at_once=st.integers(1, 5))
def test_what_is_executed_is_what_was_ordered(schedules: list[tuple[int, ...]], at_once: int) -> None:
    """Residuals that spell the blocks run: base-6 digits, the root's intact prefix among them."""

    def intact(n: object) -> torch.Tensor:
        value = 0
        for block in range(int(n)):  # type: ignore[call-overload]
            value = value * 6 + block + 1
        return torch.full((2, 1, 1), value)

    sizes = []

    def run_block(block: int, residual: torch.Tensor) -> torch.Tensor:
        sizes.append(len(residual) // 2)
        return residual * 6 + block + 1

    found = plan(schedules).execute(intact, run_block, at_once)
    for order, residual in zip(schedules, found, strict=True):
        value = 0
        for block in order:
            value = value * 6 + block + 1
        assert residual.flatten().tolist() == [value, value]
    assert sum(sizes) == plan(schedules).n_block_runs and max(sizes, default=1) <= at_once


@pytest.mark.parametrize("n", [2, 3, 12, 48])
def test_deletions_and_swaps_climb_as_a_staircase(n: int) -> None:
    both = plan(deletions(n) + swaps(n))
    # The bound of the method: deletions and swaps apart. Together they share the block behind the gap.
    assert plan(deletions(n)).n_block_runs == n * (n - 1) // 2
    assert plan(swaps(n)).n_block_runs == (n - 1) * (n + 2) // 2
    assert both.n_block_runs == n * (n - 1) // 2 + (n - 1) * (n + 2) // 2 - (n - 1)
    # One call per block for all that climb, and one for each swap's step back.
    assert both.n_calls == 2 * (n - 1)


def test_names_do_not_matter() -> None:
    assert plan({"a": (0, 2), "b": (0, 2, 1)}) == plan([(0, 2), (0, 2, 1)])


def test_roots_of_other_names_share_nothing() -> None:
    made = Plan((("edited", (1, 2)), (1, (1, 2)), ("edited", (1, 2))))
    assert made.n_block_runs == 4 and made.n_calls == 2
    found = made.execute(
        lambda root: torch.tensor([[[10.0 if root == "edited" else 1.0]]]), lambda block, residual: residual + block
    )
    assert [float(residual) for residual in found] == [13.0, 4.0, 13.0]
