"""Figures of steering: dose and response beside controls, and a page of it with a slider of doses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from interp.display.interactive import Doses, Page, explorer
from interp.display.plotting import (
    BLACK,
    GREEN,
    GREY,
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
    token_label,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CONDITIONS = {
    "none": (BLACK, "o", "concept neurons"),
    "random": (GREY, "s", "random neurons"),
    "norm_matched": (SKY, "^", "matched neurons"),
    "sign_flip": (RED, "v", "sign flipped"),
    "direction": (GREEN, "D", "mean direction"),
    "random_direction": (YELLOW, "X", "random direction"),
    "mean": (PINK, "P", "own mean"),
    "shuffled": (GREY, "s", "shuffled groups"),
}
_OF_DIRECTIONS = {"none": "the direction", "norm_matched": "difference of two tokens"}
_PUSHES = {"override": "with its coordinate set to α", "add": "added α times", "scale": "with its coordinate times α"}
_MODES = {"override": "set to α", "add": "raised by α", "scale": "multiplied by α"}


@figure
def steer(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw effect against damage, one curve per condition; if layers were read, also the effect layer by layer.

    Up and to the left is better: more of the concept for less change elsewhere. Bars are 95 % bootstraps over
    prompts.
    """
    require_one(frame, "run_id")
    by_alpha = frame.interp.summary(by="alpha")
    n_layers = frame["layer"].nunique()
    grid = canvas.grid(1, 1 + (n_layers > 1), (7.6 + 4.6 * (n_layers > 1), 4.0))
    one = frame.iloc[0]
    left_out = _against_damage(grid[0, 0], by_alpha, one)
    if n_layers > 1:
        _through_layers(grid[0, 1], frame.interp.summary(by="layer"))
    canvas.title(_title(one))
    canvas.legend(grid[0, 0])
    canvas.caption(over_prompts(by_alpha, "delta_log_prob", "bars"), left_out)


def _is_direction(row: pd.Series) -> bool:
    return bool(row["n_neurons"] == 0 and row["layer_group"] != "none")


def _title(row: pd.Series) -> str:
    name, mode = token_label(str(row["concept"]), 20), str(row["mode"])
    if _is_direction(row):
        return f"the direction of “{name}” {_PUSHES.get(mode, mode)}"
    return f"{row['n_neurons']} neurons of “{name}” {_MODES.get(mode, mode)}"


def _label(row: pd.Series, control: str) -> str:
    """Return how a condition is called where neurons, or a direction, are steered."""
    own = _CONDITIONS[control][2]
    return _OF_DIRECTIONS.get(control, own) if _is_direction(row) else own


def _against_damage(axes: Axes, by_alpha: pd.DataFrame, row: pd.Series) -> str:
    """Draw the doses on a logarithmic axis of damage, and return what the caption says about those of none."""
    visible = by_alpha[by_alpha["kl"] > 0]
    for control, (colour, marker, _) in _CONDITIONS.items():
        one = visible[visible["control"] == control].sort_values("alpha")
        if one.empty:
            continue
        # The control "mean" is one condition that stands at every alpha.
        one = one.head(1) if control == "mean" else one
        dodged(
            axes,
            one["kl"],
            one,
            "delta_log_prob",
            color=colour,
            marker=marker,
            markersize=8 if control == "direction" else 5,
            linewidth=2.0 if control == "none" else 1.2,
            label=_label(row, control),
            # The mean direction often lies right on the neurons: hollow, and drawn over them.
            zorder={"none": 3, "direction": 4}.get(control, 2),
            markerfacecolor="none" if control == "direction" else colour,
            linestyle="--" if control == "direction" else "-",
        )
        if control == "none":
            for alpha, x, y in zip(one["alpha"], one["kl"], one["delta_log_prob"], strict=True):
                axes.annotate(
                    f"α={alpha:g}", (x, y), xytext=(-5, 5), ha="right", textcoords="offset points", fontsize=8
                )
    axes.axhline(0, color="#cccccc", linewidth=0.8, zorder=1)
    axes.set_xscale("log")
    axes.set_xlabel("damage: KL(unsteered || steered), nats per token")
    axes.set_ylabel("effect: change of log P(held-out words), nats")
    none = sorted(set(by_alpha["alpha"]) - set(visible["alpha"]))
    return f"without damage, and so not on the axis: α = {', '.join(f'{one:g}' for one in none)}" if none else ""


def _through_layers(axes: Axes, by_layer: pd.DataFrame) -> None:
    from matplotlib import colormaps

    one = by_layer[by_layer["control"] == "none"]
    alphas = sorted(one["alpha"].unique())
    for index, alpha in enumerate(alphas):
        curve = one[one["alpha"] == alpha].sort_values("layer")
        colour = colormaps["viridis"](0.9 * index / max(1, len(alphas) - 1))
        axes.plot(curve["layer"], curve["delta_log_prob"], color=colour, marker="o", markersize=4, label=f"α={alpha:g}")
        if "delta_log_prob_low" in curve:
            band = curve["delta_log_prob_low"], curve["delta_log_prob_high"]
            axes.fill_between(curve["layer"], *band, color=colour, alpha=0.18, linewidth=0)
    axes.axhline(0, color="#cccccc", linewidth=0.8, zorder=1)
    layer_axis(axes, one["layer"])
    axes.set_xlabel("layer read through the lens (the last is the output)")
    axes.set_ylabel("change of log P(held-out words), nats")
    axes.set_title("the measurement, through the layers", fontsize=10)
    axes.legend(frameon=False, fontsize=8)


_MOST_TEXTS = 12


def explore_steering(frame: pd.DataFrame) -> Page:
    """Return a `steer` frame as curves of effect against damage, with a slider that picks the dose."""
    require_one(frame, "run_id")
    by_alpha = frame.interp.summary(by="alpha")
    alphas = sorted(by_alpha["alpha"].unique())
    columns = ["kl", "delta_log_prob", "delta_log_prob_low", "delta_log_prob_high"]
    curves = {}
    one = frame.iloc[0]
    for control in _CONDITIONS:
        rows = by_alpha[by_alpha["control"] == control].set_index("alpha")
        if len(rows):
            points = rows.reindex(alphas)[columns].to_numpy(dtype=float).tolist()
            curves[_label(one, control)] = [None if np.isnan(point[0]) else point for point in points]
    written = frame[(frame["control"] == "none") & frame["text"].notna()].drop_duplicates(["alpha", "prompt_id"])
    n_prompts = written["prompt_id"].nunique()
    texts = [
        [
            f"prompt {row.prompt_id}: {row.text}"
            for row in written[written["alpha"] == alpha].head(_MOST_TEXTS).itertuples()
        ]
        for alpha in alphas
    ]
    what = f"{'the direction' if _is_direction(one) else f'{one.n_neurons} neurons'} of “{one['concept']}”"
    item = Doses(
        what,
        [f"α = {alpha:g}" for alpha in alphas],
        "damage: KL(unsteered || steered), nats per token",
        "effect: change of log P(held-out words), nats",
        curves,
        texts,
    )
    note = "Bars and brackets: 95 % bootstrap over prompts."
    if n_prompts > _MOST_TEXTS:
        note += f" Texts of the first {_MOST_TEXTS} of {n_prompts} prompts."
    return explorer(f"{one['model']}: steering by {what}", [item], note)
