"""Progress of long work, with an estimate of what is left."""

from __future__ import annotations

import sys
from typing import Any

from tqdm.auto import tqdm

from interp.options import options


def progress_bar(total: int, unit: str, label: str = "", *, done: int = 0, n_steps: int | None = None) -> tqdm[Any]:
    """Show a bar on stderr, to be closed by `with`; move it by its `update`.

    It is shown on a terminal or in a notebook, where there is more than one step; `interp.options.progress` turns it on
    or off everywhere.

    Args:
        total: number of units of the whole work.
        unit: the name of one.
        label: written before the bar.
        done: units that are done already.
        n_steps: in how many steps the work is done; default a unit is a step.

    Returns:
        A bar of tqdm.
    """
    single = (total if n_steps is None else n_steps) <= 1
    # None lets tqdm decide: it hides a bar where stderr is neither a terminal nor a notebook's.
    hidden = None if options.progress is None else not options.progress
    return tqdm(total=total, initial=done, unit=unit, desc=label, disable=single or hidden, file=sys.stderr)
