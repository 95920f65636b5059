"""Figures by depth: predictions retained without a block or in another order, and the stages of inference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from interp.display.plotting import (
    BLUE,
    GREEN,
    GREY,
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
    worded,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@figure
def robustness(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw the share of top-1 predictions retained by block, a line per intervention, the control in grey."""
    axes = canvas.one((7.2, 4.0))
    summary = frame.interp.summary()
    measured = summary[summary["control"] == "none"]
    for index, (name, rows) in enumerate(measured.groupby("intervention", sort=False)):
        colour, mark = LINES[index % len(LINES)], MARKS[index % len(MARKS)]
        curve(axes, rows, "layer", "top1_agrees", label=worded(str(name)), colour=colour, mark=mark)
    for name, rows in summary[summary["control"] != "none"].groupby("control", sort=False):
        label = f"control: {worded(str(name))}"
        curve(axes, rows, "layer", "top1_agrees", label=label, colour="0.45", mark="x", style="--")
    axes.set_ylim(-0.02, 1.02)
    layer_axis(axes, summary["layer"], block=True)
    axes.set_xlabel("block (the first of two where they are swapped)")
    axes.set_ylabel("top-1 predictions retained")
    share_axis(axes)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
    canvas.title("predictions that survive without a block")
    canvas.caption(over_prompts(summary, "top1_agrees"))


_OUTCOMES = {"top1_agrees": "top-1 predictions retained", "kl": "KL(intact || here), nats"}


@figure
def run_schedules(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw for every order of blocks the share of top-1 predictions it retains, and the divergence from the model."""
    summary = frame.interp.summary()
    grid = canvas.grid(1, 2, (8.6, 1.2 + 0.34 * len(summary)), sharey=True)
    heights = list(range(len(summary)))[::-1]
    for axes, (value, label) in zip(grid[0], _OUTCOMES.items(), strict=True):
        dodged(axes, heights, summary, value, across=True, fmt="o", color=BLUE)
        axes.set_xlabel(label, fontsize=9)
        axes.grid(alpha=0.25)
        axes.set_xlim(left=0)
    share_axis(grid[0, 0], across=True)
    grid[0, 0].set_xlim(-0.02, 1.02)
    grid[0, 0].set_yticks(heights, summary["schedule"], fontsize=9)
    grid[0, 0].set_ylim(-0.6, len(summary) - 0.4)
    canvas.title("blocks in other orders")
    canvas.caption(over_prompts(summary, "kl", "bars"))


_PANELS = {
    "attention": {"prev5_mass": "to the previous 5 tokens", "first_mass": "to the first token"},
    "attention per entry": {"prev5_entry": "the previous 5 tokens"},
    "lens (nats)": {"entropy": "entropy", "kl_to_final": "KL from the output"},
    "lens: same argmax\nas the output": {"agrees_final": "same argmax"},
    "norm of what\nthe MLP adds": {"mlp_norm": "norm"},
    "the same / norm\nof the residual": {"mlp_ratio": "ratio"},
    "share of neurons": {"share_prediction": "prediction", "share_suppression": "suppression"},
    "similarity to the\nnext layer (CKA)": {"cka_next": "CKA"},
}
_STAGES = {1: GREEN, 2: GREY, 3: YELLOW, 4: PINK}


@figure
def stages(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw which blocks show which stage, then a panel by depth per group of statistics; dotted: uniform attention.

    Behind every panel are the blocks of the stages that the model shows, in their colours.
    """
    require_one(frame, "run_id")
    verdicts, summary = frame.interp.summary(), frame.interp.summary(by="layer")
    kinds = summary[summary["statistic"].str.startswith("share_") & (summary["value"] > 0)]
    measured = set(summary["statistic"])
    empty = [title for title, names in _PANELS.items() if "share_prediction" in names and kinds.empty]
    panels = {title: names for title, names in _PANELS.items() if measured & set(names) and title not in empty}
    n_rows = -(-(1 + len(panels)) // 2)
    grid = canvas.grid(n_rows, 2, (8.6, 1.75 * n_rows))
    n_blocks = int(summary.loc[summary["at"] == "block", "layer"].max()) + 1
    _draw_stages(grid.flat[0], verdicts, n_blocks)
    for axes, (title, names) in zip(grid.flat[1:], panels.items(), strict=False):
        _draw_statistics(axes, summary, names)
        _shade(axes, verdicts)
        axes.set_ylabel(title, fontsize=8)
        axes.set_xlim(-0.5, n_blocks + 0.5)
    for axes in grid.flat[1 + len(panels) :]:
        axes.set_visible(False)
    shown = verdicts[verdicts["shown"]]
    canvas.title(f"{len(shown)} of {len(verdicts)} stages of inference shown")
    canvas.caption(
        over_prompts(summary, "value") + "; statistics of weights and CKA are single numbers, without one",
        "shaded: blocks of the stages that are shown" if len(shown) else "no stage is shown, so no block is shaded",
        "dotted: attention spread evenly" if (summary["control"] != "none").any() else "",
        "no prediction or suppression neurons in any block" if empty and "share_prediction" in measured else "",
    )


def _draw_stages(axes: Axes, verdicts: pd.DataFrame, n_blocks: int) -> None:
    heights = range(len(verdicts))[::-1]
    for height, row in zip(heights, verdicts.itertuples(), strict=True):
        if pd.isna(row.first_block):
            axes.text(n_blocks / 2, height, "not shown", va="center", ha="center", fontsize=8, color="0.4")
            continue
        first, last = int(row.first_block), int(row.last_block)
        look: dict[str, Any] = {"color": _STAGES[row.stage]} if row.shown else {"fill": False, "linestyle": "--"}
        axes.barh(height, last - first + 1, 0.7, left=first - 0.5, **look)
        blocks = f"block {first}" if first == last else f"blocks {first} to {last}"
        text = blocks if row.shown else f"{blocks}: placed, not shown"
        left = (first + last) / 2 < n_blocks / 2
        axes.text(
            last + 0.6 if left else first - 0.6, height, text, va="center", ha="left" if left else "right", fontsize=8
        )
    axes.set_yticks(
        heights, [f"{stage} {name}" for stage, name in zip(verdicts["stage"], verdicts["name"], strict=True)]
    )
    axes.tick_params(axis="y", labelsize=8, length=0)
    axes.set_ylim(-0.6, len(verdicts) - 0.4)
    axes.set_xlim(-0.5, n_blocks + 0.5)
    layer_axis(axes, range(n_blocks), block=True)
    axes.set_ylabel("stage", fontsize=8)


def _draw_statistics(axes: Axes, summary: pd.DataFrame, names: dict[str, str]) -> None:
    for (name, label), colour, mark in zip(names.items(), (BLUE, RED), MARKS, strict=False):
        rows = summary[summary["statistic"] == name]
        own, chance = rows[rows["control"] == "none"], rows[rows["control"] != "none"]
        if rows.empty:
            continue
        curve(axes, own, "layer", "value", label=label, colour=colour, mark=mark)
        if len(chance):
            axes.plot(chance["layer"], chance["value"], ":", color=colour, linewidth=1)
    if "mlp_ratio" in names and (own["value"] > 0).all():
        axes.set_yscale("log")  # the residual entering block 0 is the embedding alone, which can be tiny
    block = own["at"].iat[0] == "block"
    layer_axis(axes, own["layer"], block=block)
    axes.set_xlabel("block" if block else "layer", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    if len(names) > 1:
        axes.legend(frameon=False, fontsize=7.5)


def _shade(axes: Axes, verdicts: pd.DataFrame) -> None:
    for row in verdicts[verdicts["shown"]].itertuples():
        axes.axvspan(row.first_block - 0.5, row.last_block + 0.5, color=_STAGES[row.stage], alpha=0.15, linewidth=0)
