"""Time functions in interleaved rounds, and measure the process's resident memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path


def interleaved(
    rounds: dict[str, Callable[[], object]],
    repeats: int,
    *,
    warm_up: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Return the median seconds of each function, run in rounds of all of them, so that a slow minute slows all alike.

    Args:
        rounds: the functions by name.
        repeats: rounds that count.
        warm_up: rounds before them that do not count.
        clock: `time.process_time` for processor seconds.
    """
    times: dict[str, list[float]] = {name: [] for name in rounds}
    for repeat in range(-warm_up, repeats):
        for name, work in rounds.items():
            start = clock()
            work()
            if repeat >= 0:
                times[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def extra_memory(work: Callable[[], object]) -> int | None:
    """Return the growth of the peak resident memory during `work`, in bytes; None if the system does not report it."""
    reset = Path("/proc/self/clear_refs")
    if not reset.exists():
        return None
    before = _resident("VmRSS")
    reset.write_text("5")
    work()
    return max(0, _resident("VmHWM") - before)


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))
