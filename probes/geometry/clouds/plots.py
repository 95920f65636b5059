"""Figures of clouds, each number beside that of a Gaussian cloud of the same covariance."""

from __future__ import annotations

import numpy as np
import pandas as pd

from interp.display.plotting import (
    BLUE,
    GREEN,
    LINES,
    MARKS,
    PINK,
    RED,
    YELLOW,
    Canvas,
    curve,
    dodged,
    figure,
    layer_axis,
    over_prompts,
    require_one,
    share_axis,
)

_NAMES = {
    "none": "measured",
    "gaussian": "Gaussian of the same covariance",
    "columns": "coordinates permuted",
    "directions": "random directions, own norms",
    "shuffled": "tokens shuffled",
    "iid": "random tokens",
    "untrained": "untrained, random tokens",
}
_STYLES = {
    "none": (BLUE, "o"), "gaussian": (RED, "s"), "columns": (GREEN, "^"), "directions": (PINK, "D"),
    "shuffled": (GREEN, "^"), "iid": (GREEN, "^"), "untrained": (PINK, "D"),
}  # fmt: skip
_ISOTROPY = {
    "isoscore": "IsoScore\n(0 one axis, 1 all alike)",
    "participation": "axes of equal variance\n(participation ratio)",
    "mean_cosine": "mean cosine\nof two points",
    "log_partition": "log partition\n(0 even)",
}


@figure
def isotropy(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw four measures of isotropy, one mark per cloud and control, with intervals."""
    require_one(frame, "run_id")
    labels = [
        place if group == "all" and pd.isna(layer) else f"{layer}" if pd.notna(layer) else group
        for place, layer, group in zip(frame["where"], frame["layer"], frame["group"], strict=True)
    ]
    frame = frame.assign(label=labels, cloud=frame["where"] + "/" + pd.Series(labels, index=frame.index))
    clouds = frame.drop_duplicates("cloud")
    grid = canvas.grid(1, len(_ISOTROPY), (3.1 * len(_ISOTROPY), max(2.6, 0.3 * len(clouds) + 1.4)), sharey=True)
    for axes, (metric, label) in zip(grid[0], _ISOTROPY.items(), strict=True):
        rows = frame[frame["metric"] == metric].set_index("cloud").loc[clouds["cloud"]]
        for control, (colour, mark) in _STYLES.items():
            one = rows[rows["control"] == control]
            if one.empty:
                continue
            place = np.arange(len(clouds)) + (0.16 if control != "none" else -0.16)
            one = one.rename(columns={"low": "value_low", "high": "value_high"})
            fill = "full" if control == "none" else "none"
            look = {"fmt": mark, "color": colour, "markersize": 4.5, "fillstyle": fill, "label": _NAMES[control]}
            dodged(axes, place, one, "value", across=True, **look)
        axes.set_xlabel(label)
        axes.grid(alpha=0.25)
    names = [
        f"layer {label}" if where == "residual" else label
        for where, label in zip(clouds["where"], clouds["label"], strict=True)
    ]
    grid[0, 0].set_yticks(range(len(clouds)), names)
    grid[0, 0].set_ylim(len(clouds) - 0.5, -0.5)
    canvas.title("how evenly its vectors fill their space")
    canvas.legend(grid[0, 0])
    canvas.caption("bars: 95 % intervals over parts of the cloud, where a measure has one")


@figure
def local_dimension(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw which share of tokens has a break at every level of its p-value: any break, and an increase."""
    require_one(frame, "run_id")
    grid = canvas.grid(1, 2, (8.0, 3.6), sharey=True)
    levels = np.geomspace(1e-4, 1, 60)
    titles = {"p_break": "any break", "p_increase": "break to a larger dimension"}
    for axes, (column, title) in zip(grid[0], titles.items(), strict=True):
        for control, (colour, _) in _STYLES.items():
            p = frame.loc[frame["control"] == control, column].to_numpy()
            if len(p):
                share = (p[None] <= levels[:, None]).mean(axis=1)
                line = "-" if control == "none" else "--"
                axes.plot(levels, share, line, color=colour, label=_NAMES[control], linewidth=1.6)
        axes.plot(levels, levels, ":", color="black", linewidth=1, label="evenly spread points")
        axes.set_xscale("log")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("level of the test")
        axes.set_ylim(0, 1)
        share_axis(axes)
        axes.grid(alpha=0.25)
    grid[0, 0].set_ylabel("tokens that break")
    canvas.title("how often the dimension around a token breaks")
    canvas.legend(grid[0, 0])
    n, low, high = len(frame[frame["control"] == "none"]), frame["k_low"].iat[0], frame["k_high"].iat[0]
    where = frame["where"].iat[0]
    canvas.caption(f"{n:,} rows of the {where} and of each control, neighbours {low} to {high}: no interval")


@figure
def prompt_geometry(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw dimension and overlap by layer, each beside its controls, and how the dimension goes with the loss."""
    require_one(frame, "run_id")
    summary = frame.interp.summary()
    dimension = summary[summary["metric"] == "dimension"]
    scales = sorted(dimension["scale"].unique())
    scale = scales[min(1, len(scales) - 1)]  # the ratio of the first two distances is noisy
    dimension = dimension[dimension["scale"] == scale]
    overlap = summary[summary["metric"] == "overlap"]
    k = overlap["scale"].max()
    overlap = overlap[overlap["scale"] == k]
    own = dimension[dimension["control"] == "none"]
    correlated = own["r_loss"].notna().any()
    grid = canvas.grid(1, 2 + correlated, (4.1 * (2 + correlated), 3.7))
    panels = (
        (dimension, f"dimension (neighbours {scale} and {2 * scale})"),
        (overlap, f"shared with next layer, k = {k}"),
    )
    for axes, (rows, label) in zip(grid[0], panels, strict=False):
        for control, of in rows.groupby("control", sort=False):
            colour, mark = _STYLES[str(control)]
            style = "-" if control == "none" else "--"
            curve(axes, of, "layer", "value", label=_NAMES[str(control)], colour=colour, mark=mark, style=style)
        axes.set_title(label, fontsize=10)
        axes.set_ylim(bottom=0)
        layer_axis(axes, rows["layer"])
        axes.grid(alpha=0.25)
    share_axis(grid[0, 1])
    if correlated:
        lines = {"r_loss": ("as published", BLUE, "o"), "r_loss_types": ("distinct tokens held fixed", YELLOW, "D")}
        for value, (label, colour, mark) in lines.items():
            curve(grid[0, 2], own, "layer", value, label=label, colour=colour, mark=mark)
        grid[0, 2].axhline(0, color="black", linewidth=0.8)
        grid[0, 2].set_ylim(-1, 1)
        grid[0, 2].set_title("rank correlation of dimension and loss", fontsize=10)
        grid[0, 2].legend(frameon=False, fontsize=8, loc="lower right")
        layer_axis(grid[0, 2], own["layer"])
        grid[0, 2].grid(alpha=0.25)
    canvas.title("the cloud of a prompt's tokens")
    canvas.legend(grid[0, 0])
    canvas.caption(over_prompts(summary, "value"))


@figure
def position_variance(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw the variance by position of the first and the last block, and the slope of every block."""
    require_one(frame, "run_id")
    site = frame["site"].iat[0]
    frame = frame[frame["site"] == site]
    blocks = sorted(frame["layer"].unique())
    shown = list(dict.fromkeys([blocks[0], blocks[-1]]))
    grid = canvas.grid(1, len(shown) + 1, (4.1 * (len(shown) + 1), 3.7))
    for axes, block in zip(grid[0], shown, strict=False):
        for control, rows in frame[(frame["layer"] == block) & (frame["pos"] > 0)].groupby("control", sort=False):
            colour, _ = _STYLES[str(control)]
            rows = rows[(rows["variance"] > 0) & (rows["n_prompts"] > 2)].sort_values("pos")
            axes.plot(rows["pos"] + 1, rows["variance"], color=colour, linewidth=1.3, label=_NAMES[str(control)])
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("position + 1", fontsize=9)
        axes.set_title(f"variance of {site}, block {block}", fontsize=10)
        axes.grid(alpha=0.25)
    axes = grid[0, -1]
    for control, rows in frame.drop_duplicates(["layer", "control"]).groupby("control", sort=False):
        colour, mark = _STYLES[str(control)]
        style = "-" if control == "none" else "--"
        curve(axes, rows, "layer", "slope", label=_NAMES[str(control)], colour=colour, mark=mark, style=style)
    axes.axhline(-1, color="black", linewidth=0.8, linestyle=":")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_title("slope (-1: mean of independent values)", fontsize=10)
    layer_axis(axes, blocks, block=True)
    axes.grid(alpha=0.25)
    canvas.title("what the position does to attention's output")
    canvas.legend(grid[0, 0])
    n = int(frame["n_prompts"].max())
    canvas.caption(f"bands: 95 % intervals of the slope over {n} texts; variances have no interval")


@figure
def length_collapse(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw each metric by layer: a colour per length, the shuffled tokens dashed, the Gaussian cloud dotted."""
    require_one(frame, "run_id")
    titles = {
        "mean_cosine": "mean cosine of two texts", "isoscore": "IsoScore of the cloud of texts",
        "high_frequency": "share beyond a text's mean",
    }  # fmt: skip
    grid = canvas.grid(1, len(titles), (4.1 * len(titles), 3.7))
    styles = {"none": "-", "shuffled": "--", "gaussian": ":"}
    for axes, (metric, title) in zip(grid[0], titles.items(), strict=True):
        for number, (n, rows) in enumerate(frame[frame["metric"] == metric].groupby("n_tokens")):
            for control, of in rows.groupby("control", sort=False):
                name = "" if control == "none" else f", {_NAMES[str(control)]}"
                banded = of.rename(columns={"low": "value_low", "high": "value_high"}) if control == "none" else of
                curve(
                    axes, banded, "layer", "value", label=f"{n} tokens{name}", colour=LINES[number % len(LINES)],
                    mark=MARKS[number % len(MARKS)], style=styles[str(control)],
                )  # fmt: skip
        axes.set_title(title, fontsize=10)
        layer_axis(axes, frame["layer"])
        axes.grid(alpha=0.25)
    canvas.title("the same texts cut to several lengths")
    canvas.legend(grid[0, 0])
    canvas.caption(f"bands: 95 % intervals over {frame['n_prompts'].iat[0]} texts, of the texts as they are")
