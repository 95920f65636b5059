"""Tell what a search will cost, before and while it runs: memory, the least and then the likely time, and a bar."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from interp.authoring import Subject, progress_bar, seconds_of_products, spoken, warn
from probes.subnetworks.search._parameters import MaskUnit, n_parameters
from probes.subnetworks.search._training import Logged, MaskSchedule, MaskTraining, rows_at_once

_TIMED = 3  # steps after which their time is known; the first is slower, as the model is verified in it
_LONG = 3600.0  # seconds of a search that is worth a warning
_FLOAT = 4  # bytes


class Forecast:
    """The cost of a search for several sparsities, one after the other.

    Args:
        subject: the model.
        unit: of the masks.
        schedule: of every training.
        n_searches: number of sparsities.
    """

    def __init__(self, subject: Subject, unit: MaskUnit, schedule: MaskSchedule, n_searches: int) -> None:
        self._schedule, self._n_searches = schedule, n_searches
        self._told_memory = self._told_time = self._warned = False
        matrices = subject.weight_matrices()
        n_weights = sum(matrix.weight.numel() for matrix in matrices)
        n_masks = n_parameters(matrices, unit, subject.n_heads)
        # Masked weights in the model's precision; each mask and its two moments in float32.
        self.held = n_weights * matrices[0].weight.element_size() + 3 * _FLOAT * n_masks
        n_tokens = schedule.batch * schedule.length
        rows = min(n_tokens, rows_at_once(subject.device))
        states = subject.n_layers * (
            16 * subject.d_model + 4 * (subject.d_mlp or 0) + 3 * subject.n_heads * schedule.length
        )
        # Logits, their logarithms and gradients, and what the backward pass needs of every block.
        self.per_step = _FLOAT * (4 * rows * subject.d_vocab + n_tokens * states)
        self.memory = (
            f"find_subnetwork: {n_masks:,} masks over {n_weights:,} weights, {_bytes(self.held)} beside the model and "
            f"about {_bytes(self.per_step)} more in a step of {n_tokens:,} tokens"
        )
        # The forward pass, the gradients of states and those of weights; masks and optimiser come on top.
        per_token = 3 * (n_weights + subject.d_model * subject.d_vocab)
        self.products = float(n_tokens) * per_token * schedule.steps * n_searches
        self._subject = subject

    def before(self) -> tuple[float, str]:
        """Return the seconds that the matrix products of all steps take at least, and a sentence of memory and time."""
        seconds = seconds_of_products(self._subject, self.products)
        if seconds < 1:
            return seconds, self.memory
        return seconds, f"{self.memory}; all steps take at least {spoken(seconds)}, in matrix products alone"

    def time(self, seconds: Sequence[float]) -> tuple[float, str]:
        """Return the seconds of all steps of all searches, from those of the first steps, and a sentence of it."""
        step = statistics.median(seconds)
        total = step * self._schedule.steps * self._n_searches
        searches = "" if self._n_searches == 1 else f" for each of {self._n_searches} sparsities"
        return total, (
            f"find_subnetwork: a step takes {step:.2g} s, so {self._schedule.steps:,} steps{searches} take "
            f"{spoken(total)}, or less if the masks are decided earlier"
        )

    @contextmanager
    def bar(
        self, sparsity: float, start: Callable[[], MaskTraining]
    ) -> Iterator[tuple[MaskTraining, Callable[[Logged], None]]]:
        """Start a training under a bar with loss, kept fraction and time left, below the forecast.

        Args:
            sparsity: of the training.
            start: makes the training, which allocates the masks.

        Yields the training, and what is to be called after each step. The bar ends early if the masks are decided.
        """
        with progress_bar(self._schedule.steps, "step", f"sparsity {sparsity:g}") as bar:
            if not self._told_memory:
                self._tell(bar, *self.before())
            self._told_memory = True
            training = start()
            bar.initial = bar.n = training.progress.step  # what an interrupted call has done
            bar.refresh()
            before = training.progress.seconds
            times: list[float] = []

            def report(logged: Logged) -> None:
                nonlocal before
                if logged.step < bar.n:  # another attempt
                    bar.reset()
                bar.set_postfix(
                    xent=f"{logged.xent:.3f}", bound=f"{logged.entropy:.3f}", kept=f"{logged.soft_kept:.3%}"
                )
                bar.update()
                times.append(logged.seconds - before)
                before = logged.seconds
                if len(times) == _TIMED and not self._told_time:
                    self._told_time = True
                    self._tell(bar, *self.time(times[1:]))

            yield training, report

    def _tell(self, bar: Any, seconds: float, sentence: str) -> None:
        _say(bar, sentence)
        if seconds > _LONG and not self._warned:
            self._warned = True
            warn(f"{sentence}; recipe='cpu' masks rows in minutes, and out= lets a search be interrupted.")


def _say(bar: Any, sentence: str) -> None:
    """Write a sentence above a bar, if bars are shown."""
    if not bar.disable:
        bar.write(sentence, file=sys.stderr)


def _bytes(n: float) -> str:
    return f"{n / 2**30:.1f} GiB" if n >= 2**30 / 10 else f"{n / 2**20:.1f} MiB"
