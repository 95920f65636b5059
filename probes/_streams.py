"""Regression from sums: what least squares needs, gathered batch by batch in float64, so that no state is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from threading import Semaphore
from typing import Protocol, TypeAlias

import pandas as pd
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from interp.run import Run
from interp.subject import Subject
from interp.tape import Tape
from interp.tokens import Batch

# Eigenvalues of a correlation matrix below this share of the largest are float32 rounding, squared: a direction that
# a norm has taken out of the states comes back as about 1e-14.
_NO_VARIANCE = 1e-12

Accumulate: TypeAlias = Callable[[Tensor, Tensor, Tensor], None]
"""(total [p, q], x [n, p], y [n, q]): adds the products of their columns to the total, see `add_products`."""


class Stream(Protocol):
    """Takes in what it needs of each batch."""

    def add(self, tape: Tape, batch: Batch, accumulate: Accumulate) -> None:
        """Read one recorded batch; sums that `accumulate` adds to are complete after the batch."""


def add_products(total: Tensor, x: Tensor, y: Tensor) -> None:
    """Add to `total` [p, q], over rows, the products of every column of x [n, p] with every one of y [n, q].

    On a CPU numpy's BLAS is the faster one in float64, and computes only half of x with itself.
    """
    if x.device.type == "cpu":
        left = x.numpy()
        total += torch.from_numpy(left.T @ (left if y is x else y.numpy()))
    else:
        total += x.T @ y


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


@dataclass
class Moments:
    """Sums over rows of x [n, p] and y [n, q], float64.

    Attributes:
        n: number of rows.
        x, y: sums, [p] and [q].
        xx, xy: sums of products, [p, p] and [p, q].
        yy: sums of squares, [q].
    """

    n: int
    x: Tensor
    y: Tensor
    xx: Tensor
    xy: Tensor
    yy: Tensor

    def __add__(self, other: Moments) -> Moments:
        pairs = zip(self._sums(), other._sums(), strict=True)
        return Moments(self.n + other.n, *(one + another for one, another in pairs))

    @classmethod
    def zeros(cls, p: int, q: int, device: torch.device | str = "cpu") -> Moments:
        """Of no rows yet."""
        shapes: tuple[tuple[int, ...], ...] = ((p,), (q,), (p, p), (p, q), (q,))
        return cls(0, *(torch.zeros(shape, dtype=torch.float64, device=device) for shape in shapes))

    def add(
        self,
        x: Tensor,
        y: Tensor,
        runs: tuple[Tensor, Tensor] | None = None,
        accumulate: Accumulate = add_products,
    ) -> None:
        """Take in rows, float64.

        Args:
            x: [n, p].
            y: [n, q], or their first columns.
            runs: for the columns of y after those, which runs of consecutive rows share: the values of each run [r, s]
                and its number of rows [r]. Products are then as many as runs, not rows.
            accumulate: how products are added up.
        """
        own = y.shape[1]
        self.n += len(x)
        self.x += x.sum(0)
        accumulate(self.xx, x, x)
        self.y[:own] += y.sum(0)
        accumulate(self.xy[:, :own], x, y)
        self.yy[:own] += y.square().sum(0)
        if runs is None or not len(x):
            return
        values, lengths = runs
        self.y[own:] += lengths.double() @ values
        accumulate(self.xy[:, own:], torch.segment_reduce(x, "sum", lengths=lengths), values)
        self.yy[own:] += lengths.double() @ values.square()

    def about(self, x: Tensor, y: Tensor) -> Scatter:
        """Sums of products of differences from the points x [p] and y [q]."""
        return Scatter(
            self.n,
            self.xx - torch.outer(self.x, x) - torch.outer(x, self.x) + self.n * torch.outer(x, x),
            self.xy - torch.outer(self.x, y) - torch.outer(x, self.y) + self.n * torch.outer(x, y),
            (self.yy - 2 * self.y * y + self.n * y.square()).clamp_(min=0.0),
        )

    def centred(self) -> Scatter:
        """Sums of products of differences from the means."""
        return self.about(self.x / self.n, self.y / self.n)

    def _sums(self) -> tuple[Tensor, ...]:
        return self.x, self.y, self.xx, self.xy, self.yy


@dataclass(frozen=True)
class Scatter:
    """Sums of products of centred x and y: `xx` [p, p], `xy` [p, q], `yy` [q] squares only; n rows."""

    n: int
    xx: Tensor
    xy: Tensor
    yy: Tensor

    def fit(self) -> Fit:
        """Least squares of y on x, over the directions in which x varies at all."""
        scale = self.xx.diagonal().clamp(min=0.0).rsqrt().nan_to_num(posinf=0.0)
        # Of the correlations: a few dimensions of huge variance would else hide all others behind their rounding.
        values, vectors = torch.linalg.eigh(scale[:, None] * self.xx * scale)
        kept = values > _NO_VARIANCE * values[-1].clamp(min=0.0)
        roots = scale[:, None] * vectors[:, kept] * values[kept].rsqrt()
        loadings = roots.T @ self.xy
        return Fit(roots @ loadings, loadings.square().sum(0), int(kept.sum()))

    def of(self, dims: Tensor) -> Scatter:
        """Of some dimensions only, bool [p], the same of x and of y where y has any."""
        both = dims if len(self.yy) else torch.zeros_like(self.yy, dtype=torch.bool)
        return Scatter(self.n, self.xx[dims][:, dims], self.xy[dims][:, both], self.yy[both])

    def standardised(self) -> Scatter:
        """With every dimension of x and y scaled to the same variance; those without variance stay at 0."""
        x, y = (squares.rsqrt().nan_to_num(posinf=0.0) for squares in (self.xx.diagonal().clamp(min=0.0), self.yy))
        return Scatter(self.n, x[:, None] * self.xx * x, x[:, None] * self.xy * y, self.yy * y * y)

    def residual(self, coefficients: Tensor) -> Tensor:
        """Squared error [q] of predicting y by x times coefficients [p, q], whoever found them."""
        explained = 2 * self.xy - self.xx @ coefficients
        return (self.yy - (coefficients * explained).sum(0)).clamp_(min=0.0)


@dataclass(frozen=True)
class Fit:
    """A least-squares fit: `coefficients` [p, q], `explained` sums of squares [q], `rank` of x."""

    coefficients: Tensor
    explained: Tensor
    rank: int
