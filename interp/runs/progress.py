"""Show the progress of long work, with an estimate of the time left."""

from __future__ import annotations

import sys
from typing import Any

from tqdm.auto import tqdm

from interp.checks import checked
from interp.options import options


@checked
def progress_bar(total: int, unit: str, label: str = "", *, done: int = 0, n_steps: int | None = None) -> tqdm[Any]:
    """Create a progress bar on stderr; close it with `with`, advance it with `update`.

    It is shown on a terminal or in a notebook if there is more than one step; `interp.options.progress` turns it on or
    off everywhere.

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
    return tqdm(total=total, initial=done, unit=unit, desc=label, disable=hidden, file=sys.stderr)
