"""Figures of the stages of inference: what changes with depth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from interp.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BLUE, _ORANGE = "#0072B2", "#D55E00"  # Okabe & Ito's, safe for colour-blind eyes


def neuron_kinds(frame: pd.DataFrame) -> Figure:
    """Share of prediction and suppression neurons by block; dotted, that of random directions.

    Args:
        frame: of `neuron_kinds`, one model.
    """
    import matplotlib.pyplot as plt

    _require_one_model(frame)
    summary = frame.interp.summary()
    figure, axes = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
    rows, chance = summary[summary["control"] == "none"], summary[summary["control"] != "none"]
    for kind, colour, mark in (("prediction", _BLUE, "o"), ("suppression", _ORANGE, "s")):
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


def _require_one_model(frame: pd.DataFrame) -> None:
    if frame["model"].nunique() != 1:
        raise InputError(f"the frame holds models {frame['model'].unique().tolist()}; select one to draw.")
