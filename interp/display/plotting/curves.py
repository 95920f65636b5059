"""Draw curves with their intervals: as bands, or as bars side by side where bands would cover each other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from interp.display.plotting.colours import BLUE

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def curve(
    axes: Axes,
    rows: pd.DataFrame,
    x: str,
    y: str,
    *,
    label: str = "",
    colour: str = BLUE,
    mark: str = "o",
    style: str = "-",
) -> None:
    """Draw a line of `y` by `x`, with a band from `y_low` to `y_high` where the rows have one."""
    rows = rows.sort_values(x)
    places = rows[x].to_numpy(dtype=float)
    axes.plot(places, rows[y], style, marker=mark, markersize=4, color=colour, label=label)
    if f"{y}_low" in rows:
        axes.fill_between(places, rows[f"{y}_low"], rows[f"{y}_high"], color=colour, alpha=0.18, linewidth=0)


def dodged(axes: Axes, places: Any, rows: pd.DataFrame, value: str, *, across: bool = False, **look: Any) -> None:
    """Draw points of `value` with bars from `value_low` to `value_high`; `across` draws them along the x axis."""
    middle = rows[value].to_numpy(dtype=float)
    spread = None
    if f"{value}_low" in rows:
        ends = rows[f"{value}_low"].to_numpy(dtype=float), rows[f"{value}_high"].to_numpy(dtype=float)
        spread = np.nan_to_num([middle - ends[0], ends[1] - middle]).clip(0)
    look = {"capsize": 2, "markersize": 4, "linewidth": 1.2} | look
    if across:
        axes.errorbar(middle, places, xerr=spread, **look)
    else:
        axes.errorbar(places, middle, yerr=spread, **look)


def layer_axis(axes: Axes, layers: Iterable[Any], *, block: bool = False) -> None:
    """Tick the x axis at layers, as many as can be read, and say what a layer is."""
    known = sorted({int(layer) for layer in layers})
    step = -(-len(known) // 12)
    axes.set_xticks(known[::step])
    axes.set_xlabel("block" if block else "layer (0 enters the first block)", fontsize=9)


def share_axis(axes: Axes, *, across: bool = False) -> None:
    """Write the ticks of an axis of shares in percent."""
    from matplotlib.ticker import PercentFormatter

    (axes.xaxis if across else axes.yaxis).set_major_formatter(PercentFormatter(xmax=1.0, decimals=None))


def over_prompts(summary: pd.DataFrame, value: str, what: str = "bands") -> str:
    """Say for a caption what bands or bars of a summary over prompts are, or why there are none."""
    n = int(summary["n_prompts"].max())
    if summary[f"{value}_low"].isna().all():
        return f"{n} prompt{'s' * (n != 1)}: no interval"
    return f"{what}: 95 % bootstrap over {n} prompts"
