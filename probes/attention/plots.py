"""Figure of the heads that gather the tokens of a word."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from interp.display.plotting import new_figure, require_one

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def subjoiner_heads(frame: pd.DataFrame) -> Figure:
    """Draw blocks x heads with the score as the colour; blue heads attend within words beyond the effect of distance.

    Args:
        frame: of `subjoiner_heads`, one model.
    """
    require_one(frame, "model")
    scores = frame[frame["control"] == "none"].pivot(index="layer", columns="head", values="score")
    limit = float(scores.abs().to_numpy().max())
    size = (2.4 + 0.4 * scores.shape[1], 1.4 + 0.36 * scores.shape[0])
    figure, axes = new_figure(size)
    image = axes.imshow(scores.to_numpy(), cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto", origin="lower")
    axes.set_xticks(range(scores.shape[1]), scores.columns, fontsize=8)
    axes.set_yticks(range(scores.shape[0]), scores.index, fontsize=8)
    axes.set_xlabel("head")
    axes.set_ylabel("block")
    axes.set_title(f"{frame['model'].iat[0]}: subjoiner heads, {frame['n_pairs'].iat[0]} pairs", fontsize=10)
    figure.colorbar(image, ax=axes, label="attention within words - across (share)")
    return figure
