"""Figures of states in their contexts: the word of the nearest context at every layer and position."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from interp.display.plotting import new_figure, one_prompt, require_one, token_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CELL_INCHES = (0.82, 0.42)


def nearest_contexts(frame: pd.DataFrame, prompt_id: int | None = None) -> Figure:
    """Draw layers x positions of one prompt: the nearest context's word in each cell, its z as the colour.

    Args:
        frame: of `nearest_contexts`, one model.
        prompt_id: the prompt to draw; by default the first.
    """
    one = one_prompt(frame[(frame["control"] == "none") & (frame["rank_neighbour"] == 0)], prompt_id)
    require_one(one, "run_id")
    z = one.pivot(index="layer", columns="pos", values="z")
    words = one.pivot(index="layer", columns="pos", values="neighbour")
    n_rows, n_columns = z.shape
    figure, axes = new_figure((1.9 + _CELL_INCHES[0] * n_columns, 1.5 + _CELL_INCHES[1] * n_rows))
    image = axes.imshow(z.to_numpy(), cmap="viridis", vmin=0, aspect="auto", origin="lower")
    middle = 0.6 * float(z.max().max())
    for y in range(n_rows):
        for x in range(n_columns):
            # viridis is dark below its middle: white letters there, black above.
            colour = "white" if float(z.iat[y, x]) < middle else "black"
            axes.text(x, y, token_label(str(words.iat[y, x])), ha="center", va="center", fontsize=8, color=colour)
    inputs = one.drop_duplicates("pos").set_index("pos")["token"].reindex(z.columns)
    axes.set_xticks(range(n_columns), [token_label(text) for text in inputs], fontsize=8, rotation=40, ha="right")
    axes.set_yticks(range(n_rows), [str(layer) for layer in z.index], fontsize=8)
    axes.set_xlabel("input token")
    axes.set_ylabel("layer")
    title = f"{one['model'].iat[0]}: token of the nearest context, prompt {one['prompt_id'].iat[0]}"
    axes.set_title(title, fontsize=10)
    figure.colorbar(image, ax=axes, label="z of the cosine", fraction=0.05, pad=0.01)
    return figure
