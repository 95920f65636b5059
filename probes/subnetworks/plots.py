"""Figures of subnetworks: places of their weights, surprisals beside controls, rotation and change of the residuals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from interp.authoring import InputError
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
    new_figure,
    new_grid,
    require_one,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CONTROLS = {
    "random": (YELLOW, "s"),
    "random_structured": (PINK, "D"),
    "empty": (GREY, "x"),
    "linear_map": (GREEN, "^"),
    "unigram": (SKY, "v"),
}
_OTHERS = (RED, BLACK)  # masks found in untrained models, by any name


def kept_weights(frame: pd.DataFrame, *, sparsity: float | None = None) -> Figure:
    """Draw blocks x components: colours show the kept share of each matrix's weights, the cells hold counts.

    Args:
        frame: of `kept_weights` by component, one model.
        sparsity: of the subnetwork to show, if the frame holds several; None takes the largest.
    """
    rows = _one_subnetwork(frame, sparsity)
    components = list(dict.fromkeys(rows["component"]))
    if rows.duplicated(["layer", "component"]).any():
        raise InputError("the frame holds heads or neurons; draw one made with by='component'.")
    share = rows.pivot(index="layer", columns="component", values="kept_fraction")[components]
    counts = rows.pivot(index="layer", columns="component", values="kept_count")[components]
    size = (2.2 + 0.85 * len(components), 1.4 + 0.36 * len(share))
    figure, axes = new_figure(size)
    image = axes.imshow(share.to_numpy(), cmap="Blues", vmin=0, aspect="auto", origin="lower")
    top = float(share.to_numpy().max())
    for (row, column), value in np.ndenumerate(counts.to_numpy()):
        dark = share.to_numpy()[row, column] > 0.6 * top
        axes.text(column, row, f"{value:,}", ha="center", va="center", fontsize=7, color="white" if dark else "black")
    axes.set_xticks(range(len(components)), components, fontsize=8)
    axes.set_yticks(range(len(share)), share.index, fontsize=8)
    axes.set_ylabel("block")
    axes.set_title(f"{frame['model'].iat[0]}: {rows['kept_count'].sum():,} weights kept", fontsize=10)
    figure.colorbar(image, ax=axes, label="share of the matrix's weights kept")
    return figure


def subnetwork_surprisal(frame: pd.DataFrame) -> Figure:
    """Draw the correlation with the bigram model (left) and the mean surprisal (right) by share of weights kept.

    On the right are the models with and without these weights. Horizontal lines are the full model and, dotted,
    controls that keep no weights. Intervals are 95 % over prompts.

    Args:
        frame: of `subnetwork_surprisal`, one run.
    """
    require_one(frame, "model", "run_id")
    summary = frame.interp.summary()
    figure, grid = new_grid(1, 2, (9.6, 4.8))
    left, right = grid[0]
    _correlations(left, summary)
    _ablations(right, summary)
    n_prompts = int(summary["n_prompts"].max())
    figure.suptitle(f"{frame['model'].iat[0]}: {n_prompts} prompts, 95 % over prompts", fontsize=10)
    return figure


def _legend_below(axes: Axes) -> None:
    """Put the legend below the axes, where no line crosses it."""
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.13))


def _correlations(axes: Axes, summary: pd.DataFrame) -> None:
    alone = summary[summary["condition"] == "only"]
    _points(axes, alone[alone["control"] == "none"], "r", "subnetwork", BLUE, "o", "-")
    for control, rows in alone[alone["control"] != "none"].groupby("control", sort=False):
        colour, mark = _look(str(control), alone)
        name = _label(str(control))
        if (rows["kept"] > 0).any():
            _points(axes, rows, "r", name, colour, mark, "--")
        else:
            axes.axhline(rows["r"].iat[0], color=colour, linestyle=":", linewidth=1.5, label=name)
    full = summary[summary["condition"] == "full"]
    axes.axhline(full["r"].iat[0], color=BLACK, linewidth=1, label="full model")
    _shares(axes, alone[alone["control"] == "none"]["kept"])
    axes.set_xlabel("share of weights kept")
    axes.set_ylabel("correlation of surprisals with the bigram model's")
    axes.grid(alpha=0.25)
    _legend_below(axes)


def _ablations(axes: Axes, summary: pd.DataFrame) -> None:
    for condition, style in (("minus", "-"), ("only", "--")):
        rows = summary[(summary["condition"] == condition)]
        for control, colour, mark in (("none", BLUE, "o"), *((name, *_CONTROLS[name]) for name in list(_CONTROLS)[:2])):
            one = rows[rows["control"] == control].copy()
            # Both are drawn by the subnetwork's share of weights.
            one["kept"] = 1 - one["kept"] if condition == "minus" else one["kept"]
            which = "subnetwork" if control == "none" else _label(control)
            _points(
                axes, one, "surprisal", f"{'without' if condition == 'minus' else 'only'} {which}", colour, mark, style
            )
    full = summary[summary["condition"] == "full"]
    axes.axhline(full["surprisal"].iat[0], color=BLACK, linewidth=1, label="full model")
    _shares(axes, summary[(summary["condition"] == "only") & (summary["control"] == "none")]["kept"])
    axes.set_xlabel("share of weights in the subnetwork")
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


def _points(axes: Axes, rows: pd.DataFrame, value: str, label: str, colour: str, mark: str, style: str) -> None:
    rows = rows.sort_values("kept")
    if rows.empty:
        return
    errors = np.nan_to_num([rows[value] - rows[f"{value}_low"], rows[f"{value}_high"] - rows[value]]).clip(0)
    look: dict[str, Any] = {
        "color": colour,
        "marker": mark,
        "linestyle": style,
        "markersize": 5,
        "linewidth": 1.2,
        "capsize": 2,
    }
    axes.errorbar(rows["kept"], rows[value], yerr=errors, label=label, **look)


def _look(control: str, rows: pd.DataFrame) -> tuple[str, str]:
    if control in _CONTROLS:
        return _CONTROLS[control]
    others = [name for name in dict.fromkeys(rows["control"]) if name not in (*_CONTROLS, "none")]
    return _OTHERS[others.index(control) % len(_OTHERS)], "P"


def _label(control: str) -> str:
    return control.replace("_", " ").replace("random structured", "random rows")


def subnetwork_rotation(frame: pd.DataFrame) -> Figure:
    """Draw the median angle of the maps to the embedding (left) and to the last layer (right), by layer.

    Args:
        frame: of `subnetwork_rotation`, one run.
    """
    require_one(frame, "model", "run_id")
    figure, grid = new_grid(1, 2, (9.0, 3.8), sharey=True)
    panels = grid[0]
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
        axes.set_xlabel("layer")
        axes.set_xticks(sorted(rows["layer"].unique()))
        axes.grid(alpha=0.25)
    panels[0].set_ylabel("median angle of eigenvalues (degrees)")
    panels[1].legend(frameon=False, fontsize=8)
    figure.suptitle(f"{frame['model'].iat[0]}: rotation of the residual stream", fontsize=10)
    return figure


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


def subnetwork_covariance(frame: pd.DataFrame, *, sparsity: float | None = None) -> Figure:
    """Draw the similarity of the layers' covariances in the full model, the subnetwork and a random one.

    Args:
        frame: of `subnetwork_covariance`, one run.
        sparsity: of the subnetwork to show, if the frame holds several; None takes the largest.
    """
    require_one(frame, "model", "run_id")
    chosen = _one_subnetwork(frame[frame["condition"] == "only"], sparsity)
    parts = {"full model": frame[frame["condition"] == "full"]}
    parts |= {
        "subnetwork": chosen[chosen["control"] == "none"],
        "random subnetwork": chosen[chosen["control"] == "random"],
    }
    figure, grid = new_grid(1, 3, (9.6, 3.4), sharey=True)
    panels = grid[0]
    for axes, (title, rows) in zip(panels, parts.items(), strict=True):
        table = rows.pivot(index="layer", columns="other_layer", values="similarity")
        image = axes.imshow(table.to_numpy(), cmap="viridis", vmin=0, vmax=1, origin="lower")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("layer")
        axes.set_xticks(range(len(table)))
    panels[0].set_ylabel("layer")
    panels[0].set_yticks(range(len(table)))
    figure.colorbar(image, ax=panels, label="similarity of covariances")
    figure.suptitle(f"{frame['model'].iat[0]}", fontsize=10)
    return figure


def _one_subnetwork(frame: pd.DataFrame, sparsity: float | None) -> pd.DataFrame:
    require_one(frame, "model", "run_id")
    known = sorted(frame["sparsity"].dropna().unique())
    if not known and sparsity is None:
        return frame
    chosen = known[-1] if sparsity is None else sparsity
    if chosen not in known:
        raise InputError(f"the frame has no subnetwork of sparsity {chosen}; choose from {known}.")
    return frame[frame["sparsity"] == chosen]
