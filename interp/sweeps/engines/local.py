"""Run shards one after another in this process, on the model that is already loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from interp.sweeps.shard import Done, Task
from interp.sweeps.work import Work


def run(work: Work, tasks: Sequence[Task]) -> Iterator[Done]:
    """Yield each shard as it is kept."""
    for task in tasks:
        yield work.run(task)
