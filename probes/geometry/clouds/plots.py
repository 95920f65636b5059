"""Figures of clouds, each number beside that of a Gaussian cloud of the same covariance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from interp.display.plotting import BLUE, GREEN, PINK, RED, new_grid, require_one

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAMES = {
    "none": "measured",
    "gaussian": "Gaussian of the same covariance",
    "columns": "coordinates permuted",
    "directions": "random directions, own norms",
    "shuffled": "tokens shuffled",
}
_STYLES = {"none": (BLUE, "o"), "gaussian": (RED, "s"), "columns": (GREEN, "^"), "directions": (PINK, "D")}
_ISOTROPY = {
    "isoscore": "IsoScore\n(0 one axis, 1 all alike)",
    "participation": "axes of equal variance\n(participation ratio)",
    "mean_cosine": "mean cosine\nof two points",
    "log_partition": "log partition\n(0 even)",
}


def isotropy(frame: pd.DataFrame) -> Figure:
    """Draw four measures of isotropy, one mark per cloud and control, with intervals.

    Args:
        frame: of `isotropy`, one model.
    """
    require_one(frame, "run_id")
    labels = [
        place if group == "all" and pd.isna(layer) else f"{layer}" if pd.notna(layer) else group
        for place, layer, group in zip(frame["where"], frame["layer"], frame["group"], strict=True)
    ]
    frame = frame.assign(label=labels, cloud=frame["where"] + "/" + pd.Series(labels, index=frame.index))
    clouds = frame.drop_duplicates("cloud")
    figure, grid = new_grid(1, len(_ISOTROPY), (3.1 * len(_ISOTROPY), max(2.6, 0.3 * len(clouds) + 1.4)), sharey=True)
    for axes, (metric, label) in zip(grid[0], _ISOTROPY.items(), strict=True):
        rows = frame[frame["metric"] == metric].set_index("cloud").loc[clouds["cloud"]]
        for control, (colour, mark) in _STYLES.items():
            one = rows[rows["control"] == control]
            if one.empty:
                continue
            place = np.arange(len(clouds)) + (0.16 if control != "none" else -0.16)
            reach = np.abs(one[["low", "high"]].to_numpy().T - one["value"].to_numpy())
            axes.errorbar(
                one["value"], place, xerr=np.nan_to_num(reach), fmt=mark, color=colour, markersize=4.5,
                linewidth=1.2, label=_NAMES[control], fillstyle="full" if control == "none" else "none",
            )  # fmt: skip
        axes.set_xlabel(label)
        axes.grid(alpha=0.25)
    names = [
        f"layer {label}" if where == "residual" else label
        for where, label in zip(clouds["where"], clouds["label"], strict=True)
    ]
    grid[0, 0].set_yticks(range(len(clouds)), names)
    grid[0, 0].set_ylim(len(clouds) - 0.5, -0.5)
    _legend(figure, grid[0, 0])
    figure.suptitle(f"{frame['model'].iat[0]}: how evenly its vectors fill their space", fontsize=10)
    return figure


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
