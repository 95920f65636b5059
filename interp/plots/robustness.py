"""What is retained when a block goes, by depth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from interp.plots._style import BLUE, GREEN, PINK, RED, SKY, YELLOW, require_one

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = (BLUE, RED, GREEN, PINK, YELLOW, SKY)
_MARKS = ("o", "s", "^", "D", "v", "P")


def robustness(frame: pd.DataFrame) -> Figure:
    """Share of top-1 predictions retained by block, one line per intervention, 95 % bands; the control in grey.

    Args:
        frame: of `layer_robustness`, one model.
    """
    import matplotlib.pyplot as plt

    require_one(frame, "model")
    summary = frame.interp.summary()
    figure, axes = plt.subplots(figsize=(7.2, 4.0), layout="constrained")
    measured = summary[summary["control"] == "none"]
    for index, (name, rows) in enumerate(measured.groupby("intervention", sort=False)):
        _line(axes, rows, str(name), _COLOURS[index % len(_COLOURS)], _MARKS[index % len(_MARKS)], "-")
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
    plt.close(figure)  # a notebook shows the returned figure once, not twice
    return figure


def _line(axes: object, rows: pd.DataFrame, label: str, colour: str, mark: str, style: str) -> None:
    rows = rows.sort_values("layer")
    axes.plot(rows["layer"], rows["top1_agrees"], style, marker=mark, color=colour, label=label, markersize=5)  # type: ignore[attr-defined]
    axes.fill_between(  # type: ignore[attr-defined]
        rows["layer"], rows["top1_agrees_low"], rows["top1_agrees_high"], color=colour, alpha=0.18, linewidth=0
    )
