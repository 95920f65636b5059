"""Figures of neurons: value vectors as tokens, kinds, concepts and clusters of neurons."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from interp.display.plotting import (
    BLUE,
    GREY,
    RED,
    Canvas,
    figure,
    layer_axis,
    require_one,
    share_axis,
    token_label,
)

if TYPE_CHECKING:
    pass

_COLOURS = {"none": BLUE, "random": GREY}
_WEIGHTS = "all neurons of the weights, not a sample: no interval"


@figure
def neuron_tokens(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw how far the top token of every neuron stands out, per block, beside random directions of the same norms."""
    require_one(frame, "run_id")
    top = frame[frame["k"] == 0]
    layers = sorted(top["layer"].unique())
    axes = canvas.one((min(9.6, 3.0 + 0.6 * len(layers)), 3.6))
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
    layer_axis(axes, layers, block=True)
    axes.set_ylabel("z-score of the top token")
    canvas.legend(axes)
    canvas.title(f"value vectors in the {frame['basis'].iat[0]} basis")
    canvas.caption("box: quartiles, line: median, whiskers: 5 to 95 % of neurons", _WEIGHTS)


@figure
def neuron_kinds(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw the share of prediction and suppression neurons by block; dotted, that of random directions."""
    axes = canvas.one((7.2, 3.6))
    summary = frame.interp.summary()
    rows, chance = summary[summary["control"] == "none"], summary[summary["control"] != "none"]
    for kind, colour, mark in (("prediction", BLUE, "o"), ("suppression", RED, "s")):
        axes.plot(rows["layer"], rows[f"share_{kind}"], marker=mark, color=colour, label=f"{kind} neurons")
        for share in chance[f"share_{kind}"]:
            axes.axhline(share, color=colour, linestyle=":", linewidth=1)
    most = rows[["share_prediction", "share_suppression"]].to_numpy().max()
    axes.set_ylim(0, None if most else 0.01)
    if not most:
        axes.text(0.5, 0.5, "none in any block", transform=axes.transAxes, ha="center", color="0.4")
    layer_axis(axes, rows["layer"], block=True)
    axes.set_ylabel("share of the block's neurons")
    share_axis(axes)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
    canvas.title("neurons that promote or suppress few tokens")
    canvas.caption(_WEIGHTS, "dotted: random directions" if len(chance) else "")


_MOST_NEURONS = 25


@figure
def concept_scores(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw the scores of the best neurons of a concept, beside the best neurons of sets of random words."""
    require_one(frame, "run_id")
    own, chance = frame[frame["control"] == "none"], frame[frame["control"] != "none"]["score"]
    best = own.head(_MOST_NEURONS)
    axes = canvas.one((8.2, 3.8))
    axes.bar(range(len(best)), best["score"], color=BLUE, label="neurons of the concept")
    axes.set_xticks(
        range(len(best)), [f"{row.layer}:{row.neuron}" for row in best.itertuples()], fontsize=7, rotation=90
    )
    if len(chance):
        middle, high = chance.mean(), chance.quantile(0.95)
        axes.axhspan(chance.quantile(0.05), high, color=GREY, alpha=0.3, linewidth=0, label="random words: 5 to 95 %")
        axes.axhline(middle, color="0.4", linewidth=1, label="random words: mean")
    axes.set_xlabel("neuron (block:number)")
    axes.set_ylabel("mean z-score of the words")
    axes.legend(frameon=False, fontsize=8)
    canvas.title(f"neurons of “{token_label(str(own['concept'].iat[0]), 20)}”")
    canvas.caption(
        _WEIGHTS,
        f"band: the best neurons of {len(chance)} sets of random words" if len(chance) else "",
        f"the best {len(best)} of {len(own)} neurons in the frame" if len(best) < len(own) else "",
    )


_MOST_CLUSTERS = 12


@figure
def value_clusters(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw how alike the tokens of each cluster are, beside shuffled clusters, and in which blocks its neurons are."""
    require_one(frame, "run_id")
    summary = frame.interp.summary()
    shown = summary.sort_values("coherence", ascending=False).head(_MOST_CLUSTERS)
    left, right = canvas.grid(1, 2, (9.6, 1.4 + 0.28 * len(shown)), sharey=True)[0]
    heights = list(range(len(shown)))[::-1]
    left.plot(shown["coherence"], heights, "o", color=BLUE, label="cluster")
    left.plot(shown["coherence_shuffled"], heights, "x", color="0.4", label="control: shuffled")
    names = [" ".join(token_label(one) for one in str(tokens).split()[:4]) for tokens in shown["tokens"]]
    labels = [f"{names[place]} ({n})" for place, n in enumerate(shown["n_neurons"])]
    left.set_yticks(heights, labels, fontsize=7.5)
    left.set_ylim(-0.6, len(shown) - 0.4)
    left.set_xlabel("similarity of its neurons' tokens")
    left.grid(alpha=0.25)
    left.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    own = frame[frame["control"] == "none"]
    layers = sorted(own["layer"].unique())
    shares = pd.crosstab(own["cluster"], own["layer"], normalize="index").reindex(shown["cluster"])
    image = right.imshow(
        shares.to_numpy(), cmap="Blues", vmin=0, aspect="auto", extent=(-0.5, len(layers) - 0.5, -0.5, len(shown) - 0.5)
    )
    layer_axis(right, range(len(layers)), block=True)
    right.set_xticks(right.get_xticks(), [str(layers[int(place)]) for place in right.get_xticks()])
    canvas.title("clusters of value vectors")
    canvas.colour_bar(image, "share of its neurons", [right])
    canvas.caption(
        _WEIGHTS,
        f"the most alike {len(shown)} of {len(summary)} clusters" if len(shown) < len(summary) else "",
        "in brackets: neurons of the cluster",
    )
