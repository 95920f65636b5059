"""Figure of the heads that gather the tokens of a word."""

from __future__ import annotations

import numpy as np
import pandas as pd

from interp.display.plotting import Canvas, figure


@figure
def subjoiner_heads(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw blocks x heads with the score as the colour, and a dot where its interval leaves out 0.

    Blue heads attend within words beyond the effect of distance.
    """
    own = frame[frame["control"] == "none"]
    scores = own.pivot(index="layer", columns="head", values="score")
    n_rows, n_columns = scores.shape
    axes = canvas.one((3.0 + 0.3 * max(8, n_columns), 1.6 + 0.24 * max(8, n_rows)))
    limit = float(scores.abs().to_numpy().max())
    image = axes.imshow(scores.to_numpy(), cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto", origin="lower")
    apart = own.assign(clear=(own["score_low"] > 0) | (own["score_high"] < 0))
    clear = apart.pivot(index="layer", columns="head", values="clear").to_numpy()
    dark = np.abs(scores.to_numpy()) > 0.6 * limit
    for where, colour in ((clear & dark, "white"), (clear & ~dark, "black")):
        rows, columns = np.nonzero(where)
        axes.plot(columns, rows, ".", color=colour, markersize=5)
    for axis, labels in ((axes.xaxis, scores.columns), (axes.yaxis, scores.index)):
        step = -(-len(labels) // 16)
        axis.set_ticks(range(0, len(labels), step), [str(label) for label in labels[::step]], fontsize=8)
    axes.set_xlabel("head")
    axes.set_ylabel("block")
    canvas.title("heads that gather the tokens of a word")
    canvas.colour_bar(image, "attention within words - across")
    n = int(own["n_prompts"].iat[0])
    canvas.caption(
        f"{own['n_pairs'].iat[0]} pairs of tokens in {n} prompts",
        "dot: the 95 % bootstrap interval over prompts leaves out 0"
        if own["score_low"].notna().any()
        else "no interval",
    )
