"""Regression from sums: what least squares needs, gathered batch by batch in float64, so that no state is stored."""

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

from interp.model.subject import Subject
from interp.model.tape import Tape
from interp.model.tokens import Batch
from interp.runs.run import Run
from interp.stats.least_squares import Accumulate, add_products


class Stream(Protocol):
    """Takes in what it needs of each batch."""

    def add(self, tape: Tape, batch: Batch, accumulate: Accumulate) -> None:
        """Read one recorded batch; sums that `accumulate` adds to are complete after the batch."""


@contextmanager
def one_core_each() -> Iterator[ThreadPoolExecutor]:
    """As many threads as torch had, each a core of its own: within one task torch and BLAS use no others."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with _libraries().limit(limits=1, user_api="blas"), ThreadPoolExecutor(n_threads) as pool:
            yield pool
    finally:
        torch.set_num_threads(n_threads)


@contextmanager
def in_background(device: torch.device) -> Iterator[Accumulate]:
    """`add_products` on all cores: each product on one, while torch prepares the next on another.

    Within a product torch's threads and numpy's would take turns waiting for each other. All sums are complete at the
    end; no two products of a batch go into the same one.
    """
    n_threads = torch.get_num_threads()
    if device.type != "cpu" or n_threads == 1:
        yield add_products
        return
    with ExitStack() as undo:
        pending: list[Future[None]] = []
        slots = Semaphore(2 * n_threads)  # each product that waits holds its factors

        @cache
        def pool() -> ThreadPoolExecutor:
            """Made for the first product: until then, and for streams that have none, torch keeps all cores."""
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


def collect(run: Run, streams: Sequence[Stream], model: Subject | None = None) -> None:
    """Feed every batch of a run to all streams; one forward pass serves them all.

    Args:
        run: whose batches.
        streams: what takes them in.
        model: run in place of the run's own subject: that subject with some of its weights masked, say.
    """
    subject = model or run.subject

    def feed(tape: Tape, batch: Batch) -> None:
        with in_background(tape.last.device) as accumulate:
            for stream in streams:
                stream.add(tape, batch, accumulate)

    for batch in run.batches():
        subject.run(batch.ids, partial(feed, batch=batch))


def whole_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """Summary of what is streamed: the frame itself. A corpus is one sample, without intervals over prompts."""
    return frame.reset_index(drop=True)
