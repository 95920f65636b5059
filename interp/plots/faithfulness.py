"""Deletion curves of attributions: what is lost when the best tokens go, and when only they stay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from interp.errors import InputError
from interp.stats import bootstrap_over_prompts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe & Ito's colours, distinct to the colour-blind, and a marker each for print without colour.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MARKERS = "osD^vP*"
_PANELS = {
    "comprehensiveness": ("most important tokens removed", "higher is better"),
    "sufficiency": ("only the most important tokens kept", "lower is better"),
}


def faithfulness(frame: pd.DataFrame) -> Figure:
    """Fall of the target's probability against the share of tokens removed, and kept: a line per method.

    Means over prompts with 95 % bootstrap intervals; the dashed grey line is what shuffled scores give.

    Args:
        frame: of `faithfulness`, one model, with "comprehensiveness" or "sufficiency" among its metrics.
    """
    import matplotlib.pyplot as plt

    if frame["model"].nunique() > 1:
        raise InputError(f"the frame holds several models {frame['model'].unique().tolist()}; select one to draw.")
    shown = [metric for metric in _PANELS if (frame["metric"] == metric).any()]
    if not shown:
        raise InputError("deletion curves need metric 'comprehensiveness' or 'sufficiency'; the frame has neither.")
    measured = frame[frame["control"] != "permuted"]
    figure, panels = plt.subplots(1, len(shown), figsize=(4.6 * len(shown), 3.6), squeeze=False, layout="constrained")
    for axes, metric in zip(panels[0], shown, strict=True):
        _draw(axes, measured[measured["metric"] == metric])
        axes.set_title(f"{metric}: {_PANELS[metric][1]}", fontsize=10)
        axes.set_xlabel(f"share of tokens, {_PANELS[metric][0]}", fontsize=9)
    panels[0, 0].set_ylabel("fall of the target's probability", fontsize=9)
    panels[0, -1].legend(fontsize=8, frameon=False)
    figure.suptitle(f"{frame['model'].iat[0]}: deletion curves, {frame['prompt_id'].nunique()} prompts", fontsize=10)
    plt.close(figure)  # a notebook shows the returned figure once, not twice
    return figure


def _draw(axes: Any, rows: pd.DataFrame) -> None:
    for number, (method, own) in enumerate(rows.groupby("method", sort=False)):
        curve = bootstrap_over_prompts(own, ["fraction"], ["value"])
        colour = _COLOURS[number % len(_COLOURS)]
        marker = _MARKERS[number % len(_MARKERS)]
        axes.plot(curve["fraction"], curve["value"], color=colour, marker=marker, markersize=4, label=str(method))
        axes.fill_between(curve["fraction"], curve["value_low"], curve["value_high"], color=colour, alpha=0.15, lw=0)
    chance = bootstrap_over_prompts(rows, ["fraction"], ["value_random"])
    axes.plot(chance["fraction"], chance["value_random"], color="0.45", linestyle="--", label="shuffled scores")
    axes.axhline(0.0, color="0.8", linewidth=0.8, zorder=0)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
