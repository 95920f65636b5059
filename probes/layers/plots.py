"""Figures by depth: predictions retained without a block, and statistics of the stages of inference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from interp.display.plotting import BLUE, LINES, RED, new_figure, new_grid, require_one

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKS = ("o", "s", "^", "D", "v", "P")


def robustness(frame: pd.DataFrame) -> Figure:
    """Draw the share of top-1 predictions retained by block, a line per intervention, 95 % bands, control in grey.

    Args:
        frame: of `layer_robustness`, one model.
    """
    require_one(frame, "model")
    summary = frame.interp.summary()
    figure, axes = new_figure((7.2, 4.0))
    measured = summary[summary["control"] == "none"]
    for index, (name, rows) in enumerate(measured.groupby("intervention", sort=False)):
        _line(axes, rows, str(name), LINES[index % len(LINES)], _MARKS[index % len(_MARKS)], "-")
    for name, rows in summary[summary["control"] != "none"].groupby("control", sort=False):
        _line(axes, rows, f"control: {name}", "0.45", "x", "--")
    axes.set_ylim(-0.02, 1.02)
    axes.set_xticks(sorted(summary["layer"].unique()))
    axes.set_xlabel("block (the first of two where they are swapped)")
    axes.set_ylabel("top-1 predictions retained (share)")
    axes.set_title(
        f"{frame['model'].iat[0]}: {int(summary['n_prompts'].max())} prompts, 95 % over prompts", fontsize=10
    )
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
    return figure


def _line(axes: Axes, rows: pd.DataFrame, label: str, colour: str, mark: str, style: str) -> None:
    rows = rows.sort_values("layer")
    axes.plot(rows["layer"], rows["top1_agrees"], style, marker=mark, color=colour, label=label, markersize=5)
    axes.fill_between(
        rows["layer"], rows["top1_agrees_low"], rows["top1_agrees_high"], color=colour, alpha=0.18, linewidth=0
    )


_PANELS = {
    "attention (share)": ("prev5_mass", "first_mass"),
    "attention entry": ("prev5_entry",),
    "lens (nats)": ("entropy", "kl_to_final"),
    "lens argmax is final": ("agrees_final",),
    "MLP output norm": ("mlp_norm",),
    "MLP norm / residual norm": ("mlp_ratio",),
    "neurons (share)": ("share_prediction", "share_suppression"),
    "CKA with next layer": ("cka_next",),
}


def stages(frame: pd.DataFrame) -> Figure:
    """Draw a panel by depth per group of statistics, 95 % bands over prompts; dotted: uniform attention.

    Args:
        frame: of `stages_of_inference`, one model.
    """
    require_one(frame, "model")
    summary = frame.interp.summary(by="layer")
    present = set(summary["statistic"])
    panels = {title: names for title, names in _PANELS.items() if present & set(names)}
    n_rows = -(-len(panels) // 2)
    figure, grid = new_grid(n_rows, 2, (8, 2.1 * n_rows), sharex=True)
    for axes, (title, names) in zip(grid.flat, panels.items(), strict=False):
        for name, colour, mark in zip(names, (BLUE, RED), "os", strict=False):
            rows = summary[summary["statistic"] == name]
            own, chance = rows[rows["control"] == "none"], rows[rows["control"] != "none"]
            axes.plot(own["layer"], own["value"], marker=mark, markersize=4, color=colour, label=name)
            axes.fill_between(own["layer"], own["value_low"], own["value_high"], color=colour, alpha=0.18, linewidth=0)
            if len(chance):
                axes.plot(chance["layer"], chance["value"], ":", color=colour, linewidth=1)
        if names == ("mlp_ratio",) and (own["value"] > 0).all():
            axes.set_yscale("log")  # the residual entering block 0 is the embedding alone, which can be tiny
        if title == "neurons (share)":
            axes.set_ylim(bottom=0)  # start at 0 even if all shares are equal
        axes.set_ylabel(title, fontsize=9)
        axes.set_xlabel("block" if own["at"].iat[0] == "block" else "residual", fontsize=9)
        axes.tick_params(labelbottom=True)
        axes.grid(alpha=0.25)
        if len(names) > 1:
            axes.legend(frameon=False, fontsize=8)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    n_prompts = int(summary["n_prompts"].max())
    figure.suptitle(f"{frame['model'].iat[0]}: {n_prompts} prompts, 95 % over prompts", fontsize=10)
    return figure
