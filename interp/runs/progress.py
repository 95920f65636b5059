"""Show the progress of long work, with an estimate of the time left."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm.auto import tqdm
from tqdm.std import tqdm as plain

from interp.checks import checked
from interp.options import options

SECONDS = 10  # between two lines of a log


class _Lines(plain):  # type: ignore[type-arg]
    """A bar for a log: whole lines, and few of them."""

    told = float("-inf")  # when the last line was written

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Write the state as a line if none was written lately; nothing where tqdm would clear the bar."""
        now = time.time()
        last = max(getattr(self, "start_t", now), self.told)
        if msg != "" and now - last >= SECONDS:  # tqdm asks at each message of a log too
            self.told = now
            print(msg or self, file=self.fp, flush=True)

    def clear(self, nolock: bool = False) -> None:
        """Leave written lines where they are."""


@checked
def progress_bar(total: int, unit: str, label: str = "", *, done: int = 0, n_steps: int | None = None) -> plain[Any]:
    """Create a progress bar on stderr; close it with `with`, advance it with `update`.

    It is shown on a terminal or in a notebook if there is more than one step; `interp.options.progress` turns it on or
    off everywhere. Where it is on and stderr is a file or a pipe, it is a line every ten seconds.

    Args:
        total: number of units of the whole work.
        unit: name of a unit.
        label: text before the bar.
        done: number of units already done.
        n_steps: number of steps of the work; by default each unit is a step.

    Returns:
        A bar of tqdm.
    """
    single = (total if n_steps is None else n_steps) <= 1
    hidden = single or options.bars_hidden
    given: dict[str, Any] = {"total": total, "initial": done, "unit": unit, "desc": label, "disable": hidden}
    if sys.stderr.isatty() or "ipykernel" in sys.modules:
        return tqdm(**given, file=sys.stderr)
    return _Lines(**given, file=sys.stderr, mininterval=SECONDS, maxinterval=6 * SECONDS, delay=SECONDS, leave=False)
