"""Figures of what subnetworks do: surprisals beside controls, rotation of the residuals, similarity of layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from interp.display.plotting import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    LINES,
    PINK,
    RED,
    SKY,
    YELLOW,
    Canvas,
    dodged,
    figure,
    layer_axis,
    over_prompts,
    require_one,
    worded,
)
from probes.subnetworks.plots import of_lambda, one_subnetwork

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CONTROLS = {
    "random": (YELLOW, "s"),
    "random_structured": (PINK, "D"),
    "empty": (GREY, "x"),
    "linear_map": (GREEN, "^"),
    "unigram": (SKY, "v"),
}
_NAMES = {
    "random": "random weights",
    "random_structured": "random rows",
    "empty": "no weights",
    "linear_map": "a linear map",
    "unigram": "unigrams",
}
_OTHERS = (RED, "#8C564B")  # masks found in untrained models, by any name; black is the full model


@figure
def subnetwork_surprisal(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw the correlation with the bigram model (left) and the mean surprisal (right) by share of weights kept.

    On the right are the models with and without these weights. Horizontal lines are the full model and, dotted,
    controls that keep no weights. Intervals are 95 % over prompts.
    """
    require_one(frame, "run_id")
    left, right = canvas.grid(1, 2, (9.6, 5.0))[0]
    summary = frame.interp.summary()
    _correlations(left, summary)
    _ablations(right, summary)
    canvas.title("does the subnetwork predict as bigrams do?")
    canvas.caption(
        over_prompts(summary, "surprisal", "bars"),
        "points of one share stand side by side; on the right, hollow: only these weights, full: all but these",
    )


def _legend_below(axes: Axes) -> None:
    """Put the legend below the axes, where no line crosses it."""
    axes.legend(frameon=False, fontsize=7.5, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.14))


def _correlations(axes: Axes, summary: pd.DataFrame) -> None:
    alone = summary[summary["condition"] == "only"]
    controls = [(name, rows) for name, rows in alone.groupby("control", sort=False) if name != "none"]
    with_weights = [(str(name), rows) for name, rows in controls if (rows["kept"] > 0).any()]
    n = 1 + len(with_weights)
    _points(axes, alone[alone["control"] == "none"], "r", "subnetwork", BLUE, "o", "-", (0, n))
    for number, (control, rows) in enumerate(with_weights, start=1):
        colour, mark = _look(control, alone)
        _points(axes, rows, "r", _label(control), colour, mark, "--", (number, n))
    for control, rows in controls:
        if not (rows["kept"] > 0).any():
            colour, _ = _look(str(control), alone)
            axes.axhline(rows["r"].iat[0], color=colour, linestyle=":", linewidth=1.5, label=_label(str(control)))
    full = summary[summary["condition"] == "full"]
    axes.axhline(full["r"].iat[0], color=BLACK, linewidth=1, label="full model")
    _shares(axes, alone[alone["control"] == "none"]["kept"])
    axes.set_xlabel("weights kept")
    axes.set_ylabel("correlation of surprisals with the bigram model's")
    axes.grid(alpha=0.25)
    _legend_below(axes)


def _ablations(axes: Axes, summary: pd.DataFrame) -> None:
    looks = {"none": (BLUE, "o"), **dict(list(_CONTROLS.items())[:2])}
    places = [(condition, control) for condition in ("minus", "only") for control in looks]
    for number, (condition, control) in enumerate(places):
        one = summary[(summary["condition"] == condition) & (summary["control"] == control)].copy()
        # Both are drawn by the subnetwork's share of weights.
        one["kept"] = 1 - one["kept"] if condition == "minus" else one["kept"]
        which = "subnetwork" if control == "none" else _label(control)
        colour, mark = looks[control]
        label, style = ("without", "-") if condition == "minus" else ("only", "--")
        face = colour if condition == "minus" else "none"
        place = number, len(places)
        _points(axes, one, "surprisal", f"{label} {which}", colour, mark, style, place, markerfacecolor=face)
    full = summary[summary["condition"] == "full"]
    axes.axhline(full["surprisal"].iat[0], color=BLACK, linewidth=1, label="full model")
    _shares(axes, summary[(summary["condition"] == "only") & (summary["control"] == "none")]["kept"])
    axes.set_xlabel("weights in the subnetwork")
    axes.set_ylabel("mean surprisal (bits)")
    axes.grid(alpha=0.25)
    _legend_below(axes)


def _shares(axes: Axes, kept: pd.Series) -> None:
    """Make the axis logarithmic, with ticks at the subnetworks."""
    axes.set_xscale("log")
    shown = sorted(kept[kept > 0].unique())
    axes.set_xticks(shown, [f"{100 * share:.3g} %" for share in shown], fontsize=8)
    axes.set_xticks([], minor=True)
    if shown:
        axes.set_xlim(shown[0] / 1.6, shown[-1] * 1.6)


def _points(
    axes: Axes,
    rows: pd.DataFrame,
    value: str,
    label: str,
    colour: str,
    mark: str,
    style: str,
    place: tuple[int, int],
    **look: Any,
) -> None:
    rows = rows.sort_values("kept")
    if rows.empty:
        return
    number, n = place
    aside = 1.06 ** (number - (n - 1) / 2)  # bars of one share would cover each other
    shown: dict[str, Any] = {"color": colour, "marker": mark, "linestyle": style, "markersize": 5, "label": label}
    dodged(axes, rows["kept"] * aside, rows, value, **shown, **look)


def _look(control: str, rows: pd.DataFrame) -> tuple[str, str]:
    if control in _CONTROLS:
        return _CONTROLS[control]
    others = [name for name in dict.fromkeys(rows["control"]) if name not in (*_CONTROLS, "none")]
    return _OTHERS[others.index(control) % len(_OTHERS)], "P"


def _label(control: str) -> str:
    return _NAMES.get(control, worded(control))


@figure
def subnetwork_rotation(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw the median angle of the maps to the embedding (left) and to the last layer (right), by layer."""
    require_one(frame, "run_id")
    panels = canvas.grid(1, 2, (8.4, 3.8), sharey=True)[0]
    titles = {"in": "to the token's embedding", "out": "to the last layer"}
    for axes, (target, title) in zip(panels, titles.items(), strict=True):
        rows = frame[frame["target"] == target]
        for (condition, control, sparsity), one in rows.groupby(["condition", "control", "sparsity"], dropna=False):
            if control == "unrelated" and condition != "full":
                continue
            label = _line_name(condition, control, sparsity)
            colour, style = _line_look(condition, control, rows, sparsity)
            axes.plot(one["layer"], one["angle"], style, color=colour, marker="o", markersize=3.5, label=label)
        axes.set_title(title, fontsize=10)
        layer_axis(axes, rows["layer"])
        axes.grid(alpha=0.25)
    panels[0].set_ylabel("median angle of eigenvalues (degrees)")
    canvas.title("rotation of the residual stream")
    canvas.legend(panels[1])
    canvas.caption("maps fitted to one cloud of tokens: no interval")


def _line_name(condition: str, control: str, sparsity: float) -> str:
    if control == "unrelated":
        return "states paired at random"
    if condition == "full":
        return "full model"
    name = "subnetwork" if control == "none" else "random subnetwork"
    return name if np.isnan(sparsity) else f"{name}, λ = {sparsity:g}"


def _line_look(condition: str, control: str, rows: pd.DataFrame, sparsity: float) -> tuple[str, str]:
    if control == "unrelated":
        return GREY, ":"
    if condition == "full":
        return BLACK, "-"
    known = sorted(rows["sparsity"].dropna().unique())
    colour = LINES[known.index(sparsity) % len(LINES) if sparsity in known else 0]
    return colour, "-" if control == "none" else "--"


@figure
def subnetwork_covariance(frame: pd.DataFrame, canvas: Canvas, *, sparsity: float | None = None) -> None:
    """Draw the similarity of the layers' covariances in the full model, the subnetwork and a random one.

    Args:
        frame: of `subnetwork_covariance`, one run of each model.
        canvas: to draw on.
        sparsity: of the subnetwork to show, if the frame holds several; None takes the largest.
    """
    require_one(frame, "run_id")
    chosen = one_subnetwork(frame[frame["condition"] == "only"], sparsity)
    parts = {"full model": frame[frame["condition"] == "full"]}
    parts |= {
        "subnetwork": chosen[chosen["control"] == "none"],
        "random subnetwork": chosen[chosen["control"] == "random"],
    }
    panels = canvas.grid(1, 3, (9.6, 3.6), sharey=True)[0]
    for axes, (title, rows) in zip(panels, parts.items(), strict=True):
        table = rows.pivot(index="layer", columns="other_layer", values="similarity")
        image = axes.imshow(table.to_numpy(), cmap="viridis", vmin=0, vmax=1, origin="lower")
        axes.set_title(title, fontsize=10)
        layer_axis(axes, range(len(table)))
        axes.set_xlabel("layer")
    panels[0].set_ylabel("layer")
    panels[0].set_yticks(panels[0].get_xticks())
    canvas.title(f"how alike the layers' covariances are{of_lambda(chosen)}")
    canvas.colour_bar(image, "similarity of covariances")
    canvas.caption("covariances of one cloud of tokens: no interval")
