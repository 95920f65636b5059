"""Figures of the trajectories of right and wrong answers, and of the AUC of uncertainty scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from interp.display.plotting import (
    BLUE,
    RED,
    Canvas,
    curve,
    dodged,
    figure,
    layer_axis,
    require_one,
    worded,
)
from interp.stats import bootstrap_over_prompts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ABOVE = 1.5  # layer 0 leaves the scale where it would more than double it
_SCORES = {
    "output_loss": "loss of the answer",
    "output_entropy": "entropy of the output",
    "output_margin": "margin of the output",
    "slope": "slope over layers",
    "area": "area under the layers",
    "loss_layer": "layer the loss falls",
    "kl_layer": "layer near the output",
    "top1_layer": "layer of the argmax",
}


@figure
def iterative_inference(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw the loss of the generated token by layer for right and wrong answers, and beside it every score's AUC."""
    require_one(frame, "run_id")
    left, right = canvas.grid(1, 2, (9.2, 4.0))[0]
    off = _trajectories(left, frame)
    summary = frame.interp.summary()
    heights = range(len(summary))[::-1]
    dodged(right, heights, summary, "auc", across=True, fmt="o", color=BLUE, label="score")
    right.plot(summary["control_high"], heights, "|", color="0.4", markersize=12, label="answers shuffled, 97.5 %")
    right.axvline(0.5, color="0.6", linewidth=1)
    right.set_yticks(heights, [_SCORES.get(name, worded(name)) for name in summary["score"]])
    right.set_xlabel("AUC: a wrong answer scores above a right one")
    right.set_xlim(-0.02, 1.02)
    # Place the legend above the points: in every row, points and bars may reach to either side.
    right.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    canvas.title("does the model know when it is wrong?")
    few = next((note for note in summary.get("note", ()) if note), "")
    bars = "bands" if summary["auc_low"].isna().all() else "bands and bars"
    canvas.caption(f"{bars}: 95 % bootstrap over prompts", str(few).rstrip("."), off)


def _trajectories(axes: Axes, frame: pd.DataFrame) -> str:
    """Draw both curves, and return what the caption says about layer 0 if it does not fit the scale of the others."""
    kinds = ((True, BLUE, "o", "right"), (False, RED, "s", "wrong"))
    curves = {}
    for correct, colour, mark, name in kinds:
        of = frame[frame["correct"] == correct]
        if of.empty:
            continue
        curves[name] = bootstrap_over_prompts(of, ["layer"], ["loss_generated"])
        label = f"{name} answers ({of['prompt_id'].nunique()})"
        curve(axes, curves[name], "layer", "loss_generated", label=label, colour=colour, mark=mark)
    layer_axis(axes, frame["layer"])
    axes.set_ylabel("loss of the generated token (nats)")
    axes.legend(frameon=False, fontsize=9)
    axes.grid(alpha=0.25)
    values = ["loss_generated", "loss_generated_high"]
    later = max(float(one.loc[one["layer"] > 0, values].max().max()) for one in curves.values())
    first = {name: float(one.loc[one["layer"] == 0, "loss_generated"].max()) for name, one in curves.items()}
    if not max(first.values()) > _ABOVE * later > 0:
        return ""
    axes.set_ylim(0, 1.1 * later)
    where = " and ".join(f"{value:.1f} ({name})" for name, value in first.items())
    return f"layer 0 lies off the scale of the loss, at {where} nats"
