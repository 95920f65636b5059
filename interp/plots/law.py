"""The prediction residual by layer, its line, and the controls beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from interp.plots._style import BLUE, GREEN, RED, require_one

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLES = {  # colours of Okabe & Ito, safe for colour-blind eyes
    ("next", "in_sample", "none"): (BLUE, "o", "-", "next token's id, as published"),
    ("next", "held_out", "none"): (BLUE, "o", ":", "the same on held-out prompts"),
    ("unembedding", "in_sample", "none"): (GREEN, "s", "-", "next token's unembedding"),
    ("unembedding", "held_out", "none"): (GREEN, "s", ":", "the same on held-out prompts"),
    ("next", "in_sample", "shuffled_vocabulary"): (RED, "^", "--", "control: ids shuffled"),
    ("next", "in_sample", "shuffled_tokens"): ("0.45", "x", "--", "control: tokens shuffled"),
}


def next_token_law(frame: pd.DataFrame) -> Figure:
    """log10 prediction residual by layer; the line is fitted on layers 1..L; bands are the range over draws.

    Args:
        frame: of `next_token_law`, one model.
    """
    import matplotlib.pyplot as plt

    require_one(frame, "run_id")
    fits = frame.interp.summary().query("layers == '1..L'").set_index(["response", "sample", "control"])
    figure, axes = plt.subplots(figsize=(8.6, 4.2), layout="constrained")
    curves = dict(list(frame.groupby(["response", "sample", "control"])))
    for key, (colour, mark, line, label) in _STYLES.items():
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
    plt.close(figure)  # a notebook shows the returned figure once, not twice
    return figure
