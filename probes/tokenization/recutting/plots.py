"""Figures of texts cut otherwise: by layer, by scheme and by share of changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from interp.display.plotting import LINES, new_grid, require_one

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CONTROLS = {"none": "-", "random_token": ":"}


def retokenisation(frame: pd.DataFrame) -> Figure:
    """Draw how near the states of texts cut otherwise are to the texts' own, by layer, and what the cut changes after.

    Args:
        frame: of `retokenisation`, one model.
    """
    require_one(frame, "run_id")
    summary = frame.interp.summary()
    figure, (left, right) = _two_axes()
    schemes = [one for one in summary["scheme"].unique() if one != "canonical"]
    for place, (scheme, colour) in enumerate(zip(schemes, LINES, strict=False)):
        for control, line in _CONTROLS.items():
            rows = summary[(summary["scheme"] == scheme) & (summary["control"] == control)]
            left.plot(rows["layer"], rows["cosine_last"], line, color=colour, label=scheme if control == "none" else "")
            left.fill_between(
                rows["layer"], rows["cosine_last_low"], rows["cosine_last_high"], color=colour, alpha=0.1, linewidth=0
            )
            _mark(right, place, rows.iloc[-1], "kl", colour, filled=control == "none")
    left.set_xlabel("layer")
    left.set_ylabel("cosine with the prompt's own last state")
    left.legend(frameon=False, fontsize=8)
    right.set_xticks(range(len(schemes)), schemes, fontsize=8)
    right.set_ylabel("KL of the next token (nats)")
    right.set_ylim(bottom=0)
    figure.suptitle(
        f"{frame['model'].iat[0]}: the same text in other tokens; dotted, open: random tokens there; 95 % over prompts",
        fontsize=10,
    )
    return figure


def _two_axes() -> tuple[Figure, tuple[Axes, Axes]]:
    figure, grid = new_grid(1, 2, (8.6, 3.4))
    return figure, (grid[0, 0], grid[0, 1])


def _mark(axes: Axes, place: float, row: pd.Series, value: str, colour: str, *, filled: bool) -> None:
    """Draw a mean and its interval; open for a control."""
    at = place - 0.08 if filled else place + 0.08
    spread = [[row[value] - row[f"{value}_low"]], [row[f"{value}_high"] - row[value]]]
    axes.errorbar([at], [row[value]], spread, fmt="o", color=colour, mfc=colour if filled else "white", capsize=3)
