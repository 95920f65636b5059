"""Figures of subnetworks: places of their weights, and those that two of them share."""

from __future__ import annotations

import numpy as np
import pandas as pd

from interp.authoring import InputError
from interp.display.plotting import BLUE, GREEN, RED, Canvas, figure, require_one, share_axis


@figure
def kept_weights(frame: pd.DataFrame, canvas: Canvas, *, sparsity: float | None = None) -> None:
    """Draw blocks x components: colours show the kept share of each matrix's weights, the cells hold counts.

    Args:
        frame: of `kept_weights` by component.
        canvas: to draw on.
        sparsity: of the subnetwork to show, if the frame holds several; None takes the largest.
    """
    rows = one_subnetwork(frame, sparsity)
    if rows.duplicated(["layer", "component"]).any():
        raise InputError("the frame holds heads or neurons; draw one made with by='component'.")
    weights_grid(canvas, rows)
    canvas.title(f"{rows['kept_count'].sum():,} weights kept{of_lambda(rows)}")
    canvas.caption("numbers: weights kept; all are counted: no interval")


def weights_grid(canvas: Canvas, rows: pd.DataFrame) -> None:
    """Draw the kept share of every matrix as a colour, and the number of kept weights in it."""
    components = list(dict.fromkeys(rows["component"]))
    share = rows.pivot(index="layer", columns="component", values="kept_fraction")[components]
    counts = rows.pivot(index="layer", columns="component", values="kept_count")[components]
    axes = canvas.one((2.6 + 0.85 * len(components), 1.4 + 0.28 * max(6, len(share))))
    image = axes.imshow(share.to_numpy(), cmap="Blues", vmin=0, aspect="auto", origin="lower")
    top = float(share.to_numpy().max())
    for (row, column), value in np.ndenumerate(counts.to_numpy()):
        dark = share.to_numpy()[row, column] > 0.6 * top
        axes.text(
            column, row, f"{value:,.0f}", ha="center", va="center", fontsize=7, color="white" if dark else "black"
        )
    axes.set_xticks(range(len(components)), components, fontsize=8)
    axes.set_yticks(range(len(share)), share.index, fontsize=8)
    axes.set_ylabel("block")
    bar = canvas.colour_bar(image, "share of the matrix's weights kept")
    share_axis(bar.ax)


def of_lambda(rows: pd.DataFrame) -> str:
    """Return ", λ = ..." for the title, if the rows are of one subnetwork found with one."""
    known = rows["sparsity"].dropna().unique()
    return f", λ = {known[0]:g}" if len(known) == 1 else ""


_MOST_LISTED = 40
_NULLS = {
    "scattered": "chance: weights anywhere",
    "rows": "chance: rows in random order",
    "columns": "chance: columns so",
}


@figure
def subnetwork_overlap(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw by weight matrix how many more weights two subnetworks share than by chance, and by which null."""
    require_one(frame, "run_id")
    rows = one_subnetwork(frame, None)
    rows = rows[(rows["expected"] > 0) & (rows["observed"] > 0)]
    names = rows["component"].where(rows["layer"].isna(), rows["layer"].astype(str) + " " + rows["component"])
    places = list(dict.fromkeys(names.where(rows["layer"].notna(), "all together")))[-_MOST_LISTED:]
    axes = canvas.one((7.2, 1.6 + 0.2 * max(5, len(places))))
    named = names.where(rows["layer"].notna(), "all together")
    looks = {"scattered": (BLUE, "o"), "rows": (RED, "s"), "columns": (GREEN, "^")}
    for null, (colour, mark) in looks.items():
        some = rows[(rows["null"] == null) & named.isin(places)]
        heights = [len(places) - 1 - places.index(name) for name in named[some.index]]
        ends = some["expected"] + 1.96 * some["sd"]
        axes.plot(some["ratio"], heights, mark, color=colour, markersize=4, label=_NULLS[null])
        axes.plot(ends / some["expected"], heights, "|", color=colour, markersize=7)
    axes.axvline(1, color="0.6", linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(range(len(places))[::-1], places, fontsize=7)
    axes.set_xlabel("weights that both keep / expected by chance")
    axes.grid(alpha=0.25)
    n = frame[["layer", "component"]].drop_duplicates().shape[0]
    canvas.title(f"weights that two subnetworks share{of_lambda(rows)}")
    canvas.legend(axes)
    canvas.caption(
        "counts of all weights: no interval; tick: upper end of 95 % of chance",
        f"{n - len(places)} of {n} matrices are left out: nothing shared, or nothing expected"
        if n > len(places)
        else "",
    )


def one_subnetwork(frame: pd.DataFrame, sparsity: float | None) -> pd.DataFrame:
    """Return the rows of one subnetwork, by default that of the largest λ."""
    require_one(frame, "run_id")
    known = sorted(frame["sparsity"].dropna().unique())
    if not known and sparsity is None:
        return frame
    chosen = known[-1] if sparsity is None else sparsity
    if chosen not in known:
        raise InputError(f"the frame has no subnetwork of sparsity {chosen}; choose from {known}.")
    return frame[frame["sparsity"] == chosen]
