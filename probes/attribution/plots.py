"""Figures of attributions and of their faithfulness."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from interp.authoring import InputError
from interp.display.plotting import (
    BLACK,
    BLUE,
    GREEN,
    PINK,
    RED,
    SKY,
    YELLOW,
    new_grid,
    one_prompt,
    require_one,
    token_label,
)
from interp.stats import bootstrap_over_prompts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TOKENS_PER_LINE = 18
_MAX_LINES = 6
_CELL_INCHES = (0.56, 0.3)


def attribution(frame: pd.DataFrame, prompt_id: int | None = None, target: int = 0) -> Figure:
    """Draw the scores of one prompt and target: a row per method (and layer), a column per token, wrapped like text.

    Scores are percentages of the largest absolute score in their row. Position 0 often holds a start-of-text token
    whose score dwarfs the rest: it does not set the scale, and its colour saturates.

    Args:
        frame: of `attribute` or of one method, one model.
        prompt_id: the prompt to draw; by default the first.
        target: number of the prompt's target, from 0, in the order of the frame.
    """
    one = _one_target(one_prompt(frame, prompt_id), target)
    table = one.pivot(index="row", columns="pos", values="score").reindex(one["row"].unique())
    n_lines = -(-table.shape[1] // _TOKENS_PER_LINE)
    per_line = -(-table.shape[1] // n_lines)
    lines = [table.iloc[:, start : start + per_line] for start in range(0, table.shape[1], per_line)][:_MAX_LINES]
    tokens = one.drop_duplicates("pos").set_index("pos")["token"]
    shares = 100 * table.div(_scale(table), axis=0)
    widest = lines[0].shape[1]
    size = (2.9 + _CELL_INCHES[0] * widest, 0.9 + len(lines) * (0.75 + _CELL_INCHES[1] * len(table)))
    figure, panels = new_grid(len(lines), 1, size)
    for axes, line in zip(panels[:, 0], lines, strict=True):
        cells = shares[line.columns].to_numpy()
        image = axes.imshow(cells, cmap="PuOr", vmin=-100, vmax=100, aspect="auto")
        for (y, x), share in np.ndenumerate(cells):
            # PuOr is dark at both ends, so numbers are white there and black between.
            axes.text(x, y, f"{round(share)}", ha="center", va="center", fontsize=6.5, color=_ink(share))
        axes.set_xlim(-0.5, widest - 0.5)
        axes.spines[:].set_visible(False)
        names = [token_label(text) for text in tokens.reindex(line.columns)]
        axes.set_xticks(range(len(names)), names, fontsize=8, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(table)), table.index, fontsize=8)
    first = one.iloc[0]
    cut = (
        f", first {sum(line.shape[1] for line in lines)} of {table.shape[1]} tokens" if len(lines) == _MAX_LINES else ""
    )
    figure.suptitle(
        f"{first['model']}: scores of tokens for “{token_label(str(first['target']), 20)}” after position "
        f"{first['target_pos']}, prompt {first['prompt_id']}{cut}",
        fontsize=10,
    )
    bar = figure.colorbar(image, ax=panels[:, 0], fraction=0.05, pad=0.01, aspect=15)
    bar.set_label("score, % of the row's largest", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure


def _one_target(one: pd.DataFrame, target: int) -> pd.DataFrame:
    targets = one[["target_pos", "target_id"]].drop_duplicates().reset_index(drop=True)
    if not 0 <= target < len(targets):
        raise InputError(f"target {target} is not in the frame: this prompt has {len(targets)}; count from 0.")
    chosen = one.merge(targets.iloc[[target]], on=["target_pos", "target_id"])
    layered = "layer" in chosen.columns and chosen["layer"].nunique() > 1
    row = chosen["method"] + (" at layer " + chosen["layer"].astype(str) if layered else "")
    again = chosen.assign(row=row).duplicated(["row", "pos"])
    if again.any():
        raise InputError(f"the frame holds {row[again].iat[0]!r} more than once; select one run by its run_id.")
    return chosen.assign(row=row)


def _scale(table: pd.DataFrame) -> pd.Series:
    """Return the largest absolute score of each row after position 0; 1 if all are 0."""
    later = table.loc[:, table.columns > 0] if (table.columns > 0).any() else table
    largest = later.abs().max(axis=1)
    return largest.where(largest > 0, 1.0)


def _ink(share: float) -> str:
    return "white" if abs(share) > 55 else "black"


# Okabe & Ito's colours, which colour-blind readers can distinguish, each with a marker for black-and-white print.
_COLOURS = (BLUE, RED, GREEN, PINK, SKY, YELLOW, BLACK)

_MARKERS = "osD^vP*"

_MAX_BANDS = 3  # of more methods than these, bands would hide the lines

_PANELS = {
    "comprehensiveness": ("most important tokens removed", "higher is better"),
    "sufficiency": ("only the most important tokens kept", "lower is better"),
}


def faithfulness(frame: pd.DataFrame) -> Figure:
    """Draw the fall of the target's probability against the share of tokens removed, or kept: a line per method.

    Lines are means over prompts, with 95 % bootstrap bands for up to three methods. Scores that do not use the model
    are grey: shuffled scores dashed, the method "random" dotted. The summary has intervals of every method.

    Args:
        frame: of `faithfulness`, one model, with "comprehensiveness" or "sufficiency" among its metrics.
    """
    require_one(frame, "model")
    shown = [metric for metric in _PANELS if (frame["metric"] == metric).any()]
    if not shown:
        raise InputError(
            f"deletion curves need metric 'comprehensiveness' or 'sufficiency', but the frame has only "
            f"{frame['metric'].unique().tolist()}; measure one of them."
        )
    measured = frame[frame["control"] != "permuted"]
    figure, panels = new_grid(1, len(shown), (1.6 + 4.2 * len(shown), 3.6))
    for axes, metric in zip(panels[0], shown, strict=True):
        _draw(axes, measured[measured["metric"] == metric])
        axes.set_title(f"{metric}: {_PANELS[metric][1]}", fontsize=10)
        axes.set_xlabel(f"share of tokens, {_PANELS[metric][0]}", fontsize=9)
    panels[0, 0].set_ylabel("fall of the target's probability", fontsize=9)
    panels[0, -1].legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.suptitle(f"{frame['model'].iat[0]}: deletion curves, {frame['prompt_id'].nunique()} prompts", fontsize=10)
    return figure


def _draw(axes: Axes, rows: pd.DataFrame) -> None:
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
