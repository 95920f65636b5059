"""Linearity, anisotropy and intrinsic dimension by layer, the controls beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from interp.plots._style import BLUE, GREEN, PINK, RED, require_one

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLES = {  # colours of Okabe & Ito, safe for colour-blind eyes
    "none": (BLUE, "o", "-", "all, as published"),
    "without_first": (RED, "s", "-", "without first positions"),
    "without_massive": (GREEN, "^", "--", "without massive dimensions"),
    "without_both": (PINK, "D", "--", "without both"),
    "standardised": ("0.35", "x", ":", "without first, dimensions standardised"),
}
_PANELS = {
    "linearity": "linearity of the step\nto the next layer (0..1)",
    "linearity_centred": "linearity of the update\n(0..1)",
    "anisotropy": "variance in the largest\ndirection (share)",
    "intrinsic_dimension": "intrinsic dimension\n(TwoNN)",
}


def microscope(frame: pd.DataFrame) -> Figure:
    """Four panels by layer, one line per control.

    Args:
        frame: of `microscope`, one model.
    """
    import matplotlib.pyplot as plt

    require_one(frame, "run_id")
    figure, grid = plt.subplots(2, 2, figsize=(8.6, 6.0), layout="constrained", sharex=True)
    for axes, (column, label) in zip(grid.flat, _PANELS.items(), strict=True):
        for control, (colour, mark, line, name) in _STYLES.items():
            curve = frame[frame["control"] == control].sort_values("layer")
            axes.plot(curve["layer"], curve[column], line, marker=mark, color=colour, label=name, markersize=4)
        axes.set_ylabel(label)
        axes.set_xticks(sorted(frame["layer"].unique()))
        axes.grid(alpha=0.25)
    null = frame[frame["control"] == "none"].sort_values("layer")
    grid[0, 0].plot(null["layer"], null["linearity_null"], color="black", linewidth=1, label="states shuffled")
    for axes in grid[1]:
        axes.set_xlabel("layer (0 enters the first block)")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    figure.suptitle(f"{frame['model'].iat[0]}: {int(frame['n_tokens'].max()):,} tokens", fontsize=10)
    plt.close(figure)  # a notebook shows the returned figure once, not twice
    return figure
