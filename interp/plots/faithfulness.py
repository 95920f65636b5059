"""Deletion curves of attributions: what is lost when the best tokens go, and when only they stay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from interp.errors import InputError
from interp.plots._style import BLACK, BLUE, GREEN, PINK, RED, SKY, YELLOW, require_one
from interp.stats import bootstrap_over_prompts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe & Ito's colours, distinct to the colour-blind, and a marker each for print without colour.
_COLOURS = (BLUE, RED, GREEN, PINK, SKY, YELLOW, BLACK)
_MARKERS = "osD^vP*"
_MAX_BANDS = 3  # of more methods than these, bands would hide the lines
_PANELS = {
    "comprehensiveness": ("most important tokens removed", "higher is better"),
    "sufficiency": ("only the most important tokens kept", "lower is better"),
}


def faithfulness(frame: pd.DataFrame) -> Figure:
    """Fall of the target's probability against the share of tokens removed, and kept: a line per method.

    Means over prompts, of up to three methods with 95 % bootstrap bands; in grey what knows nothing of the model: the
    shuffled scores dashed, the method "random" dotted. Intervals of every method are in the summary.

    Args:
        frame: of `faithfulness`, one model, with "comprehensiveness" or "sufficiency" among its metrics.
    """
    import matplotlib.pyplot as plt

    require_one(frame, "model")
    shown = [metric for metric in _PANELS if (frame["metric"] == metric).any()]
    if not shown:
        raise InputError("deletion curves need metric 'comprehensiveness' or 'sufficiency'; the frame has neither.")
    measured = frame[frame["control"] != "permuted"]
    figure, panels = plt.subplots(
        1, len(shown), figsize=(1.6 + 4.2 * len(shown), 3.6), squeeze=False, layout="constrained"
    )
    for axes, metric in zip(panels[0], shown, strict=True):
        _draw(axes, measured[measured["metric"] == metric])
        axes.set_title(f"{metric}: {_PANELS[metric][1]}", fontsize=10)
        axes.set_xlabel(f"share of tokens, {_PANELS[metric][0]}", fontsize=9)
    panels[0, 0].set_ylabel("fall of the target's probability", fontsize=9)
    panels[0, -1].legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.suptitle(f"{frame['model'].iat[0]}: deletion curves, {frame['prompt_id'].nunique()} prompts", fontsize=10)
    plt.close(figure)  # a notebook shows the returned figure once, not twice
    return figure


def _draw(axes: Any, rows: pd.DataFrame) -> None:
    methods = [method for method in rows["method"].unique() if method != "random"]
    for number, method in enumerate(methods):
        curve = bootstrap_over_prompts(rows[rows["method"] == method], ["fraction"], ["value"])
        colour = _COLOURS[number % len(_COLOURS)]
        style = "-" if number < len(_COLOURS) else "-."
        marker = _MARKERS[number % len(_MARKERS)]
        axes.plot(
            curve["fraction"], curve["value"], style, color=colour, marker=marker, markersize=4, label=str(method)
        )
        if len(methods) <= _MAX_BANDS:
            low, high = curve["value_low"], curve["value_high"]
            axes.fill_between(curve["fraction"], low, high, color=colour, alpha=0.15, lw=0)
    if (rows["method"] == "random").any():
        curve = bootstrap_over_prompts(rows[rows["method"] == "random"], ["fraction"], ["value"])
        axes.plot(curve["fraction"], curve["value"], color="0.45", linestyle=":", label="random")
    chance = bootstrap_over_prompts(rows, ["fraction"], ["value_random"])
    axes.plot(chance["fraction"], chance["value_random"], color="0.45", linestyle="--", label="shuffled scores")
    axes.axhline(0.0, color="0.8", linewidth=0.8, zorder=0)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
