"""Figures of the law of next-token prediction and of the microscope, each with its controls."""

from __future__ import annotations

import numpy as np
import pandas as pd

from interp.display.plotting import (
    BLUE,
    GREEN,
    MARKS,
    PINK,
    RED,
    Canvas,
    curve,
    figure,
    layer_axis,
    over_prompts,
    require_one,
)

_LAW_STYLES = {
    ("next", "in_sample", "none"): (BLUE, "o", "-", "next token's id, as published"),
    ("next", "held_out", "none"): (BLUE, "o", ":", "the same on held-out prompts"),
    ("unembedding", "in_sample", "none"): (GREEN, "s", "-", "next token's unembedding"),
    ("unembedding", "held_out", "none"): (GREEN, "s", ":", "the same on held-out prompts"),
    ("next", "in_sample", "shuffled_vocabulary"): (RED, "^", "--", "control: ids shuffled"),
    ("next", "in_sample", "shuffled_tokens"): ("0.45", "x", "--", "control: tokens shuffled"),
}


@figure
def next_token_law(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw the log10 prediction residual by layer, with a line fitted on layers 1..L.

    Bands are the range over the draws of the shuffled controls.
    """
    require_one(frame, "run_id")
    axes = canvas.one((7.2, 4.2))
    fits = frame.interp.summary().query("layers == '1..L'").set_index(["response", "sample", "control"])
    curves = dict(list(frame.groupby(["response", "sample", "control"])))
    for key, (colour, mark, line, label) in _LAW_STYLES.items():
        over_draws = curves[key].groupby("layer")["log10_residual"].agg(["mean", "min", "max"])
        if key == ("next", "in_sample", "none"):
            points, fit = over_draws["mean"].loc[1:], fits.loc[key]
            layers = np.array([points.index.min(), points.index.max()])
            heights = points.mean() + fit["slope"] * (layers - points.index.to_numpy().mean())
            axes.plot(layers, heights, color="black", linewidth=1, label="line through layers 1..L")
            label += f"\n(r = {fit['pearson_r']:.3f}, {fit['slope']:.4f} per layer)"
        axes.plot(over_draws.index, over_draws["mean"], line, marker=mark, color=colour, label=label, markersize=5)
        axes.fill_between(over_draws.index, over_draws["min"], over_draws["max"], color=colour, alpha=0.18, linewidth=0)
    layer_axis(axes, frame["layer"])
    axes.set_ylabel("prediction residual (log10 of share left)")
    axes.grid(alpha=0.25)
    canvas.title("how well each layer predicts the next token by a line")
    canvas.legend(axes)
    shuffled = frame[frame["control"] == "shuffled_vocabulary"]
    canvas.caption(
        f"one cloud of {int(frame['n_tokens'].max()):,} tokens: no interval",
        f"bands of the shuffled controls: range over {shuffled['draw'].nunique()} draws",
    )


_MICROSCOPE_STYLES = {
    "none": (BLUE, "o", "-", "all, as published"),
    "without_first": (RED, "s", "-", "without first positions"),
    "without_massive": (GREEN, "^", "--", "without massive dimensions"),
    "without_both": (PINK, "D", "--", "without both"),
    "standardised": ("0.35", "x", ":", "without first, dimensions standardised"),
}
_PANELS = {
    "linearity": "linearity of the step\nto the next layer (0..1)",
    "linearity_centred": "linearity of the update\n(0..1)",
    "anisotropy": "variance in the largest\ndirection (share)",
    "intrinsic_dimension": "intrinsic dimension\n(TwoNN)",
}
_COINCIDE = 0.03  # of a panel's height: lines closer than this in every panel cannot be told apart by eye


@figure
def microscope(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw four panels by layer, a line per control; controls that coincide share a line, which says so."""
    require_one(frame, "run_id")
    grid = canvas.grid(2, 2, (8.0, 5.2), sharex=True)
    lines = _apart(frame)
    for axes, (column, label) in zip(grid.flat, _PANELS.items(), strict=True):
        for control, same in lines.items():
            colour, mark, style, name = _MICROSCOPE_STYLES[control]
            rows = frame[frame["control"] == control]
            name = "\n".join([name, *(f"  = {_MICROSCOPE_STYLES[other][3]}" for other in same)])
            curve(axes, rows, "layer", column, label=name, colour=colour, mark=mark, style=style)
        axes.set_ylabel(label, fontsize=9)
        layer_axis(axes, frame["layer"])
        axes.grid(alpha=0.25)
    null = frame[frame["control"] == "none"].sort_values("layer")
    grid[0, 0].plot(null["layer"], null["linearity_null"], color="black", linewidth=1, label="states shuffled")
    for axes in grid[0]:
        axes.set_xlabel("")
    canvas.title("shape of the residual stream by layer")
    canvas.legend(grid[0, 0])
    canvas.caption(
        f"one cloud of {int(frame['n_tokens'].max()):,} tokens: no interval; `microscope_tokens` has one over prompts",
        "“=”: lines that coincide within 3 % of every panel are drawn once" if any(lines.values()) else "",
    )


def _apart(frame: pd.DataFrame) -> dict[str, list[str]]:
    """Return the controls to draw, each with those whose lines would lie on it."""
    tables = {column: frame.pivot(index="layer", columns="control", values=column) for column in _PANELS}
    known = [control for control in _MICROSCOPE_STYLES if control in set(frame["control"])]
    drawn: dict[str, list[str]] = {}
    for control in known:
        for other in drawn:
            if all(
                _close(table[control], table[other], np.nanmax(table) - np.nanmin(table)) for table in tables.values()
            ):
                drawn[other].append(control)
                break
        else:
            drawn[control] = []
    return drawn


def _close(one: pd.Series, other: pd.Series, height: float) -> bool:
    both = (one - other).abs().dropna()
    return bool(len(both) and both.max() <= _COINCIDE * height)


_STEPS = {
    "nonlinearity": "the linear map's output",
    "update": "the state before (nothing changes)",
    "size": "the mean state",
}


@figure
def microscope_tokens(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw by step between layers how far a token's next state lies from a linear map's output, and from less."""
    axes = canvas.one((6.6, 3.8))
    summary = frame.interp.summary()
    for (name, label), colour, mark in zip(_STEPS.items(), (BLUE, RED, "0.45"), MARKS, strict=False):
        curve(axes, summary, "layer", name, label=f"from {label}", colour=colour, mark=mark)
    layer_axis(axes, summary["layer"])
    axes.set_xlabel("step from this layer to the next")
    axes.set_ylabel("distance of the next state\n(1: root mean square from the mean)", fontsize=9)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    canvas.title("how linear the step of a token is")
    canvas.legend(axes)
    canvas.caption(over_prompts(summary, "nonlinearity"), "means over tokens; position 0 is left out")
