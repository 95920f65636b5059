"""Figures of texts cut otherwise: by layer, by scheme and by share of changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from interp.display.plotting import (
    BLUE,
    GREEN,
    GREY,
    LINES,
    PINK,
    RED,
    Canvas,
    dodged,
    figure,
    over_prompts,
    require_one,
    worded,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CONTROLS = {"none": "-", "random_token": ":"}


@figure
def retokenisation(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw by layer how near the states of texts cut otherwise are to texts' own, and what the cut changes after."""
    require_one(frame, "run_id")
    summary = frame.interp.summary()
    left, right = canvas.grid(1, 2, (8.6, 3.4))[0]
    schemes = [one for one in summary["scheme"].unique() if one != "canonical"]
    for place, (scheme, colour) in enumerate(zip(schemes, LINES, strict=False)):
        for control, line in _CONTROLS.items():
            rows = summary[(summary["scheme"] == scheme) & (summary["control"] == control)]
            left.plot(
                rows["layer"],
                rows["cosine_last"],
                line,
                color=colour,
                label=worded(scheme) if control == "none" else "",
            )
            left.fill_between(
                rows["layer"], rows["cosine_last_low"], rows["cosine_last_high"], color=colour, alpha=0.1, linewidth=0
            )
            _mark(right, place, rows.iloc[-1], "kl", colour, filled=control == "none")
    left.set_xlabel("layer")
    left.set_ylabel("cosine with the prompt's own last state")
    left.legend(frameon=False, fontsize=8)
    right.set_xticks(range(len(schemes)), [worded(one) for one in schemes], fontsize=8)
    right.set_ylabel("KL of the next token (nats)")
    right.set_ylim(bottom=0)
    canvas.title("the same text in other tokens")
    canvas.caption(over_prompts(summary, "kl", "bands and bars"), "dotted, open: random tokens there")


def _mark(axes: Axes, place: float, row: pd.Series, value: str, colour: str, *, filled: bool) -> None:
    """Draw a mean and its interval; open for a control."""
    at = place - 0.08 if filled else place + 0.08
    dodged(axes, [at], row.to_frame().T, value, fmt="o", color=colour, mfc=colour if filled else "white", capsize=3)


@figure
def word_states(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw by layer how often a split word is nearer to itself than to other words, and both cosines."""
    require_one(frame, "run_id")
    summary = frame.interp.summary()
    left, right = canvas.grid(1, 2, (8.6, 3.4))[0]
    for scheme, colour in zip(summary["scheme"].unique(), LINES, strict=False):
        rows = summary[summary["scheme"] == scheme]
        left.plot(rows["layer"], rows["auroc"], color=colour, label=worded(scheme))
        left.fill_between(rows["layer"], rows["auroc_low"], rows["auroc_high"], color=colour, alpha=0.15, linewidth=0)
        right.plot(rows["layer"], rows["cosine"], color=colour, label=f"{worded(scheme)}: itself")
        right.plot(rows["layer"], rows["cosine_between"], ":", color=colour, label="other words")
    left.axhline(0.5, color=GREY, linewidth=0.8)
    left.set_ylabel("share of other words that are farther")
    right.set_ylabel("cosine of states at the word's end")
    for axes in (left, right):
        axes.set_xlabel("layer")
        axes.legend(frameon=False, fontsize=8)
    canvas.title("when a split word is the word again")
    canvas.caption("bands: 95 % bootstrap over words; cosines without one, to be legible")


@figure
def perturbation(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw what changes in the first half of a text cost its clean second half."""
    require_one(frame, "run_id")
    summary = frame.interp.summary()
    axes = canvas.one((6.0, 3.4))
    for scheme, colour in zip(summary["scheme"].unique(), LINES, strict=False):
        for control, line in _CONTROLS.items():
            rows = summary[(summary["scheme"] == scheme) & (summary["control"] == control)].sort_values("p")
            label = worded(scheme) if control == "none" else f"random tokens for {worded(scheme)}"
            axes.plot(rows["p"], rows["lost"], line, marker="o", markersize=4, color=colour, label=label)
            axes.fill_between(rows["p"], rows["lost_low"], rows["lost_high"], color=colour, alpha=0.1, linewidth=0)
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set_xlabel("share of letters, or groups of them, that were changed")
    axes.set_ylabel("loss of the clean half (nats per byte more)")
    axes.legend(frameon=False, fontsize=8)
    canvas.title("what changes in the first half of a text cost the second")
    canvas.caption(over_prompts(summary, "lost"))


@figure
def written_tokens(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw how many samples the tokenizer would write in the same tokens, and how the others differ first."""
    require_one(frame, "run_id")
    axes = canvas.one((5.0, 3.0))
    kinds = [("none", BLUE), ("split", RED), ("merge", GREEN), ("n→m", PINK)]
    counts = frame["kind"].value_counts()
    shares = [counts.get(kind, 0) / len(frame) for kind, _ in kinds]
    bars = axes.bar(range(len(kinds)), shares, color=[colour for _, colour in kinds])
    axes.bar_label(bars, [f"{share:.1%}" for share in shares], fontsize=8)
    axes.set_xticks(range(len(kinds)), ["as the tokenizer", "split", "merged", "n→m"])
    axes.set_ylabel("share of samples")
    axes.set_ylim(0, 1.1)
    canvas.title("tokens that the model writes, and those of its tokenizer")
    canvas.caption(f"{len(frame)} samples, by their first difference: shares of all of them, no interval")


@figure
def compositionality(frame: pd.DataFrame, canvas: Canvas) -> None:
    """Draw how near tokens' rows are to the sums of their parts', beside random parts."""
    require_one(frame, "run_id")
    axes = canvas.one((6.0, 3.4))
    names = {"none": "its parts", "same_first": "the first is its part", "random_parts": "random parts"}
    for (control, name), colour in zip(names.items(), (BLUE, GREEN, GREY), strict=True):
        values = frame[frame["control"] == control]["cosine"]
        axes.hist(
            values,
            bins=[n / 25 for n in range(-25, 26)],
            histtype="step",
            color=colour,
            label=f"{name}: {values.mean():.3f}",
        )
    axes.set_xlabel("cosine with the sum of two rows, without the mean row")
    axes.set_ylabel("tokens")
    axes.legend(frameon=False, fontsize=8, title="mean", title_fontsize=8)
    n = (frame["control"] == "none").sum()
    canvas.title("tokens that two others spell")
    canvas.caption(f"all {n:,} such tokens, not a sample: no interval")
