"""Figures of neurons: value vectors read as tokens, kinds of neurons, and steering."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from interp.display.plotting import BLACK, BLUE, GREEN, GREY, PINK, RED, SKY, YELLOW, new_figure, new_grid, require_one

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {"none": BLUE, "random": GREY}


def neuron_tokens(frame: pd.DataFrame) -> Figure:
    """Draw how far the top token of every neuron stands out, per layer, beside random directions of the same norms.

    Args:
        frame: of `neuron_tokens`, one model.
    """
    require_one(frame, "run_id")
    top = frame[frame["k"] == 0]
    layers = sorted(top["layer"].unique())
    figure, axes = new_figure((2.5 + 0.6 * len(layers), 3.4))
    for offset, (control, label) in enumerate({"none": "neurons", "random": "random directions"}.items()):
        values = [top[(top["layer"] == layer) & (top["control"] == control)]["zscore"].to_numpy() for layer in layers]
        if not any(map(len, values)):
            continue
        boxes = axes.boxplot(
            values,
            positions=[layer + 0.36 * (offset - 0.5) for layer in layers],
            widths=0.3,
            whis=(5, 95),
            showfliers=False,
            patch_artist=True,
            manage_ticks=False,
            medianprops={"color": "black"},
        )
        for box in boxes["boxes"]:
            box.set_facecolor(_COLOURS[control])
        boxes["boxes"][0].set_label(label)
    axes.set_xticks(layers, [str(layer) for layer in layers])
    axes.set_xlabel("layer")
    axes.set_ylabel("z-score of the top token\n(box: quartiles, whiskers: 5–95 %)")
    axes.set_title(f"{frame['model'].iat[0]}: value vectors in the {frame['basis'].iat[0]} basis", fontsize=10)
    axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def neuron_kinds(frame: pd.DataFrame) -> Figure:
    """Draw the share of prediction and suppression neurons by block; dotted, that of random directions.

    Args:
        frame: of `neuron_kinds`, one model.
    """
    require_one(frame, "model")
    summary = frame.interp.summary()
    figure, axes = new_figure((6.4, 3.4))
    rows, chance = summary[summary["control"] == "none"], summary[summary["control"] != "none"]
    for kind, colour, mark in (("prediction", BLUE, "o"), ("suppression", RED, "s")):
        axes.plot(rows["layer"], rows[f"share_{kind}"], marker=mark, color=colour, label=f"{kind} neurons")
        for share in chance[f"share_{kind}"]:
            axes.axhline(share, color=colour, linestyle=":", linewidth=1)
    axes.set_xticks(rows["layer"])
    axes.set_xlabel("block")
    axes.set_ylabel("share of the block's neurons")
    axes.set_title(f"{frame['model'].iat[0]}: neurons that promote or suppress few tokens", fontsize=10)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
    return figure


# Okabe-Ito, told apart by marker too.
_STYLES = {
    "none": (BLACK, "o", "concept neurons"),
    "random": (GREY, "s", "random neurons"),
    "norm_matched": (SKY, "^", "matched neurons"),
    "sign_flip": (RED, "v", "sign flipped"),
    "direction": (GREEN, "D", "mean direction"),
    "random_direction": (YELLOW, "X", "random direction"),
    "mean": (PINK, "P", "own mean"),
}


def steer(frame: pd.DataFrame) -> Figure:
    """Draw effect against damage, one curve per condition; if layers were read, also the effect layer by layer.

    Up and to the left is better: more of the concept for less change elsewhere. Bars are 95 % bootstraps over
    prompts.

    Args:
        frame: of `steer`, one run.
    """
    require_one(frame, "run_id")
    by_alpha = frame.interp.summary(by="alpha")
    n_layers = frame["layer"].nunique()
    figure, grid = new_grid(1, 1 + (n_layers > 1), (5.8 + 4.6 * (n_layers > 1), 4.0))
    _against_damage(grid[0, 0], by_alpha)
    grid[0, 0].legend(frameon=False, fontsize=9)
    one = frame.iloc[0]
    grid[0, 0].set_title(
        f"{one['model']}: {one['n_neurons']} neurons of {one['concept']!r}, {one['mode']}", fontsize=10
    )
    if n_layers > 1:
        _through_layers(grid[0, 1], frame.interp.summary(by="layer"))
    return figure


def _against_damage(axes: Axes, by_alpha: pd.DataFrame) -> None:
    for control, (colour, marker, label) in _STYLES.items():
        one = by_alpha[by_alpha["control"] == control].sort_values("alpha")
        if one.empty:
            continue
        # The control "mean" is one condition that stands at every alpha.
        one = one.head(1) if control == "mean" else one
        bars = [one["delta_log_prob"] - one["delta_log_prob_low"], one["delta_log_prob_high"] - one["delta_log_prob"]]
        axes.errorbar(
            one["kl"],
            one["delta_log_prob"],
            yerr=None if one["delta_log_prob_low"].isna().any() else bars,
            color=colour,
            marker=marker,
            markersize=8 if control == "direction" else 5,
            linewidth=2.0 if control == "none" else 1.2,
            capsize=2,
            label=label,
            # The mean direction often lies right on the neurons: hollow, and drawn over them.
            zorder={"none": 3, "direction": 4}.get(control, 2),
            markerfacecolor="none" if control == "direction" else colour,
            linestyle="--" if control == "direction" else "-",
        )
        if control == "none":
            # The small doses lie close together: their labels would cover one another.
            labelled = one[one["kl"] > 0.02 * by_alpha["kl"].max()]
            for alpha, x, y in zip(labelled["alpha"], labelled["kl"], labelled["delta_log_prob"], strict=True):
                axes.annotate(
                    f"α={alpha:g}", (x, y), xytext=(-4, 6), ha="right", textcoords="offset points", fontsize=8
                )
    axes.axhline(0, color="#cccccc", linewidth=0.8, zorder=1)
    axes.set_xlabel("damage: KL(unsteered || steered), nats per token")
    axes.set_ylabel("effect: change of log P(held-out words), nats")


def _through_layers(axes: Axes, by_layer: pd.DataFrame) -> None:
    from matplotlib import colormaps

    one = by_layer[by_layer["control"] == "none"]
    alphas = sorted(one["alpha"].unique())
    for index, alpha in enumerate(alphas):
        curve = one[one["alpha"] == alpha].sort_values("layer")
        colour = colormaps["viridis"](0.9 * index / max(1, len(alphas) - 1))
        axes.plot(curve["layer"], curve["delta_log_prob"], color=colour, marker="o", markersize=4, label=f"α={alpha:g}")
    axes.axhline(0, color="#cccccc", linewidth=0.8, zorder=1)
    axes.set_xticks(sorted(one["layer"].unique()))
    axes.set_xlabel("layer read through the lens (the last is the output)")
    axes.set_ylabel("change of log P(held-out words), nats")
    axes.set_title("concept neurons, through the layers", fontsize=10)
    axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
