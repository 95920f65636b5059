"""Collect the sums that least squares needs, batch by batch in float64, so that no residuals are stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from threading import Semaphore
from typing import Protocol

import pandas as pd
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from interp.checks import checked
from interp.model.subject import Subject
from interp.model.tape import Tape
from interp.model.tokens import Batch
from interp.options import options
from interp.runs.run import Run
from interp.stats.least_squares import Accumulate, add_products

STATES = 2
"""Residuals held per layer while streams read a batch: the tape's, and a few layers' in float64."""


class Stream(Protocol):
    """A consumer of recorded batches, such as sums for a regression.

    An attribute `n_bytes`, if it has one, says how much memory it holds throughout: batches get the rest of the budget.
    """

    def add(self, tape: Tape, batch: Batch, accumulate: Accumulate) -> None:
        """Read one recorded batch; sums that `accumulate` adds to are complete after the batch."""


@checked
@contextmanager
def one_core_each() -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of as many threads as torch had, and let torch and BLAS use one core in each of its tasks."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with _libraries().limit(limits=1, user_api="blas"), ThreadPoolExecutor(n_threads) as pool:
            yield pool
    finally:
        torch.set_num_threads(n_threads)


@contextmanager
def in_background(device: torch.device) -> Iterator[Accumulate]:
    """Yield `add_products` that runs on all cores: each product on one, while torch prepares the next on another.

    Several threads within a product would make torch's and numpy's threads wait for each other. All sums are complete
    at the end; no two products of a batch may go into the same sum.
    """
    n_threads = torch.get_num_threads()
    if device.type != "cpu" or n_threads == 1:
        yield add_products
        return
    with ExitStack() as undo:
        pending: list[Future[None]] = []
        slots = Semaphore(2 * n_threads)  # each waiting product holds its factors in memory

        @cache
        def pool() -> ThreadPoolExecutor:
            """Create the pool at the first product: until then, and for streams without any, torch keeps all cores."""
            return undo.enter_context(one_core_each())

        def add(total: Tensor, x: Tensor, y: Tensor) -> None:
            slots.acquire()
            pending.append(pool().submit(add_products, total, x, y))
            pending[-1].add_done_callback(lambda _: slots.release())

        yield add
        for one in pending:
            one.result()


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


@checked
def collect(run: Run, streams: Sequence[Stream], model: Subject | None = None) -> None:
    """Feed every batch of a run to all streams, with one forward pass for all of them.

    Args:
        run: the run that gives the batches.
        streams: the consumers.
        model: run instead of the run's own subject, for example that subject with some weights masked.
    """
    subject = model or run.subject

    def feed(tape: Tape, batch: Batch) -> None:
        with in_background(tape.last.device) as accumulate:
            for stream in streams:
                stream.add(tape, batch, accumulate)

    with options.reserving(sum(getattr(stream, "n_bytes", 0) for stream in streams)):
        for batch in run.batches(STATES):
            subject.run(batch.ids, partial(feed, batch=batch))


@checked
def whole_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame itself as the summary: a corpus is one sample, without intervals over prompts."""
    return frame.reset_index(drop=True)
