"""Figures of states in their contexts: the word of the nearest context at every layer and position."""

from __future__ import annotations

import numpy as np
import pandas as pd

from interp.display.plotting import Canvas, figure, one_prompt, require_one, word_grid


@figure
def nearest_contexts(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw layers x positions of one prompt, wrapped like text: the nearest context's word, its z as the colour."""
    from matplotlib.colors import Normalize

    one = one_prompt(frame[(frame["control"] == "none") & (frame["rank_neighbour"] == 0)])
    require_one(one, "run_id")
    drawn = word_grid(
        canvas, one, words="neighbour", value="z", norm=lambda z: Normalize(0, max(1.0, float(np.nanmax(z))))
    )
    canvas.title(f"token of the nearest context, prompt {one['prompt_id'].iat[0]}")
    canvas.colour_bar(drawn.image, "z of the cosine", fraction=0.04, pad=0.01, aspect=30)
    canvas.caption("z: standard deviations above the cosine of random states; one prompt: no interval", drawn.left_out)
