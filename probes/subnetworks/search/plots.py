"""Figures of a search for subnetworks: where the kept weights are, and how the training went."""

from __future__ import annotations

import pandas as pd

from interp.display.plotting import LINES, Canvas, figure, require_one, share_axis
from probes.subnetworks.plots import of_lambda, one_subnetwork, weights_grid


@figure
def bigram_subnetwork(frame: pd.DataFrame, canvas: Canvas, *, sparsity: float | None = None) -> None:
    """Draw blocks x components: the kept share of each matrix's weights.

    Args:
        frame: of `bigram_subnetwork`.
        canvas: to draw on.
        sparsity: of the subnetwork to show, if the frame holds several; None takes the largest.
    """
    rows = one_subnetwork(frame[frame["control"] == "none"], sparsity)
    weights_grid(canvas, rows)
    canvas.title(f"{rows['kept_count'].sum():,.0f} weights kept to predict by {rows['target'].iat[0]}{of_lambda(rows)}")
    canvas.caption("numbers: weights kept; all are counted: no interval")


@figure
def subnetwork_log(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw over the training steps the loss beside the least one possible, and the share of weights still kept."""
    require_one(frame, "run_id")
    left, right = canvas.grid(1, 2, (9.6, 3.8))[0]
    for number, ((sparsity, attempt), rows) in enumerate(frame.groupby(["sparsity", "attempt"])):
        colour = LINES[number % len(LINES)]
        label = f"λ = {sparsity:g}" + (f", attempt {attempt + 1}" if attempt else "")
        left.plot(rows["step"], rows["xent"], color=colour, marker=".", label=label)
        left.plot(rows["step"], rows["entropy"], ":", color=colour)
        right.plot(rows["step"], rows["soft_kept"], color=colour, marker=".", label=label)
    left.set_ylabel("cross-entropy (nats)")
    right.set_ylabel("mean soft mask: weights kept")
    right.set_ylim(bottom=0)
    share_axis(right)
    for axes in (left, right):
        axes.set_xlabel("training step")
        axes.grid(alpha=0.25)
    canvas.title("training of the masks")
    canvas.legend(right)
    canvas.caption("one training each: no interval", "dotted: entropy of the target, below which no loss can fall")
