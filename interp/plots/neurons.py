"""Figures of value vectors read as tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from interp.plots._style import BLUE, GREY, require_one

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = {"none": BLUE, "random": GREY}


def neuron_tokens(frame: pd.DataFrame) -> Figure:
    """How far the top token of every neuron stands out, per layer, beside random directions of the same norms.

    Args:
        frame: of `neuron_tokens`, one model.
    """
    import matplotlib.pyplot as plt

    require_one(frame, "run_id")
    top = frame[frame["k"] == 0]
    layers = sorted(top["layer"].unique())
    figure, axes = plt.subplots(figsize=(2.5 + 0.6 * len(layers), 3.4), layout="constrained")
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
    plt.close(figure)
    return figure
