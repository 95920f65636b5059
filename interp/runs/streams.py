"""Collect the sums that least squares needs, batch by batch in float64, so that no residuals are stored."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from threading import Semaphore
from typing import Any, Protocol

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


class Sums(Stream, Protocol):
    """A stream that comes to the same end wherever its batches are read: what it holds of some prompts can be merged.

    `interp.sweep` divides the prompts of a probe that has one, see `interp.probe(sums=)`.
    """

    def state(self) -> Mapping[str, Tensor]:
        """Return what it holds of the batches that it read, as tensors."""

    def merge(self, state: Mapping[str, Tensor]) -> None:
        """Add what another one of the same run holds of other batches."""

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """Return the rows, or columns of rows, of the probe's frame once all prompts were read."""


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
def collect(
    run: Run, streams: Sequence[Stream], model: Subject | None = None, prompt_ids: Collection[int] | None = None
) -> None:
    """Feed every batch of a run to all streams, with one forward pass for all of them.

    Args:
        run: the run that gives the batches.
        streams: the consumers.
        model: run instead of the run's own subject, for example that subject with some weights masked.
        prompt_ids: of the prompts to read; None reads all.
    """
    subject = model or run.subject

    def feed(tape: Tape, batch: Batch) -> None:
        with in_background(tape.last.device) as accumulate:
            for stream in streams:
                stream.add(tape, batch, accumulate)

    with options.reserving(sum(getattr(stream, "n_bytes", 0) for stream in streams)):
        for batch in run.batches(STATES, prompt_ids=prompt_ids):
            subject.run(batch.ids, partial(feed, batch=batch))


@checked
def whole_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame itself as the summary: a corpus is one sample, without intervals over prompts."""
    return frame.reset_index(drop=True)
