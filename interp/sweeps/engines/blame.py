"""Count how often workers died over a shard, and give up on one that kills them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from interp.errors import InterpError
from interp.sweeps.shard import Task

MOST = 3


class Blame:
    """The deaths of workers, by shard.

    Args:
        n_workers: how many there are at a time.
    """

    def __init__(self, n_workers: int = 1) -> None:
        self._most_starts = MOST * n_workers
        self._deaths: Counter[str] = Counter()
        self._starts = 0

    def add(self, tasks: Iterable[Task]) -> None:
        """Count a death over each of these shards.

        Raises:
            InterpError: it was one death too many.
        """
        for task in tasks:
            self._deaths[task.shard.name] += 1
            if self._deaths[task.shard.name] >= MOST:
                first, last = task.shard.prompt_ids[0], task.shard.prompt_ids[-1]
                raise InterpError(
                    f"{MOST} workers died over the shard of prompts {first} to {last}, out of memory perhaps: lower "
                    "interp.options.memory or workers=; what is finished is kept, and the same call goes on from there."
                )

    def begun(self) -> None:
        """Forget the workers that died as they began: one did not."""
        self._starts = 0

    def add_start(self, reason: str) -> None:
        """Count the death of a worker before its first shard.

        Raises:
            InterpError: it was one death too many, with no other worker between.
        """
        self._starts += 1
        if self._starts >= self._most_starts:
            raise InterpError(f"{self._starts} workers died as they began: {reason.rstrip('.')}.")
