"""Figures of clouds, each number beside that of a Gaussian cloud of the same covariance."""

from __future__ import annotations

import numpy as np
import pandas as pd

from interp.display.plotting import BLUE, GREEN, PINK, RED, Canvas, dodged, figure, require_one

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


@figure
def isotropy(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw four measures of isotropy, one mark per cloud and control, with intervals."""
    require_one(frame, "run_id")
    labels = [
        place if group == "all" and pd.isna(layer) else f"{layer}" if pd.notna(layer) else group
        for place, layer, group in zip(frame["where"], frame["layer"], frame["group"], strict=True)
    ]
    frame = frame.assign(label=labels, cloud=frame["where"] + "/" + pd.Series(labels, index=frame.index))
    clouds = frame.drop_duplicates("cloud")
    grid = canvas.grid(1, len(_ISOTROPY), (3.1 * len(_ISOTROPY), max(2.6, 0.3 * len(clouds) + 1.4)), sharey=True)
    for axes, (metric, label) in zip(grid[0], _ISOTROPY.items(), strict=True):
        rows = frame[frame["metric"] == metric].set_index("cloud").loc[clouds["cloud"]]
        for control, (colour, mark) in _STYLES.items():
            one = rows[rows["control"] == control]
            if one.empty:
                continue
            place = np.arange(len(clouds)) + (0.16 if control != "none" else -0.16)
            one = one.rename(columns={"low": "value_low", "high": "value_high"})
            fill = "full" if control == "none" else "none"
            look = {"fmt": mark, "color": colour, "markersize": 4.5, "fillstyle": fill, "label": _NAMES[control]}
            dodged(axes, place, one, "value", across=True, **look)
        axes.set_xlabel(label)
        axes.grid(alpha=0.25)
    names = [
        f"layer {label}" if where == "residual" else label
        for where, label in zip(clouds["where"], clouds["label"], strict=True)
    ]
    grid[0, 0].set_yticks(range(len(clouds)), names)
    grid[0, 0].set_ylim(len(clouds) - 0.5, -0.5)
    canvas.title("how evenly its vectors fill their space")
    canvas.legend(grid[0, 0])
    canvas.caption("bars: 95 % intervals over parts of the cloud, where a measure has one")
