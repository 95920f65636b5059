"""Run shards in several processes of this machine, with the standard library's pool."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing

from interp.options import options
from interp.sweeps.engines.blame import Blame
from interp.sweeps.shard import Done, Task
from interp.sweeps.work import Work

_work: Work | None = None  # in a worker


def run(work: Work, tasks: Sequence[Task], workers: int) -> Iterator[Done]:
    """Yield each shard as it is kept; a worker that dies is replaced.

    Raises:
        InterpError: workers die over one shard again and again, or the probe refuses it.
    """
    waiting, blame = deque(tasks), Blame()
    while waiting:
        running: dict[Future[Done | Exception], Task] = {}
        try:
            with closing(_until_one_dies(work, waiting, running, workers)) as done:
                yield from done
        except BrokenProcessPool:
            lost = list(running.values())
            waiting.extendleft(reversed(lost))
            blame.add(lost)


def _until_one_dies(
    work: Work, waiting: deque[Task], running: dict[Future[Done | Exception], Task], workers: int
) -> Generator[Done]:
    """Yield finished shards; `waiting` and `running` say at any time what is left."""
    # Fresh interpreters: a copy of this one would share locks, threads and a GPU's state with it.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(waiting)), context, _begin, (work,))
    try:
        while waiting or running:
            while waiting and len(running) <= workers:  # one is ready for whoever is done first
                running[pool.submit(_compute, waiting[0])] = waiting[0]
                waiting.popleft()
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                finished = future.result()
                del running[future]
                if isinstance(finished, Exception):
                    raise finished
                yield finished
    finally:
        # Wait for the workers' end, which Python does not do in a process that is itself a worker; not for a shard.
        pool.shutdown(wait=not running, cancel_futures=True)


def _begin(work: Work) -> None:
    """Prepare a worker, which ends when its parent does, be that killed."""
    global _work
    _work, options.progress = work, False
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _compute(task: Task) -> Done | Exception:
    assert _work is not None
    return _work.attempt(task)
