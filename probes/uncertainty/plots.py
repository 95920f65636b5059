"""Figures of the trajectories of right and wrong answers, and of the AUC of uncertainty scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from interp.display.plotting import BLUE, RED, new_grid, require_one
from interp.stats import bootstrap_over_prompts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_RIGHT, _WRONG = BLUE, RED


def iterative_inference(frame: pd.DataFrame) -> Figure:
    """Draw the loss of the generated token by layer for right and wrong answers, and beside it the AUC of every score.

    Args:
        frame: of `iterative_inference`, one model.
    """
    require_one(frame, "run_id")
    figure, grid = new_grid(1, 2, (8.6, 3.8))
    left, right = grid[0]
    for correct, colour, mark, name in ((True, _RIGHT, "o", "right"), (False, _WRONG, "s", "wrong")):
        of = frame[frame["correct"] == correct]
        if of.empty:
            continue
        curve = bootstrap_over_prompts(of, ["layer"], ["loss_generated"])
        label = f"{name} answers ({of['prompt_id'].nunique()})"
        left.plot(curve["layer"], curve["loss_generated"], marker=mark, color=colour, label=label, markersize=4)
        band = curve["loss_generated_low"], curve["loss_generated_high"]
        left.fill_between(curve["layer"], *band, color=colour, alpha=0.18, linewidth=0)
    left.set_xticks(sorted(frame["layer"].unique()))
    left.set_xlabel("layer (0 enters the first block)")
    left.set_ylabel("loss of the generated token (nats)")
    left.legend(frameon=False, fontsize=9)
    left.grid(alpha=0.25)
    _draw_scores(right, frame.interp.summary())
    figure.suptitle(f"{frame['model'].iat[0]}: bands and bars 95 % over prompts", fontsize=10)
    return figure


def _draw_scores(axes: Axes, summary: pd.DataFrame) -> None:
    heights = range(len(summary))[::-1]
    spread = [summary["auc"] - summary["auc_low"], summary["auc_high"] - summary["auc"]]
    axes.errorbar(summary["auc"], heights, xerr=spread, fmt="o", color=_RIGHT, capsize=3, label="score")
    axes.plot(summary["control_high"], heights, "|", color="0.4", markersize=12, label="answers shuffled, 97.5 %")
    axes.axvline(0.5, color="0.6", linewidth=1)
    axes.set_yticks(heights, summary["score"])
    axes.set_xlabel("AUC: a wrong answer scores above a right one")
    # Place the legend above the points: in every row, points and bars may reach to either side.
    axes.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
