"""Figures of states in their contexts: the word of the nearest context at every layer and position."""

from __future__ import annotations

import numpy as np
import pandas as pd

from interp.display.plotting import Canvas, figure, one_prompt, require_one, word_grid


@figure
def nearest_contexts(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw layers x positions of one prompt, or layers x vectors: the nearest context's word, its z as the colour."""
    from matplotlib.colors import Normalize

    nearest = frame[(frame["control"] == "none") & (frame["rank_neighbour"] == 0)]
    vectors = bool(nearest["vector"].notna().all())
    one = one_prompt(side_by_side(nearest))
    require_one(one, "run_id")
    drawn = word_grid(
        canvas, one, words="neighbour", value="z", norm=lambda z: Normalize(0, max(1.0, float(np.nanmax(z))))
    )
    if vectors:
        drawn.image.axes.set_xlabel("vector", fontsize=9)
    canvas.title(f"token of the nearest context{'' if vectors else ', prompt ' + str(one['prompt_id'].iat[0])}")
    canvas.colour_bar(drawn.image, "z of the cosine", fraction=0.04, pad=0.01, aspect=30)
    what = "one vector in each column" if vectors else "one prompt"
    canvas.caption(f"z: standard deviations above the cosine of random states; {what}: no interval", drawn.left_out)


def side_by_side(frame: pd.DataFrame) -> pd.DataFrame:
    """Return rows of vectors as those of one prompt, whose tokens are the vectors' names; rows of texts as they are."""
    if frame["vector"].isna().any():
        return frame
    return frame.assign(pos=frame["prompt_id"], token=frame["vector"], prompt_id=0)
