"""Figures of phrases: what one state of a phrase recovers of it, by layer, and which one."""

from __future__ import annotations

import numpy as np
import pandas as pd

from interp.display.plotting import (
    BLUE,
    GREY,
    Canvas,
    curve,
    figure,
    layer_axis,
    over_prompts,
    require_one,
    token_label,
)


@figure
def phrase_carriers(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw what the best single state recovers by layer, beside another phrase's, and which state of one phrase."""
    require_one(frame, "run_id")
    summary = frame.interp.summary()
    left, right = canvas.grid(1, 2, (9.4, 3.6))[0]
    for control, label, colour, style in (
        ("none", "the phrase's own", BLUE, "-"),
        ("other", "control: another phrase's", GREY, ":"),
    ):
        rows = summary[(summary["control"] == control) & summary["best"].notna()]
        if len(rows):
            curve(left, rows, "layer", "best", label=label, colour=colour, style=style)
    layer_axis(left, summary["layer"])
    left.set_ylabel("recovered by the best single state")
    if left.lines:
        left.axhline(0.8, color="0.6", linewidth=0.8)
        left.legend(frameon=False, fontsize=8)
    shown = _shown(frame)
    one = shown[(shown["kept"] == "one") & (shown["control"] == "none")]
    cells = one.astype({"pos": "int64"}).pivot(index="pos", columns="layer", values="recovered")
    image = right.imshow(cells.to_numpy(dtype=float), cmap="viridis", vmin=0, vmax=1, aspect="auto")
    right.set_facecolor("0.85")
    tokens = one.drop_duplicates("pos").set_index("pos")["token"]
    right.set_yticks(range(len(cells)), [token_label(tokens[pos]) for pos in cells.index], fontsize=8)
    step = -(-len(cells.columns) // 12)
    right.set_xticks(range(0, len(cells.columns), step), [str(layer) for layer in cells.columns[::step]], fontsize=8)
    right.set_xlabel("layer", fontsize=9)
    right.set_title(f"kept alone, prompt {one['prompt_id'].iat[0]}", fontsize=9)
    canvas.colour_bar(image, "recovered", [right])
    canvas.title("which state carries a phrase")
    grey = np.isnan(cells.to_numpy(dtype=float)).any()
    canvas.caption(
        "1: the log-probability of the target as in the prompt itself; 0: as with all states replaced",
        over_prompts(summary, "best") if summary["best"].notna().any() else "no interval",
        "grey: less than half a nat to recover" if grey else "",
    )


def _shown(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the prompt that has something left to recover at most layers, the first of several."""
    n_scored = frame["recovered"].notna().groupby(frame["prompt_id"], sort=False).sum()
    return frame[frame["prompt_id"] == n_scored.idxmax()]
