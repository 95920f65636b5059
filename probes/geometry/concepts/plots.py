"""Figures of concepts: pairs beside the same words paired anew, angles between concepts, associations by layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from interp.display.plotting import BLUE, GREY, RED, Canvas, dodged, figure, layer_axis, require_one

_CONTROLS = {
    "none": (BLUE, "o", "the pairs (bars: 95 % over pairs)"),
    "shuffled": (RED, "s", "the same words paired anew (bars: 95 % of draws)"),
    "random": (GREY, "^", "random words (bars: 95 % of draws)"),
}
_MOST_PANELS = 4


def _panels(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return the first places and metrics of a frame with a title each, the last place first among layers."""
    layer = frame["layer"].astype("Int64").astype(object).where(frame["layer"].notna(), None)
    names = [
        f"{place if number is None else f'layer {number}'}, {metric}"
        for place, number, metric in zip(frame["where"], layer, frame["metric"], strict=True)
    ]
    frame = frame.assign(panel=names)
    return [(str(name), rows) for name, rows in frame.groupby("panel", sort=False)][:_MOST_PANELS]


@figure
def concept_directions(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw how parallel each concept's pairs are, beside the same words paired anew and random words."""
    require_one(frame, "run_id")
    panels, concepts = _panels(frame), list(dict.fromkeys(frame["concept"]))
    grid = canvas.grid(1, len(panels), (2.2 + 2.6 * len(panels), max(2.8, 0.3 * len(concepts) + 1.5)), sharey=True)
    for axes, (title, rows) in zip(grid[0], panels, strict=True):
        for step, (control, (colour, mark, label)) in enumerate(_CONTROLS.items()):
            one = rows[rows["control"] == control].set_index("concept").reindex(concepts)
            look = {"fmt": mark, "color": colour, "markersize": 4.5, "label": label}
            dodged(axes, np.arange(len(concepts)) + 0.2 * (step - 1), one, "parallel", across=True, **look)
        axes.axvline(0, color="#cccccc", linewidth=0.8, zorder=1)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("mean cosine of\ntwo pairs' differences")
        axes.grid(alpha=0.25)
    grid[0, 0].set_yticks(range(len(concepts)), concepts)
    grid[0, 0].set_ylim(len(concepts) - 0.5, -0.5)
    canvas.title("are a concept's pairs parallel beyond their two groups of words?")
    canvas.legend(grid[0, 0])
    n = frame[["where", "layer", "metric"]].drop_duplicates().shape[0]
    more = f"{len(panels)} of {n} places and metrics" if n > len(panels) else ""
    canvas.caption("95 % intervals", more)


@figure
def concept_angles(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw the angles between concepts that share no word, beside those of random words' differences."""
    require_one(frame, "run_id")
    panels = _panels(frame[frame["shared_words"] == 0])
    grid = canvas.grid(1, len(panels), (2.6 * len(panels) + 1.2, 3.0), sharey=True)
    edges = np.linspace(0, 1, 26)
    for axes, (title, rows) in zip(grid[0], panels, strict=True):
        for control, colour, label in (("none", BLUE, "concepts"), ("random", GREY, "random words")):
            size = rows.loc[rows["control"] == control, "cosine"].abs()
            look = {"histtype": "stepfilled" if control == "none" else "step", "alpha": 0.7, "linewidth": 1.6}
            axes.hist(size, edges, color=colour, label=label, **look)
        axes.axvline(
            rows["expected"].iloc[0], color="black", linewidth=1, linestyle=":", label="expected of unrelated vectors"
        )
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("|cosine| of two concepts")
        axes.grid(alpha=0.25)
    grid[0, 0].set_ylabel("pairs of concepts")
    canvas.title("how far from orthogonal different concepts are")
    canvas.legend(grid[0, 0])
    left_out = frame.loc[(frame["shared_words"] > 0) & (frame["control"] == "none"), ["concept_a", "concept_b"]]
    n = len(left_out.drop_duplicates())
    canvas.caption(f"{n} pairs of concepts that share a word are left out: no interval" if n else "no interval")


@figure
def association(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw the effect by place and layer, beside that of the positive control."""
    require_one(frame, "run_id")
    places = list(dict.fromkeys(frame.loc[frame["layer"].isna(), "where"]))
    has_layers = bool(frame["layer"].notna().any())
    grid = canvas.grid(1, max(1, bool(places) + has_layers), (7.0, 3.4), sharey=True)
    panels = list(grid[0])
    if places:
        axes = panels.pop(0)
        rows = frame[frame["layer"].isna()]
        for step, (control, one) in enumerate(rows.groupby("control", sort=False)):
            one = one.set_index("where").reindex(places)
            dodged(axes, np.arange(len(places)) + 0.15 * step, one, "effect", **_look(str(control)), linestyle="")
        axes.set_xticks(range(len(places)), places)
        axes.set_xlim(-0.6, len(places) - 0.4)
    if has_layers:
        axes = panels.pop(0)
        rows = frame[frame["layer"].notna()]
        for control, one in rows.groupby("control", sort=False):
            one = one.sort_values("layer")
            dodged(axes, one["layer"].astype(int), one, "effect", **_look(str(control)))
        layer_axis(axes, rows["layer"].astype(int))
    for axes in grid[0]:
        axes.axhline(0, color="#cccccc", linewidth=0.8, zorder=1)
        axes.grid(alpha=0.25)
    grid[0, 0].set_ylabel("effect, standard deviations")
    tests = frame.loc[frame["control"] == "none", "test"]
    canvas.title("association: " + (str(tests.iat[0]) if len(tests) else "the positive control alone"))
    canvas.legend(grid[0, -1])
    canvas.caption(
        "bars: 95 % bootstrap over words; where the positive control shows nothing, neither test says anything"
    )


def _look(control: str) -> dict[str, Any]:
    if control == "none":
        return {"color": BLUE, "marker": "o", "markersize": 5, "label": "the test"}
    return {"color": GREY, "marker": "s", "markersize": 4, "label": "positive control: flowers, insects"}
