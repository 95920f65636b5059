"""Say what a long run will cost before it starts."""

from __future__ import annotations

import sys
import time

import torch

from interp.checks import checked
from interp.model.subject import Subject
from interp.options import options
from interp.runs.run import Run

_LONG = 60.0  # seconds of a run that is worth a sentence
_SURELY_SHORT = 1e11  # multiplications that take no minute on any machine
_ROWS, _REPEATS = 512, 3  # of the product that is timed


@checked
def say_cost(
    run: Run, *, passes: float = 0.0, unembedded: float = 0.0, products: float = 0.0, n_tokens: int | None = None
) -> None:
    """Say on stderr how long a run will take, if that is more than a minute, where progress bars are shown.

    Time is estimated from the number of multiplications in matrix products and the speed of one of them, measured on
    the model's device as if nothing else ran there: attention's own products and everything elementwise come on top, a
    third more in a usual run.

    Args:
        run: the run that starts.
        passes: forward passes over all its tokens, without the unembedding; a part of the blocks is a part of a pass.
            A backward pass to the first block's input counts as one more.
        unembedded: rows that are read by the unembedding, in all.
        products: other multiplications in float32; one in float64 counts as two.
        n_tokens: of a pass, if not all tokens of the run's texts.
    """
    if hidden():
        return
    subject = run.subject
    if n_tokens is None:
        n_tokens = sum(len(ids) for ids in run.tokens.ids) if passes else 0
    mlp = 8 * subject.d_model if subject.d_mlp is None else 3 * subject.d_mlp
    of_pass = float(n_tokens) * subject.n_layers * subject.d_model * (4 * subject.d_model + mlp)
    total = passes * of_pass + unembedded * subject.d_model * subject.d_vocab + products
    if total < _SURELY_SHORT:
        return
    seconds = seconds_of_products(subject, total)
    if seconds < _LONG:
        return
    spoken_passes = f"{passes:,.0f}" if passes >= 100 else f"{passes:.3g}"
    passes_of = "forward pass of" if passes == 1 else "forward passes of"
    parts = [f"{spoken_passes} {passes_of} {n_tokens:,} tokens"] if passes else []
    parts += [f"{unembedded:,.0f} unembeddings"] if unembedded else []
    parts += [f"{products:.2g} other multiplications"] if products else []
    print(f"{run.schema.probe}: about {spoken(seconds)} for {', '.join(parts)}.", file=sys.stderr, flush=True)


@checked
def seconds_of_products(subject: Subject, n: float) -> float:
    """Estimate how many seconds a number of multiplications in matrix products takes on a model's device.

    The speed is measured, by one product in the model's dtype.

    >>> from interp import load
    >>> seconds_of_products(load("reference"), 1e9) > 0
    True
    """
    return n / _speed(subject)


def hidden() -> bool:
    """Return whether bars are hidden: by the option, or without one where stderr is not a terminal or a notebook."""
    return not sys.stderr.isatty() if options.bars_hidden is None else options.bars_hidden


@checked
def spoken(seconds: float) -> str:
    """Return a duration in words.

    >>> spoken(90), spoken(600), spoken(9000)
    ('90 seconds', '10 minutes', '2.5 hours')
    """
    if seconds >= 2 * 3600:
        return f"{seconds / 3600:.1f} hours"
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"


def _speed(subject: Subject) -> float:
    """Measure the multiplications per second of a product in the model's dtype, on its device."""
    left = torch.ones(_ROWS, subject.d_model, dtype=subject.dtype, device=subject.device)
    right = torch.ones(subject.d_model, 4 * subject.d_model, dtype=subject.dtype, device=subject.device)
    on_cpu = subject.device.type == "cpu"
    clock = time.process_time if on_cpu else time.perf_counter  # processor seconds do not count other work
    shortest = float("inf")
    for _ in range(1 + _REPEATS):  # the first one starts threads and kernels
        start = clock()
        float((left @ right)[0, 0])  # waits for a GPU
        shortest = min(shortest, clock() - start)
    return _ROWS * right.numel() * (torch.get_num_threads() if on_cpu else 1) / shortest
