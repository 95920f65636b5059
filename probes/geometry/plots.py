"""Figures of the law of next-token prediction and of the microscope, each with its controls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from interp.display.plotting import BLUE, GREEN, PINK, RED, new_figure, new_grid, require_one

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LAW_STYLES = {  # colours of Okabe & Ito, safe for colour-blind eyes
    ("next", "in_sample", "none"): (BLUE, "o", "-", "next token's id, as published"),
    ("next", "held_out", "none"): (BLUE, "o", ":", "the same on held-out prompts"),
    ("unembedding", "in_sample", "none"): (GREEN, "s", "-", "next token's unembedding"),
    ("unembedding", "held_out", "none"): (GREEN, "s", ":", "the same on held-out prompts"),
    ("next", "in_sample", "shuffled_vocabulary"): (RED, "^", "--", "control: ids shuffled"),
    ("next", "in_sample", "shuffled_tokens"): ("0.45", "x", "--", "control: tokens shuffled"),
}


def next_token_law(frame: pd.DataFrame) -> Figure:
    """Draw the log10 prediction residual by layer, with a line fitted on layers 1..L; bands are the range over draws.

    Args:
        frame: of `next_token_law`, one model.
    """
    require_one(frame, "run_id")
    fits = frame.interp.summary().query("layers == '1..L'").set_index(["response", "sample", "control"])
    figure, axes = new_figure((8.6, 4.2))
    curves = dict(list(frame.groupby(["response", "sample", "control"])))
    for key, (colour, mark, line, label) in _LAW_STYLES.items():
        curve = curves[key]
        over_draws = curve.groupby("layer")["log10_residual"].agg(["mean", "min", "max"])
        if key == ("next", "in_sample", "none"):
            points, fit = over_draws["mean"].loc[1:], fits.loc[key]
            layers = np.array([points.index.min(), points.index.max()])
            heights = points.mean() + fit["slope"] * (layers - points.index.to_numpy().mean())
            axes.plot(layers, heights, color="black", linewidth=1, label="line through layers 1..L")
            label += f" (r = {fit['pearson_r']:.3f}, {fit['slope']:.4f} per layer)"
        axes.plot(over_draws.index, over_draws["mean"], line, marker=mark, color=colour, label=label, markersize=5)
        axes.fill_between(over_draws.index, over_draws["min"], over_draws["max"], color=colour, alpha=0.18, linewidth=0)
    axes.set_xticks(sorted(frame["layer"].unique()))
    axes.set_xlabel("layer (0 enters the first block)")
    axes.set_ylabel("prediction residual (log10 of share left)")
    axes.set_title(f"{frame['model'].iat[0]}: {int(frame['n_tokens'].max()):,} tokens", fontsize=10)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


_MICROSCOPE_STYLES = {  # colours of Okabe & Ito, safe for colour-blind eyes
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
    """Draw four panels by layer, with one line per control.

    Args:
        frame: of `microscope`, one model.
    """
    require_one(frame, "run_id")
    figure, grid = new_grid(2, 2, (8.6, 6.0), sharex=True)
    for axes, (column, label) in zip(grid.flat, _PANELS.items(), strict=True):
        for control, (colour, mark, line, name) in _MICROSCOPE_STYLES.items():
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
    return figure
