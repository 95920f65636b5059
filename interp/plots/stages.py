"""Figures of the stages of inference: what changes with depth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from interp.plots._style import BLUE, RED, require_one

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def neuron_kinds(frame: pd.DataFrame) -> Figure:
    """Share of prediction and suppression neurons by block; dotted, that of random directions.

    Args:
        frame: of `neuron_kinds`, one model.
    """
    import matplotlib.pyplot as plt

    require_one(frame, "model")
    summary = frame.interp.summary()
    figure, axes = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
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
    plt.close(figure)  # a notebook shows the returned figure once, not twice
    return figure


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
    """Small multiples by depth, 95 % bands over prompts; dotted, attention that looks at all it can see alike.

    Args:
        frame: of `stages_of_inference`, one model.
    """
    import matplotlib.pyplot as plt

    require_one(frame, "model")
    summary = frame.interp.summary(by="layer")
    present = set(summary["statistic"])
    panels = {title: names for title, names in _PANELS.items() if present & set(names)}
    n_rows = -(-len(panels) // 2)
    figure, grid = plt.subplots(n_rows, 2, figsize=(8, 2.1 * n_rows), layout="constrained", squeeze=False, sharex=True)
    for axes, (title, names) in zip(grid.flat, panels.items(), strict=False):
        for name, colour, mark in zip(names, (BLUE, RED), "os", strict=False):
            rows = summary[summary["statistic"] == name]
            own, chance = rows[rows["control"] == "none"], rows[rows["control"] != "none"]
            axes.plot(own["layer"], own["value"], marker=mark, markersize=4, color=colour, label=name)
            axes.fill_between(own["layer"], own["value_low"], own["value_high"], color=colour, alpha=0.18, linewidth=0)
            if len(chance):
                axes.plot(chance["layer"], chance["value"], ":", color=colour, linewidth=1)
        if names == ("mlp_ratio",) and (own["value"] > 0).all():
            axes.set_yscale("log")  # what enters block 0 is the embedding alone, which can be tiny
        if title == "neurons (share)":
            axes.set_ylim(bottom=0)  # also where there are none
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
    plt.close(figure)
    return figure


def subjoiner_heads(frame: pd.DataFrame) -> Figure:
    """Blocks x heads, the score as the colour: blue attends within words beyond what distance explains.

    Args:
        frame: of `subjoiner_heads`, one model.
    """
    import matplotlib.pyplot as plt

    require_one(frame, "model")
    scores = frame.pivot(index="layer", columns="head", values="score")
    limit = float(scores.abs().to_numpy().max())
    size = (2.4 + 0.4 * scores.shape[1], 1.4 + 0.36 * scores.shape[0])
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    image = axes.imshow(scores.to_numpy(), cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto", origin="lower")
    axes.set_xticks(range(scores.shape[1]), scores.columns, fontsize=8)
    axes.set_yticks(range(scores.shape[0]), scores.index, fontsize=8)
    axes.set_xlabel("head")
    axes.set_ylabel("block")
    axes.set_title(f"{frame['model'].iat[0]}: subjoiner heads, {frame['n_pairs'].iat[0]} pairs", fontsize=10)
    figure.colorbar(image, ax=axes, label="attention within words - across (share)")
    plt.close(figure)
    return figure
